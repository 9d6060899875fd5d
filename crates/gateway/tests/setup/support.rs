//! A user with an empty home directory, or one with the fixtures in it, and what a command said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const MAINSTAY: &str = env!("CARGO_BIN_EXE_mainstay");
/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/setup/fixtures");

/// A user: a home directory, a project to be in, and variables.
pub(crate) struct User {
    root: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl User {
    /// One who has nothing yet.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for directory in ["home", "project", "run"] {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        Self {
            root,
            variables: Vec::new(),
        }
    }

    /// One who has every app.
    pub(crate) fn with_apps() -> Self {
        let user = Self::new();
        copy(&Path::new(FIXTURES).join("home"), &user.home(""));
        user
    }

    /// Is in the project of the fixtures.
    pub(crate) fn in_project(self) -> Self {
        copy(&Path::new(FIXTURES).join("project"), &self.project(""));
        self
    }

    /// Sets a variable for every command.
    pub(crate) fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn home(&self, path: &str) -> PathBuf {
        self.root.path().join("home").join(path)
    }

    pub(crate) fn project(&self, path: &str) -> PathBuf {
        self.root.path().join("project").join(path)
    }

    /// The user's own configuration of Mainstay.
    pub(crate) fn config(&self) -> PathBuf {
        let directory = if cfg!(target_os = "macos") {
            "Library/Application Support/mainstay"
        } else {
            ".config/mainstay"
        };
        self.home(directory).join("mcp.json")
    }

    /// The local socket.
    pub(crate) fn socket(&self) -> PathBuf {
        if cfg!(target_os = "macos") {
            self.home("Library/Application Support/mainstay/mainstay.sock")
        } else {
            self.root.path().join("run/mainstay/mainstay.sock")
        }
    }

    /// Writes a file of the user, with its directories.
    pub(crate) fn write(&self, path: &Path, text: impl AsRef<str>) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.as_ref()).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(MAINSTAY);
        command
            .args(args)
            .current_dir(self.project(""))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home(""))
            .env("XDG_RUNTIME_DIR", self.root.path().join("run"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args).output().unwrap())
    }
}

/// The path of a fixture.
pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(FIXTURES).join(path)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Waits, level-triggered and with a generous deadline.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn exit(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Says these words on either stream.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        for word in words {
            let said = self.out.contains(word) || self.err.contains(word);
            assert!(said, "{word:?} was not said: {self:#?}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn never_says(self, words: &[&str]) -> Self {
        for word in words {
            let said = self.out.contains(word) || self.err.contains(word);
            assert!(!said, "{word:?} was said: {self:#?}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}
