//! `/metrics` in the text format of OpenMetrics.
//!
//! One table per kind of subject says name, help, kind and where the value comes from; the answer to a scrape and
//! `docs/metrics.md` are both made from it. Labels are bounded: `server` takes the names of the config, every other label a
//! fixed set of words. No tool, client, argument or error text is ever a label.

use std::fmt;

use mainstay::{Counts, ServerStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::access::REASONS;
use crate::serve::Gateway;

/// What a scrape is told about the text that it gets.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether a value may fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Only grows, from 0 when Mainstay starts; its series ends in `_total`.
    Counter,
    /// Whatever it is now.
    Gauge,
}

impl Kind {
    fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
        }
    }
}

/// Takes one value, with the value of the second label where the metric has one.
type Say<'s> = &'s mut dyn FnMut(&'static str, f64) -> fmt::Result;

/// One metric about a subject.
struct Metric<T: 'static> {
    /// Without the prefix `mainstay_` and the suffix `_total`.
    name: &'static str,
    help: &'static str,
    kind: Kind,
    /// The second label, beside `server`, and all its values.
    label: Option<(&'static str, &'static [&'static str])>,
    read: fn(&T, Say<'_>) -> fmt::Result,
}

/// Mainstay itself at one moment.
struct Own {
    uptime_s: f64,
    sessions: usize,
    parked: usize,
    subscriptions: usize,
    version: u64,
    published: [usize; 4],
    servers: usize,
    denied: [u64; REASONS.len()],
    key_failures: u64,
    certificate_failures: u64,
}

impl Own {
    fn of(gateway: &Gateway) -> Self {
        let publication = gateway.manager().publication();
        Self {
            uptime_s: gateway.uptime().as_secs_f64(),
            sessions: gateway.session_count(),
            parked: gateway.parked_count(),
            subscriptions: gateway.subscription_count(),
            version: publication.version,
            published: [
                publication.tools.items.len(),
                publication.prompts.items.len(),
                publication.resources.items.len(),
                publication.templates.items.len(),
            ],
            servers: gateway.manager().servers().len(),
            denied: gateway.shared.access.counts().read(),
            key_failures: gateway.shared.access.key_failures(),
            certificate_failures: gateway.shared.access.counts().certificate_failures(),
        }
    }
}

const KINDS: &[&str] = &["tool", "prompt", "resource", "template"];
const ITEMS: &[&str] = &["tool", "prompt", "resource"];
const OUTCOMES: &[&str] = &["answered", "refused", "rejected", "unknown"];
const QUANTILES: &[&str] = &["0.5", "0.95"];
const ANSWERERS: &[&str] = &["tool", "server"];
const STATES: &[&str] = &[
    "disabled",
    "idle",
    "connecting",
    "connected",
    "draining",
    "backoff",
    "parked",
];

/// Counts are exact as long as they are below 2^53, which no count of ours reaches.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn number(count: u64) -> f64 {
    count as f64
}

fn size(count: usize) -> f64 {
    number(u64::try_from(count).unwrap_or(u64::MAX))
}

fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

const OWN: &[Metric<Own>] = &[
    Metric {
        name: "uptime_seconds",
        help: "How long Mainstay has been running",
        kind: Kind::Gauge,
        label: None,
        read: |own, say| say("", own.uptime_s),
    },
    Metric {
        name: "servers",
        help: "Servers that are configured",
        kind: Kind::Gauge,
        label: None,
        read: |own, say| say("", size(own.servers)),
    },
    Metric {
        name: "sessions",
        help: "Legacy sessions of clients",
        kind: Kind::Gauge,
        label: None,
        read: |own, say| say("", size(own.sessions)),
    },
    Metric {
        name: "calls_awaiting_input",
        help: "Calls that wait for input of their client between two of its requests",
        kind: Kind::Gauge,
        label: None,
        read: |own, say| say("", size(own.parked)),
    },
    Metric {
        name: "subscriptions",
        help: "Subscriptions of clients to resources",
        kind: Kind::Gauge,
        label: None,
        read: |own, say| say("", size(own.subscriptions)),
    },
    Metric {
        name: "publication_version",
        help: "The version of what clients see of all servers",
        kind: Kind::Gauge,
        label: None,
        read: |own, say| say("", number(own.version)),
    },
    Metric {
        name: "published_items",
        help: "Items that clients see at /mcp",
        kind: Kind::Gauge,
        label: Some(("kind", KINDS)),
        read: |own, say| {
            KINDS
                .iter()
                .zip(own.published)
                .try_for_each(|(kind, count)| say(kind, size(count)))
        },
    },
    Metric {
        name: "clients_denied",
        help: "Requests of clients that were turned away, by what was wrong with what said who sent them",
        kind: Kind::Counter,
        label: Some(("reason", &REASONS)),
        read: |own, say| {
            REASONS
                .iter()
                .zip(own.denied)
                .try_for_each(|(reason, count)| say(reason, number(count)))
        },
    },
    Metric {
        name: "issuer_keys_failures",
        help: "Times that the keys of an issuer of signed tokens could not be had",
        kind: Kind::Counter,
        label: None,
        read: |own, say| say("", number(own.key_failures)),
    },
    Metric {
        name: "certificate_failures",
        help: "Times that a new certificate of the port could not be used, so that the old one stayed",
        kind: Kind::Counter,
        label: None,
        read: |own, say| say("", number(own.certificate_failures)),
    },
];

/// A counter of a server that is read from [`Counts`].
macro_rules! counted {
    ($($name:literal, $help:literal => $field:ident;)*) => {
        &[$(Metric {
            name: $name,
            help: $help,
            kind: Kind::Counter,
            label: None,
            read: |counts: &Counts, say| say("", number(counts.$field)),
        }),*]
    };
}

const COUNTED: &[Metric<Counts>] = counted! {
    "server_opens", "Connections opened" => opens;
    "server_recoveries", "Connections that came back after a failure" => recoveries;
    "server_calls_resent", "Calls sent more than once because it was safe" => resent;
    "server_late_answers", "Answers that came after their caller had left, or twice" => late_answers;
    "server_noise", "Lines or events that were no MCP message" => noise;
    "server_malformed", "Messages that meant to be MCP and were malformed" => malformed;
    "server_oversized", "Messages over a size or depth limit" => oversized;
    "server_limits_exceeded", "Limits that were exceeded" => limits_exceeded;
    "server_requests_refused", "Requests of the server that were too many per second" => over_requests;
    "server_asks_refused", "Requests of the server for sampling or elicitation that it may not make" => asks_refused;
    "server_notices_lost", "Notices of ours that could not be sent" => notices_lost;
    "server_forced_kills", "Times that a process had to be killed" => forced_kills;
    "server_escapes", "Times that a process had left its process group" => escapes;
    "server_stale_messages", "Messages from generations that are no longer current" => stale;
    "server_tool_changes", "Calls that met a changed definition of their tool" => tool_changes;
    "server_cleanup_faults", "Faults raised while a connection was closed; never charged" => cleanup_faults;
};

const SERVER: &[Metric<ServerStatus>] = &[
    Metric {
        name: "server_state",
        help: "1 for the state that the server is in",
        kind: Kind::Gauge,
        label: Some(("state", STATES)),
        read: |status, say| {
            STATES
                .iter()
                .try_for_each(|state| say(state, truth(status.state == *state)))
        },
    },
    Metric {
        name: "server_up",
        help: "1 while the server is connected",
        kind: Kind::Gauge,
        label: None,
        read: |status, say| say("", truth(status.state == "connected")),
    },
    Metric {
        name: "server_state_seconds",
        help: "How long the server has been in its state",
        kind: Kind::Gauge,
        label: None,
        read: |status, say| say("", number(status.since_ms) / 1_000.0),
    },
    Metric {
        name: "server_generation",
        help: "The newest generation of the server's connection",
        kind: Kind::Gauge,
        label: None,
        read: |status, say| say("", number(status.generation)),
    },
    Metric {
        name: "server_charges",
        help: "Failures charged since the last proof of health",
        kind: Kind::Gauge,
        label: None,
        read: |status, say| say("", f64::from(status.charges)),
    },
    Metric {
        name: "server_items",
        help: "Items in the last good catalog",
        kind: Kind::Gauge,
        label: Some(("kind", ITEMS)),
        read: |status, say| {
            let counts = [status.tools, status.prompts, status.resources];
            ITEMS
                .iter()
                .zip(counts)
                .try_for_each(|(kind, count)| say(kind, size(count)))
        },
    },
    Metric {
        name: "server_hidden_items",
        help: "Items that the server listed and that are not shown",
        kind: Kind::Gauge,
        label: None,
        read: |status, say| say("", size(status.hidden)),
    },
    Metric {
        name: "server_catalog_age_seconds",
        help: "Age of the last good catalog",
        kind: Kind::Gauge,
        label: None,
        read: |status, say| {
            status
                .catalog_age_ms
                .map_or(Ok(()), |age| say("", number(age) / 1_000.0))
        },
    },
    Metric {
        name: "server_calls_in_flight",
        help: "Calls at the server",
        kind: Kind::Gauge,
        label: None,
        read: |status, say| say("", size(status.in_flight)),
    },
    Metric {
        name: "server_calls_waiting",
        help: "Calls that wait for the server",
        kind: Kind::Gauge,
        label: None,
        read: |status, say| say("", size(status.waiting)),
    },
    Metric {
        name: "server_connections",
        help: "Connections beside the shared one",
        kind: Kind::Gauge,
        label: None,
        read: |status, say| say("", size(status.connections.len())),
    },
    Metric {
        name: "server_restarts",
        help: "Connections that were opened after the first",
        kind: Kind::Counter,
        label: None,
        read: |status, say| say("", number(status.restarts)),
    },
    Metric {
        name: "server_call_seconds",
        help: "Time at the server of the calls of the last five minutes",
        kind: Kind::Gauge,
        label: Some(("quantile", QUANTILES)),
        read: |status, say| {
            say("0.5", seconds(status.calls.p50_us))?;
            say("0.95", seconds(status.calls.p95_us))
        },
    },
    Metric {
        name: "server_queue_seconds",
        help: "Time in the queue of the calls of the last five minutes",
        kind: Kind::Gauge,
        label: Some(("quantile", QUANTILES)),
        read: |status, say| {
            say("0.5", seconds(status.calls.p50_queue_us))?;
            say("0.95", seconds(status.calls.p95_queue_us))
        },
    },
    Metric {
        name: "server_request_bytes",
        help: "Bytes of requests, as callers sent them",
        kind: Kind::Counter,
        label: None,
        read: |status, say| say("", number(status.calls.bytes_in)),
    },
    Metric {
        name: "server_answer_bytes",
        help: "Bytes of answers",
        kind: Kind::Counter,
        label: None,
        read: |status, say| say("", number(status.calls.bytes_out)),
    },
    Metric {
        name: "server_answered_failures",
        help: "Calls that were answered with a failure, of the tool or of the server",
        kind: Kind::Counter,
        label: Some(("by", ANSWERERS)),
        read: |status, say| {
            say("tool", number(status.failures.tool_error))?;
            say("server", number(status.failures.server_error))
        },
    },
    Metric {
        name: "server_pending_tools",
        help: "Tools that are held back until somebody approves them",
        kind: Kind::Gauge,
        label: None,
        read: |status, say| say("", size(status.pending_tools)),
    },
    Metric {
        name: "server_process_resident_bytes",
        help: "Memory of the server's processes (Linux)",
        kind: Kind::Gauge,
        label: None,
        read: |status, say| {
            let process = status.process.as_ref();
            process.map_or(Ok(()), |process| say("", number(process.rss_bytes)))
        },
    },
    Metric {
        name: "server_calls",
        help: "Calls by their outcome",
        kind: Kind::Counter,
        label: Some(("outcome", OUTCOMES)),
        read: |status, say| {
            let counts = &status.counts;
            say("answered", number(counts.answered))?;
            say("refused", number(counts.refused))?;
            say("rejected", number(counts.rejected))?;
            say("unknown", number(counts.unknown))
        },
    },
];

/// All metrics of a gateway as text. Reads counters and statuses once; the cost grows with the number of servers.
pub(crate) fn render(gateway: &Gateway) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("mainstay");
    registry.register_collector(Box::new(Snapshot {
        own: Own::of(gateway),
        servers: gateway.manager().full_status(),
    }));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// Everything that one answer is made from.
struct Snapshot {
    own: Own,
    servers: Vec<ServerStatus>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        let mut info =
            encoder.encode_descriptor("build", "The running version", None, MetricType::Gauge)?;
        let family = info.encode_family(&build)?;
        value(family, Kind::Gauge, 1.0)?;
        for metric in OWN {
            metric.encode(&mut encoder, &[("", &self.own)])?;
        }
        let servers: Vec<_> = self
            .servers
            .iter()
            .map(|status| (status.name.as_str(), status))
            .collect();
        for metric in SERVER {
            metric.encode(&mut encoder, &servers)?;
        }
        let counts: Vec<_> = self
            .servers
            .iter()
            .map(|status| (status.name.as_str(), &status.counts))
            .collect();
        for metric in COUNTED {
            metric.encode(&mut encoder, &counts)?;
        }
        Ok(())
    }
}

impl<T> Metric<T> {
    /// Writes the metric with its values for all subjects; the name of a subject is its `server`, if it has one.
    fn encode(&self, encoder: &mut DescriptorEncoder, subjects: &[(&str, &T)]) -> fmt::Result {
        let mut family =
            encoder.encode_descriptor(self.name, self.help, None, self.kind.metric_type())?;
        for (server, subject) in subjects {
            let mut say = |word: &'static str, read: f64| {
                let server = (!server.is_empty()).then_some(("server", *server));
                let second = self.label.map(|(label, _)| (label, word));
                let labels: Vec<(&str, &str)> = server.into_iter().chain(second).collect();
                if labels.is_empty() {
                    return bare(&mut family, self.kind, read);
                }
                value(family.encode_family(&labels.as_slice())?, self.kind, read)
            };
            (self.read)(subject, &mut say)?;
        }
        Ok(())
    }
}

