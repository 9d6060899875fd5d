//! Messages that the relay writes itself.

use mainstay_gateway::serve::fault::{LIMIT_REACHED, OUTCOME_UNKNOWN, REFUSED};
use mainstay_wire::{Id, Message, json_string, meta, method};
use serde_json::json;

use crate::exit::Stop;

/// A resource may have changed.
pub(super) fn updated(uri: &str, subscription: Option<&Id>) -> Message {
    let meta = subscription
        .map(|id| format!("\"_meta\":{{\"{}\":{id}}},", meta::SUBSCRIPTION_ID))
        .unwrap_or_default();
    Message::notification(
        method::RESOURCES_UPDATED,
        Some(&format!("{{{meta}\"uri\":{}}}", json_string(uri))),
    )
}

/// A listing may have changed, told on a subscription.
pub(super) fn changed(method: &str, subscription: &Id) -> Message {
    let params = format!(
        "{{\"_meta\":{{\"{}\":{subscription}}}}}",
        meta::SUBSCRIPTION_ID
    );
    Message::notification(method, Some(&params))
}

/// A request of a server to the client is not waited for any more.
pub(super) fn cancelled(id: &Id) -> Message {
    let params = format!("{{\"requestId\":{id},\"reason\":\"Mainstay was restarted\"}}");
    Message::notification(method::CANCELLED, Some(&params))
}

/// The call never left, because no Mainstay could be reached.
pub(super) fn refused(id: Option<&Id>, stop: &Stop) -> Message {
    let data = json!({ "outcome": "refused", "hint": stop.hint });
    Message::error_of(id, REFUSED, &stop.to_string(), Some(&data.to_string()))
}

/// The call was sent and Mainstay went away before it answered (law 16).
pub(super) fn unknown(id: Option<&Id>, why: &str) -> Message {
    let text =
        "Mainstay ended before it had answered; the call may have run, so it was not sent again";
    let data = json!({
        "outcome": "unknown",
        "cause": { "kind": "mainstay-ended", "detail": why },
        "hint": "look whether it had an effect before you send it again",
    });
    Message::error_of(id, OUTCOME_UNKNOWN, text, Some(&data.to_string()))
}

/// Too much at once.
pub(super) fn too_many(id: &Id, max: usize) -> Message {
    let text = format!("{max} requests of this client are in flight; more are not taken");
    let data = json!({ "outcome": "refused", "limit": max });
    Message::error_of(Some(id), LIMIT_REACHED, &text, Some(&data.to_string()))
}
