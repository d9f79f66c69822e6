//! Which model sessions work with.

use r1seg::volume::Region;
use r1seg::{AskOptions, InferenceMode, OutputKind, Prompt, PromptKind, PromptPoint};
use r1seg_results::Asked;

use super::sessions::Sessions;
use super::settings::ViewerSessions;
use crate::metrics::Metrics;
use crate::models::{Entry, Models};
use crate::{Config, Error};

/// What is kept for sessions.
#[derive(Debug)]
pub(crate) struct NnInteractive {
    /// Index of the model: plug-ins know only one.
    pub(super) model: usize,
    pub(super) mode: Option<InferenceMode>,
    pub(super) settings: ViewerSessions,
    pub(super) sessions: Sessions,
}

impl NnInteractive {
    /// With the first model that segments what points or boxes say.
    ///
    /// # Errors
    /// [`Error::Models`] where there is none, or it takes neither in the mode that is asked for;
    /// [`Error::Setting`].
    pub(crate) fn new(config: &Config, models: &Models, metrics: &Metrics) -> Result<Self, Error> {
        let settings = &config.sessions;
        settings.check()?;
        let Some((model, entry)) = models.iter().enumerate().find(|(_, entry)| takes_places(entry))
        else {
            let message =
                "nnInteractive's plug-ins send points and boxes, and no model that is served \
                           segments what they say"
                    .to_string();
            return Err(Error::Models { message });
        };
        let mode = settings.mode.or(entry.model.capabilities().default_mode());
        let asked = Asked::new("", example(entry));
        asked.check(&entry.model, &AskOptions::default(), mode).map_err(|error| {
            let message = format!("{} cannot serve nnInteractive's plug-ins: {error}", entry.id);
            Error::Models { message }
        })?;
        let sessions = Sessions::new(settings, &metrics.sessions);
        Ok(Self { model, mode, settings: settings.clone(), sessions })
    }

    /// Ends sessions whose time is over.
    pub(crate) fn sweep(&self) {
        self.sessions.sweep(std::time::Instant::now());
    }
}

/// Whether a model segments what points or boxes say. Boxes that questions are about are another thing.
fn takes_places(entry: &Entry) -> bool {
    let takes = |kind| entry.takes(kind);
    entry.model.capabilities().gives(OutputKind::Mask)
        && !takes(PromptKind::Question)
        && (takes(PromptKind::Points) || takes(PromptKind::Box))
}

/// Any prompt of a place.
fn example(entry: &Entry) -> Prompt {
    match entry.takes(PromptKind::Points) {
        true => Prompt::default().with_point(PromptPoint::positive([0; 3])),
        false => Prompt::default().with_region(Region::whole([2; 3])),
    }
}
