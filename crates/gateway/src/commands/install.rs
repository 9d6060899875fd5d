//! `mainstay install`: points apps at Mainstay by one entry in their own files, and `uninstall`, which takes it back.
//!
//! Must not change anything else in a file of an app, and must not lose what it takes out: the former file stays beside it.

mod entry;
mod record;
mod remove;
mod report;

use std::path::{Path, PathBuf};

use mainstay::config::{Config, GatewayConfig};

pub(crate) use self::entry::program;
use self::record::{Record, Records, digest};
pub(crate) use self::remove::run as uninstall;
use self::report::{Done, tell_all};
use super::local;
use super::own::{self, new_place};
use crate::apps::gather;
use crate::apps::merge::{Verdict, merge};
use crate::apps::secrets::Vault;
use crate::apps::{APPS, App, FileOf, Format, OWN_NAME, Surroundings};
use crate::cli::install::InstallArgs;
use crate::cli::output::Output;
use crate::edit::file::{Backup, EditFile};
use crate::edit::{Change, Node, Syntax, edit, read};
use crate::exit::{Exit, Stop};

/// The end of the name under which an app's former file is kept.
const BACKUP: Backup = Backup::New(".before-mainstay");

/// Installs.
///
/// # Errors
/// Exit 6 for an app that is not known, 3 for a file that cannot be edited, 10 for one that cannot be written. One app's
/// trouble does not keep the others.
pub(crate) fn run(args: &InstallArgs, output: Output) -> Result<Exit, Stop> {
    let around = surroundings()?;
    let records = Records::at(args.state.state_dir.as_deref())?;
    if args.list {
        return report::list(&around, &records, args.json, output);
    }
    let apps = match args.all {
        true => found(&around),
        false => named(&args.apps)?,
    };
    if apps.is_empty() {
        return Err(Stop::new(
            Exit::NotFound,
            "no app that is known was found for this user",
        )
        .hint("name one: `mainstay install --list` shows those that are known"));
    }
    let pointer = Pointer::of(args)?;
    let done: Vec<_> = apps
        .into_iter()
        .map(|app| (app, one(app, args, &pointer, &around, &records)))
        .collect();
    tell_all(done, args.dry_run, args.json, output)
}

fn surroundings() -> Result<Surroundings, Stop> {
    Surroundings::here().ok_or_else(|| {
        Stop::new(
            Exit::Unexpected,
            "this user has no home directory, so no app can be found",
        )
        .hint("set HOME")
    })
}

/// The apps of these names.
fn named(names: &[String]) -> Result<Vec<&'static App>, Stop> {
    let find = |name: &String| {
        App::find(name).ok_or_else(|| local::not_found("app", name, APPS.iter().map(|app| app.id)))
    };
    names.iter().map(find).collect()
}

/// The apps that are on this machine.
fn found(around: &Surroundings) -> Vec<&'static App> {
    APPS.iter()
        .filter(|app| app.installable && is_here(app, around))
        .collect()
}

/// Whether an app has left anything: its file, or the directory for it.
fn is_here(app: &App, around: &Surroundings) -> bool {
    file_of(app, around).is_some_and(|file| file.path.exists() || has_dir(&file.path, around))
}

fn has_dir(path: &Path, around: &Surroundings) -> bool {
    path.parent()
        .is_some_and(|dir| dir.is_dir() && dir != around.home)
}

/// The user's file of an app: the one that has its list, else the first whose directory is there, else the first.
fn file_of(app: &App, around: &Surroundings) -> Option<FileOf> {
    let files: Vec<FileOf> = app
        .all_files(around)
        .into_iter()
        .filter(|file| file.place.scope == crate::apps::Scope::User)
        .collect();
    let has_list = |file: &&FileOf| {
        let tree = EditFile::open(&file.path).ok().and_then(|found| {
            let exists = found.exists();
            exists.then(|| read(syntax(file.place.format), found.text()).ok())?
        });
        let keys: Vec<String> = file
            .place
            .keys
            .iter()
            .map(|key| (*key).to_owned())
            .collect();
        tree.is_some_and(|tree| tree.at(&keys).is_some())
    };
    let likely = |file: &&FileOf| file.path.exists() || has_dir(&file.path, around);
    let chosen = files
        .iter()
        .find(has_list)
        .or_else(|| files.iter().find(likely))
        .cloned();
    chosen.or_else(|| app.user_file(around))
}

