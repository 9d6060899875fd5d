//! The audit log: who did what, when, by which rule, and how it ended, as a chain of JSON lines on disk.
//!
//! A line: `{"seq":..,"prev":"..", .., "hash":".."}`. `hash` is the SHA-256 of the line up to it, and `prev` the `hash` of the
//! line before, so that an edited or a missing line shows (`chain`). It holds names and a digest of arguments, never arguments,
//! results or secrets (law 31).
//!
//! Nothing that Mainstay does waits for the disk: a bounded queue, one thread. What finds no room or cannot be written is
//! counted and told. Where the configuration calls the log required, a call that could not be recorded is not made.

pub mod chain;
mod files;
pub mod read;
mod record;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay::config::AuditConfig;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;

pub(crate) use self::record::{Approved, Kind, Record, Who};

/// Records that wait to be written, and calls that will have one.
const WAITING_MAX: usize = 8_192;

/// How long the end of Mainstay waits for what is still to be written.
const CLOSING: Duration = Duration::from_secs(2);

/// Where it lies below the state directory.
const DEFAULT_PATH: &str = "audit/audit.jsonl";

/// How the audit log is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditStatus {
    /// The file.
    pub path: PathBuf,
    /// Whether calls are refused while nothing can be written.
    pub required: bool,
    /// Why nothing can be written at the moment; absent while all is well. It is tried again by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Records that were written since the start.
    pub written: u64,
    /// Records that were lost since the start: because they came faster than they could be written, or could not be.
    pub lost: u64,
    /// The number of the last line.
    pub last_seq: u64,
    /// The hash of the last line: whoever keeps it elsewhere can tell later that nothing before it was changed.
    pub last_hash: String,
}

/// What the writer and everybody else know of it.
#[derive(Debug, Default)]
struct Face {
    written: AtomicU64,
    /// In all.
    lost: AtomicU64,
    /// Of these, those of which the log itself has not told yet.
    untold: AtomicU64,
    /// Records that wait, and those that are promised.
    taken: AtomicUsize,
    problem: Mutex<Option<String>>,
    last: Mutex<chain::Link>,
    closing: AtomicBool,
}

impl Face {
    fn problem(&self) -> MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> MutexGuard<'_, chain::Link> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, records: u64) {
        self.lost.fetch_add(records, Ordering::Relaxed);
        self.untold.fetch_add(records, Ordering::Relaxed);
    }
}

/// What is to be written.
#[derive(Debug)]
enum Entry {
    Record(Box<Record>),
    /// Look whether it is over.
    Wake,
}

/// The log is required, and cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unwritable(pub(crate) String);

/// The audit log of this process. Its thread ends when it is closed, or dropped.
#[derive(Debug)]
pub(crate) struct Audit {
    entries: SyncSender<Entry>,
    face: Arc<Face>,
    path: PathBuf,
    required: bool,
    ended: watch::Receiver<bool>,
    thread: Option<std::thread::Thread>,
}

impl Audit {
    /// Starts to write, below `state_dir` unless the config names a file. Opens the file, which blocks for a moment; what is
    /// wrong with it is logged and told in the status. `None`: there is no place for it, which is logged.
    pub(crate) fn start(config: &AuditConfig, state_dir: Option<&Path>) -> Option<Self> {
        let path = match (&config.path, state_dir) {
            (Some(path), _) => path.clone(),
            (None, Some(dir)) => dir.join(DEFAULT_PATH),
            (None, None) => {
                tracing::error!(
                    "no audit log: there is no state directory, and `mainstay.audit.path` is not set"
                );
                // Where it is required nothing may pass, and there is somebody to say why.
                if !config.required {
                    return None;
                }
                PathBuf::new()
            }
        };
        let (entries, waiting) = sync_channel(WAITING_MAX + 1);
        let (end, ended) = watch::channel(false);
        let face = Arc::<Face>::default();
        let mut writer = writer::Writer::new(&path, config, Arc::clone(&face));
        writer.begin();
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let started = thread.spawn(move || {
            writer.run(&waiting);
            end.send_replace(true);
        });
        let thread = match started {
            Ok(handle) => Some(handle.thread().clone()),
            Err(error) => {
                tracing::error!(%error, "no audit log");
                *face.problem() = Some(format!("no thread to write it: {error}"));
                None
            }
        };
        Some(Self {
            entries,
            face,
            path,
            required: config.required,
            ended,
            thread,
        })
    }

    /// Promises room for one record.
    ///
    /// # Errors
    /// The log is required and this could not be recorded.
    pub(crate) fn open(self: &Arc<Self>) -> Result<Ticket, Unwritable> {
        if self.required {
            if let Some(problem) = &*self.face.problem() {
                return Err(Unwritable(problem.clone()));
            }
            if !self.reserve() {
                return Err(Unwritable("too many records wait to be written".to_owned()));
            }
        } else if !self.reserve() {
            self.face.lose(1);
            return Ok(Ticket { audit: None });
        }
        Ok(Ticket {
            audit: Some(Arc::clone(self)),
        })
    }

    /// Records something that has happened already. Never waits.
    pub(crate) fn note(&self, record: Record) {
        if self.reserve() {
            self.put(record);
        } else {
            self.face.lose(1);
        }
    }

    fn reserve(&self) -> bool {
        let taken = &self.face.taken;
        let more = |taken: usize| (taken < WAITING_MAX).then_some(taken + 1);
        taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    fn put(&self, record: Record) {
        match self.entries.try_send(Entry::Record(Box::new(record))) {
            Ok(()) => {}
            // There is a place for everything that was reserved: the thread is gone.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.face.taken.fetch_sub(1, Ordering::AcqRel);
                self.face.lose(1);
            }
        }
    }

    /// How it is doing.
    pub(crate) fn status(&self) -> AuditStatus {
        let last = self.face.last().clone();
        AuditStatus {
            path: self.path.clone(),
            required: self.required,
            problem: self.face.problem().clone(),
            written: self.face.written.load(Ordering::Relaxed),
            lost: self.face.lost.load(Ordering::Relaxed),
            last_seq: last.seq,
            last_hash: last.hash,
        }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what waits, and ends the thread. Waits two seconds at most. Idempotent; dropping the future does not stop it.
    pub(crate) async fn close(&self) {
        self.face.closing.store(true, Ordering::Release);
        // A full queue means that the thread is awake, and will look by itself.
        let _ = self.entries.try_send(Entry::Wake);
        let Some(thread) = &self.thread else {
            return;
        };
        thread.unpark();
        let mut ended = self.ended.clone();
        let ending = ended.wait_for(|ended| *ended);
        if tokio::time::timeout(CLOSING, ending).await.is_err() {
            tracing::warn!("the audit log could not be ended in time");
        }
    }
}

/// Room for one record.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// `None`: it is lost already.
    audit: Option<Arc<Audit>>,
}

impl Ticket {
    /// Records what it was promised for.
    pub(crate) fn write(mut self, record: Record) {
        if let Some(audit) = self.audit.take() {
            audit.put(record);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(audit) = self.audit.take() {
            audit.face.taken.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests;
