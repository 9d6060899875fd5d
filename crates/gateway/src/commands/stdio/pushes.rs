//! What Mainstay says unasked: the GET stream of a legacy session, and the listen streams of a modern client. Both are
//! opened again for as long as the client is there, and never start a Mainstay: only a message of the client does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use mainstay_wire::views::ListenFilter;
use mainstay_wire::{Id, Message, SseDecoder, SseItem, method};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::exchange::{self, TRUSTED};
use super::home::May;
use super::legacy::{Session, State};
use super::link::{Answer, Failed};
use super::notices;
use super::relay::{Flight, Relay};

/// First and longest pause before a stream is opened again.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_LONGEST: Duration = Duration::from_secs(1);

/// How a stream ended.
enum Over {
    /// It was open and broke, or ended in order.
    Broke,
    /// It could not be opened now.
    Closed,
    /// The session is unknown.
    SessionLost,
    /// There is none to be had.
    Refused,
}

impl Relay {
    /// Keeps the push stream of the session open, whichever session that is, until the relay leaves.
    pub(super) async fn pushes(self: Arc<Self>) {
        let mut state = self.legacy.watch();
        let mut pause = AGAIN_FIRST;
        loop {
            let session = match &*state.borrow_and_update() {
                State::Open(session) => Some(Arc::clone(session)),
                State::Never | State::Opening => None,
            };
            let over = match &session {
                Some(session) => tokio::select! {
                    // Cancel-safe: a stream that is dropped is opened again, by its session's state.
                    over = self.push_stream(session) => over,
                    // Cancel-safe: a watch keeps what was not seen.
                    changed = state.changed() => if changed.is_ok() { continue } else { return },
                    // Cancel-safe: a token holds nothing.
                    () = self.leaving.cancelled() => return,
                },
                None => Over::Refused,
            };
            match over {
                Over::Broke => pause = AGAIN_FIRST,
                Over::Closed => {}
                Over::SessionLost => {
                    if let Some(session) = &session
                        && self.renew(session).await.is_ok()
                    {
                        continue;
                    }
                }
                Over::Refused => {
                    tokio::select! {
                        // Cancel-safe: as above.
                        changed = state.changed() => if changed.is_ok() { continue } else { return },
                        () = self.leaving.cancelled() => return,
                    }
                }
            }
            tokio::select! {
                // Cancel-safe: a sleep and a token hold nothing.
                () = tokio::time::sleep(pause) => {}
                () = self.leaving.cancelled() => return,
            }
            pause = (pause * 2).min(AGAIN_LONGEST);
        }
    }

    async fn push_stream(self: &Arc<Self>, session: &Session) -> Over {
        let Some((mut answer, epoch)) = self.open(Method::GET, Bytes::new(), session).await else {
            return Over::Closed;
        };
        if !answer.is_stream() {
            return match answer.status {
                StatusCode::NOT_FOUND => Over::SessionLost,
                StatusCode::CONFLICT => Over::Closed,
                _ => Over::Refused,
            };
        }
        let mut events = SseDecoder::new(TRUSTED.message_bytes_max);
        while let Some(Ok(chunk)) = answer.chunk().await {
            events.push(chunk);
            for item in events.by_ref() {
                if let SseItem::Event { id: Some(id), .. } = &item {
                    session.reached(HeaderValue::try_from(id.as_str()).ok());
                }
                if let Some(message) = exchange::message_of(item) {
                    self.pass(message, epoch).await;
                }
            }
        }
        Over::Broke
    }

    async fn open(
        self: &Arc<Self>,
        method: Method,
        text: Bytes,
        session: &Session,
    ) -> Option<(Answer, u64)> {
        let connection = self.home.connect(May::Wait, Instant::now()).await.ok()?;
        let extra = session.resuming();
        let sent = self.home.link.send(connection, method, text, &extra).await;
        let answer = sent.ok()?;
        let epoch = self.heard(&answer.headers);
        Some((answer, epoch))
    }

