//! What is done with the tools of one server: which are shown, under which names and words, and how they are called.
//!
//! Everything is keyed by the server's own names, whatever they are shown as. Nothing here concerns the connection: all of
//! it takes effect live.

use std::collections::BTreeMap;
use std::fmt;

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use schemars::JsonSchema;

use super::file::{DURATION_MS, DURATION_MS_MAX};
use super::filter::{Glob, allowed};
use super::problem::quoted;
use super::read_objects::json_text;
use super::read_options::read_texts;
use super::reader::{Fields, Place, Sink, flag, members, nearest, text, wrong_type};

/// Longest name that a tool may be shown under, in bytes: what MCP allows.
const NAME_BYTES_MAX: usize = 128;
/// Longest description that a tool may be given, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 64 * 1024;

/// What is done with the tools of a server. All names are the server's own. Patterns may use `*` (any characters) and `?` (one
/// character); where several match, a plain name wins, then the first in the file.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(super) struct ToolOptions {
    /// Only tools that match one of these. Default: all.
    pub(super) include: Option<Vec<String>>,
    /// Never tools that match one of these, also when included.
    pub(super) exclude: Option<Vec<String>>,
    /// Other names for tools: the server's own name, and the one that clients see and call instead.
    pub(super) rename: Option<BTreeMap<String, String>>,
    /// Other descriptions for tools.
    pub(super) describe: Option<BTreeMap<String, String>>,
    /// Arguments for calls that do not give them, by tool or pattern. What a call gives is never replaced. Clients see such an
    /// argument as one that may be left out.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Map<String, serde_json::Value>>>")]
    pub(super) arguments: Option<Vec<(String, ToolArguments)>>,
    /// How long calls may take, by tool or pattern, instead of the server's `timeouts`.
    #[schemars(with = "Option<BTreeMap<String, ToolTimeoutOptions>>")]
    pub(super) timeouts: Option<Vec<(String, ToolTimeouts)>>,
    /// Whether a call may be sent again when its outcome is unknown, by tool or pattern, whatever the server says of it: `never`
    /// (nor after the server refused it), or `readOnly` or `idempotent`, which may run twice.
    #[schemars(with = "Option<BTreeMap<String, ToolRetry>>")]
    pub(super) retry: Option<Vec<(String, ToolRetry)>>,
    /// Hold back tools that are new or not described as they were when they were approved, until somebody approves them with
    /// `mainstay tools approve`. What the server lists first is taken as approved.
    #[schemars(extend("default" = false))]
    pub(super) pin: Option<bool>,
}

/// How long calls of one tool may take.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "only the schema generator looks at it")]
pub(super) struct ToolTimeoutOptions {
    /// A call without an answer or progress for this long has failed.
    #[schemars(range(min = 1, max = DURATION_MS_MAX))]
    pub(super) call_idle_ms: Option<u64>,
    /// A call that takes this long has failed, whatever progress it makes.
    #[schemars(range(min = 1, max = DURATION_MS_MAX))]
    pub(super) call_total_ms: Option<u64>,
}

/// What is done with the tools of one server. The default shows all of them as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Tools {
    /// Only tools that match one of these; `None`: all. An empty list exposes nothing.
    pub include: Option<Vec<Glob>>,
    /// Never tools that match one of these, also when included.
    pub exclude: Vec<Glob>,
    /// The names that tools are shown under, by the server's own.
    pub rename: BTreeMap<String, String>,
    /// The descriptions that tools are shown with.
    pub describe: BTreeMap<String, String>,
    /// Arguments for calls that do not give them.
    pub arguments: ByTool<ToolArguments>,
    /// How long calls may take.
    pub timeouts: ByTool<ToolTimeouts>,
    /// Whether calls may be sent again.
    pub retry: ByTool<ToolRetry>,
    /// Whether tools are held back that are not as they were approved.
    pub pin: bool,
}

impl Tools {
    /// Whether a tool with this name (the server's own) is exposed.
    pub fn allows(&self, own: &str) -> bool {
        allowed(self.include.as_deref(), &self.exclude, own)
    }

    /// Whether the config has nothing to say of the tools' looks: they are shown as they are listed.
    pub fn shows_all_as_listed(&self) -> bool {
        self.include.is_none()
            && self.exclude.is_empty()
            && self.rename.is_empty()
            && self.describe.is_empty()
            && self.arguments.is_empty()
            && !self.pin
    }

