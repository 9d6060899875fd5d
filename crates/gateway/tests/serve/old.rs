//! Clients that know nothing but HTTP+SSE: a stream, and a place to POST to.

use http::{Method, StatusCode};
use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::{Value, json};

use super::bridge::{ALL, answer_to, asking, elicit, got, rounds};
use super::support::{Client, Events, Reply, World, stdio, wait_until};

/// An old client: its stream, and where it POSTs to.
struct Old {
    client: Client,
    events: Events,
    place: String,
    /// Holds the connection of the stream.
    _stream: Client,
}

impl Old {
    async fn open(world: &World, path: &str) -> Self {
        let mut stream = world.client().await;
        let headers = [("accept", "text/event-stream")];
        let mut events = Events::of(stream.open(Method::GET, path, &headers, "").await);
        let place = events.next().await.unwrap();
        assert!(place.starts_with("/messages?session_id="), "{place}");
        Self {
            client: world.client().await,
            events,
            place,
            _stream: stream,
        }
    }

    async fn post(&mut self, body: impl Into<bytes::Bytes>) -> Reply {
        let place = self.place.clone();
        let headers = [("content-type", "application/json")];
        self.client.send(Method::POST, &place, &headers, body).await
    }

    /// POSTs, and reads what comes on the stream.
    async fn ask(&mut self, body: &str) -> Value {
        let reply = self.post(body.to_owned()).await;
        assert_eq!((reply.status.as_u16(), reply.body.as_str()), (202, ""));
        self.events.json().await
    }

    async fn initialize(&mut self) -> Value {
        let opened = self.ask(INITIALIZE).await;
        let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        assert_eq!(self.post(note).await.status, StatusCode::ACCEPTED);
        opened
    }
}

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"old","version":"1"}}}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

