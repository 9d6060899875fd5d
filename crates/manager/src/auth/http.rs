//! The HTTP client for authorization servers: strangers whose addresses another stranger named.
//!
//! It is not the client that speaks to the server: no header of the entry goes here (F243), no redirect is followed by it
//! (F244), and it connects only to addresses that are checked after the name was looked up, for every request anew (F245).
//! Bodies and time are bounded. It keeps a short record of what was asked and answered, for error messages; no body that could
//! hold a token is ever in it.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Request, Response, Uri};
use url::{Host, Url};

use crate::addresses::Reach;
use crate::runtime::http::route::{self, Route};
use crate::secrets::Secrets;

/// The most that an authorization server may answer, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How long one request may take, from the lookup to the last byte.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Requests whose outcome is remembered for messages.
const NOTES_MAX: usize = 12;

/// Characters of a page that a message shows.
const START_CHARS_MAX: usize = 80;

/// Characters of a stranger's word that a message shows.
const WORD_CHARS_MAX: usize = 240;

/// Connections that are kept, by origin.
const CLIENTS_MAX: usize = 8;

/// Names of services that hand out the credentials of cloud machines, for proxies that would find them.
const METADATA_HOSTS: [&str; 3] = [
    "metadata",
    "metadata.google.internal",
    "metadata.azure.internal",
];

/// Why there is no answer, in words that name no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What happened.
    pub(crate) what: String,
    /// What to do; empty where nothing can be said.
    pub(crate) remedy: &'static str,
    /// Whether another attempt may go better.
    pub(crate) transient: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Fault {}

/// One request and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    /// `GET https://host/path`, without query.
    pub(crate) request: String,
    /// `200 application/json`, and how the answer begins where it is not what was asked for; or why there is none.
    pub(crate) outcome: String,
    /// The status, if there was an answer.
    pub(crate) status: Option<u16>,
    /// Why there is no answer.
    pub(crate) fault: Option<Fault>,
    /// The answer, if it was a document for everybody (metadata), for messages about what is missing in it.
    pub(crate) document: Option<Vec<u8>>,
}

/// Which addresses may be connected to.
#[derive(Debug, Clone, Copy)]
struct Policy {
    /// The server itself is on this machine.
    on_loopback: bool,
    /// Addresses of private networks are allowed.
    private: bool,
}

impl Policy {
    /// Whether a host with that kind of address may be asked. The server's own origin may be private: the entry names it.
    fn allows(self, reach: Reach, is_own: bool) -> bool {
        match reach {
            Reach::Public => true,
            Reach::Loopback => self.on_loopback || is_own,
            Reach::Private => self.private || is_own,
            Reach::LinkLocal | Reach::Metadata | Reach::Multicast | Reach::Reserved => false,
        }
    }
}

/// The client. One for each step of signing in to one server.
pub(crate) struct OauthHttp {
    own: Url,
    policy: Policy,
    route: Route,
    clients: Mutex<Vec<(String, reqwest::Client)>>,
    notes: Mutex<VecDeque<Note>>,
}

