//! Handing a descriptor over with the bytes of a reply.

use std::io::{self, IoSlice, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Writes all bytes; the descriptor goes with the first of them.
pub(super) fn write_with(
    stream: &mut UnixStream,
    bytes: &[u8],
    descriptor: BorrowedFd<'_>,
) -> io::Result<()> {
    let passed = [descriptor.as_raw_fd()];
    let sent = loop {
        let sent = sendmsg::<()>(
            stream.as_raw_fd(),
            &[IoSlice::new(bytes)],
            &[ControlMessage::ScmRights(&passed)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        match sent {
            Err(Errno::EINTR) => {}
            sent => break sent?,
        }
    };
    stream.write_all(&bytes[sent..])
}
