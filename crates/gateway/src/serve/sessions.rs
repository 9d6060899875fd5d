//! Sessions of legacy clients: who they are, what they have in flight, what they were told.
//!
//! A session is this gateway's own and has nothing to do with the sessions of the servers behind it: whatever happens
//! upstream, it stays, because no known client heals a lost one. It ends by DELETE, by long idleness, or by making room
//! for a new one when the table is full. Nothing here knows HTTP.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use mainstay_wire::{Id, ListKind, Revision};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::bridge::asked::Asked;
use super::push::Told;

/// Lookups of different sessions hardly ever meet on one of these.
const SHARDS: usize = 16;

/// A session makes room for a new one only after this long without a request.
const EVICT_IDLE_MS: u64 = 60_000;

/// Push streams of one session at the same time; only the newest is written to.
const STREAMS_PER_SESSION: usize = 4;

/// The id of a session: 128 random bits, written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(u128);

impl SessionId {
    /// A new unguessable id.
    fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(u128::from_ne_bytes(bytes)))
    }

    /// Reads what [`SessionId::to_string`] wrote; anything else names no session of ours.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != 32
            || !text
                .iter()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        u128::from_str_radix(text, 16).ok().map(Self)
    }

    fn shard(self) -> usize {
        self.0 as usize % SHARDS
    }
}

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a client said when it opened a session.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    /// The endpoint that the session belongs to: a server's name, or none for the aggregate.
    pub(crate) server: Option<Box<str>>,
    /// The negotiated revision.
    pub(crate) revision: Revision,
    /// The client's info object as raw JSON, if it gave one.
    pub(crate) client_info: Option<Box<str>>,
    /// The client's capabilities object as raw JSON, `{}` if it declared none.
    pub(crate) client_capabilities: Box<str>,
}

/// One legacy session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its id.
    pub(crate) id: SessionId,
    /// What the client said when it opened the session.
    pub(crate) opening: Opening,
    /// What the client was asked and has not answered yet.
    pub(crate) asked: Asked,
    /// Which listings the client was last told about.
    pub(crate) told: Mutex<Told>,
    log_level: AtomicU8,
    used_at_ms: AtomicU64,
    calls: Mutex<Calls>,
    streams: watch::Sender<Vec<u64>>,
    ended: tokio_util::sync::CancellationToken,
}

#[derive(Debug, Default)]
struct Calls {
    by_id: HashMap<Id, (u64, Arc<Notify>)>,
    next: u64,
}

impl Session {
    /// Remembers the level that the client asked for (an index into the protocol's eight levels). Log messages of
    /// servers are not carried to clients yet; the level is kept for when they are.
    pub(crate) fn set_log_level(&self, level: u8) {
        self.log_level.store(level, Ordering::Relaxed);
    }

    /// The level that the client asked for; `None` if it never did.
    pub(crate) fn log_level(&self) -> Option<u8> {
        let level = self.log_level.load(Ordering::Relaxed);
        (level != u8::MAX).then_some(level)
    }

    /// The client has seen a listing: it need not be told of it any more.
    pub(crate) fn listed(&self, kind: ListKind, seen: &Told) {
        lock(&self.told).saw(kind, seen);
    }

    /// Registers a call under the client's own request id, so that the client can cancel it.
    pub(crate) fn begin(self: &Arc<Self>, id: &Id) -> CallInFlight {
        let cancelled = Arc::new(Notify::new());
        let mut calls = lock(&self.calls);
        calls.next += 1;
        let ticket = calls.next;
        calls
            .by_id
            .insert(id.clone(), (ticket, Arc::clone(&cancelled)));
        drop(calls);
        CallInFlight {
            session: Arc::clone(self),
            id: id.clone(),
            ticket,
            cancelled,
        }
    }

    /// Cancels the call in flight under `id`; `false` if there is none (it may just have been answered).
    pub(crate) fn cancel(&self, id: &Id) -> bool {
        match lock(&self.calls).by_id.get(id) {
            Some((_, cancelled)) => {
                cancelled.notify_one();
                true
            }
            None => false,
        }
    }

    /// Opens a push stream; `None` if the session already has too many.
    pub(crate) fn open_stream(self: &Arc<Self>) -> Option<StreamOpen> {
        let mut opened = None;
        self.streams.send_if_modified(|streams| {
            if streams.len() < STREAMS_PER_SESSION {
                let ticket = streams.last().map_or(1, |newest| newest + 1);
                streams.push(ticket);
                opened = Some(ticket);
            }
            opened.is_some()
        });
        Some(StreamOpen {
            session: Arc::clone(self),
            ticket: opened?,
            streams: self.streams.subscribe(),
        })
    }

