//! What is wrong with a config: where, what, and what to do about it.
//!
//! Messages name keys and kinds of values. They never quote the text of `args`, `env`, `headers` or a URL, because
//! that is where people keep secrets (law 31).

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How much a [`Problem`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is wrong; the reader may like to know how the file was understood.
    Note,
    /// Something in the file has no effect, or not the effect one may expect. Everything still runs.
    Warning,
    /// A server (or, without one, the whole file) cannot be used as written.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// Where in a config file something stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file, as it was named when it was loaded.
    pub file: Arc<Path>,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters (not bytes), counted from 1.
    pub column: usize,
    /// The path of keys that leads there, such as `mcpServers.time.args[1]`. Empty for the root.
    pub path: String,
}

/// One thing that is wrong with a config.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// The server it belongs to; `None` when it concerns the file as a whole.
    pub server: Option<Arc<str>>,
    /// Where it stands; `None` for a config that was built in code.
    pub origin: Option<Origin>,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it, in one sentence. May be empty when the message says it all.
    pub remedy: String,
}

impl Problem {
    /// Line and column, for sorting by place.
    pub(super) fn position(&self) -> Option<(usize, usize)> {
        self.origin
            .as_ref()
            .map(|origin| (origin.line, origin.column))
    }
}

impl fmt::Display for Problem {
    /// `mcp.json:3:14: error: message (at key.path)`, and the remedy indented on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(
                f,
                "{}:{}:{}: ",
                origin.file.display(),
                origin.line,
                origin.column
            )?;
        }
        write!(f, "{}: {}", self.severity, self.message)?;
        match (&self.origin, &self.server) {
            (Some(origin), _) if !origin.path.is_empty() => write!(f, " (at {})", origin.path)?,
            (None, Some(server)) => write!(f, " (server {})", quoted(server))?,
            (Some(_) | None, _) => {}
        }
        if !self.remedy.is_empty() {
            write!(f, "\n    help: {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Why a config file cannot be used at all.
///
/// A file is refused as a whole only when its servers cannot be told apart from each other or from the gateway's own
/// settings: see the module documentation of [`config`](super). Law 28: whoever reloads keeps the config it has.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read. The cause is in `source()`.
    #[error(
        "cannot read the config file {}\n    help: check that the file exists and that this user may read it",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file was read and cannot be used.
    #[error("{}", rendered(problems))]
    Refused {
        /// The file.
        path: PathBuf,
        /// Everything that was found, in the order of the file, with at least one [`Severity::Error`] without a server.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// The file that was refused.
    pub fn path(&self) -> &Path {
        match self {
            ConfigError::Unreadable { path, .. } | ConfigError::Refused { path, .. } => path,
        }
    }

    /// Everything that was found wrong inside the file; empty when it could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            ConfigError::Unreadable { .. } => &[],
            ConfigError::Refused { problems, .. } => problems,
        }
    }
}

fn rendered(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Longest piece of the reader's own text that is repeated in a message, in characters.
const QUOTED_CHARS_MAX: usize = 80;

/// Text of the file made safe to print in a message: in backquotes, control characters escaped, long text cut.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", shortened(text))
}

pub(super) fn shortened(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == QUOTED_CHARS_MAX {
            out.push('…');
            break;
        }
        if c.is_control() || is_invisible(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that reorder or hide the text around them in a terminal.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
