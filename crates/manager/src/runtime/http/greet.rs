//! Finds out which era a server speaks, and greets it in its own words.
//!
//! The specification's order: a modern `server/discover` first; an answer to it, or an error that only a modern server
//! gives, settles the era. Whatever else the server *says* means legacy, whichever code or status it chooses (F29), and so
//! does its silence (F26). A server that cannot be reached says nothing about its era.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Response;
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_wire::codes;
use mainstay_wire::envelope::Message;
use mainstay_wire::id::Id;
use mainstay_wire::revision::{Era, Revision};
use mainstay_wire::splice::{Parts, json_string};
use mainstay_wire::views::{DiscoverResult, InitializeResult};
use mainstay_wire::{meta, method, raw};

use super::answer;
use super::body::{InBody, Payload};
use super::client::bounded;
use super::face::{self, Face};
use super::verdict;
use super::{HttpLink, Routing};
use crate::runtime::era::EraHint;
use crate::runtime::greeting::{Greeting, OUR_CAPABILITIES};
use crate::runtime::{Cut, Inbound, Miss};
use crate::wire_log::Way;

/// What `server/discover` brought to light.
enum Discovered {
    Modern(Greeting),
    /// The server is modern and will not talk to us as it is.
    Refused(Failure),
    /// It answered, and not like a modern server; what it said.
    Legacy(Failure),
    /// No verdict: unreachable, overloaded, or it wants credentials.
    Outage(Failure),
}

/// Why `initialize` did not work.
enum NotInitialized {
    /// The server says that it is modern.
    Modern(Failure),
    /// It answered, and not like a legacy server.
    Unfit(Failure),
    /// No verdict.
    Outage(Failure),
}

/// See [`HttpLink::greet`].
pub(super) async fn greet(
    link: &HttpLink,
    ids: &AtomicU64,
    hint: EraHint,
    probe: Duration,
    inbound: &dyn Inbound,
) -> Result<Greeting, Failure> {
    let greeter = Greeter { link, ids, inbound };
    match hint {
        EraHint::Probe | EraHint::Remembered(Era::Modern) => greeter.by_probe(probe).await,
        EraHint::Remembered(Era::Legacy) => greeter.legacy_first(probe).await,
        EraHint::Fixed(Era::Modern) | EraHint::Pinned(Era::Modern) => {
            match greeter.discover().await {
                Discovered::Modern(greeting) => Ok(greeting),
                Discovered::Refused(failure) | Discovered::Outage(failure) => Err(failure),
                Discovered::Legacy(failure) => Err(wrong_era(hint, Era::Modern, &failure)),
            }
        }
        EraHint::Fixed(Era::Legacy) | EraHint::Pinned(Era::Legacy) => match greeter
            .initialize()
            .await
        {
            Ok(greeting) => Ok(greeting),
            Err(NotInitialized::Modern(failure)) => Err(wrong_era(hint, Era::Legacy, &failure)),
            Err(NotInitialized::Unfit(failure) | NotInitialized::Outage(failure)) => Err(failure),
        },
    }
}

fn wrong_era(hint: EraHint, era: Era, failure: &Failure) -> Failure {
    match hint {
        EraHint::Fixed(_) => {
            let detail = format!("the config fixes the {era} era, and the server says: {failure}");
            Failure::new(FailureKind::VersionMismatch).with_detail(bounded(&detail))
        }
        // Nobody's config is wrong: the next attempt may meet another replica, and the pin ends (F139).
        EraHint::Probe | EraHint::Remembered(_) | EraHint::Pinned(_) => {
            let detail = format!(
                "the server keeps changing between protocol eras, as if different versions of it took turns behind one \
                 address; it was held to the {era} era and says: {failure}"
            );
            Failure::new(FailureKind::ProtocolError).with_detail(bounded(&detail))
        }
    }
}

struct Greeter<'a> {
    link: &'a HttpLink,
    ids: &'a AtomicU64,
    inbound: &'a dyn Inbound,
}

