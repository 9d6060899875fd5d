//! `mainstay add`: a server is tried, then written into the configuration.

use std::time::{Duration, Instant};

use mainstay::ServerStatus;
use mainstay::config::{Loaded, Problem, Severity};
use serde_json::{Value, json};

use super::own::{Own, Running, place};
use super::{config, local};
use crate::apps::secrets::{Vault, is_secret};
use crate::cli::add::AddArgs;
use crate::cli::output::{Output, Paint};
use crate::cli::table::plain;
use crate::edit::{Change, Node};
use crate::exit::{Exit, Stop};

/// Most tools that are shown by name.
const TOOLS_SHOWN_MAX: usize = 20;

/// What came of trying it.
struct Tried {
    status: ServerStatus,
    tools: Vec<String>,
    took: Duration,
}

/// Tries it and adds it.
///
/// # Errors
/// Exit 2 when it is not clear what to add, 3 when the configuration or the entry cannot be used, 10 when it cannot be
/// written, 25 when the server does not answer. Nothing is written then.
pub(crate) async fn run(args: AddArgs, output: Output) -> Result<Exit, Stop> {
    let entry = entry(&args)?;
    warn_of_secrets(&args, output);
    let path = place(args.config.config.as_deref())?;
    let own = Own::open(&path)?;
    if own.servers().any(|name| name == args.name) && !args.force {
        return Err(Stop::new(
            Exit::Usage,
            format!(
                "{} has a server named `{}` already",
                path.display(),
                args.name
            ),
        )
        .hint("choose another name, or replace it with --force"));
    }
    let text = own.changed(&[Change::set(own.path_of(&args.name), entry)])?;
    let loaded = own.meaning(&text)?;
    let sound = problems(&loaded, &args, output)?;
    let tried = if args.no_try || !sound {
        None
    } else {
        attempt(loaded, &args, output).await?
    };
    let backup = own.write(&text)?;
    let running = Running::ask(&path, args.socket.socket.as_deref()).await;
    if args.json {
        output.json(&json!({
            "name": args.name,
            "file": path.display().to_string(),
            "backup": backup.map(|path| path.display().to_string()),
            "tried": tried.as_ref().map(Tried::json),
            "running": running.word(),
        }))?;
        return Ok(Exit::Ok);
    }
    output.line(&format!("added `{}` to {}", args.name, path.display()))?;
    running.tell(output);
    Ok(Exit::Ok)
}

/// The entry for the configuration.
fn entry(args: &AddArgs) -> Result<Node, Stop> {
    let is_url = |url: &str| url.starts_with("http://") || url.starts_with("https://");
    let entry = match (args.target.as_slice(), args.command.as_slice()) {
        ([url], []) if is_url(url) => url_entry(url, args)?,
        ([], [program, rest @ ..]) => program_entry(program, rest, args)?,
        ([], []) => {
            return Err(usage(
                "it is not said what to add",
                &format!(
                    "name a URL, or a program behind `--`: mainstay add {} -- npx -y PACKAGE",
                    args.name
                ),
            ));
        }
        ([..], []) => {
            let program = args.target.join(" ");
            return Err(usage(
                "a URL begins with http:// or https://",
                &format!(
                    "a program goes behind `--`: mainstay add {} -- {program}",
                    args.name
                ),
            ));
        }
        ([..], [..]) => {
            return Err(usage(
                "a server has a URL or a program, and here are both",
                "leave one of them out",
            ));
        }
    };
    Ok(Node::Map(entry))
}

fn usage(what: &str, hint: &str) -> Stop {
    Stop::new(Exit::Usage, what).hint(hint)
}

fn url_entry(url: &str, args: &AddArgs) -> Result<Vec<(String, Node)>, Stop> {
    if !args.env.is_empty() || args.cwd.is_some() {
        return Err(usage(
            "--env and --cwd are for programs, and this is a URL",
            "send something with every request with --header",
        ));
    }
    let mut entry = vec![("url".to_owned(), Node::from(url))];
    if !args.header.is_empty() {
        let headers = pairs(&args.header, "a header", "'Name: value'", &[':', '='])?;
        entry.push(("headers".to_owned(), headers));
    }
    Ok(entry)
}

fn program_entry(
    program: &str,
    rest: &[String],
    args: &AddArgs,
) -> Result<Vec<(String, Node)>, Stop> {
    if !args.header.is_empty() {
        return Err(usage(
            "--header is for URLs, and this is a program",
            "give the program variables with --env NAME=VALUE",
        ));
    }
    let mut entry = vec![("command".to_owned(), Node::from(program))];
    if !rest.is_empty() {
        let rest = rest.iter().map(|arg| Node::from(arg.as_str()));
        entry.push(("args".to_owned(), Node::List(rest.collect())));
    }
    if !args.env.is_empty() {
        let env = pairs(&args.env, "a variable", "NAME=VALUE", &['='])?;
        entry.push(("env".to_owned(), env));
    }
    if let Some(cwd) = &args.cwd {
        entry.push(("cwd".to_owned(), Node::from(cwd.as_str())));
    }
    Ok(entry)
}

/// Names and values. What was given is not repeated in the error: it may be a secret without its name.
fn pairs(given: &[String], what: &str, example: &str, ends: &[char]) -> Result<Node, Stop> {
    let pairs = given.iter().map(|pair| match pair.split_once(ends) {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), Node::from(value.trim_start())))
        }
        Some(_) | None => Err(usage(
            &format!("{what} is a name and a value, and one of the two is missing"),
            &format!("write it as {example}"),
        )),
    });
    pairs.collect::<Result<Vec<_>, Stop>>().map(Node::Map)
}

