//! Edits of TOML.

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::{Change, EditError, Node, Syntax, bare, place};

pub(super) fn read(text: &str) -> Result<Node, EditError> {
    Ok(table(parse(text)?.as_table()))
}

fn parse(text: &str) -> Result<DocumentMut, EditError> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        let at = error.span().map_or(0, |span| span.start);
        let (line, column) = place(text, at);
        EditError::Syntax {
            syntax: Syntax::Toml.name(),
            message: error
                .message()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
            line,
            column,
        }
    })
}

fn table(table: &dyn TableLike) -> Node {
    Node::Map(
        table
            .iter()
            .map(|(name, value)| (name.to_owned(), item(value)))
            .collect(),
    )
}

fn item(found: &Item) -> Node {
    match found {
        Item::None => Node::Null,
        Item::Value(found) => value(found),
        Item::Table(found) => table(found),
        Item::ArrayOfTables(found) => Node::List(found.iter().map(|one| table(one)).collect()),
    }
}

fn value(found: &Value) -> Node {
    match found {
        Value::String(text) => Node::Text(text.value().clone()),
        Value::Boolean(yes) => Node::Bool(*yes.value()),
        Value::Integer(number) => Node::Literal(number.value().to_string()),
        Value::Float(number) => Node::Literal(number.value().to_string()),
        Value::Datetime(date) => Node::Literal(date.value().to_string()),
        Value::Array(items) => Node::List(items.iter().map(value).collect()),
        Value::InlineTable(inline) => table(inline),
    }
}

/// A table: one with a header of its own, or one in braces.
enum Found<'t> {
    Table(&'t mut Table),
    Braces(&'t mut InlineTable),
}

pub(super) fn edit(text: &str, change: &Change) -> Result<String, EditError> {
    let mut document = parse(text)?;
    let (last, parents) = change
        .path()
        .split_last()
        .ok_or_else(|| EditError::NotAMap(Vec::new()))?;
    let unsayable = || EditError::Unsafe {
        path: change.path().to_vec(),
        why: "TOML has no way to say what is to be written there",
    };
    match change {
        Change::Set { value, .. } => {
            let spaced = !text.trim().is_empty();
            match walk(document.as_table_mut(), parents, true)? {
                Some(Found::Table(table)) => set(table, last, value, spaced),
                Some(Found::Braces(table)) => inline(value).map(|value| braced(table, last, value)),
                None => None,
            }
            .ok_or_else(unsayable)?;
            Ok(document.to_string())
        }
        Change::Remove { .. } => {
            match walk(document.as_table_mut(), parents, false)? {
                Some(Found::Table(table)) => drop(table.remove(last)),
                Some(Found::Braces(table)) => drop(table.remove(last)),
                None => {}
            }
            Ok(keep_comments(text, &document.to_string()))
        }
    }
}

/// The table at the end of that path. `None`: it is not there, and was not to be made.
fn walk<'t>(
    root: &'t mut Table,
    path: &[String],
    make: bool,
) -> Result<Option<Found<'t>>, EditError> {
    let mut here = Found::Table(root);
    for (depth, name) in path.iter().enumerate() {
        let no_map = || EditError::NotAMap(path.get(..=depth).unwrap_or_default().to_vec());
        here = match here {
            Found::Table(table) => {
                if !table.contains_key(name) && make {
                    // Only its own tables are written: `[mcp_servers.mainstay]` says it all.
                    let mut fresh = Table::new();
                    fresh.set_implicit(true);
                    table.insert(name, Item::Table(fresh));
                }
                match table.get_mut(name) {
                    None => return Ok(None),
                    Some(Item::Table(inner)) => Found::Table(inner),
                    Some(Item::Value(Value::InlineTable(inner))) => Found::Braces(inner),
                    Some(Item::None | Item::Value(_) | Item::ArrayOfTables(_)) => {
                        return Err(no_map());
                    }
                }
            }
            Found::Braces(table) => {
                if !table.contains_key(name) && make {
                    table.insert(name, Value::InlineTable(InlineTable::new()));
                }
                match table.get_mut(name) {
                    None => return Ok(None),
                    Some(Value::InlineTable(inner)) => Found::Braces(inner),
                    Some(_) => return Err(no_map()),
                }
            }
        };
    }
    Ok(Some(here))
}

/// `None`: there is no TOML for it.
fn set(parent: &mut Table, name: &str, node: &Node, spaced: bool) -> Option<()> {
    let old = parent.get(name);
    let header = match old {
        Some(old) => old.is_table(),
        None => !parent.is_dotted(),
    };
    if let (Node::Map(entries), true) = (node, header) {
        let mut fresh = Table::new();
        for (key, inner) in entries {
            fresh.insert(key, Item::Value(inline(inner)?));
        }
        match old.and_then(Item::as_table) {
            Some(old) => {
                fresh.set_position(old.position());
                *fresh.decor_mut() = old.decor().clone();
            }
            None if spaced => fresh.decor_mut().set_prefix("\n"),
            None => {}
        }
        parent.insert(name, Item::Table(fresh));
        return Some(());
    }
    let mut fresh = inline(node)?;
    if let Some(old) = old.and_then(Item::as_value) {
        *fresh.decor_mut() = old.decor().clone();
    }
    parent.insert(name, Item::Value(fresh));
    Some(())
}

/// Sets an entry of a table in braces; the space before the closing one stays before the closing one.
fn braced(table: &mut InlineTable, name: &str, mut value: Value) {
    if !table.contains_key(name)
        && let Some((_, last)) = table.iter_mut().last()
    {
        let space = last.decor().suffix().cloned().unwrap_or_default();
        last.decor_mut().set_suffix("");
        value.decor_mut().set_suffix(space);
    }
    table.insert(name, value);
}

/// Comments above a table belong to it in the tree, and would leave with it: somebody's words stay.
fn keep_comments(before: &str, after: &str) -> String {
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let new: Vec<&str> = after.split_inclusive('\n').collect();
    let head = old
        .iter()
        .zip(&new)
        .take_while(|(a, b)| bare(a) == bare(b))
        .count();
    let gone = old
        .iter()
        .skip(head)
        .take(old.len().saturating_sub(new.len()));
    let words: Vec<&str> = gone
        .copied()
        .take_while(|line| matches!(line.trim_start().chars().next(), None | Some('#')))
        .collect();
    let last = words
        .iter()
        .rposition(|line| line.trim_start().starts_with('#'));
    let kept = words
        .get(..last.map_or(0, |last| last + 1))
        .unwrap_or_default();
    let mut text: String = new.iter().take(head).copied().collect();
    text.extend(kept.iter().copied());
    text.extend(new.iter().skip(head).copied());
    text
}

fn inline(node: &Node) -> Option<Value> {
    Some(match node {
        Node::Null => return None,
        Node::Bool(yes) => Value::from(*yes),
        Node::Literal(text) => text.parse().ok()?,
        Node::Text(text) => Value::from(text.as_str()),
        Node::List(items) => {
            let items: Option<Array> = items.iter().map(inline).collect();
            Value::Array(items?)
        }
        Node::Map(entries) => {
            let mut table = InlineTable::new();
            for (name, value) in entries {
                table.insert(name, inline(value)?);
            }
            Value::InlineTable(table)
        }
    })
}
