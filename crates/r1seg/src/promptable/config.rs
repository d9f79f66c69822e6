//! `config.json` of a SegVol or an R1Seg-3D-SAM.

use r1seg_mask_decoder::{MaskDecoderConfig, PromptConfig};
use r1seg_text_encoder::ClipTextConfig;
use r1seg_vit3d::Vit3dConfig;
use serde::Deserialize;

use crate::checkpoint::keys::{KeyMap, R1SEG_3D_SAM, SEGVOL};
use crate::config::{VitNames, check_num_clicks, check_vit, read_config};
use crate::registry::{self, Family};
use crate::{CheckpointSource, Error, SegmentMode};

/// The fields that size the parts; the defaults are those of the authors' code, which published files
/// leave most of them to.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Fields {
    model_type: String,
    img_size: Option<[usize; 3]>,
    /// SegVol's name for it.
    spatial_size: Option<[usize; 3]>,
    patch_size: [usize; 3],
    in_channels: usize,
    mm_hidden_size: usize,
    mlp_dim: usize,
    num_layers: usize,
    num_heads: usize,
    num_clicks: usize,
    /// Published files leave it to CLIP ViT-B/32's own.
    text_config: ClipTextConfig,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            model_type: String::new(),
            img_size: None,
            spatial_size: None,
            patch_size: [4, 16, 16],
            in_channels: 1,
            mm_hidden_size: 768,
            mlp_dim: 3072,
            num_layers: 12,
            num_heads: 12,
            num_clicks: 0,
            text_config: ClipTextConfig::default(),
        }
    }
}

/// How a grid is brought to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resampling {
    /// Volumes and logits trilinearly.
    Trilinear,
    /// Volumes by torch's `nearest-exact`, logits by its `nearest`.
    Nearest,
}

/// Everything that a promptable model's `config.json` decides.
#[derive(Debug, Clone)]
pub struct PromptableConfig {
    /// `model_type`, as published.
    pub model_type: String,
    /// Which of the models it is.
    pub family: Family,
    /// The vision transformer.
    pub vit: Vit3dConfig,
    /// The mask decoder.
    pub mask_head: MaskDecoderConfig,
    /// The text encoder.
    pub text: ClipTextConfig,
    /// Passes of the mask decoder after the first.
    pub num_clicks: usize,
    /// How its authors look at a volume.
    pub mode: SegmentMode,
    /// What stands in front of a text and after it.
    pub(crate) sentence: [&'static str; 2],
    pub(crate) resampling: Resampling,
    pub(crate) keys: &'static KeyMap,
}

impl PromptableConfig {
    /// Reads `config.json` of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], [`Error::Config`] naming the field, or
    /// [`Error::UnsupportedModel`] where the checkpoint is of another model.
    pub fn read(source: &CheckpointSource) -> Result<Self, Error> {
        let path = source.path();
        let wrong = |message: String| Error::Config { path: path.clone(), message };
        let config = read_config(source)?;
        let model_type = config["model_type"].as_str().unwrap_or_default().to_string();
        let unsupported = |hint: String| {
            let (path, model_type) = (path.clone(), model_type.clone());
            Error::UnsupportedModel { path, model_type, hint }
        };
        let entry = registry::identify(&config).map_err(unsupported)?;
        let family = entry.family;
        if !family.is_promptable() {
            let hint = format!(
                " here: {} runs with `r1seg {}`; prompts need SegVol or R1Seg-3D-SAM",
                entry.name, entry.command
            );
            return Err(unsupported(hint));
        }
        let fields: Fields = serde_json::from_value(config).map_err(|e| wrong(e.to_string()))?;
        Self::from_fields(fields, family).map_err(wrong)
    }

    /// Whether it knows points and boxes, beside text.
    pub fn knows_points_and_boxes(&self) -> bool {
        self.mask_head.prompts.boxes
    }

