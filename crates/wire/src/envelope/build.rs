//! Writing messages of our own.

use bytes::Bytes;

use super::{Limits, Message};
use crate::codes::INTERNAL_ERROR;
use crate::id::Id;
use crate::splice::json_string;

impl Message {
    /// A request. `params` is raw JSON, an object; `None` leaves the member out.
    ///
    /// `params` that are not JSON are a bug of the caller: debug builds panic, release builds send the request
    /// without them, which the peer answers with "invalid params".
    #[must_use]
    pub fn request(id: &Id, method: &str, params: Option<&str>) -> Self {
        let head = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":{}"#,
            json_string(method)
        );
        written(with_member(&head, "params", params))
            .unwrap_or_else(|| known_good(format!("{head}}}")))
    }

    /// A notification. `params` as in [`Message::request`].
    #[must_use]
    pub fn notification(method: &str, params: Option<&str>) -> Self {
        let head = format!(r#"{{"jsonrpc":"2.0","method":{}"#, json_string(method));
        written(with_member(&head, "params", params))
            .unwrap_or_else(|| known_good(format!("{head}}}")))
    }

    /// A successful answer. `raw_result` is raw JSON.
    ///
    /// A result that is not JSON is a bug of the caller: debug builds panic, release builds answer with an internal error.
    #[must_use]
    pub fn result_of(id: &Id, raw_result: &str) -> Self {
        written(format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{raw_result}}}"#
        ))
        .unwrap_or_else(|| {
            Self::error_of(
                Some(id),
                INTERNAL_ERROR,
                "internal error: the result is not valid JSON",
                None,
            )
        })
    }

    /// An error answer; without an id it says `"id": null`. `data` is raw JSON and left out if it is not valid.
    #[must_use]
    pub fn error_of(id: Option<&Id>, code: i64, message: &str, data: Option<&str>) -> Self {
        let id = id.map_or("null", Id::raw);
        let head = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{}"#,
            json_string(message)
        );
        let text = format!("{}}}", with_member(&head, "data", data));
        written(text).unwrap_or_else(|| known_good(format!("{head}}}}}")))
    }
}

fn with_member(head: &str, key: &str, raw: Option<&str>) -> String {
    match raw {
        Some(raw) => format!(r#"{head},"{key}":{raw}}}"#),
        None => format!("{head}}}"),
    }
}

fn written(text: String) -> Option<Message> {
    let parsed = Message::parse(Bytes::from(text), &Limits::NONE);
    debug_assert!(
        parsed.is_ok(),
        "a message was built from text that is not JSON: {parsed:?}"
    );
    parsed.ok()
}

/// Text that holds nothing from outside except strings that were quoted here and an id that was validated.
#[expect(
    clippy::expect_used,
    reason = "the text consists of constants, a validated id and quoted strings"
)]
fn known_good(text: String) -> Message {
    Message::parse(Bytes::from(text), &Limits::NONE).expect("constant text is a message")
}
