//! The instructions of one warp.

use super::{ALL, Group, Kind, NONE, Warp, Work};
use crate::lanes::Copies;

#[derive(Default)]
pub(super) struct State {
    /// Lanes that have not exited.
    pub(super) live: u32,
    pub(super) ready: Vec<Group>,
    pub(super) at_barrier: Vec<Group>,
    /// Short of lanes for a `Together`.
    pub(super) gathering: Vec<Group>,
    pub(super) index: u32,
    pub(super) divergent: bool,
    pub(super) copies: Copies,
}

/// Until every group has exited or waits at the block's barrier.
pub(super) unsafe fn run_warp(warp: &mut Warp, state: &mut State, work: &mut Work) {
    let code = warp.kernel.code.as_ptr();
    let (mut warp_count, mut thread_count) = (0u64, 0u64);
    'groups: loop {
        // The group that is furthest behind runs first, so that groups meet again after branches.
        let Some(pick) = (0..state.ready.len()).min_by_key(|i| state.ready[*i].pc) else {
            if let Some(stuck) = state.gathering.pop() {
                // Nobody else can come: undefined on a GPU.
                warp.fault = Some((
                    719,
                    format!(
                        "lanes {:#x} wait in a .sync instruction for lanes that never come",
                        stuck.mask
                    ),
                ));
            }
            break;
        };
        let Group { mut pc, mask } = state.ready.swap_remove(pick);
        let mut active = mask;
        // Groups at the same place join.
        let mut i = 0;
        while i < state.ready.len() {
            if state.ready[i].pc == pc {
                active |= state.ready.swap_remove(i).mask;
            } else {
                i += 1;
            }
        }
        let mut limit = state.ready.iter().map(|g| g.pc).min().unwrap_or(NONE);
        loop {
            if pc >= limit {
                state.ready.push(Group { pc, mask: active });
                continue 'groups;
            }
            let i = unsafe { &*code.add(pc as usize) };
            warp_count += 1;
            let mut m = active;
            if i.guard != NONE {
                let p = unsafe { *warp.pred(i.guard) };
                m &= if i.negate { !p } else { p };
            }
            match i.kind {
                Kind::Alu => {
                    if m != 0 {
                        unsafe { (i.f)(warp, i, m) };
                    }
                }
                Kind::Memory => {
                    if m != 0 {
                        unsafe { (i.f)(warp, i, m) };
                        if warp.fault.is_some() {
                            break 'groups;
                        }
                    }
                }
                Kind::Branch => {
                    thread_count += u64::from(active.count_ones());
                    let stay = active & !m;
                    if m == 0 {
                        pc += 1;
                    } else if stay == 0 {
                        pc = i.target;
                    } else {
                        state.divergent = true;
                        let (first, second) = if i.target <= pc {
                            (Group { pc: i.target, mask: m }, Group { pc: pc + 1, mask: stay })
                        } else {
                            (Group { pc: pc + 1, mask: stay }, Group { pc: i.target, mask: m })
                        };
                        state.ready.push(second);
                        limit = limit.min(second.pc);
                        pc = first.pc;
                        active = first.mask;
                    }
                    continue;
                }
                Kind::Exit => {
                    state.live &= !m;
                    active &= !m;
                    if active == 0 {
                        continue 'groups;
                    }
                }
                Kind::Barrier => {
                    if m == active {
                        state.at_barrier.push(Group { pc: pc + 1, mask: active });
                        continue 'groups;
                    }
                    if m != 0 {
                        state.at_barrier.push(Group { pc: pc + 1, mask: m });
                        active &= !m;
                    }
                }
                Kind::Together => {
                    let named = if i.e == NONE {
                        ALL
                    } else {
                        let lane = m.trailing_zeros().min(31) as usize;
                        unsafe { (*warp.at::<u32>(i.e))[lane] }
                    };
                    let wanted = named & state.live;
                    if m != 0 && m & wanted != wanted {
                        // Wait for the others, who have not come this far.
                        let mut all = m;
                        let mut g = 0;
                        while g < state.gathering.len() {
                            if state.gathering[g].pc == pc {
                                all |= state.gathering.swap_remove(g).mask;
                            } else {
                                g += 1;
                            }
                        }
                        if all & wanted == wanted {
                            state.divergent = true;
                            unsafe { (i.f)(warp, i, all) };
                            active |= all;
                        } else {
                            state.gathering.push(Group { pc, mask: all });
                            active &= !m;
                            if active == 0 {
                                continue 'groups;
                            }
                        }
                    } else if m != 0 {
                        unsafe { (i.f)(warp, i, m) };
                        if warp.fault.is_some() {
                            break 'groups;
                        }
                    }
                }
                Kind::Trap => {
                    if m != 0 {
                        unsafe { (i.f)(warp, i, m) };
                        if warp.fault.is_some() {
                            break 'groups;
                        }
                    }
                }
            }
            thread_count += u64::from(m.count_ones());
            pc += 1;
        }
    }
    work.warp_instructions += warp_count;
    work.thread_instructions += thread_count;
    let _ = state.index;
}
