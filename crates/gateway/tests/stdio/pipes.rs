//! One app, one running Mainstay: what each line becomes.

use rustix::process::Signal;
use serde_json::json;

use super::support::{User, stamped, tool, wait_until};

#[test]
fn both_eras_are_served_on_one_pipe() {
    let user = User::new();
    let _mainstay = user.serve(&[]);
    let mut app = user.app(&["--no-start"]);
    let found = app.modern("server/discover", json!({}));
    assert_eq!(found["result"]["supportedVersions"], json!(["2026-07-28"]));
    // A client whose probe timed out goes on like this.
    app.open();
    let listed = app.legacy("tools/list", &json!({}));
    let names = listed["result"]["tools"].as_array().unwrap();
    assert!(names.iter().any(|tool| tool["name"] == "kit__echo"));
    let said = app.modern("tools/call", tool("kit__echo", json!({ "text": "modern" })));
    assert_eq!(said["result"]["content"][0]["text"], "modern");
    assert_eq!(said["result"]["resultType"], "complete");
    let said = app.legacy(
        "tools/call",
        &tool("kit__echo", json!({ "text": "legacy" })),
    );
    assert_eq!(said["result"]["content"][0]["text"], "legacy");
    assert!(said["result"].get("resultType").is_none(), "{said}");
    // String ids stay strings; a name that no header could hold as it is arrives, too.
    app.send(
        &json!({ "jsonrpc": "2.0", "id": "s-1", "method": "tools/call",
        "params": stamped(tool("käse\u{1}", json!({}))) }),
    );
    assert_eq!(app.answer(&json!("s-1"))["error"]["code"], -32602);
    let (status, rest, _) = app.leave();
    assert!(status.success());
    assert!(
        rest.iter().all(|message| message.get("id").is_none()),
        "{rest:#?}"
    );
}

#[test]
fn one_server_alone_keeps_its_names() {
    let user = User::new();
    let _mainstay = user.serve(&[]);
    let mut app = user.app(&["--no-start", "--server", "kit"]);
    app.open();
    let said = app.legacy("tools/call", &tool("echo", json!({ "text": "alone" })));
    assert_eq!(said["result"]["content"][0]["text"], "alone");
    let mut lost = user.app(&["--no-start", "--server", "kitt"]);
    assert_eq!(lost.ended().code(), Some(6));
    wait_until("the error", || {
        lost.stderr().contains("configured are: kit")
    });
}

#[test]
fn progress_comes_before_its_answer_and_many_calls_run_at_once() {
    let user = User::new();
    let _mainstay = user.serve(&[]);
    let mut app = user.app(&["--no-start"]);
    app.open();
    let mut params = tool("kit__progress", json!({ "steps": 3 }));
    params["_meta"] = json!({ "progressToken": "mine" });
    let id = app.ask("tools/call", &params);
    for step in 1..=3 {
        let progress = app.notification("notifications/progress");
        assert_eq!(progress["params"]["progressToken"], "mine");
        assert_eq!(progress["params"]["progress"], step);
    }
    assert!(app.answer(&id)["result"].is_object());
    // The first waits while all others are answered.
    let slow = app.ask("tools/call", &tool("kit__slow", json!({ "ms": 60_000 })));
    let many: Vec<_> = (0..100)
        .map(|n| {
            app.ask(
                "tools/call",
                &tool("kit__echo", json!({ "text": n.to_string() })),
            )
        })
        .collect();
    for (n, id) in many.iter().enumerate() {
        assert_eq!(
            app.answer(id)["result"]["content"][0]["text"],
            n.to_string()
        );
    }
    app.send(
        &json!({ "jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": { "requestId": slow } }),
    );
    wait_until("the cancellation at the server", || {
        user.ledger().contains("cancelled")
    });
    assert!(app.rest().iter().all(|message| message["id"] != slow));
}

#[test]
fn law_18_a_cancelled_modern_call_is_cancelled_at_the_server_and_never_answered() {
    let user = User::with(&["--era", "modern"]);
    let _mainstay = user.serve(&[]);
    let mut app = user.app(&["--no-start"]);
    let id = app.ask(
        "tools/call",
        &stamped(tool("kit__slow", json!({ "ms": 60_000 }))),
    );
    wait_until("the call at the server", || {
        user.ledger().contains("call slow")
    });
    app.send(
        &json!({ "jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": { "requestId": id } }),
    );
    wait_until("the cancellation at the server", || {
        user.ledger().contains("cancelled")
    });
    let said = app.modern("tools/call", tool("kit__echo", json!({ "text": "on" })));
    assert_eq!(said["result"]["content"][0]["text"], "on");
    assert!(app.rest().iter().all(|message| message["id"] != id));
}

