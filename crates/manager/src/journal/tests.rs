//! The journal against real files, and a real full disk.

use std::fs;
use std::io::Write;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use super::*;
use crate::calls::Outcome;
use crate::catalog::unix_ms;
use crate::config::ServerConfig;
use crate::events::EventKind;

const PATIENCE: Duration = Duration::from_secs(60);

fn record(at_unix_ms: u64, server: &str, tool: &str) -> Arc<CallRecord> {
    Arc::new(CallRecord {
        at_unix_ms,
        server: server.into(),
        connection: None,
        generation: 1,
        method: "tools/call".into(),
        tool: Some(tool.into()),
        exposed: None,
        client: None,
        principal: None,
        endpoint: "/mcp".into(),
        outcome: Outcome::Answered,
        cause: None,
        queued_ms: 0,
        served_ms: 1,
        queued_us: 10,
        served_us: 1_000,
        request_bytes: 100,
        result_bytes: 200,
        attempts: 1,
        trace_id: None,
        origin: None,
        arguments: None,
    })
}

fn event(at_unix_ms: u64, server: &str, version: u64) -> Event {
    Event {
        at_unix_ms,
        server: server.to_owned(),
        connection: None,
        generation: 1,
        kind: EventKind::Retracted { version },
    }
}

fn start(dir: &Path, bytes: u64, files: usize) -> Journal {
    let config = JournalConfig {
        bytes,
        files,
        ..JournalConfig::default()
    };
    Journal::start(dir.to_owned(), &config, Arc::default()).unwrap()
}

async fn until(what: &str, mut satisfied: impl FnMut() -> bool) {
    let waiting = async {
        while !satisfied() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let came = timeout(PATIENCE, waiting).await;
    came.unwrap_or_else(|_| panic!("{what} did not come"));
}

fn ask(dir: &Path, query: &Query) -> (Vec<Value>, bool) {
    let page = read(dir, query).unwrap();
    let parsed = page.records.iter();
    let parsed = parsed.map(|raw| serde_json::from_str(raw.get()).unwrap());
    (parsed.collect(), page.truncated)
}

fn tools(records: &[Value]) -> Vec<&str> {
    let tools = records.iter();
    tools.filter_map(|record| record["tool"].as_str()).collect()
}

fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let segments = segments::all(dir).unwrap();
    let size = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
    segments
        .into_iter()
        .map(|segment| (segment.path.clone(), size(&segment.path)))
        .collect()
}

