//! Signed assertions: a client that proves itself with a private key (RFC 7523) instead of a secret.
//!
//! Signs with `ring`. A key is read at the moment of use and dropped after it; nothing of it is in any message (law 31).

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use serde_json::json;

use crate::config::SigningAlgorithm;
use crate::secrets;

/// The kind of a client's assertion.
pub(crate) const CLIENT_ASSERTION_TYPE: &str =
    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion is good: as short as slow networks and clocks allow.
const LIFETIME_S: u64 = 120;

/// A clock that is ahead of the server's by this much still makes good assertions.
const SKEW_S: u64 = 10;

/// The most that a key in PEM form may hold.
const PEM_BYTES_MAX: usize = 64 * 1024;

/// A private key that is ready to sign.
#[derive(Clone)]
pub(crate) struct SigningKey {
    pair: Arc<Pair>,
    algorithm: SigningAlgorithm,
    id: Option<String>,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.algorithm).finish()
    }
}

impl SigningKey {
    /// Reads a key in PEM form.
    ///
    /// # Errors
    /// What is wrong with it, without a byte of it.
    pub(crate) fn read(
        pem: &str,
        algorithm: Option<SigningAlgorithm>,
        id: Option<String>,
    ) -> Result<Self, String> {
        let (label, der) = decode(pem)?;
        let random = SystemRandom::new();
        let rsa = |why| format!("`privateKey` is not a usable RSA key: {why}");
        let (pair, fits) = if label == "RSA PRIVATE KEY" {
            let pair = RsaKeyPair::from_der(&der).map_err(|error| rsa(error.to_string()))?;
            (Pair::Rsa(pair), SigningAlgorithm::RS256)
        } else if label != "PRIVATE KEY" {
            return Err(format!(
                "`privateKey` holds a `{label}`; write it as PKCS#8, which begins with `-----BEGIN PRIVATE KEY-----` (`openssl pkcs8 \
                 -topk8 -nocrypt`)"
            ));
        } else if let Ok(pair) =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random)
        {
            (Pair::Ecdsa(pair), SigningAlgorithm::ES256)
        } else if let Ok(pair) =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &der, &random)
        {
            (Pair::Ecdsa(pair), SigningAlgorithm::ES384)
        } else if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
            (Pair::Ed25519(pair), SigningAlgorithm::EdDSA)
        } else {
            let pair = RsaKeyPair::from_pkcs8(&der).map_err(|error| {
                format!(
                    "`privateKey` is none of RSA (2048 bits and more), P-256, P-384 and Ed25519 ({error})"
                )
            })?;
            (Pair::Rsa(pair), SigningAlgorithm::RS256)
        };
        let algorithm = algorithm.unwrap_or(fits);
        let is_rsa = matches!(pair, Pair::Rsa(_));
        if algorithm != fits && !(is_rsa && rsa_encoding(algorithm).is_some()) {
            return Err(format!(
                "`privateKey` cannot sign with {}: it is a key for {}",
                algorithm.word(),
                fits.word()
            ));
        }
        Ok(Self {
            pair: Arc::new(pair),
            algorithm,
            id,
        })
    }

    /// What it signs with.
    #[cfg(test)]
    pub(crate) fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let random = SystemRandom::new();
        let failed = |_| "`privateKey` could not sign".to_owned();
        match &*self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&random, message).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let encoding = rsa_encoding(self.algorithm);
                let encoding = encoding.ok_or("`privateKey` is no key for its algorithm")?;
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

fn rsa_encoding(algorithm: SigningAlgorithm) -> Option<&'static dyn RsaEncoding> {
    match algorithm {
        SigningAlgorithm::RS256 => Some(&RSA_PKCS1_SHA256),
        SigningAlgorithm::RS384 => Some(&RSA_PKCS1_SHA384),
        SigningAlgorithm::RS512 => Some(&RSA_PKCS1_SHA512),
        SigningAlgorithm::PS256 => Some(&RSA_PSS_SHA256),
        SigningAlgorithm::PS384 => Some(&RSA_PSS_SHA384),
        SigningAlgorithm::PS512 => Some(&RSA_PSS_SHA512),
        SigningAlgorithm::ES256 | SigningAlgorithm::ES384 | SigningAlgorithm::EdDSA => None,
    }
}

/// The assertion with which a client proves itself to an issuer, fresh: no two are the same.
pub(crate) fn of_client(
    key: &SigningKey,
    client_id: &str,
    audience: &str,
    now_unix_ms: u64,
) -> Result<String, String> {
    let now = now_unix_ms / 1_000;
    let mut header = json!({"alg": key.algorithm.word(), "typ": "JWT"});
    if let (Some(id), Some(header)) = (&key.id, header.as_object_mut()) {
        header.insert("kid".to_owned(), id.as_str().into());
    }
    let claims = json!({
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "iat": now.saturating_sub(SKEW_S),
        "exp": now.saturating_add(LIFETIME_S),
        "jti": random_word()?,
    });
    let encoded = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encoded(&header), encoded(&claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())?);
    secrets::hide(&signature);
    Ok(format!("{message}.{signature}"))
}

