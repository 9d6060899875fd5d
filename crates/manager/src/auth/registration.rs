//! Makes us known to an authorization server that has never heard of us (RFC 7591).
//!
//! What comes of it belongs to that issuer alone and travels with the grant: id, secret, and how it proves itself. Ours and not
//! rmcp's, which forgets the last two.

use ::http::header::{ACCEPT, CONTENT_TYPE};
use ::http::{Request, Response};
use serde_json::{Map, Value, json};

use super::discovery::Found;
use super::engine::{SignInError, Step};
use super::grant::{ClientAuth, ClientIdentity, ClientSource, Secret};
use super::http::{self, shown};
use super::rmcp::Setup;
use crate::config::CLIENT_NAME;
use crate::secrets;

/// The ways in which a registered client can prove itself, those that are asked for first before the others.
const METHODS: [(&str, ClientAuth); 3] = [
    ("none", ClientAuth::None),
    ("client_secret_basic", ClientAuth::SecretBasic),
    ("client_secret_post", ClientAuth::SecretPost),
];

/// Longest client id, in bytes.
const ID_BYTES_MAX: usize = 2_048;

/// Registers a client, for a browser that comes back to `redirect_uri`, or for device codes.
pub(crate) async fn register(
    setup: &Setup<'_>,
    found: &Found,
    redirect_uri: Option<&str>,
) -> Result<ClientIdentity, SignInError> {
    let Some(endpoint) = found.metadata.registration_endpoint.as_deref() else {
        return Err(setup
            .error(
                Step::Registration,
                format!("{} registers no clients by itself", shown(&found.issuer)),
            )
            .remedy(
                "register Mainstay there by hand and write its `clientId` (and `clientSecret`) into the server's `auth`",
            ));
    };
    let wrong = |what: String| setup.error(Step::Registration, what);
    let url = http::checked(endpoint)
        .map_err(|fault| wrong(format!("`registration_endpoint` {}", fault.what)))?;
    if !setup.http.is_safe(&url) {
        let what = format!(
            "`registration_endpoint`, {}, is not https://",
            shown(endpoint)
        );
        return Err(wrong(what));
    }
    let (word, _) = method_for(found);
    let mut body = document(setup, found, redirect_uri, word);
    let (mut response, mut place) = post(setup, endpoint, &body).await?;
    let scope = body
        .as_object_mut()
        .and_then(|members| members.remove("scope"));
    if scope.is_some() && is_refused_document(&response) {
        // Scopes of a resource are none of the issuer's own to some, which then refuse the whole document. They are asked for
        // with the authorization anyway.
        (response, place) = post(setup, endpoint, &body).await?;
    }
    read(setup, found, &response, &place)
}

async fn post(
    setup: &Setup<'_>,
    endpoint: &str,
    body: &Value,
) -> Result<(Response<Vec<u8>>, String), SignInError> {
    let wrong = |what: String| setup.error(Step::Registration, what);
    let request = Request::post(endpoint)
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(|error| wrong(error.to_string()))?;
    let place = http::place_of(request.uri());
    let response = setup.http.execute(request).await.map_err(|fault| {
        let error = wrong(fault.what).remedy(fault.remedy);
        if fault.transient {
            error.transient()
        } else {
            error
        }
    })?;
    Ok((response, place))
}

/// Whether what we said of ourselves was understood and not liked.
fn is_refused_document(response: &Response<Vec<u8>>) -> bool {
    let object: Option<Map<String, Value>> = serde_json::from_slice(response.body()).ok();
    let error = object.as_ref().and_then(|object| object.get("error"));
    response.status().is_client_error()
        && error.and_then(Value::as_str) == Some("invalid_client_metadata")
}

/// How we ask to prove ourselves: not at all where that is enough.
fn method_for(found: &Found) -> (&'static str, ClientAuth) {
    let methods = found.words("token_endpoint_auth_methods_supported");
    let taken = |word: &str| methods.as_ref().is_none_or(|list| list.contains(&word));
    let first = METHODS.into_iter().find(|(word, _)| taken(word));
    first.unwrap_or(("none", ClientAuth::None))
}