    /// The server's own name of what is shown as `shown`; `None` if nothing can be: it is the own name of a tool that is shown
    /// under another one. Does not look whether there is such a tool.
    pub fn own_name<'n>(&'n self, shown: &'n str) -> Option<&'n str> {
        if self.rename.is_empty() {
            return Some(shown);
        }
        let renamed = self.rename.iter().find(|(_, new)| *new == shown);
        match renamed {
            Some((own, _)) => Some(own),
            None => (!self.rename.contains_key(shown)).then_some(shown),
        }
    }

    /// What a tool is shown as.
    pub fn shown_name<'n>(&'n self, own: &'n str) -> &'n str {
        self.rename.get(own).map_or(own, String::as_str)
    }

    /// The arguments that calls of a tool have if they do not give them: each name once, with its JSON text.
    pub fn defaults_of<'t>(&'t self, own: &'t str) -> Vec<(&'t str, &'t str)> {
        let mut found: Vec<(&str, &str)> = Vec::new();
        for (name, value) in self.arguments.matching(own).flat_map(|given| &given.0) {
            if found.iter().all(|(known, _)| known != name) {
                found.push((name, value));
            }
        }
        found
    }

    pub(super) fn from_options(options: &ToolOptions) -> Tools {
        let globs = |patterns: &Vec<String>| {
            patterns
                .iter()
                .map(|text| Glob::new(text.as_str()))
                .collect()
        };
        Tools {
            include: options.include.as_ref().map(globs),
            exclude: options.exclude.as_ref().map(globs).unwrap_or_default(),
            rename: options.rename.clone().unwrap_or_default(),
            describe: options.describe.clone().unwrap_or_default(),
            arguments: ByTool::from_pairs(options.arguments.as_deref()),
            timeouts: ByTool::from_pairs(options.timeouts.as_deref()),
            retry: ByTool::from_pairs(options.retry.as_deref()),
            pin: options.pin.unwrap_or(false),
        }
    }
}

/// Something for each tool, by the server's own name or a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ByTool<T>(Vec<(Glob, T)>);

impl<T> Default for ByTool<T> {
    fn default() -> Self {
        ByTool(Vec::new())
    }
}

impl<T> FromIterator<(Glob, T)> for ByTool<T> {
    fn from_iter<I: IntoIterator<Item = (Glob, T)>>(entries: I) -> Self {
        ByTool(entries.into_iter().collect())
    }
}

impl<T> ByTool<T> {
    /// Everything that is said of a tool, what counts most first: under its plain name, then in order.
    pub fn matching<'t>(&'t self, own: &'t str) -> impl Iterator<Item = &'t T> {
        let plain = self.0.iter().filter(move |(glob, _)| glob.as_str() == own);
        let others = self
            .0
            .iter()
            .filter(move |(glob, _)| glob.as_str() != own && glob.matches(own));
        plain.chain(others).map(|(_, what)| what)
    }

    /// Whether nothing is said of any tool.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Clone> ByTool<T> {
    fn from_pairs(pairs: Option<&[(String, T)]>) -> Self {
        let glob = |(name, what): &(String, T)| (Glob::new(name.as_str()), what.clone());
        pairs.unwrap_or_default().iter().map(glob).collect()
    }
}

/// Arguments of a call: names and JSON texts. Its `Debug` shows names only: a value may be a secret.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ToolArguments(pub(super) Vec<(String, Box<str>)>);

impl ToolArguments {
    /// Arguments from names and values, as JSON text.
    ///
    /// # Errors
    /// The name whose value is not JSON.
    pub fn new<'a>(
        arguments: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<ToolArguments, String> {
        let checked = arguments.into_iter().map(|(name, json)| {
            if mainstay_wire::raw::is_json(json) {
                Ok((name.to_owned(), json.into()))
            } else {
                Err(format!("the value of `{name}` is not JSON"))
            }
        });
        checked.collect::<Result<_, _>>().map(ToolArguments)
    }
}

impl fmt::Debug for ToolArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// How long calls of one tool may take, in milliseconds; `None`: as the server's `timeouts` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ToolTimeouts {
    /// Without an answer or progress.
    pub call_idle_ms: Option<u64>,
    /// In all.
    pub call_total_ms: Option<u64>,
}

