use super::*;
use crate::{Geometry, NearestMode, Scale, crop_around};

/// The values of M3D's caption data, of its segmentation data and of its referring segmentation.
const CAP: [Step; 2] = [Step::Rescale(Ends::MinMax), Step::CropForeground { margin: 0 }];
const SEG: [Step; 2] =
    [Step::Rescale(Ends::PercentilesAboveMean([0.05, 99.95])), Step::CropForeground { margin: 0 }];
const REF_SEG: [Step; 3] = [
    Step::Rescale(Ends::Percentiles([0.5, 99.5])),
    Step::CropForeground { margin: 0 },
    Step::Turn(AxisMap::TRANSPOSED),
];

fn window(low: f32, high: f32) -> [Step; 2] {
    [Step::Rescale(Ends::Fixed { low, high }), Step::CropForeground { margin: 0 }]
}

fn take_all(volume: &Volume, steps: &[Step]) -> Prepared {
    prepare(volume, steps).unwrap()
}

fn volume(shape: [usize; 3], value: impl Fn(usize) -> f32) -> Volume {
    let geometry = Geometry::without_affine(shape);
    let values: Vec<f32> = (0..geometry.voxels()).map(value).collect();
    Volume::new(values, geometry).unwrap()
}

#[test]
fn no_step_leaves_a_volume_as_it_is() {
    let v = volume([4, 5, 6], |n| n as f32 / 119.0);
    let prepared = take_all(&v, &[]);
    assert_eq!(
        (prepared.to_f32(), prepared.crop()),
        (v.voxels().to_f32().into_owned(), Region::whole([4, 5, 6]))
    );
}

#[test]
fn the_smallest_value_is_cropped_where_it_is_a_margin() {
    let v = volume([4, 4, 4], |n| {
        if n == 21 {
            200.0
        } else if n == 22 {
            100.0
        } else {
            50.0
        }
    });
    let prepared = take_all(&v, &CAP);
    assert_eq!(prepared.crop(), Region { start: [1, 1, 1], end: [2, 2, 3] });
    assert_eq!(prepared.to_f32(), [1.0, 1.0 / 3.0]);
    assert_eq!(prepared.rescale().map(|r| r.ends()), Some((50.0, 200.0)));
    assert_eq!(take_all(&v, &[]).rescale(), None);
}

#[test]
fn values_beyond_a_window_are_clipped() {
    let v = volume([1, 1, 5], |n| [-1000.0, -160.0, 40.0, 240.0, 3000.0][n]);
    let prepared = take_all(&v, &window(-160.0, 240.0));
    assert_eq!(prepared.crop().start, [0, 0, 2]);
    assert_eq!(prepared.to_f32(), [0.5, 1.0, 1.0]);
}

#[test]
fn a_window_may_begin_where_f32_does() {
    let v = volume([1, 1, 3], |n| [f32::MIN, -3e38, 0.0][n]);
    let prepared = take_all(&v, &window(f32::MIN, -1.5e38));
    let [low, high] = [0, 1].map(|n| prepared.to_f32()[n]);
    assert_eq!(prepared.crop().start, [0, 0, 1]);
    assert!((0.21..0.22).contains(&low) && high == 1.0, "{low} {high}");
}

#[test]
fn axes_are_turned_there_and_back() {
    // Column x of row y is 3x + y, the same in both slices.
    let v = volume([2, 3, 4], |n| (n % 4 * 3 + n / 4 % 3) as f32);
    let prepared = take_all(&v, &REF_SEG);
    assert_eq!((prepared.crop(), prepared.shape()), (Region::whole([2, 3, 4]), [2, 4, 3]));
    assert!(prepared.to_f32()[..12].is_sorted() && prepared.to_f32()[12..].is_sorted());

    let logits: Vec<f32> = prepared.to_f32().iter().map(|v| v - 0.6).collect();
    let mask = prepared.map().mask_from_logits(&logits, prepared.shape()).unwrap();
    // 0.6 of 0..=11 lies between 6 and 7.
    let expected: Vec<u8> = v.voxels().to_f32().iter().map(|v| u8::from(6.6 < *v)).collect();
    assert_eq!(mask, expected);
}

