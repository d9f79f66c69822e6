//! What was written and found, in lines.

use r1seg::MaskStatus;
use r1seg::volume::{Geometry, Region};
use r1seg_results::report::{MaskReport, corners};
use r1seg_results::{Finding, Written};

use crate::args::OutputArgs;
use crate::exit::one_line;
use crate::input::is_stdin;

/// The number of a prompt, counted from 0, in front of what it got.
pub(crate) fn number(index: usize) -> String {
    format!("[{}] ", index + 1)
}

/// The size of the mask of each prompt, or why there is none.
pub(super) fn sizes(written: &Written, why_no_mask: &[&str]) -> Vec<String> {
    let of = |(index, prompt): (usize, &Finding)| match prompt.status {
        MaskStatus::NotFound => {
            format!("no mask: {}", why_no_mask.get(index).copied().unwrap_or_default())
        }
        _ => {
            let mut masks = written.report.masks().iter();
            let mask = masks.find(|mask| mask.label == prompt.label);
            mask.map(size).unwrap_or_default()
        }
    };
    written.findings.prompts().iter().enumerate().map(of).collect()
}

pub(crate) fn size(mask: &MaskReport) -> String {
    let parts = match mask.components {
        1 => "1 component".to_string(),
        n => format!("{n} components"),
    };
    match mask.volume_ml {
        Some(ml) => format!("{ml:.1} mL ({parts})"),
        None => format!("{} voxels ({parts})", mask.voxels),
    }
}

/// What the last lines on stderr are made of.
pub(super) struct Summary<'a> {
    pub(super) args: &'a OutputArgs,
    pub(super) written: &'a Written,
    /// Of the mask of each prompt, or why there is none.
    pub(super) sizes: Vec<String>,
    /// Whether prompts are called by their names, and not by their numbers.
    pub(super) by_name: bool,
    /// Since the run began.
    pub(super) seconds: f64,
}

impl Summary<'_> {
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut files = Vec::new();
        let mask_file = self.mask_file();
        if let ([prompt], [size]) = (self.prompts(), self.sizes.as_slice()) {
            files.push(match (prompt.status, mask_file) {
                (MaskStatus::NotFound, Some(file)) => format!("{file} of zeros, {size}"),
                (MaskStatus::NotFound, None) => size.clone(),
                (_, Some(file)) => format!("{file} {size}"),
                (_, None) => format!("mask {size}"),
            });
        } else {
            let sizes = self.sizes.iter().zip(self.prompts()).enumerate();
            lines.extend(sizes.map(|(index, (what, finding))| match finding.refines {
                Some(_) => format!("{}{}: {what}", number(index), one_line(&finding.name)),
                None if self.by_name => format!("{}: {what}", one_line(&finding.name)),
                None => format!("{}{what}", number(index)),
            }));
            files.extend(mask_file);
        }
        lines.extend(self.boxes());
        for (what, path) in [
            ("preview", &self.written.preview),
            ("report", &self.args.report),
            ("trace", &self.written.trace),
        ] {
            files.extend(path.as_ref().map(|path| format!("{what} {}", path.display())));
        }
        files.push(format!("{:.1} s", self.seconds));
        lines.push(files.join(" | "));
        lines.extend(self.not_written());
        lines.extend(self.taken());
        lines
    }

    fn prompts(&self) -> &[Finding] {
        self.written.findings.prompts()
    }

    /// `mask out/mask.nii.gz`, or the first and the last of several.
    fn mask_file(&self) -> Option<String> {
        let path = self.written.mask_file.as_ref()?;
        let masks = self.written.report.masks();
        let name = |mask: &MaskReport| {
            let name = mask.path.as_ref()?;
            let file = std::path::Path::new(name).file_name()?;
            Some(path.with_file_name(file).display().to_string())
        };
        let (first, last) = (masks.first()?, masks.last()?);
        Some(if first.path == last.path {
            format!("mask {}", name(first)?)
        } else {
            format!("masks {} to {}", name(first)?, name(last)?)
        })
    }

    /// The boxes in the answers that have voxels.
    fn boxes(&self) -> impl Iterator<Item = String> + '_ {
        let geometry = self.written.findings.labels().geometry();
        let several = self.prompts().len() > 1;
        self.prompts().iter().enumerate().flat_map(move |(index, prompt)| {
            let which = if several { number(index) } else { String::new() };
            let line = move |region: &Region| format!("{which}{}", box_line(*region, geometry));
            prompt.boxes.iter().map(line)
        })
    }

    /// That a mask which was named has no file.
    fn not_written(&self) -> Option<String> {
        let path = self.args.mask.as_deref().filter(|path| !is_stdin(path))?;
        let is_missing = self.written.report.masks().is_empty();
        is_missing.then(|| {
            format!(
                "{} was not written, since there is no mask; --empty-mask writes one of zeros",
                path.display()
            )
        })
    }

    /// That the folder has another name than the one that is usual.
    fn taken(&self) -> Option<String> {
        let (taken, folder) = (self.written.taken.as_ref()?, self.written.folder.as_ref()?);
        let (taken, folder) = (taken.display(), folder.display());
        Some(format!(
            "results are in {folder}, since {taken} exists already (--force replaces its files)"
        ))
    }
}

/// As `--box` and `--box-mm` take it.
pub(crate) fn box_line(region: Region, geometry: &Geometry) -> String {
    let [first, last] = corners(region);
    let voxels = [first, last].concat().iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let mut line = format!("box {voxels} (voxels i,j,k)");
    if let Some(corners) = geometry.region_to_mm(region) {
        let mm: Vec<String> = corners.concat().iter().map(|mm| format!("{mm:.1}")).collect();
        line.push_str(&format!(" | {} mm (RAS+)", mm.join(",")));
    }
    line
}
