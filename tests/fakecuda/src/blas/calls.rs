//! The functions that multiply.

use super::product::{Product, Type, kind, run};
use super::{Handle, Status, UNSUPPORTED};
use crate::log;
use half::f16;
use std::ffi::{c_int, c_longlong, c_uint, c_void};

#[allow(clippy::too_many_arguments)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasGemmStridedBatchedEx(
    handle: *mut Handle,
    ta: c_uint,
    tb: c_uint,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const c_void,
    a: u64,
    a_type: c_uint,
    lda: c_int,
    a_stride: c_longlong,
    b: u64,
    b_type: c_uint,
    ldb: c_int,
    b_stride: c_longlong,
    beta: *const c_void,
    c: u64,
    c_type: c_uint,
    ldc: c_int,
    c_stride: c_longlong,
    batch: c_int,
    compute: c_uint,
    _algorithm: c_int,
) -> Status {
    let (Some(at), Some(bt), Some(ct)) = (kind(a_type), kind(b_type), kind(c_type)) else {
        return UNSUPPORTED;
    };
    let fits = match compute {
        64 | 65 => at == Type::F16 && bt == at && ct == at,
        68 | 69 | 74 | 75 | 77 => at == bt && at != Type::F64 && (ct == at || ct == Type::F32),
        70 | 71 => at == Type::F64 && bt == at && ct == at,
        _ => false,
    };
    if !fits {
        log::fault(&format!("cublasGemm of {at:?},{bt:?},{ct:?} with compute type {compute}"));
        return UNSUPPORTED;
    }
    let scale = |p: *const c_void| unsafe {
        match compute {
            64 | 65 => (*(p as *const f16)).to_f64(),
            70 | 71 => *(p as *const f64),
            _ => f64::from(*(p as *const f32)),
        }
    };
    run(
        handle,
        Product {
            transposed: [ta, tb],
            m,
            n,
            k,
            sides: [(a, at, lda, a_stride), (b, bt, ldb, b_stride), (c, ct, ldc, c_stride)],
            alpha: scale(alpha),
            beta: scale(beta),
            batch,
            compute,
        },
    )
}

#[allow(clippy::too_many_arguments)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasGemmEx(
    handle: *mut Handle,
    ta: c_uint,
    tb: c_uint,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const c_void,
    a: u64,
    a_type: c_uint,
    lda: c_int,
    b: u64,
    b_type: c_uint,
    ldb: c_int,
    beta: *const c_void,
    c: u64,
    c_type: c_uint,
    ldc: c_int,
    compute: c_uint,
    algorithm: c_int,
) -> Status {
    unsafe {
        cublasGemmStridedBatchedEx(
            handle, ta, tb, m, n, k, alpha, a, a_type, lda, 0, b, b_type, ldb, 0, beta, c, c_type,
            ldc, 0, 1, compute, algorithm,
        )
    }
}

macro_rules! plain {
    ($one:ident, $many:ident, $t:ty, $code:expr, $compute:expr) => {
        #[allow(clippy::too_many_arguments)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $one(
            handle: *mut Handle,
            ta: c_uint,
            tb: c_uint,
            m: c_int,
            n: c_int,
            k: c_int,
            alpha: *const $t,
            a: u64,
            lda: c_int,
            b: u64,
            ldb: c_int,
            beta: *const $t,
            c: u64,
            ldc: c_int,
        ) -> Status {
            unsafe {
                $many(handle, ta, tb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1)
            }
        }
        #[allow(clippy::too_many_arguments)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $many(
            handle: *mut Handle,
            ta: c_uint,
            tb: c_uint,
            m: c_int,
            n: c_int,
            k: c_int,
            alpha: *const $t,
            a: u64,
            lda: c_int,
            a_stride: c_longlong,
            b: u64,
            ldb: c_int,
            b_stride: c_longlong,
            beta: *const $t,
            c: u64,
            ldc: c_int,
            c_stride: c_longlong,
            batch: c_int,
        ) -> Status {
            unsafe {
                cublasGemmStridedBatchedEx(
                    handle,
                    ta,
                    tb,
                    m,
                    n,
                    k,
                    alpha.cast(),
                    a,
                    $code,
                    lda,
                    a_stride,
                    b,
                    $code,
                    ldb,
                    b_stride,
                    beta.cast(),
                    c,
                    $code,
                    ldc,
                    c_stride,
                    batch,
                    $compute,
                    -1,
                )
            }
        }
    };
}
plain!(cublasSgemm_v2, cublasSgemmStridedBatched, f32, 0, 68);
plain!(cublasDgemm_v2, cublasDgemmStridedBatched, f64, 1, 70);
