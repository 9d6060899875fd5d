//! How a generation learns that its listing has become old: the server tells (push), or it is asked again (poll).
//!
//! Knows, decides nothing about the lifecycle: a server without any push stream is a good server.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_wire::listing::ListKind;
use mainstay_wire::revision::Era;
use tokio::sync::watch;

use super::greeting::Greeting;
use super::http::{PushStage, PushWatch};
use super::waiters::Party;
use super::{Link, Runtime};

/// The longest time that a server's `ttlMs` can put the next listing off.
const POLL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the first calls of a connection wait for the stream on which the server may ask them something.
const ASKABLE_MAX: Duration = Duration::from_secs(1);

/// What became of the push stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PushState {
    /// The transport needs none: everything arrives on one stream.
    #[default]
    Inherent,
    /// Switched off in the config (F133).
    Off,
    /// Being opened, or opened again in the ordinary way of things.
    Opening,
    /// Open.
    Open {
        tools: bool,
        prompts: bool,
        resources: bool,
    },
    /// Tried in vain several times in a row; it is tried again (F117).
    Degraded,
    /// The server has none (F96, F131).
    Unsupported,
    /// The server does not let us have it.
    Refused,
}

impl PushState {
    /// One stable word for status.
    pub(crate) fn word(self) -> Option<&'static str> {
        match self {
            Self::Inherent => None,
            Self::Off => Some("off"),
            Self::Opening => Some("opening"),
            Self::Open { .. } => Some("open"),
            Self::Degraded => Some("degraded"),
            Self::Unsupported => Some("unsupported"),
            Self::Refused => Some("refused"),
        }
    }

    /// Whether a change of this kind would be told.
    fn covers(self, kind: ListKind) -> bool {
        match self {
            Self::Open {
                tools,
                prompts,
                resources,
            } => match kind {
                ListKind::Tools => tools,
                ListKind::Prompts => prompts,
                ListKind::Resources | ListKind::Templates => resources,
            },
            // An opening that takes long becomes `Degraded` and is polled then.
            Self::Inherent | Self::Opening => true,
            Self::Off | Self::Degraded | Self::Unsupported | Self::Refused => false,
        }
    }
}

impl From<PushStage> for PushState {
    fn from(stage: PushStage) -> Self {
        match stage {
            PushStage::Open {
                tools,
                prompts,
                resources,
            } => Self::Open {
                tools,
                prompts,
                resources,
            },
            PushStage::Reopening => Self::Opening,
            PushStage::Degraded => Self::Degraded,
        }
    }
}

/// Per kind, how long the last listing may be kept by the server's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ttls([Option<u64>; 4]);

impl Ttls {
    /// Notes what one page says. The shortest page counts for its whole listing.
    pub(crate) fn note(&mut self, kind: ListKind, ttl_ms: Option<u64>) {
        let held = &mut self.0[index(kind)];
        *held = match (*held, ttl_ms) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

fn index(kind: ListKind) -> usize {
    match kind {
        ListKind::Tools => 0,
        ListKind::Prompts => 1,
        ListKind::Resources => 2,
        ListKind::Templates => 3,
    }
}

/// What is known about the age of one generation's listing.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    push: Mutex<PushState>,
    /// Whether the push stream was ever open, or is known not to come.
    settled: watch::Sender<bool>,
    ttls: Mutex<Ttls>,
}

impl Freshness {
    pub(crate) fn push(&self) -> PushState {
        *lock(&self.push)
    }

    /// Sets the state and says whether it is a new one.
    pub(crate) fn set_push(&self, state: PushState) -> bool {
        let former = std::mem::replace(&mut *lock(&self.push), state);
        if state != PushState::Opening {
            self.settled.send_replace(true);
        }
        former != state
    }

    pub(crate) fn set_ttls(&self, ttls: Ttls) {
        *lock(&self.ttls) = ttls;
    }

