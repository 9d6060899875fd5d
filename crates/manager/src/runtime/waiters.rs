//! Who waits for which answer on one generation, and how far each request got.
//!
//! Answers are matched by id only, never by order (F57). The lock is never held across an await.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay_wire::envelope::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Cut, Miss};

const QUEUED: u8 = 0;
const WRITING: u8 = 1;
const ABANDONED: u8 = 2;

/// How far one request got: the difference between "refused" and "outcome unknown" (law 16, F179).
#[derive(Debug, Default)]
pub struct CallMark {
    state: AtomicU8,
    life: Mutex<Option<Instant>>,
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

/// One request in flight.
#[derive(Debug)]
pub(crate) struct Waiter {
    answer: Option<oneshot::Sender<Result<Message, String>>>,
    progress: Option<mpsc::Sender<Message>>,
    mark: Arc<CallMark>,
}

/// All requests in flight on one generation, by our id.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<HashMap<u64, Waiter>>);

impl Waiters {
    /// Waits for the answer to `id` from a shared stream.
    pub(crate) fn register(
        &self,
        id: u64,
        progress: Option<mpsc::Sender<Message>>,
        mark: Arc<CallMark>,
    ) -> oneshot::Receiver<Result<Message, String>> {
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(
            id,
            Waiter {
                answer: Some(sender),
                progress,
                mark,
            },
        );
        receiver
    }

    /// Waits only for progress of `id`; the answer comes another way.
    pub(crate) fn watch(&self, id: u64, progress: mpsc::Sender<Message>, mark: Arc<CallMark>) {
        self.lock().insert(
            id,
            Waiter {
                answer: None,
                progress: Some(progress),
                mark,
            },
        );
    }

    /// Hands over an answer (or the words why it was refused); `false` if nobody waits.
    pub(crate) fn answer(&self, id: u64, answer: Result<Message, String>) -> bool {
        let waiter = self.lock().remove(&id);
        waiter
            .and_then(|waiter| waiter.answer)
            .is_some_and(|sender| sender.send(answer).is_ok())
    }

    /// Hands over progress; `false` if nobody waits. A receiver that is full loses this one step, not the call.
    pub(crate) fn progress(&self, id: u64, message: Message) -> bool {
        let waiters = self.lock();
        let Some(waiter) = waiters.get(&id) else {
            return false;
        };
        waiter.mark.note_life();
        if let Some(progress) = &waiter.progress {
            // Full or closed: progress is advisory, and the reader never waits for a consumer.
            let _ = progress.try_send(message);
        }
        true
    }

    /// Forgets a request whose caller has left (F231).
    pub(crate) fn forget(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// Tells everybody who waits on the shared stream that an answer was refused, and that it may have been theirs.
    pub(crate) fn refuse_all(&self, why: &str) {
        let waiters = std::mem::take(&mut *self.lock());
        for sender in waiters.into_values().filter_map(|waiter| waiter.answer) {
            // A caller that has left needs no words.
            let _ = sender.send(Err(format!(
                "{why}; it may have been the answer to this call"
            )));
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
        let mut first = waiters.register(1, None, Arc::default());
        let mut second = waiters.register(2, None, Arc::default());
        assert!(waiters.answer(2, Ok(Message::result_of(&Id::number(2), "{}"))));
        assert!(first.try_recv().is_err());
        assert!(second.try_recv().is_ok());
        assert!(
            !waiters.answer(2, Ok(Message::result_of(&Id::number(2), "{}"))),
            "a duplicate finds nobody"
        );
        waiters.forget(1);
        assert_eq!(waiters.len(), 0, "F231: nothing is left behind");
    }
}
