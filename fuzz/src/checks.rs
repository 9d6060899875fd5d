//! What must hold for any bytes whatsoever.
//!
//! Plain functions that panic when something does not hold. libFuzzer calls them with what it invents; the tests of
//! `mainstay-wire` call them with the seeds in `fuzz/seeds`, so that they keep compiling and keep passing.

use bytes::Bytes;
use mainstay_wire::{
    Limits, Line, LineDecoder, Message, SpliceError, SseDecoder, SseItem, Why, raw, recover_id,
};
use serde_json::Value;
use serde_json::value::RawValue;

/// Small enough that a fuzzer reaches them.
const LIMITS: Limits = Limits {
    message_bytes_max: 4_096,
    depth_max: 24,
};

/// Parsing accepts nothing that is not JSON, refuses JSON only for a reason that it can name, and what it says about
/// a message agrees with an independent reader.
pub fn envelope(data: &[u8]) {
    let text = trimmed(data);
    let independent: Result<&RawValue, _> = serde_json::from_slice(text);
    match Message::parse(Bytes::copy_from_slice(data), &LIMITS) {
        Ok(message) => {
            assert!(independent.is_ok(), "accepted what is not JSON");
            assert_eq!(
                message.text(),
                text,
                "the text of a message is the text that came"
            );
            agrees(&message);
            // Parsing is stable: a message is a message again, with the same parts.
            let again =
                Message::parse(message.text().clone(), &LIMITS).expect("a message parses again");
            assert_eq!(
                (again.kind(), again.id(), again.method()),
                (message.kind(), message.id(), message.method())
            );
        }
        Err(refused) => {
            if let Why::NotJson { at } = refused.why {
                assert!(at <= text.len());
                assert!(independent.is_err(), "refused as not JSON what is JSON");
            }
            if let (Some(id), Ok(Value::Object(members))) =
                (&refused.id, serde_json::from_slice(text))
            {
                let theirs = members.get("id").expect("a recovered id exists");
                assert_eq!(
                    serde_json::from_str::<Value>(id.raw()).ok().as_ref(),
                    Some(theirs)
                );
            }
            let _ = refused.to_string();
        }
    }
    // Any prefix yields the whole id or none, never half of one.
    if let Some(whole) = recover_id(text) {
        for end in [text.len() / 3, text.len() / 2, text.len().saturating_sub(1)] {
            if let Some(early) = recover_id(&text[..end]) {
                assert_eq!(early, whole);
            }
        }
    }
}

fn agrees(message: &Message) {
    let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(message.text()) else {
        // Half a surrogate pair or a number beyond any float: valid JSON that this reader cannot hold.
        return;
    };
    let same = |ours: Option<&str>, key: &str| {
        let ours = ours.and_then(|raw| serde_json::from_str::<Value>(raw).ok());
        assert_eq!(ours.as_ref(), members.get(key), "member {key}");
    };
    same(
        message.params(),
        if message.method().is_some() {
            "params"
        } else {
            "absent"
        },
    );
    same(message.result(), "result");
    same(message.error(), "error");
    assert_eq!(
        message.method(),
        members.get("method").and_then(Value::as_str)
    );
    for (key, value) in &members {
        same(message.member(&[key]), key);
        if let Value::Object(inner) = value {
            for (name, value) in inner {
                let ours = message
                    .member(&[key, name])
                    .and_then(|raw| serde_json::from_str::<Value>(raw).ok());
                assert_eq!(ours.as_ref(), Some(value), "member {key}.{name}");
            }
        }
    }
}

/// Whatever the chunks, the lines are the same; every line is accounted for; nothing is kept beyond the limits.
pub fn ndjson(data: &[u8]) {
    let (sizes, stream) = chunking(data);
    let whole = lines(stream, &[stream.len()]);
    assert_eq!(lines(stream, &[1]), whole, "single bytes");
    assert_eq!(lines(stream, &sizes), whole, "chunks of {sizes:?}");
    for line in whole {
        match line {
            Line::Message(message) => assert!(!message.text().contains(&b'\n')),
            Line::Refused(refused) => assert!(
                refused.jsonrpc,
                "noise is never refused: nobody is waiting for it"
            ),
            Line::Noise { sample, .. } => assert!(!sample.chars().any(char::is_control)),
        }
    }
}

fn lines(stream: &[u8], sizes: &[usize]) -> Vec<Line> {
    let mut decoder = LineDecoder::new(LIMITS);
    let mut all = Vec::new();
    for chunk in chunks(stream, sizes) {
        decoder.push(Bytes::copy_from_slice(chunk));
        all.extend(decoder.by_ref());
        assert!(decoder.buffered() <= LIMITS.message_bytes_max + 1);
    }
    while let Some(line) = decoder.finish() {
        all.push(line);
    }
    all
}

/// Whatever the chunks, the events are the same.
pub fn sse(data: &[u8]) {
    let (sizes, stream) = chunking(data);
    let whole = events(stream, &[stream.len()]);
    assert_eq!(events(stream, &[1]), whole, "single bytes");
    assert_eq!(events(stream, &sizes), whole, "chunks of {sizes:?}");
    for item in whole {
        match item {
            SseItem::Event { data, id, .. } => {
                assert!(data.len() <= LIMITS.message_bytes_max);
                assert!(!data.contains(&b'\r'));
                assert!(!id.is_some_and(|id| id.contains(['\n', '\r', '\0'])));
            }
            SseItem::TooLong {
                prefix, refused, ..
            } => {
                assert!(prefix.len() <= 4_096);
                assert!(matches!(refused.why, Why::TooLong { .. }));
            }
            SseItem::Comment => {}
        }
    }
}

