//! Widths, from a configuration that was read or, for a model that r1seg does not run, from the
//! fields of its `config.json` as they are.

use serde_json::Value;

use crate::ModelConfig;
use crate::registry::{Family, identify, language_family};

/// The vision transformer of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VisionSummary {
    /// Voxels that it reads, `[D, H, W]`.
    pub image_size: Option<[u64; 3]>,
    /// Voxels of a patch, `[D, H, W]`.
    pub patch_size: Option<[u64; 3]>,
    /// Patches, `[D, H, W]`.
    pub grid: Option<[u64; 3]>,
    /// Width of a token.
    pub hidden_size: Option<u64>,
    /// Width inside its MLPs.
    pub mlp_dim: Option<u64>,
    /// Layers.
    pub num_layers: Option<u64>,
    /// Attention heads.
    pub num_heads: Option<u64>,
    /// Tokens that the language model reads of a volume.
    pub visual_tokens: Option<u64>,
}

/// The language model, or the text encoder of a model that has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LanguageSummary {
    /// Such as `Phi-3`.
    pub family: Option<String>,
    /// Width of a token.
    pub hidden_size: Option<u64>,
    /// Width inside its MLPs.
    pub intermediate_size: Option<u64>,
    /// Layers.
    pub num_layers: Option<u64>,
    /// Query heads.
    pub num_heads: Option<u64>,
    /// Key and value heads.
    pub num_key_value_heads: Option<u64>,
    /// Rows of the embedding table.
    pub vocab_size: Option<u64>,
    /// Longest sequence that it was made for.
    pub max_positions: Option<u64>,
}

impl VisionSummary {
    pub(super) fn of(config: &ModelConfig) -> Self {
        let vit = &config.vit;
        let all = |sizes: [usize; 3]| Some(sizes.map(|n| n as u64));
        Self {
            image_size: all(vit.image_size),
            patch_size: all(vit.patch_size),
            grid: all(vit.grid()),
            hidden_size: Some(vit.hidden_size as u64),
            mlp_dim: Some(vit.mlp_dim as u64),
            num_layers: Some(vit.num_layers as u64),
            num_heads: Some(vit.num_heads as u64),
            visual_tokens: Some(config.mm_projector.num_tokens() as u64),
        }
    }

    pub(super) fn guess(config: &Value) -> Option<Self> {
        let family = identify(config).ok()?.family;
        let image_size = triple(config, "img_size").or_else(|| triple(config, "image_size"));
        let patch_size = triple(config, "patch_size");
        // M3D-CLIP's own widths are the vision transformer's.
        let width = if family == Family::M3dClip { "hidden_size" } else { "mm_hidden_size" };
        Some(Self {
            image_size,
            patch_size,
            grid: image_size.zip(patch_size).and_then(|(image, patch)| {
                let fits = image.iter().zip(&patch).all(|(n, p)| 0 < *p && n % p == 0);
                fits.then(|| std::array::from_fn(|axis| image[axis] / patch[axis]))
            }),
            hidden_size: number(config, width),
            mlp_dim: number(config, "mlp_dim"),
            num_layers: number(config, "num_layers"),
            num_heads: number(config, "num_heads"),
            visual_tokens: None,
        })
    }
}

impl LanguageSummary {
    pub(super) fn of(config: &ModelConfig) -> Self {
        let llm = &config.decoder;
        Self {
            family: language_family(&config.model_type).map(str::to_owned),
            hidden_size: Some(llm.hidden_size as u64),
            intermediate_size: Some(llm.intermediate_size as u64),
            num_layers: Some(llm.num_hidden_layers as u64),
            num_heads: Some(llm.num_attention_heads as u64),
            num_key_value_heads: Some(llm.num_key_value_heads as u64),
            vocab_size: Some(llm.vocab_size as u64),
            max_positions: Some(llm.max_position_embeddings as u64),
        }
    }

    pub(super) fn guess(config: &Value) -> Option<Self> {
        let config = match identify(config).ok()?.family.has_language_model() {
            true => config,
            false => config.get("text_config")?,
        };
        let model_type = config["model_type"].as_str().unwrap_or_default();
        Some(Self {
            family: language_family(model_type).map(str::to_owned),
            hidden_size: number(config, "hidden_size"),
            intermediate_size: number(config, "intermediate_size"),
            num_layers: number(config, "num_hidden_layers"),
            num_heads: number(config, "num_attention_heads"),
            num_key_value_heads: number(config, "num_key_value_heads"),
            vocab_size: number(config, "vocab_size"),
            max_positions: number(config, "max_position_embeddings"),
        })
    }
}

fn number(config: &Value, field: &str) -> Option<u64> {
    config.get(field)?.as_u64()
}

fn triple(config: &Value, field: &str) -> Option<[u64; 3]> {
    let numbers: Vec<u64> = config.get(field)?.as_array()?.iter().flat_map(Value::as_u64).collect();
    numbers.try_into().ok()
}
