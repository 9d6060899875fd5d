//! `docs/configuration.md`: every key of the file, its type, default and limits, generated from the same structs that the
//! reader fills and the schema describes.

use std::fmt::Write as _;

use serde_json::Value;

use super::schema::{json_schema, tests::check_in};

/// How a page about one map of keys begins.
struct Part<'s> {
    title: &'s str,
    words: &'s str,
    schema: &'s Value,
    prefix: &'s str,
}

/// The schema behind `$ref`s.
fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    match schema["$ref"].as_str() {
        Some(name) => resolved(root, &root["$defs"][name.trim_start_matches("#/$defs/")]),
        None => schema,
    }
}

/// The alternatives of a schema that are not null.
fn choices<'s>(root: &'s Value, schema: &'s Value) -> Vec<&'s Value> {
    let schema = resolved(root, schema);
    let parts = ["anyOf", "oneOf"]
        .into_iter()
        .filter_map(|word| schema[word].as_array())
        .flatten();
    let found: Vec<_> = parts
        .flat_map(|part| choices(root, part))
        .filter(|part| part["type"] != "null")
        .collect();
    if found.is_empty() {
        vec![schema]
    } else {
        found
    }
}

fn words_of(schema: &Value) -> Vec<String> {
    let listed = schema["enum"].as_array().into_iter().flatten();
    let constant = schema.get("const");
    listed
        .chain(constant)
        .filter(|value| !value.is_null())
        .map(|value| format!("`{value}`"))
        .collect()
}

/// What a value may be, in words.
fn kind(root: &Value, schema: &Value) -> String {
    let mut words: Vec<String> = Vec::new();
    for choice in choices(root, schema) {
        let own = words_of(choice);
        if !own.is_empty() {
            words.extend(own);
            continue;
        }
        let types = match &choice["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            Value::String(one) => vec![one.as_str()],
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => vec!["anything"],
        };
        for one in types.into_iter().filter(|one| *one != "null") {
            let word = match one {
                "array" => format!("list of {}", kind(root, &choice["items"])),
                "object" if choice["properties"].is_object() => "group".to_owned(),
                "object" if choice["additionalProperties"].is_object() => {
                    format!("map of {}", kind(root, &choice["additionalProperties"]))
                }
                "integer" => "number".to_owned(),
                "boolean" => "true or false".to_owned(),
                other => other.to_owned(),
            };
            words.push(word);
        }
    }
    words.dedup();
    words.join(" or ")
}

/// Least and largest value, if a number has them.
fn range(root: &Value, schema: &Value) -> String {
    let bounds = std::iter::once(resolved(root, schema)).chain(choices(root, schema));
    let mut bounds = bounds.filter_map(|one| {
        let (low, high) = (one.get("minimum")?, one.get("maximum")?);
        Some(format!("{low} to {high}"))
    });
    bounds.next().unwrap_or_default()
}

/// One line of text for a table.
fn cell(text: &str) -> String {
    let joined: Vec<&str> = text.split_whitespace().collect();
    joined.join(" ").replace('|', "\\|")
}

/// The groups below a schema, by key.
fn groups<'s>(root: &'s Value, schema: &'s Value) -> Vec<(&'s str, &'s Value)> {
    choices(root, schema)
        .into_iter()
        .filter_map(|choice| choice["properties"].as_object())
        .flatten()
        .map(|(key, value)| (key.as_str(), value))
        .collect()
}

/// Rows of all keys below a schema, groups in place.
fn rows(root: &Value, schema: &Value, prefix: &str, page: &mut String) {
    for (key, value) in groups(root, schema) {
        let path = format!("{prefix}{key}");
        let about = resolved(root, value);
        let words = value["description"]
            .as_str()
            .or(about["description"].as_str())
            .unwrap_or_default();
        let default = value.get("default").filter(|default| !default.is_null());
        let default = default.map(|default| format!("`{default}`"));
        writeln!(
            page,
            "| `{path}` | {} | {} | {} | {} |",
            cell(&kind(root, value)),
            default.unwrap_or_default(),
            range(root, value),
            cell(words)
        )
        .unwrap();
        // Servers are described once, and stand in several places.
        if !matches!(key, "mcpServers" | "servers" | "defaults") {
            rows(root, value, &format!("{path}."), page);
            for choice in choices(root, value) {
                let entry = &choice["additionalProperties"];
                if entry.is_object() && !groups(root, entry).is_empty() {
                    rows(root, entry, &format!("{path}.NAME."), page);
                }
            }
        }
    }
}

fn page() -> String {
    let root: Value = serde_json::from_str(&json_schema()).unwrap();
    let server = &root["properties"]["mcpServers"];
    let server = choices(&root, server)
        .into_iter()
        .map(|choice| &choice["additionalProperties"])
        .find(|entry| entry.is_object())
        .unwrap();
    let own = &root["properties"]["mainstay"];
    let mut page = String::from(
        "# Configuration reference\n\n\
         One file, JSON with comments and trailing commas. It is the `mcpServers` file that MCP clients share; everything else is\n\
         optional. It is looked for in this order: `--config`, `MAINSTAY_CONFIG`, `./mcp.json`, the user's configuration directory.\n\
         A running Mainstay notices when it changes; `mainstay reload --dry-run` shows what a change would touch.\n\n\
         Durations are milliseconds, sizes are bytes. `${VAR}`, `${VAR:-default}` and `${env:VAR}` refer to the environment in\n\
         `command`, `args`, `env`, `cwd`, `url` and `headers`; `$${` stands for `${`. Unknown keys are warned about, with the nearest known one.\n\n\
         This page is generated; `UPDATE_DOCS=1 cargo test -p mainstay --lib` writes it anew. The same as a schema for editors:\n\
         [mainstay.schema.json](mainstay.schema.json). What happens when a limit is met: [limits.md](limits.md).\n",
    );
    let parts = [
        Part {
            title: "One server",
            words: "Under `mcpServers.NAME`. What is not about the connection itself may stand under `mainstay.defaults` too, for all servers.",
            schema: server,
            prefix: "",
        },
        Part {
            title: "Mainstay itself",
            words: "Under `mainstay`.",
            schema: own,
            prefix: "mainstay.",
        },
    ];
    for part in parts {
        write!(
            page,
            "\n## {}\n\n{}\n\n| key | value | default | range | what |\n|---|---|---|---|---|\n",
            part.title, part.words
        )
        .unwrap();
        rows(&root, part.schema, part.prefix, &mut page);
    }
    page
}

#[test]
fn the_checked_in_reference_of_the_configuration_is_current_and_has_every_key() {
    let page = page();
    for key in [
        "| `command` |",
        "| `restart.budget` |",
        "| `tools.include` |",
        "| `mainstay.limits.messageBytes` |",
    ] {
        assert!(page.contains(key), "{key}");
    }
    check_in("configuration.md", &page);
}
