//! The oracle's own rules, asked without any client library.

use serde_json::{Value, json};

use super::*;

fn value(page: &Page) -> Value {
    serde_json::from_str(&page.body).unwrap_or_default()
}

fn text(page: &Page, name: &str) -> String {
    value(page)
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

async fn refresh(authority: &Authority, token: &str) -> Page {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "app"),
        ("refresh_token", token),
    ];
    post(&authority.endpoint("token"), &form)
        .await
        .expect("an answer")
}

async fn authority(script: Script) -> Authority {
    let authority = Authority::start(script).await.expect("a free port");
    authority.register("app", Client::public());
    authority
}

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const BACK: &str = "http://127.0.0.1:4711/callback";

async fn code_of(authority: &Authority) -> String {
    let url = format!(
        "{}?response_type=code&client_id=app&redirect_uri={BACK}&code_challenge={CHALLENGE}&code_challenge_method=S256&state=abc&scope=a+b&resource=http://r",
        authority.endpoint("authorize")
    );
    let page = visit(&url).await.expect("an answer");
    let back = url::Url::parse(&page.location.expect("sent back")).expect("a URL");
    let pairs: std::collections::BTreeMap<String, String> =
        back.query_pairs().into_owned().collect();
    assert_eq!(pairs["state"], "abc");
    assert_eq!(pairs["iss"], authority.issuer());
    pairs["code"].clone()
}

async fn redeem(authority: &Authority, code: &str, verifier: &str) -> Page {
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("code", code),
        ("redirect_uri", BACK),
        ("code_verifier", verifier),
        ("resource", "http://r"),
    ];
    post(&authority.endpoint("token"), &form)
        .await
        .expect("an answer")
}

#[tokio::test]
async fn a_code_is_good_once_and_its_replay_ends_the_grant() {
    let authority = authority(Script::default()).await;
    let code = code_of(&authority).await;
    assert_eq!(redeem(&authority, &code, "another").await.status, 400);
    let tokens = redeem(&authority, &code, VERIFIER).await;
    assert_eq!(tokens.status, 200, "{}", tokens.body);
    let claims = authority
        .check(&text(&tokens, "access_token"))
        .expect("good");
    assert_eq!(
        (&claims["aud"], &claims["scope"]),
        (&json!("http://r"), &json!("a b"))
    );
    assert_eq!(redeem(&authority, &code, VERIFIER).await.status, 400);
    assert_eq!(
        authority.check(&text(&tokens, "access_token")),
        Err("revoked")
    );
    assert_eq!(authority.ledger().counts().code_replays, 1);
}

#[tokio::test]
async fn refresh_tokens_rotate_and_the_reuse_of_a_spent_one_ends_the_family() {
    let authority = authority(Script::default()).await;
    let (_, first) = authority.grant("app", "http://r", &["a"]);
    let second = text(&refresh(&authority, &first).await, "refresh_token");
    let answer = refresh(&authority, &second).await;
    let (access, third) = (
        text(&answer, "access_token"),
        text(&answer, "refresh_token"),
    );
    assert!(authority.check(&access).is_ok());
    assert_eq!(
        text(&refresh(&authority, &second).await, "error"),
        "invalid_grant"
    );
    assert_eq!(
        text(&refresh(&authority, &third).await, "error"),
        "invalid_grant"
    );
    assert_eq!(authority.check(&access), Err("revoked"));
    let counts = authority.ledger().counts();
    assert_eq!(
        (counts.refreshes, counts.reuses, counts.revocations),
        (2, 1, 1)
    );
    assert!(!authority.families()[0].alive);
}

#[tokio::test]
async fn a_lost_answer_is_repeated_within_the_leeway_and_a_theft_without_one() {
    for (leeway_ms, alive) in [(60_000, true), (0, false)] {
        let authority = authority(Script {
            leeway_ms,
            ..Script::default()
        })
        .await;
        let (_, token) = authority.grant("app", "http://r", &[]);
        authority.next(At::Token, Fault::CloseAfter);
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", "app"),
            ("refresh_token", token.as_str()),
        ];
        let lost = post(&authority.endpoint("token"), &form).await;
        assert!(lost.is_err(), "the connection is closed: {lost:?}");
        assert_eq!(refresh(&authority, &token).await.status == 200, alive);
        let family = &authority.families()[0];
        assert_eq!((family.alive, family.rotations), (alive, 1));
        let counts = authority.ledger().counts();
        assert_eq!(
            (counts.repeats, counts.reuses),
            (u64::from(alive), u64::from(!alive))
        );
        assert!(authority.ledger().token_requests()[0].answer_lost);
    }
}

