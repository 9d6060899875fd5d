//! Finds literal secrets in what an app keeps, and puts references in their place.
//!
//! By the name of what holds them, by beginnings that services give their keys, and by how random they look. When in doubt
//! it is a secret: a reference too many costs one `export`, a copy too many may cost an account. Must not print, log or
//! keep a secret anywhere but in [`Vault`], which shows none.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::dialect::variable_of;

/// Words that make the name of a variable, header, flag or query parameter suspicious.
const WORDS: [&str; 17] = [
    "TOKEN",
    "TOKENS",
    "KEY",
    "KEYS",
    "APIKEY",
    "SECRET",
    "SECRETS",
    "PASSWORD",
    "PASSWD",
    "PASS",
    "PASSPHRASE",
    "CREDENTIAL",
    "CREDENTIALS",
    "AUTHORIZATION",
    "COOKIE",
    "PAT",
    "DSN",
];
/// Pieces that do so wherever they stand in a name, for names without separators.
const PIECES: [&str; 7] = [
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "APIKEY",
    "CREDENTIAL",
    "PRIVATEKEY",
];
/// Last words that say: this is about a secret, but is none.
const ABOUT: [&str; 16] = [
    "FILE", "PATH", "DIR", "LIMIT", "COUNT", "MAX", "MIN", "SIZE", "LENGTH", "TTL", "TIMEOUT",
    "URL", "URI", "NAME", "ID", "HEADER",
];
/// How services begin their keys.
const BEGINNINGS: [&str; 47] = [
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "rk_test_",
    "pk_live_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xoxe-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "hf_",
    "npm_",
    "pypi-",
    "dop_v1_",
    "shpat_",
    "SG.",
    "ntn_",
    "secret_",
    "lin_api_",
    "figd_",
    "tvly-",
    "fc-",
    "r8_",
    "gsk_",
    "xai-",
    "sntrys_",
    "sntryu_",
    "dckr_pat_",
    "ATATT",
    "whsec_",
    "key-",
    "pplx-",
    "ctx7sk-",
    "nvapi-",
    "-----BEGIN",
];
/// A key of a service is at least so long, beginning included.
const KEY_CHARS_MIN: usize = 16;
/// Text that looks random is at least so long.
const RANDOM_CHARS_MIN: usize = 20;
/// Least randomness of such a text, in bits per character.
const RANDOM_BITS_MIN: f64 = 3.4;

/// What takes the place of secrets: which variable stands for which value. Never shows a value.
#[derive(Default)]
pub(crate) struct Vault {
    /// Variable to value.
    values: BTreeMap<String, String>,
    /// Copy them instead: only on request.
    keep: bool,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("variables", &self.values.keys())
            .finish_non_exhaustive()
    }
}

/// A secret that was found, by the variable that stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The variable.
    pub(crate) variable: String,
    /// Whether the value stayed where it was, because the user wants copies.
    pub(crate) copied: bool,
}

impl Vault {
    /// An empty one. `keep`: secrets are found and told, and copied all the same.
    pub(crate) fn new(keep: bool) -> Self {
        Self {
            keep,
            ..Self::default()
        }
    }

    /// A reference for `value`: the same value has the same one, and another value never has it. `names`: what the variable
    /// may be called, the best first.
    fn reference(&mut self, value: &str, names: &[String]) -> String {
        if let Some(name) = names
            .iter()
            .find(|name| self.values.get(*name).is_some_and(|known| known == value))
        {
            return name.clone();
        }
        let numbered =
            (2..).map(|n| format!("{}_{n}", names.last().map_or("SECRET", String::as_str)));
        let name = names
            .iter()
            .cloned()
            .chain(numbered)
            .find(|name| self.values.get(name).is_none_or(|known| known == value))
            .unwrap_or_default();
        self.values.insert(name.clone(), value.to_owned());
        name
    }

    fn put(&mut self, value: &str, names: &[String], taken: &mut Vec<Taken>) -> String {
        let variable = self.reference(value, names);
        taken.push(Taken {
            variable: variable.clone(),
            copied: self.keep,
        });
        if self.keep {
            value.to_owned()
        } else {
            format!("${{{variable}}}")
        }
    }

    /// A variable of the environment of a server.
    pub(crate) fn env(&mut self, server: &str, name: &str, value: &str) -> (String, Vec<Taken>) {
        let mut taken = Vec::new();
        let names = [
            variable_of_env(name),
            variable_of(&format!("{server}-{name}")),
        ];
        let text = if is_secret(name, value) {
            self.put(value, &names, &mut taken)
        } else {
            self.inside(server, value, &mut taken)
        };
        (text, taken)
    }

