//! Secrets that are kept elsewhere: in files, and with the commands of password managers. Real files, real commands.

use mainstay::config::ServerConfig;
use mainstay_testkit::http_server::{Eras, HttpServer, Script};
use serde_json::json;

use super::harness::*;
use super::http::script;

const FIRST: &str = "first-token-of-the-vault";
const SECOND: &str = "second-token-of-the-vault";

fn wanting(token: &str, eras: Eras) -> Script {
    Script {
        authorization: Some(format!("Bearer {token}")),
        ..script(eras)
    }
}

fn shown(url: &str, reference: &str) -> ServerConfig {
    quick(ServerConfig::http("h", url)).header("Authorization", format!("Bearer {reference}"))
}

#[tokio::test]
async fn f93_law_31_a_token_in_a_file_is_read_again_when_it_is_refused_and_no_call_is_lost_or_made_twice()
 {
    for eras in [Eras::Legacy, Eras::Modern] {
        let bench = Bench::new();
        let file = bench.path("token");
        std::fs::write(&file, format!("{FIRST}\n")).unwrap();
        let fake = HttpServer::start(wanting(FIRST, eras)).await.unwrap();
        let reference = format!("${{file:{}}}", file.display());
        let manager = start([shown(&fake.url(), &reference)]).await;
        let server = manager.server("h").unwrap();
        generation(&server, 1).await;
        // First the server, then the file: there is a time in which nothing that is known is good.
        fake.change(|script| script.authorization = Some(format!("Bearer {SECOND}")));
        std::fs::write(&file, SECOND).unwrap();
        let calls = (0..20).map(|number| {
            let (server, marker) = (server.clone(), format!("m{number}"));
            async move { call(&server, "add_marker", json!({ "marker": marker })).await }
        });
        for answered in futures_util::future::join_all(calls).await {
            answered.unwrap_or_else(|error| panic!("{eras:?}: {error}"));
        }
        let markers = fake.ledger().counts().markers;
        assert_eq!(markers.len(), 20);
        assert!(markers.values().all(|runs| *runs == 1), "{markers:?}");
        let status = server.status();
        assert_eq!(
            (status.state, status.generation),
            ("connected", 1),
            "{eras:?}"
        );
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn law_27_law_30_a_secret_that_cannot_be_looked_up_stops_its_own_server_and_says_which_and_why()
 {
    let bench = Bench::new();
    let fake = HttpServer::start(wanting(FIRST, Eras::Dual)).await.unwrap();
    let file = bench.path("token");
    let lost = shown(&fake.url(), &format!("${{file:{}}}", file.display()));
    let command = quick(ServerConfig::http("c", fake.url().as_str())).header(
        "Authorization",
        "Bearer ${cmd:sh -c 'echo the vault is locked >&2; exit 3'}",
    );
    let other = quick(ServerConfig::http("o", fake.url().as_str()))
        .header("Authorization", format!("Bearer ${{cmd:printf {FIRST}}}"));
    let manager = start([lost, command, other]).await;
    generation(&manager.server("o").unwrap(), 1).await;
    for (name, reference, why) in [
        ("h", "${file:", "No such file"),
        ("c", "${cmd:sh …}", "last on stderr: the vault is locked"),
    ] {
        let server = manager.server(name).unwrap();
        let failed = within(
            "the failure",
            server.wait_until(|status| status.last_failure.is_some()),
        )
        .await;
        let failure = failed.last_failure.unwrap();
        assert_eq!(failure.kind, "secret-unavailable");
        let said = format!("{failure:?}");
        assert!(said.contains(reference) && said.contains(why), "{said}");
    }
    std::fs::write(&file, FIRST).unwrap();
    let server = manager.server("h").unwrap();
    server.restart().await.unwrap();
    generation(&server, 1).await;
    manager.shutdown().await;
}

#[tokio::test]
async fn law_17_law_27_a_password_manager_that_hangs_delays_nobody_else_and_does_not_outlive_its_server()
 {
    let bench = Bench::new();
    let pid = bench.path("pid");
    let fake = HttpServer::start(script(Eras::Dual)).await.unwrap();
    let hanging = quick(ServerConfig::http("h", fake.url().as_str())).header(
        "X-Key",
        format!(
            "${{cmd:sh -c 'echo $$ > {}; exec sleep 1000'}}",
            pid.display()
        ),
    );
    let others = (0..10).map(|number| {
        let name = format!("o{number}");
        quick(ServerConfig::http(name, fake.url().as_str()))
            .header("X-Key", format!("${{cmd:printf key-{number}-of-many}}"))
    });
    let manager = start(std::iter::once(hanging).chain(others)).await;
    for number in 0..10 {
        generation(&manager.server(&format!("o{number}")).unwrap(), 1).await;
    }
    until("the command to run", || pid.exists()).await;
    assert_eq!(manager.server("h").unwrap().status().state, "connecting");
    within("the shutdown", manager.shutdown()).await;
}

#[tokio::test]
async fn law_31_what_was_looked_up_is_hidden_in_what_a_server_says_of_its_end() {
    let bench = Bench::new();
    let file = bench.path("token");
    std::fs::write(&file, FIRST).unwrap();
    let reference = format!("bad token: ${{file:{}}}", file.display());
    let flags = ["--exit-at", "start", "--last-words", &reference];
    let mut config = bench.server("s", &flags);
    config.restart.budget = 0;
    let manager = start([config]).await;
    let server = manager.server("s").unwrap();
    let said = format!("{:?}", state(&server, "parked").await);
    assert!(said.contains("bad token: [hidden]"), "{said}");
    assert!(!said.contains(FIRST), "{said}");
    manager.shutdown().await;
}

#[tokio::test]
async fn references_stand_in_arguments_and_variables_of_processes_too() {
    let bench = Bench::new();
    let ledger = bench.path("s");
    std::fs::write(bench.path("where"), format!("{}\n", ledger.display())).unwrap();
    let reference = format!("${{file:{}}}", bench.path("where").display());
    let config = ServerConfig::stdio("s", MISBEHAVE)
        .args(["--ledger".to_owned(), reference])
        .env("KEY", "${cmd:printf \"a key of one's own\"}");
    let manager = start([quick(config)]).await;
    generation(&manager.server("s").unwrap(), 1).await;
    let pid = bench
        .ledger("s")
        .first()
        .expect("it wrote where it was told")
        .0;
    let environ = std::fs::read(format!("/proc/{pid}/environ"));
    if let Ok(environ) = environ {
        let text = String::from_utf8_lossy(&environ).into_owned();
        assert!(
            text.split('\0')
                .any(|line| line == "KEY=a key of one's own"),
            "{text}"
        );
    }
    manager.shutdown().await;
}
