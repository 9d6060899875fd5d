//! Who holds a pipe. Asked only when a pipe outlives the group that it was given to: then a process has left the group.

use std::os::fd::AsFd;

/// One pipe, whoever holds which end of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeId(u64);

impl PipeId {
    /// The pipe behind a descriptor; `None` if it is none.
    pub fn of(end: impl AsFd) -> Option<Self> {
        let stat = rustix::fs::fstat(end).ok()?;
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        (kind == rustix::fs::FileType::Fifo).then_some(Self(stat.st_ino))
    }

    /// The processes that hold an end of it, without us. Looks at every process of the system, so it blocks for some
    /// milliseconds; empty where the system does not tell, or not to us.
    pub fn holders(self) -> Vec<u32> {
        let own = std::process::id();
        let wanted = format!("pipe:[{}]", self.0);
        let Ok(processes) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        let ids = processes
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let holds = |pid: &u32| {
            let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
            open.is_ok_and(|open| {
                open.flatten().any(|entry| {
                    std::fs::read_link(entry.path())
                        .is_ok_and(|target| target.as_os_str() == wanted.as_str())
                })
            })
        };
        ids.filter(|pid| *pid != own).filter(holds).collect()
    }
}
