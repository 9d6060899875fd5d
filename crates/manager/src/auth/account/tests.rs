//! Tests of one holder's credentials on paused time, against an issuer that never forgives.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use futures_util::future::{BoxFuture, join_all};
use tokio::sync::Notify;

use super::*;
use crate::auth::engine::{Ask, Engine, Login, Polled, SignInError, Step, TokenError};
use crate::auth::grant::{ClientAuth, ClientIdentity, ClientSource, Tokens};
use crate::auth::store::GrantStore;

const RESOURCE: &str = "https://server.test/mcp";

/// What the issuer of a test answers to one refresh.
enum Reply {
    /// The next pair.
    Pair,
    /// The next pair, after this long.
    Slow(Duration),
    /// The next pair, when the gate opens.
    Gated,
    /// An access token and nothing else.
    Bare,
    Refused,
    Away,
    Unusable,
    /// Somebody else stores this pair meanwhile, and this one is refused.
    Overtaken(Box<Grant>),
}

/// An issuer that rotates, never forgives, and counts.
struct Issuer {
    store: Option<GrantStore>,
    replies: Mutex<VecDeque<Reply>>,
    /// Refresh tokens that came, in order.
    spent: Mutex<Vec<String>>,
    pairs: AtomicUsize,
    obtained: AtomicUsize,
    by_itself: bool,
    gate: Notify,
    wall_offset_ms: Arc<AtomicI64>,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issuer")
    }
}

impl Issuer {
    fn pair(&self, refresh: bool) -> Tokens {
        let number = self.pairs.fetch_add(1, Ordering::SeqCst) + 2;
        Tokens {
            access: Secret::new(format!("access-{number}")),
            refresh: refresh.then(|| Secret::new(format!("refresh-{number}"))),
            scopes: BTreeSet::new(),
            received_unix_ms: 0,
            lifetime_ms: Some(3_600_000),
        }
    }

    fn spent(&self) -> Vec<String> {
        self.spent.lock().unwrap().clone()
    }

    fn will(&self, replies: impl IntoIterator<Item = Reply>) {
        self.replies.lock().unwrap().extend(replies);
    }
}

impl Engine for Issuer {
    fn refresh<'a>(
        &'a self,
        _ask: &'a Ask,
        grant: &'a Grant,
    ) -> BoxFuture<'a, Result<Tokens, TokenError>> {
        Box::pin(async move {
            let spent = grant.tokens.refresh.as_ref().unwrap().expose().to_owned();
            self.spent.lock().unwrap().push(spent);
            let reply = self.replies.lock().unwrap().pop_front();
            match reply.unwrap_or(Reply::Pair) {
                Reply::Pair => Ok(self.pair(true)),
                Reply::Slow(time) => {
                    let pair = self.pair(true);
                    tokio::time::sleep(time).await;
                    Ok(pair)
                }
                Reply::Gated => {
                    let pair = self.pair(true);
                    self.gate.notified().await;
                    Ok(pair)
                }
                Reply::Bare => Ok(self.pair(false)),
                Reply::Refused => Err(TokenError::Refused("invalid_grant".to_owned())),
                Reply::Away => Err(TokenError::Transient {
                    what: "HTTP 503".to_owned(),
                    retry_after_ms: None,
                }),
                Reply::Unusable => Err(TokenError::Unusable("invalid_client".to_owned())),
                Reply::Overtaken(other) => {
                    self.store.as_ref().unwrap().save(&other).unwrap();
                    Err(TokenError::Refused("invalid_grant".to_owned()))
                }
            }
        })
    }

    fn obtain<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Option<Grant>, SignInError>> {
        Box::pin(async move {
            self.obtained.fetch_add(1, Ordering::SeqCst);
            let grant = Grant {
                by_human: false,
                ..grant(self.pair(false))
            };
            assert_eq!(*ask.resource, *RESOURCE);
            Ok(self.by_itself.then_some(grant))
        })
    }

    fn begin<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Login, SignInError>> {
        Box::pin(async { Err(nothing(ask)) })
    }

    fn finish<'a>(
        &'a self,
        ask: &'a Ask,
        _login: &'a Login,
        _callback_url: &'a str,
    ) -> BoxFuture<'a, Result<Grant, SignInError>> {
        Box::pin(async { Err(nothing(ask)) })
    }

    fn poll<'a>(
        &'a self,
        ask: &'a Ask,
        _login: &'a Login,
    ) -> BoxFuture<'a, Result<Polled, SignInError>> {
        Box::pin(async { Err(nothing(ask)) })
    }

    fn revoke<'a>(
        &'a self,
        _ask: &'a Ask,
        _grant: &'a Grant,
    ) -> BoxFuture<'a, Result<(), SignInError>> {
        Box::pin(async { Ok(()) })
    }
}

