//! Where a pool's metadata and data lie on its disks. Pure.
//!
//! ```text
//!   disk 0:  │ GPT, labels │ metadata │ catalog │ data …  │ GPT │
//!   disk 1:  │ GPT, labels │ data …                       │ GPT │
//!   disk 2:  │ GPT, labels │ metadata │ data …            │ GPT │   it came later
//!             0       2 MiB
//! ```
//!
//! Nothing moves when disks are added: both devices grow at their ends, and the catalog stays. With redundancy, a set of
//! disks stands where a disk does, and all of it is payload.

use ashlar_kernel_iface::block::PoolPartition;
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{Linear, Table, Target};
use ashlar_targetd_protocol::{Bytes, PoolDisk, Sectors};

/// Data begins on a whole MiB, which suits every disk and every block size.
pub(super) const ALIGNMENT: Sectors = Sectors(2048);

/// A disk's part in a pool, or a set's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The disk, or the array.
    pub device: DeviceNumber,
    /// Where its part begins.
    pub start: Sectors,
    /// How large it is.
    pub length: Sectors,
    /// Room for metadata at its beginning.
    pub metadata_room: Sectors,
    /// How much of it, at its end, is the catalog.
    pub catalog: Sectors,
}

impl Place {
    /// A disk's payload.
    pub fn on_disk(
        device: DeviceNumber,
        partition: &PoolPartition,
        wanted: &PoolDisk,
    ) -> Option<Self> {
        let (start, length) = partition.payload()?;
        Some(Place {
            device,
            start: whole(start),
            length: whole(length),
            metadata_room: wanted.metadata_room,
            catalog: wanted.catalog,
        })
    }
}

/// The tables of a pool's lower devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolTables {
    /// Linear over the room for metadata of one disk after the other, as far as it is needed.
    pub meta: Table,
    /// Linear over the data regions of all disks, in their order.
    pub data: Table,
    /// Linear over the catalog, if the pool has one.
    pub catalog: Option<Table>,
}

/// The tables for disks in their order; `None` when they have no room for metadata and at least
/// one block of data.
pub fn tables(disks: &[Place], metadata: Sectors, block: Sectors) -> Option<PoolTables> {
    let mut missing = metadata.0;
    let (mut meta, mut data, mut catalog) = (Vec::new(), Vec::new(), None);
    for disk in disks {
        let (start, length) = (disk.start, disk.length);
        let before = disk.metadata_room.0;
        let room = Sectors(length.0.checked_sub(before)?);
        let linear = |offset| {
            Target::Linear(Linear {
                device: disk.device,
                offset,
            })
        };
        let metadata_room = before.checked_sub(disk.catalog.0)?;
        let taken = missing.min(metadata_room);
        missing -= taken;
        if disk.catalog.0 > 0 {
            let at = Sectors(start.0.checked_add(metadata_room)?);
            catalog = Some(Table::stacked(vec![(disk.catalog, linear(at))]));
        }
        if taken > 0 {
            meta.push((Sectors(taken), linear(start)));
        }
        if room.0 > 0 {
            data.push((room, linear(Sectors(start.0.checked_add(before)?))));
        }
    }
    let (meta, data) = (Table::stacked(meta), Table::stacked(data));
    (missing == 0 && data.size() >= block).then_some(PoolTables {
        meta,
        data,
        catalog,
    })
}

fn whole(bytes: Bytes) -> Sectors {
    Sectors::within(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn disk(minor: u32, mib: u64, room: u64) -> Place {
        let partition = PoolPartition {
            start: Bytes(MIB),
            length: Bytes(mib * MIB),
        };
        let id = format!("serial-{minor}").parse().unwrap();
        let wanted = PoolDisk::new(id, Sectors(room));
        Place::on_disk(DeviceNumber { major: 8, minor }, &partition, &wanted).unwrap()
    }

    #[test]
    fn metadata_is_on_the_first_disk_and_data_on_all() {
        let disks = [disk(0, 65, 8192), disk(16, 33, 0)];
        let tables = tables(&disks, Sectors(8000), Sectors(128));
        let tables = tables.unwrap();
        assert_eq!(tables.meta.to_string(), "0 8000 linear 8:0 4096");
        assert_eq!(
            tables.data.to_string(),
            "0 122880 linear 8:0 12288; 122880 65536 linear 8:16 4096"
        );
    }

    #[test]
    fn a_disk_without_room_for_the_metadata_is_no_first_disk() {
        let small = [disk(0, 5, 8192)];
        assert_eq!(tables(&small, Sectors(8192), Sectors(128)), None);
        assert_eq!(tables(&[], Sectors(8192), Sectors(128)), None);
        // Nor is there more metadata than there is room for them.
        let disks = [disk(0, 65, 8192), disk(16, 33, 0)];
        assert_eq!(tables(&disks, Sectors(8200), Sectors(128)), None);
    }

    #[test]
    fn the_catalog_is_between_metadata_and_data_and_metadata_pass_it_by() {
        let mut first = disk(0, 65, 8192);
        first.catalog = Sectors(4096);
        let before = tables(&[first], Sectors(4096), Sectors(128)).unwrap();
        assert_eq!(before.meta.to_string(), "0 4096 linear 8:0 4096");
        let catalog = before.catalog.map(|table| table.to_string());
        assert_eq!(catalog.as_deref(), Some("0 4096 linear 8:0 8192"));
        assert_eq!(before.data.to_string(), "0 122880 linear 8:0 12288");
        let grown = [first, disk(16, 33, 2048)];
        let after = tables(&grown, Sectors(6144), Sectors(128)).unwrap();
        assert_eq!(
            after.meta.to_string(),
            "0 4096 linear 8:0 4096; 4096 2048 linear 8:16 4096"
        );
        let catalog = after.catalog.map(|table| table.to_string());
        assert_eq!(catalog.as_deref(), Some("0 4096 linear 8:0 8192"));
        assert_eq!(tables(&[first], Sectors(4104), Sectors(128)), None);
    }

    #[test]
    fn a_disk_that_comes_later_moves_nothing() {
        let before = [disk(0, 65, 8192), disk(16, 33, 0)];
        let after = [before[0], before[1], disk(32, 17, 2048)];
        let before = tables(&before, Sectors(8000), Sectors(128)).unwrap();
        let after = tables(&after, Sectors(10_240), Sectors(128)).unwrap();
        assert_eq!(
            after.meta.to_string(),
            "0 8192 linear 8:0 4096; 8192 2048 linear 8:32 4096"
        );
        let lines = before.data.lines().len();
        assert_eq!(after.data.lines()[..lines], *before.data.lines());
        assert_eq!(
            after.data.to_string(),
            format!("{}; 188416 30720 linear 8:32 6144", before.data)
        );
    }
}
