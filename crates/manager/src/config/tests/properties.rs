//! Whatever is in a file, reading it ends in a config or in problems with a place.

use std::path::Path;

use proptest::prelude::*;

use crate::config::{Problem, ServerConfig, Severity, read};

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
