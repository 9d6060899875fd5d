//! What the user of the library wants a server to keep in mind (log level, subscriptions, roots), whatever its connections
//! do, and what the server says unasked.
//!
//! One owner per slot, bounded, and never more than a wish: telling the server is `runtime::restore`'s.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mainstay_core::ids::Generation;
use mainstay_wire::envelope::Message;
use mainstay_wire::splice::json_string;
use tokio::sync::{Notify, watch};

/// Updates that one listener may be behind before the oldest are dropped, and counted.
const UPDATES_MAX: usize = 1_024;

/// Folders that may be offered to one server.
const ROOTS_MAX: usize = 1_000;

/// How severe a log message is, from the least to the most (RFC 5424).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the words are the meaning")]
pub enum LogLevel {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl LogLevel {
    /// All levels, from the least to the most severe.
    pub const ALL: [Self; 8] = [
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    /// MCP's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }

    /// The level of MCP's word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == word)
    }
}

/// A folder that a server may work in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Root {
    /// Its address: `file://…`.
    pub uri: String,
    /// A name for people.
    pub name: Option<String>,
}

/// Why a wish was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WishError {
    /// Too many different resources.
    #[error(
        "there are already {limit} subscriptions to this server\n    help: unsubscribe, or raise `mainstay.limits.subscriptions`"
    )]
    TooManySubscriptions {
        /// The limit in force.
        limit: usize,
    },
    /// Too many roots.
    #[error("{given} roots are more than the {limit} that a server can be given")]
    TooManyRoots {
        /// How many were given.
        given: usize,
        /// The limit.
        limit: usize,
    },
}

/// Why a subscription is not in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Declined {
    /// The code of the server's error, if it answered with one.
    pub code: Option<i64>,
    /// Why, in words.
    pub message: String,
}

/// One thing that a server said unasked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Update {
    /// A resource changed, once or several times since the last look.
    Resource {
        /// Its address, as the server wrote it.
        uri: Box<str>,
        /// The server did not say so: the connection was replaced, and it may have changed in between.
        maybe: bool,
    },
    /// A log message (`notifications/message`), as it came.
    Log(Box<Message>),
    /// So many updates were dropped, because the listener was too slow.
    Missed(u64),
}

/// A listener's own stream of updates. Dropping it ends it.
#[derive(Debug)]
pub struct Updates(Arc<Queue>);

impl Updates {
    /// The next update. Waits without limit; cancel-safe: nothing is lost when it is dropped.
    pub async fn next(&mut self) -> Update {
        loop {
            if let Some(update) = self.try_next() {
                return update;
            }
            // A permit left over from an earlier update only costs one more look.
            self.0.wake.notified().await;
        }
    }

    /// The next update, if there is one.
    pub fn try_next(&mut self) -> Option<Update> {
        let mut waiting = lock(&self.0.waiting);
        if waiting.dropped > 0 {
            return Some(Update::Missed(std::mem::take(&mut waiting.dropped)));
        }
        let update = waiting.updates.pop_front()?;
        if let Update::Resource { uri, .. } = &update {
            waiting.uris.remove(uri);
        }
        Some(update)
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Log messages are not for this listener: they must not push out what is.
    without_logs: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    updates: VecDeque<Update>,
    /// The resources among them.
    uris: BTreeSet<Box<str>>,
    dropped: u64,
}

impl Queue {
    /// Never waits: the reader of the connection calls it.
    fn push(&self, update: Update) {
        let mut waiting = lock(&self.waiting);
        if let Update::Resource { uri, .. } = &update
            && !waiting.uris.insert(uri.clone())
        {
            // Its news waits already: the look that follows sees this change too (F173).
            return;
        }
        if waiting.updates.len() == UPDATES_MAX {
            if let Some(Update::Resource { uri, .. }) = waiting.updates.pop_front() {
                waiting.uris.remove(&uri);
            }
            waiting.dropped += 1;
        }
        waiting.updates.push_back(update);
        drop(waiting);
        self.wake.notify_one();
    }
}

/// The wishes at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Grows with every change.
    pub(crate) version: u64,
    pub(crate) level: Option<LogLevel>,
    pub(crate) uris: BTreeSet<Box<str>>,
    /// Grows with every change of the roots; 0: there never were any.
    pub(crate) roots_version: u64,
}

