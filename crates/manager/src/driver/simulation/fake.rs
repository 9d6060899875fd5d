//! A fake connection: the keeper and the server in one, with a real runtime and the real pipe ends between them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::lifecycle::effect::StopStep;
use mainstay_core::lifecycle::input::{Input, OpenMode, Phase, Proof};
use mainstay_wire::envelope;
use mainstay_wire::listing::{ListKind, RawItem};
use mainstay_wire::revision::Revision;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex, split};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::script::{Calls, End, Opening, Script};
use super::world::{World, title};
use crate::catalog::{Catalog, ItemList};
use crate::config::Transport;
use crate::driver::opener::Job;
use crate::runtime::greeting::Greeting;
use crate::runtime::keeper::Orders;
use crate::runtime::report::{Report, Reports};
use crate::runtime::stdio::{StdioLink, read_lines, write_lines};
use crate::runtime::{Link, Runtime};

/// The bytes that fit into the pretended pipe.
const PIPE_BYTES: usize = 4 * 1024;

const LIMITS: envelope::Limits = envelope::Limits {
    message_bytes_max: 64 * 1024,
    depth_max: 32,
};

/// A panic of a fake, without the noise of the panic hook.
const PLANTED: &str = "planted";

/// One generation of a fake server.
struct Fake {
    world: Arc<World>,
    script: Script,
    name: String,
    mode: OpenMode,
    exclusive: bool,
    reports: Reports,
    orders: watch::Receiver<Orders>,
    runtime: Arc<Runtime>,
    alive: watch::Sender<bool>,
}

/// The whole life of one fake: what [`crate::runtime::keeper::keep`] is in production.
pub(crate) async fn keep(world: Arc<World>, job: Job, script: Script) {
    let _task = world.task();
    let exclusive = !matches!(job.config.transport, Transport::Http { .. });
    world.spawned(&job, exclusive);
    let (name, generation) = (title(&job.slot), job.generation.0);
    job.remains.end_by({
        let (world, name, ms) = (Arc::clone(&world), name.clone(), script.remains_ms);
        move || {
            let (world, name) = (Arc::clone(&world), name.clone());
            Box::pin(async move {
                sleep(Duration::from_millis(ms)).await;
                world.gone(&name, generation);
            })
        }
    });
    let (near, far) = duplex(PIPE_BYTES);
    let (stdout, stdin) = split(near);
    let (link, lines) = StdioLink::new(64);
    let closing = link.closing();
    let (outbound, mut notices) = mpsc::channel(64);
    let runtime = Runtime::new(
        Arc::clone(&job.slot.name),
        job.generation,
        Link::Stdio(link),
        Arc::clone(&job.slot.ids),
        Arc::clone(&job.slot.counters),
        job.reports.clone(),
        outbound,
    )
    .shared();
    let fake = Fake {
        world,
        script,
        name,
        mode: job.mode,
        exclusive,
        reports: job.reports,
        orders: job.orders,
        runtime: Arc::clone(&runtime),
        alive: watch::Sender::new(true),
    };
    let background = async {
        let saying = async {
            while let Some(notice) = notices.recv().await {
                runtime.tell(notice).await;
            }
        };
        tokio::join!(
            write_lines(stdin, lines, closing.clone()),
            read_lines(stdout, Arc::clone(&runtime), LIMITS),
            saying,
            fake.tell_drained(),
            fake.answer_probes(),
        );
        std::future::pending().await
    };
    tokio::select! {
        biased;
        // Cancel-safe, all three: what is dropped here has no state that outlives a fake.
        () = fake.until_stopped() => fake.leave().await,
        () = fake.live(far) => {}
        () = background => {}
    }
    sleep(Duration::from_millis(fake.script.remains_ms)).await;
    runtime.fail(runtime.failure());
    closing.cancel();
    fake.world.gone(&fake.name, generation);
}

impl Fake {
    /// Reports something, through the weather.
    async fn report(&self, report: Report) {
        let wire = self.script.wire;
        let (lost, doubled, delayed) = self.world.draw(|rng| {
            let mut late = |percent| {
                rng.percent(percent)
                    .then(|| Duration::from_millis(rng.below(wire.delay_ms_max.max(1))))
            };
            let (doubled, delayed) = (late(wire.double_percent), late(wire.delay_percent));
            (rng.percent(wire.lose_percent), doubled, delayed)
        });
        if lost {
            return;
        }
        if let Some(ms) = doubled {
            self.send_later(copy(&report), ms);
        }
        match delayed {
            Some(ms) => self.send_later(report, ms),
            None => self.reports.send(report).await,
        }
    }

