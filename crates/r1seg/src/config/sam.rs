//! The encoder and the mask decoder of SAM's 3D relatives in `config.json`, which their publishers do
//! not ship: what a checkpoint's tensors tell is written into it when it is converted.

use r1seg_mask_decoder::{
    AxisOrder, Bands, Hypernetworks, MaskDecoderConfig, MaskPromptConfig, PositionConfig,
    PromptConfig, TransformerConfig, Upscale, UpscaleLayer, UpscaleNorm,
};
use r1seg_vit3d::{HieraConfig, ImageEncoderConfig, SamVitConfig};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{MAX_SIZE, field};

/// The most voxels along an axis of a crop.
const MAX_IMAGE: usize = 1024;
/// The most cells of an encoder's grid along an axis: attention among them all takes the sixth power.
const MAX_CELLS: usize = 32;
/// The most blocks.
const MAX_BLOCKS: usize = 1024;
/// The most stages, mask tokens and levels.
const MAX_PARTS: usize = 16;

/// The sizes of a vision transformer that `config.json` may leave out.
pub(crate) struct VitDefaults {
    pub(crate) image_size: usize,
    pub(crate) embed_dim: usize,
    pub(crate) depth: usize,
    pub(crate) num_heads: usize,
    pub(crate) global_blocks: &'static [usize],
}

/// A field, or the authors' constant.
fn given<T: DeserializeOwned>(config: &Value, name: &str, default: T) -> Result<T, String> {
    Ok(field(config, name)?.unwrap_or(default))
}

/// A number from 1 to `most`.
fn size(config: &Value, name: &str, default: usize, most: usize) -> Result<usize, String> {
    let value = given(config, name, default)?;
    if value == 0 || value > most {
        return Err(format!("{name} is {value}, expected 1 to {most}"));
    }
    Ok(value)
}

/// Numbers up to `most`.
fn list(config: &Value, name: &str, default: &[usize], most: usize) -> Result<Vec<usize>, String> {
    let values: Vec<usize> = given(config, name, default.to_vec())?;
    if values.len() > MAX_BLOCKS || values.iter().any(|value| *value > most) {
        return Err(format!("{name} has values above {most}, or more than {MAX_BLOCKS} of them"));
    }
    Ok(values)
}

/// SAM's vision transformer.
///
/// # Errors
/// The first field of which no encoder can be made, or only one of an absurd size.
pub(crate) fn vit(config: &Value, defaults: &VitDefaults) -> Result<ImageEncoderConfig, String> {
    let hidden_size = size(config, "encoder_embed_dim", defaults.embed_dim, MAX_SIZE)?;
    let ratio = given(config, "encoder_mlp_ratio", 4.0)?;
    // Casts from float to integer saturate.
    let mlp_dim = (hidden_size as f64 * ratio) as usize;
    if mlp_dim == 0 || mlp_dim > MAX_SIZE {
        return Err(format!("encoder_mlp_ratio {ratio} of a width of {hidden_size}"));
    }
    let depth = size(config, "encoder_depth", defaults.depth, MAX_BLOCKS)?;
    let vit = SamVitConfig {
        image_size: size(config, "image_size", defaults.image_size, MAX_IMAGE)?,
        patch_size: size(config, "patch_size", 16, MAX_IMAGE)?,
        hidden_size,
        mlp_dim,
        num_layers: depth,
        num_heads: size(config, "encoder_num_heads", defaults.num_heads, MAX_SIZE)?,
        window_size: size(config, "window_size", 14, MAX_CELLS)?,
        global_blocks: list(
            config,
            "encoder_global_attn_indexes",
            defaults.global_blocks,
            depth - 1,
        )?,
        out_channels: prompt_embed_dim(config)?,
    };
    vit.validate()?;
    check_grid(vit.grid())?;
    Ok(ImageEncoderConfig::Sam(vit))
}

/// Hiera with its feature pyramid.
///
/// # Errors
/// The first field of which no encoder can be made, or only one of an absurd size.
pub(crate) fn hiera(config: &Value) -> Result<ImageEncoderConfig, String> {
    let stages = list(config, "encoder_stages", &[2, 3, 12, 3], MAX_BLOCKS)?;
    if stages.is_empty() || stages.len() > MAX_PARTS || stages.contains(&0) {
        return Err(format!("encoder_stages {stages:?}"));
    }
    let blocks = stages.iter().sum::<usize>();
    let hiera = HieraConfig {
        image_size: size(config, "image_size", 128, MAX_IMAGE)?,
        hidden_size: size(config, "encoder_embed_dim", 256, MAX_SIZE >> stages.len())?,
        num_heads: size(config, "encoder_num_heads", 8, MAX_SIZE >> stages.len())?,
        window_spec: list(config, "encoder_window_spec", &[8, 4, 14, 7], MAX_CELLS)?,
        global_blocks: list(config, "encoder_global_attn_indexes", &[7, 12, 16], blocks - 1)?,
        q_pool: given(config, "encoder_q_pool", 3)?,
        top_down_levels: list(config, "fpn_top_down_levels", &[2, 3], MAX_PARTS)?,
        scalp: given(config, "scalp", 1)?,
        out_channels: prompt_embed_dim(config)?,
        stages,
    };
    hiera.validate()?;
    check_grid(hiera.grid())?;
    // Blocks that attend to all of their stage's grid, and not to windows of it.
    let mut first = 0;
    for (stage, blocks) in hiera.stages.iter().enumerate() {
        // The first block of a stage still has the grid of the one before.
        let halvings = stage.saturating_sub(1).min(hiera.q_pool);
        let side = (hiera.image_size / HieraConfig::PATCH_SIZE) >> halvings;
        let is_global = |block: &usize| (first..first + blocks).contains(block);
        if side > 2 * MAX_CELLS && hiera.global_blocks.iter().any(is_global) {
            return Err(format!(
                "encoder_global_attn_indexes names a block of stage {stage}, with {side} cells along an axis"
            ));
        }
        first += blocks;
    }
    Ok(ImageEncoderConfig::Hiera(hiera))
}

