//! Streams of the admin API: a server's stderr as it is written, and events as they happen.
//!
//! A slow reader is told what it missed and never holds anything up.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::{Stream, StreamExt, stream};
use mainstay::process::{StderrRing, escape_line};
use mainstay::{Event, ServerHandle};
use mainstay_wire::Parts;
use mainstay_wire::sse::encode_event;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::dto::{EventList, Lagged, LogLine};
use super::json_of;
use crate::serve::{Gateway, events};

/// A silent stream says something after this long.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How often a follower looks whether the server has a new process, whose stderr is another one.
const PROCESS_POLL: Duration = Duration::from_millis(250);

/// A line that never ends is cut here.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The last `lines` lines of a server's stderr, then every new one; goes on with the server's next process.
pub(super) fn logs(gateway: &Gateway, server: ServerHandle, lines: usize) -> Response {
    let ring = server.stderr();
    // What is written between these two lines is told twice rather than not at all.
    let offset = ring.as_ref().map_or(0, |ring| ring.total_bytes());
    let tail: Vec<Parts> = server
        .stderr_tail(lines)
        .iter()
        .map(|line| line_event(line))
        .collect();
    let follower = Follower {
        server,
        ring,
        offset,
        partial: Vec::new(),
        ending: gateway.ending(),
    };
    let new = stream::unfold(follower, |mut follower| async move {
        let texts = follower.next().await?;
        Some((stream::iter(texts), follower))
    });
    response(stream::iter(tail).chain(new.flatten()))
}

struct Follower {
    server: ServerHandle,
    ring: Option<Arc<StderrRing>>,
    offset: u64,
    partial: Vec<u8>,
    ending: CancellationToken,
}

impl Follower {
    /// The next lines, or a sign of life; `None` when Mainstay ends.
    async fn next(&mut self) -> Option<Vec<Parts>> {
        let silent_until = tokio::time::Instant::now() + KEEP_ALIVE;
        loop {
            let lines = self.read();
            if !lines.is_empty() {
                return Some(lines.iter().map(|line| line_event(line)).collect());
            }
            if tokio::time::Instant::now() >= silent_until {
                return Some(vec![events::comment()]);
            }
            let mut written = self.ring.as_ref().map(|ring| ring.subscribe());
            // What was written since `read` must not be waited for.
            let behind = self
                .ring
                .as_ref()
                .is_some_and(|ring| ring.total_bytes() > self.offset);
            if behind {
                continue;
            }
            let more = async {
                match &mut written {
                    Some(written) => drop(written.changed().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Cancel-safe: the ring keeps what was not read.
                () = more => {}
                // Cancel-safe: sleeps and tokens hold nothing.
                () = tokio::time::sleep(PROCESS_POLL) => {}
                () = self.ending.cancelled() => return None,
            }
        }
    }

    /// The lines that were completed since the last time.
    fn read(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(ring) = &self.ring {
            let (offset, bytes) = ring.read_from(self.offset);
            self.offset = offset;
            for byte in bytes {
                if matches!(byte, b'\n' | b'\r') || self.partial.len() >= LINE_BYTES_MAX {
                    take_line(&mut self.partial, &mut lines);
                }
                if !matches!(byte, b'\n' | b'\r') {
                    self.partial.push(byte);
                }
            }
        }
        let newest = self.server.stderr();
        let same = match (&self.ring, &newest) {
            (Some(ours), Some(newest)) => Arc::ptr_eq(ours, newest),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            // The last words of the old process may lack their line break.
            take_line(&mut self.partial, &mut lines);
            self.ring = newest;
            self.offset = 0;
        }
        lines
    }
}

fn take_line(partial: &mut Vec<u8>, lines: &mut Vec<String>) {
    if !partial.is_empty() {
        lines.push(escape_line(partial));
        partial.clear();
    }
}

fn line_event(line: &str) -> Parts {
    encode_event(
        None,
        None,
        None,
        Parts::from(json_line(&LogLine {
            line: line.to_owned(),
        })),
    )
}

/// The last `recent` events, then every new one unless nobody wants it.
pub(super) fn events(gateway: &Gateway, query: &EventsQuery) -> Response {
    // Subscribed first: what happens in between is told twice rather than not at all.
    let live = gateway.manager().events();
    let wanted = query.clone();
    let wanted = move |event: &Event| wanted.wants(event);
    let mut past = gateway.manager().recent_events();
    past.retain(&wanted);
    // Whoever says since when wants all of it, unless he says how many.
    let most = query.recent.unwrap_or(match query.since {
        Some(_) => usize::MAX,
        None => 0,
    });
    past.drain(..past.len().saturating_sub(most));
    if matches!(query.follow.as_deref(), Some("0" | "false")) {
        return json_of(&EventList { events: past });
    }
    records(gateway, past, live, wanted, json_line)
}

/// Which events are asked for.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct EventsQuery {
    recent: Option<usize>,
    server: Option<String>,
    since: Option<u64>,
    follow: Option<String>,
}

impl EventsQuery {
    fn wants(&self, event: &Event) -> bool {
        self.server
            .as_ref()
            .is_none_or(|server| *server == event.server)
            && self.since.is_none_or(|since| event.at_unix_ms >= since)
    }
}

/// What was there, and then everything new that is wanted. A listener that is too slow is told how much it missed.
pub(super) fn records<T>(
    gateway: &Gateway,
    past: Vec<T>,
    live: broadcast::Receiver<T>,
    wanted: impl Fn(&T) -> bool + Send + Sync + 'static,
    text: fn(&T) -> String,
) -> Response
where
    T: Clone + Send + 'static,
{
    let past: Vec<Parts> = past.iter().map(|record| event_of(text(record))).collect();
    let state = (live, gateway.ending(), wanted);
    let live = stream::unfold(state, move |(mut live, ending, wanted)| async move {
        // One sign of life for each silence, whatever is not wanted meanwhile.
        let silent_until = Instant::now() + KEEP_ALIVE;
        let told = loop {
            tokio::select! {
                // Cancel-safe: a broadcast keeps what was not received.
                record = live.recv() => match record {
                    Ok(record) if wanted(&record) => break event_of(text(&record)),
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        break event_of(json_line(&Lagged::of(missed)));
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                // Cancel-safe: sleeps and tokens hold nothing.
                () = tokio::time::sleep_until(silent_until) => break events::comment(),
                () = ending.cancelled() => return None,
            }
        };
        Some((told, (live, ending, wanted)))
    });
    response(stream::iter(past).chain(live))
}

fn event_of(text: String) -> Parts {
    encode_event(None, None, None, Parts::from(text))
}

/// JSON for one event.
pub(super) fn json_line(value: &impl Serialize) -> String {
    serde_json::to_string(value)
        .unwrap_or_else(|error| json!({ "type": "broken", "why": error.to_string() }).to_string())
}

fn response(texts: impl Stream<Item = Parts> + Send + 'static) -> Response {
    let chunks = texts.map(|text| Ok::<_, std::convert::Infallible>(text.into_bytes()));
    let mut response = Response::new(Body::from_stream(chunks));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
