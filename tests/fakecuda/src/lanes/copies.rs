//! `cp.async`: the bytes arrive when the thread waits for them, and not sooner.

use super::{GENERIC, SHARED, addresses};
use crate::exec::{Instr, NONE, Warp};

/// The copies that the lanes of a warp have begun.
#[derive(Default)]
pub struct Copies {
    pending: Vec<Pending>,
    /// Of each lane, how many groups it has closed.
    groups: [u32; 32],
}

struct Pending {
    lane: usize,
    group: u32,
    to: u64,
    size: usize,
    bytes: [u8; 16],
}

/// `cp.async.commit_group`.
pub unsafe fn commit_copies(w: &mut Warp, _: &Instr, m: u32) {
    for l in (0..32).filter(|l| m >> l & 1 != 0) {
        w.copies.groups[l] += 1;
    }
}

/// `cp.async.wait_group`: all but the last `imm` closed groups; with -1, all that was begun.
pub unsafe fn wait_for_copies(w: &mut Warp, i: &Instr, m: u32) {
    let groups = w.copies.groups;
    let arrived = |c: &Pending| {
        m >> c.lane & 1 != 0
            && (i.imm < 0 || i64::from(c.group) + i.imm < i64::from(groups[c.lane]))
    };
    for copy in w.copies.pending.extract_if(.., |c| arrived(c)) {
        // SAFETY: the range was checked when the copy began, and shared memory stays.
        unsafe { (copy.to as *mut u8).copy_from(copy.bytes.as_ptr(), copy.size) };
    }
}

/// `cp.async`: `a` shared, `b` global, `imm` and `e` the displacements, `target` the
/// bytes, `more[0]` the bits of a shared address, `c` how many bytes to read (the rest is zero).
pub unsafe fn copy_async(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        let size = i.target as usize;
        let to = if i.more[0] == 64 {
            addresses::<u64, SHARED>(w, i.a, i.imm, m, size, size, i.line, "an async write")
        } else {
            addresses::<u32, SHARED>(w, i.a, i.imm, m, size, size, i.line, "an async write")
        };
        let Some(to) = to else { return };
        let reading = if i.c == NONE {
            m
        } else {
            let n = *w.at::<u32>(i.c);
            (0..32).filter(|l| m >> l & 1 != 0 && n[*l] > 0).map(|l| 1 << l).sum()
        };
        let shift = i64::from(i.e as i32);
        let from = if reading == 0 {
            [0; 32]
        } else {
            match addresses::<u64, GENERIC>(w, i.b, shift, reading, size, size, i.line, "a read") {
                Some(from) => from,
                None => return,
            }
        };
        for l in 0..32 {
            if m >> l & 1 == 0 {
                continue;
            }
            let n = if i.c == NONE { size } else { ((*w.at::<u32>(i.c))[l] as usize).min(size) };
            // What stands there now must not be used any more.
            (to[l] as *mut u8).write_bytes(0xFF, size);
            let mut bytes = [0; 16];
            bytes.as_mut_ptr().copy_from(from[l] as *const u8, n);
            let group = w.copies.groups[l];
            w.copies.pending.push(Pending { lane: l, group, to: to[l], size, bytes });
            w.loaded += n as u64;
        }
    }
}
