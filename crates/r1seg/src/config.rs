//! `config.json` of a checkpoint to the configurations of its parts.

use r1seg_llm::{DecoderConfig, eos_token_ids};
use r1seg_mask_decoder::{MaskDecoderConfig, PromptConfig};
use r1seg_projector::{LayerType, MmProjectorConfig, PoolingType, ProjectorType};
use r1seg_tokenizer::PromptTokenizer;
use r1seg_vit3d::Vit3dConfig;
use serde::Deserialize;
use serde_json::Value;

use crate::checkpoint::keys::{KeyMap, M3D_LAMED, R1SEG_3D};
use crate::registry::{self, Family};
use crate::{CheckpointSource, Error, Separator};

/// The fields of R1Seg-3D and M3D-LaMed in `config.json`; those of the language model are read by
/// `r1seg-llm`.
///
/// The depth of the vision transformer is in no published config.json: the defaults are those of
/// the authors' `R1Seg3DSAM_Config`, and M3D's constants.
#[derive(Debug, Clone, Deserialize)]
struct Fields {
    /// R1Seg-3D's name for it.
    #[serde(default = "default_image_size")]
    img_size: [usize; 3],
    /// M3D-LaMed's.
    #[serde(default = "default_image_size")]
    image_size: [usize; 3],
    #[serde(default = "default_patch_size")]
    patch_size: [usize; 3],
    #[serde(default = "one")]
    image_channel: usize,
    mm_hidden_size: usize,
    #[serde(default = "default_mlp_dim")]
    mlp_dim: usize,
    #[serde(default = "twelve")]
    num_layers: usize,
    #[serde(default = "twelve")]
    num_heads: usize,
    #[serde(default)]
    num_clicks: usize,
    #[serde(default = "default_projector")]
    mm_projector_type: String,
    #[serde(default = "default_layer_type")]
    proj_layer_type: String,
    #[serde(default = "two")]
    proj_layer_num: usize,
    #[serde(default = "default_pooling")]
    proj_pooling_type: String,
    #[serde(default = "two")]
    proj_pooling_size: usize,
    /// How many tokens the projector makes. It follows from the other fields; a config that says
    /// otherwise is of another model.
    proj_out_num: Option<usize>,
    seg_token_id: Option<u32>,
    /// R1Seg-3D's code ignores these two.
    #[serde(default)]
    vision_select_layer: Value,
    #[serde(default)]
    vision_select_feature: Value,
}

fn default_image_size() -> [usize; 3] {
    [32, 256, 256]
}
fn default_patch_size() -> [usize; 3] {
    [4, 16, 16]
}
fn default_mlp_dim() -> usize {
    3072
}
fn default_projector() -> String {
    "spp".to_string()
}
fn default_layer_type() -> String {
    "mlp".to_string()
}
fn default_pooling() -> String {
    "spatial".to_string()
}
fn one() -> usize {
    1
}
fn two() -> usize {
    2
}
fn twelve() -> usize {
    12
}

/// The largest volume axis, width or count that a config.json may ask for: far beyond any
/// published model, and small enough that products of a few of them do not overflow.
pub(crate) const MAX_SIZE: usize = 1 << 16;
/// The most layers of the vision transformer.
const MAX_LAYERS: usize = 1024;
/// The most patches: attention among them takes the square of it, and published models have 2048.
const MAX_PATCHES: usize = 1 << 15;
/// The most refinement passes: each costs as much as the mask itself.
const MAX_NUM_CLICKS: usize = 64;

/// Everything that a checkpoint's `config.json` decides.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// `model_type`, as published.
    pub model_type: String,
    /// Which of the models it is.
    pub family: Family,
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

/// Where the families differ.
struct Rules {
    image_size: [usize; 3],
    /// Whether the mask decoder has an encoder of its own, and the other one a class token.
    two_encoders: bool,
    prompts: PromptConfig,
    num_clicks: usize,
    separator: Separator,
    no_seg_logit: f32,
    keys: &'static KeyMap,
}

impl Rules {
    fn of(family: Family, fields: &Fields) -> Result<Self, String> {
        match family {
            Family::R1Seg3d => Ok(Self {
                image_size: fields.img_size,
                two_encoders: false,
                prompts: PromptConfig::text_and_masks(),
                num_clicks: fields.num_clicks,
                separator: Separator::Space,
                no_seg_logit: -1000.0,
                keys: &R1SEG_3D,
            }),
            Family::M3dLamed => {
                // The authors' code fails on other layers, and `cls_patch` breaks its projector.
                let (layer, feature) = (&fields.vision_select_layer, &fields.vision_select_feature);
                if !(layer.is_null() || layer == -1) {
                    return Err(format!("vision_select_layer is {layer}, expected -1"));
                }
                if !(feature.is_null() || feature == "patch") {
                    return Err(format!("vision_select_feature is {feature}, expected \"patch\""));
                }
                Ok(Self {
                    image_size: fields.image_size,
                    two_encoders: true,
                    prompts: PromptConfig::text_points_and_boxes(),
                    num_clicks: 0,
                    separator: Separator::None,
                    no_seg_logit: f32::NEG_INFINITY,
                    keys: &M3D_LAMED,
                })
            }
            other => Err(format!("{other:?} has no language model")),
        }
    }
}