fn nothing(ask: &Ask) -> SignInError {
    SignInError::new(ask.server.name.as_str(), Step::Authorization, "not here")
}

fn grant(tokens: Tokens) -> Grant {
    Grant {
        key: GrantKey {
            issuer: "https://issuer.test".into(),
            client_id: "client".into(),
            principal: None,
            resource: RESOURCE.into(),
        },
        tokens,
        client: ClientIdentity {
            id: "client".into(),
            secret: None,
            auth: ClientAuth::None,
            source: ClientSource::Registered,
        },
        token_endpoint: "https://issuer.test/token".into(),
        resource_indicator: None,
        revocation_endpoint: None,
        requested_scopes: BTreeSet::new(),
        by_human: true,
        granted_unix_ms: 1,
    }
}

/// The pair that a human's sign-in brought, this long ago.
fn first(age_ms: u64) -> Grant {
    grant(Tokens {
        access: Secret::new("access-1"),
        refresh: Some(Secret::new("refresh-1")),
        scopes: BTreeSet::from(["read".to_owned()]),
        received_unix_ms: START_UNIX_MS - age_ms,
        lifetime_ms: Some(3_600_000),
    })
}

const START_UNIX_MS: u64 = 1_700_000_000_000;
const OLD: u64 = 4_000_000;

/// One process: an account over a directory that others may share.
struct Bench {
    issuer: Arc<Issuer>,
    account: Arc<Account>,
    _dir: Arc<tempfile::TempDir>,
}

struct Made {
    dir: Arc<tempfile::TempDir>,
    by_itself: bool,
}

impl Made {
    fn new() -> Self {
        Self {
            dir: Arc::new(tempfile::tempdir().unwrap()),
            by_itself: false,
        }
    }

    fn store(&self) -> GrantStore {
        GrantStore::open(self.dir.path()).unwrap()
    }

    fn with(self, grant: &Grant) -> Self {
        self.store().save(grant).unwrap();
        self
    }

    fn bench(&self) -> Bench {
        let wall_offset_ms = Arc::new(AtomicI64::new(0));
        let issuer = Arc::new(Issuer {
            store: Some(self.store()),
            replies: Mutex::default(),
            spent: Mutex::default(),
            pairs: AtomicUsize::new(0),
            obtained: AtomicUsize::new(0),
            by_itself: self.by_itself,
            gate: Notify::new(),
            wall_offset_ms: Arc::clone(&wall_offset_ms),
        });
        let engine: Arc<dyn Engine> = Arc::clone(&issuer) as _;
        self.bench_of(issuer, engine)
    }

    /// Another process that talks to the same issuer.
    fn peer(&self, issuer: &Arc<Issuer>) -> Bench {
        self.bench_of(Arc::clone(issuer), Arc::clone(issuer) as _)
    }

    fn bench_of(&self, issuer: Arc<Issuer>, engine: Arc<dyn Engine>) -> Bench {
        let begun = Instant::now();
        let offset = Arc::clone(&issuer.wall_offset_ms);
        let wall = move || {
            let passed = u64::try_from(begun.elapsed().as_millis()).unwrap();
            (START_UNIX_MS + passed).saturating_add_signed(offset.load(Ordering::SeqCst))
        };
        let house = House::new(engine, Some(self.store()), Arc::default(), Box::new(wall));
        let holder = Holder {
            resource: RESOURCE.into(),
            principal: None,
        };
        let config = Arc::new(ServerConfig::http("notes", RESOURCE));
        Bench {
            issuer,
            account: Account::new(Arc::new(house), holder, Choice::default(), config),
            _dir: Arc::clone(&self.dir),
        }
    }
}

impl Bench {
    async fn shows(&self) -> String {
        text(&self.account.bearer().await.unwrap().unwrap())
    }

