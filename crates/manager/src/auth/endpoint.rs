//! One request to a token endpoint, and what its answer means. Every grant goes through here, and every refresh.
//!
//! Decides nothing: a refusal is reported as what it is, and only `invalid_grant` says that a grant is over (F210). Tokens are
//! hidden from everything that this process writes before anybody else sees them (law 31).

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::assertion::{self, SigningKey};
use super::engine::{SignInError, Step, TokenError};
use super::grant::{ClientAuth, Secret, Tokens};
use super::http::{self as client, Fault, OauthHttp};
use crate::secrets;

/// Most scopes of a grant that are kept.
const SCOPES_MAX: usize = 256;

/// Longest token, in bytes: what still fits into a header that servers accept.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Who we are at one token endpoint, with what proves it, for the moment of use.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) auth: ClientAuth,
    pub(crate) secret: Option<Secret>,
    pub(crate) key: Option<SigningKey>,
    /// For whom an assertion is made out: the issuer.
    pub(crate) audience: String,
}

/// Why a token endpoint gave no tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The `error` of the answer, if it is one that OAuth knows.
    pub(crate) code: Option<String>,
    /// What happened, with the address and the status.
    pub(crate) what: String,
    /// What was expected instead; empty where that is plain.
    pub(crate) expected: &'static str,
    /// What to do.
    pub(crate) remedy: &'static str,
    /// Whether another attempt may go better.
    pub(crate) transient: bool,
    /// It asked to be left alone for this long.
    pub(crate) retry_after_ms: Option<u64>,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self {
            code: None,
            what: fault.what,
            expected: "",
            remedy: fault.remedy,
            transient: fault.transient,
            retry_after_ms: None,
        }
    }
}

impl Refusal {
    /// As the end of one step of signing in.
    pub(crate) fn of(self, server: &str, step: Step) -> SignInError {
        let error = SignInError::new(server, step, self.what)
            .expected(self.expected)
            .remedy(self.remedy);
        if self.transient {
            error.transient()
        } else {
            error
        }
    }

    /// As the end of a refresh.
    pub(crate) fn of_refresh(self) -> TokenError {
        let remedy = match self.remedy {
            "" => String::new(),
            remedy => format!("; {remedy}"),
        };
        let what = format!("{}{remedy}", self.what);
        match self.code.as_deref() {
            Some("invalid_grant") => TokenError::Refused(what),
            Some(_) | None if self.transient => TokenError::Transient {
                what,
                retry_after_ms: self.retry_after_ms,
            },
            Some(_) | None => TokenError::Unusable(what),
        }
    }
}

/// Sends one token request and reads the tokens.
pub(crate) async fn tokens(
    http: &OauthHttp,
    endpoint: &str,
    client: &Client,
    parameters: &[(&str, &str)],
) -> Result<Tokens, Refusal> {
    let answer = post(http, endpoint, client, parameters).await?;
    let place = client::place_of(&endpoint.parse().unwrap_or_default());
    read_tokens(&answer, &place)
}

/// Tells an endpoint something, where nothing but success is wanted of the answer.
pub(crate) async fn tell(
    http: &OauthHttp,
    endpoint: &str,
    client: &Client,
    parameters: &[(&str, &str)],
) -> Result<(), Refusal> {
    let (response, place) = send(http, endpoint, client, parameters).await?;
    match response.status().is_success() {
        true => Ok(()),
        false => read_object(&response, &place).map(drop),
    }
}

/// Sends one form to an endpoint of an authorization server, with the proof of who we are, and reads a JSON object.
pub(crate) async fn post(
    http: &OauthHttp,
    endpoint: &str,
    client: &Client,
    parameters: &[(&str, &str)],
) -> Result<Map<String, Value>, Refusal> {
    let (response, place) = send(http, endpoint, client, parameters).await?;
    let given: Vec<&str> = parameters.iter().map(|(_, value)| *value).collect();
    read_object(&response, &place).map_err(|refusal| without(refusal, &given))
}

