//! `mainstay service`, completions and manual pages. There is no session of systemd in a test: its tool is a script that
//! writes down what it was told, and `systemd-analyze`, where there is one, reads the unit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::support::{Ended, MAINSTAY, User};

/// One whose PATH begins with a `systemctl` that does this.
fn with_systemctl(script: &str) -> User {
    let user = User::new();
    let tool = user.home("bin/systemctl");
    user.write(&tool, format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    user.write(&user.config(), "{ \"mcpServers\": {} }");
    let path = format!("{}:/usr/bin:/bin", user.home("bin").display());
    user.set("PATH", path)
}

const REMEMBERS: &str =
    "echo \"$*\" >> \"$HOME/told\"\ncase \"$*\" in *is-active*) echo active;; esac";

#[test]
#[cfg(target_os = "linux")]
fn a_service_is_installed_looked_at_and_taken_away() {
    let user = with_systemctl(REMEMBERS);
    let unit = user.home(".config/systemd/user/mainstay.service");
    user.run(&["service", "status"])
        .exit(6)
        .says(&["mainstay service install"]);
    user.run(&["service", "uninstall"]).exit(6);
    let dry = user.run(&["service", "install", "--dry-run"]).exit(0);
    assert!(!unit.exists() && !user.home("told").exists());
    user.run(&["service", "install"])
        .exit(0)
        .says(&["started", "enable-linger"]);
    let text = fs::read_to_string(&unit).unwrap();
    assert_eq!(text, dry.out);
    let config = user.config().display().to_string();
    assert!(
        text.contains(&format!(
            "ExecStart=\"{MAINSTAY}\" serve --config \"{config}\"\n"
        )),
        "{text}"
    );
    assert!(
        text.contains(&user.home("bin").display().to_string()),
        "children need this PATH: {text}"
    );
    let told = fs::read_to_string(user.home("told")).unwrap();
    let orders: Vec<&str> = told.lines().collect();
    assert_eq!(
        orders,
        [
            "--user --no-ask-password daemon-reload",
            "--user --no-ask-password enable mainstay.service",
            "--user --no-ask-password restart mainstay.service",
        ]
    );
    user.run(&["service", "status"])
        .exit(0)
        .says(&["active", "no Mainstay answers"]);
    user.run(&["service", "uninstall"]).exit(0);
    assert!(!unit.exists());
    assert!(
        fs::read_to_string(user.home("told"))
            .unwrap()
            .contains("disable --now mainstay.service")
    );
}

#[test]
#[cfg(target_os = "linux")]
fn without_a_session_the_file_is_written_and_the_next_step_told() {
    let user = with_systemctl("echo 'Failed to connect to bus: No medium found' >&2; exit 1");
    user.run(&["service", "install"]).exit(11).says(&[
        "Failed to connect to bus",
        "systemctl --user enable --now",
        "mainstay serve",
    ]);
    assert!(user.home(".config/systemd/user/mainstay.service").exists());
    user.run(&["service", "status"]).exit(11);
    let none = user.set("PATH", "/nowhere");
    none.run(&["service", "install"])
        .exit(11)
        .says(&["there is no systemctl"]);
    none.run(&["service", "install", "--no-start"])
        .exit(0)
        .says(&["start it with"]);
    none.run(&["service", "status", "--json"]).exit(11);
    User::new().run(&["service", "install"]).exit(4);
    let broken = User::new();
    broken.write(&broken.config(), "oops");
    broken.run(&["service", "install"]).exit(3);
}

#[test]
#[cfg(target_os = "linux")]
fn systemd_itself_finds_nothing_wrong_with_the_unit() {
    let Ok(verify) = Command::new("systemd-analyze").arg("--version").output() else {
        return;
    };
    assert!(verify.status.success());
    let user = with_systemctl("exit 1");
    user.run(&["service", "install", "--no-start"]).exit(0);
    let unit = user.home(".config/systemd/user/mainstay.service");
    let said = Command::new("systemd-analyze")
        .args(["--user", "--man=no", "verify"])
        .arg(unit)
        .env("XDG_RUNTIME_DIR", user.home(""))
        .output()
        .unwrap();
    let said = Ended::of(said);
    let about_it: Vec<&str> = said
        .err
        .lines()
        .filter(|line| line.contains("mainstay"))
        .collect();
    assert_eq!(about_it, Vec::<&str>::new(), "{said:#?}");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let user = User::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = user.run(&["completions", shell]).exit(0).out;
        for command in ["serve", "status", "install", "chaos"] {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
    }
    user.run(&["completions", "tcsh"]).exit(2);
    let page = user.run(&["man"]).exit(0).out;
    assert!(page.starts_with(".") && page.contains("mainstay"), "{page}");
    let dir = user.home("man1");
    user.run(&["man", "--out", &dir.display().to_string()])
        .exit(0);
    for name in [
        "mainstay",
        "mainstay-serve",
        "mainstay-service-install",
        "mainstay-add",
    ] {
        let page = fs::read_to_string(dir.join(format!("{name}.1"))).unwrap();
        assert!(page.contains(&name.replace('-', "\\-")), "{page}");
    }
    assert!(!dir.join("mainstay-demo-server.1").exists());
    user.write(&user.home("file"), "");
    let below = user.home("file").join("man1");
    user.run(&["man", "--out", &below.display().to_string()])
        .exit(10)
        .says(&["cannot write"]);
}
