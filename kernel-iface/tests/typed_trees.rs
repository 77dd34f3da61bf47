//! The typed trees do on a kernel what they say.
//!
//! Each test runs on the model. With `ASHLAR_TEST_KERNEL=running` it runs on the running kernel
//! instead, one at a time (`--test-threads=1`), as root, on a machine whose targets serve nobody
//! and whose disks `/dev/vda` and `/dev/vdb` hold nothing.

use std::path::Path;

use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::lio::{Backstore, BackstoreId, DeviceAttribute, Lio, Tpg, TpgAttribute};
use ashlar_kernel_iface::lio::{TargetState, TpgParameter};
use ashlar_kernel_iface::model::{BlockDevice, ModelKernel};
use ashlar_kernel_iface::nvmet::{ModelNumber, Nvmet, SerialNumber};
use ashlar_kernel_iface::tree::{Change, Errno, RealTree, Tree, TreeError, TreePath};
use ashlar_targetd_protocol::{
    ChapCredentials, ChapName, ChapSecret, DhGroup, DhHash, DhchapExchange, DhchapKey, Iqn, Lun,
    Nqn, Nsid, NvmePort, PortId, PortalAddr, Sectors, TpgTag,
};
use uuid::Uuid;

const VOLUME: Uuid = Uuid::from_u128(0xf81d_4fae_7dec_11d0_a765_00a0_c91e_6bf6);

fn kernel() -> Box<dyn Tree> {
    if std::env::var_os("ASHLAR_TEST_KERNEL").is_some_and(|kernel| kernel == "running") {
        return Box::new(RealTree::configfs());
    }
    let kernel = ModelKernel::new();
    let mut state = kernel.lock();
    for (node, minor) in [("/dev/vda", 0), ("/dev/vdb", 16)] {
        let number = DeviceNumber { major: 254, minor };
        let disk = BlockDevice::new(Sectors(256 * 2048));
        state.devices.add(number, disk);
        state.devices.name(node, number);
    }
    drop(state);
    Box::new(kernel)
}

fn iqn(text: &str) -> Iqn {
    format!("iqn.2026-11.io.ashlar:{text}").parse().unwrap()
}

fn nqn(text: &str) -> Nqn {
    format!("nqn.2026-11.io.ashlar:{text}").parse().unwrap()
}

fn lun() -> Lun {
    Lun::try_from(0).unwrap()
}

fn tag() -> TpgTag {
    TpgTag::try_from(1).unwrap()
}

fn portals() -> [PortalAddr; 2] {
    ["127.0.0.1:3260", "[::1]:3260"].map(|text| text.parse().unwrap())
}

fn chap(name: &str, secret: &str) -> ChapCredentials {
    ChapCredentials {
        name: ChapName::try_from(name.to_owned()).unwrap(),
        secret: ChapSecret::try_from(secret.to_owned()).unwrap(),
    }
}

struct Iscsi<'t> {
    lio: Lio<'t>,
    backstore: Backstore<'t>,
    tpg: Tpg<'t>,
}

impl<'t> Iscsi<'t> {
    fn new(tree: &'t dyn Tree) -> Self {
        let lio = Lio::new(tree);
        Iscsi {
            backstore: lio.backstore(&BackstoreId::for_volume(VOLUME)),
            tpg: lio.target(&iqn("typed")).tpg(tag()),
            lio,
        }
    }

    /// Every step of an export; what they changed, in order.
    fn export(&self) -> Result<Vec<Change>, TreeError> {
        let acl = self.tpg.acl(&iqn("host"));
        let mut changes = vec![self.lio.register_iscsi()?, self.backstore.create()?];
        if let Err(error) = self.backstore.set_device(Path::new("/dev/vda")) {
            assert_eq!(error.errno(), Some(Errno::EEXIST));
        }
        changes.extend([
            self.backstore.enable()?,
            self.backstore.set_unit_serial(&VOLUME.to_string())?,
            self.backstore
                .set_attribute(DeviceAttribute::EmulateTpu, 1)?,
            self.lio.target(&iqn("typed")).create()?,
            self.tpg.create()?,
            self.tpg.set_attribute(TpgAttribute::LoginTimeout, 10)?,
            self.tpg.set_parameter(TpgParameter::InitialR2T, "No")?,
            self.tpg.portal(portals()[0]).create()?,
            self.tpg.portal(portals()[1]).create()?,
            self.tpg.lun(lun()).create()?,
            self.tpg.lun(lun()).link(&self.backstore)?,
            acl.create()?,
            acl.set_chap(Some(&chap("host", "correct-horse-b")))?,
            acl.set_mutual_chap(Some(&chap("box", "battery-staple-c")))?,
            acl.mapped_lun(lun()).create()?,
            acl.mapped_lun(lun()).link(&self.tpg.lun(lun()))?,
            acl.mapped_lun(lun()).set_write_protected(true)?,
            self.tpg.enable()?,
        ]);
        Ok(changes)
    }

