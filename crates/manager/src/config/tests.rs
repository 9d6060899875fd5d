//! What files mean, and what is said about bad ones.

mod guards;
mod messages;
mod properties;

use std::{collections::BTreeMap, path::Path};

use mainstay_core::policy::Policy;

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

const EVERY_SETTING: &str = r#"{ "mcpServers": { "s": {
            "command": "x", "enabled": false, "required": true, "startup": "lazy", "idleShutdownMs": 1,
            "protocol": "modern", "scope": "session", "connections": {"max": 46, "perUser": 60, "callsPerUser": 61, "idleMs": 47, "lanes": 48, "keep": [{"sampling": {"tools": [1.10, "x"]}}]}, "tools": {"include": ["a*"], "exclude": ["ab"],
              "rename": {"ac": "c"}, "describe": {"ac": "D"}, "arguments": {"a?": {"n": 1.10, "o": {"p": null}}},
              "timeouts": {"a*": {"callIdleMs": 52}, "ac": {"callTotalMs": 53}}, "retry": {"ac": "readOnly", "*": "never"}, "pin": true},
            "timeouts": {"callIdleMs": 2, "callTotalMs": 3, "connectMs": 4, "spawnMs": 5, "greetMs": 6, "listMs": 7,
                         "probeMs": 8, "edgePatienceMs": 9, "runnerMs": 36, "pushIdleMs": 31},
            "restart": {"budget": 10, "backoffBaseMs": 11, "backoffCapMs": 12, "openIntervalMs": 13, "stableMs": 14,
                        "parkedProbeMs": false, "parkedCallIntervalMs": 15, "retryAfterMinMs": 16, "retryAfterMaxMs": 17,
                        "renewals": 37, "renewalWindowMs": 38},
            "suspicion": {"timeoutMs": 39, "misses": 40},
            "keepalive": {"idleMs": 18, "timeoutMs": 19, "misses": 20},
            "push": "off", "pollMs": false,
            "retry": {"trustAnnotations": true, "replayAfterSessionLoss": "never"}, "concurrency": 21, "envPolicy": "inherit",
            "stop": {"closeMs": 22, "terminateMs": 23, "killMs": 24}, "drainMs": 25, "label": "L",
            "waiting": 31, "resultBytes": 5003, "onToolChange": "refuse",
            "catalog": {"debounceMs": 32, "intervalMs": 33, "recheckMs": 34, "items": 35, "itemBytes": 5004, "bytes": 5005}
          } },
          "mainstay": { "listen": "localhost:1", "stateDir": "state", "socket": "/run/m.sock", "edgePatienceMs": 26, "shutdownMs": 31, "inputMs": 51,
            "startGate": 27, "dashboard": false, "watch": {"pollMs": 52, "debounceMs": 53},
            "journal": {"enabled": false, "bytes": 300000, "files": 52, "arguments": true}, "limits": {"messageBytes": 5000, "eventBytes": 5001, "depth": 28, "pages": 29,
            "stderrBytes": 5002, "sessions": 30, "subscriptions": 31, "noiseLines": 41, "requestsPerSecond": 42, "notices": 43,
            "queuedLines": 44, "events": 45, "parked": 49, "rounds": 50} } }"#;

