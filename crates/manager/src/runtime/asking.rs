//! Requests of a server to a client, and whose they are.
//!
//! Attribution is exact or it does not happen. What comes on the response stream of a POST belongs to that request. On a
//! shared stream the requests in flight at that moment are the candidates: something that is about a task belongs to the
//! request about that task; a request that ends is no candidate any more; when one is left, or only requests of one client,
//! it is theirs. What stays undecided is refused, never guessed. Nothing here waits: the reader of a connection calls it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_wire::envelope::Message;
use mainstay_wire::id::Id;
use mainstay_wire::views::CancelledView;
use mainstay_wire::{codes, meta, method};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::gates::Leave;
use super::waiters::{Candidate, Party};
use super::{Cut, Origin, Runtime};
use crate::asks::{Ask, Said};
use crate::limits::Limit;
use crate::request::{CallOptions, Request};

/// How long a request that could be of several calls waits for all but one of them to end.
const UNDECIDED: Duration = Duration::from_secs(5);

/// Requests of one server that wait for an answer or for their attribution at the same time.
const OPEN_MAX: usize = 1_024;

/// What one server asks.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// From arrival to answer, by the server's own id.
    open: Mutex<HashMap<Id, (CancellationToken, Leave)>>,
    /// Those of which it is not clear yet whose they are.
    undecided: Mutex<Vec<Undecided>>,
    /// How many those are, for the path of every call.
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct Undecided {
    message: Message,
    candidates: Vec<Candidate>,
    withdrawn: CancellationToken,
}

/// What is known about the owner of a request.
enum Owner {
    /// The calls of one client, the oldest first.
    Is(Vec<u64>),
    /// Several could be meant.
    Several,
    Nobody,
}

/// Who is behind a request of a client.
pub(super) fn party(request: &Request, options: &CallOptions) -> Party {
    let task = request
        .method()
        .starts_with("tasks/")
        .then(|| request.message.string_member(&["params", "taskId"]))
        .flatten();
    Party {
        hear: options.hear.clone(),
        client: options
            .client
            .as_ref()
            .and_then(|client| client.client.clone()),
        task: task.map(|task| task.into()),
        may_be_asked: true,
    }
}

impl Runtime {
    /// A request of the server.
    pub(super) fn receive_request(&self, message: Message, from: Origin) {
        let Some(id) = message.id() else { return };
        if !self.requests.admits(self.reports.now().0) {
            let words = format!(
                "too many requests per second (setting `{}`)",
                Limit::Requests.setting()
            );
            self.counters
                .exceeded(Limit::Requests, self.generation.0, &words);
            let reply = Message::error_of(Some(id), codes::INVALID_REQUEST, &words, None);
            return self.say(reply);
        }
        if message.method() == Some(method::PING) {
            return self.say(Message::result_of(id, "{}"));
        }
        if message.method() == Some(method::ROOTS_LIST)
            && self.told.roots_version().is_some()
            && let Some(roots) = self.wishes.roots()
        {
            return self.say(Message::result_of(id, &roots));
        }
        let asked = message.method().unwrap_or_default();
        let leave = match self.gates.admit(asked, self.reports.now().0) {
            Ok(leave) => leave,
            Err(words) => {
                self.counters
                    .exceeded(Limit::Asks, self.generation.0, &words);
                let reply = Message::error_of(Some(id), codes::INVALID_REQUEST, &words, None);
                return self.say(reply);
            }
        };
        let Some(withdrawn) = self.begin_ask(id, leave) else {
            return self.refuse(
                &message,
                "too many requests are open, or one with this id is",
            );
        };
        let candidates = self.candidates_of(&message, from);
        if !matches!(from, Origin::Exchange(_)) && !candidates.is_empty() {
            self.asked.store(true, Ordering::Relaxed);
        }
        match owner(&candidates) {
            Owner::Is(calls) => self.hand_over(message, &calls, withdrawn),
            Owner::Several => self.leave_undecided(message, candidates, withdrawn),
            Owner::Nobody => {
                self.ask_ended(id);
                self.refuse(&message, "Mainstay declared no such capability");
            }
        }
    }

