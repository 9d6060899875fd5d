//! What is tested: how it is started, how it is reached, and how it is ended.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use http::Uri;
use mainstay_testkit::script::Transport;
use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::processes;
use super::upstream::Upstream;
use crate::cli::chaos::{ChaosPreset, ChaosRunArgs};
use crate::exit::{Exit, Stop};

/// A target that was told to end may take this long, stubborn servers below it included.
const END_MAX: Duration = Duration::from_secs(20);

/// The kind of target, as the command line says.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Started anew for every scenario.
    Command {
        /// Its command line, with placeholders.
        words: Vec<String>,
        /// Its endpoint, with placeholders.
        url: String,
    },
    /// Started and configured by somebody else.
    Running(Uri),
    /// No target: the upstream itself.
    Direct,
}

impl Kind {
    /// Reads it from the command line.
    pub(super) fn of(args: &ChaosRunArgs) -> Result<Self, Stop> {
        let usage = |message: String, hint: &str| Stop::new(Exit::Usage, message).hint(hint);
        let default_url = "http://127.0.0.1:{port}/mcp";
        match (args.preset, &args.target_command, &args.target) {
            (Some(ChaosPreset::Mainstay), ..) => Ok(Self::Command {
                words: [
                    "{mainstay}",
                    "serve",
                    "--config",
                    "{config}",
                    "--listen",
                    "127.0.0.1:{port}",
                    "--socket",
                    "{dir}/socket",
                    "--state-dir",
                    "{dir}/state",
                ]
                .map(str::to_owned)
                .to_vec(),
                url: default_url.to_owned(),
            }),
            (Some(ChaosPreset::Direct), ..) => Ok(Self::Direct),
            (None, Some(template), url) => {
                let words = words(template).ok_or_else(|| {
                    usage(
                        format!("the target command `{template}` is empty or has an open quote"),
                        "write it as you would for a shell",
                    )
                })?;
                let kind = Self::Command {
                    words,
                    url: url.clone().unwrap_or_else(|| default_url.to_owned()),
                };
                if !kind.takes(Transport::Stdio, true) && !kind.takes(Transport::Http, true) {
                    return Err(usage(
                        "the target command names no upstream".to_owned(),
                        "use {config}, {upstream-url} or {upstream-command} in it",
                    ));
                }
                Ok(kind)
            }
            (None, None, Some(url)) => Ok(Self::Running(uri(url)?)),
            (None, None, None) => Err(usage(
                "there is no target".to_owned(),
                "use --preset, --target-command or --target",
            )),
        }
    }

    /// How it is called in reports.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Command { words, .. } => words.join(" "),
            Self::Running(url) => url.to_string(),
            Self::Direct => "nothing (direct)".to_owned(),
        }
    }

    /// Whether it can be put in front of an upstream of this transport, `alone` or beside another one.
    pub(super) fn takes(&self, transport: Transport, alone: bool) -> bool {
        match self {
            Self::Running(_) => true,
            Self::Direct => alone && transport == Transport::Http,
            Self::Command { words, .. } => {
                let has = |what: &str| words.iter().any(|word| word.contains(what));
                let fits = match transport {
                    Transport::Http | Transport::Sse => has("{upstream-url}"),
                    Transport::Stdio => has("{upstream-command}"),
                };
                has("{config}") || (alone && fits)
            }
        }
    }
}

/// A target at work. Dropping it kills its whole group.
#[derive(Debug)]
pub(super) struct Target {
    url: Uri,
    child: Option<Child>,
    group: Option<u32>,
}

