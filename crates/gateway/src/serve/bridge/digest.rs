//! What a call asks for, as one fingerprint: the same for every way to write the same request.

use mainstay_wire::{Message, json_string, raw};
use ring::digest::{Context, SHA256};

/// Members of `params` that differ between a call and its retry.
const NOT_PART: [&str; 3] = ["_meta", "inputResponses", "requestState"];

/// A fingerprint of the method and the parameters of a request, in hexadecimal digits.
pub(crate) fn of_request(message: &Message) -> String {
    let mut text = String::new();
    text.push_str(&json_string(message.method().unwrap_or_default()));
    if let Some(params) = message.params() {
        let mut members = raw::members(params);
        members.retain(|(key, _)| !NOT_PART.contains(&&**key));
        text.push_str(&raw::canonical_members(members));
    }
    let mut context = Context::new(&SHA256);
    context.update(text.as_bytes());
    let digest = context.finish();
    let mut hex = String::with_capacity(64);
    for byte in digest.as_ref() {
        hex.push_str(&format!("{byte:02x}"));
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use mainstay_wire::Limits;

    fn digest(params: &str) -> String {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        of_request(&Message::parse(Bytes::from(text), &Limits::default()).unwrap())
    }

    #[test]
    fn the_same_request_has_the_same_fingerprint_and_no_other_has() {
        let first = digest(r#"{"name":"t","arguments":{"a":[1,"ä"],"b":{}}}"#);
        for same in [
            r#"{ "arguments" : { "b" : { } , "a":[1, "\u00e4"] }, "name":"\u0074"}"#,
            r#"{"name":"t","arguments":{"a":[1,"ä"],"b":{}},"_meta":{"x":1},"inputResponses":{},"requestState":"s"}"#,
        ] {
            assert_eq!(digest(same), first, "{same}");
        }
        for other in [
            r#"{"name":"u","arguments":{"a":[1,"ä"],"b":{}}}"#,
            r#"{"name":"t","arguments":{"a":[1,"a"],"b":{}}}"#,
            r#"{"name":"t","arguments":{"a":["ä",1],"b":{}}}"#,
            r#"{"name":"t","arguments":{"a":[1,"ä"],"b":[]}}"#,
            r#"{"name":"t","arguments":{"a":[1,"ä"]}}"#,
            r#"{"name":"t","arguments":{"a":[1,"ä"],"b":{}},"more":1}"#,
            r#"{"name":"t"}"#,
            "{}",
        ] {
            assert_ne!(digest(other), first, "{other}");
        }
        let big = |last: &str| {
            digest(&format!(
                "{{\"arguments\":{{\"n\":1234567890123456789012345{last}}}}}"
            ))
        };
        assert_ne!(big("1"), big("2"), "no number is rounded");
    }
}
