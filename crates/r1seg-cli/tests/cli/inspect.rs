//! What a volume is said to be, without a model.

use std::fs;
use std::process::Stdio;

use r1seg::volume::{Geometry, Overwrite, Volume, write_volume};
use serde_json::Value;

use crate::schema::assert_keeps_to;
use crate::usage::snapshot;
use crate::{Desk, Run, data, finish};

const SHAPE: [usize; 3] = [24, 40, 48];

/// A body with a bone in it, in HU.
fn body(n: usize) -> i16 {
    let [z, y, x] = [n / (40 * 48), n / 48 % 40, n % 48].map(|v| v as f64);
    let far = ((y - 19.5) / 14.0).hypot((x - 23.5) / 18.0);
    match far {
        _ if z < 2.0 || 1.0 < far => -1000,
        _ if far < 0.2 => 700,
        _ => 30 + (n % 23) as i16,
    }
}

/// i to the left, j to the back, k to the head.
const LPS: [[f64; 4]; 3] =
    [[-0.78125, 0.0, 0.0, 120.5], [0.0, -0.78125, 0.0, 80.0], [0.0, 0.0, 5.0, -310.25]];

/// Writes a NIfTI file of 16-bit whole numbers.
fn nifti(desk: &Desk, name: &str, rows: [[f64; 4]; 3], value: impl Fn(usize) -> i16) {
    let affine = [rows[0], rows[1], rows[2], [0.0, 0.0, 0.0, 1.0]];
    let geometry = Geometry::with_affine(SHAPE, affine).unwrap();
    let voxels: Vec<i16> = (0..geometry.voxels()).map(value).collect();
    let stored: Vec<u8> = voxels.iter().flat_map(|v| v.to_le_bytes()).collect();
    let volume = Volume::new(voxels, geometry).unwrap();
    write_volume(desk.path(name), &volume, Overwrite::Refuse).unwrap();
    let mut bytes = fs::read(desk.path(name)).unwrap();
    // `datatype` int16 and its `bitpix`.
    bytes[70..74].copy_from_slice(&[4, 0, 16, 0]);
    bytes.splice(352.., stored);
    fs::write(desk.path(name), bytes).unwrap();
}

fn ct(desk: &Desk) {
    nifti(desk, "ct.nii", LPS, body);
}

fn inspect(desk: &Desk, args: &str) -> Run {
    finish(desk.command().arg("inspect").args(args.split_whitespace()))
}

#[track_caller]
fn json(run: &Run) -> Value {
    let found = serde_json::from_str(&run.succeeds().stdout).unwrap();
    assert_keeps_to("inspect", &found);
    found
}

fn last_line(run: &Run) -> &str {
    run.succeeds().stdout.lines().last().unwrap()
}

#[test]
fn a_ct_is_said_to_be_one() {
    let desk = Desk::new();
    ct(&desk);
    let run = inspect(&desk, "ct.nii");
    assert_eq!((last_line(&run), run.stderr.as_str()), ("OK: CT in Hounsfield units", ""));
    snapshot(&desk, "inspect_ct", &run.stdout);
    desk.is_empty_but_for(&["ct.nii"]);
}

