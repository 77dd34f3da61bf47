//! The typed trees on the model kernel: each rule of the kernel that callers rely on.

use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::lio::{BackstoreId, DeviceAttribute, Lio, Portal, Tpg, TpgAttribute};
use ashlar_kernel_iface::model::{BlockDevice, Denied, Holder, ModelKernel, Module};
use ashlar_kernel_iface::nvmet::{Nvmet, PortAddress, SerialNumber};
use ashlar_kernel_iface::tree::{Change, Errno, Tree, TreeError};
use ashlar_targetd_protocol::{
    ChapCredentials, ChapName, ChapSecret, DhchapKey, Iqn, Lun, Nqn, Nsid, NvmePort, PortId,
    PortalAddr, Sectors, TpgTag,
};
use uuid::Uuid;

const DISK: DeviceNumber = DeviceNumber {
    major: 253,
    minor: 3,
};
const VOLUME: Uuid = Uuid::from_u128(0xa5);

fn kernel() -> ModelKernel {
    let kernel = ModelKernel::new();
    let mut state = kernel.lock();
    state.devices.add(DISK, BlockDevice::new(Sectors(2048)));
    state.devices.name("/dev/dm-3", DISK);
    drop(state);
    kernel
}

fn iqn(text: &str) -> Iqn {
    format!("iqn.2026-11.io.ashlar:{text}").parse().unwrap()
}

fn nqn(text: &str) -> Nqn {
    format!("nqn.2026-11.io.ashlar:{text}").parse().unwrap()
}

fn portal() -> PortalAddr {
    "10.0.0.1:3260".parse().unwrap()
}

fn lun(number: u64) -> Lun {
    Lun::try_from(number).unwrap()
}

fn chap() -> ChapCredentials {
    ChapCredentials {
        name: ChapName::try_from("host-a".to_owned()).unwrap(),
        secret: ChapSecret::try_from("correct-horse-b".to_owned()).unwrap(),
    }
}

fn dhchap(fill: &str) -> DhchapKey {
    DhchapKey::try_from(format!("DHHC-1:00:{}:", fill.repeat(48))).unwrap()
}

fn tpg<'t>(lio: &Lio<'t>) -> Tpg<'t> {
    lio.target(&iqn("vol")).tpg(TpgTag::try_from(1).unwrap())
}

/// A volume as a SCSI disk, visible to one initiator.
fn export_iscsi(tree: &dyn Tree) -> Result<Change, TreeError> {
    let lio = Lio::new(tree);
    let backstore = lio.backstore(&BackstoreId::for_volume(VOLUME));
    let mut change = lio.register_iscsi()?;
    change = change.or(backstore.create()?);
    if backstore.observe()?.is_some_and(|state| !state.enabled) {
        backstore.set_device("/dev/dm-3".as_ref())?;
        change = change.or(backstore.enable()?);
    }
    change = change.or(backstore.set_unit_serial(&VOLUME.to_string())?);
    change = change.or(backstore.set_attribute(DeviceAttribute::EmulateTpu, 1)?);
    change = change.or(lio.target(&iqn("vol")).create()?);
    let tpg = tpg(&lio);
    change = change.or(tpg.create()?);
    change = change.or(tpg.set_attribute(TpgAttribute::Authentication, 1)?);
    change = change.or(tpg.portal(portal()).create()?);
    change = change.or(tpg.lun(lun(0)).create()?);
    change = change.or(tpg.lun(lun(0)).link(&backstore)?);
    let acl = tpg.acl(&iqn("host"));
    change = change.or(acl.create()?);
    change = change.or(acl.set_chap(Some(&chap()))?);
    change = change.or(acl.mapped_lun(lun(0)).create()?);
    change = change.or(acl.mapped_lun(lun(0)).link(&tpg.lun(lun(0)))?);
    Ok(change.or(tpg.enable()?))
}

