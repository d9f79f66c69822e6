//! Streams and events.

use super::order::{CLOCK, WAITED, host_waited, stream_key};
use super::pinned::settle;
use super::{OK, Status, alive, state};
use crate::log::{self, event};
use std::collections::HashMap;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

static HANDLES: AtomicU64 = AtomicU64::new(0x1000);

unsafe fn new_handle(to: *mut u64) -> Status {
    unsafe { *to = HANDLES.fetch_add(16, Ordering::Relaxed) };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreate(stream: *mut u64, _: c_uint) -> Status {
    event("cuStreamCreate", String::new);
    unsafe { new_handle(stream) }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreateWithPriority(
    stream: *mut u64,
    _: c_uint,
    _: c_int,
) -> Status {
    event("cuStreamCreate", String::new);
    unsafe { new_handle(stream) }
}
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(_: u64) -> Status {
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: u64) -> Status {
    alive!();
    event("cuStreamSynchronize", String::new);
    host_waited(stream);
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamQuery(stream: u64) -> Status {
    host_waited(stream);
    state()
}
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(_: u64, what: u64, _: c_uint) -> Status {
    event("cuStreamWaitEvent", String::new);
    // Taken as if every stream waited: a little kinder than CUDA.
    reached(what);
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamIsCapturing(_: u64, status: *mut c_uint) -> Status {
    unsafe { *status = 0 };
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamAttachMemAsync(_: u64, _: u64, _: usize, _: c_uint) -> Status {
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchHostFunc(
    _: u64,
    f: extern "C" fn(*mut c_void),
    data: *mut c_void,
) -> Status {
    event("cuLaunchHostFunc", String::new);
    f(data);
    OK
}

/// Notes that a stream has waited for an event; the event's stream, and when it was recorded.
fn reached(handle: u64) -> Option<(u64, u64)> {
    let recorded = EVENTS.lock().unwrap_or_else(|e| e.into_inner());
    let (stream, at) = recorded.as_ref().and_then(|r| r.get(&handle)).copied()?;
    let mut waited = WAITED.lock().unwrap_or_else(|e| e.into_inner());
    let entry = waited.get_or_insert_with(HashMap::new).entry(stream).or_default();
    *entry = (*entry).max(at);
    Some((stream, at))
}

/// The host has waited for an event.
fn event_waited(handle: u64) {
    if let Some((stream, at)) = reached(handle) {
        settle(Some(stream), at);
    }
}

static EVENTS: Mutex<Option<HashMap<u64, (u64, u64)>>> = Mutex::new(None);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventCreate(handle: *mut u64, _: c_uint) -> Status {
    event("cuEventCreate", String::new);
    unsafe { new_handle(handle) }
}
#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(handle: u64, stream: u64) -> Status {
    event("cuEventRecord", String::new);
    let now = CLOCK.load(Ordering::Relaxed);
    let mut events = EVENTS.lock().unwrap_or_else(|e| e.into_inner());
    events.get_or_insert_with(HashMap::new).insert(handle, (stream_key(stream), now));
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(handle: u64) -> Status {
    alive!();
    event("cuEventSynchronize", String::new);
    event_waited(handle);
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(handle: u64) -> Status {
    event_waited(handle);
    state()
}
#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(handle: u64) -> Status {
    event("cuEventDestroy", String::new);
    let mut events = EVENTS.lock().unwrap_or_else(|e| e.into_inner());
    events.get_or_insert_with(HashMap::new).remove(&handle);
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventElapsedTime(ms: *mut f32, _: u64, _: u64) -> Status {
    log::warn("cuEventElapsedTime: times mean nothing here");
    unsafe { *ms = 0.0 };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventElapsedTime_v2(ms: *mut f32, a: u64, b: u64) -> Status {
    unsafe { cuEventElapsedTime(ms, a, b) }
}
