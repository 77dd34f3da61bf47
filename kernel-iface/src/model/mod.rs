//! A model of the kernel: configfs, block devices and device-mapper with the real rules.
//!
//! Everything above the bottom traits runs on [`ModelKernel`] as it runs on the kernel, in one
//! process, without privilege and in microseconds. The rules were written from what Linux 6.12
//! does, and `tests/conformance.rs` holds them to answers recorded on it.
//!
//! | file         | what |
//! |--------------|------|
//! | `configfs`   | directories, links, attributes: what holds for every kernel object |
//! | `kind`       | which kinds of objects there are and which attributes each has |
//! | `attribute`  | how the kernel reads the text written to an attribute |
//! | `lio`        | what `mkdir`, `write` and `symlink` mean below `target/` |
//! | `nvmet`      | what they mean below `nvmet/` |
//! | `socket`     | who listens where |
//! | `network`    | which addresses there are |
//! | `devices`    | the block devices there are and who holds them open |
//! | `block`      | disks and what they hold |
//! | `blkio`      | which devices have limits |
//! | `dm`         | device-mapper: tables, loading and resuming them |
//! | `mapper`     | the same behind the trait the kernel's is behind |
//! | `thin`       | the metadata of a thin pool |
//! | `thin_image` | the same as bytes on their device |
//! | `data`       | what thin devices hold |
//! | `initiator`  | what an initiator that logs in gets to see |
//! | `news`       | what it tells by itself |
//! | `fault`      | operations that fail, and a process that dies between two of them |
//!
//! # Faults
//!
//! Every operation that can change the kernel is one *step*, counted and logged. A test can make
//! the n-th step fail with an errno, or let the calling process "die" after n steps: from then on
//! every operation, reading ones too, answers `ESHUTDOWN` and changes nothing, until
//! [`ModelKernel::revive`]. The log holds one line per step, secrets as `<secret>`, and is what
//! golden transcripts compare.
//!
//! # Not modelled
//!
//! Fabrics other than iSCSI and those of Fibre Channel, backstores other than iblock, ALUA groups,
//! referrals, passthrough; statistics are directories without attributes. Operations take no time and
//! happen one after another, so what the kernel gets wrong when two overlap (see
//! [`PortalGates`](crate::lio::PortalGates)) does not happen here.

mod attribute;
mod blkio;
mod block;
mod configfs;
mod data;
mod devices;
mod dm;
mod fault;
mod initiator;
mod kind;
mod lio;
mod mapper;
mod network;
mod news;
mod nvmet;
mod socket;
mod thin;
mod thin_image;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use ashlar_targetd_protocol::{FcPort, Wwn};

use crate::fc_host::FcHosts;
use crate::lio::FcFabric;
use crate::tree::Errno;

pub use block::{ModelDisk, ModelDisks, PulledDisk};
pub use devices::{BlockDevice, BlockDevices, Holder};
pub use fault::Step;
pub use initiator::{Denied, SeenDisk, SeenNamespace};
pub use mapper::ModelDm;
pub use network::ModelNetwork;
pub use news::ModelNews;
pub use thin_image::{ThinImage, ThinMappings, ThinMetadata};

use configfs::Nodes;
use fault::Faults;
use socket::Sockets;

/// Where LIO keeps reservations until it is told otherwise.
const DBROOT: &str = "/var/target";

/// A kernel module the model can be without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Module {
    /// `target_core_mod`: LIO itself. Without it there is no `target`.
    TargetCore,
    /// `target_core_iblock`: backstores on block devices, loaded when the first is made.
    TargetIblock,
    /// `iscsi_target_mod`: loaded when `target/iscsi` is made.
    IscsiTarget,
    /// `tcm_fc`: without it, loaded before, there is no `target/fc`.
    TcmFc,
    /// `tcm_qla2xxx`: likewise for `target/qla2xxx`.
    TcmQla2xxx,
    /// `ib_isert`: loaded when the first portal is told to take RDMA.
    IbIsert,
    /// `nvmet`: without it there is no `nvmet`.
    Nvmet,
    /// `nvmet_tcp`: loaded when the first subsystem is linked to a TCP port.
    NvmetTcp,
    /// `nvmet_rdma`: loaded when the first subsystem is linked to an RDMA port.
    NvmetRdma,
    /// `nvmet_fc`: loaded when the first subsystem is linked to a port of Fibre Channel.
    NvmetFc,
    /// `dm_thin_pool`: loaded when the first pool's table is.
    DmThinPool,
    /// `dm_raid`: loaded when the first array's table is.
    DmRaid,
    /// The `blkio` controller of cgroup v1, mounted on its own.
    Blkio,
}