    /// What a call is told that cannot be made: before it is sent, or when the server has refused it.
    async fn failure(&self) -> Failure {
        match self.account.bearer().await {
            Err(failure) => failure,
            Ok(shown) => {
                let next = self.account.rejected(shown.as_ref(), None).await;
                assert_eq!(next, Next::Failed);
                self.account.explain()
            }
        }
    }

    fn stored(&self) -> Vec<Grant> {
        let store = self.issuer.store.as_ref().unwrap();
        store.load(&self.account.holder).grants
    }

    async fn idle(&self) {
        let mut state = self.account.state.subscribe();
        state.wait_for(|state| !state.busy).await.unwrap();
    }
}

fn text(header: &HeaderValue) -> String {
    header
        .to_str()
        .unwrap()
        .trim_start_matches("Bearer ")
        .to_owned()
}

#[tokio::test(start_paused = true)]
async fn f196_a_hundred_calls_with_an_expired_token_cost_one_request() {
    let bench = Made::new().with(&first(OLD)).bench();
    bench.issuer.will([Reply::Slow(Duration::from_secs(3))]);
    let shown = join_all((0..100).map(|_| bench.shows())).await;
    assert!(shown.iter().all(|shown| shown == "access-2"), "{shown:?}");
    assert_eq!(bench.issuer.spent(), ["refresh-1"]);
    let stored = bench.stored();
    assert_eq!(stored[0].tokens.access.expose(), "access-2");
    assert_eq!(
        stored[0].tokens.refresh.as_ref().unwrap().expose(),
        "refresh-2"
    );
}

#[tokio::test(start_paused = true)]
async fn f197_a_refused_token_that_is_not_the_newest_any_more_costs_no_request() {
    let bench = Made::new().with(&first(0)).bench();
    let old = bench.account.bearer().await.unwrap();
    assert_eq!(
        bench.account.rejected(old.as_ref(), None).await,
        Next::Again
    );
    assert_eq!(bench.shows().await, "access-2");
    // Calls that were on their way with the former one hear of its refusal one after the other.
    for _ in 0..20 {
        assert_eq!(
            bench.account.rejected(old.as_ref(), None).await,
            Next::Again
        );
    }
    assert_eq!(bench.issuer.spent(), ["refresh-1"]);
}

#[tokio::test(start_paused = true)]
async fn f198_of_two_processes_one_refreshes_and_the_other_adopts() {
    let made = Made::new().with(&first(0));
    let one = made.bench();
    let other = made.peer(&one.issuer);
    let (a, b) = (
        one.account.bearer().await.unwrap(),
        other.account.bearer().await.unwrap(),
    );
    one.issuer.will([Reply::Slow(Duration::from_secs(2))]);
    let (a, b) = tokio::join!(
        one.account.rejected(a.as_ref(), None),
        other.account.rejected(b.as_ref(), None)
    );
    assert_eq!((a, b), (Next::Again, Next::Again));
    assert_eq!(
        (one.shows().await, other.shows().await),
        ("access-2".to_owned(), "access-2".to_owned())
    );
    assert_eq!(
        one.issuer.spent(),
        ["refresh-1"],
        "a spent refresh token was shown again"
    );
}

#[tokio::test(start_paused = true)]
async fn f199_the_refusal_of_a_superseded_token_neither_deletes_nor_ends_anything() {
    let bench = Made::new().with(&first(OLD)).bench();
    let mut other = first(0);
    other.tokens.access = Secret::new("access-9");
    other.tokens.refresh = Some(Secret::new("refresh-9"));
    // As if a peer without locks had been faster.
    bench
        .issuer
        .will([Reply::Overtaken(Box::new(other.clone()))]);
    assert_eq!(bench.shows().await, "access-9");
    assert_eq!(bench.stored(), [other]);
}

#[tokio::test(start_paused = true)]
async fn f200_a_refresh_whose_callers_all_left_is_stored_all_the_same() {
    let bench = Made::new().with(&first(OLD)).bench();
    bench.issuer.will([Reply::Gated]);
    let left = tokio::time::timeout(Duration::from_millis(10), bench.account.bearer()).await;
    assert!(left.is_err(), "the caller's own deadline fires (law 17)");
    bench.issuer.gate.notify_one();
    bench.idle().await;
    assert_eq!(
        bench.stored()[0].tokens.refresh.as_ref().unwrap().expose(),
        "refresh-2"
    );
    assert_eq!(bench.shows().await, "access-2");
    assert_eq!(bench.issuer.spent(), ["refresh-1"]);
}

