//! The one thread that owns the models, and runs one pass after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use r1seg::{
    CancelToken, EncodeOptions, EncodedVolume, Event, InferenceMode, Outcome, Prompt,
    QUESTIONS_AT_ONCE, RunContext,
};
use r1seg_results::{Obtained, Refiner, refining_mode, run_prompts};

use crate::Error;
use crate::cache::{Cache, CacheKey};
use crate::finish::Finishing;
use crate::job::{Job, Progress, Stage, Turn};
use crate::metrics::{Counted, Metrics};
use crate::models::{Entry, Models};
use crate::queue::Queue;
use crate::shelf::Kept;

/// What the thread works with.
pub(crate) struct Worker {
    pub(crate) models: Arc<Models>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) metrics: Arc<Metrics>,
    /// Writes results while the next pass runs.
    pub(crate) finisher: SyncSender<Finishing>,
}

impl Worker {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(self) {
        while let Some(jobs) = self.queue.next(QUESTIONS_AT_ONCE, &self.metrics) {
            self.serve(jobs);
        }
    }

    fn serve(&self, jobs: Vec<Job>) {
        let begin = Instant::now();
        let mut live = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            self.metrics.stage("wait", begin.duration_since(job.queued));
            if job.cancel.is_cancelled() {
                job.tell(Progress::Done(Err(r1seg::Error::Cancelled.into())));
                continue;
            }
            job.active = Some(Counted::new(&self.metrics.active));
            live.push(job);
        }
        if live.is_empty() {
            return;
        }
        self.metrics.shared.inc_by(live.len() as u64 - 1);
        let senders: Vec<_> = live.iter().map(Job::sender).collect();
        // A fault in a model or a reader ends the requests that met it, and nothing else.
        if catch_unwind(AssertUnwindSafe(|| self.pass(live))).is_err() {
            self.metrics.panics.inc();
            tracing::error!(name: "panic", requests = senders.len());
            for sender in senders {
                let _ = sender.send(Progress::Done(Err(Error::Panicked)));
            }
        }
        self.metrics.seconds.inc_by(begin.elapsed().as_secs_f64());
    }

    /// Runs the prompts of jobs that share a volume and all options, or the turn of one.
    fn pass(&self, mut jobs: Vec<Job>) {
        self.metrics.passes.inc();
        if let [job] = jobs.as_mut_slice()
            && let Some(turn) = job.turn.take()
        {
            return self.take_turn(job, turn);
        }
        match self.run_all(&jobs) {
            Ok((encoded, parts)) => {
                for (obtained, job) in parts.into_iter().zip(jobs) {
                    self.hand_over(Finishing { job, obtained, encoded: encoded.clone() });
                }
            }
            // What one of them met may be its own fault alone.
            Err(error) if jobs.len() > 1 && !error.is_cancelled() => {
                for job in jobs {
                    self.pass(vec![job]);
                }
            }
            Err(error) => {
                let cancelled = error.is_cancelled();
                let mut error = Some(error);
                for job in jobs {
                    let error = error.take().filter(|_| !cancelled);
                    let error = error.unwrap_or_else(|| r1seg::Error::Cancelled.into());
                    job.tell(Progress::Done(Err(error)));
                }
            }
        }
    }

    fn take_turn(&self, job: &Job, turn: Turn) {
        match self.encoded(job, job.model, job.mode, &job.cancel, std::slice::from_ref(job)) {
            Ok(encoded) => {
                let begin = Instant::now();
                turn.run(&encoded, &job.cancel);
                self.metrics.stage("answer", begin.elapsed());
            }
            Err(error) => job.tell(Progress::Done(Err(error))),
        }
    }

    fn hand_over(&self, finishing: Finishing) {
        let sender = finishing.job.sender();
        if self.finisher.send(finishing).is_err() {
            let _ = sender.send(Progress::Done(Err(Error::Panicked)));
        }
    }

    fn run_all(&self, jobs: &[Job]) -> Result<(EncodedVolume, Vec<Obtained>), Error> {
        let Some(first) = jobs.first() else { return Err(Error::Panicked) };
        #[cfg(test)]
        assert!(first.asked.iter().all(|asked| asked.name != "panic"), "asked for by a test");
        let tokens: Vec<CancelToken> = jobs.iter().map(|job| job.cancel.clone()).collect();
        let cancel = CancelToken::when(move || tokens.iter().all(CancelToken::is_cancelled));
        let encoded = self.encoded(first, first.model, first.mode, &cancel, jobs)?;
        let begin = Instant::now();
        let mut parts = Asking { jobs, encoded: &encoded, cancel: &cancel }.run(first)?;
        self.metrics.stage("answer", begin.elapsed());
        if let (Some(refine), [job], [part]) = (first.refine, jobs, parts.as_mut_slice()) {
            self.refine(refine, job, part)?;
        }
        let generated = parts.iter().flat_map(Obtained::given);
        let generated: usize = generated.map(|given| given.outcome.token_ids.len()).sum();
        self.metrics.tokens.inc_by(generated as u64);
        Ok((encoded, parts))
    }

    fn entry(&self, index: usize) -> Result<&Entry, Error> {
        self.models.get(index).ok_or(Error::NotFound { what: "model" })
    }

    /// The volume as a model has encoded it, now or earlier.
    fn encoded(
        &self,
        job: &Job,
        model: usize,
        mode: Option<InferenceMode>,
        cancel: &CancelToken,
        tell: &[Job],
    ) -> Result<EncodedVolume, Error> {
        let volume = &job.volume;
        let key = CacheKey { content: volume.content, owner: volume.owner(), model, mode };
        if let Some(encoded) = self.cache.get(&key) {
            self.metrics.cache_hits.inc();
            return Ok(encoded);
        }
        self.metrics.cache_misses.inc();
        tell_all(tell, Stage::Encoding, None);
        let begin = Instant::now();
        let entry = self.entry(model)?;
        let mut options = EncodeOptions::default();
        options.mode = mode;
        let mut on_event = |event: Event<'_>| {
            if let Event::Window { index, of } = event {
                tell_all(tell, Stage::Encoding, Some([index + 1, of]));
            }
        };
        let mut run = RunContext::from(cancel).with_events(&mut on_event);
        let encoded = entry.model.encode_with(&volume.input.volume, &options, &mut run)?;
        self.metrics.stage("encode", begin.elapsed());
        self.cache.put(key, encoded.clone(), estimate(entry, &encoded));
        // Looked at only afterwards: a deletion between a look and the put would miss the entry.
        if volume.gone.is_cancelled() {
            self.cache.remove(&key);
        }
        Ok(encoded)
    }

    /// Lets another model draw what the first one found, at its own resolution.
    fn refine(&self, model: usize, job: &Job, part: &mut Obtained) -> Result<(), Error> {
        let labels = part.refinable();
        if labels.is_empty() {
            return Ok(());
        }
        let begin = Instant::now();
        let entry = self.entry(model)?;
        let (family, takes) = (entry.model.family(), entry.model.capabilities());
        let mode = Some(refining_mode(family, takes, None)?);
        let encoded = self.encoded(job, model, mode, &job.cancel, std::slice::from_ref(job))?;
        let with = Refiner { model: &entry.model, source: &entry.source, encoded: &encoded };
        let mut on_event = |event: Event<'_>| {
            if let Event::Prompt { prompt } = event
                && let Some(label) = labels.get(prompt)
            {
                let prompt = usize::from(*label).saturating_sub(1);
                job.tell(Progress::Stage { stage: Stage::Drawing, prompt, window: None });
            }
        };
        part.refine(&labels, &with, &job.cancel, &mut on_event)?;
        self.metrics.stage("refine", begin.elapsed());
        Ok(())
    }
}

