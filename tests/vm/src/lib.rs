//! Virtual machines for tests and the demo.
//!
//! A [`Machine`] is one QEMU process: kernel and initrd or the disk's own boot loader, disks with
//! stable serial numbers, a management network with ports forwarded to loopback, and a storage
//! network that connects two machines directly. Its [`Shell`] is a virtio console on which a
//! root shell in the guest answers one command after another; no network is needed for it.
//!
//! ```text
//!  host loopback :PORT ──▶ eth0  machine A  eth1 ◀──UDP on loopback──▶ eth1  machine B
//!                               shell socket                               shell socket
//! ```
//!
//! [`Machine::cut_power`] kills the process, which is what a power cut is to a guest: what was
//! not written to a disk is gone. [`Machine::power_on`] boots again from the same disks.
//! [`Machine::save`] and [`Machine::resume`] spare many machines the same boot.

mod accelerator;
mod machine;
mod monitor;
mod payload;
mod ports;
mod shell;

pub use accelerator::Accelerator;
pub use machine::{Boot, Disk, Forward, Machine, Settings, StorageLink};
pub use payload::pack;
pub use ports::{free_port, free_udp_pair};
pub use shell::{Output, Shell};

/// Debian packages this needs on the host.
pub const HOST_PACKAGES: &[&str] = &["ovmf", "qemu-system-x86", "qemu-utils"];
