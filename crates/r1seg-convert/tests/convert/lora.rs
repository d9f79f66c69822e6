//! LoRA updates against a dense merge in f64.

use r1seg_checkpoint::AlphaSource;
use r1seg_convert::{ConvertOptions, Error, ErrorKind, Lora, Remedy, TargetDtype};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use safetensors::Dtype;

use crate::torch_file::{TorchFile, Val, dict};
use crate::{Place, f32_bytes, safetensors, tensors_of};

const OUT: usize = 6;
/// More columns than one block of the merge.
const IN: usize = 2500;
const RANK: usize = 4;

fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.next_u32() as f32 / u32::MAX as f32 - 0.5).collect()
}

struct Case {
    w: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Case {
    fn new() -> Self {
        Self { w: random(1, OUT * IN), a: random(2, RANK * IN), b: random(3, OUT * RANK) }
    }

    /// `W + scale * B A`.
    fn merged(&self, scale: f64) -> Vec<f64> {
        let at = |row: usize, column: usize| {
            let products = (0..RANK)
                .map(|k| f64::from(self.b[row * RANK + k]) * f64::from(self.a[k * IN + column]));
            f64::from(self.w[row * IN + column]) + scale * products.sum::<f64>()
        };
        (0..OUT * IN).map(|i| at(i / IN, i % IN)).collect()
    }
}

fn assert_merged(got: &[u8], expected: &[f64]) {
    let got: Vec<f32> =
        got.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((f64::from(*got) - expected).abs() < 1e-6, "{got} {expected}");
    }
}

/// `model_with_lora.bin` as R1Seg-3D saves it: the whole wrapped model.
fn whole(case: &Case) -> Vec<u8> {
    let mut file = TorchFile::new(2);
    let w = file.add_f32(&[OUT as i64, IN as i64], &case.w);
    let a = file.add_f32(&[RANK as i64, IN as i64], &case.a);
    let b = file.add_f32(&[OUT as i64, RANK as i64], &case.b);
    let bias = file.add_f32(&[1], &[3.0]);
    let embed = file.add_f32(&[2], &[8.0, 9.0]);
    let tensors = [
        ("base_model.model.model.layers.0.o_proj.base_layer.weight", w),
        ("base_model.model.model.layers.0.o_proj.base_layer.bias", bias),
        ("base_model.model.model.layers.0.o_proj.lora_A.default.weight", a),
        ("base_model.model.model.layers.0.o_proj.lora_B.default.weight", b),
        ("base_model.model.model.embed_tokens.weight", embed),
    ];
    file.root = dict(tensors.map(|(name, tensor)| (name, Val::Tensor(tensor))).to_vec());
    file.zip()
}

#[test]
fn a_whole_model_with_lora_equals_the_dense_merge_with_alpha_twice_the_rank() {
    let (case, place) = (Case::new(), Place::new());
    let report = place.convert_bytes("model_with_lora.bin", &whole(&case)).unwrap();
    let got = tensors_of(&place.out());
    let names: Vec<_> = got.keys().map(String::as_str).collect();
    let layer = "model.layers.0.o_proj";
    assert_eq!(
        names,
        ["model.embed_tokens.weight", &format!("{layer}.bias"), &format!("{layer}.weight")]
    );
    assert_merged(&got[&format!("{layer}.weight")].2, &case.merged(2.0));
    let lora = report.lora().unwrap();
    assert_eq!((lora.merged, lora.ranks.as_slice(), lora.alpha), (1, [4].as_slice(), 8.0));
    assert_eq!(lora.alpha_from, AlphaSource::TwiceTheRank);
}

#[test]
fn alpha_of_the_caller_wins_and_a_wrong_rank_is_refused() {
    let (case, place) = (Case::new(), Place::new());
    let mut options = ConvertOptions::new(place.write("m.bin", &whole(&case)));
    options.lora = Lora { r: Some(8), alpha: Some(1.0) };
    let error = place.convert(&options).unwrap_err();
    assert!(error.message().contains("ranks 4 and 4, expected 8"), "{error}");

    options.lora = Lora { r: Some(4), alpha: Some(1.0) };
    let report = place.convert(&options).unwrap();
    assert_eq!(report.lora().unwrap().alpha_from, AlphaSource::Option);
    assert_merged(&tensors_of(&place.out())["model.layers.0.o_proj.weight"].2, &case.merged(0.25));

    options.lora.alpha = Some(f64::NAN);
    options.replace = true;
    assert_eq!(place.convert(&options).unwrap_err().kind(), ErrorKind::Usage);
}

