//! What `top` knows comes from here: the admin API, asked and listened to by a few tasks. All of them go on when Mainstay
//! is restarted, and all of them end when the feed is dropped.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::model::News;
use crate::commands::client::{ANSWER_MAX, AdminClient, segment};
use crate::commands::follow::{Follower, Heard};
use crate::commands::operate::Order;
use crate::commands::records::Kind;

/// How often servers are looked at: numbers change without events.
const LOOK: Duration = Duration::from_secs(1);

/// How often somebody who is gone is looked for.
const RETRY: Duration = Duration::from_millis(300);

/// News that wait to be taken in.
const WAITING_MAX: usize = 1_024;

/// Events and calls of the past.
const PAST: usize = 200;

/// Log lines of the past.
const LINES: usize = 200;

/// The tasks and what they send.
pub(super) struct Feed {
    client: AdminClient,
    sender: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    selected: watch::Sender<Option<String>>,
    logged: watch::Sender<Option<String>>,
    tasks: JoinSet<()>,
}

impl Feed {
    /// Starts to listen.
    pub(super) fn start(client: AdminClient) -> Self {
        let (sender, news) = mpsc::channel(WAITING_MAX);
        let (selected, select) = watch::channel(None);
        let (logged, log) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let hurry = std::sync::Arc::new(tokio::sync::Notify::new());
        tasks.spawn(servers(client.clone(), sender.clone(), hurry.clone()));
        tasks.spawn(detail(client.clone(), sender.clone(), select));
        tasks.spawn(logs(client.clone(), sender.clone(), log));
        for kind in [Kind::Events, Kind::Calls] {
            tasks.spawn(records(client.clone(), sender.clone(), kind, hurry.clone()));
        }
        Self {
            client,
            sender,
            news,
            selected,
            logged,
            tasks,
        }
    }

    /// Tells the tasks which server is shown, and whose log.
    pub(super) fn look_at(&self, selected: Option<&str>, logged: Option<&str>) {
        let turn = |to: &watch::Sender<Option<String>>, name: Option<&str>| {
            to.send_if_modified(|now| {
                let differs = now.as_deref() != name;
                if differs {
                    *now = name.map(str::to_owned);
                }
                differs
            });
        };
        turn(&self.selected, selected);
        turn(&self.logged, logged);
    }

    /// Gives an order; what came of it is news.
    pub(super) fn order(&mut self, order: Order, name: String) {
        let (client, sender) = (self.client.clone(), self.sender.clone());
        self.tasks.spawn(async move {
            let path = format!("/api/v1/servers/{}/{}", segment(&name), order.verb());
            let done = match client.post(&path, None, ANSWER_MAX).await {
                Ok(reply) => reply.ok(),
                Err(stop) => Err(stop),
            };
            let news = match done {
                Ok(_) => News::Done(format!("server `{name}` {}", order.done())),
                Err(stop) => News::Failed(stop.to_string()),
            };
            let _left = sender.send(news).await;
        });
    }

    /// Whether one of the tasks has panicked: what is shown would be stale for ever, and the terminal was given back.
    pub(super) fn is_broken(&mut self) -> bool {
        while let Some(ended) = self.tasks.try_join_next() {
            if ended.is_err_and(|error| error.is_panic()) {
                return true;
            }
        }
        false
    }

    /// What is new. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }

    /// What else is new already.
    pub(super) fn at_once(&mut self) -> Option<News> {
        self.news.try_recv().ok()
    }
}

/// Looks at all servers every second, and at once when something happened.
async fn servers(
    client: AdminClient,
    news: mpsc::Sender<News>,
    hurry: std::sync::Arc<tokio::sync::Notify>,
) {
    loop {
        let seen = match client.get("/api/v1/status").await {
            Ok(reply) => reply.ok().map_or(News::Away, News::Status),
            Err(_gone) => News::Away,
        };
        if news.send(seen).await.is_err() {
            return;
        }
        // A late wake-up is as good as one in time.
        let _due = tokio::time::timeout(LOOK, hurry.notified()).await;
    }
}

/// Looks at the selected server every second, and at once when another is selected.
async fn detail(
    client: AdminClient,
    news: mpsc::Sender<News>,
    mut selected: watch::Receiver<Option<String>>,
) {
    loop {
        let name = selected.borrow_and_update().clone();
        if let Some(name) = name {
            let path = format!("/api/v1/servers/{}", segment(&name));
            if let Ok(reply) = client.get(&path).await
                && let Ok(detail) = reply.ok()
                && news.send(News::Detail(detail)).await.is_err()
            {
                return;
            }
        }
        if let Ok(Err(_dropped)) = tokio::time::timeout(LOOK, selected.changed()).await {
            return;
        }
    }
}

/// Follows what happens, or the calls that are made. A Mainstay without such a stream is asked again now and then.
async fn records(
    client: AdminClient,
    news: mpsc::Sender<News>,
    kind: Kind,
    hurry: std::sync::Arc<tokio::sync::Notify>,
) {
    loop {
        if let Ok(mut follower) = Follower::open(client.clone(), kind.stream(PAST)).await {
            while let Ok(heard) = follower.next().await {
                let record = match heard {
                    Heard::Data(text) => serde_json::from_str::<Value>(&text),
                    Heard::Gone | Heard::Back(_) => {
                        hurry.notify_one();
                        continue;
                    }
                };
                let Ok(record) = record else { continue };
                hurry.notify_one();
                let told = match kind {
                    Kind::Events => News::Event(record),
                    Kind::Calls => News::Call(record),
                };
                if news.send(told).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Follows the log of the server that is shown, while it is shown.
async fn logs(
    client: AdminClient,
    news: mpsc::Sender<News>,
    mut logged: watch::Receiver<Option<String>>,
) {
    loop {
        let name = logged.borrow_and_update().clone();
        let following = async {
            let Some(name) = name else {
                return std::future::pending().await;
            };
            let path = format!(
                "/api/v1/servers/{}/logs?lines={LINES}&follow=1",
                segment(&name)
            );
            loop {
                if let Ok(mut follower) = Follower::open(client.clone(), path.clone()).await
                    && news.send(News::LogsOf(name.clone())).await.is_ok()
                {
                    while let Ok(heard) = follower.next().await {
                        let told = match heard {
                            Heard::Data(text) => {
                                line(&text).map(|line| News::Line(name.clone(), line))
                            }
                            // The new one is asked for all that it has.
                            Heard::Back(_) => Some(News::LogsOf(name.clone())),
                            Heard::Gone => None,
                        };
                        if let Some(told) = told
                            && news.send(told).await.is_err()
                        {
                            return;
                        }
                    }
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        tokio::select! {
            // Cancel-safe: what is followed begins anew with its last lines.
            () = following => return,
            // Cancel-safe: a watch keeps its value.
            changed = logged.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

fn line(event: &str) -> Option<String> {
    let event: Value = serde_json::from_str(event).ok()?;
    event["line"].as_str().map(str::to_owned)
}