    fn unexport(&self) -> Result<Vec<Change>, TreeError> {
        let acl = self.tpg.acl(&iqn("host"));
        Ok(vec![
            acl.mapped_lun(lun()).remove()?,
            acl.remove()?,
            self.tpg.lun(lun()).remove()?,
            self.tpg.portal(portals()[0]).remove()?,
            self.tpg.portal(portals()[1]).remove()?,
            self.tpg.remove()?,
            self.lio.target(&iqn("typed")).remove()?,
            self.backstore.remove()?,
        ])
    }

    fn state(&self) -> TargetState {
        let target = self.lio.target(&iqn("typed")).observe();
        target.unwrap().expect("the target exists")
    }
}

#[test]
fn an_iscsi_export_comes_reads_back_and_goes() {
    let kernel = kernel();
    let iscsi = Iscsi::new(kernel.as_ref());
    let first = iscsi.export().unwrap();
    assert_eq!(first, [Change::Changed; 20]);
    assert_eq!(iscsi.export().unwrap(), [Change::Unchanged; 20]);

    let backstore = iscsi.backstore.observe().unwrap().unwrap();
    assert!(backstore.enabled && backstore.exported && !backstore.read_only);
    assert_eq!(backstore.device.unwrap().to_string(), "254:0");
    assert_eq!(
        backstore.device_path.as_deref(),
        Some(Path::new("/dev/vda"))
    );
    assert_eq!(backstore.unit_serial, VOLUME.to_string());
    assert_eq!(backstore.attributes[&DeviceAttribute::EmulateTpu], 1);
    assert_eq!(backstore.attributes[&DeviceAttribute::BlockSize], 512);

    let target = iscsi.state();
    let tpg = &target.tpgs[&tag()];
    assert!(tpg.enabled && tpg.foreign.is_empty());
    assert_eq!(tpg.attributes[&TpgAttribute::Authentication], 1);
    assert_eq!(tpg.attributes[&TpgAttribute::GenerateNodeAcls], 0);
    assert_eq!(tpg.attributes[&TpgAttribute::LoginTimeout], 10);
    assert_eq!(tpg.portals, portals().into());
    let id = BackstoreId::for_volume(VOLUME);
    assert_eq!(tpg.luns[&lun()], Some(id.clone()));
    let acl = &tpg.acls[&iqn("host")];
    assert!(!acl.logged_in);
    let held = acl.chap.as_ref().unwrap();
    assert!(held.is(&chap("host", "correct-horse-b")));
    assert!(!held.is(&chap("host", "correct-horse-x")));
    let held = acl.mutual_chap.as_ref().unwrap();
    assert!(held.is(&chap("box", "battery-staple-c")));
    assert_eq!(acl.mapped_luns[&lun()].lun, Some(lun()));
    assert_eq!(acl.mapped_luns[&lun()].write_protected, Some(true));

    assert!(iscsi.backstore.remove().unwrap_err().is_in_use());
    let acl = iscsi.tpg.acl(&iqn("host"));
    assert_eq!(acl.set_mutual_chap(None), Ok(Change::Changed));
    assert_eq!(acl.set_mutual_chap(None), Ok(Change::Unchanged));
    assert_eq!(
        iscsi.state().tpgs[&tag()].acls[&iqn("host")].mutual_chap,
        None
    );

    assert_eq!(iscsi.unexport().unwrap(), [Change::Changed; 8]);
    assert_eq!(iscsi.unexport().unwrap(), [Change::Unchanged; 8]);
    assert_eq!(iscsi.backstore.observe(), Ok(None));
    assert_eq!(iscsi.lio.target(&iqn("typed")).observe(), Ok(None));
    assert!(!iscsi.lio.backstores().unwrap().contains(&id));
    kernel
        .remove_dir(&TreePath::fixed("target/iscsi"))
        .expect("nothing is left in the fabric");
}

#[test]
fn dbroot_is_replaced_whole() {
    let kernel = kernel();
    let lio = Lio::new(kernel.as_ref());
    let before = lio.dbroot().unwrap();
    for directory in ["/tmp", "/var/target", "/tmp"] {
        let _ = lio.set_dbroot(directory).unwrap();
        assert_eq!(lio.dbroot().unwrap(), Path::new(directory));
    }
    let _ = lio.set_dbroot(before.to_str().unwrap()).unwrap();
}

fn key(hash: &str, length: usize) -> DhchapKey {
    DhchapKey::try_from(format!("DHHC-1:{hash}:{}:", "A".repeat(length))).unwrap()
}

