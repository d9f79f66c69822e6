//! What `infer` and `segment` share: one volume, what it is asked for, and what becomes of the results.
//!
//! [`Job`] checks arguments, reads the volume and chooses the files; [`finish`] measures, writes and
//! prints what a model gave; [`summary`] words it.

mod finish;
mod summary;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::volume::Overwrite;
use r1seg::{CancelToken, CheckpointSource, EncodedVolume, LoadedModel};
use r1seg_results::report::{Model, Origin, Run};
use r1seg_results::{
    Input, Layout, MaskTarget, Place, Protected, Request, ResultFolder, folder_for,
};

use crate::args::{ModelArgs, OutputArgs, VolumeArgs};
use crate::exit::CliError;
use crate::input::{self, is_own_pipe, is_stdin};
use crate::model::{self, ModelName};
use crate::progress::Progress;
use crate::prompts;
pub(crate) use finish::{Finished, finish};
pub(crate) use summary::{box_line, number, size};

/// One volume and what it is asked for, as given.
pub(crate) struct Job<'a> {
    pub(crate) image: &'a Path,
    pub(crate) volume: &'a VolumeArgs,
    pub(crate) model: &'a ModelArgs,
    /// A model that works after that one.
    pub(crate) second: Option<&'a CheckpointSource>,
    pub(crate) output: &'a OutputArgs,
    /// What the volume is asked for, as given by the flag of this name.
    pub(crate) prompts: (&'static str, &'a [OsString]),
    /// Further files that are read, and what they are.
    pub(crate) read: Vec<(&'static str, &'a PathBuf)>,
    /// Whether the model answers in words.
    pub(crate) has_answers: bool,
    /// The labels of masks that have files of their own.
    pub(crate) apart: Vec<u16>,
}