impl Target {
    /// Starts it in `dir`, or finds it.
    pub(super) fn start(kind: &Kind, dir: &Path, upstreams: &[Upstream]) -> Result<Self, Stop> {
        let (words, url) = match kind {
            Kind::Running(url) => return Ok(Self::elsewhere(url.clone())),
            Kind::Direct => {
                let url = upstreams
                    .first()
                    .and_then(Upstream::url)
                    .unwrap_or_default();
                return Ok(Self::elsewhere(uri(&url)?));
            }
            Kind::Command { words, url } => (words, url),
        };
        let config = dir.join("mcp.json");
        write_config(&config, upstreams)?;
        let program = std::env::current_exe()
            .map_err(|error| Stop::unexpected("cannot find this program's own file", error))?;
        let port = processes::free_port()?.to_string();
        let first = upstreams.first();
        let values = HashMap::from([
            ("{config}", config.display().to_string()),
            ("{dir}", dir.display().to_string()),
            ("{port}", port),
            ("{mainstay}", program.display().to_string()),
            (
                "{upstream-url}",
                first.and_then(Upstream::url).unwrap_or_default(),
            ),
        ]);
        let command = first.and_then(Upstream::command).unwrap_or_default();
        let words: Vec<String> = words
            .iter()
            .flat_map(|word| {
                if word == "{upstream-command}" {
                    command.clone()
                } else {
                    vec![filled(word, &values)]
                }
            })
            .collect();
        let file = |name: &str| {
            File::create(dir.join(name)).map_err(|error| {
                Stop::unexpected("cannot write into the folder of a scenario", error)
            })
        };
        let child = Command::new(&words[0])
            .args(&words[1..])
            // Held open: some programs leave at the end of their stdin.
            .stdin(Stdio::piped())
            .stdout(file("target.out")?)
            .stderr(file("target.err")?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                Stop::new(Exit::TargetDown, format!("cannot start `{}`", words[0]))
                    .because(error)
                    .hint("check --target-command: its first word is the program")
            })?;
        Ok(Self {
            url: uri(&filled(url, &values))?,
            group: child.id(),
            child: Some(child),
        })
    }

    fn elsewhere(url: Uri) -> Self {
        Self {
            url,
            child: None,
            group: None,
        }
    }

    /// Its endpoint.
    pub(super) fn url(&self) -> &Uri {
        &self.url
    }

    /// Whether it ended by itself, and how.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(status.to_string())
    }

    /// Tells it to end, as a service manager does; says so if that was in vain.
    pub(super) async fn end(&mut self, signal: Signal) -> Option<String> {
        let child = self.child.as_mut()?;
        let told = child.id().map(|pid| processes::signal(pid, signal));
        let waited = tokio::time::timeout(END_MAX, child.wait()).await;
        if waited.is_ok() || told.is_none() {
            return None;
        }
        // Killed by our own hand now, so that the search for what it left behind can begin.
        let _already_gone = child.kill().await;
        Some(format!(
            "the target did not end within {} s of TERM",
            END_MAX.as_secs()
        ))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // Nothing of it may outlive the scenario; mostly there is nothing left.
            let _gone = processes::signal_group(group, Signal::KILL);
        }
    }
}

/// Writes the `mcpServers` file of these upstreams.
pub(super) fn write_config(path: &Path, upstreams: &[Upstream]) -> Result<(), Stop> {
    let servers: serde_json::Map<String, serde_json::Value> = upstreams
        .iter()
        .map(|upstream| (upstream.name().to_owned(), upstream.entry()))
        .collect();
    let text = serde_json::json!({ "mcpServers": servers }).to_string();
    std::fs::write(path, text)
        .map_err(|error| Stop::unexpected("cannot write the target's configuration", error))
}

fn filled(word: &str, values: &HashMap<&str, String>) -> String {
    values.iter().fold(word.to_owned(), |word, (name, value)| {
        word.replace(name, value)
    })
}

fn uri(url: &str) -> Result<Uri, Stop> {
    let wrong = |why: String| {
        Stop::new(Exit::Usage, format!("`{url}` is no URL of a target: {why}"))
            .hint("write it as http://127.0.0.1:9000/mcp")
    };
    let uri: Uri = url
        .parse()
        .map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(_)) => Ok(uri),
        _ => Err(wrong("only plain http is spoken".to_owned())),
    }
}

/// Splits a command line as a shell would: blanks, both kinds of quotes, backslashes. `None` if a quote stays open.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (letter, Some(open)) if letter == open => quote = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().push(letters.next()?),
            (letter, Some(_)) => word.get_or_insert_default().push(letter),
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, None) if letter.is_whitespace() => words.extend(word.take()),
            (letter, None) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    (quote.is_none() && !words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_split_as_a_shell_would() {
        let split = |line| words(line).map(|words| words.join("|"));
        assert_eq!(
            split("a  b 'c d' e\"f g\"h ''"),
            Some("a|b|c d|ef gh|".into())
        );
        assert_eq!(split(r#"a\ b "c\"d" 'e\f'"#), Some(r#"a b|c"d|e\f"#.into()));
        assert_eq!(split("a 'b"), None);
        assert_eq!(split("  "), None);
    }

    #[test]
    fn what_can_be_tested_follows_from_the_placeholders() {
        let command = |line: &str| Kind::Command {
            words: words(line).unwrap_or_default(),
            url: String::new(),
        };
        let config = command("g --config {config}");
        assert!(config.takes(Transport::Stdio, false) && config.takes(Transport::Http, true));
        let url = command("p {upstream-url}");
        assert!(url.takes(Transport::Http, true) && !url.takes(Transport::Http, false));
        assert!(!url.takes(Transport::Stdio, true));
        let bridge = command("b -- {upstream-command}");
        assert!(bridge.takes(Transport::Stdio, true) && !bridge.takes(Transport::Http, true));
    }
}
