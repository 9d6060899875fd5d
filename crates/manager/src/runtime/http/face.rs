//! What we say in headers: the config's own headers, then what the era and the session ask for.

use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_wire::headers;
use mainstay_wire::revision::{Era, Revision};

use super::Routing;
use crate::runtime::trace;

const SESSION_ID: HeaderName = HeaderName::from_static(headers::SESSION_ID);
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static(headers::PROTOCOL_VERSION);
const METHOD: HeaderName = HeaderName::from_static(headers::METHOD);
const NAME: HeaderName = HeaderName::from_static(headers::NAME);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static(headers::LAST_EVENT_ID);

/// Headers that belong to the connection, not to the config.
const RESERVED: [&str; 6] = [
    "connection",
    "content-length",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The headers of one stage of a link.
#[derive(Debug, Clone)]
pub(super) struct Face {
    /// The config's headers, and what is agreed on. No content type, no accept.
    common: HeaderMap,
    post: HeaderMap,
    session: Option<Box<str>>,
    routed: bool,
}

/// The config's own headers.
pub(super) fn of_config(config: &[(String, String)]) -> Result<HeaderMap, Failure> {
    let mut repeated = HeaderMap::new();
    for (name, value) in config {
        let bad = |why: &str| {
            Failure::new(FailureKind::BadConfig)
                .with_detail(format!("header `{}` {why}", name.escape_debug()))
        };
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_invalid| bad("has a name that HTTP forbids"))?;
        if RESERVED.contains(&parsed.as_str()) {
            return Err(bad("cannot be set: it belongs to the connection"));
        }
        // The value may be a secret: say what is wrong with it, not what it is (law 31).
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_invalid| {
            bad("has a value that HTTP forbids (line break or control character)")
        })?;
        value.set_sensitive(true);
        repeated.append(parsed, value);
    }
    Ok(repeated)
}

impl Face {
    /// Before anything is agreed: an `initialize` goes out like this.
    /// `basic` is what the URL says; the config's own headers win over it.
    pub(super) fn bare(
        config: &[(String, String)],
        basic: Option<&HeaderValue>,
    ) -> Result<Self, Failure> {
        let mut common = HeaderMap::with_capacity(config.len() + 8);
        common.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("mainstay/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(basic) = basic {
            common.insert(AUTHORIZATION, basic.clone());
        }
        let repeated = of_config(config)?;
        // Replaces our own defaults and keeps headers that the config repeats.
        common.extend(repeated);
        Ok(Self::of(common, None, false))
    }

    /// After the era is known. `session` is checked to be visible ASCII.
    pub(super) fn agreed(&self, revision: Revision, session: Option<&HeaderValue>) -> Self {
        let mut common = self.common.clone();
        common.insert(
            PROTOCOL_VERSION,
            HeaderValue::from_static(revision.as_str()),
        );
        if let Some(session) = session {
            common.insert(SESSION_ID, session.clone());
        }
        let session = session
            .and_then(|session| session.to_str().ok())
            .map(Into::into);
        Self::of(common, session, revision.era() == Era::Modern)
    }

    fn of(common: HeaderMap, session: Option<Box<str>>, routed: bool) -> Self {
        let mut post = common.clone();
        post.insert(CONTENT_TYPE, HeaderValue::from_static(headers::JSON));
        post.insert(ACCEPT, HeaderValue::from_static(headers::ACCEPT_BOTH));
        Self {
            common,
            post,
            session,
            routed,
        }
    }

    /// The session id, if the server gave one.
    pub(super) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Whether requests are routed by headers, that is: the modern era.
    pub(super) fn is_modern(&self) -> bool {
        self.routed
    }

    /// Headers of a POST.
    pub(super) fn for_post(&self, routing: Routing<'_>) -> HeaderMap {
        let mut all = self.post.clone();
        if self.routed {
            if let Ok(method) = HeaderValue::from_str(routing.method) {
                all.insert(METHOD, method);
            }
            if let Some(Ok(name)) = routing
                .name
                .map(|name| HeaderValue::from_str(&headers::encode_value(name)))
            {
                all.insert(NAME, name);
            }
        }
        for (name, value) in routing.params {
            if self.routed || trace::is_of_trace(name) {
                all.insert(name, value.clone());
            }
        }
        all
    }

