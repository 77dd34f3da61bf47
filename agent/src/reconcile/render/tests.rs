use std::collections::BTreeSet;

use ashlar_protocol::{Authentication, GroupSnapshotSpec, GroupSpec, HostSpec, MemberSnapshot};
use ashlar_targetd_protocol::{DhchapExchange, FcPort, NvmePort, PortId, ThinRef};

use super::*;
use crate::domain::record::{Unit, VolumeRecord};
use crate::domain::samples::{
    self, CONNECTION, HOST, MIB, OTHER_HOST, POOL, VOLUME, World, attach, detach, host_spec, id,
    pool_spec,
};
use crate::domain::settle::{self, Grounds, Span};
use crate::domain::{Command, Edit, Listen, Record};

mod redundancy;

const SITE: Uuid = Uuid::from_u128(0x5173);

fn site() -> Site {
    let listen = |text: &str| Listen {
        portals: [text.parse().unwrap()].into(),
        advertised: Vec::new(),
        usual: false,
    };
    Site {
        id: SITE,
        name: "box".parse().unwrap(),
        iscsi: listen("0.0.0.0:3260"),
        iser: listen("0.0.0.0:3261"),
        nvme: listen("0.0.0.0:4420"),
        nvme_rdma: listen("0.0.0.0:4420"),
        fc: [wwn("20000025b5aa0c1f")].into(),
        nvme_fc: [fc_port()].into(),
        nvme_ports: [tcp(), rdma(), fc()].into(),
        managed: BTreeSet::new(),
        shut: BTreeSet::new(),
    }
}

fn tcp() -> (PortId, NvmePort) {
    let at = "0.0.0.0:4420".parse().unwrap();
    (3.try_into().unwrap(), NvmePort::Tcp(at))
}

fn rdma() -> (PortId, NvmePort) {
    let at = "0.0.0.0:4420".parse().unwrap();
    (4.try_into().unwrap(), NvmePort::Rdma(at))
}

fn fc_port() -> FcPort {
    "nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f"
        .parse()
        .unwrap()
}

fn wwn(text: &str) -> Wwn {
    text.parse().unwrap()
}

fn fc() -> (PortId, NvmePort) {
    (5.try_into().unwrap(), NvmePort::Fc(fc_port()))
}

#[test]
fn a_subsystem_is_where_its_connections_are() {
    let ports = |world: &World| rendered(world, VOLUME).exports.nvme.unwrap().ports;
    let mut world = World::furnished();
    world.transports.insert(Transport::NvmeRdma);
    world.does(attach(id(0xc5), VOLUME, OTHER_HOST, Transport::NvmeRdma));
    assert_eq!(ports(&world), [rdma()].into());
    world.does(attach(id(0xc6), VOLUME, OTHER_HOST, Transport::NvmeTcp));
    let both = rendered(&world, VOLUME).exports.nvme.unwrap();
    assert_eq!((both.ports, both.hosts.len()), ([tcp(), rdma()].into(), 1));
    world.does(detach(id(0xc5)));
    assert_eq!(ports(&world), [tcp()].into());
    world.transports.insert(Transport::NvmeFc);
    world.does(attach(id(0xc7), VOLUME, OTHER_HOST, Transport::NvmeFc));
    assert_eq!(ports(&world), [tcp(), fc()].into());
}

