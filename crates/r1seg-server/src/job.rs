//! What a model is to do for a request, and what the request hears of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use r1seg::{AskOptions, CancelToken, EncodedVolume, InferenceMode};
use r1seg_results::Asked;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::Error;
use crate::keys::Owner;
use crate::metrics::{Counted, Metrics};
use crate::queue::{Client, Queue};
use crate::results::Found;
use crate::shelf::Kept;
use crate::volumes::Stored;

/// A stage of a request, as clients hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Encoding,
    Reading,
    Answering,
    Drawing,
    Saving,
}

impl Stage {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Encoding => "encoding",
            Self::Reading => "reading",
            Self::Answering => "answering",
            Self::Drawing => "drawing",
            Self::Saving => "saving",
        }
    }
}

/// What a request hears.
#[derive(Debug)]
pub(crate) enum Progress {
    /// How many are served before it.
    Queued { position: usize },
    /// A stage has begun, of a prompt, in a window and of how many.
    Stage { stage: Stage, prompt: usize, window: Option<[usize; 2]> },
    /// More of an answer.
    Text { prompt: usize, text: String },
    /// The end.
    Done(Result<Arc<Found>, Error>),
}

/// Prompts about a volume.
#[derive(Debug)]
pub(crate) struct Work {
    /// Index of the model.
    pub(crate) model: usize,
    /// Index of the model that refines what the first one found.
    pub(crate) refine: Option<usize>,
    pub(crate) volume: Arc<Stored>,
    pub(crate) mode: Option<InferenceMode>,
    pub(crate) asked: Vec<Asked>,
    pub(crate) options: AskOptions,
    /// Whether prompts of other requests may run in the same pass.
    pub(crate) can_share: bool,
}

/// Something else that a model does with a volume, on the thread of the models, whose result its caller
/// gets and no file.
#[derive(Debug)]
pub(crate) struct Place {
    /// Index of the model.
    pub(crate) model: usize,
    pub(crate) volume: Arc<Stored>,
    pub(crate) mode: Option<InferenceMode>,
    pub(crate) client: Client,
    /// Until when it must be done.
    pub(crate) deadline: Instant,
    /// Stops it earlier.
    pub(crate) stop: CancelToken,
}

type Act = dyn FnOnce(&EncodedVolume, &CancelToken) + Send;

/// What is done at a [`Place`]; it hands over its result itself.
pub(crate) struct Turn(Box<Act>);

impl Turn {
    /// Does it, with a volume that is encoded.
    pub(crate) fn run(self, encoded: &EncodedVolume, cancel: &CancelToken) {
        (self.0)(encoded, cancel);
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn(..)")
    }
}

/// What requests have in common that one pass answers: the volume, its owner, and all options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sharing {
    owner: Owner,
    content: [u8; 32],
    model: usize,
    mode: Option<InferenceMode>,
    /// Options have no equality of their own.
    options: String,
}

/// [`Work`] on its way through the queue.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) number: u64,
    pub(crate) client: Client,
    pub(crate) work: Work,
    /// In place of prompts.
    pub(crate) turn: Option<Turn>,
    /// Absent for what runs alone.
    pub(crate) sharing: Option<Sharing>,
    /// The client has left, the volume was deleted, or the time is over.
    pub(crate) cancel: CancelToken,
    pub(crate) queued: Instant,
    pub(crate) active: Option<Counted>,
    progress: UnboundedSender<Progress>,
}

impl std::ops::Deref for Job {
    type Target = Work;

    fn deref(&self) -> &Work {
        &self.work
    }
}

impl Job {
    /// Tells the request; a client that has left hears nothing.
    pub(crate) fn tell(&self, progress: Progress) {
        let _ = self.progress.send(progress);
    }

    pub(crate) fn tell_position(&self, position: usize) {
        self.tell(Progress::Queued { position });
    }

    pub(crate) fn sender(&self) -> UnboundedSender<Progress> {
        self.progress.clone()
    }
}

/// A request's end of a job. Dropped before the end, it cancels the job and frees its place.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    client_left: CancelToken,
    progress: UnboundedReceiver<Progress>,
    deadline: tokio::time::Instant,
    timeout: Duration,
    is_done: bool,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
}

/// Where jobs go.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) timeout: Duration,
    pub(crate) next: Arc<AtomicU64>,
}

impl Desk {
    /// Puts work into the queue.
    ///
    /// # Errors
    /// [`Error::Busy`] where the queue is full.
    pub(crate) fn take(&self, work: Work, client: Client) -> Result<Ticket, Error> {
        let deadline = Instant::now() + self.timeout;
        self.enqueue(work, client, deadline, None)
    }

