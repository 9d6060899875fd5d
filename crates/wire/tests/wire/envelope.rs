//! Parsing: what is accepted, what is refused, and that the call concerned is told.

use bytes::Bytes;
use mainstay_wire::{Id, Kind, Limits, Message, Refused, Why, raw, recover_id, split_batch};
use proptest::prelude::*;

use crate::{checks, generate};

fn parse(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default())
        .unwrap_or_else(|refused| panic!("{refused}: {text}"))
}

fn refuse(text: impl AsRef<[u8]>) -> Refused {
    let limits = Limits {
        message_bytes_max: 2_000,
        depth_max: 16,
    };
    Message::parse(Bytes::copy_from_slice(text.as_ref()), &limits).expect_err("must be refused")
}

fn told(refused: &Refused) -> Option<&str> {
    refused.id.as_ref().map(Id::raw)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A batch is taken apart at its own commas and nowhere else, whatever its members hold.
    #[test]
    fn a_batch_gives_back_its_members_byte_for_byte(
        members in proptest::collection::vec(generate::value(), 1..20),
        space in "[ \n\t]{0,3}",
    ) {
        let comma = format!("{space},{space}");
        let text = format!("{space}[{space}{}{space}]{space}", members.join(&comma));
        let batch = Bytes::from(text);
        let split = split_batch(batch.clone(), &Limits::default()).unwrap();
        prop_assert_eq!(&split, &members);
        let within = batch.as_ptr_range();
        for member in &split {
            prop_assert!(member.is_empty() || within.contains(&member.as_ptr()), "it was copied");
        }
    }

    /// However deep or broken an array is, judging it needs no stack and ends (F247).
    #[test]
    fn f247_a_batch_of_any_depth_is_judged_without_recursion(depth in 1_usize..200_000, closed in any::<bool>()) {
        let mut text = "[".repeat(depth);
        if closed {
            text.push('1');
            text.push_str(&"]".repeat(depth));
        }
        let split = split_batch(Bytes::from(text), &Limits::default());
        prop_assert_eq!(split.is_ok(), closed && depth <= 1 + Limits::default().depth_max);
    }

    #[test]
    fn any_message_is_kept_as_it_came(text in generate::message()) {
        let message = parse(&text);
        prop_assert_eq!(message.as_str(), text.trim());
        let members = raw::members(message.as_str());
        for (key, value) in &members {
            prop_assert_eq!(message.member(&[key]), Some(*value));
            for (name, inner) in raw::members(value) {
                prop_assert_eq!(message.member(&[key, &name]), Some(inner));
            }
        }
        checks::envelope(text.as_bytes());
    }

    #[test]
    fn any_cut_or_damaged_message_is_judged_without_panic(
        text in generate::message(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        checks::envelope(&bytes[..at]);
        bytes[at] = byte;
        checks::envelope(&bytes);
    }

    /// F47: the id of a message that is too long is found wherever it stands, and never half of it.
    #[test]
    fn law_30_the_call_of_an_over_long_message_is_told(id in generate::id(), value in generate::value(), last in any::<bool>()) {
        let result = format!("[{value},\"{}\"]", "x".repeat(2_000));
        let text = if last {
            format!(r#"{{"result":{result},"jsonrpc":"2.0","id":{id}}}"#)
        } else {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
        };
        let refused = refuse(&text);
        let is_too_long = matches!(refused.why, Why::TooLong { max: 2_000, .. });
        prop_assert!(is_too_long);
        prop_assert_eq!(refused.id, Id::from_raw(&id));
        prop_assert!(refused.jsonrpc);
        for end in (0..text.len()).step_by(7) {
            let found = recover_id(&text.as_bytes()[..end]);
            prop_assert!(found.is_none() || found == Id::from_raw(&id));
        }
    }
}

#[test]
fn the_four_forms() {
    let request =
        parse(r#"{"jsonrpc":"2.0","id":"a","method":"tools\/call","params":{"name":"x"}}"#);
    assert_eq!(
        (request.kind(), request.method()),
        (Kind::Request, Some("tools/call"))
    );
    assert_eq!(
        (request.params(), request.result(), request.error()),
        (Some(r#"{"name":"x"}"#), None, None)
    );
    let notification = parse(r#"{"jsonrpc":"2.0","method":"m"}"#);
    assert_eq!(
        (
            notification.kind(),
            notification.id(),
            notification.params()
        ),
        (Kind::Notification, None, None)
    );
    let result = parse(r#"{"jsonrpc":"2.0","id":1.0,"result":null}"#);
    assert_eq!(
        (result.kind(), result.result(), result.id().map(Id::raw)),
        (Kind::Result, Some("null"), Some("1.0"))
    );
    let error = parse(r#"{"jsonrpc":"2.0","error":{"code":-1,"message":""}}"#);
    assert_eq!((error.kind(), error.id()), (Kind::Error, None));
    assert_eq!(
        parse(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#).id(),
        None
    );
}

#[test]
fn absent_params_stay_absent_and_null_stays_null() {
    let absent = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    assert_eq!(parse(absent).params(), None);
    assert_eq!(
        parse(absent)
            .edit()
            .id(&Id::number(9))
            .apply()
            .unwrap()
            .as_str(),
        absent.replace(":1,", ":9,")
    );
    assert_eq!(
        parse(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":null}"#).params(),
        Some("null")
    );
}

#[test]
fn error_codes_of_any_size_stay_as_they_came() {
    for code in [
        "-32601",
        "99999999999",
        "-123456789012345678901234567890",
        "1.5",
    ] {
        let error = format!(r#"{{"code":{code},"x":1}}"#);
        let message = parse(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#));
        assert_eq!(message.error(), Some(error.as_str()));
        assert_eq!(message.member(&["error", "code"]), Some(code));
    }
}

/// F59: an answer with both or neither is told to its call at once.
#[test]
fn f59_both_or_neither_is_refused_with_the_id() {
    for text in [
        r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":""}}"#,
        r#"{"jsonrpc":"2.0","id":7}"#,
        r#"{"jsonrpc":"2.0","id":7,"error":"text"}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"m","result":{}}"#,
        r#"{"jsonrpc":"1.0","id":7,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":""}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":5}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"m","params":3}"#,
    ] {
        let refused = refuse(text);
        assert!(matches!(refused.why, Why::NotAMessage(_)), "{text}");
        assert_eq!(told(&refused), Some("7"), "{text}");
        assert!(refused.jsonrpc);
    }
    for text in [
        r#"{"jsonrpc":"2.0","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#,
    ] {
        assert_eq!(told(&refuse(text)), None);
    }
}

#[test]
fn keys_that_decide_are_refused_twice_even_in_disguise() {
    for (text, key) in [
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#, "id"),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","\u006dethod":"n"}"#,
            "method",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"result":{},"result":{}}"#,
            "result",
        ),
        (
            r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"result":{}}"#,
            "jsonrpc",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"name":"a","n\u0061me":"b"}}"#,
            "name",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"uri":"a","x":1,"uri":"a"}}"#,
            "uri",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{},"_meta":{}}}"#,
            "_meta",
        ),
    ] {
        let refused = refuse(text);
        assert_eq!(refused.why, Why::DuplicateKey(key), "{text}");
        // Of two ids neither is believed; otherwise the call is told.
        assert_eq!(told(&refused), (key != "id").then_some("1"), "{text}");
    }
    parse(
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":1,"x":2,"arguments":{"name":1,"name":2}}}"#,
    );
}

#[test]
fn routing_members_are_found_behind_many_others() {
    let many: String = (0..100).map(|n| format!("\"x{n}\":{n},")).collect();
    let message = parse(&format!(
        r#"{{{many}"jsonrpc":"2.0","id":1,"method":"m","params":{{{many}"name":"n"}}}}"#
    ));
    assert_eq!(message.member(&["params", "name"]), Some("\"n\""));
    assert_eq!(message.member(&["id"]), Some("1"));
    let twice = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"name":"a",{many}"name":"b"}}}}"#
    );
    assert_eq!(refuse(twice).why, Why::DuplicateKey("name"));
}

