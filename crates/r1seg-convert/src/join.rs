//! Models that are published in parts become one checkpoint: every tensor under its name in the whole, one
//! `config.json`, and the tokenizer that the model was trained with.

use std::path::{Path, PathBuf};

use r1seg_checkpoint::LoraRecord;
use r1seg_checkpoint::keys::{Part, Renamed, Whole};
use serde_json::{Map, Value};

use crate::source::{Checkpoint, Stored, json, read_small};
use crate::vocabulary::{NewTokens, Vocabulary};
use crate::{Error, Shapes, sidecar};

/// What `config.json` of a joined model follows from.
#[derive(Debug)]
#[non_exhaustive]
pub struct PartConfigs<'a> {
    /// The model.
    pub whole: Whole,
    /// The `config.json` of the language model, where there is one.
    pub words: Option<&'a Map<String, Value>>,
    /// The `config.json` of the vision transformers.
    pub vision: &'a Map<String, Value>,
    /// The `open_clip_config.json` of the encoder of slices.
    pub slices: Option<&'a Map<String, Value>>,
    /// The axes of all tensors, by their names in the whole.
    pub shapes: &'a Shapes,
    /// The tokens that were added to the vocabulary, where there is one.
    pub tokens: Option<NewTokens>,
    /// The LoRA updates that are merged.
    pub lora: Option<&'a LoraRecord>,
}

