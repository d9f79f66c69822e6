//! Jobs: prompts about an image, which run whether or not somebody listens.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::HeaderMap;
use r1seg::PromptKind;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use super::{MOST_JOBS, VoxTell, images, kept};
use crate::Error;
use crate::api::prompts::{PromptRequest, SegmentRequest};
use crate::body::{self, Bounds};
use crate::ids::{Id, Kind};
use crate::job::{Progress, Stage, Ticket};
use crate::keys::Owner;
use crate::models::Entry;
use crate::queue::Client;
use crate::reply::Failure;
use crate::results::Found;
use crate::shelf::{Kept, Lease};
use crate::state::App;
use crate::volumes::Stored;

/// Prompts about an image, and what became of them.
#[derive(Debug)]
pub(super) struct ViewerJob {
    id: Id,
    owner: Owner,
    lease: Lease,
    /// Of each mask, only the largest connected part.
    pub(super) keep_largest: bool,
    pub(super) log: watch::Sender<Log>,
    cancelled: Notify,
}

/// What was told so far, in lines of JSON, and how it ended.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) lines: Vec<String>,
    pub(super) end: Option<End>,
    /// The last progress that was told: hundredths, and of how many steps.
    progress: Option<[usize; 2]>,
}

#[derive(Debug, Clone)]
pub(super) enum End {
    Done(Arc<Found>),
    Cancelled,
    Failed(String),
}

impl Kept for ViewerJob {
    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn owner(&self) -> Owner {
        self.owner
    }

    fn lease(&self) -> &Lease {
        &self.lease
    }
}

impl ViewerJob {
    /// Tells how many steps are done, where a bar would show it: there may be thousands of windows, and
    /// lines are kept.
    fn tell_progress(&self, [done, total]: [usize; 2]) {
        let progress = Some([100 * done / total.max(1), total]);
        self.log.send_if_modified(|log| {
            let is_new = log.progress != progress;
            if is_new {
                log.progress = progress;
                log.lines.push(json!({"done": done, "total": total}).to_string());
            }
            is_new
        });
    }

    fn tell(&self, message: &str) {
        let line = json!({"event": "oom_fallback", "message": message}).to_string();
        self.log.send_modify(|log| log.lines.push(line));
    }

    fn end(&self, end: End) {
        let line = match &end {
            End::Done(_) => json!({"status": "done"}),
            End::Cancelled => json!({"status": "cancelled"}),
            End::Failed(message) => json!({"status": "error", "message": message}),
        };
        self.lease.renew();
        self.log.send_modify(|log| {
            log.lines.push(line.to_string());
            log.end = Some(end);
        });
    }
}

/// A job of an id.
pub(super) fn job(app: &App, id: &str, client: Client) -> Result<Arc<ViewerJob>, Error> {
    let job = kept(app)?.jobs.get(id, client.owner);
    job.ok_or_else(|| Error::viewer(404, "the server does not know this job, or no more"))
}

/// What is asked.
#[derive(Debug, Deserialize)]
pub(super) struct JobRequest {
    image_id: String,
    prompts: Prompts,
    #[serde(default)]
    keep_largest: bool,
}

/// One prompt may stand alone.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "texts are expected")]
enum Prompts {
    One(String),
    Several(Vec<String>),
}

