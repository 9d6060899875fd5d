//! What browsers reach below `/oauth/`: where they come back to after a sign-in, and the pages of the links of calls.
//!
//! `Host` and `Origin` have been checked when a request comes here. Nobody is asked for a credential to come back, because a
//! browser has none to bring: what lets it in is the state that only its own sign-in has, and for the link of a call the key
//! that its page gave to this very browser.

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION, SET_COOKIE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use mainstay_wire::Parts as Text;

use super::callback;
use super::desk::{How, LoginWord, Wish};
use super::page::Page;
use super::visit::{PREFIX, Visit};
use crate::admin::door::Way;
use crate::serve::Gateway;
use crate::serve::body::{self, Reply, ReplyBody};
use crate::serve::http::{Pace, read};

/// Longest form that is read.
const FORM_BYTES_MAX: usize = 16 * 1024;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a path is one of these.
pub(crate) fn is_here(path: &str) -> bool {
    path.starts_with("/oauth/")
}

/// Answers a browser.
pub(crate) async fn answer<B>(gateway: &Gateway, request: Request<B>, way: Way<'_>) -> Reply
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let response = if path == callback::PATH {
        came_back(gateway, &head).await
    } else if let Some(name) = path.strip_prefix(PREFIX) {
        let name = name.to_owned();
        visit(gateway, &name, &head, body, way).await
    } else {
        Page::with(StatusCode::NOT_FOUND, "Nothing is here").into_response()
    };
    reply(response)
}

fn reply(response: Response<Bytes>) -> Reply {
    let (head, text) = response.into_parts();
    let mut reply = body::empty(head.status);
    *reply.headers_mut() = head.headers;
    *reply.body_mut() = ReplyBody::text(Text::from(text));
    reply
}

/// The end of a sign-in.
async fn came_back(gateway: &Gateway, head: &Parts) -> Response<Bytes> {
    if head.method != Method::GET {
        return wrong_method();
    }
    let cookies = cookies(head);
    let visits = &gateway.shared.visits;
    let query = head.uri.query().unwrap_or_default();
    let is_visitor = |name: &str| visits.has_key(name, &cookies);
    let page = gateway.shared.sign_ins.came_back(query, is_visitor).await;
    page.into_response()
}

/// The page of a link.
async fn visit<B>(
    gateway: &Gateway,
    name: &str,
    head: &Parts,
    body: B,
    way: Way<'_>,
) -> Response<Bytes>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let visits = &gateway.shared.visits;
    let Some(visit) = visits.find(name) else {
        return Page::with(StatusCode::NOT_FOUND, "This link is not good (any more)")
            .say("Links to sign in are good for a while. Make the call again to get another one.")
            .into_response();
    };
    let origin = gateway.shared.sign_ins.origin(visit.principal.as_ref());
    let is_secure = origin.is_some_and(|origin| origin.starts_with("https:"));
    match head.method {
        Method::GET => {
            let known = visits.has_key(name, &cookies(head))
                || is_its_own(gateway, &visit, head, way).await;
            if !known {
                return who_are_you(&visit, name);
            }
            let page = show(gateway, name, &visit).await;
            let mut response = page.into_response();
            set_cookie(&mut response, &visit.cookie(name, is_secure));
            response
        }
        Method::POST => {
            let pace = Pace::new(gateway.shared.settings.body_ms);
            let Ok(form) = read(body, FORM_BYTES_MAX, pace).await else {
                return Page::with(StatusCode::BAD_REQUEST, "Not so").into_response();
            };
            if !is_from_our_page(head) || !proves(gateway, &visit, head, &form, way).await {
                return who_are_you(&visit, name);
            }
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::SEE_OTHER;
            if let Ok(to) = HeaderValue::try_from(format!("{PREFIX}{name}")) {
                response.headers_mut().insert(LOCATION, to);
            }
            set_cookie(&mut response, &visit.cookie(name, is_secure));
            response
        }
        _ => wrong_method(),
    }
}

