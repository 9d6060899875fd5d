//! What files mean, and what is said about bad ones. Every message that a bad file can cause is written out here.

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Loaded {
    match Config::parse(text, Path::new("mcp.json")) {
        Ok(loaded) => loaded,
        Err(error) => panic!("refused: {error}"),
    }
}

fn refusal(text: &str) -> String {
    Config::parse(text, Path::new("mcp.json"))
        .expect_err("refused")
        .to_string()
}

fn rendered(loaded: &Loaded) -> String {
    loaded
        .problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The problems of a config whose only server is `entry`.
fn about(entry: &str) -> String {
    rendered(&read(&format!("{{\"mcpServers\":\n{{\"s\": {entry}}}}}")))
}

#[test]
fn a_typical_file_of_another_client_works_unchanged() {
    let loaded = read(
        r#"{
          // Comments, trailing commas, keys of other clients.
          "$schema": "x", "inputs": [],
          "mcpServers": {
            "time": {
              "command": "uvx", "args": ["mcp-server-time", "--local-timezone=${TZ:-UTC}"],
              "env": {"A": "1", "B": "${HOME}"}, "cwd": "/tmp",
              "autoApprove": ["get_time"], "alwaysAllow": [], "timeout": 60, "description": "the time", "icon": "x",
            },
            "notes": { "type": "streamable-http", "url": "https://example.com/mcp", "headers": {"X-Key": "k"} },
            "off": { "command": "x", "disabled": true, "env": null, "url": null },
            "surf": { "serverUrl": "http://h/mcp", "disabledTools": ["rm"] },
            "gem": { "httpUrl": "http://h/mcp", "includeTools": ["a", "b"], "excludeTools": ["b"], "trust": true },
            "pilot": { "type": "local", "command": "x", "tools": ["*"] },
          },
        }"#,
    );
    assert_eq!(rendered(&loaded), "");
    let names: Vec<&str> = loaded
        .config
        .servers
        .iter()
        .map(|server| server.name.as_str())
        .collect();
    assert_eq!(names, ["gem", "notes", "off", "pilot", "surf", "time"]);

    let time = loaded.config.server("time").unwrap();
    let built = ServerConfig::stdio("time", "uvx")
        .args(["mcp-server-time", "--local-timezone=${TZ:-UTC}"])
        .env("A", "1")
        .env("B", "${HOME}")
        .cwd("/tmp");
    assert_eq!(time.transport, built.transport);
    assert_eq!(time.label.as_deref(), Some("the time"));
    assert_eq!(time.keepalive, None, "the process is watched instead");

    let notes = loaded.config.server("notes").unwrap();
    let built = ServerConfig::http("notes", "https://example.com/mcp").header("X-Key", "k");
    assert_eq!(*notes, built);
    assert_eq!(notes.keepalive, Some(Keepalive::default()));

    assert!(!loaded.config.server("off").unwrap().enabled);
    assert!(!loaded.config.server("surf").unwrap().tools.allows("rm"));
    let gem = &loaded.config.server("gem").unwrap().tools;
    assert!(gem.allows("a") && !gem.allows("b") && !gem.allows("c"));
    assert!(
        loaded
            .config
            .server("pilot")
            .unwrap()
            .tools
            .allows("anything")
    );
}

#[test]
fn the_map_of_editors_is_read_with_a_note() {
    let loaded = read(r#"{"servers": {"s": {"type": "stdio", "command": "x"}}}"#);
    assert_eq!(
        rendered(&loaded),
        "mcp.json:1:13: note: `servers` is read like `mcpServers` (at servers)"
    );
    assert!(!loaded.has_errors() && loaded.config.server("s").is_some());
}

#[test]
fn every_setting_is_read() {
    let loaded = read(
        r#"{ "mcpServers": { "s": {
            "command": "x", "enabled": false, "required": true, "startup": "lazy", "idleShutdownMs": 1,
            "protocol": "modern", "scope": "shared", "tools": {"include": ["a*"], "exclude": ["ab"]},
            "timeouts": {"callIdleMs": 2, "callTotalMs": 3, "connectMs": 4, "spawnMs": 5, "greetMs": 6, "listMs": 7,
                         "probeMs": 8, "edgePatienceMs": 9},
            "restart": {"budget": 10, "backoffBaseMs": 11, "backoffCapMs": 12, "openIntervalMs": 13, "stableMs": 14,
                        "parkedProbeMs": false, "parkedCallIntervalMs": 15, "retryAfterMinMs": 16, "retryAfterMaxMs": 17},
            "keepalive": {"idleMs": 18, "timeoutMs": 19, "misses": 20},
            "retry": {"trustAnnotations": true}, "concurrency": 21, "envPolicy": "inherit",
            "stop": {"closeMs": 22, "terminateMs": 23, "killMs": 24}, "drainMs": 25, "label": "L"
          } },
          "mainstay": { "listen": "localhost:1", "stateDir": "state", "socket": "/run/m.sock", "edgePatienceMs": 26,
            "startGate": 27, "limits": {"messageBytes": 5000, "eventBytes": 5001, "depth": 28, "pages": 29,
            "stderrBytes": 5002, "sessions": 30} } }"#,
    );
    assert_eq!(rendered(&loaded), "");
    let server = loaded.config.server("s").unwrap();
    assert_eq!(
        (server.enabled, server.required, server.startup),
        (false, true, Startup::Lazy)
    );
    assert_eq!(
        (server.idle_shutdown_ms, server.protocol),
        (Some(1), Protocol::Modern)
    );
    assert!(server.tools.allows("ac") && !server.tools.allows("ab") && !server.tools.allows("b"));
    let t = &server.timeouts;
    assert_eq!(
        [t.call_idle_ms, t.call_total_ms, t.connect_ms, t.spawn_ms],
        [2, 3, 4, 5]
    );
    assert_eq!(
        [
            t.greet_ms,
            t.list_ms,
            t.probe_ms,
            t.edge_patience_ms.unwrap()
        ],
        [6, 7, 8, 9]
    );
    let r = &server.restart;
    assert_eq!((r.budget, r.parked_probe_ms), (10, None));
    assert_eq!(
        [
            r.backoff_base_ms,
            r.backoff_cap_ms,
            r.open_interval_ms,
            r.stable_ms
        ],
        [11, 12, 13, 14]
    );
    assert_eq!(
        [
            r.parked_call_interval_ms,
            r.retry_after_min_ms,
            r.retry_after_max_ms
        ],
        [15, 16, 17]
    );
    let keepalive = server.keepalive.as_ref().unwrap();
    assert_eq!(
        (keepalive.idle_ms, keepalive.timeout_ms, keepalive.misses),
        (18, 19, 20)
    );
    assert!(server.trust_annotations);
    assert_eq!(
        (server.concurrency, server.env_policy),
        (21, EnvPolicy::Inherit)
    );
    assert_eq!(
        [
            server.stop.close_ms,
            server.stop.terminate_ms,
            server.stop.kill_ms,
            server.drain_ms
        ],
        [22, 23, 24, 25]
    );
    assert_eq!(server.label.as_deref(), Some("L"));

    let gateway = &loaded.config.gateway;
    assert_eq!(gateway.listen, "127.0.0.1:1".parse().unwrap());
    assert_eq!(gateway.state_dir.as_deref(), Some(Path::new("state")));
    assert_eq!(gateway.socket.as_deref(), Some(Path::new("/run/m.sock")));
    assert_eq!((gateway.edge_patience_ms, gateway.start_gate), (26, 27));
    let l = &gateway.limits;
    assert_eq!(
        [
            l.message_bytes,
            l.event_bytes,
            l.depth,
            l.pages,
            l.stderr_bytes,
            l.sessions
        ],
        [5000, 5001, 28, 29, 5002, 30]
    );
}

