//! Where people sign in and out, and see how that stands: the face of all credentials towards the gateway.
//!
//! It opens no browser and no port: whoever calls it has the human, shows the URL and hears what comes back (F203). What was
//! begun goes on without its caller (F200); every login has an end.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::account::{Account, Choice, Verdict, is_over};
use super::credentials::Credentials;
use super::engine::{Engine, How, SignInError, Step};
use super::grant::resource_of;
use super::house::House;
use super::login::{Attempt, Begun, LoginState};
use super::store::{GrantStore, Holder, StoreFault};
use crate::catalog::unix_ms;
use crate::config::{ServerConfig, Template, Transport, process_env};
use crate::driver::Desk;
use crate::principal::Principal;
use crate::runtime::report::Reports;
use crate::secrets::Hidden;
use crate::settings;
use crate::slot::Slot;

/// Logins that are remembered at the same time; beyond that the oldest go.
const LOGINS_MAX: usize = 64;

/// Accounts that are remembered although nothing uses them; beyond that they are read from the disk again.
const ACCOUNTS_MAX: usize = 4_096;

/// Which account an entry uses.
type AccountKey = (Holder, Choice);

/// All credentials of a manager.
pub(crate) struct Office {
    /// `None`: nobody speaks OAuth here, and nobody signs in.
    house: Option<Arc<House>>,
    accounts: Mutex<BTreeMap<AccountKey, Arc<Account>>>,
    /// Which resource a server was last seen to be.
    resources: Mutex<BTreeMap<String, Box<str>>>,
    logins: Mutex<Vec<Arc<Attempt>>>,
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Office")
            .field("house", &self.house)
            .finish_non_exhaustive()
    }
}

impl Office {
    /// Opens the office, with the credentials in `state_dir` if there is one. Without a directory they live as long as the
    /// process; with one that cannot be used, likewise, and that is logged.
    pub(crate) fn open(
        engine: Option<Arc<dyn Engine>>,
        state_dir: Option<&Path>,
        hidden: Arc<Hidden>,
    ) -> Arc<Self> {
        let house = engine.map(|engine| {
            let store = state_dir.and_then(|dir| match GrantStore::open(dir) {
                Ok(store) => Some(store),
                Err(fault) => {
                    tracing::error!(%fault, "sign-ins are not kept over restarts");
                    None
                }
            });
            Arc::new(House::new(engine, store, hidden, Box::new(unix_ms)))
        });
        Arc::new(Self {
            house,
            accounts: Mutex::default(),
            resources: Mutex::default(),
            logins: Mutex::default(),
        })
    }

    /// What a link to this server shows; `None`: nothing but what its entry says. `url` has its references resolved.
    pub(crate) fn credentials(
        &self,
        config: &Arc<ServerConfig>,
        url: &str,
        principal: Option<&Principal>,
        slot: &Arc<Slot>,
        reports: &Reports,
    ) -> Option<Credentials> {
        let account = self.account(config, url, principal)?;
        account.used_by(config, slot, reports);
        slot.sign_in.store(Some(Arc::clone(&account)));
        Some(Credentials::new(account))
    }

    fn account(
        &self,
        config: &Arc<ServerConfig>,
        url: &str,
        principal: Option<&Principal>,
    ) -> Option<Arc<Account>> {
        let house = self.house.as_ref().filter(|_| config.signs_in())?;
        let holder = Holder {
            resource: resource_of(url)?,
            principal: principal.cloned(),
        };
        let choice = config.choice();
        let mut resources = self
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        resources.insert(config.name.clone(), holder.resource.clone());
        drop(resources);
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= ACCOUNTS_MAX {
            accounts.retain(|_, account| Arc::strong_count(account) > 1);
        }
        let account = accounts
            .entry((holder.clone(), choice.clone()))
            .or_insert_with(|| Account::new(Arc::clone(house), holder, choice, Arc::clone(config)));
        Some(Arc::clone(account))
    }

    /// The resource that a server was last seen to be.
    fn resource(&self, server: &str) -> Option<Box<str>> {
        let resources = self
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        resources.get(server).cloned()
    }

    /// Ends everything (law 6). Idempotent; bounded by some seconds.
    pub(crate) async fn close(&self) {
        if let Some(house) = &self.house {
            house.close().await;
        }
    }

    fn attempt(&self, id: &str) -> Option<Arc<Attempt>> {
        let logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.iter().find(|login| login.id() == id).cloned()
    }

