use std::collections::BTreeSet;

use ashlar_protocol::Authentication;

use super::*;
use crate::domain::samples::{
    self, CONNECTION, HOST, MIB, OTHER_HOST, POOL, VOLUME, World, attach, host_spec, id, pool_spec,
};
use crate::domain::{Command, Listen};

const SITE: Uuid = Uuid::from_u128(0x5173);

fn site() -> Site {
    let listen = |text: &str| Listen {
        portals: [text.parse().unwrap()].into(),
        advertised: Vec::new(),
    };
    Site {
        id: SITE,
        name: "box".parse().unwrap(),
        iscsi: listen("0.0.0.0:3260"),
        nvme: listen("0.0.0.0:4420"),
        nvme_ports: [(3.try_into().unwrap(), "0.0.0.0:4420".parse().unwrap())].into(),
    }
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
    };
    let key = |host| NvmeHost {
        key: secrets(host).dhchap,
        controller_key: None,
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
        exports: Exports {
            iscsi: Some(IscsiExport {
                target: names::target(SITE, VOLUME),
                portals: site().iscsi.portals,
                initiators: [(iqn(0), acl(HOST)), (iqn(1), acl(OTHER_HOST))].into(),
            }),
            nvme: Some(NvmeExport {
                subsystem: names::subsystem(SITE, VOLUME),
                ports: site().nvme_ports,
                hosts: [(nqn(0), key(HOST)), (nqn(1), key(OTHER_HOST))].into(),
            }),
        },
        force: false,
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
    world.does(Command::ConnectionDelete { id: CONNECTION });
    let desired = rendered(&world, VOLUME);
    assert!(desired.exports.is_empty());
    assert!(!desired.force, "a host that uses it was to be asked");
}

#[test]
fn only_detaching_all_cuts_hosts_off() {
    let mut world = World::furnished();
    world.does(Command::VolumeDetachAll { id: VOLUME });
    let desired = rendered(&world, VOLUME);
    assert!(desired.exports.is_empty() && desired.force);
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
            mutual: None
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
        let making = pool(id(n), &world.intent.pool(id(n)).unwrap().record, 7);
        assert_eq!((making.format, making.absent), (format, false));
        world.settle(Unit::Pool(id(n)));
        let made = pool(id(n), &world.intent.pool(id(n)).unwrap().record, 8);
        assert_eq!(made.format, PoolFormat::Never);
        assert_eq!(
            (made.metadata, made.block),
            (Sectors(131_072), Sectors(128))
        );
    }
}
