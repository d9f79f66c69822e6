use super::Random;
use crate::{
    ConvFusion, ConvGeometry, ConvNorm, ConvWeights, DoublingWeights, Isa, RowNorm, reference,
};

/// What a convolution may take over from the layers around it.
struct Around {
    channels: Vec<RowNorm>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Around {
    const SLOPE: f32 = 0.25;

    fn new(random: &mut Random, [out, inner]: [usize; 2], voxels: usize) -> Self {
        let mut norm = || {
            let [mean, scale, bias] = random.normals(3)[..] else { unreachable!() };
            RowNorm { mean, scale, bias }
        };
        let channels = (0..inner).map(|_| norm()).collect();
        Self { channels, bias: random.normals(out), residual: random.normals(out * voxels) }
    }

    /// Each part alone, none and all of them.
    fn fusions(&self) -> [ConvFusion<'_>; 5] {
        let norm = Some(ConvNorm { channels: &self.channels, slope: Self::SLOPE });
        let (bias, residual) = (Some(&self.bias[..]), Some(&self.residual[..]));
        let none = ConvFusion::default();
        [
            none,
            ConvFusion { bias, ..none },
            ConvFusion { norm, ..none },
            ConvFusion { residual, ..none },
            ConvFusion { norm, bias, residual },
        ]
    }

    /// What a convolution that takes over nothing reads instead of `x`.
    fn read(&self, x: &[f32]) -> Vec<f32> {
        let voxels = x.len() / self.channels.len();
        let number = |(i, x): (usize, &f32)| {
            let RowNorm { mean, scale, bias } = self.channels[i / voxels];
            let y = (x - mean) * scale + bias;
            if y < 0.0 { y * Self::SLOPE } else { y }
        };
        x.iter().enumerate().map(number).collect()
    }

    /// What is added to each number of a convolution.
    fn plus(&self, fusion: ConvFusion<'_>, i: usize) -> f64 {
        let voxels = self.residual.len() / self.bias.len();
        let bias = fusion.bias.map_or(0.0, |bias| bias[i / voxels]);
        f64::from(bias) + f64::from(fusion.residual.map_or(0.0, |residual| residual[i]))
    }
}

/// Convolutions of random numbers with these sizes against the reference.
fn check(random: &mut Random, channels: [usize; 2], kernel: [usize; 3], geometry: ConvGeometry) {
    let [out, input] = channels;
    let x = random.normals(input * geometry.input.iter().product::<usize>());
    let weights = random.normals(out * input * kernel.iter().product::<usize>());
    let around = Around::new(random, channels, geometry.output.iter().product());
    let plain = reference::conv3d(&x, &weights, channels, kernel, geometry);
    let normed = reference::conv3d(&around.read(&x), &weights, channels, kernel, geometry);
    let packed = ConvWeights::new(&weights, channels, kernel).unwrap();
    for isa in Isa::available() {
        for fusion in around.fusions() {
            let expected = if fusion.norm.is_some() { &normed } else { &plain };
            let y = packed.forward_on(isa, &x, geometry, fusion);
            assert_eq!(y.len(), expected.len());
            let gaps = y.iter().zip(expected).enumerate();
            let gaps = gaps.map(|(i, (&y, e))| (f64::from(y) - e - around.plus(fusion, i)).abs());
            // A NaN must not pass for a small gap.
            let error = gaps.fold(0.0, |a: f64, b| if b <= a { a } else { b });
            assert!(error < 2e-4, "{isa:?} {channels:?} {kernel:?} {geometry:?}: {error:e}");
        }
    }
}

#[test]
fn convolutions_of_random_sizes_equal_the_reference() {
    let random = &mut Random::new(21);
    for _ in 0..60 {
        let channels = [random.size(1, 30), random.size(1, 20)];
        let [kernel, stride] = [4, 3].map(|most| [0; 3].map(|_| random.size(1, most)));
        let padding = kernel.map(|k| random.size(0, k - 1));
        let input = [0; 3].map(|_| random.size(1, 12));
        // Also outputs that reach beyond the input.
        let output = std::array::from_fn(|a| {
            let fits = (input[a] + 2 * padding[a]).saturating_sub(kernel[a]) / stride[a] + 1;
            fits + random.size(0, 1)
        });
        check(random, channels, kernel, ConvGeometry { input, output, stride, padding });
    }
}

#[test]
fn convolutions_of_the_networks_equal_the_reference() {
    let random = &mut Random::new(22);
    let same = |input| ConvGeometry { input, output: input, stride: [1; 3], padding: [1; 3] };
    // Rows longer than a panel, more weights than a pass, more channels than a tile.
    check(random, [48, 16], [3; 3], same([3, 4, 70]));
    check(random, [13, 40], [3; 3], same([4, 4, 4]));
    // A convolution that halves the grid.
    let [input, output] = [[9, 10, 66], [5, 5, 33]];
    check(random, [17, 9], [3; 3], ConvGeometry { input, output, stride: [2; 3], padding: [1; 3] });
    // Patches, and a stem whose patches overlap.
    let patches = ConvGeometry { input: [8; 3], output: [2; 3], stride: [4; 3], padding: [0; 3] };
    check(random, [24, 1], [4; 3], patches);
    let stem = ConvGeometry { input: [16; 3], output: [4; 3], stride: [4; 3], padding: [3; 3] };
    check(random, [8, 1], [7; 3], stem);
}

#[test]
fn weights_of_another_number_are_refused() {
    assert!(ConvWeights::new(&[0.0; 54], [2, 1], [3; 3]).is_some());
    assert!(ConvWeights::new(&[0.0; 53], [2, 1], [3; 3]).is_none());
    for channels in [[usize::MAX, 2], [usize::MAX, 16]] {
        assert!(ConvWeights::new(&[], channels, [3; 3]).is_none());
        let packed = ConvWeights::for_geometry(&[], channels, [3; 3], [1; 3], [1; 3]);
        assert!(packed.is_none());
    }
}

fn same(input: [usize; 3]) -> ConvGeometry {
    ConvGeometry { input, output: input, stride: [1; 3], padding: [1; 3] }
}

/// The largest error in parts of the largest output.
fn relative_error(y: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(y.len(), expected.len());
    let largest = expected.iter().fold(0.0, |a: f64, e| a.max(e.abs()));
    let gaps = y.iter().zip(expected).map(|(&y, e)| (f64::from(y) - e).abs());
    // A NaN must not pass for a small gap.
    gaps.fold(0.0, |a: f64, b| if b <= a { a } else { b }) / largest
}

/// A convolution in Winograd's form against the reference.
fn check_winograd(random: &mut Random, channels: [usize; 2], input: [usize; 3], most: f64) {
    let [out, inner] = channels;
    let voxels: usize = input.iter().product();
    let x = random.normals(inner * voxels);
    let weights = random.normals(out * inner * 27);
    let around = Around::new(random, channels, voxels);
    let plain = reference::conv3d(&x, &weights, channels, [3; 3], same(input));
    let normed = reference::conv3d(&around.read(&x), &weights, channels, [3; 3], same(input));
    for keep in [true, false] {
        let packed = ConvWeights::winograd(&weights, channels, keep).unwrap();
        for isa in Isa::available() {
            for fusion in around.fusions() {
                let expected = if fusion.norm.is_some() { &normed } else { &plain };
                let expected = expected.iter().enumerate();
                let expected: Vec<f64> =
                    expected.map(|(i, e)| e + around.plus(fusion, i)).collect();
                let y = packed.forward_on(isa, &x, same(input), fusion);
                let error = relative_error(&y, &expected);
                assert!(error < most, "{isa:?} {channels:?} {input:?} {keep}: {error:e}");
            }
        }
    }
}

#[test]
fn neighborhoods_of_random_sizes_after_winograd_equal_the_reference() {
    let random = &mut Random::new(23);
    for _ in 0..25 {
        let channels = [random.size(1, 70), random.size(1, 70)];
        let input = [0; 3].map(|_| random.size(1, 20));
        check_winograd(random, channels, input, 5e-6);
    }
    // Rows of several runs, the last of which is cut.
    for input in [[3, 5, 64], [3, 5, 65], [2, 6, 150]] {
        check_winograd(random, [20, 18], input, 5e-6);
    }
}

#[test]
fn sums_over_many_channels_after_winograd_are_as_exact_as_direct_ones() {
    let random = &mut Random::new(24);
    check_winograd(random, [20, 384], [4, 8, 9], 2e-5);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let random = &mut Random::new(25);
    for (channels, input) in [([100, 20], [9, 10, 11]), ([40, 200], [5, 40, 41])] {
        let x = random.normals(channels[1] * input.iter().product::<usize>());
        let weights = random.normals(channels[0] * channels[1] * 27);
        for keep in [true, false] {
            let packed = ConvWeights::winograd(&weights, channels, keep).unwrap();
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| packed.forward(&x, same(input), ConvFusion::default()))
            };
            let one = on(1);
            assert!([2, 3, 16].into_iter().all(|threads| on(threads) == one));
        }
    }
}

