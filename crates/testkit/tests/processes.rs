//! Real children, forks and signals: what `mainstay::process` promises.
//!
//! Every test names the descendants that it starts by their process ids (they write them to a file themselves) and sees
//! each of them gone. Tests that count something of the whole process, or that must be killed, run in a process of
//! their own: see [`alone`].
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test ends at the first surprise, helpers included, and a host says when it is ready"
)]

#[path = "processes/sandbox.rs"]
mod sandbox;
#[path = "processes/trees.rs"]
mod trees;
#[path = "processes/yard.rs"]
mod yard;

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use mainstay::process::{EnvPolicy, ExitInfo, STDERR_BYTES_DEFAULT, SpawnError, child_env, spawn};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::yard::{
    ALONE, INITIALIZE, NOBODY, PING, Yard, alone, ask, children, children_of, exit_of, ledger_of,
    lives, myself, pids_in, script, signal, state_of, until, within,
};

// --- the exit of a leader --------------------------------------------------------------------------------------------

#[tokio::test]
async fn law_13_an_exit_is_noticed_while_a_grandchild_holds_stdout_f62() {
    let yard = Yard::new();
    let mut server = yard
        .misbehave(&[
            "--grandchild",
            "--exit-at",
            "initialize",
            "--exit-code",
            "7",
        ])
        .await;
    server.stdin.write_all(INITIALIZE).await.unwrap();

    assert_eq!(
        exit_of(&server.process).await,
        ExitInfo {
            code: Some(7),
            signal: None
        }
    );

    // Nobody but the grandchild can hold the pipe now, and nothing is swept before the owner says so.
    let [grandchild] = yard.ledger("grandchild")[..] else {
        panic!("one grandchild, not {:?}", yard.ledger("grandchild"))
    };
    assert!(lives(grandchild));
    assert!(!server.process.is_gone());
    // F65: the leader left by itself; the group is killed anyway.
    yard.bury(&mut server).await;
    assert!(!lives(grandchild));
    let mut rest = Vec::new();
    within("the end of stdout", server.stdout.read_to_end(&mut rest))
        .await
        .unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn the_last_words_are_there_when_the_exit_is_f14() {
    let yard = Yard::new();
    for round in 0..20 {
        let mut server = yard
            .shell("echo first >&2; printf 'last words' >&2; exit 3")
            .await;
        assert_eq!(
            exit_of(&server.process).await,
            ExitInfo {
                code: Some(3),
                signal: None
            }
        );
        assert_eq!(
            server.stderr.tail(2),
            ["first", "last words"],
            "round {round}"
        );
        yard.bury(&mut server).await;
    }
}

#[tokio::test]
async fn the_signal_that_ended_a_leader_is_told() {
    let yard = Yard::new();
    let mut server = yard.shell("kill -s SEGV $$").await;
    assert_eq!(
        exit_of(&server.process).await,
        ExitInfo {
            code: None,
            signal: Some(11)
        }
    );
    yard.bury(&mut server).await;
}

// --- the end of a group ----------------------------------------------------------------------------------------------

/// A launcher three deep; each level and a background job write their ids to `pids`.
const TREE: &str = r#"echo $$ >> pids; sh -c 'echo $$ >> pids; sh -c "echo \$\$ >> pids; sleep 600 & echo \$! >> pids; wait"; true'; true"#;

#[tokio::test]
async fn law_29_a_launcher_tree_is_killed_without_survivors_f64() {
    let yard = Yard::new();
    let mut server = yard.shell(TREE).await;
    yard.until_pids(4).await;
    assert!(yard.pids().into_iter().all(lives));

    server.process.kill();
    within("the group to be gone", server.process.gone()).await;

    // No grace: gone means gone now.
    assert_eq!(yard.living(), NOBODY);
    assert_eq!(
        exit_of(&server.process).await,
        ExitInfo {
            code: None,
            signal: Some(9)
        }
    );
    yard.bury(&mut server).await;
}

/// A process with much memory is still there for a while after its KILL.
#[tokio::test]
async fn law_29_gone_waits_for_those_who_die_slowly_f64() {
    let yard = Yard::new();
    let fat = "{ head -c 150000000 /dev/zero; sh -c 'echo $$ >> pids; exec sleep 600'; } \
               | sh -c 'echo $$ >> pids; exec tail -n 1' & wait";
    let mut server = yard.shell(fat).await;
    yard.until_pids(2).await;
    yard.bury(&mut server).await;
    assert_eq!(yard.living(), NOBODY);
}

#[tokio::test]
async fn law_29_what_a_polite_leader_leaves_behind_is_swept_f65() {
    let yard = Yard::new();
    let deaf = r#"sh -c 'trap "" TERM; echo $$ >> pids; sleep 600 & echo $! >> pids; wait; wait' & echo $$ >> pids; wait"#;
    let mut server = yard.shell(deaf).await;
    yard.until_pids(3).await;

    server.process.terminate();
    assert_eq!(
        exit_of(&server.process).await,
        ExitInfo {
            code: None,
            signal: Some(15)
        }
    );
    assert_eq!(yard.living().len(), 2, "the deaf ones live on");
    assert!(!server.process.is_gone());

    yard.bury(&mut server).await;
    assert_eq!(yard.living(), NOBODY);
}

#[tokio::test]
async fn a_child_that_ignores_term_and_eof_is_killed_f70() {
    let yard = Yard::new();
    let mut server = yard.misbehave(&["--ignore-term", "--ignore-eof"]).await;
    // It answers, so it ignores TERM by now.
    assert!(ask(&mut server, PING).await.contains("result"));
    server.process.terminate();
    // It answers after the TERM, so it has survived it.
    assert!(ask(&mut server, PING).await.contains("result"));

    yard.bury(&mut server).await;
    assert_eq!(
        exit_of(&server.process).await,
        ExitInfo {
            code: None,
            signal: Some(9)
        }
    );
}

#[tokio::test]
async fn a_stopped_child_hears_its_term_f74() {
    let yard = Yard::new();
    let mut server = yard.shell("echo $$ >> pids; kill -s STOP $$").await;
    until("the child to stop", || {
        yard.pids()
            .first()
            .is_some_and(|pid| state_of(*pid) == Some('T'))
    })
    .await;
    server.process.terminate();
    assert_eq!(
        exit_of(&server.process).await,
        ExitInfo {
            code: None,
            signal: Some(15)
        }
    );
    yard.bury(&mut server).await;
}

#[tokio::test]
async fn after_the_end_nothing_is_signalled_any_more_f67() {
    let yard = Yard::new();
    let mut server = yard.shell("exit 0").await;
    yard.bury(&mut server).await;
    assert_eq!(state_of(server.process.pid()), None, "reaped");
    for _ in 0..3 {
        server.process.terminate();
        server.process.kill();
        within("gone, again", server.process.gone()).await;
    }
    assert!(server.process.is_gone());
}

#[tokio::test]
async fn a_waiter_that_gives_up_changes_nothing() {
    let yard = Yard::new();
    let mut server = yard.shell("exec sleep 600").await;
    for _ in 0..10 {
        assert!(
            tokio::time::timeout(Duration::from_millis(1), server.process.gone())
                .await
                .is_err()
        );
    }
    yard.bury(&mut server).await;
}

// --- nobody may be forgotten -----------------------------------------------------------------------------------------

#[tokio::test]
async fn dropping_the_last_handle_kills_f75() {
    let yard = Yard::new();
    let server = yard.shell(TREE).await;
    yard.until_pids(4).await;
    drop(server);
    until("the tree to be gone", || yard.living().is_empty()).await;
}

#[test]
fn a_runtime_that_ends_leaves_no_process_f75() {
    let yard = Yard::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(async {
        let server = yard.shell(TREE).await;
        yard.until_pids(4).await;
        server
    });
    drop(runtime);
    let gone = || server.process.is_gone();
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(until("the group to be gone", gone));
    assert_eq!(yard.living(), NOBODY);
    assert_eq!(state_of(server.process.pid()), None, "reaped");
}

#[test]
fn a_cancelled_start_leaves_no_process_f22() {
    alone("a_cancelled_start_leaves_no_process_f22", async {
        let yard = Yard::new();
        for step in 0..20 {
            let start = spawn(yard.spec("sh", &["-c", TREE]), &yard.guardian);
            // Polled at least once; then dropped somewhere on its way, or finished and dropped.
            let _ = tokio::time::timeout(Duration::from_micros(step * 100), start).await;
        }
        let Yard { dir, guardian } = yard;
        // True only when no child is left.
        within("the guardian to end", guardian.ended()).await;
        assert!(!pids_in(&dir.path().join("pids")).into_iter().any(lives));
        assert_eq!(children(), NOBODY, "not even a zombie");
    });
}

#[test]
fn zombies_are_none_after_a_hundred_crashes_f68_f12() {
    alone("zombies_are_none_after_a_hundred_crashes_f68_f12", async {
        let yard = Yard::new();
        for _ in 0..20 {
            let crash = async || {
                let mut server = yard
                    .misbehave(&["--exit-at", "start", "--exit-code", "9"])
                    .await;
                assert_eq!(exit_of(&server.process).await.code, Some(9));
                yard.bury(&mut server).await;
            };
            tokio::join!(crash(), crash(), crash(), crash(), crash());
        }
        assert_eq!(yard.ledger("spawn").len(), 100, "F12: one spawn per start");
        assert_eq!(children(), [yard.guardian.helper_pid().unwrap()]);
        let Yard { guardian, .. } = yard;
        within("the guardian to end", guardian.ended()).await;
        assert_eq!(children(), NOBODY, "law 6: not even the helper");
    });
}

#[test]
fn descriptors_and_threads_are_back_at_the_baseline_after_a_hundred_cycles_f11() {
    alone(
        "descriptors_and_threads_are_back_at_the_baseline_after_a_hundred_cycles_f11",
        async {
            let yard = Yard::new();
            let cycle = async || {
                let mut server = yard.misbehave(&[]).await;
                assert!(ask(&mut server, PING).await.contains("result"));
                yard.bury(&mut server).await;
            };
            cycle().await;
            let count = || fs::read_dir("/proc/self/fd").unwrap().count();
            let tasks = || {
                tokio::runtime::Handle::current()
                    .metrics()
                    .num_alive_tasks()
            };
            until("the first cycle's tasks to end", || tasks() == 0).await;
            let before = count();
            for _ in 0..100 {
                cycle().await;
            }
            until("descriptors back at the baseline", || count() == before).await;
            until("tasks back at the baseline", || tasks() == 0).await;
        },
    );
}

// --- the guardian ----------------------------------------------------------------------------------------------------

#[test]
fn law_29_when_we_are_killed_our_descendants_go_too_f66() {
    let name = "law_29_when_we_are_killed_our_descendants_go_too_f66";
    if std::env::var_os(ALONE).is_some() {
        return alone(name, host(async |_| {}));
    }
    kill_the_host(name);
}

#[test]
fn law_29_a_guardian_that_was_killed_is_replaced_f66() {
    let name = "law_29_a_guardian_that_was_killed_is_replaced_f66";
    if std::env::var_os(ALONE).is_some() {
        return alone(name, host(replace_the_helper));
    }
    kill_the_host(name);
}

/// What the kernel does by itself: the helper is stopped, so it cannot be what ends the leaders.
#[test]
fn law_29_leaders_go_even_without_the_helper_f66() {
    let name = "law_29_leaders_go_even_without_the_helper_f66";
    if std::env::var_os(ALONE).is_some() {
        return alone(name, host(stop_the_helper));
    }
    kill_the_host(name);
}

/// A stopped helper cannot read; it is noticed when its pipe is full, and replaced.
#[test]
fn a_guardian_that_does_not_read_is_replaced() {
    alone("a_guardian_that_does_not_read_is_replaced", async {
        let yard = Yard::new();
        let helper = yard.guardian.helper_pid().unwrap();
        let pipe = fs::File::open(format!("/proc/{helper}/fd/0")).unwrap();
        // The smallest there is, so that it is full soon: each cycle writes two lines of about ten bytes.
        rustix::pipe::fcntl_setpipe_size(&pipe, 4096).unwrap();
        drop(pipe);
        signal(helper, "STOP");
        until("the helper to stop", || state_of(helper) == Some('T')).await;
        let fill = async {
            while yard.guardian.helper_pid() == Some(helper) {
                let mut server = yard.shell("exit 0").await;
                yard.bury(&mut server).await;
            }
        };
        within("the helper to be given up", fill).await;
        assert!(!lives(helper));
    });
}

/// What the killed process does: servers with descendants, all of them deaf to everything but KILL; says `ready`.
async fn host(prepare: impl AsyncFnOnce(&Yard)) {
    let yard = Yard::in_folder(Path::new(&std::env::var_os(ALONE).unwrap()));
    let _server = yard
        .misbehave(&["--grandchild", "--ignore-term", "--ignore-eof"])
        .await;
    let _runner = yard
        .misbehave(&["--runner", "--ignore-term", "--ignore-eof", "--grandchild"])
        .await;
    let _tree = yard.shell(&format!("trap '' TERM HUP INT; {TREE}")).await;
    yard.until_pids(4).await;
    until("the grandchildren", || yard.ledger("grandchild").len() == 2).await;
    prepare(&yard).await;
    println!("\nready");
    std::future::pending::<()>().await;
}

async fn stop_the_helper(yard: &Yard) {
    let helper = yard.guardian.helper_pid().unwrap();
    signal(helper, "STOP");
    until("the helper to stop", || state_of(helper) == Some('T')).await;
}

async fn replace_the_helper(yard: &Yard) {
    let first = yard.guardian.helper_pid().unwrap();
    signal(first, "KILL");
    until("another helper", || {
        yard.guardian.helper_pid().is_some_and(|pid| pid != first)
    })
    .await;
}

/// Runs the test `name` as a [`host`], kills it with SIGKILL and sees everything vanish: first the leaders, then, with
/// a helper that goes on if it was stopped, the rest and the helper too.
fn kill_the_host(name: &str) {
    let dir = TempDir::new().unwrap();
    let mut host = myself(name, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap() == "ready"),
        "the host failed"
    );
    let direct = children_of(host.id());
    let (stopped, leaders): (Vec<u32>, Vec<u32>) =
        direct.iter().partition(|pid| state_of(**pid) == Some('T'));
    let mut all = pids_in(&dir.path().join("pids"));
    all.extend(ledger_of(&dir.path().join("ledger"), "spawn"));
    all.extend(ledger_of(&dir.path().join("ledger"), "grandchild"));
    all.extend(&direct);
    if direct.len() != 4 || all.len() != 12 {
        // Nobody would end it otherwise.
        host.kill().unwrap();
        panic!("{all:?}");
    }
    assert!(all.iter().all(|pid| lives(*pid)));

    host.kill().unwrap();
    host.wait().unwrap();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let vanished = |pids: &[u32]| !pids.iter().any(|pid| lives(*pid));
    runtime.block_on(until("the leaders to vanish", || vanished(&leaders)));
    stopped.iter().for_each(|helper| signal(*helper, "CONT"));
    runtime.block_on(until("every descendant to vanish", || vanished(&all)));
}

