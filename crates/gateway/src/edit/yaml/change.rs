//! The changes themselves: where lines go in and come out.

use super::{Entry, STEP, Shape, Spot, is_number, scalar, spots};
use crate::edit::{Change, EditError, Node};

pub(in crate::edit) fn edit(text: &str, change: &Change) -> Result<String, EditError> {
    let path = change.path();
    let refused = |why| EditError::Unsafe {
        path: path.to_vec(),
        why,
    };
    let root = spots(text)?;
    match (change, root) {
        (Change::Set { value, .. }, Some(root)) => {
            let page = Page {
                text,
                step: step(&root).unwrap_or(STEP),
            };
            page.set(&root, path, value)
        }
        (Change::Set { value, .. }, None) => {
            let page = Page { text, step: STEP };
            let Some((name, rest)) = path.split_first() else {
                return Ok(text.to_owned());
            };
            let lines = page.lines(name, &nested(rest, value), 0);
            Ok(page.with_lines(text.len(), &lines))
        }
        (Change::Remove { .. }, Some(root)) => {
            let page = Page { text, step: STEP };
            page.remove(&root, path).map_err(refused)
        }
        (Change::Remove { .. }, None) => Ok(text.to_owned()),
    }
}

fn nested(path: &[String], value: &Node) -> Node {
    path.iter().rev().fold(value.clone(), |inner, name| {
        Node::Map(vec![(name.clone(), inner)])
    })
}

fn entries(spot: &Spot) -> &[Entry] {
    match &spot.shape {
        Shape::Lines(entries) | Shape::Braces(entries) => entries,
        Shape::Other => &[],
    }
}

/// By how much the file indents.
fn step(spot: &Spot) -> Option<usize> {
    entries(spot).iter().find_map(|entry| {
        let inner = match &entry.value.shape {
            Shape::Lines(inner) => inner.first(),
            Shape::Braces(_) | Shape::Other => None,
        };
        match inner {
            Some(inner) => inner.column.checked_sub(entry.column),
            None => step(&entry.value),
        }
    })
}

fn is_nothing(node: &Node) -> bool {
    *node == Node::Null || *node == Node::empty()
}

struct Page<'t> {
    text: &'t str,
    step: usize,
}

