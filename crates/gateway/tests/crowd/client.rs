//! One client: does one thing after another, and believes nothing that is not its own.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use mainstay_gateway::serve::fault;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::faults::{NAMES, who};
use super::loot::{Door, Loot, Thing};
use super::plant::Seeded;
use super::support::{BOTH, Client, Events, Session, modern_headers};

pub(crate) const CAPABILITIES: &str = r#"{"elicitation":{"form":{}},"sampling":{},"roots":{}}"#;

/// What became of everything.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By kind of call: answered, refused or rejected, unknown.
    outcomes: BTreeMap<&'static str, [u64; 3]>,
    /// Markers that were answered, that provably did not run, and that may have.
    done: Vec<String>,
    undone: Vec<String>,
    open: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        for (kind, counts) in other.outcomes {
            let sums = self.outcomes.entry(kind).or_default();
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        self.done.extend(other.done);
        self.undone.extend(other.undone);
        self.open.extend(other.open);
    }

    /// How often a kind of call was answered.
    pub(crate) fn answered(&self, kind: &str) -> u64 {
        self.outcomes
            .get(kind)
            .map_or(0, |[answered, ..]| *answered)
    }

    /// Holds what clients were told against what servers have done.
    pub(crate) fn judge(&self, markers: &BTreeMap<String, u64>, seed: u64) {
        let times = |marker: &String| markers.get(marker).copied().unwrap_or(0);
        for marker in &self.done {
            assert_eq!(times(marker), 1, "seed {seed}: {marker} was answered");
        }
        for marker in &self.undone {
            assert_eq!(
                times(marker),
                0,
                "seed {seed}: {marker} was said not to have run"
            );
        }
        for marker in &self.open {
            assert!(times(marker) <= 1, "seed {seed}: {marker} ran twice");
        }
        let told = self.done.len() + self.undone.len() + self.open.len();
        assert!(
            markers.len() <= told,
            "seed {seed}: markers that nobody sent"
        );
        for kind in [
            "echo", "marker", "progress", "inquire", "cancel", "listen", "list",
        ] {
            let [answered, ..] = self.outcomes.get(kind).copied().unwrap_or_default();
            assert!(answered > 0, "seed {seed}: {kind} never worked");
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, [answered, refused, unknown]) in &self.outcomes {
            write!(
                f,
                "{kind}: {answered} answered, {refused} refused, {unknown} unknown; "
            )?;
        }
        Ok(())
    }
}

#[expect(clippy::large_enum_variant, reason = "a few hundred of them in a test")]
enum Voice {
    Legacy { session: Session, other: Session },
    Modern { client: Client },
}

/// A client in the crowd.
pub(crate) struct Visitor {
    address: std::net::SocketAddr,
    /// Whoever it is, where there are several users.
    who: Option<&'static str>,
    /// What all of them have left lying about, where there are several users.
    loot: Option<Loot>,
    voice: Voice,
    number: u64,
    sent: u64,
    seed: Seeded,
    tally: Tally,
}

/// How a call ended.
enum End {
    Answered(Value),
    Refused,
    Unknown,
}

impl Visitor {
    pub(crate) async fn enter(door: &Door, number: u64, seed: Seeded) -> Self {
        let who = door.loot.as_ref().and_then(|_| who(number));
        let client = Client::connect_as(door.address, who).await;
        let voice = match number % 2 {
            0 => {
                let session = Session::open_as(client, "/mcp", "2025-11-25", CAPABILITIES).await;
                let other = session.twin().await;
                Voice::Legacy { session, other }
            }
            _ => Voice::Modern { client },
        };
        if let (Voice::Legacy { session, .. }, Some(loot)) = (&voice, &door.loot) {
            loot.leave(who, Thing::Session(session.id.clone()));
        }
        Self {
            address: door.address,
            who,
            loot: door.loot.clone(),
            voice,
            number,
            sent: 0,
            seed,
            tally: Tally::default(),
        }
    }

