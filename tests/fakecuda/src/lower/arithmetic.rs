//! Arithmetic, comparisons and predicates.

use super::moves::Bits;
use super::{Lowering, Result, plain};
use crate::exec::{Exec, Instr, NONE, Warp};
use crate::ops;
use crate::ptx::{Operand, type_bits};

impl Lowering<'_> {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn arithmetic(
        &mut self,
        root: &str,
        mods: &[&str],
        ty: &str,
        round: char,
        flush: bool,
        saturated: bool,
        nan: bool,
        o: &[Operand],
    ) -> Result<()> {
        const ROOTS: [&str; 27] = [
            "add", "sub", "mul", "mad", "fma", "div", "rem", "abs", "neg", "min", "max", "and",
            "or", "xor", "not", "cnot", "brev", "sad", "rcp", "sqrt", "rsqrt", "sin", "cos", "lg2",
            "ex2", "tanh", "copysign",
        ];
        if !ROOTS.contains(&root) {
            return Err("not known to this emulator".into());
        }
        let mut regs = Vec::new();
        for operand in o {
            regs.push(self.reg(operand, ty)?);
        }
        let approx = mods.contains(&"approx");
        let f = match ty {
            "f32" => ops::f32_op(root, round, flush, saturated, nan),
            "f64" if approx => ops::f64_approximate(root),
            "f64" => ops::f64_op(root, round, nan),
            "f16" | "bf16" | "f16x2" | "bf16x2" => {
                let name =
                    if mods.contains(&"relu") { format!("{root}.relu") } else { root.into() };
                ops::half_op(&name, ty, nan)
            }
            _ => {
                let name = match () {
                    () if mods.contains(&"lo") => format!("{root}.lo"),
                    () if mods.contains(&"hi") => format!("{root}.hi"),
                    () => root.into(),
                };
                if saturated { None } else { ops::integer(&name, ty) }
            }
        };
        self.emit(f, regs[0], &regs[1..])
    }

    pub(super) fn wide(&mut self, root: &str, ty: &str, o: &[Operand]) -> Result<()> {
        let bits = type_bits(ty).ok_or("type")? * 2;
        let wide = format!("u{bits}");
        let d = self.reg(&o[0], &wide)?;
        let (a, b) = (self.reg(&o[1], ty)?, self.reg(&o[2], ty)?);
        let mut sources = vec![a, b];
        if root == "mad" {
            sources.push(self.reg(&o[3], &wide)?);
        }
        self.emit(ops::wide(root, ty), d, &sources)
    }

    pub(super) fn select(&mut self, d: u32, a: u32, b: u32, p: u32, bits: u32) -> Result<()> {
        macro_rules! choose {
            ($t:ty) => {{
                unsafe fn f(w: &mut Warp, i: &Instr, m: u32) {
                    unsafe {
                        let (x, y, p) = (*w.at::<$t>(i.a), *w.at::<$t>(i.b), *w.pred(i.c));
                        let mut out = [<$t>::default(); 32];
                        for l in 0..32 {
                            out[l] = if p >> l & 1 != 0 { x[l] } else { y[l] };
                        }
                        w.put(i.d, &out, m);
                    }
                }
                f as Exec
            }};
        }
        let f = match bits {
            16 => choose!(u16),
            32 => choose!(u32),
            _ => choose!(u64),
        };
        self.emit(Some(f), d, &[a, b, p])
    }

    pub(super) fn setp(&mut self, mods: &[&str], ty: &str, o: &[Operand]) -> Result<()> {
        let (name, second) = match &o[0] {
            Operand::Pair(p, q) => (Operand::Name(p.clone()), Some(Operand::Name(q.clone()))),
            other => (other.clone(), None),
        };
        let (d, _) = self.pred(&name)?;
        let (a, b) = (self.reg(&o[1], ty)?, self.reg(&o[2], ty)?);
        let join = mods.iter().find(|m| matches!(**m, "and" | "or" | "xor"));
        let f = ops::set_predicate(mods[0], ty);
        if join.is_none() && second.is_none() {
            return self.emit(f, d, &[a, b]);
        }
        let t = self.new_register(1);
        self.emit(f, t, &[a, b])?;
        let (c, negate) = match join {
            Some(_) => self.pred(&o[3])?,
            None => (t, false),
        };
        let f: Exec = match join {
            Some(&"or") => |w, i, m| unsafe { predicates(w, i, m, |a, b| a | b) },
            Some(&"xor") => |w, i, m| unsafe { predicates(w, i, m, |a, b| a ^ b) },
            _ => |w, i, m| unsafe { predicates(w, i, m, |a, b| a & b) },
        };
        // The second destination is the same of the comparison's opposite.
        let q = match &second {
            Some(Operand::Name(q)) if q != "_" => Some(self.pred(&Operand::Name(q.clone()))?.0),
            _ => None,
        };
        let kept = self.new_register(1);
        let mut i = plain(|w, i, m| unsafe { predicates(w, i, m, |a, _| a) });
        (i.d, i.a, i.b) = (kept, c, c);
        self.code.push(i);
        let c = if join.is_some() { kept } else { t };
        let mut i = plain(f);
        (i.d, i.a, i.b, i.imm) = (d, t, c, i64::from(negate) << 1);
        self.code.push(i);
        if let Some(q) = q {
            let mut i = plain(f);
            (i.d, i.a, i.b) = (q, t, c);
            i.imm = 1 | i64::from(if join.is_some() { negate } else { true }) << 1;
            self.code.push(i);
        }
        Ok(())
    }

    pub(super) fn carry(
        &mut self,
        root: &str,
        high: bool,
        out: bool,
        ty: &str,
        o: &[Operand],
    ) -> Result<()> {
        let flag = match self.carry {
            Some(flag) => flag,
            None => {
                let flag = self.new_register(1);
                self.carry = Some(flag);
                flag
            }
        };
        let mut regs = Vec::new();
        for operand in o {
            regs.push(self.reg(operand, ty)?);
        }
        let bits = type_bits(ty).ok_or("type")?;
        let mut i = plain(if bits == 64 { carried::<u64> } else { carried::<u32> });
        (i.d, i.a, i.b) = (regs[0], regs[1], regs[2]);
        i.c = regs.get(3).copied().unwrap_or(NONE);
        i.target = flag;
        let takes = root.ends_with('c');
        let kind = match root {
            "add" | "addc" => 0,
            "sub" | "subc" => 1,
            _ => 2,
        };
        i.imm = kind | i64::from(high) << 4 | i64::from(takes) << 5 | i64::from(out) << 6;
        i.imm |= i64::from(ty.starts_with('s')) << 7;
        self.code.push(i);
        Ok(())
    }
}

