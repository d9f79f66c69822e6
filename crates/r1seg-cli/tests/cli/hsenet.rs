//! HSENet and HSENet-CLIP at the command line: from what is published to an answer.

use std::fs;

use serde_json::Value;

use crate::{Desk, Run, data, finish, read_tensors};

const CT: &str = "hsenet-phi4/golden/ct.nii.gz";
const REPORT: &str = "Can you summarize with findings the images presented?";

fn recorded(case: usize) -> (String, String) {
    let json = fs::read(data(&format!("hsenet-phi4/golden/case{case}.json"))).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    let text = |key: &str| json[key].as_str().unwrap().to_string();
    (text("question"), text("text"))
}

/// `infer` with the recorded model, exact on any processor.
fn infer(desk: &Desk, args: &[&str]) -> Run {
    let mut command = desk.command();
    command.args(["infer", "--device", "cpu", "--dtype", "f32", "--model"]);
    finish(command.arg(data("hsenet-phi4")).args(args))
}

/// A CT, and features that were made of one.
fn given(desk: &Desk) {
    for (file, name) in [
        (CT, "ct.nii.gz"),
        ("hsenet-phi4/golden/volume1.npy", "volume.npy"),
        ("hsenet-phi4/golden/slice_features1.npy", "slices.npy"),
    ] {
        fs::copy(data(file), desk.path(name)).unwrap();
    }
}

#[test]
fn a_ct_gets_its_report_and_a_question_its_answer() {
    let desk = Desk::new();
    given(&desk);
    let (question, text) = recorded(0);
    let done = infer(&desk, &["ct.nii.gz", "-p", &question, "-p", &recorded(1).0, "-o", "out"]);
    done.succeeds().says("the model draws none");
    assert_eq!(done.stdout, format!("[1] {text}\n[2] {}\n", recorded(1).1));
    let report: Value =
        serde_json::from_slice(&fs::read(desk.path("out/report.json")).unwrap()).unwrap();
    assert!(report.to_string().contains("\"preprocess\":\"hsenet\""), "{report}");
    assert!(report["masks"].as_array().unwrap().is_empty());
    assert!(!desk.path("out/mask.nii.gz").exists() && desk.path("out/answer.txt").exists());
}

#[test]
fn both_inputs_can_be_given_as_they_are_and_features_are_kept_for_the_next_run() {
    let desk = Desk::new();
    given(&desk);
    let (question, text) = recorded(3);
    let as_they_are =
        ["--image", "volume.npy", "--preprocess", "none", "--no-preview", "-p", &question];
    let with =
        |features: &'static str| [&as_they_are[..], &["--slice-features", features]].concat();
    let done = infer(&desk, &with("slices.npy"));
    assert_eq!(done.succeeds().stdout, format!("{text}\n"));
    infer(&desk, &as_they_are).fails(2, "R-ARG-02").says("have to be given with recipe none");
    infer(&desk, &with("none.npy")).fails(66, "R-IN-01");
    infer(&desk, &with("volume.npy")).fails(65, "R-NPY-10").says("a table of two axes is needed");

    let first = infer(&desk, &["ct.nii.gz", "-p", REPORT, "--save-slice-features", "kept.npy"]);
    assert_eq!(first.succeeds().stdout, format!("{}\n", recorded(0).1));
    let again = infer(&desk, &["ct.nii.gz", "-p", REPORT, "--slice-features", "kept.npy"]);
    assert_eq!(again.succeeds().stdout, first.stdout);
    // Nothing that exists is replaced.
    infer(&desk, &["ct.nii.gz", "-p", REPORT, "--save-slice-features", "kept.npy"])
        .fails(73, "R-OUT-01");
}

#[test]
fn what_is_for_masks_is_refused_before_anything_is_read() {
    let desk = Desk::new();
    let sam = data("sam-med3d");
    for flags in [
        &["--mask", "mask.nii.gz"][..],
        &["--require-mask"],
        &["--empty-mask"],
        &["--first-seg"],
        &["--num-clicks", "1"],
        &["--refine-with", sam.to_str().unwrap()],
    ] {
        // There is no such image.
        let done = infer(&desk, &[&["ct.nii.gz", "-p", "Why?"], flags].concat());
        let words = format!("{} is for masks, and HSENet answers in words alone", flags[0]);
        done.fails(2, "R-ARG-03").says(&words);
    }
    infer(&desk, &["ct.nii.gz", "--organ", "liver"])
        .fails(2, "R-ARG-03")
        .says("--organ is for masks");
    given(&desk);
    infer(&desk, &["ct.nii.gz", "--box", "1,1,1,9,9,9", "-p", "What is in {box}?"])
        .fails(2, "R-PRM-05")
        .says("HSENet takes no boxes");
    infer(&desk, &["ct.nii.gz", "--mode", "sliding", "-p", "Why?"])
        .fails(2, "R-ARG-02")
        .says("HSENet has no mode sliding");
    let mut segment = desk.command();
    segment.args(["segment", "ct.nii.gz", "--text", "liver", "-m"]).arg(data("hsenet-phi4"));
    finish(&mut segment).fails(78, "R-MDL-05").says("HSENet cannot segment");
    // What a question asks for in words is answered in words.
    let done = infer(&desk, &["ct.nii.gz", "-p", "Can you segment the liver in this image?"]);
    done.succeeds().says("warning[W-NOSEG]: the question asks for a mask, and HSENet draws none");
}

