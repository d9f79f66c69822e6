//! Which models r1seg knows, and how a checkpoint is told to be one of them.
//!
//! A model of known parts is a row here, an arm of `Rules` in `config.rs` (or a config of its own),
//! a key map in `r1seg_checkpoint::keys`, and a recorded case in `tests/data`.

use r1seg_checkpoint::keys::llama_cpp::Architecture;
use serde_json::Value;

use crate::Separator;

/// A model of which several sizes and language models are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// R1Seg-3D with a language model.
    R1Seg3d,
    /// M3D-LaMed.
    M3dLamed,
    /// R1Seg-3D-SAM: R1Seg-3D's mask decoder, prompted with text.
    R1Seg3dSam,
    /// SegVol.
    SegVol,
    /// M3D-CLIP.
    M3dClip,
}

impl Family {
    /// Its row.
    pub fn entry(self) -> Option<&'static ModelEntry> {
        MODELS.iter().find(|entry| entry.family == self)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.entry().map_or("this model", |entry| entry.name)
    }

    /// Whether it segments what a text, points or a box say, without a language model.
    pub fn is_promptable(self) -> bool {
        matches!(self, Self::SegVol | Self::R1Seg3dSam)
    }

    /// Whether it answers in words, and its tokenizer knows `[SEG]`.
    pub fn has_language_model(self) -> bool {
        matches!(self, Self::R1Seg3d | Self::M3dLamed)
    }
}

/// What a model can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// In a word or two.
    pub name: &'static str,
    /// What stood between the image and such questions in training; absent where a model reads no
    /// image in its text.
    pub separator: Option<Separator>,
    /// A prompt as the authors word it.
    pub example: &'static str,
}

/// What r1seg knows about a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelEntry {
    /// Which one.
    pub family: Family,
    /// As its authors call it.
    pub name: &'static str,
    /// `model_type` in `config.json`.
    pub model_types: &'static [&'static str],
    /// Fields of `config.json` of which one must be given: types alone are shared.
    pub evidence: &'static [&'static str],
    /// Repositories on the hub that publish it.
    pub repositories: &'static [&'static str],
    /// The subcommand that runs it.
    pub command: &'static str,
    /// What it can be asked for.
    pub tasks: &'static [Task],
    /// What its authors say about the use of their work: the code first, then each repository of
    /// weights.
    pub licenses: &'static [LicenseStatement],
}

/// What a publisher says about the use of a part of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LicenseStatement {
    /// `code`, or the repository of the weights on the hub.
    pub part: &'static str,
    /// The license, as its publisher names it; `None` where none is stated.
    pub license: Option<&'static str>,
    /// Where that is said, or where nothing is.
    pub source: &'static str,
}

const fn task(name: &'static str, separator: Option<Separator>, example: &'static str) -> Task {
    Task { name, separator, example }
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

const SPACE: Option<Separator> = Some(Separator::Space);
const NOTHING: Option<Separator> = Some(Separator::None);

/// A row for each model.
pub const MODELS: &[ModelEntry] = &[
    ModelEntry {
        family: Family::R1Seg3d,
        name: "R1Seg-3D",
        model_types: &["lamed_phi3_cross", "lamed_llama", "lamed_Qwen2", "llava_mistral"],
        evidence: &["vision_module"],
        repositories: &["lihao0011/R1Seg-3D-Phi-3-4B", "lihao0011/R1Seg-3D-llama-3-8B"],
        command: "infer",
        tasks: &[
            task("segmentation", SPACE, "Can you segment the liver in this image?"),
            task("reasoning", SPACE, "Which organ makes bile? Please answer and segment."),
        ],
        licenses: &[
            R1SEG_CODE,
            not_stated("lihao0011/R1Seg-3D-Phi-3-4B", NO_CARD),
            not_stated("lihao0011/R1Seg-3D-llama-3-8B", NO_CARD),
        ],
    },
    ModelEntry {
        family: Family::M3dLamed,
        name: "M3D-LaMed",
        model_types: &["lamed_phi3", "lamed_llama"],
        evidence: &["vision_tower", "segmentation_module"],
        repositories: &["GoodBaiBai88/M3D-LaMed-Phi-3-4B", "GoodBaiBai88/M3D-LaMed-Llama-2-7B"],
        command: "infer",
        tasks: &[
            task("report", NOTHING, "Please generate a medical report based on this image."),
            task("question", SPACE, "Which organ is enlarged?"),
            task("grounding", SPACE, "Where is liver in this image? Please output the box."),
            task("region", SPACE, "What is in the region {box}?"),
            task("segmentation", SPACE, "Can you segment the liver in this image?"),
        ],
        licenses: &[
            M3D_CODE,
            license("GoodBaiBai88/M3D-LaMed-Phi-3-4B", "apache-2.0", CARD),
            license("GoodBaiBai88/M3D-LaMed-Llama-2-7B", "apache-2.0", CARD),
        ],
    },
    ModelEntry {
        family: Family::R1Seg3dSam,
        name: "R1Seg-3D-SAM",
        model_types: &["r1seg-3dsam"],
        evidence: &[],
        repositories: &["lihao0011/R1Seg-3D-SAM"],
        command: "segment",
        tasks: &[task("text", None, "--text \"A computerized tomography of a liver.\"")],
        licenses: &[R1SEG_CODE, not_stated("lihao0011/R1Seg-3D-SAM", NO_CARD)],
    },
    ModelEntry {
        family: Family::SegVol,
        name: "SegVol",
        model_types: &["segvol"],
        evidence: &[],
        repositories: &["BAAI/SegVol"],
        command: "segment",
        tasks: &[
            task("text", None, "--text liver"),
            task("points", None, "--point 210,180,40 --point 150,180,40:neg"),
            task("box", None, "--box 150,120,30,260,240,60"),
            task("combination", None, "--text liver --box 150,120,30,260,240,60"),
        ],
        licenses: &[
            license("code", "MIT", "LICENSE of github.com/BAAI-DCAI/SegVol"),
            not_stated("BAAI/SegVol", "the model card names none"),
        ],
    },
    ModelEntry {
        family: Family::M3dClip,
        name: "M3D-CLIP",
        model_types: &["m3d_clip"],
        evidence: &[],
        repositories: &["GoodBaiBai88/M3D-CLIP"],
        command: "retrieve",
        tasks: &[
            task("retrieval", None, "Aneurysm of the abdominal aorta."),
            task("embedding", None, "A cyst in the left kidney."),
        ],
        licenses: &[M3D_CODE, license("GoodBaiBai88/M3D-CLIP", "apache-2.0", CARD)],
    },
];

/// The model that a `config.json` describes.
///
/// # Errors
/// What to append to "model_type `x` is not supported".
pub(crate) fn identify(config: &Value) -> Result<&'static ModelEntry, String> {
    let model_type = config["model_type"].as_str().unwrap_or_default();
    let given = |key: &&str| config.get(key).is_some_and(|value| !value.is_null());
    let of_type = || MODELS.iter().filter(|entry| entry.model_types.contains(&model_type));
    let fits = |entry: &&ModelEntry| entry.evidence.is_empty() || entry.evidence.iter().any(given);
    if let Some(entry) = of_type().find(fits) {
        return Ok(entry);
    }
    let missing: Vec<&str> = of_type().flat_map(|entry| entry.evidence.iter().copied()).collect();
    let hint = match missing.is_empty() {
        true => String::new(),
        false => format!(" without {}", missing.join(", ")),
    };
    Err(hint)
}

