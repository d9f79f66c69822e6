//! What a call in a pickle stands for. Nothing is called: tensors and plain containers are described.

use r1seg_checkpoint::NumberFormat;

use super::error::PickleError;
use super::globals::Global;
use super::machine::Machine;
use super::value::{Id, StorageRef, TensorRef, Value};

/// torch allows 64; weights have 5.
const MAX_RANK: usize = 16;

impl Machine<'_> {
    /// `callable(*arguments)`, whose result goes onto the stack.
    pub(super) fn call(&mut self, callable: Id, arguments: Id) -> Result<(), PickleError> {
        let Value::Global(global) = self.value(callable)? else {
            return Err(self.malformed("what is called is not a name"));
        };
        let (global, arguments) = (*global, self.items(arguments)?.to_vec());
        if global == Global::RebuildFromType {
            let [rebuild, class, inner, ..] = arguments.as_slice() else {
                return Err(self.malformed("a tensor with attributes lacks arguments"));
            };
            return match (self.value(*rebuild)?, self.value(*class)?) {
                (Value::Global(rebuild), Value::Global(Global::TensorClass)) => {
                    let (rebuild, inner) = (*rebuild, self.items(*inner)?.to_vec());
                    self.construct(rebuild, &inner)
                }
                _ => Err(self.malformed("a tensor of an unknown class")),
            };
        }
        self.construct(global, &arguments)
    }

    fn construct(&mut self, global: Global, arguments: &[Id]) -> Result<(), PickleError> {
        match (global, arguments) {
            (
                Global::RebuildTensor | Global::RebuildTensorV2,
                [storage, offset, shape, strides, ..],
            ) => {
                let tensor = self.tensor(*storage, *offset, *shape, *strides, None)?;
                self.push(Value::Tensor(Box::new(tensor)))
            }
            (Global::RebuildTensorV3, [storage, offset, shape, strides, _, _, dtype, ..]) => {
                let Value::Global(Global::Dtype(dtype)) = self.value(*dtype)? else {
                    return Err(self.malformed("a tensor's dtype is expected"));
                };
                let dtype = *dtype;
                let tensor = self.tensor(*storage, *offset, *shape, *strides, Some(dtype))?;
                self.push(Value::Tensor(Box::new(tensor)))
            }
            (Global::RebuildParameter | Global::RebuildParameterWithState, [data, ..]) => {
                match self.value(*data)? {
                    Value::Tensor(_) => {
                        self.push_id(*data);
                        Ok(())
                    }
                    _ => Err(self.malformed("a parameter without a tensor")),
                }
            }
            (Global::OrderedDict, []) | (Global::DefaultDict, [] | [_]) => {
                self.push(Value::Dict(Vec::new()))
            }
            (Global::OrderedDict, [items]) => {
                let mut pairs = Vec::new();
                for item in self.items(*items)? {
                    match self.items(*item)? {
                        [key, value] => pairs.push((*key, *value)),
                        _ => return Err(self.malformed("a key has no value")),
                    }
                }
                self.push(Value::Dict(pairs))
            }
            (Global::Size, [items]) => {
                let items = self.items(*items)?.to_vec();
                self.push(Value::Tuple(items))
            }
            (Global::Namespace, []) => self.push(Value::Namespace),
            (Global::Inert, _) => self.push(Value::Inert),
            _ => Err(self.malformed("a call with unexpected arguments")),
        }
    }

    /// The storage that a persistent id `('storage', type, key, device, length[, view])` names.
    pub(super) fn storage(&self, id: Id) -> Result<StorageRef, PickleError> {
        let [tag, class, key, _device, len, rest @ ..] = self.items(id)? else {
            return Err(self.malformed("a persistent id is not that of a storage"));
        };
        if self.string(*tag)? != "storage" {
            return Err(self.malformed("a persistent id is not that of a storage"));
        }
        let dtype = match self.value(*class)? {
            Value::Global(Global::Storage(dtype)) => *dtype,
            Value::Global(Global::Dtype(dtype)) => Some(*dtype),
            _ => return Err(self.malformed("a storage has no type")),
        };
        let Value::Str(key) = self.value(*key)? else {
            return Err(self.malformed("a storage has no key"));
        };
        let view_offset = match rest {
            [] => 0,
            [view] => match self.value(*view)? {
                Value::None => 0,
                Value::Tuple(view) => match view.as_slice() {
                    [_key, offset, _len] => self.count(*offset)?,
                    _ => return Err(self.malformed("a view of a storage has 3 parts")),
                },
                _ => return Err(self.malformed("a view of a storage has 3 parts")),
            },
            _ => return Err(self.malformed("a persistent id is not that of a storage")),
        };
        Ok(StorageRef { key: key.clone(), dtype, len: self.count(*len)?, view_offset })
    }

    fn tensor(
        &self,
        storage: Id,
        offset: Id,
        shape: Id,
        strides: Id,
        dtype: Option<NumberFormat>,
    ) -> Result<TensorRef, PickleError> {
        let Value::Storage(storage) = self.value(storage)? else {
            return Err(self.malformed("a tensor has no storage"));
        };
        let Some(dtype) = dtype.or(storage.dtype) else {
            return Err(self.malformed("a tensor over bytes has no dtype"));
        };
        let tensor = TensorRef {
            storage: storage.clone(),
            dtype,
            offset: self.count(offset)?,
            shape: self.counts(shape)?,
            strides: self.counts(strides)?,
        };
        if tensor.shape.len() != tensor.strides.len() {
            return Err(self.malformed("a tensor has not as many strides as axes"));
        }
        Ok(tensor)
    }

    pub(super) fn items(&self, id: Id) -> Result<&[Id], PickleError> {
        match self.value(id)? {
            Value::Tuple(items) | Value::List(items) => Ok(items),
            _ => Err(self.malformed("a tuple is expected")),
        }
    }

    fn counts(&self, id: Id) -> Result<Vec<u64>, PickleError> {
        let items = self.items(id)?;
        if items.len() > MAX_RANK {
            return Err(super::machine::limit("axes in a tensor", MAX_RANK));
        }
        items.iter().map(|item| self.count(*item)).collect()
    }

    fn count(&self, id: Id) -> Result<u64, PickleError> {
        match self.value(id)? {
            Value::Int(number) => {
                u64::try_from(*number).map_err(|_| self.malformed("a length is negative"))
            }
            _ => Err(self.malformed("a length is expected")),
        }
    }
}
