//! House rules that a machine can check, as an ordinary test.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "tidy/catalogue.rs"]
mod catalogue;
#[path = "tidy/secrets.rs"]
mod secrets;
#[path = "tidy/threats.rs"]
mod threats;

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines, without a comment at its top that says why.
const LINES_MAX: usize = 800;

/// The laws. Each is named in at least one test.
const LAWS: std::ops::RangeInclusive<u32> = 1..=32;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// All files of ours with one of these endings, with their text.
fn files(endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(
                    name.as_str(),
                    "target" | "node_modules" | ".git" | "corpus" | "artifacts"
                ) {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending))
                && let Ok(text) = fs::read_to_string(&path)
            {
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 5, "the tree is not where it is looked for");
    found
}

fn rust() -> Vec<(PathBuf, String)> {
    files(&[".rs"])
}

/// This file names what it forbids.
fn is_this(path: &Path) -> bool {
    path.ends_with("testkit/tests/tidy.rs")
}

fn offenders(rule: impl Fn(&Path, &str) -> Vec<String>) -> Vec<String> {
    rust()
        .iter()
        .filter(|(path, _)| !is_this(path))
        .flat_map(|(path, text)| {
            let place = path
                .strip_prefix(root())
                .unwrap_or(path)
                .display()
                .to_string();
            rule(path, text)
                .into_iter()
                .map(move |what| format!("{place}: {what}"))
        })
        .collect()
}

fn lines_with(text: &str, bad: &[&str]) -> Vec<String> {
    let hit = |(number, line): (usize, &str)| {
        let found = bad.iter().find(|word| line.contains(**word))?;
        Some(format!("line {}: `{found}`", number + 1))
    };
    text.lines().enumerate().filter_map(hit).collect()
}

#[test]
fn files_are_short() {
    let long = offenders(|_, text| {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            vec![format!("{lines} lines, more than {LINES_MAX}")]
        } else {
            Vec::new()
        }
    });
    assert!(long.is_empty(), "split these: {long:#?}");
}

#[test]
fn modules_say_what_they_are_for() {
    let silent = offenders(|path, text| {
        let is_source = path.components().any(|part| part.as_os_str() == "src");
        if is_source && !text.starts_with("//!") {
            vec!["does not begin with a `//!` header".to_owned()]
        } else {
            Vec::new()
        }
    });
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn queues_are_bounded_and_nothing_is_left_to_do() {
    let found = offenders(|_, text| {
        lines_with(
            text,
            &[
                "unbounded_channel",
                "unbounded()",
                "mem::forget",
                "todo!(",
                "unimplemented!(",
                "FIXME",
                "XXX",
            ],
        )
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn nothing_refers_to_the_machine_it_was_written_on() {
    let words = ["/root/", "/work/", "bash_jobs"];
    let found: Vec<String> = files(&[
        ".rs", ".md", ".toml", ".json", ".py", ".ts", ".mjs", ".sh", ".yml", ".txt",
    ])
    .iter()
    .filter(|(path, _)| !is_this(path))
    .flat_map(|(path, text)| {
        lines_with(text, &words)
            .into_iter()
            .map(move |hit| format!("{}: {hit}", path.display()))
    })
    .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_core_depends_on_almost_nothing_and_touches_no_clock() {
    let manifest = fs::read_to_string(root().join("crates/core/Cargo.toml")).unwrap();
    let dependencies = manifest
        .split("[dependencies]")
        .nth(1)
        .unwrap()
        .split('[')
        .next()
        .unwrap();
    assert!(
        dependencies
            .lines()
            .filter(|line| line.contains('='))
            .count()
            <= 3,
        "{dependencies}"
    );
    let impure = [
        "Instant::now",
        "SystemTime",
        "std::thread",
        "std::fs",
        "std::net",
        "std::env",
        "async fn",
        "rand::",
        "Mutex",
        "std::process",
    ];
    let found = offenders(|path, text| {
        let is_core = path.starts_with(root().join("crates/core/src"));
        if is_core {
            lines_with(text, &impure)
        } else {
            Vec::new()
        }
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_arm_of_a_select_says_why_it_is_cancel_safe() {
    let silent = offenders(|path, text| {
        if path
            .components()
            .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "fuzz")
        {
            return Vec::new();
        }
        let blocks = text.split("select! {").skip(1);
        blocks
            .enumerate()
            .filter(|(_, block)| {
                let body = block.split("\n}\n").next().unwrap_or(block);
                !body.to_lowercase().contains("cancel-safe")
                    && !body.contains("// Bounded")
                    && !body.contains("// Not resumable")
            })
            .map(|(index, _)| {
                format!(
                    "select! number {} says nothing about cancel safety",
                    index + 1
                )
            })
            .collect()
    });
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn every_law_is_named_in_a_test() {
    let mut tests = String::new();
    for (path, text) in rust() {
        if is_this(&path) {
            continue;
        }
        let is_test =
            path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
        if is_test {
            tests.push_str(&text);
        } else if let Some((_, inner)) = text.split_once("#[cfg(test)]") {
            tests.push_str(inner);
        } else if path.components().any(|part| part.as_os_str() == "explorer") {
            tests.push_str(&text);
        }
    }
    let tests = tests.to_lowercase().replace("law ", "law_");
    let named = |law: &u32| {
        tests
            .match_indices(&format!("law_{law}"))
            .any(|(at, word)| {
                !tests[at + word.len()..].starts_with(|next: char| next.is_ascii_digit())
            })
    };
    let missing: Vec<u32> = LAWS.filter(|law| !named(law)).collect();
    assert!(missing.is_empty(), "no test names the laws {missing:?}");
}

#[test]
fn scripts_and_documents_that_the_readme_names_exist() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for link in readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
    {
        if !link.contains("://") && !root().join(link).exists() {
            panic!("README.md names {link}, which does not exist");
        }
    }
}
