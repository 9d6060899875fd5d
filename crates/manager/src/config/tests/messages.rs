//! Every message that a bad file can cause, written out.

use std::path::Path;

use super::{read, refusal, rendered};
use crate::config::{Config, ConfigError, ServerConfig, Template, read as reading};

/// The problems of a config whose only server is `entry`.
fn about(entry: &str) -> String {
    rendered(&read(&format!("{{\"mcpServers\":\n{{\"s\": {entry}}}}}")))
}

/// Files that are refused as a whole.
const NO_CONFIG: &[(&str, &str)] = &[
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
];

#[test]
fn a_file_that_is_no_config_is_refused_with_its_place() {
    for &(text, message) in NO_CONFIG {
        assert_eq!(refusal(text), message, "{text}");
    }
}

/// Values of `mainstay` that refuse the file.
const BAD_GATEWAY: &[(&str, &str)] = &[
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
];

#[test]
fn what_is_wrong_with_the_gateway_refuses_the_file() {
    for &(text, message) in BAD_GATEWAY {
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
    let error = reading::read(b"{\n \"a\": \"\xff\"}", path).unwrap_err();
    assert_eq!(
        error.to_string(),
        "mcp.json:2:8: error: this is not UTF-8 text\n    help: save the file with the encoding UTF-8"
    );
    let error = reading::read(&vec![b' '; reading::FILE_BYTES_MAX + 1], path).unwrap_err();
    assert_eq!(
        error.to_string(),
        "mcp.json:1:1: error: the file has 4194305 bytes, more than the 4194304 that are read\n    help: check that this is \
         a config file"
    );
    let with_mark = reading::read("\u{feff}{\"mcpServers\": {}}".as_bytes(), path).unwrap();
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

/// Entries that break one server.
const BAD_SERVER: &[(&str, &str)] = &[
    (
        r#"{"url": "http://h", "auth": "sk-abc"}"#,
        "mcp.json:2:35: error: `auth` is neither `auto`, `none` nor an object (at mcpServers.s.auth)\n    help: for a token that you \
             have, write `\"headers\": {\"Authorization\": \"Bearer ${NAME}\"}`",
    ),
    (
        r#"{"url": "http://h", "auth": {"grant": "clientCredentials", "clientId": "c"}}"#,
        "mcp.json:2:35: error: the grant `clientCredentials` needs a `clientId` and a `clientSecret` or `privateKey` (at \
             mcpServers.s.auth)\n    help: add them, or leave `grant` out to sign in with a browser",
    ),
    (
        r#"{"url": "http://h", "auth": {"clientSecret": "s"}}"#,
        "mcp.json:2:35: error: there is a secret or key, and no `clientId` that it belongs to (at mcpServers.s.auth)\n    help: add \
             the `clientId` of the registered client",
    ),
    (
        r#"{"url": "http://h", "auth": {"scopes": ["a b"], "issuer": "as.example"}}"#,
        "mcp.json:2:46: error: a scope is one word of printable ASCII, without spaces and quotes (at mcpServers.s.auth.scopes)\n    \
             help: write each scope as an element of its own: [\"read\", \"write\"]\nmcp.json:2:65: error: `issuer` is not an address \
             that can be used (at mcpServers.s.auth.issuer)\n    help: write it in full, beginning with https:// (or http:// on this \
             machine), without user and password",
    ),
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
        r#"{"type": "ws", "url": "http://h"}"#,
        "mcp.json:2:2: error: the transport `websocket` is not supported yet (at mcpServers.s)\n    help: use streamable \
             HTTP if the server offers it",
    ),
    (
        r#"{"type": "sse", "command": "x"}"#,
        "mcp.json:2:2: error: `type` says HTTP, but there is a `command` (at mcpServers.s)\n    help: remove `type`, or \
             give a `url` instead",
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
        "mcp.json:2:32: error: `A…` cannot be the name of a variable (at mcpServers.s.env.\"A…\")",
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
        "mcp.json:2:39: error: `A…` cannot be the name of a header (at mcpServers.s.headers.\"A…\")\n    help: use \
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
        r#"{"url": "http://h", "headers": {"X-A": "sk-x ${secret:A B}"}}"#,
        "mcp.json:2:46: error: `${secret:A B}`: no secret can have that name (at mcpServers.s.headers.X-A)\n    help: use \
             letters, digits, `_`, `-`, `.` and `/`, and no more than 128",
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
        r#"{"command": "x", "tools": {"rename": {"a": "c", "b": "c"}}}"#,
        "mcp.json:2:60: error: two tools are renamed to `c`: this one, and `a` on line 2 (at mcpServers.s.tools.rename.b)\n    help: choose another name for one of them",
    ),
    (
        r#"{"command": "x", "tools": {"rename": {"a": "c"}, "describe": {"c": "x"}}}"#,
        "mcp.json:2:50: error: `c` is the name of another tool of the server, by other keys of `tools` (at mcpServers.s.tools.rename.a)\n    help: choose another name, or rename the other tool too",
    ),
    (
        r#"{"command": "x", "tools": {"rename": {"a": "c d", "": "e", "f": 1}}}"#,
        "mcp.json:2:50: error: `c d` is no name for a tool (at mcpServers.s.tools.rename.a)\n    help: write 1 to 128 characters of `A-Z a-z 0-9 _ - .`\nmcp.json:2:61: error: a tool without a name cannot be renamed (at mcpServers.s.tools.rename.\"\")\n    help: write the server's own name of the tool in front of the colon\nmcp.json:2:71: error: expected a string, found a number (at mcpServers.s.tools.rename.f)",
    ),
    (
        r#"{"command": "x", "tools": {"arguments": {"a": [1]}}}"#,
        "mcp.json:2:53: error: expected an object of arguments, such as `{\"limit\": 10}`, found a list (at mcpServers.s.tools.arguments.a)",
    ),
    (
        r#"{"command": "x", "tools": {"arguments": {"a": {"b": 1, "b": 2}}}}"#,
        "mcp.json:2:53: error: `b` occurs twice (at mcpServers.s.tools.arguments.a)\n    help: keep one of the two",
    ),
    (
        r#"{"command": "x", "tools": {"timeouts": {"a": {"callTotalMs": 0}, "b": 5}}}"#,
        "mcp.json:2:68: error: `0` is not a number that fits here (at mcpServers.s.tools.timeouts.a.callTotalMs)\n    help: write a whole number from 1 to 2592000000\nmcp.json:2:77: error: expected an object, found a number (at mcpServers.s.tools.timeouts.b)",
    ),
    (
        r#"{"command": "x", "tools": {"retry": {"a": "readonly", "b": "x"}, "pin": "yes"}}"#,
        "mcp.json:2:49: error: `readonly` does not say when to send a call again (at mcpServers.s.tools.retry.a)\n    help: did you mean `readOnly`?\nmcp.json:2:66: error: `x` does not say when to send a call again (at mcpServers.s.tools.retry.b)\n    help: write one of: never, readOnly, idempotent\nmcp.json:2:79: error: expected `true` or `false`, found a string (at mcpServers.s.tools.pin)",
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
];

#[test]
fn what_is_wrong_with_one_server_is_reported_with_its_place() {
    for &(entry, message) in BAD_SERVER {
        let loaded = read(&format!("{{\"mcpServers\":\n{{\"s\": {entry}}}}}"));
        assert_eq!(rendered(&loaded), message, "{entry}");
        let server = loaded.config.server("s").unwrap();
        assert_eq!(server.problems(), loaded.problems, "{entry}");
        assert!(server.is_broken() && loaded.has_errors(), "{entry}");
    }
}

/// Entries that only cause warnings.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
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
        r#"{"command": "x", "auth": "oauth"}"#,
        "mcp.json:2:32: warning: `auth` has no effect on a server with `command` (at mcpServers.s.auth)\n    help: give it \
             credentials in `env`",
    ),
    (
        r#"{"url": "http://h", "auth": {"grant": "exchange", "clientId": "c"}}"#,
        "mcp.json:2:35: warning: the grant `exchange` without a `subjectToken` exchanges the token of whoever calls, and without \
             `scope: \"user\"` callers share one connection that is nobody's (at mcpServers.s.auth)\n    help: add `scope: \"user\"`, so \
             that everybody has a connection and credentials of their own, or name an `exchange.subjectToken`",
    ),
    (
        r#"{"url": "http://h", "scope": "user", "auth": {"grant": "exchange", "clientId": "c", "exchange": {"subjectToken": "t"}}}"#,
        "mcp.json:2:52: warning: with `scope: \"user\"` callers are not given the identity of `exchange.subjectToken`, which is the \
             same for all (at mcpServers.s.auth)\n    help: take `subjectToken` out, so that the callers' own tokens are exchanged, or \
             take out `scope`",
    ),
    (
        r#"{"command": "x", "tools": {"rename": {"a": "a"}}}"#,
        "mcp.json:2:50: warning: renaming a tool to its own name has no effect (at mcpServers.s.tools.rename.a)\n    help: remove it",
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
];

#[test]
fn what_only_has_no_effect_warns_and_breaks_nothing() {
    for &(entry, message) in WITHOUT_EFFECT {
        assert_eq!(about(entry), message, "{entry}");
        let loaded = read(&format!("{{\"mcpServers\":\n{{\"s\": {entry}}}}}"));
        assert!(
            !loaded.config.server("s").unwrap().is_broken() && !loaded.has_errors(),
            "{entry}"
        );
    }
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
fn f10_an_unset_reference_breaks_its_server_and_names_the_variable_and_its_place() {
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
