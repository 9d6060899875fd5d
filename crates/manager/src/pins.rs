//! What operators have approved of servers' tools (`tools.pin`), and what differs from it.
//!
//! A tool's definition is what a model decides by: its name, title, description, schemas and annotations, in one canonical
//! form. What a server lists first is taken as approved; from then on a tool that is new, or not described as it was, is held
//! back until somebody approves it (F250), and a name that is gone is a change as well (F251). The record is one file per
//! server in the state directory. A file that cannot be used approves nothing: it never counts as "seen for the first time".
//!
//! Decides what is held back; what that means for listings and calls is decided by `shape` and `call`.

mod diff;
mod file;
mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use mainstay_wire::listing::RawItem;
use mainstay_wire::raw;
use schemars::JsonSchema;
use serde::Serialize;

use crate::catalog::{Catalog, unix_ms};
use crate::error::Refusal;
use crate::events::EventKind;

pub(crate) use self::program::Unapproved;
pub use self::program::{ApprovedProgram, ProgramFile};

use self::program::ProgramPin;

/// The members of a tool that are approved together.
const PINNED: [&str; 6] = [
    "name",
    "title",
    "description",
    "inputSchema",
    "outputSchema",
    "annotations",
];

/// The records of all servers, by name: they outlive the servers' slots.
#[derive(Debug)]
pub(crate) struct PinBook {
    /// The state directory; without one nothing outlives this process.
    dir: Option<PathBuf>,
    servers: Mutex<BTreeMap<Box<str>, Arc<Pins>>>,
}

impl PinBook {
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            servers: Mutex::default(),
        }
    }

    /// The record of a server, which is read from disk when it is first asked for. Blocks then.
    pub(crate) fn of(&self, server: &str) -> Arc<Pins> {
        if let Some(known) = locked(&self.servers).get(server) {
            return Arc::clone(known);
        }
        let pins = Arc::new(Pins::read(server, self.dir.clone()));
        // Whoever was first is right: somebody may have approved something since.
        let mut servers = locked(&self.servers);
        Arc::clone(servers.entry(server.into()).or_insert(pins))
    }

    /// Reads the records of these servers, beside everything else: a slow disk delays nobody.
    pub(crate) async fn load(self: &Arc<Self>, servers: Vec<String>) {
        let book = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            for server in servers {
                book.of(&server);
            }
        });
        // What was not read now is read when it is needed.
        let _ = read.await;
    }
}

/// One approved definition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Approval {
    /// In canonical form.
    definition: Arc<str>,
    at_unix_ms: u64,
    /// The shared connection did not list it when it was approved: it does not miss it either.
    further: bool,
}

/// What is approved.
#[derive(Debug, Clone)]
enum Record {
    /// The server was never listed under a pin.
    Unknown,
    /// These, and nothing else.
    Approved(BTreeMap<Box<str>, Approval>),
    /// There is a record that cannot be used.
    Damaged(Box<str>),
}

/// The record of one server's tools. Read by everybody without waiting.
#[derive(Debug)]
pub(crate) struct Pins {
    server: Box<str>,
    dir: Option<PathBuf>,
    record: ArcSwap<Record>,
    /// Held while the record is changed and written, by threads that may block.
    writing: Mutex<()>,
    program: ProgramPin,
}

impl Pins {
    fn read(server: &str, dir: Option<PathBuf>) -> Self {
        let record = dir.as_deref().map(|dir| file::read(dir, server));
        Self {
            server: server.into(),
            dir,
            record: ArcSwap::from_pointee(record.unwrap_or(Record::Unknown)),
            writing: Mutex::default(),
            program: ProgramPin::default(),
        }
    }

