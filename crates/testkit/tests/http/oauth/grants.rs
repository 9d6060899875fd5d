//! Grants that need no person.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mainstay::auth::Subject;
use mainstay::auth::grant::Secret;
use mainstay_testkit::authority::{Authority, Client, Guard, Script};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

use super::{Stage, changed, secret_client};

#[tokio::test]
async fn a_program_signs_itself_in_with_a_secret_or_a_signature() {
    let mut stage = Stage::usual().await;
    stage
        .authority
        .register("robot", secret_client("robot s3cret/+1"));
    let secret = json!({"grant": "clientCredentials", "clientId": "robot", "clientSecret": "robot s3cret/+1"});
    stage.entry(&secret);
    let grant = stage.obtain().await.expect("granted");
    assert!(!grant.by_human && grant.tokens.refresh.is_none());
    assert_eq!(stage.admits(&grant), Ok("robot".to_owned()));
    assert!(
        !stage.last_form().contains_key("client_secret"),
        "in a header"
    );
    stage.authority.change(|script| {
        let methods = json!(["client_secret_post"]);
        let member = "token_endpoint_auth_methods_supported".to_owned();
        script.metadata.insert(member, methods);
    });
    stage.obtain().await.expect("granted");
    assert_eq!(stage.last_form()["client_secret"], "robot s3cret/+1");

    stage.authority.change(|script| script.metadata.clear());
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key");
    let point = pair.public_key().as_ref();
    let jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256",
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..65])});
    let client = Client {
        jwks: Some(json!({"keys": [jwk]})),
        ..Client::default()
    };
    stage.authority.register("signer", client);
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(document.as_ref())
    );
    stage.entry(&json!({"grant": "clientCredentials", "clientId": "signer", "privateKey": pem}));
    let grant = stage.obtain().await.expect("granted");
    assert_eq!(stage.admits(&grant), Ok("signer".to_owned()));
}

#[tokio::test]
async fn the_callers_identity_is_exchanged_and_its_token_goes_nowhere_else() {
    let idp = Authority::start(Script::default()).await.expect("a port");
    let mut stage = Stage::usual().await;
    stage.authority.trust(&idp);
    stage
        .authority
        .register("gateway", secret_client("gateway-s3cret"));
    stage.entry(
        &json!({"grant": "exchange", "clientId": "gateway", "clientSecret": "gateway-s3cret"}),
    );
    let error = stage
        .obtain()
        .await
        .expect_err("nobody's token")
        .to_string();
    assert!(error.contains("no token of the caller"), "{error}");
    let subject = idp.token_for("bob", "https://mainstay.example", &json!({}));
    stage.ask.principal = mainstay::Principal::new("bob");
    stage.ask.subject = Some(Subject::new(Secret::new(subject.as_str()), 0, u64::MAX));
    let grant = stage.obtain().await.expect("granted");
    assert_eq!(stage.admits(&grant), Ok("bob".to_owned()));
    assert_ne!(grant.tokens.access.expose(), subject);
    assert_eq!(stage.last_form()["subject_token"], subject);
    assert_eq!(grant.key.principal, stage.ask.principal);
    // What the entry names is nobody's in particular: it is not taken for a person.
    stage.entry(
        &json!({"grant": "exchange", "clientId": "gateway", "clientSecret": "gateway-s3cret",
        "exchange": {"subjectToken": subject}}),
    );
    stage.ask.subject = None;
    assert!(stage.obtain().await.is_err());
    stage.ask.principal = None;
    assert!(stage.obtain().await.is_ok());
}

#[tokio::test]
async fn the_enterprise_decides_without_a_person() {
    let idp = Authority::start(Script::default()).await.expect("a port");
    idp.register("enterprise-client", secret_client("idp-s3cret-1"));
    let guard = changed(|guard: &mut Guard| guard.scopes = vec!["read".to_owned()]);
    let mut stage = Stage::new(Script::default(), guard).await;
    stage.authority.trust(&idp);
    idp.trust(&idp);
    stage
        .authority
        .register("enterprise-client", secret_client("as-s3cret-2"));
    let token = idp.token_for("carol", "enterprise-client", &json!({}));
    let entry = |token: &str| {
        json!({"grant": "enterprise", "clientId": "enterprise-client", "clientSecret": "as-s3cret-2",
            "enterprise": {"issuer": idp.issuer(), "tokenUrl": idp.endpoint("token"), "clientId": "enterprise-client",
                "clientSecret": "idp-s3cret-1", "idToken": token}})
    };
    stage.entry(&entry(&token));
    let grant = stage.obtain().await.expect("granted");
    assert_eq!(stage.admits(&grant), Ok("carol".to_owned()));
    let forms = stage.authority.ledger().token_requests();
    assert!(
        forms
            .iter()
            .all(|request| !request.form.values().any(|value| *value == token))
    );
    stage.entry(&entry("no-token-at-all"));
    let error = stage.obtain().await.expect_err("refused").to_string();
    assert!(
        error.contains("identity provider") && error.contains("auth.enterprise"),
        "{error}"
    );
    assert!(
        !error.contains("no-token-at-all") && !error.contains("s3cret"),
        "{error}"
    );
}
