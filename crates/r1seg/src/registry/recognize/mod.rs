//! Which model a checkpoint without `config.json` is, and what its `config.json` would say: both are in
//! the names and the axes of its tensors.
//!
//! The authors of SAM-Med3D, NeuroSAM3D and VISTA3D keep the sizes of their networks in code. What of these
//! no tensor shows is a constant of that code, and a constant here.

mod hsenet;
mod vista3d;

use std::collections::BTreeMap;

use r1seg_convert::{Recovered, RecoveredConfig, Shapes};
use serde_json::{Map, Value, json};

use super::{MODELS, ModelEntry, ModelType, identify};
use crate::checkpoint::Found;

pub use hsenet::compose_config;
pub(super) use vista3d::vista3d;

/// Fields of `config.json`.
type Fields = Vec<(&'static str, Value)>;

/// How a checkpoint of a `model_type` is known without its `config.json`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recovery {
    /// Tensors that such a checkpoint has.
    pub(crate) present: &'static [&'static str],
    /// Tensors that only its relatives have.
    pub(crate) absent: &'static [&'static str],
    /// The fields of `config.json` beside `model_type`.
    pub(crate) fields: fn(&Shapes) -> Result<Fields, String>,
}

/// The axes of tensors that were found.
pub(crate) fn shapes(found: &BTreeMap<String, Found>) -> Shapes {
    found.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect()
}

/// The row and the `model_type` whose tensors these are.
pub(crate) fn recognize(shapes: &Shapes) -> Option<(&'static ModelEntry, &'static ModelType)> {
    let is_there = |name: &&str| shapes.contains_key(*name);
    let fits = |known: &&ModelType| {
        known.recovery.is_some_and(|Recovery { present, absent, .. }| {
            present.iter().all(is_there) && !absent.iter().any(is_there)
        })
    };
    MODELS.iter().find_map(|entry| Some((*entry, entry.model_types.iter().find(fits)?)))
}

/// The `config.json` of a checkpoint that has none, or has one for another loader than this (`own`), from
/// the axes of its tensors by name; `None` where they are those of no model that is known by them, or
/// where its own describes a model. `published` is the repository that it comes from, where that is known:
/// NV-Segment-CT and NV-Segment-CTMR have the same tensors.
///
/// # Errors
/// Which fields `config.json` must name, since they do not follow from the tensors, or which tensor
/// lacks an axis that they would follow from.
pub fn recover_config(
    shapes: &Shapes,
    own: Option<&Map<String, Value>>,
    published: Option<&str>,
) -> Recovered {
    if own.is_some_and(|own| identify(&Value::Object(own.clone())).is_ok()) {
        return None;
    }
    let (entry, known) = recognize(shapes)?;
    let fields = (known.recovery?.fields)(shapes);
    let published = entry.published.iter().find(|of| Some(of.repository) == published);
    let own_type = published.and_then(|published| published.model_type);
    let with_type = |mut fields: Fields| {
        if own_type.is_some() {
            // What no tensor shows is a constant of the other model.
            fields.retain(|(field, _)| {
                !["patch_size", "last_supported", "intensity_range"].contains(field)
            });
        }
        let model_type = own_type.unwrap_or(known.name);
        let fields = fields.into_iter().chain([("model_type", model_type.into())]);
        let config = fields.map(|(field, value)| (field.to_string(), value)).collect();
        RecoveredConfig { model: entry.name, config }
    };
    let named = |what| format!("there is none, and {what} ({})", entry.name);
    Some(fields.map(with_type).map_err(named))
}

/// One number of the axes of a tensor.
fn axis(shapes: &Shapes, name: &str, axis: usize) -> Result<usize, String> {
    let found = shapes.get(name).and_then(|shape| shape.get(axis)).copied();
    found
        .filter(|length| 0 < *length)
        .ok_or_else(|| format!("tensor `{name}`, from which its fields follow, has no axis {axis}"))
}