impl Job<'_> {
    /// What can be said about the arguments before anything is read.
    pub(crate) fn check(&self) -> Result<()> {
        let (flag, prompts) = self.prompts;
        if is_stdin(self.image) && prompts.iter().any(|prompt| prompt == "-") {
            return Err(CliError::usage(
                format!("--image - and {flag} both read standard input"),
                "give the text itself, or a file with @FILE",
            ));
        }
        if is_stdin(self.image) && std::io::stdin().is_terminal() {
            return Err(CliError::usage(
                "the image is read from standard input, and that is the terminal",
                "send a file: r1seg ... -i - < ct.nii.gz",
            ));
        }
        self.check_stdout()?;
        let out = self.output;
        let only_named = out.out.is_none() && (out.mask.is_some() || out.report.is_some());
        if out.window.is_some() && out.preview.is_none() && only_named {
            return Err(CliError::usage(
                "--window is for the picture, and none is drawn",
                "name it with --preview FILE, or give a folder with --out DIR",
            ));
        }
        Ok(self.request(None).check_names()?)
    }

    /// Standard output carries one thing only.
    fn check_stdout(&self) -> Result<()> {
        let out = self.output;
        if self.mask_to_stdout() && out.json {
            return Err(CliError::usage(
                "--mask - and --json both write to standard output",
                "use --report FILE for the report, or --mask FILE",
            ));
        }
        if self.mask_to_stdout() && std::io::stdout().is_terminal() {
            return Err(CliError::usage(
                "--mask - would write a binary file to the terminal",
                "send it to a file or program: r1seg ... --mask - > mask.nii.gz",
            ));
        }
        for (path, flag) in [(&out.preview, "--preview"), (&out.report, "--report")] {
            if path.as_deref().is_some_and(is_stdin) {
                return Err(CliError::usage(
                    format!(
                        "{flag} - is not possible: only --mask and --json write to standard output"
                    ),
                    format!("name a file for {flag}"),
                ));
            }
        }
        Ok(())
    }

    /// Whether standard output carries the mask.
    pub(crate) fn mask_to_stdout(&self) -> bool {
        self.output.mask.as_deref().is_some_and(is_stdin)
    }

    /// The model, verified if that is wanted.
    pub(crate) fn model(&self, cancel: &CancelToken) -> Result<(CheckpointSource, ModelName)> {
        let (source, name) = model::source(self.model)?;
        model::verify(self.model, cancel)?;
        Ok((source, name))
    }

    /// A label has one name, and a trace is of one answer.
    pub(crate) fn check_count(&self, prompts: usize) -> Result<()> {
        prompts::check_number(prompts)?;
        let (names, trace) = (&self.output.label, &self.output.trace);
        if !names.is_empty() && names.len() != prompts {
            return Err(CliError::usage(
                format!(
                    "--label is given {} times, and the number of prompts is {prompts}",
                    names.len()
                ),
                "name the label of every prompt, in their order, or of none",
            ));
        }
        if names.iter().any(|name| name.trim().is_empty()) {
            return Err(CliError::usage("a --label is empty", "give a name such as liver"));
        }
        if trace.is_some() && prompts > 1 {
            return Err(CliError::usage(
                format!("--trace writes the stages of one answer, and there are {prompts} prompts"),
                "trace one prompt at a time",
            ));
        }
        Ok(())
    }

    /// What labels call a prompt: the name that --label gave it, or the prompt itself.
    pub(crate) fn label<'b>(&'b self, index: usize, prompt: &'b str) -> &'b str {
        self.output.label.get(index).map_or(prompt, String::as_str)
    }

    /// Reads the volume, which has an orientation where one is asked for.
    pub(crate) fn read(&self, progress: &Progress) -> Result<Input> {
        progress.stage("reading the volume");
        let input = input::open(self.image, &self.volume.read_options())?;
        let orient = self.volume.orient.unwrap_or_default();
        orient.axes(input.volume.geometry()).map_err(r1seg::Error::from)?;
        Ok(input)
    }

    /// Chooses the files, and checks that all of them can be written.
    pub(crate) fn layout(
        &self,
        source: &CheckpointSource,
        input: &Input,
        prompts: usize,
    ) -> Result<Layout> {
        let mut request = self.request(self.folder()?);
        request.protected = self.protected(source);
        Ok(Layout::open(request, input, prompts)?)
    }

    fn request(&self, folder: Option<ResultFolder>) -> Request {
        let out = self.output;
        let place = |path: &Option<PathBuf>| path.clone().map_or(Place::InFolder, Place::File);
        Request {
            folder,
            mask: match self.mask_to_stdout() {
                true => MaskTarget::Caller,
                false => MaskTarget::Files(place(&out.mask)),
            },
            preview: (!out.no_preview).then(|| place(&out.preview)),
            report: place(&out.report),
            trace: out.trace.clone(),
            has_answers: self.has_answers,
            zeros_for_missing: out.empty_mask,
            window: out.window,
            apart: self.apart.clone(),
            private: false,
            overwrite: if out.force { Overwrite::Replace } else { Overwrite::Refuse },
            protected: Protected::default(),
        }
    }

    /// Without a name, a folder named after the image, unless single files are named.
    fn folder(&self) -> Result<Option<ResultFolder>> {
        let out = self.output;
        let is_named = out.mask.is_some() || out.preview.is_some() || out.report.is_some();
        if let Some(folder) = &out.out {
            return Ok(Some(ResultFolder::At(folder.clone())));
        }
        if is_named {
            return Ok(None);
        }
        let folder = match is_stdin(self.image) || is_own_pipe(self.image) {
            true => PathBuf::from("stdin-r1seg"),
            false => folder_for(self.image)?,
        };
        Ok(Some(if out.force { ResultFolder::At(folder) } else { ResultFolder::New(folder) }))
    }

    /// What is read, and therefore never replaced.
    fn protected(&self, source: &CheckpointSource) -> Protected {
        let inputs = input::protect(Protected::default(), "the image", self.image);
        let inputs = prompts::protect(inputs, self.prompts.1).model(source);
        let inputs = self.second.into_iter().fold(inputs, Protected::model);
        let read = self.read.iter();
        let inputs = read.fold(inputs, |inputs, (what, path)| input::protect(inputs, what, path));
        match &self.volume.affine_from {
            Some(path) => input::protect(inputs, "the file of --affine-from", path),
            None => inputs,
        }
    }

    /// The first lines on stderr: the notice, what computes, and which series was read.
    pub(crate) fn announce(&self, model: &LoadedModel, name: &str, input: &Input) {
        if self.output.quiet {
            return;
        }
        model::announce(model, name);
        model::announce_series(input.series.as_ref());
    }
}

/// The part of a report that is about the run.
pub(crate) fn run<'a>(
    model: &LoadedModel,
    named: &Model,
    origin: Origin<'a>,
    encoded: &EncodedVolume,
) -> Run<'a> {
    Run::new(model, named, option_env!("R1SEG_GIT"), origin, encoded)
}
