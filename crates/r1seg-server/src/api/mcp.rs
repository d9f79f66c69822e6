//! The tools of `r1seg-mcp` over HTTP: volumes and results by their ids, in the same queue as everything
//! else.

use std::path::Path;
use std::time::Instant;

use r1seg::registry::Family;
use r1seg::{Diagnostic, PromptKind};
use r1seg_mcp::args::{AskVolume, EarlierMask, InspectVolume, Mode, SegmentVolume, Target};
use r1seg_mcp::results::{Answer, Inspected, Mask, Model, Models, Outcome, ResultFile, Warning};
use r1seg_mcp::{Call, Desk, Failure, Hints, HttpOptions, HttpService, Step, http_service};
use r1seg_results::inspection::{Inspection, SourceFile};
use r1seg_results::report::WarningReport;

use super::download::blocking;
use super::prompts::{MaskRequest, PointRequest, PromptRequest, SegmentRequest};
use super::volumes;
use crate::Error;
use crate::fix::{fix, words};
use crate::job::{Progress, Stage, Work};
use crate::models::Entry;
use crate::queue::Client;
use crate::results::{AnswerReply, MaskReply, ResultReply};
use crate::shelf::Kept;
use crate::state::App;

/// What the tools are called for, done by the server.
#[derive(Debug)]
pub(crate) struct AgentDesk {
    app: App,
}

/// The service for `/mcp`. Hosts, origins and keys are checked by the layers around it.
pub(crate) fn service(app: &App) -> HttpService<AgentDesk> {
    let server = r1seg_mcp::Server::new(AgentDesk { app: app.clone() });
    http_service(server, HttpOptions::default().with_hosts_checked())
}

impl Desk for AgentDesk {
    fn hints(&self) -> Hints {
        Hints {
            volume:
                "The id of a volume that was uploaded to this server with POST /v1/volumes: vol_.."
                    .to_string(),
            mask: "The id of an earlier result about the same volume: res_..".to_string(),
            results: "Results are kept for a while; their files have paths on this server."
                .to_string(),
        }
    }

    async fn list_models(&self, call: Call) -> Result<Models, Failure> {
        client(&call)?;
        let Hints { volume, results, .. } = self.hints();
        let models = self.app.models.iter().map(listed).collect();
        Ok(Models { models, volumes: volume, results, research_use_only: true })
    }

    async fn inspect_volume(&self, args: InspectVolume, call: Call) -> Result<Inspected, Failure> {
        self.inspect(args, &call).await.map_err(|error| failure(&error))
    }

    async fn ask_volume(&self, args: AskVolume, call: Call) -> Result<Outcome, Failure> {
        self.ask(args, &call).await.map_err(|error| failure(&error))
    }

    async fn segment_volume(&self, args: SegmentVolume, call: Call) -> Result<Outcome, Failure> {
        self.segment(args, &call).await.map_err(|error| failure(&error))
    }
}

impl AgentDesk {
    async fn inspect(&self, args: InspectVolume, call: &Call) -> Result<Inspected, Error> {
        refuse(args.read.is_some(), "read")?;
        let stored = volumes::stored(&self.app, &args.volume, client(call)?)?;
        let look = move || {
            let source = SourceFile::stream(Path::new(&stored.name));
            let loaded = stored.input.loaded();
            let (found, warnings) = Inspection::new(source, &loaded, None, words)?;
            let warnings = warnings.iter().map(warning).collect();
            Ok(Inspected::of(stored.id(), &found, warnings))
        };
        blocking(look).await
    }

    async fn ask(&self, args: AskVolume, call: &Call) -> Result<Outcome, Error> {
        refuse(args.read.is_some(), "read")?;
        refuse(args.orient.is_some(), "orient")?;
        let questions = args.questions.unwrap_or_default().into_iter();
        let questions = questions
            .map(|question| PromptRequest { question: Some(question), ..PromptRequest::default() });
        let organs = args.organs.unwrap_or_default().into_iter();
        let organs =
            organs.map(|organ| PromptRequest { organ: Some(organ), ..PromptRequest::default() });
        let mut prompts: Vec<PromptRequest> = questions.chain(organs).collect();
        prompts.iter_mut().for_each(|prompt| prompt.r#box = args.r#box);
        let model = match args.model {
            Some(named) => named,
            None => self.choose(|entry| entry.takes(PromptKind::Question))?,
        };
        let request = SegmentRequest {
            model,
            prompts,
            mode: mode(args.mode),
            max_new_tokens: args.max_new_tokens,
            ..SegmentRequest::default()
        };
        self.run(args.volume, request, args.first_seg, call).await
    }

    async fn segment(&self, args: SegmentVolume, call: &Call) -> Result<Outcome, Error> {
        refuse(args.read.is_some(), "read")?;
        refuse(args.orient.is_some(), "orient")?;
        let model = match args.model.clone() {
            Some(named) => named,
            None => self.choose(|entry| args.is_taken_by(entry.model.capabilities()))?,
        };
        let request = SegmentRequest {
            model,
            prompts: args.targets.into_iter().map(prompt).collect::<Result<_, _>>()?,
            mode: mode(args.mode),
            ..SegmentRequest::default()
        };
        self.run(args.volume, request, false, call).await
    }

    /// The first model that takes such prompts.
    fn choose(&self, takes: impl Fn(&Entry) -> bool) -> Result<String, Error> {
        let found = self.app.models.iter().find(|entry| takes(entry));
        let none = || Error::invalid("model", "no model of this server takes such prompts");
        found.map(|entry| entry.id.clone()).ok_or_else(none)
    }

    async fn run(
        &self,
        volume: String,
        request: SegmentRequest,
        first_seg: bool,
        call: &Call,
    ) -> Result<Outcome, Error> {
        let start = Instant::now();
        let client = client(call)?;
        let stored = volumes::stored(&self.app, &volume, client)?;
        let mut work: Work = request.work(&self.app, client, stored).await?;
        work.options.first_seg = first_seg;
        let mut ticket = self.app.desk.take(work, client)?;
        let found = loop {
            // A ticket that is dropped frees its place, and stops the model.
            let progress = tokio::select! {
                progress = ticket.next() => progress,
                () = call.cancelled() => return Err(r1seg::Error::Cancelled.into()),
            };
            match progress {
                Some(Progress::Done(result)) => break result?,
                Some(progress) => {
                    step(&progress).into_iter().for_each(|step| call.progress.report(step))
                }
                None => return Err(Error::Panicked),
            }
        };
        Ok(outcome(found.reply(), start.elapsed().as_secs_f64()))
    }
}

/// Whose call it is.
fn client(call: &Call) -> Result<Client, Error> {
    call.extension::<Client>().copied().ok_or(Error::Unauthorized)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        failure(&error)
    }
}

