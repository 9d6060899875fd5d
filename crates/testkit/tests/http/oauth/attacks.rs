//! Those who would like the credentials: each is refused before anything is sent to them.

use mainstay::auth::rmcp::RmcpEngine;
use mainstay::auth::{Engine, TokenError};
use mainstay_testkit::authority::{At, Authority, Fault, Guard, MetadataAt, Script};

use super::{BACK, Stage, changed, query};

/// The callback with one parameter changed, added or taken away.
fn forged(back: &str, name: &str, value: Option<&str>) -> String {
    let mut pairs = query(back);
    match value {
        Some(value) => pairs.insert(name.to_owned(), value.to_owned()),
        None => pairs.remove(name),
    };
    let mut url = url::Url::parse(BACK).expect("good");
    url.query_pairs_mut().extend_pairs(pairs);
    url.to_string()
}

#[tokio::test]
async fn f206_a_callback_that_is_not_the_answer_to_this_login_is_refused_and_the_right_one_still_counts()
 {
    let stage = Stage::usual().await;
    let login = stage.begin().await.expect("begun");
    let other = stage.begin().await.expect("begun");
    let back = stage.consent(&login).await;
    let others = stage.consent(&other).await;
    let issuer = stage.authority.issuer();
    let twice = format!("{back}&code=evil");
    for (callback, word) in [
        (forged(&back, "state", Some("guessed")), "another login"),
        (forged(&back, "state", None), "no `state`"),
        (others.clone(), "another login"),
        (
            forged(&back, "iss", Some("https://evil.example")),
            "comes from `https://evil.example`",
        ),
        (
            forged(&back, "iss", Some(&format!("{issuer}/"))),
            "comes from",
        ),
        (forged(&back, "iss", None), "does not say who"),
        (twice, "occurs twice"),
        ("not an address".to_owned(), "not an address"),
    ] {
        let error = stage
            .finish(&login, &callback)
            .await
            .expect_err("refused")
            .to_string();
        assert!(error.contains(word), "{callback}: {error}");
        let code = &query(&back)["code"];
        assert!(!error.contains(code.as_str()), "{error}");
    }
    // The words of an error are not shown when somebody else may have written them.
    let evil = forged(
        &forged(&back, "iss", Some("https://evil.example")),
        "error",
        Some("call-555"),
    );
    let error = stage
        .finish(&login, &evil)
        .await
        .expect_err("refused")
        .to_string();
    assert!(!error.contains("call-555"), "{error}");
    assert_eq!(
        stage.authority.ledger().counts().token_requests,
        0,
        "no code went anywhere"
    );
    stage
        .finish(&login, &back)
        .await
        .expect("the right one counts");
    let error = stage
        .finish(&login, &back)
        .await
        .expect_err("replayed")
        .to_string();
    assert!(error.contains("ended before"), "{error}");
    assert_eq!(stage.authority.ledger().counts().code_replays, 0);
    stage
        .finish(&other, &others)
        .await
        .expect("a login of its own");
}

#[tokio::test]
async fn f243_no_configured_header_reaches_an_authorization_server() {
    let stage = Stage::usual().await;
    let grant = stage.sign_in().await.expect("granted");
    RmcpEngine::new()
        .refresh(&stage.ask, &grant)
        .await
        .expect("refreshed");
    let requests = stage.authority.ledger().token_requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        let shown = format!("{:?}{:?}", request.headers, request.form);
        assert!(!shown.contains("configured-s3cret"), "{shown}");
        assert!(!request.headers.contains_key("x-api-key"), "{shown}");
    }
}

#[tokio::test]
async fn f244_a_token_request_follows_no_redirect() {
    let thief = Authority::start(Script::default()).await.expect("a port");
    for status in [301, 302, 303, 307, 308] {
        let stage = Stage::usual().await;
        let redirect = Fault::Redirect {
            status,
            to: thief.endpoint("token"),
        };
        let grant = stage.sign_in().await.expect("granted");
        stage.authority.next(At::Token, redirect.clone());
        let error = RmcpEngine::new()
            .refresh(&stage.ask, &grant)
            .await
            .expect_err("refused");
        assert!(
            matches!(&error, TokenError::Unusable(what) if what.contains(&status.to_string())),
            "{error:?}"
        );
        let login = stage.begin().await.expect("begun");
        let back = stage.consent(&login).await;
        stage.authority.next(At::Token, redirect);
        let error = stage
            .finish(&login, &back)
            .await
            .expect_err("refused")
            .to_string();
        assert!(error.contains("not a redirect"), "{error}");
    }
    assert_eq!(
        thief.ledger().counts().token_requests,
        0,
        "nothing was sent again"
    );
}

