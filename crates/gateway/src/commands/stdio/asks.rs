//! Requests of servers that wait for the client's answer.
//!
//! Mainstay numbers them, and each of its processes numbers anew. So that an answer never reaches a request of another
//! process, those of the second and every later process get an id that names it.

use std::sync::{Mutex, PoisonError};

use mainstay_wire::{Id, Message, json_string, raw};

/// Most requests that are remembered as unanswered. More are passed on, too; they are only not withdrawn at a restart.
const WAITING_MAX: usize = 1_024;

/// The unanswered ones: the process that asked, and the id that the client knows.
#[derive(Debug, Default)]
pub(super) struct Asks {
    waiting: Mutex<Vec<(u64, Id)>>,
}

impl Asks {
    /// A request of a server in the form in which the client gets it.
    pub(super) fn outgoing(&self, message: Message, epoch: u64) -> Message {
        let Some(id) = message.id() else {
            return message;
        };
        let known_as = if epoch == 0 {
            id.clone()
        } else {
            Id::string(&format!("{epoch}:{id}"))
        };
        {
            let mut waiting = self.lock();
            if waiting.len() < WAITING_MAX {
                waiting.push((epoch, known_as.clone()));
            }
        }
        // Only the id is replaced, by a legal one.
        message.edit().id(&known_as).apply().unwrap_or(message)
    }

    /// The client's answer in the form in which Mainstay waits for it; `None` if nobody does any more.
    pub(super) fn incoming(&self, message: Message, epoch: u64) -> Option<Message> {
        let Some(id) = message.id() else {
            return Some(message);
        };
        self.lock().retain(|(_, known_as)| known_as != id);
        if epoch == 0 {
            return Some(message);
        }
        let text = raw::string(id.raw())?;
        let inner = text.strip_prefix(&format!("{epoch}:"))?;
        let original = Id::from_raw(inner).or_else(|| Id::from_raw(&json_string(inner)))?;
        message.edit().id(&original).apply().ok()
    }

    /// Takes out what the processes before `epoch` asked: nobody waits for those answers.
    pub(super) fn withdrawn(&self, epoch: u64) -> Vec<Id> {
        let mut waiting = self.lock();
        let (dead, alive) = std::mem::take(&mut *waiting)
            .into_iter()
            .partition(|(asked, _)| *asked < epoch);
        *waiting = alive;
        dead.into_iter().map(|(_, id): (u64, Id)| id).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Id)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use mainstay_wire::Limits;

    fn message(text: &str) -> Message {
        Message::parse(Bytes::from(text.to_owned()), &Limits::default()).unwrap()
    }

    #[test]
    fn an_answer_reaches_only_the_process_that_asked() {
        let asks = Asks::default();
        let ask = message(r#"{"jsonrpc":"2.0","id":7,"method":"roots/list"}"#);
        let first = asks.outgoing(ask.clone(), 0);
        assert_eq!(first.id().unwrap().raw(), "7");
        // Another process, the same number.
        assert_eq!(asks.withdrawn(1).len(), 1);
        let second = asks.outgoing(ask, 1);
        assert_eq!(second.id().unwrap().raw(), r#""1:7""#);
        let late = message(r#"{"jsonrpc":"2.0","id":7,"result":{"roots":[]}}"#);
        assert!(asks.incoming(late, 1).is_none());
        let answer = message(r#"{"jsonrpc":"2.0","id":"1:7","result":{"roots":[]}}"#);
        let passed = asks.incoming(answer, 1).unwrap();
        assert_eq!(
            passed.as_str(),
            r#"{"jsonrpc":"2.0","id":7,"result":{"roots":[]}}"#
        );
        assert!(asks.withdrawn(2).is_empty());
    }

    #[test]
    fn ids_of_both_types_survive() {
        let asks = Asks::default();
        for id in ["12", r#""a-b""#, r#""5""#] {
            let ask = message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#));
            let out = asks.outgoing(ask, 3);
            let answer = message(&format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#,
                out.id().unwrap()
            ));
            assert_eq!(asks.incoming(answer, 3).unwrap().id().unwrap().raw(), id);
        }
    }
}
