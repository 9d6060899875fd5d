//! More than one connection to a server: which callers share one, what each of them declares, and when each of them goes.

use std::sync::Arc;

use mainstay::config::{Scope, ServerConfig};
use mainstay::{CallError, ClientFace, Manager, Refusal, ServerHandle};
use mainstay_testkit::http_server::{Eras, HttpServer};
use mainstay_wire::Era;
use serde_json::{Value, json};

use super::harness::*;
use super::http::script;

const SAMPLING: &str = r#"{"sampling":{}}"#;
const ELICITATION: &str = r#"{"elicitation":{"form":{}}}"#;

fn face(capabilities: &str, client: Option<&str>) -> ClientFace {
    ClientFace {
        capabilities: capabilities.into(),
        info: client.map(|name| json!({"name": name, "version": "1"}).to_string().into()),
        client: client.map(Arc::from),
        ..ClientFace::default()
    }
}

async fn way(server: &ServerHandle, capabilities: &str, client: Option<&str>) -> ServerHandle {
    let face = face(capabilities, client);
    let found = server.for_client(&face);
    within("a way to the server", found).await.unwrap()
}

/// Calls a tool and says which process answered.
async fn pid_of(bench: &Bench, server: &ServerHandle, marker: &str) -> u32 {
    call(server, "add_marker", json!({"marker": marker}))
        .await
        .unwrap();
    let ledger = bench.ledger("s");
    let by = ledger
        .iter()
        .find(|(_, event, detail)| event == "marker" && detail == marker);
    by.expect("it was executed").0
}

/// What every process was told of its client, in the order of the greetings.
fn met(bench: &Bench) -> Vec<(u32, Value)> {
    let ledger = bench.ledger("s").into_iter();
    ledger
        .filter(|(_, event, _)| event == "met")
        .map(|(pid, _, said)| (pid, serde_json::from_str(&said).unwrap()))
        .collect()
}

/// What a process was told of its client, last.
fn met_by(bench: &Bench, pid: u32) -> Value {
    let met = met(bench).into_iter().rev();
    let mut of_pid = met.filter(|(by, _)| *by == pid);
    of_pid.next().expect("it was greeted").1
}

async fn connect(config: ServerConfig) -> (Manager, ServerHandle) {
    let manager = start([config]).await;
    let server = manager.server("s").unwrap();
    generation(&server, 1).await;
    (manager, server)
}

async fn gone(pids: &[u32]) {
    until("the processes to be gone", || {
        pids.iter().all(|pid| !lives(*pid))
    })
    .await;
}

#[tokio::test]
async fn each_set_of_capabilities_has_a_connection_that_declares_exactly_this_set() {
    let bench = Bench::new();
    let (manager, server) = connect(bench.server("s", &[])).await;
    let sampling = way(&server, SAMPLING, None).await;
    let both = r#"{"sampling": {}, "elicitation": {"form": {}}}"#;
    let turned = r#"{"elicitation":{"form":{}},"sampling":{}}"#;
    let both_one = way(&server, both, Some("a")).await;
    let both_other = way(&server, turned, Some("b")).await;
    let nothing = way(&server, "{}", Some("a")).await;
    let shared = pid_of(&bench, &server, "shared").await;
    let of_sampling = pid_of(&bench, &sampling, "sampling").await;
    let of_both = pid_of(&bench, &both_one, "both").await;
    assert_eq!(pid_of(&bench, &both_other, "turned").await, of_both);
    assert_eq!(pid_of(&bench, &nothing, "nothing").await, shared);
    assert_eq!(pid_of(&bench, &sampling, "again").await, of_sampling);
    assert_eq!(pids(&bench, "s").len(), 3, "and no further process");
    for (pid, declared) in [(shared, "{}"), (of_sampling, SAMPLING), (of_both, turned)] {
        let met = met_by(&bench, pid);
        assert_eq!(met["capabilities"].to_string(), declared);
        assert_eq!(met["name"], "mainstay", "several clients share it");
    }
    assert_eq!(sampling.name(), "s");
    assert_eq!(sampling.catalog().unwrap().tools.items.len(), 7);
    assert_eq!(manager.publication().tools.items.len(), 7, "once");
    let status = server.status();
    let connections = &status.connections;
    assert_eq!(connections.len(), 2);
    assert_eq!(connections[0].capabilities, ["sampling"]);
    assert_eq!(connections[1].capabilities, ["elicitation", "sampling"]);
    for (connection, pid) in connections.iter().zip([of_sampling, of_both]) {
        assert_eq!((connection.state, connection.pid), ("connected", Some(pid)));
        assert!(connection.idle_ms.is_some() && !connection.session);
    }
    assert_eq!(status.counts.answered, 6, "calls count for their server");
    let events = manager.recent_events();
    let mut opened: Vec<_> = events
        .iter()
        .filter(|event| serde_json::to_value(event).unwrap()["to"] == "connected")
        .map(|event| (event.connection, event.generation))
        .collect();
    // They were opened side by side.
    opened.sort_unstable();
    assert_eq!(opened, [(None, 1), (Some(1), 1), (Some(2), 1)]);
    manager.shutdown().await;
    gone(&pids(&bench, "s")).await;
}