#[test]
fn over_fibre_channel_each_host_has_numbers_of_its_own() {
    let mut world = World::furnished();
    world.transports.insert(Transport::Fc);
    let other = id(0x77);
    let spec = |n: u32, wwpns: &[&str]| HostSpec {
        wwpns: wwpns.iter().map(|text| wwn(text)).collect(),
        ..host_spec(n)
    };
    let (one, two) = (id(0xa1), id(0xa2));
    let create = |id, spec| Command::HostCreate { id, spec };
    world.does(create(
        one,
        spec(11, &["2100000000000001", "2100000000000002"]),
    ));
    world.does(create(two, spec(12, &["2100000000000003"])));
    let made = world.does(samples::volume(other, MIB)).unwrap();
    world.settle(made);
    world.does(attach(id(0xc5), other, one, Transport::Fc));
    world.does(attach(id(0xc6), VOLUME, one, Transport::Fc));
    world.does(attach(id(0xc7), VOLUME, two, Transport::Fc));
    let seen = |lun: u64| FcAccess {
        lun: lun.try_into().unwrap(),
        read_only: false,
    };
    let export = rendered(&world, VOLUME).exports.fc.unwrap();
    let expected = FcExport {
        ports: [wwn("20000025b5aa0c1f")].into(),
        unit: 1.try_into().unwrap(),
        initiators: [
            (wwn("2100000000000001"), seen(1)),
            (wwn("2100000000000002"), seen(1)),
            (wwn("2100000000000003"), seen(0)),
        ]
        .into(),
    };
    assert_eq!(export, expected);
    // What is free again is taken again, and what was there keeps its number.
    world.does(detach(id(0xc5)));
    let export = rendered(&world, VOLUME).exports.fc.unwrap();
    assert_eq!(export, expected);
}

#[test]
fn a_target_is_where_its_connections_are() {
    let export = |world: &World| rendered(world, VOLUME).exports.iscsi.unwrap();
    let (tcp, rdma) = (site().iscsi.portals, site().iser.portals);
    let mut world = World::furnished();
    world.transports.insert(Transport::Iser);
    world.does(attach(id(0xc5), VOLUME, HOST, Transport::Iser));
    let both = export(&world);
    assert_eq!((&both.portals, &both.iser), (&tcp, &rdma));
    assert_eq!(both.initiators.len(), 1);
    world.does(detach(CONNECTION));
    let rest = export(&world);
    assert_eq!((rest.portals, rest.iser), (BTreeSet::new(), rdma));
    assert_eq!(rest.initiators, both.initiators);
    world.does(attach(id(0xc6), VOLUME, OTHER_HOST, Transport::Iscsi));
    world.does(detach(id(0xc5)));
    let rest = export(&world);
    assert_eq!((rest.portals, rest.iser), (tcp, BTreeSet::new()));
}

fn rendered(world: &World, id: Uuid) -> DesiredVolume {
    super::volume(&world.intent, &site(), id, 42)
        .unwrap()
        .unwrap()
}

#[test]
fn a_volume_has_one_export_per_transport_with_all_its_hosts() {
    let mut world = World::furnished();
    for (n, host, transport) in [
        (1, OTHER_HOST, Transport::Iscsi),
        (2, HOST, Transport::NvmeTcp),
        (3, OTHER_HOST, Transport::NvmeTcp),
    ] {
        world.does(attach(id(n), VOLUME, host, transport));
    }
    let secrets = |host| world.intent.host(host).unwrap().record.secrets.clone();
    let acl = |host| IscsiAcl {
        chap: secrets(host).chap,
        mutual: None,
        read_only: false,
    };
    let key = |host| NvmeHost {
        key: secrets(host).dhchap,
        controller_key: None,
        exchange: DhchapExchange::default(),
    };
    let iqn = |n| host_spec(n).iqn.unwrap();
    let nqn = |n| host_spec(n).nqn.unwrap();
    let expected = DesiredVolume {
        id: VOLUME,
        generation: 42,
        pool: POOL,
        thin_id: 0.try_into().unwrap(),
        size: Sectors(20_480),
        data: DataState::Present,
        source: None,
        retired: BTreeSet::new(),
        moving: None,
        exports: Exports {
            fc: None,
            iscsi: Some(IscsiExport {
                target: names::target(SITE, VOLUME),
                portals: site().iscsi.portals,
                iser: BTreeSet::new(),
                initiators: [(iqn(0), acl(HOST)), (iqn(1), acl(OTHER_HOST))].into(),
            }),
            nvme: Some(NvmeExport {
                subsystem: names::subsystem(SITE, VOLUME),
                ports: [tcp()].into(),
                hosts: [(nqn(0), key(HOST)), (nqn(1), key(OTHER_HOST))].into(),
            }),
        },
        qos: Qos::default(),
        held: false,
        cut: Accesses::default(),
    };
    assert_eq!(rendered(&world, VOLUME), expected);
    assert!(
        expected.exports.iscsi.unwrap().initiators[&iqn(0)]
            .chap
            .is_some()
    );
}