    fn remember(&self, attempt: Arc<Attempt>) {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.push(attempt);
        if logins.len() > LOGINS_MAX {
            let oldest = logins.remove(0);
            oldest.cancel("too many others have begun since");
        }
    }
}

impl ServerConfig {
    /// Whether it is left to OAuth what the server is shown: it is reached by URL, its entry names no credentials for
    /// the `Authorization` header itself, and `auth` does not forbid it. Nothing is shown all the same until the server asks for it.
    #[must_use]
    pub fn signs_in(&self) -> bool {
        match &self.transport {
            Transport::Http { url, headers, .. } => {
                let named = headers
                    .iter()
                    .any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
                // What a URL says before its host goes into the same header.
                let rest = url.raw().split_once("://").map_or("", |(_, rest)| rest);
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                !named && !authority.contains('@') && !self.auth.off
            }
            Transport::Stdio { .. } | Transport::Broken { .. } => false,
        }
    }

    /// Which of the stored grants count, as `auth` narrows it. A reference that cannot be resolved narrows nothing here: the
    /// engine says what is wrong with it.
    fn choice(&self) -> Choice {
        let value = |template: &Option<Template>| {
            let value = template.as_ref()?.resolve(&process_env).ok()?;
            Some(value.into_boxed_str())
        };
        Choice {
            issuer: value(&self.auth.issuer),
            client_id: value(&self.auth.client_id),
        }
    }
}

/// Signing in and out, and how that stands. Cheap to clone; see [`Manager::sign_ins`](crate::Manager::sign_ins).
#[derive(Debug, Clone)]
pub struct SignIns {
    office: Arc<Office>,
    desk: Desk,
}

/// How a server's sign-in stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignInStatus {
    /// The server.
    pub server: String,
    /// For whom; `None`: for this Mainstay.
    pub principal: Option<Principal>,
    /// Who gave the credentials, if there are any.
    pub issuer: Option<String>,
    /// As which client.
    pub client_id: Option<String>,
    /// What they allow.
    pub scopes: Vec<String>,
    /// What a step-up would ask for: the server has said that the credentials do not suffice for a call.
    pub wants: Vec<String>,
    /// How it stands.
    pub state: SignInState,
    /// When the token in force expires, if its issuer said. It is renewed before that, while somebody uses the server.
    pub expires_unix_ms: Option<u64>,
    /// Whether it can be renewed without a human.
    pub refreshable: bool,
    /// When it was last renewed by this process.
    pub last_refresh_unix_ms: Option<u64>,
    /// What is wrong, in words.
    pub problem: Option<String>,
    /// Nobody can sign in for it: its credentials are exchanged for what callers bring (`auth.grant: "exchange"`).
    pub by_callers: bool,
}

/// How a sign-in stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignInState {
    /// There are no credentials, and nobody has asked for any.
    None,
    /// There are credentials, and nobody refuses them.
    SignedIn,
    /// Only a human helps.
    Needed,
    /// The token is past its time or refused, and another one could not be had yet.
    Expired,
    /// Another token is being fetched.
    Refreshing,
}

impl SignInState {
    /// A stable word, as the API says it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SignedIn => "signedIn",
            Self::Needed => "needed",
            Self::Expired => "expired",
            Self::Refreshing => "refreshing",
        }
    }
}

impl SignIns {
    pub(crate) fn new(office: Arc<Office>, desk: Desk) -> Self {
        Self { office, desk }
    }

    /// How it stands with every server whose credentials are known: for those that sign in and were not used yet, the disk
    /// is looked at. By server, then principal.
    pub async fn status(&self) -> Vec<SignInStatus> {
        let mut named: Vec<(String, Arc<Account>)> = Vec::new();
        for (server, config) in self.desk.directory().configs() {
            let Some(resource) = self.resource(&config).await else {
                continue;
            };
            // Its own, whether or not anybody has asked; those of people once they have.
            if let Some(own) = self.office.account(&config, &resource, None) {
                own.looked_at().await;
            }
            named.extend(
                self.accounts_of(&resource)
                    .into_iter()
                    .map(|account| (server.clone(), account)),
            );
        }
        let all = named
            .iter()
            .map(|(server, account)| status_of(server, account));
        all.collect()
    }

