//! The wire log: every MCP message that crosses the clients' side of the gateway and the servers' side of the manager, as
//! JSON lines in a file, secrets removed.
//!
//! The data path pays one bounded channel send per message, and nothing when no log is kept. What there is no room for is
//! dropped, counted, and told in the file. Headers are never part of it.
//!
//! A line: `{"t":MICROSECONDS_SINCE_1970,"side":"client"|"server","dir":"in"|"out","peer":NAME,"era":ERA,"message":{..}}`,
//! for clients with `exchange` (the HTTP request it belongs to) and `endpoint`. `in` is towards Mainstay.

mod file;

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};
use mainstay::config::ServerConfig;
use mainstay::wire_log::{Crossing, Way, WireLog};
use mainstay_wire::{Era, Parts, headers};

use crate::serve::body::Reply;

pub use mainstay::secrets::Secrets;

/// Messages that wait to be written, by number and by bytes; more are dropped.
const WAITING_MAX: usize = 16_384;
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Keeps the log. Clones share it.
#[derive(Debug, Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    secrets: Arc<Mutex<Secrets>>,
    entries: SyncSender<Entry>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
    exchanges: AtomicU64,
}

/// One message, before anything was done to it.
#[derive(Debug)]
struct Entry {
    at_us: u64,
    peer: Peer,
    is_in: bool,
    era: Era,
    text: Parts,
}

/// Who is at the other end.
#[derive(Debug, Clone)]
enum Peer {
    Client {
        session: Option<HeaderValue>,
        exchange: u64,
        endpoint: Arc<str>,
    },
    Server {
        name: String,
        generation: u64,
    },
}

impl Recorder {
    /// Starts to write to `file`, which is this user's alone. At `bytes_max` it becomes `FILE.1` and a new one begins, so
    /// both together never hold more than twice that. The writer ends with the last clone.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn start(file: &Path, bytes_max: u64, secrets: Secrets) -> std::io::Result<Self> {
        let (entries, waiting_entries) = sync_channel(WAITING_MAX);
        let (waiting, dropped) = (Arc::<AtomicUsize>::default(), Arc::<AtomicU64>::default());
        let secrets = Arc::new(Mutex::new(secrets));
        let log = file::Log::open(file, bytes_max, Arc::clone(&secrets))?;
        let (counted, missed) = (Arc::clone(&waiting), Arc::clone(&dropped));
        std::thread::Builder::new()
            .name("wire-log".to_owned())
            .spawn(move || log.write(&waiting_entries, &counted, &missed))?;
        Ok(Self {
            inner: Arc::new(Inner {
                secrets,
                entries,
                waiting,
                dropped,
                exchanges: AtomicU64::new(0),
            }),
        })
    }

    /// Hides these secrets too, from now on.
    pub fn hide(&self, more: &Secrets) {
        let mut secrets = locked(&self.inner.secrets);
        let known = std::mem::take(&mut *secrets);
        *secrets = known.and(more);
    }

    fn send(&self, entry: Entry) {
        let inner = &self.inner;
        let bytes = entry.text.len();
        let before = inner.waiting.fetch_add(bytes, Ordering::Relaxed);
        if before > WAITING_BYTES_MAX || inner.entries.try_send(entry).is_err() {
            inner.waiting.fetch_sub(bytes, Ordering::Relaxed);
            inner.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One HTTP request of a client begins.
    pub(crate) fn exchange(
        &self,
        endpoint: Option<&str>,
        headers: &HeaderMap,
        era: Era,
    ) -> Exchange {
        let endpoint = match endpoint {
            Some(place) if crate::serve::profiles::name_of(place).is_some() => {
                format!("/{place}/mcp")
            }
            Some(name) => format!("/servers/{name}/mcp"),
            None => "/mcp".to_owned(),
        };
        Exchange {
            recorder: self.clone(),
            session: headers.get(headers::SESSION_ID).cloned(),
            exchange: self.inner.exchanges.fetch_add(1, Ordering::Relaxed),
            endpoint: endpoint.into(),
            era,
        }
    }
}

impl WireLog for Recorder {
    fn crossed(&self, crossing: Crossing<'_>) {
        self.send(Entry {
            at_us: now_us(),
            peer: Peer::Server {
                name: crossing.server.to_owned(),
                generation: crossing.generation,
            },
            is_in: crossing.way == Way::FromServer,
            era: crossing.era,
            text: crossing.text,
        });
    }
}

/// One HTTP request of a client and what it is answered with.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    recorder: Recorder,
    session: Option<HeaderValue>,
    exchange: u64,
    endpoint: Arc<str>,
    era: Era,
}

impl Exchange {
    /// What the client said: a message, or a batch of them.
    pub(crate) fn came(&self, text: impl Into<Parts>) {
        self.note(true, text.into());
    }

    /// Notes everything that the answer says, as it is said.
    pub(crate) fn answered(mut self, reply: Reply) -> Reply {
        if let Some(session) = reply.headers().get(headers::SESSION_ID) {
            self.session = Some(session.clone());
        }
        let (head, body) = reply.into_parts();
        let body = body.observed(move |text| self.note(false, text.clone()));
        Reply::from_parts(head, body)
    }

    fn note(&self, is_in: bool, text: Parts) {
        self.recorder.send(Entry {
            at_us: now_us(),
            peer: Peer::Client {
                session: self.session.clone(),
                exchange: self.exchange,
                endpoint: Arc::clone(&self.endpoint),
            },
            is_in,
            era: self.era,
            text,
        });
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.ok()
        .and_then(|since| u64::try_from(since.as_micros()).ok())
        .unwrap_or_default()
}

/// Hides in the log what the configuration marks as secret.
#[must_use]
pub fn secrets_of(servers: &[ServerConfig]) -> Secrets {
    Secrets::of(servers, &|name| std::env::var(name).ok())
}
