//! The credentials of one holder: which token is shown now, who waits for another one, and what everybody is told.
//!
//! Reading is cheap and never waits while a token is good. Whatever changes credentials happens in a run (`run`): one at a
//! time, in a task that nobody's deadline ends (F196, F200). Callers wait for it under deadlines of their own (law 17).
//! Nothing here runs by itself: without somebody who uses the server there is no refresh and no timer.

mod run;
#[cfg(test)]
mod tests;

pub(super) use self::run::is_over;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::HeaderValue;
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::lifecycle::input::{Input, Poke};
use mainstay_core::lifecycle::status::StateWord;
use mainstay_core::token::{self, Age, Freshness, TokenPolicy};
use tokio::sync::watch;
use tokio::time::Instant;

use super::challenge::Challenge;
use super::grant::{Grant, GrantKey, Secret};
use super::house::House;
use super::store::Holder;
use super::subject::Subject;
use crate::config::ServerConfig;
use crate::runtime::report::Reports;
use crate::slot::Slot;

/// How long anybody waits for a token, whatever deadline they have: an issuer that takes longer goes on in the background.
pub(crate) const WAIT: Duration = Duration::from_secs(15);

/// How long after new credentials a connection that failed with the former ones may still be on its way to being parked.
const SETTLE: Duration = Duration::from_secs(5);

/// Which grants of a holder count, as the config narrows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Choice {
    /// Only those of this issuer.
    pub(crate) issuer: Option<Box<str>>,
    /// Only those as this client.
    pub(crate) client_id: Option<Box<str>>,
}

impl Choice {
    fn allows(&self, key: &GrantKey) -> bool {
        self.issuer
            .as_ref()
            .is_none_or(|issuer| *issuer == key.issuer)
            && self
                .client_id
                .as_ref()
                .is_none_or(|client| *client == key.client_id)
    }
}

/// Which sign-in it was: another one may be another person's, whatever its key says (F211).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    key: GrantKey,
    /// `None`: what a program gets anew by itself is the same program's.
    granted_unix_ms: Option<u64>,
}

/// A grant in use.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) grant: Grant,
    header: HeaderValue,
    read_at: Instant,
    age_when_read_ms: Option<u64>,
}

impl State {
    /// Whether a run is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }
}

impl Held {
    fn new(grant: Grant, now_unix_ms: u64) -> Option<Self> {
        let value = format!("Bearer {}", grant.tokens.access.expose());
        let mut header = HeaderValue::from_str(&value).ok()?;
        header.set_sensitive(true);
        let received_unix_ms = grant.tokens.received_unix_ms;
        Some(Self {
            grant,
            header,
            read_at: Instant::now(),
            age_when_read_ms: token::age_when_read(received_unix_ms, now_unix_ms),
        })
    }

    fn identity(&self) -> Identity {
        Identity {
            key: self.grant.key.clone(),
            granted_unix_ms: self.grant.by_human.then_some(self.grant.granted_unix_ms),
        }
    }

    fn access(&self) -> &Secret {
        &self.grant.tokens.access
    }

    /// Whether a run can get a successor for it.
    fn has_successor(&self) -> bool {
        self.grant.tokens.refresh.is_some() || !self.grant.by_human
    }
}

/// What the last run came to.
#[derive(Debug, Clone, Default)]
pub(super) enum Verdict {
    /// There is a token, or none is known to be needed.
    #[default]
    Fine,
    /// A human has to sign in, for this reason; none: nobody ever did.
    Login(Option<Arc<str>>),
    /// There is no good token now, and another attempt may bring one.
    Delayed {
        /// Why.
        why: Arc<str>,
        /// When the next attempt may be made.
        retry_at: Instant,
    },
}

/// Everything that is known of one holder's credentials.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) held: Option<Arc<Held>>,
    /// The last token that the server refused. It is never shown again.
    pub(super) refused: Option<Secret>,
    /// What the server said when it last refused us.
    pub(super) challenge: Option<Challenge>,
    /// What a step-up would have to ask for.
    pub(super) wants: Option<Challenge>,
    pub(super) verdict: Verdict,
    /// The newest subject of the caller when it was last found that there is no token.
    tried: Option<Subject>,
    /// The disk has been looked at.
    pub(super) loaded: bool,
    /// There has been a grant.
    pub(super) had: bool,
    /// What is wrong on the disk, whatever else is right.
    pub(super) disk: Option<Arc<str>>,
    busy: bool,
    /// A pair that was given could not be stored yet: the run goes on until it is.
    unsaved: bool,
    /// Runs that have come to something.
    runs: u64,
    pub(super) failures: u32,
    pub(super) refreshed_unix_ms: Option<u64>,
}