/// A secret that is written into the file is a secret that is copied with the file (law 31).
fn warn_of_secrets(args: &AddArgs, output: Output) {
    for (given, option) in [(&args.env, "--env"), (&args.header, "--header")] {
        for pair in given {
            let Some((name, value)) = pair.split_once(['=', ':']) else {
                continue;
            };
            let (name, value) = (name.trim(), value.trim());
            if value.contains("${") || !is_secret(name, value) {
                continue;
            }
            let variable: String = name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                .collect::<String>()
                .to_uppercase();
            let reference = match (option, value.split_once(' ')) {
                ("--header", Some((scheme, _))) => format!("'{name}: {scheme} ${{{variable}}}'"),
                ("--header", None) => format!("'{name}: ${{{variable}}}'"),
                _ => format!("'{name}=${{{variable}}}'"),
            };
            output.warn(
                &format!(
                    "`{name}` looks like a secret, and will stand in the file for all to read"
                ),
                Some(&format!(
                    "keep it in the environment of Mainstay and write {option} {reference}"
                )),
            );
        }
    }
    if Vault::new(false).args(&args.name, &args.command).0 != args.command {
        output.warn(
            "an argument looks like a secret, and will stand in the file for all to read",
            Some("keep it in the environment of Mainstay and write '${NAME}' there"),
        );
    }
}

/// Tells what is wrong with the new entry. Whether it can be tried.
fn problems(loaded: &Loaded, args: &AddArgs, output: Output) -> Result<bool, Stop> {
    let its: Vec<Problem> = loaded
        .problems
        .iter()
        .filter(|problem| problem.server.as_deref() == Some(args.name.as_str()))
        .cloned()
        .collect();
    let broken = its
        .iter()
        .any(|problem| problem.severity == Severity::Error);
    if !broken {
        config::tell(output, &its);
        return Ok(true);
    }
    let all: Vec<String> = its
        .iter()
        .map(|problem| match problem.remedy.as_str() {
            "" => problem.message.clone(),
            remedy => format!("{}: {remedy}", problem.message),
        })
        .collect();
    if args.force {
        output.warn(&all.join("\n"), None);
        return Ok(false);
    }
    Err(Stop::new(
        Exit::ConfigInvalid,
        format!(
            "`{}` cannot be used as it would be written: {}",
            args.name,
            all.join("\n")
        ),
    )
    .hint("nothing was written; --force writes it all the same"))
}

/// Starts the new server alone. `None`: it did not answer, and is to be written all the same.
async fn attempt(loaded: Loaded, args: &AddArgs, output: Output) -> Result<Option<Tried>, Stop> {
    let mut config = loaded.config;
    config.servers.retain(|server| server.name == args.name);
    for server in &mut config.servers {
        server.startup = mainstay::config::Startup::Eager;
        server.enabled = true;
    }
    let wait = Duration::from_secs(args.timeout);
    if !args.json {
        output.note(&format!("trying `{}` …", args.name));
    }
    let started = Instant::now();
    let tried = local::with_manager(config, output, async |manager| {
        let Some(status) = local::settled(&manager, &args.name, wait).await else {
            return Err(local::no_server(&args.name, std::iter::empty()));
        };
        if status.state != "connected" {
            return Err(local::why_down(&status, wait));
        }
        let catalog = manager
            .server(&args.name)
            .and_then(|handle| handle.catalog());
        let tools = catalog
            .iter()
            .flat_map(|catalog| &catalog.tools.items)
            .map(|item| item.name.clone())
            .collect();
        Ok(Tried {
            status,
            tools,
            took: started.elapsed(),
        })
    })
    .await;
    match tried {
        Ok(tried) => {
            if !args.json {
                tried.tell(output)?;
            }
            Ok(Some(tried))
        }
        Err(stop) if stop.exit == Exit::ServerDown && args.force => {
            output.warn(&stop.to_string(), stop.hint.as_deref());
            Ok(None)
        }
        Err(stop) if stop.exit == Exit::ServerDown => {
            let hint = stop.hint.clone().unwrap_or_default();
            let nothing = "nothing was written; --force writes it all the same";
            Err(stop.hint(format!("{hint}\n{nothing}").trim().to_owned()))
        }
        Err(stop) => Err(stop),
    }
}

impl Tried {
    /// Which generation of MCP it speaks, in a word.
    fn era(&self) -> &'static str {
        const MODERN_SINCE: &str = "2026-07-28";
        match self.status.protocol {
            Some(revision) if revision >= MODERN_SINCE => "modern",
            Some(_) => "legacy",
            None => "unknown",
        }
    }

    fn tell(&self, output: Output) -> Result<(), Stop> {
        let count = self.tools.len();
        output.line(&format!(
            "{}: {} after {:.1} s, {} ({} MCP, {}), {count} {}",
            self.status.name,
            Paint::Good.on("connected", output.color()),
            self.took.as_secs_f64(),
            self.status.transport,
            self.era(),
            self.status.protocol.unwrap_or("unknown revision"),
            config::plural(count, "tool"),
        ))?;
        for name in self.tools.iter().take(TOOLS_SHOWN_MAX) {
            output.line(&format!("  {}", plain(name)))?;
        }
        if count > TOOLS_SHOWN_MAX {
            output.line(&format!("  and {} more", count - TOOLS_SHOWN_MAX))?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        json!({
            "transport": self.status.transport,
            "era": self.era(),
            "protocol": self.status.protocol,
            "tools": self.tools,
            "tookMs": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}
