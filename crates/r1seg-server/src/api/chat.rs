//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, stream};
use r1seg::AskOptions;
use r1seg_results::Asked;

use super::chat_form::{ChatRequest, Choice, Completion, Delta, Extra, Head, Reply, VolumePart};
use super::{Errors, download, prompts, sse, volumes};
use crate::Error;
use crate::body::{self, Bounds};
use crate::ids::Kind;
use crate::job::{Progress, Ticket, Work};
use crate::layers::RequestId;
use crate::queue::Client;
use crate::reply::Failure;
use crate::results::Found;
use crate::shelf::unix_now;
use crate::state::App;
use crate::upload::Upload;
use crate::volumes::Stored;

/// Answers a question about a volume, in OpenAI's form.
///
/// The volume is a part of a message: `{"type": "volume", "volume": {"id": ".."}}`, or with `data` in base64
/// and a `name`. Masks are in `r1seg.result` of the answer; streamed, in an event `mask` before the last
/// chunk. Each question is asked alone: models do not read earlier messages.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "prompts",
    security(("key" = [])),
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer", content(
            (Completion = "application/json"),
            (String = "text/event-stream")
        )),
        Errors
    )
)]
pub(super) async fn completions(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(RequestId(id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let bounds = Bounds::of_upload(&app.config.limits);
    // Held until the volume inside of it is on the disk.
    let mut memory = app.memory();
    let mut request: ChatRequest = body::json(&headers, body, bounds, &mut memory).await?;
    let is_streamed = request.stream.unwrap_or(false);
    let options = request.stream_options.as_ref();
    let counts = options.and_then(|options| options.include_usage).unwrap_or(false);
    let head = Head {
        id: Kind::Chat.draw().to_string(),
        created: unix_now(),
        model: request.model.clone(),
    };
    let work = work(&app, client, &mut request).await?;
    drop((request, memory));
    let ticket = app.desk.take(work, client)?;
    if is_streamed {
        let chunks = Chunks { app, head, counts, request_id: id.to_string(), streamed: false };
        return Ok(sse::response(chunks.of(ticket)));
    }
    let found = ticket.done().await?;
    Ok(Json(completion(head, &found)).into_response())
}

async fn work(app: &App, client: Client, request: &mut ChatRequest) -> Result<Work, Error> {
    if request.n.is_some_and(|n| n != 1) {
        return Err(Error::invalid("n", "one answer is given"));
    }
    let sampling = prompts::sampling(request.temperature, request.top_p, request.seed)?;
    let model = app.models.find(&request.model)?;
    let entry = app.models.get(model).ok_or(Error::NotFound { what: "model" })?;
    let Some(question) = request.question() else {
        return Err(Error::invalid("messages", "the last message of the user has no text"));
    };
    if question.len() > r1seg::MAX_TEXT_BYTES {
        return Err(Error::TooLarge { limit: r1seg::MAX_TEXT_BYTES as u64 });
    }
    let asked: Vec<Asked> = vec![prompts::question_to(entry, question)?];
    let Some(volume) = request.take_volume() else {
        let message = "no message has a part of type `volume`";
        return Err(Error::invalid("messages", message));
    };
    let most = request.max_completion_tokens.or(request.max_tokens);
    let most = most.unwrap_or(AskOptions::default().max_new_tokens);
    let options = AskOptions::default().with_max_new_tokens(most).with_sampling(sampling);
    let volume = volume_of(app, client, volume).await?;
    let work = Work { model, refine: None, volume, mode: None, asked, options, can_share: true };
    prompts::checked(work, entry)
}

/// The volume of a message: one that is kept already, or one that is kept from now on.
async fn volume_of(app: &App, client: Client, part: VolumePart) -> Result<Arc<Stored>, Error> {
    match part {
        VolumePart { id: Some(id), data: None, .. } => volumes::stored(app, &id, client),
        VolumePart { id: None, data: Some(data), name } => {
            let bytes = download::blocking(move || {
                let decoded = STANDARD.decode(data.as_bytes());
                decoded.map_err(|_| Error::invalid("data", "this is not base64"))
            })
            .await?;
            let upload = Upload::of_bytes(app, name.as_deref(), &bytes).await?;
            app.keep(upload, client.owner).await
        }
        _ => Err(Error::invalid("volume", "either `id` or `data` is needed")),
    }
}

fn finish_reason(found: &Found) -> &'static str {
    found.reply.answers.first().and_then(|answer| answer.finish_reason).unwrap_or("stop")
}

fn text(found: &Found) -> String {
    found.reply.answers.first().map(|answer| answer.text.clone()).unwrap_or_default()
}

fn completion(head: Head, found: &Found) -> Completion {
    let message = Reply { role: "assistant", content: text(found), refusal: None };
    let finish_reason = finish_reason(found);
    Completion {
        id: head.id,
        object: "chat.completion",
        created: head.created,
        model: head.model,
        choices: vec![Choice { index: 0, message, finish_reason, logprobs: None }],
        usage: found.tokens.into(),
        r1seg: Extra { result: found.reply() },
    }
}

/// An answer as it is generated.
struct Chunks {
    app: App,
    head: Head,
    /// Whether tokens are counted at the end.
    counts: bool,
    request_id: String,
    /// Whether any of the text was sent.
    streamed: bool,
}

impl Chunks {
    fn of(self, ticket: Ticket) -> impl Stream<Item = Vec<Bytes>> + Send {
        let delta = Delta { role: Some("assistant"), content: Some(String::new()) };
        let first = vec![sse::event(None, &self.head.delta(delta, None))];
        let begun = stream::iter([first]);
        let rest = stream::unfold((self, ticket), |(mut chunks, mut ticket)| async move {
            let progress = ticket.next().await?;
            Some((chunks.events(progress), (chunks, ticket)))
        });
        futures_util::StreamExt::chain(begun, rest)
    }

    fn events(&mut self, progress: Progress) -> Vec<Bytes> {
        match progress {
            Progress::Queued { .. } | Progress::Stage { .. } => Vec::new(),
            Progress::Text { text, .. } => {
                self.streamed = true;
                vec![self.text(text)]
            }
            Progress::Done(Ok(found)) => self.end(&found),
            Progress::Done(Err(error)) => {
                let failure = Failure::new(&error, Some(&self.app.private()));
                vec![sse::event(None, &failure.reply(&self.request_id)), sse::DONE]
            }
        }
    }

    fn text(&self, text: String) -> Bytes {
        let delta = Delta { role: None, content: Some(text) };
        sse::event(None, &self.head.delta(delta, None))
    }

    fn end(&self, found: &Found) -> Vec<Bytes> {
        let mut events = Vec::new();
        // In windows each has a text of its own, and what they say together is known at the end.
        if !self.streamed && !text(found).is_empty() {
            events.push(self.text(text(found)));
        }
        events.push(sse::event(Some("mask"), &self.head.mask(found.reply())));
        let reason = finish_reason(found);
        events.push(sse::event(None, &self.head.delta(Delta::default(), Some(reason))));
        if self.counts {
            events.push(sse::event(None, &self.head.usage(found.tokens)));
        }
        events.push(sse::DONE);
        events
    }
}
