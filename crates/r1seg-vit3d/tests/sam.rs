//! SAM-Med3D's encoder against its definition in f64: windows filled up with zeros, and a score for
//! each of their cells.

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use r1seg_nn::{Cancelled, NoProbe, Probe, Recording, TensorSource, Weights};
use r1seg_vit3d::{SamVit, SamVitConfig};

/// Numbers that depend on the name of a tensor alone, in its dtype.
struct Made;

impl TensorSource for Made {
    fn tensor(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        Tensor::from_vec(made(name, shape.dims()), shape, device)?.to_dtype(dtype)
    }

    fn contains(&self, _: &str) -> bool {
        true
    }
}

/// Norms scale by about one, matrices keep the size of what they multiply, and positions are large
/// enough to decide between keys.
fn made(name: &str, dims: &[usize]) -> Vec<f32> {
    let seed = name.bytes().fold(1u64, |seed, byte| seed.wrapping_mul(31) + u64::from(byte));
    let inputs = dims.iter().skip(1).product::<usize>().max(1) as f32;
    let (middle, scale) = match name {
        _ if name.contains("rel_pos") || name.ends_with("pos_embed") => (0.0, 1.0),
        _ if name.ends_with("bias") => (0.0, 0.7),
        _ if dims.len() == 1 => (1.0, 0.3),
        _ => (0.0, (6.0 / inputs).sqrt()),
    };
    let count = dims.iter().product::<usize>() as u64;
    let unit = |i: u64| {
        let z = (seed ^ i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|i| middle + scale * unit(i)).collect()
}

/// The definition, over weights that were rounded to `dtype`.
struct Reference<'a> {
    cfg: &'a SamVitConfig,
    dtype: DType,
}

