//! `mainstay edit`: the configuration in the user's editor, written only when it is valid.
//!
//! The editor works on a copy: what runs never sees a file that is half typed.

use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay::config::Severity;

use super::own::{Own, Running};
use super::{config, local};
use crate::cli::edit::EditArgs;
use crate::cli::output::Output;
use crate::edit::file::put;
use crate::exit::{Exit, Stop};

/// What a machine without $VISUAL and $EDITOR may have, the likeliest first.
const USUAL: [&str; 5] = ["sensible-editor", "editor", "nano", "vim", "vi"];

/// What a person answers when asked whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Again,
    Leave,
}

/// Edits it.
///
/// # Errors
/// Exit 2 without a terminal or an editor, 3 when the person leaves it invalid, 4 when there is no configuration, 6 when
/// it has no such server, 10 when it cannot be written.
pub(crate) async fn run(args: EditArgs, output: Output) -> Result<Exit, Stop> {
    let path = config::find(args.config.config.as_deref())?;
    if !io::stdin().is_terminal() {
        return Err(
            Stop::new(Exit::Usage, "an editor needs a terminal, and there is none").hint(format!(
                "change {} yourself, then look at it with `mainstay check`",
                path.display()
            )),
        );
    }
    // Nothing else runs in this process meanwhile.
    let written = tokio::task::block_in_place(|| session(&path, args.name.as_deref(), output))?;
    if !written {
        output.note("nothing was changed");
        return Ok(Exit::Ok);
    }
    output.line(&format!("wrote {}", path.display()))?;
    Running::ask(&path, args.socket.socket.as_deref())
        .await
        .tell(output);
    Ok(Exit::Ok)
}

/// Whether anything was written.
fn session(path: &Path, name: Option<&str>, output: Output) -> Result<bool, Stop> {
    let own = Own::open_unread(path)?;
    let before = own.file().text().to_owned();
    let line = name.map(|name| line_of(&own, name)).transpose()?;
    let editor = editor()?;
    let dir = tempfile::Builder::new()
        .prefix("mainstay-edit-")
        .tempdir()
        .map_err(|error| Stop::unexpected("cannot make a copy to edit", error))?;
    let copy = dir.path().join("mcp.json");
    put(&copy, &before)?;
    loop {
        open(&editor, &copy, line)?;
        let text = std::fs::read_to_string(&copy)
            .map_err(|error| Stop::unexpected("cannot read the edited copy", error))?;
        if text == before {
            return Ok(false);
        }
        if valid(&own, &text, output) {
            return match own.write(&text) {
                Ok(_) => Ok(true),
                // What was typed must not be lost with the copy.
                Err(stop) => {
                    let kept = dir.keep().join("mcp.json");
                    let hint = stop.hint.clone().unwrap_or_default();
                    Err(stop.hint(format!("{hint}; your text is in {}", kept.display())))
                }
            };
        }
        if ask(output)? == Answer::Leave {
            return Err(Stop::new(
                Exit::ConfigInvalid,
                "the edited configuration is not valid; nothing was written",
            ));
        }
    }
}

/// Tells what is wrong with it. Variables that are not set here may be set where Mainstay runs.
fn valid(own: &Own, text: &str, output: Output) -> bool {
    let loaded = match own.parsed(text) {
        Ok(loaded) => loaded,
        Err(stop) => {
            output.stop(&stop, false);
            return false;
        }
    };
    config::tell(output, &loaded.problems);
    !loaded
        .problems
        .iter()
        .any(|problem| problem.severity == Severity::Error)
}

fn ask(output: Output) -> Result<Answer, Stop> {
    output.note("Edit it again? [Y/n]");
    let mut answer = String::new();
    let read = io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Stop::unexpected("cannot read the answer", error))?;
    let no = answer.trim().to_ascii_lowercase().starts_with('n');
    // The end of the input is no.
    Ok(if read == 0 || no {
        Answer::Leave
    } else {
        Answer::Again
    })
}

/// The line of a server's entry, from 1.
fn line_of(own: &Own, name: &str) -> Result<usize, Stop> {
    let loaded = own.parsed(own.file().text());
    let known: Vec<String> = match &loaded {
        Ok(loaded) => loaded
            .config
            .servers
            .iter()
            .map(|server| server.name.clone())
            .collect(),
        // It is opened to be mended.
        Err(_) => return Ok(1),
    };
    if !known.iter().any(|known| known == name) {
        return Err(local::no_server(name, known.iter().map(String::as_str)));
    }
    let key = serde_json::Value::from(name).to_string();
    let at = own.file().text().find(&format!("{key}:"));
    let at = at.or_else(|| own.file().text().find(&key)).unwrap_or(0);
    let before = own.file().text().get(..at).unwrap_or_default();
    Ok(before.matches('\n').count() + 1)
}

/// The command line of the editor, for a shell.
fn editor() -> Result<String, Stop> {
    let told = ["VISUAL", "EDITOR"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|editor| !editor.trim().is_empty());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &&&str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    told.or_else(|| USUAL.iter().find(there).map(|name| (*name).to_owned()))
        .ok_or_else(|| {
            Stop::new(Exit::Usage, "there is no editor").hint("name one: EDITOR=nano mainstay edit")
        })
}

/// Opens the copy and waits until the editor has ended.
fn open(editor: &str, copy: &Path, line: Option<usize>) -> Result<(), Stop> {
    let mut files: Vec<PathBuf> = vec![copy.to_owned()];
    if let Some(line) = line {
        let program = editor.split_whitespace().next().unwrap_or_default();
        let program = Path::new(program)
            .file_name()
            .and_then(|name| name.to_str());
        // Others would take it for a second file.
        if matches!(
            program,
            Some("vi" | "vim" | "nvim" | "nano" | "emacs" | "micro" | "kak")
        ) {
            files.insert(0, PathBuf::from(format!("+{line}")));
        }
    }
    // Through a shell, as editors are configured with options of their own.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$@\""))
        .arg("sh")
        .args(files)
        .status()
        .map_err(|error| Stop::unexpected("cannot start the editor", error))?;
    if status.success() {
        return Ok(());
    }
    Err(Stop::new(
        Exit::Usage,
        format!("the editor `{editor}` failed ({status}); nothing was changed"),
    )
    .hint("set EDITOR to one that is installed"))
}
