//! Signed tokens: what one says, and whether it says it to us, now, under a signature of its issuer.
//!
//! Pure: bytes, keys and the time go in, a verdict comes out. Nothing of a token is believed before its signature is
//! verified, except the name of its issuer, by which the keys are chosen.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mainstay::Principal;
use mainstay::auth::{Secret, Subject};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Why;
use super::jwks::{Algorithm, Keys};
use crate::serve::caller::{By, Caller, Ended};

/// Longest token that is looked at, in bytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// What is kept of claims at most.
const CLAIMS_MAX: usize = 64;
const VALUES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 512;

/// What a token may call itself.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// No time that is meant is later than this, in seconds since 1970.
const SECONDS_MAX: f64 = 1e11;

/// The head of a token.
#[derive(Debug, Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
    b64: Option<bool>,
}

/// A token, taken apart. Nothing in it is verified.
pub(crate) struct Parted<'t> {
    token: &'t str,
    algorithm: Algorithm,
    key: Option<String>,
    message: &'t [u8],
    signature: Vec<u8>,
    claims: Map<String, Value>,
}

impl std::fmt::Debug for Parted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parted")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl<'t> Parted<'t> {
    /// Takes a token apart.
    pub(crate) fn of(token: &'t str) -> Result<Self, Why> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Why::TooLong);
        }
        let mut parts = token.splitn(4, '.');
        let (Some(head), Some(body), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Why::Malformed);
        };
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Why::Malformed);
        let own: Head = serde_json::from_slice(&bytes(head)?).map_err(|_| Why::Malformed)?;
        let algorithm = Algorithm::named(&own.alg).ok_or(Why::Algorithm)?;
        // Something that must be understood, and is not.
        if own.crit.is_some() || own.b64.is_some() {
            return Err(Why::Malformed);
        }
        let is_access_token = own
            .typ
            .is_none_or(|typ| TYPES.iter().any(|known| typ.eq_ignore_ascii_case(known)));
        if !is_access_token {
            return Err(Why::Type);
        }
        let claims = serde_json::from_slice(&bytes(body)?).map_err(|_| Why::Malformed)?;
        let message = token
            .as_bytes()
            .get(..head.len() + 1 + body.len())
            .ok_or(Why::Malformed)?;
        Ok(Self {
            token,
            algorithm,
            key: own.kid,
            message,
            signature: bytes(signature)?,
            claims,
        })
    }

    /// Who says that they signed it.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// Whether it says of itself that it does not hold now, which may be believed without a signature.
    pub(crate) fn is_over(&self, rules: &Rules<'_>, now: u64) -> Result<(), Why> {
        rules.times(&self.claims, now).map(drop)
    }

    /// Whether one of these keys could have.
    pub(crate) fn could_be_of(&self, keys: &Keys) -> bool {
        keys.has(self.key.as_deref(), self.algorithm)
    }

    /// Judges it. `now` is in milliseconds since 1970.
    pub(crate) fn judged(self, keys: &Keys, rules: &Rules<'_>, now: u64) -> Result<Verified, Why> {
        let key = self.key.as_deref();
        if !keys.has(key, self.algorithm) {
            return Err(Why::Key);
        }
        if !keys.verify(key, self.algorithm, self.message, &self.signature) {
            return Err(Why::Signature);
        }
        if self.issuer() != Some(rules.issuer) {
            return Err(Why::Issuer);
        }
        let until_unix_ms = rules.times(&self.claims, now)?;
        let subject = self.claims.get("sub").and_then(Value::as_str);
        let principal = subject
            .filter(|subject| !subject.is_empty())
            .and_then(|subject| Principal::new(&format!("{}|{subject}", rules.issuer)))
            .ok_or(Why::Subject)?;
        let audience = texts(self.claims.get("aud"));
        let certificate = bound_to(self.claims.get("cnf"))?;
        let label = ["preferred_username", "email", "name", "sub"]
            .iter()
            .find_map(|name| self.claims.get(*name)?.as_str());
        let issued_unix_ms = self.claims.get("iat").and_then(unix_ms).unwrap_or_default();
        let token = Secret::new(self.token);
        let caller = Caller {
            by: By::Jwt,
            subject: Some(Subject::new(token, issued_unix_ms, until_unix_ms)),
            label: label.filter(|label| is_word(label)).map(Into::into),
            groups: words(groups(&self.claims, rules.groups_claim)),
            scopes: words(scopes(&self.claims)),
            claims: kept(&self.claims),
            until_unix_ms: Some(until_unix_ms),
            ended: Ended::default(),
            principal: Some(principal),
        };
        Ok(Verified {
            caller: Arc::new(caller),
            audience,
            certificate,
        })
    }
}

