//! Rotary position embedding in the half-rotation layout of Hugging Face, with the llama3 and
//! longrope scalings of transformers 4.46.3 (`modeling_rope_utils.py`, `modeling_phi3.py`).
//!
//! Angles are computed in f64 and rotate in f32: half precision cannot tell positions above 256
//! apart. A pass computes the rows that it needs, so no position is out of reach.

use candle_core::{Device, Result};
use r1seg_nn::Rotary;

use crate::config::{DecoderConfig, Llama3Scaling, RopeScaling};

/// The frequencies of a model.
#[derive(Debug, Clone)]
pub(crate) struct RotaryEmbedding {
    /// One frequency (radians per position) for each pair of a head's elements that rotate.
    frequencies: Vec<f64>,
    /// The frequencies of sequences longer than a limit, and that limit (longrope).
    long: Option<(usize, Vec<f64>)>,
    /// Factor on cosine and sine (longrope), which scales the attention scores.
    attention_factor: f64,
}

impl RotaryEmbedding {
    pub(crate) fn new(config: &DecoderConfig) -> Self {
        let dim = config.rope.rotary_dim(config.head_dim);
        let plain: Vec<f64> =
            (0..dim / 2).map(|i| config.rope.theta.powf(-((2 * i) as f64) / dim as f64)).collect();
        match &config.rope.scaling {
            RopeScaling::None => Self { frequencies: plain, long: None, attention_factor: 1.0 },
            RopeScaling::Llama3(scaling) => Self {
                frequencies: plain.iter().map(|&f| llama3(f, scaling)).collect(),
                long: None,
                attention_factor: 1.0,
            },
            RopeScaling::LongRope(scaling) => {
                let divided = |factors: &[f64]| -> Vec<f64> {
                    plain
                        .iter()
                        .zip(factors)
                        .map(|(frequency, factor)| frequency / factor)
                        .collect()
                };
                let original = scaling.original_max_position_embeddings;
                let stretch = config.max_position_embeddings as f64 / original as f64;
                Self {
                    frequencies: divided(&scaling.short_factor),
                    long: Some((original, divided(&scaling.long_factor))),
                    attention_factor: if stretch > 1.0 {
                        (1.0 + stretch.ln() / (original as f64).ln()).sqrt()
                    } else {
                        1.0
                    },
                }
            }
        }
    }

    /// By how many positions a sequence of `length` can grow until other frequencies hold for it.
    pub(crate) fn alike_beyond(&self, length: usize) -> usize {
        match &self.long {
            Some((limit, _)) if length <= *limit => limit - length,
            _ => usize::MAX,
        }
    }

    /// The rows of the positions `past..past + len`. The length of the whole sequence decides
    /// which of longrope's sets of frequencies holds.
    pub(crate) fn tables(
        &self,
        past: usize,
        len: usize,
        sequence_length: usize,
        device: &Device,
    ) -> Result<Rotary> {
        let frequencies = match &self.long {
            Some((limit, long)) if sequence_length > *limit => long,
            _ => &self.frequencies,
        };
        let half = frequencies.len();
        let mut cos = Vec::with_capacity(len * half);
        let mut sin = Vec::with_capacity(len * half);
        for position in past..past + len {
            for frequency in frequencies {
                let (s, c) = (position as f64 * frequency).sin_cos();
                cos.push((c * self.attention_factor) as f32);
                sin.push((s * self.attention_factor) as f32);
            }
        }
        Rotary::new(cos, sin, half, device)
    }
}

