//! Launches.

use super::modules::Handle;
use super::order::touch;
use super::{INVALID, OK, Status, alive, broken, state};
use crate::exec::{self, Launch};
use crate::log::{self, event};
use std::ffi::{c_uint, c_void};
use std::sync::atomic::Ordering;
use std::time::Instant;

#[allow(clippy::too_many_arguments)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel(
    f: usize,
    gx: c_uint,
    gy: c_uint,
    gz: c_uint,
    bx: c_uint,
    by: c_uint,
    bz: c_uint,
    shared: c_uint,
    stream: u64,
    arguments: *mut *mut c_void,
    _: *mut *mut c_void,
) -> Status {
    alive!();
    // SAFETY: a handle from `cuModuleGetFunction`.
    let handle = unsafe { &*(f as *const Handle) };
    let name = &handle.name;
    event("cuLaunchKernel", || format!("{name}\t{gx},{gy},{gz}\t{bx},{by},{bz}\t{shared}"));
    let threads = u64::from(bx) * u64::from(by) * u64::from(bz);
    let wrong = match () {
        () if gx == 0 || gy == 0 || gz == 0 => Some("an empty grid".to_string()),
        () if threads == 0 => Some("an empty block".to_string()),
        () if threads > 1024 || bz > 64 => Some(format!("{threads} threads a block")),
        () if gx > i32::MAX as u32 || gy > 65535 || gz > 65535 => {
            Some(format!("grid {gx},{gy},{gz}"))
        }
        () if shared > handle.dynamic_limit.load(Ordering::Relaxed) => {
            Some(format!("{shared} bytes of dynamic shared memory"))
        }
        () => None,
    };
    if let Some(wrong) = wrong {
        log::fault(&format!("launch of {name} with {wrong}: CUDA_ERROR_INVALID_VALUE"));
        return INVALID;
    }
    let kernel = match handle.kernel() {
        Ok(kernel) => kernel,
        Err(what) => {
            log::fault(&format!("kernel {name} cannot be emulated: {what}"));
            return 218;
        }
    };
    if kernel.max_threads.is_some_and(|most| threads > u64::from(most)) {
        return 701;
    }
    let (limit, own) = (handle.dynamic_limit.load(Ordering::Relaxed), kernel.static_shared as u64);
    // Where the limit was not raised, it is that of both.
    if limit <= 48 << 10 && u64::from(shared) + own > 48 << 10 {
        log::fault(&format!("launch of {name} with {shared} and {own} bytes of shared memory"));
        return INVALID;
    }
    let mut bytes = vec![0u8; kernel.parameter_bytes + 8];
    for (n, (offset, size)) in kernel.parameters.iter().enumerate() {
        // SAFETY: the caller hands over a pointer for each parameter.
        unsafe {
            let from = *arguments.add(n) as *const u8;
            if from.is_null() {
                return INVALID;
            }
            bytes[*offset..].as_mut_ptr().copy_from(from, *size);
        }
        // Pointers, alone or in a struct that is passed by value.
        if offset % 8 == 0 {
            for word in bytes[*offset..*offset + *size].chunks_exact(8) {
                let value = u64::from_le_bytes(word.try_into().expect("8 bytes"));
                if value > 1 << 32 {
                    touch(value, stream, name, false);
                }
            }
        }
    }
    let began = Instant::now();
    let launch = Launch { grid: [gx, gy, gz], block: [bx, by, bz], shared };
    let (work, fault, written) = exec::run(kernel, &launch, &bytes);
    for (start, _) in written {
        touch(start, stream, name, true);
    }
    let blocks = u64::from(gx) * u64::from(gy) * u64::from(gz);
    log::launched(name, blocks, blocks * threads, &work, began.elapsed());
    match fault {
        Some(fault) => broken(fault.code, &fault.what),
        None => OK,
    }
}