// --- stderr ----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn law_30_a_flood_on_stderr_blocks_nothing_f52_f53() {
    let yard = Yard::new();
    for more in [&[][..], &["--no-newlines"]] {
        let mut server = yard
            .misbehave(&[&["--stderr-flood", "5000000"], more].concat())
            .await;
        // The flood comes before the answer; undrained, 64 KiB of it would stop the server.
        assert!(ask(&mut server, PING).await.contains("result"));
        let mut total = server.stderr.subscribe();
        within(
            "all of the flood",
            total.wait_for(|total| *total == 5_000_000),
        )
        .await
        .unwrap();
        assert_eq!(server.stderr.total_bytes(), 5_000_000);
        let (next, kept) = server.stderr.read_from(0);
        assert_eq!((next, kept.len()), (5_000_000, STDERR_BYTES_DEFAULT));
        assert!(!server.stderr.tail(5).is_empty());
        yard.bury(&mut server).await;
        assert_eq!(
            server.stderr.total_bytes(),
            5_000_000,
            "the ring outlives the process"
        );
    }
}

#[tokio::test]
async fn a_runaway_that_left_the_group_holds_nothing_of_ours() {
    let yard = Yard::new();
    let mut server = yard
        .shell("setsid sh -c 'echo $$ >> pids; exec sleep 600' & wait")
        .await;
    yard.until_pids(1).await;
    let runaway = yard.pids()[0];
    yard.bury(&mut server).await;
    // The documented limit; but neither our pipe nor our task waits for it.
    assert!(lives(runaway));
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    until("the tasks to end", || tasks() == 0).await;
    signal(runaway, "KILL");
    until("the runaway to end", || !lives(runaway)).await;
}

