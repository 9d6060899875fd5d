//! The life of a legacy session: opened, used, ended, and carried over a restart of Mainstay.

use std::path::Path;

use http::Method;
use serde_json::json;

use super::support::{BOTH, Session, World, stdio};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

async fn world(dir: &Path) -> World {
    let dir = dir.to_owned();
    World::start_with([stdio("one", &[])], |settings| {
        settings.state_dir = Some(dir);
    })
    .await
}

async fn delete(session: &mut Session) -> u16 {
    let (path, id) = (session.path.clone(), session.id.clone());
    let headers = [("mcp-session-id", id.as_str()), ("accept", BOTH)];
    let reply = session.client.send(Method::DELETE, &path, &headers, "");
    reply.await.status.as_u16()
}

/// The same session, at the door of another process.
async fn moved(session: &Session, world: &World) -> Session {
    session.over(world.client().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn law_22_a_session_goes_on_after_a_restart_as_if_nothing_had_happened() {
    let dir = tempfile::tempdir().unwrap();
    let before = world(dir.path()).await;
    let mut all = before.session("/mcp").await;
    let mut one = before.session("/servers/one/mcp").await;
    let mut ended = before.session("/mcp").await;
    for session in [&mut all, &mut one, &mut ended] {
        assert_eq!(session.post(LIST).await.json()["id"], 1);
        assert!(session.id.len() <= 2_048);
    }
    assert_eq!(delete(&mut ended).await, 200);
    before.end().await;

    let after = world(dir.path()).await;
    let mut elsewhere = moved(&one, &after).await;
    elsewhere.path = "/mcp".to_owned();
    assert_eq!(elsewhere.post(LIST).await.status, 404, "another endpoint");
    for session in [&all, &one] {
        let mut session = moved(session, &after).await;
        let reply = session.post(LIST).await.json();
        assert_eq!(reply["id"], 1);
        assert!(!reply["result"]["tools"].as_array().unwrap().is_empty());
    }
    assert_eq!(after.gateway.session_count(), 2);
    let mut ended = moved(&ended, &after).await;
    assert_eq!(ended.post(LIST).await.error(), (404, -32600, json!(1)));
    let mut all = moved(&all, &after).await;
    assert_eq!(delete(&mut all).await, 200);
    assert_eq!(all.post(LIST).await.status, 404);
    after.end().await;

    let third = world(dir.path()).await;
    assert_eq!(moved(&all, &third).await.post(LIST).await.status, 404);
    assert_eq!(moved(&one, &third).await.post(LIST).await.status, 200);
    third.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_state_directory_a_session_ends_with_its_process() {
    let before = World::start([]).await;
    let session = before.session("/mcp").await;
    before.end().await;
    let after = World::start([]).await;
    assert_eq!(moved(&session, &after).await.post(LIST).await.status, 404);
    after.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_opened_needed_told_apart_and_ended() {
    let world = World::start([]).await;
    let (mut one, mut two) = (world.session("/mcp").await, world.session("/mcp").await);
    assert_ne!(one.id, two.id);
    assert!(one.id.bytes().all(|byte| matches!(byte, 0x21..=0x7e)));
    let mut nobody = world.client().await;
    let reply = nobody.post("/mcp", &[], LIST).await;
    assert_eq!(reply.error(), (400, -32600, json!(1)));
    let reply = nobody
        .post("/mcp", &[("mcp-session-id", "no-such")], LIST)
        .await;
    assert_eq!(reply.error(), (404, -32600, json!(1)));
    assert_eq!(delete(&mut one).await, 200);
    assert_eq!(one.post(LIST).await.error(), (404, -32600, json!(1)));
    assert_eq!(delete(&mut one).await, 404);
    assert_eq!(two.post(LIST).await.status, 200, "the other one lives");
    assert_eq!(delete(&mut two).await, 200);
    world.end().await;
}
