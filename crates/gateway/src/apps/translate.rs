//! From an app's entry to Mainstay's: which key becomes which, what has no counterpart and why.
//!
//! Decides nothing about other entries (`merge` does).

mod keys;

use serde_json::{Map, Value, json};

use self::keys::{Fate, fate};
use super::dialect::Asked;
use super::entries::Raw;
use super::secrets::Vault;
use super::{OWN_NAME, Shape};

/// An entry in Mainstay's words.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Its name, as Mainstay accepts it.
    pub(crate) name: String,
    /// The keys that lead to it in its file.
    pub(crate) at: String,
    /// What Mainstay's file will say, in order.
    pub(crate) entry: Vec<(String, Value)>,
    /// Which of its keys became which.
    pub(crate) became: Vec<(String, String)>,
    /// Its keys without a counterpart, and why.
    pub(crate) lost: Vec<(String, String)>,
    /// What people should know.
    pub(crate) notes: Vec<String>,
    /// Where references took the place of secrets.
    pub(crate) secrets: Vec<Secret>,
    /// Variables that take the place of what only the app could fill in.
    pub(crate) asked: Vec<Asked>,
}

/// A secret and the variable that took its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    /// The variable.
    pub(crate) variable: String,
    /// The keys that lead to the value in the app's file.
    pub(crate) at: String,
    /// Whether it was copied all the same.
    pub(crate) copied: bool,
}

/// What becomes of an entry.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// A server of Mainstay.
    Server(Box<Server>),
    /// Nothing, for this reason.
    Skipped(String),
    /// Nothing: it is Mainstay itself.
    Mainstay,
}

/// Longest name of a server, in characters.
const NAME_CHARS_MAX: usize = 64;

/// Translates one entry.
pub(crate) fn translate(shape: Shape, raw: Raw, vault: &mut Vault) -> Outcome {
    if let Some(why) = own_kind(shape, &raw.map) {
        return Outcome::Skipped(why);
    }
    let name = clean_name(&raw.name);
    let mut made = Making::new(shape, name, raw);
    let map = made.flattened();
    for (key, value) in map {
        made.key(&key, &value, vault);
    }
    made.finish(vault)
}

/// Entries that are no server that anybody else could start.
fn own_kind(shape: Shape, map: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| map.get(key).and_then(Value::as_str);
    match shape {
        Shape::Goose => match text("type") {
            Some("stdio" | "sse" | "streamable_http" | "streamable-http") | None => None,
            Some(kind) => Some(format!("an extension of goose itself (`{kind}`)")),
        },
        Shape::Zed if text("source") == Some("extension") => {
            Some("an extension of Zed itself".to_owned())
        }
        Shape::Zed if !["command", "url"].iter().any(|key| map.contains_key(*key)) => {
            Some("an extension of Zed itself".to_owned())
        }
        Shape::OpenCode if !["command", "url"].iter().any(|key| map.contains_key(*key)) => {
            Some("only switches a server of somebody else".to_owned())
        }
        Shape::Common
        | Shape::ClaudeCode
        | Shape::VsCode
        | Shape::Windsurf
        | Shape::Zed
        | Shape::Codex
        | Shape::Gemini
        | Shape::Cline
        | Shape::Roo
        | Shape::OpenCode
        | Shape::Hermes
        | Shape::Nemo
        | Shape::Awaken => None,
    }
}

/// A name that Mainstay accepts, as near as possible to the one that it had.
pub(crate) fn clean_name(name: &str) -> String {
    let mut clean: String = name
        .chars()
        .map(|c| if c == '/' || c.is_control() { '-' } else { c })
        .take(NAME_CHARS_MAX)
        .collect();
    while clean.contains("__") {
        // It would make `server__tool` ambiguous.
        clean = clean.replace("__", "_");
    }
    let clean = clean.trim();
    match clean {
        "" | "." | ".." => "server".to_owned(),
        _ => clean.to_owned(),
    }
}