/// The way back.
fn unexport_iscsi(tree: &dyn Tree) -> Result<Change, TreeError> {
    let lio = Lio::new(tree);
    let tpg = tpg(&lio);
    let acl = tpg.acl(&iqn("host"));
    let mut change = acl.mapped_lun(lun(0)).remove()?;
    change = change.or(acl.remove()?);
    change = change.or(tpg.lun(lun(0)).remove()?);
    change = change.or(tpg.portal(portal()).remove()?);
    change = change.or(tpg.remove()?);
    change = change.or(lio.target(&iqn("vol")).remove()?);
    Ok(change.or(lio.backstore(&BackstoreId::for_volume(VOLUME)).remove()?))
}

fn tcp(address: PortalAddr) -> PortAddress {
    NvmePort::Tcp(address).into()
}

fn nvme_address() -> PortalAddr {
    "10.0.0.1:4420".parse().unwrap()
}

fn export_nvme(tree: &dyn Tree) -> Result<Change, TreeError> {
    let nvmet = Nvmet::new(tree);
    let subsystem = nvmet.subsystem(&nqn("vol"));
    let mut change = subsystem.create()?;
    let serial = SerialNumber::try_from("00a5").unwrap();
    change = change.or(subsystem.set_serial(&serial)?);
    let namespace = subsystem.namespace(Nsid::try_from(1).unwrap());
    change = change.or(namespace.create()?);
    change = change.or(namespace.set_device("/dev/dm-3".as_ref())?);
    change = change.or(namespace.set_uuid(VOLUME)?);
    change = change.or(namespace.set_nguid(VOLUME.into_bytes())?);
    change = change.or(namespace.enable()?);
    let host = nvmet.host(&nqn("host"));
    change = change.or(host.create()?);
    change = change.or(host.set_key(Some(&dhchap("A")))?);
    change = change.or(subsystem.allow(&host)?);
    let port = nvmet.port(PortId::try_from(1).unwrap());
    change = change.or(port.create()?);
    change = change.or(port.set_address(&tcp(nvme_address()))?);
    Ok(change.or(port.link(&subsystem)?))
}

fn errno<T: std::fmt::Debug>(outcome: Result<T, TreeError>) -> Option<Errno> {
    outcome.unwrap_err().errno()
}

#[test]
fn an_equal_iscsi_export_changes_nothing() {
    let kernel = kernel();
    assert_eq!(export_iscsi(&kernel), Ok(Change::Changed));
    kernel.take_log();
    assert_eq!(export_iscsi(&kernel), Ok(Change::Unchanged));
    let disturbing = |step: &ashlar_kernel_iface::model::Step| step.outcome.is_ok();
    assert!(!kernel.take_log().iter().any(disturbing));
}

#[test]
fn an_exported_volume_reads_back_as_it_was_set() {
    let kernel = kernel();
    let _ = export_iscsi(&kernel).unwrap();
    let lio = Lio::new(&kernel);
    let id = BackstoreId::for_volume(VOLUME);
    assert_eq!(lio.backstores(), Ok(vec![id.clone()]));
    let backstore = lio.backstore(&id).observe().unwrap().unwrap();
    assert!(backstore.enabled && backstore.exported && !backstore.read_only);
    assert_eq!(backstore.device, Some(DISK));
    assert_eq!(backstore.unit_serial, VOLUME.to_string());
    assert_eq!(backstore.attributes[&DeviceAttribute::EmulateTpu], 1);
    let target = lio.target(&iqn("vol")).observe().unwrap().unwrap();
    let state = &target.tpgs[&TpgTag::try_from(1).unwrap()];
    assert!(state.enabled && state.foreign.is_empty());
    assert_eq!(state.attributes[&TpgAttribute::GenerateNodeAcls], 0);
    assert!(state.portals.contains(&portal()));
    assert_eq!(state.luns[&lun(0)], Some(id));
    let acl = &state.acls[&iqn("host")];
    assert!(acl.chap.as_ref().is_some_and(|seen| seen.is(&chap())));
    assert_eq!(acl.mutual_chap, None);
    assert_eq!(acl.mapped_luns[&lun(0)].lun, Some(lun(0)));
    assert_eq!(acl.mapped_luns[&lun(0)].write_protected, Some(false));
    assert!(!format!("{target:?}").contains("correct-horse"));
}