    /// A header.
    pub(crate) fn header(&mut self, server: &str, name: &str, value: &str) -> (String, Vec<Taken>) {
        let mut taken = Vec::new();
        let text = self.header_value(server, name, value, &mut taken);
        (text, taken)
    }

    fn header_value(
        &mut self,
        server: &str,
        name: &str,
        value: &str,
        taken: &mut Vec<Taken>,
    ) -> String {
        if !is_secret(name, value) {
            return self.inside(server, value, taken);
        }
        let (scheme, rest) = split_scheme(value);
        let what = if name.eq_ignore_ascii_case("authorization") {
            "token"
        } else {
            name
        };
        let reference = self.put(rest, &[variable_of(&format!("{server}-{what}"))], taken);
        format!("{scheme}{reference}")
    }

    /// The address of a server.
    pub(crate) fn url(&mut self, server: &str, value: &str) -> (String, Vec<Taken>) {
        let mut taken = Vec::new();
        let value = self.userinfo(server, value, &mut taken);
        let (before, query) = match value.split_once('?') {
            Some((before, query)) => (before, Some(query)),
            None => (value.as_str(), None),
        };
        // Some services put the key into the path.
        let (origin, path) = match before
            .find("://")
            .and_then(|at| before[at + 3..].find('/').map(|slash| at + 3 + slash))
        {
            Some(slash) => before.split_at(slash),
            None => (before, ""),
        };
        let segments: Vec<String> = path
            .split('/')
            .map(|segment| {
                if has_reference(segment) || !(looks_like_key(segment) || looks_random(segment)) {
                    return segment.to_owned();
                }
                self.put(
                    segment,
                    &[variable_of(&format!("{server}-url-key"))],
                    &mut taken,
                )
            })
            .collect();
        let mut url = format!("{origin}{}", segments.join("/"));
        if let Some(query) = query {
            let (query, fragment) = match query.split_once('#') {
                Some((query, fragment)) => (query, Some(fragment)),
                None => (query, None),
            };
            let pairs: Vec<String> = query
                .split('&')
                .map(|pair| self.query_pair(server, pair, &mut taken))
                .collect();
            url.push('?');
            url.push_str(&pairs.join("&"));
            if let Some(fragment) = fragment {
                url.push('#');
                url.push_str(fragment);
            }
        }
        (url, taken)
    }

    fn query_pair(&mut self, server: &str, pair: &str, taken: &mut Vec<Taken>) -> String {
        match pair.split_once('=') {
            Some((name, value)) if is_secret(name, value) => {
                let reference = self.put(value, &[variable_of(&format!("{server}-{name}"))], taken);
                format!("{name}={reference}")
            }
            Some(_) | None => pair.to_owned(),
        }
    }

    /// The arguments of a program: `--token VALUE`, `--token=VALUE`, `-e TOKEN=VALUE`, `--header "Name: value"`, and whatever
    /// looks like a key by itself.
    pub(crate) fn args(
        &mut self,
        server: &str,
        args: &[String],
    ) -> (Vec<String>, Vec<(usize, Taken)>) {
        let mut out = Vec::with_capacity(args.len());
        let mut all = Vec::new();
        let mut flag: Option<&str> = None;
        for (index, arg) in args.iter().enumerate() {
            let mut taken = Vec::new();
            let text = self.arg(server, flag, arg, &mut taken);
            flag = arg
                .strip_prefix('-')
                .map(|rest| rest.trim_start_matches('-'))
                .filter(|rest| !rest.contains('='));
            out.push(text);
            all.extend(taken.into_iter().map(|one| (index, one)));
        }
        (out, all)
    }

