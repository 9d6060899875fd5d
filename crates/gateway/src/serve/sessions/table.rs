//! The table of all sessions: opening, finding, reviving, ending.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use mainstay::Principal;
use mainstay_wire::Revision;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::kept::Kept;
use super::{ID_DIGITS, Opening, Session, SessionId, lock, sealed, unix_ms};
use crate::serve::bridge::asked::Asked;
use crate::serve::levels::SessionLevel;
use crate::serve::push::Told;
use crate::serve::replay::{self, Replay};
use crate::serve::seal::{SealError, Sealer};
use crate::serve::subscriptions::Subscriber;

/// Lookups of different sessions hardly ever meet on one of these.
pub(super) const SHARDS: usize = 16;

/// A session makes room for a new one only after this long without a request.
pub(super) const EVICT_IDLE_MS: u64 = 60_000;

/// Why no session could be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSession {
    /// The table is full of sessions in use.
    #[error("all {0} sessions are in use (setting `mainstay.limits.sessions`)")]
    Full(usize),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a session id")]
    Random(#[source] getrandom::Error),
    /// The state of the session could not be sealed into its id.
    #[error("no session id could be made")]
    Seal(#[source] SealError),
}

/// What it takes to survive a restart.
#[derive(Debug)]
struct Durable {
    sealer: Arc<Sealer>,
    kept: Arc<Kept>,
}

/// All sessions of this gateway.
#[derive(Debug)]
pub(crate) struct Sessions {
    shards: [RwLock<HashMap<SessionId, Arc<Session>>>; SHARDS],
    count: AtomicUsize,
    count_max: usize,
    idle_max_ms: u64,
    epoch: Instant,
    durable: Option<Durable>,
    replay: Arc<replay::Common>,
}

/// Where a session is looked for, and by whom: both are part of what it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct At<'a> {
    /// The endpoint: a server's name, or none for the aggregate.
    pub(crate) server: Option<&'a str>,
    /// Whoever looks; `None`: nobody in particular.
    pub(crate) principal: Option<&'a Principal>,
}

impl At<'_> {
    fn is_of(self, opening: &Opening) -> bool {
        opening.server.as_deref() == self.server && opening.principal.as_ref() == self.principal
    }
}

/// What a new entry of the table is made of.
struct Fresh {
    id: SessionId,
    text: Box<str>,
    declared_on_disk: bool,
    opening: Opening,
    told: Told,
    opened_at_unix_ms: u64,
}

