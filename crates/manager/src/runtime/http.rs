//! Streamable HTTP towards a server: one POST per message, JSON or SSE answers, sessions, the push stream.
//!
//! This is a link, not a policy: it never reconnects a session, never re-sends a request and never decides whether the
//! server is healthy. It says what happened, typed, and the layers above decide. One link is one generation: its session
//! never changes, so a late DELETE cannot hit a successor (F113).
//!
//! Where the parts are: `client` moves HTTP messages, `face` knows our headers, `stream` reads events, `answer` turns a
//! response into an answer, `verdict` judges what is no answer, `greet` finds out the era, `push` and `listen` hold the push
//! stream of either era, `old` is what the HTTP+SSE transport of 2024 shares with this one, `session` asks a session whether
//! it lives, `jar` keeps its cookies, `route` is the way to the server (proxy, certificates), `lookup` finds its addresses,
//! `pause` remembers hosts that asked to be left alone, `secrets` keeps what the entry says out of every message.

mod answer;
mod body;
mod client;
mod direct;
mod face;
mod greet;
mod jar;
mod listen;
mod lookup;
mod old;
mod pause;
mod push;
pub(crate) mod reach;
mod reread;
pub(crate) mod route;
mod secrets;
mod session;
mod stream;
mod verdict;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue, Method, Response};
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_wire::envelope::{Limits, Message};
use mainstay_wire::revision::Era;
use mainstay_wire::splice::Parts;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::body::{InBody, Payload};
use self::client::{Client, Target};
use self::face::Face;
use self::jar::Jar;
use self::lookup::Lookup;
pub(crate) use self::old::{HandedIn, Heard, NoStream, OldStream};
use self::reread::Renewal;
use self::verdict::{Asked, Verdict};
use super::{Cut, Inbound, Miss, Origin, Outgoing};
use crate::auth::{Credentials, Judged};
use crate::wire_log::Way;

// What a test names that drives a link by itself.
#[doc(hidden)]
pub use self::{lookup::Resolver, pause::Pauses, pause::Window, reread::Reread, route::Route};
#[doc(hidden)]
pub use super::{era::EraHint, greeting::Greeting, waiters::CallMark};

/// How long a notification or an answer to the server may take.
const NOTIFY: Duration = Duration::from_secs(10);

/// How long the DELETE of a session may take (F112).
const DELETE: Duration = Duration::from_secs(5);

/// How long the rest of a response body may take until its connection is given up (F82).
const DRAIN: Duration = Duration::from_secs(1);

/// How much of a body is read only to keep its connection usable.
const DRAIN_BYTES_MAX: usize = 64 * 1024;

/// What a link needs to know. No `Debug`: it holds secrets (law 31).
pub struct HttpSetup {
    /// The endpoint, `http` or `https`.
    pub url: String,
    /// Headers of the config, references resolved. They may be secrets: no error and no log shows them (law 31).
    pub headers: Vec<(String, String)>,
    /// Limits on every message that arrives.
    pub limits: Limits,
    /// How long a TCP (and TLS) connection may take, in milliseconds. Default of the config: 10,000.
    pub connect_ms: u64,
    /// A push stream without a single byte for this long, in milliseconds, is opened anew (F124). Default of the config:
    /// 300,000.
    pub push_idle_ms: u64,
    /// Through which proxy, and with whose certificates.
    pub route: Route,
    /// Which hosts asked to be left alone; shared by all links (F102).
    pub pauses: Arc<Pauses>,
    /// How long this server may ask to be left alone.
    pub window: Window,
    /// What is shown where the entry itself names no credentials; `None`: nothing.
    pub credentials: Option<Credentials>,
    /// Looks up anew what `headers` are, where they refer to something that is kept elsewhere; `None`: they do not.
    pub reread: Option<Reread>,
    /// Stands in for the operating system where names are looked up; `None` outside of tests.
    pub resolver: Option<Resolver>,
}

