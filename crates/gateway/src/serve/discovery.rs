//! Endpoints on which tools are searched for: a few tools of ours stand for all of them, for clients that take only so many.
//!
//! `search_tools` finds, `describe_tool` shows one, `call_tool` calls one: the last becomes the call itself before anything
//! else looks at it, so that whatever holds for a direct call holds for it. Their names cannot be those of others: every
//! exposed name has a `__`.

pub(crate) mod index;

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, PoisonError};

use bytes::Bytes;
use mainstay::Publication;
use mainstay::catalog::CacheHint;
use mainstay::config::Discovery;
use mainstay::publish::{Listing, Published};
use mainstay_core::catalog::Digest;
use mainstay_wire::{Era, Message, json_string, meta, method, raw};

use self::index::Index;
use super::Shared;
use super::endpoint::Endpoint;
use super::fault::{Fault, shown};
use super::greet::own_info;
use super::pages::Page;
use super::profiles;
use super::view::Viewer;

const SEARCH: &str = "search_tools";
const DESCRIBE: &str = "describe_tool";
const CALL: &str = "call_tool";

/// What a search gives without `limit`, and at most.
const FOUND: usize = 10;
const FOUND_MAX: usize = 50;

/// Longest query that is looked at, in bytes.
const QUERY_BYTES_MAX: usize = 1_024;

/// Bytes of schemas in one answer; beyond it tools are given without, and described on request.
const SCHEMAS_BYTES_MAX: usize = 128 * 1024;

/// Views of which the words are kept.
const INDEXES_MAX: usize = 8;

/// What clients are advised to do on such an endpoint.
pub(crate) const ADVICE: &str = "Most tools are not listed here. Find them with `search_tools`, see one with \
     `describe_tool`, and call it with `call_tool`.";

/// The tools that stand for all of them, one JSON array.
static TOOLS: LazyLock<Bytes> = LazyLock::new(|| {
    let tools = serde_json::json!([
        {
            "name": CALL,
            "title": "Call a tool",
            "description": "Calls a tool that is not listed, by the name that search_tools gave. The answer is the tool's own.",
            "inputSchema": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string", "description": "The tool's name, as search_tools gave it."},
                "arguments": {"type": "object", "description": "The tool's arguments, by its inputSchema."},
            }},
        },
        {
            "name": DESCRIBE,
            "title": "Describe a tool",
            "description": "Shows the whole definition of a tool, with the schemas of its input and output.",
            "inputSchema": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string", "description": "The tool's name, as search_tools gave it."},
            }},
            "annotations": {"readOnlyHint": true, "idempotentHint": true, "openWorldHint": false},
        },
        {
            "name": SEARCH,
            "title": "Search tools",
            "description": "Finds tools by what they do, by their names and their arguments. Call what it finds with call_tool.",
            "inputSchema": {"type": "object", "required": ["query"], "properties": {
                "query": {"type": "string", "description": "What the tool is to do, in a few words. Empty: all tools, by name."},
                "limit": {"type": "integer", "minimum": 1, "maximum": FOUND_MAX, "default": FOUND,
                    "description": "How many tools at most."},
                "server": {"type": "string", "description": "Only tools of this server."},
            }},
            "annotations": {"readOnlyHint": true, "idempotentHint": true, "openWorldHint": false},
        },
    ]);
    tools.to_string().into()
});

/// The one page of the listing.
pub(crate) fn page(cursor: Option<&str>) -> Result<Page, Fault> {
    match cursor {
        None => Ok(Page {
            items: TOOLS.clone(),
            next: None,
            hint: CacheHint::NONE,
        }),
        Some(_) => Err(Fault::params(
            "unknown cursor: it was not given by this listing; list again without one",
        )),
    }
}

/// Identifies the listing: it never changes.
pub(crate) fn digest() -> Digest {
    mainstay_core::catalog::digest(std::iter::once((SEARCH, TOOLS.as_ref())))
}

/// What becomes of a request.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly always the large one, moved once: a box would cost every call an allocation"
)]
pub(crate) enum Met {
    /// It goes its way, as this message.
    Goes(Message),
    /// It is answered here, with this result.
    Answered(String),
}

