//! Inputs and models are never replaced, whatever is asked for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::checkpoints::{cached, copy};
use crate::{Desk, Run, data, finish, nifti, prompt};

/// All files below a folder, with their bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.display().to_string(), fs::read(path).unwrap());
        }
    }
    all
}

fn run(desk: &Desk, line: &str) -> Run {
    finish(desk.command().args(line.split_whitespace()))
}

#[test]
fn r10_force_replaces_no_file_of_the_model_and_adds_none() {
    let desk = Desk::new();
    copy(&data("phi3"), &desk.path("m"));
    let image = nifti(&desk, "ct.nii");
    let before = files(&desk.path("m"));
    for (options, says) in [
        ("--trace m/model.safetensors", "would replace a file of the model"),
        ("--report m/config.json", "would replace a file of the model"),
        ("--report ./m/../m/tokenizer.json", "would replace a file of the model"),
        ("--report m/new.json", "would be written into the folder of the model"),
        ("--preview m/deep/p.png", "would be written into the folder of the model"),
        ("--out m/results", "would be written into the folder of the model"),
        ("--out m", "of the model"),
    ] {
        let mut command = desk.command();
        command.args(["infer", "--model", "m", "--prompt", &prompt("phi3/golden/case0")]);
        command.arg("--image").arg(&image).arg("--force").args(options.split_whitespace());
        let run = finish(&mut command);
        run.fails(73, "R-OUT-06").says(says).says("--> m\n");
        assert!(!run.stderr.contains("research use"), "{}", run.stderr);
    }
    // A folder that would be made inside of it for want of another.
    let mut command = desk.command();
    command.current_dir(desk.path("m")).args(["infer", "-m", ".", "-p", "Liver?", "-i"]);
    finish(command.arg(&image)).fails(73, "R-OUT-06").says("the folder of the model");
    assert!(files(&desk.path("m")) == before);
    desk.is_empty_but_for(&["ct.nii", "m"]);
}

#[cfg(unix)]
#[test]
fn r10_what_links_of_a_model_lead_to_is_kept_too() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii");
    fs::create_dir(desk.path("m")).unwrap();
    copy(&data("phi3"), &desk.path("weights"));
    for entry in fs::read_dir(desk.path("weights")).unwrap().map(Result::unwrap) {
        let link = desk.path("m").join(entry.file_name());
        std::os::unix::fs::symlink(entry.path(), link).unwrap();
    }
    let before = files(&desk.path("weights"));
    for target in ["weights/config.json", "m/config.json"] {
        let mut command = desk.command();
        command.args(["infer", "-m", "m", "-p", "Liver?", "--force", "--report", target, "-i"]);
        finish(command.arg(&image)).fails(73, "R-OUT-06").says("the model");
    }
    assert!(files(&desk.path("weights")) == before);
}

#[test]
fn r10_no_command_writes_into_the_cache_of_downloads() {
    let desk = Desk::new();
    let snapshot = cached(&desk);
    let repository = snapshot.parent().unwrap().parent().unwrap();
    let blobs = repository.join("blobs");
    fs::create_dir(&blobs).unwrap();
    fs::write(blobs.join("0123"), "weights").unwrap();
    nifti(&desk, "ct.nii");
    let before = files(repository);
    let [blob, refs, new] = [blobs.join("0123"), repository.join("refs/main"), snapshot.join("x")]
        .map(|path| path.display().to_string());
    let infer = "infer -m R1Seg-3D-Phi-3-4B -i ct.nii -p Liver? --force --report";
    run(&desk, &format!("{infer} {blob}")).fails(73, "R-OUT-06").says("cache of downloads");
    run(&desk, &format!("{infer} {refs}")).fails(73, "R-OUT-06").says("cache of downloads");
    // Not of a model that is not even used.
    run(&desk, &format!("infer -m demo -i ct.nii -p Liver? --force --report {new}"))
        .fails(73, "R-OUT-06");
    run(&desk, &format!("demo --force --out {}", snapshot.display())).fails(73, "R-OUT-06");
    run(&desk, &format!("inspect ct.nii --force --preview {new}.png")).fails(73, "R-OUT-06");
    assert!(files(repository) == before);
}

