//! What the kernel has of a thin device.

use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{DmError, DmInfo, DmName, Table, TableSlot, Target};
use ashlar_targetd_protocol::{Sectors, ThinId};
use uuid::Uuid;

use crate::kernel::{Kernel, KernelError};
use crate::ours::{self, PoolPart};

/// The device of a volume or a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObservedDevice {
    /// There is none.
    Absent,
    /// Something has its name and is not it, in words.
    Foreign(String),
    /// It was made and never got a table: whoever made it died.
    Empty,
    /// It is active.
    Active(ActiveDevice),
}

/// An active device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveDevice {
    /// Its number.
    pub number: DeviceNumber,
    /// The device of the pool it is in.
    pub pool: DeviceNumber,
    /// Which thin device of that pool.
    pub thin_id: ThinId,
    /// Its size.
    pub size: Sectors,
    /// It takes no writes.
    pub read_only: bool,
    /// A second table waits: whoever loaded it died.
    pub second_table: bool,
    /// I/O is held back.
    pub suspended: bool,
}

impl ObservedDevice {
    /// The device, if it is active.
    pub fn active(&self) -> Option<&ActiveDevice> {
        match self {
            ObservedDevice::Active(device) => Some(device),
            ObservedDevice::Absent | ObservedDevice::Foreign(_) | ObservedDevice::Empty => None,
        }
    }
}

impl ActiveDevice {
    /// Whether it is this thin device.
    pub fn is_on(&self, pool: Option<DeviceNumber>, thin_id: ThinId) -> bool {
        Some(self.pool) == pool && self.thin_id == thin_id
    }
}

/// The device of a pool that is active and ours.
pub fn pool_device(kernel: &Kernel, pool: Uuid) -> Result<Option<DeviceNumber>, KernelError> {
    let name = ours::pool_device(pool, PoolPart::Thin);
    let info = kernel.dm.info(&name)?;
    let usable = |info: &DmInfo| info.live && info.uuid == ours::device_uuid(&name).as_str();
    Ok(info.filter(usable).map(|info| info.number))
}

/// Looks at the device of a volume or a snapshot.
pub fn observe(kernel: &Kernel, name: &DmName) -> Result<ObservedDevice, KernelError> {
    let Some(info) = kernel.dm.info(name)? else {
        return Ok(ObservedDevice::Absent);
    };
    if info.uuid != ours::device_uuid(name).as_str() {
        let what = format!(
            "device {name} was not made here: its uuid is {:?}",
            info.uuid
        );
        return Ok(ObservedDevice::Foreign(what));
    }
    if !info.live {
        return Ok(ObservedDevice::Empty);
    }
    match kernel.dm.table(name, TableSlot::Live) {
        Ok(table) => Ok(active(&info, &table)),
        Err(error @ DmError::ForeignTarget { .. }) => {
            Ok(ObservedDevice::Foreign(error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

fn active(info: &DmInfo, table: &Table) -> ObservedDevice {
    match table.lines() {
        [line] => match line.target {
            Target::Thin(thin) => ObservedDevice::Active(ActiveDevice {
                number: info.number,
                pool: thin.pool,
                thin_id: thin.id,
                size: line.length,
                read_only: info.read_only,
                second_table: info.inactive,
                suspended: info.suspended,
            }),
            _ => foreign_table(info, table),
        },
        _ => foreign_table(info, table),
    }
}

fn foreign_table(info: &DmInfo, table: &Table) -> ObservedDevice {
    ObservedDevice::Foreign(format!("device {} is no thin device: {table}", info.name))
}
