//! Names of tensors: what publishers put around them, and what r1seg calls them.
//!
//! Taken off once, when a checkpoint is converted. In order:
//!
//! | found | becomes | where it comes from |
//! |---|---|---|
//! | `module.X` on every tensor | `X` | DistributedDataParallel; `SegVol_v1.pth` is `{'model': {module.X}}` |
//! | `_orig_mod.X` on every tensor | `X` | torch.compile |
//! | `model.image_encoder.*`, `model.mask_decoder.*` and no language model | without `model.` | SegVol as its publisher packs it for transformers (`pytorch_model.bin`), NeuroSAM3D as Lightning saves it (`last.ckpt`); R1Seg-3D-SAM, SAM-Med3D and the authors' own SegVol file have these names without a prefix |
//! | beside these, every name without `model.` | left out | buffers of what a Lightning module trains with, such as the loss's `seg_loss.dice.class_weight` |
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

/// Takes wrapping prefixes off the names of all tensors, and leaves out what no model reads. `name`
/// is where a tensor has its name.
pub fn normalize<T>(tensors: &mut Vec<T>, name: impl Fn(&mut T) -> &mut String) -> Renamed {
    let mut renamed = Renamed::default();
    let Renamed { prefixes, dropped } = &mut renamed;
    let mut keep_if = |tensors: &mut Vec<T>, keeps: &dyn Fn(&str) -> bool| {
        tensors.retain_mut(|tensor| {
            let name = name(tensor);
            let is_kept = keeps(name);
            if !is_kept {
                dropped.push(name.clone());
            }
            is_kept
        });
    };
    while let Some(prefix) = wrapping_prefix(tensors, &name) {
        keep_if(tensors, &|name| name.starts_with(prefix));
        for tensor in tensors.iter_mut() {
            name(tensor).drain(..prefix.len());
        }
        prefixes.push(prefix);
    }
    let is_computed = |name: &str| {
        name.ends_with(".embeddings.position_ids") || name.ends_with(".rotary_emb.inv_freq")
    };
    keep_if(tensors, &|name| !is_computed(name));
    renamed
}

/// The outermost prefix that means nothing to a model.
fn wrapping_prefix<T>(
    tensors: &mut [T],
    name: &impl Fn(&mut T) -> &mut String,
) -> Option<&'static str> {
    let mut all = |prefix: &str| tensors.iter_mut().all(|tensor| name(tensor).starts_with(prefix));
    let wraps_all = ["module.", "_orig_mod."].into_iter().find(|prefix| all(prefix));
    let wrapping = wraps_all.or_else(|| is_wrapped_mask_model(tensors, name).then_some("model."));
    wrapping.filter(|_| !tensors.is_empty())
}

/// Whether the parts of a mask model are all below `model.`. A language model would have its layers,
/// and its vision parts one level deeper; a part that is there without the prefix too is not chosen
/// between.
fn is_wrapped_mask_model<T>(tensors: &mut [T], name: &impl Fn(&mut T) -> &mut String) -> bool {
    let mut any = |prefix: &str| tensors.iter_mut().any(|tensor| name(tensor).starts_with(prefix));
    let bare = ["image_encoder.", "prompt_encoder.", "mask_decoder.", "text_encoder.", "lm_head."];
    any("model.image_encoder.")
        && any("model.mask_decoder.")
        && !any("model.layers.")
        && !bare.into_iter().any(any)
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
    fn a_lightning_module_loses_its_prefix_and_what_it_trains_with() {
        let (names, renamed) = normalized(&[
            "model.image_encoder.pos_embed",
            "seg_loss.dice.class_weight",
            "model.mask_decoder.iou_token.weight",
        ]);
        assert_eq!(names, ["image_encoder.pos_embed", "mask_decoder.iou_token.weight"]);
        assert_eq!(renamed.prefixes, ["model."]);
        assert_eq!(renamed.dropped, ["seg_loss.dice.class_weight"]);
    }

    #[test]
    fn a_part_with_the_prefix_and_without_it_is_not_chosen_between() {
        for bare in ["image_encoder.pos_embed", "text_encoder.norm.weight", "lm_head.weight"] {
            let names = ["model.image_encoder.a", "model.mask_decoder.b", bare];
            assert_eq!(normalized(&names), (names.map(str::to_owned).to_vec(), Renamed::default()));
        }
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
