//! What a sandboxed program may read without anybody saying so: the system, its own install, and the places where
//! interpreters and packages are installed. Never a home directory, and never what lies above one.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

/// Where a system keeps programs, libraries and what they need to know of it. `/etc` has the certificates and the names.
const SYSTEM: &[&str] = &[
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/usr",
    "/opt",
    "/etc",
    "/nix/store",
    "/nix/var/nix/profiles",
    "/gnu/store",
    "/run/current-system",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/var/lib/ca-certificates",
    "/home/linuxbrew/.linuxbrew",
    "/proc",
    "/sys",
];

/// Where people have interpreters and packages installed, below their home directory. None of them holds credentials.
const INSTALLS: &[&str] = &[
    ".asdf",
    ".bun/bin",
    ".bun/install/global",
    ".cargo/bin",
    ".deno/bin",
    ".fnm",
    ".local/bin",
    ".local/lib",
    ".local/share/fnm",
    ".local/share/mise",
    ".local/share/pipx",
    ".local/share/pnpm",
    ".local/share/uv",
    ".local/state/fnm_multishells",
    ".nix-profile",
    ".nvm",
    ".pyenv",
    ".rbenv",
    ".rustup/toolchains",
    ".sdkman/candidates",
    ".volta",
];

/// Programs whose first plain argument is the program that counts.
const INTERPRETERS: &[&str] = &[
    "bash", "bun", "deno", "java", "node", "nodejs", "perl", "php", "pypy", "pypy3", "python",
    "python2", "python3", "ruby", "sh", "ts-node", "tsx", "zsh",
];

/// What marks the folder of a package.
const PACKAGES: &[&str] = &[
    "package.json",
    "pyproject.toml",
    "setup.py",
    "node_modules",
    "Gemfile",
    "deno.json",
    "composer.json",
];

/// A program as it is started.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// The file that is executed.
    pub file: &'a Path,
    /// Its arguments.
    pub args: &'a [OsString],
    /// Where it is started.
    pub cwd: &'a Path,
    /// Whether somebody said so.
    pub is_cwd_declared: bool,
    /// The home directory of whoever starts it.
    pub home: Option<&'a Path>,
}

/// The places of the system.
pub fn system_paths() -> Vec<PathBuf> {
    SYSTEM.iter().map(PathBuf::from).collect()
}

/// What a program may read without anybody saying so. Blocks on the file system.
pub fn usual_paths(program: &Program<'_>) -> Vec<PathBuf> {
    let mut paths = system_paths();
    if let Some(home) = program.home {
        paths.extend(INSTALLS.iter().map(|below| home.join(below)));
    }
    install(program, program.file, &mut paths);
    if program.is_cwd_declared && !program.is_too_wide(program.cwd) {
        paths.push(program.cwd.to_owned());
    }
    if let Some(script) = program.script() {
        paths.push(package_of(program, &script));
        let link = fs::canonicalize(&script)
            .ok()
            .filter(|real| *real != script);
        if let Some(real) = link {
            paths.push(package_of(program, &real));
        }
    }
    paths
}

impl Program<'_> {
    /// The script that an interpreter is given, if that is what this is.
    pub fn script(&self) -> Option<PathBuf> {
        let name = self.file.file_name()?.to_str()?;
        let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        if !INTERPRETERS.contains(&name) && !INTERPRETERS.contains(&plain) {
            return None;
        }
        let is_plain = |arg: &&OsString| !arg.as_encoded_bytes().starts_with(b"-");
        let first = self.args.iter().filter(is_plain);
        first
            .map(|arg| self.cwd.join(arg))
            .find(|path| path.is_file())
    }

    /// Whether a folder is so far up that what is below it is everybody's.
    fn is_too_wide(&self, folder: &Path) -> bool {
        let is_home = self.home.is_some_and(|home| home.starts_with(folder));
        let private = [
            ".local",
            ".config",
            ".cache",
            ".cargo",
            ".ssh",
            ".local/share",
        ];
        let is_private = |home: &Path| private.iter().any(|below| folder == home.join(below));
        is_home || self.home.is_some_and(is_private) || folder.components().count() < 3
    }
}

