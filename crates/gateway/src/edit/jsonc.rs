//! Edits of JSON with comments, through a tree that keeps every byte.

use jsonc_parser::ast::{ObjectPropName, Value};
use jsonc_parser::cst::{CstInputValue, CstNode, CstObject, CstRootNode};
use jsonc_parser::{CollectOptions, ParseOptions};

use super::{Change, EditError, Node, Syntax, place};

/// JSON with comments and trailing commas, nothing looser: what every app that reads such files accepts.
fn strictness() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

pub(super) fn read(text: &str) -> Result<Node, EditError> {
    let parsed = jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &strictness())
        .map_err(|error| refused(text, error.range().start, &error.kind().to_string()))?;
    Ok(parsed.value.as_ref().map_or(Node::Null, node))
}

fn refused(text: &str, at: usize, message: &str) -> EditError {
    let (line, column) = place(text, at);
    let mut chars = message.chars();
    let first = chars.next().map(|first| first.to_lowercase().to_string());
    EditError::Syntax {
        syntax: Syntax::Jsonc.name(),
        message: format!("{}{}", first.unwrap_or_default(), chars.as_str()),
        line,
        column,
    }
}

fn node(value: &Value<'_>) -> Node {
    match value {
        Value::NullKeyword(_) => Node::Null,
        Value::BooleanLit(lit) => Node::Bool(lit.value),
        Value::NumberLit(lit) => Node::Literal(lit.value.to_owned()),
        Value::StringLit(lit) => Node::Text(lit.value.to_string()),
        Value::Array(array) => Node::List(array.elements.iter().map(node).collect()),
        Value::Object(object) => Node::Map(
            object
                .properties
                .iter()
                .map(|prop| (name(&prop.name), node(&prop.value)))
                .collect(),
        ),
    }
}

fn name(name: &ObjectPropName<'_>) -> String {
    match name {
        ObjectPropName::String(lit) => lit.value.to_string(),
        ObjectPropName::Word(lit) => lit.value.to_owned(),
    }
}

pub(super) fn edit(text: &str, change: &Change) -> Result<String, EditError> {
    let root = CstRootNode::parse(text, &strictness())
        .map_err(|error| refused(text, error.range().start, &error.kind().to_string()))?;
    let (last, parents) = change
        .path()
        .split_last()
        .ok_or_else(|| EditError::NotAMap(Vec::new()))?;
    match change {
        Change::Set { value, .. } => set(&root, parents, last, value)?,
        Change::Remove { .. } => {
            if let Some(prop) = walk(&root, parents).and_then(|object| object.get(last)) {
                prop.remove();
            }
        }
    }
    let mut edited = root.to_string();
    if text.is_empty() {
        edited.push('\n');
    }
    Ok(edited)
}

/// The map at the end of that path.
fn walk(root: &CstRootNode, path: &[String]) -> Option<CstObject> {
    path.iter().try_fold(root.object_value()?, |object, name| {
        object.object_value(name)
    })
}

/// Sets the entry `last` in the map at `parents`; what is missing on the way is made in one piece.
fn set(root: &CstRootNode, parents: &[String], last: &str, value: &Node) -> Result<(), EditError> {
    let mut object = match root.value() {
        Some(CstNode::Leaf(leaf)) if leaf.to_string() == "null" => root.object_value_or_set(),
        Some(_) | None => root
            .object_value_or_create()
            .ok_or_else(|| EditError::NotAMap(Vec::new()))?,
    };
    for (depth, name) in parents.iter().enumerate() {
        let rest = parents.get(depth + 1..).unwrap_or_default();
        let Some(prop) = object.get(name) else {
            object.append(name, nested(rest, last, value));
            return Ok(());
        };
        let Some(inner) = prop.object_value() else {
            // A null is a map that nobody has filled yet; the caller has refused everything else.
            prop.set_value(nested(rest, last, value));
            return Ok(());
        };
        object = inner;
    }
    match object.get(last) {
        Some(prop) => prop.set_value(input(value)),
        None => {
            object.append(last, input(value));
        }
    }
    Ok(())
}

fn nested(path: &[String], last: &str, value: &Node) -> CstInputValue {
    let innermost = CstInputValue::Object(vec![(last.to_owned(), input(value))]);
    path.iter().rev().fold(innermost, |inner, name| {
        CstInputValue::Object(vec![(name.clone(), inner)])
    })
}

fn input(value: &Node) -> CstInputValue {
    match value {
        Node::Null => CstInputValue::Null,
        Node::Bool(yes) => CstInputValue::Bool(*yes),
        Node::Literal(text) => CstInputValue::Number(text.clone()),
        Node::Text(text) => CstInputValue::String(text.clone()),
        Node::List(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Node::Map(entries) => CstInputValue::Object(
            entries
                .iter()
                .map(|(name, value)| (name.clone(), input(value)))
                .collect(),
        ),
    }
}
