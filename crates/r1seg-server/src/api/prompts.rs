//! Prompts as requests have them, and as models take them.

use std::sync::Arc;

use r1seg::volume::{Geometry, Region};
use r1seg::{AskOptions, InferenceMode, MAX_TEXT_BYTES, Prompt, PromptKind, PromptPoint, Sampling};
use r1seg_results::report::ijk;
use r1seg_results::{Asked, OrganName, refining_mode};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{download, results};
use crate::Error;
use crate::job::Work;
use crate::models::Entry;
use crate::queue::Client;
use crate::state::App;
use crate::volumes::{Stored, display_name};

/// Prompts about a volume.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SegmentRequest {
    /// The id of a model.
    #[schema(example = "demo")]
    pub(crate) model: String,
    /// The id of a volume; left out where files are sent along.
    pub(crate) volume: Option<String>,
    /// One mask, or none, for each.
    #[schema(min_items = 1)]
    pub(crate) prompts: Vec<PromptRequest>,
    /// Whether events are sent as the work goes on.
    #[serde(default)]
    pub(crate) stream: bool,
    /// How the volume meets the model's grid; one of the model's `modes`.
    pub(crate) mode: Option<String>,
    /// The longest answer, in tokens.
    #[schema(minimum = 1, maximum = 4096)]
    pub(crate) max_new_tokens: Option<usize>,
    /// The id of a model that draws each mask again, from what the first one found.
    pub(crate) refine_with: Option<String>,
}

/// What is sought: words, places, an earlier mask, or several of these.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Prompt)]
pub(crate) struct PromptRequest {
    /// For a model that takes questions.
    pub(crate) question: Option<String>,
    /// What to segment, for a model that takes texts.
    pub(crate) text: Option<String>,
    /// The name of an organ in English, German, French, Spanish, Chinese, Japanese or Korean. It is
    /// asked for in the words that the model was trained with.
    #[schema(example = "liver")]
    pub(crate) organ: Option<String>,
    #[serde(default)]
    pub(crate) points: Vec<PointRequest>,
    /// The first and the last voxel, (i, j, k).
    pub(crate) r#box: Option<[[usize; 3]; 2]>,
    /// A mask to correct.
    pub(crate) mask: Option<MaskRequest>,
    /// What the mask is called.
    pub(crate) name: Option<String>,
}

/// A voxel in what is sought, or outside of it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Point)]
pub(crate) struct PointRequest {
    /// (i, j, k).
    pub(crate) voxel: [usize; 3],
    #[serde(default = "yes")]
    pub(crate) positive: bool,
}

/// A mask of an earlier result about the same volume.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EarlierMask)]
pub(crate) struct MaskRequest {
    /// `res_..`
    pub(crate) result: String,
    #[schema(minimum = 1)]
    pub(crate) label: u16,
}

fn yes() -> bool {
    true
}

/// More than any answer has.
const MOST_TOKENS: usize = 4096;

impl SegmentRequest {
    /// What a model is to do, once all of it is known to be possible.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`], and those of prompts that the model cannot take.
    pub(crate) async fn work(
        self,
        app: &App,
        client: Client,
        volume: Arc<Stored>,
    ) -> Result<Work, Error> {
        let options = AskOptions::default().with_max_new_tokens(
            self.max_new_tokens.unwrap_or(AskOptions::default().max_new_tokens),
        );
        let mode = self.mode.as_deref().map(str::parse::<InferenceMode>).transpose();
        let mode = mode.map_err(|e| Error::invalid("mode", e.to_string()))?;
        let most = app.config.limits.max_prompts;
        if self.prompts.is_empty() || self.prompts.len() > most {
            return Err(Error::invalid("prompts", format!("1 to {most} prompts are taken")));
        }
        let model = app.models.find(&self.model)?;
        let entry = app.models.get(model).ok_or(Error::NotFound { what: "model" })?;
        let refine = self.refine_with.as_deref().map(|id| app.models.find(id)).transpose()?;
        if let Some(with) = refine.and_then(|index| app.models.get(index)) {
            let (family, takes) = (with.model.family(), with.model.capabilities());
            refining_mode(family, takes, None).map_err(unprocessable)?;
        }
        let mut asked = Vec::with_capacity(self.prompts.len());
        for prompt in self.prompts {
            asked.push(prompt.asked(app, client, entry, &volume).await?);
        }
        checked(Work { model, refine, volume, mode, asked, options, can_share: true }, entry)
    }
}

/// The work, if its model can do it.
///
/// # Errors
/// [`Error::Invalid`], and those of prompts that the model cannot take.
pub(super) fn checked(mut work: Work, entry: &Entry) -> Result<Work, Error> {
    if !(1..=MOST_TOKENS).contains(&work.options.max_new_tokens) {
        let message = format!("1 to {MOST_TOKENS} are taken");
        return Err(Error::invalid("max_new_tokens", message));
    }
    let modes = entry.model.capabilities().modes;
    if let Some(mode) = work.mode
        && !modes.contains(&mode)
        && !(modes.is_empty() && mode == InferenceMode::Resize)
    {
        let known: Vec<&str> = modes.iter().map(|mode| mode.as_str()).collect();
        let message = format!("{} has no such mode; it has {}", entry.id, known.join(" and "));
        return Err(Error::invalid("mode", message));
    }
    // The default by its name, so that requests with and without it share what is encoded.
    work.mode = work.mode.or(modes.first().copied());
    let answers = entry.takes(PromptKind::Question);
    work.can_share = answers;
    let region = work.asked.first().and_then(|asked| asked.prompt.region);
    for asked in &work.asked {
        asked.check(&entry.model, &work.options, work.mode).map_err(unprocessable)?;
        asked.prompt.check_in(work.volume.input.volume.geometry())?;
        if answers && asked.prompt.region != region {
            let message = "questions about several boxes are several requests";
            return Err(Error::invalid("box", message));
        }
        if answers && asked.prompt.region.is_some() && work.mode == Some(InferenceMode::Sliding) {
            return Err(Error::invalid(
                "box",
                "a box is for the whole volume, and not for windows",
            ));
        }
    }
    Ok(work)
}

