//! Subscriptions to single resources: clients of both eras in front of servers of both eras.

use http::Method;
use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{Fault, HttpServer, Script};
use serde_json::{Value, json};

use super::push::listen;
use super::support::{Client, Events, Session, World, modern, stdio, wait_until};

const UPDATED: &str = "notifications/resources/updated";

async fn fake(mut script: Script) -> HttpServer {
    script.subscriptions = true;
    HttpServer::start(script).await.unwrap()
}

async fn ask(session: &mut Session, method: &str, uri: &str) -> Value {
    let params = json!({ "uri": uri });
    session
        .post(format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#
        ))
        .await
        .json()
}

async fn subscribe(session: &mut Session, uri: &str) {
    let answered = ask(session, "resources/subscribe", uri).await;
    assert_eq!(answered["result"], json!({}), "{answered}");
}

/// Lets a stdio server of the test kit say, three times, that a resource changed.
async fn touch(client: &mut Client, path: &str, uri: &str) {
    let name = if path == "/mcp" {
        "one__touch"
    } else {
        "touch"
    };
    let members = format!(r#""name":"{name}","arguments":{{"uri":"{uri}"}},"#);
    let reply = client
        .modern(path, &modern("1", "tools/call", &members))
        .await;
    assert!(reply.json()["result"].is_object(), "{reply:?}");
}

fn uris(fake: &HttpServer, method: &str) -> Vec<String> {
    let seen = fake.ledger().seen_of(method);
    let uri = |body: &str| {
        let body: Value = serde_json::from_str(body).unwrap();
        body["params"]["uri"].as_str().unwrap().to_owned()
    };
    seen.iter().map(|seen| uri(&seen.body)).collect()
}

/// The uri of the next update; nothing else may come before it.
async fn update(events: &mut Events, id: Option<Value>) -> String {
    let message = events.json().await;
    assert_eq!(message["method"], UPDATED, "{message}");
    let meta = &message["params"]["_meta"];
    let expected = id.map(|id| json!({"io.modelcontextprotocol/subscriptionId": id}));
    assert_eq!(meta, &expected.unwrap_or_default());
    message["params"]["uri"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn law_21_updates_reach_clients_of_both_eras_whatever_the_server_speaks() {
    for era in ["legacy", "modern"] {
        let world = World::start([stdio("one", &["--wishes", "--era", era])]).await;
        for path in ["/mcp", "/servers/one/mcp"] {
            let mut session = world.session(path).await;
            assert_eq!(
                session.opened["capabilities"]["resources"]["subscribe"],
                true
            );
            subscribe(&mut session, "x:a").await;
            subscribe(&mut session, "x:a").await;
            let (mut first, mut second) = (world.client().await, world.client().await);
            let filter = r#"{"resourceSubscriptions":["x:a","x:b","x:a"]}"#;
            let mut number = listen(&mut first, path, "7", filter).await;
            let only_b = r#"{"resourceSubscriptions":["x:b"]}"#;
            let mut string = listen(&mut second, path, "\"7\"", only_b).await;
            assert_eq!(
                number.json().await["params"]["notifications"],
                json!({"resourceSubscriptions": ["x:a", "x:b"]})
            );
            assert_eq!(
                string.json().await["params"]["notifications"],
                json!({"resourceSubscriptions": ["x:b"]})
            );
            assert_eq!(world.gateway.subscription_count(), 4);

            let mut caller = world.client().await;
            touch(&mut caller, path, "x:a").await;
            assert_eq!(update(&mut number, Some(json!(7))).await, "x:a");
            // No stream was open: it waited.
            let mut listener = session.twin().await;
            let mut get = Events::of(listener.get().await);
            assert_eq!(update(&mut get, None).await, "x:a");
            touch(&mut caller, path, "x:b/part").await;
            // However many of the notices before met the look above, none of them is for the other listener.
            assert_eq!(update(&mut string, Some(json!("7"))).await, "x:b/part");

            drop((number, first, string, second));
            wait_until("streams that ended give back what they held", || {
                world.gateway.subscription_count() == 1
            })
            .await;
            assert_eq!(
                ask(&mut session, "resources/unsubscribe", "x:a").await["result"],
                json!({})
            );
            assert_eq!(world.gateway.subscription_count(), 0);
            assert_eq!(
                ask(&mut session, "resources/unsubscribe", "x:a").await["result"],
                json!({})
            );
        }
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_asked_once_for_many_and_told_when_the_last_has_gone() {
    let server = fake(Script::legacy()).await;
    let world = World::start([ServerConfig::http("one", server.url())]).await;
    let mut sessions = Vec::new();
    for _ in 0..5 {
        let mut session = world.session("/servers/one/mcp").await;
        subscribe(&mut session, "x:a").await;
        sessions.push(session);
    }
    subscribe(&mut sessions[0], "x:b").await;
    assert_eq!(uris(&server, "resources/subscribe"), ["x:a", "x:b"]);
    for mut session in sessions {
        assert_eq!(
            uris(&server, "resources/unsubscribe")
                .iter()
                .filter(|uri| *uri == "x:a")
                .count(),
            0
        );
        let (path, id) = (session.path.clone(), session.id.clone());
        let header = [("mcp-session-id", id.as_str())];
        session
            .client
            .send(Method::DELETE, &path, &header, "")
            .await;
    }
    assert_eq!(world.gateway.subscription_count(), 0);
    wait_until("the server is told", || {
        let mut told = uris(&server, "resources/unsubscribe");
        told.sort();
        told == ["x:a", "x:b"]
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_server_takes_on_is_acknowledged() {
    let (taking, refusing) = (
        fake(Script::legacy()).await,
        HttpServer::start(Script::modern()).await.unwrap(),
    );
    let refusal = |times| {
        let body =
            r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32002,"message":"no such resource"}}"#;
        let fault = Fault::Status {
            status: 200,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.to_owned(),
        };
        taking.change(|script| {
            for _ in 0..times {
                script.then("resources/subscribe", fault.clone());
            }
        });
    };
    let world = World::start([
        ServerConfig::http("taking", taking.url()),
        ServerConfig::http("refusing", refusing.url()),
    ])
    .await;
    let mut client = world.client().await;
    let filter = r#"{"resourceSubscriptions":["file:///fixed","x:unknown"]}"#;

    // A server that offers no such thing, although it has the resource.
    let mut events = listen(&mut client, "/servers/refusing/mcp", "1", filter).await;
    assert_eq!(events.json().await["params"]["notifications"], json!({}));
    // On the aggregate: nobody has the unknown one, and `refusing` sorts first and owns the other.
    let mut client = world.client().await;
    let filter = r#"{"resourceSubscriptions":["file:///fixed","mainstay://taking/file:///fixed","x:unknown"]}"#;
    let mut events = listen(&mut client, "/mcp", "1", filter).await;
    assert_eq!(
        events.json().await["params"]["notifications"],
        json!({"resourceSubscriptions": ["mainstay://taking/file:///fixed"]})
    );
    // The client's own uri comes back.
    world
        .until("taking", |status| status.push == Some("open"))
        .await;
    taking.tell_updated("file:///fixed");
    assert_eq!(
        update(&mut events, Some(json!(1))).await,
        "mainstay://taking/file:///fixed"
    );
    // A server that refuses this one.
    refusal(2);
    let mut client = world.client().await;
    let filter = r#"{"resourceSubscriptions":["x:refused"]}"#;
    let mut events = listen(&mut client, "/servers/taking/mcp", "1", filter).await;
    assert_eq!(events.json().await["params"]["notifications"], json!({}));
    let mut session = world.session("/servers/taking/mcp").await;
    let refused = ask(&mut session, "resources/subscribe", "x:refused").await;
    assert_eq!(refused["error"]["code"], -32002, "{refused}");
    assert_eq!(refused["error"]["message"], "no such resource");
    assert_eq!(world.gateway.subscription_count(), 1, "the honoured one");
    let mut session = world.session("/servers/refusing/mcp").await;
    let refused = ask(&mut session, "resources/subscribe", "file:///fixed").await;
    assert_eq!(refused["error"]["code"], -32601, "{refused}");
    assert_eq!(
        session.opened["capabilities"]["resources"],
        json!({"listChanged": true})
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_25_after_a_reconnect_clients_are_told_that_they_may_have_missed_something() {
    let world = World::start([stdio("one", &["--wishes"])]).await;
    let mut client = world.client().await;
    let filter = r#"{"resourceSubscriptions":["x:a"]}"#;
    let mut events = listen(&mut client, "/mcp", "1", filter).await;
    assert_eq!(
        events.json().await["method"],
        "notifications/subscriptions/acknowledged"
    );
    let before = world.manager.server("one").unwrap().status().generation;
    world
        .manager
        .server("one")
        .unwrap()
        .restart()
        .await
        .unwrap();
    assert_eq!(update(&mut events, Some(json!(1))).await, "x:a");
    let after = world
        .until("one", |status| status.state == "connected")
        .await;
    assert!(after.generation > before);
    let mut caller = world.client().await;
    touch(&mut caller, "/mcp", "x:a").await;
    assert_eq!(update(&mut events, Some(json!(1))).await, "x:a");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f135_a_client_that_does_not_read_delays_nobody_and_is_told_each_resource_once() {
    let server = fake(Script::legacy()).await;
    let world = World::start([ServerConfig::http("one", server.url())]).await;
    world
        .until("one", |status| status.push == Some("open"))
        .await;
    let (mut slow, mut quick) = (
        world.session("/servers/one/mcp").await,
        world.session("/servers/one/mcp").await,
    );
    for session in [&mut slow, &mut quick] {
        subscribe(session, "x:a").await;
        subscribe(session, "x:b").await;
    }
    let mut twin = quick.twin().await;
    let mut events = Events::of(twin.get().await);
    for _ in 0..200 {
        server.tell_updated("x:a");
        assert_eq!(update(&mut events, None).await, "x:a");
    }
    server.tell_updated("x:b");
    assert_eq!(update(&mut events, None).await, "x:b");
    let mut twin = slow.twin().await;
    let mut events = Events::of(twin.get().await);
    assert_eq!(update(&mut events, None).await, "x:a");
    assert_eq!(update(&mut events, None).await, "x:b", "each told once");
    // What a client does not want any more is not told, even if it waits.
    let mut third = world.session("/servers/one/mcp").await;
    subscribe(&mut third, "x:a").await;
    subscribe(&mut third, "x:b").await;
    let mut watcher = quick.twin().await;
    let mut events = Events::of(watcher.get().await);
    for uri in ["x:a", "x:b"] {
        server.tell_updated(uri);
        // The newest stream speaks; when it has, it has arrived.
        assert_eq!(update(&mut events, None).await, uri);
    }
    ask(&mut third, "resources/unsubscribe", "x:a").await;
    let mut twin = third.twin().await;
    let mut events = Events::of(twin.get().await);
    assert_eq!(update(&mut events, None).await, "x:b");
    let (path, id) = (third.path.clone(), third.id.clone());
    third
        .client
        .send(Method::DELETE, &path, &[("mcp-session-id", &id)], "")
        .await;
    assert_eq!(events.next().await, None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_25_a_session_that_goes_on_after_a_restart_keeps_its_subscriptions() {
    let server = fake(Script::legacy()).await;
    let dir = tempfile::tempdir().unwrap();
    let world = async || {
        let world = World::start_with([ServerConfig::http("one", server.url())], |settings| {
            settings.state_dir = Some(dir.path().to_owned());
        })
        .await;
        world
            .until("one", |status| status.push == Some("open"))
            .await;
        world
    };
    let before = world().await;
    let mut session = before.session("/mcp").await;
    subscribe(&mut session, "file:///fixed").await;
    before.end().await;
    let after = world().await;
    let mut moved = session.over(after.client().await);
    let mut events = Events::of(moved.get().await);
    let mut told = Vec::new();
    while told.len() < 4 {
        told.push(events.json().await);
    }
    // Nobody knows what the client was told last, and what happened meanwhile.
    assert!(told[..3].iter().all(|message| message["method"] != UPDATED));
    assert_eq!(told[3]["params"]["uri"], "file:///fixed", "{told:?}");
    server.tell_updated("file:///fixed");
    assert_eq!(update(&mut events, None).await, "file:///fixed");
    after.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_told_the_lowest_log_level_that_a_session_wants() {
    let server = fake(Script::legacy()).await;
    let world = World::start([ServerConfig::http("one", server.url())]).await;
    let told = || -> Vec<String> {
        let seen = server.ledger().seen_of("logging/setLevel");
        let level =
            |body: &str| serde_json::from_str::<Value>(body).unwrap()["params"]["level"].clone();
        seen.iter()
            .map(|seen| level(&seen.body).as_str().unwrap().to_owned())
            .collect()
    };
    let mut one = world.session("/servers/one/mcp").await;
    let mut all = world.session("/mcp").await;
    let set = |level: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{{"level":"{level}"}}}}"#
        )
    };
    assert_eq!(all.post(set("error")).await.json()["result"], json!({}));
    wait_until("the only one", || told() == ["error"]).await;
    assert_eq!(one.post(set("debug")).await.json()["result"], json!({}));
    wait_until("the lower one", || told() == ["error", "debug"]).await;
    assert_eq!(all.post(set("loud")).await.error().1, -32602);
    all.post(set("warning")).await;
    for (mut session, expected) in [(one, "warning"), (all, "info")] {
        let (path, id) = (session.path.clone(), session.id.clone());
        let header = [("mcp-session-id", id.as_str())];
        session
            .client
            .send(Method::DELETE, &path, &header, "")
            .await;
        wait_until("a higher one when the lower has gone", || {
            told().last().is_some_and(|level| level == expected)
        })
        .await;
    }
    assert_eq!(told(), ["error", "debug", "warning", "info"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_scope_session_each_session_subscribes_and_tells_on_its_own_connection() {
    let server = fake(Script::legacy()).await;
    let mut config = ServerConfig::http("one", server.url());
    config.scope = mainstay::config::Scope::Session;
    let world = World::start([config]).await;
    let path = "/servers/one/mcp";
    let (mut first, mut second) = (world.session(path).await, world.session(path).await);
    for session in [&mut first, &mut second] {
        subscribe(session, "x:a").await;
        let told = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
        assert_eq!(session.post(told).await.status, 202);
    }
    for method in ["resources/subscribe", "notifications/roots/list_changed"] {
        let arrived = || server.ledger().seen_of(method).len() == 2;
        wait_until("each on its own connection", arrived).await;
        let seen = server.ledger().seen_of(method);
        let mut sessions: Vec<_> = seen
            .iter()
            .map(|seen| seen.header("mcp-session-id").unwrap().to_owned())
            .collect();
        sessions.sort();
        sessions.dedup();
        assert_eq!((seen.len(), sessions.len()), (2, 2), "{method}");
    }
    // A server that is shared is told nothing about one of its clients, but what it may know by itself.
    let shared = fake(Script::legacy()).await;
    let other = World::start([ServerConfig::http("one", shared.url())]).await;
    let mut session = other.session(path).await;
    for method in ["notifications/roots/list_changed", "notifications/vendor"] {
        session
            .post(format!(
                r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"x":1.10}}}}"#
            ))
            .await;
    }
    let seen = shared.ledger().seen_of("notifications/vendor");
    assert!(seen[0].body.contains("1.10"), "byte for byte");
    let about_roots = shared.ledger().seen_of("notifications/roots/list_changed");
    assert!(about_roots.is_empty());
    world.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_hears_the_log_messages_that_its_client_wants_and_no_others() {
    for (script, era) in [(Script::legacy(), "legacy"), (Script::modern(), "modern")] {
        let server = fake(script).await;
        let world = World::start([ServerConfig::http("one", server.url())]).await;
        let path = "/servers/one/mcp";
        let chatter = || server.change(|script| script.then("tools/call", Fault::Chatter));
        let mut client = world.client().await;
        // The server says something of the level `info` within the call.
        for (level, hears) in [(None, false), (Some("debug"), true), (Some("error"), false)] {
            chatter();
            let level =
                level.map(|level| format!("\"io.modelcontextprotocol/logLevel\":\"{level}\","));
            let call = modern("1", "tools/call", r#""name":"echo","arguments":{},"#).replace(
                "\"_meta\":{",
                &format!("\"_meta\":{{{}", level.clone().unwrap_or_default()),
            );
            let reply = client.modern(path, &call).await;
            let said = reply.body.contains("notifications/message");
            assert_eq!(said, hears, "{era} {level:?} {reply:?}");
            assert!(reply.body.contains("\"result\""), "{reply:?}");
        }
        let odd = modern("1", "tools/call", r#""name":"echo","#).replace(
            "\"_meta\":{",
            "\"_meta\":{\"io.modelcontextprotocol/logLevel\":\"loud\",",
        );
        assert_eq!(client.modern(path, &odd).await.error().1, -32602);
        let mut session = world.session(path).await;
        for (level, hears) in [("debug", true), ("error", false)] {
            session
                .post(format!(
                    r#"{{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{{"level":"{level}"}}}}"#
                ))
                .await;
            chatter();
            let reply = session
                .post(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","arguments":{}}}"#)
                .await;
            let said = reply.body.contains("notifications/message");
            assert_eq!(said, hears, "{era} {level} {reply:?}");
            // A modern server is told with the request, a legacy one beforehand.
            let called = server.ledger().seen_of("tools/call").pop().unwrap();
            let named = format!("logLevel\":\"{level}\"");
            assert_eq!(
                called.body.contains(&named),
                era == "modern",
                "{}",
                called.body
            );
        }
        world.end().await;
    }
}
