//! The other HTTP engine: the one that TLS, proxies and URLs with a user go through. It has to behave the same.

use std::time::Duration;

use mainstay::runtime::http::EraHint;
use mainstay_core::failure::FailureKind;
use mainstay_testkit::http_server::{Fault, Framing, Script};
use mainstay_wire::envelope::Limits;
use mainstay_wire::revision::Era;

use crate::rig::{Ears, PROBE_MS, Rig, in_time, link_to, outcome, text, wait_until};

async fn greeted(script: Script) -> Rig {
    let mut rig = Rig::through_the_other_engine(script).await;
    rig.era = rig
        .greet(EraHint::Probe)
        .await
        .expect("greeted")
        .revision
        .era();
    rig
}

#[tokio::test]
async fn calls_sessions_and_streams_work_and_the_user_becomes_a_header() {
    for script in [Script::legacy(), Script::modern()] {
        let rig = greeted(Script {
            framing: Framing::Sse,
            ..script
        })
        .await;
        let answer = rig.call("echo", r#"{"text":"é"}"#).await.expect("answered");
        assert_eq!(text(&answer), "é");
        let long = "y".repeat(300_000);
        let answer = rig
            .call("echo", &format!("{{\"text\":\"{long}\"}}"))
            .await
            .expect("answered");
        assert_eq!(text(&answer), long);
        for seen in rig.server.ledger().seen() {
            assert_eq!(seen.header("authorization"), Some("Basic bWU6cyBjcmV0"));
            assert_eq!(seen.header("accept-encoding"), None);
        }
        in_time(rig.link.close()).await;
        assert_eq!(
            rig.server.ledger().counts().deletes,
            u64::from(rig.era == Era::Legacy)
        );
    }
}

#[tokio::test]
async fn redirects_are_not_followed_by_the_engine_and_breaks_are_lost() {
    let rig = greeted(Script::legacy()).await;
    let headers = vec![("location".to_owned(), "/mcp".to_owned())];
    let moved = |status| Fault::Status {
        status,
        headers: headers.clone(),
        body: String::new(),
    };
    rig.server
        .change(|script| script.then("tools/call", moved(302)));
    assert_eq!(
        outcome(&rig.call("echo", "{}").await),
        ("rejected", Some(FailureKind::NotMcp))
    );
    rig.server
        .change(|script| script.then("tools/call", moved(307)));
    assert_eq!(outcome(&rig.call("echo", "{}").await), ("answered", None));
    for fault in [
        Fault::Drop,
        Fault::BreakBeforeAnswer,
        Fault::EndBeforeAnswer,
    ] {
        rig.server
            .change(|script| script.then("tools/call", fault.clone()));
        let answered = rig.call("echo", "{}").await;
        assert_eq!(
            outcome(&answered),
            ("lost", Some(FailureKind::StreamClosed)),
            "{fault:?}"
        );
        assert!(
            !format!("{answered:?}").contains("cret"),
            "law 31: {answered:?}"
        );
    }
}

#[tokio::test]
async fn f142_dropping_a_call_closes_its_connection() {
    let rig = greeted(Script::modern()).await;
    let call = rig.link.exchange(rig.tool("slow", "{}"), &*rig.ears);
    let running = || rig.server.ledger().counts().calls.contains_key("slow");
    tokio::select! {
        answered = call => panic!("not yet: {answered:?}"),
        () = wait_until("it runs", running) => {}
    }
    wait_until("the server sees it", || {
        rig.server.ledger().counts().disconnects == 1
    })
    .await;
}

#[tokio::test]
async fn law_16_f80_no_connection_and_no_tls_mean_that_nothing_was_sent() {
    let mut rig = greeted(Script::legacy()).await;
    rig.server.stop().await;
    let answered = rig.call("echo", "{}").await;
    assert_eq!(
        outcome(&answered),
        ("not sent", Some(FailureKind::Unreachable)),
        "{answered:?}"
    );
    assert!(
        !format!("{answered:?}").contains("cret"),
        "law 31: {answered:?}"
    );
    // A server that does not speak TLS.
    rig.server
        .start_again()
        .await
        .expect("the port is still free");
    let link = link_to(
        &format!("https://{}/mcp", rig.server.address()),
        Limits::default(),
    );
    let ears = Ears::default();
    let failure = in_time(link.greet(&rig.ids, EraHint::Probe, PROBE_MS, &ears))
        .await
        .expect_err("no TLS");
    assert_eq!(failure.kind, FailureKind::Unreachable, "{failure}");
    let answered = in_time(link.exchange(rig.tool("echo", "{}"), &ears)).await;
    assert_eq!(
        outcome(&answered),
        ("not sent", Some(FailureKind::Unreachable)),
        "{answered:?}"
    );
}

#[tokio::test]
async fn law_17_a_server_that_accepts_and_says_nothing_holds_nobody() {
    let rig = greeted(Script::legacy().plan("tools/call", Fault::NeverAnswer)).await;
    let waiting = rig.link.exchange(rig.tool("echo", "{}"), &*rig.ears);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), waiting)
            .await
            .is_err()
    );
    rig.call("echo", "{}")
        .await
        .expect("others are not concerned");
}