#[test]
fn the_settings_of_calls_and_catalogs_are_read() {
    let loaded = read(EVERY_SETTING);
    let server = loaded.config.server("s").unwrap();
    assert_eq!(
        (server.waiting, server.result_bytes, server.on_tool_change),
        (31, 5003, OnToolChange::Refuse)
    );
    let further = &server.connections;
    assert_eq!(
        (server.scope, further.max, further.idle_ms, further.lanes),
        (Scope::Session, 46, 47, 48)
    );
    assert_eq!((further.per_user, further.calls_per_user), (60, Some(61)));
    assert_eq!(
        *further.keep,
        [Box::from(r#"{"sampling":{"tools":[1.10,"x"]}}"#)]
    );
    let catalog = &server.catalog;
    assert_eq!(
        (
            catalog.debounce_ms,
            catalog.interval_ms,
            catalog.recheck_ms,
            catalog.items,
            catalog.item_bytes,
            catalog.bytes
        ),
        (32, 33, 34, 35, 5004, 5005)
    );
}

#[test]
fn f106_f133_settings_of_push_polling_and_replay_are_read() {
    let loaded = read(EVERY_SETTING);
    let server = loaded.config.server("s").unwrap();
    assert_eq!(
        (server.push, server.poll_ms, server.timeouts.push_idle_ms),
        (Push::Off, None, 31)
    );
    assert_eq!(server.replay_after_session_loss, Replay::Never);
}

#[test]
fn what_is_said_of_tools_is_read() {
    let loaded = read(EVERY_SETTING);
    let server = loaded.config.server("s").unwrap();
    assert_eq!(server.tools.own_name("c"), Some("ac"));
    assert_eq!(server.tools.describe["ac"], "D");
    let arguments = server.tools.defaults_of("ac");
    assert_eq!(arguments, [("n", "1.10"), ("o", r#"{"p":null}"#)]);
    let limits: Vec<_> = server.tools.timeouts.matching("ac").collect();
    assert_eq!(
        (limits[0].call_total_ms, limits[1].call_idle_ms),
        (Some(53), Some(52))
    );
    let retry = |tool| server.tools.retry.matching(tool).next();
    assert_eq!(
        (retry("ac"), retry("b")),
        (Some(&ToolRetry::ReadOnly), Some(&ToolRetry::Never))
    );
    assert!(server.tools.pin);
}

#[test]
fn every_setting_of_a_server_is_read() {
    let loaded = read(EVERY_SETTING);
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
}

#[test]
fn every_setting_of_processes_and_renewals_is_read() {
    let loaded = read(EVERY_SETTING);
    let server = loaded.config.server("s").unwrap();
    assert_eq!(server.timeouts.runner_ms, 36);
    let r = &server.restart;
    assert_eq!((r.renewals, r.renewal_window_ms), (37, 38));
    assert_eq!(
        (server.suspicion.timeout_ms, server.suspicion.misses),
        (39, 40)
    );
}

#[test]
fn every_setting_of_the_gateway_is_read() {
    let loaded = read(EVERY_SETTING);
    let gateway = &loaded.config.gateway;
    assert_eq!(gateway.listen, "127.0.0.1:1".parse().unwrap());
    assert_eq!(gateway.state_dir.as_deref(), Some(Path::new("state")));
    assert_eq!(gateway.socket.as_deref(), Some(Path::new("/run/m.sock")));
    assert_eq!((gateway.edge_patience_ms, gateway.start_gate), (26, 27));
    assert_eq!(gateway.shutdown_ms, 31);
    let journal = &gateway.journal;
    assert_eq!((journal.enabled, journal.arguments), (false, true));
    assert_eq!((journal.bytes, journal.files), (300_000, 52));
    let l = &gateway.limits;
    assert_eq!(
        [
            l.message_bytes,
            l.event_bytes,
            l.depth,
            l.pages,
            l.stderr_bytes,
            l.sessions,
            l.subscriptions
        ],
        [5000, 5001, 28, 29, 5002, 30, 31]
    );
    assert_eq!(
        [
            l.noise_lines,
            l.requests_per_second,
            l.notices,
            l.queued_lines,
            l.events
        ],
        [41, 42, 43, 44, 45]
    );
    assert_eq!((l.parked, l.rounds, gateway.input_ms), (49, 50, 51));
    assert!(!gateway.dashboard);
    let watch = gateway.watch.unwrap();
    let [poll, debounce] = [52, 53].map(std::time::Duration::from_millis);
    assert_eq!((watch.poll, watch.debounce), (Some(poll), debounce));
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
        [30_000, 60_000, 30_000, 60_000]
    );
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
fn law_28_f216_one_bad_entry_leaves_the_others_as_they_are() {
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
fn law_28_a_changed_connection_is_told_from_changed_settings() {
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
}

#[test]
fn law_28_changed_settings_leave_the_connection_alone() {
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
        (
            "renamed tools",
            with(&|server| drop(server.tools.rename.insert("a".into(), "b".into()))),
        ),
        ("pinned tools", with(&|server| server.tools.pin = true)),
        ("timeouts", with(&|server| server.timeouts.probe_ms += 1)),
        ("restart", with(&|server| server.restart.budget += 1)),
        (
            "keepalive",
            with(&|server| server.keepalive = Some(Keepalive::default())),
        ),
        ("trust", with(&|server| server.trust_annotations = true)),
        ("poll", with(&|server| server.poll_ms = None)),
        (
            "replay",
            with(&|server| server.replay_after_session_loss = Replay::Never),
        ),
        ("concurrency", with(&|server| server.concurrency = 1)),
        ("stop", with(&|server| server.stop.kill_ms += 1)),
        ("waiting", with(&|server| server.waiting = 1)),
        ("result bytes", with(&|server| server.result_bytes = 1)),
        (
            "tool change",
            with(&|server| server.on_tool_change = OnToolChange::Warn),
        ),
        ("catalog", with(&|server| server.catalog.items = 1)),
        ("scope", with(&|server| server.scope = Scope::Session)),
        ("connections", with(&|server| server.connections.max = 1)),
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

#[test]
fn law_28_an_edited_file_becomes_a_plan_that_touches_only_what_changed() {
    let prints = |text: &str| -> BTreeMap<String, mainstay_core::plan::Fingerprints> {
        let servers = read(text).config.servers.into_iter();
        servers
            .map(|server| (server.name.clone(), server.fingerprints().into()))
            .collect()
    };
    let before = prints(
        r#"{"mcpServers": {"kept": {"command": "x"}, "gone": {"command": "x"}, "moved": {"command": "x"},
                           "patched": {"command": "x"}, "broken": {"command": "x"}, "mended": {"command": 1}}}"#,
    );
    let after = prints(
        r#"{ // A comment more, and other places for everything.
            "mcpServers": {"mended": {"command": "x"}, "kept": {"command": "x"}, "moved": {"command": "y"}, "broken": {},
                           "patched": {"command": "x", "label": "P"}, "new": {"url": "http://h"}}}"#,
    );
    let plan = mainstay_core::plan::plan(&before, &after);
    assert_eq!(
        plan.to_string(),
        "- remove  gone\n~ replace broken\n~ replace mended\n~ replace moved\n~ patch   patched\n+ add     new\n1 to add, \
         1 to remove, 3 to replace, 1 to patch, 1 unchanged"
    );
}

#[test]
fn settings_nobody_made_are_the_policies_of_the_core() {
    let policy = |server: ServerConfig| crate::settings::policy(&server);
    assert_eq!(policy(ServerConfig::stdio("s", "x")), Policy::for_process());
    assert_eq!(
        policy(ServerConfig::http("s", "http://h")),
        Policy::for_http()
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
fn law_31_nothing_that_is_shown_contains_a_secret() {
    // Secrets in every place where people put them, in good entries and in ones that are broken in every way.
    let loaded = read(
        r#"{"mcpServers": {
            "a": {"command": "x", "args": ["--key", "sk-1", 7], "env": {"K": "sk-2 ${K:-sk-3}"}},
            "b": {"url": "https://sk-4:sk-5@h/?key=sk-6", "headers": {"Authorization": "Bearer sk-7"}},
            "c": {"command": "x", "args": "sk-8", "env": ["sk-9"], "headers": {"x": "sk-10"}},
            "d": {"url": "sk-11", "headers": {"A": "sk-12\n", "B": ["sk-13"], "C": "sk-14 ${secret:N}"}},
            "e": {"command": "x", "env": {"A": "sk-15", "A": "sk-16"}, "auth": {"token": "sk-17"}, "args": ["${sk-18"]},
            "f": {"command": ["x", "sk-19"], "oauth": {"clientSecret": "sk-20"}},
            "g": {"command": "x", "env": {"K=sk-23": "1", "K=sk-23": "2"}},
            "h": {"url": "http://h", "headers": {"Authorization: Bearer sk-24": ""}}
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
fn f80_the_way_to_a_server_is_read_resolved_and_part_of_its_connection() {
    let text = r#"{
        "mcpServers": {
            "own": {
                "url": "https://far.test/mcp",
                "tls": { "caFile": "ca.pem", "certFile": "me.pem", "keyFile": "me.key" },
                "proxy": "http://me:${PASSWORD}@proxy.test:3128",
                "noProxy": "intern.test",
                "timeouts": { "tcpConnectMs": 7 },
            },
            "usual": { "url": "https://far.test/mcp" },
        },
        "mainstay": { "defaults": { "proxy": "direct", "tls": { "caFile": "/etc/ca.pem" } } },
    }"#;
    let read = Config::parse(text, Path::new("/etc/mainstay/mcp.json")).unwrap();
    assert_eq!(read.problems, []);
    let own = read.config.server("own").unwrap();
    assert_eq!(own.timeouts.tcp_connect_ms, 7);
    assert!(
        own.reach
            .proxy
            .as_ref()
            .unwrap()
            .raw()
            .contains("${PASSWORD}")
    );
    assert!(!format!("{own:?}").contains("//me"), "law 31: {own:?}");
    let variables: Vec<&str> = own
        .templates()
        .into_iter()
        .flat_map(|template| template.variables())
        .collect();
    assert_eq!(variables, ["PASSWORD"], "what is unset can be told");
    let mut without = own.clone();
    without.reach.cert_file = None;
    assert_ne!(
        own.fingerprints().connection,
        without.fingerprints().connection,
        "who we are is part of the connection"
    );
    let usual = read.config.server("usual").unwrap();
    assert_eq!(usual.reach.proxy.as_ref().unwrap().raw(), "direct");
    let bare = ServerConfig::http("usual", "https://far.test/mcp");
    assert_ne!(
        usual.fingerprints().connection,
        bare.fingerprints().connection,
        "another way is another connection"
    );
    let wrong = r#"{ "mcpServers": { "s": { "url": "http://x/", "tls": { "cafile": "x" }, "proxy": 1 } } }"#;
    let wrong = Config::parse(wrong, Path::new("mcp.json")).unwrap();
    let told = format!("{:?}", wrong.problems);
    assert!(told.contains("caFile") && told.contains("proxy"), "{told}");
}
