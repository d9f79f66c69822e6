//! The decoders again in f64, step by step as SAM's code has them and one number at a time in the
//! convolutions: what the tests compare with.

use std::collections::HashMap;

use candle_core::{D, DType, Device, Result, Tensor};
use r1seg_mask_decoder::{
    AxisOrder, Bands, Hypernetworks, MaskDecoderConfig, PointLabel, Prompts, UpscaleLayer,
    UpscaleNorm,
};

/// Weights by name, in f64.
pub(crate) struct Reference<'a> {
    pub(crate) weights: HashMap<String, Tensor>,
    pub(crate) config: &'a MaskDecoderConfig,
}

/// `[C, D, H, W]`
#[derive(Clone)]
struct Volume {
    channels: usize,
    size: [usize; 3],
    data: Vec<f64>,
}

impl Volume {
    fn zeros(channels: usize, size: [usize; 3]) -> Self {
        Self { channels, size, data: vec![0.0; channels * size.iter().product::<usize>()] }
    }

    fn index(&self, c: usize, [i, j, k]: [usize; 3]) -> usize {
        let [d, h, w] = self.size;
        ((c * d + i) * h + j) * w + k
    }

    fn cells(&self) -> impl Iterator<Item = [usize; 3]> + use<> {
        let [d, h, w] = self.size;
        (0..d * h * w).map(move |i| [i / (h * w), i / w % h, i % w])
    }
}

