//! The config: one file in the form that MCP clients already have, read with positions, or built in code.
//!
//! The file is JSON with comments and trailing commas. Its map `mcpServers` holds the servers; `mainstay` holds the
//! gateway's own settings. `docs/mainstay.schema.json` lists every key; `docs/config.example.json` is a working example.
//!
//! # What is refused, and how much with it
//!
//! | what is wrong | what happens |
//! |---|---|
//! | the file cannot be read, is not UTF-8, not JSON, has no map of servers, or something in `mainstay` is wrong | [`ConfigError`]: the file is refused as a whole, with *all* its problems |
//! | something in one server's entry: a wrong type, `command` and `url` at once, a name or key that occurs twice, a reference without a value | that server becomes [`Transport::Broken`] with its problems; the others run |
//! | an unknown key, a setting without effect | a warning with its path and the nearest known key |
//!
//! An invalid config never replaces a valid one (law 28): a reload that ends in [`ConfigError`], or that would break a server
//! that is not broken, keeps what runs. At start, broken servers are listed and the others run; so it is with a server that
//! is new in a reload and whose references have no values.
//!
//! # Other clients' files
//!
//! Every client's file works as it is. `servers` is read like `mcpServers`. `disabled: true` (and `isActive: false`) means
//! `enabled: false`; `serverUrl`, `httpUrl` and `baseUrl` mean `url`; `transport` means `type`; `includeTools`,
//! `allowedTools`, `enabledTools`, `excludeTools`, `disabledTools` and a list under `tools` mean `tools.include` and
//! `tools.exclude`. Keys about approval, icons and the like (`autoApprove`, `alwaysAllow`, …) are passed over in silence, and
//! so is `timeout`, whose unit differs from client to client: see `timeouts` instead.
//!
//! # Secrets
//!
//! References such as `${TOKEN}` stay references until the moment of use (law 31): see [`Template`]. No problem, error,
//! `Debug` or `Display` of this module shows a resolved value or the literal text of arguments, variables, headers and URLs.

mod access;
mod audit;
mod auth;
mod changes;
mod discover;
mod file;
mod file_watch;
mod filter;
mod fingerprint;
mod gateway;
mod journal;
#[cfg(test)]
mod limits_doc;
mod over;
mod policy;
mod problem;
mod profiles;
mod reach;
mod read;
mod read_objects;
mod read_options;
mod read_server;
mod reader;
#[cfg(test)]
mod reference_doc;
mod sandbox;
pub(crate) mod schema;
mod server;
mod stored;
mod suspicious;
mod template;
#[cfg(test)]
mod tests;
mod tools;
#[cfg(feature = "watch")]
pub mod watch;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

#[cfg(feature = "oauth")]
pub(crate) use self::auth::{CLIENT_NAME, is_scope};
pub use crate::process::{Backend as SandboxBackend, Network as SandboxNetwork};

pub use self::{
    access::{Access, ClientCertificate, Issuer, Required, ServerTls},
    audit::AuditConfig,
    auth::{AuthConfig, EnterpriseConfig, ExchangeConfig, GrantType, SigningAlgorithm},
    changes::{Applies, SettingChange},
    discover::{EXAMPLE, NoConfig, find_default},
    file::{EnvPolicy, OnToolChange, Protocol, Push, Replay, Scope, Startup},
    file_watch::WatchSettings,
    filter::{Glob, ToolFilter},
    fingerprint::{Fingerprint, Fingerprints},
    gateway::{GatewayConfig, Limits},
    policy::{
        Approval, ApprovalFor, Approver, CallLimits, LimitEach, PolicyAction, PolicyConfig,
        PolicyDefault, PolicyRule, Who,
    },
    problem::{ConfigError, Origin, Problem, Severity},
    profiles::{Discovery, Profile, Profiles},
    reach::Reach,
    sandbox::SandboxSettings,
    schema::json_schema,
    server::{
        CatalogSettings, Connections, HttpKind, Keepalive, Restart, ServerConfig, Stop, Suspicion,
        Timeouts, Transport,
    },
    stored::{Lookup, SECRET_NAME_CHARS_MAX, is_secret_name},
    suspicious::{AskRule, AskRules, Guard, HiddenText},
    template::{Reason, Template, Unset},
    tools::{ByTool, ToolArguments, ToolRetry, ToolTimeouts, Tools},
};

