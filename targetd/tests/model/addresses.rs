//! Addresses: those that are not there, come late, or are somebody else's.

use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{AddressState, PortalAddr, Request, Response, ServedAt, Transport};

use crate::wanted::{initiator, port, portal, target, volume};
use crate::world::World;

fn tried(world: &World, transport: Transport, address: PortalAddr) -> AddressState {
    let request = Request::TryAddress { transport, address };
    match world.answer(request).unwrap() {
        Response::Address(state) => state,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_late_address_is_served_when_it_is_there_and_disturbs_nothing_before() {
    let world = World::pooled();
    let late = port(0).socket().ip();
    world.kernel.lose_address(late);
    world.apply(&volume(1).new_data()).unwrap();
    let both = volume(1).nvme_at(&[0, 1], [("alpha", Some(1))]);
    let report = world.apply(&both).unwrap();
    let [unserved] = &report.unserved[..] else {
        panic!("{report:?}");
    };
    assert_eq!(unserved.at, ServedAt::Address(port(0)));
    assert_eq!(unserved.transport, Transport::NvmeTcp);
    assert!(unserved.absent, "{unserved:?}");
    let asked = Request::FindAddresses([late, port(1).socket().ip()].into());
    let absent = Response::Absent([late].into());
    assert_eq!(world.answer(asked.clone()), Ok(absent));

    world.kernel.take_log();
    let before = world.changed(0).recv().unwrap().unwrap();
    let changed = world.changed(before);
    world.kernel.find_address(late);
    assert_eq!(changed.recv().unwrap(), Ok(before + 1));
    assert_eq!(world.answer(asked), Ok(Response::Absent([].into())));
    let report = world.apply(&both).unwrap();
    let published = format!(
        "publish subsystem {} at port 1, {}",
        crate::wanted::subsystem(1),
        port(0)
    );
    assert_eq!(
        (report.steps, report.unserved),
        (vec![published], Vec::new())
    );
}

#[test]
fn an_address_that_another_process_has_is_told_apart_from_our_own() {
    let world = World::pooled();
    let (mine, theirs) = (port(0), port(1));
    world.kernel.occupy(theirs.socket()).unwrap();
    assert_eq!(
        tried(&world, Transport::NvmeTcp, theirs),
        AddressState::Taken
    );
    assert_eq!(
        tried(&world, Transport::NvmeTcp, mine),
        AddressState::Usable
    );
    world.apply(&volume(1).new_data()).unwrap();
    let both = volume(1).nvme_at(&[0, 1], [("alpha", Some(1))]);
    let report = world.apply(&both).unwrap();
    assert!(!report.unserved[0].absent, "{report:?}");
    assert_eq!(
        tried(&world, Transport::NvmeTcp, mine),
        AddressState::Usable
    );
    world.kernel.lose_address(mine.socket().ip());
    assert_eq!(
        tried(&world, Transport::NvmeTcp, mine),
        AddressState::Absent
    );
    world.kernel.vacate(theirs.socket());
    assert_eq!(world.apply(&both).unwrap().unserved, []);
}

#[test]
fn an_address_that_is_let_go_of_is_anybodys() {
    let world = World::pooled();
    let at = portal(0);
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]))
        .unwrap();
    let release = || world.answer(Request::ReleaseAddress { address: at });
    // Volumes that are served there are not asked.
    assert_eq!(release(), Ok(Response::Released));
    let chap = crate::wanted::chap("alpha", 1);
    let login = || {
        let host = initiator("alpha");
        world
            .kernel
            .iscsi_login(at.socket(), &target(1), &host, Some(&chap))
    };
    login().unwrap();
    // The next one keeps it open again.
    world
        .apply(&volume(2).new_data().iscsi(&["alpha"]))
        .unwrap();
    world.apply(&volume(1).cutting(&["alpha"])).unwrap();
    world.apply(&volume(2)).unwrap();
    assert_eq!(tried(&world, Transport::Iscsi, at), AddressState::Usable);
    assert_eq!(world.kernel.occupy(at.socket()), Err(Errno::EADDRINUSE));
    assert_eq!(release(), Ok(Response::Released));
    assert_eq!(release(), Ok(Response::Released));
    world.kernel.occupy(at.socket()).unwrap();
    assert_eq!(tried(&world, Transport::Iscsi, at), AddressState::Taken);
}
