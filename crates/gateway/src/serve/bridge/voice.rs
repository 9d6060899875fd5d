//! What is said to a client before its answer, and which of it the client wants to hear.
//!
//! The future of a call speaks, the answer's event stream listens; both run in one task, so nothing has to be woken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay_wire::views::ProgressView;
use mainstay_wire::{Message, Parts};

/// Progress and log messages that wait for a slow client; what comes beyond it is dropped, the call is not.
const MENTIONED_MAX: usize = 64;
/// Everything that waits for a slow client. Beyond it, requests of servers are refused to them.
const SAID_MAX: usize = 1_024;

/// The way to the client of one call. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Voice(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Parts>,
    nobody_listens: bool,
}

impl Voice {
    /// Says something that must not get lost. `false`: it cannot be said, because the client has left or is too slow.
    pub(crate) fn say(&self, message: impl Into<Parts>) -> bool {
        self.push(message.into(), SAID_MAX)
    }

    /// Says something that may get lost.
    pub(crate) fn mention(&self, message: impl Into<Parts>) {
        self.push(message.into(), MENTIONED_MAX);
    }

    fn push(&self, message: Parts, waiting_max: usize) -> bool {
        let mut waiting = self.lock();
        let fits = !waiting.nobody_listens && waiting.messages.len() < waiting_max;
        if fits {
            waiting.messages.push_back(message);
        }
        fits
    }

    /// What is to be said next.
    pub(crate) fn next(&self) -> Option<Parts> {
        self.lock().messages.pop_front()
    }

    /// The client does not listen any more.
    pub(crate) fn falls_silent(&self) {
        let mut waiting = self.lock();
        waiting.nobody_listens = true;
        waiting.messages.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Progress as one client reads it: under its own token, and rising.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The client's token as raw JSON; none if it wants no progress.
    token: Option<Box<str>>,
    last: Option<f64>,
}

impl Progress {
    pub(crate) fn new(token: Option<Box<str>>) -> Self {
        Self { token, last: None }
    }

    /// A notification under the client's token, as it gave it. `None`: the client is not to hear of it, because it did not
    /// ask or because the value does not rise (a server that is called again may begin anew).
    pub(crate) fn step(&mut self, message: &Message) -> Option<Parts> {
        let token = self.token.as_deref()?;
        let value = ProgressView::of(message).ok()?.progress;
        if self.last.is_some_and(|last| value <= last) {
            return None;
        }
        self.last = Some(value);
        message
            .edit()
            .set(&["params", "progressToken"], token)
            .finish()
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(value: &str) -> Message {
        let params = format!("{{\"progressToken\":7,\"progress\":{value},\"x\":1.10}}");
        Message::notification("notifications/progress", Some(&params))
    }

    #[test]
    fn progress_rises_under_the_clients_own_token() {
        let mut wanted = Progress::new(Some("\"mine\"".into()));
        let mut said = |value: &str| {
            let parts = wanted.step(&progress(value))?;
            Some(String::from_utf8(parts.into_bytes().to_vec()).unwrap())
        };
        let first = said("1.0").unwrap();
        assert!(
            first.contains("\"progressToken\":\"mine\"") && first.contains("1.10"),
            "{first}"
        );
        assert!(said("2").is_some());
        assert!(
            said("2").is_none() && said("1").is_none(),
            "strictly rising"
        );
        assert!(said("2.5").is_some());
        assert!(Progress::new(None).step(&progress("1")).is_none());
    }

    #[test]
    fn what_must_be_heard_outlasts_what_may_be_lost() {
        let voice = Voice::default();
        for _ in 0..2 * MENTIONED_MAX {
            voice.mention(progress("1"));
        }
        assert!(voice.say(progress("2")));
        let said = std::iter::from_fn(|| voice.next()).count();
        assert_eq!(said, MENTIONED_MAX + 1);
        voice.falls_silent();
        assert!(!voice.say(progress("3")), "nobody listens");
    }
}
