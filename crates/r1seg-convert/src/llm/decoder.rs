//! The language model as `config.json` describes it: which tensors it has, and of what shape.

use std::path::{Path, PathBuf};

use r1seg_checkpoint::gguf::Value;
use r1seg_checkpoint::keys::llama_cpp::{Architecture, Mapped, RowOrder};
use serde_json::Value as Json;

use crate::pickle::sanitize;
use crate::source::json;
use crate::{Error, sidecar};

/// Beyond any published model, and small enough that products of two do not overflow.
const MAX_WIDTH: u64 = 1 << 24;
const MAX_LAYERS: u64 = 1024;
const MAX_HEAD_DIM: u64 = 1024;

#[derive(Debug)]
pub(crate) struct Decoder {
    /// The `config.json` that it was read from.
    pub(super) path: PathBuf,
    pub(super) architecture: Architecture,
    model_type: String,
    hidden: u64,
    intermediate: u64,
    layers: u64,
    pub(super) heads: u64,
    pub(super) kv_heads: u64,
    pub(super) head_dim: u64,
    /// How many numbers of a head rotate.
    rotary: u64,
    /// Rows of the embedding table.
    vocabulary: u64,
    /// The output layer is the embedding table.
    pub(super) tied: bool,
    context: u64,
    rms_norm_eps: f64,
    rope_theta: f64,
    /// Biases of q, k and v; of the attention's output; of the MLP.
    biases: [bool; 3],
}

/// A tensor that the decoder has.
#[derive(Debug)]
pub(super) struct Expected {
    /// Its published name.
    pub(super) published: String,
    pub(super) mapped: Mapped,
    /// Row-major.
    pub(super) shape: Vec<u64>,
    pub(super) order: RowOrder,
}

impl Decoder {
    /// Reads the `config.json` of the first folder that has one. `architecture` knows the
    /// `model_type`s of checkpoints that hold more than a language model.
    pub(crate) fn read(
        folders: &[PathBuf],
        architecture: fn(&str) -> Option<Architecture>,
    ) -> Result<Self, Error> {
        let Some((path, bytes)) = sidecar::first(folders, sidecar::CONFIG)? else {
            let folder = folders.first().cloned().unwrap_or_default();
            let what = "there is no config.json, which says what the language model is".to_owned();
            return Err(Error::Config { path: folder, what });
        };
        let refuse = |what: String| Error::Config { path: path.clone(), what };
        let config: Json = serde_json::from_slice(json(&path, &bytes)?)
            .map_err(|error| refuse(format!("is not JSON, line {}", error.line())))?;
        Self::from_config(&config, &path, architecture)
    }

    /// What a `config.json` says; `path` stands for it in errors.
    pub(crate) fn from_config(
        config: &Json,
        path: &Path,
        architecture: fn(&str) -> Option<Architecture>,
    ) -> Result<Self, Error> {
        let refuse = |what: String| Error::Config { path: path.to_owned(), what };
        let given = |field: &str| config.get(field).filter(|value| !value.is_null());
        let size = |field: &str, default: Option<u64>, most: u64| match given(field) {
            Some(value) => match value.as_u64() {
                Some(n) if (1..=most).contains(&n) => Ok(n),
                _ => Err(refuse(format!("{field} is not a number from 1 to {most}"))),
            },
            None => default.ok_or_else(|| refuse(format!("{field} is missing"))),
        };
        let number = |field: &str, default: f64| match given(field) {
            Some(value) => value.as_f64().ok_or_else(|| refuse(format!("{field} is not a number"))),
            None => Ok(default),
        };
        let flag = |field: &str| given(field).and_then(Json::as_bool).unwrap_or(false);

        let model_type = given("model_type").and_then(Json::as_str).unwrap_or_default();
        let known =
            Architecture::of_language_model(model_type).or_else(|| architecture(model_type));
        let Some(architecture) = known else {
            let model_type = sanitize(model_type);
            return Err(refuse(format!(
                "model_type is `{model_type}`, which has no language model to quantize"
            )));
        };
        let hidden = size("hidden_size", None, MAX_WIDTH)?;
        let heads = size("num_attention_heads", None, MAX_WIDTH)?;
        let head_dim = size("head_dim", Some((hidden / heads).max(1)), MAX_HEAD_DIM)?;
        if !head_dim.is_multiple_of(2) {
            return Err(refuse(format!("head_dim is {head_dim}, which is odd")));
        }
        let part = number("partial_rotary_factor", 1.0)?;
        if !(0.0 < part && part <= 1.0) {
            return Err(refuse(format!("partial_rotary_factor is {part}, expected up to 1")));
        }
        let is_qwen2 = architecture == Architecture::Qwen2;
        let attention_bias = architecture == Architecture::Llama && flag("attention_bias");
        Ok(Self {
            path: path.to_owned(),
            architecture,
            model_type: model_type.to_owned(),
            hidden,
            intermediate: size("intermediate_size", None, MAX_WIDTH)?,
            layers: size("num_hidden_layers", None, MAX_LAYERS)?,
            heads,
            kv_heads: size("num_key_value_heads", Some(heads), MAX_WIDTH)?,
            head_dim,
            // At most 1024, and rounded down as transformers does it.
            rotary: (head_dim as f64 * part) as u64,
            vocabulary: size("vocab_size", None, MAX_WIDTH)?,
            tied: flag("tie_word_embeddings"),
            context: size("max_position_embeddings", Some(4096), 1 << 30)?,
            rms_norm_eps: number("rms_norm_eps", if is_qwen2 { 1e-6 } else { 1e-5 })?,
            rope_theta: number("rope_theta", 10_000.0)?,
            biases: [
                is_qwen2 || attention_bias,
                attention_bias,
                architecture == Architecture::Llama && flag("mlp_bias"),
            ],
        })
    }

