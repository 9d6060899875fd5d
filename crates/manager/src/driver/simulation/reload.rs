//! Configs that change while everything else goes wrong: whatever is loaded in whatever order, the last one holds, and the
//! laws hold in between.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::lifecycle::effect::StopStep;
use tokio::task::JoinSet;

use super::*;
use crate::config::Config;
use crate::error::{OperatorError, Refusal};
use crate::plan::Plan;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn stdio(name: &str, command: &str) -> ServerConfig {
    ServerConfig::stdio(name, command)
}

async fn reload(
    stage: &Stage,
    servers: impl IntoIterator<Item = ServerConfig>,
) -> Result<Plan, OperatorError> {
    let config = Config::from_servers(servers);
    stage.desk.reload(config, BTreeMap::new()).await
}

fn is_removed(answer: &Result<Answer, CallError>) -> bool {
    matches!(answer, Err(CallError::Refused(Refusal::Removed { .. })))
}

/// A config out of a few: some of the servers, each in one of two versions of its connection and of its settings.
fn drawn(rng: &mut Rng) -> Vec<ServerConfig> {
    let mut servers = Vec::new();
    for name in NAMES {
        if rng.percent(70) {
            let command = ["fake", "fake-too"][usize::try_from(rng.below(2)).unwrap()];
            let mut server = if rng.percent(30) {
                ServerConfig::http(name, format!("http://{command}/"))
            } else {
                stdio(name, command)
            };
            server.enabled = rng.percent(85);
            server.drain_ms = [0, 500, 10_000][usize::try_from(rng.below(3)).unwrap()];
            server.concurrency = usize::try_from(1 + rng.below(3)).unwrap();
            servers.push(server);
        }
    }
    servers
}

#[test]
fn law_28_f219_the_last_of_many_configs_holds_and_no_law_is_broken_on_the_way() {
    for_seeds("f219", 60, |seed| async move {
        let world = World::new(seed, |_, _, rng| Script::drawn(rng));
        let stage = Stage::start(world.opener(), seed, drawn(&mut Rng(seed))).await;
        let mut calls = JoinSet::new();
        let mut rng = Rng(seed);
        let mut handles = stage.desk.directory().all();
        for marker in 0..80 {
            if rng.percent(40) {
                reload(&stage, drawn(&mut rng)).await.unwrap();
                handles.extend(stage.desk.directory().all());
            }
            let at = usize::try_from(rng.next()).unwrap() % handles.len().max(1);
            let Some(place) = handles.get(at) else {
                continue;
            };
            let server = ServerHandle::new(place.clone(), stage.desk.clone());
            let limit = Duration::from_millis(rng.below(20_000));
            calls.spawn(async move { (marker, call(&server, marker, limit, limit).await) });
            tokio::time::sleep(Duration::from_millis(rng.below(1_500))).await;
        }
        while let Some(ended) = calls.join_next().await {
            let (marker, outcome) = ended.unwrap();
            let executions = world.executions(marker);
            let refused = matches!(outcome, Err(CallError::Refused(_)));
            assert!(
                executions <= 1 && !(refused && executions > 0),
                "law 16: {outcome:?} after {executions}"
            );
        }
        world.calm_down();
        let last: Vec<ServerConfig> = drawn(&mut rng);
        reload(&stage, last.clone()).await.unwrap();
        for server in last.iter().filter(|server| server.enabled) {
            stage.server(&server.name).restart().await.unwrap();
            stage.until(&server.name, "connected").await;
        }
        // A drain and everything that a stop may take.
        tokio::time::sleep(Duration::from_secs(600)).await;
        let wanted: BTreeSet<String> = last.iter().map(|server| server.name.clone()).collect();
        let found = stage.desk.directory().all();
        let found: BTreeSet<String> = found.iter().map(|at| at.slot.name.to_string()).collect();
        assert_eq!(found, wanted);
        for server in &last {
            assert_eq!(
                stage.is_published(&server.name),
                server.enabled,
                "law 21: {}",
                server.name
            );
        }
        stage.shut_down().await;
        let too_late = reload(&stage, last).await.unwrap_err();
        assert_eq!(too_late, OperatorError::Ended);
        world.forget_the_late().await;
        assert_nothing_is_left(&world).await;
    });
}

