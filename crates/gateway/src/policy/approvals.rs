//! Calls that wait until somebody has approved them.
//!
//! A word is bound to the one call that waits: its principal, its tool and its arguments. It is bounded in number, for each
//! principal too, and in time, and forgotten when its call goes away. Who is asked how is the bridge's business; here wait those
//! that the operator decides, and what a client's user has approved is remembered from one round of a call to the next.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay::Principal;
use mainstay::catalog::unix_ms;
use mainstay::config::{Approval, Approver};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Calls that wait at the same time.
const WAITING_MAX: usize = 1_000;

/// Of these, calls of one principal.
const OF_ONE_MAX: usize = 32;

/// Rounds that are remembered.
const ROUNDS_MAX: usize = 1_000;

/// How long they are.
const ROUNDS_KEPT: Duration = Duration::from_secs(600);

/// Characters of the arguments that are shown to whoever approves.
const SHOWN_CHARS_MAX: usize = 4_096;

/// The same, to the user of a client.
const ASKED_CHARS_MAX: usize = 1_024;

/// A call that needs a word of somebody.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) approval: Approval,
    pub(crate) rule: String,
    pub(crate) principal: Option<Principal>,
    pub(crate) label: Option<Arc<str>>,
    pub(crate) server: String,
    pub(crate) tool: String,
    pub(crate) exposed: String,
    pub(crate) endpoint: String,
    /// Their canonical form.
    pub(crate) arguments: String,
    pub(crate) arguments_sha256: String,
}

impl Wanted {
    /// Whether the user of a client that can be asked is the one to ask.
    pub(crate) fn asks_client(&self, can_be_asked: bool) -> bool {
        match self.approval.by {
            Approver::Client => true,
            Approver::Either => can_be_asked,
            Approver::Operator => false,
        }
    }

    /// The parameters of the elicitation that asks the client's user.
    pub(crate) fn question(&self) -> String {
        let message = format!(
            "Allow `{}` of the server `{}` to be called with these arguments?\n{}",
            self.tool,
            self.server,
            cut(&self.arguments, ASKED_CHARS_MAX)
        );
        serde_json::json!({
            "mode": "form",
            "message": message,
            "requestedSchema": {
                "type": "object",
                "properties": {
                    "approve": {
                        "type": "boolean",
                        "title": "Allow this call",
                        "description": "Holds for this one call with these arguments.",
                        "default": false,
                    },
                },
                "required": ["approve"],
            },
        })
        .to_string()
    }

    /// Whether an answer to that is a yes: accepted, and the box ticked.
    pub(crate) fn is_yes(answer: &str) -> bool {
        let member = |path: &[&str]| mainstay_wire::raw::member(answer, path);
        let action = member(&["action"]).and_then(mainstay_wire::raw::string);
        action.as_deref() == Some("accept") && member(&["content", "approve"]) == Some("true")
    }
}

/// A call that waits for the operator, as it is shown.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PendingApproval {
    /// By which it is allowed or denied.
    pub id: String,
    /// Whose call it is; absent: this machine's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// What people call that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The server.
    pub server: String,
    /// The server's own name of the tool.
    pub tool: String,
    /// The name that clients see.
    pub exposed: String,
    /// The endpoint that was called.
    pub endpoint: String,
    /// The rule that wants it approved.
    pub rule: String,
    /// The arguments, cut where they are long.
    pub arguments: String,
    /// SHA-256 of all of them in their canonical form.
    pub arguments_sha256: String,
    /// Since when it waits, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// Until when at most.
    pub until_unix_ms: u64,
}

/// All calls that wait. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Approvals(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    waiting: BTreeMap<u64, Pending>,
    rounds: HashMap<String, Instant>,
}

#[derive(Debug)]
struct Pending {
    principal: Option<Principal>,
    shown: PendingApproval,
    answer: oneshot::Sender<bool>,
}

impl Approvals {
    /// Lets a call wait. `None`: too many do already.
    pub(crate) fn wait(&self, wanted: &Wanted) -> Option<Waiting> {
        let (answer, answered) = oneshot::channel();
        let mut table = self.lock();
        let of_one = |pending: &&Pending| pending.principal == wanted.principal;
        if table.waiting.len() >= WAITING_MAX
            || table.waiting.values().filter(of_one).count() >= OF_ONE_MAX
        {
            return None;
        }
        table.next += 1;
        let number = table.next;
        let since_unix_ms = unix_ms();
        let shown = PendingApproval {
            id: id(number),
            principal: wanted.principal.as_ref().map(ToString::to_string),
            label: wanted.label.as_deref().map(str::to_owned),
            server: wanted.server.clone(),
            tool: wanted.tool.clone(),
            exposed: wanted.exposed.clone(),
            endpoint: wanted.endpoint.clone(),
            rule: wanted.rule.clone(),
            arguments: cut(&wanted.arguments, SHOWN_CHARS_MAX),
            arguments_sha256: wanted.arguments_sha256.clone(),
            since_unix_ms,
            until_unix_ms: since_unix_ms.saturating_add(wanted.approval.wait_ms),
        };
        let pending = Pending {
            principal: wanted.principal.clone(),
            shown,
            answer,
        };
        table.waiting.insert(number, pending);
        Some(Waiting {
            approvals: self.clone(),
            number,
            answered,
        })
    }

