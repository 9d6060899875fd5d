//! Text with references in it: `${VAR}`, `${VAR:-default}`, `${env:VAR}`, `${file:…}`, `${secret:…}`, `${cmd:…}`.
//!
//! A template is kept as written and resolved at the moment of use (law 31), so a config can be logged, compared,
//! hashed and shown without the secrets it points to. `Debug` and `Display` never show a resolved value, and hide
//! literal text too where people keep secrets ([`Template::hidden`]).

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use super::problem::Origin;
use super::stored::{Lookup, Stored};

/// Text that may refer to environment variables, and to values that are kept elsewhere.
///
/// | written | means |
/// |---|---|
/// | `${VAR}`, `${env:VAR}` | the variable; an error that names it when it is not set |
/// | `${VAR:-text}` | the variable, or `text` when it is not set or empty |
/// | `${file:PATH}` | the contents of a file, without one line end at its end |
/// | `${secret:NAME}` | a value in the keyring of the operating system |
/// | `${cmd:PROGRAM …}` | what a command prints, without one line end at its end; no shell is involved |
/// | `$${` | the two characters `${` |
/// | anything else | itself, also `$VAR`, `$` and `%VAR%` |
///
/// Two templates are equal when they are written alike; where they stand in a file does not count.
#[derive(Clone)]
pub struct Template {
    raw: String,
    pieces: Vec<Piece>,
    hidden: bool,
    origin: Option<Box<Origin>>,
}

#[derive(Clone)]
enum Piece {
    Text(String),
    Variable {
        name: String,
        default: Option<String>,
    },
    Stored(Stored),
    Unsupported {
        written: String,
        reason: Reason,
    },
}

/// A reference that has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", reason.sentence(reference), place(origin.as_deref()))]
pub struct Unset {
    /// The name that was referred to, without braces and default: `TOKEN`, or `secret:TOKEN`.
    pub reference: String,
    /// Why there is no value.
    pub reason: Reason,
    /// Where the reference stands, when the template comes from a file.
    pub origin: Option<Box<Origin>>,
}

/// Why a reference has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The environment has no such variable and the reference gives no default.
    NotSet,
    /// A value that is kept elsewhere, and was not looked up.
    NotLookedUp,
    /// `${file:}` without a path.
    NoPath,
    /// `${secret:…}` with a name that no secret can have.
    BadSecretName,
    /// `${cmd:…}` without a program, or with a quote that stays open.
    BadCommand,
    /// `${input:…}`, `${workspaceFolder}` and the like: variables of one editor, which nothing outside it can fill in.
    EditorVariable,
    /// A default that contains a reference itself.
    NestedReference,
    /// A reference to something kept elsewhere that contains more than variables.
    NestedLookup,
    /// `${name:…}` with a prefix that nobody here knows.
    UnknownPrefix,
}

impl Reason {
    pub(super) fn sentence(self, reference: &str) -> String {
        match self {
            Reason::NotSet => format!("the environment variable `{reference}` is not set"),
            Reason::NotLookedUp => format!("`${{{reference}}}` was not looked up"),
            Reason::NoPath => "`${file:…}` names no file".to_owned(),
            Reason::BadSecretName => format!("`${{{reference}}}`: no secret can have that name"),
            Reason::BadCommand => {
                "`${cmd:…}` names no program, or a quote in it stays open".to_owned()
            }
            Reason::EditorVariable => {
                format!("`${{{reference}}}` is a variable of one editor and has no value here")
            }
            Reason::NestedReference => {
                format!("the default of `{reference}` contains a reference, which is not supported")
            }
            Reason::NestedLookup => {
                "a reference within `${file:…}`, `${secret:…}` or `${cmd:…}` is more than a variable"
                    .to_owned()
            }
            Reason::UnknownPrefix => {
                format!("`${{{reference}}}` is not a reference that is known here")
            }
        }
    }

    pub(super) fn remedy(self, reference: &str) -> String {
        match self {
            Reason::NotSet => format!("set `{reference}` before starting, or give a default: `${{{reference}:-…}}`"),
            Reason::NotLookedUp => "start the server: it is looked up then".to_owned(),
            Reason::NoPath => "write `${file:/path/to/file}`".to_owned(),
            Reason::BadSecretName => {
                "use letters, digits, `_`, `-`, `.` and `/`, and no more than 128".to_owned()
            }
            Reason::BadCommand => {
                "write the program and its arguments as you would for a shell: `${cmd:op read \"op://vault/item/field\"}`".to_owned()
            }
            Reason::EditorVariable => {
                "write the value itself, or put it into an environment variable and write `${NAME}`".to_owned()
            }
            Reason::NestedReference => "write a plain text as the default".to_owned(),
            Reason::NestedLookup => "write `${NAME}` there, or plain text".to_owned(),
            Reason::UnknownPrefix => {
                "write `${NAME}` or `${env:NAME}` for a variable, or `$${` for the characters themselves".to_owned()
            }
        }
    }
}

