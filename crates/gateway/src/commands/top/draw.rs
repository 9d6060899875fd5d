//! Draws the model, and nothing else: the same model and the same area give the same screen. Fits whatever area there is.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::keys::HELP;
use super::model::{Mode, Model, Pane};
use crate::cli::human;
use crate::cli::output::Paint;
use crate::cli::table::{cut, fit, plain, wrap};
use crate::commands::operate::Order;
use crate::commands::view::{COLUMNS, View, footer, state_paint};
use crate::commands::{calls, describe, events};

/// Less than this shows nothing useful.
const LEAST: (u16, u16) = (20, 4);

/// From this height on there is room for a pane below the servers.
const PANE_FROM: u16 = 9;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, color: bool) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = cut("too small", Some(area.width));
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let pen = Pen {
        width: area.width,
        color,
    };
    let warning = config_warning(model);
    let above = 1 + u16::from(warning.is_some());
    let body = area.height.saturating_sub(above + 1);
    let rows = model.rows();
    let wanted = u16::try_from(rows.len() + 1).unwrap_or(u16::MAX);
    let table = if area.height < PANE_FROM {
        body
    } else {
        wanted.clamp(3, body.saturating_sub(body / 2))
    };
    let [top, servers, tabs, pane, bottom] = Layout::vertical([
        Constraint::Length(above),
        Constraint::Length(table),
        Constraint::Length(u16::from(area.height >= PANE_FROM)),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    let mut head = vec![pen.header(model)];
    head.extend(warning.map(|text| pen.line(&text, Paint::Bad)));
    frame.render_widget(Paragraph::new(head), top);
    frame.render_widget(
        Paragraph::new(pen.table(model, &rows, servers.height)),
        servers,
    );
    frame.render_widget(Paragraph::new(pen.tabs(model)), tabs);
    frame.render_widget(Paragraph::new(pen.pane(model, pane.height)), pane);
    frame.render_widget(Paragraph::new(pen.bottom(model)), bottom);
    if model.mode == Mode::Help {
        help(frame, area, pen);
    }
}

/// How things are drawn.
#[derive(Debug, Clone, Copy)]
struct Pen {
    width: u16,
    color: bool,
}

impl Pen {
    fn style(self, paint: Paint) -> Style {
        let style = Style::new();
        let colored = |color| if self.color { style.fg(color) } else { style };
        match paint {
            Paint::Plain => style,
            Paint::Good => colored(Color::Green),
            Paint::Warn => colored(Color::Yellow),
            Paint::Bad => colored(Color::Red),
            Paint::Dim => style.add_modifier(Modifier::DIM),
            Paint::Bold => style.add_modifier(Modifier::BOLD),
            Paint::Hue(_) => colored(Color::Cyan),
        }
    }

    fn line(self, text: &str, paint: Paint) -> Line<'static> {
        Line::styled(cut(&plain(text), Some(self.width)), self.style(paint))
    }

    fn header(self, model: &Model) -> Line<'static> {
        if let Some(since) = model.away_since_ms {
            let away = human::span(model.now_unix_ms.saturating_sub(since));
            let text = format!("no Mainstay is running (for {away}), waiting for it to come back");
            return self.line(&text, Paint::Bad);
        }
        let mut text = footer(&model.status);
        if !model.filter.is_empty() {
            text = format!("filter `{}`; {text}", model.filter);
        }
        self.line(&text, Paint::Bold)
    }

    fn table(self, model: &Model, rows: &[View<'_>], height: u16) -> Vec<Line<'static>> {
        let fields: Vec<_> = rows.iter().map(|row| row.row(Some(self.width))).collect();
        let columns = fit(&COLUMNS, &fields, Some(self.width));
        let mut header = Vec::new();
        for (at, width) in &columns {
            let title = COLUMNS[*at].title;
            let mut style = self.style(Paint::Bold);
            if title == model.sort.title() {
                style = style.add_modifier(Modifier::UNDERLINED);
            }
            header.push(Span::styled(cut(title, u16::try_from(*width).ok()), style));
            let gap = width.saturating_sub(title.width()) + 2;
            header.push(Span::raw(" ".repeat(gap)));
        }
        let mut lines = vec![Line::from(header)];
        let room = usize::from(height.saturating_sub(1));
        let selected = model.selected_at();
        // The selected one is always to be seen, and the list does not move before it must.
        let first = selected.map_or(0, |at| (at + 1).saturating_sub(room));
        for (at, row) in fields.iter().enumerate().skip(first).take(room) {
            let cells = columns.iter().map(|(column, width)| {
                let (text, paint) = &row[*column];
                let text = cut(&plain(text), u16::try_from(*width).ok());
                let gap = width.saturating_sub(text.width()) + 2;
                Span::styled(format!("{text}{}", " ".repeat(gap)), self.style(*paint))
            });
            let mut line = Line::from(cells.collect::<Vec<_>>());
            if selected == Some(at) {
                line = line.style(Style::new().add_modifier(Modifier::REVERSED));
            }
            lines.push(line);
        }
        if rows.is_empty() {
            let text = if model.filter.is_empty() {
                "no servers are configured"
            } else {
                "no server passes the filter; Esc drops it"
            };
            lines.push(self.line(text, Paint::Dim));
        }
        lines
    }

    /// The names of the panes, the open one marked.
    fn tabs(self, model: &Model) -> Line<'static> {
        let mut spans = Vec::new();
        for (at, pane) in Pane::ALL.into_iter().enumerate() {
            let text = if self.width < 44 {
                format!(" {} ", pane.title())
            } else {
                format!(" {} {} ", at + 1, pane.title())
            };
            let style = if pane == model.pane {
                Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD)
            } else {
                self.style(Paint::Dim)
            };
            spans.push(Span::styled(text, style));
        }
        let whose = match model.pane {
            Pane::Events | Pane::Calls if !model.narrowed => "of all servers".to_owned(),
            Pane::Details | Pane::Logs | Pane::Events | Pane::Calls => {
                format!("of {}", plain(model.selected().unwrap_or("none")))
            }
        };
        spans.push(Span::styled(format!("  {whose}"), self.style(Paint::Dim)));
        Line::from(spans)
    }

    fn pane(self, model: &Model, height: u16) -> Vec<Line<'static>> {
        let room = usize::from(height);
        match model.pane {
            Pane::Details => self.details(model, room),
            Pane::Events => self.events(model, room),
            Pane::Logs => self.logs(model, room),
            Pane::Calls => self.calls(model, room),
        }
    }

    fn details(self, model: &Model, room: usize) -> Vec<Line<'static>> {
        let is_of_selected = model.detail["status"]["name"].as_str() == model.selected();
        if !is_of_selected || model.selected().is_none() {
            return Vec::new();
        }
        let lines = describe::page(&model.detail, Some(self.width), false);
        let first = model.scroll.min(lines.len().saturating_sub(room));
        let paint = |line: &str| {
            if line.trim_start().starts_with("to do ") {
                Paint::Bold
            } else if line.trim_start().starts_with("last failure ") {
                Paint::Warn
            } else {
                Paint::Plain
            }
        };
        let shown = lines.iter().skip(first).take(room);
        shown.map(|line| self.line(line, paint(line))).collect()
    }

    fn events(self, model: &Model, room: usize) -> Vec<Line<'static>> {
        let wanted = room + model.scroll;
        let shown: Vec<&Value> = model
            .events
            .iter()
            .rev()
            .filter(|event| model.shows(event))
            .take(wanted)
            .collect();
        let mut lines = Vec::new();
        let mut told = events::Told::default();
        for event in shown.into_iter().rev() {
            let event = told.shortened(event);
            let paint = match event["to"].as_str().map(state_paint) {
                Some(paint @ (Paint::Bad | Paint::Warn | Paint::Good)) => paint,
                Some(_) | None => Paint::Plain,
            };
            for line in events::lines(&event, false, model.now_unix_ms, Some(self.width), false) {
                lines.push(self.line(&line, paint));
            }
        }
        self.end(lines, room, model.scroll, "nothing happened yet")
    }

    fn logs(self, model: &Model, room: usize) -> Vec<Line<'static>> {
        let is_of_selected = model.lines_of.as_deref() == model.selected();
        let lines = model
            .lines
            .iter()
            .filter(|_| is_of_selected)
            .flat_map(|line| wrap(&plain(line), Some(self.width), 2))
            .map(|line| self.line(&line, Paint::Plain))
            .collect();
        self.end(
            lines,
            room,
            model.scroll,
            "it has written nothing to stderr",
        )
    }

    fn calls(self, model: &Model, room: usize) -> Vec<Line<'static>> {
        let wanted = room + model.scroll;
        let mut shown: Vec<Value> = model
            .calls
            .iter()
            .rev()
            .filter(|call| model.shows(call))
            .take(wanted)
            .cloned()
            .collect();
        if shown.is_empty() {
            return vec![self.line("no call was made yet", Paint::Dim)];
        }
        shown.reverse();
        let text = calls::table(&shown, model.now_unix_ms, Some(self.width), false);
        let mut lines = text.lines();
        let mut all = vec![self.line(lines.next().unwrap_or_default(), Paint::Bold)];
        let rest = lines.zip(&shown).map(|(line, call)| {
            let outcome = call["outcome"].as_str().unwrap_or_default();
            let mut paint = calls::outcome_paint(outcome);
            if matches!(paint, Paint::Good) {
                paint = Paint::Plain;
            }
            self.line(line, paint)
        });
        let rest = rest.collect();
        all.extend(self.end(rest, room.saturating_sub(1), model.scroll, ""));
        all
    }

    /// The last lines, or those before them.
    fn end(
        self,
        mut lines: Vec<Line<'static>>,
        room: usize,
        scroll: usize,
        nothing: &str,
    ) -> Vec<Line<'static>> {
        if lines.is_empty() {
            return vec![self.line(nothing, Paint::Dim)];
        }
        let end = lines
            .len()
            .saturating_sub(scroll)
            .max(room.min(lines.len()));
        lines.truncate(end);
        lines.drain(..lines.len().saturating_sub(room));
        lines
    }

    /// What is asked, what was done, or what can be done.
    fn bottom(self, model: &Model) -> Line<'static> {
        match &model.mode {
            Mode::Filter => self.line(&format!("/{}_", model.filter), Paint::Bold),
            Mode::Confirm(order, name) => {
                let running = model
                    .selected_view()
                    .and_then(|server| server.0["inFlight"].as_u64())
                    .unwrap_or_default();
                let calls = match running {
                    0 => String::new(),
                    1 => " 1 call is running.".to_owned(),
                    many => format!(" {many} calls are running."),
                };
                let what = match order {
                    Order::Restart => "restart",
                    Order::Enable => "enable",
                    Order::Disable => "disable",
                };
                self.line(&format!("{what} `{name}`? y/n{calls}"), Paint::Warn)
            }
            Mode::Choose | Mode::Help => match model.said() {
                Some((text, paint)) => self.line(text, paint),
                None => self.line(
                    "? keys  q leave  Tab pane  / filter  s sort  r restart  e enable  d disable  a all/one  PgUp PgDn scroll",
                    Paint::Dim,
                ),
            },
        }
    }
}

