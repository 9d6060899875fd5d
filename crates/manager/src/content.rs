//! Which types of content an answer of a server may have (`contentTypes`).
//!
//! Looks at what the parts of a result say of themselves, without building a tree of it. A part that says nothing is text
//! if it has a text, and bytes otherwise.

use mainstay_wire::envelope::Message;
use mainstay_wire::raw;

use crate::config::Glob;

/// The type of the first part that is not among those that are allowed. Parameters of a type do not count.
pub(crate) fn refused_type(message: &Message, allowed: &[Glob]) -> Option<String> {
    let listed = |member: &str| {
        let parts = message.member(&["result", member]).and_then(raw::elements);
        parts.unwrap_or_default()
    };
    let messages = listed("messages").into_iter();
    let of_messages = messages.filter_map(|one| raw::member(one, &["content"]));
    let parts = ["content", "contents"].into_iter().flat_map(listed);
    parts.chain(of_messages).map(type_of).find(|found| {
        let bare = found.split(';').next().unwrap_or_default().trim();
        let bare = bare.to_ascii_lowercase();
        !allowed.iter().any(|glob| glob.matches(&bare))
    })
}

fn type_of(part: &str) -> String {
    let resource = raw::member(part, &["resource"]);
    let part = resource.unwrap_or(part);
    let said = raw::string_member(part, &["mimeType"]);
    let has_text = || raw::member(part, &["text"]).is_some();
    match said {
        Some(said) => said.into_owned(),
        None if has_text() => "text/plain".to_owned(),
        None => match raw::string_member(part, &["type"]).as_deref() {
            // A link has no content of its own.
            Some("resource_link") => "text/uri-list".to_owned(),
            Some(_) | None => "application/octet-stream".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(result: &str, allowed: &[&str]) -> Option<String> {
        let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{result}}}");
        let limits = mainstay_wire::envelope::Limits {
            message_bytes_max: usize::MAX,
            depth_max: 64,
        };
        let message = Message::parse(text.into(), &limits).unwrap();
        let allowed: Vec<Glob> = allowed.iter().map(|glob| Glob::new(*glob)).collect();
        refused_type(&message, &allowed)
    }

    #[test]
    fn every_part_is_looked_at_wherever_it_is() {
        let allowed = ["text/*", "application/json"];
        for (result, found) in [
            (r#"{"content":[{"type":"text","text":"x"}]}"#, None),
            (
                r#"{"content":[{"type":"text","text":"x"},{"type":"image","data":"","mimeType":"image/png"}]}"#,
                Some("image/png"),
            ),
            (
                r#"{"content":[{"type":"resource","resource":{"uri":"x:","mimeType":"text/html;profile=mcp-app","text":""}}]}"#,
                None,
            ),
            (
                r#"{"contents":[{"uri":"x:","mimeType":"APPLICATION/JSON; charset=utf-8","text":"{}"}]}"#,
                None,
            ),
            (
                r#"{"contents":[{"uri":"x:","blob":""}]}"#,
                Some("application/octet-stream"),
            ),
            (
                r#"{"contents":[{"uri":"x:","mimeType":"application/x-sh","text":""}]}"#,
                Some("application/x-sh"),
            ),
            (
                r#"{"messages":[{"role":"user","content":{"type":"audio","mimeType":"audio/wav","data":""}}]}"#,
                Some("audio/wav"),
            ),
            (r#"{"tools":[]}"#, None),
        ] {
            assert_eq!(refused(result, &allowed).as_deref(), found, "{result}");
        }
    }
}
