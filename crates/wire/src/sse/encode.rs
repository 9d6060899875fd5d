//! Writing events.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::splice::Parts;

/// One event whose data is JSON, or any text without line breaks.
///
/// Line breaks inside the data become spaces, which in JSON mean the same; in `event` and `id` they are dropped, so that
/// nothing can smuggle in a field. With empty data this is a priming event.
#[must_use]
pub fn encode_event(
    event: Option<&str>,
    id: Option<&str>,
    retry_ms: Option<u64>,
    data: impl Into<Parts>,
) -> Parts {
    let mut head = String::new();
    for (name, value) in [("event", event), ("id", id)] {
        if let Some(value) = value {
            let value: String = value
                .chars()
                .filter(|c| !matches!(c, '\n' | '\r' | '\0'))
                .collect();
            head.push_str(name);
            head.push_str(": ");
            head.push_str(&value);
            head.push('\n');
        }
    }
    if let Some(ms) = retry_ms {
        // Writing into a String cannot fail.
        let _ = writeln!(head, "retry: {ms}");
    }
    head.push_str("data: ");
    let mut parts = Parts::from(head);
    parts.append(data.into().without_line_breaks());
    parts.push(Bytes::from_static(b"\n\n"));
    parts
}

/// A comment line: keeps a quiet stream from being cut by whoever is in between (F123).
#[must_use]
pub fn encode_comment(text: &str) -> Bytes {
    let text: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    Bytes::from(format!(": {text}\n\n"))
}
