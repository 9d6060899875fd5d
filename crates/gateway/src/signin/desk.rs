//! The sign-ins of one process: begun, waited for, ended; and where each one's browser comes back to.
//!
//! Every sign-in has its own state, and every callback finds its sign-in by it, so several may be on their way at once. A
//! port that the configuration fixes serves one of them at a time (F206).

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay::auth::{LoginState, SignInError, SignInState, SignInStatus, SignIns};
use mainstay::config::GrantType;
use mainstay::{Manager, Principal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::callback;
use super::page::{Page, is_web};

/// Sign-ins whose outcome is remembered for whoever asks; the ones that ended first are forgotten first.
const REMEMBERED_MAX: usize = 256;

/// Longest address that may be handed in.
const URL_BYTES_MAX: usize = 16 * 1024;

/// How often, and after which pause, a fixed port is tried.
const BIND_TRIES: u32 = 20;
const BIND_PAUSE: Duration = Duration::from_millis(100);

/// How somebody signs in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum How {
    /// In a browser that comes back to us.
    #[default]
    Browser,
    /// With a code on any other device.
    Device,
}

impl From<How> for mainstay::auth::How {
    fn from(how: How) -> Self {
        match how {
            How::Browser => Self::Browser,
            How::Device => Self::Device,
        }
    }
}

/// A sign-in that has begun: where to go.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginBegun {
    /// By which it is asked about.
    pub id: String,
    /// The address to open in a browser, for a sign-in there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The code to enter, for a sign-in with a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_code: Option<String>,
    /// The address at which to enter it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification_url: Option<String>,
    /// When it is too late, in milliseconds since 1970.
    pub expires_at_unix_ms: u64,
}

/// How a sign-in is doing.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginCourse {
    /// The server.
    pub server: String,
    /// In one word.
    pub state: LoginWord,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What to do then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How a sign-in is doing, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LoginWord {
    /// Nobody has come back yet.
    Waiting,
    /// Signed in.
    Done,
    /// It did not come about.
    Failed,
}

/// One server's sign-in, as far as it is known. Holds no secret.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignIn {
    /// The server.
    pub server: String,
    /// For whom; absent: for this Mainstay, whoever calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The authorization server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// As which client we are known there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// What was granted.
    pub scopes: Vec<String>,
    /// `none`, `signedIn`, `needed`, `expired` or `refreshing`.
    pub state: &'static str,
    /// When the token in force expires, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at_unix_ms: Option<u64>,
    /// Whether it is renewed by itself.
    pub refreshable: bool,
    /// When it was renewed last, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refresh_unix_ms: Option<u64>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The command that signs in, where that is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl From<SignInStatus> for SignIn {
    fn from(status: SignInStatus) -> Self {
        let needs = matches!(status.state, SignInState::Needed | SignInState::Expired);
        let command = (needs && status.principal.is_none() && !status.by_callers)
            .then(|| mainstay::auth::login_command(&status.server));
        Self {
            server: status.server,
            principal: status.principal.map(|who| who.name().to_owned()),
            issuer: status.issuer,
            client_id: status.client_id,
            scopes: status.scopes,
            state: status.state.word(),
            expires_at_unix_ms: status.expires_unix_ms,
            refreshable: status.refreshable,
            last_refresh_unix_ms: status.last_refresh_unix_ms,
            problem: status.problem,
            command,
        }
    }
}

/// All sign-ins.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignInList {
    /// By server.
    pub sign_ins: Vec<SignIn>,
}

/// What signing out came to.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignedOut {
    /// Whether anybody was signed in.
    pub signed_out: bool,
    /// The tokens are forgotten here, and could not be revoked: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Why something cannot be done, and what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Trouble {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Whether nothing of that name exists.
    pub unknown: bool,
}

impl Trouble {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            unknown: false,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// No sign-in has that id.
    fn no_login() -> Self {
        let mut trouble =
            Self::new("this sign-in is not known here (any more)").hint("begin again");
        trouble.unknown = true;
        trouble
    }
}

impl From<SignInError> for Trouble {
    fn from(mut error: SignInError) -> Self {
        let remedy = std::mem::take(&mut error.remedy);
        let trouble = Self::new(error.to_string());
        match remedy.as_str() {
            "" => trouble,
            _ => trouble.hint(remedy),
        }
    }
}

