//! What a client finds that comes back: all of it, a gap that is named, or an answer that says that the answer is lost.

use std::time::Duration;

use tokio::sync::mpsc;

use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn limits() -> ReplayLimits {
    ReplayLimits::from(&GatewaySettings::default())
}

struct World {
    common: Arc<Common>,
    ended: CancellationToken,
}

impl World {
    fn new(limits: ReplayLimits) -> Self {
        let token = CancellationToken::new;
        Self {
            common: Arc::new(Common::new(limits, TaskTracker::new(), token(), token())),
            ended: token(),
        }
    }

    fn session(&self, primed: bool) -> Replay {
        Replay::new(Arc::clone(&self.common), primed, self.ended.clone())
    }
}

/// A stream and the one who speaks on it.
fn spoken() -> (mpsc::Sender<&'static str>, TextStream) {
    let (sender, receiver) = mpsc::channel::<&'static str>(64);
    let texts = stream::unfold(receiver, |mut receiver| async move {
        let said = receiver.recv().await?;
        let text = if said.starts_with(':') {
            events::comment()
        } else {
            events::frame(Parts::from(said.to_owned()))
        };
        Some((text, receiver))
    });
    (sender, texts.boxed())
}

/// What one event of a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Heard {
    id: String,
    data: String,
}

async fn next(stream: &mut TextStream) -> Option<Heard> {
    let text = tokio::time::timeout(PATIENCE, stream.next())
        .await
        .expect("nothing came")?;
    let text = String::from_utf8(text.into_bytes().to_vec()).unwrap();
    assert!(text.ends_with("\n\n"), "{text:?}");
    let field = |name: &str| {
        let prefix = format!("{name}: ");
        let value = text.lines().find_map(|line| line.strip_prefix(&*prefix));
        value.unwrap_or_default().to_owned()
    };
    Some(Heard {
        id: field("id"),
        data: if text.starts_with(':') {
            text.trim().to_owned()
        } else {
            field("data")
        },
    })
}

async fn data(stream: &mut TextStream) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(heard) = next(stream).await {
        all.push(heard.data);
    }
    all
}

fn call(resumed: Option<Resume>) -> TextStream {
    match resumed {
        Some(Resume::Call(stream)) => stream,
        Some(Resume::Push(_)) | None => panic!("not the stream of a call"),
    }
}

/// Waits until the tasks that drive abandoned streams have ended.
async fn driven(world: &World) {
    world.common.tasks.close();
    tokio::time::timeout(PATIENCE, world.common.tasks.wait())
        .await
        .unwrap();
    world.common.tasks.reopen();
}

#[tokio::test]
async fn events_have_ids_comments_have_none_and_only_new_clients_are_primed() {
    let world = World::new(limits());
    for primed in [false, true] {
        let session = world.session(primed);
        let (says, texts) = spoken();
        let mut stream = session.wrap(Some(&Id::number(7)), texts);
        says.try_send("1").unwrap();
        says.try_send(": ping").unwrap();
        says.try_send("2").unwrap();
        drop(says);
        let mut ids = Vec::new();
        let mut said = Vec::new();
        while let Some(heard) = next(&mut stream).await {
            if heard.data.starts_with(':') {
                assert_eq!(heard.id, "");
            } else {
                ids.push(heard.id);
            }
            said.push(heard.data);
        }
        let expected: &[&str] = if primed {
            &["", "1", ": ping", "2"]
        } else {
            &["1", ": ping", "2"]
        };
        assert_eq!(said, expected);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), expected.len() - 1, "ids are unique: {ids:?}");
        // What is still to be said after an id is everything after it, nothing before it.
        let rest = data(&mut call(session.resume(&ids[0]))).await;
        assert_eq!(rest, if primed { vec!["1", "2"] } else { vec!["2"] });
    }
}

#[tokio::test]
async fn a_call_without_a_word_has_no_events() {
    let world = World::new(limits());
    let (says, texts) = spoken();
    drop(says);
    let mut stream = world.session(true).wrap(Some(&Id::number(1)), texts);
    assert_eq!(next(&mut stream).await, None);
}

#[tokio::test]
async fn a_disconnect_loses_nothing_and_a_resume_brings_each_event_once() {
    let world = World::new(limits());
    let session = world.session(true);
    let (says, texts) = spoken();
    let mut stream = session.wrap(Some(&Id::string("a")), texts);
    says.try_send("1").unwrap();
    assert_eq!(next(&mut stream).await.unwrap().data, "");
    let first = next(&mut stream).await.unwrap();
    drop(stream);
    says.try_send("2").unwrap();
    let mut resumed = call(session.resume(&first.id));
    let second = next(&mut resumed).await.unwrap();
    assert_eq!(second.data, "2");
    // It breaks again, and the call ends while nobody listens.
    drop(resumed);
    says.try_send("3").unwrap();
    says.try_send("the answer").unwrap();
    drop(says);
    driven(&world).await;
    let resumed = data(&mut call(session.resume(&second.id))).await;
    assert_eq!(resumed, ["3", "the answer"]);
    let all = data(&mut call(session.resume(&first.id))).await;
    assert_eq!(all, ["2", "3", "the answer"]);
}

