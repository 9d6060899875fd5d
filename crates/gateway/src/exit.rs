//! How the `mainstay` command ends: every exit code, and the error that carries one.
//!
//! Must not decide anything: commands say how they ended, this file only knows the numbers and how to print them.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// The documented ways to end. `docs/exit-codes.md` is generated from this table.
///
/// The numbers are part of the interface: never renumber one, never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Ok,
    /// Something went wrong that has no number of its own.
    Unexpected,
    /// The command line, or a value on it, makes no sense.
    Usage,
    /// The configuration was found and is not valid.
    ConfigInvalid,
    /// No configuration was found.
    NoConfig,
    /// No running Mainstay answers on the local socket.
    NotRunning,
    /// The named server or tool does not exist.
    NotFound,
    /// The TCP address to listen on is taken.
    PortInUse,
    /// Another Mainstay already owns the local socket.
    AlreadyRunning,
    /// Listening on that address is refused or impossible.
    ListenRefused,
    /// A file could not be written; it is as it was.
    NotWritable,
    /// The service's file is there, and the service does not run.
    ServiceDown,
    /// The tool ran and reported an error of its own.
    ToolError,
    /// The server answered the request with an error.
    ServerError,
    /// The call was never sent.
    CallRefused,
    /// The server provably did not run the call.
    CallRejected,
    /// The call was sent and no answer came: it may have run.
    CallUnknown,
    /// The server did not come up, so there was nothing to call.
    ServerDown,
    /// `check --start`: a server could not be started.
    CheckFailed,
    /// `demo`: a call was executed twice, or an answered call was never executed.
    DemoWrong,
    /// `demo`: a server did not come back after a break.
    DemoUnrecovered,
    /// `chaos run`: the target did not survive a scenario.
    #[cfg_attr(
        not(feature = "chaos"),
        expect(dead_code, reason = "only chaos ends so")
    )]
    NotSurvived,
    /// `chaos run`: the target never served.
    #[cfg_attr(
        not(feature = "chaos"),
        expect(dead_code, reason = "only chaos ends so")
    )]
    TargetDown,
    /// `replay`: an answer differs from the recorded one.
    Differs,
    /// `import`: a file or an entry could not be used.
    ImportIncomplete,
    /// `doctor`: something is wrong.
    DoctorFindings,
    /// `audit verify`: the log is not as it was written.
    AuditBroken,
    /// `login`: nobody was signed in.
    LoginFailed,
    /// `auth status`: the server that was named needs a sign-in.
    NotSignedIn,
    /// Left at once on the third signal, without waiting for anything.
    Interrupted,
}

impl Exit {
    /// Every way to end, in the order of the numbers.
    pub(crate) const ALL: [Exit; 30] = [
        Exit::Ok,
        Exit::Unexpected,
        Exit::Usage,
        Exit::ConfigInvalid,
        Exit::NoConfig,
        Exit::NotRunning,
        Exit::NotFound,
        Exit::PortInUse,
        Exit::AlreadyRunning,
        Exit::ListenRefused,
        Exit::NotWritable,
        Exit::ServiceDown,
        Exit::ToolError,
        Exit::ServerError,
        Exit::CallRefused,
        Exit::CallRejected,
        Exit::CallUnknown,
        Exit::ServerDown,
        Exit::CheckFailed,
        Exit::DemoWrong,
        Exit::DemoUnrecovered,
        Exit::NotSurvived,
        Exit::TargetDown,
        Exit::Differs,
        Exit::ImportIncomplete,
        Exit::DoctorFindings,
        Exit::AuditBroken,
        Exit::LoginFailed,
        Exit::NotSignedIn,
        Exit::Interrupted,
    ];

    /// The documented way to end behind the exit code of another `mainstay`.
    pub(crate) fn of_code(code: Option<i32>) -> Option<Self> {
        let code = u8::try_from(code?).ok()?;
        Self::ALL.into_iter().find(|exit| exit.code() == code)
    }

