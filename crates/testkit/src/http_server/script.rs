//! What the fake server is told to do. Plain data: it can be written in Rust or sent as JSON to a running server.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::old::OldScript;

/// Which revisions of MCP the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Eras {
    /// Handshake and sessions only.
    Legacy,
    /// Per-request metadata only; `initialize` is refused with -32022.
    Modern,
    /// Both on one endpoint.
    #[default]
    Dual,
}

/// What a legacy-only server says to the modern `server/discover`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DiscoverDialect {
    /// HTTP 400 with a JSON-RPC error and `id: null`, as servers do that expect an initialize first.
    #[default]
    BadRequest,
    /// HTTP 404 without a body.
    NotFound,
    /// HTTP 405 without a body.
    NotAllowed,
    /// HTTP 200 with -32601.
    MethodNotFound,
    /// HTTP 200 with -32602 (F29: the verdict must not hang on one code).
    InvalidParams,
    /// HTTP 400 with a plain text body.
    PlainText,
    /// No answer at all, the request stays open (F26).
    Silent,
}

/// How ordinary answers are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Framing {
    /// `application/json`.
    #[default]
    Json,
    /// `text/event-stream` with one event.
    Sse,
    /// The same, and the end of the stream comes a few milliseconds after the event (F82).
    SseLateEnd,
    /// `text/event-stream`, one byte per chunk (F128).
    SseByteByByte,
    /// `text/event-stream` with CR-only line ends, comments, ids and a priming event.
    SseOrnate,
}

/// How the server says that a session is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LostDialect {
    /// HTTP 404, as the specification says.
    #[default]
    NotFound,
    /// HTTP 404 without a body.
    NotFoundEmpty,
    /// HTTP 400 with a JSON-RPC error that speaks of the session and has no id member (F89).
    BadRequest,
    /// HTTP 410 (F100).
    Gone,
    /// HTTP 200 with a JSON-RPC error as JSON (F91).
    OkBody,
    /// HTTP 200 with a JSON-RPC error as the first event of a stream (F91).
    OkStream,
    /// HTTP 500 around the JSON-RPC error (F90).
    Wrapped,
}

/// What the server answers to the GET of a push stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GetPolicy {
    /// An event stream that stays open.
    #[default]
    Stream,
    /// 405 (F96).
    NotAllowed,
    /// 200 with plain text (F97).
    Text,
    /// An event stream that ends at once, cleanly (F115).
    End,
    /// An event stream that breaks at once (F116).
    Reset,
    /// 503 (F117).
    Unavailable,
    /// 404, as for an ended session (F111).
    NotFound,
    /// One event with an id, then the end (F123).
    EventThenEnd,
    /// One event with an id, then an event that goes on and on, for at least a megabyte (F126).
    EventThenGiant,
    /// An event stream on which a comment comes 20 times a second, and nothing else (law 14).
    Comments,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 500 around the words of a lost session (F90).
    Wrapped,
}

/// What happens to a new connection, before anything of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AcceptPolicy {
    /// It is served.
    #[default]
    Serve,
    /// It is accepted, and nothing is ever read or written (F78).
    Silent,
    /// It is accepted and reset at once.
    Reset,
    /// It is accepted and closed at once.
    Close,
}

/// What happens to a connection at a chosen byte of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Then {
    /// It is reset (RST).
    Reset,
    /// It is closed (FIN).
    Close,
    /// It stays open and nothing more comes.
    Stall,
    /// The rest comes byte by byte (F88).
    Drip,
}

