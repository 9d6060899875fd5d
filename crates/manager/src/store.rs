//! Last good catalogs on disk (law 22): what a server listed when it was last connected, and which generation of MCP it
//! spoke, so that a restart of Mainstay does not begin with an empty list.
//!
//! A catalog is a hint, never a need: whatever is wrong with a stored one, it is put aside and the server is listed afresh.
//! This module keeps bytes. It does not look into items, does not know the time, and never decides whether a stored
//! catalog is still good enough to show.
//!
//! One file per server, replaced atomically. Its first line names the format and a hash of the rest, so that a file that
//! was cut short or changed is told from a good one. Every function blocks on the file system.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::config::Fingerprint;

/// Largest stored catalog, in bytes. 2,000 tools with elaborate schemas need about 8 MiB.
const CATALOG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// First word of every file. A change of the format changes the number; older files are then put aside.
const FORMAT: &str = "mainstay-catalog-1";
/// Prefix of files that are being written.
const UNFINISHED: &str = ".unfinished-";
/// Age at which an unfinished file belongs to nobody any more.
const UNFINISHED_AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// A directory of last good catalogs. Cheap to clone. Several processes may share one directory: the last writer wins.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// What a server listed when it was last connected. Items are the server's own JSON text, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredCatalog {
    /// When it was listed, in milliseconds of the Unix clock.
    pub saved_at_unix_ms: u64,
    /// The protocol revision that was spoken, such as `2025-11-25`.
    pub protocol: Option<String>,
    /// It was listed over the HTTP+SSE transport of 2024-11-05.
    pub over_sse: bool,
    /// The server's `serverInfo`, as JSON text.
    pub server_info: Option<String>,
    /// The server's `capabilities`, as JSON text.
    pub capabilities: Option<String>,
    /// The server's instructions, as plain text.
    pub instructions: Option<String>,
    /// Tools, each as JSON text.
    pub tools: Vec<String>,
    /// Prompts, each as JSON text.
    pub prompts: Vec<String>,
    /// Resources, each as JSON text.
    pub resources: Vec<String>,
    /// Resource templates, each as JSON text.
    pub templates: Vec<String>,
}

/// Why the store cannot be used, or a catalog not be kept. The caller may always go on without: only the list after the
/// next start of Mainstay begins empty.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made, read or written. The cause is in `source()`.
    #[error(
        "cannot {action} the state directory {}\n    help: make it a directory that this user may read and write, or name \
         another as `mainstay.stateDir` in the config",
        dir.display()
    )]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// What was tried: "create", "read" or "write to".
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A catalog could not be written. The one stored before is untouched. The cause is in `source()`.
    #[error("cannot write the catalog of `{server}` to {}", path.display())]
    Unwritable {
        /// The server.
        server: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A catalog is larger than what is kept. The one stored before is untouched.
    #[error("the catalog of `{server}` has {bytes} bytes, more than the {max} that are kept")]
    TooLarge {
        /// The server.
        server: String,
        /// Its size.
        bytes: u64,
        /// The most that is kept.
        max: u64,
    },
    /// An item is not JSON. The catalog stored before is untouched. The cause is in `source()`.
    #[error("the catalog of `{server}` cannot be kept: a part of its {part} is not JSON")]
    NotJson {
        /// The server.
        server: String,
        /// Which list.
        part: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
}

/// What is written behind the first line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    server: String,
    fingerprint: String,
    saved_at_unix_ms: u64,
    protocol: Option<String>,
    #[serde(default)]
    over_sse: bool,
    server_info: Option<Box<RawValue>>,
    capabilities: Option<Box<RawValue>>,
    instructions: Option<String>,
    tools: Vec<Box<RawValue>>,
    prompts: Vec<Box<RawValue>>,
    resources: Vec<Box<RawValue>>,
    templates: Vec<Box<RawValue>>,
}

impl Store {
    /// The user's directory for state: `$XDG_STATE_HOME/mainstay` on Linux, the application data directory on macOS. `None`
    /// when the user has no home.
    pub fn default_dir() -> Option<PathBuf> {
        let dirs = directories::ProjectDirs::from("", "", "mainstay")?;
        Some(
            dirs.state_dir()
                .unwrap_or_else(|| dirs.data_local_dir())
                .to_owned(),
        )
    }