async fn send(
    http: &OauthHttp,
    endpoint: &str,
    client: &Client,
    parameters: &[(&str, &str)],
) -> Result<(Response<Vec<u8>>, String), Refusal> {
    let url = client::checked(endpoint).map_err(|fault| at(endpoint, fault.what))?;
    if !http.is_safe(&url) {
        let what = "it would carry secrets over a connection without TLS".to_owned();
        return Err(Refusal {
            remedy: "an authorization server needs https://, unless it is on this machine or `allowPrivateAddresses` is set",
            ..at(endpoint, what)
        });
    }
    let request = form_request(endpoint, client, parameters)?;
    let place = client::place_of(request.uri());
    let response = http.execute(request).await?;
    Ok((response, place))
}

/// The request that carries one form and the proof of who we are.
fn form_request(
    endpoint: &str,
    client: &Client,
    parameters: &[(&str, &str)],
) -> Result<Request<Vec<u8>>, Refusal> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(parameters);
    let mut request = Request::post(endpoint)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json");
    if let Some(header) = prove(client, &mut form).map_err(|why| at(endpoint, why))? {
        request = request.header(AUTHORIZATION, header);
    }
    request
        .body(form.finish().into_bytes())
        .map_err(|error| at(endpoint, error.to_string()))
}

/// What an authorization server repeats of our secrets is not shown (law 31, F257).
fn without(mut refusal: Refusal, given: &[&str]) -> Refusal {
    for value in given.iter().filter(|value| value.len() >= 16) {
        if refusal.what.contains(value) {
            refusal.what = refusal.what.replace(value, secrets::HIDDEN);
        }
    }
    refusal
}

/// Puts into the form who we are and what proves it, or returns the header that does.
fn prove(
    client: &Client,
    form: &mut form_urlencoded::Serializer<'_, String>,
) -> Result<Option<HeaderValue>, String> {
    let secret = || {
        let secret = client.secret.as_ref();
        secret.ok_or("the client has no secret, and its registration needs one".to_owned())
    };
    match client.auth {
        ClientAuth::None => {
            form.append_pair("client_id", &client.id);
        }
        ClientAuth::SecretPost => {
            form.append_pair("client_id", &client.id)
                .append_pair("client_secret", secret()?.expose());
        }
        ClientAuth::SecretBasic => {
            let encoded = |text: &str| -> String {
                form_urlencoded::byte_serialize(text.as_bytes()).collect()
            };
            let pair = format!("{}:{}", encoded(&client.id), encoded(secret()?.expose()));
            let text = format!("Basic {}", STANDARD.encode(pair));
            secrets::hide(text.trim_start_matches("Basic "));
            let mut header = HeaderValue::from_str(&text).map_err(|error| error.to_string())?;
            header.set_sensitive(true);
            return Ok(Some(header));
        }
        ClientAuth::PrivateKey => {
            let key = client.key.as_ref();
            let key = key.ok_or("the client has no private key".to_owned())?;
            let assertion = assertion::of_client(key, &client.id, &client.audience, unix_ms())?;
            form.append_pair("client_id", &client.id)
                .append_pair("client_assertion_type", assertion::CLIENT_ASSERTION_TYPE)
                .append_pair("client_assertion", &assertion);
        }
    }
    Ok(None)
}

/// The JSON object of a successful answer, or what the answer says instead.
fn read_object(response: &Response<Vec<u8>>, place: &str) -> Result<Map<String, Value>, Refusal> {
    let status = response.status();
    let retry_after_ms = client::retry_after_ms(response.headers());
    let object = match serde_json::from_slice(response.body()) {
        Ok(Value::Object(object)) => Some(object),
        Ok(_) | Err(_) => None,
    };
    let said = format!("{place} answered {}", client::said(response));
    let code = object
        .as_ref()
        .and_then(|object| object.get("error")?.as_str());
    if let (Some(code), Some(object)) = (code, &object) {
        return Err(error_answer(
            code,
            object,
            status.as_u16(),
            place,
            retry_after_ms,
        ));
    }
    match object {
        Some(object) if status.is_success() => Ok(object),
        Some(_) | None if status.is_redirection() => Err(Refusal {
            expected: "an answer, not a redirect: secrets are not sent again elsewhere",
            ..at(place, said)
        }),
        Some(_) | None if status.as_u16() == 401 || status.as_u16() == 403 => Err(Refusal {
            remedy: "check the client's id and secret",
            ..at(place, said)
        }),
        Some(_) | None => Err(Refusal {
            expected: "a JSON object",
            transient: true,
            retry_after_ms,
            ..at(place, said)
        }),
    }
}

