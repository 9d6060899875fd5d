//! The token endpoint: every grant that clients of ours use, with rotation and the detection of reuse.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::books::Family;
use super::client::Identity;
use super::keys::{challenge, random};
use super::ledger::Outcome;
use super::script::RefreshReply;
use super::state::State;

/// What a token request comes to: its answer and what the ledger says of it.
pub(super) type Reply = Result<(Value, Outcome), Refusal>;

/// An error of RFC 6749.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) error: &'static str,
    pub(super) description: String,
}

pub(super) fn refuse(error: &'static str, description: &str) -> Refusal {
    let status = if error == "invalid_client" { 401 } else { 400 };
    Refusal {
        status,
        error,
        description: description.to_owned(),
    }
}

pub(super) type Form = BTreeMap<String, String>;

pub(super) const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
pub(super) const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(super) const BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

/// What tokens are to be issued for.
struct Issue<'a> {
    subject: &'a str,
    client_id: &'a str,
    resource: Option<&'a str>,
    scopes: &'a [String],
    family: Option<u64>,
}

pub(super) fn serve(state: &State, form: &Form, client: &Identity) -> Reply {
    let get = |name: &str| form.get(name).map(String::as_str);
    if state.script().require_resource && get("resource").is_none() {
        return Err(refuse("invalid_target", "no resource is named"));
    }
    match get("grant_type").unwrap_or_default() {
        "authorization_code" => code(state, form, client),
        "refresh_token" => refresh(state, form, client),
        "client_credentials" => by_itself(state, form, client),
        DEVICE => device(state, form, client),
        EXCHANGE => exchange(state, form, client),
        BEARER => assertion(state, form, client),
        _ => Err(refuse("unsupported_grant_type", "no such grant")),
    }
}

