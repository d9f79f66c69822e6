//! What a run of r1seg produced: measured, drawn, and written as files and JSON.
//!
//! In the order in which they hand over:
//!
//! 1. [`Input`] is the volume that was read, with the hash of its bytes.
//! 2. [`Request`] says what is to be written and where, as plain data, and which inputs no output may
//!    replace ([`Protected`]). [`Layout::open`] chooses the files and checks, before anything is
//!    computed, that all of them can be written.
//! 3. [`obtain`] runs what is [`Asked`] on the encoded volume, whichever family the model is of. Masks
//!    are joined as they come, prompt K as label K ([`Findings`]).
//! 4. What was [`Obtained`] knows its doubts and its [`report::Report`], and becomes [`Results`].
//! 5. [`Results::measure`] measures each mask.
//! 6. [`Measured::write`] writes masks, names of labels, the picture, answers and the report: all of
//!    them or none, through an [`OutputFolder`].
//! 7. [`Written`] is what there is to say about it.
//!
//! [`preview`], [`OutputFolder`] and [`inspection`], which looks at a volume before any of this, also serve
//! alone.
//!
//! ```
//! use std::time::Instant;
//!
//! use r1seg::phantom::Phantom;
//! use r1seg::volume::{Geometry, Overwrite, ReadOptions, Volume, write_volume};
//! use r1seg::{AskOptions, CancelToken, CheckpointSource, LoadOptions, load};
//! use r1seg_results::report::{Model, Origin, Run};
//! use r1seg_results::{Asked, Input, Layout, Request, obtain};
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
//! let source = CheckpointSource::demo();
//! let model = load(&source, &LoadOptions::default())?;
//! let options = AskOptions::default();
//! let asked = Asked::of_text("Can you segment the liver in this image?").with_name("liver");
//! asked.check(&model, &options, None)?;
//! let encoded = model.encode(&input.volume)?;
//! let obtained =
//!     obtain(&encoded, vec![asked], &options, &CancelToken::default(), &mut |_event| {})?;
//!
//! let named = Model::of(&model, &source);
//! let run = Run::new(&model, &named, None, Origin::from(&input), &encoded);
//! let report = obtained.report(run, &model, &options);
//! let warnings = obtained.warnings(&source, model.family(), &input, &encoded);
//! let results = obtained.into_results(layout, &input, |remedy| format!("{remedy:?}"));
//! let written = results.measure(report, warnings)?.write(start)?;
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

mod asked;
mod atomic_folder;
mod doubts;
mod error;
mod findings;
pub mod ids;
mod input;
pub mod inspection;
mod layout;
mod memory;
mod naming;
mod obtained;
pub mod preview;
mod process;
mod protected;
mod refine;
pub mod report;
mod results;
mod staged_files;

pub use asked::{Asked, Given, OrganName, UnknownOrgan};
pub use atomic_folder::{OutputFolder, parent};
pub use doubts::begins_with_seg;
pub use error::Error;
pub use findings::{Finding, Findings};
pub use input::{Input, is_whole};
pub use layout::{
    Layout, MaskTarget, Place, Request, ResultFolder, check_picture_name, is_segmentation,
};
pub use memory::{WorkingMemory, Workload};
pub use naming::{folder_for, study_name};
pub use obtained::{Obtained, obtain, run_prompts};
pub use process::peak_rss_bytes;
pub use protected::{Protected, companions};
pub use refine::{FoundAt, Refined, Refinement, Refiner, Second, refining_mode, refining_prompt};
pub use results::{Measured, Results, Written};
pub use staged_files::StagedFiles;
