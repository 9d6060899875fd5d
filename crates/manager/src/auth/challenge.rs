//! What a server says when it refuses a request for its credentials: the `Bearer` challenge of `WWW-Authenticate`.
//!
//! Pure. A server's words: every part is bounded, and none of it is believed to be more than a hint.

use std::collections::BTreeSet;

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// Longest value of a parameter that is kept, in bytes.
const VALUE_BYTES_MAX: usize = 2_048;

/// Most scopes of one challenge that are kept.
const SCOPES_MAX: usize = 64;

/// A `Bearer` challenge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Where the metadata of the resource is (RFC 9728).
    pub resource_metadata: Option<Box<str>>,
    /// The scopes that the request would have needed.
    pub scopes: BTreeSet<String>,
    /// Which error: `invalid_token`, `insufficient_scope`, …
    pub error: Option<Box<str>>,
    /// The error in the server's words, for people.
    pub description: Option<Box<str>>,
}

impl Challenge {
    /// The `Bearer` challenge of a response; `None` where there is none.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .find_map(Self::parse)
    }

    /// Whether more scopes are needed than the token has.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.error.as_deref() == Some("insufficient_scope")
    }

    /// What is lacking, for people.
    pub(crate) fn in_words(&self, said: &str) -> String {
        let scopes: Vec<&str> = self.scopes.iter().map(String::as_str).collect();
        let scopes = match scopes.is_empty() {
            true => "it does not say which".to_owned(),
            false => scopes.join(" "),
        };
        format!("more scopes are needed ({scopes}); sign in again to be granted them; {said}")
    }

    /// Reads one header value, which may hold challenges of several schemes.
    fn parse(value: &str) -> Option<Self> {
        let mut words = Words::new(value);
        let mut found: Option<Self> = None;
        while let Some(word) = words.next() {
            match word {
                Word::Scheme(scheme) => {
                    if found.is_some() {
                        break;
                    }
                    found = scheme.eq_ignore_ascii_case("bearer").then(Self::default);
                }
                Word::Parameter(name, value) => {
                    if let Some(challenge) = &mut found {
                        challenge.take(name, value);
                    }
                }
            }
        }
        found
    }

    fn take(&mut self, name: &str, value: String) {
        if value.len() > VALUE_BYTES_MAX {
            return;
        }
        match name.to_ascii_lowercase().as_str() {
            "resource_metadata" => self.resource_metadata = Some(value.into()),
            "scope" => {
                let scopes = value.split_ascii_whitespace().take(SCOPES_MAX);
                self.scopes = scopes.map(str::to_owned).collect();
            }
            "error" => self.error = Some(value.into()),
            "error_description" => self.description = Some(value.into()),
            // `realm` and whatever else a server likes to say.
            _ => {}
        }
    }
}

enum Word<'v> {
    Scheme(&'v str),
    Parameter(&'v str, String),
}

/// Takes a header value apart: schemes, and parameters of whichever scheme came last.
struct Words<'v> {
    rest: &'v str,
}

impl<'v> Words<'v> {
    fn new(value: &'v str) -> Self {
        Self { rest: value }
    }

    fn next(&mut self) -> Option<Word<'v>> {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
        let end = self
            .rest
            .find([' ', '\t', ',', '=', '"'])
            .unwrap_or(self.rest.len());
        let (name, after) = self.rest.split_at(end);
        let value = after.trim_start_matches([' ', '\t']);
        if name.is_empty() {
            // No name where one must be: nothing after it can be told apart.
            return None;
        }
        let Some(value) = value.strip_prefix('=') else {
            self.rest = after;
            return Some(Word::Scheme(name));
        };
        let value = value.trim_start_matches([' ', '\t']);
        let (value, rest) = match value.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = value.find([',', ' ', '\t']).unwrap_or(value.len());
                let (value, rest) = value.split_at(end);
                (value.to_owned(), rest)
            }
        };
        self.rest = rest;
        Some(Word::Parameter(name, value))
    }
}

/// What stands up to the closing quote, and what follows it.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, text.get(at + 1..).unwrap_or_default()),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().expect("good"));
        }
        Challenge::of(&headers)
    }

    #[test]
    fn f92_a_bearer_challenge_is_found_among_others_and_read() {
        let full = r#"Bearer realm="a, b", error="invalid_token", error_description="it \"ended\"", resource_metadata="https://h/.well-known/oauth-protected-resource/mcp", scope="read write""#;
        let challenge = of(&[full]).expect("a challenge");
        assert_eq!(
            challenge.resource_metadata.as_deref(),
            Some("https://h/.well-known/oauth-protected-resource/mcp")
        );
        assert_eq!(challenge.error.as_deref(), Some("invalid_token"));
        assert_eq!(challenge.description.as_deref(), Some("it \"ended\""));
        assert_eq!(
            challenge
                .scopes
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
            ["read", "write"]
        );
        assert!(!challenge.wants_more());
        for values in [
            vec![
                r#"Basic realm="x""#,
                "bearer error=insufficient_scope,scope=a",
            ],
            vec![r#"Basic realm="Bearer", Bearer error="insufficient_scope", scope="a""#],
        ] {
            let challenge = of(&values).expect("a challenge");
            assert!(challenge.wants_more(), "{values:?}");
            assert!(challenge.scopes.contains("a"), "{values:?}");
        }
        assert_eq!(of(&["Bearer"]), Some(Challenge::default()));
        assert_eq!(of(&[r#"Basic realm="Bearer""#]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn f257_whatever_a_server_writes_there_is_bounded() {
        let long = format!("Bearer error=\"{}\"", "x".repeat(VALUE_BYTES_MAX + 1));
        assert_eq!(of(&[&long]), Some(Challenge::default()));
        let many = format!(
            "Bearer scope=\"{}\"",
            (0..200).map(|n| format!("s{n} ")).collect::<String>()
        );
        assert_eq!(of(&[&many]).expect("a challenge").scopes.len(), SCOPES_MAX);
        for odd in [
            "Bearer =",
            "Bearer error=\"open",
            "\"",
            "Bearer ,,, = x",
            "Bearer a=b=c",
        ] {
            // Whatever comes of it, it ends.
            let _ = of(&[odd]);
        }
    }
}