    /// Resolves when the session has ended.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    fn touch(&self, now_ms: u64) {
        self.used_at_ms.store(now_ms, Ordering::Relaxed);
    }

    /// How long the session has been idle; `None` while it is in use.
    fn idle_ms(&self, now_ms: u64) -> Option<u64> {
        if !self.streams.borrow().is_empty() || !lock(&self.calls).by_id.is_empty() {
            return None;
        }
        Some(now_ms.saturating_sub(self.used_at_ms.load(Ordering::Relaxed)))
    }
}

/// A call that the client may cancel; forgotten when dropped.
#[derive(Debug)]
pub(crate) struct CallInFlight {
    session: Arc<Session>,
    id: Id,
    ticket: u64,
    cancelled: Arc<Notify>,
}

impl CallInFlight {
    /// Resolves when the client cancels this call. Cancel-safe: a notice that came first is kept.
    pub(crate) async fn cancelled(&self) {
        self.cancelled.notified().await;
    }
}

impl Drop for CallInFlight {
    fn drop(&mut self) {
        let mut calls = lock(&self.session.calls);
        // A client that used one id twice has replaced this entry by its later call.
        if calls
            .by_id
            .get(&self.id)
            .is_some_and(|(ticket, _)| *ticket == self.ticket)
        {
            calls.by_id.remove(&self.id);
        }
    }
}

/// A push stream of a session; closed when dropped.
#[derive(Debug)]
pub(crate) struct StreamOpen {
    session: Arc<Session>,
    ticket: u64,
    streams: watch::Receiver<Vec<u64>>,
}

impl StreamOpen {
    /// The session.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Whether this is the newest stream: the others stay open and silent, so that no client fights with itself.
    pub(crate) fn is_newest(&self) -> bool {
        self.session.streams.borrow().last() == Some(&self.ticket)
    }

