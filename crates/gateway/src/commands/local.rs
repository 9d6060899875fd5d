//! Mainstay in this very process, for `call`, `tools` and `check` without a running one: starts what is needed,
//! answers, ends.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use mainstay::config::{Config, Loaded};
use mainstay::{Manager, ServerStatus};

use super::config;
use super::progress::{self, Progress};
use super::signals::Signals;
use crate::cli::output::{Output, draw_progress};
use crate::exit::{Exit, Stop};

/// Reads the configuration and keeps only `server` of it, or everything.
///
/// # Errors
/// As [`config::load`]; exit 6 when there is no such server, 3 when its entry cannot be used.
pub(crate) fn load(
    told: Option<&Path>,
    server: Option<&str>,
    output: Output,
) -> Result<Config, Stop> {
    let Loaded {
        mut config,
        mut problems,
        ..
    } = config::load(told)?;
    if let Some(name) = server {
        if config.server(name).is_none() {
            return Err(no_server(
                name,
                config.servers.iter().map(|server| server.name.as_str()),
            ));
        }
        config.servers.retain(|server| server.name == name);
        problems.retain(|problem| {
            problem
                .server
                .as_deref()
                .is_none_or(|server| server == name)
        });
    }
    config::tell(output, &problems);
    if server.is_some()
        && config
            .servers
            .iter()
            .any(mainstay::config::ServerConfig::is_broken)
    {
        return Err(Stop::new(
            Exit::ConfigInvalid,
            "this server's entry cannot be used as it is written",
        ));
    }
    // Asked for by name or not: nobody waits for a lazy server that nobody wakes.
    for server in &mut config.servers {
        server.startup = mainstay::config::Startup::Eager;
    }
    Ok(config)
}

/// Runs `work` with a manager of its own and ends it, whatever comes of the work. A signal ends the work early.
///
/// # Errors
/// Those of `work`.
pub(crate) async fn with_manager<T, F>(
    config: Config,
    output: Output,
    work: impl FnOnce(Manager) -> F,
) -> Result<T, Stop>
where
    F: Future<Output = Result<T, Stop>>,
{
    let mut signals = Signals::listen()?;
    let starters = progress::starters(&config);
    let manager = Manager::builder()
        .config(config)
        .start()
        .await
        .map_err(|error| Stop::unexpected("cannot start the servers", error))?;
    draw_progress();
    let progress = Progress::of_all(&manager, starters, output, false);
    let worked = tokio::select! {
        // Cancel-safe: dropping the work cancels its calls, and nothing else depends on it.
        worked = work(manager.clone()) => worked,
        // Cancel-safe: a signal that was not taken stays pending.
        () = signals.next() => Err(Stop::new(Exit::Interrupted, "interrupted")),
    };
    progress.end().await;
    let ending = manager.shutdown();
    tokio::pin!(ending);
    loop {
        tokio::select! {
            // Cancel-safe: pinned and polled on.
            _report = &mut ending => return worked,
            // Cancel-safe: see there. A signal while ending means: now.
            () = signals.next() => manager.hurry(),
        }
    }
}

/// Waits until the server is connected or its first attempt has failed, at most `wait`.
pub(crate) async fn settled(manager: &Manager, name: &str, wait: Duration) -> Option<ServerStatus> {
    let handle = manager.server(name)?;
    // Mainstay would try again, and rightly so; who asks once wants to hear what is wrong now.
    let settled = handle.wait_until(|status| {
        matches!(status.state, "connected" | "parked" | "disabled") || status.last_failure.is_some()
    });
    let status = tokio::time::timeout(wait, settled)
        .await
        .unwrap_or_else(|_late| handle.status());
    Some(status)
}

/// What stands in the way of a server that is not connected: the failure, its last words, and the remedy.
pub(crate) fn why_down(status: &ServerStatus, waited: Duration) -> Stop {
    let mut message = match &status.last_failure {
        Some(failure) => format!("server `{}` did not start: {}", status.name, failure.detail),
        None => format!(
            "server `{}` was still {} after {} s",
            status.name,
            status.word,
            waited.as_secs()
        ),
    };
    for line in &status.stderr_tail {
        message.push_str(&format!("\n  stderr: {line}"));
    }
    let hint = status
        .hint
        .or(status.last_failure.as_ref().map(|failure| failure.hint));
    let stop = Stop::new(Exit::ServerDown, message);
    let login = status
        .sign_in
        .as_ref()
        .and_then(|known| known.command.as_ref());
    if let Some(command) = login {
        return stop.hint(format!("run `{command}`"));
    }
    match hint.filter(|hint| !hint.is_empty()) {
        Some(hint) => stop.hint(hint),
        None => stop.hint("give it more --timeout; if that does not help, run its command by hand: is it an MCP server?"),
    }
}

/// There is no server of that name; here is the nearest one, or all.
pub(crate) fn no_server<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Stop {
    not_found("server", name, known)
}

/// There is nothing of that name; here is the nearest one, or the first few.
pub(crate) fn not_found<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Stop {
    const SHOWN_MAX: usize = 12;
    let known: Vec<&str> = known.collect();
    let stop = Stop::new(Exit::NotFound, format!("there is no {what} named `{name}`"));
    let near = known
        .iter()
        .map(|other| (distance(name, other), *other))
        .min();
    match near {
        None => stop,
        Some((apart, other)) if apart <= 1 + name.chars().count() / 4 => {
            stop.hint(format!("did you mean `{other}`?"))
        }
        Some(_) => {
            let more = if known.len() > SHOWN_MAX {
                format!(" and {} more", known.len() - SHOWN_MAX)
            } else {
                String::new()
            };
            let shown: Vec<&str> = known.into_iter().take(SHOWN_MAX).collect();
            stop.hint(format!("there are: {}{more}", shown.join(", ")))
        }
    }
}

/// How many characters must change to get from one name to the other; a swap of neighbours counts two.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_else_all() {
        let known = || ["time", "files", "github"].into_iter();
        assert_eq!(
            no_server("tmie", known()).hint.unwrap(),
            "did you mean `time`?"
        );
        assert_eq!(
            no_server("gitub", known()).hint.unwrap(),
            "did you mean `github`?"
        );
        assert_eq!(
            no_server("weather", known()).hint.unwrap(),
            "there are: time, files, github"
        );
        assert_eq!(no_server("x", std::iter::empty()).hint, None);
        assert_eq!(no_server("x", known()).exit, Exit::NotFound);
    }
}
