//! Many clients of both eras on five real servers at once: calls, progress, questions, subscriptions, cancels and faults mixed at
//! random from a seed. Every answer goes to the client that asked, nothing leaks, nothing is lost, nothing runs twice.
//!
//! The seed decides what each client does and what breaks when; how it interleaves is up to the machine. `CROWD_SEED` repeats
//! one, `scripts/crowd` runs the long form.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test code: a failure here is the test's failure"
)]

#[path = "crowd/client.rs"]
mod client;
#[path = "crowd/faults.rs"]
mod faults;
#[path = "crowd/loot.rs"]
mod loot;
#[path = "fidelity/plant.rs"]
#[allow(dead_code, reason = "only its random numbers are used here")]
mod plant;
#[path = "serve/support.rs"]
#[allow(dead_code, reason = "shared with the other tests of the gateway")]
mod support;
#[path = "fidelity/tree.rs"]
#[allow(dead_code, reason = "belongs to the random numbers")]
mod tree;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::{CAPABILITIES, Tally, Visitor};
use faults::Servers;
use loot::{Door, Loot};
use plant::Seeded;
use support::{PATIENCE, World, wait_until};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// Forty clients for some seconds.
#[tokio::test(flavor = "multi_thread")]
async fn law_16_law_19_law_27_a_crowd_gets_its_own_answers_while_servers_die() {
    crowd(
        setting("CROWD_CLIENTS", 40),
        setting("CROWD_SECONDS", 6),
        false,
    )
    .await;
}

/// The same of four users, on servers that have a connection for all, for each user and for each session. Everybody tries
/// what others have left lying about.
#[tokio::test(flavor = "multi_thread")]
async fn f256_law_31_users_in_a_crowd_get_nothing_of_each_other_while_servers_die() {
    crowd(
        setting("CROWD_CLIENTS", 32),
        setting("CROWD_SECONDS", 6),
        true,
    )
    .await;
}

/// The long form of that.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute; see scripts/crowd"]
async fn two_hundred_clients_of_four_users() {
    crowd(
        setting("CROWD_CLIENTS", 200),
        setting("CROWD_SECONDS", 60),
        true,
    )
    .await;
}

/// The long form, for `scripts/crowd`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute; see scripts/crowd"]
async fn two_hundred_clients() {
    crowd(
        setting("CROWD_CLIENTS", 200),
        setting("CROWD_SECONDS", 60),
        false,
    )
    .await;
}

async fn crowd(clients: u64, seconds: u64, people: bool) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = setting("CROWD_SEED", now.as_secs());
    eprintln!("CROWD_SEED={seed} CROWD_CLIENTS={clients} CROWD_SECONDS={seconds}");
    let mut seeded = Seeded(seed);
    let mut servers = Servers::start(people).await;
    let world = World::start(servers.configs()).await;
    let door = if people {
        servers.are_known_to_everybody(&world, CAPABILITIES).await;
        Door {
            address: world.embedded().await,
            loot: Some(Loot::default()),
        }
    } else {
        Door {
            address: world.address,
            loot: None,
        }
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let mut visitors = Vec::new();
    for number in 0..clients {
        let visitor = Visitor::enter(&door, number, Seeded(seeded.next())).await;
        visitors.push(tokio::spawn(visitor.stay(deadline)));
    }
    servers
        .break_until(&world, deadline, Seeded(seeded.next()))
        .await;
    let mut tally = Tally::default();
    for visitor in visitors {
        // Longer than any call may take: the servers are all well again by now.
        let left = tokio::time::timeout(PATIENCE * 3, visitor).await;
        let left = left.unwrap_or_else(|_| panic!("seed {seed}: a call that never ends"));
        tally.add(left.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
    }
    eprintln!("{tally}");
    tally.judge(&servers.markers(), seed);
    if people {
        assert!(tally.answered("steal") > 0, "seed {seed}: nobody stole");
        servers.judge_isolation(seed);
    }
    wait_until("sessions, subscriptions and calls are gone", || {
        world.gateway.session_count() == 0
            && world.gateway.subscription_count() == 0
            && world
                .manager
                .servers()
                .iter()
                .all(|server| server.status().in_flight == 0)
    })
    .await;
    world.end().await;
}