/// Looks whether a request is a call of one of our tools.
///
/// # Errors
/// What is wrong with the arguments of `call_tool`.
pub(crate) fn meet(
    shared: &Shared,
    endpoint: &Endpoint,
    (who, era): (&Viewer, Era),
    message: Message,
) -> Result<Met, Fault> {
    if message.method() != Some(method::TOOLS_CALL)
        || profiles::discovery(shared, endpoint) != Discovery::Search
    {
        return Ok(Met::Goes(message));
    }
    let name = message.string_member(&["params", "name"]);
    match name.as_deref() {
        Some(CALL) => call(&message).map(Met::Goes),
        Some(SEARCH) => {
            let arguments = message.member(&["params", "arguments"]).unwrap_or("{}");
            let publication = endpoint.publication(shared, who);
            let answer = search(shared, &publication, arguments, era);
            Ok(Met::Answered(result(answer, era)))
        }
        Some(DESCRIBE) => {
            let arguments = message.member(&["params", "arguments"]).unwrap_or("{}");
            let publication = endpoint.publication(shared, who);
            let answer = describe(shared, &publication, arguments, era);
            Ok(Met::Answered(result(answer, era)))
        }
        Some(_) | None => Ok(Met::Goes(message)),
    }
}

/// The call that is meant: everything but name and arguments stays as the client wrote it.
fn call(message: &Message) -> Result<Message, Fault> {
    let given = message.member(&["params", "arguments"]).unwrap_or("{}");
    let name = raw::member(given, &["name"]).filter(|name| raw::string(name).is_some());
    let name = name.ok_or_else(|| {
        Fault::params("`call_tool` wants the tool's name: `params.arguments.name` must be a string")
    })?;
    let inner = match raw::member(given, &["arguments"]) {
        None | Some("null") => None,
        Some(object) if raw::is_object(object) => Some(object.to_owned()),
        // Models that are asked for an object inside of an object sometimes write it as text.
        Some(text) => {
            match raw::string(text).filter(|text| raw::is_json(text) && raw::is_object(text)) {
                Some(object) => Some(object.into_owned()),
                None => {
                    return Err(Fault::params(
                        "`call_tool` wants an object of arguments: `params.arguments.arguments` must be an object",
                    ));
                }
            }
        }
    };
    let edit = message.edit().set(&["params", "name"], name);
    let edit = match inner {
        Some(arguments) => edit.set(&["params", "arguments"], arguments),
        None => edit.remove(&["params", "arguments"]),
    };
    edit.apply()
        .map_err(|error| Fault::params(error.to_string()))
}

/// A structured answer of ours, or words about what is wrong.
type Answer = Result<String, String>;

fn result(answer: Answer, era: Era) -> String {
    let tail = match era {
        Era::Legacy => String::new(),
        Era::Modern => format!(
            ",\"resultType\":\"complete\",\"_meta\":{{\"{}\":{}}}",
            meta::SERVER_INFO,
            own_info()
        ),
    };
    let text = |text: &str| format!("[{{\"type\":\"text\",\"text\":{}}}]", json_string(text));
    match answer {
        Ok(structured) => format!(
            "{{\"content\":{},\"structuredContent\":{structured}{tail}}}",
            text(&structured)
        ),
        Err(words) => format!("{{\"content\":{},\"isError\":true{tail}}}", text(&words)),
    }
}

/// What clients of an era can call.
fn callable(publication: &Publication, era: Era) -> &Listing {
    match era {
        Era::Legacy => &publication.tools,
        Era::Modern => publication.tools.callable_over_http(),
    }
}

