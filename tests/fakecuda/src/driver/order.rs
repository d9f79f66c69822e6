//! What waits for what: memory that two streams use without an order is reported.

use super::pinned::settle;
use crate::{log, mem};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) static CLOCK: AtomicU64 = AtomicU64::new(1);
/// Per stream: up to which moment the host, or all other streams, have waited for it.
pub(super) static WAITED: Mutex<Option<HashMap<u64, u64>>> = Mutex::new(None);

/// A stream's name: the per-thread default stream is another for each thread.
pub(super) fn stream_key(stream: u64) -> u64 {
    if stream == 2 { 0x8000_0000_0000_0000 | log::thread() } else { stream }
}

pub(super) fn host_waited(stream: u64) {
    let now = CLOCK.load(Ordering::Relaxed);
    let mut waited = WAITED.lock().unwrap_or_else(|e| e.into_inner());
    waited.get_or_insert_with(HashMap::new).insert(stream_key(stream), now);
    drop(waited);
    settle(Some(stream_key(stream)), now);
}

pub(super) fn everything_waited() {
    let now = CLOCK.load(Ordering::Relaxed);
    let mut waited = WAITED.lock().unwrap_or_else(|e| e.into_inner());
    waited.get_or_insert_with(HashMap::new).insert(u64::MAX, now);
    drop(waited);
    settle(None, now);
}

/// Tells where memory that one stream writes is used by another that nothing made wait for it, or
/// the other way round.
pub fn touch(address: u64, stream: u64, what: &str, writes: bool) {
    let key = stream_key(stream);
    let now = CLOCK.fetch_add(1, Ordering::Relaxed);
    let Some((start, _)) = mem::find(address) else {
        return;
    };
    let earlier = mem::with(|heap| {
        let found = heap.live.get_mut(&start)?;
        if found.kind != mem::Kind::Device {
            return None;
        }
        let mut earlier = vec![found.write];
        if writes {
            earlier.append(&mut found.reads);
            found.write = (key, now);
        } else {
            match found.reads.iter_mut().find(|r| r.0 == key) {
                Some(read) => read.1 = now,
                None => found.reads.push((key, now)),
            }
        }
        Some(earlier)
    });
    let waited = WAITED.lock().unwrap_or_else(|e| e.into_inner());
    let by = |s: u64| waited.as_ref().and_then(|w| w.get(&s)).copied().unwrap_or(0);
    let unordered = earlier.iter().flatten().enumerate().find(|(_, (other, when))| {
        *other != 0 && *other != key && by(*other).max(by(u64::MAX)) <= *when
    });
    let text = unordered.map(|(n, _)| {
        let (this, that) =
            (if writes { "writes" } else { "reads" }, if n == 0 { "writes" } else { "reads" });
        format!("unordered: {what} {this} what another stream {that}, and nothing waits")
    });
    drop(waited);
    if let Some(text) = text {
        log::warn(&text);
    }
}