/// What an `error` answer means (RFC 6749, section 5.2, and the others that use it).
fn error_answer(
    code: &str,
    object: &Map<String, Value>,
    status: u16,
    place: &str,
    retry_after_ms: Option<u64>,
) -> Refusal {
    let described = object.get("error_description").and_then(Value::as_str);
    let described = described.map_or(String::new(), |text| format!(" ({})", client::shown(text)));
    let code = client::shown(code);
    let remedy = match code.as_str() {
        "invalid_client" | "unauthorized_client" => {
            "check `clientId` and what proves it in the server's `auth`, and that the client may use this grant"
        }
        "invalid_scope" => "check `scopes` in the server's `auth`",
        "unsupported_grant_type" => "choose another `grant` in the server's `auth`",
        _ => "",
    };
    let busy = matches!(
        code.as_str(),
        "temporarily_unavailable" | "server_error" | "slow_down"
    );
    Refusal {
        what: format!("{place} answered {status}, `{code}`{described}"),
        expected: "",
        remedy,
        transient: code != "invalid_grant" && (busy || status >= 500 || status == 429),
        retry_after_ms,
        code: Some(code),
    }
}

/// The tokens of a successful answer.
fn read_tokens(object: &Map<String, Value>, place: &str) -> Result<Tokens, Refusal> {
    let text = |key: &str| {
        let text = object.get(key).and_then(Value::as_str).map(str::trim);
        text.filter(|text| !text.is_empty() && text.len() <= TOKEN_BYTES_MAX)
    };
    let Some(access) = text("access_token") else {
        let members: Vec<&str> = object.keys().take(12).map(String::as_str).collect();
        let what = format!(
            "{place} answered 200 without `access_token`, with the members {}",
            client::shown(&format!("{members:?}"))
        );
        return Err(Refusal {
            expected: "a JSON object with `access_token` and `token_type`",
            transient: true,
            ..at(place, what)
        });
    };
    // Hidden before anything else can write it down.
    secrets::hide(access);
    text("refresh_token").into_iter().for_each(secrets::hide);
    let kind = text("token_type").unwrap_or("Bearer");
    if !kind.eq_ignore_ascii_case("bearer") {
        let what = format!("{place} gave a token of the type `{}`", client::shown(kind));
        return Err(Refusal {
            expected: "a bearer token",
            ..at(place, what)
        });
    }
    if HeaderValue::from_str(access).is_err() {
        let what = format!("{place} gave a token that no header can carry");
        return Err(at(place, what));
    }
    let lifetime = object.get("expires_in").and_then(seconds);
    let scopes = text("scope").unwrap_or_default().split_ascii_whitespace();
    Ok(Tokens {
        access: Secret::new(access),
        refresh: text("refresh_token").map(Secret::new),
        scopes: scopes
            .take(SCOPES_MAX)
            .map(str::to_owned)
            .collect::<BTreeSet<_>>(),
        received_unix_ms: unix_ms(),
        lifetime_ms: lifetime.map(|seconds| seconds.saturating_mul(1_000)),
    })
}