/// An adapter's folder and its base's.
fn adapter(place: &Place, case: &Case, config: &str, transposed: bool) -> ConvertOptions {
    let (f32, prefix) = (Dtype::F32, "base_model.model.model.layers.0.o_proj");
    let (a, b) = (format!("{prefix}.lora_A.weight"), format!("{prefix}.lora_B.weight"));
    let shape: [usize; 2] = if transposed { [IN, OUT] } else { [OUT, IN] };
    let w: Vec<f32> = match transposed {
        false => case.w.clone(),
        true => (0..OUT * IN).map(|i| case.w[i % OUT * IN + i / OUT]).collect(),
    };
    let base = [
        ("model.embed_tokens.weight", f32, [1].as_slice(), f32_bytes(&[1.0])),
        ("model.layers.0.o_proj.weight", f32, shape.as_slice(), f32_bytes(&w)),
        ("model.norm.weight", f32, [1].as_slice(), f32_bytes(&[4.0])),
    ];
    place.write("base/model.safetensors", &safetensors(&base));
    place.write("base/config.json", br#"{"model_type": "lamed_phi3_cross"}"#);
    place.write("base/tokenizer.model", b"of the base");
    let adapter = [
        (a.as_str(), f32, [RANK, IN].as_slice(), f32_bytes(&case.a)),
        (b.as_str(), f32, [OUT, RANK].as_slice(), f32_bytes(&case.b)),
        ("base_model.model.model.embed_tokens.weight", f32, [2].as_slice(), f32_bytes(&[5.0, 6.0])),
        (
            "base_model.model.model.mm_projector.modules_to_save.default.weight",
            f32,
            [1].as_slice(),
            f32_bytes(&[7.0]),
        ),
        (
            "base_model.model.model.mm_projector.original_module.weight",
            f32,
            [1].as_slice(),
            f32_bytes(&[-7.0]),
        ),
    ];
    place.write("adapter/adapter_model.safetensors", &safetensors(&adapter));
    place.write("adapter/adapter_config.json", config.as_bytes());
    ConvertOptions {
        base: Some(place.path("base")),
        dtype: Some(TargetDtype::F32),
        ..ConvertOptions::new(place.path("adapter"))
    }
}

#[test]
fn an_adapter_folder_is_merged_into_its_base_and_replaces_what_it_trained() {
    let (case, place) = (Case::new(), Place::new());
    let config = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 6, "fan_in_fan_out": false}"#;
    let options = adapter(&place, &case, config, false);
    let report = place.convert(&options).unwrap();
    let got = tensors_of(&place.out());
    assert_eq!(got.len(), 4);
    assert_merged(&got["model.layers.0.o_proj.weight"].2, &case.merged(1.5));
    assert_eq!(got["model.embed_tokens.weight"].2, f32_bytes(&[5.0, 6.0]));
    assert_eq!(got["model.mm_projector.weight"].2, f32_bytes(&[7.0]));
    assert_eq!(got["model.norm.weight"].2, f32_bytes(&[4.0]));
    assert_eq!(report.lora().unwrap().alpha_from, AlphaSource::AdapterConfig);
    assert!(report.has_config && report.has_tokenizer);
    let names: Vec<_> = report.manifest.sources.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["adapter_model.safetensors", "model.safetensors"]);
}

#[test]
fn transposed_matrices_and_rank_stabilized_scales_are_merged_so() {
    let (case, place) = (Case::new(), Place::new());
    let config = r#"{"lora_alpha": 6, "fan_in_fan_out": true, "use_rslora": true}"#;
    place.convert(&adapter(&place, &case, config, true)).unwrap();
    let dense = case.merged(3.0);
    let expected: Vec<f64> = (0..OUT * IN).map(|i| dense[i % OUT * IN + i / OUT]).collect();
    assert_merged(&tensors_of(&place.out())["model.layers.0.o_proj.weight"].2, &expected);
}

#[test]
fn an_adapter_without_its_base_asks_for_it() {
    let (case, place) = (Case::new(), Place::new());
    let mut options = adapter(&place, &case, "{}", false);
    options.base = None;
    let error = place.convert(&options).unwrap_err();
    assert!(matches!(error, Error::NeedsBase { count: 1, .. }), "{error:?}");
    assert_eq!(error.remedy(), Some(Remedy::GiveBaseModel));
}

#[test]
fn adapters_of_other_kinds_and_broken_ones_are_refused() {
    let case = Case::new();
    for config in [
        r#"{"peft_type": "IA3"}"#,
        r#"{"use_dora": true}"#,
        r#"{"rank_pattern": {"q_proj": 8}}"#,
        r#"{"alpha_pattern": {"q_proj": 8}}"#,
        r#"{"lora_alpha": -1}"#,
        r#"{"r": 5}"#,
        r#"{"r": "#,
    ] {
        let place = Place::new();
        let error = place.convert(&adapter(&place, &case, config, false)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model, "{config}: {error}");
    }
    let f32 = Dtype::F32;
    for (what, a, b) in [
        ("half", "x.lora_A.default.weight", None),
        ("magnitude", "x.lora_magnitude_vector.default.weight", None),
        ("two adapters", "x.lora_A.one.weight", Some("x.lora_B.two.weight")),
        ("shapes", "x.lora_A.default.weight", Some("x.lora_B.default.weight")),
    ] {
        let place = Place::new();
        let mut tensors = vec![
            ("x.base_layer.weight", f32, [2, 3].as_slice(), vec![0; 24]),
            (a, f32, [1, 4].as_slice(), vec![0; 16]),
        ];
        tensors.extend(b.map(|b| (b, f32, [2, 1].as_slice(), vec![0; 8])));
        let error = place.convert_bytes("x.safetensors", &safetensors(&tensors)).unwrap_err();
        assert!(matches!(error, Error::Lora { .. }), "{what}: {error:?}");
    }
}
