//! Profiles: named parts of what all servers offer, at endpoints of their own, live.

use std::path::Path;

use http::{Method, StatusCode};
use mainstay::config::{Config, ServerConfig};
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::{Value, json};

use super::legacy::answer_with;
use super::support::{Client, Events, Session, World, modern, stdio, wait_until};

const PATH: &str = "/profiles/desk/mcp";

fn config(servers: impl IntoIterator<Item = ServerConfig>, mainstay: &Value) -> Config {
    let text = json!({ "mcpServers": {}, "mainstay": mainstay }).to_string();
    let mut config = Config::parse(&text, Path::new("mcp.json")).unwrap().config;
    config.servers = Config::from_servers(servers).servers;
    config
}

async fn world(config: Config) -> World {
    let world = World::of(config, None, |_| {}).await;
    for server in world.manager.servers() {
        world
            .until(server.name(), |status| status.state == "connected")
            .await;
    }
    world
}

fn request(method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
}

async fn listed(session: &mut Session, method: &str, key: &str, name: &str) -> Vec<String> {
    let listed = session.post(request(method, &json!({}))).await.json();
    let items = listed["result"][key].as_array().unwrap().iter();
    items
        .map(|item| item[name].as_str().unwrap().to_owned())
        .collect()
}

async fn tools(session: &mut Session) -> Vec<String> {
    listed(session, "tools/list", "tools", "name").await
}

