//! Statements one after another: scopes, labels and branches, calls inlined.

use super::trap::{assertion, print};
use super::{Binding, DYNAMIC, Lowering, Result, align, nothing, plain};
use crate::exec::{Exec, Kind, NONE};
use crate::ptx::{Operand, Statement};
use std::collections::HashMap;

impl Lowering<'_> {
    pub(super) fn body(&mut self, body: &[Statement], entry: bool) -> Result<()> {
        self.depth += 1;
        if self.depth > 24 {
            return Err("calls that are nested too deep or recursive".into());
        }
        let base = self.scopes.len();
        self.scopes.push(HashMap::new());
        let mut labels: HashMap<String, u32> = HashMap::new();
        let mut jumps: Vec<(usize, String)> = Vec::new();
        let mut returns = Vec::new();
        for statement in body {
            match statement {
                Statement::Open => self.scopes.push(HashMap::new()),
                Statement::Close => {
                    self.scopes.pop();
                }
                Statement::Label(name) => {
                    labels.insert(name.clone(), self.code.len() as u32);
                }
                Statement::Register(bits, name, count) => {
                    let binding = if *count == 0 {
                        Binding::Register(self.new_register(*bits), *bits)
                    } else {
                        Binding::Family(*bits)
                    };
                    self.scopes.last_mut().expect("a scope").insert(name.clone(), binding);
                }
                Statement::Variable(v) => {
                    let binding = match v.space.as_str() {
                        ".shared" => {
                            if v.size == 0 {
                                Binding::Shared(DYNAMIC)
                            } else {
                                self.shared = align(self.shared, v.align);
                                self.shared += v.size as u64;
                                Binding::Shared(self.shared - v.size as u64)
                            }
                        }
                        ".local" | ".param" => {
                            self.local = align(self.local, v.align.max(8));
                            self.local += v.size as u64;
                            Binding::Local(self.local - v.size as u64)
                        }
                        other => return Err(format!("variable of {other} in a function")),
                    };
                    self.scopes.last_mut().expect("a scope").insert(v.name.clone(), binding);
                }
                Statement::Instruction { line, guard, op, operands } => {
                    let start = self.code.len();
                    let root = op.split('.').next().unwrap_or(op);
                    let told = |e: String| format!("PTX line {line}: {op}: {e}");
                    match root {
                        "bra" => {
                            let Some(Operand::Name(label)) = operands.first() else {
                                return Err(told("no label".into()));
                            };
                            let mut i = plain(nothing);
                            i.kind = Kind::Branch;
                            jumps.push((start, label.clone()));
                            self.code.push(i);
                        }
                        "ret" if !entry => {
                            let mut i = plain(nothing);
                            i.kind = Kind::Branch;
                            returns.push(start);
                            self.code.push(i);
                        }
                        "ret" | "exit" => {
                            let mut i = plain(nothing);
                            i.kind = Kind::Exit;
                            self.code.push(i);
                        }
                        "call" => self.call(operands, guard.is_some()).map_err(told)?,
                        _ => self.instruction(op, operands).map_err(told)?,
                    }
                    let bound = match guard {
                        Some((negate, name)) => {
                            let (at, _) = self.pred(&Operand::Name(name.clone())).map_err(told)?;
                            Some((at, *negate))
                        }
                        None => None,
                    };
                    // Of a step in several, the last is the one that writes what is named.
                    for i in &mut self.code[start..] {
                        if i.line == 0 {
                            i.line = *line;
                            if let Some((at, negate)) = bound
                                && i.guard == NONE
                            {
                                (i.guard, i.negate) = (at, negate);
                            }
                        }
                    }
                }
            }
        }
        self.scopes.truncate(base);
        for (at, label) in jumps {
            self.code[at].target =
                *labels.get(&label).ok_or_else(|| format!("no label {label}"))?;
        }
        let end = self.code.len() as u32;
        for at in returns {
            self.code[at].target = end;
        }
        self.depth -= 1;
        Ok(())
    }

    pub(super) fn call(&mut self, operands: &[Operand], guarded: bool) -> Result<()> {
        let mut lists = operands.iter();
        let mut next = lists.next();
        let mut results: &[Operand] = &[];
        if let Some(Operand::List(found)) = next {
            results = found;
            next = lists.next();
        }
        let Some(Operand::Name(name)) = next else {
            return Err(format!("call of {next:?}"));
        };
        let arguments: &[Operand] = match lists.next() {
            Some(Operand::List(found)) => found,
            _ => &[],
        };
        let slot = |low: &mut Self, operand: &Operand| -> Result<u64> {
            if let Operand::Name(n) = operand
                && let Some(Binding::Local(at)) = low.look_up(n)
            {
                return Ok(at);
            }
            Err(format!("an argument {operand:?} that is no .param"))
        };
        if matches!(name.as_str(), "__assertfail" | "__assert_fail" | "vprintf") {
            let mut i = plain(if name == "vprintf" { print } else { assertion });
            i.kind = Kind::Trap;
            for a in arguments {
                let at = slot(self, a)?;
                i.more.push(at as u32);
            }
            if let (Some(r), "vprintf") = (results.first(), name.as_str()) {
                let _ = slot(self, r)?;
            }
            self.code.push(i);
            return Ok(());
        }
        if guarded {
            return Err("a call under a predicate".into());
        }
        let module = self.module;
        let Some(function) = module.functions.get(name) else {
            return Err(format!("no function {name} in the module"));
        };
        let mut scope = HashMap::new();
        for (p, a) in function.parameters.iter().zip(arguments) {
            scope.insert(p.name.clone(), Binding::Local(slot(self, a)?));
        }
        for (p, r) in function.results.iter().zip(results) {
            scope.insert(p.name.clone(), Binding::Local(slot(self, r)?));
        }
        // Only its own names, besides the module's.
        let scopes = std::mem::replace(&mut self.scopes, vec![scope]);
        let done = self.body(&function.body, false);
        self.scopes = scopes;
        done
    }

    pub(super) fn emit(&mut self, f: Option<Exec>, d: u32, sources: &[u32]) -> Result<()> {
        let mut i = plain(f.ok_or("not known to this emulator")?);
        i.d = d;
        let mut sources = sources.iter().copied();
        i.a = sources.next().unwrap_or(NONE);
        i.b = sources.next().unwrap_or(NONE);
        i.c = sources.next().unwrap_or(NONE);
        self.code.push(i);
        Ok(())
    }
}