    /// Headers of a GET: a push stream, or the rest of a stream that broke.
    pub(super) fn for_get(&self, last_event_id: Option<&str>) -> HeaderMap {
        let mut all = self.common.clone();
        all.insert(ACCEPT, HeaderValue::from_static(headers::EVENT_STREAM));
        if let Some(Ok(id)) = last_event_id.map(HeaderValue::from_str) {
            all.insert(LAST_EVENT_ID, id);
        }
        all
    }

    /// Headers of the DELETE of a session.
    pub(super) fn for_delete(&self) -> HeaderMap {
        self.common.clone()
    }
}

/// The session id of the answer to `initialize`.
pub(super) fn session_of(answer: &HeaderMap) -> Result<Option<HeaderValue>, Failure> {
    let Some(session) = answer.get(SESSION_ID) else {
        return Ok(None);
    };
    let legal = !session.is_empty()
        && session
            .as_bytes()
            .iter()
            .all(|byte| (0x21..=0x7E).contains(byte));
    if legal {
        Ok(Some(session.clone()))
    } else {
        Err(Failure::new(FailureKind::ProtocolError)
            .with_detail("the server's session id is not visible ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(headers: &[(&str, &str)]) -> Result<Face, Failure> {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Face::bare(&headers, None)
    }

    #[test]
    fn law_31_a_bad_header_is_named_without_its_value() {
        for (name, value) in [
            ("a b", "s3cret"),
            ("x", "s3cret\nx: y"),
            ("Content-Length", "s3cret"),
        ] {
            let failure = face(&[(name, value)]).expect_err(name);
            assert_eq!(failure.kind, FailureKind::BadConfig);
            assert!(
                failure
                    .to_string()
                    .contains(&name.escape_debug().to_string())
            );
            assert!(!failure.to_string().contains("s3cret"));
        }
        let good = face(&[("Authorization", "Bearer s3cret")]).expect("good");
        assert!(!format!("{good:?}").contains("s3cret"));
    }

    #[test]
    fn the_protocol_wins_over_the_config_where_both_speak() {
        let face = face(&[
            ("accept", "text/html"),
            ("user-agent", "me"),
            ("x-a", "1"),
            ("x-a", "2"),
        ])
        .expect("good");
        let sent = face.for_post(Routing {
            method: "ping",
            name: None,
            params: &[],
        });
        assert_eq!(sent["accept"], "application/json, text/event-stream");
        assert_eq!(sent["user-agent"], "me");
        assert_eq!(sent.get_all("x-a").iter().count(), 2);
        assert!(!sent.contains_key("mcp-method") && !sent.contains_key("mcp-protocol-version"));
    }

    #[test]
    fn modern_requests_repeat_method_and_name_legacy_ones_do_not() {
        let bare = face(&[]).expect("good");
        let routing = Routing {
            method: "tools/call",
            name: Some("Hello, 世界"),
            params: &[(
                HeaderName::from_static("mcp-param-region"),
                HeaderValue::from_static("eu"),
            )],
        };
        let modern = bare.agreed(Revision::LATEST_MODERN, None).for_post(routing);
        assert_eq!(modern["mcp-method"], "tools/call");
        assert_eq!(modern["mcp-name"], "=?base64?SGVsbG8sIOS4lueVjA==?=");
        assert_eq!(modern["mcp-protocol-version"], "2026-07-28");
        assert_eq!(modern["mcp-param-region"], "eu");
        let session = HeaderValue::from_static("abc");
        let legacy = bare
            .agreed(Revision::V2025_03_26, Some(&session))
            .for_post(routing);
        assert!(!legacy.contains_key("mcp-method") && !legacy.contains_key("mcp-param-region"));
        assert_eq!(legacy["mcp-protocol-version"], "2025-03-26");
        assert_eq!(legacy["mcp-session-id"], "abc");
    }
}
