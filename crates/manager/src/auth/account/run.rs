//! A run: whatever changes the credentials of one holder, one at a time, in a task of its own.
//!
//! The order is what makes rotation safe, over processes and crashes: take the lock, read what is stored, adopt what a peer
//! stored meanwhile (F198), take room on the disk, and only then spend the refresh token; store the answer before anybody
//! sees it (F201), and give the lock back last. A run is never dropped by whoever waits for it (F200), and only a manager
//! that is shut down ends one before its time.

use std::sync::Arc;
use std::time::Duration;

use mainstay_core::token::{self, Freshness, Refused};
use tokio::time::Instant;

use super::{Account, Held, State, Verdict};
use crate::auth::engine::{Ask, How, SignInError, TokenError};
use crate::auth::grant::Grant;
use crate::auth::store::{GrantLock, Prepared, StoreFault, Stored};
use crate::secrets;

/// How long a peer may take to change what is stored, before it is called stuck.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// How long an issuer may take to answer. Generous: an answer that is given up may hold the only good refresh token.
const ANSWER_WAIT: Duration = Duration::from_secs(120);

/// The bounds of the pause between two attempts to store what must be stored.
const SAVE_PAUSE: Duration = Duration::from_millis(250);
const SAVE_PAUSE_MAX: Duration = Duration::from_secs(15);

/// Whatever becomes of a run, its end is told.
struct End(Arc<Account>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.update(|state| {
            state.busy = false;
            state.unsaved = false;
            state.runs += 1;
        });
    }
}

