//! Attempts to get in that must fail, all in the same words.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use mainstay_gateway::access::tokens::{NewToken, TokenStore};
use mainstay_testkit::authority::{Authority, Script};
use ring::hmac;
use serde_json::{Value, json};

use super::rig::{OPEN, Rig, bearer, get, open, ping, session};
use super::support::{BOTH, wait_until};

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token without a signature.
fn unsigned(claims: &Value) -> String {
    format!("{}.{}.", part(&json!({ "alg": "none" })), part(claims))
}

/// A token signed with a secret: the issuer's own public key, which everybody knows.
fn signed_with_public_key(claims: &Value, public: &str, kid: &Value) -> String {
    let head = json!({ "alg": "HS256", "kid": kid });
    let message = format!("{}.{}", part(&head), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, public.as_bytes());
    let tag = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

/// Each line is one token, and what is wrong with it: told in the metrics, and not to whoever sent it.
#[tokio::test(flavor = "multi_thread")]
async fn law_32_tokens_that_are_worth_nothing_open_nothing_and_hear_nothing() {
    let rig = Rig::closed().await;
    let mut client = rig.client().await;
    let (issuer, us) = (rig.authority.issuer(), rig.resource.as_str());
    let other = Authority::start(Script::default()).await.unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let good = json!({ "iss": issuer, "sub": "ada", "aud": us, "iat": now, "exp": now + 300 });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        rig.authority.mint(&json!({}), &claims)
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        rig.authority.mint(&json!({}), &claims)
    };
    let true_one = rig.authority.mint(&json!({}), &good);
    let reply = open(
        &mut client,
        "/mcp",
        &[("authorization", &bearer(&true_one))],
    )
    .await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    let (head, rest) = true_one.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let mut forged = good.clone();
    forged["sub"] = json!("root");
    let jwks = mainstay_testkit::authority::visit(&rig.authority.endpoint("jwks"))
        .await
        .unwrap();
    let jwks: Value = serde_json::from_str(&jwks.body).unwrap();
    let kid = jwks["keys"][0]["kid"].clone();
    let expired = NewToken {
        name: "expired".to_owned(),
        expires_unix_ms: Some((now + 1) * 1_000),
        ..NewToken::default()
    };
    let expired = rig.store.create(&expired).unwrap().token;
    let revoked = rig.token("revoked", &[]);
    rig.store.revoke("revoked").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let of_another = TokenStore::new(elsewhere.path());
    let of_another = of_another
        .create(&NewToken {
            name: "ci".to_owned(),
            ..NewToken::default()
        })
        .unwrap()
        .token;
    wait_until("the token has ended", || {
        let past = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        past.unwrap().as_secs() > now + 1
    })
    .await;
    let attacks: Vec<(&str, String)> = vec![
        ("unknown", "guess".to_owned()),
        ("unknown", "mst_guess".to_owned()),
        ("unknown", of_another),
        ("revoked", revoked),
        ("expired", expired),
        // Replayed after its end, beyond what clocks may differ by.
        ("expired", with("exp", json!(now - 61))),
        ("endless", without("exp")),
        ("not-yet", with("nbf", json!(now + 3_600))),
        ("not-yet", with("iat", json!(now + 3_600))),
        ("audience", with("aud", json!("https://somebody.else"))),
        (
            "audience",
            with("aud", json!([format!("{us}/servers/one/mcp")])),
        ),
        ("audience", with("aud", json!(format!("{us}.evil.example")))),
        ("audience", without("aud")),
        ("issuer", with("iss", json!("https://evil.example"))),
        ("issuer", other.token_for("ada", us, &json!({}))),
        ("issuer", without("iss")),
        // Of another issuer, in the name of ours.
        ("key", other.mint(&json!({}), &good)),
        ("signature", other.mint(&json!({ "kid": kid }), &good)),
        ("signature", format!("{head}.{}.{signature}", part(&forged))),
        ("algorithm", unsigned(&good)),
        (
            "algorithm",
            format!(
                "{}.{}.{signature}",
                part(&json!({ "alg": "none", "kid": kid })),
                part(&forged)
            ),
        ),
        (
            "algorithm",
            signed_with_public_key(&good, jwks["keys"][0]["x"].as_str().unwrap(), &kid),
        ),
        (
            "signature",
            rig.authority
                .mint(&json!({ "alg": "ES256", "kid": kid }), &good)
                .replace(signature, "")[..]
                .to_owned()
                + "AAAA",
        ),
        ("key", rig.authority.mint(&json!({ "alg": "RS256" }), &good)),
        (
            "type",
            rig.authority.mint(&json!({ "typ": "logout+jwt" }), &good),
        ),
        (
            "malformed",
            rig.authority.mint(&json!({ "crit": ["exp"] }), &good),
        ),
        ("subject", without("sub")),
        ("subject", with("sub", json!(""))),
        ("subject", with("sub", json!("ada\nroot"))),
        ("bound", with("cnf", json!({ "jkt": "x" }))),
        ("bound", with("cnf", json!({ "x5t#S256": "AAAA" }))),
        ("malformed", "a.b".to_owned() + ".c"),
    ];
    let mut words = None;
    for (reason, token) in &attacks {
        let before = rig.denied(reason).await;
        let mut client = rig.client().await;
        let reply = open(&mut client, "/mcp", &[("authorization", &bearer(token))]).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{reason} {token}");
        assert!(reply.header("mcp-session-id").is_none());
        assert!(!reply.body.contains(token.as_str()), "{reason}: {reply:?}");
        let told = (
            reply.body.clone(),
            reply.header("www-authenticate").unwrap().to_owned(),
        );
        assert_eq!(
            words.get_or_insert_with(|| told.clone()),
            &told,
            "{reason}: an oracle"
        );
        assert_eq!(rig.denied(reason).await, before + 1, "{reason} {token}");
    }
    let (_, challenge) = words.unwrap();
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    assert_eq!(rig.world.gateway.session_count(), 1, "only the good one");
    rig.end().await;
}

