//! What is drawn, on a screen that is none.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::super::keys::press;
use super::super::model::{Ask, Model, News};
use super::*;
use crate::cli::top::Sort;

const NOW: u64 = 1_795_299_303_000;

fn server(name: &str, state: &str, calls: u64) -> Value {
    json!({
        "name": name, "state": state, "word": state, "generation": 3, "sinceMs": 65_000, "tools": 2, "transport": "stdio",
        "protocol": "2025-11-25", "era": "legacy", "counts": {}, "calls": { "total": calls, "p50Ms": 3.0, "p95Ms": 12.3 },
        "inFlight": 2,
    })
}

fn status() -> Value {
    let mut status = json!({ "version": "1.2.3", "uptimeMs": 7_300_000, "sessions": 1, "servers": [
        server("alpha", "connected", 3), server("beta", "parked", 40), server("gamma", "disabled", 5),
    ] });
    status["servers"][1]["lastFailure"] =
        json!({ "kind": "exited-early", "detail": "ended with code 3", "agoMs": 65_000 });
    status
}

fn model() -> Model {
    let mut model = Model::new(Sort::Name, String::new(), NOW);
    model.news(News::Status(status()));
    model
}

fn keys(model: &mut Model, codes: &[KeyCode]) -> Option<Ask> {
    let mut ask = None;
    for code in codes {
        ask = press(model, KeyEvent::new(*code, KeyModifiers::NONE));
    }
    ask
}

fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, true)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    (0..height)
        .map(|y| {
            let row: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            row.trim_end().to_owned()
        })
        .collect()
}

#[track_caller]
fn shows(screen: &[String], parts: &[&str]) {
    let text = screen.join("\n");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing on\n{text}");
    }
}

#[test]
fn servers_are_shown_at_every_size_that_a_terminal_can_have() {
    let mut model = model();
    model.news(News::Detail(
        json!({ "status": server("alpha", "connected", 3) }),
    ));
    let small = screen(&model, 40, 10);
    shows(
        &small,
        &["SERVER", "STATE", "alpha", "connected", "details", "? keys"],
    );
    shows(
        &screen(&model, 80, 24),
        &["P50/P95", "3 ms/12 ms", "alpha: connected for 1m 5s"],
    );
    shows(
        &screen(&model, 200, 50),
        &[
            "NOTE",
            "ended with code 3",
            "legacy 2025-11-25",
            "3 servers: 1 connected",
        ],
    );
    for width in [1, 19, 20, 21, 40, 43, 44, 60] {
        for height in [1, 3, 4, 5, 8, 9, 10, 20] {
            for pane in Pane::ALL {
                model.pane = pane;
                for mode in [
                    Mode::Choose,
                    Mode::Help,
                    Mode::Filter,
                    Mode::Confirm(Order::Restart, "alpha".to_owned()),
                ] {
                    model.mode = mode;
                    let _drawn = screen(&model, width, height);
                }
            }
        }
    }
}

#[test]
fn sorting_puts_first_what_is_looked_for() {
    let mut model = model();
    let order = |model: &Model| -> Vec<String> {
        model
            .rows()
            .iter()
            .map(|row| row.name().to_owned())
            .collect()
    };
    assert_eq!(order(&model), ["alpha", "beta", "gamma"]);
    keys(&mut model, &[KeyCode::Char('c')]);
    assert_eq!(order(&model), ["beta", "gamma", "alpha"]);
    keys(&mut model, &[KeyCode::Char('R')]);
    assert_eq!(order(&model), ["alpha", "gamma", "beta"]);
    keys(&mut model, &[KeyCode::Char('R'), KeyCode::Char('t')]);
    assert_eq!(
        order(&model),
        ["beta", "alpha", "gamma"],
        "what is broken comes first"
    );
    keys(&mut model, &[KeyCode::Char('s')]);
    assert_eq!(model.sort, Sort::Since);
    keys(&mut model, &[KeyCode::Char('S'), KeyCode::Char('S')]);
    assert_eq!(model.sort, Sort::Name);
}

#[test]
fn the_selection_stays_on_its_server_and_in_sight() {
    let mut model = model();
    assert_eq!(model.selected(), Some("alpha"));
    keys(&mut model, &[KeyCode::Down]);
    assert_eq!(model.selected(), Some("beta"));
    keys(&mut model, &[KeyCode::Char('c'), KeyCode::Char('R')]);
    assert_eq!(
        model.selected(),
        Some("beta"),
        "sorting selects nothing else"
    );
    keys(&mut model, &[KeyCode::Home, KeyCode::Up]);
    assert_eq!(model.selected(), Some("alpha"));
    keys(&mut model, &[KeyCode::End, KeyCode::Down]);
    assert_eq!(model.selected(), Some("beta"));
    // Many servers, few lines.
    let many: Vec<Value> = (0..50)
        .map(|at| server(&format!("s{at:02}"), "connected", 0))
        .collect();
    model.news(News::Status(json!({ "servers": many })));
    keys(
        &mut model,
        &[KeyCode::Char('R'), KeyCode::Char('n'), KeyCode::End],
    );
    assert_eq!(
        model.selected(),
        Some("s49"),
        "the selected one is gone, another is selected"
    );
    shows(&screen(&model, 40, 10), &["s49"]);
}