#[test]
fn a_host_loses_access_as_soon_as_it_is_being_detached() {
    let mut world = World::furnished();
    world.does(detach(CONNECTION));
    let desired = rendered(&world, VOLUME);
    assert!(desired.exports.is_empty());
    assert!(
        desired.cut.is_empty(),
        "a host that uses it was to be asked"
    );
}

#[test]
fn only_the_host_that_is_detached_with_force_is_cut_off() {
    let mut world = World::furnished();
    world.does(attach(id(1), VOLUME, OTHER_HOST, Transport::Iscsi));
    world.does(attach(id(2), VOLUME, OTHER_HOST, Transport::NvmeTcp));
    let (iqn, nqn) = (host_spec(1).iqn.unwrap(), host_spec(1).nqn.unwrap());
    for (connection, cut) in [
        (id(1), (BTreeSet::from([iqn.clone()]), BTreeSet::new())),
        (id(2), (BTreeSet::from([iqn]), BTreeSet::from([nqn]))),
    ] {
        world.does(Command::ConnectionDelete {
            id: connection,
            force: true,
        });
        let desired = rendered(&world, VOLUME);
        assert_eq!((desired.cut.iscsi, desired.cut.nvme), cut);
    }
}

#[test]
fn detaching_all_cuts_every_host_off() {
    let mut world = World::furnished();
    world.does(Command::VolumeDetachAll { id: VOLUME });
    let desired = rendered(&world, VOLUME);
    assert!(desired.exports.is_empty());
    assert_eq!(desired.cut.iscsi, [host_spec(0).iqn.unwrap()].into());
}

#[test]
fn withdrawing_what_failed_cuts_no_other_host_off() {
    let mut world = World::furnished();
    world.does(attach(id(1), VOLUME, OTHER_HOST, Transport::NvmeTcp));
    world.settle(Unit::Volume(VOLUME));
    let applied = world.intent.generation();
    world.does(attach(id(2), VOLUME, HOST, Transport::NvmeTcp));
    world.does(attach(id(3), VOLUME, OTHER_HOST, Transport::Iscsi));
    let tried = world.intent.generation();
    let grounds = Grounds {
        problem: Problem::new(ProblemCode::NoSpace, "no room"),
        users: Accesses::default(),
        device: None,
    };
    let span = Span { applied, tried };
    for edit in settle::withdraw(&world.intent, Unit::Volume(VOLUME), span, &grounds) {
        world.intent.apply(&edit).unwrap();
    }
    let desired = rendered(&world, VOLUME);
    // Cutting one NVMe host off would end the connections of all.
    assert_eq!(desired.cut.nvme, BTreeSet::new());
    assert_eq!(desired.cut.iscsi, [host_spec(1).iqn.unwrap()].into());
    assert_eq!(desired.exports.accesses(), 2);
}

#[test]
fn withdrawing_one_way_cuts_nobody_off_who_lets_go_by_another() {
    let mut world = World::furnished();
    world.transports.insert(Transport::Iser);
    world.does(attach(id(1), VOLUME, OTHER_HOST, Transport::Iscsi));
    world.settle(Unit::Volume(VOLUME));
    let applied = world.intent.generation();
    world.does(attach(id(2), VOLUME, OTHER_HOST, Transport::Iser));
    let tried = world.intent.generation();
    world.does(detach(id(1)));
    let grounds = Grounds {
        problem: Problem::new(ProblemCode::Unsupported, "no RDMA"),
        users: Accesses::default(),
        device: None,
    };
    let span = Span { applied, tried };
    for edit in settle::withdraw(&world.intent, Unit::Volume(VOLUME), span, &grounds) {
        world.intent.apply(&edit).unwrap();
    }
    let desired = rendered(&world, VOLUME);
    let listed = desired
        .exports
        .iscsi
        .map_or(0, |iscsi| iscsi.initiators.len());
    // Of the furnished world there is one.
    assert_eq!((listed, desired.cut.iscsi), (1, BTreeSet::new()));
}

