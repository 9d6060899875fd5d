//! The fault catalogue, the tests that name its rows, and the list of mutations that show that tests can fail.
//!
//! `docs/faults.md` is generated: `UPDATE_DOCS=1 cargo test -p mainstay-testkit --test tidy`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use super::{root, rust};

const CATALOGUE: &str = "crates/testkit/catalogue/faults.txt";
const MUTATIONS: &str = "crates/testkit/catalogue/mutations.txt";
const ROWS: u32 = 259;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Handled,
    Later,
    Elsewhere,
}

#[derive(Debug)]
struct Row {
    group: String,
    number: u32,
    status: Status,
    fault: String,
    answer: String,
    places: Vec<String>,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join(CATALOGUE)).unwrap();
    let mut group = String::new();
    let mut rows = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            group = line.replace(['[', ']'], "");
            continue;
        }
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        assert_eq!(fields.len(), 4, "four fields: {line}");
        let (number, status) = fields[0].split_once(' ').unwrap();
        rows.push(Row {
            group: group.clone(),
            number: number.parse().unwrap(),
            status: match status {
                "handled" => Status::Handled,
                "later" => Status::Later,
                "elsewhere" => Status::Elsewhere,
                other => unreachable!("status `{other}` of row {number}"),
            },
            fault: fields[1].to_owned(),
            answer: fields[2].to_owned(),
            places: fields[3].split_whitespace().map(str::to_owned).collect(),
        });
    }
    rows
}

/// Every test function in the tree, with the file it is in.
fn tests() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (path, text) in rust() {
        let place = path.strip_prefix(root()).unwrap().display().to_string();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            }
            let signature = line
                .strip_prefix("async fn ")
                .or_else(|| line.strip_prefix("fn "));
            if let (true, Some(signature)) = (is_test, signature) {
                let name = signature.split(['(', '<']).next().unwrap();
                found.push((name.to_owned(), place.clone()));
                is_test = false;
            }
        }
    }
    assert!(
        found.len() > 300,
        "the tests are not where they are looked for"
    );
    found
}

/// The rows that the name of a test names: `law_13_f62_f63_the_leader_dies` names 62 and 63.
fn named(test: &str) -> impl Iterator<Item = u32> {
    test.split('_')
        .filter_map(|word| word.strip_prefix('f')?.parse().ok())
        .filter(|row| (1..=ROWS).contains(row))
}

fn tests_by_row() -> BTreeMap<u32, Vec<(String, String)>> {
    let mut by_row: BTreeMap<u32, Vec<(String, String)>> = BTreeMap::new();
    for (test, place) in tests() {
        for row in named(&test) {
            by_row
                .entry(row)
                .or_default()
                .push((test.clone(), place.clone()));
        }
    }
    by_row
}

#[test]
fn every_row_is_proven_or_says_why_not() {
    let rows = rows();
    let numbers: Vec<u32> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=ROWS).collect::<Vec<_>>());
    let by_row = tests_by_row();
    let mut problems = Vec::new();
    for row in &rows {
        let tested = by_row.contains_key(&row.number);
        match row.status {
            Status::Handled => {
                if !tested {
                    problems.push(format!("{}: no test names f{}", row.fault, row.number));
                }
                if row.places.is_empty() {
                    problems.push(format!("{}: does not say where", row.number));
                }
            }
            Status::Later | Status::Elsewhere => {
                if tested {
                    problems.push(format!("{}: has a test, so it is handled", row.number));
                }
                if row.answer.is_empty() {
                    problems.push(format!("{}: does not say why", row.number));
                }
            }
        }
        for place in &row.places {
            if !root().join("crates").join(place).exists() {
                problems.push(format!("{}: there is no crates/{place}", row.number));
            }
        }
    }
    assert!(
        problems.is_empty(),
        "{} rows: {problems:#?}",
        problems.len()
    );
}

fn rendered() -> String {
    let rows = rows();
    let by_row = tests_by_row();
    let count = |status| rows.iter().filter(|row| row.status == status).count();
    let mut page = format!(
        "# The fault catalogue\n\nGenerated from `{CATALOGUE}` and the names of the tests; a test fails when this page is stale. Do not edit: \
         run\n`UPDATE_DOCS=1 cargo test -p mainstay-testkit --test tidy`.\n\nOf {ROWS} ways to break, {} are handled and proven by at least \
         one test that names the row (`f62_…`), {} are later\nwork, {} are not ours. `{MUTATIONS}` holds the breaks that show that \
         important tests can\nfail; `scripts/mutate` applies them.\n",
        count(Status::Handled),
        count(Status::Later),
        count(Status::Elsewhere),
    );
    let mut group = "";
    for row in &rows {
        if row.group != group {
            group = &row.group;
            let _ = write!(
                page,
                "\n## {group}\n\n| row | what goes wrong | what Mainstay does | where | tests |\n|---|---|---|---|---|\n"
            );
        }
        let places: Vec<String> = row
            .places
            .iter()
            .map(|place| format!("`{place}`"))
            .collect();
        let tests: Vec<String> = by_row
            .get(&row.number)
            .into_iter()
            .flatten()
            .map(|(test, place)| format!("`{test}` ({})", short(place)))
            .collect();
        let answer = match row.status {
            Status::Handled => row.answer.clone(),
            Status::Later => format!("**later:** {}", row.answer),
            Status::Elsewhere => format!("**not ours:** {}", row.answer),
        };
        let _ = writeln!(
            page,
            "| {} | {} | {answer} | {} | {} |",
            row.number,
            row.fault,
            places.join("<br>"),
            tests.join("<br>")
        );
    }
    page
}

fn short(place: &str) -> &str {
    place.strip_prefix("crates/").unwrap_or(place)
}

#[test]
fn the_page_of_the_catalogue_is_current() {
    let path = root().join("docs/faults.md");
    let rendered = rendered();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &rendered).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == rendered,
        "docs/faults.md is stale: run `UPDATE_DOCS=1 cargo test -p mainstay-testkit --test tidy`"
    );
}

/// A mutation whose text has moved proves nothing any more.
#[test]
fn every_mutation_still_applies_and_names_a_test_that_exists() {
    let text = fs::read_to_string(root().join(MUTATIONS)).unwrap();
    let tests = tests();
    let mut problems = Vec::new();
    let mut count = 0;
    for entry in text.split("\n== ").skip(1) {
        count += 1;
        let title = entry.lines().next().unwrap_or_default();
        let field = |key: &str| {
            let lines = entry.lines().filter_map(|line| line.strip_prefix(key));
            lines.collect::<Vec<_>>().join("\n")
        };
        let source = fs::read_to_string(root().join(field("file ").trim())).unwrap_or_default();
        let times = source.matches(&field("- ")).count();
        if field("- ").is_empty() || times != 1 {
            problems.push(format!("{title}: its text is found {times} times"));
        }
        let last = field("test ");
        let filter = last.split_whitespace().last().unwrap_or_default();
        let filter = filter.rsplit("::").next().unwrap_or_default();
        if !tests.iter().any(|(test, _)| test.contains(filter)) || filter.is_empty() {
            problems.push(format!("{title}: no test is called `{filter}`"));
        }
    }
    assert!(count > 0, "no mutation was read");
    assert!(problems.is_empty(), "{problems:#?}");
}