#[tokio::test]
async fn f245_metadata_lead_to_no_address_that_a_stranger_may_not_name() {
    let told = |server: &str| {
        let servers = vec![server.to_owned()];
        changed(|guard: &mut Guard| guard.servers_told = Some(servers))
    };
    for (server, word) in [
        ("http://169.254.169.254", "metadata service"),
        ("http://[fd00:ec2::254]", "metadata service"),
        ("http://metadata.google.internal", "metadata service"),
        ("https://10.255.255.1", "allowPrivateAddresses"),
        ("file:///etc/passwd", "file:"),
    ] {
        let stage = Stage::new(Script::default(), told(server)).await;
        let error = stage.begin().await.expect_err("refused").to_string();
        assert!(
            error.contains(word) && error.contains("`notes`"),
            "{server}: {error}"
        );
    }
    // Endpoints are no better than issuers, and neither is where a redirect leads.
    for (member, url, word) in [
        ("token_endpoint", "http://as.example/token", "not https://"),
        (
            "token_endpoint",
            "https://169.254.169.254/token",
            "metadata service",
        ),
        (
            "authorization_endpoint",
            "javascript:alert(1)",
            "javascript:",
        ),
        ("authorization_endpoint", "file:///bin/sh", "file:"),
        (
            "registration_endpoint",
            "https://10.255.255.1/register",
            "allowPrivateAddresses",
        ),
    ] {
        let stage = Stage::usual().await;
        stage.authority.change(|script| {
            script.metadata.insert(member.to_owned(), url.into());
        });
        let error = match stage.begin().await {
            Err(error) => error,
            Ok(login) => {
                let back = stage.consent(&login).await;
                stage.finish(&login, &back).await.expect_err("refused")
            }
        };
        assert!(error.to_string().contains(word), "{member} {url}: {error}");
    }
    let stage = Stage::usual().await;
    let redirect = Fault::Redirect {
        status: 302,
        to: "http://169.254.169.254/latest/meta-data".to_owned(),
    };
    stage.authority.change(|script| {
        script.always.insert(At::Metadata, redirect);
    });
    let error = stage.begin().await.expect_err("refused").to_string();
    assert!(error.contains("same-origin"), "{error}");
}

#[tokio::test]
async fn f241_a_device_code_leads_a_person_to_web_pages_only() {
    let mut stage = Stage::usual().await;
    stage.ask.how = mainstay::auth::How::Device;
    stage.authority.change(|script| {
        let evil = Fault::With(
            "verification_uri_complete".to_owned(),
            "file:///bin/sh".into(),
        );
        script.next(At::Device, evil);
    });
    let error = stage.begin().await.expect_err("refused").to_string();
    assert!(error.contains("only http:// and https://"), "{error}");
}

#[tokio::test]
async fn an_authorization_server_that_does_not_protect_codes_is_not_used() {
    for methods in [serde_json::json!(["plain"]), serde_json::Value::Null] {
        let stage = Stage::usual().await;
        stage.authority.change(|script| {
            let member = "code_challenge_methods_supported".to_owned();
            script.metadata.insert(member, methods);
        });
        let error = stage.begin().await.expect_err("refused").to_string();
        assert!(error.contains("S256"), "{error}");
        assert_eq!(stage.authority.ledger().counts().registrations, 0);
    }
}

#[tokio::test]
async fn a_document_about_another_resource_or_issuer_is_not_used() {
    let stage = Stage::usual().await;
    stage
        .protected
        .change(|guard| guard.resource_told = Some("https://evil.example/mcp".into()));
    let error = stage.begin().await.expect_err("refused").to_string();
    assert!(
        error.contains("evil.example") && error.contains("resource metadata"),
        "{error}"
    );
    let stage = Stage::usual().await;
    stage
        .authority
        .change(|script| script.issuer_told = Some("https://evil.example".into()));
    let error = stage.begin().await.expect_err("refused").to_string();
    assert!(
        error.contains("evil.example") && error.contains(&stage.authority.issuer()),
        "{error}"
    );
    assert_eq!(stage.authority.ledger().counts().registrations, 0);
}

#[tokio::test]
async fn metadata_are_found_wherever_a_revision_puts_them() {
    for at in [MetadataAt::Challenge, MetadataAt::Path, MetadataAt::Root] {
        let guard = changed(|guard: &mut Guard| guard.metadata_at = at);
        let mut stage = Stage::new(Script::default(), guard).await;
        if at != MetadataAt::Challenge {
            stage.ask.challenge = None;
        }
        let grant = stage
            .sign_in()
            .await
            .unwrap_or_else(|error| panic!("{at:?}: {error}"));
        assert_eq!(*grant.key.issuer, stage.authority.issuer(), "{at:?}");
        assert_eq!(stage.admits(&grant), Ok("ada".to_owned()), "{at:?}");
    }
    for (oauth, openid) in [(true, false), (false, true)] {
        let authority = Authority::start_with_path("/tenant", Script::default()).await;
        let stage = Stage::with(authority.expect("a port"), Guard::default()).await;
        stage.authority.change(|script| {
            script.oauth_metadata = oauth;
            script.openid_metadata = openid;
        });
        stage
            .sign_in()
            .await
            .unwrap_or_else(|error| panic!("{oauth} {openid}: {error}"));
    }
}
