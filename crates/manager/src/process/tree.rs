//! What the processes of a server use: memory and processor time of the leader of its group, of the members of the group,
//! and of all their descendants.
//!
//! Read when somebody asks, and never otherwise; one look at the system serves all servers. On Linux only: elsewhere nothing is known, which is told as nothing, not as zero.
//!
//! Memory is what is resident. Pages that processes share are counted once for each of them, so a server of many processes
//! looks larger than it is.

use std::sync::{Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

/// Percentages are over at least this long, so that one who asks twice in a row reads no noise.
const SPAN_MS: u128 = 1_000;

/// What the processes of one server use.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// The leader of the group.
    pub pid: u32,
    /// How many processes there are.
    pub processes: usize,
    /// Resident memory of all of them together, in bytes.
    pub rss_bytes: u64,
    /// Processor time since the last look, or since the start, in percent of one processor. Can be above 100.
    pub cpu_percent: f64,
    /// Processor time of all that live, and of those of their children that have ended, in milliseconds.
    pub cpu_ms: u64,
}

/// All processes of the system at one moment.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    all: Vec<Process>,
    /// Milliseconds since the system was started.
    now_ms: u64,
    units: Units,
}

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    /// Its own and those of its children that have ended, in ticks.
    cpu_ticks: u64,
    started_ticks: u64,
    rss_pages: u64,
}

/// What the system counts in.
#[derive(Debug, Clone, Copy)]
struct Units {
    page_bytes: u64,
    ticks_per_second: u64,
}

impl Default for Units {
    fn default() -> Self {
        Self {
            page_bytes: 4_096,
            ticks_per_second: 100,
        }
    }
}

/// Remembers the last look at one server, to tell what it has used since.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    last: Mutex<Option<Look>>,
}

#[derive(Debug, Clone)]
struct Look {
    at: Instant,
    pids: Vec<u32>,
    cpu_ms: u64,
    percent: f64,
}

impl Processes {
    /// Looks at the system. Blocks for some milliseconds on a machine with many processes.
    pub(crate) fn look() -> Self {
        sys::look()
    }

    /// What the processes of these groups use together; the first pid stands for all. `None` if nothing is known of them.
    pub(crate) fn of(&self, leaders: &[u32], meter: &Meter) -> Option<ProcessStatus> {
        let members = self.members(leaders);
        let first = leaders.first()?;
        if members.is_empty() {
            return None;
        }
        let ms = |ticks: u64| ticks.saturating_mul(1_000) / self.units.ticks_per_second.max(1);
        let cpu_ms = ms(members.iter().map(|process| process.cpu_ticks).sum());
        let oldest = members.iter().map(|process| process.started_ticks).min();
        let age_ms = self.now_ms.saturating_sub(ms(oldest.unwrap_or_default()));
        let pages: u64 = members.iter().map(|process| process.rss_pages).sum();
        Some(ProcessStatus {
            pid: *first,
            processes: members.len(),
            rss_bytes: pages.saturating_mul(self.units.page_bytes),
            cpu_percent: meter.percent(leaders, cpu_ms, age_ms),
            cpu_ms,
        })
    }

    /// The leaders, the members of their groups, and all descendants of these.
    fn members(&self, leaders: &[u32]) -> Vec<Process> {
        let leads = |id: i32| {
            leaders
                .iter()
                .any(|leader| i64::from(*leader) == i64::from(id))
        };
        let mut is_member: Vec<bool> = self
            .all
            .iter()
            .map(|process| leads(process.pid) || leads(process.group))
            .collect();
        let mut found: std::collections::HashSet<i32> = self
            .all
            .iter()
            .zip(&is_member)
            .filter(|(_, is_member)| **is_member)
            .map(|(process, _)| process.pid)
            .collect();
        // Each round finds one more generation of descendants; a round that finds none is the last.
        loop {
            let before = found.len();
            for (process, is_member) in self.all.iter().zip(&mut is_member) {
                if !*is_member && found.contains(&process.parent) {
                    *is_member = true;
                    found.insert(process.pid);
                }
            }
            if found.len() == before {
                break;
            }
        }
        let members = self.all.iter().zip(is_member);
        members
            .filter(|(_, is_member)| *is_member)
            .map(|(process, _)| *process)
            .collect()
    }
}

impl Meter {
    /// The share of one processor since the last look at the same processes, or since they were started.
    fn percent(&self, pids: &[u32], cpu_ms: u64, age_ms: u64) -> f64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let known = last.as_ref().filter(|last| last.pids == pids);
        let percent = match known {
            Some(look) => {
                let span_ms = now.saturating_duration_since(look.at).as_millis();
                if span_ms < SPAN_MS {
                    return look.percent;
                }
                share(cpu_ms.saturating_sub(look.cpu_ms), span_ms)
            }
            None => share(cpu_ms, u128::from(age_ms)),
        };
        *last = Some(Look {
            at: now,
            pids: pids.to_vec(),
            cpu_ms,
            percent,
        });
        percent
    }
}

/// In percent, with one decimal.
fn share(part_ms: u64, whole_ms: u128) -> f64 {
    let tenths = u128::from(part_ms) * 1_000 / whole_ms.max(1);
    f64::from(u32::try_from(tenths).unwrap_or(u32::MAX)) / 10.0
}

#[cfg(target_os = "linux")]
mod sys {
    use std::io::Read;
    use std::sync::OnceLock;

    use super::{Process, Processes, Units};

    /// Processes that are looked at at most.
    const PROCESSES_MAX: usize = 65_536;

