//! The live connection of one generation: what is in flight on it, and how bytes leave and arrive.
//!
//! A runtime never decides anything about the lifecycle: it reports what happens to the driver and is told when to end.
//! It never reconnects, never replays and never outlives its generation.

mod asking;
pub(crate) mod catalog;
pub(crate) mod era;
mod excess;
pub(crate) mod freshness;
pub(crate) mod gates;
pub(crate) mod greeting;
pub(crate) mod handshake;
pub mod http;
mod inbound;
pub(crate) mod keeper;
pub(crate) mod leases;
pub(crate) mod params;
pub(crate) mod refresh;
pub(crate) mod report;
pub(crate) mod restore;
pub(crate) mod sse;
pub(crate) mod stdio;
pub(crate) mod trace;
pub(crate) mod waiters;

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use ::http::{HeaderName, HeaderValue};
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::ids::Generation;
use mainstay_core::lifecycle::input::{Input, Proof};
use mainstay_wire::envelope::{Kind, Message};
use mainstay_wire::id::Id;
use mainstay_wire::listing::ListKind;
use mainstay_wire::revision::Era;
use mainstay_wire::splice::Parts;
use mainstay_wire::{codes, headers, meta, method};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::asking::Asking;
use self::freshness::Freshness;
use self::gates::AskGates;
use self::greeting::Greeting;
use self::http::HttpLink;
use self::leases::Leases;
use self::params::ToolHeaders;
use self::refresh::Dirty;
use self::report::Reports;
use self::restore::Told;
use self::sse::SseLink;
use self::stdio::StdioLink;
use self::waiters::{CallMark, Party, Waiters};
use crate::calls;
use crate::counters::Counters;
use crate::limits::{Limit, RateGate};
use crate::request::{CallOptions, ClientFace, Request};
use crate::wire_log::{self, Way};
use crate::wishes::Wishes;

/// How the bytes of one generation travel.
#[derive(Debug)]
pub(crate) enum Link {
    /// A child process and its pipes.
    Stdio(StdioLink),
    /// A streamable HTTP endpoint.
    Http(Arc<HttpLink>),
    /// The event stream and the message endpoint of an HTTP+SSE server (2024-11-05).
    Sse(Arc<SseLink>),
}

/// Where an inbound message came from, which decides whom it can concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The one shared stream of a stdio server.
    Stdio,
    /// The response stream of one POST (streamable HTTP): it belongs to the request of this id. `None`: to no request.
    Exchange(Option<u64>),
    /// The server's push channel: the GET stream (legacy) or a listen stream (modern); the one stream of an HTTP+SSE server.
    Push,
}

/// What a transport hands up while it waits for something else. Never blocks: the reader must not wait for a writer.
pub trait Inbound: Send + Sync {
    /// A notification or a server's request arrived. Responses that a transport correlates itself do not come here.
    fn receive(&self, message: Message, from: Origin);
    /// Bytes arrived that are life and nothing else (comments, keep-alives).
    fn life(&self);
    /// Something arrived that had to be skipped: noise, an unknown id, an undecodable event.
    fn skipped(&self, what: &'static str, sample: &str);
    /// A message leaves or arrives that nobody else sees; for the log of the wire only.
    fn crossed(&self, _way: Way, _text: &Parts) {}
}

/// Why a request did not get its answer on this generation.
#[derive(Debug, Clone)]
pub enum Miss {
    /// It provably never left us.
    NotSent(Cut),
    /// It arrived, and the server provably did not run it (for example: the session is gone).
    Rejected(Failure),
    /// The session is gone, and whoever said so may not have been the server: it may have run (F106).
    Doubted(Failure),
    /// It was sent, and no answer came.
    Lost(Cut),
}

/// What cut an exchange short.
#[derive(Debug, Clone)]
pub enum Cut {
    /// The connection failed or ended.
    Ended(Failure),
    /// No answer and no progress within the idle limit.
    Idle,
    /// The absolute deadline.
    Total,
    /// An answer came and broke a limit.
    AnswerRefused(Box<str>),
    /// The server said that it has given the request up, with its reason if it gave one (F189).
    Cancelled(Box<str>),
}

/// One request ready for the wire.
#[derive(Debug)]
pub struct Outgoing {
    /// The id that this generation knows the request by.
    pub id: u64,
    /// Its method.
    pub method: Box<str>,
    /// The value of the `Mcp-Name` header, where the method has one (modern era, HTTP).
    pub name: Option<Box<str>>,
    /// Headers of this request alone: `Mcp-Param-*`, where the tool has any (modern era, HTTP), and the trace's.
    pub params: Vec<(HeaderName, HeaderValue)>,
    /// The bytes.
    pub parts: Parts,
    /// Where the exchange stands; the transport notes when it begins to write.
    pub mark: Arc<CallMark>,
}

/// The time limits of one exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Absolute.
    pub(crate) deadline: Instant,
    /// Without answer or progress.
    pub(crate) idle: Duration,
}

