//! The encoder as its authors define it, in loops over f64: every window is filled up with tokens of
//! zeros, which are attended to like any other.

use std::collections::BTreeMap;

use r1seg_vit3d::HieraConfig;

type Tensors = BTreeMap<String, Vec<f64>>;

/// Tokens of a cube, channels last.
#[derive(Clone)]
struct Grid {
    side: usize,
    width: usize,
    data: Vec<f64>,
}

impl Grid {
    fn zeros(side: usize, width: usize) -> Self {
        Self { side, width, data: vec![0.0; side * side * side * width] }
    }

    fn at(&self, [i, j, l]: [usize; 3]) -> std::ops::Range<usize> {
        let start = ((i * self.side + j) * self.side + l) * self.width;
        start..start + self.width
    }

    fn map(&self, f: impl Fn(&[f64]) -> Vec<f64>) -> Self {
        let data: Vec<f64> = self.data.chunks(self.width).flat_map(f).collect();
        let width = data.len() / self.side.pow(3);
        Self { side: self.side, width, data }
    }

    fn plus(mut self, other: &Self) -> Self {
        assert_eq!((self.side, self.width), (other.side, other.width));
        self.data.iter_mut().zip(&other.data).for_each(|(a, b)| *a += b);
        self
    }

    fn cells(&self) -> impl Iterator<Item = [usize; 3]> + use<> {
        cells(self.side)
    }

    fn max_pooled(&self) -> Self {
        let mut pooled = Self::zeros(self.side / 2, self.width);
        pooled.data.fill(f64::NEG_INFINITY);
        for cell in self.cells().filter(|cell| cell.iter().all(|i| i / 2 < self.side / 2)) {
            let to = pooled.at(cell.map(|i| i / 2));
            for (to, x) in pooled.data[to].iter_mut().zip(&self.data[self.at(cell)]) {
                *to = to.max(*x);
            }
        }
        pooled
    }

    /// Channels first, as stages of the neck are recorded.
    fn channels_first(&self) -> Vec<f64> {
        let of = |c: usize| self.data.iter().skip(c).step_by(self.width);
        (0..self.width).flat_map(|c| of(c).copied().collect::<Vec<_>>()).collect()
    }
}

fn cells(side: usize) -> impl Iterator<Item = [usize; 3]> {
    (0..side * side * side).map(move |n| [n / (side * side), n / side % side, n % side])
}

fn linear(tensors: &Tensors, name: &str, x: &[f64]) -> Vec<f64> {
    let (weight, bias) = (&tensors[&format!("{name}.weight")], &tensors[&format!("{name}.bias")]);
    let product = |row: &[f64]| row.iter().zip(x).map(|(a, b)| a * b).sum::<f64>();
    weight.chunks(x.len()).zip(bias).map(|(row, bias)| product(row) + bias).collect()
}

fn norm(tensors: &Tensors, name: &str, x: &[f64]) -> Vec<f64> {
    let (weight, bias) = (&tensors[&format!("{name}.weight")], &tensors[&format!("{name}.bias")]);
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let scaled = x.iter().map(|x| (x - mean) / (variance + 1e-6).sqrt());
    scaled.zip(weight.iter().zip(bias)).map(|(x, (weight, bias))| x * weight + bias).collect()
}

/// Abramowitz and Stegun 7.1.5, which converges for all arguments of these tests.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-17 * sum.abs() {
        n += 1.0;
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn gelu(x: f64) -> f64 {
    // Beyond, the series loses its digits and the function is x or 0.
    match x {
        x if x > 6.0 => x,
        x if x < -6.0 => 0.0,
        x => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
    }
}

