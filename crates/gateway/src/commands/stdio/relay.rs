//! The relay itself: what each line of the client becomes.
//!
//! Requests run concurrently, each as one exchange. Notifications and answers of the client keep their order. Nothing
//! here decides about servers: that is Mainstay's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method};
use mainstay_wire::views::{CallView, CancelledView, InitializeResult};
use mainstay_wire::{Id, Kind, Limits, Line, LineDecoder, Message, codes, method};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::asks::Asks;
use super::home::Home;
use super::legacy::{Legacy, Session, State};
use super::notices;
use super::out::Out;
use crate::cli::output::Output;

/// Most requests of the client at the same time.
const IN_FLIGHT_MAX: usize = 1_024;

/// Notifications and answers of the client that wait for their turn; the client waits with one more.
const NOTICES_WAITING_MAX: usize = 256;

/// How much is read from stdin at once.
const READ_BYTES: usize = 64 * 1024;

/// Pauses between the repetitions of a legacy cancellation, which may overtake its request.
const CANCEL_AGAIN_MS: [u64; 5] = [20, 100, 300, 1_000, 3_000];

/// How long the end of the session may take when the client has left.
const DELETE_MAX: Duration = Duration::from_secs(2);

/// One client, and what is known about it.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) home: Home,
    pub(super) out: Out,
    pub(super) legacy: Legacy,
    pub(super) asks: Asks,
    in_flight: Mutex<HashMap<Id, Flight>>,
    /// Requests, and the queue of notices: what is finished before the end.
    calls: TaskTracker,
    /// Streams, which end when the relay does.
    streams: TaskTracker,
    pub(super) leaving: CancellationToken,
    notices: Mutex<Option<mpsc::Sender<Message>>>,
    output: Output,
}

/// One request on its way.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    modern: bool,
    /// The client cancelled it.
    pub(super) unwanted: CancellationToken,
}

impl Relay {
    /// A relay, and the task that delivers notices in their order.
    pub(super) fn start(home: Home, out: Out, output: Output) -> Arc<Self> {
        let (notices, waiting) = mpsc::channel(NOTICES_WAITING_MAX);
        let relay = Arc::new(Self {
            home,
            out,
            legacy: Legacy::new(),
            asks: Asks::default(),
            in_flight: Mutex::new(HashMap::new()),
            calls: TaskTracker::new(),
            streams: TaskTracker::new(),
            leaving: CancellationToken::new(),
            notices: Mutex::new(Some(notices)),
            output,
        });
        relay.calls.spawn(Arc::clone(&relay).deliver(waiting));
        relay
    }

    /// Reads lines until the client closes them. Dropping the future loses what was read of an unfinished line.
    ///
    /// # Errors
    /// Stdin cannot be read.
    pub(super) async fn read(
        self: &Arc<Self>,
        mut input: impl AsyncRead + Unpin,
        limits: Limits,
    ) -> std::io::Result<()> {
        let mut lines = LineDecoder::new(limits);
        loop {
            let buffer = lines.buffer();
            buffer.reserve(READ_BYTES);
            let read = input.read_buf(buffer).await?;
            for line in lines.by_ref() {
                self.line(line).await;
            }
            if read == 0 {
                if let Some(line) = lines.finish() {
                    self.line(line).await;
                }
                return Ok(());
            }
        }
    }

    async fn line(self: &Arc<Self>, line: Line) {
        match line {
            Line::Message(message) => self.take(message).await,
            Line::Refused(refused) => {
                self.output
                    .warn(&format!("a line of the client is refused: {refused}"), None);
                // Without a readable id nobody could be told: an answer with the id null kills some clients.
                if let Some(id) = refused.id.filter(|_| refused.method.is_some()) {
                    let text = refused.why.to_string();
                    let code = codes::INVALID_REQUEST;
                    self.out
                        .send(Message::error_of(Some(&id), code, &text, None))
                        .await;
                }
            }
            Line::Noise { sample, bytes } => {
                let text =
                    format!("a line of {bytes} bytes is no message and was skipped: {sample}");
                self.output.warn(&text, None);
            }
        }
    }

    async fn take(self: &Arc<Self>, message: Message) {
        match message.kind() {
            Kind::Request => self.request(message).await,
            Kind::Notification => self.notification(message).await,
            Kind::Result | Kind::Error => {
                if let Some(answer) = self.asks.incoming(message, self.home.epoch()) {
                    self.queue(answer).await;
                }
            }
        }
    }

