//! Where the files of the apps are for this user on this machine.
//!
//! Only looks at the environment and at names in directories; reads no file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Base, Place};

/// Most files that one pattern may stand for: a directory full of other things is not ours to walk through.
const MATCHES_MAX: usize = 200;

/// What the paths of the apps depend on.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// The home directory.
    pub(crate) home: PathBuf,
    /// The directory of the project.
    pub(crate) project: PathBuf,
    /// Whether desktop apps keep their settings where macOS has them.
    pub(crate) macos: bool,
    /// Answers for one environment variable.
    variable: fn(&str) -> Option<OsString>,
}

/// One file that may hold a list, and what is known about it.
#[derive(Debug, Clone)]
pub(crate) struct FileOf {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The line of the table that led to it.
    pub(crate) place: &'static Place,
}

impl Surroundings {
    /// Those of this process; `None` for a user without a home directory.
    pub(crate) fn here() -> Option<Self> {
        let home = directories::BaseDirs::new()?.home_dir().to_owned();
        Some(Self {
            home,
            project: std::env::current_dir().unwrap_or_else(|_gone| PathBuf::from(".")),
            macos: cfg!(target_os = "macos"),
            variable: |name| std::env::var_os(name),
        })
    }

    /// Other ones, for tests.
    #[cfg(test)]
    pub(crate) fn of(
        home: &Path,
        project: &Path,
        macos: bool,
        variable: fn(&str) -> Option<OsString>,
    ) -> Self {
        Self {
            home: home.to_owned(),
            project: project.to_owned(),
            macos,
            variable,
        }
    }

    /// An environment variable that is set and not empty.
    fn set(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }

    fn config(&self) -> PathBuf {
        // The XDG specification: a relative path is no path.
        self.set("XDG_CONFIG_HOME")
            .filter(|path| path.is_absolute())
            .unwrap_or_else(|| self.home.join(".config"))
    }

    /// The files that a line of the table stands for. One that need not exist, or all that fit a pattern.
    pub(crate) fn resolve(&self, place: &'static Place) -> Vec<FileOf> {
        let moved = place
            .moved
            .and_then(|(variable, path)| Some((self.absolute(self.set(variable)?), path)));
        let (base, path) = match (moved, place.base) {
            (Some((base, path)), _) => (base, path),
            (None, Base::Home) => (self.home.clone(), place.path),
            (None, Base::Config) => (self.config(), place.path),
            (None, Base::Desktop) if self.macos => {
                (self.home.join("Library/Application Support"), place.path)
            }
            (None, Base::Desktop) => (self.config(), place.path),
            (None, Base::Project) => (self.project.clone(), place.path),
            (None, Base::Nowhere) => return Vec::new(),
        };
        let paths = if path.is_empty() {
            vec![base]
        } else {
            expand(&base, path)
        };
        paths
            .into_iter()
            .map(|path| FileOf { path, place })
            .collect()
    }

    /// `~` and relative paths, as people write them into variables.
    fn absolute(&self, path: PathBuf) -> PathBuf {
        match path.strip_prefix("~") {
            Ok(rest) => self.home.join(rest),
            Err(_) => self.project.join(path),
        }
    }

    /// A path for people: the home directory as `~`, the project as `.`.
    pub(crate) fn short(&self, path: &Path) -> String {
        let below = |base: &Path, sign: &str| {
            let rest = path.strip_prefix(base).ok()?;
            (!base.as_os_str().is_empty()).then(|| Path::new(sign).join(rest).display().to_string())
        };
        let project = (self.project != self.home)
            .then(|| below(&self.project, "."))
            .flatten();
        project
            .or_else(|| below(&self.home, "~"))
            .unwrap_or_else(|| path.display().to_string())
    }
}

/// `base/path`, with the one `*` in it replaced by what is there. Sorted, so that the order never depends on the disk.
fn expand(base: &Path, path: &str) -> Vec<PathBuf> {
    let Some((before, after)) = path.split_once('*') else {
        return vec![base.join(path)];
    };
    let (directory, head) = before.rsplit_once('/').unwrap_or(("", before));
    let (tail, rest) = after.split_once('/').unwrap_or((after, ""));
    let Ok(entries) = std::fs::read_dir(base.join(directory)) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .take(MATCHES_MAX)
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        })
        .map(|entry| {
            if rest.is_empty() {
                entry.path()
            } else {
                entry.path().join(rest)
            }
        })
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::super::App;
    use super::*;

    fn first(id: &str, around: &Surroundings) -> String {
        let app = App::find(id).unwrap();
        app.user_file(around).unwrap().path.display().to_string()
    }

    #[test]
    fn linux_macos_and_the_variables_of_the_apps() {
        let (home, project) = (Path::new("/home/ada"), Path::new("/src/engine"));
        let linux = Surroundings::of(home, project, false, |_| None);
        assert_eq!(
            first("claude-desktop", &linux),
            "/home/ada/.config/Claude/claude_desktop_config.json"
        );
        assert_eq!(first("codex", &linux), "/home/ada/.codex/config.toml");
        assert_eq!(
            first("goose", &linux),
            "/home/ada/.config/goose/config.yaml"
        );

        let macos = Surroundings::of(home, project, true, |_| None);
        assert_eq!(
            first("vscode", &macos),
            "/home/ada/Library/Application Support/Code/User/mcp.json"
        );
        assert_eq!(first("zed", &macos), "/home/ada/.config/zed/settings.json");

        let moved = Surroundings::of(home, project, false, |name| match name {
            "CODEX_HOME" => Some("/opt/codex".into()),
            "XDG_CONFIG_HOME" => Some("/etc/ada".into()),
            "GEMINI_CLI_HOME" => Some("~/g".into()),
            "GOOSE_PATH_ROOT" => Some("/g".into()),
            _ => None,
        });
        assert_eq!(first("codex", &moved), "/opt/codex/config.toml");
        assert_eq!(first("zed", &moved), "/etc/ada/zed/settings.json");
        assert_eq!(
            first("gemini-cli", &moved),
            "/home/ada/g/.gemini/settings.json"
        );
        assert_eq!(first("goose", &moved), "/g/config/config.yaml");
    }

    #[test]
    fn a_pattern_stands_for_the_files_that_are_there() {
        let home = tempfile::tempdir().unwrap();
        let profiles = home.path().join(".config/Code/User/profiles");
        for profile in ["b2", "a1"] {
            std::fs::create_dir_all(profiles.join(profile)).unwrap();
            std::fs::write(profiles.join(profile).join("mcp.json"), "{}").unwrap();
        }
        std::fs::create_dir_all(profiles.join("empty")).unwrap();
        let around = Surroundings::of(home.path(), Path::new("/nowhere"), false, |_| None);
        let files = App::find("vscode").unwrap().all_files(&around);
        let found: Vec<_> = files
            .iter()
            .filter_map(|file| file.path.strip_prefix(&profiles).ok())
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(found, ["a1/mcp.json", "b2/mcp.json"]);
        assert_eq!(around.short(&profiles), "~/.config/Code/User/profiles");
    }
}