#[test]
fn a_constant_volume_becomes_zeros_with_a_warning() {
    for steps in [&SEG[..], &CAP, &REF_SEG] {
        let v = volume([4; 3], |_| -1024.0);
        let prepared = take_all(&v, steps);
        assert!(prepared.to_f32().iter().all(|v| *v == 0.0));
        assert_eq!(prepared.crop(), Region::whole([4; 3]));
        assert_eq!(prepared.warnings()[0].code, "W-CONST");
    }
}

/// 5 x 6 x 7 voxels, of a size that f32 holds exactly: whole numbers, or the same as f32.
fn small(is_whole: bool) -> Volume {
    let stored: Vec<i16> = (0..210).map(|n| (n * 7919 % 101) as i16 * 13 - 600).collect();
    let voxels: Voxels = match is_whole {
        true => stored.into(),
        false => stored.into_iter().map(f32::from).collect::<Vec<f32>>().into(),
    };
    Volume::new(voxels, Geometry::with_spacing([5, 6, 7], [2.296875, 0.90625, 0.703125]).unwrap())
        .unwrap()
}

fn to_mm(mm: f64, convention: SpacingConvention) -> Step {
    Step::Space { mm: [mm; 3], convention }
}

#[test]
fn voxels_of_another_size_are_those_of_itk() {
    // a = ((numpy.arange(210) * 7919 % 101) * 13 - 600).astype("i2").reshape(5, 6, 7)
    // r = SimpleITK.ResampleImageFilter() of 2.5.7, linear, default 0, spacing 1.5, with
    // size = ceil(n * from / 1.5) and origin = 0.5 * (1.5 / from - 1) * from,
    // or floor(n * from / 1.5) around the same center; then the same of a.astype("f4").
    let space = |is_whole, convention| take_all(&small(is_whole), &[to_mm(1.5, convention)]);
    let whole = space(true, SpacingConvention::ItkCeil);
    assert_eq!(whole.shape(), [8, 4, 4]);
    let values = whole.to_f32();
    let first = [-179., -148., -140., 0., -141., 410., 250., 0., 258., 82., 46., 0.];
    assert_eq!(values[..12], first);
    assert_eq!(values[120..], [248., 342., 166., 0., 235., 59., -116., 0.]);
    assert_eq!(values.iter().sum::<f32>(), 4219.0);
    let exact = space(false, SpacingConvention::ItkCeil).to_f32();
    let sum: f64 = exact.iter().map(|v| f64::from(*v)).sum();
    assert!((sum - 4_223.687_261_901_8).abs() < 1e-9, "{sum}");
    assert_eq!(exact[..4], [-179.718_96, -148.137_92, -140.704_03, 0.0]);

    let whole = space(true, SpacingConvention::ItkCentered);
    assert_eq!(whole.shape(), [7, 3, 3]);
    let values = whole.to_f32();
    assert_eq!(values[..6], [-163., -487., 298., 88., 481., 214.]);
    assert_eq!(values[55..], [-232., -408., -225., 79., 385., 568., 392., 74.]);
    assert_eq!(values.iter().sum::<f32>(), 5201.0);
}

#[test]
fn labels_of_another_size_are_those_of_itk() {
    // The same filter with sitkNearestNeighbor, of numpy.arange(1, 211).
    let labels: Vec<u16> = (1..211).collect();
    for (convention, sum, first) in [
        (SpacingConvention::ItkCeil, 10296, [2, 4, 6, 0, 16, 18, 20, 0, 30]),
        (SpacingConvention::ItkCentered, 6720, [9, 11, 13, 23, 25, 27, 30, 32, 34]),
    ] {
        let map = take_all(&small(true), &[to_mm(1.5, convention)]).map().clone();
        let found = map.gather(&labels, NearestMode::NearestExact).unwrap();
        assert_eq!(found[..9], first);
        assert_eq!(found.iter().map(|v| u32::from(*v)).sum::<u32>(), sum);
    }
}

#[test]
fn voxels_of_another_size_are_those_of_monai() {
    // c = [numpy.arange(numpy.round((n - 1) * from / 1.5 + 1)) * 1.5 / from for each axis]
    // scipy.ndimage.map_coordinates(a.astype("f8"), numpy.meshgrid(*c, indexing="ij"),
    //                               order=1, mode="nearest")
    let prepared = take_all(&small(true), &[to_mm(1.5, SpacingConvention::Monai)]);
    assert_eq!(prepared.shape(), [7, 4, 4]);
    let values = prepared.to_f32();
    let recorded = [-600.0, 362.0, 11.0, -28.0, -65.133_71, -241.067_04, -341.109_4, 465.286_4];
    for (got, expected) in values[..4].iter().chain(&values[108..]).zip(recorded) {
        assert!((got - expected).abs() < 1e-4, "{got} {expected}");
    }
    let sum: f64 = values.iter().map(|v| f64::from(*v)).sum();
    assert!((sum - 3_358.244_381_89).abs() < 1e-3, "{sum}");
}

