//! R1Seg-3D and M3D-LaMed in `config.json`.

use r1seg_diagnostic::Purpose;
use r1seg_llm::{DecoderConfig, eos_token_ids};
use r1seg_mask_decoder::{MaskDecoderConfig, PromptConfig};
use r1seg_projector::MmProjectorConfig;
use r1seg_vit3d::Vit3dConfig;
use serde_json::Value;

use super::vision::VisionFields;
use super::{ConfigFile, field, num_clicks, projector, read_json};
use crate::checkpoint::keys::KeyMap;
use crate::registry::Family;
use crate::{CheckpointSource, Error, Separator};

/// Everything that a checkpoint's `config.json` decides.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// `model_type`, as published.
    pub model_type: String,
    /// Which of the models it is.
    pub family: Family,
    /// The family of its language model, such as `Phi-3`.
    pub language_model: &'static str,
    /// The vision transformer that the language model reads.
    pub vit: Vit3dConfig,
    /// The mask decoder's own, where it has one.
    pub mask_vit: Option<Vit3dConfig>,
    /// Image embeddings to visual tokens.
    pub mm_projector: MmProjectorConfig,
    /// The mask decoder.
    pub mask_head: MaskDecoderConfig,
    /// The language model.
    pub decoder: DecoderConfig,
    /// Passes of the mask decoder after the first.
    pub num_clicks: usize,
    /// Id of `[SEG]`, where the config names it.
    pub seg_token_id: Option<u32>,
    /// Ids that end an answer.
    pub eos_token_ids: Vec<u32>,
    /// What stands between the image and a question unless a caller says otherwise.
    pub separator: Separator,
    /// The logit of all voxels when an answer has no `[SEG]`.
    pub no_seg_logit: f32,
    pub(crate) keys: &'static KeyMap,
}

/// Where the families differ, beside their rows.
pub(crate) struct Rules {
    vision: VisionFields,
    /// Whether the mask decoder has an encoder of its own, without the other one's class token.
    two_encoders: bool,
    prompts: fn() -> PromptConfig,
    separator: Separator,
    no_seg_logit: f32,
    /// Refuses what the authors' code fails on.
    check: fn(&Value) -> Result<(), String>,
}

pub(crate) const R1SEG_3D: Rules = Rules {
    vision: VisionFields {
        image_size: &["img_size"],
        in_channels: "image_channel",
        hidden_size: "mm_hidden_size",
        needs_hidden_size: true,
        cls_token: false,
    },
    two_encoders: false,
    prompts: PromptConfig::text_and_masks,
    separator: Separator::Space,
    no_seg_logit: -1000.0,
    // It stores `vision_select_layer` and `vision_select_feature`, and ignores them.
    check: |_| Ok(()),
};

pub(crate) const M3D_LAMED: Rules = Rules {
    vision: VisionFields { image_size: &["image_size"], cls_token: true, ..R1SEG_3D.vision },
    two_encoders: true,
    prompts: PromptConfig::text_points_and_boxes,
    separator: Separator::None,
    no_seg_logit: f32::NEG_INFINITY,
    check: |config| {
        // The authors' code fails on other layers, and `cls_patch` breaks its projector.
        let layer: Option<Value> = field(config, "vision_select_layer")?;
        if let Some(layer) = layer.filter(|layer| *layer != -1) {
            return Err(format!("vision_select_layer is {layer}, expected -1"));
        }
        let feature: Option<Value> = field(config, "vision_select_feature")?;
        match feature.filter(|feature| *feature != "patch") {
            Some(other) => Err(format!("vision_select_feature is {other}, expected \"patch\"")),
            None => Ok(()),
        }
    },
};

/// The reader of both.
///
/// # Errors
/// [`Error::Config`] naming the field.
pub(crate) fn read(file: &ConfigFile, rules: &Rules) -> Result<ModelConfig, Error> {
    let generation = read_json(&file.source, "generation_config.json")?;
    let Some(language_model) = file.model_type.language_model else {
        return Err(file.other_family(Purpose::Answer));
    };
    let decoder = (language_model.read)(&file.value).map_err(|e| file.wrong(e))?;
    let language_model = (language_model.name, decoder);
    let config = from_parts(file, rules, language_model, generation.as_ref());
    config.map_err(|message| file.wrong(message))
}

