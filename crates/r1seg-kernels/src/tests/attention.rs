use super::Random;
use crate::{AttentionArgs, Bias, Isa, Mask, reference};

/// Heads, key heads, queries, keys, width.
type Shape = (usize, usize, usize, usize, usize);

fn check(random: &mut Random, shape: Shape, scale: f32, mask: Mask) {
    check_biased(random, shape, scale, mask, Bias::None);
}

fn check_biased(random: &mut Random, shape: Shape, scale: f32, mask: Mask, bias: Bias<'_>) {
    let (heads, kv_heads, lq, lk, dim) = shape;
    // Gaps between heads, as in a cache with room to spare, filled with what must not be read.
    let (k_head_stride, v_head_stride) = ((lk + 3) * dim, (lk + 1) * dim + 1);
    let q = random.normals(heads * lq * dim);
    let mut cache = |stride: usize| {
        let mut data = vec![f32::NAN; kv_heads * stride];
        for head in data.chunks_exact_mut(stride) {
            head[..lk * dim].copy_from_slice(&random.normals(lk * dim));
        }
        data
    };
    let (k, v) = (cache(k_head_stride), cache(v_head_stride));
    for isa in Isa::available() {
        let mut out = vec![f32::NAN; q.len()];
        let args = |out| AttentionArgs {
            q: &q,
            k: &k,
            v: &v,
            out,
            heads,
            kv_heads,
            lq,
            lk,
            dim,
            k_head_stride,
            v_head_stride,
            scale,
            mask,
            bias,
        };
        crate::attention::attention_on(isa, args(&mut out));
        let expected = reference::attention(&args(&mut []));
        let gaps = out.iter().zip(&expected).map(|(&y, e)| (f64::from(y) - e).abs());
        // A NaN must not pass for a small gap.
        let error = gaps.fold(0.0, |a: f64, b| if b <= a { a } else { b });
        assert!(error < 4e-6, "{isa:?} {shape:?} {scale} {mask:?}: {error:e}");
    }
}

fn causal(past: usize, window: Option<usize>) -> Mask {
    Mask::Causal { past, window }
}

#[test]
fn attention_of_random_shapes_equals_the_reference() {
    let random = &mut Random::new(11);
    for _ in 0..60 {
        let (kv_heads, group) = (random.size(1, 3), random.size(1, 3));
        let (lq, lk) = (random.size(1, 70), random.size(1, 90));
        let dim = [1, 5, 16, 24, 33, 48, 64, 96, 128][random.size(0, 8)];
        let shape = (kv_heads * group, kv_heads, lq, lk, dim);
        let scale = 1.0 / (dim as f32).sqrt();
        check(random, shape, scale, Mask::None);
        let (past, window) = (random.size(0, 120), random.size(0, 50));
        check(random, shape, scale, causal(past / 3, None));
        check(random, shape, scale, causal(past, Some(window)));
    }
}

#[test]
fn prefill_equals_the_reference_over_several_blocks_and_passes() {
    let random = &mut Random::new(12);
    check(random, (2, 1, 296, 296, 96), 0.1, causal(0, None));
    check(random, (2, 2, 130, 700, 64), 0.125, causal(570, None));
    check(random, (1, 1, 200, 900, 24), 0.2, causal(700, Some(333)));
    check(random, (2, 2, 61, 2500, 40), 0.16, Mask::None);
}

#[test]
fn few_queries_equal_the_reference_over_stretches_of_keys() {
    let random = &mut Random::new(17);
    for shape in [(8, 1, 6, 2048, 64), (1, 1, 128, 1024, 32), (3, 1, 5, 1500, 96)] {
        check(random, shape, 0.125, Mask::None);
        check(random, shape, -0.3, Mask::None);
    }
}

#[test]
fn decoding_equals_the_reference() {
    let random = &mut Random::new(13);
    for (shape, past) in
        [((8, 8, 1, 385, 96), 384), ((8, 2, 1, 1000, 128), 999), ((4, 2, 3, 77, 20), 74)]
    {
        check(random, shape, 0.1, causal(past, None));
        check(random, shape, 0.1, causal(past, Some(50)));
    }
}

