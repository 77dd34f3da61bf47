//! What devices have done, as the kernel counts it.

use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{Counted, IoCounters};

use crate::kernel::{Kernel, KernelError};
use crate::ours::{self, PoolPart};

/// The counters of a device of ours; `None` when it is not active.
pub fn read(kernel: &Kernel, counted: Counted) -> Result<Option<IoCounters>, KernelError> {
    let name = match counted {
        Counted::Volume(id) => ours::volume_device(id),
        Counted::PoolData(id) => ours::pool_device(id, PoolPart::Data),
        Counted::PoolMetadata(id) => ours::pool_device(id, PoolPart::Meta),
    };
    let info = kernel.dm.info(&name)?;
    let own = info.filter(|info| info.live && info.uuid == ours::device_uuid(&name).as_str());
    let Some(info) = own else { return Ok(None) };
    match kernel.disks.counters(info.number) {
        // It went since.
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV)) => Ok(None),
        counters => Ok(Some(counters?)),
    }
}
