//! The catalog of a pool: a region of its disks that the agent reads and writes.
//!
//! Here it is a linear device and no more; what is in it is the agent's. It stands on the disks, or
//! sets, beside the thin pool, so it can be read before that is put together, and when it cannot be.

use ashlar_kernel_iface::block::{Access, OpenFile};
use ashlar_targetd_protocol::{
    Bytes, DesiredPool, Failure, FailureKind, PoolFormat, Report, Response,
};
use uuid::Uuid;

use super::sets::Which;
use super::{Pools, apply, check, observe, plan, unobserved};
use crate::kernel::KernelError;
use crate::ours::{self, PoolPart};
use crate::server::Answer;

/// Written at once where it is cleared, in bytes.
const PIECE: u64 = 1 << 20;

impl Pools {
    /// Puts together as much of a pool as its catalog needs, or takes that down again.
    pub fn apply_catalog(&self, desired: &DesiredPool) -> Result<Report, Failure> {
        let _alone = self.locks.lock(&desired.id);
        let steps = match desired.absent {
            true => self.lower_catalog(desired)?,
            false => self.raise_catalog(desired)?,
        };
        tracing::info!(pool = %desired.id, ?steps, "catalog is as desired");
        Ok(Report {
            steps,
            ..Report::default()
        })
    }

    /// Opens the catalog of a pool.
    pub fn open_catalog(&self, pool: Uuid, write: bool) -> Result<Answer, Failure> {
        let access = match write {
            true => Access::Exclusive,
            false => Access::Read,
        };
        // Opened by its number, which may be another device's once it is gone.
        let _alone = self.locks.lock(&pool);
        self.opened_catalog(pool, access)
            .map(|OpenFile { file, size }| Answer::with(Response::Opened { size }, file))
    }

    fn opened_catalog(&self, pool: Uuid, access: Access) -> Result<OpenFile, Failure> {
        let name = ours::pool_device(pool, PoolPart::Catalog);
        let opened = match observe::observe_part(&self.kernel, pool, PoolPart::Catalog) {
            Ok(observe::ObservedPart::Active(active)) => {
                let file = self.kernel.disks.open_file(active.number, access);
                file.map_err(KernelError::from)
            }
            Ok(_) => Err(KernelError::Inactive(name)),
            Err(error) => Err(error),
        };
        opened.map_err(|error| unopened(pool, &error))
    }

    /// Overwrites what is in the catalog of a pool that is destroyed, if that is active.
    pub(super) fn clear_catalog(&self, desired: &DesiredPool) -> Result<(), Failure> {
        let id = desired.id;
        let found = observe::observe_part(&self.kernel, id, PoolPart::Catalog);
        let Ok(observe::ObservedPart::Active(active)) = found else {
            return Ok(());
        };
        let device = self.kernel.disks.open(active.number, Access::Exclusive);
        let cleared = device.and_then(|device| {
            let zeros = vec![0; PIECE as usize];
            let size = device.size().0;
            for at in (0..size).step_by(PIECE as usize) {
                let length = PIECE.min(size - at) as usize;
                device.write_at(Bytes(at), &zeros[..length])?;
            }
            device.flush()
        });
        cleared.map_err(|error| unobserved(id, &error.into()))
    }

    /// Has a pool that stands have its catalog. Hosts are served without it, so its failure is not
    /// the pool's: whoever writes it is told.
    pub(super) fn with_catalog(&self, desired: &DesiredPool) -> Vec<String> {
        if !desired.has_catalog() {
            return Vec::new();
        }
        self.catalog_made(desired).unwrap_or_else(|failure| {
            tracing::warn!(pool = %desired.id, %failure, "the pool has no catalog");
            Vec::new()
        })
    }

    fn raise_catalog(&self, desired: &DesiredPool) -> Result<Vec<String>, Failure> {
        let id = desired.id;
        if desired.format != PoolFormat::Never || desired.grows_from.is_some() {
            let reason = format!("a catalog of pool {id} is not made of disks that are to change");
            return Err(Failure::new(FailureKind::Refused, reason));
        }
        if !desired.has_catalog() {
            let reason = format!("pool {id} has no catalog");
            return Err(Failure::new(FailureKind::Missing, reason));
        }
        let observed = self.going(desired)?;
        check(desired, &observed)?;
        let mut steps = Vec::new();
        if desired.redundancy.is_some() {
            steps = self.raise(desired, &observed, Which::All)?.steps;
        }
        steps.extend(self.catalog_made(desired)?);
        Ok(steps)
    }

    fn catalog_made(&self, desired: &DesiredPool) -> Result<Vec<String>, Failure> {
        let observed = self.observed(desired)?;
        let active = observed.active(PoolPart::Catalog);
        // Whoever looks at a pool that stands does not look at its disks, and need not.
        if active.is_some() && observed.active(PoolPart::Thin).is_some() {
            return Ok(Vec::new());
        }
        let plan = plan::catalog(desired, &observed)?;
        apply::apply(&self.kernel, desired.id, &plan)
    }

    fn lower_catalog(&self, desired: &DesiredPool) -> Result<Vec<String>, Failure> {
        let id = desired.id;
        let observed = self.observed(desired)?;
        check::devices_are_ours(&observed)?;
        if observed.active(PoolPart::Thin).is_some() {
            let reason = format!("pool {id} is active, and its catalog with it");
            return Err(Failure::new(FailureKind::InUse, reason));
        }
        let plan = plan::plan(desired, &observed)?;
        apply::apply(&self.kernel, id, &plan)
    }
}

fn unopened(pool: Uuid, error: &KernelError) -> Failure {
    match error {
        KernelError::Inactive(_) => Failure::new(
            FailureKind::Missing,
            format!("the catalog of pool {pool} is not active"),
        ),
        other => unobserved(pool, other),
    }
}