/// Begins a job. What the model cannot do is reported in its events, which viewers show; they hide errors here.
pub(super) async fn begin(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Error> {
    let bounds = Bounds::of_json(&app.config.limits);
    let request: JobRequest = body::json(&headers, body, bounds, &mut app.memory()).await?;
    let image = images::stored(&app, &request.image_id, client)?;
    let prompts = match request.prompts {
        Prompts::One(prompt) => vec![prompt],
        Prompts::Several(prompts) => prompts,
    };
    let prompts: Vec<String> = prompts.iter().map(|prompt| prompt.trim().to_string()).collect();
    if prompts.is_empty() || prompts.iter().any(String::is_empty) {
        return Err(Error::viewer(400, "a job needs prompts, and none of them may be blank"));
    }
    let voxtell = kept(&app)?;
    let job = Arc::new(ViewerJob {
        id: Kind::Job.draw(),
        owner: client.owner,
        lease: Lease::new(app.config.limits.ttl),
        keep_largest: request.keep_largest,
        log: watch::Sender::new(Log::default()),
        cancelled: Notify::new(),
    });
    while voxtell.jobs.len() >= MOST_JOBS {
        // Results of others stay.
        if voxtell.jobs.take_idlest(|job| job.owner() == client.owner).is_none() {
            let retry = Duration::from_secs(10);
            return Err(Error::Busy { what: "results of others take the room", retry });
        }
    }
    match queued(&app, voxtell, client, image, &prompts).await {
        Ok(ticket) => {
            let (app, job) = (app.clone(), job.clone());
            tokio::spawn(async move { run(&app, &job, ticket, &prompts).await });
        }
        Err(error) => job.end(failed(&app, &error)),
    }
    voxtell.jobs.put(job.clone());
    Ok(Json(json!({"job_id": job.id()})))
}

/// Puts prompts into the queue, all of which were found to be possible.
async fn queued(
    app: &App,
    voxtell: &VoxTell,
    client: Client,
    image: Arc<Stored>,
    prompts: &[String],
) -> Result<Ticket, Error> {
    let entry = app.models.get(voxtell.model).ok_or(Error::NotFound { what: "model" })?;
    let prompts = prompts.iter().map(|prompt| worded(entry, prompt)).collect();
    let request = SegmentRequest { model: entry.id.clone(), prompts, ..SegmentRequest::default() };
    app.desk.take(request.work(app, client, image).await?, client)
}

/// A question to a model that answers some, and otherwise what to segment.
fn worded(entry: &Entry, prompt: &str) -> PromptRequest {
    let words = Some(prompt.to_string());
    match entry.takes(PromptKind::Question) {
        true => PromptRequest { question: words, ..PromptRequest::default() },
        false => PromptRequest { text: words, ..PromptRequest::default() },
    }
}

fn failed(app: &App, error: &Error) -> End {
    End::Failed(match error {
        // Nobody in front of a viewer knows the fields of r1seg's own API.
        Error::Invalid { message, .. } => message.clone(),
        _ => Failure::new(error, Some(&app.private())).words(),
    })
}

/// Reports to a job what its prompts come to.
async fn run(app: &App, job: &ViewerJob, mut ticket: Ticket, prompts: &[String]) {
    loop {
        let progress = tokio::select! {
            progress = ticket.next() => progress,
            () = job.cancelled.notified() => {
                drop(ticket);
                return job.end(End::Cancelled);
            }
        };
        match progress {
            Some(Progress::Stage { stage, prompt, window }) => {
                job.tell_progress(steps(stage, prompt, window, prompts.len()));
            }
            Some(Progress::Queued { .. } | Progress::Text { .. }) => {}
            Some(Progress::Done(Ok(found))) => {
                said(&found, prompts).iter().for_each(|message| job.tell(message));
                return job.end(End::Done(found));
            }
            Some(Progress::Done(Err(error))) => return job.end(failed(app, &error)),
            None => return job.end(failed(app, &Error::Panicked)),
        }
    }
}

/// How many steps are done, of how many: windows while a volume is encoded, then prompts.
fn steps(stage: Stage, prompt: usize, window: Option<[usize; 2]>, prompts: usize) -> [usize; 2] {
    match (stage, window) {
        (_, Some([index, of])) => [index.saturating_sub(1), of],
        (Stage::Encoding, None) => [0, prompts],
        (Stage::Reading | Stage::Answering | Stage::Drawing, None) => [prompt, prompts],
        (Stage::Saving, None) => [prompts, prompts],
    }
}

/// About files of results, which no viewer sees.
const OVERLAP: &str = "W-OVERLAP";

/// What a person should read: answers in words, and warnings. Viewers have a channel for one kind of
/// message alone, which was meant for something else.
fn said(found: &Found, prompts: &[String]) -> Vec<String> {
    let answers = found.reply.answers.iter().zip(prompts);
    let answers = answers.filter(|(answer, _)| !answer.text.trim().is_empty());
    let answers = answers.map(|(answer, prompt)| format!("{prompt}: {}", answer.text.trim()));
    let warnings = found.reply.warnings.iter().filter(|warning| warning.code != OVERLAP);
    let warnings = warnings.map(|warning| warning.text.clone());
    answers.chain(warnings).collect()
}

/// Stops a job, or does nothing where it is over.
pub(super) async fn cancel(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    job(&app, &id, client)?.cancelled.notify_one();
    Ok(Json(json!({"cancelling": true})))
}
