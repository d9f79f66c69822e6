//! The pickle machine: a stack, a memo, and values that do nothing.

use std::collections::HashMap;

use super::error::PickleError;
use super::globals;
use super::opcodes as op;
use super::sanitize;
use super::value::{Id, Value};

/// More opcodes than any checkpoint has: 100 000 tensors take about 4 million.
pub(super) const MAX_OPCODES: usize = 8 << 20;
/// More values than they leave.
pub(super) const MAX_VALUES: usize = 2 << 20;
const MAX_STACK: usize = 1 << 20;
const MAX_MARKS: usize = 1 << 10;

/// The state while a pickle is read.
pub(super) struct Machine<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) position: usize,
    pub(super) values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8], position: usize) -> Self {
        Self {
            bytes,
            position,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Reads up to STOP and returns what the pickle is.
    pub(super) fn run(&mut self) -> Result<Id, PickleError> {
        for _ in 0..MAX_OPCODES {
            let opcode = self.byte()?;
            if opcode == op::STOP {
                return self.pop();
            }
            self.step(opcode)?;
            if self.stack.len() > MAX_STACK {
                return Err(limit("values on the stack", MAX_STACK));
            }
        }
        Err(limit("opcodes", MAX_OPCODES))
    }

    fn step(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            op::PROTO => {
                let protocol = self.byte()?;
                if !(2..=5).contains(&protocol) {
                    return Err(self.malformed("its protocol is not 2 to 5"));
                }
                Ok(())
            }
            op::FRAME => {
                let length = self.length(8)?;
                if length > self.bytes.len().saturating_sub(self.position) {
                    return Err(PickleError::Truncated { at: self.bytes.len() });
                }
                Ok(())
            }
            op::MARK => {
                if self.marks.len() >= MAX_MARKS {
                    return Err(limit("nested marks", MAX_MARKS));
                }
                self.marks.push(self.stack.len());
                Ok(())
            }
            op::POP => {
                // A mark counts as one value.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                    return Ok(());
                }
                self.pop().map(drop)
            }
            op::POP_MARK => self.pop_mark().map(drop),
            op::DUP => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }

            op::NONE => self.push(Value::None),
            op::NEWTRUE => self.push(Value::Bool(true)),
            op::NEWFALSE => self.push(Value::Bool(false)),
            op::BININT => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()))
            }
            op::BININT1 => {
                let number = self.byte()?;
                self.push(Value::Int(number.into()))
            }
            op::BININT2 => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()))
            }
            op::LONG1 => {
                let length = self.length(1)?;
                self.long(length)
            }
            op::LONG4 => {
                let length = self.length(4)?;
                self.long(length)
            }
            op::BINFLOAT => {
                self.array::<8>()?;
                self.push(Value::Inert)
            }

            op::SHORT_BINSTRING | op::SHORT_BINUNICODE => self.text(1),
            op::BINSTRING | op::BINUNICODE => self.text(4),
            op::BINUNICODE8 => self.text(8),
            op::SHORT_BINBYTES => self.skip_bytes(1),
            op::BINBYTES => self.skip_bytes(4),
            op::BINBYTES8 | op::BYTEARRAY8 => self.skip_bytes(8),

            op::EMPTY_TUPLE => self.push(Value::Tuple(Vec::new())),
            op::TUPLE1 => self.tuple(1),
            op::TUPLE2 => self.tuple(2),
            op::TUPLE3 => self.tuple(3),
            op::TUPLE => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items))
            }
            op::EMPTY_LIST => self.push(Value::List(Vec::new())),
            op::LIST => {
                let items = self.pop_mark()?;
                self.push(Value::List(items))
            }
            op::APPEND => {
                let item = self.pop()?;
                self.extend_list(vec![item])
            }
            op::APPENDS => {
                let items = self.pop_mark()?;
                self.extend_list(items)
            }
            op::EMPTY_DICT => self.push(Value::Dict(Vec::new())),
            op::DICT => {
                let items = self.pop_mark()?;
                let pairs = self.pairs(&items)?;
                self.push(Value::Dict(pairs))
            }
            op::SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(vec![(key, value)])
            }
            op::SETITEMS => {
                let items = self.pop_mark()?;
                let pairs = self.pairs(&items)?;
                self.extend_dict(pairs)
            }
            op::EMPTY_SET => self.push(Value::Inert),
            op::ADDITEMS => {
                self.pop_mark()?;
                let set = self.top()?;
                match self.value(set)? {
                    Value::Inert => Ok(()),
                    _ => Err(self.malformed("items are added to something that is not a set")),
                }
            }
            op::FROZENSET => {
                self.pop_mark()?;
                self.push(Value::Inert)
            }

            op::BINPUT => {
                let index = self.byte()?;
                self.remember(index.into())
            }
            op::LONG_BINPUT => {
                let index = u32::from_le_bytes(self.array()?);
                self.remember(index)
            }
            op::MEMOIZE => {
                // The memo never holds more than the arena, whose size fits.
                let index = u32::try_from(self.memo.len()).unwrap_or(u32::MAX);
                self.remember(index)
            }
            op::BINGET => {
                let index = self.byte()?;
                self.recall(index.into())
            }
            op::LONG_BINGET => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index)
            }

            op::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_global(module, name)
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (module, name) = (self.string(module)?, self.string(name)?);
                self.push_global(module, name)
            }
            op::REDUCE | op::NEWOBJ => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call(callable, arguments)
            }
            op::NEWOBJ_EX => {
                let (keywords, arguments, callable) = (self.pop()?, self.pop()?, self.pop()?);
                match self.value(keywords)? {
                    Value::Dict(pairs) if pairs.is_empty() => self.call(callable, arguments),
                    _ => Err(self.malformed("a call with keyword arguments")),
                }
            }
            op::BUILD => {
                let state = self.pop()?;
                let object = self.top()?;
                match (self.value(object)?, self.value(state)?) {
                    // Attributes beside the weights, such as the versions in `_metadata`.
                    (Value::Dict(_) | Value::Tensor(_) | Value::Inert, _) => Ok(()),
                    (Value::Namespace, Value::Dict(_)) => Ok(()),
                    _ => Err(self.malformed("a state for what has none")),
                }
            }
            op::BINPERSID => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Value::Storage(storage))
            }
            _ => Err(PickleError::Opcode {
                at: self.position.saturating_sub(1),
                opcode: op::refused_name(opcode),
            }),
        }
    }

    // Stack, memo and arena.

    pub(super) fn malformed(&self, what: &str) -> PickleError {
        PickleError::Malformed { at: self.position, what: what.to_owned() }
    }

    pub(super) fn value(&self, id: Id) -> Result<&Value, PickleError> {
        let value = usize::try_from(id).ok().and_then(|id| self.values.get(id));
        value.ok_or_else(|| self.malformed("a value is missing"))
    }

    fn value_mut(&mut self, id: Id) -> Result<&mut Value, PickleError> {
        let at = self.position;
        let value = usize::try_from(id).ok().and_then(|id| self.values.get_mut(id));
        value.ok_or(PickleError::Malformed { at, what: "a value is missing".to_owned() })
    }

    pub(super) fn push(&mut self, value: Value) -> Result<(), PickleError> {
        let id = Id::try_from(self.values.len()).ok().filter(|_| self.values.len() < MAX_VALUES);
        let Some(id) = id else {
            return Err(limit("values", MAX_VALUES));
        };
        self.values.push(value);
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn push_id(&mut self, id: Id) {
        self.stack.push(id);
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        // What lies below a mark belongs to what is being built around it.
        if self.marks.last() == Some(&self.stack.len()) {
            return Err(self.malformed("a value is taken across a mark"));
        }
        self.stack.pop().ok_or_else(|| self.malformed("the stack is empty"))
    }

    fn top(&self) -> Result<Id, PickleError> {
        if self.marks.last() == Some(&self.stack.len()) {
            return Err(self.malformed("a value is taken across a mark"));
        }
        self.stack.last().copied().ok_or_else(|| self.malformed("the stack is empty"))
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => Err(self.malformed("there is no mark")),
        }
    }

    fn remember(&mut self, index: u32) -> Result<(), PickleError> {
        let top = self.top()?;
        if self.memo.len() >= MAX_VALUES {
            return Err(limit("values in the memo", MAX_VALUES));
        }
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), PickleError> {
        match self.memo.get(&index) {
            Some(id) => {
                self.stack.push(*id);
                Ok(())
            }
            None => Err(self.malformed("a value of the memo is missing")),
        }
    }

    // Values.

    fn long(&mut self, length: usize) -> Result<(), PickleError> {
        let range = self.take(length)?;
        let bytes = self.bytes.get(range.clone()).unwrap_or_default();
        if length > 8 {
            return self.push(Value::Long(range));
        }
        // Two's complement: the sign fills what is missing.
        let negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
        let mut wide = if negative { [0xff; 8] } else { [0; 8] };
        for (wide, byte) in wide.iter_mut().zip(bytes) {
            *wide = *byte;
        }
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn text(&mut self, length_bytes: usize) -> Result<(), PickleError> {
        let length = self.length(length_bytes)?;
        let range = self.take(length)?;
        self.push(Value::Str(range))
    }

    fn skip_bytes(&mut self, length_bytes: usize) -> Result<(), PickleError> {
        let length = self.length(length_bytes)?;
        self.take(length)?;
        self.push(Value::Inert)
    }

    fn tuple(&mut self, length: usize) -> Result<(), PickleError> {
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items))
    }

    fn extend_list(&mut self, mut items: Vec<Id>) -> Result<(), PickleError> {
        let list = self.top()?;
        match self.value_mut(list)? {
            Value::List(list) => list.append(&mut items),
            Value::Inert => {}
            _ => return Err(self.malformed("items are appended to something that is not a list")),
        }
        Ok(())
    }

    fn pairs(&self, items: &[Id]) -> Result<Vec<(Id, Id)>, PickleError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a key has no value"));
        }
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    fn extend_dict(&mut self, mut pairs: Vec<(Id, Id)>) -> Result<(), PickleError> {
        let dict = self.top()?;
        match self.value_mut(dict)? {
            Value::Dict(dict) => dict.append(&mut pairs),
            Value::Inert => {}
            _ => return Err(self.malformed("items are set in something that is not a dict")),
        }
        Ok(())
    }

    fn push_global(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        match globals::find(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(PickleError::Global { name: sanitize(&format!("{module}.{name}")) }),
        }
    }
}

pub(super) fn limit(what: &str, limit: usize) -> PickleError {
    PickleError::Limit { what: what.to_owned(), limit: limit as u64 }
}
