//! The kernels again, one number at a time and in f64: what the tests compare with.

use half::{bf16, f16};

use crate::attention::{AttentionArgs, Bias};
use crate::conv::ConvGeometry;
use crate::weights::WeightType;

/// The numbers that `bytes` hold, straight from the description of [`WeightType`].
pub(crate) fn widen(bytes: &[u8], weight_type: WeightType) -> Vec<f64> {
    let half = |b: &[u8], i: usize| f16::from_le_bytes([b[i], b[i + 1]]).to_f64();
    let widen_block = |b: &[u8]| -> Vec<f64> {
        match weight_type {
            WeightType::F32 => vec![f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))],
            WeightType::F16 => vec![half(b, 0)],
            WeightType::Bf16 => vec![bf16::from_le_bytes([b[0], b[1]]).to_f64()],
            WeightType::Q8_0 => b[2..].iter().map(|&q| half(b, 0) * f64::from(q as i8)).collect(),
            WeightType::Q4K => {
                let (scales, q) = (&b[4..16], &b[16..]);
                let packed = |j: usize, first: usize| {
                    if j < 4 {
                        return scales[first + j] & 63;
                    }
                    let low = scales[8 + j - 4] >> first & 15;
                    low | scales[first + j - 4] >> 6 << 4
                };
                let weight = |i: usize| {
                    let (j, q) = (i / 32, q[i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 15);
                    let scaled = half(b, 0) * f64::from(packed(j, 0)) * f64::from(q);
                    // The only place where f32 rounds.
                    f64::from((scaled - half(b, 2) * f64::from(packed(j, 4))) as f32)
                };
                (0..256).map(weight).collect()
            }
            WeightType::Q6K => {
                let weight = |i: usize| {
                    let (half_block, quarter, l) = (i / 128, i / 32 % 4, i % 32);
                    let low = b[64 * half_block + 32 * (quarter % 2) + l] >> (4 * (quarter / 2));
                    let high = b[128 + 32 * half_block + l] >> (2 * quarter);
                    let q = f64::from(low & 15 | (high & 3) << 4) - 32.0;
                    half(b, 208) * f64::from(b[192 + i / 16] as i8) * q
                };
                (0..256).map(weight).collect()
            }
        }
    };
    bytes.chunks_exact(weight_type.block_bytes()).flat_map(widen_block).collect()
}

/// # Shapes
/// - `x`: `[m, k]`    - `weight`: `[n, k]`    - `bias`: `[n]`    - returns: `[m, n]`, and per
///   element the sum of the products' magnitudes, by which rounding errors are measured
pub(crate) fn linear(
    x: &[f64],
    weight: &[f64],
    bias: Option<&[f32]>,
    (m, k, n): (usize, usize, usize),
) -> (Vec<f64>, Vec<f64>) {
    let mut y = Vec::with_capacity(m * n);
    let mut size = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let bias = bias.map_or(0.0, |bias| f64::from(bias[j]));
            let products = x[i * k..][..k].iter().zip(&weight[j * k..][..k]).map(|(x, w)| x * w);
            y.push(bias + products.clone().sum::<f64>());
            size.push(bias.abs() + products.map(f64::abs).sum::<f64>());
        }
    }
    (y, size)
}