    /// Resolves when the session's streams have changed since the last call. Cancel-safe, level-triggered.
    pub(crate) async fn changed(&mut self) {
        if self.streams.changed().await.is_err() {
            // The session holds the sender and we hold the session; if it were gone, there is nothing to wait for.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for StreamOpen {
    fn drop(&mut self) {
        self.session
            .streams
            .send_modify(|streams| streams.retain(|ticket| *ticket != self.ticket));
    }
}

/// Why no session could be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSession {
    /// The table is full of sessions in use.
    #[error("all {0} sessions are in use (setting `mainstay.limits.sessions`)")]
    Full(usize),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a session id")]
    Random(#[source] getrandom::Error),
}

/// All sessions of this gateway.
#[derive(Debug)]
pub(crate) struct Sessions {
    shards: [RwLock<HashMap<SessionId, Arc<Session>>>; SHARDS],
    count: AtomicUsize,
    count_max: usize,
    idle_max_ms: u64,
    epoch: Instant,
}

impl Sessions {
    /// An empty table for at most `count_max` sessions, each of which ends after `idle_max_ms` without use.
    pub(crate) fn new(count_max: usize, idle_max_ms: u64) -> Self {
        Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            count: AtomicUsize::new(0),
            count_max,
            idle_max_ms,
            epoch: Instant::now(),
        }
    }

    /// How many sessions are open.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Opens a session. A full table first drops what has expired, then the session that was idle longest.
    pub(crate) fn open(&self, opening: Opening, told: Told) -> Result<Arc<Session>, NoSession> {
        self.open_at(self.now_ms(), opening, told)
    }

    fn open_at(
        &self,
        now_ms: u64,
        opening: Opening,
        told: Told,
    ) -> Result<Arc<Session>, NoSession> {
        if self.count() >= self.count_max {
            self.sweep_at(now_ms);
            if self.count() >= self.count_max && !self.evict(now_ms) {
                return Err(NoSession::Full(self.count_max));
            }
        }
        let id = SessionId::random().map_err(NoSession::Random)?;
        let session = Arc::new(Session {
            id,
            opening,
            asked: Asked::default(),
            told: Mutex::new(told),
            log_level: AtomicU8::new(u8::MAX),
            used_at_ms: AtomicU64::new(now_ms),
            calls: Mutex::default(),
            streams: watch::Sender::default(),
            ended: tokio_util::sync::CancellationToken::new(),
        });
        self.write(id).insert(id, Arc::clone(&session));
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(session)
    }

    /// The session of an id, which counts as use.
    pub(crate) fn find(&self, id: SessionId) -> Option<Arc<Session>> {
        let session = self.read(id).get(&id).cloned()?;
        session.touch(self.now_ms());
        Some(session)
    }

    /// Ends a session: its streams end, its calls are cancelled. `false` if there is none.
    pub(crate) fn close(&self, id: SessionId) -> bool {
        let Some(session) = self.write(id).remove(&id) else {
            return false;
        };
        self.count.fetch_sub(1, Ordering::Relaxed);
        session.ended.cancel();
        for (_, cancelled) in lock(&session.calls).by_id.values() {
            cancelled.notify_one();
        }
        true
    }

    /// Ends every session that has been idle for too long.
    pub(crate) fn sweep(&self) {
        self.sweep_at(self.now_ms());
    }

    fn sweep_at(&self, now_ms: u64) {
        for (id, idle_ms) in self.idle(now_ms) {
            if idle_ms >= self.idle_max_ms {
                self.close(id);
            }
        }
    }

    fn evict(&self, now_ms: u64) -> bool {
        let longest = self
            .idle(now_ms)
            .into_iter()
            .max_by_key(|(_, idle_ms)| *idle_ms);
        longest.is_some_and(|(id, idle_ms)| idle_ms >= EVICT_IDLE_MS && self.close(id))
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening() -> Opening {
        Opening {
            server: None,
            revision: Revision::V2025_11_25,
            client_info: None,
            client_capabilities: "{}".into(),
        }
    }

    fn open(sessions: &Sessions, now_ms: u64) -> Result<Arc<Session>, NoSession> {
        sessions.open_at(now_ms, opening(), Told::default())
    }

    #[tokio::test]
    async fn ids_are_read_as_they_were_written_and_nothing_else_is_an_id() {
        let sessions = Sessions::new(2, 1_000);
        let session = open(&sessions, 0).unwrap();
        let text = session.id.to_string();
        assert_eq!(text.len(), 32);
        assert_eq!(SessionId::parse(text.as_bytes()), Some(session.id));
        for wrong in [
            "",
            "1",
            &text[1..],
            &format!("+{}", &text[1..]),
            &"A".repeat(32),
            &"g".repeat(32),
        ] {
            assert_eq!(SessionId::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn idle_sessions_end_and_used_ones_stay() {
        let sessions = Sessions::new(10, 1_000);
        let idle = open(&sessions, 0).unwrap();
        let busy = open(&sessions, 0).unwrap();
        let call = busy.begin(&Id::number(1));
        let listening = open(&sessions, 0).unwrap();
        let stream = listening.open_stream().unwrap();
        sessions.sweep_at(999);
        assert_eq!(sessions.count(), 3);
        sessions.sweep_at(1_000);
        assert!(sessions.find(idle.id).is_none());
        assert_eq!(sessions.count(), 2);
        drop((call, stream));
        sessions.sweep_at(1_000);
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn a_full_table_gives_the_longest_idle_session_away_but_none_that_is_in_use() {
        let sessions = Sessions::new(2, 1_000_000);
        let first = open(&sessions, 0).unwrap();
        let second = open(&sessions, 1).unwrap();
        let full = open(&sessions, EVICT_IDLE_MS - 1);
        assert!(
            matches!(full, Err(NoSession::Full(2))),
            "both were used a moment ago"
        );
        let third = open(&sessions, EVICT_IDLE_MS).unwrap();
        assert!(sessions.find(first.id).is_none());
        assert!(sessions.find(second.id).is_some() && sessions.find(third.id).is_some());
        assert_eq!(sessions.count(), 2);
    }

    #[tokio::test]
    async fn law_18_a_call_is_cancelled_by_the_clients_id_with_its_type() {
        let sessions = Sessions::new(2, 1_000);
        let session = open(&sessions, 0).unwrap();
        let call = session.begin(&Id::number(1));
        assert!(!session.cancel(&Id::string("1")), "a string is another id");
        assert!(session.cancel(&Id::number(1)));
        call.cancelled().await;
        drop(call);
        assert!(
            !session.cancel(&Id::number(1)),
            "F231: nothing is left behind"
        );
    }

    #[tokio::test]
    async fn only_the_newest_stream_is_written_to() {
        let sessions = Sessions::new(2, 1_000);
        let session = open(&sessions, 0).unwrap();
        let old = session.open_stream().unwrap();
        let new = session.open_stream().unwrap();
        assert!(!old.is_newest() && new.is_newest());
        drop(new);
        assert!(old.is_newest());
        let more: Vec<_> = std::iter::from_fn(|| session.open_stream())
            .take(10)
            .collect();
        assert_eq!(more.len(), STREAMS_PER_SESSION - 1);
    }
}
