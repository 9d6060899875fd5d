//! Where a sign-in is kept: by the running Mainstay, or by this very process for the next one. Both answer alike.

use std::path::Path;

use mainstay::Manager;
use mainstay::config::Config;
use mainstay::store::Store;
use mainstay_gateway::signin::{Desk, How, Trouble};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::client::{ANSWER_MAX, AdminClient, segment};
use super::super::{config, local, paths};
use crate::cli::SocketArg;
use crate::cli::login::AloneArgs;
use crate::cli::output::Output;
use crate::exit::{Exit, Stop};

/// How long beginning and finishing may take: they ask servers that may be slow, each step with its own deadline.
const STEP_MAX: std::time::Duration = std::time::Duration::from_secs(90);

/// Where it is kept.
pub(crate) enum Place {
    /// By the Mainstay that runs.
    Running(AdminClient),
    /// By us: nothing is started but what a sign-in takes.
    Alone(Box<Alone>),
}

/// What a sign-in takes without a running Mainstay.
pub(crate) struct Alone {
    manager: Manager,
    desk: Desk,
}

impl Place {
    /// The running Mainstay, else this process.
    ///
    /// # Errors
    /// Without a running one: as for reading the configuration.
    pub(crate) async fn find(
        socket: &SocketArg,
        alone: &AloneArgs,
        output: Output,
    ) -> Result<Self, Stop> {
        let client = AdminClient::new(paths::socket(socket.socket.as_deref())?);
        if client.is_running().await {
            return Ok(Self::Running(client));
        }
        let loaded = config::load(alone.config.as_deref())?;
        config::tell(output, &loaded.problems);
        let mut config = loaded.config;
        let state_dir = alone
            .state_dir
            .clone()
            .or_else(|| config.gateway.state_dir.clone())
            .or_else(Store::default_dir);
        let Some(state_dir) = state_dir else {
            return Err(Stop::new(
                Exit::Unexpected,
                "there is no place to keep a sign-in: this user has no home directory",
            )
            .hint("name one with --state-dir"));
        };
        quiet(&mut config);
        let manager = start(config, &state_dir).await?;
        let desk = Desk::alone(&manager);
        Ok(Self::Alone(Box::new(Alone { manager, desk })))
    }

    /// Ends what was begun for it.
    pub(crate) async fn close(self) {
        match self {
            Self::Running(_) => {}
            Self::Alone(alone) => {
                alone.desk.close().await;
                alone.manager.shutdown().await;
            }
        }
    }

    /// Begins to sign in.
    ///
    /// # Errors
    /// Exit 6 when there is no such server, 80 when it cannot begin.
    pub(crate) async fn begin(&self, server: &str, how: Option<How>) -> Result<Value, Stop> {
        match self {
            Self::Running(client) => {
                let path = format!("/api/v1/servers/{}/login", segment(server));
                let reply = client.post(&path, how.map(|how| json!({ "how": how })), STEP_MAX);
                reply.await?.ok().map_err(as_login)
            }
            Self::Alone(alone) => {
                alone.knows(server)?;
                answered(alone.desk.begin(server, how).await)
            }
        }
    }

    /// How it is doing.
    ///
    /// # Errors
    /// It is not known any more.
    pub(crate) async fn look(&self, id: &str) -> Result<Value, Stop> {
        match self {
            Self::Running(client) => {
                let path = format!("/api/v1/logins/{}", segment(id));
                client.get(&path).await?.ok().map_err(as_login)
            }
            Self::Alone(alone) => answered(alone.desk.look(id)),
        }
    }

    /// Hands on the address at which a browser ended.
    ///
    /// # Errors
    /// It is not that of this sign-in, or it was refused.
    pub(crate) async fn finish(&self, id: &str, url: &str) -> Result<Value, Stop> {
        match self {
            Self::Running(client) => {
                let path = format!("/api/v1/logins/{}/finish", segment(id));
                let reply = client.post(&path, Some(json!({ "url": url })), STEP_MAX);
                reply.await?.ok().map_err(as_login)
            }
            Self::Alone(alone) => answered(alone.desk.finish(id, url).await),
        }
    }

