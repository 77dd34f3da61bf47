//! Disks and device-mapper on the model kernel: what callers rely on beyond single answers.

use ashlar_kernel_iface::block::{
    Access, DiskContent, DiskLookupError, Disks, MetadataState, PAYLOAD_START, PoolLabel, Tenure,
    disk_by_id, format_disk, metadata_state, probe, zero_metadata_superblock,
};
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{
    DeviceMapper, DmAccess, DmName, Linear, PoolFeatures, PoolMessage, PoolMode, StatusFreshness,
    SuspendFlags, Table, TableSlot, Target, Thin, ThinPool, ThinPoolStatus, ThinPoolUsage,
    ThinStatus,
};
use ashlar_kernel_iface::lio::{BackstoreId, Lio};
use ashlar_kernel_iface::model::{ModelDisk, ModelDm, ModelKernel, Module};
use ashlar_kernel_iface::tree::{Change, Errno};
use ashlar_targetd_protocol::{Bytes, Sectors, ThinId};
use uuid::Uuid;

const METADATA: Sectors = Sectors(8192);
const DATA: Sectors = Sectors(131_072);
const BLOCK: Sectors = Sectors(128);

fn name(text: &str) -> DmName {
    text.parse().unwrap()
}

fn thin(id: u64) -> ThinId {
    ThinId::try_from(id).unwrap()
}

fn machine() -> (ModelKernel, DeviceNumber) {
    let kernel = ModelKernel::new();
    let disk = kernel.add_disk(ModelDisk::new("DISK0", Bytes(256 << 20)));
    (kernel, disk)
}

fn activate(dm: &ModelDm, device: &str, length: Sectors, target: Target) -> DeviceNumber {
    let uuid = format!("ASHLAR-{device}").parse().unwrap();
    let device = name(device);
    dm.create(&device, &uuid).unwrap();
    let table = Table::single(length, target);
    dm.load(&device, &table, DmAccess::ReadWrite).unwrap();
    dm.resume(&device, SuspendFlags::FLUSH).unwrap().number
}

fn linear(device: DeviceNumber, offset: u64) -> Target {
    Target::Linear(Linear {
        device,
        offset: Sectors(offset),
    })
}

/// A pool on a disk, as Ashlar lays it out.
fn activate_pool(kernel: &ModelKernel, disk: DeviceNumber) -> DeviceNumber {
    let dm = kernel.dm();
    let metadata = activate(&dm, "meta", METADATA, linear(disk, 4096));
    let data = activate(&dm, "data", DATA, linear(disk, 16_384));
    let pool = ThinPool {
        metadata,
        data,
        block: BLOCK,
        low_water_blocks: 1,
        features: PoolFeatures::default(),
    };
    activate(&dm, "pool", DATA, Target::ThinPool(pool))
}