fn place(origin: Option<&Origin>) -> String {
    match origin {
        Some(origin) => {
            format!(
                " ({}, {}:{}:{})",
                origin.path,
                origin.file.display(),
                origin.line,
                origin.column
            )
        }
        None => String::new(),
    }
}

impl Template {
    /// Reads the references in `text`. Never fails: what cannot be resolved says so in [`resolve`](Self::resolve).
    pub fn new(text: impl Into<String>) -> Template {
        let raw = text.into();
        let pieces = split(&raw);
        Template {
            raw,
            pieces,
            hidden: false,
            origin: None,
        }
    }

    /// The same, with its literal text hidden in `Debug` and `Display`: for arguments, variables, headers and URLs.
    pub fn hidden(text: impl Into<String>) -> Template {
        Template {
            hidden: true,
            ..Template::new(text)
        }
    }

    pub(super) fn hide(mut self) -> Template {
        self.hidden = true;
        self
    }

    pub(super) fn at(mut self, origin: Origin) -> Template {
        self.origin = Some(Box::new(origin));
        self
    }

    /// Where it stands in its file; `None` when it was made in code.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
    }

    /// The text as it was written, with its references unresolved. May contain literal secrets: not for logs.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The value, when it depends on nothing. May contain literal secrets: not for logs.
    pub fn literal(&self) -> Option<String> {
        self.resolve(&|_| None)
            .ok()
            .filter(|_| self.variables().next().is_none())
    }

    /// The literal text before the first reference. May contain literal secrets: not for logs.
    pub fn literal_prefix(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text,
            Some(Piece::Variable { .. } | Piece::Stored(_) | Piece::Unsupported { .. }) | None => {
                ""
            }
        }
    }

    /// The names of the variables it refers to, in order, as often as they occur.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().flat_map(|piece| {
            let (own, within) = match piece {
                Piece::Variable { name, .. } => (Some(name.as_str()), None),
                Piece::Stored(stored) => (None, Some(stored)),
                Piece::Text(_) | Piece::Unsupported { .. } => (None, None),
            };
            // Boxed, because the two types refer to each other.
            let within: Box<dyn Iterator<Item = &str>> = match within {
                Some(stored) => Box::new(stored.variables()),
                None => Box::new(std::iter::empty()),
            };
            own.into_iter().chain(within)
        })
    }

    /// Whether it refers to values that are kept elsewhere: those must be looked up before it can be filled in.
    pub fn is_stored(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Stored(_)))
    }

    /// What must be looked up before it can be filled in, in order.
    ///
    /// # Errors
    ///
    /// The first variable without a value in one of these references.
    pub fn lookups(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Lookup>, Unset> {
        let stored = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Stored(stored) => Some(stored),
            Piece::Text(_) | Piece::Variable { .. } | Piece::Unsupported { .. } => None,
        });
        stored
            .map(|stored| stored.lookup(env, self.origin()))
            .collect()
    }

    pub(super) fn has_more_than_variables(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Stored(_) | Piece::Unsupported { .. }))
    }

    /// The text with every variable replaced. Call it at the moment of use and let go of the result soon (law 31).
    ///
    /// `env` answers for one variable; pass [`process_env`](super::process_env) for the environment of this process.
    ///
    /// # Errors
    ///
    /// The first reference without a value, by name and place, never by value. A value that is kept elsewhere is one:
    /// see [`fill`](Self::fill).
    pub fn resolve(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Unset> {
        self.fill(env, &|_| None)
    }

    /// The same with the values that were looked up; `found` answers for one.
    ///
    /// # Errors
    ///
    /// The first reference without a value, by name and place, never by value.
    pub fn fill(
        &self,
        env: &dyn Fn(&str) -> Option<String>,
        found: &dyn Fn(&Lookup) -> Option<String>,
    ) -> Result<String, Unset> {
        let mut out = String::with_capacity(self.raw.len());
        for piece in &self.pieces {
            match self.value(piece, env, found) {
                Ok(text) => out.push_str(&text),
                Err(unset) => return Err(unset),
            }
        }
        Ok(out)
    }

    /// Every reference without a value, in order. What is kept elsewhere is taken to be there.
    pub fn unset(&self, env: &dyn Fn(&str) -> Option<String>) -> Vec<Unset> {
        self.pieces
            .iter()
            .filter_map(|piece| self.value(piece, env, &|_| Some(String::new())).err())
            .collect()
    }

    /// References that no environment can give a value.
    pub(super) fn unsupported(&self) -> Vec<Unset> {
        let mut found = self.unset(&|_| Some(String::new()));
        found.retain(|unset| unset.reason != Reason::NotSet);
        found
    }

    /// `${…}` that is kept as literal text because it is not written like a reference, such as `${x%%.*}` or `${`.
    pub(super) fn has_lookalike(&self) -> bool {
        // `$${` is an announced literal, so what counts is a `${` that survived splitting without its second dollar.
        let without_escapes = self.raw.replace("$${", "");
        let openings = without_escapes.matches("${").count();
        let references = self.pieces.iter().map(|piece| match piece {
            Piece::Text(_) => 0,
            Piece::Variable { .. } | Piece::Unsupported { .. } => 1,
            Piece::Stored(stored) => 1 + stored.variables().count(),
        });
        openings > references.sum()
    }

    fn value(
        &self,
        piece: &Piece,
        env: &dyn Fn(&str) -> Option<String>,
        found: &dyn Fn(&Lookup) -> Option<String>,
    ) -> Result<String, Unset> {
        let fail = |reference: &str, reason| {
            Err(Unset {
                reference: reference.to_owned(),
                reason,
                origin: self.origin.clone(),
            })
        };
        match piece {
            Piece::Text(text) => Ok(text.clone()),
            Piece::Variable {
                name,
                default: None,
            } => match env(name) {
                Some(value) => Ok(value),
                None => fail(name, Reason::NotSet),
            },
            Piece::Variable {
                name,
                default: Some(default),
            } => Ok(env(name)
                .filter(|value| !value.is_empty())
                .unwrap_or_else(|| default.clone())),
            Piece::Stored(stored) => {
                let lookup = stored.lookup(env, self.origin())?;
                found(&lookup).map_or_else(|| fail(&stored.to_string(), Reason::NotLookedUp), Ok)
            }
            Piece::Unsupported { written, reason } => fail(written, *reason),
        }
    }
}

