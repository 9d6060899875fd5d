//! Calls of legacy clients: what the server asks becomes a request on the call's own response stream.
//!
//! A legacy server's request goes to the client under an id of ours and comes back under the server's, byte for byte. A
//! modern server's `input_required` becomes such requests too, and the call is made again with the answers (`rounds`).

use std::sync::Arc;
use std::time::Duration;

use mainstay::{Answer, Ask, CallError, CallOptions, Request, Said, ServerHandle};
use mainstay_wire::{Era, Id, Message, Revision, codes, method};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::signin::SignIns;
use super::voice::{Progress, Voice};
use super::{HEAR_MAX, approval, capability, era_of, rounds};
use crate::policy::approvals::Wanted;
use crate::serve::Shared;
use crate::serve::adapt::Fitted;
use crate::serve::call::{self, Caller, Outcome};
use crate::serve::endpoint::Routed;
use crate::serve::fault::Fault;
use crate::serve::levels::Ear;
use crate::serve::sessions::{CallInFlight, Session};

/// The client of a call.
pub(crate) struct Client {
    /// Its session.
    pub(crate) session: Arc<Session>,
    /// The entry by which the client can cancel the call.
    pub(crate) in_flight: CallInFlight,
}

/// Makes the call, up to the bytes of its answer; `None` if the client cancelled it. Dropping the future cancels the call.
pub(crate) async fn run(
    shared: Arc<Shared>,
    routed: Routed,
    caller: Caller,
    client: Client,
    voice: Voice,
) -> Outcome {
    let session = Arc::clone(&client.session);
    let (ear, routed) = Ear::of_session(&shared, &session, routed);
    let mut course = Course {
        server: routed.server,
        ear,
        progress: Progress::new(caller.progress_token.clone()),
        caller,
        session,
        voice,
        deadline: None,
        asked: Vec::new(),
        shared,
    };
    tokio::select! {
        biased;
        // Cancel-safe: if the other arm wins, dropping the call is what cancels it at the server (law 18).
        fitted = course.reach(routed.request) => Some(fitted),
        // Cancel-safe: the call is over when this resolves.
        () = client.in_flight.cancelled() => None,
    }
}

/// One call and what is said in its course, over all its rounds.
pub(crate) struct Course {
    pub(crate) shared: Arc<Shared>,
    pub(crate) server: ServerHandle,
    pub(crate) caller: Caller,
    pub(crate) session: Arc<Session>,
    pub(crate) voice: Voice,
    progress: Progress,
    ear: Ear,
    /// The one deadline over all rounds; set by the first.
    deadline: Option<Instant>,
    /// What the client was asked in this course, for telling it when no answer is wanted any more.
    asked: Vec<Id>,
}

impl Course {
    /// Finds the connection for what the client declared, and makes the call there.
    async fn reach(&mut self, request: Request) -> Fitted {
        let options = CallOptions {
            origin: Some(Arc::clone(&self.caller.origin)),
            ..CallOptions::default()
        };
        if let Err(fault) = self.approved().await {
            return call::failed(&fault, &self.caller);
        }
        let deadline = Instant::now() + self.server.call_total(&request);
        let mut sign_ins = SignIns::default();
        loop {
            let face = &self.caller.face;
            let error = match self.server.for_call(face, &request, &options).await {
                Ok(server) => {
                    self.server = server;
                    return self.run(request, deadline, sign_ins).await;
                }
                Err(error) => error,
            };
            if let Err(fault) = sign_ins.lift(self, &error, deadline).await {
                return call::failed(&fault, &self.caller);
            }
        }
    }

