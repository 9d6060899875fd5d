//! `mainstay auth status`: which servers are signed in to, until when, and which need it.

use serde_json::{Value, json};

use super::local;
use super::login::Place;
use crate::cli::human;
use crate::cli::login::{AuthArgs, AuthCommand, AuthStatusArgs};
use crate::cli::output::{Output, Paint};
use crate::cli::table::{Sheet, terminal_width};
use crate::exit::{Exit, Stop};

/// Shows it.
///
/// # Errors
/// Exit 6 when there is no such server, 81 when the one that was named needs a sign-in.
pub(crate) async fn run(args: AuthArgs, output: Output) -> Result<Exit, Stop> {
    let AuthCommand::Status(args) = args.command;
    let place = Place::find(&args.socket, &args.alone, output).await?;
    let seen = look(&place, args.name.as_deref()).await;
    place.close().await;
    show(&seen?, &args, output)
}

async fn look(place: &Place, name: Option<&str>) -> Result<Vec<Value>, Stop> {
    let all = place.sign_ins().await?;
    let mut all: Vec<Value> = all["signIns"].as_array().cloned().unwrap_or_default();
    if let Some(name) = name {
        let known = place.servers().await?;
        if !known.iter().any(|server| server == name) {
            return Err(local::no_server(name, known.iter().map(String::as_str)));
        }
        all.retain(|one| one["server"] == name);
    }
    Ok(all)
}

fn show(all: &[Value], args: &AuthStatusArgs, output: Output) -> Result<Exit, Stop> {
    let needs = all.iter().any(needs_login);
    let exit = if args.name.is_some() && needs {
        Exit::NotSignedIn
    } else {
        Exit::Ok
    };
    if args.json {
        output.json(&json!({ "signIns": all }))?;
        return Ok(exit);
    }
    if all.is_empty() {
        output.note("nobody is signed in, and no server asks for it");
        return Ok(exit);
    }
    let mut sheet = Sheet::new(&["SERVER", "STATE", "FOR", "ISSUER", "TOKEN", "SCOPES"]);
    for one in all {
        let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        sheet.row(vec![
            (text("server"), Paint::Bold),
            state(one),
            (text("principal"), Paint::Plain),
            (text("issuer"), Paint::Plain),
            (token(one), Paint::Plain),
            (scopes(one), Paint::Dim),
        ]);
    }
    output.line(&sheet.render(output.is_terminal().then(terminal_width), output.color()))?;
    for one in all.iter().filter(|one| needs_login(one)) {
        let name = one["server"].as_str().unwrap_or_default();
        let problem = one["problem"].as_str();
        let why = problem.map(|text| format!(": {text}")).unwrap_or_default();
        output.hint(&format!("`mainstay login {name}`{why}"));
    }
    Ok(exit)
}

fn needs_login(one: &Value) -> bool {
    matches!(one["state"].as_str(), Some("needed" | "expired"))
}

fn state(one: &Value) -> (String, Paint) {
    let (words, paint) = match one["state"].as_str().unwrap_or_default() {
        "signedIn" => ("signed in", Paint::Good),
        "refreshing" => ("renewing", Paint::Good),
        "needed" => ("needs login", Paint::Bad),
        "expired" => ("expired", Paint::Bad),
        other => (other, Paint::Plain),
    };
    (words.to_owned(), paint)
}

/// How long the token in force lasts, and what comes then.
fn token(one: &Value) -> String {
    let renewed = one["refreshable"].as_bool().unwrap_or(false);
    match one["expiresAtUnixMs"].as_u64() {
        None if renewed => "renewed when refused".to_owned(),
        None => String::new(),
        Some(at) => {
            let left = human::span(at.saturating_sub(human::now_unix_ms()));
            let then = if renewed { ", renewed" } else { "" };
            format!("{left}{then}")
        }
    }
}

fn scopes(one: &Value) -> String {
    let scopes = one["scopes"].as_array().into_iter().flatten();
    scopes
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}
