//! A call of a modern client to a server that may ask: the call itself, and the questions that nobody has answered yet.
//!
//! It is attended by one request of the client at a time and lives on between two of them (`park`). Dropping it cancels the
//! call and answers the server's questions with errors.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use mainstay::{Answer, Ask, CallError, Said, ServerHandle};
use mainstay_wire::{Message, codes, method};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::capability;
use super::inputs::{self, Kind};
use super::voice::{Progress, Voice};
use crate::serve::Shared;
use crate::serve::levels::Ear;

/// How long after a question others are waited for, that they may be asked together.
const GATHER: Duration = Duration::from_millis(30);
/// The same, however many come.
const GATHER_MAX: Duration = Duration::from_millis(150);
/// Messages that are kept while no request of the client is open; what comes beyond it is dropped.
const KEPT_MAX: usize = 64;

pub(crate) type Answered = Result<Answer, CallError>;

/// The call and what belongs to it.
pub(crate) struct Conversation {
    server: ServerHandle,
    course: Course,
    hear: mpsc::Receiver<Said>,
    /// In the order in which they came.
    open: Vec<Open>,
    /// Answers that the client gave before it was asked.
    early: Vec<(String, String)>,
    keys: Keys,
    kept: VecDeque<Message>,
}

enum Course {
    Running(Pin<Box<dyn Future<Output = Answered> + Send>>),
    /// Over, and its outcome is waiting to be fetched.
    Over(Option<Box<Answered>>),
}

/// A question of the server that waits for its answer.
struct Open {
    key: String,
    kind: Kind,
    ask: Ask,
}

/// Which keys are taken, in all rounds.
#[derive(Default)]
struct Keys {
    taken: Vec<String>,
    counts: [u32; 3],
}

impl Keys {
    fn take(&mut self, kind: Kind, hint: Option<String>) -> String {
        let free = hint.filter(|hint| !self.taken.contains(hint));
        let key = free.unwrap_or_else(|| {
            loop {
                let count = &mut self.counts[kind as usize];
                *count += 1;
                let key = format!("{}-{count}", kind.word());
                if !self.taken.contains(&key) {
                    return key;
                }
            }
        });
        self.taken.push(key.clone());
        key
    }
}

/// The request of the client that attends to the conversation now.
pub(crate) struct Listener<'l> {
    pub(crate) shared: &'l Arc<Shared>,
    /// What it declared, a raw JSON object.
    pub(crate) capabilities: &'l str,
    pub(crate) voice: &'l Voice,
    pub(crate) progress: Progress,
    /// Which log messages it wants to hear.
    pub(crate) ear: &'l Ear,
    /// Whether notifications that Mainstay does not know mean something to it.
    pub(crate) same_era: bool,
}

impl Listener<'_> {
    fn notice(&self, message: Message) {
        // A log message is one in both eras.
        let known = self.same_era || message.method() == Some(method::MESSAGE);
        let wanted = known && self.ear.hears(&message);
        if wanted {
            self.voice.mention(message);
        }
    }
}

/// What attending came to.
pub(crate) enum Turn {
    /// The call has its outcome.
    Answered(Box<Answered>),
    /// The server waits for the client.
    Asks,
    /// The server asked for something that the client did not declare, a raw JSON object.
    Lacks(&'static str),
}

impl Conversation {
    /// A conversation about `call`, whose server says what it says through `hear`.
    pub(crate) fn new(
        server: ServerHandle,
        call: impl Future<Output = Answered> + Send + 'static,
        hear: mpsc::Receiver<Said>,
        early: Vec<(String, String)>,
    ) -> Self {
        Self {
            server,
            course: Course::Running(Box::pin(call)),
            hear,
            open: Vec::new(),
            early,
            keys: Keys::default(),
            kept: VecDeque::new(),
        }
    }

    /// Whether other calls wait for the connection that this one has for itself.
    pub(crate) fn is_in_the_way(&self) -> bool {
        matches!(self.course, Course::Running(_)) && self.server.waiting_for_turn() > 0
    }

