//! The commands of the README, as they stand there.

use std::fs;
use std::path::Path;

use r1seg::volume::{Geometry, Mask, Overwrite, Volume, write_mask, write_volume};

use crate::{Desk, data, finish};

/// Commands that run a model, one a line: those of `sh` blocks that are about `ct.nii.gz`.
fn commands() -> Vec<String> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md"));
    let readme = readme.unwrap().replace("\\\n", " ");
    let blocks = readme.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let runs = ["r1seg infer ", "r1seg segment ", "r1seg embed ", "r1seg inspect "];
    blocks
        .flat_map(str::lines)
        .filter(|line| line.contains("ct.nii.gz") && runs.iter().any(|run| line.contains(run)))
        .map(str::to_string)
        .collect()
}

#[cfg(target_os = "linux")]
#[test]
fn the_commands_of_the_readme_run_one_after_the_other_in_one_folder() {
    let desk = Desk::new();
    // A body of 324 x 276 x 220 mm, where the boxes and points of the README lie in it.
    let affine = [
        [-1.5, 0.0, 0.0, 170.0],
        [0.0, -1.5, 0.0, 130.0],
        [0.0, 0.0, 5.0, 900.0],
        [0.0, 0.0, 0.0, 1.0],
    ];
    let geometry = Geometry::with_affine([44, 184, 216], affine).unwrap();
    let voxels: Vec<i16> =
        (0..geometry.voxels()).map(|n| (n * 7919 % 1400) as i16 - 1000).collect();
    let volume = Volume::new(voxels, geometry).unwrap();
    write_volume(desk.path("ct.nii.gz"), &volume, Overwrite::Refuse).unwrap();
    for (name, model) in [
        ("R1Seg-3D-Phi-3-4B", "phi3"),
        ("M3D-LaMed-Phi-3-4B", "m3d-phi3"),
        ("M3D-CLIP", "m3d-clip"),
        ("SegVol", "segvol"),
        ("R1Seg-3D-SAM", "r1seg-3dsam"),
        ("SAM-Med3D", "sam-med3d"),
        ("HSENet", "hsenet-phi4"),
    ] {
        std::os::unix::fs::symlink(data(model), desk.path(name)).unwrap();
    }
    // In few windows, which are as good for noise.
    fs::create_dir(desk.path("NV-Segment-CT")).unwrap();
    let weights = data("vista3d/model.safetensors");
    std::os::unix::fs::symlink(weights, desk.path("NV-Segment-CT/model.safetensors")).unwrap();
    let config = fs::read_to_string(data("vista3d/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    (config["overlap"], config["patch_size"]) = (0.0.into(), serde_json::json!([112, 96, 80]));
    fs::write(desk.path("NV-Segment-CT/config.json"), config.to_string()).unwrap();
    let questions = "Can you segment the liver in this image?\nPlease segment the spleen.\n";
    fs::write(desk.path("questions.txt"), questions).unwrap();
    fs::write(desk.path("reports.txt"), "No finding.\n").unwrap();
    let mut liver = vec![0; volume.voxels().len()];
    liver[(40 * 184 + 180) * 216 + 190..][..20].fill(1);
    let liver = Mask::new(liver, volume.geometry().clone()).unwrap();
    write_mask(desk.path("liver.nii.gz"), &liver, Overwrite::Refuse).unwrap();
    fs::create_dir(desk.path("bin")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_r1seg"), desk.path("bin/r1seg")).unwrap();
    // Whoever tests need not have it; what it reads must be JSON.
    fs::write(desk.path("bin/jq"), "#!/bin/sh\ngrep -q research_use_only\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(desk.path("bin/jq"), executable).unwrap();
    let path = std::env::join_paths(
        std::iter::once(desk.path("bin"))
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );

    let commands = commands();
    assert!(commands.len() >= 8, "{commands:#?}");
    let path = path.unwrap();
    for line in &commands {
        let mut command = desk.command_of("sh");
        command.env("PATH", &path).env("R1SEG_MODEL", "R1Seg-3D-Phi-3-4B").args(["-c", line]);
        let run = finish(&mut command);
        // The small models need not find anything in noise.
        let is_fine = run.code == Some(0) || run.stderr.contains("--empty-mask");
        assert!(is_fine, "{line}\n{run:#?}");
    }
}
