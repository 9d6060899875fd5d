//! What must not be in any log, journal or answer of ours (law 31): values that the configuration takes from elsewhere or gives to servers as credentials,
//! and what looks like a token in a URL or an authorization, wherever it stands.

mod live;

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mainstay_wire::json_string;

use crate::config::{ServerConfig, Transport};

/// What stands in place of a secret. No character of it means anything in JSON.
pub const HIDDEN: &str = "[hidden]";

/// Shorter values are no secrets, and hiding them would garble ordinary words.
const CHARS_MIN: usize = 6;

/// Words within a header's value (`Bearer <token>`) count by themselves from this length on.
const WORD_CHARS_MIN: usize = 8;

/// Variables that are on every machine and no secret on any.
const ORDINARY: [&str; 8] = [
    "HOME", "USER", "LOGNAME", "PATH", "PWD", "SHELL", "LANG", "TMPDIR",
];

/// Parts of names whose values are secrets.
const NAMES: [&str; 9] = [
    "token",
    "secret",
    "password",
    "passwd",
    "key",
    "auth",
    "credential",
    "signature",
    "sig",
];

/// The values that are hidden, the longest first. No `Debug` of them.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// The secrets of these entries; `env` answers for the variables that they refer to.
    #[must_use]
    pub fn of(servers: &[ServerConfig], env: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut secrets = Self::default();
        for server in servers {
            for template in server.templates() {
                let named = template.variables().filter(|name| !ORDINARY.contains(name));
                named.filter_map(env).for_each(|value| secrets.add(&value));
            }
            match &server.transport {
                Transport::Stdio { env: given, .. } => {
                    for (name, value) in given.iter().filter(|(name, _)| is_secret_name(name)) {
                        tracing::trace!(name, "hidden");
                        value
                            .resolve(env)
                            .iter()
                            .for_each(|value| secrets.add(value));
                    }
                }
                Transport::Http { url, headers, .. } => {
                    for (_, value) in headers {
                        let value = value.resolve(env).unwrap_or_default();
                        secrets.add(&value);
                        value
                            .split([' ', ',', ';', '='])
                            .filter(|word| word.len() >= WORD_CHARS_MIN)
                            .for_each(|word| secrets.add(word));
                    }
                    secrets.add_url(&url.resolve(env).unwrap_or_default());
                }
                Transport::Broken { .. } => {}
            }
        }
        // A secret within a longer one must not break the longer one up.
        secrets
            .0
            .sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }

    /// These and others: what was a secret stays one.
    #[must_use]
    pub fn and(mut self, others: &Secrets) -> Self {
        for secret in &others.0 {
            if !self.0.contains(secret) {
                self.0.push(secret.clone());
            }
        }
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        self
    }

    /// Hides one value.
    fn add(&mut self, value: &str) {
        let value = value.trim();
        if value.chars().count() < CHARS_MIN {
            return;
        }
        // Within a JSON text it stands as JSON writes it.
        let written = json_string(value);
        let escaped = written.trim_matches('"');
        for form in [value, escaped] {
            if !self.0.iter().any(|known| known == form) {
                self.0.push(form.to_owned());
            }
        }
    }

    /// The user and the query of a URL.
    fn add_url(&mut self, url: &str) {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (authority, _) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if let Some((user, _)) = authority.rsplit_once('@') {
            user.split(':').for_each(|part| self.add(part));
        }
        if let Some((_, query)) = rest.split_once('?') {
            let values = query.split('&').filter_map(|pair| pair.split_once('='));
            values.for_each(|(_, value)| self.add(value));
        }
    }

    /// A message without them.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        let mut shown = Cow::Borrowed(text);
        for secret in &self.0 {
            if shown.contains(secret.as_str()) {
                shown = Cow::Owned(shown.replace(secret.as_str(), HIDDEN));
            }
        }
        hide_tokens(&live::scrub(&shown))
    }
}

/// From now on this value is hidden wherever this process writes: logs, journal, events, errors, answers of the API. For
/// values that appear while it runs, such as tokens (law 31). Cheap; a value that is hidden already changes nothing. The
/// number of values is bounded, and the oldest go when there are very many newer ones. Values of less than six characters
/// are no secrets.
pub fn hide(value: &str) {
    live::hide(value);
}

