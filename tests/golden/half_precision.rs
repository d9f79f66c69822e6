//! The same cases with half-precision weights: same tokens where the reference's margin allows,
//! and masks that agree.

use candle_core::Tensor;
use r1seg::{DtypeChoice, R1SegModel};

use crate::case::{
    Expected, M3D_CASES, R1SEG_CASES, ask, data, dice, encode, on_device, unpack_bits, volume,
};

/// A token whose logit leads by less than this may fall to its runner-up when numbers are rounded
/// to 8 bits: a few units in the last place of bf16 at the magnitude of these logits.
const MARGIN: f32 = 0.25;

fn margin(step: &Tensor) -> f32 {
    let mut logits = step.to_vec1::<f32>().unwrap();
    logits.sort_by(|a, b| b.total_cmp(a));
    logits[0] - logits[1]
}

fn check(case: &str, dtype: DtypeChoice, compute: DtypeChoice) {
    let options = on_device().with_dtype(dtype).with_compute(compute);
    let model = R1SegModel::load_with(data(case), &options).unwrap();
    assert_alike(&model, case, MARGIN);
}

/// Asserts the recorded tokens, as far as the reference leads by `allowed`, and Dice of 0.99.
pub(crate) fn assert_alike(model: &R1SegModel, case: &str, allowed: f32) {
    let study = encode(model, &volume(&format!("{case}/golden/volume.npy")));
    let cases = if case.starts_with("m3d") { 3 } else { 5 };
    for n in 0..cases {
        let what = format!("{case} case {n}");
        let expected = Expected::read(&format!("{case}/golden/case{n}"));
        let answer = ask(&study, &expected.prompt);
        let steps = &expected.tensors["llm.step_logits"];
        let mut same = true;
        for (k, id) in expected.ids("output_ids").into_iter().enumerate() {
            if answer.token_ids.get(k).map(|&id| i64::from(id)) != Some(id) {
                let margin = margin(&steps.get(k).unwrap());
                assert!(margin < allowed, "{what}: token {k} differs, margin {margin}");
                same = false;
                break;
            }
        }
        if same && let Some(mask) = &answer.mask {
            let got: Vec<bool> = mask.data().iter().map(|&v| v == 1).collect();
            let dice = dice(&got, &unpack_bits(&expected.tensors["mask.packed"]));
            assert!(dice >= 0.99, "{what}: Dice {dice}");
        }
    }
}

#[test]
fn r1seg_bf16_weights_say_the_same_and_masks_agree() {
    for case in R1SEG_CASES.into_iter().chain(M3D_CASES) {
        check(case, DtypeChoice::BF16, DtypeChoice::Auto);
    }
}

#[test]
fn r1seg_f16_weights_say_the_same_and_masks_agree() {
    for case in R1SEG_CASES.into_iter().chain(M3D_CASES) {
        check(case, DtypeChoice::F16, DtypeChoice::Auto);
    }
}

/// What CUDA computes: activations in half precision, softmax, norms and rotary tables in f32.
#[test]
fn r1seg_bf16_activations_say_the_same_and_masks_agree() {
    for case in R1SEG_CASES.into_iter().chain(M3D_CASES) {
        check(case, DtypeChoice::BF16, DtypeChoice::BF16);
    }
}
