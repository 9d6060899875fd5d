//! Judges responses that are no plain answer: which statuses and words mean what, and whether the request can have run.
//!
//! Pure. Wording is looked at in one case only, because servers in the field leave no other way to recognise a lost
//! session (F89 to F91); everything else is decided by status and JSON-RPC structure.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_wire::codes;
use mainstay_wire::envelope::{Kind, Limits, Message};
use mainstay_wire::raw;

use super::client::{self, Target, bounded};
use super::pause;
use crate::auth::Challenge;

/// What was asked, as far as it matters for judging the response.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// Our id; `None` for messages that have no answer.
    pub(super) id: Option<u64>,
    /// The request carried a session id.
    pub(super) session: bool,
    /// The request was made in the modern era.
    pub(super) modern: bool,
    pub(super) limits: Limits,
}

/// What a response with a status other than success means.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives for a moment, on the way of an error"
)]
pub(super) enum Verdict {
    /// It carries the server's own answer to this request, an error.
    Answer(Message),
    /// The server did not run the request.
    Rejected(Failure),
    /// The session is gone, and it is not certain that it was the server who said so: the request may have run (F106).
    Doubted(Failure),
    /// The words are those of a lost session, and they may be about something else (F90): ask the session itself.
    Suspected(Failure),
    /// The request may have run.
    Lost(Failure),
}

/// Judges a response whose status is no success.
pub(super) fn judge(
    target: &Target,
    status: StatusCode,
    headers: &HeaderMap,
    said: Bytes,
    asked: &Asked,
) -> Verdict {
    let preview = preview(target, &said);
    let error = Message::parse(said.clone(), &asked.limits)
        .ok()
        .filter(|message| message.kind() == Kind::Error);
    let detail = match &error {
        Some(error) => target.scrub(&format!("HTTP {}: {}", status.as_u16(), error_words(error))),
        None if preview.is_empty() => format!("HTTP {}", status.as_u16()),
        None => format!("HTTP {}: {preview}", status.as_u16()),
    };
    if asked.session
        && let Some(evidence) = lost_session(status, headers, error.as_ref(), &said, asked)
    {
        let lost = Failure::new(FailureKind::SessionLost).with_detail(bounded(&detail));
        return match evidence {
            Evidence::Server => Verdict::Rejected(lost),
            Evidence::Anybody => Verdict::Doubted(lost),
            Evidence::Words => Verdict::Suspected(lost),
        };
    }
    if asked.modern
        && status == StatusCode::BAD_REQUEST
        && error.as_ref().is_some_and(wants_handshake)
    {
        // A replica of the other era: it looked for a session and went no further (F139).
        return Verdict::Rejected(
            Failure::new(FailureKind::SessionLost).with_detail(bounded(&detail)),
        );
    }
    if let Some(verdict) = refusal(target, status, headers, &detail) {
        return verdict;
    }
    if let Some(error) = error {
        return Verdict::Answer(error);
    }
    // Whatever asks to be left alone is throttling and no fault (law 15). For how long is known to the pauses.
    let kind = match pause::is_throttling(status, headers) {
        true => FailureKind::RateLimited,
        false => FailureKind::HttpStatus(status.as_u16()),
    };
    let failure = Failure::new(kind).with_detail(bounded(&detail));
    let failure = match pause::asked_ms(headers, SystemTime::now()) {
        Some(ms) => failure.with_retry_after_ms(ms),
        None => failure,
    };
    match status {
        // The server was still waiting, or somebody else was first: nothing proves that it did not act (F99, F100).
        StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => Verdict::Lost(failure),
        _ if status.is_client_error() => Verdict::Rejected(failure),
        // A gateway in between may have passed the request on before it gave up (F99, F106).
        _ => Verdict::Lost(failure),
    }
}

