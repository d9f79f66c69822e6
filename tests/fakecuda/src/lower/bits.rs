//! Bits within registers.

use super::{Lowering, Result, plain};
use crate::exec::{Instr, Warp};
use crate::ops::{self, three};
use crate::ptx::Operand;

impl Lowering<'_> {
    pub(super) fn bits(
        &mut self,
        root: &str,
        mods: &[&str],
        ty: &str,
        o: &[Operand],
    ) -> Result<()> {
        let has = |m: &str| mods.contains(&m);
        match root {
            "shl" | "shr" => {
                let (d, a) = (self.reg(&o[0], ty)?, self.reg(&o[1], ty)?);
                let b = self.reg(&o[2], "u32")?;
                self.emit(ops::integer(root, ty), d, &[a, b])
            }
            "popc" | "clz" | "bfind" => {
                let (d, a) = (self.reg(&o[0], "u32")?, self.reg(&o[1], ty)?);
                let name = if has("shiftamt") { "bfind.shiftamt" } else { root };
                self.emit(ops::integer(name, ty), d, &[a])
            }
            "bfe" => {
                let (d, a) = (self.reg(&o[0], ty)?, self.reg(&o[1], ty)?);
                let (b, c) = (self.reg(&o[2], "u32")?, self.reg(&o[3], "u32")?);
                let f = match ty {
                    "u32" => {
                        three!(u32, u32, u32 => u32, |a, b, c| extract(a as u64, b, c, 32, false) as u32)
                    }
                    "s32" => {
                        three!(u32, u32, u32 => u32, |a, b, c| extract(a as i32 as i64 as u64, b, c, 32, true) as u32)
                    }
                    "u64" => three!(u64, u32, u32 => u64, |a, b, c| extract(a, b, c, 64, false)),
                    _ => three!(u64, u32, u32 => u64, |a, b, c| extract(a, b, c, 64, true)),
                };
                self.emit(Some(f), d, &[a, b, c])
            }
            "bfi" => {
                let (d, a, b) = (self.reg(&o[0], ty)?, self.reg(&o[1], ty)?, self.reg(&o[2], ty)?);
                let (c, e) = (self.reg(&o[3], "u32")?, self.reg(&o[4], "u32")?);
                let mut i = plain(if ty == "b32" { insert32 } else { insert64 });
                (i.d, i.a, i.b, i.c, i.e) = (d, a, b, c, e);
                self.code.push(i);
                Ok(())
            }
            "prmt" => {
                if mods.len() > 1 {
                    return Err("a mode of prmt".into());
                }
                let (d, a) = (self.reg(&o[0], "b32")?, self.reg(&o[1], "b32")?);
                let (b, c) = (self.reg(&o[2], "b32")?, self.reg(&o[3], "b32")?);
                let f = three!(u32, |a, b, c| permute(a, b, c));
                self.emit(Some(f), d, &[a, b, c])
            }
            "lop3" => {
                let (d, a) = (self.reg(&o[0], "b32")?, self.reg(&o[1], "b32")?);
                let (b, c) = (self.reg(&o[2], "b32")?, self.reg(&o[3], "b32")?);
                let Operand::Int(table) = o[4] else {
                    return Err("a table".into());
                };
                let mut i = plain(lop3);
                (i.d, i.a, i.b, i.c, i.imm) = (d, a, b, c, table);
                self.code.push(i);
                Ok(())
            }
            "shf" => {
                let (d, a) = (self.reg(&o[0], "b32")?, self.reg(&o[1], "b32")?);
                let (b, c) = (self.reg(&o[2], "b32")?, self.reg(&o[3], "b32")?);
                let f = match (has("l"), has("wrap")) {
                    (true, true) => three!(u32, |a, b, c| funnel_left(a, b, c & 31)),
                    (true, false) => three!(u32, |a, b, c| funnel_left(a, b, c.min(32))),
                    (false, true) => three!(u32, |a, b, c| funnel_right(a, b, c & 31)),
                    (false, false) => three!(u32, |a, b, c| funnel_right(a, b, c.min(32))),
                };
                self.emit(Some(f), d, &[a, b, c])
            }
            "dp4a" => {
                let d = self.reg(&o[0], "b32")?;
                let (a, b, c) =
                    (self.reg(&o[1], "b32")?, self.reg(&o[2], "b32")?, self.reg(&o[3], "b32")?);
                let f = match (mods[0], mods[1]) {
                    ("s32", "s32") => three!(u32, |a, b, c| dot(a, b, c, true, true)),
                    ("s32", "u32") => three!(u32, |a, b, c| dot(a, b, c, true, false)),
                    ("u32", "s32") => three!(u32, |a, b, c| dot(a, b, c, false, true)),
                    _ => three!(u32, |a, b, c| dot(a, b, c, false, false)),
                };
                self.emit(Some(f), d, &[a, b, c])
            }
            _ => Err("not known to this emulator".into()),
        }
    }
}