    /// The number the process ends with.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::ConfigInvalid => 3,
            Self::NoConfig => 4,
            Self::NotRunning => 5,
            Self::NotFound => 6,
            Self::PortInUse => 7,
            Self::AlreadyRunning => 8,
            Self::ListenRefused => 9,
            Self::NotWritable => 10,
            Self::ServiceDown => 11,
            Self::ToolError => 20,
            Self::ServerError => 21,
            Self::CallRefused => 22,
            Self::CallRejected => 23,
            Self::CallUnknown => 24,
            Self::ServerDown => 25,
            Self::CheckFailed => 30,
            Self::DemoWrong => 40,
            Self::DemoUnrecovered => 41,
            Self::NotSurvived => 50,
            Self::TargetDown => 51,
            Self::Differs => 60,
            Self::ImportIncomplete => 70,
            Self::DoctorFindings => 71,
            Self::LoginFailed => 80,
            Self::NotSignedIn => 81,
            Self::AuditBroken => 72,
            Self::Interrupted => 130,
        }
    }

    /// The stable word for it, as `--json` errors print it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unexpected => "unexpected",
            Self::Usage => "usage",
            Self::ConfigInvalid => "config-invalid",
            Self::NoConfig => "no-config",
            Self::NotRunning => "not-running",
            Self::NotFound => "not-found",
            Self::PortInUse => "port-in-use",
            Self::AlreadyRunning => "already-running",
            Self::ListenRefused => "listen-refused",
            Self::NotWritable => "not-writable",
            Self::ServiceDown => "service-down",
            Self::ToolError => "tool-error",
            Self::ServerError => "server-error",
            Self::CallRefused => "call-refused",
            Self::CallRejected => "call-rejected",
            Self::CallUnknown => "call-unknown",
            Self::ServerDown => "server-down",
            Self::CheckFailed => "check-failed",
            Self::DemoWrong => "demo-wrong",
            Self::DemoUnrecovered => "demo-unrecovered",
            Self::NotSurvived => "not-survived",
            Self::TargetDown => "target-down",
            Self::Differs => "differs",
            Self::ImportIncomplete => "import-incomplete",
            Self::DoctorFindings => "doctor-findings",
            Self::LoginFailed => "login-failed",
            Self::NotSignedIn => "not-signed-in",
            Self::AuditBroken => "audit-broken",
            Self::Interrupted => "interrupted",
        }
    }

    /// What happened, and what to do about it: one table cell each.
    #[cfg(test)]
    #[expect(clippy::too_many_lines, reason = "one table, a row per code")]
    const fn meaning(self) -> (&'static str, &'static str) {
        match self {
            Self::Ok => ("Everything asked for was done.", "Nothing."),
            Self::Unexpected => (
                "Something went wrong that has no number of its own.",
                "Read the message. If it looks like a defect of Mainstay, report it.",
            ),
            Self::Usage => (
                "The command line, or a value on it, makes no sense.",
                "Run the command with `--help`: it has examples.",
            ),
            Self::ConfigInvalid => (
                "The configuration was found and is not valid.",
                "Every problem is printed with file, line and column, and with its remedy.",
            ),
            Self::NoConfig => (
                "No configuration was found.",
                "Name one with `--config`, or save the example from the message as `mcp.json`.",
            ),
            Self::NotRunning => (
                "No running Mainstay answers on the local socket.",
                "Start one with `mainstay serve`, or name its `--socket`.",
            ),
            Self::NotFound => (
                "The named server or tool does not exist.",
                "The message names the nearest one; `mainstay status` and `mainstay tools` list all.",
            ),
            Self::PortInUse => (
                "The TCP address to listen on is taken.",
                "Choose another with `--listen 127.0.0.1:PORT`; port 0 takes a free one.",
            ),
            Self::AlreadyRunning => (
                "Another Mainstay already owns the local socket.",
                "Use the running one, or give this one its own `--socket`.",
            ),
            Self::ListenRefused => (
                "Listening on that address is refused (not loopback) or impossible.",
                "Listen on `127.0.0.1` or `[::1]`.",
            ),
            Self::NotWritable => (
                "A file could not be written; it is as it was.",
                "The message says why: permissions, a full disk, or another program that changed it meanwhile.",
            ),
            Self::ServiceDown => (
                "`service`: its file is there, and the service does not run.",
                "The message has the next command to type.",
            ),
            Self::ToolError => (
                "`call`: the tool ran and reported an error of its own.",
                "The tool's own text says why.",
            ),
            Self::ServerError => (
                "`call`: the server answered with a JSON-RPC error.",
                "The error's text says why; usually the arguments are wrong.",
            ),
            Self::CallRefused => (
                "`call`: the call was never sent, for example because the server is parked or disabled.",
                "Safe to repeat. The message says what stands in the way.",
            ),
            Self::CallRejected => (
                "`call`: the server provably did not run it.",
                "Safe to repeat.",
            ),
            Self::CallUnknown => (
                "`call`: it was sent and no answer came: it may have run.",
                "Look at its effect before repeating it.",
            ),
            Self::ServerDown => (
                "`call`, `tools` without a running Mainstay: the server did not come up.",
                "The message has the cause and the server's last words on stderr; `mainstay check --start` tests them all.",
            ),
            Self::CheckFailed => (
                "`check --start`: a server could not be started.",
                "The message has the cause and the server's last words on stderr.",
            ),
            Self::DemoWrong => (
                "`demo`: a call was executed twice, or an answered call was never executed.",
                "This is a defect of Mainstay: report it with the output of `demo --json`.",
            ),
            Self::DemoUnrecovered => (
                "`demo`: a server did not come back after a break.",
                "On a very slow machine give it more `--seconds`; otherwise report it.",
            ),
            Self::NotSurvived => (
                "`chaos run`: the target did not survive at least one scenario.",
                "The table has a verdict and a note for each; `docs/chaos.md` says what each asks for.",
            ),
            Self::TargetDown => (
                "`chaos run`: the target served in no scenario at all.",
                "The notes have its last words on stderr; check `--target-command` and `--target`.",
            ),
            Self::Differs => (
                "`replay`: at least one answer differs from the recorded one.",
                "The differences are printed; `--ignore MEMBER` leaves out what changes by nature.",
            ),
            Self::ImportIncomplete => (
                "`import`: at least one file or entry could not be used; everything else was imported.",
                "The message names the file, with line and column, or the keys that lead to the entry.",
            ),
            Self::DoctorFindings => (
                "`doctor`: at least one finding is a warning or an error.",
                "Each finding says what to do about it.",
            ),
            Self::LoginFailed => (
                "`login`: nobody was signed in; what was kept before is as it was.",
                "The message names the step that failed, and what to do about it.",
            ),
            Self::NotSignedIn => (
                "`auth status NAME`: this server needs a sign-in.",
                "Run `mainstay login NAME`.",
            ),
            Self::AuditBroken => (
                "`audit verify`: lines of the audit log were changed or are missing.",
                "The message names file and line. Whoever may write these files may have done it.",
            ),
            Self::Interrupted => (
                "Left at once on the third signal, without waiting for anything.",
                "Nothing.",
            ),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command ended early: an exit code, a message that names the place, and what to do about it.
#[derive(Debug)]
pub(crate) struct Stop {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// What happened, as one or more lines; empty when the command has printed it already.
    pub(crate) message: String,
    /// What a human can do, without the word `hint`.
    pub(crate) hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Stop {
    /// Ends with `exit` and says why.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
            source: None,
        }
    }

    /// Ends with `exit`; everything there is to say has been printed.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// The same with another way to end.
    pub(crate) fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Adds what a human can do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the error below, which is printed as part of the chain.
    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// An error without a number of its own.
    pub(crate) fn unexpected(what: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Exit::Unexpected, what).because(source)
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors repeat their source in their own text; saying it twice helps nobody.
            if !self.message.contains(&text) {
                write!(f, ": {text}")?;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl Error for Stop {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/exit-codes.md");

    fn page() -> String {
        let mut page = String::from(
            "# Exit codes\n\n\
             Generated from `crates/gateway/src/exit.rs`; a test fails when this page is stale.\n\
             Write it anew with `MAINSTAY_REGENERATE=1 cargo test -p mainstay-gateway --bin mainstay exit_codes`.\n\n\
             The numbers never change. 1 to 11: before or beside the work; 20 to 29: how a call ended; 30 and above:\n\
             one command's own verdict. With `--json`, an error is one object on stderr with the word below.\n\n\
             | code | word | what happened | what to do |\n|---:|---|---|---|\n",
        );
        for exit in Exit::ALL {
            let (what, remedy) = exit.meaning();
            page.push_str(&format!(
                "| {} | `{}` | {what} | {remedy} |\n",
                exit.code(),
                exit.word()
            ));
        }
        page
    }

    #[test]
    fn exit_codes_page_is_fresh() {
        if std::env::var_os("MAINSTAY_REGENERATE").is_some() {
            std::fs::write(PAGE, page()).expect("the page can be written");
        }
        let stored = std::fs::read_to_string(PAGE).unwrap_or_default();
        assert_eq!(
            stored,
            page(),
            "docs/exit-codes.md is stale; the page itself says how to write it anew"
        );
    }

    #[test]
    fn codes_and_words_are_unique_and_rising() {
        for pair in Exit::ALL.windows(2) {
            assert!(pair[0].code() < pair[1].code(), "{pair:?} are out of order");
        }
        let mut words: Vec<_> = Exit::ALL.iter().map(|exit| exit.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Exit::ALL.len());
    }

    #[test]
    fn a_chain_is_printed_once_and_whole() {
        let inner = std::io::Error::other("the disk is full");
        let stop = Stop::unexpected("cannot write the file", inner);
        assert_eq!(stop.to_string(), "cannot write the file: the disk is full");
        let repeated = Stop::unexpected(
            "cannot write: the disk is full",
            std::io::Error::other("the disk is full"),
        );
        assert_eq!(repeated.to_string(), "cannot write: the disk is full");
    }
}
