//! The model kernel gives the answers that were recorded on a real one.
//!
//! The files below `kernel-ops/` were recorded with the program `kernel-conformance` on
//! Linux 6.12; the same program checks them on a real kernel in a virtual machine.

use std::path::{Path, PathBuf};

use ashlar_kernel_iface::conformance::Script;
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::model::{BlockDevice, ModelKernel, Module};
use ashlar_kernel_iface::tree::{Entry, Tree, TreePath};
use ashlar_targetd_protocol::Sectors;

/// The kernel a script expects, with two disks of 256 MiB without use. Scripts named `without-…`
/// expect one that lacks every module loaded on demand.
fn kernel(script: &Path) -> ModelKernel {
    let name = script.file_name().and_then(|name| name.to_str());
    let kernel = if name.is_some_and(|name| name.starts_with("without-")) {
        ModelKernel::without(&[Module::TargetIblock, Module::IscsiTarget, Module::NvmetTcp])
    } else {
        ModelKernel::new()
    };
    let mut state = kernel.lock();
    for (node, minor) in [("/dev/vda", 0), ("/dev/vdb", 16)] {
        let number = DeviceNumber { major: 254, minor };
        let disk = BlockDevice::new(Sectors(256 * 2048));
        state.devices.add(number, disk);
        state.devices.name(node, number);
    }
    state.devices.name_file("/proc/version");
    drop(state);
    kernel.lose_directory("/absent");
    kernel.lose_address("192.0.2.1".parse().expect("an address"));
    let absent = "nn-0x10001100aa000001:pn-0x20001100aa000002";
    kernel.lose_fc_port(absent.parse().expect("a port"));
    // The machine's own, whose card does no RDMA.
    kernel.lose_rdma("10.0.2.15".parse().expect("an address"));
    kernel
}

fn scripts() -> Vec<PathBuf> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/kernel-ops");
    let entries = std::fs::read_dir(directory).expect("the scripts are beside this test");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "ops"));
    files.sort();
    files
}

/// What is in the directories where objects are made.
fn objects(kernel: &ModelKernel) -> Vec<Vec<Entry>> {
    let directories = [
        "target",
        "target/core",
        "nvmet/subsystems",
        "nvmet/hosts",
        "nvmet/ports",
    ];
    let list = |path: &str| kernel.list(&TreePath::try_from(path).unwrap()).unwrap();
    directories.into_iter().map(list).collect()
}

#[test]
fn the_model_answers_as_the_kernel_did() {
    let mut differences = String::new();
    let mut operations = 0;
    for file in scripts() {
        let text = std::fs::read_to_string(&file).unwrap();
        let script = Script::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        operations += script.operations();
        for mismatch in script.check(&kernel(&file)) {
            differences += &format!("{} {mismatch}\n", file.display());
        }
    }
    assert!(operations > 300, "only {operations} operations were found");
    assert!(differences.is_empty(), "\n{differences}");
}

#[test]
fn every_script_leaves_the_kernel_as_it_found_it() {
    for file in scripts() {
        let text = std::fs::read_to_string(&file).unwrap();
        let script = Script::parse(&text).unwrap();
        let kernel = kernel(&file);
        let before = objects(&kernel);
        script.check(&kernel);
        assert_eq!(objects(&kernel), before, "{}", file.display());
        let state = kernel.lock();
        for (number, device) in state.devices.iter() {
            assert_eq!(device.opens(), 0, "{} holds {number}", file.display());
        }
    }
}
