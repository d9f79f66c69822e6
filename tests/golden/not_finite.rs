//! NaN and infinity end in an error that names the stage, whatever the number format.

use candle_core::{Device, Tensor};
use r1seg::volume::{Geometry, Volume};
use r1seg::{
    AskOptions, CheckpointSource, DtypeChoice, EncodeOptions, Error, ErrorKind, M3dClip,
    Preprocess, PromptableModel, R1SegModel, Recipe, Remedy, RunContext, Separator, Stage,
};
use tempfile::TempDir;

use crate::case::{Expected, data, on_device, volume};

const IOU_TOKEN: &str = "model.vision_module.mask_decoder.iou_token.weight";

/// A copy of the recorded `phi3` with one tensor multiplied by `factor`.
fn scaled(tensor: &str, factor: f64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data("phi3")).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    let file = folder.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let changed: Tensor = (&tensors[tensor] * factor).unwrap();
    tensors.insert(tensor.to_string(), changed);
    candle_core::safetensors::save(&tensors, &file).unwrap();
    folder
}

/// The error that the recorded question meets.
fn failure(folder: &TempDir, compute: DtypeChoice) -> Error {
    let load = on_device().with_dtype(DtypeChoice::F32).with_compute(compute);
    let model = R1SegModel::load_with(folder.path(), &load).unwrap();
    let options = AskOptions::default().with_separator(Separator::None);
    let question = Expected::read("phi3/golden/case0").prompt;
    match model.encode_with(
        &volume("phi3/golden/volume.npy"),
        &as_it_is(),
        &mut RunContext::default(),
    ) {
        Ok(study) => study.ask_many(&[&question, &question], &options).map(drop).unwrap_err(),
        Err(error) => error,
    }
}

fn as_it_is() -> EncodeOptions {
    EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None))
}

#[test]
fn a_damaged_weight_is_named_with_its_stage_in_every_number_format() {
    for (tensor, stage) in [
        (IOU_TOKEN, Stage::Mask),
        ("model.seg_projector.2.bias", Stage::MaskPrompt),
        ("model.norm.weight", Stage::Prefill),
        ("model.vision_module.image_encoder.norm.weight", Stage::Encode),
    ] {
        let folder = scaled(tensor, f64::NAN);
        for compute in [DtypeChoice::F32, DtypeChoice::BF16, DtypeChoice::F16] {
            let error = failure(&folder, compute);
            assert_eq!((error.kind(), error.code()), (ErrorKind::Model, "R-WGT-05"), "{error}");
            assert_eq!(error.path(), Some(folder.path()));
            let Error::NotFinite { stage: found, damaged, .. } = error else { panic!("{error}") };
            assert_eq!((found, damaged), (stage, vec![tensor.to_string()]), "{compute:?}");
        }
    }
}

#[test]
fn an_overflow_of_f16_is_not_blamed_on_the_weights() {
    let folder = scaled("model.vision_module.image_encoder.norm.weight", 1e6);
    let error = failure(&folder, DtypeChoice::F16);
    assert_eq!((error.kind(), error.code()), (ErrorKind::NotFinite, "R-RUN-03"), "{error}");
    assert!(error.to_string().contains("in f16"), "{error}");
    let remedy = Remedy::ChangeFormat { format: "f16", check_intensities: true };
    assert_eq!(error.remedy(), Some(remedy), "{error}");
    assert_eq!(error.path(), None);
    let Error::NotFinite { damaged, .. } = error else { panic!("{error}") };
    assert_eq!(damaged, Vec::<String>::new());
}

#[test]
fn check_tensors_counts_sound_tensors_and_names_damaged_ones() {
    assert!(CheckpointSource::demo().check_tensors().unwrap() > 100);
    let folder = scaled(IOU_TOKEN, f64::INFINITY);
    let source = CheckpointSource::Folder(folder.path().to_path_buf());
    let Err(Error::Checkpoint(error)) = source.check_tensors() else { panic!() };
    let r1seg::checkpoint::Error::DamagedWeights { damaged, .. } = error else { panic!() };
    assert_eq!(damaged, [IOU_TOKEN]);
}

#[test]
fn voxels_beyond_all_bounds_end_in_the_stage_encode() {
    let shape = [16, 64, 64];
    let mut voxels = vec![0.5f32; 16 * 64 * 64];
    voxels[100..200].fill(3e38);
    let volume = Volume::new(voxels, Geometry::without_affine(shape)).unwrap();
    let model = R1SegModel::load(data("phi3")).unwrap();
    let error = model.encode_with(&volume, &as_it_is(), &mut RunContext::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFinite, "{error}");
    let checks = |remedy| matches!(remedy, Remedy::ChangeFormat { check_intensities: true, .. });
    assert!(error.remedy().is_some_and(checks), "{error}");
    assert!(matches!(error, Error::NotFinite { stage: Stage::Encode, .. }), "{error}");
}

#[test]
fn a_folder_that_is_not_there_is_not_found_by_any_model() {
    let folder = data("no-such-model");
    let errors = [
        R1SegModel::load(&folder).unwrap_err(),
        PromptableModel::load(&folder).unwrap_err(),
        M3dClip::load(&folder).unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.code()), (ErrorKind::Missing, "R-MDL-01"), "{error}");
        assert_eq!(error.path(), Some(folder.as_path()));
    }
}
