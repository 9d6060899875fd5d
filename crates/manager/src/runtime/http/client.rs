//! Moves HTTP messages: plain `http` by hyper directly, everything that needs TLS or a proxy by reqwest.
//!
//! The two are behind one type, so that nothing above knows which one is at work. Neither follows redirects, neither
//! decompresses, neither limits reading in time (F86), and both keep connections for the next call (F104).

use std::error::Error;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use mainstay_core::failure::{Failure, FailureKind};
use percent_encoding::percent_decode_str;

use super::body::{InBody, OutBody};
use super::direct::Pool;
use super::lookup::Lookup;
use super::route::{self, Route, Tuning, Way};
use super::secrets::Secrets;

/// Redirects of one request that are followed.
pub(super) const REDIRECTS_MAX: usize = 3;

/// Longest detail of a failure, in characters.
const DETAIL_CHARS_MAX: usize = 300;

/// Servers in the field close idle connections after 5 seconds (Node, uvicorn). A request that meets the close on its way
/// has an unknown outcome, so an idle plain connection is given up before that: a new one costs next to nothing.
const PLAIN_IDLE: Duration = Duration::from_secs(4);

/// With TLS a new connection is dear, and the usual front ends keep theirs for 60 seconds or more.
const TLS_IDLE: Duration = Duration::from_secs(50);

/// Connections kept for the next calls: as many as calls are usually in flight.
const IDLE_MAX: usize = 128;

/// A peer that vanished without a word is noticed after about a minute (F124).
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// Where a link goes.
pub(super) struct Target {
    uri: Uri,
    /// For messages: without user, password, query and fragment, which may hold secrets.
    place: Box<str>,
    /// The user and password of the URL as an `Authorization` header.
    basic: Option<HeaderValue>,
    /// Scheme, host and port: what pauses are kept by.
    origin: Box<str>,
    /// What no message may show.
    secrets: Secrets,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.place).finish()
    }
}

impl Target {
    /// Reads the URL of the config.
    pub(super) fn parse(url: &str) -> Result<Self, Failure> {
        let bad =
            |why: &str| Failure::new(FailureKind::BadConfig).with_detail(format!("`url` {why}"));
        let mut parsed = reqwest::Url::parse(url.trim())
            .map_err(|error| bad(&format!("is not a URL: {error}")))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(bad(&format!(
                "must begin with http:// or https://, not {}:",
                parsed.scheme()
            )));
        }
        let basic = basic_of(&parsed);
        let mut secrets = Secrets::default();
        if let Some(basic) = basic.as_ref().and_then(|basic| basic.to_str().ok()) {
            secrets.add(basic);
        }
        hide_userinfo(&parsed, &mut secrets);
        for (raw, (_, plain)) in parsed
            .query()
            .unwrap_or_default()
            .split('&')
            .zip(parsed.query_pairs())
        {
            secrets.add(raw.split_once('=').map_or(raw, |(_, value)| value));
            secrets.add(&plain);
        }
        // Both only fail for URLs without a host, and those are refused below.
        let _ = (parsed.set_username(""), parsed.set_password(None));
        let uri: Uri = parsed
            .as_str()
            .split('#')
            .next()
            .unwrap_or_default()
            .parse()
            .map_err(|error| bad(&format!("cannot be used: {error}")))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(bad("has no host"));
        }
        Ok(Self {
            place: place_of(&uri).into(),
            origin: origin_text(&uri).into(),
            uri,
            basic,
            secrets,
        })
    }

    /// Hides what else the entry says: the values of its headers, and what its proxy wants to know.
    pub(super) fn hide(&mut self, headers: &[(String, String)], proxy: Option<&str>) {
        for (_, value) in headers {
            self.secrets.add(value);
        }
        if let Some(proxy) = proxy.and_then(|proxy| reqwest::Url::parse(proxy).ok()) {
            hide_userinfo(&proxy, &mut self.secrets);
        }
    }

    /// A text for people without anything that this entry keeps secret (law 31, F257).
    pub(super) fn scrub(&self, text: &str) -> String {
        let text = crate::secrets::scrub_live(text);
        self.secrets.scrub(&text).into_owned()
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether the server is on this machine: no proxy can reach it there, whatever the environment says.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.uri.host().unwrap_or_default();
        let address = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    }

    /// What the user and password of the URL say in a header.
    pub(super) fn basic(&self) -> Option<&HeaderValue> {
        self.basic.as_ref()
    }

    /// Scheme, host, port and path, for messages.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Where to send the request again: only 307 and 308, which keep method and body, and only within the origin, so that
    /// no header of ours reaches a stranger (F83).
    pub(super) fn next_hop<B>(&self, response: &Response<B>, from: &Uri) -> Option<Uri> {
        if !matches!(
            response.status(),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        ) {
            return None;
        }
        let next = self.redirect_of(response.headers(), from)?;
        (origin(&next) == origin(&self.uri)).then_some(next)
    }

    /// The absolute form of an address that the server names for messages. Only within the origin, so that no header of
    /// ours reaches a stranger.
    pub(super) fn within_origin(&self, reference: &str) -> Result<Uri, Failure> {
        let refused = |why: String| {
            Failure::new(FailureKind::ProtocolError).with_detail(bounded(&format!(
                "the `endpoint` that {} names {why}",
                self.place
            )))
        };
        let base = reqwest::Url::parse(&self.uri.to_string())
            .map_err(|error| refused(format!("has no base: {error}")))?;
        let url = base
            .join(reference.trim())
            .map_err(|error| refused(format!("is not an address: {error}")))?;
        let uri: Uri = url
            .as_str()
            .split('#')
            .next()
            .unwrap_or_default()
            .parse()
            .map_err(|error| refused(format!("cannot be used: {error}")))?;
        if origin(&uri) != origin(&self.uri) {
            let place = place_of(&uri);
            return Err(refused(format!(
                "is at another origin ({place}); nothing was sent there"
            )));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("contains a user or password".to_owned()));
        }
        Ok(uri)
    }

    /// The absolute form of a `Location`.
    pub(super) fn redirect_of(&self, headers: &http::HeaderMap, from: &Uri) -> Option<Uri> {
        let location = headers.get(http::header::LOCATION)?.to_str().ok()?;
        let base = reqwest::Url::parse(&from.to_string()).ok()?;
        let next = base.join(location).ok()?;
        next.as_str().split('#').next()?.parse().ok()
    }
}

