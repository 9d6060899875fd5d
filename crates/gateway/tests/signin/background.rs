//! Law 11: nothing in the background ever opens a browser or a port.

use std::collections::BTreeSet;
use std::fs;

use mainstay_testkit::authority::{Authority, Script};
use serde_json::{Value, json};

use super::browser::Browser;
use super::support::{Home, World, until};

/// The ports that a process listens on, from its own sockets.
fn listens_on(pid: u32) -> BTreeSet<u16> {
    let sockets: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| {
            let target = target.to_str()?.strip_prefix("socket:[")?.to_owned();
            Some(target.strip_suffix(']')?.to_owned())
        })
        .collect();
    let mut ports = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(&"0A"), Some(inode)) =
                (fields.get(1), fields.get(3), fields.get(9))
            else {
                continue;
            };
            if sockets.contains(*inode) {
                let (_, port) = local.rsplit_once(':').unwrap();
                ports.insert(u16::from_str_radix(port, 16).unwrap());
            }
        }
    }
    ports
}

fn port(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn law_11_f203_f204_only_who_asks_for_it_gets_a_browser() {
    let world = World::start(&["one", "two"]).await;
    let home = world.home().await;
    let own = BTreeSet::from([port(&home.address())]);
    assert_eq!(listens_on(home.pid()), own);
    // Everything that happens without anybody asking to sign in: attempts, calls, looks.
    for args in [
        &["restart", "one"][..],
        &["call", "one", "echo", "{}"],
        &["status", "--json"],
        &["auth", "status"],
        &["tools"],
        &["doctor", "--json"],
        &["disable", "two"],
        &["enable", "two"],
    ] {
        let said = home.run(args).await;
        assert!(said.code.is_some(), "{said:?}");
    }
    home.needs_login("one").await;
    home.needs_login("two").await;
    assert_eq!(home.opened(), Vec::<String>::new());
    assert_eq!(listens_on(home.pid()), own);
    assert!(world.authority.families().is_empty());

    // Who asks gets it, once, and no port for it: the gateway has one.
    let mut login = home.command(&["login", "one"]).spawn().unwrap();
    let opened = until("the browser to be opened", || async { home.opened().pop() }).await;
    assert_eq!(home.opened().len(), 1);
    assert!(
        opened.starts_with(&world.authority.endpoint("authorize")),
        "{opened}"
    );
    assert_eq!(listens_on(home.pid()), own);
    assert_eq!(listens_on(login.id().unwrap()), BTreeSet::new());
    let shown = Browser::default().open(&opened).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    assert!(login.wait().await.unwrap().success());
    home.connected("one").await;
    assert_eq!(home.opened().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_6_the_port_of_a_login_of_its_own_is_gone_with_it() {
    let world = World::start(&["one"]).await;
    let home = Home::new(world.entries());
    let login = home.login(&["one"]).await;
    let ended = Browser::default().allow(&login.url()).await;
    let at = url::Url::parse(&ended).unwrap();
    assert_eq!(at.host_str(), Some("127.0.0.1"), "loopback only");
    let at = (at.host_str().unwrap().to_owned(), at.port().unwrap());
    let other = format!("http://{}:{}/other", at.0, at.1);
    assert_eq!(Browser::default().open(&other).await.status, 404);
    assert_eq!(Browser::default().open(&ended).await.status, 200);
    let (code, last) = login.end().await;
    assert_eq!(code, Some(0), "{last}");
    assert!(tokio::net::TcpStream::connect(at).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn f206_a_port_that_is_fixed_serves_one_login_at_a_time() {
    let world = World::start(&["one", "two"]).await;
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let fixed = holder.local_addr().unwrap().port();
    let mut entries = world.entries();
    for name in ["one", "two"] {
        entries[name]["auth"] = json!({ "redirectPort": fixed });
    }
    let mut home = Home::new(entries);
    home.serve().await;
    home.needs_login("one").await;
    home.needs_login("two").await;
    // Somebody else has it.
    let said = home.run(&["login", "one", "--no-browser"]).await;
    assert_eq!(said.code, Some(80), "{said:?}");
    assert!(said.err.contains(&format!("port {fixed}")), "{said:?}");
    assert!(said.err.contains("redirectPort"), "{said:?}");
    drop(holder);
    let login = home.login(&["one"]).await;
    assert!(listens_on(home.pid()).contains(&fixed));
    let said = home.run(&["login", "two", "--no-browser"]).await;
    assert_eq!(said.code, Some(80), "{said:?}");
    assert!(said.err.contains("`one`"), "who has it: {said:?}");
    let ended = Browser::default().allow(&login.url()).await;
    // It comes back where it was sent to, and nowhere else.
    let elsewhere = ended.replace(&format!("127.0.0.1:{fixed}"), &home.address());
    assert_ne!(elsewhere, ended);
    let shown = Browser::default().open(&elsewhere).await;
    assert!(shown.status >= 400, "{shown:?}");
    assert_eq!(world.codes_spent(), 0);
    let shown = Browser::default().open(&ended).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    assert_eq!(shown.url.port(), Some(fixed));
    let (code, last) = login.end().await;
    assert_eq!(code, Some(0), "{last}");
    until("the port to be free again", || async {
        (!listens_on(home.pid()).contains(&fixed)).then_some(())
    })
    .await;
    home.sign_in("two").await;
    home.connected("two").await;
}

/// F241: the address comes from the metadata of others, and is handed to the system.
#[tokio::test(flavor = "multi_thread")]
async fn f241_an_address_that_is_no_web_page_is_never_opened() {
    for odd in ["file:///bin/sh", "calc:", "javascript:alert(1)", "-x"] {
        let mut script = Script::default();
        let endpoint = ("authorization_endpoint".to_owned(), Value::from(odd));
        script.metadata.extend([endpoint]);
        let authority = Authority::start(script).await.unwrap();
        let server = mainstay_testkit::authority::Protected::start(
            &authority,
            mainstay_testkit::authority::Guard::default(),
            mainstay_testkit::http_server::Script::default(),
        )
        .await
        .unwrap();
        let mut home = Home::new(json!({ "one": { "url": server.url() } }));
        home.serve().await;
        home.needs_login("one").await;
        let said = home.run(&["login", "one"]).await;
        assert_eq!(said.code, Some(80), "{odd}: {said:?}");
        assert!(said.err.contains("one"), "which server: {said:?}");
        assert!(home.opened().is_empty(), "{odd}: {:?}", home.opened());
    }
}
