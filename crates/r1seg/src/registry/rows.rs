//! A row for each family of models.

use r1seg_llm::DecoderConfig;
use r1seg_volume::Region;

use super::recognize::{self, Recovery};
use super::{
    ConfigReader, Example, Family, LanguageModel, LicenseStatement, ModelEntry, ModelType,
    Published, Task,
};
use crate::OutputKind::{Boxes, Embedding, Mask, Text};
use crate::checkpoint::keys;
use crate::checkpoint::keys::llama_cpp::Architecture;
use crate::config::{language, vision};
use crate::{Capabilities, InferenceMode, PromptKind, PromptPoint, Recipe, Separator};
use crate::{automatic, m3d_clip, phrasing, promptable};

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

/// All published models have the vision transformer of the same size.
const INPUT_SHAPE: [usize; 3] = vision::IMAGE_SIZE;

pub(super) static R1SEG_3D: ModelEntry = ModelEntry {
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

pub(super) static M3D_LAMED: ModelEntry = ModelEntry {
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

pub(super) static R1SEG_3D_SAM: ModelEntry = ModelEntry {
    family: Family::R1Seg3dSam,
    name: "R1Seg-3D-SAM",
    model_types: &[without("r1seg-3dsam")],
    evidence: &[],
    published: &[published("R1Seg-3D-SAM", "lihao0011/R1Seg-3D-SAM")],
    capabilities: Capabilities {
        prompts: &[PromptKind::Text],
        outputs: &[Mask],
        modes: &[InferenceMode::Sliding, InferenceMode::Resize, InferenceMode::Zoom],
        refines_masks: true,
        input_shape: INPUT_SHAPE,
        channels: 1,
        classes: None,
    },
    recipes: &[],
    tasks: &[text("text", "A computerized tomography of a liver.")],
    phrasings: phrasing::R1SEG_3D_SAM,
    bare_names: None,
    sentence: ["", ""],
    licenses: &[R1SEG_CODE, not_stated("lihao0011/R1Seg-3D-SAM", NO_CARD)],
    keys: &keys::R1SEG_3D_SAM,
    reader: ConfigReader::Promptable(|file| {
        promptable::read_config(file, &promptable::R1SEG_3D_SAM)
    }),
};

/// A box around the liver of an abdominal CT.
const LIVER: Region = Region { start: [30, 120, 150], end: [61, 241, 261] };

pub(super) static SEGVOL: ModelEntry = ModelEntry {
    family: Family::SegVol,
    name: "SegVol",
    model_types: &[without("segvol")],
    evidence: &[],
    published: &[published("SegVol", "BAAI/SegVol")],
    capabilities: Capabilities {
        prompts: &[PromptKind::Text, PromptKind::Points, PromptKind::Box],
        outputs: &[Mask],
        modes: &[InferenceMode::Zoom, InferenceMode::Resize, InferenceMode::Sliding],
        refines_masks: false,
        input_shape: INPUT_SHAPE,
        channels: 1,
        classes: None,
    },
    recipes: &[],
    tasks: &[
        text("text", "liver"),
        task(
            "points",
            Example {
                text: None,
                points: &[
                    PromptPoint { voxel: [40, 180, 210], positive: true },
                    PromptPoint { voxel: [40, 180, 150], positive: false },
                ],
                region: None,
            },
        ),
        task("box", Example { text: None, points: &[], region: Some(LIVER) }),
        task("combination", Example { text: Some("liver"), points: &[], region: Some(LIVER) }),
    ],
    phrasings: phrasing::SEGVOL,
    bare_names: None,
    sentence: ["A computerized tomography of a ", "."],
    licenses: &[
        license("code", "MIT", "LICENSE of github.com/BAAI-DCAI/SegVol"),
        not_stated("BAAI/SegVol", "the model card names none"),
    ],
    keys: &keys::SEGVOL,
    reader: ConfigReader::Promptable(|file| promptable::read_config(file, &promptable::SEGVOL)),
};

pub(super) static M3D_CLIP: ModelEntry = ModelEntry {
    family: Family::M3dClip,
    name: "M3D-CLIP",
    model_types: &[without("m3d_clip")],
    evidence: &[],
    published: &[published("M3D-CLIP", "GoodBaiBai88/M3D-CLIP")],
    capabilities: Capabilities {
        prompts: &[PromptKind::Text],
        outputs: &[Embedding],
        modes: &[],
        refines_masks: false,
        input_shape: INPUT_SHAPE,
        channels: 1,
        classes: None,
    },
    recipes: &[],
    tasks: &[
        text("retrieval", "Aneurysm of the abdominal aorta."),
        text("embedding", "A cyst in the left kidney."),
    ],
    phrasings: phrasing::M3D_CLIP,
    bare_names: None,
    sentence: ["", ""],
    licenses: &[M3D_CODE, license("GoodBaiBai88/M3D-CLIP", "apache-2.0", CARD)],
    keys: &keys::M3D_CLIP,
    reader: ConfigReader::Retrieval(|file| m3d_clip::read_config(file, &m3d_clip::M3D_CLIP)),
};

/// A click, as the authors place one in a volume of the size of the input.
const CLICK: Example = Example {
    text: None,
    points: &[PromptPoint { voxel: [64, 64, 64], positive: true }],
    region: None,
};

/// The tables of relative positions of SAM-Med3D's encoder.
const RELATIVE_POSITIONS: &str = "image_encoder.blocks.0.attn.rel_pos_d";
/// The fourth upscaling, which brings masks to the size of the image.
const FOURTH_UPSCALING: &str = "mask_decoder.output_upscaling.9.weight";

pub(super) static SAM_MED3D: ModelEntry = ModelEntry {
    family: Family::SamMed3d,
    name: "SAM-Med3D",
    model_types: &[recoverable(
        "sam_med3d",
        Recovery {
            present: &[RELATIVE_POSITIONS, "mask_decoder.output_upscaling.0.weight"],
            absent: &[FOURTH_UPSCALING],
            fields: recognize::sam_med3d,
        },
    )],
    evidence: &[],
    published: &[published("SAM-Med3D", "blueyo0/SAM-Med3D")],
    capabilities: Capabilities {
        prompts: &[PromptKind::Points, PromptKind::Mask],
        outputs: &[Mask],
        modes: &[InferenceMode::Crop, InferenceMode::Grow],
        refines_masks: true,
        input_shape: [128; 3],
        channels: 1,
        classes: None,
    },
    recipes: &[Recipe::SamMed3d, Recipe::SamMed3dCentered],
    tasks: &[task("points", CLICK)],
    phrasings: &[],
    bare_names: None,
    sentence: ["", ""],
    licenses: &[
        license("code", "Apache-2.0", "LICENSE of github.com/uni-medical/SAM-Med3D"),
        not_stated("blueyo0/SAM-Med3D", NO_CARD),
    ],
    keys: &keys::SAM_MED3D,
    reader: ConfigReader::Promptable(|file| promptable::read_config(file, &promptable::SAM_MED3D)),
};

const NEUROSAM3D_HIERA: &str = "neurosam3d_hiera";

pub(super) static NEUROSAM3D: ModelEntry = ModelEntry {
    family: Family::NeuroSam3d,
    name: "NeuroSAM3D",
    model_types: &[
        recoverable(
            "neurosam3d_vit",
            Recovery {
                present: &[RELATIVE_POSITIONS, FOURTH_UPSCALING],
                absent: &[],
                fields: recognize::neurosam3d_vit,
            },
        ),
        recoverable(
            NEUROSAM3D_HIERA,
            Recovery {
                present: &["image_encoder.trunk.pos_embed_window", FOURTH_UPSCALING],
                absent: &[],
                fields: recognize::neurosam3d_hiera,
            },
        ),
    ],
    evidence: &[],
    published: &[],
    capabilities: Capabilities {
        prompts: &[PromptKind::Points, PromptKind::Box, PromptKind::Mask],
        outputs: &[Mask],
        modes: &[InferenceMode::Crop, InferenceMode::Grow],
        refines_masks: true,
        input_shape: [112; 3],
        channels: 1,
        classes: None,
    },
    // Its inference still has the preparation of SAM-Med3D beside that of its training.
    recipes: &[Recipe::NeuroSam3d, Recipe::SamMed3d, Recipe::SamMed3dCentered],
    tasks: &[
        task("points", CLICK),
        task("box", Example { text: None, points: &[], region: Some(LIVER) }),
    ],
    phrasings: &[],
    bare_names: None,
    sentence: ["", ""],
    licenses: &[not_stated("code", "not known: see github.com/arcadelab/NeuroSAM3D")],
    keys: &keys::NEUROSAM3D,
    reader: ConfigReader::Promptable(|file| {
        let rules = match file.model_type.name {
            NEUROSAM3D_HIERA => &promptable::NEUROSAM3D_HIERA,
            _ => &promptable::NEUROSAM3D_VIT,
        };
        promptable::read_config(file, rules)
    }),
};

const VISTA3D_CTMR: &str = "vista3d_ctmr";

pub(super) static VISTA3D: ModelEntry = ModelEntry {
    family: Family::Vista3d,
    name: "VISTA3D",
    model_types: &[
        recoverable(
            "vista3d",
            Recovery {
                present: &[
                    "class_head.class_embeddings.weight",
                    "image_encoder.up_layers_auto.3.head.weight",
                    "point_head.mask_tokens.weight",
                ],
                absent: &[],
                fields: recognize::vista3d,
            },
        ),
        without(VISTA3D_CTMR),
    ],
    evidence: &[],
    published: &[
        published("NV-Segment-CT", "nvidia/NV-Segment-CT"),
        published_as("NV-Segment-CTMR", "nvidia/NV-Segment-CTMR", VISTA3D_CTMR),
    ],
    capabilities: Capabilities {
        prompts: &[PromptKind::Text, PromptKind::Points, PromptKind::Mask],
        outputs: &[Mask],
        modes: &[InferenceMode::Sliding],
        refines_masks: false,
        input_shape: [128; 3],
        channels: 1,
        classes: None,
    },
    recipes: &[Recipe::Vista3d, Recipe::Vista3dCtmr],
    tasks: &[
        text("class", "liver"),
        task("points", CLICK),
        task(
            "class and points",
            Example {
                text: Some("hepatic tumor"),
                points: &[PromptPoint { voxel: [64, 64, 64], positive: true }],
                region: None,
            },
        ),
    ],
    phrasings: &[],
    bare_names: None,
    sentence: ["", ""],
    licenses: &[
        license("code", "Apache-2.0", "LICENSE of github.com/Project-MONAI/VISTA"),
        license(
            "nvidia/NV-Segment-CT",
            "NVIDIA Open Model License",
            "table of the model card; an older section of the same page says NVIDIA OneWay \
             Noncommercial License",
        ),
        license(
            "nvidia/NV-Segment-CTMR",
            "NVIDIA OneWay Noncommercial License",
            "table of the README of github.com/NVIDIA-Medtech/NV-Segment-CTMR",
        ),
    ],
    keys: &keys::VISTA3D,
    reader: ConfigReader::Automatic(|file| {
        let rules = match file.model_type.name {
            VISTA3D_CTMR => &automatic::VISTA3D_CTMR,
            _ => &automatic::VISTA3D,
        };
        automatic::read_config(file, rules)
    }),
};

/// HSENet's own recipes, and voxels that were prepared before.
const HSENET_RECIPES: &[Recipe] = &[Recipe::Hsenet, Recipe::HsenetAsPublished, Recipe::None];
const HSENET_CODE: LicenseStatement =
    not_stated("code", "not known: see github.com/YanzhaoShi/HSENet");

pub(super) static HSENET: ModelEntry = ModelEntry {
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

pub(super) static HSENET_CLIP: ModelEntry = ModelEntry {
    family: Family::HseNetClip,
    name: "HSENet-CLIP",
    model_types: &[without("m3d_clip_stage1"), without(STAGE_2)],
    evidence: &[],
    published: &[],
    capabilities: M3D_CLIP.capabilities,
    recipes: HSENET_RECIPES,
    tasks: &[text("retrieval", "A solid nodule in the right upper lobe.")],
    phrasings: phrasing::M3D_CLIP,
    bare_names: None,
    sentence: ["", ""],
    licenses: &[HSENET_CODE],
    keys: &keys::HSENET_CLIP,
    reader: ConfigReader::Retrieval(|file| {
        let rules = match file.model_type.name {
            STAGE_2 => &m3d_clip::HSENET_STAGE_2,
            _ => &m3d_clip::HSENET_STAGE_1,
        };
        m3d_clip::read_config(file, rules)
    }),
};

/// The `model_type` of HSENet-CLIP whose patches are guided by slices.
pub(super) const STAGE_2: &str = "m3d_clip_stage2";
