//! Tools under other names, on both kinds of endpoints and in both eras, and tools that wait for approval.

use std::collections::BTreeMap;

use http::Method;
use mainstay::config::{Config, Glob, ServerConfig, ToolArguments};
use serde_json::{Value, json};

use super::admin::Door;
use super::support::{World, modern, stdio, wait_until};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
/// The two kinds of endpoint, and how the names begin there.
const ENDPOINTS: [(&str, &str); 2] = [("/mcp", "one__"), ("/servers/one/mcp", "")];

fn worded() -> ServerConfig {
    let mut config = stdio("one", &[]);
    config.tools.rename = BTreeMap::from([("echo".to_owned(), "say".to_owned())]);
    let text = ToolArguments::new([("text", "\"by default\"")]).unwrap();
    config.tools.arguments = [(Glob::new("echo"), text)].into_iter().collect();
    config
}

fn tool<'l>(listed: &'l Value, name: &str) -> Option<&'l Value> {
    let tools = listed["result"]["tools"].as_array();
    let tools = tools.unwrap_or_else(|| panic!("no listing: {listed}"));
    tools.iter().find(|tool| tool["name"] == name)
}

fn call(name: &str) -> String {
    let params = json!({"name": name});
    json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn law_20_a_renamed_tool_is_listed_and_called_by_its_new_name_everywhere() {
    let world = World::start([worded(), stdio("two", &[])]).await;
    let door = Door::open(&world);
    for (path, prefix) in ENDPOINTS {
        let (say, echo) = (format!("{prefix}say"), format!("{prefix}echo"));
        let mut session = world.session(path).await;
        let listed = session.post(LIST).await.json();
        assert!(tool(&listed, &echo).is_none(), "{listed}");
        let schema = &tool(&listed, &say).unwrap()["inputSchema"];
        assert!(
            schema["required"]
                .as_array()
                .is_none_or(|all| !all.contains(&json!("text"))),
            "{schema}"
        );
        let answer = session.post(call(&say)).await.json();
        assert_eq!(
            answer["result"]["content"][0]["text"], "by default",
            "{answer}"
        );
        let refused = session.post(call(&echo)).await.json();
        assert!(refused["error"].is_object(), "{refused}");

        let mut client = world.client().await;
        let seen = client.modern(path, &modern("3", "tools/list", "")).await;
        assert!(tool(&seen.json(), &say).is_some());
        let members = format!("\"name\":\"{say}\",");
        let answer = client
            .modern(path, &modern("4", "tools/call", &members))
            .await;
        let answer = answer.json();
        assert_eq!(
            answer["result"]["content"][0]["text"], "by default",
            "{answer}"
        );
    }
    let body = r#"{"tool":"say"}"#;
    let (status, answer) = door
        .ask(Method::POST, "/api/v1/servers/one/call", body)
        .await;
    assert!(status.is_success(), "{answer}");
    assert_eq!(
        answer["result"]["content"][0]["text"], "by default",
        "{answer}"
    );
    door.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f250_f251_a_tool_that_waits_for_approval_is_refused_with_the_command_and_approved_by_the_api()
 {
    let mut pinned = stdio("one", &[]);
    pinned.tools.pin = true;
    // The same server with more to offer.
    let mut other = stdio("one", &["--asks"]);
    other.tools.pin = true;
    let world = World::start([pinned]).await;
    let door = Door::open(&world);
    let mut session = world.session("/mcp").await;
    let before = session.post(LIST).await.json();
    let names = |listed: &Value| -> Vec<String> {
        let tools = listed["result"]["tools"].as_array().unwrap().iter();
        tools
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let known = names(&before);
    let config = Config::from_servers([other]);
    world.manager.reload(config).await.unwrap();
    let server = world.manager.server("one").unwrap();
    wait_until("the change", || {
        server.status().generation > 1 && !server.tool_changes().is_empty()
    })
    .await;
    let (status, changes) = door.ask(Method::GET, "/api/v1/tools/changes", "").await;
    assert!(status.is_success());
    let held = changes["changes"].as_array().unwrap();
    let added = held
        .iter()
        .find(|change| change["kind"] == "added")
        .unwrap();
    let name = added["tool"].as_str().unwrap();
    assert!(
        added["diff"][0].as_str().unwrap().starts_with('+'),
        "{added}"
    );
    for (path, prefix) in ENDPOINTS {
        let mut session = world.session(path).await;
        let exposed = format!("{prefix}{name}");
        let listed = session.post(LIST).await.json();
        assert!(tool(&listed, &exposed).is_none(), "{listed}");
        let refused = session.post(call(&exposed)).await.json();
        let error = &refused["error"];
        let words = error["message"].as_str().unwrap();
        assert!(words.contains("mainstay tools approve one"), "{refused}");
        assert_eq!(error["data"]["outcome"], "refused", "{refused}");
        assert_eq!(error["data"]["tool"], name, "{refused}");
    }
    let path = "/api/v1/servers/one/approve";
    let (status, _) = door.ask(Method::POST, path, r#"{"tools":["zzz"]}"#).await;
    assert_eq!(status, 404);
    let (status, approved) = door.ask(Method::POST, path, "").await;
    assert!(status.is_success(), "{approved}");
    let approved = approved["approved"].as_array().unwrap().len();
    assert_eq!(approved, held.len());
    let (_, left) = door
        .ask(Method::GET, "/api/v1/tools/changes?server=one", "")
        .await;
    assert_eq!(left["changes"], json!([]));
    let after = names(&session.post(LIST).await.json());
    assert!(
        after.contains(&format!("one__{name}")),
        "{after:?} {known:?}"
    );
    door.close().await;
    world.end().await;
}
