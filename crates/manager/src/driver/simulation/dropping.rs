//! Callers that leave at every possible moment: nothing of that reaches anybody else (law 1).

use std::pin::pin;
use std::task::Poll;

/// Polls a future at most so many times and then drops it: every await point of it is reached by some number.
pub(super) async fn polled_at_most<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

use std::sync::Arc;
use std::time::Duration;

use mainstay_core::failure::FailureKind;
use mainstay_core::lifecycle::effect::StopStep;

use super::*;

/// The states that a caller may find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Connecting,
    Connected,
    Draining,
    Backoff,
    Parked,
    Disabled,
    Idle,
}

const STATES: [Found; 7] = [
    Found::Connecting,
    Found::Connected,
    Found::Draining,
    Found::Backoff,
    Found::Parked,
    Found::Disabled,
    Found::Idle,
];

/// What a caller may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Call,
    Disable,
    Enable,
    Restart,
    Shutdown,
}

const VERBS: [Asked; 5] = [
    Asked::Call,
    Asked::Disable,
    Asked::Enable,
    Asked::Restart,
    Asked::Shutdown,
];

/// A server in that state, and a neighbour that is well.
async fn staged(found: Found) -> (Arc<World>, Stage) {
    let world = World::new(1, move |name, _, _| {
        let well = Script::default();
        if name == "neighbour" {
            return well;
        }
        match found {
            Found::Connecting => Script {
                phase_ms: 4_000,
                ..well
            },
            Found::Draining => Script {
                obeys: Obeys {
                    step: Some(StopStep::Kill),
                    kills: 1,
                    ms: 10,
                },
                ..well
            },
            Found::Backoff => Script {
                opening: Opening::Fails(FailureKind::Unreachable),
                ..well
            },
            Found::Parked => Script {
                opening: Opening::Fails(FailureKind::NeedsLogin),
                ..well
            },
            Found::Connected | Found::Disabled | Found::Idle => well,
        }
    });
    let mut server = ServerConfig::stdio("server", "fake");
    server.enabled = found != Found::Disabled;
    if found == Found::Idle {
        server.startup = crate::config::Startup::Lazy;
    }
    let neighbour = ServerConfig::http("neighbour", "http://127.0.0.1:1/mcp");
    let stage = Stage::start(world.opener(), 1, [server, neighbour]).await;
    stage.until("neighbour", "connected").await;
    let (first, then) = match found {
        Found::Connecting => ("connecting", None),
        Found::Connected => ("connected", None),
        Found::Draining => ("connected", Some("draining")),
        Found::Backoff => ("backoff", None),
        Found::Parked => ("parked", None),
        Found::Disabled => ("disabled", None),
        Found::Idle => ("idle", None),
    };
    stage.until("server", first).await;
    if let Some(then) = then {
        stage.server("server").restart().await.unwrap();
        stage.until("server", then).await;
    }
    (world, stage)
}

/// Asks, and leaves after so many polls. Whether it was answered before.
async fn ask(stage: &Stage, asked: Asked, polls: usize) -> bool {
    let server = stage.server("server");
    let limit = Duration::from_secs(30);
    match asked {
        Asked::Call => polled_at_most(polls, call(&server, 1, limit, limit))
            .await
            .is_some(),
        Asked::Disable => polled_at_most(polls, server.disable()).await.is_some(),
        Asked::Enable => polled_at_most(polls, server.enable()).await.is_some(),
        Asked::Restart => polled_at_most(polls, server.restart()).await.is_some(),
        Asked::Shutdown => polled_at_most(polls, stage.shut_down()).await.is_some(),
    }
}

/// After whatever a caller left behind, everybody else gets what they ask for.
async fn others_are_served(world: &World, stage: &Stage) {
    world.calm_down();
    let limit = Duration::from_secs(60);
    let neighbour = call(&stage.server("neighbour"), 2, limit, limit).await;
    assert!(neighbour.is_ok(), "the neighbour: {neighbour:?}");
    let server = stage.server("server");
    server.enable().await.unwrap();
    server.restart().await.unwrap();
    let served = call(&server, 3, limit, limit).await;
    assert!(served.is_ok(), "{served:?}, {:?}", server.status());
}

#[test]
fn law_1_f150_a_caller_that_leaves_at_any_await_point_changes_nothing_for_others() {
    for found in STATES {
        for asked in VERBS {
            let mut finished = false;
            let mut polls = 0;
            while !finished {
                assert!(polls < 100, "{asked:?} while {found:?} never ends");
                finished = on_virtual_time(async {
                    let (world, stage) = staged(found).await;
                    let finished = ask(&stage, asked, polls).await;
                    if asked == Asked::Disable && polls > 0 {
                        // It was given before its caller left, so it is in force (law 5).
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        let state = stage.server("server").status().state;
                        assert!(
                            matches!(state, "disabled" | "draining"),
                            "{found:?}: {state}"
                        );
                        assert!(!stage.is_published("server"));
                    }
                    // A shutdown that was begun goes on by itself; everything else leaves a working Mainstay.
                    if asked != Asked::Shutdown || polls == 0 {
                        others_are_served(&world, &stage).await;
                    }
                    let report = stage.shut_down().await;
                    assert_eq!(
                        report.left,
                        Vec::<String>::new(),
                        "{asked:?} {found:?} {polls}"
                    );
                    assert!(world.executions(1) <= 1, "law 16");
                    assert_nothing_is_left(&world).await;
                    finished
                });
                polls += 1;
            }
            assert!(polls > 1, "{asked:?} while {found:?} awaits nothing");
        }
    }
}

#[test]
fn law_1_law_6_a_shutdown_whose_caller_left_goes_on() {
    on_virtual_time(async {
        let (world, stage) = staged(Found::Connected).await;
        assert_eq!(polled_at_most(1, stage.shut_down()).await, None);
        let slot = stage.slot("server");
        let mut view = slot.view.subscribe();
        let ended = view.wait_for(|view| {
            view.status.state == mainstay_core::lifecycle::status::StateWord::Disabled
        });
        tokio::time::timeout(Duration::from_secs(20), ended)
            .await
            .expect("it goes on")
            .unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_nothing_is_left(&world).await;
    });
}

#[test]
fn law_1_the_last_handle_dropped_ends_everything() {
    on_virtual_time(async {
        let (world, stage) = staged(Found::Draining).await;
        drop(stage);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_nothing_is_left(&world).await;
    });
}
