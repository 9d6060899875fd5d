//! A real MCP server over stdio that misbehaves on request, as a program's main function.
//!
//! Without flags it is a good server: legacy handshake, a few tools, leaves at the end of stdin. Each flag breaks one
//! thing. Several flags combine. It starts in about a millisecond, because tests start it hundreds of times; so it has
//! no runtime and does not use the crates that it is there to test.

mod answers;
mod knobs;
mod ledger;
mod output;
mod server;
mod tools;

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use self::knobs::{Knobs, Point};
use self::server::Server;

/// The flags, for a help text.
pub const HELP: &str = knobs::HELP;

/// Serves over this process's own standard streams until stdin ends or a flag says otherwise. `prefix` is what stands
/// between this program's name and the flags: some flags start the same program once more. Exit code 2: bad flags; 3: the
/// server itself failed.
#[must_use]
pub fn run(prefix: &[&str], flags: impl Iterator<Item = String>) -> ExitCode {
    let knobs = match Knobs::parse(flags) {
        Ok(knobs) => knobs,
        Err(problem) => {
            // A broken stderr leaves nobody to tell.
            let _ = writeln!(io::stderr(), "misbehave: {problem}\n\n{}", knobs::HELP);
            return ExitCode::from(2);
        }
    };
    match serve(prefix, knobs) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "misbehave: {error}");
            ExitCode::from(3)
        }
    }
}

/// Whether these flags make sense, without serving.
///
/// # Errors
/// What is wrong with the first that does not.
pub fn check(flags: impl Iterator<Item = String>) -> Result<(), String> {
    Knobs::parse(flags).map(|_| ())
}

fn serve(prefix: &[&str], knobs: Knobs) -> io::Result<ExitCode> {
    if knobs.hold {
        hold();
    }
    if knobs.ignore_term {
        ignore_term()?;
    }
    let server = Server::new(knobs)?;
    let knobs = server.knobs();
    server.ledger().write("spawn", "-");
    if knobs.grandchild {
        // Never waited for: outliving this process is what it is there for.
        let grandchild = Command::new(std::env::current_exe()?)
            .args(prefix)
            .arg("--hold")
            .spawn()?;
        server
            .ledger()
            .write("grandchild", &grandchild.id().to_string());
    }
    server.exit_if_at(Point::Start);
    flood_stderr(knobs.stderr_flood_bytes, !knobs.no_newlines)?;
    server.noise();
    thread::sleep(Duration::from_millis(knobs.slow_start_ms));
    server.serve()?;
    if knobs.ignore_eof {
        hold();
    }
    Ok(ExitCode::from(knobs.exit_code))
}

/// Does nothing, for longer than any test takes; but not for ever, should a test fail to clean up.
fn hold() -> ! {
    thread::sleep(Duration::from_secs(600));
    std::process::exit(0);
}

/// Starts this program again as the same process, with TERM ignored: that survives an exec, and needs no unsafe code.
fn ignore_term() -> io::Result<()> {
    const MARK: &str = "MISBEHAVE_TERM_IS_IGNORED";
    if std::env::var_os(MARK).is_some() {
        return Ok(());
    }
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", r#"trap '' TERM; exec "$0" "$@""#])
        .arg(std::env::current_exe()?);
    Err(shell
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .exec())
}

fn flood_stderr(bytes: usize, newlines: bool) -> io::Result<()> {
    let mut line = [b'e'; 100];
    if newlines {
        line[99] = b'\n';
    }
    let mut stderr = io::stderr().lock();
    let mut left = bytes;
    while left > 0 {
        let chunk = &line[..left.min(line.len())];
        stderr.write_all(chunk)?;
        left -= chunk.len();
    }
    Ok(())
}
