//! Which function lowers an instruction.

use super::arithmetic::{COMPARISONS, predicates, set_pair};
use super::known::known;
use super::trap::trapped;
use super::{Lowering, Result, plain};
use crate::exec::{Exec, Kind};
use crate::ops::compare;
use crate::ptx::{Operand, type_bits};
use crate::{lanes, ops};

impl Lowering<'_> {
    pub(super) fn instruction(&mut self, op: &str, o: &[Operand]) -> Result<()> {
        let parts: Vec<&str> = op.split('.').collect();
        let (root, mods) = (parts[0], &parts[1..]);
        let has = |m: &str| mods.contains(&m);
        let ty = mods.iter().rev().find(|m| type_bits(m).is_some()).copied().unwrap_or("");
        let round = mods
            .iter()
            .find_map(|m| match *m {
                "rn" => Some('n'),
                "rz" => Some('z'),
                "rm" => Some('m'),
                "rp" => Some('p'),
                _ => None,
            })
            .unwrap_or('n');
        let (flush, saturated, nan) = (has("ftz"), has("sat"), has("NaN"));
        if let Some(odd) = mods.iter().find(|m| !known(root, m)) {
            return Err(format!(".{odd} is not known to this emulator"));
        }
        match root {
            "mov" => self.mov(ty, o),
            "ld" | "ldu" => self.load(mods, ty, o),
            "st" => self.store(mods, ty, o),
            "cvta" => {
                let to = has("to");
                let space = if has("shared") {
                    lanes::SHARED
                } else if has("local") {
                    lanes::LOCAL
                } else {
                    lanes::GENERIC
                };
                let d = self.reg(&o[0], ty)?;
                let a = self.reg(&o[1], ty)?;
                let mut i = plain(lanes::convert_address(space));
                (i.d, i.a, i.imm) = (d, a, if to { -1 } else { 1 });
                self.code.push(i);
                Ok(())
            }
            "cvt" => self.cvt(mods, o),
            "setp" => self.setp(mods, ty, o),
            "set" if ty.ends_with("x2") => {
                let d = self.reg(&o[0], "b32")?;
                let (a, b) = (self.reg(&o[1], "b32")?, self.reg(&o[2], "b32")?);
                let names = COMPARISONS.iter().position(|n| *n == mods[0]);
                let mut i = plain(set_pair);
                (i.d, i.a, i.b) = (d, a, b);
                i.imm = names.ok_or("a comparison")? as i64;
                let to = *mods.iter().find(|m| type_bits(m).is_some()).unwrap_or(&ty);
                let yes = match to {
                    "f16x2" => 0x3C00,
                    "bf16x2" => 0x3F80,
                    "u32" | "s32" => 0xFFFF,
                    _ => return Err("a type".into()),
                };
                i.more = vec![u32::from(ty == "bf16x2"), yes];
                self.code.push(i);
                Ok(())
            }
            "set" => {
                let from = ty;
                let to = *mods.iter().find(|m| type_bits(m).is_some()).unwrap_or(&ty);
                let p = self.new_register(1);
                let (a, b) = (self.reg(&o[1], from)?, self.reg(&o[2], from)?);
                let d = self.reg(&o[0], to)?;
                let f = ops::set_predicate(mods[0], from);
                self.emit(f, p, &[a, b])?;
                let (bits, yes) = match to {
                    "f32" => (32, u64::from(1f32.to_bits())),
                    "f16" => (16, 0x3C00),
                    "bf16" => (16, 0x3F80),
                    "u16" | "s16" => (16, 0xFFFF),
                    _ => (32, 0xFFFF_FFFF),
                };
                let (yes, no) = (self.constant(bits, yes), self.constant(bits, 0));
                self.select(d, yes, no, p, bits)
            }
            "selp" => {
                let bits = type_bits(ty).ok_or("type")?;
                let (d, a, b) = (self.reg(&o[0], ty)?, self.reg(&o[1], ty)?, self.reg(&o[2], ty)?);
                let (p, negate) = self.pred(&o[3])?;
                if negate { self.select(d, b, a, p, bits) } else { self.select(d, a, b, p, bits) }
            }
            "slct" => {
                let (to, by) = (mods[mods.len() - 2], mods[mods.len() - 1]);
                let p = self.new_register(1);
                let c = self.reg(&o[3], by)?;
                let zero = self.constant(32, 0);
                self.emit(ops::set_predicate("ge", by), p, &[c, zero])?;
                let (d, a, b) = (self.reg(&o[0], to)?, self.reg(&o[1], to)?, self.reg(&o[2], to)?);
                self.select(d, a, b, p, type_bits(to).ok_or("type")?)
            }
            "and" | "or" | "xor" | "not" if ty == "pred" => {
                let (d, _) = self.pred(&o[0])?;
                let (a, na) = self.pred(&o[1])?;
                let (b, nb) = if o.len() > 2 { self.pred(&o[2])? } else { (a, false) };
                let f: Exec = match root {
                    "and" => |w, i, m| unsafe { predicates(w, i, m, |a, b| a & b) },
                    "or" => |w, i, m| unsafe { predicates(w, i, m, |a, b| a | b) },
                    "xor" => |w, i, m| unsafe { predicates(w, i, m, |a, b| a ^ b) },
                    _ => |w, i, m| unsafe { predicates(w, i, m, |a, _| !a) },
                };
                let mut i = plain(f);
                (i.d, i.a, i.b, i.imm) = (d, a, b, i64::from(na) | i64::from(nb) << 1);
                self.code.push(i);
                Ok(())
            }
            "mul" | "mad" if has("wide") => self.wide(root, ty, o),
            "add" | "sub" | "addc" | "subc" | "mad" | "madc"
                if has("cc") || root.ends_with("c") =>
            {
                self.carry(root, has("hi"), has("cc"), ty, o)
            }
            "shl" | "shr" | "popc" | "clz" | "bfind" | "bfe" | "bfi" | "prmt" | "lop3" | "shf"
            | "dp4a" => self.bits(root, mods, ty, o),
            "testp" => {
                let (d, _) = self.pred(&o[0])?;
                let a = self.reg(&o[1], ty)?;
                let f = match (mods[0], ty) {
                    ("finite", "f32") => compare!(f32, |a, _b| a.is_finite()),
                    ("infinite", "f32") => compare!(f32, |a, _b| a.is_infinite()),
                    ("notanumber", "f32") => compare!(f32, |a, _b| a.is_nan()),
                    ("number", "f32") => compare!(f32, |a, _b| !a.is_nan()),
                    ("infinite", "f64") => compare!(f64, |a, _b| a.is_infinite()),
                    ("notanumber", "f64") => compare!(f64, |a, _b| a.is_nan()),
                    ("finite", "f64") => compare!(f64, |a, _b| a.is_finite()),
                    _ => return Err("a test".into()),
                };
                self.emit(Some(f), d, &[a, a])
            }
            "atom" | "red" => self.atomic(root == "atom", mods, ty, o),
            "bar" | "barrier" => self.barrier(mods, o),
            "membar" | "fence" | "prefetch" | "prefetchu" | "nanosleep" | "discard"
            | "applypriority" | "griddepcontrol" | "setmaxnreg" => Ok(()),
            "shfl" | "vote" | "activemask" | "redux" | "match" | "mma" | "ldmatrix" | "cp" => {
                self.together(root, mods, ty, o)
            }
            "trap" | "brkpt" => {
                let mut i = plain(trapped);
                i.kind = Kind::Trap;
                self.code.push(i);
                Ok(())
            }
            _ => self.arithmetic(root, mods, ty, round, flush, saturated, nan, o),
        }
    }
}
