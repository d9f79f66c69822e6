//! Clicks on one object: each answers with a mask, and can be taken back.

use crate::encoded::Progress;
use crate::{EncodedVolume, Error, Outcome, Prompt, PromptPoint, RunContext};

/// The segmentation of one object by clicks, on a volume that is encoded once.
///
/// A model that was trained on points one after the other, such as SAM-Med3D, runs its mask decoder once
/// for each click, with what the clicks before have come to; the crop around the first one is encoded
/// with it. A session that begins with a box or a mask stays in the crop around that. Other models run
/// all that was clicked again. A click that fails changes nothing.
///
/// ```no_run
/// use r1seg::volume::{ReadOptions, read};
/// use r1seg::{PromptPoint, RunContext, load};
///
/// let model = load("SAM-Med3D-converted", &Default::default())?;
/// let ct = read("ct.nii.gz", &ReadOptions::default())?.volume;
/// let mut session = model.encode(&ct)?.session();
/// let first = session.click(PromptPoint::positive([40, 120, 90]), &mut RunContext::default())?;
/// let better = session.click(PromptPoint::negative([40, 150, 90]), &mut RunContext::default())?;
/// let first_again = session.undo(&mut RunContext::default())?;
/// # assert_eq!(first_again.and_then(|found| found.mask), first.mask);
/// # let _ = better;
/// # Ok::<(), r1seg::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClickSession {
    volume: EncodedVolume,
    clicks: Clicks,
}

/// What a [`ClickSession`] was asked for so far, and what that came to, without the volume: whoever keeps
/// many of them need not keep what was encoded for each.
#[derive(Debug, Clone, Default)]
pub struct Clicks {
    /// Step by step.
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
struct Step {
    prompt: Prompt,
    progress: Option<Progress>,
}

impl EncodedVolume {
    /// Begins to segment an object by clicks. Sessions on one volume share what it encoded.
    pub fn session(&self) -> ClickSession {
        self.resume(Clicks::default())
    }

    /// Goes on with clicks on the same volume, encoded by the same model in the same way: this time, or an
    /// earlier time.
    pub fn resume(&self, clicks: Clicks) -> ClickSession {
        ClickSession { volume: self.clone(), clicks }
    }
}

impl Clicks {
    /// All that was asked for so far.
    pub fn prompt(&self) -> Prompt {
        self.steps.last().map(|step| step.prompt.clone()).unwrap_or_default()
    }

    /// How many steps can be taken back.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }
}

impl ClickSession {
    /// All that was asked for so far.
    pub fn prompt(&self) -> Prompt {
        self.clicks.prompt()
    }

    /// How many steps can be taken back.
    pub fn steps(&self) -> usize {
        self.clicks.steps()
    }

    /// What was asked for and what it came to, for [`EncodedVolume::resume`].
    pub fn into_clicks(self) -> Clicks {
        self.clicks
    }

    /// Adds a point.
    ///
    /// # Errors
    /// As [`EncodedVolume::segment_with`].
    pub fn click(
        &mut self,
        point: PromptPoint,
        run: &mut RunContext<'_>,
    ) -> Result<Outcome, Error> {
        self.add(Prompt::default().with_point(point), run)
    }

    /// Adds to what was asked for: points, and a text, a box, a mask to correct or a center, each in
    /// place of an earlier one, after which the points that were clicked before run again.
    ///
    /// # Errors
    /// As [`EncodedVolume::segment_with`].
    pub fn add(
        &mut self,
        more: impl Into<Prompt>,
        run: &mut RunContext<'_>,
    ) -> Result<Outcome, Error> {
        let more = more.into();
        let points_alone = Prompt { points: more.points.clone(), ..Prompt::default() } == more;
        let last = self.clicks.steps.last().filter(|_| points_alone);
        let from = last.and_then(|step| step.progress.clone());
        let prompt = self.prompt().and(more);
        let (outcome, progress) = self.volume.segment_from(&prompt, from.as_ref(), run)?;
        self.clicks.steps.push(Step { prompt, progress });
        Ok(outcome)
    }

    /// Takes the last step back. Returns what the steps before it came to, or nothing if it was the
    /// first.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or when the computation fails: then nothing was taken back.
    pub fn undo(&mut self, run: &mut RunContext<'_>) -> Result<Option<Outcome>, Error> {
        let steps = &mut self.clicks.steps;
        let Some(step) = steps.len().checked_sub(2).map(|before| &steps[before]) else {
            steps.clear();
            return Ok(None);
        };
        let (outcome, _) = self.volume.segment_from(&step.prompt, step.progress.as_ref(), run)?;
        steps.pop();
        Ok(Some(outcome))
    }
}
