//! What a server echoes of our secrets never reaches an error or a log (laws 31 and F257), and no header leaves the origin.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mainstay::runtime::http::{EraHint, HttpLink, HttpSetup, Window};
use mainstay_core::failure::FailureKind;
use mainstay_testkit::http_server::{Fault, HttpServer, Script};
use mainstay_wire::envelope::Message;
use mainstay_wire::revision::Era;

use crate::rig::{Rig, in_time, outcome};

const TOKEN: &str = "tok-12345678-s3cret";
const KEY: &str = "key\"with\"quotes-s3cret";

/// A link whose entry holds secrets wherever it can, to a server that gets them.
async fn rig(script: Script) -> Rig {
    let server = HttpServer::start(script).await.expect("a free port");
    let setup = HttpSetup {
        headers: vec![
            ("Authorization".to_owned(), format!("Bearer {TOKEN}")),
            ("X-Key".to_owned(), KEY.to_owned()),
        ],
        // Pauses are not what is looked at here.
        window: Window {
            min_ms: 1,
            max_ms: 2,
        },
        ..HttpSetup::new(format!(
            "http://me:pass-s3cret@{}/mcp?api=query%20s3cret&b=1",
            server.address()
        ))
    };
    Rig {
        server,
        link: Arc::new(HttpLink::new(setup).expect("a link")),
        ears: Arc::default(),
        ids: AtomicU64::new(1),
        era: Era::Legacy,
    }
}

fn assert_discreet(what: &str, said: &str) {
    for secret in ["s3cret", "tok-1", "12345678", "bWU6cGFzcy"] {
        assert!(!said.contains(secret), "{what} shows {secret}: {said}");
    }
}