    fn send_later(&self, report: Report, after: Duration) {
        let reports = self.reports.clone();
        self.world.later(async move {
            sleep(after).await;
            reports.send(report).await;
        });
    }

    async fn input(&self, input: Input) {
        self.report(Report::Input(input)).await;
    }

    /// Opens, serves and dies. Comes true when the process has ended by itself.
    async fn live(&self, far: DuplexStream) {
        let generation = self.runtime.generation;
        for phase in [Phase::Greet, Phase::List] {
            sleep(Duration::from_millis(self.script.phase_ms)).await;
            self.input(Input::Phase { generation, phase }).await;
        }
        sleep(Duration::from_millis(self.script.phase_ms)).await;
        match self.script.opening {
            Opening::Well => {}
            Opening::Fails(kind) => {
                let failure = Failure::new(kind);
                self.alive.send_replace(false);
                self.input(Input::OpenFailed {
                    generation,
                    failure,
                })
                .await;
                return self.end().await;
            }
            Opening::Hangs => return std::future::pending().await,
            Opening::Panics => std::panic::resume_unwind(Box::new(PLANTED)),
        }
        self.opened().await;
        let life = async {
            match self.script.life_ms {
                Some(ms) => sleep(Duration::from_millis(ms)).await,
                None => std::future::pending().await,
            }
        };
        // Kept to the end: who falls silent still holds its ends of the pipes.
        let mut serving = pin!(self.serve(far));
        let end = tokio::select! {
            // Cancel-safe: pinned; the other is a sleep.
            () = &mut serving => End::Exits,
            () = life => self.script.end,
        };
        if end == End::Announces {
            self.input(Input::ServerClosing { generation }).await;
            serving.await;
            return self.die(End::Exits).await;
        }
        self.die(end).await;
    }

    async fn opened(&self) {
        let generation = self.runtime.generation;
        self.runtime.greeted(greeting());
        let catalog = Arc::new(catalog(&self.name));
        let fresh = self.mode == OpenMode::Fresh;
        self.report(Report::Opened {
            generation,
            runtime: Arc::clone(&self.runtime),
            catalog: fresh.then(|| Arc::clone(&catalog)),
        })
        .await;
        if !fresh {
            self.report(Report::Listed {
                generation,
                catalog,
            })
            .await;
        }
    }

    async fn die(&self, end: End) {
        let generation = self.runtime.generation;
        match end {
            End::Exits => {
                self.alive.send_replace(false);
                let failure = Failure::new(FailureKind::Exited {
                    code: Some(1),
                    signal: None,
                });
                self.input(Input::Exited {
                    generation,
                    failure,
                })
                .await;
                self.end().await;
            }
            End::LosesSession => {
                self.input(Input::SessionLost { generation }).await;
                std::future::pending().await
            }
            End::Panics => std::panic::resume_unwind(Box::new(PLANTED)),
            End::Vanishes | End::Announces => {}
            End::FallsSilent => {
                self.alive.send_replace(false);
                std::future::pending().await
            }
        }
    }

    /// A process that has exited is gone by itself; a connection waits to be told.
    async fn end(&self) {
        if !self.exclusive {
            std::future::pending().await
        }
    }

