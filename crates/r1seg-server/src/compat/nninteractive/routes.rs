//! The paths of nnInteractive's protocol.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router};
use r1seg::PromptKind;
use r1seg_viewers::ElementType;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{Answer, META};
use super::image::{self, ImageMeta};
use super::predict::{Visit, blocking, host};
use super::prompts::{BoxRequest, PointRequest, SeedMeta};
use super::refusal::Refusal;
use super::sessions::Sign;
use super::target::Target;
use super::workspace::{Image, Workspace};
use crate::Error;
use crate::body::{self, Bounds};
use crate::compat::array::{self, Framing, Received};
use crate::queue::Client;
use crate::state::App;

/// Names the session of a request.
const LEASE: &str = "x-lease-token";
/// A target buffer takes as much of the memory at most.
const SHARE_OF_MEMORY: u64 = 4;

/// What its paths begin with, but for those of all protocols.
pub(crate) const PATHS: [&str; 15] = [
    "/claim",
    "/release",
    "/heartbeat",
    "/lease_status",
    "/set_image",
    "/set_target_buffer",
    "/set_do_autozoom",
    "/reset_interactions",
    "/add_point_interaction",
    "/add_bbox_interaction",
    "/add_scribble_interaction",
    "/add_lasso_interaction",
    "/add_initial_seg_interaction",
    "/predict",
    "/undo",
];

/// Its paths.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/claim", post(claim))
        .route("/release", post(release))
        .route("/heartbeat", post(heartbeat))
        .route("/lease_status", get(lease_status))
        .route("/set_image", post(set_image))
        .route("/set_target_buffer", post(set_target_buffer))
        .route("/set_do_autozoom", post(set_do_autozoom))
        .route("/reset_interactions", post(reset_interactions))
        .route("/add_point_interaction", post(add_point))
        .route("/add_bbox_interaction", post(add_box))
        .route("/add_scribble_interaction", post(add_drawing))
        .route("/add_lasso_interaction", post(add_drawing))
        .route("/add_initial_seg_interaction", post(add_initial_seg))
        .route("/predict", post(predict))
        .route("/undo", post(undo))
}

/// The session of a request.
///
/// # Errors
/// Where it has ended, or never was.
fn enter(app: &App, client: Client, headers: &HeaderMap, sign: Sign) -> Result<Visit, Refusal> {
    let begin = Instant::now();
    let session = host(app)?.sessions.enter(token(headers), client.owner, sign, begin);
    let session = session.ok_or(Refusal::gone())?;
    Ok(Visit { app: app.clone(), client, session, begin })
}

async fn json_of<T: DeserializeOwned>(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Refusal> {
    let bounds = Bounds::of_json(&app.config.limits);
    Ok(body::json(headers, body, bounds, &mut app.memory()).await?)
}

fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(LEASE)?.to_str().ok()
}

/// What stands beside an array.
fn meta<T: DeserializeOwned + Default>(headers: &HeaderMap) -> Result<T, Refusal> {
    let Some(text) = headers.get(META) else { return Ok(T::default()) };
    body::parse(text.as_bytes())
        .map_err(|_| Refusal::new("X-Meta is not the JSON that is read here"))
}

#[derive(Serialize)]
struct Claimed {
    lease_token: String,
    idle_timeout_seconds: f64,
    liveness_timeout_seconds: f64,
    max_sessions: usize,
}

async fn claim(
    State(app): State<App>,
    Extension(client): Extension<Client>,
) -> Result<Json<Claimed>, Refusal> {
    let host = host(&app)?;
    let settings = &host.settings;
    let session = host.sessions.claim(client.owner, Instant::now());
    let session = session.ok_or_else(|| {
        app.metrics.reject("sessions");
        Refusal::full(settings.max_sessions)
    })?;
    Ok(Json(Claimed {
        lease_token: session.token().to_string(),
        idle_timeout_seconds: settings.idle.as_secs_f64(),
        liveness_timeout_seconds: settings.liveness.as_secs_f64(),
        max_sessions: settings.max_sessions,
    }))
}

