//! The metadata of the fake authorization server, and the registration of clients.

use serde_json::{Value, json};

use super::books::Client;
use super::http::Reply;
use super::keys::random;
use super::state::State;
use super::token::{BEARER, DEVICE, EXCHANGE};

/// The metadata (RFC 8414).
pub(super) fn metadata(state: &State) -> Value {
    let base = state.base();
    let script = state.script();
    let issuer = script.issuer_told.clone().unwrap_or_else(|| state.issuer());
    let mut all = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"),
        "jwks_uri": format!("{base}/jwks"),
        "device_authorization_endpoint": format!("{base}/device_authorization"),
        "revocation_endpoint": format!("{base}/revoke"),
        "response_types_supported": ["code"],
        "grant_types_supported": [
            "authorization_code", "refresh_token", "client_credentials", DEVICE, EXCHANGE, BEARER,
        ],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": [
            "none", "client_secret_basic", "client_secret_post", "private_key_jwt",
        ],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
        "authorization_response_iss_parameter_supported": true,
        "authorization_grant_profiles_supported": ["urn:ietf:params:oauth:grant-profile:id-jag"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    });
    if script.registration {
        all["registration_endpoint"] = json!(format!("{base}/register"));
    }
    if script.client_documents {
        all["client_id_metadata_document_supported"] = json!(true);
    }
    if let Some(scopes) = &script.scopes {
        all["scopes_supported"] = json!(scopes);
    }
    if let Some(members) = all.as_object_mut() {
        for (name, value) in &script.metadata {
            if value.is_null() {
                members.remove(name);
            } else {
                members.insert(name.clone(), value.clone());
            }
        }
    }
    all
}

/// Registers a client (RFC 7591).
pub(super) fn register(state: &State, body: &[u8]) -> Reply {
    let refuse = |error: &str, why: &str| {
        Reply::json(400, &json!({"error": error, "error_description": why}))
    };
    if !state.script().registration {
        return Reply::text(404, "text/plain", "nothing here");
    }
    let Ok(mut metadata) = serde_json::from_slice::<Value>(body) else {
        return refuse("invalid_client_metadata", "not JSON");
    };
    let uris = metadata.get("redirect_uris").and_then(Value::as_array);
    let grants = metadata.get("grant_types").and_then(Value::as_array);
    let is_code = |grant: &Value| grant == "authorization_code";
    let browses = grants.is_none_or(|grants| grants.iter().any(is_code));
    if browses && !uris.is_some_and(|uris| !uris.is_empty() && uris.iter().all(Value::is_string)) {
        return refuse("invalid_redirect_uri", "no redirect_uris");
    }
    let method = metadata
        .get("token_endpoint_auth_method")
        .and_then(Value::as_str)
        .unwrap_or("client_secret_basic");
    let secret = method.starts_with("client_secret").then(|| random("cs-"));
    let id = random("client-");
    metadata["token_endpoint_auth_method"] = json!(method.to_owned());
    let client = Client::from_metadata(&metadata, secret.clone());
    state.books().clients.insert(id.clone(), client);
    state.ledger.count(|counts| counts.registrations += 1);
    metadata["client_id"] = json!(id);
    metadata["client_id_issued_at"] = json!(state.now_unix_ms() / 1000);
    if let Some(secret) = secret {
        metadata["client_secret"] = json!(secret);
        metadata["client_secret_expires_at"] = json!(0);
    }
    Reply::json(201, &metadata)
}
