//! Traces and metrics for an OpenTelemetry collector (feature `otlp`), after the semantic conventions for MCP.
//!
//! Everything is made from the records of calls, after they have ended: a call pays for two random numbers and a look at a
//! flag. Where to, and how, is what the usual variables say (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS`,
//! `OTEL_EXPORTER_OTLP_PROTOCOL`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*`, `OTEL_SDK_DISABLED`); without an
//! endpoint nothing is exported. A collector that is away costs spans, never calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay::{CallRecord, Manager, Origin, Outcome, TraceContext};
use opentelemetry::metrics::{Histogram, MeterProvider as _};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// Variables that name a collector.
const ENDPOINTS: [&str; 3] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
];

/// What the conventions recommend for durations of MCP operations, in seconds.
const BOUNDARIES: [f64; 14] = [
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];

/// How long the end waits for what is still to be sent.
const LAST: Duration = Duration::from_secs(3);

static ON: AtomicBool = AtomicBool::new(false);

/// Spans of a call have ids before it begins, because its server is told of them.
pub(crate) fn span(origin: &mut Origin) {
    if !ON.load(Ordering::Relaxed) {
        return;
    }
    let mut random = [0_u8; 32];
    if getrandom::fill(&mut random).is_err() {
        // No trace is better than one whose ids collide.
        return;
    }
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let (trace, own, onward) = (hex(&random[..16]), hex(&random[16..24]), hex(&random[24..]));
    let above = match &origin.trace {
        Some(above) => Some(above.clone()),
        None => TraceContext::begin(&trace, &own),
    };
    // Whoever began the trace decided whether it is recorded.
    let sampled = above.as_ref().is_some_and(TraceContext::is_sampled);
    origin.onward = above.and_then(|above| above.child(&onward, sampled));
    origin.span = Some(own.into());
}

/// A running export.
#[derive(Debug)]
pub struct Exporting {
    task: JoinHandle<()>,
    spans: Arc<BatchSpanProcessor>,
    metrics: SdkMeterProvider,
}

impl Exporting {
    /// Sends what is left, which takes a few seconds at most, and ends. Blocks, so not for a task.
    pub fn end(self) {
        self.task.abort();
        ON.store(false, Ordering::Relaxed);
        for ended in [
            self.spans.shutdown_with_timeout(LAST),
            self.metrics.shutdown_with_timeout(LAST),
        ] {
            if let Err(error) = ended {
                tracing::warn!(%error, "the last spans or metrics were not exported");
            }
        }
    }
}

/// Begins to export what the manager's callers do, if the environment names a collector.
///
/// # Errors
/// What the environment says makes no sense to the exporters.
pub fn start(
    manager: &Manager,
) -> Result<Option<Exporting>, Box<dyn std::error::Error + Send + Sync>> {
    let is_set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    let off = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value == "true");
    if off || !ENDPOINTS.into_iter().any(is_set) {
        return Ok(None);
    }
    // The exporters' client takes the process's provider; a second one changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut resource = Resource::builder();
    if !is_set("OTEL_SERVICE_NAME") {
        resource = resource.with_service_name("mainstay");
    }
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = resource.with_attribute(version).build();
    // Their client has a thread of its own, which may not be made inside of the runtime.
    let (spans, metrics) = std::thread::spawn(|| {
        let spans = SpanExporter::builder().with_http().build()?;
        let metrics = MetricExporter::builder().with_http().build()?;
        Ok::<_, opentelemetry_otlp::ExporterBuildError>((spans, metrics))
    })
    .join()
    .map_err(|_panic| "the exporters could not be made")??;
    let mut spans = BatchSpanProcessor::builder(spans).build();
    spans.set_resource(&resource);
    let spans = Arc::new(spans);
    let metrics = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_periodic_exporter(metrics)
        .build();
    let durations = Durations::new(&metrics);
    let task = tokio::spawn(export(manager.calls(), Arc::clone(&spans), durations));
    ON.store(true, Ordering::Relaxed);
    Ok(Some(Exporting {
        task,
        spans,
        metrics,
    }))
}

