//! Keepers that panic: one server's accident, charged as ours, and nothing of it left before the next open (law 2).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mainstay_wire::envelope;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::*;
use crate::config::Protocol;
use crate::driver::opener::{Job, Keepers};
use crate::process::Guardian;

#[test]
fn law_2_a_panic_is_one_servers_accident_and_its_group_is_gone_before_the_next_open() {
    for (opening, life_ms) in [
        (Opening::Panics, None),
        (Opening::Well, Some(0)),
        (Opening::Well, Some(700)),
    ] {
        for name in ["pipes", "posts"] {
            on_virtual_time(async {
                let world = World::new(1, move |server, generation, _| {
                    let well = Script {
                        calls: Calls::Answers { ms: 3_000 },
                        ..Script::default()
                    };
                    if server != name || generation > 1 {
                        return well;
                    }
                    Script {
                        opening,
                        life_ms,
                        end: End::Panics,
                        remains_ms: 5_000,
                        ..well
                    }
                });
                let servers = [
                    ServerConfig::stdio("pipes", "fake"),
                    ServerConfig::http("posts", "http://127.0.0.1:1/mcp"),
                    ServerConfig::stdio("bystander", "fake"),
                ];
                let stage = Stage::start(world.opener(), 1, servers).await;
                let limit = Duration::from_secs(60);
                let began = Instant::now();
                let [ours, theirs] = [(name, 1), ("bystander", 2)].map(|(server, marker)| {
                    let server = stage.server(server);
                    tokio::spawn(async move {
                        (call(&server, marker, limit, limit).await, Instant::now())
                    })
                });
                let (cut, at) = ours.await.unwrap();
                if life_ms == Some(700) {
                    let class = cut.unwrap_err().class();
                    assert_eq!(class, "unknown", "law 16: it was sent");
                    assert!(
                        at - began < Duration::from_secs(1),
                        "and its caller is told at once"
                    );
                } else {
                    assert!(cut.is_ok(), "{cut:?}");
                }
                assert!(theirs.await.unwrap().0.is_ok(), "law 27");
                let server = stage.server(name);
                let second = |status: &crate::status::ServerStatus| {
                    status.generation == 2 && status.state == "connected"
                };
                timeout(limit, server.wait_until(second)).await.unwrap();
                // `World::spawned` asserts that the old group was gone, if the server is exclusive.
                let status = server.status();
                assert_eq!(status.last_failure.unwrap().kind, "internal");
                assert_eq!(stage.server("bystander").status().generation, 1);
                stage.shut_down().await;
                assert_nothing_is_left(&world).await;
            });
        }
    }
}

/// An opener of real keepers that panic when told.
struct Mined {
    keepers: Keepers,
    fuse: Arc<Notify>,
    /// The group of the newest process, as the test saw it.
    group: Arc<AtomicU32>,
    /// Whether that group still existed, at every open.
    found: Arc<Mutex<Vec<bool>>>,
}

impl Opener for Mined {
    fn keep(&self, job: Job) -> BoxFuture<'static, ()> {
        let group = self.group.load(Ordering::SeqCst);
        self.found.lock().unwrap().push(group_exists(group));
        let is_mined = &*job.slot.name == "mined";
        let (keeping, fuse) = (self.keepers.keep(job), Arc::clone(&self.fuse));
        async move {
            let blown = async {
                fuse.notified().await;
                if !is_mined {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                // Cancel-safe: what is dropped by the panic is what the test is about.
                () = keeping => {}
                () = blown => std::panic::resume_unwind(Box::new("planted")),
            }
        }
        .boxed()
    }
}

/// Whether a member of the group lives. A zombie that nobody reaps (its parent is gone) does not.
fn group_exists(group: u32) -> bool {
    let group = group.to_string();
    let is_member = |entry: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        // After the name in brackets: state, parent, group.
        let mut words = stat.rsplit(") ").next()?.split(' ');
        let lives = !matches!(words.next()?, "Z" | "X");
        Some(lives && words.nth(1)? == group)
    };
    let mut processes = std::fs::read_dir("/proc").unwrap();
    processes.any(|entry| is_member(entry) == Some(true))
}