    /// What is open, as key and kind.
    pub(crate) fn questions(&self) -> Vec<(String, Kind)> {
        let named = |open: &Open| (open.key.clone(), open.kind);
        self.open.iter().map(named).collect()
    }

    /// What is open, as entries of `inputRequests`.
    pub(crate) fn entries(&self) -> Vec<String> {
        let entry = |open: &Open| {
            let request = open.ask.message();
            let params = inputs::modern_params(request);
            inputs::request_entry(&open.key, open.ask.method(), params.as_deref())
        };
        self.open.iter().map(entry).collect()
    }

    /// Hands answers to the server. Those for questions that are not open any more are dropped; `false`: all were.
    pub(crate) fn deliver(&mut self, shared: &Shared, answers: &[(String, String)]) -> bool {
        let mut delivered = false;
        for open in std::mem::take(&mut self.open) {
            match inputs::find(answers, &open.key) {
                Some(answer) => {
                    delivered = true;
                    hand_over(shared, open.ask, answer.to_owned());
                }
                None => self.open.push(open),
            }
        }
        delivered
    }

    /// Lets the call go on until it is over or the server waits for the client. `fresh`: the server got answers just now
    /// and may want more; otherwise what is open is asked again at once. Cancel-safe: nothing that was heard gets lost.
    pub(crate) async fn attend(&mut self, listener: &mut Listener<'_>, fresh: bool) -> Turn {
        for message in self.kept.drain(..) {
            listener.notice(message);
        }
        // Asked while nobody attended, or asked of a client that declares something else now.
        for open in &self.open {
            let (method, params) = (open.ask.method(), open.ask.message().params());
            if let Some(lacks) = capability::lacking(listener.capabilities, method, params) {
                return Turn::Lacks(lacks);
            }
        }
        let now = Instant::now();
        let mut gathering = match (self.open.is_empty(), fresh) {
            (true, _) => None,
            (false, true) => Some((now + GATHER, now + GATHER_MAX)),
            (false, false) => Some((now, now)),
        };
        loop {
            let until = gathering.map(|(quiet, latest)| quiet.min(latest));
            tokio::select! {
                biased;
                // Cancel-safe: a channel keeps what was not received. First, because what is said precedes the answer.
                Some(said) = self.hear.recv() => {
                    if let Some(lacks) = self.hear(said, listener) {
                        return Turn::Lacks(lacks);
                    }
                    let now = Instant::now();
                    gathering = match (self.open.is_empty(), gathering) {
                        (true, _) => None,
                        (false, None) => Some((now + GATHER, now + GATHER_MAX)),
                        (false, Some((_, latest))) => Some((now + GATHER, latest)),
                    };
                }
                // Cancel-safe: the call stays where it is and is polled again.
                answered = self.course.over() => {
                    while let Ok(said) = self.hear.try_recv() {
                        // The call is over: a question that came before its end is not asked any more.
                        self.hear(said, listener);
                    }
                    return Turn::Answered(Box::new(answered));
                }
                // Cancel-safe: levels.
                at = withdrawn(&self.open) => {
                    self.open.remove(at);
                    if self.open.is_empty() {
                        gathering = None;
                    }
                }
                // Cancel-safe: a sleep holds nothing.
                () = tokio::time::sleep_until(until.unwrap_or(now)), if until.is_some() => return Turn::Asks,
            }
        }
    }

