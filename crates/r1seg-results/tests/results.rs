//! Results as a program without a command line writes them.

#![allow(clippy::unwrap_used, reason = "a test helper may fail")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use r1seg::ErrorKind;
use r1seg::Remedy;
use r1seg::volume::{Geometry, Mask, Overwrite, ReadOptions, Region, Volume, read, write_volume};
use r1seg_results::report::{Model, Origin, Preparation, Report, Run};
use r1seg_results::{
    Error, Findings, Input, Layout, MaskTarget, Measured, Place, Protected, Request, ResultFolder,
    Results,
};
use serde_json::{Value, json};

const SHAPE: [usize; 3] = [4, 5, 6];
const VOXELS: usize = 4 * 5 * 6;

/// A folder with a volume in it.
struct Desk {
    folder: tempfile::TempDir,
    input: Input,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ct.nii.gz");
        let affine = [
            [2.0, 0.0, 0.0, 0.0],
            [0.0, 2.0, 0.0, 0.0],
            [0.0, 0.0, 5.0, 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        let geometry = Geometry::with_affine(SHAPE, affine).unwrap();
        let voxels: Vec<i16> = (0..120).map(|n| n * 10 - 600).collect();
        let volume = Volume::new(voxels, geometry).unwrap();
        write_volume(&path, &volume, Overwrite::Refuse).unwrap();
        let input = Input::read(&path, &ReadOptions::default()).unwrap();
        Self { folder, input }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A mask of these voxels.
    fn mask(&self, voxels: std::ops::Range<usize>) -> Mask {
        let data = (0..VOXELS).map(|n| u8::from(voxels.contains(&n))).collect();
        Mask::new(data, self.input.volume.geometry().clone()).unwrap()
    }

    fn findings(&self, masks: &[Option<std::ops::Range<usize>>]) -> Findings {
        let mut findings = Findings::new(self.input.volume.geometry());
        for (index, mask) in masks.iter().enumerate() {
            let mask = mask.clone().map(|voxels| self.mask(voxels));
            findings
                .push(format!("prompt {}", index + 1), mask.as_ref(), Vec::new(), None)
                .unwrap();
        }
        findings
    }

    fn report(&self) -> Report {
        let preparation = Preparation {
            recipe: "none".to_string(),
            mode: "resize".to_string(),
            orientation: None,
            crop: Region { start: [0; 3], end: SHAPE },
            effective_resolution_mm: None,
        };
        let run = Run {
            git: None,
            model: Model { id: "none".to_string(), dtype: "f32", ..Model::default() },
            device: "cpu".to_string(),
            cpu_kernels: None,
            load: Duration::ZERO,
            origin: Origin::from(&self.input),
            preparation,
        };
        Report::of_prompts(run, &[])
    }

    fn measure(&self, request: Request, findings: Findings) -> Result<Measured<'_>, Error> {
        let layout = Layout::open(request, &self.input, findings.prompts().len())?;
        let results = Results {
            layout,
            input: &self.input,
            findings,
            asked_boxes: Vec::new(),
            asked_points: Vec::new(),
            answer: "yes".to_string(),
            trace: None,
            words: |remedy| format!("{remedy:?}"),
        };
        results.measure(self.report(), Vec::new())
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn masks_that_overlap_get_a_file_each_and_are_refused_as_one() {
    let desk = Desk::new();
    let masks = [Some(0..20), None, Some(10..30)];
    let out = desk.path("out");
    let measured = desk.measure(Request::in_folder(&out), desk.findings(&masks)).unwrap();
    assert_eq!(measured.report().masks().len(), 2);
    let written = measured.write(Instant::now()).unwrap();
    assert_eq!(
        names(&out),
        [
            "answer.txt",
            "labels.json",
            "mask.seg.nrrd",
            "mask_1.nii.gz",
            "mask_3.nii.gz",
            "preview.png",
            "report.json"
        ]
    );
    let first = read(out.join("mask_1.nii.gz"), &ReadOptions::default()).unwrap();
    let labels: Vec<f32> = first.volume.voxels().iter().collect();
    assert!(labels.iter().enumerate().all(|(n, label)| *label == f32::from(u8::from(n < 20))));
    assert_eq!(written.warnings.first().map(|warning| warning.code), Some("W-OVERLAP"));
    let report = json_of(&out.join("report.json"));
    assert_eq!(report["masks"][1]["path"], "mask_3.nii.gz");
    assert_eq!(
        (&report["masks"][0]["voxels"], &report["masks"][0]["volume_ml"]),
        (&json!(20), &json!(0.4))
    );

    let request = Request { mask: MaskTarget::Caller, ..Request::in_folder(desk.path("one")) };
    let error = desk.measure(request, desk.findings(&masks)).unwrap_err();
    assert_eq!((error.code(), error.remedy()), ("R-OUT-07", Some(Remedy::WriteMasksApart)));
    assert!(!desk.path("one").exists());
}

#[test]
fn a_prompt_without_a_mask_gets_one_of_zeros_only_where_that_is_wanted() {
    let desk = Desk::new();
    let request = || Request::in_folder(desk.path("out"));
    let written = desk.measure(request(), desk.findings(&[None])).unwrap();
    let written = written.write(Instant::now()).unwrap();
    assert!(written.mask().is_none() && written.mask_file.is_none());
    assert_eq!(names(&desk.path("out")), ["answer.txt", "preview.png", "report.json"]);

    let request = Request { zeros_for_missing: true, overwrite: Overwrite::Replace, ..request() };
    let written = desk.measure(request, desk.findings(&[None])).unwrap();
    let written = written.write(Instant::now()).unwrap();
    assert_eq!(written.mask_file, Some(desk.path("out/mask.nii.gz")));
    assert!(written.mask().is_some_and(|mask| mask.labels().iter().all(|label| *label == 0)));
}

#[test]
fn more_labels_than_a_byte_holds_are_written_drawn_and_measured() {
    let desk = Desk::new();
    let mut masks = vec![None; 299];
    masks.push(Some(7..9));
    let out = desk.path("out");
    let measured = desk.measure(Request::in_folder(&out), desk.findings(&masks)).unwrap();
    measured.write(Instant::now()).unwrap();
    let mask = read(out.join("mask.nii.gz"), &ReadOptions::default()).unwrap();
    let labels: Vec<f32> = mask.volume.voxels().iter().collect();
    assert_eq!((labels[7], labels[8], labels[9]), (300.0, 300.0, 0.0));
    assert_eq!(json_of(&out.join("labels.json"))["300"]["name"], "prompt 300");
    assert_eq!(json_of(&out.join("report.json"))["masks"][0]["label"], 300);
}

#[test]
fn named_files_are_written_without_a_folder_and_the_mask_is_handed_over() {
    let desk = Desk::new();
    let request = Request {
        mask: MaskTarget::Caller,
        preview: Some(Place::File(desk.path("p.png"))),
        ..Request::default()
    };
    let measured = desk.measure(request, desk.findings(&[Some(0..8)])).unwrap();
    let written = measured.write(Instant::now()).unwrap();
    assert_eq!(names(desk.folder.path()), ["ct.nii.gz", "p.png"]);
    assert_eq!(written.report.masks()[0].path.as_deref(), Some("-"));
    assert_eq!(written.mask().map(|mask| mask.voxels(1)), Some(8));
}

#[test]
fn what_a_run_reads_is_never_replaced_and_a_taken_name_gets_a_number() {
    let desk = Desk::new();
    let image = desk.path("ct.nii.gz");
    let request = Request {
        mask: MaskTarget::Files(Place::File(image.clone())),
        overwrite: Overwrite::Replace,
        protected: Protected::default().volume("the image", &image),
        ..Request::default()
    };
    let error = desk.measure(request, desk.findings(&[])).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("R-OUT-06", ErrorKind::CannotCreate));
    assert_eq!(error.remedy(), Some(Remedy::KeepInputs));

    fs::create_dir(desk.path("ct")).unwrap();
    let folder = Some(ResultFolder::New(desk.path("ct")));
    let request = Request { folder, ..Request::default() };
    let measured = desk.measure(request, desk.findings(&[Some(0..8)])).unwrap();
    let written = measured.write(Instant::now()).unwrap();
    assert_eq!((written.folder, written.taken), (Some(desk.path("ct-2")), Some(desk.path("ct"))));
    assert_eq!(json_of(&desk.path("ct-2/report.json"))["masks"][0]["path"], "mask.nii.gz");
}

#[test]
fn the_names_of_files_say_their_formats() {
    let mask = |name: &str| Request {
        mask: MaskTarget::Files(Place::File(name.into())),
        ..Request::default()
    };
    for good in ["a.nii", "a.nii.gz", "a.NPY", "a.seg.nrrd"] {
        mask(good).check_names().unwrap();
    }
    let error = mask("a.png").check_names().unwrap_err();
    assert!(matches!(error.remedy(), Some(Remedy::Advice(advice)) if advice.contains(".npy")));
    let request = Request { preview: Some(Place::File("a.jpg".into())), ..Request::default() };
    assert_eq!(request.check_names().unwrap_err().code(), "R-OUT-04");
}