#[test]
fn what_was_exported_can_be_taken_back_twice() {
    let kernel = kernel();
    let _ = export_iscsi(&kernel).unwrap();
    assert_eq!(unexport_iscsi(&kernel), Ok(Change::Changed));
    assert_eq!(unexport_iscsi(&kernel), Ok(Change::Unchanged));
    assert_eq!(Lio::new(&kernel).backstores(), Ok(vec![]));
    assert_eq!(kernel.lock().devices.device(DISK).unwrap().opens(), 0);
}

#[test]
fn only_a_listed_initiator_that_proves_itself_sees_the_disk() {
    let kernel = kernel();
    let _ = export_iscsi(&kernel).unwrap();
    let (at, proof) = (portal().socket(), chap());
    let login = |who: &str, chap| kernel.iscsi_login(at, &iqn("vol"), &iqn(who), chap);
    assert_eq!(login("stranger", Some(&proof)), Err(Denied::NotAllowed));
    assert_eq!(login("host", None), Err(Denied::Authentication));
    let disks = login("host", Some(&proof)).unwrap();
    assert_eq!(disks[&0].device, DISK);
    let lio = Lio::new(&kernel);
    assert!(
        tpg(&lio)
            .acl(&iqn("host"))
            .observe()
            .unwrap()
            .unwrap()
            .logged_in
    );
    let _ = tpg(&lio).disable().unwrap();
    assert_eq!(login("host", Some(&proof)), Err(Denied::NoTarget));
    let _ = tpg(&lio).portal(portal()).remove().unwrap();
    assert_eq!(login("host", Some(&proof)), Err(Denied::Refused));
}

#[test]
fn objects_others_link_to_are_in_use() {
    let kernel = kernel();
    let _ = export_iscsi(&kernel).unwrap();
    let lio = Lio::new(&kernel);
    let backstore = lio.backstore(&BackstoreId::for_volume(VOLUME));
    assert!(backstore.remove().unwrap_err().is_in_use());
    assert!(tpg(&lio).remove().unwrap_err().is_in_use());
    assert!(lio.target(&iqn("vol")).remove().unwrap_err().is_in_use());
    assert!(
        tpg(&lio)
            .acl(&iqn("host"))
            .remove()
            .unwrap_err()
            .is_in_use()
    );
    assert_eq!(errno(tpg(&lio).lun(lun(0)).remove()), Some(Errno::EBUSY));
}

#[test]
fn a_backstore_keeps_its_device_from_other_holders() {
    let kernel = kernel();
    let lio = Lio::new(&kernel);
    let first = lio.backstore(&BackstoreId::for_volume(VOLUME));
    let _ = first.create().unwrap();
    assert_eq!(errno(first.enable()), Some(Errno::EINVAL));
    first.set_device("/dev/absent".as_ref()).unwrap();
    assert_eq!(errno(first.enable()), Some(Errno::ENOENT));
    first.set_device("/dev/dm-3".as_ref()).unwrap();
    assert_eq!(first.enable(), Ok(Change::Changed));
    assert_eq!(first.enable(), Ok(Change::Unchanged));
    let second = lio.backstore(&BackstoreId::for_volume(Uuid::from_u128(0xb6)));
    let _ = second.create().unwrap();
    second.set_device("/dev/dm-3".as_ref()).unwrap();
    assert_eq!(errno(second.enable()), Some(Errno::EBUSY));
    let mut state = kernel.lock();
    let taken = state
        .devices
        .open_exclusive(DISK, &Holder::DeviceMapper, true);
    assert_eq!(taken, Err(Errno::EBUSY));
}

