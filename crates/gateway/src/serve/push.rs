//! Telling clients that a listing or a resource changed: the GET stream of a legacy session, the listen stream of a modern client.
//!
//! Level-triggered: a stream compares what its client was last told with what is published now. A burst of changes is
//! told once, a change that is undone is not told at all, and one that happened while no stream was open is told when
//! the next one opens (law 21). Which resources changed waits in the client's box, each once.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use mainstay_core::catalog::Digest;
use mainstay_wire::views::ListenFilter;
use mainstay_wire::{Id, ListKind, Message, Parts, json_string, method};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::Shared;
use super::body::TextStream;
use super::endpoint::Endpoint;
use super::events;
use super::sessions::StreamOpen;
use super::subscriptions::Subscriber;
use super::view::Viewer;
use crate::policy::gate;

/// The listings that a client was last told about, by their digests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) tools: Option<Digest>,
    pub(crate) prompts: Option<Digest>,
    pub(crate) resources: Option<Digest>,
    pub(crate) templates: Option<Digest>,
}

impl Told {
    /// What a client sees at an endpoint now.
    pub(crate) fn now(shared: &Shared, endpoint: &Endpoint, who: &Viewer) -> Self {
        endpoint.digests(shared, who)
    }

    /// Takes over what was seen of one kind.
    pub(crate) fn saw(&mut self, kind: ListKind, seen: &Self) {
        match kind {
            ListKind::Tools => self.tools = seen.tools,
            ListKind::Prompts => self.prompts = seen.prompts,
            ListKind::Resources => self.resources = seen.resources,
            ListKind::Templates => self.templates = seen.templates,
        }
    }

    /// The next notification that brings this state to `now`, of the kinds in `wanted`; remembers it as told.
    fn next(&mut self, now: &Self, wanted: Wanted) -> Option<&'static str> {
        if self.tools != now.tools {
            self.tools = now.tools;
            if wanted.tools {
                return Some(method::TOOLS_LIST_CHANGED);
            }
        }
        if self.prompts != now.prompts {
            self.prompts = now.prompts;
            if wanted.prompts {
                return Some(method::PROMPTS_LIST_CHANGED);
            }
        }
        // Templates have no notification of their own.
        if (self.resources, self.templates) != (now.resources, now.templates) {
            (self.resources, self.templates) = (now.resources, now.templates);
            if wanted.resources {
                return Some(method::RESOURCES_LIST_CHANGED);
            }
        }
        None
    }
}

/// Which kinds of change a stream tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) tools: bool,
    pub(crate) prompts: bool,
    pub(crate) resources: bool,
}

impl Wanted {
    /// All of them.
    pub(crate) const ALL: Self = Self {
        tools: true,
        prompts: true,
        resources: true,
    };
}

/// What a stream does at its next step.
enum Step {
    /// Says something.
    Say(Parts),
    /// Ends, after saying something or not.
    End(Option<Parts>),
}

/// What all push streams have in common.
struct Common {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    who: Viewer,
    version: watch::Receiver<u64>,
    /// What clients see beside the publication.
    own: watch::Receiver<u64>,
    _permit: OwnedSemaphorePermit,
}

impl Common {
    fn new(shared: &Arc<Shared>, endpoint: Endpoint, who: Viewer) -> Option<Self> {
        let permit = Arc::clone(&shared.push_streams).try_acquire_owned().ok()?;
        Some(Self {
            shared: Arc::clone(shared),
            endpoint,
            who,
            version: shared.manager.published(),
            own: shared.views.changes(),
            _permit: permit,
        })
    }

    /// What the client sees now. Whatever changes after this is noticed by [`Common::changed`].
    fn now(&mut self) -> Told {
        self.version.mark_unchanged();
        self.own.mark_unchanged();
        // Whether everybody's new listing means a new one for this client is to be found out.
        self.endpoint.look(&self.shared, &self.who);
        Told::now(&self.shared, &self.endpoint, &self.who)
    }

    /// Resolves when the client may see something else than it did; `false` if nothing will change any more. Cancel-safe: a
    /// watch keeps what was not seen.
    async fn changed(&mut self) -> bool {
        tokio::select! {
            // Cancel-safe, both of them: as above.
            changed = self.version.changed() => changed.is_ok(),
            changed = self.own.changed() => changed.is_ok(),
        }
    }

    /// Whether the endpoint is not there any more for this client.
    fn is_gone(&self) -> bool {
        self.endpoint.is_gone(&self.shared, &self.who)
    }

    /// Whether the client may still know of a resource that it is subscribed to.
    fn sees(&self, uri: &str) -> bool {
        gate::policy(&self.shared).is_none()
            || self.endpoint.resource(&self.shared, &self.who, uri).is_ok()
    }

    fn keep_alive(&self) -> Duration {
        Duration::from_millis(self.shared.settings.keep_alive_ms)
    }
}

