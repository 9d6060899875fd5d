//! What servers ask of clients, in the four pairings of eras.

#[path = "bridge/sessions.rs"]
mod sessions;
#[path = "bridge/stateless.rs"]
mod stateless;

use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{HttpServer, Script};
use serde_json::{Value, json};

use super::support::{Client, Events, Reply, Session, World, stdio};

/// Everything that a client can be asked.
pub(crate) const ALL: &str =
    r#"{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{}}"#;

/// A form, a question to the model, and one for the folders.
pub(crate) fn three() -> Value {
    json!([
        {"method": "elicitation/create", "params": form("name")},
        {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 5}},
        {"method": "roots/list"},
    ])
}

pub(crate) fn form(message: &str) -> Value {
    json!({"message": message, "requestedSchema": {"type": "object", "properties": {"n": {"type": "number", "default": 95.5}}}})
}

/// One question of a form.
pub(crate) fn elicit(message: &str) -> Value {
    json!([{"method": "elicitation/create", "params": form(message)}])
}

/// A good answer to a question.
pub(crate) fn answer_to(method: &str) -> Value {
    match method {
        "elicitation/create" => json!({"action": "accept", "content": {"n": 1}}),
        "sampling/createMessage" => {
            json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "t"}})
        }
        "roots/list" => json!({"roots": [{"uri": "file:///r"}]}),
        other => panic!("asked for {other}"),
    }
}

/// The arguments of the tool `inquire`.
pub(crate) fn rounds(rounds: &[Value]) -> String {
    json!({"rounds": rounds}).to_string()
}

/// A server of the test kit that asks, over HTTP.
pub(crate) async fn http(mut script: Script) -> HttpServer {
    script.extra_tools = vec!["inquire".to_owned(), "log".to_owned()];
    HttpServer::start(script).await.unwrap()
}

pub(crate) fn at(name: &str, server: &HttpServer) -> ServerConfig {
    ServerConfig::http(name, server.url())
}

/// One over stdio.
pub(crate) fn asking(name: &str, flags: &[&str]) -> ServerConfig {
    stdio(name, &[&["--asks"], flags].concat())
}

/// A session of a client that can be asked.
pub(crate) async fn session(world: &World, path: &str, capabilities: &str) -> Session {
    Session::open_as(world.client().await, path, "2025-11-25", capabilities).await
}

pub(crate) fn legacy_call(id: &str, tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    )
}

/// A modern call: `more` is what stands in `params` beside name and arguments, with a leading comma.
pub(crate) fn modern_call(
    id: &str,
    tool: &str,
    arguments: &str,
    more: &str,
    capabilities: &str,
) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}{more},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{capabilities}}}}}}}"#
    )
}

/// The members of a retry: answers and state.
pub(crate) fn retry(answers: &Value, state: &Value) -> String {
    format!(r#","inputResponses":{answers},"requestState":{state}"#)
}

/// Good answers to everything that was asked.
pub(crate) fn answers(required: &Value) -> Value {
    let mut answers = json!({});
    for (key, request) in required["inputRequests"].as_object().unwrap() {
        answers[key] = answer_to(request["method"].as_str().unwrap());
    }
    answers
}

/// What a call of `inquire` came to: the answers as the server got them.
pub(crate) fn got(result: &Value) -> Value {
    let text = result["content"][0]["text"].as_str();
    serde_json::from_str(text.unwrap_or_else(|| panic!("no text in {result}"))).unwrap()
}

pub(crate) async fn modern(client: &mut Client, path: &str, body: &str) -> Value {
    let reply: Reply = client.modern(path, body).await;
    let mut reply = reply.json();
    reply["result"].take()
}

/// Answers a request on a stream of the session, from another connection.
pub(crate) async fn answer(session: &mut Session, request: &Value, result: &Value) {
    let body = json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
    let reply = session.post(body.to_string()).await;
    assert_eq!((reply.status.as_u16(), reply.body.as_str()), (202, ""));
}

/// Reads a stream up to the answer of the call, and answers whatever is asked on the way. The outcome is the answer, and
/// what was asked.
pub(crate) async fn converse(events: &mut Events, other: &mut Session) -> (Value, Vec<Value>) {
    let mut asked = Vec::new();
    loop {
        let message = events.json().await;
        match message["method"].as_str() {
            Some(method) if message.get("id").is_some() => {
                answer(other, &message, &answer_to(method)).await;
                asked.push(message);
            }
            Some(_) => {}
            None => return (message, asked),
        }
    }
}
