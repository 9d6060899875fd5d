//! `mainstay token`: makes, lists and revokes the tokens of clients, with the running Mainstay or in its state directory.

use mainstay::config::{Config, find_default};
use mainstay::store::Store;
use mainstay_gateway::access::tokens::{NewToken, TokenError, TokenStore};
use serde_json::{Value, json};

use super::client::{ANSWER_MAX, AdminClient, segment};
use super::paths;
use crate::cli::human::{self, now_unix_ms};
use crate::cli::output::{Output, Paint};
use crate::cli::table::{Column, Field, Sheet, terminal_width};
use crate::cli::token::{TokenArgs, TokenCommand, TokenCreateArgs, TokensAt};
use crate::exit::{Exit, Stop};

const COLUMNS: [Column; 8] = [
    Column::elastic("NAME", 0),
    Column::new("ID", 3),
    Column::new("STATE", 0),
    Column::elastic("GROUPS", 2),
    Column::elastic("SCOPES", 5),
    Column::new("CREATED", 6),
    Column::new("ENDS", 1),
    Column::new("LAST USED", 4),
];

/// Does what the command line asks of tokens.
///
/// # Errors
/// Exit 2 for a name or time that makes no sense, 6 when there is no such token, 10 when the file cannot be used.
pub(crate) async fn run(args: TokenArgs, output: Output) -> Result<Exit, Stop> {
    match args.command {
        TokenCommand::Create(args) => create(args, output).await,
        TokenCommand::List(args) => {
            let listed = ask(&args.at, Asked::List).await?;
            if args.json {
                output.json(&listed)?;
                return Ok(Exit::Ok);
            }
            let tokens = listed["tokens"].as_array().cloned().unwrap_or_default();
            if tokens.is_empty() {
                output.note("there are no tokens; make one with `mainstay token create NAME`");
                return Ok(Exit::Ok);
            }
            let width = output.is_terminal().then(terminal_width);
            output.line(&table(&tokens, now_unix_ms(), width, output.color()))?;
            Ok(Exit::Ok)
        }
        TokenCommand::Revoke(args) => {
            let revoked = ask(&args.at, Asked::Revoke(&args.name)).await?;
            if args.json {
                output.json(&revoked)?;
            } else {
                let name = revoked["name"].as_str().unwrap_or_default();
                output.line(&format!("{name} is revoked"))?;
            }
            Ok(Exit::Ok)
        }
    }
}

async fn create(args: TokenCreateArgs, output: Output) -> Result<Exit, Stop> {
    let expires = args.expires.as_deref().map(ends).transpose()?;
    let new = NewToken {
        name: args.name,
        groups: args.group,
        scopes: args.scope,
        expires_unix_ms: expires,
    };
    let created = ask(&args.at, Asked::Create(&new)).await?;
    if args.json {
        output.json(&created)?;
        return Ok(Exit::Ok);
    }
    output.line(created["token"].as_str().unwrap_or_default())?;
    output.note("this is the only time that the token is shown: clients send it as `Authorization: Bearer TOKEN`");
    Ok(Exit::Ok)
}

/// When a token ends that is to last so long.
fn ends(text: &str) -> Result<u64, Stop> {
    let wrong = || {
        Stop::new(
            Exit::Usage,
            format!("`{text}` is no time that a token could last"),
        )
        .hint("for example --expires 90d, --expires 12h")
    };
    let span: jiff::Span = text.trim().parse().map_err(|_| wrong())?;
    let lasts = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| wrong())?;
    let lasts_ms = u64::try_from(lasts.as_millis()).map_err(|_| wrong())?;
    if lasts_ms == 0 {
        return Err(wrong());
    }
    Ok(now_unix_ms().saturating_add(lasts_ms))
}

/// What is asked.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Create(&'a NewToken),
    List,
    Revoke(&'a str),
}

/// Asks the running Mainstay if there is one, else looks itself.
async fn ask(at: &TokensAt, asked: Asked<'_>) -> Result<Value, Stop> {
    // What is wrong with a configuration is for others to tell: here it only says where things are.
    let config = find_default(at.config.config.as_deref())
        .ok()
        .and_then(|path| Config::load(&path).ok())
        .map(|loaded| loaded.config.gateway);
    if let Some(dir) = &at.state_dir {
        return in_file(&TokenStore::new(dir), asked);
    }
    let socket = at.socket.socket.clone();
    let socket = socket.or_else(|| config.as_ref().and_then(|config| config.socket.clone()));
    let client = AdminClient::new(socket.map_or_else(paths::default_socket, Ok)?);
    if client.is_running().await {
        return running(&client, asked).await;
    }
    let dir = config.and_then(|config| config.state_dir);
    let dir = dir.or_else(Store::default_dir).ok_or_else(|| {
        Stop::new(
            Exit::NotWritable,
            "there is no place for tokens: this user has no home directory",
        )
        .hint("name one with --state-dir")
    })?;
    in_file(&TokenStore::new(&dir), asked)
}

