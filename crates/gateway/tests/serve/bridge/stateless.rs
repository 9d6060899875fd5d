//! Modern clients of servers that ask: parked calls and their states.

use mainstay_testkit::http_server::Script;
use serde_json::json;

use super::*;
use crate::support::wait_until;

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_servers_requests_become_rounds() {
    let server = http(Script::legacy()).await;
    let world = World::start([at("http", &server), asking("pipe", &[])]).await;
    for (path, tool) in [
        ("/servers/http/mcp", "inquire"),
        ("/servers/pipe/mcp", "inquire"),
        ("/mcp", "http__inquire"),
        ("/mcp", "pipe__inquire"),
    ] {
        let mut client = world.client().await;
        let arguments = rounds(&[three(), elicit("again")]);
        let call = |id: &str, more: &str| modern_call(id, tool, &arguments, more, ALL);
        let first = modern(&mut client, path, &call("1", "")).await;
        assert_eq!(first["resultType"], "input_required", "{first}");
        let asked = &first["inputRequests"];
        assert_eq!(asked.as_object().unwrap().len(), 3, "all at once: {asked}");
        assert_eq!(asked["elicitation-1"]["params"], form("name"));
        assert_eq!(asked["sampling-1"]["method"], "sampling/createMessage");
        assert_eq!(asked["roots-1"], json!({"method": "roots/list"}));
        // Another connection, another id: nothing but the state ties them together.
        let mut client = world.client().await;
        let more = retry(&answers(&first), &first["requestState"]);
        let second = modern(&mut client, path, &call("\"b\"", &more)).await;
        assert_eq!(
            second["inputRequests"]["elicitation-2"]["params"],
            form("again")
        );
        assert_ne!(first["requestState"], second["requestState"]);
        let more = retry(&answers(&second), &second["requestState"]);
        let last = modern(&mut client, path, &call("3", &more)).await;
        assert_eq!(last["resultType"], "complete", "{last}");
        assert_eq!(got(&last).as_array().unwrap().len(), 4);
        assert_eq!(got(&last)[3], answer_to("elicitation/create"));
    }
    assert_eq!(world.gateway.parked_count(), 0);
    let calls = server.ledger().seen_of("tools/call");
    assert_eq!(calls.len(), 2, "law 16: each call was made once");
    for call in calls {
        assert!(!call.body.contains("requestState") && !call.body.contains("inputResponses"));
    }
    wait_until("nothing is cancelled", || {
        server.ledger().counts().cancels == 0
    })
    .await;
    world.end().await;
}
