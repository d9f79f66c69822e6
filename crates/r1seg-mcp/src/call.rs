//! What goes along with a call of a tool: when to stop, who hears of its progress, and who calls.

use std::sync::Arc;
use std::time::Duration;

use r1seg::{CancelToken, Event};
use tokio::sync::mpsc;

/// How often somebody checks whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// More steps than this that nobody has read yet are dropped: the next ones say more.
const UNREAD_STEPS: usize = 64;

/// A call of a tool.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Call {
    /// Cancelled when the client cancels the call, or is gone.
    pub cancel: CancelToken,
    /// Who hears of the progress.
    pub progress: Progress,
    /// Of the HTTP request, where the call came with one.
    request: Option<Arc<http::request::Parts>>,
}

impl Call {
    pub(crate) fn new(cancel: CancelToken, progress: Progress) -> Self {
        Self { cancel, progress, request: None }
    }

    pub(crate) fn of_request(self, request: Option<http::request::Parts>) -> Self {
        Self { request: request.map(Arc::new), ..self }
    }

    /// Waits until the call is cancelled, or its client is gone.
    pub async fn cancelled(&self) {
        cancelled(&self.cancel).await;
    }

    /// What a layer around [`http_service`](crate::http_service) added to the extensions of the HTTP
    /// request, such as whose key it had.
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.request.as_ref()?.extensions.get()
    }
}

/// Waits until the work is to stop.
pub(crate) async fn cancelled(cancel: &CancelToken) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A step of the work on a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// So many other calls come first.
    Waiting {
        /// How many.
        before: usize,
    },
    /// The volume is read.
    Reading,
    /// The model is loaded.
    Loading,
    /// The model encodes the volume.
    Encoding,
    /// A window is about to be encoded.
    Window {
        /// Its number, from 1.
        number: usize,
        /// How many there are.
        of: usize,
    },
    /// An answer is generated.
    Answering {
        /// The number of the question, from 1.
        question: usize,
        /// Tokens so far.
        tokens: usize,
    },
    /// A mask is about to be decoded.
    Drawing {
        /// The number of the prompt, from 1.
        prompt: usize,
    },
    /// The results are measured and written.
    Saving,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Waiting { before: 1 } => f.write_str("waiting for another call"),
            Self::Waiting { before } => write!(f, "waiting for {before} other calls"),
            Self::Reading => f.write_str("reading the volume"),
            Self::Loading => f.write_str("loading the model"),
            Self::Encoding => f.write_str("encoding the volume"),
            Self::Window { number, of } => write!(f, "window {number} of {of}"),
            Self::Answering { question, tokens: 1 } => {
                write!(f, "answering question {question}: 1 token")
            }
            Self::Answering { question, tokens } => {
                write!(f, "answering question {question}: {tokens} tokens")
            }
            Self::Drawing { prompt } => write!(f, "drawing mask {prompt}"),
            Self::Saving => f.write_str("measuring and writing the results"),
        }
    }
}

impl Step {
    /// The step that an event of a run is, if it is one.
    pub fn of(event: Event<'_>) -> Option<Self> {
        match event {
            Event::Window { index, of } => Some(Self::Window { number: index + 1, of }),
            Event::Token { prompt, index } => {
                Some(Self::Answering { question: prompt + 1, tokens: index + 1 })
            }
            Event::Mask { prompt } => Some(Self::Drawing { prompt: prompt + 1 }),
            _ => None,
        }
    }

    /// Whether it is the same stage as another, further on.
    pub(crate) fn continues(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// Who hears of the progress of a call; by default nobody.
#[derive(Debug, Clone, Default)]
pub struct Progress(Option<mpsc::Sender<Step>>);

impl Progress {
    /// One that is heard by the receiver.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Step>) {
        let (sender, receiver) = mpsc::channel(UNREAD_STEPS);
        (Self(Some(sender)), receiver)
    }

    /// Says that a step has begun. It never waits.
    pub fn report(&self, step: Step) {
        if let Some(steps) = &self.0 {
            // A step that finds no room is one of many of its stage, and a client that is gone needs none.
            let _ = steps.try_send(step);
        }
    }

    /// Says what an event of a run is a step of.
    pub fn event(&self, event: Event<'_>) {
        if let Some(step) = Step::of(event) {
            self.report(step);
        }
    }
}
