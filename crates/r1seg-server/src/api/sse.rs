//! Events in a response that goes on: server-sent events, and whatever is sent like them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Proxies close what is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An event as it is sent.
pub(super) fn event(name: Option<&str>, data: &impl Serialize) -> Bytes {
    // What is sent here has no map with odd keys, which is all that JSON refuses.
    let data = serde_json::to_string(data).unwrap_or_default();
    let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    Bytes::from(format!("{name}data: {data}\n\n"))
}

/// The end of a stream in OpenAI's form.
pub(super) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// A response of events, which come in groups. Dropped when the client leaves.
pub(super) fn response(groups: impl Stream<Item = Vec<Bytes>> + Send + 'static) -> Response {
    streamed(groups.flat_map(stream::iter), "text/event-stream", b": still here\n\n")
}

/// A response that goes on, of what is sent piece by piece, with `idle` whenever there was nothing for a
/// while. Dropped when the client leaves.
pub(crate) fn streamed(
    pieces: impl Stream<Item = Bytes> + Send + 'static,
    kind: &'static str,
    idle: &'static [u8],
) -> Response {
    let mut beat = interval(KEEP_ALIVE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.reset();
    let beating = Beating { events: Box::pin(pieces), beat, idle };
    let mut response = Response::new(Body::from_stream(beating));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies would wait for more.
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    response
}

/// Events with something between whenever there were none for a while.
struct Beating<S> {
    events: Pin<Box<S>>,
    beat: Interval,
    idle: &'static [u8],
}

impl<S: Stream<Item = Bytes>> Stream for Beating<S> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.events.as_mut().poll_next(cx) {
            Poll::Ready(event) => {
                self.beat.reset();
                Poll::Ready(event.map(Ok))
            }
            Poll::Pending if self.beat.poll_tick(cx).is_ready() => {
                Poll::Ready(Some(Ok(Bytes::from_static(self.idle))))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
