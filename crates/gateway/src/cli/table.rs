//! Plain tables for people: no frames, one line per row, fitting the terminal.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Row, Table, presets};

use super::output::Paint;

/// One cell: its text and its looks.
pub(crate) type Field = (String, Paint);

/// A table under construction.
#[derive(Debug)]
pub(crate) struct Sheet {
    header: Vec<&'static str>,
    rows: Vec<Vec<Field>>,
}

impl Sheet {
    /// A table with these columns.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, fields: Vec<Field>) {
        self.rows.push(fields);
    }

    /// The table as text without a final line break. `width`: cut to so many columns; `None`: as wide as it gets.
    pub(crate) fn render(self, width: Option<u16>, color: bool) -> String {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_truncation_indicator("…");
        match width {
            Some(width) => table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        if color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        let header = self
            .header
            .iter()
            .map(|title| Cell::new(title).add_attribute(Attribute::Bold));
        table.set_header(header.collect::<Vec<_>>());
        for fields in self.rows {
            let mut row = Row::from(fields.into_iter().map(cell).collect::<Vec<_>>());
            row.max_height(1);
            table.add_row(row);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// The width of the terminal on stdout, or 80.
pub(crate) fn terminal_width() -> u16 {
    Table::new()
        .width()
        .filter(|width| *width >= 20)
        .unwrap_or(80)
}

fn cell((text, paint): Field) -> Cell {
    let cell = Cell::new(plain(&text));
    match paint {
        Paint::Plain => cell,
        Paint::Good => cell.fg(Color::Green),
        Paint::Warn => cell.fg(Color::Yellow),
        Paint::Bad => cell.fg(Color::Red),
        Paint::Dim => cell.add_attribute(Attribute::Dim),
        Paint::Bold => cell.add_attribute(Attribute::Bold),
    }
}

/// Somebody else's text for a terminal (F252): a line break or an escape sequence must not break the table, and characters
/// that hide or reorder text are shown as what they are.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}' => plain.extend(c.escape_unicode()),
            c if c.is_control() => plain.push(' '),
            c => plain.push(c),
        }
    }
    plain
}

/// A duration in the two largest units that say something: `0.4s`, `12s`, `3m 5s`, `2h 7m`, `5d 3h`.
pub(crate) fn duration(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0..10 => format!("{}.{}s", s, ms % 1_000 / 100),
        10..60 => format!("{s}s"),
        60..3_600 => format!("{}m {}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h {}m", s / 3_600, s % 3_600 / 60),
        86_400.. => format!("{}d {}h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stay_on_one_line_and_fit() {
        let mut sheet = Sheet::new(&["SERVER", "STATE", "LAST FAILURE"]);
        let long = "the process exited with code 1\nand said a lot of things before it went away "
            .repeat(3);
        sheet.row(vec![
            ("time".into(), Paint::Plain),
            ("parked".into(), Paint::Bad),
            (long, Paint::Plain),
        ]);
        let text = sheet.render(Some(60), false);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 60),
            "{text}"
        );
        assert!(text.contains('…'), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn f252_what_hides_or_reorders_text_is_shown_and_what_moves_the_cursor_is_not() {
        let mut sheet = Sheet::new(&["TOOL"]);
        let hostile = "read\u{202e}etirw\u{200b}\u{1b}[2J\u{e0041}\r\nnext";
        sheet.row(vec![(hostile.into(), Paint::Plain)]);
        let text = sheet.render(None, false);
        assert!(
            text.contains("read\\u{202e}etirw\\u{200b} [2J\\u{e0041}  next"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn nothing_is_cut_when_piped() {
        let mut sheet = Sheet::new(&["A", "B"]);
        sheet.row(vec![
            ("x".repeat(200), Paint::Good),
            ("end".into(), Paint::Plain),
        ]);
        assert!(
            sheet
                .render(None, false)
                .contains(&format!("{}  end", "x".repeat(200)))
        );
    }

    #[test]
    fn durations_read_well() {
        for (ms, text) in [
            (0, "0.0s"),
            (470, "0.4s"),
            (9_990, "9.9s"),
            (12_400, "12s"),
            (185_000, "3m 5s"),
            (7_620_000, "2h 7m"),
            (442_800_000, "5d 3h"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }
}