    /// What waits, the oldest first.
    pub(crate) fn list(&self) -> Vec<PendingApproval> {
        let table = self.lock();
        table
            .waiting
            .values()
            .map(|pending| pending.shown.clone())
            .collect()
    }

    /// Allows or denies a call. `None`: no call of that id waits (any more).
    pub(crate) fn decide(&self, wanted: &str, allow: bool) -> Option<PendingApproval> {
        let mut table = self.lock();
        let number = table
            .waiting
            .keys()
            .copied()
            .find(|number| id(*number) == wanted)?;
        let pending = table.waiting.remove(&number)?;
        // Its call may just have gone away: then nothing was decided.
        pending.answer.send(allow).ok()?;
        Some(pending.shown)
    }

    /// The round of an approved call that a server has not finished: with `key` it comes back, once.
    pub(crate) fn remember(&self, key: String) {
        let mut table = self.lock();
        let now = Instant::now();
        table.rounds.retain(|_, until| *until > now);
        if table.rounds.len() < ROUNDS_MAX {
            table.rounds.insert(key, now + ROUNDS_KEPT);
        }
    }

    /// Whether a call is the next round of one that was approved.
    pub(crate) fn is_next_round(&self, key: &str) -> bool {
        let until = self.lock().rounds.remove(key);
        until.is_some_and(|until| until > Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Short enough to be typed. Numbers are never used twice by one process, and a word about a call of another process finds none.
fn id(number: u64) -> String {
    use std::sync::LazyLock;
    static OF_PROCESS: LazyLock<u16> = LazyLock::new(|| {
        let mut bytes = [0; 2];
        // Without random numbers ids repeat after a restart, when nothing waits.
        let _ = getrandom::fill(&mut bytes);
        u16::from_ne_bytes(bytes)
    });
    format!("{:04x}-{number}", *OF_PROCESS)
}

/// A call that waits. Dropping it withdraws the question.
#[derive(Debug)]
pub(crate) struct Waiting {
    approvals: Approvals,
    number: u64,
    answered: oneshot::Receiver<bool>,
}

impl Waiting {
    /// The word; `None`: none came in time. Cancel-safe.
    pub(crate) async fn word(&mut self, wait: Duration) -> Option<bool> {
        // Its sender is in the table for as long as this is.
        tokio::time::timeout(wait, &mut self.answered)
            .await
            .ok()?
            .ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.approvals.lock().waiting.remove(&self.number);
    }
}

fn cut(text: &str, chars_max: usize) -> String {
    let mut cut: String = text.chars().take(chars_max).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(principal: &str) -> Wanted {
        Wanted {
            approval: Approval::default(),
            rule: "r".into(),
            principal: Principal::new(principal),
            label: None,
            server: "s".into(),
            tool: "t".into(),
            exposed: "s__t".into(),
            endpoint: "/mcp".into(),
            arguments: "{}".into(),
            arguments_sha256: "0".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_finds_its_call_and_no_other() {
        let approvals = Approvals::default();
        let mut first = approvals.wait(&wanted("ann")).unwrap();
        let mut second = approvals.wait(&wanted("ann")).unwrap();
        let ids: Vec<_> = approvals.list().into_iter().map(|shown| shown.id).collect();
        assert!(approvals.decide("0", true).is_none());
        assert!(approvals.decide(&ids[1], true).is_some());
        assert!(approvals.decide(&ids[1], false).is_none(), "said once");
        assert_eq!(second.word(Duration::ZERO).await, Some(true));
        assert_eq!(
            first.word(Duration::from_secs(5)).await,
            None,
            "the deadline"
        );
        drop(first);
        assert!(approvals.list().is_empty(), "gone with its call");
        assert!(approvals.decide(&ids[0], true).is_none());
    }

    #[test]
    fn one_principal_cannot_take_all_places() {
        let approvals = Approvals::default();
        let wait = |name: &str| approvals.wait(&wanted(name));
        let ann: Vec<_> = std::iter::from_fn(|| wait("ann"))
            .take(2 * OF_ONE_MAX)
            .collect();
        assert_eq!(ann.len(), OF_ONE_MAX);
        assert!(wait("bob").is_some());
        let names: Vec<String> = (0..WAITING_MAX).map(|number| number.to_string()).collect();
        let all: Vec<_> = names.iter().filter_map(|name| wait(name)).collect();
        assert_eq!(ann.len() + all.len(), WAITING_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_is_good_for_once_and_not_for_long() {
        let approvals = Approvals::default();
        approvals.remember("k".into());
        assert!(!approvals.is_next_round("other"));
        assert!(approvals.is_next_round("k") && !approvals.is_next_round("k"));
        approvals.remember("k".into());
        tokio::time::advance(ROUNDS_KEPT).await;
        assert!(!approvals.is_next_round("k"));
    }

    #[test]
    fn only_a_ticked_box_is_a_yes() {
        for (answer, yes) in [
            (r#"{"action":"accept","content":{"approve":true}}"#, true),
            (r#"{"action":"accept","content":{"approve":false}}"#, false),
            (r#"{"action":"accept","content":{"approve":"true"}}"#, false),
            (r#"{"action":"accept","content":{}}"#, false),
            (r#"{"action":"accept"}"#, false),
            (r#"{"action":"decline","content":{"approve":true}}"#, false),
            ("{}", false),
        ] {
            assert_eq!(Wanted::is_yes(answer), yes, "{answer}");
        }
    }
}
