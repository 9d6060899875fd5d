//! Tools that are searched for instead of listed: a client that takes only so many can use all of them.

use std::path::Path;

use mainstay::config::{Config, ServerConfig};
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::{Value, json};

use super::support::{Session, World, modern, modern_headers, stdio, wait_until};

/// Most tools that the client takes.
const TOOLS_MAX: usize = 40;
const META: [&str; 3] = ["call_tool", "describe_tool", "search_tools"];

async fn world(servers: impl IntoIterator<Item = ServerConfig>, mainstay: &Value) -> World {
    let text = json!({ "mcpServers": {}, "mainstay": mainstay }).to_string();
    let mut config = Config::parse(&text, Path::new("mcp.json")).unwrap().config;
    config.servers = Config::from_servers(servers).servers;
    let world = World::of(config, None, |_| {}).await;
    for server in world.manager.servers() {
        world
            .until(server.name(), |status| status.state == "connected")
            .await;
    }
    world
}

fn call(name: &str, arguments: &Value) -> String {
    let params = json!({"name": name, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).to_string()
}

async fn listed(session: &mut Session) -> Vec<String> {
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let listed = session.post(list).await.json();
    let tools = listed["result"]["tools"].as_array().unwrap().iter();
    tools
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The structured answer, which stands in the text too.
async fn told(session: &mut Session, tool: &str, arguments: Value) -> Value {
    let said = session.post(call(tool, &arguments)).await.json();
    let result = &said["result"];
    let text = result["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("{said}"));
    if result["isError"] == true {
        return json!(text);
    }
    assert_eq!(
        serde_json::from_str::<Value>(text).unwrap(),
        result["structuredContent"]
    );
    result["structuredContent"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_limit_of_40_tools_uses_2000() {
    let mut script = Script::legacy();
    let tool = |number: usize| {
        json!({"name": format!("task_{number}"), "title": format!("Task number {number}"),
            "description": format!("Does the work of task {number} of the warehouse"),
            "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}})
    };
    script.raw_tools = (0..2_000).map(tool).collect();
    let server = HttpServer::start(script).await.unwrap();
    let mainstay = json!({"discovery": "search"});
    let world = world([ServerConfig::http("hub", server.url())], &mainstay).await;
    assert!(world.manager.publication().tools.items.len() >= 2_000);
    let mut session = world.session("/mcp").await;
    let advice = session.opened["instructions"].as_str().unwrap();
    assert!(advice.contains("search_tools"), "{advice}");
    let names = listed(&mut session).await;
    assert_eq!(names, META);
    assert!(names.len() <= TOOLS_MAX);
    for number in (0..2_000).step_by(97) {
        let query = format!("warehouse task number {number}");
        let found = told(
            &mut session,
            "search_tools",
            json!({"query": query, "limit": 3}),
        )
        .await;
        let name = format!("hub__task_{number}");
        let first = &found["tools"][0];
        assert_eq!(first["name"], name, "{found}");
        assert!(first["inputSchema"]["properties"]["text"].is_object());
        assert_eq!(found["tools"].as_array().unwrap().len(), 3);
        let whole = told(&mut session, "describe_tool", json!({ "name": name })).await;
        assert_eq!(whole["tool"]["title"], format!("Task number {number}"));
        let answer = session
            .post(call(
                "call_tool",
                &json!({"name": name, "arguments": {"text": "go"}}),
            ))
            .await
            .json();
        assert!(answer["result"]["content"].is_array(), "{answer}");
        let direct = session
            .post(call(&name, &json!({"text": "go"})))
            .await
            .json();
        assert_eq!(direct, answer, "a direct call still works, and is the same");
    }
    let seen = server.ledger().seen_of("tools/call");
    let last = seen.last().unwrap();
    assert!(last.body.contains(r#""name":"task_"#), "{}", last.body);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_told_with_the_next_step() {
    let world = world(
        [stdio("one", &[]), stdio("two", &[])],
        &json!({"discovery": "search"}),
    )
    .await;
    let mut session = world.session("/mcp").await;
    let found = told(
        &mut session,
        "search_tools",
        json!({"query": "echo", "server": "two"}),
    )
    .await;
    assert_eq!(found["tools"][0]["name"], "two__echo");
    assert!(
        found["tools"]
            .as_array()
            .unwrap()
            .iter()
            .all(|tool| tool["name"].as_str().unwrap().starts_with("two__"))
    );
    for (tool, arguments, words) in [
        (
            "search_tools",
            json!({"query": "x", "limit": 0}),
            "from 1 to 50",
        ),
        (
            "search_tools",
            json!({"query": "x", "server": "three"}),
            "there are: one, two",
        ),
        (
            "describe_tool",
            json!({"name": "one__ecko"}),
            "Unknown tool",
        ),
        ("describe_tool", json!({"name": "echo"}), "did you mean"),
        ("describe_tool", json!({}), "`name` must be a string"),
    ] {
        let said = told(&mut session, tool, arguments).await;
        assert!(said.as_str().unwrap().contains(words), "{said}");
    }
    for (arguments, words) in [
        (json!({}), "must be a string"),
        (
            json!({"name": "one__echo", "arguments": [1]}),
            "must be an object",
        ),
        (json!({"name": "no__such"}), "Unknown tool: no__such"),
        (json!({"name": "call_tool"}), "Unknown tool: call_tool"),
    ] {
        let refused = session.post(call("call_tool", &arguments)).await.json();
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
        let said = refused["error"]["message"].as_str().unwrap();
        assert!(said.contains(words), "{said}");
    }
    let text = json!({"name": "one__echo", "arguments": "{\"text\":\"as text\"}"});
    let answer = session.post(call("call_tool", &text)).await.json();
    assert_eq!(answer["result"]["content"][0]["text"], "as text");
    // One server's own endpoint lists its own tools.
    let mut own = world.session("/servers/one/mcp").await;
    assert!(listed(&mut own).await.contains(&"echo".to_owned()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_by_call_tool_is_the_call_itself_progress_questions_and_cancellation() {
    let profiles = json!({"profiles": {"few": {"discovery": "search"}}});
    let world = world([stdio("one", &["--asks"])], &profiles).await;
    let path = "/profiles/few/mcp";
    assert!(listed(&mut world.session("/mcp").await).await.len() > META.len());
    // Progress.
    let mut session = world.session(path).await;
    assert_eq!(listed(&mut session).await, META);
    let params = json!({"name": "call_tool", "_meta": {"progressToken": "p"},
        "arguments": {"name": "one__progress", "arguments": {"steps": 3}}});
    let body = json!({"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": params});
    let said = session.post(body.to_string()).await;
    assert!(
        said.body.contains("notifications/progress") && said.body.contains("3 steps"),
        "{said:?}"
    );
    // A question of the server becomes an answer that asks, and the call goes on with the answer.
    let mut client = world.client().await;
    let able = |members: &str| {
        modern("5", "tools/call", members).replace(
            "clientCapabilities\":{}",
            "clientCapabilities\":{\"elicitation\":{}}",
        )
    };
    let members =
        r#""name":"call_tool","arguments":{"name":"one__ask","arguments":{"text":"why"}},"#;
    let asked = client.modern(path, &able(members)).await.json();
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    let (key, _) = asked["result"]["inputRequests"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    let answer = json!({key: {"action": "accept", "content": {}}});
    let again = format!(
        "{members}\"requestState\":{},\"inputResponses\":{answer},",
        asked["result"]["requestState"]
    );
    let done = client.modern(path, &able(&again)).await.json();
    assert_eq!(done["result"]["resultType"], "complete", "{done}");
    assert!(
        done["result"]["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("accept"),
        "{done}"
    );
    // Whoever leaves cancels.
    let one = world.manager.server("one").unwrap();
    let body = modern(
        "6",
        "tools/call",
        r#""name":"call_tool","arguments":{"name":"one__slow","arguments":{"ms":600000}},"#,
    );
    let headers = modern_headers(&body);
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut leaving = world.client().await;
    {
        let calling = leaving.post(path, &headers, body.clone());
        tokio::pin!(calling);
        let begun = wait_until("the call", || one.status().in_flight == 1);
        tokio::select! {
            () = begun => {}
            reply = &mut calling => panic!("{reply:?}"),
        }
    }
    drop(leaving);
    wait_until("the end of the call", || one.status().in_flight == 0).await;
    // The other era searches too.
    let found = modern(
        "9",
        "tools/call",
        r#""name":"search_tools","arguments":{"query":"echo"},"#,
    );
    let found = client.modern(path, &found).await.json();
    assert_eq!(found["result"]["resultType"], "complete");
    assert_eq!(
        found["result"]["structuredContent"]["tools"][0]["name"],
        "one__echo"
    );
    world.end().await;
}
