//! The keys of an issuer, as its JWKS document lists them, and what they verify.
//!
//! Asymmetric signatures only: a key that both sides know would let everybody who can check a token make one. Which
//! algorithm a key is for is decided by the kind of the key, never by the token alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

/// Most keys that are read of one document, and most that are tried for one token.
const KEYS_MAX: usize = 100;
const TRIED_MAX: usize = 4;

/// An RSA modulus may not be shorter or longer than this, in bytes.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// How a token may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// By its name in a token's head. `none` and everything with a shared secret has no name here.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _other => return None,
        })
    }
}

/// The public part of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    id: Option<String>,
    /// The one algorithm that it is for, if it says so.
    only: Option<Algorithm>,
    material: Material,
}

/// The keys of an issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Keys(Vec<Key>);

/// What a document is read as: unknown members are nobody's business, unknown kinds of keys are passed over.
#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Reads a JWKS document; keys of unknown kinds and for other purposes are left out.
    ///
    /// # Errors
    /// In words: what is wrong with the document as a whole.
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(text)
            .map_err(|error| format!("it is no JSON object with `keys`: {error}"))?;
        if document.keys.len() > KEYS_MAX {
            return Err(format!("it has more than {KEYS_MAX} keys"));
        }
        let keys: Vec<Key> = document
            .keys
            .into_iter()
            .filter_map(|value| key(serde_json::from_value(value).ok()?))
            .collect();
        if keys.is_empty() {
            return Err("it has no RSA, P-256, P-384 or Ed25519 key for signatures".to_owned());
        }
        Ok(Self(keys))
    }

    /// Whether a key could have signed a token with this head: the one that it names, or any if it names none.
    pub(crate) fn has(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        self.candidates(id, algorithm).next().is_some()
    }

    /// Whether one of them signed this message.
    pub(crate) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        self.candidates(id, algorithm)
            .take(TRIED_MAX)
            .any(|key| key.material.verify(algorithm, message, signature))
    }

    fn candidates<'k>(
        &'k self,
        id: Option<&'k str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'k Key> {
        self.0.iter().filter(move |key| {
            let is_named = match (id, key.id.as_deref()) {
                (Some(wanted), Some(own)) => wanted == own,
                (None, _) | (_, None) => true,
            };
            let is_for = key.only.is_none_or(|only| only == algorithm);
            is_named && is_for && key.material.fits(algorithm)
        })
    }
}

fn key(jwk: Jwk) -> Option<Key> {
    let is_for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
        && jwk
            .key_ops
            .is_none_or(|operations| operations.iter().any(|one| one == "verify"));
    if !is_for_signatures {
        return None;
    }
    let only = match jwk.alg.as_deref() {
        None => None,
        // A key for something else is no key for us.
        Some(name) => Some(Algorithm::named(name)?),
    };
    let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok();
    let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let (modulus, exponent) = (bytes(jwk.n)?, bytes(jwk.e)?);
            let modulus: Vec<u8> = modulus.into_iter().skip_while(|byte| *byte == 0).collect();
            if !MODULUS_BYTES.contains(&modulus.len()) {
                return None;
            }
            Material::Rsa { modulus, exponent }
        }
        ("EC", Some("P-256")) => Material::P256(point(&bytes(jwk.x)?, &bytes(jwk.y)?, 32)?),
        ("EC", Some("P-384")) => Material::P384(point(&bytes(jwk.x)?, &bytes(jwk.y)?, 48)?),
        ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(jwk.x).filter(|x| x.len() == 32)?),
        _other => return None,
    };
    Some(Key {
        id: jwk.kid,
        only,
        material,
    })
}

/// A point of a curve, uncompressed.
fn point(x: &[u8], y: &[u8], width: usize) -> Option<Vec<u8>> {
    let fits = x.len() == width && y.len() == width;
    fits.then(|| [&[4], x, y].concat())
}

