//! What those hear who are turned away, and where they are told to get a token: the role of a protected resource (RFC 9728
//! and RFC 6750).
//!
//! Every answer to a wrong token is the same, whatever is wrong with it. The names of servers and profiles in an address are
//! repeated, never looked up: who may not come in is not told what there is.

use http::header::{ALLOW, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use mainstay_wire::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::json;

use super::{Access, Denied};
use crate::serve::body::{self, Reply};

/// Where the metadata of protected resources is.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// What stays as it is in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Longest name in an address that is repeated.
const NAME_BYTES_MAX: usize = 256;

/// What of Mainstay a path means, as an address to be given to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// An endpoint of MCP: its path, in the one form that it has.
    Endpoint(Box<str>),
    /// Where clients of HTTP+SSE send their messages, whichever endpoint they began at.
    Messages,
    /// Anything else.
    Elsewhere,
}

impl Place {
    /// What a path means.
    pub(crate) fn of(path: &str) -> Self {
        let path = path.strip_suffix('/').unwrap_or(path);
        match path {
            "/mcp" | "/sse" => return Self::Endpoint(path.into()),
            "/messages" => return Self::Messages,
            _ => {}
        }
        let named = |prefix: &str| {
            let (segment, face) = path.strip_prefix(prefix)?.split_once('/')?;
            let name = percent_decode_str(segment).decode_utf8().ok()?;
            let is_name = !name.is_empty()
                && name.len() <= NAME_BYTES_MAX
                && name != "."
                && name != ".."
                && !name
                    .chars()
                    .any(|c| c.is_control() || c == '/' || c == '\\');
            let is_face = matches!(face, "mcp" | "sse");
            (is_name && is_face).then(|| {
                let name = utf8_percent_encode(&name, SEGMENT);
                Self::Endpoint(format!("{prefix}{name}/{face}").into())
            })
        };
        named("/servers/")
            .or_else(|| named("/profiles/"))
            .unwrap_or(Self::Elsewhere)
    }

    /// Its path below the address of this Mainstay.
    fn path(&self) -> &str {
        match self {
            Self::Endpoint(path) => path,
            Self::Messages | Self::Elsewhere => "",
        }
    }

    /// Whether a token that is meant for `audience` is meant for this place of the Mainstay at `resource`.
    pub(super) fn is_audience(&self, resource: &str, audience: &str) -> bool {
        let audience = audience.strip_suffix('/').unwrap_or(audience);
        let Some(rest) = audience.strip_prefix(resource) else {
            return false;
        };
        match self {
            _ if rest.is_empty() => true,
            Self::Endpoint(path) => rest == &**path,
            // Whose session it is, is checked there.
            Self::Messages => {
                matches!(Self::of(rest), Self::Endpoint(path) if path.ends_with("/sse"))
            }
            Self::Elsewhere => false,
        }
    }
}

/// Where the metadata of a place is.
fn metadata_url(resource: &str, place: &Place) -> String {
    let path = place.path();
    match url::Url::parse(resource) {
        Ok(url) => {
            let origin = url.origin().ascii_serialization();
            let below = url.path().trim_end_matches('/');
            format!("{origin}{WELL_KNOWN}{below}{path}")
        }
        Err(_not_one) => format!("{resource}{WELL_KNOWN}{path}"),
    }
}

/// The metadata of a protected resource, if a path asks for one. `None`: the path is something else.
pub(crate) fn metadata(access: &Access, method: &Method, path: &str) -> Option<Reply> {
    let below = path.strip_prefix(WELL_KNOWN)?;
    if !below.is_empty() && !below.starts_with('/') {
        return None;
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut reply = body::plain(StatusCode::METHOD_NOT_ALLOWED, "this can only be read");
        let headers = reply.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(reply);
    }
    let nothing = || body::plain(StatusCode::NOT_FOUND, "there is no such protected resource");
    let settings = access.settings();
    let Some(resource) = settings
        .resource
        .as_deref()
        .filter(|_| !settings.jwt.is_empty())
    else {
        return Some(nothing());
    };
    // Whoever passes requests on may have taken away the path that comes before ours, or not.
    let own = url::Url::parse(resource).ok();
    let prefix = own
        .as_ref()
        .map_or("", |url| url.path().trim_end_matches('/'));
    let below = below.strip_prefix(prefix).unwrap_or(below);
    let place = match below.trim_end_matches('/') {
        "" => Place::Elsewhere,
        path => match Place::of(path) {
            Place::Endpoint(path) => Place::Endpoint(path),
            Place::Messages | Place::Elsewhere => return Some(nothing()),
        },
    };
    let is_address = |issuer: &&mainstay::config::Issuer| issuer.issuer.starts_with("http");
    let servers: Vec<&str> = settings
        .jwt
        .iter()
        .filter(is_address)
        .map(|issuer| issuer.issuer.as_str())
        .collect();
    let mut text = json!({
        "resource": format!("{resource}{}", place.path()),
        "resource_name": "Mainstay",
        "authorization_servers": servers,
        "bearer_methods_supported": ["header"],
    });
    if !settings.scopes.is_empty() {
        text["scopes_supported"] = json!(settings.scopes);
    }
    let mut reply = body::json(StatusCode::OK, Parts::from(text.to_string()));
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(reply)
}