    /// Does things until the deadline, and leaves properly.
    pub(crate) async fn stay(mut self, deadline: Instant) -> Tally {
        while Instant::now() < deadline {
            self.sent += 1;
            let token = format!("c{}-{}", self.number, self.sent);
            let server = self.seed.of(&NAMES);
            let things = if self.loot.is_some() { 14 } else { 12 };
            match self.seed.pick(things) {
                0..=2 => self.echo(server, &token).await,
                3 | 4 => self.mark(server, &token).await,
                5 | 6 => self.progress(server, &token).await,
                7 | 8 => self.inquire(server, &token).await,
                9 => self.cancel(server, &token).await,
                10 => self.listen(&token).await,
                12 | 13 => self.steal(&token).await,
                _ => self.list(&token).await,
            }
        }
        if let Voice::Legacy { session, .. } = &mut self.voice {
            let (path, id) = (session.path.clone(), session.id.clone());
            let gone = session
                .client
                .send(http::Method::DELETE, &path, &[("mcp-session-id", &id)], "")
                .await;
            assert_eq!(gone.status, 200);
        }
        self.tally
    }

    fn count(&mut self, kind: &'static str, end: &End) {
        let counts = self.tally.outcomes.entry(kind).or_default();
        counts[match end {
            End::Answered(_) => 0,
            End::Refused => 1,
            End::Unknown => 2,
        }] += 1;
    }

    async fn echo(&mut self, server: &str, token: &str) {
        let end = self
            .call(server, "echo", &json!({"text": token}), token, false)
            .await;
        if let End::Answered(result) = &end {
            assert_eq!(
                result["content"][0]["text"], token,
                "somebody else's echo: {result}"
            );
        }
        self.count("echo", &end);
    }

    async fn mark(&mut self, server: &str, token: &str) {
        let arguments = json!({"marker": token, "ms": self.seed.next() % 30});
        let end = self
            .call(server, "add_marker", &arguments, token, false)
            .await;
        let list = match &end {
            End::Answered(result) => {
                assert_eq!(
                    result["content"][0]["text"], token,
                    "somebody else's marker: {result}"
                );
                &mut self.tally.done
            }
            End::Refused => &mut self.tally.undone,
            End::Unknown => &mut self.tally.open,
        };
        list.push(token.to_owned());
        self.count("marker", &end);
    }

    async fn progress(&mut self, server: &str, token: &str) {
        let end = self
            .call(
                server,
                "progress",
                &json!({"steps": 3, "ms": 10}),
                token,
                true,
            )
            .await;
        self.count("progress", &end);
    }

    /// A question whose words are the token; the answer carries it back.
    async fn inquire(&mut self, server: &str, token: &str) {
        let ask = |round: u64| match round {
            0 => {
                json!({"method": "elicitation/create", "params": {"message": token, "requestedSchema": {"type": "object", "properties": {}}}})
            }
            _ => {
                json!({"method": "sampling/createMessage", "params": {"systemPrompt": token, "messages": [], "maxTokens": 1}})
            }
        };
        let rounds: Vec<Value> = (0..=self.seed.next() % 2)
            .map(|round| json!([ask(round)]))
            .collect();
        let count = rounds.len();
        let end = self
            .call(server, "inquire", &json!({"rounds": rounds}), token, false)
            .await;
        if let End::Answered(result) = &end {
            let text = result["content"][0]["text"].as_str().unwrap_or_default();
            let answers: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
            assert_eq!(
                answers.len(),
                count,
                "an answer to every question: {result}"
            );
            for answer in answers {
                let own = answer.to_string().contains(&format!("\"{token}\""));
                let refused = answer.get("error").is_some() || answer.is_null();
                assert!(
                    own || refused,
                    "somebody else's answer for {token}: {answer}"
                );
            }
        }
        self.count("inquire", &end);
    }

    async fn cancel(&mut self, server: &str, token: &str) {
        let name = format!("{server}__slow");
        let after = Duration::from_millis(5 + self.seed.next() % 40);
        match &mut self.voice {
            Voice::Legacy { session, other } => {
                let body = json!({"jsonrpc": "2.0", "id": token, "method": "tools/call", "params": {"name": name, "arguments": {"ms": 1500}}});
                let called = session.post(body.to_string());
                let cancelled = async {
                    tokio::time::sleep(after).await;
                    let body = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": token}});
                    assert_eq!(other.post(body.to_string()).await.status, 202);
                };
                let (reply, ()) = tokio::join!(called, cancelled);
                assert_eq!(reply.status, 200);
            }
            Voice::Modern { .. } => {
                let mut client = Client::connect_as(self.address, self.who).await;
                let body = modern(
                    token,
                    "tools/call",
                    json!({"name": name, "arguments": {"ms": 1500}}),
                );
                // Dropping the connection is the cancel.
                let _ = tokio::time::timeout(after, client.modern("/mcp", &body)).await;
            }
        }
        self.count("cancel", &End::Answered(Value::Null));
    }