/// A planned misbehaviour, used up by the request that meets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// Behave: takes up a place in a sequence.
    Pass,
    /// Answer with this status, these headers and this body, and run nothing.
    Status {
        /// The HTTP status.
        status: u16,
        /// Further headers.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// The body; `$ID` in it stands for the request's id.
        #[serde(default)]
        body: String,
    },
    /// Run the request, then answer 404 as if the session were unknown (F106).
    RunThenNotFound,
    /// Run the request, then answer with this status, these headers and this body in the server's place, as a proxy that
    /// lost the answer (F106).
    RunThen {
        /// The HTTP status.
        status: u16,
        /// Further headers.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// The body.
        #[serde(default)]
        body: String,
        /// Forget all sessions too, as a server that was replaced meanwhile.
        #[serde(default)]
        forget: bool,
    },
    /// Read the request and never answer.
    NeverAnswer,
    /// Send the head of an event stream and nothing more (F88).
    HeadThenStall,
    /// Send the head of an event stream and one comment every so many milliseconds, for ever (F88).
    Trickle {
        /// Between two comments.
        every_ms: u64,
    },
    /// Send the head of an event stream and end it cleanly before the answer (F87).
    EndBeforeAnswer,
    /// Send the head of an event stream, a comment, and break the connection (F87).
    BreakBeforeAnswer,
    /// Close the connection without any answer.
    Drop,
    /// Run the request and answer as usual, but let only so many bytes of the answer pass, its head included (F82, F87).
    Cut {
        /// How many bytes pass.
        after_bytes: u64,
        /// What happens then.
        then: Then,
        /// Between two bytes of a drip, in milliseconds.
        #[serde(default)]
        every_ms: u64,
    },
    /// 200 with an HTML page (F84).
    Html,
    /// An event with this many bytes of data that never ends (F126).
    GiantEvent {
        /// How many bytes of data.
        bytes: usize,
    },
    /// A complete JSON answer with this many bytes of text (over the client's limit).
    GiantJson {
        /// How many bytes of text.
        bytes: usize,
    },
    /// An event whose data is no JSON (F125).
    BrokenEvent,
    /// A JSON body that is cut in the middle, the content length notwithstanding.
    BrokenJson,
    /// An answer that carries another id, alone on its exchange (F34).
    ForeignId {
        /// The raw JSON text of the id.
        id: String,
    },
    /// Before the answer: a ping to the client, a log line and a list change, on the same stream (F35, F36).
    Chatter,
    /// 2025-11-25: a priming event with an id, then the end; the answer waits for a GET with `Last-Event-ID` (F120).
    Resume {
        /// The `retry` hint.
        retry_ms: u64,
        /// Send the answer twice under the same event id when it is fetched (F122).
        #[serde(default)]
        twice: bool,
        /// The answer never comes: every fetch ends empty (F121).
        #[serde(default)]
        empty: bool,
    },
}

/// One planned fault and the requests that it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// Only for this method; for any POST if absent.
    #[serde(default)]
    pub method: Option<String>,
    /// How many requests it applies to.
    #[serde(default = "once")]
    pub times: u64,
    /// What happens.
    pub fault: Fault,
}

fn once() -> u64 {
    1
}

