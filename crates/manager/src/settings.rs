//! From a server's config entry to what the core and the links need: policy, resolved commands and headers.
//!
//! References are resolved here and nowhere else, at the moment of use (law 31). Results are handed on and dropped.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::policy::{
    BackoffPolicy, ConnectPolicy, KeepalivePolicy, Policy, RenewalPolicy, StopPolicy,
    SuspicionPolicy,
};
use mainstay_wire::revision::Era;

use crate::config::{
    EnvPolicy, Lookup, Protocol, Reach, ServerConfig, Startup, Template, Transport, process_env,
};
use crate::process::{self, Guardian, SpawnError, SpawnSpec};
use crate::runtime::http::Route;
use crate::vault::{self, Age};

/// A command with every reference resolved. No `Debug`: it may hold secrets.
pub(crate) struct ResolvedCommand {
    pub(crate) command: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: Option<String>,
}

/// An endpoint with every reference resolved. No `Debug`: it may hold secrets.
pub(crate) struct ResolvedEndpoint {
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) route: Route,
}

/// The policy that the core decides by.
pub(crate) fn policy(config: &ServerConfig) -> Policy {
    let restart = &config.restart;
    let timeouts = &config.timeouts;
    Policy {
        exclusive: !matches!(config.transport, Transport::Http { .. }),
        lazy: config.startup == Startup::Lazy,
        idle_shutdown_ms: config.idle_shutdown_ms,
        connect: ConnectPolicy {
            spawn_ms: timeouts.spawn_ms,
            greet_ms: timeouts.greet_ms,
            list_ms: timeouts.list_ms,
            total_ms: connect_ms(config),
        },
        open_interval_ms: restart.open_interval_ms,
        backoff: BackoffPolicy {
            base_ms: restart.backoff_base_ms,
            cap_ms: restart.backoff_cap_ms,
            retry_after_ms_min: restart.retry_after_min_ms,
            retry_after_ms_max: restart.retry_after_max_ms,
        },
        budget: restart.budget,
        stable_ms: restart.stable_ms,
        parked_probe_ms: restart.parked_probe_ms,
        parked_call_interval_ms: restart.parked_call_interval_ms,
        keepalive: config.keepalive.as_ref().map(|keepalive| KeepalivePolicy {
            idle_ms: keepalive.idle_ms,
            timeout_ms: keepalive.timeout_ms,
            misses: keepalive.misses,
        }),
        drain_ms: config.drain_ms,
        stop: StopPolicy {
            close_ms: config.stop.close_ms,
            terminate_ms: config.stop.terminate_ms,
            kill_ms: config.stop.kill_ms,
        },
        suspicion: SuspicionPolicy {
            timeout_ms: config.suspicion.timeout_ms,
            misses: config.suspicion.misses,
        },
        renewals: RenewalPolicy {
            window_ms: restart.renewal_window_ms,
            max: restart.renewals,
            // How many old generations may be on their way out at once: bounds what a storm of renewals holds open, and
            // costs a caller nothing but a short wait. Nobody has a reason to change it.
            ..Policy::default().renewals
        },
        // How wide a crowd is spread after a sleep: a matter between servers, of which none has a reason to differ.
        wake: Policy::default().wake,
    }
}

/// Makes a policy that of a further connection: somebody wants it now, and when nobody does any more it goes altogether.
pub(crate) fn of_further(policy: &mut Policy) {
    policy.lazy = false;
    policy.idle_shutdown_ms = None;
}

/// A connection attempt as a whole, in milliseconds. A package runner may take longer, as long as it shows life within
/// each phase: killing it in the middle of a download leaves a broken cache behind (F4, F5).
pub(crate) fn connect_ms(config: &ServerConfig) -> u64 {
    let timeouts = &config.timeouts;
    match &config.transport {
        Transport::Stdio { command, args, .. } if is_package_runner(command, args) => {
            timeouts.connect_ms.max(timeouts.runner_ms)
        }
        Transport::Stdio { .. } | Transport::Http { .. } | Transport::Broken { .. } => {
            timeouts.connect_ms
        }
    }
}

