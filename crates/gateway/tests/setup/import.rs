//! `mainstay import`: every app's file in, one configuration out, and no secret with it (law 31).

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::support::{Ended, User, fixture};

/// What every secret of the fixtures contains.
const SECRET: &str = "TOPSECRET";

/// The configuration that was written, as its own strict reader has it: no comments in what we write.
#[track_caller]
fn servers(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    assert!(!text.contains(SECRET), "a secret was copied: {text}");
    serde_json::from_str::<Value>(&text).unwrap()["mcpServers"].clone()
}

fn import(user: &User, more: &[&str]) -> Ended {
    user.run(&[&["import"], more].concat())
        .never_says(&[SECRET])
}

/// The part of the JSON report about one file, by the end of its path.
#[track_caller]
fn file<'r>(report: &'r Value, end: &str) -> &'r Value {
    let files = report["files"].as_array().unwrap();
    let found = files
        .iter()
        .find(|file| file["file"].as_str().unwrap().ends_with(end));
    found.unwrap_or_else(|| panic!("{end} is not in {report:#}"))
}

/// The part about one entry.
#[track_caller]
fn entry<'r>(report: &'r Value, end: &str, name: &str) -> &'r Value {
    let servers = file(report, end)["servers"].as_array().unwrap();
    let found = servers.iter().find(|server| server["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {end}: {report:#}"))
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table, a row per server")]
fn every_app_is_read_and_each_entry_becomes_what_it_meant() {
    let user = User::with_apps().set(
        "AWAKEN_STORAGE_DIR",
        fixture("awaken").display().to_string(),
    );
    import(&user, &[]).exit(0).says(&[
        "Claude Desktop",
        "goose",
        "hermes-agent",
        "without counterpart",
    ]);
    let all = servers(&user.config());
    let expected = [
        (
            "time",
            json!({ "command": "uvx", "args": ["mcp-server-time", "--local-timezone", "Europe/Berlin"] }),
        ),
        (
            "tickets",
            json!({
                "url": "https://tickets.example.test/mcp",
                "headers": { "Authorization": "Bearer ${TICKETS_TOKEN}" },
                "timeouts": { "callIdleMs": 90_000 },
            }),
        ),
        (
            "blueprints",
            json!({ "command": "./tools/blueprints", "cwd": "/src/engine" }),
        ),
        (
            "quiet",
            json!({ "command": "quiet-server", "enabled": false }),
        ),
        (
            "search",
            json!({
                "url": "https://search.example.test/mcp?api_key=${SEARCH_API_KEY}&lang=en",
                "headers": { "X-Trace": "${TRACE_ID}" },
            }),
        ),
        (
            "files",
            json!({ "command": "npx", "args": ["-y", "a-file-server", "${HOME}/papers"] }),
        ),
        (
            "issues",
            json!({
                "command": "npx",
                "args": ["-y", "an-issue-server", "--region", "${REGION:-north}", "--root", "${WORKSPACE_FOLDER}/data"],
                "env": { "ISSUE_KEY": "${ISSUE_KEY}" },
            }),
        ),
        (
            "weather",
            json!({ "url": "https://weather.example.test/mcp", "tools": { "exclude": ["forecast_year"] } }),
        ),
        (
            "asleep",
            json!({ "command": "asleep-server", "enabled": false }),
        ),
        (
            "maps",
            json!({ "command": "maps-server", "args": ["--token", "${MAPS_TOKEN}"] }),
        ),
        (
            "old-style",
            json!({ "command": "old-server", "args": ["run"], "env": { "MODE": "fast" } }),
        ),
        (
            "docs",
            json!({
                "command": "docs-server",
                "args": ["--stdio"],
                "env": { "DOCS_MODE": "strict", "DOCS_REGION": "${DOCS_REGION}" },
                "tools": { "include": ["find", "read"], "exclude": ["read_all"] },
                "timeouts": { "connectMs": 20_000, "callIdleMs": 120_500 },
            }),
        ),
        (
            "ledger",
            json!({
                "url": "https://ledger.example.test/mcp",
                "headers": { "Authorization": "Bearer ${LEDGER_TOKEN}", "X-Region": "north", "X-Team": "${LEDGER_TEAM}" },
                "enabled": false,
                "required": true,
            }),
        ),
        (
            "streams",
            json!({
                "url": "https://streams.example.test/mcp",
                "tools": { "include": ["list"] },
                "timeouts": { "callIdleMs": 15_000 },
            }),
        ),
        (
            "events",
            json!({ "url": "https://events.example.test/sse", "type": "sse" }),
        ),
        (
            "retired",
            json!({
                "command": "retired-server",
                "env": { "HOST": "${RETIRED_HOST}" },
                "enabled": false,
                "tools": { "exclude": ["wipe"] },
            }),
        ),
        (
            "pythonic",
            json!({
                "command": "python3",
                "args": ["-m", "pythonic"],
                "cwd": "/opt/pythonic",
                "timeouts": { "callIdleMs": 4_000_000, "callTotalMs": 4_000_000 },
            }),
        ),
        (
            "calendar",
            json!({
                "command": "uvx",
                "args": ["a-calendar"],
                "env": { "CALENDAR_SECRET": "${CALENDAR_SECRET}", "CALENDAR_ZONE": "Europe/Berlin" },
                "timeouts": { "callIdleMs": 300_000 },
            }),
        ),
        (
            "remote-tools",
            json!({
                "url": "https://remote.example.test/mcp",
                "headers": { "X-Api-Key": "${REMOTE_TOOLS_X_API_KEY}" },
                "enabled": false,
            }),
        ),
        (
            "builder",
            json!({
                "command": "builder-server",
                "args": ["--db", "postgres://ada:${BUILDER_PASSWORD}@db.example.test/main"],
                "timeouts": { "callIdleMs": 60_000 },
            }),
        ),
        (
            "tester",
            json!({ "url": "https://tester.example.test/mcp", "tools": { "exclude": ["delete"] } }),
        ),
        (
            "runner",
            json!({
                "command": "bun",
                "args": ["x", "a-runner"],
                "env": { "RUNNER_KEY": "${RUNNER_KEY}" },
                "timeouts": { "listMs": 8_000 },
            }),
        ),
        (
            "hosted",
            json!({ "url": "https://hosted.example.test/mcp", "headers": { "Authorization": "Bearer ${HOSTED_TOKEN}" } }),
        ),
        (
            "models",
            json!({ "url": "https://models.example.test/mcp" }),
        ),
        (
            "mail",
            json!({
                "command": "npx",
                "args": ["-y", "a-mail-server"],
                "env": { "MAIL_PASSWORD": "${MAIL_PASSWORD}" },
                "tools": { "include": ["read_mail", "search_*"] },
                "timeouts": { "callIdleMs": 120_000, "connectMs": 45_000 },
            }),
        ),
        (
            "archive",
            json!({
                "url": "https://archive.example.test/mcp",
                "type": "sse",
                "idleShutdownMs": 600_000,
                "protocol": "modern",
                "tls": { "caFile": "/etc/ssl/archive.pem" },
            }),
        ),
        (
            "graph",
            json!({
                "command": "graph-server",
                "args": ["--fast"],
                "env": { "GRAPH_API_KEY": "${GRAPH_API_KEY}" },
                "timeouts": { "connectMs": 25_000 },
            }),
        ),
    ];
    for (name, entry) in &expected {
        assert_eq!(all[*name], *entry, "{name}");
    }
    // And the two that share a name, each under one of its own.
    let names: Vec<&str> = all
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(names.len(), expected.len() + 2, "{names:?}");
    assert!(
        names.contains(&"notes-claude-desktop") && names.contains(&"notes-cursor"),
        "{names:?}"
    );
}