/// Everything that can be set. A change applies from the next request on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Script {
    /// Which eras are served.
    pub eras: Eras,
    /// What a legacy-only server says to `server/discover`.
    pub discover: DiscoverDialect,
    /// Framing of ordinary answers.
    pub framing: Framing,
    /// Whether legacy clients get a session id, and have to bring it.
    pub sessions: bool,
    /// How an unknown session is told.
    pub lost: LostDialect,
    /// What GET gets, once `get_plan` is used up.
    pub get: GetPolicy,
    /// What the next GETs get.
    pub get_plan: VecDeque<GetPolicy>,
    /// The `retry` hint at the start of every push stream.
    pub get_retry_ms: Option<u64>,
    /// What is planned for POSTs; the first entry that fits is used.
    pub plan: VecDeque<Planned>,
    /// What DELETE gets.
    pub delete_status: u16,
    /// The version that `initialize` is answered with; the offered one if absent.
    pub version: Option<String>,
    /// The versions that `server/discover` lists.
    pub modern_versions: Vec<String>,
    /// The answer to `initialize` is this raw error object under HTTP 400, if set.
    pub initialize_error: Option<String>,
    /// The listen filters that are acknowledged; `false` says 404 and -32601 to every listen (F131, F132).
    pub listen: bool,
    /// Listen streams end right after the acknowledgement (F130).
    pub listen_ends: bool,
    /// Tools that are listed, on top of the fixed ones.
    pub extra_tools: Vec<String>,
    /// How many tools a page holds; 0 is all on one.
    pub page_size: usize,
    /// Every request must carry this `Authorization` value, else 401.
    pub authorization: Option<String>,
    /// What happens to a new connection, once `accept_plan` is used up.
    pub accept: AcceptPolicy,
    /// What happens to the next connections.
    pub accept_plan: VecDeque<AcceptPolicy>,
    /// Closing a connection resets it (RST instead of FIN).
    pub reset_on_close: bool,
    /// Whether the server declares that it tells list changes.
    pub list_changed: bool,
    /// Further headers on every answer.
    pub headers: BTreeMap<String, String>,
    /// Whether it offers log levels and resource subscriptions.
    pub subscriptions: bool,
    /// The HTTP+SSE transport of 2024-11-05, at `/sse`.
    pub old: OldScript,
    /// How many replicas take turns behind the address, each with sessions of its own; 0 and 1 are the same (F107).
    pub replicas: usize,
    /// The eras that each replica serves; those that are not named serve `eras` (F139).
    pub replica_eras: Vec<Eras>,
    /// The balancer sets a cookie and honours it.
    pub sticky: bool,
    /// The version in the server's info object (F38).
    pub server_version: String,
    /// The server's instructions (F38).
    pub instructions: String,
    /// Whether the server has prompts (F38).
    pub prompts: bool,
    /// The time to live of listings, in milliseconds (modern era, F131).
    pub ttl_ms: u64,
    /// Listen filters that are not acknowledged, for example `toolsListChanged` (F132).
    pub listen_omits: Vec<String>,
    /// Tools that are listed as they are here; their `x-mcp-header` annotations on string properties of the root are
    /// enforced in the modern era (F136, F137).
    pub raw_tools: Vec<Value>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            eras: Eras::default(),
            discover: DiscoverDialect::default(),
            framing: Framing::default(),
            sessions: true,
            lost: LostDialect::default(),
            get: GetPolicy::default(),
            get_plan: VecDeque::new(),
            get_retry_ms: None,
            plan: VecDeque::new(),
            delete_status: 200,
            version: None,
            modern_versions: vec!["2026-07-28".to_owned()],
            initialize_error: None,
            listen: true,
            listen_ends: false,
            extra_tools: Vec::new(),
            page_size: 0,
            authorization: None,
            accept: AcceptPolicy::default(),
            accept_plan: VecDeque::new(),
            reset_on_close: false,
            list_changed: true,
            headers: BTreeMap::new(),
            subscriptions: false,
            old: OldScript::default(),
            replicas: 0,
            replica_eras: Vec::new(),
            sticky: false,
            server_version: "1".to_owned(),
            instructions: "fake \"instructions\"".to_owned(),
            prompts: true,
            ttl_ms: 0,
            listen_omits: Vec::new(),
            raw_tools: Vec::new(),
        }
    }
}

impl Script {
    /// A server that only knows the handshake.
    #[must_use]
    pub fn legacy() -> Self {
        Self {
            eras: Eras::Legacy,
            ..Self::default()
        }
    }

    /// A server that only knows per-request metadata.
    #[must_use]
    pub fn modern() -> Self {
        Self {
            eras: Eras::Modern,
            ..Self::default()
        }
    }

    /// Plans a fault for the next POST of a method.
    #[must_use]
    pub fn plan(mut self, method: &str, fault: Fault) -> Self {
        self.then(method, fault);
        self
    }

    /// Plans a fault for the next POST of a method.
    pub fn then(&mut self, method: &str, fault: Fault) {
        self.plan.push_back(Planned {
            method: Some(method.to_owned()),
            times: 1,
            fault,
        });
    }

    /// Takes the fault planned for this POST, if there is one.
    pub(crate) fn take_fault(&mut self, method: &str) -> Option<Fault> {
        let fits = |planned: &Planned| {
            planned
                .method
                .as_deref()
                .is_none_or(|wanted| wanted == method)
        };
        let at = self.plan.iter().position(fits)?;
        let planned = self.plan.get_mut(at)?;
        if planned.times > 1 {
            planned.times -= 1;
            return Some(planned.fault.clone());
        }
        self.plan.remove(at).map(|planned| planned.fault)
    }

    /// Plans a fault for this many POSTs of a method.
    pub fn then_times(&mut self, method: &str, times: u64, fault: Fault) {
        self.plan.push_back(Planned {
            method: Some(method.to_owned()),
            times,
            fault,
        });
    }

    /// Takes what happens to the next connection.
    pub(crate) fn take_accept(&mut self) -> AcceptPolicy {
        self.accept_plan.pop_front().unwrap_or(self.accept)
    }

    /// Takes what the next GET gets.
    pub(crate) fn take_get(&mut self) -> GetPolicy {
        self.get_plan.pop_front().unwrap_or(self.get)
    }
}
