//! What sockets do to answers: resets at any byte, silence, slow drips, connections that never stand.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mainstay::runtime::http::{EraHint, HttpLink, HttpSetup, Resolver};
use mainstay_core::failure::FailureKind;
use mainstay_testkit::http_server::{
    AcceptPolicy, Fault, Framing, GetPolicy, HttpServer, Script, Then,
};
use mainstay_wire::envelope::Limits;
use tokio::net::TcpSocket;

use crate::rig::{Ears, PROBE_MS, Rig, in_time, link_within, outcome, text, wait_until};

/// Longer than any answer of these tests, head included.
const ANSWER_BYTES_MAX: u64 = 900;

async fn rigs(framing: Framing) -> [Rig; 2] {
    let script = Script {
        framing,
        ..Script::legacy()
    };
    let mut other = Rig::through_the_other_engine(script.clone()).await;
    other.era = other
        .greet(EraHint::Probe)
        .await
        .expect("greeted")
        .revision
        .era();
    [Rig::greeted(script).await, other]
}

/// Cuts the answer of one call after so many bytes and says whether it was answered.
async fn cut_call(rig: &Rig, after_bytes: u64, then: Then) -> bool {
    let fault = Fault::Cut {
        after_bytes,
        then,
        every_ms: 0,
    };
    rig.server
        .change(|script| script.then("tools/call", fault.clone()));
    let marker = format!("{then:?}-{after_bytes}");
    let answered = rig
        .call("add_marker", &format!("{{\"marker\":\"{marker}\"}}"))
        .await;
    let ran = rig.server.ledger().counts().markers.get(&marker).copied();
    assert_eq!(ran, Some(1), "{fault:?}: it runs once: {answered:?}");
    match &answered {
        Ok(answer) => assert_eq!(text(answer), marker, "{fault:?}: the right answer"),
        Err(_) => assert_eq!(
            outcome(&answered),
            ("lost", Some(FailureKind::StreamClosed)),
            "{fault:?}: it ran, so nothing less than unknown is true: {answered:?}"
        ),
    }
    answered.is_ok()
}

#[tokio::test]
async fn f82_f87_law_16_an_answer_cut_at_any_byte_is_whole_or_lost_and_never_hangs() {
    for framing in [Framing::Json, Framing::Sse] {
        for rig in &rigs(framing).await {
            for then in [Then::Reset, Then::Close] {
                let mut answered = 0;
                for after_bytes in 0..ANSWER_BYTES_MAX {
                    let is_answered = cut_call(rig, after_bytes, then).await;
                    assert!(
                        is_answered || answered == 0,
                        "{framing:?}: whole at fewer bytes, lost at {after_bytes}"
                    );
                    answered += u64::from(is_answered);
                    // A few more than the whole answer are enough.
                    if answered > 8 {
                        break;
                    }
                }
                assert!(answered > 8, "{framing:?}: the whole answer is an answer");
            }
        }
    }
}

#[tokio::test]
async fn f86_f88_an_answer_that_stalls_at_any_part_waits_for_the_caller_and_holds_nobody_else() {
    for framing in [Framing::Json, Framing::Sse] {
        for rig in &rigs(framing).await {
            // Before the head, within it, and within the body.
            for after_bytes in [0, 20, 150] {
                let fault = Fault::Cut {
                    after_bytes,
                    then: Then::Stall,
                    every_ms: 0,
                };
                rig.server.change(|script| script.then("tools/call", fault));
                let stalled = rig.link.exchange(rig.tool("echo", "{}"), &*rig.ears);
                assert!(
                    tokio::time::timeout(Duration::from_millis(100), stalled)
                        .await
                        .is_err(),
                    "no read deadline of the client cuts a slow answer"
                );
                rig.call("echo", "{}").await.expect("others go on");
            }
        }
    }
}

