//! What changes about sessions, on the disk: log level, subscriptions, when a session was last seen, which were ended by
//! their clients, and declarations that have no place in a session id.
//!
//! One file for all sessions, `sessions.json`, written some time after a change and replaced atomically. Most sessions are
//! not in it at all: one that was opened a moment ago and never changed is its id and nothing else. An entry lives as
//! long as its session could be revived, so the file is bounded by time, by number and by bytes. Several processes may
//! share the directory; the first one owns the file, the others keep nothing beyond their own life.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::Notify;

use super::{Session, SessionId, Sessions, lock, unix_ms};

const NAME: &str = "sessions.json";
const LOCK: &str = "sessions.lock";
/// Prefix of files that are being written; the catalog store, which shares the directory, sweeps old ones.
const UNFINISHED: &str = ".unfinished-";
/// Largest file that is written or read, in bytes, estimated while it is in memory.
const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most sessions that are remembered as ended by their clients. The one that would expire first is forgotten first.
const GONE_MAX: usize = 20_000;
/// How long changes are collected before they are written.
const DEBOUNCE: Duration = Duration::from_secs(1);

/// What is kept about one session.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Entry {
    /// When it was last known to be used.
    pub(super) seen_at_unix_ms: u64,
    /// Its client ended it.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) gone: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_level: Option<u8>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) subscriptions: Vec<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Box<RawValue>>,
}

fn is_false(is: &bool) -> bool {
    !is
}

impl Entry {
    /// What a client declared that had no place in its session id.
    pub(super) fn declared(&self) -> Option<(Box<str>, Option<Box<str>>)> {
        let capabilities = self.capabilities.as_ref()?.get().into();
        Some((
            capabilities,
            self.info.as_ref().map(|info| info.get().into()),
        ))
    }

    fn of(session: &Session, seen_at_unix_ms: u64) -> Self {
        let on_disk = session.declared_on_disk;
        let raw = |text: &str| RawValue::from_string(text.to_owned()).ok();
        let opening = &session.opening;
        Self {
            seen_at_unix_ms,
            gone: false,
            log_level: session.log_level(),
            subscriptions: session.subscriptions(),
            capabilities: on_disk.then(|| raw(&opening.client_capabilities)).flatten(),
            info: if on_disk {
                opening.client_info.as_deref().and_then(raw)
            } else {
                None
            },
        }
    }

    /// About what it takes in the file.
    fn bytes(&self) -> usize {
        let raw = |raw: &Option<Box<RawValue>>| raw.as_ref().map_or(0, |raw| raw.get().len());
        let uris: usize = self.subscriptions.iter().map(|uri| uri.len() + 8).sum();
        128 + raw(&self.capabilities) + raw(&self.info) + uris
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Body {
    version: u32,
    sessions: HashMap<String, Entry>,
}

/// The file, and what is to be in it.
#[derive(Debug)]
pub(crate) struct Kept {
    dir: PathBuf,
    idle_max_ms: u64,
    table: Mutex<Table>,
    /// The lock of the file, while it is ours. Held while the file is written, and nowhere else.
    owned: Mutex<Option<File>>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<SessionId, Entry>,
    bytes: usize,
    gone: usize,
    dirty: bool,
}

impl Table {
    fn insert(&mut self, id: SessionId, entry: Entry) -> bool {
        let bytes = entry.bytes();
        let before = self.entries.get(&id).map_or(0, Entry::bytes);
        if self.bytes - before + bytes > FILE_BYTES_MAX {
            return false;
        }
        self.bytes = self.bytes - before + bytes;
        let was_gone = self.entries.get(&id).is_some_and(|entry| entry.gone);
        self.gone = self.gone - usize::from(was_gone) + usize::from(entry.gone);
        self.entries.insert(id, entry);
        self.dirty = true;
        true
    }

    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        let before = self.entries.len();
        self.entries.retain(|_, entry| keep(entry));
        if self.entries.len() != before {
            self.bytes = self.entries.values().map(Entry::bytes).sum();
            self.gone = self.entries.values().filter(|entry| entry.gone).count();
            self.dirty = true;
        }
    }
}

impl Kept {
    /// Reads what was kept. A file that cannot be understood is put aside under another name and logged; what it said is
    /// lost, which costs log levels, subscriptions and endings, but no session of ordinary size. Blocks on the file system.
    pub(crate) fn open(dir: &Path, idle_max_ms: u64) -> Self {
        let kept = Self {
            dir: dir.to_owned(),
            idle_max_ms,
            table: Mutex::default(),
            owned: Mutex::default(),
            changed: Notify::new(),
        };
        if kept.own(&mut lock(&kept.owned)).is_none() {
            tracing::warn!(
                dir = %dir.display(),
                "another Mainstay owns the sessions of this state directory; what changes in sessions here ends with this process"
            );
        }
        kept
    }

    /// What is kept about a session.
    pub(super) fn get(&self, id: SessionId) -> Option<Entry> {
        lock(&self.table).entries.get(&id).cloned()
    }

    /// Keeps the present state of a session.
    pub(super) fn put(&self, session: &Session) {
        self.put_seen(session, unix_ms());
    }

    /// The same for a session that was last used at a known time.
    pub(super) fn put_seen(&self, session: &Session, used_at_unix_ms: u64) {
        session
            .seen_at_unix_ms
            .store(used_at_unix_ms, Ordering::Relaxed);
        self.insert(session.id, Entry::of(session, used_at_unix_ms));
    }