/// Statuses that mean the same whatever the body says.
fn refusal(
    target: &Target,
    status: StatusCode,
    headers: &HeaderMap,
    detail: &str,
) -> Option<Verdict> {
    let failure = match status {
        StatusCode::UNAUTHORIZED => {
            let challenge = headers
                .get(WWW_AUTHENTICATE)
                .and_then(|challenge| challenge.to_str().ok());
            let challenge = target.scrub(challenge.unwrap_or("no challenge"));
            Failure::new(FailureKind::NeedsLogin)
                .with_detail(bounded(&format!("HTTP 401 ({challenge})")))
        }
        StatusCode::FORBIDDEN => {
            let lacking = Challenge::of(headers).filter(Challenge::wants_more);
            let detail = match lacking {
                Some(lacking) => target.scrub(&lacking.in_words(detail)),
                None => detail.to_owned(),
            };
            Failure::new(FailureKind::Forbidden).with_detail(bounded(&detail))
        }
        StatusCode::TOO_MANY_REQUESTS => {
            let failure = Failure::new(FailureKind::RateLimited).with_detail(bounded(detail));
            match pause::asked_ms(headers, SystemTime::now()) {
                Some(ms) => failure.with_retry_after_ms(ms),
                None => failure,
            }
        }
        // The two sides cannot agree on how to talk (F98).
        StatusCode::NOT_ACCEPTABLE | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Failure::new(FailureKind::Incompatible).with_detail(bounded(detail))
        }
        _ if status.is_redirection() => {
            let to = target
                .redirect_of(headers, target.uri())
                .map(|uri| client::place_of(&uri));
            let to = to.or_else(|| {
                headers
                    .contains_key(LOCATION)
                    .then(|| "an unreadable location".to_owned())
            });
            let to = to.unwrap_or_else(|| "nowhere".to_owned());
            let detail = format!(
                "{} redirects ({}) to {to}; if that is the server, set `url` to it",
                target.place(),
                status.as_u16()
            );
            Failure::new(FailureKind::NotMcp).with_detail(detail)
        }
        _ => return None,
    };
    Some(Verdict::Rejected(failure))
}

/// How sure it is that the session is gone, and that this request was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    /// The server refused the session: an MCP error, or words about the session.
    Server,
    /// A status that means it, with a body that anybody on the way could have written: the session counts as gone, and
    /// the request may have run before somebody lost the answer (F106).
    Anybody,
    /// Only words, under a status that does not mean it.
    Words,
}

/// Whether a response to a request with a session id says that the session is gone (F89, F90, F100, F105).
fn lost_session(
    status: StatusCode,
    headers: &HeaderMap,
    error: Option<&Message>,
    said: &Bytes,
    asked: &Asked,
) -> Option<Evidence> {
    let speaks = || match error {
        Some(error) => speaks_of_lost_session(&error_message(error)),
        None => {
            !is_html(headers, said)
                && speaks_of_lost_session(&String::from_utf8_lossy(
                    said.get(..1024).unwrap_or(said),
                ))
        }
    };
    match status {
        StatusCode::GONE | StatusCode::NOT_FOUND => {
            // An unknown method under 404, correctly answered: the session was good enough for that.
            let answered = error.is_some_and(|error| {
                error_code(error) == Some(codes::METHOD_NOT_FOUND)
                    && error
                        .id()
                        .and_then(mainstay_wire::id::Id::as_u64)
                        .is_some_and(|id| Some(id) == asked.id)
            });
            if answered && status == StatusCode::NOT_FOUND {
                None
            } else if error.is_some() || speaks() {
                Some(Evidence::Server)
            } else {
                Some(Evidence::Anybody)
            }
        }
        StatusCode::BAD_REQUEST => speaks().then_some(Evidence::Server),
        StatusCode::INTERNAL_SERVER_ERROR => speaks().then_some(Evidence::Words),
        _ => None,
    }
}

/// Pages are written by proxies and web servers, not by MCP servers.
fn is_html(headers: &HeaderMap, said: &Bytes) -> bool {
    let declared = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"));
    declared || said.trim_ascii_start().starts_with(b"<")
}

/// Whether an error under 400 asks a modern request for the handshake of the legacy era.
fn wants_handshake(error: &Message) -> bool {
    matches!(error_code(error), Some(codes::INVALID_REQUEST | -32_000))
        && speaks_of_lost_session(&error_message(error))
}

/// Whether a JSON-RPC error under HTTP 200 may say that the session is gone (F91). Tools have sessions of their own, and
/// their errors come the same way: so this is no verdict, only a reason to ask the session itself.
pub(super) fn may_be_lost_session(error: &Message, asked: &Asked) -> bool {
    const CODES: [i64; 4] = [-32_600, 32_600, -32_000, -32_001];
    let message = error_message(error);
    asked.session
        && error_code(error).is_some_and(|code| CODES.contains(&code))
        && message.len() <= 120
        && speaks_of_lost_session(&message)
}

