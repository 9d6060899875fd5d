//! Starting Mainstay in the background, and saying why it does not work.

use std::process::Stdio;

use serde_json::json;

use super::support::{User, drain, is_alive, pid, tool, wait_until};

#[test]
fn two_apps_that_start_at_once_share_one_mainstay_that_outlives_both() {
    let user = User::new();
    let mut apps: Vec<_> = (0..4).map(|_| user.app(&[])).collect();
    for app in &mut apps {
        app.open();
        let said = app.legacy("tools/call", &tool("kit__echo", json!({ "text": "hi" })));
        assert_eq!(said["result"]["content"][0]["text"], "hi");
    }
    let status = user.status().unwrap();
    assert_eq!(status["sessions"], 4);
    let started = user
        .ledger()
        .lines()
        .filter(|line| line.contains(" spawn "))
        .count();
    assert_eq!(started, 1, "one server for all: {}", user.ledger());
    let mainstay = status["pid"].as_u64().unwrap();
    // A session of its own: no end of an app, of its terminal or of its process group reaches it.
    let session = rustix::process::getsid(Some(pid(mainstay))).unwrap();
    assert_eq!(session, pid(mainstay));
    for app in apps {
        assert!(app.leave().0.success());
    }
    assert!(is_alive(mainstay));
    let log = std::fs::read_to_string(user.path(".local/state/mainstay/serve.log")).unwrap();
    assert!(log.contains("/mcp"), "{log}");
}

#[test]
fn nobody_there_and_none_to_be_started_is_exit_5_with_the_next_step() {
    let user = User::new();
    let mut app = user.app(&["--no-start", "--patience", "1"]);
    assert_eq!(app.ended().code(), Some(5));
    wait_until("the error", || app.stderr().contains("mainstay serve"));
    assert!(
        app.stderr().contains("no Mainstay is running at"),
        "{}",
        app.stderr()
    );
}

#[test]
fn a_configuration_that_cannot_be_used_is_told_as_serve_tells_it() {
    let user = User::new();
    for (text, code, words) in [
        (Some("{"), 3, "mcp.json"),
        (None, 4, "no configuration was found"),
    ] {
        match text {
            Some(text) => std::fs::write(user.path("mcp.json"), text).unwrap(),
            None => std::fs::remove_file(user.path("mcp.json")).unwrap(),
        }
        let mut app = user.app(&[]);
        assert_eq!(app.ended().code(), Some(code));
        wait_until("the error", || app.stderr().contains(words));
    }
    assert!(user.mainstay().is_none());
}

#[test]
fn a_mainstay_that_does_not_start_shows_its_own_words() {
    let user = User::new();
    // The place of the socket is taken by a file of somebody.
    let socket = user.path("taken.sock");
    std::fs::write(&socket, "precious").unwrap();
    let mut app = user.app(&["--socket", socket.to_str().unwrap()]);
    assert_eq!(app.ended().code(), Some(1));
    wait_until("the error", || app.stderr().contains("it is no socket"));
    assert!(app.stderr().contains("serve.log"), "{}", app.stderr());
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
}

#[test]
fn a_taken_port_is_no_obstacle_in_the_background() {
    let user = User::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    user.config(&json!({
        "mainstay": { "listen": taken.local_addr().unwrap().to_string() },
        "mcpServers": {},
    }));
    let mut app = user.app(&[]);
    app.open();
    assert!(app.legacy("tools/list", &json!({}))["result"].is_object());
}

#[test]
fn law_32_the_local_socket_is_for_this_user_and_asks_for_no_host() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    let user = User::new();
    let _mainstay = user.serve(&[]);
    let socket = user.path("run/mainstay/mainstay.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let mut stream = UnixStream::connect(&socket).unwrap();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let answer = drain(&stream);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("mainstay-instance:"), "{answer}");
}

#[test]
fn help_shows_what_an_app_needs() {
    let user = User::new();
    let output = user
        .command(&["stdio", "--help"])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for words in [
        "Examples:",
        "\"command\": \"mainstay\"",
        "--no-start",
        "--server",
    ] {
        assert!(help.contains(words), "{words}: {help}");
    }
}
