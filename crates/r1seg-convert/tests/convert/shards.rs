//! Sources of several files, and headers of safetensors.

use r1seg_convert::{ConvertOptions, Error, ErrorKind};
use safetensors::Dtype;

use crate::torch_file::{TorchFile, Val, dict};
use crate::{Place, f32_bytes, safetensors, tensors_of};

fn shard(name: &str, number: f32) -> Vec<u8> {
    safetensors(&[(name, Dtype::F32, &[1], f32_bytes(&[number]))])
}

fn index(entries: &[(&str, &str)]) -> Vec<u8> {
    let map: serde_json::Map<String, serde_json::Value> =
        entries.iter().map(|(tensor, file)| ((*tensor).to_owned(), (*file).into())).collect();
    serde_json::to_vec(&serde_json::json!({"metadata": {}, "weight_map": map})).unwrap()
}

fn refused(place: &Place) -> Error {
    let error = place.convert(&ConvertOptions::new(place.path("src"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model, "{error}");
    assert!(!place.out().exists());
    error
}

#[test]
fn shards_of_either_kind_are_joined() {
    let place = Place::new();
    place.write("src/model-1.safetensors", &shard("a", 1.0));
    place.write("src/model-2.safetensors", &shard("b", 2.0));
    let entries = [("a", "model-1.safetensors"), ("b", "model-2.safetensors")];
    place.write("src/model.safetensors.index.json", &index(&entries));
    let report = place.convert(&ConvertOptions::new(place.path("src"))).unwrap();
    let got = tensors_of(&place.out());
    assert_eq!((got["a"].2.clone(), got["b"].2.clone()), (f32_bytes(&[1.0]), f32_bytes(&[2.0])));
    assert_eq!((report.pickles, report.manifest.sources.len()), (None, 2));

    let place = Place::new();
    for (name, number) in [("a", 1.0), ("b", 2.0)] {
        let mut file = TorchFile::new(2);
        let tensor = file.add_f32(&[1], &[number]);
        file.root = dict(vec![(name, Val::Tensor(tensor))]);
        place.write(&format!("src/{name}.bin"), &file.zip());
    }
    place.write("src/pytorch_model.bin.index.json", &index(&[("a", "a.bin"), ("b", "b.bin")]));
    place.convert(&ConvertOptions::new(place.path("src"))).unwrap();
    assert_eq!(tensors_of(&place.out()), got);
}

#[test]
fn w5_an_index_may_not_point_outside_its_folder() {
    for name in ["../a.safetensors", "/etc/passwd", "sub/a.safetensors", "..", "", "a\\b", "C:a"] {
        let place = Place::new();
        place.write("a.safetensors", &shard("a", 1.0));
        place.write("src/sub/a.safetensors", &shard("a", 1.0));
        place.write("src/model.safetensors.index.json", &index(&[("a", name)]));
        assert!(refused(&place).to_string().contains("not a plain file name"), "{name}");
    }
}

#[test]
fn w5_a_missing_shard_and_a_tensor_in_the_wrong_one_are_named() {
    let place = Place::new();
    place.write("src/1.safetensors", &shard("a", 1.0));
    let entries = [("a", "1.safetensors"), ("b", "2.safetensors")];
    place.write("src/model.safetensors.index.json", &index(&entries));
    assert!(refused(&place).to_string().contains("`2.safetensors` is missing"));
    place.write("src/2.safetensors", &shard("c", 1.0));
    assert!(refused(&place).to_string().contains("tensor `b` is not in the shard"));
    place.write("src/model.safetensors.index.json", b"{\"weight_map\": 3}");
    assert!(refused(&place).to_string().contains("JSON"));
    place.write("src/model.safetensors.index.json", b"{\"weight_map\": {}}");
    assert!(refused(&place).to_string().contains("0 shards"));
}

#[test]
fn w5_a_tensor_in_two_shards_is_refused() {
    let place = Place::new();
    place.write("src/1.safetensors", &shard("a", 1.0));
    place.write(
        "src/2.safetensors",
        &safetensors(&[
            ("a", Dtype::F32, &[1], f32_bytes(&[2.0])),
            ("b", Dtype::F32, &[1], f32_bytes(&[2.0])),
        ]),
    );
    let entries = [("a", "1.safetensors"), ("b", "2.safetensors")];
    place.write("src/model.safetensors.index.json", &index(&entries));
    let error = refused(&place);
    assert!(error.message().contains("twice") || error.to_string().contains("not in the shard"));
}

#[test]
fn w3_headers_that_lie_are_refused() {
    let good = shard("a", 1.0);
    let header = |text: &str, data: usize| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    let tensor = |dtype: &str, shape: &str, start: usize, end: usize| {
        format!(r#""dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]"#)
    };
    let one = |name: &str, body: String| format!("\"{name}\":{{{body}}}");
    let two = |a: String, b: String| format!("{{{},{}}}", one("a", a), one("b", b));
    let mut huge = good.clone();
    huge[..8].copy_from_slice(&(100u64 << 30).to_le_bytes());
    let mut past = good.clone();
    past[..8].copy_from_slice(&1000u64.to_le_bytes());
    let f32 = |start, end| tensor("F32", "[1]", start, end);
    for (what, bytes) in [
        ("a header of 100 GiB", huge),
        ("a header past the end", past),
        ("data past the end", good[..good.len() - 1].to_vec()),
        ("data after the end", [good.clone(), vec![0]].concat()),
        ("an overlap", header(&two(f32(0, 4), f32(2, 6)), 6)),
        ("a hole", header(&two(f32(0, 4), f32(8, 12)), 12)),
        ("the same place twice", header(&two(f32(0, 4), f32(0, 4)), 4)),
        ("a wrong length", header(&format!("{{{}}}", one("a", tensor("F32", "[3]", 0, 4))), 4)),
        (
            "a shape beyond 64 bits",
            header(
                &format!("{{{}}}", one("a", tensor("F32", "[4294967296,4294967296,4]", 0, 4))),
                4,
            ),
        ),
        (
            "a dtype of no weights",
            header(&format!("{{{}}}", one("a", tensor("F8_E4M3", "[4]", 0, 4))), 4),
        ),
        ("no JSON", header("{{{{", 0)),
        ("a control character", header(&format!("{{{}}}", one("a\\u001b", f32(0, 4))), 4)),
    ] {
        let place = Place::new();
        place.write("src/model.safetensors", &bytes);
        let error = refused(&place);
        assert!(matches!(error, Error::Safetensors { .. }), "{what}: {error:?}");
    }
}

#[test]
fn w3_a_file_of_a_hundred_thousand_and_one_tensors_is_refused() {
    let entries: Vec<String> = (0..100_001)
        .map(|i| format!(r#""{i}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{}]}}"#, i + 1))
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(vec![0; 100_001]);
    let place = Place::new();
    place.write("src/model.safetensors", &bytes);
    assert!(refused(&place).to_string().contains("more than 100000 tensors"));
}

#[test]
fn a_folder_prefers_safetensors_and_does_not_guess_between_strangers() {
    let place = Place::new();
    place.write("src/model.safetensors", &shard("a", 1.0));
    place.write("src/pytorch_model.bin", b"not even a pickle");
    place.convert(&ConvertOptions::new(place.path("src"))).unwrap();

    let place = Place::new();
    place.write("src/one.pth", b"x");
    place.write("src/two.pth", b"x");
    place.write("src/training_args.bin", b"x");
    let error = place.convert(&ConvertOptions::new(place.path("src"))).unwrap_err();
    assert_eq!(error.message(), "the folder holds several checkpoints: `one.pth`, `two.pth`");

    let place = Place::new();
    std::fs::create_dir(place.path("src")).unwrap();
    let error = place.convert(&ConvertOptions::new(place.path("src"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing);
    let error = place.convert(&ConvertOptions::new(place.path("nowhere"))).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
}
