//! The config file edited under a running `mainstay serve`, with real servers behind it: what an edit touches, and what it
//! must not.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

const MAINSTAY: &str = env!("CARGO_BIN_EXE_mainstay");
/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

#[track_caller]
fn wait_until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(held) = holds() {
            return held;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_alive(raw: u64) -> bool {
    let pid = Pid::from_raw(i32::try_from(raw).unwrap()).unwrap();
    test_kill_process(pid).is_ok()
}

/// A user with a home, a config file in it, and the Mainstay that serves it.
struct Home {
    dir: tempfile::TempDir,
    serving: Option<Child>,
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(mut child) = self.serving.take() {
            // Its servers go with it.
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

impl Home {
    /// Serves this config; with `watch` as the setting of that name.
    fn serving(servers: &Value, watch: &Value, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("run")).unwrap();
        let mut home = Self { dir, serving: None };
        let servers = home.servers(servers);
        home.write(&Self::config(&servers, watch));
        home.serve(args);
        home
    }

    fn serve(&mut self, args: &[&str]) {
        let log = fs::File::create(self.path("log")).unwrap();
        let child = self
            .command(&[&["serve", "--listen", "127.0.0.1:0"], args].concat())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.serving = Some(child);
        wait_until("Mainstay to answer", || {
            (self.run(&["status"]).0 == Some(0)).then_some(())
        });
    }

    /// Entries of the fault kit's server, each with a ledger of its own and more keys: `{"name": {"label": ..}}`; a member
    /// `flags` becomes arguments.
    fn servers(&self, servers: &Value) -> Value {
        let mut entries = serde_json::Map::new();
        for (name, more) in servers.as_object().unwrap() {
            let mut args = vec![json!("chaos"), json!("misbehave"), json!("--ledger")];
            args.push(json!(self.path(&format!("{name}.ledger"))));
            let mut entry = more.as_object().unwrap().clone();
            if let Some(flags) = entry.remove("flags") {
                args.extend(flags.as_array().unwrap().iter().cloned());
            }
            entry.insert("command".to_owned(), json!(MAINSTAY));
            entry.insert("args".to_owned(), json!(args));
            entries.insert(name.clone(), Value::Object(entry));
        }
        Value::Object(entries)
    }

    fn config(servers: &Value, watch: &Value) -> String {
        let config = json!({ "mcpServers": servers, "mainstay": { "watch": watch } });
        serde_json::to_string_pretty(&config).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, text: &str) {
        fs::write(self.path("mcp.json"), text).unwrap();
    }

    /// Writes these servers into the watched file.
    fn edit(&self, servers: &Value) {
        self.write(&Self::config(&self.servers(servers), &json!(true)));
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(MAINSTAY);
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(args).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    fn status(&self) -> Value {
        let (code, out, err) = self.run(&["status", "--json"]);
        assert_eq!(code, Some(0), "{err}");
        serde_json::from_str(&out).unwrap()
    }

    fn server(&self, name: &str) -> Option<Value> {
        let status = self.status();
        let servers = status["servers"].as_array().unwrap();
        servers
            .iter()
            .find(|server| server["name"] == name)
            .cloned()
    }

    /// Waits until a server is connected, at least in this generation.
    #[track_caller]
    fn connected(&self, name: &str, generation: u64) -> Value {
        wait_until(&format!("{name} to be connected"), || {
            self.server(name).filter(|server| {
                server["state"] == "connected"
                    && server["generation"].as_u64().unwrap() >= generation
            })
        })
    }

    /// Waits until the last reload satisfies a predicate.
    #[track_caller]
    fn last_reload(&self, satisfies: impl Fn(&Value) -> bool) -> Value {
        wait_until("a reload", || {
            let last = self.status()["config"]["lastReload"].clone();
            (last.is_object() && satisfies(&last)).then_some(last)
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    fn ledger(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.ledger"))).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let id = self.serving.as_ref().unwrap().id();
        let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn reload(&self, args: &[&str]) -> Value {
        let (_, out, err) = self.run(&[&["reload", "--json"], args].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
    }
}

fn pid_of(server: &Value) -> u64 {
    server["pid"].as_u64().unwrap()
}

#[test]
fn law_28_f213_f218_an_edit_replaces_one_process_and_leaves_the_others_and_their_calls_alone() {
    let home = Home::serving(&json!({"a": {}, "b": {}, "c": {}}), &json!(true), &[]);
    let [a, b, c] = ["a", "b", "c"].map(|name| pid_of(&home.connected(name, 1)));
    // F215: it runs while its server is replaced.
    let call = home
        .command(&["call", "b", "slow", r#"{"ms":1500}"#])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the call to arrive", || {
        home.ledger("b").contains(" call ").then_some(())
    });
    // F214: a label and a filter touch no process.
    let label = json!({"label": "Alpha", "tools": {"exclude": ["echo"]}});
    home.edit(&json!({"a": label, "b": {"flags": ["--exit-code", "3"]}, "d": {}}));
    let last = home.last_reload(|last| last["ok"] == true);
    let plan = &last["plan"];
    assert_eq!(
        [
            &plan["add"],
            &plan["remove"],
            &plan["replace"],
            &plan["patch"]
        ],
        [&json!(["d"]), &json!(["c"]), &json!(["b"]), &json!(["a"])]
    );
    assert_eq!(
        plan["changes"],
        json!({"a": ["label", "tools"], "b": ["args"]})
    );

    home.connected("d", 1);
    let new = home.connected("b", 2);
    let ended = call.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_ne!(pid_of(&new), b);
    let patched = home.server("a").unwrap();
    assert_eq!((pid_of(&patched), &patched["label"]), (a, &json!("Alpha")));
    let (code, _, err) = home.run(&["call", "a", "echo", "{}"]);
    assert_eq!(code, Some(22), "{err}");
    wait_until("the removed one to go", || {
        (!is_alive(c) && home.server("c").is_none()).then_some(())
    });
    assert!(!is_alive(b));
    let (code, _, err) = home.run(&["call", "c", "echo", "{}"]);
    assert_ne!(code, Some(0), "{err}");
}

#[test]
fn law_28_f216_a_file_that_cannot_be_used_changes_nothing_and_says_where() {
    let home = Home::serving(&json!({"a": {}, "b": {}}), &json!(true), &[]);
    let pids = ["a", "b"].map(|name| pid_of(&home.connected(name, 1)));
    let good = fs::read_to_string(home.path("mcp.json")).unwrap();
    let bad_entry = good.replacen("\"args\": [", "\"args\": [[], ", 1);
    let unset = good.replacen("\"--ledger\"", "\"${NOT_SET_ANYWHERE}\"", 1);
    let half = good[..good.len() / 2].to_owned();
    for (text, word) in [
        (half, "this is not JSON"),
        (bad_entry, "expected a string"),
        (unset, "NOT_SET_ANYWHERE"),
        ("{}".to_owned(), "there is no `mcpServers`"),
    ] {
        home.write(&text);
        let told = |last: &Value| {
            let problems = last["problems"].as_array().unwrap();
            problems.iter().any(|one| {
                one["severity"] == "error" && one["message"].as_str().unwrap().contains(word)
            })
        };
        let last = home.last_reload(|last| last["ok"] == false && told(last));
        assert!(last["problems"][0]["line"].is_u64(), "{last}");
        let log = home.log();
        assert!(
            log.contains(word) && log.contains("was not loaded"),
            "{log}"
        );
        assert!(log.contains("mcp.json:"), "the place: {log}");
        let (code, _, err) = home.run(&["reload", "--dry-run"]);
        assert_eq!(code, Some(3), "{err}");
        assert!(err.contains(word), "{err}");
    }
    let same = ["a", "b"].map(|name| pid_of(&home.connected(name, 1)));
    assert_eq!(same, pids);
    // Back to what was loaded: the trouble is over, and nobody was touched by any of it.
    home.write(&good);
    home.last_reload(|last| last["ok"] == true);
    for name in ["a", "b"] {
        assert_eq!(home.server(name).unwrap()["generation"], 1);
    }
}

#[test]
fn f217_every_way_to_save_a_file_is_noticed() {
    let home = Home::serving(&json!({"a": {}}), &json!({"debounceMs": 60}), &[]);
    let pid = pid_of(&home.connected("a", 1));
    let with = |more: &str| Home::config(&home.servers(&json!({"a": {}, more: {}})), &json!(true));
    let file = home.path("mcp.json");
    // Renamed over.
    fs::write(home.path("mcp.json.tmp"), with("renamed")).unwrap();
    fs::rename(home.path("mcp.json.tmp"), &file).unwrap();
    home.connected("renamed", 1);
    // Moved away and written anew.
    fs::rename(&file, home.path("mcp.json~")).unwrap();
    home.write(&with("anew"));
    home.connected("anew", 1);
    // A link to another place, and what is behind it written.
    fs::create_dir(home.path("elsewhere")).unwrap();
    fs::write(home.path("elsewhere/one.json"), with("linked")).unwrap();
    fs::write(home.path("elsewhere/two.json"), with("swapped")).unwrap();
    for (target, name) in [("one", "linked"), ("two", "swapped")] {
        symlink(format!("elsewhere/{target}.json"), home.path("link")).unwrap();
        fs::rename(home.path("link"), &file).unwrap();
        home.connected(name, 1);
    }
    fs::write(home.path("elsewhere/two.json"), with("behind")).unwrap();
    home.connected("behind", 1);
    let a = home.server("a").unwrap();
    assert_eq!((pid_of(&a), &a["counts"]["opens"]), (pid, &json!(1)));
    wait_until("the former ones to go", || {
        (home.status()["servers"].as_array().unwrap().len() == 2).then_some(())
    });
}

#[test]
fn f219_of_many_rapid_edits_the_last_one_holds() {
    let home = Home::serving(&json!({"a": {}}), &json!({"debounceMs": 10}), &[]);
    let pid = pid_of(&home.connected("a", 1));
    let watch = json!({"debounceMs": 10});
    for round in 0..30 {
        let name = format!("s{}", round % 3);
        let servers = json!({"a": {"label": format!("{round}")}, name: {"flags": ["--exit-code", round.to_string()]}});
        home.write(&Home::config(&home.servers(&servers), &watch));
        if round % 4 == 0 {
            // And somebody else wants it at the same time.
            home.signal(Signal::HUP);
        }
    }
    home.connected("s2", 1);
    wait_until("the last edit", || {
        home.server("a").filter(|a| a["label"] == "29")
    });
    wait_until("the others to go", || {
        (home.status()["servers"].as_array().unwrap().len() == 2).then_some(())
    });
    let a = home.server("a").unwrap();
    assert_eq!((pid_of(&a), &a["generation"]), (pid, &json!(1)));
    assert_eq!(home.status()["config"]["lastReload"]["ok"], true);
}

#[test]
fn a_signal_and_a_command_load_a_file_that_is_not_watched() {
    let home = Home::serving(&json!({"a": {}}), &json!(false), &[]);
    home.connected("a", 1);
    let write = |servers: Value| home.write(&Home::config(&home.servers(&servers), &json!(false)));
    write(json!({"a": {}, "b": {}}));
    // Law 28: what would be done, and nothing is.
    let (code, out, err) = home.run(&["reload", "--dry-run"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("+ add     b"), "{out}");
    assert!(home.status()["config"]["lastReload"].is_null());
    assert!(home.server("b").is_none());
    let answer = home.reload(&["--dry-run"]);
    assert_eq!(
        (&answer["dryRun"], &answer["plan"]["add"]),
        (&json!(true), &json!(["b"]))
    );

    home.signal(Signal::HUP);
    home.connected("b", 1);
    write(json!({"a": {}}));
    let answer = home.reload(&[]);
    assert_eq!(
        (&answer["ok"], &answer["plan"]["remove"]),
        (&json!(true), &json!(["b"]))
    );
    // Twice the same: nothing is left to do.
    let (code, out, _) = home.run(&["reload"]);
    assert_eq!(
        (code, out.trim()),
        (Some(0), "no server to touch, 1 unchanged")
    );
    home.signal(Signal::HUP);
    assert_eq!(home.connected("a", 1)["generation"], 1);
}

#[test]
fn what_needs_a_restart_is_told_and_a_new_server_may_be_broken_as_at_the_start() {
    let home = Home::serving(&json!({"a": {}}), &json!(false), &[]);
    home.connected("a", 1);
    let mut servers = home.servers(&json!({"a": {}}));
    servers["new"] = json!({"command": MAINSTAY, "args": ["${NOT_SET_ANYWHERE}"]});
    let config = json!({
        "mcpServers": servers,
        "mainstay": {"watch": false, "edgePatienceMs": 20, "limits": {"sessions": 5}},
    });
    home.write(&config.to_string());
    let answer = home.reload(&[]);
    assert_eq!(answer["ok"], true, "{answer}");
    let told = json!([
        {"key": "mainstay.edgePatienceMs", "applies": "now"},
        {"key": "mainstay.limits.sessions", "applies": "restart"},
    ]);
    assert_eq!(answer["plan"]["gateway"], told);
    let parked = wait_until("the broken one to be parked", || {
        home.server("new")
            .filter(|server| server["state"] == "parked")
    });
    assert!(
        parked["problems"][0]
            .as_str()
            .unwrap()
            .contains("NOT_SET_ANYWHERE")
    );
    let (_, out, _) = home.run(&["reload"]);
    assert!(out.contains("! setting mainstay.limits.sessions"), "{out}");
    // It is mended, while what was broken before does not stand in the way of other edits.
    servers["a"]["label"] = json!("A");
    home.write(&json!({"mcpServers": servers, "mainstay": {"watch": false}}).to_string());
    assert_eq!(home.reload(&[])["plan"]["patch"], json!(["a"]));
    servers["new"] = servers["a"].clone();
    home.write(&json!({"mcpServers": servers, "mainstay": {"watch": false}}).to_string());
    assert_eq!(home.reload(&[])["plan"]["replace"], json!(["new"]));
    home.connected("new", 1);
}

#[test]
fn law_31_the_wire_log_hides_the_secrets_of_a_config_that_was_loaded_later() {
    let args = ["--record", "wire.jsonl"];
    let home = Home::serving(&json!({"a": {}}), &json!(false), &args);
    home.connected("a", 1);
    let entry = json!({"a": {"env": {"API_TOKEN": "very-secret-word"}}});
    home.write(&Home::config(&home.servers(&entry), &json!(false)));
    assert_eq!(home.reload(&[])["plan"]["replace"], json!(["a"]));
    home.connected("a", 2);
    let arguments = r#"{"text":"say very-secret-word and a plain one"}"#;
    let (code, out, err) = home.run(&["call", "a", "echo", arguments]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("very-secret-word"));
    let wire = wait_until("the answer in the log", || {
        let wire = fs::read_to_string(home.path("wire.jsonl")).unwrap();
        wire.contains("and a plain one").then_some(wire)
    });
    assert!(!wire.contains("very-secret-word"), "{wire}");
    let (_, out, _) = home.run(&["reload", "--json"]);
    assert!(!out.contains("very-secret-word") && !home.log().contains("very-secret-word"));
}

#[test]
fn without_a_running_mainstay_reload_says_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("run")).unwrap();
    let home = Home { dir, serving: None };
    let (code, _, err) = home.run(&["reload"]);
    assert_eq!(code, Some(5), "{err}");
}
