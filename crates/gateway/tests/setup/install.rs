//! `mainstay install` and `uninstall`: one entry more in an app's file, and everything as it was afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::{Ended, MAINSTAY, User};

/// What every secret of the fixtures contains.
const SECRET: &str = "TOPSECRET";

fn run(user: &User, args: &[&str]) -> Ended {
    user.run(args).never_says(&[SECRET, "panicked"])
}

/// Every file below a directory with its text.
fn tree(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else {
            let text = fs::read_to_string(&path).unwrap();
            files.insert(path, text);
        }
    }
    files
}

/// The apps' files: what Mainstay keeps for itself left out.
fn apps(user: &User) -> BTreeMap<PathBuf, String> {
    let mut files = tree(&user.home(""));
    files.retain(|path, _| !path.to_string_lossy().contains("mainstay/"));
    files
}

fn row<'r>(report: &'r Value, app: &str) -> &'r Value {
    let rows = report["apps"].as_array().unwrap();
    let found = rows.iter().find(|row| row["app"] == app);
    found.unwrap_or_else(|| panic!("{app} is not in {report:#}"))
}

fn lines_of(text: &str) -> Vec<&str> {
    let bare = |line: &'_ str| -> bool { !line.trim().is_empty() };
    text.lines().filter(|line| bare(line)).collect()
}

#[test]
fn every_app_gets_one_entry_and_is_restored_byte_for_byte() {
    let user = User::with_apps();
    let before = apps(&user);
    let report = run(&user, &["install", "--all", "--json"]).exit(0).json();
    let rows = report["apps"].as_array().unwrap();
    assert!(rows.len() >= 14, "{report:#}");
    for row in rows {
        let file = PathBuf::from(row["file"].as_str().unwrap());
        let now = fs::read_to_string(&file).unwrap();
        let was = before.get(&file).unwrap_or_else(|| panic!("{row:#}"));
        assert!(now.contains(MAINSTAY) && now.contains("stdio"), "{now}");
        // Every line that was there is there, but for a comma at the end of what used to be the last entry.
        // What is written on one line cannot stay on it.
        let all = lines_of(&now);
        for line in lines_of(was).iter().filter(|_| was.lines().count() > 1) {
            let with_comma = format!("{line},");
            assert!(
                all.contains(line) || all.contains(&with_comma.as_str()),
                "{line:?} is gone from {now}"
            );
        }
        let backup = row["backup"].as_str().unwrap();
        assert_eq!(fs::read_to_string(backup).unwrap(), *was);
    }
    // The same again changes nothing, and is no reason for another backup.
    let installed = apps(&user);
    run(&user, &["install", "--all"])
        .exit(0)
        .says(&["nothing to change"]);
    assert_eq!(apps(&user), installed);
    let list = run(&user, &["install", "--list", "--json"]).exit(0).json();
    assert_eq!(row(&list, "codex")["state"], "uses mainstay");
    assert_eq!(row(&list, "awaken")["state"], "by hand");
    run(&user, &["uninstall", "--all"]).exit(0);
    assert_eq!(apps(&user), before);
    // One of them had listed Mainstay by itself before.
    run(&user, &["uninstall", "--all"]).exit(0);
    run(&user, &["uninstall", "--all"])
        .exit(0)
        .says(&["no app uses Mainstay"]);
    run(&user, &["uninstall", "cursor"])
        .exit(6)
        .says(&["Cursor", "--list"]);
}

#[test]
fn an_app_without_a_file_gets_one_and_loses_it_again() {
    let user = User::new();
    run(&user, &["install", "--all"]).exit(6).says(&["--list"]);
    fs::create_dir_all(user.home(".codex")).unwrap();
    let report = run(&user, &["install", "--all", "--json"]).exit(0).json();
    assert_eq!(report["apps"].as_array().unwrap().len(), 1, "{report:#}");
    let text = fs::read_to_string(user.home(".codex/config.toml")).unwrap();
    let expected =
        format!("[mcp_servers.mainstay]\ncommand = \"{MAINSTAY}\"\nargs = [\"stdio\"]\n");
    assert_eq!(text, expected);
    // Named, it is made wherever it belongs.
    run(&user, &["install", "claude-desktop"]).exit(0);
    let desktop = user.home(".config/Claude/claude_desktop_config.json");
    if cfg!(target_os = "linux") {
        let tree: Value = serde_json::from_str(&fs::read_to_string(&desktop).unwrap()).unwrap();
        assert_eq!(
            tree,
            json!({ "mcpServers": { "mainstay": { "command": MAINSTAY, "args": ["stdio"] } } })
        );
    }
    run(&user, &["uninstall", "codex", "claude-desktop"]).exit(0);
    assert!(!user.home(".codex/config.toml").exists());
    assert!(!desktop.exists());
}

#[test]
fn a_file_that_changed_since_loses_only_what_install_put_in() {
    let user = User::with_apps();
    let path = user.home(".cursor/mcp.json");
    let before = fs::read_to_string(&path).unwrap();
    run(&user, &["install", "cursor"]).exit(0);
    let installed = fs::read_to_string(&path).unwrap();
    let changed = format!("// mine, since then\n{installed}");
    fs::write(&path, &changed).unwrap();
    run(&user, &["uninstall", "cursor"]).exit(0);
    let after = fs::read_to_string(&path).unwrap();
    assert!(after.starts_with("// mine, since then\n"), "{after}");
    assert!(!after.contains("stdio\""), "{after}");
    assert_eq!(
        lines_of(after.split_once('\n').unwrap().1),
        lines_of(&before)
    );
    // Changed between two installations: the first backup alone would lose that change.
    run(&user, &["install", "cursor"]).exit(0);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("// again\n{text}")).unwrap();
    run(&user, &["install", "cursor", "--http"]).exit(0);
    assert!(
        fs::read_to_string(&path)
            .unwrap()
            .contains("http://127.0.0.1:8808/mcp")
    );
    run(&user, &["uninstall", "cursor"]).exit(0);
    let after = fs::read_to_string(&path).unwrap();
    assert!(
        after.starts_with("// again\n") && !after.contains("8808"),
        "{after}"
    );
}

