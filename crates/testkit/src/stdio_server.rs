//! A real MCP server over stdio that misbehaves on request, as a program's main function.
//!
//! Without flags it is a good server: legacy handshake, a few tools, leaves at the end of stdin. Each flag breaks one
//! thing. Several flags combine. It starts in about a millisecond, because tests start it hundreds of times; so it has
//! no runtime and does not use the crates that it is there to test.

mod answers;
mod family;
mod knobs;
mod ledger;
mod output;
mod server;
mod tools;

use std::io::{self, Write};
use std::process::ExitCode;
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
    if knobs.own_session {
        return family::hold_apart(&knobs);
    }
    if knobs.hold {
        family::hold();
    }
    if knobs.ignore_term {
        family::ignore_term()?;
    }
    if knobs.runner {
        return family::run_package(&knobs);
    }
    let server = Server::new(knobs)?;
    let knobs = server.knobs();
    server.ledger().write("spawn", "-");
    family::leave_children(prefix, knobs, server.ledger())?;
    family::note_signals(knobs)?;
    server.exit_if_at(Point::Start);
    server.exit_in_time();
    flood_stderr(knobs.stderr_flood_bytes, !knobs.no_newlines)?;
    server.noise();
    start_slowly(knobs)?;
    server.serve()?;
    if knobs.ignore_eof {
        family::hold();
    }
    Ok(ExitCode::from(knobs.exit_code))
}

/// A download, as it looks from outside.
fn start_slowly(knobs: &Knobs) -> io::Result<()> {
    let mut left = Duration::from_millis(knobs.slow_start_ms);
    let step = knobs.stderr_alive_ms.map(Duration::from_millis);
    while !left.is_zero() {
        let pause = step.unwrap_or(left).min(left);
        thread::sleep(pause);
        left -= pause;
        if step.is_some() {
            writeln!(io::stderr(), "downloading: {} ms left", left.as_millis())?;
        }
    }
    Ok(())
}

pub(crate) fn flood_stderr(bytes: usize, newlines: bool) -> io::Result<()> {
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
