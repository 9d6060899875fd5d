//! The memory of one session's streams. Synchronous, knows no clients and no time but what it is given.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mainstay_wire::Parts;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Source;

/// Streams of one session that are remembered; the oldest that has ended makes room, else the oldest.
const STREAMS_MAX: usize = 64;

/// All streams of a session, oldest first.
#[derive(Debug, Default)]
pub(super) struct Logs {
    opened: u64,
    logs: VecDeque<Log>,
    events: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Log {
    number: u64,
    /// What it comes from; none for a push stream, which can always be made anew.
    source: Option<Arc<Source>>,
    /// How many write to it: one, or more where a push stream was continued before its former end was noticed.
    writers: u32,
    events: VecDeque<Event>,
    /// The number of its latest event; the first one is 1.
    last_seq: u64,
    /// The number of the latest event that was not kept.
    dropped_seq: u64,
    /// When it ended or lost its client for good.
    ended_at: Option<Instant>,
    /// Who reads it now: the latest one that came.
    reader: u64,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Event {
    seq: u64,
    text: Parts,
}

/// A reader's place.
pub(super) struct Attached {
    pub(super) ticket: u64,
    pub(super) changed: watch::Receiver<u64>,
    /// Where the rest of the stream comes from, if nobody has taken it yet.
    pub(super) source: Arc<Source>,
}

/// What there is for a reader.
pub(super) enum Found {
    /// The next event and its number.
    Event(u64, Parts),
    /// Events up to this number are not there any more.
    Gap(u64),
    /// The stream has ended, and its last event is not there any more.
    Lost,
    /// It has everything, or another reader took its place.
    End,
    /// Nothing yet.
    Nothing,
}

impl Logs {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Begins a stream and returns its number.
    pub(super) fn open(&mut self, source: Option<Arc<Source>>) -> u64 {
        if self.logs.len() >= STREAMS_MAX {
            let ended = self.logs.iter().position(|log| log.ended_at.is_some());
            if let Some(log) = self.logs.remove(ended.unwrap_or(0)) {
                self.subtract(&log);
            }
        }
        self.opened += 1;
        self.logs.push_back(Log {
            number: self.opened,
            source,
            writers: 1,
            events: VecDeque::new(),
            last_seq: 0,
            dropped_seq: 0,
            ended_at: None,
            reader: 0,
            changed: watch::Sender::default(),
        });
        self.opened
    }

    /// Whether a push stream can be continued; it then counts as open again.
    pub(super) fn reopen(&mut self, number: u64) -> bool {
        match self.find(number) {
            Some(log) if log.source.is_none() => {
                log.ended_at = None;
                log.writers += 1;
                true
            }
            Some(_) | None => false,
        }
    }

    /// All events after a number, and whether some of them are missing.
    pub(super) fn since(&mut self, number: u64, after: u64) -> (bool, Vec<Parts>) {
        let Some(log) = self.find(number) else {
            return (false, Vec::new());
        };
        let events = log.events.iter().filter(|event| event.seq > after);
        let texts = events.map(|event| event.text.clone()).collect();
        (log.dropped_seq > after, texts)
    }

    pub(super) fn last_seq(&mut self, number: u64) -> u64 {
        self.find(number).map_or(0, |log| log.last_seq)
    }

    /// The number of a stream's next event; `None` if the stream is forgotten.
    pub(super) fn next_seq(&mut self, number: u64) -> Option<u64> {
        self.find(number).map(|log| log.last_seq + 1)
    }

    /// Keeps an event; the oldest events of the oldest streams make room, this one too if it is too large by itself.
    pub(super) fn keep(
        &mut self,
        number: u64,
        seq: u64,
        text: Parts,
        events_max: usize,
        bytes_max: usize,
    ) {
        let bytes = text.len();
        let Some(log) = self.find(number) else {
            return;
        };
        log.last_seq = seq;
        log.events.push_back(Event { seq, text });
        self.events += 1;
        self.bytes += bytes;
        while self.events > events_max || self.bytes > bytes_max {
            let oldest = self.logs.iter_mut().find(|log| !log.events.is_empty());
            let Some((log, event)) =
                oldest.and_then(|log| log.events.pop_front().map(|event| (log, event)))
            else {
                break;
            };
            log.dropped_seq = event.seq;
            self.events -= 1;
            self.bytes -= event.text.len();
        }
        self.tell(number);
    }

    /// The stream has ended, for one of those who wrote to it.
    pub(super) fn finish(&mut self, number: u64, now: Instant) {
        if let Some(log) = self.find(number) {
            log.writers = log.writers.saturating_sub(1);
            if log.writers == 0 {
                log.ended_at = Some(now);
            }
        }
        self.tell(number);
    }

    /// A reader of a call's stream has come; whoever read it before ends.
    pub(super) fn attach(&mut self, number: u64) -> Option<Attached> {
        let log = self.find(number)?;
        let source = log.source.clone()?;
        log.reader += 1;
        let attached = Attached {
            ticket: log.reader,
            changed: log.changed.subscribe(),
            source,
        };
        self.tell(number);
        Some(attached)
    }

    /// What there is for a reader that has everything up to `after`.
    pub(super) fn read(&mut self, number: u64, reader: u64, after: u64) -> Found {
        let Some(log) = self.find(number) else {
            return Found::Lost;
        };
        if log.reader != reader {
            return Found::End;
        }
        if let Some(event) = log.events.iter().find(|event| event.seq > after) {
            return if event.seq > after + 1 && log.dropped_seq > after {
                Found::Gap(event.seq - 1)
            } else {
                Found::Event(event.seq, event.text.clone())
            };
        }
        match log.ended_at {
            Some(_) if log.dropped_seq > after => Found::Lost,
            Some(_) => Found::End,
            None => Found::Nothing,
        }
    }

    /// Forgets streams that ended long ago.
    pub(super) fn expire(&mut self, now: Instant, keep: Duration) {
        let mut kept = VecDeque::new();
        for log in std::mem::take(&mut self.logs) {
            let is_due = |ended: Instant| now.saturating_duration_since(ended) >= keep;
            if log.ended_at.is_some_and(is_due) {
                self.subtract(&log);
            } else {
                kept.push_back(log);
            }
        }
        self.logs = kept;
    }

    fn subtract(&mut self, log: &Log) {
        self.events -= log.events.len();
        self.bytes -= log
            .events
            .iter()
            .map(|event| event.text.len())
            .sum::<usize>();
    }

    fn tell(&mut self, number: u64) {
        if let Some(log) = self.find(number) {
            log.changed.send_modify(|version| *version += 1);
        }
    }

    /// The latest streams are asked for most.
    fn find(&mut self, number: u64) -> Option<&mut Log> {
        self.logs.iter_mut().rev().find(|log| log.number == number)
    }
}
