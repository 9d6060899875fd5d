//! A config that changes under a running manager: real processes and connections are touched as little as the edit allows.

use mainstay::config::{Applies, Config, Glob, ServerConfig};
use mainstay::{CallError, Manager, Plan, Refusal, ServerHandle};
use mainstay_testkit::http_server::{Eras, HttpServer};
use serde_json::json;

use super::harness::*;
use super::http::script;

async fn reload(manager: &Manager, servers: impl IntoIterator<Item = ServerConfig>) -> Plan {
    let config = Config::from_servers(servers);
    let planned = manager.plan(&config);
    let plan = within("the reload", manager.reload(config)).await.unwrap();
    assert_eq!(plan, planned, "law 28: what is told before is what is done");
    plan
}

fn slow(server: &ServerHandle, ms: u64) -> tokio::task::JoinHandle<Result<String, String>> {
    let server = server.clone();
    tokio::spawn(async move {
        let answer = call(&server, "slow", json!({"ms": ms})).await;
        answer
            .map(|answer| text(&answer))
            .map_err(|error| error.to_string())
    })
}

fn is_removed(outcome: &Result<mainstay::Answer, CallError>) -> bool {
    matches!(outcome, Err(CallError::Refused(Refusal::Removed { .. })))
}

#[tokio::test]
async fn law_28_f213_f218_an_edit_replaces_one_server_and_leaves_every_other_process_alone() {
    let bench = Bench::new();
    let manager = start(["a", "b", "c"].map(|name| bench.server(name, &[]))).await;
    let [a, b, c] = ["a", "b", "c"].map(|name| manager.server(name).unwrap());
    for server in [&a, &b, &c] {
        generation(server, 1).await;
    }
    let pid_a = a.status().pid.unwrap();
    // F215: the call runs on the generation that is being replaced, and finishes there.
    let running = slow(&b, 700);
    until("the call to arrive", || bench.count("b", "call") == 1).await;
    let mut labelled = bench.server("a", &[]);
    labelled.label = Some("Alpha".to_owned());
    let servers = [
        labelled,
        bench.server("b", &["--exit-code", "3"]),
        bench.server("d", &[]),
    ];
    let plan = reload(&manager, servers).await;
    assert_eq!(
        (plan.add, plan.remove),
        (vec!["d".to_owned()], vec!["c".to_owned()])
    );
    assert_eq!(
        (plan.replace, plan.patch),
        (vec!["b".to_owned()], vec!["a".to_owned()])
    );
    assert_eq!(plan.changes["a"], ["label"]);
    assert_eq!(plan.changes["b"], ["args"]);

    assert!(within("the call", running).await.unwrap().is_ok(), "F215");
    // F218: found without a restart, and so are its tools.
    let d = manager.server("d").unwrap();
    generation(&d, 1).await;
    let published = manager.publication();
    assert!(published.servers.contains_key("d"));
    assert!(!published.servers.contains_key("c"), "law 5");
    generation(&b, 2).await;
    assert_eq!(pids(&bench, "b").len(), 2);
    let (status, pids_a) = (a.status(), pids(&bench, "a"));
    assert_eq!((status.pid, status.generation), (Some(pid_a), 1));
    assert_eq!((status.label.as_deref(), pids_a.len()), (Some("Alpha"), 1));
    assert!(is_removed(&call(&c, "echo", json!({})).await));
    let pid_c = pids(&bench, "c")[0];
    until("the removed one to end", || !lives(pid_c)).await;
    until("its name to go", || manager.server("c").is_none()).await;
    assert_eq!(a.status().counts.opens, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn f214_filters_timeouts_and_limits_hold_at_once_and_touch_no_process() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &[])]).await;
    let a = manager.server("a").unwrap();
    let pid = generation(&a, 1).await.pid.unwrap();
    let mut edited = bench.server("a", &[]);
    edited.tools.exclude = vec![Glob::new("echo")];
    edited.timeouts.call_total_ms = 300;
    edited.concurrency = 1;
    edited.timeouts.edge_patience_ms = Some(50);
    let plan = reload(&manager, [edited.clone()]).await;
    assert_eq!(plan.patch, ["a"]);
    assert_eq!(plan.changes["a"], ["tools", "timeouts", "concurrency"]);

    assert!(manager.publication().tools.find("a__echo").is_none());
    let refused = call(&a, "echo", json!({})).await.unwrap_err();
    assert!(matches!(refused, CallError::Refused(_)), "{refused}");
    let running = slow(&a, 600_000);
    until("the call to arrive", || bench.count("a", "call") == 1).await;
    let refused = call(&a, "slow", json!({"ms": 1})).await.unwrap_err();
    assert!(refused.to_string().contains("concurrency"), "{refused}");
    let late = within("the deadline", running).await.unwrap().unwrap_err();
    assert!(late.contains("callTotalMs"), "{late}");

    let plan = reload(&manager, [bench.server("a", &[])]).await;
    assert_eq!(plan.patch, ["a"]);
    assert!(manager.publication().tools.find("a__echo").is_some());
    assert!(call(&a, "echo", json!({"text": "x"})).await.is_ok());
    assert_eq!((a.status().pid, pids(&bench, "a").len()), (Some(pid), 1));
    manager.shutdown().await;
}

