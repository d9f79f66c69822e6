//! The projector between vision transformer and language model in `config.json`.

use r1seg_projector::{LayerType, MmProjectorConfig, PoolingType, ProjectorType};
use r1seg_vit3d::Vit3dConfig;
use serde_json::Value;

use super::{MAX_SIZE, field};

/// Between the patches of `vit` and tokens of width `out_dim`, of which each of so many encoders has as
/// many as the others.
///
/// # Errors
/// The first field of which no projector can be made.
pub(crate) fn read(
    config: &Value,
    vit: &Vit3dConfig,
    (out_dim, encoders): (usize, usize),
) -> Result<MmProjectorConfig, String> {
    let window = field(config, "proj_kernel_size")?.unwrap_or([1, 4, 4]);
    let projector = MmProjectorConfig {
        projector_type: choice(
            config,
            "mm_projector_type",
            &[
                ("spp", ProjectorType::SpatialPooling),
                ("linear", ProjectorType::Linear),
                ("identity", ProjectorType::Identity),
                ("VisualPacker_3d_phi_v3", ProjectorType::VisualPacker { window }),
            ],
        )?,
        layer_type: choice(
            config,
            "proj_layer_type",
            &[("mlp", LayerType::Mlp), ("linear", LayerType::Linear)],
        )?,
        layer_num: field(config, "proj_layer_num")?.unwrap_or(2),
        pooling_type: choice(
            config,
            "proj_pooling_type",
            &[("spatial", PoolingType::Spatial), ("sequence", PoolingType::Sequence)],
        )?,
        pooling_size: field(config, "proj_pooling_size")?.unwrap_or(2),
        grid: vit.grid(),
        in_dim: vit.hidden_size,
        out_dim,
    };
    let size = projector.pooling_size;
    if size == 0 || size > MAX_SIZE {
        return Err(format!("proj_pooling_size is {size}, expected 1 to {MAX_SIZE}"));
    }
    projector.validate()?;
    // It follows from the other fields; a config that says otherwise is of another model.
    let tokens = projector.num_tokens().saturating_mul(encoders);
    match field::<usize>(config, "proj_out_num")?.filter(|given| *given != tokens) {
        None => Ok(projector),
        Some(given) => Err(format!(
            "proj_out_num is {given}, but image size, patch_size, mm_projector_type and the sizes of its \
             pooling give {tokens} visual tokens"
        )),
    }
}

/// A field that is one of a few words; the first is what the authors' code takes where it is absent.
fn choice<T: Copy>(config: &Value, name: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let given: Option<String> = field(config, name)?;
    let named = |word: &str| choices.iter().find(|(known, _)| *known == word);
    let found = match &given {
        Some(word) => named(word),
        None => choices.first(),
    };
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let (last, first) = words
            .split_last()
            .map_or(("", String::new()), |(last, first)| (*last, first.join(", ")));
        format!("{name} is `{}`, expected {first} or {last}", given.unwrap_or_default())
    })
}
