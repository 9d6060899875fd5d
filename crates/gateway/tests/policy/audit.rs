//! The audit log: who did what, by which rule, how it ended, and never what was said.

use std::path::Path;

use http::Method;
use mainstay::config::AuditConfig;
use mainstay_gateway::audit::read::verify;
use mainstay_testkit::http_server::Script;
use serde_json::{Value, json};

use super::office::Office;
use super::support::wait_until;

fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn law_31_every_call_and_order_is_recorded_and_no_argument_is() {
    let policy = json!({ "policy": { "rules": [
        { "name": "hidden", "tools": ["one__big"], "action": "deny" },
        { "name": "guests", "who": { "tokens": ["guest"] }, "readOnly": true },
    ] } });
    let office = Office::with(&policy, Script::legacy(), Some(AuditConfig::default())).await;
    let mut guest = office.person("guest", &[]).await;
    let arguments = json!({ "text": "my-password", "a": { "b": [1, 2.50] } });
    let echo = json!({ "name": "one__echo", "arguments": arguments });
    assert!(guest.ask("/mcp", "tools/call", &echo).await["result"].is_object());
    guest.call("/mcp", "one__slow").await;
    guest.call("/mcp", "one__big").await;
    guest.modern("/mcp", "tools/call", json!({ "name": "one__echo", "arguments": { "text": "my-password", "a": { "b": [1, 2.50] } } }), json!({})).await;
    office
        .admin(Method::POST, "/api/v1/servers/two/restart", "")
        .await;
    let path = office.log();
    wait_until("all is written", || {
        records(&path)
            .iter()
            .any(|record| record["server"] == "two")
    })
    .await;
    let page = office
        .admin(
            Method::GET,
            "/api/v1/audit?principal=token:guest&kind=call&limit=10",
            "",
        )
        .await
        .json();
    let calls = page["records"].as_array().unwrap().clone();
    let brief: Vec<Value> = calls
        .iter()
        .map(|call| {
            json!([
                call["exposed"],
                call["decision"],
                call["rule"],
                call["outcome"],
                call["reason"]
            ])
        })
        .collect();
    assert_eq!(
        brief,
        [
            json!(["one__echo", "allow", "guests", "answered", null]),
            json!(["one__slow", "refuse", "guests", "refused", "readOnly"]),
            json!(["one__big", "deny", "hidden", "refused", null]),
            json!(["one__echo", "allow", "guests", "answered", null]),
        ]
    );
    let first = &calls[0];
    assert_eq!(
        (&first["server"], &first["name"], &first["endpoint"]),
        (&json!("one"), &json!("echo"), &json!("/mcp"))
    );
    assert_eq!(first["who"]["by"], "token");
    assert_eq!(first["argumentsSha256"].as_str().unwrap().len(), 64);
    assert_eq!(
        first["argumentsSha256"], calls[3]["argumentsSha256"],
        "however it was written"
    );
    assert_ne!(first["argumentsSha256"], calls[1]["argumentsSha256"]);
    let all = records(&path);
    let orders: Vec<&Value> = all
        .iter()
        .filter(|record| record["kind"] == "operator")
        .map(|record| &record["method"])
        .collect();
    assert_eq!(
        orders,
        ["POST /api/v1/tokens", "POST /api/v1/servers/two/restart"]
    );
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        !text.contains("my-password") && !text.contains("2.5"),
        "{text}"
    );
    let status = office.admin(Method::GET, "/api/v1/status", "").await.json();
    assert_eq!(status["audit"]["lost"], 0, "{status}");
    office.world.gateway.end_audit().await;
    let verified = verify(&path).unwrap();
    assert!(verified.is_whole(), "{verified:?}");
    std::fs::write(&path, text.replace("\"guests\"", "\"others\"")).unwrap();
    assert!(!verify(&path).unwrap().is_whole());
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_log_is_required_nothing_passes_that_cannot_be_recorded() {
    for required in [true, false] {
        let mut config = AuditConfig::default();
        config.required = required;
        // A place that is none: a directory has this name.
        let elsewhere = tempfile::tempdir().unwrap();
        config.path = Some(elsewhere.path().to_owned());
        let office = Office::with(&json!({}), Script::legacy(), Some(config)).await;
        let mut local = office.local().await;
        let said = local.call("/mcp", "one__echo").await;
        let status = office.admin(Method::GET, "/api/v1/status", "").await.json();
        assert!(status["audit"]["problem"].is_string(), "{status}");
        if required {
            assert_eq!(
                said["error"]["data"]["reason"], "auditUnavailable",
                "{said}"
            );
            assert_eq!(office.calls("echo"), 0);
        } else {
            assert!(said["result"].is_object(), "{said}");
            let lost = async || {
                office.admin(Method::GET, "/api/v1/status", "").await.json()["audit"]["lost"]
                    .as_u64()
                    .unwrap()
            };
            let deadline = tokio::time::Instant::now() + super::support::PATIENCE;
            while lost().await < 2 {
                assert!(
                    tokio::time::Instant::now() < deadline,
                    "what is lost is not counted"
                );
            }
        }
        assert!(
            local.names("/mcp", "tools").await.len() > 3,
            "to look is never refused"
        );
        office.close().await;
    }
}
