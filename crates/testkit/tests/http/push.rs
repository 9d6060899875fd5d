//! The push stream of either era, and how little a server is bothered about it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay::runtime::Origin;
use mainstay::runtime::http::{EraHint, Greeting, PushEnd, PushStage};
use mainstay_testkit::http_server::{Fault, GetPolicy, Script};
use mainstay_wire::revision::Era;

use crate::rig::{Rig, in_time, link_with, wait_until};

async fn rig(script: Script) -> (Rig, Greeting) {
    let mut rig = Rig::strangers(script).await;
    let greeting = rig.greet(EraHint::Probe).await.expect("greeted");
    rig.era = greeting.revision.era();
    (rig, greeting)
}

#[tokio::test]
async fn list_changes_arrive_in_both_eras_and_calls_do_not_wait_behind_the_stream() {
    for script in [Script::legacy(), Script::modern()] {
        let (rig, greeting) = rig(script).await;
        let era = greeting.revision.era();
        let _pushing = rig.push(greeting);
        wait_until("the stream is open", || {
            rig.server.ledger().counts().streams_open == 1
        })
        .await;
        // F81: many calls at once, with the stream open.
        let calls = (0..16).map(|_| rig.call("echo", "{}"));
        assert!(
            futures_util::future::join_all(calls)
                .await
                .iter()
                .all(Result::is_ok)
        );
        rig.call("set_tools", r#"{"names":["fresh"]}"#)
            .await
            .expect("answered");
        wait_until("the change is heard", || !rig.ears.methods().is_empty()).await;
        assert_eq!(
            rig.ears.methods(),
            ["notifications/tools/list_changed"],
            "{era}"
        );
        assert_eq!(rig.ears.heard.lock().unwrap()[0].1, Origin::Push);
        assert_eq!(
            rig.ears.gaps.load(Ordering::Relaxed),
            0,
            "nothing was missed"
        );
        let counts = rig.server.ledger().counts();
        assert_eq!(
            (counts.gets, counts.listens),
            if era == Era::Legacy { (1, 0) } else { (0, 1) }
        );
    }
}

#[tokio::test]
async fn dropping_the_push_closes_its_stream() {
    for script in [Script::legacy(), Script::modern()] {
        let (rig, greeting) = rig(script).await;
        let pushing = rig.push(greeting);
        wait_until("the stream is open", || {
            rig.server.ledger().counts().streams_open == 1
        })
        .await;
        drop(pushing);
        wait_until("the stream is closed", || {
            rig.server.ledger().counts().streams_open == 0
        })
        .await;
    }
}

#[tokio::test]
async fn f96_f97_a_server_without_a_stream_is_asked_once() {
    for get in [GetPolicy::NotAllowed, GetPolicy::Text] {
        let (rig, greeting) = rig(Script {
            get,
            ..Script::legacy()
        })
        .await;
        let mut pushing = rig.push(greeting);
        assert_eq!(
            in_time(&mut pushing.0).await.expect("ends"),
            PushEnd::Unsupported,
            "{get:?}"
        );
        assert_eq!(rig.server.ledger().counts().gets, 1);
    }
}

#[tokio::test]
async fn f111_a_404_on_the_stream_is_a_lost_session() {
    let (rig, greeting) = rig(Script::legacy()).await;
    let mut pushing = rig.push(greeting);
    wait_until("the stream is open", || {
        rig.server.ledger().counts().streams_open == 1
    })
    .await;
    rig.server.forget_sessions();
    assert_eq!(
        in_time(&mut pushing.0).await.expect("ends"),
        PushEnd::SessionLost
    );
    assert_eq!(rig.server.ledger().counts().gets, 2);
}

#[tokio::test]
async fn f90_f111_words_under_500_on_the_stream_are_checked_with_the_session() {
    let get_plan = [GetPolicy::Wrapped].into();
    let (rig, greeting) = rig(Script {
        get_plan,
        ..Script::legacy()
    })
    .await;
    let _pushing = rig.push(greeting);
    wait_until("the stream is open after all", || {
        rig.server.ledger().counts().streams_open == 1
    })
    .await;
    assert_eq!(rig.server.ledger().seen_of("ping").len(), 1);
}

#[tokio::test]
async fn f96_f111_a_404_on_the_stream_of_a_living_session_is_only_a_missing_stream() {
    let (rig, greeting) = rig(Script {
        get: GetPolicy::NotFound,
        ..Script::legacy()
    })
    .await;
    let mut pushing = rig.push(greeting);
    assert_eq!(
        in_time(&mut pushing.0).await.expect("ends"),
        PushEnd::Unsupported
    );
    assert_eq!(rig.server.ledger().counts().gets, 1);
    rig.call("echo", "{}").await.expect("the session lives");
}

#[tokio::test]
async fn f126_a_giant_event_on_the_stream_is_not_resumed_but_left_behind_with_a_gap() {
    let get_plan = [GetPolicy::EventThenGiant].into();
    let (mut rig, _) = rig(Script {
        get_plan,
        ..Script::legacy()
    })
    .await;
    let limits = mainstay_wire::envelope::Limits {
        message_bytes_max: 64 * 1024,
        ..mainstay_wire::envelope::Limits::default()
    };
    rig.link = std::sync::Arc::new(link_with(&rig.server.url(), limits, 20_000));
    let greeting = rig.greet(EraHint::Probe).await.expect("greeted");
    let _pushing = rig.push(greeting);
    wait_until("the gap is told", || {
        rig.ears.gaps.load(Ordering::Relaxed) == 1
    })
    .await;
    let gets = rig.server.ledger().seen_by("GET");
    assert_eq!(gets[1].header("last-event-id"), None);
    assert_eq!(rig.ears.methods(), ["notifications/tools/list_changed"]);
}

#[tokio::test]
async fn f111_a_stream_that_is_denied_is_given_up_after_three_attempts_and_calls_go_on() {
    for get in [GetPolicy::Unauthorized, GetPolicy::Forbidden] {
        let (rig, greeting) = rig(Script {
            get,
            ..Script::legacy()
        })
        .await;
        let mut pushing = rig.push(greeting);
        assert_eq!(
            in_time(&mut pushing.0).await.expect("ends"),
            PushEnd::Refused,
            "{get:?}"
        );
        assert_eq!(rig.server.ledger().counts().gets, 3);
        rig.call("echo", "{}").await.expect("the server is fine");
    }
}

#[tokio::test]
async fn f117_the_watcher_hears_of_a_degraded_stream_and_of_its_return() {
    let get_plan = [GetPolicy::Unavailable, GetPolicy::Unavailable].into();
    let (rig, greeting) = rig(Script {
        get_plan,
        ..Script::legacy()
    })
    .await;
    let _pushing = rig.push(greeting);
    wait_until("the stream is open", || {
        rig.server.ledger().counts().streams_open == 1
    })
    .await;
    // After failures it is believed when something comes.
    rig.server.tell_changed("tools");
    let open = PushStage::Open {
        tools: true,
        prompts: true,
        resources: true,
    };
    wait_until("it is believed", || {
        rig.ears.stages.lock().unwrap().last() == Some(&open)
    })
    .await;
    assert_eq!(
        *rig.ears.stages.lock().unwrap(),
        [PushStage::Reopening, PushStage::Degraded, open]
    );
}

#[tokio::test]
async fn f124_a_stream_that_falls_silent_is_opened_anew_and_the_gap_is_told() {
    for script in [Script::legacy(), Script::modern()] {
        let (mut rig, _) = rig(script).await;
        let limits = mainstay_wire::envelope::Limits::default();
        rig.link = std::sync::Arc::new(link_with(&rig.server.url(), limits, 100));
        let greeting = rig.greet(EraHint::Probe).await.expect("greeted");
        let era = greeting.revision.era();
        let _pushing = rig.push(greeting);
        wait_until("it is opened again", || {
            let counts = rig.server.ledger().counts();
            counts.gets + counts.listens >= 2
        })
        .await;
        wait_until("the gap is told", || {
            rig.ears.gaps.load(Ordering::Relaxed) >= 1
        })
        .await;
        wait_until("the silent one was closed", || {
            rig.server.ledger().counts().streams_open <= 1
        })
        .await;
        assert_eq!(
            rig.server.ledger().seen_of("initialize").len() == 2,
            era == Era::Legacy
        );
    }
}

#[tokio::test]
async fn law_14_f128_comments_are_life_and_keep_a_stream() {
    let (mut rig, _) = rig(Script {
        get: GetPolicy::Comments,
        ..Script::legacy()
    })
    .await;
    let limits = mainstay_wire::envelope::Limits::default();
    rig.link = std::sync::Arc::new(link_with(&rig.server.url(), limits, 5_000));
    let greeting = rig.greet(EraHint::Probe).await.expect("greeted");
    let _pushing = rig.push(greeting);
    // 130 comments take longer than the stream may be silent.
    wait_until("it lives", || rig.ears.lives.load(Ordering::Relaxed) >= 130).await;
    assert_eq!(rig.server.ledger().counts().gets, 1);
}

#[tokio::test]
async fn f132_what_the_server_does_not_take_on_is_known() {
    let (rig, greeting) = rig(Script {
        listen_omits: vec!["toolsListChanged".into()],
        ..Script::modern()
    })
    .await;
    let _pushing = rig.push(greeting);
    wait_until("it is acknowledged", || {
        !rig.ears.stages.lock().unwrap().is_empty()
    })
    .await;
    assert_eq!(
        *rig.ears.stages.lock().unwrap(),
        [PushStage::Open {
            tools: false,
            prompts: true,
            resources: false
        }]
    );
}

#[tokio::test]
async fn f138_a_version_that_is_no_longer_served_ends_the_listening() {
    let (rig, greeting) = rig(Script::modern()).await;
    let mut pushing = rig.push(greeting);
    wait_until("the stream is open", || {
        rig.server.ledger().counts().streams_open == 1
    })
    .await;
    rig.server
        .change(|script| script.modern_versions = vec!["2031-01-01".into()]);
    rig.server.end_streams();
    assert_eq!(
        in_time(&mut pushing.0).await.expect("ends"),
        PushEnd::SessionLost
    );
}

#[tokio::test]
async fn f115_f116_f117_a_stream_that_never_lasts_is_tried_rarely_and_for_ever() {
    for get in [GetPolicy::End, GetPolicy::Reset, GetPolicy::Unavailable] {
        let (rig, greeting) = rig(Script {
            get,
            ..Script::legacy()
        })
        .await;
        let _pushing = rig.push(greeting);
        let gets = || rig.server.ledger().counts().gets;
        let started = tokio::time::Instant::now();
        wait_until("it is tried again", || gets() >= 3).await;
        // Pauses of at least 1 and 2 seconds lie between three attempts; a hot loop has made thousands by now.
        assert!(
            started.elapsed() >= Duration::from_millis(2_900),
            "{get:?}: {:?}",
            started.elapsed()
        );
        assert!(gets() <= 3, "{get:?}: {} attempts", gets());
        assert_eq!(
            rig.server.ledger().counts().initializes,
            1,
            "the session is not touched"
        );
    }
}

#[tokio::test]
async fn f117_f123_after_a_bad_start_the_stream_comes_and_a_cut_leaves_a_gap_to_be_listed() {
    let get_plan = [GetPolicy::Unavailable].into();
    let (rig, greeting) = rig(Script {
        get_plan,
        ..Script::legacy()
    })
    .await;
    let _pushing = rig.push(greeting);
    wait_until("the stream is open", || {
        rig.server.ledger().counts().streams_open == 1
    })
    .await;
    assert_eq!(rig.ears.gaps.load(Ordering::Relaxed), 0);
    rig.server.end_streams();
    wait_until("the stream is open again", || {
        let counts = rig.server.ledger().counts();
        counts.gets == 3 && counts.streams_open == 1
    })
    .await;
    wait_until("the gap is told", || {
        rig.ears.gaps.load(Ordering::Relaxed) == 1
    })
    .await;
}

#[tokio::test]
async fn f123_a_numbered_stream_is_resumed_and_leaves_no_gap() {
    let get_plan = [GetPolicy::EventThenEnd].into();
    let (rig, greeting) = rig(Script {
        get_plan,
        ..Script::legacy()
    })
    .await;
    let _pushing = rig.push(greeting);
    wait_until("the stream is open again", || {
        rig.server.ledger().counts().streams_open == 1
    })
    .await;
    let gets = rig.server.ledger().seen_by("GET");
    assert_eq!(gets[0].header("last-event-id"), None);
    assert!(
        gets[1]
            .header("last-event-id")
            .expect("resumed")
            .starts_with("push-")
    );
    assert_eq!(rig.ears.gaps.load(Ordering::Relaxed), 0);
    assert_eq!(rig.ears.methods(), ["notifications/tools/list_changed"]);
}

#[tokio::test]
async fn f129_f130_after_every_new_listen_there_is_a_gap_to_be_listed() {
    let (rig, greeting) = rig(Script {
        listen_ends: true,
        ..Script::modern()
    })
    .await;
    let _pushing = rig.push(greeting);
    wait_until("it listens again", || {
        rig.server.ledger().counts().listens == 2
    })
    .await;
    rig.server.change(|script| script.listen_ends = false);
    wait_until("it stays", || {
        rig.server.ledger().counts().streams_open == 1
    })
    .await;
    let gaps = || rig.ears.gaps.load(Ordering::Relaxed);
    wait_until("every gap is told", || {
        gaps() + 1 == rig.server.ledger().counts().listens
    })
    .await;
    assert!(gaps() >= 2);
    let listen = rig
        .server
        .ledger()
        .seen_of("subscriptions/listen")
        .remove(0);
    assert_eq!(listen.header("mcp-method"), Some("subscriptions/listen"));
    assert!(
        listen.body.contains("\"toolsListChanged\":true"),
        "{}",
        listen.body
    );
}

#[tokio::test]
async fn f131_listen_refused_as_unknown_is_no_push_and_no_failure() {
    let (rig, greeting) = rig(Script {
        listen: false,
        ..Script::modern()
    })
    .await;
    let mut pushing = rig.push(greeting);
    assert_eq!(
        in_time(&mut pushing.0).await.expect("ends"),
        PushEnd::Unsupported
    );
    assert_eq!(rig.server.ledger().counts().listens, 1);
    rig.call("echo", "{}").await.expect("the server is fine");
}

#[tokio::test]
async fn a_modern_server_that_declares_no_changes_is_not_asked() {
    let (rig, greeting) = rig(Script {
        list_changed: false,
        ..Script::modern()
    })
    .await;
    let mut pushing = rig.push(greeting);
    assert_eq!(
        in_time(&mut pushing.0).await.expect("ends"),
        PushEnd::Unsupported
    );
    assert_eq!(rig.server.ledger().counts().listens, 0);
}

#[tokio::test]
async fn f131_an_overloaded_listen_is_tried_again() {
    let body = r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32603,"message":"too many streams"}}"#;
    let busy = Fault::Status {
        status: 200,
        headers: Vec::new(),
        body: body.to_owned(),
    };
    let (rig, greeting) = rig(Script::modern().plan("subscriptions/listen", busy)).await;
    let _pushing = rig.push(greeting);
    wait_until("it stays", || {
        rig.server.ledger().counts().streams_open == 1
    })
    .await;
    assert_eq!(rig.server.ledger().counts().listens, 2);
}
