//! `-v`: what the libraries are doing, and how long each stage takes.
//!
//! Only names of stages and numbers are printed. A span or an event may carry texts that come from a
//! question or a file; they are left out whatever they are.

use std::fmt::Write;
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use crate::exit::say;

/// What a server says of each request that it has answered. Its texts are the server's own.
const ACCESS: &str = "r1seg::access";

/// Reports stages on stderr: when they end with `-v`, also when they begin with `-vv`. `serves` reports
/// each request of a server as well.
pub(crate) fn install(verbosity: u8, serves: bool) {
    let level = match verbosity {
        0 if serves => LevelFilter::OFF,
        0 => return,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let stages = Stages { start: Instant::now(), level, serves };
    // Nobody else in this process has set one.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(stages));
}

struct Stages {
    start: Instant,
    level: LevelFilter,
    serves: bool,
}

/// What is known of a span while it is open.
struct Stage {
    begin: Instant,
    numbers: String,
}

impl Stages {
    fn report(&self, depth: usize, metadata: &Metadata<'_>, text: &str) {
        let (seconds, indent) = (self.start.elapsed().as_secs_f64(), 2 * depth);
        say!("r1seg: {seconds:8.3} s  {:indent$}{}{text}", "", metadata.name());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Stages {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        match metadata.target() {
            ACCESS => self.serves,
            target => target.starts_with("r1seg") && *metadata.level() <= self.level,
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(if self.serves { self.level.max(LevelFilter::INFO) } else { self.level })
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut numbers = Numbers::default();
        attributes.record(&mut numbers);
        if self.level >= LevelFilter::DEBUG {
            let depth = span.scope().skip(1).count();
            self.report(depth, span.metadata(), &format!(" ..{}", numbers.0));
        }
        let stage = Stage { begin: Instant::now(), numbers: numbers.0 };
        span.extensions_mut().insert(stage);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() == ACCESS {
            let mut request = Request::default();
            event.record(&mut request);
            say!("r1seg:{}", request.0);
            return;
        }
        let mut numbers = Numbers::default();
        event.record(&mut numbers);
        let depth = context.event_scope(event).into_iter().flatten().count();
        self.report(depth, event.metadata(), &numbers.0);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let extensions = span.extensions();
        let Some(Stage { begin, numbers }) = extensions.get() else { return };
        let (depth, seconds) = (span.scope().skip(1).count(), begin.elapsed().as_secs_f64());
        self.report(depth, span.metadata(), &format!(": {seconds:.3} s{numbers}"));
    }
}

/// Fields that are numbers, as ` name=1`.
#[derive(Default)]
struct Numbers(String);

impl Numbers {
    fn add(&mut self, field: &Field, number: impl std::fmt::Display) {
        // Writing to a string does not fail.
        let _ = write!(self.0, " {}={number}", field.name());
    }
}

impl Visit for Numbers {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, format_args!("{value:.3}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// Fields of a request, as ` route=/v1/models status=200`: its texts are known to be no client's.
#[derive(Default)]
struct Request(String);

impl Visit for Request {
    fn record_u64(&mut self, field: &Field, value: u64) {
        let _ = write!(self.0, " {}={value}", field.name());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {}={value}", field.name());
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
