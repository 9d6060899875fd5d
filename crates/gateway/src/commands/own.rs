//! Mainstay's own configuration file, as commands change it: found or made, checked before it is written.
//!
//! Must not decide what is changed: commands do.

use std::path::{Path, PathBuf};

use mainstay::config::{Config, Loaded, find_default, process_env};

use super::client::AdminClient;
use super::{config, paths};
use crate::cli::output::Output;
use crate::edit::file::{Backup, EditFile};
use crate::edit::{Change, EditError, Node, Syntax, edit, read};
use crate::exit::{Exit, Stop};

/// Where the former text is kept.
const BACKUP: Backup = Backup::Last(".mainstay.bak");

/// The file, as it was when it was read.
#[derive(Debug)]
pub(crate) struct Own {
    file: EditFile,
    tree: Node,
    section: &'static str,
}

/// The configuration to change: as told, else the one that is used by default, else a new one for this user.
///
/// # Errors
/// When this user has no place for one.
pub(crate) fn place(told: Option<&Path>) -> Result<PathBuf, Stop> {
    if let Some(path) = told {
        return Ok(path.to_owned());
    }
    if let Ok(path) = find_default(None) {
        return Ok(path);
    }
    new_place().ok_or_else(|| {
        Stop::new(
            Exit::NoConfig,
            "there is no place for a configuration: this user has no home directory",
        )
        .hint("name one with --config")
    })
}

/// Where a user's configuration is when there is none in the current directory.
pub(crate) fn new_place() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "mainstay")
        .map(|dirs| dirs.config_dir().join("mcp.json"))
}

impl Own {
    /// Reads it; one that does not exist is empty.
    ///
    /// # Errors
    /// Exit 3 when it cannot be read or edited.
    pub(crate) fn open(path: &Path) -> Result<Self, Stop> {
        let file = EditFile::open(path)?;
        let tree = read(Syntax::Jsonc, file.text()).map_err(|error| refused(path, &error))?;
        // Some editors' files have their servers under this key, and are read so, too.
        let section = if tree.get("mcpServers").is_none() && tree.get("servers").is_some() {
            "servers"
        } else {
            "mcpServers"
        };
        Ok(Self {
            file,
            tree,
            section,
        })
    }

    /// The same for a file that is to be mended: whatever it holds.
    ///
    /// # Errors
    /// Exit 3 when it cannot be read at all.
    pub(crate) fn open_unread(path: &Path) -> Result<Self, Stop> {
        Ok(Self {
            file: EditFile::open(path)?,
            tree: Node::Null,
            section: "mcpServers",
        })
    }

    /// The file.
    pub(crate) fn file(&self) -> &EditFile {
        &self.file
    }

    /// The path of a server's entry.
    pub(crate) fn path_of(&self, name: &str) -> [String; 2] {
        [self.section.to_owned(), name.to_owned()]
    }

    /// The names of all servers.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &str> {
        let all = self.tree.get(self.section).map(Node::entries);
        all.unwrap_or_default()
            .iter()
            .map(|(name, _)| name.as_str())
    }

    /// The text with these changes.
    ///
    /// # Errors
    /// Exit 3 when it cannot be changed without touching anything else.
    pub(crate) fn changed(&self, changes: &[Change]) -> Result<String, Stop> {
        edit(Syntax::Jsonc, self.file.text(), changes)
            .map_err(|error| refused(self.file.path(), &error))
    }

    /// What that text means, its references looked up in this environment.
    ///
    /// # Errors
    /// Exit 3 when it would be refused as a whole.
    pub(crate) fn meaning(&self, text: &str) -> Result<Loaded, Stop> {
        let mut loaded = self.parsed(text)?;
        loaded.check_references(&process_env);
        Ok(loaded)
    }

    /// What that text means, whatever its references have for values.
    ///
    /// # Errors
    /// As [`Own::meaning`].
    pub(crate) fn parsed(&self, text: &str) -> Result<Loaded, Stop> {
        let path = std::path::absolute(self.file.path()).unwrap_or(self.file.path().to_owned());
        Config::parse(text, &path).map_err(|error| config::refused(&error))
    }

    /// Writes it, and says where the former text is.
    ///
    /// # Errors
    /// Exit 10.
    pub(crate) fn write(&self, text: &str) -> Result<Option<PathBuf>, Stop> {
        self.file.write(text, BACKUP)
    }
}

/// A file that cannot be edited, with its place and remedy.
pub(crate) fn refused(path: &Path, error: &EditError) -> Stop {
    Stop::new(
        Exit::ConfigInvalid,
        format!("cannot edit {}: {error}", path.display()),
    )
    .hint(error.hint())
}

/// What a Mainstay that runs will make of the new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Running {
    /// None runs.
    No,
    /// It watches this very file.
    Watches,
    /// It uses this file, and does not watch it.
    Told,
    /// It uses another one.
    Elsewhere,
}

impl Running {
    /// Asks the running one, if any.
    pub(crate) async fn ask(path: &Path, socket: Option<&Path>) -> Self {
        let Ok(socket) = paths::socket(socket) else {
            return Self::No;
        };
        let client = AdminClient::new(socket);
        if !client.is_running().await {
            return Self::No;
        }
        let answer = match client
            .get("/api/v1/config")
            .await
            .and_then(super::client::Reply::ok)
        {
            Ok(answer) => answer,
            Err(_) => return Self::Told,
        };
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or(path.to_owned());
        match answer["path"].as_str() {
            Some(used) if real(Path::new(used)) == real(path) => {
                if answer["watch"] == false {
                    Self::Told
                } else {
                    Self::Watches
                }
            }
            Some(_) | None => Self::Elsewhere,
        }
    }

    /// The stable word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Watches => "reloads",
            Self::Told => "needsReload",
            Self::Elsewhere => "otherConfig",
        }
    }

    /// Says it to a person.
    pub(crate) fn tell(self, output: Output) {
        output.note(match self {
            Self::No => "no Mainstay is running: start one with `mainstay serve`",
            Self::Watches => "the running Mainstay takes it up by itself",
            Self::Told => "tell the running Mainstay: mainstay reload",
            Self::Elsewhere => "the running Mainstay uses another configuration and is not changed",
        });
    }
}
