//! `mainstay chaos run`: plays the scenarios against a target and reports.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_testkit::script::Transport;
use rustix::process::Signal;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::play::{self, Patience, Played};
use super::processes;
use super::report::{self, Summary};
use super::scenario::{Scenario, Scene};
use super::scenarios::SCENARIOS;
use super::target::{self, Kind, Target};
use super::upstream::Upstream;
use super::verdict::{self, Report, Verdict};
use crate::cli::chaos::ChaosRunArgs;
use crate::cli::output::{Output, Paint};
use crate::commands::signals::Signals;
use crate::exit::{Exit, Stop};

/// How long the scenarios of an interrupted run may take to end what they have started.
const SCENES_END: Duration = Duration::from_secs(10);

/// What the target leaves behind has this long to go after it.
const LEAVE_MAX: Duration = Duration::from_secs(5);
/// Lines of the target's stderr that explain why it never served.
const LAST_WORDS: usize = 3;

/// Runs the scenarios.
///
/// # Errors
/// When nothing matches, nothing applies, or the kit itself does not work.
pub(super) async fn run(args: ChaosRunArgs, output: Output) -> Result<Exit, Stop> {
    let kind = Kind::of(&args)?;
    let (chosen, skipped) = choose(&args, &kind)?;
    let folder = Folder::open(args.workdir.as_deref())?;
    let patience = Patience {
        era: args.era,
        start: Duration::from_secs(args.start_timeout),
        call: Duration::from_secs(args.timeout),
    };
    let mut signals = Signals::listen()?;
    let scenes = TaskTracker::new();
    let running = async {
        match &kind {
            Kind::Running(_) => {
                against_running(&kind, &chosen, &folder.path, patience, &args, output).await
            }
            Kind::Command { .. } | Kind::Direct => {
                side_by_side(
                    &kind,
                    &chosen,
                    &folder.path,
                    patience,
                    &args,
                    output,
                    &scenes,
                )
                .await
            }
        }
    };
    let ended = tokio::select! {
        // Not resumable: an interrupted run ends here; every process of it dies with its handle.
        reports = running => Some(reports?),
        // Cancel-safe: a signal stays pending in its stream.
        () = signals.next() => None,
    };
    let Some(reports) = ended else {
        // A scenario may be starting something at this very moment, on another thread: its end has to be waited for.
        scenes.close();
        let left = tokio::time::timeout(SCENES_END, scenes.wait()).await;
        let words = match left {
            Ok(()) => "interrupted; nothing is left running",
            Err(_elapsed) => {
                "interrupted; a scenario did not end, so something may be left running"
            }
        };
        return Err(Stop::new(Exit::Interrupted, words));
    };
    let summary = Summary::new(&kind, args.era, reports, skipped);
    if args.json {
        output.json(&summary)?;
    } else {
        output.line(&report::table(&summary, output))?;
    }
    Ok(summary.exit())
}

/// The scenarios that are asked for and apply, and the number of those that are asked for and do not.
fn choose(args: &ChaosRunArgs, kind: &Kind) -> Result<(Vec<&'static Scenario>, usize), Stop> {
    let matches = |scenario: &Scenario| {
        let fits = |pattern: &String| matches(pattern, scenario.name);
        args.only.is_empty() || args.only.iter().any(fits)
    };
    let asked: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| matches(scenario))
        .collect();
    if asked.is_empty() {
        return Err(Stop::new(
            Exit::NotFound,
            format!("no scenario matches {}", args.only.join(" or ")),
        )
        .hint(
            "`mainstay chaos list` names them all; quote a `*` so that the shell leaves it alone",
        ));
    }
    let mut chosen = Vec::new();
    for &scenario in &asked {
        let transport = scenario
            .transport()
            .map_err(|problem| Stop::unexpected("a script of the kit is broken", problem))?;
        if applies(scenario, transport, kind) {
            chosen.push(scenario);
        }
    }
    if chosen.is_empty() {
        return Err(Stop::new(
            Exit::Usage,
            "none of these scenarios applies to this target",
        )
        .hint("`mainstay chaos run --help` says which scenarios follow from which placeholder"));
    }
    let skipped = asked.len() - chosen.len();
    Ok((chosen, skipped))
}

