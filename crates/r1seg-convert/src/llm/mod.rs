//! The language model in a file of its own, `language_model.gguf`: quantized from the checkpoint's
//! weights, or taken over from a GGUF file that exists.

pub(crate) mod blocks;
mod decoder;
mod import;
mod policy;

use std::path::{Path, PathBuf};

use crate::Error;
use crate::plan::{Planned, Target};
use crate::source::Stored;
pub(crate) use decoder::Decoder;
use decoder::Expected;
use r1seg_checkpoint::gguf::{Layout, NewTensor, Value};
use r1seg_checkpoint::keys::llama_cpp::RowOrder;
use r1seg_checkpoint::layout::LANGUAGE_MODEL;
use r1seg_checkpoint::{LanguageModelRecord, NumberFormat, StoredOtherwise};

/// What the linear layers of the language model become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quant {
    /// 8.5 bits a weight.
    Q8_0,
    /// 6.6 bits a weight.
    Q6K,
    /// 4.5 bits a weight; the output layer in [`Quant::Q6K`].
    Q4K,
}

/// What most of a file's tensors are, as llama.cpp counts it.
const FILE_TYPE: &str = "general.file_type";

impl Quant {
    /// What most linear layers are stored in.
    pub fn format(self) -> NumberFormat {
        match self {
            Self::Q8_0 => NumberFormat::Q8_0,
            Self::Q6K => NumberFormat::Q6K,
            Self::Q4K => NumberFormat::Q4K,
        }
    }

    /// `llama_ftype` of llama.h: MOSTLY_Q8_0, MOSTLY_Q6_K, MOSTLY_Q4_K_S.
    fn file_type(self) -> u32 {
        match self {
            Self::Q8_0 => 7,
            Self::Q6K => 18,
            Self::Q4K => 14,
        }
    }
}

/// Where the language model comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum From<'a> {
    /// The checkpoint's own weights.
    Weights(Quant),
    /// A GGUF file.
    File(&'a Path),
}

/// `language_model.gguf`, before its first byte is written.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) header: Vec<u8>,
    pub(crate) tensors: Vec<Planned>,
    pub(crate) record: LanguageModelRecord,
}

/// A tensor of `language_model.gguf`.
#[derive(Debug)]
pub(crate) struct GgufTarget {
    /// llama.cpp's name, type and shape.
    pub(crate) tensor: NewTensor,
    /// How the source has it, where that is a GGUF file.
    pub(crate) blocks: Option<NumberFormat>,
    /// How its rows move.
    pub(crate) order: RowOrder,
    /// Zeros after it.
    pub(crate) padding: usize,
}

/// Moves the language model, which `decoder` describes, out of `tensors`. `files` are the
/// checkpoint's, to which a GGUF file is added.
pub(crate) fn take(
    tensors: &mut Vec<Planned>,
    from: From<'_>,
    files: &mut Vec<PathBuf>,
    decoder: &Decoder,
) -> Result<File, Error> {
    let (own, rest): (Vec<Planned>, Vec<Planned>) = std::mem::take(tensors)
        .into_iter()
        .partition(|planned| decoder.architecture.to_gguf(&planned.from.entry.name).is_some());
    *tensors = rest;
    let mut metadata = decoder.metadata();
    let (chosen, quant) = match from {
        From::Weights(quant) => {
            metadata.push((FILE_TYPE.to_owned(), Value::U32(quant.file_type())));
            (policy::choose(decoder, own, quant)?, Some(quant))
        }
        From::File(path) => {
            let (chosen, file_type) = import::open(decoder, &own, path, files.len())?;
            metadata.extend(file_type.map(|value| (FILE_TYPE.to_owned(), value)));
            files.push(path.to_owned());
            (chosen, None)
        }
    };
    assemble(&metadata, chosen, quant)
}

/// A tensor, what it becomes, and what it would have become if it fitted.
struct Chosen {
    planned: Planned,
    /// The type that was asked for, or that the GGUF file has, where the new one is another.
    instead_of: Option<NumberFormat>,
}

impl Chosen {
    fn new(
        expected: &Expected,
        from: Stored,
        update: Option<crate::lora::Update>,
        [wanted, stored]: [NumberFormat; 2],
        blocks: Option<NumberFormat>,
    ) -> Self {
        let tensor = NewTensor::new(expected.mapped.name.clone(), stored, expected.shape.clone());
        // A GGUF file has its rows in order already.
        let order = if blocks.is_some() { RowOrder::Same } else { expected.order };
        let target = GgufTarget { tensor, blocks, order, padding: 0 };
        let planned = Planned { from, to: Target::Gguf(target), update };
        Self { planned, instead_of: (wanted != stored).then_some(wanted) }
    }
}

fn assemble(
    metadata: &[(String, Value)],
    chosen: Vec<Chosen>,
    quant: Option<Quant>,
) -> Result<File, Error> {
    let mut record = LanguageModelRecord {
        file: LANGUAGE_MODEL.to_owned(),
        quant: quant.map(Quant::format),
        types: std::collections::BTreeMap::new(),
        stored_otherwise: Vec::new(),
    };
    let mut tensors = Vec::new();
    let mut new = Vec::new();
    for Chosen { planned, instead_of } in chosen {
        let Target::Gguf(target) = &planned.to else { continue };
        let NewTensor { name, format, shape } = &target.tensor;
        record.types.insert(name.clone(), format.name().to_owned());
        if let Some(wanted) = instead_of {
            record.stored_otherwise.push(StoredOtherwise {
                name: name.clone(),
                columns: shape.last().copied().unwrap_or(1),
                wanted: wanted.name().to_owned(),
                stored: format.name().to_owned(),
            });
        }
        new.push(target.tensor.clone());
        tensors.push(planned);
    }
    record.stored_otherwise.sort_by(|a, b| a.name.cmp(&b.name));

    let written = PathBuf::from(LANGUAGE_MODEL);
    let layout =
        Layout::new(metadata, &new).map_err(|source| Error::Gguf { path: written, source })?;
    for (i, planned) in tensors.iter_mut().enumerate() {
        if let Target::Gguf(target) = &mut planned.to {
            target.padding = layout.padding(i);
        }
    }
    Ok(File { header: layout.header().to_vec(), tensors, record })
}
