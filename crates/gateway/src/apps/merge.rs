//! From the entries of many files to what Mainstay's configuration gets: each server once, each name once, nothing
//! overwritten.

use std::collections::BTreeMap;
use std::path::Path;

use mainstay::config::{Config, Fingerprint, Severity};
use serde_json::{Map, Value, json};

use super::gather::Looked;
use super::translate::{Outcome, Server};

/// Longest name of a server, in characters.
const NAME_CHARS_MAX: usize = 64;

/// What becomes of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is written under this name.
    Added(String),
    /// Mainstay has it already, under this name.
    Unchanged(String),
    /// It is the same server as one that was found before, which has this name.
    Duplicate(String),
    /// Its name is that of another server, so it is written under this one.
    Renamed(String),
    /// Its name is that of another server, which was preferred.
    Left(String),
    /// It was left out.
    Skipped(String),
    /// It is Mainstay itself.
    Mainstay,
    /// Mainstay could not use it.
    Invalid(String),
}

impl Verdict {
    /// The stable word for it.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Added(_) => "added",
            Self::Unchanged(_) => "unchanged",
            Self::Duplicate(_) => "duplicate",
            Self::Renamed(_) => "renamed",
            Self::Left(_) => "left-out",
            Self::Skipped(_) => "skipped",
            Self::Mainstay => "mainstay",
            Self::Invalid(_) => "invalid",
        }
    }

    /// The name under which Mainstay has it afterwards.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Added(name)
            | Self::Unchanged(name)
            | Self::Duplicate(name)
            | Self::Renamed(name) => Some(name),
            Self::Left(_) | Self::Skipped(_) | Self::Mainstay | Self::Invalid(_) => None,
        }
    }

    /// Why it is not written.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Left(why) | Self::Skipped(why) | Self::Invalid(why) => Some(why),
            Self::Added(_)
            | Self::Unchanged(_)
            | Self::Duplicate(_)
            | Self::Renamed(_)
            | Self::Mainstay => None,
        }
    }
}

/// What is to be written, and what becomes of each entry.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    /// New entries, in the order in which they were found.
    pub(crate) additions: Vec<(String, Vec<(String, Value)>)>,
    /// One for each entry of each file, in the same order.
    pub(crate) verdicts: Vec<Vec<Verdict>>,
    /// What people should know about an entry, by file and entry.
    pub(crate) notes: BTreeMap<(usize, usize), Vec<String>>,
}

/// One server, however many apps have it.
struct Group {
    wanted: String,
    app: &'static str,
    connection: Fingerprint,
    settings: Fingerprint,
    entry: Vec<(String, Value)>,
    /// The entries that it stands for; the first is the one whose settings count.
    members: Vec<(usize, usize)>,
}

/// Merges what was found with what Mainstay has. `prefer`: the app whose entry keeps a name that several want.
pub(crate) fn merge(looked: &[Looked], existing: &Config, prefer: Option<&str>) -> Merged {
    let mut merged = Merged::default();
    let mut groups: Vec<Group> = Vec::new();
    for (file, one) in looked.iter().enumerate() {
        let mut verdicts = Vec::with_capacity(one.entries.len());
        for (index, entry) in one.entries.iter().enumerate() {
            verdicts.push(match &entry.outcome {
                Outcome::Skipped(why) => Verdict::Skipped(why.clone()),
                Outcome::Mainstay => Verdict::Mainstay,
                Outcome::Server(server) => place(
                    one,
                    server,
                    (file, index),
                    existing,
                    &mut groups,
                    &mut merged.notes,
                ),
            });
        }
        merged.verdicts.push(verdicts);
    }
    name_all(&groups, existing, prefer, &mut merged);
    merged
}

/// The entry as a map.
pub(crate) fn as_map(entry: &[(String, Value)]) -> Map<String, Value> {
    entry.iter().cloned().collect()
}