/// Everything that is wished for one server.
#[derive(Debug)]
pub(crate) struct Wishes {
    subscriptions_max: usize,
    inner: Mutex<Inner>,
    /// The level once more, for the path of every call: 0 is none.
    level: AtomicU8,
    version: watch::Sender<u64>,
    /// Grows with every word of the server on a subscription.
    verdicts: watch::Sender<u64>,
    /// The newest generation, and up to which version of the wishes it was told.
    fulfilled: watch::Sender<(Generation, Option<u64>)>,
    listeners: Mutex<Vec<Weak<Queue>>>,
    /// How many of them want log messages.
    hearing_logs: AtomicUsize,
    /// Further connections of the same server, which are subscribed to the same resources: what a call changes is told by
    /// the connection that it was made on.
    beside: Mutex<Vec<Weak<Wishes>>>,
    /// The server's own wishes, where these are those of such a further connection.
    server: Option<Weak<Wishes>>,
}

#[derive(Debug, Default)]
struct Inner {
    subscriptions: BTreeMap<Box<str>, Subscription>,
    /// The rendered result of `roots/list`.
    roots: Option<Arc<str>>,
    roots_version: u64,
}

#[derive(Debug, Default)]
struct Subscription {
    count: usize,
    /// The generation that it was last in force on.
    told: Option<Generation>,
    /// The generation that last refused it, and its words.
    declined: Option<(Generation, Declined)>,
}

impl Default for Wishes {
    /// No room for anything: the place of wishes of a runtime that belongs to no slot.
    fn default() -> Self {
        Self::new(0)
    }
}

impl Wishes {
    pub(crate) fn new(subscriptions_max: usize) -> Self {
        Self {
            subscriptions_max,
            inner: Mutex::default(),
            level: AtomicU8::new(0),
            version: watch::Sender::new(0),
            verdicts: watch::Sender::new(0),
            fulfilled: watch::Sender::new((Generation::default(), None)),
            listeners: Mutex::default(),
            hearing_logs: AtomicUsize::new(0),
            beside: Mutex::default(),
            server: None,
        }
    }

    /// Wishes for another connection of the same server: nothing but the log level is taken over.
    pub(crate) fn blank(&self) -> Self {
        let blank = Self::new(self.subscriptions_max);
        blank.follow(self);
        blank
    }

    /// Wishes for a principal's own connection: nothing is taken over, because what others want concerns it not.
    pub(crate) fn apart(&self) -> Self {
        Self::new(self.subscriptions_max)
    }

    /// Those that are shared, where these are the ones of a further connection beside another.
    pub(crate) fn leading(self: &Arc<Self>) -> Arc<Self> {
        let leading = self.server.as_ref().and_then(Weak::upgrade);
        leading.unwrap_or_else(|| Arc::clone(self))
    }

    /// Wishes for a further connection that serves the same clients as the server's own: the same subscriptions, now and
    /// later, and what it says goes to whoever listens to the server.
    pub(crate) fn beside(server: &Arc<Self>) -> Arc<Self> {
        let mut blank = server.blank();
        blank.server = Some(Arc::downgrade(server));
        let beside = Arc::new(blank);
        lock(&server.beside).push(Arc::downgrade(&beside));
        server.share();
        beside
    }

    /// Sees to it that the further connections are subscribed to what the server is. What is shared is what holds now, so
    /// it does not matter which of two changes at the same time comes first.
    fn share(&self) {
        let mut all = lock(&self.beside);
        all.retain(|one| one.strong_count() > 0);
        if all.is_empty() {
            return;
        }
        let uris: Vec<Box<str>> = lock(&self.inner).subscriptions.keys().cloned().collect();
        for one in all.iter().filter_map(Weak::upgrade) {
            one.take_over(&uris);
        }
    }

    fn take_over(&self, uris: &[Box<str>]) {
        let mut inner = lock(&self.inner);
        let before = inner.subscriptions.len();
        inner
            .subscriptions
            .retain(|uri, _| uris.binary_search(uri).is_ok());
        let mut changed = inner.subscriptions.len() != before;
        for uri in uris {
            if !inner.subscriptions.contains_key(uri) {
                let one = Subscription {
                    count: 1,
                    ..Subscription::default()
                };
                inner.subscriptions.insert(uri.clone(), one);
                changed = true;
            }
        }
        drop(inner);
        if changed {
            self.changed();
        }
    }

