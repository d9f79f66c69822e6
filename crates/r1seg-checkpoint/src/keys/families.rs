//! Where a family of models keeps its parts in a checkpoint.
//!
//! A family's row in the registry names its map.

/// The names below which a family keeps its parts. Those of the language model, of `mm_projector`
/// and of `seg_projector` are the same in all of them.
#[derive(Debug)]
pub struct KeyMap {
    /// The encoder that the language model reads through the projector.
    pub encoder: &'static str,
    /// Another one, which it reads through a projector of its own.
    pub second_encoder: Option<&'static str>,
    /// The encoder of the mask decoder, where it is another one.
    pub mask_encoder: Option<&'static str>,
    /// What holds `prompt_encoder` and `mask_decoder`; empty for the root, where a model without a
    /// language model keeps them.
    pub mask_head: &'static str,
    /// Whether there is a language model.
    has_words: bool,
    /// Tensors below `mask_head` that published checkpoints carry and the authors' code never reads
    /// at inference: a name, or the beginning of names where it ends in a dot.
    unused: &'static [&'static str],
}

/// R1Seg-3D with a language model.
pub const R1SEG_3D: KeyMap = KeyMap {
    encoder: "model.vision_module.image_encoder",
    second_encoder: None,
    mask_encoder: None,
    mask_head: "model.vision_module",
    has_words: true,
    unused: &[
        // The contrastive heads of the pretraining.
        "mm_vision_proj.",
        "mm_language_proj.",
        "logit_scale",
        // Only the single-mask output is used.
        "mask_decoder.output_hypernetworks_mlps.1.",
        "mask_decoder.output_hypernetworks_mlps.2.",
        "mask_decoder.output_hypernetworks_mlps.3.",
    ],
};

/// M3D-LaMed.
pub const M3D_LAMED: KeyMap = KeyMap {
    encoder: "model.vision_tower.vision_tower",
    second_encoder: None,
    mask_encoder: Some("model.seg_module.image_encoder"),
    mask_head: "model.seg_module",
    has_words: true,
    unused: &[
        // 2D layers left of SAM, which no 3D mask goes through.
        "prompt_encoder.mask_downscaling.",
        "mask_decoder.output_hypernetworks_mlps.1.",
        "mask_decoder.output_hypernetworks_mlps.2.",
        "mask_decoder.output_hypernetworks_mlps.3.",
    ],
};

/// R1Seg-3D-SAM.
pub const R1SEG_3D_SAM: KeyMap = KeyMap {
    encoder: "image_encoder",
    second_encoder: None,
    mask_encoder: None,
    mask_head: "",
    has_words: false,
    unused: &[
        "mm_vision_proj.",
        "mm_language_proj.",
        "logit_scale",
        "mask_decoder.output_hypernetworks_mlps.1.",
        "mask_decoder.output_hypernetworks_mlps.2.",
        "mask_decoder.output_hypernetworks_mlps.3.",
        POSITION_IDS,
    ],
};

/// SegVol, once `r1seg convert` has taken off its publishers' prefixes.
pub const SEGVOL: KeyMap = KeyMap {
    encoder: "image_encoder",
    second_encoder: None,
    mask_encoder: None,
    mask_head: "",
    has_words: false,
    unused: &[
        "prompt_encoder.mask_downscaling.",
        "mask_decoder.output_hypernetworks_mlps.1.",
        "mask_decoder.output_hypernetworks_mlps.2.",
        "mask_decoder.output_hypernetworks_mlps.3.",
        POSITION_IDS,
    ],
};

/// M3D-CLIP.
pub const M3D_CLIP: KeyMap = KeyMap {
    encoder: "vision_encoder",
    second_encoder: None,
    mask_encoder: None,
    mask_head: "",
    has_words: false,
    unused: &[
        // BERT's head for sentence pairs, and a buffer that old versions of transformers saved.
        "language_encoder.pooler.",
        "language_encoder.embeddings.position_ids",
    ],
};