/// What the operator says of sending calls of a tool again (law 16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub enum ToolRetry {
    /// What has left Mainstay once is not sent again, whatever became of it.
    Never,
    /// It changes nothing: it may be sent again when its outcome is unknown.
    ReadOnly,
    /// A second time changes nothing more: it may be sent again when its outcome is unknown.
    Idempotent,
}

/// Reads `tools`.
pub(super) fn read_tools(fields: &mut Fields<'_, '_>, sink: &mut Sink<'_>) -> Option<ToolOptions> {
    let (value, place) = fields.take("tools", sink)?;
    // Some clients write the list of tools to include right here.
    if value.as_array().is_some() {
        let include = read_texts(value, &place, sink);
        return Some(ToolOptions {
            include,
            ..ToolOptions::default()
        });
    }
    let mut group = fields.object("tools", sink)?;
    let include = group
        .take("include", sink)
        .and_then(|(value, place)| read_texts(value, &place, sink));
    let exclude = group
        .take("exclude", sink)
        .and_then(|(value, place)| read_texts(value, &place, sink));
    let renames = group
        .take("rename", sink)
        .map(|(value, place)| read_renames(value, &place, sink));
    let describe = group
        .take("describe", sink)
        .map(|(value, place)| read_descriptions(value, &place, sink));
    let options = ToolOptions {
        include,
        exclude,
        describe,
        arguments: group
            .take("arguments", sink)
            .map(|(value, place)| read_arguments(value, &place, sink)),
        timeouts: group
            .take("timeouts", sink)
            .map(|(value, place)| read_timeouts(value, &place, sink)),
        retry: group
            .take("retry", sink)
            .map(|(value, place)| read_retries(value, &place, sink)),
        pin: group
            .take("pin", sink)
            .and_then(|(value, place)| flag(value, &place, sink)),
        rename: None,
    };
    group.finish(sink);
    let rename = renames.map(|renames| checked_renames(renames, &options, sink));
    Some(ToolOptions { rename, ..options })
}

/// One entry of `rename`, and where it stands.
struct Rename {
    own: String,
    new: String,
    place: Place,
    at: usize,
}

