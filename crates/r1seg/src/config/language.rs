//! R1Seg-3D, M3D-LaMed and HSENet in `config.json`.

use r1seg_diagnostic::Purpose;
use r1seg_llm::{DecoderConfig, eos_token_ids};
use r1seg_mask_decoder::{MaskDecoderConfig, PromptConfig};
use r1seg_projector::MmProjectorConfig;
use r1seg_vit3d::Vit3dConfig;
use serde_json::Value;

use super::slices::{self, SliceInputConfig};
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
    /// The vision transformers that the language model reads one behind the other, one at least.
    pub branches: Vec<ImageBranch>,
    /// The slices that guide one of them, for a model that reads any.
    pub slices: Option<SliceInputConfig>,
    /// What draws masks, for a model that does.
    pub mask: Option<MaskConfig>,
    /// The language model.
    pub decoder: DecoderConfig,
    /// Id of `[SEG]`, where the config names it.
    pub seg_token_id: Option<u32>,
    /// Ids that end an answer.
    pub eos_token_ids: Vec<u32>,
    /// What stands between the image and a question unless a caller says otherwise.
    pub separator: Separator,
    /// Whether prompts begin with `bos_token` although the tokenizer does not see to that, and answers with
    /// white space.
    pub(crate) is_plain_text: bool,
    pub(crate) keys: &'static KeyMap,
}

/// A vision transformer that the language model reads, and what brings its embeddings there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageBranch {
    /// The vision transformer.
    pub vit: Vit3dConfig,
    /// Image embeddings to visual tokens.
    pub mm_projector: MmProjectorConfig,
}

/// What draws the mask of an answer.
#[derive(Debug, Clone)]
pub struct MaskConfig {
    /// The mask decoder's own vision transformer, where it has one.
    pub vit: Option<Vit3dConfig>,
    /// The mask decoder.
    pub head: MaskDecoderConfig,
    /// Passes of the mask decoder after the first.
    pub num_clicks: usize,
    /// The logit of all voxels when an answer has no `[SEG]`.
    pub no_seg_logit: f32,
}

/// Where the families differ, beside their rows.
pub(crate) struct Rules {
    vision: VisionFields,
    /// Whether a second vision transformer follows, of the same sizes and guided by slices.
    has_guided_branch: bool,
    mask: Option<MaskRules>,
    separator: Separator,
    /// Whether training put `bos_token` in front of a prompt, and a space in front of an answer.
    is_plain_text: bool,
    /// Refuses what the authors' code fails on.
    check: fn(&Value) -> Result<(), String>,
}

/// Where they draw masks differently.
struct MaskRules {
    /// Whether the mask decoder has an encoder of its own, without the other one's class token.
    own_encoder: bool,
    prompts: fn() -> PromptConfig,
    no_seg_logit: f32,
}

pub(crate) const R1SEG_3D: Rules = Rules {
    vision: VisionFields {
        image_size: &["img_size"],
        in_channels: "image_channel",
        hidden_size: "mm_hidden_size",
        needs_hidden_size: true,
        cls_token: false,
        slice_guided: false,
    },
    has_guided_branch: false,
    mask: Some(MaskRules {
        own_encoder: false,
        prompts: PromptConfig::text_and_masks,
        no_seg_logit: -1000.0,
    }),
    separator: Separator::Space,
    is_plain_text: false,
    // It stores `vision_select_layer` and `vision_select_feature`, and ignores them.
    check: |_| Ok(()),
};

pub(crate) const M3D_LAMED: Rules = Rules {
    vision: VisionFields { image_size: &["image_size"], cls_token: true, ..R1SEG_3D.vision },
    has_guided_branch: false,
    mask: Some(MaskRules {
        own_encoder: true,
        prompts: PromptConfig::text_points_and_boxes,
        no_seg_logit: f32::NEG_INFINITY,
    }),
    separator: Separator::None,
    is_plain_text: false,
    // The authors' code fails on other layers, and `cls_patch` breaks its projector.
    check: |config| {
        only(config, "vision_select_layer", (-1).into())?;
        only(config, "vision_select_feature", "patch".into())
    },
};

pub(crate) const HSENET: Rules = Rules {
    vision: VisionFields { image_size: &["image_size"], cls_token: true, ..R1SEG_3D.vision },
    has_guided_branch: true,
    mask: None,
    separator: Separator::None,
    is_plain_text: true,
    check: |config| {
        (M3D_LAMED.check)(config)?;
        // Other values are those of ablations, with one encoder, or with the packers in another order.
        only(config, "vision_tower", "vit_stage2_dual_encoders".into())?;
        only(config, "remain_2d3d_ViT_type", "dual_vits".into())?;
        only(config, "use_parallel_projector", true.into())
    },
};

/// That a field has this value, if it is given.
fn only(config: &Value, name: &str, expected: Value) -> Result<(), String> {
    match field::<Value>(config, name)?.filter(|given| *given != expected) {
        Some(other) => Err(format!("{name} is {other}, expected {expected}")),
        None => Ok(()),
    }
}