impl ModelConfig {
    /// Reads `config.json` and `generation_config.json` of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], [`Error::Config`] naming the field, or
    /// [`Error::UnsupportedModel`].
    pub fn read(source: &CheckpointSource) -> Result<Self, Error> {
        let path = source.path();
        let config = read_config(source)?;
        let generation = read_json(source, "generation_config.json")?;
        let (family, decoder) = family_and_decoder(&config, source)?;
        let wrong = |message: String| Error::Config { path: path.clone(), message };
        let fields: Fields =
            serde_json::from_value(config.clone()).map_err(|e| wrong(e.to_string()))?;
        Self::from_fields(&config, fields, family, decoder, generation.as_ref()).map_err(wrong)
    }

    /// Checks that the tokenizer is this model's.
    pub(crate) fn check_tokenizer(
        &self,
        tokenizer: &PromptTokenizer,
        source: &CheckpointSource,
    ) -> Result<(), Error> {
        tokenizer.check_embedding_rows(self.decoder.vocab_size)?;
        let seg = tokenizer.seg_token_id();
        match self.seg_token_id.filter(|&id| id != seg) {
            None => Ok(()),
            Some(id) => Err(Error::Config {
                path: source.path(),
                message: format!("seg_token_id is {id}, but the tokenizer's [SEG] is {seg}"),
            }),
        }
    }

    fn from_fields(
        config: &Value,
        fields: Fields,
        family: Family,
        decoder: DecoderConfig,
        generation: Option<&Value>,
    ) -> Result<Self, String> {
        let rules = Rules::of(family, &fields)?;
        check_ranges(&fields)?;
        let vit = Vit3dConfig {
            image_size: rules.image_size,
            patch_size: fields.patch_size,
            in_channels: fields.image_channel,
            hidden_size: fields.mm_hidden_size,
            mlp_dim: fields.mlp_dim,
            num_layers: fields.num_layers,
            num_heads: fields.num_heads,
            cls_token: rules.two_encoders,
        };
        let names = VitNames {
            image_size: "the image size",
            in_channels: "image_channel",
            hidden_size: "mm_hidden_size",
        };
        check_vit(&vit, &names)?;
        let mask_vit = rules.two_encoders.then(|| Vit3dConfig { cls_token: false, ..vit.clone() });
        let mm_projector = MmProjectorConfig {
            projector_type: match fields.mm_projector_type.as_str() {
                "spp" => ProjectorType::SpatialPooling,
                "linear" => ProjectorType::Linear,
                "identity" => ProjectorType::Identity,
                other => {
                    return Err(format!(
                        "mm_projector_type is `{other}`, expected spp, linear or identity"
                    ));
                }
            },
            layer_type: match fields.proj_layer_type.as_str() {
                "mlp" => LayerType::Mlp,
                "linear" => LayerType::Linear,
                other => {
                    return Err(format!("proj_layer_type is `{other}`, expected mlp or linear"));
                }
            },
            layer_num: fields.proj_layer_num,
            pooling_type: match fields.proj_pooling_type.as_str() {
                "spatial" => PoolingType::Spatial,
                "sequence" => PoolingType::Sequence,
                other => {
                    return Err(format!(
                        "proj_pooling_type is `{other}`, expected spatial or sequence"
                    ));
                }
            },
            pooling_size: fields.proj_pooling_size,
            grid: vit.grid(),
            in_dim: fields.mm_hidden_size,
            out_dim: decoder.hidden_size,
        };
        mm_projector.validate()?;
        let tokens = mm_projector.num_tokens();
        if let Some(given) = fields.proj_out_num.filter(|given| *given != tokens) {
            return Err(format!(
                "proj_out_num is {given}, but image size, patch_size, mm_projector_type and \
                 proj_pooling_size give {tokens} visual tokens"
            ));
        }
        let mask_head = MaskDecoderConfig::segvol(
            fields.mm_hidden_size,
            rules.image_size,
            vit.grid(),
            rules.prompts,
        );
        mask_head.validate()?;
        Ok(Self {
            model_type: config["model_type"].as_str().unwrap_or_default().to_string(),
            eos_token_ids: eos_token_ids(config, generation).map_err(|e| e.to_string())?,
            family,
            vit,
            mask_vit,
            mm_projector,
            mask_head,
            decoder,
            num_clicks: rules.num_clicks,
            seg_token_id: fields.seg_token_id,
            separator: rules.separator,
            no_seg_logit: rules.no_seg_logit,
            keys: rules.keys,
        })
    }
}

