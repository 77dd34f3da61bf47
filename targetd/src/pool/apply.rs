//! Taking the steps of a pool. No decisions: those are the plan's.

use ashlar_kernel_iface::block::{
    Access, BlockDevice, PAYLOAD_START, format_disk, relabel_disk, wipe_disk,
    zero_metadata_superblock,
};
use ashlar_kernel_iface::dm::{
    DmAccess, DmName, PoolFeatures, StatusFreshness, SuspendFlags, Table, Target, ThinPool,
    ThinPoolStatus,
};
use ashlar_kernel_iface::tree::Change;
use ashlar_targetd_protocol::{Failure, Sectors};
use uuid::Uuid;

use super::plan::Plan;
use super::step::{DiskRef, Step, ThinSpec};
use crate::kernel::{Kernel, KernelError};
use crate::ours::{self, PoolPart};
use crate::steps;

/// Takes the steps in order. The first refusal ends it; what was done stays, and the next plan
/// goes on from there.
pub fn apply(kernel: &Kernel, pool: Uuid, plan: &Plan) -> Result<Vec<String>, Failure> {
    let object = format!("pool {pool}");
    steps::take(kernel, &object, &plan.steps, |step| run(kernel, pool, step))
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
        Step::Activate(part, table) => activate(kernel, &name(*part), table)?,
        Step::ActivateThin(spec) => {
            let table = thin_pool_table(kernel, pool, spec)?;
            activate(kernel, &name(PoolPart::Thin), &table)?;
        }
        Step::Extend(part, table) => {
            dm.load(&name(*part), table, DmAccess::ReadWrite)?;
            // What is under way on the disks ends; a full pool keeps what waits to itself.
            dm.resume(&name(*part), SuspendFlags::FLUSH)?;
        }
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

fn thin_pool_table(kernel: &Kernel, pool: Uuid, spec: &ThinSpec) -> Result<Table, KernelError> {
    let number = |part| {
        let name = ours::pool_device(pool, part);
        match kernel.dm.info(&name)? {
            Some(info) => Ok(info.number),
            None => Err(KernelError::Inactive(name)),
        }
    };
    let target = ThinPool {
        metadata: number(PoolPart::Meta)?,
        data: number(PoolPart::Data)?,
        block: spec.block,
        low_water_blocks: spec.low_water_blocks,
        // New blocks are zeroed, and discards free them and go on to the disks.
        features: PoolFeatures::default(),
    };
    Ok(Table::single(spec.size, Target::ThinPool(target)))
}
