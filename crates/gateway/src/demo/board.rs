//! What the demo shows while it runs: a table that redraws itself in a terminal, lines of events otherwise.
//!
//! Must not know where its rows come from.

use std::time::Instant;

use super::report::seconds;
use crate::cli::human::duration;
use crate::cli::output::{Output, Paint};
use crate::cli::table::Sheet;
use crate::exit::Stop;

/// Everything fits a classic terminal.
const COLUMNS: u16 = 80;

/// One server, as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) server: String,
    pub(super) state: String,
    pub(super) generation: u64,
    pub(super) since_ms: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) recoveries: u64,
    pub(super) last_failure: String,
}

/// How the demo shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Redraws a table.
    Live,
    /// Prints a line per event.
    Lines,
    /// Shows nothing: the report is all.
    Silent,
}

/// The view of a running demo.
#[derive(Debug)]
pub(super) struct Board {
    output: Output,
    style: Style,
    began: Instant,
    title: String,
    total_s: u64,
    action: String,
    last: String,
    /// Lines on the screen that the next drawing replaces.
    drawn: usize,
}

impl Board {
    /// A view that begins now.
    pub(super) fn new(output: Output, json: bool, title: String, total_s: u64) -> Self {
        let style = match (json, output.is_terminal()) {
            (true, _) => Style::Silent,
            (false, true) => Style::Live,
            (false, false) => Style::Lines,
        };
        let action = "calling every server's tools, 20 times a second".to_owned();
        Self {
            output,
            style,
            began: Instant::now(),
            title,
            total_s,
            action,
            last: String::new(),
            drawn: 0,
        }
    }

    /// Says the first words.
    pub(super) fn open(&self) -> Result<(), Stop> {
        match self.style {
            // Hides the cursor; `close` shows it again.
            Style::Live => self.output.raw("\x1b[?25l"),
            Style::Lines => self
                .output
                .line(&format!("{}, for {} s", self.title, self.total_s)),
            Style::Silent => Ok(()),
        }
    }

    /// What the demo itself does now.
    pub(super) fn action(&mut self, server: &str, text: &str) -> Result<(), Stop> {
        self.action = format!("{server}: {text}");
        self.event("break", server, text)
    }

    /// What came of it.
    pub(super) fn outcome(&mut self, server: &str, text: &str) -> Result<(), Stop> {
        self.last = format!("{server}: {text}");
        self.action = "calling every server's tools, 20 times a second".to_owned();
        self.event("back", server, text)
    }

    /// One thing that happened; only seen where lines are printed.
    pub(super) fn event(&self, what: &str, server: &str, text: &str) -> Result<(), Stop> {
        if self.style != Style::Lines {
            return Ok(());
        }
        let at = self.began.elapsed().as_millis();
        let at = seconds(u64::try_from(at).unwrap_or(u64::MAX));
        self.output
            .line(&format!("{at:>9}  {what:<8} {server:<10} {text}"))
    }

    /// Draws the table again, in a terminal.
    pub(super) fn draw(&mut self, rows: &[Row]) -> Result<(), Stop> {
        if self.style != Style::Live {
            return Ok(());
        }
        let frame = self.frame(rows);
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in &frame {
            // Clears the rest of the old line, then goes on.
            text.push_str(&format!("\r{line}\x1b[K\n"));
        }
        // A frame that became shorter leaves nothing behind.
        text.push_str("\x1b[J");
        self.drawn = frame.len();
        self.output.raw(&text)
    }

    /// Leaves the terminal as it was found; the last table stays.
    pub(super) fn close(&self) -> Result<(), Stop> {
        match self.style {
            Style::Live => self.output.raw("\x1b[?25h\n"),
            Style::Lines | Style::Silent => Ok(()),
        }
    }

    fn frame(&self, rows: &[Row]) -> Vec<String> {
        let color = self.output.color();
        let mut sheet = Sheet::new(&[
            "SERVER",
            "STATE",
            "GEN",
            "SINCE",
            "CALLS",
            "FAILED",
            "BACK",
            "LAST FAILURE",
        ]);
        for row in rows {
            sheet.row(vec![
                (row.server.clone(), Paint::Bold),
                (row.state.clone(), state_paint(&row.state)),
                (row.generation.to_string(), Paint::Plain),
                (duration(row.since_ms), Paint::Plain),
                (row.answered.to_string(), Paint::Plain),
                (
                    row.failed.to_string(),
                    if row.failed == 0 {
                        Paint::Plain
                    } else {
                        Paint::Warn
                    },
                ),
                (row.recoveries.to_string(), Paint::Plain),
                (row.last_failure.clone(), Paint::Dim),
            ]);
        }
        let mut frame = vec![
            cut(&format!(
                "{}  {} of {} s",
                self.title,
                self.began.elapsed().as_secs(),
                self.total_s
            )),
            String::new(),
        ];
        frame.extend(
            sheet
                .render(Some(COLUMNS), color)
                .lines()
                .map(str::to_owned),
        );
        frame.push(String::new());
        frame.push(cut(&format!("now   {}", self.action)));
        frame.push(cut(&format!("last  {}", self.last)));
        frame
    }
}

/// How a state looks: good, in between, or broken.
pub(super) fn state_paint(state: &str) -> Paint {
    match state.split(' ').next().unwrap_or_default() {
        "connected" => Paint::Good,
        "parked" | "backoff" => Paint::Bad,
        "disabled" | "idle" => Paint::Dim,
        _in_between => Paint::Warn,
    }
}

fn cut(line: &str) -> String {
    let line = line.trim_end();
    let max = usize::from(COLUMNS);
    if line.chars().count() <= max {
        line.to_owned()
    } else {
        line.chars().take(max - 1).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ColorWhen;

    fn board() -> Board {
        let title = "Mainstay demo: three servers behind http://127.0.0.1:54321/mcp".to_owned();
        Board::new(Output::new(ColorWhen::Never), false, title, 30)
    }

    fn row(server: &str, last_failure: &str) -> Row {
        Row {
            server: server.to_owned(),
            state: "connecting".to_owned(),
            generation: 12,
            since_ms: 3_599_000,
            answered: 123_456,
            failed: 1_234,
            recoveries: 123,
            last_failure: last_failure.to_owned(),
        }
    }

    #[test]
    fn a_frame_fits_eighty_columns_and_never_changes_its_height() {
        let mut board = board();
        board
            .action(
                "stateless",
                &"a very long sentence about what is going on ".repeat(4),
            )
            .unwrap();
        let long =
            "the process was killed by signal 9 and left these words behind: out of memory, sorry";
        let wide = board.frame(&[
            row("stdio", long),
            row("sessions", ""),
            row("stateless", "\x1b[2Jevil\n"),
        ]);
        let narrow = board.frame(&[row("stdio", ""), row("sessions", ""), row("stateless", "")]);
        assert_eq!(wide.len(), narrow.len());
        for line in wide.iter().chain(&narrow) {
            assert!(
                line.chars().count() <= 80,
                "{} columns: {line}",
                line.chars().count()
            );
            assert!(!line.contains('\x1b'), "{line:?}");
        }
        assert!(
            wide.iter()
                .any(|line| line.contains("3599") || line.contains("59m 59s")),
            "{wide:#?}"
        );
    }
}