    fn arg(
        &mut self,
        server: &str,
        flag: Option<&str>,
        arg: &str,
        taken: &mut Vec<Taken>,
    ) -> String {
        if arg.starts_with('-') {
            let Some((name, value)) = arg.split_once('=') else {
                return arg.to_owned();
            };
            let plain = name.trim_start_matches('-');
            if is_secret(plain, value) {
                let reference =
                    self.put(value, &[variable_of(&format!("{server}-{plain}"))], taken);
                return format!("{name}={reference}");
            }
            return format!("{name}={}", self.arg(server, Some(plain), value, taken));
        }
        if let Some(flag) = flag {
            let is_header = matches!(flag, "header" | "H" | "headers");
            if is_header && let Some((name, value)) = arg.split_once(':') {
                let trimmed = value.trim_start();
                let space = &value[..value.len() - trimmed.len()];
                return format!(
                    "{name}:{space}{}",
                    self.header_value(server, name.trim(), trimmed, taken)
                );
            }
            if flag.len() > 1 && is_secret(flag, arg) {
                return self.put(arg, &[variable_of(&format!("{server}-{flag}"))], taken);
            }
        }
        if let Some((name, value)) = arg.split_once('=')
            && is_variable(name)
            && is_secret(name, value)
        {
            let names = [
                variable_of_env(name),
                variable_of(&format!("{server}-{name}")),
            ];
            return format!("{name}={}", self.put(value, &names, taken));
        }
        if arg.contains("://") {
            let (url, found) = self.url(server, arg);
            taken.extend(found);
            return url;
        }
        self.inside(server, arg, taken)
    }

    /// A text whose name says nothing.
    fn inside(&mut self, server: &str, value: &str, taken: &mut Vec<Taken>) -> String {
        if !has_reference(value) && holds_secret(value) {
            return self.put(value, &[variable_of(&format!("{server}-key"))], taken);
        }
        self.userinfo(server, value, taken)
    }

    /// `scheme://user:password@host`: the password.
    fn userinfo(&mut self, server: &str, value: &str, taken: &mut Vec<Taken>) -> String {
        let found = value.find("://").and_then(|at| {
            let rest = &value[at + 3..];
            let end = rest.find(['/', '?', '#', ' ']).unwrap_or(rest.len());
            let sign = rest[..end].rfind('@')?;
            let colon = rest[..sign].find(':')?;
            Some((at + 3 + colon + 1, at + 3 + sign))
        });
        match found {
            Some((from, to)) if to > from && !has_reference(&value[from..to]) => {
                let reference = self.put(
                    &value[from..to],
                    &[variable_of(&format!("{server}-password"))],
                    taken,
                );
                format!("{}{reference}{}", &value[..from], &value[to..])
            }
            Some(_) | None => value.to_owned(),
        }
    }
}