impl Material {
    fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match algorithm {
            Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512 => matches!(self, Self::Rsa { .. }),
            Es256 => matches!(self, Self::P256(_)),
            Es384 => matches!(self, Self::P384(_)),
            EdDsa => matches!(self, Self::Ed25519(_)),
        }
    }

    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verified = match (self, algorithm) {
            (Self::Rsa { modulus, exponent }, _) => {
                let parameters = match algorithm {
                    Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
                    Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => return false,
                };
                RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                }
                .verify(parameters, message, signature)
            }
            (Self::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature)
            }
            (Self::P384(point), Algorithm::Es384) => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point)
                    .verify(message, signature)
            }
            (Self::Ed25519(point), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&signature::ED25519, point).verify(message, signature)
            }
            (Self::P256(_) | Self::P384(_) | Self::Ed25519(_), _) => return false,
        };
        verified.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
    use serde_json::json;

    use super::*;

    fn text(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn ec(public: &[u8], curve: &str) -> Value {
        let (x, y) = public[1..].split_at((public.len() - 1) / 2);
        json!({ "kty": "EC", "crv": curve, "kid": curve, "x": text(x), "y": text(y) })
    }

    #[test]
    fn law_32_every_asymmetric_algorithm_is_verified_with_its_own_kind_of_key_only() {
        let random = SystemRandom::new();
        let p256 = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let p384 = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(p256, &random).unwrap();
        let es256 = EcdsaKeyPair::from_pkcs8(p256, document.as_ref(), &random).unwrap();
        let document = EcdsaKeyPair::generate_pkcs8(p384, &random).unwrap();
        let es384 = EcdsaKeyPair::from_pkcs8(p384, document.as_ref(), &random).unwrap();
        let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let ed = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let rsa = RsaKeyPair::from_der(include_bytes!("testdata/rsa2048.der")).unwrap();
        let public: RsaPublicKeyComponents<Vec<u8>> = rsa.public().into();
        let keys = json!({ "keys": [
            ec(es256.public_key().as_ref(), "P-256"),
            ec(es384.public_key().as_ref(), "P-384"),
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": text(ed.public_key().as_ref()) },
            { "kty": "RSA", "kid": "rsa", "n": text(&public.n), "e": text(&public.e), "use": "sig" },
            { "kty": "oct", "k": "c2VjcmV0", "kid": "shared" },
            { "kty": "RSA", "kid": "other", "n": text(&public.n), "e": text(&public.e), "use": "enc" },
            { "kty": "RSA", "kid": "short", "n": text(&public.n[..128]), "e": text(&public.e) },
            { "kty": "from the future" }, 7,
        ]});
        let keys = Keys::read(keys.to_string().as_bytes()).unwrap();
        assert_eq!(keys.0.len(), 4);
        let message = b"head.body";
        let rsa_signed = |how: &'static dyn signature::RsaEncoding| {
            let mut out = vec![0; rsa.public().modulus_len()];
            rsa.sign(how, &random, message, &mut out).unwrap();
            out
        };
        let signed: [(&str, &str, Vec<u8>); 9] = [
            (
                "ES256",
                "P-256",
                es256.sign(&random, message).unwrap().as_ref().to_vec(),
            ),
            (
                "ES384",
                "P-384",
                es384.sign(&random, message).unwrap().as_ref().to_vec(),
            ),
            ("EdDSA", "ed", ed.sign(message).as_ref().to_vec()),
            ("RS256", "rsa", rsa_signed(&signature::RSA_PKCS1_SHA256)),
            ("RS384", "rsa", rsa_signed(&signature::RSA_PKCS1_SHA384)),
            ("RS512", "rsa", rsa_signed(&signature::RSA_PKCS1_SHA512)),
            ("PS256", "rsa", rsa_signed(&signature::RSA_PSS_SHA256)),
            ("PS384", "rsa", rsa_signed(&signature::RSA_PSS_SHA384)),
            ("PS512", "rsa", rsa_signed(&signature::RSA_PSS_SHA512)),
        ];
        for (own, id, signature) in &signed {
            for (named, _, _) in &signed {
                let algorithm = Algorithm::named(named).unwrap();
                // Whatever key the token names, only its own algorithm makes it true.
                let is = keys.verify(Some(id), algorithm, message, signature);
                assert_eq!(is, own == named, "{own} as {named}");
                let any = keys.verify(None, algorithm, message, signature);
                assert_eq!(any, own == named, "{own} as {named} by any key");
            }
            let algorithm = Algorithm::named(own).unwrap();
            assert!(!keys.verify(Some(id), algorithm, b"head.bodY", signature));
            assert!(!keys.verify(Some("no such"), algorithm, message, signature));
            assert!(!keys.verify(Some(id), algorithm, message, &signature[1..]));
            assert!(!keys.verify(Some(id), algorithm, message, &[]));
        }
        for shared in ["none", "None", "HS256", "HS384", "HS512", ""] {
            assert_eq!(Algorithm::named(shared), None);
        }
    }

    #[test]
    fn what_is_no_document_of_keys_is_told() {
        for (text, word) in [
            ("<html>", "no JSON object"),
            ("{}", "no JSON object"),
            (r#"{"keys":[]}"#, "has no RSA"),
            (r#"{"keys":[{"kty":"oct","k":"x"}]}"#, "has no RSA"),
        ] {
            let error = Keys::read(text.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let many = json!({ "keys": vec![json!({ "kty": "oct" }); KEYS_MAX + 1] });
        assert!(
            Keys::read(many.to_string().as_bytes())
                .unwrap_err()
                .contains("more than")
        );
    }
}
