//! Finds the program before anything is started, with the child's eyes: its `PATH`, its working directory (F1, F3).

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::{SpawnError, SpawnSpec};

/// What a child without a `PATH` gets searched, like most shells do.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// The file to execute; absolute unless both the working directory and the program are relative.
pub(super) fn resolve(spec: &SpawnSpec) -> Result<PathBuf, SpawnError> {
    check_text(spec)?;
    if let Some(cwd) = &spec.cwd {
        check_cwd(cwd)?;
    }
    let base = spec.cwd.as_deref().unwrap_or_else(|| Path::new("."));
    if spec.program.as_bytes().contains(&b'/') {
        let path = base.join(&spec.program);
        return match runnable(&path) {
            Ok(()) => Ok(path),
            Err(source) if is_absent(&source) => Err(SpawnError::NotFound {
                program: spec.program.clone(),
                searched: OsString::new(),
                detail: format!("there is no file {:?}", path.display()),
            }),
            Err(source) => Err(SpawnError::Denied { path, source }),
        };
    }
    search(&spec.program, base, path_of(&spec.env))
}

/// Why exec said "no such file" although the file is there: its interpreter is missing.
pub(super) fn missing_interpreter(file: &Path) -> SpawnError {
    let mut head = Vec::new();
    if let Ok(opened) = std::fs::File::open(file) {
        // A head that cannot be read only costs the better message.
        let _ = opened.take(256).read_to_end(&mut head);
    }
    let interpreter = head.strip_prefix(b"#!").and_then(|line| {
        line.split(|byte| *byte == b'\n')
            .next()?
            .split(|byte| byte.is_ascii_whitespace())
            .find(|word| !word.is_empty())
    });
    let program = interpreter.map_or_else(
        || file.as_os_str().to_owned(),
        |name| OsString::from_vec(name.to_vec()),
    );
    let detail = match interpreter {
        Some(_) => format!("the first line of {:?} names it", file.display()),
        None => "the file is there, but the loader that it needs is not".to_owned(),
    };
    SpawnError::NotFound {
        program,
        searched: OsString::new(),
        detail,
    }
}

/// A NUL or an impossible name would otherwise surface as a bare "invalid input" without a place.
fn check_text(spec: &SpawnSpec) -> Result<(), SpawnError> {
    let invalid = |what: String| {
        SpawnError::other(
            &spec.program,
            io::Error::new(io::ErrorKind::InvalidInput, what),
        )
    };
    let nul = |text: &OsStr| text.as_bytes().contains(&0);
    if spec.program.is_empty() || nul(&spec.program) {
        return Err(invalid("`command` is empty or contains a NUL".to_owned()));
    }
    if let Some(at) = spec.args.iter().position(|arg| nul(arg)) {
        return Err(invalid(format!("`args[{at}]` contains a NUL")));
    }
    for (name, value) in &spec.env {
        if name.is_empty() || nul(name) || name.as_bytes().contains(&b'=') || nul(value) {
            return Err(invalid(format!(
                "`env` has an impossible entry {:?}",
                name.display()
            )));
        }
    }
    Ok(())
}

fn check_cwd(cwd: &Path) -> Result<(), SpawnError> {
    let checked = std::fs::metadata(cwd).and_then(|found| {
        if found.is_dir() {
            access(cwd, Access::EXEC_OK).map_err(io::Error::from)
        } else {
            Err(io::Error::from(io::ErrorKind::NotADirectory))
        }
    });
    checked.map_err(|source| SpawnError::CwdMissing {
        cwd: cwd.to_owned(),
        source,
    })
}

fn path_of(env: &[(OsString, OsString)]) -> &OsStr {
    let last = env.iter().rev().find(|(name, _)| name == "PATH");
    last.map_or(OsStr::new(PATH_DEFAULT), |(_, value)| value)
}

fn search(program: &OsStr, base: &Path, path: &OsStr) -> Result<PathBuf, SpawnError> {
    let mut denied = None;
    for directory in std::env::split_paths(path) {
        // An empty element means the working directory, as it does for a shell.
        let candidate = base.join(directory).join(program);
        match runnable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(source) if is_absent(&source) => {}
            Err(source) => denied = denied.or(Some((candidate, source))),
        }
    }
    Err(match denied {
        Some((path, source)) => SpawnError::Denied { path, source },
        None => SpawnError::NotFound {
            program: program.to_owned(),
            searched: path.to_owned(),
            detail: format!("searched PATH {:?}", path.display()),
        },
    })
}

fn runnable(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    access(path, Access::EXEC_OK).map_err(io::Error::from)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
