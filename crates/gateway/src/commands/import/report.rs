//! What `import` tells: a table of the entries, what happened to their keys, which variables to set.
//!
//! Never shows a value of an app's file, only names and places.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::apps::Surroundings;
use crate::apps::gather::{Entry, Looked, State};
use crate::apps::merge::{Merged, Verdict};
use crate::apps::translate::{Outcome, Server};
use crate::cli::output::{Output, Paint};
use crate::cli::table::{Sheet, plain, terminal_width};
use crate::commands::config::plural;
use crate::exit::Stop;

/// Everything that is told.
pub(super) struct Report<'a> {
    pub(super) looked: &'a [Looked],
    pub(super) merged: &'a Merged,
    pub(super) target: &'a Path,
    pub(super) backup: Option<PathBuf>,
    pub(super) dry_run: bool,
    pub(super) around: &'a Surroundings,
}

/// A variable that has to be set where Mainstay starts.
struct Variable {
    servers: Vec<String>,
    /// Where the value is: file and keys. Empty for what only the app could fill in.
    at: Vec<(String, String)>,
    /// What belongs into it.
    what: Option<String>,
    copied: bool,
}

impl Report<'_> {
    /// Every entry with its verdict.
    fn entries(&self) -> impl Iterator<Item = (&Looked, &Entry, &Verdict, &[String])> {
        self.looked.iter().enumerate().flat_map(move |(file, one)| {
            one.entries
                .iter()
                .enumerate()
                .filter_map(move |(index, entry)| {
                    let verdict = self.merged.verdicts.get(file)?.get(index)?;
                    let notes = self
                        .merged
                        .notes
                        .get(&(file, index))
                        .map_or(&[][..], Vec::as_slice);
                    Some((one, entry, verdict, notes))
                })
        })
    }

    /// The variables that what is written refers to, and that nobody had to set before.
    fn variables(&self) -> BTreeMap<String, Variable> {
        let mut variables: BTreeMap<String, Variable> = BTreeMap::new();
        for (one, entry, verdict, _) in self.entries() {
            let (Outcome::Server(server), Verdict::Added(name) | Verdict::Renamed(name)) =
                (&entry.outcome, verdict)
            else {
                continue;
            };
            let file = one.path.display().to_string();
            for secret in &server.secrets {
                let variable = of(&mut variables, &secret.variable, name);
                variable.at.push((file.clone(), secret.at.clone()));
                variable.copied = secret.copied;
            }
            for asked in &server.asked {
                let variable = of(&mut variables, &asked.variable, name);
                variable.what = Some(asked.what.clone());
            }
        }
        variables
    }

    /// As programs read it.
    pub(super) fn json(&self) -> Value {
        let files: Vec<Value> = self
            .looked
            .iter()
            .enumerate()
            .map(|(file, one)| {
                let servers: Vec<Value> = one
                    .entries
                    .iter()
                    .enumerate()
                    .filter_map(|(index, entry)| {
                        let verdict = self.merged.verdicts.get(file)?.get(index)?;
                        let notes = self
                            .merged
                            .notes
                            .get(&(file, index))
                            .map_or(&[][..], Vec::as_slice);
                        Some(entry_json(entry, verdict, notes))
                    })
                    .collect();
                let mut object = json!({
                    "app": one.app.id,
                    "name": one.app.name,
                    "file": one.path.display().to_string(),
                    "scope": if one.is_project { "project" } else { "user" },
                    "state": state_word(&one.state),
                    "servers": servers,
                    "problems": one.problems,
                });
                if let State::Broken(broken) = &one.state {
                    object["error"] = json!({
                        "message": broken.message,
                        "line": broken.at.map(|(line, _)| line),
                        "column": broken.at.map(|(_, column)| column),
                    });
                }
                object
            })
            .collect();
        let variables: Vec<Value> = self
            .variables()
            .into_iter()
            .filter(|(_, variable)| !variable.copied)
            .map(|(name, variable)| {
                let at: Vec<Value> = variable
                    .at
                    .iter()
                    .map(|(file, keys)| json!({ "file": file, "keys": keys }))
                    .collect();
                json!({
                    "name": name, "servers": variable.servers, "value": at, "what": variable.what,
                    "set": std::env::var_os(&name).is_some(),
                })
            })
            .collect();
        json!({
            "files": files,
            "variables": variables,
            "target": self.target.display().to_string(),
            "backup": self.backup.as_ref().map(|path| path.display().to_string()),
            "added": self.merged.additions.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "dryRun": self.dry_run,
            "written": !self.dry_run && !self.merged.additions.is_empty(),
        })
    }

    /// As people read it.
    pub(super) fn tell(&self, output: Output) -> Result<(), Stop> {
        let shown: Vec<&Looked> = self
            .looked
            .iter()
            .filter(|one| one.state != State::NoList)
            .collect();
        if shown.is_empty() {
            output.note("no list of MCP servers was found");
            output.hint("name a file with --from FILE, or begin with `mainstay add`");
            return Ok(());
        }
        self.table(output)?;
        self.details(output)?;
        self.tell_variables(output)?;
        self.summary(output);
        Ok(())
    }

    fn table(&self, output: Output) -> Result<(), Stop> {
        let mut sheet = Sheet::new(&["APP", "SERVER", "RESULT", "AS", "FILE"]);
        for (file, one) in self.looked.iter().enumerate() {
            let place = self.around.short(&one.path);
            let alone = |word: &str, paint, note: String| {
                vec![
                    (one.app.name.to_owned(), Paint::Plain),
                    (String::new(), Paint::Plain),
                    (word.to_owned(), paint),
                    (note, Paint::Plain),
                    (place.clone(), Paint::Dim),
                ]
            };
            match &one.state {
                State::Broken(_) => sheet.row(alone("unreadable", Paint::Bad, String::new())),
                State::Target => sheet.row(alone("is the target", Paint::Dim, String::new())),
                State::Read if one.entries.is_empty() => {
                    sheet.row(alone("no servers", Paint::Dim, String::new()))
                }
                State::Read | State::NoList => {}
            }
            for (index, entry) in one.entries.iter().enumerate() {
                let Some(verdict) = self
                    .merged
                    .verdicts
                    .get(file)
                    .and_then(|file| file.get(index))
                else {
                    continue;
                };
                sheet.row(vec![
                    (one.app.name.to_owned(), Paint::Plain),
                    (entry.name.clone(), Paint::Bold),
                    (
                        verdict_words(verdict, self.dry_run).to_owned(),
                        verdict_paint(verdict),
                    ),
                    (verdict.name().unwrap_or_default().to_owned(), Paint::Plain),
                    (place.clone(), Paint::Dim),
                ]);
            }
        }
        let width = output.is_terminal().then(terminal_width);
        output.line(&sheet.render(width, output.color()))
    }

    /// What the table has no room for: broken files, reasons, keys.
    fn details(&self, output: Output) -> Result<(), Stop> {
        for one in self.looked {
            if let State::Broken(broken) = &one.state {
                let place = match broken.at {
                    Some((line, column)) => format!("{}:{line}:{column}", one.path.display()),
                    None => one.path.display().to_string(),
                };
                output.warn(
                    &plain(&format!("{place}: {}", broken.message)),
                    Some("the other files are imported without it"),
                );
            }
            for problem in &one.problems {
                output.warn(&plain(&format!("{}: {problem}", one.path.display())), None);
            }
        }
        let mut first = true;
        for (one, entry, verdict, notes) in self.entries() {
            let mut lines: Vec<String> = Vec::new();
            if let Some(why) = verdict.reason() {
                lines.push(format!("{}: {why}", verdict_words(verdict, self.dry_run)));
            }
            if let Verdict::Renamed(_) = verdict {
                let app = one.app.id;
                lines.push(format!("another server has its name; `--prefer {app}` takes this one alone if Mainstay has none"));
            }
            lines.extend(notes.iter().cloned());
            if let (Outcome::Server(server), Verdict::Added(_) | Verdict::Renamed(_)) =
                (&entry.outcome, verdict)
            {
                lines.extend(of_server(server));
            }
            if lines.is_empty() {
                continue;
            }
            if std::mem::take(&mut first) {
                output.line("")?;
            }
            output.line(&plain(&format!("{} of {}:", entry.name, one.app.name)))?;
            for line in lines {
                output.line(&format!("  {}", plain(&line)))?;
            }
        }
        Ok(())
    }

    fn tell_variables(&self, output: Output) -> Result<(), Stop> {
        let variables = self.variables();
        if variables.values().any(|variable| variable.copied) {
            output.warn(
                "secrets were copied into the configuration, because of --keep-secrets",
                Some("let nobody else read it, and keep it out of version control"),
            );
        }
        let missing: Vec<_> = variables
            .iter()
            .filter(|(_, variable)| !variable.copied)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        output.line("")?;
        output.line("Set these variables where Mainstay starts; their values were not copied:")?;
        for (name, variable) in missing {
            let set = if std::env::var_os(name).is_some() {
                " (is set here)"
            } else {
                ""
            };
            output.line(&plain(&format!(
                "  {name}{set}, for {}",
                variable.servers.join(", ")
            )))?;
            if let Some((file, keys)) = variable.at.first() {
                output.line(&plain(&format!("    its value is in {file} at {keys}")))?;
            }
            if let Some(what) = &variable.what {
                output.line(&plain(&format!("    it is {what}")))?;
            }
            output.line(&format!("    read -rs {name} && export {name}"))?;
        }
        Ok(())
    }

    fn summary(&self, output: Output) {
        let count = self.merged.additions.len();
        let target = self.around.short(self.target);
        let servers = plural(count, "server");
        if count == 0 {
            output.note(&format!("nothing new: {target} stays as it is"));
        } else if self.dry_run {
            output.note(&format!(
                "{count} {servers} would be added to {target}; nothing was written (--dry-run)"
            ));
        } else {
            let kept = self
                .backup
                .as_ref()
                .map(|path| format!("; as it was: {}", self.around.short(path)));
            output.note(&format!(
                "{count} {servers} added to {target}{}",
                kept.unwrap_or_default()
            ));
            output.hint("look at it with `mainstay check --start`, then point the apps at Mainstay with `mainstay install --all`");
        }
    }
}