/// What we say of ourselves.
fn document(setup: &Setup<'_>, found: &Found, redirect_uri: Option<&str>, method: &str) -> Value {
    let name = setup.auth.client_name.as_deref().unwrap_or(CLIENT_NAME);
    let scopes: Vec<String> = setup.scopes(found).into_iter().collect();
    let mut document = json!({
        "client_name": name,
        "application_type": "native",
        "token_endpoint_auth_method": method,
    });
    let Some(members) = document.as_object_mut() else {
        return document;
    };
    match redirect_uri {
        Some(redirect_uri) => {
            members.insert("redirect_uris".into(), json!([redirect_uri]));
            members.insert("response_types".into(), json!(["code"]));
            members.insert(
                "grant_types".into(),
                json!(["authorization_code", "refresh_token"]),
            );
        }
        None => {
            members.insert("redirect_uris".into(), json!([]));
            members.insert("response_types".into(), json!([]));
            members.insert(
                "grant_types".into(),
                json!([super::device::GRANT_TYPE, "refresh_token"]),
            );
        }
    }
    if !scopes.is_empty() {
        members.insert("scope".into(), scopes.join(" ").into());
    }
    document
}

fn read(
    setup: &Setup<'_>,
    found: &Found,
    response: &Response<Vec<u8>>,
    place: &str,
) -> Result<ClientIdentity, SignInError> {
    let status = response.status();
    let object: Option<Map<String, Value>> = serde_json::from_slice(response.body()).ok();
    let text = |member: &str| {
        let text = object.as_ref()?.get(member)?.as_str()?;
        (!text.is_empty()).then_some(text)
    };
    if !status.is_success() {
        let why = text("error").map_or(String::new(), |error| {
            let described = text("error_description").unwrap_or_default();
            format!(": `{}` {}", shown(error), shown(described))
        });
        let what = format!(
            "{place} answered {}{}",
            http::said(response),
            why.trim_end()
        );
        let error = setup
            .error(Step::Registration, what)
            .expected("201 with a `client_id`")
            .remedy("if it registers no clients by itself, do it by hand and write the `clientId` into the server's `auth`");
        let transient = status.is_server_error() || status.as_u16() == 429;
        return Err(if transient { error.transient() } else { error });
    }
    let id = text("client_id").filter(|id| id.len() <= ID_BYTES_MAX);
    let Some(id) = id else {
        let what = format!(
            "{place} answered {}, without `client_id`",
            http::said(response)
        );
        return Err(setup
            .error(Step::Registration, what)
            .expected("a JSON object with `client_id`"));
    };
    let secret = text("client_secret");
    secret.into_iter().for_each(secrets::hide);
    let auth = match text("token_endpoint_auth_method") {
        Some(word) => match METHODS.into_iter().find(|(known, _)| *known == word) {
            Some((_, auth)) => auth,
            None => {
                let what = format!(
                    "{place} wants the client to prove itself by `{}`",
                    shown(word)
                );
                return Err(setup
                    .error(Step::Registration, what)
                    .expected("`none`, `client_secret_basic` or `client_secret_post`"));
            }
        },
        None => unsaid(found, secret.is_some()),
    };
    if auth != ClientAuth::None && secret.is_none() {
        let what = format!("{place} gave no `client_secret`, and wants one shown");
        return Err(setup.error(Step::Registration, what));
    }
    Ok(ClientIdentity {
        id: id.into(),
        secret: secret.filter(|_| auth != ClientAuth::None).map(Secret::new),
        auth,
        source: ClientSource::Registered,
    })
}

/// How to prove ourselves where the registration does not say: with the secret that it gave, if the issuer takes secrets.
fn unsaid(found: &Found, has_secret: bool) -> ClientAuth {
    if !has_secret {
        return ClientAuth::None;
    }
    let methods = found.words("token_endpoint_auth_methods_supported");
    let taken = |word: &str| methods.as_ref().is_none_or(|list| list.contains(&word));
    if taken("client_secret_basic") {
        ClientAuth::SecretBasic
    } else if taken("client_secret_post") {
        ClientAuth::SecretPost
    } else {
        ClientAuth::None
    }
}