async fn call(session: &mut Session, name: &str) -> Value {
    let params = json!({"name": name, "arguments": {"text": "hello"}});
    session.post(request("tools/call", &params)).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_shows_its_part_under_the_names_of_the_aggregate_and_nothing_else_works_there() {
    let (one, two) = (
        HttpServer::start(Script::legacy()).await.unwrap(),
        HttpServer::start(Script::legacy()).await.unwrap(),
    );
    let own =
        r#"{"jsonrpc":"2.0","id":$ID,"result":{"resources":[{"uri":"two:only","name":"r"}]}}"#;
    answer_with(&two, "resources/list", own);
    let profiles = json!({"profiles": {
        "desk": {"servers": ["one"], "tools": {"exclude": ["*__crash", "one__big"]}},
        "none": {"servers": ["no*"]},
    }});
    let servers = [
        ServerConfig::http("one", one.url()),
        ServerConfig::http("two", two.url()),
    ];
    let world = world(config(servers, &profiles)).await;
    let mut everywhere = world.session("/mcp").await;
    let all = tools(&mut everywhere).await;
    let mut session = world.session(PATH).await;
    let seen = tools(&mut session).await;
    let expected: Vec<String> = all
        .iter()
        .filter(|name| {
            name.starts_with("one__") && !name.ends_with("__crash") && *name != "one__big"
        })
        .cloned()
        .collect();
    assert!(!expected.is_empty() && expected.len() < all.len());
    assert_eq!(seen, expected);
    let mut client = world.client().await;
    let reply = client.modern(PATH, &modern("1", "tools/list", "")).await;
    assert_eq!(
        reply.json()["result"]["tools"].as_array().unwrap().len(),
        expected.len()
    );
    let said = call(&mut session, "one__echo").await;
    assert_eq!(said["result"]["content"][0]["text"], "hello", "{said}");
    for outside in ["one__crash", "one__big", "two__echo", "no__such"] {
        let refused = call(&mut session, outside).await;
        assert_eq!(refused["error"]["code"], -32602, "{outside}: {refused}");
        let words = refused["error"]["message"].as_str().unwrap();
        assert!(words.starts_with("Unknown tool"), "{words}");
    }
    let params = "\"name\":\"two__echo\",\"arguments\":{},";
    let refused = client
        .modern(PATH, &modern("1", "tools/call", params))
        .await;
    assert_eq!(refused.error().1, -32602);
    assert_eq!(
        listed(&mut session, "prompts/list", "prompts", "name").await,
        ["one__greet"]
    );
    let uris = listed(&mut session, "resources/list", "resources", "uri").await;
    assert!(!uris.contains(&"two:only".to_owned()), "{uris:?}");
    let prompt = json!({"type": "ref/prompt", "name": "two__greet"});
    for (method, params) in [
        ("prompts/get", json!({"name": "two__greet"})),
        (
            "completion/complete",
            json!({"ref": prompt, "argument": {"name": "a", "value": "v"}}),
        ),
    ] {
        let refused = session.post(request(method, &params)).await.json();
        assert!(refused["error"].is_object(), "{method}: {refused}");
    }
    // Uris that nobody lists may be the only server's; they never go to one outside.
    for uri in ["two:only", "mainstay://two/two:only"] {
        for method in ["resources/read", "resources/subscribe"] {
            session.post(request(method, &json!({ "uri": uri }))).await;
            assert!(two.ledger().seen_of(method).is_empty(), "{method} {uri}");
        }
    }
    assert_eq!(two.ledger().seen_of("tools/call").len(), 0);
    let mut none = world.session("/profiles/none/mcp").await;
    assert_eq!(tools(&mut none).await, Vec::<String>::new());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_says_of_itself_only_what_its_servers_say() {
    let mut scripts = [Script::legacy(), Script::legacy()];
    for (script, words) in scripts.iter_mut().zip(["Mine.", "Not mine."]) {
        script.instructions = words.to_owned();
    }
    let [mine, other] = scripts;
    let (one, two) = (
        HttpServer::start(mine).await.unwrap(),
        HttpServer::start(other).await.unwrap(),
    );
    let servers = [
        ServerConfig::http("one", one.url()),
        ServerConfig::http("two", two.url()),
    ];
    let profiles = json!({"profiles": {"desk": {"servers": ["one"]}}});
    let world = world(config(servers, &profiles)).await;
    let session = world.session(PATH).await;
    assert_eq!(session.opened["instructions"], "## one\n\nMine.");
    // A session belongs to the endpoint that opened it.
    for path in ["/mcp", "/servers/one/mcp"] {
        let headers = [("mcp-session-id", session.id.as_str())];
        let mut client = world.client().await;
        let lost = client
            .post(path, &headers, request("tools/list", &json!({})))
            .await;
        assert_eq!(lost.status, StatusCode::NOT_FOUND, "{path}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_profile_is_404_with_those_there_are() {
    let profiles = json!({"profiles": {"desk": {}, "a b": {}}});
    let world = world(config([stdio("one", &[])], &profiles)).await;
    let mut client = world.client().await;
    for path in [
        "/profiles/dsek/mcp",
        "/profiles/dsek/sse",
        "/profiles/dsek/mcp/",
    ] {
        let reply = client.post(path, &[], "{}").await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(
            reply.body,
            "no profile is named `dsek`; configured are: a b, desk"
        );
    }
    for path in ["/profiles/mcp", "/profiles//mcp", "/profiles/desk/x"] {
        let reply = client.post(path, &[], "{}").await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        assert!(
            reply.body.contains("/profiles/{name}/mcp"),
            "{}",
            reply.body
        );
    }
    let mut session = world.session("/profiles/a%20b/mcp").await;
    assert!(tools(&mut session).await.contains(&"one__echo".to_owned()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn list_changed_is_told_of_the_profiles_servers_alone() {
    let profiles = json!({"profiles": {"desk": {"servers": ["one"]}}});
    let servers = [stdio("one", &[]), stdio("two", &[])];
    let world = world(config(servers, &profiles)).await;
    let mut session = world.session(PATH).await;
    tools(&mut session).await;
    let mut twin = session.twin().await;
    let mut stream = Events::of(twin.get().await);
    let mut everywhere = world.session("/mcp").await;
    let before = world.manager.publication().version;
    let change = |server: &str| {
        let name = format!("{server}__set_tools");
        request(
            "tools/call",
            &json!({"name": name, "arguments": {"names": ["new"]}}),
        )
    };
    everywhere.post(change("two")).await;
    wait_until("the other server's change", || {
        world.manager.publication().version > before
    })
    .await;
    everywhere.post(change("one")).await;
    // If the first change had been told, it would come first, and the listing would not hold the second yet.
    let told = stream.next().await.unwrap_or_default();
    assert!(told.contains("tools/list_changed"), "{told}");
    assert_eq!(tools(&mut session).await, ["one__new"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_28_a_reload_changes_profiles_live_and_a_removed_one_is_404() {
    let servers = || [stdio("one", &[]), stdio("two", &[])];
    let with = |profiles: Value| config(servers(), &json!({ "profiles": profiles }));
    let world = world(with(json!({"desk": {"servers": ["one"]}, "gone": {}}))).await;
    let mut session = world.session(PATH).await;
    let before = tools(&mut session).await;
    let mut twin = session.twin().await;
    let mut stream = Events::of(twin.get().await);
    let gone = world.session("/profiles/gone/mcp").await;
    let mut ending = gone.twin().await;
    let mut ended = Events::of(ending.get().await);
    let after = with(json!({"desk": {"servers": ["two"]}, "new": {}}));
    let plan = world.manager.reload(after).await.unwrap();
    assert_eq!(plan.gateway.len(), 1, "{plan:?}");
    let told = stream.next().await.unwrap_or_default();
    assert!(told.contains("tools/list_changed"), "{told}");
    let seen = tools(&mut session).await;
    assert!(seen.iter().all(|name| name.starts_with("two__")) && seen.len() == before.len());
    assert_eq!(
        call(&mut session, "one__echo").await["error"]["code"],
        -32602
    );
    assert_eq!(ended.next().await, None, "its streams end");
    let mut client = world.client().await;
    let reply = client.post("/profiles/gone/mcp", &[], "{}").await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    let mut new = world.session("/profiles/new/mcp").await;
    assert!(tools(&mut new).await.len() > seen.len());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_level_of_a_profile_is_told_to_its_servers_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = |name: &str| folder.path().join(name);
    let server = |name: &str| {
        let path = ledger(name).to_str().unwrap().to_owned();
        stdio(name, &["--wishes", "--ledger", &path])
    };
    let profiles = json!({"profiles": {"desk": {"servers": ["one"]}}});
    let world = world(config([server("one"), server("two")], &profiles)).await;
    let mut session = world.session(PATH).await;
    let level = request("logging/setLevel", &json!({"level": "error"}));
    assert_eq!(session.post(level).await.json()["result"], json!({}));
    let text = |name: &str| std::fs::read_to_string(ledger(name)).unwrap_or_default();
    wait_until("the level", || text("one").contains(" level error")).await;
    // A session on the aggregate wants another one of both: when that has arrived, the first would have, too.
    let mut everywhere = world.session("/mcp").await;
    let level = request("logging/setLevel", &json!({"level": "warning"}));
    everywhere.post(level).await;
    wait_until("the other level", || text("two").contains(" level warning")).await;
    assert!(!text("two").contains(" level error"), "{}", text("two"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_clients_reach_a_profile_too() {
    let profiles = json!({"profiles": {"desk": {"servers": ["one"]}}});
    let servers = [stdio("one", &[]), stdio("two", &[])];
    let world = world(config(servers, &profiles)).await;
    let mut client = world.client().await;
    let headers = [("accept", "text/event-stream")];
    let opened = client
        .open(Method::GET, "/profiles/desk/sse", &headers, "")
        .await;
    let mut stream = Events::of(opened);
    let place = stream.next().await.unwrap();
    let mut poster = Client::connect(world.address).await;
    let initialize = json!({"protocolVersion": "2024-11-05", "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"}});
    for (method, params) in [("initialize", initialize), ("tools/list", json!({}))] {
        poster.post(&place, &[], request(method, &params)).await;
        let said = stream.next().await.unwrap();
        if method == "tools/list" {
            assert!(
                said.contains("one__echo") && !said.contains("two__echo"),
                "{said}"
            );
        }
    }
    world.end().await;
}
