//! A fence around a child: which files it may read and write, and whether it may use the network.
//!
//! Applied by the child itself between fork and exec, so that everything stays as it is without a sandbox: the process
//! is the program, the group is its own, signals, exit codes and stderr are those of the program. Everything is made
//! ready before the fork ([`Fence`]); the child only makes system calls. What is declared and cannot be had is an error,
//! never a start without it, unless the owner says so ([`Sandbox::require`]).
//!
//! Linux: Landlock for files, TCP ports, signals and abstract sockets, and a seccomp filter for the calls that lead around
//! it; or bubblewrap, which gives the program a view of the file system in which nothing else is there.

mod bubble;
#[cfg(target_os = "linux")]
mod filter;
#[cfg(target_os = "linux")]
mod landlock;
mod usual;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;

pub use self::usual::{Program, system_paths, usual_paths};

/// What a child may touch. All paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Files and folders that may be read and executed, and must exist.
    pub read: Vec<PathBuf>,
    /// Files and folders that may be read, executed, written and removed, and must exist.
    pub write: Vec<PathBuf>,
    /// Files and folders that may be read where they exist.
    pub read_if_there: Vec<PathBuf>,
    /// What it may connect to and listen on.
    pub network: Network,
    /// Whether it may open Unix sockets, through which it reaches every service of this user: agents, containers,
    /// Mainstay itself.
    pub unix_sockets: bool,
    /// What fences it.
    pub backend: Backend,
    /// Whether it must not start where some of this cannot be had.
    pub require: bool,
}

/// The network of a child.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Network {
    /// None, and no socket to any.
    #[default]
    None,
    /// All of it, this machine's own services included.
    All,
    /// TCP to and on these ports alone. UDP is left open, because names are looked up over it.
    Ports {
        /// To which it may connect.
        connect: Vec<u16>,
        /// On which it may listen.
        listen: Vec<u16>,
    },
}

/// What fences a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, schemars::JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Backend {
    /// Landlock and seccomp.
    #[default]
    Auto,
    /// Landlock and seccomp.
    Landlock,
    /// The program `bwrap`, which must be installed.
    Bubblewrap,
}

/// Why a sandbox cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfenced(pub(super) String);

impl Unfenced {
    fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

/// A sandbox made ready for one child.
pub(super) struct Fence {
    /// What is executed instead of the program, with the arguments that come before its own.
    pub(super) wrapper: Option<(PathBuf, Vec<OsString>)>,
    #[cfg(target_os = "linux")]
    pub(super) ruleset: Option<OwnedFd>,
    /// Each is one more filter; all of them hold.
    #[cfg(target_os = "linux")]
    pub(super) filters: Vec<seccompiler::BpfProgram>,
    /// What the wrapper inherits.
    #[cfg(target_os = "linux")]
    pub(super) inherited: Vec<OwnedFd>,
    /// What it is, for people.
    pub(super) words: String,
}

impl Sandbox {
    /// What fences a child of this sandbox on this machine, for people; or why nothing does.
    ///
    /// # Errors
    /// [`Unfenced`]: what is missing.
    pub fn in_force(&self) -> Result<String, Unfenced> {
        self.prepare(Path::new("/"), None).map(|fence| fence.words)
    }

    /// Makes the fence for one child. `program` is what it will execute, and `cwd` where.
    pub(super) fn prepare(&self, program: &Path, cwd: Option<&Path>) -> Result<Fence, Unfenced> {
        for path in self.read.iter().chain(&self.write) {
            std::fs::metadata(path).map_err(|error| {
                let path = path.display();
                Unfenced::new(format!(
                    "the path {path} that it declares cannot be used: {error}"
                ))
            })?;
        }
        self.fence(program, cwd)
    }

    #[cfg(target_os = "linux")]
    fn fence(&self, program: &Path, cwd: Option<&Path>) -> Result<Fence, Unfenced> {
        match self.backend {
            Backend::Auto | Backend::Landlock => {
                let (ruleset, words) = landlock::ruleset(self)?;
                Ok(Fence {
                    wrapper: None,
                    ruleset: Some(ruleset),
                    filters: filter::filters(self)?,
                    inherited: Vec::new(),
                    words: format!("{words}; seccomp"),
                })
            }
            Backend::Bubblewrap => bubble::fence(self, program, cwd),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn fence(&self, _program: &Path, _cwd: Option<&Path>) -> Result<Fence, Unfenced> {
        Err(Unfenced::new(
            "this system has no sandbox that Mainstay can use: only Linux has",
        ))
    }
}
