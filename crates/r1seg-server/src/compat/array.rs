//! Arrays that viewers send, within the limits of the server.

use std::fs::File;
use std::io::BufReader;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use r1seg_viewers::Array;

use crate::Error;
use crate::api::download::blocking;
use crate::budget::Reserved;
use crate::keys::Owner;
use crate::state::App;
use crate::upload::Upload;

/// How an array is framed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Framing {
    /// VoxTell's.
    Vxa2,
    /// nnInteractive's.
    Nnia,
}

/// An array, and the memory that is reserved for it.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) array: Array,
    pub(super) memory: Reserved,
}

/// Receives a whole body to the disk, and reads the array in it.
///
/// # Errors
/// [`Error::TooLarge`] and [`Error::Array`] for bytes that are not an array, or too large a one; [`Error::Busy`] where
/// others need the memory; [`Error::TooSlow`], [`Error::NoRoom`] and [`Error::Storage`].
pub(super) async fn receive(
    app: &App,
    owner: Owner,
    headers: &HeaderMap,
    body: Body,
    framing: Framing,
) -> Result<Received, Error> {
    let upload = Upload::of_body(app, owner, headers, body).await?;
    let (app, limit) = (app.clone(), app.config.limits.max_volume_bytes);
    let mut memory = app.memory();
    blocking(move || {
        let mut source = BufReader::new(File::open(upload.source()?)?);
        // The array, and as much again for a chunk of it before it is decompressed.
        let admit = |bytes: u64| app.reserve(&mut memory, bytes.saturating_mul(2), owner).is_ok();
        let read = match framing {
            Framing::Vxa2 => r1seg_viewers::vxa2::read_if(&mut source, limit, admit),
            Framing::Nnia => r1seg_viewers::nnia::read_if(&mut source, limit, admit),
        };
        let array = read.map_err(|error| match error {
            r1seg_viewers::Error::Memory { .. } => {
                let retry = Duration::from_secs(1);
                Error::Busy { what: "other requests need the memory", retry }
            }
            other => other.into(),
        })?;
        Ok(Received { array, memory })
    })
    .await
}
