//! Questions of servers on their way to the client, and the answers on their way back.

use mainstay_wire::Era;

use super::drive::Line;
use super::edits::{Facts, Leg, PAIRS, Pair, expected};
use super::plant::{Seeded, plant};
use super::support::Events;
use super::table::{Answer, Exchange};
use super::tree::Tree;

const ID: &str = "\"s-\\u0037\"";
const STATE: &str = "\"st\\u0061te \\/\"";
const DONE: &str = "{\"content\":[{\"type\":\"text\",\"text\":\"done\"}]}";

impl Line {
    /// Calls a tool that asks this question. Returns the rows of the table that made a difference.
    pub(crate) async fn question(
        &mut self,
        exchange: &Exchange,
        planted: bool,
        seed: &mut Seeded,
    ) -> Vec<usize> {
        let place = format!("{} ({:?}, planted: {planted})", exchange.name, self.pair);
        let Answer::Result(answer) = &exchange.answer else {
            panic!("no answer: {place}");
        };
        let mut answer = Tree::read(answer);
        let mut params = Tree::read(exchange.params.as_deref().unwrap());
        let is_url = params.string(&["mode"]).as_deref() == Some("url");
        if self.pair.server == Era::Legacy {
            params.set(&["_meta", "progressToken"], "\"theirs\"");
            params.set(
                &["_meta", "io.modelcontextprotocol/related-task"],
                "{\"taskId\":\"t\"}",
            );
            params.set(&["task"], "{\"ttl\":1.0}");
            if is_url {
                params.set(&["elicitationId"], "\"e-1\"");
            }
        }
        if planted {
            plant(&mut params, seed);
            plant(&mut answer, seed);
        }
        let method = exchange.method.as_str();
        let asked = Tree::read(&format!(
            "{{\"method\":\"{method}\",\"params\":{}}}",
            params.text()
        ));
        match self.pair.server {
            Era::Legacy => {
                let mut question = asked.clone();
                question.set(&["jsonrpc"], "\"2.0\"");
                question.set(&["id"], ID);
                let result = format!("{{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{DONE}}}");
                self.paper.say(vec![question.text(), result]);
            }
            Era::Modern => {
                let required = format!(
                    "{{\"resultType\":\"input_required\",\"inputRequests\":{{\"k \\u00fc\":{}}},\"requestState\":{STATE}}}",
                    asked.text()
                );
                self.paper.say(vec![format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{required}}}"
                )]);
                let result = format!("{{\"resultType\":\"complete\",{}", &DONE[1..]);
                self.paper.say(vec![format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{result}}}"
                )]);
            }
        }
        let (came, done) = match self.pair.client {
            Era::Legacy => self.ask_legacy(&answer, seed).await,
            Era::Modern => self.ask_modern(&answer, seed).await,
        };
        assert!(done.text().contains("\"done\""), "{place}: {}", done.text());
        let rows = judge(self.pair, &asked, &came, &place);
        self.judge_answer(&answer, &place);
        rows
    }

    fn ask_call(&mut self, seed: &mut Seeded) -> Tree {
        let mut request = self.request(
            "tools/call",
            Some("{\"name\":\"plain\",\"arguments\":{\"n\":1.10}}"),
            false,
            seed,
        );
        self.expose(&mut request);
        request
    }

    /// The question as it came on the stream of the call, and the answer of the call.
    async fn ask_legacy(&mut self, answer: &Tree, seed: &mut Seeded) -> (Tree, Tree) {
        let request = self.ask_call(seed);
        let mut other = self.world.client().await;
        let session = self.session.clone().unwrap();
        let headers = [
            ("mcp-session-id", session.as_str()),
            ("mcp-protocol-version", "2025-11-25"),
        ];
        let all = [
            &[
                ("content-type", "application/json"),
                ("accept", super::support::BOTH),
            ],
            &headers[..],
        ]
        .concat();
        let response = self
            .client
            .open(http::Method::POST, self.path, &all, request.text())
            .await;
        let mut events = Events::of(response);
        let came = Tree::read(&events.next().await.expect("a question"));
        let id = came.raw(&["id"]).expect("the id of a question");
        let reply = format!(
            "{{\"jsonrpc\":\"2.0\",\"x\":1.10 ,\"id\":{id},\"result\":{}}}",
            answer.text()
        );
        assert_eq!(other.post(self.path, &headers, reply).await.status, 202);
        let done = Tree::read(&events.next().await.expect("an answer"));
        (came, done)
    }

    /// The question as it came in an input-required result, and the answer of the next round.
    async fn ask_modern(&mut self, answer: &Tree, seed: &mut Seeded) -> (Tree, Tree) {
        let mut request = self.ask_call(seed);
        let asked = self.ask(&request).await.remove(0);
        assert_eq!(
            asked.string(&["result", "resultType"]).as_deref(),
            Some("input_required"),
            "{}",
            asked.text()
        );
        let Some(Tree::Object { members, .. }) = asked.get(&["result", "inputRequests"]) else {
            panic!("nothing is asked: {}", asked.text());
        };
        assert_eq!(members.len(), 1);
        let key = &members[0].key;
        request.set(
            &["params", "inputResponses"],
            &format!("{{{key}:{}}}", answer.text()),
        );
        request.set(
            &["params", "requestState"],
            &asked.raw(&["result", "requestState"]).unwrap(),
        );
        request.set(&["id"], "\"again\"");
        let done = self.ask(&request).await.remove(0);
        (members[0].value.clone(), done)
    }

    /// What the server got for an answer.
    fn judge_answer(&mut self, answer: &Tree, place: &str) {
        let seen = self.paper.seen();
        match self.pair.server {
            Era::Legacy => {
                let got = self.paper.answered().expect("an answer");
                let member = match self.pair.client {
                    Era::Legacy => "\"x\":1.10 ,",
                    Era::Modern => "",
                };
                let wanted = format!(
                    "{{\"jsonrpc\":\"2.0\",{member}\"id\":{ID},\"result\":{}}}",
                    answer.text()
                );
                assert_eq!(got, wanted, "what the server got of: {place}");
            }
            Era::Modern => {
                let got = Tree::read(&seen.last().expect("a second round").text);
                let first = Tree::read(&seen[0].text);
                let wanted = format!("{{\"k \\u00fc\":{}}}", answer.text());
                let responses = got.raw(&["params", "inputResponses"]).expect("answers");
                // The key is ours where the question went through our hands.
                let responses = responses.replacen("\"k ü\"", "\"k \\u00fc\"", 1);
                assert_eq!(responses, wanted, "what the server got of: {place}");
                assert_eq!(
                    got.raw(&["params", "requestState"]).as_deref(),
                    Some(STATE),
                    "{place}"
                );
                for member in ["name", "arguments"] {
                    assert_eq!(
                        got.raw(&["params", member]),
                        first.raw(&["params", member]),
                        "{place}"
                    );
                }
            }
        }
    }
}

/// Holds a question against the table.
fn judge(pair: Pair, asked: &Tree, came: &Tree, place: &str) -> Vec<usize> {
    let part = |tree: &Tree| {
        let params = tree.raw(&["params"]).expect("parameters");
        Tree::read(&format!("{{\"params\":{params}}}"))
    };
    let (before, after) = (part(asked), part(came));
    let facts = Facts {
        method: "tools/call",
        before: &before,
        came: &after,
        request: &before,
        capabilities: "",
        client_info: None,
        server_info: "",
        upstream_name: None,
    };
    let (text, rows) = expected(Leg::Question, pair, facts);
    assert_eq!(after.text(), text, "what the client was asked of: {place}");
    assert_eq!(came.raw(&["method"]), asked.raw(&["method"]), "{place}");
    debug_assert!(PAIRS.contains(&pair));
    rows
}
