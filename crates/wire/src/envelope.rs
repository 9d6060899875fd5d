//! JSON-RPC messages: one validated text and an index of where its members lie.
//!
//! [`Message::parse`] goes over the bytes once, builds no tree and allocates nothing for an ordinary message. It judges
//! the envelope only: what a method's parameters mean is none of its business, and members it does not know are as
//! good as any other. What is refused says why and, whenever possible, which call it belongs to ([`Refused`]).

mod build;
mod index;
mod refused;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

use crate::id::Id;
use crate::raw;
use crate::salvage::Salvage;
use crate::scan::{Fault, Scanner, Span, key_among};
use crate::splice::Editor;

pub(crate) use index::Index;
pub use refused::{Refused, Why};

/// Most messages that one batch may hold.
pub const BATCH_MESSAGES_MAX: usize = 1_000;

/// Longest method name in bytes, as written.
pub const METHOD_BYTES_MAX: usize = 256;

/// What a single message may measure. Exceeding one is told to the call concerned (law 30).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest message in bytes, surrounding white space not counted. Default 16 MiB. Nothing beyond 4 GiB is accepted.
    pub message_bytes_max: usize,
    /// Most containers inside each other, the message itself being the first. Default 128.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 * 1024 * 1024,
            depth_max: 128,
        }
    }
}

impl Limits {
    /// No limits of ours, for text that we wrote ourselves.
    pub(crate) const NONE: Self = Self {
        message_bytes_max: u32::MAX as usize,
        depth_max: usize::MAX,
    };

    fn bytes_max(&self) -> usize {
        self.message_bytes_max.min(u32::MAX as usize)
    }
}

/// The four forms of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `method` and `id`.
    Request,
    /// `method` without `id`.
    Notification,
    /// `result` and `id`.
    Result,
    /// `error`, with an `id` unless the peer could not tell which request it answers.
    Error,
}

/// One JSON-RPC message: the bytes that came, and where its members lie in them.
///
/// Clones share the bytes. The text is valid JSON without surrounding white space or byte order mark; line breaks
/// inside it are possible if it came over HTTP (see [`crate::ndjson::into_line`]).
#[derive(Clone)]
pub struct Message {
    text: ByteString,
    kind: Kind,
    id: Option<Id>,
    method: Name,
    /// Where `params`, `result` or `error` lies; a message has at most one of them.
    body: Option<Span>,
    root: Index,
    inner: Index,
    depth: u32,
}

#[derive(Clone)]
enum Name {
    None,
    Plain(Span),
    Decoded(Box<str>),
}

impl Message {
    /// Judges `text` as exactly one message.
    ///
    /// Strict: valid JSON in UTF-8, one object, `jsonrpc` equal to `"2.0"`, none of the envelope's keys twice, none of
    /// the routing members of `params` twice (two readers would disagree on what was asked), within `limits`. A leading
    /// byte order mark and white space around the object are dropped.
    ///
    /// # Errors
    /// [`Refused`] with the reason and, if they can be read, the id and method of the call that must be told.
    pub fn parse(text: Bytes, limits: &Limits) -> Result<Self, Refused> {
        let text = trim(text);
        if text.len() > limits.bytes_max() {
            let why = Why::TooLong {
                bytes: text.len(),
                max: limits.bytes_max(),
            };
            return Err(Refused::salvaged(why, Salvage::of(&text)));
        }
        let text = match ByteString::try_from(text.clone()) {
            Ok(text) => text,
            Err(error) => {
                let why = Why::NotJson {
                    at: error.valid_up_to(),
                };
                return Err(Refused::salvaged(why, Salvage::of(&text)));
            }
        };
        let scanned = match text.as_bytes().first() {
            Some(b'[') => Err(judge_array(&text, limits)),
            _ => Envelope::scan(&text, limits),
        };
        match scanned.and_then(|envelope| envelope.judge(text.clone())) {
            Ok(message) => Ok(message),
            Err(why) => Err(Refused::salvaged(why, Salvage::of(text.as_bytes()))),
        }
    }

