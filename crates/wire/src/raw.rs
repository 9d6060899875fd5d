//! Looking into raw JSON text without building a tree.
//!
//! Everything here borrows from the text it is given. If a key occurs twice the last one counts, as it does for most
//! JSON readers. Text that is not valid JSON yields `None` or an empty list, never a panic.

use std::borrow::Cow;

use crate::scan::{Member, Scanner, inner_of};
use crate::splice::json_string;

/// The raw text of the member at `path` below `text`; an empty path is the text itself.
#[must_use]
pub fn member<'t>(text: &'t str, path: &[&str]) -> Option<&'t str> {
    let mut here = text.trim_ascii();
    for name in path {
        let mut found = None;
        walk(here, |member| {
            if member.is(here, name) {
                found = Some(member.value);
            }
        })?;
        here = found?.of(here);
    }
    Some(here)
}

/// The decoded string member at `path`; `None` when absent or no string.
#[must_use]
pub fn string_member<'t>(text: &'t str, path: &[&str]) -> Option<Cow<'t, str>> {
    member(text, path).and_then(string)
}

/// All members of an object in the order they were written: decoded key, raw value. Empty if `text` is no object.
#[must_use]
pub fn members(text: &str) -> Vec<(Cow<'_, str>, &str)> {
    let mut all = Vec::new();
    let complete = walk(text, |member| {
        let quoted = member.key.of(text);
        all.push((
            string(quoted).unwrap_or_else(|| inner_of(quoted).into()),
            member.value.of(text),
        ));
    });
    if complete.is_some() { all } else { Vec::new() }
}

/// All elements of an array as raw text. `None` if `text` is no array.
#[must_use]
pub fn elements(text: &str) -> Option<Vec<&str>> {
    let mut all = Vec::new();
    let mut scanner = Scanner::new(text, usize::MAX).ok()?;
    scanner
        .array(0, |scanner| {
            all.push(scanner.value(1)?.of(text));
            Ok(())
        })
        .ok()?;
    scanner.expect_end().ok()?;
    Some(all)
}

/// Decodes a JSON string; borrows when there is nothing to decode. `None` if `raw` is no string or holds half a
/// surrogate pair.
#[must_use]
pub fn string(raw: &str) -> Option<Cow<'_, str>> {
    let raw = raw.trim_ascii();
    if raw.len() < 2 || !raw.starts_with('"') || !raw.ends_with('"') {
        return None;
    }
    let inner = inner_of(raw);
    if memchr::memchr2(b'\\', b'"', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw).ok().map(Cow::Owned)
}

/// Whether `raw` starts an object. Meant for text that is known to be valid JSON.
#[must_use]
pub fn is_object(raw: &str) -> bool {
    raw.trim_ascii_start().starts_with('{')
}

/// Whether `text` is exactly one valid JSON value (any nesting).
#[must_use]
pub fn is_json(text: &str) -> bool {
    let Ok(mut scanner) = Scanner::new(text, usize::MAX) else {
        return false;
    };
    scanner.value(0).is_ok() && scanner.expect_end().is_ok()
}

/// A JSON value in one form, whatever way it was written: without white space, members in the order of their keys, strings
/// escaped in one way. Numbers keep their text: `1` and `1.0` are two things to some readers, and none is rounded. Of two
/// members with one key both stay, in the order in which they came. `None` if `text` is no JSON value. As deep as the
/// text: whoever takes it from outside limits that first.
#[must_use]
pub fn canonical(text: &str) -> Option<String> {
    if !is_json(text) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    write_canonical(text, &mut out);
    Some(out)
}

/// The members of an object as [`canonical`] writes them.
#[must_use]
pub fn canonical_members(mut members: Vec<(Cow<'_, str>, &str)>) -> String {
    let mut out = String::new();
    write_members(&mut members, &mut out);
    out
}

fn write_canonical(text: &str, out: &mut String) {
    let text = text.trim_ascii();
    match text.as_bytes().first() {
        Some(b'{') => write_members(&mut members(text), out),
        Some(b'[') => {
            out.push('[');
            for (index, element) in elements(text).unwrap_or_default().into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(element, out);
            }
            out.push(']');
        }
        Some(b'"') => match string(text) {
            Some(plain) => out.push_str(&json_string(&plain)),
            None => out.push_str(text),
        },
        Some(_) | None => out.push_str(text),
    }
}

fn write_members(members: &mut [(Cow<'_, str>, &str)], out: &mut String) {
    // Stable, so that two members with one key stay in order.
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    out.push('{');
    for (index, (key, value)) in members.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&json_string(key));
        out.push(':');
        write_canonical(value, out);
    }
    out.push('}');
}

/// Calls `on` for every member of the object that `text` is.
pub(crate) fn walk(text: &str, mut on: impl FnMut(Member)) -> Option<()> {
    let mut scanner = Scanner::new(text, usize::MAX).ok()?;
    scanner
        .object(0, |scanner, key| {
            let value = scanner.value(1)?;
            on(Member { key, value });
            Ok(())
        })
        .ok()?;
    scanner.expect_end().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_nested_members_and_the_last_of_two() {
        let text = r#" {"a":{"b":[1],"\u0062":2},"c":"x\ty"} "#;
        assert_eq!(member(text, &["a", "b"]), Some("2"));
        assert_eq!(string_member(text, &["c"]).as_deref(), Some("x\ty"));
        assert_eq!(member(text, &["a", "z"]), None);
        assert_eq!(member(text, &["c", "z"]), None);
        assert_eq!(member("{\"a\":1", &["a"]), None);
    }

    #[test]
    fn one_form_for_all_ways_to_write_a_value() {
        for (text, form) in [
            (
                r#" { "b" : [ 1 , 1.10 ,1e400] , "\u0061":"\u00e9" } "#,
                r#"{"a":"é","b":[1,1.10,1e400]}"#,
            ),
            (r#"{"a":2,"a":1}"#, r#"{"a":2,"a":1}"#),
            ("12345678901234567890", "12345678901234567890"),
            (r#""\ud800""#, r#""\ud800""#),
            ("[]", "[]"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(form));
            assert_eq!(canonical(form).as_deref(), Some(form), "it is its own form");
        }
        assert_eq!(canonical("{\"a\":1"), None);
    }

    #[test]
    fn lists_members_and_elements() {
        assert_eq!(
            members(r#"{"a":1, "b" : [2]}"#),
            [("a".into(), "1"), ("b".into(), "[2]")]
        );
        assert!(members(r#"{"a":1,}"#).is_empty());
        assert_eq!(elements("[1, {\"a\":2} ]"), Some(vec!["1", "{\"a\":2}"]));
        assert_eq!(elements("{}"), None);
        assert!(is_json(" [1] ") && !is_json("[1] 2"));
    }
}
