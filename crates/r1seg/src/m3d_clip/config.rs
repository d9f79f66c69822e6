//! `config.json` of an M3D-CLIP.

use r1seg_text_encoder::BertConfig;
use r1seg_vit3d::Vit3dConfig;
use serde::Deserialize;

use crate::config::{VitNames, check_vit, read_config};
use crate::{CheckpointSource, Error};

/// What `config.json` calls the model.
const MODEL_TYPE: &str = "m3d_clip";

/// The fields that size the encoders; the defaults are those of the authors' `M3DCLIPConfig`.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Fields {
    img_size: [usize; 3],
    patch_size: [usize; 3],
    in_channels: usize,
    hidden_size: usize,
    mlp_dim: usize,
    num_layers: usize,
    num_heads: usize,
    pos_embed: String,
    /// Published files leave it to `language_model_name_or_path`, which is bert-base-uncased.
    text_config: BertConfig,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            img_size: [32, 256, 256],
            patch_size: [4, 16, 16],
            in_channels: 1,
            hidden_size: 768,
            mlp_dim: 3072,
            num_layers: 12,
            num_heads: 12,
            pos_embed: "perceptron".to_string(),
            text_config: BertConfig::default(),
        }
    }
}

/// Everything that an M3D-CLIP's `config.json` decides.
#[derive(Debug, Clone, PartialEq)]
pub struct M3dClipConfig {
    /// The vision transformer, with a class token.
    pub vit: Vit3dConfig,
    /// The text encoder.
    pub text: BertConfig,
}

impl M3dClipConfig {
    /// Reads `config.json` of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], [`Error::Config`] naming the field, or
    /// [`Error::UnsupportedModel`] where the checkpoint is of another model.
    pub fn read(source: &CheckpointSource) -> Result<Self, Error> {
        let path = source.path();
        let wrong = |message: String| Error::Config { path: path.clone(), message };
        let config = read_config(source)?;
        let model_type = config["model_type"].as_str().unwrap_or_default();
        if model_type != MODEL_TYPE {
            let model_type = model_type.to_string();
            let hint = format!(" here: embeddings need M3D-CLIP, of type `{MODEL_TYPE}`");
            return Err(Error::UnsupportedModel { path, model_type, hint });
        }
        let fields: Fields = serde_json::from_value(config).map_err(|e| wrong(e.to_string()))?;
        Self::from_fields(fields).map_err(wrong)
    }

    fn from_fields(fields: Fields) -> Result<Self, String> {
        if fields.pos_embed != "perceptron" {
            return Err(format!("pos_embed is `{}`, expected `perceptron`", fields.pos_embed));
        }
        let vit = Vit3dConfig {
            image_size: fields.img_size,
            patch_size: fields.patch_size,
            in_channels: fields.in_channels,
            hidden_size: fields.hidden_size,
            mlp_dim: fields.mlp_dim,
            num_layers: fields.num_layers,
            num_heads: fields.num_heads,
            cls_token: true,
        };
        let (image_size, in_channels, hidden_size) = ("img_size", "in_channels", "hidden_size");
        check_vit(&vit, &VitNames { image_size, in_channels, hidden_size })?;
        fields.text_config.validate()?;
        Ok(Self { vit, text: fields.text_config })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(config: &Value) -> Result<M3dClipConfig, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        M3dClipConfig::read(&CheckpointSource::Folder(folder.path().to_path_buf()))
    }

    #[test]
    fn absent_fields_have_the_authors_defaults() {
        let config = read(&json!({"model_type": "m3d_clip"})).unwrap();
        assert_eq!((config.vit.num_patches(), config.vit.hidden_size), (2048, 768));
        assert_eq!(config.text, BertConfig::default());
        assert!(config.vit.cls_token);
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (key, value) in [
            ("img_size", json!([16, 60, 64])),
            ("hidden_size", json!(0)),
            ("num_heads", json!(7)),
            ("num_layers", json!(1_000_000_000)),
            ("in_channels", json!(3)),
            ("pos_embed", json!("conv")),
            ("text_config", json!({"hidden_size": 32, "num_attention_heads": 5})),
            ("text_config", json!({"hidden_act": "silu"})),
            ("text_config", json!(3)),
        ] {
            let mut config = json!({"model_type": "m3d_clip"});
            config[key] = value.clone();
            let error = read(&config).unwrap_err();
            assert_eq!(error.code(), "R-CFG-01", "{key} = {value}: {error}");
        }
    }

    #[test]
    fn another_model_is_refused_by_its_type() {
        for model_type in ["lamed_phi3", ""] {
            let error = read(&json!({"model_type": model_type})).unwrap_err();
            assert_eq!(error.code(), "R-MDL-05");
            assert!(error.to_string().contains("M3D-CLIP"), "{error}");
        }
    }
}
