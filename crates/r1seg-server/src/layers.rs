//! What every request goes through, whatever its path.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::Error;
use crate::compat;
use crate::guard;
use crate::ids::{Id, Kind};
use crate::metrics::{Counted, Metrics};
use crate::reply::{Failed, Failure};
use crate::state::App;

/// The name of a request in its response and in its error.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Nothing but what the server itself sends, and no page around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' blob: data:; connect-src 'self'; font-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// What handlers know the request by.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) Id);

/// Names the request, checks who sends it, bounds how many there are, counts it and logs it.
pub(crate) async fn outer(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = Kind::Request.draw();
    request.extensions_mut().insert(RequestId(id.clone()));
    let route = request.extensions().get::<MatchedPath>();
    let route: Arc<str> = route.map_or("other", MatchedPath::as_str).into();
    let record = Record {
        metrics: app.metrics.clone(),
        method: method(request.method()),
        route: route.clone(),
        begin: Instant::now(),
        status: 499,
        bytes: 0,
        id: id.clone(),
        _counted: Counted::new(&app.metrics.in_flight),
    };
    let words = match app.compat.owns(request.uri().path()) {
        true => Words::OfViewers,
        false => Words::Own,
    };
    let mut permit = None;
    let response = match admit(&app, &request, &route, &mut permit) {
        Ok(()) => answer(&app, request, next).await,
        Err(error) => failure(&app, &error, &id, words),
    };
    let response = rendered(&app, response, &id, words);
    let mut record = record;
    record.status = response.status().as_u16();
    let mut response = response.map(|body| Body::new(Tracked { body, record, _permit: permit }));
    add_headers(response.headers_mut(), &id);
    if app.is_draining() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// How errors are said.
#[derive(Debug, Clone, Copy)]
enum Words {
    Own,
    OfViewers,
}

/// Whether a request is to be answered at all.
fn admit(
    app: &App,
    request: &Request,
    route: &str,
    permit: &mut Option<OwnedSemaphorePermit>,
) -> Result<(), Error> {
    guard::check(app, request).inspect_err(|_| app.metrics.reject("origin"))?;
    // Monitoring must get an answer when the server is full, too.
    if route.starts_with("/v1/health/") || ["/metrics", compat::HEALTH].contains(&route) {
        return Ok(());
    }
    if app.is_draining() {
        app.metrics.reject("draining");
        return Err(Error::Draining);
    }
    // A model that is being warmed up works for nobody else.
    let needs_models = route == "/mcp"
        || route.starts_with("/v1/") && route != "/v1/info"
        || app.compat.owns(request.uri().path());
    if needs_models && !app.is_ready() {
        return Err(Error::NotReady);
    }
    let free = app.requests.clone().try_acquire_owned();
    *permit = Some(free.map_err(|_| {
        app.metrics.reject("requests");
        Error::Busy { what: "too many requests are in flight", retry: Duration::from_secs(1) }
    })?);
    Ok(())
}

/// The response of the handler; a fault in it is one, too.
async fn answer(app: &App, request: Request, next: Next) -> Response {
    use axum::response::IntoResponse;
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
        app.metrics.panics.inc();
        tracing::error!(name: "panic", requests = 1);
        Error::Panicked.into_response()
    })
}

fn failure(app: &App, error: &Error, id: &Id, words: Words) -> Response {
    let failure = Failure::new(error, Some(&app.private()));
    match words {
        Words::Own => failure.response(id.as_str()),
        Words::OfViewers => compat::failed(&failure, id.as_str()),
    }
}

/// An error of a handler, or of the router, as JSON.
fn rendered(app: &App, response: Response, id: &Id, words: Words) -> Response {
    if let Some(Failed(error)) = response.extensions().get::<Failed>() {
        tracing::debug!(name: "failed", code = error.code(), status = error.status());
        return failure(app, &error.clone(), id, words);
    }
    let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_text = kind.is_none_or(|kind| kind.starts_with(b"text/plain"));
    // What the router itself refuses: a path that is not UTF-8.
    if response.status() == StatusCode::BAD_REQUEST && is_text {
        return failure(app, &Error::malformed("the path or the query"), id, words);
    }
    response
}

fn add_headers(headers: &mut HeaderMap, id: &Id) {
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        headers.insert(REQUEST_ID, id);
    }
    let fixed = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

/// What is known of a request, which is counted and logged when its response has ended.
struct Record {
    metrics: Arc<Metrics>,
    method: &'static str,
    route: Arc<str>,
    begin: Instant,
    /// 499 until there is a response: the client has left.
    status: u16,
    bytes: u64,
    id: Id,
    _counted: Counted,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.metrics.request(&self.route, self.method, self.status);
        let ms = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let Self { method, status, bytes, .. } = *self;
        let (route, id) = (&*self.route, self.id.as_str());
        tracing::info!(name: "access", target: "r1seg::access", method, route, status, ms, bytes, id);
    }
}

/// A body that is counted, and holds the request's place until its end.
struct Tracked {
    body: Body,
    record: Record,
    _permit: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.record.bytes += data.len() as u64;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