/// Whether the command may download what it runs. Told by the program's name, as it is written; a runner inside a shell or
/// a script is not recognised (set `timeouts.connectMs` for those).
fn is_package_runner(command: &Template, args: &[Template]) -> bool {
    const RUNNERS: [&str; 4] = ["npx", "uvx", "bunx", "pnpx"];
    const SUBCOMMANDS: [(&str, &[&str]); 9] = [
        ("npm", &["exec", "x"]),
        ("pnpm", &["dlx", "exec"]),
        ("yarn", &["dlx"]),
        ("bun", &["x"]),
        ("uv", &["run", "tool"]),
        ("pipx", &["run"]),
        ("deno", &["run"]),
        ("docker", &["run"]),
        ("podman", &["run"]),
    ];
    let name = command.raw().rsplit('/').next().unwrap_or_default();
    let mut words = args.iter().map(Template::raw);
    let first = words.find(|word| !word.starts_with('-'));
    RUNNERS.contains(&name)
        || SUBCOMMANDS.iter().any(|(program, subcommands)| {
            *program == name && first.is_some_and(|first| subcommands.contains(&first))
        })
}

/// The era that the config insists on.
pub(crate) fn fixed_era(config: &ServerConfig) -> Option<Era> {
    match config.protocol {
        Protocol::Auto => None,
        Protocol::Legacy => Some(Era::Legacy),
        Protocol::Modern => Some(Era::Modern),
    }
}

/// The environment of the server's child.
pub(crate) fn child_env(
    config: &ServerConfig,
    declared: &[(String, String)],
) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let policy = match config.env_policy {
        EnvPolicy::Allowlist => process::EnvPolicy::Basic,
        EnvPolicy::Inherit => process::EnvPolicy::Inherit,
    };
    process::child_env(std::env::vars_os(), declared, policy)
}

/// The longest wait for values that are kept elsewhere; less where opening the connection as a whole has less time.
const LOOKUP_WAIT: Duration = Duration::from_secs(30);

/// What was looked up for one entry. No `Debug`: it holds secrets.
struct Found(HashMap<Lookup, Arc<str>>);

impl Found {
    /// Looks up everything that these templates refer to, side by side.
    async fn of(
        config: &ServerConfig,
        templates: &[&Template],
        guardian: Option<&Guardian>,
        age: Age,
    ) -> Result<Self, Failure> {
        let mut lookups = Vec::new();
        for template in templates {
            let more = template.lookups(&process_env);
            lookups.extend(more.map_err(|unset| bad_config(unset.to_string()))?);
        }
        if lookups.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        // Sooner than the phase ends, so that it is said what it waited for.
        let phase = Duration::from_millis(config.timeouts.spawn_ms.saturating_mul(9) / 10);
        let wait = LOOKUP_WAIT.min(phase);
        let found = vault::look_up(lookups, guardian, wait, age).await;
        found.map(Self).map_err(|(lookup, why)| {
            let place = templates
                .iter()
                .filter(|template| {
                    let lookups = template.lookups(&process_env);
                    lookups.is_ok_and(|lookups| lookups.contains(&lookup))
                })
                .find_map(|template| template.origin());
            let place = place.map(|origin| {
                format!(
                    " ({}, {}:{})",
                    origin.path,
                    origin.file.display(),
                    origin.line
                )
            });
            Failure::new(FailureKind::SecretUnavailable)
                .with_detail(format!("`{lookup}`{}: {why}", place.unwrap_or_default()))
        })
    }

    fn fill(&self, template: &Template) -> Result<String, Failure> {
        let found = |lookup: &Lookup| self.0.get(lookup).map(ToString::to_string);
        template
            .fill(&process_env, &found)
            .map_err(|unset| bad_config(unset.to_string()))
    }

    fn fill_pairs(&self, pairs: &[(String, Template)]) -> Result<Vec<(String, String)>, Failure> {
        pairs
            .iter()
            .map(|(name, value)| Ok((name.clone(), self.fill(value)?)))
            .collect()
    }

