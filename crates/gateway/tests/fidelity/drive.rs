//! One client, the gateway, one server: sends an exchange through and compares what arrives on either side.

use std::collections::HashMap;

use mainstay_wire::{Era, headers};

use super::edits::{Facts, Leg, Pair, expected};
use super::paper::{Paper, Say};
use super::plant::{Seeded, plant, shuffle};
use super::support::{Client, MODERN, Reply, World};
use super::table::{self, Answer, Exchange};
use super::tree::Tree;

/// What clients of the test declare and say they are, with things in it that nobody knows.
const CLIENT_CAPABILITIES: &str = r#"{ "experimental":{"x":1.10} ,"sampling":{"tools":{},"context":{}},"elicitation":{"form":{},"url":{}},"roots":{},"x-new":[1.10,1E400]}"#;
const CLIENT_INFO: &str =
    r#"{"version":"1.0" ,"name":"fidelity \u00fc","title":"F","vendor":12345678901234567890}"#;
/// The same of servers.
const SERVER_INFO: &str = r#"{"version":"2.0","name":"paper \ud83d\ude00" ,"vendor":1.10}"#;

/// A client and a server with the gateway between them.
pub(crate) struct Line {
    pub(crate) pair: Pair,
    pub(crate) paper: Paper,
    pub(crate) world: World,
    pub(crate) client: Client,
    pub(crate) path: &'static str,
    pub(crate) session: Option<String>,
    /// By kind of listing: what the server lists, planted.
    listed: HashMap<&'static str, Vec<Tree>>,
    /// On the aggregate: by method of the listing and own name, the exposed name.
    exposed: HashMap<(&'static str, String), String>,
    sent: u64,
}

impl Line {
    pub(crate) async fn open(pair: Pair, aggregate: bool, seed: &mut Seeded) -> Self {
        let mut listed = HashMap::new();
        let mut usual = HashMap::new();
        for (method, key, _, mut items) in table::listings() {
            for item in &mut items {
                plant(item, seed);
            }
            let texts: Vec<String> = items.iter().map(Tree::text).collect();
            usual.insert(
                method,
                with_modern(
                    pair.server,
                    &format!("{{\"{key}\":[{}]}}", texts.join(" , ")),
                    true,
                ),
            );
            listed.insert(method, items);
        }
        let capabilities = r#""capabilities":{"tools":{},"prompts":{},"resources":{},"completions":{},"logging":{}}"#;
        let hello = match pair.server {
            Era::Legacy => format!(
                "{{\"protocolVersion\":\"2025-11-25\",{capabilities},\"serverInfo\":{SERVER_INFO}}}"
            ),
            Era::Modern => with_modern(
                pair.server,
                &format!("{{\"supportedVersions\":[\"{MODERN}\"],{capabilities}}}"),
                true,
            ),
        };
        usual.insert("initialize", hello.clone());
        usual.insert("server/discover", hello);
        usual.insert("ping", "{}".to_owned());
        // How a legacy server learns which level the calls of modern clients asked for.
        usual.insert("logging/setLevel", "{}".to_owned());
        let paper = Paper::start(pair.server, usual).await;
        let world = World::start([paper.config("p")]).await;
        let client = world.client().await;
        let mut line = Self {
            pair,
            paper,
            world,
            client,
            path: if aggregate { "/mcp" } else { "/servers/p/mcp" },
            session: None,
            listed,
            exposed: HashMap::new(),
            sent: 0,
        };
        if pair.client == Era::Legacy {
            line.begin().await;
        }
        if aggregate {
            line.learn_names().await;
        }
        line
    }

    pub(crate) async fn close(self) {
        self.world.end().await;
    }

