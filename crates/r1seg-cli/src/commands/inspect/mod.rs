//! `r1seg inspect`: what a file holds, and what a model will see of it; or what a [`model`] is. No
//! weights are loaded.

mod model;
mod series;
mod text;

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::Result;
use r1seg::CancelToken;
use r1seg::volume::{Loaded, Overwrite, Warning};
use r1seg_results::inspection::{Inspection, SourceFile};
use r1seg_results::preview::{Scene, render};
use r1seg_results::{OutputFolder, Protected, check_picture_name};

use crate::args::{InspectArgs, VolumeArgs};
use crate::codes::Code;
use crate::exit::{CliError, Exit, Reported, say};
use crate::hints;
use crate::input::{self, is_own_pipe, is_stdin};
use crate::interrupt::Writing;

pub(crate) fn run(args: &InspectArgs, cancel: CancelToken) -> Result<Exit> {
    if let Some(subject) = model::named(&args.image)? {
        return model::run(args, &subject);
    }
    if args.check_tensors {
        return Err(CliError::usage(
            "a volume has no weights to check",
            "leave out --check-tensors",
        ));
    }
    if args.with_image.is_some() {
        return Err(CliError::usage(
            "--with-image is for a model, and this is a volume",
            "name the model: r1seg inspect MODEL --with-image FILE",
        ));
    }
    let output = args.preview.as_deref().map(|path| open(path, args)).transpose()?;
    let loaded = match load(&args.image, &args.volume) {
        Ok(loaded) => loaded,
        Err(error) => {
            // A list is what was asked for, unless a picture was.
            let Some(listed) = series::of(&error).filter(|_| output.is_none()) else {
                return Err(error);
            };
            print(&series::render(&args.image, listed, args.json)?)?;
            return match args.strict {
                true => Err(error.context(Reported)),
                false => Ok(Exit::Answered),
            };
        }
    };
    let source = match is_stdin(&args.image) || is_own_pipe(&args.image) {
        true => SourceFile::stream(&args.image),
        false => SourceFile::at(&args.image),
    };
    let volume = &loaded.volume;
    let (findings, warnings) = Inspection::new(source, &loaded, args.volume.orient, hints::words)?;
    let text = if args.json {
        serde_json::to_string_pretty(&findings)? + "\n"
    } else {
        r1seg::sanitize_terminal(&text::render(&findings, &warnings)).into_owned()
    };
    if let (Some(output), Some(path)) = (&output, &args.preview) {
        let (title, window) = (&findings.looks_like(), args.window);
        let picture = render(&Scene { title, window, ..Scene::of(volume) });
        cancel.check()?;
        let _writing = Writing::begin();
        let mut stage = output.stage()?;
        stage.write(path, &picture.png()?)?;
        stage.commit(&[])?;
        say!("r1seg: preview {}", path.display());
    }
    print(&text)?;
    match args.strict && !warnings.is_empty() {
        true => Err(strict(&warnings, &args.image).context(Reported)),
        false => Ok(Exit::Answered),
    }
}

/// That a volume with warnings is not what was asked for.
fn strict(warnings: &[Warning], path: &Path) -> anyhow::Error {
    let codes: Vec<&str> = warnings.iter().map(|warning| warning.code).collect();
    let what = format!("--strict refuses a volume with warnings: {}", codes.join(", "));
    let error = CliError::new(Code::Strict, what).at(path);
    error.fix("see the warnings, or inspect it without --strict").into()
}

/// All at once: a reader who leaves early, as `head` does, is missed quietly.
fn print(text: &str) -> Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn load(image: &Path, volume: &VolumeArgs) -> Result<Loaded> {
    let options = volume.read_options();
    if is_stdin(image) && std::io::stdin().is_terminal() {
        return Err(CliError::usage(
            "standard input is the terminal, not a volume",
            "name a file, or send one: r1seg inspect - < ct.nii.gz",
        ));
    }
    let _span = tracing::info_span!("read").entered();
    Ok(input::load(image, &options)?)
}

/// Checks, before anything is read, that the picture can be written.
fn open(path: &Path, args: &InspectArgs) -> Result<OutputFolder> {
    check_picture_name(path)?;
    let mut inputs = input::protect(Protected::default(), "the image", &args.image);
    if let Some(path) = &args.volume.affine_from {
        inputs = input::protect(inputs, "the file of --affine-from", path);
    }
    let files = [path.to_path_buf()];
    inputs.check(&files)?;
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    Ok(OutputFolder::open(None, overwrite, &files)?)
}
