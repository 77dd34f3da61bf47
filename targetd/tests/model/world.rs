//! A model kernel with two disks, and targetd on it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use ashlar_kernel_iface::dm::DeviceMapper;
use ashlar_kernel_iface::model::{ModelDisk, ModelKernel, Module};
use ashlar_kernel_iface::tree::{EntryKind, Tree, TreePath};
use ashlar_targetd::ours::PORTAL_KEEPER;
use ashlar_targetd::{Kernel, Service, Targetd};
use ashlar_targetd_protocol::{
    Bytes, DesiredPool, DiskReport, Failure, PoolFormat, PoolReport, Report, Request, Response,
    VolumeReport,
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::wanted::{Wanted, pool, pool_id};

pub const DISKS: [&str; 2] = ["DISK0", "DISK1"];

pub struct World {
    pub kernel: ModelKernel,
    targetd: RefCell<Targetd>,
    dbroot: TempDir,
    generation: Cell<u64>,
}

impl World {
    /// A booted box with blank disks.
    pub fn bare() -> World {
        World::without(&[])
    }

    /// A booted box whose kernel lacks modules.
    pub fn without(modules: &[Module]) -> World {
        let kernel = ModelKernel::without(modules);
        for serial in DISKS {
            kernel.add_disk(ModelDisk::new(serial, Bytes(256 << 20)));
        }
        let dbroot = tempfile::tempdir().unwrap();
        let targetd = Targetd::start(Kernel::model(&kernel), dbroot.path()).unwrap();
        World {
            kernel,
            targetd: RefCell::new(targetd),
            dbroot,
            generation: Cell::new(1),
        }
    }

    /// With pool 1 on both disks.
    pub fn pooled() -> World {
        let world = World::bare();
        world
            .apply_pool(&pool(1, &DISKS, PoolFormat::BlankOnly))
            .unwrap();
        world
    }

    /// A new process on the same kernel.
    pub fn restart(&self) {
        self.kernel.revive();
        let targetd = Targetd::start(Kernel::model(&self.kernel), self.dbroot.path()).unwrap();
        *self.targetd.borrow_mut() = targetd;
    }

    /// A power cut: a new kernel on the same disks, with pool 1 active again.
    pub fn reboot(&self) {
        self.kernel.reboot();
        self.restart();
    }

    pub fn answer(&self, request: Request) -> Result<Response, Failure> {
        self.targetd.borrow().answer(request)
    }

    /// Applies with a new generation, unless the state has one.
    pub fn apply(&self, wanted: &Wanted) -> Result<Report, Failure> {
        let mut desired = wanted.0.clone();
        if desired.generation == 0 {
            self.generation.set(self.generation.get() + 1);
            desired.generation = self.generation.get();
        }
        applied(self.answer(Request::ApplyVolume(Box::new(desired))))
    }

    pub fn apply_pool(&self, desired: &DesiredPool) -> Result<Report, Failure> {
        applied(self.answer(Request::ApplyPool(Box::new(desired.clone()))))
    }

    pub fn unexport(&self, id: Uuid) -> Result<Report, Failure> {
        applied(self.answer(Request::Unexport { id }))
    }

    pub fn volume(&self, wanted: &Wanted) -> VolumeReport {
        let request = Request::ObserveVolume {
            id: wanted.0.id,
            pool: wanted.0.pool,
            thin_id: wanted.0.thin_id,
        };
        match self.answer(request) {
            Ok(Response::Volume(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    pub fn pool(&self) -> PoolReport {
        match self.answer(Request::ObservePool { id: pool_id(1) }) {
            Ok(Response::Pool(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    pub fn disks(&self) -> Vec<DiskReport> {
        match self.answer(Request::ListDisks) {
            Ok(Response::Disks(disks)) => disks,
            other => panic!("{other:?}"),
        }
    }

    /// Pools, volumes, foreign objects.
    pub fn objects(&self) -> (Vec<Uuid>, Vec<Uuid>, Vec<String>) {
        match self.answer(Request::ListObjects) {
            Ok(Response::Objects {
                pools,
                volumes,
                foreign,
            }) => (pools, volumes, foreign),
            other => panic!("{other:?}"),
        }
    }

    /// The names of everything there is in configfs and device-mapper: objects, links and where
    /// they lead. The portals' keeper is left out: it stays when all else goes.
    pub fn picture(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for root in ["target", "nvmet"] {
            let root = TreePath::try_from(root).unwrap();
            walk(&self.kernel, &root, &mut names);
        }
        for device in self.kernel.dm().list().unwrap() {
            names.insert(format!("device {} {}", device.name, device.uuid));
        }
        names.retain(|name| !name.contains(PORTAL_KEEPER));
        names
    }
}

fn applied(answer: Result<Response, Failure>) -> Result<Report, Failure> {
    match answer? {
        Response::Applied(report) => Ok(report),
        other => panic!("{other:?}"),
    }
}

fn walk(tree: &ModelKernel, path: &TreePath, names: &mut BTreeSet<String>) {
    let Ok(entries) = tree.list(path) else { return };
    for entry in entries {
        let below = path.join(&entry.name);
        match entry.kind {
            EntryKind::Directory => {
                names.insert(below.to_string());
                walk(tree, &below, names);
            }
            EntryKind::Link => {
                let target = tree.read_link(&below).unwrap();
                names.insert(format!("{below} -> {target}"));
            }
            EntryKind::Attribute => {}
        }
    }
}