#[test]
fn paths_of_the_gateway_are_relative_to_the_file() {
    let text = r#"{"mcpServers": {}, "mainstay": {"stateDir": "state", "socket": "/run/s"}}"#;
    let gateway = Config::parse(text, Path::new("/etc/mainstay/mcp.json"))
        .unwrap()
        .config
        .gateway;
    assert_eq!(
        gateway.state_dir.as_deref(),
        Some(Path::new("/etc/mainstay/state"))
    );
    assert_eq!(gateway.socket.as_deref(), Some(Path::new("/run/s")));
}

#[test]
fn defaults_lie_under_each_server_key_by_key() {
    let loaded = read(
        r#"{ "mainstay": { "defaults": {
                "required": true, "keepalive": false, "tools": {"exclude": ["rm"]},
                "timeouts": {"callIdleMs": 10, "probeMs": 20}, "restart": {"budget": 1, "parkedProbeMs": false} } },
             "mcpServers": {
               "own": { "url": "http://h/", "required": false, "keepalive": {"misses": 9},
                        "timeouts": {"probeMs": 99}, "restart": {"parkedProbeMs": 5}, "tools": {"include": ["*"]} },
               "plain": { "url": "http://h/" } } }"#,
    );
    assert_eq!(rendered(&loaded), "");
    let own = loaded.config.server("own").unwrap();
    assert!(!own.required);
    assert_eq!(
        (
            own.timeouts.call_idle_ms,
            own.timeouts.probe_ms,
            own.timeouts.call_total_ms
        ),
        (10, 99, 3_600_000)
    );
    assert_eq!(
        (own.restart.budget, own.restart.parked_probe_ms),
        (1, Some(5))
    );
    assert_eq!(
        own.keepalive.as_ref().map(|keepalive| keepalive.misses),
        Some(9)
    );
    assert!(own.tools.allows("x") && !own.tools.allows("rm"));
    let plain = loaded.config.server("plain").unwrap();
    assert!(plain.required && plain.keepalive.is_none());
    assert_eq!(
        (plain.timeouts.probe_ms, plain.restart.parked_probe_ms),
        (20, None)
    );
}

