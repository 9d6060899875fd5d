//! Who of a process group lives. Asked only while a stop is under way.

use rustix::process::Pid;

/// What could be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Census {
    /// No member lives. Zombies do not: an orphaned one may stay for ever under an init that never reaps.
    Empty,
    /// At least one member lives.
    Populated,
    /// There are members, but the system does not say whether they live.
    Unknown,
}

/// Looks at every process of the system once, except where the kernel knows better.
///
/// One look suffices after a KILL to the group: nobody with a KILL pending can fork, so no member can appear behind our
/// back while we are reading.
#[cfg(target_os = "linux")]
pub(super) fn census(group: Pid) -> Census {
    let own = rustix::process::getpid().as_raw_pid().to_string();
    // A /proc that belongs to another pid namespace would speak of other processes.
    if !std::fs::read_link("/proc/self").is_ok_and(|target| target.as_os_str() == own.as_str()) {
        return by_signal(group);
    }
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return by_signal(group);
    };
    let lives = entries.flatten().any(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes()
            .first()
            .is_some_and(u8::is_ascii_digit)
            && lives_in(&entry.path(), group)
    });
    if lives {
        Census::Populated
    } else {
        Census::Empty
    }
}

/// Other systems leave zombies out when they count the receivers of a signal, or cannot tell.
#[cfg(not(target_os = "linux"))]
pub(super) fn census(group: Pid) -> Census {
    by_signal(group)
}

fn by_signal(group: Pid) -> Census {
    match rustix::process::test_kill_process_group(group) {
        Ok(()) => Census::Unknown,
        Err(_) => Census::Empty,
    }
}

#[cfg(target_os = "linux")]
fn lives_in(process: &std::path::Path, group: Pid) -> bool {
    use std::io::Read;

    // The line is at most a few hundred bytes; a process that has ended meanwhile does not live.
    let mut line = [0; 1024];
    let read = std::fs::File::open(process.join("stat")).and_then(|mut file| file.read(&mut line));
    let line = line.get(..read.unwrap_or(0)).unwrap_or_default();
    member_lives(line, group.as_raw_pid())
}

/// Reads `pid (name) state parent group ... threads ...`; the name may contain anything, brackets too.
#[cfg(target_os = "linux")]
fn member_lives(line: &[u8], group: i32) -> bool {
    let Some(end_of_name) = line.iter().rposition(|byte| *byte == b')') else {
        return false;
    };
    let fields = String::from_utf8_lossy(line.get(end_of_name + 1..).unwrap_or_default());
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<i32>().ok());
    if number(2) != Some(group) {
        return false;
    }
    match fields.first() {
        // The main thread has ended; others of the same process may run on.
        Some(&"Z") => number(17).is_some_and(|threads| threads > 1),
        Some(&"X") | None => false,
        Some(_) => true,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_member_lives_unless_it_is_a_zombie() {
        let line = |state: &str, group: u32, threads: u32| {
            format!(
                "42 (a) R (b) {state} 1 {group} 7 0 -1 0 1 2 3 4 5 6 7 8 20 0 {threads} 0 99 0 0"
            )
        };
        assert!(member_lives(line("S", 7, 1).as_bytes(), 7));
        assert!(member_lives(line("D", 7, 1).as_bytes(), 7));
        assert!(!member_lives(line("S", 8, 1).as_bytes(), 7));
        assert!(!member_lives(line("Z", 7, 1).as_bytes(), 7));
        assert!(!member_lives(line("X", 7, 1).as_bytes(), 7));
        assert!(!member_lives(b"", 7));
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_lives() {
        let line = "42 (x) Z 1 7 7 0 -1 0 1 2 3 4 5 6 7 8 20 0 2 0 99 0 0";
        assert!(member_lives(line.as_bytes(), 7));
    }

    #[test]
    fn our_own_group_is_populated() {
        assert_eq!(census(rustix::process::getpgrp()), Census::Populated);
    }
}
