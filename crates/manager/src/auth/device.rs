//! A person signs in on another device, with a code (RFC 8628).

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

use super::browser::document_of;
use super::endpoint::{self, seconds, unix_ms};
use super::engine::{Login, Polled, SignInError, Step};
use super::grant::{ClientIdentity, Secret};
use super::http::{self, shown};
use super::registration;
use super::rmcp::{Issuer, Setup};
use crate::secrets;

/// The word for it.
pub(crate) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// How long to wait between two questions where the server does not say, in milliseconds (RFC 8628, section 3.2).
const POLL_MS: u64 = 5_000;

/// The longest wait between two questions.
const POLL_MS_MAX: u64 = 60_000;

/// How much longer to wait after `slow_down`, and the longest that a code is waited for.
const SLOWER_MS: u64 = 5_000;
const LOGIN_MS_MAX: u64 = 30 * 60 * 1_000;

/// Longest code that a person could type.
const USER_CODE_CHARS_MAX: usize = 64;

/// What a login with a code needs to be ended.
struct Notes {
    code: Secret,
    issuer: Issuer,
    client: ClientIdentity,
    wait_ms: AtomicU64,
}

/// Asks for a code.
pub(crate) async fn begin(setup: &Setup<'_>) -> Result<Login, SignInError> {
    let found = setup.discover().await?;
    let Some(endpoint) = found
        .text("device_authorization_endpoint")
        .map(str::to_owned)
    else {
        let what = format!("{} gives no device codes", shown(&found.issuer));
        return Err(setup
            .error(Step::Device, what)
            .expected("`device_authorization_endpoint` in its metadata")
            .remedy("sign in with a browser instead"));
    };
    let client = match setup.configured(&found)? {
        Some(client) => client,
        None => match document_of(setup, &found)? {
            Some(client) => client,
            None => registration::register(setup, &found, None).await?,
        },
    };
    let issuer = Issuer::of(&found, setup.scopes(&found));
    let scope = issuer.scope();
    let mut parameters = vec![("resource", issuer.resource.as_str())];
    parameters.extend(scope.as_deref().map(|scope| ("scope", scope)));
    let proof = setup.client(&client, &issuer.issuer)?;
    let answer = endpoint::post(&setup.http, &endpoint, &proof, &parameters)
        .await
        .map_err(|refusal| refusal.of(setup.server(), Step::Device))?;
    login(setup, &answer, issuer, client)
}

fn login(
    setup: &Setup<'_>,
    answer: &Map<String, Value>,
    issuer: Issuer,
    client: ClientIdentity,
) -> Result<Login, SignInError> {
    let text = |member: &str| answer.get(member).and_then(Value::as_str);
    let missing = |member: &str| {
        setup
            .error(Step::Device, format!("the answer has no usable `{member}`"))
            .expected("a JSON object with `device_code`, `user_code`, `verification_uri` and `expires_in`")
    };
    let code = text("device_code").filter(|code| !code.is_empty());
    let code = code.ok_or_else(|| missing("device_code"))?;
    secrets::hide(code);
    let printable = |code: &&str| {
        !code.is_empty()
            && code.chars().count() <= USER_CODE_CHARS_MAX
            && !code.chars().any(char::is_control)
    };
    let user_code = text("user_code").filter(printable);
    let user_code = user_code.ok_or_else(|| missing("user_code"))?;
    let place = text("verification_uri_complete")
        .or_else(|| text("verification_uri"))
        .or_else(|| text("verification_url"))
        .ok_or_else(|| missing("verification_uri"))?;
    // A person will open it: nothing but a web page (F241).
    let url = http::checked(place)
        .map_err(|fault| setup.error(Step::Device, format!("`verification_uri` {}", fault.what)))?;
    let lifetime_ms = answer.get("expires_in").and_then(seconds);
    let lifetime_ms = lifetime_ms.map_or(LOGIN_MS_MAX, |seconds| seconds.saturating_mul(1_000));
    let wait_ms = answer.get("interval").and_then(seconds);
    let wait_ms = wait_ms.map_or(POLL_MS, |seconds| seconds.saturating_mul(1_000));
    let wait_ms = wait_ms.clamp(1_000, POLL_MS_MAX);
    let notes = Notes {
        code: Secret::new(code),
        issuer,
        client,
        wait_ms: AtomicU64::new(wait_ms),
    };
    Ok(Login {
        url: url.as_str().into(),
        user_code: Some(user_code.into()),
        state: None,
        expires_unix_ms: unix_ms().saturating_add(lifetime_ms.min(LOGIN_MS_MAX)),
        poll_ms: Some(wait_ms),
        notes: Box::new(notes) as Box<dyn Any + Send + Sync>,
    })
}

/// Asks once whether the person is done.
pub(crate) async fn poll(setup: &Setup<'_>, login: &Login) -> Result<Polled, SignInError> {
    let Some(notes) = login.notes.downcast_ref::<Notes>() else {
        return Err(setup.error(Step::Device, "this login has no device code"));
    };
    let client = setup.client(&notes.client, &notes.issuer.issuer)?;
    let parameters = [
        ("grant_type", GRANT_TYPE),
        ("device_code", notes.code.expose()),
        ("resource", notes.issuer.resource.as_str()),
    ];
    let asked = endpoint::tokens(
        &setup.http,
        &notes.issuer.token_endpoint,
        &client,
        &parameters,
    );
    let refusal = match asked.await {
        Ok(tokens) => {
            let grant = setup.grant(&notes.issuer, notes.client.clone(), tokens);
            return Ok(Polled::Granted(grant));
        }
        Err(refusal) => refusal,
    };
    let wait_ms = notes.wait_ms.load(Ordering::Relaxed);
    let slower_ms = (wait_ms + SLOWER_MS).min(POLL_MS_MAX);
    let wait_ms = match refusal.code.as_deref() {
        Some("authorization_pending") => wait_ms,
        Some("slow_down") => slower_ms,
        Some("access_denied") => {
            return Err(setup
                .error(Step::Device, "it was refused on the other device")
                .remedy("sign in again and allow it"));
        }
        Some("expired_token") => {
            return Err(setup
                .error(Step::Device, "the code expired before anybody used it")
                .remedy("sign in again"));
        }
        Some(_) | None if refusal.transient => refusal
            .retry_after_ms
            .unwrap_or(slower_ms)
            .clamp(wait_ms, POLL_MS_MAX),
        Some(_) | None => return Err(refusal.of(setup.server(), Step::Device)),
    };
    notes.wait_ms.store(wait_ms, Ordering::Relaxed);
    Ok(Polled::Pending { wait_ms })
}
