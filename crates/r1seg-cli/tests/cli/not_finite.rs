//! Numbers that are NaN or infinite, in the weights or on the way to a result: an error that names the
//! stage, and never a result that looks sound.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::Value;

use crate::checkpoints::copy;
use crate::{Desk, Run, data, finish, prompt, read_tensors, write_tensors};

/// A copy of a recorded checkpoint, with another first number in one tensor.
fn with_number(desk: &Desk, case: &str, tensor: &str, number: f32) -> PathBuf {
    let model = desk.path("model");
    copy(&data(case), &model);
    let _ = fs::remove_file(model.join("manifest.json"));
    let file = model.join("model.safetensors");
    let mut tensors = read_tensors(&file);
    let found = tensors.get_mut(tensor).unwrap();
    let bytes = number.to_le_bytes();
    match found.dtype {
        Dtype::F32 => found.bytes[..4].copy_from_slice(&bytes),
        // The upper half of an f32.
        Dtype::BF16 => found.bytes[..2].copy_from_slice(&bytes[2..]),
        other => panic!("{other:?}"),
    }
    write_tensors(&file, &tensors);
    model
}

/// The run ended because a tensor is damaged, which showed at a stage; nothing but the model is left.
#[track_caller]
fn assert_blames(run: &Run, desk: &Desk, tensor: &str, stage: &str) {
    assert_eq!(run.code, Some(78), "{tensor}: {run:#?}");
    run.says("error[R-WGT-05]: ").says(&format!("`{tensor}`")).says(&format!("`{stage}`"));
    run.says("1 tensor holds NaN or infinity").says("--check-tensors");
    // The tests run with RUST_BACKTRACE=1.
    for odd in ["fault of r1seg", "<unknown>", "   0: ", "panicked"] {
        assert!(!run.stderr.contains(odd), "{odd}: {run:#?}");
    }
    desk.is_empty_but_for(&["model"]);
}

const IOU_TOKEN: &str = "model.vision_module.mask_decoder.iou_token.weight";

fn infer(desk: &Desk, model: &Path, volume: &str, options: &str) -> Run {
    desk.ask(model, &data(volume), &prompt("phi3/golden/case0"), options)
}

#[test]
fn infer_with_a_damaged_weight_names_the_tensor_and_the_stage() {
    let relu = "model.vision_module.mask_decoder.transformer.layers.0.mlp.lin1.bias";
    let encoder = "model.vision_module.image_encoder.norm.weight";
    for (tensor, stage) in [
        (encoder, "encode"),
        ("model.mm_projector.projector.0.bias", "project"),
        ("model.layers.1.mlp.down_proj.weight", "prefill"),
        ("lm_head.weight", "prefill"),
        ("model.seg_projector.0.bias", "mask prompt"),
        (IOU_TOKEN, "mask"),
        (relu, "mask"),
    ] {
        for number in [f32::NAN, f32::INFINITY] {
            // The logit of one token may as well become -inf, which is a probability of zero.
            if tensor == "lm_head.weight" && number.is_infinite() {
                continue;
            }
            let desk = Desk::new();
            let model = with_number(&desk, "phi3", tensor, number);
            let run = infer(&desk, &model, "phi3/golden/volume.npy", "--preprocess none");
            assert_blames(&run, &desk, tensor, stage);
        }
    }
}

#[test]
fn sliding_windows_with_a_damaged_weight_are_not_taken_for_abstaining_ones() {
    for options in ["--mode sliding", "--mode sliding --abstain"] {
        let desk = Desk::new();
        let model = with_number(&desk, "phi3", IOU_TOKEN, f32::NAN);
        let run = infer(&desk, &model, "phi3/golden/sliding.volume.npy", options);
        assert_blames(&run, &desk, IOU_TOKEN, "mask");
    }
}

#[test]
fn the_mask_encoder_of_m3d_lamed_is_checked_too() {
    let desk = Desk::new();
    let tensor = "model.seg_module.image_encoder.norm.bias";
    let model = with_number(&desk, "m3d-phi3", tensor, f32::NAN);
    let question = prompt("m3d-phi3/golden/case0");
    let volume = data("m3d-phi3/golden/volume.npy");
    let run = desk.ask(&model, &volume, &question, "--preprocess none");
    assert_blames(&run, &desk, tensor, "encode");
}

#[test]
fn segment_with_a_damaged_weight_names_the_tensor_and_the_stage() {
    for mode in ["zoom", "sliding", "resize"] {
        for (tensor, stage) in [
            ("text_encoder.dim_align.bias", "text embedding"),
            ("image_encoder.norm.bias", "encode"),
            ("mask_decoder.iou_token.weight", "mask"),
        ] {
            let desk = Desk::new();
            let model = with_number(&desk, "segvol", tensor, f32::NAN);
            let mut command = desk.command();
            command.arg("segment").arg("--model").arg(&model).arg("--image");
            command.arg(data("segvol/golden/volume.npy")).args(["--text", "liver", "-o", "out"]);
            command.args(["--device", "cpu", "--preprocess", "none", "--mode", mode]);
            assert_blames(&finish(&mut command), &desk, tensor, stage);
        }
    }
}

