//! The one device and its context.

use super::order::everything_waited;
use super::{OK, Status, alive, state};
use crate::log::event;
use crate::mem;
use std::ffi::{c_char, c_int, c_uint};

const CONTEXT: usize = 0xC0DE;

thread_local!(static CURRENT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_: c_uint) -> Status {
    if std::env::var_os("FAKECUDA_NO_DEVICE").is_some() {
        return 100;
    }
    event("cuInit", String::new);
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> Status {
    unsafe { *version = 13000 };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> Status {
    unsafe { *count = 1 };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> Status {
    if ordinal != 0 {
        return 101;
    }
    unsafe { *device = 0 };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, len: c_int, _: c_int) -> Status {
    let text = b"fakecuda (no GPU)\0";
    let n = text.len().min(len as usize);
    unsafe { name.copy_from_nonoverlapping(text.as_ptr().cast(), n) };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _: c_int) -> Status {
    unsafe { *bytes = mem::capacity() };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], _: c_int) -> Status {
    unsafe { *uuid = *b"fakecuda-no-gpu0" };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid(uuid: *mut [u8; 16], device: c_int) -> Status {
    unsafe { cuDeviceGetUuid_v2(uuid, device) }
}

pub(super) fn capability() -> u32 {
    let found = std::env::var("FAKECUDA_COMPUTE_CAP").ok().and_then(|c| c.parse().ok());
    found.unwrap_or(90)
}

/// `sm_90` runs on 9.0 and later, `sm_90a` on 9.0 alone.
pub(super) fn runs(target: &str, capability: u32) -> bool {
    let digits: String = target.chars().filter(char::is_ascii_digit).collect();
    match digits.parse::<u32>() {
        Ok(n) if target.ends_with('a') => n == capability,
        Ok(n) => n <= capability,
        Err(_) => true,
    }
}

/// As an H100 answers; 0 for what is not asked here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(
    value: *mut c_int,
    which: c_uint,
    _: c_int,
) -> Status {
    let capability = capability() as c_int;
    let found = match which {
        1..=3 => 1024,
        4 => 64,
        5 => i32::MAX,
        6 | 7 => 65535,
        8 => 49152,
        9 => 65536,
        10 => 32,
        12 => 65536,
        13 => 1_980_000,
        16 => 132,
        39 => 2048,
        41 | 83 | 89 | 115 => 1,
        75 => capability / 10,
        76 => capability % 10,
        81 => 233_472,
        82 => 65536,
        97 => 232_448,
        106 => 32,
        _ => 0,
    };
    unsafe { *value = found };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(ctx: *mut usize, _: c_int) -> Status {
    unsafe { *ctx = CONTEXT };
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(_: c_int) -> Status {
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(ctx: usize) -> Status {
    CURRENT.set(ctx);
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetCurrent(ctx: *mut usize) -> Status {
    unsafe { *ctx = CURRENT.get() };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetDevice(device: *mut c_int) -> Status {
    unsafe { *device = 0 };
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxDestroy_v2(_: usize) -> Status {
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetFlags(_: c_uint) -> Status {
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetLimit(_: c_uint, _: usize) -> Status {
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetLimit(value: *mut usize, _: c_uint) -> Status {
    unsafe { *value = 8 << 20 };
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCacheConfig(_: c_uint) -> Status {
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetCacheConfig(value: *mut c_uint) -> Status {
    unsafe { *value = 0 };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetStreamPriorityRange(
    least: *mut c_int,
    most: *mut c_int,
) -> Status {
    unsafe { (*least, *most) = (0, -5) };
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> Status {
    alive!();
    event("cuCtxSynchronize", String::new);
    everything_waited();
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStart() -> Status {
    event("cuProfilerStart", String::new);
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cuProfilerStop() -> Status {
    event("cuProfilerStop", String::new);
    OK
}