fn read_renames(value: &Value<'_>, place: &Place, sink: &mut Sink<'_>) -> Vec<Rename> {
    let mut renames = Vec::new();
    for (member, place) in members(value, place, sink).unwrap_or_default() {
        let own = member.name.as_str().to_owned();
        let Some(new) = text(&member.value, &place, sink) else {
            continue;
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if own.is_empty() {
            let remedy = "write the server's own name of the tool in front of the colon";
            sink.error(&place, "a tool without a name cannot be renamed", remedy);
        } else if new.is_empty() || new.len() > NAME_BYTES_MAX || !new.chars().all(legal) {
            sink.error(
                &place,
                format!("{} is no name for a tool", quoted(&new)),
                format!("write 1 to {NAME_BYTES_MAX} characters of `A-Z a-z 0-9 _ - .`"),
            );
        } else if own == new {
            let remedy = "remove it";
            sink.warn(
                &place,
                "renaming a tool to its own name has no effect",
                remedy,
            );
        } else {
            let at = member.name.range().start;
            renames.push(Rename {
                own,
                new,
                place,
                at,
            });
        }
    }
    renames
}

/// The renames that contradict nothing.
fn checked_renames(
    renames: Vec<Rename>,
    options: &ToolOptions,
    sink: &mut Sink<'_>,
) -> BTreeMap<String, String> {
    fn keys<T>(pairs: &Option<Vec<(String, T)>>) -> impl Iterator<Item = &str> {
        pairs.iter().flatten().map(|(name, _)| name.as_str())
    }
    let mut own_names = options
        .include
        .iter()
        .flatten()
        .map(String::as_str)
        .chain(
            options
                .describe
                .iter()
                .flatten()
                .map(|(name, _)| name.as_str()),
        )
        .chain(keys(&options.arguments))
        .chain(keys(&options.timeouts))
        .chain(keys(&options.retry))
        .collect::<Vec<_>>();
    own_names.retain(|name| renames.iter().all(|rename| rename.own != *name));
    for (index, rename) in renames.iter().enumerate() {
        let new = quoted(&rename.new);
        let earlier = renames[..index]
            .iter()
            .find(|other| other.new == rename.new);
        if let Some(earlier) = earlier {
            let (own, line) = (quoted(&earlier.own), sink.line(earlier.at));
            sink.error(
                &rename.place,
                format!("two tools are renamed to {new}: this one, and {own} on line {line}"),
                "choose another name for one of them",
            );
        } else if own_names.contains(&rename.new.as_str()) {
            sink.error(
                &rename.place,
                format!(
                    "{new} is the name of another tool of the server, by other keys of `tools`"
                ),
                "choose another name, or rename the other tool too",
            );
        }
    }
    let pair = |rename: Rename| (rename.own, rename.new);
    renames.into_iter().map(pair).collect()
}

fn read_descriptions(
    value: &Value<'_>,
    place: &Place,
    sink: &mut Sink<'_>,
) -> BTreeMap<String, String> {
    let mut described = BTreeMap::new();
    for (member, place) in members(value, place, sink).unwrap_or_default() {
        let Some(words) = text(&member.value, &place, sink) else {
            continue;
        };
        if words.len() > DESCRIPTION_BYTES_MAX {
            let message = format!("a description of {} bytes is too long", words.len());
            let remedy = format!("write at most {DESCRIPTION_BYTES_MAX} bytes");
            sink.error(&place, message, remedy);
        }
        described.insert(member.name.as_str().to_owned(), words);
    }
    described
}

fn read_arguments(
    value: &Value<'_>,
    place: &Place,
    sink: &mut Sink<'_>,
) -> Vec<(String, ToolArguments)> {
    let mut found = Vec::new();
    for (member, place) in members(value, place, sink).unwrap_or_default() {
        if member.value.as_object().is_none() {
            let wanted = "an object of arguments, such as `{\"limit\": 10}`";
            wrong_type(&member.value, wanted, &place, sink);
            continue;
        }
        let mut arguments = ToolArguments::default();
        let object = member.value.as_object();
        for argument in object.iter().flat_map(|object| &object.properties) {
            let name = argument.name.as_str().to_owned();
            let json = json_text(&argument.value);
            if !mainstay_wire::raw::is_json(&json) {
                let message = format!("the value of {} is not JSON", quoted(&name));
                sink.error(&place, message, "write it as JSON");
            } else if arguments.0.iter().any(|(known, _)| *known == name) {
                let message = format!("{} occurs twice", quoted(&name));
                sink.error(&place, message, "keep one of the two");
            } else {
                arguments.0.push((name, json.into()));
            }
        }
        found.push((member.name.as_str().to_owned(), arguments));
    }
    found
}

fn read_timeouts(
    value: &Value<'_>,
    place: &Place,
    sink: &mut Sink<'_>,
) -> Vec<(String, ToolTimeouts)> {
    let mut found = Vec::new();
    for (member, place) in members(value, place, sink).unwrap_or_default() {
        let Some(object) = member.value.as_object() else {
            wrong_type(&member.value, "an object", &place, sink);
            continue;
        };
        let mut fields = Fields::new(object, place, sink);
        let timeouts = ToolTimeouts {
            call_idle_ms: fields.whole("callIdleMs", DURATION_MS, sink),
            call_total_ms: fields.whole("callTotalMs", DURATION_MS, sink),
        };
        fields.finish(sink);
        found.push((member.name.as_str().to_owned(), timeouts));
    }
    found
}

fn read_retries(value: &Value<'_>, place: &Place, sink: &mut Sink<'_>) -> Vec<(String, ToolRetry)> {
    const WORDS: [(&str, ToolRetry); 3] = [
        ("never", ToolRetry::Never),
        ("readOnly", ToolRetry::ReadOnly),
        ("idempotent", ToolRetry::Idempotent),
    ];
    let mut found = Vec::new();
    for (member, place) in members(value, place, sink).unwrap_or_default() {
        let Some(written) = text(&member.value, &place, sink) else {
            continue;
        };
        if let Some((_, class)) = WORDS.iter().find(|(word, _)| *word == written) {
            found.push((member.name.as_str().to_owned(), *class));
            continue;
        }
        let remedy = match nearest(&written, WORDS.iter().map(|(word, _)| *word)) {
            Some(word) => format!("did you mean `{word}`?"),
            None => "write one of: never, readOnly, idempotent".to_owned(),
        };
        let message = format!(
            "{} does not say when to send a call again",
            quoted(&written)
        );
        sink.error(&place, message, remedy);
    }
    found
}