    /// Takes the log level over.
    pub(crate) fn follow(&self, other: &Self) {
        if let Some(level) = other.log_level() {
            self.set_log_level(level);
        }
    }

    /// Whether the connection has something to say even when nobody calls: a subscription, or a listener.
    pub(crate) fn are_heard(&self) -> bool {
        let listeners = lock(&self.listeners);
        // What is only subscribed to because the server is does not keep a further connection open.
        listeners.iter().any(|listener| listener.strong_count() > 0)
            || (self.server.is_none() && !lock(&self.inner).subscriptions.is_empty())
    }

    pub(crate) fn set_log_level(&self, level: LogLevel) {
        let at = LogLevel::ALL.iter().position(|one| *one == level);
        let at = at.and_then(|at| u8::try_from(at + 1).ok()).unwrap_or(0);
        if self.level.swap(at, Ordering::AcqRel) != at {
            self.changed();
        }
    }

    /// The level that was asked for, if one was. Costs one atomic load.
    pub(crate) fn log_level(&self) -> Option<LogLevel> {
        let at = usize::from(self.level.load(Ordering::Acquire));
        LogLevel::ALL.get(at.checked_sub(1)?).copied()
    }

    pub(crate) fn subscribe(&self, uri: &str) -> Result<(), WishError> {
        let mut inner = lock(&self.inner);
        if let Some(subscription) = inner.subscriptions.get_mut(uri) {
            subscription.count = subscription.count.saturating_add(1);
            return Ok(());
        }
        if inner.subscriptions.len() >= self.subscriptions_max {
            return Err(WishError::TooManySubscriptions {
                limit: self.subscriptions_max,
            });
        }
        inner.subscriptions.insert(
            uri.into(),
            Subscription {
                count: 1,
                ..Subscription::default()
            },
        );
        drop(inner);
        self.changed();
        self.share();
        Ok(())
    }

    pub(crate) fn unsubscribe(&self, uri: &str) -> bool {
        let mut inner = lock(&self.inner);
        let Some(subscription) = inner.subscriptions.get_mut(uri) else {
            return false;
        };
        subscription.count -= 1;
        if subscription.count == 0 {
            inner.subscriptions.remove(uri);
            drop(inner);
            self.changed();
            self.share();
        }
        true
    }

    pub(crate) fn set_roots(&self, roots: &[Root]) -> Result<(), WishError> {
        if roots.len() > ROOTS_MAX {
            return Err(WishError::TooManyRoots {
                given: roots.len(),
                limit: ROOTS_MAX,
            });
        }
        let rendered: Vec<String> = roots
            .iter()
            .map(|root| {
                let name = root.name.as_ref();
                let name = name.map(|name| format!(",\"name\":{}", json_string(name)));
                format!(
                    "{{\"uri\":{}{}}}",
                    json_string(&root.uri),
                    name.unwrap_or_default()
                )
            })
            .collect();
        let rendered: Arc<str> = format!("{{\"roots\":[{}]}}", rendered.join(",")).into();
        let mut inner = lock(&self.inner);
        if inner.roots.as_ref() == Some(&rendered) {
            return Ok(());
        }
        inner.roots = Some(rendered);
        inner.roots_version += 1;
        drop(inner);
        self.changed();
        Ok(())
    }

    /// The answer to `roots/list`, once roots were set.
    pub(crate) fn roots(&self) -> Option<Arc<str>> {
        lock(&self.inner).roots.clone()
    }

    /// The wishes now.
    pub(crate) fn wanted(&self) -> Wanted {
        let inner = lock(&self.inner);
        Wanted {
            version: *self.version.borrow(),
            level: self.log_level(),
            uris: inner.subscriptions.keys().cloned().collect(),
            roots_version: inner.roots_version,
        }
    }

    /// Says when the wishes change: a level, so nothing is missed.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// A subscription is in force on a generation. If it was on an earlier one, its resource may have changed in between.
    pub(crate) fn subscribed(&self, uri: &str, generation: Generation) {
        let mut inner = lock(&self.inner);
        let Some(subscription) = inner.subscriptions.get_mut(uri) else {
            return;
        };
        let before = subscription.told.replace(generation);
        subscription.declined = None;
        drop(inner);
        self.verdicts.send_modify(|version| *version += 1);
        if before.is_some_and(|before| before != generation) {
            self.updated(uri, true);
        }
    }

