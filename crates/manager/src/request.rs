//! A request on its way to a server, and the answer on its way back: bytes with a few pending edits.
//!
//! Must not look inside payloads; what a member means is the wire crate's business.

use std::sync::Arc;
use std::time::Duration;

use mainstay_core::catalog::Digest;
use mainstay_core::ids::Generation;
use mainstay_wire::envelope::{Kind, Message};
use mainstay_wire::id::Id;
use mainstay_wire::revision::Era;
use tokio::sync::mpsc;

use crate::asks::Said;
use crate::auth::Subject;
use crate::calls::Origin;
use crate::error::Refusal;
use crate::principal::Principal;

/// One request to a server: the text to send and the members to change in it.
///
/// The id and the progress token are always replaced by ours; everything that is not edited reaches the server byte
/// for byte.
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) message: Message,
    pub(crate) edits: Vec<Edit>,
}

/// One pending change to a request: a member's path from the root and its new raw JSON text, or its removal.
#[derive(Debug, Clone)]
pub(crate) struct Edit {
    pub(crate) path: Vec<String>,
    pub(crate) value: Option<String>,
}

impl Request {
    /// A request made by us: `params` is raw JSON text, and absent stays absent.
    #[must_use]
    pub fn new(method: &str, params: Option<&str>) -> Self {
        Self {
            message: Message::request(&Id::number(0), method, params),
            edits: Vec::new(),
        }
    }

    /// A request that a client sent.
    ///
    /// # Errors
    /// [`Refusal::BadRequest`] when the message is not a request.
    pub fn from_message(message: Message) -> Result<Self, Refusal> {
        match message.kind() {
            Kind::Request => Ok(Self {
                message,
                edits: Vec::new(),
            }),
            Kind::Notification | Kind::Result | Kind::Error => {
                Err(Refusal::BadRequest("the message is not a request".into()))
            }
        }
    }

    /// Replaces the member at `path` (from the root of the message) by raw JSON text.
    #[must_use]
    pub fn set(mut self, path: &[&str], raw_json: impl Into<String>) -> Self {
        self.edits.push(Edit {
            path: path.iter().map(|part| (*part).to_owned()).collect(),
            value: Some(raw_json.into()),
        });
        self
    }

    /// Removes the member at `path`.
    #[must_use]
    pub fn remove(mut self, path: &[&str]) -> Self {
        self.edits.push(Edit {
            path: path.iter().map(|part| (*part).to_owned()).collect(),
            value: None,
        });
        self
    }

    /// The raw text of a member as the server will see it: pending edits of exactly this member applied.
    pub(crate) fn effective_member(&self, path: &[&str]) -> Option<&str> {
        match self.edits.iter().rev().find(|edit| edit.path == path) {
            Some(edit) => edit.value.as_deref(),
            None => self.message.member(path),
        }
    }

    /// Whether a pending edit changes something inside the member at `path`.
    pub(crate) fn has_edits_inside(&self, path: &[&str]) -> bool {
        let inside = |edit: &Edit| {
            edit.path.len() > path.len()
                && edit
                    .path
                    .iter()
                    .zip(path)
                    .all(|(part, wanted)| part == wanted)
        };
        self.edits.iter().any(inside)
    }

    /// The same request with its edits made. `None` if they cannot be made: whoever sends it is told then.
    pub(crate) fn settled(&self) -> Option<Self> {
        let mut editor = self.message.edit();
        for edit in &self.edits {
            let path: Vec<&str> = edit.path.iter().map(String::as_str).collect();
            editor = match &edit.value {
                Some(value) => editor.set(&path, value.as_str()),
                None => editor.remove(&path),
            };
        }
        Some(Self {
            message: editor.apply().ok()?,
            edits: Vec::new(),
        })
    }

    /// The request's method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.message.method().unwrap_or_default()
    }
}

/// How one call is to be made. Everything has a default.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    /// No answer and no progress for this long ends the call. Default: the server's `timeouts.callIdleMs` (5 min).
    pub idle: Option<Duration>,
    /// One deadline over waiting, all attempts and the answer (law 16). Default: `timeouts.callTotalMs` (60 min).
    pub total: Option<Duration>,
    /// How long to wait for a server that is connecting. Default: `timeouts.edgePatienceMs` (15 s).
    pub patience: Option<Duration>,
    /// Where goes what the server says meanwhile: progress, log messages, and its own requests to the client. Bounded by
    /// its owner: progress and messages that find it full are dropped, a request is then refused to the server; the call is
    /// not. Default: nobody listens, and requests of the server are refused.
    pub hear: Option<mpsc::Sender<Said>>,
    /// Ask the server for progress. Calls of tools do so anyway, because progress shows that they live. Default: no.
    pub progress: bool,
    /// The definition of the tool that the caller decided by, see [`Catalog::tool_digest`](crate::catalog::Catalog::tool_digest).
    /// Default: the one known when the call begins. What a difference means is the server's `onToolChange` (law 20).
    pub expected: Option<Digest>,
    /// Who calls, for servers of the modern era that want to know with every request.
    pub client: Option<ClientFace>,
    /// On whose behalf, where [`CallOptions::client`] does not say so: a server with `scope: "user"` is called on that
    /// principal's own connection, with its own credentials. Default: nobody in particular.
    pub principal: Option<Principal>,
    /// Where the call comes from, for its [record](crate::calls::CallRecord). Decides nothing. Default: the library.
    pub origin: Option<Arc<Origin>>,
}

impl CallOptions {
    /// On whose behalf the call is made.
    #[must_use]
    pub fn on_behalf_of(&self) -> Option<&Principal> {
        let client = self.client.as_ref();
        client
            .and_then(|face| face.principal.as_ref())
            .or(self.principal.as_ref())
    }
}

/// What a calling client declared about itself, as raw JSON text, and who it is.
#[derive(Debug, Clone, Default)]
pub struct ClientFace {
    /// The client's capabilities object.
    pub capabilities: Box<str>,
    /// The client's info object (`name`, `version`, ...), if it gave one.
    pub info: Option<Box<str>>,
    /// Who it is: calls with the same value come from one client, which answers for all of them (a legacy session). Default:
    /// nobody in particular, so that each call stands for itself.
    pub client: Option<Arc<str>>,
    /// On whose behalf it speaks, as far as the embedding gateway has found out. Servers are never told; one with
    /// `scope: "user"` keeps a connection for each. Default: nobody in particular.
    pub principal: Option<Principal>,
    /// What that principal proved itself with. Only a server of `scope: "user"` whose credentials are exchanged for it keeps
    /// it, in memory, and shows it to the token endpoint of that exchange alone. Default: nothing.
    pub subject: Option<Subject>,
    /// The era that it speaks. A server that speaks both may be able to ask things of its client in the words of one era only:
    /// a legacy client that can be asked something gets a connection of its own era from such a server. Default: either.
    pub era: Option<Era>,
}

/// A server's answer: a result or a JSON-RPC error, as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The response, still under the id that we gave the request.
    pub message: Message,
    /// The generation that answered.
    pub generation: Generation,
    /// The era of the server that answered.
    pub era: Era,
    /// Time spent waiting for admission and connection (law 19).
    pub queued: Duration,
    /// Time spent at the server, over all attempts.
    pub served: Duration,
    /// How many times the request was sent.
    pub attempts: u32,
}

impl Answer {
    /// The raw JSON text of the result, or `None` if the server answered with an error.
    #[must_use]
    pub fn result(&self) -> Option<&str> {
        self.message.result()
    }

    /// The raw JSON text of the error, or `None` if the server answered with a result.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.message.error()
    }
}