fn search(shared: &Shared, publication: &Arc<Publication>, arguments: &str, era: Era) -> Answer {
    let query = raw::string_member(arguments, &["query"]).unwrap_or_default();
    if query.len() > QUERY_BYTES_MAX {
        return Err(format!("`query` has at most {QUERY_BYTES_MAX} bytes"));
    }
    let limit = match raw::member(arguments, &["limit"]) {
        None | Some("null") => FOUND,
        Some(limit) => match limit.parse::<usize>() {
            Ok(limit @ 1..=FOUND_MAX) => limit,
            Ok(_) | Err(_) => {
                return Err(format!(
                    "`limit` must be a whole number from 1 to {FOUND_MAX}"
                ));
            }
        },
    };
    let server = raw::string_member(arguments, &["server"]);
    if let Some(server) = &server
        && !publication.servers.contains_key(&**server)
    {
        let known: Vec<&str> = publication.servers.keys().map(|name| &**name).collect();
        return Err(format!(
            "no server is named `{}`; there are: {}",
            shown(server),
            known.join(", ")
        ));
    }
    let callable = callable(publication, era);
    let found: Vec<&Published> = index_of(shared, publication)
        .find(&query)
        .into_iter()
        .filter_map(|at| publication.tools.items.get(at))
        .filter(|tool| {
            server
                .as_deref()
                .is_none_or(|server| *tool.server == *server)
        })
        .filter(|tool| callable.find(&tool.exposed).is_some())
        .collect();
    let mut texts = Vec::new();
    let mut bytes = 0;
    for tool in found.iter().take(limit) {
        texts.push(brief(tool, &mut bytes));
    }
    Ok(format!(
        "{{\"tools\":[{}],\"found\":{}}}",
        texts.join(","),
        found.len()
    ))
}

/// What a search tells of a tool: members are the server's own words.
fn brief(tool: &Published, bytes: &mut usize) -> String {
    let text = std::str::from_utf8(&tool.raw).unwrap_or_default();
    let mut brief = format!("{{\"name\":{}", json_string(&tool.exposed));
    for member in ["title", "description", "inputSchema"] {
        let Some(value) = raw::member(text, &[member]) else {
            continue;
        };
        *bytes += value.len();
        if *bytes > SCHEMAS_BYTES_MAX && member == "inputSchema" {
            brief.push_str(",\"inputSchemaLeftOut\":true");
            continue;
        }
        // Writing to a string does not fail.
        let _ = write!(brief, ",\"{member}\":{value}");
    }
    brief.push('}');
    brief
}

fn describe(shared: &Shared, publication: &Arc<Publication>, arguments: &str, era: Era) -> Answer {
    let name = raw::string_member(arguments, &["name"]).ok_or("`name` must be a string")?;
    let callable = callable(publication, era);
    if let Some(tool) = callable.find(&name) {
        let text = std::str::from_utf8(&tool.raw).unwrap_or_default();
        return Ok(format!("{{\"tool\":{text}}}"));
    }
    let query = name.get(..QUERY_BYTES_MAX).unwrap_or(&name);
    let near: Vec<String> = index_of(shared, publication)
        .find(query)
        .into_iter()
        .filter_map(|at| publication.tools.items.get(at))
        .take(3)
        .map(|tool| format!("`{}`", tool.exposed))
        .collect();
    let hint = match near.as_slice() {
        [] => "search_tools finds the tools there are".to_owned(),
        near => format!("did you mean {}?", near.join(", ")),
    };
    Err(format!("Unknown tool: {}; {hint}", shown(&name)))
}

/// The words of what a client sees; read once.
fn index_of(shared: &Shared, publication: &Arc<Publication>) -> Arc<Index> {
    let lock = || {
        let indexes = &shared.views.indexes;
        indexes.lock().unwrap_or_else(PoisonError::into_inner)
    };
    let known = |indexes: &mut Vec<Arc<Index>>| {
        let at = indexes.iter().position(|index| index.is_of(publication))?;
        let index = indexes.remove(at);
        indexes.push(Arc::clone(&index));
        Some(index)
    };
    if let Some(index) = known(&mut lock()) {
        return index;
    }
    // Beside the lock: thousands of tools take some milliseconds.
    let made = Arc::new(Index::new(Arc::clone(publication)));
    let mut indexes = lock();
    if let Some(index) = known(&mut indexes) {
        return index;
    }
    if indexes.len() >= INDEXES_MAX {
        indexes.remove(0);
    }
    indexes.push(Arc::clone(&made));
    made
}