/// F247: nesting costs no stack; the limit is told to the call.
#[test]
fn f247_nesting_beyond_the_limit_is_refused_with_the_id() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let text = |n: usize| {
            format!(
                r#"{{"jsonrpc":"2.0","id":5,"result":{}1{}}}"#,
                open.repeat(n),
                close.repeat(n)
            )
        };
        parse(&text(127));
        for n in [128, 100_000] {
            let refused = Message::parse(text(n).into(), &Limits::default()).expect_err("too deep");
            assert_eq!(refused.why, Why::TooDeep { max: 128 });
            assert_eq!(told(&refused), Some("5"));
        }
        let shallow = |depth_max| Limits {
            depth_max,
            ..Limits::default()
        };
        let nested = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"m","params":{}}"#);
        assert!(Message::parse(nested.clone(), &shallow(2)).is_ok());
        assert!(Message::parse(nested, &shallow(1)).is_err());
        // Nor does looking into it.
        let deep = Limits {
            depth_max: usize::MAX,
            ..Limits::default()
        };
        let message = Message::parse(text(100_000).into(), &deep).unwrap();
        let edited = message
            .edit()
            .set(&["result2"], "1")
            .remove(&["result"])
            .finish();
        assert!(edited.unwrap().len() < 100);
    }
}

