//! The two doors of a running Mainstay: the TCP listener and the local socket.
//!
//! Both are opened before any server is started, so that a taken port costs nothing.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mainstay_gateway::GatewaySettings;
use mainstay_gateway::serve::{ServeError, check};
use tokio::net::{TcpListener, UnixListener};

use crate::exit::{Exit, Stop};

/// Opens the TCP listener, where the settings allow it (law 32).
///
/// # Errors
/// Exit 9 for an address that is refused or not ours, and for TLS that cannot be had; 7 for a port in use.
pub(crate) async fn listen(settings: &GatewaySettings) -> Result<TcpListener, Stop> {
    let address = settings.listen;
    check(settings).map_err(|error| refused(address, &error))?;
    TcpListener::bind(address).await.map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            return Stop::new(Exit::PortInUse, format!("{address} is in use")).hint(format!(
                "if that is another Mainstay, `mainstay status` shows it; else listen elsewhere: --listen {}:0 takes a free port",
                bracketed(address)
            ));
        }
        Stop::new(Exit::ListenRefused, format!("cannot listen on {address}"))
            .because(error)
            .hint("listen on 127.0.0.1 or [::1], with a port above 1023 or 0 for a free one")
    })
}

fn refused(address: SocketAddr, error: &ServeError) -> Stop {
    let stop = match error {
        ServeError::NotLoopback(_) => Stop::new(
            Exit::ListenRefused,
            format!(
                "listening on {address} is refused: everybody in the network could use your servers, and nothing says who may"
            ),
        )
        .hint(
            "make a token with `mainstay token create NAME`, or set `mainstay.access.jwt` or `mainstay.access.tls.clientCa`; or \
             listen on 127.0.0.1 or [::1]",
        ),
        ServeError::Tokens(_, tokens) => Stop::new(
            Exit::ListenRefused,
            format!("listening on {address} is refused: {tokens}"),
        ),
        ServeError::Tls(tls) => Stop::new(Exit::ListenRefused, tls.to_string())
            .hint("name PEM files that this user can read as `mainstay.access.tls.cert` and `.key`"),
        // And whatever may come.
        other => Stop::new(Exit::ListenRefused, other.to_string()),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    match (error, cause) {
        (ServeError::Tokens(..) | ServeError::Tls(_), Some(cause)) => {
            stop.because(io::Error::other(cause.to_string()))
        }
        _ => stop,
    }
}

fn bracketed(address: SocketAddr) -> String {
    match address.ip() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The local socket of the running Mainstay: for this user alone, gone when it is dropped.
#[derive(Debug)]
pub(crate) struct LocalSocket {
    path: PathBuf,
    /// Held for as long as the socket is ours. The system lets go of it when we die in whatever way.
    _lock: File,
}

/// Opens the local socket.
///
/// # Errors
/// Exit 8 when another Mainstay owns it, 1 when the place cannot be used.
pub(crate) fn open_socket(path: &Path) -> Result<(UnixListener, LocalSocket), Stop> {
    let unusable = |what: &str, error: io::Error| {
        Stop::unexpected(
            &format!("cannot {what} the local socket {}", path.display()),
            error,
        )
        .hint("name a place that is yours with --socket")
    };
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| unusable("make the directory of", error))?;
    }
    let lock = lock(path).map_err(|error| match error {
        TryLockError::WouldBlock => already_running(path),
        TryLockError::Error(error) => unusable("lock", error),
    })?;
    // We hold the lock: whatever socket is there was left behind. Anything but a socket is somebody's file.
    match std::fs::symlink_metadata(path) {
        Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
            // Somebody without our lock may still listen: an older Mainstay, or another program.
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(already_running(path));
            }
            std::fs::remove_file(path).map_err(|error| unusable("replace", error))?;
        }
        Ok(_) => {
            return Err(unusable(
                "replace",
                io::Error::other("there is a file of that name, and it is no socket"),
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unusable("look at", error)),
    }
    let listener = UnixListener::bind(path).map_err(|error| unusable("open", error))?;
    let socket = LocalSocket {
        path: path.to_owned(),
        _lock: lock,
    };
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .map_err(|error| unusable("protect", error))?;
    Ok((listener, socket))
}

fn lock(path: &Path) -> Result<File, TryLockError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(name)
        .map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

fn already_running(path: &Path) -> Stop {
    Stop::new(
        Exit::AlreadyRunning,
        format!("another Mainstay already runs at {}", path.display()),
    )
    .hint("use the running one (`mainstay status`), or give this one its own --socket and --listen")
}

impl LocalSocket {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        // The lock file stays: removing it would let two others hold two different ones. A socket that is gone is fine.
        let _gone = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn law_32_only_loopback_is_listened_on_without_a_way_to_say_who_one_is() {
        let at = |address: &str| GatewaySettings::new(address.parse().unwrap());
        for address in [
            "0.0.0.0:0",
            "192.0.2.1:8808",
            "[::]:0",
            "[::ffff:192.0.2.1]:0",
        ] {
            let stop = listen(&at(address)).await.unwrap_err();
            assert_eq!(stop.exit, Exit::ListenRefused, "{address}");
            let hint = stop.hint.unwrap();
            assert!(hint.contains("mainstay token create"), "{address}: {hint}");
        }
        let first = listen(&at("127.0.0.1:0")).await.unwrap();
        let taken = first.local_addr().unwrap();
        let stop = listen(&at(&taken.to_string())).await.unwrap_err();
        assert_eq!(stop.exit, Exit::PortInUse);
        assert!(stop.message.contains(&taken.to_string()), "{stop}");
    }

    #[tokio::test]
    async fn one_socket_has_one_owner_and_a_stale_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep").join("s.sock");
        let (listener, socket) = open_socket(&path).unwrap();
        assert_eq!(open_socket(&path).unwrap_err().exit, Exit::AlreadyRunning);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        // Even one that does not listen at the moment: the lock says whose it is.
        drop(listener);
        assert_eq!(open_socket(&path).unwrap_err().exit, Exit::AlreadyRunning);
        drop(socket);
        assert!(!path.exists());
        // Left behind by one that was killed: the file without a listener, the lock without a holder.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        open_socket(&path).unwrap();
    }

    #[tokio::test]
    async fn somebodys_file_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        std::fs::write(&path, "precious").unwrap();
        let stop = open_socket(&path).unwrap_err();
        assert!(stop.to_string().contains("is no socket"), "{stop}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        let foreign = dir.path().join("foreign.sock");
        let _listening = std::os::unix::net::UnixListener::bind(&foreign).unwrap();
        assert_eq!(
            open_socket(&foreign).unwrap_err().exit,
            Exit::AlreadyRunning
        );
    }
}