#[tokio::test]
async fn a_resumed_stream_goes_on_live_while_the_first_connection_still_hangs() {
    let world = World::new(limits());
    let session = world.session(false);
    let (says, texts) = spoken();
    let mut stale = session.wrap(Some(&Id::number(1)), texts);
    says.try_send("1").unwrap();
    let first = next(&mut stale).await.unwrap();
    // Nobody reads the first connection any more, and nobody has noticed.
    let mut resumed = call(session.resume(&first.id));
    says.try_send("2").unwrap();
    assert_eq!(next(&mut resumed).await.unwrap().data, "2");
    assert_eq!(next(&mut stale).await, None, "it has lost its place");
    let mut newest = call(session.resume(&first.id));
    assert_eq!(next(&mut resumed).await, None, "so has this one");
    says.try_send("3").unwrap();
    drop(says);
    assert_eq!(data(&mut newest).await, ["2", "3"]);
}

#[tokio::test]
async fn only_the_stream_that_was_lost_is_replayed() {
    let world = World::new(limits());
    let session = world.session(false);
    let (one, texts) = spoken();
    let mut first = session.wrap(Some(&Id::number(1)), texts);
    let (two, texts) = spoken();
    let mut second = session.wrap(Some(&Id::number(2)), texts);
    one.try_send("one").unwrap();
    two.try_send("two").unwrap();
    let (lost, other) = (next(&mut first).await, next(&mut second).await);
    assert_ne!(lost.clone().unwrap().id, other.unwrap().id);
    drop((first, second));
    one.try_send("the answer of one").unwrap();
    two.try_send("the answer of two").unwrap();
    drop((one, two));
    driven(&world).await;
    let resumed = data(&mut call(session.resume(&lost.unwrap().id))).await;
    assert_eq!(resumed, ["the answer of one"]);
}

#[tokio::test]
async fn what_fell_out_of_the_buffer_is_told() {
    let world = World::new(ReplayLimits {
        events_max: 2,
        ..limits()
    });
    let session = world.session(false);
    let (says, texts) = spoken();
    let mut stream = session.wrap(Some(&Id::number(1)), texts);
    says.try_send("1").unwrap();
    let first = next(&mut stream).await.unwrap();
    drop(stream);
    for said in ["2", "3", "4", "the answer"] {
        says.try_send(said).unwrap();
    }
    drop(says);
    driven(&world).await;
    let resumed = data(&mut call(session.resume(&first.id))).await;
    assert_eq!(
        resumed,
        [
            ": some events before this are no longer kept",
            "4",
            "the answer"
        ]
    );
}

/// The stream says that the answer is lost, to the request that it belongs to.
async fn assert_lost(mut stream: TextStream, id: &str) {
    let said = data(&mut stream).await;
    let [error] = &said[..] else {
        panic!("{said:?}");
    };
    let error: serde_json::Value = serde_json::from_str(error).unwrap();
    assert_eq!(error["id"].to_string(), id);
    assert_eq!(error["error"]["code"], OUTCOME_UNKNOWN);
    assert_eq!(error["error"]["data"]["outcome"], "unknown");
}

#[tokio::test]
async fn law_16_a_lost_answer_is_an_unknown_outcome_and_never_silence() {
    // Too large for the session, too large for all sessions together, kept for too long, from before a restart.
    let mut worlds = [limits(), limits(), limits(), limits()];
    worlds[0].bytes_max = 10;
    worlds[1].total_bytes_max = 10;
    worlds[2].keep_ms = 0;
    for (number, limits) in worlds.into_iter().enumerate() {
        let world = World::new(limits);
        let session = world.session(true);
        let (says, texts) = spoken();
        let id = Id::string(&format!("id {number}"));
        let mut stream = session.wrap(Some(&id), texts);
        says.try_send("1").unwrap();
        let primed = next(&mut stream).await.unwrap();
        drop(stream);
        says.try_send("the answer").unwrap();
        drop(says);
        driven(&world).await;
        session.sweep();
        let session = match number {
            3 => {
                let mut next_process = Common::default();
                next_process.boot += 1;
                let replay = Replay::new(Arc::new(next_process), true, world.ended.clone());
                // Its first stream has the same number, and nothing else in common.
                let (says, texts) = spoken();
                says.try_send("of another call").unwrap();
                drop(says);
                data(&mut replay.wrap(Some(&Id::number(1)), texts)).await;
                replay
            }
            _ => session,
        };
        let resumed = call(session.resume(&primed.id));
        assert_lost(resumed, id.raw()).await;
    }
}