/// An entry on its way.
struct Making {
    shape: Shape,
    raw: Raw,
    server: Server,
    command: Option<String>,
    args: Vec<(String, String)>,
    env: Vec<(String, Value)>,
    cwd: Option<String>,
    url: Option<String>,
    is_sse: bool,
    headers: Vec<(String, Value)>,
    enabled: bool,
    tools: Map<String, Value>,
    timeouts: Map<String, Value>,
    others: Vec<(String, Value)>,
    refused: Option<String>,
}

impl Making {
    fn new(shape: Shape, name: String, raw: Raw) -> Self {
        let mut server = Server {
            at: raw.at.clone(),
            entry: Vec::new(),
            became: Vec::new(),
            lost: Vec::new(),
            notes: Vec::new(),
            secrets: Vec::new(),
            asked: Vec::new(),
            name,
        };
        if server.name != raw.name {
            server.notes.push(format!(
                "`{}` is no name for a server of Mainstay; it became `{}`",
                raw.name, server.name
            ));
        }
        Self {
            shape,
            enabled: !raw.off,
            server,
            command: None,
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            url: None,
            is_sse: false,
            headers: Vec::new(),
            tools: Map::new(),
            timeouts: Map::new(),
            others: Vec::new(),
            refused: None,
            raw,
        }
    }

    /// Its keys, those of NeMo's `server` (with their place) among them.
    fn flattened(&mut self) -> Vec<(String, Value)> {
        let group = match self.shape {
            Shape::Nemo => "server",
            Shape::Hermes => "lifecycle",
            Shape::Common
            | Shape::ClaudeCode
            | Shape::VsCode
            | Shape::Windsurf
            | Shape::Zed
            | Shape::Codex
            | Shape::Gemini
            | Shape::Goose
            | Shape::Cline
            | Shape::Roo
            | Shape::OpenCode
            | Shape::Awaken => "",
        };
        let mut keys = Vec::new();
        for (key, value) in std::mem::take(&mut self.raw.map) {
            match value.as_object().filter(|_| key == group) {
                Some(inner) => {
                    let inner = inner.clone().into_iter();
                    keys.extend(inner.map(|(inner, value)| (format!("{key}.{inner}"), value)));
                }
                None => keys.push((key, value)),
            }
        }
        keys
    }

    fn lose(&mut self, key: &str, why: &str) {
        self.server.lost.push((key.to_owned(), why.to_owned()));
    }

    fn became(&mut self, key: &str, what: &str) {
        if key != what {
            self.server.became.push((key.to_owned(), what.to_owned()));
        }
    }

    /// Text in Mainstay's words.
    fn say(&mut self, text: &str) -> String {
        let said = self.raw.dialect.say(text);
        for note in said.notes {
            if !self.server.notes.contains(&note) {
                self.server.notes.push(note);
            }
        }
        for asked in said.asked {
            if !self.server.asked.contains(&asked) {
                self.server.asked.push(asked);
            }
        }
        said.text
    }

