//! Shutdown: in every state and during every transition, with everything stuck, twice, and in time (law 6).

use std::sync::Arc;
use std::time::Duration;

use mainstay_core::failure::FailureKind;
use mainstay_core::lifecycle::effect::StopStep;
use tokio::time::{Instant, sleep};

use super::*;
use crate::error::Refusal;

fn stubborn(step: Option<StopStep>) -> Script {
    Script {
        obeys: Obeys {
            step,
            kills: 1,
            ms: 1,
        },
        ..Script::default()
    }
}

fn named(count: usize) -> Vec<ServerConfig> {
    let name = |n: usize| format!("s{n:02}");
    (0..count)
        .map(|n| match n % 2 {
            0 => ServerConfig::stdio(name(n), "fake"),
            _ => ServerConfig::http(name(n), "http://127.0.0.1:1/mcp"),
        })
        .collect()
}

async fn all_connected(stage: &Stage, count: usize) {
    for n in 0..count {
        stage.until(&format!("s{n:02}"), "connected").await;
    }
}

#[test]
fn law_6_f71_f72_f224_a_shutdown_at_any_moment_of_any_life_ends_it_and_opens_nothing() {
    // Opening, serving, dying, waiting, opening again, failing, parked: about four seconds, in steps of 45 ms.
    for moment in 0..90 {
        on_virtual_time(async {
            let world = World::new(moment, |name, generation, _| match name {
                "s00" | "s01" => Script {
                    phase_ms: 100,
                    life_ms: Some(200),
                    remains_ms: 100,
                    ..Script::default()
                },
                "s02" | "s03" => Script {
                    opening: Opening::Fails(FailureKind::Unreachable),
                    phase_ms: 30 * generation,
                    ..Script::default()
                },
                _ => Script {
                    opening: Opening::Hangs,
                    ..Script::default()
                },
            });
            let stage = Stage::start(world.opener(), moment, named(6)).await;
            sleep(Duration::from_millis(45 * moment)).await;
            let report = stage.shut_down().await;
            // `World::spawned` asserts that nothing is opened once the shutdown has begun.
            assert_nothing_is_left(&world).await;
            assert_eq!(report.killed, Vec::<String>::new(), "moment {moment}");
            assert_eq!(report.left, Vec::<String>::new(), "moment {moment}");
            let opens = world.all_opens().len();
            sleep(Duration::from_secs(3_600)).await;
            assert_eq!(world.all_opens().len(), opens, "F71: nothing comes back");
        });
    }
}

#[test]
fn law_6_f76_f220_stubborn_servers_are_killed_in_parallel_and_named() {
    on_virtual_time(async {
        let world = World::new(1, |name, _, _| match name {
            "s03" | "s04" | "s07" => Script {
                remains_ms: 400,
                ..stubborn(Some(StopStep::Kill))
            },
            "s05" => stubborn(Some(StopStep::Terminate)),
            _ => Script::default(),
        });
        let stage = Stage::start(world.opener(), 1, named(10)).await;
        all_connected(&stage, 10).await;
        let began = Instant::now();
        let report = stage.shut_down().await;
        let took = began.elapsed();
        assert_eq!(report.killed, ["s03", "s04", "s07"]);
        assert_eq!(report.left, Vec::<String>::new());
        // Close 3 s, terminate 3 s, and the kill; not three times that.
        assert!(took < Duration::from_secs(7), "{took:?}");
        // F76: the groups are gone when it returns, not some time later.
        assert_nothing_is_left(&world).await;
        assert_eq!(
            stage.shut_down().await,
            report,
            "the second caller is told the same"
        );
    });
}

#[test]
fn law_6_f220_what_no_kill_ends_is_left_behind_in_time_and_named() {
    on_virtual_time(async {
        let world = World::new(1, |name, _, _| match name {
            "s02" | "s03" => stubborn(None),
            _ => Script::default(),
        });
        let stage = Stage::start(world.opener(), 1, named(6)).await;
        all_connected(&stage, 6).await;
        let limit = Duration::from_secs(600);
        let stuck = tokio::spawn({
            let server = stage.server("s02");
            async move { call(&server, 1, limit, limit).await }
        });
        sleep(Duration::from_secs(1)).await;
        let began = Instant::now();
        let report = stage.shut_down().await;
        assert!(began.elapsed() <= Duration::from_millis(SHUTDOWN_MS));
        assert_eq!(report.left, ["s02", "s03"]);
        assert_eq!(report.killed, ["s02", "s03"]);
        stuck.await.unwrap().expect("it was answered long before");
        assert_no_task_is_left(&world).await;
    });
}

#[test]
fn law_6_f221_running_calls_get_their_drain_time_and_are_counted() {
    on_virtual_time(async {
        let world = World::new(1, |name, _, _| Script {
            calls: match name {
                "s00" => Calls::Answers { ms: 4_000 },
                _ => Calls::Ignores,
            },
            ..Script::default()
        });
        let stage = Stage::start(world.opener(), 1, named(2)).await;
        all_connected(&stage, 2).await;
        let limit = Duration::from_secs(600);
        let calls: Vec<_> = [("s00", 1), ("s01", 2), ("s01", 3)]
            .map(|(name, marker)| {
                let server = stage.server(name);
                tokio::spawn(async move { call(&server, marker, limit, limit).await })
            })
            .into();
        sleep(Duration::from_millis(100)).await;
        let report = stage.shut_down().await;
        assert_eq!((report.calls_finished, report.calls_cut), (1, 2));
        let mut outcomes = Vec::new();
        for call in calls {
            outcomes.push(call.await.unwrap().map_err(|error| error.class()).err());
        }
        assert_eq!(outcomes, [None, Some("unknown"), Some("unknown")]);
        assert_nothing_is_left(&world).await;
    });
}

