//! Prompts run by the model, in the server's own queue and within the time that viewers wait.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use r1seg::volume::Mask;
use r1seg::{AskOptions, CancelToken, Clicks, EncodedVolume, Event, Prompt, RunContext};
use r1seg_results::Asked;
use tokio::sync::OwnedMutexGuard;

use super::answer::Answer;
use super::host::NnInteractive;
use super::refusal::Refusal;
use super::sessions::Session;
use super::workspace::Workspace;
use crate::Error;
use crate::job::Place;
use crate::models::Entry;
use crate::queue::Client;
use crate::state::App;
use crate::volumes::Stored;

/// Plug-ins give up a prompt after 60 s, and with it the session.
const PATIENCE: Duration = Duration::from_secs(55);
/// They wait 600 s for what becomes of an image.
const PATIENCE_FOR_IMAGES: Duration = Duration::from_secs(590);

/// What a user can do about a slow server.
const WAITING: &str =
    "viewers wait 60 s: the server needs a GPU, or a mode that looks at fewer windows";

/// A request of a session on its way.
pub(super) struct Visit {
    pub(super) app: App,
    pub(super) client: Client,
    pub(super) session: Arc<Session>,
    pub(super) begin: Instant,
}

/// What became of a prompt.
enum Ran {
    Found(Clicks, Box<Mask>),
    /// It would have taken about so long from now on.
    TooSlow(Duration),
}

impl Visit {
    pub(super) fn host(&self) -> Result<&NnInteractive, Refusal> {
        host(&self.app)
    }

    /// Until when a prompt must be answered.
    pub(super) fn deadline(&self) -> Instant {
        self.begin + PATIENCE.min(self.app.config.limits.timeout)
    }

    /// Waits for the session's other requests.
    ///
    /// # Errors
    /// Where they take longer than viewers wait.
    pub(super) async fn work(&self) -> Result<OwnedMutexGuard<Workspace>, Refusal> {
        let deadline = self.deadline().into();
        let work = tokio::time::timeout_at(deadline, self.session.work.clone().lock_owned()).await;
        work.map_err(|_| Refusal::too_slow("an earlier request of this session is still at work"))
    }

    pub(super) fn entry(&self) -> Result<&Entry, Refusal> {
        let entry = self.app.models.get(self.host()?.model);
        Ok(entry.ok_or(Error::NotFound { what: "model" })?)
    }

    fn place(&self, volume: &Arc<Stored>, deadline: Instant) -> Result<Place, Refusal> {
        let NnInteractive { model, mode, .. } = self.host()?;
        Ok(Place {
            model: *model,
            volume: volume.clone(),
            mode: *mode,
            client: self.client,
            deadline,
            stop: self.session.gone.clone(),
        })
    }

    /// What a failure means to the viewer.
    fn why(&self, error: Error) -> Refusal {
        match error.is_cancelled() || matches!(error, Error::NotFound { .. }) {
            true if self.session.gone.is_cancelled() => Refusal::gone(),
            _ if matches!(error, Error::Timeout { .. }) => {
                Refusal::too_slow(format!("no answer was there in time, and {WAITING}"))
            }
            _ => error.into(),
        }
    }

    /// Encodes a volume as far as no prompt decides it. Returns what a person should know about it.
    ///
    /// # Errors
    /// Where the model cannot use it.
    pub(super) async fn encode(&self, volume: &Arc<Stored>) -> Result<Vec<String>, Refusal> {
        let deadline = self.begin + PATIENCE_FOR_IMAGES.min(self.app.config.limits.timeout);
        let ahead = |encoded: &EncodedVolume, cancel: &CancelToken| {
            encoded.encode_ahead(&mut RunContext::from(cancel))?;
            Ok(encoded.warnings().iter().map(|warning| warning.text.clone()).collect())
        };
        let encoded = self.app.desk.run(self.place(volume, deadline)?, ahead).await;
        encoded.map_err(|error| {
            let is_placed = volume.input.volume.geometry().affine().is_some();
            match &error {
                Error::R1Seg(r1seg::Error::Volume(why)) if !is_placed => Refusal::new(format!(
                    "the image came without a spacing, and this model needs one: {}",
                    why.message()
                )),
                _ => self.why(error),
            }
        })
    }

    /// Whether the model can take a prompt, which is known before it runs.
    ///
    /// # Errors
    /// Where it cannot.
    pub(super) fn check(&self, prompt: &Prompt, volume: &Stored) -> Result<(), Refusal> {
        let asked = Asked::new("", prompt.clone());
        let options = AskOptions::default();
        asked.check(&self.entry()?.model, &options, self.host()?.mode).map_err(Error::from)?;
        prompt.check_in(volume.input.volume.geometry()).map_err(Error::from)?;
        Ok(())
    }