impl Module {
    /// What the kernel calls it; none of what is no module of its own.
    fn name(self) -> Option<&'static str> {
        match self {
            Module::TargetCore => Some("target_core_mod"),
            Module::TargetIblock => Some("target_core_iblock"),
            Module::IscsiTarget => Some("iscsi_target_mod"),
            Module::TcmFc => Some("tcm_fc"),
            Module::TcmQla2xxx => Some("tcm_qla2xxx"),
            Module::IbIsert => Some("ib_isert"),
            Module::Nvmet => Some("nvmet"),
            Module::NvmetTcp => Some("nvmet_tcp"),
            Module::NvmetRdma => Some("nvmet_rdma"),
            Module::NvmetFc => Some("nvmet_fc"),
            Module::DmThinPool => Some("dm_thin_pool"),
            Module::DmRaid => Some("dm_raid"),
            Module::Blkio => None,
        }
    }
}

/// A kernel in this process. Clones are handles on the same kernel.
#[derive(Clone)]
pub struct ModelKernel {
    state: Arc<Mutex<ModelState>>,
}

/// Everything the model kernel knows, behind one lock.
pub struct ModelState {
    /// The block devices.
    pub devices: BlockDevices,
    faults: Faults,
    listeners: news::Listeners,
    media: block::Media,
    dm: dm::DmState,
    throttled: blkio::Throttled,
    nodes: Nodes,
    sockets: Sockets,
    missing_modules: BTreeSet<Module>,
    dbroot: String,
    lost_directories: BTreeSet<String>,
    fc_hosts: BTreeMap<Wwn, FcFabric>,
    /// Counts what the real kernel draws at random, such as a subsystem's serial number.
    drawn: u64,
}

impl Default for ModelKernel {
    fn default() -> Self {
        ModelKernel::new()
    }
}

impl ModelKernel {
    /// A kernel just booted, with every module and no block device.
    pub fn new() -> Self {
        ModelKernel::without(&[])
    }