impl From<&str> for Template {
    fn from(text: &str) -> Template {
        Template::new(text)
    }
}

impl From<String> for Template {
    fn from(text: String) -> Template {
        Template::new(text)
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Template) -> bool {
        self.raw == other.raw
    }
}

impl Eq for Template {}

impl Hash for Template {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.raw.hash(state);
    }
}

impl fmt::Display for Template {
    /// References as `${NAME}`; literal text as it is, or `…` when the template is hidden. Defaults are never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Text(_) if self.hidden => f.write_str("…")?,
                Piece::Text(text) => f.write_str(text)?,
                Piece::Variable { name, .. } => write!(f, "${{{name}}}")?,
                Piece::Stored(stored) => write!(f, "${{{stored}}}")?,
                Piece::Unsupported { written, .. } => write!(f, "${{{written}}}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.to_string())
    }
}

fn split(raw: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = raw;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            // An escape: `$${` stands for `${`. One dollar goes, and what follows the brace is ordinary text.
            text.push_str(&rest[..at - 1]);
            text.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        text.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let end = match STORES.iter().any(|store| inside.starts_with(store)) {
            true => Stored::end(inside),
            false => inside.find('}'),
        };
        match end.and_then(|end| Some((end, reference(&inside[..end])?))) {
            Some((end, piece)) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(piece);
                rest = &inside[end + 1..];
            }
            None => {
                text.push_str("${");
                rest = inside;
            }
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

/// How references begin to values that are kept elsewhere.
const STORES: [&str; 3] = ["file:", "secret:", "cmd:"];

/// What stands between the braces, or `None` when it is not written like a reference at all.
fn reference(inside: &str) -> Option<Piece> {
    if let Some(stored) = Stored::parse(inside) {
        return Some(match stored {
            Ok(stored) => Piece::Stored(stored),
            Err(reason) => Piece::Unsupported {
                written: match reason {
                    // What follows may be a secret itself.
                    Reason::BadCommand | Reason::NestedLookup => "…".to_owned(),
                    Reason::NotSet
                    | Reason::NotLookedUp
                    | Reason::NoPath
                    | Reason::BadSecretName
                    | Reason::EditorVariable
                    | Reason::NestedReference
                    | Reason::UnknownPrefix => inside.to_owned(),
                },
                reason,
            },
        });
    }
    let (head, default) = match inside.split_once(":-") {
        Some((head, default)) => (head, Some(default)),
        None => (inside, None),
    };
    let (prefix, name) = match head.split_once(':') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, head),
    };
    let unsupported = |reason| {
        Some(Piece::Unsupported {
            written: head.to_owned(),
            reason,
        })
    };
    match prefix {
        None | Some("env") if !is_name(name) => None,
        None if EDITOR_VARIABLES.contains(&name) => unsupported(Reason::EditorVariable),
        None | Some("env") if default.is_some_and(|text| text.contains("${")) => {
            Some(Piece::Unsupported {
                written: name.to_owned(),
                reason: Reason::NestedReference,
            })
        }
        None | Some("env") => Some(Piece::Variable {
            name: name.to_owned(),
            default: default.map(str::to_owned),
        }),
        Some("input" | "command" | "config" | "workspaceFolder") => {
            unsupported(Reason::EditorVariable)
        }
        Some(prefix) if is_name(prefix) && !name.is_empty() && name.chars().all(is_plain) => {
            unsupported(Reason::UnknownPrefix)
        }
        Some(_) => None,
    }
}