#[test]
fn raising_the_connect_limit_raises_its_phases() {
    let timeouts = |text: &str| {
        let text = format!(r#"{{"mcpServers": {{"s": {{"command": "x", "timeouts": {text}}}}}}}"#);
        read(&text).config.server("s").unwrap().timeouts.clone()
    };
    let slow = timeouts(r#"{"connectMs": 300000, "listMs": 5}"#);
    assert_eq!(
        [slow.spawn_ms, slow.greet_ms, slow.list_ms],
        [300_000, 300_000, 5]
    );
    let usual = Timeouts::default();
    assert_eq!(
        [
            usual.spawn_ms,
            usual.greet_ms,
            usual.list_ms,
            usual.connect_ms
        ],
        [10_000, 30_000, 30_000, 60_000]
    );
}

#[test]
fn a_file_that_is_no_config_is_refused_with_its_place() {
    for (text, message) in [
        (
            "",
            "mcp.json:1:1: error: expected an object, found nothing\n    help: write `{ \"mcpServers\": { … } }`",
        ),
        (
            "[1]",
            "mcp.json:1:1: error: expected an object, found a list\n    help: write `{ \"mcpServers\": { … } }`",
        ),
        (
            "{\n  \"mcpServers\": {\n    \"é\": {\"command\": \"x\" \"args\": []}\n  }\n}",
            "mcp.json:3:25: error: this is not JSON: expected comma\n    help: mend it here or just before; comments and \
             trailing commas are allowed",
        ),
        (
            "{'mcpServers': {}}",
            "mcp.json:1:2: error: this is not JSON: single-quoted strings are not allowed\n    help: mend it here or just \
             before; comments and trailing commas are allowed",
        ),
        (
            "{\"mcpServers\": {",
            "mcp.json:1:16: error: this is not JSON: unterminated object\n    help: mend it here or just before; comments \
             and trailing commas are allowed",
        ),
        (
            "{}",
            "mcp.json:1:1: error: there is no `mcpServers`\n    help: write `\"mcpServers\": { \"time\": { \"command\": \
             \"uvx\", \"args\": [\"mcp-server-time\"] } }`",
        ),
        (
            "{\"mcp_servers\": {}}",
            "mcp.json:1:1: error: there is no `mcpServers`\n    help: write `\"mcpServers\": { \"time\": { \"command\": \
             \"uvx\", \"args\": [\"mcp-server-time\"] } }`\nmcp.json:1:2: warning: unknown key `mcp_servers` (at \
             mcp_servers)\n    help: did you mean `mcpServers`?",
        ),
        (
            "{\"time\": {\"command\": \"x\"}}",
            "mcp.json:1:1: error: there is no `mcpServers`\n    help: `time` looks like a server: put it inside \
             `\"mcpServers\": { … }`\nmcp.json:1:2: warning: unknown key `time` (at time)\n    help: it has no effect; remove \
             it, or look for its name in the schema",
        ),
        (
            "{\"mcpServers\": []}",
            "mcp.json:1:16: error: expected an object with one entry per server, found a list (at mcpServers)",
        ),
        (
            "{\"mcpServers\": {},\n \"mcpServers\": {}}",
            "mcp.json:2:2: error: `mcpServers` occurs twice: here and on line 1 (at mcpServers)\n    help: keep one of the \
             two",
        ),
    ] {
        assert_eq!(refusal(text), message, "{text}");
    }
}

#[test]
fn what_is_wrong_with_the_gateway_refuses_the_file() {
    for (text, message) in [
        (
            "3",
            "mcp.json:1:32: error: expected an object, found a number (at mainstay)",
        ),
        (
            r#"{"listen": "8808"}"#,
            "mcp.json:1:43: error: `8808` is not an address to listen on (at mainstay.listen)\n    help: write an IP address \
             and a port, such as `127.0.0.1:8808`",
        ),
        (
            r#"{"limits": {"depth": 1}}"#,
            "mcp.json:1:53: error: `1` is not a number that fits here (at mainstay.limits.depth)\n    help: write a whole \
             number from 8 to 512",
        ),
        (
            r#"{"defaults": {"startup": "lasy"}}"#,
            "mcp.json:1:57: error: `startup` cannot be `lasy` (at mainstay.defaults.startup)\n    help: did you mean `lazy`?",
        ),
        (
            r#"{"stateDir": true, "socket": 1}"#,
            "mcp.json:1:45: error: expected a string, found a truth value (at mainstay.stateDir)\nmcp.json:1:61: error: \
             expected a string, found a number (at mainstay.socket)",
        ),
    ] {
        assert_eq!(
            refusal(&format!("{{\"mcpServers\": {{}}, \"mainstay\": {text}}}")),
            message,
            "{text}"
        );
    }
}

#[test]
fn a_refusal_names_the_problems_of_servers_too() {
    let error = refusal("{\"mcpServers\": {\"s\": {}},\n\"mainstay\": 1}");
    assert_eq!(
        error,
        "mcp.json:1:17: error: there is neither `command` nor `url` (at mcpServers.s)\n    help: add `\"command\": \"…\"` for a \
         program, or `\"url\": \"http://…\"` for an address\nmcp.json:2:13: error: expected an object, found a number (at \
         mainstay)"
    );
}

#[test]
fn bytes_that_are_no_text_and_files_that_are_too_long_are_refused() {
    let path = Path::new("mcp.json");
    let error = read::read(b"{\n \"a\": \"\xff\"}", path).unwrap_err();
    assert_eq!(
        error.to_string(),
        "mcp.json:2:8: error: this is not UTF-8 text\n    help: save the file with the encoding UTF-8"
    );
    let error = read::read(&vec![b' '; read::FILE_BYTES_MAX + 1], path).unwrap_err();
    assert_eq!(
        error.to_string(),
        "mcp.json:1:1: error: the file has 4194305 bytes, more than the 4194304 that are read\n    help: check that this is \
         a config file"
    );
    let with_mark = read::read("\u{feff}{\"mcpServers\": {}}".as_bytes(), path).unwrap();
    assert_eq!(with_mark.problems, []);
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let error = Config::load(&dir.path().join("none.json")).unwrap_err();
    let expected = format!(
        "cannot read the config file {}\n    help: check that the file exists and that this user may read it",
        dir.path().join("none.json").display()
    );
    assert_eq!(error.to_string(), expected);
    assert!(std::error::Error::source(&error).is_some());
    assert!(
        matches!(
            Config::load(dir.path()),
            Err(ConfigError::Unreadable { .. })
        ),
        "a directory"
    );
}

/// Everything that breaks one server, with the words it is reported in.
#[test]
fn what_is_wrong_with_one_server_is_reported_with_its_place() {
    for (entry, message) in [
        (
            "3",
            "mcp.json:2:7: error: expected an object with `command` or `url`, found a number (at mcpServers.s)",
        ),
        (
            "{}",
            "mcp.json:2:2: error: there is neither `command` nor `url` (at mcpServers.s)\n    help: add `\"command\": \"…\"` \
             for a program, or `\"url\": \"http://…\"` for an address",
        ),
        (
            r#"{"command": "x", "url": "http://h"}"#,
            "mcp.json:2:2: error: there are both `command` and `url` (at mcpServers.s)\n    help: keep `command` for a \
             program, `url` for an address; or make two servers of it",
        ),
        (
            r#"{"type": "http"}"#,
            "mcp.json:2:2: error: there is no `url` (at mcpServers.s)\n    help: add the address: `\"url\": \"http://…\"`",
        ),
        (
            r#"{"type": "stdio"}"#,
            "mcp.json:2:2: error: there is no `command` (at mcpServers.s)\n    help: add the program: `\"command\": \"…\"`",
        ),
        (
            r#"{"type": "http", "command": "x"}"#,
            "mcp.json:2:2: error: `type` says HTTP, but there is a `command` (at mcpServers.s)\n    help: remove `type`, or \
             give a `url` instead",
        ),
        (
            r#"{"type": "stdio", "url": "http://h"}"#,
            "mcp.json:2:2: error: `type` says stdio, but there is a `url` (at mcpServers.s)\n    help: remove `type`, or give \
             a `command` instead",
        ),
        (
            r#"{"type": "sse", "url": "http://h"}"#,
            "mcp.json:2:2: error: the transport `sse` (HTTP with server-sent events of 2024) is not supported yet (at \
             mcpServers.s)\n    help: use streamable HTTP if the server offers it",
        ),
        (
            r#"{"type": "stdoi", "command": "x"}"#,
            "mcp.json:2:16: error: `stdoi` is not a transport (at mcpServers.s.type)\n    help: did you mean `stdio`?",
        ),
        (
            r#"{"transport": "carrier pigeon", "command": "x"}"#,
            "mcp.json:2:21: error: `carrier pigeon` is not a transport (at mcpServers.s.transport)\n    help: write one of: \
             stdio, http, streamable-http, sse",
        ),
        (
            r#"{"command": ["npx", "x"]}"#,
            "mcp.json:2:19: error: expected a string, found a list (at mcpServers.s.command)\n    help: put the program here \
             and the rest into `args`",
        ),
        (
            r#"{"command": " "}"#,
            "mcp.json:2:19: error: the `command` is empty (at mcpServers.s.command)\n    help: write the name or the path of \
             a program",
        ),
        (
            r#"{"command": "x", "args": "-v"}"#,
            "mcp.json:2:32: error: expected a list of strings, found a string (at mcpServers.s.args)",
        ),
        (
            r#"{"command": "x", "args": ["a", {}]}"#,
            "mcp.json:2:38: error: expected a string, found an object (at mcpServers.s.args[1])",
        ),
        (
            r#"{"command": "x", "env": ["A=1"]}"#,
            "mcp.json:2:31: error: expected an object, found a list (at mcpServers.s.env)",
        ),
        (
            r#"{"command": "x", "env": {"A=B": "1"}}"#,
            "mcp.json:2:32: error: `A=B` cannot be the name of a variable (at mcpServers.s.env.\"A=B\")",
        ),
        (
            r#"{"command": "x", "env": {"A": "sk-1", "A": "sk-2"}}"#,
            "mcp.json:2:45: error: `A` occurs twice: here and on line 2 (at mcpServers.s.env.A)\n    help: keep one of the two",
        ),
        (
            r#"{"command": "x", "cwd": 1}"#,
            "mcp.json:2:31: error: expected a string, found a number (at mcpServers.s.cwd)",
        ),
        (
            r#"{"command": "x", "cwd": "a\u0000b"}"#,
            "mcp.json:2:31: error: there is a NUL character in it (at mcpServers.s.cwd)\n    help: remove it",
        ),
        (
            "{\"command\": \"x\",\n\"command\": \"y\"}",
            "mcp.json:3:1: error: `command` occurs twice: here and on line 2 (at mcpServers.s.command)\n    help: keep one of \
             the two",
        ),
        (
            r#"{"url": "localhost:3000"}"#,
            "mcp.json:2:15: error: the `url` does not begin with `http://` or `https://` (at mcpServers.s.url)\n    help: \
             write the whole address, such as `http://127.0.0.1:3000/mcp`",
        ),
        (
            r#"{"url": "ftp://${HOST}/"}"#,
            "mcp.json:2:15: error: the `url` does not begin with `http://` or `https://` (at mcpServers.s.url)\n    help: \
             write the whole address, such as `http://127.0.0.1:3000/mcp`",
        ),
        (
            r#"{"url": "http://"}"#,
            "mcp.json:2:15: error: the `url` is not an address: empty host (at mcpServers.s.url)\n    help: write the whole \
             address, such as `http://127.0.0.1:3000/mcp`",
        ),
        (
            r#"{"url": "http://h", "headers": {"A B": "1"}}"#,
            "mcp.json:2:39: error: `A B` cannot be the name of a header (at mcpServers.s.headers.\"A B\")\n    help: use \
             letters, digits and `-`",
        ),
        (
            r#"{"url": "http://h", "headers": {"X-A": "1", "x-a": "2"}}"#,
            "mcp.json:2:51: error: the header `x-a` occurs twice: case makes no difference (at mcpServers.s.headers.x-a)\n    \
             help: keep one of the two",
        ),
        (
            r#"{"url": "http://h", "headers": {"X-A": "sk-1\r\nX-B: 2"}}"#,
            "mcp.json:2:46: error: a header must not contain line breaks or control characters (at mcpServers.s.headers.X-A)",
        ),
        (
            r#"{"url": "http://h", "headers": {"X-A": "sk-x ${secret:TOKEN}"}}"#,
            "mcp.json:2:46: error: `${secret:TOKEN}` is not supported yet (at mcpServers.s.headers.X-A)\n    help: put the \
             secret into an environment variable and write `${NAME}`",
        ),
        (
            r#"{"command": "x", "args": ["${input:key}"]}"#,
            "mcp.json:2:33: error: `${input:key}` is a variable of one editor and has no value here (at \
             mcpServers.s.args[0])\n    help: write the value itself, or put it into an environment variable and write \
             `${NAME}`",
        ),
        (
            r#"{"command": "x", "args": ["${vault:key}"]}"#,
            "mcp.json:2:33: error: `${vault:key}` is not a reference that is known here (at mcpServers.s.args[0])\n    help: \
             write `${NAME}` or `${env:NAME}` for a variable, or `$${` for the characters themselves",
        ),
        (
            r#"{"command": "x", "args": ["${A:-${B}}"]}"#,
            "mcp.json:2:33: error: the default of `A` contains a reference, which is not supported (at \
             mcpServers.s.args[0])\n    help: write a plain text as the default",
        ),
        (
            r#"{"command": "x", "enabled": "yes"}"#,
            "mcp.json:2:35: error: expected `true` or `false`, found a string (at mcpServers.s.enabled)",
        ),
        (
            r#"{"command": "x", "enabled": true, "disabled": true}"#,
            "mcp.json:2:2: error: the server is both enabled and disabled (at mcpServers.s)\n    help: keep only `enabled`",
        ),
        (
            r#"{"command": "x", "protocol": "2025-11-25"}"#,
            "mcp.json:2:36: error: `protocol` cannot be `2025-11-25` (at mcpServers.s.protocol)\n    help: write one of: auto, \
             legacy, modern",
        ),
        (
            r#"{"command": "x", "timeouts": {"callIdleMs": 0}}"#,
            "mcp.json:2:51: error: `0` is not a number that fits here (at mcpServers.s.timeouts.callIdleMs)\n    help: write a \
             whole number from 1 to 2592000000",
        ),
        (
            r#"{"command": "x", "timeouts": {"probeMs": 1.5, "listMs": "5s", "greetMs": -1}}"#,
            "mcp.json:2:48: error: `1.5` is not a number that fits here (at mcpServers.s.timeouts.probeMs)\n    help: write a \
             whole number from 1 to 2592000000\nmcp.json:2:63: error: expected a whole number, found a string (at \
             mcpServers.s.timeouts.listMs)\nmcp.json:2:80: error: `-1` is not a number that fits here (at \
             mcpServers.s.timeouts.greetMs)\n    help: write a whole number from 1 to 2592000000",
        ),
        (
            r#"{"command": "x", "restart": {"parkedProbeMs": "no"}}"#,
            "mcp.json:2:53: error: expected a whole number, or `false` for never, found a string (at \
             mcpServers.s.restart.parkedProbeMs)",
        ),
        (
            r#"{"command": "x", "keepalive": 5}"#,
            "mcp.json:2:37: error: expected an object or `false`, found a number (at mcpServers.s.keepalive)",
        ),
        (
            r#"{"command": "x", "tools": "a"}"#,
            "mcp.json:2:33: error: expected an object, found a string (at mcpServers.s.tools)",
        ),
        (
            r#"{"command": "x", "retry": true, "stop": []}"#,
            "mcp.json:2:33: error: expected an object, found a truth value (at mcpServers.s.retry)\nmcp.json:2:47: error: \
             expected an object, found a list (at mcpServers.s.stop)",
        ),
    ] {
        let loaded = read(&format!("{{\"mcpServers\":\n{{\"s\": {entry}}}}}"));
        assert_eq!(rendered(&loaded), message, "{entry}");
        let server = loaded.config.server("s").unwrap();
        assert_eq!(server.problems(), loaded.problems, "{entry}");
        assert!(server.is_broken() && loaded.has_errors(), "{entry}");
    }
}

#[test]
fn what_only_has_no_effect_warns_and_breaks_nothing() {
    for (entry, message) in [
        (
            r#"{"command": "x", "agrs": []}"#,
            "mcp.json:2:24: warning: unknown key `agrs` (at mcpServers.s.agrs)\n    help: did you mean `args`?",
        ),
        (
            r#"{"command": "x", "timeouts": {"call_idle_ms": 1}}"#,
            "mcp.json:2:37: warning: unknown key `call_idle_ms` (at mcpServers.s.timeouts.call_idle_ms)\n    help: did you \
             mean `callIdleMs`?",
        ),
        (
            r#"{"command": "x", "zebra\u001b[2J": 1}"#,
            "mcp.json:2:24: warning: unknown key `zebra\\u{1b}[2J` (at mcpServers.s.\"zebra\\u{1b}[2J\")\n    help: it has no \
             effect; remove it, or look for its name in the schema",
        ),
        (
            r#"{"command": "npx -y x"}"#,
            "mcp.json:2:19: warning: the whole of this `command`, spaces included, is taken as the name of one program (at \
             mcpServers.s.command)\n    help: put what follows the program into `args`",
        ),
        (
            r#"{"command": "x", "args": [1.10, true]}"#,
            "mcp.json:2:33: warning: expected a string, found a number: its text is used (at mcpServers.s.args[0])\n    help: \
             write it in quotes\nmcp.json:2:39: warning: expected a string, found a truth value: its text is used (at \
             mcpServers.s.args[1])\n    help: write it in quotes",
        ),
        (
            r#"{"command": "x", "args": ["${x%%.*}"]}"#,
            "mcp.json:2:33: warning: a `${` here does not begin a reference and is taken as it is (at \
             mcpServers.s.args[0])\n    help: write `${NAME}` for a variable, or `$${` if it is meant so",
        ),
        (
            r#"{"command": "x", "headers": {"a": "b"}}"#,
            "mcp.json:2:35: warning: `headers` has no effect on a program (at mcpServers.s.headers)",
        ),
        (
            r#"{"url": "http://h", "args": ["a"], "env": {}, "cwd": "/"}"#,
            "mcp.json:2:35: warning: `args` has no effect on a server with `url` (at mcpServers.s.args)\nmcp.json:2:60: \
             warning: `cwd` has no effect on a server with `url` (at mcpServers.s.cwd)",
        ),
        (
            r#"{"url": "http://h", "headers": {"Content-Type": "x"}}"#,
            "mcp.json:2:39: warning: the header `Content-Type` is set by the protocol itself; this one is left out (at \
             mcpServers.s.headers.Content-Type)",
        ),
        (
            r#"{"command": "x", "scope": "user"}"#,
            "mcp.json:2:33: warning: only the scope `shared` is supported yet: all clients share one connection (at \
             mcpServers.s.scope)\n    help: do not rely on separate connections",
        ),
        (
            r#"{"command": "x", "auth": "oauth", "tools": {"rename": {}}}"#,
            "mcp.json:2:32: warning: logging in to servers is not supported yet: `auth` has no effect (at \
             mcpServers.s.auth)\nmcp.json:2:61: warning: renaming tools is not supported yet: `rename` has no effect (at \
             mcpServers.s.tools.rename)",
        ),
        (
            r#"{"command": "x", "envFile": ".env"}"#,
            "mcp.json:2:35: warning: `envFile` is not supported and has no effect (at mcpServers.s.envFile)\n    help: write \
             the variables into `env`",
        ),
        (
            r#"{"command": "x", "restart": true}"#,
            "mcp.json:2:35: warning: expected an object, found a truth value: servers are always restarted (at \
             mcpServers.s.restart)\n    help: set `\"restart\": { \"budget\": 0 }` to park a server after its first failure",
        ),
        (
            r#"{"command": "x", "timeouts": {"callIdleMs": 9, "callTotalMs": 8}}"#,
            "mcp.json:2:2: warning: `callIdleMs` (9) is longer than `callTotalMs` (8) and never fires (at \
             mcpServers.s.timeouts)",
        ),
        (
            r#"{"command": "x", "restart": {"backoffBaseMs": 9, "backoffCapMs": 8}}"#,
            "mcp.json:2:2: warning: `backoffBaseMs` (9) is longer than `backoffCapMs` (8), which wins (at \
             mcpServers.s.restart)",
        ),
    ] {
        assert_eq!(about(entry), message, "{entry}");
        let loaded = read(&format!("{{\"mcpServers\":\n{{\"s\": {entry}}}}}"));
        assert!(
            !loaded.config.server("s").unwrap().is_broken() && !loaded.has_errors(),
            "{entry}"
        );
    }
}

#[test]
fn numbers_in_place_of_text_keep_their_digits() {
    let loaded = read(
        r#"{"mcpServers": {"s": {"command": "x", "args": [1.10], "env": {"PORT": 8080, "ON": true}}}}"#,
    );
    let built = ServerConfig::stdio("s", "x")
        .args(["1.10"])
        .env("PORT", "8080")
        .env("ON", "true");
    assert_eq!(*loaded.config.server("s").unwrap(), built);
}

#[test]
fn names_of_servers_are_checked() {
    let long = "n".repeat(65);
    let shown = "n".repeat(65);
    for (name, message) in [
        ("", "a server's name must not be empty (at mcpServers.\"\")\n    help: give it another name".to_owned()),
        (
            "a/b",
            "a server's name must not contain `/` or control characters (at mcpServers.\"a/b\")\n    help: give it another name"
                .to_owned(),
        ),
        (
            "..",
            "a server's name must not be `.` or `..`, which have a meaning in addresses (at mcpServers.\"..\")\n    help: give \
             it another name"
                .to_owned(),
        ),
        (
            &long,
            format!("a server's name has at most 64 characters (at mcpServers.{shown})\n    help: give it another name"),
        ),
    ] {
        let loaded = read(&format!("{{\"mcpServers\": {{\"{name}\": {{\"command\": \"x\"}}}}}}"));
        assert_eq!(rendered(&loaded), format!("mcp.json:1:17: error: {message}"));
        assert!(loaded.config.server(name).unwrap().is_broken());
    }
    let loaded =
        read(r#"{"mcpServers": {"a__b": {"command": "x"}, "Ünï cödé 🙂": {"command": "x"}}}"#);
    assert_eq!(
        rendered(&loaded),
        "mcp.json:1:17: warning: a `__` in a server's name makes the names of its tools ambiguous, as in `server__tool` (at \
         mcpServers.a__b)\n    help: give it another name"
    );
    assert!(!loaded.has_errors());
}

#[test]
fn a_name_that_occurs_twice_breaks_that_server_only() {
    let loaded = read(
        "{\"mcpServers\": {\n\"a\": {\"command\": \"x\"},\n\"b\": {\"command\": \"x\"},\n\"a\": {\"command\": \"y\"}}}",
    );
    assert_eq!(
        rendered(&loaded),
        "mcp.json:4:1: error: `a` occurs twice: here and on line 2 (at mcpServers.a)\n    help: keep one of the two"
    );
    assert!(loaded.config.server("a").unwrap().is_broken());
    assert!(!loaded.config.server("b").unwrap().is_broken());
    assert_eq!(loaded.config.servers.len(), 2);

    let both = read(
        "{\"mcpServers\": {\"a\": {\"command\": \"x\"}},\n\"servers\": {\"a\": {\"command\": \"y\"}}}",
    );
    assert!(
        both.config.server("a").unwrap().is_broken(),
        "{}",
        rendered(&both)
    );
}

#[test]
fn law_28_one_bad_entry_leaves_the_others_as_they_are() {
    let good = r#""good": {"command": "x", "args": ["${HOME}"]}"#;
    let alone = read(&format!("{{\"mcpServers\": {{{good}}}}}"));
    let among = read(&format!(
        "{{\"mcpServers\": {{\"bad\": {{\"comand\": 1}}, {good}, \"worse\": 7}}}}"
    ));
    assert_eq!(among.config.server("good"), alone.config.server("good"));
    let prints = |loaded: &Loaded| loaded.config.server("good").unwrap().fingerprints();
    assert_eq!(prints(&among), prints(&alone));
    assert!(
        among.config.server("bad").unwrap().is_broken()
            && among.config.server("worse").unwrap().is_broken()
    );
}

#[test]
fn law_28_moving_lines_and_reordering_keys_changes_no_fingerprint() {
    let prints = |text: &str| read(text).config.server("s").unwrap().fingerprints();
    let one = prints(
        r#"{"mcpServers": {"s": {"command": "x", "args": ["a"], "env": {"A": "1", "B": "2"}, "required": true}}}"#,
    );
    let other = prints(
        "// moved\n\n{\"mcpServers\": {\"s\": {\"required\": true, \"env\": {\"B\": \"2\", \"A\": \"1\"},\n\"args\": [\"a\"], \
         \"command\": \"x\"}}}",
    );
    assert_eq!(one, other);
}

#[test]
fn law_28_a_fingerprint_tells_what_a_change_touches() {
    let base = ServerConfig::stdio("s", "x")
        .args(["a", "b"])
        .env("A", "1")
        .cwd("/");
    let prints = base.fingerprints();
    let with = |change: &dyn Fn(&mut ServerConfig)| {
        let mut server = base.clone();
        change(&mut server);
        server.fingerprints()
    };
    // What a running process depends on: it has to be replaced.
    for (what, changed) in [
        (
            "command",
            ServerConfig::stdio("s", "y")
                .args(["a", "b"])
                .env("A", "1")
                .cwd("/")
                .fingerprints(),
        ),
        (
            "args",
            ServerConfig::stdio("s", "x")
                .args(["ab"])
                .env("A", "1")
                .cwd("/")
                .fingerprints(),
        ),
        (
            "args joined",
            ServerConfig::stdio("s", "x")
                .args(["a b"])
                .env("A", "1")
                .cwd("/")
                .fingerprints(),
        ),
        ("env", base.clone().env("A", "2").fingerprints()),
        ("env added", base.clone().env("B", "").fingerprints()),
        ("cwd", base.clone().cwd("/tmp").fingerprints()),
        (
            "protocol",
            with(&|server| server.protocol = Protocol::Legacy),
        ),
        (
            "envPolicy",
            with(&|server| server.env_policy = EnvPolicy::Inherit),
        ),
    ] {
        assert_ne!(changed.connection, prints.connection, "{what}");
        assert_eq!(changed.settings, prints.settings, "{what}");
    }
    // Everything else can be changed while it runs.
    for (what, changed) in [
        ("label", with(&|server| server.label = Some("L".to_owned()))),
        ("enabled", with(&|server| server.enabled = false)),
        ("required", with(&|server| server.required = true)),
        ("startup", with(&|server| server.startup = Startup::Lazy)),
        (
            "tools",
            with(&|server| server.tools.exclude.push(Glob::new("x"))),
        ),
        ("timeouts", with(&|server| server.timeouts.probe_ms += 1)),
        ("restart", with(&|server| server.restart.budget += 1)),
        (
            "keepalive",
            with(&|server| server.keepalive = Some(Keepalive::default())),
        ),
        ("trust", with(&|server| server.trust_annotations = true)),
        ("concurrency", with(&|server| server.concurrency = 1)),
        ("stop", with(&|server| server.stop.kill_ms += 1)),
        ("drain", with(&|server| server.drain_ms += 1)),
        ("idle", with(&|server| server.idle_shutdown_ms = Some(1))),
    ] {
        assert_eq!(changed.connection, prints.connection, "{what}");
        assert_ne!(changed.settings, prints.settings, "{what}");
    }
    let http = ServerConfig::http("s", "http://h/").header("A", "1");
    assert_ne!(
        http.fingerprints().connection,
        ServerConfig::http("s", "http://h/")
            .fingerprints()
            .connection
    );
    assert_eq!(
        http.fingerprints(),
        ServerConfig::http("s", "http://h/")
            .header("a", "1")
            .fingerprints()
    );
}

/// What is on disk under this fingerprint must be found by the next version too.
#[test]
fn law_22_the_fingerprint_of_a_connection_does_not_move() {
    let print = ServerConfig::stdio("s", "uvx")
        .args(["mcp-server-time"])
        .env("A", "${B}")
        .fingerprints()
        .connection;
    assert_eq!(print.to_string(), "bac04dc5ff5be86d4b4bcecf369b189f");
}

#[test]
fn an_unset_reference_breaks_its_server_and_names_the_variable_and_its_place() {
    let mut loaded = read(
        "{\"mcpServers\": {\n\"a\": {\"command\": \"x\", \"env\": {\"K\": \"${TOKEN} ${OTHER}\"}},\n\"b\": {\"command\": \"${SHELL}\"},\n\
         \"c\": {\"command\": \"x\", \"args\": [\"${TOKEN}\"], \"disabled\": true}}}",
    );
    assert_eq!(loaded.problems, [], "nothing is looked up while reading");
    loaded.check_references(&|name| (name == "SHELL").then(|| "/bin/sh".to_owned()));
    assert_eq!(
        rendered(&loaded),
        "mcp.json:2:36: error: the environment variable `TOKEN` is not set (at mcpServers.a.env.K)\n    help: set `TOKEN` \
         before starting, or give a default: `${TOKEN:-…}`\n\
         mcp.json:2:36: error: the environment variable `OTHER` is not set (at mcpServers.a.env.K)\n    help: set `OTHER` \
         before starting, or give a default: `${OTHER:-…}`\n\
         mcp.json:4:32: warning: the environment variable `TOKEN` is not set (at mcpServers.c.args[0])\n    help: set `TOKEN` \
         before starting, or give a default: `${TOKEN:-…}`"
    );
    let broken: Vec<bool> = loaded
        .config
        .servers
        .iter()
        .map(ServerConfig::is_broken)
        .collect();
    assert_eq!(broken, [true, false, false]);

    // The moment of use says the same when nobody checked before.
    let unset = Template::new("${TOKEN}").resolve(&|_| None).unwrap_err();
    assert_eq!(
        unset.to_string(),
        "the environment variable `TOKEN` is not set"
    );
    let read_again = read("{\"mcpServers\": {\"a\": {\"command\": \"${TOKEN}\"}}}");
    let unset = read_again.config.server("a").unwrap().templates()[0]
        .resolve(&|_| None)
        .unwrap_err();
    assert_eq!(
        unset.to_string(),
        "the environment variable `TOKEN` is not set (mcpServers.a.command, mcp.json:1:34)"
    );
}

#[test]
fn law_31_nothing_that_is_shown_contains_a_secret() {
    // Secrets in every place where people put them, in good entries and in ones that are broken in every way.
    let loaded = read(
        r#"{"mcpServers": {
            "a": {"command": "x", "args": ["--key", "sk-1", 7], "env": {"K": "sk-2 ${K:-sk-3}"}},
            "b": {"url": "https://sk-4:sk-5@h/?key=sk-6", "headers": {"Authorization": "Bearer sk-7"}},
            "c": {"command": "x", "args": "sk-8", "env": ["sk-9"], "headers": {"x": "sk-10"}},
            "d": {"url": "sk-11", "headers": {"A": "sk-12\n", "B": ["sk-13"], "C": "sk-14 ${secret:N}"}},
            "e": {"command": "x", "env": {"A": "sk-15", "A": "sk-16"}, "auth": {"token": "sk-17"}, "args": ["${sk-18"]},
            "f": {"command": ["x", "sk-19"], "oauth": {"clientSecret": "sk-20"}}
        }}"#,
    );
    let mut checked = loaded.clone();
    checked.check_references(&|_| None);
    let refused = Config::parse("{\"a\": \"sk-21\", \"b\": sk-22}", Path::new("m")).unwrap_err();
    for shown in [
        rendered(&loaded),
        rendered(&checked),
        format!("{loaded:?} {checked:?}"),
        format!("{loaded:#?}"),
        refused.to_string(),
        format!("{refused:?}"),
    ] {
        assert!(!shown.contains("sk-"), "{shown}");
        assert!(!shown.is_empty());
    }
    let target = |name: &str| loaded.config.server(name).unwrap().target();
    assert_eq!(target("a"), "x");
    assert_eq!(target("b"), "https://h/");
    assert_eq!(
        ServerConfig::http("x", "http://${HOST}/mcp?key=sk-1").target(),
        "…${HOST}…"
    );
}

#[test]
fn servers_built_in_code_make_a_config() {
    let config = Config::from_servers([
        ServerConfig::http("b", "http://h"),
        ServerConfig::stdio("a", "x"),
        ServerConfig::stdio("b", "y"),
    ]);
    let names: Vec<(&str, bool)> = config
        .servers
        .iter()
        .map(|server| (server.name.as_str(), server.keepalive.is_some()))
        .collect();
    assert_eq!(
        names,
        [("a", false), ("b", false)],
        "sorted, and the later of two wins"
    );
    assert_eq!(config.source, None);
    assert_eq!(config.gateway, GatewayConfig::default());
    let problem = Problem {
        severity: Severity::Error,
        server: Some("a".into()),
        origin: None,
        message: "no".to_owned(),
        remedy: String::new(),
    };
    assert_eq!(problem.to_string(), "error: no (server `a`)");
}

#[test]
fn the_example_has_no_problems() {
    let mut loaded = read(EXAMPLE);
    loaded.check_references(&|name| (name == "HOME").then(|| "/home/ada".to_owned()));
    assert_eq!(loaded.problems, []);
    assert_eq!(loaded.config.servers.len(), 3);
}

#[test]
fn problems_and_servers_are_limited() {
    let many: String = (0..3_000)
        .map(|number| format!("\"k{number}\": 1,"))
        .collect();
    let loaded = read(&format!(
        "{{\"mcpServers\": {{\"s\": {{{many}}}, \"t\": 1}}}}"
    ));
    assert!(loaded.problems.len() <= 1_010, "{}", loaded.problems.len());
    assert!(
        !loaded.config.server("t").unwrap().problems().is_empty(),
        "a broken server always says why"
    );
    assert!(rendered(&loaded).contains("more problems are not shown"));

    let servers: String = (0..1_001)
        .map(|number| format!("\"s{number}\": {{\"command\": \"x\"}},"))
        .collect();
    assert_eq!(
        refusal(&format!("{{\"mcpServers\": {{{servers}}}}}")),
        "mcp.json:1:1: error: there are 1001 servers, more than the 1000 that are read\n    help: split them over several \
         files and several Mainstays"
    );
}

/// JSON-like junk that gets past the parser often enough to reach the code behind it.
fn junk() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "\"mcpServers\"",
        "\"servers\"",
        "\"mainstay\"",
        "\"command\"",
        "\"args\"",
        "\"env\"",
        "\"url\"",
        "\"type\"",
        "\"headers\"",
        "\"defaults\"",
        "\"timeouts\"",
        "\"tools\"",
        "\"keepalive\"",
        "\"a\"",
        "\"\"",
        "\"sse\"",
        "\"${A}\"",
        "\"${\"",
        "\"é\\u0000\"",
        "\"http://h\"",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "1",
        "-1.5e9",
        "true",
        "null",
        "//x\n",
        "/*",
        "*/",
        "\n",
        "'",
        "\"",
        "\\",
        "99999999999999999999",
    ]);
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