#[test]
fn data_follows_the_volumes_life() {
    let mut world = World::furnished();
    world.does(samples::volume(id(1), MIB));
    assert_eq!(rendered(&world, id(1)).data, DataState::Provision);
    world.settle(Unit::Volume(id(1)));
    assert_eq!(rendered(&world, id(1)).data, DataState::Present);
    world.does(Command::VolumeDelete { id: id(1) });
    let desired = rendered(&world, id(1));
    assert_eq!(desired.data, DataState::Tombstone);
    assert!(desired.exports.is_empty());
    world.settle(Unit::Volume(id(1)));
    assert_eq!(super::volume(&world.intent, &site(), id(1), 1), Ok(None));
}

#[test]
fn a_host_without_authentication_gets_no_credentials() {
    let mut world = World::furnished();
    let mut spec = host_spec(5);
    spec.authentication = Authentication::None;
    let iqn = spec.iqn.clone().unwrap();
    world.does(Command::HostCreate { id: id(1), spec });
    world.does(attach(id(2), VOLUME, id(1), Transport::Iscsi));
    let iscsi = rendered(&world, VOLUME).exports.iscsi.unwrap();
    assert_eq!(
        iscsi.initiators[&iqn],
        IscsiAcl {
            chap: None,
            mutual: None,
            read_only: false,
        }
    );
}

#[test]
fn a_lost_address_does_not_take_the_export_from_its_hosts() {
    let world = World::furnished();
    let mut site = site();
    site.iscsi.portals = BTreeSet::new();
    let problem = super::volume(&world.intent, &site, VOLUME, 1).unwrap_err();
    assert_eq!(problem.code, ProblemCode::Unsupported);
}

#[test]
fn disks_are_formatted_only_while_their_pool_is_made() {
    let mut world = World::empty();
    for (n, wipe, format) in [
        (1, false, PoolFormat::BlankOnly),
        (2, true, PoolFormat::Wipe),
    ] {
        let mut spec = pool_spec(&[&format!("serial-DISK{n}")]);
        spec.wipe = wipe;
        world.does(Command::PoolCreate { id: id(n), spec });
        let making = pool(
            id(n),
            &world.intent.pool(id(n)).unwrap().record,
            id(0xb0),
            7,
        );
        assert_eq!((making.format, making.absent), (format, false));
        world.settle(Unit::Pool(id(n)));
        let made = pool(
            id(n),
            &world.intent.pool(id(n)).unwrap().record,
            id(0xb0),
            8,
        );
        assert_eq!(made.format, PoolFormat::Never);
        assert_eq!(
            (made.metadata, made.block),
            (Sectors(131_072), Sectors(128))
        );
    }
}

#[test]
fn a_volume_made_of_another_names_its_origin_and_a_reverted_one_what_it_retires() {
    let mut world = World::furnished();
    let volume = &world.intent.volume(VOLUME).unwrap().record;
    let retired = ThinRef {
        pool: POOL,
        thin_id: 0.try_into().unwrap(),
    };
    let record = VolumeRecord {
        thin_id: 7.try_into().unwrap(),
        phase: VolumePhase::Reverting,
        origin: Some(Origin {
            object: id(1),
            thin_id: 5.try_into().unwrap(),
        }),
        retired: [retired].into(),
        ..volume.clone()
    };
    let before = rendered(&world, VOLUME);
    let edit = Edit::put(Record::Volume(VOLUME, record));
    world.intent.apply(&edit).unwrap();
    let expected = DesiredVolume {
        thin_id: 7.try_into().unwrap(),
        data: DataState::Provision,
        source: Some(ThinSource {
            object: id(1),
            thin_id: 5.try_into().unwrap(),
        }),
        retired: [retired].into(),
        ..before
    };
    assert_eq!(rendered(&world, VOLUME), expected);
}

