//! Between the eras: what a client of one gets from a server of the other.

use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::json;

use super::legacy::answer_with;
use super::support::{World, modern};

const META: &str = "io.modelcontextprotocol/";

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_server_is_a_complete_modern_one() {
    let server = HttpServer::start(Script::legacy()).await.unwrap();
    let world = World::start([ServerConfig::http("old", server.url())]).await;
    let mut client = world.client().await;
    for path in ["/mcp", "/servers/old/mcp"] {
        let read = modern("1", "resources/read", "\"uri\":\"file:///fixed\",");
        answer_with(
            &server,
            "resources/read",
            r#"{"jsonrpc":"2.0","id":$ID,"result":{"contents":[{"uri":"file:///fixed","text":"t"}],"x":1.10}}"#,
        );
        let reply = client.modern(path, &read).await;
        assert!(reply.body.contains("\"x\":1.10"));
        let result = &reply.json()["result"];
        assert_eq!(
            (
                &result["resultType"],
                &result["ttlMs"],
                &result["cacheScope"]
            ),
            (&json!("complete"), &json!(0), &json!("private"))
        );
        assert!(
            result["_meta"][format!("{META}serverInfo")]["name"].is_string(),
            "{result}"
        );
        answer_with(
            &server,
            "resources/read",
            r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32002,"message":"no","data":{"uri":"file:///fixed"}}}"#,
        );
        let reply = client.modern(path, &read).await;
        assert_eq!(reply.error(), (400, -32602, json!(1)), "{}", reply.body);
        assert_eq!(reply.json()["error"]["data"]["uri"], "file:///fixed");
        answer_with(
            &server,
            "resources/read",
            r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32042,"message":"url","data":{"elicitations":[{"mode":"url","elicitationId":"e","url":"https://x","message":"m"}]}}}"#,
        );
        assert_eq!(
            client.modern(path, &read).await.error(),
            (400, -32_021, json!(1)),
            "this client cannot be sent to an address"
        );
    }
    // Nothing modern reached the server.
    for seen in server.ledger().seen_of("resources/read") {
        assert!(!seen.body.contains(META), "{}", seen.body);
        assert_eq!(seen.header("mcp-method"), None);
    }
    let face = client
        .modern("/servers/old/mcp", &modern("1", "server/discover", ""))
        .await
        .json();
    assert_eq!(face["result"]["supportedVersions"], json!(["2026-07-28"]));
    assert!(
        face["result"]["capabilities"]["tools"]["listChanged"] == json!(true),
        "{face}"
    );
    assert!(
        face["result"]["capabilities"]["resources"]
            .get("subscribe")
            .is_none(),
        "{face}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_server_is_a_complete_legacy_one() {
    let server = HttpServer::start(Script::modern()).await.unwrap();
    let world = World::start([ServerConfig::http("new", server.url())]).await;
    for (path, prefix) in [("/mcp", "new__"), ("/servers/new/mcp", "")] {
        let mut session = world.session(path).await;
        assert_eq!(session.opened["protocolVersion"], "2025-11-25");
        assert!(session.opened["serverInfo"]["name"].is_string());
        answer_with(
            &server,
            "resources/read",
            r#"{"jsonrpc":"2.0","id":$ID,"result":{"resultType":"complete","contents":[1.10],"ttlMs":9,"cacheScope":"public"}}"#,
        );
        let read = r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///fixed"}}"#;
        assert_eq!(
            session.post(read).await.body,
            r#"{"jsonrpc":"2.0","id":1,"result":{"contents":[1.10]}}"#
        );
        answer_with(
            &server,
            "resources/read",
            r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32602,"message":"no","data":{"uri":"file:///fixed"}}}"#,
        );
        assert_eq!(session.post(read).await.error(), (200, -32002, json!(1)));
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{prefix}echo","arguments":{{}}}}}}"#
        );
        answer_with(
            &server,
            "tools/call",
            r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[],"structuredContent":[1],"resultType":"complete"}}"#,
        );
        assert_eq!(
            session.post(call.clone()).await.body,
            r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#
        );
        answer_with(
            &server,
            "tools/call",
            r#"{"jsonrpc":"2.0","id":$ID,"result":{"resultType":"input_required","requestState":"s"}}"#,
        );
        let reply = session.post(call).await;
        assert_eq!(reply.json()["result"]["isError"], false, "{reply:?}");
        let seen = server.ledger().seen_of("tools/call").pop().unwrap();
        assert!(
            seen.body.contains("\"requestState\":\"s\""),
            "it only wanted to be called again: {}",
            seen.body
        );
        assert!(
            seen.body
                .contains("\"io.modelcontextprotocol/clientCapabilities\":{}"),
            "nothing is declared in the client's name"
        );
        assert!(
            seen.body.contains(
                "\"io.modelcontextprotocol/clientInfo\":{\"name\":\"t\",\"version\":\"1\"}"
            ),
            "{}",
            seen.body
        );
    }
    world.end().await;
}
