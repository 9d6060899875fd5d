//! `mainstay top`: everything at once, full-screen, with orders on keys.
//!
//! `feed` asks the running Mainstay, `model` holds what is known and what keys mean, `draw` shows it and nothing else. The
//! terminal is given back on every way out: leaving, an error, a signal, a panic.

mod draw;
mod feed;
mod keys;
mod model;

use std::io::{self, IsTerminal};
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt;
use ratatui::DefaultTerminal;
use tokio::signal::unix::{SignalKind, signal};

use self::feed::Feed;
use self::model::{Ask, Model};
use super::client::AdminClient;
use super::paths;
use super::signals::Signals;
use crate::cli::human::now_unix_ms;
use crate::cli::output::Output;
use crate::cli::top::TopArgs;
use crate::exit::{Exit, Stop};

/// How often it is drawn again without any news: ages go on.
const REDRAW: Duration = Duration::from_secs(1);

/// News that are taken in before the next drawing.
const NEWS_MAX: usize = 512;

/// Shows everything until somebody leaves.
///
/// # Errors
/// Exit 2 without a terminal, 5 when no Mainstay is running at the start.
pub(crate) async fn run(args: TopArgs, output: Output) -> Result<Exit, Stop> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(Stop::new(
            Exit::Usage,
            "`mainstay top` needs a terminal for what it shows and for its keys",
        )
        .hint("without one use `mainstay status --watch`, with --json for programs"));
    }
    let client = AdminClient::new(paths::socket(args.socket.socket.as_deref())?);
    let status = client.get("/api/v1/status").await?.ok()?;
    let mut model = Model::new(args.sort, args.filter, now_unix_ms());
    model.news(model::News::Status(status));
    let signals = Signals::listen()?;
    let terminal = Terminal::enter()?;
    show(
        terminal,
        signals,
        Feed::start(client),
        model,
        output.color(),
    )
    .await
}

/// The terminal in our hands.
struct Terminal(DefaultTerminal);

impl Terminal {
    /// Takes it: the second screen, every key at once, and a panic hook that gives it back before it speaks.
    fn enter() -> Result<Self, Stop> {
        ratatui::try_init().map(Self).map_err(|error| {
            // Half of it may have worked.
            ratatui::restore();
            Stop::unexpected("cannot use the terminal", error).hint("use `mainstay status --watch`")
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _gone = self.0.show_cursor();
        ratatui::restore();
    }
}

async fn show(
    mut terminal: Terminal,
    mut signals: Signals,
    mut feed: Feed,
    mut model: Model,
    color: bool,
) -> Result<Exit, Stop> {
    let mut hangup = signal(SignalKind::hangup())
        .map_err(|error| Stop::unexpected("cannot listen for signals", error))?;
    let mut keys = EventStream::new();
    let mut tick = tokio::time::interval(REDRAW);
    loop {
        if feed.is_broken() {
            return Err(
                Stop::new(Exit::Unexpected, "a part of `mainstay top` has failed")
                    .hint("the lines above say where; report it"),
            );
        }
        model.now(now_unix_ms());
        feed.look_at(model.selected(), model.log_wanted());
        terminal
            .0
            .draw(|frame| draw::draw(frame, &model, color))
            .map_err(|error| Stop::unexpected("cannot draw in the terminal", error))?;
        tokio::select! {
            // Cancel-safe: a signal stays pending in its stream.
            () = signals.next() => return Ok(Exit::Ok),
            // Cancel-safe: as above. The terminal is gone.
            _ = hangup.recv() => return Ok(Exit::Ok),
            // Cancel-safe: a stream of events keeps what was not taken.
            key = keys.next() => match key {
                Some(Ok(event)) => {
                    if let Some(ask) = input(&mut model, &event) {
                        match ask {
                            Ask::Leave => return Ok(Exit::Ok),
                            Ask::Order(order, name) => feed.order(order, name),
                        }
                    }
                }
                // Nobody can press a key any more.
                Some(Err(_)) | None => return Ok(Exit::Ok),
            },
            // Cancel-safe: a channel keeps what was not received.
            news = feed.next() => {
                if let Some(news) = news {
                    model.news(news);
                }
                for _ in 0..NEWS_MAX {
                    let Some(news) = feed.at_once() else { break };
                    model.news(news);
                }
            }
            // Cancel-safe: a tick stays due.
            _ = tick.tick() => {}
        }
    }
}

fn input(model: &mut Model, event: &Event) -> Option<Ask> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => keys::press(model, *key),
        // The next drawing measures anew.
        Event::Resize(_, _)
        | Event::Key(_)
        | Event::FocusGained
        | Event::FocusLost
        | Event::Mouse(_)
        | Event::Paste(_) => None,
    }
}
