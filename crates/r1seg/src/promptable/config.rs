//! `config.json` of a promptable model.

use r1seg_mask_decoder::{MaskDecoderConfig, PromptConfig};
use r1seg_text_encoder::ClipTextConfig;
use r1seg_vit3d::ImageEncoderConfig;
use serde_json::Value;

use crate::checkpoint::keys::KeyMap;
use crate::config::sam::VitDefaults;
use crate::config::vision::VisionFields;
use crate::config::{ConfigFile, num_clicks, sam, text};
use crate::registry::Family;
use crate::{CheckpointSource, Error};

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
    /// The encoder of volumes.
    pub image_encoder: ImageEncoderConfig,
    /// The mask decoder.
    pub mask_head: MaskDecoderConfig,
    /// The text encoder, of a model that takes texts.
    pub text: Option<ClipTextConfig>,
    /// Passes of the mask decoder after the first.
    pub num_clicks: usize,
    /// What stands in front of a text and after it.
    pub(crate) sentence: [&'static str; 2],
    pub(crate) resampling: Resampling,
    /// What recorded cases call a pass of the decoder that a further point prompts.
    pub(crate) pass: &'static str,
    pub(crate) keys: &'static KeyMap,
}

/// Where the families differ, beside their rows.
pub(crate) struct Rules {
    networks: fn(&Value) -> Result<Networks, String>,
    resampling: Resampling,
    pass: &'static str,
}

/// The networks of a model.
struct Networks {
    image_encoder: ImageEncoderConfig,
    mask_head: MaskDecoderConfig,
    text: Option<ClipTextConfig>,
}

pub(crate) const R1SEG_3D_SAM: Rules = Rules {
    networks: |config| Networks::of_segvol(config, PromptConfig::text_and_masks()),
    resampling: Resampling::Trilinear,
    pass: "seg",
};

pub(crate) const SEGVOL: Rules = Rules {
    networks: |config| Networks::of_segvol(config, PromptConfig::text_points_and_boxes()),
    resampling: Resampling::Nearest,
    pass: "seg",
};

pub(crate) const SAM_MED3D: Rules = Rules {
    networks: |config| {
        let image_encoder = sam::vit(config, &VIT_B)?;
        let mask_head = sam::mask_head(config, &image_encoder)?;
        Ok(Networks { image_encoder, mask_head, text: None })
    },
    resampling: Resampling::Trilinear,
    pass: "clicks",
};

pub(crate) const NEUROSAM3D_VIT: Rules = Rules {
    networks: |config| Networks::of_neurosam3d(config, sam::vit(config, &VIT_L)?),
    ..NEUROSAM3D_HIERA
};

pub(crate) const NEUROSAM3D_HIERA: Rules = Rules {
    networks: |config| Networks::of_neurosam3d(config, sam::hiera(config)?),
    resampling: Resampling::Trilinear,
    pass: "points",
};

/// `vit_b_ori` of SAM-Med3D's registry, which all its published weights have.
const VIT_B: VitDefaults = VitDefaults {
    image_size: 128,
    embed_dim: 768,
    depth: 12,
    num_heads: 12,
    global_blocks: &[2, 5, 8, 11],
};

/// `vit_l`, NeuroSAM3D's default.
const VIT_L: VitDefaults = VitDefaults {
    image_size: 112,
    embed_dim: 1024,
    depth: 24,
    num_heads: 16,
    global_blocks: &[5, 11, 17, 23],
};

const VISION: VisionFields = VisionFields {
    // SegVol's name for it is the second one.
    image_size: &["img_size", "spatial_size"],
    in_channels: "in_channels",
    hidden_size: "mm_hidden_size",
    needs_hidden_size: false,
    cls_token: false,
    slice_guided: false,
};

/// The reader of all of them.
///
/// # Errors
/// [`Error::Config`] naming the field.
pub(crate) fn read_config(file: &ConfigFile, rules: &Rules) -> Result<PromptableConfig, Error> {
    from_parts(file, rules).map_err(|message| file.wrong(message))
}

fn from_parts(file: &ConfigFile, rules: &Rules) -> Result<PromptableConfig, String> {
    let entry = file.entry;
    let Networks { image_encoder, mask_head, text } = (rules.networks)(&file.value)?;
    let num_clicks = num_clicks(&file.value)?;
    Ok(PromptableConfig {
        model_type: file.model_type.name.to_string(),
        family: entry.family,
        image_encoder,
        mask_head,
        text,
        num_clicks: if entry.capabilities.refines_masks { num_clicks } else { 0 },
        sentence: entry.sentence,
        resampling: rules.resampling,
        pass: rules.pass,
        keys: entry.keys,
    })
}

impl Networks {
    fn of_segvol(config: &Value, prompts: PromptConfig) -> Result<Self, String> {
        let vit = VISION.read(config)?;
        let text = Some(text::clip(config)?);
        let (width, size, grid) = (vit.hidden_size, vit.image_size, vit.grid());
        let mask_head = MaskDecoderConfig::segvol(width, size, grid, prompts);
        mask_head.validate()?;
        Ok(Self { image_encoder: vit.into(), mask_head, text })
    }

    fn of_neurosam3d(config: &Value, image_encoder: ImageEncoderConfig) -> Result<Self, String> {
        let mask_head = sam::full_size_mask_head(config, &image_encoder)?;
        Ok(Self { image_encoder, mask_head, text: None })
    }
}

impl PromptableConfig {
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
    use r1seg_diagnostic::{Purpose, Remedy};
    use serde_json::json;

    use super::*;

    fn read(config: &Value) -> Result<PromptableConfig, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        PromptableConfig::read(&CheckpointSource::Folder(folder.path().to_path_buf()))
    }

    #[test]
    fn absent_fields_have_the_authors_defaults() {
        let segvol = read(&json!({"model_type": "segvol", "num_clicks": 3})).unwrap();
        assert_eq!(segvol.image_encoder.grid(), [8, 16, 16]);
        assert_eq!(segvol.image_encoder.embed_dim(), 768);
        assert_eq!((segvol.text, segvol.num_clicks), (Some(ClipTextConfig::default()), 0));
        assert!(segvol.mask_head.prompts.boxes && segvol.mask_head.prompts.mask.is_none());
        let sam = read(&json!({"model_type": "r1seg-3dsam", "num_clicks": 1})).unwrap();
        assert_eq!(sam.num_clicks, 1);
        assert!(!sam.mask_head.prompts.boxes && sam.mask_head.prompts.mask.is_some());
    }

    #[test]
    fn the_volume_may_have_either_name() {
        for name in ["img_size", "spatial_size"] {
            let config = json!({"model_type": "segvol", name: [16, 64, 64]});
            assert_eq!(read(&config).unwrap().image_encoder.image_size(), [16, 64, 64]);
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
        let use_for = |model, purpose| Remedy::UseModelFor { model, purpose };
        for (config, says, remedy) in [
            (
                json!({"model_type": "m3d_clip"}),
                "R1Seg-3D-SAM, SegVol, SAM-Med3D, NeuroSAM3D and VISTA3D can",
                use_for("M3D-CLIP", Purpose::Retrieve),
            ),
            (
                json!({"model_type": "lamed_phi3", "vision_tower": "vit3d"}),
                "M3D-LaMed cannot",
                use_for("M3D-LaMed", Purpose::Answer),
            ),
            (json!({"model_type": "gpt2"}), "`gpt2`", Remedy::ListModels),
        ] {
            let error = read(&config).unwrap_err();
            assert_eq!((error.code(), error.remedy()), ("R-MDL-05", Some(remedy)));
            assert!(error.message().contains(says), "{error}");
        }
    }
}
