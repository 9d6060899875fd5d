//! Modern clients of servers that ask: parked calls and their states.

use mainstay_testkit::http_server::Script;
use serde_json::{Value, json};

use super::*;
use crate::legacy::answer_with;
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

#[tokio::test(flavor = "multi_thread")]
async fn between_modern_sides_everything_passes_untouched() {
    let server = http(Script::modern()).await;
    let world = World::start([at("http", &server)]).await;
    for (path, tool) in [("/servers/http/mcp", "inquire"), ("/mcp", "http__inquire")] {
        let mut client = world.client().await;
        let arguments = rounds(&[three()]);
        let call = modern_call("1", tool, &arguments, "", ALL);
        let first = modern(&mut client, path, &call).await;
        let state = first["requestState"].as_str().unwrap();
        assert!(
            state.starts_with("{\"answers\""),
            "the server's own: {state}"
        );
        assert!(
            first["inputRequests"]["q0-0"].is_object(),
            "its own keys: {first}"
        );
        let more = retry(&answers(&first), &first["requestState"]);
        let call = modern_call("2", tool, &arguments, &more, ALL);
        let last = modern(&mut client, path, &call).await;
        assert_eq!(got(&last).as_array().unwrap().len(), 3);
        let seen = server.ledger().seen_of("tools/call").pop().unwrap();
        assert!(seen.body.contains(&more), "{}", seen.body);
    }
    assert_eq!(world.gateway.parked_count(), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_state_changes_nothing_for_the_call_it_pretends_to_belong_to() {
    let server = http(Script::legacy()).await;
    let world = World::start([at("http", &server), asking("pipe", &[])]).await;
    let path = "/servers/http/mcp";
    let mut client = world.client().await;
    let two = json!([three()[0], three()[2]]);
    let arguments = rounds(&[two]);
    let call = |more: &str| modern_call("1", "inquire", &arguments, more, ALL);
    let first = modern(&mut client, path, &call("")).await;
    let state = &first["requestState"];
    let text = state.as_str().unwrap();
    let good = answers(&first);
    let wrong: Vec<(&str, &str, String)> = vec![
        (
            "tampered",
            path,
            call(&retry(&good, &json!(format!("{text}-TAMPERED")))),
        ),
        ("cut", path, call(&retry(&good, &json!(text[1..])))),
        ("none of ours", path, call(&retry(&good, &json!("state")))),
        ("no text", path, call(&retry(&good, &json!(5)))),
        (
            "another endpoint",
            "/servers/pipe/mcp",
            call(&retry(&good, state)),
        ),
        (
            "other arguments",
            path,
            modern_call("1", "inquire", "{\"rounds\":[]}", &retry(&good, state), ALL),
        ),
        (
            "another tool",
            path,
            modern_call("1", "echo", &arguments, &retry(&good, state), ALL),
        ),
        (
            "answers that are none",
            path,
            call(&retry(&json!([]), state)),
        ),
        (
            "ill-typed",
            path,
            call(&retry(&json!({"elicitation-1": 12345}), state)),
        ),
        (
            "ill-typed inside",
            path,
            call(&retry(
                &json!({"elicitation-1": good["elicitation-1"], "roots-1": {"roots": 1}}),
                state,
            )),
        ),
    ];
    for (what, path, body) in wrong {
        assert_eq!(
            client.modern(path, &body).await.error(),
            (400, -32_602, json!(1)),
            "{what}"
        );
    }
    assert_eq!(world.gateway.parked_count(), 1, "it still waits");
    // An answer is missing, and there is one too many: what is missing is asked again, under a new state.
    let some = json!({"elicitation-1": good["elicitation-1"], "unknown": {"x": 1}});
    let second = modern(&mut client, path, &call(&retry(&some, state))).await;
    let asked: Vec<&String> = second["inputRequests"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(asked, ["roots-1"]);
    // The first state was used.
    let replayed = client.modern(path, &call(&retry(&good, state))).await;
    assert_eq!(replayed.error(), (400, -32_602, json!(1)));
    let more = retry(&answers(&second), &second["requestState"]);
    // Formatting and order are the client's own business.
    let spaced = arguments.replace(':', " : ");
    let last = modern_call("9", "inquire", &spaced, &more, ALL);
    let last = modern(&mut client, path, &last).await;
    assert_eq!(got(&last), json!([good["elicitation-1"], good["roots-1"]]));
    // And now the call is over.
    let gone = client.modern(path, &call(&more)).await;
    assert_eq!(gone.error(), (400, -32_602, json!(1)));
    assert!(gone.body.contains("start the call again"), "{}", gone.body);
    assert_eq!(server.ledger().seen_of("tools/call").len(), 1, "law 16");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_retries_at_once_one_is_served() {
    let world = World::start([asking("pipe", &[])]).await;
    let path = "/servers/pipe/mcp";
    let mut client = world.client().await;
    let arguments = rounds(&[elicit("a"), elicit("b")]);
    let call = modern_call("1", "inquire", &arguments, "", ALL);
    let first = modern(&mut client, path, &call).await;
    let more = retry(&answers(&first), &first["requestState"]);
    let call = modern_call("2", "inquire", &arguments, &more, ALL);
    let mut clients = (world.client().await, world.client().await);
    let (one, other) = tokio::join!(clients.0.modern(path, &call), clients.1.modern(path, &call));
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400], "{one:?} {other:?}");
    assert_eq!(world.gateway.parked_count(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_did_not_declare_is_not_asked_and_ends_its_call() {
    let server = http(Script::legacy()).await;
    let world = World::start([at("http", &server), asking("pipe", &[])]).await;
    for path in ["/servers/http/mcp", "/servers/pipe/mcp"] {
        for (capabilities, missing) in [
            ("{}", "elicitation"),
            (r#"{"elicitation":{}}"#, "sampling"),
            (r#"{"elicitation":{},"sampling":{}}"#, "roots"),
        ] {
            let mut client = world.client().await;
            let call = modern_call("1", "inquire", &rounds(&[three()]), "", capabilities);
            let reply = client.modern(path, &call).await;
            assert_eq!(reply.error(), (400, -32_021, json!(1)), "{}", reply.body);
            let needed = &reply.json()["error"]["data"]["requiredCapabilities"];
            assert!(needed[missing].is_object(), "{needed}");
        }
    }
    wait_until("law 18: the server is told", || {
        server.ledger().counts().cancels == 3
    })
    .await;
    assert_eq!(world.gateway.parked_count(), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_come_before_the_question_are_kept_for_it() {
    let server = http(Script::legacy()).await;
    let world = World::start([at("http", &server)]).await;
    let path = "/servers/http/mcp";
    let mut client = world.client().await;
    let mut question = elicit("name");
    question[0]["params"]["_meta"] = json!({"io.mainstay/inputKey": "user_name", "kept": 1});
    let arguments = rounds(&[question]);
    let good = answer_to("elicitation/create");
    let call = |early: Value| {
        let more = format!(r#","inputResponses":{early}"#);
        modern_call("1", "inquire", &arguments, &more, ALL)
    };
    let early = call(json!({"user_name": good, "unknown": {"action": "accept"}}));
    let done = modern(&mut client, path, &early).await;
    assert_eq!(got(&done), json!([good]), "{done}");
    for useless in [
        json!({"user_name": 12345}),
        json!({"wrong": good}),
        Value::Null,
    ] {
        let required = modern(&mut client, path, &call(useless)).await;
        let asked = &required["inputRequests"]["user_name"];
        assert_eq!(asked["params"]["_meta"], json!({"kept": 1}), "{required}");
    }
    let seen = server.ledger().seen_of("tools/call");
    assert!(
        seen.iter()
            .all(|call| !call.body.contains("inputResponses"))
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_comes_back_for_is_given_up_in_the_servers_own_words() {
    let server = http(Script::legacy()).await;
    let world = World::start_with([at("http", &server)], |settings| {
        settings.parked_expiry_ms = 100;
        settings.parked_max = 1;
    })
    .await;
    let path = "/servers/http/mcp";
    let mut client = world.client().await;
    let arguments = rounds(&[three()]);
    let call = modern_call("1", "inquire", &arguments, "", ALL);
    let first = modern(&mut client, path, &call).await;
    let said = |what: &str| {
        let seen = server.ledger().seen_of("");
        seen.iter().any(|seen| seen.body.contains(what))
    };
    wait_until("the form is dismissed", || said("{\"action\":\"cancel\"}")).await;
    wait_until("the model is not asked", || {
        said("the client did not answer")
    })
    .await;
    let more = retry(&answers(&first), &first["requestState"]);
    let late = client
        .modern(path, &modern_call("1", "inquire", &arguments, &more, ALL))
        .await;
    assert_eq!(late.error(), (400, -32_602, json!(1)));
    wait_until("nothing is left", || world.gateway.parked_count() == 0).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_calls_are_bounded_and_end_with_the_gateway() {
    let server = http(Script::legacy()).await;
    let mut world =
        World::start_with([at("http", &server)], |settings| settings.parked_max = 2).await;
    let path = "/servers/http/mcp";
    let mut client = world.client().await;
    let call = modern_call("1", "inquire", &rounds(&[elicit("a")]), "", ALL);
    for _ in 0..2 {
        let required = modern(&mut client, path, &call).await;
        assert_eq!(required["resultType"], "input_required");
    }
    let refused = client.modern(path, &call).await;
    assert_eq!(refused.error(), (200, -31_005, json!(1)));
    wait_until("law 18: its server is told", || {
        server.ledger().counts().cancels == 1
    })
    .await;
    drop(client);
    world.close().await;
    assert_eq!(world.gateway.parked_count(), 0);
    world.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f114_a_parked_call_whose_connection_died_says_so_when_its_client_comes_back() {
    let mut server = http(Script::legacy()).await;
    let world = World::start([at("http", &server)]).await;
    let path = "/servers/http/mcp";
    let mut client = world.client().await;
    let arguments = rounds(&[elicit("a")]);
    let first = modern_call("1", "inquire", &arguments, "", ALL);
    let first = modern(&mut client, path, &first).await;
    server.stop().await;
    let more = retry(&answers(&first), &first["requestState"]);
    let body = modern_call("2", "inquire", &arguments, &more, ALL);
    let reply = client.modern(path, &body).await;
    assert_eq!(
        reply.error(),
        (200, -31_003, json!(2)),
        "the outcome is unknown: {}",
        reply.body
    );
    assert_eq!(world.gateway.parked_count(), 0);
    assert_eq!(server.ledger().seen_of("tools/call").len(), 1, "law 16");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_to_visit_becomes_a_round_and_the_call_is_made_again() {
    let server = http(Script::legacy()).await;
    let world = World::start([at("http", &server)]).await;
    let path = "/servers/http/mcp";
    let visit = r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32042,"message":"url","data":{"elicitations":[{"mode":"url","elicitationId":"e","url":"https://x","message":"m"}]}}}"#;
    let mut client = world.client().await;
    for (action, code) in [("accept", None), ("decline", Some(-31_006))] {
        answer_with(&server, "tools/call", visit);
        let call = |more: &str| modern_call("1", "echo", r#"{"text":"x"}"#, more, ALL);
        let required = modern(&mut client, path, &call("")).await;
        let asked = &required["inputRequests"]["elicitation-1"];
        assert_eq!(
            asked,
            &json!({"method": "elicitation/create", "params": {"mode": "url", "url": "https://x", "message": "m"}})
        );
        let answer = json!({"elicitation-1": {"action": action}});
        let reply = client
            .modern(path, &call(&retry(&answer, &required["requestState"])))
            .await;
        assert_eq!(
            reply.json()["error"]["code"].as_i64(),
            code,
            "{}",
            reply.body
        );
        assert_eq!(world.gateway.parked_count(), 0);
    }
    let calls = server.ledger().seen_of("tools/call");
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|call| !call.body.contains("requestState")));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f185_a_parked_call_outlasts_the_idle_limit_and_not_its_deadline() {
    let server = http(Script::legacy()).await;
    let mut patient = at("http", &server);
    patient.timeouts.call_idle_ms = 100;
    let mut strict = asking("pipe", &[]);
    strict.timeouts.call_idle_ms = 100;
    strict.timeouts.call_total_ms = 700;
    let world = World::start([patient, strict]).await;
    for (path, in_time) in [("/servers/http/mcp", true), ("/servers/pipe/mcp", false)] {
        let mut client = world.client().await;
        let arguments = rounds(&[elicit("a")]);
        let first = modern_call("1", "inquire", &arguments, "", ALL);
        let first = modern(&mut client, path, &first).await;
        let asked_at = std::time::Instant::now();
        wait_until("the person has thought", || {
            asked_at.elapsed().as_millis() > 900
        })
        .await;
        let more = retry(&answers(&first), &first["requestState"]);
        let body = modern_call("2", "inquire", &arguments, &more, ALL);
        let reply = client.modern(path, &body).await.json();
        assert_eq!(reply["result"].is_object(), in_time, "{reply}");
        assert_eq!(
            reply["error"]["data"]["totalMs"].is_number(),
            !in_time,
            "{reply}"
        );
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_clients_on_one_pipe_each_answer_their_own_questions() {
    let world = World::start([asking("pipe", &[])]).await;
    let path = "/servers/pipe/mcp";
    // From its first question on, the pipe is leased to one client at a time.
    let mut first = world.client().await;
    let call = modern_call("1", "inquire", &rounds(&[elicit("first")]), "", ALL);
    let required = modern(&mut first, path, &call).await;
    let more = retry(&answers(&required), &required["requestState"]);
    let call = modern_call("1", "inquire", &rounds(&[elicit("first")]), &more, ALL);
    modern(&mut first, path, &call).await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..6 {
        let mut client = world.client().await;
        clients.spawn(async move {
            let mine = format!("of {number}");
            let arguments = rounds(&[elicit(&mine), elicit(&mine)]);
            let mut more = String::new();
            for _ in 0..2 {
                let call = modern_call("1", "inquire", &arguments, &more, ALL);
                let required = modern(&mut client, path, &call).await;
                let asked = required["inputRequests"].as_object();
                let asked = asked.unwrap_or_else(|| panic!("no question in {required}"));
                let (key, request) = asked.iter().next().unwrap();
                assert_eq!(request["params"]["message"], mine.as_str());
                let answer = json!({key: {"action": "accept", "content": {"me": number}}});
                more = retry(&answer, &required["requestState"]);
            }
            let call = modern_call("1", "inquire", &arguments, &more, ALL);
            let last = modern(&mut client, path, &call).await;
            assert_eq!(got(&last)[1]["content"]["me"], number);
        });
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    assert_eq!(world.gateway.parked_count(), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_hears_the_log_messages_of_its_own_call_from_its_own_level_on() {
    let server = http(Script::legacy()).await;
    let world = World::start([at("http", &server)]).await;
    let path = "/servers/http/mcp";
    let levels = r#"{"levels":["debug","info","error"]}"#;
    let heard = |body: &str| body.matches("notifications/message").count();
    let mut client = world.client().await;
    for (wanted, count) in [(None, 0), (Some("debug"), 3), (Some("warning"), 1)] {
        let mut call = modern_call("1", "log", levels, "", "{}");
        if let Some(level) = wanted {
            let stamp = format!(r#""_meta":{{"io.modelcontextprotocol/logLevel":"{level}","#);
            call = call.replace(r#""_meta":{"#, &stamp);
        }
        let reply = client.modern(path, &call).await;
        assert_eq!(heard(&reply.body), count, "{wanted:?}: {}", reply.body);
    }
    let mut session = world.session(path).await;
    let level =
        r#"{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"error"}}"#;
    session.post(level).await;
    let reply = session.post(legacy_call("1", "log", levels)).await;
    assert_eq!(heard(&reply.body), 1, "{}", reply.body);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_call_makes_room_for_calls_that_wait_for_its_connection() {
    let mut server = asking("pipe", &[]);
    server.connections.lanes = 1;
    server.connections.max = 1;
    server.timeouts.edge_patience_ms = Some(5_000);
    let world = World::start_with([server], |settings| settings.parked_yield_ms = 100).await;
    let path = "/servers/pipe/mcp";
    let mut client = world.client().await;
    let call = |message: &str, more: &str| {
        modern_call("1", "inquire", &rounds(&[elicit(message)]), more, ALL)
    };
    let mut earlier: Option<Value> = None;
    for message in ["a", "b", "c"] {
        let required = modern(&mut client, path, &call(message, "")).await;
        assert_eq!(
            required["inputRequests"]["elicitation-1"]["params"]["message"],
            message
        );
        if let Some(displaced) = earlier.replace(required) {
            let before = ["a", "b"][usize::from(message == "c")];
            let more = retry(&answers(&displaced), &displaced["requestState"]);
            let gone = client.modern(path, &call(before, &more)).await;
            assert_eq!(gone.error(), (400, -32_602, json!(1)), "{}", gone.body);
        }
    }
    let last = earlier.unwrap();
    let more = retry(&answers(&last), &last["requestState"]);
    let done = modern(&mut client, path, &call("c", &more)).await;
    assert_eq!(got(&done)[0], answer_to("elicitation/create"));
    world.end().await;
}
