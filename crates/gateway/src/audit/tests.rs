//! Tests of the audit log: its chain, its files, and what it says when they are not as they were written.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn config(required: bool) -> AuditConfig {
    let mut config = AuditConfig::default();
    config.required = required;
    config.file_bytes = 4_096;
    config
}

fn record(server: &str) -> Record {
    Record {
        server: Some(server.to_owned()),
        who: Some(Who::operator("local")),
        ..Record::new(Kind::Call)
    }
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn servers(dir: &Path) -> Vec<String> {
    let query = read::Query {
        kind: Some("call".into()),
        limit: 10_000,
        ..read::Query::default()
    };
    let page = read::read(&dir.join(DEFAULT_PATH), &query).unwrap();
    let server = |record: &serde_json::value::RawValue| {
        let value: serde_json::Value = serde_json::from_str(record.get()).unwrap();
        value["server"].as_str().unwrap().to_owned()
    };
    page.records.iter().map(|record| server(record)).collect()
}

#[tokio::test]
async fn what_is_noted_is_a_chain_over_restarts_and_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(DEFAULT_PATH);
    let mut wanted = Vec::new();
    for run in 0..3 {
        let audit = Arc::new(Audit::start(&config(false), Some(dir.path())).unwrap());
        for number in 0..30 {
            let name = format!("s{run}-{number}");
            if number % 2 == 0 {
                audit.note(record(&name));
            } else {
                audit.open().unwrap().write(record(&name));
            }
            wanted.push(name);
            if number % 10 == 0 {
                let written = number + 1;
                wait_until(|| audit.status().written > written);
            }
        }
        audit.close().await;
        let status = audit.status();
        assert_eq!((status.lost, status.problem), (0, None));
        assert_eq!(
            audit.face.taken.load(Ordering::Acquire),
            0,
            "nothing stays promised"
        );
    }
    assert_eq!(servers(dir.path()), wanted);
    let verified = read::verify(&path).unwrap();
    assert_eq!(verified.findings, []);
    assert!(verified.files > 2, "{verified:?}");
    assert_eq!(
        verified.lines,
        3 * 32,
        "each run says that it began and ended"
    );
    for file in files::all(&path).unwrap() {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn lines_that_are_gone_or_torn_at_a_start_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(DEFAULT_PATH);
    let config = AuditConfig::default();
    let run = async |name: &str| {
        let audit = Audit::start(&config, Some(dir.path())).unwrap();
        audit.note(record(name));
        audit.close().await;
    };
    run("one").await;
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}{{\"seq\":4,\"pr")).unwrap();
    run("two").await;
    let verified = read::verify(&path).unwrap();
    assert!(
        verified.is_whole() && verified.findings.len() == 1,
        "{verified:?}"
    );
    // The last lines are cut off.
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    std::fs::write(&path, format!("{}\n", lines[..lines.len() - 2].join("\n"))).unwrap();
    assert!(!read::verify(&path).unwrap().is_whole());
    run("three").await;
    let verified = read::verify(&path).unwrap();
    assert!(
        !verified.is_whole(),
        "a restart hides nothing: {verified:?}"
    );
}

#[test]
fn without_a_disk_calls_go_on_or_do_not_as_the_config_says() {
    let dir = tempfile::tempdir().unwrap();
    // A file where the directory should be.
    std::fs::write(dir.path().join("audit"), "").unwrap();
    let free = Arc::new(Audit::start(&config(false), Some(dir.path())).unwrap());
    free.open().unwrap().write(record("a"));
    wait_until(|| free.status().lost > 1);
    assert!(free.status().problem.is_some());
    let strict = Arc::new(Audit::start(&config(true), Some(dir.path())).unwrap());
    let refused = strict.open().unwrap_err();
    assert_eq!(Some(refused.0), strict.status().problem);
    assert_eq!(strict.status().lost, 0, "it is kept until the disk is back");
    drop(free);
    std::fs::remove_file(dir.path().join("audit")).unwrap();
    wait_until(|| strict.status().problem.is_none());
    strict.open().unwrap().write(record("b"));
    wait_until(|| servers(dir.path()) == ["b"]);
}

#[test]
fn a_second_mainstay_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let first = Audit::start(&config(false), Some(dir.path())).unwrap();
    let second = Audit::start(&config(false), Some(dir.path())).unwrap();
    assert_eq!(first.status().problem, None);
    assert!(
        second
            .status()
            .problem
            .unwrap()
            .contains("another Mainstay")
    );
}

#[test]
fn what_is_promised_and_not_used_is_given_back_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Arc::new(Audit::start(&config(true), Some(dir.path())).unwrap());
    let all: Vec<Ticket> = std::iter::from_fn(|| audit.open().ok())
        .take(WAITING_MAX + 1)
        .collect();
    assert_eq!(all.len(), WAITING_MAX);
    assert!(audit.open().unwrap_err().0.contains("too many"));
    drop(all);
    assert!(audit.open().is_ok());
}
