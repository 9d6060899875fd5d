//! What callers prove themselves with, on its way to the account of their principal: for servers alone whose credentials are
//! exchanged for it (RFC 8693).
//!
//! It goes nowhere else (law 31, law 32). What costs something here costs callers of such servers only.

use std::time::Duration;

use mainstay_core::failure::FailureKind;
use mainstay_core::lifecycle::status::StateWord;
use tokio::time::Instant;

use crate::auth::Subject;
use crate::catalog::unix_ms;
use crate::config::Scope;
use crate::driver::Place;
use crate::request::ClientFace;
use crate::slot::{Slot, View};

/// How long a connection that is told of a newer subject may take to begin anew.
const BEGIN: Duration = Duration::from_secs(5);

/// What a caller brings that is of use at this server.
pub(super) fn of<'f>(slot: &Slot, face: Option<&'f ClientFace>) -> Option<&'f Subject> {
    let subject = face?.subject.as_ref()?;
    let config = slot.config.load();
    let is_wanted = config.scope == Scope::User && config.auth.exchanges_callers();
    is_wanted.then_some(subject)
}

/// Brings it to a connection of its principal. One that is parked for want of credentials, and was so with an older one,
/// begins anew: an exchange needs no person. Waits until it does, at most 5 seconds. Cancel-safe.
pub(super) async fn bring(place: &Place, subject: &Subject, until: Instant) {
    let slot = &place.slot;
    let Some(account) = &slot.account else { return };
    account.subject.bring(subject, unix_ms());
    let Some(sign_in) = slot.sign_in.load_full() else {
        return;
    };
    if !sign_in.revive() || !is_parked(&slot.view.borrow()) {
        return;
    }
    let mut view = slot.view.subscribe();
    let begun = view.wait_for(|view| !is_parked(view));
    let until = until.min(Instant::now() + BEGIN);
    // Too late: then the call is told what every other is.
    let _ = tokio::time::timeout_at(until, begun).await;
}

fn is_parked(view: &View) -> bool {
    let status = &view.status;
    let cause = status.cause.as_ref();
    status.state == StateWord::Parked
        && cause.is_some_and(|cause| cause.kind == FailureKind::NeedsLogin)
}