#[test]
fn r10_segment_embed_and_inspect_keep_what_they_read() {
    let desk = Desk::new();
    for model in ["segvol", "m3d-clip"] {
        copy(&data(model), &desk.path(model));
    }
    nifti(&desk, "ct.nii");
    nifti(&desk, "other.nii");
    fs::write(desk.path("t.npy"), "liver\n").unwrap();
    let before = files(desk.folder.path());
    for (line, says) in [
        ("segment -m segvol -i ct.nii -t liver --trace segvol/model.safetensors", "the model"),
        ("segment -m segvol -i ct.nii -t liver --out segvol/new", "the model"),
        ("segment -m segvol -i ct.nii -t @t.npy --report t.npy", "a prompt file"),
        ("embed -m m3d-clip -i ct.nii -o m3d-clip/model.safetensors", "the model"),
        ("embed -m m3d-clip -i ct.nii -o m3d-clip/new.npy", "the model"),
        ("embed -m m3d-clip -t @t.npy -o t.npy", "a prompt file"),
    ] {
        run(&desk, &format!("{line} --force")).fails(73, "R-OUT-06").says(says);
    }
    fs::rename(desk.path("ct.nii"), desk.path("ct.png")).unwrap();
    run(&desk, "inspect ct.png --preview ct.png --force").fails(73, "R-OUT-06").says("the image");
    let line = "inspect ct.png --affine-from other.nii --preview p.png --force";
    assert_ne!(run(&desk, line).code, Some(73));
    fs::rename(desk.path("other.nii"), desk.path("p2.png")).unwrap();
    run(&desk, "inspect ct.png --affine-from p2.png --preview p2.png --force")
        .fails(73, "R-OUT-06")
        .says("--affine-from");
    fs::rename(desk.path("ct.png"), desk.path("ct.nii")).unwrap();
    fs::rename(desk.path("p2.png"), desk.path("other.nii")).unwrap();
    let _ = fs::remove_file(desk.path("p.png"));
    assert!(files(desk.folder.path()) == before);
}

#[test]
fn r10_convert_keeps_its_source_and_its_base() {
    let desk = Desk::new();
    copy(&data("phi3"), &desk.path("src"));
    copy(&data("phi3"), &desk.path("base"));
    run(&desk, "convert src -o made").succeeds();
    run(&desk, "convert made/model.safetensors --base base -o other").succeeds();
    fs::create_dir(desk.path("all")).unwrap();
    copy(&data("phi3"), &desk.path("all/src"));
    let before = files(desk.folder.path());
    for (line, says) in [
        ("convert made -o made", "would replace the source"),
        ("convert made/model.safetensors -o made", "would replace the source"),
        ("convert src -o src/new", "into the folder of the source"),
        ("convert all/src -o all", "would replace the source"),
        ("convert src --base made -o made", "would replace the base"),
        ("convert src --base base -o base/new", "into the folder of the base"),
        ("convert src --llm made/config.json -o made", "would replace the file of --llm"),
    ] {
        run(&desk, &format!("{line} --force")).fails(73, "R-OUT-06").says(says);
        run(&desk, line).fails(73, "R-OUT-06");
    }
    assert!(files(desk.folder.path()) == before);
}

#[cfg(unix)]
#[test]
fn r7_another_name_of_an_input_is_no_way_to_replace_it() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii");
    fs::hard_link(&image, desk.path("hard.nii")).unwrap();
    std::os::unix::fs::symlink(&image, desk.path("soft.nii")).unwrap();
    let before = fs::read(&image).unwrap();
    for name in ["hard.nii", "soft.nii", "./ct.nii"] {
        desk.run_infer(&image, &format!("--mask {name} --force")).fails(73, "R-OUT-06");
        desk.run_infer(&desk.path(name), "--mask ct.nii --force").fails(73, "R-OUT-06");
    }
    assert_eq!(fs::read(&image).unwrap(), before);
    assert!(desk.path("soft.nii").is_symlink());
}
