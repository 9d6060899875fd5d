//! Every route that the admin API describes, asked for real: what comes back is what the description says.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;
use http_body_util::BodyExt;
use mainstay::config::Config;
use mainstay_gateway::reload::ConfigLife;
use serde_json::{Value, json};

use super::admin::{Door, open};
use super::support::{Events, PATIENCE, World, misbehave, wait_until};

/// One request to a route, and the status that it must have.
struct Ask {
    /// The route's name in the description.
    id: &'static str,
    /// Path and query.
    path: &'static str,
    body: &'static str,
    status: u16,
    /// How many events are read, if the answer is a stream.
    events: usize,
}

const fn ask(id: &'static str, path: &'static str, status: u16) -> Ask {
    Ask {
        id,
        path,
        body: "",
        status,
        events: 0,
    }
}

impl Ask {
    const fn with(mut self, body: &'static str) -> Self {
        self.body = body;
        self
    }

    const fn events(mut self, count: usize) -> Self {
        self.events = count;
        self
    }
}

/// Asked in this order. A route without a line here fails the test.
const ASKS: &[Ask] = &[
    ask("describe", "/api/v1/openapi.json", 200),
    ask("getStatus", "/api/v1/status", 200),
    ask("getServer", "/api/v1/servers/one", 200),
    ask("getServer", "/api/v1/servers/gone", 200),
    ask("getServer", "/api/v1/servers/nope", 404),
    ask("getCatalog", "/api/v1/catalog", 200),
    ask("getTools", "/api/v1/tools", 200),
    ask("getToolChanges", "/api/v1/tools/changes", 200),
    ask("getToolChanges", "/api/v1/tools/changes?server=nope", 404),
    ask("approveTools", "/api/v1/servers/one/approve", 400).with("[]"),
    ask("approveTools", "/api/v1/servers/nope/approve", 404),
    ask("getProfiles", "/api/v1/profiles", 200),
    ask("getTokens", "/api/v1/tokens", 200),
    ask("createToken", "/api/v1/tokens", 200)
        .with(r#"{"name":"ci","groups":["ops"],"scopes":["mcp"]}"#),
    ask("createToken", "/api/v1/tokens", 409).with(r#"{"name":"ci"}"#),
    ask("createToken", "/api/v1/tokens", 400).with(r#"{"name":"../x"}"#),
    ask("createToken", "/api/v1/tokens", 400).with("[]"),
    ask("getTokens", "/api/v1/tokens", 200),
    ask("revokeToken", "/api/v1/tokens/ci/revoke", 200),
    ask("revokeToken", "/api/v1/tokens/ci/revoke", 404),
    ask("approveTools", "/api/v1/servers/kept/approve", 200),
    ask("approveTools", "/api/v1/servers/one/approve", 409),
    ask("approveTools", "/api/v1/servers/gone/approve", 409),
    ask("getConfig", "/api/v1/config", 200),
    ask("reloadConfig", "/api/v1/reload", 200).with(r#"{"dryRun":true}"#),
    ask("reloadConfig", "/api/v1/reload", 400).with(r#"{"dry":true}"#),
    ask("reloadConfig", "/api/v1/reload", 200),
    ask("getConfig", "/api/v1/config", 200),
    ask("getLogs", "/api/v1/servers/gone/logs?lines=3", 200),
    ask("getLogs", "/api/v1/servers/gone/logs?lines=many", 400),
    ask("getLogs", "/api/v1/servers/nope/logs", 404),
    ask("getLogs", "/api/v1/servers/gone/logs?follow=1", 200).events(1),
    ask("followEvents", "/api/v1/events?recent=1000", 200).events(4),
    ask("followEvents", "/api/v1/events?recent=1000&follow=0", 200),
    ask("callTool", "/api/v1/servers/one/call", 200)
        .with(r#"{"tool":"echo","arguments":{"text":"hi"}}"#),
    ask("callTool", "/api/v1/servers/one/call", 200).with(r#"{"tool":"nope"}"#),
    ask("callTool", "/api/v1/servers/one/call", 400).with("[]"),
    ask("callTool", "/api/v1/servers/one/call", 504)
        .with(r#"{"tool":"slow","arguments":{"ms":60000},"timeoutMs":50}"#),
    ask(
        "getCalls",
        "/api/v1/calls?recent=5&server=one&tool=echo&outcome=answered",
        200,
    ),
    ask("getCalls", "/api/v1/calls?outcome=nope", 400),
    ask("getCalls", "/api/v1/calls?follow=1&recent=2", 200).events(2),
    ask("readJournal", "/api/v1/journal?kind=calls&server=one", 200),
    ask("readJournal", "/api/v1/journal?kind=nope", 400),
    ask("getApprovals", "/api/v1/approvals", 200),
    ask("decideApproval", "/api/v1/approvals/0000-0", 404).with(r#"{"allow":true}"#),
    ask("decideApproval", "/api/v1/approvals/0000-0", 400).with(r#"{"allow":1}"#),
    ask("readAudit", "/api/v1/audit?limit=10&kind=operator", 200),
    ask("readAudit", "/api/v1/audit?limit=many", 400),
    ask("callTool", "/api/v1/servers/nope/call", 404).with(r#"{"tool":"echo"}"#),
    ask("disableServer", "/api/v1/servers/one/disable", 200),
    ask("callTool", "/api/v1/servers/one/call", 503).with(r#"{"tool":"echo"}"#),
    ask("enableServer", "/api/v1/servers/one/enable", 200),
    ask("restartServer", "/api/v1/servers/one/restart", 200),
    ask("restartServer", "/api/v1/servers/nope/restart", 404),
    // The last one: from here on Mainstay is to end.
    ask("stop", "/api/v1/stop", 200),
];

/// The description, as one validator for each answer.
struct Description(Value);

impl Description {
    /// Method, path and answers of an operation.
    fn operation(&self, id: &str) -> (Method, Value) {
        let paths = self.0["paths"].as_object().unwrap();
        let mut all = paths.values().flat_map(|path| path.as_object().unwrap());
        let (verb, operation) = all
            .find(|(_, operation)| operation["operationId"] == id)
            .unwrap_or_else(|| panic!("no operation is called {id}"));
        let method = Method::from_bytes(verb.to_uppercase().as_bytes()).unwrap();
        (method, operation.clone())
    }

    /// Holds a body against a schema of the description. Members that the schema does not know are refused too.
    fn check(&self, schema: &Value, body: &Value, whose: &str) {
        let mut whole = json!({ "components": self.0["components"], "allOf": [schema] });
        for definition in whole["components"]["schemas"]
            .as_object_mut()
            .unwrap()
            .values_mut()
        {
            if definition.get("properties").is_some() {
                definition["unevaluatedProperties"] = json!(false);
            }
        }
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        let problems: Vec<String> = validator
            .iter_errors(body)
            .map(|problem| format!("{}: {problem}", problem.instance_path()))
            .collect();
        assert!(problems.is_empty(), "{whose}: {problems:#?}\n{body:#}");
    }

    /// The answer of an operation to a status.
    fn answer<'d>(&'d self, operation: &'d Value, status: u16) -> &'d Value {
        let responses = &operation["responses"];
        match responses.get(status.to_string()) {
            Some(answer) => answer,
            None => {
                assert_ne!(status, 200);
                assert!(responses["default"]["$ref"].is_string());
                &self.0["components"]["responses"]["Error"]
            }
        }
    }
}

/// Asks, and holds what comes back against the description.
async fn check(description: &Description, door: &Door, ask: &Ask) {
    let whose = format!("{} {}", ask.id, ask.path);
    let (method, operation) = description.operation(ask.id);
    let response = open(&door.path(), method, ask.path, ask.body).await;
    let status = response.status().as_u16();
    if status != ask.status {
        let body = tokio::time::timeout(PATIENCE, response.into_body().collect());
        let body = body.await.unwrap().unwrap().to_bytes();
        panic!("{whose}: {status} instead of {}: {body:?}", ask.status);
    }
    let answer = description.answer(&operation, ask.status);
    if ask.events > 0 {
        let content = &answer["content"]["text/event-stream"];
        assert!(content.is_object(), "{whose} is not said to stream");
        let mut events = Events::of(response);
        for _ in 0..ask.events {
            let event = events.json().await;
            description.check(&content["x-event-data"], &event, &whose);
        }
        return;
    }
    assert_eq!(
        response.headers()["content-type"],
        "application/json",
        "{whose}"
    );
    let body = tokio::time::timeout(PATIENCE, response.into_body().collect());
    let body = body.await.unwrap().unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let schema = &answer["content"]["application/json"]["schema"];
    assert!(!schema.is_null(), "{whose} is not said to answer JSON");
    description.check(schema, &body, &whose);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_as_it_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mcp.json");
    let text = json!({ "mcpServers": {
        "one": { "command": misbehave() },
        "kept": { "command": misbehave(), "tools": { "pin": true } },
        "gone": { "command": "/bin/sh", "args": ["-c", "echo last words >&2; exit 3"] },
    }})
    .to_string();
    std::fs::write(&file, &text).unwrap();
    let config = Config::load(&file).unwrap().config;
    let state = dir.path().join("state");
    let world = World::of(config.clone(), Some(state.clone()), |settings| {
        settings.state_dir = Some(state);
        settings.audit = Some(mainstay::config::AuditConfig::default());
    })
    .await;
    let life = ConfigLife::new(
        &file,
        text.into_bytes(),
        config,
        world.manager.clone(),
        None,
    );
    world.gateway.follow_config(Arc::new(life));
    for name in ["one", "kept"] {
        world
            .until(name, |status| status.state == "connected")
            .await;
    }
    let gone = world.manager.server("gone").unwrap();
    wait_until("it said its last words", || !gone.stderr_tail(1).is_empty()).await;
    let door = Door::open(&world);
    let (_, document) = door.ask(Method::GET, "/api/v1/openapi.json", "").await;
    let description = Description(document);
    for ask in ASKS {
        check(&description, &door, ask).await;
    }
    assert!(world.gateway.stop_asked().is_cancelled());
    std::fs::write(&file, "{").unwrap();
    let refused = [
        ask("reloadConfig", "/api/v1/reload", 422),
        ask("getConfig", "/api/v1/config", 200),
        ask("getStatus", "/api/v1/status", 200),
    ];
    for ask in &refused {
        check(&description, &door, ask).await;
    }
    door.close().await;
    world.end().await;
    let asked: BTreeSet<&str> = ASKS.iter().map(|ask| ask.id).collect();
    let paths = description.0["paths"].as_object().unwrap();
    for operation in paths
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
    {
        let id = operation["operationId"].as_str().unwrap();
        assert!(asked.contains(id), "nobody asks {id}: add a line to ASKS");
    }
}

/// What no route takes is refused in the API's own words, with JSON, whoever refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_json_too() {
    let world = World::start_with([], |_| {}).await;
    let door = Door::open(&world);
    for (method, path, status) in [
        (Method::DELETE, "/api/v1/status", 405),
        (Method::GET, "/api/v1/stop", 405),
        (Method::GET, "/api/v1/events?recent=-1", 400),
        (Method::GET, "/api/v1/servers/%ff", 400),
        (Method::GET, "/api/v2/status", 404),
    ] {
        let (got, body) = door.ask(method, path, "").await;
        assert_eq!(got.as_u16(), status, "{path}");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(!message.is_empty(), "{path}: {body}");
    }
    door.close().await;
    world.end().await;
}
