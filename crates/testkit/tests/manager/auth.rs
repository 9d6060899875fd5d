//! Servers that want tokens: a real authorization server with rotation and reuse detection, and managers that must neither
//! lose a grant nor spend a refresh token twice. What the authorization server wrote down is the oracle.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use mainstay::auth::{How, LoginState, SignInState};
use mainstay::config::{Config, ServerConfig};
use mainstay::{CallError, Manager, Refusal, ServerHandle};
use mainstay_core::failure::FailureKind;
use mainstay_testkit::authority::{At, Authority, Fault, Guard, Protected, Script, visit};
use mainstay_testkit::http_server::{Eras, GetPolicy};
use serde_json::json;
use tempfile::TempDir;

use super::harness::*;
use super::http::script;

/// Nobody listens there: the browser of a test is read, not followed.
const REDIRECT: &str = "http://127.0.0.1:1/callback";

struct World {
    authority: Authority,
    server: Protected,
    state: TempDir,
}

impl World {
    async fn new(tokens: Script, guard: Guard, eras: Eras) -> Self {
        let authority = Authority::start(tokens).await.unwrap();
        let server = Protected::start(&authority, guard, script(eras))
            .await
            .unwrap();
        Self {
            authority,
            server,
            state: TempDir::new().unwrap(),
        }
    }

    async fn usual() -> Self {
        Self::new(Script::default(), Guard::default(), Eras::Legacy).await
    }

    fn config(&self) -> ServerConfig {
        quick(ServerConfig::http("notes", self.server.url().as_str()))
    }

    async fn manager(&self) -> Manager {
        manager_in(self.state.path(), self.config()).await
    }

    /// A manager whose person has signed in, connected.
    async fn signed_in(&self) -> (Manager, ServerHandle) {
        let manager = self.manager().await;
        let server = manager.server("notes").unwrap();
        state(&server, "parked").await;
        sign_in(&manager).await;
        state(&server, "connected").await;
        (manager, server)
    }

    /// Nobody was robbed, and nobody has robbed himself.
    fn unharmed(&self, refreshes: u64) {
        let counts = self.authority.ledger().counts();
        assert_eq!(
            (counts.reuses, counts.revocations, counts.refreshes),
            (0, 0, refreshes),
            "{counts:?}"
        );
    }
}

async fn manager_in(dir: &Path, config: ServerConfig) -> Manager {
    Manager::builder()
        .config(Config::from_servers([config]))
        .state_dir(Some(dir.to_owned()))
        .start()
        .await
        .unwrap()
}

async fn sign_in(manager: &Manager) {
    let sign_ins = manager.sign_ins();
    let begun = sign_ins
        .begin("notes", None, How::Browser, Some(REDIRECT))
        .await
        .unwrap();
    assert_eq!(sign_ins.login(&begun.id), Some(LoginState::Waiting));
    let back = back_from(&begun.url).await;
    assert_eq!(sign_ins.login_of(&back).as_deref(), Some(&*begun.id));
    sign_ins.finish(&begun.id, &back).await.unwrap();
    assert_eq!(sign_ins.wait(&begun.id).await, Some(LoginState::Done));
}

/// Where the browser of a person who agrees is sent to.
async fn back_from(url: &str) -> String {
    let page = visit(url).await.unwrap();
    page.location
        .unwrap_or_else(|| panic!("no way back: {}", page.body))
}

async fn echoes(server: &ServerHandle) {
    let answer = call(server, "echo", json!({"text": "hello"}))
        .await
        .unwrap();
    assert!(text(&answer).contains("hello"));
}

fn refusal(error: &CallError) -> String {
    match error {
        CallError::Refused(Refusal::Parked(parked)) => {
            assert_eq!(parked.cause.as_ref().unwrap().kind, FailureKind::NeedsLogin);
        }
        CallError::Refused(Refusal::NoCredentials { failure, .. }) => {
            assert_eq!(failure.kind, FailureKind::NeedsLogin);
        }
        other @ (CallError::Refused(_) | CallError::Rejected(_) | CallError::Unknown(_)) => {
            panic!("{other}")
        }
    }
    error.to_string()
}