/// What a look at the stored grants leaves to do.
enum Need {
    Nothing,
    /// Another attempt now would come too early.
    Patience,
    Refresh(Box<Grant>),
    Obtain,
    Login(&'static str),
}

/// What one step came to.
enum Step {
    Done,
    /// What is stored has changed: look again.
    Again,
}

pub(super) async fn run(account: Arc<Account>) {
    let end = End(account);
    let account = &end.0;
    let lock = match lock(account).await {
        Ok(lock) => lock,
        Err(fault) => return account.delay(&fault.to_string(), None),
    };
    // A grant can be superseded, and one that has ended can be got anew: more than that is going round in circles.
    for _ in 0..3 {
        look(account).await;
        let step = match need(account) {
            Need::Nothing => {
                account.update(|state| {
                    state.verdict = Verdict::Fine;
                    state.failures = 0;
                });
                Step::Done
            }
            Need::Patience => Step::Done,
            Need::Login(why) => {
                account.needs_login(Some(why.to_owned()));
                Step::Done
            }
            Need::Refresh(grant) => refresh(account, *grant).await,
            Need::Obtain => obtain(account).await,
        };
        if matches!(step, Step::Done) {
            break;
        }
    }
    drop(lock);
}

async fn lock(account: &Account) -> Result<Option<GrantLock>, StoreFault> {
    match &account.house.store {
        Some(store) => store.lock(&account.holder, LOCK_WAIT).await.map(Some),
        // Nobody else can know of what is only in our memory, and runs of one account are one at a time.
        None => Ok(None),
    }
}

/// Reads what is stored, and adopts it where it differs from what we have.
async fn look(account: &Arc<Account>) {
    let first = !account.look_at(|state| state.loaded);
    let Some(store) = account.house.store.clone() else {
        return account.update(|state| state.loaded = true);
    };
    let holder = account.holder.clone();
    let loading = tokio::task::spawn_blocking(move || store.load(&holder));
    let Stored { grants, faults } = loading.await.unwrap_or_default();
    let faulty = !faults.is_empty();
    let disk = faults.first().map(|fault| Arc::from(fault.to_string()));
    account.update(|state| {
        state.loaded = true;
        // What was put aside is told until there is something better.
        if disk.is_some() {
            state.disk = disk;
        }
    });
    let allowed = grants
        .into_iter()
        .filter(|grant| account.choice.allows(&grant.key));
    let newest = allowed.max_by_key(|grant| (grant.granted_unix_ms, grant.tokens.received_unix_ms));
    let same =
        account.look_at(|state| state.held.as_ref().map(|held| held.grant.clone())) == newest;
    match newest {
        _ if same => {}
        Some(grant) => adopt(account, grant, !first).await,
        // A disk that cannot be read takes nothing away from what works.
        None if faulty => {}
        None => {
            account.update(|state| {
                state.held = None;
                state.refused = None;
                state.verdict = Verdict::Login(Some("somebody has signed out".into()));
                state.challenge.get_or_insert_default();
            });
            account.tell_users().await;
        }
    }
}

/// From now on this grant is the one. It is stored, or stands in nobody's way.
async fn adopt(account: &Arc<Account>, grant: Grant, tell: bool) {
    account.hide(&grant);
    let Some(held) = Held::new(grant, account.house.unix_ms()) else {
        return account.needs_login(Some(
            "the stored token holds characters that HTTP forbids".to_owned(),
        ));
    };
    let identity = held.identity();
    let mut changed = false;
    account.update(|state| {
        let former = state.held.as_deref().map(Held::identity);
        changed = former.as_ref() != Some(&identity);
        state.held = Some(Arc::new(held));
        state.had = true;
        state.verdict = Verdict::Fine;
        state.failures = 0;
        state.disk = None;
        if changed {
            state.wants = None;
        }
    });
    if changed && tell {
        account.tell_users().await;
    } else if changed {
        account.users_began_with_this();
    }
}

fn need(account: &Account) -> Need {
    let state = account.state.borrow();
    let patience =
        matches!(&state.verdict, Verdict::Delayed { retry_at, .. } if *retry_at > Instant::now());
    let Some(held) = state.held.as_deref() else {
        return match &state.challenge {
            Some(_) if patience => Need::Patience,
            Some(_) => Need::Obtain,
            None => Need::Nothing,
        };
    };
    let rejected = state
        .refused
        .as_ref()
        .filter(|refused| *refused == held.access());
    let freshness = account.freshness(held);
    let answered = token::answers(
        rejected.map(|rejected| rejected.expose()),
        held.access().expose(),
        freshness,
    );
    match (&held.grant.tokens.refresh, held.grant.by_human) {
        _ if answered => Need::Nothing,
        _ if patience => Need::Patience,
        (Some(_), _) => Need::Refresh(Box::new(held.grant.clone())),
        (None, false) => Need::Obtain,
        (None, true) if rejected.is_some() => {
            Need::Login("the server refuses the token, and it came without one to renew it with")
        }
        // It is shown until somebody refuses it.
        (None, true) => Need::Nothing,
    }
}

/// Spends the refresh token.
async fn refresh(account: &Arc<Account>, grant: Grant) -> Step {
    let prepared = match prepare(account).await {
        Ok(prepared) => prepared,
        Err(fault) => {
            account.delay(&fault.to_string(), None);
            return Step::Done;
        }
    };
    let ask = account.ask();
    let asked_unix_ms = account.house.unix_ms();
    let asking = account.house.engine.refresh(&ask, &grant);
    let answered = match tokio::time::timeout(ANSWER_WAIT, asking).await {
        Ok(answered) => answered,
        Err(_elapsed) => Err(TokenError::Transient {
            what: format!(
                "{} gave no answer within {} ms",
                grant.token_endpoint,
                ANSWER_WAIT.as_millis()
            ),
            retry_after_ms: None,
        }),
    };
    match answered {
        Ok(mut tokens) => {
            tokens.received_unix_ms = asked_unix_ms;
            let tokens = tokens.after(&grant.tokens);
            keep(account, prepared, Grant { tokens, ..grant }).await;
            account.update(|state| state.refreshed_unix_ms = Some(asked_unix_ms));
            Step::Done
        }
        Err(TokenError::Refused(why)) => {
            drop(prepared);
            refused(account, &grant, &why).await
        }
        Err(TokenError::Transient {
            what,
            retry_after_ms,
        }) => {
            account.delay(
                &format!("the token could not be refreshed: {what}"),
                retry_after_ms,
            );
            Step::Done
        }
        Err(TokenError::Unusable(why)) => {
            account.needs_login(Some(format!("the token could not be refreshed: {why}")));
            Step::Done
        }
    }
}

/// The issuer says that the refresh token is no good. That ends the grant if it is still the stored one (F199).
async fn refused(account: &Arc<Account>, grant: &Grant, why: &str) -> Step {
    let Some(refresh) = grant.tokens.refresh.clone() else {
        return Step::Done;
    };
    let stored = match account.house.store.clone() {
        Some(store) => {
            let (holder, key) = (account.holder.clone(), grant.key.clone());
            let loading = tokio::task::spawn_blocking(move || store.load(&holder));
            let mut grants = loading.await.unwrap_or_default().grants.into_iter();
            grants.find(|grant| grant.key == key)
        }
        None => account.look_at(|state| state.held.as_ref().map(|held| held.grant.clone())),
    };
    let stored = stored.and_then(|stored| stored.tokens.refresh);
    match token::refused(
        refresh.expose(),
        stored.as_ref().map(|stored| stored.expose()),
    ) {
        Refused::Superseded => return Step::Again,
        Refused::Over => {
            if let Some(store) = account.house.store.clone() {
                let key = grant.key.clone();
                let removing = tokio::task::spawn_blocking(move || store.remove(&key));
                if let Ok(Err(fault)) = removing.await {
                    tracing::warn!(%fault, "a grant that has ended is still stored");
                }
            }
        }
        Refused::Gone => {}
    }
    account.update(|state| {
        state.held = None;
        state.refused = None;
        // Somebody was asked for credentials, or nobody would have refreshed.
        state.challenge.get_or_insert_default();
    });
    if grant.by_human {
        account.needs_login(Some(format!("the sign-in has ended ({why})")));
        account.tell_users().await;
        return Step::Done;
    }
    Step::Again
}

/// Gets a grant without a human, if the config says how.
async fn obtain(account: &Arc<Account>) -> Step {
    let ask = account.ask();
    let prepared = match prepare(account).await {
        Ok(prepared) => prepared,
        Err(fault) => {
            account.delay(&fault.to_string(), None);
            return Step::Done;
        }
    };
    let asked_unix_ms = account.house.unix_ms();
    let asking = account.house.engine.obtain(&ask);
    match tokio::time::timeout(ANSWER_WAIT, asking).await {
        Ok(Ok(Some(mut grant))) => match account.checked(&grant) {
            Ok(()) => {
                grant.tokens.received_unix_ms = asked_unix_ms;
                account.update(|state| state.refused = None);
                keep(account, prepared, grant).await;
                account.tell_users().await;
            }
            Err(why) => account.needs_login(Some(why)),
        },
        Ok(Ok(None)) => {
            let why = account.look_at(|state| match &state.verdict {
                Verdict::Login(Some(why)) => Some(why.to_string()),
                Verdict::Login(None) | Verdict::Fine | Verdict::Delayed { .. } => {
                    state.disk.as_deref().map(str::to_owned)
                }
            });
            account.needs_login(why);
        }
        // Another one was brought meanwhile.
        Ok(Err(error)) if !error.transient && account.subject() != ask.subject => {
            return Step::Again;
        }
        Ok(Err(error)) => account.failed(&error),
        Err(_elapsed) => account.delay(
            &format!("no authorization within {} ms", ANSWER_WAIT.as_millis()),
            None,
        ),
    }
    Step::Done
}

/// Room on the disk; without a disk there is nothing to take.
async fn prepare(account: &Account) -> Result<Option<Prepared>, StoreFault> {
    let Some(store) = account.house.store.clone() else {
        return Ok(None);
    };
    let preparing = tokio::task::spawn_blocking(move || store.prepare());
    match preparing.await {
        Ok(prepared) => prepared.map(Some),
        // The runtime ends.
        Err(_ended) => Ok(None),
    }
}

/// Stores a grant that was just given, however long that takes, and uses it then (F201). Until it is stored nobody is shown
/// it, and the lock is held: what is stored has been spent, and a peer that spends it once more would end the grant.
async fn keep(account: &Arc<Account>, prepared: Option<Prepared>, grant: Grant) {
    account.hide(&grant);
    let (Some(prepared), Some(store)) = (prepared, account.house.store.clone()) else {
        return adopt(account, grant, false).await;
    };
    let first = grant.clone();
    let saving = tokio::task::spawn_blocking(move || prepared.keep(&first));
    let mut saved = saving.await.unwrap_or(Ok(()));
    let mut pause = SAVE_PAUSE;
    while let Err(fault) = saved {
        tracing::error!(server = %account.config().name, %fault, "new tokens cannot be stored; they are not used until they are, and no other process may refresh meanwhile");
        account.update(|state| {
            state.unsaved = true;
            state.runs += 1;
        });
        account.delay(&fault.to_string(), None);
        tokio::select! {
            // Cancel-safe: a sleep holds nothing.
            () = tokio::time::sleep(pause) => {}
            // Cancel-safe: a token holds nothing. One last attempt follows.
            () = account.house.closing() => {}
        }
        pause = (pause * 2).min(SAVE_PAUSE_MAX);
        let (store, again) = (store.clone(), grant.clone());
        let saving = tokio::task::spawn_blocking(move || store.save(&again));
        saved = saving.await.unwrap_or(Ok(()));
        if saved.is_err() && account.house.is_closing() {
            tracing::error!(server = %account.config().name, "Mainstay ends with tokens that could not be stored: a new sign-in will be needed");
            return;
        }
    }
    adopt(account, grant, false).await;
}

/// See [`Account::take_in`].
pub(super) async fn take_in(account: &Arc<Account>, grant: Grant) -> Result<(), String> {
    account.checked(&grant)?;
    account.hide(&grant);
    let lock = lock(account).await.map_err(|fault| fault.to_string())?;
    if let Some(store) = account.house.store.clone() {
        let (holder, new) = (account.holder.clone(), grant.clone());
        let storing = tokio::task::spawn_blocking(move || {
            store.save(&new)?;
            // What the same issuer gave to a client that we no longer are is of no use to anybody.
            let former = store.load(&holder).grants;
            let former = former.iter().filter(|former| {
                former.key.issuer == new.key.issuer
                    && former.key != new.key
                    && former.client.source == new.client.source
            });
            for former in former {
                store.remove(&former.key)?;
            }
            Ok::<(), StoreFault>(())
        });
        let stored = storing.await.map_err(|error| error.to_string())?;
        stored.map_err(|fault| fault.to_string())?;
    }
    account.update(|state| {
        state.loaded = true;
        state.refused = None;
        state.challenge = None;
    });
    adopt(account, grant, true).await;
    drop(lock);
    Ok(())
}

/// See [`Account::forget`].
pub(super) async fn forget(account: &Arc<Account>) -> Result<Vec<Grant>, String> {
    let lock = lock(account).await.map_err(|fault| fault.to_string())?;
    let held = account.look_at(|state| state.held.as_ref().map(|held| held.grant.clone()));
    let mut grants: Vec<Grant> = held.into_iter().collect();
    if let Some(store) = account.house.store.clone() {
        let (holder, choice) = (account.holder.clone(), account.choice.clone());
        let removing = tokio::task::spawn_blocking(move || {
            let mut stored = store.load(&holder).grants;
            stored.retain(|grant| choice.allows(&grant.key));
            for grant in &stored {
                store.remove(&grant.key)?;
            }
            Ok::<_, StoreFault>(stored)
        });
        let removed = removing.await.map_err(|error| error.to_string())?;
        let removed = removed.map_err(|fault| fault.to_string())?;
        grants.retain(|held| !removed.iter().any(|grant| grant.key == held.key));
        grants.extend(removed);
    }
    account.update(|state| {
        state.held = None;
        state.refused = None;
        state.wants = None;
        state.verdict = Verdict::Login(Some("signed out".into()));
        state.challenge.get_or_insert_default();
    });
    account.tell_users().await;
    drop(lock);
    Ok(grants)
}

impl Account {
    /// What an engine is asked for.
    pub(in crate::auth) fn ask(&self) -> Ask {
        let subject = self.subject();
        let state = self.state.borrow();
        let held = state.held.as_deref();
        Ask {
            server: self.config(),
            resource: self.holder.resource.clone(),
            principal: self.holder.principal.clone(),
            challenge: state.wants.clone().or_else(|| state.challenge.clone()),
            scopes_before: held
                .map(|held| held.grant.requested_scopes.clone())
                .unwrap_or_default(),
            how: How::default(),
            redirect_uri: None,
            subject,
        }
    }