    /// Waits until somebody has approved the call, where that is needed: its client's user, who is asked on the call's own
    /// stream, or the operator. Cancel-safe: the question is forgotten with the call.
    async fn approved(&mut self) -> Result<(), Fault> {
        let Some(wanted) = self.caller.wanted().cloned() else {
            return Ok(());
        };
        let params = wanted.question();
        let declared = &self.caller.face.capabilities;
        let lacking = capability::lacking(declared, method::ELICITATION_CREATE, Some(&params));
        if !wanted.asks_client(lacking.is_none()) {
            return approval::by_operator(&self.shared, &self.caller, &wanted).await;
        }
        let revision = self.session.opening.revision;
        let question = |id: &Id| {
            let asked = Message::request(id, method::ELICITATION_CREATE, Some(&params));
            // Forms were all there was.
            match revision < Revision::V2025_11_25 {
                true => asked
                    .edit()
                    .remove(&["params", "mode"])
                    .apply()
                    .unwrap_or(asked),
                false => asked,
            }
        };
        let waiting = match lacking {
            None => self.question(question),
            Some(_) => None,
        };
        let Some(mut waiting) = waiting else {
            return Err(approval::cannot_ask(&self.caller, &wanted));
        };
        let wait = Duration::from_millis(wanted.approval.wait_ms);
        // Cancel-safe: an answer that came stays with the one that waits for it.
        let answer = tokio::time::timeout(wait, waiting.answer()).await;
        let Ok(answer) = answer else {
            drop(waiting);
            self.withdraw();
            return Err(approval::expired(&self.caller, &wanted));
        };
        let yes = answer.result().is_some_and(Wanted::is_yes);
        approval::said(&self.caller, "client", yes)
    }

    /// Tells the client that no answer is wanted any more to what it was asked in this course.
    fn withdraw(&mut self) {
        for id in self.asked.drain(..) {
            self.voice.say(cancelled(&id));
        }
    }

    async fn run(&mut self, request: Request, deadline: Instant, mut sign_ins: SignIns) -> Fitted {
        self.deadline = Some(deadline);
        let asked = self.session.asked.clone();
        let open = asked.begin_call(self.server.name());
        let mut rounds = rounds::Rounds::new(request, self.shared.settings.rounds_max, deadline);
        let fitted = loop {
            let attempt = rounds.request();
            let answered = self.attempt(attempt, deadline).await;
            let answer = match answered {
                Ok(answer) => answer,
                Err(error) => match sign_ins.lift(self, &error, deadline).await {
                    Ok(()) => continue,
                    Err(fault) => break call::failed(&fault, &self.caller),
                },
            };
            match rounds::required(&answer) {
                None => break call::fitted(Ok(answer), Era::Legacy, &self.caller),
                Some(required) => match rounds.answer(self, &required).await {
                    Ok(()) => {}
                    Err(fault) => break call::failed(&fault, &self.caller),
                },
            }
        };
        drop(open);
        self.take_back();
        fitted
    }

    /// Sends the request once, and passes on what is said until its answer.
    async fn attempt(&mut self, request: Request, deadline: Instant) -> Result<Answer, CallError> {
        let (sender, mut hear) = mpsc::channel(HEAR_MAX);
        let options = CallOptions {
            total: Some(deadline.saturating_duration_since(Instant::now())),
            progress: self.caller.progress_token.is_some(),
            hear: Some(sender),
            client: Some(self.caller.face.clone()),
            origin: Some(Arc::clone(&self.caller.origin)),
            ..CallOptions::default()
        };
        let server = self.server.clone();
        let mut call = std::pin::pin!(server.request(request, options));
        let answered = loop {
            tokio::select! {
                biased;
                // Cancel-safe: a channel keeps what was not received. First, because what is said precedes the answer.
                Some(said) = hear.recv() => self.hear(said),
                // Cancel-safe: the pinned call is polled again.
                answered = &mut call => break answered,
            }
        };
        while let Ok(said) = hear.try_recv() {
            self.hear(said);
        }
        answered
    }

    fn hear(&mut self, said: Said) {
        match said {
            Said::Progress(message) => {
                if let Some(step) = self.progress.step(&message) {
                    self.voice.mention(step);
                }
            }
            Said::Notice(message) => self.notice(message),
            Said::Ask(ask) => self.ask(ask),
        }
    }