/// Attention of all tokens of a window, with pooled queries or its own.
fn attend(tensors: &Tensors, name: &str, window: &Grid, heads: usize, pools: bool) -> Grid {
    let qkv = window.map(|x| linear(tensors, &format!("{name}.qkv"), x));
    let width = qkv.width / 3;
    let part = |i: usize| qkv.map(|x| x[i * width..(i + 1) * width].to_vec());
    let (q, k, v) = (part(0), part(1), part(2));
    let q = if pools { q.max_pooled() } else { q };
    let dim = width / heads;
    let out = q.map(|q| {
        let mut out = vec![0.0; width];
        for head in 0..heads {
            let of = |x: &[f64]| x[head * dim..(head + 1) * dim].to_vec();
            let dot = |k: &[f64]| of(q).iter().zip(of(k)).map(|(a, b)| a * b).sum::<f64>();
            let scores = k.data.chunks(width).map(|k| dot(k) / (dim as f64).sqrt());
            let powers: Vec<f64> = scores.map(f64::exp).collect();
            let sum: f64 = powers.iter().sum();
            for (power, v) in powers.iter().zip(v.data.chunks(width)) {
                for (out, v) in out[head * dim..].iter_mut().zip(of(v)) {
                    *out += power / sum * v;
                }
            }
        }
        out
    });
    out.map(|x| linear(tensors, &format!("{name}.proj"), x))
}

/// Window partition, attention, and the authors' way back.
fn windowed(attend: impl Fn(&Grid) -> Grid, x: &Grid, window: usize, pools: bool) -> Grid {
    let n = x.side.div_ceil(window);
    let mut buffer = Vec::new();
    let mut size = 0;
    for at in cells(n) {
        let mut part = Grid::zeros(window, x.width);
        for cell in cells(window) {
            let from: [usize; 3] = std::array::from_fn(|axis| at[axis] * window + cell[axis]);
            if from.iter().all(|&i| i < x.side) {
                let to = part.at(cell);
                part.data[to].copy_from_slice(&x.data[x.at(from)]);
            }
        }
        let part = attend(&part);
        size = part.side;
        buffer.push(part);
    }
    let width = buffer[0].width;
    let mut flat = Vec::new();
    for [i, l, v] in (0..n * n * size).map(|at| [at / (n * size), at / size % n, at % size]) {
        for [j, u, w] in
            (0..n * size * size).map(|at| [at / (size * size), at / size % size, at % size])
        {
            let part = &buffer[(i * n + j) * n + l];
            flat.extend_from_slice(&part.data[part.at([u, v, w])]);
        }
    }
    let whole = Grid { side: n * size, width, data: flat };
    let mut out = Grid::zeros(if pools { x.side / 2 } else { x.side }, width);
    for cell in out.cells() {
        let to = out.at(cell);
        out.data[to].copy_from_slice(&whole.data[whole.at(cell)]);
    }
    out
}

fn stem(cfg: &HieraConfig, tensors: &Tensors, volume: &[f64]) -> Grid {
    let (image, e) = (cfg.image_size, cfg.hidden_size);
    let weight = &tensors["trunk.patch_embed.proj.weight"];
    let mut out = Grid::zeros(image / 4, e);
    for cell in out.cells() {
        let mut sums = tensors["trunk.patch_embed.proj.bias"].clone();
        for tap in cells(7) {
            let at: [_; 3] =
                std::array::from_fn(|axis| (4 * cell[axis] + tap[axis]).wrapping_sub(3));
            if at.iter().all(|&i| i < image) {
                let voxel = volume[(at[0] * image + at[1]) * image + at[2]];
                let tap = (tap[0] * 7 + tap[1]) * 7 + tap[2];
                sums.iter_mut()
                    .enumerate()
                    .for_each(|(c, sum)| *sum += weight[c * 343 + tap] * voxel);
            }
        }
        let to = out.at(cell);
        out.data[to].copy_from_slice(&sums);
    }
    out
}