#[test]
fn what_hurts_is_asked_first() {
    let mut model = model();
    assert_eq!(keys(&mut model, &[KeyCode::Char('r')]), None);
    shows(
        &screen(&model, 80, 24),
        &["restart `alpha`? y/n 2 calls are running."],
    );
    assert_eq!(keys(&mut model, &[KeyCode::Char('n')]), None);
    shows(&screen(&model, 80, 24), &["left as it is"]);
    let order = keys(&mut model, &[KeyCode::Char('d'), KeyCode::Char('y')]);
    assert_eq!(order, Some(Ask::Order(Order::Disable, "alpha".to_owned())));
    // One that is down loses nothing.
    let order = keys(&mut model, &[KeyCode::Down, KeyCode::Char('r')]);
    assert_eq!(order, Some(Ask::Order(Order::Restart, "beta".to_owned())));
    let order = keys(&mut model, &[KeyCode::Down, KeyCode::Char('e')]);
    assert_eq!(order, Some(Ask::Order(Order::Enable, "gamma".to_owned())));
    model.news(News::Failed("no server is named `gamma`".to_owned()));
    shows(&screen(&model, 80, 24), &["no server is named `gamma`"]);
    model.now(NOW + 60_000);
    shows(&screen(&model, 80, 24), &["? keys"]);
}

#[test]
fn a_filter_narrows_while_it_is_typed() {
    let mut model = model();
    keys(
        &mut model,
        &[
            KeyCode::Char('/'),
            KeyCode::Char('P'),
            KeyCode::Char('a'),
            KeyCode::Char('r'),
        ],
    );
    let drawn = screen(&model, 80, 24);
    shows(&drawn, &["beta", "/Par_"]);
    assert!(!drawn.join("\n").contains("alpha"), "{drawn:#?}");
    assert_eq!(model.selected(), Some("beta"));
    keys(&mut model, &[KeyCode::Char('x')]);
    shows(&screen(&model, 80, 24), &["no server passes the filter"]);
    // `q` is a letter here.
    assert_eq!(keys(&mut model, &[KeyCode::Char('q'), KeyCode::Esc]), None);
    assert_eq!(model.rows().len(), 3);
    assert_eq!(keys(&mut model, &[KeyCode::Char('q')]), Some(Ask::Leave));
}

#[test]
fn panes_follow_their_end_and_scroll_back() {
    let mut model = model();
    for at in 0..40_u64 {
        let server = if at % 2 == 0 { "alpha" } else { "beta" };
        model.news(News::Event(json!({ "atUnixMs": NOW - 1_000_000 + at, "server": server, "type": "retracted", "version": at,
            "detail": format!("n{at}") })));
        model.news(News::Call(
            json!({ "atUnixMs": NOW - 1_000_000 + at, "server": server, "method": "tools/call",
            "tool": format!("tool{at}"), "outcome": "answered", "servedMs": 5 }),
        ));
    }
    // Told again by the next connection: known.
    model.news(News::Call(
        json!({ "atUnixMs": NOW - 1_000_000 + 39, "server": "beta", "method": "tools/call",
        "tool": "tool39", "outcome": "answered", "servedMs": 5 }),
    ));
    assert_eq!(model.calls.len(), 40);
    keys(&mut model, &[KeyCode::Char('4')]);
    shows(
        &screen(&model, 80, 24),
        &["TOOL", "tool39", "of all servers"],
    );
    keys(&mut model, &[KeyCode::PageUp, KeyCode::PageUp]);
    let back = screen(&model, 80, 24);
    shows(&back, &["tool29"]);
    assert!(!back.join("\n").contains("tool39"), "{back:#?}");
    // What comes meanwhile moves nothing.
    model.news(News::Call(json!({ "atUnixMs": NOW, "server": "beta", "method": "tools/call", "tool": "tool40", "outcome": "unknown" })));
    assert_eq!(screen(&model, 80, 24)[10..23], back[10..23]);
    keys(&mut model, &[KeyCode::Char('a')]);
    shows(&screen(&model, 80, 24), &["of alpha", "tool38"]);
    keys(&mut model, &[KeyCode::Char('2')]);
    shows(&screen(&model, 80, 24), &["unpublished"]);
    keys(&mut model, &[KeyCode::Char('3')]);
    shows(&screen(&model, 80, 24), &["nothing to stderr"]);
    assert_eq!(model.log_wanted(), Some("alpha"));
    model.news(News::LogsOf("alpha".to_owned()));
    model.news(News::Line("alpha".to_owned(), "hello\u{1b}[2J".to_owned()));
    model.news(News::Line("beta".to_owned(), "not mine".to_owned()));
    let logs = screen(&model, 80, 24);
    shows(&logs, &["hello [2J"]);
    assert!(!logs.join("\n").contains("not mine"), "{logs:#?}");
}

#[test]
fn a_mainstay_that_is_away_and_a_refused_configuration_are_told_above_all() {
    let mut model = model();
    model.news(News::Away);
    model.now(NOW + 5_000);
    model.news(News::Away);
    shows(
        &screen(&model, 80, 24),
        &["no Mainstay is running (for 5 s)", "alpha"],
    );
    let mut status = status();
    status["config"] = json!({ "lastReload": { "ok": false, "atUnixMs": NOW - 180_000, "problems": [{ "message": "`x` is no key" }] } });
    model.news(News::Status(status));
    shows(
        &screen(&model, 80, 24),
        &[
            "configuration refused 3 min ago: `x` is no key",
            "Mainstay is back",
        ],
    );
}

#[test]
fn without_colour_nothing_is_coloured() {
    let model = model();
    for color in [true, false] {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &model, color)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let coloured = buffer
            .content()
            .iter()
            .any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        assert_eq!(coloured, color);
    }
}