/// Finds the group of a server, or founds one. The verdict of members of groups comes later.
fn place(
    one: &Looked,
    server: &Server,
    member: (usize, usize),
    existing: &Config,
    groups: &mut Vec<Group>,
    notes: &mut BTreeMap<(usize, usize), Vec<String>>,
) -> Verdict {
    let (connection, settings) = match prints(server) {
        Ok(prints) => prints,
        Err(why) => return Verdict::Invalid(why),
    };
    let known = existing
        .servers
        .iter()
        .find(|known| !known.is_broken() && known.fingerprints().connection == connection);
    if let Some(known) = known {
        if known.fingerprints().settings != settings {
            notes.entry(member).or_default().push(
                "its other settings differ from those that Mainstay has, which stay".to_owned(),
            );
        }
        return Verdict::Unchanged(known.name.clone());
    }
    let enabled = |entry: &[(String, Value)]| {
        !entry
            .iter()
            .any(|(key, value)| key == "enabled" && *value == json!(false))
    };
    match groups
        .iter_mut()
        .find(|group| group.connection == connection)
    {
        Some(group) => {
            if group.settings != settings {
                let mine = notes.entry(member).or_default();
                if enabled(&server.entry) && !enabled(&group.entry) {
                    group.entry.retain(|(key, _)| key != "enabled");
                    mine.push(
                        "it is disabled elsewhere; because it is enabled here it stays enabled"
                            .to_owned(),
                    );
                } else {
                    mine.push("its other settings differ; those of the first app count".to_owned());
                }
            }
            group.members.push(member);
        }
        None => groups.push(Group {
            wanted: server.name.clone(),
            app: one.app.id,
            connection,
            settings,
            entry: server.entry.clone(),
            members: vec![member],
        }),
    }
    // Filled in when all names are known.
    Verdict::Duplicate(String::new())
}

/// What identifies the connection and the other settings.
fn prints(server: &Server) -> Result<(Fingerprint, Fingerprint), String> {
    let text = json!({ "mcpServers": { &server.name: as_map(&server.entry) } }).to_string();
    let loaded = Config::parse(&text, Path::new("import")).map_err(|error| {
        let messages: Vec<String> = error
            .problems()
            .iter()
            .map(|problem| problem.message.clone())
            .collect();
        messages.join("; ")
    })?;
    if let Some(problem) = loaded
        .problems
        .iter()
        .find(|problem| problem.severity == Severity::Error)
    {
        return Err(problem.message.clone());
    }
    let server = loaded.config.servers.first().ok_or("it is no server")?;
    let prints = server.fingerprints();
    Ok((prints.connection, prints.settings))
}

fn name_all(groups: &[Group], existing: &Config, prefer: Option<&str>, merged: &mut Merged) {
    let mut taken: Vec<String> = existing
        .servers
        .iter()
        .map(|server| server.name.clone())
        .collect();
    // Names that nobody disputes come first, so that no made-up name takes one of them.
    let rivals = |group: &Group| {
        groups
            .iter()
            .filter(|other| other.wanted == group.wanted)
            .count()
    };
    let is_free = |group: &Group| rivals(group) == 1 && existing.server(&group.wanted).is_none();
    taken.extend(
        groups
            .iter()
            .filter(|group| is_free(group))
            .map(|group| group.wanted.clone()),
    );
    for group in groups {
        let preferred = groups
            .iter()
            .position(|other| other.wanted == group.wanted && prefer == Some(other.app))
            .filter(|_| existing.server(&group.wanted).is_none());
        let verdict = match preferred {
            _ if is_free(group) => Verdict::Added(group.wanted.clone()),
            Some(first)
                if groups
                    .get(first)
                    .is_some_and(|first| std::ptr::eq(first, group)) =>
            {
                taken.push(group.wanted.clone());
                Verdict::Added(group.wanted.clone())
            }
            Some(_) => Verdict::Left(format!(
                "another server named `{}` was preferred",
                group.wanted
            )),
            None => {
                let name = free_name(&group.wanted, group.app, &taken);
                taken.push(name.clone());
                Verdict::Renamed(name)
            }
        };
        if let (Verdict::Added(name) | Verdict::Renamed(name), entry) = (&verdict, &group.entry) {
            merged.additions.push((name.clone(), entry.clone()));
        }
        for (order, (file, index)) in group.members.iter().enumerate() {
            let own = match (order, verdict.name()) {
                (0, _) | (_, None) => verdict.clone(),
                (_, Some(name)) => Verdict::Duplicate(name.to_owned()),
            };
            if let Some(slot) = merged
                .verdicts
                .get_mut(*file)
                .and_then(|file| file.get_mut(*index))
            {
                *slot = own;
            }
        }
    }
}

/// `name-app`, with a number if that is taken, too.
fn free_name(wanted: &str, app: &str, taken: &[String]) -> String {
    let made = |end: &str| -> String {
        let room = NAME_CHARS_MAX.saturating_sub(end.chars().count());
        let head: String = wanted.chars().take(room).collect();
        format!("{head}{end}")
    };
    std::iter::once(format!("-{app}"))
        .chain((2..).map(|number| format!("-{app}-{number}")))
        .map(|end| made(&end))
        .find(|name| !taken.contains(name))
        .unwrap_or_default()
}
