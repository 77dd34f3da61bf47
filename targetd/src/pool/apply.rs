//! Taking the steps of a pool. No decisions: those are the plan's.

use ashlar_kernel_iface::block::{
    Access, ArrayAmendment, BlockDevice, PAYLOAD_START, amend_array, clear_leg, forget_array,
    format_disk, relabel_disk, wipe_disk, zero_metadata_superblock,
};
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{
    DmAccess, DmName, PoolFeatures, Raid, RaidLeg, StatusFreshness, SuspendFlags, Table, TableSlot,
    Target, ThinPool, ThinPoolStatus,
};
use ashlar_kernel_iface::tree::Change;
use ashlar_targetd_protocol::{Failure, RaidLevel, Sectors};
use uuid::Uuid;

use super::plan::Plan;
use super::step::{DiskRef, Reload, SetSpec, Step, ThinSpec, Told};
use super::{members, sets};
use crate::kernel::{Kernel, KernelError};
use crate::ours::{self, Member, PoolPart};
use crate::steps;

/// Takes the steps in order. The first refusal ends it; what was done stays, and the next plan
/// goes on from there.
pub fn apply(kernel: &Kernel, pool: Uuid, plan: &Plan) -> Result<Vec<String>, Failure> {
    let object = format!("pool {pool}");
    let taken = steps::take(kernel, &object, &plan.steps, |step| run(kernel, pool, step))?;
    Ok(taken.steps)
}

fn run(kernel: &Kernel, pool: Uuid, step: &Step) -> Result<Change, KernelError> {
    let name = |part| ours::pool_device(pool, part);
    let dm = &*kernel.dm;
    match step {
        Step::Wipe(disk) => wipe_disk(&*open(kernel, disk)?)?,
        Step::Relabel(disk, label) => {
            let device = kernel.disks.open(disk.number, Access::Shared)?;
            relabel_disk(&*device, label)?;
        }
        Step::ClearMetadata(disk) => {
            zero_metadata_superblock(&*open(kernel, disk)?, PAYLOAD_START)?;
        }
        Step::Format(disk, label) => drop(format_disk(&*open(kernel, disk)?, label)?),
        Step::ClearLeg(disk) => clear_leg(&*open(kernel, disk)?)?,
        Step::Amend(disk, amendment) => amend(kernel, disk, amendment)?,
        Step::Forget(disk) => forget(kernel, disk)?,
        Step::ActivateSet(spec) => {
            let table = set_table(kernel, pool, spec)?;
            activate(kernel, &name(PoolPart::Set(spec.number)), &table)?;
        }
        Step::ReloadSet(reload) => reload_set(kernel, pool, reload)?,
        Step::Activate(part, table) => activate(kernel, &name(*part), table)?,
        Step::ActivateThin(spec) => {
            let table = thin_pool_table(kernel, pool, spec)?;
            activate(kernel, &name(PoolPart::Thin), &table)?;
        }
        Step::Extend(part, table) => put(kernel, &name(*part), table)?,
        Step::GrowMetadata(spec) | Step::Grow(spec) => grow(kernel, pool, spec)?,
        Step::Reload(spec) => {
            let table = thin_pool_table(kernel, pool, spec)?;
            dm.load(&name(PoolPart::Thin), &table, DmAccess::ReadWrite)?;
            dm.resume(&name(PoolPart::Thin), SuspendFlags::NO_FLUSH)?;
        }
        Step::DropSecondTable(part) => drop(dm.clear(&name(*part))?),
        Step::Resume(part) => drop(dm.resume(&name(*part), SuspendFlags::NO_FLUSH)?),
        Step::Remove(part) => dm.remove(&name(*part))?,
    }
    Ok(Change::Changed)
}

fn open(kernel: &Kernel, disk: &DiskRef) -> Result<Box<dyn BlockDevice>, KernelError> {
    Ok(kernel.disks.open(disk.number, Access::Exclusive)?)
}

/// A device whose table the kernel refuses is not left behind.
fn activate(kernel: &Kernel, name: &DmName, table: &Table) -> Result<(), KernelError> {
    kernel.dm.create(name, &ours::device_uuid(name))?;
    let live = kernel
        .dm
        .load(name, table, DmAccess::ReadWrite)
        .and_then(|_| kernel.dm.resume(name, SuspendFlags::FLUSH));
    live.map(drop).map_err(|error| {
        // The first error is the one to tell.
        let _ = kernel.dm.remove(name);
        KernelError::from(error)
    })
}

/// The kernel looks at the new sizes when it resumes the device, which stays suspended on its new
/// table when it refuses them. Then it is given a table of the size it has, so that hosts go on.
fn grow(kernel: &Kernel, pool: Uuid, spec: &ThinSpec) -> Result<(), KernelError> {
    let name = ours::pool_device(pool, PoolPart::Thin);
    let had = match kernel.dm.pool_status(&name, StatusFreshness::AsIs)? {
        Some(ThinPoolStatus::Good(usage)) => usage.data_total.saturating_mul(spec.block.0),
        Some(ThinPoolStatus::Failed) | None => spec.size.0,
    };
    let had = ThinSpec {
        size: spec.size.min(Sectors(had)),
        ..*spec
    };
    let load = |spec: &ThinSpec| -> Result<(), KernelError> {
        let table = thin_pool_table(kernel, pool, spec)?;
        kernel.dm.load(&name, &table, DmAccess::ReadWrite)?;
        Ok(())
    };
    let resume = || -> Result<(), KernelError> {
        kernel.dm.resume(&name, SuspendFlags::NO_FLUSH)?;
        Ok(())
    };
    load(spec)?;
    resume().inspect_err(|_| {
        if let Err(error) = load(&had).and_then(|()| resume()) {
            tracing::error!(%pool, %error, "a pool that was not to grow is not what it was either");
        }
    })
}