#[tokio::test]
async fn faults_strike_once_each_in_order() {
    let authority = authority(Script::default()).await;
    let (_, token) = authority.grant("app", "http://r", &[]);
    authority.next(At::Token, Fault::too_many(7));
    authority.next(At::Token, Fault::Html);
    authority.next(At::Token, Fault::Without(vec!["access_token".to_owned()]));
    assert_eq!(refresh(&authority, &token).await.status, 429);
    assert!(
        refresh(&authority, &token)
            .await
            .body
            .starts_with("<!doctype")
    );
    let page = refresh(&authority, &token).await;
    assert!(
        page.status == 200 && value(&page).get("access_token").is_none(),
        "{}",
        page.body
    );
    assert_eq!(authority.families()[0].rotations, 1);
    let counts = authority.ledger().counts();
    assert_eq!((counts.refresh_requests, counts.refreshes_at_once), (3, 1));
}

#[tokio::test]
async fn a_key_set_verifies_what_is_signed_and_keys_rotate() {
    let authority = authority(Script::default()).await;
    let token = authority.token_for("ada", "me", &json!({"groups": ["x"]}));
    assert_eq!(
        authority.check(&token).expect("good")["groups"],
        json!(["x"])
    );
    let keys = |page: Page| value(&page)["keys"].as_array().map_or(0, Vec::len);
    let jwks = authority.endpoint("jwks");
    assert_eq!(keys(visit(&jwks).await.expect("keys")), 1);
    authority.rotate_keys(true);
    assert_eq!(keys(visit(&jwks).await.expect("keys")), 2);
    authority.rotate_keys(false);
    assert_eq!(keys(visit(&jwks).await.expect("keys")), 1);
    let mut forged = token.clone();
    forged.replace_range(forged.len() - 6.., "AAAAAA");
    assert_eq!(authority.check(&forged), Err("not signed here"));
}

#[tokio::test]
async fn a_protected_server_challenges_and_looks_at_audience_and_scope() {
    let authority = authority(Script::default()).await;
    let guard = Guard {
        tools: [("echo".to_owned(), vec!["write".to_owned()])].into(),
        ..Guard::default()
    };
    let server = Protected::start(&authority, guard, crate::http_server::Script::default())
        .await
        .expect("a free port");
    assert_eq!(visit(&server.url()).await.expect("an answer").status, 401);
    let well_known = server
        .url()
        .replace("/mcp", "/.well-known/oauth-protected-resource/mcp");
    let metadata = value(&visit(&well_known).await.expect("an answer"));
    assert_eq!(metadata["resource"], json!(server.url()));
    assert_eq!(
        metadata["authorization_servers"],
        json!([authority.issuer()])
    );
    let call = json!({"method": "tools/call", "params": {"name": "echo"}}).to_string();
    let admit = |scopes: &[&str], resource: &str| {
        let (token, _) = authority.grant("app", resource, scopes);
        server.admits(&format!("Bearer {token}"), &call)
    };
    assert_eq!(admit(&["write"], &server.url()), Ok("ada".to_owned()));
    assert_eq!(admit(&["read"], &server.url()), Err("scope"));
    assert_eq!(admit(&["write"], "http://other/mcp"), Err("audience"));
    assert_eq!(
        server.admits("Bearer no-token", &call),
        Err("not signed here")
    );
}

#[tokio::test]
async fn a_device_code_waits_and_an_assertion_of_a_trusted_issuer_is_taken() {
    let authority = authority(Script {
        device_polls: 1,
        ..Script::default()
    })
    .await;
    let device = authority.endpoint("device_authorization");
    let device = post(&device, &[("client_id", "app")])
        .await
        .expect("a code");
    let device_code = text(&device, "device_code");
    let token_url = authority.endpoint("token");
    let form = [
        ("grant_type", token::DEVICE),
        ("client_id", "app"),
        ("device_code", device_code.as_str()),
    ];
    let poll = || post(&token_url, &form);
    assert_eq!(
        text(&poll().await.expect("an answer"), "error"),
        "authorization_pending"
    );
    assert_eq!(poll().await.expect("an answer").status, 200);

    let idp = self::authority(Script::default()).await;
    let subject = idp.token_for("grace", "app", &json!({}));
    let form = [
        ("grant_type", token::EXCHANGE),
        ("client_id", "app"),
        (
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:id-jag",
        ),
        ("subject_token", subject.as_str()),
        ("audience", &authority.issuer()),
        ("resource", "http://r"),
    ];
    let assertion = post(&idp.endpoint("token"), &form)
        .await
        .expect("an answer");
    let assertion = text(&assertion, "access_token");
    let form = [
        ("grant_type", token::BEARER),
        ("client_id", "app"),
        ("assertion", assertion.as_str()),
    ];
    let refused = post(&authority.endpoint("token"), &form)
        .await
        .expect("an answer");
    assert_eq!(text(&refused, "error"), "invalid_grant", "not trusted yet");
    authority.trust(&idp);
    let taken = post(&authority.endpoint("token"), &form)
        .await
        .expect("an answer");
    let claims = authority
        .check(&text(&taken, "access_token"))
        .expect("good");
    assert_eq!(
        (&claims["sub"], &claims["aud"]),
        (&json!("grace"), &json!("http://r"))
    );
}
