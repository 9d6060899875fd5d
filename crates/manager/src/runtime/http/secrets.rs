//! What must not be shown of a server's entry, wherever the server echoes it (law 31, F257).
//!
//! Errors carry the beginning of what a server said, and servers like to repeat the token that they refuse. Only words for
//! people go through here; answers to callers pass through untouched.

use std::borrow::Cow;

/// What stands in place of a secret.
const HIDDEN: &str = "[hidden]";

/// Values shorter than this are no secrets, and hiding them would garble ordinary words.
const CHARS_MIN: usize = 4;

/// Words within a value (`Bearer <token>`, `a=b; c=d`) count by themselves from this length on.
const WORD_CHARS_MIN: usize = 8;

/// The values of one entry that are never shown, the longest first. No `Debug`: it holds them.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<Box<str>>);

impl Secrets {
    /// Hides a value, and the longer words in it.
    pub(super) fn add(&mut self, value: &str) {
        let words = value
            .split([' ', ',', ';', '='])
            .filter(|word| word.len() >= WORD_CHARS_MIN);
        for text in std::iter::once(value.trim()).chain(words) {
            if text.chars().count() >= CHARS_MIN && !self.0.iter().any(|known| **known == *text) {
                self.0.push(text.into());
            }
        }
        // A secret within a longer one must not break the longer one up.
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// A text without them. Also one that was cut in the middle of a secret.
    pub(super) fn scrub<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut shown = Cow::Borrowed(text);
        for secret in &self.0 {
            let escaped = secret.escape_debug().to_string();
            for form in [&**secret, escaped.as_str()] {
                if shown.contains(form) {
                    shown = Cow::Owned(shown.replace(form, HIDDEN));
                }
            }
        }
        for secret in &self.0 {
            if let Some(at) = self::tail(&shown, secret) {
                let mut cut = shown.get(..at).unwrap_or_default().to_owned();
                cut.push_str(HIDDEN);
                shown = Cow::Owned(cut);
            }
        }
        shown
    }
}

/// Where the end of a text is the beginning of a secret, of at least four characters.
fn tail(text: &str, secret: &str) -> Option<usize> {
    let whole = text.trim_end_matches(['…', '"', ')']);
    secret
        .char_indices()
        .map(|(at, _)| at)
        .filter(|at| *at >= CHARS_MIN)
        .filter_map(|at| secret.get(..at))
        .rev()
        .find(|head| whole.ends_with(head))
        .map(|head| whole.len() - head.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[&str]) -> Secrets {
        let mut secrets = Secrets::default();
        values.iter().for_each(|value| secrets.add(value));
        secrets
    }

    #[test]
    fn f257_law_31_values_and_their_words_are_hidden_and_nothing_else() {
        let secrets = secrets(&["Bearer abcdefghij", "dev", "k=\"quoted\"x"]);
        for (said, shown) in [
            ("bad token abcdefghij!", "bad token [hidden]!"),
            ("no Bearer abcdefghij", "no [hidden]"),
            ("a developer", "a developer"),
            (
                "said \"k=\\\"quoted\\\"x\" again",
                "said \"[hidden]\" again",
            ),
            ("nothing", "nothing"),
        ] {
            assert_eq!(secrets.scrub(said), shown);
        }
    }

    #[test]
    fn f257_a_text_that_was_cut_within_a_secret_shows_no_part_of_it() {
        let secrets = secrets(&["Bearer abcdefghij"]);
        assert_eq!(secrets.scrub("HTTP 401: abcdefgh…"), "HTTP 401: [hidden]");
        assert_eq!(secrets.scrub("HTTP 401 (abcdef)"), "HTTP 401 ([hidden]");
        assert_eq!(secrets.scrub("HTTP 401: abc"), "HTTP 401: abc");
    }
}
