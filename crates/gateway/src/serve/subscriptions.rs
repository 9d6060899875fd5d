//! Subscriptions of clients to single resources, whatever the eras on the two sides.
//!
//! A server is asked once per resource however many clients want it, and told to stop when the last one has gone; the
//! manager asks again after every reconnect (law 25). What it says is fanned out here: one bounded, coalesced box per
//! client, so that a slow one delays nobody and loses nothing but repetitions (F135). Nothing here knows HTTP or the
//! words of an era; `push` says what is in a box.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use mainstay::{ClientFace, Declined, Principal, ServerHandle, Update, Updates, WishError};
use mainstay_wire::{codes, method};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Shared;
use super::caller::Caller;
use super::endpoint::{Endpoint, catalog_for};
use super::fault::{Fault, LIMIT_REACHED, shown};
use super::sessions::Session;
use super::view::Viewer;

/// Different resources that one client may be subscribed to at the same time on one stream or in one session.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 1_000;

/// News of parts of subscribed resources that wait for a slow client. Beyond it the subscribed resource itself is told: the
/// client reads it again and has missed nothing.
const PARTS_WAITING_MAX: usize = 1_024;

/// How long a server that is there has to say whether it takes a subscription on. Silence counts as yes: it is asked
/// again and again.
const VERDICT: Duration = Duration::from_secs(3);

/// What all clients are subscribed to.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    feeds: Mutex<HashMap<FeedKey, Feed>>,
}

/// Which connection: a struct and never one text, so that no two can be taken for each other (F255).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FeedKey {
    server: Box<str>,
    of: Of,
}

/// Whose connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Of {
    Everybody,
    Client(Arc<str>),
    Principal(Principal),
}

/// The subscriptions on one connection: a server's shared one, or a client's or principal's own.
#[derive(Debug)]
struct Feed {
    server: ServerHandle,
    /// By the server's own uri, then by ticket.
    watchers: HashMap<Box<str>, BTreeMap<u64, Watcher>>,
    next_ticket: u64,
    /// Ends the task that listens to the server.
    _ending: DropGuard,
}

/// One client's interest in one resource.
#[derive(Debug, Clone)]
struct Watcher {
    inbox: Weak<Inbox>,
    /// The uri as the client wrote it.
    uri: Arc<str>,
}

impl Subscriptions {
    /// How many subscriptions of clients there are.
    pub(crate) fn count(&self) -> usize {
        let feeds = lock(&self.feeds);
        let of_feed = |feed: &Feed| feed.watchers.values().map(BTreeMap::len).sum::<usize>();
        feeds.values().map(of_feed).sum()
    }

    /// `key` names the connection that the handle stands for.
    fn watch(
        shared: &Arc<Shared>,
        key: FeedKey,
        server: &ServerHandle,
        upstream: &str,
        watcher: Watcher,
    ) -> Result<Lease, WishError> {
        let mut feeds = lock(&shared.subscriptions.feeds);
        // Listened to before it is asked: its first word is heard.
        let feed = feeds
            .entry(key.clone())
            .or_insert_with(|| Feed::start(shared, &key, server));
        if let Err(error) = feed.server.subscribe(upstream) {
            if feed.watchers.is_empty() {
                feeds.remove(&key);
            }
            return Err(error);
        }
        feed.next_ticket += 1;
        let ticket = feed.next_ticket;
        feed.watchers
            .entry(upstream.into())
            .or_default()
            .insert(ticket, watcher);
        Ok(Lease {
            shared: Arc::downgrade(shared),
            server: feed.server.clone(),
            key,
            upstream: upstream.into(),
            ticket,
        })
    }

    fn leave(&self, lease: &Lease) {
        let mut feeds = lock(&self.feeds);
        let Some(feed) = feeds.get_mut(&lease.key) else {
            return;
        };
        let Some(watchers) = feed.watchers.get_mut(&lease.upstream) else {
            return;
        };
        watchers.remove(&lease.ticket);
        if watchers.is_empty() {
            feed.watchers.remove(&lease.upstream);
        }
        if feed.watchers.is_empty() {
            feeds.remove(&lease.key);
        }
    }

    fn tell(&self, key: &FeedKey, update: &Update) {
        let feeds = lock(&self.feeds);
        let Some(feed) = feeds.get(key) else {
            return;
        };
        if let Update::Resource { uri, .. } = update {
            feed.changed(uri);
        } else if let Update::Missed(_) = update {
            // What was lost may have been about anything.
            feed.everything_changed();
        }
    }
}

