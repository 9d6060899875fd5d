//! The legacy session of the one client, and what is needed to open it again behind the client's back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderValue};
use mainstay_wire::views::InitializeResult;
use mainstay_wire::{Message, headers, method};
use tokio::sync::watch;

use super::link::Extra;

/// Most resource subscriptions that are remembered.
const SUBSCRIPTIONS_MAX: usize = 10_000;

/// The client's session.
#[derive(Debug)]
pub(super) struct Legacy {
    state: watch::Sender<State>,
    /// One renewal at a time.
    pub(super) renewing: tokio::sync::Mutex<()>,
    wishes: Mutex<Wishes>,
    pushed: AtomicBool,
}

/// Where the session stands.
#[derive(Debug, Clone, Default)]
pub(super) enum State {
    /// The client never said `initialize`.
    #[default]
    Never,
    /// It did, and has no answer yet.
    Opening,
    /// It is open.
    Open(Arc<Session>),
}

/// One session at one Mainstay.
#[derive(Debug)]
pub(super) struct Session {
    id: Option<HeaderValue>,
    version: Option<HeaderValue>,
    /// The last event of the push stream.
    reached: Mutex<Option<HeaderValue>>,
    /// Grows with every session.
    pub(super) serial: u64,
}

/// What the client asked for that a new session must have, too.
#[derive(Debug, Default)]
struct Wishes {
    initialize: Option<Message>,
    answered: Option<InitializeResult>,
    initialized: bool,
    level: Option<Message>,
    subscriptions: BTreeMap<String, Message>,
}

impl Session {
    /// The session that an answer to `initialize` opened.
    pub(super) fn opened(headers: &HeaderMap, result: &InitializeResult, serial: u64) -> Self {
        Self {
            id: headers.get(headers::SESSION_ID).cloned(),
            version: HeaderValue::try_from(result.protocol_version.as_str()).ok(),
            reached: Mutex::new(None),
            serial,
        }
    }

    /// Takes note of an event of the push stream.
    pub(super) fn reached(&self, event: Option<HeaderValue>) {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = event;
    }

    /// What the push stream carries.
    pub(super) fn resuming(&self) -> Extra {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        Extra {
            last_event: reached.clone(),
            ..self.extra()
        }
    }

    /// What every request of this session carries.
    pub(super) fn extra(&self) -> Extra {
        Extra {
            session: self.id.clone(),
            version: self.version.clone(),
            last_event: None,
        }
    }
}

impl Legacy {
    pub(super) fn new() -> Self {
        Self {
            state: watch::Sender::new(State::Never),
            renewing: tokio::sync::Mutex::new(()),
            wishes: Mutex::new(Wishes::default()),
            pushed: AtomicBool::new(false),
        }
    }

    /// Follows the state.
    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(super) fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    /// Whether the client never said `initialize`.
    pub(super) fn is_never(&self) -> bool {
        matches!(&*self.state.borrow(), State::Never)
    }

    /// The session as it stands now.
    pub(super) fn now(&self) -> Option<Arc<Session>> {
        match &*self.state.borrow() {
            State::Open(session) => Some(Arc::clone(session)),
            State::Never | State::Opening => None,
        }
    }

    /// The session, waited for while it opens: an opening always ends.
    pub(super) async fn current(&self) -> Option<Arc<Session>> {
        let mut state = self.state.subscribe();
        let settled = state
            .wait_for(|state| !matches!(state, State::Opening))
            .await
            .ok()?;
        match &*settled {
            State::Open(session) => Some(Arc::clone(session)),
            State::Never | State::Opening => None,
        }
    }

    /// The client's `initialize` was answered: a new session begins with no wishes.
    pub(super) fn opened(&self, initialize: Message, answered: InitializeResult, session: Session) {
        *self.wishes() = Wishes {
            initialize: Some(initialize),
            answered: Some(answered),
            ..Wishes::default()
        };
        self.set(State::Open(Arc::new(session)));
    }

    /// What opened the session.
    pub(super) fn initialize(&self) -> Option<Message> {
        self.wishes().initialize.clone()
    }

    /// Takes note of `initialized`. Returns whether a push stream is kept already.
    pub(super) fn initialized(&self) -> bool {
        self.wishes().initialized = true;
        self.pushed.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_initialized(&self) -> bool {
        self.wishes().initialized
    }

    /// Remembers what a request that succeeded changed in the session.
    pub(super) fn granted(&self, request: &Message) {
        let uri = || {
            request
                .string_member(&["params", "uri"])
                .map(std::borrow::Cow::into_owned)
        };
        let mut wishes = self.wishes();
        match request.method() {
            Some(method::SET_LEVEL) => wishes.level = Some(request.clone()),
            Some(method::SUBSCRIBE) if wishes.subscriptions.len() < SUBSCRIPTIONS_MAX => {
                if let Some(uri) = uri() {
                    wishes.subscriptions.insert(uri, request.clone());
                }
            }
            Some(method::UNSUBSCRIBE) => {
                if let Some(uri) = uri() {
                    wishes.subscriptions.remove(&uri);
                }
            }
            Some(_) | None => {}
        }
    }

    /// The requests that bring a session of another process to what the client wanted of the former.
    pub(super) fn restoring(&self) -> Vec<Message> {
        let wishes = self.wishes();
        wishes
            .level
            .iter()
            .chain(wishes.subscriptions.values())
            .cloned()
            .collect()
    }

    /// What the client must be told when its Mainstay was replaced: something may have changed meanwhile.
    pub(super) fn news(&self) -> Vec<Message> {
        let wishes = self.wishes();
        let Some(answered) = wishes.answered.as_ref().filter(|_| wishes.initialized) else {
            return Vec::new();
        };
        let kinds = [
            ("tools", method::TOOLS_LIST_CHANGED),
            ("prompts", method::PROMPTS_LIST_CHANGED),
            ("resources", method::RESOURCES_LIST_CHANGED),
        ];
        let lists = kinds
            .iter()
            .filter(|(capability, _)| answered.has(&[capability, "listChanged"]))
            .map(|(_, method)| Message::notification(method, None));
        let updates = wishes
            .subscriptions
            .keys()
            .map(|uri| super::notices::updated(uri, None));
        lists.chain(updates).collect()
    }

    fn wishes(&self) -> std::sync::MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
