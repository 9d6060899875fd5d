//! `mainstay secret`: puts secrets into the keyring of the operating system, lists their names, takes them out.
//!
//! Never prints a value, and takes none from the command line, where everybody on the machine could read it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Read as _, stdin};
use std::path::Path;

use mainstay::config::{
    Config, Lookup, SECRET_NAME_CHARS_MAX, find_default, is_secret_name, process_env,
};
use mainstay::vault::VALUE_BYTES_MAX;
use mainstay::vault::keyring::{self, KeyringError};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::json;

use crate::cli::output::{Output, Paint};
use crate::cli::secret::{DeleteArgs, ListArgs, SecretAction, SecretArgs, SetArgs};
use crate::cli::table::Sheet;
use crate::exit::{Exit, Stop};

/// Under which name the keyring keeps the list of names: it has no way to list what is ours. No secret can be called that.
const INDEX: &str = ".names";

/// Does what was asked for.
///
/// # Errors
/// Exit 2 for a name or a value that cannot be, 6 when there is no such secret, 1 when the keyring cannot be asked.
pub(crate) async fn run(args: SecretArgs, output: Output) -> Result<Exit, Stop> {
    match args.action {
        SecretAction::Set(args) => set(&args, output).await,
        SecretAction::List(args) => list(&args, output).await,
        SecretAction::Delete(args) => delete(&args, output).await,
    }
}

fn refused(error: &KeyringError) -> Stop {
    // What to do stands behind what happened, in one line, because a server's failure has no more than that.
    let said = error.to_string();
    match said.split_once("; ") {
        Some((what, remedy)) => Stop::new(Exit::Unexpected, what).hint(remedy),
        None => {
            Stop::new(Exit::Unexpected, said).hint("the program of the keyring itself may say more")
        }
    }
}

fn checked(name: &str) -> Result<(), Stop> {
    if is_secret_name(name) {
        return Ok(());
    }
    let message = format!("`{name}` is no name for a secret");
    let hint = format!(
        "use letters, digits, `_`, `-`, `.` and `/`, begin with a letter or digit, and no more than {SECRET_NAME_CHARS_MAX}"
    );
    Err(Stop::new(Exit::Usage, message).hint(hint))
}

async fn set(args: &SetArgs, output: Output) -> Result<Exit, Stop> {
    checked(&args.name)?;
    let value = value(&args.name, output)?;
    keyring::set(&args.name, &value)
        .await
        .map_err(|error| refused(&error))?;
    let mut names = names().await?;
    if !names.contains(&args.name) {
        names.push(args.name.clone());
        remember(names).await?;
    }
    output.note(&format!("the keyring keeps `{}`", args.name));
    let users = references(args.config.as_deref());
    let users = users.get(&args.name).map(Vec::as_slice).unwrap_or_default();
    if users.is_empty() {
        output.note(&format!("refer to it as `${{secret:{}}}`", args.name));
    }
    for server in users {
        output.note(&format!(
            "`{server}` uses it from its next start on: mainstay restart {server}"
        ));
    }
    Ok(Exit::Ok)
}

async fn delete(args: &DeleteArgs, output: Output) -> Result<Exit, Stop> {
    checked(&args.name)?;
    let had = keyring::delete(&args.name)
        .await
        .map_err(|error| refused(&error))?;
    let mut names = names().await?;
    if names.contains(&args.name) {
        names.retain(|name| *name != args.name);
        remember(names).await?;
    }
    if !had {
        let message = format!("the keyring has no secret `{}`", args.name);
        return Err(Stop::new(Exit::NotFound, message).hint("`mainstay secret list` names them"));
    }
    output.note(&format!("the keyring forgot `{}`", args.name));
    Ok(Exit::Ok)
}

