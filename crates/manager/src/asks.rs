//! What a server says to one caller while its call is on its way: progress, log messages, and requests of its own
//! (sampling, elicitation, roots).
//!
//! Whom something is for is `runtime::asking`'s business; what becomes of it is the caller's. Nothing here waits for a person.

use std::sync::Arc;

use mainstay_wire::codes;
use mainstay_wire::envelope::{Limits, Message};
use tokio_util::sync::CancellationToken;

use crate::runtime::Runtime;
use crate::runtime::waiters::CallMark;

/// The client's face has judged the message; ours adds nothing to it.
const NO_LIMITS: Limits = Limits {
    message_bytes_max: usize::MAX,
    depth_max: usize::MAX,
};

/// What a server says to the caller of a call, in the order in which it came.
#[derive(Debug)]
pub enum Said {
    /// Progress of the call (`notifications/progress`), under our token.
    Progress(Message),
    /// Another notification that belongs to the call: a log message, or one that Mainstay does not know.
    Notice(Message),
    /// A question to the caller.
    Ask(Ask),
}

/// A request of the server to the client. The server waits for the answer: one that is dropped without is answered with an
/// error, so that no server waits for a client that has gone (F114).
#[derive(Debug)]
pub struct Ask {
    message: Message,
    runtime: Arc<Runtime>,
    withdrawn: CancellationToken,
    /// The calls that stand still meanwhile.
    marks: Vec<Arc<CallMark>>,
    answered: bool,
}

impl Ask {
    pub(crate) fn new(
        message: Message,
        runtime: Arc<Runtime>,
        withdrawn: CancellationToken,
        marks: Vec<Arc<CallMark>>,
    ) -> Self {
        for mark in &marks {
            mark.ask_opened();
        }
        Self {
            message,
            runtime,
            withdrawn,
            marks,
            answered: false,
        }
    }

    /// The request as it came, under the server's own id.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The method, for example `elicitation/create`.
    #[must_use]
    pub fn method(&self) -> &str {
        self.message.method().unwrap_or_default()
    }

    /// Resolves when no answer is wanted any more: the server took its request back, or its connection ended.
    /// Cancel-safe.
    pub async fn withdrawn(&self) {
        self.withdrawn.cancelled().await;
    }

    /// Answers with a result, given as raw JSON. Bounded by 10 seconds; `false`: it could not be delivered. Dropping the
    /// future leaves it undecided whether the answer arrived.
    pub async fn result(self, result: &str) -> bool {
        let Some(id) = self.message.id() else {
            return false;
        };
        let answer = Message::result_of(id, result);
        self.deliver(answer).await
    }

    /// Answers with an error; `data` is raw JSON. Bounds as for [`Ask::result`].
    pub async fn error(self, code: i64, message: &str, data: Option<&str>) -> bool {
        let answer = Message::error_of(self.message.id(), code, message, data);
        self.deliver(answer).await
    }

    /// Answers with a client's own response, byte for byte except for the id. Bounds as for [`Ask::result`]. A message
    /// that is no response is not delivered, and the server gets an error.
    pub async fn response(self, response: &Message) -> bool {
        let Some(id) = self.message.id() else {
            return false;
        };
        let answer = match (response.result(), response.error()) {
            (None, None) => None,
            (Some(_), _) | (_, Some(_)) => response.edit().id(id).finish().ok(),
        };
        let answer = answer.and_then(|parts| Message::parse(parts.into_bytes(), &NO_LIMITS).ok());
        match answer {
            Some(answer) => self.deliver(answer).await,
            // Dropping it answers.
            None => false,
        }
    }

    async fn deliver(mut self, answer: Message) -> bool {
        self.answered = true;
        let runtime = Arc::clone(&self.runtime);
        drop(self);
        runtime.tell(answer).await
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        for mark in &self.marks {
            mark.ask_closed();
        }
        let Some(id) = self.message.id() else { return };
        self.runtime.ask_ended(id);
        if !self.answered {
            // Best effort: the queue of what we say unasked may be full, and then the server has stopped reading.
            self.runtime.say(Message::error_of(
                Some(id),
                codes::INTERNAL_ERROR,
                "the client did not answer",
                None,
            ));
        }
    }
}
