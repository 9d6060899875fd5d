//! What every key of `top` does.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Ask, Mode, Model, Pane};
use crate::cli::output::Paint;
use crate::cli::top::Sort;
use crate::commands::operate::Order;

/// The keys, as the help shows them.
pub(super) const HELP: [(&str, &str); 16] = [
    ("up down k j", "choose a server"),
    ("Home End", "the first, the last"),
    ("Tab 1 2 3 4", "details, events, logs, calls"),
    ("PgUp PgDn", "scroll the pane"),
    ("a", "events and calls: of all, or of this one"),
    ("r", "restart the server"),
    ("e", "enable it"),
    ("d", "disable it"),
    ("s S", "sort by the next column, the one before"),
    ("R", "reverse the order"),
    ("n t c l f", "sort by name, state, calls, latency, failed"),
    ("m p", "sort by memory, processor"),
    ("/", "filter by name, state or transport"),
    ("Esc", "drop the filter, close what is open"),
    ("? h", "these keys"),
    ("q Ctrl-C", "leave"),
];

/// Lines that one page of a pane scrolls.
const PAGE: usize = 5;

/// A key was pressed.
pub(super) fn press(model: &mut Model, key: KeyEvent) -> Option<Ask> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(key.code, KeyCode::Char('c' | 'd' | 'q')).then_some(Ask::Leave);
    }
    match model.mode.clone() {
        Mode::Choose => choose(model, key.code),
        Mode::Help => {
            model.mode = Mode::Choose;
            None
        }
        Mode::Filter => {
            filter(model, key.code);
            None
        }
        Mode::Confirm(order, name) => {
            model.mode = Mode::Choose;
            if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                return Some(Ask::Order(order, name));
            }
            model.say("left as it is", Paint::Dim);
            None
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all the other keys of a keyboard mean nothing here"
)]
fn filter(model: &mut Model, key: KeyCode) {
    match key {
        KeyCode::Char(c) => model.filter.push(c),
        KeyCode::Backspace => {
            model.filter.pop();
        }
        KeyCode::Esc => {
            model.filter.clear();
            model.mode = Mode::Choose;
        }
        KeyCode::Up => model.step(-1),
        KeyCode::Down => model.step(1),
        KeyCode::Enter | KeyCode::Tab => model.mode = Mode::Choose,
        _other => {}
    }
    model.keep_selected();
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all the other keys of a keyboard mean nothing here"
)]
fn choose(model: &mut Model, key: KeyCode) -> Option<Ask> {
    match key {
        KeyCode::Char('q') => return Some(Ask::Leave),
        KeyCode::Esc => {
            model.filter.clear();
            model.scroll = 0;
            model.keep_selected();
        }
        KeyCode::Up | KeyCode::Char('k') => model.step(-1),
        KeyCode::Down | KeyCode::Char('j') => model.step(1),
        KeyCode::Home | KeyCode::Char('g') => model.step(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => model.step(isize::MAX),
        KeyCode::PageUp => scroll(model, true),
        KeyCode::PageDown => scroll(model, false),
        KeyCode::Tab => turn(model, 1),
        KeyCode::BackTab => turn(model, Pane::ALL.len() - 1),
        KeyCode::Char(digit @ '1'..='4') => {
            let at = usize::from(digit as u8 - b'1');
            open(model, Pane::ALL[at]);
        }
        KeyCode::Char('a') => {
            model.narrowed = !model.narrowed;
            model.scroll = 0;
        }
        KeyCode::Char('/') => model.mode = Mode::Filter,
        KeyCode::Char('?' | 'h') => model.mode = Mode::Help,
        KeyCode::Char('R') => model.reversed = !model.reversed,
        KeyCode::Char('s') => next_sort(model, 1),
        KeyCode::Char('S') => next_sort(model, Sort::ALL.len() - 1),
        KeyCode::Char('n') => model.sort = Sort::Name,
        KeyCode::Char('t') => model.sort = Sort::State,
        KeyCode::Char('c') => model.sort = Sort::Calls,
        KeyCode::Char('l') => model.sort = Sort::Latency,
        KeyCode::Char('f') => model.sort = Sort::Failed,
        KeyCode::Char('m') => model.sort = Sort::Memory,
        KeyCode::Char('p') => model.sort = Sort::Cpu,
        KeyCode::Char('r') => return order(model, Order::Restart),
        KeyCode::Char('e') => return order(model, Order::Enable),
        KeyCode::Char('d') => return order(model, Order::Disable),
        _other => {}
    }
    None
}

/// An order about the selected server: at once if it hurts nobody, else after a question.
fn order(model: &mut Model, order: Order) -> Option<Ask> {
    let Some(server) = model.selected_view() else {
        model.say("no server is selected", Paint::Warn);
        return None;
    };
    let name = server.name().to_owned();
    let hurts = match order {
        Order::Enable => false,
        // One that is down loses nothing by being tried again.
        Order::Restart => server.state() == "connected",
        Order::Disable => server.state() != "disabled",
    };
    if hurts {
        model.mode = Mode::Confirm(order, name);
        return None;
    }
    Some(Ask::Order(order, name))
}

fn turn(model: &mut Model, by: usize) {
    let at = Pane::ALL.iter().position(|pane| *pane == model.pane);
    let next = (at.unwrap_or_default() + by) % Pane::ALL.len();
    open(model, Pane::ALL[next]);
}

fn open(model: &mut Model, pane: Pane) {
    model.pane = pane;
    model.scroll = 0;
}

/// Up means: to what is above. Followed panes count from their end, the details from their beginning.
fn scroll(model: &mut Model, up: bool) {
    let is_followed = model.pane != Pane::Details;
    model.scroll = if up == is_followed {
        model.scroll.saturating_add(PAGE)
    } else {
        model.scroll.saturating_sub(PAGE)
    };
    let most = match model.pane {
        Pane::Details => 200,
        Pane::Events => model.events.len(),
        Pane::Logs => model.lines.len(),
        Pane::Calls => model.calls.len(),
    };
    model.scroll = model.scroll.min(most);
}

fn next_sort(model: &mut Model, by: usize) {
    let at = Sort::ALL.iter().position(|sort| *sort == model.sort);
    model.sort = Sort::ALL[(at.unwrap_or_default() + by) % Sort::ALL.len()];
}
