//! What the kernel tells by itself, so that nobody has to ask it again and again.
//!
//! A source is a descriptor to wait on and a way to take in what has come. Whoever looks at the
//! kernel for what the news may be about takes first, then looks, then waits:
//!
//! ```text
//!   take ──► look ──► poll ──► take ──► look ──► …
//! ```
//!
//! What happens after the take makes the descriptor readable, so between the look and the wait
//! nothing is missed. The news say *that* something happened; what, is for the look to find.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};

use crate::dm::DmError;

/// A source of news. Its descriptor is readable while there is something to take in.
pub trait News: AsFd + Send {
    /// Takes in what has come, so that the descriptor becomes readable again for what comes from
    /// here on. Whether there was anything that matters.
    ///
    /// # Errors
    /// When the source is of no use any more.
    fn take(&self) -> Result<bool, NewsError>;
}

/// Why there are no news.
#[derive(Debug, thiserror::Error)]
pub enum NewsError {
    /// Device-mapper does not tell.
    #[error(transparent)]
    Mapper(#[from] DmError),
    /// The kernel does not tell of devices or addresses that come and go.
    #[error(
        "failed to {operation} the socket for the kernel's messages about what comes and goes: {errno}"
    )]
    Socket {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
}

/// A socket on which the kernel tells of something. No privilege is needed to listen.
#[derive(Debug)]
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    /// Listens to these groups.
    pub(crate) fn open(protocol: SockProtocol, groups: u32) -> Result<Netlink, NewsError> {
        let refused = |operation| move |errno| NewsError::Socket { operation, errno };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)
            .map_err(refused("make"))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(refused("bind"))?;
        Ok(Netlink(socket))
    }

    /// Takes in all that has come; whether any of it matters. No more is read of a message than
    /// the buffer holds.
    pub(crate) fn take(
        &self,
        buffer: &mut [u8],
        matters: impl Fn(Option<NetlinkAddr>, &[u8]) -> bool,
    ) -> Result<bool, NewsError> {
        let mut any = false;
        loop {
            match recvfrom::<NetlinkAddr>(self.0.as_raw_fd(), buffer) {
                Ok((length, sender)) => any |= matters(sender, &buffer[..length]),
                Err(Errno::EAGAIN) => return Ok(any),
                // More came than there was room for, so it may have been about anything.
                Err(Errno::ENOBUFS) => any = true,
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    let operation = "read";
                    return Err(NewsError::Socket { operation, errno });
                }
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