/// A JSON value with plenty of known keys in it.
fn tree() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i32>().prop_map(Into::into),
        "[a-z${}:/\\-]{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let key = prop::sample::select(vec![
            "mcpServers",
            "servers",
            "mainstay",
            "defaults",
            "command",
            "args",
            "env",
            "cwd",
            "url",
            "headers",
            "type",
            "timeouts",
            "restart",
            "keepalive",
            "tools",
            "include",
            "retry",
            "stop",
            "limits",
            "listen",
            "disabled",
            "x",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((key, inner), 0..8).prop_map(|members| members
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

/// What must hold for any bytes at all.
fn holds_for(bytes: &[u8]) {
    match read::read(bytes, Path::new("mcp.json")) {
        Ok(mut loaded) => {
            loaded.check_references(&|_| None);
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
            for problem in &loaded.problems {
                let origin = problem.origin.as_ref().expect("a place");
                assert!(
                    (1..=lines).contains(&origin.line) && origin.column >= 1,
                    "{problem}"
                );
                assert!(
                    problem.severity != Severity::Error || problem.server.is_some(),
                    "{problem}"
                );
            }
            for server in &loaded.config.servers {
                let errors = |problem: &Problem| problem.severity == Severity::Error;
                assert_eq!(server.is_broken(), server.problems().iter().any(errors));
                let _ = (server.fingerprints(), server.target());
            }
            assert_eq!(
                loaded.has_errors(),
                loaded.config.servers.iter().any(ServerConfig::is_broken)
            );
        }
        Err(error) => {
            assert!(
                error
                    .problems()
                    .iter()
                    .any(|problem| problem.severity == Severity::Error),
                "{error}"
            );
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        holds_for(&bytes);
    }

    #[test]
    fn any_junk_is_survived(text in junk()) {
        holds_for(text.as_bytes());
    }

    #[test]
    fn any_entry_is_survived(entry in tree(), gateway in tree()) {
        holds_for(format!("{{\"mcpServers\": {{\"s\": {entry}, \"t\": {{\"command\": \"x\"}}}}}}").as_bytes());
        holds_for(format!("{{\"mcpServers\": {entry}, \"mainstay\": {gateway}}}").as_bytes());
    }
}
