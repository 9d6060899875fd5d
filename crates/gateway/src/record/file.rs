//! The file: one writer thread, lines, and rotation.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use mainstay_wire::ndjson::into_line;
use mainstay_wire::{Era, Parts, SseDecoder, SseItem, json_string, raw};

use super::{Entry, Peer, locked, now_us};
use mainstay::secrets::{HIDDEN, Secrets};

/// The file and what is known about it.
pub(super) struct Log {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    bytes_max: u64,
    secrets: Arc<Mutex<Secrets>>,
    /// Session ids are credentials: the log names them by a hash with a key of this process.
    names: RandomState,
}

impl Log {
    pub(super) fn open(
        path: &Path,
        bytes_max: u64,
        secrets: Arc<Mutex<Secrets>>,
    ) -> io::Result<Self> {
        let file = open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            bytes,
            bytes_max,
            secrets,
            names: RandomState::new(),
        })
    }

    /// Writes until nobody can send any more, or the file cannot be written: that is told once, and serving goes on.
    pub(super) fn write(
        mut self,
        entries: &Receiver<Entry>,
        waiting: &AtomicUsize,
        dropped: &AtomicU64,
    ) {
        while let Ok(first) = entries.recv() {
            let mut next = Some(first);
            while let Some(entry) = next {
                waiting.fetch_sub(entry.text.len(), Ordering::Relaxed);
                let missed = dropped.swap(0, Ordering::Relaxed);
                if let Err(error) = self.entry(entry, missed) {
                    tracing::error!(%error, "the wire log cannot be written; it ends here");
                    return;
                }
                next = entries.try_recv().ok();
            }
            if let Err(error) = self.file.flush() {
                tracing::error!(%error, "the wire log cannot be written; it ends here");
                return;
            }
        }
    }

    fn entry(&mut self, entry: Entry, missed: u64) -> io::Result<()> {
        if missed > 0 {
            self.line(&format!("{{\"t\":{},\"dropped\":{missed}}}\n", now_us()))?;
        }
        let head = self.head(&entry);
        for message in messages(entry.text) {
            let text = locked(&self.secrets).scrub(message.trim());
            // A secret that stood outside of a string takes the message with it.
            let text = if raw::is_json(&text) {
                text
            } else {
                json_string(HIDDEN)
            };
            self.line(&format!("{{{head},\"message\":{text}}}\n"))?;
        }
        Ok(())
    }

    fn head(&self, entry: &Entry) -> String {
        let dir = if entry.is_in { "in" } else { "out" };
        let era = match entry.era {
            Era::Legacy => "legacy",
            Era::Modern => "modern",
        };
        let at_us = entry.at_us;
        match &entry.peer {
            Peer::Client {
                session,
                exchange,
                endpoint,
            } => {
                let peer = session.as_ref().map_or_else(
                    || "-".to_owned(),
                    |session| format!("s-{:016x}", self.names.hash_one(session.as_bytes())),
                );
                let endpoint = json_string(endpoint);
                format!(
                    "\"t\":{at_us},\"side\":\"client\",\"dir\":\"{dir}\",\"peer\":\"{peer}\",\"exchange\":{exchange},\"endpoint\":{endpoint},\"era\":\"{era}\""
                )
            }
            Peer::Server { name, generation } => {
                let peer = json_string(&format!("{name}#{generation}"));
                format!(
                    "\"t\":{at_us},\"side\":\"server\",\"dir\":\"{dir}\",\"peer\":{peer},\"era\":\"{era}\""
                )
            }
        }
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.bytes_max {
            self.file.flush()?;
            let mut former = self.path.clone().into_os_string();
            former.push(".1");
            std::fs::rename(&self.path, former)?;
            self.file = BufWriter::new(open(&self.path)?);
            self.bytes = 0;
        }
        self.bytes += length;
        self.file.write_all(line.as_bytes())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// The messages in a text: itself, or those in the events that it is made of. Line breaks become spaces.
fn messages(text: Parts) -> Vec<String> {
    let line = into_line(text.clone()).into_bytes();
    if line
        .first()
        .is_some_and(|first| matches!(first, b'{' | b'['))
    {
        return as_text(&line).into_iter().collect();
    }
    let bytes = text.into_bytes();
    let mut events = SseDecoder::new(bytes.len());
    events.push(bytes);
    let mut found = Vec::new();
    for item in events.by_ref() {
        found.extend(data_of(item));
    }
    found.extend(events.finish().and_then(data_of));
    found
}

/// A recording never holds a message that nobody sent: what is no text is no message of MCP, and is left out.
fn as_text(line: &[u8]) -> Option<String> {
    std::str::from_utf8(line).ok().map(str::to_owned)
}

fn data_of(item: SseItem) -> Option<String> {
    match item {
        SseItem::Event { data, .. } if !data.is_empty() => {
            let line = into_line(Parts::from(data)).into_bytes();
            as_text(&line)
        }
        SseItem::Event { .. } | SseItem::Comment | SseItem::TooLong { .. } => None,
    }
}
