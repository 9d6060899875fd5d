//! Legacy clients: asked on the response stream of their own call.

use mainstay_testkit::http_server::Script;
use serde_json::{Value, json};

use super::*;
use crate::support::wait_until;

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_servers_requests_reach_the_client_and_its_answers_the_server_byte_for_byte() {
    let server = http(Script::legacy()).await;
    let world = World::start([at("http", &server), asking("pipe", &[])]).await;
    for (path, tool) in [
        ("/servers/http/mcp", "inquire"),
        ("/servers/pipe/mcp", "inquire"),
        ("/mcp", "http__inquire"),
        ("/mcp", "pipe__inquire"),
    ] {
        let mut session = session(&world, path, ALL).await;
        let mut other = session.twin().await;
        let arguments = rounds(&[three(), elicit("again")]);
        let open = session
            .open_post(legacy_call("\"c\"", tool, &arguments))
            .await;
        let (answered, asked) = converse(&mut Events::of(open), &mut other).await;
        assert_eq!(answered["id"], "c");
        let expected: Vec<Value> = asked
            .iter()
            .map(|request| answer_to(request["method"].as_str().unwrap()))
            .collect();
        assert_eq!(expected.len(), 4);
        assert_eq!(got(&answered["result"]), json!(expected), "{path} {tool}");
        assert_eq!(asked[0]["params"], form("name"), "as it came");
        assert!(asked[2].get("params").is_none(), "absent stays absent");
        let mut ids: Vec<String> = asked
            .iter()
            .map(|request| request["id"].to_string())
            .collect();
        ids.dedup();
        assert_eq!(ids.len(), 4, "ids of ours, each used once");
    }
    // The answers went out under the server's own ids.
    let seen = server.ledger().seen_of("");
    let answers = seen
        .iter()
        .filter(|seen| seen.body.contains("\"id\":\"inquire-"));
    assert_eq!(answers.count(), 8);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_never_bothered_with_what_it_did_not_declare() {
    let server = http(Script::legacy()).await;
    let world = World::start([at("http", &server), asking("pipe", &[])]).await;
    for path in ["/servers/http/mcp", "/servers/pipe/mcp"] {
        let mut session = session(&world, path, r#"{"sampling":{}}"#).await;
        let mut other = session.twin().await;
        let open = session
            .open_post(legacy_call("1", "inquire", &rounds(&[three()])))
            .await;
        let (answered, asked) = converse(&mut Events::of(open), &mut other).await;
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0]["method"], "sampling/createMessage");
        let got = got(&answered["result"]);
        assert_eq!(got[0]["error"]["code"], -32601, "{got}");
        assert_eq!(got[1], answer_to("sampling/createMessage"));
        assert_eq!(got[2]["error"]["code"], -32601, "{got}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f114_a_question_ends_with_the_session_of_its_client() {
    let server = http(Script::legacy()).await;
    let world = World::start([at("http", &server)]).await;
    let path = "/servers/http/mcp";
    let mut gone = session(&world, path, ALL).await;
    let open = gone
        .open_post(legacy_call("1", "inquire", &rounds(&[elicit("a")])))
        .await;
    let mut events = Events::of(open);
    let request = events.json().await;
    let mut other = gone.twin().await;
    let headers = [("mcp-session-id", other.id.as_str())];
    let deleted = other
        .client
        .send(http::Method::DELETE, path, &headers, "")
        .await;
    assert_eq!(deleted.status, 200);
    // A late answer finds no session, and the server is free for others.
    let late = json!({"jsonrpc": "2.0", "id": request["id"], "result": {}});
    assert_eq!(other.post(late.to_string()).await.status, 404);
    let told = || {
        let seen = server.ledger().seen_of("");
        seen.iter().any(|seen| seen.body.contains("did not answer"))
    };
    wait_until("the server gets an error", told).await;
    let mut next = session(&world, path, ALL).await;
    let mut twin = next.twin().await;
    let open = next
        .open_post(legacy_call("1", "inquire", &rounds(&[elicit("b")])))
        .await;
    let (answered, asked) = converse(&mut Events::of(open), &mut twin).await;
    assert_eq!(asked[0]["params"]["message"], "b");
    assert_eq!(got(&answered["result"])[0], answer_to("elicitation/create"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f114_a_question_ends_with_the_connection_that_it_came_on() {
    let mut server = http(Script::legacy()).await;
    let world = World::start([at("http", &server)]).await;
    let mut session = session(&world, "/servers/http/mcp", ALL).await;
    let open = session
        .open_post(legacy_call("1", "inquire", &rounds(&[elicit("a")])))
        .await;
    let mut events = Events::of(open);
    let request = events.json().await;
    server.stop().await;
    let told = events.json().await;
    assert_eq!(told["method"], "notifications/cancelled", "{told}");
    assert_eq!(told["params"]["requestId"], request["id"]);
    let answered = events.json().await;
    assert_eq!(answered["error"]["code"], -31_003, "the outcome is unknown");
    // The late answer reaches nobody.
    let mut other = session.twin().await;
    answer(&mut other, &request, &json!({})).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_18_a_client_that_cancels_its_call_is_asked_no_more() {
    let server = http(Script::legacy()).await;
    let world = World::start([at("http", &server)]).await;
    let mut session = session(&world, "/servers/http/mcp", ALL).await;
    let open = session
        .open_post(legacy_call("7", "inquire", &rounds(&[elicit("a")])))
        .await;
    let mut events = Events::of(open);
    events.json().await;
    let mut other = session.twin().await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
    other.post(cancel).await;
    wait_until("the server is told", || {
        server.ledger().counts().cancels == 1
    })
    .await;
    assert_eq!(events.next().await, None, "no answer to a cancelled call");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_servers_input_required_becomes_requests_and_the_call_is_made_again() {
    let server = http(Script::modern()).await;
    let world = World::start([at("http", &server), asking("pipe", &["--era", "modern"])]).await;
    for (path, tool) in [
        ("/servers/http/mcp", "inquire"),
        ("/servers/pipe/mcp", "inquire"),
        ("/mcp", "http__inquire"),
    ] {
        let mut session = session(&world, path, ALL).await;
        let mut other = session.twin().await;
        // The second round asks nothing: the server only wants to be called again.
        let arguments = rounds(&[three(), json!([]), elicit("again")]);
        let open = session
            .open_post(legacy_call("\"c\"", tool, &arguments))
            .await;
        let (answered, asked) = converse(&mut Events::of(open), &mut other).await;
        assert_eq!(answered["id"], "c");
        assert!(answered["result"].get("resultType").is_none(), "{answered}");
        let expected: Vec<Value> = asked
            .iter()
            .map(|request| answer_to(request["method"].as_str().unwrap()))
            .collect();
        assert_eq!(expected.len(), 4);
        assert_eq!(got(&answered["result"]), json!(expected), "{path} {tool}");
        assert_eq!(asked[0]["params"], form("name"), "untouched");
    }
    let calls = server.ledger().seen_of("tools/call");
    assert_eq!(calls.len(), 8, "law 16: only as often as the server asked");
    let ids: std::collections::BTreeSet<String> = calls[..4]
        .iter()
        .map(|call| serde_json::from_str::<Value>(&call.body).unwrap()["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 4, "new ids");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f143_rounds_without_end_are_told_to_both_sides() {
    let newer = http(Script::modern()).await;
    let older = http(Script::legacy()).await;
    let world = World::start_with([at("modern", &newer), at("legacy", &older)], |settings| {
        settings.rounds_max = 3;
    })
    .await;
    let endless = json!({"rounds": [elicit("more")], "endless": true}).to_string();
    let mut session = session(&world, "/servers/modern/mcp", ALL).await;
    let mut other = session.twin().await;
    let open = session
        .open_post(legacy_call("1", "inquire", &endless))
        .await;
    let (answered, asked) = converse(&mut Events::of(open), &mut other).await;
    assert_eq!(
        (answered["error"]["code"].as_i64(), asked.len()),
        (Some(-31_006), 3)
    );
    assert!(answered["error"]["message"].as_str().unwrap().contains('3'));
    assert_eq!(newer.ledger().seen_of("tools/call").len(), 4);

    let path = "/servers/legacy/mcp";
    let mut client = world.client().await;
    let mut more = String::new();
    for _ in 0..3 {
        let call = modern_call("1", "inquire", &endless, &more, ALL);
        let required = modern(&mut client, path, &call).await;
        assert_eq!(required["resultType"], "input_required", "{required}");
        more = retry(&answers(&required), &required["requestState"]);
    }
    let call = modern_call("1", "inquire", &endless, &more, ALL);
    assert_eq!(
        client.modern(path, &call).await.error(),
        (200, -31_006, json!(1))
    );
    wait_until("the server is told", || {
        older.ledger().counts().cancels == 1
    })
    .await;
    assert_eq!(world.gateway.parked_count(), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_modern_server_needs_and_does_not_get_is_said() {
    let server = http(Script::modern()).await;
    let world = World::start([at("http", &server)]).await;
    let path = "/servers/http/mcp";
    // Not declared.
    let mut plain = world.session(path).await;
    let call = legacy_call("1", "inquire", &rounds(&[three()]));
    let reply = plain.post(call.clone()).await;
    assert_eq!(reply.error(), (200, -31_006, json!(1)));
    assert!(reply.json()["error"]["data"]["requiredCapabilities"]["elicitation"].is_object());
    // An address, for a client that can be sent to one, and for one that cannot.
    let url = json!([{"method": "elicitation/create", "params": {"mode": "url", "message": "log in", "url": "https://x"}}]);
    let call_url = legacy_call("1", "inquire", &rounds(&[url]));
    let mut forms = session(&world, path, r#"{"elicitation":{}}"#).await;
    let reply = forms.post(call_url.clone()).await;
    assert_eq!(reply.error(), (200, -32_042, json!(1)));
    assert_eq!(
        reply.json()["error"]["data"]["elicitations"][0]["url"],
        "https://x"
    );
    let mut all = session(&world, path, ALL).await;
    let mut other = all.twin().await;
    let open = all.open_post(call_url).await;
    let (answered, asked) = converse(&mut Events::of(open), &mut other).await;
    assert!(asked[0]["params"]["elicitationId"].is_string(), "{asked:?}");
    assert_eq!(got(&answered["result"])[0]["action"], "accept");
    // Refused by the client.
    let sampling = json!([three()[1]]);
    let open = all
        .open_post(legacy_call("1", "inquire", &rounds(&[sampling])))
        .await;
    let mut events = Events::of(open);
    let request = events.json().await;
    let refusal = json!({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -1, "message": "User rejected"}});
    other.post(refusal.to_string()).await;
    let answered = events.json().await;
    assert_eq!(answered["error"]["code"], -31_006);
    assert_eq!(
        answered["error"]["data"]["refused"]["message"],
        "User rejected"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_calls_of_one_client_on_one_pipe_are_both_asked_and_answered() {
    let world = World::start([asking("pipe", &[])]).await;
    let path = "/servers/pipe/mcp";
    let mut first = session(&world, path, ALL).await;
    let mut second = first.twin().await;
    let (mut other, mut another) = (first.twin().await, first.twin().await);
    let a = first
        .open_post(legacy_call(
            "1",
            "inquire",
            &rounds(&[elicit("a"), elicit("a")]),
        ))
        .await;
    let b = second
        .open_post(legacy_call(
            "2",
            "inquire",
            &rounds(&[elicit("b"), elicit("b")]),
        ))
        .await;
    // Whichever stream a question comes on, it is the same client that answers.
    let (mut of_a, mut of_b) = (Events::of(a), Events::of(b));
    let (a, b) = tokio::join!(
        converse(&mut of_a, &mut other),
        converse(&mut of_b, &mut another)
    );
    assert_eq!(a.1.len() + b.1.len(), 4);
    for (answered, id) in [(a.0, 1), (b.0, 2)] {
        assert_eq!(answered["id"], id);
        let answer = answer_to("elicitation/create");
        assert_eq!(got(&answered["result"]), json!([answer, answer]));
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f185_a_person_may_think_longer_than_a_server_may_be_silent() {
    let legacy = http(Script::legacy()).await;
    let mut patient = at("http", &legacy);
    patient.timeouts.call_idle_ms = 100;
    let mut strict = asking("pipe", &[]);
    strict.timeouts.call_idle_ms = 100;
    strict.timeouts.call_total_ms = 700;
    let world = World::start([patient, strict]).await;
    let mut session_of = session(&world, "/servers/http/mcp", ALL).await;
    let mut other = session_of.twin().await;
    let open = session_of
        .open_post(legacy_call("1", "inquire", &rounds(&[elicit("a")])))
        .await;
    let mut events = Events::of(open);
    let request = events.json().await;
    let asked_at = std::time::Instant::now();
    wait_until("the person has thought", || {
        asked_at.elapsed().as_millis() > 400
    })
    .await;
    answer(&mut other, &request, &answer_to("elicitation/create")).await;
    assert!(events.json().await["result"].is_object());

    // Thinking does not move the deadline of the call.
    let mut session_of = session(&world, "/servers/pipe/mcp", ALL).await;
    let open = session_of
        .open_post(legacy_call("1", "inquire", &rounds(&[elicit("a")])))
        .await;
    let mut events = Events::of(open);
    events.json().await;
    let told = events.json().await;
    assert_eq!(told["method"], "notifications/cancelled", "{told}");
    let answered = events.json().await;
    assert!(
        answered["error"]["data"]["totalMs"].is_number(),
        "{answered}"
    );
    world.end().await;
}
