//! One decoder-only language model for Phi-3, Llama-3, Qwen2.5 and Mistral checkpoints.
//!
//! The families differ in how their checkpoints cut the projections (fused or split), in biases,
//! in the scaling of the rotary frequencies and in a sliding window. All of that is data in a
//! [`DecoderConfig`], so there is one [`Decoder`]:
//!
//! ```text
//! inputs_embeds [1, L, hidden]          from Decoder::embed and the visual tokens
//!   └ num_hidden_layers ×  x + attention(norm(x)),  x + mlp(norm(x))    KvCache, owned by the caller
//!       └ norm → hidden states [1, L, hidden]                           what [SEG] is read from
//!           └ Decoder::logits → token logits [.., V]                    only for the rows that need it
//! ```
//!
//! - [`DecoderConfig::phi3`], [`llama`](DecoderConfig::llama), [`qwen2`](DecoderConfig::qwen2) and
//!   [`mistral`](DecoderConfig::mistral) read a family's `config.json`; [`eos_token_ids`] reads
//!   where an answer ends.
//! - [`Decoder::generate`] answers a prompt: greedy or sampled ([`Sampling`]), streaming,
//!   cancellable, with the hidden state that predicted each token.
//! - [`Drafts`] guess what an answer says next, so that one pass checks several tokens.
//! - [`Decoder::forward_many`] and [`Decoder::generate_many`] run several sequences, each of its own
//!   length and with its own cache, in passes that read the weights once for all.
//!
//! # Precision
//!
//! Rotary tables come from f64 and rotate in f32; norms and softmax run in f32 whatever the dtype.
//! The weights keep the dtype of the `Weights`; the activations have the dtype that
//! [`Decoder::new`] is given (f32 on a CPU, where products may round them, depending on the weights
//! and the processor).

mod attention;
mod cache;
mod chooser;
mod config;
mod decoder;
mod drafts;
mod generation;
mod mlp;
mod rope;
mod sampling;

pub use cache::KvCache;
pub use config::{
    AttentionBias, AttentionLayout, ConfigError, DecoderConfig, Llama3Scaling, LongRopeScaling,
    MlpLayout, RopeConfig, RopeScaling, eos_token_ids,
};
pub use decoder::{Decoder, DecoderInput};
pub use drafts::{Drafts, SeenAnswers};
pub use generation::{FinishReason, Generated, GenerationError, GenerationOptions, Request, Step};
pub use sampling::{Sampled, Sampler, Sampling};
