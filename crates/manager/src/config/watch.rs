//! Notices when a config file says something else than before.
//!
//! What counts is the content. The system's notices only say when to look, so it does not matter how the file was changed:
//! written in place, renamed over, swapped behind a symbolic link at any place of its path, or gone for a moment in between.
//! Reads nothing out of the file and loads nothing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Config, WatchSettings};

/// How often to look where the system does not tell.
const POLL: Duration = Duration::from_secs(2);

/// How long a file may be missing or unreadable before that is news: saving it can take that long.
const AWAY: Duration = Duration::from_secs(3);

/// How often in a row a file is waited for to stand still. One that never does is read all the same.
const RESTLESS_MAX: u32 = 40;

/// Symbolic links that are followed on the way to the file.
const LINKS_MAX: usize = 40;

/// What was seen of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    Content([u8; 32]),
    /// It is not there, or cannot be read.
    Away,
}

/// Watches one file.
#[derive(Debug)]
pub struct Watcher {
    settings: WatchSettings,
    eyes: Arc<Mutex<Eyes>>,
    /// The system said that something may have changed.
    told: Arc<Notify>,
    /// What the last answer was about.
    known: Sight,
}

/// The part that touches the file system.
#[derive(Debug)]
struct Eyes {
    path: PathBuf,
    system: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// The names that matter, in whichever of the watched directories.
    names: Arc<Mutex<BTreeSet<OsString>>>,
    /// The system cannot be relied on to tell.
    blind: bool,
}

impl Watcher {
    /// Begins to watch. `loaded` is what was read of the file before, as [`Config::bytes`] gives it: a change since then
    /// counts. Where the system cannot tell of changes, the file is looked at now and then instead.
    ///
    /// Blocks on the file system.
    #[must_use]
    pub fn start(path: &Path, settings: WatchSettings, loaded: &[u8]) -> Self {
        let told = Arc::new(Notify::new());
        let names = Arc::new(Mutex::new(BTreeSet::new()));
        let system = listen(Arc::clone(&told), Arc::clone(&names));
        let mut eyes = Eyes {
            // Whatever becomes of our directory.
            path: std::path::absolute(path).unwrap_or_else(|_unnamed| path.to_owned()),
            system,
            watched: BTreeSet::new(),
            names,
            blind: false,
        };
        eyes.follow();
        Self {
            settings,
            eyes: Arc::new(Mutex::new(eyes)),
            told,
            known: Sight::Content(Sha256::digest(loaded).into()),
        }
    }

    /// Waits until the file says something else than when this returned last, or than what was loaded at first, and has
    /// stood still for a moment. Also returns when it has been missing for some seconds, and again when it is back.
    ///
    /// Level-triggered and cancel-safe: a change during which nobody waited is found by the next call. Has no deadline.
    pub async fn changed(&mut self) {
        loop {
            let sight = self.settled().await;
            if sight != self.known {
                self.known = sight;
                return;
            }
            let poll = self.settings.poll.or(self.is_blind().then_some(POLL));
            let told = self.told.notified();
            match poll {
                Some(poll) => {
                    // Looking is what follows in either case.
                    let _ = tokio::time::timeout(poll, told).await;
                }
                None => told.await,
            }
        }
    }

    /// What is to be seen once the file stands still; what is known already needs no waiting.
    async fn settled(&self) -> Sight {
        let mut before = self.look().await;
        let away_until = Instant::now() + AWAY;
        let mut restless = 0;
        while before != self.known {
            tokio::time::sleep(self.settings.debounce).await;
            let now = self.look().await;
            restless += 1;
            let still = now == before || restless > RESTLESS_MAX;
            let away = now == Sight::Away && Instant::now() < away_until;
            if still && !away {
                return now;
            }
            before = now;
        }
        before
    }

    /// Reads the file beside everything else: a slow disk delays nobody.
    async fn look(&self) -> Sight {
        let eyes = Arc::clone(&self.eyes);
        let look = tokio::task::spawn_blocking(move || {
            let mut eyes = eyes.lock().unwrap_or_else(PoisonError::into_inner);
            // First the watches, then the content: what changes in between is told.
            eyes.follow();
            eyes.sight()
        });
        look.await.unwrap_or(Sight::Away)
    }

    fn is_blind(&self) -> bool {
        let eyes = self.eyes.lock().unwrap_or_else(PoisonError::into_inner);
        eyes.blind
    }
}

