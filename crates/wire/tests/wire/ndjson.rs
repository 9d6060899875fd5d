//! Lines: the rows of group D of the fault catalogue.

use std::time::Instant;

use bytes::{BufMut, Bytes};
use mainstay_wire::ndjson::into_line;
use mainstay_wire::{Id, Limits, Line, LineDecoder, Message, Refused, Why};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::generate;

const SMALL: Limits = Limits {
    message_bytes_max: 1_000,
    depth_max: 16,
};

fn decode(stream: &[u8], sizes: &[usize], limits: Limits) -> Vec<Line> {
    let mut decoder = LineDecoder::new(limits);
    let mut lines = Vec::new();
    for chunk in generate::chunks(stream, sizes) {
        decoder.push(chunk);
        lines.extend(decoder.by_ref());
    }
    while let Some(line) = decoder.finish() {
        lines.push(line);
    }
    assert_eq!(decoder.buffered(), 0);
    lines
}

/// Decodes in one piece, byte by byte and in odd pieces; all must agree.
fn lines(stream: impl AsRef<[u8]>) -> Vec<Line> {
    let stream = stream.as_ref();
    let whole = decode(stream, &[usize::MAX], SMALL);
    assert_eq!(decode(stream, &[1], SMALL), whole);
    assert_eq!(decode(stream, &[3, 1, 7], SMALL), whole);
    whole
}

fn message(text: &str) -> Line {
    Line::Message(
        Message::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default()).unwrap(),
    )
}

fn noise(sample: &str, bytes: usize) -> Line {
    Line::Noise {
        sample: sample.into(),
        bytes,
    }
}

fn refused(line: &Line) -> &Refused {
    match line {
        Line::Refused(refused) => refused,
        Line::Message(_) | Line::Noise { .. } => panic!("not refused: {line:?}"),
    }
}

const A: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
const B: &str = r#"{"jsonrpc":"2.0","method":"m"}"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// F48: however the stream is cut, and whatever noise is between, every message arrives, in order, once.
    #[test]
    fn f48_chunks_change_nothing(
        messages in vec((generate::message(), "[a-z \\[\\]{}\":0-9]{0,40}", any::<bool>()), 1..6), sizes in generate::cuts()
    ) {
        let mut stream = Vec::new();
        let mut sent = Vec::new();
        for (text, noise, crlf) in &messages {
            let line = into_line(Bytes::copy_from_slice(text.as_bytes())).into_bytes();
            sent.push(Message::parse(line.clone(), &Limits::default()).unwrap());
            stream.extend_from_slice(&line);
            stream.extend_from_slice(noise.as_bytes());
            stream.extend_from_slice(if *crlf { b"\r\n" } else { b"\n" });
        }
        let whole = decode(&stream, &[usize::MAX], Limits::default());
        prop_assert_eq!(&decode(&stream, &sizes, Limits::default()), &whole);
        let arrived: Vec<Message> = whole.into_iter().filter_map(|line| match line {
            Line::Message(message) => Some(message),
            Line::Refused(_) | Line::Noise { .. } => None,
        }).collect();
        prop_assert_eq!(arrived, sent);
    }

    #[test]
    fn any_bytes_are_judged_without_panic(stream in vec(any::<u8>(), 0..400)) {
        crate::checks::ndjson(&stream);
    }
}

/// F42, F43: banners and JSON logs are counted and shown, never refused (nobody would be answered) and never a message.
#[test]
fn f42_f43_noise_is_told_apart_from_messages() {
    assert_eq!(
        lines(format!("Server started\n{A}\n")),
        [noise("Server started", 14), message(A)]
    );
    for log in [
        r#"{"level":"info","msg":"x"}"#,
        r#"{"method":"GET","id":4,"params":{}}"#,
        r#"{"id":4,"error":"database is down"}"#,
        "[1,2,3]",
        "[12:30] up",
        "\"text\"",
        "42",
        "{broken",
    ] {
        assert_eq!(lines(format!("{log}\n")), [noise(log, log.len())]);
    }
    assert_eq!(
        lines("a\u{1b}[31mb\tc\n"),
        [noise("a\u{fffd}[31mb\u{fffd}c", 9)]
    );
    let Line::Noise { sample, bytes } = &lines("é".repeat(450) + "\n")[0] else {
        panic!("noise")
    };
    assert_eq!((sample.chars().count(), *bytes), (200, 900));
}

