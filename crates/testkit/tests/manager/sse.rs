//! Servers over the HTTP+SSE transport of 2024-11-05: found out, called, broken and recovered like the others.

use mainstay::config::{Config, Keepalive, ServerConfig};
use mainstay::{CallError, Manager, ServerHandle};
use mainstay_testkit::http_server::{
    EndpointForm, Fault, GetPolicy, HttpServer, OldScript, Script,
};
use serde_json::json;

use super::harness::*;

fn old(old: OldScript) -> Script {
    Script {
        old,
        ..Script::legacy()
    }
}

async fn fake() -> HttpServer {
    HttpServer::start(old(OldScript::default())).await.unwrap()
}

/// Connects as the config says `"type": "sse"`.
async fn connect(fake: &HttpServer) -> (Manager, ServerHandle) {
    connect_as(quick(ServerConfig::sse("s", fake.sse_url().as_str()))).await
}

async fn connect_as(config: ServerConfig) -> (Manager, ServerHandle) {
    let manager = start([config]).await;
    let server = manager.server("s").unwrap();
    generation(&server, 1).await;
    (manager, server)
}

async fn echo(server: &ServerHandle, words: &str) {
    let answer = call(server, "echo", json!({"text": words})).await.unwrap();
    assert_eq!(text(&answer), words);
}

