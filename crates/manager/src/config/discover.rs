//! Finds the config when nobody names one.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A working config, as `docs/config.example.json` has it.
pub const EXAMPLE: &str = include_str!("example.json");

/// The file name that is looked for.
const FILE_NAME: &str = "mcp.json";

/// There is no config file in any place that was searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoConfig {
    /// The files that were looked for, in order.
    pub searched: Vec<PathBuf>,
    /// Whether the file was named by the user, and so was the only one looked for.
    pub explicit: bool,
}

impl std::error::Error for NoConfig {}

impl fmt::Display for NoConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.explicit {
            for path in &self.searched {
                writeln!(f, "there is no config file {}", path.display())?;
            }
            return f.write_str("    help: check the path after --config");
        }
        f.write_str("there is no config file; looked for\n")?;
        for path in &self.searched {
            writeln!(f, "    {}", path.display())?;
        }
        f.write_str("    help: write one of these, or name another file with --config. A working example:\n\n")?;
        f.write_str(EXAMPLE.trim_end())
    }
}

/// The config file to read: `explicit` if given, else `./mcp.json`, else `mainstay/mcp.json` in the user's config
/// directory. Only looks whether the file exists; reading it may still fail.
///
/// # Errors
///
/// None of them exists. The error names them all and shows a working example.
pub fn find_default(explicit: Option<&Path>) -> Result<PathBuf, NoConfig> {
    let user =
        directories::ProjectDirs::from("", "", "mainstay").map(|dirs| dirs.config_dir().to_owned());
    find_in(explicit, Path::new("."), user.as_deref())
}

fn find_in(explicit: Option<&Path>, here: &Path, user: Option<&Path>) -> Result<PathBuf, NoConfig> {
    let searched: Vec<PathBuf> = match explicit {
        Some(path) => vec![path.to_owned()],
        None => std::iter::once(here)
            .chain(user)
            .map(|directory| directory.join(FILE_NAME))
            .collect(),
    };
    // A directory of that name is found too, so that reading it says what is wrong with it.
    match searched.iter().find(|path| path.exists()) {
        Some(path) => Ok(path.clone()),
        None => Err(NoConfig {
            searched,
            explicit: explicit.is_some(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_nearest_file_is_found() {
        let (here, user) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let find = |explicit: Option<&Path>| find_in(explicit, here.path(), Some(user.path()));

        fs::write(user.path().join("mcp.json"), "{}").unwrap();
        assert_eq!(find(None), Ok(user.path().join("mcp.json")));
        fs::write(here.path().join("mcp.json"), "{}").unwrap();
        assert_eq!(find(None), Ok(here.path().join("mcp.json")));
        let named = user.path().join("mcp.json");
        assert_eq!(find(Some(&named)), Ok(named.clone()));
    }

    #[test]
    fn an_explicit_file_that_is_missing_is_not_replaced_by_another() {
        let here = tempfile::tempdir().unwrap();
        fs::write(here.path().join("mcp.json"), "{}").unwrap();
        let error = find_in(Some(Path::new("/nowhere/x.json")), here.path(), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no config file /nowhere/x.json\n    help: check the path after --config"
        );
    }

    #[test]
    fn nothing_found_shows_where_it_looked_and_an_example() {
        let error = find_in(
            None,
            Path::new("/nowhere/here"),
            Some(Path::new("/nowhere/user")),
        )
        .unwrap_err();
        let text = error.to_string();
        let expected = "there is no config file; looked for\n    /nowhere/here/mcp.json\n    /nowhere/user/mcp.json\n    \
                        help: write one of these, or name another file with --config. A working example:\n\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.ends_with(EXAMPLE.trim_end()), "{text}");
    }
}