fn exchange() -> DhchapExchange {
    DhchapExchange {
        hash: DhHash::Sha512,
        group: DhGroup::Ffdhe4096,
    }
}

fn export_nvme(nvmet: &Nvmet<'_>) -> Result<Vec<Change>, TreeError> {
    let subsystem = nvmet.subsystem(&nqn("typed"));
    let namespace = subsystem.namespace(Nsid::try_from(1).unwrap());
    let host = nvmet.host(&nqn("host"));
    let port = nvmet.port(PortId::try_from(7).unwrap());
    let address: PortalAddr = "[::1]:4420".parse().unwrap();
    Ok(vec![
        subsystem.create()?,
        subsystem.set_serial(&SerialNumber::try_from("f81d4fae7dec11d0").unwrap())?,
        subsystem.set_model(&ModelNumber::try_from("Ashlar volume").unwrap())?,
        subsystem.set_cntlid_range(1000, 1999)?,
        namespace.create()?,
        namespace.set_device(Path::new("/dev/vdb"))?,
        namespace.set_uuid(VOLUME)?,
        namespace.set_nguid(VOLUME.into_bytes())?,
        namespace.enable()?,
        host.create()?,
        host.set_key(Some(&key("01", 48)))?,
        host.set_controller_key(Some(&key("00", 48)))?,
        host.set_exchange(exchange())?,
        subsystem.allow(&host)?,
        port.create()?,
        port.set_address(&NvmePort::Tcp(address).into())?,
        port.link(&subsystem)?,
    ])
}

fn unexport_nvme(nvmet: &Nvmet<'_>) -> Result<Vec<Change>, TreeError> {
    let subsystem = nvmet.subsystem(&nqn("typed"));
    let host = nvmet.host(&nqn("host"));
    let port = nvmet.port(PortId::try_from(7).unwrap());
    Ok(vec![
        port.unlink(&subsystem)?,
        port.remove()?,
        subsystem.disallow(&host)?,
        host.remove()?,
        subsystem.namespace(Nsid::try_from(1).unwrap()).remove()?,
        subsystem.remove()?,
    ])
}

#[test]
fn an_nvme_export_comes_reads_back_and_goes() {
    let kernel = kernel();
    let nvmet = Nvmet::new(kernel.as_ref());
    assert_eq!(export_nvme(&nvmet).unwrap(), [Change::Changed; 17]);
    assert_eq!(export_nvme(&nvmet).unwrap(), [Change::Unchanged; 17]);

    let subsystem = nvmet.subsystem(&nqn("typed"));
    let state = subsystem.observe().unwrap().unwrap();
    assert!(!state.allow_any_host);
    assert_eq!(state.serial, "f81d4fae7dec11d0");
    assert_eq!(state.model, "Ashlar volume");
    assert_eq!((state.cntlid_min, state.cntlid_max), (1000, 1999));
    let namespace = &state.namespaces[&Nsid::try_from(1).unwrap()];
    assert!(namespace.enabled);
    assert_eq!(
        namespace.device_path.as_deref(),
        Some(Path::new("/dev/vdb"))
    );
    assert_eq!(namespace.uuid, VOLUME);
    assert_eq!(namespace.nguid, VOLUME.into_bytes());
    assert_eq!(namespace.ana_group, 1);
    let host = nvmet.host(&nqn("host")).observe().unwrap().unwrap();
    assert!(
        host.key
            .as_ref()
            .is_some_and(|held| held.is(&key("01", 48)))
    );
    let other = key("02", 72);
    assert!(
        !host
            .controller_key
            .as_ref()
            .is_some_and(|held| held.is(&other))
    );
    assert_eq!(host.exchange, Some(exchange()));
    let port = nvmet.port(PortId::try_from(7).unwrap());
    let state = port.observe().unwrap().unwrap();
    assert_eq!(state.address.traddr, "::1");
    assert_eq!(state.address.adrfam, "ipv6");
    assert_eq!(port.reaches(&subsystem), Ok(true));

    let host = nvmet.host(&nqn("host"));
    assert!(host.remove().unwrap_err().is_in_use());
    assert_eq!(host.set_key(None), Ok(Change::Changed));
    assert_eq!(host.set_key(None), Ok(Change::Unchanged));
    assert_eq!(host.observe().unwrap().unwrap().key, None);
    let namespace = subsystem.namespace(Nsid::try_from(1).unwrap());
    assert_eq!(namespace.revalidate_size(), Ok(()));
    assert_eq!(namespace.disable(), Ok(Change::Changed));

    assert_eq!(unexport_nvme(&nvmet).unwrap(), [Change::Changed; 6]);
    assert_eq!(unexport_nvme(&nvmet).unwrap(), [Change::Unchanged; 6]);
    assert_eq!(subsystem.observe(), Ok(None));
    assert_eq!(port.observe(), Ok(None));
}
