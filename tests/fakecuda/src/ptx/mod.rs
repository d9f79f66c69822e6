//! Reads PTX.

use std::collections::HashMap;

mod module;
mod reader;
mod tokens;

pub use module::parse;

#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Name(String),
    Int(i64),
    /// Bits of an f32 (`0f`) or an f64 (`0d` and decimals).
    F32(u32),
    F64(u64),
    /// `[base + offset]`; without a base an absolute address.
    Address(Option<String>, i64),
    /// `name + offset`
    Offset(String, i64),
    Vector(Vec<Operand>),
    /// `a|b`
    Pair(String, String),
    Not(String),
    /// `(a, b)` of a call
    List(Vec<Operand>),
}

#[derive(Debug, Clone)]
pub struct Variable {
    pub space: String,
    pub align: usize,
    /// Bytes of one element.
    pub width: usize,
    pub name: String,
    /// Bytes of the whole; 0 where an `extern` array has no bound.
    pub size: usize,
    pub external: bool,
    pub init: Vec<Init>,
}

#[derive(Debug, Clone)]
pub enum Init {
    Bits(u64),
    Address(String, i64),
}

#[derive(Debug, Clone)]
pub enum Statement {
    Open,
    Close,
    Label(String),
    /// Width in bits (1 for predicates), prefix or name, count (0: the bare name).
    Register(u32, String, u32),
    Variable(Variable),
    Instruction {
        line: u32,
        guard: Option<(bool, String)>,
        op: String,
        operands: Vec<Operand>,
    },
}

#[derive(Debug, Clone)]
pub struct Parameter {
    pub name: String,
    pub size: usize,
    pub align: usize,
}

#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    pub entry: bool,
    pub parameters: Vec<Parameter>,
    pub results: Vec<Parameter>,
    pub body: Vec<Statement>,
    pub max_threads: Option<u32>,
}

#[derive(Debug, Default)]
pub struct Module {
    pub variables: Vec<Variable>,
    pub functions: HashMap<String, Function>,
    pub target: String,
}

pub fn type_bits(name: &str) -> Option<u32> {
    Some(match name {
        "pred" => 1,
        "b8" | "u8" | "s8" | "e4m3" | "e5m2" => 8,
        "b16" | "u16" | "s16" | "f16" | "bf16" => 16,
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" | "tf32" => 32,
        "b64" | "u64" | "s64" | "f64" | "f32x2" => 64,
        "b128" => 128,
        _ => return None,
    })
}

type Result<T> = std::result::Result<T, String>;
