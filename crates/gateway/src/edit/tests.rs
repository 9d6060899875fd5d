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
            ("other".into(), Node::Number("1.50e3".into())),
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