/// Turns records into spans and measurements until there are no more.
async fn export(
    mut calls: broadcast::Receiver<Arc<CallRecord>>,
    spans: Arc<BatchSpanProcessor>,
    durations: Durations,
) {
    loop {
        match calls.recv().await {
            Ok(record) => {
                durations.record(&record);
                for span in spans_of(&record) {
                    // Its queue is bounded, and what does not fit is dropped and counted there.
                    spans.on_end(span);
                }
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "calls came faster than they could be exported");
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// The instruments.
struct Durations {
    /// As the client of Mainstay sees it.
    server: Histogram<f64>,
    /// As Mainstay, the client of the server, sees it.
    client: Histogram<f64>,
}

impl Durations {
    fn new(provider: &SdkMeterProvider) -> Self {
        let meter = provider.meter("mainstay");
        let histogram = |name: &'static str, about: &'static str| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(about)
                .with_boundaries(BOUNDARIES.to_vec())
                .build()
        };
        Self {
            server: histogram(
                "mcp.server.operation.duration",
                "From a client's request to its answer, as Mainstay serves it",
            ),
            client: histogram(
                "mcp.client.operation.duration",
                "Time at the server that Mainstay passed the request to",
            ),
        }
    }

    fn record(&self, record: &CallRecord) {
        let attributes = attributes(record);
        let total = record.queued_us + record.served_us;
        self.server.record(seconds(total), &attributes);
        if record.attempts > 0 {
            self.client.record(seconds(record.served_us), &attributes);
        }
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

/// What both spans and measurements say of a call. Nothing here is free text of a server or client but names of tools.
fn attributes(record: &CallRecord) -> Vec<KeyValue> {
    let mut all = vec![
        KeyValue::new("mcp.method.name", record.method.to_string()),
        KeyValue::new("mainstay.server", record.server.to_string()),
        KeyValue::new("mainstay.outcome", record.outcome.word()),
    ];
    if let Some(tool) = &record.tool {
        let key = if record.method == "prompts/get" {
            "gen_ai.prompt.name"
        } else {
            "gen_ai.tool.name"
        };
        all.push(KeyValue::new(key, tool.to_string()));
    }
    if record.method == "tools/call" {
        all.push(KeyValue::new("gen_ai.operation.name", "execute_tool"));
    }
    if let Some(cause) = record.cause {
        // The conventions have a word of their own for a tool that failed.
        let word = if record.outcome == Outcome::ToolError {
            "tool_error"
        } else {
            cause
        };
        all.push(KeyValue::new("error.type", word));
    }
    all
}

/// One of the two spans of a call.
struct Part {
    kind: SpanKind,
    id: SpanId,
    parent: Option<SpanId>,
    is_remote: bool,
    begin: SystemTime,
    /// What the other span does not say.
    more: Vec<KeyValue>,
}

impl Part {
    fn of(self, record: &CallRecord, trace: TraceId, end: SystemTime) -> SpanData {
        let mut attributes = attributes(record);
        attributes.extend(self.more);
        let flags = TraceFlags::SAMPLED;
        SpanData {
            span_context: SpanContext::new(trace, self.id, flags, false, TraceState::default()),
            parent_span_id: self.parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: self.is_remote,
            span_kind: self.kind,
            name: name(record).into(),
            start_time: self.begin,
            end_time: end,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: status(record),
            instrumentation_scope: InstrumentationScope::builder("mainstay")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

/// The span of what Mainstay did for its client, and the one of what the server did for Mainstay.
fn spans_of(record: &CallRecord) -> Vec<SpanData> {
    let Some(origin) = record.origin.as_deref() else {
        return Vec::new();
    };
    let (Some(onward), Some(own)) = (&origin.onward, &origin.span) else {
        return Vec::new();
    };
    if !onward.is_sampled() {
        return Vec::new();
    }
    let (Ok(trace), Ok(own), Ok(below)) = (
        TraceId::from_hex(onward.trace_id()),
        SpanId::from_hex(own),
        SpanId::from_hex(onward.parent_id()),
    ) else {
        return Vec::new();
    };
    let above = origin.trace.as_ref();
    let above = above.and_then(|above| SpanId::from_hex(above.parent_id()).ok());
    let end = UNIX_EPOCH + Duration::from_millis(record.at_unix_ms);
    let served = end - Duration::from_micros(record.served_us);
    let begin = served - Duration::from_micros(record.queued_us);
    let mut client = vec![KeyValue::new(
        "mainstay.endpoint",
        record.endpoint.to_string(),
    )];
    if let Some(name) = &record.client {
        client.push(KeyValue::new("mainstay.client", name.to_string()));
    }
    let part = |part: Part| part.of(record, trace, end);
    let mut spans = vec![part(Part {
        kind: SpanKind::Server,
        id: own,
        parent: above,
        is_remote: above.is_some(),
        begin,
        more: client,
    })];
    if record.attempts > 0 {
        let attempts = KeyValue::new("mainstay.attempts", i64::from(record.attempts));
        spans.push(part(Part {
            kind: SpanKind::Client,
            id: below,
            parent: Some(own),
            is_remote: false,
            begin: served,
            more: vec![attempts],
        }));
    }
    spans
}

/// `{method} {target}`, as the conventions have it.
fn name(record: &CallRecord) -> String {
    match &record.tool {
        Some(tool) => format!("{} {tool}", record.method),
        None => record.method.to_string(),
    }
}

fn status(record: &CallRecord) -> Status {
    match record.outcome {
        Outcome::Answered | Outcome::Cancelled => Status::Unset,
        Outcome::ToolError
        | Outcome::ServerError
        | Outcome::Refused
        | Outcome::Rejected
        | Outcome::Unknown => Status::error(record.cause.unwrap_or(record.outcome.word())),
    }
}