    /// Opens the directory, makes it if needed (for this user alone), and checks that it can be read and written.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unusable`], with what was tried.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        let unusable = |action| {
            move |source| StoreError::Unusable {
                dir: dir.to_owned(),
                action,
                source,
            }
        };
        create_private(dir).map_err(unusable("create"))?;
        sweep(dir).map_err(unusable("read"))?;
        let mut probe = unfinished(dir).map_err(unusable("write to"))?;
        probe.write_all(b"probe").map_err(unusable("write to"))?;
        probe.close().map_err(unusable("write to"))?;
        Ok(Store {
            dir: dir.to_owned(),
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps `catalog` as the last good one of `server`. `fingerprint` is that of its
    /// [connection](crate::config::Fingerprints::connection): a catalog is only ever loaded for the same one.
    ///
    /// Atomic: after a crash at any moment there is the old catalog or the new one.
    ///
    /// # Errors
    ///
    /// Everything but [`StoreError::Unusable`]. What was stored before is then still there.
    pub fn save_catalog(
        &self,
        server: &str,
        fingerprint: &Fingerprint,
        catalog: &StoredCatalog,
    ) -> Result<(), StoreError> {
        let body = catalog.to_body(server, fingerprint)?;
        let text = serde_json::to_string(&body).map_err(|source| StoreError::NotJson {
            server: server.to_owned(),
            part: "catalog",
            source,
        })?;
        let head = head(FORMAT, text.as_bytes());
        let bytes = (head.len() + text.len()) as u64;
        if bytes > CATALOG_BYTES_MAX {
            return Err(StoreError::TooLarge {
                server: server.to_owned(),
                bytes,
                max: CATALOG_BYTES_MAX,
            });
        }
        let path = self.path(server);
        replace(&self.dir, &path, FORMAT, text.as_bytes()).map_err(|source| {
            StoreError::Unwritable {
                server: server.to_owned(),
                path: path.clone(),
                source,
            }
        })
    }

    /// The last good catalog of `server`, if there is one for this fingerprint. A file that is damaged or cannot be read is
    /// logged as a warning, put aside under another name where possible, and counts as absent.
    pub fn load_catalog(&self, server: &str, fingerprint: &Fingerprint) -> Option<StoredCatalog> {
        let path = self.path(server);
        let bytes = match read_bounded(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                put_aside(&path, server, &error);
                return None;
            }
        };
        match parse(&bytes) {
            Ok(body) if body.server == server && body.fingerprint == fingerprint.to_string() => {
                Some(StoredCatalog::from_body(body))
            }
            // A server that was configured differently, or another whose name has the same hash: not damaged, only not ours.
            Ok(_) => None,
            Err(damage) => {
                put_aside(&path, server, &damage);
                None
            }
        }
    }

    /// Forgets the catalog of `server`, such as when it was removed from the config.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unwritable`]. That there was none is no error.
    pub fn remove_catalog(&self, server: &str) -> Result<(), StoreError> {
        let path = self.path(server);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::Unwritable {
                server: server.to_owned(),
                path,
                source: error,
            }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn path(&self, server: &str) -> PathBuf {
        file_of(&self.dir, "catalog", server)
    }
}

impl StoredCatalog {
    fn to_body(&self, server: &str, fingerprint: &Fingerprint) -> Result<Body, StoreError> {
        let raw = |part: &'static str, text: &String| {
            RawValue::from_string(text.clone()).map_err(|source| StoreError::NotJson {
                server: server.to_owned(),
                part,
                source,
            })
        };
        let raws = |part: &'static str, texts: &[String]| -> Result<Vec<_>, StoreError> {
            texts.iter().map(|text| raw(part, text)).collect()
        };
        Ok(Body {
            server: server.to_owned(),
            fingerprint: fingerprint.to_string(),
            saved_at_unix_ms: self.saved_at_unix_ms,
            protocol: self.protocol.clone(),
            over_sse: self.over_sse,
            server_info: self
                .server_info
                .as_ref()
                .map(|text| raw("serverInfo", text))
                .transpose()?,
            capabilities: self
                .capabilities
                .as_ref()
                .map(|text| raw("capabilities", text))
                .transpose()?,
            instructions: self.instructions.clone(),
            tools: raws("tools", &self.tools)?,
            prompts: raws("prompts", &self.prompts)?,
            resources: raws("resources", &self.resources)?,
            templates: raws("resource templates", &self.templates)?,
        })
    }

    fn from_body(body: Body) -> StoredCatalog {
        let text = |raw: Box<RawValue>| raw.get().to_owned();
        let texts = |raws: Vec<Box<RawValue>>| raws.into_iter().map(text).collect();
        StoredCatalog {
            saved_at_unix_ms: body.saved_at_unix_ms,
            protocol: body.protocol,
            over_sse: body.over_sse,
            server_info: body.server_info.map(text),
            capabilities: body.capabilities.map(text),
            instructions: body.instructions,
            tools: texts(body.tools),
            prompts: texts(body.prompts),
            resources: texts(body.resources),
            templates: texts(body.templates),
        }
    }
}