#[tokio::test]
async fn what_was_written_is_found_again_by_kind_server_time_and_number() {
    let dir = tempfile::tempdir().unwrap();
    let journal = start(dir.path(), BYTES, 8);
    let begun = unix_ms();
    for n in 0..10 {
        journal.call(&record(begun + n, "a", &format!("t{n}")));
        journal.event(&event(begun + n, "b", n));
    }
    journal.close().await;
    let (all, truncated) = ask(dir.path(), &Query::default());
    assert_eq!(
        (all.len(), truncated),
        (21, false),
        "and one line of its own"
    );
    let query = Query {
        kind: Some(Kind::Calls),
        since_unix_ms: Some(begun + 3),
        until_unix_ms: Some(begun + 7),
        ..Query::default()
    };
    let (calls, truncated) = ask(dir.path(), &query);
    assert_eq!(tools(&calls), ["t3", "t4", "t5", "t6", "t7"]);
    assert!(!truncated);
    let query = Query {
        limit: Some(2),
        ..query
    };
    let (calls, truncated) = ask(dir.path(), &query);
    assert_eq!(tools(&calls), ["t6", "t7"], "the newest, oldest first");
    assert!(truncated);
    let of = |server: &str| Query {
        server: Some(server.to_owned()),
        ..Query::default()
    };
    let (events, _) = ask(dir.path(), &of("b"));
    assert_eq!(events.len(), 10);
    assert!(events.iter().all(|event| event["kind"] == "event"));
    assert_eq!(ask(dir.path(), &of("c")).0.len(), 0);
    let query = Query {
        tool: Some("t4".to_owned()),
        outcomes: vec![Outcome::Answered, Outcome::Unknown],
        ..Query::default()
    };
    assert_eq!(ask(dir.path(), &query).0.len(), 1);
    let query = Query {
        outcomes: vec![Outcome::Unknown],
        ..query
    };
    assert_eq!(ask(dir.path(), &query).0.len(), 0);
    let (nothing, _) = ask(&dir.path().join("not there"), &Query::default());
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn files_and_bytes_stay_within_their_bounds_and_the_newest_records_stay() {
    let dir = tempfile::tempdir().unwrap();
    let journal = start(dir.path(), BYTES_MIN, 3);
    let long = "x".repeat(2_000);
    // Several times as much as may stay.
    for n in 0..1_000 {
        journal.call(&record(n, "a", &format!("{n}-{long}")));
        if n % 20 == 0 {
            until("room", || {
                let status = journal.status();
                status.written + status.lost > n
            })
            .await;
            let there = files(dir.path());
            let bytes: u64 = there.iter().map(|(_, bytes)| bytes).sum();
            assert!(there.len() <= 3 && bytes <= BYTES_MIN, "{bytes} {there:?}");
        }
    }
    journal.close().await;
    assert_eq!(journal.status().lost, 0);
    let (calls, _) = ask(dir.path(), &Query::default());
    let kept: Vec<u64> = calls
        .iter()
        .filter_map(|call| call["atUnixMs"].as_u64())
        .collect();
    assert!(kept.len() > 60, "{}", kept.len());
    let expected: Vec<u64> = (1_000 - kept.len() as u64..1_000).collect();
    assert_eq!(kept, expected, "without a gap, up to the last");
}

#[tokio::test]
async fn a_torn_line_spoils_no_other_and_restarts_cost_no_file() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..20 {
        let journal = start(dir.path(), BYTES, 4);
        journal.call(&record(n, "a", &format!("t{n}")));
        journal.close().await;
        // As a crash in the middle of a line leaves it.
        let (path, _) = files(dir.path()).pop().unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"{\"kind\":\"call\",\"atUnixMs\":5,\"tool\":\"to")
            .unwrap();
    }
    assert_eq!(files(dir.path()).len(), 1);
    let query = Query {
        kind: Some(Kind::Calls),
        ..Query::default()
    };
    let (calls, _) = ask(dir.path(), &query);
    assert_eq!(calls.len(), 20, "{calls:?}");
    assert_eq!(tools(&calls)[19], "t19");
    let (all, _) = ask(dir.path(), &Query::default());
    assert_eq!(all.len(), 40, "and each beginning: {all:?}");
}

#[tokio::test]
async fn what_is_no_journal_is_skipped_whatever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let journal = start(dir.path(), BYTES, 4);
    journal.call(&record(1, "a", "before"));
    journal.close().await;
    let (path, _) = files(dir.path()).pop().unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    // A line without an end to speak of, bytes that are no text, JSON that is no record.
    file.write_all(&vec![b'{'; 1_000_000]).unwrap();
    file.write_all(b"\n\xff\xfe\n[]\n{\"kind\":7}\n").unwrap();
    let journal = start(dir.path(), BYTES, 4);
    journal.call(&record(2, "a", "afterwards"));
    journal.close().await;
    fs::write(dir.path().join("0-other.txt"), "notes").unwrap();
    fs::create_dir(dir.path().join("0000000000001-1-000.jsonl")).unwrap();
    let (all, _) = ask(dir.path(), &Query::default());
    assert_eq!(tools(&all), ["before", "afterwards"]);
}