impl Reference<'_> {
    fn get(&self, name: &str, dims: &[usize]) -> Result<Vec<f64>> {
        let made = Tensor::from_vec(made(name, dims), dims, &Device::Cpu)?;
        made.to_dtype(self.dtype)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
    }

    fn linear(&self, x: &[f64], name: &str, [k, n]: [usize; 2]) -> Result<Vec<f64>> {
        let bias = self.get(&format!("{name}.bias"), &[n])?;
        Ok(product(x, &self.get(&format!("{name}.weight"), &[n, k])?, k, &bias))
    }

    fn norm(&self, x: &[f64], name: &str, width: usize) -> Result<Vec<f64>> {
        let weight = self.get(&format!("{name}.weight"), &[width])?;
        let bias = self.get(&format!("{name}.bias"), &[width])?;
        let mut y = Vec::with_capacity(x.len());
        for row in x.chunks(width) {
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            let scaled = row.iter().map(|x| (x - mean) / (variance + 1e-6).sqrt());
            y.extend(scaled.zip(&weight).zip(&bias).map(|((x, w), b)| x * w + b));
        }
        Ok(y)
    }

    /// `[N, C]` of one volume.
    fn forward(&self, volume: &[f32]) -> Result<Vec<f64>> {
        let &SamVitConfig { image_size, patch_size: p, hidden_size: e, out_channels: c, .. } =
            self.cfg;
        let g = image_size / p;
        let patch = |[a, b, w]: [usize; 3]| {
            (0..p * p * p).map(move |v| {
                let [z, y, x] = [a * p + v / (p * p), b * p + v / p % p, w * p + v % p];
                f64::from(volume[(z * image_size + y) * image_size + x])
            })
        };
        let patches: Vec<f64> = cells(g).flat_map(patch).collect();
        let weight = self.get("patch_embed.proj.weight", &[e, 1, p, p, p])?;
        let bias = self.get("patch_embed.proj.bias", &[e])?;
        let mut x = product(&patches, &weight, p * p * p, &bias);
        x.iter_mut().zip(self.get("pos_embed", &[1, g, g, g, e])?).for_each(|(x, y)| *x += y);
        for block in 0..self.cfg.num_layers {
            let at = format!("blocks.{block}");
            let n = match self.cfg.global_blocks.contains(&block) {
                true => g,
                false => self.cfg.window_size,
            };
            let normed = self.norm(&x, &format!("{at}.norm1"), e)?;
            let attended = self.attention(&normed, &format!("{at}.attn"), [g, n])?;
            x.iter_mut().zip(attended).for_each(|(x, y)| *x += y);
            let y = self.norm(&x, &format!("{at}.norm2"), e)?;
            let mut y = self.linear(&y, &format!("{at}.mlp.lin1"), [e, self.cfg.mlp_dim])?;
            y.iter_mut().for_each(|y| *y *= normal_distribution(*y));
            let y = self.linear(&y, &format!("{at}.mlp.lin2"), [self.cfg.mlp_dim, e])?;
            x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
        }
        let none = vec![0.0; c];
        let y = product(&x, &self.get("neck.0.weight", &[c, e, 1, 1, 1])?, e, &none);
        let y = self.norm(&y, "neck.1", c)?;
        // As a product with the neighborhood of each cell, channels first.
        let neighborhoods: Vec<f64> = cells(g)
            .flat_map(|cell| (0..c).map(move |channel| (cell, channel)))
            .flat_map(|(cell, channel)| cells(3).map(move |tap| (cell, channel, tap)))
            .map(|(cell, channel, tap)| {
                let near: [usize; 3] = std::array::from_fn(|axis| cell[axis] + tap[axis]);
                if near.iter().any(|n| *n == 0 || *n > g) {
                    return 0.0;
                }
                let [a, b, w] = near.map(|n| n - 1);
                y[((a * g + b) * g + w) * c + channel]
            })
            .collect();
        let weight = self.get("neck.2.weight", &[c, c, 3, 3, 3])?;
        self.norm(&product(&neighborhoods, &weight, 27 * c, &none), "neck.3", c)
    }

    fn attention(&self, x: &[f64], at: &str, [g, n]: [usize; 2]) -> Result<Vec<f64>> {
        let (e, heads) = (self.cfg.hidden_size, self.cfg.num_heads);
        let dim = e / heads;
        let tables = ["rel_pos_d", "rel_pos_h", "rel_pos_w"]
            .map(|name| self.get(&format!("{at}.{name}"), &[2 * n - 1, dim]));
        let [in_d, in_h, in_w] = tables;
        let (in_d, in_h, in_w) = (in_d?, in_h?, in_w?);
        let mut attended = vec![0.0; x.len()];
        for window in cells(g.div_ceil(n)) {
            let places: Vec<Option<usize>> = cells(n)
                .map(|cell| {
                    let place: [usize; 3] = std::array::from_fn(|i| window[i] * n + cell[i]);
                    let [a, b, w] = place;
                    place.iter().all(|i| *i < g).then_some((a * g + b) * g + w)
                })
                .collect();
            let rows = places.iter().flat_map(|place| match place {
                Some(place) => x[place * e..][..e].to_vec(),
                None => vec![0.0; e],
            });
            let qkv = self.linear(&rows.collect::<Vec<_>>(), &format!("{at}.qkv"), [e, 3 * e])?;
            for head in 0..heads {
                let part = |which: usize, [a, b, w]: [usize; 3]| {
                    &qkv[((a * n + b) * n + w) * 3 * e + which * e + head * dim..][..dim]
                };
                let near = |table: &'static str, i: usize, l: usize| {
                    let table = match table {
                        "d" => &in_d,
                        "h" => &in_h,
                        _ => &in_w,
                    };
                    &table[(i + n - 1 - l) * dim..][..dim]
                };
                for ([a, b, w], place) in cells(n).zip(&places) {
                    let Some(place) = place else { continue };
                    let q = part(0, [a, b, w]);
                    let weights: Vec<f64> = cells(n)
                        .map(|[i, j, l]| {
                            let score = dot(q, part(1, [i, j, l])) / (dim as f64).sqrt()
                                + dot(q, near("d", a, l))
                                + dot(part(0, [a, b, i]), near("h", b, l))
                                + dot(part(0, [a, b, j]), near("w", j, l));
                            score.exp()
                        })
                        .collect();
                    let total: f64 = weights.iter().sum();
                    let out = &mut attended[place * e + head * dim..][..dim];
                    for (key, weight) in cells(n).zip(&weights) {
                        let value = part(2, key);
                        out.iter_mut().zip(value).for_each(|(o, v)| *o += weight / total * v);
                    }
                }
            }
        }
        self.linear(&attended, &format!("{at}.proj"), [e, e])
    }
}