#[test]
fn embed_and_retrieve_with_a_damaged_weight_name_the_tensor_and_the_stage() {
    let volume = data("phi3/golden/volume.npy");
    let volume = volume.to_str().unwrap();
    for (tensor, stage) in [
        ("vision_encoder.norm.bias", "encode"),
        ("mm_vision_proj.bias", "volume embedding"),
        ("language_encoder.embeddings.LayerNorm.bias", "text embedding"),
        ("mm_language_proj.bias", "text embedding"),
        ("logit_scale", "score"),
    ] {
        let desk = Desk::new();
        let model = with_number(&desk, "m3d-clip", tensor, f32::NAN);
        for args in [
            ["embed", "-t", "A cyst.", "-i", volume, "-o", "out.npy"],
            ["retrieve", "-t", "A cyst.", volume, "--top", "1", "--quiet"],
        ] {
            let mut command = desk.command();
            command.args(args).arg("--model").arg(&model).args(["--device", "cpu"]);
            let run = finish(&mut command);
            assert_blames(&run, &desk, tensor, stage);
            assert!(run.stdout.is_empty(), "{run:#?}");
        }
    }
}

/// Finite weights, too, lead to infinity; then the number format is the place to look.
#[test]
fn an_overflow_of_sound_weights_is_told_with_its_stage_and_the_number_format() {
    for (number, dtype, says) in [(3e38, "f32", "in f32"), (1e6, "f16", "in f16")] {
        let desk = Desk::new();
        let model = with_number(&desk, "phi3", IOU_TOKEN, number);
        let options = format!("--preprocess none --dtype {dtype}");
        let run = infer(&desk, &model, "phi3/golden/volume.npy", &options);
        assert_eq!(run.code, Some(70), "{run:#?}");
        run.says("error[R-RUN-03]: the stage `mask` computed NaN or infinity").says(says);
        run.says("all weights of the model are finite").says("fix: ");
        assert_eq!(run.stderr.contains("--dtype bf16"), dtype == "f16", "{run:#?}");
        assert!(!run.stderr.contains("fault of r1seg"), "{run:#?}");
        desk.is_empty_but_for(&["model"]);
    }
}

#[test]
fn inspect_finds_damaged_weights_when_it_is_asked_to_read_them() {
    let desk = Desk::new();
    let model = with_number(&desk, "phi3", IOU_TOKEN, f32::NAN);
    let inspect =
        |options: &[&str]| finish(desk.command().arg("inspect").arg(&model).args(options));
    inspect(&[]).succeeds();
    let run = inspect(&["--check-tensors", "--json"]);
    assert_eq!(run.code, Some(78), "{run:#?}");
    run.says("error[R-WGT-05]: 1 tensor holds NaN or infinity").says(IOU_TOKEN);
    let found: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (&found["problem"]["code"], &found["verdict"]),
        (&"R-WGT-05".into(), &"unusable".into())
    );
    // Sound ones, of each container.
    for (model, tensors) in [("phi3", "189 tensors"), ("m3d-clip", "72 tensors")] {
        let mut command = desk.command();
        command.arg("inspect").arg(data(model)).arg("--check-tensors");
        finish(&mut command).succeeds().says(&format!("no NaN or infinity in {tensors}"));
    }
    desk.run(["inspect", "demo", "--check-tensors"]).succeeds().says("no NaN or infinity");
    let volume = data("phi3/golden/volume.npy");
    desk.run(["inspect", volume.to_str().unwrap(), "--check-tensors"]).fails(2, "R-ARG-03");
}

#[test]
fn verify_finds_damaged_weights_of_a_folder_without_a_manifest() {
    let desk = Desk::new();
    let model = with_number(&desk, "phi3", IOU_TOKEN, f32::INFINITY);
    let run = finish(desk.command().arg("verify").arg(&model));
    run.fails(78, "R-WGT-05").says(IOU_TOKEN);
    let run = finish(desk.command().arg("verify").arg(data("phi3")));
    run.fails(66, "R-VER-01").says("no NaN or infinity in 189 tensors");
}

#[test]
fn quantized_weights_are_checked_by_the_scales_of_their_blocks() {
    let desk = Desk::new();
    let model = desk.path("model");
    let mut command = desk.command();
    command.arg("convert").arg(data("phi3")).args(["--quant", "q8_0", "-o"]).arg(&model);
    finish(&mut command).succeeds();
    // Ones in every bit are NaN as an f32 and as the scale of a block.
    let file = model.join("language_model.gguf");
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 128..].fill(0xff);
    fs::write(&file, bytes).unwrap();
    fs::remove_file(model.join("manifest.json")).unwrap();
    let run = finish(desk.command().arg("inspect").arg(&model).arg("--check-tensors"));
    assert_eq!(run.code, Some(78), "{run:#?}");
    run.says("error[R-WGT-05]").says(" NaN or infinity: `");
    let run = infer(&desk, &model, "phi3/golden/volume.npy", "--preprocess none");
    assert_eq!(run.code, Some(78), "{run:#?}");
    run.says("error[R-WGT-05]: the stage `prefill`").says("the weights are damaged");
    desk.is_empty_but_for(&["model"]);
}
