//! People who share one gateway: nothing of one is another's, however somebody comes by its address.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mainstay::config::{Scope, ServerConfig};
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::support::{Client, Events, PATIENCE, Reply, Session, World, modern, stdio, wait_until};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
/// Everybody who could try, besides ann: nobody in particular among them.
const OTHERS: [Option<&str>; 2] = [None, Some("bob")];

fn per_user(mut config: ServerConfig) -> ServerConfig {
    config.scope = Scope::User;
    config.restart.open_interval_ms = 20;
    config
}

async fn session(door: SocketAddr, who: Option<&str>, path: &str) -> Session {
    let client = Client::connect_as(door, who).await;
    Session::open_as(client, path, "2025-11-25", "{}").await
}

fn call(id: u64, tool: &str, arguments: Value) -> String {
    let params = json!({"name": tool, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
}

fn modern_call(id: u64, tool: &str, arguments: &Value, more: &str, declared: &str) -> String {
    let members = format!("\"name\":\"{tool}\",\"arguments\":{arguments},{more}");
    modern(&id.to_string(), "tools/call", &members).replace(
        "clientCapabilities\":{}",
        &format!("clientCapabilities\":{declared}"),
    )
}

fn names(listed: &Value) -> Vec<String> {
    let tools = listed["result"]["tools"].as_array();
    let tools = tools.unwrap_or_else(|| panic!("no listing: {listed}"));
    let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
    tools.iter().map(name).collect()
}

/// What an answer says, whoever it is for.
fn said(reply: &Reply) -> (u16, String) {
    (reply.status.as_u16(), reply.body.clone())
}

/// Which process executed which marker.
fn executed(ledger: &Path) -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string(ledger).unwrap_or_default();
    let markers = text.lines().filter_map(|line| {
        let (pid, marker) = line.split_once(" marker ")?;
        Some((marker.to_owned(), pid.parse().unwrap()))
    });
    markers.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn f256_somebody_elses_session_is_an_unknown_one() {
    let world = World::start([stdio("one", &[])]).await;
    let door = world.embedded().await;
    for path in ["/mcp", "/servers/one/mcp"] {
        let mut ann = session(door, Some("ann"), path).await;
        let unknown = "0".repeat(32);
        for who in OTHERS {
            let mut thief = Client::connect_as(door, who).await;
            let tries = [
                (Method::POST, LIST.to_owned()),
                (Method::POST, format!("[{LIST}]")),
                (Method::POST, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#.to_owned()),
                (Method::POST, r#"{"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}"#.to_owned()),
                (Method::GET, String::new()),
                (Method::DELETE, String::new()),
            ];
            for (method, body) in tries {
                let mut answers = Vec::new();
                for id in [&ann.id, &unknown] {
                    let headers = [
                        ("content-type", "application/json"),
                        ("accept", super::support::BOTH),
                        ("mcp-session-id", id.as_str()),
                    ];
                    let reply = thief
                        .send(method.clone(), path, &headers, body.clone())
                        .await;
                    assert_eq!(reply.status, 404, "{who:?} {method} {body}: {reply:?}");
                    answers.push(said(&reply));
                }
                assert_eq!(answers[0], answers[1], "nothing tells the two apart");
            }
        }
        assert_eq!(
            names(&ann.post(LIST).await.json()).len(),
            7,
            "{path}: it is there"
        );
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f256_an_old_clients_line_is_its_own() {
    let world = World::start([stdio("one", &[])]).await;
    let door = world.embedded().await;
    let mut stream = Client::connect_as(door, Some("ann")).await;
    let headers = [("accept", "text/event-stream")];
    let mut events = Events::of(stream.open(Method::GET, "/sse", &headers, "").await);
    let place = events.next().await.unwrap();
    let json = [("content-type", "application/json")];
    let ping = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;
    for who in OTHERS {
        let mut thief = Client::connect_as(door, who).await;
        let stolen = thief.send(Method::POST, &place, &json, ping).await;
        let unknown = format!("/messages?session_id={}", "0".repeat(32));
        let never = thief.send(Method::POST, &unknown, &json, ping).await;
        assert_eq!(stolen.status, 404);
        assert_eq!(said(&stolen), said(&never));
    }
    let mut ann = Client::connect_as(door, Some("ann")).await;
    assert_eq!(
        ann.send(Method::POST, &place, &json, ping).await.status,
        202
    );
    assert_eq!(
        events.json().await["id"],
        7,
        "the first thing that is said on it"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f256_the_state_of_a_parked_call_is_its_principals_alone() {
    const FORM: &str = r#"{"elicitation":{"form":{}}}"#;
    let servers = [
        per_user(stdio("own", &["--asks"])),
        stdio("all", &["--asks"]),
    ];
    let world = World::start(servers).await;
    let door = world.embedded().await;
    let question = json!({"method": "elicitation/create", "params": {"message": "secret of ann", "requestedSchema": {"type": "object", "properties": {}}}});
    let arguments = json!({"rounds": [[question]]});
    for (path, tool) in [
        ("/servers/own/mcp", "inquire"),
        ("/servers/all/mcp", "inquire"),
        ("/mcp", "own__inquire"),
        ("/mcp", "all__inquire"),
    ] {
        let mut ann = Client::connect_as(door, Some("ann")).await;
        let asked = ann
            .modern(path, &modern_call(1, tool, &arguments, "", FORM))
            .await
            .json();
        let result = &asked["result"];
        assert_eq!(result["resultType"], "input_required", "{path}: {asked}");
        let (key, _) = result["inputRequests"]
            .as_object()
            .unwrap()
            .iter()
            .next()
            .unwrap();
        let answers = json!({key: {"action": "accept", "content": {"of": "ann"}}});
        let more = format!(
            "\"inputResponses\":{answers},\"requestState\":{},",
            result["requestState"]
        );
        let retry = modern_call(2, tool, &arguments, &more, FORM);
        for who in OTHERS {
            let mut thief = Client::connect_as(door, who).await;
            let refused = thief.modern(path, &retry).await;
            let (_, code, _) = refused.error();
            assert_eq!(code, -32_602, "{refused:?}");
            assert!(
                refused.body.contains("none that was handed out here"),
                "{refused:?}"
            );
            assert!(!refused.body.contains("ann"), "{refused:?}");
        }
        let answer = ann.modern(path, &retry).await.json();
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.contains(r#""of":"ann""#), "{path}: {answer}");
    }
    assert_eq!(world.gateway.parked_count(), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f256_what_was_said_on_a_lost_stream_is_told_to_its_owner_only() {
    let server = HttpServer::start(Script::legacy()).await.unwrap();
    let world = World::start_with([ServerConfig::http("fake", server.url())], |settings| {
        settings.keep_alive_ms = 20;
    })
    .await;
    world
        .until("fake", |status| status.state == "connected")
        .await;
    let door = world.embedded().await;
    let mut ann = session(door, Some("ann"), "/mcp").await;
    let mut events = Events::of(ann.open_post(call(5, "fake__slow", json!({}))).await);
    let last = events.priming().await;
    let id = ann.id.clone();
    drop((events, ann));
    let called = || server.ledger().counts().calls.get("slow").copied();
    wait_until("the call is at the server", || called() == Some(1)).await;
    server.release();
    let mut bob = session(door, Some("bob"), "/mcp").await;
    let resume = |session: String| {
        [
            ("accept", "text/event-stream".to_owned()),
            ("mcp-session-id", session),
            ("last-event-id", last.clone()),
        ]
    };
    let stolen = resume(id.clone());
    let stolen: Vec<(&str, &str)> = stolen
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    assert_eq!(
        bob.client
            .send(Method::GET, "/mcp", &stolen, "")
            .await
            .status,
        404
    );
    // With a session of his own it names nothing that was ever said to him.
    let own = resume(bob.id.clone());
    let own: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, &**value)).collect();
    let told = bob.client.send(Method::GET, "/mcp", &own, "").await;
    assert!(!told.body.contains("result"), "{told:?}");
    let mut ann = Client::connect_as(door, Some("ann")).await;
    let mut resumed = Events::of(ann.open(Method::GET, "/mcp", &stolen, "").await);
    assert_eq!(resumed.json().await["id"], 5);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f256_each_user_is_served_by_a_process_of_its_own_in_either_era_and_everywhere() {
    let ledgers = tempfile::tempdir().unwrap();
    let ledger = ledgers.path().join("one");
    let own = per_user(stdio("one", &["--ledger", ledger.to_str().unwrap()]));
    let world = World::start([own, stdio("two", &[])]).await;
    let door = world.embedded().await;
    let mut whose: BTreeMap<Option<&str>, BTreeSet<u32>> = BTreeMap::new();
    let mut number = 0;
    for who in [None, Some("ann"), Some("bob"), Some("ann")] {
        for (path, tool) in [
            ("/mcp", "one__add_marker"),
            ("/servers/one/mcp", "add_marker"),
        ] {
            let mut legacy = session(door, who, path).await;
            let mut client = Client::connect_as(door, who).await;
            for is_modern in [false, true] {
                number += 1;
                let marker = format!("m{number}");
                let arguments = json!({"marker": marker});
                let answer = if is_modern {
                    let body = modern_call(number, tool, &arguments, "", "{}");
                    client.modern(path, &body).await.json()
                } else {
                    legacy.post(call(number, tool, arguments)).await.json()
                };
                assert_eq!(answer["result"]["content"][0]["text"], marker, "{answer}");
                let by = executed(&ledger)[&marker];
                whose.entry(who).or_default().insert(by);
            }
            let listed = names(&legacy.post(LIST).await.json());
            assert!(
                listed.iter().any(|name| tool == name),
                "{who:?} {path}: {listed:?}"
            );
        }
    }
    let all: BTreeSet<u32> = whose.values().flatten().copied().collect();
    assert!(whose.values().all(|pids| pids.len() == 1), "{whose:?}");
    assert_eq!(all.len(), 3, "{whose:?}");
    // Only operators see whose a connection or a call is.
    let status = world.manager.server("one").unwrap().status();
    let principals: BTreeSet<_> = status
        .connections
        .iter()
        .map(|one| one.principal.clone())
        .collect();
    assert_eq!(
        principals,
        BTreeSet::from([Some("ann".to_owned()), Some("bob".to_owned())])
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f211_what_a_user_is_listed_is_private_and_its_own() {
    let world = World::start([per_user(stdio("one", &["--more-if-declared"]))]).await;
    let door = world.embedded().await;
    const SAMPLING: &str = r#"{"sampling":{}}"#;
    for (path, extra) in [
        ("/mcp", "one__with_sampling"),
        ("/servers/one/mcp", "with_sampling"),
    ] {
        let client = Client::connect_as(door, Some("ann")).await;
        let mut ann = Session::open_as(client, path, "2025-11-25", SAMPLING).await;
        let listed = names(&ann.post(LIST).await.json());
        assert!(listed.iter().any(|name| name == extra), "{listed:?}");
        for who in OTHERS {
            let mut other = session(door, who, path).await;
            let listed = names(&other.post(LIST).await.json());
            assert!(
                listed.iter().all(|name| name != extra),
                "{who:?}: {listed:?}"
            );
        }
        let mut client = Client::connect_as(door, Some("ann")).await;
        let listed = client
            .modern(path, &modern("1", "tools/list", ""))
            .await
            .json();
        assert_eq!(listed["result"]["cacheScope"], "private", "{listed}");
    }
    world.end().await;
}

/// Clients of one kind may share what they see; people who each have a server of their own never do.
#[tokio::test(flavor = "multi_thread")]
async fn f256_what_ones_own_server_lists_is_listed_to_nobody_else() {
    let world = World::start([per_user(stdio("one", &[]))]).await;
    let door = world.embedded().await;
    for (path, prefix) in [("/mcp", "one__"), ("/servers/one/mcp", "")] {
        let mut all = Vec::new();
        for who in [Some("ann"), Some("bob")] {
            let mut one = session(door, who, path).await;
            let own = format!("of_{}", who.unwrap());
            let names = json!({"names": ["set_tools", own]});
            let set = one
                .post(call(2, &format!("{prefix}set_tools"), names))
                .await;
            assert!(set.json()["result"].is_object(), "{set:?}");
            all.push((who, one, format!("{prefix}{own}")));
        }
        for (who, one, own) in &mut all {
            let mut client = Client::connect_as(door, *who).await;
            let deadline = tokio::time::Instant::now() + PATIENCE;
            loop {
                let legacy = names(&one.post(LIST).await.json());
                let modern = client.modern(path, &modern("3", "tools/list", "")).await;
                let both = [legacy, names(&modern.json())];
                if both.iter().all(|listed| listed.contains(own)) {
                    let foreign = |name: &String| name.contains("of_") && name != own;
                    assert!(!both.iter().flatten().any(foreign), "{who:?}: {both:?}");
                    break;
                }
                assert!(
                    tokio::time::Instant::now() < deadline,
                    "{who:?} is not listed its own: {both:?}"
                );
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        let mut nobody = session(door, None, path).await;
        let listed = names(&nobody.post(LIST).await.json());
        assert!(
            listed.iter().all(|name| !name.contains("of_")),
            "{listed:?}"
        );
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_22_where_nobody_is_a_user_sees_what_may_be_seen_and_is_told_the_rest_at_once() {
    // It starts for nobody; the other one is well.
    let mut dead = per_user(ServerConfig::stdio("dead", "/nonexistent/program"));
    dead.restart.budget = 0;
    let world = World::start_with([dead, stdio("well", &[])], |_| {}).await;
    world.until("dead", |status| status.state == "parked").await;
    world
        .until("well", |status| status.state == "connected")
        .await;
    let door = world.embedded().await;
    for who in [None, Some("ann")] {
        let mut all = session(door, who, "/mcp").await;
        let listed = names(&all.post(LIST).await.json());
        assert!(
            listed.iter().all(|name| name.starts_with("well__")) && !listed.is_empty(),
            "{listed:?}"
        );
        let mut one = session(door, who, "/servers/dead/mcp").await;
        let answer = one.post(LIST).await.json();
        let error = &answer["error"];
        assert_eq!(error["data"]["state"], "parked", "{who:?}: {answer}");
        assert!(error["data"]["hint"].is_string(), "{who:?}: {answer}");
        let called = all.post(call(2, "dead__tool", json!({}))).await.json();
        assert_eq!(
            called["error"]["data"]["state"], "parked",
            "{who:?}: {called}"
        );
    }
    world.end().await;
}

/// A server that answers calls with tasks, and keeps no users apart: that is what the gateway is for.
async fn tasks_server() -> (String, Arc<Mutex<Vec<String>>>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&asked);
    let running = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let heard = Arc::clone(&heard);
            let service = service_fn(move |request: Request<Incoming>| {
                let heard = Arc::clone(&heard);
                async move { Ok::<_, Infallible>(task_answer(request, &heard).await) }
            });
            let builder = hyper::server::conn::http1::Builder::new();
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move { drop(connection.await) });
        }
    });
    (url, asked, running)
}

async fn task_answer(
    request: Request<Incoming>,
    heard: &Mutex<Vec<String>>,
) -> Response<Full<Bytes>> {
    let reply = |status: u16, body: String| {
        let reply = Response::builder()
            .status(status)
            .header("content-type", "application/json");
        reply
            .header("mcp-session-id", "shared")
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    };
    if request.method() != Method::POST {
        return reply(405, String::new());
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let message: Value = serde_json::from_slice(&body).unwrap();
    let method = message["method"].as_str().unwrap_or_default();
    let result = match method {
        "initialize" => {
            json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "tasks": {"list": {}, "cancel": {}}}, "serverInfo": {"name": "t", "version": "1"}})
        }
        "tools/list" => json!({"tools": [{"name": "begin", "inputSchema": {"type": "object"}}]}),
        "tools/call" => {
            json!({"task": {"taskId": format!("task-{}", message["params"]["arguments"]["n"]), "status": "working"}})
        }
        "tasks/get" | "tasks/result" | "tasks/cancel" => {
            heard.lock().unwrap().push(format!(
                "{method} {}",
                message["params"]["taskId"].as_str().unwrap()
            ));
            json!({"taskId": message["params"]["taskId"], "status": "working", "secret": "of its owner"})
        }
        "tasks/list" => json!({"tasks": [{"taskId": "task-1", "status": "working"}]}),
        "ping" => json!({}),
        _ if message["id"].is_null() => return reply(202, String::new()),
        _ => {
            let error = json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no"}});
            return reply(200, error.to_string());
        }
    };
    reply(
        200,
        json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn f256_a_task_on_a_shared_connection_is_its_principals_alone() {
    let (url, asked, running) = tasks_server().await;
    let mut config = ServerConfig::http("t", url);
    config.protocol = mainstay::config::Protocol::Legacy;
    let world = World::start([config]).await;
    let door = world.embedded().await;
    let about = |method: &str, id: &str| {
        json!({"jsonrpc": "2.0", "id": 9, "method": method, "params": {"taskId": id}}).to_string()
    };
    for (number, (path, tool)) in [("/servers/t/mcp", "begin"), ("/mcp", "t__begin")]
        .into_iter()
        .enumerate()
    {
        let task = format!("task-{number}");
        let mut ann = session(door, Some("ann"), path).await;
        let begun = ann.post(call(1, tool, json!({"n": number}))).await.json();
        assert_eq!(begun["result"]["task"]["taskId"], task, "{begun}");
        let before = asked.lock().unwrap().len();
        for who in OTHERS {
            let mut thief = session(door, who, path).await;
            for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
                let refused = thief.post(about(method, &task)).await.json();
                assert_eq!(
                    refused["error"]["message"],
                    format!("Unknown task: {task}"),
                    "{who:?}: {refused}"
                );
            }
            let all = thief
                .post(r#"{"jsonrpc":"2.0","id":9,"method":"tasks/list"}"#)
                .await
                .json();
            assert_eq!(all["error"]["code"], -32_601, "{who:?}: {all}");
        }
        assert_eq!(
            asked.lock().unwrap().len(),
            before,
            "none of it has reached the server"
        );
        for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
            let answer = ann.post(about(method, &task)).await.json();
            assert_eq!(answer["result"]["secret"], "of its owner", "{answer}");
        }
    }
    tokio::time::timeout(PATIENCE, world.end()).await.unwrap();
    running.abort();
}
