//! One login, from the moment somebody asks for it until there are credentials, or a reason why there are none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::account::Account;
use super::engine::{Ask, How, Login, Polled, SignInError, Step};
use super::grant::Grant;
use super::house::House;

/// How long any one step with an authorization server may take.
pub(super) const STEP: Duration = Duration::from_secs(120);

/// The longest that a login waits for its human, whatever the authorization server says.
const LOGIN_MAX: Duration = Duration::from_secs(30 * 60);

/// The bounds of the pause between two questions after a device login.
const POLL_MS_MIN: u64 = 1_000;
const POLL_MS_MAX: u64 = 60_000;

/// What a human has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Names the login from now on. Hard to guess.
    pub id: String,
    /// Where to go.
    pub url: String,
    /// What to type in there, for a device login.
    pub user_code: Option<String>,
    /// Until when, in milliseconds of the Unix clock.
    pub expires_unix_ms: u64,
    /// Which kind it is.
    pub how: How,
}

/// How a login stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginState {
    /// It waits for its human.
    Waiting,
    /// There are credentials, and the server's connections were told.
    Done,
    /// It has ended without any.
    Failed(SignInError),
}

/// A login.
pub(crate) struct Attempt {
    begun: Begun,
    server: String,
    house: Arc<House>,
    account: Arc<Account>,
    ask: Ask,
    /// The `state` that its answer carries. Known for as long as it is remembered.
    answer_state: Option<super::grant::Secret>,
    /// Taken by whoever ends it.
    login: Mutex<Option<Login>>,
    state: watch::Sender<LoginState>,
    until: Instant,
}

impl Attempt {
    /// Begins one, in a task of its own. A device login is waited for from here on.
    pub(super) async fn begin(
        server: &str,
        house: &Arc<House>,
        account: &Arc<Account>,
        ask: Ask,
    ) -> Result<Arc<Self>, SignInError> {
        let (engine, asked) = (Arc::clone(&house.engine), ask.clone());
        let began = Instant::now();
        let login = own_task(house, server, Step::Authorization, async move {
            engine.begin(&asked).await
        })
        .await?;
        let id = new_id().ok_or_else(|| {
            SignInError::new(
                server,
                Step::Authorization,
                "the operating system gave no random numbers",
            )
        })?;
        let left_ms = login.expires_unix_ms.saturating_sub(house.unix_ms());
        let attempt = Arc::new(Self {
            begun: Begun {
                id,
                url: login.url.to_string(),
                user_code: login.user_code.as_deref().map(str::to_owned),
                expires_unix_ms: login.expires_unix_ms,
                how: ask.how,
            },
            server: server.to_owned(),
            house: Arc::clone(house),
            account: Arc::clone(account),
            ask,
            answer_state: login.state.clone(),
            state: watch::Sender::new(LoginState::Waiting),
            until: began + Duration::from_millis(left_ms).min(LOGIN_MAX),
            login: Mutex::new(Some(login)),
        });
        if attempt.begun.how == How::Device {
            house.spawn(poll(Arc::clone(&attempt)));
        }
        Ok(attempt)
    }

    pub(super) fn id(&self) -> &str {
        &self.begun.id
    }

    pub(super) fn begun(&self) -> Begun {
        self.begun.clone()
    }

    /// How it stands. One whose time is over has failed, whether or not anybody was there to notice.
    pub(super) fn state(&self) -> LoginState {
        if Instant::now() >= self.until {
            self.cancel("its time is over");
        }
        self.state.borrow().clone()
    }