/// `imm`: the comparison; `more`: whether the halves are bf16, what yes is in 16 bits.
pub(super) unsafe fn set_pair(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        let (a, b) = (*w.at::<u32>(i.a), *w.at::<u32>(i.b));
        let float = |bits: u32| {
            if i.more[0] != 0 {
                half::bf16::from_bits(bits as u16).to_f32()
            } else {
                half::f16::from_bits(bits as u16).to_f32()
            }
        };
        let holds = |x: f32, y: f32| {
            let nan = x.is_nan() || y.is_nan();
            match COMPARISONS[i.imm as usize] {
                "eq" => x == y,
                "ne" => !nan && x != y,
                "lt" => x < y,
                "le" => x <= y,
                "gt" => x > y,
                "ge" => x >= y,
                "equ" => nan || x == y,
                "neu" => x != y,
                "ltu" => nan || x < y,
                "leu" => nan || x <= y,
                "gtu" => nan || x > y,
                "geu" => nan || x >= y,
                "num" => !nan,
                _ => nan,
            }
        };
        let mut out = [0u32; 32];
        for l in 0..32 {
            for shift in [0, 16] {
                if holds(float(a[l] >> shift), float(b[l] >> shift)) {
                    out[l] |= i.more[1] << shift;
                }
            }
        }
        w.put(i.d, &out, m);
    }
}

#[inline(always)]
pub(super) unsafe fn predicates(w: &mut Warp, i: &Instr, m: u32, f: impl Fn(u32, u32) -> u32) {
    unsafe {
        let mut a = *w.pred(i.a);
        let mut b = *w.pred(i.b);
        if i.imm & 1 != 0 {
            a = !a;
        }
        if i.imm & 2 != 0 {
            b = !b;
        }
        let d = w.pred(i.d);
        *d = *d & !m | f(a, b) & m;
    }
}

pub(super) const COMPARISONS: [&str; 14] =
    ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];

unsafe fn carried<T: Bits>(w: &mut Warp, i: &Instr, m: u32) {
    unsafe {
        let (a, b) = (*w.at::<T>(i.a), *w.at::<T>(i.b));
        let c = if i.c == NONE { [T::default(); 32] } else { *w.at::<T>(i.c) };
        let flags = *w.pred(i.target);
        let (kind, high, takes, out) =
            (i.imm & 15, i.imm & 16 != 0, i.imm & 32 != 0, i.imm & 64 != 0);
        let mask = u128::MAX >> (128 - T::BITS);
        let mut result = [T::default(); 32];
        let mut carries = 0u32;
        for l in 0..32 {
            let flag = if takes { u128::from(flags >> l & 1) } else { 0 };
            let (x, y, z) =
                (u128::from(a[l].wide()), u128::from(b[l].wide()), u128::from(c[l].wide()));
            let sum = match kind {
                0 => x + y + flag,
                1 => x.wrapping_sub(y).wrapping_sub(flag),
                _ => {
                    let product = if i.imm & 128 != 0 && high {
                        let sign = |v: u128| ((v << (128 - T::BITS)) as i128) >> (128 - T::BITS);
                        (sign(x) * sign(y)) as u128
                    } else {
                        x * y
                    };
                    (if high { product >> T::BITS & mask } else { product & mask }) + z + flag
                }
            };
            result[l] = T::cut((sum & mask) as u64);
            carries |= u32::from(sum & !mask != 0) << l;
        }
        w.put(i.d, &result, m);
        if out {
            let p = w.pred(i.target);
            *p = *p & !m | carries & m;
        }
    }
}
