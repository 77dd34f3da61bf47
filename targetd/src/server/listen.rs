//! Where the listening socket comes from: systemd, or a path.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockType, getsockname, getsockopt, sockopt};
use nix::unistd::{Gid, chown};

/// Where to listen, and who may reach it.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// The socket's path.
    pub path: PathBuf,
    /// The group whose members may connect, besides root.
    pub group: Option<Gid>,
}

/// Why there is no listening socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The service manager's environment is not what it promises.
    #[error("failed to take over the sockets of the service manager")]
    Activation(#[source] io::Error),
    /// The service manager passed something else.
    #[error("the service manager passed {0}, expected one listening AF_UNIX stream socket")]
    Unexpected(String),
    /// The path could not be made a socket.
    #[error("failed to {operation} {path}")]
    Path {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The socket that the service manager listens on, if it started this process for one.
pub fn activated() -> Result<Option<UnixListener>, ListenError> {
    let passed: Vec<RawFd> = sd_notify::listen_fds()
        .map_err(ListenError::Activation)?
        .collect();
    match passed[..] {
        [] => Ok(None),
        [fd] => adopt(fd).map(Some),
        _ => Err(ListenError::Unexpected(format!("{} sockets", passed.len()))),
    }
}

/// Listens at a path. A socket left behind there by an earlier run is replaced, anything else
/// is not. Only its owner and the group can connect.
pub fn bind(options: &SocketOptions) -> Result<UnixListener, ListenError> {
    let path = &options.path;
    let failed = |operation| {
        move |source| ListenError::Path {
            operation,
            path: path.clone(),
            source,
        }
    };
    remove_stale(path).map_err(failed("replace"))?;
    let listener = UnixListener::bind(path).map_err(failed("listen at"))?;
    let mode = fs::Permissions::from_mode(0o660);
    fs::set_permissions(path, mode).map_err(failed("restrict"))?;
    if let Some(group) = options.group {
        chown(path, None, Some(group))
            .map_err(io::Error::from)
            .map_err(failed("give to its group"))?;
    }
    Ok(listener)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::from(Errno::EEXIST)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn adopt(fd: RawFd) -> Result<UnixListener, ListenError> {
    // SAFETY: `listen_fds` found this process to be the one the descriptor was passed to, and
    // nothing closes it during these calls.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let unexpected = |error: Errno| ListenError::Unexpected(format!("descriptor {fd} ({error})"));
    let kind = getsockopt(&borrowed, sockopt::SockType).map_err(unexpected)?;
    let listening = getsockopt(&borrowed, sockopt::AcceptConn).map_err(unexpected)?;
    let name: nix::sys::socket::SockaddrStorage = getsockname(fd).map_err(unexpected)?;
    let family = nix::sys::socket::SockaddrLike::family(&name);
    if kind != SockType::Stream || !listening || family != Some(AddressFamily::Unix) {
        return Err(ListenError::Unexpected(format!("descriptor {fd}")));
    }
    // SAFETY: the descriptor was passed to this process to own, this is the only place that
    // takes it, and it is called once.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(UnixListener::from(owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let options = SocketOptions {
            path: directory.path().join("socket"),
            group: None,
        };
        drop(bind(&options).unwrap());
        drop(bind(&options).unwrap());
        fs::remove_file(&options.path).unwrap();
        fs::write(&options.path, "precious").unwrap();
        assert!(matches!(bind(&options), Err(ListenError::Path { .. })));
        assert_eq!(fs::read_to_string(&options.path).unwrap(), "precious");
    }

    #[test]
    fn others_cannot_connect() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _listener = bind(&SocketOptions {
            path: path.clone(),
            group: None,
        })
        .unwrap();
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
    }
}
