//! Reading a stream whose bytes may bring descriptors along.
//!
//! A descriptor travels with a byte. Nothing is read past the end of a frame, so descriptors
//! that come while a frame is read belong to it. They are closed on exec, and closed here if
//! nobody takes them: the kernel has given them to this process whether it asked or not.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Descriptors there is room for in one read: as many as the kernel passes at once
/// (`SCM_MAX_FD`), since of those that do not fit the first would be ours without our knowing.
const ROOM: usize = 253;

/// Reads at least a byte, unless the stream has ended, and collects descriptors.
pub(super) async fn read(
    stream: &UnixStream,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    stream
        .async_io(Interest::READABLE, || {
            receive(stream.as_raw_fd(), buffer, descriptors).map_err(io::Error::from)
        })
        .await
}

fn receive(
    stream: RawFd,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<usize, Errno> {
    let mut control = cmsg_space!([RawFd; ROOM]);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream, &mut parts, Some(&mut control), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(passed) = control {
            // SAFETY: the kernel has just made these descriptors for us, each once, and
            // nothing else in this process knows their numbers.
            let owned = passed
                .into_iter()
                .map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) });
            descriptors.extend(owned);
        }
    }
    Ok(message.bytes)
}