    /// Runs what waits, and a prompt if there is one.
    ///
    /// # Errors
    /// Where the model cannot take it, fails, or would need longer than viewers wait. The session is as it
    /// was then.
    pub(super) async fn predict(
        &self,
        mut work: OwnedMutexGuard<Workspace>,
        more: Option<Prompt>,
    ) -> Result<Answer, Refusal> {
        let volume = work.volume()?.clone();
        work.target()?;
        let (clicks, pending) = work.with(more.as_ref())?;
        self.check(&clicks.prompt().and(pending.clone()), &volume)?;
        let deadline = self.deadline();
        let run = move |encoded: &EncodedVolume, cancel: &CancelToken| {
            Click { clicks, pending, deadline }.run(encoded, cancel)
        };
        let ran = self.app.desk.run(self.place(&volume, deadline)?, run).await;
        let (clicks, mask) = match ran.map_err(|error| self.why(error))? {
            Ran::Found(clicks, mask) => (clicks, mask),
            Ran::TooSlow(left) => return Err(too_slow(self.begin.elapsed() + left)),
        };
        blocking(move || {
            let element = work.target()?.element();
            let patch = work.found(clicks, *mask, more.is_some())?;
            Answer::of(patch.as_ref(), element)
        })
        .await
    }
}

/// What is kept for sessions, where they are served.
pub(super) fn host(app: &App) -> Result<&NnInteractive, Refusal> {
    let host = app.compat.nninteractive.as_ref();
    Ok(host.ok_or(Error::NotFound { what: "path" })?)
}

/// Work on large arrays, which would hold up other requests.
///
/// # Errors
/// What it ended with.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Refusal::from(Error::Panicked))?
}

fn too_slow(estimate: Duration) -> Refusal {
    Refusal::too_slow(format!(
        "this prompt would take about {} s here, and {WAITING}",
        estimate.as_secs()
    ))
}

/// A step of a session of clicks.
struct Click {
    clicks: Clicks,
    pending: Prompt,
    deadline: Instant,
}

impl Click {
    /// Runs it, unless the first windows show that there is no time for the others.
    fn run(self, encoded: &EncodedVolume, cancel: &CancelToken) -> Result<Ran, Error> {
        let stopped = cancel.clone();
        let token = CancelToken::when(move || stopped.is_cancelled());
        let (first, too_slow) = (Cell::new(None), Cell::new(None));
        let mut on_event = |event: Event<'_>| {
            let Event::Window { index, of } = event else { return };
            let now = Instant::now();
            let begin = first.get().filter(|_| index > 0).unwrap_or(now);
            first.set(Some(begin));
            let left = left(now.duration_since(begin), index, of);
            if now + left > self.deadline {
                too_slow.set(Some(left));
                token.cancel();
            }
        };
        let mut session = encoded.resume(self.clicks);
        let mut run = RunContext::from(&token).with_events(&mut on_event);
        let found = session.add(self.pending, &mut run);
        match (found, too_slow.get()) {
            (Err(r1seg::Error::Cancelled), Some(left)) => Ok(Ran::TooSlow(left)),
            (found, _) => {
                let mask = found?.mask.ok_or(Error::Panicked)?;
                Ok(Ran::Found(session.into_clicks(), Box::new(mask)))
            }
        }
    }
}

/// How long the other windows will take, if each takes as long as those before.
fn left(since: Duration, done: usize, of: usize) -> Duration {
    let [done, left] =
        [done, of.saturating_sub(done)].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    since.checked_div(done).unwrap_or_default().saturating_mul(left)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use r1seg::volume::{Geometry, Volume};
    use r1seg::{CheckpointSource, LoadOptions, PromptPoint, load};

    use super::*;

    #[test]
    fn a_prompt_that_windows_would_take_too_long_for_is_given_up() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/segvol");
        let model = load(CheckpointSource::Folder(folder), &LoadOptions::default()).unwrap();
        let geometry = Geometry::without_affine([20, 70, 70]);
        let voxels = (0..geometry.voxels()).map(|n| (n % 97) as f32 / 97.0).collect::<Vec<_>>();
        let encoded = model.encode(&Volume::new(voxels, geometry).unwrap()).unwrap();
        let run = |deadline| {
            let pending = Prompt::default().with_point(PromptPoint::positive([6, 20, 31]));
            let click = Click { clicks: Clicks::default(), pending, deadline };
            click.run(&encoded, &CancelToken::default()).unwrap()
        };
        let now = Instant::now();
        assert!(matches!(run(now), Ran::TooSlow(_)));
        assert!(matches!(run(now + Duration::from_secs(600)), Ran::Found(..)));
    }

    #[test]
    fn windows_are_reckoned_by_those_before_them() {
        let seconds = Duration::from_secs;
        assert_eq!(left(seconds(0), 0, 9), seconds(0));
        assert_eq!(left(seconds(4), 1, 9), seconds(32));
        assert_eq!(left(seconds(12), 4, 9), seconds(15));
    }
}