/// Words that servers in the field use for it.
fn speaks_of_lost_session(text: &str) -> bool {
    const WITH_SESSION: [&str; 12] = [
        "no transport",
        "not found",
        "no valid",
        "invalid",
        "unknown",
        "expired",
        "missing",
        "does not exist",
        "doesn't exist",
        "terminated",
        "no longer",
        "closed",
    ];
    let text = text.to_ascii_lowercase();
    text.contains("server not initialized")
        || (text.contains("session") && WITH_SESSION.iter().any(|words| text.contains(words)))
}

/// The failure that an error answer stands for, where an error is no answer to anybody's request.
pub(super) fn error_failure(error: &Message) -> Failure {
    Failure::new(FailureKind::ProtocolError).with_detail(error_words(error))
}

/// An error in words: its code and message, bounded.
pub(super) fn error_words(error: &Message) -> String {
    let code = error_code(error).map_or_else(
        || "error without code".to_owned(),
        |code| format!("error {code}"),
    );
    bounded(&format!("{code} {:?}", error_message(error)))
}

/// The code of an error answer.
pub(super) fn error_code(error: &Message) -> Option<i64> {
    error.member(&["error", "code"])?.parse().ok()
}

fn error_message(error: &Message) -> String {
    error
        .string_member(&["error", "message"])
        .map(Into::into)
        .unwrap_or_default()
}

/// The versions that an "unsupported version" error lists.
pub(super) fn supported_versions(error: &Message) -> Vec<String> {
    let listed = error
        .member(&["error", "data", "supported"])
        .and_then(raw::elements)
        .unwrap_or_default();
    listed
        .into_iter()
        .filter_map(|version| raw::string(version).map(Into::into))
        .collect()
}

