//! Calls to servers that somebody has to sign in to first: what their callers are told, and how the sign-in becomes a part
//! of the call where the client can be sent to an address (URL-mode elicitation).
//!
//! Nothing was executed then (the call was refused by us, or by the server for want of a credential), so it may be made
//! again (law 16). The link leads to a page of ours that knows whose call it is (`signin/visit.rs`): whoever passes it on
//! gains nothing. No request of a client ever opens a browser or a port; that is left to the person with the link (law 11).

use std::time::Duration;

use mainstay::auth::{SignInState, SignInStatus};
use mainstay::error::Lost;
use mainstay::{CallError, Principal, Refusal, ServerHandle};
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_wire::{Id, Message, codes, json_string, method, raw};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::capability;
use super::legacy::Course;
use crate::serve::Shared;
use crate::serve::caller::Caller;
use crate::serve::fault::{Fault, INPUT_MISSING};

/// The key under which a modern client is asked.
pub(crate) const KEY: &str = "sign-in";

/// How often one call may ask for a sign-in: a server that refuses what it has just granted would never end.
const TIMES_MAX: u32 = 3;

/// After a sign-in, how long its effect on the connection is waited for.
const SETTLE: Duration = Duration::from_secs(10);
/// And how often that is looked at.
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

/// How often it is looked whether somebody has signed in by other means, such as another process.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a request of a modern client waits for a person who has gone to sign in, before it asks again: shorter than
/// clients wait for an answer.
pub(crate) const MODERN_WAIT: Duration = Duration::from_secs(45);

/// A sign-in that a call needs.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    server: Box<str>,
    /// Whose grant is missing.
    principal: Option<Principal>,
    /// The page to go to; none if the caller is not the one who can sign in.
    link: Option<Box<str>>,
    /// What is known of the grant.
    known: SignInStatus,
    /// There is a grant, and it does not reach for this.
    needs_more: bool,
}

impl Wanted {
    /// What would let the call through that failed like this; `None` if a sign-in would not.
    pub(crate) fn of(
        shared: &Shared,
        server: &ServerHandle,
        error: &CallError,
        who: &Caller,
    ) -> Option<Self> {
        let failure = failure_of(error)?;
        let needs_more = failure.kind == FailureKind::Forbidden;
        if !needs_more && failure.kind != FailureKind::NeedsLogin {
            return None;
        }
        let principal = who.principal.as_ref().filter(|_| server.is_per_user());
        let name = server.name();
        let known = shared.sign_ins.office().known(name, principal)?;
        if known.by_callers {
            // The error itself says what to bring.
            return None;
        }
        if needs_more && known.wants.is_empty() {
            // It may not do that, however it signs in.
            return None;
        }
        // A grant that all share is signed in for by this machine's user, not by whoever happens to call.
        let may = principal == who.principal.as_ref();
        let link = may.then(|| shared.visits.path(name, principal)).flatten();
        let link = link
            .and_then(|path| Some(format!("{}{path}", shared.sign_ins.origin(principal)?).into()));
        Some(Self {
            server: name.into(),
            principal: principal.cloned(),
            link,
            known,
            needs_more,
        })
    }

