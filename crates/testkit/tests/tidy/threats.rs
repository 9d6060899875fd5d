//! The threat model names tests, and every test that it names exists.

use std::collections::BTreeSet;
use std::fs;

use super::{root, rust};

/// The names of all functions that are tests.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, text) in rust() {
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some(rest) = line.strip_prefix("async fn ").or(line.strip_prefix("fn ")) {
                if is_test {
                    let name = rest.split(['(', '<']).next().unwrap_or_default();
                    found.insert(name.to_owned());
                }
                is_test = false;
            }
        }
    }
    found
}

/// The rows of the tables with a column of tests: the threat, and the tests.
fn threats(page: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut in_table = false;
    for line in page.lines() {
        let cells: Vec<&str> = line
            .trim()
            .trim_matches('|')
            .split('|')
            .map(str::trim)
            .collect();
        if !line.starts_with('|') {
            in_table = false;
        } else if cells.last() == Some(&"tests") {
            in_table = true;
        } else if in_table && !line.starts_with("|---") {
            let named = cells.last().unwrap_or(&"").split('`').skip(1).step_by(2);
            found.push((cells[0].to_owned(), named.map(str::to_owned).collect()));
        }
    }
    found
}

#[test]
fn every_threat_has_a_test_and_every_test_of_the_threat_model_exists() {
    let page = fs::read_to_string(root().join("docs/threats.md")).unwrap();
    let (threats, tests) = (threats(&page), tests());
    assert!(threats.len() > 30, "{}", threats.len());
    let without: Vec<_> = threats
        .iter()
        .filter(|(_, named)| named.is_empty())
        .collect();
    assert!(without.is_empty(), "threats without a test: {without:#?}");
    let missing: Vec<_> = threats
        .iter()
        .flat_map(|(_, named)| named)
        .filter(|name| !tests.contains(*name))
        .collect();
    assert!(missing.is_empty(), "there are no such tests: {missing:#?}");
}

#[test]
fn a_threat_without_a_test_would_be_noticed() {
    let page = "| threat | what is done | tests |\n|---|---|---|\n| a | b | `one`, `two` |\n| c | d | |\n\n| x | y |\n| `no` | z |\n";
    let expected = [
        ("a".to_owned(), vec!["one".to_owned(), "two".to_owned()]),
        ("c".to_owned(), Vec::new()),
    ];
    assert_eq!(threats(page), expected);
}