impl Eyes {
    fn sight(&self) -> Sight {
        let bytes = Config::bytes(&self.path);
        bytes.map_or(Sight::Away, |bytes| {
            Sight::Content(Sha256::digest(&bytes).into())
        })
    }

    /// Watches the directories in which the path can come to mean another file: that of the file, and those of the links
    /// that lead there.
    fn follow(&mut self) {
        let steps = steps(&self.path);
        let directories: BTreeSet<PathBuf> = steps
            .iter()
            .filter_map(|step| step.parent().map(Path::to_owned))
            .collect();
        // The directories too: they can be moved away themselves.
        let places = steps.iter().chain(&directories);
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = places
            .filter_map(|step| step.file_name().map(ToOwned::to_owned))
            .collect();
        let Some(system) = &mut self.system else {
            self.blind = true;
            return;
        };
        self.blind = directories.iter().any(|directory| is_remote(directory));
        for gone in self.watched.difference(&directories) {
            // It may be gone already, and its watch with it.
            let _ = system.unwatch(gone);
        }
        for directory in &directories {
            // Every time: a directory that was replaced by another one of its name is another one.
            if let Err(error) = system.watch(directory, RecursiveMode::NonRecursive) {
                tracing::debug!(directory = %directory.display(), %error, "cannot be watched; looked at now and then instead");
                self.blind = true;
            }
        }
        self.watched = directories;
    }
}

/// The system's notices, as a level. `None`: it gives none.
fn listen(told: Arc<Notify>, names: Arc<Mutex<BTreeSet<OsString>>>) -> Option<RecommendedWatcher> {
    let heard = move |event: notify::Result<notify::Event>| {
        let matters = match event {
            Ok(event) => {
                let names = names.lock().unwrap_or_else(PoisonError::into_inner);
                let named =
                    |path: &PathBuf| path.file_name().is_none_or(|name| names.contains(name));
                is_change(event.kind) && (event.paths.is_empty() || event.paths.iter().any(named))
            }
            // Something was missed.
            Err(_) => true,
        };
        if matters {
            told.notify_one();
        }
    };
    notify::recommended_watcher(heard)
        .inspect_err(|error| tracing::debug!(%error, "the system does not tell of changed files"))
        .ok()
}

/// Reading the file is no news, or it would be read for ever.
const fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
        EventKind::Access(_) => false,
    }
}

/// Every place at which a path is decided: each symbolic link on the way, and the file itself.
fn steps(path: &Path) -> Vec<PathBuf> {
    let mut steps = Vec::new();
    let mut left: Vec<OsString> = names_of(path);
    left.reverse();
    let mut here = PathBuf::from("/");
    while let Some(name) = left.pop() {
        if name == ".." {
            here.pop();
            continue;
        }
        let step = here.join(&name);
        let target = fs::read_link(&step);
        if let (Ok(target), true) = (target, steps.len() < LINKS_MAX) {
            steps.push(step);
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            left.extend(names_of(&target).into_iter().rev());
        } else {
            here = step;
        }
    }
    steps.push(here);
    steps
}

