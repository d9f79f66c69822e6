//! The same cases with a quantised language model.

use std::ops::ControlFlow;

use r1seg::convert::{ConvertOptions, Quant, convert};
use r1seg::{CheckpointSource, R1SegModel};

use crate::case::{R1SEG_CASES, data, device};
use crate::half_precision::assert_alike;

fn quantised(case: &str, quant: Quant) -> (tempfile::TempDir, R1SegModel) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join(case);
    let options = ConvertOptions { quant: Some(quant), ..ConvertOptions::new(data(case)) };
    convert(&options, &out, &mut |_| ControlFlow::Continue(())).unwrap();
    let source = CheckpointSource::Folder(out);
    let model = R1SegModel::builder(source).device(device()).build().unwrap();
    (folder, model)
}

#[test]
fn r1seg_q8_0_says_the_same_and_masks_agree() {
    for case in R1SEG_CASES {
        let (_folder, model) = quantised(case, Quant::Q8_0);
        let report = model.load_report();
        assert!(report.is_clean(), "{case}: {}", report.summary());
        // The words themselves, however small the reference's lead.
        assert_alike(&model, case, 0.0);
    }
}

#[test]
fn widths_that_k_quants_cannot_hold_are_q8_0() {
    // 64 and 96 are no multiples of 256.
    let (_folder, model) = quantised("qwen2", Quant::Q4K);
    assert_alike(&model, "qwen2", 0.0);
}