/// Whatever goes wrong, the set goes on, with the table it had if need be: its disks are where they
/// were, or the same ones in another slot.
fn reload_set(kernel: &Kernel, pool: Uuid, reload: &Reload) -> Result<(), KernelError> {
    let Reload { spec, moved, told } = reload;
    let name = ours::pool_device(pool, PoolPart::Set(spec.number));
    let dm = &*kernel.dm;
    let had = dm.table(&name, TableSlot::Live)?;
    dm.suspend(&name, SuspendFlags::FLUSH)?;
    let loaded = moved
        .iter()
        .try_for_each(|(part, table)| put(kernel, &ours::pool_device(pool, *part), table))
        .and_then(|()| tell(kernel, told))
        .and_then(|()| set_table(kernel, pool, spec))
        .and_then(|table| Ok(dm.load(&name, &table, DmAccess::ReadWrite)?));
    let resumed = dm.resume(&name, SuspendFlags::FLUSH);
    if resumed.is_err() {
        let back = dm.load(&name, &without_rebuild(had), DmAccess::ReadWrite);
        if let Err(error) = back.and_then(|_| dm.resume(&name, SuspendFlags::FLUSH)) {
            tracing::error!(%pool, set = spec.number, %error, "a set does not go on");
        }
    }
    loaded?;
    resumed?;
    Ok(())
}

fn tell(kernel: &Kernel, told: &Told) -> Result<(), KernelError> {
    for disk in &told.forgotten {
        forget(kernel, disk)?;
    }
    for (disk, amendment) in &told.amended {
        amend(kernel, disk, amendment)?;
    }
    Ok(())
}

fn amend(kernel: &Kernel, disk: &DiskRef, what: &ArrayAmendment) -> Result<(), KernelError> {
    let device = kernel.disks.open(disk.number, Access::Shared)?;
    Ok(amend_array(&*device, what)?)
}

fn forget(kernel: &Kernel, disk: &DiskRef) -> Result<(), KernelError> {
    let device = kernel.disks.open(disk.number, Access::Shared)?;
    Ok(forget_array(&*device)?)
}

/// A live table tells for ever which disks were new when it was loaded.
fn without_rebuild(table: Table) -> Table {
    let lines = table.lines().iter().map(|line| {
        let mut target = line.target.clone();
        if let Target::Raid(raid) = &mut target {
            raid.rebuild.clear();
        }
        (line.length, target)
    });
    Table::stacked(lines)
}

/// Gives a linear device another table. What is under way on the disks ends; a full pool keeps what
/// waits to itself.
fn put(kernel: &Kernel, name: &DmName, table: &Table) -> Result<(), KernelError> {
    kernel.dm.load(name, table, DmAccess::ReadWrite)?;
    kernel.dm.resume(name, SuspendFlags::FLUSH)?;
    Ok(())
}

fn set_table(kernel: &Kernel, pool: Uuid, spec: &SetSpec) -> Result<Table, KernelError> {
    let leg = |member: Option<Member>| match member {
        Some(member) => Ok(Some(RaidLeg {
            meta: number(kernel, pool, PoolPart::Super(member))?,
            data: number(kernel, pool, PoolPart::Leg(member))?,
        })),
        None => Ok(None),
    };
    let legs: Result<Vec<_>, KernelError> = spec.members().map(leg).collect();
    let raid = Raid {
        level: spec.level,
        chunk: match spec.level {
            RaidLevel::Raid1 => Sectors(0),
            RaidLevel::Raid10 | RaidLevel::Raid5 | RaidLevel::Raid6 => members::chunk(),
        },
        rebuild: spec.rebuild.clone(),
        legs: legs?,
    };
    // A set has few disks.
    let size = sets::size(spec.level, spec.legs.len() as u32, spec.leg).unwrap_or_default();
    Ok(Table::single(size, Target::Raid(raid)))
}

fn number(kernel: &Kernel, pool: Uuid, part: PoolPart) -> Result<DeviceNumber, KernelError> {
    let name = ours::pool_device(pool, part);
    match kernel.dm.info(&name)? {
        Some(info) => Ok(info.number),
        None => Err(KernelError::Inactive(name)),
    }
}

fn thin_pool_table(kernel: &Kernel, pool: Uuid, spec: &ThinSpec) -> Result<Table, KernelError> {
    let target = ThinPool {
        metadata: number(kernel, pool, PoolPart::Meta)?,
        data: number(kernel, pool, PoolPart::Data)?,
        block: spec.block,
        low_water_blocks: spec.low_water_blocks,
        // New blocks are zeroed, and discards free them and go on to the disks.
        features: PoolFeatures::default(),
    };
    Ok(Table::single(spec.size, Target::ThinPool(target)))
}
