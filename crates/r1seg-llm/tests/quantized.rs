//! What quantized weights do to a decoder whose widths every kind of block fits.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Result, Shape, Tensor};
use r1seg_llm::{Decoder, DecoderConfig};
use r1seg_nn::{StoredMatrix, TensorSource, WeightMatrix, WeightType};

use common::{Weights, embeddings, family, gap, random_weights, run};

struct Quantized {
    weights: Weights,
    block: (GgmlDType, WeightType),
}

impl TensorSource for Quantized {
    fn tensor(&self, name: &str, _: &Shape, dtype: DType, _: &Device) -> Result<Tensor> {
        self.weights[name].to_dtype(dtype)
    }

    fn matrix(
        &self,
        name: &str,
        shape: (usize, usize),
        _: DType,
        _: &Device,
    ) -> Result<WeightMatrix> {
        let (dtype, stored) = self.block;
        let blocks = QTensor::quantize(&self.weights[name], dtype)?;
        let bytes = Bytes::from(blocks.data()?.into_owned());
        Ok(WeightMatrix::Stored(StoredMatrix::new(bytes, stored, shape)))
    }

    fn contains(&self, name: &str) -> bool {
        self.weights.contains_key(name)
    }
}

/// The same weights, dequantized by candle: what the kernels should compute.
fn dequantized(weights: &Weights, dtype: GgmlDType) -> Weights {
    weights
        .iter()
        .map(|(name, tensor)| {
            let matrix = tensor.rank() == 2;
            let value = if matrix {
                QTensor::quantize(tensor, dtype).unwrap().dequantize(&Device::Cpu).unwrap()
            } else {
                tensor.clone()
            };
            (name.clone(), value)
        })
        .collect()
}

fn wide(name: &str) -> DecoderConfig {
    let config = family(name);
    let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
    DecoderConfig {
        hidden_size: 256,
        intermediate_size: 512,
        head_dim: 256 / heads,
        num_key_value_heads: kv_heads,
        ..config
    }
}

/// Largest deviation of the logits after a prompt of `rows` and one more token, over the largest
/// logit: from what the kernels' own weights give in f32, and from those before quantization.
fn deviations(config: &DecoderConfig, block: (GgmlDType, WeightType), rows: usize) -> (f64, f64) {
    let mut weights = random_weights(config, 7);
    for weight in weights.values_mut().filter(|weight| weight.rank() == 2) {
        // The helper's scale is that of a width of 64.
        *weight = (&*weight * 0.5).unwrap();
    }
    let source = Quantized { weights: weights.clone(), block };
    let source = r1seg_nn::Weights::new(Arc::new(source), DType::F32, Device::Cpu);
    let quantized = Decoder::new(config, source, DType::F32).unwrap();
    let same = common::decoder(config, &dequantized(&weights, block.0));
    let exact = common::decoder(config, &weights);
    let logits = |decoder: &Decoder| {
        let mut cache = decoder.new_cache(rows + 1);
        let prompt = run(decoder, &embeddings(config, 1, rows, 3), &mut cache);
        let step = run(decoder, &embeddings(config, 1, 1, 4), &mut cache);
        decoder.logits(&Tensor::cat(&[prompt, step], 1).unwrap()).unwrap()
    };
    let got = logits(&quantized);
    (gap(&got, &logits(&same)), gap(&got, &logits(&exact)))
}

const BLOCKS: [(GgmlDType, WeightType); 3] = [
    (GgmlDType::Q8_0, WeightType::Q8_0),
    (GgmlDType::Q6K, WeightType::Q6K),
    (GgmlDType::Q4K, WeightType::Q4K),
];

#[test]
fn a_few_rows_are_what_the_dequantized_weights_give() {
    for name in ["phi3", "llama3", "qwen2"] {
        for block in BLOCKS {
            let (kernels, _) = deviations(&wide(name), block, 5);
            println!("{name} {:?}: {kernels:.1e}", block.1);
            assert!(kernels < 2e-3, "{name} {block:?}: {kernels:e}");
        }
    }
}

/// Random weights have no outliers and no redundancy: a bound on what blocks cost, not a measure
/// of a trained model.
#[test]
fn more_bits_are_closer_to_the_weights_before_quantization() {
    for name in ["phi3", "llama3", "qwen2"] {
        let losses = BLOCKS.map(|block| deviations(&wide(name), block, 40).1);
        println!("{name}: q8_0 {:.1e}, q6k {:.1e}, q4k {:.1e}", losses[0], losses[1], losses[2]);
        assert!(losses[0] < 0.05 && losses[1] < 0.2 && losses[2] < 0.6, "{name}: {losses:?}");
        assert!(losses[0] < losses[2] && losses[1] < losses[2], "{name}: {losses:?}");
    }
}