/// SAM-Med3D.
pub const SAM_MED3D: KeyMap = KeyMap {
    encoder: "image_encoder",
    second_encoder: None,
    mask_encoder: None,
    mask_head: "",
    has_words: false,
    unused: &[
        "mask_decoder.output_hypernetworks_mlps.1.",
        "mask_decoder.output_hypernetworks_mlps.2.",
        "mask_decoder.output_hypernetworks_mlps.3.",
    ],
};

/// NeuroSAM3D with either encoder, once `r1seg convert` has taken off Lightning's prefix.
pub const NEUROSAM3D: KeyMap = KeyMap {
    encoder: "image_encoder",
    second_encoder: None,
    mask_encoder: None,
    mask_head: "",
    has_words: false,
    unused: &[
        // Hiera's finer levels, which never reach the neck's output.
        "image_encoder.neck.convs.2.",
        "image_encoder.neck.convs.3.",
        "mask_decoder.output_hypernetworks_mlps.1.",
        "mask_decoder.output_hypernetworks_mlps.2.",
        "mask_decoder.output_hypernetworks_mlps.3.",
    ],
};

/// VISTA3D under the names of MONAI 1.4, which `r1seg convert` gives the tensors of the research code, too.
pub const VISTA3D: KeyMap = KeyMap {
    encoder: "image_encoder",
    second_encoder: None,
    mask_encoder: None,
    mask_head: "",
    has_words: false,
    unused: &[
        // The authors create them, and read them nowhere.
        "point_head.mask_downsample.",
        "point_head.class_embeddings.weight",
    ],
};

/// HSENet, once `r1seg convert` has joined what its authors publish in parts.
pub const HSENET: KeyMap = KeyMap {
    encoder: "model.vision_tower.vision_tower_stage1",
    second_encoder: Some("model.vision_tower.vision_tower_stage2"),
    mask_encoder: None,
    mask_head: "",
    has_words: true,
    unused: &[],
};

/// HSENet-CLIP of either stage.
pub const HSENET_CLIP: KeyMap = KeyMap {
    encoder: "vision_encoder",
    second_encoder: None,
    mask_encoder: None,
    mask_head: "",
    has_words: false,
    unused: &[
        "language_encoder.pooler.",
        "language_encoder.embeddings.position_ids",
        // The second stage carries the whole first one, from which it was trained, and a trunk that only a
        // masked training reads.
        "stage1_pretrained_CLIP.",
        "visual_encoder_2D.",
    ],
};

/// A buffer that old versions of transformers saved.
const POSITION_IDS: &str = "text_encoder.clip_text_model.text_model.embeddings.position_ids";

