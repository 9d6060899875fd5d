//! From the text of an app's file to one tree, whatever the format.
//!
//! Bounded in size and depth, and says where a broken file is broken. Must not quote what a file contains: people keep
//! secrets in these files.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use jsonc_parser::{JsonValue, ParseOptions};
use serde_json::{Map, Number, Value};

use super::Format;

/// Largest file that is read. The user's file of Claude Code keeps histories beside its servers and grows large.
pub(crate) const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest message of a parser that is repeated, in characters.
const MESSAGE_CHARS_MAX: usize = 160;

/// Why a file could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Line and column, counted from 1, when the text was read at all.
    pub(crate) at: Option<(usize, usize)>,
    /// What is wrong.
    pub(crate) message: String,
}

impl Broken {
    fn plain(message: impl Into<String>) -> Self {
        Self {
            at: None,
            message: message.into(),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.at {
            write!(f, "{line}:{column}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Reads one file. `None` when it does not exist.
pub(crate) fn read_file(path: &Path, format: Format) -> Option<Result<Value, Broken>> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        // `~/.codex/config.toml` where `~/.codex` is a file: as good as absent.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return None,
        Err(error) => return Some(Err(Broken::plain(error.to_string()))),
    };
    Some(parse(&text, format))
}

fn read_text(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() {
        // A pipe would keep us waiting for ever.
        return Err(io::Error::other("this is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "the file has more than the {FILE_BYTES_MAX} bytes that are read"
        )));
    }
    String::from_utf8(bytes).map_err(|_not_text| io::Error::other("this is not UTF-8 text"))
}

/// Reads text as `format`. Empty text is an empty map.
pub(crate) fn parse(text: &str, format: Format) -> Result<Value, Broken> {
    // Some editors put a byte order mark in front, which is not part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    match format {
        Format::Jsonc => jsonc(text),
        Format::Toml => toml(text),
        Format::Yaml => yaml(text),
    }
}

/// The format that a file's name or else its text tells.
pub(crate) fn guess_format(path: &Path, text: &str) -> Format {
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    match ending.as_deref() {
        Some("toml") => Format::Toml,
        Some("yaml" | "yml") => Format::Yaml,
        Some("json" | "jsonc" | "json5") => Format::Jsonc,
        Some(_) | None => {
            let first = text.trim_start_matches('\u{feff}').trim_start();
            if first.starts_with(['{', '/']) || parse(text, Format::Jsonc).is_ok() {
                Format::Jsonc
            } else if parse(text, Format::Toml).is_ok() {
                Format::Toml
            } else {
                Format::Yaml
            }
        }
    }
}

/// Text of a file that was named on the command line.
pub(crate) fn read_named(path: &Path) -> io::Result<String> {
    read_text(path)
}

fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

fn short(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let mut chars = line.chars();
    let mut short: String = chars.by_ref().take(MESSAGE_CHARS_MAX).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

fn jsonc(text: &str) -> Result<Value, Broken> {
    let options = ParseOptions {
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
    };
    match jsonc_parser::parse_to_value(text, &options) {
        Ok(value) => Ok(value.map_or(Value::Null, of_json)),
        Err(error) => Err(Broken {
            at: Some(position(text, error.range().start)),
            message: format!("this is not JSON: {}", short(&error.kind().to_string())),
        }),
    }
}

fn of_json(value: JsonValue<'_>) -> Value {
    match value {
        JsonValue::String(text) => Value::String(text.into_owned()),
        JsonValue::Number(text) => text.parse().map_or(Value::Null, Value::Number),
        JsonValue::Boolean(flag) => Value::Bool(flag),
        JsonValue::Null => Value::Null,
        JsonValue::Array(items) => items.take_inner().into_iter().map(of_json).collect(),
        JsonValue::Object(members) => members
            .into_iter()
            .map(|(key, value)| (key.into_owned(), of_json(value)))
            .collect(),
    }
}

fn toml(text: &str) -> Result<Value, Broken> {
    match text.parse::<toml_edit::DocumentMut>() {
        Ok(document) => Ok(of_toml_table(document.as_table())),
        Err(error) => Err(Broken {
            at: error.span().map(|span| position(text, span.start)),
            message: format!("this is not TOML: {}", short(error.message())),
        }),
    }
}

fn of_toml_table(table: &dyn toml_edit::TableLike) -> Value {
    let members = table
        .iter()
        .map(|(key, item)| (key.to_owned(), of_toml_item(item)));
    Value::Object(members.collect())
}

fn of_toml_item(item: &toml_edit::Item) -> Value {
    match item {
        toml_edit::Item::None => Value::Null,
        toml_edit::Item::Value(value) => of_toml_value(value),
        toml_edit::Item::Table(table) => of_toml_table(table),
        toml_edit::Item::ArrayOfTables(tables) => {
            tables.iter().map(|table| of_toml_table(table)).collect()
        }
    }
}

fn of_toml_value(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => Value::String(text.value().clone()),
        toml_edit::Value::Integer(number) => Value::from(*number.value()),
        toml_edit::Value::Float(number) => {
            Number::from_f64(*number.value()).map_or(Value::Null, Value::Number)
        }
        toml_edit::Value::Boolean(flag) => Value::Bool(*flag.value()),
        toml_edit::Value::Datetime(time) => Value::String(time.value().to_string()),
        toml_edit::Value::Array(items) => items.iter().map(of_toml_value).collect(),
        toml_edit::Value::InlineTable(table) => of_toml_table(table),
    }
}

fn yaml(text: &str) -> Result<Value, Broken> {
    serde_saphyr::from_str::<Value>(text).map_err(|error| {
        let whole = usize::MAX;
        Broken {
            at: error.location().map(|place| {
                let number = |n: u64| usize::try_from(n).unwrap_or(whole);
                (number(place.line()), number(place.column()))
            }),
            message: format!(
                "this is not YAML: {}",
                short(&error.without_snippet().to_string())
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn three_formats_make_one_tree() {
        let expected = json!({ "servers": { "time": { "command": "uvx", "args": ["a", "b"], "port": 3, "on": true } } });
        let texts = [
            (
                Format::Jsonc,
                "\u{feff}// servers\n{ \"servers\": { \"time\": { \"command\": \"uvx\", \"args\": [\"a\", \"b\",], \
                 \"port\": 3, /* on */ \"on\": true } } }",
            ),
            (
                Format::Toml,
                "[servers.time] # a comment\ncommand = 'uvx'\nargs = [\"a\", \"b\"]\nport = 3\non = true\n",
            ),
            (
                Format::Yaml,
                "# servers\nservers:\n  time:\n    command: uvx\n    args: [a, \"b\"]\n    port: 3\n    on: true\n",
            ),
        ];
        for (format, text) in texts {
            assert_eq!(parse(text, format), Ok(expected.clone()), "{format:?}");
            assert_eq!(guess_format(Path::new("mystery"), text), format);
        }
    }

    #[test]
    fn a_broken_file_says_where_and_never_what_it_holds() {
        let texts = [
            (
                Format::Jsonc,
                "{\n  \"env\": { \"K\": \"hunter2\" \"L\": 1 }\n}",
                2,
            ),
            (Format::Toml, "[env]\nK = \"hunter2\nL = 1\n", 2),
            (Format::Yaml, "env:\n  K: \"hunter2\n  - x: [\n", 2),
        ];
        for (format, text, line_least) in texts {
            let broken = parse(text, format).unwrap_err();
            let (line, _) = broken.at.unwrap();
            assert!(line >= line_least, "{format:?} {broken}");
            assert!(!broken.to_string().contains("hunter2"), "{broken}");
        }
    }

    #[test]
    fn too_deep_is_an_error_and_not_the_end_of_the_process() {
        let deep = "[".repeat(100_000);
        for format in [Format::Jsonc, Format::Yaml, Format::Toml] {
            let text = if format == Format::Toml {
                format!("a = {deep}")
            } else {
                deep.clone()
            };
            assert!(parse(&text, format).is_err(), "{format:?}");
        }
    }
}
