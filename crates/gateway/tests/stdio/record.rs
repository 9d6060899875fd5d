//! The wire log, and its replay: two apps through relays are recorded, and said again to another Mainstay.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::support::{App, User, tool, wait_until};

const SECRET: &str = "very-\"secret\"-value";

/// A user whose server has a secret in its environment, and a free port.
fn user() -> User {
    let user = User::new();
    let mut config: Value =
        serde_json::from_str(&std::fs::read_to_string(user.path("mcp.json")).unwrap()).unwrap();
    config["mcpServers"]["kit"]["env"] = json!({ "API_TOKEN": SECRET });
    user.config(&config);
    user
}

fn lines(user: &User) -> Vec<Value> {
    let text = std::fs::read_to_string(user.path("wire.jsonl")).unwrap_or_default();
    let whole = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    whole.collect()
}

/// Calls in both eras, with progress, an error and a secret.
fn conversation(app: &mut App) {
    app.open();
    app.legacy("tools/list", &json!({}));
    app.legacy("tools/call", &tool("kit__echo", json!({ "text": SECRET })));
    let mut params = tool("kit__progress", json!({ "steps": 2 }));
    params["_meta"] = json!({ "progressToken": 1 });
    app.legacy("tools/call", &params);
    app.legacy("tools/call", &tool("no__such", json!({})));
    app.modern("server/discover", json!({}));
    app.modern("tools/call", tool("kit__echo", json!({ "text": "modern" })));
}

#[expect(
    clippy::too_many_lines,
    reason = "one recording, looked at from all sides"
)]
#[test]
fn law_31_a_recording_holds_every_message_and_no_secret_and_replays_alike() {
    let user = user();
    let mainstay = user.serve(&["--record", "wire.jsonl"]);
    let mut app = user.app(&["--no-start"]);
    conversation(&mut app);
    let (status, ..) = app.leave();
    assert!(status.success());
    wait_until("the last answer in the file", || {
        lines(&user).iter().any(|line| {
            line["side"] == "client"
                && line["message"].to_string().contains("\"text\":\"modern\"")
                && line["dir"] == "out"
        })
    });
    mainstay.stop();
    let text = std::fs::read_to_string(user.path("wire.jsonl")).unwrap();
    assert!(!text.contains("secret"), "{text}");
    assert!(text.contains("[hidden]"));
    let mode = std::fs::metadata(user.path("wire.jsonl"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let lines = lines(&user);
    let has = |side: &str, dir: &str, method: &str| {
        lines.iter().any(|line| {
            line["side"] == side && line["dir"] == dir && line["message"]["method"] == method
        })
    };
    for (side, dir, method) in [
        ("client", "in", "initialize"),
        ("client", "in", "notifications/initialized"),
        ("client", "in", "server/discover"),
        ("client", "out", "notifications/progress"),
        ("server", "out", "initialize"),
        ("server", "out", "tools/call"),
        ("server", "in", "notifications/progress"),
    ] {
        assert!(has(side, dir, method), "{side} {dir} {method}: {text}");
    }
    let results = lines.iter().filter(|line| {
        line["side"] == "server" && line["dir"] == "in" && line["message"].get("result").is_some()
    });
    assert!(results.count() >= 4, "{text}");
    assert!(lines.iter().all(|line| line["t"].as_u64().unwrap() > 0));

    // Another Mainstay with the same server answers alike; one without it does not.
    let again = user.serve(&[]);
    let url = format!("http://{}", again.address());
    let (code, out, err) = user.run(&["replay", "wire.jsonl", "--url", &url, "--json"]);
    assert_eq!(code, Some(0), "{out}\n{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["requests"], &report["alike"]),
        (&json!(7), &json!(7)),
        "{out}"
    );
    assert_eq!(
        user.status().unwrap()["sessions"],
        0,
        "the replay ends its session"
    );
    again.stop();
    user.config(&json!({ "mainstay": { "listen": "127.0.0.1:0" }, "mcpServers": {} }));
    let other = user.serve(&[]);
    let url = format!("http://{}", other.address());
    let (code, out, _) = user.run(&["replay", "wire.jsonl", "--url", &url]);
    assert_eq!(code, Some(60), "{out}");
    assert!(
        out.contains("replayed") && out.contains("different"),
        "{out}"
    );
    other.stop();
    let (code, _, err) = user.run(&["replay", "wire.jsonl", "--url", &url]);
    assert_eq!(code, Some(5), "{err}");
    let (code, _, err) = user.run(&["replay", "mcp.json"]);
    assert_eq!(code, Some(2), "{err}");
}

#[test]
fn law_30_a_recording_is_bounded_and_goes_on_in_a_new_file() {
    let user = User::new();
    let _mainstay = user.serve(&["--record", "wire.jsonl", "--record-mib", "1"]);
    let mut app = user.app(&["--no-start"]);
    app.open();
    for _ in 0..6 {
        let said = app.legacy("tools/call", &tool("kit__big", json!({ "bytes": 300_000 })));
        assert!(said["result"].is_object());
    }
    let size = |name: &str| std::fs::metadata(user.path(name)).map_or(0, |file| file.len());
    wait_until("the former file", || size("wire.jsonl.1") > 0);
    let max = 1024 * 1024;
    assert!(size("wire.jsonl.1") <= max && size("wire.jsonl") <= max);
}
