//! The life of the config file of a running Mainstay: read again, judged, made true or refused, and told (law 28).
//!
//! Who wants it read (the watcher, a signal, a person) is the business of whoever runs the gateway. What a config does to
//! servers is the manager's.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay::config::{Config, ConfigError, Loaded, Problem, ServerConfig, Severity, process_env};
use mainstay::{Manager, Plan};
use tokio::sync::watch;

use crate::record::{Recorder, secrets_of};

/// How long a file that cannot be used must stay as it is before that is told: it may only be half written (F217).
const SECOND_LOOK: Duration = Duration::from_millis(400);

/// How often such a file is looked at again while it keeps changing.
const LOOKS_MAX: u32 = 20;

/// Keeps what is known of the config file. One for each running Mainstay.
#[derive(Debug)]
pub struct ConfigLife {
    path: PathBuf,
    manager: Manager,
    recorder: Option<Recorder>,
    /// Held during a reload: one after the other, and each reads the file anew, so that the last one wins (F219).
    turn: tokio::sync::Mutex<()>,
    state: Mutex<Arc<State>>,
    /// Grows with every config that was made true.
    loaded: watch::Sender<u64>,
}

/// What is known of the config file at one moment.
#[derive(Debug)]
pub(crate) struct State {
    /// What was loaded last and holds.
    pub(crate) config: Arc<Config>,
    pub(crate) loaded_at_unix_ms: u64,
    /// The text it was read from.
    text: Arc<[u8]>,
    /// How the last reload went, if there was one.
    pub(crate) last: Option<Arc<Reloaded>>,
}

/// How a reload went, or would go.
#[derive(Debug)]
pub struct Reloaded {
    /// When, in milliseconds since 1970.
    pub(crate) at_unix_ms: u64,
    /// Whether the file was loaded; or could be, if this was only a rehearsal.
    pub ok: bool,
    /// What it took, or would take. `None`: the file cannot be understood.
    pub plan: Option<Plan>,
    /// Everything that was noticed in the file.
    pub problems: Vec<Problem>,
}

impl Reloaded {
    fn refused(problems: Vec<Problem>) -> Self {
        Self {
            at_unix_ms: unix_ms(),
            ok: false,
            plan: None,
            problems,
        }
    }
}

/// Who wants the file read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// It has changed. It may have been read since, and it may still be changing.
    Changed,
    /// A signal.
    Signal,
    /// A person, who gets the answer.
    Asked,
}

impl ConfigLife {
    /// Begins with what was loaded at the start: `text` as it was read from `path`, and the config that became of it.
    #[must_use]
    pub fn new(
        path: &Path,
        text: Vec<u8>,
        config: Config,
        manager: Manager,
        recorder: Option<Recorder>,
    ) -> Self {
        Self {
            // Whatever becomes of our directory.
            path: std::path::absolute(path).unwrap_or_else(|_unnamed| path.to_owned()),
            manager,
            recorder,
            turn: tokio::sync::Mutex::default(),
            state: Mutex::new(Arc::new(State {
                config: Arc::new(config),
                loaded_at_unix_ms: unix_ms(),
                text: text.into(),
                last: None,
            })),
            loaded: watch::Sender::new(0),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was read of the file when it was loaded last.
    #[must_use]
    pub fn text(&self) -> Arc<[u8]> {
        Arc::clone(&self.state().text)
    }

    /// Grows with every config that is made true, as a level.
    #[must_use]
    pub fn loaded(&self) -> watch::Receiver<u64> {
        self.loaded.subscribe()
    }

    pub(crate) fn state(&self) -> Arc<State> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&state)
    }

