//! The memory of one fake server: script, ledger, sessions, listeners and the gate of held calls.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::ledger::Ledger;
use super::script::Script;
use super::sse;

/// One legacy session.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// The replica that opened it.
    pub(crate) replica: usize,
    /// Its open push streams.
    pub(crate) streams: Vec<mpsc::Sender<Bytes>>,
    /// The resources that it subscribed to.
    pub(crate) uris: BTreeSet<String>,
}

/// One modern listen stream.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The id of the listen request, as it came.
    pub(crate) id: Value,
    /// The acknowledged filter.
    pub(crate) filter: Value,
    /// Its stream.
    pub(crate) stream: mpsc::Sender<Bytes>,
}

/// Shared by all connections of one server.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) ledger: Ledger,
    script: Mutex<Script>,
    pub(super) sessions: Mutex<HashMap<String, Session>>,
    pub(super) listeners: Mutex<Vec<Listener>>,
    replays: Mutex<HashMap<String, watch::Receiver<Option<String>>>>,
    tasks: Mutex<JoinSet<()>>,
    gate: watch::Sender<u64>,
    /// Requests of ours that wait for an answer, by our id.
    asked: Mutex<HashMap<String, oneshot::Sender<Value>>>,
    next: AtomicU64,
    turn: AtomicUsize,
}

impl State {
    pub(crate) fn new(script: Script) -> Self {
        Self {
            ledger: Ledger::default(),
            script: Mutex::new(script),
            sessions: Mutex::default(),
            listeners: Mutex::default(),
            replays: Mutex::default(),
            tasks: Mutex::default(),
            gate: watch::channel(0).0,
            asked: Mutex::default(),
            next: AtomicU64::new(1),
            turn: AtomicUsize::new(0),
        }
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.script)
    }

    /// A number that no other caller gets.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The next turn of the load balancer.
    pub(crate) fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens a session at a replica and returns its id.
    pub(crate) fn open_session(&self, replica: usize) -> String {
        let id = format!("session-{}-{}", std::process::id(), self.number());
        lock(&self.sessions).insert(
            id.clone(),
            Session {
                replica,
                ..Session::default()
            },
        );
        id
    }

    pub(crate) fn knows(&self, session: &str, replica: usize) -> bool {
        lock(&self.sessions)
            .get(session)
            .is_some_and(|session| session.replica == replica)
    }

    pub(crate) fn sessions(&self) -> usize {
        lock(&self.sessions).len()
    }

    /// Ends a session and its streams; `false` if it is unknown to that replica.
    pub(crate) fn end_session(&self, session: &str, replica: usize) -> bool {
        self.knows(session, replica) && lock(&self.sessions).remove(session).is_some()
    }

    /// Forgets one session; its streams end.
    pub(crate) fn forget_session(&self, session: &str) {
        lock(&self.sessions).remove(session);
    }

    /// Forgets all sessions without telling anybody; their streams end.
    pub(crate) fn forget_sessions(&self) {
        lock(&self.sessions).clear();
    }

    /// Adds a push stream to a session, or to the nameless session of a server without sessions.
    pub(crate) fn add_stream(&self, session: &str, stream: mpsc::Sender<Bytes>) {
        lock(&self.sessions)
            .entry(session.to_owned())
            .or_default()
            .streams
            .push(stream);
    }

    /// The newest open stream of a session.
    pub(crate) fn stream(&self, session: &str) -> Option<mpsc::Sender<Bytes>> {
        let sessions = lock(&self.sessions);
        sessions.get(session)?.streams.last().cloned()
    }

    pub(crate) fn add_listener(&self, listener: Listener) {
        lock(&self.listeners).push(listener);
    }

    /// Ends every push and listen stream.
    pub(crate) fn end_streams(&self) {
        lock(&self.listeners).clear();
        for session in lock(&self.sessions).values_mut() {
            session.streams.clear();
        }
    }

    /// Tells every listener and every push stream that a listing changed. Streams that are full are skipped.
    pub(crate) fn tell_changed(&self, kind: &str) {
        let method = format!("notifications/{kind}/list_changed");
        let plain = sse::event(
            None,
            &json!({"jsonrpc": "2.0", "method": method}).to_string(),
        );
        for session in lock(&self.sessions).values_mut() {
            session
                .streams
                .retain(|stream| stream.try_send(plain.clone()).is_ok());
        }
        let flag = format!("{kind}ListChanged");
        lock(&self.listeners).retain(|listener| {
            if listener.filter.get(&flag).and_then(Value::as_bool) != Some(true) {
                return !listener.stream.is_closed();
            }
            let meta = json!({"io.modelcontextprotocol/subscriptionId": listener.id});
            let tagged = json!({"jsonrpc": "2.0", "method": method, "params": {"_meta": meta}});
            listener
                .stream
                .try_send(sse::event(None, &tagged.to_string()))
                .is_ok()
        });
    }

    /// Keeps an answer for a client that will ask for it by `Last-Event-ID`.
    pub(crate) fn keep_replay(&self, event_id: String, answer: watch::Receiver<Option<String>>) {
        lock(&self.replays).insert(event_id, answer);
    }

    pub(crate) fn replay(&self, event_id: &str) -> Option<watch::Receiver<Option<String>>> {
        lock(&self.replays).get(event_id).cloned()
    }

    /// A new request of ours: its id, and where its answer comes.
    pub(crate) fn ask(&self) -> (String, oneshot::Receiver<Value>) {
        let id = format!("inquire-{}", self.number());
        let (sender, answer) = oneshot::channel();
        lock(&self.asked).insert(id.clone(), sender);
        (id, answer)
    }

    /// A client answers a request of ours.
    pub(crate) fn answered(&self, message: &Value) {
        let waiting = message
            .get("id")
            .and_then(Value::as_str)
            .and_then(|id| lock(&self.asked).remove(id));
        if let Some(waiting) = waiting {
            let answer = match message.get("error") {
                Some(error) => json!({"error": error}),
                None => message.get("result").cloned().unwrap_or_default(),
            };
            // The call that asked may be over.
            let _ = waiting.send(answer);
        }
    }

    /// Runs a task that ends with the server.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Ends all tasks of the server and waits for them.
    pub(crate) async fn end_tasks(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.shutdown().await;
    }

    /// Lets every call go that is held now.
    pub(crate) fn release(&self) {
        self.gate.send_modify(|times| *times += 1);
    }

    /// Resolves at the next release.
    pub(crate) async fn held(&self) {
        let mut gate = self.gate.subscribe();
        // The sender lives as long as `self`, so this can only end by a release.
        let _ = gate.changed().await;
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