    /// A notification that has no meaning for the connection itself: it goes to the call that it belongs to, if that is
    /// beyond doubt. `false`: it does not.
    pub(super) fn receive_notice(&self, message: &Message, from: Origin) -> bool {
        match owner(&self.candidates_of(message, from)) {
            Owner::Is(calls) => calls
                .first()
                .is_some_and(|call| self.waiters.notice(*call, message.clone())),
            Owner::Several | Owner::Nobody => false,
        }
    }

    /// A candidate for undecided requests has ended: perhaps that decides.
    pub(super) fn one_candidate_less(&self) {
        if self.asking.waiting.load(Ordering::Acquire) == 0 {
            return;
        }
        let waiting = std::mem::take(&mut *lock(&self.asking.undecided));
        let mut still = Vec::new();
        for mut ask in waiting {
            ask.candidates
                .retain(|candidate| self.waiters.has(candidate.id));
            match owner(&ask.candidates) {
                Owner::Is(calls) => self.hand_over(ask.message, &calls, ask.withdrawn),
                Owner::Several => still.push(ask),
                Owner::Nobody => self.end_undecided(&ask.message, "nobody waits for it any more"),
            }
        }
        let mut undecided = lock(&self.asking.undecided);
        undecided.extend(still);
        self.asking
            .waiting
            .store(undecided.len(), Ordering::Release);
    }

    /// Whether all that is in flight here waits for clients.
    pub(crate) fn waits_for_clients(&self) -> bool {
        self.waiters.wait_for_clients()
    }

    /// A request of the server has its answer, or nobody wants one.
    pub(crate) fn ask_ended(&self, id: &Id) {
        lock(&self.asking.open).remove(id);
    }

    /// Says something unasked. Never waits: the reader must not wait for the writer (F44).
    pub(crate) fn say(&self, message: Message) {
        match self.outbound.try_send(message) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                let words = "the server does not read what we say";
                self.counters
                    .exceeded(Limit::Notices, self.generation.0, words);
            }
            // The connection has ended: what it was to hear no longer matters, and no limit was exceeded.
            Err(mpsc::error::TrySendError::Closed(_)) => self.counters.notice_lost(),
        }
    }

    /// The server takes back a request of its own, or has given up one of ours: whoever waits learns that now (F189).
    pub(super) fn cancelled_by_server(&self, message: &Message) {
        const REASON_CHARS_MAX: usize = 200;
        let Some(notice) = CancelledView::of(message).ok() else {
            return self.counters.unrouted_notification();
        };
        let withdrawn = lock(&self.asking.open)
            .get(&notice.request_id)
            .map(|(token, _)| token.clone());
        if let Some(withdrawn) = withdrawn {
            return withdrawn.cancel();
        }
        let reason: String = notice
            .reason
            .unwrap_or_default()
            .chars()
            .filter(|character| !character.is_control())
            .take(REASON_CHARS_MAX)
            .collect();
        let known = notice
            .request_id
            .as_u64()
            .is_some_and(|id| self.waiters.cut(id, Cut::Cancelled(reason.into())));
        if !known {
            self.counters.late_answer();
        }
    }

    fn begin_ask(&self, id: &Id, leave: Leave) -> Option<CancellationToken> {
        let mut open = lock(&self.asking.open);
        if open.len() >= OPEN_MAX || open.contains_key(id) {
            return None;
        }
        let withdrawn = self.ended.child_token();
        open.insert(id.clone(), (withdrawn.clone(), leave));
        Some(withdrawn)
    }

    /// Whose a message can be.
    fn candidates_of(&self, message: &Message, from: Origin) -> Vec<Candidate> {
        let alone = |id: Option<u64>| {
            id.map(|id| Candidate { id, client: None })
                .into_iter()
                .collect()
        };
        match from {
            Origin::Exchange(id) => alone(id),
            Origin::Stdio | Origin::Push => {
                let path = ["params", "_meta", meta::RELATED_TASK, "taskId"];
                match message.string_member(&path) {
                    Some(task) => alone(self.waiters.about_task(&task)),
                    None => self.waiters.candidates(),
                }
            }
        }
    }

    /// Hands a request to the calls that it belongs to: the first that listens gets it, and all of them stand still
    /// meanwhile, because any of them may be the one that waits.
    fn hand_over(&self, message: Message, calls: &[u64], withdrawn: CancellationToken) {
        let parties: Vec<_> = calls
            .iter()
            .filter_map(|call| self.waiters.party(*call))
            .collect();
        let hear = parties.iter().find_map(|(hear, _)| hear.clone());
        let (Some(hear), Some(runtime)) = (hear, self.me.upgrade()) else {
            return self.end_undecided(&message, "Mainstay declared no such capability");
        };
        let marks = parties.into_iter().map(|(_, mark)| mark).collect();
        let ask = Ask::new(message, runtime, withdrawn, marks);
        // Full or closed: the ask comes back in the error, and dropping it answers the server.
        if hear.try_send(Said::Ask(ask)).is_err() {
            self.counters.unrouted_notification();
        }
    }

    fn leave_undecided(
        &self,
        message: Message,
        candidates: Vec<Candidate>,
        withdrawn: CancellationToken,
    ) {
        let Some(runtime) = self.me.upgrade() else {
            return self.end_undecided(&message, "Mainstay declared no such capability");
        };
        let id = message.id().cloned();
        let mut undecided = lock(&self.asking.undecided);
        undecided.push(Undecided {
            message,
            candidates,
            withdrawn: withdrawn.clone(),
        });
        self.asking
            .waiting
            .store(undecided.len(), Ordering::Release);
        drop(undecided);
        // One of them may have ended between the look and now.
        self.one_candidate_less();
        // Ends with the connection at the latest.
        tokio::spawn(async move {
            tokio::select! {
                // Cancel-safe: a token holds nothing.
                () = withdrawn.cancelled() => {}
                // Cancel-safe: a sleep holds nothing.
                () = tokio::time::sleep(UNDECIDED) => {}
            }
            runtime.give_up_undecided(id.as_ref());
        });
    }

    fn give_up_undecided(&self, id: Option<&Id>) {
        let mut undecided = lock(&self.asking.undecided);
        let given_up: Vec<Undecided> = {
            let (gone, still) = std::mem::take(&mut *undecided)
                .into_iter()
                .partition(|ask| ask.message.id() == id);
            *undecided = still;
            gone
        };
        self.asking
            .waiting
            .store(undecided.len(), Ordering::Release);
        drop(undecided);
        for ask in given_up {
            let words =
                "several calls are in flight, and it is not clear which of them this is about";
            tracing::warn!(server = %self.server, method = ask.message.method().unwrap_or_default(), words, "a request of a server was refused");
            self.end_undecided(&ask.message, words);
        }
    }

    /// Refuses a request that was open.
    fn end_undecided(&self, message: &Message, words: &str) {
        if let Some(id) = message.id() {
            self.ask_ended(id);
        }
        self.refuse(message, words);
    }

    fn refuse(&self, message: &Message, words: &str) {
        let reply = Message::error_of(message.id(), codes::METHOD_NOT_FOUND, words, None);
        self.say(reply);
    }
}

