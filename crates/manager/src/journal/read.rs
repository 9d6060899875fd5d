//! Looking back: the newest records that fit a question, within bounds.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::segments::{self, LINE_BYTES_MAX, Segment};

/// Records that one answer holds at most.
pub const RECORDS_MAX: usize = 10_000;

/// Bytes that one answer holds at most.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Which records are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What happened to servers.
    Events,
    /// How calls ended.
    Calls,
}

/// A question. What is not said does not matter.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only these. Otherwise all, and what the journal says of itself.
    pub kind: Option<Kind>,
    /// From this moment on, in milliseconds since 1970.
    pub since_unix_ms: Option<u64>,
    /// Up to this moment, in milliseconds since 1970.
    pub until_unix_ms: Option<u64>,
    /// Only of this server.
    pub server: Option<String>,
    /// Only calls of this tool, by its own name or the one that clients see.
    pub tool: Option<String>,
    /// Only calls that ended so; none means all.
    pub outcomes: Vec<crate::calls::Outcome>,
    /// How many at most; the newest are given. At most, and by default, [`RECORDS_MAX`].
    pub limit: Option<usize>,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The lines as they were written, oldest first.
    pub records: Vec<Box<RawValue>>,
    /// There were more that fit; these are the newest.
    pub truncated: bool,
}

/// What is looked at of a line.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'l> {
    #[serde(borrow)]
    kind: Cow<'l, str>,
    at_unix_ms: u64,
    #[serde(borrow)]
    server: Option<Cow<'l, str>>,
    #[serde(borrow)]
    tool: Option<Cow<'l, str>>,
    #[serde(borrow)]
    exposed: Option<Cow<'l, str>>,
    #[serde(borrow)]
    outcome: Option<Cow<'l, str>>,
}

impl Query {
    fn fits(&self, head: &Head<'_>) -> bool {
        let is = |wanted: &Option<String>, there: &Option<Cow<'_, str>>| {
            wanted.is_none() || wanted.as_deref() == there.as_deref()
        };
        let kind = match self.kind {
            None => true,
            Some(Kind::Events) => head.kind == "event",
            Some(Kind::Calls) => head.kind == "call",
        };
        let outcome = || {
            let there = head.outcome.as_deref();
            self.outcomes
                .iter()
                .any(|outcome| there == Some(outcome.word()))
        };
        kind && self
            .since_unix_ms
            .is_none_or(|since| head.at_unix_ms >= since)
            && self
                .until_unix_ms
                .is_none_or(|until| head.at_unix_ms <= until)
            && is(&self.server, &head.server)
            && (is(&self.tool, &head.tool) || is(&self.tool, &head.exposed))
            && (self.outcomes.is_empty() || outcome())
    }
}

/// The newest so many.
struct Newest {
    found: VecDeque<(u64, Box<RawValue>)>,
    bytes: usize,
    limit: usize,
    truncated: bool,
}

impl Newest {
    fn add(&mut self, at_unix_ms: u64, line: Box<RawValue>) {
        self.bytes += line.get().len();
        self.found.push_back((at_unix_ms, line));
        while self.found.len() > self.limit || self.bytes > BYTES_MAX {
            let Some((_, line)) = self.found.pop_front() else {
                return;
            };
            self.bytes -= line.get().len();
            self.truncated = true;
        }
    }
}

/// Answers a question from the files in `dir`, of this process and of others, also while they are written. Blocks on the
/// disk, and reads a file at a time, line by line. A directory that is not there has no records; lines that are torn or not
/// understood are skipped.
///
/// # Errors
/// The directory cannot be read.
pub fn read(dir: &Path, query: &Query) -> io::Result<Page> {
    let limit = query.limit.unwrap_or(RECORDS_MAX).clamp(1, RECORDS_MAX);
    let mut segments = segments::all(dir)?;
    segments.retain(|segment| may_hold(segment, query));
    let mut all: Vec<(u64, Box<RawValue>)> = Vec::new();
    let mut truncated = false;
    // From the newest file on, until what is left cannot hold anything newer than what was found.
    while let Some(segment) = segments.pop() {
        if all.len() >= limit {
            let oldest = all.iter().map(|(at, _)| *at).min().unwrap_or_default();
            if written_unix_ms(&segment).is_some_and(|written| written < oldest) {
                truncated = true;
                break;
            }
        }
        let mut newest = Newest {
            found: VecDeque::new(),
            bytes: 0,
            limit,
            truncated: false,
        };
        // A file that was removed meanwhile is one that was too old.
        if let Ok(file) = File::open(&segment.path) {
            let _ = scan(BufReader::new(file), query, &mut newest);
        }
        truncated |= newest.truncated;
        // Older files first, for what happened within one millisecond.
        all.splice(..0, newest.found);
        truncated |= cut(&mut all, limit);
    }
    Ok(Page {
        records: all.into_iter().map(|(_, line)| line).collect(),
        truncated,
    })
}

/// Leaves the newest that fit into one answer, oldest first; `true` if that was not all.
fn cut(all: &mut Vec<(u64, Box<RawValue>)>, limit: usize) -> bool {
    // Stable: what happened within one millisecond stays in the order in which it was written, file by file.
    all.sort_by_key(|(at, _)| *at);
    let mut bytes: usize = 0;
    let fitting = all
        .iter()
        .rev()
        .take(limit)
        .take_while(|(_, line)| {
            bytes += line.get().len();
            bytes <= BYTES_MAX
        })
        .count();
    let is_cut = fitting < all.len();
    all.drain(..all.len() - fitting);
    is_cut
}

/// When a file was last written, in milliseconds since 1970.
fn written_unix_ms(segment: &Segment) -> Option<u64> {
    let modified = fs::metadata(&segment.path).ok()?.modified().ok()?;
    let since = modified.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

fn may_hold(segment: &Segment, query: &Query) -> bool {
    /// Clocks of the file system are coarse, and records are written a moment after they were made.
    const SLACK_MS: u64 = 10_000;
    let begun = segment.started_unix_ms.saturating_sub(SLACK_MS);
    let ended = written_unix_ms(segment).map(|written| written.saturating_add(SLACK_MS));
    query.until_unix_ms.is_none_or(|until| begun <= until)
        && query
            .since_unix_ms
            .is_none_or(|since| ended.is_none_or(|ended| ended >= since))
}

/// Looks at every whole line.
fn scan(mut file: impl BufRead, query: &Query, newest: &mut Newest) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        // One more than a line may have, so that a longer one is noticed.
        let read = file
            .by_ref()
            .take(LINE_BYTES_MAX as u64 + 1)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            // Torn, or none of ours: it counts as one line up to its end.
            skip_line(&mut file)?;
            continue;
        }
        let Ok(text) = std::str::from_utf8(&line) else {
            continue;
        };
        let Ok(head) = serde_json::from_str::<Head<'_>>(text.trim_end()) else {
            continue;
        };
        if query.fits(&head)
            && let Ok(raw) = RawValue::from_string(text.trim_end().to_owned())
        {
            newest.add(head.at_unix_ms, raw);
        }
    }
}

fn skip_line(file: &mut impl BufRead) -> io::Result<()> {
    loop {
        let there = file.fill_buf()?;
        let (length, is_end) = match there.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (there.len(), there.is_empty()),
        };
        file.consume(length);
        if is_end {
            return Ok(());
        }
    }
}