/// The live connection of one generation.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) server: Arc<str>,
    pub(crate) generation: Generation,
    pub(crate) leases: Leases,
    pub(crate) dirty: Dirty,
    pub(crate) freshness: Freshness,
    pub(crate) tool_headers: ToolHeaders,
    pub(crate) counters: Arc<Counters>,
    link: Link,
    ids: Arc<AtomicU64>,
    waiters: Waiters,
    greeting: OnceLock<Greeting>,
    reports: Reports,
    ended: CancellationToken,
    failure: OnceLock<Failure>,
    proven: AtomicBool,
    lost_session: AtomicBool,
    lost_endpoint: AtomicBool,
    last_life_ms: AtomicU64,
    suspect: Notify,
    outbound: mpsc::Sender<Message>,
    /// What the user of the library wants servers to keep in mind; shared by all generations of the slot.
    pub(crate) wishes: Arc<Wishes>,
    /// What this generation was told of it.
    pub(crate) told: Told,
    /// For whom this connection is, unless it is the shared one: what it declares in its greeting.
    pub(crate) face: Option<ClientFace>,
    requests: RateGate,
    /// What the server asks, from the moment it came to its answer.
    asking: Asking,
    /// The server has asked a client something on a stream that calls share; the same flag for all its connections.
    pub(crate) asked: Arc<AtomicBool>,
    /// How often the server may ask clients for something.
    pub(crate) gates: Arc<AskGates>,
    /// Itself, for what outlives the moment in which it was read.
    me: Weak<Runtime>,
    /// Answers nested deeper are refused, except listings, where one deep item must not hide the others (F247).
    pub(crate) depth_max: usize,
}

impl Runtime {
    /// Puts a runtime around a link. `outbound` takes what we say unasked (cancel notices, answers to the server's
    /// requests); its owner is the keeper of this generation.
    pub(crate) fn new(
        server: Arc<str>,
        generation: Generation,
        link: Link,
        ids: Arc<AtomicU64>,
        counters: Arc<Counters>,
        reports: Reports,
        outbound: mpsc::Sender<Message>,
    ) -> Self {
        Self {
            server,
            generation,
            leases: Leases::default(),
            dirty: Dirty::default(),
            freshness: Freshness::default(),
            tool_headers: ToolHeaders::default(),
            counters,
            link,
            ids,
            waiters: Waiters::default(),
            greeting: OnceLock::new(),
            reports,
            ended: CancellationToken::new(),
            failure: OnceLock::new(),
            proven: AtomicBool::new(false),
            lost_session: AtomicBool::new(false),
            lost_endpoint: AtomicBool::new(false),
            last_life_ms: AtomicU64::new(0),
            suspect: Notify::new(),
            outbound,
            wishes: Arc::default(),
            told: Told::default(),
            face: None,
            requests: RateGate::new(usize::MAX),
            asking: Asking::default(),
            asked: Arc::default(),
            gates: Arc::default(),
            me: Weak::new(),
            depth_max: mainstay_wire::envelope::Limits::default().depth_max,
        }
    }

    /// The same with a limit on the requests of the server (F258).
    pub(crate) fn admitting(mut self, requests: RateGate) -> Self {
        self.requests = requests;
        self
    }

