//! `mainstay check`: is this configuration good? Without serving it, and without starting anything unless asked to.

use std::time::Duration;

use futures_util::future::join_all;
use mainstay::config::{Config, Loaded, Severity, Transport};
use serde_json::{Value, json};

use super::{config, local};
use crate::cli::CheckArgs;
use crate::cli::output::{Output, Paint};
use crate::exit::{Exit, Stop};

/// What was found out about one server.
struct Checked {
    name: String,
    /// `ok`, `disabled`, or what is wrong.
    verdict: Verdict,
    /// Where the program is, or how many tools there are.
    note: String,
    /// What a human can do.
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Disabled,
    /// The entry is wrong, its program or its directory is missing.
    Invalid,
    /// With `--start`: it did not come up.
    Down,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Disabled => "disabled",
            Self::Invalid => "invalid",
            Self::Down => "down",
        }
    }

    fn paint(self) -> Paint {
        match self {
            Self::Ok => Paint::Good,
            Self::Disabled => Paint::Dim,
            Self::Invalid | Self::Down => Paint::Bad,
        }
    }
}

/// Checks it.
///
/// # Errors
/// Exit 4 when there is no configuration, 3 when it is refused as a whole.
pub(crate) async fn run(args: CheckArgs, output: Output) -> Result<Exit, Stop> {
    let Loaded {
        config, problems, ..
    } = config::load(args.config.config.as_deref())?;
    let source = config
        .source
        .as_ref()
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    let mut checked: Vec<Checked> = join_all(config.servers.iter().map(look_at)).await;
    if args.start {
        start(
            config,
            &mut checked,
            Duration::from_secs(args.timeout),
            output,
        )
        .await?;
    }
    let has = |verdict| checked.iter().any(|server| server.verdict == verdict);
    let exit = if has(Verdict::Invalid)
        || problems
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    {
        Exit::ConfigInvalid
    } else if has(Verdict::Down) {
        Exit::CheckFailed
    } else {
        Exit::Ok
    };
    if args.json {
        let problems: Vec<Value> = problems.iter().map(config::json).collect();
        let servers: Vec<Value> = checked.iter().map(Checked::json).collect();
        output.json(&json!({ "file": source, "ok": exit == Exit::Ok, "problems": problems, "servers": servers }))?;
        return Ok(exit);
    }
    config::tell(output, &problems);
    for server in &checked {
        let verdict = server
            .verdict
            .paint()
            .on(server.verdict.word(), output.color());
        output.line(&format!(
            "{}: {verdict}{}",
            server.name,
            after_colon(&server.note)
        ))?;
        if let Some(hint) = &server.hint {
            output.hint(hint);
        }
    }
    let count = checked.len();
    let summary = if exit == Exit::Ok {
        "all good"
    } else {
        "not good"
    };
    output.note(&format!(
        "{source}: {count} {}, {summary}",
        config::plural(count, "server")
    ));
    Ok(exit)
}

impl Checked {
    fn json(&self) -> Value {
        json!({ "name": self.name, "verdict": self.verdict.word(), "note": self.note, "hint": self.hint })
    }
}

fn after_colon(note: &str) -> String {
    if note.is_empty() {
        String::new()
    } else {
        format!(", {note}")
    }
}

/// What can be known without starting anything: is the entry sound, are its program and its directory there?
async fn look_at(server: &mainstay::config::ServerConfig) -> Checked {
    let made = |verdict, note: String, hint: Option<String>| Checked {
        name: server.name.clone(),
        verdict,
        note,
        hint,
    };
    if !server.enabled {
        return made(Verdict::Disabled, String::new(), None);
    }
    match &server.transport {
        // Its problems are printed with their places.
        Transport::Broken { problems } => {
            let first = problems
                .first()
                .map(|problem| problem.message.clone())
                .unwrap_or_default();
            made(Verdict::Invalid, first, None)
        }
        Transport::Http { .. } => made(Verdict::Ok, "http, not contacted".to_owned(), None),
        Transport::Stdio { .. } => match mainstay::preflight::find_program(server).await {
            Ok(path) => made(Verdict::Ok, path.display().to_string(), None),
            Err(failure) => {
                let hint = failure.kind.hint();
                made(
                    Verdict::Invalid,
                    failure.to_string(),
                    (!hint.is_empty()).then(|| hint.to_owned()),
                )
            }
        },
    }
}

/// Starts what looks good, asks for its tools, and ends it again.
async fn start(
    mut config: Config,
    checked: &mut [Checked],
    wait: Duration,
    output: Output,
) -> Result<(), Stop> {
    let good = |name: &str| {
        checked
            .iter()
            .any(|server| server.name == name && server.verdict == Verdict::Ok)
    };
    config.servers.retain(|server| good(&server.name));
    for server in &mut config.servers {
        server.startup = mainstay::config::Startup::Eager;
    }
    local::with_manager(config, output, async |manager| {
        let handles = manager.servers();
        let settled = handles
            .iter()
            .map(|handle| local::settled(&manager, handle.name(), wait));
        for status in futures_util::future::join_all(settled)
            .await
            .into_iter()
            .flatten()
        {
            let Some(server) = checked.iter_mut().find(|server| server.name == status.name) else {
                continue;
            };
            if status.state == "connected" {
                let tools = config::plural(status.tools, "tool");
                let protocol = status.protocol.unwrap_or("unknown revision");
                server.note = format!("{}, {protocol}, {} {tools}", status.transport, status.tools);
            } else {
                let why = local::why_down(&status, wait);
                server.verdict = Verdict::Down;
                server.note = why.to_string();
                server.hint = why.hint;
            }
        }
        Ok(())
    })
    .await
}