#[test]
fn a_serial_is_fixed_while_the_disk_is_exported() {
    let kernel = kernel();
    let _ = export_iscsi(&kernel).unwrap();
    let backstore = Lio::new(&kernel).backstore(&BackstoreId::for_volume(VOLUME));
    assert_eq!(
        errno(backstore.set_unit_serial("other")),
        Some(Errno::EINVAL)
    );
    assert_eq!(
        backstore.set_unit_serial(&VOLUME.to_string()),
        Ok(Change::Unchanged)
    );
}

#[test]
fn discards_are_offered_only_where_the_device_has_them() {
    let kernel = kernel();
    let lio = Lio::new(&kernel);
    let backstore = lio.backstore(&BackstoreId::for_volume(VOLUME));
    let _ = backstore.create().unwrap();
    let discard = |on| backstore.set_attribute(DeviceAttribute::EmulateTpu, on);
    assert_eq!(errno(discard(1)), Some(Errno::ENODEV));
    let mut state = kernel.lock();
    state.devices.device_mut(DISK).unwrap().discard = false;
    drop(state);
    backstore.set_device("/dev/dm-3".as_ref()).unwrap();
    let _ = backstore.enable().unwrap();
    assert_eq!(errno(discard(1)), Some(Errno::ENOSYS));
}

#[test]
fn clearing_chap_leaves_nobody_able_to_log_in() {
    let kernel = kernel();
    let _ = export_iscsi(&kernel).unwrap();
    let lio = Lio::new(&kernel);
    let acl = tpg(&lio).acl(&iqn("host"));
    assert_eq!(acl.set_chap(None), Ok(Change::Changed));
    assert_eq!(acl.set_chap(None), Ok(Change::Unchanged));
    assert_eq!(acl.observe().unwrap().unwrap().chap, None);
    let at = portal().socket();
    let login = kernel.iscsi_login(at, &iqn("vol"), &iqn("host"), Some(&chap()));
    assert_eq!(login, Err(Denied::Authentication));
}

#[test]
fn dbroot_moves_until_there_is_a_backstore() {
    let kernel = kernel();
    let lio = Lio::new(&kernel);
    // Shorter than the default "/var/target": no end of that may stay behind.
    assert_eq!(lio.set_dbroot("/state"), Ok(Change::Changed));
    assert_eq!(lio.dbroot().unwrap().to_str(), Some("/state"));
    assert_eq!(lio.set_dbroot("/state"), Ok(Change::Unchanged));
    let _ = export_iscsi(&kernel).unwrap();
    assert_eq!(errno(lio.set_dbroot("/other")), Some(Errno::EINVAL));
}

#[test]
fn a_missing_module_is_an_invalid_argument() {
    let bare = ModelKernel::without(&[Module::IscsiTarget, Module::TargetIblock]);
    let lio = Lio::new(&bare);
    assert_eq!(errno(lio.register_iscsi()), Some(Errno::EINVAL));
    let backstore = lio.backstore(&BackstoreId::for_volume(VOLUME));
    assert_eq!(errno(backstore.create()), Some(Errno::EINVAL));
    let none = ModelKernel::without(&[Module::TargetCore, Module::Nvmet]);
    assert_eq!(errno(Lio::new(&none).register_iscsi()), Some(Errno::ENOENT));
    assert_eq!(Nvmet::new(&none).subsystems(), Ok(vec![]));
}

#[test]
fn an_equal_nvme_export_changes_nothing_and_reads_back() {
    let kernel = kernel();
    assert_eq!(export_nvme(&kernel), Ok(Change::Changed));
    assert_eq!(export_nvme(&kernel), Ok(Change::Unchanged));
    let nvmet = Nvmet::new(&kernel);
    let state = nvmet.subsystem(&nqn("vol")).observe().unwrap().unwrap();
    assert!(!state.allow_any_host);
    assert_eq!(state.serial, "00a5");
    let namespace = &state.namespaces[&Nsid::try_from(1).unwrap()];
    assert!(namespace.enabled);
    assert_eq!(namespace.uuid, VOLUME);
    assert_eq!(namespace.nguid, VOLUME.into_bytes());
    let names: Vec<&str> = state.allowed_hosts.iter().map(|n| n.as_str()).collect();
    assert_eq!(names, ["nqn.2026-11.io.ashlar:host"]);
    let port = nvmet.port(PortId::try_from(1).unwrap());
    let port = port.observe().unwrap().unwrap();
    assert_eq!(port.address, tcp(nvme_address()));
    assert_eq!(port.subsystems.len(), 1);
    let host = nvmet.host(&nqn("host")).observe().unwrap().unwrap();
    assert!(host.key.as_ref().is_some_and(|key| key.is(&dhchap("A"))));
    assert!(!format!("{host:?}").contains("AAAA"));
}

