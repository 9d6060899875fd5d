//! `mainstay doctor`: set-ups that are really broken, and one that is not.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::support::{Ended, MAINSTAY, User, wait_until};

/// A server that works.
fn good() -> Value {
    json!({ "command": MAINSTAY, "args": ["demo-server", "stdio"] })
}

/// A server that runs this script of a shell.
fn shell(script: &str) -> Value {
    json!({ "command": "/bin/sh", "args": ["-c", script] })
}

/// A configuration with these servers and a free port; for this user alone.
fn configure(user: &User, servers: Value) {
    configure_with(user, servers, json!({ "listen": "127.0.0.1:0" }));
}

fn configure_with(user: &User, servers: Value, mainstay: Value) {
    let text = json!({ "mcpServers": servers, "mainstay": mainstay }).to_string();
    user.write(&user.config(), text);
    fs::set_permissions(user.config(), Permissions::from_mode(0o600)).unwrap();
}

fn doctor(user: &User, more: &[&str]) -> Ended {
    user.run(&[&["doctor", "--json", "--timeout", "30"], more].concat())
}

/// The findings of an area, notes left out.
fn of(report: &Value, area: &str) -> Vec<Value> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .filter(|finding| finding["area"] == area && finding["severity"] != "note")
        .cloned()
        .collect()
}

/// The only finding of an area. It says what to do.
#[track_caller]
fn only(report: &Value, area: &str) -> Value {
    let all = of(report, area);
    assert_eq!(all.len(), 1, "{area}: {report:#}");
    assert_ne!(all[0]["remedy"], "", "{report:#}");
    all[0].clone()
}

#[track_caller]
fn says(finding: &Value, severity: &str, place: &str, words: &str) {
    assert_eq!(finding["severity"], severity, "{finding:#}");
    assert!(
        finding["place"].as_str().unwrap().contains(place),
        "{finding:#}"
    );
    assert!(
        finding["message"].as_str().unwrap().contains(words),
        "{finding:#}"
    );
}

#[test]
fn a_sound_set_up_has_nothing_worse_than_notes() {
    let user = User::new();
    configure(&user, json!({ "demo": good() }));
    let report = doctor(&user, &[]).exit(0).json();
    assert_eq!(report["ok"], true, "{report:#}");
    let server = &report["servers"][0];
    assert_eq!(
        (&server["state"], &server["era"]),
        (&json!("connected"), &json!("legacy")),
        "{report:#}"
    );
    assert!(
        server["startMs"].as_u64().is_some() && server["tools"].as_u64() > Some(0),
        "{report:#}"
    );
    // For people, too.
    user.run(&["doctor"])
        .exit(0)
        .says(&["demo", "connected", "nothing is wrong"]);
    // And it is really stopped again: no process of this home is left to answer.
    assert!(!user.socket().exists());
}

#[test]
fn programs_that_are_missing_are_told_and_nothing_is_started_if_not_wanted() {
    let user = User::new();
    let flag = user.project("started");
    let script = format!("touch {}", flag.display());
    configure(
        &user,
        json!({
            "gone": { "command": "no-such-program-anywhere" },
            "elsewhere": { "command": "sh", "args": ["-c", "x"], "cwd": "/no/such/directory" },
            "there": shell(&script),
        }),
    );
    let report = doctor(&user, &["--no-start"]).exit(71).json();
    let found = of(&report, "program");
    assert_eq!(found.len(), 2, "{report:#}");
    assert!(
        found
            .iter()
            .any(|one| one["place"] == "gone" && one["message"].to_string().contains("not found")),
        "{found:#?}"
    );
    assert!(
        found
            .iter()
            .any(|one| one["place"] == "elsewhere"
                && one["message"].to_string().contains("directory")),
        "{found:#?}"
    );
    assert!(!flag.exists(), "--no-start started a server");
}