impl Page<'_> {
    fn set(&self, root: &Spot, path: &[String], value: &Node) -> Result<String, EditError> {
        let mut map = root;
        for (depth, name) in path.iter().enumerate() {
            let rest = path.get(depth + 1..).unwrap_or_default();
            let entry = entries(map).iter().find(|entry| entry.name == *name);
            match entry {
                None => return Ok(self.insert(map, name, &nested(rest, value))),
                Some(entry) if rest.is_empty() => return Ok(self.replace(map, entry, value)),
                Some(entry) if is_nothing(&entry.value.node) => {
                    return Ok(self.replace(map, entry, &nested(rest, value)));
                }
                Some(entry) => map = &entry.value,
            }
        }
        Ok(self.text.to_owned())
    }

    fn insert(&self, map: &Spot, name: &str, value: &Node) -> String {
        match &map.shape {
            Shape::Lines(entries) => {
                let column = entries.first().map_or(0, |first| first.column);
                let lines = self.lines(name, value, column);
                self.with_lines(self.line_end(map.to), &lines)
            }
            Shape::Braces(entries) => match entries.last() {
                Some(last) => {
                    let added = format!(", {}: {}", quoted(name), flow(value));
                    self.spliced(last.value.to, last.value.to, &added)
                }
                None => self.spliced(map.from, map.to, &self.lines(name, value, 0)),
            },
            // The whole document is a null.
            Shape::Other => self.spliced(map.from, map.to, &self.lines(name, value, 0)),
        }
    }

    fn replace(&self, map: &Spot, entry: &Entry, value: &Node) -> String {
        let old = &entry.value;
        if matches!(map.shape, Shape::Braces(_)) {
            return self.spliced(old.from, old.to, &format!(" {}", flow(value)));
        }
        let colon = self.colon(entry);
        if !in_lines(value) {
            return self.spliced(colon, old.to, &format!(" {}", flow(value)));
        }
        let Node::Map(inner) = value else {
            return self.text.to_owned();
        };
        let lines: String = inner
            .iter()
            .map(|(name, value)| self.lines(name, value, entry.column + self.step))
            .collect();
        // What follows the old value on its line is a comment, and stays behind the name.
        let end = self.line_end(old.to);
        let rest = self.text.get(old.to..end).unwrap_or_default();
        let rest = rest.trim_end_matches(['\n', '\r']);
        self.spliced(colon, end, &format!("{rest}\n{lines}"))
    }

    fn remove(&self, root: &Spot, path: &[String]) -> Result<String, &'static str> {
        let Some((last, parents)) = path.split_last() else {
            return Ok(self.text.to_owned());
        };
        let mut map = root;
        let mut parent = None;
        for name in parents {
            let Some(entry) = entries(map).iter().find(|entry| entry.name == *name) else {
                return Ok(self.text.to_owned());
            };
            parent = Some(entry);
            map = &entry.value;
        }
        let all = entries(map);
        let Some(at) = all.iter().position(|entry| entry.name == *last) else {
            return Ok(self.text.to_owned());
        };
        let (Some(entry), next) = (all.get(at), all.get(at + 1)) else {
            return Ok(self.text.to_owned());
        };
        let previous = at.checked_sub(1).and_then(|at| all.get(at));
        if matches!(map.shape, Shape::Braces(_)) {
            let (from, to) = match (previous, next) {
                (_, Some(next)) => (entry.from, next.from),
                (Some(previous), None) => (previous.value.to, entry.value.to),
                (None, None) => (entry.from, entry.value.to),
            };
            return Ok(self.spliced(from, to, ""));
        }
        let from = self.line_start(entry.from);
        if !self
            .text
            .get(from..entry.from)
            .unwrap_or_default()
            .trim()
            .is_empty()
        {
            return Err("something else stands on its line");
        }
        let to = self.line_end(entry.value.to.max(entry.name_to));
        let mut text = self.spliced(from, to, "");
        if let (Some(parent), 1) = (parent, all.len()) {
            // A name with nothing behind it would not be a map any more.
            text.insert_str(self.colon(parent), " {}");
        }
        Ok(text)
    }

    /// After the colon behind the entry's name.
    fn colon(&self, entry: &Entry) -> usize {
        let behind = self.text.get(entry.name_to..).unwrap_or_default();
        behind
            .find(':')
            .map_or(entry.name_to, |at| entry.name_to + at + 1)
    }

    fn line_start(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or_default();
        before.rfind('\n').map_or(0, |at| at + 1)
    }

    /// After the line break of the line that holds the byte before `at`.
    fn line_end(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        rest.find('\n').map_or(self.text.len(), |end| at + end + 1)
    }

    fn spliced(&self, from: usize, to: usize, with: &str) -> String {
        let head = self.text.get(..from).unwrap_or_default();
        let tail = self.text.get(to..).unwrap_or_default();
        format!("{head}{with}{tail}")
    }

    /// Puts lines in at the beginning of one, or at the end of a text that may lack its last line break.
    fn with_lines(&self, at: usize, lines: &str) -> String {
        let head = self.text.get(..at).unwrap_or_default();
        let gap = if head.is_empty() || head.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        self.spliced(at, at, &format!("{gap}{lines}"))
    }

    /// An entry as lines, the last with its line break.
    fn lines(&self, name: &str, value: &Node, column: usize) -> String {
        let indent = " ".repeat(column);
        let key = word(name);
        match value {
            Node::Map(inner) if in_lines(value) => {
                let inner: String = inner
                    .iter()
                    .map(|(name, value)| self.lines(name, value, column + self.step))
                    .collect();
                format!("{indent}{key}:\n{inner}")
            }
            Node::Text(text) => format!("{indent}{key}: {}\n", word(text)),
            Node::Null | Node::Bool(_) | Node::Literal(_) | Node::List(_) | Node::Map(_) => {
                format!("{indent}{key}: {}\n", flow(value))
            }
        }
    }
}

/// Whether the value is written below its name.
fn in_lines(value: &Node) -> bool {
    matches!(value, Node::Map(entries) if !entries.is_empty())
}

/// On one line, as JSON is.
fn flow(value: &Node) -> String {
    match value {
        Node::Null => "null".to_owned(),
        Node::Bool(yes) => yes.to_string(),
        Node::Literal(text) if is_number(text) => text.clone(),
        Node::Literal(text) | Node::Text(text) => quoted(text),
        Node::List(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Node::Map(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(name, value)| format!("{}: {}", quoted(name), flow(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Without quotes where every reader of YAML, old and new, takes it for text.
fn word(text: &str) -> String {
    const TAKEN: [&str; 10] = [
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "none",
    ];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_'))
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.'))
        && !TAKEN.contains(&text.to_ascii_lowercase().as_str())
        && scalar(text, granit_parser::ScalarStyle::Plain) == Node::Text(text.to_owned());
    if plain { text.to_owned() } else { quoted(text) }
}