    /// A record that is never written, for servers that have none.
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self::read("", None))
    }

    /// The state directory.
    pub(crate) fn state_dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Whether these files are the program that was approved (F259). Blocks.
    pub(crate) fn check_program(&self, files: &[PathBuf]) -> Result<(), Unapproved> {
        self.program.check(&self.server, self.state_dir(), files)
    }

    /// Approves these files as the program. Blocks.
    ///
    /// # Errors
    /// [`PinError`]; nothing is approved then.
    pub(crate) fn approve_program(&self, files: &[PathBuf]) -> Result<ApprovedProgram, PinError> {
        self.program.approve(&self.server, self.state_dir(), files)
    }

    /// Takes a first listing as approved. `true` if it was the first, and is to be [saved](Self::save). A listing without
    /// tools is none.
    pub(crate) fn trust(&self, listed: &Catalog) -> bool {
        let is_first = matches!(**self.record.load(), Record::Unknown);
        if !is_first || listed.tools.items.is_empty() {
            return false;
        }
        let now = unix_ms();
        let approved = definitions(listed)
            .into_iter()
            .map(|(name, definition)| (name, approval(definition, now, false)))
            .collect();
        self.record.store(Arc::new(Record::Approved(approved)));
        true
    }

    /// Writes the record. Blocks.
    ///
    /// # Errors
    /// [`PinError::Unwritable`]. What is approved stays so in this process.
    pub(crate) fn save(&self) -> Result<(), PinError> {
        let _turn = locked(&self.writing);
        match &**self.record.load() {
            Record::Approved(approved) => self.write(approved),
            Record::Unknown | Record::Damaged(_) => Ok(()),
        }
    }

    fn write(&self, approved: &BTreeMap<Box<str>, Approval>) -> Result<(), PinError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        file::write(dir, &self.server, approved).map_err(|source| PinError::Unwritable {
            server: self.server.clone(),
            source: Arc::new(source),
        })
    }

    /// What is held back of a listing, and what it lacks. `before` is what was held back until now.
    pub(crate) fn judge(&self, listed: &Catalog, is_shared: bool, before: &Holdback) -> Holdback {
        let record = self.record.load();
        let (approved, damaged) = match &**record {
            Record::Unknown => return Holdback::default(),
            Record::Approved(approved) => (Some(approved), None),
            Record::Damaged(why) => (None, Some(why.clone())),
        };
        let current = definitions(listed);
        let now = unix_ms();
        let mut held = Holdback {
            damaged,
            ..Holdback::default()
        };
        for (name, definition) in &current {
            let known = approved.and_then(|approved| approved.get(name));
            let kind = match known {
                Some(approval) if *approval.definition == **definition => continue,
                Some(_) => ChangeKind::Changed,
                None => ChangeKind::Added,
            };
            let seen = before.tools.get(name);
            let seen = seen.filter(|seen| *seen.definition == **definition);
            let change = seen.cloned().unwrap_or_else(|| Held {
                kind,
                definition: definition.as_str().into(),
                seen_at_unix_ms: now,
            });
            held.tools.insert(name.clone(), change);
        }
        for (name, approval) in approved.into_iter().flatten().filter(|_| is_shared) {
            if !approval.further && !current.contains_key(name) {
                let seen = before.gone.get(name).copied().unwrap_or(now);
                held.gone.insert(name.clone(), seen);
            }
        }
        held
    }

    /// Why a call of a tool may not be made, if it may not.
    pub(crate) fn refuses(&self, own: &str, shown: &str, held: &Holdback) -> Option<Refusal> {
        let record = self.record.load();
        let why = match &**record {
            Record::Unknown => return None,
            Record::Damaged(_) => "the record of approved tools cannot be read",
            Record::Approved(approved) => match (approved.contains_key(own), held.tools.get(own)) {
                (true, None) => return None,
                (true, Some(_)) => "its definition has changed since it was approved",
                (false, Some(_)) => "it is new and was not approved",
                (false, None) => "it is not listed and was never approved",
            },
        };
        Some(Refusal::ToolHeld {
            server: self.server.clone(),
            tool: shown.into(),
            why,
        })
    }

    /// Whether there is or was something to approve under this name, the server's own.
    pub(crate) fn knows(&self, own: &str, current: &Current) -> bool {
        let is_approved = match &**self.record.load() {
            Record::Approved(approved) => approved.contains_key(own),
            Record::Unknown | Record::Damaged(_) => false,
        };
        is_approved || current.0.contains_key(own)
    }

    /// Approves what is current: all of it, or the named tools. A name that the server has not any more is forgotten.
    /// Returns what was changed. Blocks on the disk.
    ///
    /// # Errors
    /// [`PinError`]; nothing is approved then.
    pub(crate) fn approve(
        &self,
        current: &Current,
        names: Option<&[String]>,
    ) -> Result<Vec<String>, PinError> {
        let _turn = locked(&self.writing);
        let record = self.record.load_full();
        let mut approved = match &*record {
            Record::Approved(approved) => approved.clone(),
            Record::Unknown | Record::Damaged(_) => BTreeMap::new(),
        };
        let all: Vec<String> = match names {
            Some(names) => names.to_vec(),
            None => {
                let listed = current.0.keys().chain(approved.keys());
                listed.map(|name| name.to_string()).collect()
            }
        };
        let (mut changed, now) = (Vec::new(), unix_ms());
        for name in all {
            let known = approved.get(name.as_str());
            match current.0.get(name.as_str()) {
                Some((definition, further)) => {
                    if known.is_none_or(|known| *known.definition != **definition) {
                        let approval = approval(definition.clone(), now, *further);
                        approved.insert(name.as_str().into(), approval);
                        changed.push(name);
                    }
                }
                None if known.is_some_and(|known| !known.further || names.is_some()) => {
                    approved.remove(name.as_str());
                    changed.push(name);
                }
                // Known from connections that are not there now.
                None if known.is_some() => {}
                None => {
                    return Err(PinError::NoSuchTool {
                        server: self.server.clone(),
                        tool: name.into(),
                    });
                }
            }
        }
        if let (Record::Damaged(_), Some(dir)) = (&*record, &self.dir) {
            file::put_aside(dir, &self.server);
        }
        self.write(&approved)?;
        self.record.store(Arc::new(Record::Approved(approved)));
        changed.sort();
        changed.dedup();
        Ok(changed)
    }

    /// The changes that wait for approval, one by one.
    pub(crate) fn changes(&self, held: &Holdback) -> Vec<ToolChange> {
        let record = self.record.load();
        let approved = |name: &str| match &**record {
            Record::Approved(approved) => approved.get(name).map(|known| &known.definition),
            Record::Unknown | Record::Damaged(_) => None,
        };
        let change = |name: &str, kind, current: Option<&str>, seen_at_unix_ms| {
            let approved = approved(name).map(|text| diff::pretty(text));
            let current = current.map(diff::pretty);
            ToolChange {
                server: self.server.to_string(),
                tool: name.to_owned(),
                kind,
                seen_at_unix_ms,
                diff: diff::lines(
                    approved.as_deref().unwrap_or_default(),
                    current.as_deref().unwrap_or_default(),
                ),
                approved,
                current,
                damaged: held.damaged.as_deref().map(str::to_owned),
            }
        };
        let held_back = held.tools.iter().map(|(name, held)| {
            let current = Some(&*held.definition);
            change(name, held.kind, current, held.seen_at_unix_ms)
        });
        let gone = held
            .gone
            .iter()
            .map(|(name, seen)| change(name, ChangeKind::Removed, None, *seen));
        held_back.chain(gone).collect()
    }
}