fn names_of(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// Whether a directory is on a disk whose changes other machines make, of which this system hears nothing.
#[cfg(target_os = "linux")]
fn is_remote(directory: &Path) -> bool {
    /// NFS, SMB in its three forms, AFS, Ceph, 9P, FUSE, VirtualBox and VMware folders.
    const REMOTE: [u32; 10] = [
        0x0000_6969,
        0x0000_517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x5346_414f,
        0x00c3_6400,
        0x0102_1997,
        0x6573_5546,
        0x786f_4256,
        0xbacb_acbc,
    ];
    // A directory that is not there is missed by its watch.
    rustix::fs::statfs(directory).is_ok_and(|disk| {
        // The kernel's own numbers have 32 bits.
        let kind = u32::try_from(disk.f_type & 0xffff_ffff).unwrap_or(0);
        REMOTE.contains(&kind)
    })
}

#[cfg(not(target_os = "linux"))]
fn is_remote(_directory: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// Reached by a failing test only.
    const PATIENCE: Duration = Duration::from_secs(60);

    struct Bench {
        dir: TempDir,
        watcher: Watcher,
    }

    impl Bench {
        fn watching(dir: TempDir, name: &str, poll: Option<Duration>) -> Self {
            let settings = WatchSettings {
                debounce: Duration::from_millis(20),
                poll,
            };
            let path = dir.path().join(name);
            let loaded = fs::read(&path).unwrap();
            let watcher = Watcher::start(&path, settings, &loaded);
            Self { dir, watcher }
        }

        fn new() -> Self {
            let dir = TempDir::new().unwrap();
            fs::write(dir.path().join("mcp.json"), "one").unwrap();
            Self::watching(dir, "mcp.json", None)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        async fn changes(&mut self) {
            tokio::time::timeout(PATIENCE, self.watcher.changed())
                .await
                .expect("the change is noticed");
        }

        async fn is_quiet(&mut self) -> bool {
            self.watcher.look().await == self.watcher.known
        }
    }

    #[tokio::test]
    async fn f217_a_file_written_in_place_or_renamed_over_is_noticed_and_the_same_again_is_not() {
        let mut bench = Bench::new();
        bench.write("mcp.json", "two");
        bench.changes().await;
        bench.write("new", "three");
        fs::rename(bench.path("new"), bench.path("mcp.json")).unwrap();
        bench.changes().await;
        assert!(bench.is_quiet().await);
        // The old one is moved away first, as some editors do.
        fs::rename(bench.path("mcp.json"), bench.path("mcp.json~")).unwrap();
        bench.write("mcp.json", "four");
        bench.changes().await;
        bench.write("mcp.json", "four");
        assert!(bench.is_quiet().await, "it says the same");
        // A change during which nobody waits.
        bench.write("mcp.json", "five");
        tokio::select! {
            biased;
            // Cancel-safe: that is what is tested.
            () = bench.watcher.changed() => panic!("not before it stands still"),
            // Cancel-safe: holds nothing.
            () = tokio::task::yield_now() => {}
        }
        bench.changes().await;
    }

    #[tokio::test]
    async fn f217_a_file_is_read_when_it_stands_still() {
        let mut bench = Bench::new();
        bench.watcher.settings.debounce = Duration::from_millis(400);
        let path = bench.path("mcp.json");
        let writing = std::thread::spawn(move || {
            for text in ["", "t", "tw", "two"] {
                fs::write(&path, text).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        bench.changes().await;
        writing.join().unwrap();
        let two = Sight::Content(Sha256::digest("two").into());
        assert_eq!(bench.watcher.known, two, "nothing half was told");
    }

    #[tokio::test]
    async fn a_missing_file_is_news_after_a_while_and_again_when_it_is_back() {
        let mut bench = Bench::new();
        fs::remove_file(bench.path("mcp.json")).unwrap();
        bench.changes().await;
        assert_eq!(bench.watcher.known, Sight::Away);
        bench.write("mcp.json", "one");
        bench.changes().await;
    }

    #[tokio::test]
    async fn a_link_that_is_swapped_at_any_place_of_the_path_is_noticed() {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        // As mounted configurations of clusters are laid out.
        for (folder, text) in [("first", "one"), ("second", "two")] {
            fs::create_dir(at(folder)).unwrap();
            fs::write(at(folder).join("mcp.json"), text).unwrap();
        }
        symlink("first", at("data")).unwrap();
        symlink("data/mcp.json", at("mcp.json")).unwrap();
        let mut bench = Bench::watching(dir, "mcp.json", None);
        symlink("second", bench.path("data.new")).unwrap();
        fs::rename(bench.path("data.new"), bench.path("data")).unwrap();
        bench.changes().await;
        // The target is watched too, wherever it is now.
        bench.write("second/mcp.json", "three");
        bench.changes().await;
        bench.write("other.json", "four");
        symlink("other.json", bench.path("link.new")).unwrap();
        fs::rename(bench.path("link.new"), bench.path("mcp.json")).unwrap();
        bench.changes().await;
    }

    #[tokio::test]
    async fn where_the_system_tells_nothing_the_file_is_looked_at_now_and_then() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("mcp.json"), "one").unwrap();
        let mut bench = Bench::watching(dir, "mcp.json", Some(Duration::from_millis(50)));
        bench.watcher.eyes.lock().unwrap().system = None;
        bench.write("mcp.json", "two");
        bench.changes().await;
        bench.watcher.settings.poll = None;
        bench.write("mcp.json", "three");
        bench.changes().await;
    }
}
