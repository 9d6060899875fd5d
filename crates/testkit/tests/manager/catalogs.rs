//! Catalogs: kept, refreshed, published as whole snapshots.

use mainstay::Manager;
use mainstay::config::{Config, ServerConfig};
use serde_json::json;

use super::harness::*;

#[tokio::test]
async fn law_22_f141_the_last_good_catalog_is_served_at_start_before_the_server_is_up() {
    let bench = Bench::new();
    let script = bench.path("server.sh");
    std::fs::write(&script, format!("exec {MISBEHAVE}")).unwrap();
    let config = || quick(ServerConfig::stdio("a", "sh").args([script.display().to_string()]));
    let state_dir = bench.path("state");
    let begin = || {
        Manager::builder()
            .config(Config::from_servers([config()]))
            .state_dir(Some(state_dir.clone()))
            .start()
    };

    let manager = begin().await.unwrap();
    generation(&manager.server("a").unwrap(), 1).await;
    until("the catalog to be on disk", || {
        std::fs::read_dir(&state_dir).is_ok_and(|dir| walk(dir).any(|size| size > 100))
    })
    .await;
    manager.shutdown().await;

    // The same entry, but what it starts never says a word.
    std::fs::write(&script, "exec cat >/dev/null").unwrap();
    let manager = begin().await.unwrap();
    let server = manager.server("a").unwrap();
    assert_eq!(manager.publication().tools.items.len(), 7);
    let status = server.status();
    assert!(status.catalog_remembered, "marked as not confirmed");
    assert!(status.catalog_age_ms.is_some(), "and with its age");
    assert_ne!(status.state, "connected");
    manager.shutdown().await;
}

fn walk(dir: std::fs::ReadDir) -> impl Iterator<Item = u64> {
    dir.flatten().flat_map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => std::fs::read_dir(entry.path())
            .map(|dir| walk(dir).collect())
            .unwrap_or_default(),
        Ok(meta) => vec![meta.len()],
        Err(_) => Vec::new(),
    })
}

#[tokio::test]
async fn law_21_law_23_a_changed_listing_is_published_whole_and_once() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &[])]).await;
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    let mut published = manager.published();
    let before = *published.borrow_and_update();
    let lists = bench.count_of("a", "list", "tools/list");
    for _ in 0..20 {
        call(
            &server,
            "set_tools",
            json!({"names": ["echo", "set_tools", "new"]}),
        )
        .await
        .unwrap();
    }
    within(
        "the new publication",
        published.wait_for(|version| *version > before),
    )
    .await
    .unwrap();
    let names: Vec<String> = manager
        .publication()
        .tools
        .items
        .iter()
        .map(|tool| tool.exposed.to_string())
        .collect();
    assert_eq!(names, ["a__echo", "a__new", "a__set_tools"]);
    assert_eq!(
        *manager.published().borrow(),
        before + 1,
        "twenty notices, one new version"
    );
    let lists = bench.count_of("a", "list", "tools/list") - lists;
    assert!(
        lists <= 2,
        "F160: a burst gives at most two listings, not {lists}"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn law_22_f155_an_outage_takes_no_tool_away() {
    let bench = Bench::new();
    let marker = bench.path("broken");
    let script = format!("test -e {} && exit 9; exec {MISBEHAVE}", marker.display());
    let mut config = quick(ServerConfig::stdio("a", "sh").args(["-c".to_owned(), script]));
    config.restart.budget = 1;
    let manager = start([config]).await;
    let server = manager.server("a").unwrap();
    let pid = generation(&server, 1).await.pid.unwrap();
    let version = *manager.published().borrow();
    std::fs::write(&marker, "").unwrap();
    kill(pid);
    state(&server, "parked").await;
    assert_eq!(
        manager.publication().tools.items.len(),
        7,
        "an error is not an empty list"
    );
    assert_eq!(*manager.published().borrow(), version);
    manager.shutdown().await;
}

#[tokio::test]
async fn eras_of_stdio_servers_are_found_f26_f28_f29() {
    let bench = Bench::new();
    let eras = [
        ("legacy", "2025-11-25"),
        ("modern", "2026-07-28"),
        ("both", "2026-07-28"),
    ];
    let manager = start(eras.map(|(era, _)| bench.server(era, &["--era", era]))).await;
    for (era, revision) in eras {
        let server = manager.server(era).unwrap();
        assert_eq!(
            text(&call(&server, "echo", json!({"text": era})).await.unwrap()),
            era
        );
        assert_eq!(server.status().protocol, Some(revision), "{era}");
    }
    manager.shutdown().await;
}

#[tokio::test]
async fn f26_a_server_that_is_silent_on_the_probe_is_greeted_the_old_way_and_remembered_f33() {
    let bench = Bench::new();
    let manager = start([bench.server("a", &["--never-answer", "server/discover"])]).await;
    let server = manager.server("a").unwrap();
    let pid = generation(&server, 1).await.pid.unwrap();
    assert_eq!(server.status().protocol, Some("2025-11-25"));
    let probes = bench.count_of("a", "request", "server/discover");
    kill(pid);
    generation(&server, 2).await;
    assert_eq!(
        bench.count_of("a", "request", "server/discover"),
        probes,
        "the era is remembered, nobody probes again"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn a_tool_that_the_config_leaves_out_is_hidden_with_its_reason_and_not_called() {
    let bench = Bench::new();
    let text = serde_json::json!({"mcpServers": {"a": {
        "command": MISBEHAVE,
        "args": ["--ledger", bench.path("a").display().to_string()],
        "tools": {"exclude": ["add_*", "crash"]},
    }}})
    .to_string();
    let loaded = Config::parse(&text, std::path::Path::new("mcp.json")).unwrap();
    let manager = Manager::builder()
        .config(loaded.config)
        .start()
        .await
        .unwrap();
    let server = manager.server("a").unwrap();
    generation(&server, 1).await;
    let publication = manager.publication();
    assert!(publication.tools.find("a__echo").is_some());
    assert!(publication.tools.find("a__crash").is_none());
    assert!(
        publication
            .tools
            .hidden
            .iter()
            .any(|hidden| hidden.name == "crash" && hidden.reason.contains("`tools`"))
    );
    let error = call(&server, "add_marker", json!({"marker": "never"}))
        .await
        .unwrap_err();
    assert_eq!(error.class(), "refused", "{error}");
    assert_eq!(bench.count("a", "marker"), 0);
    manager.shutdown().await;
}