/// The family of the language model or text encoder behind a `model_type`, by its publisher's name.
pub(crate) fn language_family(model_type: &str) -> Option<&'static str> {
    match model_type {
        "lamed_phi3_cross" | "lamed_phi3" => Some("Phi-3"),
        "lamed_llama" => Some("Llama"),
        "lamed_Qwen2" => Some("Qwen2"),
        "llava_mistral" => Some("Mistral"),
        "bert" => Some("BERT"),
        "clip_text_model" => Some("CLIP"),
        _ => None,
    }
}

/// What llama.cpp calls the language model of a checkpoint with this `model_type`.
pub fn architecture(model_type: &str) -> Option<Architecture> {
    match model_type {
        "lamed_phi3_cross" | "lamed_phi3" => Some(Architecture::Phi3),
        "lamed_llama" | "llava_mistral" => Some(Architecture::Llama),
        "lamed_Qwen2" => Some(Architecture::Qwen2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_row_is_told_by_its_type_and_its_fields() {
        for entry in MODELS {
            for model_type in entry.model_types {
                let fields = match entry.evidence {
                    [] => &[""][..],
                    fields => fields,
                };
                for field in fields {
                    let config = json!({"model_type": model_type, *field: "given"});
                    let found = identify(&config).map(|found| found.family);
                    assert_eq!(found, Ok(entry.family), "{model_type} with {field}");
                }
            }
        }
        let shared = json!({"model_type": "lamed_llama", "vision_module": null});
        assert_eq!(
            identify(&shared),
            Err(" without vision_module, vision_tower, segmentation_module".to_string())
        );
        assert_eq!(identify(&json!({"model_type": "gpt2"})), Err(String::new()));
        assert_eq!(identify(&json!([])), Err(String::new()));
    }

    #[cfg(feature = "hub")]
    #[test]
    fn every_published_name_belongs_to_one_row() {
        for (alias, repository) in r1seg_hub::ALIASES {
            let rows = MODELS.iter().filter(|entry| entry.repositories.contains(repository));
            assert_eq!(rows.count(), 1, "{alias}");
        }
        let known: usize = MODELS.iter().map(|entry| entry.repositories.len()).sum();
        assert_eq!(known, r1seg_hub::ALIASES.len());
    }

    #[test]
    fn every_row_says_what_is_known_of_the_license_of_its_code_and_of_each_repository() {
        for entry in MODELS {
            let parts: Vec<&str> = entry.licenses.iter().map(|statement| statement.part).collect();
            assert_eq!(parts, [&["code"], entry.repositories].concat(), "{}", entry.name);
            assert!(entry.licenses.iter().all(|statement| !statement.source.is_empty()));
        }
    }

    #[test]
    fn every_family_has_one_row() {
        for entry in MODELS {
            assert_eq!(entry.family.entry(), Some(entry));
            assert_eq!(entry.family.name(), entry.name);
        }
    }
}