impl HttpSetup {
    /// A link to a URL, everything else as usual: no headers, 10 s to connect, pauses of its own.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
            limits: Limits::default(),
            connect_ms: 10_000,
            push_idle_ms: 300_000,
            route: Route::default(),
            pauses: Arc::default(),
            window: Window::default(),
            credentials: None,
            reread: None,
            resolver: None,
        }
    }
}

/// Why a push stream is no longer held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushEnd {
    /// The server offers none: changes have to be found another way. Nothing is wrong (F96, F97, F131).
    Unsupported,
    /// The server has one and does not let us have it: several attempts were answered with 401 or 403.
    Refused,
    /// The session is gone (F111).
    SessionLost,
}

/// How the push stream is doing, at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushStage {
    /// Open: these listings are told when they change.
    Open {
        /// Tools.
        tools: bool,
        /// Prompts.
        prompts: bool,
        /// Resources and their templates.
        resources: bool,
    },
    /// Closed, in the ordinary way of things, and about to be opened again.
    Reopening,
    /// Tried several times in a row without anything coming of it; it is tried again, less and less often (F117).
    Degraded,
}

/// Whoever holds a push stream hears about its state.
pub trait PushWatch: Send + Sync {
    /// Notifications may have been missed: list again (F123, F130).
    fn gap(&self);
    /// The stream's state changed. Called once per change or attempt; never blocks.
    fn stage(&self, stage: PushStage);
}

/// The connection to one streamable HTTP endpoint, for one generation.
pub struct HttpLink {
    target: Target,
    /// POST and DELETE.
    calls: Client,
    /// Streams that stay open have their own pool, so that no call ever waits behind one (F81).
    streams: Client,
    limits: Limits,
    /// What we say in headers before anything is agreed.
    bare: Face,
    /// What we say in headers now; changes only while greeting.
    face: ArcSwap<Face>,
    /// Affinity cookies (F107).
    jar: Jar,
    /// Set once the session is known to be gone. A session never comes back.
    gone: OnceCell<()>,
    push_idle: Duration,
    pauses: Arc<Pauses>,
    window: Window,
    /// Asked anew with every send: what is good changes while a generation lives.
    credentials: Option<Credentials>,
    /// Newer values of the config's own headers.
    renewal: Renewal,
    /// `initialize` was refused in a way that an HTTP+SSE server would.
    unserved: AtomicBool,
    /// The capabilities and the info object of a legacy greeting; without, nothing and our own.
    declared: OnceLock<(String, String)>,
    drains: TaskTracker,
    closing: CancellationToken,
}

impl fmt::Debug for HttpLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and the query of the URL may hold secrets (law 31).
        f.debug_struct("HttpLink")
            .field("target", &self.target.place())
            .finish_non_exhaustive()
    }
}

