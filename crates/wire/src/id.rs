//! Request ids, kept exactly as they were written.
//!
//! A peer's id goes back to it byte for byte. Our own ids are numbers, and servers are known to return them as `"1"` or
//! `1.0` (F58): [`Id::as_u64`] reads those as the number that we sent and refuses whatever is ambiguous.

use std::fmt;
use std::hash::{Hash, Hasher};

use smol_str::{SmolStr, format_smolstr};

use crate::scan::{Scanner, inner_of};
use crate::splice::json_string;

/// Longest id (raw JSON text, bytes) that is accepted; ids are kept apart from their message and must stay small.
pub const ID_BYTES_MAX: usize = 1_024;

/// A JSON-RPC request id: a string or a number, never null.
///
/// Equality is strict: `1`, `1.0` and `"1"` are three different ids, as they may be for a client that chose them. Two
/// spellings of the same string (`"a"` and `"\u0061"`) are equal. To correlate an answer with one of *our* requests,
/// compare [`Id::as_u64`] instead. Up to 23 bytes are stored without an allocation, and clones are cheap.
#[derive(Clone)]
pub struct Id {
    raw: SmolStr,
}

impl Id {
    /// A numeric id.
    #[must_use]
    pub fn number(number: u64) -> Self {
        Self {
            raw: format_smolstr!("{number}"),
        }
    }

    /// A string id; `text` is the plain string, it is quoted and escaped here.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self {
            raw: json_string(text).into(),
        }
    }

    /// Takes the raw JSON text of an id. `None` unless it is one string or number of at most [`ID_BYTES_MAX`] bytes.
    #[must_use]
    pub fn from_raw(raw: &str) -> Option<Self> {
        let mut scanner = Scanner::new(raw, 0).ok()?;
        scanner.value(0).ok()?;
        scanner.expect_end().ok()?;
        Self::from_scanned(raw.trim_ascii())
    }

    /// The same for text that a scan already found to be one valid JSON value.
    pub(crate) fn from_scanned(raw: &str) -> Option<Self> {
        let first = raw.as_bytes().first()?;
        let fits = raw.len() <= ID_BYTES_MAX && matches!(first, b'"' | b'-' | b'0'..=b'9');
        // A string that cannot be decoded (half a surrogate pair) could not be compared with anything.
        let decodes = !raw.contains('\\') || serde_json::from_str::<String>(raw).is_ok();
        (fits && decodes).then(|| Self { raw: raw.into() })
    }

    /// The JSON text as it was written: `1`, `1.0`, `"1"`.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// Whether the id is a JSON string (a subscription id must keep its type).
    #[must_use]
    pub fn is_string(&self) -> bool {
        self.raw.starts_with('"')
    }

    /// The whole number that this id stands for, whether written `1`, `1.0`, `1e0`, `"1"` or `"1.0"` (F58).
    ///
    /// `None` for everything else: fractions, negative numbers, leading zeros or spaces in a string, more than 64 bit.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        let text = if self.is_string() {
            inner_of(&self.raw)
        } else {
            &self.raw
        };
        if let Ok(number) = text.parse::<u64>() {
            // `parse` also takes `+1` and `01`, which no number of ours ever looked like.
            let plain = text == "0"
                || text
                    .as_bytes()
                    .first()
                    .is_some_and(|byte| matches!(byte, b'1'..=b'9'));
            return plain.then_some(number);
        }
        whole_number(text)
    }

    fn decoded(&self) -> Option<String> {
        self.raw
            .contains('\\')
            .then(|| serde_json::from_str(&self.raw).ok())
            .flatten()
    }
}

/// Reads `digits[.digits][e[+|-]digits]` exactly; `None` if it is no JSON number, negative, fractional or beyond 64 bit.
fn whole_number(text: &str) -> Option<u64> {
    let mut scanner = Scanner::new(text, 0).ok()?;
    if !matches!(scanner.peek(), Some(b'0'..=b'9')) {
        return None;
    }
    scanner.value(0).ok()?;
    if scanner.pos() != text.len() {
        return None;
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits: String = [whole, fraction].concat();
    let mut scale = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    while scale < 0 {
        match digits.pop() {
            Some('0') => scale += 1,
            None if digits.is_empty() => return None,
            Some(_) | None => return None,
        }
    }
    if scale > 20 {
        return None;
    }
    for _ in 0..scale {
        digits.push('0');
    }
    if digits.is_empty() {
        Some(0)
    } else {
        digits.parse().ok()
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        if self.raw == other.raw {
            return true;
        }
        if !self.raw.contains('\\') && !other.raw.contains('\\') {
            return false;
        }
        let plain = |id: &Self| id.decoded().unwrap_or_else(|| inner_of(&id.raw).to_owned());
        self.is_string() && other.is_string() && plain(self) == plain(other)
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.is_string().hash(state);
        match self.decoded() {
            Some(text) => text.hash(state),
            None if self.is_string() => inner_of(&self.raw).hash(state),
            None => self.raw.as_str().hash(state),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raw)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.raw)
    }
}

impl From<u64> for Id {
    fn from(number: u64) -> Self {
        Self::number(number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn id(raw: &str) -> Id {
        Id::from_raw(raw).unwrap_or_else(|| panic!("no id: {raw}"))
    }

    #[test]
    fn f58_numeric_equivalents_are_accepted_and_ambiguous_ones_refused() {
        for same in [
            "1", "1.0", "1.000", "1e0", "10e-1", "0.1E1", "\"1\"", "\"1.0\"",
        ] {
            assert_eq!(id(same).as_u64(), Some(1), "{same}");
        }
        assert_eq!(id("18446744073709551615").as_u64(), Some(u64::MAX));
        assert_eq!(id("1e3").as_u64(), Some(1_000));
        assert_eq!(id("0").as_u64(), Some(0));
        assert_eq!(id("0.0").as_u64(), Some(0));
        for other in [
            "1.5",
            "-1",
            "-0",
            "18446744073709551616",
            "1e30",
            "1e-1",
            "\"01\"",
            "\"+1\"",
            "\" 1\"",
            "\"1 \"",
            "\"\"",
            "\"a1\"",
            "\"0x1\"",
            "\"\\u0031\"",
            "1e99999999999",
            "0.5e-3",
        ] {
            assert_eq!(id(other).as_u64(), None, "{other}");
        }
    }

    #[test]
    fn equality_is_strict_about_types_but_not_about_spelling() {
        assert_ne!(id("1"), id("\"1\""));
        assert_ne!(id("1"), id("1.0"));
        assert_eq!(id("\"a\""), id("\"\\u0061\""));
        let set: HashSet<Id> = [id("\"a\""), id("\"\\u0061\""), id("1"), id("\"1\"")]
            .into_iter()
            .collect();
        assert_eq!(set.len(), 3);
    }

    #[test]
    fn only_strings_and_numbers_are_ids() {
        for bad in ["null", "true", "{}", "[]", "", "1 2", "\"\\ud800\"", "nope"] {
            assert!(Id::from_raw(bad).is_none(), "{bad}");
        }
        assert!(Id::from_raw(&format!("\"{}\"", "x".repeat(ID_BYTES_MAX))).is_none());
        assert_eq!(id(" 7 ").raw(), "7");
        assert_eq!(Id::string("a\"b").raw(), r#""a\"b""#);
    }
}