    fn key(&mut self, key: &str, value: &Value, vault: &mut Vault) {
        if value.is_null() {
            return;
        }
        match fate(self.shape, key) {
            Fate::Command => self.command(key, value),
            Fate::Args => match strings(value) {
                Some(args) => {
                    let args = args.into_iter().enumerate();
                    self.args
                        .extend(args.map(|(index, arg)| (format!("{key}[{index}]"), arg)));
                    self.became(key, "args");
                }
                None => self.lose(key, "expected a list of texts"),
            },
            Fate::Env => self.env(key, value, vault),
            Fate::EnvNames => self.env_names(key, value),
            Fate::Cwd => self.cwd = value.as_str().map(str::to_owned),
            Fate::Url { is_sse } => {
                if let Some(url) = value.as_str().filter(|url| !url.is_empty()) {
                    self.url = Some(url.to_owned());
                    self.is_sse |= is_sse;
                    self.became(key, if is_sse { "url, type" } else { "url" });
                }
            }
            Fate::Kind => self.kind(value),
            Fate::Headers => self.headers(key, value, vault),
            Fate::HeaderNames => self.header_names(key, value),
            Fate::Bearer => {
                if let Some(variable) = value.as_str() {
                    self.headers.push((
                        "Authorization".to_owned(),
                        json!(format!("Bearer ${{{variable}}}")),
                    ));
                    self.became(key, "headers.Authorization");
                }
            }
            Fate::Enabled { means } => {
                if let Some(flag) = value.as_bool() {
                    self.enabled &= flag == means;
                    self.became(key, "enabled");
                }
            }
            Fate::Tools { list } => self.tool_list(key, list, value),
            Fate::ToolGroup => self.tool_group(key, value),
            Fate::Overrides => self.overrides(key, value),
            Fate::Timeout { to, unit_ms } => self.timeout(key, to, unit_ms, value),
            Fate::OpenCodeTimeout => self.open_code_timeout(key, value),
            Fate::Label => self.label(key, value),
            Fate::Protocol => match value.as_str() {
                Some("stateless") => self.other(key, "protocol", json!("modern")),
                Some("legacy") => self.other(key, "protocol", json!("legacy")),
                Some(_) | None => {}
            },
            Fate::CaFile => self.ca_file(key, value),
            Fate::As(own) => self.other(key, own, value.clone()),
            Fate::Implied => {}
            Fate::Lost(why) => self.lose(key, why),
        }
    }

    fn label(&mut self, key: &str, value: &Value) {
        if let Some(label) = value.as_str().filter(|label| !label.is_empty()) {
            self.others.retain(|(other, _)| other != "label");
            self.others.push(("label".to_owned(), json!(label)));
            self.became(key, "label");
        }
    }

    fn ca_file(&mut self, key: &str, value: &Value) {
        if let Some(file) = value.as_str() {
            self.other(key, "tls", json!({ "caFile": file }));
        } else if value.as_bool() != Some(true) {
            self.lose(
                key,
                "Mainstay always checks certificates; name their authority in `tls.caFile`",
            );
        }
    }

    fn other(&mut self, key: &str, own: &str, value: Value) {
        self.others.push((own.to_owned(), value));
        self.became(key, own);
    }

