//! `compare`: two masks or label maps, as a user has them and as they should not be.

use std::fs;
use std::path::PathBuf;

use r1seg::volume::{
    Geometry, LabelMap, Mask, Overwrite, Segment, Segmentation, Volume, write_labels,
    write_segmentation, write_volume,
};
use serde_json::Value;

use crate::schema::assert_keeps_to;
use crate::usage::snapshot;
use crate::{Desk, Run, finish};

const SHAPE: [usize; 3] = [12, 20, 24];

fn geometry() -> Geometry {
    Geometry::with_spacing(SHAPE, [2.0, 1.0, 1.0]).unwrap()
}

/// Voxels of a box of 4 x 8 x 8 voxels that begins at `[D, H, W]`.
fn cube(at: [usize; 3]) -> impl Fn(usize) -> bool {
    move |n: usize| {
        let [_, h, w] = SHAPE;
        let place = [n / (h * w), n / w % h, n % w];
        let size = [4, 8, 8];
        (0..3).all(|n| (at[n]..at[n] + size[n]).contains(&place[n]))
    }
}

/// A label map of boxes by number.
fn labels(boxes: &[(u16, [usize; 3])]) -> LabelMap {
    let mut map = LabelMap::new(geometry());
    for (label, at) in boxes {
        let inside = cube(*at);
        let data = (0..SHAPE.iter().product()).map(|n| u8::from(inside(n))).collect();
        map.push_as(*label, &Mask::new(data, geometry()).unwrap()).unwrap();
    }
    map
}

fn write(desk: &Desk, name: &str, boxes: &[(u16, [usize; 3])]) -> PathBuf {
    write_labels(desk.path(name), &labels(boxes), Overwrite::Refuse).unwrap();
    desk.path(name)
}

/// Two label maps: label 1 is moved by a voxel, label 3 is missing in the second.
fn pair(desk: &Desk) {
    write(desk, "a.nii.gz", &[(1, [1, 2, 2]), (3, [6, 10, 12])]);
    write(desk, "b.nii.gz", &[(1, [1, 2, 3])]);
}

fn compare(desk: &Desk, options: &str) -> Run {
    desk.run(["compare"].into_iter().chain(options.split_whitespace()))
}

/// What is printed with `--json`, which keeps to its schema.
fn report(desk: &Desk, options: &str) -> Value {
    let run = compare(desk, &format!("{options} --json"));
    let report = serde_json::from_str(&run.succeeds().stdout).unwrap();
    assert_keeps_to("compare", &report);
    report
}

