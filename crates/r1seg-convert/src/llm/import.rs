//! The language model of a GGUF file that exists, checked against the checkpoint that it joins.

use std::path::Path;

use r1seg_checkpoint::NumberFormat;
use r1seg_checkpoint::gguf::{Gguf, TensorInfo, Value};
use r1seg_checkpoint::keys::llama_cpp::{Part, is_recomputed};
use r1seg_checkpoint::shown::first_names;

use super::Chosen;
use super::decoder::{Decoder, Expected};
use super::policy::fitting;

use crate::error::tensors;
use crate::pickle::sanitize;
use crate::plan::Planned;
use crate::source::{Stored, open_regular};
use crate::tensor::contiguous_strides;
use crate::{Error, TensorEntry};

/// What r1seg multiplies with.
const KEPT: [NumberFormat; 6] = [
    NumberFormat::F32,
    NumberFormat::F16,
    NumberFormat::Bf16,
    NumberFormat::Q8_0,
    NumberFormat::Q6K,
    NumberFormat::Q4K,
];
/// What is read, and stored as something else.
const READ: [NumberFormat; 7] = [
    NumberFormat::Q4_0,
    NumberFormat::Q4_1,
    NumberFormat::Q5_0,
    NumberFormat::Q5_1,
    NumberFormat::Q2K,
    NumberFormat::Q3K,
    NumberFormat::Q5K,
];

/// Chooses the tensors of a GGUF file. `own` is the checkpoint's own language model, which they
/// replace, and `file` the index that the GGUF file will have among the sources. The file's type
/// comes along.
pub(super) fn open(
    decoder: &Decoder,
    own: &[Planned],
    path: &Path,
    file: usize,
) -> Result<(Vec<Chosen>, Option<Value>), Error> {
    let refuse = |what: String| Error::LanguageModel { path: path.to_owned(), what };
    let lora: Vec<&str> = own
        .iter()
        .filter(|planned| planned.update.is_some())
        .map(|planned| planned.from.entry.name.as_str())
        .collect();
    if !lora.is_empty() {
        let names = first_names(lora.into_iter());
        let what = format!("the checkpoint's LoRA updates have no weights to change: {names}");
        return Err(refuse(what));
    }
    let gguf = Gguf::open(&open_regular(path)?)
        .map_err(|source| Error::Gguf { path: path.to_owned(), source })?;
    check_kind(decoder, &gguf).map_err(&refuse)?;
    check_vocabulary(own, &gguf).map_err(&refuse)?;

    let mut chosen = Vec::new();
    let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
    let expected = decoder.expected();
    for expected in &expected {
        let name = expected.mapped.name.as_str();
        let is_tied = expected.mapped.part == Part::Output && decoder.tied;
        let own_output = gguf.tensors.get(name);
        let table = || gguf.tensors.get("token_embd.weight").filter(|_| is_tied);
        let Some(info) = own_output.or_else(table) else {
            missing.push(name);
            continue;
        };
        if info.shape != expected.shape {
            misshapen.push(format!("{name} {:?} for {:?}", info.shape, expected.shape));
            continue;
        }
        chosen.push(choose(expected, info, file).map_err(&refuse)?);
    }
    let known = |name: &&String| {
        is_recomputed(name) || expected.iter().any(|expected| expected.mapped.name == **name)
    };
    let unknown: Vec<&str> =
        gguf.tensors.keys().filter(|name| !known(name)).map(String::as_str).collect();
    for (names, what) in [
        (missing, ["is missing", "are missing"]),
        (
            misshapen.iter().map(String::as_str).collect(),
            ["has another shape", "have another shape"],
        ),
        (unknown, ["is not part of this model", "are not part of this model"]),
    ] {
        if !names.is_empty() {
            let said = tensors(names.len(), what);
            return Err(refuse(format!("{said}: {}", first_names(names.into_iter()))));
        }
    }
    chosen.sort_by_key(|chosen| chosen.planned.from.entry.start);
    Ok((
        chosen,
        gguf.metadata.get(super::FILE_TYPE).filter(|value| matches!(value, Value::U32(_))).cloned(),
    ))
}

/// Whether the file is of the model's kind. Shapes alone do not tell: the number of heads decides
/// how rows lie.
fn check_kind(decoder: &Decoder, gguf: &Gguf) -> Result<(), String> {
    let architecture = decoder.architecture.name();
    match gguf.text("general.architecture") {
        Some(found) if found == architecture => {}
        Some(found) => {
            let found = sanitize(found);
            return Err(format!("it is a `{found}`; the checkpoint needs a `{architecture}`"));
        }
        None => return Err("it has no general.architecture".to_owned()),
    }
    for (field, expected) in [
        ("attention.head_count", decoder.heads),
        ("attention.head_count_kv", decoder.kv_heads),
        ("rope.dimension_count", decoder.head_dim),
    ] {
        let found = gguf.metadata.get(&format!("{architecture}.{field}")).and_then(Value::to_u64);
        if let Some(found) = found.filter(|found| *found != expected) {
            return Err(format!("its {field} is {found}; config.json says {expected}"));
        }
    }
    Ok(())
}

/// Added tokens, `[SEG]` among them, have rows that only the fine-tuned model has.
fn check_vocabulary(own: &[Planned], gguf: &Gguf) -> Result<(), String> {
    let rows = |shape: &[u64]| shape.first().copied().unwrap_or(0);
    let table = own.iter().find(|p| p.from.entry.name == "model.embed_tokens.weight");
    let stored = gguf.tensors.get("token_embd.weight");
    if let (Some(table), Some(stored)) = (table, stored) {
        let (needed, found) = (rows(&table.from.shape()), rows(&stored.shape));
        if found != needed {
            return Err(format!(
                "its vocabulary has {found} rows, the checkpoint's {needed}: the rows of [SEG] and \
                 other added tokens are the fine-tuned model's"
            ));
        }
    }
    Ok(())
}

fn choose(expected: &Expected, info: &TensorInfo, file: usize) -> Result<Chosen, String> {
    let found = info.format;
    let stored = match expected.mapped.part {
        _ if !KEPT.contains(&found) && !READ.contains(&found) => {
            let (name, found) = (&expected.mapped.name, found.name());
            return Err(format!("tensor `{name}` is stored as {found}, which is not supported"));
        }
        Part::Embedding => NumberFormat::Bf16,
        Part::Vector => NumberFormat::F32,
        Part::Output | Part::Linear if KEPT.contains(&found) => found,
        Part::Output | Part::Linear => fitting(NumberFormat::Q8_0, info.columns()),
    };
    // Bytes in rows, as far as reading is concerned.
    let mut shape = info.shape.clone();
    if let Some(columns) = shape.last_mut() {
        *columns = info.row_bytes();
    }
    let entry = TensorEntry {
        name: expected.published.clone(),
        dtype: NumberFormat::U8,
        strides: contiguous_strides(&shape),
        shape,
        start: info.range.start,
        storage: [info.range.start, info.range.end],
    };
    Ok(Chosen::new(expected, Stored::new(file, entry), None, [found, stored], Some(found)))
}