/// # Shapes
/// - returns: `[heads, lq, dim]`
pub(crate) fn attention(args: &AttentionArgs<'_>) -> Vec<f64> {
    let AttentionArgs { q, k, v, heads, kv_heads, lq, lk, dim, scale, mask, bias, .. } = *args;
    let mut out = vec![0f64; heads * lq * dim];
    for (row, out) in out.chunks_exact_mut(dim).enumerate() {
        let (head, i) = (row / lq, row % lq);
        let k = &k[head / (heads / kv_heads) * args.k_head_stride..];
        let v = &v[head / (heads / kv_heads) * args.v_head_stride..];
        let q = &q[row * dim..][..dim];
        let seen = mask.visible(i, lk);
        let score = |j: usize| {
            let k = &k[j * dim..][..dim];
            let dot: f64 = q.iter().zip(k).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
            let added = match bias {
                Bias::None => 0.0,
                Bias::Full(bias) if bias.len() == lq * lk => f64::from(bias[i * lk + j]),
                Bias::Full(bias) => f64::from(bias[row * lk + j]),
                Bias::Grid { grid: [planes, rows, cells], rest, .. }
                    if j >= planes * rows * cells =>
                {
                    let behind = lk - planes * rows * cells;
                    f64::from(rest[row * behind + j - planes * rows * cells])
                }
                Bias::Grid { grid: [planes, rows, cells], first, second, .. } => {
                    let [plane, line, cell] = [j / (rows * cells), j / cells % rows, j % cells];
                    f64::from(first[(row * planes + plane) * cells + cell])
                        + f64::from(second[(row * rows + line) * cells + cell])
                }
            };
            dot * f64::from(scale) + added
        };
        let largest = seen.clone().map(score).fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = seen.clone().map(|j| (score(j) - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        for (j, weight) in seen.zip(weights) {
            for (out, v) in out.iter_mut().zip(&v[j * dim..][..dim]) {
                *out += weight / total * f64::from(*v);
            }
        }
    }
    out
}

/// `x Φ(x)`, the distribution from a series near zero and a continued fraction far out.
pub(crate) fn gelu_erf(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    let size = x.abs();
    let tail = if size < 3.0 {
        let (mut term, mut sum) = (size, size);
        for n in 1..200 {
            term *= size * size / (2.0 * f64::from(n) + 1.0);
            sum += term;
        }
        0.5 - density * sum
    } else {
        density / (size + (1..=200).rev().fold(0.0, |f, n| f64::from(n) / (size + f)))
    };
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

pub(crate) fn silu_mul(gate: f64, up: f64) -> f64 {
    gate / (1.0 + (-gate).exp()) * up
}

/// # Shapes
/// - `x`: `[in, D, H, W]`    - `weights`: `[out, in, kd, kh, kw]`    - returns: `[out, D', H', W']`
pub(crate) fn conv3d(
    x: &[f32],
    weights: &[f32],
    [out, channels]: [usize; 2],
    [kd, kh, kw]: [usize; 3],
    geometry: ConvGeometry,
) -> Vec<f64> {
    let ConvGeometry { input: [d, h, w], output, stride, padding } = geometry;
    let voxels: usize = output.iter().product();
    let at = |n: usize, axis: usize, tap: usize| {
        let n = (n * stride[axis] + tap).checked_sub(padding[axis])?;
        (n < geometry.input[axis]).then_some(n)
    };
    let mut y = vec![0f64; out * voxels];
    for (index, y) in y.iter_mut().enumerate() {
        let (o, voxel) = (index / voxels, index % voxels);
        let [a, b, c] =
            [voxel / (output[1] * output[2]), voxel / output[2] % output[1], voxel % output[2]];
        for tap in 0..channels * kd * kh * kw {
            let (channel, tap_d) = (tap / (kd * kh * kw), tap / (kh * kw) % kd);
            let (Some(i), Some(j), Some(k)) =
                (at(a, 0, tap_d), at(b, 1, tap / kw % kh), at(c, 2, tap % kw))
            else {
                continue;
            };
            let x = x[((channel * d + i) * h + j) * w + k];
            *y += f64::from(x) * f64::from(weights[o * channels * kd * kh * kw + tap]);
        }
    }
    y
}

/// A transposed convolution with kernel 3, stride 2, padding 1 and output padding 1 without a bias: every
/// input voxel spreads its kernel over the doubled grid.
///
/// # Shapes
/// - `x`: `[in, D, H, W]`    - `weights`: `[out, in, 3, 3, 3]`    - returns: `[out, 2 D, 2 H, 2 W]`
pub(crate) fn conv_transpose3d(
    x: &[f32],
    weights: &[f32],
    [out, inner]: [usize; 2],
    [d, h, w]: [usize; 3],
) -> Vec<f64> {
    let voxels = d * h * w;
    let mut y = vec![0f64; out * 8 * voxels];
    for (at, x) in x.iter().enumerate() {
        let (c, voxel) = (at / voxels, [at % voxels / (h * w), at / w % h, at % w]);
        for (o, tap) in (0..out).flat_map(|o| (0..27).map(move |tap| (o, tap))) {
            let tap_at = [tap / 9, tap / 3 % 3, tap % 3];
            let to: Option<Vec<usize>> = (0..3)
                .map(|axis| {
                    let to = (2 * voxel[axis] + tap_at[axis]).checked_sub(1)?;
                    (to < 2 * [d, h, w][axis]).then_some(to)
                })
                .collect();
            let Some(to) = to else { continue };
            let to = ((o * 2 * d + to[0]) * 2 * h + to[1]) * 2 * w + to[2];
            y[to] += f64::from(*x) * f64::from(weights[(o * inner + c) * 27 + tap]);
        }
    }
    y
}
