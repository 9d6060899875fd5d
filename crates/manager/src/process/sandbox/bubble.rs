//! The other fence: `bwrap`, a small program that builds a view of the file system in which nothing but the declared
//! paths exists, and becomes the program in there.

#![cfg(target_os = "linux")]

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::{Fence, Network, Sandbox, Unfenced};

/// Where a system has it.
const PLACES: [&str; 3] = [
    "/usr/bin/bwrap",
    "/usr/local/bin/bwrap",
    "/run/current-system/sw/bin/bwrap",
];

pub(super) fn fence(
    sandbox: &Sandbox,
    program: &Path,
    cwd: Option<&Path>,
) -> Result<Fence, Unfenced> {
    let bwrap = PLACES
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.is_file());
    let bwrap = bwrap.ok_or_else(|| {
        Unfenced::new("the program `bwrap` is not installed; install the package bubblewrap, or write `\"backend\": \"landlock\"`")
    })?;
    match &sandbox.network {
        Network::None | Network::All => {}
        Network::Ports { .. } => {
            return Err(Unfenced::new(
                "bubblewrap cannot tell ports apart; use Landlock for that",
            ));
        }
    }
    let network = sandbox.network == Network::All;
    let fenced = if network { "files" } else { "files, network" };
    let words = format!("bubblewrap ({fenced}); seccomp");
    let filters = super::filter::filters(sandbox)?;
    let inherited: io::Result<Vec<OwnedFd>> = filters.iter().map(in_memory).collect();
    let inherited = inherited.map_err(|error| {
        Unfenced::new(format!("the seccomp filter cannot be handed on: {error}"))
    })?;
    Ok(Fence {
        wrapper: Some((bwrap, arguments(sandbox, program, cwd, &inherited))),
        ruleset: None,
        filters: Vec::new(),
        inherited,
        words,
    })
}

/// A filter as the kernel reads it, in a file that is nowhere. The wrapper reads it from its beginning.
fn in_memory(filter: &seccompiler::BpfProgram) -> io::Result<OwnedFd> {
    use std::io::{Seek, Write};
    let memory = rustix::fs::memfd_create("mainstay-filter", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(memory);
    for one in filter {
        file.write_all(&one.code.to_ne_bytes())?;
        file.write_all(&[one.jt, one.jf])?;
        file.write_all(&one.k.to_ne_bytes())?;
    }
    file.rewind()?;
    Ok(file.into())
}

/// What `bwrap` is told, up to the program.
fn arguments(
    sandbox: &Sandbox,
    program: &Path,
    cwd: Option<&Path>,
    filters: &[OwnedFd],
) -> Vec<OsString> {
    let mut args: Vec<OsString> = [
        "--die-with-parent",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
    ]
    .map(OsString::from)
    .to_vec();
    if sandbox.network == Network::None {
        args.push("--unshare-net".into());
    }
    let mut bind = |how: &str, path: &Path| {
        args.extend([OsStr::new(how), path.as_os_str(), path.as_os_str()].map(OsStr::to_owned));
    };
    // Wider before narrower: a later one lies over an earlier one.
    let mut binds: Vec<(&Path, &str)> = Vec::new();
    let mounted = ["/proc", "/dev", "/sys"].map(Path::new);
    binds.extend(
        sandbox
            .read_if_there
            .iter()
            .map(|path| (path.as_path(), "--ro-bind-try")),
    );
    binds.extend(
        sandbox
            .read
            .iter()
            .map(|path| (path.as_path(), "--ro-bind")),
    );
    binds.extend(sandbox.write.iter().map(|path| (path.as_path(), "--bind")));
    binds.retain(|(path, _)| !mounted.contains(path));
    binds.sort_by_key(|(path, _)| path.components().count());
    for (path, how) in binds {
        bind(how, path);
    }
    args.extend(["--proc", "/proc", "--dev", "/dev"].map(OsString::from));
    if let Some(cwd) = cwd {
        args.extend([OsString::from("--chdir"), cwd.into()]);
    }
    for filter in filters {
        let number = filter.as_raw_fd().to_string();
        args.extend(["--add-seccomp-fd", &number].map(OsString::from));
    }
    args.extend(["--cap-drop", "ALL"].map(OsString::from));
    args.extend([OsString::from("--"), program.into()]);
    args
}