/// Each line is a request with a good token that says so in a way it must not.
#[tokio::test(flavor = "multi_thread")]
async fn law_32_a_good_token_in_a_bad_form_is_no_token() {
    let rig = Rig::closed().await;
    let token = rig.token("ci", &["admin"]);
    let good = bearer(&token);
    let long = bearer(&format!("mst_{}", "x".repeat(20_000)));
    let in_query = format!("/mcp?access_token={token}");
    let as_any = format!("/mcp?x={token}");
    let own = ("authorization", good.as_str());
    for (path, headers, status) in [
        (in_query.as_str(), vec![], 400),
        (in_query.as_str(), vec![own], 400),
        (as_any.as_str(), vec![], 400),
        ("/api/v1/status?access_token=x", vec![own], 400),
        ("/mcp", vec![own, ("authorization", "Bearer other")], 400),
        ("/mcp", vec![own, own], 400),
        ("/mcp", vec![("authorization", long.as_str())], 401),
        ("/mcp", vec![("authorization", token.as_str())], 401),
        ("/mcp", vec![("authorization", "Basic Y2k6eA==")], 401),
        ("/mcp", vec![("authorization", "Bearer")], 401),
        ("/mcp", vec![("authorization", "")], 401),
        ("/mcp", vec![("cookie", token.as_str())], 401),
        ("/mcp", vec![("x-api-key", token.as_str())], 401),
        ("/mcp", vec![], 401),
        ("/mcp", vec![own], 200),
        (
            "/mcp",
            vec![("authorization", &good.replace("Bearer", "bEARER"))],
            200,
        ),
    ] {
        let mut client = rig.client().await;
        let reply = match path.starts_with("/api/") {
            true => client.send(Method::GET, path, &headers, "").await,
            false => open(&mut client, path, &headers).await,
        };
        assert_eq!(
            reply.status.as_u16(),
            status,
            "{path} {headers:?}: {reply:?}"
        );
        if status == 400 && !path.starts_with("/api/") {
            let challenge = reply.header("www-authenticate").unwrap();
            assert!(challenge.contains("invalid_request"), "{challenge}");
        }
        assert!(!reply.body.contains(&token));
    }
    // Larger than any head of a request.
    let mut client = rig.client().await;
    let huge = bearer(&"x".repeat(70_000));
    let reply = open(&mut client, "/mcp", &[("authorization", &huge)]).await;
    assert_eq!(reply.status.as_u16(), 431);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_nobody_learns_without_a_token_what_is_there() {
    let rig = Rig::closed().await;
    let mut client = rig.client().await;
    let answer = async |client: &mut super::support::Client, path: &str| {
        let reply = open(client, path, &[]).await;
        let challenge = reply.header("www-authenticate").unwrap_or_default();
        (
            reply.status.as_u16(),
            challenge.replace(path, ""),
            reply.body,
        )
    };
    let known = answer(&mut client, "/servers/one/mcp").await;
    assert_eq!(known.0, 401);
    assert_eq!(answer(&mut client, "/servers/nope/mcp").await, known);
    for path in [
        "/servers/../one/mcp",
        "/servers/%2e%2e/mcp",
        "/servers/..%2fapi/mcp",
        "/servers/one%2f..%2f..%2fmetrics/mcp",
        "/nowhere",
        "/metrics",
        "/metrics/",
        "/messages?sessionId=x",
        "/sse",
        "/profiles/x/mcp",
        "//mcp",
        "/./mcp",
        "/mcp/../metrics",
    ] {
        let (status, challenge, _) = answer(&mut client, path).await;
        assert_eq!(status, 401, "{path}");
        assert!(!challenge.contains(".."), "{path}: {challenge}");
        assert!(
            !challenge.contains('%') || challenge.contains("%2F"),
            "{path}: {challenge}"
        );
    }
    for path in ["/api/v1/status", "/"] {
        let reply = get(&mut client, path, &[]).await;
        assert_eq!(reply.status.as_u16(), 401, "{path}");
        assert!(!reply.body.contains("one\""), "{reply:?}");
    }
    // Whether it is up is nobody's secret; what is amiss is.
    assert_eq!(get(&mut client, "/healthz", &[]).await.status.as_u16(), 200);
    assert_eq!(get(&mut client, "/readyz", &[]).await.status.as_u16(), 200);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_f246_a_token_does_not_open_the_door_to_other_web_pages() {
    let rig = Rig::closed().await;
    let token = bearer(&rig.token("ci", &["admin"]));
    let order = "/api/v1/servers/one/restart";
    let mark = ("mainstay-request", "1");
    let own = format!("http://{}", rig.world.address);
    for authorization in [Some(token.as_str()), None] {
        let mut headers: Vec<_> = authorization
            .map(|value| ("authorization", value))
            .into_iter()
            .collect();
        // A name that was rebound to this machine, and a page of somebody else.
        for foreign in [
            ("host", "evil.example"),
            ("host", "evil.example:80"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
        ] {
            headers.push(foreign);
            let mut client = rig.client().await;
            let reply = open(&mut client, "/mcp", &headers).await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{headers:?}");
            let mut client = rig.client().await;
            let reply = client
                .send(Method::GET, "/api/v1/status", &headers, "")
                .await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{headers:?}");
            headers.pop();
        }
    }
    let token = ("authorization", token.as_str());
    let mut client = rig.client().await;
    for (headers, status) in [
        (vec![token], 403),
        (vec![token, mark, ("origin", "http://localhost:1")], 403),
        (vec![token, mark, ("sec-fetch-site", "cross-site")], 403),
        (vec![mark], 401),
        (vec![token, mark], 200),
        (
            vec![
                token,
                mark,
                ("origin", own.as_str()),
                ("sec-fetch-site", "same-origin"),
            ],
            200,
        ),
    ] {
        let reply = client.send(Method::POST, order, &headers, "").await;
        assert_eq!(reply.status.as_u16(), status, "{headers:?}: {reply:?}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_a_session_is_worth_nothing_with_anothers_token() {
    let rig = Rig::closed().await;
    let (ann, bob) = (rig.token("ann", &[]), rig.token("bob", &[]));
    let mut client = rig.client().await;
    let reply = open(&mut client, "/mcp", &[("authorization", &bearer(&ann))]).await;
    let id = session(&reply);
    assert_eq!(
        ping(&mut client, &id, Some(&ann)).await.status,
        StatusCode::OK
    );
    assert_eq!(
        ping(&mut client, &id, Some(&bob)).await.status,
        StatusCode::NOT_FOUND
    );
    let signed = rig.signed("ann");
    assert_eq!(
        ping(&mut client, &id, Some(&signed)).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        ping(&mut client, &id, None).await.status,
        StatusCode::UNAUTHORIZED
    );
    // A stolen token ends with its revocation, at once, also in its session.
    rig.store.revoke("ann").unwrap();
    assert_eq!(
        ping(&mut client, &id, Some(&ann)).await.status,
        StatusCode::UNAUTHORIZED
    );
    let headers = [("accept", BOTH), ("content-type", "application/json")];
    let reply = client.send(Method::POST, "/mcp", &headers, OPEN).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    rig.end().await;
}