impl KeyMap {
    /// Whether the authors' code never reads a tensor at inference: such a tensor is tolerated by
    /// name, everything else is accounted for.
    pub fn never_used(&self, name: &str) -> bool {
        let below = |prefix: &str| match prefix {
            "" => Some(name),
            prefix => name.strip_prefix(prefix)?.strip_prefix('.'),
        };
        // MONAI 1.4 and later create these in every block, for a mode that is off.
        let extra =
            |rest: &str| rest.contains(".norm_cross_attn.") || rest.contains(".cross_attn.");
        let is = |rest: &str, unused: &str| match unused.ends_with('.') {
            true => rest.starts_with(unused),
            false => rest == unused,
        };
        // Of a language model: buffers that old versions of transformers saved, and a head that is
        // tied.
        let of_words = name.ends_with(".rotary_emb.inv_freq") || name == "lm_head.weight";
        self.has_words && of_words
            || below(self.encoder).is_some_and(extra)
            || self.second_encoder.and_then(below).is_some_and(extra)
            || self.mask_encoder.and_then(below).is_some_and(extra)
            || below(self.mask_head)
                .is_some_and(|rest| self.unused.iter().any(|unused| is(rest, unused)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_authors_never_read_is_tolerated() {
        for name in [
            "model.vision_module.logit_scale",
            "model.vision_module.mm_vision_proj.weight",
            "model.vision_module.mask_decoder.output_hypernetworks_mlps.3.layers.0.bias",
            "model.vision_module.image_encoder.blocks.0.cross_attn.to_q.weight",
            "model.layers.0.self_attn.rotary_emb.inv_freq",
            "lm_head.weight",
        ] {
            assert!(R1SEG_3D.never_used(name), "{name}");
        }
        for name in [
            "model.vision_module.logit_scale_2",
            "model.vision_module.mask_decoder.output_hypernetworks_mlps.0.layers.0.bias",
            "model.vision_modules.logit_scale",
            "model.seg_module.prompt_encoder.mask_downscaling.0.weight",
            "model.vision_module.mask_decoder.transformer.layers.0.cross_attn.to_q.weight",
        ] {
            assert!(!R1SEG_3D.never_used(name), "{name}");
        }
        for name in [
            "model.seg_module.prompt_encoder.mask_downscaling.0.weight",
            "model.seg_module.image_encoder.blocks.11.norm_cross_attn.weight",
            "model.vision_tower.vision_tower.blocks.0.cross_attn.out_proj.bias",
        ] {
            assert!(M3D_LAMED.never_used(name), "{name}");
        }
        assert!(!M3D_LAMED.never_used("model.seg_module.prompt_encoder.no_mask_embed.weight"));
        for name in [
            "prompt_encoder.mask_downscaling.0.weight",
            "image_encoder.blocks.11.norm_cross_attn.weight",
            "text_encoder.clip_text_model.text_model.embeddings.position_ids",
        ] {
            assert!(SEGVOL.never_used(name), "{name}");
        }
        for name in ["lm_head.weight", "logit_scale", "prompt_encoder.no_mask_embed.weight"] {
            assert!(!SEGVOL.never_used(name), "{name}");
        }
        for name in [
            "image_encoder.neck.convs.2.conv.weight",
            "mask_decoder.output_hypernetworks_mlps.1.layers.0.weight",
        ] {
            assert!(NEUROSAM3D.never_used(name), "{name}");
        }
        for name in [
            "image_encoder.neck.convs.1.conv.weight",
            "image_encoder.neck.2.weight",
            "prompt_encoder.mask_downscaling.0.weight",
            "mask_decoder.output_hypernetworks_mlps.0.layers.0.weight",
        ] {
            assert!(!NEUROSAM3D.never_used(name) && !SAM_MED3D.never_used(name), "{name}");
        }
        assert!(SAM_MED3D.never_used("mask_decoder.output_hypernetworks_mlps.3.layers.2.bias"));
        assert!(!SAM_MED3D.never_used("image_encoder.neck.convs.2.conv.weight"));
        for name in ["point_head.mask_downsample.bias", "point_head.class_embeddings.weight"] {
            assert!(VISTA3D.never_used(name), "{name}");
        }
        for name in [
            "class_head.class_embeddings.weight",
            "point_head.class_embeddings.bias",
            "point_head.feat_downsample.0.weight",
            "image_encoder.up_layers.3.head.bias",
            "weight_mapper.0.weight",
        ] {
            assert!(!VISTA3D.never_used(name), "{name}");
        }
        for name in [
            "lm_head.weight",
            "model.vision_tower.vision_tower_stage2.blocks.0.cross_attn.to_q.weight",
        ] {
            assert!(HSENET.never_used(name), "{name}");
        }
        assert!(
            !HSENET.never_used("model.vision_tower.vision_tower_stage2.patch_score_proj.weight")
        );
        assert!(HSENET_CLIP.never_used("stage1_pretrained_CLIP.logit_scale"));
        for name in ["logit_scale", "lm_head.weight", "vision_encoder.patch_score_proj.bias"] {
            assert!(!HSENET_CLIP.never_used(name), "{name}");
        }
        assert!(R1SEG_3D_SAM.never_used("logit_scale"));
        assert!(!R1SEG_3D_SAM.never_used("prompt_encoder.mask3D_downscaling.0.weight"));
    }
}