/// The name of a variable of the environment, kept as it is if it can be.
fn variable_of_env(name: &str) -> String {
    if is_variable(name) {
        name.to_owned()
    } else {
        variable_of(name)
    }
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn has_reference(value: &str) -> bool {
    value.replace("$${", "").contains("${")
}

/// `Bearer abc` into `Bearer ` and `abc`.
fn split_scheme(value: &str) -> (&str, &str) {
    match value.split_once(' ') {
        Some((scheme, rest))
            if !rest.trim().is_empty() && scheme.chars().all(|c| c.is_ascii_alphabetic()) =>
        {
            value.split_at(scheme.len() + 1)
        }
        Some(_) | None => ("", value),
    }
}

/// Whether a value is a secret, by its name and by itself. A reference is none.
pub(crate) fn is_secret(name: &str, value: &str) -> bool {
    let bare = value.trim();
    if bare.is_empty() || has_reference(value) {
        return false;
    }
    if holds_secret(bare) {
        return true;
    }
    match suspicion(name) {
        Suspicion::None => false,
        Suspicion::Weak => {
            let is_word = matches!(
                bare.to_ascii_lowercase().as_str(),
                "true" | "false" | "none" | "null" | "yes" | "no"
            );
            let is_number = bare.len() <= 9 && bare.chars().all(|c| c.is_ascii_digit() || c == '.');
            !is_word && !is_number
        }
        Suspicion::Strong => true,
    }
}

enum Suspicion {
    None,
    /// `KEY`, `TOKEN`: may be a switch or a number as well.
    Weak,
    /// `PASSWORD`, `SECRET`, `AUTHORIZATION`: whatever the value.
    Strong,
}

fn suspicion(name: &str) -> Suspicion {
    let words = variable_of(name);
    let words: Vec<&str> = words.split('_').collect();
    if words.len() > 1 && words.last().is_some_and(|last| ABOUT.contains(last)) {
        return Suspicion::None;
    }
    let joined = words.concat();
    let strong = [
        "PASSW",
        "SECRET",
        "AUTHORIZATION",
        "COOKIE",
        "PASSPHRASE",
        "CREDENTIAL",
    ];
    if strong.iter().any(|piece| joined.contains(piece)) {
        return Suspicion::Strong;
    }
    if words.iter().any(|word| WORDS.contains(word))
        || PIECES.iter().any(|piece| joined.contains(piece))
    {
        return Suspicion::Weak;
    }
    Suspicion::None
}

/// Whether it begins as the keys of a service do, or is a signed token.
fn looks_like_key(value: &str) -> bool {
    let is_one_word = !value.contains([' ', '/', '\\']) || value.starts_with("-----BEGIN");
    if value.len() < KEY_CHARS_MIN || !is_one_word {
        return false;
    }
    let known = BEGINNINGS.iter().any(|beginning| {
        value.strip_prefix(beginning).is_some_and(|rest| {
            rest.chars()
                .any(|c| c.is_ascii_digit() || c.is_ascii_uppercase())
        })
    });
    known || value.starts_with("eyJ") && value.matches('.').count() == 2
}

/// Whether a key of a service, something random, or JSON with a member that is a secret is in it.
fn holds_secret(value: &str) -> bool {
    let is_between = |c: char| {
        c.is_whitespace()
            || matches!(
                c,
                '"' | '\'' | ',' | ';' | '=' | '&' | '(' | ')' | '{' | '}'
            )
    };
    looks_like_key(value)
        || value.split(is_between).any(looks_like_key)
        || looks_random(value)
        || serde_json::from_str::<Value>(value).is_ok_and(|json| json_holds_secret(&json))
}

/// Only members of objects count: a text that is no object was looked at before.
fn json_holds_secret(json: &Value) -> bool {
    match json {
        Value::Object(members) => members.iter().any(|(name, value)| match value {
            Value::String(text) => is_secret(name, text),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => json_holds_secret(value),
        }),
        Value::Array(items) => items.iter().any(json_holds_secret),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether it looks random: one long run of letters and digits that no word and no name is.
fn looks_random(value: &str) -> bool {
    if value.starts_with("/nix/store/") || value.contains("sha256-") {
        return false;
    }
    // Packages and images are often named with the digest of one release, which is no secret.
    let names_release = value.contains(['@', '#']) || value.contains("sha256:");
    let is_apart = |c: char| !c.is_ascii_alphanumeric() && c != '+';
    value
        .split(is_apart)
        .filter(|run| run.len() >= RANDOM_CHARS_MIN)
        .any(|run| {
            let is_hex = run.chars().all(|c| c.is_ascii_hexdigit());
            if names_release && is_hex && matches!(run.len(), 40 | 64) {
                return false;
            }
            let digits = run.chars().filter(char::is_ascii_digit).count();
            let letters = run.chars().filter(char::is_ascii_alphabetic).count();
            let enough = if is_hex {
                RANDOM_BITS_MIN - 0.4
            } else {
                RANDOM_BITS_MIN
            };
            digits >= 2 && letters >= 2 && bits_per_char(run) >= enough
        })
}

fn bits_per_char(text: &str) -> f64 {
    let mut counts = [0_u32; 128];
    for byte in text.bytes().filter(u8::is_ascii) {
        counts[usize::from(byte)] += 1;
    }
    let all = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / all;
            -share * share.log2()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_name_by_beginning_and_by_looks() {
        let secrets = [
            ("GITHUB_TOKEN", "abc"),
            ("githubToken", "abc"),
            ("DB_PASSWORD", "123456"),
            ("X-Api-Key", "abc"),
            ("Authorization", "Bearer abc"),
            ("OPENAI", "sk-proj-Abc123Abc123Abc123"),
            ("ANYTHING", "ghp_Abc123Abc123Abc123"),
            ("ANYTHING", "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"),
            ("ANYTHING", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"),
            ("ANYTHING", "q8Zk2LmN0pQr7sTu4vWx9yAb"),
            ("SENTRY_DSN", "https://abc@sentry.test/1"),
            (
                "OPENAPI_MCP_HEADERS",
                "{\"Authorization\": \"Bearer abc\", \"Version\": \"2022-06-28\"}",
            ),
            ("NESTED", "[{ \"db\": { \"password\": \"abc\" } }]"),
            ("OPTIONS", "--user ada --key sk-proj-Abc123Abc123Abc123 -v"),
        ];
        for (name, value) in secrets {
            assert!(is_secret(name, value), "{name}={value}");
        }
        let plain = [
            ("GITHUB_TOKEN", "${TOKEN}"),
            ("GITHUB_TOKEN", ""),
            ("MAX_TOKENS", "4096"),
            ("TOKEN_LIMIT", "many"),
            ("SSH_KEY_PATH", "/home/ada/.ssh/id_ed25519"),
            ("USE_API_KEY", "true"),
            ("LOG_LEVEL", "debug"),
            (
                "PACKAGE",
                "@modelcontextprotocol/server-sequential-thinking@2025.12.18",
            ),
            ("ROOT", "/home/ada/projects/engine"),
            ("IMAGE", "ghcr.io/github/github-mcp-server:v1.2.3"),
            ("KEYBOARD_LAYOUT", "de"),
            ("NODE_OPTIONS", "--max-old-space-size=4096"),
            (
                "FROM",
                "git+https://git.test/a/b@9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
            ),
            ("ID", "123e4567-e89b-12d3-a456-426614174000"),
            ("HEADERS", "{\"Accept\": \"text/plain\"}"),
        ];
        for (name, value) in plain {
            assert!(!is_secret(name, value), "{name}={value}");
        }
    }

    fn args(texts: &[&str]) -> (Vec<String>, Vec<String>) {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let (args, taken) = Vault::new(false).args("files", &texts);
        (
            args,
            taken.into_iter().map(|(_, taken)| taken.variable).collect(),
        )
    }

    #[test]
    fn arguments_in_every_way_that_people_pass_secrets() {
        let rows: [(&[&str], &[&str], &[&str]); 8] = [
            (
                &["--api-key", "abc", "x"],
                &["--api-key", "${FILES_API_KEY}", "x"],
                &["FILES_API_KEY"],
            ),
            (
                &["--token=abc"],
                &["--token=${FILES_TOKEN}"],
                &["FILES_TOKEN"],
            ),
            (
                &["-e", "GH_TOKEN=abc"],
                &["-e", "GH_TOKEN=${GH_TOKEN}"],
                &["GH_TOKEN"],
            ),
            (&["-e", "GH_TOKEN", "img"], &["-e", "GH_TOKEN", "img"], &[]),
            (
                &["--header", "Authorization: Bearer abc"],
                &["--header", "Authorization: Bearer ${FILES_TOKEN}"],
                &["FILES_TOKEN"],
            ),
            (
                &["postgres://ada:abc@db/x"],
                &["postgres://ada:${FILES_PASSWORD}@db/x"],
                &["FILES_PASSWORD"],
            ),
            (&["--key", "--verbose"], &["--key", "--verbose"], &[]),
            (
                &["-y", "a-package", "/data"],
                &["-y", "a-package", "/data"],
                &[],
            ),
        ];
        for (given, expected, variables) in rows {
            let (out, taken) = args(given);
            assert_eq!(out, expected);
            assert_eq!(taken, variables, "{given:?}");
        }
    }

    #[test]
    fn addresses_keep_everything_but_the_secret() {
        let mut vault = Vault::new(false);
        let (url, taken) = vault.url("search", "https://mcp.test/v1/mcp?api_key=abc&lang=de#top");
        assert_eq!(
            url,
            "https://mcp.test/v1/mcp?api_key=${SEARCH_API_KEY}&lang=de#top"
        );
        assert_eq!(taken.len(), 1);
        let (url, _) = vault.url(
            "zap",
            "https://mcp.test/api/mcp/s/q8Zk2LmN0pQr7sTu4vWx9yAb/mcp",
        );
        assert_eq!(url, "https://mcp.test/api/mcp/s/${ZAP_URL_KEY}/mcp");
        let (url, taken) = vault.url("plain", "https://mcp.test:8443/mcp");
        assert_eq!(
            (url.as_str(), taken.len()),
            ("https://mcp.test:8443/mcp", 0)
        );
    }

    #[test]
    fn one_value_one_variable_and_never_two_values() {
        let mut vault = Vault::new(false);
        let (first, _) = vault.env("a", "API_KEY", "one");
        let (same, _) = vault.env("b", "API_KEY", "one");
        let (other, _) = vault.env("b", "API_KEY", "two");
        assert_eq!(
            [first.as_str(), &same, &other],
            ["${API_KEY}", "${API_KEY}", "${B_API_KEY}"]
        );
        assert!(!format!("{vault:?}").contains("one"), "{vault:?}");
    }

    #[test]
    fn copies_only_on_request() {
        let mut vault = Vault::new(true);
        let (text, taken) = vault.env("a", "API_KEY", "on$${e");
        assert_eq!(text, "on$${e");
        assert!(taken.iter().all(|taken| taken.copied));
    }
}
