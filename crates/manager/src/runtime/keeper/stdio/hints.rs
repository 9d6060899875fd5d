//! What the last words of a server that could not start mean for a human. Words only: nothing is decided by them.

use std::sync::{Mutex, PoisonError};

/// So many starts in a row without the same module are no accident. Two may be: one start that was cut off in the middle
/// of a download, and its repetition.
const SAME_MODULE_MIN: u32 = 3;

/// Which module a server missed at its last starts, and how often in a row.
#[derive(Debug, Default)]
pub(crate) struct MissingModule(Mutex<Option<(String, u32)>>);

impl MissingModule {
    /// A start has failed with these last words; what to tell people, if it is worth telling.
    pub(crate) fn failed(&self, tail: &[String], command: &str) -> Option<String> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = tail.iter().rev().find(|line| misses_module(line)) else {
            *last = None;
            return is_taken(tail).then(|| {
                "another copy of this server seems to run already, or another program uses its port or lock"
                    .to_owned()
            });
        };
        let times = match last.take() {
            Some((before, times)) if before == *line => times.saturating_add(1),
            Some(_) | None => 1,
        };
        *last = Some((line.clone(), times));
        (times >= SAME_MODULE_MIN).then(|| {
            format!(
                "the same module was missing {times} times in a row: possibly a corrupt package cache; {}",
                remedy(command)
            )
        })
    }

    /// A start has succeeded.
    pub(crate) fn started(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn misses_module(line: &str) -> bool {
    [
        "Cannot find module",
        "Cannot find package",
        "MODULE_NOT_FOUND",
        "ModuleNotFoundError",
        "No module named",
    ]
    .iter()
    .any(|words| line.contains(words))
}

fn is_taken(tail: &[String]) -> bool {
    let taken = |line: &String| {
        let line = line.to_ascii_lowercase();
        [
            "eaddrinuse",
            "address already in use",
            "database is locked",
            "lock file",
            "already locked",
        ]
        .iter()
        .any(|words| line.contains(words))
    };
    tail.iter().any(taken)
}

fn remedy(command: &str) -> &'static str {
    match command.rsplit('/').next().unwrap_or_default() {
        "npx" | "npm" => {
            "run `npm cache clean --force`, delete `~/.npm/_npx`, and restart the server"
        }
        "uvx" | "uv" => "run `uv cache clean`, and restart the server",
        "pipx" => "run `pipx` with `--no-cache` once, and restart the server",
        "bunx" | "bun" => "run `bun pm cache rm`, and restart the server",
        "pnpm" | "pnpx" => "run `pnpm store prune`, and restart the server",
        _ => {
            "install what the server needs, or clear the cache of what installs it, and restart the server"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        vec![line.to_owned(), "node:internal".to_owned()]
    }

    #[test]
    fn f5_the_same_missing_module_thrice_in_a_row_is_a_corrupt_cache() {
        let missing = MissingModule::default();
        let zod = words("Error: Cannot find module 'zod'");
        assert_eq!(missing.failed(&zod, "npx"), None);
        assert_eq!(missing.failed(&zod, "npx"), None);
        let hint = missing.failed(&zod, "/usr/bin/npx").unwrap();
        assert!(
            hint.contains("corrupt package cache") && hint.contains("npm cache"),
            "{hint}"
        );
        let other = words("ModuleNotFoundError: No module named 'mcp'");
        assert_eq!(missing.failed(&other, "uvx"), None, "another module");
        missing.failed(&other, "uvx");
        missing.started();
        missing.failed(&other, "uvx");
        assert_eq!(missing.failed(&other, "uvx"), None, "a start in between");
        missing.failed(&words("segmentation fault"), "uvx");
        missing.failed(&other, "uvx");
        assert_eq!(
            missing.failed(&other, "uvx"),
            None,
            "another end in between"
        );
    }

    #[test]
    fn f7_a_port_that_is_taken_is_recognised() {
        let taken = words("Error: listen EADDRINUSE: address already in use :::3000");
        let hint = MissingModule::default().failed(&taken, "npx").unwrap();
        assert!(hint.contains("another copy"), "{hint}");
    }
}
