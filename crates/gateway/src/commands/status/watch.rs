//! `status --watch`: the page again and again. In a terminal it is drawn in place; elsewhere a new block follows whenever
//! something changed, or with `--json` one document per line.
//!
//! A Mainstay that goes away is waited for: it usually comes back.

use std::time::Duration;

use serde_json::Value;
use tokio::time::MissedTickBehavior;

use super::Scene;
use crate::cli::human::{self, now_unix_ms};
use crate::cli::output::{Output, Paint};
use crate::cli::table::{cut, terminal_size};
use crate::commands::client::Lines;
use crate::commands::signals::Signals;
use crate::exit::{Exit, Stop};

/// How often it is looked at without any event: ages and numbers go on.
const LOOK: Duration = Duration::from_secs(1);

/// Shows it until interrupted.
///
/// # Errors
/// A stdout that cannot be written to, and a named server that is no longer there.
pub(super) async fn run(
    scene: &Scene,
    first: Value,
    as_json: bool,
    output: Output,
) -> Result<Exit, Stop> {
    let mut signals = Signals::listen()?;
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut events: Option<Lines> = None;
    let mut view = Viewer::new(scene, as_json, output);
    let mut seen = Some(first);
    let mut away = Away::default();
    loop {
        match seen.take() {
            Some(status) => {
                away.back(&mut view);
                view.show(status)?;
            }
            None => away.gone(&mut view)?,
        }
        tokio::select! {
            // Cancel-safe: a signal stays pending in its stream.
            () = signals.next() => return view.end(),
            // Cancel-safe: what was read of an event before is kept; see there.
            event = next_event(&mut events) => {
                if event.is_none() {
                    events = None;
                }
            }
            // Cancel-safe: a tick stays due.
            _ = tick.tick() => {}
        }
        seen = match scene.look().await {
            Ok(status) => Some(status),
            Err(stop) if stop.exit == Exit::NotFound => return Err(stop),
            Err(_away) => None,
        };
        if events.is_none() && seen.is_some() {
            events = scene.client.stream("/api/v1/events").await.ok();
        }
    }
}

/// The next event; never without a stream. Cancel-safe as the stream is.
async fn next_event(events: &mut Option<Lines>) -> Option<String> {
    match events {
        Some(events) => events.next_event().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

/// Since when nobody is there.
#[derive(Debug, Default)]
struct Away {
    since: Option<tokio::time::Instant>,
}

impl Away {
    fn gone(&mut self, view: &mut Viewer<'_>) -> Result<(), Stop> {
        let since = *self.since.get_or_insert_with(|| {
            view.note("the running Mainstay is gone; waiting for it to come back");
            tokio::time::Instant::now()
        });
        view.show_away(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn back(&mut self, view: &mut Viewer<'_>) {
        if let Some(since) = self.since.take() {
            let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            view.note(&format!("Mainstay is back after {}", human::span(ms)));
        }
    }
}

/// Where and how it is shown.
struct Viewer<'s> {
    scene: &'s Scene,
    output: Output,
    as_json: bool,
    screen: Option<Screen>,
    gist: Value,
    last: Value,
}

impl<'s> Viewer<'s> {
    fn new(scene: &'s Scene, as_json: bool, output: Output) -> Self {
        let screen = (output.is_terminal() && !as_json).then(|| Screen::enter(output));
        Self {
            scene,
            output,
            as_json,
            screen,
            gist: Value::Null,
            last: Value::Null,
        }
    }

    fn show(&mut self, seen: Value) -> Result<(), Stop> {
        self.last = seen;
        if self.screen.is_some() {
            return self.draw(None);
        }
        let gist = self.scene.gist(&self.last);
        if gist == self.gist {
            return Ok(());
        }
        self.gist = gist;
        if self.as_json {
            return self.output.line(&self.last.to_string());
        }
        let now = now_unix_ms();
        let mut block = vec![Paint::Dim.on(
            &format!("--- {}", human::clock(now, now)),
            self.output.color(),
        )];
        block.extend(self.scene.lines(&self.last, None, self.output.color()));
        self.output.line(&block.join("\n"))
    }

    /// Nobody is there; a terminal says so above what was seen last.
    fn show_away(&mut self, ms: u64) -> Result<(), Stop> {
        if self.screen.is_some() {
            let away = human::span(ms);
            return self.draw(Some(&format!(
                "no Mainstay is running (for {away}); this was the last"
            )));
        }
        Ok(())
    }

    /// Says something beside the data, unless the screen says it.
    fn note(&mut self, text: &str) {
        if self.screen.is_none() {
            self.output.note(text);
        }
    }

    fn draw(&self, above: Option<&str>) -> Result<(), Stop> {
        let (columns, rows) = terminal_size();
        let color = self.output.color();
        let mut lines = Vec::new();
        lines.extend(above.map(|line| Paint::Warn.on(&cut(line, Some(columns)), color)));
        lines.extend(self.scene.lines(&self.last, Some(columns), color));
        let rows = usize::from(rows);
        if lines.len() > rows {
            let more = lines.len() - (rows - 1);
            lines.truncate(rows - 1);
            lines.push(Paint::Dim.on(&format!("… and {more} more lines"), color));
        }
        Screen::draw(self.output, &lines)
    }

    /// Leaves what was seen last on the ordinary screen.
    fn end(mut self) -> Result<Exit, Stop> {
        if let Some(screen) = self.screen.take() {
            drop(screen);
            let (columns, _) = terminal_size();
            let lines = self
                .scene
                .lines(&self.last, Some(columns), self.output.color());
            self.output.line(&lines.join("\n"))?;
        }
        Ok(Exit::Ok)
    }
}

/// The terminal's second screen, left on every way out.
struct Screen {
    output: Output,
}

impl Screen {
    /// Goes there and hides the cursor.
    fn enter(output: Output) -> Self {
        // A terminal that is gone is noticed by the first drawing.
        let _gone = output.raw("\x1b[?1049h\x1b[?25l\x1b[2J");
        Self { output }
    }

    /// Replaces what is drawn, line by line and in one go, so that nothing flickers.
    fn draw(output: Output, lines: &[String]) -> Result<(), Stop> {
        let text = lines.join("\x1b[K\r\n");
        output.raw(&format!("\x1b[?2026h\x1b[H{text}\x1b[K\x1b[J\x1b[?2026l"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _gone = self.output.raw("\x1b[?25h\x1b[?1049l");
    }
}
