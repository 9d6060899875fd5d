//! The dashboard and the admin API on the TCP port: who may use them there (law 32).
//!
//! `Host` and `Origin` have been checked by the gateway when a request comes here. What is asked for besides:
//!
//! - Nothing comes from another web page: `Sec-Fetch-Site` and `Origin`, where a browser sends them, must say that it is
//!   our own page. Other ports of this machine are other origins.
//! - Whatever changes something carries the header [`REQUEST`], which no form can send and which a script of another
//!   origin may only send after asking; that question is never answered.
//! - A request that may come from another machine carries the token (see `token.rs`), or says in another way that its sender
//!   is an administrator (see `access.rs`): one that did not come in at our own listener on loopback, that names us by
//!   another name than a loopback one, or that some proxy passed on. So does every request where `mainstay.access.required`
//!   is `true`.
//! - Ending Mainstay is left to the local socket.
//!
//! What is within these bounds goes to the same routes as on the local socket. Nothing here knows what they mean.

mod token;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, LOCATION,
    ORIGIN, REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body::Body;
use mainstay::config::Required;
use tower::ServiceExt;

pub(crate) use self::token::Keeper;
use super::{Problem, api, open_to_all};
use crate::access::{Denied, Peer, Place, names_this_machine};
use crate::serve::Gateway;
use crate::serve::body::{self, Reply};
use crate::serve::caller::{By, Caller};
use crate::serve::http::{Pace, read};
use crate::serve::origin::is_loopback;
use crate::ui;

/// Requests that change something carry this header, with any value.
pub(crate) const REQUEST: HeaderName = HeaderName::from_static("mainstay-request");

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The cookie that holds the token for a browser.
const COOKIE_NAME: &str = "mainstay-token";

/// The member of the page's query that sets it.
const QUERY_TOKEN: &str = "token=";

/// What an answer of the API may do in a browser: nothing.
const API_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// The routes, made once; the gateway is what differs.
static ROUTES: LazyLock<Router<Gateway>> = LazyLock::new(api::router);

/// How a request came to the gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way<'p> {
    /// Over a connection that our own listener accepted.
    Listener(&'p Peer),
    /// Through somebody else's server that this gateway is a part of.
    Embedded,
    /// Through the local socket, which only this user can open.
    Local,
}

impl Way<'_> {
    /// Where the other end is, if that is known.
    pub(crate) fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Listener(peer) => peer.address,
            Self::Embedded | Self::Local => None,
        }
    }
}

/// Whether a path is behind this door.
pub(crate) fn is_behind(path: &str) -> bool {
    path == "/" || path.starts_with("/api/")
}

/// Answers a request to the dashboard or the API.
pub(crate) async fn answer<B>(gateway: &Gateway, request: Request<B>, way: Way<'_>) -> Reply
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (mut head, body) = request.into_parts();
    let is_page = head.uri.path() == "/";
    let mut reply = match judge(gateway, &head, way).await {
        Err(refusal) => refusal.into_reply(gateway, is_page),
        Ok(Pass::SignIn(cookie)) => signed_in(cookie),
        Ok(Pass::In(_)) if is_page => ui::page(),
        Ok(Pass::In(caller)) => {
            head.extensions.insert(caller);
            api(gateway, head, body).await
        }
    };
    harden(reply.headers_mut(), is_page);
    reply
}