/// What of a listing is not as it was approved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holdback {
    /// Held back, by the server's own names.
    pub(crate) tools: BTreeMap<Box<str>, Held>,
    /// Approved and not listed any more, and when that was first seen.
    pub(crate) gone: BTreeMap<Box<str>, u64>,
    /// Why the record cannot be used, if it cannot.
    pub(crate) damaged: Option<Box<str>>,
}

impl Holdback {
    /// What is to be told of it.
    pub(crate) fn event(&self) -> Option<EventKind> {
        const NAMES_MAX: usize = 20;
        let of_kind = |kind| {
            let held = self.tools.iter().filter(move |(_, held)| held.kind == kind);
            let names = held.map(|(name, _)| name.to_string());
            names.take(NAMES_MAX).collect()
        };
        let gone = self.gone.keys().map(|name| name.to_string());
        let total = self.tools.len() + self.gone.len();
        (total > 0).then(|| EventKind::ToolsHeld {
            added: of_kind(ChangeKind::Added),
            changed: of_kind(ChangeKind::Changed),
            removed: gone.take(NAMES_MAX).collect(),
            total,
            damaged: self.damaged.as_deref().map(str::to_owned),
        })
    }
}

/// One tool that is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) kind: ChangeKind,
    definition: Box<str>,
    seen_at_unix_ms: u64,
}

