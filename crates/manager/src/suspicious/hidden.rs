//! Characters that nobody sees: invisible, bidirectional, tag and control characters in the strings of a JSON text.
//!
//! What is part of ordinary writing is not among them: joiners between the letters of scripts that need them and within
//! emoji, direction marks in text that has letters from right to left, single variation selectors, line breaks and tabs.
//! Works on the raw text, string by string, so that what is not touched stays byte for byte.

use std::borrow::Cow;
use std::ops::Range;

use mainstay_wire::raw;
use mainstay_wire::splice::json_string;

use super::{Suspicion, SuspicionKind};

/// Members whose strings are words for people and models: without what nobody sees they still mean the same, and calls do
/// not depend on them.
const WORDS: [&str; 3] = ["description", "title", "$comment"];

/// One string of a JSON text.
struct Text<'t> {
    /// Where it lies, with its quotes.
    at: Range<usize>,
    /// The member that it is the value of, or is in a list of.
    key: Option<Cow<'t, str>>,
    /// Whether it is the name of a member itself.
    is_key: bool,
}

/// What one item hides: the member, and its text with everything escaped that nobody sees.
pub(super) fn of_item(word: &str, name: &str, item: &str) -> Vec<Suspicion> {
    let mut found = Vec::new();
    for text in suspects(item) {
        let Some(shown) = shown(&item[text.at]) else {
            continue;
        };
        let member = text.key.as_deref().unwrap_or("text");
        let member = if text.is_key {
            "name of a member"
        } else {
            member
        };
        let place = format!("{word} {}: {}", escaped(name), escaped(member));
        found.push(Suspicion::new(SuspicionKind::HiddenText, place, &shown));
    }
    found
}

/// A JSON string with everything escaped that nobody sees; `None` if all of it can be seen. What tag characters spell is
/// spelled out.
pub(super) fn shown(json: &str) -> Option<String> {
    let text = raw::string(json)?;
    has_any(&text).then(|| {
        let spelled = spelled(&text);
        let said = if spelled.is_empty() {
            String::new()
        } else {
            format!(" (it spells: {})", escaped(&spelled))
        };
        escaped(&text) + &said
    })
}

/// An item without the characters that nobody sees: only in words, and everything else byte for byte. `None`: there are
/// none.
///
/// # Errors
/// The member where they are part of what calls are made of, such as a name: it cannot be changed without changing what the
/// server understands.
pub(crate) fn stripped(item: &str) -> Result<Option<String>, String> {
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for text in suspects(item) {
        let Some(value) = raw::string(&item[text.at.clone()]) else {
            continue;
        };
        if !has_any(&value) {
            continue;
        }
        let key = text.key.as_deref().unwrap_or_default();
        if text.is_key || !WORDS.contains(&key) {
            return Err(escaped(if text.is_key { &value } else { key }));
        }
        edits.push((text.at, json_string(&visible(&value))));
    }
    if edits.is_empty() {
        return Ok(None);
    }
    let mut clean = String::with_capacity(item.len());
    let mut from = 0;
    for (at, new) in edits {
        clean.push_str(&item[from..at.start]);
        clean.push_str(&new);
        from = at.end;
    }
    clean.push_str(&item[from..]);
    Ok(Some(clean))
}

/// A text without the characters that nobody sees.
pub(crate) fn visible(text: &str) -> String {
    let flags = flags(text);
    let seen = text.chars().zip(flags).filter(|(_, hidden)| !hidden);
    seen.map(|(c, _)| c).collect()
}

/// Whether a text has characters that nobody sees.
pub(crate) fn has_any(text: &str) -> bool {
    // Nearly every text is plain ASCII.
    let plain = |byte: u8| (b' '..0x7f).contains(&byte) || matches!(byte, b'\n' | b'\r' | b'\t');
    !text.bytes().all(plain) && flags(text).contains(&true)
}

/// Everything that nobody sees as `\u{…}`; backslashes stay single, because people read this and nobody parses it.
pub(crate) fn escaped(text: &str) -> String {
    let flags = flags(text);
    let mut shown = String::with_capacity(text.len());
    for (c, hidden) in text.chars().zip(flags) {
        if hidden || c.is_control() {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// What tag characters and variation selectors carry when they are used as letters.
fn spelled(text: &str) -> String {
    let tag = |c: char| match u32::from(c) {
        code @ 0xe0020..=0xe007e => char::from_u32(code - 0xe0000),
        _other => None,
    };
    text.chars().filter_map(tag).collect()
}

/// For each character, whether nobody sees it.
fn flags(text: &str) -> Vec<bool> {
    let chars: Vec<char> = text.chars().collect();
    let has_rtl = chars.iter().any(|c| is_rtl(*c));
    let flag = |(at, c): (usize, &char)| {
        let before = at.checked_sub(1).and_then(|at| chars.get(at)).copied();
        let after = chars.get(at + 1).copied();
        match *c {
            '\n' | '\r' | '\t' => false,
            c if c.is_control() => true,
            // Joiners: between two characters of scripts or pictures that are joined.
            '\u{200c}' | '\u{200d}' => {
                let joins = |c: Option<char>| c.is_some_and(|c| !c.is_ascii() && !is_unseen(c));
                let selected = |c: Option<char>| c.is_some_and(is_selector);
                !((joins(before) || selected(before)) && joins(after))
            }
            // Direction marks.
            '\u{200e}' | '\u{200f}' | '\u{61c}' => !has_rtl,
            // Selectors choose the look of the character before. Two in a row choose nothing.
            c if is_selector(c) => before.is_none_or(|c| is_selector(c) || c.is_whitespace()),
            c => is_unseen(c),
        }
    };
    chars.iter().enumerate().map(flag).collect()
}

fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

fn is_rtl(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
        && c != '\u{61c}'
}

/// Characters without a look of their own, and those that change the order of others.
fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// The strings that may hide something: those that are not plain. An item has been parsed before, so it is JSON.
fn suspects(item: &str) -> Vec<Text<'_>> {
    let bytes = item.as_bytes();
    if bytes.is_ascii() && !item.contains("\\u") && !item.contains("\\b") && !item.contains("\\f") {
        return Vec::new();
    }
    let mut found = Vec::new();
    // The member that each open object or list is, or is in, the value of.
    let mut open: Vec<Option<Cow<'_, str>>> = Vec::new();
    let mut key: Option<Cow<'_, str>> = None;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = end_of_string(bytes, at);
                let is_key = item[end..].trim_start().starts_with(':');
                let text = &item[at..end];
                if is_key {
                    key = raw::string(text);
                }
                if !text.is_ascii() || text.contains('\\') {
                    found.push(Text {
                        at: at..end,
                        key: key.clone(),
                        is_key,
                    });
                }
                at = end;
                continue;
            }
            b'{' | b'[' => open.push(key.clone()),
            b'}' | b']' => key = open.pop().flatten(),
            b',' => {
                key = open
                    .last()
                    .cloned()
                    .flatten()
                    .filter(|_| is_in_list(bytes, at, item))
            }
            _other => {}
        }
        at += 1;
    }
    found
}