    /// How it stands with one server and principal, without looking at the disk. `None`: it does not sign in, or nothing is
    /// known yet.
    #[must_use]
    pub fn known(&self, server: &str, principal: Option<&Principal>) -> Option<SignInStatus> {
        let config = self.desk.directory().find(server)?.slot.config.load_full();
        let resource = self.office.resource(server).filter(|_| config.signs_in())?;
        let accounts = self.accounts_of(&resource);
        let account = accounts
            .iter()
            .find(|account| account.holder.principal.as_ref() == principal)?;
        Some(status_of(server, account))
    }

    /// Begins to sign a human in. `redirect_uri` is where the caller hears the browser come back; `None` for a device code.
    /// A device login is waited for without anybody's help. Goes on when dropped; nobody hears of it then.
    ///
    /// # Errors
    /// [`SignInError`]: no such server, one that does not sign in, or what the way to its authorization server said.
    pub async fn begin(
        &self,
        server: &str,
        principal: Option<&Principal>,
        how: How,
        redirect_uri: Option<&str>,
    ) -> Result<Begun, SignInError> {
        let (account, house) = self.account(server, principal).await?;
        account.looked_at().await;
        let mut ask = account.ask();
        ask.how = how;
        ask.redirect_uri = redirect_uri.map(Into::into);
        let attempt = Attempt::begin(server, &house, &account, ask).await?;
        let begun = attempt.begun();
        self.office.remember(attempt);
        Ok(begun)
    }

    /// Takes the URL that the browser was sent back to, whoever brings it. Goes on when dropped.
    ///
    /// # Errors
    /// [`SignInError`]. After a URL that is not this login's, the login still waits for the right one; after any other
    /// error it has failed.
    pub async fn finish(&self, id: &str, callback_url: &str) -> Result<(), SignInError> {
        let attempt = self.office.attempt(id).ok_or_else(|| unknown_login(id))?;
        attempt.finish(callback_url).await
    }

    /// The login that a URL belongs to by its `state`: any number of logins may share a listener (F206).
    #[must_use]
    pub fn login_of(&self, callback_url: &str) -> Option<String> {
        let logins = self
            .office
            .logins
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = logins
            .iter()
            .find(|login| login.is_answered_by(callback_url));
        own.map(|login| login.id().to_owned())
    }

    /// How a login stands; `None`: there is none of that id.
    #[must_use]
    pub fn login(&self, id: &str) -> Option<LoginState> {
        self.office.attempt(id).map(|attempt| attempt.state())
    }

    /// Waits until a login has ended, which it does by its own deadline at the latest. Cancel-safe.
    pub async fn wait(&self, id: &str) -> Option<LoginState> {
        Some(self.office.attempt(id)?.wait().await)
    }

    /// Gives a login up. `false`: it had ended, or there is none.
    pub fn cancel(&self, id: &str) -> bool {
        let attempt = self.office.attempt(id);
        attempt.is_some_and(|attempt| attempt.cancel("it was given up"))
    }

    /// Forgets what is stored for a server and principal, tells the issuer, and closes the connections that used it.
    /// `false`: there was nothing.
    ///
    /// # Errors
    /// [`SignInError`]: no such server, or something could not be removed.
    pub async fn sign_out(
        &self,
        server: &str,
        principal: Option<&Principal>,
    ) -> Result<bool, SignInError> {
        let (account, house) = self.account(server, principal).await?;
        let forgetting = {
            let account = Arc::clone(&account);
            async move { account.forget().await }
        };
        // In a task of its own: dropped halfway, it would leave one file and not the other.
        let forgotten = house.run(forgetting).await;
        let forgotten =
            forgotten.ok_or_else(|| store_error(server, "Mainstay is shutting down".to_owned()))?;
        let grants = forgotten.map_err(|why| store_error(server, why))?;
        let any = !grants.is_empty();
        let ask = account.ask();
        let engine = Arc::clone(&house.engine);
        let name = server.to_owned();
        house.spawn(async move {
            for grant in grants {
                let revoking = engine.revoke(&ask, &grant);
                if let Ok(Err(error)) = tokio::time::timeout(super::login::STEP, revoking).await {
                    tracing::info!(server = name, %error, "the issuer was not told of the sign-out");
                }
            }
        });
        Ok(any)
    }