#[tokio::test]
async fn several_share_a_directory_and_nobody_removes_what_another_writes() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(dir.path(), BYTES_MIN, 2);
    first.call(&record(1, "first", "t"));
    until("the first has written", || first.status().written == 1).await;
    let second = start(dir.path(), BYTES_MIN, 2);
    let long = "x".repeat(2_000);
    for n in 0..500 {
        second.call(&record(2 + n, "second", &format!("{n}-{long}")));
        until("room", || second.status().written > n / 2).await;
    }
    second.close().await;
    first.call(&record(1_000, "first", "t"));
    first.close().await;
    let query = Query {
        server: Some("first".to_owned()),
        ..Query::default()
    };
    let (calls, _) = ask(dir.path(), &query);
    assert_eq!(calls.len(), 2);
    let bytes: u64 = files(dir.path()).iter().map(|(_, bytes)| bytes).sum();
    assert!(bytes <= BYTES_MIN + BYTES_MIN / 2, "{bytes}");
    // By time, whoever wrote it.
    let query = Query {
        kind: Some(Kind::Calls),
        ..Query::default()
    };
    let (all, _) = ask(dir.path(), &query);
    assert_eq!(all.last().unwrap()["server"], "first");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_told_and_when_there_is_room_again_so_is_what_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    // The kernel's own full disk, in the place of the newest file.
    let full = dir.path().join("0000000000001-1-000.jsonl");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let journal = start(dir.path(), BYTES, 8);
    until("the problem", || journal.status().problem.is_some()).await;
    let problem = journal.status().problem.unwrap();
    assert!(problem.contains("No space left"), "{problem}");
    for n in 0..10 {
        journal.call(&record(n, "a", "t"));
    }
    until("the loss", || journal.status().lost == 10).await;
    fs::remove_file(&full).unwrap();
    // It is tried again with something to write, after a pause.
    until("recovery", || {
        journal.call(&record(100, "a", "later"));
        journal.status().problem.is_none()
    })
    .await;
    journal.close().await;
    let status = journal.status();
    let (all, _) = ask(dir.path(), &Query::default());
    let told: u64 = all.iter().filter_map(|line| line["records"].as_u64()).sum();
    assert_eq!(told, status.lost, "{all:?}");
    let later = tools(&all)
        .into_iter()
        .filter(|tool| *tool == "later")
        .count();
    assert_eq!(later as u64, status.written);
    assert!(later > 0);
}

#[tokio::test]
async fn without_a_directory_everything_goes_on_and_the_status_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let journal = start(&file.join("journal"), BYTES, 8);
    journal.call(&record(1, "a", "t"));
    until("the loss", || journal.status().lost == 1).await;
    assert!(journal.status().problem.is_some());
    timeout(PATIENCE, journal.close()).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_removed_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("journal");
    let journal = start(&place, BYTES, 8);
    journal.call(&record(1, "a", "before"));
    until("it is written", || journal.status().written == 1).await;
    fs::remove_dir_all(&place).unwrap();
    journal.call(&record(2, "a", "after"));
    journal.close().await;
    assert_eq!(tools(&ask(&place, &Query::default()).0), ["after"]);
}

#[tokio::test]
async fn law_31_secrets_of_the_configuration_are_hidden_and_the_files_are_ours_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("journal");
    let hidden = Arc::<Hidden>::default();
    hidden.cover(&ServerConfig::stdio("a", "run").env("API_TOKEN", "literal-secret"));
    let config = JournalConfig::default();
    let journal = Journal::start(place.clone(), &config, hidden).unwrap();
    journal.call(&record(1, "a", "literal-secret"));
    journal.close().await;
    let (path, _) = files(&place).pop().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("literal-secret"), "{text}");
    assert!(text.contains("[hidden]"), "{text}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&place)), (0o600, 0o700));
}

#[tokio::test]
async fn what_there_is_no_room_for_is_counted_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let journal = start(dir.path(), BYTES, 8);
    let made: u64 = 200_000;
    let one = record(1, "a", "t");
    for _ in 0..made {
        journal.call(&one);
    }
    journal.close().await;
    let status = journal.status();
    assert_eq!(status.written + status.lost, made, "{status:?}");
    let query = Query {
        limit: Some(1),
        ..Query::default()
    };
    assert!(ask(dir.path(), &query).1);
    let mut told = 0;
    for (path, _) in files(dir.path()) {
        for line in fs::read_to_string(path).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            told += line["records"].as_u64().unwrap_or_default();
        }
    }
    assert_eq!(told, status.lost);
}
