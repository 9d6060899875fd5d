//! What is done about messages that are none, or too much of one: whoever is concerned is told, and it is counted.

use mainstay_wire::codes;
use mainstay_wire::envelope::{Message, Refused, Why};

use super::Runtime;
use crate::limits::Limit;

impl Runtime {
    /// A line that is no message at all: skipped, counted, never answered (F42 to F45).
    pub(crate) fn noise(&self, sample: &str) {
        self.counters
            .exceeded(Limit::Noise, self.generation.0, sample);
    }

    /// Something meant to be a message and is none. The call concerned is told; if nobody knows which one that is, and it
    /// was too large to be anything but an answer, all calls in flight are, because one of them waits for ever (F47).
    pub(crate) fn refused(&self, refused: &Refused) {
        let why = refused.to_string();
        let too_large = matches!(refused.why, Why::TooLong { .. } | Why::TooDeep { .. });
        let told = match (&refused.method, &refused.id) {
            (None, Some(id)) => self.refuse_answer(Some(id), why.clone()),
            (None, None) if too_large => {
                self.waiters.refuse_all(&why);
                true
            }
            (None, None) => false,
            // A request of the server: it is told too.
            (Some(_), Some(id)) => {
                self.say(Message::error_of(
                    Some(id),
                    codes::INVALID_REQUEST,
                    &why,
                    None,
                ));
                true
            }
            (Some(_), None) => false,
        };
        if too_large {
            self.counters
                .exceeded(Limit::Message, self.generation.0, &why);
        } else {
            self.counters.malformed();
        }
        tracing::debug!(server = %self.server, generation = self.generation.0, why, told, "refused a message");
    }
}
