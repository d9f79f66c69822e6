//! Which of the published models a `config.json` is of.

use serde_json::Value;

/// The models of one family, by what their `config.json` says. `architectures` and `auto_map` are
/// never used: they are wrong in checkpoints that were merged locally.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Variant {
    /// One vision transformer for language and mask, which r1seg runs.
    R1Seg3D,
    /// R1Seg-3D without a language model: text prompts through CLIP.
    R1Seg3DSam,
    /// M3D-LaMed: a vision transformer for language and another one for the mask.
    M3DLaMed,
    /// M3D-CLIP: volumes and reports in one space.
    M3DClip,
    /// SegVol: masks from points, boxes and text.
    SegVol,
}

impl Variant {
    /// By `model_type` and, where two models share one, by the parts that the config names.
    pub fn of(config: &Value) -> Option<Self> {
        let given = |key: &str| config.get(key).is_some_and(|value| !value.is_null());
        let is_m3d = given("vision_tower") || given("segmentation_module");
        match config["model_type"].as_str()? {
            "lamed_phi3" => Some(Self::M3DLaMed),
            "lamed_phi3_cross" | "lamed_llama" | "lamed_Qwen2" | "llava_mistral" => {
                match given("vision_module") {
                    true => Some(Self::R1Seg3D),
                    false => is_m3d.then_some(Self::M3DLaMed),
                }
            }
            "r1seg-3dsam" => Some(Self::R1Seg3DSam),
            "m3d_clip" => Some(Self::M3DClip),
            "segvol" => Some(Self::SegVol),
            _ => None,
        }
    }

    /// The name that its authors gave it.
    pub fn name(self) -> &'static str {
        match self {
            Self::R1Seg3D => "R1Seg-3D",
            Self::R1Seg3DSam => "R1Seg-3D-SAM",
            Self::M3DLaMed => "M3D-LaMed",
            Self::M3DClip => "M3D-CLIP",
            Self::SegVol => "SegVol",
        }
    }

    /// Whether this version of r1seg runs it.
    pub fn is_supported(self) -> bool {
        self == Self::R1Seg3D
    }

    /// Whether it answers in words, and its tokenizer knows `[SEG]`.
    pub fn has_language_model(self) -> bool {
        matches!(self, Self::R1Seg3D | Self::M3DLaMed)
    }
}

/// The family of the language model behind a `model_type`, by its publisher's name.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_shared_model_type_is_told_apart_by_the_parts_that_are_named() {
        let of = |model_type: &str, part: &str| {
            let mut config = json!({"model_type": model_type, "vision_module": null});
            config[part] = json!("there");
            Variant::of(&config)
        };
        for model_type in ["lamed_phi3_cross", "lamed_llama", "lamed_Qwen2", "llava_mistral"] {
            assert_eq!(of(model_type, "vision_module"), Some(Variant::R1Seg3D));
            assert_eq!(of(model_type, "vision_tower"), Some(Variant::M3DLaMed));
            assert_eq!(of(model_type, "mm_vision_tower"), None, "LLaVA");
            assert!(language_family(model_type).is_some());
        }
        assert_eq!(of("segvol", "x").map(Variant::name), Some("SegVol"));
        assert_eq!((of("gpt2", "vision_module"), Variant::of(&json!([1]))), (None, None));
    }
}
