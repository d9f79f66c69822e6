//! Memory of the device and of the host; copies.

use super::order::{CLOCK, everything_waited, host_waited, stream_key, touch};
use super::pinned::{is_pinned, under_way};
use super::{INVALID, OK, OUT_OF_MEMORY, Status, alive, broken, state};
use crate::log::{self, event};
use crate::mem;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::Ordering;

unsafe fn allocate(to: *mut u64, size: usize, name: &'static str, stream: u64) -> Status {
    alive!();
    event(name, || size.to_string());
    if size == 0 {
        log::warn(&format!("{name} of 0 bytes: CUDA_ERROR_INVALID_VALUE"));
        return INVALID;
    }
    match mem::allocate(size) {
        Some(address) => {
            unsafe { *to = address };
            log::bytes("allocated", size);
            let now = CLOCK.fetch_add(1, Ordering::Relaxed);
            let key = if stream == u64::MAX { 0 } else { stream_key(stream) };
            mem::with(|h| {
                if let Some(a) = h.live.get_mut(&address) {
                    a.write = (key, now);
                }
            });
            OK
        }
        None => OUT_OF_MEMORY,
    }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(to: *mut u64, size: usize) -> Status {
    unsafe { allocate(to, size, "cuMemAlloc", u64::MAX) }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocAsync(to: *mut u64, size: usize, stream: u64) -> Status {
    unsafe { allocate(to, size, "cuMemAllocAsync", stream) }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocFromPoolAsync(
    to: *mut u64,
    size: usize,
    _: usize,
    stream: u64,
) -> Status {
    unsafe { allocate(to, size, "cuMemAllocAsync", stream) }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocManaged(to: *mut u64, size: usize, _: c_uint) -> Status {
    unsafe { allocate(to, size, "cuMemAllocManaged", u64::MAX) }
}
fn release(address: u64, name: &'static str) -> Status {
    event(name, String::new);
    if address == 0 || mem::free(address) {
        return OK;
    }
    log::warn(&format!("{name} of what is not allocated"));
    INVALID
}
#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> Status {
    everything_waited();
    release(address, "cuMemFree")
}
#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeAsync(address: u64, stream: u64) -> Status {
    touch(address, stream, "cuMemFreeAsync", true);
    release(address, "cuMemFreeAsync")
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Status {
    let used = mem::with(|h| h.used);
    unsafe { (*free, *total) = (mem::capacity().saturating_sub(used), mem::capacity()) };
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuMemAdvise_v2(_: u64, _: usize, _: c_uint, _: u64) -> Status {
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetDefaultMemPool(pool: *mut usize, _: c_int) -> Status {
    unsafe { *pool = 0xB001 };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetMemPool(pool: *mut usize, _: c_int) -> Status {
    unsafe { *pool = 0xB001 };
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceSetMemPool(_: c_int, _: usize) -> Status {
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemPoolSetAttribute(_: usize, which: c_uint, _: *mut c_void) -> Status {
    event("cuMemPoolSetAttribute", || which.to_string());
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemPoolGetAttribute(_: usize, which: c_uint, value: *mut u64) -> Status {
    let (used, peak) = mem::with(|h| (h.used as u64, h.peak as u64));
    // Reserved and used: now, and the most.
    match which {
        4 => unsafe { *value = 0 },
        5 | 7 => unsafe { *value = used },
        6 | 8 => unsafe { *value = peak },
        _ => unsafe { *(value as *mut c_int) = 1 },
    }
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolTrimTo(_: usize, _: usize) -> Status {
    OK
}

fn copied(
    name: &'static str,
    size: usize,
    device: &[(u64, bool)],
    pinned: bool,
    stream: u64,
) -> Status {
    alive!();
    event(name, || format!("{size}{}", if pinned { "\tpinned" } else { "" }));
    log::bytes(name, size);
    for (address, writes) in device {
        if !mem::covers(*address, size) {
            let near = mem::describe(*address);
            return broken(INVALID, &format!("{name} of {size} bytes at {address:#x}: {near}"));
        }
        if size > 0 {
            touch(*address, stream, name, *writes);
        }
    }
    OK
}

unsafe fn to_device(to: u64, from: *const u8, size: usize, name: &'static str, s: u64) -> Status {
    // Without `Async` in its name a call returns when the copy is done.
    let pinned = name.ends_with("Async") && is_pinned(from as u64, size);
    let status = copied(name, size, &[(to, true)], pinned, s);
    if status == OK {
        unsafe { (to as *mut u8).copy_from(from, size) };
        if pinned {
            unsafe { under_way(from as u64, to, size, s, false) };
        }
    }
    status
}
unsafe fn to_host(to: *mut u8, from: u64, size: usize, name: &'static str, s: u64) -> Status {
    let pinned = name.ends_with("Async") && is_pinned(to as u64, size);
    let status = copied(name, size, &[(from, false)], pinned, s);
    if status == OK && pinned {
        unsafe { under_way(to as u64, from, size, s, true) };
    } else if status == OK {
        unsafe { to.copy_from(from as *const u8, size) };
        // To pageable memory the call returns when the copy is done.
        host_waited(s);
    }
    status
}
unsafe fn on_device(to: u64, from: u64, size: usize, name: &'static str, s: u64) -> Status {
    let status = copied(name, size, &[(to, true), (from, false)], false, s);
    if status == OK {
        unsafe { (to as *mut u8).copy_from(from as *const u8, size) };
    }
    status
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoD_v2(to: u64, from: *const u8, size: usize) -> Status {
    unsafe { to_device(to, from, size, "cuMemcpyHtoD", 0) }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: u64,
    from: *const u8,
    n: usize,
    s: u64,
) -> Status {
    unsafe { to_device(to, from, n, "cuMemcpyHtoDAsync", s) }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoH_v2(to: *mut u8, from: u64, size: usize) -> Status {
    everything_waited();
    unsafe { to_host(to, from, size, "cuMemcpyDtoH", 0) }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut u8, from: u64, n: usize, s: u64) -> Status {
    unsafe { to_host(to, from, n, "cuMemcpyDtoHAsync", s) }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoD_v2(to: u64, from: u64, size: usize) -> Status {
    unsafe { on_device(to, from, size, "cuMemcpyDtoD", 0) }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, size: usize, s: u64) -> Status {
    unsafe { on_device(to, from, size, "cuMemcpyDtoDAsync", s) }
}
unsafe fn fill(to: u64, value: u8, size: usize, name: &'static str, s: u64) -> Status {
    let status = copied(name, size, &[(to, true)], false, s);
    if status == OK {
        unsafe { (to as *mut u8).write_bytes(value, size) };
    }
    status
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemsetD8_v2(to: u64, value: u8, size: usize) -> Status {
    unsafe { fill(to, value, size, "cuMemsetD8", 0) }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemsetD8Async(to: u64, value: u8, size: usize, s: u64) -> Status {
    unsafe { fill(to, value, size, "cuMemsetD8Async", s) }
}
