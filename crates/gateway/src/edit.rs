//! Minimal edits of configuration files: one entry set or removed, every other byte as it was.
//!
//! A file belongs to the person who wrote it, so its comments, order, indentation and line ends stay. Whatever an editor of
//! one syntax makes of the text is read again, and the edit is refused if the tree differs from what was asked for in any
//! other place. This file and the ones per syntax only turn text into text; [`file`] writes it.
//!
//! Must not know what the entries mean: commands do.

pub(crate) mod diff;
pub(crate) mod file;
mod jsonc;
mod toml;
mod yaml;

use std::fmt;
use std::path::Path;

use serde_json::Value;

/// Largest file that is edited, in bytes.
pub(crate) const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How a configuration file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// JSON, with comments and trailing commas if somebody put them there.
    Jsonc,
    /// TOML.
    Toml,
    /// YAML: one document.
    Yaml,
}

impl Syntax {
    /// By the end of the file's name; JSON when it says nothing.
    pub(crate) fn of(path: &Path) -> Self {
        let end = path.extension().and_then(|end| end.to_str());
        match end.map(str::to_ascii_lowercase).as_deref() {
            Some("toml") => Self::Toml,
            Some("yaml" | "yml") => Self::Yaml,
            Some(_) | None => Self::Jsonc,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Jsonc => "JSON",
            Self::Toml => "TOML",
            Self::Yaml => "YAML",
        }
    }

    fn broken(self) -> &'static str {
        match self {
            Self::Jsonc => "the file would not be JSON any more",
            Self::Toml => "the file would not be TOML any more",
            Self::Yaml => "the file would not be YAML any more",
        }
    }

    /// Whether two trees mean the same in a file of this syntax.
    fn same(self, a: &Node, b: &Node) -> bool {
        match self {
            Self::Jsonc => a == b,
            // Its tables have no order, and where they stand is a matter of style.
            Self::Toml => a.sorted() == b.sorted(),
            // A map without entries is nothing at all when it is written in lines.
            Self::Yaml => a == b || (*a == Node::Null && *b == Node::empty()),
        }
    }
}

/// A value of a configuration file, in the order of the file and with numbers as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number, a date or a reference of the syntax's own, as it is written.
    Literal(String),
    /// Text.
    Text(String),
    /// Values in order.
    List(Vec<Node>),
    /// Entries in order. A name may occur twice in a file; such an entry is never edited.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// An empty map.
    pub(crate) fn empty() -> Self {
        Self::Map(Vec::new())
    }

    /// The entry of that name, if this is a map that has one.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// What is at the end of that path of names.
    pub(crate) fn at(&self, path: &[String]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.get(name))
    }

    /// The entries of a map; none of anything else.
    pub(crate) fn entries(&self) -> &[(String, Node)] {
        match self {
            Self::Map(entries) => entries,
            Self::Null | Self::Bool(_) | Self::Literal(_) | Self::Text(_) | Self::List(_) => &[],
        }
    }

    /// The text, if it is one.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Literal(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// With every map sorted by name.
    fn sorted(&self) -> Self {
        match self {
            Self::Map(entries) => {
                let sorted = entries
                    .iter()
                    .map(|(name, value)| (name.clone(), value.sorted()));
                let mut sorted: Vec<_> = sorted.collect();
                sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
                Self::Map(sorted)
            }
            Self::List(items) => Self::List(items.iter().map(Self::sorted).collect()),
            Self::Null | Self::Bool(_) | Self::Literal(_) | Self::Text(_) => self.clone(),
        }
    }

    /// As JSON; of two entries with one name the later wins.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(yes) => Value::Bool(*yes),
            Self::Literal(text) => serde_json::from_str::<serde_json::Number>(text)
                .map_or_else(|_| Value::String(text.clone()), Value::Number),
            Self::Text(text) => Value::String(text.clone()),
            Self::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Self::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(name, value)| (name.clone(), value.to_json()))
                    .collect(),
            ),
        }
    }
}

