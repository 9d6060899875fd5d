//! The table of sessions, and what survives a restart.

use super::*;
use crate::serve::seal::Sealer;

fn at(server: Option<&str>) -> At<'_> {
    At {
        server,
        principal: None,
    }
}

fn opening() -> Opening {
    Opening::plain(None, Revision::V2025_11_25)
}

fn open(sessions: &Sessions, now_ms: u64) -> Result<Arc<Session>, NoSession> {
    sessions.open_at(now_ms, opening(), Told::default())
}

fn find(sessions: &Sessions, session: &Session) -> Option<Arc<Session>> {
    let server = session.opening.server.as_deref();
    sessions
        .find(session.text().as_bytes(), at(server))
        .unwrap()
}

#[tokio::test]
async fn ids_are_read_as_they_were_written_and_nothing_else_is_an_id() {
    let sessions = Sessions::new(2, 1_000);
    let session = open(&sessions, 0).unwrap();
    let text = session.text().to_owned();
    assert_eq!(text.len(), 32);
    assert_eq!(SessionId::parse(text.as_bytes()), Some(session.id));
    assert!(find(&sessions, &session).is_some());
    for wrong in [
        "",
        "1",
        &text[1..],
        &format!("+{}", &text[1..]),
        &format!("{text}."),
        &"A".repeat(32),
        &"g".repeat(32),
        "\u{e4}".repeat(16).as_str(),
    ] {
        let found = sessions.find(wrong.as_bytes(), at(None)).unwrap();
        assert!(found.is_none(), "{wrong}");
    }
    let elsewhere = sessions.find(text.as_bytes(), at(Some("one"))).unwrap();
    assert!(elsewhere.is_none(), "a session belongs to its endpoint");
}

#[test]
fn idle_sessions_end_and_used_ones_stay() {
    let sessions = Sessions::new(10, 1_000);
    let idle = open(&sessions, 0).unwrap();
    let busy = open(&sessions, 0).unwrap();
    let call = busy.begin(&Id::number(1));
    let listening = open(&sessions, 0).unwrap();
    let stream = listening.open_stream().unwrap();
    sessions.sweep_at(999);
    assert_eq!(sessions.count(), 3);
    sessions.sweep_at(1_000);
    assert!(find(&sessions, &idle).is_none());
    assert_eq!(sessions.count(), 2);
    drop((call, stream));
    sessions.sweep_at(1_000);
    assert_eq!(sessions.count(), 0);
}

#[test]
fn a_full_table_gives_the_longest_idle_session_away_but_none_that_is_in_use() {
    let sessions = Sessions::new(2, 1_000_000);
    let first = open(&sessions, 0).unwrap();
    let second = open(&sessions, 1).unwrap();
    let full = open(&sessions, table::EVICT_IDLE_MS - 1);
    assert!(
        matches!(full, Err(NoSession::Full(2))),
        "both were used a moment ago"
    );
    let third = open(&sessions, table::EVICT_IDLE_MS).unwrap();
    assert!(find(&sessions, &first).is_none());
    assert!(find(&sessions, &second).is_some() && find(&sessions, &third).is_some());
    assert_eq!(sessions.count(), 2);
}

#[tokio::test]
async fn law_18_a_call_is_cancelled_by_the_clients_id_with_its_type() {
    let sessions = Sessions::new(2, 1_000);
    let session = open(&sessions, 0).unwrap();
    let call = session.begin(&Id::number(1));
    assert!(!session.cancel(&Id::string("1")), "a string is another id");
    assert!(session.cancel(&Id::number(1)));
    call.cancelled().await;
    drop(call);
    assert!(
        !session.cancel(&Id::number(1)),
        "F231: nothing is left behind"
    );
}

#[tokio::test]
async fn only_the_newest_stream_is_written_to() {
    let sessions = Sessions::new(2, 1_000);
    let session = open(&sessions, 0).unwrap();
    let old = session.open_stream().unwrap();
    let new = session.open_stream().unwrap();
    assert!(!old.is_newest() && new.is_newest());
    drop(new);
    assert!(old.is_newest());
    let more: Vec<_> = std::iter::from_fn(|| session.open_stream())
        .take(10)
        .collect();
    assert_eq!(more.len(), STREAMS_PER_SESSION - 1);
}

/// A table as a process has it that uses this state directory.
fn process(dir: &std::path::Path) -> Sessions {
    let sealer = Arc::new(Sealer::open(dir).unwrap());
    Sessions::new(10, 60 * 60 * 1_000).durable(&sealer, dir)
}

