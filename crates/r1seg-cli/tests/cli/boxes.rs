//! Boxes in answers, and questions about boxes.

use std::fs;

use serde_json::json;

use crate::schema::assert_keeps_to;
use crate::{Desk, data, finish, prompt, read_tensors, write_tensors};

/// A question of one's own to M3D-LaMed about the recorded volume.
fn ask_m3d(desk: &Desk, question: &str, options: &str) -> crate::Run {
    let mut command = desk.command();
    command.args(["infer", "--device", "cpu", "--out", "out", "-m"]).arg(data("m3d-phi3"));
    command.arg("-i").arg(data("m3d-phi3/golden/volume.npy")).args(["-p", question]);
    finish(command.args(options.split_whitespace()))
}

/// The recorded tokenizer's ids.
const BX_START: i64 = 616;
const BX_END: i64 = 617;

fn input_ids(desk: &Desk) -> Vec<i64> {
    let trace = &read_tensors(&desk.path("trace.safetensors"))["input_ids"];
    trace.bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

#[test]
fn a_box_in_an_answer_is_shown_in_voxels_and_mm_and_drawn() {
    let desk = Desk::new();
    let volume = data("phi3/golden/volume.npy");
    let question = prompt("phi3/golden/case3");
    let run = desk.ask(&data("phi3"), &volume, &question, "--spacing 5,0.5,2 --force");
    // The recorded box is d 2..=14, h 21..=39, w 32..=49; voxels are 2 x 0.5 x 5 mm.
    run.succeeds().says("box 32,21,2,49,39,14 (voxels i,j,k) | ").says(" mm (RAS+)");
    let report = desk.report();
    assert_keeps_to("report", &report);
    let found = &report["boxes"][0];
    assert_eq!(found["voxels"], json!([[32, 21, 2], [49, 39, 14]]));
    assert_eq!(found["model_voxels"], json!([[32, 21, 2], [49, 39, 14]]));
    let size = |axis: usize| {
        let mm = |corner: usize| found["mm"][corner][axis].as_f64().unwrap();
        mm(1) - mm(0)
    };
    assert_eq!([size(0), size(1), size(2)], [34.0, 9.0, 60.0]);
    // Orange, the color of label 1, which no mask has here.
    let drawn = fs::read(desk.path("out/preview.png")).unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(drawn)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    assert!(pixels.chunks_exact(3).filter(|p| *p == [230, 159, 0]).count() > 500);

    // Without an affine there are no mm.
    let run = desk.ask(&data("phi3"), &volume, &question, "--force");
    run.succeeds().says("box 32,21,2,49,39,14 (voxels i,j,k)\n");
    assert_eq!(desk.report()["boxes"][0]["mm"], json!(null));
}

#[test]
fn a_box_in_the_question_reaches_the_model_as_one() {
    let desk = Desk::new();
    let ask = |question: &str, options: &str| {
        let run = ask_m3d(&desk, question, &format!("{options} --trace trace.safetensors --force"));
        run.succeeds();
        input_ids(&desk)
    };
    let ids = ask("What is in {box}?", "--box 8,8,2,40,40,12");
    let count = |ids: &[i64], id: i64| ids.iter().filter(|n| **n == id).count();
    assert_eq!((count(&ids, BX_START), count(&ids, BX_END)), (1, 1));
    let report = desk.report();
    assert_keeps_to("report", &report);
    assert_eq!(report["asked_box"], json!([[8, 8, 2], [40, 40, 12]]));
    // Captions follow the image directly, questions about boxes do not.
    assert_eq!(report["separator"], "space");
    assert_eq!(report["prompt"], "What is in {box}?");

    // Voxels of 2 x 0.5 x 5 mm, the first at the origin: the same box in mm.
    let mm = "--box-mm 16,4,10,80,20,60 --spacing 5,0.5,2";
    assert_eq!(ask("What is in {box}?", mm), ids);
    assert_eq!(desk.report()["asked_box"], json!([[8, 8, 2], [40, 40, 12]]));

    // A user's own words never are a box.
    let typed = ask("What is in <bx_start>[0.125, 0.125, 0.125, 0.625, 0.625, 0.75]<bx_end>?", "");
    assert_eq!((count(&typed, BX_START), count(&typed, BX_END)), (0, 0));
    assert_eq!(desk.report()["separator"], "none");
}

#[test]
fn bad_boxes_are_errors_that_say_why() {
    let desk = Desk::new();
    let ask = |options: &str| ask_m3d(&desk, "What is in {box}?", options);
    // The volume has 64 x 64 x 16 voxels.
    ask("--box 0,0,0,64,63,15").fails(65, "R-BOX-01").says("64 x 64 x 16").says("r1seg inspect");
    ask("--box 70,0,0,71,1,1").fails(65, "R-BOX-01");
    ask("--box-mm 0,0,0,1,1,1").fails(65, "R-BOX-01").says("no affine");
    ask("--box-mm 9000,0,0,9001,1,1 --spacing 5,1,1").fails(65, "R-BOX-01").says("outside");
    ask("").fails(2, "R-ARG-03").says("--box I0,J0,K0,I1,J1,K1");
    ask("--box 0,0,0,1,1,1 --mode sliding").fails(2, "R-ARG-03").says("window");
    for (options, says) in [
        ("--box 9,0,0,8,1,1", "i runs from 9 to 8"),
        ("--box 0,0,0,1,1", "5 were given"),
        ("--box=-1,0,0,1,1,1", "indices begin at 0"),
        ("--box 0,0,0,1,1,nan", "`nan` is not a whole number"),
        ("--box-mm 0,0,0,1,1,inf", "`inf` is not a finite number"),
        ("--box-mm 0,5,0,1,1,1", "y runs from 5 to 1"),
        ("--box 0,0,0,1,1,1 --box-mm 0,0,0,1,1,1", "cannot be used with"),
    ] {
        let run = ask(options);
        assert_eq!(run.code, Some(2), "{options}: {run:?}");
        run.says(says);
    }
    desk.is_empty_but_for(&[]);
}

#[test]
fn a_model_without_tokens_for_boxes_says_so() {
    let desk = Desk::new();
    let model = desk.path("model");
    fs::create_dir(&model).unwrap();
    for name in ["config.json", "generation_config.json"] {
        fs::copy(data("m3d-phi3").join(name), model.join(name)).unwrap();
    }
    // The tokens have other names, and the table has rows for two more, as padded tables have.
    for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
        let text = fs::read_to_string(data("m3d-phi3").join(name)).unwrap();
        fs::write(model.join(name), text.replace("<bx_", "<other_")).unwrap();
    }
    let mut tensors = read_tensors(&data("m3d-phi3/model.safetensors"));
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let tensor = tensors.get_mut(name).unwrap();
        let row = tensor.bytes.len() / tensor.shape[0];
        tensor.shape[0] += 2;
        tensor.bytes.resize(tensor.bytes.len() + 2 * row, 0);
    }
    write_tensors(&model.join("model.safetensors"), &tensors);
    let infer = |options: &str| {
        let mut command = desk.command();
        command.args([
            "infer",
            "--device",
            "cpu",
            "--out",
            "out",
            "-p",
            "What is it?",
            "-m",
            "model",
        ]);
        command.arg("-i").arg(data("m3d-phi3/golden/volume.npy"));
        finish(command.args(options.split_whitespace()))
    };
    infer("--box 0,0,0,9,9,9").fails(2, "R-BOX-02").says("<bx_start>");
    infer("").succeeds();
}