#[test]
fn voxels_of_another_size_are_those_of_torch() {
    // torch.nn.functional.interpolate(a[None, None].double(), size=[int(n * (f / 1.5)) for n, f in ..],
    //                                 mode="trilinear", align_corners=False), of a ramp along each axis:
    // cell i of n over m voxels is at max((i + 0.5) * m / n - 0.5, 0), and the last voxel goes on.
    let geometry = Geometry::with_spacing([1, 4, 5], [3.0, 9.0, 2.0]).unwrap();
    let ramp = |n: usize| 10.0 * (n / 5) as f32 + (n % 5) as f32;
    let volume = Volume::new((0..20).map(ramp).collect::<Vec<_>>(), geometry).unwrap();
    let prepared = take_all(&volume, &[to_mm(1.5, SpacingConvention::CtRate)]);
    // One slice becomes two, and rows are taken for as far apart as columns.
    assert_eq!(prepared.shape(), [2, 5, 6]);
    let at = |cell: usize, cells: f32, size: f32| {
        ((cell as f32 + 0.5) * size / cells - 0.5).clamp(0.0, size - 1.0)
    };
    for (n, value) in prepared.to_f32().into_iter().enumerate() {
        let (row, column) = (n / 6 % 5, n % 6);
        let expected = 10.0 * at(row, 5.0, 4.0) + at(column, 6.0, 5.0);
        assert!((value - expected).abs() < 1e-5, "{n}: {value} {expected}");
    }
}

#[test]
fn an_axis_that_is_almost_of_the_wanted_size_is_left_alone_by_monai() {
    let geometry = Geometry::with_spacing([5, 6, 7], [1.5009, 1.4991, 1.502]).unwrap();
    let volume = Volume::new((0..210).map(|n| n as f32).collect::<Vec<_>>(), geometry).unwrap();
    let prepared = take_all(&volume, &[to_mm(1.5, SpacingConvention::Monai)]);
    let values = prepared.to_f32();
    assert_eq!(prepared.shape(), [5, 6, 7]);
    // Along the third axis, a little less than one voxel further each time.
    let first = 1.5 / 1.502;
    for (got, expected) in values[..3].iter().zip([0.0, first, 2.0 * first]) {
        assert!((f64::from(*got) - expected).abs() < 1e-6, "{got}");
    }
    let rows: Vec<f32> = (0..30).map(|row| values[7 * row]).collect();
    assert_eq!(rows, (0..30).map(|row| 7.0 * row as f32).collect::<Vec<_>>());
}

#[test]
fn a_ramp_is_resampled_to_the_place_of_each_cell() {
    let geometry = Geometry::with_spacing([6, 7, 8], [2.0, 1.0, 0.5]).unwrap();
    let ramp = |n: usize| 100.0 * (n / 56) as f32 + 10.0 * (n / 8 % 7) as f32 + (n % 8) as f32;
    let values: Vec<f32> = (0..336).map(ramp).collect();
    let volume = Volume::new(values, geometry).unwrap();
    for convention in
        [SpacingConvention::ItkCeil, SpacingConvention::ItkCentered, SpacingConvention::Monai]
    {
        let turn = Step::Turn(AxisMap::TRANSPOSED);
        let prepared = take_all(&volume, &[to_mm(0.8, convention), turn]);
        let [d, h, w] = prepared.shape();
        let (back, values) = (prepared.map().inverse(), prepared.to_f32());
        let mut compared = 0;
        assert_eq!(values.len(), d * h * w);
        for (n, value) in values.into_iter().enumerate() {
            let at = back.point([n / (h * w), n / w % h, n % w].map(|n| n as f64));
            let shape = [6.0, 7.0, 8.0];
            // Nearer to the edge than a center, there is nothing to interpolate with.
            if (0..3).all(|axis| 0.0 <= at[axis] && at[axis] <= shape[axis] - 1.0) {
                let expected = 100.0 * at[0] + 10.0 * at[1] + at[2];
                assert!((f64::from(value) - expected).abs() < 1e-3, "{convention:?} {n}");
                compared += 1;
            }
        }
        assert!(200 < compared, "{compared}");
        let mm = prepared.map().geometry(volume.geometry()).unwrap().spacing_mm().unwrap();
        assert!(mm.iter().all(|mm| (mm - 0.8).abs() < 1e-6));
    }
}

