//! The model as device-mapper: each call one operation on the state, with its faults and its log.

use ashlar_targetd_protocol::ThinId;

use super::{ModelKernel, ModelState, Module};
use crate::device::DeviceNumber;
use crate::dm::{
    DeviceMapper, DmAccess, DmError, DmInfo, DmName, DmObject, DmOperation, DmUuid, ListedDevice,
    PoolMessage, RaidMessage, StatusFreshness, SuspendFlags, Table, TableSlot, TargetStatus,
};
use crate::news::{News, NewsError};
use crate::tree::Errno;

impl ModelKernel {
    /// Device-mapper as the kernel offers it.
    pub fn dm(&self) -> ModelDm {
        ModelDm(self.clone())
    }

    /// As if the first `blocks` blocks of a thin device had been written. `ENOSPC` when the pool
    /// is full before that; `EINVAL` if the name is not that of a live pool.
    pub fn write_thin(&self, pool: &DmName, id: ThinId, blocks: u64) -> Result<(), Errno> {
        self.lock().dm_write_thin(pool, id, blocks)
    }

    /// As if so much had been mapped in a pool that at most this many blocks of its metadata are
    /// free; `EINVAL` if the name is not that of a live pool.
    pub fn fill_metadata(&self, pool: &DmName, free: u64) -> Result<(), Errno> {
        self.lock().dm_fill_metadata(pool, free)
    }

    /// As if a change of a pool's metadata had failed midway, so that it changes nothing any more
    /// until it is repaired; `EINVAL` if the name is not that of a live pool.
    pub fn damage_metadata(&self, pool: &DmName) -> Result<(), Errno> {
        self.lock().dm_damage_metadata(pool)
    }

    /// Thin devices that did I/O while a snapshot of them was made. The kernel allows that, and
    /// it spoils both.
    pub fn careless_snapshots(&self) -> Vec<ThinId> {
        self.lock().dm_careless()
    }
}

/// The model kernel's device-mapper.
#[derive(Clone)]
pub struct ModelDm(ModelKernel);

impl ModelDm {
    fn look<T>(
        &self,
        operation: DmOperation,
        object: DmObject,
        look: impl FnOnce(&ModelState) -> Result<T, Errno>,
    ) -> Result<T, DmError> {
        let state = self.0.lock();
        let outcome = state.faults.alive().and_then(|()| look(&state));
        outcome.map_err(|errno| refused(operation, object, String::new(), errno))
    }

    fn step(
        &self,
        operation: DmOperation,
        name: &DmName,
        detail: String,
        change: impl FnOnce(&mut ModelState) -> Result<(), Errno>,
    ) -> Result<(), DmError> {
        let line = format!("dm {} {name}{detail}", verb(operation));
        let outcome = self.0.lock().step(line, change);
        outcome.map_err(|errno| refused(operation, DmObject::Device(name.clone()), detail, errno))
    }

    fn inspect(&self, name: &DmName) -> Result<DmInfo, DmError> {
        let object = DmObject::Device(name.clone());
        self.look(DmOperation::Info, object, |state| state.dm_info(name))
    }
}

/// The operation in the log.
fn verb(operation: DmOperation) -> String {
    format!("{operation:?}").to_ascii_lowercase()
}

fn refused(operation: DmOperation, object: DmObject, detail: String, errno: Errno) -> DmError {
    DmError::Refused {
        operation,
        object,
        detail,
        errno,
    }
}

impl DeviceMapper for ModelDm {
    fn version(&self) -> Result<[u32; 3], DmError> {
        self.look(DmOperation::Version, DmObject::Driver, |_| Ok([4, 48, 0]))
    }

