//! Thin devices as volumes and snapshots use them.
//!
//! | file     | what |
//! |----------|------|
//! | `device` | what the kernel has of one: absent, empty, active |
//! | `act`    | changing one: activate, give another table, tell its pool |
//! | `origin` | holding I/O back while something is made from one |
//! | `blank`  | proving that one holds nothing |

mod act;
mod blank;
mod device;
mod origin;

use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::FailureKind;

pub use act::{Place, activate, resume, swap, tell};
pub use blank::{create_blank, remove_probes};
pub use device::{ActiveDevice, ObservedDevice, observe, pool_device};
pub use origin::{Origin, observe_origin, snapshot_with, stop_with};

/// What the kernel's refusal of anything done to a thin device means to the caller.
pub fn meaning(errno: Errno) -> FailureKind {
    match errno {
        Errno::EBUSY => FailureKind::InUse,
        Errno::ENOSPC => FailureKind::NoSpace,
        // The thin device, or the pool, was taken away in the meantime.
        Errno::ENODATA | Errno::ENXIO => FailureKind::Missing,
        _ => FailureKind::Kernel,
    }
}
