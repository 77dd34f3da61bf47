//! The model's device-mapper and disks give the answers that were recorded on a real kernel.
//!
//! The files `kernel-ops/*.dm` were recorded with the program `kernel-conformance` on
//! Linux 6.12, unless they say otherwise; the same program checks them on a real kernel in a virtual
//! machine.

use ashlar_kernel_iface::dm::DeviceMapper;
use ashlar_kernel_iface::dm::conformance::{Stage, check};
use ashlar_kernel_iface::model::{ModelDisk, ModelKernel};
use ashlar_targetd_protocol::Bytes;

const DEVICE_MAPPER: &str = include_str!("kernel-ops/device-mapper.dm");
const SNAPSHOTS: &str = include_str!("kernel-ops/snapshots.dm");
const GROWING: &str = include_str!("kernel-ops/growing.dm");
const ARRAYS: &str = include_str!("kernel-ops/arrays.dm");
const DISKS: &str = include_str!("kernel-ops/disks.dm");

/// A kernel with the disks the script expects: two of 256 MiB, without use.
fn kernel() -> ModelKernel {
    let kernel = ModelKernel::new();
    for serial in ["a", "b"] {
        kernel.add_disk(ModelDisk::new(serial, Bytes(256 << 20)));
    }
    kernel
}

fn assert_agrees(script: &str, at_least: usize) {
    let kernel = kernel();
    let (dm, disks) = (kernel.dm(), kernel.disks());
    let finish = || kernel.finish_arrays();
    let mut stage = Stage::new(&dm, &disks, &kernel).finishing(&finish);
    let (mismatches, operations) = check(&mut stage, script).unwrap();
    assert!(
        operations >= at_least,
        "only {operations} operations were found"
    );
    let lines: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
}

#[test]
fn the_models_device_mapper_answers_as_the_kernels_did() {
    assert_agrees(DEVICE_MAPPER, 243);
}

#[test]
fn the_models_snapshots_answer_as_the_kernels_did() {
    assert_agrees(SNAPSHOTS, 113);
}

#[test]
fn the_models_pools_grow_as_the_kernels_did() {
    assert_agrees(GROWING, 59);
}

#[test]
fn the_models_arrays_answer_as_the_kernels_did() {
    assert_agrees(ARRAYS, 150);
}

#[test]
fn the_models_disks_answer_as_the_kernels_did() {
    assert_agrees(DISKS, 35);
}

#[test]
fn a_wrong_record_is_noticed() {
    let kernel = kernel();
    let (dm, disks) = (kernel.dm(), kernel.disks());
    let wrong = DEVICE_MAPPER.replacen("= ENXIO", "= ok", 1);
    let (mismatches, _) = check(&mut Stage::new(&dm, &disks, &kernel), &wrong).unwrap();
    assert_eq!(mismatches.len(), 1);
    assert_eq!(mismatches[0].answer, "ENXIO");
}

#[test]
fn the_script_leaves_nothing_open_and_no_device() {
    let kernel = kernel();
    let (dm, disks) = (kernel.dm(), kernel.disks());
    check(&mut Stage::new(&dm, &disks, &kernel), DEVICE_MAPPER).unwrap();
    assert_eq!(dm.list().unwrap(), []);
    let state = kernel.lock();
    for (number, device) in state.devices.iter() {
        assert_eq!(device.opens(), 0, "{number} is open");
    }
}
