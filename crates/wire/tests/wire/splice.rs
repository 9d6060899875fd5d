//! Editing: the one member changes, every other byte stays.

use bytes::Bytes;
use mainstay_wire::{Id, Limits, Message, SpliceError, raw};
use proptest::prelude::*;

use crate::{checks, generate};

fn parse(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default())
        .unwrap_or_else(|refused| panic!("{refused}: {text}"))
}

fn path() -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![
        Just(vec!["id"]),
        Just(vec!["params", "name"]),
        Just(vec!["params", "_meta"]),
        Just(vec!["params", "_meta", "progressToken"]),
        Just(vec![
            "params",
            "_meta",
            "io.modelcontextprotocol/protocolVersion"
        ]),
        Just(vec!["params", "x0"]),
        Just(vec!["params", "arguments", "x0"]),
        Just(vec!["params", "arguments", "vendor.1", "x0"]),
        Just(vec!["result", "_meta", "a"]),
        Just(vec!["error", "data"]),
        Just(vec!["error", "vendor.0"]),
        Just(vec!["vendor0"]),
        Just(vec!["vendor1", "x1"]),
        Just(vec!["params"]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The outcome is what the same edit of a tree would be, and replacing touches exactly the old value's bytes.
    #[test]
    fn one_edit_changes_one_member(text in generate::message(), path in path(), value in prop::option::of(generate::value())) {
        checks::edited(&parse(&text), &path, value.as_deref());
    }

    /// What a gateway does to a request: id, name, token, stamp. Everything else is the text that came, piece by piece.
    #[test]
    fn several_edits_leave_the_rest_alone(text in generate::message(), token in generate::id()) {
        let message = parse(&text);
        let edited = message
            .edit()
            .id(&Id::number(77))
            .set(&["params", "name"], "\"upstream\"")
            .set(&["params", "_meta", "progressToken"], token.as_str())
            .set(&["params", "_meta", "a"], "1")
            .set(&["params", "_meta", "b"], "2")
            .remove(&["params", "_meta", "io.x/0"])
            .remove(&["params", "x0"])
            .apply();
        let edited = match edited {
            Ok(edited) => edited,
            // A result that was given a second body on purpose.
            Err(SpliceError::Refused(_)) => return Ok(()),
            Err(error) => panic!("{error}: {text}"),
        };
        prop_assert_eq!(edited.id(), Some(&Id::number(77)));
        prop_assert_eq!(edited.member(&["params", "name"]), Some("\"upstream\""));
        prop_assert_eq!(edited.member(&["params", "_meta", "progressToken"]), Some(token.as_str()));
        prop_assert_eq!(edited.member(&["params", "_meta", "b"]), Some("2"));
        prop_assert_eq!(edited.member(&["params", "_meta", "io.x/0"]), None);
        let kept = |text: &str, path: &[&str], skip: &[&str]| -> Vec<(String, String)> {
            let members = raw::member(text, path).map(raw::members).unwrap_or_default();
            members
                .into_iter()
                .filter(|(key, _)| !skip.contains(&key.as_ref()))
                .map(|(key, value)| (key.into_owned(), value.to_owned()))
                .collect()
        };
        for (path, skip) in [
            (&[][..], &["id", "params"][..]),
            (&["params"][..], &["name", "_meta", "x0"][..]),
            (&["params", "_meta"][..], &["progressToken", "a", "b", "io.x/0"][..]),
        ] {
            prop_assert_eq!(kept(edited.as_str(), path, skip), kept(message.as_str(), path, skip));
        }
    }

    #[test]
    fn untouched_text_is_not_copied(text in generate::message()) {
        let message = parse(&text);
        let original = message.text().as_ptr_range();
        let parts = message.edit().id(&Id::number(5)).finish().unwrap();
        let copied: usize = parts.iter().filter(|part| !original.contains(&part.as_ptr())).map(Bytes::len).sum();
        prop_assert!(copied <= ",\"id\":5".len());
        prop_assert_eq!(message.edit().finish().unwrap().into_bytes().as_ptr(), message.text().as_ptr());
    }

    #[test]
    fn any_edit_of_any_bytes_is_judged_without_panic(text in generate::message(), damage in any::<(prop::sample::Index, u8)>(), path in path()) {
        let mut data = format!("set {} [1]\n{text}", path.join(".")).into_bytes();
        let at = damage.0.index(data.len());
        data[at] = damage.1;
        checks::splice(&data);
    }
}

#[test]
fn what_a_round_trip_would_lose_survives() {
    let text = r#"{ "z":1, "jsonrpc":"2.0","params":{"arguments":{"b":1.10,"a":123456789012345678901234567890,"e":1E+400,"é":"\u00e9\/"}, "name":"n","task":{"ttl":5}},"method":"tools/call","id":1}"#;
    let edited = parse(text)
        .edit()
        .id(&Id::string("x"))
        .set(&["params", "name"], "\"m\"")
        .apply()
        .unwrap();
    assert_eq!(
        edited.as_str(),
        text.replace("\"id\":1}", "\"id\":\"x\"}")
            .replace("\"name\":\"n\"", "\"name\":\"m\"")
    );
}

#[test]
fn members_come_and_go_with_their_commas() {
    let edit = |params: &str, remove: &[&str], set: &[&str]| {
        let message = parse(&format!(
            r#"{{"jsonrpc":"2.0","method":"m","params":{params}}}"#
        ));
        let editor = remove.iter().fold(message.edit(), |editor, key| {
            editor.remove(&["params", key])
        });
        let editor = set
            .iter()
            .fold(editor, |editor, key| editor.set(&["params", key], "9"));
        let edited = editor.apply().unwrap();
        edited.params().unwrap_or_default().to_owned()
    };
    let all = r#"{ "a" : 1 , "b" : 2 , "c" : 3 }"#;
    assert_eq!(edit(all, &["a"], &[]), r#"{ "b" : 2 , "c" : 3 }"#);
    assert_eq!(edit(all, &["b"], &[]), r#"{ "a" : 1 , "c" : 3 }"#);
    assert_eq!(edit(all, &["c"], &[]), r#"{ "a" : 1 , "b" : 2 }"#);
    assert_eq!(edit(all, &["b", "c"], &[]), r#"{ "a" : 1 }"#);
    assert_eq!(edit(all, &["c", "a"], &[]), r#"{ "b" : 2 }"#);
    assert_eq!(edit(all, &["a", "b", "c"], &[]), r"{  }");
    assert_eq!(
        edit(all, &["a", "b", "c"], &["d", "e"]),
        r#"{ "d":9,"e":9 }"#
    );
    assert_eq!(edit(all, &["c"], &["d"]), r#"{ "a" : 1 , "b" : 2,"d":9 }"#);
    assert_eq!(
        edit(all, &["a"], &["c", "d"]),
        r#"{ "b" : 2 , "c" : 9,"d":9 }"#
    );
    assert_eq!(edit("{ }", &["a"], &["d"]), r#"{"d":9 }"#);
    assert_eq!(edit("{}", &["a"], &[]), "{}");
    assert_eq!(edit("null", &[], &["d"]), r#"{"d":9}"#);
    assert_eq!(edit("null", &["d"], &[]), "null");
}

#[test]
fn missing_objects_are_created_once() {
    let message = parse(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
    let edited = message
        .edit()
        .set(&["params", "_meta", "a"], "1")
        .set(&["params", "_meta", "b\""], "2")
        .remove(&["params", "x", "y"])
        .apply();
    assert_eq!(
        edited.unwrap().as_str(),
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"a":1,"b\"":2}}}"#
    );
    let unchanged = message
        .edit()
        .remove(&["params", "_meta", "a"])
        .finish()
        .unwrap()
        .into_bytes();
    assert_eq!(unchanged, message.text());
}

#[test]
fn edits_that_cannot_be_made_say_where() {
    let message =
        parse(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"name":"n","x":1,"x":2}}"#);
    let error =
        |editor: mainstay_wire::Editor<'_>| editor.finish().expect_err("must fail").to_string();
    assert_eq!(
        error(message.edit().set(&["params", "name"], "{,}")),
        "the new value of params.name is not valid JSON"
    );
    assert_eq!(
        error(message.edit().set(&["params", "new", "a"], "")),
        "the new value of params.new.a is not valid JSON"
    );
    assert_eq!(
        error(message.edit().set(&["params", "name", "a"], "1")),
        "params.name is not an object"
    );
    assert_eq!(
        error(message.edit().set(&["params", "x"], "1")),
        "params.x occurs twice"
    );
    assert_eq!(
        error(message.edit().remove(&["params", "x"])),
        "params.x occurs twice"
    );
    assert_eq!(
        error(
            message
                .edit()
                .remove(&["params"])
                .set(&["params", "a"], "1")
        ),
        "the edits of params.a contradict each other"
    );
    assert_eq!(
        error(
            message
                .edit()
                .set(&["params", "a"], "1")
                .set(&["params"], "1")
        ),
        "the edits of params contradict each other"
    );
    assert!(matches!(
        message.edit().set(&[], "1").finish(),
        Err(SpliceError::Conflict { .. })
    ));
    assert!(matches!(
        message.edit().remove(&["jsonrpc"]).apply(),
        Err(SpliceError::Refused(_))
    ));
    // The last word on a member counts.
    let last = message
        .edit()
        .set(&["params", "name"], "1")
        .set(&["params", "name"], "2")
        .apply()
        .unwrap();
    assert_eq!(last.member(&["params", "name"]), Some("2"));
}