    /// Gives it up. Best effort.
    pub(crate) async fn cancel(&self, id: &str) {
        match self {
            Self::Running(client) => {
                let path = format!("/api/v1/logins/{}/cancel", segment(id));
                // It ends by its own deadline, too.
                drop(client.post(&path, None, ANSWER_MAX).await);
            }
            Self::Alone(alone) => {
                alone.desk.cancel(id);
            }
        }
    }

    /// Signs out.
    ///
    /// # Errors
    /// Exit 6 when there is no such server, 1 when the grant cannot be removed.
    pub(crate) async fn sign_out(&self, server: &str, revoke: bool) -> Result<Value, Stop> {
        match self {
            Self::Running(client) => {
                let path = format!("/api/v1/servers/{}/logout", segment(server));
                let reply = client.post(&path, Some(json!({ "revoke": revoke })), STEP_MAX);
                reply.await?.ok()
            }
            Self::Alone(alone) => {
                alone.knows(server)?;
                answered(alone.desk.sign_out(server, revoke).await)
            }
        }
    }

    /// What is known of all sign-ins.
    ///
    /// # Errors
    /// The running Mainstay does not answer.
    pub(crate) async fn sign_ins(&self) -> Result<Value, Stop> {
        match self {
            Self::Running(client) => client.get("/api/v1/auth").await?.ok(),
            Self::Alone(alone) => json_of(&alone.desk.sign_ins().await),
        }
    }

    /// The names of all servers.
    ///
    /// # Errors
    /// The running Mainstay does not answer.
    pub(crate) async fn servers(&self) -> Result<Vec<String>, Stop> {
        match self {
            Self::Running(client) => {
                let status = client.get("/api/v1/status").await?.ok()?;
                let servers = status["servers"].as_array().into_iter().flatten();
                Ok(servers
                    .filter_map(|server| server["name"].as_str().map(str::to_owned))
                    .collect())
            }
            Self::Alone(alone) => Ok(alone.names()),
        }
    }
}

impl Alone {
    fn names(&self) -> Vec<String> {
        let servers = self.manager.servers();
        servers.iter().map(|one| one.name().to_owned()).collect()
    }

    fn knows(&self, server: &str) -> Result<(), Stop> {
        if self.manager.server(server).is_some() {
            return Ok(());
        }
        let names = self.names();
        Err(local::no_server(server, names.iter().map(String::as_str)))
    }
}

/// Nothing of it connects: what is wanted is a grant, not a server.
fn quiet(config: &mut Config) {
    for server in &mut config.servers {
        server.enabled = false;
    }
}

async fn start(config: Config, state_dir: &Path) -> Result<Manager, Stop> {
    Manager::builder()
        .config(config)
        .state_dir(Some(state_dir.to_owned()))
        .start()
        .await
        .map_err(|error| Stop::unexpected("cannot read what is kept", error))
}

/// A refusal of the running Mainstay about a sign-in.
fn as_login(stop: Stop) -> Stop {
    if stop.exit == Exit::Unexpected {
        return stop.with_exit(Exit::LoginFailed);
    }
    stop
}

fn answered<T: Serialize>(outcome: Result<T, Trouble>) -> Result<Value, Stop> {
    match outcome {
        Ok(value) => json_of(&value),
        Err(trouble) => {
            let stop = Stop::new(Exit::LoginFailed, trouble.message);
            Err(match trouble.hint {
                Some(hint) => stop.hint(hint),
                None => stop,
            })
        }
    }
}

fn json_of(value: &impl Serialize) -> Result<Value, Stop> {
    serde_json::to_value(value).map_err(|error| Stop::unexpected("cannot be shown", error))
}
