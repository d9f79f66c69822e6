//! One way to load: any family, by what its checkpoint is.

use std::fs;
use std::ops::ControlFlow;

use r1seg::convert::{ConvertOptions, convert};
use r1seg::registry::Family;
use r1seg::{
    InferenceMode, LoadOptions, M3dClip, Model, OutputKind, PromptKind, PromptableModel,
    R1SegModel, load,
};

use crate::case::{data, on_device};

const CASES: [(&str, Family, &str); 5] = [
    ("phi3", Family::R1Seg3d, "phi3"),
    ("m3d-phi3", Family::M3dLamed, "m3d-phi3"),
    ("r1seg-3dsam", Family::R1Seg3dSam, "r1seg-3dsam"),
    ("segvol", Family::SegVol, "segvol"),
    ("m3d-clip", Family::M3dClip, "m3d-clip"),
];

#[test]
fn every_family_is_loaded_by_what_its_checkpoint_is() {
    for (case, family, id) in CASES {
        let model = load(data(case), &on_device()).unwrap();
        assert_eq!((model.family(), model.name().id.as_str()), (family, id));
        assert!(model.load_report().is_clean() && !model.load_time().is_zero(), "{case}");
        let capabilities = model.capabilities();
        // The recorded checkpoints are smaller than the published ones, and otherwise alike.
        assert_ne!(model.input_shape(), family.capabilities().input_shape, "{case}");
        let mut published = *capabilities;
        published.input_shape = family.capabilities().input_shape;
        assert_eq!(published, *family.capabilities(), "{case}");
        let encoder = match &model {
            Model::Language(model) => model.config().branches[0].vit.clone().into(),
            Model::Promptable(model) => model.config().image_encoder.clone(),
            Model::Retrieval(model) => model.config().vit.clone().into(),
            Model::Automatic(_) => continue,
        };
        let input = (encoder.image_size(), encoder.in_channels());
        assert_eq!(input, (model.input_shape(), capabilities.channels));
    }
}

#[test]
fn capabilities_say_what_the_models_do() {
    let can = |family: Family| family.capabilities();
    assert!(can(Family::R1Seg3d).takes(PromptKind::Question));
    assert!(can(Family::M3dLamed).gives(OutputKind::Boxes));
    assert!(can(Family::SegVol).takes(PromptKind::Points));
    assert!(!can(Family::R1Seg3dSam).takes(PromptKind::Points));
    assert!(can(Family::M3dClip).gives(OutputKind::Embedding));
    assert_eq!(can(Family::SegVol).default_mode(), Some(InferenceMode::Zoom));
    assert_eq!(can(Family::M3dClip).default_mode(), None);
}

#[test]
fn a_model_of_another_family_is_refused_by_what_it_cannot_do() {
    let options = on_device();
    for (case, family, _) in CASES {
        let can = family.capabilities();
        let answers = can.takes(PromptKind::Question);
        let loaded = [
            (answers, R1SegModel::load_with(data(case), &options).err()),
            (
                can.gives(OutputKind::Mask) && !answers,
                PromptableModel::load_with(data(case), &options).err(),
            ),
            (can.gives(OutputKind::Embedding), M3dClip::load_with(data(case), &options).err()),
        ];
        for (expected, error) in loaded {
            assert_eq!(error.is_none(), expected, "{case}: {error:?}");
            if let Some(error) = error {
                assert_eq!(error.code(), "R-MDL-05");
                let said = error.to_string();
                assert!(said.contains(&format!("{} cannot ", family.name())), "{said}");
            }
        }
    }
}

#[test]
fn refinement_that_a_model_cannot_do_is_refused_for_every_family() {
    for (case, family, _) in CASES {
        let loaded = load(data(case), &on_device().with_num_clicks(1));
        match family.capabilities().refines_masks {
            true => assert_eq!(loaded.unwrap().num_clicks(), 1, "{case}"),
            false => assert_eq!(loaded.unwrap_err().code(), "R-ARG-02", "{case}"),
        }
    }
}

#[test]
fn weights_that_were_changed_are_found_if_they_are_to_be_verified() {
    let desk = tempfile::tempdir().unwrap();
    let out = desk.path().join("converted");
    let options = ConvertOptions::new(data("phi3"));
    convert(&options, &out, &mut |_| ControlFlow::Continue(())).unwrap();
    let verify = LoadOptions::default().with_verify();
    assert!(load(&out, &verify).is_ok());
    let weights = out.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    assert!(load(&out, &LoadOptions::default()).is_ok(), "only their size is compared");
    assert_eq!(load(&out, &verify).unwrap_err().code(), "R-VER-03");
    let error = load(data("phi3"), &verify).unwrap_err();
    assert_eq!(error.code(), "R-VER-01", "there is nothing to compare with");
    assert!(load("demo", &verify).is_ok(), "it has no files");
}