    /// A generation refused a subscription.
    pub(crate) fn declined(&self, uri: &str, generation: Generation, why: Declined) {
        if let Some(subscription) = lock(&self.inner).subscriptions.get_mut(uri) {
            subscription.declined = Some((generation, why));
        }
        self.verdicts.send_modify(|version| *version += 1);
    }

    /// Waits for the word of the newest generation on a subscription.
    pub(crate) async fn verdict(&self, uri: &str) -> Result<(), Declined> {
        let mut verdicts = self.verdicts.subscribe();
        loop {
            verdicts.borrow_and_update();
            let newest = self.fulfilled.borrow().0;
            match lock(&self.inner).subscriptions.get(uri) {
                None => {
                    return Err(Declined {
                        code: None,
                        message: "there is no such subscription".to_owned(),
                    });
                }
                Some(one) if one.told == Some(newest) => return Ok(()),
                Some(one) => {
                    if let Some((_, why)) = one.declined.as_ref().filter(|(by, _)| *by == newest) {
                        return Err(why.clone());
                    }
                }
            }
            // The sender lives in `self`; it cannot be gone.
            let _ = verdicts.changed().await;
        }
    }

    /// A generation is there that was told nothing yet.
    pub(crate) fn begin(&self, generation: Generation) {
        self.note(generation, None);
    }

    /// Everything up to this version of the wishes was told to a generation, or cannot be told.
    pub(crate) fn fulfil(&self, generation: Generation, version: u64) {
        self.note(generation, Some(version));
    }

    fn note(&self, generation: Generation, version: Option<u64>) {
        self.fulfilled.send_if_modified(|fulfilled| {
            let news = generation >= fulfilled.0 && (generation, version) != *fulfilled;
            if news {
                *fulfilled = (generation, version);
            }
            news
        });
    }

    /// Waits until the newest generation was told everything that is wished for now.
    pub(crate) async fn fulfilled(&self) {
        let wanted = *self.version.borrow();
        let mut fulfilled = self.fulfilled.subscribe();
        // The sender lives in `self`; it cannot be gone.
        let _ = fulfilled
            .wait_for(|(_, version)| version.is_some_and(|version| version >= wanted))
            .await;
    }

    pub(crate) fn listen(&self) -> Updates {
        self.listener(Queue::default())
    }

    /// As [`Wishes::listen`], without log messages.
    pub(crate) fn listen_to_resources(&self) -> Updates {
        self.listener(Queue {
            without_logs: true,
            ..Queue::default()
        })
    }

    fn listener(&self, queue: Queue) -> Updates {
        let queue = Arc::new(queue);
        let mut listeners = lock(&self.listeners);
        listeners.push(Arc::downgrade(&queue));
        self.count(&mut listeners);
        Updates(queue)
    }

    /// Forgets who left, and counts who hears log messages.
    fn count(&self, listeners: &mut Vec<Weak<Queue>>) {
        let mut logs = 0;
        listeners.retain(|listener| {
            let there = listener.upgrade();
            logs += usize::from(there.as_ref().is_some_and(|queue| !queue.without_logs));
            there.is_some()
        });
        self.hearing_logs.store(logs, Ordering::Release);
    }

    /// Whether anybody may want log messages.
    pub(crate) fn hears_logs(&self) -> bool {
        self.hearing_logs.load(Ordering::Acquire) > 0
    }

    /// The server says that a resource changed; `maybe`: we only fear so.
    pub(crate) fn updated(&self, uri: &str, maybe: bool) {
        self.tell(&Update::Resource {
            uri: uri.into(),
            maybe,
        });
    }

    /// The server sent a log message.
    pub(crate) fn logged(&self, message: Message) {
        self.tell(&Update::Log(Box::new(message)));
    }

    fn tell(&self, update: &Update) {
        let mut listeners = lock(&self.listeners);
        for queue in listeners.iter().filter_map(Weak::upgrade) {
            if !(queue.without_logs && matches!(update, Update::Log(_))) {
                queue.push(update.clone());
            }
        }
        self.count(&mut listeners);
        drop(listeners);
        if let Some(server) = self.server.as_ref().and_then(Weak::upgrade) {
            server.tell(update);
        }
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uris(updates: &mut Updates) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(update) = updates.try_next() {
            seen.push(match update {
                Update::Resource { uri, .. } => uri.into(),
                Update::Log(message) => message.as_str().to_owned(),
                Update::Missed(count) => format!("missed {count}"),
            });
        }
        seen
    }