impl HttpLink {
    /// Prepares a link. Opens no connection.
    ///
    /// # Errors
    /// `BadConfig` for a URL that is not `http` or `https`, a header that HTTP forbids, or a proxy or a file of certificates
    /// that cannot be used; `Internal` if no TLS client can be made on this machine.
    pub fn new(setup: HttpSetup) -> Result<Self, Failure> {
        let mut target = Target::parse(&setup.url)?;
        let connect = Duration::from_millis(setup.connect_ms);
        let bare = Face::bare(&setup.headers, target.basic())?;
        target.hide(&setup.headers, setup.route.proxy.as_deref());
        let lookup = Lookup::new(setup.resolver);
        let client = || Client::new(&target, &setup.route, &lookup, connect);
        Ok(Self {
            calls: client()?,
            streams: client()?,
            target,
            limits: setup.limits,
            pauses: setup.pauses,
            window: setup.window,
            credentials: setup.credentials,
            renewal: Renewal::new(setup.reread, &setup.headers),
            face: ArcSwap::from_pointee(bare.clone()),
            bare,
            unserved: AtomicBool::new(false),
            declared: OnceLock::new(),
            jar: Jar::default(),
            gone: OnceCell::new(),
            push_idle: Duration::from_millis(setup.push_idle_ms),
            drains: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    /// Sets the capabilities object that a legacy greeting declares, and the info object of whom it introduces. Once per
    /// link, before it is greeted.
    pub(crate) fn declare(&self, capabilities: String, info: String) {
        let _ = self.declared.set((capabilities, info));
    }

    /// Whom a greeting introduces.
    fn introduced(&self) -> String {
        let declared = self.declared.get();
        declared.map_or_else(super::greeting::our_info, |(_, info)| info.clone())
    }

    fn declared(&self) -> &str {
        self.declared
            .get()
            .map_or(super::greeting::OUR_CAPABILITIES, |(capabilities, _)| {
                capabilities
            })
    }

    /// Whether the server was told that it may ask us something.
    pub(crate) fn declares_something(&self) -> bool {
        self.declared() != super::greeting::OUR_CAPABILITIES
    }

    /// Finds out the server's era and greets it (modern: `server/discover`, legacy: `initialize` and
    /// `notifications/initialized`). Has no deadline of its own beyond `probe_ms` for the probe: the caller bounds it.
    /// Dropping it leaves at most a session that expires on the server; initialize is never cancelled by notice (F39).
    ///
    /// # Errors
    /// The failure of the era that the server turned out to speak. An unreachable server is an outage and no verdict.
    pub async fn greet(
        &self,
        ids: &AtomicU64,
        hint: EraHint,
        probe_ms: u64,
        inbound: &dyn Inbound,
    ) -> Result<Greeting, Failure> {
        let inbound = Discreet {
            inbound,
            target: &self.target,
        };
        greet::greet(self, ids, hint, Duration::from_millis(probe_ms), &inbound)
            .await
            .map_err(|failure| self.told(failure))
    }

    /// When the pause of this host ends, if it asked for one (F102).
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.pauses.until(self.target.origin())
    }

    /// Waits until the host has no pause. Cancel-safe.
    pub(crate) async fn unpaused(&self) {
        self.pauses.over(self.target.origin()).await;
    }

    /// Whether the server has been shown credentials of a sign-in.
    pub(crate) fn is_signed_in(&self) -> bool {
        let credentials = self.credentials.as_ref();
        credentials.is_some_and(Credentials::have_been)
    }

    /// Whether somebody is fetching a token at this moment.
    pub(crate) fn waits_for_token(&self) -> bool {
        self.credentials
            .as_ref()
            .is_some_and(Credentials::is_waiting)
    }

    /// Waits until there is a token to show, or none is known to be needed. Cancel-safe.
    ///
    /// # Errors
    /// There is no good token.
    pub(crate) async fn ready(&self) -> Result<(), Failure> {
        match &self.credentials {
            Some(credentials) => credentials.ready().await,
            None => Ok(()),
        }
    }

    /// Bounds what the server may take. The time that its authorization server takes does not count: that has a bound of its
    /// own (F205).
    async fn bounded<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, tokio::time::error::Elapsed> {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(limit, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) if self.waits_for_token() => {}
                Err(elapsed) => return Err(elapsed),
            }
        }
    }

    /// A failure as it may be shown: without secrets, and with the pause that is in force.
    pub(crate) fn told(&self, mut failure: Failure) -> Failure {
        if failure.kind == FailureKind::NeedsLogin
            && let Some(credentials) = &self.credentials
        {
            // What the server said is plain; what we have done about it is not.
            failure = credentials.explain();
        }
        if let Some(detail) = &failure.detail {
            failure.detail = Some(self.target.scrub(detail).into());
        }
        if failure.kind == FailureKind::RateLimited
            && let Some(until) = self.paused_until()
        {
            failure = failure.with_retry_after_ms(left_ms(until));
        }
        failure
    }

    fn told_miss(&self, miss: Miss) -> Miss {
        let cut = |cut| match cut {
            Cut::Ended(failure) => Cut::Ended(self.told(failure)),
            Cut::AnswerRefused(why) => Cut::AnswerRefused(self.target.scrub(&why).into()),
            Cut::Cancelled(why) => Cut::Cancelled(self.target.scrub(&why).into()),
            Cut::Idle | Cut::Total => cut,
        };
        match miss {
            Miss::NotSent(why) => Miss::NotSent(cut(why)),
            Miss::Rejected(failure) => Miss::Rejected(self.told(failure)),
            Miss::Doubted(failure) => Miss::Doubted(self.told(failure)),
            Miss::Lost(why) => Miss::Lost(cut(why)),
        }
    }