/// F46, F47: nothing beyond the limit is kept, and the call is told, wherever the id stands.
#[test]
fn f46_f47_an_over_long_line_is_refused_with_its_id() {
    let filling = "z".repeat(5_000);
    let first = format!(r#"{{"jsonrpc":"2.0","id":7,"result":"{filling}"}}"#);
    let last = format!(r#"{{"result":["{filling}\"",{{"id":1}}],"jsonrpc":"2.0","id":"end"}}"#);
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":8,"method":"sampling/createMessage","params":"{filling}"}}"#
    );
    let all = lines(format!("{first}\n{last}\r\n{call}\n{filling}\n{A}\n"));
    assert_eq!(refused(&all[0]).id, Some(Id::number(7)));
    assert_eq!(
        refused(&all[0]).why,
        Why::TooLong {
            bytes: first.len(),
            max: 1_000
        }
    );
    assert_eq!(refused(&all[1]).id, Some(Id::string("end")));
    assert_eq!(
        refused(&all[2]).method.as_deref(),
        Some("sampling/createMessage")
    );
    assert_eq!(all[3..], [noise(&"z".repeat(200), 5_000), message(A)]);
    // Cut off by the end of the stream: the id was complete.
    assert_eq!(
        refused(&lines(&first.as_bytes()[..3_000])[0]).id,
        Some(Id::number(7))
    );
}

#[test]
fn the_limit_is_exact_whatever_the_line_end() {
    let longest = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":"{}"}}"#,
        "m".repeat(1_000 - 36)
    );
    assert_eq!(longest.len(), 1_000);
    assert_eq!(
        lines(format!("{longest}\r\n{longest}\n{longest}")),
        [message(&longest), message(&longest), message(&longest)]
    );
    let longer = longest.replacen('m', "mm", 1);
    assert_eq!(longer.len(), 1_001);
    assert!(matches!(
        refused(&lines(format!("{longer}\n"))[0]).why,
        Why::TooLong {
            bytes: 1_001,
            max: 1_000
        }
    ));
}

