//! The static tokens of clients over the admin API: which there are, making one, revoking one.
//!
//! A token is in one answer only, that to whoever made it.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use schemars::JsonSchema;
use serde::Serialize;

use super::api::{Refusal, Route, refusal};
use super::dto::ErrorBody;
use super::{Problem, aside, json_of};
use crate::access::tokens::{Created, NewToken, TokenError, TokenInfo, TokenStore};
use crate::serve::Gateway;

/// This part's rows of the table.
pub(super) const ROUTES: &[Route] = &[
    Route::get(
        "/api/v1/tokens",
        "getTokens",
        "The static tokens of clients, oldest first: never the tokens themselves.",
        || get(list),
    )
    .json::<TokenList>()
    .refuses(&[NO_PLACE]),
    Route::post(
        "/api/v1/tokens",
        "createToken",
        "Makes a static token; this answer alone has it.",
        || post(create),
    )
    .takes::<NewToken>()
    .json::<Created>()
    .refuses(&[
        refusal::<ErrorBody>("400", "The token that is asked for makes no sense."),
        refusal::<ErrorBody>(
            "409",
            "There is a valid token of that name, or no room for more.",
        ),
        NO_PLACE,
    ]),
    Route::post(
        "/api/v1/tokens/{id}/revoke",
        "revokeToken",
        "Revokes a static token by its id or name: it is worth nothing from the next request on.",
        || post(revoke),
    )
    .json::<TokenInfo>()
    .refuses(&[
        refusal::<ErrorBody>(
            "404",
            "No valid token has that id or name; the message lists those there are.",
        ),
        NO_PLACE,
    ]),
];

const NO_PLACE: Refusal = refusal::<ErrorBody>(
    "503",
    "There is no place for tokens, or the file of tokens cannot be used.",
);

/// The tokens.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TokenList {
    /// Oldest first.
    tokens: Vec<TokenInfo>,
}

async fn list(State(gateway): State<Gateway>) -> Response {
    with_store(&gateway, |store| {
        store.list().map(|tokens| json_of(&TokenList { tokens }))
    })
    .await
}

async fn create(State(gateway): State<Gateway>, body: Bytes) -> Response {
    let new: NewToken = match serde_json::from_slice(&body) {
        Ok(new) => new,
        Err(error) => {
            let message = format!("the body is not understood: {error}");
            let mut problem = Problem::new(StatusCode::BAD_REQUEST, message);
            problem.hint = Some(r#"send {"name":"NAME"}"#.to_owned());
            return problem.into_response();
        }
    };
    with_store(&gateway, move |store| {
        store.create(&new).map(|created| json_of(&created))
    })
    .await
}

async fn revoke(State(gateway): State<Gateway>, Path(id): Path<String>) -> Response {
    with_store(&gateway, move |store| {
        store.revoke(&id).map(|info| json_of(&info))
    })
    .await
}

async fn with_store(
    gateway: &Gateway,
    work: impl FnOnce(&TokenStore) -> Result<Response, TokenError> + Send + 'static,
) -> Response {
    let Some(tokens) = gateway.shared.access.tokens().cloned() else {
        let message = "this Mainstay takes no static tokens";
        let hint = "set `mainstay.access.tokens` to true, and give it a state directory";
        return Problem {
            hint: Some(hint.to_owned()),
            ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
        .into_response();
    };
    let store = tokens.store().clone();
    let done =
        aside(move || work(&store).unwrap_or_else(|error| problem(&error).into_response())).await;
    // In force when the answer is there, for streams that are open too.
    tokens.refresh().await;
    done
}

fn problem(error: &TokenError) -> Problem {
    let status = match error {
        TokenError::Senseless(_) => StatusCode::BAD_REQUEST,
        TokenError::Taken(_) | TokenError::TooMany => StatusCode::CONFLICT,
        TokenError::Unknown { .. } => StatusCode::NOT_FOUND,
        TokenError::Unusable { .. }
        | TokenError::Damaged { .. }
        | TokenError::Exposed { .. }
        | TokenError::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
    };
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    Problem::new(status, format!("{error}{}", cause.unwrap_or_default()))
}
