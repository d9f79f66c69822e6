//! What lanes do together, and what reaches shared memory.

use super::{Lowering, Result, nothing, plain};
use crate::exec::{Kind, NONE};
use crate::lanes;
use crate::ptx::{Operand, type_bits};

impl Lowering<'_> {
    pub(super) fn together(
        &mut self,
        root: &str,
        mods: &[&str],
        ty: &str,
        o: &[Operand],
    ) -> Result<()> {
        let has = |m: &str| mods.contains(&m);
        match root {
            "shfl" => {
                let (d, p) = match &o[0] {
                    Operand::Pair(d, p) => (Operand::Name(d.clone()), Some(p.clone())),
                    other => (other.clone(), None),
                };
                let d = self.reg(&d, "b32")?;
                let (a, b, c) =
                    (self.reg(&o[1], "b32")?, self.reg(&o[2], "b32")?, self.reg(&o[3], "b32")?);
                let mut i = plain(lanes::shuffle);
                i.kind = Kind::Together;
                (i.d, i.a, i.b, i.c) = (d, a, b, c);
                i.e = match o.get(4) {
                    Some(mask) => self.reg(mask, "b32")?,
                    None => NONE,
                };
                if let Some(p) = p.filter(|p| p != "_") {
                    i.target = self.pred(&Operand::Name(p))?.0;
                }
                i.more = vec![match () {
                    () if has("up") => 0,
                    () if has("down") => 1,
                    () if has("bfly") => 2,
                    () => 3,
                }];
                self.code.push(i);
                Ok(())
            }
            "vote" => {
                let ballot = has("ballot");
                let d = if ballot { self.reg(&o[0], "b32")? } else { self.pred(&o[0])?.0 };
                let (a, negate) = self.pred(&o[1])?;
                let mut i = plain(lanes::vote);
                i.kind = Kind::Together;
                (i.d, i.a) = (d, a);
                i.e = match o.get(2) {
                    Some(mask) => self.reg(mask, "b32")?,
                    None => NONE,
                };
                let which = match () {
                    () if has("all") => 0,
                    () if has("any") => 1,
                    () if has("uni") => 2,
                    () => 3,
                };
                i.more = vec![which, u32::from(negate)];
                self.code.push(i);
                Ok(())
            }
            "activemask" => {
                let d = self.reg(&o[0], "b32")?;
                self.emit(Some(lanes::active_mask), d, &[])
            }
            "redux" => {
                let (d, a) = (self.reg(&o[0], "b32")?, self.reg(&o[1], "b32")?);
                let mut i = plain(lanes::reduce);
                i.kind = Kind::Together;
                (i.d, i.a, i.e) = (d, a, self.reg(&o[2], "b32")?);
                let names = ["add", "min", "max", "and", "or", "xor"];
                let which = names.iter().position(|n| has(n)).ok_or("an operation")?;
                i.more = vec![which as u32, u32::from(ty == "s32")];
                self.code.push(i);
                Ok(())
            }
            "match" => {
                let (d, p) = match &o[0] {
                    Operand::Pair(d, p) => (Operand::Name(d.clone()), Some(p.clone())),
                    other => (other.clone(), None),
                };
                let (d, a) = (self.reg(&d, "b32")?, self.reg(&o[1], ty)?);
                let mut i = plain(lanes::matching);
                i.kind = Kind::Together;
                (i.d, i.a, i.e) = (d, a, self.reg(&o[2], "b32")?);
                if let Some(p) = p {
                    i.target = self.pred(&Operand::Name(p))?.0;
                }
                i.more = vec![u32::from(has("all")), type_bits(ty).ok_or("type")?];
                self.code.push(i);
                Ok(())
            }
            "mma" => self.mma(mods, o),
            "ldmatrix" => {
                let Operand::Vector(items) = &o[0] else {
                    return Err("no registers".into());
                };
                let Operand::Address(base, offset) = &o[1] else {
                    return Err("no address".into());
                };
                let base = base.clone().ok_or("no base")?;
                let (a, bits) = self.any(&Operand::Name(base), 32, None)?;
                let mut i = plain(lanes::load_matrix);
                i.kind = Kind::Together;
                (i.a, i.target) = (a, bits);
                i.imm = offset * 2 + i64::from(has("trans"));
                for item in items {
                    i.more.push(self.reg(item, "b32")?);
                }
                self.code.push(i);
                Ok(())
            }
            "cp" if has("commit_group") || has("wait_group") || has("wait_all") => {
                let f =
                    if has("commit_group") { lanes::commit_copies } else { lanes::wait_for_copies };
                let mut i = plain(f);
                i.kind = Kind::Memory;
                i.imm = match o.first() {
                    Some(Operand::Int(groups)) => *groups,
                    _ => -1,
                };
                self.code.push(i);
                Ok(())
            }
            "cp" if has("async") && !has("bulk") => {
                let (to, from) = match (&o[0], &o[1]) {
                    (Operand::Address(Some(a), x), Operand::Address(Some(b), y)) => {
                        ((a.clone(), *x), (b.clone(), *y))
                    }
                    _ => return Err("addresses".into()),
                };
                let (a, bits) = self.any(&Operand::Name(to.0), 32, None)?;
                let (b, _) = self.any(&Operand::Name(from.0), 64, None)?;
                let Operand::Int(size) = o[2] else {
                    return Err("a size".into());
                };
                let mut i = plain(lanes::copy_async);
                i.kind = Kind::Memory;
                (i.a, i.b, i.imm, i.e) = (a, b, to.1, from.1 as u32);
                (i.target, i.more) = (size as u32, vec![bits]);
                if let Some(n) = o.get(3) {
                    i.c = self.reg(n, "b32")?;
                }
                self.code.push(i);
                Ok(())
            }
            _ => Err("not known to this emulator".into()),
        }
    }

    pub(super) fn atomic(
        &mut self,
        result: bool,
        mods: &[&str],
        ty: &str,
        o: &[Operand],
    ) -> Result<()> {
        let names = ["add", "min", "max", "and", "or", "xor", "exch", "inc", "dec", "cas"];
        let name = names.iter().find(|n| mods.contains(n)).ok_or("an operation")?;
        let o = if result { o.to_vec() } else { [&[Operand::Name("_".into())], o].concat() };
        let (a, bits, offset, space) = self.address(mods, &o[1])?;
        let width = type_bits(ty).ok_or("type")?;
        let op = lanes::atomic_name(name, ty).ok_or("an operation")?;
        let mut i = plain(lanes::atomic_op(width, bits, space).ok_or("an atomic")?);
        i.kind = Kind::Memory;
        let (d, _) = self.any(&o[0], width, None)?;
        (i.d, i.a, i.imm, i.e) = (d, a, offset, op as u32);
        i.b = self.reg(&o[2], ty)?;
        if let Some(c) = o.get(3) {
            i.c = self.reg(c, ty)?;
        }
        self.code.push(i);
        Ok(())
    }

    pub(super) fn barrier(&mut self, mods: &[&str], o: &[Operand]) -> Result<()> {
        let mut i = plain(nothing);
        if mods.contains(&"warp") {
            i.kind = Kind::Together;
            i.e = self.reg(&o[0], "b32")?;
        } else if mods.contains(&"sync") && o.len() <= 1 && !mods.contains(&"cluster") {
            i.kind = Kind::Barrier;
            self.has_barrier = true;
        } else {
            return Err("a barrier that is not known".into());
        }
        self.code.push(i);
        Ok(())
    }

    pub(super) fn mma(&mut self, mods: &[&str], o: &[Operand]) -> Result<()> {
        let k = match () {
            () if mods.contains(&"m16n8k16") => 16,
            () if mods.contains(&"m16n8k8") => 8,
            () if mods.contains(&"m16n8k4") => 4,
            () => return Err("a shape of mma".into()),
        };
        let types: Vec<&str> = mods.iter().copied().filter(|m| type_bits(m).is_some()).collect();
        let [d, a, b, c] = types[..] else {
            return Err("four types".into());
        };
        let kind = match (a, b) {
            ("f16", "f16") => 0,
            ("bf16", "bf16") => 1,
            ("tf32", "tf32") => 2,
            _ => return Err("types of mma".into()),
        };
        if d != c {
            return Err("types of mma".into());
        }
        let mut i = plain(lanes::mma);
        i.kind = Kind::Together;
        i.imm = k | kind << 8 | i64::from(d == "f16") << 10;
        for operand in o {
            let Operand::Vector(items) = operand else {
                return Err("no registers".into());
            };
            for item in items {
                let (r, _) = self.any(item, 32, Some("f32"))?;
                i.more.push(r);
            }
        }
        self.code.push(i);
        Ok(())
    }
}
