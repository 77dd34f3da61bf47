//! Disks that come, go and change, as the kernel broadcasts it.
//!
//! A message is text, with a NUL after each line: `ACTION@DEVPATH`, then `KEY=VALUE`. It says who
//! sent it: port 0 is the kernel, and what others send is not listened to. udev's own messages,
//! which are of another shape, go to another group.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{NetlinkAddr, SockProtocol};

use crate::news::{Netlink, News, NewsError};

/// The multicast group of what the kernel says itself.
const FROM_KERNEL: u32 = 1;
/// The kernel's messages are 2 KiB of keys at most and a path.
const MESSAGE: usize = 8 << 10;

/// What became of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskAction {
    /// It came.
    Added,
    /// It is gone.
    Removed,
    /// Its size, its medium or its partitions are others.
    Changed,
}

/// The kernel's word about one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskEvent {
    /// What became of it.
    pub action: DiskAction,
    /// The kernel's name of it, such as `vda`.
    pub kernel_name: String,
}

impl DiskEvent {
    /// Reads a message; `None` for what is not about a disk, and for what is no such message.
    /// What the kernel makes of other devices is no disk: device-mapper has news of its own. A disk
    /// with several NVMe controllers is one, though it is virtual, too.
    pub fn parse(message: &[u8]) -> Option<DiskEvent> {
        let mut lines = message.split(|byte| *byte == 0);
        let (action, path) = split(lines.next()?, b'@')?;
        if path.starts_with(b"/devices/virtual/block/") {
            return None;
        }
        let action = match action {
            b"add" => DiskAction::Added,
            b"remove" => DiskAction::Removed,
            b"change" => DiskAction::Changed,
            _ => return None,
        };
        let (mut subsystem, mut kind, mut name) = (None, None, None);
        for line in lines {
            match split(line, b'=') {
                Some((b"SUBSYSTEM", value)) => subsystem = Some(value),
                Some((b"DEVTYPE", value)) => kind = Some(value),
                Some((b"DEVNAME", value)) => name = Some(value),
                Some(_) | None => {}
            }
        }
        if (subsystem, kind) != (Some(b"block"), Some(b"disk")) {
            return None;
        }
        let kernel_name = std::str::from_utf8(name?).ok()?.to_owned();
        (!kernel_name.is_empty()).then_some(DiskEvent {
            action,
            kernel_name,
        })
    }
}

fn split(line: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = line.iter().position(|byte| *byte == at)?;
    Some((&line[..place], &line[place + 1..]))
}

/// The socket on which the kernel tells of its devices. No privilege is needed to listen.
#[derive(Debug)]
pub struct DiskEvents(Netlink);

impl DiskEvents {
    pub(super) fn open() -> Result<DiskEvents, NewsError> {
        Netlink::open(SockProtocol::NetlinkKObjectUEvent, FROM_KERNEL).map(DiskEvents)
    }
}

impl AsFd for DiskEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl News for DiskEvents {
    fn take(&self) -> Result<bool, NewsError> {
        self.0.take(&mut [0; MESSAGE], matters)
    }
}

/// Whether a message is the kernel's, and about a disk.
fn matters(sender: Option<NetlinkAddr>, message: &[u8]) -> bool {
    let from_kernel = sender.is_some_and(|sender| sender.pid() == 0);
    let event = DiskEvent::parse(message).filter(|_| from_kernel);
    event.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDED: &[u8] = b"add@/devices/pci0000:00/0000:00:05.0/virtio2/block/vdb\0ACTION=add\0\
        DEVPATH=/devices/pci0000:00/0000:00:05.0/virtio2/block/vdb\0SUBSYSTEM=block\0MAJOR=254\0\
        MINOR=16\0DEVNAME=vdb\0DEVTYPE=disk\0DISKSEQ=9\0SEQNUM=1745\0";

    fn replaced(from: &str, to: &str) -> Vec<u8> {
        let text = std::str::from_utf8(ADDED).unwrap();
        assert!(text.contains(from), "{from}");
        text.replace(from, to).into_bytes()
    }

    #[test]
    fn disks_come_go_and_change() {
        for (word, action) in [
            ("add", DiskAction::Added),
            ("remove", DiskAction::Removed),
            ("change", DiskAction::Changed),
        ] {
            let event = DiskEvent {
                action,
                kernel_name: "vdb".to_owned(),
            };
            let message = replaced("add@", &format!("{word}@"));
            assert_eq!(DiskEvent::parse(&message), Some(event));
        }
    }

    #[test]
    fn what_is_no_disk_is_not_heard() {
        for (from, to) in [
            ("DEVTYPE=disk", "DEVTYPE=partition"),
            ("SUBSYSTEM=block", "SUBSYSTEM=net"),
            ("add@", "bind@"),
            ("add@", "add"),
            ("DEVNAME=vdb", "DEVNAME="),
            ("\0DEVNAME=vdb", ""),
            ("@/devices/pci0000:00", "@/devices/virtual/block/dm-0"),
        ] {
            assert_eq!(DiskEvent::parse(&replaced(from, to)), None, "{from} {to}");
        }
        for strange in [&b""[..], b"\0", b"@", b"libudev\0\xfe\xed\xca\xfe"] {
            assert_eq!(DiskEvent::parse(strange), None);
        }
    }

    #[test]
    fn only_the_kernel_is_believed() {
        let from = |port| Some(NetlinkAddr::new(port, FROM_KERNEL));
        assert!(matters(from(0), ADDED));
        assert!(!matters(from(4711), ADDED));
        assert!(!matters(None, ADDED));
        assert!(!matters(from(0), b"add@/module/nvmet\0ACTION=add\0"));
    }

    /// The real socket, whose first message this waits for no longer than it takes to ask.
    #[test]
    fn anyone_may_listen() {
        let events = DiskEvents::open().unwrap();
        events.take().unwrap();
    }
}
