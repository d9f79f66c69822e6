//! What a run of r1seg produced: measured, drawn, and written as files and JSON.
//!
//! In the order in which they hand over:
//!
//! 1. [`Input`] is the volume that was read, with the hash of its bytes.
//! 2. [`Request`] says what is to be written and where, as plain data, and which inputs no output may
//!    replace ([`Protected`]). [`Layout::open`] chooses the files and checks, before anything is
//!    computed, that all of them can be written.
//! 3. The model runs. [`Findings`] joins the masks as they come, prompt K as label K, and a
//!    [`report::Report`] is begun.
//! 4. [`Results::measure`] measures each of them.
//! 5. [`Measured::write`] writes masks, names of labels, the picture, answers and the report: all of
//!    them or none, through an [`OutputFolder`].
//! 6. [`Written`] is what there is to say about it.
//!
//! [`preview`] and [`OutputFolder`] also serve alone.
//!
//! ```
//! use std::time::Instant;
//!
//! use r1seg::phantom::Phantom;
//! use r1seg::volume::{Geometry, Overwrite, ReadOptions, Volume, write_volume};
//! use r1seg::{AskOptions, R1SegModel, RunContext};
//! use r1seg_results::report::{Answered, Model, Origin, Questions, Report, Run};
//! use r1seg_results::{Findings, Input, Layout, Request, Results};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let desk = tempfile::tempdir()?;
//! let ct = desk.path().join("ct.npy");
//! let phantom = Phantom::draw(7);
//! let volume = Volume::new(phantom.volume, Geometry::without_affine(phantom.shape))?;
//! write_volume(&ct, &volume, Overwrite::Refuse)?;
//!
//! let start = Instant::now();
//! let input = Input::read(&ct, &ReadOptions::default())?;
//! let folder = desk.path().join("results");
//! let layout = Layout::open(Request::in_folder(&folder), &input, 1)?;
//!
//! let model = R1SegModel::demo()?;
//! let (question, options) = ("Can you segment the liver in this image?", AskOptions::default());
//! let encoded = model.encode(&input.volume)?;
//! let answer = encoded.ask_with(question, &options, &mut RunContext::default())?;
//! let mut findings = Findings::new(input.volume.geometry());
//! findings.push("liver", answer.mask.as_ref(), Vec::new())?;
//!
//! let run = Run {
//!     git: None,
//!     model: Model { id: "demo".into(), dtype: model.dtype_name(), ..Model::default() },
//!     device: model.device_name(),
//!     load: model.load_time(),
//!     origin: Origin::from(&input),
//!     preparation: (&encoded).into(),
//! };
//! let answers = [Answered::new(question, answer)];
//! let report = Report::of_answers(run, &Questions {
//!     options: &options,
//!     region: None,
//!     separator: model.separator(&options, None),
//!     grid: model.input_shape(),
//!     answers: &answers,
//! });
//! let results = Results {
//!     layout,
//!     input: &input,
//!     findings,
//!     asked_boxes: &[],
//!     asked_points: &[],
//!     answer: answers[0].answer.text.clone(),
//!     trace: None,
//!     words: |remedy| format!("{remedy:?}"),
//! };
//! let written = results.measure(report, Vec::new())?.write(start)?;
//!
//! assert_eq!(written.mask_file, Some(folder.join("mask.npy")));
//! assert!(written.report.masks()[0].voxels > 0);
//! for file in ["mask.npy", "labels.json", "preview.png", "answer.txt", "report.json"] {
//!     assert!(folder.join(file).is_file());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here prints, ends the process, or knows what a program calls its options: remedies are data
//! ([`Remedy`](r1seg::Remedy)).

mod atomic_folder;
mod error;
mod findings;
mod input;
mod layout;
mod naming;
pub mod preview;
mod process;
mod protected;
pub mod report;
mod results;
mod staged_files;

pub use atomic_folder::{OutputFolder, parent};
pub use error::Error;
pub use findings::{Finding, Findings};
pub use input::{Input, is_whole};
pub use layout::{Layout, MaskTarget, Place, Request, ResultFolder, check_picture_name};
pub use naming::folder_for;
pub use process::peak_rss_bytes;
pub use protected::Protected;
pub use results::{Measured, Results, Written};
pub use staged_files::StagedFiles;
