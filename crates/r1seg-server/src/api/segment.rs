//! Prompts about a volume, and what they got.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use utoipa::ToSchema;

use super::prompts::SegmentRequest;
use super::{Errors, sse, volumes};
use crate::Error;
use crate::body::{self, Bounds};
use crate::job::{Progress, Ticket};
use crate::layers::RequestId;
use crate::queue::Client;
use crate::reply::Failure;
use crate::results::ResultReply;
use crate::state::App;
use crate::upload::Receiver;
use crate::volumes::Stored;

/// Files, and what is asked about them.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "describes the form")]
struct SegmentForm {
    /// As of `/v1/volumes`.
    #[schema(value_type = Vec<String>, format = Binary)]
    file: Vec<u8>,
    /// JSON: what the request would be without files, and without `volume`.
    request: String,
    /// As of `/v1/volumes`.
    series: Option<String>,
    /// As of `/v1/volumes`.
    #[schema(minimum = 0)]
    frame: Option<usize>,
    /// As of `/v1/volumes`.
    spacing: Option<String>,
}

/// Answers questions about a volume, and segments what is asked for.
///
/// With `stream`, the response is events: `queued`, `stage`, `text`, and at the end `result` or `error`.
/// Closing the connection stops the work.
#[utoipa::path(
    post,
    path = "/v1/segment",
    tag = "prompts",
    security(("key" = [])),
    request_body(content(
        (SegmentRequest = "application/json"),
        (SegmentForm = "multipart/form-data")
    )),
    responses(
        (status = 200, description = "What was found", content(
            (ResultReply = "application/json"),
            (String = "text/event-stream")
        )),
        Errors
    )
)]
pub(super) async fn segment(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(RequestId(id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let (request, volume) = received(&app, client, &headers, body).await?;
    let is_streamed = request.stream;
    let work = request.work(&app, client, volume).await?;
    let ticket = app.desk.take(work, client)?;
    match is_streamed {
        true => Ok(sse::response(events(app, ticket, id.to_string()))),
        false => Ok(Json(ticket.done().await?.reply()).into_response()),
    }
}

/// The request and its volume, which was uploaded before or comes along.
async fn received(
    app: &App,
    client: Client,
    headers: &HeaderMap,
    body: Body,
) -> Result<(SegmentRequest, Arc<Stored>), Error> {
    let bounds = Bounds::of_json(&app.config.limits);
    if body::media_type(headers).as_deref() != Some("multipart/form-data") {
        let request: SegmentRequest = body::json(headers, body, bounds, &mut app.memory()).await?;
        let Some(volume) = &request.volume else {
            return Err(Error::invalid("volume", "the id of a volume is needed"));
        };
        let volume = volumes::stored(app, volume, client)?;
        return Ok((request, volume));
    }
    let max_request = usize::try_from(bounds.bytes).unwrap_or(usize::MAX);
    let mut upload = Receiver { app, max_request }.receive(headers, body).await?;
    let Some(request) = upload.request.take() else {
        return Err(Error::invalid("request", "there is no part of this name"));
    };
    let request: SegmentRequest = body::parse(&request)?;
    if request.volume.is_some() {
        return Err(Error::invalid("volume", "the volume comes along, and none is named"));
    }
    let volume = app.keep(upload, client.owner).await?;
    Ok((request, volume))
}

#[derive(Serialize)]
struct Queued {
    position: usize,
}

#[derive(Serialize)]
struct StageEvent {
    stage: &'static str,
    prompt: usize,
    /// Which window, from 1, and of how many.
    window: Option<[usize; 2]>,
}

#[derive(Serialize)]
struct TextEvent {
    prompt: usize,
    text: String,
}

fn events(
    app: App,
    ticket: Ticket,
    request_id: String,
) -> impl futures_util::Stream<Item = Vec<Bytes>> + Send {
    stream::unfold(ticket, move |mut ticket| {
        let (app, request_id) = (app.clone(), request_id.clone());
        async move {
            let event = match ticket.next().await? {
                Progress::Queued { position } => sse::event(Some("queued"), &Queued { position }),
                Progress::Stage { stage, prompt, window } => {
                    let stage = stage.as_str();
                    sse::event(Some("stage"), &StageEvent { stage, prompt, window })
                }
                Progress::Text { prompt, text } => {
                    sse::event(Some("text"), &TextEvent { prompt, text })
                }
                Progress::Done(Ok(found)) => sse::event(Some("result"), &found.reply()),
                Progress::Done(Err(error)) => {
                    let failure = Failure::new(&error, Some(&app.private()));
                    sse::event(Some("error"), &failure.reply(&request_id))
                }
            };
            Some((vec![event], ticket))
        }
    })
}