#[test]
fn a_snapshot_of_a_group_is_unmade_with_the_others_and_never_by_itself() {
    let mut world = World::furnished();
    world.does(samples::snapshot(id(1), VOLUME));
    world.settle(Unit::Snapshot(id(1)));
    let mut rendered = |group, phase| {
        let record = SnapshotRecord {
            group,
            phase,
            ..world.intent.snapshot(id(1)).unwrap().clone()
        };
        let edit = Edit::put(Record::Snapshot(id(1), record));
        world.intent.apply(&edit).unwrap();
        super::snapshot(&world.intent, &site(), id(1), 42).unwrap()
    };
    let group = Some(id(9));
    assert!(rendered(group, SnapshotPhase::Present).is_some());
    for phase in [SnapshotPhase::Creating, SnapshotPhase::Deleting] {
        assert_eq!(rendered(group, phase), None);
        assert!(rendered(None, phase).is_some());
    }
}

/// It would tell of its members what each tells by itself, in another order.
#[test]
fn a_group_snapshot_is_made_and_unmade_as_one_and_says_nothing_of_what_stands() {
    let mut world = World::furnished();
    let (group, whole, one) = (id(0x90), id(0x91), id(1));
    let spec = GroupSpec {
        name: "app".parse().unwrap(),
        volumes: vec![VOLUME],
        source: None,
    };
    world.does(Command::GroupCreate { id: group, spec });
    let spec = GroupSnapshotSpec {
        name: "before".parse().unwrap(),
        group,
        snapshots: vec![MemberSnapshot {
            volume: VOLUME,
            snapshot: one,
        }],
    };
    world.does(Command::GroupSnapshotCreate { id: whole, spec });
    let rendered = |world: &World| super::group_snapshot(&world.intent, whole, 42);
    let idle = |world: &World, data| {
        let desired = rendered(world).unwrap();
        let member = &desired.members[0];
        assert_eq!((desired.data, desired.members.len()), (data, 1));
        assert_eq!((member.id, member.held), (one, false));
        assert!(member.exports.is_empty());
        assert_eq!(member.cut, Accesses::default());
    };
    idle(&world, DataState::Provision);
    world.settle(Unit::GroupSnapshot(whole));
    world.does(samples::read(id(2), one, HOST));
    assert_eq!(rendered(&world), None);
    let single = super::snapshot(&world.intent, &site(), one, 42).unwrap();
    assert_eq!(single.unwrap().members[0].exports.accesses(), 1);
    world.settle(Unit::Snapshot(one));
    world.does(detach(id(2)));
    world.settle(Unit::Snapshot(one));
    world.does(Command::GroupSnapshotDelete { id: whole });
    idle(&world, DataState::Tombstone);
    assert_eq!(super::group_snapshot(&world.intent, id(0x92), 42), None);
}

#[test]
fn a_connected_snapshot_is_read_by_its_hosts_as_a_target_of_its_own() {
    let mut world = World::furnished();
    let unit = Unit::Snapshot(id(1));
    world.does(samples::snapshot(id(1), VOLUME));
    world.settle(unit);
    world.does(samples::read(id(2), id(1), HOST));
    world.does(samples::read(id(3), id(1), OTHER_HOST));
    let rendered = |world: &World| {
        let desired = super::snapshot(&world.intent, &site(), id(1), 42);
        desired.unwrap().unwrap().members.remove(0)
    };
    let member = rendered(&world);
    let iscsi = member.exports.iscsi.unwrap();
    assert_eq!(iscsi.target, names::target(SITE, id(1)));
    assert_eq!(iscsi.initiators.len(), 2);
    assert!(iscsi.initiators.values().all(|acl| acl.read_only));
    assert_eq!((member.exports.nvme, member.held), (None, false));
    world.settle(unit);
    world.does(detach(id(2)));
    let force = true;
    world.does(Command::ConnectionDelete { id: id(3), force });
    let member = rendered(&world);
    assert!(member.exports.is_empty());
    let other = world.intent.host(OTHER_HOST).unwrap().record.iqn.clone();
    assert_eq!(member.cut.iscsi, other.into_iter().collect());
    // Without an address nothing is rendered, so that nobody loses what was promised.
    let mut world = World::furnished();
    world.does(samples::snapshot(id(1), VOLUME));
    world.settle(unit);
    world.does(samples::read(id(2), id(1), HOST));
    let mut nowhere = site();
    nowhere.iscsi.portals.clear();
    assert!(super::snapshot(&world.intent, &nowhere, id(1), 42).is_err());
}
