//! What clients see that declare what they can do: what servers list on the connections of such clients.

use std::path::Path;

use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::{Value, json};

use super::support::{Events, PATIENCE, Session, World, modern, stdio, wait_until};

const SAMPLING: &str = r#"{"sampling":{}}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
/// The two kinds of endpoint, and how the names begin there.
const ENDPOINTS: [(&str, &str); 2] = [("/mcp", "one__"), ("/servers/one/mcp", "")];

fn names(listed: &Value) -> Vec<String> {
    let tools = listed["result"]["tools"].as_array();
    let tools = tools.unwrap_or_else(|| panic!("no listing: {listed}"));
    tools
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn session(world: &World, path: &str, capabilities: &str) -> Session {
    Session::open_as(world.client().await, path, "2025-11-25", capabilities).await
}

async fn listed(session: &mut Session) -> Vec<String> {
    names(&session.post(LIST).await.json())
}

fn call(name: &str) -> String {
    let params = json!({"name": name, "arguments": {"text": "hello"}});
    json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}).to_string()
}

/// A modern request of a client that can do something.
fn capable(method: &str, members: &str) -> String {
    modern("3", method, members).replace(
        "clientCapabilities\":{}",
        &format!("clientCapabilities\":{SAMPLING}"),
    )
}

/// How often the server was greeted.
fn greetings(ledger: &Path) -> usize {
    let text = std::fs::read_to_string(ledger).unwrap_or_default();
    text.lines()
        .filter(|line| line.contains(" initialize "))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_sees_and_calls_what_its_server_lists_to_clients_like_it() {
    let world = World::start([stdio("one", &["--more-if-declared"]), stdio("two", &[])]).await;
    for (path, prefix) in ENDPOINTS {
        let mut plain = session(&world, path, "{}").await;
        let everybodys = listed(&mut plain).await;
        let extra = format!("{prefix}with_sampling");
        assert!(!everybodys.contains(&extra), "{everybodys:?}");
        let mut able = session(&world, path, SAMPLING).await;
        let (mut own, mut expected) = (listed(&mut able).await, everybodys.clone());
        expected.push(extra.clone());
        own.sort();
        expected.sort();
        assert_eq!(own, expected, "{path}");
        let answer = able.post(call(&extra)).await.json();
        assert_eq!(answer["result"]["content"][0]["text"], "hello", "{answer}");
        // The other era.
        let mut client = world.client().await;
        let seen = client.modern(path, &capable("tools/list", "")).await.json();
        let mut seen = names(&seen);
        seen.sort();
        assert_eq!(seen, expected, "{path}");
        let body = capable(
            "tools/call",
            &format!("\"name\":\"{extra}\",\"arguments\":{{\"text\":\"hi\"}},"),
        );
        let answer = client.modern(path, &body).await.json();
        assert_eq!(answer["result"]["content"][0]["text"], "hi", "{answer}");
        assert_eq!(listed(&mut plain).await, everybodys, "nobody else sees it");
        let unknown = plain.post(call(&extra)).await.json();
        assert!(
            unknown["error"].is_object() || unknown["result"]["isError"] == true,
            "{unknown}"
        );
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_22_until_it_is_known_what_a_client_may_see_it_sees_what_everybody_sees_and_is_told_later()
 {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    // The shared connection lists at once; every other one listens to nobody until it may.
    let slow = [
        "--more-if-declared",
        "--ledger",
        ledger.to_str().unwrap(),
        "--late",
        "initialize:700",
    ];
    let world = World::start_with([stdio("one", &slow)], |settings| {
        settings.own_listing_ms = 0;
    })
    .await;
    world
        .until("one", |status| status.state == "connected")
        .await;
    for (path, prefix) in ENDPOINTS {
        let capabilities = if path == "/mcp" {
            SAMPLING
        } else {
            r#"{"roots":{}}"#
        };
        let word = if path == "/mcp" { "sampling" } else { "roots" };
        let mut able = session(&world, path, capabilities).await;
        let first = listed(&mut able).await;
        let extra = format!("{prefix}with_{word}");
        assert!(
            first.contains(&format!("{prefix}echo")) && !first.contains(&extra),
            "{first:?}"
        );
        let mut twin = able.twin().await;
        let mut stream = Events::of(twin.get().await);
        let told = stream.next().await.unwrap_or_default();
        assert!(told.contains("notifications/tools/list_changed"), "{told}");
        assert!(listed(&mut able).await.contains(&extra), "{path}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_only_list_cost_one_further_connection_for_a_while_and_none_where_all_see_the_same()
 {
    let folder = tempfile::tempdir().unwrap();
    let [more, same] = ["more", "same"].map(|name| folder.path().join(name));
    let flags = |ledger: &Path| ["--ledger".to_owned(), ledger.to_str().unwrap().to_owned()];
    let mut one = stdio("one", &["--more-if-declared"]).args(flags(&more));
    one.connections.idle_ms = 50;
    let mut two = stdio("two", &[]).args(flags(&same));
    two.connections.idle_ms = 50;
    let modern_one = HttpServer::start(Script::modern()).await.unwrap();
    let three = mainstay::config::ServerConfig::http("three", modern_one.url());
    let world = World::start([one, two, three]).await;
    for _ in 0..3 {
        let mut able = session(&world, "/mcp", SAMPLING).await;
        for _ in 0..3 {
            assert!(
                listed(&mut able)
                    .await
                    .contains(&"one__with_sampling".to_owned())
            );
        }
        for name in ["one", "two"] {
            let server = world.manager.server(name).unwrap();
            wait_until("the further connection goes", || {
                server.status().connections.is_empty()
            })
            .await;
        }
    }
    assert_eq!((greetings(&more), greetings(&same)), (2, 2));
    assert_eq!(modern_one.ledger().seen_of("server/discover").len(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_23_a_change_on_a_clients_own_connection_is_told_to_that_kind_of_clients_alone() {
    let world = World::start([stdio("one", &["--more-if-declared"])]).await;
    for (path, prefix) in ENDPOINTS {
        let mut able = session(&world, path, SAMPLING).await;
        let mut plain = session(&world, path, "{}").await;
        listed(&mut able).await;
        let before = listed(&mut plain).await;
        let mut twin = able.twin().await;
        let mut stream = Events::of(twin.get().await);
        let name = format!("new_{}", path.len());
        let params = json!({"name": format!("{prefix}set_tools"), "arguments": {"names": [name, "set_tools"]}});
        let change = json!({"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": params});
        able.post(change.to_string()).await;
        let told = stream.next().await.unwrap_or_default();
        assert!(told.contains("notifications/tools/list_changed"), "{told}");
        let expected = ["new_", "set_tools"].map(|name| match name {
            "new_" => format!("{prefix}new_{}", path.len()),
            name => format!("{prefix}{name}"),
        });
        assert_eq!(listed(&mut able).await, expected);
        assert_eq!(listed(&mut plain).await, before);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_a_connection_of_its_own_sees_what_that_one_lists() {
    let mut one = stdio("one", &["--more-if-declared"]);
    one.scope = mainstay::config::Scope::Session;
    let world = World::start([one]).await;
    let mut mine = session(&world, "/mcp", SAMPLING).await;
    let mut other = session(&world, "/mcp", SAMPLING).await;
    let mut plain = session(&world, "/mcp", "{}").await;
    let change = json!({"jsonrpc": "2.0", "id": 4, "method": "tools/call",
        "params": {"name": "one__set_tools", "arguments": {"names": ["mine"]}}})
    .to_string();
    for session in [&mut mine, &mut plain] {
        session.post(change.clone()).await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while listed(session).await != ["one__mine"] {
            assert!(tokio::time::Instant::now() < deadline);
        }
    }
    assert!(
        listed(&mut other)
            .await
            .contains(&"one__with_sampling".to_owned())
    );
    world.end().await;
}