/// 128 random bits as text.
pub(crate) fn random_word() -> Result<String, String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The label and the content of the first PEM block. Written on one line, with `\n` as two characters, it is read too: that is
/// how keys arrive in environment variables.
fn decode(pem: &str) -> Result<(String, Vec<u8>), String> {
    let none = || {
        "`privateKey` is not in PEM form, which begins with `-----BEGIN PRIVATE KEY-----`; `${file:…}` reads a key from its file"
            .to_owned()
    };
    if pem.len() > PEM_BYTES_MAX {
        return Err(format!("`privateKey` is longer than {PEM_BYTES_MAX} bytes"));
    }
    let pem = pem.replace("\\n", "\n");
    let (_, rest) = pem.split_once("-----BEGIN ").ok_or_else(none)?;
    let (label, rest) = rest.split_once("-----").ok_or_else(none)?;
    let (body, _) = rest.split_once("-----END ").ok_or_else(none)?;
    let label: String = label.chars().take(40).collect();
    let body: String = body.split_whitespace().collect();
    let der = STANDARD
        .decode(body)
        .map_err(|_| "`privateKey` is cut or garbled: its PEM block is not Base64".to_owned())?;
    Ok((label, der))
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, KeyPair, UnparsedPublicKey};

    use super::*;

    fn pem(der: &[u8]) -> String {
        format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der)
        )
    }

    fn p256() -> ring::pkcs8::Document {
        let random = SystemRandom::new();
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key")
    }

    #[test]
    fn an_assertion_is_signed_short_lived_and_never_the_same_twice() {
        let document = p256();
        let key = SigningKey::read(&pem(document.as_ref()), None, Some("k1".into())).expect("key");
        let now = 1_000_000_000_000;
        let token = of_client(&key, "me", "https://as", now).expect("signed");
        let other = of_client(&key, "me", "https://as", now).expect("signed");
        assert_ne!(token, other);
        let (message, signature) = token.rsplit_once('.').expect("three parts");
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random)
                .expect("key");
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key());
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        public
            .verify(message.as_bytes(), &signature)
            .expect("good signature");
        let (header, claims) = message.split_once('.').expect("two parts");
        let read = |part: &str| -> serde_json::Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("json")
        };
        assert_eq!(
            read(header),
            json!({"alg": "ES256", "typ": "JWT", "kid": "k1"})
        );
        let claims = read(claims);
        assert_eq!(
            (&claims["iss"], &claims["sub"]),
            (&json!("me"), &json!("me"))
        );
        assert_eq!(claims["aud"], "https://as");
        assert_eq!(claims["exp"], now / 1_000 + LIFETIME_S);
    }

    #[test]
    fn keys_of_every_kind_are_read_and_sign() {
        let random = SystemRandom::new();
        let document = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        let key = SigningKey::read(&pem(document.as_ref()), None, None).expect("key");
        assert_eq!(key.algorithm(), SigningAlgorithm::EdDSA);
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("key");
        let signature = key.sign(b"m").expect("signed");
        UnparsedPublicKey::new(&ED25519, pair.public_key())
            .verify(b"m", &signature)
            .expect("good signature");
        let one_line = pem(p256().as_ref()).replace('\n', "\\n");
        assert!(
            SigningKey::read(&one_line, None, None).is_ok(),
            "as in a variable"
        );
    }

    #[test]
    fn law_31_a_key_that_cannot_be_used_says_why_and_shows_nothing_of_itself() {
        let good = pem(p256().as_ref());
        let body: String = good
            .lines()
            .nth(1)
            .expect("a line")
            .chars()
            .take(20)
            .collect();
        let rsa = Some(SigningAlgorithm::RS256);
        for (text, algorithm, word) in [
            (
                good.clone(),
                rsa,
                "cannot sign with RS256: it is a key for ES256",
            ),
            ("secret-words".to_owned(), None, "not in PEM form"),
            (
                good.replace("PRIVATE KEY", "EC PRIVATE KEY"),
                None,
                "PKCS#8",
            ),
            (good.replace(&body, "!"), None, "cut or garbled"),
            (pem(b"0123"), None, "none of RSA"),
        ] {
            let error = SigningKey::read(&text, algorithm, None).expect_err("unusable");
            assert!(error.contains(word), "{error}");
            assert!(
                !error.contains(&body) && !error.contains("secret-words"),
                "{error}"
            );
        }
    }
}
