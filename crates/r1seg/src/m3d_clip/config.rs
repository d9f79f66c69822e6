//! `config.json` of an M3D-CLIP or an HSENet-CLIP.

use r1seg_text_encoder::BertConfig;
use r1seg_vit3d::Vit3dConfig;

use crate::config::vision::VisionFields;
use crate::config::{ConfigFile, field, slices, text};
use crate::registry::Family;
use crate::{CheckpointSource, Error, SliceInputConfig};

const VISION: VisionFields = VisionFields {
    image_size: &["img_size"],
    in_channels: "in_channels",
    hidden_size: "hidden_size",
    needs_hidden_size: false,
    cls_token: true,
    slice_guided: false,
};

/// Where the families differ, beside their rows.
pub(crate) struct Rules {
    vision: VisionFields,
    dropped: &'static [char],
}

pub(crate) const M3D_CLIP: Rules = Rules { vision: VISION, dropped: &[] };
pub(crate) const HSENET_STAGE_1: Rules = Rules { dropped: &['"', '\'', '(', ')'], ..M3D_CLIP };
pub(crate) const HSENET_STAGE_2: Rules =
    Rules { vision: VisionFields { slice_guided: true, ..VISION }, ..HSENET_STAGE_1 };

/// Everything that the `config.json` of an M3D-CLIP or an HSENet-CLIP decides.
#[derive(Debug, Clone, PartialEq)]
pub struct M3dClipConfig {
    /// Which of the models it is.
    pub family: Family,
    /// The vision transformer, with a class token.
    pub vit: Vit3dConfig,
    /// The slices that guide its patches, for a model that reads any.
    pub slices: Option<SliceInputConfig>,
    /// The text encoder.
    pub text: BertConfig,
    /// Characters that were taken out of texts in training, and are now.
    pub dropped: &'static [char],
}

/// The reader of the families.
///
/// # Errors
/// [`Error::Config`] naming the field.
pub(crate) fn read_config(file: &ConfigFile, rules: &Rules) -> Result<M3dClipConfig, Error> {
    from_parts(file, rules).map_err(|message| file.wrong(message))
}

fn from_parts(file: &ConfigFile, rules: &Rules) -> Result<M3dClipConfig, String> {
    let config = &file.value;
    let pos_embed: Option<String> = field(config, "pos_embed")?;
    if let Some(other) = pos_embed.filter(|given| given != "perceptron") {
        return Err(format!("pos_embed is `{other}`, expected `perceptron`"));
    }
    let vit = rules.vision.read(config)?;
    Ok(M3dClipConfig {
        family: file.entry.family,
        slices: match vit.slice_guided {
            true => Some(slices::read(config, vit.hidden_size)?),
            false => None,
        },
        vit,
        text: text::bert(config)?,
        dropped: rules.dropped,
    })
}

impl M3dClipConfig {
    /// Reads `config.json` of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], [`Error::Config`] naming the field,
    /// [`Error::UnsupportedModel`], or [`Error::OtherFamily`] where the checkpoint is of another
    /// model.
    pub fn read(source: &CheckpointSource) -> Result<Self, Error> {
        ConfigFile::read(source)?.read_as()
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
        let error = read(&json!({"model_type": "segvol"})).unwrap_err();
        assert_eq!(error.code(), "R-MDL-05");
        assert!(error.to_string().contains("M3D-CLIP and HSENet-CLIP can"), "{error}");
        assert_eq!(read(&json!({"model_type": "lamed_phi3"})).unwrap_err().code(), "R-MDL-05");
        assert_eq!(read(&json!({"model_type": ""})).unwrap_err().code(), "R-CFG-01");
    }
}
