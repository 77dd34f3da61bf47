//! What the model kernel tells by itself, and when.

use ashlar_kernel_iface::block::Disks;
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{
    DeviceMapper, DmAccess, DmName, Linear, PoolFeatures, PoolMessage, SuspendFlags, Table, Target,
    ThinPool,
};
use ashlar_kernel_iface::model::{ModelDisk, ModelKernel};
use ashlar_targetd_protocol::{Bytes, Sectors, ThinId};

const METADATA: Sectors = Sectors(8192);
/// 1024 blocks.
const DATA: Sectors = Sectors(131_072);

fn name(text: &str) -> DmName {
    text.parse().unwrap()
}

fn thin() -> ThinId {
    ThinId::try_from(1).unwrap()
}

fn go_live(kernel: &ModelKernel, device: &str, length: Sectors, target: Target) -> DeviceNumber {
    let dm = kernel.dm();
    let table = Table::single(length, target);
    dm.load(&name(device), &table, DmAccess::ReadWrite).unwrap();
    let live = dm.resume(&name(device), SuspendFlags::FLUSH);
    live.unwrap().number
}

fn activate(kernel: &ModelKernel, device: &str, length: Sectors, target: Target) -> DeviceNumber {
    let uuid = format!("ASHLAR-{device}").parse().unwrap();
    kernel.dm().create(&name(device), &uuid).unwrap();
    go_live(kernel, device, length, target)
}

/// A pool with a thin device, and its table.
fn pooled() -> (ModelKernel, ThinPool) {
    let kernel = ModelKernel::new();
    let device = kernel.add_disk(ModelDisk::new("DISK0", Bytes(256 << 20)));
    let part = |name, length, offset| {
        let offset = Sectors(offset);
        let target = Target::Linear(Linear { device, offset });
        activate(&kernel, name, length, target)
    };
    let pool = ThinPool {
        metadata: part("meta", METADATA, 4096),
        data: part("data", DATA, 16_384),
        block: Sectors(128),
        low_water_blocks: 256,
        features: PoolFeatures::default(),
    };
    activate(&kernel, "pool", DATA, Target::ThinPool(pool));
    let create = PoolMessage::CreateThin(thin());
    kernel.dm().message(&name("pool"), &create).unwrap();
    (kernel, pool)
}

#[test]
fn a_pool_tells_once_for_each_table_that_it_fills_up() {
    let (kernel, pool) = pooled();
    let news = kernel.dm().news().unwrap();
    let told = || news.take().unwrap();
    let write = |blocks| kernel.write_thin(&name("pool"), thin(), blocks).unwrap();
    write(768);
    assert!(!told(), "at its mark it has not looked yet");
    write(769);
    assert!(told());
    write(800);
    assert!(!told(), "it was told");
    let lower = ThinPool {
        low_water_blocks: 128,
        ..pool
    };
    go_live(&kernel, "pool", DATA, Target::ThinPool(lower));
    assert!(told(), "another table is an event");
    write(896);
    assert!(!told());
    write(897);
    assert!(told());
    write(1024);
    assert!(told(), "it is full");
}

#[test]
fn a_pool_tells_of_its_metadata() {
    let (kernel, _) = pooled();
    let news = kernel.dm().news().unwrap();
    let quarter = METADATA.0 / 8 / 4;
    kernel.fill_metadata(&name("pool"), quarter).unwrap();
    assert!(!news.take().unwrap());
    kernel.fill_metadata(&name("pool"), quarter - 1).unwrap();
    assert!(news.take().unwrap());
    kernel.damage_metadata(&name("pool")).unwrap();
    assert!(news.take().unwrap());
}

#[test]
fn devices_that_go_and_disks_that_come_are_told() {
    let (kernel, _) = pooled();
    let (mapper, disks) = (kernel.dm().news().unwrap(), kernel.disks().news().unwrap());
    kernel.dm().remove(&name("pool")).unwrap();
    assert!(mapper.take().unwrap());
    assert!(!disks.take().unwrap());
    kernel.add_disk(ModelDisk::new("DISK1", Bytes(256 << 20)));
    assert!(disks.take().unwrap());
    assert!(!mapper.take().unwrap());
}
