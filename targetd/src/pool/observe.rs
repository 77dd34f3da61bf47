//! What the kernel and the disks have of a pool.

use std::collections::BTreeMap;
use std::ops::Range;

use ashlar_kernel_iface::block::{
    Access, ArrayState, BlockDevice, Disk, DiskContent, DiskLookupError, MetadataState,
    PAYLOAD_START, PoolPartition, PoolSize, array_state, disk_by_id, metadata_state, pool_size,
    probe,
};
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{DmError, LegState, Table, TableSlot};
use ashlar_targetd_protocol::{Bytes, DesiredPool, DiskId, Redundancy};
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
    /// What the kernel says of the disks of each active set.
    pub legs: BTreeMap<u32, Vec<LegState>>,
    /// The beginning of the metadata; looked at only while the pool is not active, grows or is
    /// destroyed, and with redundancy only once its first set is active.
    pub metadata: Option<ObservedMetadata>,
}

/// What stands where a pool's metadata begin.
#[derive(Clone, Copy, Debug)]
pub struct ObservedMetadata {
    /// Whether it is the beginning of metadata.
    pub state: MetadataState,
    /// How large the pool is that they describe.
    pub size: Option<PoolSize>,
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
    /// What is on it; looked at only while the pool or its catalog is not active, it grows or is
    /// destroyed, and always with redundancy.
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
    /// What an array would know of it.
    pub array: ArrayState,
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

impl ObservedDisk {
    /// The partition it has, or would get.
    fn room(&self) -> Option<PoolPartition> {
        self.content.as_ref()?.room
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

/// Looks at a pool.
pub fn observe(kernel: &Kernel, desired: &DesiredPool) -> Result<ObservedPool, KernelError> {
    let mut observed = ObservedPool {
        parts: observe_parts(kernel, desired.id, parts(kernel, desired)?)?,
        disks: Vec::new(),
        legs: BTreeMap::new(),
        metadata: None,
    };
    observed.legs = observe_legs(kernel, desired, &observed)?;
    if desired.absent && desired.destroy.is_none() {
        return Ok(observed);
    }
    let all = kernel.disks.list()?;
    let changes = desired.grows_from.is_some() || desired.destroy.is_some();
    let look = changes
        || observed.active(PoolPart::Thin).is_none()
        || (desired.has_catalog() && observed.active(PoolPart::Catalog).is_none());
    let look_at_disks = look || desired.redundancy.is_some();
    for wanted in &desired.disks {
        let disk = disk_by_id(&all, &wanted.id).cloned();
        // What cannot be read is no reason not to look at the others.
        let content = match &disk {
            Ok(disk) if look_at_disks => observe_content(kernel, disk).map(Some),
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
    if look {
        observed.metadata = observe_metadata(kernel, desired, &observed)?;
    }
    Ok(observed)
}

/// The devices a pool may have. With redundancy there are as many as disks ever had places in it:
/// all that carry its name are looked for, which happens only when a pool is brought to another
/// state.
fn parts(kernel: &Kernel, desired: &DesiredPool) -> Result<Vec<PoolPart>, KernelError> {
    let mut parts = PoolPart::TOP.to_vec();
    if desired.redundancy.is_some() {
        let listed = kernel.dm.list()?;
        let named = listed.iter().filter_map(|device| {
            let (pool, part) = ours::pool_part_named(&device.name)?;
            (pool == desired.id && !PoolPart::TOP.contains(&part)).then_some(part)
        });
        parts.extend(named);
    }
    Ok(parts)
}

/// Each set's number, and where its disks are among the pool's.
pub(super) fn sets(redundancy: &Redundancy) -> impl Iterator<Item = (u32, Range<usize>)> {
    (0..).zip(redundancy.ranges())
}

/// Looks at some of the devices of a pool.
pub fn observe_parts(
    kernel: &Kernel,
    pool: Uuid,
    parts: impl IntoIterator<Item = PoolPart>,
) -> Result<BTreeMap<PoolPart, ObservedPart>, KernelError> {
    let parts = parts.into_iter();
    parts
        .map(|part| Ok((part, observe_part(kernel, pool, part)?)))
        .collect()
}

pub(super) fn observe_part(
    kernel: &Kernel,
    pool: Uuid,
    part: PoolPart,
) -> Result<ObservedPart, KernelError> {
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
    let array = match room {
        Some(_) => array_state(&*device)?,
        None => ArrayState::Unknown,
    };
    Ok(ObservedContent {
        holds: probe(&*device)?,
        room,
        array,
    })
}

fn observe_legs(
    kernel: &Kernel,
    desired: &DesiredPool,
    observed: &ObservedPool,
) -> Result<BTreeMap<u32, Vec<LegState>>, KernelError> {
    let mut legs = BTreeMap::new();
    for part in observed.parts.keys() {
        if let (PoolPart::Set(number), Some(_)) = (part, observed.active(*part)) {
            let name = ours::pool_device(desired.id, *part);
            let status = kernel.dm.raid_status(&name)?;
            legs.extend(status.map(|status| (*number, status.members)));
        }
    }
    Ok(legs)
}

/// The metadata are on the first disk, or on the first set. What cannot be read is told with the
/// disk.
fn observe_metadata(
    kernel: &Kernel,
    desired: &DesiredPool,
    observed: &ObservedPool,
) -> Result<Option<ObservedMetadata>, KernelError> {
    let (number, start) = match &desired.redundancy {
        Some(_) => match observed.active(PoolPart::Set(0)) {
            // What is read from it while it is suspended would be waited for.
            Some(set) if !set.suspended => (set.number, Bytes(0)),
            Some(_) | None => return Ok(None),
        },
        None => {
            let first = observed.disks.first();
            match first.and_then(|first| Some((first.disk.as_ref().ok()?, first.room()?))) {
                Some((disk, _)) => (disk.number, PAYLOAD_START),
                None => return Ok(None),
            }
        }
    };
    let device = kernel.disks.open(number, Access::Read)?;
    Ok(Some(metadata_on(&*device, start)?))
}

fn metadata_on(device: &dyn BlockDevice, at: Bytes) -> Result<ObservedMetadata, KernelError> {
    Ok(ObservedMetadata {
        state: metadata_state(device, at)?,
        size: pool_size(device, at)?,
    })
}
