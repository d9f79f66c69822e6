//! The server as a whole: its router, its connections, and its end.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use r1seg::volume::{Geometry, Volume};
use r1seg::{AskOptions, CancelToken, EncodeOptions, Model, RunContext};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::api;
use crate::guard::Peer;
use crate::metrics::Counted;
use crate::patience::Patient;
use crate::state::{App, State};
use crate::{Config, Error, Served};

/// How often what has expired is removed.
const SWEEP: Duration = Duration::from_secs(1);
/// The head of a request.
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 64;
/// After an error of the system, such as too many open files.
const BREATHER: Duration = Duration::from_millis(100);

/// A server: models that are loaded, and what it remembers of requests.
///
/// ```no_run
/// use r1seg::{CheckpointSource, LoadOptions, load};
/// use r1seg_server::{Config, Served, Server};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let source = CheckpointSource::demo();
/// let model = load(&source, &LoadOptions::default())?;
/// let server = Server::new(Config::default(), vec![Served { model, source }])?;
/// let listener = server.listen().await?;
/// server.warm_up(&Default::default())?;
/// server.serve(listener, std::future::pending()).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    app: App,
    router: Router,
    /// OpenAPI, as JSON.
    description: String,
}

impl Server {
    /// Makes a server of loaded models, and starts the threads that work. It says it is ready only after
    /// [`warm_up`](Self::warm_up).
    ///
    /// # Errors
    /// [`Error::OpenWithoutKey`], [`Error::Models`], and [`Error::Storage`].
    pub fn new(config: Config, models: Vec<Served>) -> Result<Self, Error> {
        let app = State::start(config, models)?;
        let (router, document) = api::router(&app);
        let description = document.to_json().unwrap_or_default();
        Ok(Self { app, router, description })
    }

    /// All paths, for tests in the same process, and for programs that serve them with others.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// The description of the API, as JSON.
    pub fn openapi(&self) -> &str {
        &self.description
    }

    /// Opens the address of the configuration.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub async fn listen(&self) -> Result<TcpListener, Error> {
        let address = self.app.config.address;
        TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })
    }

    /// Runs each model once, on an empty volume, so that the first request does not wait for what
    /// happens once only. Then the server says that it is ready.
    ///
    /// # Errors
    /// What a model fails with.
    pub fn warm_up(&self, cancel: &CancelToken) -> Result<(), Error> {
        for entry in self.app.models.iter() {
            warm_up(&entry.model, cancel)?;
        }
        self.app.set_ready();
        Ok(())
    }

    /// Answers requests until `shutdown` is done; then takes no more, and finishes what runs within
    /// [`Limits::drain_timeout`](crate::Limits).
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        if let Ok(address) = listener.local_addr() {
            self.app.set_bound(address);
        }
        let sweeper = tokio::spawn(sweep(self.app.clone()));
        let connections = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.app.config.limits.max_connections));
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut shutdown => break,
            };
            let Ok((stream, remote)) = accepted else {
                tokio::time::sleep(BREATHER).await;
                continue;
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                self.app.metrics.reject("connections");
                continue;
            };
            let connection = self.connection(stream, remote);
            let connection = connections.watch(connection);
            let counted = Counted::new(&self.app.metrics.connections);
            tokio::spawn(async move {
                // What goes wrong with a connection concerns its client alone.
                let _ = connection.await;
                drop((place, counted));
            });
        }
        self.app.drain();
        drop(listener);
        tracing::info!(name: "draining", seconds = self.app.config.limits.drain_timeout.as_secs());
        let limit = self.app.config.limits.drain_timeout;
        let _ = tokio::time::timeout(limit, connections.shutdown()).await;
        sweeper.abort();
    }

    fn connection(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
    ) -> http1::Connection<TokioIo<Patient>, impl Service + use<>> {
        let local = stream.local_addr().unwrap_or(self.app.bound());
        let _ = stream.set_nodelay(true);
        let router = self.router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer { remote, local });
            let router = router.clone();
            async move { router.oneshot(request).await }
        });
        let limits = &self.app.config.limits;
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(Patient::new(stream, limits.idle_timeout)), service)
    }

    /// Ends the threads once they have done what waits. Blocks.
    pub fn stop(&self) {
        self.app.stop();
    }
}

/// What hyper wants of a service.
trait Service:
    hyper::service::Service<
        Request<Incoming>,
        Response = axum::response::Response,
        Error = Infallible,
        Future: Send,
    > + Send
{
}

impl<S> Service for S where
    S: hyper::service::Service<
            Request<Incoming>,
            Response = axum::response::Response,
            Error = Infallible,
            Future: Send,
        > + Send
{
}

impl Drop for Server {
    /// Lets the threads end, which hold the models.
    fn drop(&mut self) {
        self.app.desk.queue.close();
    }
}

async fn sweep(app: App) {
    let mut tick = tokio::time::interval(SWEEP);
    loop {
        tick.tick().await;
        let state = app.clone();
        if tokio::task::spawn_blocking(move || state.sweep()).await.is_err() {
            app.metrics.panics.inc();
        }
    }
}

fn warm_up(model: &Model, cancel: &CancelToken) -> Result<(), Error> {
    let shape = [16; 3];
    let voxels: Vec<f32> = (0_u16..16 * 16 * 16).map(|n| f32::from(n % 97) / 97.0).collect();
    let volume = Volume::new(voxels, Geometry::with_spacing(shape, [1.5; 3])?)?;
    let mut run = RunContext::from(cancel);
    let encoded = model.encode_with(&volume, &EncodeOptions::default(), &mut run)?;
    if encoded.answers_questions() {
        let options = AskOptions::default().with_max_new_tokens(2);
        encoded.ask_with("Can you segment the liver in this image?", &options, &mut run)?;
    }
    Ok(())
}
