//! Runs a lowered kernel: blocks one after another, 32 lanes in lockstep with reconvergence.

use crate::lanes::Copies;
use crate::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize};

mod block;
mod step;

use block::worker;

pub const NONE: u32 = u32::MAX;
pub const ALL: u32 = u32::MAX;

/// Computes one instruction for the lanes in the mask.
pub type Exec = unsafe fn(&mut Warp, &Instr, u32);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Alu,
    /// May fault.
    Memory,
    Branch,
    /// Of the block.
    Barrier,
    /// Needs the lanes named by the mask register in `e` (or the immediate) together.
    Together,
    Exit,
    Trap,
}

/// Operands are byte offsets into the registers of the warp.
pub struct Instr {
    pub f: Exec,
    pub kind: Kind,
    pub negate: bool,
    /// A predicate, or `NONE`.
    pub guard: u32,
    pub d: u32,
    pub a: u32,
    pub b: u32,
    pub c: u32,
    pub e: u32,
    pub imm: i64,
    pub target: u32,
    /// In the PTX.
    pub line: u32,
    pub more: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    Lane,
    WarpId,
    NWarpId,
    LaneMask(char, char),
    DynamicShared,
    TotalShared,
    GridId,
    SmId,
}

pub struct Kernel {
    pub name: String,
    pub code: Vec<Instr>,
    pub register_bytes: usize,
    /// Offset, width in bytes, bits.
    pub constants: Vec<(u32, u32, u64)>,
    pub specials: Vec<(Special, u32)>,
    pub static_shared: usize,
    /// Bytes a lane.
    pub local: usize,
    pub parameters: Vec<(usize, usize)>,
    pub parameter_bytes: usize,
    pub has_barrier: bool,
    pub max_threads: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
pub struct Launch {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
}

#[derive(Debug, Clone)]
pub struct Fault {
    /// A `CUresult`.
    pub code: u32,
    pub what: String,
}

#[derive(Clone, Copy)]
struct Group {
    pc: u32,
    mask: u32,
}

pub struct Warp<'a> {
    pub regs: *mut u8,
    pub local: *mut u8,
    pub local_stride: usize,
    pub shared: *mut u8,
    pub shared_bytes: usize,
    pub params: *const u8,
    pub kernel: &'a Kernel,
    pub launch: &'a Launch,
    pub fault: Option<(u32, String)>,
    pub loaded: u64,
    pub stored: u64,
    pub atomics: u64,
    cache: [(u64, u64); 4],
    cached: usize,
    /// Allocations that were written, the last of them first to be asked.
    written: &'a mut Vec<(u64, u64)>,
    pub copies: Copies,
}

impl Warp<'_> {
    #[inline(always)]
    pub unsafe fn at<T>(&self, offset: u32) -> *mut [T; 32] {
        unsafe { self.regs.add(offset as usize) as *mut [T; 32] }
    }

    #[inline(always)]
    pub unsafe fn pred(&self, offset: u32) -> *mut u32 {
        unsafe { self.regs.add(offset as usize) as *mut u32 }
    }

    #[inline(always)]
    pub unsafe fn put<T: Copy>(&self, offset: u32, values: &[T; 32], mask: u32) {
        unsafe {
            let d = self.at::<T>(offset);
            if mask == ALL {
                *d = *values;
            } else {
                for l in 0..32 {
                    if mask >> l & 1 != 0 {
                        (*d)[l] = values[l];
                    }
                }
            }
        }
    }

    /// Whether `low..high` is all in one place that a kernel may touch.
    #[inline]
    pub fn inside(&mut self, low: u64, high: u64) -> bool {
        for (a, b) in self.cache {
            if a <= low && high <= b {
                return true;
            }
        }
        self.look_up(low, high)
    }

    /// Keeps in mind that the allocation of `address` is written.
    #[inline]
    pub fn writes(&mut self, address: u64) {
        if !self.written.iter().rev().any(|(a, b)| *a <= address && address < *b)
            && let Some(range) = mem::find(address)
        {
            self.written.push(range);
        }
    }

    #[cold]
    fn look_up(&mut self, low: u64, high: u64) -> bool {
        let own = [
            (self.shared as u64, self.shared_bytes as u64),
            (self.local as u64, (self.local_stride * 32) as u64),
            (self.params as u64, self.kernel.parameter_bytes as u64),
        ];
        for (start, size) in own {
            if size > 0 && start <= low && high <= start + size {
                return true;
            }
        }
        if let Some(range) = mem::find(low)
            && high <= range.1
        {
            self.cache[self.cached % 4] = range;
            self.cached += 1;
            return true;
        }
        false
    }

    #[cold]
    pub fn bad_access(&mut self, what: &str, address: u64, size: usize, lane: usize, line: u32) {
        if self.fault.is_none() {
            let near = mem::describe(address);
            self.fault = Some((
                700,
                format!(
                    "{what} of {size} bytes at {address:#x} (PTX line {line}, lane {lane}): {near}"
                ),
            ));
        }
    }

    #[cold]
    pub fn misaligned(&mut self, what: &str, address: u64, size: usize, line: u32) {
        if self.fault.is_none() {
            let text =
                format!("{what} of {size} bytes at {address:#x}, not aligned (PTX line {line})");
            self.fault = Some((716, text));
        }
    }
}

/// How much a launch did.
#[derive(Default, Clone, Copy, Debug)]
pub struct Work {
    pub warp_instructions: u64,
    pub thread_instructions: u64,
    pub loaded: u64,
    pub stored: u64,
    pub atomics: u64,
    pub divergent_warps: u64,
    pub barriers: u64,
}

pub fn threads() -> usize {
    static N: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *N.get_or_init(|| {
        std::env::var("FAKECUDA_THREADS").ok().and_then(|t| t.parse().ok()).unwrap_or(1).max(1)
    })
}

/// `FAKECUDA_ORDER=reverse` runs blocks and warps last to first: what depends on the order differs.
fn reversed() -> bool {
    static R: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *R.get_or_init(|| std::env::var("FAKECUDA_ORDER").is_ok_and(|o| o == "reverse"))
}

/// What was done, what went wrong, where the allocations start that were written.
pub type Outcome = (Work, Option<Fault>, Vec<(u64, u64)>);

pub fn run(kernel: &Kernel, launch: &Launch, params: &[u8]) -> Outcome {
    let blocks = launch.grid.iter().map(|n| u64::from(*n)).product::<u64>();
    let size = launch.block.iter().map(|n| u64::from(*n)).product::<u64>();
    let workers = if blocks * size < 16384 { 1 } else { threads().min(blocks as usize) };
    let next = AtomicU64::new(0);
    let stop = AtomicUsize::new(0);
    let work = || worker(kernel, launch, params, &next, &stop, blocks);
    if workers == 1 {
        return work();
    }
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut total = Work::default();
        let (mut fault, mut written) = (None, Vec::new());
        for handle in handles {
            let (w, f, places) = handle.join().expect("a worker of the emulator");
            for place in places {
                if !written.contains(&place) {
                    written.push(place);
                }
            }
            total.warp_instructions += w.warp_instructions;
            total.thread_instructions += w.thread_instructions;
            total.loaded += w.loaded;
            total.stored += w.stored;
            total.atomics += w.atomics;
            total.divergent_warps += w.divergent_warps;
            total.barriers += w.barriers;
            fault = fault.or(f);
        }
        (total, fault, written)
    })
}