/// The GET stream of a legacy session; `None` if there are too many streams.
pub(crate) fn session_stream(
    shared: &Arc<Shared>,
    (endpoint, who): (Endpoint, Viewer),
    open: StreamOpen,
) -> Option<TextStream> {
    struct State {
        common: Common,
        open: StreamOpen,
        changes: watch::Receiver<u64>,
    }

    async fn step(state: &mut State) -> Step {
        let silent_until = Instant::now() + state.common.keep_alive();
        loop {
            state.changes.mark_unchanged();
            if state.common.is_gone() {
                return Step::End(None);
            }
            let now = state.common.now();
            if let Some(method) = due(&state.open, &now) {
                return Step::Say(events::frame(Message::notification(method, None).into()));
            }
            if state.open.is_newest()
                && let Some(uri) = state.open.session().subscriber.next()
            {
                if !state.common.sees(&uri) {
                    continue;
                }
                return Step::Say(events::frame(updated(&uri, None)));
            }
            let session = Arc::clone(state.open.session());
            let ending = state.common.shared.ending.clone();
            let caller = Arc::clone(state.common.who.caller());
            tokio::select! {
                // Cancel-safe: a watch keeps what was not seen.
                goes_on = state.common.changed() => if !goes_on { return Step::End(None) },
                // Cancel-safe: as above.
                () = state.open.changed() => {}
                // Cancel-safe: as above. Its sender lives in the session, which the stream holds.
                _changed = state.changes.changed() => {}
                // Cancel-safe: tokens and sleeps hold nothing.
                () = session.ended() => return Step::End(None),
                () = ending.cancelled() => return Step::End(None),
                // Cancel-safe: it looks at a clock. Whoever is not identified any more hears nothing more (F212).
                () = caller.expired() => return Step::End(None),
                () = tokio::time::sleep_until(silent_until) => return Step::Say(events::comment()),
            }
        }
    }

    let state = State {
        common: Common::new(shared, endpoint, who)?,
        changes: open.session().subscriber.changes(),
        open,
    };
    let texts = stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match step(&mut state).await {
            Step::Say(text) => Some((text, Some(state))),
            Step::End(text) => text.map(|text| (text, None)),
        }
    });
    Some(texts.boxed())
}

/// The resources of a listen stream: those that are honoured, as the client wrote them, and its subscriptions to them.
#[derive(Default)]
pub(crate) struct Resources {
    pub(crate) uris: Vec<String>,
    pub(crate) subscriber: Subscriber,
}

/// The stream of a modern `subscriptions/listen`: the acknowledgement first, then changes, and on shutdown the result.
/// `None` if there are too many streams.
pub(crate) fn listen_stream(
    shared: &Arc<Shared>,
    (endpoint, who): (Endpoint, Viewer),
    id: Id,
    wanted: Wanted,
    resources: Resources,
) -> Option<TextStream> {
    struct State {
        common: Common,
        id: Id,
        wanted: Wanted,
        told: Told,
        subscriber: Subscriber,
        changes: watch::Receiver<u64>,
        acknowledgement: Option<Parts>,
    }

    async fn step(state: &mut State) -> Step {
        if let Some(first) = state.acknowledgement.take() {
            return Step::Say(events::frame(first));
        }
        let silent_until = Instant::now() + state.common.keep_alive();
        loop {
            state.changes.mark_unchanged();
            if state.common.is_gone() {
                return Step::End(Some(ended(&state.id)));
            }
            let now = state.common.now();
            if let Some(method) = state.told.next(&now, state.wanted) {
                let params = format!("{{\"_meta\":{}}}", subscription(&state.id));
                return Step::Say(events::frame(
                    Message::notification(method, Some(&params)).into(),
                ));
            }
            if let Some(uri) = state.subscriber.next() {
                if !state.common.sees(&uri) {
                    continue;
                }
                return Step::Say(events::frame(updated(&uri, Some(&state.id))));
            }
            let ending = state.common.shared.ending.clone();
            let caller = Arc::clone(state.common.who.caller());
            tokio::select! {
                // Cancel-safe: a watch keeps what was not seen.
                goes_on = state.common.changed() => if !goes_on { return Step::End(Some(ended(&state.id))) },
                // Cancel-safe: as above. Its sender lives in the subscriber, which the stream holds.
                _changed = state.changes.changed() => {}
                // Cancel-safe: tokens and sleeps hold nothing.
                () = ending.cancelled() => return Step::End(Some(ended(&state.id))),
                // Cancel-safe: it looks at a clock. Whoever is not identified any more hears nothing more (F212).
                () = caller.expired() => return Step::End(Some(ended(&state.id))),
                () = tokio::time::sleep_until(silent_until) => return Step::Say(events::comment()),
            }
        }
    }

    // The baseline is taken before the acknowledgement: what changes from here on is told.
    let told = Told::now(shared, &endpoint, &who);
    let state = State {
        common: Common::new(shared, endpoint, who)?,
        acknowledgement: Some(acknowledgement(&id, wanted, resources.uris)),
        changes: resources.subscriber.changes(),
        subscriber: resources.subscriber,
        id,
        wanted,
        told,
    };
    let texts = stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match step(&mut state).await {
            Step::Say(text) => Some((text, Some(state))),
            Step::End(text) => text.map(|text| (text, None)),
        }
    });
    Some(texts.boxed())
}

