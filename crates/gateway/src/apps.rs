//! The apps and agent frameworks whose lists of MCP servers Mainstay knows: where each keeps its list, in which format
//! and under which keys, how an entry is read and how one that starts Mainstay is written.
//!
//! `mainstay import` reads these files and `mainstay install` edits them. Must not edit a file of an app itself, and must
//! not show a secret: what is read here stays in memory and leaves as a reference ([`secrets`]).

mod dialect;
mod entries;
pub(crate) mod gather;
pub(crate) mod merge;
mod places;
pub(crate) mod secrets;
mod table;
pub(crate) mod translate;
mod tree;

use serde_json::{Value, json};

pub(crate) use self::places::{FileOf, Surroundings};
pub(crate) use self::table::APPS;

/// The name under which apps list Mainstay itself.
pub(crate) const OWN_NAME: &str = "mainstay";

/// An app or framework that keeps a list of MCP servers.
#[derive(Debug)]
pub(crate) struct App {
    /// What it is called on the command line: `claude-desktop`.
    pub(crate) id: &'static str,
    /// What people call it: `Claude Desktop`.
    pub(crate) name: &'static str,
    /// How its entries are written.
    pub(crate) shape: Shape,
    /// Whether `mainstay install` can point it at Mainstay: there is one file of the user with a map of servers.
    pub(crate) installable: bool,
    /// Every file that may hold its list; those of the user come before those of a project.
    pub(crate) files: &'static [Place],
}

/// One file of an app.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Whose list it is.
    pub(crate) scope: Scope,
    /// Where `path` begins.
    pub(crate) base: Base,
    /// The rest of the path. One component may be `*` or end with one: every entry of that directory that fits.
    pub(crate) path: &'static str,
    /// An environment variable of the app that moves the file, and the path below its value. An empty path: the value is
    /// the file itself.
    pub(crate) moved: Option<(&'static str, &'static str)>,
    /// How the file is written.
    pub(crate) format: Format,
    /// The keys that lead to the map of servers. Empty: the whole file is that map.
    pub(crate) keys: &'static [&'static str],
}

/// Whose list a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The user's, in every project.
    User,
    /// That of the project in the current directory.
    Project,
}

/// Where a path begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// The home directory.
    Home,
    /// `$XDG_CONFIG_HOME`, else `~/.config`; on macOS too, where programs of the terminal keep to it.
    Config,
    /// Where desktop apps keep their settings: `~/Library/Application Support` on macOS, else as [`Base::Config`].
    Desktop,
    /// The current directory.
    Project,
    /// Nowhere unless the variable of [`Place::moved`] is set.
    Nowhere,
}

impl Base {
    /// Where that is, in words.
    #[cfg(test)]
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Config => "`~/.config`",
            Self::Desktop => "`~/.config`, on macOS `~/Library/Application Support`:",
            Self::Project => "project",
            Self::Nowhere => "where its variable says:",
        }
    }
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON, with comments and trailing commas where the app allows them.
    Jsonc,
    /// TOML.
    Toml,
    /// YAML.
    Yaml,
}

/// How the entries of an app are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// The common one: `command`, `args`, `env` or `url`, `headers`.
    Common,
    /// Claude Code: common, and more of them per project under `projects`.
    ClaudeCode,
    /// VS Code: common, with `inputs` that the editor asks for.
    VsCode,
    /// Windsurf: common, `serverUrl` for an address.
    Windsurf,
    /// Zed: common, of which some only name an extension.
    Zed,
    /// Codex: snake case, names of variables instead of values.
    Codex,
    /// Gemini CLI and Qwen Code: `httpUrl` for streamable HTTP, `url` for HTTP+SSE.
    Gemini,
    /// goose: `cmd`, `envs`, `uri`, beside its own extensions.
    Goose,
    /// Cline: common, `timeout` in seconds.
    Cline,
    /// Roo Code: as Cline, with `disabledTools`.
    Roo,
    /// opencode: `command` is a list with the arguments, `environment`.
    OpenCode,
    /// hermes-agent: common, timeouts in seconds.
    Hermes,
    /// NeMo Agent Toolkit: function groups of the type `mcp_client`, with the connection under `server`.
    Nemo,
    /// awaken: a list of records with an `id`.
    Awaken,
}

impl Shape {
    /// One entry that starts `command` with `args` over stdio, as this app writes it.
    pub(crate) fn stdio_entry(self, command: &str, args: &[&str]) -> Value {
        match self {
            Self::Common
            | Self::ClaudeCode
            | Self::Windsurf
            | Self::Codex
            | Self::Gemini
            | Self::Hermes => json!({ "command": command, "args": args }),
            Self::VsCode => json!({ "type": "stdio", "command": command, "args": args }),
            Self::Zed => json!({ "source": "custom", "command": command, "args": args, "env": {} }),
            Self::Goose => json!({
                "type": "stdio", "name": OWN_NAME, "enabled": true, "cmd": command, "args": args, "timeout": 300,
            }),
            Self::Cline | Self::Roo => {
                json!({ "command": command, "args": args, "disabled": false })
            }
            Self::OpenCode => {
                let whole: Vec<&str> = std::iter::once(command)
                    .chain(args.iter().copied())
                    .collect();
                json!({ "type": "local", "command": whole, "enabled": true })
            }
            Self::Nemo => json!({
                "_type": "mcp_client", "server": { "transport": "stdio", "command": command, "args": args },
            }),
            Self::Awaken => {
                json!({ "id": OWN_NAME, "transport": "stdio", "command": command, "args": args })
            }
        }
    }
}

impl App {
    /// The app of that id, or of that name in any spelling.
    pub(crate) fn find(told: &str) -> Option<&'static App> {
        let plain = |text: &str| -> String {
            text.chars()
                .filter(|c| c.is_alphanumeric())
                .flat_map(char::to_lowercase)
                .collect()
        };
        APPS.iter().find(|app| app.id == told).or_else(|| {
            APPS.iter()
                .find(|app| plain(app.id) == plain(told) || plain(app.name) == plain(told))
        })
    }

    /// The user's file of this app that an edit belongs into: the first that exists, else the first of them.
    pub(crate) fn user_file(&self, around: &Surroundings) -> Option<FileOf> {
        let all: Vec<FileOf> = self
            .files
            .iter()
            .filter(|place| place.scope == Scope::User)
            .flat_map(|place| around.resolve(place))
            .collect();
        let existing = all.iter().find(|file| file.path.exists());
        existing.or(all.first()).cloned()
    }

    /// Every file of this app that may hold its list, existing or not.
    pub(crate) fn all_files(&self, around: &Surroundings) -> Vec<FileOf> {
        let mut files: Vec<FileOf> = Vec::new();
        for file in self.files.iter().flat_map(|place| around.resolve(place)) {
            if !files
                .iter()
                .any(|other| other.path == file.path && other.place.keys == file.place.keys)
            {
                files.push(file);
            }
        }
        files
    }
}
