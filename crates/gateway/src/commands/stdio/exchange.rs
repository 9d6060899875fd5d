//! One message of the client on its way to Mainstay and back, over as many attempts as it safely takes.
//!
//! Sent again is only what has provably not run: it never left, its session was unknown, Mainstay refused it because it
//! was going down; or what cannot run twice because it only reads (law 16).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use mainstay_gateway::serve::fault::{REFUSED, STOPPING};
use mainstay_wire::views::ErrorView;
use mainstay_wire::{Id, Kind, Limits, Message, SseDecoder, SseItem, method, raw};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::home::May;
use super::legacy::Session;
use super::link::{Answer, Extra, Failed};
use super::notices;
use super::relay::Relay;
use crate::exit::{Exit, Stop};

/// Limits of what comes from Mainstay, which has its own.
pub(super) const TRUSTED: Limits = Limits {
    message_bytes_max: u32::MAX as usize,
    depth_max: usize::MAX,
};

/// Pause before something is sent again.
const AGAIN: Duration = Duration::from_millis(50);

/// Sessions that are lost one after the other before a call gives up.
const RENEWALS_MAX: usize = 5;

/// What one attempt came to.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The answer to the request.
    Answered(Message, HeaderMap),
    /// There is none and none will come: a notification, or a call that was cancelled.
    Nothing,
    /// Mainstay does not know the session.
    SessionLost,
    /// Mainstay is going down and has not run it.
    Stopping(Message),
    /// Mainstay said something that is not MCP.
    Foreign(StatusCode, String),
    /// It never left.
    Unsent,
    /// It left, and no answer came.
    Lost(String),
    /// There is no Mainstay, and the time to wait for it is over.
    Away(Stop),
}

/// Whether a request may be sent again though it may have run.
pub(super) fn is_safe(message: &Message) -> bool {
    match message.kind() {
        Kind::Request => message
            .method()
            .is_some_and(|name| name == method::INITIALIZE || method::is_read_only(name)),
        // Repeating them changes nothing, and nobody waits for an answer.
        Kind::Notification => matches!(
            message.method(),
            Some(method::INITIALIZED | method::CANCELLED | method::ROOTS_LIST_CHANGED)
        ),
        // Answers are dropped if nobody waits for them any more.
        Kind::Result | Kind::Error => true,
    }
}

