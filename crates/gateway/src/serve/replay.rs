//! Streams of legacy sessions that can be resumed: event ids, a bounded memory of what was said, and its replay.
//!
//! Only answers that have become streams come here; a plain JSON answer costs nothing of this. In the legacy era a
//! disconnect is no cancellation: when a client goes away, the stream of its call is driven on by a task, and what it says
//! is kept for a resume (`Last-Event-ID`), for a bounded time, number and size. What was not kept is told honestly: a
//! comment names the gap, and if the answer itself is lost, the call is answered with an error that says so. An event id
//! names its stream and the request that the stream answers, so that this holds even after a restart of Mainstay.
//!
//! Events are opaque here: what they say is for whoever made the stream.

mod log;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{Stream, StreamExt, stream};
use mainstay_wire::{Id, Parts};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::log::{Found, Logs};
use super::GatewaySettings;
use super::body::TextStream;
use super::events;
use super::fault::{Fault, OUTCOME_UNKNOWN};

/// How long a client waits before it resumes a broken stream, in milliseconds. What the known clients do anyway.
const RETRY_MS: u64 = 1_000;
/// Longest request id that an event id carries, in bytes of its JSON text.
const REQUEST_BYTES_MAX: usize = 128;

/// What replay may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplayLimits {
    /// Events kept for one session.
    pub(crate) events_max: usize,
    /// Their bytes.
    pub(crate) bytes_max: usize,
    /// Bytes kept for all sessions together.
    pub(crate) total_bytes_max: usize,
    /// How long they are kept after their stream has ended or lost its client, in milliseconds.
    pub(crate) keep_ms: u64,
    /// A resumed stream says something after this long, in milliseconds.
    pub(crate) keep_alive_ms: u64,
}

impl From<&GatewaySettings> for ReplayLimits {
    fn from(settings: &GatewaySettings) -> Self {
        Self {
            events_max: settings.replay_events_max,
            bytes_max: settings.replay_bytes_max,
            total_bytes_max: settings.replay_total_bytes_max,
            keep_ms: settings.replay_keep_ms,
            keep_alive_ms: settings.keep_alive_ms,
        }
    }
}

/// What the streams of all sessions share.
#[derive(Debug)]
pub(crate) struct Common {
    limits: ReplayLimits,
    /// Bytes kept now.
    bytes: AtomicUsize,
    /// Where streams are driven whose clients are gone.
    tasks: TaskTracker,
    /// Ends resumed streams.
    ending: CancellationToken,
    /// Ends those tasks.
    hurry: CancellationToken,
    /// Tells the ids of this process from those of former ones.
    boot: u64,
}

impl Common {
    /// Streams within `limits`, driven in `tasks` until `hurry`.
    pub(crate) fn new(
        limits: ReplayLimits,
        tasks: TaskTracker,
        ending: CancellationToken,
        hurry: CancellationToken,
    ) -> Self {
        Self {
            limits,
            bytes: AtomicUsize::new(0),
            tasks,
            ending,
            hurry,
            boot: super::sessions::unix_ms(),
        }
    }
}

impl Default for Common {
    fn default() -> Self {
        let token = CancellationToken::new;
        let limits = ReplayLimits::from(&GatewaySettings::default());
        Self::new(limits, TaskTracker::new(), token(), token())
    }
}

/// Where the events of a call come from, shared by the connection that began and by whoever takes over.
#[derive(Default)]
struct Source(Mutex<Taps>);

#[derive(Default)]
struct Taps {
    texts: Option<TextStream>,
    /// Who waits for the next event on the first connection; woken when somebody else takes the stream.
    waiting: Option<Waker>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Source {
    fn of(texts: TextStream) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Taps {
            texts: Some(texts),
            waiting: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Taps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left of the stream, if nobody has it yet. Its first connection then ends.
    fn take(&self) -> Option<TextStream> {
        let mut taps = self.lock();
        let texts = taps.texts.take();
        let waiting = taps.waiting.take();
        drop(taps);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        texts
    }
}

/// The streams of one session.
#[derive(Debug)]
pub(crate) struct Replay {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    common: Arc<Common>,
    /// The client knows priming events.
    primed: bool,
    /// The streams of this session cannot be resumed: the session ends with its connection.
    off: AtomicBool,
    logs: Mutex<Logs>,
    ended: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let logs = self.logs.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.common.bytes.fetch_sub(logs.bytes(), Ordering::Relaxed);
    }
}

/// What a client asked for that resumes.
pub(crate) enum Resume {
    /// The stream of a call: what it missed, and what is still to come.
    Call(TextStream),
    /// A push stream: to be continued by [`Replay::push`].
    Push(PushPosition),
}

/// Where a push stream was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PushPosition {
    stream: u64,
    seq: u64,
    known: bool,
}

