//! Models that segment what texts, places or classes name.

use r1seg_volume::Region;

use super::{
    INPUT_SHAPE, NO_CARD, R1SEG_CODE, license, not_stated, published, published_as, recoverable,
    task, text, without,
};
use crate::OutputKind::Mask;
use crate::checkpoint::keys;
use crate::registry::recognize::{self, Recovery};
use crate::registry::{ConfigReader, Example, Family, ModelEntry};
use crate::{
    Capabilities, InferenceMode, PromptKind, PromptPoint, Recipe, automatic, phrasing, promptable,
};

pub(in crate::registry) static R1SEG_3D_SAM: ModelEntry = ModelEntry {
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

pub(in crate::registry) static SEGVOL: ModelEntry = ModelEntry {
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

pub(in crate::registry) static SAM_MED3D: ModelEntry = ModelEntry {
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

pub(in crate::registry) static NEUROSAM3D: ModelEntry = ModelEntry {
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

pub(in crate::registry) static VISTA3D: ModelEntry = ModelEntry {
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