fn bare(encoder: &mut MetricEncoder<'_>, kind: Kind, read: f64) -> fmt::Result {
    match kind {
        Kind::Counter => {
            encoder.encode_counter::<prometheus_client::encoding::NoLabelSet, f64, f64>(&read, None)
        }
        Kind::Gauge => encoder.encode_gauge(&read),
    }
}

fn value(encoder: MetricEncoder<'_>, kind: Kind, read: f64) -> fmt::Result {
    match kind {
        Kind::Counter => ConstCounter::new(read).encode(encoder),
        Kind::Gauge => ConstGauge::new(read).encode(encoder),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;

    use mainstay::Manager;
    use mainstay::config::{Config, ServerConfig};

    use super::*;
    use crate::GatewaySettings;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");

    /// Every metric as (name of its series, kind, labels, help).
    fn all() -> Vec<(String, Kind, String, &'static str)> {
        fn rows<T>(
            metrics: &'static [Metric<T>],
            own: bool,
        ) -> impl Iterator<Item = (String, Kind, String, &'static str)> {
            metrics.iter().map(move |metric| {
                let server = (!own).then(|| "`server`".to_owned());
                let second = metric.label.map(|(label, values)| {
                    let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
                    format!("`{label}`: {}", values.join(", "))
                });
                let labels: Vec<_> = server.into_iter().chain(second).collect();
                let suffix = if metric.kind == Kind::Counter {
                    "_total"
                } else {
                    ""
                };
                (
                    format!("mainstay_{}{suffix}", metric.name),
                    metric.kind,
                    labels.join("; "),
                    metric.help,
                )
            })
        }
        rows(OWN, true)
            .chain(rows(SERVER, false))
            .chain(rows(COUNTED, false))
            .collect()
    }

    fn page() -> String {
        let mut page = String::from(
            "# Metrics\n\nWhat `GET /metrics` of a running Mainstay tells Prometheus, in the text format of OpenMetrics. \
             `server` takes the names\nof the config; every other label takes the words that are listed here. No tool, client \
             or argument is ever a label.\n\nThis page is generated from `crates/gateway/src/telemetry/metrics.rs`; \
             `UPDATE_DOCS=1 cargo test -p mainstay-gateway --lib metrics`\nwrites it anew.\n\n\
             | series | kind | labels | what |\n|---|---|---|---|\n\
             | `mainstay_build` | gauge | `version` | 1, with the running version |\n",
        );
        for (name, kind, labels, help) in all() {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let written = writeln!(page, "| `{name}` | {kind} | {labels} | {help} |");
            assert!(written.is_ok());
        }
        page
    }

    #[test]
    fn the_page_of_the_metrics_is_current() {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PAGE, page()).expect("docs can be written");
        }
        let kept = std::fs::read_to_string(PAGE).unwrap_or_default();
        assert!(
            kept == page(),
            "docs/metrics.md is stale; it says how to write it anew"
        );
    }

    #[tokio::test]
    async fn a_scrape_has_every_metric_with_its_labels_and_no_others() {
        let mut quiet = ServerConfig::stdio("quiet \"one\"", "never-started");
        quiet.enabled = false;
        let manager = Manager::builder()
            .config(Config::from_servers([quiet]))
            .start()
            .await
            .expect("starts");
        let gateway = Gateway::new(manager.clone(), GatewaySettings::default());
        let text = render(&gateway).expect("renders");
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert!(
            text.contains(
                "mainstay_server_state{server=\"quiet \\\"one\\\"\",state=\"disabled\"} 1"
            ),
            "{text}"
        );
        let series: BTreeSet<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(['{', ' ']).next())
            .collect();
        // The age of a catalog that there never was is not told, nor the memory of a process that is not there.
        let told: BTreeSet<String> = all()
            .into_iter()
            .map(|(name, ..)| name)
            .filter(|name| {
                !name.ends_with("catalog_age_seconds") && !name.ends_with("resident_bytes")
            })
            .chain(["mainstay_build".to_owned()])
            .collect();
        assert_eq!(series, told.iter().map(String::as_str).collect());
        manager.shutdown().await;
    }
}