async fn list(args: &ListArgs, output: Output) -> Result<Exit, Stop> {
    let mut all = references(args.config.as_deref());
    let kept = names().await?;
    for name in kept {
        all.entry(name).or_default();
    }
    let mut rows = Vec::new();
    for (name, users) in all {
        let found = keyring::get(&name).await.map_err(|error| refused(&error))?;
        rows.push((name, found.is_some(), users));
    }
    if args.json {
        let secrets: Vec<_> = rows
            .iter()
            .map(|(name, set, users)| json!({"name": name, "set": set, "servers": users}))
            .collect();
        output.json(&json!({ "secrets": secrets }))?;
        return Ok(Exit::Ok);
    }
    if rows.is_empty() {
        output.note("there are no secrets; `mainstay secret set NAME` keeps one");
        return Ok(Exit::Ok);
    }
    let mut sheet = Sheet::new(&["SECRET", "STATE", "SERVERS"]);
    for (name, set, users) in &rows {
        let state = if *set {
            ("kept".to_owned(), Paint::Good)
        } else {
            ("missing".to_owned(), Paint::Bad)
        };
        sheet.row(vec![
            (name.clone(), Paint::Bold),
            state,
            (users.join(", "), Paint::Plain),
        ]);
    }
    output.line(&sheet.render(None, output.color()))?;
    Ok(Exit::Ok)
}

/// The names that are kept.
async fn names() -> Result<Vec<String>, Stop> {
    let index = keyring::get(INDEX).await.map_err(|error| refused(&error))?;
    let index = index.unwrap_or_default();
    let names = index.lines().filter(|name| is_secret_name(name));
    Ok(names.map(str::to_owned).collect())
}

async fn remember(mut names: Vec<String>) -> Result<(), Stop> {
    names.sort();
    let kept = if names.is_empty() {
        keyring::delete(INDEX).await.map(|_had| ())
    } else {
        keyring::set_names(INDEX, &names.join("\n")).await
    };
    kept.map_err(|error| refused(&error))
}

/// Which servers refer to which secret. A configuration that cannot be read refers to none.
fn references(told: Option<&Path>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let text = find_default(told).ok().and_then(|path| {
        let text = std::fs::read_to_string(&path).ok()?;
        // As written: a variable without a value changes nothing about the references.
        Config::parse(&text, &path).ok()
    });
    for server in text.iter().flat_map(|loaded| &loaded.config.servers) {
        for template in server.templates() {
            for lookup in template.lookups(&process_env).unwrap_or_default() {
                let Lookup::Secret(name) = lookup else {
                    continue;
                };
                let users = found.entry(name).or_default();
                if !users.contains(&server.name) {
                    users.push(server.name.clone());
                }
            }
        }
    }
    found
}

/// The value, from stdin or from whoever sits there.
fn value(name: &str, output: Output) -> Result<String, Stop> {
    let bad = |why: &str| Err(Stop::new(Exit::Usage, format!("the value {why}")));
    let unread =
        |error: std::io::Error| Stop::new(Exit::Unexpected, "stdin cannot be read").because(error);
    let mut text = String::new();
    if stdin().is_terminal() {
        output.note(&format!("the value of `{name}`, which is not shown:"));
        let _unseen = Unseen::begin();
        stdin().lock().read_line(&mut text).map_err(unread)?;
    } else {
        let mut limited = stdin().lock().take(VALUE_BYTES_MAX as u64 + 2);
        limited.read_to_string(&mut text).map_err(unread)?;
    }
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.is_empty() {
        return bad("is empty");
    }
    if value.len() > VALUE_BYTES_MAX {
        return bad(&format!("is longer than {VALUE_BYTES_MAX} bytes"));
    }
    if value.contains('\0') {
        return bad("holds a NUL character");
    }
    Ok(value.to_owned())
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Unseen(Option<Termios>);

impl Unseen {
    fn begin() -> Self {
        let Ok(before) = tcgetattr(stdin()) else {
            return Self(None);
        };
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        unseen.local_modes.insert(LocalModes::ECHONL);
        let set = tcsetattr(stdin(), OptionalActions::Flush, &unseen);
        Self(set.is_ok().then_some(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nothing can be done about a terminal that is gone.
            let _ = tcsetattr(stdin(), OptionalActions::Flush, before);
        }
    }
}
