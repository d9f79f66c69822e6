//! Bodies of requests, within bounds of size and time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Sleep};

use crate::budget::Reserved;
use crate::{Error, Limits};

/// Bytes that a reader may be given before it makes anything of them: more than the header of any part
/// of a form takes.
const MAX_UNREAD: u64 = 64 << 10;

/// How large a body may be, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) bytes: u64,
    idle: Duration,
    total: Duration,
}

impl Bounds {
    pub(crate) fn of_json(limits: &Limits) -> Self {
        Self::new(limits.max_json_bytes, limits)
    }

    pub(crate) fn of_upload(limits: &Limits) -> Self {
        Self::new(limits.max_body_bytes, limits)
    }

    fn new(bytes: u64, limits: &Limits) -> Self {
        Self { bytes, idle: limits.idle_timeout, total: limits.body_timeout }
    }
}

/// Why a body ended early, for code that sees only that it did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Broken(Arc<AtomicU8>);

const TOO_LARGE: u8 = 1;
const TOO_SLOW: u8 = 2;
const UNREAD: u8 = 3;

impl Broken {
    /// The bound that was passed, if one was.
    pub(crate) fn why(&self, bounds: Bounds) -> Option<Error> {
        match self.0.load(Ordering::SeqCst) {
            TOO_LARGE => Some(Error::TooLarge { limit: bounds.bytes }),
            TOO_SLOW => Some(Error::TooSlow),
            UNREAD => Some(Error::malformed(format!(
                "no part begins, or its header does not end, within {MAX_UNREAD} bytes"
            ))),
            _ => None,
        }
    }
}

/// Bytes that a reader was given since it last made something of them: a reader of forms keeps in memory
/// whatever it finds no part in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unread(Arc<AtomicU64>);

impl Unread {
    /// Notes that the reader has consumed them.
    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::SeqCst);
    }

    fn is_too_much(&self) -> bool {
        self.0.load(Ordering::SeqCst) > MAX_UNREAD
    }
}

/// A body that ends with an error once it passes its bounds.
pub(crate) struct Bounded {
    body: axum::body::BodyDataStream,
    left: u64,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
    end: Pin<Box<Sleep>>,
    broken: Broken,
    unread: Unread,
    /// Whether the reader was made to wait, so that it parses what it has.
    has_paused: bool,
}

impl Bounded {
    /// # Errors
    /// [`Error::TooLarge`] for a body that says so beforehand.
    pub(crate) fn new(headers: &HeaderMap, body: Body, bounds: Bounds) -> Result<Self, Error> {
        let length = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > bounds.bytes) {
            return Err(Error::TooLarge { limit: bounds.bytes });
        }
        let now = Instant::now();
        Ok(Self {
            body: body.into_data_stream(),
            left: bounds.bytes,
            idle: bounds.idle,
            silence: Box::pin(tokio::time::sleep_until(now + bounds.idle)),
            end: Box::pin(tokio::time::sleep_until(now + bounds.total)),
            broken: Broken::default(),
            unread: Unread::default(),
            has_paused: false,
        })
    }

    /// Says afterwards why the stream ended.
    pub(crate) fn broken(&self) -> Broken {
        self.broken.clone()
    }

    /// Where the reader reports that it has consumed what it was given.
    pub(crate) fn unread(&self) -> Unread {
        self.unread.clone()
    }

    fn break_off(&self, why: u8) -> Poll<Option<std::io::Result<Bytes>>> {
        self.broken.0.store(why, Ordering::SeqCst);
        Poll::Ready(Some(Err(std::io::ErrorKind::InvalidData.into())))
    }
}

impl Stream for Bounded {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return self.break_off(TOO_SLOW);
        }
        if self.unread.is_too_much() {
            // Readers buffer all bytes that are available before they parse any of them.
            if self.has_paused {
                return self.break_off(UNREAD);
            }
            self.has_paused = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_paused = false;
        match self.body.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(chunk))) => {
                let Some(left) = self.left.checked_sub(chunk.len() as u64) else {
                    return self.break_off(TOO_LARGE);
                };
                self.left = left;
                self.unread.add(chunk.len() as u64);
                let until = Instant::now() + self.idle;
                self.silence.as_mut().reset(until);
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(std::io::Error::other(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if self.silence.as_mut().poll(cx).is_ready() => self.break_off(TOO_SLOW),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A whole body in memory, for which `memory` is reserved: as much again is needed to read it.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::TooSlow`], [`Error::Malformed`] where it breaks off, and [`Error::Busy`]
/// where others need the memory.
pub(crate) async fn whole(
    headers: &HeaderMap,
    body: Body,
    bounds: Bounds,
    memory: &mut Reserved,
) -> Result<Vec<u8>, Error> {
    let mut stream = Bounded::new(headers, body, bounds)?;
    let (broken, unread) = (stream.broken(), stream.unread());
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        unread.clear();
        let chunk = chunk.map_err(|_| {
            broken.why(bounds).unwrap_or_else(|| Error::malformed("the body breaks off"))
        })?;
        if !memory.grow(2 * chunk.len() as u64) {
            let retry = Duration::from_secs(1);
            return Err(Error::Busy { what: "other requests need the memory", retry });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// What a body says as JSON.
///
/// # Errors
/// As [`whole`]; [`Error::MediaType`] for a body that says it is something else; and those of [`parse`].
pub(crate) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    bounds: Bounds,
    memory: &mut Reserved,
) -> Result<T, Error> {
    if !is_json(headers) {
        return Err(Error::MediaType { expected: "application/json" });
    }
    parse(&whole(headers, body, bounds, memory).await?)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = media_type(headers) else { return false };
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}

/// The media type of a body without its parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}

/// Reads JSON.
///
/// # Errors
/// [`Error::Malformed`] for a body that is not JSON or is nested too deeply; [`Error::Invalid`] for JSON
/// with other fields or types than expected.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // In two steps, since a list that is too long reads like text behind the end of JSON otherwise.
    let value: serde_json::Value = serde_json::from_slice(bytes)
        .map_err(|error| Error::malformed(format!("the body is not valid JSON: {error}")))?;
    serde_json::from_value(value).map_err(|error| Error::invalid("body", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s6_deep_nesting_is_malformed_and_a_wrong_type_is_invalid() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse::<serde_json::Value>(deep.as_bytes()).unwrap_err().status(), 400);
        assert_eq!(parse::<usize>(b"-3").unwrap_err().status(), 422);
        assert_eq!(parse::<usize>(b"\"3\"").unwrap_err().status(), 422);
        assert_eq!(parse::<usize>(b"3").unwrap(), 3);
    }
}
