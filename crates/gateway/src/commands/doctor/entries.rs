//! What can be seen in the entries themselves: servers that are there twice, secrets in plain text, apps that go their own
//! way.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use mainstay::config::{Config, Severity, Template, Transport};
use mainstay::preflight::kept;

use super::{Area, Health, Seen};
use crate::apps::Surroundings;
use crate::apps::gather::{self, State};
use crate::apps::merge::{self, Verdict};
use crate::apps::secrets::{self, Vault};

/// Looks at the entries.
pub(super) fn look(config: &Config, health: &mut Health) {
    for server in &config.servers {
        health.servers.push(Seen {
            name: server.name.clone(),
            transport: match &server.transport {
                Transport::Stdio { .. } => "stdio",
                Transport::Http { .. } => "http",
                Transport::Broken { .. } => "",
            },
            state: if server.is_broken() {
                "broken"
            } else if server.enabled {
                "not started"
            } else {
                "disabled"
            },
            ..Seen::default()
        });
    }
    twice(config, health);
    plain_secrets(config, health);
    apps(config, health);
}

fn twice(config: &Config, health: &mut Health) {
    let mut by_connection: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    let mut by_letters: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for server in config
        .servers
        .iter()
        .filter(|server| server.enabled && !server.is_broken())
    {
        by_connection
            .entry(server.fingerprints().connection)
            .or_default()
            .push(&server.name);
        by_letters
            .entry(server.name.to_lowercase())
            .or_default()
            .push(&server.name);
    }
    for names in by_connection.values().filter(|names| names.len() > 1) {
        health.add(
            Severity::Warning,
            Area::Duplicates,
            names.join(", "),
            "these are the same server: every tool of it is there more than once",
            "keep one of them; `mainstay remove NAME` takes one out",
        );
    }
    for names in by_letters.values().filter(|names| names.len() > 1) {
        health.add(
            Severity::Note,
            Area::Duplicates,
            names.join(", "),
            "these names only differ in upper and lower case",
            "give one of them another name",
        );
    }
}

/// Secrets that stand in the file itself, by where they are.
pub(super) fn literal_secrets(config: &Config) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for server in &config.servers {
        let named: Vec<(&str, &str, &Template)> = match &server.transport {
            Transport::Stdio { env, .. } => env
                .iter()
                .map(|(name, value)| ("env", name.as_str(), value))
                .collect(),
            Transport::Http { headers, .. } => headers
                .iter()
                .map(|(name, value)| ("headers", name.as_str(), value))
                .collect(),
            Transport::Broken { .. } => Vec::new(),
        };
        for (group, name, value) in named {
            if secrets::is_secret(name, value.raw()) {
                found.push((server.name.clone(), format!("{group}.{name}")));
            }
        }
    }
    found
}

fn plain_secrets(config: &Config, health: &mut Health) {
    for (server, key) in literal_secrets(config) {
        health.add(
            Severity::Note,
            Area::Config,
            server,
            format!("`{key}` holds what looks like a secret, in plain text"),
            "put it into an environment variable and write `${NAME}`",
        );
    }
}

/// Looks up what entries refer to and is kept elsewhere. Shows no value.
pub(super) async fn secrets_kept(config: &Config, wait: Duration, health: &mut Health) {
    let enabled = config.servers.iter().filter(|server| server.enabled);
    let looked = enabled.map(|server| async move { (server, kept(server, wait).await) });
    for (server, all) in join_all(looked).await {
        for one in all {
            let place = format!("{}: `{}`", server.name, one.reference);
            if let Some(problem) = one.problem {
                let remedy = "the server cannot start without it";
                health.add(Severity::Error, Area::Secrets, place, problem, remedy);
            } else if let Some(note) = one.note {
                let remedy = "let nobody but its owner read it";
                health.add(Severity::Warning, Area::Secrets, place, note, remedy);
            }
        }
    }
}

/// Apps that start the same servers beside Mainstay, or others that it does not have.
fn apps(config: &Config, health: &mut Health) {
    let Some(around) = Surroundings::here() else {
        return;
    };
    let target = config.source.clone().unwrap_or_default();
    let looked = gather::all(&[], &around, &target, &mut Vault::new(false));
    let merged = merge::merge(&looked, config, None);
    for (one, verdicts) in looked.iter().zip(&merged.verdicts) {
        if one.state != State::Read || one.is_project {
            continue;
        }
        let both = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Unchanged(name) => Some(name.as_str()),
            Verdict::Added(_)
            | Verdict::Duplicate(_)
            | Verdict::Renamed(_)
            | Verdict::Left(_)
            | Verdict::Skipped(_)
            | Verdict::Mainstay
            | Verdict::Invalid(_) => None,
        });
        let both: Vec<&str> = both.collect();
        if !both.is_empty() {
            health.add(
                Severity::Note,
                Area::Duplicates,
                around.short(&one.path),
                format!(
                    "{} starts these servers itself, beside Mainstay: {}",
                    one.app.name,
                    both.join(", ")
                ),
                format!("point it at Mainstay: `mainstay install {}`", one.app.id),
            );
        }
    }
}