    /// Sends one request and waits for its answer, without any limit in time: deadlines are the caller's (law 17).
    ///
    /// Dropping it closes the connection or stream of this exchange, which cancels the request in the modern era (F142).
    /// While the host has a pause nothing is sent: the failure says for how long (F103).
    ///
    /// # Errors
    /// [`Miss`], which says whether the request can have run.
    pub async fn exchange(
        &self,
        outgoing: Outgoing,
        inbound: &dyn Inbound,
    ) -> Result<Message, Miss> {
        let face = self.face.load_full();
        let asked = self.asked(&face, outgoing.id);
        let payload = Payload::of(outgoing.parts);
        let routing = Routing {
            method: &outgoing.method,
            name: outgoing.name.as_deref(),
            params: &outgoing.params,
        };
        let response = match self
            .post(&face, routing, &payload, Some(&outgoing.mark))
            .await
        {
            Ok(response) => response,
            // The mark knows whether the first byte was written: a failed connect sent nothing.
            Err(failure) => return Err(outgoing.mark.cut(Cut::Ended(self.told(failure)))),
        };
        let inbound = Discreet {
            inbound,
            target: &self.target,
        };
        let answered = answer::read(self, &face, &asked, response, &inbound)
            .await
            .and_then(session::still_agreed);
        self.note_lost(&answered);
        answered.map_err(|miss| self.told_miss(miss))
    }

    /// Sends a notification, or our answer to a request of the server. Bounded by 10 seconds. Cancel-safe: dropping it
    /// leaves it undecided whether it arrived.
    ///
    /// # Errors
    /// The failure to deliver it; a 404 is not treated as a lost session here, the next call will meet it.
    pub async fn notify(&self, message: Message) -> Result<(), Failure> {
        let face = self.face.load_full();
        self.tell(&face, message)
            .await
            .map_err(|failure| self.told(failure))
    }

    /// Holds the server's push stream until dropped, reconnecting with its own pace (F115 to F118, F123, F127).
    ///
    /// Every message goes to `inbound`; `watch` hears how the stream is doing. Resuming the answer to a request is another
    /// matter, and goes on whether or not this is held (F119). Cancel-safe: dropping it closes the stream.
    pub async fn push(
        &self,
        greeting: &Greeting,
        inbound: &dyn Inbound,
        watch: &dyn PushWatch,
    ) -> PushEnd {
        let inbound = &Discreet {
            inbound,
            target: &self.target,
        };
        let ended = match greeting.revision.era() {
            Era::Modern => listen::listen(self, greeting, inbound, watch).await,
            Era::Legacy => push::get(self, inbound, watch).await,
        };
        if ended == PushEnd::SessionLost {
            let _ = self.gone.set(());
        }
        ended
    }

    /// Ends the session on the server, if there is one, and everything that runs for this link. A session that was called
    /// gone is ended too: it may live on at another replica, or behind a proxy that spoke for the server, and would leak
    /// there (F112). The DELETE carries this link's own id, never a successor's (F113). Bounded by 5 seconds; its failure
    /// is only logged (law 4).
    pub async fn close(&self) {
        self.closing.cancel();
        self.drains.close();
        let face = self.face.load_full();
        if face.session().is_some() {
            let deleting = self.send(
                &self.calls,
                Method::DELETE,
                || face.for_delete(),
                &Payload::Empty,
                None,
            );
            match tokio::time::timeout(DELETE, deleting).await {
                Ok(Ok(response)) => {
                    tracing::debug!(
                        place = self.target.place(),
                        status = response.status().as_u16(),
                        "session deleted"
                    );
                }
                Ok(Err(failure)) => {
                    tracing::debug!(place = self.target.place(), %failure, "session not deleted")
                }
                Err(_elapsed) => {
                    tracing::debug!(place = self.target.place(), "session not deleted in time")
                }
            }
        }
        // Each drain ends at once when `closing` is cancelled.
        self.drains.wait().await;
    }

