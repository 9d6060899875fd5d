//! `mainstay token` and `mainstay serve`, used as people use them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::rig::{OPEN, bearer, get, open, session};
use super::support::Client;

const MAINSTAY: &str = env!("CARGO_BIN_EXE_mainstay");

/// A user with an empty home directory.
struct User(tempfile::TempDir);

/// A Mainstay that runs; ended when it is dropped.
struct Serving {
    child: Child,
    port: u16,
    line: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _gone = kill_process(pid, Signal::TERM);
        }
        drop(self.child.wait());
    }
}

impl User {
    fn new(access: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let text = format!(r#"{{ "mcpServers": {{}}, "mainstay": {{ "access": {access} }} }}"#);
        std::fs::write(home.path().join("mcp.json"), text).unwrap();
        std::fs::create_dir_all(home.path().join("run")).unwrap();
        Self(home)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(MAINSTAY);
        command
            .args(args)
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.0.path())
            .env("XDG_RUNTIME_DIR", self.0.path().join("run"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    fn serve(&self, listen: &str) -> Serving {
        let mut child = self
            .command(&["serve", "--listen", listen])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let rest = line.split("://").nth(1).unwrap_or_else(|| panic!("{line}"));
        let address = rest.split('/').next().unwrap();
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        Serving { child, port, line }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_32_from_a_refusal_to_a_token_that_is_revoked() {
    let user = User::new("{}");
    let (code, _, said) = user.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(code, 9, "{said}");
    assert!(said.contains("mainstay token create NAME"), "{said}");
    // Before anything runs, the token goes to the state directory.
    let (code, token, note) = user.run(&[
        "token",
        "create",
        "ci",
        "--group",
        "ops",
        "--expires",
        "90d",
    ]);
    assert_eq!(code, 0, "{note}");
    let token = token.trim();
    assert!(
        token.starts_with("mst_") && !note.contains(token) && note.contains("only time"),
        "{note}"
    );
    let serving = user.serve("0.0.0.0:0");
    assert!(serving.line.contains("http://0.0.0.0:"), "{}", serving.line);
    let mut client = Client::connect(([127, 0, 0, 1], serving.port).into()).await;
    assert_eq!(
        get(&mut client, "/metrics", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    session(&open(&mut client, "/mcp", &[("authorization", &bearer(token))]).await);
    // And then it is the running one's, which knows when it was used.
    let (code, made, _) = user.run(&["token", "create", "ann", "--group", "admin", "--json"]);
    assert_eq!(code, 0, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let ann = bearer(made["token"].as_str().unwrap());
    assert_eq!(
        get(&mut client, "/api/v1/status", &[&ann]).await.status,
        StatusCode::OK
    );
    let (code, list, _) = user.run(&["token", "list"]);
    assert_eq!(code, 0);
    for word in ["ci", "ann", "valid", "ops", "admin", "in 8"] {
        assert!(list.contains(word), "{word}: {list}");
    }
    assert!(!list.contains("mst_"), "{list}");
    let (code, said, _) = user.run(&["token", "revoke", "ci"]);
    assert_eq!((code, said.trim()), (0, "ci is revoked"));
    let reply = open(&mut client, "/mcp", &[("authorization", &bearer(token))]).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    for (args, code, words) in [
        (vec!["token", "revoke", "ci"], 6, "ann"),
        (
            vec!["token", "create", "ann"],
            1,
            "mainstay token revoke ann",
        ),
        (vec!["token", "create", "../x"], 2, "letters, digits"),
        (
            vec!["token", "create", "x", "--expires", "soon"],
            2,
            "--expires 90d",
        ),
    ] {
        let (ended, _, said) = user.run(&args);
        assert_eq!(ended, code, "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
    drop(serving);
    let state: Vec<_> = walk(user.0.path());
    let secret = token.trim_start_matches("mst_").as_bytes();
    for file in state {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let is_in = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!is_in, "law 31: the token is in {}", file.display());
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(walk(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[test]
fn law_32_tls_files_that_are_not_there_keep_it_from_starting() {
    let user = User::new(r#"{ "tls": { "cert": "missing.pem", "key": "key.pem" } }"#);
    let (code, _, said) = user.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 9, "{said}");
    assert!(
        said.contains("missing.pem") && said.contains("mainstay.access.tls.cert"),
        "{said}"
    );
    let user = User::new(r#"{ "required": false }"#);
    let (code, _, said) = user.run(&["check"]);
    assert_eq!(code, 3, "{said}");
    assert!(
        said.contains("mcp.json:1:") && said.contains("cannot be false"),
        "{said}"
    );
}

/// The local socket is this user's, whatever the port wants.
#[tokio::test(flavor = "multi_thread")]
async fn law_32_the_local_socket_needs_no_token() {
    let user = User::new(r#"{ "required": true }"#);
    let serving = user.serve("127.0.0.1:0");
    let mut client = Client::connect(([127, 0, 0, 1], serving.port).into()).await;
    assert_eq!(
        open(&mut client, "/mcp", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
    let (code, said, _) = user.run(&["status", "--json"]);
    assert_eq!(code, 0, "{said}");
    let mut relay = user
        .command(&["stdio", "--no-start"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = relay.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, format!("{OPEN}\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(relay.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains("protocolVersion"), "{line}");
    drop(stdin);
    relay.wait().unwrap();
}
