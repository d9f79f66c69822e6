//! Atomic operations.

use super::{GENERIC, SHARED, addresses};
use crate::exec::{Exec, Instr, NONE, Warp};
use half::{bf16, f16};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Atomic {
    AddInt,
    AddF16,
    AddBf16,
    AddF16x2,
    AddBf16x2,
    AddF32,
    AddF64,
    MinU,
    MaxU,
    MinS,
    MaxS,
    And,
    Or,
    Xor,
    Exchange,
    Inc,
    Dec,
    Swap,
}

pub fn atomic_name(op: &str, ty: &str) -> Option<Atomic> {
    use Atomic as A;
    Some(match (op, ty) {
        ("add", "f16") => A::AddF16,
        ("add", "bf16") => A::AddBf16,
        ("add", "f16x2") => A::AddF16x2,
        ("add", "bf16x2") => A::AddBf16x2,
        ("add", "f32") => A::AddF32,
        ("add", "f64") => A::AddF64,
        ("add", _) => A::AddInt,
        ("min", "u32" | "u64") => A::MinU,
        ("max", "u32" | "u64") => A::MaxU,
        ("min", "s32" | "s64") => A::MinS,
        ("max", "s32" | "s64") => A::MaxS,
        ("and", _) => A::And,
        ("or", _) => A::Or,
        ("xor", _) => A::Xor,
        ("exch", _) => A::Exchange,
        ("inc", _) => A::Inc,
        ("dec", _) => A::Dec,
        ("cas", _) => A::Swap,
        _ => return None,
    })
}

fn combine(op: Atomic, bits: u32, old: u64, b: u64, c: u64) -> u64 {
    use Atomic as A;
    let sign = |x: u64| {
        if bits == 32 { x as u32 as i32 as i64 } else { x as i64 }
    };
    let pair = |f: fn(f32) -> u16, g: fn(u16) -> f32| {
        let one = |x: u64, y: u64| u64::from(f(g(x as u16) + g(y as u16)));
        one(old, b) | one(old >> 16, b >> 16) << 16
    };
    match op {
        A::AddInt => old.wrapping_add(b),
        A::AddF16 => u64::from((f16::from_bits(old as u16) + f16::from_bits(b as u16)).to_bits()),
        A::AddBf16 => {
            u64::from((bf16::from_bits(old as u16) + bf16::from_bits(b as u16)).to_bits())
        }
        A::AddF16x2 => pair(|x| f16::from_f32(x).to_bits(), |x| f16::from_bits(x).to_f32()),
        A::AddBf16x2 => pair(|x| bf16::from_f32(x).to_bits(), |x| bf16::from_bits(x).to_f32()),
        A::AddF32 => u64::from((f32::from_bits(old as u32) + f32::from_bits(b as u32)).to_bits()),
        A::AddF64 => (f64::from_bits(old) + f64::from_bits(b)).to_bits(),
        A::MinU => old.min(b),
        A::MaxU => old.max(b),
        A::MinS => {
            if sign(old) <= sign(b) {
                old
            } else {
                b
            }
        }
        A::MaxS => {
            if sign(old) >= sign(b) {
                old
            } else {
                b
            }
        }
        A::And => old & b,
        A::Or => old | b,
        A::Xor => old ^ b,
        A::Exchange => b,
        A::Inc => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        A::Dec => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
        A::Swap => {
            if old == b {
                c
            } else {
                old
            }
        }
    }
}

/// `e`: the `Atomic`; `more[0]`: 1 for no result.
unsafe fn atomic<const SPACE: u8, A: Copy + Into<u64>, const BITS: u32>(
    w: &mut Warp,
    i: &Instr,
    m: u32,
) {
    unsafe {
        let size = BITS as usize / 8;
        let Some(at) = addresses::<A, SPACE>(w, i.a, i.imm, m, size, size, i.line, "an atomic")
        else {
            return;
        };
        let op: Atomic = std::mem::transmute(i.e);
        w.atomics += u64::from(m.count_ones());
        if SPACE == GENERIC {
            w.writes(at[m.trailing_zeros() as usize & 31]);
        }
        let get = |w: &Warp, offset: u32, l: usize| -> u64 {
            match BITS {
                16 => u64::from((*w.at::<u16>(offset))[l]),
                32 => u64::from((*w.at::<u32>(offset))[l]),
                _ => (*w.at::<u64>(offset))[l],
            }
        };
        for l in 0..32 {
            if m >> l & 1 == 0 {
                continue;
            }
            let b = get(w, i.b, l);
            let c = if i.c == NONE { 0 } else { get(w, i.c, l) };
            macro_rules! update {
                ($atom:ty, $int:ty) => {{
                    let cell = &*(at[l] as *const $atom);
                    let old = cell.fetch_update(SeqCst, SeqCst, |old| {
                        Some(combine(op, BITS, old as u64, b, c) as $int)
                    });
                    let old = old.unwrap_or_default();
                    if i.d != NONE {
                        (*w.at::<$int>(i.d))[l] = old;
                    }
                }};
            }
            match BITS {
                16 => update!(AtomicU16, u16),
                32 => update!(AtomicU32, u32),
                _ => update!(AtomicU64, u64),
            }
        }
    }
}

pub fn atomic_op(bits: u32, address: u32, space: u8) -> Option<Exec> {
    macro_rules! pick {
        ($b:literal) => {
            match (space, address) {
                (GENERIC, 64) => atomic::<GENERIC, u64, $b> as Exec,
                (SHARED, 64) => atomic::<SHARED, u64, $b>,
                (SHARED, 32) => atomic::<SHARED, u32, $b>,
                _ => return None,
            }
        };
    }
    Some(match bits {
        16 => pick!(16),
        32 => pick!(32),
        64 => pick!(64),
        _ => return None,
    })
}