#[test]
fn runtimes_are_asked_for_their_versions_on_the_path_of_the_child() {
    let user = User::new();
    let tools = user.project("tools");
    for (name, script) in [
        ("node", "#!/bin/sh\necho v12.1.0\n"),
        ("npx", "#!/bin/sh\necho 6.0.0\n"),
        (
            "docker",
            "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2; exit 1\n",
        ),
    ] {
        user.write(&tools.join(name), script);
        fs::set_permissions(tools.join(name), Permissions::from_mode(0o755)).unwrap();
    }
    let env = json!({ "PATH": tools });
    configure(
        &user,
        json!({
            "packaged": { "command": "npx", "args": ["-y", "x"], "env": env },
            "contained": { "command": "docker", "args": ["run", "x"], "env": env },
        }),
    );
    let report = doctor(&user, &["--no-start"]).exit(71).json();
    let found = of(&report, "runtime");
    assert_eq!(found.len(), 2, "{report:#}");
    let node = found.iter().find(|one| one["place"] == "packaged").unwrap();
    says(node, "warning", "packaged", "v12.1.0");
    let docker = found
        .iter()
        .find(|one| one["place"] == "contained")
        .unwrap();
    says(
        docker,
        "error",
        "contained",
        "Cannot connect to the Docker daemon",
    );
    assert!(
        report["runtimes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["version"] == "6.0.0"),
        "{report:#}"
    );

    // Without its interpreter a runner is nothing.
    fs::remove_file(tools.join("node")).unwrap();
    let report = doctor(&user, &["--no-start"]).exit(71).json();
    let found = of(&report, "runtime");
    assert!(
        found
            .iter()
            .any(|one| one["message"].to_string().contains("needs `node`")),
        "{report:#}"
    );
}

#[test]
fn addresses_that_cannot_be_reached_and_certificates_that_nobody_trusts() {
    let user = User::new();
    // A port that is free now; nobody else takes it for the moment that this needs.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    configure(
        &user,
        json!({ "silent": { "url": format!("http://127.0.0.1:{port}/mcp?key=TOPSECRET") } }),
    );
    let ended = doctor(&user, &["--no-start"])
        .exit(71)
        .never_says(&["TOPSECRET"]);
    let finding = only(&ended.json(), "network");
    says(&finding, "error", "silent", "cannot be reached");

    // A door that answers with something that is no TLS.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let door = std::thread::spawn(move || {
        use std::io::{Read, Write};
        while let Ok((mut stream, _)) = listener.accept() {
            let mut first = [0; 1];
            if stream.read(&mut first).is_ok_and(|read| read == 0) {
                return;
            }
            let _gone = stream.write_all(
                b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            );
        }
    });
    configure(
        &user,
        json!({ "tls": { "url": format!("https://127.0.0.1:{port}/mcp") } }),
    );
    let report = doctor(&user, &["--no-start"]).exit(71).json();
    says(
        &only(&report, "network"),
        "error",
        "tls",
        "cannot be reached",
    );
    configure(
        &user,
        json!({ "plain": { "url": format!("http://127.0.0.1:{port}/mcp") } }),
    );
    let report = doctor(&user, &["--no-start"]).exit(0).json();
    assert_eq!(
        report["servers"][0]["httpStatus"], 400,
        "any answer is an answer: {report:#}"
    );
    drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    door.join().unwrap();
}

#[test]
fn a_port_that_is_taken_is_told_with_its_owner() {
    let user = User::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    configure_with(&user, json!({}), json!({ "listen": address.to_string() }));
    let report = doctor(&user, &[]).exit(71).json();
    let finding = only(&report, "listen");
    says(&finding, "error", &address.to_string(), "taken");
    if cfg!(target_os = "linux") {
        says(
            &finding,
            "error",
            "",
            &format!("process {}", std::process::id()),
        );
    }
}