#[test]
fn labels_are_scored_one_by_one_in_a_table() {
    let desk = Desk::new();
    pair(&desk);
    fs::write(desk.path("names.json"), r#"{"1": "liver", "3": "spleen"}"#).unwrap();
    let run = compare(&desk, "a.nii.gz b.nii.gz --names names.json");
    snapshot(&desk, "compare", &run.succeeds().stdout);
    assert_eq!(run.stderr, "");
    snapshot(&desk, "help_compare", &desk.run(["compare", "--help"]).succeeds().stdout);
}

#[test]
fn the_json_holds_every_convention_by_name() {
    let desk = Desk::new();
    pair(&desk);
    let report = report(&desk, "a.nii.gz b.nii.gz");
    let [moved, missing] = [0, 1].map(|n| &report["labels"][n]);
    assert_eq!(moved["dice"], 0.875);
    assert_eq!(moved["iou"], 224.0 / 288.0);
    for distance in ["hausdorff_mm", "hd95_directed_mm", "hd95_pooled_mm", "hd95_surfels_mm"] {
        assert_eq!(moved[distance], 1.0, "{distance}");
    }
    assert_eq!(moved["surface_dice"], 1.0);
    assert_eq!((&moved["volume_a_ml"], &moved["label_b"]), (&0.512.into(), &1.into()));
    assert_eq!((&missing["dice"], &missing["recall"]), (&0.0.into(), &0.0.into()));
    assert_eq!((&missing["precision"], &missing["assd_mm"]), (&Value::Null, &Value::Null));
    assert_eq!(report["mean"]["dice"], 0.4375);
    assert_eq!(report["worst_slice"]["axis"], "k");
    let tolerance = compare(&desk, "a.nii.gz b.nii.gz --tolerance-mm 0.5 --label 1");
    tolerance.succeeds();
    assert!(tolerance.stdout.contains("NSD 0.5 mm") && !tolerance.stdout.contains("mean"));
}

#[test]
fn labels_without_voxels_are_scored_by_the_policy_that_is_chosen() {
    let desk = Desk::new();
    pair(&desk);
    write(&desk, "none.nii.gz", &[]);
    let of = |options: &str| report(&desk, options)["labels"].clone();
    let swapped = "b.nii.gz a.nii.gz --empty";
    assert_eq!(of(&format!("{swapped} formula"))[1]["dice"], 0.0);
    assert_eq!(of(&format!("{swapped} skip-absent"))[1]["dice"], Value::Null);
    let rewarded = of("a.nii.gz b.nii.gz --empty reward-absent");
    let diagonal = f64::hypot(24.0, 20.0).hypot(24.0);
    assert!((rewarded[1]["hausdorff_mm"].as_f64().unwrap() - diagonal).abs() < 1e-9);
    let run = compare(&desk, "a.nii.gz none.nii.gz");
    run.succeeds().says("warning[W-EMPTY]: B has no voxel");
    let none = compare(&desk, "none.nii.gz none.nii.gz");
    none.fails(65, "R-CMP-05").says("--empty reward-absent");
    let agreed = report(&desk, "none.nii.gz none.nii.gz --any-label --empty reward-absent");
    assert_eq!(agreed["labels"][0]["dice"], Value::Null, "no label has voxels: {agreed}");
}

#[test]
fn names_come_from_segmentations_and_from_labels_json() {
    let desk = Desk::new();
    let (a, b) =
        (labels(&[(1, [1, 2, 2]), (2, [6, 10, 12])]), labels(&[(1, [6, 10, 12]), (2, [1, 2, 2])]));
    let segment = |name: &str| Segment::new(name, [9, 9, 9]);
    let named = Segmentation::new(&a, vec![segment("Liver"), segment("left kidney")]).unwrap();
    write_segmentation(desk.path("a.seg.nrrd"), &named, Overwrite::Refuse).unwrap();
    write_labels(desk.path("b.nii.gz"), &b, Overwrite::Refuse).unwrap();
    let names = r#"{"1": {"name": "left_kidney", "file": null}, "2": {"name": "liver", "file": "b.nii.gz"}}"#;
    fs::write(desk.path("labels.json"), names).unwrap();
    let by_number = compare(&desk, "a.seg.nrrd b.nii.gz");
    by_number.succeeds().says("warning[W-NAMES]: label 1 is `Liver` in A and `left_kidney` in B");
    let report = report(&desk, "a.seg.nrrd b.nii.gz --by name");
    assert_eq!(report["mean"]["dice"], 1.0);
    assert_eq!(report["worst_slice"], Value::Null);
    let kidney = &report["labels"][1];
    assert_eq!((&kidney["label_a"], &kidney["label_b"]), (&2.into(), &1.into()));
    let one = compare(&desk, "a.seg.nrrd b.nii.gz --by name --label LEFT-KIDNEY");
    assert!(one.succeeds().stdout.contains("2/1  left kidney"), "{one:#?}");
}

#[test]
fn segments_that_overlap_are_compared_whole() {
    let desk = Desk::new();
    for (name, inner) in [("a.seg.nrrd", [2, 3, 3]), ("b.seg.nrrd", [2, 3, 4])] {
        let map = labels(&[(1, [1, 2, 2]), (2, inner)]);
        let segments = ["organ", "lesion"].map(|name| Segment::new(name, [1, 1, 1])).to_vec();
        let named = Segmentation::new(&map, segments).unwrap();
        write_segmentation(desk.path(name), &named, Overwrite::Refuse).unwrap();
    }
    let report = report(&desk, "a.seg.nrrd b.seg.nrrd");
    assert_eq!(report["labels"][0]["dice"], 1.0);
    assert_eq!(report["labels"][1]["dice"], 0.875);
}

#[test]
fn a_label_is_compared_with_one_of_another_number_when_told() {
    let desk = Desk::new();
    write(&desk, "a.nii.gz", &[(1, [1, 2, 2]), (3, [6, 10, 12])]);
    write(&desk, "one.nii.gz", &[(1, [6, 10, 13])]);
    let report = report(&desk, "a.nii.gz one.nii.gz --label 3=1");
    let only = &report["labels"];
    assert_eq!((only.as_array().unwrap().len(), &only[0]["dice"]), (1, &0.875.into()));
    assert_eq!((&only[0]["label_a"], &only[0]["label_b"]), (&3.into(), &1.into()));
    assert_eq!(report["worst_slice"]["different_voxels"], 16);
    compare(&desk, "a.nii.gz one.nii.gz --label 3=2")
        .fails(2, "R-CMP-02")
        .says("B has no label `2`");
    compare(&desk, "a.nii.gz one.nii.gz --label 3=1 --label 1=1").fails(2, "R-ARG-03");
    let absent = compare(&desk, "one.nii.gz one.nii.gz --label 3");
    absent.fails(2, "R-CMP-02").says("one of these: 1");
}

#[test]
fn grids_that_differ_are_refused_or_resampled_when_told() {
    let desk = Desk::new();
    pair(&desk);
    // The same map, stored with i to the left and its header saying so.
    let [d, h, w] = SHAPE;
    let map = labels(&[(1, [1, 2, 2]), (3, [6, 10, 12])]);
    let mirrored: Vec<i16> =
        (0..d * h * w).map(|n| map.labels()[n - n % w + (w - 1 - n % w)] as i16).collect();
    let affine =
        [[-1.0, 0.0, 0.0, 23.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]];
    let turned = Geometry::with_affine(SHAPE, affine).unwrap();
    let volume = Volume::new(mirrored, turned).unwrap();
    write_volume(desk.path("mirrored.nii.gz"), &volume, Overwrite::Refuse).unwrap();

    let refused = compare(&desk, "a.nii.gz mirrored.nii.gz --json");
    refused
        .fails(65, "R-CMP-01")
        .says("24 x 20 x 12 voxels of 1 x 1 x 2 mm, LAS")
        .says("--resample");
    let report = report(&desk, "a.nii.gz mirrored.nii.gz --resample");
    assert_eq!((&report["resampled"], &report["mean"]["dice"]), (&true.into(), &1.0.into()));
    let ignored = compare(&desk, "a.nii.gz mirrored.nii.gz --ignore-affine");
    assert!(ignored.succeeds().stdout.contains("ignored, as asked"), "{ignored:#?}");

    let small = Geometry::with_spacing([6, 20, 24], [2.0, 1.0, 1.0]).unwrap();
    let volume = Volume::new(vec![1_i16; 6 * 20 * 24], small).unwrap();
    write_volume(desk.path("small.nii.gz"), &volume, Overwrite::Refuse).unwrap();
    let shapes = compare(&desk, "a.nii.gz small.nii.gz --ignore-affine");
    shapes.fails(65, "R-CMP-01").says("fix: --resample brings B onto A's grid");
}

#[test]
fn an_array_without_a_place_is_compared_voxel_by_voxel() {
    let desk = Desk::new();
    pair(&desk);
    let map = labels(&[(1, [1, 2, 2]), (3, [6, 10, 12])]);
    let data: Vec<i16> = map.labels().iter().map(|v| *v as i16).collect();
    let volume = Volume::new(data, Geometry::without_affine(SHAPE)).unwrap();
    write_volume(desk.path("a.npy"), &volume, Overwrite::Refuse).unwrap();
    let run = compare(&desk, "a.npy b.nii.gz");
    run.succeeds().says("warning[W-GEOM]: A does not say where it lies");
    assert!(run.stdout.contains("HD95 mm"), "{run:#?}");
    let bare = report(&desk, "a.npy a.npy");
    assert_eq!(
        (&bare["tolerance_mm"], &bare["labels"][0]["hausdorff_mm"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(bare["mean"]["dice"], 1.0);
    let mm = report(&desk, "a.npy a.npy --spacing 2,1,1 --no-surface");
    assert_eq!(mm["labels"][0]["volume_a_ml"], 0.512);
}

#[test]
fn the_worst_slice_is_drawn_and_replaces_nothing() {
    let desk = Desk::new();
    pair(&desk);
    let run = compare(&desk, "a.nii.gz b.nii.gz --preview worst.png");
    run.succeeds().says("r1seg: preview worst.png");
    let png = fs::read(desk.path("worst.png")).unwrap();
    let info = png::Decoder::new(std::io::Cursor::new(&png)).read_info().unwrap().info().clone();
    assert_eq!(info.width, 3 * 392 + 12);
    compare(&desk, "a.nii.gz b.nii.gz --preview worst.png").fails(73, "R-OUT-01");
    let ct: Vec<i16> = (0..SHAPE.iter().product()).map(|n| (n * 7919 % 400) as i16 - 160).collect();
    let volume = Volume::new(ct, geometry()).unwrap();
    write_volume(desk.path("ct.nii.gz"), &volume, Overwrite::Refuse).unwrap();
    let with_ct = compare(&desk, "a.nii.gz b.nii.gz --preview worst.png --force -i ct.nii.gz");
    with_ct.succeeds();
    assert!(fs::read(desk.path("worst.png")).unwrap() != png, "the CT is not in the picture");
    let onto_input = compare(&desk, "a.nii.gz b.nii.gz --preview ct.png --force -i ct.png");
    assert_ne!(onto_input.code, Some(0), "{onto_input:#?}");
    // Nothing differs, so that there is nothing to draw.
    let same = report(&desk, "a.nii.gz a.nii.gz --preview same.png");
    assert_eq!((&same["preview"], desk.path("same.png").exists()), (&Value::Null, false));
}

#[test]
fn what_cannot_be_compared_says_why() {
    let desk = Desk::new();
    pair(&desk);
    fs::write(desk.path("names.json"), r#"{"1": "liver", "3": "spleen"}"#).unwrap();
    let says = |options: &str, exit: i32, code: &str, says: &str| {
        compare(&desk, options).fails(exit, code).says(says);
    };
    says("a.nii.gz no.nii.gz", 66, "R-IN-01", "no such file");
    says("a.nii.gz b.nii.gz --label 7", 2, "R-CMP-02", "neither A nor B has a label `7`");
    says(
        "a.nii.gz b.nii.gz --names names.json --label heart",
        2,
        "R-CMP-02",
        "one of these: 1 liver, 3 spleen",
    );
    says("a.nii.gz b.nii.gz --names no.json", 66, "R-CMP-04", "--> no.json");
    says("a.nii.gz b.nii.gz --names a.nii.gz", 65, "R-CMP-03", "not a file of label names");
    says("a.nii.gz b.nii.gz --by name", 65, "R-CMP-03", "A has no names");
    // A CT is not a label map.
    let data: Vec<f32> = (0..SHAPE.iter().product()).map(|n| n as f32 / 7.0 - 100.0).collect();
    let volume = Volume::new(data, geometry()).unwrap();
    write_volume(desk.path("ct.nii.gz"), &volume, Overwrite::Refuse).unwrap();
    says("a.nii.gz ct.nii.gz", 65, "R-GEO-16", "whole numbers");
    for options in
        ["a.nii.gz", "a.nii.gz b.nii.gz --tolerance-mm -1", "a.nii.gz b.nii.gz --image a.nii.gz"]
    {
        assert_eq!(compare(&desk, options).code, Some(2), "{options}");
    }
    // A name beside a mask that cannot be used costs the names alone.
    fs::write(desk.path("labels.json"), "[").unwrap();
    compare(&desk, "a.nii.gz b.nii.gz").succeeds().says("warning[W-NAMES]");
    let mut command = desk.command();
    let volume = finish(command.args(["compare", "a.nii.gz", "b.nii.gz", "--preview", "x.jpg"]));
    assert_eq!(volume.code, Some(73), "{volume:#?}");
}
