//! The driver in a world of fakes, on virtual time: everything that can be late, lost, doubled, out of order or broken is,
//! by seeds that replay.
//!
//! Everything but the far end is the real thing: driver, fleet, slots, calls, runtimes, the pipes' reader and writer. A
//! fake takes the place of a keeper and its server. `MAINSTAY_SIM_SEED=n` runs one seed instead of all of a test.

mod dropping;
mod endings;
mod fairness;
mod fake;
mod further;
mod histories;
mod panics;
mod reload;
mod reshape;
mod script;
mod stale;
mod storms;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

pub(crate) use self::fake::of_tools as a_catalog;
pub(super) use self::script::{Calls, End, Obeys, Opening, Rng, Script};
pub(super) use self::world::World;
use super::opener::Opener;
use super::{Desk, Driver, Setting, ShutdownReport};
use crate::clock::Clock;
use crate::config::{GatewayConfig, ServerConfig};
use crate::error::CallError;
use crate::events::Events;
use crate::handle::ServerHandle;
use crate::publish::{Publisher, Shared};
use crate::request::{Answer, CallOptions, Request};

/// How long a shutdown of the simulation may take, in milliseconds.
const SHUTDOWN_MS: u64 = 15_000;

/// More virtual time than any history needs: reached only when something waits for ever.
const FOREVER: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A driver and what the tests look at.
struct Stage {
    desk: Desk,
    shared: Arc<Shared>,
    events: Arc<Events>,
}

impl Stage {
    /// Starts a driver whose connections come from `opener`.
    async fn start(
        opener: Box<dyn Opener>,
        seed: u64,
        servers: impl IntoIterator<Item = ServerConfig>,
    ) -> Self {
        Self::start_with_gate(opener, seed, 4, servers).await
    }

    async fn start_with_gate(
        opener: Box<dyn Opener>,
        seed: u64,
        start_gate: usize,
        servers: impl IntoIterator<Item = ServerConfig>,
    ) -> Self {
        let (publisher, shared) = Publisher::new();
        let events = Arc::new(Events::new(512));
        let desk = Driver::start(Setting {
            clock: Clock::start(),
            start_gate,
            gateway: Arc::new(ArcSwap::from_pointee(GatewayConfig {
                edge_patience_ms: 15_000,
                shutdown_ms: SHUTDOWN_MS,
                ..GatewayConfig::default()
            })),
            subscriptions_max: 16,
            seed,
            caps: crate::config::Limits::default(),
            opener,
            store: None,
            events: Arc::clone(&events),
            publisher,
        });
        for server in servers {
            desk.add(server, None).await.unwrap();
        }
        Self {
            desk,
            shared,
            events,
        }
    }

    fn server(&self, name: &str) -> ServerHandle {
        let place = self.desk.directory().find(name).unwrap();
        ServerHandle::new(place, self.desk.clone())
    }

    fn slot(&self, name: &str) -> Arc<crate::slot::Slot> {
        self.desk.directory().find(name).unwrap().slot
    }

    fn is_published(&self, name: &str) -> bool {
        self.shared.current().servers.contains_key(name)
    }

    async fn shut_down(&self) -> ShutdownReport {
        self.desk.shutdown(false).await
    }

    async fn until(&self, name: &str, state: &str) -> crate::status::ServerStatus {
        let server = self.server(name);
        let reached = server.wait_until(|status| status.state == state);
        match tokio::time::timeout(Duration::from_secs(3_600), reached).await {
            Ok(status) => status,
            Err(_) => panic!("{name} does not become {state}: {:?}", server.status()),
        }
    }
}

/// A call that the far end counts by its marker.
async fn call(
    server: &ServerHandle,
    marker: u64,
    total: Duration,
    patience: Duration,
) -> Result<Answer, CallError> {
    let params = format!("{{\"name\":\"work\",\"arguments\":{{\"marker\":{marker}}}}}");
    let options = CallOptions {
        total: Some(total),
        idle: Some(total / 2),
        patience: Some(patience),
        ..CallOptions::default()
    };
    server
        .request(Request::new("tools/call", Some(&params)), options)
        .await
}

/// Runs a body on virtual time. Whatever waits for ever fails here.
fn on_virtual_time<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        // The clock of suspends is a descriptor; nothing else here waits for one.
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        match tokio::time::timeout(FOREVER, body).await {
            Ok(done) => done,
            Err(_) => panic!("something waits for ever"),
        }
    })
}

/// Runs a body once per seed; the first failure says how to replay it.
fn for_seeds<F: Future<Output = ()>>(test: &str, seeds: u64, body: impl Fn(u64) -> F) {
    let only = std::env::var("MAINSTAY_SIM_SEED").ok();
    let only = only.map(|seed| seed.parse::<u64>().unwrap());
    let range = only.map_or(0..seeds, |seed| seed..seed + 1);
    for seed in range {
        let failed = catch_unwind(AssertUnwindSafe(|| on_virtual_time(body(seed)))).err();
        if let Some(cause) = failed {
            let words = cause
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| {
                    cause
                        .downcast_ref::<&str>()
                        .map(|words| (*words).to_owned())
                })
                .unwrap_or_default();
            panic!(
                "seed {seed}: {words}\nreplay: MAINSTAY_SIM_SEED={seed} cargo test -p mainstay --lib {test}"
            );
        }
    }
}

/// Nothing of Mainstay is left (law 6).
async fn assert_nothing_is_left(world: &World) {
    assert_no_task_is_left(world).await;
    assert_eq!(world.survivors(), Vec::<String>::new(), "groups are left");
}

/// No task is left in this runtime, and so no timer and no channel with an end in one.
async fn assert_no_task_is_left(world: &World) {
    // The tasks that were about to return.
    tokio::task::yield_now().await;
    world.assert_lawful();
    assert_eq!(world.tasks(), 0, "fakes are left behind");
    let alive = Handle::current().metrics().num_alive_tasks();
    assert_eq!(alive, 0, "tasks are left behind");
}
