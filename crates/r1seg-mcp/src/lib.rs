//! The tools of r1seg for agents, over the [Model Context Protocol](https://modelcontextprotocol.io).
//!
//! | tool | what it does |
//! |---|---|
//! | `list_models` | says which models there are, and what each takes and gives back |
//! | `inspect_volume` | looks at a volume before a model reads it |
//! | `ask_volume` | asks questions about a volume; answers in words, and masks |
//! | `segment_volume` | segments what a text, an organ, points, a box or an earlier mask say |
//!
//! [`Server`] speaks the protocol: schemas of arguments and results ([`args`], [`results`]), errors that an
//! agent can act on ([`Failure`]), progress, and cancellation. What the tools do is done by a [`Desk`]:
//! [`LocalDesk`] reads volumes within given folders and writes results below another; a server has one of
//! its own, with volumes and results by their ids.
//!
//! ```
//! use r1seg::ModelSource;
//! use r1seg_mcp::{LocalDesk, LocalOptions, Server};
//! # use rmcp::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (scans, results) = (tempfile::tempdir()?, tempfile::tempdir()?);
//! let options = LocalOptions::new(vec![ModelSource::from("demo").find()?], results.path())
//!     .with_root(scans.path());
//! let server = Server::new(LocalDesk::new(options)?);
//!
//! // `r1seg_mcp::serve_stdio(server, ..)` serves it to the program that started this one. Here is a client
//! // in the same process.
//! let (ours, theirs) = tokio::io::duplex(1 << 16);
//! let served = tokio::spawn(async move {
//!     let service = server.serve(ours).await.map_err(std::io::Error::other)?;
//!     service.waiting().await.map_err(std::io::Error::other)
//! });
//! let client = ().serve(theirs).await?;
//! let tools = client.list_all_tools().await?;
//! assert_eq!(tools.len(), 4);
//! # client.cancel().await?;
//! # served.await??;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here prints, ends the process, or knows what a program calls its options. For research use
//! only: r1seg is not a medical device, and the descriptions of the tools say so.

pub mod args;
mod call;
mod desk;
mod error;
mod failure;
mod http;
mod local;
mod readable;
pub mod results;
mod server;
mod stdio;
mod tools;
mod words;

pub use call::{Call, Progress, Step};
pub use desk::{Desk, Hints};
pub use error::Error;
pub use failure::Failure;
pub use http::{HttpOptions, HttpService, http_service};
pub use local::{LocalDesk, LocalOptions};
pub use server::Server;
pub use stdio::serve_stdio;
pub use words::words;