    /// How many containers are inside each other at most; the message itself is 1.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth as usize
    }

    /// Which of the four forms this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The id; `None` for notifications and for errors that name no request (`"id": null` or no id at all).
    #[must_use]
    pub fn id(&self) -> Option<&Id> {
        self.id.as_ref()
    }

    /// The decoded method of a request or notification.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        match &self.method {
            Name::None => None,
            Name::Plain(span) => Some(span.of(&self.text)),
            Name::Decoded(name) => Some(name),
        }
    }

    /// Raw JSON text of `params`; `None` when absent. `"params": null` is `Some("null")`.
    #[must_use]
    pub fn params(&self) -> Option<&str> {
        match self.kind {
            Kind::Request | Kind::Notification => self.body(),
            Kind::Result | Kind::Error => None,
        }
    }

    /// Raw JSON text of `result`.
    #[must_use]
    pub fn result(&self) -> Option<&str> {
        match self.kind {
            Kind::Result => self.body(),
            Kind::Request | Kind::Notification | Kind::Error => None,
        }
    }

    /// Raw JSON text of `error`, codes and unknown members as they came.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        match self.kind {
            Kind::Error => self.body(),
            Kind::Request | Kind::Notification | Kind::Result => None,
        }
    }

    /// `result` as its own `Bytes`; shares the memory of the message.
    #[must_use]
    pub fn result_bytes(&self) -> Option<Bytes> {
        self.result()
            .map(|result| self.text.as_bytes().slice_ref(result.as_bytes()))
    }

    /// The message as it came.
    #[must_use]
    pub fn text(&self) -> &Bytes {
        self.text.as_bytes()
    }

    /// The message as it came, as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Raw text of a nested member, for example `&["params", "_meta", "progressToken"]`; an empty path is the message.
    ///
    /// The members of the envelope and of its `params`, `result` or `error` are found without looking at the text again;
    /// deeper paths read only the objects on the way. If a key occurs twice, the last one counts.
    #[must_use]
    pub fn member(&self, path: &[&str]) -> Option<&str> {
        let [first, rest @ ..] = path else {
            return Some(&self.text);
        };
        if !self.root.is_complete() {
            return raw::member(&self.text, path);
        }
        let top = self.root.find(&self.text, first)?.value;
        let [second, deeper @ ..] = rest else {
            return Some(top.of(&self.text));
        };
        if Some(top) == self.body && self.inner.is_complete() {
            return raw::member(
                self.inner.find(&self.text, second)?.value.of(&self.text),
                deeper,
            );
        }
        raw::member(top.of(&self.text), rest)
    }

    /// The decoded string at `path`; `None` when absent or no string.
    #[must_use]
    pub fn string_member(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        self.member(path).and_then(raw::string)
    }

    /// Starts an edit. The message itself stays as it is.
    pub fn edit(&self) -> Editor<'_> {
        Editor::new(self)
    }

    fn body(&self) -> Option<&str> {
        self.body.map(|span| span.of(&self.text))
    }

    pub(crate) fn root(&self) -> &Index {
        &self.root
    }

    /// The index of the object at `span`, if it is the body and was indexed.
    pub(crate) fn index_of(&self, span: Span) -> Option<&Index> {
        (Some(span) == self.body && self.inner.is_complete()).then_some(&self.inner)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown: String = self.text.chars().take(256).collect();
        if shown.len() < self.text.len() {
            shown.push('…');
        }
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("bytes", &self.text.len())
            .field("text", &shown)
            .finish()
    }
}