    async fn listen(&mut self, token: &str) {
        let uri = "file:///fixed";
        let end = match &mut self.voice {
            Voice::Legacy { session, .. } => {
                let mut last = Value::Null;
                for method in ["resources/subscribe", "resources/unsubscribe"] {
                    let body = json!({"jsonrpc": "2.0", "id": token, "method": method, "params": {"uri": uri}});
                    last = session.post(body.to_string()).await.json();
                    assert_eq!(last["id"], token);
                }
                judged(last)
            }
            Voice::Modern { .. } => {
                let mut client = Client::connect_as(self.address, self.who).await;
                let filter = json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": [uri]}});
                let body = modern(token, "subscriptions/listen", filter);
                let headers = modern_headers(&body);
                let mut all = vec![("content-type", "application/json"), ("accept", BOTH)];
                all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
                let mut events = Events::of(
                    client
                        .open(http::Method::POST, "/mcp", &all, body.clone())
                        .await,
                );
                let first = events.json().await;
                assert_eq!(
                    first["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], token,
                    "{first}"
                );
                End::Answered(first)
            }
        };
        self.count("listen", &end);
    }

    /// Uses what another has left lying about. None of it is worth anything.
    async fn steal(&mut self, token: &str) {
        let Some((loot, of_whom)) = self.loot.clone().and_then(|loot| {
            let pick = self.seed.next();
            loot.take(self.who, pick)
        }) else {
            return;
        };
        let mut client = Client::connect_as(self.address, self.who).await;
        match (&loot, &mut self.voice) {
            (Thing::Session(_) | Thing::State(_), _) => {
                loot.is_worth_nothing(&mut client, token).await
            }
            // Ids of requests mean what they mean in one's own session alone: its owner gets its answer all the same.
            (Thing::RequestId(id), Voice::Legacy { session, .. }) => {
                let body = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
                assert_eq!(
                    session.post(body.to_string()).await.status,
                    202,
                    "{of_whom:?}"
                );
            }
            (Thing::RequestId(_), Voice::Modern { .. }) => return,
        }
        self.count("steal", &End::Answered(Value::Null));
    }

    async fn list(&mut self, token: &str) {
        let end = match &mut self.voice {
            Voice::Legacy { session, .. } => {
                let body = json!({"jsonrpc": "2.0", "id": token, "method": "tools/list"});
                session.post(body.to_string()).await.json()
            }
            Voice::Modern { client } => client
                .modern("/mcp", &modern(token, "tools/list", json!({})))
                .await
                .json(),
        };
        assert_eq!(end["id"], token);
        let tools = end["result"]["tools"].as_array().unwrap();
        for server in NAMES {
            let own = |tool: &Value| {
                tool["name"]
                    .as_str()
                    .is_some_and(|name| name.starts_with(server))
            };
            assert!(
                tools.iter().any(own),
                "law 22: the tools of {server} are always listed"
            );
        }
        self.count("list", &End::Answered(end));
    }

    async fn call(
        &mut self,
        server: &str,
        tool: &str,
        arguments: &Value,
        token: &str,
        progress: bool,
    ) -> End {
        let mut params = json!({"name": format!("{server}__{tool}"), "arguments": arguments});
        if progress {
            params["_meta"] = json!({"progressToken": token});
        }
        match &mut self.voice {
            Voice::Legacy { session, other } => {
                if let Some(loot) = &self.loot {
                    loot.leave(self.who, Thing::RequestId(token.to_owned()));
                }
                legacy_call(session, other, params, token).await
            }
            Voice::Modern { client } => {
                let loot = self.loot.as_ref().map(|loot| (loot, self.who));
                modern_call(client, params, token, loot).await
            }
        }
    }
}

/// The answer of a legacy call; what is asked on its stream is answered.
async fn legacy_call(
    session: &mut Session,
    other: &mut Session,
    params: Value,
    token: &str,
) -> End {
    let body = json!({"jsonrpc": "2.0", "id": token, "method": "tools/call", "params": params})
        .to_string();
    let response = session.open_post(body).await;
    if response.headers()["content-type"] == "application/json" {
        use http_body_util::BodyExt as _;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        return judged(own(serde_json::from_slice(&body).unwrap(), token));
    }
    let mut events = Events::of(response);
    loop {
        let text = events.next().await.expect("a stream ends with its answer");
        if text.is_empty() {
            continue;
        }
        let message: Value = serde_json::from_str(&text).unwrap();
        match (message["method"].as_str(), message.get("id")) {
            (None, _) => return judged(own(message, token)),
            (Some(method), Some(id)) => {
                let answer = json!({"jsonrpc": "2.0", "id": id, "result": answer_to(method, &message["params"], token)});
                assert_eq!(other.post(answer.to_string()).await.status, 202);
            }
            (Some(method), None) => said(method, &message, token),
        }
    }
}

/// The answer of a modern call, over as many rounds as it takes.
async fn modern_call(
    client: &mut Client,
    mut params: Value,
    token: &str,
    loot: Option<(&Loot, Option<&'static str>)>,
) -> End {
    for round in 0..6 {
        let id = format!("{token}/{round}");
        let reply = client
            .modern("/mcp", &modern(&id, "tools/call", params.clone()))
            .await;
        let mut messages: Vec<Value> = match reply.header("content-type") {
            Some("text/event-stream") => {
                let data = reply
                    .body
                    .lines()
                    .filter_map(|line| line.strip_prefix("data: "));
                data.map(|text| serde_json::from_str(text).unwrap())
                    .collect()
            }
            _ => vec![reply.json()],
        };
        let answer = own(messages.pop().expect("an answer"), &id);
        for message in &messages {
            said(
                message["method"].as_str().unwrap_or("no notification"),
                message,
                token,
            );
        }
        let result = &answer["result"];
        if result["resultType"] != "input_required" {
            return judged(answer);
        }
        let mut answers = json!({});
        for (key, request) in result["inputRequests"].as_object().unwrap() {
            answers[key] = answer_to(
                request["method"].as_str().unwrap(),
                &request["params"],
                token,
            );
        }
        params["inputResponses"] = answers;
        params["requestState"] = result["requestState"].clone();
        if let Some((loot, who)) = loot {
            loot.leave(who, Thing::State(params.clone()));
        }
    }
    panic!("{token}: asked again and again");
}

pub(crate) fn modern(id: &str, method: &str, mut params: Value) -> String {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
        serde_json::from_str(CAPABILITIES).unwrap();
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

/// A question must be ours, and gets an answer that says so.
fn answer_to(method: &str, params: &Value, token: &str) -> Value {
    assert!(
        params.to_string().contains(&format!("\"{token}\"")),
        "{token} is asked what concerns another: {params}"
    );
    match method {
        "elicitation/create" => json!({"action": "accept", "content": {"token": token}}),
        "sampling/createMessage" => {
            json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": token}})
        }
        other => panic!("asked for {other}"),
    }
}

fn said(method: &str, message: &Value, token: &str) {
    match method {
        "notifications/progress" => assert_eq!(
            message["params"]["progressToken"], token,
            "somebody else's progress"
        ),
        // An answer is not wanted any more: the server has gone.
        "notifications/cancelled" => {}
        other => panic!("{token}: heard {other}: {message}"),
    }
}

fn own(message: Value, id: &str) -> Value {
    assert_eq!(message["id"], id, "somebody else's answer: {message}");
    message
}

/// Exactly one of the outcomes that there are (law 16).
fn judged(mut message: Value) -> End {
    if message.get("result").is_some() {
        let result = message["result"].take();
        assert_ne!(result["isError"], true, "{result}");
        return End::Answered(result);
    }
    match message["error"]["code"].as_i64() {
        Some(fault::REFUSED | fault::REJECTED) => End::Refused,
        Some(fault::OUTCOME_UNKNOWN) => End::Unknown,
        // The state of a parked call whose server has died, or a question that found nobody.
        Some(-32602 | fault::INPUT_MISSING) => End::Unknown,
        _ => panic!("no outcome of ours: {message}"),
    }
}