    /// A kernel just booted that lacks some modules.
    pub fn without(modules: &[Module]) -> Self {
        let mut state = ModelState {
            devices: BlockDevices::default(),
            faults: Faults::default(),
            listeners: news::Listeners::default(),
            media: block::Media::default(),
            dm: dm::DmState::default(),
            throttled: blkio::Throttled::default(),
            nodes: Nodes::default(),
            sockets: Sockets::default(),
            missing_modules: modules.iter().copied().collect(),
            dbroot: DBROOT.to_owned(),
            lost_directories: BTreeSet::new(),
            fc_hosts: BTreeMap::new(),
            drawn: 0,
        };
        state.boot();
        ModelKernel {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The kernel's state, for as long as the guard lives.
    pub fn lock(&self) -> MutexGuard<'_, ModelState> {
        // A test that panicked while holding the lock has failed already.
        self.state.lock().unwrap_or_else(|error| error.into_inner())
    }

    /// Performs one step: an operation that can change the kernel, described by `line` as the log
    /// shows it. Counted, logged, and failed when a test says so; `ESHUTDOWN` when the calling
    /// process has died.
    pub(crate) fn perform<T>(
        &self,
        line: String,
        change: impl FnOnce(&mut ModelState) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut state = self.lock();
        state.faults.alive()?;
        let outcome = match state.faults.before(&line) {
            Ok(()) => change(&mut state),
            Err(errno) => Err(errno),
        };
        let ending = outcome.as_ref().map(|_| ()).map_err(|errno| *errno);
        state.faults.after(line, ending);
        outcome
    }

    /// Performs an operation that only looks: neither counted nor logged.
    pub(crate) fn look<T>(
        &self,
        look: impl FnOnce(&ModelState) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let state = self.lock();
        state.faults.alive()?;
        look(&state)
    }

    /// Loses power and boots again: configfs is empty, nothing is held open, device-mapper has no
    /// devices. Disks and what they hold stay.
    pub fn reboot(&self) {
        let mut state = self.lock();
        state.devices.close_all();
        state.power_off_dm();
        state.throttled = blkio::Throttled::default();
        state.nodes = Nodes::default();
        state.sockets.close_all();
        state.dbroot = DBROOT.to_owned();
        state.boot();
    }

    /// An address that no RDMA device has. All others that are here are those of one.
    pub fn lose_rdma(&self, address: IpAddr) {
        self.lock().sockets.lose_rdma(address);
    }

    /// A port of Fibre Channel that this machine does not have. It has all others.
    pub fn lose_fc_port(&self, port: FcPort) {
        self.lock().sockets.lose_fc_port(port);
    }

    /// There is one of that name again.
    pub fn find_fc_port(&self, port: FcPort) {
        self.lock().sockets.find_fc_port(port);
    }

    /// Plugs in a port of Fibre Channel that can be a target.
    pub fn add_fc_host(&self, port: Wwn, fabric: FcFabric) {
        self.lock().fc_hosts.insert(port, fabric);
    }

    /// Pulls it out.
    pub fn remove_fc_host(&self, port: Wwn) {
        self.lock().fc_hosts.remove(&port);
    }

    /// A directory that is not there: reservations cannot be kept in it.
    pub fn lose_directory(&self, directory: &str) {
        self.lock().lost_directories.insert(directory.to_owned());
    }

    /// Makes the `n`-th step from now (1 is the next) fail with `errno`, changing nothing.
    pub fn fail_step(&self, n: u64, errno: Errno) {
        self.lock().faults.fail_step(n, errno);
    }

    /// Makes the next step whose line in the log contains `text` fail with `errno`.
    pub fn fail_matching(&self, text: &str, errno: Errno) {
        self.lock().faults.fail_matching(text, errno);
    }

    /// Lets the calling process die after `n` more steps.
    pub fn stop_after(&self, n: u64) {
        self.lock().faults.stop_after(n);
    }

    /// Whether the process died of [`stop_after`](Self::stop_after).
    pub fn stopped(&self) -> bool {
        self.lock().faults.stopped()
    }

    /// A new process begins: operations work again, faults that did not happen are forgotten.
    pub fn revive(&self) {
        self.lock().faults.revive();
    }

    /// The steps since boot or the last call of this function.
    pub fn take_log(&self) -> Vec<Step> {
        self.lock().faults.take_log()
    }

    /// Whether it has a module of that name, or may have it: it lacks what it was made without.
    pub fn has(&self, module: &str) -> bool {
        let missing = &self.lock().missing_modules;
        !missing.iter().any(|missing| missing.name() == Some(module))
    }
}

impl FcHosts for ModelKernel {
    fn ports(&self) -> io::Result<BTreeMap<Wwn, FcFabric>> {
        Ok(self.lock().fc_hosts.clone())
    }
}

impl ModelState {
    /// Whether a module can be loaded.
    pub(crate) fn has_module(&self, module: Module) -> bool {
        !self.missing_modules.contains(&module)
    }

    /// An operation that can change the kernel: counted, logged, and failed when a test says so.
    fn step(
        &mut self,
        line: String,
        change: impl FnOnce(&mut ModelState) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        self.faults.alive()?;
        let outcome = match self.faults.before(&line) {
            Ok(()) => change(self),
            Err(errno) => Err(errno),
        };
        self.faults.after(line, outcome);
        outcome
    }

    /// A number that was not drawn before.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    fn boot(&mut self) {
        if self.has_module(Module::TargetCore) {
            self.nodes.mount("target", kind::Kind::Target);
        }
        if self.has_module(Module::Nvmet) {
            self.nodes.mount("nvmet", kind::Kind::Nvmet);
        }
    }
}