    /// How long after a listing the next one is due, if nobody tells of a change; `None`: never. `poll` is the shortest
    /// such time, and `jitter` lengthens it by up to a quarter, so that many clients of one server spread.
    ///
    /// A kind is polled if no push covers it and there is a reason to expect changes: the server gave its listing a time
    /// to live (F131), or declared that it changes and has no working way to say so (F132).
    pub(crate) fn poll_after(
        &self,
        greeting: &Greeting,
        poll: Option<Duration>,
        jitter: u32,
    ) -> Option<Duration> {
        let shortest = poll?;
        let (push, ttls) = (self.push(), *lock(&self.ttls));
        let due = |kind: ListKind| {
            let capability = match kind {
                ListKind::Tools => "tools",
                ListKind::Prompts => "prompts",
                ListKind::Resources | ListKind::Templates => "resources",
            };
            if !greeting.declares(capability)
                || push.covers(kind) && greeting.tells_changes(capability)
            {
                return None;
            }
            let ttl = ttls.0[index(kind)].filter(|_| greeting.revision.era() == Era::Modern);
            match ttl {
                Some(ms) if ms > 0 => Some(Duration::from_millis(ms).max(shortest)),
                Some(_) | None => greeting.tells_changes(capability).then_some(shortest),
            }
        };
        let soonest = ListKind::ALL
            .into_iter()
            .filter_map(due)
            .min()?
            .min(POLL_MAX);
        Some(soonest + soonest / 4 * (jitter % 1_024) / 1_024)
    }
}

impl Runtime {
    /// What became of the push stream; whoever waits for the next listing by itself looks again.
    pub(crate) fn set_push(&self, state: PushState) {
        if self.freshness.set_push(state) {
            self.dirty.look_again();
            tracing::debug!(server = %self.server, generation = self.generation.0, ?state, "push");
        }
    }
}

impl Runtime {
    /// Waits until a legacy server over HTTP can ask this connection's client something: until its GET stream is there, or
    /// known not to come. Many servers ask on that stream, and a question that finds none is lost without a word, with the
    /// call that waits for its answer. Only the first calls of a connection wait, and at most a second. Cancel-safe.
    pub(crate) async fn can_be_asked(&self, party: &Party) {
        let Link::Http(link) = &self.link else {
            return;
        };
        let may_ask = party.may_be_asked && party.hear.is_some() && link.declares_something();
        if !may_ask || self.era() == Era::Modern {
            return;
        }
        let mut settled = self.freshness.settled.subscribe();
        // A stream that takes longer is no reason to hold the call up any further.
        drop(tokio::time::timeout(ASKABLE_MAX, settled.wait_for(|settled| *settled)).await);
    }
}

impl PushWatch for Runtime {
    fn gap(&self) {
        self.dirty.mark();
    }

    fn stage(&self, stage: PushStage) {
        self.set_push(stage.into());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_wire::revision::Revision;

    const MINUTE: Duration = Duration::from_secs(60);

    fn greeting(revision: Revision, capabilities: &str) -> Greeting {
        Greeting {
            revision,
            capabilities: capabilities.into(),
            server_info: None,
            instructions: None,
        }
    }

    fn after(push: PushState, ttl_ms: Option<u64>, greeting: &Greeting) -> Option<Duration> {
        let fresh = Freshness::default();
        fresh.set_push(push);
        let mut ttls = Ttls::default();
        ttls.note(ListKind::Tools, Some(u64::MAX));
        ttls.note(ListKind::Tools, ttl_ms);
        fresh.set_ttls(if ttl_ms.is_some() {
            ttls
        } else {
            Ttls::default()
        });
        fresh.poll_after(greeting, Some(MINUTE), 0)
    }

    #[test]
    fn f131_f132_f133_what_no_push_covers_is_polled_by_its_time_to_live() {
        let telling = greeting(Revision::LATEST_MODERN, r#"{"tools":{"listChanged":true}}"#);
        let silent = greeting(Revision::LATEST_MODERN, r#"{"tools":{}}"#);
        let legacy = greeting(Revision::LATEST_LEGACY, r#"{"tools":{"listChanged":true}}"#);
        let open = |tools| PushState::Open {
            tools,
            prompts: true,
            resources: true,
        };
        for push in [
            PushState::Off,
            PushState::Degraded,
            PushState::Unsupported,
            PushState::Refused,
            open(false),
        ] {
            assert_eq!(after(push, Some(5), &telling), Some(MINUTE), "{push:?}");
            assert_eq!(after(push, Some(0), &telling), Some(MINUTE), "{push:?}");
            assert_eq!(after(push, None, &telling), Some(MINUTE), "{push:?}");
            assert_eq!(
                after(push, Some(600_000), &telling),
                Some(10 * MINUTE),
                "{push:?}"
            );
            assert_eq!(after(push, Some(u64::MAX), &telling), Some(POLL_MAX));
        }
        assert_eq!(after(open(true), Some(5), &telling), None, "it tells");
        assert_eq!(after(PushState::Opening, Some(5), &telling), None);
        // It never said that it tells: only a time to live is a reason to ask.
        assert_eq!(
            after(PushState::Unsupported, Some(5), &silent),
            Some(MINUTE)
        );
        assert_eq!(after(PushState::Unsupported, Some(0), &silent), None);
        // Legacy servers have no times to live.
        assert_eq!(
            after(PushState::Unsupported, Some(5), &legacy),
            Some(MINUTE)
        );
        assert_eq!(after(PushState::Inherent, None, &legacy), None, "stdio");
        let fresh = Freshness::default();
        fresh.set_push(PushState::Off);
        assert_eq!(fresh.poll_after(&telling, None, 0), None, "polling is off");
        let most = fresh.poll_after(&telling, Some(MINUTE), u32::MAX);
        assert!(most.is_some_and(|most| most > MINUTE && most < MINUTE * 5 / 4));
    }
}
