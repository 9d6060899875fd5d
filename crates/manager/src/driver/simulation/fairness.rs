//! A flooded driver: deadlines, reports and orders all get their turn (laws 17 and 27).

use std::sync::Arc;
use std::time::Duration;

use mainstay_core::ids::Generation;
use mainstay_core::lifecycle::input::Input;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;

/// What floods.
#[derive(Debug, Clone, Copy)]
enum Flood {
    Reports,
    Orders,
}

/// More than the driver can take, for so long. Time moves only because somebody pushes it: nobody is ever idle.
async fn flood(stage: &Arc<Stage>, of: Flood, virtual_ms: u64) {
    let mut people = JoinSet::new();
    for _ in 0..200 {
        let place = stage.desk.directory().find("flooder").unwrap();
        let desk = stage.desk.clone();
        people.spawn(async move {
            loop {
                match of {
                    Flood::Reports => {
                        let stale = Input::Suspect {
                            generation: Generation(7_777),
                        };
                        place.reports.input(stale).await;
                    }
                    Flood::Orders => desk.order(&place, Input::Enable).await.unwrap(),
                }
            }
        });
    }
    for _ in 0..virtual_ms {
        tokio::time::advance(Duration::from_millis(1)).await;
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    people.shutdown().await;
}

async fn flooded(of: Flood) {
    let world = World::new(1, |name, generation, _| match (name, generation) {
        ("hanging", _) => Script {
            opening: Opening::Hangs,
            ..Script::default()
        },
        ("dying", 1) => Script {
            life_ms: Some(300),
            ..Script::default()
        },
        _ => Script::default(),
    });
    let mut hanging = ServerConfig::stdio("hanging", "fake");
    hanging.timeouts.greet_ms = 500;
    hanging.timeouts.list_ms = 500;
    let mut resting = ServerConfig::http("resting", "http://127.0.0.1:1/mcp");
    resting.startup = crate::config::Startup::Lazy;
    resting.idle_shutdown_ms = Some(400);
    let dying = ServerConfig::stdio("dying", "fake");
    let mut flooder = ServerConfig::stdio("flooder", "fake");
    flooder.enabled = false;
    let servers = [hanging, resting, dying, flooder];
    let stage = Arc::new(Stage::start(world.opener(), 1, servers).await);
    let limit = Duration::from_secs(1);
    call(&stage.server("resting"), 1, limit, limit)
        .await
        .unwrap();
    let patience = Duration::from_millis(300);
    let waiting = tokio::spawn({
        let server = stage.server("hanging");
        async move {
            let began = Instant::now();
            (call(&server, 2, limit, patience).await, began.elapsed())
        }
    });
    flood(&stage, of, 2_000).await;
    // Not a moment of quiet has passed since.
    let status = |name: &str| stage.server(name).status();
    let hanging = status("hanging");
    assert!(
        hanging.charges >= 1,
        "{of:?}: its deadline never fired: {hanging:?}"
    );
    let dying = status("dying");
    assert_eq!(
        (dying.state, dying.generation),
        ("connected", 2),
        "{of:?}: its death was not heard or not healed: {dying:?}"
    );
    assert_eq!(
        status("resting").state,
        "idle",
        "{of:?}: {:?}",
        status("resting")
    );
    let (refused, took) = waiting.await.unwrap();
    assert!(refused.is_err());
    assert!(took < Duration::from_millis(400), "law 17: {took:?}");
    stage.shut_down().await;
    assert_nothing_is_left(&world).await;
}

#[test]
fn law_17_law_27_a_flood_of_reports_delays_no_deadline() {
    on_virtual_time(flooded(Flood::Reports));
}

#[test]
fn law_17_law_27_a_flood_of_orders_delays_neither_reports_nor_deadlines() {
    on_virtual_time(flooded(Flood::Orders));
}