    /// The typed answer: what is missing, the command and the link.
    pub(crate) fn fault(&self, error: &CallError) -> Fault {
        let mut fault = Fault::from(error);
        let command = self
            .principal
            .is_none()
            .then(|| mainstay::auth::login_command(&self.server));
        let ways: Vec<String> = [
            command.as_ref().map(|command| format!("run `{command}`")),
            self.link.as_ref().map(|link| format!("open {link}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut told = json!({
            "server": &*self.server,
            "state": self.known.state.word(),
        });
        if !ways.is_empty() {
            let what = format!("to sign in, {}", ways.join(" or "));
            fault.message = format!("{}; {what}", fault.message);
            told["hint"] = what.clone().into();
        }
        if let Some(command) = command {
            told["command"] = command.into();
        }
        if let Some(link) = &self.link {
            told["url"] = (**link).into();
        }
        if self.needs_more {
            told["needsMore"] = true.into();
        }
        let data = fault.data.get_or_insert_with(|| json!({}));
        if let Value::Object(data) = data {
            if let Some(hint) = told.get("hint") {
                data.insert("hint".into(), hint.clone());
            }
            data.insert("signIn".into(), told);
        }
        fault
    }

    /// What the client is asked, if it can be sent to an address: `mode`, `message` and `url`.
    pub(crate) fn question(&self, capabilities: &str) -> Option<String> {
        let link = self.link.as_deref()?;
        let params = format!(
            "{{\"mode\":\"url\",\"message\":{},\"url\":{}}}",
            json_string(&self.words()),
            json_string(link)
        );
        let lacks = capability::lacking(capabilities, method::ELICITATION_CREATE, Some(&params));
        lacks.is_none().then_some(params)
    }

    fn words(&self) -> String {
        let server = &self.server;
        if self.needs_more {
            return format!(
                "The server “{server}” needs more rights for this call. Allow them in your browser; the call goes on then."
            );
        }
        format!("Sign in to the server “{server}” in your browser; the call goes on then.")
    }

    /// Waits until somebody has signed in, by the link or by other means; `false` when `until` came first. Cancel-safe.
    pub(crate) async fn signed_in(&self, shared: &Shared, until: Instant) -> bool {
        let mut ended = shared.sign_ins.ended();
        loop {
            if self.is_signed_in(shared) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            tokio::select! {
                // Cancel-safe: levels and sleeps hold nothing.
                _ = ended.changed() => {}
                () = tokio::time::sleep_until(until.min(Instant::now() + LOOK_EVERY)) => {}
            }
        }
    }

    fn is_signed_in(&self, shared: &Shared) -> bool {
        let office = shared.sign_ins.office();
        office
            .known(&self.server, self.principal.as_ref())
            .is_some_and(|known| match known.state {
                SignInState::SignedIn | SignInState::Refreshing => known.wants.is_empty(),
                SignInState::None | SignInState::Needed | SignInState::Expired => false,
            })
    }

    /// The person did not want to.
    pub(crate) fn declined(&self) -> Fault {
        let text = format!(
            "server `{}` needs a sign-in, which was declined; the call was not made",
            self.server
        );
        Fault::new(INPUT_MISSING, text)
            .with(json!({ "outcome": "refused", "server": &*self.server }))
    }

    fn late(&self) -> Fault {
        let text = format!(
            "nobody signed in to server `{}` before the deadline of the call; it was not made",
            self.server
        );
        Fault::new(INPUT_MISSING, text)
            .with(json!({ "outcome": "refused", "server": &*self.server }))
    }

    /// For a client that can be sent to an address and cannot be asked now: it may call again afterwards.
    fn required(&self, question: &str, id: &str) -> Fault {
        let mut asked: Value = serde_json::from_str(question).unwrap_or_default();
        asked["elicitationId"] = id.into();
        Fault::new(codes::URL_ELICITATION_REQUIRED, self.words())
            .with(json!({ "elicitations": [asked] }))
    }
}

/// Why the call got nowhere, if it provably was not run.
fn failure_of(error: &CallError) -> Option<&Failure> {
    match error {
        CallError::Refused(Refusal::Parked(parked)) => parked.cause.as_ref(),
        CallError::Refused(Refusal::NotReady { cause, .. }) => cause.as_ref(),
        CallError::Rejected(Lost::Transport { failure, .. } | Lost::Ended { failure, .. }) => {
            Some(failure)
        }
        CallError::Refused(_) | CallError::Rejected(_) | CallError::Unknown(_) => None,
    }
}

/// The sign-ins of one call of a legacy client.
#[derive(Debug, Default)]
pub(crate) struct SignIns {
    times: u32,
    settling_until: Option<Instant>,
}

impl SignIns {
    /// The call got nowhere. `Ok`: it can be made again now, because somebody has signed in meanwhile.
    ///
    /// # Errors
    /// What to tell the client.
    pub(crate) async fn lift(
        &mut self,
        course: &mut Course,
        error: &CallError,
        deadline: Instant,
    ) -> Result<(), Fault> {
        let who = &course.caller.who;
        let Some(wanted) = Wanted::of(&course.shared, &course.server, error, who) else {
            return Err(Fault::from(error));
        };
        if self
            .settling_until
            .is_some_and(|until| Instant::now() < until)
        {
            tokio::time::sleep(SETTLE_PAUSE).await;
            return Ok(());
        }
        let Some(question) = wanted.question(&course.caller.face.capabilities) else {
            return Err(wanted.fault(error));
        };
        self.times += 1;
        if self.times > TIMES_MAX {
            return Err(wanted.fault(error));
        }
        self.ask(course, &wanted, &question, deadline).await?;
        self.settling_until = Some(Instant::now() + SETTLE);
        Ok(())
    }

    async fn ask(
        &self,
        course: &mut Course,
        wanted: &Wanted,
        question: &str,
        deadline: Instant,
    ) -> Result<(), Fault> {
        let elicitation = super::rounds::minted();
        let asked = course.question(|id| request(id, question, &elicitation));
        let Some(mut waiting) = asked else {
            return Err(wanted.required(question, &elicitation));
        };
        let shared = &course.shared;
        let signed_in = tokio::select! {
            biased;
            // Cancel-safe: it only looks.
            signed_in = wanted.signed_in(shared, deadline) => signed_in,
            // Cancel-safe: an answer that came is taken.
            answer = waiting.answer() => {
                let action = answer.string_member(&["result", "action"]);
                if action.as_deref() != Some("accept") {
                    return Err(wanted.declined());
                }
                wanted.signed_in(shared, deadline).await
            }
        };
        if !signed_in {
            return Err(wanted.late());
        }
        let params = format!("{{\"elicitationId\":{}}}", json_string(&elicitation));
        let complete = Message::notification(method::ELICITATION_COMPLETE, Some(&params));
        // Whoever has left does not hear it, and need not.
        let _heard = course.voice.say(complete);
        Ok(())
    }
}

fn request(id: &Id, question: &str, elicitation: &str) -> Message {
    let request = Message::request(id, method::ELICITATION_CREATE, Some(question));
    let editor = request
        .edit()
        .set(&["params", "elicitationId"], json_string(elicitation));
    editor.apply().unwrap_or(request)
}

/// What a modern client says to the question: `None` if it says nothing yet.
pub(crate) fn accepts(answers: &[(String, String)]) -> Option<bool> {
    let answer = super::inputs::find(answers, KEY)?;
    let action = raw::string_member(answer, &["action"])?;
    Some(action == "accept")
}

/// Whether a call that was made again right after a sign-in failed only because its effect has not come yet: then a moment is
/// waited, and it may be made once more.
pub(crate) async fn settles(until: Option<Instant>) -> bool {
    let still = until.is_some_and(|until| Instant::now() < until);
    if still {
        tokio::time::sleep(SETTLE_PAUSE).await;
    }
    still
}

/// Until when the effect of a sign-in that came about now is waited for.
pub(crate) fn settling() -> Instant {
    Instant::now() + SETTLE
}
