//! Changing thin devices.

use std::fmt;

use ashlar_kernel_iface::dm::{DmAccess, DmName, PoolMessage, SuspendFlags, Table, Target, Thin};
use ashlar_kernel_iface::tree::{Change, Errno};
use ashlar_targetd_protocol::{Sectors, ThinId};
use uuid::Uuid;

use crate::kernel::{Kernel, KernelError};
use crate::ours::{self, PoolPart};

/// Where a volume's or a snapshot's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The pool.
    pub pool: Uuid,
    /// The thin device in it.
    pub id: ThinId,
    /// How much of it.
    pub size: Sectors,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { pool, id, size } = self;
        write!(f, "{size} of thin device {id} of pool {pool}")
    }
}

/// Sends a message to a pool; `already` is the errno that says it was so before.
pub fn tell(
    kernel: &Kernel,
    pool: Uuid,
    message: &PoolMessage,
    already: Errno,
) -> Result<Change, KernelError> {
    let name = ours::pool_device(pool, PoolPart::Thin);
    match kernel.dm.message(&name, message) {
        Err(error) if error.errno() == Some(already) => Ok(Change::Unchanged),
        outcome => Ok(outcome.map(|()| Change::Changed)?),
    }
}

/// Makes a device and lets it do I/O. One whose table the kernel refuses is not left behind.
pub fn activate(
    kernel: &Kernel,
    name: &DmName,
    place: &Place,
    access: DmAccess,
) -> Result<(), KernelError> {
    let table = table(kernel, place)?;
    kernel.dm.create(name, &ours::device_uuid(name))?;
    let live = kernel
        .dm
        .load(name, &table, access)
        .and_then(|_| kernel.dm.resume(name, SuspendFlags::FLUSH));
    live.map(drop).map_err(|error| {
        // The first error is the one to tell.
        let _ = kernel.dm.remove(name);
        KernelError::from(error)
    })
}

/// Puts an active device in another place, or in more of the same. Whoever has it open keeps it.
pub fn swap(kernel: &Kernel, name: &DmName, place: &Place) -> Result<(), KernelError> {
    let table = table(kernel, place)?;
    kernel.dm.load(name, &table, DmAccess::ReadWrite)?;
    resume(kernel, name)
}

/// Lets I/O go on; what waited for room in a full pool waits on.
pub fn resume(kernel: &Kernel, name: &DmName) -> Result<(), KernelError> {
    kernel.dm.resume(name, SuspendFlags::NO_FLUSH)?;
    Ok(())
}

fn table(kernel: &Kernel, place: &Place) -> Result<Table, KernelError> {
    let name = ours::pool_device(place.pool, PoolPart::Thin);
    let Some(info) = kernel.dm.info(&name)? else {
        return Err(KernelError::Inactive(name));
    };
    let thin = Thin {
        pool: info.number,
        id: place.id,
    };
    Ok(Table::single(place.size, Target::Thin(thin)))
}