fn extract(a: u64, position: u32, length: u32, bits: u32, signed: bool) -> u64 {
    let (position, length) = (position & 255, length & 255);
    let top = |x: u64, n: u32| x >> n.min(63) & 1;
    if length == 0 {
        return 0;
    }
    let fill = if signed { top(a, (position + length - 1).min(bits - 1)) } else { 0 };
    let mut out = if fill != 0 { u64::MAX } else { 0 };
    for n in 0..length.min(bits) {
        let bit = if position + n < bits { top(a, position + n) } else { fill };
        out = out & !(1 << n) | bit << n;
    }
    out
}

unsafe fn insert32(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        let (a, b) = (*w.at::<u32>(i.a), *w.at::<u32>(i.b));
        let (c, e) = (*w.at::<u32>(i.c), *w.at::<u32>(i.e));
        let mut out = [0u32; 32];
        for l in 0..32 {
            out[l] = insert(a[l].into(), b[l].into(), c[l], e[l], 32) as u32;
        }
        w.put(i.d, &out, m);
    }
}

unsafe fn insert64(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        let (a, b) = (*w.at::<u64>(i.a), *w.at::<u64>(i.b));
        let (c, e) = (*w.at::<u32>(i.c), *w.at::<u32>(i.e));
        let mut out = [0u64; 32];
        for l in 0..32 {
            out[l] = insert(a[l], b[l], c[l], e[l], 64);
        }
        w.put(i.d, &out, m);
    }
}

fn insert(a: u64, b: u64, position: u32, length: u32, bits: u32) -> u64 {
    let (position, length) = (position & 255, length & 255);
    if position >= bits || length == 0 {
        return b;
    }
    let length = length.min(bits - position);
    let mask = (u64::MAX >> (64 - length)) << position;
    b & !mask | a << position & mask
}

fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    let mut out = 0;
    for n in 0..4 {
        let s = selector >> (4 * n) & 15;
        let mut byte = (bytes >> (8 * (s & 7))) as u8;
        if s & 8 != 0 {
            byte = if byte & 0x80 != 0 { 0xFF } else { 0 };
        }
        out |= u32::from(byte) << (8 * n);
    }
    out
}

unsafe fn lop3(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        let (a, b, c) = (*w.at::<u32>(i.a), *w.at::<u32>(i.b), *w.at::<u32>(i.c));
        let mut out = [0u32; 32];
        for n in 0..8 {
            if i.imm >> n & 1 == 0 {
                continue;
            }
            for l in 0..32 {
                let x = if n & 4 != 0 { a[l] } else { !a[l] };
                let y = if n & 2 != 0 { b[l] } else { !b[l] };
                let z = if n & 1 != 0 { c[l] } else { !c[l] };
                out[l] |= x & y & z;
            }
        }
        w.put(i.d, &out, m);
    }
}

fn funnel_left(a: u32, b: u32, n: u32) -> u32 {
    let both = u64::from(b) << 32 | u64::from(a);
    ((both << n) >> 32) as u32
}

fn funnel_right(a: u32, b: u32, n: u32) -> u32 {
    let both = u64::from(b) << 32 | u64::from(a);
    (both >> n) as u32
}

fn dot(a: u32, b: u32, c: u32, sa: bool, sb: bool) -> u32 {
    let mut sum = c as i32;
    for n in 0..4 {
        let (x, y) = ((a >> (8 * n)) as u8, (b >> (8 * n)) as u8);
        let x = if sa { i32::from(x as i8) } else { i32::from(x) };
        let y = if sb { i32::from(y as i8) } else { i32::from(y) };
        sum = sum.wrapping_add(x * y);
    }
    sum as u32
}