#[tokio::test]
async fn f29_an_address_that_refuses_streamable_http_is_asked_for_an_event_stream_and_remembered() {
    for post_status in [400, 404, 405] {
        let fake = HttpServer::start(old(OldScript {
            post_status,
            ..OldScript::default()
        }))
        .await
        .unwrap();
        let (manager, server) =
            connect_as(quick(ServerConfig::http("s", fake.sse_url().as_str()))).await;
        echo(&server, "over the old transport").await;
        assert_eq!(server.status().transport, "sse", "{post_status}");
        let seen = fake.ledger().counts();
        assert_eq!(
            (seen.gets, seen.initializes),
            (1, 1),
            "{post_status}: one stream, one greeting"
        );
        within("restart", server.restart()).await.unwrap();
        generation(&server, 2).await;
        echo(&server, "again").await;
        assert_eq!(
            fake.ledger().seen_of("server/discover").len(),
            1,
            "{post_status}: what was found is tried first"
        );
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f33_the_transport_is_remembered_over_a_restart_of_mainstay() {
    let fake = fake().await;
    let bench = Bench::new();
    for round in 1..=2 {
        let config = quick(ServerConfig::http("s", fake.sse_url().as_str()));
        let manager = Manager::builder()
            .config(Config::from_servers([config]))
            .state_dir(Some(bench.path("state")))
            .start()
            .await
            .unwrap();
        let server = manager.server("s").unwrap();
        generation(&server, 1).await;
        echo(&server, "hello").await;
        until("the catalog to be kept", || {
            std::fs::read_dir(bench.path("state")).is_ok_and(|mut files| {
                files.any(|file| {
                    file.unwrap()
                        .file_name()
                        .to_string_lossy()
                        .starts_with("catalog-")
                })
            })
        })
        .await;
        manager.shutdown().await;
        assert_eq!(
            fake.ledger().seen_of("server/discover").len(),
            1,
            "round {round}"
        );
    }
}

#[tokio::test]
async fn f139_a_server_that_changes_its_transport_is_found_again_in_the_same_attempt() {
    let fake = fake().await;
    let (manager, server) =
        connect_as(quick(ServerConfig::http("s", fake.sse_url().as_str()))).await;
    echo(&server, "old").await;
    fake.change(|script| {
        script.old.post_status = 200;
        script.get = GetPolicy::NotAllowed;
    });
    within("restart", server.restart()).await.unwrap();
    generation(&server, 2).await;
    echo(&server, "streamable").await;
    assert_eq!(server.status().transport, "http");
    // And back.
    fake.change(|script| {
        script.old.post_status = 404;
        script.get = GetPolicy::Stream;
    });
    within("restart", server.restart()).await.unwrap();
    generation(&server, 3).await;
    echo(&server, "old again").await;
    assert_eq!(server.status().transport, "sse");
    assert_eq!(server.status().charges, 0, "no attempt was wasted");
    manager.shutdown().await;
}

#[tokio::test]
async fn type_sse_never_posts_to_the_address_of_the_stream() {
    let fake = fake().await;
    let (manager, server) = connect(&fake).await;
    echo(&server, "hello").await;
    let methods: Vec<_> = fake
        .ledger()
        .seen()
        .into_iter()
        .map(|seen| seen.method)
        .collect();
    assert_eq!(
        methods[..3],
        ["", "initialize", "notifications/initialized"]
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn f95_a_wrong_address_is_told_in_the_words_of_the_first_transport() {
    let fake = fake().await;
    fake.change(|script| script.get = GetPolicy::NotFound);
    let manager = start([quick(ServerConfig::http("s", fake.sse_url().as_str()))]).await;
    let status = state(&manager.server("s").unwrap(), "parked").await;
    let failure = status.last_failure.unwrap();
    assert_eq!(failure.kind, "not-mcp");
    assert!(
        failure.detail.contains("no MCP endpoint"),
        "{}",
        failure.detail
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn endpoints_in_every_form_of_the_same_origin_work_and_may_come_late() {
    for endpoint in [EndpointForm::Relative, EndpointForm::Absolute] {
        let fake = HttpServer::start(old(OldScript {
            endpoint: endpoint.clone(),
            endpoint_delay_ms: 50,
            ..OldScript::default()
        }))
        .await
        .unwrap();
        let (manager, server) = connect(&fake).await;
        echo(&server, "hello").await;
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn law_31_an_endpoint_at_another_origin_is_refused_and_gets_nothing() {
    let stranger = fake().await;
    let fake = HttpServer::start(old(OldScript {
        endpoint: EndpointForm::Foreign(format!("http://{}", stranger.address())),
        ..OldScript::default()
    }))
    .await
    .unwrap();
    let config = ServerConfig::sse("s", fake.sse_url().as_str()).header("authorization", "s3cret");
    let manager = start([quick(config)]).await;
    let status = state(&manager.server("s").unwrap(), "parked").await;
    let failure = status.last_failure.unwrap();
    assert_eq!(failure.kind, "protocol-error");
    assert!(failure.detail.contains("another origin"), "{failure:?}");
    assert_eq!(stranger.ledger().counts().connections, 0);
    manager.shutdown().await;
}

#[tokio::test]
async fn an_endpoint_that_never_comes_is_a_failed_attempt_by_the_clock() {
    let fake = HttpServer::start(old(OldScript {
        endpoint: EndpointForm::Never,
        ..OldScript::default()
    }))
    .await
    .unwrap();
    let mut config = quick(ServerConfig::sse("s", fake.sse_url().as_str()));
    config.timeouts.greet_ms = 100;
    config.restart.budget = 1;
    let manager = start([config]).await;
    let server = manager.server("s").unwrap();
    let status = state(&server, "parked").await;
    assert_eq!(status.last_failure.unwrap().kind, "connect-timeout");
    fake.change(|script| script.old.endpoint = EndpointForm::Path);
    within("restart", server.restart()).await.unwrap();
    generation(&server, 1).await;
    echo(&server, "better now").await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f50_an_endpoint_that_is_no_text_names_no_place_and_nothing_is_sent_there() {
    let fake = HttpServer::start(old(OldScript {
        endpoint: EndpointForm::NotText,
        ..OldScript::default()
    }))
    .await
    .unwrap();
    let mut config = quick(ServerConfig::sse("s", fake.sse_url().as_str()));
    config.timeouts.greet_ms = 100;
    config.restart.budget = 0;
    let manager = start([config]).await;
    let status = state(&manager.server("s").unwrap(), "parked").await;
    assert_eq!(status.last_failure.unwrap().kind, "connect-timeout");
    assert_eq!(fake.ledger().counts().posts, 0);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_19_calls_run_side_by_side_and_each_gets_its_own_answer() {
    let fake = fake().await;
    let (manager, server) = connect(&fake).await;
    let calls: Vec<_> = (0..64)
        .map(|number| {
            let server = server.clone();
            tokio::spawn(async move {
                let marker = format!("m{number}");
                let answer = call(&server, "add_marker", json!({"marker": marker}))
                    .await
                    .unwrap();
                assert_eq!(text(&answer), marker);
            })
        })
        .collect();
    for called in calls {
        within("a call", called).await.unwrap();
    }
    let counts = fake.ledger().counts();
    assert_eq!(counts.markers.len(), 64);
    assert!(counts.markers.values().all(|executions| *executions == 1));
    manager.shutdown().await;
}

#[tokio::test]
async fn law_26_f105_f108_a_wiped_session_costs_one_greeting_however_many_calls_meet_it() {
    for lost_status in [404, 400] {
        let fake = HttpServer::start(old(OldScript {
            lost_status,
            ..OldScript::default()
        }))
        .await
        .unwrap();
        let (manager, server) = connect(&fake).await;
        echo(&server, "proof").await;
        // The streams stay open: only the POSTs tell.
        fake.change(|script| script.old.epoch += 1);
        let calls: Vec<_> = (0..16)
            .map(|number| {
                let server = server.clone();
                tokio::spawn(async move {
                    call(&server, "add_marker", json!({"marker": number.to_string()})).await
                })
            })
            .collect();
        for called in calls {
            within("a call", called)
                .await
                .unwrap()
                .unwrap_or_else(|error| panic!("{lost_status}: {error}"));
        }
        let counts = fake.ledger().counts();
        assert_eq!(counts.initializes, 2, "{lost_status}");
        assert_eq!(counts.markers.len(), 16, "{lost_status}");
        assert!(
            counts.markers.values().all(|executions| *executions == 1),
            "{lost_status}: law 16"
        );
        assert_eq!(server.status().charges, 0, "{lost_status}: law 7");
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn law_16_f87_f123_a_cut_stream_leaves_no_call_hanging_and_costs_no_charge() {
    let fake = fake().await;
    let (manager, server) = connect(&fake).await;
    echo(&server, "proof").await;
    let flying = tokio::spawn({
        let server = server.clone();
        async move { call(&server, "slow", json!({})).await }
    });
    until("the call to run", || {
        fake.ledger().counts().calls.contains_key("slow")
    })
    .await;
    fake.end_streams();
    let outcome = within("the call", flying).await.unwrap();
    assert!(
        matches!(outcome, Err(CallError::Unknown(_))),
        "sent, and nobody knows: {outcome:?}"
    );
    echo(&server, "after").await;
    assert_eq!(fake.ledger().counts().calls["slow"], 1, "law 16: not again");
    assert_eq!(server.status().charges, 0, "F123: routine");
    assert_eq!(fake.ledger().counts().initializes, 2);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_9_f115_a_stream_that_is_cut_right_after_every_greeting_ends_parked() {
    let fake = fake().await;
    let manager = start([quick(ServerConfig::sse("s", fake.sse_url().as_str()))]).await;
    let server = manager.server("s").unwrap();
    within("parked", async {
        while server.status().state != "parked" {
            if server.status().state == "connected" {
                fake.end_streams();
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
    // A little more than the budget: a stream may be cut before the listing was done as well.
    assert!(fake.ledger().counts().gets <= 8, "the budget bounds it");
    manager.shutdown().await;
}

#[tokio::test]
async fn f85_f105_a_killed_server_is_waited_for_and_no_call_runs_twice() {
    let mut fake = fake().await;
    let (manager, server) = connect(&fake).await;
    echo(&server, "before").await;
    let calling = tokio::spawn({
        let server = server.clone();
        async move {
            let mut unknown = 0;
            for number in 0..400 {
                let marker = json!({"marker": number.to_string()});
                match call(&server, "add_marker", marker).await {
                    Ok(_) => {}
                    Err(CallError::Unknown(_)) => unknown += 1,
                    Err(other) => panic!("call {number}: {other}"),
                }
            }
            unknown
        }
    });
    for round in 1..=3_u64 {
        let target = round * 60;
        until("some calls", || {
            fake.ledger().counts().markers.len() as u64 >= target
        })
        .await;
        fake.stop().await;
        // A socket of another test may be using the port for a moment.
        within("the port", async {
            while fake.start_again().await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }
    let unknown = within("the calls", calling).await.unwrap();
    let markers = fake.ledger().counts().markers;
    assert!(
        markers.values().all(|executions| *executions == 1),
        "law 16"
    );
    assert!(
        markers.len() + unknown >= 400,
        "each ran, or is known as unknown"
    );
    assert!(
        unknown <= 3,
        "at most the one in flight at each kill: {unknown}"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn law_18_f186_a_dropped_call_is_cancelled_at_the_server() {
    let fake = fake().await;
    let (manager, server) = connect(&fake).await;
    let arguments = json!({});
    {
        let mut leaving = std::pin::pin!(server.call("slow", Some(&arguments)));
        until("the call to run", || {
            let polled = futures_util::FutureExt::now_or_never(&mut leaving);
            assert!(polled.is_none());
            fake.ledger().counts().calls.contains_key("slow")
        })
        .await;
    }
    until("the cancel notice", || fake.ledger().counts().cancels == 1).await;
    fake.release();
    echo(&server, "goes on").await;
    manager.shutdown().await;
}

#[tokio::test]
async fn law_23_f160_list_changed_on_the_stream_leads_to_a_listing() {
    let fake = fake().await;
    let (manager, server) = connect(&fake).await;
    call(&server, "set_tools", json!({"names": ["fresh"]}))
        .await
        .unwrap();
    within("the new tool", async {
        let mut published = manager.published();
        while manager.publication().tools.find("s__fresh").is_none() {
            published.changed().await.unwrap();
        }
    })
    .await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f107_the_cookies_of_the_stream_go_with_every_message() {
    let fake = fake().await;
    fake.change(|script| {
        let cookie = ("set-cookie".to_owned(), "lb=a7; Path=/".to_owned());
        script.headers.extend([cookie]);
    });
    let (manager, server) = connect(&fake).await;
    echo(&server, "hello").await;
    for method in ["initialize", "notifications/initialized", "tools/call"] {
        let seen = fake.ledger().seen_of(method);
        assert_eq!(seen[0].header("cookie"), Some("lb=a7"), "{method}");
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn answers_in_the_response_to_the_post_are_answers() {
    let fake = HttpServer::start(old(OldScript {
        answer_on_post: true,
        ..OldScript::default()
    }))
    .await
    .unwrap();
    let (manager, server) = connect(&fake).await;
    echo(&server, "at once").await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f128_streams_in_single_bytes_with_comments_read_the_same() {
    let fake = HttpServer::start(old(OldScript {
        byte_by_byte: true,
        comment_every_ms: Some(1),
        ..OldScript::default()
    }))
    .await
    .unwrap();
    let (manager, server) = connect(&fake).await;
    echo(&server, "Grüße, 世界 🌍").await;
    manager.shutdown().await;
}

#[tokio::test]
async fn law_30_f126_a_giant_event_is_told_to_its_call_and_the_stream_goes_on() {
    let fake = fake().await;
    let mut config = Config::from_servers([quick(ServerConfig::sse("s", fake.sse_url().as_str()))]);
    config.gateway.limits.message_bytes = 64 * 1024;
    let manager = Manager::builder().config(config).start().await.unwrap();
    let server = manager.server("s").unwrap();
    generation(&server, 1).await;
    fake.change(|script| script.then("tools/call", Fault::GiantEvent { bytes: 1024 * 1024 }));
    let outcome = call(&server, "echo", json!({"text": "x"})).await;
    let error = outcome.expect_err("too large");
    assert!(error.to_string().contains("limit"), "{error}");
    echo(&server, "same stream").await;
    assert_eq!(server.status().generation, 1);
    assert_eq!(fake.ledger().counts().gets, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_17_f180_a_stuck_post_and_a_lost_answer_end_by_the_deadline_of_their_call() {
    let fake = fake().await;
    let (manager, server) = connect(&fake).await;
    for fault in [Fault::HeadThenStall, Fault::NeverAnswer] {
        fake.change(|script| script.then("tools/call", fault.clone()));
        let request = tool_call("echo", &json!({"text": "x"}));
        let outcome = within("the call", server.request(request, limits(10_000, 300))).await;
        assert!(
            matches!(outcome, Err(CallError::Unknown(_))),
            "{fault:?}: {outcome:?}"
        );
        echo(&server, "others go on").await;
    }
    assert_eq!(server.status().generation, 1, "law 15");
    manager.shutdown().await;
}

#[tokio::test]
async fn f99_refused_posts_are_typed_and_hurt_nobody_else() {
    let fake = fake().await;
    let (manager, server) = connect(&fake).await;
    fake.change(|script| {
        script.then(
            "tools/call",
            Fault::Status {
                status: 403,
                headers: Vec::new(),
                body: String::new(),
            },
        );
        script.then("tools/call", Fault::Drop);
    });
    let refused = call(&server, "echo", json!({"text": "x"})).await;
    assert!(
        matches!(refused, Err(CallError::Rejected(_))),
        "{refused:?}"
    );
    let dropped = call(&server, "echo", json!({"text": "x"})).await;
    assert!(matches!(dropped, Err(CallError::Unknown(_))), "{dropped:?}");
    echo(&server, "others go on").await;
    assert_eq!(server.status().generation, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_14_f124_a_half_open_stream_is_found_by_the_probe_and_replaced() {
    let fake = fake().await;
    let mut config = quick(ServerConfig::sse("s", fake.sse_url().as_str()));
    let mut keepalive = Keepalive::default();
    keepalive.idle_ms = 50;
    keepalive.timeout_ms = 100;
    keepalive.misses = 2;
    config.keepalive = Some(keepalive);
    config.timeouts.greet_ms = 300;
    let (manager, server) = connect_as(config).await;
    echo(&server, "hears").await;
    fake.change(|script| script.old.deaf = true);
    within(
        "the deaf stream to be given up",
        server.wait_until(|status| status.state != "connected"),
    )
    .await;
    assert_eq!(server.status().last_failure.unwrap().kind, "probe-failed");
    assert!(fake.ledger().seen_of("ping").len() >= 2);
    fake.change(|script| script.old.deaf = false);
    generation(&server, 2).await;
    echo(&server, "hears again").await;
    manager.shutdown().await;
}

#[tokio::test]
async fn law_2_a_planned_restart_overlaps_and_loses_no_call() {
    let fake = fake().await;
    let (manager, server) = connect(&fake).await;
    let calling = tokio::spawn({
        let server = server.clone();
        async move {
            while server.status().generation < 3 {
                echo(&server, "on").await;
            }
        }
    });
    for target in 2..=3 {
        within("restart", server.restart()).await.unwrap();
        generation(&server, target).await;
    }
    within("the caller", calling).await.unwrap();
    manager.shutdown().await;
}

#[test]
fn law_6_shutdown_leaves_no_task_and_no_stream() {
    let servers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let fake = servers.block_on(fake());
    let url = fake.sse_url();
    let own = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    own.block_on(async {
        let before = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        let manager = start([quick(ServerConfig::sse("s", url.as_str()))]).await;
        let server = manager.server("s").unwrap();
        generation(&server, 1).await;
        echo(&server, "hello").await;
        let flying = tokio::spawn({
            let server = server.clone();
            async move { call(&server, "slow", json!({})).await }
        });
        until("the call to run", || {
            fake.ledger().counts().calls.contains_key("slow")
        })
        .await;
        manager.hurry();
        within("shutdown", manager.shutdown()).await;
        assert!(within("the call", flying).await.unwrap().is_err());
        until("every task to end", || {
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
                <= before
        })
        .await;
        until("the stream to be closed", || {
            fake.ledger().counts().streams_open == 0
        })
        .await;
    });
    drop(fake);
    servers.shutdown_background();
}
