//! Server-sent events: the framing rows of group I of the fault catalogue.

use bytes::Bytes;
use mainstay_wire::sse::{encode_comment, encode_event};
use mainstay_wire::{Id, Kind, Limits, Message, SseDecoder, SseItem, Why};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::generate;

fn decode(stream: &[u8], sizes: &[usize], max: usize) -> Vec<SseItem> {
    let mut decoder = SseDecoder::new(max);
    let mut items = Vec::new();
    for chunk in generate::chunks(stream, sizes) {
        decoder.push(chunk);
        items.extend(decoder.by_ref());
    }
    while let Some(item) = decoder.finish() {
        items.push(item);
    }
    items
}

/// Decodes in one piece, byte by byte and in odd pieces (F128); all must agree.
fn items(stream: impl AsRef<[u8]>) -> Vec<SseItem> {
    let stream = stream.as_ref();
    let whole = decode(stream, &[usize::MAX], 1_000);
    assert_eq!(decode(stream, &[1], 1_000), whole);
    assert_eq!(decode(stream, &[2, 5, 1], 1_000), whole);
    whole
}

fn data(text: &str) -> SseItem {
    SseItem::Event {
        event: None,
        data: Bytes::copy_from_slice(text.as_bytes()),
        id: None,
        retry_ms: None,
    }
}

fn event(event: Option<&str>, text: &str, id: Option<&str>, retry_ms: Option<u64>) -> SseItem {
    let data = Bytes::copy_from_slice(text.as_bytes());
    SseItem::Event {
        event: event.map(Into::into),
        data,
        id: id.map(Into::into),
        retry_ms,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// F128: whatever the line ends, the number of data lines and the cuts, the same events come out.
    #[test]
    fn f128_chunks_and_line_ends_change_nothing(
        events in vec((generate::message(), prop::option::of("[a-z0-9é]{0,5}"), prop::option::of(0..9_000_u64), "[é ]{0,9}"), 1..5),
        end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], sizes in generate::cuts(), mark in any::<bool>()
    ) {
        let mut stream = String::from(if mark { "\u{feff}" } else { "" });
        let mut sent = Vec::new();
        for (text, id, retry, comment) in &events {
            let text = text.replace("\r\n", "\n").replace('\r', "\n");
            stream += &format!(":{comment}{end}");
            sent.push(SseItem::Comment);
            if let Some(id) = id {
                stream += &format!("id: {id}{end}");
            }
            if let Some(retry) = retry {
                stream += &format!("retry: {retry}{end}");
            }
            for line in text.split('\n') {
                stream += &format!("data: {line}{end}");
            }
            stream += end;
            sent.push(event(None, &text, id.as_deref(), *retry));
        }
        prop_assert_eq!(decode(stream.as_bytes(), &sizes, 1 << 20), sent);
    }

    #[test]
    fn what_is_encoded_is_decoded(text in generate::message(), name in prop::option::of("[a-z]{1,5}"), id in prop::option::of("[a-z0-9/é]{0,5}"), sizes in generate::cuts()) {
        let message = Message::parse(Bytes::from(text), &Limits::default()).unwrap();
        let mut stream = encode_comment("ping").to_vec();
        stream.extend_from_slice(&encode_event(name.as_deref(), id.as_deref(), Some(3), &message).into_bytes());
        let flat = message.as_str().replace(['\r', '\n'], " ");
        prop_assert_eq!(decode(&stream, &sizes, 1 << 20), [SseItem::Comment, event(name.as_deref(), &flat, id.as_deref(), Some(3))]);
    }

    #[test]
    fn any_bytes_are_judged_without_panic(stream in vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r'), Just(b':'), Just(b'd')], 0..300)) {
        crate::checks::sse(&stream);
    }
}

#[test]
fn the_standards_examples() {
    assert_eq!(
        items("data: YHOO\ndata: +2\ndata: 10\n\n"),
        [data("YHOO\n+2\n10")]
    );
    assert_eq!(
        items(
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
        ),
        [
            SseItem::Comment,
            event(None, "first event", Some("1"), None),
            event(None, "second event", Some(""), None),
            data(" third event")
        ]
    );
    assert_eq!(
        items("data\n\ndata\ndata\n\ndata:"),
        [data(""), data("\n"), data("")]
    );
    assert_eq!(
        items("data:test\n\ndata: test\n\n"),
        [data("test"), data("test")]
    );
}

