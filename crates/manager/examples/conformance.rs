//! The client of a conformance run with nothing but the library: connects to one server over HTTP and uses all that it offers.
//!
//! `cargo run -p mainstay --example conformance -- URL`
//!
//! The public suite starts it (leg H of `scripts/conformance`) with the URL of its mock server, tells calls to make in
//! `MCP_CONFORMANCE_CONTEXT`, and judges what the server saw. Questions of the server are accepted with the form's defaults.

#![expect(clippy::print_stderr, reason = "an example talks")]

use std::time::Duration;

use mainstay::catalog::{Catalog, ItemList};
use mainstay::config::Config;
use mainstay::{CallOptions, ClientFace, Manager, Request, Said, ServerHandle};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::person::Person;

#[path = "conformance/person.rs"]
mod person;

const READY: Duration = Duration::from_secs(20);
const ROUNDS: usize = 10;
/// What a server may say during one call before somebody has heard it.
const SAID_MAX: usize = 64;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).ok_or("usage: conformance URL")?;
    let context = match std::env::var("MCP_CONFORMANCE_CONTEXT") {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_) => Value::Null,
    };
    let scenario = std::env::var("MCP_CONFORMANCE_SCENARIO").unwrap_or_default();
    let config = Config::from_servers([person::entry(&url, &scenario, &context)?]);
    let manager = Manager::builder().config(config).start().await?;
    let used = use_all(&manager, &context, &Person::default()).await;
    manager.shutdown().await;
    used
}

async fn use_all(manager: &Manager, context: &Value, person: &Person) -> Result<(), Failure> {
    let shared = manager.server("server").ok_or("not configured")?;
    let catalog = listed(manager, &shared, person).await?;
    let server = shared.for_client(&face()).await?;
    for (name, arguments) in calls(&catalog, context)? {
        let params = json!({"name": name, "arguments": arguments});
        let mut outcome = ask(&server, "tools/call", params.clone()).await;
        while outcome.is_err() && Person::is_wanted(manager) && person.sign_in(manager).await? {
            outcome = ask(&server, "tools/call", params.clone()).await;
        }
        tell(&name, outcome);
    }
    for uri in members(&catalog.resources, "uri")? {
        tell(
            &uri,
            ask(&server, "resources/read", json!({"uri": uri})).await,
        );
    }
    for name in members(&catalog.prompts, "name")? {
        tell(
            &name,
            ask(&server, "prompts/get", json!({"name": name})).await,
        );
    }
    Ok(())
}

/// What the server offers, once somebody has signed in, if that is what it wants.
async fn listed(
    manager: &Manager,
    shared: &ServerHandle,
    person: &Person,
) -> Result<std::sync::Arc<Catalog>, Failure> {
    let until = tokio::time::Instant::now() + READY;
    loop {
        let settled = shared
            .wait_until(|status| status.catalog_age_ms.is_some() || Person::is_wanted(manager));
        tokio::time::timeout_at(until, settled).await?;
        if let Some(catalog) = shared.catalog() {
            return Ok(catalog);
        }
        if !person.sign_in(manager).await? {
            return Err("the server still wants somebody to sign in".into());
        }
        // What was wanted is over when the server has been tried again with the new credentials.
        let tried = shared
            .wait_until(|status| status.catalog_age_ms.is_some() || !Person::is_wanted(manager));
        tokio::time::timeout_at(until, tried).await?;
    }
}

