//! cuBLAS: products of matrices in f32 (f64 for f64), as far as cudarc calls them.

use crate::log::event;
use std::ffi::{c_char, c_int, c_uint};

mod calls;
mod product;

type Status = c_uint;
const OK: Status = 0;
const INVALID: Status = 7;
const FAILED: Status = 13;
const UNSUPPORTED: Status = 15;

pub struct Handle {
    stream: u64,
    mode: c_uint,
    pointers: c_uint,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasCreate_v2(handle: *mut usize) -> Status {
    event("cublasCreate", String::new);
    let new = Box::new(Handle { stream: 0, mode: 0, pointers: 0 });
    unsafe { *handle = Box::into_raw(new) as usize };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasDestroy_v2(handle: usize) -> Status {
    drop(unsafe { Box::from_raw(handle as *mut Handle) });
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasSetStream_v2(handle: *mut Handle, stream: u64) -> Status {
    unsafe { (*handle).stream = stream };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasGetStream_v2(handle: *mut Handle, stream: *mut u64) -> Status {
    unsafe { *stream = (*handle).stream };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasSetMathMode(handle: *mut Handle, mode: c_uint) -> Status {
    unsafe { (*handle).mode = mode };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasGetMathMode(handle: *mut Handle, mode: *mut c_uint) -> Status {
    unsafe { *mode = (*handle).mode };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasSetPointerMode_v2(handle: *mut Handle, mode: c_uint) -> Status {
    unsafe { (*handle).pointers = mode };
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasGetPointerMode_v2(handle: *mut Handle, mode: *mut c_uint) -> Status {
    unsafe { *mode = (*handle).pointers };
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cublasSetWorkspace_v2(_: usize, _: u64, _: usize) -> Status {
    OK
}
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasGetVersion_v2(_: usize, version: *mut c_int) -> Status {
    unsafe { *version = 130_100 };
    OK
}
#[unsafe(no_mangle)]
pub extern "C" fn cublasGetStatusName(code: Status) -> *const c_char {
    match code {
        0 => c"CUBLAS_STATUS_SUCCESS",
        1 => c"CUBLAS_STATUS_NOT_INITIALIZED",
        7 => c"CUBLAS_STATUS_INVALID_VALUE",
        13 => c"CUBLAS_STATUS_EXECUTION_FAILED",
        15 => c"CUBLAS_STATUS_NOT_SUPPORTED",
        _ => c"CUBLAS_STATUS",
    }
    .as_ptr()
}
#[unsafe(no_mangle)]
pub extern "C" fn cublasGetStatusString(code: Status) -> *const c_char {
    cublasGetStatusName(code)
}