/// Makes the `config.json` of a joined model.
///
/// # Errors
/// What of it the parts do not tell, or where they contradict each other.
pub type Compose = fn(&PartConfigs<'_>) -> Result<Map<String, Value>, String>;

/// A model that was joined, but for its tensors.
#[derive(Debug)]
pub(crate) struct Joined {
    whole: Whole,
    folders: Folders,
    tokens: Option<NewTokens>,
    /// Tokenizer files by name.
    pub(crate) files: Vec<(&'static str, Vec<u8>)>,
    /// Once it is known.
    pub(crate) config: Map<String, Value>,
}

/// Where the parts lie.
#[derive(Debug, Default)]
struct Folders {
    words: Option<PathBuf>,
    vision: Option<PathBuf>,
    slices: Option<PathBuf>,
}

impl Folders {
    fn note(&mut self, part: Part, folder: &Path) {
        let place = match part {
            Part::Words => &mut self.words,
            Part::Vision => &mut self.vision,
            Part::Slices => &mut self.slices,
            Part::Projectors => return,
        };
        *place = Some(folder.to_owned());
    }
}

/// The part that tensors are.
pub(crate) fn part_of(tensors: &[Stored]) -> Option<Part> {
    Part::of(tensors.iter().map(|stored| stored.entry.name.as_str()))
}

/// Joins parts to tensors that `given` says where they come from: the source, whose part is `own`, and what it lies
/// on. Nothing where the source is whole by itself.
///
/// # Errors
/// [`Error::Parts`] for a part that is missing, given twice or not of the model.
pub(crate) fn join(
    own: Option<Part>,
    given: &[(Option<Part>, PathBuf)],
    tensors: &mut Vec<Stored>,
    parts: Vec<Checkpoint>,
    (files, renamed): (&mut Vec<PathBuf>, &mut Renamed),
) -> Result<Option<Joined>, Error> {
    let source = given.first().map(|(_, folder)| folder.clone()).unwrap_or_default();
    let wrong = |path: &Path, what: String| Error::Parts { path: path.to_owned(), what };
    let Some(whole) = own.and_then(Whole::around) else {
        return match parts.is_empty() {
            true => Ok(None),
            false => Err(wrong(
                &source,
                "it does not belong to a model that is published in parts".to_owned(),
            )),
        };
    };
    // The vision transformers of the second stage are a model by themselves.
    if whole == Whole::HseNetClip && parts.is_empty() {
        return Ok(None);
    }
    let name = whole.name();
    let mut folders = Folders::default();
    let mut found = Vec::new();
    let mut take = |part: Option<Part>, folder: &Path| match part {
        Some(part) if found.contains(&part) => {
            Err(wrong(folder, format!("{} of {name} is given twice", part.describe())))
        }
        Some(part) if whole.parts().contains(&part) => {
            found.push(part);
            folders.note(part, folder);
            Ok(part)
        }
        _ => Err(wrong(folder, format!("the tensors are of no part of {name}"))),
    };
    for (part, folder) in given {
        take(*part, folder)?;
    }
    rename(
        tensors,
        |name| {
            let parts = [Part::Words, own.unwrap_or(Part::Words)];
            parts.into_iter().find_map(|part| part.name_in(whole, name))
        },
        renamed,
    );
    for mut part in parts {
        part.normalize_names();
        part.check_names()?;
        let kind = take(part_of(&part.tensors), &part.folder)?;
        rename(&mut part.tensors, |name| kind.name_in(whole, name), renamed);
        for stored in &mut part.tensors {
            stored.file += files.len();
        }
        tensors.append(&mut part.tensors);
        files.extend(part.files);
    }
    let missing: Vec<&str> = whole
        .parts()
        .iter()
        .filter(|part| !found.contains(part))
        .map(|part| part.describe())
        .collect();
    if !missing.is_empty() {
        let what = format!(
            "{name} is published in parts, of which there are missing: {}",
            missing.join("; ")
        );
        return Err(wrong(&source, what));
    }
    let (mut tokens, mut written) = (None, Vec::new());
    if let Some(folder) = &folders.words {
        let vocabulary = Vocabulary::read(folder)?;
        let new = vocabulary.new_tokens();
        cut_table(tensors, &new, folder)?;
        written = vocabulary.files()?;
        tokens = Some(new);
    }
    Ok(Some(Joined { whole, folders, tokens, files: written, config: Map::new() }))
}

/// Gives tensors their names in the whole, and leaves out those that nothing reads there.
fn rename(
    tensors: &mut Vec<Stored>,
    name_of: impl Fn(&str) -> Option<String>,
    renamed: &mut Renamed,
) {
    tensors.retain_mut(|stored| {
        let name = name_of(&stored.entry.name);
        match name {
            Some(name) => {
                stored.entry.name = name;
                true
            }
            None => {
                renamed.dropped.push(std::mem::take(&mut stored.entry.name));
                false
            }
        }
    });
}

/// Lets the table of embeddings end with the base's tokens and the new ones.
///
/// The authors resize it to the number of tokens, which is less than its rows, and set the rows of what they
/// added to the mean of the others. Their file does not have these rows.
fn cut_table(tensors: &mut [Stored], new: &NewTokens, folder: &Path) -> Result<(), Error> {
    let wrong = |what: String| Error::Parts { path: folder.to_owned(), what };
    let table = tensors.iter_mut().find(|stored| stored.entry.name == "model.embed_tokens.weight");
    let table = table.ok_or_else(|| wrong("there is no table of embeddings".to_owned()))?;
    let Some(rows) = table.entry.shape.first_mut() else {
        return Err(wrong("the table of embeddings has no rows".to_owned()));
    };
    if *rows < new.first() {
        let (rows, tokens) = (*rows, new.first());
        return Err(wrong(format!(
            "the vocabulary has {tokens} tokens, but the embeddings {rows} rows"
        )));
    }
    *rows = new.first();
    table.mean_rows = new.count();
    Ok(())
}

impl Joined {
    /// Makes `config.json`, once all tensors have their places.
    ///
    /// # Errors
    /// [`Error::Config`] for a file of a part that cannot be used, or that does not fit the others.
    pub(crate) fn compose(
        &mut self,
        shapes: &Shapes,
        lora: Option<&LoraRecord>,
        compose: Compose,
    ) -> Result<(), Error> {
        let read = |folder: &Option<PathBuf>| match folder {
            Some(folder) => sidecar::config(folder),
            None => Ok(None),
        };
        let (words, vision) = (read(&self.folders.words)?, read(&self.folders.vision)?);
        let path = self.folders.vision.clone().unwrap_or_default();
        let wrong = |what: String| Error::Config { path: path.clone(), what };
        let vision = vision.ok_or_else(|| wrong("there is no config.json".to_owned()))?;
        let slices = self.folders.slices.as_deref().map(open_clip).transpose()?.flatten();
        let configs = PartConfigs {
            whole: self.whole,
            words: words.as_ref(),
            vision: &vision,
            slices: slices.as_ref(),
            shapes,
            tokens: self.tokens,
            lora,
        };
        self.config = compose(&configs).map_err(|what| wrong(format!("config.json: {what}")))?;
        Ok(())
    }
}

fn open_clip(folder: &Path) -> Result<Option<Map<String, Value>>, Error> {
    let path = folder.join("open_clip_config.json");
    let Some(bytes) = read_small(&path)? else { return Ok(None) };
    let config = serde_json::from_slice(json(&path, &bytes)?);
    config.map(Some).map_err(|error| Error::Config {
        path: path.clone(),
        what: format!("is not a JSON object, line {}", error.line()),
    })
}
