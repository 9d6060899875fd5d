//! `mainstay login`, `logout` and `auth status`.

use std::fs;

use mainstay_testkit::authority::Consent;
use serde_json::{Value, json};

use super::browser::Browser;
use super::support::{Home, World, until};

fn call<'a>(home: &'a Home, server: &'a str) -> impl Future<Output = super::support::Said> + 'a {
    async move {
        home.run(&["call", server, "echo", r#"{"text":"hi"}"#])
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f204_a_login_lets_the_server_connect_and_its_calls_through() {
    let world = World::start(&["one"]).await;
    let home = world.home().await;
    let server = home.server("one").await;
    assert_eq!(server["signIn"]["state"], "needed", "{server:#}");
    assert_eq!(server["signIn"]["command"], "mainstay login one");
    let said = home.run(&["status"]).await;
    assert!(said.out.contains("needs login"), "{said:?}");
    assert!(said.out.contains("mainstay login one"), "{said:?}");
    let said = home.run(&["auth", "status", "one"]).await;
    assert_eq!(said.code, Some(81), "{said:?}");
    assert!(said.err.contains("mainstay login one"), "{said:?}");
    // Refused, never sent, with the command and a link (F204).
    let said = call(&home, "one").await;
    assert_eq!(said.code, Some(22), "{said:?}");
    assert!(said.err.contains("mainstay login one"), "{said:?}");
    assert_eq!(world.servers[0].1.entries().admitted.len(), 0);

    let mut login = home.login(&["one"]).await;
    assert!(login.waits());
    let mut browser = Browser::default();
    let shown = browser.open(&login.url()).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    assert!(shown.body.contains("Signed in to one"), "{shown:?}");
    // It leaks nothing: no code, no state, nothing to load from elsewhere, nothing in a referrer (law 31).
    let query = shown.url.query().unwrap().to_owned();
    for (name, value) in shown.url.query_pairs() {
        let public = name == "iss";
        assert!(
            public || !shown.body.contains(&*value),
            "{name} is on the page"
        );
    }
    assert!(
        query.contains("code=") && query.contains("state="),
        "{query}"
    );
    assert_eq!(shown.header("referrer-policy"), "no-referrer");
    assert_eq!(shown.header("cache-control"), "no-store");
    let policy = shown.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(!shown.body.contains("<script"), "{shown:?}");
    let (code, last) = login.end().await;
    assert_eq!(code, Some(0), "{last}");
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(
        (&last["state"], &last["server"]),
        (&json!("done"), &json!("one"))
    );
    assert_eq!(last["issuer"], world.authority.issuer());

    home.connected("one").await;
    let said = call(&home, "one").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = home.run(&["auth", "status", "--json"]).await;
    let known = said.json()["signIns"][0].clone();
    assert_eq!(
        (&known["state"], &known["refreshable"]),
        (&json!("signedIn"), &json!(true))
    );
    let said = home.run(&["auth", "status", "one"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(home.server("one").await["signIn"]["state"], "signedIn");
    // Law 31: whatever was printed or kept in logs, no token is in it.
    let log = fs::read_to_string(home.path("log")).unwrap();
    for token in world.servers[0].1.entries().tokens.keys() {
        assert!(!log.contains(token.as_str()) && !said.out.contains(token.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pasted_address_ends_a_login_as_the_browser_itself_would() {
    let world = World::start(&["one"]).await;
    let home = world.home().await;
    let mut login = home.login(&["one"]).await;
    // The browser is on another machine: it is sent to an address that means nothing there.
    let ended = Browser::default().allow(&login.url()).await;
    for wrong in [
        "not an address",
        "http://127.0.0.1:1/oauth/callback?code=x&state=y",
        "",
    ] {
        login.paste(wrong).await;
    }
    login.paste(&ended).await;
    let (code, last) = login.end().await;
    assert_eq!(code, Some(0), "{last}");
    home.connected("one").await;
    assert_eq!(world.codes_spent(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn f206_a_callback_with_another_state_changes_nothing_and_the_right_one_works_once() {
    let world = World::start(&["one"]).await;
    let home = world.home().await;
    let mut login = home.login(&["one"]).await;
    let mut browser = Browser::default();
    let right = browser.allow(&login.url()).await;
    let url = url::Url::parse(&right).unwrap();
    let code = url
        .query_pairs()
        .find(|(name, _)| name == "code")
        .unwrap()
        .1
        .into_owned();
    let base = right.split('?').next().unwrap();
    for forged in [
        format!("{base}?code={code}&state=forged"),
        format!("{base}?code={code}"),
        format!("{base}?error=access_denied&state=forged"),
        base.to_owned(),
    ] {
        let shown = browser.open(&forged).await;
        assert_eq!(shown.status, 400, "{forged}: {shown:?}");
        assert!(
            !shown.body.contains("one"),
            "it tells what it knows: {shown:?}"
        );
    }
    assert!(login.waits(), "a forged state ends nothing");
    assert_eq!(world.codes_spent(), 0, "and no code was spent");
    assert_eq!(browser.open(&right).await.status, 200);
    let (code, last) = login.end().await;
    assert_eq!(code, Some(0), "{last}");
    // F206: used is used.
    let again = browser.open(&right).await;
    assert!(matches!(again.status, 400 | 410), "{again:?}");
    assert_eq!(world.codes_spent(), 1);
    home.connected("one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f206_two_logins_at_once_do_not_get_in_each_others_way() {
    let world = World::start(&["one", "two"]).await;
    let home = world.home().await;
    let (first, second) = (home.login(&["one"]).await, home.login(&["two"]).await);
    let mut browser = Browser::default();
    // In the other order than they were begun in.
    let shown = browser.open(&second.url()).await;
    assert!(shown.body.contains("Signed in to two"), "{shown:?}");
    let (code, last) = second.end().await;
    assert_eq!(code, Some(0), "{last}");
    assert_eq!(home.server("one").await["signIn"]["state"], "needed");
    let shown = browser.open(&first.url()).await;
    assert!(shown.body.contains("Signed in to one"), "{shown:?}");
    let (code, last) = first.end().await;
    assert_eq!(code, Some(0), "{last}");
    home.connected("one").await;
    home.connected("two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_no_at_the_authorization_server_is_not_signed_in() {
    let world = World::start(&["one"]).await;
    world
        .authority
        .change(|script| script.consent = Consent::Deny);
    let home = world.home().await;
    let login = home.login(&["one"]).await;
    let shown = Browser::default().open(&login.url()).await;
    assert_eq!(shown.status, 400, "{shown:?}");
    let (code, err) = login.end().await;
    assert_eq!(code, Some(80), "{err}");
    assert!(err.contains("access_denied"), "{err}");
    home.needs_login("one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f206_ctrl_c_gives_a_login_up_and_its_link_is_no_good_any_more() {
    let world = World::start(&["one"]).await;
    let home = world.home().await;
    let login = home.login(&["one"]).await;
    let mut browser = Browser::default();
    let ended = browser.allow(&login.url()).await;
    login.interrupt();
    let (code, err) = login.end().await;
    assert_eq!(code, Some(130), "{err}");
    let shown = browser.open(&ended).await;
    assert_ne!(shown.status, 200, "{shown:?}");
    assert_eq!(world.codes_spent(), 0);
    home.needs_login("one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_with_a_code_needs_no_browser_here() {
    let world = World::start(&["one"]).await;
    world.authority.change(|script| script.device_polls = 1);
    let home = world.home().await;
    let said = home.run(&["login", "one", "--device", "--json"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut lines = said.out.lines();
    let begun: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(begun["userCode"], "WDJB-MJHT", "{begun}");
    assert!(
        begun["verificationUrl"]
            .as_str()
            .unwrap()
            .contains("/device"),
        "{begun}"
    );
    assert!(begun.get("url").is_none(), "{begun}");
    home.connected("one").await;
    assert!(home.opened().is_empty(), "{:?}", home.opened());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_a_running_mainstay_is_kept_for_the_next() {
    let world = World::start(&["one"]).await;
    let mut home = Home::new(world.entries());
    let said = home.run(&["auth", "status", "one"]).await;
    assert!(matches!(said.code, Some(0 | 81)), "{said:?}");
    let said = home.run(&["login", "oen", "--no-browser"]).await;
    assert_eq!(said.code, Some(6), "{said:?}");
    assert!(said.err.contains("did you mean `one`"), "{said:?}");
    home.sign_in("one").await;
    assert_eq!(
        world.servers[0].1.entries().admitted.len(),
        0,
        "nothing was connected"
    );
    let said = home.run(&["auth", "status", "one", "--json"]).await;
    assert_eq!(said.json()["signIns"][0]["state"], "signedIn", "{said:?}");
    home.serve().await;
    home.connected("one").await;
    assert_eq!(world.codes_spent(), 1);
    home.stop().await;
    let said = home.run(&["logout", "one"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = home.run(&["logout", "one"]).await;
    assert!(said.out.contains("nobody was signed in"), "{said:?}");
    home.serve().await;
    home.needs_login("one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f202_a_login_by_another_process_revives_the_server_that_waits_for_it() {
    let world = World::start(&["one"]).await;
    let home = world.home().await;
    // This one does not find the running Mainstay, and keeps the grant itself in the same place.
    let elsewhere = home.path("elsewhere.sock");
    home_login_elsewhere(&home, elsewhere.to_str().unwrap()).await;
    home.connected("one").await;
}

async fn home_login_elsewhere(home: &Home, socket: &str) {
    let login = home.login(&["one", "--socket", socket]).await;
    let shown = Browser::default().open(&login.url()).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    let (code, last) = login.end().await;
    assert_eq!(code, Some(0), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_logout_tools_stay_listed_and_calls_say_what_helps() {
    let world = World::start(&["one"]).await;
    let home = world.home().await;
    home.sign_in("one").await;
    home.connected("one").await;
    let before = home.run(&["tools", "--json"]).await.json();
    let said = home.run(&["logout", "one", "--revoke", "--json"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.json()["signedOut"], true, "{said:?}");
    home.needs_login("one").await;
    let after = home.run(&["tools", "--json"]).await.json();
    assert_eq!(before["tools"], after["tools"], "law 22");
    let said = call(&home, "one").await;
    assert_eq!(said.code, Some(22), "{said:?}");
    assert!(said.err.contains("mainstay login one"), "{said:?}");
    let families = world.authority.families();
    assert!(families.iter().all(|family| !family.alive), "{families:?}");
    until("nothing is kept", || async {
        let said = home.run(&["auth", "status", "--json"]).await;
        let all = said.json()["signIns"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        all.iter()
            .all(|one| one["state"] != "signedIn")
            .then_some(())
    })
    .await;
}
