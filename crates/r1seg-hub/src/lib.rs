//! Published checkpoints: downloads them into the cache that Python's `huggingface_hub` uses, and
//! finds them there without a network.
//!
//! ```no_run
//! use r1seg_hub::{DownloadOptions, Event, Hub, ModelId};
//!
//! let id: ModelId = "lihao0011/R1Seg-3D-Phi-3-4B".parse()?;
//! let hub = Hub::from_env()?;
//! let snapshot = hub.download(&id, &DownloadOptions::default(), &mut |event| {
//!     if let Event::Progress { name, bytes, .. } = event {
//!         // Draw a bar.
//!     }
//! })?;
//! let folder = hub.resolve(&id)?.path;
//! # Ok::<(), r1seg_hub::Error>(())
//! ```
//!
//! Every file is checked against the SHA-256, or for small files the git hash, that the hub states,
//! before it enters the cache. Python's tools find what is downloaded here, and the other way round.

#![forbid(unsafe_code)]

mod aliases;
mod cache;
mod cancel;
mod config;
mod digest;
mod error;
mod fetch;
mod hub;
mod layout;
mod listing;
mod model_id;
mod select;
mod transport;
mod url;
mod verify;

use std::time::Duration;

pub use aliases::Aliases;
pub use cache::{CachedModel, CachedRevision};
pub use cancel::Cancel;
pub use config::{HubConfig, Timeouts, Token};
pub use digest::Digest;
pub use error::{Error, ErrorKind};
pub use hub::{Hub, Snapshot};
pub use model_id::ModelId;
pub use r1seg_diagnostic::Remedy;
pub use verify::{FileCheck, FileState};

/// What to download, and how patiently.
#[derive(Debug, Clone)]
pub struct DownloadOptions {
    /// Shell patterns of the files to download; `None` chooses what r1seg needs: weights
    /// (safetensors where there are any, else pickles for `convert`), config and tokenizer files,
    /// license and model card.
    pub allow: Option<Vec<String>>,
    /// Shell patterns of files not to download.
    pub ignore: Vec<String>,
    /// Whether to hash what is in the cache already, and to fetch again what is damaged.
    pub rehash: bool,
    /// How often in a row to try again after a failure that may pass.
    pub retries: u32,
    /// Asked many times a second; what has come so far is kept for another run.
    pub cancel: Cancel,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self {
            allow: None,
            ignore: Vec::new(),
            rehash: false,
            retries: 5,
            cancel: Cancel::default(),
        }
    }
}

/// What a download or a verification is doing.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The revision is this commit, of which so much must come.
    Resolved {
        /// 40 hex digits.
        commit: &'a str,
        /// Files that are not in the cache.
        files: usize,
        /// Their lengths together, without what an earlier run brought.
        bytes: u64,
    },
    /// Another process downloads this file; it is waited for.
    Waiting {
        /// The file.
        name: &'a str,
    },
    /// The download of a file begins.
    Started {
        /// The file.
        name: &'a str,
        /// Its length, if the hub states it.
        bytes: Option<u64>,
        /// How much an earlier run brought.
        resumed_at: u64,
    },
    /// So much of a file is there or checked.
    Progress {
        /// The file.
        name: &'a str,
        /// From its beginning.
        bytes: u64,
        /// Its length, if it is known.
        total: Option<u64>,
    },
    /// An attempt failed; another one follows.
    Retrying {
        /// The file, or the model while its files are listed.
        name: &'a str,
        /// Counts from 1.
        attempt: u32,
        /// How long it waits before.
        wait: Duration,
        /// Why.
        reason: &'a Error,
    },
    /// A file is in the snapshot, and its hash is right.
    Done {
        /// The file.
        name: &'a str,
        /// Its length.
        bytes: u64,
    },
}
