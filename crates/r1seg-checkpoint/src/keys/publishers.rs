//! Names of tensors: what publishers put around them, and what r1seg calls them.
//!
//! Changed once, when a checkpoint is converted; what stands before every name is taken off whenever
//! weights are opened, too. In order:
//!
//! | found | becomes | where it comes from |
//! |---|---|---|
//! | `module.X` on every tensor | `X` | DistributedDataParallel; `SegVol_v1.pth` is `{'model': {module.X}}` |
//! | `_orig_mod.X` on every tensor | `X` | torch.compile |
//! | `network.X` on every tensor | `X` | NV-Segment-CT as its publisher packs it for transformers (`model.safetensors`); its pickles, and all files of NV-Segment-CTMR, have the names without it |
//! | `model.image_encoder.*`, `model.mask_decoder.*` and no language model | without `model.` | SegVol as its publisher packs it for transformers (`pytorch_model.bin`), NeuroSAM3D as Lightning saves it (`last.ckpt`); R1Seg-3D-SAM, SAM-Med3D and the authors' own SegVol file have these names without a prefix |
//! | beside these, every name without `model.` | left out | buffers of what a Lightning module trains with, such as the loss's `seg_loss.dice.class_weight` |
//! | of VISTA3D, `point_head.transformer.layers.N.mlp.lin1.*`, `lin2.*` | `linear1.*`, `linear2.*` | the research code, for MONAI 1.3 (`model_monai1.3.pt`); from MONAI 1.4 on it is `linear1`, `linear2` |
//! | of VISTA3D, `point_head.output_add_hypernetworks_mlps.*`, `weight_mapper.*` | left out | likewise: parts that never take part in a mask |
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
    /// Tensors whose own name was another: what it was without these prefixes, and what it became.
    pub renamed: Vec<[String; 2]>,
    /// Tensors that were left out.
    pub dropped: Vec<String>,
}

/// Gives all tensors the names that r1seg uses: takes wrapping prefixes off, renames what a family calls
/// otherwise today, and leaves out what no model reads. `name` is where a tensor has its name.
pub fn normalize<T>(tensors: &mut Vec<T>, name: impl Fn(&mut T) -> &mut String) -> Renamed {
    let mut renamed = Renamed::default();
    let Renamed { prefixes, renamed: replaced, dropped } = &mut renamed;
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
    if is_vista3d(tensors, &name) {
        keep_if(tensors, &|name| !VISTA3D_RESEARCH.iter().any(|part| name.starts_with(part)));
        for name in tensors.iter_mut().map(&name) {
            if let Some(current) = vista3d_name(name) {
                replaced.push([std::mem::replace(name, current.clone()), current]);
            }
        }
    }
    let is_computed = |name: &str| {
        name.ends_with(".embeddings.position_ids") || name.ends_with(".rotary_emb.inv_freq")
    };
    keep_if(tensors, &|name| !is_computed(name));
    renamed
}

/// What wrappers of modules put before every name.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "network."];

/// Takes off what wrappers of modules put before the names of all tensors, and nothing else. `name` is
/// where a tensor has its name.
pub fn strip_wrappers<T>(tensors: &mut [T], name: impl Fn(&mut T) -> &mut String) {
    while let Some(prefix) = wrapper(tensors, &name) {
        for tensor in tensors.iter_mut() {
            name(tensor).drain(..prefix.len());
        }
    }
}

/// The outermost prefix of [`WRAPPERS`] that every name has.
fn wrapper<T>(tensors: &mut [T], name: &impl Fn(&mut T) -> &mut String) -> Option<&'static str> {
    let mut all = |prefix: &str| tensors.iter_mut().all(|tensor| name(tensor).starts_with(prefix));
    let wrapping = WRAPPERS.into_iter().find(|prefix| all(prefix));
    wrapping.filter(|_| !tensors.is_empty())
}

/// The outermost prefix that means nothing to a model.
fn wrapping_prefix<T>(
    tensors: &mut [T],
    name: &impl Fn(&mut T) -> &mut String,
) -> Option<&'static str> {
    wrapper(tensors, name).or_else(|| is_wrapped_mask_model(tensors, name).then_some("model."))
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

