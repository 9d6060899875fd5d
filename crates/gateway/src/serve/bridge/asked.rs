//! What a legacy client was asked and has not answered yet.
//!
//! The client answers with a POST of its own, which finds the one who waits by an id of ours. Ids begin at a random number
//! in every session and only grow, so that a late answer to an earlier Mainstay never passes for one to this.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay_wire::{Id, Message};
use tokio::sync::{oneshot, watch};

/// Requests to one client that wait for its answer at the same time.
const OPEN_MAX: usize = 1_024;

/// Ids stay below 2^53, which every client can hold as a number.
const FIRST_ID_BITS: u32 = 52;

/// The requests to one client.
#[derive(Debug, Clone)]
pub(crate) struct Asked(Arc<Table>);

#[derive(Debug)]
struct Table {
    open: Mutex<HashMap<u64, oneshot::Sender<Message>>>,
    next: AtomicU64,
    /// Calls of the client in flight, by server: what one of them was asked may concern another ([`Asked::quiet`]).
    calls: watch::Sender<HashMap<Box<str>, usize>>,
}

impl Default for Asked {
    fn default() -> Self {
        let mut random = [0; 8];
        // Without random numbers there is no session id either; then where the ids begin does not matter.
        let first = getrandom::fill(&mut random).map_or(1, |()| u64::from_ne_bytes(random));
        Self(Arc::new(Table {
            open: Mutex::default(),
            next: AtomicU64::new(first >> (u64::BITS - FIRST_ID_BITS)),
            calls: watch::Sender::default(),
        }))
    }
}

impl Asked {
    /// Prepares a request to the client. `None`: too many wait for an answer already.
    pub(crate) fn open(&self) -> Option<Asking> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let mut open = self.lock();
        if open.len() >= OPEN_MAX {
            return None;
        }
        open.insert(id, sender);
        drop(open);
        Some(Asking {
            table: self.clone(),
            id,
            answer,
        })
    }

    /// Hands an answer of the client to whoever waits for it; `false` if nobody does.
    pub(crate) fn answer(&self, message: Message) -> bool {
        let waiting = message
            .id()
            .and_then(Id::as_u64)
            .and_then(|id| self.lock().remove(&id));
        waiting.is_some_and(|waiting| waiting.send(message).is_ok())
    }

    /// How many requests wait for an answer.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Whether a request waits for its answer.
    pub(crate) fn is_open(&self, id: &Id) -> bool {
        id.as_u64().is_some_and(|id| self.lock().contains_key(&id))
    }

    /// A call of the client to a server begins; it ends when this is dropped.
    pub(crate) fn begin_call(&self, server: &str) -> CallOpen {
        let server: Box<str> = server.into();
        self.0
            .calls
            .send_modify(|calls| *calls.entry(server.clone()).or_default() += 1);
        CallOpen {
            table: self.clone(),
            server,
        }
    }

    /// Whether the client has any call to a server in flight.
    pub(crate) fn has_calls(&self, server: &str) -> bool {
        self.0.calls.borrow().contains_key(server)
    }

    /// Resolves when the client has no call to a server in flight. Level-triggered, cancel-safe.
    pub(crate) async fn quiet(&self, server: &str) {
        let mut calls = self.0.calls.subscribe();
        // The sender is held by `self`.
        let _ = calls.wait_for(|calls| !calls.contains_key(server)).await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Message>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request to the client; forgotten when dropped.
#[derive(Debug)]
pub(crate) struct Asking {
    table: Asked,
    id: u64,
    answer: oneshot::Receiver<Message>,
}

impl Asking {
    /// The id under which the client is asked.
    pub(crate) fn id(&self) -> Id {
        Id::number(self.id)
    }

    /// The client's response. Cancel-safe. Never resolves if none comes.
    pub(crate) async fn answer(&mut self) -> Message {
        match (&mut self.answer).await {
            Ok(message) => message,
            // The table holds the sender for as long as this exists.
            Err(_gone) => std::future::pending().await,
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.table.lock().remove(&self.id);
    }
}

/// A call of the client in flight.
#[derive(Debug)]
pub(crate) struct CallOpen {
    table: Asked,
    server: Box<str>,
}

impl Drop for CallOpen {
    fn drop(&mut self) {
        self.table.0.calls.send_modify(|calls| {
            if let Some(count) = calls.get_mut(&self.server) {
                *count -= 1;
                if *count == 0 {
                    calls.remove(&self.server);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn f114_an_answer_finds_only_the_request_it_belongs_to() {
        let asked = Asked::default();
        let mut first = asked.open().unwrap();
        let second = asked.open().unwrap();
        assert_ne!(first.id(), second.id());
        let answer = Message::result_of(&first.id(), "{\"n\":1}");
        assert!(asked.answer(answer.clone()));
        assert!(!asked.answer(answer.clone()), "answered once");
        assert_eq!(first.answer().await, answer);
        drop((first, second));
        assert_eq!(asked.count(), 0, "F231: nothing is left behind");
        assert!(!Asked::default().answer(answer), "another session's id");
    }

    #[tokio::test]
    async fn questions_are_bounded() {
        let asked = Asked::default();
        let open: Vec<_> = std::iter::from_fn(|| asked.open()).take(2_000).collect();
        assert_eq!(open.len(), OPEN_MAX);
    }

    #[tokio::test]
    async fn a_client_is_quiet_when_its_last_call_to_a_server_has_ended() {
        let asked = Asked::default();
        asked.quiet("s").await;
        let calls = (asked.begin_call("s"), asked.begin_call("s"));
        let _other = asked.begin_call("other");
        drop(calls.0);
        assert!(asked.has_calls("s"));
        drop(calls.1);
        asked.quiet("s").await;
        assert!(!asked.has_calls("s"));
    }
}