fn llama3(frequency: f64, scaling: &Llama3Scaling) -> f64 {
    let Llama3Scaling { factor, low_freq_factor: low, high_freq_factor: high, .. } = *scaling;
    let original = scaling.original_max_position_embeddings as f64;
    let wavelength = std::f64::consts::TAU / frequency;
    if wavelength > original / low {
        frequency / factor
    } else if wavelength < original / high {
        frequency
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Tensor};
    use serde_json::{Value, json};

    use super::*;

    fn config(head_dim: usize, theta: f64, scaling: Value) -> Value {
        json!({
            "hidden_size": 4 * head_dim, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 4, "vocab_size": 8, "rope_theta": theta,
            "max_position_embeddings": 131_072, "original_max_position_embeddings": 4096,
            "rope_scaling": scaling,
        })
    }

    fn llama(head_dim: usize, original: usize) -> RotaryEmbedding {
        let scaling = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": original,
        });
        RotaryEmbedding::new(&DecoderConfig::llama(&config(head_dim, 5e5, scaling)).unwrap())
    }

    fn assert_close(got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            assert!((got / expected - 1.0).abs() < 3e-7, "{got} {expected}");
        }
    }

    // transformers 4.46.3: ROPE_INIT_FUNCTIONS["llama3"], f32.
    #[test]
    fn llama3_frequencies_equal_those_of_transformers() {
        assert_close(
            &llama(16, 32).frequencies,
            &[
                1.0,
                0.024240344762802124,
                0.004700753837823868,
                0.0009115831344388425,
                0.00017677668074611574,
                3.428102354519069e-05,
                6.647869668086059e-06,
                1.289173155782919e-06,
            ],
        );
        let published = llama(64, 8192).frequencies;
        let picked = [0, 8, 14, 15, 16, 17, 18, 19, 20, 24, 31].map(|i: usize| published[i]);
        assert_close(
            &picked,
            &[
                1.0,
                0.03760603070259094,
                0.0032114461064338684,
                0.0013718936825171113,
                0.0005248460220173001,
                0.0001785077911335975,
                7.784655463183299e-05,
                5.165906986803748e-05,
                3.428102354519069e-05,
                6.647869668086059e-06,
                3.76732259610435e-07,
            ],
        );
    }

    // transformers 4.46.3: Phi3LongRoPEScaledRotaryEmbedding, position 7, seq_len 4096 and 4097.
    #[test]
    fn longrope_tables_equal_those_of_transformers_on_both_sides_of_the_limit() -> Result<()> {
        let scaling = json!({
            "type": "longrope",
            "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 4.0, 8.0],
        });
        let config = DecoderConfig::phi3(&config(8, 1e4, scaling)).unwrap();
        let embedding = RotaryEmbedding::new(&config);
        for (sequence_length, cos, sin) in [
            (
                4096,
                [0.8973231911659241, 0.9572633504867554, 1.188213586807251, 1.190220832824707],
                [0.7819705009460449, 0.7073284983634949, 0.06939118355512619, 0.006408943794667721],
            ),
            (
                4097,
                [0.8973231911659241, 1.1180771589279175, 1.1900558471679688, 1.1902376413345337],
                [
                    0.7819705009460449,
                    0.40813004970550537,
                    0.02082810364663601,
                    0.0010414582211524248,
                ],
            ),
        ] {
            let tables = embedding.tables(7, 1, sequence_length, &Device::Cpu)?;
            for (got, expected) in [(tables.cos(), cos), (tables.sin(), sin)] {
                let got = got.flatten_all()?.to_vec1::<f32>()?;
                for (got, expected) in got.iter().zip(expected) {
                    assert!((f64::from(*got) - expected).abs() < 3e-7, "{got} {expected}");
                }
            }
        }
        Ok(())
    }

    // transformers 4.46.3:
    // rope = Phi3LongRoPEScaledRotaryEmbedding(6, config)
    // x = torch.arange(1, 9, dtype=torch.float32).reshape(1, 1, 1, 8) / 4
    // cos, sin = rope(x, torch.tensor([[7]]), seq_len=4096)  # and 4097
    // q, _ = apply_rotary_pos_emb(x[..., :6], x[..., :6], cos, sin)
    // torch.cat([q, x[..., 6:]], -1)
    #[test]
    fn a_part_of_each_head_rotates_as_in_transformers_and_the_rest_stays() -> Result<()> {
        let scaling = json!({
            "type": "longrope", "short_factor": [1.0, 1.1, 1.2], "long_factor": [1.0, 2.0, 4.0],
        });
        let mut config = config(8, 1e4, scaling);
        config["partial_rotary_factor"] = json!(0.75);
        let embedding = RotaryEmbedding::new(&DecoderConfig::phi3(&config).unwrap());
        let x = (Tensor::arange(1f32, 9., &Device::Cpu)?.reshape((1, 1, 1, 8))? / 4.0)?;
        for (sequence_length, expected) in [
            (
                4096,
                [-0.557_639_7, 0.136_252_31, 0.870_171_1, 1.092_815_9, 1.596_603_9, 1.796_434_5],
            ),
            (
                4097,
                [-0.557_639_7, 0.346_643_92, 0.885_940_97, 1.092_815_9, 1.564_463_6, 1.788_710_1],
            ),
        ] {
            let tables = embedding.tables(7, 1, sequence_length, &Device::Cpu)?;
            let got = tables.rotate(&x)?.flatten_all()?.to_vec1::<f32>()?;
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-6, "{sequence_length}: {got} {expected}");
            }
            assert_eq!(got[6..], [1.75, 2.0]);
        }
        Ok(())
    }

    #[test]
    fn rotation_is_the_half_rotation_of_each_head() -> Result<()> {
        let config = DecoderConfig::llama(&config(4, 100.0, Value::Null)).unwrap();
        let tables = RotaryEmbedding::new(&config).tables(3, 1, 4, &Device::Cpu)?;
        let x = Tensor::new(&[1f32, 2., 3., 4.], &Device::Cpu)?.reshape((1, 1, 1, 4))?;
        let got = tables.rotate(&x)?.flatten_all()?.to_vec1::<f32>()?;
        // Element i turns with element i + 2, by 3 and by 0.3 radians.
        let (a, b) = (3f32, 0.3f32);
        let expected = [
            a.cos() - 3.0 * a.sin(),
            2.0 * b.cos() - 4.0 * b.sin(),
            3.0 * a.cos() + a.sin(),
            4.0 * b.cos() + 2.0 * b.sin(),
        ];
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
        Ok(())
    }

    #[test]
    fn half_precision_keeps_neighboring_positions_apart() -> Result<()> {
        let config = DecoderConfig::llama(&config(4, 1e4, Value::Null)).unwrap();
        let embedding = RotaryEmbedding::new(&config);
        let x = Tensor::ones((1, 1, 1, 4), DType::BF16, &Device::Cpu)?;
        let at = |position: usize| -> Result<Vec<f32>> {
            let tables = embedding.tables(position, 1, position + 1, &Device::Cpu)?;
            tables.rotate(&x)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
        };
        for position in [256, 1000, 131_071, 10_000_000] {
            let gap = (at(position)?[0] - at(position + 1)?[0]).abs();
            assert!(gap > 0.1, "{position}: {gap}");
        }
        Ok(())
    }
}
