//! The decoder's tensors by their published names (Hugging Face's) and by llama.cpp's.
//!
//! | published | llama.cpp |
//! |---|---|
//! | `model.embed_tokens` | `token_embd` |
//! | `model.layers.N.input_layernorm`, `.post_attention_layernorm` | `blk.N.attn_norm`, `.ffn_norm` |
//! | `.self_attn.qkv_proj` (phi3) | `.attn_qkv` |
//! | `.self_attn.q_proj`, `k_proj`, `v_proj` | `.attn_q`, `.attn_k`, `.attn_v` |
//! | `.self_attn.o_proj` | `.attn_output` |
//! | `.mlp.gate_up_proj` (phi3: the gate's rows first) | `.ffn_up` |
//! | `.mlp.gate_proj`, `up_proj`, `down_proj` | `.ffn_gate`, `.ffn_up`, `.ffn_down` |
//! | `model.norm` | `output_norm` |
//! | `lm_head` | `output` |
//!
//! Of Llama and Mistral, llama.cpp stores the rows of q and k in the order of its rotary embedding
//! ([`RowOrder`]).

/// What llama.cpp calls a model's kind, as `general.architecture` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Phi-3: fused projections.
    Phi3,
    /// Llama and Mistral: rows of q and k reordered.
    Llama,
    /// Qwen2 and Qwen2.5: biases.
    Qwen2,
}

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The embedding table: looked up, never multiplied.
    Embedding,
    /// The output layer.
    Output,
    /// A linear layer of a block.
    Linear,
    /// The weight of a norm, or a bias.
    Vector,
}

/// A published tensor as llama.cpp knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// llama.cpp's name.
    pub name: String,
    /// What it is for.
    pub part: Part,
    /// Whether it computes queries or keys that llama.cpp rotates in its own order.
    reordered: bool,
}

impl Mapped {
    /// How its rows lie in a GGUF file of a model with heads of this width.
    pub fn row_order(&self, head_dim: u64) -> RowOrder {
        match self.reordered {
            true => RowOrder::Interleaved { head_dim },
            false => RowOrder::Same,
        }
    }
}

/// In which order a GGUF file has the rows of a matrix, or the numbers of its bias.
///
/// Published models rotate number `i` of a head with number `i + head_dim / 2`; llama.cpp's `llama`
/// rotates neighbors. Its files have the rows so that both compute the same. Whole rows move, so
/// that quantized ones move exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// As published.
    Same,
    /// Within each head, the two halves alternate.
    Interleaved {
        /// Rows of a head; even.
        head_dim: u64,
    },
}

impl RowOrder {
    /// Where a file has a published row.
    pub fn stored_row(self, row: u64) -> u64 {
        match self {
            Self::Interleaved { head_dim } if 2 <= head_dim => {
                let (head, at, half) = (row / head_dim, row % head_dim, head_dim / 2);
                head * head_dim + 2 * (at % half) + at / half
            }
            _ => row,
        }
    }

    /// Which published row a row of a file is.
    pub fn published_row(self, stored: u64) -> u64 {
        match self {
            Self::Interleaved { head_dim } if 2 <= head_dim => {
                let (head, at, half) = (stored / head_dim, stored % head_dim, head_dim / 2);
                head * head_dim + at / 2 + at % 2 * half
            }
            _ => stored,
        }
    }
}

/// Published name, llama.cpp's name, and what it is; the same for all architectures.
const TOP: [(&str, &str, Part); 3] = [
    ("model.embed_tokens.weight", "token_embd.weight", Part::Embedding),
    ("model.norm.weight", "output_norm.weight", Part::Vector),
    ("lm_head.weight", "output.weight", Part::Output),
];
/// Modules of a layer that all architectures have.
const SHARED: [(&str, &str); 4] = [
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.down_proj", "ffn_down"),
];
const FUSED: [(&str, &str); 2] =
    [("self_attn.qkv_proj", "attn_qkv"), ("mlp.gate_up_proj", "ffn_up")];
const SPLIT: [(&str, &str); 5] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
];
/// What llama.cpp's files have beside a model's own tensors: tables that r1seg computes from
/// `config.json`.
const RECOMPUTED: [&str; 3] =
    ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];

impl Architecture {
    /// The architecture of a language model alone, by the `model_type` that transformers has for it.
    pub fn of_language_model(model_type: &str) -> Option<Self> {
        Some(match model_type {
            "phi3" => Self::Phi3,
            "llama" | "mistral" => Self::Llama,
            "qwen2" => Self::Qwen2,
            _ => return None,
        })
    }

