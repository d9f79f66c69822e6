//! The machine's faults: memory, storage, signals, threads, odd numbers and odd paths.

use std::fs;

use serde_json::Value;

use crate::{Desk, data, finish, nifti};

/// A copy of the small checkpoint whose header promises a tensor of 1 TiB, in a file with a hole.
fn huge_checkpoint(desk: &Desk) -> bool {
    const HUGE: u64 = 1 << 40;
    fs::create_dir(desk.path("model")).unwrap();
    for entry in fs::read_dir(data("phi3")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, desk.path("model").join(path.file_name().unwrap())).unwrap();
        }
    }
    let path = desk.path("model/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let (header, tensors) = bytes[8..].split_at(length);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    let (start, end) = (tensors.len() as u64, tensors.len() as u64 + HUGE);
    header["huge"] =
        serde_json::json!({"dtype": "F32", "shape": [HUGE / 4], "data_offsets": [start, end]});
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(&header);
    file.extend(tensors);
    fs::write(&path, &file).unwrap();
    // Not every file system has such large files.
    let file_length = 8 + header.len() as u64 + end;
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(file_length).is_ok()
}

#[cfg(target_os = "linux")]
#[test]
fn r1_a_model_that_memory_cannot_hold_is_refused_with_numbers_before_it_is_loaded() {
    let desk = Desk::new();
    if !huge_checkpoint(&desk) {
        eprintln!("skipped: no file of 1 TiB here");
        return;
    }
    let run = desk.infer_with(&desk.path("model"));
    run.fails(75, "R-MEM-01").says("needs about 1024.0 GiB of memory, and ").says("fix: ");
    run.says("model\n");
    desk.is_empty_but_for(&["model"]);
}

/// What a shell's `limit` makes of a command.
#[cfg(unix)]
fn limited(desk: &Desk, limit: &str, command: &std::process::Command) -> crate::Run {
    let mut shell = desk.command_of("sh");
    shell.args(["-c", &format!("{limit}; exec \"$@\""), "sh"]);
    finish(shell.arg(command.get_program()).args(command.get_args()))
}

#[cfg(target_os = "linux")]
#[test]
fn r11_a_limit_of_the_address_space_ends_in_75_or_in_an_answer_and_never_in_a_signal() {
    let desk = Desk::new();
    let mut answered = 0;
    // Below 56 the program itself, which carries a model and a page, finds no room to begin in.
    // Those between 150 and 200 leave the allocator enough, and threads hardly anything.
    for megabytes in [60, 66, 74, 100, 150, 166, 172, 180, 200, 400, 800, 4000] {
        let mut infer = desk.command();
        infer.args(["infer", "-m", "demo", "-p", "Liver?", "--report", "r.json", "--force"]);
        infer.args(["--device", "cpu", "--max-new-tokens", "4", "-i"]);
        infer.arg(data("phi3/golden/volume.npy"));
        let run = limited(&desk, &format!("ulimit -v {}", megabytes * 1000), &infer);
        if run.code == Some(0) {
            answered += 1;
            fs::remove_file(desk.path("r.json")).unwrap();
            continue;
        }
        let said = ["memory", "fix: "].iter().all(|words| run.stderr.contains(words));
        assert!(run.code == Some(75) && said, "{megabytes} MB: {run:#?}");
        assert!(!run.stderr.contains("panicked"), "{megabytes} MB: {run:#?}");
        // A process whose memory ends while it writes cannot clean up.
        let results = desk.names(".").into_iter().filter(|name| !name.ends_with(".part"));
        assert_eq!(results.collect::<Vec<_>>(), [""; 0], "{megabytes} MB");
    }
    assert!((1..12).contains(&answered), "{answered} of 12 limits were enough");
    // The run that had memory enough has cleaned up behind the others.
    desk.is_empty_but_for(&[]);
}

#[cfg(target_os = "linux")]
#[test]
fn r11_weights_beyond_the_address_space_are_refused_with_numbers_mapped_or_read() {
    let desk = Desk::new();
    if !huge_checkpoint(&desk) {
        eprintln!("skipped: no file of 1 TiB here");
        return;
    }
    for options in ["", "--no-mmap"] {
        let mut infer = desk.command();
        infer.args(["infer", "-m", "model", "-p", "Liver?", "-o", "out", "-i"]);
        infer.arg(data("phi3/golden/volume.npy")).args(options.split_whitespace());
        let run = limited(&desk, "ulimit -v 4000000", &infer);
        run.fails(75, "R-MDL-04").says("bytes are more than this process may have").says("fix: ");
        run.says("ulimit -v");
    }
    desk.is_empty_but_for(&["model"]);
}

