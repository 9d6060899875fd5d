//! The tools of the fake server, and its listings.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::state::State;
use super::{params, sse};
use crate::asks;

/// The tools that are always there.
const FIXED: [&str; 6] = ["echo", "add_marker", "slow", "big", "progress", "set_tools"];

/// One listing, cut into pages where the script says so.
pub(crate) fn list(state: &State, method: &str, params: &Value) -> Value {
    state.ledger.count(|counts| counts.lists += 1);
    let script = state.script();
    match method {
        "tools/list" => {
            let names: Vec<&str> = FIXED
                .iter()
                .copied()
                .chain(script.extra_tools.iter().map(String::as_str))
                .collect();
            let from = params
                .get("cursor")
                .and_then(Value::as_str)
                .and_then(|at| at.parse().ok())
                .unwrap_or(0);
            let size = if script.page_size == 0 {
                names.len()
            } else {
                script.page_size
            };
            let page: Vec<Value> = names
                .iter()
                .skip(from)
                .take(size)
                .map(|name| tool(name))
                .chain(script.raw_tools.iter().filter(|_| from == 0).cloned())
                .collect();
            let mut result = json!({"tools": page});
            if from + size < names.len() {
                result["nextCursor"] = json!((from + size).to_string());
            }
            result
        }
        "prompts/list" => json!({"prompts": [{"name": "greet", "description": "A fixed prompt"}]}),
        "resources/list" => json!({"resources": [{"uri": "file:///fixed", "name": "fixed"}]}),
        _ => json!({"resourceTemplates": []}),
    }
}

fn tool(name: &str) -> Value {
    json!({
        "name": name,
        "description": format!("fake tool {name}"),
        "inputSchema": {"type": "object"},
        "annotations": {"readOnlyHint": name == "echo", "idempotentHint": name == "echo"},
    })
}

/// Runs a tool. Progress goes out through `emit` while it runs, if there is a stream for it.
#[expect(clippy::too_many_lines, reason = "one arm per tool, each a few lines")]
pub(crate) async fn call(
    state: &State,
    params: &Value,
    emit: Option<&mpsc::Sender<bytes::Bytes>>,
) -> Value {
    let name = params
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let arguments = params.get("arguments").cloned().unwrap_or_default();
    state
        .ledger
        .count(|counts| *counts.calls.entry(name.clone()).or_default() += 1);
    let number = |key: &str| arguments.get(key).and_then(Value::as_u64).unwrap_or(0);
    let word = |key: &str| {
        arguments
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    match name.as_str() {
        "echo" => text(word("text")),
        "add_marker" => {
            let marker = word("marker");
            state
                .ledger
                .count(|counts| *counts.markers.entry(marker.to_owned()).or_default() += 1);
            // Executed, but not yet answered: time for whoever wants to break something in between.
            tokio::time::sleep(Duration::from_millis(number("ms"))).await;
            text(marker)
        }
        "slow" => {
            match arguments.get("ms").and_then(Value::as_u64) {
                Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                None => state.held().await,
            }
            text("done")
        }
        "big" => text(&"x".repeat(usize::try_from(number("bytes")).unwrap_or(0))),
        "progress" => {
            let token = params.pointer("/_meta/progressToken");
            progress(token, number("steps"), number("ms"), emit).await;
            text("done")
        }
        "set_tools" => {
            set_tools(state, arguments.get("names"));
            state.tell_changed("tools");
            text("done")
        }
        "inquire"
            if state
                .script()
                .extra_tools
                .iter()
                .any(|tool| tool == "inquire") =>
        {
            inquire(state, params, &arguments, emit).await
        }
        "log" if state.script().extra_tools.iter().any(|tool| tool == "log") => {
            log(&arguments, emit).await
        }
        other if params::tool(&state.script(), other).is_some() => text(other),
        other
            if state
                .script()
                .extra_tools
                .iter()
                .any(|extra| extra == other) =>
        {
            text(other)
        }
        other => {
            json!({"content": [{"type": "text", "text": format!("Unknown tool: {other}")}], "isError": true})
        }
    }
}

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": false})
}

/// Logs one message of each level that was asked for, if there is a stream for them.
async fn log(arguments: &Value, emit: Option<&mpsc::Sender<bytes::Bytes>>) -> Value {
    for message in asks::logs(arguments) {
        if let Some(emit) = emit {
            // A caller that has left needs no messages.
            let _ = emit.send(sse::event(None, &message.to_string())).await;
        }
    }
    text("logged")
}

/// Asks its caller, in the way of the era that it was called in.
async fn inquire(
    state: &State,
    params: &Value,
    arguments: &Value,
    emit: Option<&mpsc::Sender<bytes::Bytes>>,
) -> Value {
    if params
        .pointer("/_meta/io.modelcontextprotocol~1protocolVersion")
        .is_some()
    {
        return asks::modern(params);
    }
    let Some(emit) = emit else {
        return text("there is no stream to ask on");
    };
    let mut answers = Vec::new();
    let mut number = 0;
    while let Some(questions) = asks::round(arguments, number) {
        let mut asked = Vec::new();
        for question in questions {
            let (id, answer) = state.ask();
            let mut request = json!({"jsonrpc": "2.0", "id": id, "method": question.method});
            if let Some(params) = question.params {
                request["params"] = params;
            }
            // A caller that has left does not answer either.
            let _ = emit.send(sse::event(None, &request.to_string())).await;
            asked.push(answer);
        }
        for answer in asked {
            answers.push(answer.await.unwrap_or_default());
        }
        number += 1;
    }
    asks::text(&Value::Array(answers))
}

/// Reports so many steps of progress, if the caller wants to know.
async fn progress(
    token: Option<&Value>,
    steps: u64,
    ms: u64,
    emit: Option<&mpsc::Sender<bytes::Bytes>>,
) {
    for step in 1..=steps {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let (Some(token), Some(emit)) = (token, emit) else {
            continue;
        };
        let told = json!({"jsonrpc": "2.0", "method": "notifications/progress",
            "params": {"progressToken": token, "progress": step, "total": steps}});
        if emit
            .send(sse::event(None, &told.to_string()))
            .await
            .is_err()
        {
            break;
        }
    }
}

/// Replaces the extra tools.
fn set_tools(state: &State, names: Option<&Value>) {
    let names = names.and_then(Value::as_array).cloned().unwrap_or_default();
    state.script().extra_tools = names
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
}
