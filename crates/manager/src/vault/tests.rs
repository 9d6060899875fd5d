//! Tests of looking secrets up: one lookup for all who ask, bounded in time and in what is kept.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const WAIT: Duration = Duration::from_secs(30);

async fn found(lookup: Lookup, age: Age) -> Answer {
    let mut found = look_up(vec![lookup.clone()], None, WAIT, age)
        .await
        .map_err(|(_, why)| why)?;
    Ok(found.remove(&lookup).expect("looked up"))
}

fn command(words: &[&str]) -> Lookup {
    Lookup::Command(words.iter().map(|word| (*word).to_owned()).collect())
}

#[tokio::test]
async fn law_31_a_file_gives_its_text_without_the_last_line_end_and_is_hidden_from_then_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("token");
    std::fs::write(&path, "file-s3cret-1 \n\n").expect("written");
    let lookup = Lookup::File(path.clone());
    assert_eq!(
        found(lookup.clone(), Age::Kept).await.as_deref(),
        Ok("file-s3cret-1 \n")
    );
    let shown = crate::secrets::scrub_live("it said file-s3cret-1 today").into_owned();
    assert_eq!(shown, "it said [hidden] today");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let told = inspect(vec![lookup.clone()], None, WAIT).await;
    let note = told[0].1.clone().expect("read").expect("a note");
    assert!(note.contains("chmod 600"), "{note}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("changed");
    assert_eq!(inspect(vec![lookup], None, WAIT).await[0].1, Ok(None));
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_with_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("empty"), "\n").expect("written");
    std::fs::write(path("long"), vec![b'x'; VALUE_BYTES_MAX + 1]).expect("written");
    std::fs::write(path("binary"), [0xff, 0xfe]).expect("written");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        path("pipe"),
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .expect("a pipe");
    for (name, why) in [
        ("missing", "cannot be read"),
        ("empty", "empty"),
        ("long", "longer than"),
        ("binary", "UTF-8"),
        ("pipe", "no ordinary file"),
        (".", "no ordinary file"),
    ] {
        let said = found(Lookup::File(path(name)), Age::Kept)
            .await
            .expect_err("unusable");
        assert!(said.contains(why), "{name}: {said}");
    }
}

#[tokio::test]
async fn a_command_is_run_once_for_a_storm_and_again_when_its_value_was_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let count = dir.path().join("count");
    let script = format!(
        "echo x >> {0}; wc -l < {0}; echo secret-of-nobody >&2",
        count.display()
    );
    let lookup = command(&["sh", "-c", &script]);
    let storm = (0..100).map(|_| found(lookup.clone(), Age::Kept));
    let values: std::collections::BTreeSet<Arc<str>> = join_all(storm)
        .await
        .into_iter()
        .map(|value| value.expect("printed"))
        .collect();
    assert_eq!(values.len(), 1, "{values:?}");
    assert_eq!(
        values.first().map(|value| value.trim().to_owned()),
        Some("1".to_owned())
    );
    with_cells(|cells| {
        let cell = cells.get_mut(&lookup).expect("kept");
        cell.begun = cell
            .begun
            .checked_sub(FRESH)
            .expect("a clock that ran for seconds");
    });
    assert_eq!(
        found(lookup.clone(), Age::Kept).await.expect("kept").trim(),
        "1"
    );
    assert_eq!(
        found(lookup, Age::Fresh).await.expect("printed").trim(),
        "2"
    );
}

#[tokio::test]
async fn commands_that_fail_say_why_and_their_output_is_bounded() {
    for (words, why) in [
        (vec!["no-such-program-anywhere"], "no-such-program-anywhere"),
        (
            vec!["sh", "-c", "echo the vault is locked >&2; exit 3"],
            "the vault is locked",
        ),
        (vec!["sh", "-c", "exit 4"], "exit code 4"),
        (vec!["sh", "-c", "true"], "empty"),
        (vec!["yes"], "more than"),
    ] {
        let said = found(command(&words), Age::Kept)
            .await
            .expect_err("a failure");
        assert!(said.contains(why), "{words:?}: {said}");
    }
}

#[tokio::test]
async fn law_29_what_a_command_leaves_running_neither_delays_its_value_nor_stays() {
    let lookup = command(&["sh", "-c", "sleep 1000 & echo $!"]);
    let pid = found(lookup, Age::Kept).await.expect("printed");
    let pid: i32 = pid.parse().expect("a number");
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    let deadline = Instant::now() + WAIT;
    while rustix::process::test_kill_process(pid).is_ok() {
        assert!(Instant::now() < deadline, "it still runs");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn law_17_a_lookup_that_hangs_ends_with_the_patience_of_who_asked() {
    let lookup = command(&["sleep", "1000"]);
    let wait = Duration::from_millis(50);
    let (slow, why) = look_up(vec![lookup.clone()], None, wait, Age::Kept)
        .await
        .expect_err("late");
    assert!(slow == lookup && why.contains("within 50 ms"), "{why}");
}