#[test]
fn only_a_listed_host_that_proves_itself_sees_the_namespace() {
    let kernel = kernel();
    let _ = export_nvme(&kernel).unwrap();
    let at = nvme_address().socket();
    let connect = |who: &str, key| kernel.nvme_connect(at, &nqn("vol"), &nqn(who), key);
    let (key, other) = (dhchap("A"), dhchap("B"));
    assert_eq!(connect("stranger", Some(&key)), Err(Denied::NotAllowed));
    assert_eq!(connect("host", None), Err(Denied::Authentication));
    assert_eq!(connect("host", Some(&other)), Err(Denied::Authentication));
    assert_eq!(connect("host", Some(&key)).unwrap()[&1].device, DISK);
    let nvmet = Nvmet::new(&kernel);
    let subsystem = nvmet.subsystem(&nqn("vol"));
    let _ = subsystem.disallow(&nvmet.host(&nqn("host"))).unwrap();
    assert_eq!(connect("host", Some(&key)), Err(Denied::NotAllowed));
}

#[test]
fn a_listening_port_keeps_its_address() {
    let kernel = kernel();
    let _ = export_nvme(&kernel).unwrap();
    let nvmet = Nvmet::new(&kernel);
    let port = nvmet.port(PortId::try_from(1).unwrap());
    let other = tcp("10.0.0.2:4420".parse().unwrap());
    assert_eq!(errno(port.set_address(&other)), Some(Errno::EACCES));
    assert!(port.remove().unwrap_err().is_in_use());
    let _ = port.unlink(&nvmet.subsystem(&nqn("vol"))).unwrap();
    assert_eq!(port.set_address(&other), Ok(Change::Changed));
    assert_eq!(port.remove(), Ok(Change::Changed));
}

#[test]
fn a_port_that_cannot_listen_says_why() {
    let kernel = kernel();
    let _ = export_nvme(&kernel).unwrap();
    kernel.lose_address("10.0.0.9".parse().unwrap());
    let nvmet = Nvmet::new(&kernel);
    let link = |id: u64, at: &str| {
        let port = nvmet.port(PortId::try_from(id).unwrap());
        let _ = port.create().unwrap();
        let _ = port.set_address(&tcp(at.parse().unwrap())).unwrap();
        errno(port.link(&nvmet.subsystem(&nqn("vol"))))
    };
    assert_eq!(link(2, "0.0.0.0:4420"), Some(Errno::EADDRINUSE));
    assert_eq!(link(3, "10.0.0.9:4420"), Some(Errno::EADDRNOTAVAIL));
    let rdma = |id: u64, at: &str| {
        let port = nvmet.port(PortId::try_from(id).unwrap());
        let _ = port.create().unwrap();
        let at = NvmePort::Rdma(at.parse().unwrap());
        let _ = port.set_address(&at.into()).unwrap();
        port.link(&nvmet.subsystem(&nqn("vol")))
    };
    // It has port numbers of its own.
    assert_eq!(rdma(4, "0.0.0.0:4420").unwrap(), Change::Changed);
    assert_eq!(errno(rdma(5, "0.0.0.0:4420")), Some(Errno::EADDRINUSE));
    assert_eq!(errno(rdma(6, "10.0.0.1:4420")), Some(Errno::EADDRNOTAVAIL));
    assert_eq!(errno(rdma(7, "10.0.0.9:4421")), Some(Errno::EADDRNOTAVAIL));
    assert_eq!(rdma(8, "[::]:4420").unwrap(), Change::Changed);
    let fc = |id: u64, at: &str| {
        let port = nvmet.port(PortId::try_from(id).unwrap());
        let _ = port.create().unwrap();
        let at = NvmePort::Fc(at.parse().unwrap());
        let _ = port.set_address(&at.into()).unwrap();
        port.link(&nvmet.subsystem(&nqn("vol")))
    };
    let (here, absent) = (
        "nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f",
        "nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c20",
    );
    kernel.lose_fc_port(absent.parse().unwrap());
    assert_eq!(fc(10, here).unwrap(), Change::Changed);
    assert_eq!(errno(fc(11, here)), Some(Errno::EALREADY));
    assert_eq!(errno(fc(12, absent)), Some(Errno::ENXIO));
    let bare = ModelKernel::without(&[Module::NvmetTcp]);
    let nvmet = Nvmet::new(&bare);
    let subsystem = nvmet.subsystem(&nqn("vol"));
    let _ = subsystem.create().unwrap();
    let port = nvmet.port(PortId::try_from(1).unwrap());
    let _ = port.create().unwrap();
    let _ = port.set_address(&tcp(nvme_address())).unwrap();
    assert_eq!(errno(port.link(&subsystem)), Some(Errno::EINVAL));
}