#[test]
fn damage_is_refused_with_the_place_and_the_call() {
    let refused = refuse(r#"{"jsonrpc":"2.0","id":3,"result":{"a":NaN}}"#);
    assert_eq!(refused.why, Why::NotJson { at: 38 });
    assert_eq!(told(&refused), Some("3"));
    let refused = refuse(b"{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":\"\xff\"}");
    assert_eq!(
        (refused.why.clone(), told(&refused)),
        (Why::NotJson { at: 34 }, Some("3"))
    );
    assert_eq!(refuse("").why, Why::NotJson { at: 0 });
    assert!(!refuse("hello").jsonrpc);
    assert!(matches!(refuse("42").why, Why::NotAMessage(_)));
    assert!(matches!(refuse("{}").why, Why::NotAMessage(_)));
    let long_id = format!(
        r#"{{"jsonrpc":"2.0","id":"{}","method":"m"}}"#,
        "x".repeat(1_100)
    );
    assert!(matches!(refuse(long_id).why, Why::NotAMessage(_)));
    let refused = refuse(r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[}"#);
    assert_eq!(refused.method.as_deref(), Some("x"));
    assert_eq!(
        refused.to_string(),
        "not valid JSON at byte 47, method \"x\", id 1"
    );
}

#[test]
fn batches_are_told_apart_from_log_lines() {
    let batch = r#" [ {"jsonrpc":"2.0","id":1,"result":{}} , 5 ] "#;
    assert_eq!(refuse(batch).why, Why::Batch);
    assert!(matches!(refuse("[1,2]").why, Why::NotAMessage(_)));
    assert!(matches!(refuse("[12:30] up").why, Why::NotJson { .. }));
    let elements = split_batch(Bytes::from(batch), &Limits::default()).unwrap();
    assert_eq!(
        elements,
        [&br#"{"jsonrpc":"2.0","id":1,"result":{}}"#[..], b"5"]
    );
    for bad in [
        "[]".to_owned(),
        "[1,]".to_owned(),
        format!("[{}1]", "1,".repeat(1_000)),
        "{}".to_owned(),
    ] {
        assert!(split_batch(Bytes::from(bad), &Limits::default()).is_err());
    }
    assert_eq!(
        split_batch(
            Bytes::from(format!("[{}1]", "1,".repeat(999))),
            &Limits::default()
        )
        .unwrap()
        .len(),
        1_000
    );
}

#[test]
fn our_own_messages_are_messages() {
    let id = Id::string("a\"\n");
    let request = Message::request(&id, "tools/call", Some(r#"{"name":"x"}"#));
    assert_eq!(
        request.as_str(),
        r#"{"jsonrpc":"2.0","id":"a\"\n","method":"tools/call","params":{"name":"x"}}"#
    );
    assert_eq!(Message::request(&id, "ping", None).params(), None);
    assert_eq!(
        Message::notification("n", Some("{}")).as_str(),
        r#"{"jsonrpc":"2.0","method":"n","params":{}}"#
    );
    assert_eq!(
        Message::result_of(&Id::number(3), "{}").as_str(),
        r#"{"jsonrpc":"2.0","id":3,"result":{}}"#
    );
    let error = Message::error_of(None, -32_700, "say \"what\"", Some("[1]"));
    assert_eq!(
        error.as_str(),
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"say \"what\"","data":[1]}}"#
    );
    assert!(
        format!(
            "{:?}",
            Message::result_of(&id, &format!("\"{}\"", "x".repeat(10_000)))
        )
        .len()
            < 500
    );
}

#[test]
fn marks_and_space_around_a_message_are_dropped() {
    let message = Message::parse(
        Bytes::from_static(b"\r\n \xEF\xBB\xBF {\"jsonrpc\":\"2.0\",\"method\":\"m\"}\r\n"),
        &Limits::default(),
    );
    assert_eq!(
        message.unwrap().as_str(),
        r#"{"jsonrpc":"2.0","method":"m"}"#
    );
}