    fn target_version(&self, kind: &str) -> Result<Option<[u32; 3]>, DmError> {
        self.look(DmOperation::TargetVersion, DmObject::Driver, |state| {
            let thin = state.has_module(Module::DmThinPool);
            Ok(match kind {
                "linear" => Some([1, 5, 0]),
                "error" => Some([1, 7, 0]),
                "thin" | "thin-pool" if thin => Some([1, 23, 0]),
                "raid" if state.has_module(Module::DmRaid) => Some([1, 15, 1]),
                _ => None,
            })
        })
    }

    fn list(&self) -> Result<Vec<ListedDevice>, DmError> {
        self.look(DmOperation::List, DmObject::Driver, |state| {
            Ok(state.dm_list())
        })
    }

    fn create(&self, name: &DmName, uuid: &DmUuid) -> Result<DmInfo, DmError> {
        self.step(DmOperation::Create, name, format!(" {uuid}"), |state| {
            state.dm_create(name, uuid)
        })?;
        self.inspect(name)
    }

    fn remove(&self, name: &DmName) -> Result<(), DmError> {
        self.step(DmOperation::Remove, name, String::new(), |state| {
            state.dm_remove(name)
        })
    }

    fn load(&self, name: &DmName, table: &Table, access: DmAccess) -> Result<DmInfo, DmError> {
        let mode = match access {
            DmAccess::ReadWrite => "",
            DmAccess::ReadOnly => ", read-only",
        };
        let detail = format!(" ({table}{mode})");
        self.step(DmOperation::Load, name, detail, |state| {
            state.dm_load(name, table, access)
        })?;
        self.inspect(name)
    }

    fn clear(&self, name: &DmName) -> Result<DmInfo, DmError> {
        self.step(DmOperation::Clear, name, String::new(), |state| {
            state.dm_clear(name)
        })?;
        self.inspect(name)
    }

    fn suspend(&self, name: &DmName, _: SuspendFlags) -> Result<DmInfo, DmError> {
        self.step(DmOperation::Suspend, name, String::new(), |state| {
            state.dm_suspend(name)
        })?;
        self.inspect(name)
    }

    fn resume(&self, name: &DmName, _: SuspendFlags) -> Result<DmInfo, DmError> {
        self.step(DmOperation::Resume, name, String::new(), |state| {
            state.dm_resume(name)
        })?;
        self.inspect(name)
    }

    fn info(&self, name: &DmName) -> Result<Option<DmInfo>, DmError> {
        match self.inspect(name) {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.errno() == Some(Errno::ENXIO) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn table(&self, name: &DmName, slot: TableSlot) -> Result<Table, DmError> {
        let object = DmObject::Device(name.clone());
        self.look(DmOperation::Table, object, |state| {
            state.dm_table(name, slot)
        })
    }

    fn status(&self, name: &DmName, _: StatusFreshness) -> Result<Vec<TargetStatus>, DmError> {
        let object = DmObject::Device(name.clone());
        self.look(DmOperation::Status, object, |state| state.dm_status(name))
    }

    fn deps(&self, name: &DmName) -> Result<Vec<DeviceNumber>, DmError> {
        let object = DmObject::Device(name.clone());
        self.look(DmOperation::Deps, object, |state| state.dm_deps(name))
    }

    fn message(&self, name: &DmName, message: &PoolMessage) -> Result<(), DmError> {
        self.step(
            DmOperation::Message,
            name,
            format!(" ({message})"),
            |state| state.dm_message(name, message),
        )
    }

    fn raid_message(&self, name: &DmName, message: RaidMessage) -> Result<(), DmError> {
        let detail = format!(" ({message})");
        self.step(DmOperation::Message, name, detail, |state| {
            state.dm_raid_message(name, message)
        })
    }

    fn news(&self) -> Result<Box<dyn News>, NewsError> {
        let listening = self.0.lock().listeners.mapper.listen();
        match listening {
            Ok(news) => Ok(Box::new(news)),
            Err(errno) => {
                let detail = String::new();
                Err(refused(DmOperation::Arm, DmObject::Driver, detail, errno).into())
            }
        }
    }
}
