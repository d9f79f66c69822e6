//! Models that compare volumes with texts.

use super::{
    CARD, HSENET_CODE, HSENET_RECIPES, INPUT_SHAPE, M3D_CODE, license, published, text, without,
};
use crate::OutputKind::Embedding;
use crate::checkpoint::keys;
use crate::registry::{ConfigReader, Family, ModelEntry};
use crate::{Capabilities, PromptKind, m3d_clip, phrasing};

pub(in crate::registry) static M3D_CLIP: ModelEntry = ModelEntry {
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

pub(in crate::registry) static HSENET_CLIP: ModelEntry = ModelEntry {
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
pub(in crate::registry) const STAGE_2: &str = "m3d_clip_stage2";