#[test]
fn line_ends_marks_and_odd_fields() {
    assert_eq!(
        items("data: a\rdata: b\r\rdata: c\r\n\r\ndata: d\n\r\n"),
        [data("a\nb"), data("c"), data("d")]
    );
    assert_eq!(items("\u{feff}data: a\n\n\u{feff}data: b\n\n"), [data("a")]);
    assert_eq!(
        items("event: x\n\nfoo: bar\n\n data: no\n\nevent:\ndata: y\n\n"),
        [data("y")]
    );
    assert_eq!(
        items("event: endpoint\ndata: /messages?id=1\n\n"),
        [event(Some("endpoint"), "/messages?id=1", None, None)]
    );
    assert_eq!(
        items("id: a\0b\nretry: 12x\nretry: \nretry: 99999999999999999999\n\n"),
        []
    );
    assert_eq!(
        items(b"data: \xff\n\n"),
        [event(None, "", None, None)].map(|_| SseItem::Event {
            event: None,
            data: Bytes::from_static(b"\xff"),
            id: None,
            retry_ms: None
        })
    );
}

/// A priming event has an id and no data; an id or a pause alone is told as well, because the reader must know it.
#[test]
fn priming_events_and_hints() {
    assert_eq!(
        items("id: 0_1\ndata: \n\n"),
        [event(None, "", Some("0_1"), None)]
    );
    assert_eq!(
        items("retry: 3000\n\nid: 5\n\n"),
        [
            event(None, "", None, Some(3_000)),
            event(None, "", Some("5"), None)
        ]
    );
}

#[test]
fn an_event_without_its_blank_line_is_still_judged() {
    assert_eq!(items("data: a\n\ndata: b"), [data("a"), data("b")]);
    assert_eq!(items("data: b\n"), [data("b")]);
    assert_eq!(items(": x"), [SseItem::Comment]);
    assert_eq!(items(""), []);
}

/// F126: an over-long event is skipped, its call is told, the stream goes on.
#[test]
fn f126_an_over_long_event_is_refused_with_its_id() {
    let filling = "z".repeat(3_000);
    let last = format!(r#"{{"result":["{filling}"],"jsonrpc":"2.0","id":"end"}}"#);
    let one = format!("id: 4\r\ndata: {last}\r\n\r\n: c\r\ndata: next\r\n\r\n");
    let first = r#"{"jsonrpc":"2.0","id":7,"result":["#;
    let lines = "data: \"zzzzzzzz\",\n".repeat(200);
    let many = format!("data: {first}\n{lines}: comment\nid: late\ndata: 1]}}\n\ndata: next\n\n");
    let many_last = format!(
        "\u{feff}data:{{\"result\":[\n{lines}data:1],\"jsonrpc\":\"2.0\",\ndata\ndata: \"id\":\"end\"}}\n\ndata: next\n\n"
    );
    for (stream, id, event_id) in [
        (one, "\"end\"", Some("4")),
        (many, "7", None),
        (many_last, "\"end\"", None),
    ] {
        let all = items(&stream);
        let SseItem::TooLong {
            prefix,
            refused,
            id: seen,
        } = &all[0]
        else {
            panic!("too long: {all:?}")
        };
        assert_eq!(refused.id, Id::from_raw(id), "{stream}");
        assert_eq!(seen.as_deref(), event_id);
        assert!(matches!(refused.why, Why::TooLong { bytes, max: 1_000 } if bytes > 3_000));
        assert!(prefix.len() >= 1_000 && prefix.starts_with(b"{"));
        assert_eq!(all.last(), Some(&data("next")));
    }
    let SseItem::TooLong { prefix, .. } =
        &items(format!("data: a\ndata: b\n{}\n", "data:c\n".repeat(400)))[0]
    else {
        panic!("too long")
    };
    assert!(prefix.starts_with(b"a\nb\nc\nc\nc"));
    assert_eq!(prefix.len(), 2 * 402 - 1);
    // Cut off: what was complete counts.
    let cut = format!("data: {first}\"{filling}");
    let SseItem::TooLong { refused, .. } = &items(cut)[0] else {
        panic!("too long")
    };
    assert_eq!(refused.id, Some(Id::number(7)));
}

#[test]
fn a_single_data_line_is_not_copied() {
    let chunk = Bytes::from_static(
        b"event: message\r\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"m\"}\r\n\r\n",
    )
    .to_vec();
    let chunk = Bytes::from(chunk);
    let range = chunk.as_ptr_range();
    let mut decoder = SseDecoder::new(1_000);
    decoder.push(chunk);
    let Some(SseItem::Event { data, .. }) = decoder.next() else {
        panic!("an event")
    };
    assert!(range.contains(&data.as_ptr()));
    assert_eq!(
        Message::parse(data, &Limits::default()).unwrap().kind(),
        Kind::Notification
    );
    assert_eq!(decoder.next(), None);
}

#[test]
fn nothing_smuggles_a_field_in() {
    let parts = encode_event(
        Some("a\ndata: x"),
        Some("b\r\nid: y\0"),
        None,
        Bytes::from_static(b"{\n}"),
    );
    assert_eq!(parts.len(), parts.clone().into_bytes().len());
    assert_eq!(
        parts.into_bytes(),
        "event: adata: x\nid: bid: y\ndata: { }\n\n"
    );
    assert_eq!(encode_comment("a\nb"), ": ab\n\n");
}