/// The beginning of a body as one printable line, without anything that the entry keeps secret (F257).
pub(super) fn preview(target: &Target, said: &Bytes) -> String {
    let head = String::from_utf8_lossy(said.get(..512).unwrap_or(said));
    let head = target.scrub(&head);
    let words: Vec<&str> = head.split_whitespace().collect();
    words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(120)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, headers: &[(&'static str, &str)], said: &str, session: bool) -> Verdict {
        let target = Target::parse("http://example.test/mcp").expect("good");
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("good"));
        }
        let asked = Asked {
            id: Some(7),
            session,
            modern: false,
            limits: Limits::default(),
        };
        judge(
            &target,
            StatusCode::from_u16(status).expect("good"),
            &map,
            Bytes::from(said.to_owned()),
            &asked,
        )
    }

    fn kind(verdict: Verdict) -> (&'static str, Option<FailureKind>) {
        match verdict {
            Verdict::Answer(_) => ("answer", None),
            Verdict::Rejected(failure) => ("rejected", Some(failure.kind)),
            Verdict::Doubted(failure) => ("doubted", Some(failure.kind)),
            Verdict::Suspected(failure) => ("suspected", Some(failure.kind)),
            Verdict::Lost(failure) => ("lost", Some(failure.kind)),
        }
    }

    #[test]
    fn f89_f90_f95_f100_f105_f106_a_session_is_lost_only_where_one_was_sent_and_bare_statuses_are_doubted()
     {
        let page = "<html><title>404: session not found</title></html>";
        let dialects = [
            ("doubted", 404, ""),
            ("doubted", 404, "404 page not found"),
            ("doubted", 404, page),
            ("doubted", 404, r#"{"message":"Not Found"}"#),
            ("rejected", 404, "Invalid session ID"),
            (
                "rejected",
                404,
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Session not found"}}"#,
            ),
            ("doubted", 410, ""),
            (
                "rejected",
                410,
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"gone"}}"#,
            ),
            (
                "rejected",
                400,
                r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}"#,
            ),
            ("rejected", 400, "Invalid session"),
            (
                "rejected",
                400,
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}"#,
            ),
            (
                "suspected",
                500,
                r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"400: session expired"}}"#,
            ),
        ];
        for (expected, status, said) in dialects {
            assert_eq!(
                kind(judged(status, &[], said, true)),
                (expected, Some(FailureKind::SessionLost)),
                "{status} {said}"
            );
            assert_ne!(
                kind(judged(status, &[], said, false)).1,
                Some(FailureKind::SessionLost),
                "{status} {said}"
            );
        }
        for (status, said) in [
            (400, ""),
            (
                400,
                r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"bad cursor"}}"#,
            ),
            (
                404,
                r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"Method not found"}}"#,
            ),
            (500, "oops"),
        ] {
            assert_ne!(
                kind(judged(status, &[], said, true)).1,
                Some(FailureKind::SessionLost),
                "{status} {said}"
            );
        }
    }

    #[test]
    fn f91_a_session_error_under_200_needs_a_transport_code_and_few_words() {
        let asked = Asked {
            id: Some(7),
            session: true,
            modern: false,
            limits: Limits::default(),
        };
        let error = |code, message| Message::error_of(None, code, message, None);
        assert!(may_be_lost_session(
            &error(-32_600, "Session not found"),
            &asked
        ));
        assert!(
            !may_be_lost_session(&error(-32_602, "Session not found"), &asked),
            "a tool's own session"
        );
        assert!(!may_be_lost_session(
            &error(-32_600, "Invalid cursor"),
            &asked
        ));
        assert!(!may_be_lost_session(
            &error(-32_600, "Session not found"),
            &Asked {
                session: false,
                ..asked
            }
        ));
    }

    #[test]
    fn law_16_statuses_tell_whether_the_request_can_have_run() {
        for status in [500, 502, 503, 504, 408, 409] {
            assert_eq!(
                kind(judged(status, &[], "", true)),
                ("lost", Some(FailureKind::HttpStatus(status)))
            );
        }
        for status in [413, 414, 431, 422, 425] {
            assert_eq!(
                kind(judged(status, &[], "", true)),
                ("rejected", Some(FailureKind::HttpStatus(status)))
            );
        }
        assert_eq!(
            kind(judged(401, &[], "", true)),
            ("rejected", Some(FailureKind::NeedsLogin))
        );
        assert_eq!(
            kind(judged(403, &[], "", true)),
            ("rejected", Some(FailureKind::Forbidden))
        );
        assert_eq!(
            kind(judged(406, &[], "", false)),
            ("rejected", Some(FailureKind::Incompatible))
        );
        assert_eq!(
            kind(judged(415, &[], "", false)),
            ("rejected", Some(FailureKind::Incompatible))
        );
        let error =
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32020,"message":"Header mismatch"}}"#;
        assert_eq!(kind(judged(400, &[], error, false)), ("answer", None));
        assert_eq!(kind(judged(500, &[], error, true)), ("answer", None));
    }

    #[test]
    fn f83_a_redirect_that_is_not_followed_names_the_new_url_without_its_query() {
        let Verdict::Rejected(failure) = judged(
            301,
            &[("location", "https://new.test/x?token=s3cret")],
            "",
            false,
        ) else {
            panic!("not rejected")
        };
        assert_eq!(failure.kind, FailureKind::NotMcp);
        let detail = failure.detail.expect("a detail");
        assert!(
            detail.contains("https://new.test/x;") && !detail.contains("s3cret"),
            "{detail}"
        );
    }

    #[test]
    fn f102_law_15_whatever_asks_to_be_left_alone_is_throttling() {
        for (status, headers, expected) in [
            (429, vec![("retry-after", "7")], Some(7_000)),
            (429, vec![], None),
            (503, vec![("retry-after", "7")], Some(7_000)),
        ] {
            let (Verdict::Rejected(failure) | Verdict::Lost(failure)) =
                judged(status, &headers, "", true)
            else {
                panic!("an answer")
            };
            assert_eq!(failure.kind, FailureKind::RateLimited, "{status}");
            assert_eq!(failure.retry_after_ms, expected, "{status}");
        }
        // A gateway in between may have passed the request on: 503 proves nothing about the call (law 16).
        assert_eq!(
            kind(judged(503, &[("retry-after", "7")], "", true)).0,
            "lost"
        );
        assert_eq!(
            kind(judged(503, &[], "", true)),
            ("lost", Some(FailureKind::HttpStatus(503)))
        );
    }

    #[test]
    fn f92_a_401_without_challenge_says_so() {
        let Verdict::Rejected(failure) = judged(401, &[], "", false) else {
            panic!("not rejected")
        };
        assert!(failure.detail.expect("a detail").contains("no challenge"));
    }
}
