//! Events in a response that goes on: server-sent events.

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
    let events = Box::pin(groups.flat_map(stream::iter));
    let mut beat = interval(KEEP_ALIVE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.reset();
    let mut response = Response::new(Body::from_stream(Beating { events, beat }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies would wait for more.
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    response
}

/// Events with a comment whenever there were none for a while.
struct Beating<S> {
    events: Pin<Box<S>>,
    beat: Interval,
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
                Poll::Ready(Some(Ok(Bytes::from_static(b": still here\n\n"))))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
