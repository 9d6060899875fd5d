//! Who a client is: secrets, signed assertions, documents behind URLs.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::Value;

use super::books::Client;
use super::keys::claims;
use super::state::State;
use super::token::{Form, Refusal, refuse};

/// A client that says who it is.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) id: String,
    /// Whether it showed a secret or a signature.
    pub(super) proven: bool,
}

/// Identifies the client of a token request.
pub(super) fn identify(
    state: &State,
    authorization: Option<&str>,
    form: &Form,
) -> Result<Identity, Refusal> {
    let bad = |why: &str| refuse("invalid_client", why);
    let (id, secret) = match authorization.and_then(basic) {
        Some((id, secret)) => (id, Some(secret)),
        None => {
            let assertion = form.get("client_assertion");
            let subject = assertion.and_then(|assertion| claims(assertion));
            let subject = subject.as_ref().and_then(|claims| claims.get("sub"));
            let id = form.get("client_id").map(String::as_str);
            let id = id.or(subject.and_then(Value::as_str)).unwrap_or_default();
            (id.to_owned(), form.get("client_secret").cloned())
        }
    };
    let Some(client) = state.client(&id) else {
        return Err(bad("no such client"));
    };
    if let Some(assertion) = form.get("client_assertion") {
        if !is_signed_by(&client, assertion) {
            return Err(bad("the assertion is not signed by a key of the client"));
        }
        check_assertion(state, &id, assertion)?;
        return Ok(Identity { id, proven: true });
    }
    match (&client.secret, secret) {
        (Some(known), Some(given)) if *known == given => Ok(Identity { id, proven: true }),
        (Some(_), _) => Err(bad("the secret is missing or wrong")),
        (None, _) if client.jwks.is_some() => Err(bad("a signed assertion is missing")),
        (None, _) => Ok(Identity { id, proven: false }),
    }
}

fn check_assertion(state: &State, id: &str, assertion: &str) -> Result<(), Refusal> {
    let bad = |why: &str| refuse("invalid_client", why);
    let claims = claims(assertion).unwrap_or_default();
    let is_id = |name: &str| claims.get(name).and_then(Value::as_str) == Some(id);
    if !is_id("iss") || !is_id("sub") {
        return Err(bad("iss and sub of the assertion must be the client"));
    }
    let audiences = match claims.get("aud") {
        Some(Value::Array(all)) => all.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    };
    let ours = [state.issuer(), format!("{}/token", state.base())];
    let is_ours = |aud: &Value| {
        aud.as_str()
            .is_some_and(|aud| ours.iter().any(|our| our == aud))
    };
    if !audiences.iter().any(is_ours) {
        return Err(bad("the assertion is for another server"));
    }
    let expires_s = claims
        .get("exp")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    if expires_s * 1000 <= state.now_unix_ms() {
        return Err(bad("the assertion has expired"));
    }
    Ok(())
}

/// User and password of an `Authorization` header, each form-encoded (RFC 6749, 2.3.1).
fn basic(header: &str) -> Option<(String, String)> {
    let coded = header.strip_prefix("Basic ")?;
    let plain = String::from_utf8(STANDARD.decode(coded).ok()?).ok()?;
    let (id, secret) = plain.split_once(':')?;
    let decoded = |text: &str| {
        let form = format!("a={text}");
        let mut pairs = url::form_urlencoded::parse(form.as_bytes());
        pairs.next().map(|(_, value)| value.into_owned())
    };
    Some((decoded(id)?, decoded(secret)?))
}

fn is_signed_by(client: &Client, assertion: &str) -> bool {
    let keys = client.jwks.as_ref().and_then(|jwks| jwks.get("keys"));
    let Some((signed, signature)) = assertion.rsplit_once('.') else {
        return false;
    };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else {
        return false;
    };
    let keys = keys.and_then(Value::as_array).into_iter().flatten();
    keys.filter_map(point).any(|point| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &signature)
            .is_ok()
    })
}

/// The uncompressed point of a public key.
fn point(key: &Value) -> Option<Vec<u8>> {
    let part = |name: &str| {
        let text = key.get(name).and_then(Value::as_str)?;
        URL_SAFE_NO_PAD.decode(text).ok()
    };
    Some([vec![4], part("x")?, part("y")?].concat())
}