#[tokio::test]
async fn f86_an_answer_that_comes_byte_by_byte_is_read_to_its_end() {
    for framing in [Framing::Json, Framing::Sse] {
        for rig in &rigs(framing).await {
            rig.server.change(|script| {
                script.then(
                    "tools/call",
                    Fault::Cut {
                        after_bytes: 10,
                        then: Then::Drip,
                        every_ms: 1,
                    },
                )
            });
            let answer = rig
                .call("echo", r#"{"text":"slow"}"#)
                .await
                .expect("answered");
            assert_eq!(text(&answer), "slow", "{framing:?}");
        }
    }
}

#[tokio::test]
async fn f85_law_16_connections_that_are_reset_or_closed_at_once_end_the_call_at_once() {
    for policy in [AcceptPolicy::Reset, AcceptPolicy::Close] {
        for url in ["http://", "http://me:you@"] {
            let script = Script {
                accept: policy,
                ..Script::legacy()
            };
            let server = HttpServer::start(script).await.expect("a free port");
            let link = link_within(
                &format!("{url}{}/mcp", server.address()),
                Limits::default(),
                10_000,
            );
            let ids = std::sync::atomic::AtomicU64::new(1);
            let failure = in_time(link.greet(&ids, EraHint::Probe, PROBE_MS, &Ears::default()))
                .await
                .expect_err("nobody greets");
            assert!(
                matches!(
                    failure.kind,
                    FailureKind::StreamClosed | FailureKind::Unreachable
                ),
                "{policy:?}: {failure}"
            );
            assert_eq!(server.ledger().counts().posts, 0);
        }
    }
}

/// A port whose queue of connections is full: the next one never stands, and is not refused either.
async fn full_port() -> (SocketAddr, Vec<Box<dyn Send>>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .expect("a free port");
    let listener = socket.listen(1).expect("listening");
    let address = listener.local_addr().expect("an address");
    let mut held: Vec<Box<dyn Send>> = vec![Box::new(listener)];
    for _ in 0..64 {
        let connecting = TcpSocket::new_v4().expect("a socket").connect(address);
        match tokio::time::timeout(Duration::from_millis(250), connecting).await {
            Ok(stream) => held.push(Box::new(stream)),
            Err(_elapsed) => return (address, held),
        }
    }
    panic!("the queue takes everything");
}

#[tokio::test]
async fn f78_a_connection_that_never_stands_is_given_up_by_its_own_deadline_and_nothing_was_sent() {
    let (address, _held) = full_port().await;
    let rig = Rig::strangers(Script::legacy()).await;
    for url in ["http://", "http://me:you@", "https://"] {
        let link = link_within(&format!("{url}{address}/mcp"), Limits::default(), 300);
        let answered = in_time(link.exchange(rig.tool("echo", "{}"), &*rig.ears)).await;
        assert_eq!(
            outcome(&answered),
            ("not sent", Some(FailureKind::Unreachable)),
            "{url}: {answered:?}"
        );
    }
}

#[tokio::test]
async fn f78_a_tls_handshake_that_is_never_answered_is_part_of_connecting() {
    let rig = Rig::strangers(Script {
        accept: AcceptPolicy::Silent,
        ..Script::legacy()
    })
    .await;
    let url = format!("https://{}/mcp", rig.server.address());
    let link = link_within(&url, Limits::default(), 300);
    let answered = in_time(link.exchange(rig.tool("echo", "{}"), &*rig.ears)).await;
    assert_eq!(
        outcome(&answered),
        ("not sent", Some(FailureKind::Unreachable)),
        "{answered:?}"
    );
}

#[tokio::test]
async fn f86_the_connect_deadline_is_none_for_answers() {
    let rig = Rig::strangers(Script::legacy()).await;
    for url in ["http://", "http://me:you@"] {
        let url = format!("{url}{}/mcp", rig.server.address());
        let link = link_within(&url, Limits::default(), 100);
        in_time(link.greet(&rig.ids, EraHint::Probe, PROBE_MS, &*rig.ears))
            .await
            .expect("greeted");
        let server = &rig.server;
        let runs = || {
            server
                .ledger()
                .counts()
                .calls
                .get("slow")
                .copied()
                .unwrap_or(0)
        };
        let before = runs();
        let release = async {
            wait_until("it runs", || runs() > before).await;
            // Well beyond the connect deadline.
            tokio::time::sleep(Duration::from_millis(400)).await;
            server.release();
        };
        let (answered, ()) = tokio::join!(
            in_time(link.exchange(rig.tool("slow", "{}"), &*rig.ears)),
            release
        );
        assert_eq!(outcome(&answered), ("answered", None), "{answered:?}");
    }
}

/// A link to a name whose addresses can be changed at any time.
fn link_by_name(user: &str, addresses: &Arc<Mutex<Vec<SocketAddr>>>) -> HttpLink {
    let addresses = Arc::clone(addresses);
    let resolver: Resolver = Arc::new(move |name: &str| {
        assert_eq!(name, "moving.test");
        addresses.lock().expect("whole").clone()
    });
    let port = |address: &SocketAddr| address.port();
    let port = resolver("moving.test").first().map_or(80, port);
    let setup = HttpSetup {
        resolver: Some(resolver),
        ..HttpSetup::new(format!("http://{user}moving.test:{port}/mcp"))
    };
    HttpLink::new(setup).expect("a link")
}

/// Two servers on one port of two addresses of this machine.
async fn twins() -> (HttpServer, HttpServer) {
    loop {
        let first = HttpServer::start(Script::modern()).await.expect("a port");
        let twin = SocketAddr::from(([127, 0, 0, 2], first.address().port()));
        // Somebody else may have that port there.
        if let Ok(second) = HttpServer::start_on(twin, Script::modern()).await {
            return (first, second);
        }
    }
}

#[tokio::test]
async fn f79_a_name_is_resolved_anew_for_every_connection() {
    for user in ["", "me:you@"] {
        let (mut first, second) = twins().await;
        let addresses = Arc::new(Mutex::new(vec![first.address()]));
        let link = link_by_name(user, &addresses);
        let rig = Rig::strangers(Script::modern()).await;
        in_time(link.greet(&rig.ids, EraHint::Probe, PROBE_MS, &*rig.ears))
            .await
            .expect("greeted at its first address");
        *addresses.lock().expect("whole") = vec![second.address()];
        first.stop().await;
        in_time(link.greet(&rig.ids, EraHint::Probe, PROBE_MS, &*rig.ears))
            .await
            .expect("greeted at its second address");
        assert_eq!(
            (
                first.ledger().counts().discovers,
                second.ledger().counts().discovers
            ),
            (1, 1)
        );
    }
}

#[tokio::test]
async fn f78_an_address_that_refuses_does_not_hide_one_that_works() {
    for user in ["", "me:you@"] {
        let server = HttpServer::start(Script::modern()).await.expect("a port");
        // Nobody listens at the first two.
        let at = |last: u8| SocketAddr::from(([127, 9, 9, last], server.address().port()));
        let addresses = vec![at(1), at(2), server.address()];
        let addresses = Arc::new(Mutex::new(addresses));
        let link = link_by_name(user, &addresses);
        let rig = Rig::strangers(Script::modern()).await;
        in_time(link.greet(&rig.ids, EraHint::Probe, PROBE_MS, &*rig.ears))
            .await
            .expect("greeted at the address that works");
    }
}

#[tokio::test]
async fn f102_a_push_stream_keeps_the_pause_of_its_host() {
    for base in [Script::legacy(), Script::modern()] {
        let mut rig = Rig::strangers(base).await;
        let greeting = rig.greet(EraHint::Probe).await.expect("greeted");
        rig.era = greeting.revision.era();
        let _push = rig.push(greeting);
        let opened = || {
            let counts = rig.server.ledger().counts();
            counts.gets + counts.listens
        };
        wait_until("the stream", || {
            rig.server.ledger().counts().streams_open == 1
        })
        .await;
        let headers = vec![("retry-after".to_owned(), "4".to_owned())];
        let fault = Fault::Status {
            status: 429,
            headers,
            body: String::new(),
        };
        rig.server.change(|script| script.then("tools/call", fault));
        let began = Instant::now();
        assert_eq!(
            outcome(&rig.call("echo", "{}").await),
            ("rejected", Some(FailureKind::RateLimited))
        );
        rig.server.end_streams();
        wait_until("the stream again", || opened() == 2).await;
        assert!(
            began.elapsed() >= Duration::from_millis(3_500),
            "by itself it would come back within two seconds: {:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn f81_f96_f97_calls_never_wait_behind_a_stream_nor_behind_a_server_that_has_none() {
    for (user, get) in [
        ("", GetPolicy::Stream),
        ("me:you@", GetPolicy::Stream),
        ("", GetPolicy::NotAllowed),
        ("", GetPolicy::Text),
    ] {
        let mut rig = Rig::strangers(Script {
            get,
            ..Script::legacy()
        })
        .await;
        let url = format!("http://{user}{}/mcp", rig.server.address());
        rig.link = Arc::new(link_within(&url, Limits::default(), 10_000));
        let greeting = rig.greet(EraHint::Probe).await.expect("greeted");
        let _push = rig.push(greeting);
        wait_until("the stream was asked for", || {
            rig.server.ledger().counts().gets == 1
        })
        .await;
        let calls = (0..20).map(|_| rig.call("echo", "{}"));
        let answered = in_time(futures_util::future::join_all(calls)).await;
        assert!(answered.iter().all(Result::is_ok), "{get:?}: {answered:?}");
        assert_eq!(
            rig.server.ledger().counts().gets,
            1,
            "{get:?}: asked for once"
        );
    }
}
