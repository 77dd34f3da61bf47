//! What the kernel has of a volume.

use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{DmError, DmInfo, DmName, Table, TableSlot, Target};
use ashlar_targetd_protocol::{Exports, Sectors, ThinId};
use uuid::Uuid;

use crate::kernel::{Kernel, KernelError};
use crate::ours::{self, PoolPart};
use crate::transport::{ObservedExports, Transports};

/// What the kernel has of a volume. Never mistaken for what is desired: devices are numbers here,
/// and sizes are those of live tables.
#[derive(Clone, Debug)]
pub struct ObservedVolume {
    /// The device of its pool, if the pool is active.
    pub pool: Option<DeviceNumber>,
    /// Its own device.
    pub device: ObservedDevice,
    /// Its exports.
    pub exports: ObservedExports,
}

/// The device of a volume.
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

/// Looks at a volume. A handful of calls, however many volumes there are.
pub fn observe(
    kernel: &Kernel,
    transports: &Transports,
    volume: Uuid,
    pool: Option<Uuid>,
    exports: &Exports,
) -> Result<ObservedVolume, KernelError> {
    let device = observe_device(kernel, &ours::volume_device(volume))?;
    Ok(ObservedVolume {
        pool: match pool {
            Some(pool) => pool_device(kernel, pool)?,
            None => None,
        },
        device,
        exports: transports.observe(kernel.tree(), volume, exports)?,
    })
}

/// The device of a pool that is active and ours.
fn pool_device(kernel: &Kernel, pool: Uuid) -> Result<Option<DeviceNumber>, KernelError> {
    let name = ours::pool_device(pool, PoolPart::Thin);
    let info = kernel.dm.info(&name)?;
    let usable = |info: &DmInfo| info.live && info.uuid == ours::device_uuid(&name).as_str();
    Ok(info.filter(usable).map(|info| info.number))
}

fn observe_device(kernel: &Kernel, name: &DmName) -> Result<ObservedDevice, KernelError> {
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
