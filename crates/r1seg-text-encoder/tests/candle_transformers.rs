//! Both encoders against those of candle-transformers, on the weights of the recorded checkpoints: the
//! state of every token, where the recordings hold what is read of them.

use std::path::PathBuf;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert;
use candle_transformers::models::clip::text_model::{
    Activation, ClipTextConfig as OracleConfig, ClipTextTransformer,
};
use r1seg_nn::{NoProbe, Weights};
use r1seg_text_encoder::{BertConfig, BertModel, ClipTextConfig, ClipTextModel};

/// Rounding of f32 sums taken in another order, through every layer.
const F32: f32 = 2e-5;

fn weights(checkpoint: &str) -> Result<VarBuilder<'static>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
    let file = root.join(checkpoint).join("model.safetensors");
    let tensors = candle_core::safetensors::load(file, &Device::Cpu)?;
    Ok(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))
}

/// Largest difference, relative to the largest element of `expected`.
fn gap(got: &Tensor, expected: &Tensor) -> Result<f32> {
    assert_eq!(got.dims(), expected.dims());
    let max = |t: &Tensor| t.abs()?.max_all()?.to_scalar::<f32>();
    Ok(max(&(got - expected)?)? / max(expected)?)
}

#[test]
fn clip_has_the_states_of_candle_transformers() -> Result<()> {
    let config = ClipTextConfig {
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        ..Default::default()
    };
    let weights = weights("r1seg-3dsam")?.pp("text_encoder.clip_text_model.text_model");
    let oracle = OracleConfig {
        vocab_size: config.vocab_size,
        embed_dim: config.hidden_size,
        activation: Activation::QuickGelu,
        intermediate_size: config.intermediate_size,
        max_position_embeddings: config.max_position_embeddings,
        pad_with: None,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        projection_dim: config.hidden_size,
    };
    let oracle = ClipTextTransformer::new(weights.clone(), &oracle)?;
    let model = ClipTextModel::new(&config, Weights::from(weights))?;
    let longest: Vec<u32> = (0..76).map(|i| 49406 - 601 * i).chain([49407]).collect();
    let texts: [&[u32]; 3] = [&[49406, 320, 12639, 269, 49407], &[49406, 49407], &longest];
    for ids in texts {
        let text = model.forward(ids, &mut NoProbe)?;
        let expected =
            oracle.forward_with_mask(&Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?, usize::MAX)?;
        let gap = gap(&text.last_hidden_state, &expected)?;
        assert!(gap < F32, "{} tokens: {gap:e}", ids.len());
    }
    Ok(())
}

#[test]
fn bert_has_the_states_of_candle_transformers() -> Result<()> {
    let config = BertConfig {
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        ..Default::default()
    };
    let weights = weights("m3d-clip")?.pp("language_encoder");
    let oracle = bert::Config {
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        ..Default::default()
    };
    let oracle = bert::BertModel::load(weights.clone(), &oracle)?;
    let model = BertModel::new(&config, Weights::from(weights))?;
    let longest: Vec<u32> =
        [101].into_iter().chain((1..511).map(|i| 59 * i)).chain([102]).collect();
    let texts: [&[u32]; 3] = [&[101, 1037, 22358, 102], &[101], &longest];
    for ids in texts {
        let got = model.forward(ids, &mut NoProbe)?;
        let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
        let expected = oracle.forward(&ids, &ids.zeros_like()?, None)?;
        let gap = gap(&got, &expected)?;
        assert!(gap < F32, "{:?}: {gap:e}", ids.dims());
    }
    Ok(())
}