#[test]
fn who_may_read_and_write_what() {
    let user = User::new();
    configure(
        &user,
        json!({ "demo": { "command": MAINSTAY, "args": ["demo-server", "stdio"], "env": { "A_TOKEN": "TOPSECRET" } } }),
    );
    fs::set_permissions(user.config(), Permissions::from_mode(0o666)).unwrap();
    let state = user.project("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, Permissions::from_mode(0o777)).unwrap();
    let ended = doctor(
        &user,
        &["--no-start", "--state-dir", state.to_str().unwrap()],
    )
    .exit(71)
    .never_says(&["TOPSECRET"]);
    let report = ended.json();
    let messages = of(&report, "permissions")
        .iter()
        .map(|one| one["message"].to_string())
        .collect::<Vec<_>>()
        .join("\n");
    for words in [
        "others may write the configuration",
        "others may read the configuration",
        "others may write to the state directory",
    ] {
        assert!(messages.contains(words), "{words}: {report:#}");
    }
    // With the remedies done, nothing is left of it.
    fs::set_permissions(user.config(), Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&state, Permissions::from_mode(0o700)).unwrap();
    let report = doctor(
        &user,
        &["--no-start", "--state-dir", state.to_str().unwrap()],
    )
    .exit(0)
    .json();
    assert!(of(&report, "permissions").is_empty(), "{report:#}");
}

#[test]
fn references_without_a_value_and_a_file_that_is_no_configuration() {
    let user = User::new();
    configure(
        &user,
        json!({ "keyed": { "command": MAINSTAY, "args": ["demo-server", "stdio"], "env": { "K": "${NOBODY_SET_THIS}" } } }),
    );
    let report = doctor(&user, &[]).exit(71).json();
    says(
        &only(&report, "environment"),
        "error",
        "mcpServers.keyed.env.K",
        "NOBODY_SET_THIS",
    );
    user.write(&user.config(), "{ \"mcpServers\": oops }");
    says(
        &only(&doctor(&user, &[]).exit(71).json(), "config"),
        "error",
        "mcp.json:1:",
        "JSON",
    );
    fs::remove_file(user.config()).unwrap();
    says(
        &only(&doctor(&user, &[]).exit(71).json(), "config"),
        "error",
        "mcp.json",
        "no configuration",
    );
}

#[test]
fn the_same_server_twice() {
    let user = User::new();
    configure(
        &user,
        json!({ "one": good(), "two": good(), "off": { "command": MAINSTAY, "args": ["demo-server", "stdio"], "enabled": false } }),
    );
    let report = doctor(&user, &["--no-start"]).exit(71).json();
    says(
        &only(&report, "duplicates"),
        "warning",
        "one, two",
        "same server",
    );
    // What an app starts beside Mainstay is worth a note, no more.
    let user = User::new();
    configure(&user, json!({ "one": good() }));
    user.write(
        &user.home(".cursor/mcp.json"),
        json!({ "mcpServers": { "mine": good() } }).to_string(),
    );
    let report = doctor(&user, &["--no-start"]).exit(0).json();
    let note = report["findings"].to_string();
    assert!(
        note.contains("Cursor starts these servers itself")
            && note.contains("mainstay install cursor"),
        "{report:#}"
    );
}

#[test]
fn servers_that_die_that_dawdle_and_that_chatter() {
    let user = User::new();
    let noisy = format!("echo hello from the server; exec '{MAINSTAY}' demo-server stdio");
    let slow = format!("sleep 1.5; exec '{MAINSTAY}' demo-server stdio");
    configure(
        &user,
        json!({
            "dead": shell("echo the database is not there >&2; exit 3"),
            "noisy": shell(&noisy),
            "slow": shell(&slow),
        }),
    );
    let report = doctor(&user, &["--slow", "1"]).exit(71).json();
    let starts = of(&report, "start");
    let dead = starts
        .iter()
        .find(|one| one["place"] == "dead")
        .unwrap_or_else(|| panic!("{report:#}"));
    says(dead, "error", "dead", "the database is not there");
    let slow = starts
        .iter()
        .find(|one| one["place"] == "slow")
        .unwrap_or_else(|| panic!("{report:#}"));
    says(slow, "warning", "slow", "took");
    says(&only(&report, "stdout"), "warning", "noisy", "1 line");
}

#[test]
fn a_socket_that_was_left_behind_and_one_that_is_none() {
    let user = User::new();
    configure(&user, json!({ "demo": good() }));
    fs::create_dir_all(user.socket().parent().unwrap()).unwrap();
    drop(UnixListener::bind(user.socket()).unwrap());
    says(
        &only(&doctor(&user, &["--no-start"]).exit(71).json(), "socket"),
        "warning",
        "mainstay.sock",
        "nobody answers",
    );
    fs::remove_file(user.socket()).unwrap();
    fs::write(user.socket(), "").unwrap();
    says(
        &only(&doctor(&user, &["--no-start"]).exit(71).json(), "socket"),
        "error",
        "mainstay.sock",
        "no socket",
    );
}

#[test]
fn what_a_running_mainstay_has_connected_is_not_started_again() {
    let user = User::new();
    let count = user.project("starts");
    let script = format!(
        "echo x >> {}; exec '{MAINSTAY}' demo-server stdio",
        count.display()
    );
    configure(&user, json!({ "counted": shell(&script) }));
    let mut serving = user
        .command(&["serve", "--log-level", "error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the server in the running Mainstay", || {
        let status = user.run(&["status", "--json"]);
        status.code == Some(0) && status.json()["servers"][0]["state"] == "connected"
    });
    let report = doctor(&user, &[]).exit(0).json();
    user.run(&["stop"]).exit(0);
    serving.wait().unwrap();
    assert_eq!(
        report["running"]["pid"].as_u64(),
        Some(u64::from(serving.id())),
        "{report:#}"
    );
    assert_eq!(report["servers"][0]["state"], "connected", "{report:#}");
    assert_eq!(
        fs::read_to_string(&count).unwrap().lines().count(),
        1,
        "started a second time"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_nobody_owns_any_more() {
    let user = User::new();
    // What is started here ends by itself if the test does not end it.
    let marker = format!("orphan-of-{}", user.project("").display());
    configure(
        &user,
        json!({ "left": { "command": "/bin/sh", "args": ["-c", "sleep 120; true", marker], "enabled": false } }),
    );
    let report = doctor(&user, &["--no-start"]).exit(0).json();
    assert!(of(&report, "processes").is_empty(), "{report:#}");
    // A shell whose parent leaves at once: whoever takes orphans in becomes its parent.
    let out = Command::new("/bin/sh")
        .args([
            "-c",
            "/bin/sh -c 'sleep 120; true' \"$0\" >/dev/null 2>&1 & echo $!",
            &marker,
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let pid = String::from_utf8(out.stdout).unwrap().trim().to_owned();
    let report = doctor(&user, &["--no-start"]);
    let ended = Command::new("/bin/sh")
        .args(["-c", &format!("pkill -P {pid}; kill {pid}")])
        .status()
        .unwrap();
    assert!(ended.success());
    let report = report.exit(71).json();
    let finding = only(&report, "processes");
    says(&finding, "warning", "left", &format!("process {pid} "));
    assert!(
        finding["remedy"]
            .as_str()
            .unwrap()
            .contains(&format!("kill {pid}")),
        "{report:#}"
    );
}
