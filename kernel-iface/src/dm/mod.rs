//! Device-mapper, by ioctl on its control node.
//!
//! [`DeviceMapper`] is what the driver can do; [`RealDm`] is the kernel, and
//! [`ModelDm`](crate::model::ModelDm) an in-process model with the same rules. A device is made in three calls:
//!
//! ```text
//!   create ──► (no table) ── load ──► (inactive table) ── resume ──► live ── remove ──► gone
//!                                          ▲                           │
//!                                          └────────── load ◄──────────┘   resume swaps the two
//! ```
//!
//! Tables are typed: a [`Target`] prints the parameters the kernel reads, and the kernel's
//! answer parses back into the same [`Target`]. Only targets this project stacks are known;
//! anything else on a device is [`DmError::ForeignTarget`].
//!
//! **Readiness needs no udev.** devtmpfs makes `/dev/dm-N` before the first `load` of a device
//! returns ([`DmInfo::node`]); names below `/dev/mapper` are udev's and never used here.

use std::path::PathBuf;

use crate::device::DeviceNumber;
use crate::news::{News, NewsError};

pub mod conformance;
mod error;
mod events;
mod ioctl;
mod linear;
mod message;
mod name;
mod raid;
mod real;
mod table;
mod thin;
mod thin_pool;

pub use error::{DmError, DmObject, DmOperation};
pub use events::DmEvents;
pub use linear::Linear;
pub use message::PoolMessage;
pub use name::{DmName, DmNameError, DmUuid};
pub use raid::{LegState, Raid, RaidLeg, RaidMessage, RaidStatus};
pub use real::RealDm;
pub use table::{Table, TableLine, Target, TargetStatus};
pub use thin::{Thin, ThinStatus};
pub use thin_pool::{PoolDiscard, PoolFeatures, PoolMode, ThinPool, ThinPoolStatus, ThinPoolUsage};

/// The device-mapper driver. Calls about different devices may be made from many threads;
/// most of a call's time is waiting, so they should be.
pub trait DeviceMapper: Send + Sync {
    /// The driver's interface version.
    fn version(&self) -> Result<[u32; 3], DmError>;

    /// The version of a target's driver, which is loaded for it; `None` when there is none.
    fn target_version(&self, kind: &str) -> Result<Option<[u32; 3]>, DmError>;

    /// All devices. Its cost grows with their number: for whole laps and diagnosis only.
    fn list(&self) -> Result<Vec<ListedDevice>, DmError>;

    /// Makes a device without a table. `EBUSY` when the name or the uuid is taken.
    fn create(&self, name: &DmName, uuid: &DmUuid) -> Result<DmInfo, DmError>;

    /// Removes a device and its tables. `EBUSY` while it is open.
    fn remove(&self, name: &DmName) -> Result<(), DmError>;

    /// Puts a table into the inactive slot, replacing what was there. Devices named in it are
    /// opened now. After the first load the node [`DmInfo::node`] exists.
    fn load(&self, name: &DmName, table: &Table, access: DmAccess) -> Result<DmInfo, DmError>;

    /// Drops the inactive table.
    fn clear(&self, name: &DmName) -> Result<DmInfo, DmError>;

    /// Holds back new I/O. A device that is already suspended stays so.
    fn suspend(&self, name: &DmName, flags: SuspendFlags) -> Result<DmInfo, DmError>;

    /// Makes the inactive table live, if there is one, and lets I/O go on. A device that is
    /// not suspended is suspended with `flags` for the swap. If the new table's targets refuse,
    /// the device stays suspended with the new table live and the inactive slot empty.
    fn resume(&self, name: &DmName, flags: SuspendFlags) -> Result<DmInfo, DmError>;

    /// What a device is; `None` when there is none of that name.
    fn info(&self, name: &DmName) -> Result<Option<DmInfo>, DmError>;

    /// A table of a device, read back; empty when the slot is.
    fn table(&self, name: &DmName, slot: TableSlot) -> Result<Table, DmError>;

