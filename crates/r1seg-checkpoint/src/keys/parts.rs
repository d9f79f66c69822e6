//! Models that are published in parts: which part a checkpoint is, and what its tensors are called in the
//! whole.

/// A model that is joined from parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// HSENet: a language model and LoRA updates of it with both projectors, both vision transformers,
    /// and the encoder of slices.
    HseNet,
    /// HSENet-CLIP of the second stage, and the encoder of slices.
    HseNetClip,
}

/// A part of such a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A language model alone.
    Words,
    /// HSENet's projectors, with or without the LoRA updates beside them.
    Projectors,
    /// HSENet-CLIP of the second stage, which holds the first one.
    Vision,
    /// BiomedCLIP, of whose 2D vision transformer the trunk is read.
    Slices,
}

impl Part {
    /// By the names of its tensors; `None` for files that do not belong to a model.
    pub fn of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        let any = |beginning: &str| names.clone().any(|name| name.starts_with(beginning));
        let kinds = [
            (Self::Projectors, any("model.mm_projector2.resolution_attention.")),
            (
                Self::Vision,
                any("vision_encoder.slice_guided_attention.")
                    && any(&format!("{FIRST_STAGE}blocks.")),
            ),
            (Self::Slices, any(&format!("{TRUNK}blocks."))),
            (Self::Words, any("model.layers.") && !any("model.vision")),
        ];
        kinds.into_iter().find_map(|(part, is)| is.then_some(part))
    }

    /// In a few words, with which file of its publisher it is.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Words => "the language model (Phi-4-mini-instruct)",
            Self::Projectors => "the projectors and LoRA updates (pytorch_model.bin)",
            Self::Vision => "the vision transformers (the folder of HSENet-CLIP, stage 2)",
            Self::Slices => "the encoder of slices (the folder of BiomedCLIP)",
        }
    }

    /// What a tensor of this part is called in the whole; `None` where nothing reads it there.
    pub fn name_in(self, whole: Whole, name: &str) -> Option<String> {
        let moved = |from: &str, to: &str| Some(format!("{to}{}", name.strip_prefix(from)?));
        match (whole, self) {
            (Whole::HseNet, Self::Words | Self::Projectors) => Some(name.to_owned()),
            (Whole::HseNet, Self::Vision) => {
                let tower = "model.vision_tower.vision_tower_stage";
                moved(FIRST_STAGE, &format!("{tower}1."))
                    .or_else(|| moved("vision_encoder.", &format!("{tower}2.")))
            }
            (Whole::HseNet, Self::Slices) => moved(TRUNK, "model.slice_encoder."),
            (Whole::HseNetClip, Self::Vision) => {
                let unread = ["stage1_pretrained_CLIP.", "visual_encoder_2D."];
                (!unread.iter().any(|part| name.starts_with(part))).then(|| name.to_owned())
            }
            (Whole::HseNetClip, Self::Slices) => moved(TRUNK, "slice_encoder."),
            (Whole::HseNetClip, _) => None,
        }
    }
}

impl Whole {
    /// What it is joined from, the part that it is named after first.
    pub fn parts(self) -> &'static [Part] {
        match self {
            Self::HseNet => &[Part::Projectors, Part::Words, Part::Vision, Part::Slices],
            Self::HseNetClip => &[Part::Vision, Part::Slices],
        }
    }

    /// The whole that a part is of which others are joined to.
    pub fn around(part: Part) -> Option<Self> {
        match part {
            Part::Projectors => Some(Self::HseNet),
            Part::Vision => Some(Self::HseNetClip),
            Part::Words | Part::Slices => None,
        }
    }

    /// As its authors call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::HseNet => "HSENet",
            Self::HseNetClip => "HSENet-CLIP",
        }
    }
}

const FIRST_STAGE: &str = "stage1_pretrained_CLIP.vision_encoder.";
const TRUNK: &str = "visual.trunk.";

#[cfg(test)]
mod tests {
    use super::*;

    const VISION: [&str; 4] = [
        "vision_encoder.slice_guided_attention.Wq.weight",
        "vision_encoder.blocks.0.norm1.bias",
        "stage1_pretrained_CLIP.vision_encoder.blocks.0.norm1.bias",
        "stage1_pretrained_CLIP.logit_scale",
    ];

    #[test]
    fn a_part_is_known_by_its_tensors() {
        let of = |names: &[&str]| Part::of(names.iter().copied());
        assert_eq!(of(&VISION), Some(Part::Vision));
        assert_eq!(of(&VISION[1..]), None);
        assert_eq!(of(&["visual.trunk.blocks.0.norm1.weight", "logit_scale"]), Some(Part::Slices));
        assert_eq!(of(&["model.layers.0.mlp.down_proj.weight"]), Some(Part::Words));
        let whole = ["model.layers.0.mlp.down_proj.weight", "model.vision_tower.norm.weight"];
        assert_eq!(of(&whole), None);
        let projectors = ["model.mm_projector2.resolution_attention.Wq.weight"];
        assert_eq!(of(&projectors), Some(Part::Projectors));
    }

    #[test]
    fn towers_change_places_and_the_rest_is_left_out() {
        let [guided, second, first, scale] =
            VISION.map(|name| Part::Vision.name_in(Whole::HseNet, name));
        let tower = "model.vision_tower.vision_tower_stage";
        assert_eq!(guided.unwrap(), format!("{tower}2.slice_guided_attention.Wq.weight"));
        assert_eq!(second.unwrap(), format!("{tower}2.blocks.0.norm1.bias"));
        assert_eq!(first.unwrap(), format!("{tower}1.blocks.0.norm1.bias"));
        assert_eq!(scale, None);
        let clip = VISION.map(|name| Part::Vision.name_in(Whole::HseNetClip, name));
        assert_eq!(clip, [Some(VISION[0].into()), Some(VISION[1].into()), None, None]);
        let trunk = |whole| Part::Slices.name_in(whole, "visual.trunk.norm.bias").unwrap();
        assert_eq!(trunk(Whole::HseNet), "model.slice_encoder.norm.bias");
        assert_eq!(trunk(Whole::HseNetClip), "slice_encoder.norm.bias");
        assert_eq!(Part::Slices.name_in(Whole::HseNet, "visual.head.proj.weight"), None);
    }
}
