//! Pinned host memory, and copies from it and to it, which a device makes after the call returned.
//!
//! A copy to the host is made when the host waits for it, not sooner. Of a copy to the device the
//! bytes are kept until then, and compared: whoever changes pinned memory before has, on a GPU, sent
//! the old bytes or the new ones.

use super::order::{CLOCK, stream_key};
use super::{INVALID, OK, OUT_OF_MEMORY, Status, alive, state};
use crate::log::{self, event};
use crate::mem;
use std::ffi::{c_uint, c_void};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard};

struct Copy {
    stream: u64,
    at: u64,
    host: u64,
    bytes: Vec<u8>,
    to_host: bool,
}

/// Copies that the host has not waited for.
static COPIES: Mutex<Vec<Copy>> = Mutex::new(Vec::new());

fn copies() -> MutexGuard<'static, Vec<Copy>> {
    COPIES.lock().unwrap_or_else(|e| e.into_inner())
}

/// Keeps a copy whose bytes are still on their way from or to pinned memory at `host`.
///
/// # Safety
/// `size` bytes can be read at `device`, which is the source of a copy to the host, or else a copy
/// of the source has just been made there.
pub(super) unsafe fn under_way(host: u64, device: u64, size: usize, stream: u64, to_host: bool) {
    // SAFETY: as the caller promises.
    let bytes = unsafe { std::slice::from_raw_parts(device as *const u8, size) }.to_vec();
    let at = CLOCK.fetch_add(1, Ordering::Relaxed);
    copies().push(Copy { stream: stream_key(stream), at, host, bytes, to_host });
}

/// The host has waited for what a stream (or each of them) was given until then.
pub(super) fn settle(stream: Option<u64>, until: u64) {
    let mut copies = copies();
    let done = |c: &Copy| stream.is_none_or(|s| s == c.stream) && c.at < until;
    for copy in copies.extract_if(.., |c| done(c)) {
        // SAFETY: `cuMemFreeHost` takes copies off the list before memory goes.
        let host =
            unsafe { std::slice::from_raw_parts_mut(copy.host as *mut u8, copy.bytes.len()) };
        if copy.to_host {
            host.copy_from_slice(&copy.bytes);
        } else if host != copy.bytes {
            log::warn("pinned memory was changed before the host waited for the copy from it");
        }
    }
}

/// Whether the copy of `size` bytes is with pinned memory at `host`.
pub(super) fn is_pinned(host: u64, size: usize) -> bool {
    size > 0 && mem::is_pinned(host) && mem::covers(host, size)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemHostAlloc(to: *mut u64, size: usize, _: c_uint) -> Status {
    alive!();
    event("cuMemHostAlloc", || size.to_string());
    if size == 0 {
        return INVALID;
    }
    let Some(address) = mem::allocate_pinned(size) else { return OUT_OF_MEMORY };
    unsafe { *to = address };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocHost_v2(to: *mut u64, size: usize) -> Status {
    unsafe { cuMemHostAlloc(to, size, 0) }
}
#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeHost(address: u64) -> Status {
    event("cuMemFreeHost", String::new);
    let Some((start, end)) = mem::find(address) else { return INVALID };
    let mut copies = copies();
    let before = copies.len();
    copies.retain(|c| c.host < start || end <= c.host);
    if copies.len() < before {
        log::warn("pinned memory was freed before the host waited for a copy with it");
    }
    drop(copies);
    if mem::free_pinned(address) { OK } else { INVALID }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemHostGetDevicePointer_v2(
    device: *mut u64,
    host: u64,
    _: c_uint,
) -> Status {
    if !mem::is_pinned(host) {
        return INVALID;
    }
    unsafe { *device = host };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemHostGetFlags(flags: *mut c_uint, host: *mut c_void) -> Status {
    if !mem::is_pinned(host as u64) {
        return INVALID;
    }
    unsafe { *flags = 0 };
    OK
}