impl Greeter<'_> {
    /// Modern first. The fallback has its own time: only the probe is bounded here (F30).
    async fn by_probe(&self, probe: Duration) -> Result<Greeting, Failure> {
        let discovered = match self.link.bounded(probe, self.discover()).await {
            Ok(discovered) => discovered,
            Err(_silence) => {
                let detail = format!(
                    "no answer to {} within {} ms",
                    method::DISCOVER,
                    probe.as_millis()
                );
                Discovered::Legacy(Failure::new(FailureKind::StreamClosed).with_detail(detail))
            }
        };
        let refused = match discovered {
            Discovered::Modern(greeting) => return Ok(greeting),
            Discovered::Outage(failure) => return Err(failure),
            Discovered::Refused(failure) => Some(failure),
            Discovered::Legacy(_) => None,
        };
        match self.initialize().await {
            Ok(greeting) => Ok(greeting),
            // It did not answer in time, and now says that it is modern after all: once more, without hurry (F27).
            Err(NotInitialized::Modern(failure)) if refused.is_none() => {
                match self.discover().await {
                    Discovered::Modern(greeting) => Ok(greeting),
                    Discovered::Refused(failure) | Discovered::Outage(failure) => Err(failure),
                    Discovered::Legacy(_) => Err(failure),
                }
            }
            // `initialize` was only the last resort: what the modern server said is the better explanation.
            Err(NotInitialized::Modern(failure) | NotInitialized::Unfit(failure)) => {
                if refused.is_some() {
                    self.link.unserved.store(false, Ordering::Relaxed);
                }
                Err(refused.unwrap_or(failure))
            }
            Err(NotInitialized::Outage(failure)) => Err(failure),
        }
    }

    /// The server was legacy last time. If it no longer is, it says so, and is probed.
    async fn legacy_first(&self, probe: Duration) -> Result<Greeting, Failure> {
        let failure = match self.initialize().await {
            Ok(greeting) => return Ok(greeting),
            Err(NotInitialized::Outage(failure)) => return Err(failure),
            Err(NotInitialized::Modern(failure) | NotInitialized::Unfit(failure)) => failure,
        };
        match self.link.bounded(probe, self.discover()).await {
            Ok(Discovered::Modern(greeting)) => Ok(greeting),
            Ok(Discovered::Refused(failure) | Discovered::Outage(failure)) => Err(failure),
            Ok(Discovered::Legacy(_)) | Err(_) => Err(failure),
        }
    }

    /// A server that refuses our version and names it in the same breath is asked once more: what it refused was another
    /// version in its eyes, or another replica answered. Retrying with a version that it names is the client's duty.
    async fn discover(&self) -> Discovered {
        match self.discover_once().await {
            (Discovered::Refused(_), true) => self.discover_once().await.0,
            (discovered, _) => discovered,
        }
    }

    /// What it answered, and whether its refusal names our own version.
    async fn discover_once(&self) -> (Discovered, bool) {
        let revision = Revision::LATEST_MODERN;
        let face = self.link.bare.agreed(revision, None);
        let info = self.link.introduced();
        let stamp = meta::modern_meta(revision, OUR_CAPABILITIES, Some(&info), None);
        let stamp: Vec<String> = stamp
            .iter()
            .map(|(key, value)| format!("{}:{value}", json_string(key)))
            .collect();
        let params = format!("{{\"_meta\":{{{}}}}}", stamp.join(","));
        let id = self.next_id();
        let response = match self.ask(&face, id, method::DISCOVER, &params).await {
            Ok(response) => response,
            Err(failure) => return (Discovered::Outage(failure), false),
        };
        let asked = self.link.asked(&face, id);
        let answered = answer::read(self.link, &face, &asked, response, self.inbound).await;
        self.noted(&answered);
        let names_ours = answered.as_ref().is_ok_and(|message| {
            verdict::error_code(message) == Some(codes::UNSUPPORTED_PROTOCOL_VERSION)
                && verdict::supported_versions(message)
                    .iter()
                    .any(|version| version == revision.as_str())
        });
        let discovered = judge_discover(answered);
        if matches!(discovered, Discovered::Modern(_) | Discovered::Refused(_)) {
            self.link.unserved.store(false, Ordering::Relaxed);
        }
        if let Discovered::Modern(greeting) = &discovered {
            self.link
                .face
                .store(self.link.bare.agreed(greeting.revision, None).into());
        }
        (discovered, names_ours)
    }

    async fn initialize(&self) -> Result<Greeting, NotInitialized> {
        let offered = Revision::LATEST_LEGACY;
        let params = format!(
            "{{\"protocolVersion\":{},\"capabilities\":{},\"clientInfo\":{}}}",
            json_string(offered.as_str()),
            self.link.declared(),
            self.link.introduced()
        );
        let bare = &self.link.bare;
        let id = self.next_id();
        let response = self
            .ask(bare, id, method::INITIALIZE, &params)
            .await
            .map_err(NotInitialized::Outage)?;
        // What an HTTP+SSE server says at the address of its event stream; a modern one speaks up below.
        let status = response.status().as_u16();
        self.link
            .unserved
            .store(matches!(status, 400 | 404 | 405), Ordering::Relaxed);
        let session = face::session_of(response.headers()).map_err(NotInitialized::Unfit)?;
        // From here on the server may ask us something on this very stream, and our answers belong to the session (F35).
        self.link
            .face
            .store(bare.agreed(offered, session.as_ref()).into());
        let asked = self.link.asked(bare, id);
        let answered = answer::read(self.link, bare, &asked, response, self.inbound).await;
        self.noted(&answered);
        let greeting = match judge_initialize(self.link, answered) {
            Ok(greeting) => greeting,
            Err(problem) => {
                self.link.face.store(bare.clone().into());
                return Err(problem);
            }
        };
        let face = bare.agreed(greeting.revision, session.as_ref());
        self.link.face.store(face.clone().into());
        // No request may go out before this one is accepted (F40).
        let initialized = Message::notification(method::INITIALIZED, None);
        self.link
            .tell(&face, initialized)
            .await
            .map_err(|failure| {
                let detail = format!("{} was refused: {failure}", method::INITIALIZED);
                // A session that is lost before it was ever used went to another instance (F107).
                let lost = failure.kind == FailureKind::SessionLost;
                let kind = if lost {
                    FailureKind::SessionUnstable
                } else {
                    failure.kind
                };
                NotInitialized::Outage(Failure {
                    kind,
                    detail: Some(bounded(&detail).into()),
                    ..failure
                })
            })?;
        Ok(greeting)
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Shows an answer to the log of the wire.
    fn noted(&self, answered: &Result<Message, Miss>) {
        if let Ok(message) = answered {
            self.inbound.crossed(Way::FromServer, &Parts::from(message));
        }
    }

    async fn ask(
        &self,
        face: &Face,
        id: u64,
        method: &str,
        params: &str,
    ) -> Result<Response<InBody>, Failure> {
        let message = Parts::from(Message::request(&Id::number(id), method, Some(params)));
        self.inbound.crossed(Way::ToServer, &message);
        let payload = Payload::of(message);
        let routing = Routing {
            method,
            name: None,
            params: &[],
        };
        self.link.post(face, routing, &payload, None).await
    }
}