/// An event id, read.
#[derive(Debug, PartialEq, Eq)]
struct EventId {
    boot: u64,
    stream: u64,
    seq: u64,
    /// The request that the stream answers; none for a push stream.
    request: Option<RequestPart>,
}

#[derive(Debug, PartialEq, Eq)]
enum RequestPart {
    Known(Id),
    /// It was too long, or there are several.
    Unknown,
}

impl EventId {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '.');
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let (boot, stream, seq) = (number()?, number()?, number()?);
        let request = match parts.next()? {
            "push" => None,
            "call" => Some(RequestPart::Unknown),
            call => {
                let id = URL_SAFE_NO_PAD.decode(call.strip_prefix("call.")?).ok()?;
                let id = Id::from_raw(std::str::from_utf8(&id).ok()?)?;
                Some(RequestPart::Known(id))
            }
        };
        Some(Self {
            boot,
            stream,
            seq,
            request,
        })
    }
}

/// The end of the event ids of a stream.
fn suffix(request: &RequestPart) -> Arc<str> {
    match request {
        RequestPart::Known(id) => format!("call.{}", URL_SAFE_NO_PAD.encode(id.raw())).into(),
        RequestPart::Unknown => "call".into(),
    }
}

impl Replay {
    /// No streams yet. `primed`: the client is of a revision that knows priming events. `ended`: the session has ended.
    pub(crate) fn new(common: Arc<Common>, primed: bool, ended: CancellationToken) -> Self {
        Self {
            inner: Arc::new(Inner {
                common,
                primed,
                off: AtomicBool::new(false),
                logs: Mutex::default(),
                ended,
            }),
        }
    }

    /// From now on streams get no ids and nothing is kept: the session ends with its connection.
    pub(crate) fn off(&self) {
        self.inner.off.store(true, Ordering::Relaxed);
    }

    /// Makes the stream of a call resumable. `request` is the client's id of the call, none if the stream answers several;
    /// items are whole events or comments.
    /// When what is returned is dropped before its end, `texts` is driven to its end by a task, until the gateway ends;
    /// comments are then dropped. Needs a runtime for that.
    pub(crate) fn wrap(&self, request: Option<&Id>, texts: TextStream) -> TextStream {
        if self.inner.off.load(Ordering::Relaxed) {
            return texts;
        }
        let suffix = suffix(&match request {
            Some(id) if id.raw().len() <= REQUEST_BYTES_MAX => RequestPart::Known(id.clone()),
            Some(_) | None => RequestPart::Unknown,
        });
        let source = Source::of(texts);
        let number = self.inner.with(|logs| logs.open(Some(Arc::clone(&source))));
        Tapped {
            first: self.inner.priming(number, &suffix),
            session: Arc::clone(&self.inner),
            held: None,
            stream: number,
            suffix,
            source,
            survives: true,
        }
        .boxed()
    }

    /// Makes a push stream resumable, as the continuation of a former one if there is one. When it is dropped, `texts` is
    /// dropped too: what happens while nobody listens is for whoever makes the next one.
    pub(crate) fn push(&self, texts: TextStream, from: Option<PushPosition>) -> TextStream {
        if self.inner.off.load(Ordering::Relaxed) {
            return texts;
        }
        let suffix: Arc<str> = "push".into();
        let mut missed = Vec::new();
        let known = from.filter(|from| from.known);
        let number = self.inner.with(|logs| match known {
            Some(from) if logs.reopen(from.stream) => {
                let (gap, texts) = logs.since(from.stream, from.seq);
                missed.extend(gap.then(gap_comment));
                missed.extend(texts);
                from.stream
            }
            Some(_) | None => {
                missed.extend(from.map(|_lost| gap_comment()));
                logs.open(None)
            }
        });
        let live = Tapped {
            first: self.inner.priming(number, &suffix),
            session: Arc::clone(&self.inner),
            held: None,
            stream: number,
            suffix,
            source: Source::of(texts),
            survives: false,
        };
        stream::iter(missed).chain(live).boxed()
    }