/// The reader of all of them.
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
    let mask = match &rules.mask {
        Some(mask) => Some(mask.read(file, &vit)?),
        None => None,
    };
    let guided = Vit3dConfig { slice_guided: true, ..vit.clone() };
    let vits: Vec<Vit3dConfig> =
        std::iter::once(vit.clone()).chain(rules.has_guided_branch.then_some(guided)).collect();
    let mm_projector = projector::read(config, &vit, (decoder.hidden_size, vits.len()))?;
    let branch = |vit| ImageBranch { vit, mm_projector: mm_projector.clone() };
    Ok(ModelConfig {
        model_type: file.model_type.name.to_string(),
        family: file.entry.family,
        language_model,
        branches: vits.into_iter().map(branch).collect(),
        slices: match rules.has_guided_branch {
            true => Some(slices::read(config, vit.hidden_size)?),
            false => None,
        },
        mask,
        seg_token_id: field(config, "seg_token_id")?,
        eos_token_ids: eos_token_ids(config, generation).map_err(|e| e.to_string())?,
        separator: rules.separator,
        is_plain_text: rules.is_plain_text,
        keys: file.entry.keys,
        decoder,
    })
}

impl MaskRules {
    fn read(&self, file: &ConfigFile, vit: &Vit3dConfig) -> Result<MaskConfig, String> {
        let (size, grid) = (vit.image_size, vit.grid());
        let head = MaskDecoderConfig::segvol(vit.hidden_size, size, grid, (self.prompts)());
        head.validate()?;
        let num_clicks = num_clicks(&file.value)?;
        Ok(MaskConfig {
            vit: self.own_encoder.then(|| Vit3dConfig { cls_token: false, ..vit.clone() }),
            head,
            num_clicks: if file.entry.capabilities.refines_masks { num_clicks } else { 0 },
            no_seg_logit: self.no_seg_logit,
        })
    }
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

    /// Voxels of a volume as the language model's vision transformers read it, `[D, H, W]`.
    pub fn image_size(&self) -> [usize; 3] {
        self.branches.first().map_or([0; 3], |branch| branch.vit.image_size)
    }

    /// Tokens that the language model reads of a volume.
    pub fn visual_tokens(&self) -> usize {
        self.branches.iter().map(|branch| branch.mm_projector.num_tokens()).sum()
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
        assert_eq!(config.branches[0].vit.grid(), [4, 4, 4]);
        assert_eq!(config.visual_tokens(), 8);
        assert_eq!(config.mask.as_ref().unwrap().head.low_res_size(), [16, 16, 16]);
        assert_eq!((config.seg_token_id, config.eos_token_ids), (Some(618), vec![2]));
    }

    #[test]
    fn absent_fields_have_the_authors_defaults() {
        let mut config = phi3();
        for key in ["num_layers", "num_heads", "mlp_dim", "num_clicks", "img_size", "patch_size"] {
            config.as_object_mut().unwrap().remove(key);
        }
        let config = read(&config).unwrap();
        let vit = &config.branches[0].vit;
        assert_eq!((vit.num_layers, vit.num_heads), (12, 12));
        assert_eq!((vit.mlp_dim, config.mask.as_ref().unwrap().num_clicks), (3072, 0));
        assert_eq!(config.image_size(), [32, 256, 256]);
        assert_eq!(config.visual_tokens(), 256);
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
        assert_eq!(read(&config).unwrap().visual_tokens(), 8);
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
        assert_eq!((m3d.family, m3d.image_size()), (Family::M3dLamed, [8, 32, 32]));
        let mask = m3d.mask.unwrap();
        assert!(m3d.branches[0].vit.cls_token && mask.vit.is_some_and(|vit| !vit.cls_token));
        assert_eq!((mask.num_clicks, m3d.separator), (0, Separator::None));
        assert_eq!(mask.no_seg_logit, f32::NEG_INFINITY);

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
        assert_eq!(read(&config).unwrap().image_size(), [16, 64, 64]);
    }

    #[test]
    fn two_encoders_one_of_them_guided_by_slices_and_no_mask_make_an_hsenet() {
        let path = "/../../tests/data/hsenet-phi4/config.json";
        let path = format!("{}{path}", env!("CARGO_MANIFEST_DIR"));
        let published: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let config = read(&published).unwrap();
        let guided: Vec<bool> = config.branches.iter().map(|of| of.vit.slice_guided).collect();
        assert_eq!((guided, config.visual_tokens()), (vec![false, true], 256));
        assert!(config.mask.is_none() && config.slices.is_some_and(|slices| slices.count == 32));
        for (key, value) in [
            ("vision_tower", json!("vit3d")),
            ("remain_2d3d_ViT_type", json!("2e3_vit")),
            ("use_parallel_projector", json!(false)),
            ("proj_out_num", json!(128)),
            ("proj_kernel_size", json!([1, 3, 4])),
            ("slice_encoder", json!({"hidden_size": 96})),
        ] {
            let mut config = published.clone();
            config[key] = value;
            let error = read(&config).unwrap_err();
            assert_eq!(error.code(), "R-CFG-01", "{key}");
            assert!(error.to_string().contains(key), "{error}");
        }
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