    /// Remembers that a session was ended by its client.
    pub(super) fn bury(&self, id: SessionId) {
        {
            let mut table = lock(&self.table);
            if table.gone >= GONE_MAX {
                let oldest = table.entries.iter().filter(|(_, entry)| entry.gone);
                let oldest = oldest.min_by_key(|(_, entry)| entry.seen_at_unix_ms);
                if let Some(id) = oldest.map(|(id, _)| *id) {
                    table.entries.remove(&id);
                    table.gone -= 1;
                }
            }
        }
        let entry = Entry {
            seen_at_unix_ms: unix_ms(),
            gone: true,
            ..Entry::default()
        };
        self.insert(id, entry);
    }

    fn insert(&self, id: SessionId, entry: Entry) {
        if lock(&self.table).insert(id, entry) {
            self.changed.notify_one();
        } else {
            tracing::warn!(
                "too much is kept about sessions; the latest change will not survive a restart"
            );
        }
    }

    /// Writes what has changed. Blocks on the file system. Failures are logged, and tried again with the next change.
    pub(crate) fn write(&self) {
        let mut owned = lock(&self.owned);
        if self.own(&mut owned).is_none() {
            return;
        }
        let now = unix_ms();
        let body = {
            let mut table = lock(&self.table);
            table.retain(|entry| now.saturating_sub(entry.seen_at_unix_ms) < self.idle_max_ms);
            if !table.dirty {
                return;
            }
            table.dirty = false;
            Body {
                version: 1,
                sessions: table
                    .entries
                    .iter()
                    .map(|(id, entry)| (id.to_string(), entry.clone()))
                    .collect(),
            }
        };
        if let Err(error) = self.replace(&body) {
            lock(&self.table).dirty = true;
            tracing::warn!(%error, dir = %self.dir.display(), "cannot write what changed in sessions");
        }
    }

    /// Leaves the file to the next process. Whoever writes again takes it again.
    pub(super) fn release(&self) {
        *lock(&self.owned) = None;
    }

    fn replace(&self, body: &Body) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.dir)?;
        file.write_all(&serde_json::to_vec(body)?)?;
        // The content must be on the disk before the name points to it, or a power cut leaves an empty file.
        file.as_file().sync_all()?;
        file.persist(self.dir.join(NAME))?;
        Ok(())
    }

    /// Takes the file if nobody has it, and reads it then. What this process knows already counts more.
    fn own(&self, owned: &mut MutexGuard<'_, Option<File>>) -> Option<()> {
        if owned.is_some() {
            return Some(());
        }
        let locked = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode_private()
            .open(self.dir.join(LOCK))
            .and_then(|file| {
                flock(&file, FlockOperation::NonBlockingLockExclusive)?;
                Ok(file)
            });
        match locked {
            Ok(file) => **owned = Some(file),
            Err(error) => {
                tracing::debug!(%error, "the sessions on the disk are not ours");
                return None;
            }
        }
        let read = read(&self.dir.join(NAME));
        let body = read.unwrap_or_else(|damage| {
            self.put_aside(&damage);
            Body::default()
        });
        let mut table = lock(&self.table);
        for (id, entry) in body.sessions {
            if let Some(id) = SessionId::parse(id.as_bytes())
                && !table.entries.contains_key(&id)
            {
                table.insert(id, entry);
            }
        }
        Some(())
    }

    fn put_aside(&self, damage: &io::Error) {
        let aside = self
            .dir
            .join(format!("sessions.damaged-{}.json", unix_ms()));
        let moved = fs::rename(self.dir.join(NAME), &aside);
        tracing::warn!(
            %damage,
            aside = %aside.display(),
            moved = moved.is_ok(),
            "what was kept about sessions is damaged and was put aside"
        );
    }
}

/// Writes what changes until `sessions` end, at most once a second. Ends with the gateway.
pub(crate) async fn run(sessions: &Sessions, ending: tokio_util::sync::CancellationToken) {
    let Some(kept) = sessions.kept() else { return };
    loop {
        tokio::select! {
            // Cancel-safe: a permit that is not taken stays.
            () = kept.changed.notified() => {}
            // Cancel-safe: a token holds nothing. What is left is written by whoever ends the gateway.
            () = ending.cancelled() => return,
        }
        tokio::select! {
            // Cancel-safe: a sleep and a token hold nothing.
            () = tokio::time::sleep(DEBOUNCE) => {}
            () = ending.cancelled() => return,
        }
        let kept = std::sync::Arc::clone(kept);
        // If the blocking task died, the next change writes.
        drop(tokio::task::spawn_blocking(move || kept.write()).await);
    }
}

fn read(path: &Path) -> io::Result<Body> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Body::default()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    // Estimates are rough; a file of twice the size is not one of ours.
    file.take(2 * FILE_BYTES_MAX as u64)
        .read_to_end(&mut bytes)?;
    let body: Body = serde_json::from_slice(&bytes)?;
    if body.version == 1 {
        Ok(body)
    } else {
        Err(io::Error::new(ErrorKind::InvalidData, "an unknown version"))
    }
}

/// Files that nobody else may read.
trait ModePrivate {
    fn mode_private(&mut self) -> &mut Self;
}

impl ModePrivate for fs::OpenOptions {
    fn mode_private(&mut self) -> &mut Self {
        std::os::unix::fs::OpenOptionsExt::mode(self, 0o600)
    }
}