    async fn request(self: &Arc<Self>, message: Message) {
        let Some(id) = message.id().cloned() else {
            return;
        };
        if self.in_flight().len() >= IN_FLIGHT_MAX {
            self.out.send(notices::too_many(&id, IN_FLIGHT_MAX)).await;
            return;
        }
        let modern = CallView::is_modern(&message);
        let name = message.method().unwrap_or_default();
        if name == method::INITIALIZE {
            let former = self.legacy.now();
            self.legacy.set(State::Opening);
            self.calls
                .spawn(Arc::clone(self).initialize(message, former));
            return;
        }
        if name == method::PING && !modern && self.legacy.is_never() {
            self.out.send(Message::result_of(&id, "{}")).await;
            return;
        }
        let flight = Flight {
            modern,
            unwanted: CancellationToken::new(),
        };
        self.in_flight().insert(id.clone(), flight.clone());
        let relay = Arc::clone(self);
        if modern && name == method::LISTEN {
            self.streams.spawn(async move {
                relay.listen(&message, &flight).await;
                relay.in_flight().remove(&id);
            });
        } else {
            self.calls
                .spawn(async move { relay.call(id, message, flight).await });
        }
    }

    /// One request, from the line to the answer.
    async fn call(self: &Arc<Self>, id: Id, message: Message, flight: Flight) {
        let dropped = async {
            if flight.modern {
                flight.unwanted.cancelled().await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            // Cancel-safe: dropping the exchange closes its connection, which is what cancels a modern call.
            ended = self.exchange(&message, !flight.modern, &flight.unwanted) => Some(ended),
            // Cancel-safe: a token holds nothing.
            () = dropped => None,
        };
        self.in_flight().remove(&id);
        match ended {
            Some(Ok(Some((answer, _)))) => {
                if !flight.modern && answer.kind() == Kind::Result {
                    self.legacy.granted(&message);
                }
                self.out.send(&answer).await;
            }
            Some(Err(error)) => self.out.send(&error).await,
            Some(Ok(None)) | None => {}
        }
    }

    async fn initialize(self: Arc<Self>, message: Message, former: Option<Arc<Session>>) {
        let never = CancellationToken::new();
        let ended = self.exchange(&message, false, &never).await;
        let back = match &former {
            Some(session) => State::Open(Arc::clone(session)),
            None => State::Never,
        };
        match ended {
            Ok(Some((answer, headers))) => {
                match answer
                    .result()
                    .and_then(|result| InitializeResult::read(result).ok())
                {
                    Some(result) => {
                        let serial = former.as_ref().map_or(0, |session| session.serial + 1);
                        let session = Session::opened(&headers, &result, serial);
                        self.legacy.opened(message, result, session);
                    }
                    None => self.legacy.set(back),
                }
                self.out.send(&answer).await;
            }
            Ok(None) => self.legacy.set(back),
            Err(error) => {
                self.legacy.set(back);
                self.out.send(&error).await;
            }
        }
    }

    async fn notification(self: &Arc<Self>, message: Message) {
        if message.method() == Some(method::CANCELLED) {
            return self.cancel(message);
        }
        // Modern clients send none but that; without a session nobody could take it.
        if self.legacy.is_never() || CallView::is_modern(&message) {
            return;
        }
        if message.method() == Some(method::INITIALIZED) && !self.legacy.initialized() {
            self.streams.spawn(Arc::clone(self).pushes());
        }
        self.queue(message).await;
    }

    fn cancel(self: &Arc<Self>, message: Message) {
        let Ok(cancelled) = CancelledView::of(&message) else {
            return;
        };
        let Some(flight) = self.in_flight().get(&cancelled.request_id).cloned() else {
            return;
        };
        flight.unwanted.cancel();
        if flight.modern {
            return;
        }
        let relay = Arc::clone(self);
        self.calls.spawn(async move {
            for pause_ms in CANCEL_AGAIN_MS {
                // How it went does not matter: what matters is whether the call has ended.
                let never = CancellationToken::new();
                drop(relay.exchange(&message, true, &never).await);
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                let same = relay.in_flight().get(&cancelled.request_id).cloned();
                if same.is_none_or(|flight| !flight.unwanted.is_cancelled()) {
                    return;
                }
            }
        });
    }

    async fn queue(&self, message: Message) {
        let notices = self.notices().clone();
        if let Some(notices) = notices {
            // The other end leaves only after this one.
            let _left = notices.send(message).await;
        }
    }

    async fn deliver(self: Arc<Self>, mut waiting: mpsc::Receiver<Message>) {
        let never = CancellationToken::new();
        while let Some(message) = waiting.recv().await {
            // Nobody waits for an answer, and Mainstay logs what it does not like.
            if let Err(error) = self.exchange(&message, true, &never).await {
                let name = message.method().unwrap_or("an answer of the client");
                self.output
                    .warn(&format!("{name} did not arrive: {}", error.as_str()), None);
            }
        }
    }

    /// Takes note of the process that answered; returns its epoch. If it is another one, what it cannot know is told.
    pub(super) fn heard(self: &Arc<Self>, headers: &HeaderMap) -> u64 {
        let (epoch, moved) = self.home.heard(headers);
        if moved {
            let relay = Arc::clone(self);
            self.calls.spawn(async move { relay.moved(epoch).await });
        }
        epoch
    }

    /// Another Mainstay answers than before.
    async fn moved(self: &Arc<Self>, epoch: u64) {
        for id in self.asks.withdrawn(epoch) {
            self.out.send(&notices::cancelled(&id)).await;
        }
        let Some(session) = self.legacy.now() else {
            return;
        };
        self.restore(session.serial).await;
        for news in self.legacy.news() {
            self.out.send(&news).await;
        }
    }

    /// A session was opened anew behind the client's back.
    pub(super) fn reopened(self: &Arc<Self>, session: Session) {
        let serial = session.serial;
        self.legacy.set(State::Open(Arc::new(session)));
        let relay = Arc::clone(self);
        self.calls.spawn(async move {
            if relay.legacy.is_initialized() {
                let initialized = Message::notification(method::INITIALIZED, None);
                let never = CancellationToken::new();
                drop(relay.exchange(&initialized, true, &never).await);
            }
            relay.restore(serial).await;
        });
    }

    /// Asks again for what the client had asked of the session, as long as the session is this one.
    async fn restore(self: &Arc<Self>, serial: u64) {
        let never = CancellationToken::new();
        for (at, wish) in self.legacy.restoring().into_iter().enumerate() {
            if self
                .legacy
                .now()
                .is_none_or(|session| session.serial != serial)
            {
                return;
            }
            let id = Id::string(&format!("mainstay-restores-{serial}-{at}"));
            let Ok(wish) = wish.edit().id(&id).apply() else {
                continue;
            };
            let ended = self.exchange(&wish, true, &never).await;
            let refused = match &ended {
                Ok(Some((answer, _))) => answer.error(),
                Ok(None) => None,
                Err(error) => error.error(),
            };
            if let Some(error) = refused {
                let name = wish.method().unwrap_or_default();
                self.output
                    .warn(&format!("{name} could not be restored: {error}"), None);
            }
        }
    }

    /// The client has said everything: what is in flight ends within `finish`, then the session does.
    pub(super) async fn end(self: &Arc<Self>, finish: Duration) {
        *self.notices() = None;
        self.calls.close();
        self.streams.close();
        let finished = tokio::time::timeout(finish, self.calls.wait()).await;
        if finished.is_err() {
            self.output.warn("left while calls were in flight", None);
        }
        self.leaving.cancel();
        let deleted = tokio::time::timeout(DELETE_MAX, self.delete()).await;
        if deleted.is_err() {
            tracing::debug!("the session was left to its idle limit");
        }
        // Streams end by the token; a moment later nobody needs them to.
        let _ended = tokio::time::timeout(DELETE_MAX, self.streams.wait()).await;
    }

    /// Ends the session, if there is one and somebody to tell. A session that cannot be told ends by its idle limit.
    async fn delete(&self) {
        let Some(session) = self.legacy.now() else {
            return;
        };
        let link = &self.home.link;
        if let Ok(connection) = link.connect().await {
            let (nothing, extra) = (bytes::Bytes::new(), session.extra());
            drop(link.send(connection, Method::DELETE, nothing, &extra).await);
        }
    }

    pub(super) fn in_flight(&self) -> std::sync::MutexGuard<'_, HashMap<Id, Flight>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn notices(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Message>>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
