//! Who waits for which answer on one generation, and how far each request got.
//!
//! Answers are matched by id only, never by order (F57). The lock is never held across an await.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay_wire::envelope::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Cut, Miss};
use crate::asks::Said;

const QUEUED: u8 = 0;
const WRITING: u8 = 1;
const ABANDONED: u8 = 2;

/// How far one request got: the difference between "refused" and "outcome unknown" (law 16, F179).
#[derive(Debug, Default)]
pub struct CallMark {
    state: AtomicU8,
    life: Mutex<Option<Instant>>,
    asks: AtomicUsize,
}

impl CallMark {
    /// The transport is about to write the first byte. `false`: the caller has left and nothing may be written.
    pub fn begin_write(&self) -> bool {
        match self
            .state
            .compare_exchange(QUEUED, WRITING, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => true,
            Err(state) => state == WRITING,
        }
    }

    /// The transport found out that nothing was written after all (connect failed).
    pub fn unwrite(&self) {
        let _ = self
            .state
            .compare_exchange(WRITING, QUEUED, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Progress arrived: the idle limit starts anew.
    pub fn note_life(&self) {
        *self.life() = Some(Instant::now());
    }

    /// The server asks the client something and waits for the answer.
    pub(crate) fn ask_opened(&self) {
        self.asks.fetch_add(1, Ordering::AcqRel);
    }

    /// The server has its answer: from now on it is the server that takes its time.
    pub(crate) fn ask_closed(&self) {
        self.asks.fetch_sub(1, Ordering::AcqRel);
        self.note_life();
    }

    /// Whether the server waits for the client: then its own silence means nothing (F185).
    pub(crate) fn is_asking(&self) -> bool {
        self.asks.load(Ordering::Acquire) > 0
    }

    /// When progress last arrived, once.
    pub(crate) fn take_life(&self) -> Option<Instant> {
        self.life().take()
    }

    /// The miss of an exchange that is cut short now. Unsent requests can no longer be sent afterwards.
    pub(crate) fn cut(&self, cut: Cut) -> Miss {
        if self.abandon_was_sent() {
            Miss::Lost(cut)
        } else {
            Miss::NotSent(cut)
        }
    }

    /// Forbids sending from now on; `true` if the request had already begun to leave.
    pub(crate) fn abandon_was_sent(&self) -> bool {
        match self
            .state
            .compare_exchange(QUEUED, ABANDONED, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => false,
            Err(state) => state == WRITING,
        }
    }

    fn life(&self) -> MutexGuard<'_, Option<Instant>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is behind a request in flight, as far as the server may speak to them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Party {
    /// Where goes what the server says meanwhile.
    pub(crate) hear: Option<mpsc::Sender<Said>>,
    /// Who answers; without, nobody but this call.
    pub(crate) client: Option<Arc<str>>,
    /// The task that the request is about.
    pub(crate) task: Option<Box<str>>,
    /// A client's request, which may make the server ask something; our own listings and greetings do not.
    pub(crate) may_be_asked: bool,
}

/// One request in flight.
#[derive(Debug)]
pub(crate) struct Waiter {
    ending: oneshot::Sender<Result<Message, Cut>>,
    /// The answer comes another way: only what cuts the request short comes through here.
    answered_elsewhere: bool,
    party: Party,
    mark: Arc<CallMark>,
}

/// A request in flight that a message without an address may be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: u64,
    pub(crate) client: Option<Arc<str>>,
}

/// All requests in flight on one generation, by our id.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<HashMap<u64, Waiter>>);

impl Waiters {
    /// Waits for the answer to `id` from a shared stream.
    pub(crate) fn register(
        &self,
        id: u64,
        party: Party,
        mark: Arc<CallMark>,
    ) -> oneshot::Receiver<Result<Message, Cut>> {
        self.insert(id, false, party, mark)
    }

    /// Waits for progress of `id` and for what cuts it short; the answer comes another way.
    pub(crate) fn watch(
        &self,
        id: u64,
        party: Party,
        mark: Arc<CallMark>,
    ) -> oneshot::Receiver<Result<Message, Cut>> {
        self.insert(id, true, party, mark)
    }

    fn insert(
        &self,
        id: u64,
        answered_elsewhere: bool,
        party: Party,
        mark: Arc<CallMark>,
    ) -> oneshot::Receiver<Result<Message, Cut>> {
        let (ending, receiver) = oneshot::channel();
        let waiter = Waiter {
            ending,
            answered_elsewhere,
            party,
            mark,
        };
        self.lock().insert(id, waiter);
        receiver
    }

    /// Hands over an answer from a shared stream; `false` if nobody waits for it there.
    pub(crate) fn answer(&self, id: u64, answer: Message) -> bool {
        let mut waiters = self.lock();
        if waiters
            .get(&id)
            .is_none_or(|waiter| waiter.answered_elsewhere)
        {
            return false;
        }
        let waiter = waiters.remove(&id);
        drop(waiters);
        waiter.is_some_and(|waiter| waiter.ending.send(Ok(answer)).is_ok())
    }