/// Everything that a server can say back, as a body or as headers.
fn echoes() -> Vec<Fault> {
    let everything = format!(
        "you said Bearer {TOKEN} and {} and query s3cret and query%20s3cret and pass-s3cret and Basic bWU6cGFzcy1zM2NyZXQ=",
        KEY.replace('"', "\\\"")
    );
    let json = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{{\"code\":-32000,\"message\":\"{everything}\"}}}}"
    );
    let mut faults = Vec::new();
    // Padding moves the place where the text is cut through all of the secrets.
    for padding in [0, 60, 80, 90, 100, 110] {
        for status in [400, 401, 403, 404, 406, 409, 413, 429, 500, 503] {
            faults.push(Fault::Status {
                status,
                headers: vec![(
                    "www-authenticate".to_owned(),
                    format!("Bearer error=\"{}{TOKEN}\"", "x".repeat(padding)),
                )],
                body: format!("{}{everything}", "x".repeat(padding)),
            });
        }
        faults.push(Fault::Status {
            status: 200,
            headers: vec![("content-type".to_owned(), "text/html".to_owned())],
            body: format!("{}{everything}", "x".repeat(padding)),
        });
    }
    faults.push(Fault::Status {
        status: 301,
        headers: vec![(
            "location".to_owned(),
            format!("https://me:pass-s3cret@elsewhere.test/x?token={TOKEN}"),
        )],
        body: String::new(),
    });
    faults.push(Fault::Status {
        status: 200,
        headers: Vec::new(),
        body: format!("not json {everything}"),
    });
    faults.push(Fault::Status {
        status: 404,
        headers: Vec::new(),
        body: json,
    });
    faults
}

#[tokio::test]
async fn f257_law_31_no_header_user_or_query_of_the_entry_is_ever_in_a_failure() {
    for fault in echoes() {
        let mut rig = rig(Script::legacy()).await;
        rig.era = rig
            .greet(EraHint::Probe)
            .await
            .expect("greeted")
            .revision
            .era();
        rig.server
            .change(|script| script.then("tools/call", fault.clone()));
        let answered = rig.call("echo", "{}").await;
        if let Err(miss) = &answered {
            assert_discreet("a call", &format!("{miss:?}"));
        }
        rig.server
            .change(|script| script.then("notifications/cancelled", fault.clone()));
        let notice = Message::notification("notifications/cancelled", Some("{}"));
        if let Err(failure) = in_time(rig.link.notify(notice)).await {
            assert_discreet("a notification", &format!("{failure:?} {failure}"));
        }
        let fresh = self::rig(Script::legacy()).await;
        fresh.server.change(|script| {
            script.then_times("server/discover", 9, fault.clone());
            script.then_times("initialize", 9, fault.clone());
        });
        let failure = fresh.greet(EraHint::Probe).await.expect_err("no greeting");
        assert_discreet("a greeting", &format!("{failure:?} {failure}"));
        assert!(failure.detail.as_deref().unwrap_or_default().len() < 1_600);
        assert_discreet("the link itself", &format!("{:?}", fresh.link));
        let noise = rig.ears.skipped.lock().expect("whole").join("\n");
        assert_discreet("noise", &noise);
    }
}

#[tokio::test]
async fn f257_law_31_a_server_that_cannot_be_reached_is_named_without_secrets() {
    let mut rig = rig(Script::legacy()).await;
    rig.server.stop().await;
    let failure = rig.greet(EraHint::Probe).await.expect_err("nobody");
    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert_discreet("unreachable", &format!("{failure:?} {failure}"));
}

#[tokio::test]
async fn f83_f242_no_header_ever_reaches_another_origin_whatever_the_redirect() {
    let stranger = HttpServer::start(Script::modern())
        .await
        .expect("a free port");
    let port = stranger.address().port();
    for base in [Script::legacy(), Script::modern()] {
        let mut rig = rig(base).await;
        rig.era = rig
            .greet(EraHint::Probe)
            .await
            .expect("greeted")
            .revision
            .era();
        for code in [301, 302, 303, 307, 308] {
            for location in [
                stranger.url(),
                // The same host by another name, and the same host with another port.
                format!("http://localhost:{port}/mcp"),
                format!("//127.0.0.1:{port}/mcp"),
                format!("http://me:pass-s3cret@127.0.0.1:{port}/mcp"),
            ] {
                let fault = Fault::Status {
                    status: code,
                    headers: vec![("location".to_owned(), location.clone())],
                    body: String::new(),
                };
                rig.server.change(|script| script.then("tools/call", fault));
                let answered = rig.call("add_marker", r#"{"marker":"m"}"#).await;
                assert_eq!(
                    outcome(&answered),
                    ("rejected", Some(FailureKind::NotMcp)),
                    "{code} {location}: {answered:?}"
                );
                assert!(
                    format!("{answered:?}").contains(&format!(":{port}/mcp")),
                    "the new address is told: {answered:?}"
                );
            }
        }
        assert_eq!(rig.server.ledger().counts().markers.get("m"), None);
    }
    let counts = stranger.ledger().counts();
    assert_eq!(
        (counts.connections, stranger.ledger().seen().len()),
        (0, 0),
        "not even a connection"
    );
}

#[tokio::test]
async fn f83_f242_a_redirect_within_the_origin_keeps_headers_method_and_body() {
    let mut rig = rig(Script::modern()).await;
    rig.era = rig
        .greet(EraHint::Probe)
        .await
        .expect("greeted")
        .revision
        .era();
    for code in [307, 308] {
        let fault = Fault::Status {
            status: code,
            headers: vec![("location".to_owned(), "/mcp?moved=1".to_owned())],
            body: String::new(),
        };
        rig.server.change(|script| script.then("tools/call", fault));
        let answered = rig.call("echo", r#"{"text":"kept"}"#).await;
        assert_eq!(outcome(&answered), ("answered", None), "{answered:?}");
        let seen = rig.server.ledger().seen_of("tools/call");
        let [.., first, second] = &seen[..] else {
            panic!("{seen:?}")
        };
        assert_eq!((&first.verb, &first.body), (&second.verb, &second.body));
        assert_eq!(second.header("x-key"), Some(KEY));
    }
}
