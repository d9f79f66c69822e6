//! From a function's statements to instructions for the interpreter.

use crate::exec::{Exec, Instr, Kernel, Kind, NONE, Special, Warp};
use crate::ops;
use crate::ptx::{Function, Module, Operand, type_bits};
use std::collections::HashMap;

mod arithmetic;
mod bits;
mod body;
mod instruction;
mod known;
mod moves;
mod together;
mod trap;

type Result<T> = std::result::Result<T, String>;

#[derive(Clone, Debug)]
enum Binding {
    /// Offset in the registers, bits (1: predicate).
    Register(u32, u32),
    /// A family `%r<55>`: bits.
    Family(u32),
    /// Offset in shared memory, in local memory.
    Shared(u64),
    Local(u64),
    /// Offset among the kernel's parameters.
    Parameter(u64),
}

pub struct Lowering<'a> {
    module: &'a Module,
    /// Addresses of the module's variables.
    globals: &'a HashMap<String, u64>,
    code: Vec<Instr>,
    registers: u32,
    constants: Vec<(u32, u32, u64)>,
    constant_at: HashMap<(u32, u64), u32>,
    specials: Vec<(Special, u32)>,
    special_at: HashMap<String, u32>,
    scopes: Vec<HashMap<String, Binding>>,
    module_shared: HashMap<String, u64>,
    shared: u64,
    local: u64,
    has_barrier: bool,
    carry: Option<u32>,
    depth: u32,
}

unsafe fn nothing(_: &mut Warp, _: &Instr, _: u32) {}

fn plain(f: Exec) -> Instr {
    Instr {
        f,
        kind: Kind::Alu,
        negate: false,
        guard: NONE,
        d: NONE,
        a: NONE,
        b: NONE,
        c: NONE,
        e: NONE,
        imm: 0,
        target: NONE,
        line: 0,
        more: Vec::new(),
    }
}

fn align(at: u64, to: usize) -> u64 {
    at.next_multiple_of(to.max(1) as u64)
}

/// Where dynamic shared memory starts, until the static part's size is known.
const DYNAMIC: u64 = 1 << 40;

pub fn kernel(
    module: &Module,
    globals: &HashMap<String, u64>,
    function: &Function,
) -> Result<Kernel> {
    let mut low = Lowering {
        module,
        globals,
        code: Vec::new(),
        registers: 0,
        constants: Vec::new(),
        constant_at: HashMap::new(),
        specials: Vec::new(),
        special_at: HashMap::new(),
        scopes: vec![HashMap::new()],
        module_shared: HashMap::new(),
        shared: 0,
        local: 0,
        has_barrier: false,
        carry: None,
        depth: 0,
    };
    let (mut at, mut parameters) = (0, Vec::new());
    for p in &function.parameters {
        at = align(at, p.align);
        low.scopes[0].insert(p.name.clone(), Binding::Parameter(at));
        parameters.push((at as usize, p.size));
        at += p.size as u64;
    }
    low.body(&function.body, true)?;
    let mut exit = plain(nothing);
    exit.kind = Kind::Exit;
    low.code.push(exit);
    let static_shared = low.shared.next_multiple_of(16);
    for (_, _, bits) in &mut low.constants {
        if *bits >= DYNAMIC && *bits < DYNAMIC + (1 << 20) {
            *bits = *bits - DYNAMIC + static_shared;
        }
    }
    Ok(Kernel {
        name: function.name.clone(),
        code: low.code,
        register_bytes: low.registers as usize,
        constants: low.constants,
        specials: low.specials,
        static_shared: static_shared as usize,
        local: low.local as usize,
        parameters,
        parameter_bytes: at as usize,
        has_barrier: low.has_barrier,
        max_threads: function.max_threads,
    })
}

