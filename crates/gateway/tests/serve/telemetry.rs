//! What machines see: metrics, and traces that go on to servers.

use http::Method;
use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::{Value, json};

use super::support::{World, modern, modern_headers, stdio};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What a server saw of a trace: header and `_meta`, of the context and of what vendors carry along.
fn traced(server: &HttpServer) -> Vec<[Value; 4]> {
    let calls = server.ledger().seen_of("tools/call");
    calls
        .iter()
        .map(|call| {
            let body: Value = serde_json::from_str(&call.body).unwrap();
            let meta = &body["params"]["_meta"];
            let header = |name| call.header(name).map_or(Value::Null, Value::from);
            [
                header("traceparent"),
                meta["traceparent"].clone(),
                header("tracestate"),
                meta["tracestate"].clone(),
            ]
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_reaches_servers_of_both_eras_from_headers_and_from_meta() {
    for script in [Script::legacy(), Script::modern()] {
        let server = HttpServer::start(script).await.unwrap();
        let world = World::start([ServerConfig::http("one", server.url())]).await;
        let mut client = world.client().await;
        let plain = modern("1", "tools/call", r#""name":"one__echo","arguments":{},"#);
        let mut headers = modern_headers(&plain);
        headers.push(("traceparent", PARENT.to_owned()));
        headers.push(("tracestate", "a=1,b=2".to_owned()));
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        // In the headers alone, in `_meta` (which is nearer), malformed, and not at all.
        client.post("/mcp", &headers, plain.clone()).await;
        let own = PARENT.replace("b7ad", "c7ad");
        let said = plain.replace(
            "\"_meta\":{",
            &format!("\"_meta\":{{\"traceparent\":\"{own}\","),
        );
        client.post("/mcp", &headers, said).await;
        let broken = plain.replace("\"_meta\":{", "\"_meta\":{\"traceparent\":\"00-1\",");
        client.modern("/mcp", &broken).await;
        client.modern("/mcp", &plain).await;
        assert_eq!(
            traced(&server),
            [
                [
                    PARENT.into(),
                    PARENT.into(),
                    "a=1,b=2".into(),
                    "a=1,b=2".into()
                ],
                [
                    own.as_str().into(),
                    own.as_str().into(),
                    Value::Null,
                    Value::Null
                ],
                [Value::Null, "00-1".into(), Value::Null, Value::Null],
                [Value::Null, Value::Null, Value::Null, Value::Null],
            ]
        );
        let records = world.manager.recent_calls();
        let ids: Vec<_> = records
            .iter()
            .map(|record| record.trace_id.as_deref())
            .collect();
        let id = Some("0af7651916cd43dd8448eb211c80319c");
        assert_eq!(ids, [id, id, None, None]);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_calls_by_their_outcome() {
    let world = World::start([stdio("one", &[])]).await;
    let mut client = world.client().await;
    let call = modern("1", "tools/call", r#""name":"one__echo","arguments":{},"#);
    for _ in 0..3 {
        assert!(client.modern("/mcp", &call).await.status.is_success());
    }
    let scraped = client.send(Method::GET, "/metrics", &[], "").await;
    assert_eq!(
        scraped.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    for line in [
        "mainstay_server_calls_total{server=\"one\",outcome=\"answered\"} 3",
        "mainstay_server_state{server=\"one\",state=\"connected\"} 1",
        "mainstay_server_opens_total{server=\"one\"} 1",
    ] {
        let found = scraped.body.lines().any(|told| {
            told.strip_prefix(line)
                .is_some_and(|rest| rest.is_empty() || rest == ".0")
        });
        assert!(found, "{line} is not in {}", scraped.body);
    }
    // A page of another origin may not read it.
    let foreign = client
        .send(
            Method::GET,
            "/metrics",
            &[("origin", "https://evil.example")],
            "",
        )
        .await;
    assert_eq!(json!(foreign.status.as_u16()), 403);
    world.end().await;
}