impl Sessions {
    /// An empty table for at most `count_max` sessions, each of which ends after `idle_max_ms` without use, and all of
    /// them with this process.
    pub(crate) fn new(count_max: usize, idle_max_ms: u64) -> Self {
        Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            count: AtomicUsize::new(0),
            count_max,
            idle_max_ms,
            epoch: Instant::now(),
            durable: None,
            replay: Arc::default(),
        }
    }

    /// How streams of sessions are kept for a resume.
    pub(crate) fn replaying(mut self, common: replay::Common) -> Self {
        self.replay = Arc::new(common);
        self
    }

    /// Lets sessions survive this process: their state is sealed into their ids with `sealer`, and what changes is kept in
    /// `dir`, where what a former process kept is read now. Blocks on the file system.
    pub(crate) fn durable(mut self, sealer: &Arc<Sealer>, dir: &Path) -> Self {
        self.durable = Some(Durable {
            sealer: Arc::clone(sealer),
            kept: Arc::new(Kept::open(dir, self.idle_max_ms)),
        });
        self
    }

    /// What is kept on the disk, if anything is.
    pub(crate) fn kept(&self) -> Option<&Arc<Kept>> {
        self.durable.as_ref().map(|durable| &durable.kept)
    }

    /// How many sessions are open.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Opens a session. A full table first drops what has expired, then the session that was idle longest.
    pub(crate) fn open(&self, opening: Opening, told: Told) -> Result<Arc<Session>, NoSession> {
        self.open_at(self.now_ms(), opening, told)
    }

    pub(super) fn open_at(
        &self,
        now_ms: u64,
        opening: Opening,
        told: Told,
    ) -> Result<Arc<Session>, NoSession> {
        self.make_room(now_ms)?;
        let id = SessionId::random().map_err(NoSession::Random)?;
        let opened_at_unix_ms = unix_ms();
        let (text, declared_on_disk) = match &self.durable {
            Some(durable) => {
                let written = sealed::write(&durable.sealer, id, &opening, opened_at_unix_ms)
                    .map_err(NoSession::Seal)?;
                (written.text, written.on_disk)
            }
            None => (id.to_string().into(), false),
        };
        let session = self.insert(
            now_ms,
            Fresh {
                id,
                text,
                declared_on_disk,
                opening,
                told,
                opened_at_unix_ms,
            },
        );
        if declared_on_disk && let Some(kept) = self.kept() {
            kept.put(&session);
        }
        Ok(session)
    }

    fn make_room(&self, now_ms: u64) -> Result<(), NoSession> {
        if self.count() >= self.count_max {
            self.sweep_at(now_ms);
            if self.count() >= self.count_max && !self.evict(now_ms) {
                return Err(NoSession::Full(self.count_max));
            }
        }
        Ok(())
    }

    fn insert(&self, now_ms: u64, fresh: Fresh) -> Arc<Session> {
        let id = fresh.id;
        let ended = CancellationToken::new();
        let is_primed = fresh.opening.revision == Revision::V2025_11_25;
        let session = Session {
            id,
            replay: Replay::new(Arc::clone(&self.replay), is_primed, ended.clone()),
            text: fresh.text,
            client: id.to_string().into(),
            opening: fresh.opening,
            viewer: std::sync::OnceLock::new(),
            asked: Asked::default(),
            told: Mutex::new(fresh.told),
            subscriber: Subscriber::default(),
            level: SessionLevel::default(),
            log_level: AtomicU8::new(u8::MAX),
            subscriptions: Mutex::default(),
            kept: self.kept().cloned(),
            declared_on_disk: fresh.declared_on_disk,
            seen_at_unix_ms: AtomicU64::new(fresh.opened_at_unix_ms),
            used_at_ms: AtomicU64::new(now_ms),
            calls: Mutex::default(),
            streams: watch::Sender::default(),
            ended,
        };
        match self.write(id).entry(id) {
            // Two requests revived it at the same time.
            Slot::Occupied(there) => Arc::clone(there.get()),
            Slot::Vacant(free) => {
                self.count.fetch_add(1, Ordering::Relaxed);
                Arc::clone(free.insert(Arc::new(session)))
            }
        }
    }

    /// The session of an id as a client wrote it, where and whose it is; finding it counts as use. One that was opened
    /// before a restart, or that had to make room, is revived if its client did not end it and it was not idle for too
    /// long. `None` if there is no such session here.
    ///
    /// # Errors
    /// As [`Sessions::open`], for a session that could be revived if there were room.
    pub(crate) fn find(&self, text: &[u8], at: At<'_>) -> Result<Option<Arc<Session>>, NoSession> {
        let Some(id) = text.get(..ID_DIGITS).and_then(SessionId::parse) else {
            return Ok(None);
        };
        let now_ms = self.now_ms();
        let there = self.read(id).get(&id).cloned();
        let found = match there {
            // The sealed part is as much of the id as the key.
            Some(session) => Some(session).filter(|session| session.text.as_bytes() == text),
            None => self.revive(now_ms, id, text, at)?,
        };
        // A session belongs to whoever opened it, at the endpoint where it was opened.
        let found = found.filter(|session| at.is_of(&session.opening));
        if let Some(session) = &found {
            session.touch(now_ms);
        }
        Ok(found)
    }

    fn revive(
        &self,
        now_ms: u64,
        id: SessionId,
        text: &[u8],
        at: At<'_>,
    ) -> Result<Option<Arc<Session>>, NoSession> {
        let Some(durable) = &self.durable else {
            return Ok(None);
        };
        let Some(state) = sealed::read(&durable.sealer, id, text) else {
            return Ok(None);
        };
        let entry = durable.kept.get(id).unwrap_or_default();
        let seen = entry.seen_at_unix_ms.max(state.opened_at_unix_ms);
        if entry.gone || unix_ms().saturating_sub(seen) >= self.idle_max_ms {
            return Ok(None);
        }
        let (Some(opening), Ok(text)) =
            (state.opening(entry.declared()), std::str::from_utf8(text))
        else {
            return Ok(None);
        };
        // Before anything is made of it: somebody else's session is not even woken (F256).
        if !at.is_of(&opening) {
            return Ok(None);
        }
        self.make_room(now_ms)?;
        let session = self.insert(
            now_ms,
            Fresh {
                id,
                text: text.into(),
                declared_on_disk: state.on_disk,
                opening,
                // What the client was told last is not known any more: it is told that everything may have changed.
                told: Told::default(),
                opened_at_unix_ms: seen,
            },
        );
        session.restore(&entry);
        // The beginning tells sessions apart, and nobody can use it.
        let begins = id.to_string();
        tracing::info!(session = &begins[..8], "a session from before goes on");
        Ok(Some(session))
    }

    /// Ends a session for good, as its client wishes: its streams end, its calls are cancelled. `false` if there is none.
    pub(crate) fn close(&self, id: SessionId) -> bool {
        let closed = self.end(id);
        if closed && let Some(kept) = self.kept() {
            kept.bury(id);
        }
        closed
    }

    /// Ends a session without remembering it: its streams end, its calls are cancelled. `false` if there is none.
    pub(crate) fn end(&self, id: SessionId) -> bool {
        let Some(session) = self.write(id).remove(&id) else {
            return false;
        };
        self.count.fetch_sub(1, Ordering::Relaxed);
        session.ended.cancel();
        session.subscriber.close();
        session.level.close();
        for (_, cancelled) in lock(&session.calls).by_id.values() {
            cancelled.notify_one();
        }
        true
    }

    /// Ends every session that has been idle for too long, and notes of the others that they are in use.
    pub(crate) fn sweep(&self) {
        self.sweep_at(self.now_ms());
        self.note_use(self.idle_max_ms / 4);
        for session in self.all() {
            session.replay.sweep();
        }
    }

    /// Writes everything that must outlive this process, and leaves the file to the next one. Blocks on the file system.
    pub(crate) fn flush(&self) {
        if let Some(kept) = self.kept() {
            self.note_use(EVICT_IDLE_MS.min(self.idle_max_ms / 4));
            kept.write();
            kept.release();
        }
    }

    /// Notes on the disk when sessions were used last, where that is more than `beyond_ms` after what is written there.
    fn note_use(&self, beyond_ms: u64) {
        let Some(kept) = self.kept() else { return };
        let (now_ms, unix) = (self.now_ms(), unix_ms());
        for session in self.all() {
            let used = unix.saturating_sub(session.idle_ms(now_ms).unwrap_or(0));
            if used.saturating_sub(session.seen_at_unix_ms.load(Ordering::Relaxed)) > beyond_ms {
                kept.put_seen(&session, used);
            }
        }
    }

    /// All sessions of this moment.
    fn all(&self) -> Vec<Arc<Session>> {
        let of_shard = |shard: &RwLock<HashMap<SessionId, Arc<Session>>>| -> Vec<Arc<Session>> {
            let sessions = shard.read().unwrap_or_else(PoisonError::into_inner);
            sessions.values().map(Arc::clone).collect()
        };
        self.shards.iter().flat_map(of_shard).collect()
    }

    pub(super) fn sweep_at(&self, now_ms: u64) {
        for (id, idle_ms) in self.idle(now_ms) {
            if idle_ms >= self.idle_max_ms {
                self.end(id);
            }
        }
    }

    fn evict(&self, now_ms: u64) -> bool {
        let longest = self
            .idle(now_ms)
            .into_iter()
            .max_by_key(|(_, idle_ms)| *idle_ms);
        longest.is_some_and(|(id, idle_ms)| idle_ms >= EVICT_IDLE_MS && self.end(id))
    }

    fn idle(&self, now_ms: u64) -> Vec<(SessionId, u64)> {
        let of_shard = |shard: &RwLock<HashMap<SessionId, Arc<Session>>>| -> Vec<(SessionId, u64)> {
            let sessions = shard.read().unwrap_or_else(PoisonError::into_inner);
            sessions
                .values()
                .filter_map(|session| Some((session.id, session.idle_ms(now_ms)?)))
                .collect()
        };
        self.shards.iter().flat_map(of_shard).collect()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn read(&self, id: SessionId) -> RwLockReadGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.shards[id.shard()]
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, id: SessionId) -> RwLockWriteGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.shards[id.shard()]
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