    /// Every tensor that the decoder has, the output layer last. Of a tied one too: where its table
    /// is the embedding's, it is stored a second time, in a type to multiply with.
    pub(super) fn expected(&self) -> Vec<Expected> {
        let q = self.heads * self.head_dim;
        let kv = self.kv_heads * self.head_dim;
        let (hidden, inner) = (self.hidden, self.intermediate);
        let [qkv_bias, o_bias, mlp_bias] = self.biases;
        let (attention, mlp): (&[_], &[_]) = match self.architecture {
            Architecture::Phi3 => (&[("qkv_proj", q + 2 * kv)], &[("gate_up_proj", 2 * inner)]),
            Architecture::Llama | Architecture::Qwen2 => (
                &[("q_proj", q), ("k_proj", kv), ("v_proj", kv)],
                &[("gate_proj", inner), ("up_proj", inner)],
            ),
        };

        let mut expected = Expectations { decoder: self, found: Vec::new() };
        expected.add("model.embed_tokens.weight".to_owned(), vec![self.vocabulary, hidden]);
        for layer in 0..self.layers {
            let layer = format!("model.layers.{layer}");
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                expected.add(format!("{layer}.{norm}.weight"), vec![hidden]);
            }
            for (name, rows) in attention {
                expected.linear(format!("{layer}.self_attn.{name}"), [*rows, hidden], qkv_bias);
            }
            expected.linear(format!("{layer}.self_attn.o_proj"), [hidden, q], o_bias);
            for (name, rows) in mlp {
                expected.linear(format!("{layer}.mlp.{name}"), [*rows, hidden], mlp_bias);
            }
            expected.linear(format!("{layer}.mlp.down_proj"), [hidden, inner], mlp_bias);
        }
        expected.add("model.norm.weight".to_owned(), vec![hidden]);
        expected.add("lm_head.weight".to_owned(), vec![self.vocabulary, hidden]);
        expected.found
    }

    /// What llama.cpp asks of a header. There is no vocabulary: r1seg reads the tokenizer's files.
    pub(super) fn metadata(&self) -> Vec<(String, Value)> {
        let text = |text: &str| Value::String(text.to_owned());
        #[expect(clippy::cast_possible_truncation, reason = "llama.cpp has these in f32")]
        let float = |x: f64| Value::F32(x as f32);
        // Bounded when they were read.
        let count = |n: u64| Value::U32(u32::try_from(n).unwrap_or(u32::MAX));
        let own = [
            ("block_count", count(self.layers)),
            ("context_length", count(self.context)),
            ("embedding_length", count(self.hidden)),
            ("feed_forward_length", count(self.intermediate)),
            ("attention.head_count", count(self.heads)),
            ("attention.head_count_kv", count(self.kv_heads)),
            ("attention.key_length", count(self.head_dim)),
            ("attention.value_length", count(self.head_dim)),
            ("attention.layer_norm_rms_epsilon", float(self.rms_norm_eps)),
            ("rope.dimension_count", count(self.rotary)),
            ("rope.freq_base", float(self.rope_theta)),
            ("vocab_size", count(self.vocabulary)),
        ];
        let architecture = self.architecture.name();
        let own = own.map(|(key, value)| (format!("{architecture}.{key}"), value));
        let general = [
            ("general.architecture", text(architecture)),
            ("general.name", text(&self.model_type)),
            ("general.quantization_version", Value::U32(2)),
            ("tokenizer.ggml.model", text("no_vocab")),
        ];
        general.map(|(key, value)| (key.to_owned(), value)).into_iter().chain(own).collect()
    }
}

struct Expectations<'a> {
    decoder: &'a Decoder,
    found: Vec<Expected>,
}

impl Expectations<'_> {
    fn add(&mut self, published: String, shape: Vec<u64>) {
        // The names above are those that the map knows; a test holds it.
        if let Some(mapped) = self.decoder.architecture.to_gguf(&published) {
            let order = mapped.row_order(self.decoder.head_dim);
            self.found.push(Expected { published, mapped, shape, order });
        }
    }

    fn linear(&mut self, module: String, [rows, columns]: [u64; 2], has_bias: bool) {
        self.add(format!("{module}.weight"), vec![rows, columns]);
        if has_bias {
            self.add(format!("{module}.bias"), vec![rows]);
        }
    }
}
