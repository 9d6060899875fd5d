//! Values that become secrets while the process runs: tokens, and what a reference of the configuration stood for.
//!
//! One set for the whole process, because what is a secret in one of its outputs is one in all of them. It holds a bounded
//! number of values, the youngest; it must not be written anywhere and has no `Debug` of its values.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use mainstay_wire::json_string;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{CHARS_MIN, HIDDEN};

/// Forms of values that are kept; after that the oldest go. A thousand users with three tokens each fit in, some times over.
const FORMS_MAX: usize = 16_384;

/// Bytes of all forms together.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longer values are no credentials but documents, and a document does not stand in a message as a whole.
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Values are found by this many of their first bytes.
const HEAD: usize = CHARS_MIN;

static LIVE: RwLock<Option<Values>> = RwLock::new(None);

/// From now on this value is hidden in everything that is written for people or machines other than the server that it is
/// meant for. Values of less than six characters are no secrets.
pub(super) fn hide(value: &str) {
    let value = value.trim();
    if value.chars().count() < CHARS_MIN || value.len() > VALUE_BYTES_MAX {
        return;
    }
    let mut live = LIVE.write().unwrap_or_else(PoisonError::into_inner);
    live.get_or_insert_with(|| Values::new(FORMS_MAX, BYTES_MAX))
        .add(value);
}

/// A text without these values.
pub(super) fn scrub(text: &str) -> Cow<'_, str> {
    let live = LIVE.read().unwrap_or_else(PoisonError::into_inner);
    match &*live {
        Some(values) => values.scrub(text),
        None => Cow::Borrowed(text),
    }
}

struct Values {
    /// The forms by their first bytes, the longest first.
    heads: HashMap<[u8; HEAD], Vec<Arc<str>>>,
    /// The forms, the oldest first.
    ages: VecDeque<Arc<str>>,
    bytes: usize,
    forms_max: usize,
    bytes_max: usize,
}

impl Values {
    fn new(forms_max: usize, bytes_max: usize) -> Self {
        Self {
            heads: HashMap::new(),
            ages: VecDeque::new(),
            bytes: 0,
            forms_max,
            bytes_max,
        }
    }

    /// Adds a value as it is, as it stands within a JSON text, and as it stands in a URL or a form.
    fn add(&mut self, value: &str) {
        let written = json_string(value);
        let escaped = written.trim_start_matches('"');
        let escaped = escaped.strip_suffix('"').unwrap_or(escaped);
        let percent = utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
        self.add_form(value);
        self.add_form(escaped);
        // What percent-encoding leaves alone varies; the two usual ways are enough.
        for kept in ["-._~", "-._~/:+="] {
            let mut text = percent.clone();
            for kept in kept.chars() {
                text = text.replace(&format!("%{:02X}", u32::from(kept)), &kept.to_string());
            }
            self.add_form(&text);
        }
    }

    fn add_form(&mut self, form: &str) {
        let Some(head) = head(form.as_bytes()) else {
            return;
        };
        let known = self.heads.entry(head).or_default();
        if known.iter().any(|known| **known == *form) {
            return;
        }
        let form: Arc<str> = form.into();
        let at = known.partition_point(|known| known.len() >= form.len());
        known.insert(at, Arc::clone(&form));
        self.bytes += form.len();
        self.ages.push_back(form);
        while self.ages.len() > self.forms_max || self.bytes > self.bytes_max {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.ages.pop_front() else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(oldest.len());
        let Some(head) = head(oldest.as_bytes()) else {
            return;
        };
        if let Some(forms) = self.heads.get_mut(&head) {
            forms.retain(|form| !Arc::ptr_eq(form, &oldest));
            if forms.is_empty() {
                self.heads.remove(&head);
            }
        }
    }

    /// One pass over the text, however many values there are.
    fn scrub<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.heads.is_empty() {
            return Cow::Borrowed(text);
        }
        // Errors carry the beginning of what a server said: a value at the end may have been cut.
        let whole = text.trim_end_matches(['…', '"', ')', '}', ' ']).len();
        let bytes = text.as_bytes();
        let mut shown = String::new();
        let (mut at, mut taken) = (0, 0);
        while let Some(head) = bytes.get(at..).and_then(head) {
            let length = self
                .heads
                .get(&head)
                .and_then(|forms| match_length(forms, bytes, at, whole));
            match length {
                Some(length) => {
                    // Forms are whole texts: what equals one begins and ends between characters.
                    shown.push_str(text.get(taken..at).unwrap_or_default());
                    shown.push_str(HIDDEN);
                    at += length;
                    taken = at;
                }
                None => at += 1,
            }
        }
        if taken == 0 {
            return Cow::Borrowed(text);
        }
        shown.push_str(text.get(taken..).unwrap_or_default());
        Cow::Owned(shown)
    }
}