impl fmt::Debug for OauthHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OauthHttp")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl OauthHttp {
    /// A client for signing in to the server at `own`, on the way that leads there.
    pub(crate) fn new(own: Url, route: Route, allow_private_addresses: bool) -> Self {
        let policy = Policy {
            on_loopback: own.host().is_some_and(|host| is_loopback(&host)),
            private: allow_private_addresses,
        };
        Self {
            own,
            policy,
            route,
            clients: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    /// Whether authorization servers may have addresses of private networks.
    pub(crate) fn allows_private(&self) -> bool {
        self.policy.private
    }

    /// Whether a URL may be used for secrets: TLS, or this machine, or a network that the entry calls its own.
    pub(crate) fn is_safe(&self, url: &Url) -> bool {
        let own_plain = self.policy.private || same_origin(&self.own, url);
        url.scheme() == "https"
            || url.scheme() == "http"
                && (own_plain || url.host().is_some_and(|host| is_loopback(&host)))
    }

    /// Why an address would not be asked, as far as the address itself tells.
    pub(crate) fn refuses(&self, url: &Url) -> Option<Fault> {
        let checked = checked(url.as_str());
        let checked = checked.and_then(|url| self.check_host(&url, same_origin(&self.own, &url)));
        checked.err()
    }

    /// Sends one request and reads the whole answer, whatever its status. Follows no redirect.
    ///
    /// Dropping it drops the request: whoever needs the answer of a token request runs this in a task of its own (F200).
    ///
    /// # Errors
    /// [`Fault`]: refused before anything was sent, unreachable, too slow, too much.
    pub(crate) async fn execute(
        &self,
        request: Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, Fault> {
        let described = format!("{} {}", request.method(), place_of(request.uri()));
        let is_get = request.method() == http::Method::GET;
        let outcome = match tokio::time::timeout(REQUEST_MAX, self.send(request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Fault {
                what: format!("no answer within {} s", REQUEST_MAX.as_secs()),
                remedy: "",
                transient: true,
            }),
        };
        let note = match &outcome {
            Ok(response) => Note {
                request: described.clone(),
                outcome: said(response),
                status: Some(response.status().as_u16()),
                fault: None,
                document: is_get.then(|| response.body().clone()),
            },
            Err(fault) => Note {
                request: described.clone(),
                outcome: fault.what.clone(),
                status: None,
                fault: Some(fault.clone()),
                document: None,
            },
        };
        self.note(note);
        outcome.map_err(|fault| Fault {
            what: format!("{described}: {}", fault.what),
            ..fault
        })
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Fault> {
        let url = checked(&request.uri().to_string())?;
        let is_own = same_origin(&self.own, &url);
        self.check_host(&url, is_own)?;
        let client = self.client(&url, request.uri(), is_own)?;
        let request = reqwest::Request::try_from(request)
            .map_err(|error| refused(format!("is not a request: {error}")))?;
        let mut response = client.execute(request).await.map_err(no_answer)?;
        let mut answer = Response::builder()
            .status(response.status())
            .body(Vec::new())
            .map_err(|error| refused(format!("is not an answer: {error}")))?;
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        if is_event_stream(answer.headers()) {
            // It has no end, and nothing of it is wanted.
            return Ok(answer);
        }
        while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
            if answer.body().len() + chunk.len() > BODY_BYTES_MAX {
                return Err(refused(format!(
                    "the answer is longer than {BODY_BYTES_MAX} bytes"
                )));
            }
            answer.body_mut().extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    /// An address in the URL itself is checked here, a name when it is looked up.
    fn check_host(&self, url: &Url, is_own: bool) -> Result<(), Fault> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                if METADATA_HOSTS.contains(&name.as_str()) {
                    return Err(forbidden(&name, Reach::Metadata));
                }
                return Ok(());
            }
            None => return Err(refused("the address has no host".to_owned())),
        };
        let reach = Reach::of(address);
        match self.policy.allows(reach, is_own) {
            true => Ok(()),
            false => Err(forbidden(&address.to_string(), reach)),
        }
    }

    fn client(&self, url: &Url, uri: &Uri, is_own: bool) -> Result<reqwest::Client, Fault> {
        let origin = url.origin().ascii_serialization();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == origin) {
            return Ok(client.clone());
        }
        let filter = Arc::new(Filter {
            policy: self.policy,
            is_own,
        });
        let on_loopback = url.host().is_some_and(|host| is_loopback(&host));
        let client =
            route::client_for_strangers(&self.route, uri, on_loopback, filter, CONNECT_MAX)
                .map_err(|failure| refused(failure.to_string()))?;
        if clients.len() < CLIENTS_MAX {
            clients.push((origin, client.clone()));
        }
        Ok(client)
    }

    fn note(&self, note: Note) {
        tracing::debug!(request = note.request, outcome = note.outcome, "oauth");
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() == NOTES_MAX {
            notes.pop_front();
        }
        notes.push_back(note);
    }

    /// What was asked lately and what came of it, the oldest first.
    pub(crate) fn notes(&self) -> Vec<Note> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().cloned().collect()
    }
}

