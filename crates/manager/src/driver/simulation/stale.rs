//! Messages of generations that are over (or never were): counted, and otherwise nothing (law 3).

use std::sync::Arc;

use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::ids::Generation;
use mainstay_core::lifecycle::input::{Input, Phase, Proof};
use mainstay_core::time::Time;
use tokio::time::{Duration, sleep};

use super::*;
use crate::runtime::report::Report;

fn all_of(generation: Generation) -> Vec<Input> {
    let failure = || Failure::new(FailureKind::Unreachable);
    vec![
        Input::Phase {
            generation,
            phase: Phase::List,
        },
        Input::Life { generation },
        Input::Opened { generation },
        Input::OpenFailed {
            generation,
            failure: failure(),
        },
        Input::Exited {
            generation,
            failure: failure(),
        },
        Input::SessionLost { generation },
        Input::ServerClosing { generation },
        Input::Drained { generation },
        Input::Gone { generation },
        Input::Proof {
            generation,
            proof: Proof::ServedCall,
        },
        Input::Traffic {
            generation,
            at: Time(1),
        },
        Input::ProbeMissed { generation },
        Input::Suspect { generation },
        Input::Unused { generation },
    ]
}

#[test]
fn law_3_f146_f147_f149_stale_reports_change_nothing_and_are_counted() {
    for name in ["pipes", "posts"] {
        on_virtual_time(async {
            let world = World::new(1, |_, generation, _| Script {
                life_ms: (generation == 1).then_some(100),
                ..Script::default()
            });
            let servers = [
                ServerConfig::stdio("pipes", "fake"),
                ServerConfig::http("posts", "http://127.0.0.1:1/mcp"),
            ];
            let stage = Stage::start(world.opener(), 1, servers).await;
            stage.until(name, "connected").await;
            let old = stage.slot(name).current.load_full().unwrap();
            let server = stage.server(name);
            let second = |status: &crate::status::ServerStatus| {
                status.generation == 2 && status.state == "connected"
            };
            server.wait_until(second).await;
            // Until the old one is gone for good.
            sleep(Duration::from_secs(20)).await;
            let slot = stage.slot(name);
            let before = slot.view.borrow().clone();
            let current = slot.current.load_full().unwrap();
            let version = stage.shared.current().version;
            let reports = stage.desk.directory().find(name).unwrap().reports;
            let mut sent = 0;
            for generation in [Generation(1), Generation(99)] {
                for input in all_of(generation) {
                    reports.input(input).await;
                    sent += 1;
                }
                let catalog = Arc::new(super::fake::catalog("another"));
                reports
                    .send(Report::Opened {
                        generation,
                        runtime: Arc::clone(&old),
                        catalog: Some(Arc::clone(&catalog)),
                    })
                    .await;
                sent += 1;
                reports
                    .send(Report::Listed {
                        generation,
                        catalog,
                    })
                    .await;
            }
            // Virtual time only moves when the driver has nothing left to read.
            sleep(Duration::from_millis(1)).await;
            let after = slot.view.borrow().clone();
            assert!(Arc::ptr_eq(&current, &slot.current.load_full().unwrap()));
            assert_eq!(stage.shared.current().version, version, "F147");
            let counted = after.status.stale;
            let mut told = after.status.clone();
            told.stale = before.status.stale;
            assert_eq!(told, before.status, "nothing but the count of them");
            assert_eq!(after.last_failure, before.last_failure);
            assert_eq!(slot.counters.read().stale, 2, "stale listings are counted");
            assert_eq!(
                counted - before.status.stale,
                sent,
                "stale reports are counted"
            );
            let limit = Duration::from_secs(30);
            assert!(call(&server, 1, limit, limit).await.is_ok());
            stage.shut_down().await;
            assert_nothing_is_left(&world).await;
        });
    }
}
