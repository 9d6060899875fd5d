//! Certificates, proxies and secrets, from the config file to the status.

use std::path::Path;

use mainstay::Manager;
use mainstay::config::{Config, ServerConfig};
use mainstay_testkit::http_proxy::HttpProxy;
use mainstay_testkit::http_server::{Fault, HttpServer, Script};
use serde_json::json;

use super::harness::*;

/// Starts what a config file in a folder says.
async fn start_file(dir: &Path, text: &str) -> Manager {
    let read = Config::parse(text, &dir.join("mcp.json")).unwrap();
    assert_eq!(read.problems, []);
    Manager::builder()
        .config(read.config)
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn f80_the_proxy_of_the_config_leads_to_the_server_and_may_stand_in_the_defaults() {
    let fake = HttpServer::start(Script::modern()).await.unwrap();
    let proxy = HttpProxy::start(fake.address()).await.unwrap();
    let bench = Bench::new();
    let text = json!({
        "mcpServers": {
            "far": {"url": "http://far.test/mcp"},
            "near": {"url": fake.url(), "proxy": "direct"},
            "spared": {"url": fake.url(), "noProxy": "127.0.0.0/8"},
        },
        "mainstay": {"defaults": {"proxy": format!("http://{}", proxy.address())}},
    });
    let manager = start_file(bench.dir.path(), &text.to_string()).await;
    for name in ["far", "near", "spared"] {
        let server = manager.server(name).unwrap();
        generation(&server, 1).await;
        call(&server, "echo", json!({"text": name})).await.unwrap();
    }
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    assert!(
        asked
            .iter()
            .all(|head| head.contains("http://far.test/mcp")),
        "{asked:?}"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn f80_a_file_of_certificates_that_is_missing_parks_with_its_name_beside_the_config() {
    let bench = Bench::new();
    let text = r#"{"mcpServers": {"h": {"url": "https://127.0.0.1:1/mcp", "tls": {"caFile": "our-ca.pem"}}}}"#;
    let manager = start_file(bench.dir.path(), text).await;
    let parked = state(&manager.server("h").unwrap(), "parked").await;
    let failure = parked.last_failure.unwrap();
    assert_eq!(failure.kind, "bad-config");
    let path = bench.dir.path().join("our-ca.pem");
    assert!(
        failure.detail.contains("tls.caFile") && failure.detail.contains(path.to_str().unwrap()),
        "{}",
        failure.detail
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn f257_law_31_what_a_server_echoes_of_our_token_is_in_no_status() {
    let token = "tok-12345678-s3cret";
    let mut script = Script::modern();
    script.then_times(
        "server/discover",
        100,
        Fault::Status {
            status: 403,
            headers: Vec::new(),
            body: format!("the token {token} may not do this"),
        },
    );
    let fake = HttpServer::start(script).await.unwrap();
    let config = ServerConfig::http("h", format!("{}?key=query-s3cret", fake.url()))
        .header("Authorization", format!("Bearer {token}"));
    let manager = start([quick(config)]).await;
    let server = manager.server("h").unwrap();
    let parked = state(&server, "parked").await;
    let failure = parked.last_failure.as_ref().unwrap();
    assert_eq!(failure.kind, "forbidden");
    assert!(failure.detail.contains("may not do this"), "{failure:?}");
    let refused = call(&server, "echo", json!({})).await.unwrap_err();
    for said in [
        serde_json::to_string(&parked).unwrap(),
        refused.to_string(),
        format!("{refused:?}"),
    ] {
        assert!(!said.contains("s3cret"), "{said}");
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn f257_law_31_nor_is_what_it_echoes_instead_of_a_listing() {
    let token = "tok-12345678-s3cret";
    let mut script = Script::modern();
    script.then_times(
        "tools/list",
        100,
        Fault::Status {
            status: 200,
            headers: Vec::new(),
            body: format!(
                r#"{{"jsonrpc":"2.0","id":$ID,"error":{{"code":-32603,"message":"upstream refused Bearer {token}"}}}}"#
            ),
        },
    );
    let fake = HttpServer::start(script).await.unwrap();
    let config =
        ServerConfig::http("h", fake.url()).header("Authorization", format!("Bearer {token}"));
    let manager = start([quick(config)]).await;
    let server = manager.server("h").unwrap();
    let parked = state(&server, "parked").await;
    let failure = parked.last_failure.as_ref().unwrap();
    assert_eq!(failure.kind, "listing-failed");
    assert!(failure.detail.contains("upstream refused"), "{failure:?}");
    let said = serde_json::to_string(&parked).unwrap();
    assert!(!said.contains("s3cret"), "{said}");
    manager.shutdown().await;
}
