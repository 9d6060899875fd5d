//! What all accounts share: the engine, the disk, the clock on the wall, and the tasks that nobody's deadline ends.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::account::Account;
use super::engine::Engine;
use super::store::GrantStore;
use crate::secrets::Hidden;

/// How often the disk is looked at for what another process stored, while somebody waits for that.
const WATCH: Duration = Duration::from_secs(5);

/// How long runs that are under way may take to end when everything does: an answer that is given up may hold the only
/// good refresh token.
const CLOSE: Duration = Duration::from_secs(8);

/// What all accounts share.
pub(crate) struct House {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) store: Option<GrantStore>,
    pub(super) hidden: Arc<Hidden>,
    wall: Box<dyn Fn() -> u64 + Send + Sync>,
    tasks: TaskTracker,
    /// Nothing new begins.
    closing: CancellationToken,
    /// Nothing goes on.
    over: CancellationToken,
    /// Accounts that wait for somebody to sign in, maybe in another process.
    watched: Mutex<Vec<Weak<Account>>>,
    watching: AtomicBool,
}

impl fmt::Debug for House {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("House")
            .field("engine", &self.engine)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl House {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        store: Option<GrantStore>,
        hidden: Arc<Hidden>,
        wall: Box<dyn Fn() -> u64 + Send + Sync>,
    ) -> Self {
        Self {
            engine,
            store,
            hidden,
            wall,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            over: CancellationToken::new(),
            watched: Mutex::default(),
            watching: AtomicBool::new(false),
        }
    }

    /// The wall clock, in milliseconds of the Unix clock. It may be wrong, and may be set.
    pub(super) fn unix_ms(&self) -> u64 {
        (self.wall)()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Resolves when everything is about to end. Cancel-safe.
    pub(super) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Runs something to its end, whoever waits for it or not.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let over = self.over.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                // Not dropped by anybody but the end of everything, when its time is over.
                () = work => {}
                // Cancel-safe: a token holds nothing.
                () = over.cancelled() => {}
            }
        });
    }

    /// The same with an outcome; `None`: everything has ended before it was there.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, outcome) = tokio::sync::oneshot::channel();
        self.spawn(async move {
            // Whoever wanted to know may have left.
            let _ = done.send(work.await);
        });
        outcome.await.ok()
    }

    /// Ends everything: nothing new begins, and what is under way gets some seconds (law 6).
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(CLOSE, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("an authorization server has not answered before the end");
            self.over.cancel();
            self.tasks.wait().await;
        }
    }

    /// Looks for new credentials of this account on the disk from now on, until there are some (F202).
    pub(super) fn watch_for(self: &Arc<Self>, account: &Account) {
        let Some(store) = self.store.clone() else {
            return;
        };
        if let Some(account) = account.me() {
            let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&account));
            watched.push(account);
        }
        if !self.watching.swap(true, Ordering::AcqRel) {
            self.spawn(watch(Arc::clone(self), store));
        }
    }

    fn watched(&self) -> Vec<Arc<Account>> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|account| {
            account
                .upgrade()
                .is_some_and(|account| account.wants_login())
        });
        let watched: Vec<_> = watched.iter().filter_map(Weak::upgrade).collect();
        if watched.is_empty() {
            // Under the lock: whoever comes now begins anew.
            self.watching.store(false, Ordering::Release);
        }
        watched
    }
}

/// One look at the directory every five seconds, for as long as an account waits.
async fn watch(house: Arc<House>, store: GrantStore) {
    let mut seen = None;
    loop {
        let accounts = house.watched();
        if accounts.is_empty() {
            return;
        }
        let looking = store.clone();
        let now = tokio::task::spawn_blocking(move || looking.changed_at()).await;
        let now = now.ok().flatten();
        if now != seen {
            seen = now;
            for account in &accounts {
                account.want();
            }
        }
        drop(accounts);
        tokio::select! {
            // Cancel-safe: a sleep holds nothing.
            () = tokio::time::sleep(WATCH) => {}
            // Cancel-safe: a token holds nothing.
            () = house.closing() => return,
        }
    }
}
