//! Running the real binary, and waiting for things.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const MAINSTAY: &str = env!("CARGO_BIN_EXE_mainstay");
/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(90);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn exit(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "stderr lacks {word:?}: {self:#?}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// `mainstay chaos ARGS` with a temporary directory of its own, by whose name its processes are known.
pub(crate) fn command(temporary: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(MAINSTAY);
    command
        .arg("chaos")
        .args(args)
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(crate) fn chaos(args: &[&str]) -> Ended {
    let temporary = tempfile::tempdir().unwrap();
    let output = command(temporary.path(), args).output().unwrap();
    let ended = Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    assert_eq!(
        processes_of(temporary.path()),
        Vec::<String>::new(),
        "{ended:#?}"
    );
    let left = temporary.path().read_dir().unwrap().count();
    assert_eq!(left, 0, "the temporary directory is not empty: {ended:#?}");
    ended
}

/// The command lines of all processes that name this directory.
pub(crate) fn processes_of(temporary: &Path) -> Vec<String> {
    let listed = Command::new("ps")
        .args(["-A", "-ww", "-o", "pid=,args="])
        .output()
        .unwrap();
    let name = temporary.display().to_string();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    text.lines()
        .filter(|line| line.contains(&name))
        .map(str::to_owned)
        .collect()
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
