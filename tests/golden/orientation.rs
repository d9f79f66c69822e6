//! A model that sees volumes in one orientation finds the same in the same body, however it is stored.

use std::collections::BTreeSet;

use r1seg::volume::{AxisMap, Geometry, Mask, Region, Volume};
use r1seg::{
    AskOptions, CheckpointSource, DtypeChoice, EncodeOptions, InferenceMode, LoadOptions, M3dClip,
    Orient, Orientation, Preprocess, Prompt, PromptPoint, PromptableModel, Recipe, RunContext,
    Separator,
};

use crate::case::{Expected, data, device, load, on_device, volume};

const LPS: Orient = Orient::To(Orientation::LPS);
const UNCHANGED: Preprocess = Preprocess::Recipe(Recipe::None);
/// Of a voxel from right to left, anterior to posterior, inferior to superior.
const MM: [f64; 3] = [2.0, 3.0, 5.0];

/// All 48.
fn orientations() -> Vec<Orientation> {
    let pairs = ["LR", "PA", "IS"];
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let codes = |order: [usize; 3], signs: usize| -> String {
        (0..3).map(|n| char::from(pairs[order[n]].as_bytes()[signs >> n & 1])).collect()
    };
    let all = orders.into_iter().flat_map(|order| (0..8).map(move |signs| codes(order, signs)));
    all.map(|codes| codes.parse().unwrap()).collect()
}

/// A recorded volume, taken for LPS, as it would be stored in another orientation.
fn stored(recorded: &Volume, orientation: Orientation) -> Volume {
    let map = AxisMap::between(Orientation::LPS, orientation);
    let voxels = map.data(&recorded.voxels().to_f32(), recorded.shape()).unwrap();
    let [d, h, w] = recorded.shape();
    let far = [(w, 0), (h, 1), (d, 2)].map(|(size, axis)| (size - 1) as f64 * MM[axis]);
    let mut affine = [[0.0; 4]; 4];
    affine[3][3] = 1.0;
    for (column, code) in orientation.to_string().chars().enumerate() {
        let (axis, sign) = match code {
            'R' => (0, 1.0),
            'L' => (0, -1.0),
            'A' => (1, 1.0),
            'P' => (1, -1.0),
            'S' => (2, 1.0),
            _ => (2, -1.0),
        };
        affine[axis][column] = sign * MM[axis];
        affine[axis][3] = if sign < 0.0 { far[axis] } else { 0.0 };
    }
    let geometry = Geometry::with_affine(map.shape(recorded.shape()), affine).unwrap();
    assert_eq!(geometry.orientation(), Some(orientation));
    Volume::new(voxels, geometry).unwrap()
}

/// Where a mask is in the body, mm.
fn places(mask: &Mask, volume: &Volume) -> BTreeSet<[i64; 3]> {
    assert_eq!(mask.geometry(), volume.geometry());
    let [_, h, w] = mask.shape();
    let inside = mask.data().iter().enumerate().filter(|(_, label)| **label == 1);
    let mm = |n: usize| {
        let ijk = [n % w, n / w % h, n / w / h].map(|n| n as f64);
        mask.geometry().world_mm(ijk).unwrap().map(|mm| mm.round() as i64)
    };
    inside.map(|(n, _)| mm(n)).collect()
}