    /// The way to a server.
    fn route(&self, reach: &Reach) -> Result<Route, Failure> {
        let text = |text: &Option<Template>| {
            let text = text.as_ref().map(|text| self.fill(text));
            text.transpose()
        };
        let beside = |path: &Option<Template>| {
            let path = path.as_ref().map(|path| self.beside(path));
            path.transpose()
        };
        Ok(Route {
            ca_file: beside(&reach.ca_file)?,
            cert_file: beside(&reach.cert_file)?,
            key_file: beside(&reach.key_file)?,
            proxy: text(&reach.proxy)?,
            no_proxy: text(&reach.no_proxy)?,
        })
    }

    /// A path of the config, which is relative to the file it stands in.
    fn beside(&self, template: &Template) -> Result<PathBuf, Failure> {
        let path = PathBuf::from(self.fill(template)?);
        let dir = template.origin().and_then(|origin| origin.file.parent());
        Ok(dir.map_or_else(|| path.clone(), |dir| dir.join(&path)))
    }
}

/// Resolves the command of a stdio server. Looks up what is kept elsewhere; the guardian is for the commands of password
/// managers. Cancel-safe.
pub(crate) async fn look_up_command(
    config: &ServerConfig,
    guardian: Option<&Guardian>,
) -> Result<ResolvedCommand, Failure> {
    match &config.transport {
        Transport::Stdio {
            command,
            args,
            env,
            cwd,
        } => {
            let found = Found::of(config, &config.templates(), guardian, Age::Kept).await?;
            Ok(ResolvedCommand {
                command: found.fill(command)?,
                args: args
                    .iter()
                    .map(|arg| found.fill(arg))
                    .collect::<Result<_, _>>()?,
                env: found.fill_pairs(env)?,
                cwd: cwd.as_ref().map(|cwd| found.fill(cwd)).transpose()?,
            })
        }
        Transport::Http { .. } | Transport::Broken { .. } => Err(unusable(config)),
    }
}

/// Resolves the endpoint of an HTTP server. Looks up what is kept elsewhere; the guardian is for the commands of password
/// managers. Cancel-safe.
pub(crate) async fn look_up_endpoint(
    config: &ServerConfig,
    guardian: Option<&Guardian>,
) -> Result<ResolvedEndpoint, Failure> {
    endpoint(config, guardian, Age::Kept).await
}

async fn endpoint(
    config: &ServerConfig,
    guardian: Option<&Guardian>,
    age: Age,
) -> Result<ResolvedEndpoint, Failure> {
    match &config.transport {
        Transport::Http { url, headers, .. } => {
            let found = Found::of(config, &config.templates(), guardian, age).await?;
            Ok(ResolvedEndpoint {
                url: found.fill(url)?,
                headers: found.fill_pairs(headers)?,
                route: found.route(&config.reach)?,
            })
        }
        Transport::Stdio { .. } | Transport::Broken { .. } => Err(unusable(config)),
    }
}

/// Whether the values of some headers are kept elsewhere, so that they may have changed when the server refuses them.
pub(crate) fn has_kept_headers(config: &ServerConfig) -> bool {
    match &config.transport {
        Transport::Http { headers, .. } => headers.iter().any(|(_, value)| value.is_stored()),
        Transport::Stdio { .. } | Transport::Broken { .. } => false,
    }
}

/// What the headers are now: everything that is kept elsewhere is looked up anew (a value of a moment ago counts as new).
/// `None`: they cannot be had. Cancel-safe; takes as long as a lookup may.
pub(crate) async fn headers_now(
    config: &ServerConfig,
    guardian: &Guardian,
) -> Option<Vec<(String, String)>> {
    match endpoint(config, Some(guardian), Age::Fresh).await {
        Ok(now) => Some(now.headers),
        Err(failure) => {
            tracing::warn!(server = config.name, %failure, "the credentials were refused and cannot be looked up anew");
            None
        }
    }
}

/// What is started for a stdio server, without a sandbox.
pub(crate) fn spawn_spec(
    config: &ServerConfig,
    resolved: ResolvedCommand,
    stderr_bytes_max: usize,
) -> SpawnSpec {
    SpawnSpec {
        program: resolved.command.into(),
        args: resolved.args.into_iter().map(Into::into).collect(),
        env: child_env(config, &resolved.env),
        cwd: resolved.cwd.map(Into::into),
        stderr_bytes_max,
        sandbox: None,
    }
}

