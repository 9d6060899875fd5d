//! The thread that writes the journal. It sleeps while nothing happens, writes what waits in one piece, and goes on without
//! the disk when that fails.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::segments::{Bounds, LINE_BYTES_MAX, Open};
use super::{Entry, Face, JournalConfig, WAITING_MAX};
use crate::catalog::unix_ms;
use crate::secrets::Hidden;

/// What is written in one piece at most, beyond one line.
const BATCH_BYTES: usize = 64 * 1024;

/// From the first record on, more of them are waited for this long: what a kill costs at most.
const GATHERING: Duration = Duration::from_millis(20);

/// A disk that failed is tried again after this long, and then ever more rarely.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// Where lines go.
#[derive(Debug)]
enum Disk {
    /// Nothing was written yet.
    New,
    Open(Open),
    /// It failed. What comes before `again` is lost.
    Broken {
        again: Instant,
        pause: Duration,
    },
}

/// Writes.
#[derive(Debug)]
pub(super) struct Writer {
    dir: PathBuf,
    bounds: Bounds,
    hidden: Arc<Hidden>,
    face: Arc<Face>,
    disk: Disk,
    /// Whole lines that wait to be written, and how many.
    batch: Vec<u8>,
    records: u64,
    /// Records that were lost and that the journal does not tell of yet.
    untold: u64,
}

impl Writer {
    pub(super) fn new(
        dir: &Path,
        config: &JournalConfig,
        hidden: Arc<Hidden>,
        face: Arc<Face>,
    ) -> Self {
        Self {
            dir: dir.to_owned(),
            bounds: Bounds::new(config.bytes, config.files),
            hidden,
            face,
            disk: Disk::New,
            batch: Vec::new(),
            records: 0,
            untold: 0,
        }
    }

    /// Writes until it is closed or nobody is left who could have something to say.
    pub(super) fn run(mut self, entries: &Receiver<Entry>) {
        self.say(&json_line(&Own::Started {
            at_unix_ms: unix_ms(),
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
        }));
        self.flush();
        while let Ok(entry) = entries.recv() {
            self.take(&entry);
            if !self.face.closing.load(Ordering::Acquire) {
                // While it sleeps nobody has to wake it, which is what a record costs its caller most.
                std::thread::park_timeout(GATHERING);
            }
            for entry in entries.try_iter().take(WAITING_MAX) {
                self.take(&entry);
            }
            self.flush();
            if self.face.closing.load(Ordering::Acquire) {
                break;
            }
        }
        // What came before the end is kept; its number is that of the queue at most.
        for entry in entries.try_iter() {
            self.take(&entry);
        }
        self.flush();
    }

    fn take(&mut self, entry: &Entry) {
        let (kind, text) = match entry {
            Entry::Event(event) => ("event", serde_json::to_string(event)),
            Entry::Call(record) => ("call", serde_json::to_string(record.as_ref())),
            Entry::Wake => return,
        };
        match text {
            Ok(text) => {
                let line = format!("{{\"kind\":\"{kind}\",{}", text.get(1..).unwrap_or("}"));
                let line = self.hidden.scrub(&line);
                if line.len() < LINE_BYTES_MAX {
                    self.say(&line);
                    self.records += 1;
                } else {
                    self.lose(1);
                }
            }
            // Both are plain data: cannot happen.
            Err(_) => self.lose(1),
        }
        if self.batch.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    fn say(&mut self, line: &str) {
        self.batch.extend_from_slice(line.as_bytes());
        self.batch.push(b'\n');
    }

    fn lose(&mut self, records: u64) {
        self.untold += records;
        self.face.lost.fetch_add(records, Ordering::Relaxed);
    }

    /// Writes what waits, or loses it.
    fn flush(&mut self) {
        self.untold += self.face.overrun.swap(0, Ordering::Relaxed);
        if self.batch.is_empty() && self.untold == 0 {
            return;
        }
        if matches!(self.disk, Disk::Broken { again, .. } if Instant::now() < again) {
            self.give_up_batch();
            return;
        }
        match self.write() {
            Ok(()) => self.wrote(),
            Err(error) => self.broke(&error),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let mut open = match std::mem::replace(&mut self.disk, Disk::New) {
            Disk::Open(open) if open.is_there() => open,
            Disk::Open(_) | Disk::New => Open::newest(&self.dir, self.bounds)?,
            Disk::Broken { again, pause } => {
                // Kept until it is known to be better.
                self.disk = Disk::Broken { again, pause };
                Open::newest(&self.dir, self.bounds)?
            }
        };
        if self.untold > 0 {
            let line = json_line(&Own::Lost {
                at_unix_ms: unix_ms(),
                records: self.untold,
            });
            open = open.for_bytes(line.len() + 1)?;
            open.write(format!("{line}\n").as_bytes())?;
            self.untold = 0;
        }
        while !self.batch.is_empty() {
            let first = line_end(&self.batch, 0);
            open = open.for_bytes(first)?;
            // As many whole lines as the file has room for.
            let room = usize::try_from(open.room()).unwrap_or(usize::MAX);
            let mut end = first;
            while end < self.batch.len() {
                let next = line_end(&self.batch, end);
                if next > room {
                    break;
                }
                end = next;
            }
            open.write(self.batch.get(..end).unwrap_or_default())?;
            let lines = bytecount(self.batch.get(..end).unwrap_or_default());
            let records = lines.min(self.records);
            self.records -= records;
            self.face.written.fetch_add(records, Ordering::Relaxed);
            self.batch.drain(..end);
        }
        self.disk = Disk::Open(open);
        Ok(())
    }

    fn wrote(&mut self) {
        if self.face.problem().take().is_some() {
            tracing::info!(path = %self.dir.display(), "the journal is written again");
        }
    }

    /// Goes on without the disk for a while. Said once, not for every record.
    fn broke(&mut self, error: &io::Error) {
        let pause = match self.disk {
            Disk::Broken { pause, .. } => (pause * 2).min(AGAIN_MAX),
            Disk::New | Disk::Open(_) => AGAIN_MIN,
        };
        self.disk = Disk::Broken {
            again: Instant::now() + pause,
            pause,
        };
        let before = self.face.problem().replace(error.to_string());
        if before.is_none() {
            tracing::warn!(
                path = %self.dir.display(),
                %error,
                "the journal cannot be written; going on without, and trying again"
            );
        }
        self.give_up_batch();
    }

    fn give_up_batch(&mut self) {
        let records = std::mem::take(&mut self.records);
        self.batch.clear();
        self.lose(records);
    }
}

/// Where the line that begins at `from` ends, with its line break.
fn line_end(lines: &[u8], from: usize) -> usize {
    let rest = lines.get(from..).unwrap_or_default();
    let length = rest.iter().position(|byte| *byte == b'\n');
    length.map_or(lines.len(), |length| from + length + 1)
}

fn bytecount(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// What the journal has to say of itself.
#[derive(Debug, Serialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
enum Own {
    Started {
        at_unix_ms: u64,
        version: &'static str,
        pid: u32,
    },
    Lost {
        at_unix_ms: u64,
        records: u64,
    },
}

fn json_line(own: &Own) -> String {
    let text = serde_json::to_string(own).unwrap_or_else(|_| "{}".to_owned());
    format!("{{\"kind\":\"journal\",{}", text.get(1..).unwrap_or("}"))
}
