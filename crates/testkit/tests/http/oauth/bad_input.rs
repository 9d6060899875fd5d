//! What comes from an authorization server that is broken, in somebody's way, or none at all: every message says which server,
//! which step, what was expected, and shows no secret.

use mainstay::auth::rmcp::RmcpEngine;
use mainstay::auth::{Engine, TokenError};
use mainstay_testkit::authority::{At, Fault};

use super::Stage;

fn without(member: &str) -> Fault {
    Fault::Without(vec![member.to_owned()])
}

const METADATA: &str = "asking the authorization server for its metadata";

/// Documents that are broken, and what must be said of each.
fn broken() -> Vec<(At, Fault, Vec<&'static str>)> {
    vec![
        (
            At::Metadata,
            Fault::Html,
            vec![
                METADATA,
                "text/html",
                "beginning with `<",
                "a JSON document with `issuer`",
            ],
        ),
        (
            At::Metadata,
            without("token_endpoint"),
            vec![METADATA, "without `token_endpoint`"],
        ),
        (
            At::Metadata,
            without("authorization_endpoint"),
            vec![METADATA, "without `authorization_endpoint`"],
        ),
        (At::Metadata, without("issuer"), vec![METADATA, "`issuer`"]),
        (
            At::Metadata,
            Fault::status(404, "gone"),
            vec![METADATA, "404"],
        ),
        (
            At::Metadata,
            Fault::status(503, "busy"),
            vec![METADATA, "503"],
        ),
        (At::Metadata, Fault::Cut(20), vec![METADATA]),
        (At::Metadata, Fault::Close, vec![METADATA]),
        (
            At::Register,
            Fault::Html,
            vec![
                "registering as a client",
                "without `client_id`",
                "text/html",
            ],
        ),
        (
            At::Register,
            without("client_id"),
            vec!["registering as a client", "without `client_id`"],
        ),
        (
            At::Register,
            Fault::status(
                403,
                r#"{"error":"access_denied","error_description":"staff only"}"#,
            ),
            vec![
                "registering as a client",
                "403",
                "`access_denied`",
                "staff only",
                "`clientId`",
            ],
        ),
    ]
}

#[tokio::test]
async fn a_broken_document_is_named_with_its_step_and_what_was_expected() {
    for (at, fault, words) in broken() {
        let stage = Stage::usual().await;
        stage.authority.change(|script| {
            script.always.insert(at, fault.clone());
        });
        let error = stage.begin().await.expect_err("refused").to_string();
        for word in words.into_iter().chain(["cannot sign in to `notes`"]) {
            assert!(
                error.contains(word),
                "{fault:?}: `{word}` is not in: {error}"
            );
        }
        assert!(error.len() < 1_600, "{}: {error}", error.len());
    }
}

#[tokio::test]
async fn a_broken_token_answer_is_named_and_shows_no_secret() {
    for (fault, words) in [
        (
            Fault::Html,
            vec!["exchanging the code", "text/html", "a JSON object"],
        ),
        (
            without("access_token"),
            vec!["without `access_token`", "`access_token` and `token_type`"],
        ),
        (Fault::status(500, "oops"), vec!["500"]),
        (
            Fault::status(
                400,
                r#"{"error":"invalid_grant","error_description":"too late"}"#,
            ),
            vec!["`invalid_grant`", "too late", "sign in again"],
        ),
        (
            Fault::With("token_type".into(), "DPoP".into()),
            vec!["`DPoP`", "a bearer token"],
        ),
        (Fault::Cut(10), vec!["/token"]),
        (Fault::Close, vec!["/token"]),
    ] {
        let stage = Stage::usual().await;
        let login = stage.begin().await.expect("begun");
        let back = stage.consent(&login).await;
        stage.authority.next(At::Token, fault.clone());
        let error = stage
            .finish(&login, &back)
            .await
            .expect_err("refused")
            .to_string();
        for word in words
            .into_iter()
            .chain(["`notes`", "exchanging the code for tokens"])
        {
            assert!(
                error.contains(word),
                "{fault:?}: `{word}` is not in: {error}"
            );
        }
        for secret in super::query(&back)
            .values()
            .chain(super::query(&login.url).get("code_challenge"))
        {
            assert!(
                secret.len() < 20 || !error.contains(secret) || secret.starts_with("http"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn f210_trouble_of_a_refresh_is_told_apart_from_its_end() {
    for (fault, retry_after_ms) in [
        (Fault::Html, None),
        (Fault::status(500, "oops"), None),
        (Fault::too_many(7), Some(7_000)),
        (Fault::Close, None),
        (Fault::Cut(5), None),
    ] {
        let stage = Stage::usual().await;
        let grant = stage.sign_in().await.expect("granted");
        stage.authority.next(At::Token, fault.clone());
        let error = RmcpEngine::new()
            .refresh(&stage.ask, &grant)
            .await
            .expect_err("trouble");
        let TokenError::Transient {
            what,
            retry_after_ms: asked,
        } = &error
        else {
            panic!("{fault:?}: {error:?}");
        };
        assert_eq!(*asked, retry_after_ms, "{fault:?}");
        assert!(what.contains("/token"), "{what}");
        let refresh = grant.tokens.refresh.as_ref().expect("one");
        assert!(!what.contains(refresh.expose()), "{what}");
    }
    let stage = Stage::usual().await;
    let grant = stage.sign_in().await.expect("granted");
    stage.authority.revoke(stage.authority.families()[0].id);
    let error = RmcpEngine::new()
        .refresh(&stage.ask, &grant)
        .await
        .expect_err("over");
    assert!(matches!(error, TokenError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn law_31_an_entry_whose_secret_has_no_value_says_which() {
    let mut stage = Stage::usual().await;
    stage.entry(
        &serde_json::json!({"clientId": "c", "clientSecret": "${MAINSTAY_TEST_NO_SUCH_SECRET:-x}"}),
    );
    assert!(stage.begin().await.is_ok(), "a default is a value");
    let mut server = mainstay::config::ServerConfig::clone(&stage.ask.server);
    server.auth.client_id = Some("${MAINSTAY_TEST_NO_SUCH_CLIENT}".into());
    stage.ask.server = server.into();
    let error = stage.begin().await.expect_err("no value").to_string();
    assert!(
        error.contains("auth.clientId") && error.contains("MAINSTAY_TEST_NO_SUCH_CLIENT"),
        "{error}"
    );
}