#[test]
fn the_published_parts_become_one_folder_that_answers() {
    let desk = Desk::new();
    given(&desk);
    let published = data("hsenet-phi4/published");
    let convert = |parts: &[std::path::PathBuf]| {
        let mut command = desk.command();
        command.arg("convert").arg(published.join("vlm/pytorch_model.bin"));
        command.args(["-o", "hsenet", "--quant", "q8_0", "--base"]).arg(published.join("llm"));
        for part in parts {
            command.arg("--with").arg(part);
        }
        finish(&mut command)
    };
    let parts = [data("hsenet-clip/stage2"), published.join("biomedclip")];
    convert(&parts[..1])
        .fails(2, "R-CNV-28")
        .says("missing: the encoder of slices (the folder of BiomedCLIP)")
        .says("each further part with --with DIR");
    assert!(!desk.path("hsenet").exists());
    convert(&parts).succeeds().says("LoRA merged into 12 matrices, rank 16, alpha 32");
    let mut infer = desk.command();
    infer.args(["infer", "-m", "hsenet", "ct.nii.gz", "-p", REPORT, "--device", "cpu"]);
    assert_eq!(finish(&mut infer).succeeds().stdout, format!("{}\n", recorded(0).1));
    let inspected = desk.run(["inspect", "hsenet"]);
    inspected.succeeds();
    assert!(inspected.stdout.contains("HSENet"), "{inspected:#?}");
}

fn clip(desk: &Desk, stage: usize, args: &[&str]) -> Run {
    let mut command = desk.command();
    command.arg(args[0]).args(["--device", "cpu", "--dtype", "f32", "--preprocess", "none", "-m"]);
    command.arg(data(&format!("hsenet-clip/stage{stage}")));
    finish(command.args(&args[1..]))
}

/// The recorded volumes and features of their slices, a file each.
fn scans(desk: &Desk) {
    let split = |file: &str, shape: &str, name: &str| {
        let bytes = fs::read(data(&format!("hsenet-clip/golden/{file}.npy"))).unwrap();
        let header = u16::from_le_bytes([bytes[8], bytes[9]]) as usize + 10;
        for (n, numbers) in bytes[header..].chunks((bytes.len() - header) / 3).enumerate() {
            let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
            let mut file = b"\x93NUMPY\x01\x00".to_vec();
            file.extend((dict.len() as u16 + 1).to_le_bytes());
            file.extend(format!("{dict}\n").bytes());
            file.extend(numbers);
            fs::write(desk.path(&format!("{name}{n}.npy")), file).unwrap();
        }
    };
    fs::create_dir(desk.path("scans")).unwrap();
    split("volumes", "1, 16, 64, 64", "scans/v");
    split("slice_features", "32, 48", "f");
}

#[test]
fn volumes_are_embedded_with_their_slices_and_ranked_for_volumes() {
    let desk = Desk::new();
    scans(&desk);
    let expected = read_tensors(&data("hsenet-clip/golden/expected.safetensors"));
    let volumes = ["scans/v0.npy", "scans/v1.npy", "scans/v2.npy"];
    let features = ["f0.npy", "f1.npy", "f2.npy"];
    for stage in [1, 2] {
        let mut args = vec!["embed", "-o", "out.safetensors", "--force", "-q"];
        volumes.iter().for_each(|path| args.extend(["-i", path]));
        if stage == 2 {
            features.iter().for_each(|path| args.extend(["--slice-features", path]));
        }
        clip(&desk, stage, &args).succeeds();
        let got = &read_tensors(&desk.path("out.safetensors"))["embeddings"];
        let expected = &expected[&format!("stage{stage}.image_embeddings")];
        let numbers = |bytes: &[u8]| -> Vec<f32> {
            bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        for (got, expected) in numbers(&got.bytes).iter().zip(numbers(&expected.bytes)) {
            assert!((got - expected).abs() < 1e-4, "stage {stage}: {got} {expected}");
        }
    }
    let few =
        ["embed", "-o", "x.npy", "-i", volumes[0], "-i", volumes[1], "--slice-features", "f0.npy"];
    clip(&desk, 2, &few).fails(2, "R-ARG-03").says("the number of volumes is 2");
    let done = clip(&desk, 2, &["embed", "-o", "x.npy", "-i", volumes[0]]);
    done.code_is(2).says("the checkpoint has no encoder of slices");

    // A volume is most like itself.
    let found = clip(&desk, 1, &["retrieve", "-i", "scans/v1.npy", "scans", "--json"]);
    let found: Value = serde_json::from_str(&found.succeeds().stdout).unwrap();
    let results = found["queries"][0]["results"].as_array().unwrap();
    assert_eq!((results.len(), &results[0]["name"]), (3, &"scans/v1.npy".into()));
    assert!((results[0]["similarity"].as_f64().unwrap() - 1.0).abs() < 1e-5);
    clip(&desk, 1, &["retrieve", "-i", "scans/v1.npy"]).code_is(2);
}