    /// Serves calls until one of them kills it. `far` lives as long as this.
    async fn serve(&self, far: DuplexStream) {
        let (stdin, mut stdout) = split(far);
        let mut lines = BufReader::new(stdin).lines();
        let mut answers = FuturesUnordered::new();
        if self.script.calls == Calls::Clogs {
            return std::future::pending().await;
        }
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: an answer that was not taken stays in the set.
                Some(answer) = answers.next(), if !answers.is_empty() => {
                    let answer: String = answer;
                    if stdout.write_all(answer.as_bytes()).await.is_err() {
                        return std::future::pending().await;
                    }
                }
                // Cancel-safe: half a line stays in the reader.
                line = lines.next_line() => {
                    // Its stdin was closed: whether it leaves for that is a matter of the stop steps.
                    let Ok(Some(line)) = line else { return std::future::pending().await };
                    let message: serde_json::Value = serde_json::from_str(&line).unwrap();
                    let Some(id) = message.get("id").cloned() else { continue };
                    if let Some(marker) = message["params"]["arguments"]["marker"].as_u64() {
                        self.world.executed(marker);
                    }
                    let well = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"content\":[]}}}}\n");
                    let (ms, text) = match self.script.calls {
                        Calls::Answers { ms } => (ms, well),
                        Calls::AnswersTwice { ms } => (ms, well.repeat(2)),
                        Calls::Refuses => (1, format!(
                            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":-32603,\"message\":\"no\"}}}}\n"
                        )),
                        Calls::Ignores | Calls::Clogs => continue,
                        Calls::DiesOf => return,
                    };
                    answers.push(async move {
                        sleep(Duration::from_millis(ms)).await;
                        text
                    });
                }
            }
        }
    }

    /// Comes true when a stop is carried out.
    async fn until_stopped(&self) {
        let mut orders = self.orders.clone();
        loop {
            let wanted = orders.borrow_and_update().clone();
            let obeys = self.script.obeys;
            let heard = match (wanted.stop, obeys.step) {
                (Some(StopStep::Kill), Some(_)) => wanted.kills >= obeys.kills,
                (Some(stop), Some(step)) => stop >= step && step != StopStep::Kill,
                (_, None) | (None, _) => false,
            };
            if heard {
                sleep(Duration::from_millis(self.script.deaf_ms + obeys.ms)).await;
                return;
            }
            if orders.changed().await.is_err() {
                // No driver, no server: a real keeper kills its group then.
                return;
            }
        }
    }

    /// A process that ends because it was asked to has exited like any other.
    async fn leave(&self) {
        if self.exclusive && self.runtime.greeting().is_some() {
            let generation = self.runtime.generation;
            let failure = Failure::new(FailureKind::Exited {
                code: Some(0),
                signal: None,
            });
            self.input(Input::Exited {
                generation,
                failure,
            })
            .await;
        }
    }

    async fn tell_drained(&self) {
        let mut orders = self.orders.clone();
        let draining = orders.wait_for(|orders| orders.stop == Some(StopStep::Drain));
        if draining.await.is_ok() {
            sleep(Duration::from_millis(self.script.deaf_ms)).await;
            self.runtime.leases.drained().await;
            let generation = self.runtime.generation;
            self.input(Input::Drained { generation }).await;
        }
    }

    async fn answer_probes(&self) {
        let generation = self.runtime.generation;
        let mut orders = self.orders.clone();
        let mut done = 0;
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: a watch is a level.
                changed = orders.changed() => if changed.is_err() { return },
                // Cancel-safe: the permit stays.
                () = self.runtime.suspected() => self.input(Input::Suspect { generation }).await,
            }
            let probes = orders.borrow_and_update().probes;
            if probes == done {
                continue;
            }
            done = probes;
            // A dead one says nothing at all: its deadline has to notice.
            if *self.alive.borrow() {
                self.input(Input::Proof {
                    generation,
                    proof: Proof::ProbeAnswered,
                })
                .await;
            }
        }
    }
}

/// The same report once more.
fn copy(report: &Report) -> Report {
    match report {
        Report::Input(input) => Report::Input(input.clone()),
        Report::Opened {
            generation,
            runtime,
            catalog,
        } => Report::Opened {
            generation: *generation,
            runtime: Arc::clone(runtime),
            catalog: catalog.clone(),
        },
        Report::Listed {
            generation,
            catalog,
        } => Report::Listed {
            generation: *generation,
            catalog: Arc::clone(catalog),
        },
    }
}

fn greeting() -> Greeting {
    Greeting {
        revision: Revision::V2025_11_25,
        capabilities: "{\"tools\":{}}".into(),
        server_info: None,
        instructions: None,
    }
}

/// What every fake lists.
pub(crate) fn catalog(name: &str) -> Catalog {
    let tool = format!("{{\"name\":\"work\",\"description\":\"of {name}\",\"inputSchema\":{{}}}}");
    of_tools(&[&tool])
}

/// A catalog of these tools.
pub(crate) fn of_tools(tools: &[&str]) -> Catalog {
    let item = |tool: &&str| RawItem::parse(ListKind::Tools, (*tool).to_owned().into()).unwrap();
    Catalog {
        greeting: greeting(),
        tools: ItemList::new(tools.iter().map(item).collect()),
        prompts: ItemList::default(),
        resources: ItemList::default(),
        templates: ItemList::default(),
        hidden: Vec::new(),
        listed_at_unix_ms: 0,
        remembered: false,
        over_sse: false,
    }
}