#[test]
fn law_31_no_secret_is_copied_and_the_variables_are_told_with_their_places() {
    let user = User::with_apps();
    let report = import(&user, &["--json"]).exit(0).json();
    servers(&user.config());
    let variables = report["variables"].as_array().unwrap();
    let names: Vec<&str> = variables
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    // The same name with another value is another variable.
    for name in [
        "NOTES_TOKEN",
        "NOTES_NOTES_TOKEN",
        "TICKETS_TOKEN",
        "SEARCH_API_KEY",
        "MAPS_TOKEN",
        "BUILDER_PASSWORD",
        "MAIL_PASSWORD",
        "REMOTE_TOOLS_X_API_KEY",
        "ISSUE_KEY",
        "WORKSPACE_FOLDER",
        "CALENDAR_SECRET",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let tickets = variables
        .iter()
        .find(|variable| variable["name"] == "TICKETS_TOKEN")
        .unwrap();
    assert_eq!(
        tickets["value"][0]["keys"],
        "mcpServers.tickets.headers.Authorization"
    );
    assert!(
        tickets["value"][0]["file"]
            .as_str()
            .unwrap()
            .ends_with(".claude.json")
    );
    let asked = variables
        .iter()
        .find(|variable| variable["name"] == "ISSUE_KEY")
        .unwrap();
    assert_eq!(asked["what"], "Key of the issue tracker");
    // For people, with the command to set it.
    let other = User::with_apps();
    import(&other, &[]).exit(0).says(&[
        "read -rs TICKETS_TOKEN && export TICKETS_TOKEN",
        "mcpServers.notes.env.NOTES_TOKEN",
    ]);
}

#[test]
fn secrets_are_copied_on_request_and_with_a_warning() {
    let user = User::with_apps();
    user.run(&["import", "--app", "hermes-agent", "--keep-secrets"])
        .exit(0)
        .never_says(&[SECRET])
        .says(&["warning:", "secrets were copied"]);
    let text = fs::read_to_string(user.config()).unwrap();
    assert!(text.contains("TOPSECRET-mail"), "{text}");
}

#[test]
fn what_was_written_passes_check_once_its_variables_are_set() {
    let mut user = User::with_apps().in_project();
    let report = import(&user, &["--json"]).exit(0).json();
    let path = user.config();
    let told = path.to_str().unwrap().to_owned();
    for variable in report["variables"].as_array().unwrap() {
        user = user.set(variable["name"].as_str().unwrap(), "x");
    }
    // Those that the apps referred to before.
    for name in [
        "TRACE_ID",
        "DOCS_REGION",
        "LEDGER_TOKEN",
        "LEDGER_TEAM",
        "RETIRED_HOST",
        "RUNNER_KEY",
        "HOSTED_TOKEN",
    ] {
        user = user.set(name, "x");
    }
    let checked = user.run(&["check", "--json", "--config", &told]).json();
    // The programs of the fixtures do not exist; everything else is as it should be.
    let problems = checked["problems"].as_array().unwrap();
    assert!(
        problems
            .iter()
            .all(|problem| problem["severity"] != "error"),
        "{problems:#?}"
    );
    let wrong: Vec<&Value> = checked["servers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|server| server["verdict"] == "invalid")
        .filter(|server| {
            !["found", "directory"]
                .iter()
                .any(|word| server["note"].as_str().unwrap().contains(word))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_second_import_changes_nothing() {
    let user = User::with_apps();
    import(&user, &[]).exit(0);
    let before = fs::read_to_string(user.config()).unwrap();
    let again = import(&user, &["--json"]).exit(0);
    assert_eq!(again.json()["written"], false);
    assert_eq!(
        entry(&again.json(), ".cursor/mcp.json", "search")["result"],
        "unchanged"
    );
    assert_eq!(fs::read_to_string(user.config()).unwrap(), before);
}

#[test]
fn the_same_server_of_two_apps_is_one_and_another_of_the_same_name_is_another() {
    let user = User::with_apps();
    let report = import(&user, &["--json", "--dry-run"]).exit(0).json();
    assert_eq!(
        entry(&report, "claude_desktop_config.json", "time")["result"],
        "added"
    );
    assert_eq!(
        entry(&report, ".claude.json", "time")["result"],
        "duplicate"
    );
    assert_eq!(
        entry(&report, ".cursor/mcp.json", "notes")["as"],
        "notes-cursor"
    );
    assert!(!user.config().exists(), "--dry-run wrote");

    let preferred = import(&user, &["--json", "--prefer", "cursor"])
        .exit(0)
        .json();
    assert_eq!(
        entry(&preferred, ".cursor/mcp.json", "notes")["as"],
        "notes"
    );
    assert_eq!(
        entry(&preferred, "claude_desktop_config.json", "notes")["result"],
        "left-out"
    );
    assert!(
        servers(&user.config())
            .get("notes-claude-desktop")
            .is_none()
    );
}

#[test]
fn a_configuration_keeps_its_comments_its_order_and_its_servers() {
    let user = User::with_apps();
    let before = "\
// My servers.
{
  \"mcpServers\": {
    \"zebra\": { \"command\": \"zebra\" }, // the first
    // Another search than that of the editor.
    \"search\": { \"url\": \"https://other.example.test/mcp\" }
  },
  \"mainstay\": { \"listen\": \"127.0.0.1:9000\" }
}
";
    user.write(&user.config(), before);
    let report = import(&user, &["--json", "--app", "cursor"]).exit(0).json();
    let after = fs::read_to_string(user.config()).unwrap();
    for line in [
        "// My servers.",
        "\"zebra\": { \"command\": \"zebra\" }, // the first",
        "    // Another search than that of the editor.",
    ] {
        assert!(after.contains(line), "{line} is gone: {after}");
    }
    assert!(
        after.contains("\"search\": { \"url\": \"https://other.example.test/mcp\" }"),
        "{after}"
    );
    let place = |text: &str| {
        after
            .find(text)
            .unwrap_or_else(|| panic!("{text} is not in {after}"))
    };
    assert!(
        place("\"zebra\"") < place("\"search\"")
            && place("\"search\"") < place("\"search-cursor\""),
        "{after}"
    );
    let backup = report["backup"].as_str().unwrap();
    assert_eq!(fs::read_to_string(backup).unwrap(), before);
}

#[test]
fn a_broken_file_is_told_with_its_place_and_the_others_are_imported() {
    let user = User::with_apps();
    user.write(
        &user.home(".cursor/mcp.json"),
        "{\n  \"mcpServers\": {\n    \"k\": \"TOPSECRET-broken\" oops\n  }\n}\n",
    );
    user.write(
        &user.home(".lmstudio/mcp.json"),
        "{ \"mcpServers\": { \"x\": 3, \"y\": { \"command\": \"y\" } } }",
    );
    let ended = import(&user, &[]).exit(70).says(&[
        ".cursor/mcp.json:3:",
        "this is not JSON",
        "`mcpServers.x`",
    ]);
    drop(ended);
    let all = servers(&user.config());
    assert!(
        all.get("weather").is_some() && all.get("y").is_some(),
        "{all:#}"
    );
    let report = import(&user, &["--json"]).exit(70).json();
    let broken = file(&report, ".cursor/mcp.json");
    assert_eq!(
        (&broken["state"], &broken["error"]["line"]),
        (&json!("unreadable"), &json!(3))
    );
}

#[test]
fn mainstay_itself_and_what_only_an_app_could_start_are_skipped() {
    let user = User::with_apps();
    let report = import(&user, &["--json", "--dry-run"]).exit(0).json();
    assert_eq!(
        entry(&report, ".lmstudio/mcp.json", "mainstay")["result"],
        "mainstay"
    );
    for (end, name) in [
        ("goose/config.yaml", "developer"),
        ("zed/settings.json", "from-extension"),
        ("opencode.json", "switched"),
    ] {
        assert_eq!(entry(&report, end, name)["result"], "skipped", "{name}");
    }
}

#[test]
fn files_of_the_project_belong_to_it() {
    let user = User::new().in_project();
    let report = import(&user, &["--json"]).exit(0).json();
    let all = servers(&user.config());
    let project = user.project("").canonicalize().unwrap();
    let shared = &all["shared"];
    assert_eq!(
        Path::new(shared["cwd"].as_str().unwrap())
            .canonicalize()
            .unwrap(),
        project
    );
    assert_eq!(shared["env"]["CACHE"], "${CACHE_DIR:-/tmp/cache}");
    let source = all["local-files"]["args"][0].as_str().unwrap();
    assert!(
        source.ends_with("project/src") && source.starts_with('/'),
        "{source}"
    );
    assert_eq!(
        all["calculator"],
        json!({
            "command": "python3",
            "args": ["-m", "calculator"],
            "env": { "LEVEL": "2" },
            "tools": {
                "include": ["add", "subtract"],
                "rename": { "add": "plus" },
                "describe": { "add": "Adds two numbers" },
            },
            "timeouts": { "callIdleMs": 30_000 },
        })
    );
    assert_eq!(all["web"]["headers"], json!({ "X-Correlation": "abc" }));
    let lost = entry(&report, "config.yml", "web")["lost"].to_string();
    assert!(lost.contains("auth_provider"), "{lost}");
    assert_eq!(all.as_object().unwrap().len(), 4, "{all:#}");
}

#[test]
fn a_file_that_is_named_is_read_whatever_it_is() {
    let rows = [
        ("awaken-list.json", "awaken", "alpha"),
        ("home/.codex/config.toml", "codex", "docs"),
        ("home/.config/goose/config.yaml", "goose", "calendar"),
        ("home/.hermes/config.yaml", "hermes-agent", "mail"),
        ("home/.config/zed/settings.json", "zed", "maps"),
        ("home/.config/Code/User/mcp.json", "vscode", "issues"),
        ("home/.config/opencode/opencode.json", "opencode", "runner"),
        ("home/.claude.json", "claude-code", "tickets"),
        ("home/.gemini/settings.json", "gemini-cli", "streams"),
        ("home/.cursor/mcp.json", "file", "search"),
        ("project/config.yml", "nemo-agent-toolkit", "calculator"),
    ];
    for (path, app, server) in rows {
        let user = User::new();
        let from = fixture(path);
        let report = import(&user, &["--json", "--from", from.to_str().unwrap()])
            .exit(0)
            .json();
        assert_eq!(file(&report, path)["app"], app, "{path}");
        assert!(servers(&user.config()).get(server).is_some(), "{path}");
    }
    let user = User::new();
    user.write(&user.project("odd.json"), "{ \"hello\": 1 }");
    import(&user, &["--from", "odd.json"])
        .exit(70)
        .says(&["no list of servers"]);
    import(&user, &["--from", "nowhere.json"])
        .exit(6)
        .says(&["nowhere.json", "hint:"]);
}

#[test]
fn wrong_words_get_the_nearest_right_one() {
    let user = User::with_apps();
    import(&user, &["--app", "cursr"])
        .exit(6)
        .says(&["`cursr`", "did you mean `cursor`?"]);
    import(&user, &["--prefer", "nobody-at-all"])
        .exit(6)
        .says(&["there are: "]);
    user.write(&user.config(), "{ \"mcpServers\": [] }");
    import(&user, &[])
        .exit(3)
        .says(&["mcp.json:1:", "mcpServers"]);
    assert_eq!(
        fs::read_to_string(user.config()).unwrap(),
        "{ \"mcpServers\": [] }"
    );
}

#[test]
fn a_machine_without_apps_is_told_what_to_do() {
    let user = User::new();
    import(&user, &[])
        .exit(0)
        .says(&["no list of MCP servers was found", "--from FILE"]);
    assert!(!user.config().exists());
}