    async fn begin(&mut self) {
        let hello = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{CLIENT_CAPABILITIES},\"clientInfo\":{CLIENT_INFO}}}}}"
        );
        let reply = self.client.post(self.path, &[], hello).await;
        self.session = Some(reply.header("mcp-session-id").unwrap().to_owned());
        let ready = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}".to_owned();
        assert_eq!(self.post(&[], ready).await.status, 202);
    }

    pub(crate) async fn post(&mut self, more: &[(&str, &str)], body: String) -> Reply {
        let session = self.session.clone();
        let mut headers: Vec<(&str, &str)> = more.to_vec();
        if let Some(session) = &session {
            headers.push(("mcp-session-id", session));
            headers.push(("mcp-protocol-version", "2025-11-25"));
        }
        self.client.post(self.path, &headers, body).await
    }

    /// Sends a client's request and returns the messages of the answer, the answer last.
    pub(crate) async fn ask(&mut self, request: &Tree) -> Vec<Tree> {
        let mut headers: Vec<(String, String)> = Vec::new();
        if self.pair.client == Era::Modern {
            headers = routing_headers(request);
        }
        let borrowed: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let reply = self.post(&borrowed, request.text()).await;
        if reply.header("content-type") != Some("text/event-stream") {
            return vec![Tree::read(&reply.body)];
        }
        // An event without data only has an id, to resume from.
        let data = |line: &str| {
            let text = line.strip_prefix("data: ").filter(|text| !text.is_empty());
            text.map(Tree::read)
        };
        reply.body.lines().filter_map(data).collect()
    }

    /// A request of a client of this line, with unknown members if `planted`.
    pub(crate) fn request(
        &mut self,
        method: &str,
        params: Option<&str>,
        planted: bool,
        seed: &mut Seeded,
    ) -> Tree {
        self.sent += 1;
        let id = match seed.pick(3) {
            0 => format!("\"r-{} \\u00fc\\/\"", self.sent),
            1 => format!("\"{}\"", self.sent),
            _ => self.sent.to_string(),
        };
        let mut request = Tree::read(&format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\"}}"
        ));
        if let Some(params) = params {
            request.set(&["params"], params);
        }
        if planted {
            shuffle(&mut request, seed);
            plant(&mut request, seed);
        }
        if self.pair.client == Era::Modern {
            let stamp = [
                (
                    "io.modelcontextprotocol/protocolVersion",
                    format!("\"{MODERN}\""),
                ),
                (
                    "io.modelcontextprotocol/clientCapabilities",
                    CLIENT_CAPABILITIES.to_owned(),
                ),
                ("io.modelcontextprotocol/clientInfo", CLIENT_INFO.to_owned()),
                ("io.modelcontextprotocol/logLevel", "\"error\"".to_owned()),
            ];
            for (key, raw) in stamp.iter().take(seed.pick(3) + 2) {
                request.set(&["params", "_meta", key], raw);
            }
        }
        request
    }

    /// Sends one exchange through. Returns the rows of the table that made a difference.
    pub(crate) async fn carry(
        &mut self,
        exchange: &Exchange,
        planted: bool,
        seed: &mut Seeded,
    ) -> Vec<usize> {
        let place = format!(
            "{} ({:?}, {}, planted: {planted})",
            exchange.name, self.pair, self.path
        );
        let mut request = self.request(&exchange.method, exchange.params.as_deref(), planted, seed);
        let own_name = self.expose(&mut request);
        let (said, answer_leg) = self.script(exchange, planted, seed);
        self.paper.say(said.clone());
        let mut arrived = self.ask(&request).await;
        let mut seen = self.paper.seen();
        let heard: Vec<String> = arrived.iter().map(Tree::text).collect();
        assert_eq!(
            seen.len(),
            1,
            "requests for: {place}: {seen:#?}, the client got {heard:#?}"
        );
        let seen = seen.remove(0);
        let came = Tree::read(&seen.text);
        let client_info = ["params", "_meta", "io.modelcontextprotocol/clientInfo"];
        let client_info = match self.pair.client {
            Era::Legacy => Some(CLIENT_INFO.to_owned()),
            Era::Modern => request.raw(&client_info),
        };
        let facts = Facts {
            method: &exchange.method,
            before: &request,
            came: &came,
            request: &request,
            capabilities: CLIENT_CAPABILITIES,
            client_info: client_info.as_deref(),
            server_info: SERVER_INFO,
            upstream_name: own_name.as_deref(),
        };
        let (text, mut rows) = expected(Leg::Request, self.pair, facts);
        assert_eq!(seen.text, text, "what the server got of: {place}");
        self.judge_upstream(&came, &seen.headers, &place);
        let upstream_id = came.raw(&["id"]).unwrap();
        let token = came
            .raw(&["params", "_meta", "progressToken"])
            .unwrap_or_default();
        let fill = |text: &String| {
            Tree::read(
                &text
                    .replacen("$ID", &upstream_id, 1)
                    .replacen("$TOKEN", &token, 1),
            )
        };
        let mut said: Vec<Tree> = said.iter().map(fill).collect();
        assert_eq!(
            arrived.len(),
            said.len(),
            "messages for: {place}: {arrived:#?}"
        );
        let legs = vec![Leg::Progress; said.len() - 1]
            .into_iter()
            .chain([answer_leg]);
        for ((before, came), leg) in said.drain(..).zip(arrived.drain(..)).zip(legs) {
            let facts = Facts {
                before: &before,
                came: &came,
                ..facts
            };
            let (text, more) = expected(leg, self.pair, facts);
            assert_eq!(came.text(), text, "what the client got of: {place}");
            rows.extend(more);
        }
        rows
    }

    /// The messages that the server will say: notifications, then the answer.
    fn script(&self, exchange: &Exchange, planted: bool, seed: &mut Seeded) -> (Say, Leg) {
        let mut said = Vec::new();
        let mut finish = |text: String| {
            // Placeholders are no JSON, so they are strings meanwhile.
            let text = text
                .replace("$ID", "\"$ID\"")
                .replace("$TOKEN", "\"$TOKEN\"");
            let mut tree = Tree::read(&text);
            if planted {
                shuffle(&mut tree, seed);
                plant(&mut tree, seed);
            }
            said.push(
                tree.text()
                    .replace("\"$ID\"", "$ID")
                    .replace("\"$TOKEN\"", "$TOKEN"),
            );
        };
        for (method, params) in &exchange.meanwhile {
            finish(format!(
                "{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{params}}}"
            ));
        }
        match &exchange.answer {
            Answer::Result(result) => {
                let result = with_modern(
                    self.pair.server,
                    result,
                    exchange.method == "resources/read",
                );
                finish(format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{result}}}"
                ));
                (said, Leg::Result)
            }
            Answer::Error(error) => {
                finish(format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":$ID,\"error\":{error}}}"
                ));
                (said, Leg::Error)
            }
        }
    }

    /// On the aggregate: puts the exposed name into a request, and returns the server's own.
    pub(crate) fn expose(&self, request: &mut Tree) -> Option<String> {
        let method = request.string(&["method"])?;
        let (listing, path): (_, &[&str]) = match method.as_str() {
            "tools/call" => ("tools/list", &["params", "name"]),
            "prompts/get" => ("prompts/list", &["params", "name"]),
            "completion/complete" => ("prompts/list", &["params", "ref", "name"]),
            _ => return None,
        };
        let own = request.string(path)?;
        let exposed = self.exposed.get(&(listing, own.clone()))?;
        request.set(path, &serde_json::to_string(exposed).unwrap());
        Some(own)
    }

    /// What is true of every request that reaches a server.
    fn judge_upstream(&self, came: &Tree, headers: &http::HeaderMap, place: &str) {
        let id = came.raw(&["id"]).unwrap();
        assert!(id.parse::<u64>().is_ok(), "an id of ours: {id}: {place}");
        let routing: Vec<(String, String)> = headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("mcp-") && *name != "mcp-session-id")
            .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
            .collect();
        match self.pair.server {
            Era::Legacy => assert_eq!(
                routing,
                [("mcp-protocol-version".to_owned(), "2025-11-25".to_owned())],
                "{place}"
            ),
            Era::Modern => {
                let mut wanted = routing_headers(came);
                wanted.sort();
                let mut routing = routing;
                routing.sort();
                assert_eq!(routing, wanted, "{place}");
            }
        }
    }

    async fn learn_names(&mut self) {
        for (method, key, name, _) in table::listings() {
            if name != "name" {
                continue;
            }
            let items = self.list(method, key).await;
            for own in &self.listed[method] {
                let own_name = own.string(&["name"]).unwrap();
                let same = |item: &&Tree| {
                    let mut item = (*item).clone();
                    item.set(&["name"], &own.raw(&["name"]).unwrap());
                    item.text() == own.text()
                };
                let item = items.iter().find(same);
                let item = item.unwrap_or_else(|| {
                    let shown: Vec<String> = items.iter().map(Tree::text).collect();
                    panic!(
                        "{} is not listed, or is edited; listed are {shown:#?}",
                        own.text()
                    )
                });
                self.exposed
                    .insert((method, own_name), item.string(&["name"]).unwrap());
            }
        }
    }

    async fn list(&mut self, method: &'static str, key: &str) -> Vec<Tree> {
        let request = self.request(method, None, false, &mut Seeded(self.sent));
        let answer = self.ask(&request).await.remove(0);
        let id = request.raw(&["id"]).unwrap();
        let Some(items) = answer.raw(&["result", key]) else {
            panic!("no listing: {}", answer.text());
        };
        let result = match self.pair.client {
            Era::Legacy => format!("{{\"{key}\":{items}}}"),
            Era::Modern => {
                let member = |path: &[&str]| answer.raw(path).unwrap_or_default();
                let info = member(&["result", "_meta", "io.modelcontextprotocol/serverInfo"]);
                let (ttl, scope) = (
                    member(&["result", "ttlMs"]),
                    member(&["result", "cacheScope"]),
                );
                assert!(ttl.parse::<u64>().is_ok_and(|ttl| ttl <= 60_000), "{ttl}");
                assert!(["\"public\"", "\"private\""].contains(&&*scope), "{scope}");
                format!(
                    "{{\"{key}\":{items},\"resultType\":\"complete\",\"ttlMs\":{ttl},\"cacheScope\":{scope},\"_meta\":{{\"io.modelcontextprotocol/serverInfo\":{info}}}}}"
                )
            }
        };
        assert_eq!(
            answer.text(),
            format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}")
        );
        answer
            .get(&["result", key])
            .unwrap()
            .items()
            .into_iter()
            .cloned()
            .collect()
    }

    /// Compares all listings, item by item. Returns the rows that made a difference.
    pub(crate) async fn listings(&mut self) -> Vec<usize> {
        let mut rows = Vec::new();
        for (method, key, name, _) in table::listings() {
            let items = self.list(method, key).await;
            let owns = self.listed[method].clone();
            assert_eq!(items.len(), owns.len(), "{method}: {items:#?}");
            for own in owns {
                let own_name = own.string(&[name]).unwrap();
                let exposed = self.exposed.get(&(method, own_name.clone())).cloned();
                let shown = exposed.clone().unwrap_or_else(|| own_name.clone());
                let item = items
                    .iter()
                    .find(|item| item.string(&[name]).as_ref() == Some(&shown));
                let item = item.unwrap_or_else(|| panic!("{shown} is not listed"));
                let facts = Facts {
                    method,
                    before: &own,
                    came: item,
                    request: &own,
                    capabilities: "",
                    client_info: None,
                    server_info: "",
                    upstream_name: exposed.as_ref().map(|_| own_name.as_str()),
                };
                let (text, more) = expected(Leg::Item, self.pair, facts);
                assert_eq!(item.text(), text, "{shown}");
                if exposed.is_some() {
                    assert_eq!(
                        shown.split("__").next(),
                        Some("p"),
                        "{shown} says whose it is"
                    );
                }
                rows.extend(more);
            }
        }
        rows
    }
}