#[cfg(unix)]
#[test]
fn r11_pickles_are_read_within_limits_that_are_lower_than_their_own() {
    let desk = Desk::new();
    let mut convert = desk.command();
    convert.arg("convert").arg(data("llama31-bin")).args(["-o", "out"]);
    limited(&desk, "ulimit -v 1000000", &convert).succeeds();
}

#[cfg(target_os = "linux")]
#[test]
fn w8_weights_that_are_cut_short_while_they_are_used_are_named() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let broken = crate::model_faults::Broken::new("phi3");
    let desk = &broken.desk;
    let question = format!("{}\n", crate::prompt("phi3/golden/case0"));
    fs::write(desk.path("q.txt"), question.repeat(200)).unwrap();
    let mut command = desk.command();
    command.args(["infer", "-o", "out", "--device", "cpu", "--separator", "none"]);
    command.args(["-p", "@q.txt", "-m", "model", "-i"]).arg(data("phi3/golden/volume.npy"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    answers.read_line(&mut String::new()).unwrap();
    let weights = fs::OpenOptions::new().write(true).open(broken.file("model.safetensors"));
    weights.unwrap().set_len(4096).unwrap();
    std::io::copy(&mut answers, &mut std::io::sink()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(74), "{stderr}");
    assert!(stderr.contains("error[R-MDL-07]: the weights changed"), "{stderr}");
    assert!(stderr.contains("--no-mmap"), "{stderr}");
    desk.is_empty_but_for(&["model", "q.txt"]);
}

/// The limit on the size of files stands in for a full disk: both fail in the middle of a file.
#[cfg(unix)]
#[test]
fn r2_a_disk_that_is_full_leaves_nothing_half_written() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii.gz");
    for options in ["--out out", "--mask m.nii --report r.json"] {
        let infer = desk.bare_command(&image, options);
        // The signal that the limit sends does not end the process.
        let run = limited(&desk, "ulimit -f 8", &infer);
        assert_eq!(run.code, Some(74), "{run:#?}");
        run.says("error[R-OUT-05]: writing failed").says("fix: check the space left");
        assert!(!run.stderr.contains(".part"), "{run:#?}");
        desk.is_empty_but_for(&["ct.nii.gz"]);
    }
}

#[test]
fn r5_there_are_as_many_threads_as_allowed() {
    let desk = Desk::new();
    let threads = |command: &mut std::process::Command| -> Option<Value> {
        command.args(["bench", "--format", "json", "--device", "cpu", "-m"]).arg(data("phi3"));
        let bench: Value = serde_json::from_slice(&command.output().unwrap().stdout).ok()?;
        Some(bench["threads"].clone())
    };
    for count in [1, 3] {
        let mut command = desk.command();
        command.env("RAYON_NUM_THREADS", count.to_string());
        assert_eq!(threads(&mut command).unwrap(), count);
    }
    // A processor set is what a container without a quota has; the standard library reads both.
    let mut command = desk.command_of("taskset");
    command.args(["-c", "0", env!("CARGO_BIN_EXE_r1seg")]).env_remove("RAYON_NUM_THREADS");
    if command
        .get_program()
        .to_str()
        .is_some_and(|p| std::process::Command::new(p).output().is_ok())
    {
        assert_eq!(threads(&mut command).unwrap(), 1);
    }
}

/// What `doctor` says of threads: those of the program, and those of the tensor library.
#[cfg(unix)]
fn threads_of(command: &mut std::process::Command) -> (u64, u64, String) {
    let run = finish(command.args(["doctor", "--json"]));
    let found: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    let count = |field: &str| found["cpu"][field].as_u64().unwrap();
    assert!(count("tensor_threads") <= count("threads"), "{found:#}");
    (count("threads"), count("usable_processors"), run.stderr)
}

