//! The model's device-mapper gives the answers that were recorded on a real kernel.
//!
//! `kernel-ops/device-mapper.dm` was recorded with the program `kernel-conformance` on
//! Linux 6.12; the same program checks it on a real kernel in a virtual machine.

use ashlar_kernel_iface::dm::DeviceMapper;
use ashlar_kernel_iface::dm::conformance::{Stage, check};
use ashlar_kernel_iface::model::{ModelDisk, ModelKernel};
use ashlar_targetd_protocol::Bytes;

const SCRIPT: &str = include_str!("kernel-ops/device-mapper.dm");

/// A kernel with the disks the script expects: two of 256 MiB, without use.
fn kernel() -> ModelKernel {
    let kernel = ModelKernel::new();
    for serial in ["a", "b"] {
        kernel.add_disk(ModelDisk::new(serial, Bytes(256 << 20)));
    }
    kernel
}

#[test]
fn the_model_answers_as_the_kernel_did() {
    let kernel = kernel();
    let (dm, disks) = (kernel.dm(), kernel.disks());
    let (mismatches, operations) = check(&mut Stage::new(&dm, &disks), SCRIPT).unwrap();
    assert!(operations > 200, "only {operations} operations were found");
    let lines: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
}

#[test]
fn a_wrong_record_is_noticed() {
    let kernel = kernel();
    let (dm, disks) = (kernel.dm(), kernel.disks());
    let wrong = SCRIPT.replacen("= ENXIO", "= ok", 1);
    let (mismatches, _) = check(&mut Stage::new(&dm, &disks), &wrong).unwrap();
    assert_eq!(mismatches.len(), 1);
    assert_eq!(mismatches[0].answer, "ENXIO");
}

#[test]
fn the_script_leaves_nothing_open_and_no_device() {
    let kernel = kernel();
    let (dm, disks) = (kernel.dm(), kernel.disks());
    check(&mut Stage::new(&dm, &disks), SCRIPT).unwrap();
    assert_eq!(dm.list().unwrap(), []);
    let state = kernel.lock();
    for (number, device) in state.devices.iter() {
        assert_eq!(device.opens(), 0, "{number} is open");
    }
}