/// The file of one kind for one server: a name that every file system takes, whatever the server is called. Readable
/// characters of the name for people, and a hash of all of it to tell names apart (also on file systems that ignore case).
pub(crate) fn file_of(dir: &Path, kind: &str, server: &str) -> PathBuf {
    const READABLE_CHARS_MAX: usize = 40;
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    let readable: String = server.chars().take(READABLE_CHARS_MAX).map(plain).collect();
    let digest = Sha256::digest(server.as_bytes());
    dir.join(format!("{kind}-{readable}-{}.json", hex(&digest[..8])))
}

/// A folder of one kind for one server, by the same rules.
pub(crate) fn folder_of(dir: &Path, kind: &str, server: &str) -> PathBuf {
    file_of(&dir.join(kind), kind, server).with_extension("")
}

/// Puts a file into the place of another, or of none: after a crash at any moment there is the old one or the new one. For
/// this user alone.
pub(crate) fn replace(dir: &Path, path: &Path, format: &str, body: &[u8]) -> io::Result<()> {
    let mut file = unfinished(dir)?;
    file.write_all(head(format, body).as_bytes())?;
    file.write_all(body)?;
    // The content must be on the disk before the name points to it, or a power cut leaves an empty file.
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

pub(crate) fn head(format: &str, body: &[u8]) -> String {
    format!("{format} {}\n", hex(&Sha256::digest(body)))
}

/// What a file holds behind its first line, if that is right.
pub(crate) fn checked<'b>(bytes: &'b [u8], format: &str) -> io::Result<&'b [u8]> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or_else(|| damaged("the first line is missing"))?;
    let (first, body) = bytes.split_at(end + 1);
    if !first.starts_with(format.as_bytes()) {
        return Err(damaged("the format is not known"));
    }
    if first != head(format, body).as_bytes() {
        return Err(damaged("the file was cut short or changed"));
    }
    Ok(body)
}

fn parse(bytes: &[u8]) -> io::Result<Body> {
    Ok(serde_json::from_slice(checked(bytes, FORMAT)?)?)
}

pub(crate) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(CATALOG_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CATALOG_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is too large",
        ));
    }
    Ok(bytes)
}

/// Keeps one damaged file per server for whoever wants to look at it.
fn put_aside(path: &Path, server: &str, damage: &io::Error) {
    let aside = path.with_extension("damaged");
    let kept = fs::rename(path, &aside);
    let kept_as = kept.as_ref().ok().map(|()| aside.display().to_string());
    tracing::warn!(server, path = %path.display(), kept_as, %damage, "a stored catalog cannot be used and is ignored");
}

pub(crate) fn unfinished(dir: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir)
}