/// Where the visitor has to go, begun at the first look.
async fn show(gateway: &Gateway, name: &str, visit: &Visit) -> Page {
    let desk = &gateway.shared.sign_ins;
    let before = visit.begun.as_ref();
    let course = before.and_then(|begun| desk.course_of(&begun.id));
    if course == Some(LoginWord::Done) {
        return Page::new(&format!("Signed in to {}", visit.server))
            .say("Mainstay keeps the sign-in and goes on by itself. You can close this tab.");
    }
    let begun = match before.filter(|_| course == Some(LoginWord::Waiting)) {
        Some(begun) => begun.clone(),
        None => {
            let wish = Wish {
                server: &visit.server,
                principal: visit.principal.as_ref(),
                how: How::Browser,
                visit: Some(name),
            };
            match desk.begin_for(wish).await {
                Ok(begun) => {
                    gateway.shared.visits.begun(name, &begun);
                    begun
                }
                Err(trouble) => {
                    let page = Page::with(
                        StatusCode::BAD_GATEWAY,
                        &format!("Signing in to {} is not possible now", visit.server),
                    )
                    .say(&trouble.message);
                    return match &trouble.hint {
                        Some(hint) => page.say(hint),
                        None => page.say("Load this page again to try once more."),
                    };
                }
            }
        }
    };
    let link = begun
        .url
        .as_deref()
        .and_then(|url| url::Url::parse(url).ok());
    let Some(link) = link else {
        return Page::with(StatusCode::BAD_GATEWAY, "There is no page to sign in at");
    };
    let host = link.host_str().unwrap_or_default().to_owned();
    Page::new(&format!("Sign in to {}", visit.server))
        .say(&format!(
            "A call through Mainstay waits for you to sign in to the server “{}”. You do that at {host}; Mainstay keeps \
             what it gets for it and shows it to nobody but that server.",
            visit.server
        ))
        .say("Go on only if you began this yourself.")
        .link(&link, &format!("Continue to {host}"))
}

/// Whether a request shows by itself that it is the principal's: by where it comes from, or by what it brings.
async fn is_its_own(gateway: &Gateway, visit: &Visit, head: &Parts, way: Way<'_>) -> bool {
    match &visit.principal {
        // This machine's user.
        None => crate::admin::door::is_from_here(gateway, head, way),
        Some(principal) => {
            let caller = gateway.identify(head, way).await;
            caller.is_some_and(|caller| caller.principal.as_ref() == Some(principal))
        }
    }
}

/// Whether a form brings the credential of the principal.
async fn proves(gateway: &Gateway, visit: &Visit, head: &Parts, form: &[u8], way: Way<'_>) -> bool {
    let mut fields = url::form_urlencoded::parse(form);
    let token = fields.find_map(|(name, value)| (name == "token").then(|| value.into_owned()));
    let value = token.and_then(|token| {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim())).ok()?;
        value.set_sensitive(true);
        Some(value)
    });
    let Some(value) = value.filter(|_| visit.principal.is_some()) else {
        return false;
    };
    let mut head = head.clone();
    head.headers.insert(AUTHORIZATION, value);
    is_its_own(gateway, visit, &head, way).await
}

/// Whether a form was sent by our own page: browsers say so, and nothing else sends forms here.
fn is_from_our_page(head: &Parts) -> bool {
    let own = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let origin = head.headers.get(http::header::ORIGIN);
    let origin = origin.and_then(|origin| origin.to_str().ok());
    let is_own = origin
        .and_then(|origin| origin.split_once("://"))
        .is_some_and(|(_, authority)| own.is_some_and(|own| own.eq_ignore_ascii_case(authority)));
    let site = head.headers.get(FETCH_SITE);
    is_own && site.is_none_or(|site| site.as_bytes() == b"same-origin")
}

fn who_are_you(visit: &Visit, name: &str) -> Response<Bytes> {
    let page = Page::with(StatusCode::FORBIDDEN, "Who are you?");
    let page = match &visit.principal {
        None => page.say("This link is for the user of the machine that Mainstay runs on, in a browser there."),
        Some(_) => page
            .say("This link is for whoever made the call. Show that it is you: enter the token that your app uses for Mainstay. If somebody else sent you this link, do not.")
            .ask(&format!("{PREFIX}{name}"), "Token for this Mainstay", "token", "Go on"),
    };
    page.into_response()
}

fn cookies(head: &Parts) -> Vec<&str> {
    let lines = head.headers.get_all(COOKIE).iter();
    lines.filter_map(|line| line.to_str().ok()).collect()
}

fn set_cookie(response: &mut Response<Bytes>, cookie: &str) {
    if let Ok(mut value) = HeaderValue::try_from(cookie) {
        value.set_sensitive(true);
        response.headers_mut().insert(SET_COOKIE, value);
    }
}

fn wrong_method() -> Response<Bytes> {
    Page::with(StatusCode::METHOD_NOT_ALLOWED, "Not so").into_response()
}
