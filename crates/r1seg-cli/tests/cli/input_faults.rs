//! Volumes and questions that cannot be used.

use std::fs;

use crate::{Desk, Run, data, finish, nifti};

/// A `.npy` file of `bytes` with this header dictionary.
fn npy(header: &str, bytes: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    let padded = (header.len() + 11).div_ceil(64) * 64 - 10;
    file.extend(u16::try_from(padded).unwrap().to_le_bytes());
    file.extend(format!("{header:<width$}\n", width = padded - 1).bytes());
    file.extend(bytes);
    file
}

pub(crate) fn npy_of(descr: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    npy(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"), bytes)
}

/// Infers from a file of these bytes; nothing may be left beside it.
#[track_caller]
fn infer_bytes(name: &str, bytes: &[u8]) -> Run {
    let desk = Desk::new();
    fs::write(desk.path(name), bytes).unwrap();
    let run = desk.infer_volume(&desk.path(name), "");
    desk.is_empty_but_for(&[name]);
    run
}

#[test]
fn no_such_image() {
    let desk = Desk::new();
    desk.infer_volume(&desk.path("nope.nii.gz"), "").fails(66, "R-IN-01").says("nope.nii.gz");
    desk.is_empty_but_for(&[]);
}

#[test]
fn n18_a_directory_is_no_image() {
    let desk = Desk::new();
    desk.infer_volume(desk.folder.path(), "").fails(66, "R-IN-03");
}

#[cfg(unix)]
#[test]
fn n18_a_pipe_is_no_image_and_does_not_hang() {
    let desk = Desk::new();
    let made = std::process::Command::new("mkfifo").arg(desk.path("pipe")).status().unwrap();
    assert!(made.success());
    desk.infer_volume(&desk.path("pipe"), "").fails(66, "R-IN-04");
}

#[cfg(unix)]
#[test]
fn n18_a_loop_of_links_is_no_image() {
    let desk = Desk::new();
    std::os::unix::fs::symlink(desk.path("b"), desk.path("a")).unwrap();
    std::os::unix::fs::symlink(desk.path("a"), desk.path("b")).unwrap();
    desk.infer_volume(&desk.path("a"), "").fails(66, "R-IN-02");
}

#[test]
fn n18_an_empty_file_is_no_volume() {
    infer_bytes("ct.nii.gz", b"").fails(65, "R-IN-05");
}

#[test]
fn something_else_is_no_volume() {
    infer_bytes("ct.nii", b"hello, this is a letter").fails(65, "R-IN-06");
    infer_bytes("ct.npz", b"PK\x03\x04 an archive").fails(65, "R-NPZ-01").says("damaged");
}

#[test]
fn p5_an_array_of_four_axes_is_no_volume() {
    infer_bytes("a.npy", &npy_of("<f4", "(4, 4, 4, 4)", &[0; 1024])).fails(65, "R-NPY-03");
    infer_bytes("a.npy", &npy_of("<f4", "(64, 64)", &[0; 16384])).fails(65, "R-NPY-03");
}

#[test]
fn p1_an_array_of_python_objects_is_never_unpickled() {
    infer_bytes("a.npy", &npy_of("|O", "(4, 4, 4)", b"\x80\x04")).fails(65, "R-NPY-09");
}

#[test]
fn p4_an_array_shorter_or_longer_than_its_shape_is_refused() {
    infer_bytes("a.npy", &npy_of("<f4", "(4, 4, 4)", &[0; 100])).fails(65, "R-NPY-06");
    infer_bytes("a.npy", &npy_of("<f4", "(4, 4, 4)", &[0; 300])).fails(65, "R-NPY-05");
}

#[test]
fn p2_a_shape_that_overflows_or_lies_is_refused_at_once() {
    let huge = "(18446744073709551615, 4, 4)";
    infer_bytes("a.npy", &npy_of("<f4", huge, &[0; 64])).fails(65, "R-IN-07");
    infer_bytes("a.npy", &npy_of("<f4", "(4096, 4096, 4096)", &[0; 64])).fails(65, "R-IN-07");
    infer_bytes("a.npy", &npy_of("<f8", "(500, 1000, 1000)", &[0; 64])).fails(65, "R-NPY-06");
}

#[test]
fn n17_a_slice_is_no_volume() {
    infer_bytes("a.npy", &npy_of("<f4", "(1, 64, 64)", &[0; 16384])).fails(65, "R-IN-08");
}

#[test]
fn n9_a_volume_without_a_number_is_refused_and_some_nan_are_repaired() {
    let nan = f32::NAN.to_le_bytes();
    let all = nan.repeat(16 * 64 * 64);
    infer_bytes("a.npy", &npy_of("<f4", "(16, 64, 64)", &all)).fails(65, "R-IN-09");

    let desk = Desk::new();
    let mut some = 0.5f32.to_le_bytes().repeat(16 * 64 * 64);
    some[..4].copy_from_slice(&nan);
    some[4..8].copy_from_slice(&0.25f32.to_le_bytes());
    fs::write(desk.path("a.npy"), npy_of("<f4", "(16, 64, 64)", &some)).unwrap();
    desk.infer_volume(&desk.path("a.npy"), "").succeeds().says("warning[W-NAN]");
}

#[test]
fn n7_a_cut_nifti_is_named_as_such() {
    for (name, code) in [("ct.nii.gz", "R-NII-07"), ("ct.nii", "R-NII-07")] {
        let desk = Desk::new();
        let path = nifti(&desk, name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        desk.infer_volume(&path, "").fails(65, code).says("ends early");
        desk.is_empty_but_for(&[name]);
    }
}

/// A NIfTI whose header is changed.
fn nifti_with(offset: usize, value: &[u8]) -> Run {
    let desk = Desk::new();
    let path = nifti(&desk, "ct.nii");
    let mut bytes = fs::read(&path).unwrap();
    bytes[offset..offset + value.len()].copy_from_slice(value);
    fs::write(&path, bytes).unwrap();
    let run = desk.infer_volume(&path, "");
    desk.is_empty_but_for(&["ct.nii"]);
    run
}

#[test]
fn nifti_headers_that_lie_are_refused() {
    let dims = |dims: [i16; 8]| dims.map(i16::to_le_bytes).concat();
    // Several frames, too many voxels, no dimension.
    nifti_with(40, &dims([4, 64, 64, 8, 2, 1, 1, 1])).fails(65, "R-NII-11");
    nifti_with(40, &dims([7; 8].map(|_| 32767))).fails(65, "R-NII-03");
    nifti_with(40, &dims([3, 32767, 32767, 32767, 1, 1, 1, 1])).fails(65, "R-IN-07");
    nifti_with(40, &dims([3, 1000, 1000, 500, 1, 1, 1, 1])).fails(65, "R-NII-07");
    nifti_with(40, &dims([3, -64, 64, 16, 1, 1, 1, 1])).fails(65, "R-NII-04");
    // RGB24.
    nifti_with(70, &128i16.to_le_bytes()).fails(65, "R-NII-05");
}

#[test]
fn q1_an_empty_question_is_refused_before_anything_is_read() {
    let desk = Desk::new();
    for question in ["", "  \t", "\n"] {
        let run = desk.ask(&data("phi3"), &desk.path("nope.npy"), question, "");
        run.fails(2, "R-TOK-12");
    }
    desk.is_empty_but_for(&[]);
}

#[test]
fn q3_a_question_longer_than_the_context_is_refused_with_numbers() {
    let desk = Desk::new();
    let question = "liver ".repeat(9000);
    let run = desk.ask(&data("phi3"), &data("phi3/golden/volume.npy"), &question, "");
    run.fails(65, "R-PRM-01").says("8 of them the image").says("4096").says("fix: ");
    desk.is_empty_but_for(&[]);
}

#[test]
fn q1_a_question_in_no_known_encoding_is_refused() {
    let desk = Desk::new();
    fs::write(desk.path("q.txt"), b"segment \xff\xfe").unwrap();
    let ask = |prompt: &str| desk.ask(&data("phi3"), &data("phi3/golden/volume.npy"), prompt, "");
    ask("@q.txt").fails(65, "R-PRM-03").says("UTF-8");
    ask("@missing.txt").fails(66, "R-PRM-02").says("missing.txt");
    ask("@.").fails(66, "R-PRM-02");
    desk.is_empty_but_for(&["q.txt"]);
}

#[cfg(target_os = "linux")]
#[test]
fn q1_an_endless_file_of_questions_or_pairs_is_refused_in_little_memory() {
    let desk = Desk::new();
    let limited = |limit_kib: u32, args: &[&str]| {
        let mut command = desk.command_of("sh");
        let script = format!("ulimit -v {limit_kib}; exec \"$@\"");
        finish(command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_r1seg")]).args(args))
    };
    let (phi3, clip, image) = (data("phi3"), data("m3d-clip"), data("phi3/golden/volume.npy"));
    let [phi3, clip, image] = [&phi3, &clip, &image].map(|path| path.to_str().unwrap());
    let asked = limited(400_000, &["infer", "-m", phi3, "-i", image, "-p", "@/dev/zero"]);
    asked.fails(65, "R-PRM-06").says("is over 16777216 bytes");
    let texts = limited(400_000, &["retrieve", "-m", clip, "--texts", "/dev/zero", "-i", image]);
    texts.fails(65, "R-PRM-06").says("/dev/zero");
    let pairs = limited(400_000, &["retrieve", "-m", clip, "--pairs", "/dev/zero"]);
    pairs.fails(65, "R-RET-02").says("it is not text");
}

#[test]
fn q6_emoji_and_other_scripts_are_questions() {
    let desk = Desk::new();
    for question in ["肝臓をセグメントしてください 🫀", "اعرض الكبد", "a\0b"]
    {
        let mut command = desk.command();
        fs::write(desk.path("q.txt"), question).unwrap();
        command.args(["infer", "--force", "-o", "out", "--max-new-tokens", "4", "-p", "@q.txt"]);
        command.arg("-m").arg(data("phi3")).arg("-i").arg(data("phi3/golden/volume.npy"));
        finish(&mut command).succeeds();
    }
}

#[test]
fn q1_a_question_of_ten_megabytes_is_refused_with_numbers_and_nul_is_stripped() {
    let desk = Desk::new();
    fs::write(desk.path("q.txt"), "liver ".repeat(10_000_000 / 6)).unwrap();
    let image = data("phi3/golden/volume.npy");
    let ask = |prompt: &str| desk.ask(&data("phi3"), &image, prompt, "--no-preview");
    // By its bytes: no model was loaded.
    let run = ask("@q.txt");
    run.fails(65, "R-PRM-06").says("the prompt is 9999995 bytes long").says("262144");
    assert!(!run.stderr.contains("research use"), "{run:#?}");
    fs::write(desk.path("q.txt"), "Can you segment\0 the liver in this image?\0\n").unwrap();
    assert_eq!(ask("@q.txt").succeeds().stdout, "Sure, it is[SEG].\n");
    fs::write(desk.path("q.txt"), "\0\0\n").unwrap();
    ask("@q.txt").fails(2, "R-TOK-12");
}