/// F49: the last answer of a server that exits right after writing it.
#[test]
fn f49_a_last_line_without_line_feed_counts() {
    assert_eq!(lines(format!("{A}\n{B}")), [message(A), message(B)]);
    assert_eq!(
        refused(&lines(r#"{"jsonrpc":"2.0","id":9,"resu"#)[0]).id,
        Some(Id::number(9))
    );
    assert_eq!(lines("\n \r\n"), []);
}

/// F50: marks, CRLF and blank lines are fine; other bytes are garbage; a damaged answer is told to its call.
#[test]
fn f50_odd_bytes() {
    assert_eq!(
        lines(format!("\u{feff}{A}\r\n\r\n\n   \n\u{feff}{B}\r\n")),
        [message(A), message(B)]
    );
    let mut stream = b"\0\0\n\xff\xfe\n".to_vec();
    stream.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":\"\xff\"}\n\0");
    stream.extend_from_slice(A.as_bytes());
    stream.extend_from_slice(b"\n");
    let all = lines(&stream);
    assert_eq!(all.len(), 4);
    assert_eq!(all[0], noise("\u{fffd}\u{fffd}", 2));
    assert_eq!(refused(&all[2]).id, Some(Id::number(3)));
    assert!(matches!(all[3], Line::Noise { .. }));
}

/// F51: one message a line. Nothing is put together, and the waiting call is told where that is possible.
#[test]
fn f51_two_objects_on_a_line_and_one_over_many() {
    let all = lines(format!(
        "{A}{B}\n{{\n\"jsonrpc\": \"2.0\",\n\"id\": 3\n}}\n"
    ));
    assert_eq!(refused(&all[0]).id, Some(Id::number(1)));
    assert!(
        all[1..]
            .iter()
            .all(|line| matches!(line, Line::Noise { .. }))
    );
    assert_eq!(all.len(), 5);
}

#[test]
fn a_batch_comes_apart() {
    let all = lines(format!(
        "[{A},{B}, 7 ,{{\"jsonrpc\":\"2.0\",\"id\":5}},[{A}]]\n{B}\n"
    ));
    assert_eq!(all[..2], [message(A), message(B)]);
    assert_eq!(all[2], noise("7", 1));
    assert_eq!(refused(&all[3]).id, Some(Id::number(5)));
    assert!(matches!(&all[4], Line::Noise { .. }));
    assert_eq!(all[5], message(B));
}

#[test]
fn a_line_in_one_chunk_is_not_copied() {
    let chunk = Bytes::from(format!("{A}\n{B}\n"));
    let range = chunk.as_ptr_range();
    let mut decoder = LineDecoder::new(SMALL);
    decoder.push(chunk);
    for line in decoder.by_ref() {
        let Line::Message(message) = line else {
            panic!("a message")
        };
        assert!(range.contains(&message.text().as_ptr()));
    }
    decoder.buffer().put_slice(A.as_bytes());
    decoder.buffer().put_slice(b"\n");
    assert_eq!(decoder.next(), Some(message(A)));
}

/// A quiet server must not cost the memory of the largest message it ever sent.
#[test]
fn the_memory_of_a_large_line_is_let_go() {
    for limit in [16 * 1024 * 1024, 1_000] {
        let limits = Limits {
            message_bytes_max: limit,
            depth_max: 16,
        };
        let mut decoder = LineDecoder::new(limits);
        let mut lines = 0;
        for chunk in [
            vec![b'x'; 4 * 1024 * 1024],
            b"\n".to_vec(),
            A.as_bytes().to_vec(),
            b"\n".to_vec(),
        ] {
            decoder.buffer().extend_from_slice(&chunk);
            lines += decoder.by_ref().count();
        }
        assert_eq!(lines, 2);
        decoder.buffer().reserve(1);
        assert!(
            decoder.buffer().capacity() < 128 * 1024,
            "{}",
            decoder.buffer().capacity()
        );
    }
}

/// Each byte is searched once: a long line in tiny chunks would take many minutes otherwise.
#[test]
fn long_lines_in_small_chunks_are_linear() {
    let limits = Limits {
        message_bytes_max: 16 * 1024 * 1024,
        depth_max: 16,
    };
    let mut decoder = LineDecoder::new(limits);
    let started = Instant::now();
    let chunk = [b'x'; 64];
    for _ in 0..15 * 1024 * 1024 / chunk.len() {
        decoder.buffer().extend_from_slice(&chunk);
        assert_eq!(decoder.next(), None);
        assert!(started.elapsed().as_secs() < 60, "quadratic");
    }
    assert_eq!(decoder.buffered(), 15 * 1024 * 1024);
    decoder.buffer().extend_from_slice(b"\n");
    assert!(matches!(decoder.next(), Some(Line::Noise { .. })));
}

#[test]
fn written_lines_hold_no_line_break() {
    let pretty = "{\r\n  \"jsonrpc\": \"2.0\",\n  \"method\": \"a\\nb\"\n}";
    let line = into_line(Bytes::from(pretty)).into_bytes();
    assert_eq!(
        line,
        "{    \"jsonrpc\": \"2.0\",   \"method\": \"a\\nb\" }\n"
    );
}
