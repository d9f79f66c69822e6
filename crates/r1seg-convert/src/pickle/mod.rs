//! Pickles of `torch.save`, read by a machine that can build nothing but descriptions of tensors.
//!
//! [`machine`] walks the opcodes of protocols 2 to 5 over a stack, [`globals`] is the list of names
//! that a file may ask for, [`calls`] says what a call stands for, [`flatten`] makes names of nested
//! dicts. No name is looked up in any module, nothing is called, and what is built is bounded by the
//! bytes that are really there.

mod bytes;
mod calls;
mod error;
mod flatten;
mod globals;
mod machine;
mod opcodes;
mod value;

pub use error::PickleError;
pub(crate) use r1seg_checkpoint::MAX_TENSORS;
pub(crate) use r1seg_checkpoint::shown::name as sanitize;

use machine::Machine;
use r1seg_checkpoint::NumberFormat;
use value::Value;

/// The largest pickle that is read. Tensors are not in it; 100 000 descriptions take 20 MB.
pub(crate) const MAX_PICKLE_BYTES: u64 = 64 << 20;

/// A tensor as the pickle describes it; where its storage lies, the container knows.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) dtype: NumberFormat,
    pub(crate) shape: Vec<u64>,
    pub(crate) strides: Vec<u64>,
    /// The first number, counted in numbers from the start of the storage.
    pub(crate) offset: Option<u64>,
    pub(crate) storage: String,
    /// How many bytes the pickle says that the storage has.
    pub(crate) storage_bytes: Option<u64>,
}

/// The tensors of a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Description {
    pub(crate) tensors: Vec<Described>,
    /// Every storage that the pickle names, and the bytes of one of its numbers.
    pub(crate) storages: Vec<(String, usize)>,
    pub(crate) wrappers: Vec<String>,
    pub(crate) ignored: u64,
}

/// Reads the pickle at `position` of `bytes`; returns where it ends.
pub(crate) fn read_weights(
    bytes: &[u8],
    position: usize,
) -> Result<(Description, usize), PickleError> {
    let mut machine = Machine::new(bytes, position);
    let root = machine.run()?;
    let flat = flatten::flatten(&machine, root)?;
    let mut tensors = Vec::with_capacity(flat.tensors.len());
    for (name, tensor) in flat.tensors {
        let unit = tensor.storage.dtype.map_or(1, NumberFormat::size);
        tensors.push(Described {
            name,
            dtype: tensor.dtype,
            shape: tensor.shape,
            strides: tensor.strides,
            offset: tensor.offset.checked_add(tensor.storage.view_offset),
            storage: machine.str(tensor.storage.key)?.to_owned(),
            storage_bytes: tensor.storage.len.checked_mul(unit as u64),
        });
    }
    let mut storages = Vec::new();
    for value in &machine.values {
        if let Value::Storage(storage) = value {
            let key = machine.str(storage.key.clone())?.to_owned();
            storages.push((key, storage.dtype.map_or(1, NumberFormat::size)));
        }
    }
    let (wrappers, ignored) = (flat.wrappers, flat.ignored);
    let description = Description { tensors, storages, wrappers, ignored };
    Ok((description, machine.position))
}

/// Reads a pickle of one integer and returns its little-endian bytes.
pub(crate) fn read_integer(bytes: &[u8], position: usize) -> Result<(Vec<u8>, usize), PickleError> {
    let mut machine = Machine::new(bytes, position);
    let root = machine.run()?;
    let integer = match machine.value(root)? {
        Value::Int(number) => number.to_le_bytes().to_vec(),
        Value::Long(range) => bytes.get(range.clone()).unwrap_or_default().to_vec(),
        _ => return Err(machine.malformed("an integer is expected")),
    };
    Ok((integer, machine.position))
}

/// Reads a pickle of a dict and returns the truth value at `key`.
pub(crate) fn read_flag(
    bytes: &[u8],
    position: usize,
    key: &str,
) -> Result<(Option<bool>, usize), PickleError> {
    let mut machine = Machine::new(bytes, position);
    let root = machine.run()?;
    let Value::Dict(pairs) = machine.value(root)? else {
        return Err(machine.malformed("a dict is expected"));
    };
    let mut found = None;
    for (name, value) in pairs {
        if let (Value::Str(name), Value::Bool(value)) =
            (machine.value(*name)?, machine.value(*value)?)
            && machine.str(name.clone())? == key
        {
            found = Some(*value);
        }
    }
    Ok((found, machine.position))
}

/// Reads a pickle of a list of texts.
pub(crate) fn read_texts(
    bytes: &[u8],
    position: usize,
) -> Result<(Vec<String>, usize), PickleError> {
    let mut machine = Machine::new(bytes, position);
    let root = machine.run()?;
    let items = machine.items(root)?;
    let texts = items.iter().map(|item| machine.string(*item).map(str::to_owned));
    Ok((texts.collect::<Result<_, _>>()?, machine.position))
}
