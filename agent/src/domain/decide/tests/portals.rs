use ashlar_protocol::{PortalSpec, ProblemCode, Transport};
use ashlar_targetd_protocol::AddressState;
use uuid::Uuid;

use crate::domain::record::{BoxRecord, PortalPhase, Record, Unit};
use crate::domain::samples::{VOLUME, World, detach, id};
use crate::domain::{Command, Edit};

fn portal(n: u128, address: &str, transport: Transport) -> Command {
    let address = address.parse().unwrap();
    Command::PortalCreate {
        id: id(n),
        spec: PortalSpec { address, transport },
    }
}

fn remove(n: u128, force: bool) -> Command {
    Command::PortalDelete { id: id(n), force }
}

fn founded(mut world: World) -> World {
    let site = BoxRecord {
        id: Uuid::from_u128(1),
        nvme_ports: Default::default(),
        rdma_ports: Default::default(),
        fc_ports: Default::default(),
        frozen: None,
        firmware: None,
        managed: Default::default(),
        shut: Default::default(),
    };
    world.intent.apply(&Edit::put(Record::Box(site))).unwrap();
    world
}

fn code(world: &mut World, command: &Command) -> (ProblemCode, String) {
    let problem = world.decide(command).unwrap_err();
    (problem.code, problem.detail)
}

#[test]
fn a_portal_is_made_once_where_nothing_else_is() {
    let mut world = founded(World::empty());
    let first = portal(1, "10.0.0.9:4420", Transport::NvmeTcp);
    world.does(first.clone());
    world.does(first);
    let served = world.site.as_of(&world.intent);
    let addresses: Vec<String> = served
        .nvme_ports
        .values()
        .map(|at| at.to_string())
        .collect();
    assert_eq!(addresses, ["10.0.0.9:4420"]);
    assert_eq!(served.nvme.portals.len(), 2);

    for (command, expected) in [
        (
            portal(1, "10.0.0.9:4421", Transport::NvmeTcp),
            ProblemCode::AlreadyExists,
        ),
        (
            portal(2, "10.0.0.9:4421", Transport::NvmeFc),
            ProblemCode::InvalidField,
        ),
        (
            portal(2, "10.0.0.9:4421", Transport::Fc),
            ProblemCode::InvalidField,
        ),
        (
            portal(2, "10.0.0.9:4420", Transport::NvmeTcp),
            ProblemCode::Duplicate,
        ),
        // Of the configuration file.
        (
            portal(2, "10.0.0.1:4420", Transport::NvmeTcp),
            ProblemCode::Duplicate,
        ),
        (
            portal(2, "[::]:4420", Transport::NvmeTcp),
            ProblemCode::Duplicate,
        ),
        (
            portal(2, "10.0.0.9:4420", Transport::Iscsi),
            ProblemCode::Duplicate,
        ),
    ] {
        assert_eq!(code(&mut world, &command).0, expected, "{command:?}");
    }
    world.address = Some(AddressState::Taken);
    let (taken, detail) = code(&mut world, &portal(2, "10.0.0.9:4421", Transport::NvmeTcp));
    assert_eq!(taken, ProblemCode::InUse);
    assert!(detail.contains("10.0.0.9:4421"), "{detail}");
    world.address = Some(AddressState::Absent);
    world.does(portal(2, "10.0.0.9:4421", Transport::NvmeTcp));
}

#[test]
fn there_are_no_more_portals_than_a_target_listens_on() {
    let mut world = founded(World::empty());
    for n in 1..=16_u16 {
        world.does(portal(n.into(), &format!("10.0.0.9:{n}"), Transport::Iscsi));
    }
    let (many, _) = code(&mut world, &portal(99, "10.0.0.9:99", Transport::Iscsi));
    assert_eq!(many, ProblemCode::WrongState);
}

#[test]
fn the_first_portal_takes_the_place_of_the_usual_one_that_nobody_uses() {
    let mut world = founded(World::furnished());
    let first = portal(1, "10.0.0.9:3260", Transport::Iscsi);
    let (used, detail) = code(&mut world, &first);
    assert_eq!(used, ProblemCode::InUse);
    assert!(detail.contains("[::]:3260"), "{detail}");
    world.does(detach(crate::domain::samples::CONNECTION));
    world.settle(Unit::Volume(VOLUME));
    world.does(first);
    let listen = |world: &World| world.site.as_of(&world.intent).iscsi.portals;
    assert_eq!(listen(&world), ["10.0.0.9:3260".parse().unwrap()].into());
    world.does(remove(1, false));
    world.settle(Unit::Portal(id(1)));
    assert!(listen(&world).is_empty());
    assert!(world.intent.portal(id(1)).is_none());
}

#[test]
fn a_portal_goes_in_two_steps_and_the_last_only_by_force() {
    let mut world = founded(World::furnished());
    world.site.iscsi.portals = ["10.0.0.1:3260".parse().unwrap()].into();
    world.site.iscsi.usual = false;
    world.does(portal(1, "10.0.0.9:3260", Transport::Iscsi));
    world.does(remove(1, false));
    let phase = world.intent.portal(id(1)).unwrap().phase;
    assert_eq!(phase, PortalPhase::Removing);
    let again = portal(1, "10.0.0.9:3260", Transport::Iscsi);
    assert_eq!(code(&mut world, &again).0, ProblemCode::Busy);
    world.settle(Unit::Portal(id(1)));

    world.site.iscsi.portals.clear();
    world.does(portal(2, "10.0.0.9:3260", Transport::Iscsi));
    let (last, detail) = code(&mut world, &remove(2, false));
    assert_eq!(last, ProblemCode::InUse);
    assert!(detail.contains(&VOLUME.to_string()), "{detail}");
    world.does(remove(2, true));
    assert_eq!(code(&mut world, &remove(3, false)).0, ProblemCode::NotFound);
}

#[test]
fn the_last_that_serves_goes_only_by_force() {
    let mut world = founded(World::furnished());
    world.site.iscsi.portals = ["10.0.0.1:3260".parse().unwrap()].into();
    world.site.iscsi.usual = false;
    world.does(portal(1, "10.0.0.9:3260", Transport::Iscsi));
    world.lacking = ["10.0.0.1:3260".parse().unwrap()].into();
    let (last, detail) = code(&mut world, &remove(1, false));
    assert_eq!(last, ProblemCode::InUse);
    assert!(detail.contains("that serves"), "{detail}");

    // Where neither serves, the one is no loss; nor is one that does not beside one that does.
    for lacking in [
        vec!["10.0.0.1:3260", "10.0.0.9:3260"],
        vec!["10.0.0.9:3260"],
    ] {
        let mut world = world.clone();
        world.lacking = lacking.iter().map(|at| at.parse().unwrap()).collect();
        world.does(remove(1, false));
    }
    world.does(remove(1, true));
    let site = world.intent.site().unwrap();
    assert!(site.shut.is_empty(), "another may come to serve");
}

#[test]
fn only_force_shuts_a_transport() {
    let mut world = founded(World::empty());
    let shut = |world: &World| world.site.as_of(&world.intent).shut;
    for force in [false, true] {
        world.does(portal(1, "10.0.0.9:3260", Transport::Iscsi));
        assert!(shut(&world).is_empty(), "it is served again");
        world.does(remove(1, force));
        world.settle(Unit::Portal(id(1)));
        assert_eq!(shut(&world).contains(&Transport::Iscsi), force);
    }
}
