//! Typed access to the kernel objects Ashlar serves volumes with, and a model of them.
//!
//! | module      | what |
//! |-------------|------|
//! | [`tree`]    | the one trait through which files of configfs are touched |
//! | [`lio`]     | SCSI: iblock backstores, iSCSI targets, portals, LUNs, ACLs, CHAP; targets on Fibre Channel |
//! | [`fc_host`] | the machine's own ports of Fibre Channel |
//! | [`nvmet`]   | NVMe: subsystems, namespaces, hosts, ports, DH-HMAC-CHAP |
//! | [`dm`]      | device-mapper by ioctl: linear, thin-pool, thin, error |
//! | [`model`]   | a kernel in this process, with the real rules |
//! | [`news`]      | what the kernel tells by itself |
//! | [`net`]     | the addresses of the box |
//! | [`conformance`] | recorded operations that hold the model to the kernel |
//! | [`block`]   | disks: what they hold, our partition and label on them |
//! | [`blkio`]   | how much I/O a device may do |
//! | [`device`]  | block devices as the kernel numbers them |
//!
//! Nothing here decides: the types say what a kernel object is, read it back into plain
//! values, and change one thing at a time, each change answering [`Changed`](tree::Change)
//! or [`Unchanged`](tree::Change). What should exist, and in which order it comes and goes,
//! is targetd's. Nothing is torn down on drop.

pub mod blkio;
pub mod block;
pub mod conformance;
pub mod device;
pub mod dm;
pub mod fc_host;
pub mod lio;
pub mod model;
pub mod net;
pub mod news;
pub mod nvmet;
pub mod tree;
