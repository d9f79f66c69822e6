//! A row for each family of models, by what it does: answer, segment, or retrieve.

mod answering;
mod retrieval;
mod segmenting;

pub(super) use answering::{HSENET, M3D_LAMED, R1SEG_3D};
pub(super) use retrieval::{HSENET_CLIP, M3D_CLIP, STAGE_2};
pub(super) use segmenting::{NEUROSAM3D, R1SEG_3D_SAM, SAM_MED3D, SEGVOL, VISTA3D};

use r1seg_llm::DecoderConfig;

use super::recognize::Recovery;
use super::{Example, LanguageModel, LicenseStatement, ModelEntry, ModelType, Published, Task};
use crate::checkpoint::keys::llama_cpp::Architecture;
use crate::config::vision;
use crate::{Recipe, Separator};

/// All models.
pub static MODELS: &[&ModelEntry] = &[
    &R1SEG_3D,
    &M3D_LAMED,
    &R1SEG_3D_SAM,
    &SEGVOL,
    &M3D_CLIP,
    &SAM_MED3D,
    &NEUROSAM3D,
    &VISTA3D,
    &HSENET,
    &HSENET_CLIP,
];

const PHI_3: LanguageModel =
    LanguageModel { name: "Phi-3", read: DecoderConfig::phi3, architecture: Architecture::Phi3 };
const PHI_4_MINI: LanguageModel = LanguageModel { name: "Phi-4-mini", ..PHI_3 };
const LLAMA: LanguageModel =
    LanguageModel { name: "Llama", read: DecoderConfig::llama, architecture: Architecture::Llama };
const QWEN2: LanguageModel =
    LanguageModel { name: "Qwen2", read: DecoderConfig::qwen2, architecture: Architecture::Qwen2 };
const MISTRAL: LanguageModel = LanguageModel {
    name: "Mistral",
    read: DecoderConfig::mistral,
    architecture: Architecture::Llama,
};

const fn with(name: &'static str, language_model: LanguageModel) -> ModelType {
    ModelType { name, language_model: Some(language_model), recovery: None }
}

const fn without(name: &'static str) -> ModelType {
    ModelType { name, language_model: None, recovery: None }
}

const fn recoverable(name: &'static str, recovery: Recovery) -> ModelType {
    ModelType { name, language_model: None, recovery: Some(recovery) }
}

const fn published(alias: &'static str, repository: &'static str) -> Published {
    Published { alias, repository, model_type: None }
}

/// Of a type whose tensors are those of another one.
const fn published_as(
    alias: &'static str,
    repository: &'static str,
    model_type: &'static str,
) -> Published {
    Published { alias, repository, model_type: Some(model_type) }
}

const fn question(name: &'static str, separator: Separator, text: &'static str) -> Task {
    let example = Example { text: Some(text), points: &[], region: None };
    Task { name, separator: Some(separator), example }
}

const fn text(name: &'static str, text: &'static str) -> Task {
    task(name, Example { text: Some(text), points: &[], region: None })
}

const fn task(name: &'static str, example: Example) -> Task {
    Task { name, separator: None, example }
}

const fn license(part: &'static str, name: &'static str, source: &'static str) -> LicenseStatement {
    LicenseStatement { part, license: Some(name), source }
}

const fn not_stated(part: &'static str, source: &'static str) -> LicenseStatement {
    LicenseStatement { part, license: None, source }
}

const R1SEG_CODE: LicenseStatement =
    not_stated("code", "github.com/lihaoqin168/R1Seg-3D has no license file: ask the authors");
const M3D_CODE: LicenseStatement =
    license("code", "MIT", "LICENSE of github.com/BAAI-DCAI/M3D, since March 2024");
/// For repositories whose model card is not known.
const NO_CARD: &str = "no statement is known: see the model card";
const CARD: &str = "model card";
const HSENET_CODE: LicenseStatement =
    not_stated("code", "not known: see github.com/YanzhaoShi/HSENet");

/// HSENet's own recipes, and voxels that were prepared before.
const HSENET_RECIPES: &[Recipe] = &[Recipe::Hsenet, Recipe::HsenetAsPublished, Recipe::None];

/// All published models have the vision transformer of the same size.
const INPUT_SHAPE: [usize; 3] = vision::IMAGE_SIZE;