/// A prompt that was understood, and that this model cannot take.
fn unprocessable(error: r1seg::Error) -> Error {
    match error {
        r1seg::Error::Prompt { message, fix } => {
            Error::invalid("prompts", format!("{message}; {fix}"))
        }
        other => other.into(),
    }
}

impl PromptRequest {
    async fn asked(
        self,
        app: &App,
        client: Client,
        entry: &Entry,
        volume: &Arc<Stored>,
    ) -> Result<Asked, Error> {
        let words = [&self.question, &self.text, &self.organ];
        if words.iter().filter(|words| words.is_some()).count() > 1 {
            let message = "a question, a text or an organ, and one of them only";
            return Err(Error::invalid("prompts", message));
        }
        if words.iter().any(|words| words.as_ref().is_some_and(|w| w.len() > MAX_TEXT_BYTES)) {
            return Err(Error::TooLarge { limit: MAX_TEXT_BYTES as u64 });
        }
        let mut places = Prompt::default();
        for PointRequest { voxel, positive } in self.points {
            places.points.push(PromptPoint { voxel: ijk(voxel), positive });
        }
        places.region = self.r#box.map(region).transpose()?;
        let mut asked = match (self.question, self.text, self.organ) {
            (Some(question), _, _) => question_to(entry, question)?,
            (_, Some(text), _) => Asked::of_text(text),
            (_, _, Some(organ)) => organ_for(entry, organ)?,
            (None, None, None) => Asked::new(Asked::kinds(&places), Prompt::default()),
        };
        asked.prompt = asked.prompt.and(places);
        if let Some(MaskRequest { result, label }) = self.mask {
            let found = results::found(app, &result, client)?;
            let map = download::blocking(move || results::labels(&found)).await?;
            if map.voxels(label) == 0 {
                return Err(Error::invalid("mask", "the result has no such mask"));
            }
            check_grid(map.geometry(), volume)?;
            asked.prompt.mask = Some(Arc::new(map.label_mask(label)));
        }
        let is_empty = asked.prompt == Prompt::default();
        match self.name {
            _ if is_empty => Err(Error::invalid("prompts", "a prompt says nothing")),
            Some(name) if !name.trim().is_empty() => Ok(asked.with_name(display_name(Some(&name)))),
            _ => Ok(asked),
        }
    }
}

/// Masks of arrays without a place in the world are compared by their size alone.
fn check_grid(of: &Geometry, volume: &Stored) -> Result<(), Error> {
    let own = volume.input.volume.geometry();
    match of.shape() == own.shape() {
        true => Ok(()),
        false => Err(Error::invalid("mask", "the result is about a volume of another size")),
    }
}

/// A question, to a model that takes one.
///
/// # Errors
/// [`Error::Invalid`].
pub(super) fn question_to(entry: &Entry, question: String) -> Result<Asked, Error> {
    match entry.takes(PromptKind::Question) {
        true => Ok(Asked::of_text(question)),
        false => {
            let message = format!("{} answers no questions: name what to segment", entry.id);
            Err(Error::invalid("question", message))
        }
    }
}

fn organ_for(entry: &Entry, given: String) -> Result<Asked, Error> {
    if !entry.takes(PromptKind::Question) && !entry.takes(PromptKind::Text) {
        return Err(Error::invalid("organ", format!("{} takes no words", entry.id)));
    }
    let organ = OrganName::find(given).map_err(|unknown| {
        let instead = || "use `question` or `text` for other terms".to_string();
        let meant = unknown.suggestion().unwrap_or_else(instead);
        Error::invalid("organ", format!("no organ of this name is known; {meant}"))
    })?;
    Ok(Asked::of_organ(organ, entry.model.family()))
}

/// From the first and the last voxel, (i, j, k).
fn region([first, last]: [[usize; 3]; 2]) -> Result<Region, Error> {
    let end = last.map(|index| index.checked_add(1));
    let [Some(i), Some(j), Some(k)] = end else {
        return Err(Error::invalid("box", "an index is too large"));
    };
    if (0..3).any(|n| first[n] > last[n]) {
        return Err(Error::invalid("box", "the first voxel lies behind the last one"));
    }
    Ok(Region { start: ijk(first), end: ijk([i, j, k]) })
}

/// How tokens are chosen, as OpenAI's clients say it.
///
/// # Errors
/// [`Error::Invalid`].
pub(super) fn sampling(
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<u64>,
) -> Result<Sampling, Error> {
    let temperature = temperature.unwrap_or(0.0);
    if !(0.0..=2.0).contains(&temperature) {
        return Err(Error::invalid("temperature", "0 to 2 is taken"));
    }
    let top_p = top_p.unwrap_or(1.0);
    if !(top_p > 0.0 && top_p <= 1.0) {
        return Err(Error::invalid("top_p", "more than 0 and at most 1 is taken"));
    }
    // Less would divide by next to nothing.
    if temperature < 1e-3 {
        return Ok(Sampling::Greedy);
    }
    let seed = seed.unwrap_or_else(rand::random);
    Ok(Sampling::Random { temperature, top_k: 0, top_p, seed })
}