/// What is let in.
enum Pass {
    In(Arc<Caller>),
    /// The right token came in the address: from now on it is to come as a cookie.
    SignIn(HeaderValue),
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("the dashboard and the admin API are switched off on this port")]
    Off,
    /// Most probably an MCP client with half an address.
    #[error("nothing but the dashboard is here")]
    Misplaced,
    #[error("only GET and POST are answered here")]
    Method,
    #[error("this request comes from another web page, which may not use this Mainstay")]
    Foreign,
    #[error("a request that changes something needs the header `Mainstay-Request: 1`")]
    Unmarked,
    #[error("a request that may come from another machine needs the token of this Mainstay")]
    Token,
    /// Who asks is not known, or not good enough.
    #[error("{}", .0.words())]
    Denied(Denied),
    #[error(
        "whoever uses the dashboard and the admin API from elsewhere must be an administrator of this Mainstay"
    )]
    NoAdmin,
    #[error("Mainstay is stopped over its local socket only")]
    SocketOnly,
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Self::Off | Self::Misplaced => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Foreign | Self::Unmarked | Self::SocketOnly | Self::NoAdmin => {
                StatusCode::FORBIDDEN
            }
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Denied(denied) => denied.status(),
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Off => "set `mainstay.dashboard` to true; MCP is at /mcp and /servers/{name}/mcp",
            Self::Misplaced => "MCP is at /mcp and /servers/{name}/mcp",
            Self::Method => "`/api/v1/openapi.json` lists every path with its methods",
            Self::Foreign => "open the dashboard itself, at the address of this Mainstay",
            Self::Unmarked => "send it; web pages of others cannot, and that is its purpose",
            Self::Token => {
                "open /?token=TOKEN once, or send `Authorization: Bearer TOKEN`; the token is in the file \
                 `dashboard-token` of the state directory"
            }
            Self::Denied(_) => {
                "send the token of an administrator, made with `mainstay token create NAME --group admin`, or the one in the \
                 file `dashboard-token` of the state directory, which a browser takes as /?token=TOKEN"
            }
            Self::NoAdmin => {
                "tokens need the group `admin`; signed tokens and certificates one of `mainstay.access.adminGroups`"
            }
            Self::SocketOnly => "run `mainstay stop`",
        }
    }

    fn into_reply(self, gateway: &Gateway, is_page: bool) -> Reply {
        let mut reply = if is_page {
            body::plain(self.status(), format!("{self}\n{}\n", self.hint()))
        } else {
            let problem = Problem {
                hint: Some(self.hint().to_owned()),
                ..Problem::new(self.status(), self.to_string())
            };
            problem.into_response().map(Into::into)
        };
        let challenge = match self {
            Self::Token => Some(Denied::Missing),
            Self::Denied(Denied::Unavailable) => None,
            Self::Denied(denied) => Some(denied),
            Self::Off
            | Self::Misplaced
            | Self::Method
            | Self::Foreign
            | Self::Unmarked
            | Self::NoAdmin
            | Self::SocketOnly => None,
        };
        if let Some(denied) = challenge {
            let challenge = denied.challenge(&gateway.shared.access, &Place::Elsewhere);
            let headers = reply.headers_mut();
            headers.insert(http::header::WWW_AUTHENTICATE, challenge);
        }
        reply
    }
}

async fn judge(gateway: &Gateway, head: &Parts, way: Way<'_>) -> Result<Pass, Refusal> {
    let shared = &gateway.shared;
    if !shared.settings.dashboard {
        return Err(Refusal::Off);
    }
    let is_page = head.uri.path() == "/";
    let looks = matches!(head.method, Method::GET | Method::HEAD);
    if is_page && !looks {
        return Err(Refusal::Misplaced);
    }
    if !looks && head.method != Method::POST {
        return Err(Refusal::Method);
    }
    if is_foreign(head, is_page) {
        return Err(Refusal::Foreign);
    }
    if !looks && !head.headers.contains_key(REQUEST) {
        return Err(Refusal::Unmarked);
    }
    if !open_to_all(head.uri.path()) {
        return Err(Refusal::SocketOnly);
    }
    if is_from_here(gateway, head, way) {
        return Ok(Pass::In(Caller::local()));
    }
    let told = head.uri.query().and_then(|query| {
        query
            .split('&')
            .find_map(|member| member.strip_prefix(QUERY_TOKEN))
    });
    if is_page && let Some(told) = told {
        return match shared.door.knows(told).await {
            true => Ok(Pass::SignIn(
                cookie(told, shared.access.settings().tls.is_some()).ok_or(Refusal::Token)?,
            )),
            false => Err(Refusal::Token),
        };
    }
    if let Some(told) = credential(&head.headers)
        && shared.door.knows(told).await
    {
        return Ok(Pass::In(Caller::local()));
    }
    // Whoever asks first makes the token, so that there is one to be found.
    shared.door.prepare().await;
    if !shared.access.has_a_way() {
        return Err(Refusal::Token);
    }
    let caller = shared.access.identify(head, way).await;
    let caller = caller.map_err(Refusal::Denied)?;
    // Open to whoever reaches it, which is not good enough here.
    if caller.by == By::Local {
        return Err(Refusal::Token);
    }
    match shared.access.is_admin(&caller) {
        true => Ok(Pass::In(caller)),
        false => Err(Refusal::NoAdmin),
    }
}

