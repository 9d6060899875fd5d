//! `scope: "user"`: each principal has connections of its own, and nothing of one is another's.

use mainstay::config::{Scope, ServerConfig};
use mainstay::{
    CallError, CallOptions, ClientFace, LogLevel, Manager, Principal, Refusal, Request,
    ServerHandle, Update,
};
use serde_json::{Value, json};

use super::harness::{
    Bench, MISBEHAVE, PATIENCE, call, generation, lives, pids, quick, start, state, until, within,
};

const SAMPLING: &str = r#"{"sampling":{}}"#;

fn principal(name: &str) -> Principal {
    Principal::new(name).unwrap()
}

fn face(of: Option<&str>, capabilities: &str) -> ClientFace {
    ClientFace {
        capabilities: capabilities.into(),
        principal: of.map(principal),
        ..ClientFace::default()
    }
}

async fn way(server: &ServerHandle, of: &str) -> ServerHandle {
    let face = face(Some(of), "{}");
    within("a way", server.for_client(&face)).await.unwrap()
}

fn per_user(mut config: ServerConfig) -> ServerConfig {
    config.scope = Scope::User;
    config
}

async fn connect(config: ServerConfig) -> (Manager, ServerHandle) {
    let manager = start([per_user(config)]).await;
    let server = manager.server("s").unwrap();
    generation(&server, 1).await;
    (manager, server)
}

/// Calls a tool and says which process answered.
async fn pid_of(bench: &Bench, server: &ServerHandle, marker: &str) -> u32 {
    let called = call(server, "add_marker", json!({"marker": marker})).await;
    called.unwrap();
    executed(bench, marker)
}

fn executed(bench: &Bench, marker: &str) -> u32 {
    let ledger = bench.ledger("s");
    let by = ledger
        .iter()
        .find(|(_, event, detail)| event == "marker" && detail == marker);
    by.expect("it was executed").0
}

async fn end(manager: Manager, bench: &Bench) {
    manager.shutdown().await;
    until("the processes to be gone", || {
        pids(bench, "s").iter().all(|pid| !lives(*pid))
    })
    .await;
}

