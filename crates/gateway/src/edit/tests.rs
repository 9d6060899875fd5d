//! Edits of each syntax: what stays, what is refused.

use serde_json::json;

use super::*;

fn node(value: serde_json::Value) -> Node {
    Node::from(&value)
}

/// What an app's entry for Mainstay looks like, in this order.
fn entry() -> Node {
    Node::Map(vec![
        ("command".into(), "mainstay".into()),
        ("args".into(), Node::List(vec!["stdio".into()])),
    ])
}

#[track_caller]
fn edited(text: &str, changes: &[Change]) -> String {
    edit(Syntax::Jsonc, text, changes).unwrap()
}

const CURSOR: &str = r#"// Cursor's own file
{
    // the team's servers
    "mcpServers": {
        "time": { "command": "uvx", "args": ["mcp-server-time"] }, // local
        /* kept for later
        "old": { "command": "x" } */
        "files": {
            "command": "npx",
            "args": ["-y", "@modelcontextprotocol/server-filesystem", "/tmp"],
        },
    },
    "other": 1.50e3
}
"#;

#[test]
fn an_entry_is_added_at_the_end_of_its_map_and_nothing_else_changes() {
    let after = edited(CURSOR, &[Change::set(["mcpServers", "mainstay"], entry())]);
    let expected = CURSOR.replace(
        "        },\n    },\n",
        "        },\n        \"mainstay\": {\n            \"command\": \"mainstay\",\n            \"args\": [\"stdio\"],\n        },\n    },\n",
    );
    assert_eq!(after, expected);
}

#[test]
fn adding_and_removing_is_as_if_nothing_had_been() {
    for text in [
        CURSOR,
        "{}",
        "{\n  \"mcpServers\": {}\n}\n",
        "{\"mcpServers\":{\"a\":{\"url\":\"http://x/\"}}}",
        "{\r\n\t\"mcpServers\": {\r\n\t\t\"a\": {}\r\n\t}\r\n}\r\n",
        "{ \"mcpServers\": { \"a\": {} // why\n} }",
    ] {
        let added = edited(text, &[Change::set(["mcpServers", "mainstay"], entry())]);
        assert!(added.contains("stdio"), "{added}");
        let removed = edited(&added, &[Change::remove(["mcpServers", "mainstay"])]);
        let mut tree = read(Syntax::Jsonc, text).unwrap();
        if text == "{}" {
            tree = node(json!({"mcpServers": {}}));
        }
        assert_eq!(read(Syntax::Jsonc, &removed).unwrap(), tree, "{removed}");
        for comment in [
            "// Cursor's own file",
            "// the team's servers",
            "// local",
            "/* kept",
            "// why",
        ] {
            assert_eq!(
                text.contains(comment),
                removed.contains(comment),
                "{removed}"
            );
        }
        let lone = |text: &str| text.replace("\r\n", "").contains('\n');
        assert_eq!(text.contains('\r'), removed.contains('\r'));
        assert!(!text.contains('\r') || !lone(&added), "{added:?}");
    }
    let again = edited(
        CURSOR,
        &[
            Change::set(["mcpServers", "mainstay"], entry()),
            Change::remove(["mcpServers", "mainstay"]),
        ],
    );
    assert_eq!(again, CURSOR);
}

#[test]
fn the_files_own_indentation_is_used() {
    let after = edited(
        "{\r\n\t\"mcpServers\": {\r\n\t\t\"a\": {}\r\n\t}\r\n}\r\n",
        &[Change::set(["mcpServers", "mainstay"], entry())],
    );
    let expected = "{\r\n\t\"mcpServers\": {\r\n\t\t\"a\": {},\r\n\t\t\"mainstay\": {\r\n\t\t\t\"command\": \"mainstay\",\r\n\t\t\t\"args\": [\"stdio\"]\r\n\t\t}\r\n\t}\r\n}\r\n";
    assert_eq!(after, expected);
}

#[test]
fn an_entry_that_exists_keeps_its_place() {
    let after = edited(CURSOR, &[Change::set(["mcpServers", "time"], entry())]);
    let time = after.find("\"time\"").unwrap();
    assert!(time < after.find("\"files\"").unwrap(), "{after}");
    assert!(after.contains("// local"), "{after}");
    // The same again: the same text.
    assert_eq!(
        edited(&after, &[Change::set(["mcpServers", "time"], entry())]),
        after
    );
}

#[test]
fn an_entry_is_taken_out_with_its_comma() {
    let after = edited(CURSOR, &[Change::remove(["mcpServers", "files"])]);
    assert!(!after.contains("filesystem"), "{after}");
    assert!(after.contains("/* kept for later"), "{after}");
    let after = edited(&after, &[Change::remove(["mcpServers", "time"])]);
    assert_eq!(
        read(Syntax::Jsonc, &after).unwrap(),
        Node::Map(vec![
            ("mcpServers".into(), Node::empty()),
            ("other".into(), Node::Literal("1.50e3".into())),
        ])
    );
    assert_eq!(
        edited(CURSOR, &[Change::remove(["mcpServers", "nobody"])]),
        CURSOR
    );
    assert_eq!(
        edited(CURSOR, &[Change::remove(["nothing", "nobody"])]),
        CURSOR
    );
}

