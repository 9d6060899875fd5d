//! `mainstay import`: the MCP servers of the apps on this machine become servers of Mainstay.
//!
//! Reads the files of the apps and writes one file, Mainstay's own. Must not change a file of an app, start a server, or
//! show a secret.

mod report;

use std::path::{Path, PathBuf};

use mainstay::config::{Config, find_default};

use self::report::Report;
use super::{config, local};
use crate::apps::gather::{self, Looked, State};
use crate::apps::merge::{self, Merged, Verdict};
use crate::apps::secrets::Vault;
use crate::apps::{APPS, App, Surroundings};
use crate::cli::import::ImportArgs;
use crate::cli::output::Output;
use crate::edit::file::{Backup, EditFile};
use crate::edit::{self, Change, Node, Syntax};
use crate::exit::{Exit, Stop};

/// The end of the name under which the former configuration is kept.
const BACKUP: &str = ".before-import";

/// Imports.
///
/// # Errors
/// Exit 3 when the configuration that is written to cannot be read, 6 when there is no such app or file, 10 when it cannot
/// be written.
pub(crate) fn run(args: &ImportArgs, output: Output) -> Result<Exit, Stop> {
    let around = Surroundings::here().ok_or_else(|| {
        Stop::new(
            Exit::Unexpected,
            "this user has no home directory, so no app can be found",
        )
        .hint("set HOME")
    })?;
    let apps = apps(&args.app)?;
    let prefer = args.prefer.as_deref().map(one_app).transpose()?;
    let target = target(args.config.config.as_deref())?;
    let file = EditFile::open(&target)?;
    let existing = existing(&file)?;
    let mut vault = Vault::new(args.keep_secrets);
    let looked = if args.from.is_empty() {
        gather::all(&apps, &around, &target, &mut vault)
    } else {
        named(&args.from, &apps, &around, &mut vault)?
    };
    let merged = merge::merge(&looked, &existing, prefer.map(|app| app.id));
    let text = written(&file, &merged)?;
    let backup = if args.dry_run || merged.additions.is_empty() {
        None
    } else {
        file.write(&text, Backup::New(BACKUP))?
    };
    let report = Report {
        looked: &looked,
        merged: &merged,
        target: &target,
        backup,
        dry_run: args.dry_run,
        around: &around,
    };
    if args.json {
        output.json(&report.json())?;
    } else {
        report.tell(output)?;
    }
    Ok(exit(&looked, &merged))
}

fn exit(looked: &[Looked], merged: &Merged) -> Exit {
    let is_broken =
        |one: &Looked| matches!(one.state, State::Broken(_)) || !one.problems.is_empty();
    let is_invalid = |verdict: &Verdict| matches!(verdict, Verdict::Invalid(_));
    if looked.iter().any(is_broken) || merged.verdicts.iter().flatten().any(is_invalid) {
        Exit::ImportIncomplete
    } else {
        Exit::Ok
    }
}

fn apps(told: &[String]) -> Result<Vec<&'static App>, Stop> {
    told.iter().map(|name| one_app(name)).collect()
}

fn one_app(told: &str) -> Result<&'static App, Stop> {
    App::find(told).ok_or_else(|| local::not_found("app", told, APPS.iter().map(|app| app.id)))
}

/// The files that were named instead of those of the apps. One that cannot be read does not keep the others.
fn named(
    files: &[PathBuf],
    apps: &[&'static App],
    around: &Surroundings,
    vault: &mut Vault,
) -> Result<Vec<Looked>, Stop> {
    let app = match apps {
        [] => None,
        [one] => Some(*one),
        _ => {
            return Err(
                Stop::new(Exit::Usage, "with --from, at most one --app can be given")
                    .hint("run the command once for each file"),
            );
        }
    };
    files
        .iter()
        .map(|path| {
            if !path.exists() {
                return Err(Stop::new(
                    Exit::NotFound,
                    format!("there is no file {}", path.display()),
                )
                .hint("check the path after --from"));
            }
            Ok(gather::one(path, app, around, vault)
                .unwrap_or_else(|broken| gather::broken(path, app, broken)))
        })
        .collect()
}

/// The configuration to write to: as told, else the one that would be served, else a new one of this user.
fn target(told: Option<&Path>) -> Result<PathBuf, Stop> {
    if let Some(path) = told {
        return Ok(path.to_owned());
    }
    match find_default(None) {
        Ok(path) => Ok(path),
        Err(none) => none.searched.last().cloned().ok_or_else(|| {
            Stop::new(Exit::NoConfig, "there is no place for a configuration")
                .hint("name one with --config FILE")
        }),
    }
}

fn existing(file: &EditFile) -> Result<Config, Stop> {
    if file.text().trim().is_empty() {
        return Ok(Config::default());
    }
    // Without looking at the environment: a variable that is not set here makes no server another one.
    match Config::parse(file.text(), file.path()) {
        Ok(loaded) => Ok(loaded.config),
        Err(error) => Err(config::refused(&error)),
    }
}

/// The text of the configuration with the additions; comments and order stay.
fn written(file: &EditFile, merged: &Merged) -> Result<String, Stop> {
    let cannot = |error: &edit::EditError| {
        Stop::new(
            Exit::ConfigInvalid,
            format!("cannot edit {}: {error}", file.path().display()),
        )
        .hint(error.hint())
    };
    if merged.additions.is_empty() {
        return Ok(file.text().to_owned());
    }
    let tree = edit::read(Syntax::Jsonc, file.text()).map_err(|error| cannot(&error))?;
    // Some editors call the map so, and a file has one of the two.
    let key = if tree.get("mcpServers").is_none() && tree.get("servers").is_some() {
        "servers"
    } else {
        "mcpServers"
    };
    let changes: Vec<Change> = merged
        .additions
        .iter()
        .map(|(name, entry)| {
            let members = entry
                .iter()
                .map(|(key, value)| (key.clone(), Node::from(value)))
                .collect();
            Change::set([key, name.as_str()], Node::Map(members))
        })
        .collect();
    let text = edit::edit(Syntax::Jsonc, file.text(), &changes).map_err(|error| cannot(&error))?;
    let text = if text.ends_with('\n') {
        text
    } else {
        format!("{text}\n")
    };
    // Never write what could not be read back.
    Config::parse(&text, file.path()).map_err(|error| config::refused(&error))?;
    Ok(text)
}