// --- the surroundings of a child -------------------------------------------------------------------------------------

#[test]
fn law_31_a_child_sees_nothing_of_ours_but_the_allow_list_f8_f9() {
    alone(
        "law_31_a_child_sees_nothing_of_ours_but_the_allow_list_f8_f9",
        async {
            let yard = Yard::new();
            assert!(
                std::env::var_os(ALONE).is_some(),
                "the canary is in our environment"
            );
            for declared in [&[][..], &[("DECLARED".to_owned(), "a b\nc".to_owned())]] {
                let mut spec = yard.spec("env", &["-0"]);
                spec.env = child_env(std::env::vars_os(), declared, EnvPolicy::Basic);
                let expected = spec.env.clone();
                let mut seen = String::new();
                let mut server = spawn(spec, &yard.guardian).await.unwrap();
                within("the output", server.stdout.read_to_string(&mut seen))
                    .await
                    .unwrap();
                let mut seen: Vec<(OsString, OsString)> = seen
                    .split_terminator('\0')
                    .map(|line| line.split_once('=').unwrap())
                    .map(|(n, v)| (n.into(), v.into()))
                    .collect();
                seen.sort();
                assert_eq!(seen, expected);
                assert!(seen.iter().any(|(name, _)| name == "PATH"));
                assert_eq!(
                    seen.iter().any(|(name, _)| name == "DECLARED"),
                    !declared.is_empty()
                );
                assert!(
                    !seen.iter().any(|(name, _)| name == ALONE),
                    "the canary is out"
                );
                yard.bury(&mut server).await;
            }
        },
    );
}