impl Reference<'_> {
    fn get(&self, name: &str) -> Result<Tensor> {
        match self.weights.get(name) {
            Some(tensor) => Ok(tensor.clone()),
            None => candle_core::bail!("no weight {name}"),
        }
    }

    fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        self.get(name)?.flatten_all()?.to_vec1()
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let weight = self.get(&format!("{name}.weight"))?;
        x.broadcast_matmul(&weight.t()?)?.broadcast_add(&self.get(&format!("{name}.bias"))?)
    }

    fn layer_norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
        x.broadcast_div(&(variance + 1e-5)?.sqrt()?)?
            .broadcast_mul(&self.get(&format!("{name}.weight"))?)?
            .broadcast_add(&self.get(&format!("{name}.bias"))?)
    }

    fn attention(&self, [q, k, v]: [&Tensor; 3], name: &str) -> Result<Tensor> {
        let heads = self.config.transformer.heads;
        let split = |x: &Tensor, part: &str| -> Result<Tensor> {
            let x = self.linear(x, &format!("{name}.{part}"))?;
            let (b, t, e) = x.dims3()?;
            x.reshape((b, t, heads, e / heads))?.transpose(1, 2)?.contiguous()
        };
        let (q, k, v) = (split(q, "q_proj")?, split(k, "k_proj")?, split(v, "v_proj")?);
        let scores = (q.matmul(&k.t()?)? / (q.dim(3)? as f64).sqrt())?;
        let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let x = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?.matmul(&v)?;
        let (b, h, t, d) = x.dims4()?;
        self.linear(&x.transpose(1, 2)?.reshape((b, t, h * d))?, &format!("{name}.out_proj"))
    }

    fn two_way(&self, image: &Tensor, pe: &Tensor, tokens: &Tensor) -> Result<(Tensor, Tensor)> {
        let (mut queries, mut keys) = (tokens.clone(), image.clone());
        for i in 0..self.config.transformer.depth {
            let layer = format!("mask_decoder.transformer.layers.{i}");
            let name = |part: &str| format!("{layer}.{part}");
            queries = if i == 0 {
                self.attention([&queries; 3], &name("self_attn"))?
            } else {
                let q = (&queries + tokens)?;
                (&queries + self.attention([&q, &q, &queries], &name("self_attn"))?)?
            };
            queries = self.layer_norm(&queries, &name("norm1"))?;
            let (q, k) = ((&queries + tokens)?, keys.broadcast_add(pe)?);
            let x = self.attention([&q, &k, &keys], &name("cross_attn_token_to_image"))?;
            queries = self.layer_norm(&(&queries + x)?, &name("norm2"))?;
            let mlp = self.linear(&queries, &name("mlp.lin1"))?.relu()?;
            let mlp = self.linear(&mlp, &name("mlp.lin2"))?;
            queries = self.layer_norm(&(&queries + mlp)?, &name("norm3"))?;
            let q = (&queries + tokens)?;
            let x = self.attention([&k, &q, &queries], &name("cross_attn_image_to_token"))?;
            keys = self.layer_norm(&(&keys + x)?, &name("norm4"))?;
        }
        let (q, k) = ((&queries + tokens)?, keys.broadcast_add(pe)?);
        let last = "mask_decoder.transformer.final_attn_token_to_image";
        let x = self.attention([&q, &k, &keys], last)?;
        let queries =
            self.layer_norm(&(&queries + x)?, "mask_decoder.transformer.norm_final_attn")?;
        Ok((queries, keys))
    }

    /// Of coordinates in `0..=1`.
    fn positions(&self, coords: &[[f64; 3]]) -> Result<Tensor> {
        let name = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix";
        let coords: Vec<f64> = coords.iter().flatten().map(|c| 2.0 * c - 1.0).collect();
        let coords = Tensor::from_vec(coords, ((), 3), &Device::Cpu)?;
        let angles = (coords.matmul(&self.get(name)?)? * std::f64::consts::TAU)?;
        let (sin, cos) = (angles.sin()?, angles.cos()?);
        let bands = match self.config.position.bands {
            Bands::SinCos => vec![&sin, &cos],
            Bands::SinCosSin => vec![&sin, &cos, &sin],
        };
        Tensor::cat(&bands, 1)?.unsqueeze(0)
    }

    fn dense_positions(&self) -> Result<Tensor> {
        let grid = self.config.grid;
        let cells = Volume::zeros(0, grid).cells().map(|at| {
            let [a, b, c] = std::array::from_fn(|i| (at[i] as f64 + 0.5) / grid[i] as f64);
            match self.config.position.dense_axes {
                AxisOrder::Natural => [a, b, c],
                AxisOrder::Swapped => [b, a, c],
            }
        });
        self.positions(&cells.collect::<Vec<_>>())
    }

    fn voxel(&self, at: [f32; 3]) -> Result<Tensor> {
        let [d, h, w] = self.config.image_size;
        let sizes = match self.config.position.point_sizes {
            AxisOrder::Natural => [d, h, w],
            AxisOrder::Swapped => [h, d, w],
        };
        self.positions(&[std::array::from_fn(|i| (f64::from(at[i]) + 0.5) / sizes[i] as f64)])
    }

    fn sparse(&self, prompts: &Prompts<'_>) -> Result<Vec<Tensor>> {
        let embedding = |i: usize| self.get(&format!("prompt_encoder.point_embeddings.{i}.weight"));
        let mut tokens = Vec::new();
        for (at, label) in prompts.points {
            let kind = embedding(usize::from(*label == PointLabel::Positive))?;
            tokens.push(self.voxel(*at)?.broadcast_add(&kind)?);
        }
        if let Some([d0, h0, w0, d1, h1, w1]) = prompts.bounding_box {
            tokens.push(self.voxel([d0, h0, w0])?.broadcast_add(&embedding(2)?)?);
            tokens.push(self.voxel([d1, h1, w1])?.broadcast_add(&embedding(3)?)?);
        } else if !prompts.points.is_empty() {
            tokens.push(self.get("prompt_encoder.not_a_point_embed.weight")?.unsqueeze(0)?);
        }
        if let Some(text) = prompts.text {
            tokens.push(text.to_dtype(DType::F64)?.unsqueeze(1)?);
        }
        Ok(tokens)
    }

    /// `[1, N or 1, E]`
    fn dense(&self, prompts: &Prompts<'_>) -> Result<Tensor> {
        let (Some(mask), Some(config)) = (prompts.mask, &self.config.prompts.mask) else {
            return self.get("prompt_encoder.no_mask_embed.weight")?.unsqueeze(0);
        };
        let (_, _, d, h, w) = mask.dims5()?;
        let data = mask.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        let mut x = Volume { channels: 1, size: [d, h, w], data };
        let key = format!("prompt_encoder.{}", config.key);
        for i in 0..config.channels.len() {
            x = self.conv(&x, &format!("{key}.{}", 3 * i), Conv { stride: 2, padding: 0 })?;
            x = gelu(&self.norm(&x, &format!("{key}.{}", 3 * i + 1), UpscaleNorm::Channels)?);
        }
        let last = Conv { stride: config.last_stride, padding: 0 };
        rows(&self.conv(&x, &format!("{key}.{}", 3 * config.channels.len()), last)?)
    }

    /// Mask logits, flattened, and the predicted IoU, if there is one.
    pub(crate) fn predict(
        &self,
        image: &Tensor,
        prompts: &Prompts<'_>,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let config = self.config;
        let mut tokens = Vec::new();
        if config.iou_hidden.is_some() {
            tokens.push(self.get("mask_decoder.iou_token.weight")?.unsqueeze(0)?);
        }
        tokens.push(self.get("mask_decoder.mask_tokens.weight")?.unsqueeze(0)?);
        tokens.extend(self.sparse(prompts)?);
        let tokens = Tensor::cat(&tokens, 1)?;
        let image = image.to_dtype(DType::F64)?.broadcast_add(&self.dense(prompts)?)?;
        let (hs, image) = self.two_way(&image, &self.dense_positions()?, &tokens)?;
        let first = usize::from(config.iou_hidden.is_some());
        let hypernetwork = match config.hypernetworks {
            Hypernetworks::PerToken => "mask_decoder.output_hypernetworks_mlps.0",
            Hypernetworks::Shared => "mask_decoder.output_hypernetworks_mlps",
        };
        let mut kernel = self.mlp(&hs.narrow(1, first, 1)?, hypernetwork)?;
        if let (Some(text), true) = (prompts.text, config.text_similarity) {
            let text = text.to_dtype(DType::F64)?.unsqueeze(1)?;
            let name = "mask_decoder.txt_align_upscaled_embedding";
            kernel = (kernel + self.linear(&text, name)?)?;
        }
        let kernel = kernel.flatten_all()?.to_vec1::<f64>()?;
        let map = self.upscale(&image)?;
        let mut logits = vec![0.0; map.data.len() / map.channels];
        for (channel, weight) in map.data.chunks(logits.len()).zip(kernel) {
            logits.iter_mut().zip(channel).for_each(|(y, x)| *y += weight * x);
        }
        let iou = match config.iou_hidden {
            Some(_) => self.mlp(&hs.narrow(1, 0, 1)?, "mask_decoder.iou_prediction_head")?,
            None => Tensor::zeros(0, DType::F64, &Device::Cpu)?,
        };
        Ok((logits, iou.flatten_all()?.to_vec1()?))
    }

    fn mlp(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let x = self.linear(x, &format!("{name}.layers.0"))?.relu()?;
        let x = self.linear(&x, &format!("{name}.layers.1"))?.relu()?;
        self.linear(&x, &format!("{name}.layers.2"))
    }

    fn upscale(&self, image: &Tensor) -> Result<Volume> {
        let (_, _, channels) = image.dims3()?;
        let data = image.transpose(1, 2)?.flatten_all()?.to_vec1()?;
        let mut x = Volume { channels, size: self.config.grid, data };
        let mut key = 0;
        for stage in &self.config.upscaling {
            let name = |key: usize| format!("mask_decoder.output_upscaling.{key}");
            x = match stage.layer {
                UpscaleLayer::Patches => self.spread(&x, &name(key), 0)?,
                UpscaleLayer::Overlapping => self.spread(&x, &name(key), 1)?,
                UpscaleLayer::Smoothing => {
                    self.conv(&x, &name(key), Conv { stride: 1, padding: 1 })?
                }
            };
            key += 1;
            if stage.norm != UpscaleNorm::None {
                x = self.norm(&x, &name(key), stage.norm)?;
                key += 1;
            }
            if stage.gelu {
                x = gelu(&x);
                key += 1;
            }
        }
        Ok(x)
    }

    fn conv(&self, x: &Volume, name: &str, Conv { stride, padding }: Conv) -> Result<Volume> {
        let weight = self.get(&format!("{name}.weight"))?;
        let (out, _, kernel, ..) = weight.dims5()?;
        let (weight, bias) =
            (weight.flatten_all()?.to_vec1::<f64>()?, self.numbers(&format!("{name}.bias"))?);
        let size = x.size.map(|n| (n + 2 * padding - kernel) / stride + 1);
        let mut y = Volume::zeros(out, size);
        for o in 0..out {
            for at in y.cells() {
                let mut sum = bias[o];
                for c in 0..x.channels {
                    for tap in Volume::zeros(0, [kernel; 3]).cells() {
                        let from: [Option<usize>; 3] = std::array::from_fn(|i| {
                            (at[i] * stride + tap[i])
                                .checked_sub(padding)
                                .filter(|n| *n < x.size[i])
                        });
                        let [Some(i), Some(j), Some(k)] = from else { continue };
                        let tap = (tap[0] * kernel + tap[1]) * kernel + tap[2];
                        let weight = weight[(o * x.channels + c) * kernel.pow(3) + tap];
                        sum += weight * x.data[x.index(c, [i, j, k])];
                    }
                }
                let to = y.index(o, at);
                y.data[to] = sum;
            }
        }
        Ok(y)
    }

    /// A transposed convolution with stride 2 to twice the grid.
    fn spread(&self, x: &Volume, name: &str, padding: usize) -> Result<Volume> {
        let weight = self.get(&format!("{name}.weight"))?;
        let (_, out, kernel, ..) = weight.dims5()?;
        let (weight, bias) =
            (weight.flatten_all()?.to_vec1::<f64>()?, self.numbers(&format!("{name}.bias"))?);
        let mut y = Volume::zeros(out, x.size.map(|n| 2 * n));
        let cells = y.data.len() / out;
        y.data.iter_mut().enumerate().for_each(|(i, y)| *y = bias[i / cells]);
        for c in 0..x.channels {
            for at in x.cells() {
                for o in 0..out {
                    for tap in Volume::zeros(0, [kernel; 3]).cells() {
                        let to: [Option<usize>; 3] = std::array::from_fn(|i| {
                            (2 * at[i] + tap[i]).checked_sub(padding).filter(|n| *n < y.size[i])
                        });
                        let [Some(i), Some(j), Some(k)] = to else { continue };
                        let tap = (tap[0] * kernel + tap[1]) * kernel + tap[2];
                        let to = y.index(o, [i, j, k]);
                        y.data[to] +=
                            weight[(c * out + o) * kernel.pow(3) + tap] * x.data[x.index(c, at)];
                    }
                }
            }
        }
        Ok(y)
    }

    fn norm(&self, x: &Volume, name: &str, norm: UpscaleNorm) -> Result<Volume> {
        let cells = x.data.len() / x.channels;
        // Numbers that are normalized together.
        let group = |i: usize| match norm {
            UpscaleNorm::Channels => i % cells,
            UpscaleNorm::Instance => i / cells,
            UpscaleNorm::Block | UpscaleNorm::None => 0,
        };
        let eps = if norm == UpscaleNorm::Channels { 1e-6 } else { 1e-5 };
        let mut sums: HashMap<usize, (f64, f64, f64)> = HashMap::new();
        for (i, x) in x.data.iter().enumerate() {
            let (n, sum, squares) = sums.entry(group(i)).or_default();
            (*n, *sum, *squares) = (*n + 1.0, *sum + x, *squares + x * x);
        }
        let (weight, bias) = if norm == UpscaleNorm::Instance {
            (vec![1.0], vec![0.0])
        } else {
            (self.numbers(&format!("{name}.weight"))?, self.numbers(&format!("{name}.bias"))?)
        };
        let factor = |i: usize| match norm {
            UpscaleNorm::Channels => i / cells,
            UpscaleNorm::Instance => 0,
            UpscaleNorm::Block | UpscaleNorm::None => i,
        };
        let mut y = x.clone();
        for (i, y) in y.data.iter_mut().enumerate() {
            let (n, sum, squares) = sums[&group(i)];
            let mean = sum / n;
            let unit = (*y - mean) / (squares / n - mean * mean + eps).sqrt();
            *y = unit * weight[factor(i)] + bias[factor(i)];
        }
        Ok(y)
    }
}

#[derive(Clone, Copy)]
struct Conv {
    stride: usize,
    padding: usize,
}

/// `x Φ(x)`, the distribution by its series.
fn gelu(x: &Volume) -> Volume {
    let distribution = |x: f64| {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= x * x / (2.0 * f64::from(n) + 1.0);
            sum += term;
        }
        0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
    };
    let data = x.data.iter().map(|&x| match x {
        ..-8.0 => 0.0,
        8.0.. => x,
        _ => x * distribution(x),
    });
    Volume { data: data.collect(), ..x.clone() }
}

/// `[1, D H W, C]`
fn rows(x: &Volume) -> Result<Tensor> {
    let cells = x.data.len() / x.channels;
    let x = Tensor::from_vec(x.data.clone(), (1, x.channels, cells), &Device::Cpu)?;
    x.transpose(1, 2)?.contiguous()
}
