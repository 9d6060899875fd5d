//! `mainstay replay`: the clients' side of a recording once more, and how the answers differ.
//!
//! What a client said is said in the recorded order, and nothing before the answers it had seen by then: so calls overlap
//! as they did, and everything else is as fast as the answers allow. Values that only their maker can make (sessions,
//! request states, cursors, tasks, ids of questions) are replaced by those that the replay was given.

mod alike;
mod client;
mod recording;

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use http::Uri;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use self::alike::Opaque;
use self::client::{Asked, Client, Said};
use self::recording::{Entry, Recording};
use crate::cli::ReplayArgs;
use crate::cli::output::Output;
use crate::exit::{Exit, Stop};

/// Replays a recording and tells the differences.
///
/// # Errors
/// The recording cannot be read, or nobody answers at the URL. Differences are no error but an exit code of their own.
pub(crate) async fn run(args: ReplayArgs, output: Output) -> Result<Exit, Stop> {
    let recording = Recording::read(&args.file)?;
    let url: Uri = args.url.parse().map_err(|error: http::uri::InvalidUri| {
        Stop::new(Exit::Usage, format!("`{}` is no URL", args.url))
            .because(error)
            .hint("use one such as http://127.0.0.1:8808")
    })?;
    let client = Client::new(&url)?;
    client.reach().await?;
    let began = Instant::now();
    let mut replay = Replay {
        client,
        ignored: args.ignore.into_iter().collect(),
        wait: Duration::from_secs(args.timeout),
        ..Replay::new()
    };
    for entry in &recording.entries {
        replay.step(&recording, entry).await;
    }
    replay.client.leave().await;
    let report = replay.report(&recording, began.elapsed());
    if args.json {
        output.json(&report)?;
    } else {
        tell(&report, output)?;
    }
    if replay.different.is_empty() {
        Ok(Exit::Ok)
    } else {
        Ok(Exit::Differs)
    }
}

/// A replay on its way.
struct Replay {
    client: Client,
    ignored: BTreeSet<String>,
    wait: Duration,
    running: HashMap<u64, JoinHandle<Said>>,
    opaque: Opaque,
    requests: usize,
    alike: usize,
    different: Vec<Value>,
}

impl Replay {
    fn new() -> Self {
        Self {
            client: Client::nowhere(),
            ignored: BTreeSet::new(),
            wait: Duration::ZERO,
            running: HashMap::new(),
            opaque: Opaque::default(),
            requests: 0,
            alike: 0,
            different: Vec::new(),
        }
    }

    async fn step(&mut self, recording: &Recording, entry: &Entry) {
        match (entry.is_in, entry.is_response()) {
            (true, false) => self.say(recording, entry).await,
            (true, true) => self.respond(recording, entry).await,
            (false, true) => self.compare(recording, entry).await,
            // What a server says on its way may come or not; questions are waited for when they are answered.
            (false, false) => {}
        }
    }

    /// A request or a notification of the client.
    async fn say(&mut self, recording: &Recording, entry: &Entry) {
        let message = self.opaque.renewed(&entry.message);
        let peer = recording.peer_of(entry);
        let task = self.client.say(entry, peer, message, recording);
        if entry.message.get("id").is_some() {
            self.requests += 1;
            self.running.insert(entry.exchange, task);
        } else {
            // Notifications take effect in their order.
            let _said = tokio::time::timeout(self.wait, task).await;
        }
    }

    /// The client's answer to a question of a server: under the id that the question has this time.
    async fn respond(&mut self, recording: &Recording, entry: &Entry) {
        let Some(asked) = recording.question(entry) else {
            return;
        };
        let Some(id) = self.client.question(asked, self.wait).await else {
            self.differs(entry, &entry.message, &json!("the question did not come"));
            return;
        };
        let mut message = self.opaque.renewed(&entry.message);
        message["id"] = id;
        let peer = recording.peer_of(entry);
        let task = self.client.say(entry, peer, message, recording);
        let _said = tokio::time::timeout(self.wait, task).await;
    }

    async fn compare(&mut self, recording: &Recording, entry: &Entry) {
        // An answer to a request that was not recorded, or the second one to the same request.
        let Some(task) = self.running.remove(&entry.exchange) else {
            return;
        };
        let said = match tokio::time::timeout(self.wait, task).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => Said::nothing(error.to_string()),
            Err(_late) => Said::nothing(format!("no answer within {} s", self.wait.as_secs())),
        };
        if let (Some(session), Some(peer)) = (said.session, recording.peer_of(entry)) {
            self.client.opened(peer, session, &said.answer);
        }
        if alike::alike(
            &entry.message,
            &said.answer,
            &self.ignored,
            &mut self.opaque,
        ) {
            self.alike += 1;
        } else {
            self.differs(entry, &entry.message, &said.answer);
        }
    }

    fn differs(&mut self, entry: &Entry, recorded: &Value, replayed: &Value) {
        self.different.push(json!({
            "exchange": entry.exchange,
            "endpoint": entry.endpoint,
            "id": recorded["id"],
            "recorded": recorded,
            "replayed": replayed,
        }));
    }

    fn report(&self, recording: &Recording, took: Duration) -> Value {
        json!({
            "requests": self.requests,
            "alike": self.alike,
            "different": self.different,
            "unanswered": recording.unanswered(),
            "dropped": recording.dropped,
            "hidden": recording.hidden,
            "tookMs": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

fn tell(report: &Value, output: Output) -> Result<(), Stop> {
    let different = report["different"].as_array().map_or(0, Vec::len);
    output.line(&format!(
        "{} requests replayed in {} ms: {} answers alike, {different} different",
        report["requests"], report["tookMs"], report["alike"],
    ))?;
    for (member, words) in [
        (
            "unanswered",
            "requests have no answer in the recording and were not compared",
        ),
        (
            "dropped",
            "messages are missing in the recording: there was no room for them",
        ),
        (
            "hidden",
            "messages hold values that were hidden; servers may answer otherwise without them",
        ),
    ] {
        if report[member] != 0 {
            output.warn(&format!("{} {words}", report[member]), None);
        }
    }
    for difference in report["different"].as_array().into_iter().flatten() {
        output.line(&format!(
            "\n{} exchange {}, id {}\n  recorded {}\n  replayed {}",
            difference["endpoint"].as_str().unwrap_or_default(),
            difference["exchange"],
            difference["id"],
            shortened(&difference["recorded"]),
            shortened(&difference["replayed"]),
        ))?;
    }
    Ok(())
}

/// Enough to see what it is; `--json` has the whole.
fn shortened(value: &Value) -> String {
    const CHARS_MAX: usize = 300;
    let text = value.to_string();
    if text.chars().count() <= CHARS_MAX {
        return text;
    }
    text.chars().take(CHARS_MAX).chain("…".chars()).collect()
}