/// Where the browsers of people find a gateway, such as `http://127.0.0.1:8808`.
#[derive(Debug, Clone)]
pub(crate) struct Origins {
    /// From this machine.
    pub(crate) here: Box<str>,
    /// From wherever its clients are.
    pub(crate) elsewhere: Box<str>,
}

/// The sign-ins of one process. Cheap to clone.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    manager: Manager,
    office: SignIns,
    /// Where browsers come back to. `None`: nobody listens, so each sign-in has a listener of its own.
    origins: Option<Origins>,
    logins: Mutex<Logins>,
    /// Counts the sign-ins that have ended.
    ended: watch::Sender<u64>,
    tasks: TaskTracker,
    ending: CancellationToken,
}

#[derive(Default)]
struct Logins {
    by_id: HashMap<String, Login>,
    /// Grows with each, so that the oldest can be told.
    count: u64,
}

/// What is remembered of a sign-in.
struct Login {
    number: u64,
    server: Box<str>,
    principal: Option<Principal>,
    /// Where its browser comes back to; none for a code.
    redirect: Option<Box<str>>,
    /// The visit that it belongs to: only that visitor's browser may finish it.
    visit: Option<Box<str>>,
    /// Whether it has a listener of its own.
    listens: bool,
    /// Which ends with this.
    listening: CancellationToken,
    /// The port that the configuration fixes for it.
    port: Option<u16>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("origins", &self.0.origins)
            .finish_non_exhaustive()
    }
}

/// What is begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'w> {
    pub(crate) server: &'w str,
    pub(crate) principal: Option<&'w Principal>,
    pub(crate) how: How,
    /// The visit that asks for it.
    pub(crate) visit: Option<&'w str>,
}

impl Desk {
    /// The desk of a process that serves nobody: each sign-in has a listener of its own on loopback.
    #[must_use]
    pub fn alone(manager: &Manager) -> Self {
        Self::with(manager, None, TaskTracker::new(), CancellationToken::new())
    }

    /// The desk of a gateway: browsers come back to its own origins.
    pub(crate) fn of_gateway(
        manager: &Manager,
        origins: Origins,
        tasks: TaskTracker,
        ending: CancellationToken,
    ) -> Self {
        Self::with(manager, Some(origins), tasks, ending)
    }

