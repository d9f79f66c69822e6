//! VISTA3D in every form that its publisher and its users keep it in.

use std::fs;
use std::path::{Path, PathBuf};

use r1seg_convert::{ConvertOptions, TargetDtype, contents};
use safetensors::Dtype;

use crate::torch_file::{TorchFile, Val, dict, ordered};
use crate::{Place, Tensors, safetensors, tensors_of};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/vista3d").join(name)
}

fn recorded() -> Tensors {
    let tensors = tensors_of(&data(""));
    assert_eq!(tensors.len(), 223);
    tensors
}

/// As `torch.save` writes them, under names that begin with `prefix`.
fn state_dict(tensors: &Tensors, prefix: &str) -> TorchFile {
    let mut file = TorchFile::new(2);
    let mut entries = Vec::new();
    let names: Vec<String> = tensors.keys().map(|name| format!("{prefix}{name}")).collect();
    for (name, (dtype, shape, bytes)) in names.iter().zip(tensors.values()) {
        assert_eq!(*dtype, Dtype::BF16);
        let shape: Vec<i64> = shape.iter().map(|axis| *axis as i64).collect();
        let tensor = file.add("BFloat16Storage", &shape, bytes.clone());
        entries.push((name.as_str(), Val::Tensor(tensor)));
    }
    file.root = ordered(entries);
    file
}

#[test]
fn the_file_of_the_research_code_gets_the_names_of_today_and_loses_what_no_mask_depends_on() {
    let place = Place::new();
    let source = data("published/model_monai1.3.pt");
    // Half precision holds the recorded numbers exactly.
    let options = ConvertOptions { dtype: Some(TargetDtype::Bf16), ..ConvertOptions::new(&source) };
    let report = place.convert(&options).unwrap();
    assert_eq!(tensors_of(&place.out()), recorded());

    assert_eq!((report.prefixes.len(), report.ignored, report.wrappers.len()), (0, 0, 0));
    let unread = ["point_head.output_add_hypernetworks_mlps.", "weight_mapper."];
    let counts =
        unread.map(|part| report.dropped.iter().filter(|name| name.starts_with(part)).count());
    assert_eq!((counts, report.dropped.len()), ([12, 4], 16));
    // Weights and biases of two products in two layers.
    assert_eq!(report.renamed.len(), 8);
    for [was, is] in &report.renamed {
        assert!(was.contains(".mlp.lin") && recorded().contains_key(is), "{was} to {is}");
    }

    let names = contents(&source, None).unwrap().tensors.into_iter().map(|tensor| tensor.name);
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert_eq!(names, recorded().into_keys().collect::<Vec<_>>());
}

#[test]
fn weights_of_today_convert_bit_for_bit_from_every_wrapper() {
    let recorded = recorded();
    let wrapped = |prefix| {
        let mut file = state_dict(&recorded, prefix);
        file.root = dict(vec![("epoch", Val::Int(3)), ("model", file.root)]);
        file.zip()
    };
    for (bytes, wrappers, prefixes) in [
        (state_dict(&recorded, "").zip(), &[][..], &[][..]),
        (wrapped(""), &["model"], &[]),
        (wrapped("module."), &["model"], &["module."]),
        (state_dict(&recorded, "network.").zip(), &[], &["network."]),
    ] {
        let place = Place::new();
        let report = place.convert_bytes("model.pt", &bytes).unwrap();
        assert_eq!(tensors_of(&place.out()), recorded);
        assert_eq!(
            (&report.wrappers[..], &report.prefixes[..]),
            (&strings(wrappers)[..], prefixes)
        );
        assert_eq!((report.dropped, report.renamed), (vec![], vec![]));
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn safetensors_for_transformers_lose_the_prefix_that_every_name_has() {
    let recorded = recorded();
    let names: Vec<String> = recorded.keys().map(|name| format!("network.{name}")).collect();
    let tensors: Vec<_> = names
        .iter()
        .zip(recorded.values())
        .map(|(name, (dtype, shape, bytes))| (name.as_str(), *dtype, &shape[..], bytes.clone()))
        .collect();
    let place = Place::new();
    let report = place.convert_bytes("model.safetensors", &safetensors(&tensors)).unwrap();
    assert_eq!((report.prefixes, report.pickles), (vec!["network."], None));
    assert_eq!(tensors_of(&place.out()), recorded);
}

#[test]
fn of_two_pickles_in_a_folder_the_one_of_today_is_taken() {
    let place = Place::new();
    let research = fs::read(data("published/model_monai1.3.pt")).unwrap();
    place.write("src/model_monai1.3.pt", &research);
    place.write("src/model.pt", &state_dict(&recorded(), "").zip());
    let report = place.convert(&ConvertOptions::new(place.path("src"))).unwrap();
    assert_eq!((report.dropped, report.renamed), (vec![], vec![]));
    assert_eq!(tensors_of(&place.out()), recorded());
}
