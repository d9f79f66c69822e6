//! What goes along with a run: when to stop, who hears of its progress, and who sees its tensors.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Tensor;
pub use r1seg_nn::Probe;
use r1seg_nn::{Cancelled, NoProbe};

use crate::{Error, Trace};

/// Stops work in progress, from another thread or a signal handler. Clones share one flag.
///
/// Work stops within a part of a network's block or layer, between tokens, windows and tensors, and
/// ends with [`Error::Cancelled`].
#[derive(Clone, Default)]
pub struct CancelToken {
    flag: Arc<AtomicBool>,
    condition: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl CancelToken {
    /// A token that also stops as soon as `condition` is true: when a client has left, or a deadline
    /// has passed. It is asked many times a second.
    pub fn when(condition: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { condition: Some(Arc::new(condition)), ..Self::default() }
    }

    /// Asks the work to stop.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether the work was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
            || self.condition.as_ref().is_some_and(|condition| condition())
    }

    /// # Errors
    /// [`Error::Cancelled`] if the work was asked to stop.
    pub fn check(&self) -> Result<(), Error> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("flag", &self.flag).finish_non_exhaustive()
    }
}

#[cfg(feature = "hub")]
impl From<CancelToken> for r1seg_hub::Cancel {
    fn from(cancel: CancelToken) -> Self {
        Self::when(move || cancel.is_cancelled())
    }
}

/// Progress of a run. Of several prompts at once, `prompt` is the index of the one that it is about.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A prompt is about to run. Those that run at once begin together.
    Prompt {
        /// Its index.
        prompt: usize,
    },
    /// A window is about to be encoded, in modes that use windows.
    Window {
        /// Its index.
        index: usize,
        /// Number of windows.
        of: usize,
    },
    /// More of the answer's text.
    Text {
        /// Whose answer.
        prompt: usize,
        /// What follows the text so far.
        text: &'a str,
    },
    /// Another token was generated.
    Token {
        /// Of whose answer.
        prompt: usize,
        /// The token's index in the answer.
        index: usize,
    },
    /// The answer's text is complete.
    TextDone {
        /// Whose answer.
        prompt: usize,
    },
    /// The mask is about to be decoded.
    Mask {
        /// Whose mask.
        prompt: usize,
    },
}

impl Event<'_> {
    /// The same about prompts that are counted from `first` on, of a run in several parts.
    #[must_use]
    pub fn with_prompts_from(self, first: usize) -> Self {
        match self {
            Self::Prompt { prompt } => Self::Prompt { prompt: first + prompt },
            Self::Text { prompt, text } => Self::Text { prompt: first + prompt, text },
            Self::Token { prompt, index } => Self::Token { prompt: first + prompt, index },
            Self::TextDone { prompt } => Self::TextDone { prompt: first + prompt },
            Self::Mask { prompt } => Self::Mask { prompt: first + prompt },
            Self::Window { .. } => self,
        }
    }
}

/// What goes along with a run. The default never stops, and nobody watches.
///
/// ```
/// use r1seg::phantom::Phantom;
/// use r1seg::volume::{Geometry, Volume};
/// use r1seg::{AskOptions, CancelToken, Error, Event, R1SegModel, RunContext};
///
/// # fn main() -> Result<(), Error> {
/// # let phantom = Phantom::draw(7);
/// # let volume = Volume::new(phantom.volume.clone(), Geometry::without_affine(phantom.shape))?;
/// let encoded = R1SegModel::demo()?.encode(&volume)?;
/// let cancel = CancelToken::default();
/// let mut events = |event: Event<'_>| {
///     if let Event::Token { index: 0, .. } = event {
///         cancel.cancel();
///     }
/// };
/// let mut run = RunContext::default().with_cancel(cancel.clone()).with_events(&mut events);
/// let answer = encoded.ask_with("Where is the liver?", &AskOptions::default(), &mut run);
/// assert!(matches!(answer, Err(Error::Cancelled)));
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct RunContext<'a> {
    cancel: CancelToken,
    /// Events are about prompts that are counted from this one on.
    first_prompt: usize,
    events: Option<&'a mut dyn FnMut(Event<'_>)>,
    probe: Option<&'a mut dyn Probe>,
}

/// A run that the token stops, and that nobody watches.
impl From<&CancelToken> for RunContext<'_> {
    fn from(cancel: &CancelToken) -> Self {
        Self::default().with_cancel(cancel.clone())
    }
}