#[test]
fn a_spacing_is_that_of_the_header_where_a_size_hangs_on_it() {
    // 1.12 as f32 is more than 1.12, and 150 of it more than 112 times 1.5 mm.
    let geometry = Geometry::with_spacing([4, 4, 150], [1.0, 1.0, 1.12]).unwrap();
    let volume = Volume::new(vec![0_i16; 2400], geometry).unwrap();
    let width = |convention| take_all(&volume, &[to_mm(1.5, convention)]).shape()[2];
    assert_eq!(width(SpacingConvention::ItkCeil), 113);
    assert_eq!(width(SpacingConvention::Monai), 112);
}

#[test]
fn values_above_0_have_mean_0_and_deviation_1() {
    // v = numpy.array([-50, 0, 1, 2, 4, 9]); p = v[v > 0]; (v - p.mean()) / p.std(ddof=1)
    let v = volume([1, 2, 3], |n| [-50.0, 0.0, 1.0, 2.0, 4.0, 9.0][n]);
    let normalized = take_all(&v, &[Step::NormalizePositive]).to_f32();
    let expected = [-15.172_69, -1.123_902_9, -0.842_927_2, -0.561_951_5, 0.0, 1.404_878_7];
    for (got, expected) in normalized.iter().zip(expected) {
        assert!((got - expected).abs() < 1e-5, "{normalized:?}");
    }
    // Padding is a value as any other.
    let pad = Step::Window { start: [0, 0, -1], shape: [1, 2, 4] };
    let padded = take_all(&v, &[pad, Step::NormalizePositive]).to_f32();
    assert_eq!([padded[0], padded[4]], [normalized[1]; 2]);
    assert_eq!(padded[1..4], normalized[..3]);
    for values in [[0.0; 6], [-1.0, 0.0, 3.0, 3.0, 3.0, 3.0], [-1.0, 0.0, 3.0, 0.0, 0.0, 0.0]] {
        let error = prepare(&volume([1, 2, 3], |n| values[n]), &[Step::NormalizePositive]);
        assert_eq!(error.unwrap_err().code(), "R-PRE-03");
    }
}

#[test]
fn a_window_is_a_part_of_the_grid_and_padding_beyond_it() {
    let v = volume([4, 5, 6], |n| n as f32 + 1.0);
    let whole = take_all(&v, &[]);
    let window = |start, shape| whole.then(&[Step::Window { start, shape }]).unwrap();
    let prepared = window([-2, 0, 4], [4, 4, 2]);
    assert_eq!(prepared.map().cell_of([0, 2, 5]), Some([2, 2, 1]));
    assert_eq!(prepared.crop(), Region { start: [0, 0, 4], end: [2, 4, 6] });
    let values = prepared.to_f32();
    assert!(values[..16].iter().all(|v| *v == 0.0));
    assert_eq!(values[16..20], [5.0, 6.0, 11.0, 12.0]);
    let mask = prepared.map().mask_to_source(&[1; 32], NearestMode::NearestExact).unwrap();
    assert_eq!(mask.iter().filter(|v| **v == 1).count(), 16);
    assert_eq!(window([0, 1, 2], [4, 4, 2]).crop(), Region { start: [0, 1, 2], end: [4, 5, 4] });
    assert!(window([9; 3], [2; 3]).to_f32().iter().all(|v| *v == 0.0));
    // Other windows have left it as it is.
    assert_eq!(whole.to_f32(), v.voxels().to_f32().into_owned());
    assert!(std::ptr::eq(prepared.stored().voxels(), v.voxels()));
}