fn usage(kernel: &ModelKernel) -> ThinPoolUsage {
    let status = kernel
        .dm()
        .pool_status(&name("pool"), StatusFreshness::AsIs);
    match status.unwrap() {
        Some(ThinPoolStatus::Good(usage)) => usage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn thin_devices_outlive_a_power_cut_and_tables_do_not() {
    let (kernel, disk) = machine();
    activate_pool(&kernel, disk);
    let create = PoolMessage::CreateThin(thin(7));
    kernel.dm().message(&name("pool"), &create).unwrap();
    kernel.reboot();
    assert_eq!(kernel.dm().list().unwrap(), []);
    assert_eq!(kernel.disks().list().unwrap()[0].users, [""; 0]);
    activate_pool(&kernel, disk);
    let again = kernel.dm().message(&name("pool"), &create).unwrap_err();
    assert_eq!(again.errno(), Some(Errno::EEXIST));
}

#[test]
fn a_zero_superblock_under_a_pool_is_silently_a_new_pool() {
    let (kernel, disk) = machine();
    let state = || {
        let disk = kernel.disks().open(disk, Access::Read).unwrap();
        metadata_state(&*disk, PAYLOAD_START).unwrap()
    };
    assert_eq!(state(), MetadataState::Zero);
    activate_pool(&kernel, disk);
    assert_eq!(state(), MetadataState::Formatted);
    let create = PoolMessage::CreateThin(thin(7));
    kernel.dm().message(&name("pool"), &create).unwrap();
    kernel.reboot();
    let opened = kernel.disks().open(disk, Access::Exclusive).unwrap();
    zero_metadata_superblock(&*opened, PAYLOAD_START).unwrap();
    drop(opened);
    activate_pool(&kernel, disk);
    kernel.dm().message(&name("pool"), &create).unwrap();
}

#[test]
fn a_pool_fills_up_and_says_so() {
    let (kernel, disk) = machine();
    let pool = activate_pool(&kernel, disk);
    let dm = kernel.dm();
    let create = PoolMessage::CreateThin(thin(1));
    dm.message(&name("pool"), &create).unwrap();
    kernel.write_thin(&name("pool"), thin(1), 1023).unwrap();
    assert_eq!(usage(&kernel).data_used, 1023);
    assert_eq!(usage(&kernel).mode, PoolMode::ReadWrite);
    let target = Target::Thin(Thin { pool, id: thin(1) });
    activate(&dm, "vol", Sectors(1 << 20), target);
    let status = dm.thin_status(&name("vol"), StatusFreshness::AsIs);
    let mapped = Sectors(1023 * BLOCK.0);
    let highest = Some(Sectors(mapped.0 - 1));
    assert_eq!(status.unwrap(), Some(ThinStatus::Good { mapped, highest }));
    kernel.write_thin(&name("pool"), thin(1), 1024).unwrap();
    assert_eq!(usage(&kernel).mode, PoolMode::OutOfDataSpace);
    let beyond = kernel.write_thin(&name("pool"), thin(1), 1025);
    assert_eq!(beyond, Err(Errno::ENOSPC));
}

/// As the kernel's source has it: data grow before the metadata that were given with them.
#[test]
fn data_that_the_metadata_as_they_were_cannot_count_leave_a_pool_for_repair() {
    let (kernel, _) = machine();
    let large = kernel.add_disk(ModelDisk::new("LARGE", Bytes(4 << 30)));
    activate_pool(&kernel, large);
    let (dm, pool) = (kernel.dm(), name("pool"));
    kernel.fill_metadata(&pool, 0).unwrap();
    assert_eq!(usage(&kernel).mode, PoolMode::ReadOnly);
    let more = Sectors(METADATA.0 + 2048);
    let length = Sectors(4 << 20);
    for (device, length, offset) in [("meta", more, 4096), ("data", length, 16_384)] {
        let table = Table::single(length, linear(large, offset));
        dm.load(&name(device), &table, DmAccess::ReadWrite).unwrap();
        dm.resume(&name(device), SuspendFlags::FLUSH).unwrap();
    }
    let live = dm.table(&pool, TableSlot::Live).unwrap();
    let target = &live.lines()[0].target;
    let grow = |length| {
        let table = Table::single(length, target.clone());
        dm.load(&pool, &table, DmAccess::ReadWrite).unwrap();
        dm.resume(&pool, SuspendFlags::NO_FLUSH)
    };
    assert_eq!(grow(length).unwrap_err().errno(), Some(Errno::ENOSPC));
    assert!(dm.info(&pool).unwrap().unwrap().suspended);
    let after = usage(&kernel);
    assert!(after.needs_check && after.data_total == 1024, "{after:?}");
    // On a table of its size it is resumed, and stays as it is.
    grow(DATA).unwrap();
    let after = usage(&kernel);
    assert_eq!(
        (after.mode, after.metadata_total),
        (PoolMode::ReadOnly, 1024)
    );
}

#[test]
fn a_volume_that_is_exported_is_not_removed() {
    let (kernel, disk) = machine();
    let device = activate(&kernel.dm(), "vol", Sectors(2048), linear(disk, 4096));
    let lio = Lio::new(&kernel);
    let backstore = lio.backstore(&BackstoreId::for_volume(Uuid::from_u128(1)));
    assert_eq!(backstore.create(), Ok(Change::Changed));
    let node = kernel.dm().info(&name("vol")).unwrap().unwrap().node();
    backstore.set_device(&node).unwrap();
    assert_eq!(backstore.enable(), Ok(Change::Changed));
    let info = kernel.dm().info(&name("vol")).unwrap().unwrap();
    assert_eq!((info.number, info.open_count), (device, 1));
    assert!(kernel.dm().remove(&name("vol")).unwrap_err().is_busy());
}

#[test]
fn a_formatted_disk_is_found_by_its_label_whatever_its_name() {
    let kernel = ModelKernel::new();
    kernel.add_disk(ModelDisk::new("OTHER", Bytes(64 << 20)));
    let number = kernel.add_disk(ModelDisk {
        logical_block: Bytes(4096),
        ..ModelDisk::new("DISK1", Bytes(64 << 20))
    });
    let label = PoolLabel {
        pool: Uuid::from_u128(5),
        index: 0,
        count: 1,
        metadata: METADATA,
        block: BLOCK,
        metadata_room: METADATA,
        catalog: Sectors(0),
        tenure: Tenure::default(),
        set: None,
    };
    let disks = kernel.disks();
    let list = disks.list().unwrap();
    let found = disk_by_id(&list, &"serial-DISK1".parse().unwrap()).unwrap();
    assert_eq!((found.number, found.kernel_name.as_str()), (number, "vdb"));
    let disk = disks.open(found.number, Access::Exclusive).unwrap();
    let partition = format_disk(&*disk, &label).unwrap();
    let content = DiskContent::Pool { label, partition };
    assert_eq!(probe(&*disk).unwrap(), content);
}

#[test]
fn two_disks_with_one_serial_number_are_never_chosen_between() {
    let (kernel, _) = machine();
    kernel.add_disk(ModelDisk::new("DISK0", Bytes(64 << 20)));
    let id = "serial-DISK0".parse().unwrap();
    let list = kernel.disks().list().unwrap();
    assert_eq!(
        disk_by_id(&list, &id),
        Err(DiskLookupError::Ambiguous { id, count: 2 })
    );
}

#[test]
fn a_failed_or_cut_off_load_leaves_nothing_half_done() {
    let (kernel, disk) = machine();
    let dm = kernel.dm();
    let vol = name("vol");
    dm.create(&vol, &"ASHLAR-vol".parse().unwrap()).unwrap();
    let table = Table::single(Sectors(2048), linear(disk, 4096));
    kernel.fail_matching("dm load vol", Errno::ENOMEM);
    let failed = dm.load(&vol, &table, DmAccess::ReadWrite).unwrap_err();
    assert_eq!(failed.errno(), Some(Errno::ENOMEM));
    assert_eq!(kernel.disks().list().unwrap()[0].users, [""; 0]);
    kernel.stop_after(1);
    // The load happens, but its caller is gone before it can hear of it.
    let cut = dm.load(&vol, &table, DmAccess::ReadWrite).unwrap_err();
    assert_eq!(cut.errno(), Some(Errno::ESHUTDOWN));
    kernel.revive();
    assert!(dm.info(&vol).unwrap().unwrap().inactive);
    assert_eq!(kernel.disks().list().unwrap()[0].users, ["dm-0"]);
}

#[test]
fn the_log_tells_disks_and_devices_apart() {
    let (kernel, disk) = machine();
    kernel.take_log();
    activate(&kernel.dm(), "vol", Sectors(8), linear(disk, 0));
    let opened = kernel.disks().open(disk, Access::Exclusive);
    assert_eq!(opened.unwrap_err().errno(), Some(Errno::EBUSY));
    let log: Vec<String> = kernel.take_log().iter().map(ToString::to_string).collect();
    let expected = [
        "dm create vol ASHLAR-vol",
        "dm load vol (0 8 linear 254:0 0)",
        "dm resume vol",
    ];
    assert_eq!(log, expected);
}

#[test]
fn without_the_thin_module_there_is_no_pool() {
    let kernel = ModelKernel::without(&[Module::DmThinPool]);
    let disk = kernel.add_disk(ModelDisk::new("DISK0", Bytes(256 << 20)));
    let dm = kernel.dm();
    assert_eq!(dm.target_version("thin-pool").unwrap(), None);
    assert!(dm.target_version("linear").unwrap().is_some());
    let metadata = activate(&dm, "meta", METADATA, linear(disk, 4096));
    let data = activate(&dm, "data", DATA, linear(disk, 16_384));
    let pool = name("pool");
    dm.create(&pool, &"ASHLAR-pool".parse().unwrap()).unwrap();
    let target = Target::ThinPool(ThinPool {
        metadata,
        data,
        block: BLOCK,
        low_water_blocks: 1,
        features: PoolFeatures::default(),
    });
    let refused = dm.load(&pool, &Table::single(DATA, target), DmAccess::ReadWrite);
    assert_eq!(refused.unwrap_err().errno(), Some(Errno::EINVAL));
}
