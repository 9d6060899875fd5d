//! Plain tables for people: no frames, one line per row, fitting the terminal. What does not fit is left out column by
//! column, the least important first; text below a table is broken at words.

use comfy_table::{
    Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Row, Table, Width, presets,
};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::output::Paint;

/// One cell: its text and its looks.
pub(crate) type Field = (String, Paint);

/// A column: its title, and what becomes of it when room is short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Its title.
    pub(crate) title: &'static str,
    /// When it is left out: the highest first, 0 never.
    pub(crate) rank: u8,
    /// Whether its cells may be cut.
    pub(crate) elastic: bool,
}

impl Column {
    /// A column that stays whole or goes.
    pub(crate) const fn new(title: &'static str, rank: u8) -> Self {
        Self {
            title,
            rank,
            elastic: false,
        }
    }

    /// A column whose cells may be cut, down to [`ELASTIC_MIN`].
    pub(crate) const fn elastic(title: &'static str, rank: u8) -> Self {
        Self {
            title,
            rank,
            elastic: true,
        }
    }
}

/// So many characters of a column that is cut are worth showing.
const ELASTIC_MIN: usize = 12;

/// Between two columns.
const GAP: usize = 2;

/// A table under construction.
#[derive(Debug)]
pub(crate) struct Sheet {
    header: Vec<&'static str>,
    rows: Vec<Vec<Field>>,
    /// The same number as `header`, or none: then all share what room there is.
    columns: Vec<Column>,
}

