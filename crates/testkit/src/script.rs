//! Chaos scripts: small text files that say how a server misbehaves, one line each, to be read by people.
//!
//! A script describes one server of one transport. Its settings are the flags of the stdio server or the members of the
//! HTTP server's [`Script`](crate::http_server::Script), by the same names, so that a new knob needs no word here. It must
//! not decide what a good client does: that is what the scenarios of `mainstay chaos run` are for.
//!
//! ```text
//! # A comment.
//! about: Answers three calls and leaves, again and again
//! faults: F60 F69
//! transport: stdio
//! exit-after-calls: 3
//! life 1-2 exit-at: initialize
//! ```
//!
//! The lines of an HTTP script beside its settings:
//!
//! ```text
//! on tools/call 2 times: status status=503 Retry-After=1
//! on GET: reset
//! after 4 calls: forget-sessions
//! every 2000 ms: restart 500
//! ```

mod http;
mod library;
mod lines;
mod play;
mod stdio;

use std::fmt;
use std::path::Path;

pub use self::library::{LIBRARY, names};
pub use self::play::play;

use crate::http_server;

/// The longest script that is read, in bytes.
pub const SCRIPT_BYTES_MAX: u64 = 256 * 1024;

/// The end of a file name that may be left out.
pub const EXTENSION: &str = "chaos";

/// How the server of a script is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Over its standard streams.
    Stdio,
    /// Streamable HTTP, of either era.
    Http,
    /// HTTP+SSE, as of 2024-11-05.
    Sse,
}

impl Transport {
    /// The word that scripts use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::Http => "http",
            Self::Sse => "sse",
        }
    }

    /// The path of its endpoint, if it has one.
    #[must_use]
    pub fn path(self) -> Option<&'static str> {
        match self {
            Self::Stdio => None,
            Self::Http => Some("/mcp"),
            Self::Sse => Some("/sse"),
        }
    }
}

/// One script, understood.
#[derive(Debug, Clone)]
pub struct Chaos {
    /// Its name, or the file it came from.
    pub name: String,
    /// What the server does, in one sentence.
    pub about: String,
    /// The rows of the fault catalogue that it shows, as `F62`.
    pub faults: Vec<String>,
    /// How it is reached.
    pub transport: Transport,
    /// The server itself.
    pub server: Server,
    /// The text it was read from.
    pub text: String,
}

/// What to run.
#[derive(Debug, Clone)]
pub enum Server {
    /// The stdio server with these flags.
    Stdio(Lives),
    /// The HTTP server with this script, and what happens to it by itself.
    Http {
        /// Its behaviour from request to request.
        script: Box<http_server::Script>,
        /// What happens to it while it runs.
        steps: Vec<Step>,
    },
}

/// The flags of a stdio server, per life: a server that is started again may behave otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lives(Vec<(Life, Vec<String>)>);

/// Which starts of a server a setting is for, counted from 1; without an end if `last` is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    first: u64,
    last: Option<u64>,
}

impl Lives {
    /// The flags for start number `life`, counted from 1.
    #[must_use]
    pub fn flags(&self, life: u64) -> Vec<String> {
        self.0
            .iter()
            .filter(|(lives, _)| life >= lives.first && lives.last.is_none_or(|last| life <= last))
            .flat_map(|(_, flags)| flags.iter().cloned())
            .collect()
    }

    /// Whether all lives are alike: then nobody has to count them.
    #[must_use]
    pub fn are_alike(&self) -> bool {
        self.0.iter().all(|(life, _)| *life == Life::EVERY)
    }
}

impl Life {
    const EVERY: Self = Self {
        first: 1,
        last: None,
    };
}

/// One thing that happens to an HTTP server by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub when: When,
    /// Whether it happens again and again.
    pub again: bool,
    /// What.
    pub action: Action,
}

/// When a step happens, counted from the server's start or from the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// When so many tool calls ran.
    Calls(u64),
    /// When so many milliseconds passed.
    Ms(u64),
}

/// What can happen to an HTTP server while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// All sessions are forgotten.
    ForgetSessions,
    /// All push and listen streams end.
    EndStreams,
    /// Clients are told that the tools changed.
    TellChanged,
    /// The server goes away, with its sessions and connections, for so many milliseconds.
    Restart(u64),
}

impl Chaos {
    /// Understands a script. `place` is what problems are reported against: a name or a path.
    ///
    /// # Errors
    /// The first line that makes no sense.
    pub fn parse(name: &str, place: &str, text: &str) -> Result<Self, Problem> {
        let script = lines::read(place, text)?;
        let server = match script.transport {
            Transport::Stdio => Server::Stdio(stdio::server(place, &script.rest)?),
            Transport::Http | Transport::Sse => http::server(place, &script.rest)?,
        };
        Ok(Self {
            name: name.to_owned(),
            about: script.about,
            faults: script.faults,
            transport: script.transport,
            server,
            text: text.to_owned(),
        })
    }

    /// The script of this name from the library, else the one in the file of this name.
    ///
    /// # Errors
    /// When there is neither, or the file cannot be read or makes no sense.
    pub fn find(name: &str) -> Result<Self, Problem> {
        if let Some((known, text)) = LIBRARY.iter().find(|(known, _)| *known == name) {
            return Self::parse(known, &format!("{known}.{EXTENSION}"), text);
        }
        let path = Path::new(name);
        if !path.is_file() {
            return Err(Problem {
                place: name.to_owned(),
                line: None,
                message: "no script of this name, and no file".to_owned(),
                hint: match lines::nearest(name, names()) {
                    Some(near) => format!("did you mean `{near}`? `chaos list` shows them all"),
                    None => {
                        "`chaos list` shows the scripts; a file is named by its path".to_owned()
                    }
                },
            });
        }
        let unreadable = |why: String| Problem {
            place: name.to_owned(),
            line: None,
            message: format!("cannot be read: {why}"),
            hint: "name a text file that you may read".to_owned(),
        };
        let bytes = path
            .metadata()
            .map_err(|error| unreadable(error.to_string()))?
            .len();
        if bytes > SCRIPT_BYTES_MAX {
            return Err(unreadable(format!(
                "{bytes} bytes are more than the {SCRIPT_BYTES_MAX} a script may have"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Self::parse(name, name, &text)
    }
}

/// What is wrong with a script, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The script's name or path.
    pub place: String,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.place, self.message),
            None => write!(f, "{}: {}", self.place, self.message),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests;
