//! Names of tensors: what publishers put around them, and what r1seg calls them.
//!
//! Taken off once, when a checkpoint is converted. In order:
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

/// What became of the names.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// Prefixes that were taken off, outermost first.
    pub prefixes: Vec<&'static str>,
    /// Tensors that were left out.
    pub dropped: Vec<String>,
}

/// Takes wrapping prefixes off the names of all tensors, and leaves recomputed buffers out. `name`
/// is where a tensor has its name.
pub fn normalize<T>(tensors: &mut Vec<T>, name: impl Fn(&mut T) -> &mut String) -> Renamed {
    let mut renamed = Renamed::default();
    while let Some(prefix) = wrapping_prefix(tensors, &name) {
        for tensor in tensors.iter_mut() {
            name(tensor).drain(..prefix.len());
        }
        renamed.prefixes.push(prefix);
    }
    tensors.retain_mut(|tensor| {
        let name = name(tensor);
        let drop =
            name.ends_with(".embeddings.position_ids") || name.ends_with(".rotary_emb.inv_freq");
        if drop {
            renamed.dropped.push(name.clone());
        }
        !drop
    });
    renamed
}

/// The outermost prefix that means nothing to a model.
fn wrapping_prefix<T>(
    tensors: &mut [T],
    name: &impl Fn(&mut T) -> &mut String,
) -> Option<&'static str> {
    let mut all = |prefix: &str| tensors.iter_mut().all(|tensor| name(tensor).starts_with(prefix));
    let prefix = ["module.", "_orig_mod.", "model."].into_iter().find(|prefix| all(prefix))?;
    (!tensors.is_empty() && (prefix != "model." || is_segvol(tensors, name))).then_some(prefix)
}

/// A language model would have its layers, and its vision parts one level deeper.
fn is_segvol<T>(tensors: &mut [T], name: &impl Fn(&mut T) -> &mut String) -> bool {
    let mut any = |prefix: &str| tensors.iter_mut().any(|tensor| name(tensor).starts_with(prefix));
    any("model.image_encoder.") && any("model.mask_decoder.") && !any("model.layers.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(names: &[&str]) -> (Vec<String>, Renamed) {
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let renamed = normalize(&mut names, |name| name);
        (names, renamed)
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