/// How much of the text at this place is one of these forms, or the beginning of one that the text's end cut off.
fn match_length(forms: &[Arc<str>], bytes: &[u8], at: usize, whole: usize) -> Option<usize> {
    let here = bytes.get(at..)?;
    let found = forms.iter().find(|form| here.starts_with(form.as_bytes()));
    found.map(|form| form.len()).or_else(|| {
        let rest = bytes.get(at..whole)?;
        let cut = rest.len() >= HEAD && forms.iter().any(|form| form.as_bytes().starts_with(rest));
        cut.then_some(rest.len())
    })
}

fn head(bytes: &[u8]) -> Option<[u8; HEAD]> {
    bytes.first_chunk::<HEAD>().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(all: &[&str]) -> Values {
        let mut values = Values::new(FORMS_MAX, BYTES_MAX);
        all.iter().for_each(|value| values.add(value));
        values
    }

    #[test]
    fn law_31_values_of_the_run_are_hidden_in_each_form_and_nothing_else() {
        let values = values(&[
            "tok-1/2=abcdef",
            "quoted\"value",
            "tok-1/2=abcdefghij",
            "ünïcødé",
        ]);
        for (said, shown) in [
            ("a tok-1/2=abcdef b", "a [hidden] b"),
            ("a tok-1/2=abcdefghij b", "a [hidden] b"),
            ("?t=tok-1%2F2%3Dabcdef&b", "?t=[hidden]&b"),
            ("?t=tok-1/2=abcdef&b", "?t=[hidden]&b"),
            ("{\"a\":\"quoted\\\"value\"}", "{\"a\":\"[hidden]\"}"),
            ("xünïcødé ünïcødéx", "x[hidden] [hidden]x"),
            ("tok-1/2=abcde b", "tok-1/2=abcde b"),
            ("tok-1", "tok-1"),
            ("", ""),
            (
                "eine übliche Zeile, ganz ohne",
                "eine übliche Zeile, ganz ohne",
            ),
        ] {
            assert_eq!(values.scrub(said), shown, "{said}");
        }
    }

    #[test]
    fn f257_a_value_that_the_end_cut_off_is_hidden_too() {
        let values = values(&["tok-12345678"]);
        assert_eq!(values.scrub("HTTP 401: tok-1234…"), "HTTP 401: [hidden]…");
        assert_eq!(
            values.scrub("HTTP 401: (tok-123\")"),
            "HTTP 401: ([hidden]\")"
        );
        assert_eq!(values.scrub("HTTP 401: tok-1"), "HTTP 401: tok-1");
    }

    #[test]
    fn law_17_old_values_make_room_and_the_youngest_stay_hidden() {
        let mut values = Values::new(4, BYTES_MAX);
        for number in 0..100 {
            values.add(&format!("token-{number:03}"));
        }
        assert_eq!(values.ages.len(), 4);
        let kept: usize = values.heads.values().map(Vec::len).sum();
        assert_eq!(kept, 4, "the index forgets with the list");
        assert_eq!(values.scrub("token-099 token-001."), "[hidden] token-001.");
        let mut values = Values::new(FORMS_MAX, 20);
        values.add("0123456789");
        values.add("abcdefghijklmno");
        assert_eq!(
            (values.bytes, values.scrub("0123456789 abcdefghijklmno")),
            (15, "0123456789 [hidden]".into())
        );
    }
}