/// What only the research code of VISTA3D has.
const VISTA3D_RESEARCH: [&str; 2] = ["point_head.output_add_hypernetworks_mlps.", "weight_mapper."];

/// Whether these are the tensors of VISTA3D: no other model has a second decoder for its classes.
fn is_vista3d<T>(tensors: &mut [T], name: &impl Fn(&mut T) -> &mut String) -> bool {
    let mut any = |is: &dyn Fn(&str) -> bool| tensors.iter_mut().any(|tensor| is(name(tensor)));
    any(&|name| name == "class_head.class_embeddings.weight")
        && any(&|name| name.starts_with("image_encoder.up_layers_auto."))
}

/// What a tensor of VISTA3D that the research code calls otherwise is called from MONAI 1.4 on.
fn vista3d_name(name: &str) -> Option<String> {
    let layers = "point_head.transformer.layers.";
    let (layer, rest) = name.strip_prefix(layers)?.split_once(".mlp.lin")?;
    let is_linear = ["1.", "2."].iter().any(|number| rest.starts_with(number));
    let is_layer = layer.bytes().all(|byte| byte.is_ascii_digit());
    (is_layer && is_linear).then(|| format!("{layers}{layer}.mlp.linear{rest}"))
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

    const VISTA3D: [&str; 2] =
        ["class_head.class_embeddings.weight", "image_encoder.up_layers_auto.3.head.bias"];
    const RESEARCH: [&str; 5] = [
        "point_head.transformer.layers.0.mlp.lin1.weight",
        "point_head.transformer.layers.11.mlp.lin2.bias",
        "point_head.output_add_hypernetworks_mlps.1.layers.2.bias",
        "point_head.output_hypernetworks_mlps.layers.2.bias",
        "weight_mapper.3.weight",
    ];

    #[test]
    fn vista3d_of_the_research_code_gets_the_names_of_monai_1_4() {
        let current = [
            VISTA3D[0],
            VISTA3D[1],
            "point_head.transformer.layers.0.mlp.linear1.weight",
            "point_head.transformer.layers.11.mlp.linear2.bias",
            RESEARCH[3],
        ];
        for wrapper in ["", "network.", "module."] {
            let names: Vec<String> =
                VISTA3D.iter().chain(&RESEARCH).map(|name| format!("{wrapper}{name}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let (names, renamed) = normalized(&names);
            assert_eq!(names, current);
            assert_eq!(renamed.prefixes.concat(), wrapper);
            assert_eq!(renamed.dropped, [RESEARCH[2], RESEARCH[4]]);
            let pairs = [[RESEARCH[0], current[2]], [RESEARCH[1], current[3]]];
            assert_eq!(renamed.renamed, pairs.map(|pair| pair.map(str::to_owned)));
        }
        assert_eq!(normalized(&current), (current.map(str::to_owned).to_vec(), Renamed::default()));
    }

    #[test]
    fn names_of_vista3d_s_research_code_stay_in_any_other_model() {
        for without in 0..VISTA3D.len() {
            let names = [&VISTA3D[without..=without], &RESEARCH[..]].concat();
            assert_eq!(normalized(&names), (names_of(&names), Renamed::default()));
        }
        // SAM's transformer has these names, and keeps them.
        let sam = "mask_decoder.transformer.layers.0.mlp.lin1.weight";
        let near = ["point_head.transformer.layers.x.mlp.lin1.weight", sam];
        let names = [&VISTA3D[..], &near].concat();
        assert_eq!(normalized(&names), (names_of(&names), Renamed::default()));
    }

    fn names_of(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_stands_before_every_name_is_taken_off_and_nothing_else() {
        let unwrapped = |names: &[&str]| {
            let mut names = names_of(names);
            strip_wrappers(&mut names, |name| name);
            names
        };
        assert_eq!(unwrapped(&["network.a.b", "network.c"]), ["a.b", "c"]);
        assert_eq!(unwrapped(&["module.network.a", "module.network.b"]), ["a", "b"]);
        for names in [["network.a", "b"], ["model.image_encoder.a", "model.mask_decoder.b"]] {
            assert_eq!(unwrapped(&names), names);
        }
        assert_eq!(unwrapped(&["a.embeddings.position_ids"]), ["a.embeddings.position_ids"]);
        assert!(unwrapped(&[]).is_empty());
    }
}
