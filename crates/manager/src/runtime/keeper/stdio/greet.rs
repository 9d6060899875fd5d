//! Greeting a stdio server: finding its era, and the handshake that belongs to it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::lifecycle::input::Phase;
use mainstay_wire::envelope::Message;
use mainstay_wire::method;
use mainstay_wire::revision::{Era, Revision};
use mainstay_wire::views::{DiscoverResult, ErrorView, InitializeResult};
use tokio::time::Instant;

use super::Child;
use crate::request::Request;
use crate::runtime::era::EraHint;
use crate::runtime::greeting::Greeting;
use crate::runtime::handshake::failure_of;
use crate::runtime::{Cut, Limits, Miss};
use crate::settings;

impl Child<'_> {
    /// Finds the server's era and greets it (F26 to F30).
    pub(super) async fn greet(&self) -> Result<Greeting, Failure> {
        let probe = Duration::from_millis(self.setup.config.timeouts.probe_ms);
        let whole = Duration::from_millis(settings::connect_ms(&self.setup.config));
        match self.setup.slot.era.hint(settings::fixed_era(&self.setup.config)) {
            EraHint::Fixed(Era::Modern) => match self.discover(whole).await? {
                Discovered::Modern(greeting) => Ok(*greeting),
                Discovered::Legacy(words) => Err(Failure::new(FailureKind::VersionMismatch)
                    .with_detail(format!("`protocol` is `modern`, but the server answered server/discover with: {words}"))),
                Discovered::Silent => Err(Failure::new(FailureKind::ConnectTimeout(Phase::Greet))
                    .with_detail("no answer to server/discover")),
            },
            EraHint::Fixed(Era::Legacy) => self.initialize(whole).await.map_err(|refused| refused.failure),
            EraHint::Remembered(Era::Legacy) | EraHint::Pinned(Era::Legacy) => self.initialize_or_discover(whole).await,
            EraHint::Remembered(Era::Modern) | EraHint::Pinned(Era::Modern) => match self.discover(whole).await? {
                Discovered::Modern(greeting) => Ok(*greeting),
                Discovered::Legacy(_) | Discovered::Silent => {
                    self.setup.slot.era.set(None);
                    self.initialize_or_discover(whole).await
                }
            },
            EraHint::Probe => {
                self.probing.store(true, Ordering::Release);
                let greeted = match self.discover(probe).await? {
                    Discovered::Modern(greeting) => Ok(*greeting),
                    // It may read the probe only now, if it is still starting, and die of it (F28).
                    Discovered::Silent => self.initialize_or_discover(whole).await,
                    Discovered::Legacy(_) => {
                        self.probing.store(false, Ordering::Release);
                        self.initialize_or_discover(whole).await
                    }
                };
                self.probing.store(false, Ordering::Release);
                greeted
            }
        }
    }

    /// Initializes. A server that refuses may have been locked into the modern era by an abandoned probe: it is asked once
    /// more, and its refusal stands only if it does not know the modern way either.
    async fn initialize_or_discover(&self, within: Duration) -> Result<Greeting, Failure> {
        match self.initialize(within).await {
            Ok(greeting) => Ok(greeting),
            Err(Refused {
                failure,
                by_server: false,
            }) => Err(failure),
            Err(Refused {
                failure,
                by_server: true,
            }) => match self.discover(within).await? {
                Discovered::Modern(greeting) => Ok(*greeting),
                Discovered::Legacy(_) | Discovered::Silent => Err(failure),
            },
        }
    }

    async fn discover(&self, within: Duration) -> Result<Discovered, Failure> {
        let request = modern_request(method::DISCOVER);
        let limits = Limits {
            deadline: Instant::now() + within,
            idle: within,
        };
        let answer = match self.runtime.ask(&request, limits).await {
            Ok(answer) => answer,
            // Silence means legacy; the answer, should it still come, finds nobody (F27).
            Err(Miss::Lost(Cut::Idle | Cut::Total) | Miss::NotSent(Cut::Idle | Cut::Total)) => {
                return Ok(Discovered::Silent);
            }
            Err(miss) => return Err(failure_of(miss)),
        };
        if let Some(result) = answer.result() {
            return Ok(match DiscoverResult::read(result) {
                Ok(view) => match view.revision() {
                    Some(revision) => {
                        Discovered::Modern(Box::new(Greeting::from_discover(revision, view)))
                    }
                    None => Discovered::Legacy(format!("versions {:?}", view.supported_versions)),
                },
                Err(error) => Discovered::Legacy(error.to_string()),
            });
        }
        let error = ErrorView::of(&answer);
        Ok(Discovered::Legacy(error.map_or_else(
            || "an unreadable error".to_owned(),
            |error| error.message,
        )))
    }

    /// The legacy handshake.
    async fn initialize(&self, within: Duration) -> Result<Greeting, Refused> {
        let params = format!(
            "{{\"protocolVersion\":\"{}\",\"capabilities\":{},\"clientInfo\":{}}}",
            Revision::LATEST_LEGACY.as_str(),
            self.runtime.declare(),
            self.runtime.introduce()
        );
        let request = Request::new(method::INITIALIZE, Some(&params));
        let limits = Limits {
            deadline: Instant::now() + within,
            idle: within,
        };
        let answer = self
            .runtime
            .ask(&request, limits)
            .await
            .map_err(|miss| Refused {
                failure: failure_of(miss),
                by_server: false,
            })?;
        let Some(result) = answer.result() else {
            let error = ErrorView::of(&answer);
            let words =
                error.map_or_else(|| "an unreadable error".to_owned(), |error| error.message);
            let failure = Failure::new(FailureKind::ProtocolError)
                .with_detail(format!("initialize was refused: {words}"));
            return Err(Refused {
                failure,
                by_server: true,
            });
        };
        let view = InitializeResult::read(result).map_err(|error| {
            let detail = format!("initialize: {error}");
            Refused {
                failure: Failure::new(FailureKind::ProtocolError).with_detail(detail),
                by_server: false,
            }
        })?;
        let Some(revision) = view
            .revision()
            .filter(|revision| revision.era() == Era::Legacy)
        else {
            let words = format!(
                "the server wants protocol version `{}`; Mainstay offered `{}` and knows {}",
                view.protocol_version,
                Revision::LATEST_LEGACY.as_str(),
                known_revisions()
            );
            let failure = Failure::new(FailureKind::VersionMismatch).with_detail(words);
            return Err(Refused {
                failure,
                by_server: false,
            });
        };
        self.runtime
            .tell(Message::notification(method::INITIALIZED, None))
            .await;
        Ok(Greeting::from_initialize(revision, view))
    }
}

/// For people: what a handshake may agree on.
fn known_revisions() -> String {
    let legacy = Revision::ALL
        .iter()
        .filter(|revision| revision.era() == Era::Legacy)
        .map(|revision| format!("`{}`", revision.as_str()));
    legacy.collect::<Vec<_>>().join(", ")
}

/// An initialize that came to nothing, and whether the server itself said so.
struct Refused {
    failure: Failure,
    by_server: bool,
}

/// What a probe found.
enum Discovered {
    Modern(Box<Greeting>),
    /// Any other answer, in words.
    Legacy(String),
    /// No answer.
    Silent,
}

/// A request with the modern metadata already in it, for servers whose era is not known yet.
fn modern_request(method: &str) -> Request {
    let draft = Greeting {
        revision: Revision::LATEST_MODERN,
        capabilities: "{}".into(),
        server_info: None,
        instructions: None,
    };
    let meta: Vec<String> = draft
        .stamp(None)
        .into_iter()
        .map(|(key, value)| format!("\"{key}\":{value}"))
        .collect();
    Request::new(
        method,
        Some(&format!("{{\"_meta\":{{{}}}}}", meta.join(","))),
    )
}