/// A failure to get an answer, and whether it says anything about the server's era.
fn unanswered(miss: Miss) -> (Failure, bool) {
    match miss {
        Miss::NotSent(Cut::Ended(failure)) => (failure, false),
        Miss::Rejected(failure) | Miss::Doubted(failure) | Miss::Lost(Cut::Ended(failure)) => {
            let speaks = match failure.kind {
                FailureKind::NeedsLogin
                | FailureKind::SignInDelayed
                | FailureKind::Forbidden
                | FailureKind::RateLimited => false,
                // A server that fails over a request that it does not know answers like this (F28); a gateway in front
                // of a server that is away answers with 502 to 504.
                FailureKind::HttpStatus(status) => status < 502,
                FailureKind::NotMcp
                | FailureKind::ProtocolError
                | FailureKind::Incompatible
                | FailureKind::StreamClosed
                | FailureKind::SessionLost
                | FailureKind::SessionUnstable
                | FailureKind::VersionMismatch
                | FailureKind::ListingFailed
                | FailureKind::ProbeFailed => true,
                FailureKind::SpawnNotFound
                | FailureKind::CwdMissing
                | FailureKind::SpawnDenied
                | FailureKind::SpawnFailed
                | FailureKind::BadConfig
                | FailureKind::SecretUnavailable
                | FailureKind::ProgramChanged
                | FailureKind::BadCertificate
                | FailureKind::ExitedEarly { .. }
                | FailureKind::Exited { .. }
                | FailureKind::ConnectTimeout(_)
                | FailureKind::Unreachable
                | FailureKind::Internal
                | FailureKind::Stopped
                | FailureKind::CleanupFault => false,
            };
            (failure, speaks)
        }
        Miss::NotSent(Cut::AnswerRefused(why) | Cut::Cancelled(why))
        | Miss::Lost(Cut::AnswerRefused(why) | Cut::Cancelled(why)) => (
            Failure::new(FailureKind::ProtocolError).with_detail(why),
            true,
        ),
        // Nobody sets such limits while greeting.
        Miss::NotSent(Cut::Idle | Cut::Total) | Miss::Lost(Cut::Idle | Cut::Total) => {
            (Failure::new(FailureKind::StreamClosed), false)
        }
    }
}