#[test]
fn json_has_the_names_of_the_report() {
    let desk = Desk::new();
    ct(&desk);
    let run = inspect(&desk, "ct.nii --json");
    snapshot(&desk, "inspect_json", &run.stdout.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    let found = json(&run);
    let input = &found["input"];
    assert_eq!(input["shape"], serde_json::json!([48, 40, 24]));
    assert_eq!(input["spacing_mm"], serde_json::json!([0.78125, 0.78125, 5.0]));
    assert_eq!(input["hu_range"], serde_json::json!([-1000.0, 700.0]));
    assert_eq!(found["model_view"]["grid"], serde_json::json!([256, 256, 32]));
    assert_eq!((&found["schema_version"], &found["verdict"]), (&2.into(), &"ok".into()));
    assert_eq!(found["research_use_only"], true);

    // A model of another size sees another grid; all else is what a run on the same file reports.
    desk.infer_volume(&desk.path("ct.nii"), "").succeeds();
    let report = desk.report();
    for (name, value) in input.as_object().unwrap() {
        let same = match name.as_str() {
            "path" | "effective_resolution_mm" => true,
            _ => report["input"].get(name).is_none_or(|reported| reported == value),
        };
        assert!(same, "{name}: {value} and {}", report["input"][name]);
    }
    assert!(report["input"].get("crop").is_some());
}

#[test]
fn n13_an_oblique_mirrored_volume_is_said_to_be_so() {
    let desk = Desk::new();
    let (sin, cos) = 12_f64.to_radians().sin_cos();
    let rows = [
        [0.78125, 0.0, 0.0, 0.0],
        [0.0, -0.78125 * cos, -5.0 * sin, 0.0],
        [0.0, -0.78125 * sin, 5.0 * cos, 0.0],
    ];
    nifti(&desk, "tilted.nii", rows, body);
    let run = inspect(&desk, "tilted.nii");
    for line in [
        "  orientation  RPS: i to right, j to posterior, k to superior\n",
        "  oblique      up to 12 degrees off the axes of the body\n",
        "  handedness   left-handed: ",
    ] {
        assert!(run.stdout.contains(line), "{line}{}", run.stdout);
    }
    let found = json(&inspect(&desk, "tilted.nii --json"));
    assert!((found["input"]["oblique_degrees"].as_f64().unwrap() - 12.0).abs() < 1e-4);
    assert_eq!(found["input"]["left_handed"], true);
}

#[test]
fn p6_the_range_of_values_is_judged() {
    let desk = Desk::new();
    let of = |value: &dyn Fn(usize) -> i16| {
        let _ = fs::remove_file(desk.path("x.nii"));
        nifti(&desk, "x.nii", LPS, value);
        let run = inspect(&desk, "x.nii");
        let found = json(&inspect(&desk, "x.nii --json"));
        let recipe = found["input"]["preprocess"].as_str().unwrap().to_string();
        (last_line(&run).to_string(), recipe)
    };
    let noise = |n: usize| (n * 7919 % 251) as i16;
    assert_eq!(
        of(&noise),
        ("DOUBTFUL (W-HU-01): 0..255: a picture, or CT that was windowed".into(), "m3d-cap".into())
    );
    let (line, recipe) = of(&|n| body(n) + 1000);
    assert!(line.starts_with("DOUBTFUL (W-HU-02): unlike Hounsfield units"), "{line}");
    assert_eq!(recipe, "m3d-seg");
    assert_eq!(
        of(&|n| i16::from(body(n) == 700)).0,
        "DOUBTFUL (W-LABELS): a mask or label map of 2 values, not a CT"
    );
}

#[test]
fn n16_a_constant_volume_is_nothing_to_see() {
    let desk = Desk::new();
    nifti(&desk, "air.nii", LPS, |_| -1024);
    let run = inspect(&desk, "air.nii");
    let expected = "DOUBTFUL (W-CONST): one value everywhere: there is nothing to see";
    assert_eq!(last_line(&run), expected);
    assert!(run.stdout.contains("\nwarning[W-CONST]: "), "{}", run.stdout);
}

#[test]
fn a_voxel_that_no_scanner_makes_is_doubted() {
    let desk = Desk::new();
    let meters = LPS.map(|row| row.map(|v| v / 1000.0));
    nifti(&desk, "meters.nii", meters, body);
    let run = inspect(&desk, "meters.nii");
    assert_eq!(last_line(&run), "OK, with 1 warning: CT in Hounsfield units");
    assert!(
        run.stdout.contains("\nwarning[W-SPACING]: a voxel of 7.813e-4 x 7.813e-4 x 0.005 mm "),
        "{run:?}"
    );
}

#[test]
fn an_array_has_no_millimeters_until_they_are_given() {
    let desk = Desk::new();
    fs::copy(data("phi3/golden/volume.npy"), desk.path("a.npy")).unwrap();
    let run = inspect(&desk, "a.npy");
    snapshot(&desk, "inspect_array", &run.succeeds().stdout);
    let input = |args| json(&inspect(&desk, args))["input"].clone();
    let bare = input("a.npy --json");
    for name in ["spacing_mm", "orientation", "affine", "voxel_volume_mm3", "left_handed"] {
        assert_eq!(bare.get(name), Some(&Value::Null), "{name}");
    }
    assert_eq!(bare["affine_source"], "none");
    let spaced = input("a.npy --json --spacing 5,0.8,0.75");
    assert_eq!(spaced["spacing_mm"], serde_json::json!([0.75, 0.8, 5.0]));
    assert_eq!(spaced["affine_source"], "given");
    let run = inspect(&desk, "a.npy --spacing 5,0.8,0.75");
    assert!(run.stdout.contains("  spacing      0.75 x 0.8 x 5 mm; one voxel is 3 mm3\n"));
}

#[test]
fn what_cannot_be_used_fails_as_infer_does() {
    let desk = Desk::new();
    ct(&desk);
    let bytes = fs::read(desk.path("ct.nii")).unwrap();
    fs::write(desk.path("cut.nii"), &bytes[..bytes.len() / 2]).unwrap();
    for json in ["", " --json"] {
        let run = inspect(&desk, &format!("cut.nii{json}"));
        run.fails(65, "R-NII-07").says("cut.nii").says("re-copy");
    }
    inspect(&desk, "nope.nii.gz").fails(66, "R-IN-01");
    inspect(&desk, "ct.nii --max-input-bytes 1KiB").fails(65, "R-IN-07");
    assert_eq!(inspect(&desk, "").code, Some(2));
    desk.is_empty_but_for(&["ct.nii", "cut.nii"]);
}

#[test]
fn standard_input_says_the_same() {
    let desk = Desk::new();
    ct(&desk);
    let file = json(&inspect(&desk, "ct.nii --json"));
    let mut command = desk.command();
    command.args(["inspect", "-", "--json"]).stdin(fs::File::open(desk.path("ct.nii")).unwrap());
    let mut stream = json(&finish(&mut command));
    let input = stream["input"].as_object_mut().unwrap();
    assert_eq!(input.insert("path".into(), "ct.nii".into()), Some("-".into()));
    assert_eq!(input.insert("bytes".into(), file["input"]["bytes"].clone()), Some(Value::Null));
    assert_eq!(input.insert("compressed".into(), false.into()), Some(Value::Null));
    assert_eq!(stream, file);
}

#[test]
fn n19_text_of_the_header_is_never_shown() {
    let desk = Desk::new();
    ct(&desk);
    let mut bytes = fs::read(desk.path("ct.nii")).unwrap();
    let canary = b"CANARY^JOHN";
    // data_type, db_name, descrip, aux_file, intent_name.
    for offset in [4, 14, 148, 228, 328] {
        let length = if offset == 4 { 10 } else { canary.len() };
        bytes[offset..offset + length].copy_from_slice(&canary[..length]);
    }
    fs::write(desk.path("ct.nii"), &bytes).unwrap();
    for args in ["ct.nii", "ct.nii --json", "ct.nii --preview p.png"] {
        let run = inspect(&desk, args);
        run.succeeds();
        assert!(!format!("{run:?}").contains("CANARY"), "{run:?}");
    }
    let picture = fs::read(desk.path("p.png")).unwrap();
    assert!(!picture.windows(6).any(|w| w == b"CANARY"));
    fs::write(desk.path("ct.nii"), &bytes[..1000]).unwrap();
    let run = inspect(&desk, "ct.nii");
    run.fails(65, "R-NII-07");
    assert!(!run.stderr.contains("CANARY"), "{run:?}");
}

#[test]
fn r7_a_picture_replaces_only_what_it_may() {
    let desk = Desk::new();
    ct(&desk);
    let run = inspect(&desk, "ct.nii --preview ct.png");
    run.succeeds().says("preview ct.png");
    assert!(run.stdout.ends_with("\nOK: CT in Hounsfield units\n"));
    let picture = fs::read(desk.path("ct.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"));

    fs::write(desk.path("ct.png"), "mine").unwrap();
    inspect(&desk, "ct.nii --preview ct.png").fails(73, "R-OUT-01").says("--force");
    // Refused before the volume is read, which is not even there.
    inspect(&desk, "nope.nii --preview ct.png").fails(73, "R-OUT-01");
    inspect(&desk, "ct.nii --preview no/ct.png").fails(73, "R-OUT-02");
    inspect(&desk, "ct.nii --preview ct.jpg").fails(73, "R-OUT-04");
    assert_eq!(fs::read(desk.path("ct.png")).unwrap(), b"mine");
    inspect(&desk, "ct.nii --preview ct.png --force").succeeds();
    assert_eq!(fs::read(desk.path("ct.png")).unwrap(), picture);

    fs::rename(desk.path("ct.nii"), desk.path("input.png")).unwrap();
    let before = fs::read(desk.path("input.png")).unwrap();
    inspect(&desk, "input.png --preview ./input.png --force").fails(73, "R-OUT-06");
    inspect(&desk, "x.nii --affine-from input.png --preview input.png --force")
        .fails(73, "R-OUT-06");
    assert_eq!(fs::read(desk.path("input.png")).unwrap(), before);
    desk.is_empty_but_for(&["ct.png", "input.png"]);
}

#[test]
fn r3_a_reader_who_leaves_is_no_error() {
    let desk = Desk::new();
    ct(&desk);
    let mut command = desk.command();
    command.args(["inspect", "ct.nii"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn names_of_files_are_shown_without_terminal_escapes() {
    let desk = Desk::new();
    let name = "a\u{1b}[2Jb.nii";
    let affine = [LPS[0], LPS[1], LPS[2], [0.0, 0.0, 0.0, 1.0]];
    let geometry = Geometry::with_affine(SHAPE, affine).unwrap();
    let voxels: Vec<i16> = (0..geometry.voxels()).map(body).collect();
    let volume = Volume::new(voxels, geometry).unwrap();
    // Not every file system takes such names.
    if write_volume(desk.path(name), &volume, Overwrite::Refuse).is_ok() {
        let run = desk.run(["inspect", name]);
        assert!(run.succeeds().stdout.starts_with("ab.nii\n"), "{run:?}");
    }
}

/// Every file of the folder of real data that looks like a volume.
#[test]
fn real_files_are_judged_without_a_panic() {
    let Some(root) = std::env::var_os("R1SEG_DATA") else {
        eprintln!("skipped: R1SEG_DATA is not set");
        return;
    };
    let desk = Desk::new();
    let (mut folders, mut usable) = (vec![std::path::PathBuf::from(root)], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let run = finish(desk.command().arg("inspect").arg("--json").arg(&path));
            match run.code {
                Some(0) => {
                    let found: Value = serde_json::from_str(&run.stdout).unwrap();
                    assert_keeps_to("inspect", &found);
                    usable += 1;
                }
                code => {
                    // Vocabularies in GGUF lie there, too.
                    let expected = if r1seg::is_gguf(&path) { 78 } else { 65 };
                    assert_eq!(code, Some(expected), "{}: {run:#?}", path.display());
                }
            }
        }
    }
    assert!(usable > 50, "{usable}");
}