    fn hear(&mut self, said: Said, listener: &mut Listener<'_>) -> Option<&'static str> {
        match said {
            Said::Progress(message) => {
                if let Some(step) = listener.progress.step(&message) {
                    listener.voice.mention(step);
                }
            }
            Said::Notice(message) => listener.notice(message),
            Said::Ask(ask) => {
                let Some(kind) = Kind::of(ask.method()) else {
                    refuse(
                        listener.shared,
                        ask,
                        "clients of this revision cannot be asked that",
                    );
                    return None;
                };
                let params = ask.message().params();
                if let Some(lacks) =
                    capability::lacking(listener.capabilities, ask.method(), params)
                {
                    refuse(
                        listener.shared,
                        ask,
                        "the client did not declare this capability",
                    );
                    return Some(lacks);
                }
                self.ask(listener.shared, kind, ask);
            }
        }
        None
    }

    fn ask(&mut self, shared: &Shared, kind: Kind, ask: Ask) {
        let key = self.keys.take(kind, inputs::hinted_key(ask.message()));
        let early = inputs::find(&self.early, &key).filter(|answer| kind.check(answer).is_ok());
        match early {
            Some(answer) => hand_over(shared, ask, answer.to_owned()),
            None => self.open.push(Open { key, kind, ask }),
        }
    }

    /// Lets the call go on while no request of the client is open. Never resolves. Cancel-safe.
    pub(crate) async fn idle(&mut self) {
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: a channel keeps what was not received.
                Some(said) = self.hear.recv() => match said {
                    // Whoever comes next hears the steps after this one.
                    Said::Progress(_) => {}
                    Said::Notice(message) if self.kept.len() < KEPT_MAX => self.kept.push_back(message),
                    Said::Notice(_) => {}
                    // What this client declared is checked when it comes back.
                    Said::Ask(ask) => match Kind::of(ask.method()) {
                        Some(kind) => {
                            let key = self.keys.take(kind, inputs::hinted_key(ask.message()));
                            self.open.push(Open { key, kind, ask });
                        }
                        None => drop(ask),
                    },
                },
                // Cancel-safe: the call stays where it is.
                answered = self.course.over() => self.course = Course::Over(Some(Box::new(answered))),
                // Cancel-safe: levels.
                at = withdrawn(&self.open) => drop(self.open.remove(at)),
            }
            if matches!(self.course, Course::Over(_)) {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Nobody came back: the server is told so, in the words that its questions have for it. Bounded by the asks themselves.
    pub(crate) async fn expire(&mut self) {
        for open in std::mem::take(&mut self.open) {
            match open.kind {
                Kind::Elicitation => open.ask.result("{\"action\":\"cancel\"}").await,
                Kind::Sampling | Kind::Roots => {
                    let words = "the client did not answer";
                    open.ask.error(codes::INTERNAL_ERROR, words, None).await
                }
            };
        }
    }
}

impl Course {
    async fn over(&mut self) -> Answered {
        match self {
            Self::Running(call) => call.await,
            Self::Over(answered) => match answered.take() {
                Some(answered) => *answered,
                // Fetched already; nobody asks twice.
                None => std::future::pending().await,
            },
        }
    }
}

/// Resolves with the place of a question that is not wanted any more. Cancel-safe.
async fn withdrawn(open: &[Open]) -> usize {
    if open.is_empty() {
        return std::future::pending().await;
    }
    let all = open.iter().map(|open| Box::pin(open.ask.withdrawn()));
    let ((), at, _) = select_all(all).await;
    at
}

/// Answers a question of the server. The call goes on meanwhile, and an answer on its way is not taken back.
fn hand_over(shared: &Shared, ask: Ask, answer: String) {
    // Bounded by the ask itself.
    shared.tasks.spawn(async move { ask.result(&answer).await });
}

fn refuse(shared: &Shared, ask: Ask, words: &'static str) {
    // Bounded by the ask itself.
    shared
        .tasks
        .spawn(async move { ask.error(codes::METHOD_NOT_FOUND, words, None).await });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_never_used_twice() {
        let mut keys = Keys::default();
        assert_eq!(
            keys.take(Kind::Elicitation, Some("elicitation-1".into())),
            "elicitation-1"
        );
        assert_eq!(keys.take(Kind::Elicitation, None), "elicitation-2");
        assert_eq!(
            keys.take(Kind::Roots, Some("elicitation-1".into())),
            "roots-1"
        );
        assert_eq!(keys.take(Kind::Sampling, None), "sampling-1");
    }
}