#[tokio::test(start_paused = true)]
async fn law_17_an_issuer_that_never_answers_holds_nobody_for_more_than_its_bound() {
    let bench = Made::new().with(&first(0)).bench();
    let old = bench.account.bearer().await.unwrap();
    bench.issuer.will([Reply::Gated]);
    let begun = Instant::now();
    assert_eq!(
        bench.account.rejected(old.as_ref(), None).await,
        Next::Failed
    );
    assert!(
        begun.elapsed() <= WAIT + Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    let failure = bench.account.explain();
    assert_eq!(failure.kind, FailureKind::SignInDelayed, "{failure}");
    assert!(failure.retry_after_ms.is_some());
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn f201_a_pair_that_cannot_be_stored_is_not_shown_until_it_is_and_no_peer_spends_the_former_one()
 {
    let made = Made::new().with(&first(0));
    let bench = made.bench();
    let old = bench.account.bearer().await.unwrap();
    let path = std::fs::read_dir(made.dir.path().join("auth"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "json"))
        .unwrap();
    let kept = std::fs::read(&path).unwrap();
    bench.issuer.will([Reply::Gated]);
    let account = Arc::clone(&bench.account);
    let used = old.clone();
    let refused = tokio::spawn(async move { account.rejected(used.as_ref(), None).await });
    // The request is under way: room was taken, and now the name itself is in the way.
    while bench.issuer.spent().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir_all(path.join("x")).unwrap();
    bench.issuer.gate.notify_one();
    assert_eq!(refused.await.unwrap(), Next::Failed);
    let failure = bench.account.explain();
    assert_eq!(failure.kind, FailureKind::SignInDelayed);
    let told = failure.to_string();
    assert!(
        told.contains("make room on the disk") && !told.contains("access-2"),
        "{told}"
    );
    // A peer sees what was stored before, and does not get the lock to spend it.
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::write(&path, &kept).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    bench.idle().await;
    assert_eq!(bench.shows().await, "access-2");
    assert_eq!(bench.stored()[0].tokens.access.expose(), "access-2");
    assert_eq!(bench.issuer.spent(), ["refresh-1"]);
}

#[tokio::test(start_paused = true)]
async fn f201_without_room_on_the_disk_no_refresh_token_is_spent() {
    let made = Made::new().with(&first(0));
    let bench = made.bench();
    let old = bench.account.bearer().await.unwrap();
    let dir = made.dir.path().join("auth");
    let aside = made.dir.path().join("aside");
    // Before the lock can be had, and after it: neither may cost the only good refresh token.
    for locked in [false, true] {
        let holder = &bench.account.holder;
        let peers = match locked {
            true => Some(made.store().lock(holder, WAIT).await.unwrap()),
            false => None,
        };
        let (account, used) = (Arc::clone(&bench.account), old.clone());
        let break_disk = || {
            std::fs::rename(&dir, &aside).unwrap();
            std::fs::write(&dir, b"in the way").unwrap();
        };
        if !locked {
            break_disk();
        }
        let rejected = tokio::spawn(async move { account.rejected(used.as_ref(), None).await });
        if locked {
            // The clock moves on when nothing is left to do: by then it waits for the lock that the peer holds.
            tokio::time::sleep(Duration::from_secs(1)).await;
            break_disk();
        }
        drop(peers);
        assert_eq!(rejected.await.unwrap(), Next::Failed, "{locked}");
        assert_eq!(bench.issuer.spent(), Vec::<String>::new(), "{locked}");
        assert_eq!(bench.account.explain().kind, FailureKind::SignInDelayed);
        std::fs::remove_file(&dir).unwrap();
        std::fs::rename(&aside, &dir).unwrap();
        // By now it is tried less often than a call waits.
        tokio::time::sleep(Duration::from_secs(61)).await;
    }
    let next = bench.account.rejected(old.as_ref(), None).await;
    assert_eq!(next, Next::Again);
    assert_eq!(bench.shows().await, "access-2");
}

#[tokio::test(start_paused = true)]
async fn f202_f210_an_issuer_in_trouble_is_asked_again_within_the_same_call_and_nothing_is_forgotten()
 {
    let bench = Made::new().with(&first(0)).bench();
    let old = bench.account.bearer().await.unwrap();
    bench.issuer.will([Reply::Away, Reply::Away]);
    assert_eq!(
        bench.account.rejected(old.as_ref(), None).await,
        Next::Again
    );
    assert_eq!(bench.issuer.spent(), ["refresh-1"; 3]);
    assert_eq!(bench.shows().await, "access-2");
}

#[tokio::test(start_paused = true)]
async fn f207_f210_a_token_past_its_time_is_still_shown_while_no_other_can_be_had() {
    let bench = Made::new().with(&first(OLD)).bench();
    bench.issuer.will((0..50).map(|_| Reply::Away));
    assert_eq!(bench.shows().await, "access-1");
    assert_eq!(bench.stored(), [first(OLD)]);
    // Refused by the server it is not shown again.
    let shown = bench.account.bearer().await.unwrap();
    assert_eq!(
        bench.account.rejected(shown.as_ref(), None).await,
        Next::Failed
    );
    assert_eq!(bench.failure().await.kind, FailureKind::SignInDelayed);
    assert_eq!(bench.stored(), [first(OLD)]);
}

#[tokio::test(start_paused = true)]
async fn f207_a_clock_set_forward_or_back_by_an_hour_stops_nobody() {
    for offset_ms in [3_600_000_i64, -3_600_000] {
        let bench = Made::new().with(&first(60_000)).bench();
        assert_eq!(bench.shows().await, "access-1");
        bench
            .issuer
            .wall_offset_ms
            .store(offset_ms, Ordering::SeqCst);
        bench.issuer.will([Reply::Gated]);
        // At once, whatever the issuer does.
        assert_eq!(bench.shows().await, "access-1");
        bench.issuer.gate.notify_one();
        // And it does end, whatever the wall says.
        tokio::time::advance(Duration::from_millis(3_700_000)).await;
        bench.idle().await;
        assert_eq!(bench.shows().await, "access-2", "{offset_ms}");
        assert_eq!(bench.issuer.spent(), ["refresh-1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn f208_the_successor_is_fetched_early_while_the_token_is_shown_and_only_for_users() {
    let bench = Made::new().with(&first(0)).bench();
    assert_eq!(bench.shows().await, "access-1");
    tokio::time::advance(Duration::from_millis(3_500_000)).await;
    assert_eq!(bench.issuer.spent(), Vec::<String>::new(), "nobody used it");
    bench.issuer.will([Reply::Gated]);
    assert_eq!(
        bench.shows().await,
        "access-1",
        "nobody waits for the successor"
    );
    assert_eq!(bench.shows().await, "access-1");
    bench.issuer.gate.notify_one();
    bench.idle().await;
    assert_eq!(bench.shows().await, "access-2");
    assert_eq!(bench.issuer.spent(), ["refresh-1"]);
}

#[tokio::test(start_paused = true)]
async fn f209_a_reply_without_refresh_token_and_scopes_keeps_the_former_ones() {
    let bench = Made::new().with(&first(OLD)).bench();
    bench.issuer.will([Reply::Bare]);
    assert_eq!(bench.shows().await, "access-2");
    let stored = bench.stored().remove(0).tokens;
    assert_eq!(stored.refresh.unwrap().expose(), "refresh-1");
    assert!(stored.scopes.contains("read"));
}

#[tokio::test(start_paused = true)]
async fn f210_only_invalid_grant_ends_a_grant_and_then_a_human_is_needed() {
    let bench = Made::new().with(&first(0)).bench();
    let old = bench.account.bearer().await.unwrap();
    bench.issuer.will([Reply::Unusable]);
    assert_eq!(
        bench.account.rejected(old.as_ref(), None).await,
        Next::Failed
    );
    let failure = bench.account.explain();
    assert_eq!(failure.kind, FailureKind::NeedsLogin);
    assert!(failure.to_string().contains("invalid_client"), "{failure}");
    assert_eq!(bench.stored().len(), 1);
    bench.issuer.will([Reply::Refused]);
    assert_eq!(
        bench.account.rejected(old.as_ref(), None).await,
        Next::Failed
    );
    let failure = bench.failure().await;
    assert_eq!(failure.kind, FailureKind::NeedsLogin);
    let told = failure.to_string();
    assert!(
        told.contains("`mainstay login notes`") && told.contains("invalid_grant"),
        "{told}"
    );
    assert_eq!(bench.stored(), []);
}

#[tokio::test(start_paused = true)]
async fn f202_what_another_process_stores_ends_the_need_for_a_login() {
    let made = Made::new();
    let bench = made.bench();
    assert_eq!(
        bench.account.bearer().await.unwrap(),
        None,
        "nobody has asked for credentials yet"
    );
    assert_eq!(bench.account.rejected(None, None).await, Next::Failed);
    assert_eq!(bench.account.explain().kind, FailureKind::NeedsLogin);
    made.store().save(&first(0)).unwrap();
    let mut state = bench.account.state.subscribe();
    let seen = state.wait_for(|state| state.held.is_some());
    tokio::time::timeout(Duration::from_secs(30), seen)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(bench.shows().await, "access-1");
}

#[tokio::test(start_paused = true)]
async fn f202_a_grant_that_programs_can_get_is_got_anew_when_it_ends() {
    let mut made = Made::new();
    made.by_itself = true;
    let bench = made.bench();
    assert_eq!(bench.account.bearer().await.unwrap(), None);
    assert_eq!(bench.account.rejected(None, None).await, Next::Again);
    let first = bench.account.bearer().await.unwrap();
    assert_eq!(text(first.as_ref().unwrap()), "access-2");
    assert_eq!(
        bench.account.rejected(first.as_ref(), None).await,
        Next::Again
    );
    assert_eq!(bench.shows().await, "access-3");
    assert_eq!(bench.issuer.obtained.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn f199_a_sign_out_is_final_here_and_in_every_process() {
    let made = Made::new().with(&first(0));
    let bench = made.bench();
    let other = made.peer(&bench.issuer);
    let shown = other.account.bearer().await.unwrap();
    assert_eq!(bench.shows().await, "access-1");
    assert_eq!(bench.account.forget().await.unwrap().len(), 1);
    assert_eq!(bench.failure().await.kind, FailureKind::NeedsLogin);
    assert_eq!(
        other.account.rejected(shown.as_ref(), None).await,
        Next::Failed
    );
    assert_eq!(bench.issuer.spent(), Vec::<String>::new());
    assert_eq!(bench.stored(), []);
    // And signing in again is heard everywhere.
    let again = Grant {
        granted_unix_ms: 2,
        ..first(0)
    };
    bench.account.take_in(again).await.unwrap();
    assert_eq!(bench.shows().await, "access-1");
}

#[tokio::test(start_paused = true)]
async fn f255_a_grant_for_somebody_else_is_not_taken_in() {
    let bench = Made::new().bench();
    let mut foreign = first(0);
    foreign.key.resource = "https://other.test/mcp".into();
    assert!(bench.account.take_in(foreign).await.is_err());
    assert_eq!(bench.stored(), []);
}

#[tokio::test(start_paused = true)]
async fn law_6_a_refresh_that_is_under_way_when_everything_ends_is_stored_before_the_end() {
    let bench = Made::new().with(&first(OLD)).bench();
    bench.issuer.will([Reply::Slow(Duration::from_secs(4))]);
    let left = tokio::time::timeout(Duration::from_secs(1), bench.account.bearer()).await;
    assert!(left.is_err());
    bench.account.house.close().await;
    assert_eq!(bench.stored()[0].tokens.access.expose(), "access-2");
    // Nothing new begins; what is known is still shown.
    assert_eq!(bench.shows().await, "access-2");
}

#[tokio::test(start_paused = true)]
async fn law_31_what_is_told_of_credentials_shows_none() {
    let bench = Made::new().with(&first(OLD)).bench();
    bench.issuer.will([Reply::Refused]);
    let failure = bench.failure().await;
    for shown in [format!("{failure:?}"), format!("{:?}", bench.account)] {
        assert!(
            !shown.contains("access-") && !shown.contains("refresh-"),
            "{shown}"
        );
    }
}
