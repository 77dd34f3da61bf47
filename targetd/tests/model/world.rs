//! A model kernel with two disks, and targetd on it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Instant;

use ashlar_kernel_iface::blkio::Blkio;
use ashlar_kernel_iface::dm::{
    DeviceMapper, DmAccess, DmName, StatusFreshness, SuspendFlags, Table, Target, Thin, ThinStatus,
};
use ashlar_kernel_iface::model::{ModelDisk, ModelKernel, Module};
use ashlar_kernel_iface::tree::{EntryKind, Tree, TreePath};
use ashlar_targetd::ours::{self, PORTAL_KEEPER, PoolPart};
use ashlar_targetd::server::{Answer, Caller};
use ashlar_targetd::{Kernel, Service, Targetd};
use ashlar_targetd_protocol::{
    Bytes, DesiredPool, DiskReport, Failure, PoolFormat, PoolReport, Report, Request, Response,
    Sectors, VolumeReport,
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::wanted::{Shots, Wanted, pool, pool_id};

pub const DISKS: [&str; 2] = ["DISK0", "DISK1"];

/// Whoever asks, if it does not matter.
pub const CALLER: Caller = Caller(1);

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

    /// With a pool on each disk.
    pub fn with_two_pools() -> World {
        let world = World::bare();
        for (n, disk) in (1..).zip(DISKS.chunks(1)) {
            let pool = pool(n, disk, PoolFormat::BlankOnly);
            world.apply_pool(&pool).unwrap();
        }
        world
    }

    /// Where LIO writes what is reserved of a disk.
    pub fn reservations(&self, volume: Uuid) -> PathBuf {
        let name = format!("aptpl_{}", volume.simple());
        self.dbroot.path().join("pr").join(name)
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
        self.ask(CALLER, request).map(|answer| answer.response)
    }

    /// The same, by anyone, with what comes along.
    pub fn ask(&self, caller: Caller, request: Request) -> Result<Answer, Failure> {
        self.targetd.borrow().answer(caller, request)
    }

    /// Waits for a change, without a connection.
    pub fn changed(&self, seen: u64) -> mpsc::Receiver<Result<u64, Failure>> {
        let (tell, told) = mpsc::channel();
        let answer = move |count| {
            // The test may be over.
            let _ = tell.send(count);
        };
        let targetd = self.targetd.borrow();
        targetd.changes().wait(CALLER, seen, Box::new(answer));
        told
    }

    /// A connection ends.
    pub fn gone(&self, caller: Caller) {
        self.targetd.borrow().gone(caller);
    }

    /// Applies with a new generation, unless the state has one.
    pub fn apply(&self, wanted: &Wanted) -> Result<Report, Failure> {
        let mut desired = wanted.0.clone();
        if desired.generation == 0 {
            self.generation.set(self.generation.get() + 1);
            desired.generation = self.generation.get();
        }
        self.applied(Request::ApplyVolume(Box::new(desired)))
    }

    /// Applies with a new generation, unless the state has one.
    pub fn snapshots(&self, wanted: &Shots) -> Result<Report, Failure> {
        let mut desired = wanted.0.clone();
        if desired.generation == 0 {
            self.generation.set(self.generation.get() + 1);
            desired.generation = self.generation.get();
        }
        self.applied(Request::ApplySnapshots(Box::new(desired)))
    }

    /// Whatever was done, nothing did I/O while a snapshot of it was made.
    fn applied(&self, request: Request) -> Result<Report, Failure> {
        let report = applied(self.answer(request));
        assert_eq!(self.kernel.careless_snapshots(), []);
        report
    }

    pub fn apply_pool(&self, desired: &DesiredPool) -> Result<Report, Failure> {
        applied(self.answer(Request::ApplyPool(Box::new(desired.clone()))))
    }

    pub fn unexport(&self, id: Uuid) -> Result<Report, Failure> {
        applied(self.answer(Request::Unexport { id }))
    }

    /// The calls that changed the kernel, or tried to, since the log was last taken: one word
    /// each.
    pub fn calls(&self) -> Vec<String> {
        let log = self.kernel.take_log();
        let verb = |operation: &str| operation.split(' ').nth(1).unwrap_or_default().to_owned();
        log.iter().map(|call| verb(&call.operation)).collect()
    }

    /// As if the first blocks of a thin device of pool 1 had been written.
    pub fn write(&self, thin_id: u64, blocks: u64) {
        let pool = ours::pool_device(pool_id(1), PoolPart::Thin);
        let thin_id = thin_id.try_into().unwrap();
        self.kernel.write_thin(&pool, thin_id, blocks).unwrap();
    }

    /// What a thin device of pool 1 holds, by a look of the test's own; `None` without it.
    pub fn holds(&self, thin_id: u64) -> Option<u64> {
        self.holds_in(1, thin_id)
    }

    /// The same of another pool.
    pub fn holds_in(&self, pool: u128, thin_id: u64) -> Option<u64> {
        let dm = self.kernel.dm();
        let pool = dm.info(&ours::pool_device(pool_id(pool), PoolPart::Thin));
        let thin = Thin {
            pool: pool.unwrap().unwrap().number,
            id: thin_id.try_into().unwrap(),
        };
        let name = "look".parse().unwrap();
        dm.create(&name, &"look".parse().unwrap()).unwrap();
        let table = Table::single(Sectors(128), Target::Thin(thin));
        let loaded = dm.load(&name, &table, DmAccess::ReadOnly);
        let held = loaded.ok().map(|_| {
            dm.resume(&name, SuspendFlags::FLUSH).unwrap();
            match dm.thin_status(&name, StatusFreshness::AsIs).unwrap() {
                Some(ThinStatus::Good { mapped, .. }) => mapped.0 / 128,
                other => panic!("{other:?}"),
            }
        });
        dm.remove(&name).unwrap();
        held
    }

    pub fn suspended(&self, device: &DmName) -> bool {
        self.kernel.dm().info(device).unwrap().unwrap().suspended
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
                ..
            }) => (pools, volumes, foreign),
            other => panic!("{other:?}"),
        }
    }

    /// Snapshots with a device.
    pub fn active_snapshots(&self) -> Vec<Uuid> {
        match self.answer(Request::ListObjects) {
            Ok(Response::Objects { snapshots, .. }) => snapshots,
            other => panic!("{other:?}"),
        }
    }

    /// The limits of all devices: names and what follows a number, in the kernel's files.
    pub fn limits(&self) -> Vec<String> {
        let devices = self.kernel.dm().list().unwrap();
        let limits = Blkio::new(&self.kernel).limits().unwrap_or_default();
        let mut lines = Vec::new();
        for (number, throttles) in limits {
            let device = devices.iter().find(|device| device.number == number);
            let name = device.map_or("nobody", |device| device.name.as_str());
            for (throttle, limit) in throttles {
                lines.push(format!("limit {name} {limit} {throttle}"));
            }
        }
        lines
    }

    /// Divides totals, as the thread that does so on a kernel.
    pub fn look(&self, now: Instant) {
        self.targetd.borrow().limiter().look(now);
    }

    /// The names of everything there is in configfs and device-mapper: objects, links and where
    /// they lead, and limits. The portals' keeper is left out: it stays when all else goes.
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
        names.extend(self.limits());
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
