//! The disks of the box and what they hold.

use ashlar_kernel_iface::block::{Access, Disk, DiskContent, PoolLabel, probe};
use ashlar_targetd_protocol::{DiskReport, MemberReport, SetMemberReport};

use crate::kernel::{Kernel, KernelError};

/// Lists the disks that a pool can be made of. A disk without a lasting identity is none.
pub fn list(kernel: &Kernel) -> Result<Vec<DiskReport>, KernelError> {
    let disks = kernel.disks.list()?.into_iter();
    Ok(disks.filter_map(|disk| report(kernel, disk)).collect())
}

fn report(kernel: &Kernel, disk: Disk) -> Option<DiskReport> {
    let (content, label) = content(kernel, &disk);
    let Some(id) = disk.id else {
        tracing::debug!(disk = disk.kernel_name, "it has no serial number, left out");
        return None;
    };
    Some(DiskReport {
        id,
        kernel_name: disk.kernel_name,
        size: disk.size,
        rotational: disk.rotational,
        in_use: !disk.users.is_empty(),
        content,
        pool: label.map(|(label, _)| label.pool),
        member: label.map(|(label, complete)| member(&label, complete)),
    })
}

fn member(label: &PoolLabel, complete: bool) -> MemberReport {
    MemberReport {
        complete,
        index: label.index,
        count: label.count,
        metadata: label.metadata,
        block: label.block,
        metadata_room: label.metadata_room,
        catalog: label.catalog,
        tenure: label.tenure.count,
        holder: label.tenure.holder,
        set: label.set.map(|set| SetMemberReport {
            level: set.level,
            number: set.number,
            width: set.width,
            leg: set.leg,
            turn: set.turn,
        }),
    }
}

/// In words, and the label with whether all of it is there. One broken disk does not hide the
/// others.
fn content(kernel: &Kernel, disk: &Disk) -> (Option<String>, Option<(PoolLabel, bool)>) {
    let probed = kernel
        .disks
        .open(disk.number, Access::Read)
        .and_then(|device| probe(&*device));
    match probed {
        Ok(DiskContent::Blank) => (None, None),
        Ok(DiskContent::Pool { label, .. }) => (
            Some(format!(
                "disk {} of {} of a pool",
                label.index + 1,
                label.count
            )),
            Some((label, true)),
        ),
        Ok(DiskContent::Unfinished(label)) => (
            Some("an unfinished part of a pool".to_owned()),
            Some((label, false)),
        ),
        Ok(DiskContent::Foreign(what)) => (Some(what), None),
        Err(error) => (Some(format!("unreadable: {error}")), None),
    }
}