impl From<&Value> for Node {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(yes) => Self::Bool(*yes),
            Value::Number(number) => Self::Literal(number.to_string()),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(entries) => Self::Map(
                entries
                    .iter()
                    .map(|(name, value)| (name.clone(), value.into()))
                    .collect(),
            ),
        }
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// One change of a file. A path is the names of the maps that lead to an entry, the entry's own last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Gives the entry this value: in its place if it exists, else at the end of its map. Missing maps are made.
    Set {
        /// Where.
        path: Vec<String>,
        /// What.
        value: Node,
    },
    /// Takes the entry out. Comments around it stay. Nothing happens if there is none.
    Remove {
        /// Where.
        path: Vec<String>,
    },
}

impl Change {
    /// Gives the entry at `path` this value.
    pub(crate) fn set<S: Into<String>>(path: impl IntoIterator<Item = S>, value: Node) -> Self {
        Self::Set {
            path: path.into_iter().map(Into::into).collect(),
            value,
        }
    }

    /// Takes out the entry at `path`.
    pub(crate) fn remove<S: Into<String>>(path: impl IntoIterator<Item = S>) -> Self {
        Self::Remove {
            path: path.into_iter().map(Into::into).collect(),
        }
    }

    fn path(&self) -> &[String] {
        match self {
            Self::Set { path, .. } | Self::Remove { path } => path,
        }
    }

    /// Does it to the tree: what the edited text must mean.
    fn apply(&self, tree: &mut Node) -> Result<(), EditError> {
        let Some((last, parents)) = self.path().split_last() else {
            return Err(EditError::NotAMap(Vec::new()));
        };
        let mut node = tree;
        for (depth, name) in parents.iter().enumerate() {
            let here = || parents.get(..depth).unwrap_or_default().to_vec();
            let entries = map_of(node, here)?;
            let at = position(entries, name, here)?;
            let at = match (at, self) {
                (Some(at), _) => at,
                (None, Self::Remove { .. }) => return Ok(()),
                (None, Self::Set { .. }) => {
                    entries.push((name.clone(), Node::empty()));
                    entries.len() - 1
                }
            };
            let Some((_, child)) = entries.get_mut(at) else {
                return Err(EditError::NotAMap(here()));
            };
            node = child;
        }
        if matches!((&*node, self), (Node::Null, Self::Remove { .. })) {
            return Ok(());
        }
        let entries = map_of(node, || parents.to_vec())?;
        let at = position(entries, last, || parents.to_vec())?;
        match (self, at) {
            (Self::Set { value, .. }, Some(at)) => {
                if let Some((_, old)) = entries.get_mut(at) {
                    *old = value.clone();
                }
            }
            (Self::Set { value, .. }, None) => entries.push((last.clone(), value.clone())),
            (Self::Remove { .. }, Some(at)) => {
                entries.remove(at);
            }
            (Self::Remove { .. }, None) => {}
        }
        Ok(())
    }
}

/// The entries of a node that is a map, or that is nothing yet.
fn map_of(
    node: &mut Node,
    here: impl Fn() -> Vec<String>,
) -> Result<&mut Vec<(String, Node)>, EditError> {
    if *node == Node::Null {
        *node = Node::empty();
    }
    match node {
        Node::Map(entries) => Ok(entries),
        Node::Null | Node::Bool(_) | Node::Literal(_) | Node::Text(_) | Node::List(_) => {
            Err(EditError::NotAMap(here()))
        }
    }
}

/// Where the entry of that name is, unless it is there twice.
fn position(
    entries: &[(String, Node)],
    name: &str,
    here: impl Fn() -> Vec<String>,
) -> Result<Option<usize>, EditError> {
    let mut found = entries
        .iter()
        .enumerate()
        .filter(|(_, (key, _))| key == name)
        .map(|(at, _)| at);
    let first = found.next();
    if found.next().is_some() {
        let mut path = here();
        path.push(name.to_owned());
        return Err(EditError::Twice(path));
    }
    Ok(first)
}