fn applies(scenario: &Scenario, transport: Transport, kind: &Kind) -> bool {
    let ours = matches!(kind, Kind::Command { .. });
    match scenario.scene {
        Scene::TargetKilled => ours && kind.takes(transport, true),
        Scene::Late(_) => !matches!(kind, Kind::Running(_)) && kind.takes(transport, true),
        Scene::Neighbour(_) => kind.takes(transport, false),
        Scene::Plain | Scene::Launcher => kind.takes(transport, true),
    }
}

/// A pattern in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|name| {
            (0..=name.len())
                .filter(|at| name.is_char_boundary(*at))
                .any(|at| matches(rest, &name[at..]))
        }),
    }
}

/// The folder of everything; a temporary one goes away with this.
struct Folder {
    path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Folder {
    fn open(asked: Option<&Path>) -> Result<Self, Stop> {
        let failed = |error| Stop::unexpected("cannot make a folder for the scenarios", error);
        match asked {
            Some(path) => {
                std::fs::create_dir_all(path).map_err(failed)?;
                Ok(Self {
                    path: path.canonicalize().map_err(failed)?,
                    _temporary: None,
                })
            }
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("chaos-")
                    .tempdir()
                    .map_err(failed)?;
                Ok(Self {
                    path: temporary.path().to_owned(),
                    _temporary: Some(temporary),
                })
            }
        }
    }

    /// An empty folder below `parent`.
    fn below(parent: &Path, name: &str) -> Result<PathBuf, Stop> {
        let failed = |error| Stop::unexpected("cannot make a folder for a scenario", error);
        let path = parent.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(failed)?;
        }
        std::fs::create_dir_all(&path).map_err(failed)?;
        Ok(path)
    }
}

