//! Streams of legacy sessions that break: what was said meanwhile is there when the client comes back.

use http::{Method, StatusCode};
use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::{Value, json};

use super::bridge::{ALL, answer, answer_to, asking, elicit, got, legacy_call, rounds};
use super::support::{Client, Events, Session, World, stdio, wait_until};

fn slow(id: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"fake__slow","arguments":{{}}}}}}"#
    )
}

/// Asks for what was missed after an event.
async fn resume(client: &mut Client, session: &str, last_event_id: &str) -> Events {
    let headers = [
        ("accept", "text/event-stream"),
        ("mcp-session-id", session),
        ("last-event-id", last_event_id),
    ];
    Events::of(client.open(Method::GET, "/mcp", &headers, "").await)
}

/// A server that takes its time, behind a gateway whose answers soon become streams.
async fn slow_world(server: &HttpServer, state_dir: Option<&std::path::Path>) -> World {
    let world = World::start_with([ServerConfig::http("fake", server.url())], |settings| {
        settings.keep_alive_ms = 20;
        settings.state_dir = state_dir.map(Into::into);
    })
    .await;
    world
        .until("fake", |status| status.state == "connected")
        .await;
    world
}

fn calls(server: &HttpServer) -> usize {
    server
        .ledger()
        .counts()
        .calls
        .get("slow")
        .copied()
        .unwrap_or(0) as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn law_18_a_disconnect_neither_cancels_nor_loses_a_call() {
    let server = HttpServer::start(Script::legacy()).await.unwrap();
    let world = slow_world(&server, None).await;
    let mut session = world.session("/mcp").await;
    let mut events = Events::of(session.open_post(slow("\"s\"")).await);
    events.comment().await;
    // The stream begins with an id, so that there is something to come back with.
    let last = events.priming().await;
    let id = session.id.clone();
    drop((events, session));
    wait_until("the call is at the server", || calls(&server) == 1).await;
    server.release();
    let mut client = world.client().await;
    let mut resumed = resume(&mut client, &id, &last).await;
    let answer = resumed.json().await;
    assert_eq!(
        (&answer["id"], &answer["result"]["content"][0]["text"]),
        (&json!("s"), &json!("done"))
    );
    assert_eq!(resumed.next().await, None);
    assert_eq!(calls(&server), 1, "it ran once");
    // Whoever has everything gets nothing.
    let last = resumed.last_id.clone().unwrap();
    let mut client = world.client().await;
    assert_eq!(resume(&mut client, &id, &last).await.next().await, None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f114_a_question_is_asked_again_of_a_client_that_comes_back() {
    let world = World::start([asking("one", &[])]).await;
    let mut session = Session::open_as(world.client().await, "/mcp", "2025-11-25", ALL).await;
    let body = legacy_call("\"q\"", "one__inquire", &rounds(&[elicit("who")]));
    let mut events = Events::of(session.open_post(body).await);
    let primed = events.priming().await;
    let question = events.json().await;
    assert_eq!(question["method"], "elicitation/create");
    // The connection breaks; whether the question arrived before that, only the client knows.
    drop(events);
    session.client = world.client().await;
    let mut client = world.client().await;
    let mut resumed = resume(&mut client, &session.id, &primed).await;
    assert_eq!(resumed.json().await, question);
    answer(&mut session, &question, &answer_to("elicitation/create")).await;
    let answered = resumed.json().await;
    assert_eq!(answered["id"], "q");
    assert_eq!(
        got(&answered["result"]),
        json!([answer_to("elicitation/create")])
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_streams_at_once_are_told_apart() {
    let world = World::start([stdio("one", &[])]).await;
    let session = world.session("/mcp").await;
    let mut streams = Vec::new();
    for number in 0..3 {
        let mut twin = session.twin().await;
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{"name":"one__progress","arguments":{{"steps":5}},"_meta":{{"progressToken":{number}}}}}}}"#
        );
        let events = Events::of(twin.open_post(body).await);
        streams.push((number, twin, events));
    }
    let mut ids = Vec::new();
    for (number, _twin, events) in &mut streams {
        loop {
            let event = events.json().await;
            ids.push(events.last_id.clone().unwrap());
            if event["method"] == "notifications/progress" {
                assert_eq!(event["params"]["progressToken"], *number);
                continue;
            }
            assert_eq!(event["id"], *number);
            break;
        }
        assert_eq!(events.next().await, None);
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "ids are unique in the session: {ids:?}");
    // The first event of the first stream is followed by the rest of that stream alone.
    let first = ids.iter().find(|id| id.contains(".1.1.")).unwrap().clone();
    let mut client = world.client().await;
    let mut resumed = resume(&mut client, &session.id, &first).await;
    let mut answered = Vec::new();
    while let Some(event) = resumed.next().await {
        let event: Value = serde_json::from_str(&event).unwrap();
        match event.get("id") {
            Some(id) => answered.push(id.clone()),
            None => assert!(event["params"]["progress"].as_u64() > Some(1), "{event}"),
        }
    }
    assert_eq!(answered.len(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_16_after_a_restart_the_lost_answer_is_told_to_the_request_that_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = HttpServer::start(Script::legacy()).await.unwrap();
    let before = slow_world(&server, Some(dir.path())).await;
    let mut session = before.session("/mcp").await;
    let mut events = Events::of(session.open_post(slow("41")).await);
    let last = events.priming().await;
    drop(events);
    server.release();
    before.end().await;
    let after = slow_world(&server, Some(dir.path())).await;
    let mut client = after.client().await;
    let mut resumed = resume(&mut client, &session.id, &last).await;
    let error = resumed.json().await;
    assert_eq!(error["id"], 41);
    assert_eq!(
        error["error"]["code"],
        mainstay_gateway::serve::fault::OUTCOME_UNKNOWN
    );
    assert_eq!(resumed.next().await, None);
    // The session itself goes on.
    let mut session = session.over(after.client().await);
    let listed = session.post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert_eq!(listed.await.status, StatusCode::OK);
    after.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_stream_is_primed_for_new_clients_and_can_be_continued() {
    let world = World::start([stdio("one", &[])]).await;
    for (revision, primed) in [("2025-11-25", true), ("2025-06-18", false)] {
        let mut session = Session::open(world.client().await, "/mcp", revision).await;
        let mut listener = session.twin().await;
        let mut events = Events::of(listener.get().await);
        let names = if primed {
            r#"["echo","new"]"#
        } else {
            r#"["echo"]"#
        };
        let change = format!(
            r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"one__set_tools","arguments":{{"names":{names}}}}}}}"#
        );
        if primed {
            assert!(events.priming().await.ends_with(".push"));
            assert_eq!(session.post(change).await.status, StatusCode::OK);
        } else {
            // The tool is gone meanwhile; a change of the other kind is as good.
            world
                .manager
                .server("one")
                .unwrap()
                .disable()
                .await
                .unwrap();
        }
        let told = events.json().await;
        assert!(told["method"].as_str().unwrap().ends_with("list_changed"));
        let id = events.last_id.clone().unwrap();
        drop((events, listener));
        let mut client = world.client().await;
        let mut again = resume(&mut client, &session.id, &id).await;
        if primed {
            assert_eq!(again.priming().await, id, "nothing was missed");
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_stream_stays_plain_whatever_its_size() {
    let world = World::start([stdio("one", &[])]).await;
    let mut session = world.session("/mcp").await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__big","arguments":{"bytes":2000000}}}"#;
    let reply = session.post(body).await;
    assert!(reply.body.len() > 2_000_000);
    assert_eq!(reply.json()["id"], 1);
    world.end().await;
}