/// A portal of a target with nothing else.
fn bare_portal<'k>(kernel: &'k ModelKernel, target: &str, at: &str) -> Portal<'k> {
    let lio = Lio::new(kernel);
    let _ = lio.register_iscsi().unwrap();
    let target = lio.target(&iqn(target));
    let _ = target.create().unwrap();
    let tpg = target.tpg(TpgTag::try_from(1).unwrap());
    let _ = tpg.create().unwrap();
    let portal = tpg.portal(at.parse().unwrap());
    let _ = portal.create().unwrap();
    portal
}

#[test]
fn a_portal_that_cannot_take_rdma_says_why() {
    let kernel = kernel();
    kernel.lose_rdma("10.0.0.7".parse().unwrap());
    let shared = |target| bare_portal(&kernel, target, "10.0.0.1:3260");
    let (first, second) = (shared("a"), shared("b"));
    for opened in [&first, &second] {
        assert_eq!(opened.open_iser(), Ok(Change::Changed));
        assert_eq!(opened.open_iser(), Ok(Change::Unchanged));
    }
    let elsewhere = bare_portal(&kernel, "a", "10.0.0.7:3260");
    assert_eq!(errno(elsewhere.open_iser()), Some(Errno::ENODEV));
    assert_eq!(first.close_iser(), Ok(Change::Changed));
    assert_eq!((first.has_iser(), second.has_iser()), (Ok(false), Ok(true)));
    assert_eq!(second.remove(), Ok(Change::Changed));
    let lacking = ModelKernel::without(&[Module::IbIsert]);
    let portal = bare_portal(&lacking, "a", "10.0.0.1:3260");
    assert_eq!(errno(portal.open_iser()), Some(Errno::EINVAL));
}

#[test]
fn an_enabled_namespace_keeps_its_identity() {
    let kernel = kernel();
    let _ = export_nvme(&kernel).unwrap();
    let nvmet = Nvmet::new(&kernel);
    let namespace = nvmet
        .subsystem(&nqn("vol"))
        .namespace(Nsid::try_from(1).unwrap());
    let busy = Some(Errno::EBUSY);
    assert_eq!(errno(namespace.set_uuid(Uuid::from_u128(1))), busy);
    assert_eq!(errno(namespace.set_nguid([1; 16])), busy);
    assert_eq!(errno(namespace.set_device("/dev/dm-4".as_ref())), busy);
    assert_eq!(namespace.revalidate_size(), Ok(()));
    let _ = namespace.disable().unwrap();
    assert_eq!(errno(namespace.revalidate_size()), Some(Errno::EINVAL));
    assert_eq!(kernel.lock().devices.device(DISK).unwrap().opens(), 0);
    let _ = namespace.set_device("/dev/absent".as_ref()).unwrap();
    assert_eq!(errno(namespace.enable()), Some(Errno::ENOENT));
}

