//! The settings that protect from servers.

use super::*;

#[test]
fn what_protects_from_a_server_is_read() {
    let loaded = read(
        r#"{ "mainstay": { "hiddenText": "strip", "defaults": { "sandbox": { "unixSockets": true, "network": false } } },
             "mcpServers": {
               "a": { "command": "x", "sandbox": { "read": ["~/r"], "write": ["/w"], "network": { "connect": [443], "listen": [8080] },
                 "usual": false, "ownHome": false, "backend": "landlock", "require": false }, "pinProgram": true,
                 "asks": { "sampling": false, "elicitation": { "perMinute": 3, "atOnce": 2 } }, "contentTypes": ["Text/*"] },
               "b": { "command": "x", "hiddenText": "pass", "sandbox": false },
               "c": { "command": "x" },
               "d": { "url": "http://h/", "sandbox": true } } }"#,
    );
    let of = |name: &str| loaded.config.server(name).unwrap();
    let a = of("a");
    let sandbox = a.sandbox.clone().unwrap();
    let raw = |paths: &[Template]| {
        paths
            .iter()
            .map(|path| path.raw().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (raw(&sandbox.read), raw(&sandbox.write)),
        (vec!["~/r".into()], vec!["/w".into()])
    );
    let ports = SandboxNetwork::Ports {
        connect: vec![443],
        listen: vec![8080],
    };
    assert_eq!(sandbox.network, ports);
    assert_eq!(sandbox.backend, SandboxBackend::Landlock);
    assert!(sandbox.unix_sockets, "from the defaults");
    assert!(!sandbox.usual && !sandbox.own_home && !sandbox.require);
    assert!(a.guard.pin_program);
    assert_eq!(a.guard.asks.sampling, AskRule::Refused);
    let limited = AskRule::Limited {
        per_minute: Some(3),
        at_once: Some(2),
    };
    assert_eq!(a.guard.asks.elicitation, limited);
    assert_eq!(a.guard.content_types, Some(vec![Glob::new("text/*")]));
    assert_eq!(a.guard.hidden_text, HiddenText::Strip);
    assert_eq!(
        (of("b").guard.hidden_text, &of("b").sandbox),
        (HiddenText::Pass, &None)
    );
    let c = of("c").sandbox.clone().unwrap();
    assert_eq!((c.network, c.require), (SandboxNetwork::None, true));
    assert_eq!(loaded.problems.len(), 1, "{}", rendered(&loaded));
    assert!(rendered(&loaded).contains("no effect on a server with `url`"));
    let refused = read(
        r#"{ "mcpServers": { "s": { "command": "x", "sandbox": { "network": { "connect": [0] }, "backend": "jail" } } } }"#,
    );
    let refused = rendered(&refused);
    assert!(
        refused.contains("backend") && refused.contains("connect"),
        "{refused}"
    );
}

#[test]
fn a_sandbox_is_part_of_the_connection() {
    let plain = ServerConfig::stdio("s", "x");
    let mut fenced = plain.clone();
    fenced.sandbox = Some(SandboxSettings::default());
    let mut offline = fenced.clone();
    offline.sandbox.as_mut().unwrap().network = SandboxNetwork::None;
    let prints = [plain, fenced, offline].map(|server| server.fingerprints().connection);
    assert!(prints[0] != prints[1] && prints[1] != prints[2]);
}
