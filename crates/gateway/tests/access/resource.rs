//! The role of a protected resource: what clients are told about where to get a token.

use http::{Method, StatusCode};
use mainstay::config::Required;
use serde_json::json;

use super::rig::{Rig, bearer, get, open, session};
use super::support::World;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

#[tokio::test(flavor = "multi_thread")]
async fn law_32_a_challenge_leads_to_the_metadata_of_the_very_endpoint() {
    let rig = Rig::with(|access| {
        access.required = Required::Always;
        access.scopes = vec!["mcp".to_owned(), "tools".to_owned()];
    })
    .await;
    let mut client = rig.client().await;
    for (path, of) in [
        ("/mcp", "/mcp"),
        ("/mcp/", "/mcp"),
        ("/sse", "/sse"),
        ("/servers/one/mcp", "/servers/one/mcp"),
        ("/servers/%6fne/mcp", "/servers/one/mcp"),
        ("/profiles/a%20b/mcp", "/profiles/a%20b/mcp"),
        ("/metrics", ""),
    ] {
        let reply = get(&mut client, path, &[]).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{path}");
        let url = format!("{}{WELL_KNOWN}{of}", rig.resource);
        assert_eq!(
            reply.header("www-authenticate").unwrap(),
            format!(r#"Bearer realm="mainstay", scope="mcp tools", resource_metadata="{url}""#),
            "{path}"
        );
        let told = get(&mut client, &format!("{WELL_KNOWN}{of}"), &[]).await;
        assert_eq!(
            told.json(),
            json!({
                "resource": format!("{}{of}", rig.resource),
                "resource_name": "Mainstay",
                "authorization_servers": [rig.authority.issuer()],
                "bearer_methods_supported": ["header"],
                "scopes_supported": ["mcp", "tools"],
            }),
            "{path}"
        );
    }
    for path in [
        "/../mcp",
        "/servers/%2e%2e/mcp",
        "/servers/a%2fb/mcp",
        "/api/v1/status",
        "/servers/a%0ab/mcp",
        "/x",
        "x",
    ] {
        let reply = get(&mut client, &format!("{WELL_KNOWN}{path}"), &[]).await;
        assert!(
            matches!(reply.status.as_u16(), 404 | 401),
            "{path}: {reply:?}"
        );
    }
    let reply = client.send(Method::POST, WELL_KNOWN, &[], "").await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_a_token_is_good_for_what_it_is_meant_for_and_with_its_scopes() {
    let rig = Rig::with(|access| {
        access.required = Required::Always;
        access.scopes = vec!["mcp".to_owned()];
    })
    .await;
    let of_one = format!("{}/servers/one/mcp", rig.resource);
    let scope = json!({ "scope": "other mcp" });
    let for_all = bearer(&rig.signed_with("ada", &scope));
    let for_one = bearer(&rig.authority.token_for("ada", &of_one, &scope));
    let weak = bearer(&rig.signed_with("ada", &json!({ "scope": "other" })));
    let mut client = rig.client().await;
    for (token, path, status) in [
        (&for_all, "/mcp", 200),
        (&for_all, "/servers/one/mcp", 200),
        (&for_one, "/servers/one/mcp", 200),
        (&for_one, "/servers/%6fne/mcp", 200),
        (&for_one, "/mcp", 401),
        // Also after it was found to be good elsewhere.
        (&for_one, "/servers/one/mcp", 200),
        (&weak, "/mcp", 403),
        (&weak, "/mcp", 403),
    ] {
        let reply = open(&mut client, path, &[("authorization", token)]).await;
        assert_eq!(reply.status.as_u16(), status, "{path}: {reply:?}");
        if status == 403 {
            let challenge = reply.header("www-authenticate").unwrap();
            assert!(
                challenge.contains(r#"error="insufficient_scope", scope="mcp""#),
                "{challenge}"
            );
        }
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_issuer_nobody_is_sent_to_one() {
    let state = tempfile::tempdir().unwrap();
    let world = World::start_with([], |settings| {
        settings.access.required = Required::Always;
        settings.state_dir = Some(state.path().to_owned());
    })
    .await;
    let mut client = world.client().await;
    let reply = open(&mut client, "/mcp", &[]).await;
    assert_eq!(
        reply.header("www-authenticate"),
        Some("Bearer realm=\"mainstay\"")
    );
    assert!(reply.body.contains("mainstay token create"), "{reply:?}");
    for path in ["", "/mcp"] {
        let reply = get(&mut client, &format!("{WELL_KNOWN}{path}"), &[]).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
    }
    let store = mainstay_gateway::access::tokens::TokenStore::new(state.path());
    let new = mainstay_gateway::access::tokens::NewToken {
        name: "late".to_owned(),
        ..Default::default()
    };
    let late = bearer(&store.create(&new).unwrap().token);
    session(&open(&mut client, "/mcp", &[("authorization", &late)]).await);
    world.end().await;
}
