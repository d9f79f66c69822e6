//! What a conversation has come to, in files.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use r1seg::MaskStatus;
use r1seg::volume::{
    LabelMap, MaskFormat, Overwrite, Segment, Segmentation, write_mask, write_segmentation,
};
use r1seg_results::preview::label_color;
use r1seg_results::report::Origin;
use r1seg_results::{
    Layout, MaskTarget, Obtained, Place, Request, ResultFolder, Written, folder_for,
};

use super::conversation::Conversation;
use super::words;
use crate::exit::{CliError, one_line};
use crate::hints;
use crate::interrupt::Writing;
use crate::job::{self, number};
use crate::model;

impl Conversation<'_> {
    /// Writes everything to a folder: the one that was named, or the one of the last time, or a new one
    /// named after the image.
    pub(super) fn save(&mut self, folder: Option<PathBuf>) -> Result<()> {
        let named = folder.or_else(|| self.folders.last().cloned());
        let overwrite = match named.as_ref().is_some_and(|folder| self.folders.contains(folder)) {
            true => Overwrite::Replace,
            false => Overwrite::Refuse,
        };
        let folder = match named {
            Some(folder) => ResultFolder::At(folder),
            None => ResultFolder::New(folder_for(&self.input.path)?),
        };
        let request = Request {
            folder: Some(folder),
            preview: Some(Place::InFolder),
            has_answers: self.encoded.answers_questions(),
            overwrite,
            ..Request::default()
        };
        let written = self.write(request)?;
        written.warnings.iter().filter(|of| of.code == "W-OVERLAP").for_each(model::warn);
        if let Some(folder) = written.folder {
            let count = written.report.masks().len() as u64;
            let masks = crate::progress::counted(count, ["mask", "masks"]);
            words::print(&format!("{}: {masks}\n", one_line(&folder.display().to_string())));
            if !self.folders.contains(&folder) {
                self.folders.push(folder);
            }
        }
        self.unsaved.clear();
        Ok(())
    }

    /// Writes a picture of all masks.
    pub(super) fn preview(&mut self, file: PathBuf) -> Result<()> {
        let request = Request { preview: Some(Place::File(file)), ..Request::default() };
        request.check_names()?;
        let written = self.write(request)?;
        if let Some(preview) = written.preview {
            words::print(&format!("{}\n", one_line(&preview.display().to_string())));
        }
        Ok(())
    }

    fn write(&self, mut request: Request) -> Result<Written> {
        let obtained = self.all()?;
        if obtained.given().is_empty() {
            return Err(CliError::usage("nothing was asked yet", "ask something first"));
        }
        request.window = self.args.window;
        request.protected = self.protected();
        let labels = obtained.findings().prompts().len();
        let layout = Layout::open(request, &self.input, labels)?;
        let now = Instant::now();
        let start = now.checked_sub(self.busy).unwrap_or(now);
        let (model, input) = (&self.first.model, &self.input);
        let run = job::run(model, &self.first.named, Origin::from(input), &self.encoded);
        let report = obtained.report(run, model, &self.options);
        let warnings = obtained.warnings(&self.first.source, model.family(), input, &self.encoded);
        let results = obtained.into_results(layout, input, hints::words);
        let measured = results.measure(report, warnings)?;
        let _writing = Writing::begin();
        Ok(measured.write(start)?)
    }

    /// Shows a mask, or writes it to a file.
    pub(super) fn mask(&mut self, label: Option<usize>, file: Option<&Path>) -> Result<()> {
        let obtained = self.all()?;
        let label = self.chosen(&obtained, label)?;
        let finding = &obtained.findings().prompts()[label - 1];
        let size = words::size(self, label)?;
        let Some(file) = file else {
            words::print(&format!("{}{}: {size}\n", number(label - 1), one_line(&finding.name)));
            return Ok(());
        };
        if finding.status == MaskStatus::NotFound {
            return Err(CliError::usage(
                format!("prompt {label} got no mask"),
                "/mask lists the masks",
            ));
        }
        self.protected().check(&[file.to_path_buf()])?;
        let of = u16::try_from(label).unwrap_or(u16::MAX);
        let mask = obtained.findings().labels().label_mask(of);
        let writing = Writing::begin();
        if file.extension().is_some_and(|end| end.eq_ignore_ascii_case("nrrd")) {
            let mut one = LabelMap::new(mask.geometry().clone());
            one.push(&mask)?;
            let segment = Segment::new(one_line(&finding.name), label_color(of));
            let segmentation = Segmentation::new(&one, vec![segment])?;
            write_segmentation(file, &segmentation, Overwrite::Refuse)?;
        } else {
            let names = Request {
                mask: MaskTarget::Files(Place::File(file.to_path_buf())),
                ..Request::default()
            };
            names.check_names()?;
            MaskFormat::from_path(file)?;
            write_mask(file, &mask, Overwrite::Refuse)?;
        }
        drop(writing);
        self.unsaved.remove(&label);
        let path = file.display().to_string();
        words::print(&format!("{}: {}, {size}\n", one_line(&path), one_line(&finding.name)));
        Ok(())
    }

    /// The label that is meant: the one of this number, or the only one.
    fn chosen(&self, obtained: &Obtained, label: Option<usize>) -> Result<usize> {
        let of = obtained.findings().prompts();
        match (label, of.len()) {
            (_, 0) => Err(CliError::usage("there is no mask yet", "ask for one first")),
            (Some(label), count) if (1..=count).contains(&label) => Ok(label),
            (None, 1) => Ok(1),
            (None, count) => Err(CliError::usage(
                format!("there are {count} masks, and none was named"),
                "name one by its number: /mask N FILE",
            )),
            (Some(label), count) => Err(CliError::usage(
                format!("there is no mask {label}; they are numbered from 1 to {count}"),
                "/mask lists them",
            )),
        }
    }
}