    /// Credentials are never used for anything but what they were asked for.
    fn checked(&self, grant: &Grant) -> Result<(), String> {
        let key = &grant.key;
        if key.resource != self.holder.resource || key.principal != self.holder.principal {
            return Err("the grant that came is for another server or person".to_owned());
        }
        if key.client_id != grant.client.id {
            return Err("the grant that came is for another client".to_owned());
        }
        Ok(())
    }

    fn hide(&self, grant: &Grant) {
        let tokens = &grant.tokens;
        let secrets = [
            Some(&tokens.access),
            tokens.refresh.as_ref(),
            grant.client.secret.as_ref(),
        ];
        for secret in secrets.into_iter().flatten() {
            secrets::hide(secret.expose());
        }
    }

    /// There is no token for now.
    fn delay(&self, why: &str, retry_after_ms: Option<u64>) {
        let why: Arc<str> = self.house.hidden.scrub(why).into();
        tracing::warn!(server = %self.config().name, %why, "no new token for now");
        self.update(|state: &mut State| {
            state.failures = state.failures.saturating_add(1);
            let mut seed = self.seed.wrapping_add(u64::from(state.failures));
            let wait_ms =
                token::retry_in_ms(&self.policy, state.failures, retry_after_ms, &mut seed);
            state.verdict = Verdict::Delayed {
                why,
                retry_at: Instant::now() + Duration::from_millis(wait_ms),
            };
        });
    }

    fn failed(&self, error: &SignInError) {
        match error.transient {
            true => self.delay(&error.to_string(), None),
            false => self.needs_login(Some(error.to_string())),
        }
    }

    /// Only a human helps.
    pub(super) fn needs_login(&self, why: Option<String>) {
        let why = why.map(|why| Arc::from(self.house.hidden.scrub(&why)));
        tracing::info!(server = %self.config().name, why = why.as_deref().unwrap_or("nobody has"), "somebody has to sign in");
        let tried = self.subject();
        self.update(|state| {
            state.verdict = Verdict::Login(why);
            state.tried = tried;
        });
        self.house.watch_for(self);
    }

    /// The first look at the disk changes nothing for anybody.
    fn users_began_with_this(&self) {
        let now = self.look_at(|state| state.held.as_deref().map(Held::identity));
        let mut users = self
            .users
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for user in users.iter_mut() {
            user.began_with.clone_from(&now);
        }
    }
}

/// Whether a token that is shown is good by its age alone.
pub(in crate::auth) fn is_over(account: &Account, state: &State) -> bool {
    let held = state.held.as_deref();
    held.is_some_and(|held| account.freshness(held) == Freshness::Stale)
}
