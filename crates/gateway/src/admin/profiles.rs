//! Profiles over the admin API: which there are, and what belongs to them now.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use mainstay::config::Discovery;
use schemars::JsonSchema;
use serde::Serialize;

use super::api::Route;
use super::json_with;
use crate::serve::Gateway;

/// This part's rows of the table.
pub(super) const ROUTES: &[Route] = &[Route::get(
    "/api/v1/profiles",
    "getProfiles",
    "The profiles that hold now, and what belongs to them.",
    || get(profiles),
)
.json::<ProfileList>()];

/// All profiles, by name.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ProfileList {
    /// By name.
    profiles: Vec<ProfileInfo>,
}

/// One profile.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ProfileInfo {
    /// Its name.
    name: String,
    /// The path of its endpoint.
    endpoint: String,
    /// The servers that belong to it.
    servers: Vec<String>,
    /// How many published tools belong to it.
    tools: usize,
    /// How clients find tools there: `list` or `search`.
    discovery: &'static str,
}

async fn profiles(State(gateway): State<Gateway>) -> Response {
    let manager = gateway.manager();
    let (settings, publication) = (manager.settings(), manager.publication());
    let servers = manager.servers();
    let profiles = settings.profiles.iter().map(|(name, profile)| {
        let servers = servers.iter().map(|server| server.name());
        let tools = publication.tools.items.iter();
        let tools = tools
            .filter(|tool| profile.has_server(&tool.server) && profile.has_tool(&tool.exposed));
        ProfileInfo {
            endpoint: format!("/profiles/{}/mcp", segment(name)),
            servers: servers
                .filter(|server| profile.has_server(server))
                .map(str::to_owned)
                .collect(),
            tools: tools.count(),
            discovery: match profile.discovery.unwrap_or(settings.discovery) {
                Discovery::List => "list",
                Discovery::Search => "search",
            },
            name: name.clone(),
        }
    });
    let list = ProfileList {
        profiles: profiles.collect(),
    };
    json_with(StatusCode::OK, &list)
}

/// A name as a part of a path.
fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}
