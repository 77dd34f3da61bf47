//! What the kernel and the disks have of a pool.

use std::collections::BTreeMap;

use ashlar_kernel_iface::block::{
    Access, Disk, DiskContent, DiskLookupError, MetadataState, PAYLOAD_START, PoolPartition,
    PoolSize, disk_by_id, metadata_state, pool_size, probe,
};
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{DmError, Table, TableSlot};
use ashlar_targetd_protocol::{DesiredPool, DiskId};
use uuid::Uuid;

use crate::kernel::{Kernel, KernelError};
use crate::ours::{self, PoolPart};

/// What there is of a pool.
#[derive(Clone, Debug)]
pub struct ObservedPool {
    /// Its devices.
    pub parts: BTreeMap<PoolPart, ObservedPart>,
    /// The desired disks, in their order.
    pub disks: Vec<ObservedDisk>,
}

/// One device of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObservedPart {
    /// There is none.
    Absent,
    /// Something has its name and is not it, in words.
    Foreign(String),
    /// It was made and its table never went live: whoever made it died.
    Empty(DeviceNumber),
    /// It is active.
    Active(ActivePart),
}

/// An active device of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivePart {
    /// Its number.
    pub number: DeviceNumber,
    /// Its live table.
    pub table: Table,
    /// A second table waits: whoever loaded it died.
    pub second_table: bool,
    /// I/O is held back.
    pub suspended: bool,
}

/// A disk that the pool should be on.
#[derive(Clone, Debug)]
pub struct ObservedDisk {
    /// Its lasting identity.
    pub id: DiskId,
    /// The disk, or why the id does not lead to one.
    pub disk: Result<Disk, DiskLookupError>,
    /// What is on it; looked at only while the pool is not active, grows or is destroyed.
    pub content: Option<ObservedContent>,
    /// Why that could not be read, if it could not.
    pub unread: Option<String>,
}

/// What is on a disk.
#[derive(Clone, Debug)]
pub struct ObservedContent {
    /// What it holds.
    pub holds: DiskContent,
    /// The partition it would get; `None` when it is too small.
    pub room: Option<PoolPartition>,
    /// What stands where the first disk has the metadata.
    pub metadata: MetadataState,
    /// How large the pool is that those metadata describe.
    pub size: Option<PoolSize>,
}

impl ObservedPool {
    /// A device, if it is active.
    pub fn active(&self, part: PoolPart) -> Option<&ActivePart> {
        match self.parts.get(&part) {
            Some(ObservedPart::Active(active)) => Some(active),
            _ => None,
        }
    }
}

impl ObservedPart {
    /// Its number, if it is ours.
    pub fn number(&self) -> Option<DeviceNumber> {
        match self {
            ObservedPart::Empty(number) => Some(*number),
            ObservedPart::Active(active) => Some(active.number),
            ObservedPart::Absent | ObservedPart::Foreign(_) => None,
        }
    }
}

/// Looks at a pool. The disks are read only while the pool is not active, grows or is destroyed.
pub fn observe(kernel: &Kernel, desired: &DesiredPool) -> Result<ObservedPool, KernelError> {
    let mut observed = ObservedPool {
        parts: observe_parts(kernel, desired.id)?,
        disks: Vec::new(),
    };
    if desired.absent && desired.destroy.is_none() {
        return Ok(observed);
    }
    let all = kernel.disks.list()?;
    let changes = desired.grows_from.is_some() || desired.destroy.is_some();
    let look = changes || observed.active(PoolPart::Thin).is_none();
    for wanted in &desired.disks {
        let disk = disk_by_id(&all, &wanted.id).cloned();
        // What cannot be read is no reason not to look at the others.
        let content = match &disk {
            Ok(disk) if look => observe_content(kernel, disk).map(Some),
            _ => Ok(None),
        };
        let unread = content.as_ref().err().map(KernelError::to_string);
        observed.disks.push(ObservedDisk {
            id: wanted.id.clone(),
            disk,
            content: content.unwrap_or_default(),
            unread,
        });
    }
    Ok(observed)
}

/// Looks at the devices of a pool.
pub fn observe_parts(
    kernel: &Kernel,
    pool: Uuid,
) -> Result<BTreeMap<PoolPart, ObservedPart>, KernelError> {
    let parts = PoolPart::ALL.into_iter();
    parts
        .map(|part| Ok((part, observe_part(kernel, pool, part)?)))
        .collect()
}

fn observe_part(kernel: &Kernel, pool: Uuid, part: PoolPart) -> Result<ObservedPart, KernelError> {
    let name = ours::pool_device(pool, part);
    let Some(info) = kernel.dm.info(&name)? else {
        return Ok(ObservedPart::Absent);
    };
    if info.uuid != ours::device_uuid(&name).as_str() {
        let what = format!(
            "device {name} was not made here: its uuid is {:?}",
            info.uuid
        );
        return Ok(ObservedPart::Foreign(what));
    }
    if !info.live {
        return Ok(ObservedPart::Empty(info.number));
    }
    match kernel.dm.table(&name, TableSlot::Live) {
        Ok(table) => Ok(ObservedPart::Active(ActivePart {
            number: info.number,
            table,
            second_table: info.inactive,
            suspended: info.suspended,
        })),
        Err(error @ DmError::ForeignTarget { .. }) => Ok(ObservedPart::Foreign(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

fn observe_content(kernel: &Kernel, disk: &Disk) -> Result<ObservedContent, KernelError> {
    let device = kernel.disks.open(disk.number, Access::Read)?;
    let room = PoolPartition::of_disk(&*device).ok();
    let (metadata, size) = match room {
        Some(_) => (
            metadata_state(&*device, PAYLOAD_START)?,
            pool_size(&*device, PAYLOAD_START)?,
        ),
        None => (MetadataState::Unknown, None),
    };
    Ok(ObservedContent {
        holds: probe(&*device)?,
        room,
        metadata,
        size,
    })
}