impl PartialEq for Message {
    /// Equal bytes.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Message {}

/// The envelope's own keys, in the order of [`Envelope::at`].
const KEYS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
const JSONRPC: usize = 0;
const ID: usize = 1;
const METHOD: usize = 2;
const PARAMS: usize = 3;
const RESULT: usize = 4;
const ERROR: usize = 5;

/// Members of `params` that decide what is asked of whom. Twice is refused: whoever forwards the message and whoever
/// executes it could read different ones.
const ROUTING: [&str; 8] = [
    "name",
    "uri",
    "arguments",
    "_meta",
    "requestId",
    "taskId",
    "protocolVersion",
    "progressToken",
];

/// What the scan found; judged afterwards, so that a broken envelope still names its call.
#[derive(Default)]
struct Envelope {
    at: [Option<Span>; KEYS.len()],
    root: Index,
    inner: Index,
    duplicate: Option<&'static str>,
    depth: u32,
}

impl Envelope {
    fn scan(text: &str, limits: &Limits) -> Result<Self, Why> {
        let mut found = Self::default();
        let mut scanner =
            Scanner::new(text, limits.depth_max).map_err(|fault| why(fault, limits))?;
        if scanner.peek() != Some(b'{') && raw::is_json(text) {
            return Err(Why::NotAMessage("a message is a JSON object"));
        }
        scanner
            .object(0, |scanner, key| {
                let known = key_among(key.of(text), &KEYS);
                scanner.skip_space();
                let value = match known {
                    Some(body @ (PARAMS | RESULT | ERROR)) if scanner.peek() == Some(b'{') => {
                        found.body(scanner, text, body)?
                    }
                    _ => scanner.value(1)?,
                };
                found.root.push(key, value);
                if let Some(known) = known
                    && found.at[known].replace(value).is_some()
                {
                    found.duplicate.get_or_insert(KEYS[known]);
                }
                Ok(())
            })
            .and_then(|_| scanner.expect_end())
            .map_err(|fault| why(fault, limits))?;
        found.depth = u32::try_from(scanner.deepest()).unwrap_or(u32::MAX);
        match found.duplicate {
            Some(name) => Err(Why::DuplicateKey(name)),
            None => Ok(found),
        }
    }

    /// Indexes the members of `params`, `result` or `error`: nearly everything that is asked for later is one of them.
    fn body(&mut self, scanner: &mut Scanner<'_>, text: &str, body: usize) -> Result<Span, Fault> {
        let mut inner = Index::default();
        let mut seen = 0_u8;
        let span = scanner.object(1, |scanner, key| {
            if body == PARAMS
                && let Some(routing) = key_among(key.of(text), &ROUTING)
            {
                if seen >> routing & 1 == 1 {
                    self.duplicate.get_or_insert(ROUTING[routing]);
                }
                seen |= 1 << routing;
            }
            let value = scanner.value(2)?;
            inner.push(key, value);
            Ok(())
        })?;
        self.inner = inner;
        Ok(span)
    }

