//! A state of a pool's thin metadata, held for the agent to read.
//!
//! The kernel holds one state per pool at most. Whoever asks for one gets the present one, and
//! one that was held before, by a process that died perhaps, is let go. What is held keeps every
//! metadata block of its time in use, so it is let go with the connection it was made for.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use ashlar_kernel_iface::block::{Access, BlockError, OpenFile};
use ashlar_kernel_iface::dm::{DmName, PoolMessage, StatusFreshness, ThinPoolStatus};
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{Failure, FailureKind, Response};
use uuid::Uuid;

use crate::kernel::{Kernel, KernelError};
use crate::locks::KeyLocks;
use crate::ours::{self, PoolPart};
use crate::server::{Answer, Caller};

/// What is held, of all pools.
pub struct Metadata {
    kernel: Kernel,
    /// One at a time per pool, so that nobody's state is let go while it is being opened.
    locks: KeyLocks<Uuid>,
    held: Mutex<BTreeMap<Uuid, Caller>>,
}

impl Metadata {
    /// Nothing is held.
    pub fn new(kernel: Kernel) -> Self {
        Metadata {
            kernel,
            locks: KeyLocks::default(),
            held: Mutex::default(),
        }
    }

    /// Holds the present state of a pool's metadata and opens it.
    ///
    /// # Errors
    /// When the pool is not active, or the kernel refuses.
    pub fn open(&self, caller: Caller, pool: Uuid) -> Result<Answer, Failure> {
        let _alone = self.locks.lock(&pool);
        let failed = |error| unheld(pool, &error);
        let name = self.thin_pool(pool)?;
        self.forget(&name).map_err(failed)?;
        self.message(&name, PoolMessage::ReserveMetadataSnap)
            .map_err(failed)?;
        self.held().insert(pool, caller);
        let opened = self.opened(pool, &name);
        if opened.is_err() {
            self.held().remove(&pool);
            self.forget(&name).map_err(failed)?;
        }
        let (held_root, OpenFile { file, size }) = opened.map_err(failed)?;
        tracing::info!(%pool, held_root, "handing out thin metadata");
        Ok(Answer::with(Response::Metadata { held_root, size }, file))
    }

    /// Lets go of what is held of a pool; nothing is fine.
    ///
    /// # Errors
    /// When the pool is not active, or the kernel refuses.
    pub fn release(&self, pool: Uuid) -> Result<(), Failure> {
        let _alone = self.locks.lock(&pool);
        let name = self.thin_pool(pool)?;
        self.held().remove(&pool);
        self.forget(&name).map_err(|error| unheld(pool, &error))
    }

    /// Lets go of everything that was held for a connection.
    pub(crate) fn let_go(&self, caller: Caller) {
        let pools: Vec<Uuid> = {
            let held = self.held();
            let theirs = held.iter().filter(|(_, holder)| **holder == caller);
            theirs.map(|(pool, _)| *pool).collect()
        };
        for pool in pools {
            let _alone = self.locks.lock(&pool);
            // It may have passed to another connection meanwhile.
            if self.held().get(&pool) != Some(&caller) {
                continue;
            }
            self.held().remove(&pool);
            let name = ours::pool_device(pool, PoolPart::Thin);
            if let Err(error) = self.forget(&name) {
                tracing::warn!(%pool, %error, "failed to let go of thin metadata");
            }
        }
    }

    fn thin_pool(&self, pool: Uuid) -> Result<DmName, Failure> {
        let name = ours::pool_device(pool, PoolPart::Thin);
        let info = self.kernel.dm.info(&name);
        let info = info.map_err(|error| unheld(pool, &error.into()))?;
        match info {
            Some(info) if info.live && info.uuid == ours::device_uuid(&name).as_str() => Ok(name),
            _ => Err(Failure::new(
                FailureKind::Missing,
                format!("pool {pool} is not active"),
            )),
        }
    }

    fn opened(&self, pool: Uuid, name: &DmName) -> Result<(u64, OpenFile), KernelError> {
        let root = self.held_root(name)?;
        let root = root.ok_or_else(|| KernelError::Inactive(name.clone()))?;
        let metadata = ours::pool_device(pool, PoolPart::Meta);
        let info = self.kernel.dm.info(&metadata)?;
        let info = info.ok_or(KernelError::Inactive(metadata))?;
        let file = self.kernel.disks.open_file(info.number, Access::Read)?;
        Ok((root, file))
    }

    fn held_root(&self, name: &DmName) -> Result<Option<u64>, KernelError> {
        let status = self.kernel.dm.pool_status(name, StatusFreshness::AsIs)?;
        Ok(match status {
            Some(ThinPoolStatus::Good(usage)) => usage.held_root,
            Some(ThinPoolStatus::Failed) | None => None,
        })
    }

    fn forget(&self, name: &DmName) -> Result<(), KernelError> {
        match self.held_root(name)? {
            Some(_) => self.message(name, PoolMessage::ReleaseMetadataSnap),
            None => Ok(()),
        }
    }

    fn message(&self, name: &DmName, message: PoolMessage) -> Result<(), KernelError> {
        Ok(self.kernel.dm.message(name, &message)?)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Uuid, Caller>> {
        self.held
            .lock()
            .expect("nothing panics while holding this lock")
    }
}

fn unheld(pool: Uuid, error: &KernelError) -> Failure {
    let unsupported = matches!(
        error,
        KernelError::Block(BlockError::Refused {
            errno: Errno::EOPNOTSUPP,
            ..
        })
    );
    let kind = match unsupported {
        true => FailureKind::Unsupported,
        false => FailureKind::Kernel,
    };
    let message = format!("failed to hold the thin metadata of pool {pool}: {error}");
    Failure::new(kind, message)
}
