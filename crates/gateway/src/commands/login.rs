//! `mainstay login` and `logout`: signing in to a server, and out of it.
//!
//! The one command that opens a browser, because somebody asked for it (law 11).

mod course;
mod place;

use serde_json::Value;

use self::course::Course;
pub(super) use self::place::Place;
use super::signals::Signals;
use crate::cli::human;
use crate::cli::login::{LoginArgs, LogoutArgs};
use crate::cli::output::Output;
use crate::exit::{Exit, Stop};

/// Signs in.
///
/// # Errors
/// Exit 6 when there is no such server, 80 when it does not come about, 130 on Ctrl-C.
pub(crate) async fn run(args: LoginArgs, output: Output) -> Result<Exit, Stop> {
    let mut signals = Signals::listen()?;
    let place = Place::find(&args.socket, &args.alone, output).await?;
    let ended = sign_in(&place, &args, &mut signals, output).await;
    let told = match ended {
        Ok(done) => tell(&place, &args, &done, output).await,
        Err(stop) => Err(stop),
    };
    place.close().await;
    told
}

async fn sign_in(
    place: &Place,
    args: &LoginArgs,
    signals: &mut Signals,
    output: Output,
) -> Result<Value, Stop> {
    let begun = tokio::select! {
        // Cancel-safe enough: what was begun and not told to anybody ends by its own deadline.
        begun = Course::begin(place, args, output) => begun?,
        // Cancel-safe: an undelivered signal stays pending.
        () = signals.next() => return Err(Stop::new(Exit::Interrupted, "interrupted; nobody was signed in")),
    };
    begun.end(signals).await
}

/// Says how it went.
async fn tell(place: &Place, args: &LoginArgs, done: &Value, output: Output) -> Result<Exit, Stop> {
    let known = sign_in_of(place, &args.name).await?;
    if args.json {
        let mut line = known.unwrap_or_else(|| done.clone());
        line["server"] = args.name.clone().into();
        line["state"] = "done".into();
        output.line(&line.to_string())?;
        return Ok(Exit::Ok);
    }
    let more = known.as_ref().map(about).unwrap_or_default();
    output.line(&format!("signed in to `{}`{more}", args.name))?;
    if matches!(place, Place::Alone(_)) {
        output.note("no Mainstay is running; the next one uses it");
    }
    Ok(Exit::Ok)
}

/// Where, and until when, on the rest of a line.
fn about(sign_in: &Value) -> String {
    let mut text = String::new();
    if let Some(issuer) = sign_in["issuer"].as_str() {
        text.push_str(&format!(" at {issuer}"));
    }
    if let Some(at) = sign_in["expiresAtUnixMs"].as_u64() {
        let left = human::span(at.saturating_sub(human::now_unix_ms()));
        let renewed = sign_in["refreshable"].as_bool().unwrap_or(false);
        let words = match renewed {
            true => format!("; its token lasts {left} and is renewed by itself"),
            false => format!("; for {left}, then again"),
        };
        text.push_str(&words);
    }
    text
}

/// This Mainstay's own sign-in to a server.
async fn sign_in_of(place: &Place, server: &str) -> Result<Option<Value>, Stop> {
    let all = place.sign_ins().await?;
    let mut of = all["signIns"].as_array().into_iter().flatten();
    Ok(of
        .find(|one| one["server"] == server && one["principal"].is_null())
        .cloned())
}

/// Signs out.
///
/// # Errors
/// Exit 6 when there is no such server, 1 when what is kept cannot be removed.
pub(crate) async fn logout(args: LogoutArgs, output: Output) -> Result<Exit, Stop> {
    let place = Place::find(&args.socket, &args.alone, output).await?;
    let done = place.sign_out(&args.name, args.revoke).await;
    place.close().await;
    let done = done?;
    if args.json {
        output.json(&done)?;
        return Ok(Exit::Ok);
    }
    let text = match done["signedOut"].as_bool() {
        Some(true) => format!("signed out of `{}`", args.name),
        Some(false) | None => format!("nobody was signed in to `{}`", args.name),
    };
    output.line(&text)?;
    if let Some(problem) = done["problem"].as_str() {
        output.warn(
            &format!("the tokens are forgotten here, and were not revoked: {problem}"),
            Some("they end by themselves, or revoke them where you signed in"),
        );
    }
    Ok(Exit::Ok)
}
