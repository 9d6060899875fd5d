//! What can go wrong before a child runs, each with what a person can do about it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a child could not be started. Nothing of it runs.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// There is no such program, or the interpreter that its first line names does not exist (F1). Trying again
    /// without a change of config or `PATH` is pointless.
    #[error("program {program:?} not found: {detail}; {remedy}", program = program.display(), remedy = self.remedy())]
    NotFound {
        /// The program as configured, or the missing interpreter.
        program: OsString,
        /// The `PATH` that was searched; empty if the program was given as a path.
        searched: OsString,
        /// Where we looked.
        detail: String,
    },
    /// The working directory does not exist, is not a directory or cannot be entered (F3).
    #[error("working directory {cwd:?} cannot be used: {source}; {remedy}", cwd = cwd.display(), remedy = self.remedy())]
    CwdMissing {
        /// The directory as configured.
        cwd: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The program is there but may not be run.
    #[error("program {path:?} may not be run: {source}; {remedy}", path = path.display(), remedy = self.remedy())]
    Denied {
        /// The file that was found.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The sandbox that is declared cannot be had, or does not let the program run. Nothing is started without it.
    #[error("program {program:?} was not started, because its sandbox cannot be had: {what}; {remedy}", program = program.display(), remedy = self.remedy())]
    Unfenced {
        /// The program as configured.
        program: OsString,
        /// What is missing.
        what: String,
    },
    /// Anything else: mostly an exhausted limit of the system.
    #[error("program {program:?} could not be started: {source}; {remedy}", program = program.display(), remedy = self.remedy())]
    Other {
        /// The program as configured.
        program: OsString,
        /// What the system says.
        source: io::Error,
    },
}

impl SpawnError {
    pub(super) fn other(program: &OsStr, source: io::Error) -> Self {
        Self::Other {
            program: program.to_owned(),
            source,
        }
    }

    pub(super) fn unfenced(program: &OsStr, what: String) -> Self {
        Self::Unfenced {
            program: program.to_owned(),
            what,
        }
    }

    /// What a person can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotFound { searched, .. } if searched.is_empty() => {
                "correct the path in `command`, or install the program"
            }
            Self::NotFound { .. } => {
                "install it, give its full path in `command`, or set PATH in the server's `env` \
                 (programs started from a desktop or as a service often lack the PATH of your terminal)"
            }
            Self::CwdMissing { .. } => "create the directory or correct `cwd`",
            Self::Denied { .. } => "make the file executable (chmod +x) or correct `command`",
            Self::Unfenced { .. } => {
                "correct `sandbox` in the server's entry, or write `\"require\": false` there to do without"
            }
            Self::Other { .. } => {
                "check the server's entry and the limits of the system (processes, open files, memory)"
            }
        }
    }
}

/// Why the guardian could not be started.
#[derive(Debug, Error)]
#[error(
    "could not start the guardian of child processes: {source}; check the limit of threads and processes"
)]
pub struct GuardianError {
    /// What the system says.
    #[from]
    source: io::Error,
}
