//! Sessions of legacy clients: who they are, what they have in flight, what they were told.
//!
//! A session is this gateway's own and has nothing to do with the sessions of the servers behind it: whatever happens
//! upstream, it stays, because no known client heals a lost one. It ends by DELETE, by long idleness, or by making room
//! for a new one when the table is full. With a state directory it also survives a restart of Mainstay: what does not
//! change is sealed into the session id ([`sealed`]), what does is kept in a small file ([`kept`]). Nothing here knows HTTP.

pub(crate) mod kept;
mod sealed;
mod table;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mainstay::{ClientFace, Principal};
use mainstay_wire::{Era, Id, ListKind, Revision};
use tokio::sync::{Notify, watch};

use self::kept::{Entry, Kept};
use super::bridge::asked::Asked;
use super::caller::Caller;
use super::levels::SessionLevel;
use super::push::Told;
use super::replay::Replay;
use super::subscriptions::{Subscriber, Terms};
use super::view::Viewer;

pub(crate) use self::table::{At, NoSession, Sessions};

/// Push streams of one session at the same time; only the newest is written to.
const STREAMS_PER_SESSION: usize = 4;

/// Subscriptions of one session at the same time, and their bytes in all.
const SUBSCRIPTIONS_MAX: usize = 1_000;
const SUBSCRIPTION_BYTES_MAX: usize = 256 * 1024;

const ID_DIGITS: usize = 32;

/// The key of a session: 128 random bits, written as 32 hexadecimal digits. A session id on the wire is this text, and
/// behind it the sealed state if the session can survive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(u128);

impl SessionId {
    /// A new unguessable id.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(u128::from_ne_bytes(bytes)))
    }

    /// Reads what [`SessionId::to_string`] wrote; anything else names no session of ours.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != ID_DIGITS
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
        self.0 as usize % table::SHARDS
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
    /// Whose session it is; `None`: nobody's in particular.
    pub(crate) principal: Option<Principal>,
    /// The negotiated revision.
    pub(crate) revision: Revision,
    /// The client's info object as raw JSON, if it gave one.
    pub(crate) client_info: Option<Box<str>>,
    /// The capabilities that the client declared, a raw JSON object.
    pub(crate) client_capabilities: Box<str>,
}

impl Opening {
    /// What a client says that says nothing of itself.
    #[cfg(test)]
    pub(crate) fn plain(server: Option<&str>, revision: Revision) -> Self {
        Self {
            server: server.map(Into::into),
            principal: None,
            revision,
            client_info: None,
            client_capabilities: "{}".into(),
        }
    }
}

/// The session has as many subscriptions as it may have.
#[derive(Debug, thiserror::Error)]
#[error("a session may have {SUBSCRIPTIONS_MAX} subscriptions")]
pub(crate) struct TooManySubscriptions;

/// One legacy session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its key in the table, and what stands for the client where calls are told apart by it.
    pub(crate) id: SessionId,
    /// Its id as clients write it: visible ASCII.
    text: Box<str>,
    /// Its key as text: what tells its calls from those of other clients.
    client: Arc<str>,
    /// What the client said when it opened the session.
    pub(crate) opening: Opening,
    /// The client as endpoints show themselves to it; made when it is wanted first.
    viewer: OnceLock<Viewer>,
    /// What the client was asked and has not answered yet.
    pub(crate) asked: Asked,
    /// Which listings the client was last told about.
    pub(crate) told: Mutex<Told>,
    /// Its streams, for clients that lose them.
    pub(crate) replay: Replay,
    /// The resources that it is subscribed to, and what waits to be told about them.
    pub(crate) subscriber: Subscriber,
    /// What servers are told because of its log level.
    pub(crate) level: SessionLevel,
    /// An index into the protocol's eight levels; beyond them while none was asked for.
    log_level: AtomicU8,
    subscriptions: Mutex<BTreeSet<Box<str>>>,
    /// What is told of changes; none if the session ends with this process.
    kept: Option<Arc<Kept>>,
    /// The client's declaration was too long for the id and is on the disk.
    declared_on_disk: bool,
    /// When it was last used according to its id and the disk, in milliseconds of the Unix clock.
    seen_at_unix_ms: AtomicU64,
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
    /// The session id as clients write it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The client as servers are to see it.
    pub(crate) fn face(&self) -> ClientFace {
        ClientFace {
            capabilities: self.opening.client_capabilities.clone(),
            info: self.opening.client_info.clone(),
            client: Some(Arc::clone(&self.client)),
            principal: self.opening.principal.clone(),
            // Sessions outlive tokens: it comes with each request.
            subject: None,
            era: Some(Era::Legacy),
        }
    }

    /// The client as endpoints show themselves to it in a request of this caller, whose session it is.
    pub(crate) fn viewer(&self, caller: &Arc<Caller>) -> Cow<'_, Viewer> {
        let viewer = self.viewer.get_or_init(|| Viewer::of(caller, self.face()));
        viewer.for_request_of(caller)
    }

    /// What its subscriptions are worth to it, in a request of this viewer.
    pub(crate) fn terms(&self, who: &Viewer) -> Terms {
        Terms::Attempt(self.face(), who.clone())
    }

    /// Remembers the level that the client asked for (an index into the protocol's eight levels).
    pub(crate) fn set_log_level(&self, level: u8) {
        if self.log_level.swap(level, Ordering::Relaxed) != level {
            self.changed();
        }
    }

    /// The level that the client asked for, if it did.
    pub(crate) fn log_level(&self) -> Option<u8> {
        let level = self.log_level.load(Ordering::Relaxed);
        (level != u8::MAX).then_some(level)
    }

    /// Remembers a subscription; `false` if there is one already.
    ///
    /// # Errors
    /// [`TooManySubscriptions`].
    pub(crate) fn subscribe(&self, uri: &str) -> Result<bool, TooManySubscriptions> {
        let mut subscriptions = lock(&self.subscriptions);
        if subscriptions.contains(uri) {
            return Ok(false);
        }
        let bytes: usize = subscriptions.iter().map(|uri| uri.len()).sum();
        if subscriptions.len() >= SUBSCRIPTIONS_MAX || bytes + uri.len() > SUBSCRIPTION_BYTES_MAX {
            return Err(TooManySubscriptions);
        }
        subscriptions.insert(uri.into());
        drop(subscriptions);
        self.changed();
        Ok(true)
    }

    /// Forgets a subscription; `false` if there was none.
    pub(crate) fn unsubscribe(&self, uri: &str) -> bool {
        let there_was = lock(&self.subscriptions).remove(uri);
        if there_was {
            self.changed();
        }
        there_was
    }

    /// What the client is subscribed to, also after a restart.
    pub(crate) fn subscriptions(&self) -> Vec<Box<str>> {
        lock(&self.subscriptions).iter().cloned().collect()
    }

    /// Takes over what was kept of it.
    fn restore(&self, entry: &Entry) {
        if let Some(level) = entry.log_level {
            self.log_level.store(level, Ordering::Relaxed);
        }
        lock(&self.subscriptions).extend(entry.subscriptions.iter().cloned());
    }

    fn changed(&self) {
        if let Some(kept) = &self.kept {
            kept.put(self);
        }
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds of the Unix clock.
pub(super) fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