#[test]
fn replace_takes_out_what_mainstay_has_and_uninstall_puts_it_back() {
    let user = User::with_apps();
    let path = user.home(".cursor/mcp.json");
    let before = fs::read_to_string(&path).unwrap();
    run(&user, &["install", "cursor", "--replace"])
        .exit(4)
        .says(&["mainstay import"]);
    user.write(&user.config(), "{ \"mcpServers\": {} }");
    run(&user, &["install", "cursor", "--replace"])
        .exit(2)
        .says(&["mainstay import"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    fs::remove_file(user.config()).unwrap();
    run(&user, &["import", "--app", "cursor"]);
    let report = run(&user, &["install", "cursor", "--replace", "--json"])
        .exit(0)
        .json();
    let removed = row(&report, "cursor")["removed"].as_array().unwrap();
    assert!(!removed.is_empty(), "{report:#}");
    let text = fs::read_to_string(&path).unwrap();
    for name in removed {
        assert!(!text.contains(&format!("{name}:")), "{text}");
    }
    fs::write(&path, format!("// since\n{text}")).unwrap();
    run(&user, &["uninstall", "cursor"]).exit(0);
    let after = fs::read_to_string(&path).unwrap();
    for name in removed {
        assert!(after.contains(&format!("{name}:")), "{after}");
    }
    assert!(!after.contains(MAINSTAY), "{after}");
    // Unchanged since, it is simply the former file.
    fs::write(&path, &before).unwrap();
    run(&user, &["install", "cursor", "--replace"]).exit(0);
    run(&user, &["uninstall", "cursor"]).exit(0);
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
}

#[test]
fn a_dry_run_shows_every_line_and_touches_nothing() {
    let user = User::with_apps();
    let before = tree(&user.home(""));
    run(&user, &["install", "--all", "--dry-run"])
        .exit(0)
        .says(&["would change", "+ ", MAINSTAY]);
    assert_eq!(tree(&user.home("")), before);
    run(&user, &["install", "codex"]).exit(0);
    let before = tree(&user.home(""));
    run(&user, &["uninstall", "codex", "--dry-run"])
        .exit(0)
        .says(&["would change", "- [mcp_servers.mainstay]"]);
    assert_eq!(tree(&user.home("")), before);
}

#[test]
fn the_configuration_and_the_address_are_said_as_each_app_says_them() {
    let user = User::with_apps();
    let own = user.project("mcp.json");
    user.write(
        &own,
        "{ \"mcpServers\": {}, \"mainstay\": { \"listen\": \"127.0.0.1:9000\" } }",
    );
    run(&user, &["install", "cursor"]).exit(0);
    let text = fs::read_to_string(user.home(".cursor/mcp.json")).unwrap();
    let own = fs::canonicalize(own).unwrap();
    assert!(
        text.contains("\"--config\"") && text.contains(&*own.to_string_lossy()),
        "{text}"
    );
    for (app, file, word) in [
        (
            "windsurf",
            ".codeium/windsurf/mcp_config.json",
            "\"serverUrl\"",
        ),
        ("gemini-cli", ".gemini/settings.json", "\"httpUrl\""),
        ("goose", ".config/goose/config.yaml", "streamable_http"),
        ("hermes-agent", ".hermes/config.yaml", "url:"),
        ("codex", ".codex/config.toml", "url ="),
    ] {
        run(&user, &["install", app, "--http"]).exit(0);
        let text = fs::read_to_string(user.home(file)).unwrap();
        let url = "http://127.0.0.1:9000/mcp";
        assert!(text.contains(word) && text.contains(url), "{app}: {text}");
    }
    run(&user, &["install", "claude-desktop", "--http"])
        .exit(2)
        .says(&["--http"]);
    run(&user, &["install", "awaken"]).exit(2).says(&["stdio"]);
    run(&user, &["install", "cursr"])
        .exit(6)
        .says(&["did you mean `cursor`?"]);
}

#[test]
fn somebody_elses_entry_and_a_broken_file_are_left_alone() {
    let user = User::new();
    let path = user.home(".cursor/mcp.json");
    for (text, code, words) in [
        (
            "{ \"mcpServers\": { \"mainstay\": { \"command\": \"other\" } } }",
            2,
            "another one",
        ),
        ("{ \"mcpServers\": oops }", 3, "line 1, column 17"),
        ("{ \"mcpServers\": [] }", 3, "mcpServers"),
    ] {
        user.write(&path, text);
        run(&user, &["install", "cursor"])
            .exit(code)
            .says(&[words, "hint:"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(fs::read_dir(user.home(".cursor")).unwrap().count(), 1);
    }
    // One that cannot be made, among others that can.
    fs::remove_file(&path).unwrap();
    fs::remove_dir(user.home(".cursor")).unwrap();
    user.write(&user.home(".cursor"), "a file");
    let report = run(&user, &["install", "cursor", "codex", "--json"]).json();
    assert!(
        row(&report, "cursor")["error"]["hint"].is_string(),
        "{report:#}"
    );
    assert_eq!(row(&report, "codex")["changed"], true, "{report:#}");
}
