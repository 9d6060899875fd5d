//! Further connections of a server on virtual time: who shares one, how many there are, and that all of them go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_core::failure::FailureKind;
use mainstay_core::lifecycle::effect::StopStep;
use tokio::task::JoinSet;

use super::dropping::polled_at_most;
use super::*;
use crate::config::{Protocol, Scope};
use crate::error::Refusal;
use crate::request::ClientFace;

/// What a client may declare.
const SETS: [&str; 5] = [
    "{}",
    r#"{"sampling":{}}"#,
    r#"{"roots":{}}"#,
    r#"{"elicitation":{"form":{}}}"#,
    r#"{"tasks":{}}"#,
];

fn face(capabilities: &str, client: Option<&str>) -> ClientFace {
    ClientFace {
        capabilities: capabilities.into(),
        client: client.map(Arc::from),
        ..ClientFace::default()
    }
}

fn config(max: usize, idle_ms: u64) -> ServerConfig {
    let mut config = ServerConfig::stdio("server", "fake");
    config.protocol = Protocol::Legacy;
    config.connections.max = max;
    config.connections.idle_ms = idle_ms;
    config
}

/// One call of one client, from finding its way to its answer.
async fn call_of(
    server: &ServerHandle,
    face: &ClientFace,
    marker: u64,
    limit: Duration,
) -> Result<Answer, CallError> {
    let own = server.for_client(face).await?;
    call(&own, marker, limit, limit).await
}

async fn nothing_is_left_beside(server: &ServerHandle) {
    let none = async {
        while !server.status().connections.is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(3_600), none)
        .await
        .unwrap_or_else(|_| panic!("{:?}", server.status().connections));
}

#[test]
fn law_1_a_caller_that_leaves_while_its_connection_opens_changes_nothing_for_others() {
    let mut finished = false;
    let mut polls = 0;
    while !finished {
        assert!(polls < 100, "it never ends");
        finished = on_virtual_time(async {
            let world = World::new(1, |_, _, _| Script::default());
            let stage = Stage::start(world.opener(), 1, [config(1, 60_000)]).await;
            stage.until("server", "connected").await;
            let server = stage.server("server");
            let (sampling, roots) = (face(SETS[1], None), face(SETS[2], None));
            let limit = Duration::from_secs(30);
            // There is one place, and it is taken by somebody who does not use it.
            let taken = call_of(&server, &roots, 1, limit).await;
            assert!(taken.is_ok(), "{taken:?}");
            let left = polled_at_most(polls, call_of(&server, &sampling, 2, limit)).await;
            for marker in [3, 4] {
                let served = call_of(&server, &sampling, marker, limit).await;
                assert!(served.is_ok(), "{polls}: {served:?}");
            }
            assert!(world.executions(2) <= 1, "law 16");
            assert_eq!(world.opens("server#2"), 1, "one for all of them");
            nothing_is_left_beside(&server).await;
            assert_eq!(world.survivors(), ["server"]);
            stage.shut_down().await;
            assert_nothing_is_left(&world).await;
            left.is_some()
        });
        polls += 1;
    }
    assert!(polls > 3, "it awaits");
}

#[test]
fn law_2_a_place_is_given_on_when_everything_of_its_former_holder_is_gone() {
    on_virtual_time(async {
        // Nothing but a kill ends them, and they need a second to go.
        let world = World::new(1, |_, _, _| Script {
            obeys: Obeys {
                step: Some(StopStep::Kill),
                kills: 1,
                ms: 0,
            },
            remains_ms: 1_000,
            ..Script::default()
        });
        let stage = Stage::start(world.opener(), 1, [config(2, 600_000)]).await;
        stage.until("server", "connected").await;
        let server = stage.server("server");
        let limit = Duration::from_secs(60);
        let mut calls = JoinSet::new();
        for (marker, set) in (0..).zip(SETS) {
            let (server, face) = (server.clone(), face(set, None));
            // They come one after the other, so that there is always one that is not in use.
            calls.spawn(async move {
                tokio::time::sleep(Duration::from_secs(marker)).await;
                let started = tokio::time::Instant::now();
                let answer = call_of(&server, &face, marker, limit).await;
                (answer, started.elapsed())
            });
        }
        while let Some(ended) = calls.join_next().await {
            let (answer, took) = ended.unwrap();
            assert!(answer.is_ok(), "{answer:?} after {took:?}");
        }
        let opens = |name: String| world.opens(&name);
        assert_eq!([1, 2, 3, 4].map(|n| opens(format!("server#{n}"))), [1; 4]);
        assert_eq!(server.status().connections.len(), 2);
        stage.shut_down().await;
        assert_nothing_is_left(&world).await;
    });
}