/// All servers and the gateway's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Config {
    /// Mainstay's own settings.
    pub gateway: GatewayConfig,
    /// The servers, sorted by name, broken ones included. No name occurs twice.
    pub servers: Vec<ServerConfig>,
    /// The file it was read from; `None` for one that was built in code.
    pub source: Option<PathBuf>,
}

/// A config and what was noticed while reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// Everything that was noticed, in the order of the file. Errors always belong to one server, which is then
    /// [`Transport::Broken`].
    pub problems: Vec<Problem>,
}

impl Config {
    /// Reads a file and checks that its references have values in the environment of this process.
    ///
    /// Blocks on the file system.
    ///
    /// # Errors
    ///
    /// When the file is refused as a whole: see the table in the [module documentation](self).
    pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
        let mut loaded = read::read(&Config::bytes(path)?, path)?;
        loaded.check_references(&process_env);
        Ok(loaded)
    }

    /// Reads what stands in a file, as far as a config may reach, for [`Config::parse_bytes`].
    ///
    /// Blocks on the file system.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn bytes(path: &Path) -> Result<Vec<u8>, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = fs::File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        // One byte more than allowed, so that a file that is too long is told from one that fits exactly.
        file.take(read::FILE_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        Ok(bytes)
    }

    /// Reads the text of a config. `path` only names it, in problems and for relative paths. Touches neither the file system
    /// nor the environment: whether references have values is for [`Loaded::check_references`] or the moment of use.
    ///
    /// # Errors
    ///
    /// When the text is refused as a whole: see the table in the [module documentation](self).
    pub fn parse(text: &str, path: &Path) -> Result<Loaded, ConfigError> {
        read::read(text.as_bytes(), path)
    }

    /// As [`Config::parse`], for what stands in a file: it need not be text.
    ///
    /// # Errors
    ///
    /// As for [`Config::parse`].
    pub fn parse_bytes(bytes: &[u8], path: &Path) -> Result<Loaded, ConfigError> {
        read::read(bytes, path)
    }

    /// A config made of servers built in code, with default settings for the gateway. Of two with one name the later wins.
    pub fn from_servers(servers: impl IntoIterator<Item = ServerConfig>) -> Config {
        let by_name: std::collections::BTreeMap<String, ServerConfig> = servers
            .into_iter()
            .map(|server| (server.name.clone(), server))
            .collect();
        Config {
            servers: by_name.into_values().collect(),
            ..Config::default()
        }
    }

    /// The server of that name.
    pub fn server(&self, name: &str) -> Option<&ServerConfig> {
        let index = self
            .servers
            .binary_search_by(|server| server.name.as_str().cmp(name))
            .ok()?;
        self.servers.get(index)
    }
}

impl Loaded {
    /// Looks up every reference and turns each enabled server with one that has no value into [`Transport::Broken`]. For a
    /// disabled server it is a warning.
    pub fn check_references(&mut self, env: &dyn Fn(&str) -> Option<String>) {
        for server in &mut self.config.servers {
            let severity = if server.enabled {
                Severity::Error
            } else {
                Severity::Warning
            };
            let found: Vec<Problem> = server
                .templates()
                .into_iter()
                .flat_map(|template| template.unset(env))
                .map(|unset| Problem {
                    severity,
                    server: Some(server.name.as_str().into()),
                    message: unset.reason.sentence(&unset.reference),
                    remedy: unset.reason.remedy(&unset.reference),
                    origin: unset.origin.map(|origin| *origin),
                })
                .collect();
            if found.is_empty() {
                continue;
            }
            self.problems.extend(found.iter().cloned());
            if server.enabled {
                server.transport = Transport::Broken { problems: found };
            }
        }
        self.problems.sort_by_key(Problem::position);
    }

    /// Whether any server is broken.
    pub fn has_errors(&self) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }
}

/// One variable of the environment of this process; `None` when it is not set or not Unicode.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