#[tokio::test]
async fn law_1_callers_at_the_same_time_open_one_connection_and_leaving_changes_nothing() {
    let bench = Bench::new();
    let (manager, server) = connect(bench.server("s", &["--slow-start", "200"])).await;
    // Polled once and dropped: somewhere between asking and being answered.
    let sampling = face(SAMPLING, None);
    let left = server.for_client(&sampling);
    assert!(futures_util::FutureExt::now_or_never(left).is_none());
    let calls: Vec<_> = (0..16)
        .map(|number| {
            let server = server.clone();
            tokio::spawn(async move {
                let own = way(&server, SAMPLING, None).await;
                let marker = json!({"marker": number.to_string()});
                call(&own, "add_marker", marker).await.unwrap();
            })
        })
        .collect();
    for ended in calls {
        within("a call", ended).await.unwrap();
    }
    assert_eq!(bench.count("s", "initialize"), 2, "one each");
    assert_eq!(server.status().connections.len(), 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_20_an_unused_connection_is_closed_and_its_handle_opens_another() {
    let bench = Bench::new();
    let mut config = bench.server("s", &[]);
    config.connections.idle_ms = 300;
    let (manager, server) = connect(config).await;
    let own = way(&server, SAMPLING, None).await;
    let slow = tokio::spawn({
        let own = own.clone();
        async move { call(&own, "slow", json!({"ms": 1_500})).await }
    });
    within("the slow call", slow).await.unwrap().unwrap();
    assert_eq!(
        bench.count("s", "initialize"),
        2,
        "in use, it was left alone"
    );
    let first = met(&bench).last().expect("somebody was met").0;
    until("the connection to go", || {
        server.status().connections.is_empty()
    })
    .await;
    gone(&[first]).await;
    let second = pid_of(&bench, &own, "again").await;
    assert_ne!(second, first);
    assert_eq!(
        met_by(&bench, second)["capabilities"],
        json!({"sampling": {}})
    );
    until("the second to go", || {
        server.status().connections.is_empty()
    })
    .await;
    gone(&[second]).await;
    assert_eq!(server.status().state, "connected", "the shared one stays");
    manager.shutdown().await;
}

#[tokio::test]
async fn law_5_disabling_a_server_ends_all_of_its_connections_and_nothing_resurrects_them() {
    let bench = Bench::new();
    let (manager, server) = connect(bench.server("s", &[])).await;
    let sampling = way(&server, SAMPLING, None).await;
    let elicitation = way(&server, ELICITATION, None).await;
    let first = pid_of(&bench, &sampling, "1").await;
    pid_of(&bench, &elicitation, "2").await;
    within("disable", sampling.disable()).await.unwrap();
    assert!(server.status().connections.is_empty(), "at once");
    let refused = |outcome: Result<_, CallError>| match outcome {
        Err(CallError::Refused(Refusal::Disabled { server })) => assert_eq!(&*server, "s"),
        other => panic!("{other:?}"),
    };
    refused(call(&sampling, "echo", json!({})).await.map(drop));
    refused(server.for_client(&face(SAMPLING, None)).await.map(drop));
    gone(&pids(&bench, "s")).await;
    within("enable", server.enable()).await.unwrap();
    let again = pid_of(&bench, &sampling, "3").await;
    assert_ne!(again, first);
    manager.shutdown().await;
    gone(&pids(&bench, "s")).await;
}

#[tokio::test]
async fn law_5_restarting_a_server_replaces_all_of_its_connections() {
    let bench = Bench::new();
    let (manager, server) = connect(bench.server("s", &[])).await;
    let own = way(&server, SAMPLING, None).await;
    let before = [
        pid_of(&bench, &server, "1").await,
        pid_of(&bench, &own, "2").await,
    ];
    within("restart", own.restart()).await.unwrap();
    generation(&server, 2).await;
    let after = [
        pid_of(&bench, &server, "3").await,
        pid_of(&bench, &own, "4").await,
    ];
    assert!(before.iter().all(|pid| !after.contains(pid)));
    gone(&before).await;
    assert_eq!(server.status().connections[0].generation, 2);
    manager.shutdown().await;
}

#[tokio::test]
async fn when_there_are_too_many_the_longest_idle_makes_room_and_one_in_use_never_does() {
    let bench = Bench::new();
    let mut config = bench.server("s", &[]);
    config.connections.max = 2;
    let (manager, server) = connect(config).await;
    let first = way(&server, r#"{"sampling":{"a":1}}"#, None).await;
    let second = way(&server, r#"{"sampling":{"a":2}}"#, None).await;
    let one = pid_of(&bench, &first, "1").await;
    let two = pid_of(&bench, &second, "2").await;
    let third = way(&server, r#"{"sampling":{"a":3}}"#, None).await;
    let three = pid_of(&bench, &third, "3").await;
    gone(&[one]).await;
    assert!(lives(two) && lives(three));
    let numbers = |server: &ServerHandle| -> Vec<u32> {
        let status = server.status();
        let numbers = status.connections.iter();
        numbers.map(|connection| connection.number).collect()
    };
    assert_eq!(numbers(&server), [2, 3]);
    // Both are in use now.
    let busy: Vec<_> = [&second, &third]
        .into_iter()
        .map(|own| {
            let own = own.clone();
            tokio::spawn(async move { call(&own, "slow", json!({"ms": 60_000})).await })
        })
        .collect();
    until("both to be called", || {
        bench.count_of("s", "call", "slow") == 2
    })
    .await;
    let refused = call(&first, "echo", json!({})).await.unwrap_err();
    assert!(
        refused.to_string().contains("`connections.max`"),
        "{refused}"
    );
    assert!(matches!(
        refused,
        CallError::Refused(Refusal::TooManyConnections { limit: 2, .. })
    ));
    busy.iter().for_each(tokio::task::JoinHandle::abort);
    until("the calls to end", || server.status().in_flight == 0).await;
    pid_of(&bench, &first, "4").await;
    assert_eq!(numbers(&server).len(), 2);
    manager.shutdown().await;
    gone(&pids(&bench, "s")).await;
}

#[tokio::test]
async fn law_27_a_connection_that_crashes_disturbs_no_other_of_the_server() {
    let bench = Bench::new();
    let (manager, server) = connect(bench.server("s", &[])).await;
    let sampling = way(&server, SAMPLING, None).await;
    let elicitation = way(&server, ELICITATION, None).await;
    let before = [
        pid_of(&bench, &server, "1").await,
        pid_of(&bench, &elicitation, "2").await,
    ];
    let crashed = pid_of(&bench, &sampling, "3").await;
    let steady = tokio::spawn({
        let elicitation = elicitation.clone();
        async move { call(&elicitation, "slow", json!({"ms": 300})).await }
    });
    let outcome = call(&sampling, "crash", json!({"code": 3})).await;
    assert!(matches!(outcome, Err(CallError::Unknown(_))), "{outcome:?}");
    let next = pid_of(&bench, &sampling, "4").await;
    assert_ne!(next, crashed);
    within("the steady call", steady).await.unwrap().unwrap();
    let after = [
        pid_of(&bench, &server, "5").await,
        pid_of(&bench, &elicitation, "6").await,
    ];
    assert_eq!(before, after);
    let status = server.status();
    assert_eq!((status.state, status.generation), ("connected", 1));
    assert_eq!(status.connections[0].generation, 2);
    assert!(status.connections[0].last_failure.is_some());
    manager.shutdown().await;
}

#[tokio::test]
async fn with_scope_session_each_client_has_a_process_of_its_own_and_is_who_it_sees() {
    let bench = Bench::new();
    let mut config = bench.server("s", &[]);
    config.scope = Scope::Session;
    config.connections.idle_ms = 400;
    let (manager, server) = connect(config).await;
    let ada = way(&server, SAMPLING, Some("ada")).await;
    let ben = way(&server, "{}", Some("ben")).await;
    let of_ada = pid_of(&bench, &ada, "1").await;
    let of_ben = pid_of(&bench, &ben, "2").await;
    assert_ne!(of_ada, of_ben);
    assert_eq!(pid_of(&bench, &ada, "3").await, of_ada);
    let seen = met_by(&bench, of_ada);
    assert_eq!(
        seen,
        json!({"capabilities": {"sampling": {}}, "name": "ada"})
    );
    let seen = met_by(&bench, of_ben);
    assert_eq!(seen, json!({"capabilities": {}, "name": "ben"}));
    // What one of them does to its server concerns the other's in no way.
    call(&ada, "set_tools", json!({"names": ["add_marker"]}))
        .await
        .unwrap();
    call(&ben, "echo", json!({"text": "x"})).await.unwrap();
    // Whoever is nobody in particular shares.
    let nobody = way(&server, "{}", None).await;
    let shared = pid_of(&bench, &nobody, "4").await;
    assert!(![of_ada, of_ben].contains(&shared));
    assert_eq!(pid_of(&bench, &server, "5").await, shared);
    let shown = serde_json::to_string(&server.status()).unwrap();
    assert!(!shown.contains("ada"), "a session id may be a secret");
    until("both to be closed", || {
        server.status().connections.is_empty()
    })
    .await;
    gone(&[of_ada, of_ben]).await;
    assert!(lives(shared));
    manager.shutdown().await;
}

#[tokio::test]
async fn what_a_session_subscribes_to_keeps_its_connection_open() {
    let bench = Bench::new();
    let mut config = bench.server("s", &["--wishes"]);
    config.scope = Scope::Session;
    config.connections.idle_ms = 50;
    let (manager, server) = connect(config).await;
    let ada = way(&server, "{}", Some("ada")).await;
    ada.subscribe("x:a").unwrap();
    let mut updates = ada.updates();
    within("the subscription", ada.restored()).await;
    let own = pid_of(&bench, &ada, "1").await;
    let subscribed = bench.ledger("s").into_iter();
    let by: Vec<u32> = subscribed
        .filter(|(_, event, _)| event == "subscribe")
        .map(|(pid, ..)| pid)
        .collect();
    assert_eq!(by, [own], "and not on the shared connection");
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(300), updates.next()).await;
    assert!(quiet.is_err());
    assert!(lives(own), "idle six times over");
    call(&ada, "touch", json!({"uri": "x:a"})).await.unwrap();
    within("an update", updates.next()).await;
    drop(updates);
    assert!(ada.unsubscribe("x:a"));
    until("it to be closed", || server.status().connections.is_empty()).await;
    manager.shutdown().await;
}

#[tokio::test]
async fn over_http_each_set_has_a_session_and_a_modern_server_needs_none_of_this() {
    let bodies = |fake: &HttpServer, method: &str| -> Vec<Value> {
        let seen = fake.ledger().seen_of(method).into_iter();
        seen.map(|seen| serde_json::from_str(&seen.body).unwrap())
            .collect()
    };
    let fake = HttpServer::start(script(Eras::Legacy)).await.unwrap();
    let (manager, server) = connect(quick(ServerConfig::http("s", fake.url().as_str()))).await;
    let own = way(&server, ELICITATION, None).await;
    let same = way(&server, ELICITATION, Some("b")).await;
    for handle in [&own, &same, &server] {
        call(handle, "echo", json!({"text": "x"})).await.unwrap();
    }
    let declared: Vec<String> = bodies(&fake, "initialize")
        .iter()
        .map(|body| body["params"]["capabilities"].to_string())
        .collect();
    assert_eq!(declared, ["{}", ELICITATION]);
    assert_eq!(fake.sessions(), 2);
    within("disable", server.disable()).await.unwrap();
    until("both sessions to end", || fake.sessions() == 0).await;
    manager.shutdown().await;

    let fake = HttpServer::start(script(Eras::Modern)).await.unwrap();
    let (manager, server) = connect(quick(ServerConfig::http("s", fake.url().as_str()))).await;
    let own = way(&server, ELICITATION, None).await;
    call(&own, "echo", json!({"text": "x"})).await.unwrap();
    assert!(server.status().connections.is_empty());
    manager.shutdown().await;

    let fake = HttpServer::start(script(Eras::Modern)).await.unwrap();
    let mut config = quick(ServerConfig::http("s", fake.url().as_str()));
    config.scope = Scope::Session;
    let (manager, server) = connect(config).await;
    let own = way(&server, ELICITATION, Some("ada")).await;
    call(&own, "echo", json!({"text": "x"})).await.unwrap();
    assert_eq!(server.status().connections.len(), 1);
    let names: Vec<Value> = bodies(&fake, "server/discover")
        .into_iter()
        .map(|body| body["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]["name"].clone())
        .collect();
    assert_eq!(names, ["mainstay", "ada"]);
    manager.shutdown().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_gives_every_client_the_same_typed_refusal() {
    let bench = Bench::new();
    let mut config = bench.server("s", &["--exit-at", "initialize", "--last-words", "no"]);
    config.restart.budget = 0;
    let manager = start([config]).await;
    let server = manager.server("s").unwrap();
    state(&server, "parked").await;
    let refused = server.for_client(&face(SAMPLING, None)).await.unwrap_err();
    assert!(
        matches!(refused, CallError::Refused(Refusal::Parked(_))),
        "{refused:?}"
    );
    assert_eq!(server.status().counts.refused, 1);
    let bad = server.for_client(&face("[]", None)).await.unwrap_err();
    assert!(matches!(bad, CallError::Refused(Refusal::BadRequest(_))));
    assert!(server.status().connections.is_empty());
    manager.shutdown().await;
    let ended = server.for_client(&face(SAMPLING, None)).await.unwrap_err();
    assert!(matches!(ended, CallError::Refused(_)), "{ended:?}");
}

#[tokio::test]
async fn a_server_that_is_still_starting_is_waited_for_to_know_its_era() {
    let bench = Bench::new();
    let mut config = bench.server("s", &["--slow-start", "300"]);
    config.startup = mainstay::config::Startup::Lazy;
    let manager = start([config]).await;
    let server = manager.server("s").unwrap();
    let own = way(&server, SAMPLING, None).await;
    pid_of(&bench, &own, "1").await;
    assert_eq!(server.status().state, "connected", "it was asked who it is");
    assert_eq!(bench.count("s", "initialize"), 2);
    manager.shutdown().await;
}

/// A call of the tool `ask` by a client, whose answer says who it is after a while.
fn asking(own: &ServerHandle, client: Option<&str>, ms: u64) -> tokio::task::JoinHandle<String> {
    let (hear, mut heard) = tokio::sync::mpsc::channel(16);
    let mut options = limits(60_000, 60_000);
    options.hear = Some(hear);
    options.client = Some(face(ELICITATION, client));
    let (own, who) = (own.clone(), client.unwrap_or("nobody").to_owned());
    tokio::spawn(async move {
        let answers = async {
            while let Some(said) = heard.recv().await {
                if let mainstay::Said::Ask(ask) = said {
                    tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
                    ask.result(&json!({"action": "accept", "content": {"who": who}}).to_string())
                        .await;
                }
            }
        };
        let request = tool_call("ask", &json!({"text": who}));
        let called = own.request(request, options);
        let (answer, ()) = within("the call", async { tokio::join!(called, answers) }).await;
        text(&answer.unwrap())
    })
}

#[tokio::test]
async fn once_a_server_has_asked_clients_do_not_share_a_stream_and_each_gets_its_own_question() {
    let bench = Bench::new();
    let mut config = bench.server("s", &["--asks"]);
    config.connections.lanes = 2;
    let (manager, server) = connect(config).await;
    let own = way(&server, ELICITATION, None).await;
    // The first question is what tells: until then nobody waits for anybody.
    let first = within("the first", asking(&own, Some("first"), 0)).await;
    assert!(first.unwrap().contains("\"who\":\"first\""));
    let clients = ["a", "b", "c", "d", "e", "f", "nobody", "nobody"];
    let calls: Vec<_> = clients
        .iter()
        .map(|name| asking(&own, Some(*name).filter(|name| *name != "nobody"), 50))
        .collect();
    for (client, answered) in clients.into_iter().zip(calls) {
        let answered = within("an answer", answered).await.unwrap();
        let expected = format!("\"who\":\"{client}\"");
        assert!(answered.contains(&expected), "{client}: {answered}");
    }
    let lanes: Vec<usize> = server
        .status()
        .connections
        .iter()
        .map(|connection| connection.lane)
        .collect();
    assert_eq!(lanes, [0, 1], "as many as may be");
    manager.shutdown().await;
}

#[tokio::test]
async fn law_19_waiting_for_ones_turn_is_our_time_and_ends_with_the_deadline_or_the_server() {
    let bench = Bench::new();
    let mut config = bench.server("s", &["--asks"]);
    config.connections.lanes = 1;
    let (manager, server) = connect(config).await;
    let own = way(&server, ELICITATION, None).await;
    within("the first", asking(&own, Some("a"), 0))
        .await
        .unwrap();
    let calls = |text: &str| bench.count_of("s", "call", text);
    let slow = |client: &str, ms: u64, total_ms: u64| {
        let mut options = limits(60_000, total_ms);
        options.client = Some(face(ELICITATION, Some(client)));
        let own = own.clone();
        tokio::spawn(async move {
            own.request(tool_call("slow", &json!({"ms": ms})), options)
                .await
        })
    };
    let first = slow("a", 1_000, 60_000);
    until("a to be there", || calls("slow") == 1).await;
    let late = within("b", slow("b", 0, 100)).await.unwrap().unwrap_err();
    assert!(
        matches!(late, CallError::Refused(Refusal::DeadlineInQueue { .. })),
        "{late:?}"
    );
    let second = within("c", slow("c", 0, 60_000)).await.unwrap().unwrap();
    assert!(second.queued > second.served, "{second:?}");
    within("a", first).await.unwrap().unwrap();
    let _stays = slow("a", 60_000, 60_000);
    until("a to be there again", || calls("slow") == 3).await;
    let waits = slow("b", 0, 60_000);
    tokio::task::yield_now().await;
    within("disable", server.disable()).await.unwrap();
    let refused = within("b", waits).await.unwrap().unwrap_err();
    assert!(
        matches!(refused, CallError::Refused(Refusal::Disabled { .. })),
        "{refused:?}"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn connections_that_are_to_stand_ready_are_there_before_the_first_call_and_stay() {
    let bench = Bench::new();
    let mut config = bench.server("s", &[]);
    config.connections.keep = vec![SAMPLING.into()];
    config.connections.idle_ms = 1;
    let (manager, server) = connect(config).await;
    let kept_one = || {
        let kept = *pids(&bench, "s").get(1)?;
        met(&bench)
            .iter()
            .any(|(by, _)| *by == kept)
            .then_some(kept)
    };
    until("the kept connection", || kept_one().is_some()).await;
    let kept = kept_one().unwrap();
    assert_eq!(met_by(&bench, kept)["capabilities"].to_string(), SAMPLING);
    let other = way(&server, ELICITATION, None).await;
    pid_of(&bench, &other, "other").await;
    drop(other);
    until("the other one to be closed", || {
        server.status().connections.len() == 1
    })
    .await;
    let sampling = way(&server, SAMPLING, None).await;
    assert_eq!(pid_of(&bench, &sampling, "kept").await, kept);
    assert_eq!(bench.count("s", "initialize"), 3);
    manager.shutdown().await;
    gone(&pids(&bench, "s")).await;
}

#[tokio::test]
async fn a_legacy_client_gets_its_own_era_from_a_server_of_both_and_the_shared_one_from_a_modern_one()
 {
    let of_era = |era| ClientFace {
        era: Some(era),
        ..face(SAMPLING, None)
    };
    for speaks in ["both", "modern"] {
        let bench = Bench::new();
        let (manager, server) = connect(bench.server("s", &["--era", speaks])).await;
        let way_of =
            async |face: &ClientFace| within("a way", server.for_client(face)).await.unwrap();
        let modern = way_of(&of_era(Era::Modern)).await;
        let shared = pid_of(&bench, &modern, "modern").await;
        assert_eq!(pids(&bench, "s"), [shared]);
        // The first time a server is tried in the words of the other era.
        let legacy = way_of(&of_era(Era::Legacy)).await;
        let own = pid_of(&bench, &legacy, "legacy").await;
        assert_ne!(own, shared);
        assert_eq!(bench.count("s", "initialize"), 1, "tried once: {speaks}");
        let again = way_of(&of_era(Era::Legacy)).await;
        let again = pid_of(&bench, &again, "again").await;
        assert_eq!(again, if speaks == "both" { own } else { shared });
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f185_whoever_waits_for_a_client_that_thinks_gets_a_lane_beyond_the_limit() {
    let bench = Bench::new();
    let mut config = bench.server("s", &["--asks"]);
    config.connections.lanes = 1;
    let (manager, server) = connect(config).await;
    let own = way(&server, ELICITATION, None).await;
    within("the first", asking(&own, Some("a"), 0))
        .await
        .unwrap();
    // Thinks for ever, and has the only lane.
    let thinks = asking(&own, Some("a"), 3_600_000);
    until("the question", || bench.count("s", "call") == 2).await;
    let other = within("the other", asking(&own, Some("b"), 0)).await;
    assert!(other.unwrap().contains("\"who\":\"b\""));
    thinks.abort();
    manager.shutdown().await;
}

#[tokio::test]
async fn law_25_what_a_call_changes_is_told_to_those_who_subscribed_whichever_connection_it_was_on()
{
    let bench = Bench::new();
    let (manager, server) = connect(bench.server("s", &["--wishes"])).await;
    let before = way(&server, SAMPLING, None).await;
    pid_of(&bench, &before, "before").await;
    server.subscribe("x:a").unwrap();
    server.subscribe("x:a").unwrap();
    let after = way(&server, ELICITATION, None).await;
    pid_of(&bench, &after, "after").await;
    let mut updates = server.updates();
    until("three subscriptions", || bench.count("s", "subscribe") == 3).await;
    for own in [&before, &after] {
        call(own, "touch", json!({"uri": "x:a"})).await.unwrap();
        let update = within("an update", updates.next()).await;
        assert!(matches!(update, mainstay::Update::Resource { uri, .. } if &*uri == "x:a"));
    }
    assert!(server.unsubscribe("x:a"));
    assert_eq!(
        bench.count("s", "unsubscribe"),
        0,
        "somebody else still wants it"
    );
    assert!(server.unsubscribe("x:a"));
    until("all to be unsubscribed", || {
        bench.count("s", "unsubscribe") == 3
    })
    .await;
    manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_1_a_connection_that_is_just_being_opened_is_not_taken_for_one_that_is_switched_off() {
    let bench = Bench::new();
    let (manager, server) = connect(bench.server("s", &[])).await;
    for round in 0..10 {
        let capabilities = format!(r#"{{"sampling":{{"round":{round}}}}}"#);
        let calls: Vec<_> = (0..8)
            .map(|number| {
                let (server, capabilities) = (server.clone(), capabilities.clone());
                tokio::spawn(async move {
                    let own = way(&server, &capabilities, None).await;
                    let marker = json!({"marker": format!("{round}.{number}")});
                    call(&own, "add_marker", marker).await.unwrap();
                })
            })
            .collect();
        for ended in calls {
            within("a call", ended).await.unwrap();
        }
    }
    manager.shutdown().await;
}
