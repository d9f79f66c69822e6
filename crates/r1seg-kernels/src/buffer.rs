//! Memory on cache-line boundaries, so that no vector load straddles two lines.

use std::cell::RefCell;

/// 32-bit words of a cache line: an f32 each, two bf16 or four bytes.
pub(crate) const LINE: usize = 16;

/// Larger scratch buffers are returned to the allocator (64 MiB).
const KEPT_LINES: usize = 1 << 20;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// A fixed-size, aligned array of 32-bit words.
struct Buffer(Vec<Line>);

impl Buffer {
    /// At least `len` words of zero.
    fn zeroed(len: usize) -> Self {
        Self(vec![Line([0.0; LINE]); len.div_ceil(LINE)])
    }

    fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: a `Line` is exactly `LINE` f32 without padding, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LINE) }
    }
}

thread_local! {
    /// A stack, because work stealing may start one kernel inside another on the same thread.
    static SPARE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` on `len` words of scratch memory with arbitrary contents. Buffers are kept per thread:
/// fresh memory for every call would cost a page fault per 4 KiB.
pub(crate) fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let spare = SPARE.with_borrow_mut(Vec::pop).unwrap_or(Buffer(Vec::new()));
    let mut buffer = if spare.0.len() * LINE >= len { spare } else { Buffer::zeroed(len) };
    let result = f(&mut buffer.as_mut_slice()[..len]);
    if buffer.0.len() <= KEPT_LINES {
        SPARE.with_borrow_mut(|spare| spare.push(buffer));
    }
    result
}

/// A pointer that several tasks write through, each to its own elements.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut(*mut f32);

// SAFETY: the users of the pointer write disjoint elements and outlive no borrow.
unsafe impl Send for SharedMut {}
// SAFETY: as above.
unsafe impl Sync for SharedMut {}

impl SharedMut {
    pub(crate) fn new(slice: &mut [f32]) -> Self {
        Self(slice.as_mut_ptr())
    }

    pub(crate) fn from_ptr(numbers: *mut f32) -> Self {
        Self(numbers)
    }

    pub(crate) fn get(self) -> *mut f32 {
        self.0
    }
}

/// Bytes of a large page of x86-64, and of most others.
#[cfg(target_os = "linux")]
const LARGE_PAGE: usize = 2 << 20;

/// Asks for large pages under so many numbers. Memory of such sizes comes fresh from the system in
/// every call, and clearing it one small page at a time takes as long as some convolutions.
#[cfg(target_os = "linux")]
fn prefer_large_pages(numbers: *mut f32, len: usize) {
    let start = numbers.cast::<libc::c_void>();
    let skipped = start.align_offset(LARGE_PAGE);
    let bytes = (4 * len).saturating_sub(skipped) / LARGE_PAGE * LARGE_PAGE;
    if bytes > 0 {
        // SAFETY: these pages lie inside of the allocation, and the advice changes no contents. That a
        // system does not follow it is no error.
        unsafe { libc::madvise(start.wrapping_add(skipped), bytes, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn prefer_large_pages(_: *mut f32, _: usize) {}

/// `len` numbers that `write` stores through the pointer that it gets. Clearing them first would be a pass over memory
/// on one thread.
///
/// # Safety
/// `write` must write all of them.
pub(crate) unsafe fn written(len: usize, write: impl FnOnce(SharedMut)) -> Vec<f32> {
    // SAFETY: the caller's promise.
    unsafe { written_in(Vec::new(), len, write) }
}

/// As [`written`], in memory that is there already if it is large enough.
///
/// # Safety
/// `write` must write all of them.
pub(crate) unsafe fn written_in(
    mut numbers: Vec<f32>,
    len: usize,
    write: impl FnOnce(SharedMut),
) -> Vec<f32> {
    numbers.clear();
    if numbers.capacity() < len {
        numbers = Vec::with_capacity(len);
        prefer_large_pages(numbers.as_mut_ptr(), len);
    }
    write(SharedMut::from_ptr(numbers.as_mut_ptr()));
    // SAFETY: there is room for `len` numbers, and the caller has had them written.
    unsafe { numbers.set_len(len) };
    numbers
}
