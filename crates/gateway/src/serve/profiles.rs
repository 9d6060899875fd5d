//! Endpoints of profiles: named parts of what all servers offer.
//!
//! What belongs to a profile is looked up whenever it matters, in the settings that hold now: a reload changes what clients
//! see, and a profile that is gone ends its streams. Names are those of the aggregate.

use std::sync::Arc;

use mainstay::ServerHandle;
use mainstay::config::{Discovery, Profile};

use super::Shared;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::fault::shown;
use crate::policy::gate;

/// How the name of a profile's endpoint begins, where the endpoint of a server has the server's name: no server's name has
/// a slash.
const PREFIX: &str = "profiles/";

/// The endpoint of one profile.
#[derive(Debug)]
pub(crate) struct AtProfile {
    /// `profiles/NAME`.
    place: Box<str>,
}

impl AtProfile {
    /// The profile's name.
    pub(crate) fn name(&self) -> &str {
        name_of(&self.place).unwrap_or_default()
    }

    /// What its endpoint is called where that of a server has the server's name.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// What the profile is now; `None` if there is none of that name any more.
    pub(crate) fn now(&self, shared: &Shared) -> Option<Arc<Profile>> {
        let settings = shared.manager.settings();
        settings.profiles.get(self.name()).map(Arc::clone)
    }
}

/// The profile that a place is the endpoint of.
pub(crate) fn name_of(place: &str) -> Option<&str> {
    place.strip_prefix(PREFIX)
}

/// The servers of the profile that a place is the endpoint of; none if it is gone.
pub(crate) fn servers_at(shared: &Shared, name: &str) -> Vec<ServerHandle> {
    let settings = shared.manager.settings();
    let Some(profile) = settings.profiles.get(name) else {
        return Vec::new();
    };
    let mut servers = shared.manager.servers();
    servers.retain(|server| profile.has_server(server.name()));
    servers
}

/// The endpoint of the profile with this name, as it stands in a path.
pub(crate) fn find(shared: &Shared, segment: &str) -> Option<Endpoint> {
    let name = percent_encoding::percent_decode_str(segment)
        .decode_utf8()
        .ok()?;
    let settings = shared.manager.settings();
    settings.profiles.contains_key(&*name).then(|| {
        Endpoint::Profile(Arc::new(AtProfile {
            place: format!("{PREFIX}{name}").into(),
        }))
    })
}

/// What somebody is told who asks for a profile that is not there.
pub(crate) fn no_such_profile(shared: &Shared, caller: &Caller, segment: &str) -> String {
    let settings = shared.manager.settings();
    let names = settings.profiles.keys().map(String::as_str);
    let known: Vec<&str> = names
        .filter(|name| gate::sees_profile(shared, caller, name))
        .collect();
    let known = match known.as_slice() {
        [] => "there are none (setting `mainstay.profiles`)".to_owned(),
        known => format!("configured are: {}", known.join(", ")),
    };
    format!("no profile is named `{}`; {known}", shown(segment))
}

/// How clients find tools at an endpoint.
pub(crate) fn discovery(shared: &Shared, endpoint: &Endpoint) -> Discovery {
    match endpoint {
        Endpoint::All => shared.manager.settings().discovery,
        Endpoint::Profile(at) => {
            let wide = shared.manager.settings().discovery;
            let profile = at.now(shared);
            profile
                .and_then(|profile| profile.discovery)
                .unwrap_or(wide)
        }
        // One server's tools are its own.
        Endpoint::Server(_) => Discovery::List,
    }
}