#[test]
fn a_listen_stream_tells_changes_and_ends_when_it_is_cancelled() {
    let user = User::new();
    let _mainstay = user.serve(&[]);
    let mut app = user.app(&["--no-start"]);
    app.modern("tools/list", json!({}));
    let id = app.ask(
        "subscriptions/listen",
        &stamped(json!({ "notifications": { "toolsListChanged": true } })),
    );
    let granted = app.notification("notifications/subscriptions/acknowledged");
    let key = "io.modelcontextprotocol/subscriptionId";
    assert_eq!(granted["params"]["_meta"][key], id);
    let names = json!({ "names": ["echo", "set_tools", "new"] });
    app.modern("tools/call", tool("kit__set_tools", names));
    let told = app.notification("notifications/tools/list_changed");
    assert_eq!(told["params"]["_meta"][key], id);
    app.send(
        &json!({ "jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": { "requestId": id } }),
    );
    let names = json!({ "names": ["echo", "set_tools"] });
    app.modern("tools/call", tool("kit__set_tools", names));
    wait_until("the change", || {
        let (_, tools, _) = user.run(&["tools", "--json"]);
        !tools.contains("kit__new")
    });
    let (_, rest, _) = app.leave();
    assert!(
        rest.iter().all(|message| message["id"] != id),
        "a cancelled subscription gets no answer: {rest:#?}"
    );
}

#[test]
fn f43_noise_is_skipped_and_broken_messages_are_told() {
    let user = User::new();
    let _mainstay = user.serve(&[]);
    let mut app = user.app(&["--no-start"]);
    app.write(b"hello\n\n{\"a\":1}\n\xff\xfe\n[]\n");
    app.write(b"{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"tools/list\",\"params\":{\"x\":}}\n");
    assert_eq!(app.answer(&json!(5))["error"]["code"], -32600);
    let deep = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":6,\"method\":\"x\",\"params\":{}{}}}\n",
        "[".repeat(500),
        "]".repeat(500)
    );
    app.write(deep.as_bytes());
    let told = app.answer(&json!(6));
    assert!(
        told["error"]["message"]
            .as_str()
            .unwrap()
            .contains("128 levels"),
        "{told}"
    );
    // Without a session the answer says what to do; a ping needs none.
    assert!(app.legacy("ping", &json!({}))["result"].is_object());
    let told = app.legacy("tools/list", &json!({}));
    assert!(
        told["error"]["message"]
            .as_str()
            .unwrap()
            .contains("initialize"),
        "{told}"
    );
    app.open();
    assert!(app.legacy("tools/list", &json!({}))["result"].is_object());
    assert!(app.stderr().contains("no message"), "{}", app.stderr());
}

#[test]
fn an_over_long_message_is_told_the_limit() {
    let user = User::new();
    user.config(&json!({
        "mainstay": { "listen": "127.0.0.1:0", "limits": { "messageBytes": 65_536 } },
        "mcpServers": {},
    }));
    let _mainstay = user.serve(&[]);
    let mut app = user.app(&["--no-start"]);
    let long = "x".repeat(200_000);
    let told = app.legacy("tools/call", &tool("a", json!({ "text": long })));
    let text = told["error"]["message"].as_str().unwrap();
    assert!(text.contains("65536"), "{told}");
}

#[test]
fn law_6_the_end_of_stdin_finishes_what_is_in_flight_and_ends_the_session() {
    let user = User::new();
    let _mainstay = user.serve(&[]);
    let mut app = user.app(&["--no-start"]);
    app.open();
    let id = app.ask(
        "tools/call",
        &tool("kit__add_marker", json!({ "marker": "last", "ms": 700 })),
    );
    assert_eq!(user.status().unwrap()["sessions"], 1);
    app.close_stdin();
    let answer = app.answer(&id);
    assert_eq!(answer["result"]["content"][0]["text"], "last");
    assert_eq!(app.ended().code(), Some(0));
    assert_eq!(user.status().unwrap()["sessions"], 0);
}

#[test]
fn a_signal_ends_it_in_order_whatever_is_in_flight() {
    let user = User::new();
    let _mainstay = user.serve(&[]);
    let mut app = user.app(&["--no-start"]);
    app.open();
    app.ask("tools/call", &tool("kit__slow", json!({ "ms": 60_000 })));
    wait_until("the call at the server", || {
        user.ledger().contains("call slow")
    });
    app.signal(Signal::TERM);
    assert_eq!(app.ended().code(), Some(0));
    assert_eq!(user.status().unwrap()["sessions"], 0);
}