    fn notice(&self, message: Message) {
        // A log message is one in both eras; a notification that nobody here knows means something only in its own.
        let known = message.method() == Some(method::MESSAGE)
            || era_of(&self.shared, &self.server) != Some(Era::Modern);
        let wanted = known && self.ear.hears(&message);
        if wanted {
            self.voice.mention(message);
        }
    }

    /// Asks the client what a legacy server asks.
    fn ask(&mut self, ask: Ask) {
        let tasks = self.shared.tasks.clone();
        let refuse = |ask: Ask, words: &'static str| {
            // Bounded by the ask itself; the call goes on meanwhile.
            tasks.spawn(async move { ask.error(codes::METHOD_NOT_FOUND, words, None).await });
        };
        let declared = &self.caller.face.capabilities;
        if capability::lacking(declared, ask.method(), ask.message().params()).is_some() {
            return refuse(ask, "the client did not declare this capability");
        }
        let Some(mut asking) = self.session.asked.open() else {
            return refuse(ask, "the client was asked too much already");
        };
        let Ok(request) = ask.message().edit().id(&asking.id()).finish() else {
            return refuse(ask, "the request cannot be passed on");
        };
        if !self.voice.say(request) {
            return refuse(ask, "the client does not listen");
        }
        self.asked.push(asking.id());
        let (session, voice) = (Arc::clone(&self.session), self.voice.clone());
        let server: Box<str> = self.server.name().into();
        let hurry = self.shared.hurry.clone();
        // Not tied to the call that heard it: on a stream that calls share it may be another call of the client that waits
        // for the answer. It ends with the last of them.
        self.shared.tasks.spawn(async move {
            tokio::select! {
                biased;
                // Cancel-safe: an answer that came is taken.
                answer = asking.answer() => { ask.response(&answer).await; }
                // Cancel-safe: levels, all of them. Dropping the ask is what tells the server (F114).
                () = ask.withdrawn() => { voice.say(cancelled(&asking.id())); }
                () = session.ended() => {}
                () = session.asked.quiet(&server) => {}
                () = hurry.cancelled() => {}
            }
        });
    }

    /// The call is over: what is open then concerns nobody, unless another call of the client may have caused it.
    fn take_back(&mut self) {
        let asked = &self.session.asked;
        if asked.has_calls(self.server.name()) {
            return;
        }
        for id in self.asked.drain(..) {
            if asked.is_open(&id) {
                self.voice.say(cancelled(&id));
            }
        }
    }

    /// Asks the client something that no connection waits for (a modern server is called again with the answer).
    pub(crate) fn question(&mut self, request: impl FnOnce(&Id) -> Message) -> Option<Waiting> {
        let asking = self.session.asked.open()?;
        let said = self.voice.say(request(&asking.id()));
        said.then(|| {
            self.asked.push(asking.id());
            Waiting(asking)
        })
    }
}

/// A question of a modern server that the client has to answer.
pub(crate) struct Waiting(super::asked::Asking);

impl Waiting {
    /// The client's response. Cancel-safe.
    pub(crate) async fn answer(&mut self) -> Message {
        self.0.answer().await
    }
}

/// Tells a client that its answer is not wanted any more.
fn cancelled(id: &Id) -> Message {
    let params = format!("{{\"requestId\":{id},\"reason\":\"no longer wanted\"}}");
    Message::notification(method::CANCELLED, Some(&params))
}

/// How long a course may wait before it calls a server again that gave nothing to ask.
pub(crate) const fn back_off(times: u32) -> Duration {
    const FIRST_MS: u64 = 100;
    const LONGEST_MS: u64 = 5_000;
    let ms = FIRST_MS << if times > 6 { 6 } else { times };
    Duration::from_millis(if ms > LONGEST_MS { LONGEST_MS } else { ms })
}