    /// The legacy session id, once the server gave one.
    #[must_use]
    pub fn session(&self) -> Option<String> {
        self.face.load().session().map(str::to_owned)
    }

    fn asked(&self, face: &Face, id: u64) -> Asked {
        Asked {
            id: Some(id),
            session: face.session().is_some(),
            modern: face.is_modern(),
            limits: self.limits,
        }
    }

    fn note_lost(&self, answered: &Result<Message, Miss>) {
        if let Err(
            Miss::Rejected(failure) | Miss::Doubted(failure) | Miss::Lost(Cut::Ended(failure)),
        ) = answered
            && failure.kind == FailureKind::SessionLost
        {
            let _ = self.gone.set(());
        }
    }

    /// Delivers a message that has no answer.
    async fn tell(&self, face: &Face, message: Message) -> Result<(), Failure> {
        let asked = Asked {
            id: None,
            ..self.asked(face, 0)
        };
        let method = message.method().unwrap_or_default().to_owned();
        let routing = Routing {
            method: &method,
            name: None,
            params: &[],
        };
        let payload = Payload::of(Parts::from(message));
        let telling = async {
            // A short pause is waited for; a longer one is told at once.
            if self
                .paused_until()
                .is_some_and(|until| u128::from(left_ms(until)) < NOTIFY.as_millis())
            {
                self.unpaused().await;
            }
            let response = self.post(face, routing, &payload, None).await?;
            let (head, body) = response.into_parts();
            if head.status.is_success() {
                self.drain(body);
                return Ok(());
            }
            let said = body::collect_some(body).await;
            match verdict::judge(&self.target, head.status, &head.headers, said, &asked) {
                Verdict::Rejected(failure)
                | Verdict::Doubted(failure)
                | Verdict::Suspected(failure)
                | Verdict::Lost(failure) => Err(failure),
                Verdict::Answer(error) => Err(verdict::error_failure(&error)),
            }
        };
        tokio::time::timeout(NOTIFY, telling)
            .await
            .unwrap_or_else(|_elapsed| {
                Err(Failure::new(FailureKind::StreamClosed).with_detail(format!(
                    "the message was not accepted within {} ms",
                    NOTIFY.as_millis()
                )))
            })
    }

    async fn post(
        &self,
        face: &Face,
        routing: Routing<'_>,
        payload: &Payload,
        mark: Option<&Arc<CallMark>>,
    ) -> Result<Response<InBody>, Failure> {
        self.send(
            &self.calls,
            Method::POST,
            || face.for_post(routing),
            payload,
            mark,
        )
        .await
    }

    /// Sends one HTTP request and returns the head of its response; the body follows. Follows redirects within the same
    /// origin that keep method and body (F83).
    async fn send(
        &self,
        client: &Client,
        method: Method,
        headers: impl Fn() -> http::HeaderMap,
        payload: &Payload,
        mark: Option<&Arc<CallMark>>,
    ) -> Result<Response<InBody>, Failure> {
        let uri = self.target.uri().clone();
        self.send_to(client, uri, method, headers, payload, mark)
            .await
    }

