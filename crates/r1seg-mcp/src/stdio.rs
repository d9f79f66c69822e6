//! The protocol over standard input and output.

use std::time::Duration;

use r1seg::CancelToken;
use rmcp::ServiceExt;
use rmcp::service::ServerInitializeError;

use crate::call::cancelled;
use crate::{Desk, Error, Server};

/// How long the work that goes on may take to notice that it was stopped.
const GRACE: Duration = Duration::from_secs(30);

/// Serves the program at the other end of standard input and output until that closes them. Standard output
/// carries the protocol and nothing else: whoever calls this must not print there.
///
/// # Errors
/// [`Error::Connection`] where no thread can be started or the client does not speak the protocol;
/// `cancelled` once `cancel` says so.
pub fn serve_stdio<D: Desk>(server: Server<D>, cancel: &CancelToken) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Error::Connection { what: e.to_string() })?;
    let desk = server.desk();
    let result = runtime.block_on(async {
        let result = serve(server, cancel).await;
        // What was cancelled ends within a block; half of a result would be left of a process that ends.
        let _ = tokio::time::timeout(GRACE, desk.finish()).await;
        result
    });
    // Reading standard input cannot be interrupted: a thread may wait there until the process ends.
    runtime.shutdown_background();
    result
}

async fn serve<D: Desk>(server: Server<D>, cancel: &CancelToken) -> Result<(), Error> {
    let connect = server.serve(rmcp::transport::stdio());
    let service = tokio::select! {
        service = connect => match service {
            Ok(service) => service,
            // It left before it said anything.
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            // What the client wrote instead may be anything, and is not shown.
            Err(_) => return Err(Error::Connection { what: "it did not send `initialize`".to_string() }),
        },
        () = cancelled(cancel) => return Err(r1seg::Error::Cancelled.into()),
    };
    let stop = service.cancellation_token();
    tokio::select! {
        ended = service.waiting() => {
            ended.map(drop).map_err(|e| Error::Connection { what: e.to_string() })
        }
        () = cancelled(cancel) => {
            stop.cancel();
            Err(r1seg::Error::Cancelled.into())
        }
    }
}