#[test]
fn a_host_that_a_subsystem_allows_is_in_use() {
    let kernel = kernel();
    let _ = export_nvme(&kernel).unwrap();
    let nvmet = Nvmet::new(&kernel);
    let host = nvmet.host(&nqn("host"));
    assert!(host.remove().unwrap_err().is_in_use());
    assert_eq!(
        errno(nvmet.subsystem(&nqn("vol")).set_allow_any_host(true)),
        Some(Errno::EINVAL)
    );
    assert_eq!(host.set_key(None), Ok(Change::Changed));
    assert_eq!(host.set_key(None), Ok(Change::Unchanged));
}

#[test]
fn a_range_of_controller_ids_moves_past_the_old_one() {
    let kernel = kernel();
    let nvmet = Nvmet::new(&kernel);
    let subsystem = nvmet.subsystem(&nqn("vol"));
    let _ = subsystem.create().unwrap();
    for (min, max) in [(1, 100), (200, 300), (50, 60), (50, 60)] {
        let _ = subsystem.set_cntlid_range(min, max).unwrap();
        let state = subsystem.observe().unwrap().unwrap();
        assert_eq!((state.cntlid_min, state.cntlid_max), (min, max));
    }
    assert_eq!(errno(subsystem.set_cntlid_range(0, 5)), Some(Errno::EINVAL));
}

#[test]
fn a_fault_hits_the_step_it_was_set_for_and_changes_nothing() {
    let kernel = kernel();
    kernel.fail_matching("write nvmet/hosts", Errno::ENOMEM);
    assert_eq!(errno(export_nvme(&kernel)), Some(Errno::ENOMEM));
    let log: Vec<String> = kernel.take_log().iter().map(|s| s.to_string()).collect();
    let last = log.last().unwrap();
    assert_eq!(
        last,
        "write nvmet/hosts/nqn.2026-11.io.ashlar:host/dhchap_key <secret> = ENOMEM"
    );
    assert_eq!(export_nvme(&kernel), Ok(Change::Changed));
    kernel.fail_step(2, Errno::EIO);
    let host = Nvmet::new(&kernel).host(&nqn("other"));
    assert_eq!(host.create(), Ok(Change::Changed));
    assert_eq!(errno(host.create()), Some(Errno::EIO));
}

#[test]
fn wherever_a_process_dies_the_next_one_completes_the_export() {
    let whole = kernel();
    let _ = export_iscsi(&whole).unwrap();
    let steps = whole.take_log().len() as u64;
    for n in 0..=steps {
        let kernel = kernel();
        kernel.stop_after(n);
        let outcome = export_iscsi(&kernel);
        assert_eq!(outcome.is_err(), n < steps, "after {n} steps: {outcome:?}");
        kernel.revive();
        let _ = export_iscsi(&kernel).unwrap();
        let lio = Lio::new(&kernel);
        let seen = lio.target(&iqn("vol")).observe().unwrap();
        assert_eq!(
            seen,
            Lio::new(&whole).target(&iqn("vol")).observe().unwrap()
        );
        let _ = unexport_iscsi(&kernel).unwrap();
        assert_eq!(lio.backstores(), Ok(vec![]));
    }
}

#[test]
fn losing_power_empties_configfs_and_keeps_devices() {
    let kernel = kernel();
    let _ = export_iscsi(&kernel).unwrap();
    let _ = export_nvme(&kernel).unwrap();
    kernel.reboot();
    assert_eq!(Lio::new(&kernel).targets(), Ok(vec![]));
    assert_eq!(Nvmet::new(&kernel).hosts(), Ok(vec![]));
    let state = kernel.lock();
    let disk = state.devices.device(DISK).unwrap();
    assert_eq!((disk.opens(), disk.holder()), (0, None));
}