/// The cells of a cube, the last axis fastest.
fn cells(side: usize) -> impl Iterator<Item = [usize; 3]> {
    (0..side * side * side).map(move |i| [i / (side * side), i / side % side, i % side])
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn product(x: &[f64], weight: &[f64], k: usize, bias: &[f64]) -> Vec<f64> {
    x.chunks(k)
        .flat_map(|row| weight.chunks(k).zip(bias).map(move |(weight, b)| dot(row, weight) + b))
        .collect()
}

/// Of a standard normal variable, by its series.
fn normal_distribution(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for i in 1..200 {
        term *= x * x / f64::from(2 * i + 1);
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

fn config(grid: usize, window_size: usize) -> SamVitConfig {
    SamVitConfig {
        image_size: 2 * grid,
        patch_size: 2,
        hidden_size: 12,
        mlp_dim: 20,
        num_layers: 3,
        num_heads: 3,
        window_size,
        global_blocks: vec![1],
        out_channels: 7,
    }
}

/// The largest difference in units of the largest number, over a batch of two volumes.
fn deviation(cfg: &SamVitConfig, dtype: DType) -> Result<f64> {
    let size = cfg.image_size;
    let volumes = made("volumes", &[2, 1, size, size, size]);
    let model = SamVit::new(cfg, Weights::new(Arc::new(Made), dtype, Device::Cpu))?;
    let input = Tensor::from_slice(&volumes, (2, 1, size, size, size), &Device::Cpu)?;
    let got = model.forward(&input, &mut NoProbe)?;
    assert_eq!(got.dims(), [2, cfg.num_patches(), cfg.out_channels]);
    let got = got.flatten_all()?.to_vec1::<f32>()?;
    let reference = Reference { cfg, dtype };
    let mut exact = Vec::new();
    for volume in volumes.chunks(size * size * size) {
        exact.extend(reference.forward(volume)?);
    }
    let largest = exact.iter().fold(0.0, |a: f64, x| a.max(x.abs()));
    let gaps = got.iter().zip(&exact).map(|(&got, exact)| (f64::from(got) - exact).abs());
    // A NaN must not pass for a small gap.
    Ok(gaps.fold(0.0, |a: f64, b| if b <= a { a } else { b }) / largest)
}

/// Grid and window: windows that the grid fills in part, its own size, a larger one, and windows that
/// divide it.
const GRIDS: [(usize, usize); 5] = [(5, 3), (4, 4), (3, 5), (4, 2), (2, 7)];

#[test]
fn the_encoder_equals_its_definition_whatever_the_windows() -> Result<()> {
    for (grid, window) in GRIDS {
        let deviation = deviation(&config(grid, window), DType::F32)?;
        // Sums of f32 in another order.
        assert!(deviation < 1e-5, "a grid of {grid} in windows of {window}: {deviation}");
    }
    Ok(())
}

#[test]
fn weights_in_bf16_cost_no_more_than_the_rounding_of_activations() -> Result<()> {
    for (grid, window) in GRIDS {
        let deviation = deviation(&config(grid, window), DType::BF16)?;
        // Products round activations to eight bits of mantissa where the processor multiplies bf16.
        assert!(deviation < 0.03, "a grid of {grid} in windows of {window}: {deviation}");
    }
    Ok(())
}

#[test]
fn every_stage_is_shown_in_the_shape_of_the_grid() -> Result<()> {
    let cfg = config(3, 5);
    let model = SamVit::new(&cfg, Weights::new(Arc::new(Made), DType::F32, Device::Cpu))?;
    let volume = Tensor::zeros((1, 1, 6, 6, 6), DType::F32, &Device::Cpu)?;
    let mut probe = Recording::default();
    let x = model.forward(&volume, &mut probe)?;
    let Some(((name, embedding), tokens)) = probe.tensors.split_last() else { bail!("nothing") };
    let names = ["encoder.tokens", "encoder.block_0", "encoder.block_1", "encoder.block_2"];
    assert_eq!(tokens.iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
    for (name, tokens) in tokens {
        assert_eq!(tokens.dims(), [3, 3, 3, 12], "{name}");
    }
    assert_eq!(name, "image_embedding");
    let shown = embedding.permute((1, 2, 3, 0))?.reshape((1, 27, 7))?;
    assert_eq!(shown.to_vec3::<f32>()?, x.to_vec3::<f32>()?);
    Ok(())
}

#[test]
fn other_volumes_and_configurations_are_refused() -> Result<()> {
    let cfg = config(3, 5);
    let weights = || Weights::new(Arc::new(Made), DType::F32, Device::Cpu);
    let model = SamVit::new(&cfg, weights())?;
    for shape in [(1, 1, 6, 6, 5), (1, 2, 6, 6, 6)] {
        let volume = Tensor::zeros(shape, DType::F32, &Device::Cpu)?;
        let error = model.forward(&volume, &mut NoProbe);
        assert!(error.is_err_and(|e| e.to_string().contains("[6, 6, 6]")), "{shape:?}");
    }
    let cfg = SamVitConfig { global_blocks: vec![3], ..cfg };
    assert!(SamVit::new(&cfg, weights()).is_err_and(|e| e.to_string().contains("block 3")));
    Ok(())
}

/// Notes what is asked for, and has no numbers.
#[derive(Default)]
struct Noting(Mutex<Vec<(String, Vec<usize>)>>);

impl TensorSource for Noting {
    fn tensor(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        if let Ok(mut asked) = self.0.lock() {
            asked.push((name.to_string(), shape.dims().to_vec()));
        }
        Tensor::zeros(shape, dtype, device)
    }

    fn contains(&self, _: &str) -> bool {
        true
    }

    fn has_numbers(&self) -> bool {
        false
    }
}

#[test]
fn a_load_without_numbers_asks_for_every_published_tensor_once() -> Result<()> {
    let cfg = SamVitConfig { num_layers: 2, ..config(3, 5) };
    let source = Arc::new(Noting::default());
    SamVit::new(&cfg, Weights::new(source.clone(), DType::F32, Device::Cpu))?;
    let Ok(mut asked) = source.0.lock() else { bail!("another thread failed") };
    let mut expected = vec![
        ("patch_embed.proj.weight".to_string(), vec![12, 1, 2, 2, 2]),
        ("patch_embed.proj.bias".to_string(), vec![12]),
        ("pos_embed".to_string(), vec![1, 3, 3, 3, 12]),
        ("neck.0.weight".to_string(), vec![7, 12, 1, 1, 1]),
        ("neck.1.weight".to_string(), vec![7]),
        ("neck.1.bias".to_string(), vec![7]),
        ("neck.2.weight".to_string(), vec![7, 7, 3, 3, 3]),
        ("neck.3.weight".to_string(), vec![7]),
        ("neck.3.bias".to_string(), vec![7]),
    ];
    // A table has the distances within a window, or within the grid.
    for (block, distances) in [(0, 9), (1, 5)] {
        for (name, shape) in [
            ("norm1.weight", vec![12]),
            ("norm1.bias", vec![12]),
            ("attn.qkv.weight", vec![36, 12]),
            ("attn.qkv.bias", vec![36]),
            ("attn.proj.weight", vec![12, 12]),
            ("attn.proj.bias", vec![12]),
            ("attn.rel_pos_d", vec![distances, 4]),
            ("attn.rel_pos_h", vec![distances, 4]),
            ("attn.rel_pos_w", vec![distances, 4]),
            ("norm2.weight", vec![12]),
            ("norm2.bias", vec![12]),
            ("mlp.lin1.weight", vec![20, 12]),
            ("mlp.lin1.bias", vec![20]),
            ("mlp.lin2.weight", vec![12, 20]),
            ("mlp.lin2.bias", vec![12]),
        ] {
            expected.push((format!("blocks.{block}.{name}"), shape));
        }
    }
    asked.sort();
    expected.sort();
    assert_eq!(*asked, expected);
    Ok(())
}

/// Ends a pass at its n-th check.
struct CancelAt(Cell<usize>);

impl Probe for CancelAt {
    fn record(&mut self, _name: &str, _tensor: &Tensor) -> Result<()> {
        Ok(())
    }

    fn check_cancelled(&self) -> Result<()> {
        match self.0.get() {
            0 => Err(Cancelled.into()),
            left => {
                self.0.set(left - 1);
                Ok(())
            }
        }
    }
}

#[test]
fn a_pass_can_be_ended_before_each_block_and_within_it_and_before_the_neck() -> Result<()> {
    let cfg = config(3, 5);
    let model = SamVit::new(&cfg, Weights::new(Arc::new(Made), DType::F32, Device::Cpu))?;
    let volume = Tensor::zeros((1, 1, 6, 6, 6), DType::F32, &Device::Cpu)?;
    let checks = 2 * cfg.num_layers + 1;
    for n in 0..checks {
        let result = model.forward(&volume, &mut CancelAt(Cell::new(n)));
        assert!(result.is_err_and(|error| Cancelled::is_in(&error)), "{n}");
    }
    model.forward(&volume, &mut CancelAt(Cell::new(checks)))?;
    Ok(())
}
