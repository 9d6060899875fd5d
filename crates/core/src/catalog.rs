//! Which names clients see, and whether a listing changed anything.
//!
//! Only names decide here; the raw items stay with the caller, byte for byte.

mod diff;
mod merge;

use std::fmt;

use sha2::{Digest as _, Sha256};

pub use diff::{Diff, diff};
pub use merge::{Entry, Exposure, Merged, Quarantine, Reason, merge};

/// The four things a server lists. They behave alike (law 22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKind {
    /// Named by `name`.
    Tool,
    /// Named by `name`.
    Prompt,
    /// Named by `uri`.
    Resource,
    /// Named by `uriTemplate`.
    ResourceTemplate,
}

impl ItemKind {
    /// All of them.
    pub const ALL: [ItemKind; 4] = [
        ItemKind::Tool,
        ItemKind::Prompt,
        ItemKind::Resource,
        ItemKind::ResourceTemplate,
    ];

    /// The member of a listing's result that holds the items; also a stable word for logs and the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            ItemKind::Tool => "tools",
            ItemKind::Prompt => "prompts",
            ItemKind::Resource => "resources",
            ItemKind::ResourceTemplate => "resourceTemplates",
        }
    }
}

/// The longest exposed name: what model APIs accept for a tool.
pub const EXPOSED_NAME_BYTES_MAX: usize = 64;

/// Hex digits of the hash that makes a shortened or altered name unique.
const SUFFIX_DIGITS: usize = 8;

/// The name under which clients see a tool or prompt: `{server}__{name}`.
///
/// Characters outside `A-Z a-z 0-9 _ - .` become `_`. A name that was altered or cut, or that could be read as another
/// server's, ends in `_` and eight hex digits of a hash over the original pair. So the result depends on this pair only,
/// never on its neighbours, has at most 64 bytes, and two different pairs differ (law 24; proof for unaltered ones: the
/// server part neither contains `__` nor ends in `_`, so the first `__` is the separator).
#[must_use]
pub fn exposed_name(server: &str, name: &str) -> String {
    let plain: String = server
        .chars()
        .chain("__".chars())
        .chain(name.chars())
        .map(sanitised)
        .collect();
    let ambiguous =
        server.contains("__") || server.ends_with('_') || server.is_empty() || name.is_empty();
    let altered = !server.chars().chain(name.chars()).all(is_plain);
    if !ambiguous && !altered && plain.len() <= EXPOSED_NAME_BYTES_MAX {
        return plain;
    }
    // All characters are ASCII by now, so bytes and characters are the same thing.
    let head = plain.len().min(EXPOSED_NAME_BYTES_MAX - SUFFIX_DIGITS - 1);
    let mut suffix = digest([(server, name.as_bytes())].into_iter()).to_string();
    suffix.truncate(SUFFIX_DIGITS);
    format!("{}_{suffix}", &plain[..head])
}

const fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

const fn sanitised(c: char) -> char {
    if is_plain(c) { c } else { '_' }
}

/// A fingerprint of content: equal content is published once (law 21).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

/// The digest of items given as (name, content). Their order does not matter; everything else does.
#[must_use]
pub fn digest<'a>(items: impl Iterator<Item = (&'a str, &'a [u8])>) -> Digest {
    let mut items: Vec<(&str, &[u8])> = items.collect();
    items.sort_unstable();
    let mut hasher = Sha256::new();
    for (name, content) in items {
        // Lengths first: otherwise bytes could move from a name into its content unnoticed.
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update((content.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(content);
    }
    let full = hasher.finalize();
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().zip(full.iter()) {
        *to = *from;
    }
    Digest(short)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_24_exposed_names_are_plain_short_and_stable() {
        assert_eq!(
            exposed_name("github", "create_issue"),
            "github__create_issue"
        );
        assert_eq!(exposed_name("a.b-c", "_x"), "a.b-c___x");
        let long = exposed_name("server", &"n".repeat(200));
        assert_eq!(long.len(), EXPOSED_NAME_BYTES_MAX);
        assert_eq!(long, exposed_name("server", &"n".repeat(200)));
        assert_ne!(
            long,
            exposed_name("server", &"n".repeat(201)),
            "cut names keep apart"
        );
        for (server, name) in [
            ("sërver", "tool"),
            ("s", "a/b c"),
            ("x__y", "z"),
            ("x_", "y"),
            ("", "y"),
            ("x", ""),
        ] {
            let exposed = exposed_name(server, name);
            assert!(
                exposed.len() <= EXPOSED_NAME_BYTES_MAX && exposed.chars().all(is_plain),
                "{exposed}"
            );
        }
        assert_eq!(
            exposed_name("edge", &"n".repeat(58)).len(),
            64,
            "64 bytes need no hash"
        );
        assert!(exposed_name("edge", &"n".repeat(58)).ends_with("nnnn"));
    }

    #[test]
    fn law_24_pairs_that_look_alike_get_different_names() {
        let pairs = [
            ("a", "b__c"),
            ("a__b", "c"),
            ("a_", "b"),
            ("a", "_b"),
            ("a", "b c"),
            ("a", "b_c"),
            ("a", "b/c"),
            ("a b", "c"),
            ("a_b", "c"),
            ("é", "x"),
            ("è", "x"),
        ];
        let exposed: std::collections::BTreeSet<String> = pairs
            .iter()
            .map(|(server, name)| exposed_name(server, name))
            .collect();
        assert_eq!(exposed.len(), pairs.len(), "{exposed:?}");
    }

    #[test]
    fn law_21_digest_depends_on_content_and_not_on_order() {
        let of = |items: &[(&'static str, &'static str)]| {
            digest(items.iter().map(|(n, c)| (*n, c.as_bytes())))
        };
        let one = of(&[("a", "1"), ("b", "2")]);
        assert_eq!(one, of(&[("b", "2"), ("a", "1")]));
        assert_ne!(one, of(&[("a", "1"), ("b", "3")]));
        assert_ne!(one, of(&[("a", "1")]));
        assert_ne!(
            of(&[("ab", "c")]),
            of(&[("a", "bc")]),
            "bytes do not move between name and content"
        );
        assert_ne!(of(&[]), of(&[("", "")]));
    }
}
