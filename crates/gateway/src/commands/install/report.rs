//! What was done to which file, for people and for programs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::record::Records;
use super::remove::uses;
use super::{file_of, is_here};
use crate::apps::{APPS, App, Surroundings};
use crate::cli::output::{Output, Paint};
use crate::cli::table::{Sheet, terminal_width};
use crate::edit::diff::{lines, without_secrets};
use crate::edit::{Node, Syntax, read};
use crate::exit::{Exit, Stop};

/// What was done to one app's file, or would be.
#[derive(Debug)]
pub(crate) struct Done {
    app: &'static App,
    file: PathBuf,
    /// Whether there is any difference.
    pub(crate) changed: bool,
    diff: Vec<String>,
    /// Where the former file is.
    pub(crate) backup: Option<PathBuf>,
    /// The servers that were taken out.
    pub(crate) removed: Vec<String>,
    /// The servers that could not be put back.
    pub(crate) lost: Vec<String>,
}

impl Done {
    /// From the text of the file before and after.
    pub(crate) fn new(
        app: &'static App,
        file: &Path,
        syntax: Syntax,
        before: &str,
        after: &str,
    ) -> Self {
        let tree = |text| read(syntax, text).unwrap_or(Node::Null);
        let (old, new) = (tree(before), tree(after));
        let diff = lines(before, after)
            .iter()
            .map(|line| without_secrets(line, &[&old, &new]))
            .collect();
        Self {
            app,
            file: file.to_owned(),
            changed: before != after,
            diff,
            backup: None,
            removed: Vec::new(),
            lost: Vec::new(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "app": self.app.id,
            "file": self.file.display().to_string(),
            "changed": self.changed,
            "backup": self.backup.as_ref().map(|path| path.display().to_string()),
            "removed": self.removed,
            "lost": self.lost,
            "diff": self.diff,
        })
    }

    fn tell(&self, dry_run: bool, output: Output) -> Result<(), Stop> {
        let name = Paint::Bold.on(self.app.name, output.color());
        let file = self.file.display();
        if !self.changed {
            return output.line(&format!("{name}: nothing to change in {file}"));
        }
        if dry_run {
            output.line(&format!("{name}: would change {file}"))?;
            for line in &self.diff {
                let paint = match line.chars().next() {
                    Some('+') => Paint::Good,
                    Some('-') => Paint::Bad,
                    Some(_) | None => Paint::Dim,
                };
                output.line(&format!("  {}", paint.on(line, output.color())))?;
            }
            return Ok(());
        }
        output.line(&format!("{name}: changed {file}"))?;
        if !self.removed.is_empty() {
            output.line(&format!("  taken out: {}", self.removed.join(", ")))?;
        }
        if let Some(backup) = &self.backup {
            output.line(&format!("  the former file: {}", backup.display()))?;
        }
        if !self.lost.is_empty() {
            output.warn(
                &format!(
                    "the backup is gone, so these servers are not back in {}: {}",
                    self.app.name,
                    self.lost.join(", ")
                ),
                Some("Mainstay's configuration still has them"),
            );
        }
        Ok(())
    }
}

/// Reports on all apps; the first that failed decides how the command ends.
///
/// # Errors
/// That of the only app, as it is.
pub(crate) fn tell_all(
    mut done: Vec<(&'static App, Result<Done, Stop>)>,
    dry_run: bool,
    json: bool,
    output: Output,
) -> Result<Exit, Stop> {
    if done.len() == 1
        && let Some((app, Err(stop))) = done.pop_if(|(_, one)| one.is_err())
    {
        let _named = app;
        return Err(stop);
    }
    let exit = done
        .iter()
        .find_map(|(_, one)| one.as_ref().err().map(|stop| stop.exit))
        .unwrap_or(Exit::Ok);
    if json {
        let apps: Vec<Value> = done
            .iter()
            .map(|(app, one)| match one {
                Ok(one) => one.json(),
                Err(stop) => json!({
                    "app": app.id,
                    "error": { "kind": stop.exit.word(), "message": stop.to_string(), "hint": stop.hint },
                }),
            })
            .collect();
        output.json(&json!({ "dryRun": dry_run, "apps": apps }))?;
        return Ok(exit);
    }
    let mut changed = false;
    for (_, one) in &done {
        match one {
            Ok(one) => {
                one.tell(dry_run, output)?;
                changed |= one.changed;
            }
            Err(stop) => output.stop(stop, false),
        }
    }
    if changed && !dry_run {
        output.note("restart what was changed, so that it reads its file again");
    }
    Ok(exit)
}

/// Shows the apps.
///
/// # Errors
/// When stdout cannot be written.
pub(crate) fn list(
    around: &Surroundings,
    records: &Records,
    json: bool,
    output: Output,
) -> Result<Exit, Stop> {
    let apps = APPS.iter().map(|app| {
        let file = file_of(app, around).filter(|_| app.installable);
        let state = match &file {
            None => ("by hand", Paint::Dim),
            Some(_) if uses(app, around) => ("uses mainstay", Paint::Good),
            Some(_) if is_here(app, around) => ("found", Paint::Plain),
            Some(_) => ("not found", Paint::Dim),
        };
        (app, file, state)
    });
    if json {
        let apps: Vec<Value> = apps
            .map(|(app, file, (state, _))| {
                json!({
                    "app": app.id,
                    "name": app.name,
                    "state": state,
                    "file": file.map(|file| file.path.display().to_string()),
                    "installed": records.get(app.id).is_some(),
                })
            })
            .collect();
        output.json(&json!({ "apps": apps }))?;
        return Ok(Exit::Ok);
    }
    let mut sheet = Sheet::new(&["APP", "STATE", "FILE"]);
    for (app, file, (state, paint)) in apps {
        let file = file.map_or_else(String::new, |file| around.short(&file.path));
        sheet.row(vec![
            (app.id.to_owned(), Paint::Bold),
            (state.to_owned(), paint),
            (file, Paint::Dim),
        ]);
    }
    output.line(&sheet.render(output.is_terminal().then(terminal_width), output.color()))?;
    Ok(Exit::Ok)
}
