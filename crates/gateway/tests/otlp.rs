//! What an OpenTelemetry collector gets from a running Mainstay (feature `otlp`), and what the server behind it is told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "a test that cannot go on must fail"
)]

#[path = "serve/support.rs"]
#[allow(dead_code, reason = "shared with another test binary")]
mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::{Value, json};

use support::{Client, modern, modern_headers, wait_until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ABOVE: &str = "b7ad6b7169203331";

type Got = Arc<Mutex<Vec<Value>>>;

/// A collector that keeps what it gets.
async fn collector() -> (String, Got, Got) {
    let (spans, metrics) = (Got::default(), Got::default());
    let keep = |State(got): State<Got>, body: axum::body::Bytes| async move {
        let told: Value = serde_json::from_slice(&body).unwrap();
        got.lock().unwrap().push(told);
        "{}"
    };
    let router = Router::new()
        .route("/v1/traces", post(keep).with_state(spans.clone()))
        .route("/v1/metrics", post(keep).with_state(metrics.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, spans, metrics)
}

/// All spans that came so far.
fn spans(got: &Got) -> Vec<Value> {
    let all = got.lock().unwrap().clone();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    all.iter()
        .flat_map(|told| list(told, "resourceSpans"))
        .flat_map(|resource| list(&resource, "scopeSpans"))
        .flat_map(|scope| list(&scope, "spans"))
        .collect()
}

fn attribute<'v>(span: &'v Value, key: &str) -> Option<&'v str> {
    let all = span["attributes"].as_array()?;
    let found = all.iter().find(|attribute| attribute["key"] == key)?;
    found["value"]["stringValue"].as_str()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_two_spans_of_its_clients_trace_and_its_server_is_told_of_the_lower_one() {
    let (collector, traced, measured) = collector().await;
    let server = HttpServer::start(Script::modern()).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("mcp.json");
    let entry = json!({ "mcpServers": { "one": { "url": server.url() } } });
    std::fs::write(&config, entry.to_string()).unwrap();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(&config)
        .env_clear()
        .env("HOME", home.path())
        .env("XDG_RUNTIME_DIR", home.path())
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "100")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let stdout = serve.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut first).unwrap();
    let address = first.split("http://").nth(1).unwrap();
    let address = address.split('/').next().unwrap().parse().unwrap();
    let mut client = Client::connect(address).await;

    let call = modern("1", "tools/call", r#""name":"one__echo","arguments":{},"#);
    let mut headers = modern_headers(&call);
    headers.push(("traceparent", format!("00-{TRACE}-{ABOVE}-01")));
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let answered = client.post("/mcp", &headers, call.clone()).await;
    assert!(answered.status.is_success(), "{answered:?}");
    // One that nobody traces begins a trace; one that its client does not record is not recorded.
    assert!(client.modern("/mcp", &call).await.status.is_success());
    let unrecorded = call.replace(
        "\"_meta\":{",
        &format!("\"_meta\":{{\"traceparent\":\"00-{TRACE}-{ABOVE}-00\","),
    );
    assert!(client.modern("/mcp", &unrecorded).await.status.is_success());
    wait_until("four spans", || spans(&traced).len() >= 4).await;
    wait_until("measurements", || {
        let text = format!("{:?}", measured.lock().unwrap());
        text.contains("mcp.server.operation.duration")
            && text.contains("mcp.client.operation.duration")
    })
    .await;

    let all = spans(&traced);
    let of_client: Vec<&Value> = all.iter().filter(|span| span["traceId"] == TRACE).collect();
    assert_eq!(of_client.len(), 2, "{all:?}");
    let upper = of_client.iter().find(|span| span["kind"] == 2).unwrap();
    let lower = of_client.iter().find(|span| span["kind"] == 3).unwrap();
    assert_eq!(upper["parentSpanId"], ABOVE);
    assert_eq!(lower["parentSpanId"], upper["spanId"]);
    assert_eq!(upper["name"], "tools/call echo");
    assert_eq!(attribute(lower, "gen_ai.tool.name"), Some("echo"));
    assert_eq!(attribute(lower, "mcp.method.name"), Some("tools/call"));
    assert_eq!(attribute(lower, "mainstay.server"), Some("one"));
    let told = &server.ledger().seen_of("tools/call")[0];
    let below = lower["spanId"].as_str().unwrap();
    assert_eq!(
        told.header("traceparent"),
        Some(&*format!("00-{TRACE}-{below}-01"))
    );

    let _ = Command::new("kill").arg(serve.id().to_string()).status();
    assert!(serve.wait().unwrap().success());
    assert_eq!(
        spans(&traced).len(),
        4,
        "what is not sampled is not exported"
    );
}