#[tokio::test]
async fn a_child_inherits_no_descriptor_of_ours() {
    let yard = Yard::new();
    // What a careless C library, or the parent that started us, would leave open: not closed on exec.
    let careless = rustix::io::dup(fs::File::open("/dev/null").unwrap()).unwrap();
    // Without a ledger: what it opens itself is not what is asked about.
    let spec = yard.spec(yard::MISBEHAVE, &[]);
    let mut server = spawn(spec, &yard.guardian).await.unwrap();
    // It answers, so it has settled.
    assert!(ask(&mut server, PING).await.contains("result"));
    let open = fs::read_dir(format!("/proc/{}/fd", server.process.pid())).unwrap();
    let open = open.map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
    let (ours, others): (Vec<_>, Vec<_>) =
        open.partition(|target| target.to_string_lossy().starts_with("pipe:"));
    assert_eq!(ours.len(), 3, "stdin, stdout, stderr: {ours:?}");
    assert_eq!(others, Vec::<std::path::PathBuf>::new());
    drop(careless);
    yard.bury(&mut server).await;
}

#[tokio::test]
async fn the_program_is_found_with_the_childs_eyes_f1() {
    let yard = Yard::new();
    let bin = yard.dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    script(&bin.join("only-here"), "#!/bin/sh\necho found");

    // Not in our PATH, but in the child's; and by paths relative to the child's working directory.
    let mut by_name = yard.spec("only-here", &[]);
    by_name.env = vec![("PATH".into(), format!("/nowhere:{}", bin.display()).into())];
    let mut by_relative_path = yard.spec("only-here", &[]);
    by_relative_path.env = vec![("PATH".into(), "bin".into())];
    for spec in [
        by_name,
        by_relative_path,
        yard.spec("./bin/only-here", &[]),
        yard.spec("bin/only-here", &[]),
    ] {
        let mut server = spawn(spec, &yard.guardian).await.unwrap();
        let mut said = String::new();
        within("the output", server.stdout.read_to_string(&mut said))
            .await
            .unwrap();
        assert_eq!(said, "found\n");
        yard.bury(&mut server).await;
    }
}