#[test]
fn padding_is_0_where_it_is_added_and_changes_with_what_comes_after() {
    let v = volume([1, 1, 5], |n| [-300.0, 0.0, 100.0, 300.0, 700.0][n]);
    let signed = Step::RescaleSigned(Ends::Fixed { low: -300.0, high: 500.0 });
    let wide = Step::Window { start: [0, 0, -1], shape: [1, 1, 7] };
    // -1, -0.25, 0, 0.5 and 1 between zeros, of which the last two are above 0.
    let padded = take_all(&v, &[signed, wide]);
    assert_eq!(padded.to_f32(), [0.0, -1.0, -0.25, 0.0, 0.5, 1.0, 0.0]);
    let (mean, std) = (0.75_f32, 0.125_f32.sqrt());
    let expected = [0.0, -1.0, -0.25, 0.0, 0.5, 1.0, 0.0].map(|v| (v - mean) / std);
    let normalized = padded.then(&[Step::NormalizePositive]).unwrap();
    assert_eq!(normalized.to_f32(), expected);
    // A second margin is 0 around a first that is not any more, whichever way the axes run.
    let reverse = AxisMap::between("LPS".parse().unwrap(), "RPS".parse().unwrap());
    let again = Step::Window { start: [0, -1, 1], shape: [2, 3, 7] };
    let both = normalized.then(&[Step::Turn(reverse), again]).unwrap();
    let mut row = expected.iter().rev().copied().skip(1).collect::<Vec<f32>>();
    row.push(0.0);
    let values = both.to_f32();
    assert_eq!(values[7..14], row);
    assert!(values[..7].iter().chain(&values[14..]).all(|v| *v == 0.0));
    // Cropped to a part of the first margin, and to one of the second.
    let cell = |start| both.then(&[Step::Window { start, shape: [1; 3] }]).unwrap().to_f32();
    assert_eq!((cell([0, 1, 5]), cell([0, 1, 6])), (vec![expected[0]], vec![0.0]));
    // Without padding between them, steps of intensities are what they were.
    let raw = take_all(&v, &[wide, signed]);
    assert_eq!(raw.to_f32()[0], -0.25);
}

#[test]
fn values_are_brought_to_minus_1_and_1_as_monai_does_it() {
    // v = (numpy.arange(1000) * 7919 % 1013 - 400).astype("f4")
    // low, high = numpy.percentile(v, [0.05, 99.95]).astype("f4")
    // r = numpy.clip((v - low) / (high - low) * numpy.float32(2) + numpy.float32(-1), -1, 1)
    let v = volume([10, 10, 10], |n| (n * 7919 % 1013) as f32 - 400.0);
    let step = Step::RescaleSigned(Ends::Percentiles([0.05, 99.95]));
    let prepared = take_all(&v, &[step]);
    let values = prepared.to_f32();
    assert_eq!(values[..6], [-1.0, 0.63699245, 0.2710185, -0.094955385, -0.46092933, -0.8269032]);
    assert_eq!([values[0], values[564]], [-1.0, 1.0]);
    let sum: f64 = values.iter().map(|v| f64::from(*v)).sum();
    assert!((sum - 1.7527185082435608).abs() < 1e-9, "{sum}");
    let constant = volume([2; 3], |_| 7.0);
    assert_eq!(take_all(&constant, &[step]).to_f32(), [-1.0; 8]);
    // Nothing is above 0, and nothing is said of what became of it.
    let cropped = take_all(&constant, &[step, Step::CropForeground { margin: 0 }]);
    assert_eq!(cropped.warnings()[0].text, "no voxel stands out: none is above 0");
}