#[test]
fn a_convolution_of_no_channels_is_its_bias() {
    let packed = ConvWeights::new(&[], [3, 0], [3; 3]).unwrap();
    let fusion = ConvFusion { bias: Some(&[1.0, 2.0, 3.0]), ..ConvFusion::default() };
    let y = packed.forward(&[], same([1, 2, 2]), fusion);
    assert_eq!(y, [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0]);
}

#[test]
fn weights_for_a_geometry_serve_any_other() {
    let random = &mut Random::new(26);
    let (channels, input) = ([32, 24], [6, 7, 9]);
    let x = random.normals(24 * 6 * 7 * 9);
    let weights = random.normals(32 * 24 * 27);
    let any = ConvWeights::new(&weights, channels, [3; 3]).unwrap();
    let packed = ConvWeights::for_geometry(&weights, channels, [3; 3], [1; 3], [1; 3]).unwrap();
    assert_eq!([packed.out_channels(), packed.in_channels()], channels);
    assert_ne!(
        packed.forward(&x, same(input), ConvFusion::default()),
        any.forward(&x, same(input), ConvFusion::default())
    );
    let none = ConvFusion::default();
    for (output, stride, padding) in
        [([3, 4, 5], [2; 3], [1; 3]), ([4, 5, 7], [1; 3], [0; 3]), ([7, 7, 9], [1; 3], [1; 3])]
    {
        let geometry = ConvGeometry { input, output, stride, padding };
        assert_eq!(packed.forward(&x, geometry, none), any.forward(&x, geometry, none));
    }
    assert!(ConvWeights::for_geometry(&weights[1..], channels, [3; 3], [1; 3], [1; 3]).is_none());
}

