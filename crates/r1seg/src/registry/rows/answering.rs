//! Models that answer in words, with masks or without.

use super::{
    CARD, HSENET_CODE, HSENET_RECIPES, INPUT_SHAPE, LLAMA, M3D_CODE, MISTRAL, NO_CARD, PHI_3,
    PHI_4_MINI, QWEN2, R1SEG_CODE, license, not_stated, published, question, with,
};
use crate::OutputKind::{Boxes, Mask, Text};
use crate::checkpoint::keys;
use crate::config::language;
use crate::registry::{ConfigReader, Family, ModelEntry};
use crate::{Capabilities, InferenceMode, PromptKind, Separator, phrasing};

pub(in crate::registry) static R1SEG_3D: ModelEntry = ModelEntry {
    family: Family::R1Seg3d,
    name: "R1Seg-3D",
    model_types: &[
        with("lamed_phi3_cross", PHI_3),
        with("lamed_llama", LLAMA),
        with("lamed_Qwen2", QWEN2),
        with("llava_mistral", MISTRAL),
    ],
    evidence: &["vision_module"],
    published: &[
        published("R1Seg-3D-Phi-3-4B", "lihao0011/R1Seg-3D-Phi-3-4B"),
        published("R1Seg-3D-llama-3-8B", "lihao0011/R1Seg-3D-llama-3-8B"),
    ],
    capabilities: Capabilities {
        prompts: &[PromptKind::Question],
        outputs: &[Text, Mask],
        modes: &[InferenceMode::Resize, InferenceMode::Sliding],
        refines_masks: true,
        input_shape: INPUT_SHAPE,
        channels: 1,
        classes: None,
    },
    recipes: &[],
    tasks: &[
        question("segmentation", Separator::Space, "Can you segment the liver in this image?"),
        question(
            "reasoning",
            Separator::Space,
            "Which organ makes bile? Please answer and segment.",
        ),
    ],
    phrasings: phrasing::R1SEG_3D,
    bare_names: Some("none of its training is a bare name"),
    sentence: ["", ""],
    licenses: &[
        R1SEG_CODE,
        not_stated("lihao0011/R1Seg-3D-Phi-3-4B", NO_CARD),
        not_stated("lihao0011/R1Seg-3D-llama-3-8B", NO_CARD),
    ],
    keys: &keys::R1SEG_3D,
    reader: ConfigReader::Language(|file| language::read(file, &language::R1SEG_3D)),
};

pub(in crate::registry) static M3D_LAMED: ModelEntry = ModelEntry {
    family: Family::M3dLamed,
    name: "M3D-LaMed",
    model_types: &[with("lamed_phi3", PHI_3), with("lamed_llama", LLAMA)],
    evidence: &["vision_tower", "segmentation_module"],
    published: &[
        published("M3D-LaMed-Phi-3-4B", "GoodBaiBai88/M3D-LaMed-Phi-3-4B"),
        published("M3D-LaMed-Llama-2-7B", "GoodBaiBai88/M3D-LaMed-Llama-2-7B"),
    ],
    capabilities: Capabilities {
        prompts: &[PromptKind::Question, PromptKind::Box],
        outputs: &[Text, Mask, Boxes],
        modes: &[InferenceMode::Resize, InferenceMode::Sliding],
        refines_masks: false,
        input_shape: INPUT_SHAPE,
        channels: 1,
        classes: None,
    },
    recipes: &[],
    tasks: &[
        question(
            "report",
            Separator::None,
            "Please generate a medical report based on this image.",
        ),
        question("question", Separator::Space, "Which organ is enlarged?"),
        question(
            "grounding",
            Separator::Space,
            "Where is liver in this image? Please output the box.",
        ),
        question("region", Separator::Space, "What is in the region {box}?"),
        question("segmentation", Separator::Space, "Can you segment the liver in this image?"),
    ],
    phrasings: phrasing::M3D_LAMED,
    bare_names: Some("a bare name, such as \"pancreas\", mostly gets no answer"),
    sentence: ["", ""],
    licenses: &[
        M3D_CODE,
        license("GoodBaiBai88/M3D-LaMed-Phi-3-4B", "apache-2.0", CARD),
        license("GoodBaiBai88/M3D-LaMed-Llama-2-7B", "apache-2.0", CARD),
    ],
    keys: &keys::M3D_LAMED,
    reader: ConfigReader::Language(|file| language::read(file, &language::M3D_LAMED)),
};

pub(in crate::registry) static HSENET: ModelEntry = ModelEntry {
    family: Family::HseNet,
    name: "HSENet",
    model_types: &[with("hsenet_phi4", PHI_4_MINI)],
    evidence: &[],
    published: &[],
    capabilities: Capabilities {
        prompts: &[PromptKind::Question],
        outputs: &[Text],
        modes: &[],
        refines_masks: false,
        input_shape: INPUT_SHAPE,
        channels: 1,
        classes: None,
    },
    recipes: HSENET_RECIPES,
    tasks: &[
        question(
            "report",
            Separator::None,
            "Can you summarize with findings the images presented?",
        ),
        question("question", Separator::None, "Where is the nodule located in the image?"),
    ],
    phrasings: phrasing::HSENET,
    bare_names: None,
    sentence: ["", ""],
    licenses: &[HSENET_CODE],
    keys: &keys::HSENET,
    reader: ConfigReader::Language(|file| language::read(file, &language::HSENET)),
};