/// What an entry says about signing in, with everything looked up. No `Debug`: it holds secrets.
#[cfg(feature = "oauth")]
pub(crate) struct SigningIn {
    found: Found,
    /// The way to whoever speaks for the server: the server's own.
    pub(crate) route: Route,
}

#[cfg(feature = "oauth")]
impl SigningIn {
    /// Looks up what `auth`, `tls` and the proxy refer to; with `anew`, also what was looked up before. Cancel-safe.
    pub(crate) async fn look_up(config: &ServerConfig, anew: bool) -> Result<Self, Failure> {
        let reach = &config.reach;
        let mut templates = config.auth.templates();
        templates.extend(
            [&reach.ca_file, &reach.proxy, &reach.no_proxy]
                .into_iter()
                .flatten(),
        );
        let age = if anew { Age::Fresh } else { Age::Kept };
        let found = Found::of(config, &templates, None, age).await?;
        // What we show to a server is for it alone.
        let shared = Reach {
            cert_file: None,
            key_file: None,
            ..reach.clone()
        };
        let route = found.route(&shared)?;
        Ok(Self { found, route })
    }

    /// The value of a template of `auth`.
    pub(crate) fn value(&self, template: &Template) -> Result<String, Failure> {
        self.found.fill(template)
    }
}

/// The failure of a start that did not happen.
pub(crate) fn spawn_failure(error: &SpawnError) -> Failure {
    let kind = match error {
        SpawnError::NotFound { .. } => FailureKind::SpawnNotFound,
        SpawnError::CwdMissing { .. } => FailureKind::CwdMissing,
        SpawnError::Denied { .. } => FailureKind::SpawnDenied,
        SpawnError::Unfenced { .. } => FailureKind::BadConfig,
        SpawnError::Other { .. } => FailureKind::SpawnFailed,
    };
    Failure::new(kind).with_detail(error.to_string())
}

/// Why an entry cannot be used at all.
pub(crate) fn unusable(config: &ServerConfig) -> Failure {
    let problems: Vec<String> = config.problems().iter().map(ToString::to_string).collect();
    bad_config(if problems.is_empty() {
        "the entry cannot be used".to_owned()
    } else {
        problems.join("; ")
    })
}

pub(crate) fn resolve(template: &Template) -> Result<String, Failure> {
    template
        .resolve(&process_env)
        .map_err(|unset| bad_config(unset.to_string()))
}

/// A path of the config, which is relative to the file it stands in.
pub(crate) fn beside(template: &Template) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(resolve(template)?);
    let dir = template.origin().and_then(|origin| origin.file.parent());
    Ok(dir.map_or_else(|| path.clone(), |dir| dir.join(&path)))
}

pub(crate) fn bad_config(detail: String) -> Failure {
    Failure::new(FailureKind::BadConfig).with_detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect_ms_of(command: &str, args: &[&str]) -> u64 {
        connect_ms(&ServerConfig::stdio("s", command).args(args.iter().copied()))
    }

    #[test]
    fn f4_a_package_runner_may_take_minutes_and_nothing_else_may() {
        let runners: [(&str, &[&str]); 6] = [
            ("npx", &["-y", "some-server"]),
            ("/usr/local/bin/uvx", &["some-server"]),
            ("npm", &["--yes", "exec", "some-server"]),
            ("uv", &["tool", "run", "some-server"]),
            ("docker", &["run", "-i", "some/image"]),
            ("pipx", &["run", "some-server"]),
        ];
        for (command, args) in runners {
            assert_eq!(connect_ms_of(command, args), 300_000, "{command} {args:?}");
        }
        for (command, args) in [("npm", &["start"]), ("node", &["npx"]), ("mynpx", &["run"])] {
            assert_eq!(connect_ms_of(command, args), 60_000, "{command} {args:?}");
        }
        let mut set = ServerConfig::stdio("s", "npx");
        set.timeouts.connect_ms = 7;
        set.timeouts.runner_ms = 7;
        assert_eq!(connect_ms(&set), 7, "what a person has set counts");
        let policy = policy(&ServerConfig::stdio("s", "npx"));
        assert_eq!(
            (policy.connect.greet_ms, policy.connect.total_ms),
            (60_000, 300_000),
            "silence still ends it after a minute"
        );
    }
}
