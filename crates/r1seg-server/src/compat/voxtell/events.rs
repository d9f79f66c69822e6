//! The events of a job, each a line of JSON.

use axum::extract::{Extension, Path, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::watch;

use super::jobs::{Log, job};
use crate::Error;
use crate::api::sse;
use crate::queue::Client;
use crate::state::App;

/// All events of a job, from its start to its end. The last line says how it ended: without it, viewers
/// would wait for ever.
pub(super) async fn follow(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let job = job(&app, &id, client)?;
    let lines = lines(job.log.subscribe());
    // Blank lines are skipped.
    Ok(sse::streamed(lines, "application/x-ndjson", b"\n"))
}

fn lines(log: watch::Receiver<Log>) -> impl Stream<Item = Bytes> + Send {
    stream::unfold((log, 0), |(mut log, mut told)| async move {
        loop {
            let (lines, is_over) = {
                let now = log.borrow_and_update();
                let lines = now.lines.iter().skip(told).map(|line| format!("{line}\n"));
                told = now.lines.len();
                (lines.collect::<String>(), now.end.is_some())
            };
            if !lines.is_empty() {
                return Some((Bytes::from(lines), (log, told)));
            }
            // The job is gone where nothing can change any more.
            if is_over || log.changed().await.is_err() {
                return None;
            }
        }
    })
}