    fn with(
        manager: &Manager,
        origins: Option<Origins>,
        tasks: TaskTracker,
        ending: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            manager: manager.clone(),
            office: manager.sign_ins(),
            origins,
            logins: Mutex::default(),
            ended: watch::Sender::default(),
            tasks,
            ending,
        }))
    }

    /// Where this gateway is found by the browser of a principal; nobody in particular is this machine's user.
    pub(crate) fn origin(&self, principal: Option<&Principal>) -> Option<&str> {
        let origins = self.0.origins.as_ref()?;
        Some(match principal {
            None => &origins.here,
            Some(_) => &origins.elsewhere,
        })
    }

    /// Changes whenever a sign-in of this desk has ended.
    pub(crate) fn ended(&self) -> watch::Receiver<u64> {
        self.0.ended.subscribe()
    }

    /// What the library knows.
    pub(crate) fn office(&self) -> &SignIns {
        &self.0.office
    }

    /// Ends what it listens on. For [`Desk::alone`]; the desk of a gateway ends with it.
    pub async fn close(&self) {
        self.0.ending.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Begins to sign this Mainstay in to a server; as its entry says, if nothing else is said.
    ///
    /// # Errors
    /// Which step failed, and what to do.
    pub async fn begin(&self, server: &str, how: Option<How>) -> Result<LoginBegun, Trouble> {
        let wish = Wish {
            server,
            principal: None,
            how: how.unwrap_or_else(|| self.usual(server)),
            visit: None,
        };
        self.begin_for(wish).await
    }

    /// Begins a sign-in.
    ///
    /// # Errors
    /// As [`Desk::begin`].
    pub(crate) async fn begin_for(&self, wish: Wish<'_>) -> Result<LoginBegun, Trouble> {
        let port = match wish.how {
            How::Browser => self.fixed_port(wish.server),
            How::Device => None,
        };
        if let Some(port) = port {
            self.make_room(port, wish)?;
        }
        let (redirect, listener) = match (wish.how, port, self.origin(wish.principal)) {
            (How::Device, _, _) => (None, None),
            (How::Browser, None, Some(origin)) => {
                (Some(format!("{origin}{}", callback::PATH)), None)
            }
            (How::Browser, port, _) => {
                let bound = bind(port).await;
                let (listener, at) = bound.map_err(|error| taken(wish.server, port, &error))?;
                (Some(redirect_at(at)), Some(listener))
            }
        };
        let redirect: Option<Box<str>> = redirect.map(Into::into);
        let (office, how) = (&self.0.office, wish.how.into());
        let begun = office
            .begin(wish.server, wish.principal, how, redirect.as_deref())
            .await?;
        let link = Url::parse(&begun.url).ok().filter(is_web);
        let Some(link) = link else {
            // F241: it comes from the metadata of others.
            office.cancel(&begun.id);
            return Err(Trouble::new(format!(
                "the authorization server of `{}` gave an address that is no web page",
                wish.server
            ))
            .hint("look at `authorization_endpoint` in its metadata"));
        };
        let listening = self.0.ending.child_token();
        let login = Login {
            number: 0,
            server: wish.server.into(),
            principal: wish.principal.cloned(),
            redirect,
            visit: wish.visit.map(Into::into),
            listens: listener.is_some(),
            listening: listening.clone(),
            port,
        };
        self.remember(&begun.id, login);
        if let Some(listener) = listener {
            let answer = self.answer_for(&begun.id);
            let served = callback::serve(listener, answer, listening.clone());
            self.0.tasks.spawn(served);
        }
        self.watch(begun.id.clone(), listening);
        let is_device = wish.how == How::Device;
        Ok(LoginBegun {
            id: begun.id,
            url: (!is_device).then(|| link.to_string()),
            verification_url: is_device.then(|| link.to_string()),
            user_code: begun.user_code,
            expires_at_unix_ms: begun.expires_unix_ms,
        })
    }

    /// How a sign-in is doing.
    ///
    /// # Errors
    /// It is not known (any more).
    pub fn look(&self, id: &str) -> Result<LoginCourse, Trouble> {
        let server = {
            let logins = self.logins();
            let login = logins.by_id.get(id).ok_or_else(Trouble::no_login)?;
            // Those that a visitor has begun are not for others to look at.
            if login.visit.is_some() {
                return Err(Trouble::no_login());
            }
            login.server.to_string()
        };
        let state = self.0.office.login(id).ok_or_else(Trouble::no_login)?;
        Ok(course(server, state))
    }

    /// Takes the address at which the browser ended, as somebody pasted it.
    ///
    /// # Errors
    /// It is not of this sign-in, or it was refused.
    pub async fn finish(&self, id: &str, url: &str) -> Result<LoginCourse, Trouble> {
        let now = self.look(id)?;
        if now.state != LoginWord::Waiting {
            return Err(Trouble::new("this sign-in is over").hint("begin again"));
        }
        if url.len() > URL_BYTES_MAX {
            return Err(Trouble::new(
                "this address is too long to be that of a sign-in",
            ));
        }
        if self.0.office.login_of(url).as_deref() != Some(id) {
            return Err(Trouble::new(
                "this address does not belong to this sign-in: its `state` is missing or another one",
            )
            .hint("paste all of the address at which the browser ended after you allowed the access"));
        }
        self.0.office.finish(id, url).await?;
        self.look(id)
    }

    /// How a sign-in is doing, whoever has begun it.
    pub(crate) fn course_of(&self, id: &str) -> Option<LoginWord> {
        let state = self.0.office.login(id)?;
        Some(course(String::new(), state).state)
    }

    /// Gives a sign-in up. `false`: there was none to give up.
    pub fn cancel(&self, id: &str) -> bool {
        let known = self
            .look(id)
            .is_ok_and(|now| now.state == LoginWord::Waiting);
        known && self.0.office.cancel(id)
    }

    /// Signs this Mainstay out of a server.
    ///
    /// # Errors
    /// What is kept cannot be removed.
    pub async fn sign_out(&self, server: &str, _revoke: bool) -> Result<SignedOut, Trouble> {
        let signed_out = self.0.office.sign_out(server, None).await?;
        let handle = self.0.manager.server(server);
        if let Some(handle) =
            handle.filter(|handle| signed_out && handle.status().state == "connected")
        {
            // A replacement would overlap with the connection that was signed in: this one is to end now.
            if let Err(error) = handle.restart().await {
                tracing::debug!(%error, "nothing is left to restart");
            }
        }
        Ok(SignedOut {
            signed_out,
            problem: None,
        })
    }

    /// What is known of all sign-ins. Reads the disk.
    pub async fn sign_ins(&self) -> SignInList {
        let all = self.0.office.status().await;
        SignInList {
            sign_ins: all.into_iter().map(SignIn::from).collect(),
        }
    }

    /// What a browser is shown that comes back to the gateway's own listener with this query. `is_visitor`: whether it is the
    /// browser of a visit of that name.
    pub(crate) async fn came_back(&self, query: &str, is_visitor: impl Fn(&str) -> bool) -> Page {
        self.ends(query, None, is_visitor).await
    }

    /// A browser came back. `expected`: the one sign-in that its listener is for; none for the gateway's.
    async fn ends(
        &self,
        query: &str,
        expected: Option<&str>,
        is_visitor: impl Fn(&str) -> bool,
    ) -> Page {
        // Where it came back to is known; only its query tells anything.
        let any = format!("http://127.0.0.1{}?{query}", callback::PATH);
        let id = (query.len() <= URL_BYTES_MAX)
            .then(|| self.0.office.login_of(&any))
            .flatten();
        let Some(id) = id else {
            return not_known();
        };
        let (server, url) = {
            let logins = self.logins();
            let Some(login) = logins.by_id.get(&id) else {
                return not_known();
            };
            // One that comes back to another place than it was sent to is none of ours.
            let is_here = match expected {
                Some(expected) => expected == id,
                None => !login.listens,
            };
            let Some(redirect) = login.redirect.as_deref().filter(|_| is_here) else {
                return not_known();
            };
            if !login.visit.as_deref().is_none_or(&is_visitor) {
                return another_browser();
            }
            (login.server.clone(), format!("{redirect}?{query}"))
        };
        match self.0.office.login(&id) {
            Some(LoginState::Waiting) => {}
            Some(LoginState::Done | LoginState::Failed(_)) | None => return over(),
        }
        match self.0.office.finish(&id, &url).await {
            Ok(()) => signed_in(&server),
            Err(error) => failed(&server, &Trouble::from(error)),
        }
    }

    /// What the listener of one sign-in answers.
    fn answer_for(&self, id: &str) -> callback::Answer {
        let (desk, id): (Self, Box<str>) = (self.clone(), id.into());
        Arc::new(move |query| {
            let (desk, id) = (desk.clone(), id.clone());
            // Such a port is on this machine, and there for this one sign-in.
            Box::pin(async move { desk.ends(&query, Some(&id), |_| true).await })
        })
    }

    /// Waits for the end of a sign-in, and closes its listener then.
    fn watch(&self, id: String, listening: CancellationToken) {
        let desk = self.clone();
        self.0.tasks.spawn(async move {
            tokio::select! {
                // Cancel-safe: it only looks.
                _ended = desk.0.office.wait(&id) => {}
                // Cancel-safe: a token holds nothing.
                () = listening.cancelled() => {
                    desk.0.office.cancel(&id);
                }
            }
            if let Some(login) = desk.logins().by_id.get_mut(&id) {
                login.port = None;
            }
            desk.0.ended.send_modify(|count| *count += 1);
            listening.cancel();
        });
    }

    fn remember(&self, id: &str, mut login: Login) {
        let mut logins = self.logins();
        logins.count += 1;
        login.number = logins.count;
        logins.by_id.insert(id.to_owned(), login);
        while logins.by_id.len() > REMEMBERED_MAX {
            let oldest = logins.by_id.iter().min_by_key(|(_, login)| login.number);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else {
                break;
            };
            if let Some(login) = logins.by_id.remove(&oldest) {
                login.listening.cancel();
            }
        }
    }

    /// F206: a fixed port serves one sign-in at a time. An earlier one for the same makes room, anybody else's does not.
    fn make_room(&self, port: u16, wish: Wish<'_>) -> Result<(), Trouble> {
        let logins = self.logins();
        let Some((id, other)) = logins.by_id.iter().find(|(_, one)| one.port == Some(port)) else {
            return Ok(());
        };
        let holder = &other.server;
        if **holder == *wish.server && other.principal.as_ref() == wish.principal {
            self.0.office.cancel(id);
            other.listening.cancel();
            return Ok(());
        }
        Err(Trouble::new(format!(
            "port {port}, where the sign-in to `{}` comes back to (`auth.redirectPort`), serves a sign-in to `{holder}` now",
            wish.server
        ))
        .hint("finish that one or give it up, then try again"))
    }

    /// The port that the server's entry fixes for coming back.
    fn fixed_port(&self, server: &str) -> Option<u16> {
        self.0.manager.server(server)?.auth().redirect_port
    }

    /// How people sign in to a server that do not say how.
    fn usual(&self, server: &str) -> How {
        let grant = self
            .0
            .manager
            .server(server)
            .map(|server| server.auth().grant);
        match grant {
            Some(GrantType::Device) => How::Device,
            Some(
                GrantType::Browser
                | GrantType::ClientCredentials
                | GrantType::Enterprise
                | GrantType::Exchange,
            )
            | None => How::Browser,
        }
    }

    fn logins(&self) -> MutexGuard<'_, Logins> {
        self.0.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn course(server: String, state: LoginState) -> LoginCourse {
    let (state, trouble) = match state {
        LoginState::Waiting => (LoginWord::Waiting, None),
        LoginState::Done => (LoginWord::Done, None),
        LoginState::Failed(error) => (LoginWord::Failed, Some(Trouble::from(error))),
    };
    let (problem, hint) = trouble
        .map(|trouble| (Some(trouble.message), trouble.hint))
        .unwrap_or_default();
    LoginCourse {
        server,
        state,
        problem,
        hint,
    }
}

/// Takes the port. A fixed one may have been given up a moment ago.
async fn bind(port: Option<u16>) -> std::io::Result<(tokio::net::TcpListener, SocketAddr)> {
    let mut tries = if port.is_some() { BIND_TRIES } else { 1 };
    loop {
        tries -= 1;
        match callback::bind(port).await {
            Err(error) if tries > 0 && error.kind() == std::io::ErrorKind::AddrInUse => {
                tokio::time::sleep(BIND_PAUSE).await;
            }
            bound => return bound,
        }
    }
}

fn redirect_at(at: SocketAddr) -> String {
    format!("http://{at}{}", callback::PATH)
}

fn taken(server: &str, port: Option<u16>, error: &std::io::Error) -> Trouble {
    match port {
        None => Trouble::new(format!("cannot listen for the end of the sign-in: {error}")),
        Some(port) => Trouble::new(format!(
            "cannot listen on port {port}, where the sign-in to `{server}` comes back to (`auth.redirectPort`): {error}"
        ))
        .hint("end what uses the port, or fix another one that is known to the authorization server"),
    }
}

fn signed_in(server: &str) -> Page {
    Page::new(&format!("Signed in to {server}"))
        .say("Mainstay keeps the sign-in and goes on by itself. You can close this tab.")
}

fn failed(server: &str, trouble: &Trouble) -> Page {
    let page = Page::with(
        http::StatusCode::BAD_REQUEST,
        &format!("Not signed in to {server}"),
    )
    .say(&trouble.message);
    match &trouble.hint {
        Some(hint) => page.say(hint),
        None => page.say("Begin again."),
    }
}

/// Says nothing about what is known: whoever comes here may be anybody.
fn not_known() -> Page {
    Page::with(
        http::StatusCode::BAD_REQUEST,
        "This does not belong to any sign-in",
    )
    .say("No sign-in waits for this address: it was used already, it took too long, or it was begun elsewhere. Begin again.")
}

fn over() -> Page {
    Page::with(http::StatusCode::GONE, "This sign-in is over")
        .say("Its address was used already. You can close this tab.")
}

/// Whoever finishes must be who began.
fn another_browser() -> Page {
    Page::with(
        http::StatusCode::FORBIDDEN,
        "This sign-in was begun in another browser",
    )
    .say("Nothing was changed. Whoever begins a sign-in has to finish it, in the same browser. If somebody sent you here, do not follow their link.")
}