/// A result as a server of the era writes it: the modern one adds what every result has.
fn with_modern(era: Era, result: &str, cacheable: bool) -> String {
    let mut tree = Tree::read(result);
    if era == Era::Modern {
        tree.set(&["resultType"], "\"complete\"");
        tree.set(
            &["_meta", "io.modelcontextprotocol/serverInfo"],
            SERVER_INFO,
        );
        if cacheable {
            tree.set(&["ttlMs"], "60000");
            tree.set(&["cacheScope"], "\"public\"");
        }
    }
    tree.text()
}

/// The headers that belong to a modern request.
fn routing_headers(request: &Tree) -> Vec<(String, String)> {
    let method = request.string(&["method"]).unwrap();
    let name = match method.as_str() {
        "tools/call" | "prompts/get" => request.string(&["params", "name"]),
        "resources/read" => request.string(&["params", "uri"]),
        _ if method.starts_with("tasks/") => request.string(&["params", "taskId"]),
        _ => None,
    };
    let mut all = vec![
        ("mcp-protocol-version".to_owned(), MODERN.to_owned()),
        ("mcp-method".to_owned(), method.clone()),
    ];
    all.extend(name.map(|name| ("mcp-name".to_owned(), headers::encode_value(&name))));
    if method == "tools/call" && request.get(&["params", "arguments", "region"]).is_some() {
        let region = request.string(&["params", "arguments", "region"]).unwrap();
        all.push((
            "mcp-param-region".to_owned(),
            headers::encode_value(&region),
        ));
        all.push((
            "mcp-param-shard".to_owned(),
            request
                .raw(&["params", "arguments", "deep", "shard"])
                .unwrap(),
        ));
    }
    all
}