/// That the configuration on disk is not the one in force.
fn config_warning(model: &Model) -> Option<String> {
    let reload = &model.status["config"]["lastReload"];
    if reload["ok"] != false {
        return None;
    }
    let first = &reload["problems"][0];
    let problem = first["message"]
        .as_str()
        .or(first.as_str())
        .unwrap_or_default();
    let when = reload["atUnixMs"]
        .as_u64()
        .map(|at| human::since(at, model.now_unix_ms));
    Some(format!(
        "configuration refused {}: {problem}",
        when.unwrap_or_default()
    ))
}

/// The keys, over everything else.
fn help(frame: &mut Frame<'_>, area: Rect, pen: Pen) {
    let keys = HELP
        .iter()
        .map(|(keys, _)| keys.width())
        .max()
        .unwrap_or_default();
    let lines: Vec<String> = HELP
        .iter()
        .map(|(key, what)| format!("{key:keys$}  {what}"))
        .collect();
    let widest = lines
        .iter()
        .map(|line| line.width())
        .max()
        .unwrap_or_default();
    let width = u16::try_from(widest + 4)
        .unwrap_or(u16::MAX)
        .min(area.width);
    let height = u16::try_from(lines.len() + 2)
        .unwrap_or(u16::MAX)
        .min(area.height);
    let over = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let inner = width.saturating_sub(4);
    let text: Vec<Line<'_>> = lines
        .iter()
        .map(|line| Line::styled(cut(line, Some(inner)), pen.style(Paint::Plain)))
        .collect();
    let block = Block::bordered()
        .title(" keys ")
        .padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Clear, over);
    frame.render_widget(Paragraph::new(text).block(block), over);
}

#[cfg(test)]
mod tests;
