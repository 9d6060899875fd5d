//! Everything that Mainstay changes in what passes through, as one table. The test holds every byte against it, and
//! `docs/bridging.md` is printed from it.

use mainstay_wire::Era;

use super::tree::Tree;

/// Who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) client: Era,
    pub(crate) server: Era,
}

/// All four pairings, in the order of the table's columns.
pub(crate) const PAIRS: [Pair; 4] = [
    Pair {
        client: Era::Legacy,
        server: Era::Legacy,
    },
    Pair {
        client: Era::Legacy,
        server: Era::Modern,
    },
    Pair {
        client: Era::Modern,
        server: Era::Legacy,
    },
    Pair {
        client: Era::Modern,
        server: Era::Modern,
    },
];

const ALL: [bool; 4] = [true; 4];
const TO_MODERN: [bool; 4] = [false, true, false, true];
const DOWN: [bool; 4] = [false, true, false, false];
const UP: [bool; 4] = [false, false, true, false];

/// What kind of message it is, and which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leg {
    Request,
    Result,
    Error,
    Progress,
    Question,
    Item,
}

impl Leg {
    pub(crate) const ALL: [(Self, &'static str); 6] = [
        (Self::Request, "Requests of clients"),
        (Self::Result, "Results"),
        (Self::Error, "Errors"),
        (Self::Progress, "Progress notifications"),
        (
            Self::Question,
            "Questions of servers (elicitation, sampling, roots)",
        ),
        (Self::Item, "Items of listings"),
    ];
}

/// What is known about one message on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'f> {
    /// The method that the client called.
    pub(crate) method: &'f str,
    /// The message as it left its sender.
    pub(crate) before: &'f Tree,
    /// The message as it arrived: the source of what Mainstay chooses freely (ids, tokens).
    pub(crate) came: &'f Tree,
    /// The client's own request.
    pub(crate) request: &'f Tree,
    /// What the client declared: capabilities, and its info if it gave one.
    pub(crate) capabilities: &'f str,
    pub(crate) client_info: Option<&'f str>,
    /// What the server says it is.
    pub(crate) server_info: &'f str,
    /// On the aggregate: the server's own name of what is called.
    pub(crate) upstream_name: Option<&'f str>,
}

/// One change.
#[derive(Debug)]
pub(crate) enum Change {
    Set(&'static [&'static str], String),
    Remove(&'static [&'static str]),
}

