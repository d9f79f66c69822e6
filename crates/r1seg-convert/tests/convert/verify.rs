//! Converted folders that were changed afterwards.

use r1seg_checkpoint::{Error, ErrorKind, verify};
use r1seg_convert::ConvertOptions;
use safetensors::Dtype;

use crate::{Place, f32_bytes, safetensors};

fn converted(check: bool) -> Place {
    let place = Place::new();
    let tensors = [
        ("a", Dtype::F32, [2].as_slice(), f32_bytes(&[1.0, if check { 2.0 } else { f32::NAN }])),
        ("b", Dtype::F32, [1].as_slice(), f32_bytes(&[3.0])),
    ];
    place.write("src/model.safetensors", &safetensors(&tensors));
    place.write("src/config.json", b"{}");
    let options = ConvertOptions {
        max_shard_bytes: 8,
        check_tensors: check,
        ..ConvertOptions::new(place.path("src"))
    };
    place.convert(&options).unwrap();
    place
}

#[test]
fn a_folder_as_it_was_made_is_verified_and_strangers_in_it_are_told() {
    let place = converted(true);
    place.write("out/notes.txt", b"x");
    let verified = verify(&place.out(), true).unwrap();
    assert_eq!((verified.tensors, verified.unlisted), (2, vec!["notes.txt".to_owned()]));
    assert_eq!(verified.bytes, verified.manifest.files.iter().map(|f| f.bytes).sum::<u64>());
}

#[test]
fn w7_any_changed_byte_of_any_file_is_found() {
    let names: Vec<String> = verify(&converted(true).out(), false)
        .unwrap()
        .manifest
        .files
        .into_iter()
        .map(|file| file.name)
        .collect();
    assert_eq!(names.len(), 4);
    for name in names {
        let place = converted(true);
        let path = place.out().join(&name);
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = verify(&place.out(), false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model, "{name}");
        assert!(error.message().contains("SHA-256"), "{name}: {error}");

        std::fs::write(&path, &bytes[..last]).unwrap();
        let error = verify(&place.out(), false).unwrap_err();
        assert!(matches!(error, Error::Differs { .. }), "{name}: {error}");
        std::fs::remove_file(&path).unwrap();
        let error = verify(&place.out(), false).unwrap_err();
        assert!(error.message().contains("missing"), "{name}: {error}");
    }
}

#[test]
fn w7_weights_that_the_manifest_does_not_name_are_refused() {
    let place = converted(true);
    place.write("out/model.safetensors", b"would be loaded first");
    assert!(matches!(verify(&place.out(), false), Err(Error::Differs { .. })));
}

#[test]
fn w7_a_manifest_that_points_elsewhere_or_is_none_is_refused() {
    let place = converted(true);
    let path = place.out().join("manifest.json");
    let good = std::fs::read_to_string(&path).unwrap();
    for (what, with) in [
        ("\"config.json\"", "\"../config.json\""),
        ("\"config.json\"", "\"manifest.json\""),
        ("\"config.json\"", "\"model.safetensors.index.json\""),
        ("\"schema_version\": 1", "\"schema_version\": 2"),
        ("\"tensors\": 2", "\"tensors\": 3"),
        ("{", "["),
    ] {
        std::fs::write(&path, good.replacen(what, with, 1)).unwrap();
        let error = verify(&place.out(), false).unwrap_err();
        assert!(matches!(error, Error::Manifest { .. }), "{with}: {error:?}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(verify(&place.out(), false), Err(Error::NoManifest { .. })));
    assert!(matches!(verify(&place.path("nowhere"), false), Err(Error::NotFound { .. })));
}

#[test]
fn w6_nan_in_verified_weights_is_found_when_asked_for() {
    let place = converted(false);
    assert!(verify(&place.out(), false).is_ok());
    let error = verify(&place.out(), true).unwrap_err();
    assert_eq!(error.message(), "1 tensor holds NaN or infinity: `a`");
}