    pub(super) async fn wait(&self) -> LoginState {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| *state != LoginState::Waiting);
        // A grant that is on its way when the time is over is waited for by the step's own deadline.
        let _ = tokio::time::timeout_at(self.until + STEP, ended).await;
        self.state()
    }

    /// Whether a URL carries the `state` of this login.
    pub(super) fn is_answered_by(&self, callback_url: &str) -> bool {
        let Ok(url) = reqwest::Url::parse(callback_url) else {
            return false;
        };
        let Some(own) = &self.answer_state else {
            return false;
        };
        let mut states = url.query_pairs().filter(|(name, _)| name == "state");
        matches!((states.next(), states.next()), (Some((_, state)), None) if state == own.expose())
    }

    /// Ends it without credentials. `false`: it had ended, or is about to end with some.
    pub(super) fn cancel(&self, why: &str) -> bool {
        let taken = self.take();
        if taken.is_none() {
            return false;
        }
        let error =
            SignInError::new(self.server.as_str(), Step::Authorization, why).remedy("begin again");
        self.end(Err(error));
        true
    }

    /// See [`SignIns::finish`](super::SignIns::finish).
    pub(super) async fn finish(self: &Arc<Self>, callback_url: &str) -> Result<(), SignInError> {
        let error = |what: &str| SignInError::new(self.server.as_str(), Step::Callback, what);
        if let LoginState::Failed(error) = self.state() {
            return Err(error);
        }
        // Before anything else: a forged answer must not even end the login that it is aimed at.
        if !self.is_answered_by(callback_url) {
            return Err(error("the URL does not belong to this login (its `state` differs)")
                .expected("the whole address that the browser was sent to, as it stands in the address bar")
                .remedy("use the newest login, and copy all of it"));
        }
        let Some(login) = self.take() else {
            return match self.wait().await {
                LoginState::Failed(error) => Err(error),
                LoginState::Done | LoginState::Waiting => Ok(()),
            };
        };
        let (attempt, url) = (Arc::clone(self), callback_url.to_owned());
        let finished = own_task(&self.house, &self.server, Step::Token, async move {
            let engine = Arc::clone(&attempt.house.engine);
            let granted = engine.finish(&attempt.ask, &login, &url).await;
            let taken_in = match granted {
                Ok(grant) => attempt.take_in(grant).await,
                Err(error) => Err(error),
            };
            attempt.end(taken_in.clone());
            taken_in
        });
        let finished = finished.await;
        // Given up by time: then nobody has told it yet.
        if let Err(error) = &finished {
            self.end(Err(error.clone()));
        }
        finished
    }

    async fn take_in(&self, grant: Grant) -> Result<(), SignInError> {
        self.account.take_in(grant).await.map_err(|why| {
            SignInError::new(self.server.as_str(), Step::Store, why)
                .remedy("the sign-in was given up: nothing is used that is not stored")
        })
    }

    fn take(&self) -> Option<Login> {
        self.login
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn end(&self, result: Result<(), SignInError>) {
        self.state.send_if_modified(|state| {
            let waits = *state == LoginState::Waiting;
            if waits {
                *state = match result {
                    Ok(()) => LoginState::Done,
                    Err(error) => LoginState::Failed(error),
                };
            }
            waits
        });
    }
}

/// Asks after a device login until it has ended.
async fn poll(attempt: Arc<Attempt>) {
    let Some(login) = attempt.take() else { return };
    let mut wait_ms = login.poll_ms.unwrap_or(5_000);
    loop {
        let pause = Duration::from_millis(wait_ms.clamp(POLL_MS_MIN, POLL_MS_MAX));
        tokio::select! {
            // Cancel-safe: a sleep holds nothing.
            () = tokio::time::sleep(pause) => {}
            // Cancel-safe: a token holds nothing.
            () = attempt.house.closing() => return,
        }
        if Instant::now() >= attempt.until {
            let error = SignInError::new(
                attempt.server.as_str(),
                Step::Device,
                "the code was not used in time",
            )
            .remedy("begin again");
            return attempt.end(Err(error));
        }
        if *attempt.state.borrow() != LoginState::Waiting {
            return;
        }
        let asking = attempt.house.engine.poll(&attempt.ask, &login);
        match tokio::time::timeout(STEP, asking).await {
            Ok(Ok(Polled::Pending { wait_ms: next_ms })) => wait_ms = next_ms,
            Ok(Ok(Polled::Granted(grant))) => {
                let taken_in = attempt.take_in(grant).await;
                return attempt.end(taken_in);
            }
            Ok(Err(error)) if !error.transient => return attempt.end(Err(error)),
            // An issuer in trouble is asked less often, until the time is over.
            Ok(Err(_)) | Err(_) => wait_ms = wait_ms.saturating_mul(2),
        }
    }
}

/// Runs a step where nobody can drop it, and waits for it.
async fn own_task<T: Send + 'static>(
    house: &House,
    server: &str,
    step: Step,
    work: impl Future<Output = Result<T, SignInError>> + Send + 'static,
) -> Result<T, SignInError> {
    let error = |what: String| SignInError::new(server, step, what).transient();
    match house.run(tokio::time::timeout(STEP, work)).await {
        Some(Ok(done)) => done,
        Some(Err(_elapsed)) => Err(error(format!("no answer within {} ms", STEP.as_millis()))
            .remedy("see whether the authorization server is in trouble, and try again")),
        None => Err(error("Mainstay is shutting down".to_owned())),
    }
}

/// 128 random bits.
fn new_id() -> Option<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