/// Whether what follows a comma is one more element of a list, rather than a member of its own name.
fn is_in_list(bytes: &[u8], at: usize, item: &str) -> bool {
    let rest = &item[at + 1..];
    let blank = rest.len() - rest.trim_start().len();
    let next = at + 1 + blank;
    bytes.get(next) != Some(&b'"') || {
        let end = end_of_string(bytes, next);
        !item[end..].trim_start().starts_with(':')
    }
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _other => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f252_every_kind_of_unseen_character_is_noticed() {
        for c in [
            '\0',
            '\u{7}',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{180e}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2063}',
            '\u{2066}',
            '\u{2069}',
            '\u{3164}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fffa}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e007f}',
        ] {
            let text = format!("read{c}me");
            assert!(has_any(&text), "{:?}", c);
            assert_eq!(visible(&text), "readme", "{:?}", c);
            let shown = escaped(&text);
            assert!(
                shown.is_ascii() && !shown.chars().any(char::is_control),
                "{shown}"
            );
        }
        assert!(has_any("x\u{fe01}\u{fe02}"), "data in selectors");
        assert!(has_any("x\u{e0100}\u{e0101}"), "data in selectors");
    }

    #[test]
    fn what_is_ordinary_writing_is_left_alone() {
        for text in [
            "plain, with\ttabs\r\nand lines",
            "naïve café — “quotes” … ∞",
            "❤\u{fe0f} and 👩\u{200d}👩\u{200d}👧 and 🏳\u{fe0f}\u{200d}🌈",
            "می\u{200c}خواهم",
            "क\u{94d}\u{200d}ष",
            "שלום (x)\u{200f}.",
            "葛\u{e0100}城",
            "日本語 한국어",
        ] {
            assert!(!has_any(text), "{}", text.escape_unicode());
            assert_eq!(visible(text), text);
        }
    }

    #[test]
    fn f252_words_are_stripped_and_everything_else_stays_byte_for_byte() {
        let item = "{ \"name\" : \"a\",\"description\":\"do\\u200b this\u{e0041}\", \"x\":[1,2.0,\"\\u0041\"],\n \"inputSchema\":{\"properties\":{\"p\":{\"description\":\"\u{202e}b\",\"enum\":[\"ü\"]}}}}";
        let clean = stripped(item).unwrap().unwrap();
        assert_eq!(
            clean,
            "{ \"name\" : \"a\",\"description\":\"do this\", \"x\":[1,2.0,\"\\u0041\"],\n \"inputSchema\":{\"properties\":{\"p\":{\"description\":\"b\",\"enum\":[\"ü\"]}}}}"
        );
        assert_eq!(stripped(&clean), Ok(None));
        let found = of_item("tool", "a", item);
        let places: Vec<&str> = found.iter().map(|one| one.place.as_str()).collect();
        assert_eq!(places, ["tool a: description", "tool a: description"]);
        assert_eq!(found[0].text, "do\\u{200b} this\\u{e0041} (it spells: A)");
    }

    #[test]
    fn what_calls_are_made_of_is_never_changed() {
        for (item, member) in [
            ("{\"name\":\"a\u{200b}b\"}", "name"),
            (
                "{\"name\":\"a\",\"inputSchema\":{\"properties\":{\"p\u{200b}\":{}}}}",
                "p\\u{200b}",
            ),
            (
                "{\"name\":\"a\",\"inputSchema\":{\"properties\":{\"p\":{\"enum\":[\"a\",\"b\u{200b}\"]}}}}",
                "enum",
            ),
            ("{\"uri\":\"ui://\\u202ex\",\"name\":\"n\"}", "uri"),
            (
                "{\"name\":\"a\",\"inputSchema\":{\"required\":[\"x\",\"\u{feff}y\"],\"title\":\"t\"}}",
                "required",
            ),
        ] {
            assert_eq!(stripped(item), Err(member.to_owned()), "{item}");
        }
    }
}