fn check_ranges(fields: &Fields) -> Result<(), String> {
    let size = fields.proj_pooling_size;
    if size == 0 || size > MAX_SIZE {
        return Err(format!("proj_pooling_size is {size}, expected 1 to {MAX_SIZE}"));
    }
    check_num_clicks(fields.num_clicks).map_err(|e| format!("num_clicks: {e}"))
}

/// # Errors
/// More refinement passes than any model has use for.
pub(crate) fn check_num_clicks(num_clicks: usize) -> Result<(), String> {
    if num_clicks > MAX_NUM_CLICKS {
        return Err(format!("{num_clicks} passes, expected 0 to {MAX_NUM_CLICKS}"));
    }
    Ok(())
}

/// What a `config.json` calls sizes of the vision transformer, where the models differ.
pub(crate) struct VitNames {
    pub(crate) image_size: &'static str,
    pub(crate) in_channels: &'static str,
    pub(crate) hidden_size: &'static str,
}

/// # Errors
/// The first field of which no vision transformer can be made, or only one of an absurd size.
pub(crate) fn check_vit(vit: &Vit3dConfig, names: &VitNames) -> Result<(), String> {
    let image_size @ [d, h, w] = vit.image_size;
    for (name, value, most) in [
        (names.image_size, d.max(h).max(w), MAX_SIZE),
        ("patch_size", vit.patch_size.into_iter().max().unwrap_or(0), MAX_SIZE),
        (names.hidden_size, vit.hidden_size, MAX_SIZE),
        ("mlp_dim", vit.mlp_dim, MAX_SIZE),
        ("num_heads", vit.num_heads, MAX_SIZE),
        ("num_layers", vit.num_layers, MAX_LAYERS),
    ] {
        if value == 0 || value > most {
            return Err(format!("{name} is {value}, expected 1 to {most}"));
        }
    }
    if d.saturating_mul(h).saturating_mul(w) > 1 << 30 {
        return Err(format!("{} {image_size:?} is more than 2^30 voxels", names.image_size));
    }
    if vit.in_channels != 1 {
        return Err(format!("{} is {}, expected 1", names.in_channels, vit.in_channels));
    }
    vit.validate()?;
    if vit.num_patches() > MAX_PATCHES {
        return Err(format!(
            "{} and patch_size give {} patches, expected at most {MAX_PATCHES}",
            names.image_size,
            vit.num_patches()
        ));
    }
    Ok(())
}

/// A small JSON file of a checkpoint, where there is one.
pub(crate) fn read_json(source: &CheckpointSource, name: &str) -> Result<Option<Value>, Error> {
    let Some(bytes) = source.read(name)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::Json {
        path: source.path(),
        file: name.to_string(),
        message: e.to_string(),
    })
}

/// `config.json`, which every checkpoint has.
pub(crate) fn read_config(source: &CheckpointSource) -> Result<Value, Error> {
    let file = "config.json";
    read_json(source, file)?.ok_or_else(|| source.missing(file))
}

/// Which model it is, and its language model. `architectures` and `auto_map` are never used: they
/// are wrong in checkpoints that were merged locally.
fn family_and_decoder(
    config: &Value,
    source: &CheckpointSource,
) -> Result<(Family, DecoderConfig), Error> {
    let path = source.path();
    let model_type = config["model_type"].as_str().unwrap_or_default();
    if model_type.is_empty() {
        return Err(Error::Config { path, message: "model_type is missing".to_string() });
    }
    let unsupported = |hint: String| Error::UnsupportedModel {
        path: path.clone(),
        model_type: model_type.to_string(),
        hint,
    };
    let entry = registry::identify(config).map_err(unsupported)?;
    let adapter = match model_type {
        "lamed_phi3_cross" | "lamed_phi3" => DecoderConfig::phi3,
        "lamed_llama" => DecoderConfig::llama,
        "lamed_Qwen2" => DecoderConfig::qwen2,
        "llava_mistral" => DecoderConfig::mistral,
        _ => {
            let (name, command) = (entry.name, entry.command);
            return Err(unsupported(format!(" here: {name} runs with `r1seg {command}`")));
        }
    };
    let decoder = adapter(config).map_err(|e| Error::Config { path, message: e.to_string() })?;
    Ok((entry.family, decoder))
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
            let said = error.to_string();
            assert!(said.starts_with(file) && said.contains(words), "{said}");
            assert_eq!(said.matches(".json").count(), 1, "{said}");
            let fix = format!("take {file} from the publisher");
            assert!(error.fix().is_some_and(|told| told.starts_with(&fix)), "{error:?}");
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