#[tokio::test]
async fn a_missing_program_is_named_with_the_path_searched_f1() {
    let yard = Yard::new();
    let mut spec = yard.spec("no-such-program", &[]);
    spec.env = vec![("PATH".into(), "/nowhere:/bin".into())];
    let error = spawn(spec, &yard.guardian).await.unwrap_err();
    assert!(
        matches!(&error, SpawnError::NotFound { searched, .. } if searched == "/nowhere:/bin"),
        "{error:?}"
    );
    for part in ["no-such-program", "/nowhere:/bin", "`env`"] {
        assert!(error.to_string().contains(part), "{error}");
    }

    let error = spawn(yard.spec("./no-such-file", &[]), &yard.guardian)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SpawnError::NotFound { searched, .. } if searched.is_empty()),
        "{error:?}"
    );

    script(
        &yard.dir.path().join("orphan"),
        "#!/no/such/interpreter -x\n",
    );
    let error = spawn(yard.spec("./orphan", &[]), &yard.guardian)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SpawnError::NotFound { program, .. } if program == "/no/such/interpreter"),
        "{error:?}"
    );
    assert!(error.to_string().contains("orphan"), "{error}");
}

#[tokio::test]
async fn a_program_that_may_not_be_run_is_denied_with_its_path() {
    let yard = Yard::new();
    fs::write(yard.dir.path().join("data"), "no program").unwrap();
    for program in ["./data", "."] {
        let error = spawn(yard.spec(program, &[]), &yard.guardian)
            .await
            .unwrap_err();
        // A bare dot is a name, and names are searched.
        assert!(
            matches!(&error, SpawnError::Denied { .. }),
            "{program}: {error:?}"
        );
        assert!(error.to_string().contains("chmod +x"), "{error}");
    }
}