    fn from_fields(fields: Fields, family: Family) -> Result<Self, String> {
        let vit = Vit3dConfig {
            image_size: fields.img_size.or(fields.spatial_size).unwrap_or([32, 256, 256]),
            patch_size: fields.patch_size,
            in_channels: fields.in_channels,
            hidden_size: fields.mm_hidden_size,
            mlp_dim: fields.mlp_dim,
            num_layers: fields.num_layers,
            num_heads: fields.num_heads,
            cls_token: false,
        };
        let image_size = if fields.spatial_size.is_some() && fields.img_size.is_none() {
            "spatial_size"
        } else {
            "img_size"
        };
        let (in_channels, hidden_size) = ("in_channels", "mm_hidden_size");
        check_vit(&vit, &VitNames { image_size, in_channels, hidden_size })?;
        fields.text_config.validate()?;
        check_num_clicks(fields.num_clicks).map_err(|e| format!("num_clicks: {e}"))?;
        let is_segvol = family == Family::SegVol;
        let prompts = if is_segvol {
            PromptConfig::text_points_and_boxes()
        } else {
            PromptConfig::text_and_masks()
        };
        let mask_head =
            MaskDecoderConfig::segvol(vit.hidden_size, vit.image_size, vit.grid(), prompts);
        mask_head.validate()?;
        Ok(Self {
            model_type: fields.model_type,
            family,
            vit,
            mask_head,
            text: fields.text_config,
            // SegVol has nothing to read an earlier mask with.
            num_clicks: if is_segvol { 0 } else { fields.num_clicks },
            mode: if is_segvol { SegmentMode::Zoom } else { SegmentMode::Sliding },
            sentence: if is_segvol { ["A computerized tomography of a ", "."] } else { ["", ""] },
            resampling: if is_segvol { Resampling::Nearest } else { Resampling::Trilinear },
            keys: if is_segvol { &SEGVOL } else { &R1SEG_3D_SAM },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(config: &Value) -> Result<PromptableConfig, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        PromptableConfig::read(&CheckpointSource::Folder(folder.path().to_path_buf()))
    }

    #[test]
    fn absent_fields_have_the_authors_defaults() {
        let segvol = read(&json!({"model_type": "segvol", "num_clicks": 3})).unwrap();
        assert_eq!((segvol.vit.num_patches(), segvol.vit.hidden_size), (2048, 768));
        assert_eq!((segvol.text.clone(), segvol.num_clicks), (ClipTextConfig::default(), 0));
        assert!(segvol.knows_points_and_boxes() && segvol.mode == SegmentMode::Zoom);
        let sam = read(&json!({"model_type": "r1seg-3dsam", "num_clicks": 1})).unwrap();
        assert_eq!((sam.num_clicks, sam.mode), (1, SegmentMode::Sliding));
        assert!(!sam.knows_points_and_boxes());
    }

    #[test]
    fn the_volume_may_have_either_name() {
        for name in ["img_size", "spatial_size"] {
            let config = json!({"model_type": "segvol", name: [16, 64, 64]});
            assert_eq!(read(&config).unwrap().vit.image_size, [16, 64, 64]);
            let config = json!({"model_type": "segvol", name: [0, 64, 64]});
            assert!(read(&config).unwrap_err().to_string().contains("size"));
        }
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (key, value) in [
            ("img_size", json!([16, 60, 64])),
            ("patch_size", json!([1, 1, 1])),
            ("mm_hidden_size", json!(40)),
            ("num_heads", json!(7)),
            ("num_layers", json!(1_000_000_000)),
            ("in_channels", json!(3)),
            ("num_clicks", json!(1000)),
            ("text_config", json!({"hidden_size": 32, "num_attention_heads": 5})),
            ("text_config", json!(3)),
        ] {
            let mut config = json!({"model_type": "segvol"});
            config[key] = value.clone();
            let error = read(&config).unwrap_err();
            assert_eq!(error.code(), "R-CFG-01", "{key} = {value}: {error}");
        }
    }

    #[test]
    fn another_model_is_refused_by_its_type() {
        for (config, says) in [
            (json!({"model_type": "m3d_clip"}), "r1seg retrieve"),
            (json!({"model_type": "lamed_phi3", "vision_tower": "vit3d"}), "r1seg infer"),
            (json!({"model_type": "gpt2"}), "`gpt2`"),
        ] {
            let error = read(&config).unwrap_err();
            assert_eq!(error.code(), "R-MDL-05");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