#[test]
fn a_body_is_brought_to_ras_and_another_size_and_its_mask_back() {
    // i to the posterior, j to the left, k upwards; 0.75 x 1.25 x 3 mm (i, j, k).
    let affine = crate::affine::from_rows([
        [0.0, -1.25, 0.0, 30.0],
        [-0.75, 0.0, 0.0, 20.0],
        [0.0, 0.0, 3.0, -9.0],
    ]);
    let geometry = Geometry::with_affine([8, 20, 24], affine).unwrap();
    let ball = |n: usize| {
        let [k, j, i] = [n / 480, n / 24 % 20, n % 24].map(|n| n as f64);
        let [x, y, z] = geometry.world_mm([i, j, k]).unwrap();
        (x - 15.0).hypot(y - 11.0).hypot(z - 3.0) < 7.0
    };
    let values: Vec<i16> = (0..3840).map(|n| if ball(n) { 300 } else { -100 }).collect();
    let volume = Volume::new(values, geometry.clone()).unwrap();
    let steps = [to_mm(1.5, SpacingConvention::ItkCeil), Step::Orient(Orientation::RAS)];
    let whole = take_all(&volume, &steps);
    let center = whole.map().cell_at_mm(&geometry, [15.0, 11.0, 3.0]).unwrap();
    let start = crop_around(Region::at(center, [1; 3]), [16; 3]);
    let prepared = whole.then(&[Step::Window { start, shape: [16; 3] }]).unwrap();
    assert_eq!(prepared.shape(), [16; 3]);
    let placed = prepared.map().geometry(&geometry).unwrap();
    assert_eq!(placed.orientation(), Some(Orientation::RAS));
    assert!(placed.spacing_mm().unwrap().iter().all(|mm| (mm - 1.5).abs() < 1e-6));
    let mask: Vec<u8> = prepared.to_f32().iter().map(|v| u8::from(100.0 < *v)).collect();
    for (n, inside) in mask.iter().enumerate() {
        let [k, j, i] = [n / 256, n / 16 % 16, n % 16].map(|n| n as f64);
        let [x, y, z] = placed.world_mm([i, j, k]).unwrap();
        let mm = (x - 15.0).hypot(y - 11.0).hypot(z - 3.0);
        assert!((*inside == 1) == (mm < 7.0) || (mm - 7.0).abs() < 2.0, "{mm} mm: {inside}");
    }
    let back = prepared.map().mask_to_source(&mask, NearestMode::NearestExact).unwrap();
    let differ = (0..3840).filter(|n| (back[*n] == 1) != ball(*n)).count();
    let voxels = (0..3840).filter(|n| ball(*n)).count();
    assert!(400 < voxels && differ * 6 < voxels, "{differ} of {voxels}");
}

#[test]
fn steps_see_what_those_before_them_have_left() {
    let v = volume([2, 3, 4], |n| n as f32 * 10.0 - 50.0);
    // The values above 100 are 110..=180, of which 20 are below 130 once they are clipped.
    let clip = Step::Clip { low: 0.0, high: 130.0 };
    let steps = [clip, Step::Rescale(Ends::MinMax), Step::CropForeground { margin: 0 }];
    let prepared = take_all(&v, &steps);
    assert_eq!(prepared.crop(), Region::whole([2, 3, 4]));
    let values = prepared.to_f32();
    assert_eq!([values[0], values[6], values[18], values[23]], [0.0, 10.0 / 130.0, 1.0, 1.0]);
    // A crop of what is turned, and of a part.
    let part = Step::Window { start: [0, 1, 1], shape: [2, 2, 2] };
    let turn = Step::Turn(AxisMap::TRANSPOSED);
    for scale in [1.0, -1.0] {
        let scale = Scale { slope: scale, inter: 0.0 };
        let stored = (0..24).map(|n| if n == 17 { 9 } else { -5 }).collect::<Vec<i16>>();
        let voxels = Voxels::I16 { stored, scale };
        let v = Volume::new(voxels, Geometry::without_affine([2, 3, 4])).unwrap();
        let crop = |steps: &[Step]| take_all(&v, steps).crop();
        let alone = crop(&[Step::CropForeground { margin: 0 }]);
        assert_eq!(crop(&[turn, Step::CropForeground { margin: 0 }]), alone);
        if 0.0 < scale.slope {
            assert_eq!(alone, Region::at([1, 1, 1], [1; 3]));
            assert_eq!(crop(&[part, turn, Step::CropForeground { margin: 0 }]), alone);
        }
    }
}

#[test]
fn what_a_step_needs_to_know_is_asked_for() {
    let bare = volume([4; 3], |n| n as f32);
    let code = |volume: &Volume, step| prepare(volume, &[step]).unwrap_err().code();
    assert_eq!(code(&bare, to_mm(1.5, SpacingConvention::Monai)), "R-GEO-14");
    assert_eq!(code(&bare, Step::Orient(Orientation::RAS)), "R-GEO-11");
    let placed = small(true);
    assert_eq!(code(&placed, to_mm(0.0, SpacingConvention::Monai)), "R-GEO-03");
    assert_eq!(code(&placed, to_mm(1e-3, SpacingConvention::ItkCeil)), "R-GEO-13");
    let nothing = Step::Window { start: [0; 3], shape: [1, 0, 1] };
    assert_eq!(code(&placed, nothing), "R-GEO-06");
}