fn is_shutting_down<T>(outcome: &Result<T, CallError>) -> bool {
    matches!(outcome, Err(CallError::Refused(Refusal::ShuttingDown)))
}

#[test]
fn law_6_f222_new_calls_are_refused_at_once_while_old_ones_drain() {
    on_virtual_time(async {
        let world = World::new(1, |name, _, _| Script {
            opening: if name == "hanging" {
                Opening::Hangs
            } else {
                Opening::Well
            },
            calls: Calls::Answers { ms: 5_000 },
            ..Script::default()
        });
        let mut narrow = ServerConfig::stdio("narrow", "fake");
        narrow.concurrency = 1;
        let wide = ServerConfig::http("wide", "http://127.0.0.1:1/mcp");
        let hanging = ServerConfig::stdio("hanging", "fake");
        let servers = [narrow, wide, hanging];
        let stage = Arc::new(Stage::start(world.opener(), 1, servers).await);
        let limit = Duration::from_secs(600);
        let mut running = Vec::new();
        // One that waits for a connection.
        let hanging = stage.server("hanging");
        let mut waiting = vec![tokio::spawn(async move {
            call(&hanging, 4, limit, limit).await
        })];
        for (marker, name) in [(1, "narrow"), (2, "wide"), (3, "narrow")] {
            stage.until(name, "connected").await;
            let server = stage.server(name);
            let call = tokio::spawn(async move { call(&server, marker, limit, limit).await });
            // The third finds its server busy and waits for its turn.
            if marker == 3 {
                &mut waiting
            } else {
                &mut running
            }
            .push(call);
            sleep(Duration::from_millis(10)).await;
        }
        let ending = tokio::spawn({
            let stage = Arc::clone(&stage);
            async move { stage.shut_down().await }
        });
        sleep(Duration::from_millis(10)).await;
        let began = Instant::now();
        for name in ["narrow", "wide"] {
            let refused = call(&stage.server(name), 9, limit, limit).await;
            assert!(is_shutting_down(&refused), "{refused:?}");
        }
        for call in waiting {
            let refused = call.await.unwrap();
            assert!(is_shutting_down(&refused), "{refused:?}");
        }
        let late = ServerConfig::stdio("late", "fake");
        let added = stage.desk.add(late, None).await;
        assert!(added.is_err(), "F224: nothing new");
        assert!(
            began.elapsed() < Duration::from_millis(100),
            "not after the drain"
        );
        for call in running {
            assert!(
                call.await.unwrap().is_ok(),
                "F221: an accepted call is not lost"
            );
        }
        ending.await.unwrap();
        assert_eq!((world.executions(3), world.executions(9)), (0, 0));
        assert_nothing_is_left(&world).await;
    });
}

#[test]
fn law_6_f223_a_second_request_kills_at_once_whatever_the_first_was_waiting_for() {
    for waited_ms in [0, 1, 500, 9_999, 10_001, 13_500] {
        on_virtual_time(async {
            let world = World::new(1, |name, _, _| Script {
                calls: Calls::Ignores,
                ..stubborn(match name {
                    "s00" | "s01" => Some(StopStep::Kill),
                    _ => Some(StopStep::Close),
                })
            });
            let stage = Arc::new(Stage::start(world.opener(), 1, named(4)).await);
            all_connected(&stage, 4).await;
            let limit = Duration::from_secs(600);
            for n in 0..4 {
                let server = stage.server(&format!("s{n:02}"));
                tokio::spawn(async move { call(&server, n, limit, limit).await });
            }
            sleep(Duration::from_millis(10)).await;
            let ending = tokio::spawn({
                let stage = Arc::clone(&stage);
                async move { stage.shut_down().await }
            });
            sleep(Duration::from_millis(waited_ms)).await;
            let began = Instant::now();
            stage.desk.hurry();
            let report = ending.await.unwrap();
            assert!(began.elapsed() <= Duration::from_millis(50), "{waited_ms}");
            assert!(report.killed.starts_with(&["s00".into(), "s01".into()]));
            assert_nothing_is_left(&world).await;
        });
    }
}

#[test]
fn law_6_f76_f220_the_time_for_everything_outranks_the_time_of_each() {
    on_virtual_time(async {
        let world = World::new(1, |name, _, _| match name {
            "s02" | "s03" => stubborn(Some(StopStep::Kill)),
            _ => Script::default(),
        });
        let mut servers = named(4);
        for server in &mut servers {
            // An hour of manners each, which is more than there is.
            server.stop.close_ms = 3_600_000;
        }
        let stage = Stage::start(world.opener(), 1, servers).await;
        all_connected(&stage, 4).await;
        let began = Instant::now();
        let report = stage.shut_down().await;
        assert!(began.elapsed() < Duration::from_millis(SHUTDOWN_MS));
        assert_eq!(report.killed, ["s02", "s03"]);
        assert_eq!(report.left, Vec::<String>::new());
        assert_nothing_is_left(&world).await;
    });
}
