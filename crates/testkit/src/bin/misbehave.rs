//! `misbehave`: a real MCP server over stdio that misbehaves on request.
//!
//! Without flags it is a good server: legacy handshake, a few tools, leaves at the end of stdin. Each flag breaks one
//! thing. Several flags combine. It starts in about a millisecond, because tests start it hundreds of times; so it has
//! no runtime and does not use the crates that it is there to test.
//!
//! `misbehave --help` lists the flags; the tools describe themselves in `tools/list`.

#[path = "misbehave/answers.rs"]
mod answers;
#[path = "misbehave/knobs.rs"]
mod knobs;
#[path = "misbehave/ledger.rs"]
mod ledger;
#[path = "misbehave/output.rs"]
mod output;
#[path = "misbehave/server.rs"]
mod server;
#[path = "misbehave/tools.rs"]
mod tools;

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use crate::knobs::{Knobs, Point};
use crate::server::Server;

fn main() -> ExitCode {
    let knobs = match Knobs::parse(std::env::args().skip(1)) {
        Ok(knobs) => knobs,
        Err(problem) => {
            // A broken stderr leaves nobody to tell.
            let _ = writeln!(io::stderr(), "misbehave: {problem}\n\n{}", knobs::HELP);
            return ExitCode::from(2);
        }
    };
    match run(knobs) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "misbehave: {error}");
            ExitCode::from(3)
        }
    }
}

fn run(knobs: Knobs) -> io::Result<ExitCode> {
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