    /// Keeps one subscription of a modern client until it cancels it, or Mainstay refuses it.
    pub(super) async fn listen(self: &Arc<Self>, message: &Message, flight: &Flight) {
        let Some(id) = message.id() else {
            return;
        };
        let kept = self.keep_listening(message, id, &flight.unwanted);
        let refusal = tokio::select! {
            // Cancel-safe: dropping the stream closes it, which is what ends a subscription.
            refusal = kept => refusal,
            // Cancel-safe: tokens hold nothing.
            () = flight.unwanted.cancelled() => return,
            () = self.leaving.cancelled() => return,
        };
        self.out.send(&refusal).await;
    }

    /// Returns what ends the subscription for good: an error, told to the client as its answer.
    async fn keep_listening(
        self: &Arc<Self>,
        message: &Message,
        id: &Id,
        unwanted: &CancellationToken,
    ) -> Message {
        let mut granted = None;
        let mut pause = AGAIN_FIRST;
        loop {
            // The first opening is the client's message and may start a Mainstay; later ones are ours and may not.
            let (may, deadline) = match granted {
                None => (May::Start, Instant::now() + self.home.patience()),
                Some(_) => (May::Wait, Instant::now()),
            };
            match self.home.connect(may, deadline).await {
                Ok(connection) => {
                    let link = &self.home.link;
                    let extra = super::link::Extra::default();
                    let sent = link.send(connection, Method::POST, message.text().clone(), &extra);
                    match sent.await {
                        Ok(answer) => {
                            let epoch = self.heard(&answer.headers);
                            let before = granted.is_some();
                            match self.subscription(answer, id, epoch, &mut granted).await {
                                Some(refusal) => return refusal,
                                None if before => pause = AGAIN_FIRST,
                                None => {}
                            }
                        }
                        // Opening it again does no harm.
                        Err(Failed::Unsent | Failed::Lost(_)) => {}
                    }
                }
                Err(stop) if granted.is_none() => return notices::refused(Some(id), &stop),
                Err(_away) => {}
            }
            if unwanted.is_cancelled() {
                return notices::refused(
                    Some(id),
                    &crate::exit::Stop::silent(crate::exit::Exit::Ok),
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_LONGEST);
        }
    }

    /// One stream of a subscription. `Some`: it is refused. `None`: it ended, and is to be opened again.
    async fn subscription(
        self: &Arc<Self>,
        mut answer: Answer,
        id: &Id,
        epoch: u64,
        granted: &mut Option<ListenFilter>,
    ) -> Option<Message> {
        if !answer.is_stream() {
            let (status, headers) = (answer.status, answer.headers.clone());
            let text = self.home.link.whole(answer).await.ok()?;
            return exchange::refusal(id, status, headers, text);
        }
        let mut events = SseDecoder::new(TRUSTED.message_bytes_max);
        while let Some(Ok(chunk)) = answer.chunk().await {
            events.push(chunk);
            for item in events.by_ref() {
                let Some(message) = exchange::message_of(item) else {
                    continue;
                };
                if exchange::is_answer(&message, id) {
                    // Mainstay ends it because it goes down itself; the client's subscription goes on at the next one.
                    return message.error().is_some().then_some(message);
                }
                if message.method() == Some(method::SUBSCRIPTIONS_ACKNOWLEDGED) {
                    self.acknowledged(message, id, granted).await;
                } else {
                    self.pass(message, epoch).await;
                }
            }
        }
        None
    }

    /// The first acknowledgement is the client's. A later one says that Mainstay was away: what may have changed is told.
    async fn acknowledged(&self, message: Message, id: &Id, granted: &mut Option<ListenFilter>) {
        let filter = ListenFilter::of(&message).unwrap_or_default();
        if granted.replace(filter.clone()).is_none() {
            self.out.send(&message).await;
            return;
        }
        let lists = [
            (filter.tools, method::TOOLS_LIST_CHANGED),
            (filter.prompts, method::PROMPTS_LIST_CHANGED),
            (filter.resources, method::RESOURCES_LIST_CHANGED),
        ];
        for (_, name) in lists.iter().filter(|(granted, _)| *granted) {
            self.out.send(&notices::changed(name, id)).await;
        }
        for uri in &filter.uris {
            self.out.send(&notices::updated(uri, Some(id))).await;
        }
    }
}