/// One documented edit.
pub(crate) struct Edit {
    pub(crate) leg: Leg,
    /// The member, as the page shows it.
    pub(crate) member: &'static str,
    pub(crate) does: &'static str,
    pub(crate) why: &'static str,
    /// In which of [`PAIRS`].
    pub(crate) pairs: [bool; 4],
    change: fn(Facts<'_>) -> Option<Change>,
}

const TOKEN: &[&str] = &["params", "_meta", "progressToken"];
const VERSION: &[&str] = &["params", "_meta", "io.modelcontextprotocol/protocolVersion"];
const CAPABILITIES: &[&str] = &[
    "params",
    "_meta",
    "io.modelcontextprotocol/clientCapabilities",
];
const CLIENT_INFO: &[&str] = &["params", "_meta", "io.modelcontextprotocol/clientInfo"];
const LOG_LEVEL: &[&str] = &["params", "_meta", "io.modelcontextprotocol/logLevel"];
const SERVER_INFO: &[&str] = &["result", "_meta", "io.modelcontextprotocol/serverInfo"];

fn came(facts: Facts<'_>, path: &'static [&'static str]) -> Option<Change> {
    facts.came.raw(path).map(|raw| Change::Set(path, raw))
}

fn removed(facts: Facts<'_>, path: &'static [&'static str]) -> Option<Change> {
    facts.before.get(path).map(|_| Change::Remove(path))
}

fn reads(facts: Facts<'_>) -> bool {
    facts.method == "resources/read"
}

/// The table. Within a message, edits are made in this order.
pub(crate) const EDITS: &[Edit] = &[
    Edit {
        leg: Leg::Request,
        member: "id",
        does: "an id of Mainstay's own, never used twice on a connection",
        why: "clients number their requests independently of each other",
        pairs: ALL,
        change: |facts| came(facts, &["id"]),
    },
    Edit {
        leg: Leg::Request,
        member: "params.name",
        does: "on `/mcp` only: the server's own name of the tool or prompt (for completion `params.ref.name`)",
        why: "the aggregate shows it as `{server}__{name}`",
        pairs: ALL,
        change: |facts| {
            let name = serde_json::to_string(facts.upstream_name?).ok()?;
            Some(match facts.method {
                "completion/complete" => Change::Set(&["params", "ref", "name"], name),
                _ => Change::Set(&["params", "name"], name),
            })
        },
    },
    Edit {
        leg: Leg::Request,
        member: "params._meta[\"io.modelcontextprotocol/logLevel\"]",
        does: "the level of the session (`logging/setLevel`, before that `info`), if the server logs",
        why: "a modern server logs only to requests that ask for it",
        pairs: DOWN,
        change: |facts| came(facts, LOG_LEVEL),
    },
    Edit {
        leg: Leg::Request,
        member: "params._meta.progressToken",
        does: "a token of Mainstay's own; with every `tools/call`, otherwise only if the client sent one",
        why: "clients choose tokens independently of each other, and progress shows that a slow tool lives",
        pairs: ALL,
        change: |facts| match facts.before.get(TOKEN).is_some() || facts.method == "tools/call" {
            true => came(facts, TOKEN),
            false => None,
        },
    },
    Edit {
        leg: Leg::Request,
        member: "params._meta[\"io.modelcontextprotocol/protocolVersion\"]",
        does: "the revision spoken with the server",
        why: "required; each side of Mainstay has its own revision",
        pairs: DOWN,
        change: |_| Some(Change::Set(VERSION, "\"2026-07-28\"".to_owned())),
    },
    Edit {
        leg: Leg::Request,
        member: "params._meta[\"io.modelcontextprotocol/clientCapabilities\"]",
        does: "what the client declared when its session began, byte for byte",
        why: "a modern server wants to know with every request",
        pairs: DOWN,
        change: |facts| Some(Change::Set(CAPABILITIES, facts.capabilities.to_owned())),
    },
    Edit {
        leg: Leg::Request,
        member: "params._meta[\"io.modelcontextprotocol/clientInfo\"]",
        does: "what the client said it is, byte for byte; Mainstay's own if it said nothing",
        why: "as above",
        pairs: TO_MODERN,
        change: |facts| match facts.client_info {
            Some(info) => Some(Change::Set(CLIENT_INFO, info.to_owned())),
            None => came(facts, CLIENT_INFO),
        },
    },
    Edit {
        leg: Leg::Request,
        member: "params._meta[\"io.modelcontextprotocol/protocolVersion\"]",
        does: "removed",
        why: "a legacy server was told when its session began",
        pairs: UP,
        change: |facts| removed(facts, VERSION),
    },
    Edit {
        leg: Leg::Request,
        member: "params._meta[\"io.modelcontextprotocol/clientCapabilities\"]",
        does: "removed",
        why: "as above",
        pairs: UP,
        change: |facts| removed(facts, CAPABILITIES),
    },
    Edit {
        leg: Leg::Request,
        member: "params._meta[\"io.modelcontextprotocol/clientInfo\"]",
        does: "removed",
        why: "as above",
        pairs: UP,
        change: |facts| removed(facts, CLIENT_INFO),
    },
    Edit {
        leg: Leg::Request,
        member: "params._meta[\"io.modelcontextprotocol/logLevel\"]",
        does: "removed",
        why: "a legacy server knows one level for all, set with `logging/setLevel`; Mainstay sorts its messages by what each call asked for",
        pairs: UP,
        change: |facts| removed(facts, LOG_LEVEL),
    },
    Edit {
        leg: Leg::Request,
        member: "params.inputResponses",
        does: "removed",
        why: "unknown to legacy servers, whose questions Mainstay has answered with it",
        pairs: UP,
        change: |facts| removed(facts, &["params", "inputResponses"]),
    },
    Edit {
        leg: Leg::Request,
        member: "params.requestState",
        does: "removed",
        why: "it was sealed by Mainstay",
        pairs: UP,
        change: |facts| removed(facts, &["params", "requestState"]),
    },
    Edit {
        leg: Leg::Result,
        member: "id",
        does: "the client's own id, spelled as it spelled it",
        why: "see requests",
        pairs: ALL,
        change: |facts| {
            facts
                .request
                .raw(&["id"])
                .map(|raw| Change::Set(&["id"], raw))
        },
    },
    Edit {
        leg: Leg::Result,
        member: "result.resultType",
        does: "`\"complete\"` added",
        why: "every modern result has one",
        pairs: UP,
        change: |facts| match facts.before.get(&["result", "resultType"]) {
            None => Some(Change::Set(
                &["result", "resultType"],
                "\"complete\"".to_owned(),
            )),
            Some(_) => None,
        },
    },
    Edit {
        leg: Leg::Result,
        member: "result._meta[\"io.modelcontextprotocol/serverInfo\"]",
        does: "what the server said it is when it was greeted, byte for byte, added",
        why: "modern results name their server",
        pairs: UP,
        change: |facts| match facts.before.get(SERVER_INFO) {
            None => Some(Change::Set(SERVER_INFO, facts.server_info.to_owned())),
            Some(_) => None,
        },
    },
    Edit {
        leg: Leg::Result,
        member: "result.ttlMs",
        does: "`0` added to `resources/read`",
        why: "required there; zero promises nothing",
        pairs: UP,
        change: |facts| reads(facts).then(|| Change::Set(&["result", "ttlMs"], "0".to_owned())),
    },
    Edit {
        leg: Leg::Result,
        member: "result.cacheScope",
        does: "`\"private\"` added to `resources/read`",
        why: "required there; what is not known to be public is not shared",
        pairs: UP,
        change: |facts| {
            reads(facts).then(|| Change::Set(&["result", "cacheScope"], "\"private\"".to_owned()))
        },
    },
    Edit {
        leg: Leg::Result,
        member: "result.resultType",
        does: "`\"complete\"` removed",
        why: "unknown to legacy clients, and implied",
        pairs: DOWN,
        change: |facts| removed(facts, &["result", "resultType"]),
    },
    Edit {
        leg: Leg::Result,
        member: "result.ttlMs",
        does: "removed from `resources/read`",
        why: "unknown to legacy clients",
        pairs: DOWN,
        change: |facts| {
            reads(facts)
                .then(|| removed(facts, &["result", "ttlMs"]))
                .flatten()
        },
    },
    Edit {
        leg: Leg::Result,
        member: "result.cacheScope",
        does: "removed from `resources/read`",
        why: "as above",
        pairs: DOWN,
        change: |facts| {
            reads(facts)
                .then(|| removed(facts, &["result", "cacheScope"]))
                .flatten()
        },
    },
    Edit {
        leg: Leg::Result,
        member: "result.structuredContent",
        does: "removed from `tools/call` if it is no object",
        why: "legacy clients know only objects there and refuse the whole result; the text beside it stays",
        pairs: DOWN,
        change: |facts| {
            let structured = facts.before.get(&["result", "structuredContent"])?;
            let is_object = matches!(structured, Tree::Object { .. });
            (facts.method == "tools/call" && !is_object)
                .then_some(Change::Remove(&["result", "structuredContent"]))
        },
    },
    Edit {
        leg: Leg::Error,
        member: "id",
        does: "the client's own id, spelled as it spelled it",
        why: "see requests",
        pairs: ALL,
        change: |facts| {
            facts
                .request
                .raw(&["id"])
                .map(|raw| Change::Set(&["id"], raw))
        },
    },
    Edit {
        leg: Leg::Error,
        member: "error.code",
        does: "`-32002` becomes `-32602`",
        why: "a resource that is not there has another code in the modern era",
        pairs: UP,
        change: |facts| {
            (facts.before.raw(&["error", "code"])? == "-32002")
                .then(|| Change::Set(&["error", "code"], "-32602".to_owned()))
        },
    },
    Edit {
        leg: Leg::Error,
        member: "error.code",
        does: "`-32602` becomes `-32002` for `resources/read` if `error.data.uri` is there",
        why: "the same the other way round; without a uri it is about the parameters",
        pairs: DOWN,
        change: |facts| {
            let about_uri = reads(facts) && facts.before.get(&["error", "data", "uri"]).is_some();
            (about_uri && facts.before.raw(&["error", "code"])? == "-32602")
                .then(|| Change::Set(&["error", "code"], "-32002".to_owned()))
        },
    },
    Edit {
        leg: Leg::Progress,
        member: "params.progressToken",
        does: "the client's own token, spelled as it spelled it",
        why: "see requests",
        pairs: ALL,
        change: |facts| {
            let token = facts.request.raw(TOKEN)?;
            Some(Change::Set(&["params", "progressToken"], token))
        },
    },
    Edit {
        leg: Leg::Question,
        member: "params.elicitationId",
        does: "removed",
        why: "means something only on the connection that it came on",
        pairs: UP,
        change: |facts| removed(facts, &["params", "elicitationId"]),
    },
    Edit {
        leg: Leg::Question,
        member: "params.task",
        does: "removed",
        why: "tasks of 2025-11-25 cannot be used by modern clients",
        pairs: UP,
        change: |facts| removed(facts, &["params", "task"]),
    },
    Edit {
        leg: Leg::Question,
        member: "params._meta.progressToken",
        does: "removed, like `io.modelcontextprotocol/related-task` beside it",
        why: "as above; `_meta` goes too if nothing else is in it",
        pairs: UP,
        change: |facts| {
            facts.before.get(TOKEN)?;
            let meta = facts.before.get(&["params", "_meta"])?;
            let Tree::Object { members, .. } = meta else {
                return None;
            };
            let ours = ["progressToken", "io.modelcontextprotocol/related-task"];
            let only = members
                .iter()
                .all(|member| ours.iter().any(|key| member.is(key)));
            Some(Change::Remove(if only {
                &["params", "_meta"]
            } else {
                TOKEN
            }))
        },
    },
    Edit {
        leg: Leg::Question,
        member: "params._meta[\"io.modelcontextprotocol/related-task\"]",
        does: "removed",
        why: "as above",
        pairs: UP,
        change: |facts| {
            removed(
                facts,
                &["params", "_meta", "io.modelcontextprotocol/related-task"],
            )
        },
    },
    Edit {
        leg: Leg::Question,
        member: "params.elicitationId",
        does: "an id of Mainstay's own, if `mode` is `url`",
        why: "required by legacy clients",
        pairs: DOWN,
        change: |facts| came(facts, &["params", "elicitationId"]),
    },
    Edit {
        leg: Leg::Item,
        member: "name",
        does: "on `/mcp` only: `{server}__{name}` for tools and prompts",
        why: "two servers may have the same name for something",
        pairs: ALL,
        change: |facts| {
            facts.upstream_name?;
            came(facts, &["name"])
        },
    },
];

/// The message as it must arrive, and which rows of the table (by index) made a difference.
pub(crate) fn expected(leg: Leg, pair: Pair, facts: Facts<'_>) -> (String, Vec<usize>) {
    let column = PAIRS.iter().position(|known| *known == pair).unwrap();
    let changes: Vec<(usize, Change)> = EDITS
        .iter()
        .enumerate()
        .filter(|(_, edit)| edit.leg == leg && edit.pairs[column])
        .filter_map(|(row, edit)| Some((row, (edit.change)(facts)?)))
        .collect();
    let mut tree = facts.before.clone();
    let mut rows = Vec::new();
    for (row, change) in &changes {
        if let Change::Remove(path) = change
            && tree.remove(path)
        {
            rows.push(*row);
        }
    }
    for (row, change) in &changes {
        if let Change::Set(path, raw) = change
            && tree.set(path, raw)
        {
            rows.push(*row);
        }
    }
    (tree.text(), rows)
}