fn failure(error: &Error) -> Failure {
    let mut failure = Failure::of(error as &dyn Diagnostic, words);
    // Paths are the server's own.
    failure.path = None;
    failure
}

/// What a volume that was read already cannot have any more.
fn refuse(is_given: bool, field: &'static str) -> Result<(), Error> {
    match is_given {
        true => Err(Error::invalid(
            field,
            "a volume is read when it is uploaded: say there how, and leave this out",
        )),
        false => Ok(()),
    }
}

fn mode(mode: Option<Mode>) -> Option<String> {
    mode.map(|mode| r1seg::InferenceMode::from(mode).as_str().to_string())
}

fn prompt(target: Target) -> Result<PromptRequest, Error> {
    let mask = |EarlierMask { file, label }: EarlierMask| match label {
        Some(label) => Ok(MaskRequest { result: file, label }),
        None => Err(Error::invalid("label", "which label of the result is meant must be said")),
    };
    let points = target.points.unwrap_or_default().into_iter();
    Ok(PromptRequest {
        question: None,
        text: target.text,
        organ: target.organ,
        points: points
            .map(|point| PointRequest { voxel: point.voxel, positive: point.positive })
            .collect(),
        r#box: target.r#box,
        mask: target.mask.map(mask).transpose()?,
        name: target.name,
    })
}

fn listed(entry: &Entry) -> Model {
    let family: Family = entry.model.family();
    let mut model = Model::of(entry.id.clone(), family, entry.model.capabilities());
    model.loaded = true;
    model.is_demo = entry.is_demo();
    model
}

fn step(progress: &Progress) -> Option<Step> {
    match *progress {
        Progress::Queued { position: 0 } | Progress::Text { .. } | Progress::Done(_) => None,
        Progress::Queued { position } => Some(Step::Waiting { before: position }),
        Progress::Stage { window: Some([number, of]), .. } => Some(Step::Window { number, of }),
        Progress::Stage { stage, prompt, window: None } => match stage {
            Stage::Encoding => Some(Step::Encoding),
            Stage::Reading => None,
            Stage::Answering => Some(Step::Answering { question: prompt + 1, tokens: 1 }),
            Stage::Drawing => Some(Step::Drawing { prompt: prompt + 1 }),
            Stage::Saving => Some(Step::Saving),
        },
    }
}

fn warning(warning: &r1seg::volume::Warning) -> Warning {
    let fix = warning.remedy.as_ref().and_then(fix);
    Warning { fix, ..Warning::from(WarningReport::new(warning, words)) }
}

fn outcome(reply: ResultReply, seconds: f64) -> Outcome {
    let location = |name: &String| format!("/v1/results/{}/files/{name}", reply.id);
    let files = reply.files.iter();
    Outcome {
        files: files
            .map(|name| ResultFile { name: name.clone(), location: location(name) })
            .collect(),
        model: reply.model,
        volume: reply.volume,
        answers: reply.answers.into_iter().map(answer).collect(),
        masks: reply.masks.into_iter().map(mask).collect(),
        warnings: reply
            .warnings
            .into_iter()
            .map(|of| Warning { code: of.code, text: of.text, fix: of.fix })
            .collect(),
        results: Some(reply.id),
        seconds,
        research_use_only: true,
    }
}

fn answer(reply: AnswerReply) -> Answer {
    Answer {
        prompt: reply.prompt,
        // A model that gives no words has no reason to end them.
        text: reply.finish_reason.map(|_| reply.text),
        status: reply.status.to_string(),
        finish_reason: reply.finish_reason.map(str::to_string),
        labels: reply.labels,
        boxes: reply.boxes,
    }
}

fn mask(reply: MaskReply) -> Mask {
    Mask {
        label: reply.label,
        name: reply.name,
        voxels: reply.voxels,
        volume_ml: reply.volume_ml,
        mean_hu: reply.mean_hu,
        centroid_mm: reply.centroid_mm,
        bbox: reply.bbox,
        components: reply.components,
        touches_border: reply.touches_border,
        file: reply.file,
    }
}
