//! Servers of 2026-07-28 over HTTP: no session to lose, and other things that change under a client.

use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{DiscoverDialect, Eras, Fault, HttpServer, Planned, Script};
use serde_json::{Value, json};

use super::harness::*;
use super::http::{connect, script};

/// A tool whose one argument is wanted as a header.
fn annotated(header: &str) -> Value {
    json!({
        "name": "query",
        "inputSchema": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": header}}},
    })
}

#[tokio::test]
async fn f136_arguments_travel_as_headers_and_an_old_schema_costs_one_listing_and_one_retry() {
    let fake = HttpServer::start(Script {
        raw_tools: vec![annotated("Region")],
        ..script(Eras::Modern)
    })
    .await
    .unwrap();
    let (manager, server) = connect(&fake).await;
    let region = json!({"region": "日本"});
    call(&server, "query", region.clone()).await.unwrap();
    let seen = fake.ledger().seen_of("tools/call").remove(0);
    assert_eq!(seen.header("mcp-param-region"), Some("=?base64?5pel5pys?="));
    call(&server, "query", json!({})).await.unwrap();
    // The annotation changes, and nobody tells.
    fake.change(|script| script.raw_tools = vec![annotated("Zone")]);
    let lists = fake.ledger().counts().lists;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (server, region) = (server.clone(), region.clone());
            tokio::spawn(async move { call(&server, "query", region).await })
        })
        .collect();
    for ended in calls {
        let answer = within("a call", ended).await.unwrap().unwrap();
        assert_eq!(text(&answer), "query");
        assert_eq!(answer.attempts, 2);
    }
    let counts = fake.ledger().counts();
    assert_eq!(counts.calls["query"], 10, "refused calls did not run");
    assert!(
        counts.lists - lists <= 2 * 4,
        "one listing for all of them, or two"
    );
    // Where it does not help, the second refusal is the answer.
    fake.change(|script| {
        script.plan.push_back(Planned {
            method: Some("tools/call".into()),
            times: 9,
            fault: Fault::Status {
                status: 400,
                headers: Vec::new(),
                body: r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32020,"message":"Header mismatch"}}"#.into(),
            },
        });
    });
    let posts = fake.ledger().seen_of("tools/call").len();
    let answer = call(&server, "query", region).await.unwrap();
    assert!(answer.error().unwrap().contains("-32020"));
    assert_eq!(fake.ledger().seen_of("tools/call").len() - posts, 2);
    assert_eq!(server.status().generation, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_24_f137_a_tool_with_an_illegal_annotation_is_hidden_with_its_reason() {
    let bad = json!({
        "name": "bad",
        "inputSchema": {"type": "object", "properties": {"n": {"type": "number", "x-mcp-header": "N"}}},
    });
    for (eras, hidden) in [(Eras::Modern, true), (Eras::Legacy, false)] {
        let fake = HttpServer::start(Script {
            raw_tools: vec![bad.clone(), annotated("Region")],
            ..script(eras)
        })
        .await
        .unwrap();
        let (manager, server) = connect(&fake).await;
        let catalog = server.catalog().unwrap();
        assert_eq!(catalog.tools.find("bad").is_none(), hidden, "{eras:?}");
        assert!(catalog.tools.find("query").is_some());
        assert_eq!(server.status().hidden, usize::from(hidden));
        if hidden {
            assert_eq!(catalog.hidden[0].name, "bad");
            assert!(catalog.hidden[0].reason.contains("x-mcp-header"));
        }
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f37_a_refusal_that_names_our_own_version_is_asked_once_more() {
    let refusal = Fault::Status {
        status: 400,
        headers: vec![("content-type".into(), "application/json".into())],
        body: r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2026-07-28"],"requested":"2026-07-28"}}}"#.into(),
    };
    let fake = HttpServer::start(script(Eras::Modern).plan("server/discover", refusal))
        .await
        .unwrap();
    let (manager, server) = connect(&fake).await;
    assert_eq!(server.status().protocol, Some("2026-07-28"));
    let counts = fake.ledger().counts();
    assert_eq!(
        counts.initializes, 0,
        "nothing without a version was ever sent"
    );
    assert_eq!(server.status().generation, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn f138_a_version_dropped_in_mid_life_is_renegotiated_without_a_failed_call_or_a_charge() {
    type Change = fn(&mut Script);
    let drops: [(&str, Change); 3] = [
        ("downgraded to the legacy era", |script| {
            script.eras = Eras::Legacy;
        }),
        ("-32022", |script| script.modern_versions = Vec::new()),
        ("legacy, and says method not found", |script| {
            script.eras = Eras::Legacy;
            script.discover = DiscoverDialect::BadRequest;
        }),
    ];
    for (what, change) in drops {
        let fake = HttpServer::start(script(Eras::Dual)).await.unwrap();
        let (manager, server) = connect(&fake).await;
        assert_eq!(server.status().protocol, Some("2026-07-28"));
        call(&server, "echo", json!({"text": "x"})).await.unwrap();
        fake.change(change);
        let calls: Vec<_> = (0..16)
            .map(|number| {
                let server = server.clone();
                tokio::spawn(async move {
                    call(&server, "add_marker", json!({"marker": number.to_string()})).await
                })
            })
            .collect();
        for ended in calls {
            within("a call", ended)
                .await
                .unwrap()
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        let status = generation(&server, 2).await;
        assert_eq!(status.protocol, Some("2025-11-25"), "{what}");
        assert_eq!((status.generation, status.charges), (2, 0), "{what}");
        let counts = fake.ledger().counts();
        assert_eq!(counts.initializes, 1, "{what}: one greeting for 16 calls");
        assert!(counts.markers.len() == 16 && counts.markers.values().all(|runs| *runs == 1));
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f138_a_legacy_server_that_becomes_modern_is_followed() {
    let fake = HttpServer::start(script(Eras::Legacy)).await.unwrap();
    let (manager, server) = connect(&fake).await;
    call(&server, "echo", json!({"text": "x"})).await.unwrap();
    fake.change(|script| script.eras = Eras::Modern);
    let answer = call(&server, "add_marker", json!({"marker": "m"}))
        .await
        .unwrap();
    assert_eq!(text(&answer), "m");
    assert_eq!(server.status().protocol, Some("2026-07-28"));
    assert_eq!(fake.ledger().counts().markers["m"], 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn f32_a_catalog_that_never_comes_after_a_modern_greeting_is_tried_in_the_legacy_era() {
    let mut script = script(Eras::Dual);
    script.then("tools/list", Fault::NeverAnswer);
    let fake = HttpServer::start(script).await.unwrap();
    let mut config = quick(ServerConfig::http("h", fake.url().as_str()));
    config.timeouts.list_ms = 300;
    let manager = start([config]).await;
    let server = manager.server("h").unwrap();
    let status = generation(&server, 2).await;
    assert_eq!(status.protocol, Some("2025-11-25"));
    // And remembered.
    within("restart", server.restart()).await.unwrap();
    assert_eq!(generation(&server, 3).await.protocol, Some("2025-11-25"));
    assert_eq!(fake.ledger().counts().discovers, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn f33_only_the_first_start_pays_for_the_probe_also_after_an_outage() {
    let mut fake = HttpServer::start(Script {
        discover: DiscoverDialect::Silent,
        ..script(Eras::Legacy)
    })
    .await
    .unwrap();
    let (manager, server) = connect(&fake).await;
    call(&server, "echo", json!({"text": "x"})).await.unwrap();
    fake.stop().await;
    within("the outage to be noticed", async {
        while server.status().state == "connected" {
            let _ = server.call("echo", Some(&json!({"text": "x"}))).await;
        }
    })
    .await;
    fake.start_again().await.unwrap();
    within("restart", server.restart()).await.unwrap();
    generation(&server, 2).await;
    assert_eq!(fake.ledger().counts().discovers, 1);
    manager.shutdown().await;
}
