//! What a pin lets through, what it holds back, and what becomes of a damaged record.

use super::*;
use crate::driver::a_catalog;

fn tool(name: &str, rest: &str) -> String {
    format!("{{\"name\":\"{name}\",\"inputSchema\":{{}}{rest}}}")
}

fn catalog(tools: &[&str]) -> Catalog {
    a_catalog(tools)
}

fn current(listed: &Catalog) -> Current {
    let mut current = Current::default();
    current.add(listed, true);
    current
}

fn held(pins: &Pins, listed: &Catalog) -> Vec<(String, ChangeKind)> {
    let held = pins.judge(listed, true, &Holdback::default());
    let tools = held.tools.iter().map(|(name, held)| (name, held.kind));
    let gone = held.gone.keys().map(|name| (name, ChangeKind::Removed));
    tools
        .chain(gone)
        .map(|(name, kind)| (name.to_string(), kind))
        .collect()
}

fn change(name: &str, kind: ChangeKind) -> (String, ChangeKind) {
    (name.to_owned(), kind)
}

#[test]
fn f250_every_member_that_a_model_decides_by_is_pinned_however_it_is_written() {
    let pins = Pins::none();
    let base = tool(
        "a",
        r#","description":"d","annotations":{"readOnlyHint":true}"#,
    );
    assert!(pins.trust(&catalog(&[&base])));
    for same in [
        r#"{ "annotations" : {"readOnlyHint":true}, "inputSchema":{ }, "description":"\u0064", "name":"a" }"#.to_owned(),
        tool("a", r#","description":"d","annotations":{"readOnlyHint":true},"icons":[1],"_meta":{"x":1}"#),
    ] {
        assert_eq!(held(&pins, &catalog(&[&same])), [], "{same}");
    }
    for changed in [
        tool(
            "a",
            r#","description":"D","annotations":{"readOnlyHint":true}"#,
        ),
        tool(
            "a",
            r#","description":"d","annotations":{"readOnlyHint":false}"#,
        ),
        tool(
            "a",
            r#","description":"d","annotations":{"readOnlyHint":true},"title":"t""#,
        ),
        tool(
            "a",
            r#","description":"d","annotations":{"readOnlyHint":true},"outputSchema":{}"#,
        ),
        base.replace("\"inputSchema\":{}", "\"inputSchema\":{\"x\":1}"),
        // Two of them: readers differ in which one they take.
        tool(
            "a",
            r#","description":"d","description":"evil","annotations":{"readOnlyHint":true}"#,
        ),
    ] {
        assert_eq!(
            held(&pins, &catalog(&[&changed])),
            [change("a", ChangeKind::Changed)],
            "{changed}"
        );
    }
}

#[test]
fn f251_new_and_removed_names_wait_for_approval_too() {
    let pins = Pins::none();
    let (a, b) = (tool("a", ""), tool("b", ""));
    assert!(!pins.trust(&catalog(&[])), "nothing is no first listing");
    assert!(pins.trust(&catalog(&[&a])));
    assert!(!pins.trust(&catalog(&[&b])), "only the first counts");
    let renamed = catalog(&[&b]);
    assert_eq!(
        held(&pins, &renamed),
        [
            change("b", ChangeKind::Added),
            change("a", ChangeKind::Removed)
        ]
    );
    let holdback = pins.judge(&renamed, true, &Holdback::default());
    assert!(matches!(
        pins.refuses("b", "shown", &holdback),
        Some(Refusal::ToolHeld { tool, .. }) if &*tool == "shown"
    ));
    // What was never listed is not approved either.
    assert!(pins.refuses("unlisted", "unlisted", &holdback).is_some());
    assert!(pins.refuses("a", "a", &holdback).is_none());

    assert_eq!(pins.approve(&current(&renamed), None).unwrap(), ["a", "b"]);
    assert_eq!(held(&pins, &renamed), []);
    assert_eq!(
        held(&pins, &catalog(&[&a, &b])),
        [change("a", ChangeKind::Added)],
        "a name that comes back is new"
    );
    let error = pins
        .approve(&current(&renamed), Some(&["zzz".to_owned()]))
        .unwrap_err();
    assert!(error.to_string().contains("has no tool `zzz`"), "{error}");
}

#[test]
fn approval_is_of_single_tools_and_of_what_they_are_at_that_moment() {
    let pins = Pins::none();
    pins.trust(&catalog(&[&tool("a", "")]));
    let now = catalog(&[&tool("a", r#","description":"1""#), &tool("b", "")]);
    let approved = pins
        .approve(&current(&now), Some(&["a".to_owned()]))
        .unwrap();
    assert_eq!(approved, ["a"]);
    assert_eq!(held(&pins, &now), [change("b", ChangeKind::Added)]);
    let later = catalog(&[&tool("a", r#","description":"2""#), &tool("b", "")]);
    let before = pins.judge(&now, true, &Holdback::default());
    let held = pins.judge(&later, true, &before);
    assert_eq!(held.tools["b"], before.tools["b"], "it was seen earlier");
    let changes = pins.changes(&held);
    assert_eq!(
        (changes[0].kind, &*changes[0].tool),
        (ChangeKind::Changed, "a")
    );
    assert_eq!(
        changes[0].diff,
        [
            "  {",
            "-   \"description\": \"1\",",
            "+   \"description\": \"2\",",
            "    \"inputSchema\": {},",
            "    \"name\": \"a\"",
            "  }"
        ]
    );
}

#[test]
fn the_record_outlives_the_process_and_is_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let book = PinBook::new(Some(dir.path().to_owned()));
    let listed = catalog(&[&tool("a", r#","description":"é""#)]);
    let pins = book.of("s/é");
    assert!(pins.trust(&listed));
    pins.save().unwrap();
    assert!(Arc::ptr_eq(&pins, &book.of("s/é")));
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
    let [file] = &files[..] else {
        panic!("{files:?}")
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let again = PinBook::new(Some(dir.path().to_owned())).of("s/é");
    assert!(
        !again.trust(&catalog(&[&tool("b", "")])),
        "it was seen before"
    );
    assert_eq!(held(&again, &listed), []);
}

#[test]
fn f250_a_damaged_record_approves_nothing_until_somebody_does() {
    let listed = catalog(&[&tool("a", ""), &tool("b", "")]);
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let damages: [(&str, Damage); 4] = [
        ("cut short", |bytes| bytes[..bytes.len() / 2].to_vec()),
        ("empty", |_| Vec::new()),
        ("changed", |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace("approvedAtUnixMs\":1", "approvedAtUnixMs\":2")
                .into_bytes()
        }),
        ("another format", |bytes| [b"x", &bytes[..]].concat()),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let book = || PinBook::new(Some(dir.path().to_owned()));
        let pins = book().of("s");
        pins.trust(&listed);
        pins.save().unwrap();
        let path = std::fs::read_dir(dir.path())
            .unwrap()
            .flatten()
            .next()
            .unwrap()
            .path();
        std::fs::write(&path, damage(std::fs::read(&path).unwrap())).unwrap();

        let pins = book().of("s");
        assert!(!pins.trust(&listed), "{what}: never a first sight");
        pins.save().unwrap();
        let holdback = pins.judge(&listed, true, &Holdback::default());
        assert_eq!(holdback.tools.len(), 2, "{what}");
        assert!(
            holdback.damaged.is_some() && holdback.event().is_some(),
            "{what}"
        );
        assert!(pins.refuses("a", "a", &holdback).is_some(), "{what}");
        assert!(
            matches!(&**book().of("s").record.load(), Record::Damaged(_)),
            "{what}"
        );

        let approved = pins
            .approve(&current(&listed), Some(&["a".to_owned()]))
            .unwrap();
        assert_eq!(approved, ["a"], "{what}");
        assert!(
            path.with_extension("damaged").exists(),
            "{what}: kept to look at"
        );
        let again = book().of("s");
        assert_eq!(
            held(&again, &listed),
            [change("b", ChangeKind::Added)],
            "{what}"
        );
    }
}

#[test]
fn what_cannot_be_kept_is_not_approved() {
    let dir = tempfile::tempdir().unwrap();
    let pins = PinBook::new(Some(dir.path().join("gone"))).of("s");
    pins.trust(&catalog(&[&tool("a", "")]));
    let listed = catalog(&[&tool("b", "")]);
    let error = pins.approve(&current(&listed), None).unwrap_err();
    assert!(matches!(error, PinError::Unwritable { .. }), "{error}");
    assert_eq!(held(&pins, &listed)[0], change("b", ChangeKind::Added));
}

#[test]
fn tools_of_further_connections_are_not_missed_on_the_shared_one() {
    let pins = Pins::none();
    let shared = catalog(&[&tool("a", "")]);
    let further = catalog(&[&tool("a", ""), &tool("ask", "")]);
    pins.trust(&shared);
    assert_eq!(
        pins.judge(&further, false, &Holdback::default())
            .tools
            .len(),
        1
    );
    let mut all = current(&shared);
    all.add(&further, false);
    assert_eq!(pins.approve(&all, None).unwrap(), ["ask"]);
    assert_eq!(held(&pins, &shared), []);
    assert_eq!(
        pins.judge(&further, false, &Holdback::default()),
        Holdback::default()
    );
    // Nor is it forgotten when none of them is open.
    assert_eq!(
        pins.approve(&current(&shared), None).unwrap(),
        Vec::<String>::new()
    );
    assert_eq!(
        pins.judge(&further, false, &Holdback::default()),
        Holdback::default()
    );
}
