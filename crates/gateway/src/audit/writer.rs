//! The thread that writes the audit log. It gathers for a moment, writes in one piece, and goes on without the disk when that
//! fails: where the log is required it keeps what it has until the disk is back, otherwise that is lost and counted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use mainstay::config::AuditConfig;

use super::chain::{self, Link};
use super::files::{Current, Found, LINE_BYTES_MAX};
use super::record::Record;
use super::{Entry, Face};

/// From the first record on, more of them are waited for this long: what a kill costs at most.
const GATHERING: Duration = Duration::from_millis(20);

/// A disk that failed is tried again after this long, and then ever more rarely.
const AGAIN_MIN: Duration = Duration::from_millis(500);
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// Nothing happens, and nothing is wrong.
const ASLEEP: Duration = Duration::from_secs(3_600);

/// Records that are written in one piece.
const BATCH_MAX: usize = 512;

/// Writes.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    required: bool,
    file_bytes: u64,
    keep: usize,
    face: Arc<Face>,
    /// `None`: it cannot be written.
    current: Option<Current>,
    last: Link,
    /// What is to be written next.
    batch: Vec<Record>,
    again: Option<(Instant, Duration)>,
}

impl Writer {
    pub(super) fn new(path: &Path, config: &AuditConfig, face: Arc<Face>) -> Self {
        Self {
            path: path.to_owned(),
            required: config.required,
            file_bytes: config.file_bytes,
            keep: config.files.saturating_sub(1),
            face,
            current: None,
            last: Link::default(),
            batch: Vec::new(),
            again: None,
        }
    }

    /// Opens the log and says that it begins.
    pub(super) fn begin(&mut self) {
        let mut started = Record::event("started");
        started.details = vec![
            format!("version {}", env!("CARGO_PKG_VERSION")),
            format!("pid {}", std::process::id()),
        ];
        self.batch.push(started);
        self.own();
        self.flush();
    }

    /// Writes until it is closed or nobody is left who could have something to say.
    pub(super) fn run(mut self, entries: &Receiver<Entry>) {
        loop {
            let pause = self.again.map_or(ASLEEP, |(at, _)| {
                at.saturating_duration_since(Instant::now())
            });
            match entries.recv_timeout(pause) {
                Ok(entry) => self.take(entry),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !self.face.closing.load(Ordering::Acquire) {
                std::thread::park_timeout(GATHERING);
            }
            // What waits for the disk stays in the queue, which is where the number of them is bounded.
            while self.batch.len() < BATCH_MAX
                && let Ok(entry) = entries.try_recv()
            {
                self.take(entry);
            }
            self.flush();
            if self.face.closing.load(Ordering::Acquire) {
                break;
            }
        }
        for entry in entries.try_iter() {
            self.take(entry);
        }
        self.batch.push(Record::event("ended"));
        self.own();
        self.again = None;
        self.flush();
    }

    /// What is of our own takes a place like everything else.
    fn own(&self) {
        self.face.taken.fetch_add(1, Ordering::AcqRel);
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Record(record) => self.batch.push(*record),
            Entry::Wake => {}
        }
    }

    /// Writes what waits, or keeps or loses it.
    fn flush(&mut self) {
        let untold = self.face.untold.swap(0, Ordering::AcqRel);
        if untold > 0 {
            let mut lost = Record::event("lost");
            lost.records = Some(untold);
            self.batch.insert(0, lost);
            self.own();
        }
        if self.batch.is_empty() && self.again.is_none() {
            return;
        }
        if let Some((at, _)) = self.again
            && Instant::now() < at
        {
            self.give_up();
            return;
        }
        match self.write() {
            Ok(()) => self.wrote(),
            Err(error) => self.broke(&error),
        }
    }

    fn write(&mut self) -> std::io::Result<()> {
        if self
            .current
            .as_ref()
            .is_none_or(|current| !current.is_there())
        {
            self.current = None;
            self.open()?;
        }
        let Some(current) = &mut self.current else {
            return Err(std::io::Error::other("it is not open"));
        };
        let (mut text, mut last) = (String::new(), self.last.clone());
        for record in &self.batch {
            // Plain data: always has a text.
            let object = serde_json::to_string(record).map_err(std::io::Error::other)?;
            let (line, link) = chain::line(&last, &object);
            if line.len() > LINE_BYTES_MAX {
                tracing::warn!("a record of the audit log is too long to be written");
                self.face.lose(1);
                continue;
            }
            text.push_str(&line);
            text.push('\n');
            last = link;
        }
        if current.bytes() > 0 && current.bytes() + text.len() as u64 > self.file_bytes {
            current.rotate(&self.last, self.keep)?;
        }
        current.write(text.as_bytes())?;
        self.last = last;
        if let Err(error) = current.note(&self.last) {
            // The lines are what counts.
            tracing::warn!(%error, "the last line of the audit log could not be noted beside it");
        }
        Ok(())
    }

    fn open(&mut self) -> std::io::Result<()> {
        let Found {
            current,
            last,
            torn,
            gap,
        } = Current::open(&self.path)?;
        // A process that has written knows better than the file where the chain goes on.
        let gap = gap || self.last.seq > last.seq;
        self.last = if self.last.seq > last.seq {
            self.last.clone()
        } else {
            last
        };
        self.current = Some(current);
        for (event, happened) in [("torn", torn), ("gap", gap)] {
            if happened {
                tracing::error!(path = %self.path.display(), event, "the audit log was not left as it was written");
                self.batch.insert(0, Record::event(event));
                self.own();
            }
        }
        Ok(())
    }

    fn wrote(&mut self) {
        let records = self.batch.len();
        self.batch.clear();
        self.face.taken.fetch_sub(records, Ordering::AcqRel);
        self.face
            .written
            .fetch_add(records as u64, Ordering::Relaxed);
        *self.face.last() = self.last.clone();
        self.again = None;
        if self.face.problem().take().is_some() {
            tracing::info!(path = %self.path.display(), "the audit log is written again");
        }
    }

    fn broke(&mut self, error: &std::io::Error) {
        self.current = None;
        let pause = self
            .again
            .map_or(AGAIN_MIN, |(_, pause)| (pause * 2).min(AGAIN_MAX));
        self.again = Some((Instant::now() + pause, pause));
        let problem = error.to_string();
        let told = self.face.problem().replace(problem.clone());
        if told.as_ref() != Some(&problem) {
            let what = if self.required {
                "calls are refused until it can"
            } else {
                "what happens now is not recorded"
            };
            tracing::error!(path = %self.path.display(), %error, "the audit log cannot be written; {what}");
        }
        self.give_up();
    }

    /// What cannot be written now is kept where it must not be lost.
    fn give_up(&mut self) {
        if self.required && !self.face.closing.load(Ordering::Acquire) {
            return;
        }
        let records = self.batch.len();
        self.batch.clear();
        self.face.taken.fetch_sub(records, Ordering::AcqRel);
        self.face.lose(records as u64);
    }
}