#[tokio::test]
async fn f93_f204_law_11_without_a_grant_a_server_is_parked_uncharged_and_a_login_opens_it() {
    for eras in [Eras::Legacy, Eras::Modern] {
        let world = World::new(Script::default(), Guard::default(), eras).await;
        let manager = world.manager().await;
        let server = manager.server("notes").unwrap();
        let parked = state(&server, "parked").await;
        assert_eq!(parked.counts.opens, 1, "parked at once");
        let told = refusal(&call(&server, "echo", json!({})).await.unwrap_err());
        assert!(told.contains("`mainstay login notes`"), "{told}");
        let status = manager.sign_ins().known("notes", None).unwrap();
        assert_eq!(status.state, SignInState::Needed, "{status:?}");
        sign_in(&manager).await;
        state(&server, "connected").await;
        echoes(&server).await;
        let status = manager.sign_ins().status().await.remove(0);
        assert_eq!(status.state, SignInState::SignedIn, "{status:?}");
        assert_eq!(status.issuer, Some(world.authority.issuer()));
        assert!(status.refreshable && status.expires_unix_ms.is_some());
        world.unharmed(0);
        manager.shutdown().await;
    }
}

#[tokio::test]
async fn f202_a_sign_in_survives_a_restart_and_a_sign_out_does_not() {
    let world = World::usual().await;
    let (manager, _) = world.signed_in().await;
    manager.shutdown().await;

    let manager = world.manager().await;
    let server = manager.server("notes").unwrap();
    state(&server, "connected").await;
    echoes(&server).await;
    assert_eq!(world.authority.ledger().counts().codes, 1);
    assert!(manager.sign_ins().sign_out("notes", None).await.unwrap());
    state(&server, "parked").await;
    assert!(!manager.sign_ins().sign_out("notes", None).await.unwrap());
    manager.shutdown().await;

    let manager = world.manager().await;
    state(&manager.server("notes").unwrap(), "parked").await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f93_f196_f197_a_hundred_calls_with_a_dead_token_cost_one_refresh_and_are_all_answered_once()
 {
    let world = World::usual().await;
    let (manager, server) = world.signed_in().await;
    for round in 1..=3 {
        world.authority.expire_access_tokens();
        world
            .authority
            .next(At::Token, Fault::SlowAnswer { ms: 50 });
        join_all((0..100).map(|_| echoes(&server))).await;
        world.unharmed(round);
    }
    let ran = world.server.server().ledger().seen_of("tools/call").len();
    assert_eq!(ran, 300, "a refused request was run, or one was run twice");
    assert_eq!(
        server.status().generation,
        2,
        "no connection was lost for it"
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn f198_two_managers_over_one_directory_share_a_grant() {
    let world = World::usual().await;
    let (one, first) = world.signed_in().await;
    let other = world.manager().await;
    let second = other.server("notes").unwrap();
    state(&second, "connected").await;
    for round in 1..=3 {
        world.authority.expire_access_tokens();
        join_all([&first, &second].into_iter().cycle().take(40).map(echoes)).await;
        world.unharmed(round);
    }
    one.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn f202_a_sign_in_of_another_process_is_noticed() {
    let world = World::usual().await;
    let waiting = world.manager().await;
    let server = waiting.server("notes").unwrap();
    state(&server, "parked").await;
    let (other, _) = world.signed_in().await;
    state(&server, "connected").await;
    echoes(&server).await;
    waiting.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn f199_f210_a_revoked_grant_parks_and_a_new_sign_in_cures() {
    let world = World::usual().await;
    let (manager, server) = world.signed_in().await;
    world.authority.revoke(world.authority.families()[0].id);
    let error = call(&server, "echo", json!({})).await.unwrap_err();
    assert!(
        matches!(error, CallError::Rejected(_)),
        "a 401 was not run: {error}"
    );
    assert!(
        error.to_string().contains("`mainstay login notes`"),
        "{error}"
    );
    let parked = state(&server, "parked").await;
    assert_eq!(parked.counts.opens, 2, "{parked:?}");
    refusal(&call(&server, "echo", json!({})).await.unwrap_err());
    assert!(
        manager
            .publication()
            .tools
            .items
            .iter()
            .any(|tool| &*tool.upstream == "echo")
    );
    sign_in(&manager).await;
    state(&server, "connected").await;
    echoes(&server).await;
    manager.shutdown().await;
}

#[tokio::test]
async fn f210_an_authorization_server_in_trouble_costs_calls_time_and_nothing_else() {
    let world = World::usual().await;
    let (manager, server) = world.signed_in().await;
    for fault in [
        Fault::status(503, "busy"),
        Fault::too_many(1),
        Fault::Html,
        Fault::Close,
        Fault::Without(vec!["access_token".to_owned()]),
    ] {
        let before = world.authority.ledger().counts().refreshes;
        world.authority.expire_access_tokens();
        // What is served and spoiled on its way spends the token: that is another matter.
        if !matches!(fault, Fault::Without(_)) {
            world.authority.next(At::Token, fault.clone());
        }
        echoes(&server).await;
        assert_eq!(
            world.authority.ledger().counts().refreshes,
            before + 1,
            "{fault:?}"
        );
    }
    assert_eq!(server.status().generation, 2);
    manager.shutdown().await;
}

#[tokio::test]
async fn f200_law_17_a_caller_that_leaves_during_a_refresh_loses_nothing() {
    let world = World::usual().await;
    let (manager, server) = world.signed_in().await;
    world.authority.expire_access_tokens();
    world.authority.next(At::Token, Fault::HeldAnswer);
    let hurried = limits(400, 400);
    let request = tool_call("echo", &json!({"text": "x"}));
    let error = within("the deadline", server.request(request, hurried))
        .await
        .unwrap_err();
    assert!(!error.to_string().is_empty());
    until("the refresh is under way", || {
        world.authority.ledger().counts().refreshes == 1
    })
    .await;
    world.authority.release();
    echoes(&server).await;
    world.unharmed(1);
    manager.shutdown().await;
}

#[tokio::test]
async fn f205_the_time_of_the_authorization_server_is_not_the_handshakes() {
    let world = World::usual().await;
    let (manager, _) = world.signed_in().await;
    manager.shutdown().await;
    world.authority.expire_access_tokens();
    // Longer than probe and greeting may take together.
    world
        .authority
        .next(At::Token, Fault::SlowAnswer { ms: 2_500 });
    let mut config = world.config();
    config.timeouts.probe_ms = 300;
    config.timeouts.greet_ms = 2_000;
    config.restart.budget = 0;
    let manager = manager_in(world.state.path(), config).await;
    let server = manager.server("notes").unwrap();
    let status = state(&server, "connected").await;
    assert_eq!(
        status.protocol,
        Some("2025-11-25"),
        "an era was guessed from silence"
    );
    world.unharmed(1);
    manager.shutdown().await;
}

#[tokio::test]
async fn f212_a_push_stream_that_is_opened_again_shows_the_token_of_that_moment() {
    let world = World::usual().await;
    world
        .server
        .server()
        .change(|script| script.get = GetPolicy::Stream);
    let (manager, server) = world.signed_in().await;
    until("the stream is open", || {
        server.status().push == Some("open")
    })
    .await;
    world.authority.expire_access_tokens();
    let before = world.server.server().ledger().seen_by("GET").len();
    world.server.server().end_streams();
    until("it is open again", || {
        world.server.server().ledger().seen_by("GET").len() > before
            && server.status().push == Some("open")
    })
    .await;
    world.unharmed(1);
    assert_eq!(server.status().generation, 2);
    manager.shutdown().await;
}

#[tokio::test]
async fn f211_another_sign_in_is_another_connection() {
    let world = World::usual().await;
    let (manager, server) = world.signed_in().await;
    let before = server.status().generation;
    world
        .authority
        .change(|script| script.subject = "bob".to_owned());
    sign_in(&manager).await;
    generation(&server, before + 1).await;
    let sessions = world.server.server().ledger().seen_of("initialize").len();
    echoes(&server).await;
    assert!(
        sessions >= 2,
        "the session of one person was used for another"
    );
    assert!(world.server.entries().admitted.contains_key("bob"));
    manager.shutdown().await;
}

#[tokio::test]
async fn f93_a_server_that_refuses_every_token_is_refreshed_for_once_and_parked() {
    let world = World::usual().await;
    let (manager, server) = world.signed_in().await;
    world.server.change(|guard| guard.refuse.extend([401; 50]));
    let error = call(&server, "echo", json!({})).await.unwrap_err();
    assert!(error.to_string().contains("just issued"), "{error}");
    state(&server, "parked").await;
    let refreshes = world.authority.ledger().counts().refreshes;
    assert!(refreshes <= 2, "a storm: {refreshes}");
    assert_eq!(world.authority.ledger().counts().reuses, 0);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_31_what_lacks_scopes_is_told_and_remembered_for_the_next_sign_in() {
    let mut guard = Guard::default();
    guard
        .tools
        .insert("echo".to_owned(), vec!["write".to_owned()]);
    let world = World::new(Script::default(), guard, Eras::Legacy).await;
    let (manager, server) = world.signed_in().await;
    let error = call(&server, "echo", json!({"text": "x"}))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Rejected(_)), "{error}");
    assert!(
        error.to_string().contains("more scopes are needed (write)"),
        "{error}"
    );
    let status = manager.sign_ins().known("notes", None).unwrap();
    assert_eq!(status.wants, ["write"]);
    let before = server.status().generation;
    sign_in(&manager).await;
    generation(&server, before + 1).await;
    echoes(&server).await;
    assert_eq!(
        manager.sign_ins().known("notes", None).unwrap().wants,
        Vec::<String>::new()
    );
    manager.shutdown().await;
}

#[tokio::test]
async fn f93_f212_the_transport_of_2024_shows_tokens_too() {
    let world = World::usual().await;
    let mut config = quick(ServerConfig::http("notes", world.server.sse_url().as_str()));
    if let mainstay::config::Transport::Http { kind, .. } = &mut config.transport {
        *kind = mainstay::config::HttpKind::Sse;
    }
    let resource = world.server.sse_url();
    world.server.change(|guard| {
        guard.any_audience = true;
        guard.resource_told = Some(resource);
    });
    let manager = manager_in(world.state.path(), config).await;
    let server = manager.server("notes").unwrap();
    state(&server, "parked").await;
    sign_in(&manager).await;
    state(&server, "connected").await;
    echoes(&server).await;
    world.authority.expire_access_tokens();
    echoes(&server).await;
    world.unharmed(1);
    manager.shutdown().await;
}

#[tokio::test]
async fn law_31_a_forged_answer_neither_ends_nor_finishes_a_login() {
    let world = World::usual().await;
    let manager = world.manager().await;
    state(&manager.server("notes").unwrap(), "parked").await;
    let sign_ins = manager.sign_ins();
    let begun = sign_ins
        .begin("notes", None, How::Browser, Some(REDIRECT))
        .await
        .unwrap();
    let right = back_from(&begun.url).await;
    for forged in [
        format!("{REDIRECT}?code=stolen&state=guessed"),
        format!("{REDIRECT}?code=stolen"),
        "not a URL".to_owned(),
        format!("{right}&state=twice"),
    ] {
        let error = sign_ins.finish(&begun.id, &forged).await.unwrap_err();
        assert!(
            error.to_string().contains("does not belong to this login"),
            "{error}"
        );
        assert_eq!(sign_ins.login_of(&forged), None);
        assert_eq!(sign_ins.login(&begun.id), Some(LoginState::Waiting));
    }
    sign_ins.finish(&begun.id, &right).await.unwrap();
    state(&manager.server("notes").unwrap(), "connected").await;
    manager.shutdown().await;
}

#[tokio::test]
async fn law_31_a_header_of_the_entry_switches_signing_in_off() {
    let world = World::usual().await;
    let config = world
        .config()
        .header("Authorization", "Bearer of-the-entry");
    let manager = manager_in(world.state.path(), config).await;
    let server = manager.server("notes").unwrap();
    state(&server, "parked").await;
    assert_eq!(manager.sign_ins().known("notes", None), None);
    let error = manager
        .sign_ins()
        .begin("notes", None, How::Browser, None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Authorization"), "{error}");
    assert_eq!(world.authority.ledger().counts().metadata, 0);
    manager.shutdown().await;
}

#[tokio::test]
async fn f199_stored_credentials_that_are_damaged_are_told_and_cured_by_a_sign_in() {
    let world = World::usual().await;
    let (manager, _) = world.signed_in().await;
    manager.shutdown().await;
    let files = std::fs::read_dir(world.state.path().join("auth")).unwrap();
    let file = files
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "json"))
        .unwrap();
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let manager = world.manager().await;
    let server = manager.server("notes").unwrap();
    let parked = state(&server, "parked").await;
    let told = format!("{parked:?}");
    assert!(told.contains("cut short or changed"), "{told}");
    sign_in(&manager).await;
    state(&server, "connected").await;
    tokio::time::timeout(Duration::from_secs(60), echoes(&server))
        .await
        .unwrap();
    manager.shutdown().await;
}
