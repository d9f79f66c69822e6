//! Objects that are larger than a crop of SAM-Med3D.

use std::sync::Arc;

use r1seg::volume::{Geometry, Mask, Volume};
use r1seg::{
    EncodeOptions, EncodedVolume, InferenceMode, Outcome, Prompt, PromptPoint, PromptableModel,
    RunContext,
};

use crate::case::{data, dice, on_device};

/// Voxels of 1.5 mm: 150 x 150 x 330 mm.
const SHAPE: [usize; 3] = [220, 100, 100];
/// Slices of the organ, which is 250 mm long.
const LONG: std::ops::Range<usize> = 27..194;

/// A body with a long organ in it, as bright and as grainy as those that the recorded model was trained
/// on: tissue from 10 to 50 HU, the organ from 110 to 150.
fn body() -> (Volume, Vec<bool>) {
    let [d, h, w] = SHAPE;
    let (mut voxels, mut organ) = (Vec::with_capacity(d * h * w), Vec::new());
    for z in 0..d {
        for y in 0..h {
            for x in 0..w {
                let (dy, dx) = (y as f64 - 50.0, x as f64 - 50.0);
                let in_body = (dy / 46.0).powi(2) + (dx / 46.0).powi(2) < 1.0;
                // It sways from side to side, and is 16 voxels thick.
                let sway = (z as f64 / 30.0).sin() * 6.0;
                let in_organ =
                    LONG.contains(&z) && (dy.powi(2) + (dx - sway).powi(2)).sqrt() < 16.0;
                // Grains of four voxels.
                let seed = (z / 4 * 7919 + y / 4 * 104_729 + x / 4 * 1_299_709) as u32;
                let grain = (seed.wrapping_mul(2_654_435_761) >> 16) % 41;
                let hu = match (in_body, in_organ) {
                    (_, true) => 110 + grain as i16,
                    (true, false) => 10 + grain as i16,
                    (false, false) => -1000,
                };
                voxels.push(hu);
                organ.push(in_organ);
            }
        }
    }
    let geometry = Geometry::with_spacing(SHAPE, [1.5; 3]).unwrap();
    (Volume::new(voxels, geometry).unwrap(), organ)
}

fn set(mask: &Mask) -> Vec<bool> {
    mask.data().iter().map(|v| *v != 0).collect()
}

/// How many of the organ's slices have a voxel of it in a mask.
fn slices_found(mask: &[bool], organ: &[bool]) -> usize {
    let slice = SHAPE[1] * SHAPE[2];
    let hit = |z: &usize| {
        let range = z * slice..(z + 1) * slice;
        mask[range.clone()].iter().zip(&organ[range]).any(|(m, o)| *m && *o)
    };
    LONG.filter(hit).count()
}

fn encode(mode: InferenceMode, volume: &Volume) -> EncodedVolume {
    let model = PromptableModel::load_with(data("sam-med3d-tubes"), &on_device()).unwrap();
    let options = EncodeOptions::default().with_mode(mode);
    model.encode_with(volume, &options, &mut RunContext::default()).unwrap()
}

#[test]
fn points_and_an_earlier_mask_reach_beyond_the_first_crop() {
    let (volume, organ) = body();
    let encoded = encode(InferenceMode::Grow, &volume);
    // Two ends, of which no crop shows both, and a point beside the organ.
    let ends = Prompt::default()
        .with_point(PromptPoint::positive([35, 50, 55]))
        .with_point(PromptPoint::positive([185, 50, 49]))
        .with_point(PromptPoint::negative([110, 50, 90]));
    let found = encoded.segment(&ends).unwrap();
    let score = dice(&set(found.mask.as_ref().unwrap()), &organ);
    assert!(score > 0.94, "{score}");
    let earlier = organ.iter().map(|v| u8::from(*v)).collect();
    let earlier = Arc::new(Mask::new(earlier, volume.geometry().clone()).unwrap());
    let click = PromptPoint::positive([110, 50, 47]);
    let corrected = Prompt::default().with_mask(earlier).with_point(click);
    let score = dice(&set(encoded.segment(&corrected).unwrap().mask.as_ref().unwrap()), &organ);
    assert!(score > 0.94, "{score}");
    // A center from which nothing that was prompted is seen.
    let elsewhere = Prompt::default().with_point(PromptPoint::positive([35, 50, 55]));
    let error = encoded.segment(elsewhere.with_center([200, 50, 50])).unwrap_err().to_string();
    assert!(error.contains("outside of the 128 x 128 x 128 voxels"), "{error}");
}

#[test]
fn a_session_goes_on_from_an_earlier_mask_and_takes_grown_masks_back() {
    let (volume, _) = body();
    let mut run = RunContext::default();
    let mut session = encode(InferenceMode::Grow, &volume).session();
    let first = session.click(PromptPoint::positive([110, 50, 47]), &mut run).unwrap();
    let second = session.click(PromptPoint::negative([60, 50, 80]), &mut run).unwrap();
    let back = session.undo(&mut run).unwrap().unwrap();
    assert_eq!((back.mask, back.windows), (first.mask.clone(), first.windows));
    assert!(second.windows >= 3);
    let at_once =
        Prompt::default().with_point(PromptPoint::negative([60, 50, 80])).with_points_at_once();
    assert!(session.add(at_once, &mut run).unwrap().mask.is_some());
    assert_eq!((session.steps(), session.prompt().points.len()), (2, 2));

    let mut session = encode(InferenceMode::Crop, &volume).session();
    let mask = Prompt::default().with_mask(Arc::new(first.mask.unwrap()));
    let told = session.add(mask, &mut run).unwrap();
    let clicked = session.click(PromptPoint::positive([110, 50, 47]), &mut run).unwrap();
    assert_eq!(told.zoomed, clicked.zoomed, "the crop around the mask stays");
}

#[test]
fn an_organ_of_250_mm_is_found_from_end_to_end_where_one_crop_cannot() {
    let (volume, organ) = body();
    let click = Prompt::default().with_point(PromptPoint::positive([110, 50, 47]));
    let run = |mode| -> Outcome { encode(mode, &volume).segment(&click).unwrap() };
    let (one, grown) = (run(InferenceMode::Crop), run(InferenceMode::Grow));
    let [of_one, of_grown] = [&one, &grown].map(|found| set(found.mask.as_ref().unwrap()));
    let scores = [&of_one, &of_grown].map(|mask| dice(mask, &organ));
    // Measured: 0.846 and 0.965.
    assert!(scores[0] < 0.87 && scores[1] > 0.94, "{scores:?}");
    assert_eq!(one.warnings[0].code, "W-EDGE");
    assert_eq!((one.windows, slices_found(&of_one, &organ)), (1, 128));
    assert!(grown.warnings.is_empty(), "{:?}", grown.warnings);
    assert_eq!(slices_found(&of_grown, &organ), LONG.len());
    let first = of_grown.iter().position(|v| *v).unwrap() / (SHAPE[1] * SHAPE[2]);
    let last = of_grown.iter().rposition(|v| *v).unwrap() / (SHAPE[1] * SHAPE[2]);
    assert!(first > 15 && last < 205, "{first}..={last}");
}