/// Reads the directory and removes what writers that were killed have left behind.
pub(crate) fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED);
        let age = entry
            .metadata()
            .and_then(|data| data.modified())
            .map(|at| at.elapsed().unwrap_or_default());
        if is_unfinished && age.is_ok_and(|age| age > UNFINISHED_AGE_MAX) {
            // Somebody else may have removed it meanwhile; and if not, it costs a little space, nothing more.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

#[cfg(unix)]
pub(crate) fn create_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

#[cfg(not(unix))]
pub(crate) fn create_private(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use proptest::prelude::*;

    use super::*;
    use crate::config::ServerConfig;

    fn fingerprint(command: &str) -> Fingerprint {
        ServerConfig::stdio("any", command)
            .fingerprints()
            .connection
    }

    fn catalog() -> StoredCatalog {
        StoredCatalog {
            saved_at_unix_ms: 1_700_000_000_123,
            protocol: Some("2025-11-25".to_owned()),
            over_sse: true,
            server_info: Some(r#"{"name":"t", "version":1.10}"#.to_owned()),
            capabilities: Some("{ }".to_owned()),
            instructions: Some("Ask\nkindly".to_owned()),
            // Key order, big numbers, odd spacing and doubled keys: kept byte for byte.
            tools: vec![
                r#"{"z":1,"name":"a","n":123456789012345678901234567890,"n":1.10}"#.to_owned(),
                "{\n \"name\" : \"b\\u00e9\" }".to_owned(),
            ],
            prompts: vec![],
            resources: vec![r#"{"uri":"x:1"}"#.to_owned()],
            templates: vec![r#"{"uriTemplate":"x:{y}"}"#.to_owned()],
        }
    }

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn law_22_a_catalog_comes_back_byte_for_byte_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let nested = dir.path().join("a/b");
        let print = fingerprint("uvx");
        Store::open(&nested)
            .unwrap()
            .save_catalog("time", &print, &catalog())
            .unwrap();

        let again = Store::open(&nested).unwrap();
        assert_eq!(again.load_catalog("time", &print), Some(catalog()));
        assert_eq!(again.load_catalog("other", &print), None);
        assert_eq!(
            files(&nested).len(),
            1,
            "nothing unfinished is left: {:?}",
            files(&nested)
        );
    }

    #[test]
    fn another_configuration_of_the_same_server_gets_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store
            .save_catalog("time", &fingerprint("uvx"), &catalog())
            .unwrap();
        assert_eq!(store.load_catalog("time", &fingerprint("npx")), None);
        assert_eq!(
            store.load_catalog("time", &fingerprint("uvx")),
            Some(catalog()),
            "and it is not lost by asking"
        );
    }

    #[test]
    fn the_last_catalog_wins_and_can_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let print = fingerprint("uvx");
        store.save_catalog("time", &print, &catalog()).unwrap();
        store
            .save_catalog("time", &print, &StoredCatalog::default())
            .unwrap();
        assert_eq!(
            store.load_catalog("time", &print),
            Some(StoredCatalog::default())
        );
        store.remove_catalog("time").unwrap();
        assert_eq!(store.load_catalog("time", &print), None);
        store.remove_catalog("time").unwrap();
    }

    #[test]
    fn an_item_that_is_not_json_is_refused_and_the_old_catalog_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let print = fingerprint("uvx");
        store.save_catalog("time", &print, &catalog()).unwrap();
        let bad = StoredCatalog {
            prompts: vec!["{oops".to_owned()],
            ..catalog()
        };
        let error = store.save_catalog("time", &print, &bad).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the catalog of `time` cannot be kept: a part of its prompts is not JSON"
        );
        assert_eq!(store.load_catalog("time", &print), Some(catalog()));
    }

    #[test]
    fn a_catalog_that_is_too_large_is_refused_and_the_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let print = fingerprint("uvx");
        store.save_catalog("time", &print, &catalog()).unwrap();
        let long = format!("\"{}\"", "x".repeat(CATALOG_BYTES_MAX as usize));
        let error = store
            .save_catalog(
                "time",
                &print,
                &StoredCatalog {
                    tools: vec![long],
                    ..catalog()
                },
            )
            .unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::TooLarge {
                    max: CATALOG_BYTES_MAX,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(store.load_catalog("time", &print), Some(catalog()));
        assert_eq!(files(dir.path()).len(), 1);
    }

    #[test]
    fn every_damage_is_noticed_ignored_and_kept_aside() {
        let print = fingerprint("uvx");
        type Damage = fn(Vec<u8>) -> Vec<u8>;
        let damages: [(&str, Damage); 6] = [
            ("cut short", |bytes| bytes[..bytes.len() / 2].to_vec()),
            ("emptied", |_| Vec::new()),
            ("one bit changed", |mut bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                bytes
            }),
            ("appended", |mut bytes| {
                bytes.push(b' ');
                bytes
            }),
            ("another format", |bytes| {
                [b"mainstay-catalog-0", &bytes[18..]].concat()
            }),
            ("not text", |_| vec![0xff; 100]),
        ];
        for (what, damage) in damages {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            store.save_catalog("time", &print, &catalog()).unwrap();
            let path = store.path("time");
            let damaged = damage(fs::read(&path).unwrap());
            fs::write(&path, &damaged).unwrap();

            assert_eq!(store.load_catalog("time", &print), None, "{what}");
            assert!(!path.exists(), "{what}");
            assert_eq!(
                fs::read(path.with_extension("damaged")).unwrap(),
                damaged,
                "{what}"
            );
            // And the next one is kept again.
            store.save_catalog("time", &print, &catalog()).unwrap();
            assert_eq!(
                store.load_catalog("time", &print),
                Some(catalog()),
                "{what}"
            );
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let path = store.path("time");
        // Sparse: takes no space.
        fs::File::create(&path)
            .unwrap()
            .set_len(CATALOG_BYTES_MAX + 1)
            .unwrap();
        assert_eq!(store.load_catalog("time", &fingerprint("uvx")), None);
        assert!(path.with_extension("damaged").exists());
    }

    #[test]
    fn something_else_in_place_of_the_file_is_survived() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::create_dir(store.path("time")).unwrap();
        assert_eq!(store.load_catalog("time", &fingerprint("uvx")), None);
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_named_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Store::open(&file).unwrap_err();
        let expected = format!(
            "cannot create the state directory {}\n    help: make it a directory that this user may read and write, or name \
             another as `mainstay.stateDir` in the config",
            file.display()
        );
        assert_eq!(error.to_string(), expected);
        assert!(error.source().is_some());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        // Not even root may create files here.
        let error = Store::open(Path::new("/proc")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot write to the state directory /proc\n"),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn law_31_only_this_user_may_read_what_is_kept() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let store = Store::open(&state).unwrap();
        store
            .save_catalog("time", &fingerprint("uvx"), &catalog())
            .unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&store.path("time"))), (0o700, 0o600));
    }

    #[test]
    fn leftovers_of_killed_writers_are_swept_but_not_those_of_living_ones() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (
            dir.path().join(".unfinished-old"),
            dir.path().join(".unfinished-new"),
        );
        fs::write(&new, "").unwrap();
        let long_ago = std::time::SystemTime::now() - UNFINISHED_AGE_MAX - Duration::from_secs(60);
        fs::File::create(&old)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        Store::open(dir.path()).unwrap();
        assert!(!old.exists() && new.exists());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_server_name_is_a_safe_file_name(name in "\\PC{0,80}|[./\\\\:*?\"<>|A-Ca-c]{0,20}") {
            let store = Store { dir: PathBuf::from("/state") };
            let path = store.path(&name);
            prop_assert_eq!(path.parent(), Some(Path::new("/state")));
            let file = path.file_name().unwrap().to_str().unwrap();
            prop_assert!(file.len() <= 80);
            prop_assert!(file.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c)));
            // Names that differ only in case, or in a character that is replaced, stay apart.
            prop_assert_ne!(path.clone(), store.path(&format!("{name}/")));
            let upper = name.to_uppercase();
            if upper != name {
                prop_assert_ne!(path, store.path(&upper));
            }
        }

        #[test]
        fn any_bytes_in_place_of_a_catalog_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            fs::write(store.path("x"), bytes).unwrap();
            prop_assert_eq!(store.load_catalog("x", &fingerprint("uvx")), None);
        }
    }
}