#[test]
fn the_same_body_stored_in_all_48_axis_orders_gets_the_same_answers_and_masks_in_mm() {
    let model = load("phi3", DtypeChoice::F32);
    let recorded = volume("phi3/golden/volume.npy");
    let options = EncodeOptions::default().with_preprocess(UNCHANGED).with_orient(LPS);
    let ask = AskOptions::default().with_separator(Separator::None);
    let [mask, words] = ["case0", "case3"].map(|n| Expected::read(&format!("phi3/golden/{n}")));
    let mut seen = BTreeSet::new();
    for orientation in orientations() {
        let volume = stored(&recorded, orientation);
        let encoded = model.encode_with(&volume, &options, &mut RunContext::default()).unwrap();
        assert_eq!(encoded.orientation(), Some(Orientation::LPS));
        assert!(encoded.warnings().is_empty(), "{:?}", encoded.warnings());
        let answers = encoded.ask_many(&[&mask.prompt, &words.prompt], &ask).unwrap();
        assert_eq!(answers[0].text, mask.text);
        let places = places(answers[0].mask.as_ref().unwrap(), &volume);
        assert_eq!(places.len(), 4661, "{orientation}");
        // A box in the answer, too.
        let region = answers[1].boxes[0].region.unwrap();
        let corners = volume.geometry().region_to_mm(region).unwrap();
        seen.insert((places, corners.map(|corner| corner.map(|mm| mm.round() as i64))));
    }
    assert_eq!(seen.len(), 1);

    // As they are stored, they are not the same to the model.
    let options = EncodeOptions::default().with_preprocess(UNCHANGED);
    let as_stored = stored(&recorded, "PSR".parse().unwrap());
    let encoded = model.encode_with(&as_stored, &options, &mut RunContext::default()).unwrap();
    let codes: Vec<_> = encoded.warnings().iter().map(|warning| warning.code).collect();
    assert!(codes.contains(&"W-ORIENT"), "{codes:?}");
    assert_eq!(encoded.orientation(), as_stored.geometry().orientation());
    let answer = encoded.ask_with(&mask.prompt, &ask, &mut RunContext::default()).unwrap();
    let places = answer.mask.map(|mask| places(&mask, &as_stored));
    assert!(seen.iter().all(|(expected, _)| Some(expected) != places.as_ref()));
}

#[test]
fn a_resized_volume_is_reported_along_the_axes_of_its_file() {
    let model = load("phi3", DtypeChoice::F32);
    let volume = stored(&volume("phi3/golden/sliding.volume.npy"), "PSL".parse().unwrap());
    let options = EncodeOptions::default().with_preprocess(UNCHANGED).with_orient(LPS);
    let encoded = model.encode_with(&volume, &options, &mut RunContext::default()).unwrap();
    let ([d, h, w], [slices, rows, columns]) = (volume.shape(), model.input_shape());
    let expected = format!(
        "the volume of {w} x {h} x {d} voxels (i, j, k) was resized to {rows} x {slices} x {columns}"
    );
    let texts: Vec<_> = encoded.warnings().iter().map(|warning| warning.text.as_str()).collect();
    assert_eq!(texts, [expected]);
}

#[test]
fn windows_and_questions_about_boxes_follow_the_orientation() {
    let recorded = volume("phi3/golden/sliding.volume.npy");
    let model = load("phi3", DtypeChoice::F32);
    let about = load("m3d-phi3", DtypeChoice::F32);
    let small = volume("m3d-phi3/golden/volume.npy");
    let options = EncodeOptions::default().with_preprocess(UNCHANGED).with_orient(LPS);
    let region = Region { start: [2, 8, 10], end: [13, 41, 40] };
    let (mut masks, mut answers) = (BTreeSet::new(), BTreeSet::new());
    for codes in ["LPS", "RAS", "LAI", "PSL", "SRA"] {
        let orientation: Orientation = codes.parse().unwrap();
        let volume = stored(&recorded, orientation);
        let encoded = model
            .encode_with(
                &volume,
                &options.clone().with_mode(InferenceMode::Sliding),
                &mut RunContext::default(),
            )
            .unwrap();
        let ask = AskOptions::default().with_separator(Separator::None);
        let question = Expected::read("phi3/golden/case0").prompt;
        let answer = encoded.ask_with(&question, &ask, &mut RunContext::default()).unwrap();
        masks.insert(places(answer.mask.as_ref().unwrap(), &volume));

        let volume = stored(&small, orientation);
        let encoded = about.encode_with(&volume, &options, &mut RunContext::default()).unwrap();
        let map = AxisMap::between(Orientation::LPS, orientation);
        let question =
            Prompt::of_text("What is in {box}?").with_region(map.region(region, small.shape()));
        let answer = encoded.ask(question).unwrap();
        answers.insert((answer.prompt_tokens, answer.token_ids));
    }
    assert_eq!((masks.len(), answers.len()), (1, 1));
    assert!(masks.iter().all(|places| !places.is_empty()));
}