#[tokio::test]
async fn what_all_sessions_keep_is_bounded_and_given_back() {
    let world = World::new(ReplayLimits {
        total_bytes_max: 1_000,
        ..limits()
    });
    let kept = || world.common.bytes.load(Ordering::Relaxed);
    let sessions: Vec<Replay> = (0..10).map(|_| world.session(false)).collect();
    for session in &sessions {
        let (says, texts) = spoken();
        for _ in 0..20 {
            says.try_send("thirty characters of an answer").unwrap();
        }
        drop(says);
        assert_eq!(
            data(&mut session.wrap(Some(&Id::number(1)), texts))
                .await
                .len(),
            20
        );
        assert!(kept() <= 1_000, "{}", kept());
    }
    assert!(kept() > 500, "{}", kept());
    drop(sessions);
    assert_eq!(kept(), 0);
}

#[tokio::test]
async fn the_number_of_streams_is_bounded_and_the_oldest_ended_one_goes_first() {
    let world = World::new(limits());
    let session = world.session(false);
    let (says, texts) = spoken();
    let mut running = session.wrap(Some(&Id::number(0)), texts);
    for number in 1..200 {
        let (says, texts) = spoken();
        says.try_send("x").unwrap();
        drop(says);
        assert_eq!(
            data(&mut session.wrap(Some(&Id::number(number)), texts))
                .await
                .len(),
            1
        );
    }
    says.try_send("1").unwrap();
    let first = next(&mut running).await.unwrap();
    says.try_send("2").unwrap();
    drop(says);
    assert_eq!(data(&mut call(session.resume(&first.id))).await, ["2"]);
}

#[tokio::test]
async fn a_push_stream_goes_on_where_it_was_lost() {
    let world = World::new(limits());
    let session = world.session(true);
    let (says, texts) = spoken();
    let mut stream = session.push(texts, None);
    let primed = next(&mut stream).await.unwrap();
    assert_eq!(primed.data, "", "it is primed before anything happens");
    says.try_send("1").unwrap();
    let first = next(&mut stream).await.unwrap();
    says.try_send("2").unwrap();
    assert_eq!(next(&mut stream).await.unwrap().data, "2");
    drop(stream);
    let position = |id: &str| match session.resume(id) {
        Some(Resume::Push(position)) => Some(position),
        Some(Resume::Call(_)) | None => panic!("not a push stream"),
    };
    let (says, texts) = spoken();
    says.try_send("3").unwrap();
    drop(says);
    let mut again = session.push(texts, position(&first.id));
    assert_eq!(data(&mut again).await, ["2", "", "3"]);
    let (says, texts) = spoken();
    drop(says);
    let mut from_the_start = session.push(texts, position(&primed.id));
    assert_eq!(data(&mut from_the_start).await, ["1", "2", "3", ""]);
}

#[tokio::test]
async fn foreign_event_ids_name_no_stream() {
    let world = World::new(limits());
    let session = world.session(false);
    for id in [
        "",
        "7",
        "a.b.c",
        "1.2.3.nothing",
        "1.2.3.call.!",
        "x.1.1.push",
    ] {
        assert!(session.resume(id).is_none(), "{id}");
    }
}

#[tokio::test]
async fn where_nothing_can_be_resumed_nothing_is_added() {
    let world = World::new(limits());
    let session = world.session(true);
    session.off();
    let (says, texts) = spoken();
    says.try_send("1").unwrap();
    drop(says);
    let heard = next(&mut session.wrap(Some(&Id::number(1)), texts))
        .await
        .unwrap();
    assert_eq!((heard.id.as_str(), heard.data.as_str()), ("", "1"));
}

#[tokio::test]
async fn the_end_of_the_session_or_of_the_gateway_ends_a_resumed_stream() {
    for ends_gateway in [false, true] {
        let world = World::new(limits());
        let session = world.session(true);
        let (says, texts) = spoken();
        let mut stream = session.wrap(Some(&Id::number(1)), texts);
        says.try_send("1").unwrap();
        let primed = next(&mut stream).await.unwrap();
        let mut resumed = call(session.resume(&primed.id));
        assert_eq!(next(&mut resumed).await.unwrap().data, "1");
        if ends_gateway {
            world.common.ending.cancel();
        } else {
            world.ended.cancel();
        }
        assert_eq!(next(&mut resumed).await, None);
        world.common.hurry.cancel();
        driven(&world).await;
        drop(says);
    }
}
