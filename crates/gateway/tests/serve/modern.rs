//! Clients of the modern era: the ladder of checks, and stateless requests.

use http::{Method, StatusCode};
use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::{Value, json};

use super::legacy::answer_with;
use super::support::{BOTH, Events, MODERN, World, modern, modern_headers, stdio, wait_until};

fn call(id: &str, tool: &str, arguments: &str) -> String {
    modern(
        id,
        "tools/call",
        &format!("\"name\":\"{tool}\",\"arguments\":{arguments},"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn discover_list_and_call_on_both_endpoints() {
    let world = World::start([stdio("one", &[]), stdio("two", &["--era", "modern"])]).await;
    let mut client = world.client().await;
    let found = client
        .modern("/mcp", &modern("\"d\"", "server/discover", ""))
        .await;
    assert_eq!(found.status, StatusCode::OK);
    assert!(found.header("mcp-session-id").is_none());
    let found = found.json();
    assert_eq!(found["id"], "d");
    assert_eq!(found["result"]["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(
        found["result"]["capabilities"]["tools"],
        json!({"listChanged": true})
    );
    for (member, value) in [
        ("resultType", json!("complete")),
        ("ttlMs", json!(0)),
        ("cacheScope", json!("private")),
    ] {
        assert_eq!(found["result"][member], value);
    }
    assert_eq!(
        found["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
        "mainstay"
    );
    for (method, key) in [
        ("tools/list", "tools"),
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ] {
        for path in ["/mcp", "/servers/two/mcp"] {
            let listed = client.modern(path, &modern("1", method, "")).await.json();
            let result = &listed["result"];
            assert!(result[key].is_array(), "{listed}");
            assert_eq!(
                (
                    &result["resultType"],
                    &result["ttlMs"],
                    &result["cacheScope"]
                ),
                (&json!("complete"), &json!(0), &json!("private"))
            );
            assert!(
                result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"].is_string(),
                "{listed}"
            );
        }
    }
    for (path, tool) in [
        ("/mcp", "one__echo"),
        ("/mcp", "two__echo"),
        ("/servers/one/mcp", "echo"),
        ("/servers/two/mcp", "echo"),
    ] {
        let reply = client
            .modern(path, &call("7", tool, "{\"text\":\"x\"}"))
            .await;
        assert_eq!(
            (reply.status.as_u16(), reply.json()["id"].clone()),
            (200, json!(7))
        );
        let result = &reply.json()["result"];
        assert_eq!(
            (&result["resultType"], &result["content"][0]["text"]),
            (&json!("complete"), &json!("x"))
        );
        assert!(result.get("ttlMs").is_none(), "no cache hints on calls");
    }
    assert_eq!(world.gateway.session_count(), 0, "stateless");
    world.end().await;
}

/// One rung of the ladder: which headers to send instead of the right ones, the body, and what must come.
struct Rung {
    what: &'static str,
    change: &'static [(&'static str, Option<&'static str>)],
    body: String,
    status: u16,
    code: i64,
}

fn rung(
    what: &'static str,
    change: &'static [(&'static str, Option<&'static str>)],
    body: String,
    status: u16,
    code: i64,
) -> Rung {
    Rung {
        what,
        change,
        body,
        status,
        code,
    }
}

fn rungs() -> Vec<Rung> {
    let echo = || call("1", "one__echo", "{}");
    let meta = |meta: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{meta}}}}}"#)
    };
    let version = |version: &str| {
        meta(&format!(
            r#"{{"io.modelcontextprotocol/protocolVersion":{version},"io.modelcontextprotocol/clientCapabilities":{{}}}}"#
        ))
    };
    vec![
        rung("good", &[], echo(), 200, 0),
        rung(
            "no Mcp-Method",
            &[("mcp-method", None)],
            echo(),
            400,
            -32020,
        ),
        rung(
            "other Mcp-Method",
            &[("mcp-method", Some("tools/list"))],
            echo(),
            400,
            -32020,
        ),
        rung(
            "Mcp-Method in another case",
            &[("mcp-method", Some("Tools/Call"))],
            echo(),
            400,
            -32020,
        ),
        rung("no Mcp-Name", &[("mcp-name", None)], echo(), 400, -32020),
        rung(
            "other Mcp-Name",
            &[("mcp-name", Some("one__slow"))],
            echo(),
            400,
            -32020,
        ),
        rung(
            "Mcp-Name in Base64",
            &[("mcp-name", Some("=?base64?b25lX19lY2hv?="))],
            echo(),
            200,
            0,
        ),
        rung(
            "broken Base64",
            &[("mcp-name", Some("=?base64?b25lX19lY2h?="))],
            echo(),
            400,
            -32020,
        ),
        rung(
            "name missing in the body",
            &[("mcp-name", None)],
            modern("1", "tools/call", ""),
            400,
            -32602,
        ),
        rung(
            "header of another version",
            &[("mcp-protocol-version", Some("2099-01-01"))],
            echo(),
            400,
            -32020,
        ),
        rung(
            "no version header",
            &[("mcp-protocol-version", None)],
            echo(),
            400,
            -32020,
        ),
        rung(
            "a legacy version header",
            &[("mcp-protocol-version", Some("2025-11-25"))],
            echo(),
            400,
            -32020,
        ),
        rung(
            "both of an unknown version",
            &[("mcp-protocol-version", Some("2099-01-01"))],
            version("\"2099-01-01\""),
            400,
            -32022,
        ),
        rung("version no string", &[], version("7"), 400, -32602),
        rung(
            "no _meta",
            &[],
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.to_owned(),
            400,
            -32602,
        ),
        rung(
            "_meta without version",
            &[],
            meta(r#"{"io.modelcontextprotocol/clientCapabilities":{}}"#),
            400,
            -32602,
        ),
        rung(
            "_meta without capabilities",
            &[],
            meta(r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#),
            400,
            -32602,
        ),
        rung(
            "capabilities no object",
            &[],
            meta(
                r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":[]}"#,
            ),
            400,
            -32602,
        ),
        rung(
            "missing _meta before a wrong header",
            &[("mcp-method", Some("x"))],
            meta("{}"),
            400,
            -32602,
        ),
        rung(
            "unknown method",
            &[],
            modern("1", "no/such", ""),
            404,
            -32601,
        ),
        rung("ping", &[], modern("1", "ping", ""), 404, -32601),
        rung(
            "initialize with metadata",
            &[],
            modern("1", "initialize", ""),
            404,
            -32601,
        ),
        rung(
            "initialize without",
            &[],
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#.to_owned(),
            400,
            -32602,
        ),
        rung(
            "setLevel",
            &[],
            modern("1", "logging/setLevel", "\"level\":\"debug\","),
            404,
            -32601,
        ),
        rung(
            "subscribe",
            &[],
            modern("1", "resources/subscribe", "\"uri\":\"x:y\","),
            404,
            -32601,
        ),
        rung(
            "unknown tool",
            &[],
            call("1", "one__nope", "{}"),
            400,
            -32602,
        ),
        rung(
            "unknown prompt",
            &[],
            modern("1", "prompts/get", "\"name\":\"nope\","),
            400,
            -32602,
        ),
        rung(
            "unknown resource",
            &[],
            modern("1", "resources/read", "\"uri\":\"x:y\","),
            400,
            -32602,
        ),
        rung(
            "unknown cursor",
            &[],
            modern("1", "tools/list", "\"cursor\":\"2\","),
            400,
            -32602,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ladder_of_checks() {
    let world = World::start([stdio("one", &[])]).await;
    let mut client = world.client().await;
    for rung in rungs() {
        let mut headers = modern_headers(&rung.body);
        for (name, value) in rung.change {
            headers.retain(|(known, _)| known != name);
            headers.extend(value.map(|value| (*name, value.to_owned())));
        }
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let reply = client.post("/mcp", &headers, rung.body).await;
        assert_eq!(
            reply.error(),
            (rung.status, rung.code, json!(1)),
            "{}: {}",
            rung.what,
            reply.body
        );
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_errors_say_beyond_their_code() {
    let world = World::start([stdio("one", &[])]).await;
    let mut client = world.client().await;
    let version = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2099-01-01","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let headers = [
        ("mcp-protocol-version", "2099-01-01"),
        ("mcp-method", "tools/list"),
    ];
    let reply = client.post("/mcp", &headers, version).await.json();
    assert_eq!(
        reply["error"]["data"],
        json!({"supported": ["2026-07-28"], "requested": "2099-01-01"})
    );
    let reply = client
        .modern("/mcp", &modern("1", "resources/read", "\"uri\":\"x:y\","))
        .await
        .json();
    assert_eq!(reply["error"]["data"], json!({"uri": "x:y"}));
    let doubled = [
        ("mcp-protocol-version", MODERN),
        ("mcp-method", "tools/list"),
        ("mcp-method", "tools/list"),
    ];
    let reply = client
        .post("/mcp", &doubled, modern("1", "tools/list", ""))
        .await;
    assert_eq!(reply.error(), (400, -32020, json!(1)));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request() {
    let world = World::start([]).await;
    let mut client = world.client().await;
    let head = [("mcp-protocol-version", MODERN)];
    let notice = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let reply = client.post("/mcp", &head, notice).await;
    assert_eq!((reply.status.as_u16(), reply.body.as_str()), (202, ""));
    let reply = client
        .post("/mcp", &[("mcp-protocol-version", "2099-01-01")], notice)
        .await;
    assert_eq!(reply.error(), (400, -32022, Value::Null));
    let reply = client
        .post("/mcp", &head, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)
        .await;
    assert_eq!(reply.error(), (400, -32600, Value::Null));
    let reply = client
        .post(
            "/mcp",
            &head,
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        )
        .await;
    assert_eq!(reply.error(), (400, -32600, Value::Null));
    let reply = client.post("/mcp", &head, "{").await;
    assert_eq!(reply.error(), (400, -32700, Value::Null));
    let reply = client
        .post(
            "/mcp",
            &head,
            r#"{"jsonrpc":"2.0","id":null,"method":"tools/list"}"#,
        )
        .await;
    assert_eq!(reply.error(), (400, -32600, Value::Null));
    for method in [Method::GET, Method::DELETE] {
        let reply = client
            .send(
                method,
                "/mcp",
                &[("mcp-protocol-version", MODERN), ("accept", BOTH)],
                "",
            )
            .await;
        assert_eq!(
            (
                reply.status.as_u16(),
                reply.header("allow"),
                reply.body.as_str()
            ),
            (405, Some("POST"), "")
        );
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn session_headers_mean_nothing() {
    let world = World::start([stdio("one", &[])]).await;
    let session = world.session("/mcp").await;
    let mut client = world.client().await;
    let body = modern("1", "tools/list", "");
    for id in [session.id.as_str(), "nonsense"] {
        let headers = [
            ("mcp-protocol-version", MODERN),
            ("mcp-method", "tools/list"),
            ("mcp-session-id", id),
        ];
        let reply = client.post("/mcp", &headers, body.clone()).await;
        assert_eq!(reply.json()["result"]["resultType"], "complete");
        assert!(reply.header("mcp-session-id").is_none());
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_made_from_arguments_are_compared() {
    let server = HttpServer::start(Script::modern()).await.unwrap();
    let tools = r#"{"tools":[{"name":"t","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"N"}}}}],"resultType":"complete","ttlMs":0,"cacheScope":"private"}"#;
    answer_with(
        &server,
        "tools/list",
        &format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{tools}}}"#),
    );
    let world = World::start([ServerConfig::http("fake", server.url())]).await;
    let mut client = world.client().await;
    let body = |arguments: &str| call("1", "fake__t", arguments);
    for (arguments, headers, code) in [
        (
            r#"{"region":"eu","n":42}"#,
            vec![("mcp-param-region", "eu"), ("mcp-param-n", "42.0")],
            0,
        ),
        (r#"{"region":"eu"}"#, vec![("mcp-param-region", "eu")], 0),
        (
            r#"{"region":"eu","n":null}"#,
            vec![
                ("mcp-param-region", "=?base64?ZXU=?="),
                ("mcp-param-other", "x"),
            ],
            0,
        ),
        (r#"{"region":"eu"}"#, vec![], -32020),
        (
            r#"{"region":"eu"}"#,
            vec![("mcp-param-region", "us")],
            -32020,
        ),
        (
            r#"{"region":"eu"}"#,
            vec![("mcp-param-region", "eu"), ("mcp-param-region", "eu")],
            -32020,
        ),
        (r#"{}"#, vec![("mcp-param-n", "1")], -32020),
    ] {
        let body = body(arguments);
        let known = modern_headers(&body);
        let mut all: Vec<(&str, &str)> = known
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        all.extend(&headers);
        answer_with(
            &server,
            "tools/call",
            r#"{"jsonrpc":"2.0","id":$ID,"result":{"resultType":"complete","content":[]}}"#,
        );
        let reply = client.post("/mcp", &all, body).await;
        let status = if code == 0 { 200 } else { 400 };
        assert_eq!(
            reply.error(),
            (status, code, json!(1)),
            "{arguments} {headers:?}: {}",
            reply.body
        );
        server.change(|script| script.plan.clear());
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_era_everything_passes_untouched() {
    let server = HttpServer::start(Script::modern()).await.unwrap();
    let world = World::start([ServerConfig::http("fake", server.url())]).await;
    let mut client = world.client().await;
    let result = r#"{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"x":1.10}}},"requestState":"s"}"#;
    answer_with(
        &server,
        "tools/call",
        &format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{result}}}"#),
    );
    let reply = client
        .modern("/mcp", &call("\"q\"", "fake__echo", "{}"))
        .await;
    assert_eq!(
        reply.body,
        format!(r#"{{"jsonrpc":"2.0","id":"q","result":{result}}}"#)
    );
    // The retry with its answers reaches the server, with what the client declared.
    let retry = modern("2", "tools/call", r#""name":"fake__echo","inputResponses":{"k":{"action":"accept","content":{"n":1.10}}},"requestState":"s","#)
        .replace("\"io.modelcontextprotocol/clientCapabilities\":{}", "\"io.modelcontextprotocol/clientCapabilities\":{\"elicitation\":{}}");
    client.modern("/mcp", &retry).await;
    let seen = server.ledger().seen_of("tools/call").remove(1);
    assert!(
        seen.body.contains(
            r#""inputResponses":{"k":{"action":"accept","content":{"n":1.10}}},"requestState":"s""#
        ),
        "{}",
        seen.body
    );
    assert!(
        seen.body
            .contains(r#""io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}"#),
        "{}",
        seen.body
    );
    assert_eq!(
        seen.header("mcp-name"),
        Some("echo"),
        "the server's own name"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_servers_get_their_status() {
    let server = HttpServer::start(Script::modern()).await.unwrap();
    let world = World::start([ServerConfig::http("fake", server.url())]).await;
    let mut client = world.client().await;
    for (code, status) in [
        (-32601, 404),
        (-32602, 400),
        (-32603, 200),
        (-32021, 400),
        (17, 200),
    ] {
        answer_with(
            &server,
            "tools/call",
            &format!(
                r#"{{"jsonrpc":"2.0","id":$ID,"error":{{"code":{code},"message":"m","data":{{"v":1.10}}}}}}"#
            ),
        );
        let reply = client.modern("/mcp", &call("1", "fake__echo", "{}")).await;
        assert_eq!(reply.error(), (status, code, json!(1)));
        assert!(reply.body.contains("\"data\":{\"v\":1.10}"));
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_18_a_disconnect_cancels() {
    let server = HttpServer::start(Script::modern()).await.unwrap();
    let world = World::start([ServerConfig::http("fake", server.url())]).await;
    let mut client = world.client().await;
    let slow =
        tokio::spawn(async move { client.modern("/mcp", &call("1", "fake__slow", "{}")).await });
    wait_until("the call is at the server", || {
        server.ledger().counts().calls.contains_key("slow")
    })
    .await;
    slow.abort();
    assert!(slow.await.unwrap_err().is_cancelled());
    wait_until("the server is told", || {
        server.ledger().counts().disconnects > 0
    })
    .await;
    let fake = world.manager.server("fake").unwrap();
    wait_until("the call is gone", || fake.status().in_flight == 0).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_comes_on_the_stream_of_its_request() {
    let world = World::start([stdio("one", &[])]).await;
    let mut client = world.client().await;
    let body = call("\"p\"", "one__progress", "{\"steps\":2}")
        .replace("\"_meta\":{", "\"_meta\":{\"progressToken\":\"pt\",");
    let headers = modern_headers(&body);
    let mut all = vec![("content-type", "application/json"), ("accept", BOTH)];
    all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
    let response = client.open(Method::POST, "/mcp", &all, body).await;
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    assert_eq!(
        response.headers()["cache-control"],
        "no-cache, no-transform"
    );
    let mut events = Events::of(response);
    for step in 1..=2 {
        let event = events.json().await;
        assert_eq!(
            (
                &event["params"]["progressToken"],
                &event["params"]["progress"]
            ),
            (&json!("pt"), &json!(step))
        );
    }
    let last = events.json().await;
    assert_eq!(
        (&last["id"], &last["result"]["resultType"]),
        (&json!("p"), &json!("complete"))
    );
    assert_eq!(events.next().await, None);
    world.end().await;
}
