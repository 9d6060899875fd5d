//! No secret is checked in: every text of the project is looked through for keys and tokens in the forms that services give
//! them. A line that must hold one says `not a secret` beside it.

use std::fs;
use std::path::PathBuf;

use super::root;

/// Files that are larger than this are data.
const BYTES_MAX: u64 = 2 * 1024 * 1024;

/// How a kind of secret begins, what it is made of, and how long it is at least.
struct Form {
    what: &'static str,
    prefix: &'static str,
    rest: fn(char) -> bool,
    chars_min: usize,
}

const fn form(
    what: &'static str,
    prefix: &'static str,
    rest: fn(char) -> bool,
    chars_min: usize,
) -> Form {
    Form {
        what,
        prefix,
        rest,
        chars_min,
    }
}

fn upper(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit()
}

fn word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn dashed(c: char) -> bool {
    word(c) || c == '-'
}

fn dotted(c: char) -> bool {
    dashed(c) || c == '.'
}

const FORMS: &[Form] = &[
    form("an AWS access key", "AKIA", upper, 16),
    form("an AWS session key", "ASIA", upper, 16),
    form("a GitHub token", "ghp_", word, 36),
    form("a GitHub token", "gho_", word, 36),
    form("a GitHub token", "ghu_", word, 36),
    form("a GitHub token", "ghs_", word, 36),
    form("a GitHub token", "github_pat_", word, 40),
    form("a GitLab token", "glpat-", dashed, 20),
    form("a Slack token", "xoxb-", dashed, 20),
    form("a Slack token", "xoxp-", dashed, 20),
    form("a Stripe key", "sk_live_", word, 20),
    form("an Anthropic key", "sk-ant-", dashed, 30),
    form("an OpenAI key", "sk-proj-", dashed, 30),
    form("a Google key", "AIza", dashed, 35),
    form("an npm token", "npm_", word, 36),
    form("a PyPI token", "pypi-AgE", dashed, 50),
    form("a crates.io token", "cio", word, 32),
    form("a JSON web token", "eyJ", dotted, 100),
];

/// What looks like a secret in one text, with the line.
fn secrets(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    let mut in_key = false;
    for (number, line) in text.lines().enumerate() {
        if line.contains("not a secret") {
            continue;
        }
        // A key in full: its first line, and one of its content.
        if line.contains("-----BEGIN ") && line.contains("PRIVATE KEY-----") {
            in_key = true;
        } else if in_key {
            let content = line.trim().trim_matches(['"', '\\', ',', '\'']);
            let is_key = content.len() >= 40
                && content
                    .chars()
                    .all(|c| word(c) || matches!(c, '+' | '/' | '='));
            if is_key {
                found.push((number + 1, "a private key"));
            }
            in_key = content.contains(':') || content.is_empty();
        }
        let of_form = |form: &&Form| {
            line.match_indices(form.prefix).any(|(at, prefix)| {
                let before = line[..at].chars().next_back();
                let rest = &line[at + prefix.len()..];
                let length = rest.chars().take_while(|c| (form.rest)(*c)).count();
                let varied = rest
                    .chars()
                    .take(length)
                    .collect::<std::collections::BTreeSet<_>>();
                !before.is_some_and(word) && length >= form.chars_min && varied.len() > 8
            })
        };
        found.extend(
            FORMS
                .iter()
                .filter(of_form)
                .map(|form| (number + 1, form.what)),
        );
    }
    found
}

/// Every file that could be checked in.
fn all_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_made = matches!(
                name.as_str(),
                "target" | "node_modules" | ".git" | "corpus" | "artifacts" | ".venv"
            );
            if path.is_symlink() || is_made {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn no_secret_is_checked_in() {
    let files = all_files();
    assert!(files.len() > 300, "the tree is not where it is looked for");
    let mut found = Vec::new();
    for path in files {
        if fs::metadata(&path).is_ok_and(|file| file.len() > BYTES_MAX) {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for (line, what) in secrets(&text) {
            found.push(format!("{}:{line}: {what}", path.display()));
        }
    }
    assert!(found.is_empty(), "these look like secrets: {found:#?}");
}

#[test]
fn a_planted_secret_is_found() {
    let letters = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zAbCdEfGhIjKlMnOpQrStUvWxYz0123456789";
    for form in FORMS {
        let rest: String = letters.chars().cycle().take(form.chars_min + 4).collect();
        let rest = match form.what.starts_with("an AWS") {
            true => rest.to_ascii_uppercase(),
            false => rest,
        };
        let line = format!("token = \"{}{rest}\"", form.prefix);
        assert_eq!(secrets(&line), [(1, form.what)], "{line}");
        assert_eq!(secrets(&format!("{line} // not a secret")), []);
        let short: String = rest.chars().take(form.chars_min - 1).collect();
        assert_eq!(
            secrets(&format!("{}{short}", form.prefix)),
            [],
            "an example in words"
        );
    }
    for kind in ["", "RSA ", "OPENSSH ", "EC "] {
        let key = format!("x\n-----BEGIN {kind}PRIVATE KEY-----\n{letters}\n");
        assert_eq!(secrets(&key), [(3, "a private key")]);
    }
    assert_eq!(
        secrets("it begins with -----BEGIN PRIVATE KEY-----\nand then comes text"),
        []
    );
}
