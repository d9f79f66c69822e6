//! A worker: takes blocks, runs their warps in turn until each waits at the barrier.

use super::step::{State, run_warp};
use super::{ALL, Fault, Group, Kernel, Launch, Outcome, Special, Warp, Work, reversed};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

struct Arena {
    memory: Vec<u64>,
}

impl Arena {
    fn new(bytes: usize) -> Self {
        Self { memory: vec![0; bytes / 8 + 16] }
    }
    fn start(&mut self) -> *mut u8 {
        let p = self.memory.as_mut_ptr() as usize;
        ((p + 63) & !63) as *mut u8
    }
}

pub(super) fn worker(
    kernel: &Kernel,
    launch: &Launch,
    params: &[u8],
    next: &AtomicU64,
    stop: &AtomicUsize,
    blocks: u64,
) -> Outcome {
    let size = launch.block.iter().product::<u32>() as usize;
    let warps = size.div_ceil(32);
    let files = if kernel.has_barrier { warps } else { 1 };
    let register_bytes = kernel.register_bytes.next_multiple_of(64);
    let mut registers = Arena::new(files * register_bytes + 64);
    let local_stride = kernel.local.next_multiple_of(16);
    let mut local = Arena::new(files * local_stride * 32 + 64);
    let shared_bytes = kernel.static_shared.next_multiple_of(16) + launch.shared as usize;
    let mut shared = Arena::new(shared_bytes + 64);
    let (registers, local, shared) = (registers.start(), local.start(), shared.start());
    for file in 0..files {
        // SAFETY: each constant was given its place in the file when the kernel was lowered.
        unsafe {
            let regs = registers.add(file * register_bytes);
            for (offset, width, bits) in &kernel.constants {
                for l in 0..32 {
                    let at = regs.add(*offset as usize + l * *width as usize);
                    match width {
                        2 => *(at as *mut u16) = *bits as u16,
                        4 => *(at as *mut u32) = *bits as u32,
                        _ => *(at as *mut u64) = *bits,
                    }
                }
            }
        }
    }
    let mut work = Work::default();
    let mut written = Vec::new();
    let mut states: Vec<State> = (0..warps).map(|_| State::default()).collect();
    let mut cache = [(u64::MAX, 0); 4];
    loop {
        let mut block = next.fetch_add(1, Ordering::Relaxed);
        if block >= blocks || stop.load(Ordering::Relaxed) != 0 {
            return (work, None, written);
        }
        if reversed() {
            block = blocks - 1 - block;
        }
        let (gx, gy) = (u64::from(launch.grid[0]), u64::from(launch.grid[1]));
        let place = [(block % gx) as u32, (block / gx % gy) as u32, (block / gx / gy) as u32];
        // SAFETY: the arena holds that many bytes. A GPU leaves what was there.
        unsafe { shared.write_bytes(0xFF, shared_bytes) };
        for (index, state) in states.iter_mut().enumerate() {
            let lanes = (size - index * 32).min(32);
            let mask = if lanes == 32 { ALL } else { (1 << lanes) - 1 };
            *state = State { live: mask, index: index as u32, ..State::default() };
            state.ready.push(Group { pc: 0, mask });
        }
        let mut running = warps;
        let mut started = vec![false; warps];
        while running > 0 {
            let mut progress = false;
            for turn in 0..warps {
                let index = if reversed() { warps - 1 - turn } else { turn };
                let state = &mut states[index];
                if state.live == 0 || (state.ready.is_empty() && state.gathering.is_empty()) {
                    continue;
                }
                let file = if files == 1 { 0 } else { index };
                // SAFETY: the arenas hold a file a warp, or one that the warps take in turn.
                let mut warp = unsafe {
                    Warp {
                        regs: registers.add(file * register_bytes),
                        local: local.add(file * local_stride * 32),
                        local_stride,
                        shared,
                        shared_bytes,
                        params: params.as_ptr(),
                        kernel,
                        launch,
                        fault: None,
                        loaded: 0,
                        stored: 0,
                        atomics: 0,
                        cache,
                        cached: 0,
                        written: &mut written,
                        copies: std::mem::take(&mut state.copies),
                    }
                };
                if !started[index] {
                    started[index] = true;
                    // SAFETY: as above.
                    unsafe { specials(&warp, place, index as u32) };
                }
                progress = true;
                // SAFETY: the kernel was lowered for these registers.
                unsafe { run_warp(&mut warp, state, &mut work) };
                work.loaded += warp.loaded;
                work.stored += warp.stored;
                work.atomics += warp.atomics;
                cache = warp.cache;
                state.copies = warp.copies;
                if let Some((code, what)) = warp.fault {
                    stop.store(1, Ordering::Relaxed);
                    let what = format!(
                        "kernel {} block {place:?} of {:?} warp {index}: {what}",
                        kernel.name, launch.grid
                    );
                    return (work, Some(Fault { code, what }), written);
                }
                if state.live == 0 {
                    running -= 1;
                    work.divergent_warps += u64::from(state.divergent);
                }
            }
            if running == 0 {
                break;
            }
            // Every warp waits: the barrier opens when all lanes that are left have come.
            let all_there =
                states.iter().all(|s| s.at_barrier.iter().fold(0, |m, g| m | g.mask) == s.live);
            if all_there {
                work.barriers += 1;
                for state in &mut states {
                    let mut waiting = std::mem::take(&mut state.at_barrier);
                    if waiting.len() > 1 {
                        waiting.sort_by_key(|g| g.pc);
                        state.divergent = true;
                    }
                    state.ready.append(&mut waiting);
                }
            } else if !progress {
                stop.store(1, Ordering::Relaxed);
                let what = format!(
                    "kernel {} block {place:?}: threads wait at a barrier that others never reach",
                    kernel.name
                );
                return (work, Some(Fault { code: 702, what }), written);
            }
        }
    }
}

pub(super) unsafe fn specials(warp: &Warp, place: [u32; 3], index: u32) {
    let launch = warp.launch;
    let [bx, by, _] = launch.block;
    for (special, offset) in &warp.kernel.specials {
        for l in 0..32u32 {
            let t = index * 32 + l;
            let value = match special {
                Special::Tid(0) => t % bx,
                Special::Tid(1) => t / bx % by,
                Special::Tid(_) => t / bx / by,
                Special::Ntid(axis) => launch.block[*axis],
                Special::Ctaid(axis) => place[*axis],
                Special::Nctaid(axis) => launch.grid[*axis],
                Special::Lane => l,
                Special::WarpId => index,
                Special::NWarpId => launch.block.iter().product::<u32>().div_ceil(32),
                Special::LaneMask('e', _) => 1 << l,
                Special::LaneMask('l', 't') => (1u64 << l) as u32 - 1,
                Special::LaneMask('l', _) => ((2u64 << l) - 1) as u32,
                Special::LaneMask(_, 't') => !((2u64 << l) - 1) as u32,
                Special::LaneMask(..) => !((1u64 << l) - 1) as u32,
                Special::DynamicShared => launch.shared,
                Special::TotalShared => warp.shared_bytes as u32,
                Special::GridId | Special::SmId => 0,
            };
            unsafe { (*warp.at::<u32>(*offset))[l as usize] = value };
        }
    }
}