#[cfg(unix)]
#[test]
fn threads_are_as_many_as_the_flag_says_else_the_variables_and_never_very_many() {
    let desk = Desk::new();
    let threads = |flag: &str, ours: &str, rayons: &str| {
        let mut command = desk.command();
        command.env("R1SEG_THREADS", ours).env("RAYON_NUM_THREADS", rayons);
        threads_of(command.args(flag.split_whitespace()))
    };
    let (all, usable, _) = threads("", "", "");
    assert_eq!(all, usable);
    for (flag, ours, rayons, expected) in [
        ("--threads 1", "2", "3", 1),
        ("", "2", "3", 2),
        ("", "", "3", 3),
        ("--threads 0", "2", "", all),
        ("", "", "junk", all),
    ] {
        let (count, _, stderr) = threads(flag, ours, rayons);
        assert_eq!((count, stderr.as_str()), (expected, ""), "{flag} {ours} {rayons}");
    }
    for (flag, rayons) in [("", "100000"), ("--threads 99999999999999999999999", "")] {
        let (count, _, stderr) = threads(flag, "", rayons);
        assert_eq!(count, 4 * usable);
        assert_eq!(stderr.matches("warning[W-THREADS]: ").count(), 1, "{stderr}");
        assert!(stderr.contains("fix: --threads N"), "{stderr}");
    }
}

/// A numpy array of the demo model's size.
fn npy_of(value: f32) -> Vec<u8> {
    let mut file = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (32, 256, 256), }";
    file.extend(format!("{header:<117}\n").bytes());
    file.extend((0..32 * 256 * 256).flat_map(|n| (value * (n % 97) as f32).to_le_bytes()));
    file
}

#[test]
fn r6_numbers_too_small_for_a_processor_to_like_cost_no_more_than_others() {
    let desk = Desk::new();
    let seconds = |name: &str| -> f64 {
        let options = "--preprocess none -p Liver? --json --report r.json --force \
                       --max-new-tokens 4 --device cpu";
        let run =
            desk.run(["infer", "-m", "demo", "-i", name].into_iter().chain(options.split(' ')));
        let report: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
        let stages = ["preprocess", "vit", "projector", "prefill", "decode", "mask"];
        stages.iter().map(|s| report["timings_ms"][s].as_f64().unwrap()).sum::<f64>() / 1e3
    };
    fs::write(desk.path("ordinary.npy"), npy_of(0.01)).unwrap();
    fs::write(desk.path("denormal.npy"), npy_of(1e-42)).unwrap();
    // In turns, and the quickest of several, since other tests run at the same time. Processors
    // that trap on such numbers are slower by far more than the limit.
    let (mut ordinary, mut denormal) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..4 {
        ordinary = ordinary.min(seconds("ordinary.npy"));
        denormal = denormal.min(seconds("denormal.npy"));
    }
    assert!(denormal < 3.0 * ordinary, "{denormal} s, but {ordinary} s for ordinary numbers");
}

#[cfg(unix)]
#[test]
fn r8_paths_need_not_be_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let desk = Desk::new();
    let odd = |name: &[u8]| desk.folder.path().join(std::ffi::OsStr::from_bytes(name));
    // Not every file system takes such names.
    if fs::copy(data("phi3/golden/volume.npy"), odd(b"v\xff.npy")).is_err() {
        eprintln!("skipped: names must be UTF-8 here");
        return;
    }
    desk.infer_volume(&odd(b"v\xff.npy"), "").succeeds();
    fs::write(odd(b"q\xff.txt"), "Liver?").unwrap();
    let mut command = desk.command();
    command.args(["infer", "--max-new-tokens", "2", "-m"]).arg(data("phi3"));
    command.arg("-i").arg(odd(b"v\xff.npy"));
    command.arg("-p").arg(std::ffi::OsStr::from_bytes(b"@q\xff.txt"));
    command.arg("--mask").arg(odd(b"m\xff.npy")).arg("--report").arg(odd(b"r\xff.json"));
    finish(&mut command).succeeds();
    assert!(odd(b"r\xff.json").is_file());
}

#[test]
fn r8_paths_longer_than_the_system_takes_are_refused() {
    let desk = Desk::new();
    let long = format!("{}x.nii.gz", "folder/".repeat(600));
    desk.infer_volume(long.as_ref(), "").fails(66, "R-IN-02");
    let image = nifti(&desk, "ct.nii.gz");
    desk.infer_volume(&image, &format!("--out {long}")).fails(73, "R-OUT-02");
    desk.run_infer(&image, &format!("--mask {long}")).fails(73, "R-OUT-02");
    let name = format!("{}.nii.gz", "n".repeat(300));
    desk.run_infer(&image, &format!("--mask {name}")).fails(73, "R-OUT-02");
    desk.is_empty_but_for(&["ct.nii.gz"]);
}

#[test]
fn r8_numbers_have_points_whatever_the_language() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii.gz");
    let mut command = desk.infer_command(&image, "--json");
    let run = finish(command.env("LC_ALL", "de_DE.UTF-8").env("LANG", "de_DE.UTF-8"));
    let report: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    assert_eq!(report["input"]["spacing_mm"][2], 5.0);
}
