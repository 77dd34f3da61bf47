//! What this kernel can do for us.
//!
//! Modules are loaded by the system at boot.

use ashlar_kernel_iface::blkio::Blkio;
use ashlar_kernel_iface::tree::TreePath;
use ashlar_targetd_protocol::FeatureReport;

use crate::kernel::Kernel;

/// Whether one facility can be used; the error says why not.
type Probe = fn(&Kernel) -> Result<(), String>;

const PROBES: [(&str, Probe); 8] = [
    ("device-mapper", device_mapper),
    ("thin-pool", |kernel| {
        target(kernel, "thin-pool", "dm_thin_pool")
    }),
    ("iscsi", iscsi),
    ("iser", iser),
    ("nvme-tcp", |kernel| nvme(kernel, "nvmet_tcp")),
    ("nvme-rdma", |kernel| nvme(kernel, "nvmet_rdma")),
    ("nvme-fc", |kernel| nvme(kernel, "nvmet_fc")),
    ("blkio", blkio),
];

/// Looked at only for what needs it: the kernel loads the module for the question, which measures
/// for a second how to reckon parities best.
const ON_DEMAND: [(&str, Probe); 2] = [
    ("raid", |kernel| target(kernel, "raid", "dm_raid")),
    ("fc", |kernel| module(kernel, "tcm_fc")),
];

/// What is wrong with one facility, if anything is.
pub fn problem(kernel: &Kernel, name: &str) -> Option<String> {
    let mut probes = PROBES.iter().chain(&ON_DEMAND);
    let probe = probes.find(|(known, _)| *known == name);
    probe.and_then(|(_, probe)| probe(kernel).err())
}

/// Looks at every facility that all boxes need.
pub fn features(kernel: &Kernel) -> Vec<FeatureReport> {
    let report = |(name, probe): &(&str, Probe)| FeatureReport {
        name: (*name).to_owned(),
        problem: probe(kernel).err(),
    };
    PROBES.iter().map(report).collect()
}

fn device_mapper(kernel: &Kernel) -> Result<(), String> {
    let version = kernel.dm.version().map_err(|error| error.to_string())?;
    match version {
        [4, ..] => Ok(()),
        other => Err(format!("device-mapper speaks version {other:?}, not 4")),
    }
}

fn target(kernel: &Kernel, name: &str, module: &str) -> Result<(), String> {
    match kernel.dm.target_version(name) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(format!("kernel module {module} is not there")),
        Err(error) => Err(error.to_string()),
    }
}

fn iscsi(kernel: &Kernel) -> Result<(), String> {
    module(kernel, "target_core_mod")?;
    module(kernel, "target_core_iblock")?;
    module(kernel, "iscsi_target_mod")?;
    directory(kernel, &TreePath::fixed("target/iscsi"))
}

fn iser(kernel: &Kernel) -> Result<(), String> {
    iscsi(kernel)?;
    module(kernel, "ib_isert")
}

fn nvme(kernel: &Kernel, fabric: &str) -> Result<(), String> {
    module(kernel, "nvmet")?;
    module(kernel, fabric)?;
    directory(kernel, &TreePath::fixed("nvmet/subsystems"))
}

fn blkio(kernel: &Kernel) -> Result<(), String> {
    match Blkio::new(&*kernel.blkio).is_there() {
        Ok(true) => Ok(()),
        Ok(false) => Err("cgroup v1's blkio controller is not mounted at /run/blkio".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn module(kernel: &Kernel, name: &str) -> Result<(), String> {
    if kernel.modules.loaded(name) {
        Ok(())
    } else {
        Err(format!("kernel module {name} is not loaded"))
    }
}

fn directory(kernel: &Kernel, path: &TreePath) -> Result<(), String> {
    match kernel.tree().exists(path) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{path} is not there in configfs")),
        Err(error) => Err(error.to_string()),
    }
}
