//! Many servers at once: the start gate holds, and nobody waits for somebody else's trouble (laws 10 and 27).

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::*;

const GATE: usize = 4;

fn fleet(count: usize) -> Vec<ServerConfig> {
    (0..count)
        .map(|n| ServerConfig::stdio(format!("s{n:02}"), "fake"))
        .collect()
}

#[test]
fn law_10_law_27_f6_thirty_servers_that_die_at_once_come_back_through_the_start_gate() {
    on_virtual_time(async {
        // A life of 90 s is proven, so each of them may come back at once.
        let world = World::new(1, |_, generation, _| Script {
            phase_ms: 100,
            life_ms: (generation == 1).then_some(90_000),
            remains_ms: 0,
            ..Script::default()
        });
        let stage = Stage::start_with_gate(world.opener(), 1, GATE, fleet(30)).await;
        let started = Instant::now();
        for n in 0..30 {
            stage.until(&format!("s{n:02}"), "connected").await;
        }
        // Eight rounds of four, 300 ms each: the gate neither leaks nor idles.
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(8 * 300), "{took:?}");
        assert!(took < Duration::from_millis(8 * 300 + 300), "{took:?}");
        sleep(Duration::from_secs(95)).await;
        for n in 0..30 {
            let name = format!("s{n:02}");
            stage.until(&name, "connected").await;
            let status = stage.server(&name).status();
            assert_eq!(status.generation, 2, "one crash, one reconnect: {status:?}");
            assert_eq!(status.counts.opens, 2, "F145");
        }
        let opens = world.all_opens();
        assert_eq!(opens.len(), 60);
        for open in &opens {
            let within = |other: &&world::Open| {
                other.at <= open.at && open.at - other.at < Duration::from_millis(300)
            };
            let under_way = opens.iter().filter(within).count();
            assert!(
                under_way <= GATE,
                "{under_way} opens at once at {:?}",
                open.at
            );
        }
        stage.shut_down().await;
        assert_nothing_is_left(&world).await;
    });
}

#[test]
fn law_27_f154_one_black_hole_among_fifty_delays_nobody() {
    on_virtual_time(async {
        let world = World::new(1, |name, generation, _| match name {
            "s00" => Script {
                opening: Opening::Hangs,
                obeys: Obeys {
                    step: None,
                    kills: 1,
                    ms: 0,
                },
                ..Script::default()
            },
            _ => Script {
                phase_ms: 100,
                life_ms: (generation == 1).then_some(90_000),
                ..Script::default()
            },
        });
        let stage = Stage::start_with_gate(world.opener(), 1, GATE, fleet(50)).await;
        let started = Instant::now();
        for n in 1..50 {
            stage.until(&format!("s{n:02}"), "connected").await;
            // Being published does not wait for it either.
            assert!(stage.is_published(&format!("s{n:02}")));
        }
        // 49 servers through the three places that the black hole leaves, 300 ms each.
        let took = started.elapsed();
        assert!(took < Duration::from_millis(17 * 300 + 300), "{took:?}");
        assert_ne!(stage.server("s00").status().state, "connected");
        let limit = Duration::from_secs(5);
        for n in 1..50 {
            let began = Instant::now();
            let answer = call(&stage.server(&format!("s{n:02}")), n, limit, limit).await;
            assert!(answer.is_ok() && began.elapsed() < Duration::from_millis(50));
        }
        // All the others die at once while it still hangs, on its way out by now.
        sleep(Duration::from_secs(95)).await;
        for n in 1..50 {
            stage.until(&format!("s{n:02}"), "connected").await;
            assert_eq!(stage.server(&format!("s{n:02}")).status().generation, 2);
        }
        let began = Instant::now();
        let report = stage.shut_down().await;
        assert!(began.elapsed() <= Duration::from_millis(SHUTDOWN_MS));
        assert_eq!(report.left, ["s00"], "F220: only the one that nothing ends");
    });
}

#[test]
fn law_9_f153_a_revived_server_gets_one_attempt_however_many_calls_want_it() {
    on_virtual_time(async {
        let world = World::new(1, |_, _, _| Script {
            opening: Opening::Fails(mainstay_core::failure::FailureKind::Unreachable),
            phase_ms: 1,
            ..Script::default()
        });
        let stage = Stage::start(world.opener(), 1, fleet(1)).await;
        stage.until("s00", "parked").await;
        let opens = world.opens("s00");
        assert_eq!(opens, 6, "law 9: budget + 1 attempts");
        sleep(Duration::from_secs(11)).await;
        let limit = Duration::from_secs(60);
        let server = stage.server("s00");
        let calls: Vec<_> = (0..100)
            .map(|marker| {
                let server = server.clone();
                tokio::spawn(async move { call(&server, marker, limit, limit).await })
            })
            .collect();
        let began = Instant::now();
        for call in calls {
            assert!(call.await.unwrap().is_err());
        }
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "F152: refused, not queued"
        );
        sleep(Duration::from_secs(5)).await;
        assert_eq!(world.opens("s00"), opens + 1, "F145, F153: one trial");
        stage.shut_down().await;
        assert_nothing_is_left(&world).await;
    });
}
