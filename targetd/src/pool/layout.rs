//! Where a pool's metadata and data lie on its disks. Pure.
//!
//! ```text
//!   disk 0:  │ GPT, labels │ metadata │ data …            │ GPT │
//!   disk 1:  │ GPT, labels │ data …                       │ GPT │
//!             0       2 MiB
//! ```

use ashlar_kernel_iface::block::PoolPartition;
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{Linear, Table, Target};
use ashlar_targetd_protocol::{Bytes, Sectors};

/// Data begins on a whole MiB, which suits every disk and every block size.
const ALIGNMENT: Sectors = Sectors(2048);

/// The tables of a pool's lower devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolTables {
    /// Linear over the metadata region of the first disk.
    pub meta: Table,
    /// Linear over the data regions of all disks, in their order.
    pub data: Table,
}

/// The tables for disks in their order; `None` when the first has no room for metadata and at
/// least one block of data.
pub fn tables(
    disks: &[(DeviceNumber, PoolPartition)],
    metadata: Sectors,
    block: Sectors,
) -> Option<PoolTables> {
    let taken = Sectors(metadata.0.checked_next_multiple_of(ALIGNMENT.0)?);
    let mut meta = None;
    let mut data = Vec::new();
    for (index, (device, partition)) in disks.iter().enumerate() {
        let (start, length) = partition.payload()?;
        let (start, length) = (whole(start), whole(length));
        let before = if index == 0 { taken } else { Sectors(0) };
        let room = Sectors(length.0.checked_sub(before.0)?);
        let linear = |offset| {
            Target::Linear(Linear {
                device: *device,
                offset,
            })
        };
        if index == 0 {
            meta = Some(Table::single(metadata, linear(start)));
        }
        if room.0 > 0 {
            data.push((room, linear(Sectors(start.0.checked_add(before.0)?))));
        }
    }
    let data = Table::stacked(data);
    (data.size() >= block).then_some(PoolTables { meta: meta?, data })
}

fn whole(bytes: Bytes) -> Sectors {
    Sectors::within(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn disk(minor: u32, mib: u64) -> (DeviceNumber, PoolPartition) {
        let partition = PoolPartition {
            start: Bytes(MIB),
            length: Bytes(mib * MIB),
        };
        (DeviceNumber { major: 8, minor }, partition)
    }

    #[test]
    fn metadata_is_on_the_first_disk_and_data_on_all() {
        let tables = tables(&[disk(0, 65), disk(16, 33)], Sectors(8000), Sectors(128));
        let tables = tables.unwrap();
        assert_eq!(tables.meta.to_string(), "0 8000 linear 8:0 4096");
        assert_eq!(
            tables.data.to_string(),
            "0 122880 linear 8:0 12288; 122880 65536 linear 8:16 4096"
        );
    }

    #[test]
    fn a_disk_without_room_for_the_metadata_is_no_first_disk() {
        assert_eq!(tables(&[disk(0, 5)], Sectors(8192), Sectors(128)), None);
        assert_eq!(tables(&[], Sectors(8192), Sectors(128)), None);
    }
}