async fn running(client: &AdminClient, asked: Asked<'_>) -> Result<Value, Stop> {
    let reply = match asked {
        Asked::List => client.get("/api/v1/tokens").await?,
        Asked::Create(new) => {
            let body = json!({
                "name": new.name, "groups": new.groups, "scopes": new.scopes,
                "expiresUnixMs": new.expires_unix_ms,
            });
            client
                .post("/api/v1/tokens", Some(body), ANSWER_MAX)
                .await?
        }
        Asked::Revoke(name) => {
            let path = format!("/api/v1/tokens/{}/revoke", segment(name));
            client.post(&path, None, ANSWER_MAX).await?
        }
    };
    let is_senseless = reply.status == http::StatusCode::BAD_REQUEST;
    reply.ok().map_err(|mut stop| {
        if is_senseless {
            stop.exit = Exit::Usage;
        }
        stop
    })
}

fn in_file(store: &TokenStore, asked: Asked<'_>) -> Result<Value, Stop> {
    let done = match asked {
        Asked::List => store.list().map(|tokens| json!({ "tokens": tokens })),
        Asked::Create(new) => store.create(new).map(|created| json!(created)),
        Asked::Revoke(name) => store.revoke(name).map(|revoked| json!(revoked)),
    };
    done.map_err(stop)
}

fn stop(error: TokenError) -> Stop {
    let exit = match &error {
        TokenError::Senseless(_) => Exit::Usage,
        TokenError::Unknown { .. } => Exit::NotFound,
        TokenError::Unusable { .. }
        | TokenError::Damaged { .. }
        | TokenError::Exposed { .. }
        | TokenError::Busy { .. } => Exit::NotWritable,
        // And whatever may come.
        TokenError::Taken(_) | TokenError::TooMany | _ => Exit::Unexpected,
    };
    let mut stop = Stop::new(exit, error.to_string());
    if let TokenError::Unusable { .. } = &error {
        stop = stop.hint(
            "name a directory that is yours with --state-dir, or give this one back to its owner",
        );
    }
    match std::error::Error::source(&error) {
        Some(cause) => {
            let cause = cause.to_string();
            stop.because(std::io::Error::other(cause))
        }
        None => stop,
    }
}

fn table(tokens: &[Value], now: u64, width: Option<u16>, color: bool) -> String {
    let mut sheet = Sheet::ranked(&COLUMNS);
    for token in tokens {
        sheet.row(row(token, now));
    }
    sheet.render(width, color)
}

fn row(token: &Value, now: u64) -> Vec<Field> {
    let plain = |text: String| (text, Paint::Plain);
    let text = |key: &str| token[key].as_str().unwrap_or_default().to_owned();
    let words = |key: &str| {
        let words = token[key].as_array().into_iter().flatten();
        words
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let time = |key: &str| token[key].as_u64();
    let state = text("state");
    let paint = match state.as_str() {
        "valid" => Paint::Good,
        _ended => Paint::Dim,
    };
    let ends = match time("expiresUnixMs") {
        None => "never".to_owned(),
        Some(at) if at <= now => human::since(at, now),
        Some(at) => format!("in {}", human::span(at - now)),
    };
    let used = time("lastUsedUnixMs").map(|at| human::since(at, now));
    let created = time("createdUnixMs").map(|at| human::since(at, now));
    vec![
        plain(text("name")),
        plain(text("id")),
        (state, paint),
        plain(words("groups")),
        plain(words("scopes")),
        plain(created.unwrap_or_default()),
        plain(ends),
        plain(used.unwrap_or_else(|| "never".to_owned())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_after_the_time_that_was_asked_for() {
        let day = 24 * 60 * 60 * 1_000;
        let left = ends("90d").unwrap() - now_unix_ms();
        assert!(left > 89 * day && left <= 90 * day, "{left}");
        for wrong in ["", "soon", "0s", "-5d", "90"] {
            assert_eq!(ends(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn law_31_a_list_shows_everything_but_the_token() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::new(dir.path());
        let new = NewToken {
            name: "ci".to_owned(),
            groups: vec!["admin".to_owned()],
            ..NewToken::default()
        };
        let created = in_file(&store, Asked::Create(&new)).unwrap();
        let listed = in_file(&store, Asked::List).unwrap();
        let tokens = listed["tokens"].as_array().unwrap();
        let shown = table(tokens, now_unix_ms(), None, false);
        for word in ["ci", "valid", "admin", "never"] {
            assert!(shown.contains(word), "{shown}");
        }
        let token = created["token"].as_str().unwrap();
        assert!(!shown.contains(token) && !listed.to_string().contains(token));
        let unknown = in_file(&store, Asked::Revoke("nobody")).unwrap_err();
        assert_eq!(unknown.exit, Exit::NotFound);
        assert!(unknown.message.contains("ci"), "{unknown}");
    }
}