/// Every scenario with a target of its own, several at a time.
async fn side_by_side(
    kind: &Kind,
    chosen: &[&'static Scenario],
    folder: &Path,
    patience: Patience,
    args: &ChaosRunArgs,
    output: Output,
    scenes: &TaskTracker,
) -> Result<Vec<Report>, Stop> {
    let slots = Arc::new(Semaphore::new(usize::from(args.jobs)));
    let mut tasks = JoinSet::new();
    for &scenario in chosen {
        let (slots, kind) = (Arc::clone(&slots), kind.clone());
        let dir = Folder::below(folder, scenario.name)?;
        tasks.spawn(scenes.track_future(async move {
            let _slot = slots.acquire_owned().await;
            alone(scenario, &kind, &dir, patience).await
        }));
    }
    let mut reports = Vec::with_capacity(chosen.len());
    while let Some(ended) = tasks.join_next().await {
        let report = ended.map_err(|error| Stop::unexpected("a scenario broke down", error))??;
        tell(&report, reports.len() + 1, chosen.len(), args.json, output);
        reports.push(report);
    }
    let place = |report: &Report| {
        chosen
            .iter()
            .position(|scenario| scenario.name == report.name)
    };
    reports.sort_by_key(place);
    Ok(reports)
}

/// One scenario with upstreams and a target of its own.
async fn alone(
    scenario: &Scenario,
    kind: &Kind,
    dir: &Path,
    patience: Patience,
) -> Result<Report, Stop> {
    let mut upstreams = prepare(scenario, dir)?;
    let late_ms = match scenario.scene {
        Scene::Late(ms) => ms,
        Scene::Plain | Scene::Launcher | Scene::Neighbour(_) | Scene::TargetKilled => 0,
    };
    if late_ms == 0 {
        start_all(&mut upstreams).await?;
    }
    let mut target = Target::start(kind, dir, &upstreams)?;
    if late_ms > 0 {
        for upstream in &mut upstreams {
            upstream.start(late_ms).await?;
        }
    }
    let lonely = upstreams.len() == 1;
    let mut played = play::play(scenario, &mut target, &mut upstreams[0], lonely, patience).await?;
    if let Some(status) = target.ended() {
        let ended = format!("the target ended by itself: {status}");
        played.down.get_or_insert(ended);
    }
    let signal = match scenario.scene {
        Scene::TargetKilled => Signal::KILL,
        Scene::Plain | Scene::Launcher | Scene::Neighbour(_) | Scene::Late(_) => Signal::TERM,
    };
    let mut leaked: Vec<String> = target.end(signal).await.into_iter().collect();
    leaked.extend(left_behind(&upstreams).await?);
    drop(target);
    for upstream in &mut upstreams {
        upstream.end().await;
    }
    explain(&mut played, dir);
    let account = upstreams[0].account()?;
    Ok(verdict::judge(scenario, &played, &account, &leaked))
}

fn prepare(scenario: &Scenario, dir: &Path) -> Result<Vec<Upstream>, Stop> {
    let broken = |problem| Stop::unexpected("a script of the kit is broken", problem);
    let launched = scenario.scene == Scene::Launcher;
    let transport = scenario.transport().map_err(broken)?;
    let mut upstreams = vec![Upstream::prepare(
        scenario.name,
        scenario.script,
        transport,
        launched,
        dir,
    )?];
    if let Some(script) = scenario.neighbour() {
        let transport = super::serve::find(script)?.transport;
        // Sorts before every other name: whoever goes through the servers one by one meets it first.
        upstreams.push(Upstream::prepare(
            "a-neighbour",
            script,
            transport,
            false,
            dir,
        )?);
    }
    Ok(upstreams)
}

async fn start_all(upstreams: &mut [Upstream]) -> Result<(), Stop> {
    for upstream in upstreams {
        upstream.start(0).await?;
    }
    Ok(())
}

/// The stdio servers, and their children, that are still there; they are killed once they are counted.
async fn left_behind(upstreams: &[Upstream]) -> Result<Vec<String>, Stop> {
    let mut pids = Vec::new();
    for upstream in upstreams.iter().filter(|upstream| upstream.url().is_none()) {
        let account = upstream.account()?;
        pids.extend(account.starts.into_iter().chain(account.children));
    }
    let left = processes::all_gone(&pids, LEAVE_MAX).await?;
    let ours = left
        .into_iter()
        .filter(|(_, command)| command.contains(" chaos "));
    Ok(ours
        .map(|(pid, command)| {
            // Counted; it would stay for minutes.
            let _gone = processes::signal(pid, Signal::KILL);
            format!("process {pid} outlived the target: {command}")
        })
        .collect())
}

/// Adds the target's last words to the reason why it never served.
fn explain(played: &mut Played, dir: &Path) {
    let Some(why) = &mut played.down else { return };
    let text = std::fs::read(dir.join("target.err")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
    if !last.is_empty() {
        why.push_str(&format!("; its last words: {}", last.join(" / ")));
    }
}

/// One scenario after another, against a target that somebody else has started with our configuration.
async fn against_running(
    kind: &Kind,
    chosen: &[&'static Scenario],
    folder: &Path,
    patience: Patience,
    args: &ChaosRunArgs,
    output: Output,
) -> Result<Vec<Report>, Stop> {
    let mut upstreams = Vec::new();
    let mut firsts = Vec::new();
    for &scenario in chosen {
        firsts.push(upstreams.len());
        let dir = Folder::below(folder, scenario.name)?;
        upstreams.extend(prepare(scenario, &dir)?);
    }
    start_all(&mut upstreams).await?;
    let config = folder.join("mcp.json");
    target::write_config(&config, &upstreams)?;
    output.note(&format!(
        "the upstreams are in {}: use it as the target's configuration, and (re)start the target now",
        config.display()
    ));
    let mut reports = Vec::with_capacity(chosen.len());
    for (&scenario, &first) in chosen.iter().zip(&firsts) {
        let mut target = Target::start(kind, folder, &upstreams)?;
        let lonely = upstreams.len() == 1;
        let upstream = &mut upstreams[first];
        let played = play::play(scenario, &mut target, upstream, lonely, patience).await?;
        let account = upstream.account()?;
        // The target goes on: what runs below it is its own affair.
        let report = verdict::judge(scenario, &played, &account, &[]);
        tell(&report, reports.len() + 1, chosen.len(), args.json, output);
        reports.push(report);
    }
    for upstream in &mut upstreams {
        upstream.end().await;
    }
    Ok(reports)
}

/// Says how far it is.
fn tell(report: &Report, done: usize, of: usize, quiet: bool, output: Output) {
    if quiet {
        return;
    }
    let paint = if report.verdict == Verdict::Survived {
        Paint::Good
    } else {
        Paint::Bad
    };
    output.note(&format!(
        "[{done}/{of}] {}: {}, slowest call {}",
        report.name,
        paint.on(report.verdict.word(), output.color_err()),
        super::scenario::seconds(report.slowest_ms),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_people_expect() {
        for (pattern, name, fits) in [
            ("stdio-*", "stdio-big", true),
            ("*lost*", "http-session-lost-400", true),
            ("*", "anything", true),
            ("http-big", "http-big", true),
            ("http", "http-big", false),
            ("*-big", "http-bigger", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