/// Looks names up and leaves out what may not be connected to.
struct Filter {
    policy: Policy,
    is_own: bool,
}

impl reqwest::dns::Resolve for Filter {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let (policy, is_own) = (self.policy, self.is_own);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (good, bad): (Vec<SocketAddr>, Vec<SocketAddr>) =
                found.partition(|found| policy.allows(Reach::of(found.ip()), is_own));
            match bad.first() {
                Some(bad) if good.is_empty() => {
                    let who = format!("{}, which is {},", name.as_str(), bad.ip());
                    Err(Box::new(forbidden(&who, Reach::of(bad.ip())))
                        as Box<dyn Error + Send + Sync>)
                }
                Some(_) | None => Ok(Box::new(good.into_iter()) as reqwest::dns::Addrs),
            }
        })
    }
}

/// A URL that may be asked at all.
pub(crate) fn checked(text: &str) -> Result<Url, Fault> {
    let url = Url::parse(text).map_err(|error| refused(format!("is not an address: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused(format!(
            "the address begins with {}: and only http:// and https:// are asked",
            url.scheme()
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(
            "the address contains a user or password".to_owned(),
        ));
    }
    Ok(url)
}

/// Same scheme, host and port.
pub(crate) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost")
                || name.to_ascii_lowercase().ends_with(".localhost")
        }
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    content_type(headers).starts_with("text/event-stream")
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = value
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    kind.trim().to_ascii_lowercase().chars().take(40).collect()
}

/// A URL for messages: without user, query and fragment.
pub(crate) fn place_of(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit('@').next().unwrap_or_default();
    let scheme = uri.scheme_str().unwrap_or("http");
    let text = format!("{scheme}://{host}{}", uri.path());
    text.chars().take(300).collect()
}

/// How an answer looks, for messages: its status, its kind, and how it begins unless it is JSON, which may hold a token.
pub(crate) fn said(response: &Response<Vec<u8>>) -> String {
    let status = response.status().as_u16();
    let kind = content_type(response.headers());
    let kind = if kind.is_empty() {
        "no content type"
    } else {
        &kind
    };
    let body = response.body();
    let start = String::from_utf8_lossy(&body[..body.len().min(4 * START_CHARS_MAX)]);
    let start: String = start.trim_start().chars().take(START_CHARS_MAX).collect();
    if body.is_empty() {
        return format!("{status}, {kind}, empty");
    }
    if start.starts_with(['{', '[']) {
        return format!("{status}, {kind}");
    }
    if !start.starts_with('<') {
        return format!("{status}, {kind}, {} bytes", body.len());
    }
    format!("{status}, {kind}, beginning with `{}`", shown(&start))
}

/// A stranger's words as they may be shown: one line, bounded, without what looks like a token.
pub(crate) fn shown(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(WORD_CHARS_MAX)
        .collect();
    Secrets::default().scrub(line.trim())
}

/// The milliseconds that an answer asks us to stay away.
pub(crate) fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let wait = until.duration_since(std::time::SystemTime::now()).ok()?;
    u64::try_from(wait.as_millis()).ok()
}

fn refused(what: String) -> Fault {
    Fault {
        what,
        remedy: "",
        transient: false,
    }
}

fn forbidden(who: &str, reach: Reach) -> Fault {
    let remedy = match reach {
        Reach::Private => {
            "if the authorization server is one of your own network, set `allowPrivateAddresses` in the server's `auth`"
        }
        Reach::Loopback => {
            "an authorization server on this machine is asked only for servers on this machine"
        }
        Reach::Public | Reach::LinkLocal | Reach::Metadata | Reach::Multicast | Reach::Reserved => {
            ""
        }
    };
    Fault {
        what: format!("{who} is {reach} and is not asked"),
        remedy,
        transient: false,
    }
}