/// How many blocks or layers there are: `name` names a tensor of each.
fn count(shapes: &Shapes, name: impl Fn(usize) -> String) -> usize {
    (0..).take_while(|i| shapes.contains_key(&name(*i))).count()
}

/// SAM-Med3D's.
pub(super) fn sam_med3d(shapes: &Shapes) -> Result<Fields, String> {
    let mut fields = vit(shapes)?;
    fields.extend(mask_head(shapes, "prompt_encoder.mask_downscaling.3.weight")?);
    Ok(fields)
}

/// NeuroSAM3D's with the encoder of SAM-Med3D.
pub(super) fn neurosam3d_vit(shapes: &Shapes) -> Result<Fields, String> {
    let mut fields = vit(shapes)?;
    fields.extend(mask_head(shapes, NEUROSAM3D_MASKS)?);
    Ok(fields)
}

/// NeuroSAM3D's with Hiera for an encoder.
pub(super) fn neurosam3d_hiera(shapes: &Shapes) -> Result<Fields, String> {
    let mut fields = hiera(shapes)?;
    fields.extend(mask_head(shapes, NEUROSAM3D_MASKS)?);
    Ok(fields)
}

/// The last convolution with a stride of 2 over the prompted mask, which widens it to its channels.
const NEUROSAM3D_MASKS: &str = "prompt_encoder.mask_downscaling.6.weight";

fn vit(shapes: &Shapes) -> Result<Fields, String> {
    let block = |i: usize, rest: &str| format!("image_encoder.blocks.{i}.{rest}");
    let patch = axis(shapes, "image_encoder.patch_embed.proj.weight", 2)?;
    let grid = axis(shapes, "image_encoder.pos_embed", 1)?;
    let width = axis(shapes, "image_encoder.pos_embed", 4)?;
    let depth = count(shapes, |i| block(i, "norm1.weight"));
    let mlp = axis(shapes, &block(0, "mlp.lin1.weight"), 0)?;
    let head = axis(shapes, &block(0, "attn.rel_pos_d"), 1)?;
    // A table has a row for each distance within a window, or within the grid.
    let side = |i| axis(shapes, &block(i, "attn.rel_pos_d"), 0).map(|rows| rows.div_ceil(2));
    let sides: Vec<usize> = (0..depth).map(side).collect::<Result<_, _>>()?;
    let global: Vec<usize> = (0..depth).filter(|i| sides[*i] == grid).collect();
    // A window as large as the grid is the whole of it.
    let window = sides.iter().find(|side| **side != grid).copied().unwrap_or(grid);
    Ok(vec![
        ("image_size", grid.saturating_mul(patch).into()),
        ("patch_size", patch.into()),
        ("window_size", window.into()),
        ("encoder_embed_dim", width.into()),
        ("encoder_depth", depth.into()),
        ("encoder_num_heads", (width / head).into()),
        ("encoder_mlp_ratio", ratio(mlp, width)),
        ("encoder_global_attn_indexes", global.into()),
    ])
}

/// How many times as wide; a whole number where it is one.
fn ratio(wide: usize, narrow: usize) -> Value {
    match wide % narrow {
        0 => (wide / narrow).into(),
        _ => (wide as f64 / narrow as f64).into(),
    }
}

/// Blocks in each stage of Hiera at the size of the authors' code.
const HIERA_STAGES: [usize; 4] = [2, 3, 12, 3];
/// Voxels along an axis of Hiera's input: the table of positions is stretched to any other.
const HIERA_IMAGE: usize = 128;