impl Sheet {
    /// A table with these columns.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// A table that leaves out columns when room is short, and those in which no row says anything.
    pub(crate) fn ranked(columns: &[Column]) -> Self {
        Self {
            header: columns.iter().map(|column| column.title).collect(),
            rows: Vec::new(),
            columns: columns.to_vec(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, fields: Vec<Field>) {
        self.rows.push(fields);
    }

    /// Leaves out the columns that say nothing and those that do not fit. Returns how wide each that is left may be.
    fn shrink(&mut self, width: Option<u16>) -> Vec<usize> {
        if self.columns.is_empty() {
            return Vec::new();
        }
        let kept = fit(&self.columns, &self.rows, width);
        let is_kept = |at: usize| kept.iter().any(|(kept, _)| *kept == at);
        for row in &mut self.rows {
            let mut at = 0;
            row.retain(|_| {
                at += 1;
                is_kept(at - 1)
            });
        }
        self.header = kept.iter().map(|(at, _)| self.header[*at]).collect();
        kept.into_iter().map(|(_, width)| width).collect()
    }

    /// The table as text without a final line break. `width`: cut to so many columns; `None`: as wide as it gets.
    pub(crate) fn render(mut self, width: Option<u16>, color: bool) -> String {
        let widths = self.shrink(width);
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
        let last = widths.len().saturating_sub(1);
        for (at, column) in table.column_iter_mut().enumerate() {
            let gap = if widths.is_empty() || at < last { 2 } else { 0 };
            column.set_padding((0, gap));
            if let Some(width) = widths.get(at) {
                let width = u16::try_from(*width)
                    .unwrap_or(u16::MAX)
                    .saturating_add(gap);
                column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
            }
        }
        table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Which columns are shown, and how wide: those in which a row says something, without those that do not fit, which go by
/// rank. What is left over goes to the elastic ones from left to right.
pub(crate) fn fit(
    columns: &[Column],
    rows: &[Vec<Field>],
    width: Option<u16>,
) -> Vec<(usize, usize)> {
    let natural: Vec<usize> = (0..columns.len())
        .map(|at| {
            let title = columns[at].title.width();
            let cells = rows.iter().filter_map(|row| row.get(at));
            match cells.map(|(text, _)| plain(text).width()).max() {
                None => title,
                // Nothing in any row.
                Some(0) => 0,
                Some(widest) => widest.max(title),
            }
        })
        .collect();
    let least = |at: usize| {
        if columns[at].elastic {
            natural[at].min(ELASTIC_MIN)
        } else {
            natural[at]
        }
    };
    let need = |kept: &[usize]| {
        kept.iter().map(|at| least(*at)).sum::<usize>() + GAP * kept.len().saturating_sub(1)
    };
    let room = width.map_or(usize::MAX, usize::from);
    let mut kept: Vec<usize> = (0..natural.len()).filter(|at| natural[*at] > 0).collect();
    while need(&kept) > room {
        let last = kept.iter().copied().max_by_key(|at| columns[*at].rank);
        match last.filter(|at| columns[*at].rank > 0) {
            Some(last) => kept.retain(|at| *at != last),
            None => break,
        }
    }
    let mut spare = room.saturating_sub(need(&kept));
    let widths = kept.into_iter().map(|at| {
        let more = (natural[at] - least(at)).min(spare);
        spare -= more;
        (at, least(at) + more)
    });
    widths.collect()
}

/// Breaks text at words so that no line is wider than `width`; all lines but the first begin with `indent` blanks. What
/// is longer than a line is broken anywhere. Without a width, the text as it is.
pub(crate) fn wrap(text: &str, width: Option<u16>, indent: usize) -> Vec<String> {
    let Some(width) = width.map(usize::from) else {
        return text.split('\n').map(str::to_owned).collect();
    };
    // On a screen that narrow an indent is a luxury.
    let indent = if indent * 2 > width { 0 } else { indent };
    let mut lines = Vec::new();
    for (at, whole) in text.split('\n').enumerate() {
        let mut line = if at == 0 {
            String::new()
        } else {
            " ".repeat(indent)
        };
        let mut is_bare = true;
        for word in whole.split_inclusive(' ') {
            let shown = word.trim_end_matches(' ').width();
            if !is_bare && line.width() + shown > width {
                lines.push(line.trim_end().to_owned());
                line = " ".repeat(indent);
            }
            for c in word.chars() {
                if c != ' ' && line.width() + c.width().unwrap_or(0) > width {
                    lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
                }
                line.push(c);
            }
            is_bare = false;
        }
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// Lines of text for people under construction: each thing said begins on a new line and is broken at words.
#[derive(Debug)]
pub(crate) struct Paper {
    /// Nothing is wider; `None`: nothing is broken.
    pub(crate) width: Option<u16>,
    /// Whether what is painted is coloured.
    pub(crate) color: bool,
    /// What was said so far.
    pub(crate) lines: Vec<String>,
}

impl Paper {
    /// An empty one.
    pub(crate) fn new(width: Option<u16>, color: bool) -> Self {
        Self {
            width,
            color,
            lines: Vec::new(),
        }
    }

    /// Says something: `head` is painted, what does not fit goes on below with `indent` blanks before it.
    pub(crate) fn say(&mut self, paint: Paint, head: &str, text: &str, indent: usize) {
        let whole = wrap(&format!("{head}{text}"), self.width, indent);
        for (at, line) in whole.into_iter().enumerate() {
            self.lines.push(match line.strip_prefix(head) {
                Some(rest) if at == 0 => format!("{}{rest}", paint.on(head, self.color)),
                Some(_) | None => line,
            });
        }
    }
}

/// Cuts a line to `width`, with a sign that it was cut.
pub(crate) fn cut(line: &str, width: Option<u16>) -> String {
    let Some(width) = width.map(usize::from).filter(|width| line.width() > *width) else {
        return line.to_owned();
    };
    let mut room = width.saturating_sub(1);
    let mut short: String = line
        .chars()
        .take_while(|c| {
            let wide = c.width().unwrap_or(0);
            let fits = wide <= room;
            room = room.saturating_sub(wide);
            fits
        })
        .collect();
    short.push('…');
    short
}

/// The width of the terminal on stdout, or 80.
pub(crate) fn terminal_width() -> u16 {
    terminal_size().0
}

/// Columns and rows of the terminal on stdout, or 80 and 24.
pub(crate) fn terminal_size() -> (u16, u16) {
    // Some that are no terminals for people say 0.
    match rustix::termios::tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_col >= 20 && size.ws_row >= 2 => (size.ws_col, size.ws_row),
        Ok(_) | Err(_) => (80, 24),
    }
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
        Paint::Hue(_) => cell.fg(Color::Cyan),
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
    fn columns_go_by_rank_and_empty_ones_always() {
        let sheet = || {
            let mut sheet = Sheet::ranked(&[
                Column::elastic("SERVER", 0),
                Column::new("STATE", 0),
                Column::new("SINCE", 1),
                Column::new("NEXT", 2),
                Column::elastic("NOTE", 3),
            ]);
            sheet.row(vec![
                ("a-server-with-quite-a-name".into(), Paint::Bold),
                ("connected".into(), Paint::Good),
                ("3m 5s".into(), Paint::Plain),
                (String::new(), Paint::Plain),
                ("something to say that is long".into(), Paint::Dim),
            ]);
            sheet
        };
        let header = |width| {
            let text = sheet().render(width, false);
            for line in text.lines() {
                assert!(line.width() <= width.map_or(200, usize::from), "{text}");
            }
            assert_eq!(text.lines().count(), 2, "{text}");
            let header: Vec<String> = text
                .lines()
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect();
            header.join(" ")
        };
        assert_eq!(header(None), "SERVER STATE SINCE NOTE");
        assert_eq!(header(Some(80)), "SERVER STATE SINCE NOTE");
        assert_eq!(header(Some(40)), "SERVER STATE SINCE");
        assert_eq!(header(Some(26)), "SERVER STATE");
        assert!(
            sheet()
                .render(Some(80), false)
                .contains("a-server-with-quite-a-name  connected")
        );
    }

    #[test]
    fn text_is_broken_at_words_and_long_words_anywhere() {
        let text = "mend what is broken: https://example.com/a/very/long/path and restart";
        let lines = wrap(text, Some(24), 2);
        assert_eq!(
            lines,
            [
                "mend what is broken:",
                "  https://example.com/a/",
                "  very/long/path and",
                "  restart"
            ]
        );
        assert_eq!(wrap("one\ntwo", None, 2), ["one", "two"]);
        assert_eq!(cut("abcdef", Some(4)), "abc…");
        assert_eq!(cut("日本語", Some(4)), "日…");
        assert_eq!(cut("abcd", Some(4)), "abcd");
    }
}
