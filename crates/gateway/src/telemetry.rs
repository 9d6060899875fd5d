//! What machines see of Mainstay: `/metrics` for Prometheus, and, with the feature `otlp`, traces and metrics for an
//! OpenTelemetry collector.
//!
//! Everything is read from the same records and counters that people see. Must not hold anything up: a scrape reads, an
//! exporter listens, and neither is waited for by a call.

pub(crate) mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