#[test]
fn a_connection_that_has_nothing_to_close_makes_room_at_once() {
    on_virtual_time(async {
        let world = World::new(1, |_, _, _| Script::default());
        let stage = Stage::start(world.opener(), 1, [config(1, 600_000)]).await;
        stage.until("server", "connected").await;
        let server = stage.server("server");
        let limit = Duration::from_secs(5);
        let answered = call_of(&server, &face(SETS[1], None), 1, limit).await;
        assert!(answered.is_ok());
        // Parked: there is no process, and nothing will ever say that one has gone.
        let own = stage.slot("server").family.all().remove(0);
        let generation = own.slot.current.load().as_ref().unwrap().generation;
        own.reports
            .input(mainstay_core::lifecycle::input::Input::Exited {
                generation,
                failure: FailureKind::NeedsLogin.into(),
            })
            .await;
        own.reports
            .input(mainstay_core::lifecycle::input::Input::Gone { generation })
            .await;
        let mut view = own.slot.view.subscribe();
        let parked = mainstay_core::lifecycle::status::StateWord::Parked;
        view.wait_for(|view| view.status.state == parked)
            .await
            .unwrap();
        let answered = call_of(&server, &face(SETS[2], None), 2, limit).await;
        assert!(answered.is_ok(), "{answered:?}");
        stage.shut_down().await;
    });
}

#[test]
fn law_6_a_shutdown_tells_those_who_wait_for_a_place_and_leaves_no_connection() {
    on_virtual_time(async {
        let world = World::new(1, |_, _, _| Script {
            obeys: Obeys {
                step: Some(StopStep::Kill),
                kills: 1,
                ms: 0,
            },
            ..Script::default()
        });
        let stage = Stage::start(world.opener(), 1, [config(1, 600_000)]).await;
        stage.until("server", "connected").await;
        let server = stage.server("server");
        let limit = Duration::from_secs(60);
        let first = call_of(&server, &face(SETS[1], None), 1, limit).await;
        assert!(first.is_ok());
        let second = face(SETS[2], None);
        let waits = call_of(&server, &second, 2, limit);
        let ended = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stage.shut_down().await
        };
        let (refused, _) = tokio::join!(waits, ended);
        assert!(
            matches!(refused, Err(CallError::Refused(Refusal::ShuttingDown))),
            "{refused:?}"
        );
        assert_nothing_is_left(&world).await;
    });
}

/// What clients and operators do to one server for a while.
async fn trouble(server: &ServerHandle, seed: u64, markers: &Arc<AtomicU64>) {
    let mut rng = Rng(seed);
    let mut tasks = JoinSet::new();
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(rng.below(500))).await;
        let server = server.clone();
        match rng.below(40) {
            0 => server.restart().await.unwrap(),
            1 => server.disable().await.unwrap(),
            2 | 3 => server.enable().await.unwrap(),
            _ => {
                let set = SETS[usize::try_from(rng.below(5)).unwrap()];
                let name = ["a", "b", "c", "d"][usize::try_from(rng.below(4)).unwrap()];
                let face = face(set, rng.percent(80).then_some(name));
                let marker = markers.fetch_add(1, Ordering::Relaxed);
                let limit = Duration::from_millis(1 + rng.below(40_000));
                let stays = rng.percent(70);
                let polls = usize::try_from(rng.below(12)).unwrap();
                tasks.spawn(async move {
                    let called = call_of(&server, &face, marker, limit);
                    if stays {
                        // Twice the limit: it is told when it is over, and never later.
                        let bound = Duration::from_secs(20) + limit * 2;
                        let ended = tokio::time::timeout(bound, called).await;
                        assert!(ended.is_ok(), "law 17: a call outlives its deadline");
                    } else {
                        polled_at_most(polls, called).await;
                    }
                });
            }
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

#[test]
fn laws_1_to_6_hold_for_all_connections_of_a_server_in_any_weather() {
    let test = "laws_1_to_6_hold_for_all_connections_of_a_server_in_any_weather";
    for_seeds(test, 40, |seed| async move {
        let world = World::new(seed, |_, _, rng| Script::drawn(rng));
        let mut rng = Rng(seed);
        let mut config = config(
            1 + usize::try_from(rng.below(4)).unwrap(),
            1 + rng.below(20_000),
        );
        if rng.percent(50) {
            config.scope = Scope::Session;
        }
        config.connections.lanes = 1 + usize::try_from(rng.below(3)).unwrap();
        let stage = Stage::start(world.opener(), seed, [config]).await;
        let server = stage.server("server");
        let asked = rng.percent(50);
        let family = Arc::clone(&stage.slot("server").family);
        family.asked.store(asked, Ordering::Release);
        let markers = Arc::new(AtomicU64::new(0));
        trouble(&server, seed, &markers).await;
        world.assert_lawful();
        for marker in 0..markers.load(Ordering::Relaxed) {
            assert!(world.executions(marker) <= 1, "law 16: {marker}");
        }
        // The weather clears: everybody is served again, and what nobody uses goes.
        world.calm_down();
        server.enable().await.unwrap();
        server.restart().await.unwrap();
        stage.until("server", "connected").await;
        for (marker, set) in (1_000_000..).zip(SETS) {
            let limit = Duration::from_secs(120);
            let served = call_of(&server, &face(set, Some("z")), marker, limit).await;
            assert!(served.is_ok(), "{served:?} {:?}", server.status());
        }
        nothing_is_left_beside(&server).await;
        stage.shut_down().await;
        world.forget_the_late().await;
        assert_nothing_is_left(&world).await;
    });
}