impl Relay {
    /// Sends one message until it has an answer, under the rules above. `Ok(None)`: there is none and none will come.
    ///
    /// # Errors
    /// The error to tell the client, as a message.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        message: &Message,
        in_session: bool,
        unwanted: &CancellationToken,
    ) -> Result<Option<(Message, HeaderMap)>, Message> {
        let id = message.id();
        let safe = is_safe(message);
        let mut since = None;
        let mut renewals = 0;
        loop {
            let session = if in_session {
                self.legacy.current().await
            } else {
                None
            };
            let extra = session
                .as_ref()
                .map(|session| session.extra())
                .unwrap_or_default();
            let deadline = *since.get_or_insert_with(Instant::now) + self.home.patience();
            let late = Instant::now() >= deadline;
            // Cancelled before it left again: nobody waits for it.
            if unwanted.is_cancelled() {
                return Ok(None);
            }
            match self.post(message, extra, deadline).await {
                Attempt::Answered(answer, headers) => return Ok(Some((answer, headers))),
                // A request that nobody cancelled has an answer; where it was lost nobody can say.
                Attempt::Nothing if message.kind() == Kind::Request && !unwanted.is_cancelled() => {
                    if !safe || late {
                        return Err(notices::unknown(id, "its stream ended without an answer"));
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                Attempt::Nothing => return Ok(None),
                Attempt::SessionLost => {
                    renewals += 1;
                    let Some(session) = session.filter(|_| renewals <= RENEWALS_MAX) else {
                        return Err(notices::refused(id, &lost_session()));
                    };
                    self.renew(&session)
                        .await
                        .map_err(|stop| notices::refused(id, &stop))?;
                    // The time to wait begins anew: Mainstay is there.
                    since = None;
                }
                Attempt::Stopping(refusal) if late => return Ok(Some((refusal, HeaderMap::new()))),
                Attempt::Unsent if late => {
                    return Err(notices::refused(id, &unreachable()));
                }
                Attempt::Lost(why) if !safe || late => return Err(notices::unknown(id, &why)),
                Attempt::Stopping(_) | Attempt::Unsent | Attempt::Lost(_) => {
                    tokio::time::sleep(AGAIN).await;
                }
                Attempt::Foreign(status, text) => {
                    return Err(notices::refused(id, &foreign(status, &text)));
                }
                Attempt::Away(stop) => return Err(notices::refused(id, &stop)),
            }
        }
    }

    /// One attempt to POST a message. Dropping the future closes the connection.
    pub(super) async fn post(
        self: &Arc<Self>,
        message: &Message,
        extra: Extra,
        deadline: Instant,
    ) -> Attempt {
        let connection = match self.home.connect(May::Start, deadline).await {
            Ok(connection) => connection,
            Err(stop) => return Attempt::Away(stop),
        };
        let link = &self.home.link;
        let sent = link.send(connection, Method::POST, message.text().clone(), &extra);
        let answer = match sent.await {
            Ok(answer) => answer,
            Err(Failed::Unsent) => return Attempt::Unsent,
            Err(Failed::Lost(why)) => return Attempt::Lost(why),
        };
        let epoch = self.heard(&answer.headers);
        if answer.is_stream() {
            return match message.id() {
                Some(id) => self.stream(answer, id, epoch).await,
                None => Attempt::Nothing,
            };
        }
        let (status, headers) = (answer.status, answer.headers.clone());
        match link.whole(answer).await {
            Ok(text) => judge(message.id(), extra.session.is_some(), status, headers, text),
            Err(why) => Attempt::Lost(why),
        }
    }

    /// Reads the events before the answer, and the answer.
    async fn stream(self: &Arc<Self>, mut answer: Answer, id: &Id, epoch: u64) -> Attempt {
        let headers = answer.headers.clone();
        let mut events = SseDecoder::new(TRUSTED.message_bytes_max);
        loop {
            let item = match answer.chunk().await {
                Some(Ok(chunk)) => {
                    events.push(chunk);
                    events.next()
                }
                Some(Err(why)) => return Attempt::Lost(why),
                None => match events.finish() {
                    Some(item) => Some(item),
                    // Ended in order and without an answer: that is how a cancelled call ends.
                    None => return Attempt::Nothing,
                },
            };
            let mut item = item;
            while let Some(said) = item {
                match message_of(said) {
                    Some(message) if is_answer(&message, id) => {
                        return answered(with_id(message, Some(id)), headers);
                    }
                    Some(message) => self.pass(message, epoch).await,
                    None => {}
                }
                item = events.next();
            }
        }
    }

    /// Tells the client something that is no answer.
    pub(super) async fn pass(&self, message: Message, epoch: u64) {
        let message = match message.kind() {
            Kind::Request => self.asks.outgoing(message, epoch),
            Kind::Notification | Kind::Result | Kind::Error => message,
        };
        self.out.send(&message).await;
    }

    /// Opens the session anew, once for any number of messages that found it lost.
    ///
    /// # Errors
    /// Why it could not be opened.
    pub(super) async fn renew(self: &Arc<Self>, lost: &Session) -> Result<(), Stop> {
        let _one = self.legacy.renewing.lock().await;
        let current = self.legacy.now();
        if current.is_some_and(|session| session.serial != lost.serial) {
            return Ok(());
        }
        let Some(initialize) = self.legacy.initialize() else {
            return Err(lost_session());
        };
        let refused = |text: &str| {
            Stop::new(
                Exit::Unexpected,
                format!("Mainstay lost the session and does not open it again: {text}"),
            )
        };
        let deadline = Instant::now() + self.home.patience();
        let (answer, headers) = loop {
            match self.post(&initialize, Extra::default(), deadline).await {
                Attempt::Answered(answer, headers) => break (answer, headers),
                Attempt::Away(stop) => return Err(stop),
                Attempt::Stopping(_) | Attempt::Unsent | Attempt::Lost(_)
                    if Instant::now() < deadline =>
                {
                    tokio::time::sleep(AGAIN).await;
                }
                Attempt::Stopping(error) => return Err(refused(error.as_str())),
                Attempt::Foreign(status, text) => {
                    return Err(refused(&format!("{status}: {}", text.trim_end())));
                }
                Attempt::Lost(why) => return Err(refused(&why)),
                Attempt::Unsent | Attempt::Nothing | Attempt::SessionLost => {
                    return Err(refused("no answer"));
                }
            }
        };
        let session = answer
            .result()
            .and_then(|result| mainstay_wire::views::InitializeResult::read(result).ok())
            .map(|result| Session::opened(&headers, &result, lost.serial + 1))
            .ok_or_else(|| refused(answer.as_str()))?;
        self.reopened(session);
        Ok(())
    }
}

/// What an answer of one piece is.
fn judge(
    id: Option<&Id>,
    in_session: bool,
    status: StatusCode,
    headers: HeaderMap,
    text: Bytes,
) -> Attempt {
    if status.is_success() && (id.is_none() || text.is_empty()) {
        return Attempt::Nothing;
    }
    match Message::parse(text.clone(), &TRUSTED) {
        Ok(message) if matches!(message.kind(), Kind::Result | Kind::Error) => {
            if in_session && status == StatusCode::NOT_FOUND {
                return Attempt::SessionLost;
            }
            answered(with_id(message, id), headers)
        }
        Ok(_) | Err(_) => Attempt::Foreign(status, String::from_utf8_lossy(&text).into_owned()),
    }
}

fn answered(message: Message, headers: HeaderMap) -> Attempt {
    let is_stopping = ErrorView::of(&message).is_some_and(|error| error.code == Some(REFUSED))
        && message
            .member(&["error", "data", "state"])
            .and_then(raw::string)
            .is_some_and(|state| state == STOPPING);
    if is_stopping {
        return Attempt::Stopping(message);
    }
    Attempt::Answered(message, headers)
}

/// The error in an answer of one piece to a listen request; `None` if it is to be asked for again.
pub(super) fn refusal(
    id: &Id,
    status: StatusCode,
    headers: HeaderMap,
    text: Bytes,
) -> Option<Message> {
    match judge(Some(id), false, status, headers, text) {
        Attempt::Answered(message, _) => Some(message),
        Attempt::Foreign(status, text) => Some(notices::refused(Some(id), &foreign(status, &text))),
        Attempt::Stopping(_)
        | Attempt::Nothing
        | Attempt::SessionLost
        | Attempt::Unsent
        | Attempt::Lost(_)
        | Attempt::Away(_) => None,
    }
}

/// The message in an event; priming events and comments hold none.
pub(super) fn message_of(item: SseItem) -> Option<Message> {
    match item {
        SseItem::Event { data, .. } if !data.is_empty() => Message::parse(data, &TRUSTED).ok(),
        SseItem::Event { .. } | SseItem::Comment | SseItem::TooLong { .. } => None,
    }
}

/// Whether this ends the request: its own answer, or an error that could not be tied to any.
pub(super) fn is_answer(message: &Message, id: &Id) -> bool {
    match message.kind() {
        Kind::Result => message.id() == Some(id),
        Kind::Error => message.id().is_none_or(|answered| answered == id),
        Kind::Request | Kind::Notification => false,
    }
}

/// An error without an id gets that of the request it came for: on a pipe nothing else ties them together.
fn with_id(message: Message, id: Option<&Id>) -> Message {
    match id {
        Some(id) if message.id().is_none() => message.edit().id(id).apply().unwrap_or(message),
        Some(_) | None => message,
    }
}

fn lost_session() -> Stop {
    Stop::new(
        Exit::Unexpected,
        "Mainstay does not know this session; call `initialize` again",
    )
}

fn unreachable() -> Stop {
    Stop::new(Exit::NotRunning, "Mainstay closes every connection at once")
        .hint("look at its log: `mainstay status` shows whether it runs")
}

fn foreign(status: StatusCode, text: &str) -> Stop {
    Stop::new(
        Exit::Unexpected,
        format!("Mainstay answered {status}: {}", text.trim_end()),
    )
}
