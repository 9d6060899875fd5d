//! The entry that points an app at Mainstay, as that app writes it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::apps::{App, OWN_NAME, Shape};
use crate::edit::Node;
use crate::exit::{Exit, Stop};

/// Longest time that goose waits for an answer, in seconds.
const GOOSE_WAIT_S: u32 = 300;

/// What stands first in an entry that people read; the rest follows in the order of the alphabet.
const FIRST: [&str; 7] = ["type", "source", "name", "command", "cmd", "args", "url"];

/// One that starts `mainstay stdio`.
pub(crate) fn stdio(app: &App, program: &str, args: &[String]) -> Node {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    ordered(&app.shape.stdio_entry(program, &args))
}

/// One that leads to an address.
///
/// # Errors
/// Exit 2 for an app that only starts programs.
pub(crate) fn http(app: &App, url: &str) -> Result<Node, Stop> {
    let entry = match app.shape {
        Shape::Common if app.id == "claude-desktop" => {
            return Err(Stop::new(
                Exit::Usage,
                format!(
                    "{} starts programs only; its file has no addresses",
                    app.name
                ),
            )
            .hint("leave out --http"));
        }
        Shape::Common | Shape::Codex | Shape::Hermes | Shape::Zed => json!({ "url": url }),
        Shape::ClaudeCode | Shape::VsCode => json!({ "type": "http", "url": url }),
        Shape::Windsurf => json!({ "serverUrl": url }),
        Shape::Gemini => json!({ "httpUrl": url }),
        Shape::Goose => json!({
            "type": "streamable_http", "name": OWN_NAME, "enabled": true, "uri": url, "timeout": GOOSE_WAIT_S,
        }),
        Shape::Cline => json!({ "type": "streamableHttp", "url": url, "disabled": false }),
        Shape::Roo => json!({ "type": "streamable-http", "url": url, "disabled": false }),
        Shape::OpenCode => json!({ "type": "remote", "url": url, "enabled": true }),
        Shape::Nemo => json!({
            "_type": "mcp_client", "server": { "transport": "streamable-http", "url": url },
        }),
        Shape::Awaken => json!({ "id": OWN_NAME, "transport": "http", "url": url }),
    };
    Ok(ordered(&entry))
}

fn ordered(entry: &Value) -> Node {
    let Node::Map(mut entries) = Node::from(entry) else {
        return Node::from(entry);
    };
    let rank = |name: &str| {
        FIRST
            .iter()
            .position(|first| *first == name)
            .unwrap_or(FIRST.len())
    };
    entries.sort_by_key(|(name, _)| rank(name));
    Node::Map(entries)
}

/// Whether an entry of an app leads to Mainstay.
pub(crate) fn is_ours(name: &str, entry: &Node) -> bool {
    let words = words(entry);
    let program = |word: &&str| {
        let file = Path::new(word).file_name().and_then(|file| file.to_str());
        file == Some(OWN_NAME)
    };
    let starts = words.iter().any(program) && words.contains(&"stdio");
    // An address says nothing about who answers there, but the name does.
    let leads = name == OWN_NAME && words.iter().any(|word| word.ends_with("/mcp"));
    starts || leads
}

/// All texts of an entry, and of the lists and maps in it.
fn words(entry: &Node) -> Vec<&str> {
    match entry {
        Node::Text(text) => vec![text],
        Node::List(items) => items.iter().flat_map(words).collect(),
        Node::Map(entries) => entries.iter().flat_map(|(_, value)| words(value)).collect(),
        Node::Null | Node::Bool(_) | Node::Literal(_) => Vec::new(),
    }
}

/// This program, as apps can start it. They do not look where a shell does, so it is a whole path: the one on PATH if that
/// is this program, since it stays the same when a new version is installed.
pub(crate) fn program() -> Result<String, Stop> {
    let own = std::env::current_exe()
        .map_err(|error| Stop::unexpected("cannot find out where this program is", error))?;
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(OWN_NAME))
        .find(|candidate| real(candidate).is_some_and(|found| Some(found) == real(&own)));
    let program: PathBuf = on_path.unwrap_or(own);
    program.into_os_string().into_string().map_err(|_| {
        Stop::new(
            Exit::Unexpected,
            "this program is in a directory whose name is not Unicode, which no app's file can say",
        )
        .hint("move it, or put a link to it on PATH")
    })
}