fn no_answer(error: reqwest::Error) -> Fault {
    let error = error.without_url();
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    let mut text = String::new();
    while let Some(found) = cause {
        if let Some(fault) = found.downcast_ref::<Fault>() {
            return fault.clone();
        }
        let said = found.to_string();
        if !text.contains(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
        cause = found.source();
    }
    let certificate = text.contains("certificate");
    Fault {
        what: text.chars().take(300).collect(),
        remedy: if certificate {
            "if it is an authority of your own, name its file in `tls` of the entry"
        } else {
            ""
        },
        transient: !certificate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(own: &str, private: bool) -> OauthHttp {
        OauthHttp::new(Url::parse(own).expect("good"), Route::default(), private)
    }

    async fn refusal(http: &OauthHttp, url: &str) -> Fault {
        let request = Request::get(url).body(Vec::new()).expect("good");
        http.execute(request).await.expect_err("refused")
    }

    #[tokio::test]
    async fn f245_addresses_that_strangers_name_are_checked_before_anything_is_sent() {
        let http = client("https://mcp.example/mcp", false);
        for (url, word) in [
            ("http://169.254.169.254/latest", "metadata service"),
            ("http://[::ffff:169.254.169.254]/", "metadata service"),
            ("http://metadata.google.internal/", "metadata service"),
            ("http://10.0.0.9/token", "private network"),
            ("http://127.0.0.1:9/", "loopback"),
            ("http://0.0.0.0:9/", "loopback"),
            ("http://2130706433/", "loopback"),
            ("http://localhost:9/", "loopback"),
            ("http://224.0.0.1/", "multicast"),
            ("ftp://as.example/", "only http://"),
            ("http://user:pass@as.example/", "user or password"),
        ] {
            let fault = refusal(&http, url).await;
            assert!(fault.what.contains(word), "{url}: {fault}");
            assert!(!fault.transient, "{url}: another attempt changes nothing");
            assert!(!fault.what.contains("pass@"), "{fault}");
        }
        let private = refusal(&http, "http://10.0.0.9/token").await;
        assert!(private.remedy.contains("allowPrivateAddresses"));
    }

    #[test]
    fn f245_private_and_loopback_are_opened_by_the_entry_and_metadata_by_nobody() {
        let open = client("http://127.0.0.1:1/mcp", true).policy;
        for (reach, expected) in [
            (Reach::Public, true),
            (Reach::Loopback, true),
            (Reach::Private, true),
            (Reach::LinkLocal, false),
            (Reach::Metadata, false),
            (Reach::Reserved, false),
        ] {
            assert_eq!(open.allows(reach, true), expected, "{reach}");
        }
        let closed = client("https://mcp.example/mcp", false).policy;
        assert!(!closed.allows(Reach::Private, false) && !closed.allows(Reach::Loopback, false));
        assert!(
            closed.allows(Reach::Private, true),
            "the entry itself names it"
        );
    }

    #[test]
    fn f257_what_a_stranger_answered_is_shown_bounded_and_never_where_it_may_be_a_token() {
        let answer = |kind: &str, body: &str| {
            let response = Response::builder().header(CONTENT_TYPE, kind);
            said(&response.body(body.as_bytes().to_vec()).expect("good"))
        };
        let html = format!("<html>\u{1b}[2J{}", "x".repeat(500));
        let shown = answer("text/html; charset=utf-8", &html);
        assert!(
            shown.starts_with("200, text/html, beginning with `<html>"),
            "{shown}"
        );
        assert!(shown.len() < 150 && !shown.contains('\u{1b}'), "{shown}");
        for body in ["{\"access_token\":\"s3cret\"}", "access_token=s3cret&x=1"] {
            assert!(!answer("application/json", body).contains("s3cret"));
        }
    }
}