impl Feed {
    fn start(shared: &Arc<Shared>, key: &FeedKey, server: &ServerHandle) -> Self {
        let ending = shared.ending.child_token();
        let listening = listen(
            Arc::downgrade(shared),
            key.clone(),
            server.resource_updates(),
            ending.clone(),
        );
        shared.tasks.spawn(listening);
        Self {
            server: server.clone(),
            watchers: HashMap::new(),
            next_ticket: 0,
            _ending: ending.drop_guard(),
        }
    }

    /// A resource changed, or a part of one: those who watch it or what it is a part of are told.
    fn changed(&self, uri: &str) {
        for end in prefixes(uri) {
            let (watched, rest) = uri.split_at(end);
            for watcher in self
                .watchers
                .get(watched)
                .into_iter()
                .flat_map(BTreeMap::values)
            {
                watcher.tell(rest);
            }
        }
    }

    fn everything_changed(&self) {
        for watcher in self.watchers.values().flat_map(BTreeMap::values) {
            watcher.tell("");
        }
    }
}

impl Watcher {
    fn tell(&self, rest: &str) {
        if let Some(inbox) = self.inbox.upgrade() {
            inbox.push(&self.uri, rest);
        }
    }
}

/// Where the uris end of which this one can be a part, the longest first; the uri itself among them.
fn prefixes(uri: &str) -> impl Iterator<Item = usize> {
    let inner = uri.char_indices().rev().flat_map(|(at, character)| {
        let ends = match character {
            // Both `x:/a` and `x:/a/` have `x:/a/b` as a part.
            '/' => [Some(at + 1), Some(at)],
            '?' | '#' => [Some(at), None],
            _ => [None, None],
        };
        ends.into_iter().flatten()
    });
    let whole = uri.len();
    std::iter::once(whole).chain(inner.filter(move |end| *end < whole && *end > 0))
}

async fn listen(
    shared: Weak<Shared>,
    key: FeedKey,
    mut updates: Updates,
    ending: CancellationToken,
) {
    loop {
        let update = tokio::select! {
            // Cancel-safe: what was not taken stays in the queue, which goes with this task.
            update = updates.next() => update,
            // Cancel-safe: a token holds nothing.
            () = ending.cancelled() => return,
        };
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.subscriptions.tell(&key, &update);
    }
}

/// A client's hold on one subscription of a server; given back when dropped.
#[derive(Debug)]
struct Lease {
    shared: Weak<Shared>,
    key: FeedKey,
    server: ServerHandle,
    upstream: Box<str>,
    ticket: u64,
}

impl Lease {
    /// The server's word, as far as it comes until the deadline.
    async fn verdict(&self, deadline: Instant) -> Result<(), Declined> {
        // One that is away says nothing; it is asked when it is back.
        if !matches!(self.server.status().state, "connected" | "connecting") {
            return Ok(());
        }
        let word = self.server.subscription(&self.upstream);
        tokio::time::timeout_at(deadline, word)
            .await
            .unwrap_or(Ok(()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.server.unsubscribe(&self.upstream);
        if let Some(shared) = self.shared.upgrade() {
            shared.subscriptions.leave(self);
        }
    }
}

/// What waits to be told to one client: each uri once, in the order of its first news.
#[derive(Debug, Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<Arc<str>>,
    uris: HashSet<Arc<str>>,
}

impl Inbox {
    /// Never waits. `rest` is what the changed uri has beyond the subscribed one.
    fn push(&self, subscribed: &Arc<str>, rest: &str) {
        let mut waiting = lock(&self.waiting);
        let uri = if rest.is_empty() || waiting.order.len() >= PARTS_WAITING_MAX {
            Arc::clone(subscribed)
        } else {
            format!("{subscribed}{rest}").into()
        };
        if waiting.uris.insert(Arc::clone(&uri)) {
            waiting.order.push_back(uri);
            drop(waiting);
            self.version.send_modify(|version| *version += 1);
        }
    }