fn of<'v>(
    variables: &'v mut BTreeMap<String, Variable>,
    name: &str,
    server: &str,
) -> &'v mut Variable {
    let variable = variables
        .entry(name.to_owned())
        .or_insert_with(|| Variable {
            servers: Vec::new(),
            at: Vec::new(),
            what: None,
            copied: false,
        });
    if !variable.servers.iter().any(|other| other == server) {
        variable.servers.push(server.to_owned());
    }
    variable
}

/// What happened to its keys, one line per kind.
fn of_server(server: &Server) -> Vec<String> {
    let mut lines = Vec::new();
    if !server.became.is_empty() {
        let all: Vec<String> = server
            .became
            .iter()
            .map(|(from, to)| format!("`{from}` became `{to}`"))
            .collect();
        lines.push(all.join(", "));
    }
    lines.extend(
        server
            .lost
            .iter()
            .map(|(key, why)| format!("without counterpart: `{key}` ({why})")),
    );
    lines.extend(server.notes.iter().cloned());
    lines
}

fn entry_json(entry: &Entry, verdict: &Verdict, notes: &[String]) -> Value {
    let mut object = json!({
        "name": entry.name,
        "at": entry.at,
        "result": verdict.word(),
        "as": verdict.name(),
        "reason": verdict.reason(),
        "notes": notes,
    });
    if let Outcome::Server(server) = &entry.outcome {
        let pairs = |pairs: &[(String, String)], second: &str| -> Vec<Value> {
            pairs
                .iter()
                .map(|(key, other)| json!({ "key": key, second: other }))
                .collect()
        };
        let mut all: Vec<&String> = notes.iter().collect();
        all.extend(&server.notes);
        object["notes"] = json!(all);
        object["keys"] = json!(pairs(&server.became, "becomes"));
        object["lost"] = json!(pairs(&server.lost, "why"));
        object["secrets"] = server
            .secrets
            .iter()
            .map(|secret| json!({ "variable": secret.variable, "keys": secret.at, "copied": secret.copied }))
            .collect();
    }
    object
}

fn state_word(state: &State) -> &'static str {
    match state {
        State::Read => "read",
        State::NoList => "no-list",
        State::Broken(_) => "unreadable",
        State::Target => "target",
    }
}

fn verdict_words(verdict: &Verdict, dry_run: bool) -> &'static str {
    match verdict {
        Verdict::Added(_) if dry_run => "would be added",
        Verdict::Added(_) => "added",
        Verdict::Unchanged(_) => "is there",
        Verdict::Duplicate(_) => "the same",
        Verdict::Renamed(_) => "name conflict",
        Verdict::Left(_) => "left out",
        Verdict::Skipped(_) => "skipped",
        Verdict::Mainstay => "uses Mainstay",
        Verdict::Invalid(_) => "unusable",
    }
}

fn verdict_paint(verdict: &Verdict) -> Paint {
    match verdict {
        Verdict::Added(_) => Paint::Good,
        Verdict::Renamed(_) | Verdict::Left(_) => Paint::Warn,
        Verdict::Invalid(_) => Paint::Bad,
        Verdict::Unchanged(_) | Verdict::Duplicate(_) | Verdict::Skipped(_) | Verdict::Mainstay => {
            Paint::Dim
        }
    }
}
