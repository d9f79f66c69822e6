//! What the server counts, for Prometheus. No label names a client, a volume or a file.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Of what [`Metrics::encode`] writes.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    /// The template, such as `/v1/volumes/{id}`.
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// All counters, each with a handle for whatever counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    stages: Family<StageLabels, Histogram, fn() -> Histogram>,
    rejected: Family<ReasonLabels, Counter>,
    /// Requests that wait for a model.
    pub(crate) queued: Gauge,
    /// Requests that a model works on.
    pub(crate) active: Gauge,
    /// Requests of any kind that are not answered yet.
    pub(crate) in_flight: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) volumes: Gauge,
    pub(crate) results: Gauge,
    /// Of viewers.
    pub(crate) sessions: Gauge,
    pub(crate) stored_bytes: Gauge,
    pub(crate) memory_bytes: Gauge,
    pub(crate) cache_bytes: Gauge,
    pub(crate) cache_hits: Counter,
    pub(crate) cache_misses: Counter,
    /// Passes of a model over prompts, each of one request or several.
    pub(crate) passes: Counter,
    /// Requests that were answered in a pass of another.
    pub(crate) shared: Counter,
    /// Requests whose client left before they were done.
    pub(crate) cancelled: Counter,
    pub(crate) panics: Counter,
    pub(crate) uploads: Counter,
    pub(crate) upload_bytes: Counter,
    pub(crate) tokens: Counter,
    pub(crate) seconds: Counter<f64, AtomicU64>,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.5, 12))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("r1seg");
        let requests = Family::default();
        registry.register("requests", "Requests by route and status", requests.clone());
        let stages = Family::new_with_constructor(seconds as fn() -> Histogram);
        let about = "How long each stage of a request took";
        registry.register_with_unit("stage", about, Unit::Seconds, stages.clone());
        let rejected = Family::default();
        let about = "Requests that were turned away, by reason";
        registry.register("rejected", about, rejected.clone());
        let mut gauge = |name: &str, about: &str| {
            let gauge = Gauge::default();
            registry.register(name, about, gauge.clone());
            gauge
        };
        let queued = gauge("queue_depth", "Requests that wait for a model");
        let active = gauge("active", "Requests that a model works on");
        let in_flight = gauge("in_flight", "Requests that are not answered yet");
        let connections = gauge("connections", "Open connections");
        let volumes = gauge("volumes", "Volumes that are kept");
        let results = gauge("results", "Results that are kept");
        let sessions = gauge("sessions", "Sessions of viewers that are open");
        let stored_bytes = gauge("stored_bytes", "Bytes of uploads and results on the disk");
        let memory_bytes = gauge("memory_bytes", "Bytes of the voxels of volumes");
        let cache_bytes = gauge("cache_bytes", "Bytes of encoded volumes, as an estimate");
        let mut counter = |name: &str, about: &str| {
            let counter = Counter::default();
            registry.register(name, about, counter.clone());
            counter
        };
        let cache_hits = counter("cache_hits", "Volumes that were encoded already");
        let cache_misses = counter("cache_misses", "Volumes that had to be encoded");
        let passes = counter("passes", "Passes of a model over prompts");
        let shared = counter("shared", "Requests answered in a pass of another");
        let cancelled = counter("cancelled", "Requests whose client left");
        let panics = counter("panics", "Faults that ended a request");
        let uploads = counter("uploads", "Volumes that were uploaded");
        let upload_bytes = counter("upload_bytes", "Bytes that were uploaded");
        let tokens = counter("tokens", "Tokens that were generated");
        let seconds = Counter::default();
        registry.register("busy_seconds", "Seconds that models computed", seconds.clone());
        Self {
            registry,
            requests,
            stages,
            rejected,
            queued,
            active,
            in_flight,
            connections,
            volumes,
            results,
            sessions,
            stored_bytes,
            memory_bytes,
            cache_bytes,
            cache_hits,
            cache_misses,
            passes,
            shared,
            cancelled,
            panics,
            uploads,
            upload_bytes,
            tokens,
            seconds,
        }
    }
}

impl Metrics {
    pub(crate) fn request(&self, route: &str, method: &'static str, status: u16) {
        let labels = RequestLabels { route: route.to_string(), method, status };
        self.requests.get_or_create(&labels).inc();
    }

    pub(crate) fn stage(&self, stage: &'static str, took: Duration) {
        self.stages.get_or_create(&StageLabels { stage }).observe(took.as_secs_f64());
    }

    pub(crate) fn reject(&self, reason: &'static str) {
        self.rejected.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// How long a pass of a model takes on average, in seconds.
    pub(crate) fn mean_seconds(&self) -> f64 {
        match self.passes.get() {
            0 => 1.0,
            passes => self.seconds.get() / passes as f64,
        }
    }

    /// All of them as text.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Counts one up in a gauge for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