fn hiera(shapes: &Shapes) -> Result<Fields, String> {
    let trunk = |rest: &str| format!("image_encoder.trunk.{rest}");
    let block = |i: usize, rest: &str| trunk(&format!("blocks.{i}.{rest}"));
    let width = axis(shapes, &trunk("patch_embed.proj.weight"), 0)?;
    let window = axis(shapes, &trunk("pos_embed_window"), 2)?;
    let depth = count(shapes, |i| block(i, "norm1.weight"));
    // What widens its input opens a stage.
    let opens = (1..depth).filter(|i| shapes.contains_key(&block(*i, "proj.weight")));
    let starts: Vec<usize> = [0].into_iter().chain(opens).chain([depth]).collect();
    let stages: Vec<usize> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if stages != HIERA_STAGES || window != 8 {
        return Err(format!(
            "tensors tell encoder_num_heads, encoder_window_spec and encoder_global_attn_indexes only \
             for stages of {HIERA_STAGES:?} blocks and windows of 8; these are {stages:?} and \
             {window}: write one that names them"
        ));
    }
    Ok(vec![
        ("image_size", HIERA_IMAGE.into()),
        ("encoder_embed_dim", width.into()),
        // 32 numbers for each, as at full size.
        ("encoder_num_heads", (width / 32).max(1).into()),
        ("encoder_stages", stages.into()),
        ("encoder_window_spec", json!([8, 4, 14, 7])),
        ("encoder_global_attn_indexes", json!([7, 12, 16])),
        ("encoder_q_pool", 3.into()),
        ("fpn_top_down_levels", json!([2, 3])),
        ("scalp", 1.into()),
    ])
}