/// A number of seconds, also from servers that write it as a text or with a fraction.
pub(crate) fn seconds(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| {
            let number = number.as_f64()?;
            // Saturates, and is bounded by what a lifetime can be.
            (number >= 0.0).then_some(number as u64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn at(place: &str, what: String) -> Refusal {
    let what = match what.contains(place) {
        true => what,
        false => format!("{place}: {what}"),
    };
    Refusal {
        code: None,
        what,
        expected: "",
        remedy: "",
        transient: false,
        retry_after_ms: None,
    }
}

/// Now, in milliseconds of the Unix clock.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &str = "https://as.example/token";

    fn read(status: u16, kind: &str, body: &str) -> Result<Tokens, Refusal> {
        let response = Response::builder()
            .status(status)
            .header(CONTENT_TYPE, kind)
            .body(body.as_bytes().to_vec())
            .expect("good");
        read_object(&response, PLACE).and_then(|object| read_tokens(&object, PLACE))
    }

    #[test]
    fn f210_only_invalid_grant_ends_a_grant() {
        let refresh = |status, kind: &str, body: &str| {
            read(status, kind, body).expect_err("refused").of_refresh()
        };
        let json = "application/json";
        assert!(matches!(
            refresh(400, json, r#"{"error":"invalid_grant","error_description":"gone"}"#),
            TokenError::Refused(what) if what.contains("gone") && what.contains(PLACE)
        ));
        for (status, kind, body) in [
            (503, json, r#"{"error":"temporarily_unavailable"}"#),
            (500, json, r#"{"error":"server_error"}"#),
            (429, json, r#"{"error":"slow_down"}"#),
            (500, "text/html", "<html>oops"),
            (400, "text/html", "<html>WAF"),
            (200, "text/html", "<html>sign in first"),
            (200, json, "{}"),
            (200, json, "[]"),
            (404, "text/plain", "not found"),
            (200, json, r#"{"access_token":""}"#),
        ] {
            let error = refresh(status, kind, body);
            assert!(
                matches!(&error, TokenError::Transient { what, .. } if what.contains(PLACE)),
                "{status} {body}: {error:?}"
            );
        }
        for (status, body) in [
            (401, r#"{"error":"invalid_client"}"#),
            (400, r#"{"error":"unsupported_grant_type"}"#),
            (307, ""),
            (200, r#"{"access_token":"a.b","token_type":"DPoP"}"#),
        ] {
            let error = refresh(status, json, body);
            assert!(
                matches!(error, TokenError::Unusable(_)),
                "{body}: {error:?}"
            );
        }
    }

    #[test]
    fn an_answer_that_is_not_what_it_should_be_says_what_it_is_and_what_was_expected() {
        let error = read(200, "text/html", "<!DOCTYPE html><title>Login</title>");
        let error = error
            .expect_err("refused")
            .of("notes", Step::Token)
            .to_string();
        for part in [
            "`notes`",
            "exchanging the code",
            PLACE,
            "200, text/html",
            "<!DOCTYPE html>",
            "a JSON object",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = read(200, "application/json", r#"{"token":"s3cret-s3cret"}"#);
        let error = error
            .expect_err("refused")
            .of("notes", Step::Token)
            .to_string();
        assert!(
            error.contains("without `access_token`") && !error.contains("s3cret-s3cret"),
            "{error}"
        );
    }

    #[test]
    fn answers_of_servers_in_the_field_are_read() {
        let body = r#"{"access_token":"at","token_type":"bearer","expires_in":"3600","scope":"a b","refresh_token":""}"#;
        let tokens = read(200, "application/json", body).expect("tokens");
        assert_eq!(tokens.lifetime_ms, Some(3_600_000));
        assert_eq!(tokens.refresh, None, "an empty one is none");
        assert_eq!(tokens.scopes.len(), 2);
        // GitHub answers errors with 200.
        let error = read(
            200,
            "application/json",
            r#"{"error":"bad_verification_code"}"#,
        );
        assert_eq!(
            error.expect_err("refused").code.as_deref(),
            Some("bad_verification_code")
        );
    }

    #[test]
    fn law_31_a_secret_that_the_server_repeats_is_not_shown() {
        let refusal = at(PLACE, "no such code: 0123456789abcdef0123".to_owned());
        let refusal = without(refusal, &["0123456789abcdef0123", "authorization_code"]);
        assert!(refusal.what.ends_with("[hidden]"), "{}", refusal.what);
    }
}