impl<'a> RunContext<'a> {
    /// Lets `cancel` stop the run.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Reports progress to `events`.
    #[must_use]
    pub fn with_events(mut self, events: &'a mut dyn FnMut(Event<'_>)) -> Self {
        self.events = Some(events);
        self
    }

    /// Shows the tensors of every stage to `probe`, as they are computed.
    #[must_use]
    pub fn with_probe(mut self, probe: &'a mut dyn Probe) -> Self {
        self.probe = Some(probe);
        self
    }

    /// What stops the run.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }

    /// # Errors
    /// [`Error::Cancelled`] if the run was asked to stop.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.cancel.check()
    }

    pub(crate) fn emit(&mut self, event: Event<'_>) {
        if let Some(events) = &mut self.events {
            events(event.with_prompts_from(self.first_prompt));
        }
    }

    /// Counts the prompts of the events that follow from `first` on. Returns where they were counted from
    /// before.
    pub(crate) fn count_prompts_from(&mut self, first: usize) -> usize {
        std::mem::replace(&mut self.first_prompt, first)
    }

    /// Watches a stage whose tensors `trace` keeps, too.
    pub(crate) fn probe<'r>(&'r mut self, trace: Option<&'r mut Trace>) -> StageProbe<'r> {
        let probe = self.probe.as_mut().map(|probe| &mut **probe as &mut dyn Probe);
        StageProbe { cancel: &self.cancel, trace, probe }
    }
}

impl fmt::Debug for RunContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunContext").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}

/// What a network is given of a run.
pub(crate) struct StageProbe<'r> {
    cancel: &'r CancelToken,
    trace: Option<&'r mut Trace>,
    probe: Option<&'r mut dyn Probe>,
}

impl Probe for StageProbe<'_> {
    fn record(&mut self, name: &str, tensor: &Tensor) -> candle_core::Result<()> {
        self.trace.record(name, tensor)?;
        self.probe.record(name, tensor)
    }

    fn is_listening(&self) -> bool {
        self.trace.is_listening() || self.probe.is_listening()
    }

    fn check_cancelled(&self) -> candle_core::Result<()> {
        UntilCancelled(self.cancel).check_cancelled()
    }
}

/// Watches a stage for cancellation alone.
pub(crate) struct UntilCancelled<'a>(pub(crate) &'a CancelToken);

impl Probe for UntilCancelled<'_> {
    fn record(&mut self, name: &str, tensor: &Tensor) -> candle_core::Result<()> {
        NoProbe.record(name, tensor)
    }

    fn is_listening(&self) -> bool {
        NoProbe.is_listening()
    }

    fn check_cancelled(&self) -> candle_core::Result<()> {
        if self.0.is_cancelled() { Err(Cancelled.into()) } else { Ok(()) }
    }
}

/// Shows stages of one of several encoders: `vit.features` of the second is `vit2.features`.
pub(crate) struct Numbered<'a> {
    pub(crate) probe: &'a mut dyn Probe,
    /// From 1 on; absent for the only one.
    pub(crate) number: Option<usize>,
}

impl Probe for Numbered<'_> {
    fn record(&mut self, name: &str, tensor: &Tensor) -> candle_core::Result<()> {
        match (self.number, name.split_once('.')) {
            (Some(number), Some((part, stage))) => {
                self.probe.record(&format!("{part}{number}.{stage}"), tensor)
            }
            _ => self.probe.record(name, tensor),
        }
    }

    fn is_listening(&self) -> bool {
        self.probe.is_listening()
    }

    fn check_cancelled(&self) -> candle_core::Result<()> {
        self.probe.check_cancelled()
    }
}

/// Lets a pass be stopped, and shows nobody its tensors.
pub(crate) struct Unrecorded<'a>(pub(crate) &'a dyn Probe);

impl Probe for Unrecorded<'_> {
    fn record(&mut self, name: &str, tensor: &Tensor) -> candle_core::Result<()> {
        NoProbe.record(name, tensor)
    }

    fn is_listening(&self) -> bool {
        NoProbe.is_listening()
    }

    fn check_cancelled(&self) -> candle_core::Result<()> {
        self.0.check_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_token_share_its_flag_and_its_condition() {
        let token = CancelToken::default();
        let clone = token.clone();
        assert!(clone.check().is_ok());
        token.cancel();
        assert!(matches!(clone.check(), Err(Error::Cancelled)));

        let left = Arc::new(AtomicBool::new(false));
        let client = left.clone();
        let token = CancelToken::when(move || client.load(Ordering::Relaxed));
        assert!(!token.is_cancelled());
        left.store(true, Ordering::Relaxed);
        assert!(token.clone().is_cancelled());
    }
}