    /// How the targets of the live table are, one for each of its lines.
    fn status(
        &self,
        name: &DmName,
        freshness: StatusFreshness,
    ) -> Result<Vec<TargetStatus>, DmError>;

    /// The devices the live table stands on; none without a live table.
    fn deps(&self, name: &DmName) -> Result<Vec<DeviceNumber>, DmError>;

    /// Tells a thin pool something.
    fn message(&self, name: &DmName, message: &PoolMessage) -> Result<(), DmError>;

    /// Events of all devices from now on.
    fn news(&self) -> Result<Box<dyn News>, NewsError>;

    /// The status of a device that is one thin pool, or `None` when it is something else.
    fn pool_status(
        &self,
        name: &DmName,
        freshness: StatusFreshness,
    ) -> Result<Option<ThinPoolStatus>, DmError> {
        match self.status(name, freshness)?.as_slice() {
            [TargetStatus::ThinPool(status)] => Ok(Some(*status)),
            _ => Ok(None),
        }
    }

    /// Tells an array something.
    fn raid_message(&self, name: &DmName, message: RaidMessage) -> Result<(), DmError>;

    /// The status of a device that is one array, or `None` when it is something else.
    fn raid_status(&self, name: &DmName) -> Result<Option<RaidStatus>, DmError> {
        let statuses = self.status(name, StatusFreshness::AsIs)?;
        Ok(match <[_; 1]>::try_from(statuses) {
            Ok([TargetStatus::Raid(status)]) => Some(status),
            _ => None,
        })
    }

    /// The status of a device that is one thin device, or `None` when it is something else.
    fn thin_status(
        &self,
        name: &DmName,
        freshness: StatusFreshness,
    ) -> Result<Option<ThinStatus>, DmError> {
        match self.status(name, freshness)?.as_slice() {
            [TargetStatus::Thin(status)] => Ok(Some(*status)),
            _ => Ok(None),
        }
    }
}

/// What the driver says of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmInfo {
    /// Its name.
    pub name: DmName,
    /// Its uuid, empty if it was made without one. Not checked: others make devices too.
    pub uuid: String,
    /// Its number.
    pub number: DeviceNumber,
    /// How often it is open.
    pub open_count: u32,
    /// Counts the events its targets raised.
    pub event_nr: u32,
    /// Whether there is a live table.
    pub live: bool,
    /// Whether there is an inactive table.
    pub inactive: bool,
    /// Whether it is suspended. A device that was just made is not.
    pub suspended: bool,
    /// Whether it refuses writes.
    pub read_only: bool,
}

impl DmInfo {
    /// The device's node, which the kernel itself makes at the first load.
    pub fn node(&self) -> PathBuf {
        PathBuf::from(format!("/dev/dm-{}", self.number.minor))
    }
}

/// One device of the driver's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDevice {
    /// Its name. Not checked: others make devices too.
    pub name: String,
    /// Its uuid, empty if it was made without one.
    pub uuid: String,
    /// Its number.
    pub number: DeviceNumber,
}

/// Whether a table lets writes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmAccess {
    /// It does.
    ReadWrite,
    /// It does not.
    ReadOnly,
}

/// Which table of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableSlot {
    /// The one that carries I/O.
    Live,
    /// The one that was loaded and waits for a resume.
    Inactive,
}

/// Whether a thin pool commits its metadata before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFreshness {
    /// It does, so that the numbers include everything, at the price of a write.
    Committed,
    /// It does not; numbers are those of the last commit, about a second old at most.
    AsIs,
}

/// How I/O is brought to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuspendFlags {
    /// Wait until all I/O under way has finished. A full thin pool never finishes it.
    pub flush: bool,
    /// Freeze a file system mounted from the device.
    pub lock_filesystem: bool,
}

impl SuspendFlags {
    /// For devices that are never mounted on this box: I/O under way finishes.
    pub const FLUSH: SuspendFlags = SuspendFlags {
        flush: true,
        lock_filesystem: false,
    };
    /// For pools that may be full: I/O under way is kept and goes on after the resume.
    pub const NO_FLUSH: SuspendFlags = SuspendFlags {
        flush: false,
        lock_filesystem: false,
    };
}