/// What a session's stream has to say now. Only the newest stream speaks: each change is told on one stream.
fn due(open: &StreamOpen, now: &Told) -> Option<&'static str> {
    if !open.is_newest() {
        return None;
    }
    let told = &open.session().told;
    told.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .next(now, Wanted::ALL)
}

/// The `_meta` object that ties a message to its subscription: the id keeps its JSON type.
fn subscription(id: &Id) -> String {
    format!("{{\"{}\":{id}}}", mainstay_wire::meta::SUBSCRIPTION_ID)
}

fn acknowledgement(id: &Id, wanted: Wanted, uris: Vec<String>) -> Parts {
    let honoured = ListenFilter {
        tools: wanted.tools,
        prompts: wanted.prompts,
        resources: wanted.resources,
        uris,
        other: Vec::new(),
    };
    let params = format!(
        "{{\"_meta\":{},\"notifications\":{}}}",
        subscription(id),
        honoured.render()
    );
    Message::notification(method::SUBSCRIPTIONS_ACKNOWLEDGED, Some(&params)).into()
}

/// A resource changed; on a listen stream the message names its subscription.
fn updated(uri: &str, listen: Option<&Id>) -> Parts {
    let meta = listen
        .map(|id| format!("\"_meta\":{},", subscription(id)))
        .unwrap_or_default();
    let params = format!("{{{meta}\"uri\":{}}}", json_string(uri));
    Message::notification(method::RESOURCES_UPDATED, Some(&params)).into()
}

fn ended(id: &Id) -> Parts {
    let result = format!(
        "{{\"resultType\":\"complete\",\"_meta\":{}}}",
        subscription(id)
    );
    events::frame(Message::result_of(id, &result).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::sessions::{Opening, Sessions};
    use mainstay_wire::Revision;

    fn digest(text: &str) -> Option<Digest> {
        Some(mainstay_core::catalog::digest(
            [(text, text.as_bytes())].into_iter(),
        ))
    }

    #[test]
    fn law_21_each_change_is_told_once_and_an_undone_one_not_at_all() {
        let before = Told {
            tools: digest("a"),
            ..Told::default()
        };
        let mut told = before;
        assert_eq!(told.next(&before, Wanted::ALL), None);
        let now = Told {
            tools: digest("b"),
            resources: digest("r"),
            templates: digest("t"),
            ..before
        };
        assert_eq!(
            told.next(&now, Wanted::ALL),
            Some(method::TOOLS_LIST_CHANGED)
        );
        assert_eq!(
            told.next(&now, Wanted::ALL),
            Some(method::RESOURCES_LIST_CHANGED)
        );
        assert_eq!(told.next(&now, Wanted::ALL), None);
        assert_eq!(told, now);
    }

    #[test]
    fn law_21_only_the_newest_stream_of_a_session_speaks() {
        let opening = Opening::plain(None, Revision::LATEST_LEGACY);
        let sessions = Sessions::new(1, 1_000);
        let session = sessions.open(opening, Told::default()).unwrap();
        let (old, new) = (
            session.open_stream().unwrap(),
            session.open_stream().unwrap(),
        );
        let now = Told {
            tools: digest("a"),
            ..Told::default()
        };
        assert_eq!(due(&old, &now), None);
        assert_eq!(due(&new, &now), Some(method::TOOLS_LIST_CHANGED));
        let later = Told {
            tools: digest("b"),
            ..Told::default()
        };
        drop(new);
        assert_eq!(due(&old, &later), Some(method::TOOLS_LIST_CHANGED));
    }

    #[test]
    fn only_wanted_kinds_are_told() {
        let wanted = Wanted {
            tools: false,
            prompts: true,
            resources: false,
        };
        let mut told = Told::default();
        let now = Told {
            tools: digest("a"),
            prompts: digest("p"),
            resources: digest("r"),
            ..Told::default()
        };
        assert_eq!(told.next(&now, wanted), Some(method::PROMPTS_LIST_CHANGED));
        assert_eq!(told.next(&now, wanted), None);
    }

    #[test]
    fn the_subscription_id_keeps_its_type() {
        let text = |id: &Id| {
            String::from_utf8(
                acknowledgement(id, Wanted::ALL, Vec::new())
                    .into_bytes()
                    .to_vec(),
            )
            .unwrap()
        };
        assert!(text(&Id::number(7)).contains("\"io.modelcontextprotocol/subscriptionId\":7}"));
        assert!(
            text(&Id::string("7")).contains("\"io.modelcontextprotocol/subscriptionId\":\"7\"}")
        );
        let only = acknowledgement(
            &Id::number(1),
            Wanted {
                tools: true,
                prompts: false,
                resources: false,
            },
            Vec::new(),
        );
        assert!(
            String::from_utf8(only.into_bytes().to_vec())
                .unwrap()
                .ends_with("\"notifications\":{\"toolsListChanged\":true}}}")
        );
    }
}
