//! The decoder against candle-transformers, which implements each family by itself: the same random
//! weights give the same logits, in a prompt, behind a cached prefix and token by token.
//!
//! Two things are left out because candle-transformers departs from transformers there. Longrope: it
//! multiplies the frequencies by the factors that should divide them. Sliding windows: its mask shows
//! one key more than the window holds. Both are compared with recordings of transformers instead.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, mistral, phi3, qwen2};
use common::{Weights, decoder, families, gap, random_weights, run};
use serde_json::Value;

/// Rounding of f32 sums taken in another order, through every layer.
const F32: f64 = 2e-5;

/// Lengths of consecutive passes over [`TOKENS`]: a prompt, a question behind it, and two tokens.
const PASSES: [usize; 4] = [9, 5, 1, 1];
const TOKENS: [u32; 16] = [1, 618, 0, 17, 300, 42, 42, 511, 7, 99, 250, 3, 616, 128, 64, 32];

/// One of candle-transformers' models with its own cache.
enum Oracle {
    Llama(Box<llama::Llama>, Box<llama::Cache>),
    Mistral(Box<mistral::Model>),
    Phi3(Box<phi3::Model>),
    Qwen2(Box<qwen2::ModelForCausalLM>),
}

impl Oracle {
    fn new(family: &str, config: &Value, weights: &Weights) -> Result<Self> {
        let vb = VarBuilder::from_tensors(weights.clone(), DType::F32, &Device::Cpu);
        let mut config = config.clone();
        Ok(match family {
            "phi3" => {
                let config = serde_json::from_value(config).unwrap();
                Self::Phi3(Box::new(phi3::Model::new(&config, vb)?))
            }
            "qwen2" => {
                // candle-transformers has no "no window"; this one is never reached.
                config["sliding_window"] = config["max_position_embeddings"].clone();
                let config = serde_json::from_value(config).unwrap();
                Self::Qwen2(Box::new(qwen2::ModelForCausalLM::new(&config, vb)?))
            }
            "mistral" => {
                let config = serde_json::from_value(config).unwrap();
                Self::Mistral(Box::new(mistral::Model::new(&config, vb)?))
            }
            _ => {
                let config: llama::LlamaConfig = serde_json::from_value(config).unwrap();
                let config = config.into_config(false);
                let cache = llama::Cache::new(true, DType::F32, &config, &Device::Cpu)?;
                Self::Llama(Box::new(llama::Llama::load(vb, &config)?), Box::new(cache))
            }
        })
    }

    /// Logits of the last of `ids`, which follow `position` others.
    fn logits(&mut self, ids: &[u32], position: usize) -> Result<Tensor> {
        let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
        let logits = match self {
            Self::Llama(model, cache) => model.forward(&ids, position, cache)?,
            Self::Mistral(model) => model.forward(&ids, position)?,
            Self::Phi3(model) => model.forward(&ids, position)?,
            Self::Qwen2(model) => model.forward(&ids, position)?,
        };
        logits.flatten_all()
    }
}

#[test]
fn every_family_has_the_logits_of_candle_transformers() -> Result<()> {
    let mut compared = 0;
    for (name, config) in families() {
        let fixture: Value = match name {
            "phi3" => serde_json::from_str(include_str!("fixtures/phi3.json")).unwrap(),
            "llama3" => serde_json::from_str(include_str!("fixtures/llama3.json")).unwrap(),
            "llama31" => serde_json::from_str(include_str!("fixtures/llama31.json")).unwrap(),
            "qwen2" => serde_json::from_str(include_str!("fixtures/qwen2.json")).unwrap(),
            "mistral" => serde_json::from_str(include_str!("fixtures/mistral.json")).unwrap(),
            _ => continue,
        };
        let weights = random_weights(&config, 31);
        let decoder = decoder(&config, &weights);
        let mut oracle = Oracle::new(name, &fixture, &weights)?;
        let mut cache = decoder.new_cache(TOKENS.len());
        for len in PASSES {
            let position = cache.len();
            let ids = &TOKENS[position..position + len];
            let hidden = run(&decoder, &decoder.embed(ids)?, &mut cache);
            let got = decoder.logits(&hidden.narrow(1, len - 1, 1)?)?.flatten_all()?;
            let expected = oracle.logits(ids, position)?;
            let gap = gap(&got, &expected);
            assert!(gap < F32, "{name}, {len} tokens behind {position}: {gap}");
        }
        compared += 1;
    }
    assert_eq!(compared, 5);
    Ok(())
}