fn from_parts(
    file: &ConfigFile,
    rules: &Rules,
    (language_model, decoder): (&'static str, DecoderConfig),
    generation: Option<&Value>,
) -> Result<ModelConfig, String> {
    let config = &file.value;
    (rules.check)(config)?;
    let vit = rules.vision.read(config)?;
    let prompts = (rules.prompts)();
    let mask_head = MaskDecoderConfig::segvol(vit.hidden_size, vit.image_size, vit.grid(), prompts);
    mask_head.validate()?;
    let num_clicks = num_clicks(config)?;
    Ok(ModelConfig {
        model_type: file.model_type.name.to_string(),
        family: file.entry.family,
        language_model,
        mask_vit: rules.two_encoders.then(|| Vit3dConfig { cls_token: false, ..vit.clone() }),
        mm_projector: projector::read(config, &vit, decoder.hidden_size)?,
        mask_head,
        num_clicks: if file.entry.capabilities.refines_masks { num_clicks } else { 0 },
        seg_token_id: field(config, "seg_token_id")?,
        eos_token_ids: eos_token_ids(config, generation).map_err(|e| e.to_string())?,
        separator: rules.separator,
        no_seg_logit: rules.no_seg_logit,
        keys: file.entry.keys,
        decoder,
        vit,
    })
}

impl ModelConfig {
    /// Reads `config.json` and `generation_config.json` of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], [`Error::Config`] naming the field,
    /// [`Error::UnsupportedModel`], or [`Error::OtherFamily`] for a model without a language model.
    pub fn read(source: &CheckpointSource) -> Result<Self, Error> {
        ConfigFile::read(source)?.read_as()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn phi3() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/phi3/config.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn read(config: &Value) -> Result<ModelConfig, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        ModelConfig::read(&CheckpointSource::Folder(folder.path().to_path_buf()))
    }

    #[test]
    fn a_published_config_is_read() {
        let config = read(&phi3()).unwrap();
        assert_eq!(config.vit.grid(), [4, 4, 4]);
        assert_eq!(config.mm_projector.num_tokens(), 8);
        assert_eq!(config.mask_head.low_res_size(), [16, 16, 16]);
        assert_eq!((config.seg_token_id, config.eos_token_ids), (Some(618), vec![2]));
    }

    #[test]
    fn absent_fields_have_the_authors_defaults() {
        let mut config = phi3();
        for key in ["num_layers", "num_heads", "mlp_dim", "num_clicks", "img_size", "patch_size"] {
            config.as_object_mut().unwrap().remove(key);
        }
        let config = read(&config).unwrap();
        assert_eq!((config.vit.num_layers, config.vit.num_heads), (12, 12));
        assert_eq!((config.vit.mlp_dim, config.num_clicks), (3072, 0));
        assert_eq!(config.vit.image_size, [32, 256, 256]);
        assert_eq!(config.mm_projector.num_tokens(), 256);
    }

    #[test]
    fn t3_t4_values_out_of_range_are_refused_by_name() {
        for (key, value) in [
            ("img_size", json!([16, 60, 64])),
            ("img_size", json!([1_u64 << 40, 64, 64])),
            ("patch_size", json!([1, 1, 1])),
            ("patch_size", json!([0, 16, 16])),
            ("num_heads", json!(5)),
            ("num_layers", json!(1_000_000_000)),
            ("mm_hidden_size", json!(-48)),
            ("mm_hidden_size", json!(40)),
            ("num_clicks", json!(1000)),
            ("image_channel", json!(3)),
            ("mm_projector_type", json!("mamba")),
            ("proj_layer_type", json!("kan")),
            ("proj_pooling_type", json!("max")),
            ("proj_pooling_size", json!(9)),
            ("num_hidden_layers", json!(1_000_000_000)),
            ("num_attention_heads", json!(7)),
            ("rope_theta", json!(-1.0)),
            ("eos_token_id", json!("</s>")),
        ] {
            let mut config = phi3();
            config[key] = value.clone();
            let error = read(&config).unwrap_err();
            assert_eq!(error.code(), "R-CFG-01", "{key} = {value}: {error}");
        }
        let mut config = phi3();
        config.as_object_mut().unwrap().remove("mm_hidden_size");
        assert!(read(&config).unwrap_err().to_string().contains("mm_hidden_size"));
    }

    #[test]
    fn t4_a_number_of_visual_tokens_that_the_projector_does_not_make_is_refused() {
        let mut config = phi3();
        config["proj_out_num"] = json!(8);
        assert_eq!(read(&config).unwrap().mm_projector.num_tokens(), 8);
        config["proj_out_num"] = json!(256);
        let error = read(&config).unwrap_err();
        assert_eq!(error.code(), "R-CFG-01");
        assert!(error.to_string().contains("proj_out_num is 256, but"), "{error}");
        assert!(error.to_string().contains("8 visual tokens"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_json_is_named_once_and_is_the_one_to_take_again() {
        let folder = tempfile::tempdir().unwrap();
        let source = CheckpointSource::Folder(folder.path().to_path_buf());
        let config = phi3().to_string();
        for (file, text, words) in [
            ("config.json", "{", "is not valid JSON: EOF"),
            ("generation_config.json", "{", "is not valid JSON: EOF"),
        ] {
            std::fs::write(folder.path().join("config.json"), &config).unwrap();
            std::fs::write(folder.path().join(file), text).unwrap();
            let error = ModelConfig::read(&source).unwrap_err();
            assert_eq!(error.code(), "R-CFG-01");
            let said = error.message();
            assert!(said.starts_with(file) && said.contains(words), "{said}");
            assert_eq!(said.matches(".json").count(), 1, "{said}");
            let fix = format!("take {file} from the publisher");
            assert!(format!("{:?}", error.remedy()).contains(&fix), "{error:?}");
        }
    }

    #[test]
    fn a_shared_model_type_is_told_apart_by_its_fields() {
        let mut config = phi3();
        config["model_type"] = json!("lamed_phi3");
        let object = config.as_object_mut().unwrap();
        object.remove("vision_module");
        object.insert("vision_tower".to_string(), json!("vit3d"));
        object.insert("image_size".to_string(), json!([8, 32, 32]));
        object.insert("num_clicks".to_string(), json!(2));
        let m3d = read(&config).unwrap();
        assert_eq!((m3d.family, m3d.vit.image_size), (Family::M3dLamed, [8, 32, 32]));
        assert!(m3d.vit.cls_token && m3d.mask_vit.is_some_and(|vit| !vit.cls_token));
        assert_eq!((m3d.num_clicks, m3d.separator), (0, Separator::None));
        assert_eq!(m3d.no_seg_logit, f32::NEG_INFINITY);

        for (key, value) in [
            ("vision_select_layer", json!(-2)),
            ("vision_select_feature", json!("cls_patch")),
            ("image_size", json!([8, 32, 33])),
        ] {
            let mut config = config.clone();
            config[key] = value;
            assert_eq!(read(&config).unwrap_err().code(), "R-CFG-01", "{key}");
        }
        // R1Seg-3D stores them and ignores them.
        let mut config = phi3();
        config["vision_select_layer"] = json!(-2);
        config["image_size"] = json!([8, 32, 32]);
        assert_eq!(read(&config).unwrap().vit.image_size, [16, 64, 64]);
    }

    #[test]
    fn other_models_are_recognized_and_refused() {
        let refused = |edit: &dyn Fn(&mut Value)| {
            let mut config = phi3();
            edit(&mut config);
            let error = read(&config).unwrap_err();
            assert_eq!(error.code(), "R-MDL-05", "{error}");
            error.to_string()
        };
        let llava = refused(&|c| {
            c["model_type"] = json!("llava_mistral");
            c["vision_module"] = Value::Null;
        });
        assert!(llava.contains("without vision_module"), "{llava}");
        let llama = refused(&|c| {
            c["model_type"] = json!("lamed_llama");
            c.as_object_mut().unwrap().remove("vision_module");
        });
        assert!(llama.contains("without vision_module, vision_tower"), "{llama}");
        assert!(refused(&|c| c["model_type"] = json!("lamed_phi3")).contains("vision_tower"));
        assert!(refused(&|c| c["model_type"] = json!("segvol")).contains("SegVol"));
        assert!(refused(&|c| c["model_type"] = json!("gpt2")).contains("`gpt2`"));
    }
}