    async fn account(
        &self,
        server: &str,
        principal: Option<&Principal>,
    ) -> Result<(Arc<Account>, Arc<House>), SignInError> {
        let error = |what: &str| SignInError::new(server, Step::Configuration, what);
        let place = self.desk.directory().find(server);
        let place = place
            .filter(|place| !place.slot.is_removed())
            .ok_or_else(|| {
                error("no server of that name is configured")
                    .remedy("`mainstay status` lists those that there are")
            })?;
        let house = self.office.house.clone().ok_or_else(|| {
            error("this Mainstay was built without OAuth")
                .remedy("build it with the feature `oauth`")
        })?;
        let config = place.slot.config.load_full();
        if !config.signs_in() {
            return Err(error("its entry says itself what the server is shown, or it has no `url`")
                .remedy("take the `Authorization` header out of its entry, and `auth: \"none\"`, to sign in with OAuth"));
        }
        let endpoint = settings::look_up_endpoint(&config, None)
            .await
            .map_err(|failure| error(&failure.to_string()).remedy("correct its entry"))?;
        let account = self.office.account(&config, &endpoint.url, principal);
        let account =
            account.ok_or_else(|| error("its `url` is no address").remedy("correct its entry"))?;
        Ok((account, house))
    }

    /// The URL of a server that signs in.
    async fn resource(&self, config: &ServerConfig) -> Option<String> {
        if !config.signs_in() {
            return None;
        }
        if let Some(resource) = self.office.resource(&config.name) {
            return Some(resource.into());
        }
        let endpoint = settings::look_up_endpoint(config, None).await;
        endpoint.ok().map(|endpoint| endpoint.url)
    }

    fn accounts_of(&self, url: &str) -> Vec<Arc<Account>> {
        let Some(resource) = resource_of(url) else {
            return Vec::new();
        };
        let accounts = self
            .office
            .accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = accounts
            .values()
            .filter(|account| account.holder.resource == resource);
        own.cloned().collect()
    }
}

pub(crate) fn status_of(server: &str, account: &Account) -> SignInStatus {
    account.look_at(|state| {
        let held = state.held.as_deref();
        let grant = held.map(|held| &held.grant);
        let refused =
            held.is_some_and(|held| state.refused.as_ref() == Some(&held.grant.tokens.access));
        let over = refused || is_over(account, state);
        let (word, why) = match &state.verdict {
            Verdict::Login(why) => (SignInState::Needed, why.as_deref()),
            Verdict::Delayed { why, .. } if over || grant.is_none() => {
                (SignInState::Expired, Some(&**why))
            }
            Verdict::Delayed { why, .. } => (SignInState::SignedIn, Some(&**why)),
            Verdict::Fine if state.is_busy() && state.loaded => (SignInState::Refreshing, None),
            Verdict::Fine if over => (SignInState::Expired, None),
            Verdict::Fine if grant.is_some() => (SignInState::SignedIn, None),
            Verdict::Fine => (SignInState::None, None),
        };
        let words = |scopes: &std::collections::BTreeSet<String>| scopes.iter().cloned().collect();
        SignInStatus {
            server: server.to_owned(),
            principal: account.holder.principal.clone(),
            issuer: grant.map(|grant| grant.key.issuer.to_string()),
            client_id: grant.map(|grant| grant.key.client_id.to_string()),
            scopes: grant
                .map(|grant| words(&grant.tokens.scopes))
                .unwrap_or_default(),
            wants: state
                .wants
                .as_ref()
                .map(|wants| words(&wants.scopes))
                .unwrap_or_default(),
            state: word,
            expires_unix_ms: grant.and_then(|grant| grant.tokens.expires_unix_ms()),
            refreshable: grant
                .is_some_and(|grant| grant.tokens.refresh.is_some() || !grant.by_human),
            last_refresh_unix_ms: state.refreshed_unix_ms,
            problem: why.or(state.disk.as_deref()).map(str::to_owned),
            by_callers: account.config().auth.exchanges_callers(),
        }
    })
}

fn unknown_login(id: &str) -> SignInError {
    let shown: String = id
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(32)
        .collect();
    SignInError::new(
        "?",
        Step::Callback,
        format!("no login `{shown}` is under way"),
    )
    .remedy(
        "begin again; logins end after some minutes, and with the process that they were begun in",
    )
}

fn store_error(server: &str, what: String) -> SignInError {
    SignInError::new(server, Step::Store, what)
}

impl From<StoreFault> for String {
    fn from(fault: StoreFault) -> Self {
        fault.to_string()
    }
}