fn declared(server: Option<&str>, capabilities: &str) -> Opening {
    Opening {
        client_info: Some(r#"{"name":"c","version":"1","x":12345678901234567890}"#.into()),
        client_capabilities: capabilities.into(),
        ..Opening::plain(server, Revision::V2025_06_18)
    }
}

#[test]
fn law_22_a_session_survives_a_restart_with_all_that_the_client_said() {
    let dir = tempfile::tempdir().unwrap();
    let short = r#"{"elicitation":{},"x":1.10}"#.to_owned();
    let long = format!(r#"{{"experimental":{{"long":"{}"}}}}"#, "l".repeat(5_000));
    for (server, capabilities) in [(None, &short), (Some("one"), &short), (None, &long)] {
        let before = process(dir.path());
        let opening = declared(server, capabilities);
        let session = before.open(opening.clone(), Told::default()).unwrap();
        let text = session.text().to_owned();
        assert!(text.len() <= 2_048, "{}", text.len());
        assert!(text.bytes().all(|byte| matches!(byte, 0x21..=0x7e)));
        session.set_log_level(3);
        assert!(session.subscribe("file:///a").unwrap());
        assert!(session.subscribe("file:///b").unwrap());
        assert!(!session.subscribe("file:///b").unwrap());
        assert!(session.unsubscribe("file:///a"));
        before.flush();
        drop((session, before));

        let after = process(dir.path());
        assert_eq!(after.count(), 0);
        let found = |server: Option<&str>| after.find(text.as_bytes(), at(server)).unwrap();
        assert!(found(Some("other")).is_none(), "another endpoint");
        let session = found(server).expect("it goes on");
        assert_eq!(after.count(), 1);
        assert_eq!(session.text(), text);
        assert_eq!(session.opening.revision, Revision::V2025_06_18);
        assert_eq!(session.opening.client_info, opening.client_info);
        assert_eq!(*session.face().capabilities, **capabilities);
        assert_eq!(session.log_level(), Some(3));
        assert_eq!(session.subscriptions(), ["file:///b".into()]);
        let again = found(server).unwrap();
        assert!(Arc::ptr_eq(&session, &again), "revived once");
    }
}

#[test]
fn f256_a_session_is_unknown_to_everybody_but_its_owner_also_after_a_restart() {
    let (ann, bob) = (Principal::new("ann"), Principal::new("bob"));
    let everybody = [None, ann.as_ref(), bob.as_ref()];
    let long = format!(r#"{{"experimental":{{"long":"{}"}}}}"#, "l".repeat(5_000));
    for capabilities in ["{}", &long] {
        for owner in everybody {
            let dir = tempfile::tempdir().unwrap();
            let before = process(dir.path());
            let opening = Opening {
                principal: owner.cloned(),
                ..declared(None, capabilities)
            };
            let session = before.open(opening, Told::default()).unwrap();
            let text = session.text().to_owned();
            let found = |sessions: &Sessions, principal| {
                let at = At {
                    server: None,
                    principal,
                };
                sessions.find(text.as_bytes(), at).unwrap()
            };
            let whose = || everybody.into_iter().filter(|one| *one != owner);
            for other in whose() {
                assert!(found(&before, other).is_none(), "{owner:?} {other:?}");
            }
            assert!(found(&before, owner).is_some());
            before.flush();
            drop((session, before));

            let after = process(dir.path());
            for other in whose() {
                assert!(found(&after, other).is_none(), "{owner:?} {other:?}");
            }
            assert_eq!(after.count(), 0, "not even woken");
            let session = found(&after, owner).expect("it goes on");
            assert_eq!(session.opening.principal.as_ref(), owner);
            assert_eq!(session.face().principal.as_ref(), owner);
        }
    }
}

#[test]
fn a_session_that_its_client_ended_stays_ended() {
    let dir = tempfile::tempdir().unwrap();
    let before = process(dir.path());
    let session = before.open(declared(None, "{}"), Told::default()).unwrap();
    assert!(before.close(session.id));
    assert!(!before.close(session.id));
    assert!(find(&before, &session).is_none());
    before.flush();
    drop(before);
    assert!(find(&process(dir.path()), &session).is_none());
}

#[test]
fn a_session_that_was_idle_for_too_long_stays_ended_and_one_that_was_seen_lately_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let sealer = Arc::new(Sealer::open(dir.path()).unwrap());
    let hour_ms = 60 * 60 * 1_000;
    let opening = declared(None, "{}");
    let id = |name: u128| SessionId(name);
    let long_ago = unix_ms() - hour_ms - 1;
    let write = |id| sealed::write(&sealer, id, &opening, long_ago).unwrap().text;
    let (forgotten, seen) = (write(id(1)), write(id(2)));
    let body = format!(
        r#"{{"version":1,"sessions":{{"{}":{{"seenAtUnixMs":{}}},"{}":{{"seenAtUnixMs":{long_ago}}}}}}}"#,
        id(2),
        unix_ms() - hour_ms / 2,
        id(1),
    );
    std::fs::write(dir.path().join("sessions.json"), body).unwrap();
    let sessions = process(dir.path());
    let found = |text: &str| sessions.find(text.as_bytes(), at(None)).unwrap().is_some();
    assert!(!found(&forgotten));
    assert!(found(&seen));
    sessions.flush();
    let left = std::fs::read_to_string(dir.path().join("sessions.json")).unwrap();
    assert!(!left.contains(&id(1).to_string()), "{left}");
}

#[test]
fn no_part_of_a_sealed_id_can_be_changed_or_exchanged() {
    let dir = tempfile::tempdir().unwrap();
    let before = process(dir.path());
    let open = || before.open(declared(None, "{}"), Told::default()).unwrap();
    let (one, two) = (open(), open());
    let (one, two) = (one.text().to_owned(), two.text().to_owned());
    let after = process(dir.path());
    for sessions in [&before, &after] {
        let found = |text: &str| sessions.find(text.as_bytes(), at(None)).unwrap().is_some();
        assert!(!found(&one[..32]), "the key alone");
        assert!(!found(&format!("{}{}", &one[..32], &two[32..])));
        assert!(!found(&format!("{one}A")));
        let last = if one.ends_with('A') { "B" } else { "A" };
        assert!(!found(&format!("{}{last}", &one[..one.len() - 1])));
        assert!(found(&one));
    }
    let stranger = tempfile::tempdir().unwrap();
    let stranger = process(stranger.path());
    assert!(stranger.find(two.as_bytes(), at(None)).unwrap().is_none());
}

#[test]
fn a_damaged_file_costs_what_it_said_and_no_session() {
    let dir = tempfile::tempdir().unwrap();
    let before = process(dir.path());
    let session = before.open(declared(None, "{}"), Told::default()).unwrap();
    session.set_log_level(1);
    before.flush();
    drop(before);
    let file = dir.path().join("sessions.json");
    let half = std::fs::read(&file).unwrap();
    std::fs::write(&file, &half[..half.len() / 2]).unwrap();
    let after = process(dir.path());
    let revived = find(&after, &session).unwrap();
    assert_eq!(revived.log_level(), None);
    let names: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let aside = names.iter().find(|name| name.contains("damaged")).unwrap();
    assert_eq!(
        std::fs::read(dir.path().join(aside)).unwrap(),
        half[..half.len() / 2]
    );
    revived.set_log_level(2);
    after.flush();
    assert!(file.exists());
}

#[test]
fn what_had_to_make_room_comes_back_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let sealer = Arc::new(Sealer::open(dir.path()).unwrap());
    let sessions = Sessions::new(1, 60 * 60 * 1_000).durable(&sealer, dir.path());
    let first = open(&sessions, 0).unwrap();
    let second = open(&sessions, table::EVICT_IDLE_MS).unwrap();
    let call = second.begin(&Id::number(1));
    let text = first.text().as_bytes();
    assert!(matches!(
        sessions.find(text, at(None)),
        Err(NoSession::Full(1))
    ));
    drop(call);
    assert!(sessions.close(second.id));
    assert!(find(&sessions, &first).is_some());
}

#[test]
fn two_processes_on_one_directory_do_not_spoil_each_others_file() {
    let dir = tempfile::tempdir().unwrap();
    let (owner, other) = (process(dir.path()), process(dir.path()));
    let ended = owner.open(declared(None, "{}"), Told::default()).unwrap();
    owner.close(ended.id);
    owner.kept().unwrap().write();
    let theirs = other.open(declared(None, "{}"), Told::default()).unwrap();
    theirs.set_log_level(4);
    other.kept().unwrap().write();
    let said = std::fs::read_to_string(dir.path().join("sessions.json")).unwrap();
    assert!(!said.contains(&theirs.id.to_string()));
    owner.flush();
    // The owner is gone: the file is taken over with what it says.
    theirs.set_log_level(5);
    other.flush();
    drop(other);
    let after = process(dir.path());
    assert!(find(&after, &ended).is_none());
    assert_eq!(find(&after, &theirs).unwrap().log_level(), Some(5));
}

#[test]
fn subscriptions_are_bounded() {
    let sessions = Sessions::new(1, 1_000);
    let session = open(&sessions, 0).unwrap();
    for number in 0..SUBSCRIPTIONS_MAX {
        assert!(session.subscribe(&number.to_string()).unwrap());
    }
    assert!(session.subscribe("one more").is_err());
    assert!(!session.subscribe("0").unwrap(), "it is there");
    assert!(session.unsubscribe("0"));
    assert!(
        session
            .subscribe(&"u".repeat(SUBSCRIPTION_BYTES_MAX))
            .is_err()
    );
}