#[test]
fn an_empty_file_becomes_one_with_the_entry() {
    for text in ["", "\n", "// mine\n", "null"] {
        let after = edited(text, &[Change::set(["mcpServers", "mainstay"], entry())]);
        let tree = read(Syntax::Jsonc, &after).unwrap();
        assert!(
            tree.at(&["mcpServers".into(), "mainstay".into()]).is_some(),
            "{after}"
        );
        assert_eq!(
            text.contains("// mine"),
            after.contains("// mine"),
            "{after}"
        );
    }
    let marked = "\u{feff}{}";
    let after = edited(marked, &[Change::set(["a"], Node::Null)]);
    assert!(after.starts_with("\u{feff}{"), "{after:?}");
}

#[test]
fn what_cannot_be_edited_is_refused_with_its_place() {
    let refused = |text: &str| {
        edit(
            Syntax::Jsonc,
            text,
            &[Change::set(["mcpServers", "mainstay"], entry())],
        )
        .unwrap_err()
    };
    let error = refused("{\n  \"mcpServers\": oops\n}");
    assert!(error.to_string().contains("line 2, column 17"), "{error}");
    assert_eq!(refused("[]"), EditError::NotAMap(vec![]));
    assert_eq!(
        refused("{\"mcpServers\": []}"),
        EditError::NotAMap(vec!["mcpServers".into()])
    );
    assert_eq!(
        refused("{\"mcpServers\": {}, \"mcpServers\": {}}"),
        EditError::Twice(vec!["mcpServers".into()])
    );
    for error in [refused("{"), refused("[]"), refused("{\"a\":1,}x")] {
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn names_and_texts_of_any_kind_arrive_as_they_are() {
    let odd = "a \"b\" \\ \n \t é 𝄞 \u{1}";
    let path = ["mcpServers", odd];
    let after = edited("{}", &[Change::set(path, odd.into())]);
    let tree = read(Syntax::Jsonc, &after).unwrap();
    assert_eq!(
        tree.at(&["mcpServers".into(), odd.into()]),
        Some(&odd.into())
    );
}

#[track_caller]
fn after(syntax: Syntax, text: &str, changes: &[Change]) -> String {
    edit(syntax, text, changes).unwrap_or_else(|error| panic!("{error}: {text}"))
}

const CODEX: &str = r#"# my Codex
model = "gpt-5" # fast

[mcp_servers.time]
command = "uvx"
args = ["mcp-server-time"]

# the company's
[mcp_servers.github]
url = 'https://example.org/mcp'
timeout = 1_000

[mcp_servers.github.env]
A = "b"

[profiles.x]
y = 1.0
"#;

#[test]
fn toml_gets_a_table_of_its_own_and_nothing_else_changes() {
    let path = ["mcp_servers", "mainstay"];
    let set = || Change::set(path, entry());
    let added = after(Syntax::Toml, CODEX, &[set()]);
    let table = "\n[mcp_servers.mainstay]\ncommand = \"mainstay\"\nargs = [\"stdio\"]\n";
    assert!(added.contains(table), "{added}");
    assert_eq!(added.replacen(table, "", 1), CODEX);
    assert_eq!(after(Syntax::Toml, &added, &[Change::remove(path)]), CODEX);
    let crlf = CODEX.replace('\n', "\r\n");
    let added = after(Syntax::Toml, &crlf, &[set()]);
    assert_eq!(added.replace("\r\n", "").find('\n'), None, "{added:?}");
    assert_eq!(after(Syntax::Toml, &added, &[Change::remove(path)]), crlf);
    let fresh = after(Syntax::Toml, "", &[set()]);
    assert_eq!(fresh, table.trim_start());
}

#[test]
fn toml_keeps_comments_of_what_is_taken_out_and_the_place_of_what_is_replaced() {
    let gone = after(
        Syntax::Toml,
        CODEX,
        &[Change::remove(["mcp_servers", "github"])],
    );
    assert!(
        gone.contains("# the company's") && !gone.contains("example.org"),
        "{gone}"
    );
    assert!(!gone.contains("A = "), "{gone}");
    let replaced = after(
        Syntax::Toml,
        CODEX,
        &[Change::set(["mcp_servers", "time"], entry())],
    );
    let at = |word: &str| replaced.find(word).unwrap();
    assert!(
        at("[mcp_servers.time]") < at("[mcp_servers.github]"),
        "{replaced}"
    );
    let inline = "mcp_servers = { time = { command = \"uvx\" } }\n";
    let added = after(
        Syntax::Toml,
        inline,
        &[Change::set(["mcp_servers", "mainstay"], entry())],
    );
    assert_eq!(
        added,
        "mcp_servers = { time = { command = \"uvx\" }, mainstay = { command = \"mainstay\", args = [\"stdio\"] } }\n"
    );
    let error = edit(Syntax::Toml, "a = ", &[]).unwrap_err();
    assert!(error.to_string().contains("line 1, column"), "{error}");
    let error = edit(
        Syntax::Toml,
        "mcp_servers = 1",
        &[Change::set(["mcp_servers", "a"], entry())],
    );
    assert_eq!(error, Err(EditError::NotAMap(vec!["mcp_servers".into()])));
    let error = edit(
        Syntax::Toml,
        "",
        &[Change::set(["a"], Node::List(vec![Node::Null]))],
    );
    assert!(matches!(error, Err(EditError::Unsafe { .. })), "{error:?}");
}

const HERMES: &str = r#"# hermes
model: "x"   # the good one
mcp_servers:   # mine
  time:
    command: uvx
    args: ["mcp-server-time"]
    env:
      TZ: 'Europe/Berlin'

  # the company's
  github:
    url: https://example.org/mcp
    note: |
      two
      lines

display:
  skin: default
"#;

#[test]
fn yaml_gets_lines_of_its_own_and_nothing_else_changes() {
    let path = ["mcp_servers", "mainstay"];
    let set = || Change::set(path, entry());
    let lines = "  mainstay:\n    command: mainstay\n    args: [\"stdio\"]\n";
    for text in [
        HERMES.to_owned(),
        HERMES.replace('\n', "\r\n"),
        HERMES.replace("\n\ndisplay:\n  skin: default\n", ""),
    ] {
        let added = after(Syntax::Yaml, &text, &[set()]);
        assert!(added.replace("\r\n", "\n").contains(lines), "{added}");
        let gone = after(Syntax::Yaml, &added, &[Change::remove(path)]);
        assert_eq!(gone.trim_end(), text.trim_end());
        assert_eq!(gone.contains('\r'), text.contains('\r'));
    }
    let gone = after(
        Syntax::Yaml,
        HERMES,
        &[Change::remove(["mcp_servers", "time"])],
    );
    assert!(gone.contains("# mine\n\n  # the company's\n"), "{gone}");
    let none = after(
        Syntax::Yaml,
        &gone,
        &[Change::remove(["mcp_servers", "github"])],
    );
    assert!(none.contains("mcp_servers: {}   # mine\n"), "{none}");
    let again = after(Syntax::Yaml, &none, &[set()]);
    assert!(
        again.contains(&format!("mcp_servers:   # mine\n{lines}")),
        "{again}"
    );
}

#[test]
fn yaml_of_every_shape_is_edited_or_refused() {
    let set = || Change::set(["extensions", "mainstay"], entry());
    let remove = || Change::remove(["extensions", "mainstay"]);
    for text in [
        "",
        "# nothing yet\n",
        "---\n",
        "extensions:\n",
        "extensions: {}\n",
        "extensions: null # none\nx: 1\n",
        "extensions: {a: {b: 1}}\n",
        "extensions:\n    a:\n        b: [1, 2]\n",
        "other: 1",
        "extensions:\n  a: &x {b: 1}\n  c: *x\n",
        "extensions:\n  a:\n    - one\n    - two: 2\n      three: 3\n# the end",
        "{}",
    ] {
        let before = read(Syntax::Yaml, text).unwrap();
        let added = after(Syntax::Yaml, text, &[set()]);
        let at = ["extensions".into(), "mainstay".into()];
        let tree = read(Syntax::Yaml, &added).unwrap();
        assert_eq!(tree.at(&at), Some(&entry()), "{added}");
        let gone = after(Syntax::Yaml, &added, &[remove()]);
        let left = read(Syntax::Yaml, &gone).unwrap();
        for (name, value) in before
            .entries()
            .iter()
            .filter(|(name, _)| name != "extensions")
        {
            assert_eq!(left.get(name), Some(value), "{gone}");
        }
        for comment in ["# nothing yet", "# none", "# the end"] {
            assert_eq!(text.contains(comment), gone.contains(comment), "{gone}");
        }
    }
    for text in [
        "a: 1\n---\nb: 2\n",
        "extensions: [1]\n",
        "extensions: text\n",
        "extensions: !odd {a: 1}\n",
        "a: [1\n",
        "extensions:\n  a: 1\nextensions:\n  b: 1\n",
    ] {
        let error = edit(Syntax::Yaml, text, &[set()]).unwrap_err();
        assert!(!error.hint().is_empty(), "{error}");
    }
    // What an alias needs is not taken away.
    let needed = "a: &x {b: 1}\nc: *x\n";
    let error = edit(Syntax::Yaml, needed, &[Change::remove(["a"])]).unwrap_err();
    assert!(matches!(error, EditError::Unsafe { .. }), "{error}");
    // Words that readers of YAML take for something else are quoted.
    let odd = Node::Map(
        ["yes", "1.5", "null", "-y", "a: b", "", "#x", "é\n"]
            .iter()
            .map(|text| (format!("k{text}"), (*text).into()))
            .collect(),
    );
    let tree = read(
        Syntax::Yaml,
        &after(Syntax::Yaml, "", &[Change::set(["m"], odd.clone())]),
    )
    .unwrap();
    assert_eq!(tree.get("m"), Some(&odd));
}
