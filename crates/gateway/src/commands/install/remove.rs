//! `mainstay uninstall`: an app's file as it was before `install`, or without what `install` did.

use super::entry::is_ours;
use super::record::{Record, Records, digest};
use super::report::{Done, tell_all};
use super::{file_of, named, surroundings, syntax};
use crate::apps::{APPS, App, OWN_NAME, Surroundings};
use crate::cli::install::UninstallArgs;
use crate::cli::output::Output;
use crate::commands::own;
use crate::edit::file::{Backup, EditFile, take_away};
use crate::edit::{Change, Node, Syntax, edit, read};
use crate::exit::{Exit, Stop};

/// Takes it back.
///
/// # Errors
/// Exit 6 for an app that is not known or does not use Mainstay, 3 for a file that cannot be edited, 10 for one that
/// cannot be written.
pub(crate) fn run(args: &UninstallArgs, output: Output) -> Result<Exit, Stop> {
    let around = surroundings()?;
    let records = Records::at(args.state.state_dir.as_deref())?;
    let apps: Vec<&'static App> = if args.all {
        APPS.iter()
            .filter(|app| records.get(app.id).is_some() || uses(app, &around))
            .collect()
    } else {
        named(&args.apps)?
    };
    if apps.is_empty() {
        output.note("no app uses Mainstay");
    }
    let done: Vec<_> = apps
        .into_iter()
        .map(|app| (app, one(app, args.dry_run, &around, &records)))
        .collect();
    tell_all(done, args.dry_run, args.json, output)
}

/// Whether the app's file has our entry.
pub(super) fn uses(app: &App, around: &Surroundings) -> bool {
    let Some(file) = file_of(app, around).filter(|_| app.installable) else {
        return false;
    };
    let syntax = syntax(file.place.format);
    let tree = EditFile::open(&file.path).ok();
    let tree = tree.and_then(|found| read(syntax, found.text()).ok());
    let keys: Vec<String> = file
        .place
        .keys
        .iter()
        .map(|key| (*key).to_owned())
        .collect();
    tree.as_ref()
        .and_then(|tree| tree.at(&keys))
        .is_some_and(|map| {
            map.entries()
                .iter()
                .any(|(name, entry)| is_ours(name, entry))
        })
}

fn one(
    app: &'static App,
    dry_run: bool,
    around: &Surroundings,
    records: &Records,
) -> Result<Done, Stop> {
    let Some(record) = records.get(app.id) else {
        return without_record(app, dry_run, around);
    };
    let found = EditFile::open(&record.file)?;
    let syntax = file_of(app, around).map_or_else(
        || Syntax::of(&record.file),
        |file| syntax(file.place.format),
    );
    let backup = record.backup.as_deref().map(EditFile::open).transpose()?;
    let backup = backup.filter(EditFile::exists);
    let untouched = record.whole && found.exists() && digest(found.text()) == record.digest;
    let done = match (untouched, &record.backup, &backup) {
        // There was no file before.
        (true, None, _) => {
            let done = Done::new(app, &record.file, syntax, found.text(), "");
            if !dry_run {
                take_away(&record.file)?;
            }
            done
        }
        (true, Some(_), Some(backup)) => {
            let done = Done::new(app, &record.file, syntax, found.text(), backup.text());
            if !dry_run {
                found.write(backup.text(), Backup::None)?;
                take_away(backup.path())?;
            }
            done
        }
        (true, Some(_), None) | (false, _, _) => {
            let (text, lost) = undone(&record, syntax, &found, backup.as_ref())?;
            let mut done = Done::new(app, &record.file, syntax, found.text(), &text);
            done.lost = lost;
            done.backup = backup.as_ref().map(|backup| backup.path().to_owned());
            if !dry_run && found.exists() {
                found.write(&text, Backup::None)?;
            }
            done
        }
    };
    if !dry_run {
        records.forget(app.id)?;
    }
    Ok(done)
}

/// A file that was changed since, without what `install` did. Also the servers that could not be put back.
fn undone(
    record: &Record,
    syntax: Syntax,
    found: &EditFile,
    backup: Option<&EditFile>,
) -> Result<(String, Vec<String>), Stop> {
    let refused = |error| own::refused(&record.file, &error);
    let tree = read(syntax, found.text()).map_err(refused)?;
    let kept = match backup {
        Some(backup) => read(syntax, backup.text()).map_err(refused)?,
        None => Node::Null,
    };
    let mut changes = Vec::new();
    let mut lost = Vec::new();
    if tree
        .at(&record.path)
        .is_some_and(|entry| is_ours(OWN_NAME, entry))
    {
        changes.push(match kept.at(&record.path) {
            Some(former) => Change::set(record.path.clone(), former.clone()),
            None => Change::remove(record.path.clone()),
        });
    }
    for name in &record.removed {
        let mut path = record.path.clone();
        path.pop();
        path.push(name.clone());
        match (tree.at(&path), kept.at(&path)) {
            // Somebody has put it back.
            (Some(_), _) => {}
            (None, Some(former)) => changes.push(Change::set(path, former.clone())),
            (None, None) => lost.push(name.clone()),
        }
    }
    let text = edit(syntax, found.text(), &changes).map_err(refused)?;
    Ok((text, lost))
}

/// An entry that somebody wrote by hand, or whose record is lost.
fn without_record(app: &'static App, dry_run: bool, around: &Surroundings) -> Result<Done, Stop> {
    let nothing = || {
        Stop::new(
            Exit::NotFound,
            format!("{} does not use Mainstay", app.name),
        )
        .hint("`mainstay install --list` shows which apps do")
    };
    let file = file_of(app, around)
        .filter(|_| app.installable)
        .ok_or_else(nothing)?;
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
    let ours: Vec<Change> = tree
        .at(&keys)
        .map(Node::entries)
        .unwrap_or_default()
        .iter()
        .filter(|(name, entry)| is_ours(name, entry))
        .map(|(name, _)| {
            let mut path = keys.clone();
            path.push(name.clone());
            Change::remove(path)
        })
        .collect();
    if ours.is_empty() {
        return Err(nothing());
    }
    let text = edit(syntax, found.text(), &ours).map_err(refused)?;
    let mut done = Done::new(app, &file.path, syntax, found.text(), &text);
    if !dry_run {
        done.backup = found.write(&text, super::BACKUP)?;
    }
    Ok(done)
}