/// A text without the values that appeared while the process runs, and nothing else changed.
pub(crate) fn scrub_live(text: &str) -> Cow<'_, str> {
    live::scrub(text)
}

/// The secrets of all servers that were ever configured, for those who write while the configuration changes. What was a
/// secret stays one.
#[derive(Debug, Default)]
pub(crate) struct Hidden {
    known: ArcSwap<Secrets>,
}

impl Hidden {
    /// From now on the secrets of this entry are hidden too.
    pub(crate) fn cover(&self, server: &ServerConfig) {
        let more = Secrets::of(std::slice::from_ref(server), &crate::config::process_env);
        if more
            .0
            .iter()
            .all(|secret| self.known.load().0.contains(secret))
        {
            return;
        }
        self.known.rcu(|known| {
            let mut all = Secrets::clone(known);
            for secret in &more.0 {
                if !all.0.contains(secret) {
                    all.0.push(secret.clone());
                }
            }
            all.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
            Arc::new(all)
        });
    }

    /// A text without them.
    pub(crate) fn scrub(&self, text: &str) -> String {
        self.known.load().scrub(text)
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|part| name.contains(part))
}

/// Hides what follows `Bearer `, `Basic `, and `token=` and its like.
fn hide_tokens(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find([' ', '=']) {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        let length = after
            .find(|c: char| !(c.is_ascii_alphanumeric() || "-._~+/%=".contains(c)))
            .unwrap_or(after.len());
        let word = before[..at]
            .rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
            .next()
            .unwrap_or_default();
        let is_token = if before.ends_with('=') {
            is_secret_name(word)
        } else {
            word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic")
        };
        if is_token && length >= WORD_CHARS_MIN {
            out.push_str(HIDDEN);
            rest = &after[length..];
        } else {
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        let servers = [
            ServerConfig::stdio("a", "run")
                .args(["--key", "${GIVEN}", "${HOME}"])
                .env("API_TOKEN", "literal-token")
                .env("MODE", "production"),
            ServerConfig::http("b", "https://me:pass-word@example.com/mcp?k=query-value")
                .header("X-Any", "Thing quoted\"value"),
        ];
        let env = |name: &str| match name {
            "GIVEN" => Some("from-outside".to_owned()),
            "HOME" => Some("/home/somebody".to_owned()),
            _ => None,
        };
        Secrets::of(&servers, &env)
    }

    #[test]
    fn law_31_secrets_of_the_configuration_are_hidden_and_nothing_else() {
        let secrets = secrets();
        for secret in [
            "from-outside",
            "literal-token",
            "pass-word",
            "query-value",
            "quoted\\\"value",
        ] {
            let text = format!("{{\"text\":\"a {secret} b\"}}");
            assert_eq!(
                secrets.scrub(&text),
                "{\"text\":\"a [hidden] b\"}",
                "{secret}"
            );
        }
        let text = "{\"text\":\"production in /home/somebody, run example.com\"}";
        assert_eq!(secrets.scrub(text), text);
        assert!(!format!("{secrets:?}").contains("literal"));
    }

    #[test]
    fn law_31_what_became_a_secret_while_it_runs_is_hidden_like_those_of_the_configuration() {
        let text = "said late-value-of-this-test again";
        assert_eq!(Secrets::default().scrub(text), text);
        assert_eq!(scrub_live(text), text);
        hide("late-value-of-this-test");
        assert_eq!(Secrets::default().scrub(text), "said [hidden] again");
        assert_eq!(scrub_live(text), "said [hidden] again");
    }

    #[test]
    fn law_31_what_looks_like_a_token_is_hidden_anywhere() {
        let none = Secrets::default();
        for (text, shown) in [
            (
                "https://x/?token=abcdefgh1&a=1",
                "https://x/?token=[hidden]&a=1",
            ),
            ("x?api_key=12345678\"", "x?api_key=[hidden]\""),
            (
                "Authorization: Bearer abc.def-ghi",
                "Authorization: Bearer [hidden]",
            ),
            ("a=bcdefghijk token=short", "a=bcdefghijk token=short"),
            ("bearer of bad news", "bearer of bad news"),
        ] {
            assert_eq!(none.scrub(text), shown);
        }
    }
}