#[test]
fn doubling_a_grid_equals_the_reference() {
    let random = &mut Random::new(27);
    for _ in 0..20 {
        let channels @ [out, inner] = [random.size(1, 30), random.size(1, 20)];
        let size = [0; 3].map(|_| random.size(1, 9));
        let voxels: usize = size.iter().product();
        let x = random.normals(inner * voxels);
        let weights = random.normals(out * inner * 27);
        let bias = random.normals(out);
        let residual = random.normals(out * 8 * voxels);
        let plain = reference::conv_transpose3d(&x, &weights, channels, size);
        let packed = DoublingWeights::new(&weights, channels).unwrap();
        for isa in Isa::available() {
            for (bias, residual) in [(None, None), (Some(&bias[..]), Some(&residual[..]))] {
                let y = packed.forward_on(isa, &x, size, bias, residual);
                let plus = |i: usize| {
                    let bias = bias.map_or(0.0, |bias| bias[i / (8 * voxels)]);
                    f64::from(bias) + f64::from(residual.map_or(0.0, |residual| residual[i]))
                };
                let plain = plain.iter().enumerate();
                let expected: Vec<f64> = plain.map(|(i, y)| y + plus(i)).collect();
                let error = relative_error(&y, &expected);
                assert!(error < 5e-6, "{isa:?} {channels:?} {size:?}: {error:e}");
            }
        }
    }
    assert!(DoublingWeights::new(&[0.0; 53], [2, 1]).is_none());
    assert!(DoublingWeights::new(&[], [usize::MAX, 2]).is_none());
}
