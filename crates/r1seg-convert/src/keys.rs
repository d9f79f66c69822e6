//! Names of tensors: what publishers put around them, and what r1seg calls them.
//!
//! This is the one place where a name changes. In order:
//!
//! | found | becomes | where it comes from |
//! |---|---|---|
//! | `module.X` on every tensor | `X` | DistributedDataParallel; `SegVol_v1.pth` is `{'model': {module.X}}` |
//! | `_orig_mod.X` on every tensor | `X` | torch.compile |
//! | `model.image_encoder.*`, `model.mask_decoder.*` and no language model | without `model.` | SegVol as its publisher packs it for transformers (`pytorch_model.bin`); R1Seg-3D-SAM and the authors' own SegVol file have these names without a prefix |
//! | `*.embeddings.position_ids` | left out | a counter 0, 1, 2.. that old versions of transformers saved |
//! | `*.rotary_emb.inv_freq` | left out | computed from `config.json`; likewise |
//!
//! A language model's `model.layers.*`, `model.vision_module.*`, `model.seg_module.*`, `lm_head.*` are
//! the published names, and stay.

use crate::source::Stored;

/// What became of the names.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Renamed {
    /// Prefixes that were taken off, outermost first.
    pub(crate) prefixes: Vec<&'static str>,
    /// Tensors that were left out.
    pub(crate) dropped: Vec<String>,
}

/// Takes wrapping prefixes off all names, and leaves recomputed buffers out.
pub(crate) fn normalize(tensors: &mut Vec<Stored>) -> Renamed {
    let mut renamed = Renamed::default();
    loop {
        let has = |prefix: &str| tensors.iter().all(|t| t.entry.name.starts_with(prefix));
        let prefix = if tensors.is_empty() {
            None
        } else if has("module.") {
            Some("module.")
        } else if has("_orig_mod.") {
            Some("_orig_mod.")
        } else if has("model.") && is_segvol(tensors) {
            Some("model.")
        } else {
            None
        };
        let Some(prefix) = prefix else {
            break;
        };
        for stored in tensors.iter_mut() {
            stored.entry.name.drain(..prefix.len());
        }
        renamed.prefixes.push(prefix);
    }
    tensors.retain(|stored| {
        let name = &stored.entry.name;
        let drop =
            name.ends_with(".embeddings.position_ids") || name.ends_with(".rotary_emb.inv_freq");
        if drop {
            renamed.dropped.push(name.clone());
        }
        !drop
    });
    renamed
}

/// A language model would have its layers, and its vision parts one level deeper.
fn is_segvol(tensors: &[Stored]) -> bool {
    let any = |prefix: &str| tensors.iter().any(|t| t.entry.name.starts_with(prefix));
    any("model.image_encoder.") && any("model.mask_decoder.") && !any("model.layers.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorEntry;
    use r1seg_checkpoint::NumberFormat;

    fn normalized(names: &[&str]) -> (Vec<String>, Renamed) {
        let stored = |name: &&str| Stored {
            file: 0,
            entry: TensorEntry {
                name: (*name).to_owned(),
                dtype: NumberFormat::F32,
                shape: vec![1],
                strides: vec![1],
                start: 0,
                storage: [0, 4],
            },
        };
        let mut tensors: Vec<Stored> = names.iter().map(stored).collect();
        let renamed = normalize(&mut tensors);
        (tensors.into_iter().map(|t| t.entry.name).collect(), renamed)
    }

    #[test]
    fn segvol_of_transformers_and_of_its_authors_have_the_same_names() {
        let (packed, renamed) = normalized(&[
            "model.image_encoder.norm.weight",
            "model.mask_decoder.iou_token.weight",
            "model.text_encoder.clip_text_model.text_model.embeddings.position_ids",
        ]);
        assert_eq!(packed, ["image_encoder.norm.weight", "mask_decoder.iou_token.weight"]);
        assert_eq!(renamed.prefixes, ["model."]);
        assert_eq!(renamed.dropped.len(), 1);

        let (own, renamed) = normalized(&[
            "module.image_encoder.norm.weight",
            "module.mask_decoder.iou_token.weight",
        ]);
        assert_eq!(own, packed);
        assert_eq!(renamed.prefixes, ["module."]);
    }

    #[test]
    fn a_language_model_keeps_its_published_names() {
        let names = [
            "model.embed_tokens.weight",
            "model.layers.0.self_attn.o_proj.weight",
            "model.vision_module.image_encoder.norm.weight",
            "model.vision_module.mask_decoder.iou_token.weight",
        ];
        assert_eq!(normalized(&names), (names.map(str::to_owned).to_vec(), Renamed::default()));
    }

    #[test]
    fn a_prefix_that_only_some_names_have_stays() {
        let names = ["module.a.weight", "b.weight"];
        assert_eq!(normalized(&names).0, names);
    }
}