    fn command(&mut self, key: &str, value: &Value) {
        match value {
            Value::String(command) => {
                self.command = Some(command.clone());
                self.became(key, "command");
            }
            Value::Array(_) => {
                let mut words = strings(value).unwrap_or_default().into_iter();
                self.command = words.next();
                let rest = words
                    .enumerate()
                    .map(|(index, arg)| (format!("{key}[{}]", index + 1), arg));
                // Before those of `args`, should there be both.
                self.args.splice(0..0, rest);
                self.became(key, "command, args");
            }
            // Zed once had the program, its arguments and variables under `command`.
            Value::Object(parts) => {
                self.command = parts.get("path").and_then(Value::as_str).map(str::to_owned);
                let args = parts
                    .get("args")
                    .and_then(strings)
                    .unwrap_or_default()
                    .into_iter()
                    .enumerate();
                self.args
                    .extend(args.map(|(index, arg)| (format!("{key}.args[{index}]"), arg)));
                self.became(key, "command, args");
                let env = parts
                    .get("env")
                    .and_then(Value::as_object)
                    .cloned()
                    .unwrap_or_default();
                for (name, value) in env {
                    self.env.push((name, value));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.lose(key, "expected a program"),
        }
    }

    fn env(&mut self, key: &str, value: &Value, vault: &mut Vault) {
        let Some(map) = value.as_object() else {
            self.lose(key, "expected a map of variables");
            return;
        };
        for (name, value) in map {
            let Some(text) = scalar(value) else {
                self.lose(&format!("{key}.{name}"), "expected a text");
                continue;
            };
            let text = self.say(&text);
            let (text, taken) = vault.env(&self.server.name, name, &text);
            self.took(format!("{key}.{name}"), taken);
            self.env.push((name.clone(), Value::String(text)));
        }
        self.became(key, "env");
    }

    /// Names of variables that the app hands on from its own environment, or from where it keeps secrets.
    fn env_names(&mut self, key: &str, value: &Value) {
        let names = value.as_array().into_iter().flatten().filter_map(|one| {
            one.as_str()
                .or_else(|| one.get("name").and_then(Value::as_str))
        });
        for name in names {
            self.env
                .push((name.to_owned(), json!(format!("${{{name}}}"))));
            if self.shape == Shape::Goose {
                let asked = Asked {
                    variable: name.to_owned(),
                    what: "what goose keeps in the keyring or in secrets.yaml".to_owned(),
                };
                self.server.asked.push(asked);
            }
        }
        self.became(key, "env");
    }

    fn headers(&mut self, key: &str, value: &Value, vault: &mut Vault) {
        let Some(map) = value.as_object() else {
            self.lose(key, "expected a map of headers");
            return;
        };
        for (name, value) in map {
            let Some(text) = scalar(value) else {
                self.lose(&format!("{key}.{name}"), "expected a text");
                continue;
            };
            let text = self.say(&text);
            let (text, taken) = vault.header(&self.server.name, name, &text);
            self.took(format!("{key}.{name}"), taken);
            self.headers.push((name.clone(), Value::String(text)));
        }
        self.became(key, "headers");
    }

    /// Headers whose values are in variables.
    fn header_names(&mut self, key: &str, value: &Value) {
        for (name, variable) in value.as_object().into_iter().flatten() {
            if let Some(variable) = variable.as_str() {
                self.headers
                    .push((name.clone(), json!(format!("${{{variable}}}"))));
            }
        }
        self.became(key, "headers");
    }

    fn kind(&mut self, value: &Value) {
        let plain = value
            .as_str()
            .unwrap_or_default()
            .replace(['-', '_', ' '], "")
            .to_lowercase();
        match plain.as_str() {
            "sse" | "httpsse" => self.is_sse = true,
            "ws" | "websocket" => {
                self.refused = Some("the transport websocket is not supported".to_owned())
            }
            // Follows from `command` or `url`.
            _ => {}
        }
    }

    fn tool_list(&mut self, key: &str, list: &'static str, value: &Value) {
        let names = match value.as_str() {
            Some(one) => Some(vec![one.to_owned()]),
            None => strings(value),
        };
        let Some(names) = names else {
            self.lose(key, "expected a list of tools");
            return;
        };
        // An empty list of what is wanted means everything to some apps, and nothing to none that says so.
        if names.is_empty() {
            return;
        }
        self.tools.insert(list.to_owned(), json!(names));
        self.became(key, &format!("tools.{list}"));
    }

    fn tool_group(&mut self, key: &str, value: &Value) {
        match value {
            Value::Array(_) => self.tool_list(key, "include", value),
            Value::Object(group) => {
                for (inner, value) in group.clone() {
                    let place = format!("{key}.{inner}");
                    match inner.as_str() {
                        "include" => self.tool_list(&place, "include", &value),
                        "exclude" => self.tool_list(&place, "exclude", &value),
                        "rename" | "describe" | "arguments" | "timeouts" | "retry" | "pin" => {
                            self.tools.insert(inner, value);
                        }
                        _ => self.lose(&place, "is not known to Mainstay"),
                    }
                }
                // The app lets the one win where both name a tool; here the other does.
                if self.shape == Shape::Hermes
                    && self.tools.contains_key("include")
                    && self.tools.remove("exclude").is_some()
                {
                    self.lose("tools.exclude", "`include` wins there where both are given");
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.lose(key, "is not known to Mainstay")
            }
        }
    }

    /// Other names and descriptions of tools (NeMo).
    fn overrides(&mut self, key: &str, value: &Value) {
        let (mut rename, mut describe) = (Map::new(), Map::new());
        for (tool, one) in value.as_object().into_iter().flatten() {
            if let Some(alias) = one.get("alias").and_then(Value::as_str) {
                rename.insert(tool.clone(), json!(alias));
            }
            if let Some(text) = one.get("description").and_then(Value::as_str) {
                describe.insert(tool.clone(), json!(text));
            }
        }
        for (name, map) in [("rename", rename), ("describe", describe)] {
            if !map.is_empty() {
                self.tools.insert(name.to_owned(), Value::Object(map));
                self.became(key, &format!("tools.{name}"));
            }
        }
    }

    fn timeout(&mut self, key: &str, to: &'static str, unit_ms: u32, value: &Value) {
        let number = value
            .as_f64()
            .or_else(|| value.as_str()?.trim().parse().ok());
        let Some(ms) = number.and_then(|number| keys::milliseconds(number, unit_ms)) else {
            self.lose(key, "expected a duration");
            return;
        };
        match to.split_once('.') {
            Some(("timeouts", name)) => {
                self.timeouts.insert(name.to_owned(), json!(ms));
            }
            Some((group, name)) => self.others.push((group.to_owned(), json!({ name: ms }))),
            None => self.others.push((to.to_owned(), json!(ms))),
        }
        self.became(key, to);
    }

    fn open_code_timeout(&mut self, key: &str, value: &Value) {
        match value.as_object() {
            Some(parts) => {
                for (part, to) in [
                    ("startup", "timeouts.connectMs"),
                    ("request", "timeouts.callIdleMs"),
                ] {
                    if let Some(value) = parts.get(part) {
                        self.timeout(&format!("{key}.{part}"), to, 1, value);
                    }
                }
            }
            None => self.timeout(key, "timeouts.listMs", 1, value),
        }
    }

    fn took(&mut self, key: String, taken: Vec<super::secrets::Taken>) {
        for one in taken {
            let dot = if self.server.at.is_empty() { "" } else { "." };
            self.server.secrets.push(Secret {
                variable: one.variable,
                at: format!("{}{dot}{key}", self.server.at),
                copied: one.copied,
            });
        }
    }

    fn finish(mut self, vault: &mut Vault) -> Outcome {
        if let Some(why) = self.refused {
            return Outcome::Skipped(why);
        }
        let transport = match (self.command.take(), self.url.take()) {
            (Some(command), None) => self.finish_stdio(&command, vault),
            (None, Some(url)) => self.finish_http(&url, vault),
            (Some(_), Some(_)) => {
                return Outcome::Skipped("it has both a program and an address".to_owned());
            }
            (None, None) => {
                return Outcome::Skipped("it has neither a program nor an address".to_owned());
            }
        };
        let mut entry = match transport {
            Ok(entry) => entry,
            Err(outcome) => return outcome,
        };
        if !self.enabled {
            entry.push(("enabled".to_owned(), json!(false)));
        }
        if !self.tools.is_empty() {
            entry.push(("tools".to_owned(), Value::Object(self.tools)));
        }
        if let Some(idle) = self.timeouts.get("callIdleMs").and_then(Value::as_u64) {
            // The whole of a call has a limit of its own, which must not be the shorter one.
            let total = mainstay::config::ServerConfig::stdio("x", "x")
                .timeouts
                .call_total_ms;
            if idle > total {
                self.timeouts.insert("callTotalMs".to_owned(), json!(idle));
            }
        }
        if !self.timeouts.is_empty() {
            entry.push(("timeouts".to_owned(), Value::Object(self.timeouts)));
        }
        entry.extend(self.others);
        self.server.entry = entry;
        Outcome::Server(Box::new(self.server))
    }

    fn finish_stdio(
        &mut self,
        command: &str,
        vault: &mut Vault,
    ) -> Result<Vec<(String, Value)>, Outcome> {
        if is_mainstay_program(command, &self.args) {
            return Err(Outcome::Mainstay);
        }
        let command = self.say(command);
        let places: Vec<String> = self.args.iter().map(|(place, _)| place.clone()).collect();
        let given: Vec<String> = std::mem::take(&mut self.args)
            .into_iter()
            .map(|(_, arg)| arg)
            .collect();
        let said: Vec<String> = given.iter().map(|arg| self.say(arg)).collect();
        let (args, taken) = vault.args(&self.server.name, &said);
        for (index, one) in taken {
            self.took(places.get(index).cloned().unwrap_or_default(), vec![one]);
        }
        let cwd = self.directory(&command, &args);
        let mut entry = vec![("command".to_owned(), json!(command))];
        if !args.is_empty() {
            entry.push(("args".to_owned(), json!(args)));
        }
        if !self.env.is_empty() {
            entry.push((
                "env".to_owned(),
                Value::Object(std::mem::take(&mut self.env).into_iter().collect()),
            ));
        }
        if let Some(cwd) = cwd {
            entry.push(("cwd".to_owned(), json!(cwd)));
        }
        if !self.headers.is_empty() {
            self.lose("headers", "has no effect on a program");
        }
        Ok(entry)
    }

    /// Where the program starts: apps start those of a project in its directory, and Mainstay in its own.
    fn directory(&mut self, command: &str, args: &[String]) -> Option<String> {
        let told = self.cwd.take().map(|cwd| self.say(&cwd));
        let Some(project) = self.raw.project.clone() else {
            return told;
        };
        let relative =
            |text: &str| text.starts_with("./") || text.starts_with("../") || text == ".";
        match told {
            Some(cwd) if cwd.starts_with(['/', '~', '$']) => Some(cwd),
            Some(cwd) => Some(project.join(cwd).display().to_string()),
            None if relative(command) || args.iter().any(|arg| relative(arg)) => {
                self.server.notes.push("it starts in the directory of its project, because of the relative paths in it".to_owned());
                Some(project.display().to_string())
            }
            None => None,
        }
    }

    fn finish_http(
        &mut self,
        url: &str,
        vault: &mut Vault,
    ) -> Result<Vec<(String, Value)>, Outcome> {
        if is_mainstay_address(&self.server.name, url) {
            return Err(Outcome::Mainstay);
        }
        let url = self.say(url);
        let begins = ["http://", "https://", "${"]
            .iter()
            .any(|beginning| url.starts_with(beginning));
        if !begins {
            return Err(Outcome::Skipped(
                "its address begins with neither `http://` nor `https://`".to_owned(),
            ));
        }
        let (url, taken) = vault.url(&self.server.name, &url);
        self.took("url".to_owned(), taken);
        let mut entry = vec![("url".to_owned(), json!(url))];
        if self.is_sse {
            entry.push(("type".to_owned(), json!("sse")));
        }
        if !self.headers.is_empty() {
            entry.push((
                "headers".to_owned(),
                Value::Object(std::mem::take(&mut self.headers).into_iter().collect()),
            ));
        }
        if !self.env.is_empty() || !self.args.is_empty() {
            self.lose("env", "has no effect on an address");
        }
        Ok(entry)
    }
}

/// Text of a text, a number or a flag.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(scalar).collect()
}

/// Whether the entry starts Mainstay's relay, by itself or through a runner.
fn is_mainstay_program(command: &str, args: &[(String, String)]) -> bool {
    let is_it = |text: &str| {
        let stem = std::path::Path::new(text).file_stem();
        stem.is_some_and(|stem| stem == OWN_NAME)
    };
    let mut words = std::iter::once(command).chain(args.iter().map(|(_, arg)| arg.as_str()));
    words.any(is_it) && words.find(|word| !word.starts_with('-')) == Some("stdio")
}

/// Whether the entry leads to a Mainstay on this machine.
fn is_mainstay_address(name: &str, url: &str) -> bool {
    let rest = url.strip_prefix("http://").unwrap_or_default();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = host.rsplit_once(':').unwrap_or((host, "80"));
    let is_here = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let is_endpoint =
        path == "mcp" || path.starts_with("servers/") || path.starts_with("profiles/");
    is_here && is_endpoint && (port == "8808" || name == OWN_NAME)
}
