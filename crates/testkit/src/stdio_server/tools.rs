//! The tools.

use std::time::Duration;

use serde_json::{Value, json};

use super::answers::{Answer, META_VERSION, error};
use super::server::Server;
use crate::asks;

/// Name, description, argument, the argument's type, read-only?
const TOOLS: &[(&str, &str, &str, &str, bool)] = &[
    ("echo", "Returns `text`", "text", "string", true),
    (
        "add_marker",
        "Appends `marker` to the ledger: one line per execution; then answers, after `ms` milliseconds if given",
        "marker",
        "string",
        false,
    ),
    (
        "slow",
        "Answers after `ms` milliseconds; can be cancelled",
        "ms",
        "integer",
        true,
    ),
    (
        "crash",
        "Exits without an answer, with `code`",
        "code",
        "integer",
        false,
    ),
    ("big", "Returns `bytes` bytes", "bytes", "integer", true),
    (
        "progress",
        "Reports progress `steps` times, 10 ms apart, then answers",
        "steps",
        "integer",
        true,
    ),
    (
        "touch",
        "Tells that the resource `uri` changed, three times",
        "uri",
        "string",
        false,
    ),
    (
        "ask",
        "Asks the client for `text` and answers with what it says, as JSON",
        "text",
        "string",
        false,
    ),
    (
        "set_tools",
        "Lists only `names` from now on (unknown ones become echoes) and says so",
        "names",
        "array",
        false,
    ),
    (
        "inquire",
        "Asks its caller the questions of `rounds`, then answers with all answers",
        "rounds",
        "array",
        false,
    ),
    (
        "log",
        "Logs one message of each of `levels`, then answers",
        "levels",
        "array",
        true,
    ),
];

/// `touch` is there only where resources can be subscribed to, what asks and logs only where it was asked for.
pub(crate) fn default_names(wishes: bool, asks: bool) -> Vec<String> {
    let names = TOOLS.iter().map(|(name, ..)| (*name).to_owned());
    names
        .filter(|name| match name.as_str() {
            "touch" => wishes,
            "ask" | "inquire" | "log" => asks,
            _ => true,
        })
        .collect()
}

pub(crate) fn list(names: &[String]) -> Value {
    names.iter().map(|name| tool(name)).collect()
}

fn tool(name: &str) -> Value {
    let known = TOOLS.iter().find(|(known, ..)| *known == name);
    let (_, description, argument, kind, read_only) =
        known.unwrap_or(&("", "Returns `text`", "text", "string", true));
    json!({
        "name": name,
        "description": description,
        "inputSchema": {"type": "object", "properties": {*argument: {"type": kind}}},
        "annotations": {"readOnlyHint": read_only},
    })
}

/// `None` if there is no answer: the call was cancelled.
pub(crate) fn call(server: &Server, id: &Value, params: &Value) -> Option<Answer> {
    let name = params["name"].as_str().unwrap_or_default();
    let arguments = &params["arguments"];
    if !server.tools().iter().any(|listed| listed == name) {
        return Some(Err(error(-32602, &format!("unknown tool: {name}"))));
    }
    let text = match name {
        "add_marker" => {
            let marker = arguments["marker"].as_str().unwrap_or_default();
            server.ledger().write("marker", marker);
            let time = Duration::from_millis(arguments["ms"].as_u64().unwrap_or_default());
            if !server.passes(id, time) {
                return None;
            }
            marker.to_owned()
        }
        "slow" => {
            let time = Duration::from_millis(arguments["ms"].as_u64().unwrap_or_default());
            if !server.passes(id, time) {
                return None;
            }
            "done".to_owned()
        }
        "crash" => std::process::exit(
            arguments["code"]
                .as_i64()
                .and_then(|code| i32::try_from(code).ok())
                .unwrap_or(1),
        ),
        "big" => filler(
            arguments["bytes"]
                .as_u64()
                .and_then(|bytes| usize::try_from(bytes).ok())
                .unwrap_or_default(),
        ),
        "progress" => progress(server, id, params)?,
        "ask" => server.ask(id, &arguments["text"])?,
        "touch" => touch(server, &arguments["uri"]),
        "set_tools" => set_tools(server, &arguments["names"]),
        // Not listed unless somebody sets it.
        "fail" => {
            let content = json!([{"type": "text", "text": "it failed"}]);
            return Some(Ok(json!({"content": content, "isError": true})));
        }
        "inquire" if params["_meta"][META_VERSION].is_string() => {
            return Some(Ok(asks::modern(params)));
        }
        "inquire" => return inquire(server, id, arguments),
        "log" => {
            for message in asks::logs(arguments) {
                server.output().message(&message);
            }
            "logged".to_owned()
        }
        _ => arguments["text"].as_str().unwrap_or_default().to_owned(),
    };
    let text = server.knobs().big_result_bytes.map_or(text, filler);
    Some(Ok(json!({"content": [{"type": "text", "text": text}]})))
}

/// Asks round by round, and answers when it has all answers; not at all if it is cancelled before that.
fn inquire(server: &Server, id: &Value, arguments: &Value) -> Option<Answer> {
    let mut answers = Vec::new();
    let mut number = 0;
    while let Some(questions) = asks::round(arguments, number) {
        let mut asked = Vec::new();
        for (place, question) in questions.into_iter().enumerate() {
            let ask = format!("inquire-{id}-{number}-{place}");
            let mut request = json!({"jsonrpc": "2.0", "id": ask, "method": question.method});
            if let Some(params) = question.params {
                request["params"] = params;
            }
            server.ledger().write("ask", &ask);
            server.output().message(&request);
            asked.push(ask);
        }
        for ask in asked {
            let answer = server.answer_to(id, &ask)?;
            answers.push(match answer.get("error") {
                Some(error) => json!({"error": error}),
                None => answer["result"].clone(),
            });
        }
        number += 1;
    }
    Some(Ok(asks::text(&Value::Array(answers))))
}

fn filler(bytes: usize) -> String {
    "x".repeat(bytes)
}

fn progress(server: &Server, id: &Value, params: &Value) -> Option<String> {
    let steps = params["arguments"]["steps"].as_u64().unwrap_or_default();
    let token = &params["_meta"]["progressToken"];
    for step in 1..=steps {
        if !server.passes(id, Duration::from_millis(10)) {
            return None;
        }
        if !token.is_null() {
            let report = json!({"progressToken": token, "progress": step, "total": steps});
            server.output().message(
                &json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": report}),
            );
        }
    }
    Some(format!("{steps} steps"))
}

fn touch(server: &Server, uri: &Value) -> String {
    for _ in 0..3 {
        server.output().message(
            &json!({"jsonrpc": "2.0", "method": "notifications/resources/updated",
                "params": {"uri": uri}}),
        );
    }
    "touched".to_owned()
}

fn set_tools(server: &Server, names: &Value) -> String {
    let names = names.as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<String> = names
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let text = format!("{} tools", names.len());
    *server.tools() = names;
    server
        .output()
        .message(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
    text
}