/// Why a text was not edited. Nothing has been written then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EditError {
    /// It cannot be read.
    #[error("this is not {syntax}: {message} (line {line}, column {column})")]
    Syntax {
        /// Which syntax was expected.
        syntax: &'static str,
        /// What the parser says.
        message: String,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// Something on the way to the entry is no map.
    #[error("{} is not a map of names to values", At(.0))]
    NotAMap(Vec<String>),
    /// Something on the way to the entry is there twice.
    #[error("{} is there twice", At(.0))]
    Twice(Vec<String>),
    /// The text is written in a way that cannot be edited without touching something else.
    #[error("{} cannot be edited in place: {why}", At(.path))]
    Unsafe {
        /// Where.
        path: Vec<String>,
        /// What stands in the way.
        why: &'static str,
    },
    /// The text is longer than any configuration.
    #[error("the file has {0} bytes, more than the {FILE_BYTES_MAX} that are read")]
    TooLarge(usize),
}

impl EditError {
    /// What a human can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "mend the file there, then run the command again",
            Self::NotAMap(_) => {
                "it must hold the entries; mend the file, then run the command again"
            }
            Self::Twice(_) => "keep one of the two, then run the command again",
            Self::Unsafe { .. } => "make this change by hand; nothing has been written",
            Self::TooLarge(_) => "check that this is a configuration file",
        }
    }
}

/// A path as people read it.
struct At<'p>(&'p [String]);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the top of the file");
        }
        write!(f, "`{}`", self.0.join("."))
    }
}

/// Reads a text. An empty one (or one of comments alone) is [`Node::Null`].
///
/// # Errors
/// When it is not of that syntax, with the place.
pub(crate) fn read(syntax: Syntax, text: &str) -> Result<Node, EditError> {
    if text.len() > FILE_BYTES_MAX {
        return Err(EditError::TooLarge(text.len()));
    }
    let text = text.strip_prefix(BOM).unwrap_or(text);
    match syntax {
        Syntax::Jsonc => jsonc::read(text),
        Syntax::Toml => toml::read(text),
        Syntax::Yaml => yaml::read(text),
    }
}

/// The byte order mark that some editors put in front.
const BOM: char = '\u{feff}';

/// Makes the changes, one after the other. The result is the same text when they change nothing.
///
/// # Errors
/// When the text cannot be read, or when a change cannot be made without touching anything else.
pub(crate) fn edit(syntax: Syntax, text: &str, changes: &[Change]) -> Result<String, EditError> {
    let mut tree = read(syntax, text)?;
    let (bom, body) = match text.strip_prefix(BOM) {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    };
    let mut edited = body.to_owned();
    for change in changes {
        let mut wanted = tree.clone();
        change.apply(&mut wanted)?;
        if wanted == tree {
            continue;
        }
        let next = match syntax {
            Syntax::Jsonc => jsonc::edit(&edited, change),
            Syntax::Toml => toml::edit(&edited, change),
            Syntax::Yaml => yaml::edit(&edited, change),
        }?;
        let next = keep_line_ends(&edited, &next);
        let refused = |why| EditError::Unsafe {
            path: change.path().to_vec(),
            why,
        };
        match read(syntax, &next) {
            Ok(after) if syntax.same(&after, &wanted) => {}
            Ok(_) => return Err(refused("something else in the file would change with it")),
            Err(_) => return Err(refused(syntax.broken())),
        }
        edited = next;
        tree = wanted;
    }
    Ok(format!("{bom}{edited}"))
}

/// Gives the lines that are as before their own line ends back, and the new ones those of the file.
fn keep_line_ends(before: &str, after: &str) -> String {
    if !before.contains('\r') {
        return after.to_owned();
    }
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let new: Vec<&str> = after.split_inclusive('\n').collect();
    let same = |a: &&str, b: &&str| bare(a) == bare(b);
    let head = old.iter().zip(&new).take_while(|(a, b)| same(a, b)).count();
    let most = old.len().min(new.len()) - head;
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(most)
        .take_while(|(a, b)| same(a, b))
        .count();
    let crlf = old.iter().filter(|line| line.ends_with("\r\n")).count();
    let end = if crlf * 2 > old.len() { "\r\n" } else { "\n" };
    let mut text: String = old.iter().take(head).copied().collect();
    for line in new.iter().take(new.len() - tail).skip(head) {
        text.push_str(bare(line));
        if line.ends_with('\n') {
            text.push_str(end);
        }
    }
    text.extend(old.iter().skip(old.len() - tail).copied());
    text
}

/// A line without its end.
fn bare(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

/// Line and column, both from 1, of a place in a text.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests;