fn events(stream: &[u8], sizes: &[usize]) -> Vec<SseItem> {
    let mut decoder = SseDecoder::new(LIMITS.message_bytes_max);
    let mut all = Vec::new();
    for chunk in chunks(stream, sizes) {
        decoder.push(Bytes::copy_from_slice(chunk));
        all.extend(decoder.by_ref());
    }
    while let Some(item) = decoder.finish() {
        all.push(item);
    }
    all
}

/// An edit changes what it says and nothing else. The first line of the input names the edit, the rest is the message:
/// `set a.b 1`, `remove a.b`.
pub fn splice(data: &[u8]) {
    let Some(at) = data.iter().position(|&byte| byte == b'\n') else {
        return;
    };
    let Ok(line) = std::str::from_utf8(&data[..at]) else {
        return;
    };
    let mut words = line.splitn(3, ' ');
    let (Some(verb), Some(path)) = (words.next(), words.next()) else {
        return;
    };
    let path: Vec<&str> = path.split('.').collect();
    if path.len() > 6 {
        return;
    }
    let value = if verb == "remove" {
        None
    } else {
        Some(words.next().unwrap_or("null"))
    };
    let Ok(message) = Message::parse(Bytes::copy_from_slice(&data[at + 1..]), &LIMITS) else {
        return;
    };
    edited(&message, &path, value);
}

/// Makes one edit and compares the outcome with the same edit of a tree.
pub fn edited(message: &Message, path: &[&str], value: Option<&str>) {
    let editor = match value {
        Some(raw) => message.edit().set(path, raw),
        None => message.edit().remove(path),
    };
    let parts = match editor.finish() {
        Ok(parts) => parts,
        Err(SpliceError::NotJson { .. }) => {
            assert!(value.is_some_and(|raw| serde_json::from_str::<&RawValue>(raw).is_err()));
            return;
        }
        Err(SpliceError::NotAnObject { .. } | SpliceError::DuplicateKey { .. }) => return,
        Err(error @ (SpliceError::Conflict { .. } | SpliceError::Refused(_))) => panic!("{error}"),
    };
    let before = message.as_str();
    let length = parts.len();
    let after = parts.into_bytes();
    assert_eq!(after.len(), length);
    let after = std::str::from_utf8(&after).expect("an edit keeps the text UTF-8");
    assert!(raw::is_json(after), "an edit keeps the text JSON: {after}");
    if let (Some(raw), Some(old)) = (value, message.member(path)) {
        // Replacing touches exactly the bytes of the old value.
        let start = old.as_ptr().addr() - before.as_ptr().addr();
        assert_eq!(&after[..start], &before[..start]);
        assert_eq!(&after[start..start + raw.len()], raw);
        assert_eq!(&after[start + raw.len()..], &before[start + old.len()..]);
    }
    match value {
        Some(raw) => assert_eq!(raw::member(after, path), Some(raw.trim_ascii())),
        None => assert_eq!(raw::member(after, path), None),
    }
    let (Ok(mut tree), Ok(outcome)) = (
        serde_json::from_str::<Value>(before),
        serde_json::from_str::<Value>(after),
    ) else {
        return;
    };
    match value {
        Some(raw) => set(
            &mut tree,
            path,
            serde_json::from_str(raw).expect("it was valid before"),
        ),
        None => remove(&mut tree, path),
    }
    assert_eq!(outcome, tree);
}

fn set(tree: &mut Value, path: &[&str], value: Value) {
    let mut here = tree;
    for name in path {
        if here.is_null() {
            *here = Value::Object(serde_json::Map::new());
        }
        here = here
            .as_object_mut()
            .expect("not an object")
            .entry(*name)
            .or_insert(Value::Null);
    }
    *here = value;
}

fn remove(tree: &mut Value, path: &[&str]) {
    let Some((last, way)) = path.split_last() else {
        return;
    };
    let mut here = tree;
    for name in way {
        match here.get_mut(name) {
            Some(next) => here = next,
            None => return,
        }
    }
    if let Value::Object(members) = here {
        members.remove(*last);
    }
}

/// The first bytes choose how the rest is cut.
fn chunking(data: &[u8]) -> (Vec<usize>, &[u8]) {
    let (head, stream) = data.split_at(data.len().min(3));
    (
        head.iter()
            .map(|&byte| usize::from(byte) % 61 + 1)
            .chain([7])
            .collect(),
        stream,
    )
}

fn chunks<'d>(mut stream: &'d [u8], sizes: &[usize]) -> Vec<&'d [u8]> {
    let mut all = Vec::new();
    let mut sizes = sizes.iter().cycle();
    while !stream.is_empty() {
        let size = sizes.next().map_or(1, |&size| size.clamp(1, stream.len()));
        let (chunk, rest) = stream.split_at(size);
        all.push(chunk);
        stream = rest;
    }
    all
}

fn trimmed(data: &[u8]) -> &[u8] {
    let text = data.trim_ascii();
    text.strip_prefix(b"\xEF\xBB\xBF")
        .map_or(text, <[u8]>::trim_ascii_start)
}