/// The program's own files: the file, what it links to, and the environment or the package that it is part of.
fn install(program: &Program<'_>, file: &Path, paths: &mut Vec<PathBuf>) {
    let mut file = file.to_owned();
    // A link may lead to a link: each of them is looked at, because each may be what is looked for beside.
    for _ in 0..8 {
        paths.push(file.clone());
        if let Some(root) = environment_of(program, &file) {
            paths.push(root);
        }
        let Ok(target) = fs::read_link(&file) else {
            break;
        };
        let Some(parent) = file.parent() else { break };
        file = parent.join(target);
    }
    if let Ok(real) = fs::canonicalize(&file) {
        paths.push(package_of(program, &real));
        paths.extend(environment_of(program, &real));
    }
}

/// The environment that a program in a `bin` belongs to: of Python, conda, or a Node install.
fn environment_of(program: &Program<'_>, file: &Path) -> Option<PathBuf> {
    let bin = file.parent()?;
    if bin.file_name() != Some(OsStr::new("bin")) {
        return None;
    }
    let root = bin.parent()?;
    let marks = ["pyvenv.cfg", "conda-meta", "lib/node_modules"];
    let is_one = marks.iter().any(|mark| root.join(mark).exists());
    (is_one && !program.is_too_wide(root)).then(|| root.to_owned())
}

/// The folder of the package that a file is part of; its own folder, or at least the file.
fn package_of(program: &Program<'_>, file: &Path) -> PathBuf {
    let folders = file.ancestors().skip(1);
    let narrow = folders.take_while(|folder| !program.is_too_wide(folder));
    let narrow: Vec<&Path> = narrow.collect();
    let is_package = |folder: &&&Path| PACKAGES.iter().any(|mark| folder.join(mark).exists());
    // The outermost of those that follow each other would be a guess; the innermost may be a part of a workspace. Node looks
    // for modules in all folders above, so the outermost is what works.
    let package = narrow.iter().rev().find(is_package);
    let own = package.or(narrow.first());
    own.map_or_else(|| file.to_owned(), |folder| folder.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program<'a>(file: &'a Path, args: &'a [OsString], home: &'a Path) -> Program<'a> {
        Program {
            file,
            args,
            cwd: home,
            is_cwd_declared: true,
            home: Some(home),
        }
    }

    #[test]
    fn neither_a_home_nor_what_is_above_it_is_ever_among_them() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("users/me");
        for folder in ["bin", ".cargo/bin", ".local/bin", "work/server/src", ".ssh"] {
            fs::create_dir_all(home.join(folder)).unwrap();
        }
        let files = [
            "bin/tool",
            ".cargo/bin/tool",
            ".local/bin/tool",
            "loose.js",
            "work/server/src/index.js",
        ];
        for file in files {
            fs::write(home.join(file), "x").unwrap();
        }
        // A package in the home directory itself must not open the home directory.
        fs::write(home.join("package.json"), "{}").unwrap();
        let node = Path::new("/usr/bin/node");
        let secrets = [".ssh/id_rsa", ".cargo/credentials.toml", "notes.txt"];
        for file in files {
            let direct = home.join(file);
            let args = [OsString::from(&direct)];
            for paths in [
                usual_paths(&program(&direct, &[], &home)),
                usual_paths(&program(node, &args, &home)),
            ] {
                for secret in secrets {
                    let secret = home.join(secret);
                    let opened = paths.iter().find(|path| secret.starts_with(path));
                    assert_eq!(opened, None, "{file} opens {}", secret.display());
                }
                assert!(
                    paths.iter().any(|path| direct.starts_with(path)),
                    "{file} itself"
                );
            }
        }
    }

    #[test]
    fn a_script_brings_its_package() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("users/me");
        let package = home.join("work/server");
        fs::create_dir_all(package.join("dist")).unwrap();
        fs::write(package.join("package.json"), "{}").unwrap();
        fs::write(package.join("dist/index.js"), "x").unwrap();
        let args = ["--inspect".into(), package.join("dist/index.js").into()];
        let node = Path::new("/usr/bin/node");
        assert!(usual_paths(&program(node, &args, &home)).contains(&package));
        // What is no script of an interpreter is data.
        let cat = Path::new("/usr/bin/cat");
        let paths = usual_paths(&program(cat, &args, &home));
        assert!(!paths.iter().any(|path| package.starts_with(path)));
    }
}
