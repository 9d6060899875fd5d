//! Every command that the README and the guide tell people to type is typed here.
//!
//! A block marked `console` holds them, one per line behind `$ `, with `# exit N` behind those that end otherwise than well. They are run page by page,
//! in the order of the page, by a user who has nothing but the programs that the page talks of: `notes-server` and
//! `web-server` are servers of the test kit, one of them in the list of an app. Also: every link between the pages leads somewhere, and
//! every page is in the summary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "a test that cannot go on must fail"
)]

#[path = "serve/support.rs"]
#[allow(dead_code, reason = "shared with another test binary")]
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const PATIENCE: Duration = Duration::from_secs(60);

/// The README and all pages of the guide, by path from the root.
fn pages() -> Vec<(String, String)> {
    let docs = Path::new(ROOT).join("docs");
    let listed = std::fs::read_dir(docs).unwrap();
    let mut names: Vec<String> = listed
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    names.sort();
    names.insert(0, "README.md".to_owned());
    let read = |name: String| {
        let text = std::fs::read_to_string(Path::new(ROOT).join(&name)).unwrap();
        (name, text)
    };
    names.into_iter().map(read).collect()
}

/// The commands of a page, each with the exit code that it says.
fn commands(page: &str) -> Vec<(String, i32)> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            let (command, exit) = match command.split_once("  # exit ") {
                Some((command, exit)) => (command, exit.trim().parse().unwrap()),
                None => (command, 0),
            };
            found.push((command.trim().to_owned(), exit));
        }
    }
    found
}

/// A user of this machine, with a home and a directory to work in.
struct User {
    home: tempfile::TempDir,
    serving: Option<Child>,
}

impl User {
    /// One who has an app with a server in its list, and nothing of Mainstay.
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let user = Self {
            home,
            serving: None,
        };
        for dir in ["bin", "work", "run", ".cursor"] {
            std::fs::create_dir(user.path(dir)).unwrap();
        }
        for name in ["notes-server", "web-server"] {
            std::os::unix::fs::symlink(support::misbehave(), user.path("bin").join(name)).unwrap();
        }
        let app = r#"{ "mcpServers": { "web": { "command": "web-server" } } }"#;
        std::fs::write(user.path(".cursor/mcp.json"), app).unwrap();
        user
    }

    /// One who has a server already.
    fn settled() -> Self {
        let user = Self::new();
        let config = r#"{
  "mcpServers": { "notes": { "command": "notes-server", "tools": { "pin": true } } },
  "mainstay": { "listen": "127.0.0.1:0", "audit": true }
}"#;
        std::fs::write(user.path("work/mcp.json"), config).unwrap();
        user
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A shell that knows `mainstay`, as the user's would.
    fn shell(&self, command: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_mainstay"));
        let system = std::env::var("PATH").unwrap_or_default();
        let path = format!(
            "{}:{}:{system}",
            self.path("bin").display(),
            program.parent().unwrap().display()
        );
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .current_dir(self.path("work"))
            .env_clear()
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        shell
    }

    /// Runs a command to its end.
    fn run(&self, command: &str) -> Output {
        let child = self.shell(command).spawn().unwrap();
        let pid = child.id();
        let (done, waited) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || {
            let output = child.wait_with_output().unwrap();
            // Nobody listens any more when the time was over.
            let _ = done.send(output);
        });
        let output = waited.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            panic!("`{command}` did not end")
        });
        waiter.join().unwrap();
        output
    }

    /// Has a Mainstay running from now on, as a user who was told to.
    fn serve(&mut self) {
        if self.serving.is_some() {
            return;
        }
        let mut serve = self.shell("exec mainstay serve --listen 127.0.0.1:0");
        serve.stdout(Stdio::null()).stderr(Stdio::null());
        self.serving = Some(serve.spawn().unwrap());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.run("mainstay status --json");
            let status = String::from_utf8(output.stdout).unwrap();
            if output.status.success() && status.contains("\"state\":\"connected\"")
                || status.contains("\"state\": \"connected\"")
            {
                return;
            }
            assert!(Instant::now() < deadline, "no server is up: {status}");
            // The pace of asking, not a wait.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(mut serving) = self.serving.take() {
            let _ = Command::new("kill").arg(serving.id().to_string()).status();
            let _ = serving.wait();
        }
    }
}

/// Whether a command talks to a running Mainstay.
fn needs_serve(command: &str) -> bool {
    let verb = command.split_whitespace().nth(1).unwrap_or_default();
    matches!(
        verb,
        "status"
            | "tools"
            | "call"
            | "events"
            | "calls"
            | "audit"
            | "approvals"
            | "logs"
            | "reload"
            | "restart"
            | "enable"
            | "disable"
    )
}

#[test]
fn every_command_of_the_books_does_what_its_page_says() {
    let mut count = 0;
    for (name, text) in pages() {
        let commands = commands(&text);
        if commands.is_empty() {
            continue;
        }
        // The page about setting up begins with nothing.
        let mut user = if name == "docs/start.md" {
            User::new()
        } else {
            User::settled()
        };
        for (command, exit) in commands {
            assert!(command.starts_with("mainstay "), "{name}: `{command}`");
            if needs_serve(&command) {
                user.serve();
            }
            let output = user.run(&command);
            assert_eq!(
                output.status.code(),
                Some(exit),
                "{name}: `{command}` says:\n{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} commands were found");
}

#[test]
fn every_link_of_the_books_leads_somewhere_and_every_page_is_in_the_summary() {
    let pages = pages();
    let mut linked = BTreeSet::new();
    for (name, text) in &pages {
        let dir = Path::new(ROOT).join(name);
        let dir = dir.parent().unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            let file = target.split('#').next().unwrap();
            if target.contains("://") || file.is_empty() || target.contains(' ') {
                continue;
            }
            assert!(dir.join(file).exists(), "{name} links to {target}");
            if name == "docs/SUMMARY.md" {
                linked.insert(format!("docs/{file}"));
            }
        }
    }
    for (name, _) in &pages {
        if name.starts_with("docs/") && name != "docs/SUMMARY.md" {
            assert!(linked.contains(name), "{name} is not in docs/SUMMARY.md");
        }
    }
}