fn positions(cfg: &HieraConfig, tensors: &Tensors) -> Grid {
    let (side, e, window) = (cfg.image_size / 4, cfg.hidden_size, cfg.window_spec[0]);
    let (table, tile) = (&tensors["trunk.pos_embed"], &tensors["trunk.pos_embed_window"]);
    let neighbors = |i: usize| {
        let at = ((i as f64 + 0.5) * 14.0 / side as f64 - 0.5).max(0.0);
        let (low, part) = (at.floor() as usize, at.fract());
        [(low, 1.0 - part), ((low + 1).min(13), part)]
    };
    let mut out = Grid::zeros(side, e);
    for cell in out.cells() {
        let [i, j, l] = cell.map(|i| i % window);
        let start = out.at(cell).start;
        for c in 0..e {
            let mut sum = tile[((c * window + i) * window + j) * window + l];
            for (i, a) in neighbors(cell[0]) {
                for (j, b) in neighbors(cell[1]) {
                    for (l, d) in neighbors(cell[2]) {
                        sum += a * b * d * table[((c * 14 + i) * 14 + j) * 14 + l];
                    }
                }
            }
            out.data[start + c] = sum;
        }
    }
    out
}

/// Every stage by the name under which it is recorded.
pub(crate) fn run(cfg: &HieraConfig, tensors: &Tensors, volume: &[f64]) -> Tensors {
    let mut stages = Tensors::new();
    let mut x = stem(cfg, tensors, volume);
    stages.insert("encoder.patch_embed".to_string(), x.data.clone());
    x = x.plus(&positions(cfg, tensors));
    stages.insert("encoder.tokens".to_string(), x.data.clone());
    let (mut number, mut maps) = (0, Vec::new());
    for (stage, &blocks) in cfg.stages.iter().enumerate() {
        for i in 0..blocks {
            let name = format!("trunk.blocks.{number}");
            let first = i == 0 && stage > 0;
            let pools = first && stage <= cfg.q_pool;
            let window = if first { cfg.window_spec[stage - 1] } else { cfg.window_spec[stage] };
            let heads = cfg.num_heads << stage;
            let normed = x.map(|x| norm(tensors, &format!("{name}.norm1"), x));
            if first {
                x = normed.map(|x| linear(tensors, &format!("{name}.proj"), x));
            }
            if pools {
                x = x.max_pooled();
            }
            let attend = |x: &Grid| attend(tensors, &format!("{name}.attn"), x, heads, pools);
            let attention = match cfg.global_blocks.contains(&number) {
                true => attend(&normed),
                false => windowed(attend, &normed, window, pools),
            };
            x = x.plus(&attention);
            let mlp = x.map(|x| {
                let x = norm(tensors, &format!("{name}.norm2"), x);
                let x = linear(tensors, &format!("{name}.mlp.layers.0"), &x);
                let x: Vec<f64> = x.into_iter().map(gelu).collect();
                linear(tensors, &format!("{name}.mlp.layers.1"), &x)
            });
            x = x.plus(&mlp);
            stages.insert(format!("encoder.block_{number}"), x.data.clone());
            number += 1;
        }
        maps.push(x.clone());
    }
    let last = cfg.stages.len() - 1;
    let mut joined: Option<Grid> = None;
    for level in (last - cfg.scalp..=last).rev() {
        let name = format!("neck.convs.{}.conv", last - level);
        let lateral = maps[level].map(|x| linear(tensors, &name, x));
        stages.insert(format!("neck.lateral_{}", last - level), lateral.channels_first());
        let mut sum = lateral.clone();
        if let Some(coarser) = joined.filter(|_| cfg.top_down_levels.contains(&level)) {
            for cell in lateral.cells() {
                let (to, from) = (lateral.at(cell), coarser.at(cell.map(|i| i / 2)));
                sum.data[to].iter_mut().zip(&coarser.data[from]).for_each(|(a, b)| *a += b);
            }
        }
        joined = Some(sum);
    }
    let map = joined.map(|map| map.channels_first()).unwrap_or_default();
    stages.insert("image_embedding".to_string(), map);
    stages
}
