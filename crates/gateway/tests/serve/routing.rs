//! Where requests on the aggregate go, besides tools.

use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::json;

use super::legacy::answer_with;
use super::support::{World, stdio};

fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_resources_and_completions_find_their_server() {
    let (one, two) = (
        HttpServer::start(Script::legacy()).await.unwrap(),
        HttpServer::start(Script::modern()).await.unwrap(),
    );
    let unique = r#"{"jsonrpc":"2.0","id":$ID,"result":{"resultType":"complete","resources":[{"uri":"two:only","name":"r"}],"ttlMs":0,"cacheScope":"private"}}"#;
    answer_with(&two, "resources/list", unique);
    let world = World::start([
        ServerConfig::http("one", one.url()),
        ServerConfig::http("two", two.url()),
    ])
    .await;
    let mut session = world.session("/mcp").await;
    let prompts = session.post(request("prompts/list", "{}")).await;
    assert!(
        prompts.body.contains("one__greet") && prompts.body.contains("two__greet"),
        "{}",
        prompts.body
    );
    let answer = r#"{"jsonrpc":"2.0","id":$ID,"result":{"yes":1.10}}"#;
    for (server, method, params, sent) in [
        (
            &one,
            "prompts/get",
            r#"{"name":"one__greet"}"#,
            r#"{"name":"greet"}"#,
        ),
        (
            &one,
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","name":"one__greet"},"argument":{"name":"a","value":"v"}}"#,
            r#"{"ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"a","value":"v"}}"#,
        ),
        (
            &one,
            "resources/read",
            r#"{"uri":"file:///fixed"}"#,
            r#"{"uri":"file:///fixed"}"#,
        ),
        (
            &two,
            "resources/read",
            r#"{"uri":"two:only"}"#,
            r#"{"uri":"two:only","#,
        ),
    ] {
        answer_with(server, method, answer);
        let reply = session.post(request(method, params)).await;
        assert_eq!(
            reply.body,
            r#"{"jsonrpc":"2.0","id":1,"result":{"yes":1.10}}"#
        );
        let seen = server.ledger().seen_of(method).pop().unwrap();
        assert!(
            seen.body.contains(&format!("\"params\":{sent}")),
            "{}",
            seen.body
        );
    }
    for params in [
        r#"{"ref":{"type":"ref/prompt","name":"greet"},"argument":{}}"#,
        r#"{"ref":{"type":"ref/resource","uri":"no:such"},"argument":{}}"#,
        r#"{"ref":{"type":"other"}}"#,
        "{}",
    ] {
        let reply = session.post(request("completion/complete", params)).await;
        assert_eq!(reply.error(), (200, -32602, json!(1)), "{params}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_f13_many_clients_share_one_process_and_a_start_is_one_spawn() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    let world = World::start([stdio("one", &["--ledger", ledger.to_str().unwrap()])]).await;
    for path in ["/mcp", "/servers/one/mcp", "/mcp"] {
        let mut session = world.session(path).await;
        let name = if path == "/mcp" { "one__echo" } else { "echo" };
        let params = format!(r#"{{"name":"{name}","arguments":{{"text":"shared"}}}}"#);
        let answer = session.post(request("tools/call", &params)).await;
        assert!(answer.body.contains("shared"), "{}", answer.body);
    }
    world.end().await;
    let text = std::fs::read_to_string(&ledger).unwrap();
    let count = |event: &str| text.lines().filter(|line| line.contains(event)).count();
    assert_eq!((count(" spawn "), count(" initialize ")), (1, 1), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_19_many_calls_at_once_each_get_their_own_answer() {
    let world = World::start([stdio("one", &[])]).await;
    let session = world.session("/mcp").await;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..16 {
        let mut session = session.twin().await;
        callers.spawn(async move {
            for round in 0..20 {
                // The same ids everywhere: they are the client's own, and one session may use several connections.
                let text = format!("{caller}-{round}");
                let call = request(
                    "tools/call",
                    &format!(r#"{{"name":"one__echo","arguments":{{"text":"{text}"}}}}"#),
                );
                let reply = session.post(call).await.json();
                assert_eq!(reply["result"]["content"][0]["text"], text);
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    let status = world.manager.server("one").unwrap().status();
    assert_eq!((status.counts.answered, status.in_flight), (320, 0));
    world.end().await;
}
