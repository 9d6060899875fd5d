//! Listings and greetings: pages, what is promised about keeping them, what an endpoint says of itself.

use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::{Value, json};

use super::support::{World, modern, stdio};

fn names(tools: &Value) -> Vec<String> {
    let tools = tools.as_array().unwrap().iter();
    tools
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn f165_long_listings_come_in_pages_to_clients_of_both_eras() {
    let world = World::start_with([stdio("one", &[]), stdio("two", &[])], |settings| {
        settings.page_items_max = 3;
    })
    .await;
    for name in ["one", "two"] {
        world
            .until(name, |status| status.state == "connected")
            .await;
    }
    for path in ["/mcp", "/servers/one/mcp"] {
        let publication = world.manager.publication();
        let expected: Vec<String> = if path == "/mcp" {
            let tools = publication.tools.items.iter();
            tools.map(|tool| tool.exposed.to_string()).collect()
        } else {
            let tools = publication.servers["one"].tools.items.iter();
            tools.map(|tool| tool.name.clone()).collect()
        };
        assert!(expected.len() > 3);
        let mut session = world.session(path).await;
        let mut client = world.client().await;
        for era in ["legacy", "modern"] {
            let (mut listed, mut cursor) = (Vec::new(), None::<String>);
            loop {
                let member = cursor
                    .take()
                    .map(|cursor| format!("\"cursor\":{},", json!(cursor)))
                    .unwrap_or_default();
                let reply = if era == "legacy" {
                    let params = format!("{{{}}}", member.trim_end_matches(','));
                    session
                        .post(format!(
                            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{params}}}"#
                        ))
                        .await
                } else {
                    client
                        .modern(path, &modern("1", "tools/list", &member))
                        .await
                };
                let result = reply.json()["result"].clone();
                let page = names(&result["tools"]);
                assert!(page.len() <= 3);
                listed.extend(page);
                match result.get("nextCursor") {
                    Some(next) => cursor = Some(next.as_str().unwrap().to_owned()),
                    None => break,
                }
            }
            assert_eq!(listed, expected, "{path} {era}");
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_a_listing_that_has_changed_goes_on_or_says_what_to_do() {
    let world = World::start_with([stdio("one", &[])], |settings| {
        settings.page_items_max = 2;
    })
    .await;
    world
        .until("one", |status| status.state == "connected")
        .await;
    let mut client = world.client().await;
    let mut cursors = Vec::new();
    for path in ["/mcp", "/servers/one/mcp"] {
        let listed = client.modern(path, &modern("1", "tools/list", "")).await;
        cursors.push(listed.json()["result"]["nextCursor"].to_string());
    }
    let last = names(
        &client
            .modern("/mcp", &modern("1", "tools/list", ""))
            .await
            .json()["result"]["tools"],
    )
    .pop()
    .unwrap();
    let before = world.manager.publication().version;
    let change = modern(
        "1",
        "tools/call",
        r#""name":"one__set_tools","arguments":{"names":["a","echo","zz"]},"#,
    );
    client.modern("/mcp", &change).await;
    let mut version = world.manager.published();
    let changed = version.wait_for(|version| *version > before);
    tokio::time::timeout(super::support::PATIENCE, changed)
        .await
        .unwrap()
        .unwrap();

    let body = modern("1", "tools/list", &format!("\"cursor\":{},", cursors[0]));
    let rest = client.modern("/mcp", &body).await.json();
    let rest = names(&rest["result"]["tools"]);
    assert!(
        rest.iter().all(|name| *name > last) && rest.contains(&"one__zz".to_owned()),
        "{rest:?} after {last}"
    );
    let body = modern("1", "tools/list", &format!("\"cursor\":{},", cursors[1]));
    let refused = client.modern("/servers/one/mcp", &body).await;
    assert_eq!(refused.error(), (400, -32602, json!(1)));
    assert!(refused.body.contains("list again"), "{refused:?}");
    for odd in ["\"\"", "\"2\"", "7"] {
        let body = modern("1", "tools/list", &format!("\"cursor\":{odd},"));
        let refused = client.modern("/mcp", &body).await;
        assert_eq!(refused.error(), (400, -32602, json!(1)), "{odd}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f140_cache_hints_are_the_servers_own_the_most_cautious_of_all_and_nothing_is_shared() {
    let mut script = Script::modern();
    script.ttl_ms = 3_600_000;
    let (new, old) = (
        HttpServer::start(script).await.unwrap(),
        HttpServer::start(Script::legacy()).await.unwrap(),
    );
    let world = World::start([
        ServerConfig::http("new", new.url()),
        ServerConfig::http("old", old.url()),
    ])
    .await;
    let mut client = world.client().await;
    let listed = client
        .modern("/servers/new/mcp", &modern("1", "tools/list", ""))
        .await
        .json();
    let ttl_ms = listed["result"]["ttlMs"].as_u64().unwrap();
    assert!((1..=3_600_000).contains(&ttl_ms), "{listed}");
    assert_eq!(listed["result"]["cacheScope"], "private");
    for (path, method) in [
        ("/mcp", "tools/list"),
        ("/mcp", "resources/list"),
        ("/servers/old/mcp", "tools/list"),
        ("/mcp", "server/discover"),
    ] {
        let listed = client.modern(path, &modern("1", method, "")).await.json();
        assert_eq!(listed["result"]["ttlMs"], 0, "{path} {method}");
        assert_eq!(listed["result"]["cacheScope"], "private");
    }
    let mut session = world.session("/servers/new/mcp").await;
    let listed = session
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await
        .json();
    assert_eq!(listed["result"].as_object().unwrap().len(), 1, "{listed}");
    // A private resource is read anew for everyone.
    for _ in 0..2 {
        let mut client = world.client().await;
        let read = modern("1", "resources/read", "\"uri\":\"file:///fixed\",");
        let read = client.modern("/servers/new/mcp", &read).await.json();
        assert_eq!(read["result"]["cacheScope"], "private", "{read}");
        assert_eq!(read["result"]["ttlMs"], 3_600_000, "its own word");
    }
    assert_eq!(new.ledger().seen_of("resources/read").len(), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aggregate_says_what_its_servers_offer_and_advise() {
    let mut scripts = [Script::legacy(), Script::modern()];
    for (script, words) in scripts.iter_mut().zip(["Call me first.", ""]) {
        script.instructions = words.to_owned();
    }
    let [legacy, modern_one] = scripts;
    let mut subscribing = modern_one;
    subscribing.subscriptions = true;
    let (old, new) = (
        HttpServer::start(legacy).await.unwrap(),
        HttpServer::start(subscribing).await.unwrap(),
    );
    let world = World::start([
        ServerConfig::http("old", old.url()),
        ServerConfig::http("new", new.url()),
    ])
    .await;
    let session = world.session("/mcp").await;
    let expected = json!({
        "tools": {"listChanged": true}, "prompts": {"listChanged": true},
        "resources": {"listChanged": true, "subscribe": true}, "logging": {},
    });
    assert_eq!(session.opened["capabilities"], expected);
    assert_eq!(session.opened["instructions"], "## old\n\nCall me first.");
    let mut client = world.client().await;
    let face = client
        .modern("/mcp", &modern("1", "server/discover", ""))
        .await
        .json();
    assert_eq!(face["result"]["capabilities"], expected);
    assert_eq!(face["result"]["instructions"], "## old\n\nCall me first.");
    assert!(face["result"].get("serverInfo").is_none());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f137_tools_with_illegal_header_annotations_are_not_listed_for_modern_clients() {
    let mut script = Script::legacy();
    let tool = |name: &str, header: &str| {
        json!({"name": name, "inputSchema": {"type": "object", "properties": {
            "a": {"type": "string", "x-mcp-header": header}}}})
    };
    script.raw_tools = vec![tool("legal", "Region"), tool("illegal", "not a token")];
    let server = HttpServer::start(script).await.unwrap();
    let world = World::start([ServerConfig::http("old", server.url())]).await;
    for (path, prefix) in [("/mcp", "old__"), ("/servers/old/mcp", "")] {
        let mut session = world.session(path).await;
        let listed = session
            .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
            .await
            .json();
        let mut legacy = names(&listed["result"]["tools"]);
        let mut client = world.client().await;
        let listed = client
            .modern(path, &modern("1", "tools/list", ""))
            .await
            .json();
        let illegal = format!("{prefix}illegal");
        assert!(legacy.contains(&illegal), "{legacy:?}");
        legacy.retain(|name| *name != illegal);
        assert_eq!(names(&listed["result"]["tools"]), legacy);
        assert!(legacy.contains(&format!("{prefix}legal")));
    }
    world.end().await;
}