async fn release(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    host(&app)?.sessions.release(token(&headers), client.owner);
    Ok(Json(json!({"released": true})))
}

async fn heartbeat(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let visit = enter(&app, client, &headers, Sign::Life)?;
    let left = visit.host()?.sessions.left(&visit.session, visit.begin);
    Ok(Json(json!({"remaining_seconds": left.as_secs_f64()})))
}

async fn lease_status(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let visit = enter(&app, client, &headers, Sign::Life)?;
    let left = visit.host()?.sessions.left(&visit.session, visit.begin);
    let idle = visit.host()?.settings.idle.as_secs_f64();
    Ok(Json(json!({"remaining_seconds": left.as_secs_f64(), "idle_timeout_seconds": idle})))
}

#[derive(Serialize)]
struct ImageReply {
    original_image_shape: [usize; 4],
    /// Plug-ins do not look at them.
    warnings: Vec<String>,
}

async fn set_image(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ImageReply>, Refusal> {
    let visit = enter(&app, client, &headers, Sign::Action)?;
    let received = array::receive(&app, client.owner, &headers, body, Framing::Nnia).await?;
    let meta: ImageMeta = meta(&headers)?;
    let settings = &visit.host()?.settings;
    let placed = (settings.axes, meta.spacing_mm(settings)?);
    let mut work = visit.work().await?;
    // The memory of the earlier image is free for this one.
    *work = Workspace::default();
    let turn = app.readers.clone().acquire_owned().await;
    let turn = turn.map_err(|_| Error::Draining)?;
    let (state, owner) = (app.clone(), client.owner);
    let volume = blocking(move || {
        let _turn = turn;
        let Received { array, memory } = received;
        let volume = image::volume(&state, array, placed, owner);
        drop(memory);
        volume
    })
    .await?;
    work.load(Image { volume: volume.clone(), cache: app.cache.clone() });
    let mut warnings = meta.assumptions(settings);
    warnings.extend(visit.encode(&volume).await.inspect_err(|_| *work = Workspace::default())?);
    let [a, b, c] = volume.input.volume.shape();
    Ok(Json(ImageReply { original_image_shape: [1, a, b, c], warnings }))
}

#[derive(Deserialize)]
struct TargetRequest {
    shape: [usize; 3],
    dtype: String,
}

async fn set_target_buffer(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let visit = enter(&app, client, &headers, Sign::Action)?;
    let TargetRequest { shape, dtype } = json_of(&app, &headers, body).await?;
    let element = ElementType::from_name(&dtype).filter(|element| element.is_whole());
    let element =
        element.ok_or(Refusal::new("the target buffer must be bool, or of whole numbers"))?;
    let voxels = shape.iter().try_fold(1_u64, |n, size| n.checked_mul(*size as u64));
    let bytes = voxels.and_then(|voxels| voxels.checked_mul(element.size() as u64));
    let most = app.config.limits.max_memory_bytes / SHARE_OF_MEMORY;
    let (Some(voxels), true) = (voxels, bytes.is_some_and(|bytes| bytes <= most)) else {
        let message = format!("the target buffer is larger than {most} bytes");
        return Err(Refusal::too_large(message));
    };
    let mut work = visit.work().await?;
    if work.volume()?.input.volume.shape() != shape {
        return Err(Refusal::new("the target buffer is not of the shape of the image"));
    }
    // What can be taken back is kept as well, and a mask to correct; an answer has wider numbers.
    let each = 3 + element.size() as u64;
    let memory = image::reserved(&app, client.owner, voxels.saturating_mul(each))?;
    work.set_target(Target::new(shape, element, memory));
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct AutozoomRequest {
    #[serde(rename = "do_autozoom")]
    _do_autozoom: bool,
}

async fn set_do_autozoom(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    enter(&app, client, &headers, Sign::Action)?;
    json_of::<AutozoomRequest>(&app, &headers, body).await?;
    Ok(Json(json!({})))
}

async fn reset_interactions(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let visit = enter(&app, client, &headers, Sign::Action)?;
    let mut work = visit.work().await?;
    blocking(move || {
        work.reset();
        Ok(Json(json!({})))
    })
    .await
}

async fn add_point(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Answer, Refusal> {
    let visit = enter(&app, client, &headers, Sign::Action)?;
    let request: PointRequest = json_of(&app, &headers, body).await?;
    if !visit.entry()?.takes(PromptKind::Points) {
        return Err(Refusal::new("points are not supported by this model"));
    }
    let work = visit.work().await?;
    let prompt = request.prompt(work.volume()?.input.volume.shape())?;
    add(&visit, work, prompt, request.run_prediction).await
}

async fn add_box(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Answer, Refusal> {
    let visit = enter(&app, client, &headers, Sign::Action)?;
    let request: BoxRequest = json_of(&app, &headers, body).await?;
    if !visit.entry()?.takes(PromptKind::Box) {
        return Err(Refusal::new("boxes are not supported by this model"));
    }
    let work = visit.work().await?;
    let prompt = request.prompt(work.volume()?.input.volume.shape())?;
    add(&visit, work, prompt, request.run_prediction).await
}

/// Runs a prompt, or lets it wait.
async fn add(
    visit: &Visit,
    mut work: tokio::sync::OwnedMutexGuard<Workspace>,
    prompt: r1seg::Prompt,
    is_run: bool,
) -> Result<Answer, Refusal> {
    if is_run {
        return visit.predict(work, Some(prompt)).await;
    }
    work.target()?;
    work.queue(prompt)?;
    Ok(Answer::nothing())
}

/// Scribbles and lassos, which are read to the end, so that the viewer gets to read the answer.
async fn add_drawing(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Answer, Refusal> {
    enter(&app, client, &headers, Sign::Action)?;
    let bounds = Bounds::of_upload(&app.config.limits);
    body::whole(&headers, body, bounds, &mut app.memory()).await?;
    Err(Refusal::new("scribbles and lassos are not supported by this model: use points"))
}

async fn add_initial_seg(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Answer, Refusal> {
    let visit = enter(&app, client, &headers, Sign::Action)?;
    let received = array::receive(&app, client.owner, &headers, body, Framing::Nnia).await;
    let mut work = visit.work().await?;
    // Whatever becomes of it, the plug-in has put it into its own mask.
    work.doubt();
    if !visit.entry()?.takes(PromptKind::Mask) {
        let message = "this model corrects no masks: it cannot go on with an earlier segmentation";
        return Err(Refusal::new(message));
    }
    let SeedMeta { run_prediction } = meta(&headers)?;
    let (received, volume) = (received?, work.volume()?.clone());
    let (mut work, mask) = blocking(move || {
        let mask = image::mask(&received.array, volume.input.volume.geometry())?;
        Ok((work, Arc::new(mask)))
    })
    .await?;
    if run_prediction {
        let volume = work.volume()?.clone();
        visit.check(&r1seg::Prompt::default().with_mask(mask.clone()), &volume)?;
    }
    work.seed(mask)?;
    match run_prediction {
        true => visit.predict(work, None).await,
        false => Ok(Answer::nothing()),
    }
}

async fn predict(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Answer, Refusal> {
    let visit = enter(&app, client, &headers, Sign::Action)?;
    let work = visit.work().await?;
    match work.has_pending() {
        true => visit.predict(work, None).await,
        false => Ok(Answer::nothing()),
    }
}

async fn undo(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Answer, Refusal> {
    let visit = enter(&app, client, &headers, Sign::Action)?;
    let mut work = visit.work().await?;
    blocking(move || {
        let (was_prompt, patch) = work.undo();
        match was_prompt {
            true => Answer::of(patch.as_ref(), work.target()?.element()),
            false => Ok(Answer::nothing()),
        }
    })
    .await
}
