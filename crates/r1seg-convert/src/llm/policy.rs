//! Which tensor becomes what. `docs/quantization.md` says it in words.

use std::collections::{HashMap, HashSet};

use r1seg_checkpoint::NumberFormat;
use r1seg_checkpoint::keys::llama_cpp::Part;
use r1seg_checkpoint::shown::first_names;

use super::decoder::{Decoder, Expected};
use super::{Chosen, Quant};
use crate::Error;

use crate::error::tensors;
use crate::lora::Update;
use crate::plan::Planned;
use crate::source::Stored;

impl Quant {
    /// What a tensor should become.
    fn wanted(self, part: Part) -> NumberFormat {
        match (part, self) {
            // Looked up, not multiplied.
            (Part::Embedding, _) => NumberFormat::Bf16,
            (Part::Vector, _) => NumberFormat::F32,
            // What it rounds goes straight into the choice of a word.
            (Part::Output, Self::Q4K) => NumberFormat::Q6K,
            (_, quant) => quant.format(),
        }
    }
}

/// The type that fits a row: the wanted one, else q8_0, else bf16.
pub(super) fn fitting(wanted: NumberFormat, columns: u64) -> NumberFormat {
    let fits = |format: &NumberFormat| columns.is_multiple_of(format.block_len());
    [wanted, NumberFormat::Q8_0].into_iter().find(fits).unwrap_or(NumberFormat::Bf16)
}

/// Checks that the checkpoint has the decoder of its `config.json`, and chooses a type for each of
/// its tensors. They keep their order; a tied output layer comes last.
pub(super) fn choose(
    decoder: &Decoder,
    own: Vec<Planned>,
    quant: Quant,
) -> Result<Vec<Chosen>, Error> {
    let expected = decoder.expected();
    let by_name: HashMap<&str, &Expected> =
        expected.iter().map(|expected| (expected.published.as_str(), expected)).collect();
    let refuse = |what: String| Error::LanguageModel { path: decoder.path.clone(), what };

    let choose = |expected: &Expected, from: Stored, update: Option<Update>| {
        let wanted = quant.wanted(expected.mapped.part);
        let columns = expected.shape.last().copied().unwrap_or(1);
        Chosen::new(expected, from, update, [wanted, fitting(wanted, columns)], None)
    };
    let mut chosen = Vec::new();
    let mut tied = None;
    let mut found = HashSet::new();
    let mut unexpected = Vec::new();
    for planned in own {
        let entry = &planned.from.entry;
        let Some(expected) = by_name.get(entry.name.as_str()) else {
            unexpected.push(entry.name.clone());
            continue;
        };
        if planned.from.shape() != expected.shape || !entry.dtype.is_float() {
            let what = format!(
                "tensor `{}` is {:?} of shape {:?}; config.json asks for {:?}",
                entry.name,
                entry.dtype,
                planned.from.shape(),
                expected.shape
            );
            return Err(refuse(what));
        }
        if expected.mapped.part == Part::Embedding && decoder.tied {
            tied = Some((planned.from.clone(), planned.update.clone()));
        }
        found.insert(entry.name.clone());
        chosen.push(choose(expected, planned.from, planned.update));
    }
    if !unexpected.is_empty() {
        let names = first_names(unexpected.iter().map(String::as_str));
        let said = ["has no place in config.json", "have no place in config.json"];
        return Err(refuse(format!("{}: {names}", tensors(unexpected.len(), said))));
    }
    let mut missing = Vec::new();
    for expected in &expected {
        if found.contains(&expected.published) {
            continue;
        }
        match tied.take().filter(|_| expected.mapped.part == Part::Output) {
            Some((from, update)) => chosen.push(choose(expected, from, update)),
            None => missing.push(expected.published.as_str()),
        }
    }
    if !missing.is_empty() {
        let (count, names) = (missing.len(), first_names(missing.into_iter()));
        let said = ["of the language model is missing", "of the language model are missing"];
        return Err(refuse(format!("{}: {names}", tensors(count, said))));
    }
    Ok(chosen)
}
