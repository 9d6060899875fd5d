//! Calls that somebody has to approve: what both eras have in common about it.
//!
//! Whether a call needs a word, and of whom, was decided when it was let in. Nothing is sent before there is one. What is not
//! approved is refused, and says why.

use std::time::Duration;

use mainstay::Answer;
use mainstay_wire::Message;

use super::digest;
use crate::audit::Approved;
use crate::audit::chain::sha256;
use crate::policy::approvals::Wanted;
use crate::policy::gate::{Pass, unapproved};
use crate::serve::Shared;
use crate::serve::call::Caller;
use crate::serve::fault::{Fault, LIMIT_REACHED, REFUSED};

/// Waits for the operator's word. Dropping the future withdraws the question.
///
/// # Errors
/// The call is refused: denied, too late, or too many wait.
pub(super) async fn by_operator(
    shared: &Shared,
    caller: &Caller,
    wanted: &Wanted,
) -> Result<(), Fault> {
    let Some(mut waiting) = shared.gate.approvals.wait(wanted) else {
        refused(caller, "tooManyWaiting");
        let mut fault = unapproved(
            wanted,
            "tooManyWaiting",
            "too many calls wait for it already",
        );
        fault.code = LIMIT_REACHED;
        return Err(fault);
    };
    tracing::info!(
        server = wanted.server,
        tool = wanted.tool,
        "a call waits for approval: see `mainstay approvals`"
    );
    let word = tokio::select! {
        // Cancel-safe: a word that came is taken.
        word = waiting.word(Duration::from_millis(wanted.approval.wait_ms)) => word,
        // Cancel-safe: a token holds nothing.
        () = shared.ending.cancelled() => None,
    };
    match word {
        Some(allowed) => said(caller, "operator", allowed),
        None => Err(expired(caller, wanted)),
    }
}

/// Somebody has said yes or no.
///
/// # Errors
/// It was no.
pub(super) fn said(caller: &Caller, by: &'static str, allowed: bool) -> Result<(), Fault> {
    if let Some(pass) = &caller.pass {
        pass.approved(Approved { by, allowed });
    }
    if allowed {
        return Ok(());
    }
    refused(caller, "approvalDenied");
    Err(match caller.wanted() {
        Some(wanted) => unapproved(wanted, "approvalDenied", "it was denied"),
        None => of_before("approvalDenied", "it was denied"),
    })
}

/// A word that came after its time.
pub(super) fn too_late(caller: &Caller) -> Fault {
    refused(caller, "approvalExpired");
    of_before("approvalExpired", "nobody gave it in time")
}

/// The same in the request that comes after the one that needed it.
fn of_before(reason: &str, words: &str) -> Fault {
    let text = format!("this call needs approval: {words}");
    Fault::new(REFUSED, text).with(serde_json::json!({
        "outcome": "refused",
        "reason": reason,
        "cause": { "kind": "policy", "detail": words },
    }))
}

/// Nobody said anything in time.
pub(super) fn expired(caller: &Caller, wanted: &Wanted) -> Fault {
    refused(caller, "approvalExpired");
    unapproved(wanted, "approvalExpired", "nobody gave it in time")
}

/// Only the client's user may approve, and the client cannot ask.
pub(super) fn cannot_ask(caller: &Caller, wanted: &Wanted) -> Fault {
    refused(caller, "approvalUnavailable");
    let words = "only the user of this client may give it, and the client cannot ask (elicitation)";
    unapproved(wanted, "approvalUnavailable", words)
}

fn refused(caller: &Caller, reason: &'static str) {
    if let Some(pass) = &caller.pass {
        pass.refused(reason);
    }
}

/// Whether a request is the next round of a call that was approved: its server asked for it, with the state that it brings.
pub(super) fn is_next_round(
    shared: &Shared,
    caller: &Caller,
    wanted: &Wanted,
    message: &Message,
) -> bool {
    let Some(state) = message.member(&["params", "requestState"]) else {
        return false;
    };
    let principal = wanted
        .principal
        .as_ref()
        .map_or("", mainstay::Principal::name);
    let key = round_key(&wanted.endpoint, principal, message, state);
    let is_next = shared.gate.approvals.is_next_round(&key);
    if let Some(pass) = caller.pass.as_ref().filter(|_| is_next) {
        pass.goes_on();
    }
    is_next
}

/// Remembers the next round of a call that was approved, if its server wants one.
pub(super) fn remember_round(shared: &Shared, caller: &Caller, message: &Message, answer: &Answer) {
    if !caller.pass.as_ref().is_some_and(Pass::is_cleared) {
        return;
    }
    let word = answer.message.string_member(&["result", "resultType"]);
    let state = answer.message.member(&["result", "requestState"]);
    if let (Some("input_required"), Some(state)) = (word.as_deref(), state) {
        let principal = caller
            .who
            .principal
            .as_ref()
            .map_or("", mainstay::Principal::name);
        let key = round_key(&caller.origin.endpoint, principal, message, state);
        shared.gate.approvals.remember(key);
    }
}

/// Who, where, which call, and in which state: all of it is the same in the next round, and nothing else is that round.
fn round_key(endpoint: &str, principal: &str, message: &Message, state: &str) -> String {
    let asks = digest::of_request(message);
    let state = mainstay_wire::raw::canonical(state).unwrap_or_else(|| state.to_owned());
    sha256(format!("{endpoint}\0{principal}\0{asks}\0{state}").as_bytes())
}