#[test]
fn points_boxes_and_zoomed_parts_stay_where_they_are_in_the_body() {
    let source = |case: &str| CheckpointSource::Folder(data(case));
    let load_options = LoadOptions::default().with_device(device()).with_dtype(DtypeChoice::F32);
    let model = PromptableModel::load_with(source("segvol"), &load_options).unwrap();
    let recorded = volume("segvol/golden/volume.npy");
    let region = Region { start: [3, 10, 12], end: [12, 40, 50] };
    let point = Region::at([7, 20, 31], [1; 3]);
    let mut found = BTreeSet::new();
    for codes in ["LPS", "RAS", "LAI", "PSL", "SRA"] {
        let orientation: Orientation = codes.parse().unwrap();
        let volume = stored(&recorded, orientation);
        let map = AxisMap::between(Orientation::LPS, orientation);
        let there = |region: Region| map.region(region, recorded.shape());
        let segment = |mode, prompt: &Prompt| {
            let options = EncodeOptions::default().with_preprocess(UNCHANGED).with_orient(LPS);
            let encoded = model
                .encode_with(&volume, &options.with_mode(mode), &mut RunContext::default())
                .unwrap();
            assert_eq!(encoded.orientation(), Some(Orientation::LPS));
            let found = encoded.segment(prompt).unwrap();
            let zoomed = found.zoomed.and_then(|part| volume.geometry().region_to_mm(part));
            let zoomed = zoomed.map(|corners| corners.map(|c| c.map(|mm| mm.round() as i64)));
            (places(found.mask.as_ref().unwrap(), &volume), zoomed)
        };
        let text = Prompt::of_text("liver");
        let boxed = text.clone().with_region(there(region));
        let pointed = text.with_point(PromptPoint::positive(there(point).start));
        found.insert([
            segment(InferenceMode::Resize, &boxed),
            segment(InferenceMode::Zoom, &boxed),
            segment(InferenceMode::Zoom, &pointed),
        ]);
    }
    assert_eq!(found.len(), 1);
    assert!(found.iter().flatten().all(|(places, _)| !places.is_empty()));

    let clip = M3dClip::load_with(source("m3d-clip"), &load_options).unwrap();
    let options = EncodeOptions::default().with_preprocess(UNCHANGED);
    let embed = |codes: &str, orient| {
        let volume = stored(&recorded, codes.parse().unwrap());
        clip.embed_volume_with(
            &volume,
            &options.clone().with_orient(orient),
            &mut RunContext::default(),
        )
        .unwrap()
        .embedding
    };
    let expected = embed("LPS", Orient::Stored);
    assert!(["RAS", "PSL", "SRA"].iter().all(|codes| embed(codes, LPS) == expected));
    assert_ne!(embed("RAS", Orient::Stored), expected);
}

#[test]
fn the_demo_model_has_seen_one_orientation_and_published_models_many() {
    let recorded = volume("phi3/golden/volume.npy");
    let codes = |model: &r1seg::R1SegModel, codes: &str, orient| {
        let volume = stored(&recorded, codes.parse().unwrap());
        let options = EncodeOptions::default().with_preprocess(UNCHANGED).with_orient(orient);
        let encoded = model.encode_with(&volume, &options, &mut RunContext::default()).unwrap();
        encoded.warnings().iter().filter(|warning| warning.code == "W-ORIENT").count()
    };
    let demo = r1seg::R1SegModel::load_with("demo", &on_device()).unwrap();
    assert_eq!(codes(&demo, "LPS", Orient::Stored), 0);
    assert_eq!(codes(&demo, "RAS", Orient::Stored), 1);
    assert_eq!(codes(&demo, "PSL", LPS), 0);
    let published = load("phi3", DtypeChoice::F32);
    assert_eq!(codes(&published, "RAS", Orient::Stored), 0);
    assert_eq!(codes(&published, "LAI", Orient::Stored), 0);
    assert_eq!(codes(&published, "PSL", Orient::Stored), 1);
}

#[test]
fn a_volume_of_unknown_orientation_is_not_turned() {
    let model = load("phi3", DtypeChoice::F32);
    let options = EncodeOptions::default().with_orient(LPS);
    let error = model
        .encode_with(&volume("phi3/golden/volume.npy"), &options, &mut RunContext::default())
        .unwrap_err();
    assert_eq!((error.code(), error.kind()), ("R-GEO-11", r1seg::ErrorKind::Usage));
    assert_eq!(error.remedy(), Some(r1seg::Remedy::GiveOrientation));
}
