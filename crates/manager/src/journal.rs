//! The journal: what happened and how calls ended, as JSON lines on disk, so that one can look back over restarts.
//!
//! Bounded in every direction: a queue in front of one writing thread, a number of files, and their bytes in all. Nothing
//! that Mainstay does waits for the disk, and nothing fails because of it: records that cannot be kept are lost, counted, and
//! told in the journal itself and in its status. It holds what events and call records hold and nothing more: no results, no
//! arguments unless `mainstay.journal.arguments` asks for them, and never a secret of the configuration (law 31).
//!
//! A line: `{"kind":"event"|"call"|"journal", "atUnixMs":.., ..}`; the rest is the event, the record, or what the journal has
//! to say of itself: `started`, and `lost` with how many `records`. A line that was torn by a crash is skipped by readers.
//! Lines are gathered for a moment (20 ms), and not forced to the disk one by one: a process that is killed loses that
//! moment, a machine what its system had not written yet.

mod read;
mod segments;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;

use crate::calls::CallRecord;
use crate::events::Event;
use crate::secrets::Hidden;

pub use self::read::{Kind, Page, Query, RECORDS_MAX, read};

/// Records that wait to be written; more are lost.
const WAITING_MAX: usize = 8_192;

/// How long the end of Mainstay waits for what is still to be written.
const CLOSING: Duration = Duration::from_secs(2);

/// The name of the directory below the state directory.
pub const DIR_NAME: &str = "journal";

/// How much is kept. See `mainstay.journal` in the config.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct JournalConfig {
    /// Whether there is one at all. Default: yes.
    pub enabled: bool,
    /// Bytes of all files. Default: 64 MiB.
    pub bytes: u64,
    /// Files. Default: 8.
    pub files: usize,
    /// Whether records of calls hold the arguments. Default: no.
    pub arguments: bool,
}

/// Bytes of all files, unless the config says otherwise.
pub(crate) const BYTES: u64 = 64 * 1024 * 1024;

/// The least that is worth it.
pub(crate) const BYTES_MIN: u64 = 256 * 1024;

/// Files, unless the config says otherwise.
pub(crate) const FILES: u64 = 8;

/// The most.
pub(crate) const FILES_MAX: u64 = 1_000;

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            bytes: BYTES,
            files: 8,
            arguments: false,
        }
    }
}

/// How the journal is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JournalStatus {
    /// Where it lies.
    pub path: PathBuf,
    /// Why nothing can be written at the moment; absent while all is well. It is tried again by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Records that were written since the start.
    pub written: u64,
    /// Records that were lost since the start: because they came faster than they could be written, or could not be.
    pub lost: u64,
}

/// What is to be written.
#[derive(Debug)]
enum Entry {
    Event(Box<Event>),
    Call(Arc<CallRecord>),
    /// Look whether it is over.
    Wake,
}

/// What the writer and everybody else know of it.
#[derive(Debug, Default)]
struct Face {
    written: AtomicU64,
    /// In all.
    lost: AtomicU64,
    /// Of these, those for which there was no room and of which the journal has not told yet.
    overrun: AtomicU64,
    problem: Mutex<Option<String>>,
    closing: AtomicBool,
}

impl Face {
    fn problem(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The journal of this process. Its thread ends when it is closed, or dropped.
#[derive(Debug)]
pub(crate) struct Journal {
    entries: SyncSender<Entry>,
    face: Arc<Face>,
    dir: PathBuf,
    ended: watch::Receiver<bool>,
    thread: std::thread::Thread,
}

impl Journal {
    /// Starts to write below `dir`, which is made if it is not there. Does not touch the disk itself: what is wrong with it
    /// is told in the status. `None` if there are no threads to be had, which is logged.
    pub(crate) fn start(dir: PathBuf, config: &JournalConfig, hidden: Arc<Hidden>) -> Option<Self> {
        let (entries, waiting) = sync_channel(WAITING_MAX);
        let (end, ended) = watch::channel(false);
        let face = Arc::<Face>::default();
        let writer = writer::Writer::new(&dir, config, hidden, Arc::clone(&face));
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let started = thread.spawn(move || {
            writer.run(&waiting);
            end.send_replace(true);
        });
        let thread = match started {
            Ok(handle) => handle.thread().clone(),
            Err(error) => {
                tracing::warn!(%error, "going on without a journal");
                return None;
            }
        };
        Some(Self {
            entries,
            face,
            dir,
            ended,
            thread,
        })
    }

    /// Something happened. Never waits.
    pub(crate) fn event(&self, event: &Event) {
        self.put(Entry::Event(Box::new(event.clone())));
    }

    /// A call ended. Never waits.
    pub(crate) fn call(&self, record: &Arc<CallRecord>) {
        self.put(Entry::Call(Arc::clone(record)));
    }

    fn put(&self, entry: Entry) {
        if self.face.closing.load(Ordering::Relaxed) {
            return;
        }
        match self.entries.try_send(entry) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.face.lost.fetch_add(1, Ordering::Relaxed);
                self.face.overrun.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// How it is doing.
    pub(crate) fn status(&self) -> JournalStatus {
        JournalStatus {
            path: self.dir.clone(),
            problem: self.face.problem().clone(),
            written: self.face.written.load(Ordering::Relaxed),
            lost: self.face.lost.load(Ordering::Relaxed),
        }
    }

    /// Where it lies.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes what waits, and ends the thread. Waits two seconds at most: a disk that hangs holds nobody up. Idempotent;
    /// dropping the future does not stop it.
    pub(crate) async fn close(&self) {
        self.face.closing.store(true, Ordering::Release);
        // A full queue means that the thread is awake, and will look by itself.
        let _ = self.entries.try_send(Entry::Wake);
        self.thread.unpark();
        let mut ended = self.ended.clone();
        let ending = ended.wait_for(|ended| *ended);
        if tokio::time::timeout(CLOSING, ending).await.is_err() {
            tracing::warn!("the journal could not be ended in time");
        }
    }
}

#[cfg(test)]
mod tests;