#[test]
fn any_scale_gives_a_softmax() {
    let random = &mut Random::new(14);
    for scale in [-0.3, 0.0, 3.0] {
        check(random, (2, 2, 2, 37, 16), scale, Mask::None);
        check(random, (2, 2, 20, 37, 16), scale, causal(17, None));
    }
}

#[test]
fn no_visible_key_gives_zeros() {
    let random = &mut Random::new(15);
    for lq in [2, 40] {
        check(random, (2, 1, lq, 9, 8), 1.0, causal(0, Some(0)));
        check(random, (2, 1, lq, 9, 8), 1.0, causal(30, Some(4)));
        check(random, (2, 1, lq, 0, 8), 1.0, Mask::None);
        check(random, (2, 1, lq, 9, 8), 1.0, causal(usize::MAX - 100, None));
    }
}

#[test]
fn nan_stays_in_its_query() {
    let random = &mut Random::new(16);
    let (lq, lk, dim) = (20, 50, 16);
    let mut q = random.normals(lq * dim);
    q[3 * dim] = f32::NAN;
    q[4 * dim] = f32::INFINITY;
    let (k, v) = (random.normals(lk * dim), random.normals(lk * dim));
    for (isa, lq) in Isa::available().into_iter().flat_map(|isa| [(isa, 20), (isa, 4)]) {
        let mut out = vec![0f32; lq * dim];
        let q = &q[(20 - lq).min(1) * dim..][..lq * dim];
        let args = AttentionArgs {
            q,
            k: &k,
            v: &v,
            out: &mut out,
            heads: 1,
            kv_heads: 1,
            lq,
            lk,
            dim,
            k_head_stride: 0,
            v_head_stride: 0,
            scale: 1.0,
            mask: Mask::None,
            bias: Bias::None,
        };
        crate::attention::attention_on(isa, args);
        for (q, out) in q.chunks(dim).zip(out.chunks(dim)) {
            assert_eq!(q[0].is_finite(), out.iter().all(|y| y.is_finite()), "{isa:?}");
        }
    }
}

#[test]
fn a_bias_is_added_to_the_scaled_scores() {
    let random = &mut Random::new(18);
    for (heads, kv_heads, lq, [i, j, l], dim) in
        [(2, 2, 27, [3, 3, 3], 16), (4, 2, 1, [2, 5, 8], 24), (1, 1, 90, [14, 14, 14], 64)]
    {
        let lk = i * j * l;
        let shape = (heads, kv_heads, lq, lk, dim);
        let mut full = random.normals(heads * lq * lk);
        check_biased(random, shape, 0.2, Mask::None, Bias::Full(&full));
        full[..lk - 1].fill(f32::NEG_INFINITY);
        check_biased(random, shape, 0.2, Mask::None, Bias::Full(&full[..lq * lk]));
        let (first, second) =
            (random.normals(heads * lq * i * l), random.normals(heads * lq * j * l));
        let grid = [i, j, l];
        let bias = Bias::Grid { grid, first: &first, second: &second, rest: &[] };
        check_biased(random, shape, 0.2, Mask::None, bias);
        for behind in [1, 5] {
            let rest = random.normals(heads * lq * behind);
            let bias = Bias::Grid { grid, first: &first, second: &second, rest: &rest };
            let shape = (heads, kv_heads, lq, lk + behind, dim);
            check_biased(random, shape, 0.2, Mask::None, bias);
        }
    }
}

#[test]
#[should_panic(expected = "a grid of [2, 2, 3] among 9 keys")]
fn a_grid_of_more_cells_than_keys_is_refused() {
    let random = &mut Random::new(20);
    let bias = random.normals(4 * 6);
    let bias = Bias::Grid { grid: [2, 2, 3], first: &bias, second: &bias, rest: &[] };
    check_biased(random, (1, 1, 4, 9, 8), 1.0, Mask::None, bias);
}

#[test]
#[should_panic(expected = "a bias beside a mask")]
fn a_bias_beside_a_mask_is_refused() {
    let random = &mut Random::new(19);
    let bias = random.normals(4 * 9);
    check_biased(random, (1, 1, 4, 9, 8), 1.0, causal(5, None), Bias::Full(&bias));
}
