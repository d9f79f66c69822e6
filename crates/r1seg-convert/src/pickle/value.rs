//! What a pickle's opcodes leave behind: inert values in an arena, that name each other by number.

use std::ops::Range;

use r1seg_checkpoint::NumberFormat;

use super::globals::Global;

/// A value of the arena. Shared values are shared, never copied, so that a pickle cannot grow by
/// naming the same value often.
pub(super) type Id = u32;

#[derive(Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits: where its bytes are.
    Long(Range<usize>),
    /// Where the text is in the pickle.
    Str(Range<usize>),
    /// Everything that weights never depend on.
    Inert,
    /// A namespace, which takes fields and is looked into by nobody.
    Namespace,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(StorageRef),
    Tensor(Box<TensorRef>),
}

/// A storage, as a persistent id names it.
#[derive(Debug, Clone)]
pub(super) struct StorageRef {
    /// Where its key is in the pickle.
    pub(super) key: Range<usize>,
    /// `None`: a storage of bytes.
    pub(super) dtype: Option<NumberFormat>,
    /// Numbers (or bytes) in it.
    pub(super) len: u64,
    /// Where a view into it begins, in numbers. Old files have these.
    pub(super) view_offset: u64,
}

/// A tensor: a view of a storage.
#[derive(Debug, Clone)]
pub(super) struct TensorRef {
    pub(super) storage: StorageRef,
    pub(super) dtype: NumberFormat,
    /// In numbers.
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    pub(super) strides: Vec<u64>,
}
