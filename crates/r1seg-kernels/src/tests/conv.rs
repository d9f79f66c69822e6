use super::Random;
use crate::{ConvGeometry, ConvWeights, Isa, reference};

/// Convolutions of random numbers with these sizes against the reference.
fn check(random: &mut Random, channels: [usize; 2], kernel: [usize; 3], geometry: ConvGeometry) {
    let [out, input] = channels;
    let x = random.normals(input * geometry.input.iter().product::<usize>());
    let weights = random.normals(out * input * kernel.iter().product::<usize>());
    let bias = random.normals(out);
    let expected = reference::conv3d(&x, &weights, channels, kernel, geometry);
    let voxels: usize = geometry.output.iter().product();
    let packed = ConvWeights::new(&weights, channels, kernel).unwrap();
    for isa in Isa::available() {
        for bias in [None, Some(&bias[..])] {
            let y = packed.forward_on(isa, &x, geometry, bias);
            assert_eq!(y.len(), expected.len());
            let gaps = y.iter().zip(&expected).enumerate().map(|(i, (&y, e))| {
                (f64::from(y) - e - bias.map_or(0.0, |bias| f64::from(bias[i / voxels]))).abs()
            });
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
    assert!(ConvWeights::new(&[], [usize::MAX, 2], [3; 3]).is_none());
}