fn syntax(format: Format) -> Syntax {
    match format {
        Format::Jsonc => Syntax::Jsonc,
        Format::Toml => Syntax::Toml,
        Format::Yaml => Syntax::Yaml,
    }
}

/// What the apps are pointed at.
struct Pointer {
    to: To,
    /// The servers of Mainstay, for `--replace`.
    config: Option<Config>,
}

enum To {
    /// `mainstay stdio` with these arguments.
    Program { program: String, args: Vec<String> },
    /// An address.
    Url(String),
}

impl Pointer {
    fn of(args: &InstallArgs) -> Result<Self, Stop> {
        let file = own::place(args.config.config.as_deref())?;
        let loaded = match file.exists() {
            // Without looking at the environment: a variable that is not set here makes no server another one.
            true => {
                let own = own::Own::open_unread(&file)?;
                Some(own.parsed(own.file().text())?.config)
            }
            // It may come later; without one `mainstay stdio` says what is missing.
            false => None,
        };
        let to = if args.http {
            let gateway = loaded.as_ref().map(|config| config.gateway.clone());
            To::Url(url(&gateway.unwrap_or_default(), args.profile.as_deref())?)
        } else {
            To::Program {
                program: entry::program()?,
                args: stdio_args(&file, args.profile.as_deref())?,
            }
        };
        Ok(Self { to, config: loaded })
    }

    fn entry(&self, app: &App) -> Result<Node, Stop> {
        match &self.to {
            To::Program { program, args } => Ok(entry::stdio(app, program, args)),
            To::Url(url) => entry::http(app, url),
        }
    }
}

/// An app runs it in whatever directory it likes: only the user's own configuration is found from everywhere.
fn stdio_args(file: &Path, profile: Option<&str>) -> Result<Vec<String>, Stop> {
    let mut args = vec!["stdio".to_owned()];
    let file = std::path::absolute(file).unwrap_or(file.to_owned());
    if new_place().is_none_or(|place| place != file) {
        let text = file.into_os_string().into_string().map_err(|_| {
            Stop::new(Exit::Usage, "the path of the configuration is not Unicode")
                .hint("give it another name; no app's file can say this one")
        })?;
        args.extend(["--config".to_owned(), text]);
    }
    if let Some(profile) = profile {
        args.extend(["--profile".to_owned(), profile.to_owned()]);
    }
    Ok(args)
}

fn url(gateway: &GatewayConfig, profile: Option<&str>) -> Result<String, Stop> {
    if gateway.listen.port() == 0 {
        return Err(Stop::new(
            Exit::Usage,
            "the configured port is 0, which is another one at every start",
        )
        .hint("set `mainstay.listen` to one that stays, or leave out --http"));
    }
    let path = match profile {
        Some(profile) => format!("/profiles/{}/mcp", super::client::segment(profile)),
        None => "/mcp".to_owned(),
    };
    if let Some(resource) = &gateway.access.resource {
        return Ok(format!("{resource}{path}"));
    }
    let scheme = gateway.access.tls.as_ref().map_or("http", |_| "https");
    Ok(format!("{scheme}://{}{path}", gateway.listen))
}