#[tokio::test]
async fn f256_each_principal_has_a_connection_of_its_own_however_it_is_called() {
    let bench = Bench::new();
    let (manager, server) = connect(bench.server("s", &[])).await;
    let (ann, bob) = (way(&server, "ann").await, way(&server, "bob").await);
    let nobody = pid_of(&bench, &server, "nobody").await;
    let of_ann = pid_of(&bench, &ann, "ann").await;
    let of_bob = pid_of(&bench, &bob, "bob").await;
    assert!(of_ann != of_bob && of_ann != nobody && of_bob != nobody);
    // Another client of the same principal, and one that finds its way by the call alone.
    let again = way(&server, "ann").await;
    assert_eq!(pid_of(&bench, &again, "ann-2").await, of_ann);
    for (number, client) in [None, Some(face(Some("bob"), "{}")), Some(face(None, ""))]
        .into_iter()
        .enumerate()
    {
        let marker = format!("bob-{number}");
        let arguments = json!({"name": "add_marker", "arguments": {"marker": marker}});
        let request = Request::new("tools/call", Some(&arguments.to_string()));
        let options = CallOptions {
            principal: Some(principal("bob")),
            client,
            ..CallOptions::default()
        };
        let answered = within("an answer", server.request(request, options)).await;
        answered.unwrap();
        assert_eq!(executed(&bench, &marker), of_bob);
    }
    // What cannot be told apart by its text is told apart by its structure (F255).
    let odd = way(&server, "ann::{}::0").await;
    assert_ne!(pid_of(&bench, &odd, "odd").await, of_ann);
    let status = server.status();
    let whose: Vec<_> = status
        .connections
        .iter()
        .map(|one| (one.principal.as_deref().unwrap(), one.pid.unwrap()))
        .collect();
    assert_eq!(whose[..2], [("ann", of_ann), ("bob", of_bob)]);
    let calls = server.recent_calls();
    let of = |name: &str| {
        calls
            .iter()
            .filter(|call| {
                call.principal
                    .as_ref()
                    .is_some_and(|whose| whose.name() == name)
            })
            .count()
    };
    assert_eq!(of("bob"), 3, "as the calls themselves said");
    let told = calls
        .iter()
        .map(|call| serde_json::to_string(&**call).unwrap());
    assert!(
        told.into_iter()
            .any(|call| call.contains(r#""principal":"bob""#))
    );
    end(manager, &bench).await;
}

#[tokio::test]
async fn law_27_one_principals_crashes_and_floods_are_its_own() {
    let bench = Bench::new();
    let mut config = bench.server("s", &[]);
    config.restart.budget = 1;
    config.connections.calls_per_user = Some(1);
    config.waiting = 1;
    let (manager, server) = connect(config).await;
    let (ann, bob) = (way(&server, "ann").await, way(&server, "bob").await);
    let of_bob = pid_of(&bench, &bob, "bob").await;
    // Its share is one call: one more waits, a third is refused, and nobody else notices.
    let slow = |of: &ServerHandle| {
        let of = of.clone();
        tokio::spawn(async move { call(&of, "slow", json!({"ms": 60_000})).await })
    };
    let first = slow(&ann);
    until("the first call to arrive", || {
        bench.count_of("s", "call", "slow") == 1
    })
    .await;
    let second = slow(&ann);
    until("the second to wait", || {
        server
            .status()
            .connections
            .iter()
            .any(|one| one.waiting == 1)
    })
    .await;
    let third = call(&ann, "echo", json!({"text": "x"})).await.unwrap_err();
    assert!(
        matches!(third, CallError::Refused(Refusal::TooManyWaiting { .. })),
        "{third}"
    );
    assert_eq!(pid_of(&bench, &bob, "bob-2").await, of_bob);
    first.abort();
    second.abort();
    until("the calls to end", || server.status().in_flight == 0).await;
    // It crashes until its budget is spent. Theirs is another.
    let parked = |one: &mainstay::ConnectionStatus| {
        one.principal.as_deref() == Some("ann") && one.state == "parked"
    };
    within("its connection to be parked", async {
        while !server.status().connections.iter().any(parked) {
            let _crashed = call(&ann, "crash", json!({"code": 3})).await;
        }
    })
    .await;
    let refused = call(&ann, "echo", json!({"text": "x"})).await.unwrap_err();
    assert!(
        matches!(
            refused,
            CallError::Refused(Refusal::Parked(_) | Refusal::TooSoon { .. })
        ),
        "{refused}"
    );
    assert_eq!(pid_of(&bench, &bob, "bob-3").await, of_bob);
    assert_eq!(server.status().state, "connected");
    let carl = way(&server, "carl").await;
    pid_of(&bench, &carl, "carl").await;
    end(manager, &bench).await;
}

#[tokio::test]
async fn law_27_what_parked_everybodys_connection_parks_no_principals() {
    let bench = Bench::new();
    // It cannot start until there is a file.
    let (once, ledger) = (bench.path("once"), bench.path("s"));
    let script = r#"test -e "$0" && exec "$@"; exit 1"#;
    let mut config = ServerConfig::stdio("s", "/bin/sh").args(["-c", script]);
    config = config.args([once.display().to_string(), MISBEHAVE.to_owned()]);
    config = quick(config.args(["--ledger".to_owned(), ledger.display().to_string()]));
    config.restart.budget = 0;
    let manager = start([per_user(config)]).await;
    let server = manager.server("s").unwrap();
    state(&server, "parked").await;
    std::fs::write(bench.path("once"), "").unwrap();
    let ann = way(&server, "ann").await;
    pid_of(&bench, &ann, "ann").await;
    assert_eq!(server.status().state, "parked");
    assert!(
        server.known_era().is_some(),
        "heard from a principal's connection"
    );
    end(manager, &bench).await;
}

#[tokio::test]
async fn a_principal_has_so_many_connections_and_makes_room_among_its_own() {
    let bench = Bench::new();
    let mut config = bench.server("s", &[]);
    config.connections.per_user = 2;
    let (manager, server) = connect(config).await;
    let bob = way(&server, "bob").await;
    let of_bob = pid_of(&bench, &bob, "bob").await;
    let kind = async |number: u32| {
        let declared = format!(r#"{{"sampling":{{"n":{number}}}}}"#);
        let face = face(Some("ann"), &declared);
        within("a way", server.for_client(&face)).await
    };
    let one = kind(1).await.unwrap();
    let of_one = pid_of(&bench, &one, "1").await;
    let two = kind(2).await.unwrap();
    pid_of(&bench, &two, "2").await;
    let three = kind(3).await.unwrap();
    pid_of(&bench, &three, "3").await;
    until("the longest idle to go", || !lives(of_one)).await;
    assert_eq!(pid_of(&bench, &bob, "bob-2").await, of_bob);
    let busy: Vec<_> = [&two, &three]
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
    let refused = kind(4).await.unwrap_err();
    assert!(
        refused.to_string().contains("`connections.perUser`"),
        "{refused}"
    );
    assert!(matches!(
        refused,
        CallError::Refused(Refusal::TooManyConnectionsOfUser { limit: 2, .. })
    ));
    busy.iter().for_each(tokio::task::JoinHandle::abort);
    end(manager, &bench).await;
}

#[tokio::test]
async fn f211_what_one_principal_was_listed_is_never_shown_to_another() {
    let bench = Bench::new();
    let mut config = bench.server("s", &["--more-if-declared"]);
    config.connections.idle_ms = 200;
    let (manager, server) = connect(config).await;
    let names = |of: &str, capabilities: &str| -> Vec<String> {
        let audience = mainstay::Audience::of(&face(Some(of), capabilities));
        let own = server.listed_to(&audience).own().expect("something");
        own.tools
            .items
            .iter()
            .map(|tool| tool.name.clone())
            .collect()
    };
    let extra = "with_sampling".to_owned();
    // Before it was asked: the shape of what everybody is listed.
    let audience = mainstay::Audience::of(&face(Some("ann"), SAMPLING));
    assert!(server.listed_to(&audience).is_doubtful());
    assert!(!names("ann", SAMPLING).contains(&extra));
    within("to learn", server.learn(&face(Some("ann"), SAMPLING)))
        .await
        .unwrap();
    assert!(names("ann", SAMPLING).contains(&extra));
    assert!(!server.listed_to(&audience).is_doubtful());
    assert!(
        !names("bob", SAMPLING).contains(&extra),
        "not even with the same capabilities"
    );
    let nobody = mainstay::Audience::of(&face(None, SAMPLING));
    assert!(
        server.listed_to(&nobody).own().is_none_or(|own| own
            .tools
            .items
            .iter()
            .all(|tool| tool.name != extra))
    );
    // Law 22: also when the connection has gone.
    until("its connection to be closed", || {
        server.status().connections.is_empty()
    })
    .await;
    assert!(names("ann", SAMPLING).contains(&extra));
    assert!(!names("bob", SAMPLING).contains(&extra));
    server.disable().await.unwrap();
    assert!(server.listed_to(&audience).own().is_none(), "law 5");
    end(manager, &bench).await;
}

#[tokio::test]
async fn law_25_what_a_principal_wishes_reaches_its_own_connections_and_survives_them() {
    let bench = Bench::new();
    let (manager, server) = connect(bench.server("s", &["--wishes"])).await;
    let (ann, bob) = (way(&server, "ann").await, way(&server, "bob").await);
    let of_bob = pid_of(&bench, &bob, "bob").await;
    let of_ann = pid_of(&bench, &ann, "ann").await;
    let wished = |pid: u32, event: &str| {
        let ledger = bench.ledger("s").into_iter();
        ledger
            .filter(|(by, happened, _)| *by == pid && happened == event)
            .count()
    };
    let wishes = server.wishes_of(&principal("ann"));
    wishes.set_log_level(LogLevel::Debug);
    ann.subscribe("file:///fixed").unwrap();
    let mut updates = ann.resource_updates();
    until("the wishes to be told", || {
        wished(of_ann, "level") == 1 && wished(of_ann, "subscribe") == 1
    })
    .await;
    let _crashed = call(&ann, "crash", json!({"code": 3})).await;
    let next = pid_of(&bench, &ann, "ann-2").await;
    assert_ne!(next, of_ann);
    until("the wishes to be told again", || {
        wished(next, "level") == 1 && wished(next, "subscribe") == 1
    })
    .await;
    let update = tokio::time::timeout(PATIENCE, updates.next())
        .await
        .unwrap();
    assert!(
        matches!(&update, Update::Resource { uri, .. } if **uri == *"file:///fixed"),
        "{update:?}"
    );
    // A client of the same principal that declares something else is on another connection, and is told the same.
    let other = within("a way", server.for_client(&face(Some("ann"), SAMPLING)))
        .await
        .unwrap();
    let second = pid_of(&bench, &other, "ann-3").await;
    assert_ne!(second, next);
    until("it to be told too", || {
        wished(second, "level") == 1 && wished(second, "subscribe") == 1
    })
    .await;
    pid_of(&bench, &server, "nobody").await;
    let told: Vec<u32> = bench
        .ledger("s")
        .into_iter()
        .filter(|(_, event, _)| event == "level" || event == "subscribe")
        .map(|(pid, ..)| pid)
        .collect();
    assert!(
        told.iter().all(|pid| [of_ann, next, second].contains(pid)),
        "{told:?}"
    );
    // And the other way round: what everybody wants is no principal's affair.
    server.set_log_level(LogLevel::Error);
    server.restored().await;
    pid_of(&bench, &bob, "bob-2").await;
    assert_eq!((wished(of_bob, "level"), wished(second, "level")), (0, 1));
    end(manager, &bench).await;
}

#[tokio::test]
async fn servers_of_other_scopes_serve_principals_on_everybodys_connection() {
    let bench = Bench::new();
    let manager = start([bench.server("s", &[])]).await;
    let server = manager.server("s").unwrap();
    generation(&server, 1).await;
    let ann = way(&server, "ann").await;
    let (one, other) = (
        pid_of(&bench, &ann, "1").await,
        pid_of(&bench, &server, "2").await,
    );
    assert_eq!(one, other);
    assert!(server.status().connections.is_empty());
    let records: Vec<Value> = server
        .recent_calls()
        .iter()
        .map(|call| serde_json::to_value(&**call).unwrap())
        .collect();
    assert!(
        records
            .iter()
            .all(|record| record.get("principal").is_none()),
        "{records:?}"
    );
    end(manager, &bench).await;
}
