//! The driver's functions, as far as cudarc and candle call them.

use crate::log;
use std::ffi::{CStr, c_char, c_uint};
use std::sync::atomic::{AtomicU32, Ordering};

mod device;
mod launch;
mod memory;
mod modules;
mod order;
mod pinned;
mod streams;

pub use order::touch;

pub type Status = c_uint;
const OK: Status = 0;
const INVALID: Status = 1;
const OUT_OF_MEMORY: Status = 2;

/// After a fault a context is broken: every call gives the fault again.
static BROKEN: AtomicU32 = AtomicU32::new(0);

fn state() -> Status {
    BROKEN.load(Ordering::Relaxed)
}

fn broken(code: Status, what: &str) -> Status {
    log::fault(what);
    BROKEN.store(code, Ordering::Relaxed);
    code
}

/// Leaves the function where the context is broken.
macro_rules! alive {
    () => {
        match state() {
            OK => {}
            code => return code,
        }
    };
}

use alive;

fn names(code: Status) -> (&'static CStr, &'static CStr) {
    match code {
        0 => (c"CUDA_SUCCESS", c"no error"),
        1 => (c"CUDA_ERROR_INVALID_VALUE", c"invalid argument"),
        2 => (c"CUDA_ERROR_OUT_OF_MEMORY", c"out of memory"),
        3 => (c"CUDA_ERROR_NOT_INITIALIZED", c"initialization error"),
        100 => (c"CUDA_ERROR_NO_DEVICE", c"no CUDA-capable device is detected"),
        101 => (c"CUDA_ERROR_INVALID_DEVICE", c"invalid device ordinal"),
        200 => (c"CUDA_ERROR_INVALID_IMAGE", c"device kernel image is invalid"),
        209 => (c"CUDA_ERROR_NO_BINARY_FOR_GPU", c"no kernel image is available"),
        218 => (c"CUDA_ERROR_INVALID_PTX", c"a PTX JIT compilation failed"),
        222 => (
            c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
            c"the provided PTX was compiled with an unsupported toolchain.",
        ),
        400 => (c"CUDA_ERROR_INVALID_HANDLE", c"invalid resource handle"),
        500 => (c"CUDA_ERROR_NOT_FOUND", c"named symbol not found"),
        600 => (c"CUDA_ERROR_NOT_READY", c"device not ready"),
        700 => (c"CUDA_ERROR_ILLEGAL_ADDRESS", c"an illegal memory access was encountered"),
        701 => (c"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", c"too many resources requested for launch"),
        702 => (c"CUDA_ERROR_LAUNCH_TIMEOUT", c"the launch timed out and was terminated"),
        710 => (c"CUDA_ERROR_ASSERT", c"device-side assert triggered"),
        716 => (c"CUDA_ERROR_MISALIGNED_ADDRESS", c"misaligned address"),
        719 => (c"CUDA_ERROR_LAUNCH_FAILED", c"unspecified launch failure"),
        801 => (c"CUDA_ERROR_NOT_SUPPORTED", c"operation not supported"),
        _ => (c"CUDA_ERROR_UNKNOWN", c"unknown error"),
    }
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(code: Status, text: *mut *const c_char) -> Status {
    unsafe { *text = names(code).0.as_ptr() };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(code: Status, text: *mut *const c_char) -> Status {
    unsafe { *text = names(code).1.as_ptr() };
    OK
}