    #[test]
    fn f173_f174_changes_of_one_resource_are_one_update_in_the_order_of_their_first() {
        let wishes = Wishes::new(10);
        let mut updates = wishes.listen();
        for _ in 0..1_000 {
            wishes.updated("b", false);
            wishes.updated("a", false);
        }
        assert_eq!(uris(&mut updates), ["b", "a"]);
        wishes.updated("a", false);
        assert_eq!(uris(&mut updates), ["a"], "news again after it was taken");
    }

    #[test]
    fn f173_a_slow_listener_keeps_the_newest_and_learns_how_much_it_missed() {
        let wishes = Wishes::new(10);
        let mut updates = wishes.listen();
        for number in 0..UPDATES_MAX + 5 {
            wishes.updated(&number.to_string(), false);
        }
        let seen = uris(&mut updates);
        assert_eq!(seen.len(), UPDATES_MAX + 1);
        assert_eq!((seen[0].as_str(), seen[1].as_str()), ("missed 5", "5"));
    }

    #[test]
    fn law_30_subscriptions_are_counted_and_limited() {
        let wishes = Wishes::new(2);
        for uri in ["a", "a", "b"] {
            wishes.subscribe(uri).expect("room");
        }
        let refused = wishes.subscribe("c").expect_err("no room");
        assert_eq!(refused, WishError::TooManySubscriptions { limit: 2 });
        let before = wishes.wanted().version;
        assert!(wishes.unsubscribe("a"));
        assert_eq!(
            wishes.wanted().version,
            before,
            "somebody else still wants it"
        );
        assert!(wishes.unsubscribe("a"));
        assert!(!wishes.unsubscribe("a"));
        assert_eq!(wishes.wanted().uris.len(), 1);
        wishes.subscribe("c").expect("room again");
    }

    #[test]
    fn f110_a_resource_that_was_watched_before_may_have_changed_in_between() {
        let wishes = Wishes::new(2);
        let mut updates = wishes.listen();
        wishes.subscribe("a").expect("room");
        wishes.subscribed("a", Generation(1));
        wishes.subscribed("a", Generation(1));
        assert!(updates.try_next().is_none());
        wishes.subscribed("a", Generation(2));
        assert!(matches!(
            updates.try_next(),
            Some(Update::Resource { maybe: true, .. })
        ));
    }

    #[test]
    fn listeners_that_left_are_forgotten() {
        let wishes = Wishes::new(2);
        drop(wishes.listen());
        let _resources_only = wishes.listen_to_resources();
        wishes.updated("a", false);
        assert!(!wishes.hears_logs());
        assert_eq!(lock(&wishes.listeners).len(), 1);
    }

    #[test]
    fn f173_log_messages_push_no_news_of_a_resource_out_of_a_queue_that_wants_none() {
        let wishes = Wishes::new(2);
        let mut updates = wishes.listen_to_resources();
        wishes.updated("a", false);
        let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#;
        let limits = mainstay_wire::Limits::default();
        let log = Message::parse(log.into(), &limits).expect("a message");
        for _ in 0..=UPDATES_MAX {
            wishes.logged(log.clone());
        }
        assert_eq!(uris(&mut updates), ["a"]);
    }

    #[tokio::test]
    async fn the_word_on_a_subscription_is_that_of_the_newest_generation() {
        let wishes = Wishes::new(2);
        wishes.subscribe("a").expect("room");
        let no = Declined {
            code: Some(-32602),
            message: "no".to_owned(),
        };
        wishes.begin(Generation(1));
        wishes.declined("a", Generation(1), no.clone());
        assert_eq!(wishes.verdict("a").await, Err(no));
        wishes.begin(Generation(2));
        let waiting = wishes.verdict("a");
        let told = async { wishes.subscribed("a", Generation(2)) };
        let (word, ()) = tokio::join!(waiting, told);
        assert_eq!(word, Ok(()), "what an earlier one said does not count");
        assert!(wishes.verdict("b").await.is_err(), "nobody asked for it");
    }
}