fn call(id: &str, tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments},"_meta":{{"progressToken":"t"}}}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_lists_calls_and_hears_everything_on_its_stream() {
    let world = World::start([stdio("one", &[])]).await;
    for (path, prefix) in [("/sse", "one__"), ("/servers/one/sse", "")] {
        let mut old = Old::open(&world, path).await;
        let early = old.ask(LIST).await;
        assert_eq!(
            (&early["id"], &early["error"]["code"]),
            (&json!(1), &json!(-32600))
        );
        assert_eq!(
            old.ask(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#)
                .await["result"],
            json!({})
        );
        let opened = old.initialize().await;
        assert_eq!(opened["result"]["protocolVersion"], "2024-11-05");
        let again = old.ask(INITIALIZE).await;
        assert_eq!(again["error"]["code"], -32600);
        let listed = old.ask(LIST).await;
        let tools = listed["result"]["tools"].as_array().unwrap();
        let echo = format!("{prefix}echo");
        assert!(tools.iter().any(|tool| tool["name"] == *echo));
        let answer = old.ask(&call("\"e\"", &echo, r#"{"text":"x"}"#)).await;
        assert_eq!(answer["result"]["content"][0]["text"], "x");
        let first = old
            .ask(&call("7", &format!("{prefix}progress"), r#"{"steps":2}"#))
            .await;
        assert_eq!(
            first["params"],
            json!({"progressToken": "t", "progress": 1, "total": 2})
        );
        assert_eq!(old.events.json().await["params"]["progress"], 2);
        assert_eq!(old.events.json().await["id"], 7);
        assert_eq!(old.events.last_id, None, "nothing can be resumed");
        assert_eq!(world.gateway.session_count(), 1);
        // What changes is told unasked.
        let before = prefix.is_empty();
        let names = if before {
            r#"["echo"]"#
        } else {
            r#"["echo","progress","set_tools"]"#
        };
        let change = call(
            "8",
            &format!("{prefix}set_tools"),
            &format!("{{\"names\":{names}}}"),
        );
        assert_eq!(old.post(change).await.status, StatusCode::ACCEPTED);
        let (one, two) = (old.events.json().await, old.events.json().await);
        let methods = [&one["method"], &two["method"]];
        assert!(
            methods.contains(&&json!("notifications/tools/list_changed")),
            "{one} {two}"
        );
        drop(old);
        wait_until("the session ends with its stream", || {
            world.gateway.session_count() == 0
        })
        .await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_is_asked_on_its_stream_and_answers_by_a_post() {
    let world = World::start([asking("one", &[])]).await;
    let mut old = Old::open(&world, "/servers/one/sse").await;
    let opening = INITIALIZE.replace(r#""capabilities":{}"#, &format!(r#""capabilities":{ALL}"#));
    assert_eq!(old.ask(&opening).await["id"], 0);
    let question = old
        .ask(&call("1", "inquire", &rounds(&[elicit("who")])))
        .await;
    assert_eq!(question["method"], "elicitation/create");
    let answer =
        json!({"jsonrpc": "2.0", "id": question["id"], "result": answer_to("elicitation/create")});
    let answered = old.ask(&answer.to_string()).await;
    assert_eq!(answered["id"], 1);
    assert_eq!(
        got(&answered["result"]),
        json!([answer_to("elicitation/create")])
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_18_the_end_of_the_stream_cancels_what_is_in_flight() {
    let server = HttpServer::start(Script::legacy()).await.unwrap();
    let world = World::start([ServerConfig::http("fake", server.url())]).await;
    let mut old = Old::open(&world, "/sse").await;
    old.initialize().await;
    let mut other = Old::open(&world, "/sse").await;
    other.initialize().await;
    old.post(call("1", "fake__slow", "{}")).await;
    other.post(call("1", "fake__slow", "{}")).await;
    wait_until("both calls are at the server", || {
        server.ledger().counts().calls.get("slow") == Some(&2)
    })
    .await;
    let place = old.place.clone();
    drop(old);
    wait_until("the server is told of one", || {
        server.ledger().seen_of("notifications/cancelled").len() == 1
    })
    .await;
    server.release();
    let answer = other.events.json().await;
    assert_eq!(answer["result"]["content"][0]["text"], "done");
    assert_eq!(server.ledger().seen_of("notifications/cancelled").len(), 1);
    other.place = place;
    assert_eq!(other.post(LIST).await.status, StatusCode::NOT_FOUND);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_notice_of_an_old_client_reaches_the_server() {
    let server = HttpServer::start(Script::legacy()).await.unwrap();
    let world = World::start([ServerConfig::http("fake", server.url())]).await;
    let mut old = Old::open(&world, "/servers/fake/sse").await;
    old.initialize().await;
    old.post(call("1", "slow", "{}")).await;
    wait_until("the call is at the server", || {
        server.ledger().counts().calls.contains_key("slow")
    })
    .await;
    old.post(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#)
        .await;
    wait_until("the server is told", || {
        server.ledger().seen_of("notifications/cancelled").len() == 1
    })
    .await;
    assert_eq!(
        old.ask(r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#).await["id"],
        2
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_have_their_statuses_and_streams_are_limited() {
    let world = World::start_with([], |settings| settings.push_streams_max = 1).await;
    let mut client = world.client().await;
    let sse = [("accept", "text/event-stream")];
    let json = [("content-type", "application/json")];
    let reply = client.send(Method::POST, "/sse", &json, INITIALIZE).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("allow")),
        (405, Some("GET"))
    );
    let reply = client
        .send(Method::GET, "/sse", &[("accept", "text/html")], "")
        .await;
    assert_eq!(reply.status, 406);
    let reply = client
        .send(Method::GET, "/servers/nope/sse", &sse, "")
        .await;
    assert_eq!(reply.status, 404);
    let foreign = [sse[0], ("origin", "https://evil.example")];
    assert_eq!(
        client.send(Method::GET, "/sse", &foreign, "").await.status,
        403
    );
    for place in ["/messages", "/messages?session_id=1", "/messages?x=1"] {
        let reply = client.send(Method::POST, place, &json, LIST).await;
        assert_eq!(reply.status, 404, "{place}");
    }
    let mut old = Old::open(&world, "/sse").await;
    let place = old.place.clone();
    let foreign = [json[0], ("origin", "https://evil.example")];
    assert_eq!(
        client
            .send(Method::POST, &place, &foreign, LIST)
            .await
            .status,
        403
    );
    let reply = client
        .send(
            Method::POST,
            &place,
            &[("content-type", "text/plain")],
            LIST,
        )
        .await;
    assert_eq!(reply.status, 415);
    assert_eq!(client.send(Method::GET, &place, &sse, "").await.status, 405);
    assert_eq!(old.post("{").await.status, 400);
    assert_eq!(old.post("[]").await.status, 400);
    old.initialize().await;
    let reply = client.send(Method::GET, "/sse", &sse, "").await;
    assert_eq!(reply.status, 503);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_6_the_end_of_the_gateway_ends_old_streams() {
    let mut world = World::start([stdio("one", &[])]).await;
    let mut old = Old::open(&world, "/sse").await;
    old.initialize().await;
    world.close().await;
    assert_eq!(old.events.next().await, None);
    assert_eq!(world.gateway.session_count(), 0);
    world.manager.shutdown().await;
}
