//! Trees of processes: package runners that hear nothing, and what leaves the group.

use mainstay::process::PipeId;
use tokio::io::AsyncWriteExt;

use crate::yard::{NOBODY, PING, Yard, ask, exit_of, lives, signal, until};

#[tokio::test]
async fn law_29_f64_f65_f70_a_deaf_runner_three_deep_goes_with_all_it_started() {
    let yard = Yard::new();
    let flags = ["--runner", "--ignore-term", "--ignore-eof", "--grandchild"];
    let mut server = yard.misbehave(&flags).await;
    assert!(ask(&mut server, PING).await.contains("result"));
    let runner = server.process.pid();
    let [spawned] = yard.ledger("spawn")[..] else {
        unreachable!("one server: {:?}", yard.ledger("spawn"))
    };
    let [grandchild] = yard.ledger("grandchild")[..] else {
        unreachable!("one grandchild: {:?}", yard.ledger("grandchild"))
    };
    assert_ne!(runner, spawned, "a shell and a server are below the runner");
    server.process.terminate();
    // It answers after the TERM, so all three levels have survived it.
    assert!(ask(&mut server, PING).await.contains("result"));
    yard.bury(&mut server).await;
    let living: Vec<u32> = [runner, spawned, grandchild]
        .into_iter()
        .filter(|pid| lives(*pid))
        .collect();
    assert_eq!(living, NOBODY);
}

#[tokio::test]
async fn f64_a_runner_whose_server_dies_passes_its_code_on() {
    let yard = Yard::new();
    let flags = ["--runner", "--exit-at", "start", "--exit-code", "7"];
    let mut server = yard.misbehave(&flags).await;
    assert_eq!(exit_of(&server.process).await.code, Some(7));
    yard.bury(&mut server).await;
}

/// The known limit: it lives on, but it does not go unseen.
#[tokio::test]
async fn f66_who_left_the_group_is_found_by_the_pipe_it_holds() {
    let yard = Yard::new();
    let mut server = yard.misbehave(&["--escapee"]).await;
    let pipe = PipeId::of(&server.stdout).unwrap();
    until("the escape", || yard.ledger("escapee").len() == 1).await;
    let mut holders = pipe.holders();
    holders.sort_unstable();
    let escapee = yard.ledger("escapee")[0];
    let mut both = [server.process.pid(), escapee];
    both.sort_unstable();
    assert_eq!(holders, both);
    yard.bury(&mut server).await;
    let left = pipe.holders();
    let lived = lives(escapee);
    signal(escapee, "KILL");
    assert!(lived);
    assert_eq!(left, [escapee]);
    until("its end", || pipe.holders().is_empty()).await;
}

#[tokio::test]
async fn f73_writing_to_the_dead_is_an_error_and_not_our_end() {
    let yard = Yard::new();
    let mut server = yard.misbehave(&["--exit-at", "start"]).await;
    exit_of(&server.process).await;
    let large = vec![b'x'; 1_000_000];
    let error = server.stdin.write_all(&large).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    yard.bury(&mut server).await;
}