/// Variables that editors fill in and that look like environment variables.
const EDITOR_VARIABLES: [&str; 6] = [
    "workspaceFolder",
    "workspaceFolderBasename",
    "userHome",
    "file",
    "fileDirname",
    "pathSeparator",
];

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/home/ada".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${HOME} $${".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn references_are_replaced_and_everything_else_is_kept() {
        for (written, resolved) in [
            ("plain", "plain"),
            ("", ""),
            ("${HOME}/x", "/home/ada/x"),
            ("a${HOME}b${env:HOME}c", "a/home/adab/home/adac"),
            ("${NOPE:-fall back}", "fall back"),
            ("${env:NOPE:-x}", "x"),
            ("${NOPE:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${HOME:-x}", "/home/ada"),
            ("${NOPE:-http://h:1/}", "http://h:1/"),
            ("$HOME $ $$ %HOME% {HOME}", "$HOME $ $$ %HOME% {HOME}"),
            ("$${HOME}", "${HOME}"),
            ("$$${HOME}", "$${HOME}"),
            ("${x%%.*} ${1} ${} ${ HOME }", "${x%%.*} ${1} ${} ${ HOME }"),
            ("${HOME", "${HOME"),
            ("${unclosed ${HOME}", "${unclosed /home/ada"),
            // A value is never looked into again: the environment cannot inject references.
            ("${TRICKY}", "${HOME} $${"),
            ("é${HOME}ü", "é/home/adaü"),
        ] {
            assert_eq!(
                Template::new(written).resolve(&env).as_deref(),
                Ok(resolved),
                "{written}"
            );
        }
    }

    #[test]
    fn a_reference_without_a_value_is_named() {
        for (written, message) in [
            ("x${NOPE}y", "the environment variable `NOPE` is not set"),
            ("${env:NOPE}", "the environment variable `NOPE` is not set"),
            (
                "${secret:a b}",
                "`${secret:a b}`: no secret can have that name",
            ),
            (
                "${input:key}",
                "`${input:key}` is a variable of one editor and has no value here",
            ),
            (
                "${workspaceFolder}/x",
                "`${workspaceFolder}` is a variable of one editor and has no value here",
            ),
            (
                "${vault:a/b}",
                "`${vault:a/b}` is not a reference that is known here",
            ),
            (
                "${A:-${B}}",
                "the default of `A` contains a reference, which is not supported",
            ),
        ] {
            let unset = Template::new(written).resolve(&env).unwrap_err();
            assert_eq!(unset.to_string(), message, "{written}");
        }
        let all = Template::new("${A}${HOME}${B}").unset(&env);
        assert_eq!(
            all.iter()
                .map(|unset| unset.reference.as_str())
                .collect::<Vec<_>>(),
            ["A", "B"]
        );
    }

    #[test]
    fn law_31_showing_a_template_shows_no_value() {
        let template = Template::hidden("Bearer sk-literal ${HOME} ${TOKEN:-sk-default}");
        for shown in [format!("{template:?}"), template.to_string()] {
            assert!(!shown.contains("sk-"), "{shown}");
            assert!(!shown.contains("/home/ada"), "{shown}");
            assert!(shown.contains("${TOKEN}"), "{shown}");
        }
        let open = Template::new("uvx ${HOME:-sk-default}").to_string();
        assert_eq!(open, "uvx ${HOME}");
    }

    #[test]
    fn what_only_looks_like_a_reference_is_noticed() {
        for (written, lookalike) in [
            ("${x%%.*}", true),
            ("${HOME", true),
            ("$${x%%}", false),
            ("${HOME}", false),
            ("$HOME", false),
        ] {
            assert_eq!(
                Template::new(written).has_lookalike(),
                lookalike,
                "{written}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_template(text in "[${}:a-cA-C\\-é ]{0,40}") {
            let template = Template::new(text.clone());
            let all_set = template.resolve(&|_| Some("v".to_owned()));
            if !text.contains("${") {
                prop_assert_eq!(all_set.unwrap(), text);
            }
            let _ = (template.to_string(), template.has_lookalike(), template.unset(&|_| None));
        }
    }
}