    /// [`HttpLink::send`] to another address of the same origin.
    async fn send_to(
        &self,
        client: &Client,
        mut uri: http::Uri,
        method: Method,
        headers: impl Fn() -> http::HeaderMap,
        payload: &Payload,
        mark: Option<&Arc<CallMark>>,
    ) -> Result<Response<InBody>, Failure> {
        if std::ptr::eq(client, &self.streams) {
            // Nobody waits for a stream, so it keeps the pause of its host by itself.
            self.unpaused().await;
        } else if let Some(until) = self.paused_until() {
            return Err(self.is_paused(until));
        }
        let mut hops = 0;
        let mut refused = None;
        while hops <= client::REDIRECTS_MAX {
            let mut request = http::Request::new(payload.body(mark));
            *request.method_mut() = method.clone();
            *request.headers_mut() = headers();
            *request.uri_mut() = uri.clone();
            let version = self.renewal.show(request.headers_mut());
            let shown = match &self.credentials {
                None => None,
                Some(credentials) => match credentials.show(request.headers_mut()).await {
                    Ok(shown) => Some((credentials, shown)),
                    // The refusal at hand says that the request was not run; a failure here would leave that open.
                    Err(failure) => return refused.ok_or(failure),
                },
            };
            self.jar.give(request.headers_mut());
            let response = client.send(request).await?;
            self.jar.absorb(response.headers());
            self.pauses.note(
                self.target.origin(),
                response.status(),
                response.headers(),
                self.window,
            );
            if let Some((credentials, shown)) = shown {
                let (status, said) = (response.status(), response.headers());
                let judging = credentials.judge(&shown, status, said, refused.is_some());
                // F93: it was refused and not run. Once more with another token, and never a third time.
                if judging.await == Judged::Again {
                    if let Some(former) = refused.replace(response) {
                        self.drain(former.into_body());
                    }
                    continue;
                }
            }
            // The same for what the entry itself names, where that is kept elsewhere and another value is there by now.
            let is_first = response.status() == http::StatusCode::UNAUTHORIZED && refused.is_none();
            if is_first && Box::pin(self.renewal.refused(version)).await? {
                refused = Some(response);
                continue;
            }
            match self.target.next_hop(&response, &uri) {
                Some(next) => {
                    self.drain(response.into_body());
                    uri = next;
                    hops += 1;
                }
                None => {
                    if let Some(former) = refused {
                        self.drain(former.into_body());
                    }
                    return Ok(response);
                }
            }
        }
        Err(Failure::new(FailureKind::NotMcp).with_detail(format!(
            "more than {} redirects from {}",
            client::REDIRECTS_MAX,
            self.target.place()
        )))
    }

    fn is_paused(&self, until: Instant) -> Failure {
        let wait_ms = left_ms(until);
        Failure::new(FailureKind::RateLimited)
            .with_detail(format!(
                "{} asked to be left alone for another {wait_ms} ms",
                self.target.origin()
            ))
            .with_retry_after_ms(wait_ms)
    }

    /// Reads the rest of a body in the background, so that its connection can be used again (F82).
    fn drain(&self, mut body: InBody) {
        if body.is_done() || self.closing.is_cancelled() {
            return;
        }
        let closing = self.closing.clone();
        self.drains.spawn(async move {
            let reading = async {
                let mut bytes = 0;
                while let Some(Ok(chunk)) = body.chunk().await {
                    bytes += chunk.len();
                    if bytes > DRAIN_BYTES_MAX {
                        break;
                    }
                }
            };
            tokio::select! {
                // Cancel-safe: whatever is not read is thrown away with its connection.
                _ = tokio::time::timeout(DRAIN, reading) => {}
                // Cancel-safe: a token holds nothing.
                () = closing.cancelled() => {}
            }
        });
    }
}

/// Hands everything on, and hides secrets in what goes to a log (law 31).
struct Discreet<'a> {
    inbound: &'a dyn Inbound,
    target: &'a Target,
}

impl Inbound for Discreet<'_> {
    fn receive(&self, message: Message, from: Origin) {
        self.inbound.receive(message, from);
    }

    fn life(&self) {
        self.inbound.life();
    }

    fn skipped(&self, what: &'static str, sample: &str) {
        self.inbound.skipped(what, &self.target.scrub(sample));
    }

    fn crossed(&self, way: Way, text: &Parts) {
        self.inbound.crossed(way, text);
    }
}

/// How long until then, in milliseconds, rounded up: nobody comes back too early.
fn left_ms(until: Instant) -> u64 {
    let left = until.saturating_duration_since(Instant::now());
    u64::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// What the modern era repeats of a request in its headers.
#[derive(Debug, Clone, Copy)]
struct Routing<'a> {
    method: &'a str,
    /// Plain text; encoded when the header is written.
    name: Option<&'a str>,
    /// Annotated arguments of a tool call and the trace that it is part of, as headers ready to be written.
    params: &'a [(HeaderName, HeaderValue)],
}