/// What is asked of tokens of one issuer.
#[derive(Debug)]
pub(crate) struct Rules<'r> {
    pub(crate) issuer: &'r str,
    pub(crate) leeway_ms: u64,
    pub(crate) groups_claim: &'r str,
}

/// What a token truly says.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    pub(crate) caller: Arc<Caller>,
    /// For whom it is meant.
    pub(crate) audience: Vec<String>,
    /// The digest of the client certificate that it may be used with, if it is bound to one.
    pub(crate) certificate: Option<Vec<u8>>,
}

impl Rules<'_> {
    /// Until when a token holds, if it does now.
    fn times(&self, claims: &Map<String, Value>, now: u64) -> Result<u64, Why> {
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => unix_ms(value).map(Some).ok_or(Why::Malformed),
        };
        let until = time("exp")?.ok_or(Why::Endless)?;
        let until = until.saturating_add(self.leeway_ms);
        if until <= now {
            return Err(Why::Expired);
        }
        let later = now.saturating_add(self.leeway_ms);
        if time("nbf")?.is_some_and(|from| from > later)
            || time("iat")?.is_some_and(|at| at > later)
        {
            return Err(Why::NotYet);
        }
        Ok(until)
    }
}

/// A time in seconds since 1970, in milliseconds.
fn unix_ms(value: &Value) -> Option<u64> {
    let seconds = value.as_f64()?;
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within bounds that fit"
    )]
    let ms = (seconds * 1_000.0) as u64;
    Some(ms)
}

/// One text or several. What is no text is nothing.
fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => several
            .iter()
            .filter_map(Value::as_str)
            .take(VALUES_MAX)
            .map(str::to_owned)
            .collect(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            Vec::new()
        }
    }
}

/// The groups: the claim of that name, or the one to which its dots lead.
fn groups(claims: &Map<String, Value>, name: &str) -> Vec<String> {
    if let Some(value) = claims.get(name) {
        return texts(Some(value));
    }
    let mut steps = name.split('.');
    let first = steps.next().and_then(|step| claims.get(step));
    texts(steps.fold(first, |value, step| value?.get(step)))
}

fn scopes(claims: &Map<String, Value>) -> Vec<String> {
    let separate = |text: String| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let all = texts(claims.get("scope"))
        .into_iter()
        .chain(texts(claims.get("scp")));
    all.flat_map(separate).take(VALUES_MAX).collect()
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= VALUE_BYTES_MAX && !text.chars().any(char::is_control)
}

fn words(texts: Vec<String>) -> Vec<Arc<str>> {
    let fitting = texts.into_iter().filter(|text| is_word(text));
    fitting.map(Into::into).collect()
}

/// The claims that are texts, as far as they fit.
fn kept(claims: &Map<String, Value>) -> BTreeMap<Box<str>, Vec<Box<str>>> {
    let kept = claims.iter().filter_map(|(name, value)| {
        let values: Vec<Box<str>> = texts(Some(value))
            .into_iter()
            .filter(|text| is_word(text))
            .map(Into::into)
            .collect();
        (is_word(name) && !values.is_empty()).then(|| (name.as_str().into(), values))
    });
    kept.take(CLAIMS_MAX).collect()
}