#[test]
fn law_2_f215_a_name_that_comes_back_waits_for_what_is_left_of_the_former_one() {
    on_virtual_time(async {
        // Nothing but a kill ends it, and it needs three seconds to go.
        let world = World::new(1, |_, _, _| Script {
            calls: Calls::Answers { ms: 5_000 },
            obeys: Obeys {
                step: Some(StopStep::Kill),
                kills: 1,
                ms: 0,
            },
            remains_ms: 3_000,
            ..Script::default()
        });
        let stage = Stage::start(world.opener(), 1, [stdio("a", "fake")]).await;
        let server = stage.server("a");
        stage.until("a", "connected").await;
        let limit = Duration::from_secs(60);
        let running = tokio::spawn({
            let server = server.clone();
            async move { call(&server, 1, limit, limit).await }
        });
        while world.executions(1) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        let plan = reload(&stage, []).await.unwrap();
        assert_eq!(plan.remove, ["a"]);
        assert!(!stage.is_published("a"), "law 5: at once");
        assert!(is_removed(&call(&server, 2, limit, limit).await));
        let plan = reload(&stage, [stdio("a", "other")]).await.unwrap();
        assert_eq!(plan.add, ["a"], "what is on its way out counts for nothing");

        // The handle is of the former one, and the call waits for the new one (law 20).
        let waited = call(&server, 3, limit, limit).await;
        assert!(waited.is_ok(), "{waited:?}");
        let finished = running.await.unwrap();
        assert!(finished.is_ok(), "F215: drained, not cut: {finished:?}");
        assert_eq!(world.opens("a"), 2);
        assert!(server.status().generation >= 2, "law 3");
        assert!(stage.is_published("a"));
        world.assert_lawful();
        stage.shut_down().await;
        assert_nothing_is_left(&world).await;
    });
}

#[test]
fn law_20_what_was_wished_for_a_server_holds_when_its_name_comes_back() {
    on_virtual_time(async {
        let world = World::new(1, |_, _, _| Script::default());
        let stage = Stage::start(world.opener(), 1, [stdio("a", "fake")]).await;
        let server = stage.server("a");
        stage.until("a", "connected").await;
        server.subscribe("file:///x").unwrap();
        reload(&stage, []).await.unwrap();
        let gone = async {
            while stage.desk.directory().find("a").is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        gone.await;
        assert!(is_removed(
            &call(&server, 1, Duration::from_secs(1), Duration::from_secs(1)).await
        ));
        // Whoever waits for its state hears of the new one.
        let connected = tokio::spawn({
            let server = server.clone();
            async move {
                server
                    .wait_until(|status| status.state == "connected")
                    .await
            }
        });
        reload(&stage, [stdio("a", "fake")]).await.unwrap();
        assert_eq!(connected.await.unwrap().generation, 2);
        let wanted = stage.slot("a").wishes.wanted().uris;
        assert_eq!(
            wanted.iter().map(|uri| &**uri).collect::<Vec<_>>(),
            ["file:///x"]
        );
        stage.shut_down().await;
    });
}

#[test]
fn law_5_law_28_the_file_enables_and_disables_and_leaves_the_operators_word_alone() {
    on_virtual_time(async {
        let world = World::new(1, |_, _, _| Script::default());
        let stage = Stage::start(world.opener(), 1, [stdio("a", "fake"), stdio("b", "fake")]).await;
        stage.until("a", "connected").await;
        stage.until("b", "connected").await;
        let with = |enabled: bool, command: &str, label: &str| {
            let mut a = stdio("a", command);
            a.enabled = enabled;
            a.label = Some(label.to_owned());
            [a, stdio("b", "fake")]
        };
        // Off, with another command: nothing is opened for that.
        let plan = reload(&stage, with(false, "other", "1")).await.unwrap();
        assert_eq!(
            (plan.replace, plan.same),
            (vec!["a".into()], vec!["b".into()])
        );
        assert!(!stage.is_published("a"));
        stage.until("a", "disabled").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.opens("a"), 1);
        reload(&stage, with(true, "other", "1")).await.unwrap();
        stage.until("a", "connected").await;
        assert_eq!(world.opens("a"), 2);
        // An operator's word is not the file's.
        stage.server("a").disable().await.unwrap();
        reload(&stage, with(true, "third", "2")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(stage.server("a").status().state, "disabled");
        assert_eq!(world.opens("a"), 2);
        assert_eq!(world.opens("b"), 1, "law 28");
        stage.shut_down().await;
        assert_nothing_is_left(&world).await;
    });
}
