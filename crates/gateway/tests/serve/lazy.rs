//! Servers that start on demand: what they listed last is shown without starting them, a call starts them, and idleness
//! stops them.

use std::path::{Path, PathBuf};

use mainstay::config::{Config, ServerConfig, Startup};
use serde_json::{Value, json};

use super::support::{Session, World, stdio, wait_until};

fn lazy(ledger: &Path, idle_ms: Option<u64>) -> ServerConfig {
    let mut server = stdio("one", &["--ledger", ledger.to_str().unwrap()]);
    server.startup = Startup::Lazy;
    server.idle_shutdown_ms = idle_ms;
    server
}

async fn world(server: ServerConfig, state_dir: &Path) -> World {
    let config = Config::from_servers([server]);
    World::of(config, Some(PathBuf::from(state_dir)), |_| {}).await
}

fn count(ledger: &Path, event: &str) -> usize {
    let text = std::fs::read_to_string(ledger).unwrap_or_default();
    text.lines().filter(|line| line.contains(event)).count()
}

async fn listed(session: &mut Session) -> Value {
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    session.post(list).await.json()["result"]["tools"].clone()
}

async fn echo(session: &mut Session, name: &str) -> Value {
    let params = json!({"name": name, "arguments": {"text": "hello"}});
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params});
    session.post(call.to_string()).await.json()["result"]["content"][0]["text"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn law_22_a_lazy_server_is_listed_from_memory_started_by_a_call_and_stopped_by_idleness() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, state) = (folder.path().join("ledger"), folder.path().join("state"));
    // Nothing is remembered yet: it is started once to learn its catalog, and goes when nobody calls it.
    let first = world(lazy(&ledger, Some(200)), &state).await;
    let mut session = first.session("/servers/one/mcp").await;
    let known = listed(&mut session).await;
    assert!(known.as_array().unwrap().len() > 3, "{known}");
    first.until("one", |status| status.state == "idle").await;
    assert_eq!(count(&ledger, " spawn "), 1);
    let mut everywhere = first.session("/mcp").await;
    let all = listed(&mut everywhere).await;
    assert_eq!(
        all.as_array().unwrap().len(),
        known.as_array().unwrap().len()
    );
    assert_eq!(
        listed(&mut session).await,
        known,
        "also while it is stopped"
    );
    assert_eq!(count(&ledger, " spawn "), 1, "to list starts nothing");
    first.end().await;

    // Mainstay is started again.
    let again = world(lazy(&ledger, Some(200)), &state).await;
    let mut plain = again.session("/mcp").await;
    let client = again.client().await;
    let able = r#"{"sampling":{},"roots":{}}"#;
    let mut capable = Session::open_as(client, "/servers/one/mcp", "2025-11-25", able).await;
    for _ in 0..3 {
        assert_eq!(listed(&mut plain).await, all);
        assert_eq!(
            listed(&mut capable).await,
            known,
            "whatever the client can do"
        );
    }
    let one = again.manager.server("one").unwrap();
    assert_eq!((one.status().state, count(&ledger, " spawn ")), ("idle", 1));
    assert_eq!(echo(&mut plain, "one__echo").await, "hello");
    assert_eq!(count(&ledger, " spawn "), 2, "a call does");
    again.until("one", |status| status.state == "idle").await;
    wait_until("the process has gone", || one.status().pid.is_none()).await;
    assert_eq!(listed(&mut plain).await, all);
    assert_eq!(echo(&mut plain, "one__echo").await, "hello", "and again");
    assert_eq!(count(&ledger, " spawn "), 3);
    again.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lazy_server_that_nobody_knows_is_started_once_for_the_aggregate_too() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, state) = (folder.path().join("ledger"), folder.path().join("state"));
    let world = world(lazy(&ledger, None), &state).await;
    let mut session = world.session("/mcp").await;
    let all = listed(&mut session).await;
    assert!(
        all.as_array()
            .unwrap()
            .iter()
            .any(|tool| tool["name"] == "one__echo"),
        "{all}"
    );
    assert_eq!(echo(&mut session, "one__echo").await, "hello");
    assert_eq!(count(&ledger, " spawn "), 1);
    world.end().await;
}
