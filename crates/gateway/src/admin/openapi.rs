//! The OpenAPI 3.1 description of the admin API, made from its table.
//!
//! Served by every Mainstay and kept as `docs/openapi.json`.

use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::api::{self, Route, SchemaOf};
use super::dto::ErrorBody;
use super::json_text;

/// This part's rows of the table.
pub(super) const ROUTES: &[Route] = &[Route::get(
    "/api/v1/openapi.json",
    "describe",
    "This description, as OpenAPI 3.1",
    || get(openapi),
)
.json::<Map<String, Value>>()];

const ABOUT: &str = "What a running Mainstay shows and which orders it takes. On the local socket of the command line it \
    is open to its user. On the TCP port it asks for the same `Host` and `Origin` as `/mcp`, every POST needs the header \
    `Mainstay-Request: 1` and must not come from another web origin, and where others could reach it a token is needed \
    (`Authorization: Bearer`). No answer holds a secret. Members may be added; none is renamed.";

/// The text, made once.
static TEXT: LazyLock<String> = LazyLock::new(text);

async fn openapi() -> Response {
    json_text(StatusCode::OK, TEXT.as_str())
}

/// The description as pretty JSON with a line break at its end.
fn text() -> String {
    let mut text = serde_json::to_string_pretty(&document())
        .unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string());
    text.push('\n');
    text
}

/// Schemas of what is sent and of what is answered differ where a member has a default: one generator for each.
struct Schemas {
    sent: SchemaGenerator,
    answered: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12()
                .with(|settings| settings.definitions_path = "/components/schemas".into())
        };
        Self {
            sent: settings().for_deserialize().into_generator(),
            answered: settings().for_serialize().into_generator(),
        }
    }

    fn answered(&mut self, schema: SchemaOf) -> Schema {
        schema(&mut self.answered)
    }

    fn into_components(mut self) -> Map<String, Value> {
        let mut all = self.answered.take_definitions(true);
        all.extend(self.sent.take_definitions(true));
        all
    }
}

fn document() -> Value {
    let mut schemas = Schemas::new();
    let error = schemas.answered(|generator| generator.subschema_for::<ErrorBody>());
    let mut paths: Map<String, Value> = Map::new();
    for route in api::all() {
        let operations = paths
            .entry(route.path)
            .or_insert_with(|| Value::Object(Map::new()));
        operations[route.verb.word()] = operation(route, &mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Mainstay admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas.into_components(),
            "responses": {
                "Error": {
                    "description": "What is wrong, and what can be done about it.",
                    "content": { "application/json": { "schema": error } },
                },
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Needed on the TCP port unless the request comes from this machine.",
                },
            },
        },
        "security": [{}, { "token": [] }],
    })
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let mut content = Map::new();
    if let Some(schema) = route.json {
        content.insert(
            "application/json".to_owned(),
            json!({ "schema": schemas.answered(schema) }),
        );
    }
    if let Some(schema) = route.events {
        let stream = json!({
            "schema": { "type": "string", "description": "Server-sent events; the data of each is JSON." },
            "x-event-data": schemas.answered(schema),
        });
        content.insert("text/event-stream".to_owned(), stream);
    }
    let mut responses = Map::new();
    responses.insert(
        "200".to_owned(),
        json!({ "description": route.summary, "content": content }),
    );
    for refusal in route.refusals {
        let body = json!({ "schema": schemas.answered(refusal.schema) });
        responses.insert(
            refusal.status.to_owned(),
            json!({ "description": refusal.about, "content": { "application/json": body } }),
        );
    }
    responses.insert(
        "default".to_owned(),
        json!({ "$ref": "#/components/responses/Error" }),
    );
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "responses": responses,
    });
    let parameters = parameters(route, schemas);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(schema) = route.body {
        operation["requestBody"] = json!({
            "required": route.body_required,
            "content": { "application/json": { "schema": schema(&mut schemas.sent) } },
        });
    }
    operation
}

fn parameters(route: &Route, schemas: &mut Schemas) -> Vec<Value> {
    let in_path = route.path.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        Some(json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": "The server's name in the configuration.",
            "schema": { "type": "string" },
        }))
    });
    let mut all: Vec<Value> = in_path.collect();
    all.extend(route.params.iter().map(|param| {
        json!({
            "name": param.name,
            "in": "query",
            "description": param.about,
            "schema": schemas.answered(param.schema),
        })
    }));
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

    #[test]
    fn the_description_in_docs_is_current() {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PAGE, text()).unwrap();
        }
        let written = std::fs::read_to_string(PAGE).unwrap_or_default();
        assert!(
            written == text(),
            "docs/openapi.json is stale: run `UPDATE_DOCS=1 cargo test -p mainstay-gateway --lib`"
        );
    }

    #[test]
    fn every_operation_has_its_own_name_and_says_what_it_answers() {
        let mut ids = HashSet::new();
        for route in api::all() {
            assert!(ids.insert(route.id), "{} is used twice", route.id);
            assert!(
                route.json.is_some() || route.events.is_some(),
                "{} answers nothing",
                route.id
            );
            assert!(route.path.starts_with("/api/v1/"), "{}", route.path);
        }
    }

    /// Every `$ref` leads somewhere, and no two types share a name.
    #[test]
    fn the_description_is_closed() {
        let document = document();
        let mut refs = Vec::new();
        collect_refs(&document, &mut refs);
        assert!(!refs.is_empty());
        for reference in refs {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let names = document["components"]["schemas"].as_object().unwrap();
        for name in names.keys() {
            assert!(
                !name.ends_with(|last: char| last.is_ascii_digit()),
                "two types are called {name}: rename one with #[schemars(rename)]"
            );
        }
    }

    fn collect_refs(value: &Value, refs: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match member {
                        Value::String(target) if name == "$ref" => refs.push(target.clone()),
                        Value::Null
                        | Value::Bool(_)
                        | Value::Number(_)
                        | Value::String(_)
                        | Value::Array(_)
                        | Value::Object(_) => collect_refs(member, refs),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect_refs(item, refs)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