/// What can be shown at this moment.
enum Look {
    Show(HeaderValue),
    /// Show it, and have the successor fetched.
    ShowAndRenew(HeaderValue),
    /// Nothing: no token is known to be needed.
    Bare,
    /// A run has to find out.
    Ask,
}

/// What to do about a refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is another token by now: send once more.
    Again,
    /// There is none; [`Account::explain`] says why.
    Failed,
}

/// A connection that uses these credentials, to be told when they change.
#[derive(Debug)]
struct User {
    slot: Weak<Slot>,
    reports: Reports,
    /// Which sign-in its newest connection began with.
    began_with: Option<Identity>,
}

/// The credentials of one holder.
#[derive(Debug)]
pub(crate) struct Account {
    pub(super) house: Arc<House>,
    pub(super) holder: Holder,
    pub(super) choice: Choice,
    policy: TokenPolicy,
    /// Spreads what many do at the same time (F208).
    seed: u64,
    /// The newest entry that uses them.
    config: Mutex<Arc<ServerConfig>>,
    state: watch::Sender<State>,
    users: Mutex<Vec<User>>,
    me: Weak<Account>,
}

impl Account {
    pub(super) fn new(
        house: Arc<House>,
        holder: Holder,
        choice: Choice,
        config: Arc<ServerConfig>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            house,
            holder,
            choice,
            policy: TokenPolicy::default(),
            // Without randomness refreshes are merely less spread.
            seed: getrandom::u64().unwrap_or(0),
            config: Mutex::new(config),
            state: watch::Sender::default(),
            users: Mutex::default(),
        })
    }

    pub(super) fn me(&self) -> Option<Weak<Self>> {
        (self.me.strong_count() > 0).then(|| self.me.clone())
    }

    /// Whether nothing but a sign-in helps.
    pub(super) fn wants_login(&self) -> bool {
        self.look_at(|state| matches!(state.verdict, Verdict::Login(_)))
    }

    /// The entry that speaks for these credentials.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&config)
    }

    /// Another connection uses these credentials.
    pub(super) fn used_by(&self, config: &Arc<ServerConfig>, slot: &Arc<Slot>, reports: &Reports) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(config);
        let began_with = self.state.borrow().held.as_deref().map(Held::identity);
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let same = Arc::downgrade(slot);
        users.retain(|user| user.slot.strong_count() > 0 && !user.slot.ptr_eq(&same));
        users.push(User {
            slot: same,
            reports: reports.clone(),
            began_with,
        });
    }

    /// What the principal last proved itself with, at whichever of its connections. It is theirs, and gone with them.
    fn subject(&self) -> Option<Subject> {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = users.iter().filter_map(|user| user.slot.upgrade());
        let own = slots.filter(|slot| slot.principal() == self.holder.principal.as_ref());
        own.filter_map(|slot| slot.account.as_ref()?.subject.get())
            .reduce(|one, other| match other.is_newer_than(&one) {
                true => other,
                false => one,
            })
    }

    /// A caller is there. If nothing but other credentials helped, and it has brought another subject than was tried, its
    /// connections begin anew: an exchange needs no person. Returns whether there is hope.
    pub(crate) fn revive(&self) -> bool {
        if !self.wants_login() {
            return true;
        }
        let subject = self.subject();
        let revived = self.state.send_if_modified(|state| {
            let hopeless = matches!(state.verdict, Verdict::Login(_));
            if !hopeless || subject.is_none() || state.tried == subject {
                return false;
            }
            state.verdict = Verdict::Fine;
            state.challenge.get_or_insert_default();
            true
        });
        if revived {
            let users: Vec<(Arc<Slot>, Reports)> = {
                let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
                let slots = users.iter();
                slots
                    .filter_map(|user| Some((user.slot.upgrade()?, user.reports.clone())))
                    .collect()
            };
            for (slot, reports) in users {
                self.poke(slot, reports);
            }
        }
        !self.wants_login()
    }

    /// Has a connection begin anew that is parked for want of credentials, or is on its way to that.
    fn poke(&self, slot: Arc<Slot>, reports: Reports) {
        let (house, me) = (Arc::clone(&self.house), self.me.clone());
        self.house.spawn(async move {
            tokio::select! {
                // Cancel-safe: what is not told does not matter at the end of everything.
                () = tell_once_parked(me, slot, reports) => {}
                // Cancel-safe: a token holds nothing.
                () = house.closing() => {}
            }
        });
    }

    pub(super) fn look_at<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.borrow())
    }

    fn freshness(&self, held: &Held) -> Freshness {
        let now_unix_ms = self.house.unix_ms();
        let tokens = &held.grant.tokens;
        let age = Age {
            when_read_ms: held.age_when_read_ms,
            held_ms: u64::try_from(held.read_at.elapsed().as_millis()).unwrap_or(u64::MAX),
            wall_ms: token::age_when_read(tokens.received_unix_ms, now_unix_ms),
        };
        token::freshness(&self.policy, tokens.lifetime_ms, age, self.seed)
    }

    fn look(&self, state: &State) -> Look {
        let Some(held) = state.held.as_deref() else {
            // Once nothing but a human helps, the server is asked again as if it had never been: it may have changed its mind.
            let hopeless = matches!(state.verdict, Verdict::Login(_));
            let wanted = state.challenge.is_some() && !hopeless;
            return match !state.loaded || wanted {
                true => Look::Ask,
                false => Look::Bare,
            };
        };
        if state.refused.as_ref() == Some(held.access()) {
            return Look::Ask;
        }
        match self.freshness(held) {
            Freshness::Fresh => Look::Show(held.header.clone()),
            // Nothing can be had in its place: it is shown for as long as nobody refuses it.
            Freshness::Due | Freshness::Stale if !held.has_successor() => {
                Look::Show(held.header.clone())
            }
            Freshness::Due => Look::ShowAndRenew(held.header.clone()),
            Freshness::Stale => Look::Ask,
        }
    }

    /// The token to show now, if it can be told without waiting for anything; see [`Account::bearer`].
    pub(crate) fn glance(self: &Arc<Self>) -> Option<Option<HeaderValue>> {
        // Not in the arms: the state must not be borrowed when a run begins.
        let look = self.look(&self.state.borrow());
        match look {
            Look::Show(header) => Some(Some(header)),
            Look::ShowAndRenew(header) => {
                self.renew();
                Some(Some(header))
            }
            Look::Bare => Some(None),
            Look::Ask => None,
        }
    }

    /// The token to show now; `None`: the server is not known to want one. At once while a token is good; otherwise this
    /// waits for a run, at most 15 seconds. A token past its time that nobody has refused is shown if no other one can be
    /// had for now. Cancel-safe: a run goes on without its callers (F200).
    ///
    /// # Errors
    /// `NeedsLogin` where only a human helps, `SignInDelayed` where waiting does.
    pub(crate) async fn bearer(self: &Arc<Self>) -> Result<Option<HeaderValue>, Failure> {
        let until = Instant::now() + WAIT;
        let mut rounds = 0;
        loop {
            if let Some(shown) = self.glance() {
                return Ok(shown);
            }
            let (verdict, stale, stuck) = {
                let state = self.state.borrow();
                let held = state.held.as_deref();
                let stale = held.filter(|held| state.refused.as_ref() != Some(held.access()));
                let stale = stale.map(|held| held.header.clone());
                (state.verdict.clone(), stale, state.unsaved)
            };
            if let Verdict::Delayed { retry_at, .. } = &verdict
                && rounds > 0
                && *retry_at < until
                && stale.is_none()
                && !stuck
            {
                // Another attempt in the same patience (F202): to whoever calls, an issuer in trouble is a slow call.
                tokio::time::sleep_until(*retry_at).await;
                rounds = 0;
                continue;
            }
            if rounds >= 2 || Instant::now() >= until {
                // Nobody has refused it: the server decides (F207).
                return stale
                    .map_or_else(|| Err(self.failure(&verdict)), |header| Ok(Some(header)));
            }
            rounds += self.round(until).await;
        }
    }

    /// The server refused a request with 401 that showed `used`. Gets another token, at most once and at most 15 seconds:
    /// a newer one that is there already, a peer's, or a new one. Cancel-safe.
    pub(crate) async fn rejected(
        self: &Arc<Self>,
        used: Option<&HeaderValue>,
        challenge: Option<Challenge>,
    ) -> Next {
        let until = Instant::now() + WAIT;
        self.state.send_modify(|state| {
            // A server that refuses without a word wants credentials all the same (F92).
            state.challenge = Some(challenge.unwrap_or_default());
            if let Some(held) = &state.held
                && Some(&held.header) == used
            {
                state.refused = Some(held.access().clone());
            }
        });
        let mut rounds = 0;
        loop {
            let (other, verdict, stuck) = {
                let state = self.state.borrow();
                let held = state.held.as_deref();
                let other = held.is_some_and(|held| {
                    Some(&held.header) != used && state.refused.as_ref() != Some(held.access())
                });
                (other, state.verdict.clone(), state.unsaved)
            };
            // F197: somebody else was faster.
            if other {
                return Next::Again;
            }
            match verdict {
                // Another attempt in the same patience (F202); not one for each of those who wait.
                Verdict::Delayed { retry_at, .. } if rounds > 0 && retry_at < until && !stuck => {
                    tokio::time::sleep_until(retry_at).await;
                    rounds = 0;
                }
                _ if rounds >= 2 || Instant::now() >= until => return Next::Failed,
                Verdict::Fine | Verdict::Login(_) | Verdict::Delayed { .. } => {}
            }
            rounds += self.round(until).await;
        }
    }

    /// The server wants more than this token may do (403, `insufficient_scope`): remembered for the next sign-in, unless
    /// it was asked for already. Asking again for what was not granted would go round in circles.
    pub(crate) fn lacks(&self, challenge: Challenge) {
        self.state.send_if_modified(|state| {
            let held = state.held.as_deref();
            let asked_before = held.is_some_and(|held| {
                !challenge.scopes.is_empty()
                    && challenge.scopes.is_subset(&held.grant.requested_scopes)
            });
            if asked_before || state.wants.as_ref() == Some(&challenge) {
                return false;
            }
            state.wants = Some(challenge);
            true
        });
    }

    /// The server refuses a token that its issuer has only just given. Nothing is forgotten; a human has to look at it.
    pub(crate) fn refused_again(&self) {
        let said = self.look_at(|state| {
            let challenge = state.challenge.as_ref();
            challenge.and_then(|challenge| challenge.description.clone())
        });
        let said = said.map_or_else(String::new, |said| format!(" ({said})"));
        let why = format!("the server refuses even a token that was just issued for it{said}");
        self.needs_login(Some(why));
    }

    /// Why a server that wants credentials was shown none that it takes.
    pub(crate) fn explain(&self) -> Failure {
        let verdict = self.look_at(|state| state.verdict.clone());
        self.failure(&verdict)
    }

    /// Waits until the disk has been looked at, or that takes too long. Cancel-safe.
    pub(super) async fn looked_at(self: &Arc<Self>) {
        let until = Instant::now() + WAIT;
        while !self.look_at(|state| state.loaded) && Instant::now() < until {
            self.round(until).await;
        }
    }

    /// Has the successor fetched, if nobody does that already and the last attempt is not too young.
    fn renew(self: &Arc<Self>) {
        let wait = self.look_at(|state| {
            state.busy || matches!(&state.verdict, Verdict::Delayed { retry_at, .. } if *retry_at > Instant::now())
        });
        if !wait {
            self.want();
        }
    }

    /// Waits for a run that knows what is wanted now. Returns how many more of them would make no difference.
    async fn round(self: &Arc<Self>, until: Instant) -> u32 {
        let (after, ours) = self.want();
        if self.look_at(|state| state.unsaved) {
            // That run goes on for as long as the disk does not take what it has.
            return 2;
        }
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| state.runs > after);
        // Too late, or the account is gone: either way what is known now has to do.
        let _ = tokio::time::timeout_at(until, ended).await;
        // One that was under way when we came may have looked before.
        if ours { 2 } else { 1 }
    }

    /// Begins a run, unless one is under way. Returns how many have ended, and whether this one is ours.
    pub(super) fn want(self: &Arc<Self>) -> (u64, bool) {
        let mut begins = false;
        let mut ended = 0;
        self.state.send_modify(|state| {
            begins = !state.busy && !self.house.is_closing();
            state.busy |= begins;
            ended = state.runs;
        });
        if begins {
            self.house.spawn(run::run(Arc::clone(self)));
        }
        (ended, begins)
    }

    /// Takes over a grant that a sign-in brought: stored first, used then, told last.
    ///
    /// # Errors
    /// In words: it could not be stored. It is not used then.
    pub(super) async fn take_in(self: &Arc<Self>, grant: Grant) -> Result<(), String> {
        run::take_in(self, grant).await
    }

    /// Forgets all grants of this holder. Returns those that there were.
    ///
    /// # Errors
    /// In words: something could not be removed.
    pub(super) async fn forget(self: &Arc<Self>) -> Result<Vec<Grant>, String> {
        run::forget(self).await
    }

    /// Changes what is known, and tells whoever waits.
    fn update(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    /// Tells the connections that there are other credentials than they know.
    async fn tell_users(&self) {
        let now = self.look_at(|state| state.held.as_deref().map(Held::identity));
        let told: Vec<(Arc<Slot>, Reports, bool)> = {
            let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
            users.retain(|user| user.slot.strong_count() > 0);
            let told = users.iter_mut().filter_map(|user| {
                let slot = user.slot.upgrade()?;
                let changed = user.began_with != now;
                user.began_with.clone_from(&now);
                Some((slot, user.reports.clone(), changed))
            });
            told.collect()
        };
        for (slot, reports, changed) in told {
            let connected = slot
                .current
                .load()
                .as_ref()
                .map(|runtime| runtime.generation);
            let input = match (connected, now.is_some()) {
                // F211: what one person's connection knows is not for another one's.
                (Some(_), true) if changed => Input::Replace,
                // It has nothing to show any more, and whoever signed out wants it closed.
                (Some(generation), false) => Input::Exited {
                    generation,
                    failure: self.explain(),
                },
                (Some(_) | None, _) => Input::Poke(Poke::Credentials),
            };
            reports.input(input).await;
            // It may be on its way to being parked for the former ones: then it is told again when it is there.
            if now.is_some() {
                self.poke(slot, reports);
            }
        }
    }

    /// A verdict as the failure of whoever needs a token.
    fn failure(&self, verdict: &Verdict) -> Failure {
        let server = self.config().name.clone();
        match verdict {
            Verdict::Delayed { why, retry_at } => {
                let ms = retry_at.saturating_duration_since(Instant::now()).as_millis();
                Failure::new(FailureKind::SignInDelayed)
                    .with_detail(&**why)
                    .with_retry_after_ms(u64::try_from(ms).unwrap_or(u64::MAX).max(1_000))
            }
            Verdict::Login(why) if self.config().auth.exchanges_callers() => {
                let why = why.as_deref().unwrap_or("no token of a caller has been exchanged yet");
                Failure::new(FailureKind::NeedsLogin).with_detail(format!(
                    "{why}; no login at `{server}` is needed: it goes on with the next call that brings a newer token"
                ))
            }
            Verdict::Login(Some(why)) => Failure::new(FailureKind::NeedsLogin)
                .with_detail(format!("{why}; sign in with `mainstay login {server}`")),
            Verdict::Login(None) => Failure::new(FailureKind::NeedsLogin)
                .with_detail(format!("nobody is signed in; use `mainstay login {server}`")),
            // Whoever asks has waited in vain: a run is still under way.
            Verdict::Fine => Failure::new(FailureKind::SignInDelayed)
                .with_detail(format!(
                    "the authorization server of `{server}` has given no token within {} ms; its answer is still awaited",
                    WAIT.as_millis()
                ))
                .with_retry_after_ms(1_000),
        }
    }
}

/// Pokes a connection that gets parked for want of the credentials that are there now. Bounded by 5 seconds.
async fn tell_once_parked(account: Weak<Account>, slot: Arc<Slot>, reports: Reports) {
    let mut view = slot.view.subscribe();
    let parked = view.wait_for(|view| {
        let status = &view.status;
        let cause = status.cause.as_ref();
        status.state == StateWord::Parked
            && cause.is_some_and(|cause| cause.kind == FailureKind::NeedsLogin)
    });
    let parked = matches!(tokio::time::timeout(SETTLE, parked).await, Ok(Ok(_)));
    // Those that are there now may have ended as well meanwhile: then it is parked for a good reason.
    let good = account
        .upgrade()
        .is_some_and(|account| !account.wants_login());
    if parked && good {
        reports.input(Input::Poke(Poke::Credentials)).await;
    }
}
