//! Mainstay is killed, ended and replaced under an open client: it notices a slow call at worst.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::{App, User, stamped, tool, wait_until};

fn echo(app: &mut App, text: &str) {
    let said = app.legacy("tools/call", &tool("kit__echo", json!({ "text": text })));
    assert_eq!(said["result"]["content"][0]["text"], text, "{said}");
}

fn marker(app: &mut App, marker: &str) -> Value {
    app.legacy(
        "tools/call",
        &tool("kit__add_marker", json!({ "marker": marker })),
    )
}

#[test]
fn a_legacy_client_survives_kill_9_of_the_mainstay_that_its_relay_started() {
    let user = User::new();
    let mut app = user.app(&[]);
    app.open();
    echo(&mut app, "before");
    for round in 0..3 {
        let mainstay = user.mainstay().unwrap();
        user.kill(mainstay, Signal::KILL);
        // Not one call fails, and each is executed once.
        let name = format!("round-{round}");
        let said = marker(&mut app, &name);
        assert_eq!(said["result"]["content"][0]["text"], name, "{said}");
        assert_eq!(user.executed(&name), 1);
        assert_ne!(user.mainstay().unwrap(), mainstay);
        // Something may have changed while nobody looked.
        app.notification("notifications/tools/list_changed");
    }
    assert_eq!(user.status().unwrap()["sessions"], 1);
    let (status, _, _) = app.leave();
    assert!(status.success());
    assert_eq!(user.status().unwrap()["sessions"], 0);
}

#[test]
fn a_modern_client_and_its_subscription_survive_kill_9() {
    let user = User::with(&["--era", "both"]);
    let mut app = user.app(&[]);
    app.modern("tools/list", json!({}));
    let id = app.ask(
        "subscriptions/listen",
        &stamped(json!({ "notifications": { "toolsListChanged": true } })),
    );
    app.notification("notifications/subscriptions/acknowledged");
    user.kill(user.mainstay().unwrap(), Signal::KILL);
    let said = app.modern("tools/call", tool("kit__echo", json!({ "text": "after" })));
    assert_eq!(said["result"]["content"][0]["text"], "after");
    let key = "io.modelcontextprotocol/subscriptionId";
    let told = app.notification("notifications/tools/list_changed");
    assert_eq!(told["params"]["_meta"][key], id);
    // The subscription goes on at the new one.
    let names = json!({ "names": ["echo", "set_tools", "new"] });
    app.modern("tools/call", tool("kit__set_tools", names));
    let told = app.notification("notifications/tools/list_changed");
    assert_eq!(told["params"]["_meta"][key], id);
    let (status, rest, _) = app.leave();
    assert!(status.success());
    let again = "notifications/subscriptions/acknowledged";
    assert!(
        rest.iter()
            .all(|message| message["method"] != again && message["id"] != id),
        "the client was told of its subscription's end: {rest:#?}"
    );
}

#[test]
fn law_16_a_call_that_was_running_when_mainstay_died_is_unknown_and_runs_once() {
    for modern in [false, true] {
        let user = User::new();
        let mut app = user.app(&[]);
        app.open();
        let mut params = tool("kit__add_marker", json!({ "marker": "once", "ms": 60_000 }));
        if modern {
            params = stamped(params);
        }
        let id = app.ask("tools/call", &params);
        wait_until("the call at the server", || user.executed("once") == 1);
        user.kill(user.mainstay().unwrap(), Signal::KILL);
        let told = app.answer(&id);
        assert_eq!(told["error"]["code"], -31003, "{told}");
        assert_eq!(told["error"]["data"]["outcome"], "unknown");
        echo(&mut app, "on");
        assert_eq!(user.executed("once"), 1, "it was sent again");
    }
}

#[test]
fn a_listing_that_was_on_its_way_is_asked_for_again() {
    let user = User::with(&["--slow-start", "1500"]);
    let mut app = user.app(&[]);
    app.open();
    // Waits for the first listing of the server.
    let id = app.ask("tools/list", &json!({}));
    user.kill(user.mainstay().unwrap(), Signal::KILL);
    let listed = app.answer(&id);
    let tools = listed["result"]["tools"].as_array().unwrap();
    assert!(
        tools.iter().any(|tool| tool["name"] == "kit__echo"),
        "{listed}"
    );
}

#[test]
fn an_upgrade_in_order_loses_no_call() {
    let user = User::new();
    let mut mainstay = user.serve(&[]);
    let mut app = user.app(&["--no-start"]);
    app.open();
    for round in 0..3 {
        let ask = |app: &mut App, phase: &str| -> Vec<(Value, String)> {
            let ask = |n| {
                let name = format!("{round}-{phase}-{n}");
                let params = tool("kit__add_marker", json!({ "marker": name, "ms": 50 }));
                (app.ask("tools/call", &params), name)
            };
            (0..5).map(ask).collect()
        };
        let mut ids = ask(&mut app, "before");
        wait_until("the calls at the server", || {
            ids.iter().all(|(_, name)| user.executed(name) == 1)
        });
        mainstay.stop();
        ids.extend(ask(&mut app, "between"));
        mainstay = user.serve(&[]);
        ids.extend(ask(&mut app, "after"));
        for (id, name) in ids {
            let said = app.answer(&id);
            assert_eq!(said["result"]["content"][0]["text"], *name, "{said}");
            assert_eq!(user.executed(&name), 1);
        }
    }
    mainstay.kill();
}

#[test]
fn without_a_mainstay_a_call_waits_for_its_patience_and_is_refused() {
    let user = User::new();
    let mainstay = user.serve(&[]);
    let mut app = user.app(&["--no-start", "--patience", "1"]);
    app.open();
    echo(&mut app, "before");
    mainstay.kill();
    for modern in [false, true] {
        let mut params = tool("kit__add_marker", json!({ "marker": "never" }));
        if modern {
            params = stamped(params);
        }
        let told = app.legacy("tools/call", &params);
        assert_eq!(told["error"]["code"], -31001, "{told}");
        assert_eq!(told["error"]["data"]["outcome"], "refused");
    }
    // The next one is there for the next call.
    let _mainstay = user.serve(&[]);
    echo(&mut app, "after");
    assert_eq!(user.executed("never"), 0);
}

#[test]
fn law_25_log_level_and_subscriptions_of_a_lost_session_are_restored() {
    let user = User::with(&["--wishes"]);
    let mut app = user.app(&[]);
    app.open();
    let uri = json!({ "uri": "file:///fixed" });
    assert!(app.legacy("resources/subscribe", &uri)["result"].is_object());
    user.kill(user.mainstay().unwrap(), Signal::KILL);
    echo(&mut app, "after");
    // Told because it may have changed, and watched again.
    app.notification("notifications/resources/updated");
    app.legacy("tools/call", &tool("kit__touch", uri));
    app.notification("notifications/resources/updated");
}