/// What this program can be asked.
fn face() -> ClientFace {
    ClientFace {
        capabilities: r#"{"elicitation":{"form":{}},"sampling":{},"roots":{}}"#.into(),
        info: Some(r#"{"name":"conformance","version":"0"}"#.into()),
        client: Some("conformance".into()),
        ..ClientFace::default()
    }
}

/// The calls that the scenario names, or one of every tool.
fn calls(catalog: &Catalog, context: &Value) -> Result<Vec<(String, Value)>, Failure> {
    if let Some(named) = context["toolCalls"].as_array() {
        let call = |call: &Value| (text(&call["name"]), call["arguments"].clone());
        return Ok(named.iter().map(call).collect());
    }
    let tools: Vec<Value> = parsed(&catalog.tools)?;
    let schema = |name: &str| {
        let other = tools.iter().find(|tool| tool["name"] != *name);
        other.map_or(Value::Null, |tool| tool["inputSchema"].clone())
    };
    Ok(tools
        .iter()
        .map(|tool| {
            let name = text(&tool["name"]);
            let mut arguments = filled_all(&tool["inputSchema"]);
            // A tool that takes a schema wants to see another tool's, as it arrived here.
            if let Some(wanted) = arguments.get_mut("schema") {
                *wanted = schema(&name);
            }
            (name, Value::Object(arguments))
        })
        .collect())
}

/// Asks until the answer is complete, answering what the server asks in between.
async fn ask(server: &ServerHandle, method: &str, params: Value) -> Result<Value, Failure> {
    let mut given = params.clone();
    for _ in 0..ROUNDS {
        let result = once(server, method, &given).await?;
        if result["resultType"] != "input_required" {
            return Ok(result);
        }
        let no_requests = Map::new();
        let requests = result["inputRequests"].as_object().unwrap_or(&no_requests);
        let answers: Map<String, Value> = requests
            .iter()
            .map(|(key, request)| {
                (
                    key.clone(),
                    answer_to(&text(&request["method"]), &request["params"]),
                )
            })
            .collect();
        given = params.clone();
        given["inputResponses"] = Value::Object(answers);
        if let Some(state) = result.get("requestState") {
            given["requestState"] = state.clone();
        }
    }
    Err(format!("still not complete after {ROUNDS} rounds").into())
}

async fn once(server: &ServerHandle, method: &str, params: &Value) -> Result<Value, Failure> {
    let (hear, mut heard) = mpsc::channel(SAID_MAX);
    let options = CallOptions {
        hear: Some(hear),
        client: Some(face()),
        ..CallOptions::default()
    };
    // Ends by itself with the call, which holds the other end.
    tokio::spawn(async move {
        while let Some(said) = heard.recv().await {
            match said {
                Said::Progress(_) | Said::Notice(_) => {}
                Said::Ask(question) => {
                    let params = question.message().params().unwrap_or("null");
                    let params = serde_json::from_str(params).unwrap_or(Value::Null);
                    let answer = answer_to(question.method(), &params);
                    question.result(&answer.to_string()).await;
                }
            }
        }
    });
    let request = Request::new(method, Some(&params.to_string()));
    let answer = server.request(request, options).await?;
    match answer.result() {
        Some(result) => Ok(serde_json::from_str(result)?),
        None => Err(answer.error().unwrap_or("neither result nor error").into()),
    }
}

fn answer_to(method: &str, params: &Value) -> Value {
    match method {
        "elicitation/create" => {
            json!({"action": "accept", "content": filled_all(&params["requestedSchema"])})
        }
        "sampling/createMessage" => json!({
            "role": "assistant", "content": {"type": "text", "text": "an answer"}, "model": "none",
        }),
        _ => json!({"roots": []}),
    }
}

/// Every property of an object's schema with something in it.
fn filled_all(schema: &Value) -> Map<String, Value> {
    let Some(properties) = schema["properties"].as_object() else {
        return Map::new();
    };
    properties
        .iter()
        .map(|(name, schema)| (name.clone(), filled(schema)))
        .collect()
}

/// Something that a property may hold: its default if it has one.
fn filled(schema: &Value) -> Value {
    if let Some(given) = schema.get("default").or_else(|| schema["enum"].get(0)) {
        return given.clone();
    }
    match schema["type"].as_str() {
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("object") => json!({}),
        Some(_) | None => json!("text"),
    }
}

fn parsed(list: &ItemList) -> Result<Vec<Value>, Failure> {
    list.items
        .iter()
        .map(|item| Ok(serde_json::from_slice(&item.raw)?))
        .collect()
}

fn members(list: &ItemList, member: &str) -> Result<Vec<String>, Failure> {
    Ok(parsed(list)?
        .iter()
        .map(|item| text(&item[member]))
        .collect())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What went wrong is for the log: the suite judges by what its server saw.
fn tell(what: &str, outcome: Result<Value, Failure>) {
    if let Err(failure) = outcome {
        eprintln!("{what}: {failure}");
    }
}