    /// The same in its place, knowing itself.
    pub(crate) fn shared(self) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            ..self
        })
    }

    /// What the server said of itself when it was greeted; `None` before that.
    pub(crate) fn greeting(&self) -> Option<&Greeting> {
        self.greeting.get()
    }

    /// Remembers the greeting. The first one stays.
    pub(crate) fn greeted(&self, greeting: Greeting) {
        let _ = self.greeting.set(greeting);
    }

    /// The era of the server; legacy until it was greeted.
    pub(crate) fn era(&self) -> Era {
        self.greeting
            .get()
            .map_or(Era::Legacy, |greeting| greeting.revision.era())
    }

    /// The link, for the keeper of this generation.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Ends every exchange of this generation at once with the same cause. Idempotent: the first cause stays (S-15).
    pub(crate) fn fail(&self, failure: Failure) {
        let _ = self.failure.set(failure);
        self.ended.cancel();
        self.waiters.clear();
    }

    /// The cause of the end, once there is one.
    pub(crate) fn failure(&self) -> Failure {
        self.failure
            .get()
            .cloned()
            .unwrap_or_else(|| Failure::new(FailureKind::StreamClosed))
    }

    /// Whether this generation may still say what happens at the server (law 3).
    fn is_live(&self) -> bool {
        !self.ended.is_cancelled()
    }

    /// When the pause that the server's host asked for ends, if there is one now (F102).
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        match &self.link {
            Link::Stdio(_) => None,
            Link::Http(link) => link.paused_until(),
            Link::Sse(link) => link.http().paused_until(),
        }
    }

    /// Waits until the server's host has no pause. Cancel-safe.
    pub(crate) async fn unpaused(&self) {
        match &self.link {
            Link::Stdio(_) => {}
            Link::Http(link) => link.unpaused().await,
            Link::Sse(link) => link.http().unpaused().await,
        }
    }

    /// A failure as it may be shown: servers repeat what we told them in their own words (F257).
    pub(crate) fn told(&self, failure: Failure) -> Failure {
        match &self.link {
            Link::Stdio(_) => failure,
            Link::Http(link) => link.told(failure),
            Link::Sse(link) => link.http().told(failure),
        }
    }

    /// Whether this generation goes on after a miss: over HTTP a request that was lost is only that (F99).
    pub(crate) fn survives(&self, miss: &Miss) -> bool {
        match (&self.link, miss) {
            (Link::Http(_) | Link::Sse(_), Miss::Lost(Cut::Ended(failure))) => {
                failure.kind != FailureKind::SessionLost && !self.ended.is_cancelled()
            }
            (Link::Http(_) | Link::Sse(_), Miss::Rejected(failure)) => {
                failure.kind != FailureKind::SessionLost
            }
            (Link::Http(_) | Link::Sse(_), Miss::NotSent(_) | Miss::Doubted(_) | Miss::Lost(_))
            | (Link::Stdio(_), _) => false,
        }
    }

    /// When something last arrived, on the driver's clock.
    pub(crate) fn last_life_ms(&self) -> u64 {
        self.last_life_ms.load(Ordering::Relaxed)
    }

    /// Resolves when a call's silence makes this connection suspect.
    pub(crate) async fn suspected(&self) {
        self.suspect.notified().await;
    }

    /// Serves one call: [`Runtime::ask`], and what its outcome says about health goes to the driver.
    pub(crate) async fn exchange(
        &self,
        request: &Request,
        options: &CallOptions,
        limits: Limits,
    ) -> Result<Message, Miss> {
        // A token goes with every call of a tool, whoever asked for progress: without one, a slow tool has no way to show that it
        // lives, and the idle limit would end it (F183).
        let hearing = Hearing {
            token: request.method() == method::TOOLS_CALL || options.progress,
            party: asking::party(request, options),
        };
        self.can_be_asked(&hearing.party).await;
        let answered = self.run(request, Some(options), hearing, limits).await;
        // Failed or not: somebody wants this server, and that is what keeps it from being stopped as unused (F24).
        self.leases.used(self.reports.now().0);
        self.account(&answered);
        answered
    }

    /// Sends one request and waits for its answer, inside the limits. Cancel-safe: a dropped caller leaves nothing
    /// behind but a cancel notice to the server (law 18). Proves nothing about health: greetings and listings come this
    /// way too (law 9).
    pub(crate) async fn ask(&self, request: &Request, limits: Limits) -> Result<Message, Miss> {
        let hearing = Hearing {
            token: false,
            party: Party::default(),
        };
        self.run(request, None, hearing, limits).await
    }

    async fn run(
        &self,
        request: &Request,
        options: Option<&CallOptions>,
        hearing: Hearing,
        limits: Limits,
    ) -> Result<Message, Miss> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let outgoing = self
            .prepare(request, options, hearing.token, id)
            .map_err(not_sent)?;
        let mark = Arc::clone(&outgoing.mark);
        let mut guard = Guard {
            runtime: self,
            id,
            mark: &mark,
            cancel: outgoing.method.as_ref() != method::INITIALIZE,
        };
        wire_log::crossed(|| self.crossing(Way::ToServer, outgoing.parts.clone()));
        let answered = match &self.link {
            Link::Stdio(link) => {
                let answer = self.waiters.register(id, hearing.party, Arc::clone(&mark));
                let sent_and_answered = async {
                    link.send(outgoing.parts, Some(Arc::clone(&mark)))
                        .await
                        .map_err(|()| self.broken(&mark))?;
                    match answer.await {
                        Ok(answer) => answer.map_err(Miss::Lost),
                        Err(_closed) => Err(self.broken(&mark)),
                    }
                };
                self.within(limits, &mark, pin!(sent_and_answered)).await
            }
            Link::Sse(link) => {
                let answer = self.waiters.register(id, hearing.party, Arc::clone(&mark));
                // Boxed: the rarest transport must not make the state of every call larger.
                let mut exchange = Box::pin(async {
                    match link.exchange(outgoing, answer).await {
                        Some(answered) => answered,
                        None => Err(self.broken(&mark)),
                    }
                });
                self.within(limits, &mark, exchange.as_mut()).await
            }
            Link::Http(link) => {
                let cut = self.waiters.watch(id, hearing.party, Arc::clone(&mark));
                let exchange = async {
                    tokio::select! {
                        biased;
                        // Dropped only together with the exchange, which is what cancels it.
                        answered = link.exchange(outgoing, self) => answered,
                        // Cancel-safe: a channel keeps its value. Nothing but a cut ever comes; a closed one is the end of
                        // the generation, which the limits around this see.
                        Ok(Err(cut)) = cut => Err(Miss::Lost(cut)),
                    }
                };
                self.within(limits, &mark, pin!(exchange)).await
            }
        };
        let answered = answered.and_then(|message| self.shallow(message, request));
        // An exchange that ended by itself has nothing to cancel; one that we cut short has.
        guard.cancel &= matches!(answered, Err(Miss::Lost(Cut::Idle | Cut::Total)));
        drop(guard);
        self.note(&answered);
        answered
    }

    /// What the outcome of an exchange means for the whole connection.
    fn note(&self, answered: &Result<Message, Miss>) {
        match answered {
            Ok(message) => {
                self.life();
                // The answers of other links came through `receive`.
                if let Link::Http(_) = &self.link {
                    wire_log::crossed(|| self.crossing(Way::FromServer, message.into()));
                }
            }
            // Rejected, or lost while its answer was being resumed: the session is gone either way, for everybody.
            Err(
                Miss::Rejected(failure) | Miss::Doubted(failure) | Miss::Lost(Cut::Ended(failure)),
            ) if failure.kind == FailureKind::SessionLost => self.session_lost(),
            // F93: all that can be done without a human has been done, for whoever uses this connection. One that was never
            // shown anything goes on: other requests may need nothing (law 15).
            Err(Miss::Rejected(failure) | Miss::NotSent(Cut::Ended(failure)))
                if failure.kind == FailureKind::NeedsLogin && self.is_signed_in() =>
            {
                self.unreachable(failure);
            }
            // On stdio the reader has counted it: there it may have been nobody's answer.
            Err(Miss::Lost(Cut::AnswerRefused(why))) if matches!(self.link, Link::Http(_)) => {
                self.counters
                    .exceeded(Limit::Message, self.generation.0, why);
            }
            Err(Miss::NotSent(_) | Miss::Rejected(_) | Miss::Doubted(_) | Miss::Lost(_)) => {}
        }
    }

    /// Refuses an answer that is nested too deeply to be passed on. Listings judge their items one by one.
    fn shallow(&self, message: Message, request: &Request) -> Result<Message, Miss> {
        if message.depth() <= self.depth_max || ListKind::of_method(request.method()).is_some() {
            return Ok(message);
        }
        let why = format!(
            "it is nested {} levels deep, more than the {} allowed (setting `mainstay.limits.depth`)",
            message.depth(),
            self.depth_max
        );
        Err(Miss::Lost(Cut::AnswerRefused(why.into())))
    }

    /// Sends a notification, or our answer to a request of the server. Bounded by the link's own deadlines; a failure is
    /// counted and otherwise ignored. `false`: it did not arrive.
    pub(crate) async fn tell(&self, message: Message) -> bool {
        wire_log::crossed(|| self.crossing(Way::ToServer, Parts::from(&message)));
        let told = match &self.link {
            Link::Stdio(link) => link.send(Parts::from(message), None).await.is_ok(),
            Link::Sse(link) => link.notify(message).await.is_ok(),
            Link::Http(link) => link.notify(message).await.is_ok(),
        };
        if !told {
            self.counters.notice_lost();
        }
        told
    }

    /// Runs an exchange under its deadline, its idle limit (which progress resets) and the end of the generation.
    async fn within(
        &self,
        limits: Limits,
        mark: &CallMark,
        mut exchange: Pin<&mut impl Future<Output = Result<Message, Miss>>>,
    ) -> Result<Message, Miss> {
        let mut idle_from = Instant::now();
        loop {
            let until = limits.deadline.min(idle_from + limits.idle);
            tokio::select! {
                biased;
                // Cancel-safe: the pinned exchange is polled again in the next round.
                answered = &mut exchange => return answered,
                // Cancel-safe: a token holds no state of ours.
                () = self.ended.cancelled() => return Err(self.broken(mark)),
                // Cancel-safe: a sleep holds nothing.
                () = tokio::time::sleep_until(until) => {
                    let now = Instant::now();
                    if now >= limits.deadline {
                        return Err(mark.cut(Cut::Total));
                    }
                    match mark.take_life() {
                        // The server waits for the client, not we for the server (F185).
                        _ if mark.is_asking() => idle_from = now,
                        Some(life) => idle_from = life.max(idle_from),
                        None => return Err(mark.cut(Cut::Idle)),
                    }
                    if now >= idle_from + limits.idle {
                        return Err(mark.cut(Cut::Idle));
                    }
                }
            }
        }
    }

    /// The miss of an exchange whose connection broke under it.
    fn broken(&self, mark: &CallMark) -> Miss {
        mark.cut(Cut::Ended(self.failure()))
    }

    /// Puts our id, our progress token and the era's metadata into a request.
    fn prepare(
        &self,
        request: &Request,
        options: Option<&CallOptions>,
        wants_progress: bool,
        id: u64,
    ) -> Result<Outgoing, Failure> {
        let message = &request.message;
        let client = options.and_then(|options| options.client.as_ref());
        let origin = options.and_then(|options| options.origin.as_deref());
        let traced = origin.and_then(calls::Origin::told);
        let mut editor = message.edit().id(&Id::number(id));
        let legacy = self
            .greeting
            .get()
            .is_some_and(|greeting| greeting.revision.era() == Era::Legacy);
        for edit in &request.edits {
            let path: Vec<&str> = edit.path.iter().map(String::as_str).collect();
            // Meant for the modern connection of a server that speaks both.
            if legacy
                && matches!(path[..], ["params", "_meta", key] if meta::REQUEST_STAMP.contains(&key))
            {
                continue;
            }
            editor = match &edit.value {
                Some(value) => editor.set(&path, value.clone()),
                None => editor.remove(&path),
            };
        }
        if wants_progress {
            editor = editor.set(&["params", "_meta", "progressToken"], id.to_string());
        } else if message
            .member(&["params", "_meta", "progressToken"])
            .is_some()
        {
            editor = editor.remove(&["params", "_meta", "progressToken"]);
        }
        match self.greeting.get() {
            Some(greeting) if greeting.revision.era() == Era::Modern => {
                for (key, value) in greeting.stamp(client.or(self.face.as_ref())) {
                    editor = editor.set(&["params", "_meta", key], value);
                }
                // A caller that names a level of its own keeps it, and whoever calls for a client decides for that client.
                if let Some(level) = self.wishes.log_level()
                    && client.is_none()
                    && message.member(&meta::in_params(meta::LOG_LEVEL)).is_none()
                {
                    let word = mainstay_wire::splice::json_string(level.as_str());
                    editor = editor.set(&meta::in_params(meta::LOG_LEVEL), word);
                }
            }
            // Before the greeting the request is the greeting itself, and carries what it must.
            None => {}
            Some(_) => {
                for key in meta::REQUEST_STAMP {
                    if message.member(&["params", "_meta", key]).is_some() {
                        editor = editor.remove(&["params", "_meta", key]);
                    }
                }
            }
        }
        if let Some(context) = traced {
            editor = trace::tell(editor, message, context);
        }
        let parts = editor.finish().map_err(|error| {
            Failure::new(FailureKind::ProtocolError).with_detail(error.to_string())
        })?;
        let name =
            headers::mcp_name_of(request.method(), self.effective_params(request).as_deref());
        let params = self.headers_of(request, name.as_deref(), traced);
        Ok(Outgoing {
            params,
            id,
            method: request.method().into(),
            name: name.map(String::into_boxed_str),
            parts,
            mark: Arc::new(CallMark::default()),
        })
    }

    /// The headers of this request alone.
    fn headers_of(
        &self,
        request: &Request,
        name: Option<&str>,
        traced: Option<&calls::TraceContext>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        if request.method() == method::TOOLS_CALL {
            let arguments = request.effective_member(&["params", "arguments"]);
            headers = self.tool_headers.of(name, arguments);
        }
        if matches!(self.link, Link::Http(_) | Link::Sse(_)) {
            headers.extend(traced.into_iter().flat_map(trace::headers));
        }
        headers
    }

    /// The parameters that name the thing asked for, with a pending rename applied.
    fn effective_params(&self, request: &Request) -> Option<String> {
        if !self.speaks_modern_http() {
            return None;
        }
        let key = headers::name_path(request.method())?.last()?;
        let raw = request.effective_member(&["params", key])?;
        Some(format!("{{\"{key}\":{raw}}}"))
    }

    /// What a call tells about health: an answer is proof, silence is suspicious.
    fn account(&self, answered: &Result<Message, Miss>) {
        match answered {
            Ok(_) => {
                if !self.proven.swap(true, Ordering::Relaxed) {
                    let (generation, proof) = (self.generation, Proof::ServedCall);
                    let proof = Input::Proof { generation, proof };
                    // A full inbox loses only the proof of this one call: the next call brings it again.
                    if !self.reports.try_send(proof) {
                        self.proven.store(false, Ordering::Relaxed);
                    }
                }
            }
            // Law 15: throttling says nothing about health, and neither do our credentials.
            Err(Miss::NotSent(Cut::Ended(failure)) | Miss::Lost(Cut::Ended(failure)))
                if failure.kind.is_a_wait() || failure.kind == FailureKind::NeedsLogin => {}
            // Nobody listens there any more: that is the end of this connection, and the driver opens the next one.
            Err(Miss::NotSent(Cut::Ended(failure)))
                if matches!(self.link, Link::Http(_) | Link::Sse(_)) =>
            {
                self.unreachable(failure);
            }
            Err(Miss::Lost(Cut::Idle | Cut::Total | Cut::Ended(_))) => self.suspect.notify_one(),
            Err(Miss::NotSent(_) | Miss::Rejected(_) | Miss::Doubted(_) | Miss::Lost(_)) => {}
        }
    }

    /// Whether this server has been shown credentials of a sign-in.
    fn is_signed_in(&self) -> bool {
        match &self.link {
            Link::Stdio(_) => false,
            Link::Http(link) => link.is_signed_in(),
            Link::Sse(link) => link.http().is_signed_in(),
        }
    }

    /// Reports once that the endpoint cannot be reached or entered, unless the generation has ended anyway.
    fn unreachable(&self, failure: &Failure) {
        if self.failure.get().is_none() && !self.lost_endpoint.swap(true, Ordering::Relaxed) {
            let exited = Input::Exited {
                generation: self.generation,
                failure: failure.clone(),
            };
            if !self.reports.try_send(exited) {
                self.lost_endpoint.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Reports the loss of the session once, however many calls meet it (law 26, F108).
    pub(crate) fn session_lost(&self) {
        if !self.lost_session.swap(true, Ordering::Relaxed)
            && !self.reports.try_send(Input::SessionLost {
                generation: self.generation,
            })
        {
            self.lost_session.store(false, Ordering::Relaxed);
        }
    }

    /// Whether an answer says that a call's headers do not go with the server's schema: it was refused before it ran, and
    /// a new listing tells what it should have looked like (F136).
    pub(crate) fn wants_other_headers(&self, method: &str, answer: &Message) -> bool {
        answer.kind() == Kind::Error
            && method == method::TOOLS_CALL
            && self.speaks_modern_http()
            && answer
                .member(&["error", "code"])
                .and_then(|code| code.parse().ok())
                == Some(codes::HEADER_MISMATCH)
    }

    /// Has the catalog listed anew and waits for it, at most until `deadline`. Many callers at once share one listing.
    /// Cancel-safe; `false`: it did not come in time, or this generation has ended.
    pub(crate) async fn list_anew(&self, deadline: Instant) -> bool {
        let mark = self.dirty.doubt();
        tokio::select! {
            // Cancel-safe: level-triggered.
            listed = tokio::time::timeout_at(deadline, self.dirty.is_listed(mark)) => listed.is_ok(),
            // Cancel-safe: a token holds nothing.
            () = self.ended.cancelled() => false,
        }
    }

    /// Whether requests travel with routing headers.
    pub(crate) fn speaks_modern_http(&self) -> bool {
        matches!(self.link, Link::Http(_)) && self.era() == Era::Modern
    }

    /// Hands a response from the shared stream to whoever waits for it; a late one is counted and dropped (law 18).
    pub(crate) fn respond(&self, message: Message) {
        let known = message
            .id()
            .and_then(Id::as_u64)
            .is_some_and(|id| self.waiters.answer(id, message));
        if !known {
            self.counters.late_answer();
        }
    }

    /// Tells the call concerned that its answer was refused; `false` when nobody is waiting under that id.
    pub(crate) fn refuse_answer(&self, id: Option<&Id>, why: String) -> bool {
        id.and_then(Id::as_u64)
            .is_some_and(|id| self.waiters.cut(id, Cut::AnswerRefused(why.into())))
    }
}

/// What of a request's course is wanted, and by whom.
struct Hearing {
    /// Ask the server for progress.
    token: bool,
    /// Who listens, to progress and everything else; without, progress only shows that the call lives.
    party: Party,
}

/// Sees to it that an exchange that is dropped or cut short leaves no waiter and cancels the server's work.
struct Guard<'a> {
    runtime: &'a Runtime,
    id: u64,
    mark: &'a CallMark,
    cancel: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.runtime.waiters.forget(self.id);
        self.runtime.one_candidate_less();
        // Closing the stream is the cancellation of the modern HTTP transport; everywhere else it takes a notice. It is
        // best effort by nature, so a full queue only costs the server some work.
        let by_notice =
            !matches!(self.runtime.link, Link::Http(_)) || self.runtime.era() == Era::Legacy;
        if self.cancel && by_notice && self.mark.abandon_was_sent() {
            let params = format!(
                "{{\"requestId\":{},\"reason\":\"no longer wanted\"}}",
                self.id
            );
            self.runtime
                .say(Message::notification(method::CANCELLED, Some(&params)));
        }
    }
}

fn not_sent(failure: Failure) -> Miss {
    Miss::NotSent(Cut::Ended(failure))
}