impl Lowering<'_> {
    fn new_register(&mut self, bits: u32) -> u32 {
        let (size, to) = match bits {
            1 => (4, 4),
            _ => (bits / 8 * 32, 64),
        };
        self.registers = self.registers.next_multiple_of(to);
        let at = self.registers;
        self.registers += size;
        at
    }

    fn constant(&mut self, bits: u32, value: u64) -> u32 {
        let value = match bits {
            // Mended at the end.
            _ if (DYNAMIC..DYNAMIC + (1 << 20)).contains(&value) => value,
            16 => value & 0xFFFF,
            32 => value & 0xFFFF_FFFF,
            _ => value,
        };
        if let Some(at) = self.constant_at.get(&(bits, value)) {
            return *at;
        }
        let at = self.new_register(bits);
        self.constants.push((at, bits / 8, value));
        self.constant_at.insert((bits, value), at);
        at
    }

    fn look_up(&mut self, name: &str) -> Option<Binding> {
        let digits = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        for n in (0..self.scopes.len()).rev() {
            if let Some(found) = self.scopes[n].get(name)
                && !matches!(found, Binding::Family(_))
            {
                return Some(found.clone());
            }
            if digits < name.len()
                && let Some(Binding::Family(bits)) = self.scopes[n].get(&name[..digits])
            {
                let bits = *bits;
                let found = Binding::Register(self.new_register(bits), bits);
                self.scopes[n].insert(name.into(), found.clone());
                return Some(found);
            }
        }
        None
    }

    fn special(&mut self, name: &str) -> Option<u32> {
        if let Some(at) = self.special_at.get(name) {
            return Some(*at);
        }
        let axis = match name.rsplit('.').next() {
            Some("x") => 0,
            Some("y") => 1,
            _ => 2,
        };
        let special = match name {
            "%tid.x" | "%tid.y" | "%tid.z" => Special::Tid(axis),
            "%ntid.x" | "%ntid.y" | "%ntid.z" => Special::Ntid(axis),
            "%ctaid.x" | "%ctaid.y" | "%ctaid.z" => Special::Ctaid(axis),
            "%nctaid.x" | "%nctaid.y" | "%nctaid.z" => Special::Nctaid(axis),
            "%laneid" => Special::Lane,
            "%warpid" => Special::WarpId,
            "%nwarpid" => Special::NWarpId,
            "%lanemask_eq" => Special::LaneMask('e', 'q'),
            "%lanemask_lt" => Special::LaneMask('l', 't'),
            "%lanemask_le" => Special::LaneMask('l', 'e'),
            "%lanemask_gt" => Special::LaneMask('g', 't'),
            "%lanemask_ge" => Special::LaneMask('g', 'e'),
            "%dynamic_smem_size" => Special::DynamicShared,
            "%total_smem_size" => Special::TotalShared,
            "%smid" => Special::SmId,
            "%gridid" | "%clock" | "%globaltimer_lo" => Special::GridId,
            _ => return None,
        };
        let at = self.new_register(32);
        self.specials.push((special, at));
        self.special_at.insert(name.into(), at);
        Some(at)
    }

    /// The address that a variable's name stands for, in its space.
    fn symbol(&mut self, name: &str) -> Result<Option<u64>> {
        match self.look_up(name) {
            Some(Binding::Shared(at) | Binding::Local(at)) => return Ok(Some(at)),
            Some(_) => return Ok(None),
            None => {}
        }
        if let Some(at) = self.module_shared.get(name) {
            return Ok(Some(*at));
        }
        if let Some(address) = self.globals.get(name) {
            return Ok(Some(*address));
        }
        let Some(v) = self.module.variables.iter().find(|v| v.name == name) else {
            return Ok(None);
        };
        if v.space != ".shared" {
            return Err(format!("variable {name} of {} has no address", v.space));
        }
        let at = if v.size == 0 {
            DYNAMIC
        } else {
            self.shared = align(self.shared, v.align);
            let at = self.shared;
            self.shared += v.size as u64;
            at
        };
        self.module_shared.insert(name.into(), at);
        Ok(Some(at))
    }

    /// The register of an operand and its bits; immediates take `bits`.
    fn any(&mut self, operand: &Operand, bits: u32, float: Option<&str>) -> Result<(u32, u32)> {
        match operand {
            Operand::Name(name) => {
                if let Some(Binding::Register(at, found)) = self.look_up(name) {
                    return Ok((at, found));
                }
                if let Some(at) = self.special(name) {
                    return Ok((at, 32));
                }
                match name.as_str() {
                    "WARP_SZ" => return Ok((self.constant(bits, 32), bits)),
                    "%clock64" | "%globaltimer" => return Ok((self.constant(64, 0), 64)),
                    "_" => return Ok((NONE, bits)),
                    _ => {}
                }
                match self.symbol(name)? {
                    Some(address) => Ok((self.constant(bits, address), bits)),
                    None => Err(format!("unknown name {name}")),
                }
            }
            Operand::Offset(name, offset) => match self.symbol(name)? {
                Some(address) => {
                    Ok((self.constant(bits, address.wrapping_add(*offset as u64)), bits))
                }
                None => Err(format!("unknown name {name}")),
            },
            Operand::Int(value) => {
                let value = match float {
                    Some("f32") => u64::from((*value as f32).to_bits()),
                    Some("f64") => (*value as f64).to_bits(),
                    _ => *value as u64,
                };
                Ok((self.constant(bits, value), bits))
            }
            Operand::F32(value) => match bits {
                64 => Ok((self.constant(64, f64::from(f32::from_bits(*value)).to_bits()), 64)),
                _ => Ok((self.constant(32, u64::from(*value)), 32)),
            },
            Operand::F64(value) => match bits {
                32 => {
                    let narrow = f64::from_bits(*value) as f32;
                    Ok((self.constant(32, u64::from(narrow.to_bits())), 32))
                }
                _ => Ok((self.constant(64, *value), 64)),
            },
            other => Err(format!("operand {other:?}")),
        }
    }

    /// A register of exactly that type's width.
    fn reg(&mut self, operand: &Operand, ty: &str) -> Result<u32> {
        let bits = type_bits(ty).ok_or_else(|| format!("type {ty}"))?;
        let (at, found) = self.any(operand, bits, Some(ty))?;
        if found == bits {
            return Ok(at);
        }
        if found > bits && found != 1 {
            // The low part: narrowed first.
            let to = self.new_register(bits);
            let wide = if found == 64 {
                at
            } else {
                self.convert(ops::widen(&format!("u{found}"), found), at, 64)?
            };
            let mut i = plain(ops::narrow(&format!("u{bits}"), bits).ok_or("narrow")?);
            (i.d, i.a) = (to, wide);
            self.code.push(i);
            return Ok(to);
        }
        Err(format!("{operand:?} has {found} bits, not {bits}"))
    }

    fn pred(&mut self, operand: &Operand) -> Result<(u32, bool)> {
        let (name, negate) = match operand {
            Operand::Name(name) => (name, false),
            Operand::Not(name) => (name, true),
            other => return Err(format!("predicate {other:?}")),
        };
        match self.look_up(name) {
            Some(Binding::Register(at, 1)) => Ok((at, negate)),
            other => Err(format!("predicate {name}: {other:?}")),
        }
    }

    /// Emits a step into a new register.
    fn convert(&mut self, f: Option<Exec>, from: u32, bits: u32) -> Result<u32> {
        let to = self.new_register(bits);
        let mut i = plain(f.ok_or("a conversion that is not known")?);
        (i.d, i.a) = (to, from);
        self.code.push(i);
        Ok(to)
    }
}