    fn pop(&self) -> Option<Arc<str>> {
        let mut waiting = lock(&self.waiting);
        let uri = waiting.order.pop_front()?;
        waiting.uris.remove(&uri);
        Some(uri)
    }
}

/// What a subscription is worth to a client.
#[derive(Debug, Clone)]
pub(crate) enum Terms {
    /// It gets what the server answers, whatever that server has declared (legacy era). Servers that serve each client on a
    /// connection of its own are asked on that one.
    Attempt(ClientFace, Viewer),
    /// What is acknowledged is kept, so the server must have said that it can (modern era).
    Promise(Viewer),
}

impl Terms {
    fn viewer(&self) -> &Viewer {
        match self {
            Self::Attempt(_, who) | Self::Promise(who) => who,
        }
    }
}

/// One client: a legacy session or a modern listen stream. Dropping it ends its subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Subscriber {
    inbox: Arc<Inbox>,
    /// By the uri as the client wrote it.
    leases: Mutex<HashMap<Arc<str>, Lease>>,
    closed: AtomicBool,
    /// What it was subscribed to before a restart was taken up again, or there was nothing.
    revived: AtomicBool,
}

/// Takes up what a session was subscribed to before a restart of Mainstay, once. Nobody knows what changed meanwhile, so
/// all of it may have.
pub(crate) fn revive(
    shared: &Arc<Shared>,
    caller: &Arc<Caller>,
    endpoint: &Endpoint,
    session: &Arc<Session>,
) {
    if session.subscriber.revived.load(Ordering::Relaxed)
        || session.subscriber.revived.swap(true, Ordering::Relaxed)
    {
        return;
    }
    let uris = session.subscriptions();
    if uris.is_empty() {
        return;
    }
    let terms = session.terms(&session.viewer(caller));
    let (session, endpoint) = (Arc::downgrade(session), endpoint.clone());
    let (weak, ending) = (Arc::downgrade(shared), shared.ending.clone());
    let reviving = async move {
        let (Some(shared), Some(session)) = (weak.upgrade(), session.upgrade()) else {
            return;
        };
        let uris: Vec<&str> = uris.iter().map(|uri| &**uri).collect();
        let words = session
            .subscriber
            .add(&shared, &endpoint, &uris, &terms)
            .await;
        for (uri, word) in uris.into_iter().zip(words) {
            match word {
                Ok(()) => session.subscriber.inbox.push(&uri.into(), ""),
                Err(why) => {
                    tracing::debug!(why = why.message, "a subscription is not taken up again");
                }
            }
        }
    };
    shared.tasks.spawn(async move {
        tokio::select! {
            // Cancel-safe: what was not settled is not subscribed to.
            () = reviving => {}
            // Cancel-safe: a token holds nothing.
            () = ending.cancelled() => {}
        }
    });
}

impl Subscriber {
    /// Subscribes to resources, and waits a moment for the words of their servers. In the same order: whether each is in
    /// force, as far as anybody can know. Cancel-safe: what was not settled is not subscribed to.
    pub(crate) async fn add(
        &self,
        shared: &Arc<Shared>,
        endpoint: &Endpoint,
        uris: &[&str],
        terms: &Terms,
    ) -> Vec<Result<(), Fault>> {
        endpoint.settled(shared).await;
        let deadline = Instant::now() + VERDICT;
        let adding = uris
            .iter()
            .map(|uri| self.add_one(shared, endpoint, uri, terms, deadline));
        join_all(adding).await
    }

    async fn add_one(
        &self,
        shared: &Arc<Shared>,
        endpoint: &Endpoint,
        uri: &str,
        terms: &Terms,
        deadline: Instant,
    ) -> Result<(), Fault> {
        if lock(&self.leases).contains_key(uri) {
            return Ok(());
        }
        let who = terms.viewer();
        if !endpoint.may_subscribe(shared, who) {
            return Err(Fault::no_method(method::SUBSCRIBE));
        }
        let (server, upstream) = endpoint.resource(shared, who, uri)?;
        let greeting = &catalog_for(shared, &server, who).await?.greeting;
        let offered = match terms {
            Terms::Attempt(..) => greeting.may_subscribe(),
            Terms::Promise(_) => greeting.can_subscribe(),
        };
        if !offered {
            return Err(Fault::params(format!(
                "server `{}`, which has this resource, offers no subscriptions",
                server.name()
            ))
            .with(json!({ "uri": shown(uri) })));
        }
        let (key, server) = place_of(server, terms).await?;
        let uri: Arc<str> = uri.into();
        let watcher = Watcher {
            inbox: Arc::downgrade(&self.inbox),
            uri: Arc::clone(&uri),
        };
        let lease = Subscriptions::watch(shared, key, &server, &upstream, watcher)
            .map_err(|error| Fault::new(LIMIT_REACHED, error.to_string()))?;
        lease
            .verdict(deadline)
            .await
            .map_err(|why| declined(&uri, &why))?;
        self.keep(uri, lease)
    }