/// The certificate that a token is bound to. One that is bound to anything else is of no use to whoever only holds it.
fn bound_to(confirmation: Option<&Value>) -> Result<Option<Vec<u8>>, Why> {
    let Some(confirmation) = confirmation else {
        return Ok(None);
    };
    let digest = confirmation
        .as_object()
        .filter(|members| members.len() == 1)
        .and_then(|members| members.get("x5t#S256")?.as_str())
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    digest.map(Some).ok_or(Why::Bound)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RULES: Rules<'static> = Rules {
        issuer: "https://id.example",
        leeway_ms: 60_000,
        groups_claim: "realm_access.roles",
    };

    fn parted(head: &Value, claims: &Value) -> Result<Algorithm, Why> {
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let token = format!("{}.{}.AAAA", text(head), text(claims));
        Parted::of(&token).map(|parted| parted.algorithm)
    }

    #[test]
    fn law_32_only_an_access_token_with_an_asymmetric_signature_is_looked_at() {
        let claims = json!({ "iss": "x" });
        for (head, verdict) in [
            (json!({ "alg": "ES256" }), Ok(Algorithm::Es256)),
            (
                json!({ "alg": "ES256", "typ": "at+JWT" }),
                Ok(Algorithm::Es256),
            ),
            (json!({ "alg": "none" }), Err(Why::Algorithm)),
            (json!({ "alg": "nOnE" }), Err(Why::Algorithm)),
            (json!({ "alg": "HS256" }), Err(Why::Algorithm)),
            (json!({ "alg": "ES256", "typ": "dpop+jwt" }), Err(Why::Type)),
            (
                json!({ "alg": "ES256", "typ": "logout+jwt" }),
                Err(Why::Type),
            ),
            (
                json!({ "alg": "ES256", "crit": ["exp"] }),
                Err(Why::Malformed),
            ),
            (json!({ "alg": "ES256", "b64": false }), Err(Why::Malformed)),
            (json!({ "alg": 7 }), Err(Why::Malformed)),
            (json!({}), Err(Why::Malformed)),
        ] {
            assert_eq!(parted(&head, &claims), verdict, "{head}");
        }
        for token in [
            "",
            "a.b",
            "a.b.c",
            "a.b.c.d",
            "e30.e30.",
            "....",
            &"x".repeat(20_000),
        ] {
            assert!(Parted::of(token).is_err(), "{token:.20}");
        }
    }

    #[test]
    fn law_32_times_are_judged_with_room_for_clocks_that_differ() {
        let now = 1_000_000_000_000;
        let at = |offset_s: i64| json!(1_000_000_000 + offset_s);
        for (claims, verdict) in [
            (json!({ "exp": at(1) }), Ok(now + 61_000)),
            (json!({ "exp": at(-59) }), Ok(now + 1_000)),
            (json!({ "exp": at(-60) }), Err(Why::Expired)),
            (json!({ "exp": at(-3_600) }), Err(Why::Expired)),
            (json!({}), Err(Why::Endless)),
            (json!({ "exp": "never" }), Err(Why::Malformed)),
            (json!({ "exp": 1e300 }), Err(Why::Malformed)),
            (json!({ "exp": -1 }), Err(Why::Malformed)),
            (json!({ "exp": at(9), "nbf": at(59) }), Ok(now + 69_000)),
            (json!({ "exp": at(900), "nbf": at(61) }), Err(Why::NotYet)),
            (json!({ "exp": at(900), "iat": at(61) }), Err(Why::NotYet)),
            (json!({ "exp": at(900), "nbf": null }), Err(Why::Malformed)),
        ] {
            let claims_map = claims.as_object().unwrap();
            assert_eq!(RULES.times(claims_map, now), verdict, "{claims}");
        }
    }

    #[test]
    fn groups_and_scopes_are_read_wherever_issuers_put_them() {
        let claims = json!({
            "realm_access": { "roles": ["ops", "dev", "a\nb", 7] },
            "scope": "mcp  tools:read", "scp": ["more"], "n": 1,
        });
        let claims = claims.as_object().unwrap();
        let shown = |words: Vec<Arc<str>>| words.join(" ");
        assert_eq!(shown(words(groups(claims, RULES.groups_claim))), "ops dev");
        assert_eq!(groups(claims, "none.such"), Vec::<String>::new());
        assert_eq!(scopes(claims), ["mcp", "tools:read", "more"]);
        assert!(kept(claims).contains_key("scope") && !kept(claims).contains_key("n"));
        let flat = json!({ "https://x.example/groups": "one" });
        assert_eq!(
            groups(flat.as_object().unwrap(), "https://x.example/groups"),
            ["one"]
        );
        assert_eq!(bound_to(Some(&json!({ "jkt": "x" }))), Err(Why::Bound));
        assert_eq!(
            bound_to(Some(&json!({ "x5t#S256": "AAAA" }))),
            Ok(Some(vec![0; 3]))
        );
    }
}
