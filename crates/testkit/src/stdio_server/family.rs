//! The processes around the server: what it leaves behind, what it hides behind, and the signals that reach it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process, setsid};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::knobs::Knobs;
use super::ledger::Ledger;

/// Does nothing, for longer than any test takes; but not for ever, should a test fail to clean up.
pub(crate) fn hold() -> ! {
    thread::sleep(Duration::from_secs(600));
    std::process::exit(0);
}

/// Leaves the session, says so in the ledger, and does nothing.
pub(crate) fn hold_apart(knobs: &Knobs) -> io::Result<ExitCode> {
    setsid()?;
    Ledger::open(knobs.ledger.as_deref())?.write("escapee", &std::process::id().to_string());
    hold()
}

/// Starts this program again as the same process, with TERM ignored: that survives an exec, and needs no unsafe code.
pub(crate) fn ignore_term() -> io::Result<()> {
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

/// A launcher: starts a shell that starts this program with the other flags, waits, and ends with its code. Three deep,
/// as package runners are.
pub(crate) fn run_package(knobs: &Knobs) -> io::Result<ExitCode> {
    Ledger::open(knobs.ledger.as_deref())?.write("runner", "-");
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", r#""$0" "$@"; exit $?"#])
        .arg(std::env::current_exe()?)
        .args(
            std::env::args_os()
                .skip(1)
                .filter(|flag| flag != "--runner"),
        );
    let code = shell.status()?.code().unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Leaves children behind, as the knobs say. Never waited for: outliving this process is what they are there for.
pub(crate) fn leave_children(prefix: &[&str], knobs: &Knobs, ledger: &Ledger) -> io::Result<()> {
    let again = |flags: &[&str]| -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(prefix).args(flags);
        Ok(command)
    };
    if knobs.grandchild {
        let grandchild = again(&["--hold"])?.spawn()?;
        ledger.write("grandchild", &grandchild.id().to_string());
    }
    if knobs.escapee {
        let mut escapee = again(&["--hold", "--own-session"])?;
        if let Some(file) = &knobs.ledger {
            escapee.arg("--ledger").arg(file);
        }
        escapee.spawn()?;
    }
    Ok(())
}

/// Stops this process until somebody continues it.
pub(crate) fn stop_self(ledger: &Ledger) -> io::Result<()> {
    ledger.write("stop", "-");
    Ok(kill_process(getpid(), Signal::STOP)?)
}

/// Writes every signal into the ledger before it does what it always does. Without a ledger nothing changes.
pub(crate) fn note_signals(knobs: &Knobs) -> io::Result<()> {
    if knobs.ledger.is_none() {
        return Ok(());
    }
    let ledger = Ledger::open(knobs.ledger.as_deref())?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCONT])?;
    let deaf = knobs.ignore_term;
    // Never joined: it ends with the process.
    thread::spawn(move || {
        for signal in signals.forever() {
            let name = match signal {
                SIGTERM => "TERM",
                SIGINT => "INT",
                SIGHUP => "HUP",
                _ => "CONT",
            };
            ledger.write("signal", name);
            if signal != SIGCONT && !(deaf && signal == SIGTERM) {
                // Ends the process by this very signal.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        }
    });
    Ok(())
}