#[tokio::test]
async fn law_2_f215_a_changed_address_is_opened_before_the_old_connection_is_drained() {
    let old = HttpServer::start(script(Eras::Legacy)).await.unwrap();
    let new = HttpServer::start(script(Eras::Legacy)).await.unwrap();
    let server = |fake: &HttpServer| quick(ServerConfig::http("h", fake.url().as_str()));
    let manager = start([server(&old)]).await;
    let handle = manager.server("h").unwrap();
    generation(&handle, 1).await;
    let running = slow(&handle, 500);
    let arrived = || old.ledger().counts().calls.contains_key("slow");
    until("the call to arrive", arrived).await;
    let calling = tokio::spawn({
        let handle = handle.clone();
        async move {
            while handle.status().generation < 2 {
                call(&handle, "echo", json!({"text": "on"})).await.unwrap();
            }
        }
    });
    let plan = reload(&manager, [server(&new)]).await;
    assert_eq!(plan.changes["h"], ["url"]);
    generation(&handle, 2).await;
    within("the caller", calling).await.unwrap();
    assert!(within("the call", running).await.unwrap().is_ok());
    let calls = |fake: &HttpServer| fake.ledger().seen_of("tools/call").len();
    let before = (calls(&old), calls(&new));
    call(&handle, "echo", json!({"text": "new"})).await.unwrap();
    assert_eq!((calls(&old), calls(&new)), (before.0, before.1 + 1));
    manager.shutdown().await;
    assert_eq!((old.sessions(), new.sessions()), (0, 0), "F112");
}

#[tokio::test]
async fn law_2_law_20_a_name_that_comes_back_at_once_is_found_by_old_handles_and_never_runs_twice()
{
    let bench = Bench::new();
    let manager = start([bench.server("a", &[])]).await;
    let a = manager.server("a").unwrap();
    let pid = generation(&a, 1).await.pid.unwrap();
    let running = slow(&a, 500);
    until("the call to arrive", || bench.count("a", "call") == 1).await;
    reload(&manager, []).await;
    assert!(is_removed(&call(&a, "echo", json!({})).await));
    let plan = reload(&manager, [bench.server("a", &["--exit-code", "3"])]).await;
    assert_eq!(plan.add, ["a"]);
    let answer = call(&a, "echo", json!({"text": "again"})).await.unwrap();
    assert_eq!(text(&answer), "again");
    assert!(within("the call", running).await.unwrap().is_ok());
    let new = generation(&a, 2).await.pid.unwrap();
    assert!(new != pid && !lives(pid), "law 2");
    // The new process says its first word only after the old one has said its last.
    let ledger = bench.ledger("a");
    let last = ledger.iter().rposition(|(at, ..)| *at == pid);
    let first = ledger.iter().position(|(at, ..)| *at == new);
    assert!(last < first, "{ledger:?}");
    manager.shutdown().await;
}

#[tokio::test]
async fn law_28_settings_of_mainstay_hold_at_once_or_are_told_to_need_a_restart() {
    let bench = Bench::new();
    // It never gets further than its greeting.
    let silent = || bench.server("a", &["--never-answer", "initialize"]);
    let manager = start([silent()]).await;
    let a = manager.server("a").unwrap();
    let mut config = Config::from_servers([silent()]);
    config.gateway.edge_patience_ms = 30;
    config.gateway.listen.set_port(1);
    let plan = within("the reload", manager.reload(config.clone()))
        .await
        .unwrap();
    let told: Vec<_> = plan
        .gateway
        .iter()
        .map(|one| (one.key.as_str(), one.applies))
        .collect();
    let wanted = [
        ("mainstay.listen", Applies::Restart),
        ("mainstay.edgePatienceMs", Applies::Now),
    ];
    assert_eq!(told, wanted);
    assert_eq!(plan.same, ["a"]);
    let refused = call(&a, "echo", json!({})).await.unwrap_err();
    assert!(
        matches!(refused, CallError::Refused(Refusal::NotReady { waited_ms, .. }) if waited_ms < 10_000),
        "{refused}"
    );
    // What holds is not told again; what needs a restart is, until there was one.
    let again = manager.plan(&config);
    assert_eq!(
        again.needs_restart().collect::<Vec<_>>(),
        ["mainstay.listen"]
    );
    assert_eq!(again.gateway.len(), 1);
    manager.shutdown().await;
    assert!(manager.reload(config).await.is_err(), "law 6");
}
