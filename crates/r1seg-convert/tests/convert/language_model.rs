//! Small language models with vision parts beside them, and the GGUF files that come of them.

use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{Device, Tensor};
use r1seg_checkpoint::gguf::Gguf;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use safetensors::Dtype;

use crate::{Place, f32_bytes, safetensors};

/// What a checkpoint's `config.json` says.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) model_type: &'static str,
    pub(crate) hidden: usize,
    pub(crate) inner: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) layers: usize,
    pub(crate) vocabulary: usize,
    pub(crate) tied: bool,
}

pub(crate) const VISION: &str = "model.vision_module.image_encoder.norm.weight";

impl Model {
    pub(crate) fn new(model_type: &'static str) -> Self {
        Self {
            model_type,
            hidden: 256,
            inner: 512,
            heads: 4,
            kv_heads: 2,
            layers: 2,
            vocabulary: 20,
            tied: false,
        }
    }

    pub(crate) fn architecture(&self) -> &'static str {
        match self.model_type {
            "lamed_phi3_cross" => "phi3",
            "lamed_Qwen2" => "qwen2",
            _ => "llama",
        }
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Published name, llama.cpp's name and shape, written down a second time.
    pub(crate) fn tensors(&self) -> Vec<(String, String, Vec<usize>)> {
        let Self { hidden, inner, heads, kv_heads, .. } = *self;
        let (q, kv) = (heads * self.head_dim(), kv_heads * self.head_dim());
        let top = |hf: &str, gguf: &str, shape: &[usize]| {
            (hf.to_owned(), gguf.to_owned(), shape.to_vec())
        };
        let mut all =
            vec![top("model.embed_tokens.weight", "token_embd.weight", &[self.vocabulary, hidden])];
        for n in 0..self.layers {
            let mut add = |hf: &str, gguf: &str, shape: &[usize]| {
                all.push(top(&format!("model.layers.{n}.{hf}"), &format!("blk.{n}.{gguf}"), shape));
            };
            add("input_layernorm.weight", "attn_norm.weight", &[hidden]);
            add("post_attention_layernorm.weight", "ffn_norm.weight", &[hidden]);
            add("self_attn.o_proj.weight", "attn_output.weight", &[hidden, q]);
            add("mlp.down_proj.weight", "ffn_down.weight", &[hidden, inner]);
            if self.architecture() == "phi3" {
                add("self_attn.qkv_proj.weight", "attn_qkv.weight", &[q + 2 * kv, hidden]);
                add("mlp.gate_up_proj.weight", "ffn_up.weight", &[2 * inner, hidden]);
                continue;
            }
            add("mlp.gate_proj.weight", "ffn_gate.weight", &[inner, hidden]);
            add("mlp.up_proj.weight", "ffn_up.weight", &[inner, hidden]);
            for (name, rows) in [("q", q), ("k", kv), ("v", kv)] {
                let hf = format!("self_attn.{name}_proj");
                add(&format!("{hf}.weight"), &format!("attn_{name}.weight"), &[rows, hidden]);
                if self.architecture() == "qwen2" {
                    add(&format!("{hf}.bias"), &format!("attn_{name}.bias"), &[rows]);
                }
            }
        }
        all.push(top("model.norm.weight", "output_norm.weight", &[hidden]));
        if !self.tied {
            all.push(top("lm_head.weight", "output.weight", &[self.vocabulary, hidden]));
        }
        all
    }

    /// The numbers of a tensor: always the same for a name.
    pub(crate) fn numbers(name: &str, shape: &[usize]) -> Vec<f32> {
        let seed = name.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31) + u64::from(byte));
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let number = |_| random.next_u32() as f32 / u32::MAX as f32 - 0.5;
        (0..shape.iter().product()).map(number).collect()
    }

    pub(crate) fn config(&self) -> serde_json::Value {
        serde_json::json!({
            "model_type": self.model_type,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "num_hidden_layers": self.layers,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.tied,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
        })
    }

    /// Writes the checkpoint into the folder `src`, changed by `change`.
    pub(crate) fn write_with(&self, place: &Place, change: impl Fn(&str, &mut Vec<f32>) -> bool) {
        let mut tensors = vec![(VISION.to_owned(), vec![3usize])];
        tensors.extend(self.tensors().into_iter().map(|(hf, _, shape)| (hf, shape)));
        let mut list = Vec::new();
        for (name, shape) in &tensors {
            let mut numbers = Self::numbers(name, shape);
            if change(name, &mut numbers) {
                list.push((name.as_str(), Dtype::F32, shape.as_slice(), f32_bytes(&numbers)));
            }
        }
        place.write("src/model.safetensors", &safetensors(&list));
        place.write("src/config.json", self.config().to_string().as_bytes());
    }

    pub(crate) fn write(&self, place: &Place) {
        self.write_with(place, |_, _| true);
    }

    /// A published tensor as llama.cpp's converter has it: rows of q and k permuted by its formula,
    /// `reshape(heads, 2, head_dim / 2, columns).swapaxes(1, 2)`.
    pub(crate) fn permuted(&self, gguf: &str, numbers: Vec<f32>, shape: &[usize]) -> Tensor {
        let tensor = Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap();
        let is_rotated = gguf.contains("attn_q.") || gguf.contains("attn_k.");
        if self.architecture() != "llama" || !is_rotated {
            return tensor;
        }
        let half = self.head_dim() / 2;
        let heads = shape[0] / self.head_dim();
        let columns = shape.get(1).copied().unwrap_or(1);
        let swapped = tensor.reshape((heads, 2, half, columns)).unwrap().transpose(1, 2).unwrap();
        swapped.contiguous().unwrap().reshape(shape).unwrap()
    }
}

/// The blocks that candle makes of a tensor.
pub(crate) fn blocks(tensor: &Tensor, dtype: GgmlDType) -> Vec<u8> {
    QTensor::quantize(tensor, dtype).unwrap().data().unwrap().into_owned()
}

/// Type and bytes of a tensor, as candle reads them.
pub(crate) fn read(folder: &Path, name: &str) -> (GgmlDType, Vec<usize>, Vec<u8>) {
    let mut file = std::fs::File::open(folder.join("language_model.gguf")).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    let tensor = content.tensor(&mut file, name, &Device::Cpu).unwrap();
    (tensor.dtype(), tensor.shape().dims().to_vec(), tensor.data().unwrap().into_owned())
}

pub(crate) fn header(folder: &Path) -> Gguf {
    Gguf::open(&std::fs::File::open(folder.join("language_model.gguf")).unwrap()).unwrap()
}