/// How a tool differs from what was approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// It was described otherwise.
    Changed,
    /// It is not there any more.
    Removed,
}

/// A difference between what was approved of a server's tools and what it lists, waiting for approval.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolChange {
    /// The server.
    pub server: String,
    /// The server's own name of the tool.
    pub tool: String,
    /// What kind of difference.
    pub kind: ChangeKind,
    /// The approved definition, as JSON text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved: Option<String>,
    /// What the server lists now, as JSON text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// When the difference was first seen, in milliseconds since 1970.
    pub seen_at_unix_ms: u64,
    /// The lines that differ, with some around them: `-` approved, `+` current, a space for both, `…` for those left out.
    pub diff: Vec<String>,
    /// Why the record of what was approved cannot be used, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
}

/// The definitions that a server lists now, over all of its connections.
#[derive(Debug, Default)]
pub(crate) struct Current(BTreeMap<Box<str>, (String, bool)>);

impl Current {
    /// Adds a listing. Of two definitions of one tool the first one added stays.
    pub(crate) fn add(&mut self, listed: &Catalog, is_shared: bool) {
        for (name, definition) in definitions(listed) {
            self.0.entry(name).or_insert((definition, !is_shared));
        }
    }
}

/// Why tools could not be approved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PinError {
    /// Tools of this server are not pinned.
    #[error("the tools of `{server}` are not pinned; set `tools.pin` to true in its config entry")]
    NotPinned {
        /// The server.
        server: Box<str>,
    },
    /// The server was never listed.
    #[error("`{server}` has not listed its tools yet")]
    NotListed {
        /// The server.
        server: Box<str>,
    },
    /// There is nothing of that name.
    #[error(
        "`{server}` has no tool `{tool}`; `mainstay tools diff {server}` shows what waits for approval"
    )]
    NoSuchTool {
        /// The server.
        server: Box<str>,
        /// The tool.
        tool: Box<str>,
    },
    /// The record could not be written. The cause is in `source()`.
    #[error("what is approved of `{server}` could not be kept in the state directory: {source}")]
    Unwritable {
        /// The server.
        server: Box<str>,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// The program of this server is not pinned.
    #[error(
        "the program of `{server}` is not pinned; set `pinProgram` to true in its config entry"
    )]
    ProgramNotPinned {
        /// The server.
        server: Box<str>,
    },
    /// There is no program to approve.
    #[error("the program of `{server}` cannot be approved: {why}")]
    NoProgram {
        /// The server.
        server: Box<str>,
        /// Why not.
        why: String,
    },
    /// Mainstay has shut down.
    #[error(transparent)]
    Ended(#[from] crate::error::OperatorError),
}

/// The definitions of a listing, by the server's own names. Of two tools with one name the first is shown, and judged.
fn definitions(listed: &Catalog) -> BTreeMap<Box<str>, String> {
    let mut found = BTreeMap::new();
    for tool in &listed.tools.items {
        found
            .entry(tool.name.as_str().into())
            .or_insert_with(|| definition(tool));
    }
    found
}

/// What is approved of a tool, in one form for all ways to write it.
fn definition(tool: &RawItem) -> String {
    let mut members = raw::members(tool.as_str());
    members.retain(|(name, _)| PINNED.contains(&&**name));
    raw::canonical_members(members)
}

fn approval(definition: String, at_unix_ms: u64, further: bool) -> Approval {
    Approval {
        definition: definition.into(),
        at_unix_ms,
        further,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