    /// As `general.architecture` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Phi3 => "phi3",
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
        }
    }

    /// The architecture of this name, as `general.architecture` spells it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Phi3, Self::Llama, Self::Qwen2].into_iter().find(|known| known.name() == name)
    }

    fn modules(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let own: &[(&str, &str)] = match self {
            Self::Phi3 => &FUSED,
            Self::Llama | Self::Qwen2 => &SPLIT,
        };
        SHARED.iter().chain(own).copied()
    }

    /// A published tensor as llama.cpp knows it. `None` for one that is no part of a decoder of this
    /// architecture.
    pub fn to_gguf(self, published: &str) -> Option<Mapped> {
        if let Some((_, name, part)) = TOP.iter().find(|(hf, ..)| *hf == published) {
            return Some(Mapped { name: (*name).to_owned(), part: *part, reordered: false });
        }
        let (layer, rest) = published.strip_prefix("model.layers.")?.split_once('.')?;
        let (module, kind) = rest.rsplit_once('.')?;
        let (_, name) = self.modules().find(|(hf, _)| *hf == module)?;
        let part = part(name, kind)?;
        let reordered = self == Self::Llama && matches!(name, "attn_q" | "attn_k");
        is_number(layer).then(|| Mapped {
            name: format!("blk.{layer}.{name}.{kind}"),
            part,
            reordered,
        })
    }

    /// The published name of a tensor of a GGUF file. `None` for one that r1seg does not know.
    pub fn to_published(self, stored: &str) -> Option<String> {
        if let Some((published, ..)) = TOP.iter().find(|(_, gguf, _)| *gguf == stored) {
            return Some((*published).to_owned());
        }
        let (layer, rest) = stored.strip_prefix("blk.")?.split_once('.')?;
        let (module, kind) = rest.rsplit_once('.')?;
        let (published, name) = self.modules().find(|(_, gguf)| *gguf == module)?;
        part(name, kind)?;
        is_number(layer).then(|| format!("model.layers.{layer}.{published}.{kind}"))
    }
}

/// Whether a tensor of a GGUF file is a table that follows from `config.json`.
pub fn is_recomputed(stored: &str) -> bool {
    RECOMPUTED.contains(&stored)
}

fn part(module: &str, kind: &str) -> Option<Part> {
    match kind {
        "weight" if module.ends_with("_norm") => Some(Part::Vector),
        "weight" => Some(Part::Linear),
        "bias" if !module.ends_with("_norm") => Some(Part::Vector),
        _ => None,
    }
}

/// A layer's number, spelled in the one way.
fn is_number(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|number| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Architecture; 3] = [Architecture::Phi3, Architecture::Llama, Architecture::Qwen2];

    #[test]
    fn every_name_goes_there_and_back() {
        for architecture in ALL {
            let mut names: Vec<String> = TOP.iter().map(|row| row.0.to_owned()).collect();
            for (module, _) in architecture.modules() {
                names.push(format!("model.layers.31.{module}.weight"));
            }
            names.push("model.layers.0.self_attn.o_proj.bias".to_owned());
            for name in names {
                let mapped = architecture.to_gguf(&name).unwrap();
                assert_eq!(architecture.to_published(&mapped.name), Some(name));
            }
        }
    }

    #[test]
    fn names_are_llama_cpps() {
        let name = |architecture: Architecture, hf: &str| architecture.to_gguf(hf).map(|m| m.name);
        let phi3 = |hf| name(Architecture::Phi3, hf).unwrap();
        assert_eq!(phi3("model.layers.2.mlp.gate_up_proj.weight"), "blk.2.ffn_up.weight");
        assert_eq!(phi3("model.layers.2.self_attn.qkv_proj.weight"), "blk.2.attn_qkv.weight");
        let qwen2 = |hf| name(Architecture::Qwen2, hf).unwrap();
        assert_eq!(qwen2("model.layers.10.self_attn.k_proj.bias"), "blk.10.attn_k.bias");
        assert_eq!(qwen2("model.layers.0.mlp.up_proj.weight"), "blk.0.ffn_up.weight");
        for unknown in [
            "model.layers.0.mlp.gate_up_proj.weight",
            "model.layers.00.mlp.up_proj.weight",
            "model.layers.+1.mlp.up_proj.weight",
            "model.layers.0.input_layernorm.bias",
            "model.layers.0.mlp.up_proj.scales",
            "model.vision_module.logit_scale",
            "model.layers.0",
        ] {
            assert_eq!(name(Architecture::Llama, unknown), None, "{unknown}");
        }
        assert!(is_recomputed("rope_freqs.weight") && !is_recomputed("output.weight"));
        assert_eq!(Architecture::Llama.to_published("rope_freqs.weight"), None);
    }

    #[test]
    fn rows_of_llamas_queries_and_keys_alternate_as_by_hand() {
        let mapped = |architecture: Architecture, name: &str| {
            architecture.to_gguf(&format!("model.layers.0.self_attn.{name}")).unwrap()
        };
        // Two heads of six rows: llama.cpp's file begins with rows 0, 3, 1, 4, 2, 5.
        let order = mapped(Architecture::Llama, "q_proj.weight").row_order(6);
        let published: Vec<u64> = (0..12).map(|stored| order.published_row(stored)).collect();
        assert_eq!(published, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
        for row in 0..12 {
            assert_eq!(order.published_row(order.stored_row(row)), row);
        }
        for (architecture, name, expected) in [
            (Architecture::Llama, "k_proj.bias", RowOrder::Interleaved { head_dim: 6 }),
            (Architecture::Llama, "v_proj.weight", RowOrder::Same),
            (Architecture::Qwen2, "q_proj.weight", RowOrder::Same),
            (Architecture::Phi3, "qkv_proj.weight", RowOrder::Same),
        ] {
            assert_eq!(mapped(architecture, name).row_order(6), expected, "{name}");
        }
        assert_eq!(RowOrder::Same.stored_row(7), 7);
        // A head that cannot be halved is nobody's; nothing divides by zero.
        assert_eq!(RowOrder::Interleaved { head_dim: 1 }.stored_row(7), 7);
    }
}