/// Whether a browser says that a page of somebody else is behind this. Opening our page from elsewhere is fine: it shows
/// nothing to whoever led there.
fn is_foreign(head: &Parts, is_page: bool) -> bool {
    let says = |name: &HeaderName, word: &str| {
        head.headers
            .get(name)
            .is_some_and(|value| value.as_bytes() == word.as_bytes())
    };
    let opens = is_page && says(&FETCH_MODE, "navigate") && says(&FETCH_DEST, "document");
    let site_ok = match head.headers.get(FETCH_SITE) {
        None => true,
        Some(site) => opens || matches!(site.as_bytes(), b"same-origin" | b"none"),
    };
    let own = host(head);
    let origin_ok = head.headers.get_all(ORIGIN).iter().all(|origin| {
        let authority = origin.to_str().ok().and_then(|origin| {
            origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"))
        });
        authority
            .is_some_and(|authority| own.is_some_and(|own| own.eq_ignore_ascii_case(authority)))
    });
    !(site_ok && origin_ok)
}

/// The name and port that the request is addressed to.
fn host(head: &Parts) -> Option<&str> {
    let named = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    named.or_else(|| head.uri.authority().map(http::uri::Authority::as_str))
}

/// Whether only somebody on this machine can have sent this. In doubt, no.
pub(crate) fn is_from_here(gateway: &Gateway, head: &Parts, way: Way<'_>) -> bool {
    let near = match way {
        Way::Listener(_) | Way::Local => true,
        Way::Embedded => head
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .is_some_and(|peer| is_loopback(peer.0.ip())),
    };
    near && is_loopback(gateway.shared.settings.listen.ip())
        && names_this_machine(&head.headers, &head.uri)
        && gateway.shared.access.settings().required == Required::Auto
}

/// The token that a request brings along.
fn credential(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    bearer.or_else(|| {
        let lines = headers.get_all(COOKIE).iter();
        lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .find_map(|(name, value)| (name == COOKIE_NAME).then_some(value))
    })
}

fn cookie(token: &str, is_secure: bool) -> Option<HeaderValue> {
    let secure = if is_secure { "; Secure" } else { "" };
    let text = format!("{COOKIE_NAME}={token}; Path=/; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::try_from(text).ok().map(|mut value| {
        value.set_sensitive(true);
        value
    })
}

/// Leads to the page again, without the token in the address.
fn signed_in(cookie: HeaderValue) -> Reply {
    let mut reply = body::empty(StatusCode::SEE_OTHER);
    let headers = reply.headers_mut();
    headers.insert(SET_COOKIE, cookie);
    headers.insert(LOCATION, HeaderValue::from_static("/"));
    reply
}

async fn api<B>(gateway: &Gateway, head: Parts, body: B) -> Reply
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let settings = &gateway.shared.settings;
    let pace = Pace::new(settings.body_ms);
    let body = match read(body, settings.limits.message_bytes_max, pace).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let request = Request::from_parts(head, axum::body::Body::from(body));
    let router = super::finished(ROUTES.clone(), gateway.clone(), super::audit::Door::Port);
    match router.oneshot(request).await {
        Ok(response) => response.map(Into::into),
        Err(never) => match never {},
    }
}

/// What every answer here says to browsers and caches.
fn harden(headers: &mut HeaderMap, is_page: bool) {
    let policy = if is_page { ui::policy() } else { API_POLICY };
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    );
    headers.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    if !headers.contains_key(CONTENT_TYPE) {
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
    }
}