fn tell_all(jobs: &[Job], stage: Stage, window: Option<[usize; 2]>) {
    for job in jobs {
        job.tell(Progress::Stage { stage, prompt: 0, window });
    }
}

/// About how many bytes an encoded volume takes: image embeddings, keys and values of the image, and
/// what windows and crops keep of the volume itself.
fn estimate(entry: &Entry, encoded: &EncodedVolume) -> u64 {
    let grid: usize = entry.model.input_shape().iter().product();
    let per_voxel = if encoded.mode() == InferenceMode::Sliding { 48 } else { 8 };
    // Features of the whole and of windows, up to a gibibyte each.
    let kept = if entry.model.family().has_classes() { 2 << 30 } else { 0 };
    128 * grid as u64 + per_voxel * encoded.geometry().voxels() as u64 + kept
}

/// Prompts of several jobs about one encoded volume.
struct Asking<'a> {
    jobs: &'a [Job],
    encoded: &'a EncodedVolume,
    cancel: &'a CancelToken,
}

impl Asking<'_> {
    /// Runs all of them at once; each job gets its own.
    fn run(&self, first: &Job) -> Result<Vec<Obtained>, Error> {
        let new = |_: &Job| Obtained::new(self.encoded.geometry());
        let mut parts: Vec<Obtained> = self.jobs.iter().map(new).collect();
        // Of each prompt, whose it is.
        let all: Vec<(usize, usize)> = (0..)
            .zip(self.jobs)
            .flat_map(|(job, of)| (0..of.asked.len()).map(move |prompt| (job, prompt)))
            .collect();
        let asked = self.jobs.iter().flat_map(|job| &job.asked);
        let prompts: Vec<Prompt> = asked.clone().map(|asked| asked.prompt.clone()).collect();
        let mut owned = asked.cloned();
        let mut on_event = |event: Event<'_>| self.tell(&all, event);
        let mut on_outcome = |index: usize, outcome: Outcome| {
            let part = all.get(index).and_then(|(job, _)| parts.get_mut(*job));
            match part.zip(owned.next()) {
                Some((part, asked)) => part.push(asked, outcome),
                None => Ok(()),
            }
        };
        let options = &first.options;
        run_prompts(self.encoded, &prompts, options, self.cancel, &mut on_event, &mut on_outcome)?;
        Ok(parts)
    }

    /// Tells each job what is its own.
    fn tell(&self, all: &[(usize, usize)], event: Event<'_>) {
        let to = |index: usize, progress: &dyn Fn(usize) -> Progress| {
            if let Some((job, prompt)) = all.get(index)
                && let Some(job) = self.jobs.get(*job)
            {
                job.tell(progress(*prompt));
            }
        };
        let stage = |stage| move |prompt| Progress::Stage { stage, prompt, window: None };
        match event {
            Event::Prompt { prompt } => to(prompt, &stage(Stage::Reading)),
            Event::Token { prompt, index: 0 } => to(prompt, &stage(Stage::Answering)),
            Event::Mask { prompt } => to(prompt, &stage(Stage::Drawing)),
            // Of windows each has a text of its own.
            Event::Text { prompt, text } if self.encoded.mode() == InferenceMode::Resize => {
                to(prompt, &|prompt| Progress::Text { prompt, text: text.to_string() });
            }
            Event::Window { index, of } => {
                tell_all(self.jobs, Stage::Encoding, Some([index + 1, of]));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use r1seg::phantom::{Phantom, volume};
    use r1seg::volume::{Overwrite, write_volume};
    use r1seg::{AskOptions, CheckpointSource, LoadOptions, load};
    use r1seg_results::Asked;

    use crate::job::Work;
    use crate::keys::Owner;
    use crate::queue::Client;
    use crate::state::{App, State};
    use crate::upload::Upload;
    use crate::{Config, Served};

    async fn work(app: &App, name: &str) -> Work {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ct.npy");
        let drawn = volume(&Phantom::draw_sized(7, [16, 64, 64])).unwrap();
        write_volume(&file, &drawn, Overwrite::Refuse).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        let upload = Upload::of_bytes(app, Some("ct.npy"), &bytes).await.unwrap();
        Work {
            model: 0,
            refine: None,
            volume: app.keep(upload, Owner::default()).await.unwrap(),
            mode: None,
            asked: vec![Asked::of_text("Can you segment the liver in this image?").with_name(name)],
            options: AskOptions::default(),
            can_share: true,
        }
    }

    #[test]
    fn s11_a_fault_of_one_request_is_told_to_it_and_the_next_one_is_served() {
        let source = CheckpointSource::demo();
        let model = load(&source, &LoadOptions::default()).unwrap();
        let mut config = Config::default();
        config.limits.timeout = Duration::from_secs(60);
        let app = State::start(config, vec![Served { model, source }]).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let client = Client { owner: Owner::default(), address: None };
        runtime.block_on(async {
            for _ in 0..2 {
                let failing = app.desk.take(work(&app, "panic").await, client).unwrap();
                assert_eq!(failing.done().await.unwrap_err().code(), "R-SRV-16");
            }
            let fine = app.desk.take(work(&app, "liver").await, client).unwrap();
            let found = fine.done().await.unwrap();
            assert_eq!(found.reply().masks.len(), 1);
        });
        assert_eq!((app.metrics.panics.get(), app.metrics.active.get()), (2, 0));
        app.stop();
    }
}