/// The user and password of a URL as a header value.
fn basic_of(url: &reqwest::Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Keeps the user and password of an address from being shown, as they are written and as they are meant.
fn hide_userinfo(url: &reqwest::Url, secrets: &mut Secrets) {
    for part in [url.username(), url.password().unwrap_or_default()] {
        secrets.add(part);
        secrets.add(&percent_decode_str(part).decode_utf8_lossy());
    }
}

/// A URL as it may be shown.
pub(super) fn place_of(uri: &Uri) -> String {
    let port = uri
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    format!(
        "{}://{}{port}{}",
        uri.scheme_str().unwrap_or("http"),
        uri.host().unwrap_or_default(),
        uri.path()
    )
}

fn origin(uri: &Uri) -> (Option<&Scheme>, Option<String>, Option<u16>) {
    let default = if uri.scheme() == Some(&Scheme::HTTPS) {
        443
    } else {
        80
    };
    let host = uri
        .authority()
        .map(Authority::host)
        .map(str::to_ascii_lowercase);
    (uri.scheme(), host, Some(uri.port_u16().unwrap_or(default)))
}

fn origin_text(uri: &Uri) -> String {
    let (scheme, host, port) = origin(uri);
    format!(
        "{}://{}:{}",
        scheme.map_or("http", Scheme::as_str),
        host.unwrap_or_default(),
        port.unwrap_or_default()
    )
}

/// A pool of connections to one origin.
#[derive(Debug)]
pub(super) struct Client(Engine);

#[derive(Debug)]
enum Engine {
    Plain(Arc<Pool>),
    Full(reqwest::Client),
}

impl Client {
    /// A pool without connections.
    ///
    /// # Errors
    /// `BadConfig` for a proxy or a file of certificates that cannot be used; `Internal` if no TLS client can be made on
    /// this machine.
    pub(super) fn new(
        target: &Target,
        route: &Route,
        lookup: &Lookup,
        connect: Duration,
    ) -> Result<Self, Failure> {
        let way = route.way(&target.uri, target.is_loopback())?;
        let plain = target.uri.scheme() == Some(&Scheme::HTTP)
            // Rare, and in no hurry: the general engine is the better tested one for everything out of the ordinary.
            && target.basic.is_none()
            && matches!(way, Way::Direct);
        if plain {
            let connector = connector(lookup.clone(), connect);
            let pool = Pool::new(&target.uri, connector, IDLE_MAX, PLAIN_IDLE);
            let no_host =
                || Failure::new(FailureKind::BadConfig).with_detail("`url` has no usable host");
            return Ok(Self(Engine::Plain(Arc::new(pool.ok_or_else(no_host)?))));
        }
        let tuning = Tuning {
            connect,
            keepalive: KEEPALIVE,
            keepalive_interval: KEEPALIVE_INTERVAL,
            keepalive_retries: KEEPALIVE_RETRIES,
            idle: TLS_IDLE,
            idle_max: IDLE_MAX,
        };
        route::general_client(route, &way, lookup, &tuning).map(|client| Self(Engine::Full(client)))
    }

    /// Sends a request and waits for the head of its response. Cancel-safe: dropping it gives the request up.
    ///
    /// # Errors
    /// No response. Whether the request was written is known to the mark in its body.
    pub(super) async fn send(
        &self,
        request: Request<OutBody>,
    ) -> Result<Response<InBody>, Failure> {
        match &self.0 {
            Engine::Plain(pool) => Ok(pool.send(request).await?.map(InBody::Plain)),
            Engine::Full(client) => {
                let uri = request.uri().clone();
                let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap));
                let request = request.map_err(|error| {
                    Failure::new(FailureKind::Internal).with_detail(chain(&error.without_url()))
                })?;
                match client.execute(request).await {
                    Ok(response) => Ok(http::Response::from(response).map(InBody::Full)),
                    Err(error) => Err(route::no_response(error, &uri)),
                }
            }
        }
    }
}

