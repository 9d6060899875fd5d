//! Where words go: data to stdout, everything else to stderr, colour only where it is wanted.
//!
//! The only place of the binary that writes to the two streams.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;
use serde::Serialize;

use super::wrap::wrap;
use super::{ColorWhen, env};
use crate::exit::{Exit, Stop};

/// How to write: decided once, from the flags, the environment and the two streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// Colour on stdout.
    color_out: bool,
    /// Colour on stderr.
    color_err: bool,
    /// Whether stdout is a terminal.
    terminal: bool,
    /// Columns of the terminal on stderr, if it is one: messages are wrapped.
    width_err: Option<u16>,
}

/// What a piece of text is, and so how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// As it is.
    Plain,
    /// Fine.
    Good,
    /// In between.
    Warn,
    /// Broken.
    Bad,
    /// Less important.
    Dim,
    /// More important.
    Bold,
    /// One of several that must be told apart.
    Hue(u8),
}

/// Colours that say neither good nor bad.
const HUES: [&str; 4] = ["\x1b[36m", "\x1b[35m", "\x1b[34m", "\x1b[96m"];

impl Paint {
    /// The paint of the `at`th of several.
    pub(crate) fn nth(at: usize) -> Self {
        Self::Hue(u8::try_from(at % HUES.len()).unwrap_or_default())
    }

    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
            Self::Hue(hue) => HUES[usize::from(hue) % HUES.len()],
        }
    }

    /// `text` in this paint, if `color`.
    pub(crate) fn on(self, text: &str, color: bool) -> String {
        if color && self != Self::Plain {
            format!("{}{text}\x1b[0m", self.code())
        } else {
            text.to_owned()
        }
    }
}

/// What is drawn on the terminal of stderr, over which lines must not be written.
static DRAWN: OnceLock<MultiProgress> = OnceLock::new();

/// Lets progress be drawn on stderr, if it is a terminal that can be drawn on. Until then [`drawn`] has nothing.
pub(crate) fn draw_progress() {
    let can = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    if can && io::stderr().is_terminal() {
        DRAWN.get_or_init(MultiProgress::new);
    }
}

/// What progress is drawn on.
pub(crate) fn drawn() -> Option<&'static MultiProgress> {
    DRAWN.get()
}

/// Writes while nothing is drawn where it writes.
fn aside<T>(write: impl FnOnce() -> T) -> T {
    match drawn() {
        Some(drawn) => drawn.suspend(write),
        None => write(),
    }
}

/// Stderr for whoever writes whole lines, beside what is drawn there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        aside(|| io::stderr().lock().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

/// Columns of the terminal on stderr, or 80.
fn width_err() -> u16 {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        // Some that are no terminals for people say 0.
        Ok(size) if size.ws_col >= 20 => size.ws_col,
        Ok(_) | Err(_) => 80,
    }
}

impl Output {
    /// Looks at the flags, at NO_COLOR and at the two streams.
    pub(crate) fn new(when: ColorWhen) -> Self {
        let refused = std::env::var_os(env::NO_COLOR).is_some_and(|value| !value.is_empty());
        let wanted = |terminal: bool| match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => terminal && !refused,
        };
        let terminal = io::stdout().is_terminal();
        Self {
            color_out: wanted(terminal),
            color_err: wanted(io::stderr().is_terminal()),
            terminal,
            width_err: io::stderr().is_terminal().then(width_err),
        }
    }

    /// Whether stdout is a terminal.
    pub(crate) fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Whether stdout gets colour.
    pub(crate) fn color(self) -> bool {
        self.color_out
    }

    /// Whether stderr gets colour.
    pub(crate) fn color_err(self) -> bool {
        self.color_err
    }

    /// Writes text to stdout and flushes it.
    ///
    /// # Errors
    /// A reader that has left (`mainstay tools | head`) ends the command quietly with exit code 0.
    pub(crate) fn raw(self, text: &str) -> Result<(), Stop> {
        let written = aside(|| {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        });
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Stop::silent(Exit::Ok)),
            Err(error) => Err(Stop::unexpected("cannot write to stdout", error)
                .hint("if it leads to a file: is there room on that disk?")),
        }
    }

    /// Writes one line to stdout.
    pub(crate) fn line(self, text: &str) -> Result<(), Stop> {
        self.raw(&format!("{text}\n"))
    }

    /// Writes a value to stdout: indented for people, on one line for programs.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), Stop> {
        let text = if self.terminal {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        self.line(
            &text.map_err(|error| Stop::unexpected("cannot render the answer as JSON", error))?,
        )
    }

    /// Says something beside the data, on stderr. A stderr that is gone is no reason to fail.
    pub(crate) fn note(self, text: &str) {
        let wrapped = self.width_err.map(|width| wrap(text, width.into()));
        let text = wrapped.as_deref().unwrap_or(text);
        let _gone = aside(|| writeln!(io::stderr().lock(), "{text}"));
    }

    /// Warns on stderr, with what to do about it.
    pub(crate) fn warn(self, text: &str, hint: Option<&str>) {
        self.note(&format!(
            "{} {text}",
            Paint::Warn.on("warning:", self.color_err)
        ));
        if let Some(hint) = hint {
            self.hint(hint);
        }
    }

    /// Says on stderr what a human can do.
    pub(crate) fn hint(self, text: &str) {
        self.note(&format!(
            "{} {text}",
            Paint::Bold.on("hint:", self.color_err)
        ));
    }

    /// Reports why the command ended early, on stderr: as text, or as one object when the command prints JSON.
    pub(crate) fn stop(self, stop: &Stop, json: bool) {
        if stop.message.is_empty() {
            return;
        }
        if json {
            let mut object = serde_json::json!({
                "error": { "kind": stop.exit.word(), "exitCode": stop.exit.code(), "message": stop.to_string() }
            });
            if let Some(hint) = &stop.hint {
                object["error"]["hint"] = hint.as_str().into();
            }
            self.note(&object.to_string());
            return;
        }
        self.note(&format!(
            "{} {stop}",
            Paint::Bad.on("error:", self.color_err)
        ));
        if let Some(hint) = stop
            .hint
            .as_ref()
            .filter(|hint| !stop.message.contains(hint.as_str()))
        {
            self.hint(hint);
        }
    }
}