/// A server of a few lines of shell that ignores TERM and has a family of grandchildren.
const SHELL_SERVER: &str = r#"
trap '' TERM
for n in 1 2 3 4 5 6 7 8; do sleep 600 & done
while read -r line; do
    id=${line#*\"id\":}
    id=${id%%[,\}]*}
    case "$line" in
        *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}' ;;
        *'"tools/list"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"tools":[{"name":"work","inputSchema":{"type":"object"}}]}}' ;;
        *'"notifications/'*) ;;
        *) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{}}' ;;
    esac
done
sleep 600
"#;

fn shell_server(name: &str) -> ServerConfig {
    // In a config `${` is the beginning of a reference.
    let script = SHELL_SERVER.replace("${", "$${");
    let mut server = ServerConfig::stdio(name, "/bin/sh").args(["-c".to_owned(), script]);
    server.protocol = Protocol::Legacy;
    server.restart.open_interval_ms = 1;
    server.restart.backoff_base_ms = 1;
    server.stop.close_ms = 100;
    server.stop.terminate_ms = 100;
    server
}

/// Real processes and real time: what the simulation shows of fakes holds for a process group.
#[tokio::test]
async fn law_2_law_29_a_real_group_is_gone_before_the_next_open_when_its_keeper_panicked() {
    let patience = Duration::from_secs(60);
    let fuse = Arc::new(Notify::new());
    let group = Arc::new(AtomicU32::new(u32::MAX));
    let found = Arc::new(Mutex::new(Vec::new()));
    let opener = Mined {
        keepers: Keepers {
            guardian: Arc::new(Guardian::start().unwrap()),
            pauses: Arc::default(),
            office: crate::auth::Office::open(None, None, Arc::default()),
            limits: envelope::Limits {
                message_bytes_max: 64 * 1024,
                depth_max: 32,
            },
            pages_max: 10,
            stderr_bytes_max: 4 * 1024,
            caps: crate::config::Limits::default(),
        },
        fuse: Arc::clone(&fuse),
        group: Arc::clone(&group),
        found: Arc::clone(&found),
    };
    let servers = [shell_server("mined"), shell_server("bystander")];
    let stage = Stage::start(Box::new(opener), 1, servers).await;
    let (mined, bystander) = (stage.server("mined"), stage.server("bystander"));
    let up = |least: u64| {
        move |status: &crate::status::ServerStatus| {
            status.state == "connected" && status.generation >= least
        }
    };
    let neighbour = timeout(patience, bystander.wait_until(up(1)))
        .await
        .unwrap();
    for round in 1..=5 {
        let status = timeout(patience, mined.wait_until(up(round)))
            .await
            .unwrap();
        let pid = status.pid.unwrap();
        group.store(pid, Ordering::SeqCst);
        assert!(group_exists(pid));
        fuse.notify_waiters();
        let next = timeout(patience, mined.wait_until(up(round + 1)))
            .await
            .unwrap();
        assert_ne!(next.pid, Some(pid));
        assert!(
            !group_exists(pid),
            "law 29: the whole group, grandchildren too"
        );
        assert_eq!(next.last_failure.unwrap().kind, "internal");
        // Proof, so that the next panic is not one too many.
        mined.call("work", None).await.unwrap();
    }
    let survived: Vec<bool> = found.lock().unwrap().clone();
    assert!(!survived.contains(&true), "law 2: {survived:?}");
    let same = bystander.status();
    assert_eq!((same.pid, same.generation), (neighbour.pid, 1), "law 27");
    let last = mined.status().pid.unwrap();
    timeout(patience, stage.shut_down()).await.unwrap();
    assert!(!group_exists(last) && !group_exists(neighbour.pid.unwrap()));
}
