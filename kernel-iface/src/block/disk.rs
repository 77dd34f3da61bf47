use ashlar_targetd_protocol::{Bytes, DiskId};

use crate::device::DeviceNumber;

/// A whole disk of the box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name today, such as `sda`; for people only.
    pub kernel_name: String,
    /// Its number today.
    pub number: DeviceNumber,
    /// What identifies it for life; `None` for a disk that says neither WWN nor serial number.
    pub id: Option<DiskId>,
    /// Its size.
    pub size: Bytes,
    /// The smallest piece it reads and writes.
    pub logical_block: Bytes,
    /// Whether it spins.
    pub rotational: bool,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Whether its medium can be taken out.
    pub removable: bool,
    /// Who uses it or one of its partitions: kernel names of devices that stand on it, mount
    /// points, `swap`. Empty when nobody does.
    pub users: Vec<String>,
}

/// Why an id does not lead to a disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskLookupError {
    /// No disk has it.
    #[error("there is no disk {0}")]
    Missing(DiskId),
    /// Several have it: two paths to one disk, or disks without serial numbers of their own.
    #[error("{count} disks say they are {id}")]
    Ambiguous {
        /// The id.
        id: DiskId,
        /// How many.
        count: usize,
    },
}

/// The one disk with an id.
pub fn disk_by_id<'a>(disks: &'a [Disk], id: &DiskId) -> Result<&'a Disk, DiskLookupError> {
    let matches: Vec<&Disk> = disks
        .iter()
        .filter(|disk| disk.id.as_ref() == Some(id))
        .collect();
    match matches.as_slice() {
        [] => Err(DiskLookupError::Missing(id.clone())),
        [disk] => Ok(disk),
        several => Err(DiskLookupError::Ambiguous {
            id: id.clone(),
            count: several.len(),
        }),
    }
}
