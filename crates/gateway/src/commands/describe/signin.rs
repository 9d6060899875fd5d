//! What is said about signing in to a server.

use serde_json::Value;

use super::{text, texts};
use crate::cli::human;

/// Who is signed in, for what and for how long; `None` where nothing is known of it.
pub(super) fn words(server: &Value) -> Option<String> {
    let known = &server["signIn"];
    let mut parts = match text(known, "state") {
        "signedIn" => Vec::new(),
        "refreshing" => vec!["the token is being renewed".to_owned()],
        "needed" => vec!["needed".to_owned()],
        "expired" => vec!["has ended".to_owned()],
        _nothing => return None,
    };
    if let Some(issuer) = known["issuer"].as_str() {
        parts.push(format!("at {issuer}"));
    }
    let scopes = texts(known, "scopes");
    if !scopes.is_empty() {
        parts.push(format!("for {}", scopes.join(", ")));
    }
    if let Some(at) = known["expiresAtUnixMs"].as_u64() {
        let now = human::now_unix_ms();
        parts.push(match at.checked_sub(now) {
            Some(left) => format!("the token lasts another {}", human::span(left)),
            None => "the token has expired".to_owned(),
        });
    }
    if parts.is_empty() {
        parts.push("yes".to_owned());
    }
    Some(parts.join(", "))
}

/// The one thing that helps a server that somebody has to sign in to.
pub(super) fn remedy(server: &Value) -> Option<String> {
    let command = server["signIn"]["command"].as_str()?;
    let waits = matches!(text(server, "state"), "parked" | "backoff");
    waits.then(|| format!("{command} (it goes on by itself then)"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn f204_a_server_that_waits_for_a_login_names_the_command() {
        let server = json!({ "name": "x", "state": "parked",
            "lastFailure": { "kind": "needs-login", "detail": "login needed", "hint": "log in to this server" },
            "signIn": { "state": "needed", "issuer": "https://auth.example", "command": "mainstay login x" } });
        assert_eq!(
            super::super::remedy(&server),
            ["mainstay login x (it goes on by itself then)"]
        );
        assert_eq!(words(&server).unwrap(), "needed, at https://auth.example");
        let fine = json!({ "state": "connected", "signIn": { "state": "signedIn", "scopes": ["a", "b"] } });
        assert_eq!(words(&fine).unwrap(), "for a, b");
        assert_eq!(remedy(&fine), None);
        assert_eq!(words(&json!({ "signIn": { "state": "none" } })), None);
    }
}
