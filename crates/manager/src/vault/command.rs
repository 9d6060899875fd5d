//! `${cmd:…}`: what the command of a password manager prints. No shell, a process group of its own, a bounded answer.

use std::ffi::OsString;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

use super::{LOOKUP_MAX, VALUE_BYTES_MAX, text};
use crate::process::{self, EnvPolicy, ExitInfo, Guardian, SpawnSpec, Spawned, child_env};

/// How long the output of a command is waited for after its end: something that it left running may hold it open.
const GRACE: Duration = Duration::from_millis(300);

/// Bytes of its stderr that are kept, and lines of them that are shown.
const STDERR_BYTES_MAX: usize = 4 * 1024;
const STDERR_LINES: usize = 4;

/// What password managers and their agents need beyond the environment of every child: where their agent is, and the
/// credentials that are theirs alone.
const NAMES: [&str; 9] = [
    "AGE_KEY_FILE",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "GNUPGHOME",
    "GPG_TTY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "KUBECONFIG",
    "SSH_AUTH_SOCK",
    "WAYLAND_DISPLAY",
];
const PREFIXES: [&str; 13] = [
    "AWS_",
    "AZURE_",
    "BWS_",
    "BW_",
    "CLOUDSDK_",
    "DOPPLER_",
    "INFISICAL_",
    "KEEPER_",
    "LPASS_",
    "OP_",
    "PASSWORD_STORE_",
    "SOPS_",
    "VAULT_",
];

/// Runs a command and returns what it printed. Dropping it ends the command with its group.
pub(super) async fn run(words: &[String], guardian: &Guardian) -> Result<String, String> {
    let (program, args) = words.split_first().ok_or("there is no command")?;
    let spec = SpawnSpec {
        program: OsString::from(program),
        args: args.iter().map(OsString::from).collect(),
        env: environment(std::env::vars_os()),
        cwd: None,
        stderr_bytes_max: STDERR_BYTES_MAX,
        sandbox: None,
    };
    let spawned = process::spawn(spec, guardian)
        .await
        .map_err(|error| error.to_string())?;
    let ended = tokio::time::timeout(LOOKUP_MAX, output(spawned)).await;
    ended
        .unwrap_or_else(|_late| {
            Err(format!(
                "`{program}` did not end within {} ms; run it by hand to see what it waits for",
                LOOKUP_MAX.as_millis()
            ))
        })
        .map_err(|why| format!("`{program}`: {why}"))
}

async fn output(spawned: Spawned) -> Result<String, String> {
    let Spawned {
        stdin,
        mut stdout,
        stderr,
        process,
        ..
    } = spawned;
    // Nobody is there to answer a question.
    drop(stdin);
    let mut exited = process.exited();
    let mut bytes = Vec::new();
    {
        let mut reading = std::pin::pin!(async {
            let mut rest = (&mut stdout).take(VALUE_BYTES_MAX as u64 + 1);
            rest.read_to_end(&mut bytes).await
        });
        tokio::select! {
            // Cancel-safe: pinned; it is polled on below.
            _read = &mut reading => {}
            // Cancel-safe: a watch is a level.
            _exit = exit_of(&mut exited) => {
                // What came by then counts, whoever still holds the pipe.
                let _ = tokio::time::timeout(GRACE, &mut reading).await;
            }
        }
    }
    if bytes.len() > VALUE_BYTES_MAX {
        process.kill();
        return Err(format!("it printed more than {VALUE_BYTES_MAX} bytes"));
    }
    let exit = exit_of(&mut exited).await;
    process.kill();
    if exit.code == Some(0) {
        return text(bytes);
    }
    let said = stderr.tail(STDERR_LINES).join(" | ");
    Err(if said.is_empty() {
        format!("it ended with {exit} and said nothing; run it by hand")
    } else {
        format!("it ended with {exit}; last on stderr: {said}")
    })
}

/// How the command ended. A sender that is gone has no more to tell.
async fn exit_of(exited: &mut watch::Receiver<Option<ExitInfo>>) -> ExitInfo {
    let exit = exited.wait_for(Option::is_some).await;
    exit.ok().and_then(|exit| *exit).unwrap_or_default()
}

fn environment(all: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let (theirs, ours): (Vec<_>, Vec<_>) = all.partition(|(name, value)| {
        // A shell's exported function is code.
        let is_code = value.as_encoded_bytes().starts_with(b"()");
        !is_code
            && name.to_str().is_some_and(|name| {
                NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            })
    });
    let mut env = child_env(ours.into_iter(), &[], EnvPolicy::Basic);
    env.extend(theirs);
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_31_a_command_gets_what_password_managers_need_and_no_more() {
        let all = [
            ("PATH", "/bin"),
            ("GITHUB_TOKEN", "x"),
            ("OP_SERVICE_ACCOUNT_TOKEN", "y"),
            ("SSH_AUTH_SOCK", "/s"),
            ("VAULT_ADDR", "() { evil; }"),
            ("BASH_FUNC_x%%", "() { evil; }"),
        ];
        let all = all.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let env = environment(all.into_iter());
        let names: Vec<_> = env.iter().filter_map(|(name, _)| name.to_str()).collect();
        assert_eq!(names, ["PATH", "OP_SERVICE_ACCOUNT_TOKEN", "SSH_AUTH_SOCK"]);
    }
}
