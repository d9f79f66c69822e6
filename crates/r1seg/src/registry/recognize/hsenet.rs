//! HSENet: its authors publish LoRA updates and projectors, and name the models that these are of in scripts.
//! What `config.json` of the whole says follows from the parts.

use r1seg_convert::{NewTokens, PartConfigs, Shapes};
use serde_json::{Map, Value, json};

use super::{axis, count};
use crate::checkpoint::keys::Whole;
use crate::config::field;
use crate::registry::rows::{HSENET, STAGE_2};

/// The `config.json` of a model that is joined from parts.
///
/// # Errors
/// What of it the parts do not tell, or where they contradict each other.
pub fn compose_config(parts: &PartConfigs<'_>) -> Result<Map<String, Value>, String> {
    match (parts.whole, parts.words, parts.tokens) {
        (Whole::HseNet, Some(words), Some(tokens)) => hsenet(parts, words, tokens),
        (Whole::HseNet, ..) => Err("the language model has none".to_owned()),
        (Whole::HseNetClip, ..) => {
            let mut config = parts.vision.clone();
            config.insert("slice_encoder".to_owned(), slices(parts, "slice_encoder")?);
            config.insert("model_type".to_owned(), STAGE_2.into());
            Ok(config)
        }
    }
}

fn hsenet(
    parts: &PartConfigs<'_>,
    words: &Map<String, Value>,
    tokens: NewTokens,
) -> Result<Map<String, Value>, String> {
    let mut config = words.clone();
    config.remove("transformers_version");
    let vision = Value::Object(parts.vision.clone());
    let given = |name: &str| field::<Value>(&vision, name);
    let sizes = |name: &str, default: [usize; 3]| {
        Ok::<_, String>(field::<[usize; 3]>(&vision, name)?.unwrap_or(default))
    };
    let (image, patch) = (sizes("img_size", [32, 256, 256])?, sizes("patch_size", [4, 16, 16])?);
    let window = [1, 4, 4];
    let mut packed = 2;
    for n in 0..3 {
        let cells = image[n].checked_div(patch[n]).unwrap_or(0);
        packed *= cells / window[n];
    }
    let tower = "model.vision_tower.vision_tower_stage1";
    let width = axis(parts.shapes, &format!("{tower}.cls_token"), 2)?;
    let mut fields = vec![
        ("architectures", json!(["LamedPhi3ForCausalLM"])),
        ("model_type", HSENET.model_types.first().map_or("", |of| of.name).into()),
        ("vocab_size", (tokens.first() + tokens.count()).into()),
        ("tie_word_embeddings", true.into()),
        ("image_channel", given("in_channels")?.unwrap_or(1.into())),
        ("image_size", json!(image)),
        ("patch_size", json!(patch)),
        ("vision_tower", "vit_stage2_dual_encoders".into()),
        ("remain_2d3d_ViT_type", "dual_vits".into()),
        ("vision_select_layer", (-1).into()),
        ("vision_select_feature", "patch".into()),
        ("mm_hidden_size", width.into()),
        ("num_layers", count(parts.shapes, |n| format!("{tower}.blocks.{n}.norm1.weight")).into()),
        ("num_heads", given("num_heads")?.unwrap_or(12.into())),
        ("mlp_dim", axis(parts.shapes, &format!("{tower}.blocks.0.mlp.linear1.weight"), 0)?.into()),
        ("mm_projector_type", "VisualPacker_3d_phi_v3".into()),
        ("use_parallel_projector", true.into()),
        ("proj_kernel_size", json!(window)),
        ("proj_out_num", packed.into()),
        ("num_slices", 32.into()),
        ("img_token_id", tokens.image().into()),
        ("seg_token_id", tokens.seg().into()),
        ("slice_encoder", slices(parts, "model.slice_encoder")?),
    ];
    if let Some(lora) = parts.lora {
        let rank = lora.ranks.iter().max();
        fields.push(("lora", json!({"r": rank, "alpha": lora.alpha, "merged": true})));
    }
    config.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Ok(config)
}

/// timm's `vit_base_patch16_224` with the widths of the tensors below `place`.
fn slices(parts: &PartConfigs<'_>, place: &str) -> Result<Value, String> {
    let shapes: &Shapes = parts.shapes;
    let name = |rest: &str| format!("{place}.{rest}");
    let of = |rest: &str, n: usize| axis(shapes, &name(rest), n);
    let patch = of("patch_embed.proj.weight", 2)?;
    // Beside the class token, as many along both axes.
    let side = (of("pos_embed", 1)?.saturating_sub(1)).isqrt();
    let mut encoder = json!({
        "model": "vit_base_patch16_224",
        "image_size": side * patch,
        "patch_size": patch,
        "hidden_size": of("pos_embed", 2)?,
        "num_layers": count(shapes, |n| name(&format!("blocks.{n}.norm1.weight"))),
        "num_heads": 12,
        "mlp_dim": of("blocks.0.mlp.fc1.weight", 0)?,
        "layer_norm_eps": 1e-6,
        "jpeg_quality": 95,
    });
    let prepared = parts.slices.and_then(|slices| slices.get("preprocess_cfg"));
    for (ours, theirs) in [("image_mean", "mean"), ("image_std", "std")] {
        if let Some(numbers) = prepared.and_then(|prepared| prepared.get(theirs)) {
            encoder[ours] = numbers.clone();
        }
    }
    Ok(encoder)
}