/// Points one app at Mainstay.
fn one(
    app: &'static App,
    args: &InstallArgs,
    pointer: &Pointer,
    around: &Surroundings,
    records: &Records,
) -> Result<Done, Stop> {
    let file = file_of(app, around).filter(|_| app.installable);
    let file = file.ok_or_else(|| {
        Stop::new(
            Exit::Usage,
            format!("{} has no file of the user that could be changed", app.name),
        )
        .hint(format!(
            "put this into its own configuration: {}",
            pointer
                .entry(app)
                .map(|entry| entry.to_json().to_string())
                .unwrap_or_default()
        ))
    })?;
    let syntax = syntax(file.place.format);
    let found = EditFile::open(&file.path)?;
    let refused = |error| own::refused(&file.path, &error);
    let tree = read(syntax, found.text()).map_err(refused)?;
    let keys: Vec<String> = file
        .place
        .keys
        .iter()
        .map(|key| (*key).to_owned())
        .collect();
    let mut path = keys.clone();
    path.push(OWN_NAME.to_owned());
    if let Some(other) = tree.at(&path)
        && !entry::is_ours(OWN_NAME, other)
    {
        return Err(Stop::new(
            Exit::Usage,
            format!(
                "{} has a server named `{OWN_NAME}` already, and it is another one",
                app.name
            ),
        )
        .hint(format!("rename it in {}", file.path.display())));
    }
    let taken =
        match (args.replace, &pointer.config) {
            (false, _) => Vec::new(),
            (true, Some(config)) => replaceable(app, &file, config, around)?,
            (true, None) => {
                return Err(Stop::new(
                Exit::NoConfig,
                "there is no configuration that the app's servers could have been imported into",
            )
            .hint(format!("import them first: mainstay import --app {}", app.id)));
            }
        };
    let mut changes = vec![Change::set(path.clone(), pointer.entry(app)?)];
    changes.extend(taken.iter().map(|name| {
        let mut path = keys.clone();
        path.push(name.clone());
        Change::remove(path)
    }));
    let text = edit(syntax, found.text(), &changes).map_err(refused)?;
    let mut done = Done::new(app, &file.path, syntax, found.text(), &text);
    done.removed.clone_from(&taken);
    if args.dry_run || !done.changed {
        return Ok(done);
    }
    done.backup = write(app, &found, &text, path, taken, records)?;
    Ok(done)
}

/// Writes it and remembers what it was. The record comes first: without one `uninstall` could not put the file back.
fn write(
    app: &App,
    found: &EditFile,
    text: &str,
    path: Vec<String>,
    taken: Vec<String>,
    records: &Records,
) -> Result<Option<PathBuf>, Stop> {
    let file = std::path::absolute(found.path()).unwrap_or(found.path().to_owned());
    let before = records.get(app.id).filter(|record| record.file == file);
    let mut record = match before.clone() {
        Some(before) => before,
        None => Record::new(app.id, &file, path),
    };
    // Changed between two installations: the backup lacks what was changed, so it is not simply put back.
    record.whole &= before.is_none() || record.digest == digest(found.text());
    record.digest = digest(text);
    record.removed.extend(taken);
    if before.is_some() {
        records.put(&record)?;
        found.write(text, Backup::None)?;
        return Ok(record.backup);
    }
    record.backup = found.keep(BACKUP)?;
    records.put(&record)?;
    found.write(text, Backup::None)?;
    Ok(record.backup)
}

/// The servers of the app that Mainstay has. The app's own extensions and the like stay.
fn replaceable(
    app: &'static App,
    file: &FileOf,
    config: &Config,
    around: &Surroundings,
) -> Result<Vec<String>, Stop> {
    let mut vault = Vault::new(false);
    let looked = match gather::one(&file.path, Some(app), around, &mut vault) {
        Ok(looked) => looked,
        // There is no list in it: nothing to take out.
        Err(_) => return Ok(Vec::new()),
    };
    let looked = [looked];
    let merged = merge(&looked, config, None);
    let verdicts = merged.verdicts.iter().flatten();
    let entries = looked.iter().flat_map(|one| &one.entries);
    let (mut taken, mut missing) = (Vec::new(), Vec::new());
    for (entry, verdict) in entries.zip(verdicts) {
        let here = matches!(verdict, Verdict::Unchanged(_))
            || verdict.name().is_some_and(|name| {
                matches!(verdict, Verdict::Duplicate(_)) && config.server(name).is_some()
            });
        match verdict {
            _ if here => taken.push(entry.name.clone()),
            Verdict::Skipped(_) | Verdict::Mainstay => {}
            Verdict::Unchanged(_)
            | Verdict::Duplicate(_)
            | Verdict::Added(_)
            | Verdict::Renamed(_)
            | Verdict::Left(_)
            | Verdict::Invalid(_) => missing.push(entry.name.clone()),
        }
    }
    if missing.is_empty() {
        taken.retain(|name| name != OWN_NAME);
        return Ok(taken);
    }
    Err(Stop::new(
        Exit::Usage,
        format!(
            "Mainstay does not have these servers of {} as they are there: {}; nothing was taken out",
            app.name,
            missing.join(", ")
        ),
    )
    .hint("import them first: `mainstay import` shows what becomes of each; or leave out --replace"))
}