    /// What a `Last-Event-ID` stands for. Nothing but the stream it names is ever replayed. `None`: it is not one of ours.
    pub(crate) fn resume(&self, last_event_id: &str) -> Option<Resume> {
        let id = EventId::read(last_event_id)?;
        let is_ours = id.boot == self.inner.common.boot;
        let Some(request) = id.request else {
            return Some(Resume::Push(PushPosition {
                stream: id.stream,
                seq: id.seq,
                known: is_ours,
            }));
        };
        let attached = is_ours
            .then(|| self.inner.lock().attach(id.stream))
            .flatten();
        let Some(attached) = attached else {
            return Some(Resume::Call(lost_stream(&request)));
        };
        // The first connection may be broken without anybody having noticed, and would then never ask for more.
        if let Some(texts) = attached.source.take() {
            Inner::drive(&self.inner, id.stream, suffix(&request), texts);
        }
        let reader = Reader {
            session: Arc::clone(&self.inner),
            stream: id.stream,
            after: id.seq,
            ticket: attached.ticket,
            changed: attached.changed,
            request,
            over: false,
        };
        Some(Resume::Call(reader.into_stream()))
    }

    /// Forgets what has been kept for long enough.
    pub(crate) fn sweep(&self) {
        let keep = Duration::from_millis(self.inner.common.limits.keep_ms);
        self.inner.with(|logs| logs.expire(Instant::now(), keep));
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is kept, and the account of all sessions with it.
    fn with<T>(&self, change: impl FnOnce(&mut Logs) -> T) -> T {
        let mut logs = self.lock();
        let before = logs.bytes();
        let changed = change(&mut logs);
        let after = logs.bytes();
        drop(logs);
        self.common.bytes.fetch_add(after, Ordering::Relaxed);
        self.common.bytes.fetch_sub(before, Ordering::Relaxed);
        changed
    }

    /// Goes on with a stream whose client is gone, or has come back elsewhere.
    fn drive(session: &Arc<Self>, stream: u64, suffix: Arc<str>, mut texts: TextStream) {
        if tokio::runtime::Handle::try_current().is_err() {
            session.finish(stream);
            return;
        }
        let session = Arc::clone(session);
        let hurry = session.common.hurry.clone();
        session.common.tasks.clone().spawn(async move {
            let driven = async {
                while let Some(text) = texts.next().await {
                    drop(session.tap(stream, &suffix, text));
                }
            };
            tokio::select! {
                // Cancel-safe: the stream is polled by nobody else, and dropped with this task.
                () = driven => {}
                // Cancel-safe: a token holds nothing.
                () = hurry.cancelled() => {}
            }
            session.finish(stream);
        });
    }

    fn id(&self, stream: u64, seq: u64, suffix: &str) -> String {
        format!("id: {:x}.{stream:x}.{seq:x}.{suffix}\n", self.common.boot)
    }

    /// The event that gives a stream its first id, for clients that know such events. Nothing can be missed before it.
    fn priming(&self, stream: u64, suffix: &str) -> Option<Parts> {
        self.primed.then(|| {
            let seq = self.lock().last_seq(stream);
            let id = self.id(stream, seq, suffix);
            Parts::from(format!("{id}retry: {RETRY_MS}\ndata: \n\n"))
        })
    }

    /// Gives an event its id and keeps it. Comments stay as they are.
    fn tap(&self, stream: u64, suffix: &str, text: Parts) -> Parts {
        if is_comment(&text) {
            return text;
        }
        let limits = &self.common.limits;
        let all = self.common.bytes.load(Ordering::Relaxed);
        self.with(|logs| {
            let Some(seq) = logs.next_seq(stream) else {
                // It had to make room for newer streams.
                return text;
            };
            let mut event = Parts::from(self.id(stream, seq, suffix));
            event.append(text);
            let others = all.saturating_sub(logs.bytes());
            let bytes_max = limits.total_bytes_max.saturating_sub(others);
            let bytes_max = bytes_max.min(limits.bytes_max);
            logs.keep(stream, seq, event.clone(), limits.events_max, bytes_max);
            event
        })
    }

    fn finish(&self, stream: u64) {
        self.lock().finish(stream, Instant::now());
    }
}

/// A stream whose events are kept as they pass.
struct Tapped {
    session: Arc<Inner>,
    stream: u64,
    suffix: Arc<str>,
    /// The priming event, until it was said.
    first: Option<Parts>,
    /// What came while it was said.
    held: Option<Parts>,
    source: Arc<Source>,
    /// Whether it goes on without its client.
    survives: bool,
}

impl Stream for Tapped {
    type Item = Parts;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Parts>> {
        let this = self.get_mut();
        if let Some(held) = this.held.take() {
            return Poll::Ready(Some(held));
        }
        // A push stream may be silent for long; a call that has nothing to say at all was cancelled, and has no events.
        if !this.survives
            && let Some(first) = this.first.take()
        {
            return Poll::Ready(Some(first));
        }
        let mut taps = this.source.lock();
        let Some(texts) = taps.texts.as_mut() else {
            return Poll::Ready(None);
        };
        match texts.as_mut().poll_next(cx) {
            Poll::Pending => {
                taps.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            Poll::Ready(Some(text)) => {
                drop(taps);
                let text = this.session.tap(this.stream, &this.suffix, text);
                Poll::Ready(Some(match this.first.take() {
                    Some(first) => {
                        this.held = Some(text);
                        first
                    }
                    None => text,
                }))
            }
            Poll::Ready(None) => {
                let ended = taps.texts.take();
                drop(taps);
                drop(ended);
                this.session.finish(this.stream);
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for Tapped {
    fn drop(&mut self) {
        let Some(texts) = self.source.take() else {
            return;
        };
        if self.survives {
            Inner::drive(&self.session, self.stream, Arc::clone(&self.suffix), texts);
        } else {
            self.session.finish(self.stream);
        }
    }
}

/// A client that has come back to the stream of a call.
struct Reader {
    session: Arc<Inner>,
    stream: u64,
    /// The last event that it has.
    after: u64,
    ticket: u64,
    changed: watch::Receiver<u64>,
    request: RequestPart,
    over: bool,
}

impl Reader {
    fn into_stream(self) -> TextStream {
        stream::unfold(self, |mut reader| async move {
            if reader.over {
                return None;
            }
            let text = reader.next().await?;
            Some((text, reader))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Parts> {
        let keep_alive = Duration::from_millis(self.session.common.limits.keep_alive_ms);
        let silent_until = Instant::now() + keep_alive;
        loop {
            self.changed.mark_unchanged();
            let found = self
                .session
                .lock()
                .read(self.stream, self.ticket, self.after);
            match found {
                Found::Event(seq, text) => {
                    self.after = seq;
                    return Some(text);
                }
                Found::Gap(seq) => {
                    self.after = seq;
                    return Some(gap_comment());
                }
                // The answer is always the last event.
                Found::Lost => {
                    self.over = true;
                    return Some(lost(&self.request));
                }
                Found::End => return None,
                Found::Nothing => {}
            }
            tokio::select! {
                // Cancel-safe: a watch keeps what was not seen; its sender is gone when the stream is forgotten.
                changed = self.changed.changed() => if changed.is_err() {
                    self.over = true;
                    return Some(lost(&self.request));
                },
                // Cancel-safe: tokens and sleeps hold nothing.
                () = self.session.ended.cancelled() => return None,
                () = self.session.common.ending.cancelled() => return None,
                () = tokio::time::sleep_until(silent_until) => return Some(events::comment()),
            }
        }
    }
}

fn is_comment(text: &Parts) -> bool {
    text.iter()
        .next()
        .is_some_and(|first| first.first() == Some(&b':'))
}

fn gap_comment() -> Parts {
    Parts::from(": some events before this are no longer kept\n\n".to_owned())
}

fn lost_stream(request: &RequestPart) -> TextStream {
    let text = lost(request);
    stream::once(std::future::ready(text)).boxed()
}

/// Tells a client that the answer it waits for will never come.
fn lost(request: &RequestPart) -> Parts {
    match request {
        RequestPart::Known(id) => {
            let fault = Fault::new(
                OUTCOME_UNKNOWN,
                "the answer to this request is no longer kept; the request may have run",
            )
            .with(serde_json::json!({ "outcome": "unknown" }));
            events::frame(fault.answer(Some(id)))
        }
        RequestPart::Unknown => gap_comment(),
    }
}

#[cfg(test)]
mod tests;