    /// Waits for the turn of something else that a model does, and for its result.
    ///
    /// # Errors
    /// [`Error::Busy`] where the queue is full; [`Error::Timeout`]; what encoding the volume ends with, and
    /// what `run` does.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        place: Place,
        run: impl FnOnce(&EncodedVolume, &CancelToken) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let Place { model, volume, mode, client, deadline, stop } = place;
        let (sender, result) = oneshot::channel();
        let turn = Turn(Box::new(move |encoded, cancel| {
            let stopped = cancel.clone();
            let cancel = CancelToken::when(move || stopped.is_cancelled() || stop.is_cancelled());
            // A client that has left takes no result.
            let _ = sender.send(run(encoded, &cancel));
        }));
        let work = Work {
            model,
            refine: None,
            volume,
            mode,
            asked: Vec::new(),
            options: AskOptions::default(),
            can_share: false,
        };
        self.enqueue(work, client, deadline, Some(turn))?.result(result).await
    }

    fn enqueue(
        &self,
        work: Work,
        client: Client,
        deadline: Instant,
        turn: Option<Turn>,
    ) -> Result<Ticket, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, progress) = unbounded_channel();
        let client_left = CancelToken::default();
        let (left, gone) = (client_left.clone(), work.volume.gone.clone());
        let cancel = CancelToken::when(move || {
            left.is_cancelled() || gone.is_cancelled() || Instant::now() >= deadline
        });
        let sharing = (work.can_share && work.refine.is_none()).then(|| {
            let Work { model, mode, options, volume, .. } = &work;
            Sharing {
                owner: volume.owner(),
                content: volume.content,
                model: *model,
                mode: *mode,
                options: format!("{options:?}"),
            }
        });
        let queued = Instant::now();
        let job = Job {
            number,
            client,
            work,
            turn,
            sharing,
            cancel,
            queued,
            active: None,
            progress: sender,
        };
        if self.queue.push(job, &self.metrics).is_err() {
            self.metrics.reject("queue");
            let retry = self.retry();
            return Err(Error::Busy { what: "too many requests wait for a model", retry });
        }
        Ok(Ticket {
            number,
            client_left,
            progress,
            deadline: deadline.into(),
            timeout: deadline.saturating_duration_since(queued),
            is_done: false,
            queue: self.queue.clone(),
            metrics: self.metrics.clone(),
        })
    }

    /// How long the queue may take to have a free place.
    fn retry(&self) -> Duration {
        Duration::from_secs(self.metrics.mean_seconds().ceil().clamp(1.0, 60.0) as u64)
    }
}

impl Ticket {
    /// What is next to hear; `None` after the end.
    pub(crate) async fn next(&mut self) -> Option<Progress> {
        if self.is_done {
            return None;
        }
        let progress = tokio::time::timeout_at(self.deadline, self.progress.recv()).await;
        Some(match progress {
            Ok(Some(progress @ Progress::Done(_))) => {
                self.is_done = true;
                self.settled(progress)
            }
            Ok(Some(progress)) => progress,
            // The worker has dropped the job without a word.
            Ok(None) => self.end(Error::Panicked),
            Err(_) => self.end(Error::Timeout { limit: self.timeout }),
        })
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// What the job ended with, or [`Error::Timeout`].
    pub(crate) async fn done(mut self) -> Result<Arc<Found>, Error> {
        while let Some(progress) = self.next().await {
            if let Progress::Done(result) = progress {
                return result;
            }
        }
        Err(Error::Panicked)
    }

    /// Waits for what a [`Turn`] hands over.
    async fn result<T>(
        mut self,
        mut result: oneshot::Receiver<Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut is_dropped = false;
        loop {
            tokio::select! {
                biased;
                result = &mut result, if !is_dropped => match result {
                    Ok(result) => {
                        self.is_done = true;
                        return result.map_err(|error| self.why(error));
                    }
                    // The job says why.
                    Err(_) => is_dropped = true,
                },
                progress = self.next() => match progress {
                    Some(Progress::Done(Err(error))) => return Err(error),
                    Some(Progress::Done(Ok(_))) | None => return Err(Error::Panicked),
                    Some(_) => {}
                },
            }
        }
    }

    fn settled(&self, progress: Progress) -> Progress {
        match progress {
            Progress::Done(Err(error)) => Progress::Done(Err(self.why(error))),
            other => other,
        }
    }

    /// A job that was cancelled ran out of time, or its volume was deleted.
    fn why(&self, error: Error) -> Error {
        match error.is_cancelled() {
            true if tokio::time::Instant::now() >= self.deadline => {
                Error::Timeout { limit: self.timeout }
            }
            true => Error::NotFound { what: "volume" },
            false => error,
        }
    }

    fn end(&mut self, error: Error) -> Progress {
        self.leave();
        Progress::Done(Err(error))
    }

    fn leave(&mut self) {
        if !std::mem::replace(&mut self.is_done, true) {
            self.client_left.cancel();
            self.queue.remove(self.number, &self.metrics);
            self.metrics.cancelled.inc();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
    }
}
