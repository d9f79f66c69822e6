//! From the value of a pickle to named tensors: wrappers taken off, training state left out.

use std::collections::HashSet;

use r1seg_checkpoint::safetensors::is_usable_name;

use super::machine::{Machine, limit};
use super::value::{Id, TensorRef, Value};
use super::{MAX_TENSORS, PickleError, sanitize};

/// Where training scripts put the weights, when they save more than these.
const WRAPPERS: [&str; 4] = ["model", "state_dict", "model_state_dict", "module"];
/// What they save beside them, with tensors in it that are not weights.
const TRAINING_STATE: [&str; 9] = [
    "optimizer",
    "optimizers",
    "optimizer_state",
    "optimizer_states",
    "optimizer_state_dict",
    "scheduler",
    "lr_scheduler",
    "lr_schedulers",
    "callbacks",
];
const MAX_DEPTH: usize = 32;
const MAX_NAME: usize = 1024;
const MAX_NAME_BYTES: usize = 32 << 20;
/// Entries of dicts that are looked at.
const MAX_STEPS: usize = 4 << 20;

/// Named tensors, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Flat {
    pub(super) tensors: Vec<(String, TensorRef)>,
    /// The wrappers that were taken off, outermost first.
    pub(super) wrappers: Vec<String>,
    /// Values beside the weights: numbers, texts, optimizer states.
    pub(super) ignored: u64,
}

pub(super) fn flatten(machine: &Machine<'_>, root: Id) -> Result<Flat, PickleError> {
    let mut flat = Flat::default();
    let mut root = root;
    while let Some((name, inner, beside)) = unwrap(machine, root)? {
        flat.wrappers.push(name);
        flat.ignored += beside;
        root = inner;
        if flat.wrappers.len() > WRAPPERS.len() {
            return Err(limit("wrappers around the weights", WRAPPERS.len()));
        }
    }
    if !matches!(machine.value(root)?, Value::Dict(_)) {
        let what = "the file does not hold a dict of tensors".to_owned();
        return Err(PickleError::Container { what });
    }

    let mut names = HashSet::new();
    // A stack, not recursion, and a bound on its work: a dict may hold itself.
    let mut pending = vec![(String::new(), root, 0)];
    let (mut steps, mut name_bytes) = (0usize, 0usize);
    while let Some((name, id, depth)) = pending.pop() {
        match machine.value(id)? {
            Value::Tensor(tensor) => {
                check_name(&name)?;
                if !names.insert(name.clone()) {
                    return Err(PickleError::Tensor {
                        name: sanitize(&name),
                        what: "is there twice".to_owned(),
                    });
                }
                if flat.tensors.len() >= MAX_TENSORS {
                    return Err(limit("tensors", MAX_TENSORS));
                }
                flat.tensors.push((name, tensor.as_ref().clone()));
            }
            Value::Dict(pairs) => {
                if depth >= MAX_DEPTH {
                    return Err(limit("nested dicts", MAX_DEPTH));
                }
                steps += pairs.len();
                if steps > MAX_STEPS {
                    return Err(limit("values around the weights", MAX_STEPS));
                }
                for (key, value) in pairs.iter().rev() {
                    let Value::Str(key) = machine.value(*key)? else {
                        flat.ignored += 1;
                        continue;
                    };
                    let key = machine.str(key.clone())?;
                    let is_weights =
                        matches!(machine.value(*value)?, Value::Tensor(_) | Value::Dict(_));
                    if !is_weights || depth == 0 && TRAINING_STATE.contains(&key) {
                        flat.ignored += 1;
                        continue;
                    }
                    let name =
                        if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
                    if name.len() > MAX_NAME {
                        return Err(limit("bytes in the name of a tensor", MAX_NAME));
                    }
                    name_bytes += name.len();
                    if name_bytes > MAX_NAME_BYTES {
                        return Err(limit("bytes in names of tensors", MAX_NAME_BYTES));
                    }
                    pending.push((name, *value, depth + 1));
                }
            }
            _ => flat.ignored += 1,
        }
    }
    Ok(flat)
}

/// The dict inside a wrapper, its name, and how many values lie beside it. The names of a state dict
/// are whole paths, so that a dict under one of these names is never a part of the weights; a tensor
/// beside it is a random state or the like.
fn unwrap(machine: &Machine<'_>, id: Id) -> Result<Option<(String, Id, u64)>, PickleError> {
    let Value::Dict(pairs) = machine.value(id)? else {
        return Ok(None);
    };
    let mut found: Option<(String, Id, u64)> = None;
    let mut looked_into = Vec::new();
    for (key, value) in pairs {
        let Value::Str(key) = machine.value(*key)? else {
            continue;
        };
        let Ok(key) = machine.str(key.clone()) else {
            continue;
        };
        if !WRAPPERS.contains(&key) || !matches!(machine.value(*value)?, Value::Dict(_)) {
            continue;
        }
        if looked_into.contains(&key) {
            let what = format!("the file holds `{key}` twice");
            return Err(PickleError::Container { what });
        }
        looked_into.push(key);
        if !holds_tensors(machine, *value, WRAPPERS.len())? {
            continue;
        }
        if let Some((first, ..)) = &found {
            let what = format!("both `{first}` and `{key}` of the file hold weights");
            return Err(PickleError::Container { what });
        }
        found = Some((key.to_owned(), *value, pairs.len() as u64 - 1));
    }
    Ok(found)
}

/// Whether a tensor lies in a dict, or in dicts within.
fn holds_tensors(machine: &Machine<'_>, id: Id, depth: usize) -> Result<bool, PickleError> {
    let mut level = vec![id];
    for _ in 0..depth {
        let mut next = Vec::new();
        for id in level {
            let Value::Dict(pairs) = machine.value(id)? else {
                continue;
            };
            for (_, value) in pairs {
                match machine.value(*value)? {
                    Value::Tensor(_) => return Ok(true),
                    Value::Dict(_) if next.len() < MAX_TENSORS => next.push(*value),
                    _ => {}
                }
            }
        }
        // A dict that is named often is looked at once.
        next.sort_unstable();
        next.dedup();
        level = next;
    }
    Ok(false)
}

fn check_name(name: &str) -> Result<(), PickleError> {
    if !is_usable_name(name) {
        let what = "has an invalid name".to_owned();
        return Err(PickleError::Tensor { name: sanitize(name), what });
    }
    Ok(())
}