fn judge_discover(answered: Result<Message, Miss>) -> Discovered {
    let message = match answered {
        Ok(message) => message,
        Err(miss) => {
            return match unanswered(miss) {
                (failure, true) => Discovered::Legacy(failure),
                (failure, false) => Discovered::Outage(failure),
            };
        }
    };
    let Some(result) = message.result() else {
        return judge_discover_error(&message);
    };
    let found = match DiscoverResult::read(result) {
        Ok(found) => found,
        Err(problem) => {
            return Discovered::Legacy(
                Failure::new(FailureKind::ProtocolError).with_detail(problem.to_string()),
            );
        }
    };
    match found.revision() {
        Some(revision) => Discovered::Modern(Greeting {
            revision,
            capabilities: found.capabilities.into(),
            server_info: found.server_info.map(|info| info.raw.into()),
            instructions: string_member(result, "instructions"),
        }),
        // A dual server that lists only legacy versions wants the handshake.
        None if has_legacy(&found.supported_versions) => {
            Discovered::Legacy(mismatch(&found.supported_versions))
        }
        None => Discovered::Refused(mismatch(&found.supported_versions)),
    }
}

fn judge_discover_error(error: &Message) -> Discovered {
    let code = verdict::error_code(error).unwrap_or_default();
    if code == codes::UNSUPPORTED_PROTOCOL_VERSION {
        let supported = verdict::supported_versions(error);
        // It names versions of ours only if they are legacy ones: the modern one was just refused.
        return if supported.is_empty() || has_legacy(&supported) {
            Discovered::Legacy(mismatch(&supported))
        } else {
            Discovered::Refused(mismatch(&supported))
        };
    }
    let failure = verdict::error_failure(error);
    if codes::is_modern(code) {
        Discovered::Refused(failure)
    } else {
        Discovered::Legacy(failure)
    }
}

fn judge_initialize(
    link: &HttpLink,
    answered: Result<Message, Miss>,
) -> Result<Greeting, NotInitialized> {
    let message = match answered {
        Ok(message) => message,
        Err(miss) => {
            return Err(match unanswered(miss) {
                (failure, true) => NotInitialized::Unfit(no_endpoint(link, failure)),
                (failure, false) => NotInitialized::Outage(failure),
            });
        }
    };
    let Some(result) = message.result() else {
        let supported = verdict::supported_versions(&message);
        if verdict::error_code(&message) != Some(codes::UNSUPPORTED_PROTOCOL_VERSION) {
            return Err(NotInitialized::Unfit(verdict::error_failure(&message)));
        }
        let modern = Revision::newest_modern(supported.iter().map(String::as_str)).is_some();
        let failure = mismatch(&supported);
        return Err(if modern {
            NotInitialized::Modern(failure)
        } else {
            NotInitialized::Unfit(failure)
        });
    };
    let found = InitializeResult::read(result).map_err(|problem| {
        NotInitialized::Unfit(Failure::new(FailureKind::NotMcp).with_detail(problem.to_string()))
    })?;
    match found
        .revision()
        .filter(|revision| revision.era() == Era::Legacy)
    {
        Some(revision) => Ok(Greeting {
            revision,
            capabilities: found.capabilities.into(),
            server_info: found.server_info.map(|info| info.raw.into()),
            instructions: string_member(result, "instructions"),
        }),
        None => Err(NotInitialized::Unfit(mismatch(&[found.protocol_version]))),
    }
}

/// No request of ours was understood: the URL is wrong (F95), which is not a lost session and not an outage.
fn no_endpoint(link: &HttpLink, failure: Failure) -> Failure {
    let FailureKind::HttpStatus(status @ (404 | 405 | 410)) = failure.kind else {
        return failure;
    };
    let detail = format!(
        "HTTP {status} at {}: there is no MCP endpoint",
        link.target.place()
    );
    Failure::new(FailureKind::NotMcp).with_detail(detail)
}

fn has_legacy(versions: &[String]) -> bool {
    versions
        .iter()
        .filter_map(|version| Revision::parse(version))
        .any(|revision| revision.era() == Era::Legacy)
}

/// No version in common; names both lists (F37).
fn mismatch(theirs: &[String]) -> Failure {
    let ours: Vec<&str> = Revision::ALL
        .iter()
        .map(|revision| revision.as_str())
        .collect();
    let detail = format!("the server speaks {theirs:?}, we speak {ours:?}");
    Failure::new(FailureKind::VersionMismatch).with_detail(bounded(&detail))
}

/// A string member as raw JSON.
fn string_member(result: &str, key: &str) -> Option<Box<str>> {
    raw::member(result, &[key])
        .filter(|value| raw::string(value).is_some())
        .map(Into::into)
}
