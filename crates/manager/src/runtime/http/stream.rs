//! Reads the events of one response stream as messages. Says what came; whom it concerns is for the callers.

use std::collections::VecDeque;

use bytes::Bytes;
use mainstay_core::failure::Failure;
use mainstay_wire::envelope::{Limits, Message, Refused, Why, split_batch};
use mainstay_wire::sse::{SseDecoder, SseItem};

use super::body::InBody;

/// Event ids remembered for recognising what a resumed stream repeats (F122).
const IDS_MAX: usize = 64;

/// What an unfinished event may be longer than the message limit, for its other lines.
const SLACK_BYTES: usize = 64 * 1024;

/// Where a stream stands: what is needed to resume it. Outlives the connections of the stream.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// The id to resume after.
    pub(super) last_id: Option<String>,
    /// The server's wish for the pause before reconnecting, unclamped.
    pub(super) retry_ms: Option<u64>,
    /// Ids of events on earlier connections of this stream.
    earlier: VecDeque<String>,
    /// Ids of events on this connection.
    current: VecDeque<String>,
}

impl Position {
    /// The stream goes on over another connection.
    pub(super) fn reconnected(&mut self) {
        self.earlier.append(&mut self.current);
        while self.earlier.len() > IDS_MAX {
            self.earlier.pop_front();
        }
    }

    /// Notes an event id; `true` if the event was already delivered by an earlier connection.
    fn note(&mut self, id: Option<String>) -> bool {
        let Some(id) = id else { return false };
        let repeated = self.earlier.contains(&id);
        // An empty id resets the position of a stream.
        self.last_id = Some(id.clone()).filter(|id| !id.is_empty());
        self.current.push_back(id);
        if self.current.len() > IDS_MAX {
            self.current.pop_front();
        }
        repeated
    }
}

/// What a stream says next.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the ordinary one, and lives for a moment"
)]
pub(super) enum Said {
    /// A message.
    Message(Message),
    /// Something that should have been a message (F125, F126).
    Refused(Refused),
    /// A comment, or an event without data: life, and nothing else.
    Life,
    /// An event of another type than `message`, or one that was delivered before.
    Skipped(&'static str),
    /// An event that goes on beyond every limit: the stream is of no more use (F126).
    Runaway(Refused),
    /// The stream ended: cleanly, or with this failure.
    End(Option<Failure>),
}

/// The events of one connection.
#[derive(Debug)]
pub(super) struct Events {
    body: InBody,
    decoder: SseDecoder,
    limits: Limits,
    batch: VecDeque<Bytes>,
    unfinished_bytes: usize,
    ended: Option<Option<Failure>>,
    /// The stream carries everybody's answers: an endless event is skipped to its end, and no reason to leave.
    shared: bool,
    /// The data of the newest `endpoint` event, on a shared stream.
    endpoint: Option<Bytes>,
}

impl Events {
    pub(super) fn new(body: InBody, limits: Limits) -> Self {
        Self {
            body,
            decoder: SseDecoder::new(limits.message_bytes_max.saturating_add(SLACK_BYTES)),
            limits,
            batch: VecDeque::new(),
            unfinished_bytes: 0,
            ended: None,
            shared: false,
            endpoint: None,
        }
    }

    /// The one stream of an HTTP+SSE server.
    pub(super) fn shared(body: InBody, limits: Limits) -> Self {
        Self {
            shared: true,
            ..Self::new(body, limits)
        }
    }

    /// The data of an `endpoint` event that was just skipped.
    pub(super) fn take_endpoint(&mut self) -> Option<Bytes> {
        self.endpoint.take()
    }

    /// The rest of the connection, for draining.
    pub(super) fn into_body(self) -> InBody {
        self.body
    }

    /// What comes next. Cancel-safe: nothing is lost when it is dropped. After [`Said::End`] it says so again.
    pub(super) async fn next(&mut self, position: &mut Position) -> Said {
        loop {
            if let Some(text) = self.batch.pop_front() {
                return self.message(text);
            }
            let item = self.decoder.next();
            if let Some(item) = item {
                self.unfinished_bytes = 0;
                return self.said(item, position);
            }
            if let Some(failure) = &self.ended {
                return match self.decoder.finish() {
                    Some(item) => self.said_last(item, position),
                    None => Said::End(failure.clone()),
                };
            }
            let bytes_max = self
                .limits
                .message_bytes_max
                .saturating_add(2 * SLACK_BYTES);
            if self.unfinished_bytes > bytes_max && !self.shared {
                return self.runaway(bytes_max);
            }
            match self.body.chunk().await {
                Some(Ok(chunk)) => {
                    self.unfinished_bytes += chunk.len();
                    self.decoder.push(chunk);
                }
                Some(Err(failure)) => self.ended = Some(Some(failure)),
                None => self.ended = Some(None),
            }
        }
    }

    /// The event in progress is over the limit and not at its end yet: waiting for the end could take for ever.
    fn runaway(&mut self, bytes_max: usize) -> Said {
        let why = Why::TooLong {
            bytes: self.unfinished_bytes,
            max: bytes_max,
        };
        self.unfinished_bytes = 0;
        self.ended = Some(None);
        match self.decoder.finish() {
            Some(SseItem::TooLong { refused, .. }) => Said::Runaway(refused),
            Some(SseItem::Event { .. } | SseItem::Comment) | None => Said::Runaway(Refused {
                why,
                id: None,
                method: None,
                jsonrpc: true,
            }),
        }
    }

    fn said(&mut self, item: SseItem, position: &mut Position) -> Said {
        match item {
            SseItem::Comment => Said::Life,
            SseItem::TooLong { refused, id, .. } => {
                position.note(id);
                Said::Refused(refused)
            }
            SseItem::Event {
                event,
                data,
                id,
                retry_ms,
            } => {
                position.retry_ms = retry_ms.or(position.retry_ms);
                if position.note(id) {
                    return Said::Skipped("repeated event");
                }
                if self.shared && event.as_deref() == Some("endpoint") {
                    self.endpoint = Some(data);
                    return Said::Skipped("endpoint event");
                }
                if event.is_some_and(|event| event != "message") {
                    return Said::Skipped("event of another type");
                }
                if data.is_empty() {
                    return Said::Life;
                }
                self.message(data)
            }
        }
    }

    /// An event that the end of the stream cut short counts only if it is whole in spite of that.
    fn said_last(&mut self, item: SseItem, position: &mut Position) -> Said {
        let said = self.said(item, position);
        if matches!(
            &said,
            Said::Refused(Refused {
                why: Why::NotJson { .. },
                ..
            })
        ) {
            return Said::End(self.ended.clone().flatten());
        }
        said
    }

    fn message(&mut self, text: Bytes) -> Said {
        match Message::parse(text.clone(), &self.limits) {
            Ok(message) => Said::Message(message),
            // Servers of 2025-03-26 may send batches.
            Err(Refused {
                why: Why::Batch, ..
            }) => match split_batch(text, &self.limits) {
                Ok(messages) => {
                    self.batch.extend(messages);
                    Said::Life
                }
                Err(refused) => Said::Refused(refused),
            },
            Err(refused) => Said::Refused(refused),
        }
    }
}
