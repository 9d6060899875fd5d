//! The state that all requests of one fake authorization server share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::books::{Access, Books, Client};
use super::keys::{Keys, random};
use super::ledger::Ledger;
use super::script::Script;
use super::token::{Refusal, refuse};

#[derive(Debug)]
pub(super) struct State {
    base: String,
    issuer: String,
    script: Mutex<Script>,
    books: Mutex<Books>,
    keys: Mutex<Keys>,
    trusted: Mutex<Vec<Arc<State>>>,
    turn: Mutex<()>,
    pub(super) ledger: Ledger,
    pub(super) released: Notify,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unix milliseconds of this machine.
pub(super) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

impl State {
    pub(super) fn new(base: String, path: &str, script: Script) -> Self {
        Self {
            issuer: format!("{base}{path}"),
            base,
            script: Mutex::new(script),
            books: Mutex::default(),
            keys: Mutex::new(Keys::new()),
            trusted: Mutex::default(),
            turn: Mutex::default(),
            ledger: Ledger::default(),
            released: Notify::new(),
        }
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn issuer(&self) -> String {
        self.issuer.clone()
    }

    /// What stands behind the origin in the issuer.
    pub(super) fn path(&self) -> &str {
        self.issuer.get(self.base.len()..).unwrap_or_default()
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        locked(&self.script)
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        locked(&self.books)
    }

    pub(super) fn keys(&self) -> MutexGuard<'_, Keys> {
        locked(&self.keys)
    }

    /// One token request after the other: what a request finds must not change under it.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        locked(&self.turn)
    }

    pub(super) fn trust(&self, other: Arc<State>) {
        locked(&self.trusted).push(other);
    }

    pub(super) fn now_unix_ms(&self) -> u64 {
        unix_ms().saturating_add_signed(self.script().clock_ms)
    }

    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.keys().sign(header, claims)
    }

    /// An access token of ours; adds who issued it and when.
    pub(super) fn access_token(
        &self,
        claims: &Value,
        expires_unix_ms: u64,
        family: Option<u64>,
    ) -> String {
        let jti = random("at-");
        let mut all = json!({
            "iss": self.issuer(), "iat": self.now_unix_ms() / 1000,
            "exp": expires_unix_ms.div_ceil(1000), "jti": jti,
        });
        if let (Some(all), Some(more)) = (all.as_object_mut(), claims.as_object()) {
            all.extend(more.clone());
        }
        let access = Access {
            family,
            expires_unix_ms,
            revoked: false,
        };
        self.books().access.insert(jti, access);
        self.sign(&json!({}), &all)
    }

    /// The claims of a token that we, or somebody whom we trust, signed.
    pub(super) fn trusted_claims(&self, token: &str) -> Option<Value> {
        let ours = self.keys().verify(token);
        ours.or_else(|| {
            let trusted = locked(&self.trusted).clone();
            trusted.iter().find_map(|other| other.keys().verify(token))
        })
    }

    /// The claims of an access token that is good now, or why it is not.
    pub(super) fn check(&self, token: &str) -> Result<Value, &'static str> {
        let claims = self.keys().verify(token).ok_or("not signed here")?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if text("iss") != Some(self.issuer.as_str()) {
            return Err("of another issuer");
        }
        let now = self.now_unix_ms();
        let books = self.books();
        match text("jti").and_then(|jti| books.access.get(jti)) {
            Some(access) if access.revoked => Err("revoked"),
            Some(access) if access.expires_unix_ms <= now => Err("expired"),
            Some(_) => Ok(claims),
            // One that a test made by hand.
            None => {
                let expires_s = claims
                    .get("exp")
                    .and_then(Value::as_u64)
                    .unwrap_or_default();
                let is_old = expires_s.saturating_mul(1000) <= now;
                drop(books);
                if is_old { Err("expired") } else { Ok(claims) }
            }
        }
    }

    /// A client by its id; an id that is the URL of a known document is one too.
    pub(super) fn client(&self, id: &str) -> Option<Client> {
        if let Some(client) = self.books().clients.get(id) {
            return Some(client.clone());
        }
        let script = self.script();
        let document = script
            .documents
            .get(id)
            .filter(|_| script.client_documents)?;
        let names_itself = document.get("client_id").and_then(Value::as_str) == Some(id);
        names_itself.then(|| Client::from_metadata(document, None))
    }

    /// The scopes that are granted to somebody who asks for these.
    pub(super) fn granted(&self, wanted: &[String]) -> Result<Vec<String>, Refusal> {
        let script = self.script();
        if let Some(known) = &script.scopes
            && wanted.iter().any(|scope| !known.contains(scope))
        {
            return Err(refuse("invalid_scope", "no such scope"));
        }
        let granted = script.grant_scopes.clone();
        Ok(granted.unwrap_or_else(|| wanted.to_vec()))
    }
}