fn check_grid(grid: [usize; 3]) -> Result<(), String> {
    if grid.into_iter().any(|cells| cells == 0 || cells > MAX_CELLS) {
        let most = MAX_CELLS;
        return Err(format!("image_size gives {grid:?} cells, expected 1 to {most} along an axis"));
    }
    Ok(())
}

fn prompt_embed_dim(config: &Value) -> Result<usize, String> {
    size(config, "prompt_embed_dim", 384, MAX_SIZE)
}

/// The mask decoder of SAM-Med3D: masks of a quarter of the image.
///
/// # Errors
/// The first field of which no decoder can be made.
pub(crate) fn mask_head(
    config: &Value,
    encoder: &ImageEncoderConfig,
) -> Result<MaskDecoderConfig, String> {
    let (dim, channels) = (encoder.embed_dim(), mask_in_chans(config)?);
    let last = Upscale { norm: UpscaleNorm::None, ..stage(dim / 8) };
    let prompts = PromptConfig {
        text: false,
        points: 2,
        boxes: false,
        mask: Some(MaskPromptConfig {
            key: MASK_PROMPT,
            channels: vec![channels / 4, channels],
            last_stride: 1,
        }),
    };
    decoder(config, encoder, vec![stage(dim / 4), last], prompts)
}

/// The mask decoder of NeuroSAM3D: masks of the size of the image, and boxes.
///
/// # Errors
/// The first field of which no decoder can be made.
pub(crate) fn full_size_mask_head(
    config: &Value,
    encoder: &ImageEncoderConfig,
) -> Result<MaskDecoderConfig, String> {
    let (dim, channels) = (encoder.embed_dim(), mask_in_chans(config)?);
    let prompts = PromptConfig {
        text: false,
        points: 4,
        boxes: true,
        mask: Some(MaskPromptConfig {
            key: MASK_PROMPT,
            channels: vec![channels / 4, channels / 2, channels],
            last_stride: 2,
        }),
    };
    let upscaling = [dim / 4, dim / 8, dim / 8, dim / 8].map(stage).to_vec();
    decoder(config, encoder, upscaling, prompts)
}

/// Below the prompt encoder.
const MASK_PROMPT: &str = "mask_downscaling";

fn mask_in_chans(config: &Value) -> Result<usize, String> {
    size(config, "mask_in_chans", 16, MAX_SIZE)
}

fn stage(channels: usize) -> Upscale {
    Upscale { layer: UpscaleLayer::Patches, channels, norm: UpscaleNorm::Channels, gelu: true }
}

fn decoder(
    config: &Value,
    encoder: &ImageEncoderConfig,
    upscaling: Vec<Upscale>,
    prompts: PromptConfig,
) -> Result<MaskDecoderConfig, String> {
    let decoder = MaskDecoderConfig {
        transformer: TransformerConfig {
            dim: encoder.embed_dim(),
            depth: size(config, "decoder_depth", 2, MAX_PARTS)?,
            heads: size(config, "decoder_num_heads", 8, MAX_SIZE)?,
            mlp_dim: size(config, "decoder_mlp_dim", 2048, MAX_SIZE)?,
            attention_downsample: 2,
            mlp_names: TransformerConfig::SAM_MLP,
        },
        image_size: encoder.image_size(),
        grid: encoder.grid(),
        upscaling,
        mask_tokens: size(config, "num_multimask_outputs", 3, MAX_PARTS)? + 1,
        hypernetworks: Hypernetworks::PerToken,
        iou_hidden: Some(size(config, "iou_head_hidden_dim", 256, MAX_SIZE)?),
        text_similarity: false,
        position: PositionConfig {
            bands: Bands::SinCosSin,
            dense_axes: AxisOrder::Swapped,
            point_sizes: AxisOrder::Natural,
        },
        prompts,
    };
    decoder.validate()?;
    // Crops are blended cell by cell, half a crop apart.
    let (size, cells) = (decoder.image_size, decoder.low_res_size());
    if (0..3).any(|n| size[n] % cells[n] != 0 || size[n] % 2 != 0 || cells[n] % 2 != 0) {
        return Err(format!(
            "image_size {size:?} is not an even multiple of masks of {cells:?} cells"
        ));
    }
    Ok(decoder)
}