pub(super) fn scopes_of(text: Option<&String>) -> Vec<String> {
    let text = text.map(String::as_str).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn code(state: &State, form: &Form, client: &Identity) -> Reply {
    let bad = |why: &str| refuse("invalid_grant", why);
    let given = form.get("code").map(String::as_str).unwrap_or_default();
    let mut books = state.books();
    let Some(code) = books.codes.get(given).cloned() else {
        return Err(bad("no such code"));
    };
    if let Some(family) = code.spent {
        let lived = books.revoke(family);
        state.ledger.count(|counts| {
            counts.code_replays += 1;
            counts.revocations += u64::from(lived);
        });
        return Err(bad("the code was used before"));
    }
    if code.client_id != client.id {
        return Err(bad("the code is another client's"));
    }
    if form.get("redirect_uri") != Some(&code.redirect_uri) {
        return Err(bad("redirect_uri is not that of the code"));
    }
    let verifier = form.get("code_verifier").map(|text| challenge(text));
    if code.challenge.is_none() || code.challenge != verifier {
        return Err(bad("code_verifier does not match"));
    }
    let resource = form.get("resource").cloned().or(code.resource.clone());
    if code.resource.is_some() && resource != code.resource {
        return Err(refuse("invalid_target", "resource is not that of the code"));
    }
    let family = books.family(
        &code.subject,
        &client.id,
        resource.clone(),
        code.scopes.clone(),
    );
    if let Some(known) = books.codes.get_mut(given) {
        known.spent = Some(family);
    }
    drop(books);
    state.ledger.count(|counts| counts.codes += 1);
    let issue = Issue {
        subject: &code.subject,
        client_id: &client.id,
        resource: resource.as_deref(),
        scopes: &code.scopes,
        family: Some(family),
    };
    Ok((
        answer(state, &issue, true),
        Outcome::Issued {
            family: Some(family),
        },
    ))
}

/// What a refresh request gets before anything is issued: the family that it is good for, or an answer at once.
enum Found {
    Good(Family),
    Again(Reply),
}

/// Looks a refresh token up. A spent one ends its family, except within the leeway.
fn find(state: &State, given: &str, client: &Identity) -> Result<Found, Refusal> {
    let bad = |why: &str| refuse("invalid_grant", why);
    let leeway_ms = state.script().leeway_ms;
    let now = state.now_unix_ms();
    let mut books = state.books();
    let Some(family) = books.family_of(given).cloned() else {
        return Err(bad("no such refresh token"));
    };
    if family.client_id != client.id {
        return Err(bad("the refresh token is another client's"));
    }
    if !family.alive {
        return Err(bad("the grant was revoked"));
    }
    let Some(token) = books.refresh.get_mut(given) else {
        return Err(bad("no such refresh token"));
    };
    if let Some((when, answer)) = &token.spent {
        if when.elapsed() < Duration::from_millis(leeway_ms) {
            let outcome = Outcome::Repeated { family: family.id };
            return Ok(Found::Again(Ok((answer.clone(), outcome))));
        }
        books.revoke(family.id);
        state.ledger.count(|counts| {
            counts.reuses += 1;
            counts.revocations += 1;
        });
        return Err(bad(
            "the refresh token was used before; the grant is revoked",
        ));
    }
    if token.expires_unix_ms <= now {
        return Err(bad("the refresh token has expired"));
    }
    Ok(Found::Good(family))
}

fn refresh(state: &State, form: &Form, client: &Identity) -> Reply {
    let given = form.get("refresh_token").cloned().unwrap_or_default();
    let reply = state.script().refresh_reply;
    let family = match find(state, &given, client)? {
        Found::Good(family) => family,
        Found::Again(again) => return again,
    };
    let resource = form.get("resource").or(family.resource.as_ref());
    if family.resource.is_some() && resource != family.resource.as_ref() {
        return Err(refuse(
            "invalid_target",
            "resource is not that of the grant",
        ));
    }
    let mut scopes = scopes_of(form.get("scope"));
    if scopes.iter().any(|scope| !family.scopes.contains(scope)) {
        return Err(refuse("invalid_scope", "more than was granted"));
    }
    if scopes.is_empty() {
        scopes.clone_from(&family.scopes);
    }
    if let Some(family) = state.books().families.get_mut(&family.id) {
        family.rotations += 1;
    }
    state.ledger.count(|counts| counts.refreshes += 1);
    let issue = Issue {
        subject: &family.subject,
        client_id: &client.id,
        resource: resource.map(String::as_str),
        scopes: &scopes,
        family: Some(family.id),
    };
    let mut body = answer(state, &issue, reply == RefreshReply::Rotated);
    match reply {
        RefreshReply::Rotated => {
            if let Some(token) = state.books().refresh.get_mut(&given) {
                token.spent = Some((Instant::now(), body.clone()));
            }
        }
        RefreshReply::Same => body["refresh_token"] = json!(given),
        RefreshReply::None => {}
    }
    let family = Some(family.id);
    Ok((body, Outcome::Issued { family }))
}

fn by_itself(state: &State, form: &Form, client: &Identity) -> Reply {
    if !client.proven {
        return Err(refuse(
            "invalid_client",
            "a client without a secret cannot do this",
        ));
    }
    let scopes = state.granted(&scopes_of(form.get("scope")))?;
    let issue = Issue {
        subject: &client.id,
        client_id: &client.id,
        resource: form.get("resource").map(String::as_str),
        scopes: &scopes,
        family: None,
    };
    Ok((
        answer(state, &issue, false),
        Outcome::Issued { family: None },
    ))
}

fn device(state: &State, form: &Form, client: &Identity) -> Reply {
    state.ledger.count(|counts| counts.device_polls += 1);
    let given = form.get("device_code").cloned().unwrap_or_default();
    let mut books = state.books();
    let Some(device) = books.devices.get_mut(&given) else {
        return Err(refuse("expired_token", "no such device code"));
    };
    if device.client_id != client.id {
        return Err(refuse("invalid_grant", "the code is another client's"));
    }
    if device.polls_left > 0 {
        device.polls_left -= 1;
        return Err(refuse("authorization_pending", "not yet"));
    }
    if device.denied {
        return Err(refuse("access_denied", "the person refused"));
    }
    let device = device.clone();
    books.devices.remove(&given);
    let subject = state.script().subject.clone();
    let family = books.family(
        &subject,
        &client.id,
        device.resource.clone(),
        device.scopes.clone(),
    );
    drop(books);
    let issue = Issue {
        subject: &subject,
        client_id: &client.id,
        resource: device.resource.as_deref(),
        scopes: &device.scopes,
        family: Some(family),
    };
    let family = Some(family);
    Ok((answer(state, &issue, true), Outcome::Issued { family }))
}

/// RFC 8693: a token of somebody for a token of the same somebody; and the first half of enterprise-managed
/// authorization, where the answer is an assertion for another authorization server.
fn exchange(state: &State, form: &Form, client: &Identity) -> Reply {
    let given = form
        .get("subject_token")
        .map(String::as_str)
        .unwrap_or_default();
    let claims = state.trusted_claims(given).ok_or_else(|| {
        refuse(
            "invalid_grant",
            "subject_token is none that is trusted here",
        )
    })?;
    let expires_s = claims.get("exp").and_then(Value::as_u64);
    if expires_s.is_some_and(|expires_s| expires_s.saturating_mul(1000) <= state.now_unix_ms()) {
        return Err(refuse("invalid_grant", "subject_token has expired"));
    }
    let subject = claims
        .get("sub")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let scopes = state.granted(&scopes_of(form.get("scope")))?;
    let outcome = Outcome::Issued { family: None };
    let resource = form.get("resource").or(form.get("audience"));
    if form.get("requested_token_type").map(String::as_str) == Some(ID_JAG) {
        let now = state.now_unix_ms() / 1000;
        let assertion = json!({
            "iss": state.issuer(), "sub": subject, "aud": form.get("audience"), "resource": form.get("resource"),
            "client_id": client.id, "scope": scopes.join(" "), "iat": now, "exp": now + 300, "jti": random("jag-"),
        });
        let assertion = state.sign(&json!({"typ": "oauth-id-jag+jwt"}), &assertion);
        let body = json!({
            "access_token": assertion, "issued_token_type": ID_JAG, "token_type": "N_A", "expires_in": 300,
        });
        return Ok((body, outcome));
    }
    let issue = Issue {
        subject,
        client_id: &client.id,
        resource: resource.map(String::as_str),
        scopes: &scopes,
        family: None,
    };
    let mut body = answer(state, &issue, false);
    body["issued_token_type"] = json!("urn:ietf:params:oauth:token-type:access_token");
    Ok((body, outcome))
}

/// RFC 7523: an assertion of a trusted issuer for a token.
fn assertion(state: &State, form: &Form, client: &Identity) -> Reply {
    let bad = |why: &str| refuse("invalid_grant", why);
    let given = form
        .get("assertion")
        .map(String::as_str)
        .unwrap_or_default();
    let claims = state
        .trusted_claims(given)
        .ok_or_else(|| bad("the assertion is none of a trusted issuer"))?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("aud").map(|aud| aud.trim_end_matches('/'))
        != Some(state.issuer().trim_end_matches('/'))
    {
        return Err(bad("the assertion is for another authorization server"));
    }
    let expires_s = claims
        .get("exp")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    if expires_s * 1000 <= state.now_unix_ms() {
        return Err(bad("the assertion has expired"));
    }
    if text("client_id").is_some_and(|id| id != client.id) {
        return Err(bad("the assertion is another client's"));
    }
    let wanted = form.get("scope").map(String::as_str).or(text("scope"));
    let scopes = state.granted(&scopes_of(wanted.map(str::to_owned).as_ref()))?;
    let resource = form
        .get("resource")
        .map(String::as_str)
        .or(text("resource"));
    let issue = Issue {
        subject: text("sub").unwrap_or_default(),
        client_id: &client.id,
        resource,
        scopes: &scopes,
        family: None,
    };
    Ok((
        answer(state, &issue, false),
        Outcome::Issued { family: None },
    ))
}

/// The answer with the tokens in it.
fn answer(state: &State, issue: &Issue<'_>, with_refresh: bool) -> Value {
    let script = state.script().clone();
    let now = state.now_unix_ms();
    let expires_unix_ms = now + script.access_ms;
    let access = state.access_token(
        &json!({
            "sub": issue.subject, "client_id": issue.client_id, "aud": issue.resource,
            "scope": issue.scopes.join(" "),
        }),
        expires_unix_ms,
        issue.family,
    );
    let mut body = json!({
        "access_token": access, "token_type": "Bearer", "expires_in": script.access_ms.div_ceil(1000),
    });
    match script.expires_in {
        Some(Some(told)) => body["expires_in"] = told,
        Some(None) => {
            body.as_object_mut().map(|body| body.remove("expires_in"));
        }
        None => {}
    }
    if script.tell_scope && !issue.scopes.is_empty() {
        body["scope"] = json!(issue.scopes.join(" "));
    }
    if issue.scopes.iter().any(|scope| scope == "openid") {
        let claims = json!({
            "iss": state.issuer(), "sub": issue.subject, "aud": issue.client_id,
            "iat": now / 1000, "exp": expires_unix_ms.div_ceil(1000),
        });
        body["id_token"] = json!(state.sign(&json!({"typ": "JWT"}), &claims));
    }
    if let (true, true, Some(family)) = (with_refresh, script.issue_refresh, issue.family) {
        let refresh = state.books().new_refresh(family, now + script.refresh_ms);
        body["refresh_token"] = json!(refresh);
    }
    body
}
