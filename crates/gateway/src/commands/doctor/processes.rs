//! Processes that look like servers of this configuration and that nobody owns any more.
//!
//! Only looks. Other systems than Linux do not say enough about processes of others.

use mainstay::config::Config;

use super::Health;

/// Looks at every process of this user.
#[cfg(target_os = "linux")]
pub(super) fn look(config: &Config, health: &mut Health) {
    linux::look(config, health);
}

/// Nothing is known, so nothing is said.
#[cfg(not(target_os = "linux"))]
pub(super) fn look(_config: &Config, _health: &mut Health) {}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use mainstay::config::{Config, Severity, Transport, process_env};

    use super::super::{Area, Health};

    struct Process {
        pid: u32,
        parent: u32,
        argv: Vec<String>,
    }

    pub(super) fn look(config: &Config, health: &mut Health) {
        let all = processes();
        for server in &config.servers {
            let Transport::Stdio { command, args, .. } = &server.transport else {
                continue;
            };
            // Without arguments it could be anybody's.
            let argv = std::iter::once(command)
                .chain(args)
                .map(|part| part.resolve(&process_env).ok());
            let Some(argv) = argv
                .collect::<Option<Vec<String>>>()
                .filter(|argv| argv.len() > 1)
            else {
                continue;
            };
            for process in all
                .iter()
                .filter(|process| is_abandoned(process, &all) && is_it(&process.argv, &argv))
            {
                health.add(
                    Severity::Warning,
                    Area::Processes,
                    &server.name,
                    format!(
                        "process {} looks like this server, and whoever started it has gone",
                        process.pid
                    ),
                    format!("if nobody needs it: kill {}", process.pid),
                );
            }
        }
        serving(&all, health);
    }

    /// More than one Mainstay, each with servers of its own.
    fn serving(all: &[Process], health: &mut Health) {
        let is_serving = |process: &&Process| {
            let name = process
                .argv
                .first()
                .and_then(|program| Path::new(program).file_name());
            name.is_some_and(|name| name == "mainstay")
                && process.argv.get(1).is_some_and(|word| word == "serve")
        };
        let pids: Vec<String> = all
            .iter()
            .filter(is_serving)
            .map(|process| process.pid.to_string())
            .collect();
        if pids.len() > 1 {
            health.add(
                Severity::Note,
                Area::Processes,
                format!("processes {}", pids.join(", ")),
                "several Mainstays run for this user, each with servers of its own",
                "if that is not meant: `mainstay stop --socket PATH` ends one",
            );
        }
    }

    /// The arguments are the server's, and the program is, too: by itself, or as the script of an interpreter.
    pub(super) fn is_it(found: &[String], argv: &[String]) -> bool {
        let Some((command, args)) = argv.split_first() else {
            return false;
        };
        let Some(head) = found.len().checked_sub(args.len()).filter(|head| *head > 0) else {
            return false;
        };
        let base = |text: &str| {
            Path::new(text)
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        found[head..] == *args && base(&found[head - 1]) == base(command)
    }

    /// Its parent is the first process, or the one that takes orphans in for the user's session.
    fn is_abandoned(process: &Process, all: &[Process]) -> bool {
        if process.parent == 1 {
            return true;
        }
        let parent = all.iter().find(|other| other.pid == process.parent);
        parent.is_some_and(|parent| {
            parent
                .argv
                .first()
                .is_some_and(|program| program.ends_with("systemd"))
        })
    }

    fn processes() -> Vec<Process> {
        let user = rustix::process::geteuid().as_raw();
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| {
                let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
                if entry.metadata().ok()?.uid() != user || pid == std::process::id() {
                    return None;
                }
                let line = std::fs::read(entry.path().join("cmdline")).ok()?;
                let argv = line
                    .split(|byte| *byte == 0)
                    .filter(|part| !part.is_empty());
                let argv = argv
                    .map(|part| String::from_utf8_lossy(part).into_owned())
                    .collect();
                let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
                // The name in brackets may contain anything.
                let parent = stat
                    .rsplit_once(')')?
                    .1
                    .split_ascii_whitespace()
                    .nth(1)?
                    .parse()
                    .ok()?;
                Some(Process { pid, parent, argv })
            })
            .collect()
    }

    #[cfg(test)]
    mod tests {
        use super::is_it;

        #[test]
        fn a_process_is_a_server_by_its_program_and_all_of_its_arguments() {
            let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
            let server = words("npx -y a-server");
            for (found, expected) in [
                ("npx -y a-server", true),
                ("node /usr/bin/npx -y a-server", true),
                ("npx -y a-server --more", false),
                ("node -y a-server", false),
                ("-y a-server", false),
            ] {
                assert_eq!(is_it(&words(found), &server), expected, "{found}");
            }
        }
    }
}
