//! Keys of the fake authorization server: JSON Web Tokens signed with ES256, and the set of public keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use serde_json::{Value, json};

/// A text of 32 random bytes behind a prefix.
pub(super) fn random(prefix: &str) -> String {
    let mut bytes = [0; 24];
    // The system's generator does not fail on the systems that tests run on; zeros would show at once as equal tokens.
    let _ = SystemRandom::new().fill(&mut bytes);
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The S256 challenge of a verifier.
pub(super) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

struct Key {
    id: String,
    pair: EcdsaKeyPair,
    published: bool,
}

/// The keys, the current one last.
pub(super) struct Keys(Vec<Key>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    pub(super) fn new() -> Self {
        let mut keys = Self(Vec::new());
        keys.rotate(true);
        keys
    }

    /// Signs with a new key from now on. The old ones stay published if `keep`.
    pub(super) fn rotate(&mut self, keep: bool) {
        let random_source = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random_source)
            .ok()
            .and_then(|document| {
                EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random_source).ok()
            });
        let Some(pair) = pair else {
            return;
        };
        self.0.iter_mut().for_each(|key| key.published &= keep);
        self.0.push(Key {
            id: random("key-"),
            pair,
            published: true,
        });
    }

    /// The set of public keys (RFC 7517).
    pub(super) fn jwks(&self) -> Value {
        let keys: Vec<Value> = self
            .0
            .iter()
            .filter(|key| key.published)
            .map(|key| {
                // An uncompressed point: one byte of form, then both coordinates.
                let point = key.pair.public_key().as_ref();
                let (x, y) = point.get(1..).unwrap_or_default().split_at(32);
                json!({
                    "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": key.id,
                    "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
                })
            })
            .collect();
        json!({ "keys": keys })
    }

    /// Signs claims with the current key. `header` adds to and replaces members of the header.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let Some(key) = self.0.last() else {
            return String::new();
        };
        let mut head = json!({"alg": "ES256", "typ": "at+jwt", "kid": key.id});
        if let (Some(head), Some(more)) = (head.as_object_mut(), header.as_object()) {
            head.extend(more.clone());
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(claims));
        let signature = key.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        format!("{signed}.{}", signature.unwrap_or_default())
    }

    /// The claims of a token that one of these keys signed.
    pub(super) fn verify(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let is_ours = self.0.iter().any(|key| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key().as_ref())
                .verify(signed.as_bytes(), &signature)
                .is_ok()
        });
        is_ours.then(|| claims(token))?
    }
}

/// What a token claims, its signature unseen.
pub(super) fn claims(token: &str) -> Option<Value> {
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice(&claims).ok()
}
