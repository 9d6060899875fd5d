//! What servers list, what of it is believed, and what clients get to see (F155 to F174, F247 to F249).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mainstay::config::{Config, Glob, ServerConfig};
use mainstay::{EventKind, Manager};
use serde_json::{Value, json};

use super::harness::*;
use super::paper::{Paper, Say, hello, tool, tools};

/// The published names of all tools.
fn names(manager: &Manager) -> Vec<String> {
    let publication = manager.publication();
    let tools = publication.tools.items.iter();
    tools.map(|tool| tool.exposed.to_string()).collect()
}

fn happened(manager: &Manager, what: impl Fn(&EventKind) -> bool) -> bool {
    manager
        .recent_events()
        .iter()
        .any(|event| what(&event.kind))
}

/// A phase that the test moves on, and a server that lists accordingly.
async fn in_phases(
    list: impl Fn(usize, &super::paper::Asked) -> Option<Say> + Send + Sync + 'static,
) -> (Paper, Arc<AtomicUsize>) {
    let phase = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&phase);
    let paper = Paper::start(move |asked| {
        (asked.method == "tools/list")
            .then(|| list(now.load(Ordering::SeqCst), asked))
            .flatten()
    })
    .await;
    (paper, phase)
}

#[tokio::test]
async fn law_22_f155_f166_a_listing_that_fails_at_its_second_page_changes_nothing_and_is_repeated()
{
    let (paper, phase) = in_phases(|phase, asked| {
        let second = asked.params["cursor"] == "2";
        Some(match (phase, second) {
            (0, _) => tools(&["a", "b"]),
            (1, false) | (2, false) => {
                Say::Result(json!({"tools": [tool("x")], "nextCursor": "2"}))
            }
            (1, true) => Say::Error(-32_603, "database is away"),
            (_, _) => tools(&["y"]),
        })
    })
    .await;
    let (manager, _server) = paper.connect(paper.config()).await;
    assert_eq!(names(&manager), ["p__a", "p__b"]);
    phase.store(1, Ordering::SeqCst);
    paper.tell_changed().await;
    until("the failure to be told", || {
        happened(&manager, |kind| {
            matches!(kind, EventKind::ListingFailed { detail, .. } if detail.contains("database is away"))
        })
    })
    .await;
    assert_eq!(names(&manager), ["p__a", "p__b"], "nothing half");
    phase.store(2, Ordering::SeqCst);
    // No further notice: it is tried again all the same.
    until("the complete listing", || {
        names(&manager) == ["p__x", "p__y"]
    })
    .await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f156_f157_an_empty_listing_is_looked_at_again_before_it_is_shown_and_never_kept_on_disk() {
    let bench = Bench::new();
    let (paper, phase) = in_phases(|phase, _| {
        Some(if phase == 0 {
            tools(&["a"])
        } else {
            tools(&[])
        })
    })
    .await;
    let begin = |config: ServerConfig| {
        Manager::builder()
            .config(Config::from_servers([config]))
            .state_dir(Some(bench.path("state")))
            .start()
    };
    let manager = begin(paper.config()).await.unwrap();
    generation(&manager.server("p").unwrap(), 1).await;
    assert_eq!(names(&manager), ["p__a"]);
    phase.store(1, Ordering::SeqCst);
    let before = paper.count("tools/list");
    paper.tell_changed().await;
    until("the removal to be believed", || names(&manager).is_empty()).await;
    let checks = paper.count("tools/list") - before;
    assert!(checks >= 4, "believed after {checks} listings");
    assert!(happened(&manager, |kind| matches!(
        kind,
        EventKind::EmptyListing {
            believed: false,
            ..
        }
    )));
    let state_dir = bench.path("state");
    let kept = || {
        std::fs::read_dir(&state_dir)
            .map(|dir| dir.flatten().filter(|entry| entry.path().is_file()).count())
            .unwrap_or_default()
    };
    until("nothing to be kept", || kept() == 0).await;
    manager.shutdown().await;
    let mut config = paper.config();
    config.enabled = true;
    drop(paper);
    let manager = begin(config).await.unwrap();
    assert!(
        names(&manager).is_empty(),
        "what is gone does not come back"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn f157_a_server_that_is_warming_up_is_connected_and_its_tools_appear() {
    let (paper, _) = in_phases(|_, asked| {
        Some(if asked.before < 3 {
            tools(&[])
        } else {
            tools(&["warm"])
        })
    })
    .await;
    let (manager, server) = paper.connect(paper.config()).await;
    assert!(
        server
            .catalog()
            .is_none_or(|catalog| !catalog.tools.items.is_empty()),
        "nobody was shown an empty list"
    );
    assert!(
        call(&server, "warm", json!({})).await.is_ok(),
        "calls go through"
    );
    until("the tools", || names(&manager) == ["p__warm"]).await;
    let versions: Vec<usize> = manager
        .recent_events()
        .into_iter()
        .filter_map(|event| {
            let EventKind::Published { tools, .. } = event.kind else {
                return None;
            };
            Some(tools)
        })
        .collect();
    assert_eq!(versions, [1], "one publication, with the tool");
    manager.shutdown().await;
}

#[tokio::test]
async fn f158_a_server_that_cannot_list_is_not_connected_until_it_can() {
    let (paper, _) = in_phases(|_, asked| {
        Some(if asked.before < 2 {
            Say::Error(-32_603, "not yet")
        } else {
            tools(&["late"])
        })
    })
    .await;
    let manager = start([paper.config()]).await;
    let server = manager.server("p").unwrap();
    generation(&server, 3).await;
    assert_eq!(names(&manager), ["p__late"]);
    for event in manager.recent_events() {
        if let EventKind::Transition { to, .. } = event.kind {
            assert!(to != "connected" || event.generation == 3, "{event:?}");
        }
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn f161_notices_that_change_nothing_slow_the_listing_down_and_are_told() {
    let (paper, _) = in_phases(|_, _| Some(tools(&["same"]))).await;
    let mut config = paper.config();
    config.catalog.interval_ms = 5;
    let (manager, _server) = paper.connect(config).await;
    let version = *manager.published().borrow();
    for _ in 0..6 {
        // As a server does that notifies from its list handler.
        let listed = paper.count("tools/list");
        paper.tell_changed().await;
        until("the next listing", || paper.count("tools/list") > listed).await;
    }
    until("the loop to be told", || {
        happened(&manager, |kind| {
            matches!(kind, EventKind::ListingLoop { .. })
        })
    })
    .await;
    assert_eq!(*manager.published().borrow(), version, "nobody was told");
    manager.shutdown().await;
}

#[tokio::test]
async fn f163_a_change_that_is_announced_too_early_is_found() {
    let (paper, phase) = in_phases(|phase, _| {
        Some(if phase == 0 {
            tools(&["a"])
        } else {
            tools(&["a", "b"])
        })
    })
    .await;
    let (manager, _server) = paper.connect(paper.config()).await;
    let listed = paper.count("tools/list");
    paper.tell_changed().await;
    until("the listing that comes too early", || {
        paper.count("tools/list") > listed
    })
    .await;
    phase.store(1, Ordering::SeqCst);
    until("the change", || names(&manager) == ["p__a", "p__b"]).await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f164_pages_without_end_are_given_up_and_what_was_known_stays() {
    let (paper, phase) = in_phases(|phase, asked| {
        Some(if phase == 0 {
            tools(&["a"])
        } else {
            // Ever new cursors, so that only a limit can end it.
            Say::Result(json!({"tools": [], "nextCursor": asked.before.to_string()}))
        })
    })
    .await;
    let mut config = Config::from_servers([paper.config()]);
    config.gateway.limits.pages = 7;
    let manager = Manager::builder().config(config).start().await.unwrap();
    generation(&manager.server("p").unwrap(), 1).await;
    phase.store(1, Ordering::SeqCst);
    paper.tell_changed().await;
    until("the limit to be told", || {
        happened(&manager, |kind| {
            matches!(kind, EventKind::ListingFailed { detail, .. } if detail.contains("mainstay.limits.pages"))
        })
    })
    .await;
    assert_eq!(names(&manager), ["p__a"]);
    assert_eq!(manager.server("p").unwrap().status().generation, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_24_f167_f168_bad_tools_are_hidden_alone_and_a_bad_output_schema_costs_only_itself() {
    let odd = "{ \"zeta\":1.50 ,\"name\":\"odd\",\"outputSchema\": null,\"inputSchema\":{\"type\":\"object\"},\"n\":12345678901234567890123 }";
    let listing = format!(
        "{{\"tools\":[{},{{\"name\":\"bad\",\"inputSchema\":7}},{odd},{{\"nameless\":true}}]}}",
        tool("good")
    );
    let (paper, _) = in_phases(move |_, _| Some(Say::Raw(listing.clone()))).await;
    let (manager, server) = paper.connect(paper.config()).await;
    assert_eq!(names(&manager), ["p__good", "p__odd"]);
    let catalog = server.catalog().unwrap();
    let mended = catalog.tools.find("odd").unwrap().as_str();
    let value: Value = serde_json::from_str(mended).unwrap();
    assert!(value.get("outputSchema").is_none(), "{mended}");
    for kept in [
        "{ \"zeta\":1.50 ,\"name\":\"odd\"",
        "\"n\":12345678901234567890123 }",
    ] {
        assert!(mended.contains(kept), "the rest is as it was: {mended}");
    }
    let hidden: Vec<_> = catalog
        .hidden
        .iter()
        .map(|hidden| hidden.name.as_str())
        .collect();
    assert_eq!(hidden, ["bad", "#3", "odd"]);
    assert!(catalog.hidden[2].reason.contains("outputSchema"));
    assert!(call(&server, "odd", json!({})).await.is_ok());
    manager.shutdown().await;
}

#[tokio::test]
async fn f171_what_the_config_says_of_tools_outlives_every_connection() {
    let bench = Bench::new();
    let mut config = bench.server("a", &[]);
    config.tools.exclude.push(Glob::new("crash"));
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    for round in 2..=4 {
        if round % 2 == 0 {
            kill(server.status().pid.unwrap());
        } else {
            within("disable", server.disable()).await.unwrap();
            within("enable", server.enable()).await.unwrap();
        }
        generation(&server, round).await;
        assert_eq!(names(&manager).len(), 6);
        let error = call(&server, "crash", json!({})).await.unwrap_err();
        assert!(error.to_string().contains("left out"), "{error}");
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn f247_f248_deep_schemas_hide_only_themselves_and_odd_ones_pass_untouched() {
    let deep = format!("{}{{}}{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let cycle = "{\"type\":\"object\",\"$defs\":{\"n\":{\"properties\":{\"n\":{\"$ref\":\"#/$defs/n\"}}}},\"allOf\":[{\"$ref\":\"http://169.254.169.254/x\"}]}";
    let listing = format!(
        "{{\"tools\":[{{\"name\":\"deep\",\"inputSchema\":{deep}}},{{\"name\":\"cycle\",\"inputSchema\":{cycle}}}]}}"
    );
    let (paper, _) = in_phases(move |_, _| Some(Say::Raw(listing.clone()))).await;
    let mut config = paper.config();
    // So that the depth is what it is hidden for.
    config.catalog.item_bytes = 1024 * 1024;
    let (manager, server) = paper.connect(config).await;
    assert_eq!(names(&manager), ["p__cycle"]);
    let catalog = server.catalog().unwrap();
    assert!(catalog.tools.items[0].as_str().contains(cycle));
    assert_eq!(catalog.hidden[0].name, "deep");
    assert!(
        catalog.hidden[0].reason.contains("mainstay.limits.depth"),
        "{:?}",
        catalog.hidden
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn f247_an_answer_that_is_too_deep_is_told_to_its_call() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let paper = Paper::start(move |asked| {
        (asked.tool() == "deep").then(|| Say::Raw(format!("{{\"content\":{deep}}}")))
    })
    .await;
    let (manager, server) = paper.connect(paper.config()).await;
    let error = call(&server, "deep", json!({})).await.unwrap_err();
    assert!(
        error.to_string().contains("mainstay.limits.depth"),
        "{error}"
    );
    assert!(call(&server, "echo", json!({})).await.is_ok());
    assert_eq!(server.status().generation, 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_30_f249_too_many_and_too_large_tools_are_hidden_with_the_setting_and_counted() {
    type Change = fn(&mut ServerConfig);
    let cases: [(&str, Change, &[&str]); 3] = [
        (
            "catalog.items",
            |config| config.catalog.items = 2,
            &["p__big", "p__one"],
        ),
        (
            "catalog.itemBytes",
            |config| config.catalog.item_bytes = 1_024,
            &["p__one", "p__three", "p__two"],
        ),
        (
            "catalog.bytes",
            |config| config.catalog.bytes = 4_110,
            &["p__big", "p__one"],
        ),
    ];
    for (setting, change, shown) in cases {
        let (paper, _) = in_phases(|_, _| {
            let mut big = tool("big");
            big["description"] = json!("x".repeat(4_000));
            Some(Say::Result(
                json!({"tools": [big, tool("one"), tool("two"), tool("three")]}),
            ))
        })
        .await;
        let mut config = paper.config();
        change(&mut config);
        let (manager, server) = paper.connect(config).await;
        assert_eq!(names(&manager), shown, "{setting}");
        let catalog = server.catalog().unwrap();
        assert_eq!(catalog.hidden.len(), 4 - shown.len(), "{setting}");
        assert!(catalog.hidden[0].reason.contains(setting));
        assert!(
            happened(
                &manager,
                |kind| matches!(kind, EventKind::LimitExceeded { limit, .. } if limit == setting)
            ),
            "{setting}"
        );
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f16_a_late_server_brings_one_new_version() {
    let bench = Bench::new();
    let quick = bench.server("quick", &[]);
    let late = bench.server("late", &["--slow-start", "500"]);
    let manager = start([quick, late]).await;
    generation(&manager.server("quick").unwrap(), 1).await;
    let mut published = manager.published();
    let before = *published.borrow_and_update();
    assert_eq!(names(&manager).len(), 7);
    generation(&manager.server("late").unwrap(), 1).await;
    within(
        "the version",
        published.wait_for(|version| *version > before),
    )
    .await
    .unwrap();
    assert_eq!(
        (names(&manager).len(), *published.borrow()),
        (14, before + 1)
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn law_27_f19_a_failed_start_is_repeated_and_its_neighbours_are_left_alone() {
    let bench = Bench::new();
    let marker = bench.path("broken");
    std::fs::write(&marker, "").unwrap();
    let script = format!(
        "test -e {} && exit 9; exec {MISBEHAVE} --ledger {}",
        marker.display(),
        bench.path("ill").display()
    );
    let mut ill = quick(ServerConfig::stdio("ill", "sh").args(["-c".to_owned(), script]));
    ill.restart.budget = 1_000;
    let manager = start([ill, bench.server("well", &[])]).await;
    let (ill, well) = (
        manager.server("ill").unwrap(),
        manager.server("well").unwrap(),
    );
    generation(&well, 1).await;
    within("failures", ill.wait_until(|status| status.generation > 3)).await;
    std::fs::remove_file(&marker).unwrap();
    within(
        "recovery",
        ill.wait_until(|status| status.state == "connected"),
    )
    .await;
    assert_eq!(names(&manager).len(), 14);
    assert_eq!(well.status().generation, 1);
    assert_eq!(bench.count_of("well", "list", "tools/list"), 1);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_22_prompts_and_resources_are_doubted_like_tools_f157() {
    let phase = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&phase);
    let paper = Paper::start(move |asked| {
        let empty = now.load(Ordering::SeqCst) == 1;
        Some(match asked.method.as_str() {
            "initialize" => hello(&json!({"tools": {}, "prompts": {}, "resources": {}})),
            "prompts/list" if empty => Say::Result(json!({"prompts": []})),
            "prompts/list" => Say::Result(json!({"prompts": [{"name": "p"}]})),
            "resources/list" => Say::Result(json!({"resources": [{"uri": "x:1", "name": "x"}]})),
            _ => return None,
        })
    })
    .await;
    let mut config = paper.config();
    config.catalog.recheck_ms = 60_000;
    let (manager, _server) = paper.connect(config).await;
    assert_eq!(manager.publication().prompts.items.len(), 1);
    phase.store(1, Ordering::SeqCst);
    paper.tell_changed().await;
    until("the doubt", || {
        happened(&manager, |kind| {
            matches!(
                kind,
                EventKind::EmptyListing {
                    believed: false,
                    ..
                }
            )
        })
    })
    .await;
    assert_eq!(manager.publication().prompts.items.len(), 1, "still shown");
    manager.shutdown().await;
}