/// The prompt encoder and the mask decoder; `masks` is the convolution whose outputs are the channels of
/// a prompted mask.
fn mask_head(shapes: &Shapes, masks: &str) -> Result<Fields, String> {
    let layer = |i: usize, rest: &str| format!("mask_decoder.transformer.layers.{i}.{rest}");
    let tokens = axis(shapes, "mask_decoder.mask_tokens.weight", 0)?;
    let iou_hidden = axis(shapes, "mask_decoder.iou_prediction_head.layers.0.weight", 0)?;
    Ok(vec![
        ("prompt_embed_dim", axis(shapes, "prompt_encoder.no_mask_embed.weight", 1)?.into()),
        ("decoder_depth", count(shapes, |i| layer(i, "norm1.weight")).into()),
        ("decoder_num_heads", 8.into()),
        ("decoder_mlp_dim", axis(shapes, &layer(0, "mlp.lin1.weight"), 0)?.into()),
        ("mask_in_chans", axis(shapes, masks, 0)?.into()),
        ("iou_head_hidden_dim", iou_hidden.into()),
        // The first is that of the single mask.
        ("num_multimask_outputs", (tokens - 1).into()),
    ])
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::CheckpointSource;
    use crate::registry::Family;

    pub(super) fn case(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(name)
    }

    /// The tensors of a recorded checkpoint under the names that converting gives them.
    pub(super) fn tensors(file: &str) -> Shapes {
        let contents = r1seg_convert::contents(&case(file), None).unwrap();
        let axes = |shape: &[u64]| shape.iter().map(|n| usize::try_from(*n).unwrap()).collect();
        contents.tensors.into_iter().map(|tensor| (tensor.name, axes(&tensor.shape))).collect()
    }

    fn recorded(name: &str) -> Value {
        let json = std::fs::read(case(name).join("config.json")).unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    fn recovered(shapes: &Shapes) -> Value {
        Value::Object(recover_config(shapes, None, None).unwrap().unwrap().config)
    }

    /// Tensors with other axes, or other tensors.
    fn changed(file: &str, change: impl FnOnce(&mut Shapes)) -> Shapes {
        let mut shapes = tensors(file);
        change(&mut shapes);
        shapes
    }

    #[test]
    fn the_recorded_configurations_are_recovered_field_by_field() {
        for (file, name) in [
            ("sam-med3d/sam_med3d_turbo.pth", "sam-med3d"),
            ("sam-med3d/model.safetensors", "sam-med3d"),
            ("neurosam3d-vit/last.ckpt", "neurosam3d-vit"),
        ] {
            assert_eq!(recovered(&tensors(file)), recorded(name), "{file}");
        }
    }

    #[test]
    fn sam_med3d_at_full_size_has_the_numbers_of_its_authors_code() {
        let shapes = full_size_sam_med3d();
        let expected = json!({
            "model_type": recorded("sam-med3d")["model_type"], "image_size": 128, "patch_size": 16,
            "window_size": 14, "encoder_embed_dim": 768, "encoder_depth": 12,
            "encoder_num_heads": 12, "encoder_mlp_ratio": 4,
            "encoder_global_attn_indexes": [2, 5, 8, 11], "prompt_embed_dim": 384,
            "decoder_depth": 2, "decoder_num_heads": 8, "decoder_mlp_dim": 2048,
            "mask_in_chans": 16, "iou_head_hidden_dim": 256, "num_multimask_outputs": 3,
        });
        assert_eq!(recovered(&shapes), expected);
    }

    /// Only the tensors that are looked at.
    fn full_size_sam_med3d() -> Shapes {
        let mut shapes = Shapes::new();
        let mut add = |name: String, shape: &[usize]| drop(shapes.insert(name, shape.to_vec()));
        add("image_encoder.patch_embed.proj.weight".into(), &[768, 1, 16, 16, 16]);
        add("image_encoder.pos_embed".into(), &[1, 8, 8, 8, 768]);
        for i in 0..12 {
            let rows = if i % 3 == 2 { 15 } else { 27 };
            add(format!("image_encoder.blocks.{i}.norm1.weight"), &[768]);
            add(format!("image_encoder.blocks.{i}.mlp.lin1.weight"), &[3072, 768]);
            add(format!("image_encoder.blocks.{i}.attn.rel_pos_d"), &[rows, 64]);
        }
        add("prompt_encoder.no_mask_embed.weight".into(), &[1, 384]);
        add("prompt_encoder.mask_downscaling.3.weight".into(), &[16, 4, 2, 2, 2]);
        add("mask_decoder.output_upscaling.0.weight".into(), &[384, 96, 2, 2, 2]);
        for i in 0..2 {
            add(format!("mask_decoder.transformer.layers.{i}.norm1.weight"), &[384]);
            add(format!("mask_decoder.transformer.layers.{i}.mlp.lin1.weight"), &[2048, 384]);
        }
        add("mask_decoder.iou_prediction_head.layers.0.weight".into(), &[256, 384]);
        add("mask_decoder.mask_tokens.weight".into(), &[4, 384]);
        shapes
    }

    const HIERA: &str = "neurosam3d-hiera/model.safetensors";

    #[test]
    fn hiera_of_another_depth_names_the_fields_that_no_tensor_tells() {
        let error = recover_config(&tensors(HIERA), None, None).unwrap().unwrap_err();
        for words in [
            "encoder_num_heads",
            "encoder_window_spec",
            "encoder_global_attn_indexes",
            "[1, 2, 4, 2]",
            "NeuroSAM3D",
        ] {
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn hiera_at_full_size_has_the_numbers_of_its_authors_code() {
        let shapes = changed(HIERA, |shapes| {
            shapes.retain(|name, _| !name.contains(".blocks."));
            for i in 0..20 {
                let block = format!("image_encoder.trunk.blocks.{i}");
                shapes.insert(format!("{block}.norm1.weight"), vec![256]);
                if [2, 5, 17].contains(&i) {
                    shapes.insert(format!("{block}.proj.weight"), vec![512, 256]);
                }
            }
            shapes.insert(
                "image_encoder.trunk.patch_embed.proj.weight".into(),
                vec![256, 1, 7, 7, 7],
            );
        });
        let mut expected = recorded("neurosam3d-hiera");
        expected["encoder_embed_dim"] = 256.into();
        expected["encoder_num_heads"] = 8.into();
        expected["encoder_stages"] = json!([2, 3, 12, 3]);
        expected["encoder_global_attn_indexes"] = json!([7, 12, 16]);
        assert_eq!(recovered(&shapes), expected);
    }

    #[test]
    fn each_model_that_its_tensors_tell_is_told_from_the_others() {
        let family = |file: &str| recognize(&tensors(file)).map(|(entry, _)| entry.family);
        assert_eq!(family("sam-med3d/model.safetensors"), Some(Family::SamMed3d));
        assert_eq!(family("neurosam3d-vit/last.ckpt"), Some(Family::NeuroSam3d));
        assert_eq!(family(HIERA), Some(Family::NeuroSam3d));
        for vista3d in ["model.safetensors", "published/model_monai1.3.pt"] {
            assert_eq!(family(&format!("vista3d/{vista3d}")), Some(Family::Vista3d), "{vista3d}");
        }
        for other in ["segvol", "r1seg-3dsam", "m3d-clip", "m3d-phi3", "phi3"] {
            assert_eq!(family(&format!("{other}/model.safetensors")), None, "{other}");
        }
        assert_eq!(recover_config(&Shapes::new(), None, None), None);
    }

    #[test]
    fn tensors_without_the_axes_that_would_tell_are_named() {
        let file = "sam-med3d/model.safetensors";
        for (name, shape) in [
            ("image_encoder.pos_embed", vec![1]),
            ("image_encoder.patch_embed.proj.weight", vec![16, 1, 0, 16, 16]),
            ("image_encoder.blocks.2.attn.rel_pos_d", vec![]),
            ("mask_decoder.mask_tokens.weight", vec![0, 48]),
        ] {
            let shapes = changed(file, |shapes| drop(shapes.insert(name.into(), shape)));
            let error = recover_config(&shapes, None, None).unwrap().unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        // A product beyond what can be counted is left to the reader of config.json.
        let shapes = changed(file, |shapes| {
            shapes.insert("image_encoder.pos_embed".into(), vec![1, usize::MAX, 8, 8, 16]);
        });
        assert_eq!(recovered(&shapes)["image_size"], json!(usize::MAX));
    }

    #[test]
    fn a_config_of_another_loader_is_no_reason_not_to_look_at_the_tensors() {
        let shapes = tensors("sam-med3d/model.safetensors");
        let fields = |json: Value| json.as_object().cloned();
        let ours = fields(recorded("sam-med3d"));
        assert_eq!(recover_config(&shapes, ours.as_ref(), None), None);
        for other in [json!({"model_type": "VISTA3D"}), json!({})] {
            let other = fields(other);
            let found = recover_config(&shapes, other.as_ref(), None).unwrap().unwrap();
            assert_eq!(Some(found.config), ours);
        }

        let folder = tempfile::tempdir().unwrap();
        let source = CheckpointSource::Folder(folder.path().to_path_buf());
        let put = |name: &str, file: &str| {
            std::fs::copy(case(file), folder.path().join(name)).unwrap();
        };
        put("model.safetensors", "sam-med3d/model.safetensors");
        std::fs::write(folder.path().join("config.json"), r#"{"model_type": "pipeline"}"#).unwrap();
        assert_eq!(source.family().unwrap(), Family::SamMed3d);
        // What it says is still the reason where tensors tell nothing.
        for weights in ["segvol/model.safetensors", HIERA] {
            put("model.safetensors", weights);
            assert!(source.family().unwrap_err().message().contains("pipeline"));
        }
    }

    #[test]
    fn a_folder_of_safetensors_alone_is_of_the_family_of_its_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let source = CheckpointSource::Folder(folder.path().to_path_buf());
        let put = |file: &str| {
            std::fs::copy(case(file), folder.path().join("model.safetensors")).unwrap();
        };
        put("sam-med3d/model.safetensors");
        assert_eq!(source.family().unwrap(), Family::SamMed3d);
        put(HIERA);
        let error = source.family().unwrap_err();
        assert_eq!(error.code(), "R-CFG-01");
        assert!(error.message().contains("encoder_window_spec"), "{error}");
        put("segvol/model.safetensors");
        let error = source.family().unwrap_err();
        assert_eq!(error.code(), "R-MDL-03");
        assert!(error.message().contains("config.json"), "{error}");
    }
}