    fn judge(self, text: ByteString) -> Result<Message, Why> {
        if self.at[JSONRPC].map(|span| span.of(&text)) != Some("\"2.0\"") {
            return Err(Why::NotAMessage("the member \"jsonrpc\" must be \"2.0\""));
        }
        let id = match self.at[ID].map(|span| span.of(&text)) {
            None | Some("null") => None,
            Some(raw) => Some(Id::from_scanned(raw).ok_or(Why::NotAMessage(
                "the id must be a short string or a number",
            ))?),
        };
        let (kind, body) = match (self.at[METHOD], self.at[RESULT], self.at[ERROR]) {
            (Some(_), None, None) if self.at[ID].is_some() && id.is_none() => {
                return Err(Why::NotAMessage("the id of a request must not be null"));
            }
            (Some(_), None, None) if id.is_some() => (Kind::Request, self.at[PARAMS]),
            (Some(_), None, None) => (Kind::Notification, self.at[PARAMS]),
            (None, Some(_), None) if id.is_none() => {
                return Err(Why::NotAMessage("a result without an id answers nothing"));
            }
            (None, Some(result), None) => (Kind::Result, Some(result)),
            (None, None, Some(error)) if !raw::is_object(error.of(&text)) => {
                return Err(Why::NotAMessage("the member \"error\" must be an object"));
            }
            (None, None, Some(error)) => (Kind::Error, Some(error)),
            (None, Some(_), Some(_)) => {
                return Err(Why::NotAMessage(
                    "an answer has either a result or an error, not both",
                ));
            }
            (None, None, None) => {
                return Err(Why::NotAMessage(
                    "neither a method nor a result nor an error",
                ));
            }
            (Some(_), _, _) => {
                return Err(Why::NotAMessage(
                    "a request has neither a result nor an error",
                ));
            }
        };
        if matches!(kind, Kind::Request | Kind::Notification)
            && body.is_some_and(|params| {
                !matches!(
                    text.as_bytes().get(params.start()),
                    Some(b'{' | b'[' | b'n')
                )
            })
        {
            return Err(Why::NotAMessage("the member \"params\" must be an object"));
        }
        let method = self.at[METHOD].map_or(Ok(Name::None), |span| method_name(&text, span))?;
        // A message without `params` but with a stray second body never gets here, so `inner` belongs to `body`.
        let inner = if body.is_some_and(|body| raw::is_object(body.of(&text))) {
            self.inner
        } else {
            Index::none()
        };
        Ok(Message {
            text,
            kind,
            id,
            method,
            body,
            root: self.root,
            inner,
            depth: self.depth,
        })
    }
}

fn method_name(text: &str, span: Span) -> Result<Name, Why> {
    let quoted = span.of(text);
    if quoted.len() > METHOD_BYTES_MAX + 2 || quoted.len() < 3 || !quoted.starts_with('"') {
        return Err(Why::NotAMessage(
            "the method must be a short, non-empty string",
        ));
    }
    if !quoted.contains('\\') {
        return Ok(Name::Plain(Span::new(span.start() + 1, span.end() - 1)));
    }
    match raw::string(quoted) {
        Some(name) => Ok(Name::Decoded(name.into())),
        None => Err(Why::NotAMessage("the method cannot be decoded")),
    }
}

fn why(fault: Fault, limits: &Limits) -> Why {
    match fault {
        Fault::Syntax(at) => Why::NotJson { at },
        Fault::TooDeep => Why::TooDeep {
            max: limits.depth_max,
        },
    }
}

/// An array is a batch if its first element is an object; `[12:30] started` and `[1, 2]` are noise.
fn judge_array(text: &str, limits: &Limits) -> Why {
    let mut first_is_object = None;
    let scanned = Scanner::new(text, limits.depth_max).and_then(|mut scanner| {
        scanner.array(0, |scanner| {
            scanner.skip_space();
            first_is_object.get_or_insert(scanner.peek() == Some(b'{'));
            scanner.value(1).map(drop)
        })?;
        scanner.expect_end()
    });
    match scanned {
        Err(fault) => why(fault, limits),
        Ok(()) if first_is_object == Some(true) => Why::Batch,
        Ok(()) => Why::NotAMessage("an array is no message"),
    }
}

/// Splits a JSON array into its elements, each a slice of `text`. Whether they are messages is for [`Message::parse`].
///
/// # Errors
/// [`Refused`] if the array is too long, too deep, no JSON, empty or holds more than [`BATCH_MESSAGES_MAX`] elements.
pub fn split_batch(text: Bytes, limits: &Limits) -> Result<Vec<Bytes>, Refused> {
    let text = trim(text);
    let refuse = |why| {
        Err(Refused {
            why,
            id: None,
            method: None,
            jsonrpc: true,
        })
    };
    if text.len() > limits.bytes_max() {
        return refuse(Why::TooLong {
            bytes: text.len(),
            max: limits.bytes_max(),
        });
    }
    let Ok(plain) = std::str::from_utf8(&text) else {
        return refuse(Why::NotJson { at: 0 });
    };
    let mut spans = Vec::new();
    // The array itself is not a level of any message.
    let depth_max = limits.depth_max.saturating_add(1);
    let scanned = Scanner::new(plain, depth_max).and_then(|mut scanner| {
        scanner.array(0, |scanner| {
            let span = scanner.value(1)?;
            if spans.len() <= BATCH_MESSAGES_MAX {
                spans.push(span);
            }
            Ok(())
        })?;
        scanner.expect_end()
    });
    match scanned {
        Err(fault) => refuse(why(fault, limits)),
        Ok(()) if spans.is_empty() => refuse(Why::NotAMessage("an empty batch")),
        Ok(()) if spans.len() > BATCH_MESSAGES_MAX => {
            refuse(Why::NotAMessage("a batch of more than 1000 messages"))
        }
        Ok(()) => Ok(spans
            .into_iter()
            .map(|span| text.slice(span.start()..span.end()))
            .collect()),
    }
}

/// The id of a message of which only the beginning is at hand, for example because it is too long.
///
/// `None` if the id was not reached, is incomplete or occurs twice.
#[must_use]
pub fn recover_id(prefix: &[u8]) -> Option<Id> {
    Salvage::of(prefix).id
}

/// Drops a byte order mark and surrounding white space; shares the memory.
pub(crate) fn trim(text: Bytes) -> Bytes {
    let mut inner: &[u8] = text.trim_ascii();
    if let Some(rest) = inner.strip_prefix(b"\xEF\xBB\xBF") {
        inner = rest.trim_ascii_start();
    }
    if inner.len() == text.len() {
        text
    } else {
        text.slice_ref(inner)
    }
}
