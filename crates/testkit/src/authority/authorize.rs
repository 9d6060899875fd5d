//! The page that a browser opens, with a person who agrees at once, and the start of a device's sign-in.

use serde_json::json;

use super::books::{Code, Device};
use super::http::{Reply, form};
use super::keys::random;
use super::script::Consent;
use super::state::State;
use super::token::{Form, scopes_of};

/// Sends the browser back with a code.
pub(super) fn page(state: &State, query: &str) -> Reply {
    let asked = form(query.as_bytes());
    let get = |name: &str| asked.get(name).map(String::as_str);
    let stay = |why: &str| Reply::text(400, "text/plain", why);
    let Some(client) = get("client_id").and_then(|id| state.client(id)) else {
        return stay("no such client");
    };
    let Some(back) = get("redirect_uri").filter(|uri| client.may_return_to(uri)) else {
        return stay("redirect_uri is none of the client's");
    };
    let Ok(mut back) = url::Url::parse(back) else {
        return stay("redirect_uri is no URL");
    };
    let outcome = decide(state, &asked);
    let script = state.script();
    {
        let mut pairs = back.query_pairs_mut();
        match &outcome {
            Ok(code) => pairs.append_pair("code", code),
            Err((error, why)) => pairs
                .append_pair("error", error)
                .append_pair("error_description", why),
        };
        let echoed = script.redirect_state.clone();
        if let Some(echoed) = echoed.unwrap_or_else(|| asked.get("state").cloned()) {
            pairs.append_pair("state", &echoed);
        }
        let issuer = script.redirect_iss.clone();
        if let Some(issuer) = issuer.unwrap_or_else(|| Some(state.issuer())) {
            pairs.append_pair("iss", &issuer);
        }
    }
    Reply::redirect(302, back.as_str())
}

fn decide(state: &State, asked: &Form) -> Result<String, (&'static str, String)> {
    let get = |name: &str| asked.get(name).map(String::as_str);
    let bad = |error, why: &str| Err((error, why.to_owned()));
    if get("response_type") != Some("code") {
        return bad("unsupported_response_type", "only code");
    }
    if get("code_challenge").is_none() || get("code_challenge_method") != Some("S256") {
        return bad("invalid_request", "PKCE with S256 is required");
    }
    if state.script().require_resource && get("resource").is_none() {
        return bad("invalid_target", "no resource is named");
    }
    let scopes = state
        .granted(&scopes_of(asked.get("scope")))
        .map_err(|refusal| (refusal.error, refusal.description))?;
    if state.script().consent == Consent::Deny {
        return bad("access_denied", "the person refused");
    }
    let code = random("code-");
    let subject = state.script().subject.clone();
    state.books().codes.insert(
        code.clone(),
        Code {
            client_id: get("client_id").unwrap_or_default().to_owned(),
            redirect_uri: get("redirect_uri").unwrap_or_default().to_owned(),
            challenge: asked.get("code_challenge").cloned(),
            scopes,
            resource: asked.get("resource").cloned(),
            subject,
            spent: None,
        },
    );
    Ok(code)
}

/// Hands out a device code (RFC 8628).
pub(super) fn device(state: &State, asked: &Form) -> Reply {
    let id = asked.get("client_id").cloned().unwrap_or_default();
    if state.client(&id).is_none() {
        return Reply::json(401, &json!({"error": "invalid_client"}));
    }
    let scopes = match state.granted(&scopes_of(asked.get("scope"))) {
        Ok(scopes) => scopes,
        Err(refusal) => return Reply::refusal(&refusal),
    };
    let code = random("device-");
    let (polls_left, interval, denied) = {
        let script = state.script();
        let denied = script.consent == Consent::Deny;
        (script.device_polls, script.device_interval_s, denied)
    };
    let device = Device {
        client_id: id,
        scopes,
        resource: asked.get("resource").cloned(),
        polls_left,
        denied,
    };
    state.books().devices.insert(code.clone(), device);
    let page = format!("{}/device", state.base());
    Reply::json(
        200,
        &json!({
            "device_code": code, "user_code": "WDJB-MJHT", "verification_uri": page,
            "verification_uri_complete": format!("{page}?user_code=WDJB-MJHT"),
            "expires_in": 600, "interval": interval,
        }),
    )
}
