//! From a server's config entry to what the core and the links need: policy, resolved commands and headers.
//!
//! References are resolved here and nowhere else, at the moment of use (law 31). Results are handed on and dropped.

use std::path::PathBuf;

use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::policy::{BackoffPolicy, ConnectPolicy, KeepalivePolicy, Policy, StopPolicy};
use mainstay_wire::revision::Era;

use crate::config::{EnvPolicy, Protocol, ServerConfig, Startup, Template, Transport, process_env};
use crate::process;
use crate::runtime::http::Route;

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
            total_ms: timeouts.connect_ms,
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
        // Everything that is no setting yet.
        ..Policy::default()
    }
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

/// Resolves the command of a stdio server.
pub(crate) fn resolve_command(config: &ServerConfig) -> Result<ResolvedCommand, Failure> {
    match &config.transport {
        Transport::Stdio {
            command,
            args,
            env,
            cwd,
        } => Ok(ResolvedCommand {
            command: resolve(command)?,
            args: args.iter().map(resolve).collect::<Result<_, _>>()?,
            env: resolve_pairs(env)?,
            cwd: cwd.as_ref().map(resolve).transpose()?,
        }),
        Transport::Http { .. } | Transport::Broken { .. } => Err(unusable(config)),
    }
}

/// Resolves the endpoint of an HTTP server.
pub(crate) fn resolve_endpoint(config: &ServerConfig) -> Result<ResolvedEndpoint, Failure> {
    match &config.transport {
        Transport::Http { url, headers } => Ok(ResolvedEndpoint {
            url: resolve(url)?,
            headers: resolve_pairs(headers)?,
            route: Route {
                ca_file: config.reach.ca_file.as_ref().map(beside).transpose()?,
                proxy: config.reach.proxy.as_ref().map(resolve).transpose()?,
                no_proxy: config.reach.no_proxy.as_ref().map(resolve).transpose()?,
            },
        }),
        Transport::Stdio { .. } | Transport::Broken { .. } => Err(unusable(config)),
    }
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

fn resolve(template: &Template) -> Result<String, Failure> {
    template
        .resolve(&process_env)
        .map_err(|unset| bad_config(unset.to_string()))
}

/// A path of the config, which is relative to the file it stands in.
fn beside(template: &Template) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(resolve(template)?);
    let dir = template.origin().and_then(|origin| origin.file.parent());
    Ok(dir.map_or_else(|| path.clone(), |dir| dir.join(&path)))
}

fn resolve_pairs(pairs: &[(String, Template)]) -> Result<Vec<(String, String)>, Failure> {
    pairs
        .iter()
        .map(|(name, value)| Ok((name.clone(), resolve(value)?)))
        .collect()
}

fn bad_config(detail: String) -> Failure {
    Failure::new(FailureKind::BadConfig).with_detail(detail)
}
