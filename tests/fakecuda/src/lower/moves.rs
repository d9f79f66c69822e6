//! Registers, memory and conversions.

use super::arithmetic::predicates;
use super::{Binding, Lowering, Result, plain};
use crate::exec::{Exec, Instr, Kind, NONE, Warp};
use crate::ops::one;
use crate::ptx::{Operand, type_bits};
use crate::{lanes, ops};

impl Lowering<'_> {
    pub(super) fn mov(&mut self, ty: &str, o: &[Operand]) -> Result<()> {
        if ty == "pred" {
            let (d, _) = self.pred(&o[0])?;
            let f: Exec = |w, i, m| unsafe { predicates(w, i, m, |a, _| a) };
            let mut i = plain(f);
            i.d = d;
            match &o[1] {
                Operand::Int(value) => {
                    let p = self.new_register(1);
                    (i.a, i.b) = (p, p);
                    let value = *value != 0;
                    i.f = if value {
                        |w, i, m| unsafe { predicates(w, i, m, |_, _| !0) }
                    } else {
                        |w, i, m| unsafe { predicates(w, i, m, |_, _| 0) }
                    };
                }
                other => {
                    let (a, negate) = self.pred(other)?;
                    (i.a, i.b, i.imm) = (a, a, i64::from(negate));
                }
            }
            self.code.push(i);
            return Ok(());
        }
        let bits = type_bits(ty).ok_or("type")?;
        match (&o[0], &o[1]) {
            (Operand::Vector(to), from) => {
                let part = bits / to.len() as u32;
                let a = self.reg(from, ty)?;
                for (n, item) in to.iter().enumerate() {
                    if *item == Operand::Name("_".into()) {
                        continue;
                    }
                    let d = self.reg(item, &format!("b{part}"))?;
                    let mut i = plain(match (bits, part) {
                        (32, 16) => part_of::<u32, u16>,
                        (64, 32) => part_of::<u64, u32>,
                        (64, 16) => part_of::<u64, u16>,
                        _ => return Err("parts".into()),
                    });
                    (i.d, i.a, i.imm) = (d, a, i64::from(n as u32 * part));
                    self.code.push(i);
                }
                Ok(())
            }
            (to, Operand::Vector(from)) => {
                let part = bits / from.len() as u32;
                let d = self.reg(to, ty)?;
                let mut i = plain(match (bits, part) {
                    (32, 16) => join_of::<u32, u16>,
                    (64, 32) => join_of::<u64, u32>,
                    (64, 16) => join_of::<u64, u16>,
                    _ => return Err("parts".into()),
                });
                i.d = d;
                for item in from {
                    let r = self.reg(item, &format!("b{part}"))?;
                    i.more.push(r);
                }
                self.code.push(i);
                Ok(())
            }
            (to, Operand::Name(name))
                if matches!(self.look_up(name), Some(Binding::Parameter(_))) =>
            {
                let Some(Binding::Parameter(at)) = self.look_up(name) else { unreachable!() };
                let d = self.reg(to, ty)?;
                let mut i = plain(lanes::parameter_address);
                (i.d, i.imm) = (d, at as i64);
                self.code.push(i);
                Ok(())
            }
            (to, from) => {
                let (d, a) = (self.reg(to, ty)?, self.reg(from, ty)?);
                let f = match bits {
                    16 => one!(u16 => u16, |a| a),
                    32 => one!(u32 => u32, |a| a),
                    _ => one!(u64 => u64, |a| a),
                };
                self.emit(Some(f), d, &[a])
            }
        }
    }

    /// Register, its bits, displacement and space of an address.
    pub(super) fn address(
        &mut self,
        mods: &[&str],
        operand: &Operand,
    ) -> Result<(u32, u32, i64, u8)> {
        let Operand::Address(base, offset) = operand else {
            return Err(format!("address {operand:?}"));
        };
        let mut space = match () {
            () if mods.iter().any(|m| m.starts_with("shared")) => lanes::SHARED,
            () if mods.contains(&"local") => lanes::LOCAL,
            // nvcc reads members of a structure that is passed by value through a register, too.
            () => lanes::GENERIC,
        };
        let Some(base) = base else {
            return Ok((self.constant(64, *offset as u64), 64, 0, space));
        };
        if let Some(Binding::Local(_)) = self.look_up(base) {
            space = lanes::LOCAL;
        }
        let bits = if space == lanes::GENERIC { 64 } else { 32 };
        let (at, found) = self.any(&Operand::Name(base.clone()), bits, None)?;
        Ok((at, found, *offset, space))
    }

    pub(super) fn load(&mut self, mods: &[&str], ty: &str, o: &[Operand]) -> Result<()> {
        if mods.iter().any(|m| m.starts_with("param"))
            && let Operand::Address(Some(base), offset) = &o[1]
            && let Some(Binding::Parameter(at)) = self.look_up(base)
        {
            let items = match &o[0] {
                Operand::Vector(items) => items.clone(),
                other => vec![other.clone()],
            };
            let step = i64::from(type_bits(ty).ok_or("type")? / 8);
            for (n, item) in items.iter().enumerate() {
                let (d, bits) = self.any(item, 0, None)?;
                let mut i = plain(lanes::parameter_op(ty, bits).ok_or("a width of register")?);
                (i.d, i.imm) = (d, at as i64 + offset + n as i64 * step);
                self.code.push(i);
            }
            return Ok(());
        }
        let (a, bits, offset, space) = self.address(mods, &o[1])?;
        let vector = matches!(o[0], Operand::Vector(_));
        let items = match &o[0] {
            Operand::Vector(items) => items.clone(),
            other => vec![other.clone()],
        };
        let (mut regs, mut width) = (Vec::new(), type_bits(ty).ok_or("type")?.max(16));
        for item in &items {
            let (d, found) = self.any(item, width, None)?;
            if d != NONE {
                width = found;
            }
            regs.push(d);
        }
        let mut i = plain(
            lanes::load_op(ty, width, bits, space, vector)
                .ok_or_else(|| format!("a read to {width} bits by {bits}"))?,
        );
        i.kind = Kind::Memory;
        (i.a, i.imm) = (a, offset);
        if vector {
            i.more = regs;
        } else {
            i.d = regs[0];
        }
        self.code.push(i);
        Ok(())
    }

    pub(super) fn store(&mut self, mods: &[&str], ty: &str, o: &[Operand]) -> Result<()> {
        let (a, bits, offset, space) = self.address(mods, &o[0])?;
        let items = match &o[1] {
            Operand::Vector(items) => items.clone(),
            other => vec![other.clone()],
        };
        let memory = type_bits(ty).ok_or("type")?;
        let mut width = memory.max(16);
        let mut regs = Vec::new();
        for item in &items {
            if let Operand::Name(_) = item {
                let (_, found) = self.any(item, width, Some(ty))?;
                width = width.max(found);
            }
        }
        for item in &items {
            let (r, found) = self.any(item, width, Some(ty))?;
            if found != width {
                return Err("registers of unlike widths".into());
            }
            regs.push(r);
        }
        let mut i = plain(
            lanes::store_op(memory, width, bits, space)
                .ok_or_else(|| format!("a write of {memory} bits from {width} by {bits}"))?,
        );
        i.kind = Kind::Memory;
        (i.a, i.imm, i.more) = (a, offset, regs);
        self.code.push(i);
        Ok(())
    }

    pub(super) fn cvt(&mut self, mods: &[&str], o: &[Operand]) -> Result<()> {
        let types: Vec<&str> = mods
            .iter()
            .copied()
            .filter(|m| type_bits(m).is_some() || matches!(*m, "e4m3x2" | "e5m2x2"))
            .collect();
        let [to, from] = types[..] else {
            return Err("two types".into());
        };
        let has = |m: &str| mods.contains(&m);
        let mode = mods
            .iter()
            .copied()
            .find(|m| matches!(*m, "rn" | "rz" | "rm" | "rp" | "rni" | "rzi" | "rmi" | "rpi"))
            .unwrap_or("");
        let (flush, saturated) = (has("ftz"), has("sat"));
        if has("relu") || to == "e5m2x2" || from == "e5m2x2" {
            return Err("a conversion that is not known".into());
        }
        if matches!(to, "f16x2" | "bf16x2" | "e4m3x2") && from == "f32" {
            let d = self.reg(&o[0], if to == "e4m3x2" { "b16" } else { "b32" })?;
            let (a, b) = (self.reg(&o[1], "f32")?, self.reg(&o[2], "f32")?);
            return self.emit(ops::pack(to), d, &[a, b]);
        }
        if from == "e4m3x2" {
            let (d, a) = (self.reg(&o[0], "b32")?, self.reg(&o[1], "b16")?);
            return self.emit(Some(ops::unpack_fp8()), d, &[a]);
        }
        let float = |t: &str| t.contains('f');
        let (d, wide) = self.any(&o[0], type_bits(to).ok_or("type")?.max(16), None)?;
        match (float(from), float(to)) {
            (true, true) => {
                let a = self.reg(&o[1], from)?;
                self.emit(ops::float_to_float(from, to, mode, flush, saturated), d, &[a])
            }
            (true, false) => {
                let a = self.reg(&o[1], from)?;
                let a = self.convert(ops::float_to_f64(from), a, 64)?;
                let a = self.convert(ops::float_to_int(to, mode, from == "f64"), a, 64)?;
                self.emit(ops::narrow(to, wide), d, &[a])
            }
            (false, _) => {
                let (a, bits) = self.any(&o[1], type_bits(from).ok_or("type")?.max(16), None)?;
                let signed = from.starts_with('s');
                if float(to) {
                    let a = self.convert(ops::widen(from, bits), a, 64)?;
                    let round = mode.chars().nth(1).unwrap_or('n');
                    return self.emit(ops::int_to_float(signed, to, round), d, &[a]);
                }
                if !saturated {
                    // The frequent ones in one step.
                    let f = match (from, bits, to, wide) {
                        ("u32", 32, "u64" | "s64", 64) => Some(one!(u32 => u64, |a| a as u64)),
                        ("s32", 32, "u64" | "s64", 64) => Some(one!(i32 => i64, |a| a as i64)),
                        ("u64" | "s64", 64, "u32" | "s32", 32) => {
                            Some(one!(u64 => u32, |a| a as u32))
                        }
                        ("u16", 16, "u32" | "s32", 32) => Some(one!(u16 => u32, |a| a as u32)),
                        ("s16", 16, "u32" | "s32", 32) => Some(one!(i16 => i32, |a| a as i32)),
                        ("u32" | "s32", 32, "u16" | "s16", 16) => {
                            Some(one!(u32 => u16, |a| a as u16))
                        }
                        _ => None,
                    };
                    if f.is_some() {
                        return self.emit(f, d, &[a]);
                    }
                }
                let mut a = self.convert(ops::widen(from, bits), a, 64)?;
                if saturated {
                    a = self.convert(ops::saturate(signed, to), a, 64)?;
                }
                self.emit(ops::narrow(to, wide), d, &[a])
            }
        }
    }
}