    fn keep(&self, uri: Arc<str>, lease: Lease) -> Result<(), Fault> {
        let mut leases = lock(&self.leases);
        if self.closed.load(Ordering::Acquire) {
            return Err(Fault::new(codes::INVALID_REQUEST, "the session has ended"));
        }
        if leases.len() >= SUBSCRIPTIONS_MAX && !leases.contains_key(&uri) {
            return Err(Fault::new(
                LIMIT_REACHED,
                format!(
                    "a client can be subscribed to {SUBSCRIPTIONS_MAX} resources; unsubscribe from one first"
                ),
            ));
        }
        leases.insert(uri, lease);
        Ok(())
    }

    /// Ends one subscription; `false` if there was none.
    pub(crate) fn remove(&self, uri: &str) -> bool {
        lock(&self.leases).remove(uri).is_some()
    }

    /// Ends all of them for good.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        lock(&self.leases).clear();
    }

    /// The next uri that changed. Told once, whatever happened to it how often; news of what the client has unsubscribed
    /// from meanwhile is dropped.
    pub(crate) fn next(&self) -> Option<Arc<str>> {
        loop {
            let uri = self.inbox.pop()?;
            let leases = lock(&self.leases);
            if prefixes(&uri).any(|end| leases.contains_key(&uri[..end])) {
                return Some(uri);
            }
        }
    }

    /// Says when there is something: a level, so nothing is missed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.inbox.version.subscribe()
    }
}

/// The connection that a subscription is for: a principal's own, or a client's own, or the one that everybody shares.
async fn place_of(server: ServerHandle, terms: &Terms) -> Result<(FeedKey, ServerHandle), Fault> {
    let who = terms.viewer();
    let own = match (&who.caller().principal, terms) {
        (Some(principal), _) if who.is_apart_at(&server) => {
            let own = who.handle_at(&server).await;
            Some((Of::Principal(principal.clone()), own))
        }
        (_, Terms::Attempt(face, _)) if server.is_per_client() => {
            let client = face.client.clone().unwrap_or_default();
            Some((Of::Client(client), server.for_client(face).await))
        }
        (_, Terms::Attempt(..) | Terms::Promise(_)) => None,
    };
    let name = server.name().into();
    let (of, server) = match own {
        None => (Of::Everybody, server),
        Some((of, own)) => (of, own.map_err(|error| Fault::from(&error))?),
    };
    Ok((FeedKey { server: name, of }, server))
}

fn declined(uri: &str, why: &Declined) -> Fault {
    let code = why.code.unwrap_or(codes::INVALID_PARAMS);
    Fault::new(code, why.message.as_str()).with(json!({ "uri": shown(uri) }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_belongs_to_whatever_it_is_a_part_of() {
        let of =
            |uri: &'static str| -> Vec<&str> { prefixes(uri).map(|end| &uri[..end]).collect() };
        assert_eq!(
            of("x:/a/b?q"),
            ["x:/a/b?q", "x:/a/b", "x:/a/", "x:/a", "x:/", "x:"]
        );
        assert_eq!(of("x"), ["x"]);
        assert_eq!(of("/"), ["/"]);
        assert!(!of("x:/ab").contains(&"x:/a"));
    }

    #[test]
    fn f135_a_slow_client_is_told_each_resource_once_and_never_loses_one() {
        let inbox = Inbox::default();
        let (one, two): (Arc<str>, Arc<str>) = ("x:/one".into(), "x:/two".into());
        for number in 0..10 * PARTS_WAITING_MAX {
            inbox.push(&one, &format!("/{number}"));
        }
        for _ in 0..10 {
            inbox.push(&two, "");
        }
        let told: Vec<_> = std::iter::from_fn(|| inbox.pop()).collect();
        assert_eq!(told.len(), PARTS_WAITING_MAX + 2);
        assert_eq!(&*told[0], "x:/one/0");
        assert_eq!(
            told[PARTS_WAITING_MAX], one,
            "in place of the parts that found no room"
        );
        assert_eq!(told.last(), Some(&two));
        inbox.push(&two, "");
        assert_eq!(inbox.pop(), Some(two), "news again after it was told");
    }
}
