//! `mainstay add`, `remove` and `edit`: the configuration keeps its comments, and nothing untried gets in.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use serde_json::Value;

use super::support::{Ended, MAINSTAY, User};

const OWN: &str = r#"{
  // my servers
  "mcpServers": {
    "old": { "command": "true" }, // kept
  },
}
"#;

fn config(user: &User) -> String {
    fs::read_to_string(user.config()).unwrap()
}

/// A demo server over HTTP, gone with the value.
struct HttpServer(Child, String);

impl HttpServer {
    fn start(user: &User) -> Self {
        let mut command = user.command(&["demo-server", "http-sessions", "--lifeline"]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let address = line.split_whitespace().last().unwrap();
        let url = format!("http://{address}/mcp");
        Self(child, url)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

#[test]
fn a_server_is_tried_and_added_to_a_new_configuration() {
    let user = User::new();
    user.run(&["add", "demo", "--", MAINSTAY, "demo-server", "stdio"])
        .exit(0)
        .says(&[
            "connected",
            "legacy",
            "tools",
            "added `demo`",
            "mainstay serve",
        ]);
    let mode = fs::metadata(user.config()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let tree: Value = serde_json::from_str(&config(&user)).unwrap();
    assert_eq!(tree["mcpServers"]["demo"]["args"][1], "stdio");
    let text = config(&user);
    let order = ["\"command\"", "\"args\""].map(|word| text.find(word).unwrap());
    assert!(order[0] < order[1], "{text}");
    let added = user
        .run(&[
            "add",
            "more",
            "--json",
            "--env",
            "A=b",
            "--cwd",
            "/",
            "--",
            MAINSTAY,
            "demo-server",
            "stdio",
        ])
        .exit(0)
        .json();
    assert!(
        !added["tried"]["tools"].as_array().unwrap().is_empty(),
        "{added:#}"
    );
    assert_eq!(added["running"], "no");
    user.run(&["check", "--json"]).exit(0);
}

#[test]
fn a_server_at_an_address_is_tried_too() {
    let user = User::new();
    let server = HttpServer::start(&user);
    user.run(&["add", "web", &server.1, "--header", "X-Team: blue"])
        .exit(0)
        .says(&["connected", "http"]);
    let tree: Value = serde_json::from_str(&config(&user)).unwrap();
    assert_eq!(tree["mcpServers"]["web"]["headers"]["X-Team"], "blue");
    let gone = server.1.clone();
    drop(server);
    let before = config(&user);
    user.run(&["add", "gone", &gone, "--timeout", "20"])
        .exit(25)
        .says(&["gone", "--force", "hint:"]);
    assert_eq!(config(&user), before);
}

#[test]
fn a_server_that_does_not_answer_is_not_written_unless_forced() {
    let user = User::new();
    user.write(&user.config(), OWN);
    let add = |more: &[&str]| -> Ended {
        let args = [
            &["add", "bad"],
            more,
            &["--", "sh", "-c", "echo lost my mind >&2; exit 3"],
        ]
        .concat();
        user.run(&args)
    };
    add(&[])
        .exit(25)
        .says(&["lost my mind", "nothing was written", "--force"]);
    assert_eq!(config(&user), OWN);
    add(&["--force"]).exit(0).says(&["warning:", "added"]);
    assert!(config(&user).contains("lost my mind"));
    fs::write(user.config(), OWN).unwrap();
    add(&["--no-try"]).exit(0);
    assert!(config(&user).contains("lost my mind"));
}

#[test]
fn comments_and_order_stay_when_servers_come_and_go() {
    let user = User::new();
    user.write(&user.config(), OWN);
    user.run(&["add", "new", "--no-try", "--", "npx", "-y", "x"])
        .exit(0);
    let text = config(&user);
    let expected = OWN.replace(
        "// kept\n",
        "// kept\n    \"new\": {\n      \"command\": \"npx\",\n      \"args\": [\"-y\", \"x\"],\n    },\n",
    );
    assert_eq!(text, expected);
    user.run(&["add", "new", "--no-try", "--", "y"])
        .exit(2)
        .says(&["already", "--force"]);
    user.run(&["add", "new", "--no-try", "--force", "--", "y"])
        .exit(0);
    assert!(config(&user).contains("\"y\""));
    user.run(&["remove", "nwe"])
        .exit(6)
        .says(&["there are: old, new"]);
    let removed = user.run(&["remove", "new", "--json"]).exit(0).json();
    assert_eq!(config(&user), OWN);
    let backup = fs::read_to_string(removed["backup"].as_str().unwrap()).unwrap();
    assert!(backup.contains("\"y\""), "{backup}");
    user.run(&["remove", "old"])
        .exit(0)
        .says(&["removed `old`", "former text"]);
    User::new().run(&["remove", "old"]).exit(4);
}

#[test]
fn law_31_a_secret_is_told_to_become_a_reference_and_never_repeated() {
    let user = User::new();
    user.run(&[
        "add",
        "a",
        "--no-try",
        "--env",
        "GITHUB_TOKEN=hunter2",
        "--",
        "x",
    ])
    .exit(0)
    .says(&["warning:", "GITHUB_TOKEN=${GITHUB_TOKEN}"])
    .never_says(&["hunter2"]);
    user.run(&[
        "add",
        "b",
        "http://localhost/",
        "--no-try",
        "--header",
        "Authorization: Bearer hunter2",
    ])
    .exit(0)
    .says(&["Authorization: Bearer ${AUTHORIZATION}"])
    .never_says(&["hunter2"]);
    user.run(&["add", "c", "--no-try", "--env", "hunter2", "--", "x"])
        .exit(2)
        .says(&["NAME=VALUE"])
        .never_says(&["hunter2"]);
    // A reference is no secret; without a value it cannot be tried.
    let told = user.run(&["add", "d", "--env", "TOKEN=${NOBODY_SETS_THIS}", "--", "x"]);
    told.exit(3)
        .says(&["NOBODY_SETS_THIS", "--force"])
        .never_says(&["warning:"]);
}

#[test]
fn what_makes_no_sense_is_told_with_what_would() {
    let user = User::new();
    for (args, words) in [
        (vec!["add", "time"], "npx -y PACKAGE"),
        (
            vec!["add", "time", "uvx", "mcp-server-time"],
            "mainstay add time -- uvx mcp-server-time",
        ),
        (vec!["add", "time", "http://x/", "--", "y"], "both"),
        (vec!["add", "time", "http://x/", "--env", "A=b"], "--header"),
        (vec!["add", "time", "--header", "A: b", "--", "y"], "--env"),
    ] {
        user.run(&args).exit(2).says(&[words]);
    }
    user.run(&["add", "a/b", "--no-try", "--", "x"])
        .exit(3)
        .says(&["a/b"]);
    user.write(&user.config(), "{ \"mcpServers\": oops }");
    user.run(&["add", "time", "--no-try", "--", "x"])
        .exit(3)
        .says(&["line 1, column 17"]);
    assert!(!user.home(".config/mainstay/mcp.json.mainstay.bak").exists());
}

/// `mainstay edit` with an editor that is a script, in a terminal.
#[cfg(target_os = "linux")]
fn edit(user: &User, editor: &str, typed: &str) -> Ended {
    use std::io::Write;
    let mut command = user.command(&[]);
    let mut terminal = std::process::Command::new("script");
    terminal
        .args(["-qec", &format!("{MAINSTAY} edit"), "/dev/null"])
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("EDITOR", editor)
        .current_dir(user.project(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let _unused = command.stdin(Stdio::null());
    let mut child = terminal.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(typed.as_bytes())
        .unwrap();
    Ended::of(child.wait_with_output().unwrap())
}

#[test]
#[cfg(target_os = "linux")]
fn only_a_valid_configuration_leaves_the_editor() {
    let user = User::new();
    user.write(&user.config(), OWN);
    edit(&user, "true", "")
        .exit(0)
        .says(&["nothing was changed"]);
    edit(&user, "sed -i s/old/older/", "")
        .exit(0)
        .says(&["wrote"]);
    assert!(config(&user).contains("\"older\""));
    let before = config(&user);
    edit(&user, "sed -i s/command/7/", "n\n").exit(3).says(&[
        "error:",
        "Edit it again?",
        "nothing was written",
    ]);
    assert_eq!(config(&user), before);
    // Broken at first, mended the second time.
    let twice = "f() { if grep -q oops \"$1\"; then sed -i 's/oops/\"false\"/' \"$1\"; else sed -i 's/\"true\"/oops/' \"$1\"; fi; }; f";
    edit(&user, twice, "y\n")
        .exit(0)
        .says(&["Edit it again?", "wrote"]);
    assert!(config(&user).contains("\"false\""));
    edit(&user, "false", "").exit(2).says(&["failed", "EDITOR"]);
    // What it holds does not matter for opening it: it is there to be mended.
    fs::write(user.config(), "{ oops").unwrap();
    edit(&user, "sed -i 's/ oops/\"mcpServers\":{}}/'", "").exit(0);
    assert_eq!(config(&user), "{\"mcpServers\":{}}");
}

#[test]
fn an_editor_needs_a_terminal_and_a_configuration() {
    let user = User::new();
    user.run(&["edit"]).exit(4);
    user.write(&user.config(), OWN);
    user.run(&["edit"])
        .exit(2)
        .says(&["terminal", "mainstay check"]);
}
