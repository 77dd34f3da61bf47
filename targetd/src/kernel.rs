//! The kernel as this daemon sees it, real or modelled.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_kernel_iface::block::{BlockError, Disks, RealDisks};
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{DeviceMapper, DmError, DmInfo, DmName, RealDm};
use ashlar_kernel_iface::fc_host::{FcHosts, RealFcHosts};
use ashlar_kernel_iface::lio::FcFabric;
use ashlar_kernel_iface::model::ModelKernel;
use ashlar_kernel_iface::net::{Network, RealNetwork};
use ashlar_kernel_iface::tree::{Errno, RealTree, Tree, TreeError};
use ashlar_targetd_protocol::{Sectors, ThinId, Wwn};

/// The parts of the kernel that are read and written. Clones are handles on the same kernel.
#[derive(Clone)]
pub struct Kernel {
    /// configfs.
    pub tree: Arc<dyn Tree>,
    /// Control groups: what is mounted below `/run`.
    pub blkio: Arc<dyn Tree>,
    /// Device-mapper.
    pub dm: Arc<dyn DeviceMapper>,
    /// The disks.
    pub disks: Arc<dyn Disks>,
    /// The addresses of the box.
    pub network: Arc<dyn Network>,
    /// Its ports of Fibre Channel.
    pub fc: Arc<dyn FcHosts>,
    /// Its modules.
    pub modules: Arc<dyn Modules>,
    /// Whether steps that do not wait for each other are taken at once. A model takes them in
    /// order, so that its log and its faults are the same each time.
    pub at_once: bool,
}

/// What a kernel says of itself.
pub trait Modules: Send + Sync {
    /// Its release, such as `6.12.107`.
    fn release(&self) -> String;

    /// Whether a module is loaded or built in.
    fn loaded(&self, module: &str) -> bool;

    /// The device that the root file system is on.
    fn root(&self) -> Option<DeviceNumber>;
}

/// The running kernel.
struct RunningKernel;

impl Modules for RunningKernel {
    fn release(&self) -> String {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease");
        release.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
    }

    fn loaded(&self, module: &str) -> bool {
        Path::new("/sys/module").join(module).exists()
    }

    fn root(&self) -> Option<DeviceNumber> {
        let root = fs::metadata("/").ok()?;
        Some(DeviceNumber::from_dev(root.dev()))
    }
}

struct Modelled(ModelKernel);

impl Modules for Modelled {
    fn release(&self) -> String {
        "model".to_owned()
    }

    fn loaded(&self, module: &str) -> bool {
        self.0.has(module)
    }

    fn root(&self) -> Option<DeviceNumber> {
        None
    }
}

impl Kernel {
    /// The running kernel.
    ///
    /// # Errors
    /// When there is no device-mapper, or no privilege to use it.
    pub fn running() -> Result<Self, KernelError> {
        Ok(Kernel {
            tree: Arc::new(RealTree::configfs()),
            blkio: Arc::new(RealTree::new("/run")),
            dm: Arc::new(RealDm::open()?),
            disks: Arc::new(RealDisks::new()),
            network: Arc::new(RealNetwork),
            fc: Arc::new(RealFcHosts::new()),
            modules: Arc::new(RunningKernel),
            at_once: true,
        })
    }

    /// A model in this process.
    pub fn model(model: &ModelKernel) -> Self {
        Kernel {
            tree: Arc::new(model.clone()),
            blkio: Arc::new(model.clone()),
            dm: Arc::new(model.dm()),
            disks: Arc::new(model.disks()),
            network: Arc::new(model.network()),
            fc: Arc::new(model.clone()),
            modules: Arc::new(Modelled(model.clone())),
            at_once: false,
        }
    }

    /// configfs, borrowed.
    pub fn tree(&self) -> &dyn Tree {
        &*self.tree
    }

    /// What makes a port of the box's own a target.
    pub fn fc_fabric(&self, port: Wwn) -> Result<FcFabric, KernelError> {
        let ports = self.fc.ports().map_err(KernelError::FcHosts)?;
        let fabric = ports.get(&port).copied();
        fabric.ok_or(KernelError::NoFcPort(port))
    }

    /// The node of a device-mapper device.
    pub fn node(&self, name: &DmName) -> Result<PathBuf, KernelError> {
        self.active(name).map(|info| info.node())
    }

    /// The number of a device-mapper device.
    pub fn number(&self, name: &DmName) -> Result<DeviceNumber, KernelError> {
        self.active(name).map(|info| info.number)
    }

    fn active(&self, name: &DmName) -> Result<DmInfo, KernelError> {
        let info = self.dm.info(name)?;
        info.ok_or_else(|| KernelError::Inactive(name.clone()))
    }
}

/// An operation the kernel did not perform.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// On configfs.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// On device-mapper.
    #[error(transparent)]
    Dm(#[from] DmError),
    /// On a block device.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// On the network.
    #[error("failed to look at the addresses of the box: {0}")]
    Network(#[from] Errno),
    /// On ports of Fibre Channel.
    #[error("failed to look for ports of Fibre Channel: {0}")]
    FcHosts(#[source] io::Error),
    /// On a port of Fibre Channel that should be one of the box's.
    #[error("this box has no port {0} that can be a target")]
    NoFcPort(Wwn),
    /// On a device that should be active and is not.
    #[error("device {0} is not active")]
    Inactive(DmName),
    /// On a thin device that should be new and holds data.
    #[error("thin device {id} is there already and holds {mapped}")]
    Occupied {
        /// The thin device.
        id: ThinId,
        /// What it holds.
        mapped: Sectors,
    },
}

impl KernelError {
    /// The kernel's answer, where it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            KernelError::Tree(error) => error.errno(),
            KernelError::Dm(error) => error.errno(),
            KernelError::Block(error) => error.errno(),
            KernelError::Network(errno) => Some(*errno),
            KernelError::Inactive(_) | KernelError::NoFcPort(_) => Some(Errno::ENXIO),
            KernelError::FcHosts(_) => None,
            KernelError::Occupied { .. } => None,
        }
    }
}