#[tokio::test]
async fn a_missing_working_directory_is_its_own_error_f3() {
    let yard = Yard::new();
    fs::write(yard.dir.path().join("file"), "").unwrap();
    for cwd in ["no-such-directory", "file"] {
        let mut spec = yard.spec("true", &[]);
        spec.cwd = Some(yard.dir.path().join(cwd));
        let error = spawn(spec, &yard.guardian).await.unwrap_err();
        assert!(matches!(&error, SpawnError::CwdMissing { .. }), "{error:?}");
        assert!(
            error.to_string().contains(cwd) && error.to_string().contains("`cwd`"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_impossible_argument_is_refused_with_its_place() {
    let yard = Yard::new();
    let error = spawn(yard.spec("true", &["a", "b\0"]), &yard.guardian)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("args[1]"), "{error}");
    let mut spec = yard.spec("true", &[]);
    spec.env = vec![("A=B".into(), "secret".into())];
    let error = spawn(spec, &yard.guardian).await.unwrap_err();
    assert!(
        error.to_string().contains("A=B") && !error.to_string().contains("secret"),
        "{error}"
    );
}

#[tokio::test]
async fn law_31_a_spec_that_is_printed_keeps_its_secrets() {
    let yard = Yard::new();
    let mut spec = yard.spec("true", &["--token=hunter2"]);
    spec.env = vec![("TOKEN".into(), "hunter2".into())];
    let printed = format!("{spec:?}");
    assert!(
        printed.contains("TOKEN") && !printed.contains("hunter2"),
        "{printed}"
    );
}
