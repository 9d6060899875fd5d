//! Signing in to servers, and out of them, as the command line and the dashboard ask for it.
//!
//! What these routes begin, somebody has asked for just now: that is the one thing that may lead to a browser (law 11). No
//! answer holds a token (law 31); the address to visit holds the state of its own sign-in, and is told to nobody but the one
//! who began it.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::api::{NO_SUCH_SERVER, Refusal, Route, refusal};
use super::dto::ErrorBody;
use super::{Problem, find, json_of};
use crate::serve::Gateway;
use crate::signin::{How, LoginBegun, LoginCourse, SignInList, SignedOut, Trouble};

/// This part's rows of the table.
pub(super) const ROUTES: &[Route] = &[
    Route::get(
        "/api/v1/auth",
        "getSignIns",
        "Which servers are signed in to, until when, and which need it.",
        || get(sign_ins),
    )
    .json::<SignInList>(),
    Route::post(
        "/api/v1/servers/{name}/login",
        "beginLogin",
        "Begins to sign in to a server. The answer says where to go; nothing is opened here.",
        || post(begin),
    )
    .may_take::<Begin>()
    .json::<LoginBegun>()
    .refuses(BEGIN_REFUSALS),
    Route::get(
        "/api/v1/logins/{id}",
        "getLogin",
        "How a sign-in is doing that was begun.",
        || get(look),
    )
    .json::<LoginCourse>()
    .refuses(LOGIN_REFUSALS),
    Route::post(
        "/api/v1/logins/{id}/finish",
        "finishLogin",
        "Ends a sign-in with the address at which the browser ended, where it could not come back by itself.",
        || post(finish),
    )
    .takes::<Finish>()
    .json::<LoginCourse>()
    .refuses(FINISH_REFUSALS),
    Route::post(
        "/api/v1/logins/{id}/cancel",
        "cancelLogin",
        "Gives up a sign-in.",
        || post(cancel),
    )
    .json::<LoginCourse>()
    .refuses(LOGIN_REFUSALS),
    Route::post(
        "/api/v1/servers/{name}/logout",
        "logout",
        "Signs out of a server: what is kept for it is forgotten, and calls need a new sign-in.",
        || post(logout),
    )
    .may_take::<Leave>()
    .json::<SignedOut>()
    .refuses(&[NO_SUCH_SERVER]),
];

const NO_SUCH_LOGIN: Refusal =
    refusal::<ErrorBody>("404", "No sign-in has that id, or it was forgotten.");

const LOGIN_REFUSALS: &[Refusal] = &[NO_SUCH_LOGIN];

const FINISH_REFUSALS: &[Refusal] = &[
    NO_SUCH_LOGIN,
    refusal::<ErrorBody>(
        "409",
        "The address is not of this sign-in, or the authorization server did not accept it.",
    ),
];

const BEGIN_REFUSALS: &[Refusal] = &[
    NO_SUCH_SERVER,
    refusal::<ErrorBody>("409", "It cannot begin: the message names the step."),
];

/// How to sign in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Begin {
    /// In a browser, or with a code on another device. Default: as the server's entry says, else in a browser.
    how: Option<How>,
}

/// Where the browser ended.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Finish {
    /// The whole address, with its query.
    url: String,
}

/// How to sign out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Leave {
    /// Also ask the authorization server to revoke the tokens. Default: no.
    #[serde(default)]
    revoke: bool,
}

async fn sign_ins(State(gateway): State<Gateway>) -> Response {
    json_of(&gateway.shared.sign_ins.sign_ins().await)
}

async fn begin(State(gateway): State<Gateway>, Path(name): Path<String>, body: Bytes) -> Response {
    if let Err(problem) = find(&gateway, &name) {
        return problem.into_response();
    }
    let wish: Begin = match read(
        &body,
        r#"{"how":"browser"} or {"how":"device"}, or nothing"#,
    ) {
        Ok(wish) => wish,
        Err(problem) => return problem.into_response(),
    };
    answered(gateway.shared.sign_ins.begin(&name, wish.how).await)
}

async fn look(State(gateway): State<Gateway>, Path(id): Path<String>) -> Response {
    answered(gateway.shared.sign_ins.look(&id))
}

async fn finish(State(gateway): State<Gateway>, Path(id): Path<String>, body: Bytes) -> Response {
    let desk = &gateway.shared.sign_ins;
    if let Err(trouble) = desk.look(&id) {
        return told(trouble);
    }
    let Finish { url } = match serde_json::from_slice(&body) {
        Ok(finish) => finish,
        Err(error) => return not_understood(&error, r#"{"url":"ADDRESS"}"#).into_response(),
    };
    answered(desk.finish(&id, &url).await)
}

async fn cancel(State(gateway): State<Gateway>, Path(id): Path<String>) -> Response {
    let desk = &gateway.shared.sign_ins;
    desk.cancel(&id);
    answered(desk.look(&id))
}

async fn logout(State(gateway): State<Gateway>, Path(name): Path<String>, body: Bytes) -> Response {
    if let Err(problem) = find(&gateway, &name) {
        return problem.into_response();
    }
    let leave: Leave = match read(&body, r#"{"revoke":true}, or nothing"#) {
        Ok(leave) => leave,
        Err(problem) => return problem.into_response(),
    };
    answered(gateway.shared.sign_ins.sign_out(&name, leave.revoke).await)
}

/// A body that may be left out.
fn read<T: DeserializeOwned + Default>(body: &Bytes, wanted: &str) -> Result<T, Problem> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| not_understood(&error, wanted))
}

fn not_understood(error: &serde_json::Error, wanted: &str) -> Problem {
    // What stands in the body may be a secret: only where it is wrong is told.
    let at = format!(
        "the body is not understood (line {}, column {})",
        error.line(),
        error.column()
    );
    Problem {
        hint: Some(format!("send {wanted}")),
        ..Problem::new(StatusCode::BAD_REQUEST, at)
    }
}

fn answered<T: serde::Serialize>(outcome: Result<T, Trouble>) -> Response {
    match outcome {
        Ok(value) => json_of(&value),
        Err(trouble) => told(trouble),
    }
}

fn told(trouble: Trouble) -> Response {
    let status = if trouble.unknown {
        StatusCode::NOT_FOUND
    } else {
        StatusCode::CONFLICT
    };
    Problem {
        hint: trouble.hint,
        ..Problem::new(status, trouble.message)
    }
    .into_response()
}
