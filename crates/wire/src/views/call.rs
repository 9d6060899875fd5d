//! Calls and their answers.

use std::borrow::Cow;

use super::ViewError;
use crate::envelope::{Kind, Message};
use crate::meta;
use crate::method;
use crate::raw;

/// What a request asks for, as far as routing goes. Borrows from the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallView<'m> {
    /// Tool or prompt name, resource URI or task id; see [`crate::headers::name_path`].
    pub name: Option<Cow<'m, str>>,
    /// Raw JSON of `params.arguments`.
    pub arguments: Option<&'m str>,
    /// Raw JSON of the progress token: a string or a number.
    pub progress_token: Option<&'m str>,
    /// Raw JSON of `params._meta`.
    pub meta: Option<&'m str>,
}

impl<'m> CallView<'m> {
    /// Looks at a request; cheap, nothing is copied unless a name holds escapes.
    #[must_use]
    pub fn of(message: &'m Message) -> Self {
        let path = message.method().and_then(crate::headers::name_path);
        Self {
            name: path.and_then(|path| message.string_member(path)),
            arguments: message.member(&["params", "arguments"]),
            progress_token: message
                .member(&meta::in_params(meta::PROGRESS_TOKEN))
                .filter(|raw| matches!(raw.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9'))),
            meta: message.member(&["params", "_meta"]),
        }
    }

    /// Whether this request declares a client capability (modern).
    #[must_use]
    pub fn declares(&self, capability: &[&str]) -> bool {
        self.meta
            .and_then(|meta| raw::member(meta, &[meta::CLIENT_CAPABILITIES]))
            .is_some_and(|capabilities| super::greet::declares(capabilities, capability))
    }

    /// Whether the request carries modern metadata and thus is served without a session, whatever a header says.
    /// `initialize` never does.
    #[must_use]
    pub fn is_modern(message: &Message) -> bool {
        message.method() != Some(method::INITIALIZE)
            && message
                .member(&meta::in_params(meta::PROTOCOL_VERSION))
                .is_some()
    }
}

/// What an error answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorView {
    /// The code; `None` if it is no integer of 64 bit. The raw text stays in the message.
    pub code: Option<i64>,
    /// The text for people; empty if there is none.
    pub message: String,
    /// Raw JSON of `data`.
    pub data: Option<String>,
}

impl ErrorView {
    /// Looks at an error answer. `None` if the message is none.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        (message.kind() == Kind::Error).then(|| Self {
            code: message
                .member(&["error", "code"])
                .and_then(|raw| raw.parse().ok()),
            message: message
                .string_member(&["error", "message"])
                .unwrap_or_default()
                .into_owned(),
            data: message.member(&["error", "data"]).map(str::to_owned),
        })
    }
}

/// Hints of a tool about itself. Only believed on servers whose annotations are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolHints {
    /// Changes nothing. Default no.
    pub read_only: bool,
    /// Calling it again changes nothing more. Default no.
    pub idempotent: bool,
    /// May destroy. Default yes.
    pub destructive: bool,
}

impl ToolHints {
    /// Reads the annotations of a raw tool.
    #[must_use]
    pub fn of_tool(tool: &str) -> Self {
        let hint = |key, default| match raw::member(tool, &["annotations", key]) {
            Some("true") => true,
            Some("false") => false,
            _ => default,
        };
        // A tool that calls itself both is believed in neither (F176). The default of the one is no claim.
        let claims_both = raw::member(tool, &["annotations", "destructiveHint"]) == Some("true");
        Self {
            read_only: hint("readOnlyHint", false) && !claims_both,
            idempotent: hint("idempotentHint", false),
            destructive: hint("destructiveHint", true),
        }
    }

    /// Whether a call may be sent again after its outcome was lost (law 16), provided the annotations are trusted.
    #[must_use]
    pub fn may_repeat(self) -> bool {
        self.read_only || self.idempotent
    }
}

/// What kind of modern result this is. Absent counts as complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultType {
    /// The answer.
    Complete,
    /// The server needs something first.
    InputRequired,
    /// Something of an extension, for example `task`; invalid for whoever does not know it.
    Other(String),
}

impl ResultType {
    /// Looks at a result. A `resultType` that is no string is reported as its raw text.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        let Some(raw) = message.member(&["result", "resultType"]) else {
            return Self::Complete;
        };
        match raw::string(raw).as_deref() {
            Some("complete") => Self::Complete,
            Some("input_required") => Self::InputRequired,
            Some(other) => Self::Other(other.to_owned()),
            None => Self::Other(raw.to_owned()),
        }
    }
}

/// A result that asks for inputs. Borrows from the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRequired<'m> {
    /// Key and raw request `{method, params}` of each input, in order.
    pub requests: Vec<(Cow<'m, str>, &'m str)>,
    /// Raw JSON of the opaque state; goes back byte for byte.
    pub request_state: Option<&'m str>,
}

impl<'m> InputRequired<'m> {
    /// Reads a result of type `input_required`.
    ///
    /// # Errors
    /// [`ViewError`] if it has neither requests nor state.
    pub fn of(message: &'m Message) -> Result<Self, ViewError> {
        let requests = message
            .member(&["result", "inputRequests"])
            .map(raw::members)
            .unwrap_or_default();
        let request_state = message
            .member(&["result", "requestState"])
            .filter(|raw| *raw != "null");
        if requests.is_empty() && request_state.is_none() {
            return Err(ViewError {
                what: "input_required result",
                member: "result.inputRequests",
                expected: "requests, a requestState or both",
            });
        }
        Ok(Self {
            requests,
            request_state,
        })
    }
}