    pub(super) fn look() -> Processes {
        let own = std::process::id().to_string();
        // A /proc that belongs to another pid namespace would speak of other processes.
        if !std::fs::read_link("/proc/self").is_ok_and(|target| target.as_os_str() == own.as_str())
        {
            return Processes::default();
        }
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return Processes::default();
        };
        let all = entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                let first = name.as_encoded_bytes().first();
                first.is_some_and(u8::is_ascii_digit)
            })
            .take(PROCESSES_MAX)
            .filter_map(|entry| {
                // The line is at most a few hundred bytes; a process that has ended meanwhile uses nothing.
                let mut line = [0; 1024];
                let mut file = std::fs::File::open(entry.path().join("stat")).ok()?;
                let read = file.read(&mut line).ok()?;
                process(line.get(..read)?)
            })
            .collect();
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        Processes {
            all,
            now_ms: uptime_ms(&uptime),
            units: units(),
        }
    }

    /// Reads `pid (name) state parent group ...`; the name may contain anything, brackets too.
    pub(super) fn process(line: &[u8]) -> Option<Process> {
        let end_of_name = line.iter().rposition(|byte| *byte == b')')?;
        let pid = line.split(|byte| *byte == b' ').next()?;
        let pid = std::str::from_utf8(pid).ok()?.parse().ok()?;
        let fields = std::str::from_utf8(line.get(end_of_name + 1..)?).ok()?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let id = |at: usize| fields.get(at).and_then(|field| field.parse::<i32>().ok());
        // Field n of the manual is at n - 3 here.
        Some(Process {
            pid,
            parent: id(1)?,
            group: id(2)?,
            cpu_ticks: (11..=14).filter_map(number).sum(),
            started_ticks: number(19)?,
            rss_pages: number(21)?,
        })
    }

    fn uptime_ms(text: &str) -> u64 {
        let seconds = text.split_ascii_whitespace().next().unwrap_or_default();
        let (whole, part) = seconds.split_once('.').unwrap_or((seconds, "0"));
        let whole: u64 = whole.parse().unwrap_or_default();
        let hundredths: u64 = part.get(..2).unwrap_or("0").parse().unwrap_or_default();
        whole * 1_000 + hundredths * 10
    }

    /// What the kernel told this process of its units when it was started.
    fn units() -> Units {
        static UNITS: OnceLock<Units> = OnceLock::new();
        *UNITS.get_or_init(|| {
            const PAGE_BYTES: usize = 6;
            const TICKS_PER_SECOND: usize = 17;
            const WORD: usize = size_of::<usize>();
            let vector = std::fs::read("/proc/self/auxv").unwrap_or_default();
            let mut units = Units::default();
            let words: Vec<usize> = vector
                .chunks_exact(WORD)
                .filter_map(|word| word.try_into().ok().map(usize::from_ne_bytes))
                .collect();
            for pair in words.chunks_exact(2) {
                match *pair {
                    [PAGE_BYTES, value] => units.page_bytes = value as u64,
                    [TICKS_PER_SECOND, value] => units.ticks_per_second = value as u64,
                    _ => {}
                }
            }
            units
        })
    }
}

/// Other systems do not tell it cheaply: nothing is known.
#[cfg(not(target_os = "linux"))]
mod sys {
    pub(super) fn look() -> super::Processes {
        super::Processes::default()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn one(pid: i32, parent: i32, group: i32) -> Process {
        Process {
            pid,
            parent,
            group,
            cpu_ticks: 10,
            started_ticks: 0,
            rss_pages: 2,
        }
    }

    #[test]
    fn a_line_is_read_whatever_the_process_is_called() {
        let line = b"42 (a) b (c) S 7 40 40 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 555 1000 66 18446744073709551615\n";
        let read = sys::process(line).unwrap();
        let expected = Process {
            pid: 42,
            parent: 7,
            group: 40,
            cpu_ticks: 127,
            started_ticks: 555,
            rss_pages: 66,
        };
        assert_eq!(read, expected);
        assert_eq!(sys::process(b"garbage"), None);
        assert_eq!(sys::process(b"42 (a) S 7"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_group_its_members_and_all_descendants_count_and_nobody_else() {
        let processes = Processes {
            // A grandchild that left the group stands before its parent; an orphan of the group has another parent.
            all: vec![
                one(1, 0, 1),
                one(23, 22, 23),
                one(20, 1, 20),
                one(21, 1, 20),
                one(22, 20, 20),
                one(30, 1, 30),
            ],
            now_ms: 10_000,
            units: Units::default(),
        };
        let meter = Meter::default();
        let used = processes.of(&[20], &meter).unwrap();
        assert_eq!((used.pid, used.processes), (20, 4));
        assert_eq!((used.rss_bytes, used.cpu_ms), (4 * 2 * 4_096, 400));
        assert!(
            (used.cpu_percent - 4.0).abs() < 0.01,
            "since the start: {used:?}"
        );
        assert_eq!(processes.of(&[99], &meter), None);
        // Since the last look: nothing was used.
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        let again = processes.of(&[20], &meter).unwrap();
        assert!(again.cpu_percent.abs() < 0.01, "{again:?}");
    }

    #[test]
    fn our_own_process_is_there_with_its_memory() {
        let own = std::process::id();
        let used = Processes::look().of(&[own], &Meter::default()).unwrap();
        assert!(used.rss_bytes > 500_000, "{used:?}");
        assert!(used.processes >= 1);
    }
}
