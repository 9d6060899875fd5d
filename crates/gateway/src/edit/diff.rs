//! What an edit changes, as lines for people. Secrets in it are not shown (law 31).

use super::Node;
use crate::apps::secrets::{Vault, is_secret};

/// Lines around a change that are shown with it.
const CONTEXT: usize = 2;

/// Most pairs of lines that are compared; beyond, a change is one block.
const PAIRS_MAX: usize = 4_000_000;

/// Shortest literal that is hidden wherever it stands; shorter ones would blank out ordinary text.
const SECRET_CHARS_MIN: usize = 4;

/// One line of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'t> {
    Same(&'t str),
    Gone(&'t str),
    New(&'t str),
}

/// The changed lines with a few around them: `-` before, `+` after, `…` for what is left out. Empty when nothing changed.
pub(crate) fn lines(before: &str, after: &str) -> Vec<String> {
    let old: Vec<&str> = before.lines().collect();
    let new: Vec<&str> = after.lines().collect();
    let all = compare(&old, &new);
    let near = |at: usize| {
        let from = at.saturating_sub(CONTEXT);
        all.iter()
            .skip(from)
            .take(at - from + CONTEXT + 1)
            .any(|line| !matches!(line, Line::Same(_)))
    };
    let mut shown = Vec::new();
    let mut left_out = false;
    for (at, line) in all.iter().enumerate() {
        if !near(at) {
            left_out = true;
            continue;
        }
        if left_out {
            shown.push("  …".to_owned());
            left_out = false;
        }
        shown.push(match line {
            Line::Same(text) => format!("  {text}"),
            Line::Gone(text) => format!("- {text}"),
            Line::New(text) => format!("+ {text}"),
        });
    }
    if left_out && !shown.is_empty() {
        shown.push("  …".to_owned());
    }
    shown
}

fn compare<'t>(old: &[&'t str], new: &[&'t str]) -> Vec<Line<'t>> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let most = old.len().min(new.len()) - head;
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(most)
        .take_while(|(a, b)| a == b)
        .count();
    let same = |line: &&'t str| Line::Same(line);
    let mut all: Vec<Line<'t>> = old.iter().take(head).map(same).collect();
    let gone = old.get(head..old.len() - tail).unwrap_or_default();
    let come = new.get(head..new.len() - tail).unwrap_or_default();
    middle(gone, come, &mut all);
    all.extend(old.iter().skip(old.len() - tail).map(same));
    all
}

/// The longest common part of two blocks that begin and end differently.
fn middle<'t>(gone: &[&'t str], come: &[&'t str], all: &mut Vec<Line<'t>>) {
    if gone.len().saturating_mul(come.len()) > PAIRS_MAX {
        all.extend(gone.iter().map(|line| Line::Gone(line)));
        all.extend(come.iter().map(|line| Line::New(line)));
        return;
    }
    let width = come.len() + 1;
    // common[i * width + j]: how many lines gone[i..] and come[j..] share, in order.
    let mut common = vec![0_u32; (gone.len() + 1) * width];
    for i in (0..gone.len()).rev() {
        for j in (0..come.len()).rev() {
            common[i * width + j] = if gone[i] == come[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < gone.len() || j < come.len() {
        if i < gone.len() && j < come.len() && gone[i] == come[j] {
            all.push(Line::Same(gone[i]));
            i += 1;
            j += 1;
        } else if i < gone.len()
            && (j == come.len() || common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            all.push(Line::Gone(gone[i]));
            i += 1;
        } else {
            all.push(Line::New(come[j]));
            j += 1;
        }
    }
}

/// `text` with every secret of `trees` replaced by dots: what stands where people keep secrets, and what looks like one.
pub(crate) fn without_secrets(text: &str, trees: &[&Node]) -> String {
    let mut secrets = Vec::new();
    for tree in trees {
        collect(tree, "", false, &mut secrets);
    }
    // The longest first: one may be a part of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
        .iter()
        .fold(text.to_owned(), |text, secret| text.replace(*secret, "…"))
}

fn collect<'n>(node: &'n Node, name: &str, hidden: bool, found: &mut Vec<&'n str>) {
    match node {
        Node::Text(text) => {
            let looks = || is_secret(name, text) || leaves(text, |vault| vault.url(name, text).0);
            if text.chars().count() >= SECRET_CHARS_MIN
                && !text.contains("${")
                && (hidden || looks())
            {
                found.push(text);
            }
        }
        Node::List(items) => {
            let texts: Vec<&str> = items.iter().filter_map(Node::as_text).collect();
            let owned: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let cleaned = Vault::new(false).args(name, &owned).0;
            let differing = texts
                .iter()
                .zip(&cleaned)
                .filter(|(a, b)| **a != b.as_str());
            found.extend(differing.map(|(text, _)| *text));
            for item in items {
                collect(item, name, hidden, found);
            }
        }
        Node::Map(entries) => {
            for (name, value) in entries {
                collect(value, name, hidden || is_for_secrets(name), found);
            }
        }
        Node::Null | Node::Bool(_) | Node::Literal(_) => {}
    }
}

/// Whether the vault would take something out of a text.
fn leaves(text: &str, clean: impl FnOnce(&mut Vault) -> String) -> bool {
    clean(&mut Vault::new(false)) != text
}

/// Whether all that stands below a key of that name is for the program or the server alone.
fn is_for_secrets(name: &str) -> bool {
    matches!(
        name.to_ascii_lowercase().as_str(),
        "env" | "envs" | "environment" | "headers" | "http_headers" | "httpheaders"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::{Syntax, read};

    #[test]
    fn changed_lines_are_shown_with_their_neighbours() {
        let before = "a\nb\nc\nd\ne\nf\ng\nh\n";
        let after = "a\nb\nc\nd\nE\ne\nf\nh\n";
        assert_eq!(
            lines(before, after),
            ["  …", "  c", "  d", "+ E", "  e", "  f", "- g", "  h"]
        );
        assert_eq!(lines(before, before), Vec::<String>::new());
        assert_eq!(lines("", "a\n"), ["+ a"]);
    }

    #[test]
    fn law_31_a_diff_shows_no_secret() {
        let text = r#"{"s": {"command": "npx", "env": {"A": "hunter2-hunter2"}, "apiKey": "k-12345678901234567890", "args": ["--token", "abcd-maps"], "url": "https://u:pass-word@host/", "note": "fine"}}"#;
        let tree = read(Syntax::Jsonc, text).unwrap();
        let shown = without_secrets(text, &[&tree]);
        assert!(
            !["hunter2", "k-1234", "abcd-maps", "pass-word"]
                .iter()
                .any(|secret| shown.contains(secret)),
            "{shown}"
        );
        assert!(shown.contains("npx") && shown.contains("fine"), "{shown}");
    }
}
