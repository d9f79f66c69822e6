//! What the process still says when it cannot go on: memory was refused, or the weights were cut short
//! while they were mapped.
//!
//! Rust ends both without an error that could be returned: `Vec` and `Box` abort where memory is
//! refused, and a mapped page that is gone from its file is a signal. A signal handler may neither
//! allocate nor take a lock, so that the ones here write a message that lies ready and end the process
//! with a documented exit code. Results are staged in `.part` folders, which the next run removes, so
//! that nothing is half-written.
//!
//! `try_reserve` and its like get their null and return an error as before: memory that was refused is
//! only told when the process aborts.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};

use mimalloc::MiMalloc;

/// Bytes of the last request that was refused; 0 if none was.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

/// Passes on to mimalloc, and remembers what it refused.
pub(crate) struct Allocator;

// SAFETY: each call is mimalloc's own, which keeps the contract; only a number is noted besides.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of the same function.
        noted(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of the same function.
        noted(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of the same function.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of the same function.
        noted(unsafe { MiMalloc.realloc(pointer, layout, new_size) }, new_size)
    }
}

#[inline]
fn noted(pointer: *mut u8, size: usize) -> *mut u8 {
    if pointer.is_null() {
        REFUSED.store(size, Ordering::Relaxed);
    }
    pointer
}

#[cfg(not(unix))]
pub(crate) fn install() {}

#[cfg(unix)]
pub(crate) use signals::install;

#[cfg(target_os = "linux")]
pub(crate) use signals::weights_are_mapped;

#[cfg(not(target_os = "linux"))]
pub(crate) fn weights_are_mapped() {}

#[cfg(unix)]
mod signals {
    use std::ffi::c_int;
    use std::sync::atomic::Ordering;

    use super::REFUSED;
    use crate::codes::Code;
    use crate::exit::{IO, TEMPORARY};

    /// Lets the process explain an abort for want of memory, and lets writing beyond `ulimit -f` be an
    /// error like that of a full disk instead of a signal.
    pub(crate) fn install() {
        on(libc::SIGABRT, on_abort as *const () as libc::sighandler_t, 0);
        on(libc::SIGXFSZ, libc::SIG_IGN, 0);
    }

    /// Lets the process explain that weights were cut short. Not on macOS, where a stack that overflows
    /// is the same signal.
    #[cfg(target_os = "linux")]
    pub(crate) fn weights_are_mapped() {
        on(libc::SIGBUS, on_bus as *const () as libc::sighandler_t, libc::SA_SIGINFO);
    }

    fn on(signal: c_int, handler: libc::sighandler_t, flags: c_int) {
        // SAFETY: all bytes zero is a valid `sigaction`: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler;
        action.sa_flags = flags | libc::SA_ONSTACK;
        // SAFETY: `action` is initialized and names a function of the type that its flags ask for. That
        // it may fail is accepted: the process then ends as it would without a handler.
        unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    }

    extern "C" fn on_abort(_signal: c_int) {
        let bytes = REFUSED.load(Ordering::Relaxed);
        if bytes == 0 {
            // Some other fault, which `abort` goes on to end the process for.
            return;
        }
        let mut digits = [0; 20];
        head(Code::Allocation);
        say(b"out of memory: ");
        say(decimal(bytes, &mut digits));
        say(b" bytes more were asked for and refused\n  fix: free memory, or raise the limit of the \
              process (`ulimit -v` shows it in KiB; mapped weights count) or of its container\n");
        end(TEMPORARY);
    }

    #[cfg(target_os = "linux")]
    extern "C" fn on_bus(_: c_int, info: *const libc::siginfo_t, _: *const libc::c_void) {
        // SAFETY: with SA_SIGINFO the kernel passes a valid pointer.
        if unsafe { (*info).si_code } == libc::BUS_ADRERR {
            head(Code::MappedFile);
            say(b"the weights changed, or could no longer be read, while they were \
                  used\n  fix: leave the model's files alone while r1seg runs, or use --no-mmap, which \
                  reads them into memory first\n");
            end(IO);
        }
        // Some other fault: the instruction is tried again and ends the process.
        on(libc::SIGBUS, libc::SIG_DFL, 0);
    }

    /// `error[CODE]: `
    fn head(code: Code) {
        say(b"error[");
        say(code.code().as_bytes());
        say(b"]: ");
    }

    fn say(text: &[u8]) {
        // SAFETY: the pointer and the length are those of a slice; `write` is async-signal-safe.
        let _ = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    }

    fn end(code: u8) {
        // SAFETY: `_exit` is async-signal-safe and runs nothing of the program.
        unsafe { libc::_exit(c_int::from(code)) };
    }

    /// Formatting of the standard library may allocate.
    pub(super) fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &[u8] {
        let mut start = digits.len();
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (number % 10) as u8;
            start = at;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        digits.get(start..).unwrap_or_default()
    }
}

#[cfg(all(test, unix))]
mod tests {
    #[test]
    fn numbers_are_written_without_memory() {
        for number in [0, 7, 10, 8_388_608, usize::MAX] {
            let mut digits = [0; 20];
            let text = super::signals::decimal(number, &mut digits);
            assert_eq!(text, number.to_string().as_bytes());
        }
    }
}