pub(super) trait Bits: Copy + Default {
    const BITS: u32;
    fn wide(self) -> u64;
    fn cut(x: u64) -> Self;
}

macro_rules! bits {
    ($($t:ty),+) => {
        $(impl Bits for $t {
            const BITS: u32 = <$t>::BITS;
            #[inline(always)]
            fn wide(self) -> u64 { self as u64 }
            #[inline(always)]
            fn cut(x: u64) -> Self { x as $t }
        })+
    };
}
bits!(u16, u32, u64);

unsafe fn part_of<T: Bits, P: Bits>(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        let x = *w.at::<T>(i.a);
        let mut out = [P::default(); 32];
        for l in 0..32 {
            out[l] = P::cut(x[l].wide() >> i.imm);
        }
        w.put(i.d, &out, m);
    }
}

unsafe fn join_of<T: Bits, P: Bits>(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        let mut out = [0u64; 32];
        for (n, part) in i.more.iter().enumerate() {
            let x = *w.at::<P>(*part);
            for l in 0..32 {
                out[l] |= x[l].wide() << (P::BITS * n as u32);
            }
        }
        let mut narrow = [T::default(); 32];
        for l in 0..32 {
            narrow[l] = T::cut(out[l]);
        }
        w.put(i.d, &narrow, m);
    }
}