fn connector(lookup: Lookup, connect: Duration) -> HttpConnector<Lookup> {
    let mut connector = HttpConnector::new_with_resolver(lookup);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector
}

/// The failure of a response that broke off.
pub(super) fn broken(error: &dyn Error) -> Failure {
    Failure::new(FailureKind::StreamClosed).with_detail(chain(error))
}

/// An error and its causes in one bounded line, each said once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            // Writing into a String cannot fail.
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    bounded(&text)
}

/// At most 300 characters of a text, for details.
pub(super) fn bounded(text: &str) -> String {
    match text.char_indices().nth(DETAIL_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(target: &Target, status: u16, location: &str) -> Option<String> {
        let response = Response::builder()
            .status(status)
            .header("location", location)
            .body(())
            .ok()?;
        target
            .next_hop(&response, target.uri())
            .map(|uri| uri.to_string())
    }

    #[test]
    fn f83_only_redirects_that_keep_method_body_and_origin_are_followed() {
        let target = Target::parse("http://example.test/mcp?key=1").expect("good");
        assert_eq!(
            redirect(&target, 307, "/mcp/").as_deref(),
            Some("http://example.test/mcp/")
        );
        assert_eq!(
            redirect(&target, 308, "http://EXAMPLE.test:80/x").as_deref(),
            Some("http://example.test/x")
        );
        for (status, location) in [
            (301, "/mcp/"),
            (302, "/mcp/"),
            (303, "/mcp/"),
            (307, "https://example.test/mcp"),
            (307, "http://evil.test/mcp"),
            (308, "http://example.test:8080/mcp"),
            (308, "//evil.test/mcp"),
        ] {
            assert_eq!(
                redirect(&target, status, location),
                None,
                "{status} {location}"
            );
        }
    }

    #[test]
    fn law_31_messages_go_only_to_an_endpoint_of_the_same_origin() {
        let target = Target::parse("http://example.test/base/sse?key=1").expect("good");
        for (reference, address) in [
            ("/messages?s=1", "http://example.test/messages?s=1"),
            ("messages/?s=1", "http://example.test/base/messages/?s=1"),
            ("?s=1#part", "http://example.test/base/sse?s=1"),
            (" http://EXAMPLE.test:80/m\n", "http://example.test/m"),
        ] {
            assert_eq!(
                target.within_origin(reference).expect(reference),
                address,
                "{reference}"
            );
        }
        for reference in [
            "//evil.test/m",
            "https://example.test/m",
            "http://example.test:8080/m",
            "http://me:pass@example.test/m",
            "file:///etc/passwd",
            "http://",
        ] {
            let failure = target.within_origin(reference).expect_err(reference);
            assert_eq!(failure.kind, FailureKind::ProtocolError, "{reference}");
        }
    }

    #[test]
    fn law_31_what_is_shown_of_a_url_holds_no_secret() {
        let target =
            Target::parse("https://me:pass@example.test:8443/mcp?token=s3cret#part").expect("good");
        assert_eq!(target.place(), "https://example.test:8443/mcp");
        assert_eq!(target.uri(), "https://example.test:8443/mcp?token=s3cret");
        assert_eq!(target.basic().expect("a user"), "Basic bWU6cGFzcw==");
        assert!(!format!("{:?}", target.basic()).contains("bWU6"));
    }

    #[test]
    fn f80_servers_on_this_machine_are_never_reached_through_a_proxy() {
        for (url, local) in [
            ("http://localhost:1/mcp", true),
            ("http://127.0.0.2/mcp", true),
            ("http://[::1]:8080/mcp", true),
            ("http://10.0.0.1/mcp", false),
            ("http://localhost.example.test/mcp", false),
        ] {
            assert_eq!(
                Target::parse(url).expect("good").is_loopback(),
                local,
                "{url}"
            );
        }
    }

    #[test]
    fn urls_that_cannot_work_name_the_setting() {
        for url in ["", "ftp://x/", "mcp", "http://", "file:///x"] {
            let failure = Target::parse(url).expect_err(url);
            assert_eq!(failure.kind, FailureKind::BadConfig);
            assert!(
                failure
                    .detail
                    .as_deref()
                    .unwrap_or_default()
                    .contains("`url`"),
                "{failure}"
            );
        }
    }
}