    fn set(&self, change: impl FnOnce(&State) -> State) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = change(&state);
        *state = Arc::new(next);
    }

    /// What the last reload would still have to do: settings that need a restart.
    pub(crate) fn pending(&self) -> Option<Plan> {
        let plan = self.manager.plan(&self.state().config);
        let needed = plan.needs_restart().next().is_some();
        needed.then_some(plan)
    }

    /// Reads the file again and makes it true. A file that is not to be loaded changes nothing and is told.
    ///
    /// Dropping the future takes nothing back, but may leave it unremembered that the file was loaded.
    pub async fn reload(&self, trigger: Trigger) -> Arc<Reloaded> {
        let _turn = self.turn.lock().await;
        let (text, read) = self.read(trigger).await;
        if trigger == Trigger::Changed
            && let Some(known) = self.known(text.as_deref())
        {
            return known;
        }
        let (reloaded, config) = match read.and_then(|loaded| self.judge(loaded)) {
            Err(problems) => (Reloaded::refused(problems), None),
            Ok(loaded) => {
                let config = loaded.config.clone();
                // Before a server is told of it: what it says may be heard at once.
                if let Some(recorder) = &self.recorder {
                    recorder.hide(&secrets_of(&config.servers));
                }
                let done = self.manager.reload(loaded.config).await;
                let reloaded = Reloaded {
                    at_unix_ms: unix_ms(),
                    ok: done.is_ok(),
                    plan: done.ok(),
                    problems: loaded.problems,
                };
                let config = reloaded.ok.then_some(config);
                (reloaded, config)
            }
        };
        // Nobody needs to hear that Mainstay is ending once more.
        if reloaded.ok || !reloaded.problems.is_empty() {
            tell(&reloaded, &self.path);
        }
        let reloaded = Arc::new(reloaded);
        let is_loaded = config.is_some();
        self.set(|before| match config {
            Some(config) => State {
                config: Arc::new(config),
                loaded_at_unix_ms: reloaded.at_unix_ms,
                text: text.unwrap_or_default().into(),
                last: Some(Arc::clone(&reloaded)),
            },
            None => State {
                config: Arc::clone(&before.config),
                loaded_at_unix_ms: before.loaded_at_unix_ms,
                text: Arc::clone(&before.text),
                last: Some(Arc::clone(&reloaded)),
            },
        });
        if is_loaded {
            self.loaded.send_modify(|loads| *loads += 1);
        }
        reloaded
    }

    /// What a reload would do now. Changes nothing, and is not remembered.
    pub async fn rehearse(&self) -> Reloaded {
        let (_text, read) = self.read(Trigger::Asked).await;
        match read.and_then(|loaded| self.judge(loaded)) {
            Err(problems) => Reloaded::refused(problems),
            Ok(loaded) => Reloaded {
                at_unix_ms: unix_ms(),
                ok: true,
                plan: Some(self.manager.plan(&loaded.config)),
                problems: loaded.problems,
            },
        }
    }

    /// The outcome that holds already, if the file says what was loaded last and that went well.
    fn known(&self, text: Option<&[u8]>) -> Option<Arc<Reloaded>> {
        let state = self.state();
        let well = state.last.as_ref().is_none_or(|last| last.ok);
        let same = text.is_some_and(|text| text == &*state.text);
        if !(well && same) {
            return None;
        }
        let known = state.last.clone();
        Some(known.unwrap_or_else(|| {
            Arc::new(Reloaded {
                at_unix_ms: state.loaded_at_unix_ms,
                ok: true,
                plan: Some(self.manager.plan(&state.config)),
                problems: Vec::new(),
            })
        }))
    }

    /// The text of the file, and what it means. One that cannot be used is read again if it may only be half written.
    async fn read(&self, trigger: Trigger) -> (Option<Vec<u8>>, Result<Loaded, Vec<Problem>>) {
        let mut before = self.look().await;
        if trigger == Trigger::Changed {
            for _ in 0..LOOKS_MAX {
                if matches!(&before, (_, Ok(loaded)) if !loaded.has_errors()) {
                    break;
                }
                tokio::time::sleep(SECOND_LOOK).await;
                let now = self.look().await;
                let same = now.0 == before.0;
                before = now;
                if same {
                    break;
                }
            }
        }
        let (text, read) = before;
        (text, read.map_err(|error| unusable(&error)))
    }

    async fn look(&self) -> (Option<Vec<u8>>, Result<Loaded, ConfigError>) {
        let path = self.path.clone();
        let looking = tokio::task::spawn_blocking(move || match Config::bytes(&path) {
            Ok(text) => {
                let read = Config::parse_bytes(&text, &path);
                (Some(text), read)
            }
            Err(error) => (None, Err(error)),
        });
        looking.await.unwrap_or_else(|panicked| {
            let source = std::io::Error::other(panicked);
            let path = self.path.clone();
            (None, Err(ConfigError::Unreadable { path, source }))
        })
    }

    /// Whether a config may be loaded: it must not break what works (law 28). A server that was broken before may stay so,
    /// and one that is new may lack the value of a reference, as at the start.
    fn judge(&self, mut loaded: Loaded) -> Result<Loaded, Vec<Problem>> {
        let running = Arc::clone(&self.state().config);
        let misspelt: Vec<String> = broken(&loaded.config).map(ToOwned::to_owned).collect();
        loaded.check_references(&process_env);
        let harm = broken(&loaded.config).any(|name| match running.server(name) {
            Some(before) => !before.is_broken(),
            None => misspelt.iter().any(|misspelt| misspelt == name),
        });
        if !harm {
            return Ok(loaded);
        }
        Err(loaded.problems)
    }
}

fn broken(config: &Config) -> impl Iterator<Item = &str> {
    let servers = config.servers.iter();
    servers
        .filter(|server| ServerConfig::is_broken(server))
        .map(|server| server.name.as_str())
}

fn unusable(error: &ConfigError) -> Vec<Problem> {
    let mut problems = error.problems().to_vec();
    if problems.is_empty() {
        let text = error.to_string();
        let mut message = text.lines().next().unwrap_or_default().to_owned();
        if let Some(cause) = std::error::Error::source(error) {
            message.push_str(&format!(": {cause}"));
        }
        problems.push(Problem {
            severity: Severity::Error,
            server: None,
            origin: None,
            message,
            remedy: "check that the file exists and that this user may read it".to_owned(),
        });
    }
    problems
}

/// One record for the log, with every error and its place.
fn tell(reloaded: &Reloaded, path: &Path) {
    let file = path.display();
    for problem in &reloaded.problems {
        match problem.severity {
            Severity::Error => tracing::error!("{problem}"),
            Severity::Warning => tracing::warn!("{problem}"),
            Severity::Note => tracing::debug!("{problem}"),
        }
    }
    let Some(plan) = reloaded.plan.as_ref().filter(|_| reloaded.ok) else {
        tracing::error!(%file, "the configuration was not loaded; what was loaded before stays in force");
        return;
    };
    let (add, remove, replace, patch) = (&plan.add, &plan.remove, &plan.replace, &plan.patch);
    if plan.touches_no_server() {
        tracing::info!(%file, "the configuration was loaded; no server is touched");
    } else {
        tracing::info!(%file, ?add, ?remove, ?replace, ?patch, "the configuration was loaded");
    }
    for key in plan.needs_restart() {
        tracing::warn!("`{key}` has changed and holds after a restart of Mainstay");
    }
}

fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or_default()
}
