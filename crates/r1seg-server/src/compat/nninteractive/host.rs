//! Which model sessions work with.

use r1seg::{AskOptions, InferenceMode, OutputKind, Prompt, PromptKind, PromptPoint};
use r1seg::volume::Region;
use r1seg_results::Asked;

use super::sessions::Sessions;
use super::settings::NnInteractive;
use crate::Error;
use crate::metrics::Metrics;
use crate::models::{Entry, Models};

/// What all sessions have in common.
#[derive(Debug)]
pub(crate) struct Host {
    /// Index of the model: plug-ins know only one.
    pub(super) model: usize,
    pub(super) mode: Option<InferenceMode>,
    pub(super) settings: NnInteractive,
    pub(crate) sessions: Sessions,
}

impl Host {
    /// Takes the first model that segments what points or boxes say.
    ///
    /// # Errors
    /// [`Error::Models`] where there is none, or it takes neither in the mode that is asked for;
    /// [`Error::Setting`].
    pub(crate) fn new(
        settings: &NnInteractive,
        models: &Models,
        metrics: &Metrics,
    ) -> Result<Self, Error> {
        settings.check()?;
        let Some((model, entry)) = models.iter().enumerate().find(|(_, entry)| takes_places(entry))
        else {
            let message = "none of the models segments what points or boxes say, and plug-ins of \
                           nnInteractive send nothing else"
                .to_string();
            return Err(Error::Models { message });
        };
        let mode = settings.mode.or(entry.model.capabilities().default_mode());
        let asked = Asked::new("", example(entry));
        asked.check(&entry.model, &AskOptions::default(), mode).map_err(|error| {
            let message = format!("{} cannot serve plug-ins like this: {error}", entry.id);
            Error::Models { message }
        })?;
        let sessions = Sessions::new(settings, &metrics.sessions);
        Ok(Self { model, mode, settings: settings.clone(), sessions })
    }
}

/// Whether a model segments what points or boxes say. Boxes of questions are another thing.
fn takes_places(entry: &Entry) -> bool {
    let takes = |kind| entry.takes(kind);
    entry.model.capabilities().gives(OutputKind::Mask)
        && !takes(PromptKind::Question)
        && (takes(PromptKind::Points) || takes(PromptKind::Box))
}

fn example(entry: &Entry) -> Prompt {
    match entry.takes(PromptKind::Points) {
        true => Prompt::default().with_point(PromptPoint::positive([0; 3])),
        false => Prompt::default().with_region(Region::whole([2; 3])),
    }
}