impl Denied {
    /// The HTTP status of it.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Missing | Self::Invalid(_) => StatusCode::UNAUTHORIZED,
            Self::Scope => StatusCode::FORBIDDEN,
            Self::Form(_) => StatusCode::BAD_REQUEST,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The word of RFC 6750 for it.
    fn word(self) -> Option<&'static str> {
        match self {
            Self::Invalid(_) => Some("invalid_token"),
            Self::Scope => Some("insufficient_scope"),
            Self::Form(_) => Some("invalid_request"),
            Self::Missing | Self::Unavailable => None,
        }
    }

    /// What people read.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Missing => {
                "this Mainstay needs to know who asks: send `Authorization: Bearer TOKEN`; its operator makes tokens with \
                 `mainstay token create`"
            }
            Self::Invalid(_) => {
                "this token is not valid here; get a new one from whoever runs this Mainstay, or sign in again"
            }
            Self::Scope => "this token lacks a scope that this Mainstay asks for",
            Self::Form(why) => why,
            Self::Unavailable => {
                "the issuer of this token cannot be reached, so it cannot be checked now; try again in a moment"
            }
        }
    }

    /// The answer to whoever asked for this place.
    pub(crate) fn into_reply(self, access: &Access, place: &Place) -> Reply {
        let error = self.word().unwrap_or(match self.status() {
            StatusCode::UNAUTHORIZED => "unauthorized",
            _other => "temporarily_unavailable",
        });
        let text = json!({ "error": error, "error_description": self.words() }).to_string();
        let mut reply = body::json(self.status(), Parts::from(text));
        let headers = reply.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::Unavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            Self::Missing | Self::Invalid(_) | Self::Scope | Self::Form(_) => {
                headers.insert(WWW_AUTHENTICATE, self.challenge(access, place));
            }
        }
        reply
    }

    /// What a client can do about it, for programs.
    pub(crate) fn challenge(self, access: &Access, place: &Place) -> HeaderValue {
        let settings = access.settings();
        let mut text = "Bearer realm=\"mainstay\"".to_owned();
        let mut say = |name: &str, value: &str| {
            text.push_str(&format!(", {name}=\"{value}\""));
        };
        if let Some(word) = self.word() {
            say("error", word);
        }
        if let Some(resource) = settings
            .resource
            .as_deref()
            .filter(|_| !settings.jwt.is_empty())
        {
            if !settings.scopes.is_empty() {
                say("scope", &settings.scopes.join(" "));
            }
            say("resource_metadata", &metadata_url(resource, place));
        }
        // Scopes, names and addresses have been checked to hold nothing that ends the quotes.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_32_a_path_means_one_place_or_none() {
        let at = |path: &str| match Place::of(path) {
            Place::Endpoint(path) => path.into_string(),
            Place::Messages => "messages".to_owned(),
            Place::Elsewhere => String::new(),
        };
        for (path, place) in [
            ("/mcp", "/mcp"),
            ("/mcp/", "/mcp"),
            ("/servers/a/mcp", "/servers/a/mcp"),
            ("/servers/a%20b/mcp", "/servers/a%20b/mcp"),
            ("/servers/%61/mcp", "/servers/a/mcp"),
            ("/servers/\"x\"/mcp", "/servers/%22x%22/mcp"),
            ("/profiles/a/sse", "/profiles/a/sse"),
            ("/servers/../mcp", ""),
            ("/servers/%2e%2e/mcp", ""),
            ("/servers/..%2fadmin/mcp", ""),
            ("/servers/a%0d%0ax/mcp", ""),
            ("/servers/%ff/mcp", ""),
            ("/servers//mcp", ""),
            ("/servers/a/b/mcp", ""),
            ("/servers/a", ""),
            ("/messages", "messages"),
            ("/", ""),
        ] {
            assert_eq!(at(path), place, "{path}");
        }
    }

    #[test]
    fn law_32_a_token_for_one_endpoint_is_not_one_for_another() {
        let base = "https://mcp.example";
        for (path, audience, is) in [
            ("/mcp", "https://mcp.example", true),
            ("/mcp", "https://mcp.example/", true),
            ("/mcp", "https://mcp.example/mcp", true),
            ("/mcp", "https://mcp.example/servers/a/mcp", false),
            ("/servers/a/mcp", "https://mcp.example/servers/a/mcp", true),
            ("/servers/b/mcp", "https://mcp.example/servers/a/mcp", false),
            ("/mcp", "https://mcp.example.evil/mcp", false),
            ("/mcp", "https://mcp.exampl", false),
            ("/mcp", "", false),
            ("/messages", "https://mcp.example/servers/a/sse", true),
            ("/messages", "https://mcp.example/mcp", false),
            ("/api/v1/status", "https://mcp.example", true),
            ("/api/v1/status", "https://mcp.example/mcp", false),
        ] {
            assert_eq!(
                Place::of(path).is_audience(base, audience),
                is,
                "{path} {audience}"
            );
        }
        let place = Place::of("/mcp");
        assert_eq!(
            metadata_url("https://mcp.example", &place),
            "https://mcp.example/.well-known/oauth-protected-resource/mcp"
        );
        assert_eq!(
            metadata_url("https://mcp.example/stay", &place),
            "https://mcp.example/.well-known/oauth-protected-resource/stay/mcp"
        );
    }
}