/// Whose a request is, when only these can have caused it.
fn owner(candidates: &[Candidate]) -> Owner {
    let Some(first) = candidates.first() else {
        return Owner::Nobody;
    };
    let same_client = first.client.is_some()
        && candidates
            .iter()
            .all(|candidate| candidate.client == first.client);
    if candidates.len() == 1 || same_client {
        Owner::Is(candidates.iter().map(|candidate| candidate.id).collect())
    } else {
        Owner::Several
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn candidate(id: u64, client: Option<&str>) -> Candidate {
        Candidate {
            id,
            client: client.map(Arc::from),
        }
    }

    #[test]
    fn a_request_belongs_to_one_call_or_to_one_client_and_is_never_guessed() {
        let whose = |candidates: &[Candidate]| match owner(candidates) {
            Owner::Is(calls) => calls,
            Owner::Several => vec![u64::MAX],
            Owner::Nobody => Vec::new(),
        };
        assert_eq!(whose(&[]), Vec::<u64>::new());
        assert_eq!(whose(&[candidate(3, None)]), [3]);
        let of_one = [candidate(3, Some("a")), candidate(4, Some("a"))];
        assert_eq!(whose(&of_one), [3, 4]);
        let of_two = [candidate(3, Some("a")), candidate(4, Some("b"))];
        assert_eq!(whose(&of_two), [u64::MAX]);
        let unnamed = [candidate(3, None), candidate(4, None)];
        assert_eq!(whose(&unnamed), [u64::MAX], "two of nobody are two");
    }
}
