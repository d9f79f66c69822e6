//! The same cases with a quantized language model.

use std::ops::ControlFlow;
use std::path::PathBuf;

use r1seg::R1SegModel;
use r1seg::convert::{ConvertOptions, Quant, convert};

use crate::case::{R1SEG_CASES, data, on_device, repository};
use crate::half_precision::assert_alike;
use crate::phantom;

fn quantized(source: PathBuf, quant: Quant) -> (tempfile::TempDir, R1SegModel) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("quantized");
    let architecture = r1seg::registry::architecture;
    let options =
        ConvertOptions { quant: Some(quant), architecture, ..ConvertOptions::new(source) };
    convert(&options, &out, &mut |_| ControlFlow::Continue(())).unwrap();
    let model = R1SegModel::load_with(out, &on_device()).unwrap();
    (folder, model)
}

#[test]
fn r1seg_q8_0_says_the_same_and_masks_agree() {
    for case in R1SEG_CASES {
        let (_folder, model) = quantized(data(case), Quant::Q8_0);
        let report = model.load_report();
        assert!(report.is_clean(), "{case}: {}", report.summary());
        // The words themselves, however small the reference's lead.
        assert_alike(&model, case, 0.0);
    }
}

#[test]
fn widths_that_k_quants_cannot_hold_are_q8_0() {
    // 64 and 96 are no multiples of 256.
    let (_folder, model) = quantized(data("qwen2"), Quant::Q4K);
    assert_alike(&model, "qwen2", 0.0);
}

/// A model that was trained, unlike the others. k-quants do not fit its width.
#[test]
fn the_demo_model_in_q8_0_says_the_same_and_masks_agree() {
    let (_folder, model) = quantized(repository("crates/r1seg-phantom/model"), Quant::Q8_0);
    phantom::assert_alike(&model);
}
