//! An issuer over time: keys that change, keys that nobody has, and an issuer that is away.

use http::StatusCode;
use mainstay::config::Required;
use mainstay_testkit::authority::{At, Fault};
use serde_json::json;

use super::rig::{Rig, bearer, open, session};
use super::support::Reply;

async fn try_with(rig: &Rig, token: &str) -> Reply {
    let mut client = rig.client().await;
    open(&mut client, "/mcp", &[("authorization", &bearer(token))]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_keys_rotate_without_anybody_being_turned_away() {
    let rig = Rig::closed().await;
    let before = rig.signed("ada");
    session(&try_with(&rig, &before).await);
    rig.authority.rotate_keys(true);
    let after = rig.signed("ada");
    session(&try_with(&rig, &after).await);
    session(&try_with(&rig, &before).await);
    assert_eq!(rig.authority.ledger().counts().jwks, 2);
    // A key that is withdrawn takes its tokens along as soon as that is known, those that were good before too.
    rig.authority.rotate_keys(false);
    let last = rig.signed("ada");
    session(&try_with(&rig, &last).await);
    assert_eq!(
        try_with(&rig, &before).await.status,
        StatusCode::UNAUTHORIZED
    );
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_a_flood_of_unknown_keys_does_not_reach_the_issuer() {
    let rig = Rig::closed().await;
    session(&try_with(&rig, &rig.signed("ada")).await);
    let flood = (0..200).map(|one| {
        let rig = &rig;
        async move {
            let claims = json!({
                "iss": rig.authority.issuer(), "sub": "ada", "aud": rig.resource, "exp": 9_000_000_000_u64,
            });
            let token = rig.authority.mint(&json!({ "kid": format!("unknown-{one}") }), &claims);
            assert_eq!(try_with(rig, &token).await.status, StatusCode::UNAUTHORIZED);
        }
    });
    futures_util::future::join_all(flood).await;
    let asked = rig.authority.ledger().counts().jwks;
    assert!((2..=8).contains(&asked), "{asked} questions");
    // And nobody else suffers.
    session(&try_with(&rig, &rig.signed("bob")).await);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_an_issuer_that_is_away_turns_nobody_away_whose_key_is_known() {
    let mut rig = Rig::closed().await;
    let known = rig.signed("ada");
    session(&try_with(&rig, &known).await);
    rig.authority.stop().await;
    session(&try_with(&rig, &rig.signed("bob")).await);
    rig.authority.rotate_keys(true);
    let new = rig.signed("ada");
    assert_eq!(try_with(&rig, &new).await.status, StatusCode::UNAUTHORIZED);
    session(&try_with(&rig, &known).await);
    rig.authority.start_again().await.unwrap();
    session(&try_with(&rig, &new).await);
    rig.end().await;
}

/// What a token was found to say is remembered, and not for longer than it holds.
#[tokio::test(flavor = "multi_thread")]
async fn law_32_a_token_that_was_good_a_moment_ago_ends_with_its_time() {
    let rig = Rig::with(|access| {
        access.required = Required::Always;
        access.jwt[0].leeway_ms = 0;
    })
    .await;
    let unix_s = || {
        let since = std::time::UNIX_EPOCH.elapsed();
        since.unwrap().as_secs()
    };
    // One that lasts until it was used once, however slow this machine is.
    let mut known = None;
    for seconds in [2, 4, 8, 16] {
        let token = rig.signed_with("ada", &json!({ "exp": unix_s() + seconds }));
        if try_with(&rig, &token).await.status == StatusCode::OK {
            known = Some(token);
            break;
        }
    }
    let known = known.expect("a token that lasts");
    let deadline = tokio::time::Instant::now() + super::support::PATIENCE;
    while try_with(&rig, &known).await.status != StatusCode::UNAUTHORIZED {
        assert!(
            tokio::time::Instant::now() < deadline,
            "it is good for ever"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(rig.denied("expired").await >= 1);
    rig.end().await;
}

/// What an issuer may say in place of its keys; a client is told to come again, not that its token is bad.
#[tokio::test(flavor = "multi_thread")]
async fn law_32_without_any_keys_a_token_is_neither_good_nor_bad() {
    for (at, fault) in [
        (At::Jwks, Fault::Html),
        (At::Jwks, Fault::status(500, "no")),
        (At::Jwks, Fault::Without(vec!["keys".to_owned()])),
        (At::Jwks, Fault::With("keys".to_owned(), json!([]))),
        (At::Metadata, Fault::Html),
        (At::Metadata, Fault::Without(vec!["jwks_uri".to_owned()])),
        (
            At::Metadata,
            Fault::With("issuer".to_owned(), json!("https://evil.example")),
        ),
        (At::Metadata, Fault::status(302, "")),
    ] {
        let rig = Rig::closed().await;
        rig.authority.change(|script| {
            script.always.insert(at, fault.clone());
        });
        let token = rig.signed("ada");
        let reply = try_with(&rig, &token).await;
        assert_eq!(
            reply.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{fault:?}: {reply:?}"
        );
        assert!(reply.header("retry-after").is_some());
        assert!(reply.header("www-authenticate").is_none());
        // Those who need no issuer come in as ever.
        session(&try_with(&rig, &rig.token("ci", &[])).await);
        rig.authority.change(|script| script.always.clear());
        let deadline = tokio::time::Instant::now() + super::support::PATIENCE;
        while try_with(&rig, &token).await.status != StatusCode::OK {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{fault:?}: never again"
            );
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        rig.end().await;
    }
}
