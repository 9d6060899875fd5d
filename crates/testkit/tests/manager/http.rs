//! Servers over HTTP: sessions lost, servers redeployed, planned replacements.

use mainstay::ServerHandle;
use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{Eras, Fault, HttpServer, Planned, Script};
use serde_json::json;

use super::harness::*;

pub(crate) fn script(eras: Eras) -> Script {
    Script {
        eras,
        ..Script::default()
    }
}

pub(crate) async fn connect(fake: &HttpServer) -> (mainstay::Manager, ServerHandle) {
    let manager = start([quick(ServerConfig::http("h", fake.url().as_str()))]).await;
    let server = manager.server("h").unwrap();
    generation(&server, 1).await;
    (manager, server)
}

#[tokio::test]
async fn f85_a_redeployed_server_costs_no_call() {
    for eras in [Eras::Legacy, Eras::Modern] {
        let mut fake = HttpServer::start(script(eras)).await.unwrap();
        let (manager, server) = connect(&fake).await;
        call(&server, "echo", json!({"text": "before"}))
            .await
            .unwrap();
        fake.stop().await;
        let waiting = tokio::spawn({
            let server = server.clone();
            async move { call(&server, "echo", json!({"text": "during"})).await }
        });
        within(
            "the outage to be noticed",
            server.wait_until(|status| status.state != "connected"),
        )
        .await;
        fake.start_again().await.unwrap();
        let answer = within("the call", waiting)
            .await
            .unwrap()
            .unwrap_or_else(|error| panic!("{eras:?}: {error}"));
        assert_eq!(text(&answer), "during");
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn law_2_a_planned_restart_overlaps_and_loses_no_call() {
    let fake = HttpServer::start(script(Eras::Legacy)).await.unwrap();
    let (manager, server) = connect(&fake).await;
    let calling = tokio::spawn({
        let server = server.clone();
        async move {
            let mut answered = 0;
            while server.status().generation < 4 {
                call(&server, "echo", json!({"text": "on"})).await.unwrap();
                answered += 1;
            }
            answered
        }
    });
    for target in 2..=4 {
        within("restart", server.restart()).await.unwrap();
        generation(&server, target).await;
    }
    assert!(within("the caller", calling).await.unwrap() > 0);
    manager.shutdown().await;
    assert_eq!(
        fake.sessions(),
        0,
        "F112: every session that was opened was deleted"
    );
}

#[tokio::test]
async fn f95_a_wrong_address_is_no_session_problem_and_the_words_say_so() {
    let fake = HttpServer::start(script(Eras::Legacy)).await.unwrap();
    let wrong = fake.url().replace("/mcp", "/nowhere");
    let manager = start([quick(ServerConfig::http("h", wrong.as_str()))]).await;
    let status = state(&manager.server("h").unwrap(), "parked").await;
    let failure = status.last_failure.unwrap();
    assert!(
        matches!(failure.kind, "not-mcp" | "http-status"),
        "{failure:?}"
    );
    manager.shutdown().await;
}

/// A page of a listing, as the fake server is to answer it.
fn page(times: u64, result: &str) -> Planned {
    Planned {
        method: Some("tools/list".to_owned()),
        times,
        fault: Fault::Status {
            status: 200,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: format!("{{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{result}}}"),
        },
    }
}

fn tool(name: &str) -> String {
    format!("{{\"name\":\"{name}\",\"inputSchema\":{{\"type\":\"object\"}}}}")
}

#[tokio::test]
async fn f165_all_pages_are_listed_and_an_empty_cursor_is_a_cursor() {
    let mut script = script(Eras::Legacy);
    script.plan.push_back(page(
        1,
        &format!("{{\"tools\":[{}],\"nextCursor\":\"\"}}", tool("one")),
    ));
    script.plan.push_back(page(
        1,
        &format!("{{\"tools\":[{}],\"nextCursor\":\"2\"}}", tool("two")),
    ));
    script
        .plan
        .push_back(page(1, &format!("{{\"tools\":[{}]}}", tool("three"))));
    let fake = HttpServer::start(script).await.unwrap();
    let (manager, _server) = connect(&fake).await;
    let names: Vec<_> = manager
        .publication()
        .tools
        .items
        .iter()
        .map(|tool| tool.upstream.to_string())
        .collect();
    assert_eq!(names, ["one", "three", "two"]);
    let cursors: Vec<_> = fake
        .ledger()
        .seen_of("tools/list")
        .into_iter()
        .map(|seen| seen.body)
        .collect();
    assert!(cursors[1].contains("\"cursor\":\"\""), "{cursors:?}");
    manager.shutdown().await;
}

#[tokio::test]
async fn law_22_f164_a_repeated_cursor_ends_the_listing_and_nothing_half_is_published_f166() {
    let mut script = script(Eras::Legacy);
    script.page_size = 3;
    let fake = HttpServer::start(script).await.unwrap();
    let (manager, server) = connect(&fake).await;
    let before = manager.publication();
    assert!(before.tools.items.len() > 3, "several pages, all of them");
    // From now on every page names the same next one.
    fake.change(|script| {
        script.plan.push_back(page(
            1_000,
            &format!("{{\"tools\":[{}],\"nextCursor\":\"again\"}}", tool("half")),
        ));
    });
    let lists = fake.ledger().counts().lists;
    within("restart", server.restart()).await.unwrap();
    let failed = within(
        "the listing to fail",
        server.wait_until(|status| status.last_failure.is_some()),
    )
    .await;
    let failure = failed.last_failure.unwrap();
    assert_eq!(failure.kind, "listing-failed");
    assert!(
        failure.detail.contains("repeats a cursor"),
        "{}",
        failure.detail
    );
    assert!(
        fake.ledger().counts().lists - lists < 20,
        "it is noticed at the second time, not at the thousandth page"
    );
    assert_eq!(
        manager.publication().version,
        before.version,
        "the last good catalog stays"
    );
    assert!(
        call(&server, "echo", json!({"text": "still"}))
            .await
            .is_ok(),
        "the old connection serves on"
    );
    manager.shutdown().await;
}
