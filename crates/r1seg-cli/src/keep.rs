//! The allocator of the process.
//!
//! Every operation of a model makes a new tensor of some 10 MB. The system's allocator gives each
//! back to the kernel, which clears its pages for the next one; this one keeps them.

use libmimalloc_sys::{mi_option_get, mi_option_set, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Its `mi_option_purge_delay`, which the bindings do not name.
const PURGE_DELAY: mi_option_t = 15;

/// What that option is by default, in milliseconds.
const DEFAULT_DELAY: std::ffi::c_long = 10;

/// Keeps freed memory until the process ends. By default it goes back after a hundredth of a second,
/// shorter than many an operation: 5 % of a prompt's time went into clearing pages again.
#[allow(unsafe_code, reason = "the option has no safe name")]
pub(crate) fn freed_memory() {
    // SAFETY: options are integers in a table, and may be read and set at any time. An index that
    // means another option in another version holds another default.
    unsafe {
        if mi_option_get(PURGE_DELAY) == DEFAULT_DELAY {
            mi_option_set(PURGE_DELAY, -1);
        }
    }
}