    /// Cuts a request short: its answer broke a limit, or the server gave it up. `false` if nobody waits.
    pub(crate) fn cut(&self, id: u64, cut: Cut) -> bool {
        let waiter = self.lock().remove(&id);
        waiter.is_some_and(|waiter| waiter.ending.send(Err(cut)).is_ok())
    }

    /// Hands over progress; `false` if nobody waits. A receiver that is full loses this one step, not the call.
    pub(crate) fn progress(&self, id: u64, message: Message) -> bool {
        let waiters = self.lock();
        let Some(waiter) = waiters.get(&id) else {
            return false;
        };
        waiter.mark.note_life();
        if let Some(hear) = &waiter.party.hear {
            // Full or closed: progress is advisory, and the reader never waits for a consumer.
            let _ = hear.try_send(Said::Progress(message));
        }
        true
    }

    /// Hands over a notification that belongs to a request; `false` if nobody listens there.
    pub(crate) fn notice(&self, id: u64, message: Message) -> bool {
        let waiters = self.lock();
        let hear = waiters
            .get(&id)
            .and_then(|waiter| waiter.party.hear.as_ref());
        // As with progress: the reader never waits for a consumer.
        hear.is_some_and(|hear| hear.try_send(Said::Notice(message)).is_ok())
    }

    /// Everything in flight that the server may be asking about, by age.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let waiters = self.lock();
        let mut candidates: Vec<Candidate> = waiters
            .iter()
            .filter(|(_, waiter)| waiter.party.may_be_asked)
            .map(|(id, waiter)| Candidate {
                id: *id,
                client: waiter.party.client.clone(),
            })
            .collect();
        candidates.sort_unstable_by_key(|candidate| candidate.id);
        candidates
    }

    /// Whether every request of a client that is in flight waits for that client; `false` if there is none.
    pub(crate) fn wait_for_clients(&self) -> bool {
        let waiters = self.lock();
        let mut asked = waiters
            .values()
            .filter(|waiter| waiter.party.may_be_asked)
            .peekable();
        asked.peek().is_some() && asked.all(|waiter| waiter.mark.is_asking())
    }

    /// The request in flight that is about a task.
    pub(crate) fn about_task(&self, task: &str) -> Option<u64> {
        let waiters = self.lock();
        let about = |waiter: &Waiter| waiter.party.task.as_deref() == Some(task);
        waiters
            .iter()
            .filter(|(_, waiter)| about(waiter))
            .map(|(id, _)| *id)
            .min()
    }

    /// Whether a request is still in flight.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.lock().contains_key(&id)
    }

    /// Who listens to a request, and how it stands; `None` if it is not in flight.
    pub(crate) fn party(&self, id: u64) -> Option<(Option<mpsc::Sender<Said>>, Arc<CallMark>)> {
        let waiters = self.lock();
        let waiter = waiters.get(&id)?;
        Some((waiter.party.hear.clone(), Arc::clone(&waiter.mark)))
    }

    /// Forgets a request whose caller has left (F231).
    pub(crate) fn forget(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// Tells everybody who waits on the shared stream that an answer was refused, and that it may have been theirs.
    pub(crate) fn refuse_all(&self, why: &str) {
        let waiters = std::mem::take(&mut *self.lock());
        for waiter in waiters.into_values() {
            let words = format!("{why}; it may have been the answer to this call");
            // A caller that has left needs no words.
            let _ = waiter.ending.send(Err(Cut::AnswerRefused(words.into())));
        }
    }

    /// Drops every waiter: each learns that its connection ended.
    pub(crate) fn clear(&self) {
        let waiters = std::mem::take(&mut *self.lock());
        drop(waiters);
    }

    /// How many requests are in flight.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waiter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_wire::id::Id;

    #[test]
    fn law_16_a_request_abandoned_in_the_queue_is_never_written() {
        let mark = CallMark::default();
        assert!(matches!(mark.cut(Cut::Total), Miss::NotSent(_)));
        assert!(!mark.begin_write(), "the writer must skip it");
        let mark = CallMark::default();
        assert!(mark.begin_write());
        assert!(matches!(mark.cut(Cut::Total), Miss::Lost(_)));
    }

    #[test]
    fn f57_answers_are_matched_by_id_and_late_ones_find_nobody() {
        let waiters = Waiters::default();
        let mut first = waiters.register(1, Party::default(), Arc::default());
        let mut second = waiters.register(2, Party::default(), Arc::default());
        assert!(waiters.answer(2, Message::result_of(&Id::number(2), "{}")));
        assert!(first.try_recv().is_err());
        assert!(second.try_recv().is_ok());
        assert!(
            !waiters.answer(2, Message::result_of(&Id::number(2), "{}")),
            "a duplicate finds nobody"
        );
        waiters.forget(1);
        assert_eq!(waiters.len(), 0, "F231: nothing is left behind");
    }
}
