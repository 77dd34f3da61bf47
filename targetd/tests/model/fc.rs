//! Disks over Fibre Channel, beside each other on the same ports.

use ashlar_kernel_iface::lio::FcFabric;
use ashlar_kernel_iface::model::Module;
use ashlar_targetd_protocol::{FailureKind, ServedAt, Transport, Wwn};

use crate::wanted::*;
use crate::world::World;

fn port() -> Wwn {
    "20000025b5aa0c1f".parse().unwrap()
}

fn qlogic() -> Wwn {
    "2100001b32a1b2c3".parse().unwrap()
}

fn alpha() -> Wwn {
    "2100000000000001".parse().unwrap()
}

fn beta() -> Wwn {
    "2100000000000002".parse().unwrap()
}

/// A box with a pool and both kinds of ports.
fn world() -> World {
    let world = World::pooled();
    world.kernel.add_fc_host(port(), FcFabric::LibFc);
    world.kernel.add_fc_host(qlogic(), FcFabric::Qla2xxx);
    world
}

/// The serial numbers of what an initiator sees at a port, by LUN.
fn seen(world: &World, at: Wwn, initiator: Wwn) -> Vec<(u64, String)> {
    let disks = world.kernel.fc_disks(at, initiator).into_iter();
    disks.map(|(lun, disk)| (lun, disk.serial)).collect()
}

fn serial(n: u32) -> String {
    volume_id(n).simple().to_string()
}

#[test]
fn volumes_share_ports_and_initiators() {
    let world = world();
    let both = [port(), qlogic()];
    let first = || volume(1).fc(&both, 0, &[(alpha(), 0, false), (beta(), 0, false)]);
    let second = || volume(2).fc(&both, 1, &[(alpha(), 1, false)]);
    world.apply(&first().new_data()).unwrap();
    world.apply(&second().new_data()).unwrap();
    for at in both {
        let alphas = [(0, serial(1)), (1, serial(2))];
        assert_eq!(seen(&world, at, alpha()), alphas);
        assert_eq!(seen(&world, at, beta()), [(0, serial(1))]);
    }
    assert_eq!(world.volume(&first()).exported, [Transport::Fc]);
    assert!(world.apply(&first()).unwrap().steps.is_empty());
    // One goes, and nothing of the other's with it.
    let report = world.apply(&volume(1)).unwrap();
    assert_eq!(report.steps.len(), 2 * 3 + 2, "{report:?}");
    for at in both {
        assert_eq!(seen(&world, at, alpha()), [(1, serial(2))]);
        assert_eq!(seen(&world, at, beta()), []);
    }
    assert!(world.apply(&second()).unwrap().steps.is_empty());
    // Its numbers are free.
    world
        .apply(&volume(1).fc(&both, 0, &[(beta(), 7, false)]))
        .unwrap();
    assert_eq!(seen(&world, port(), beta()), [(7, serial(1))]);
}

#[test]
fn a_host_leaves_and_another_gets_another_number_beside_it() {
    let world = world();
    let with = |initiators: &[(Wwn, u64, bool)]| volume(1).fc(&[port()], 3, initiators);
    world
        .apply(&with(&[(alpha(), 5, false), (beta(), 6, true)]).new_data())
        .unwrap();
    let only_reads = world.kernel.fc_disks(port(), beta());
    assert!(only_reads[&6].write_protected, "{only_reads:?}");
    assert_eq!(only_reads[&6].write_same, "0");
    let report = world.apply(&with(&[(beta(), 6, true)])).unwrap();
    let gone = format!("take LUN 5 at port {} from initiator {}", port(), alpha());
    assert_eq!(report.steps, [gone]);
    world.apply(&with(&[(beta(), 4, false)])).unwrap();
    assert_eq!(seen(&world, port(), beta()), [(4, serial(1))]);
    assert!(!world.kernel.fc_disks(port(), beta())[&4].write_protected);
}

#[test]
fn iscsi_and_fibre_channel_are_one_disk() {
    let world = world();
    let fc = |wanted: Wanted| wanted.fc(&[port()], 0, &[(alpha(), 0, false)]);
    world
        .apply(&volume(1).iscsi(&["alpha"]).new_data())
        .unwrap();
    let report = world.apply(&fc(volume(1).iscsi(&["alpha"]))).unwrap();
    let beside = [
        format!("make port {} a target", port()),
        format!("create unit 0 of port {}", port()),
        format!(
            "show unit 0 at port {} to initiator {} as LUN 0",
            port(),
            alpha()
        ),
    ];
    assert_eq!(report.steps, beside);
    // Either goes without the other noticing.
    world.apply(&fc(volume(1))).unwrap();
    assert_eq!(world.volume(&volume(1)).exported, [Transport::Fc]);
    assert_eq!(seen(&world, port(), alpha()), [(0, serial(1))]);
    world.apply(&fc(volume(1).iscsi(&["alpha"]))).unwrap();
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    assert_eq!(world.volume(&volume(1)).exported, [Transport::Iscsi]);
    world.apply(&volume(1)).unwrap();
    assert_eq!(world.volume(&volume(1)).exported, []);
}

#[test]
fn what_a_process_or_the_box_leaves_behind_is_found_again() {
    let wanted = || volume(1).fc(&[port(), qlogic()], 2, &[(alpha(), 1, false)]);
    for steps in 1.. {
        let world = world();
        world.apply(&volume(1).new_data()).unwrap();
        world.kernel.stop_after(steps);
        let outcome = world.apply(&wanted());
        let done = !world.kernel.stopped();
        world.restart();
        if steps % 2 == 0 {
            // The desired state may have changed meanwhile.
            world.apply(&volume(1)).unwrap();
            assert_eq!(seen(&world, port(), alpha()), []);
        }
        world.apply(&wanted()).unwrap();
        assert_eq!(seen(&world, port(), alpha()), [(1, serial(1))]);
        world.restart();
        assert!(world.apply(&wanted()).unwrap().steps.is_empty());
        world.kernel.stop_after(steps);
        drop(world.apply(&volume(1)));
        world.restart();
        world.apply(&volume(1)).unwrap();
        assert_eq!(seen(&world, qlogic(), alpha()), []);
        world.apply(&wanted()).unwrap();
        world.reboot();
        world
            .apply_pool(&pool(
                1,
                &crate::world::DISKS,
                ashlar_targetd_protocol::PoolFormat::Never,
            ))
            .unwrap();
        world.apply(&wanted()).unwrap();
        assert_eq!(seen(&world, qlogic(), alpha()), [(1, serial(1))]);
        if done {
            outcome.unwrap();
            break;
        }
    }
}

#[test]
fn a_port_that_is_not_there_is_told_and_keeps_nobody_from_the_others() {
    let world = world();
    world.kernel.remove_fc_host(port());
    let wanted = || volume(1).fc(&[port(), qlogic()], 0, &[(alpha(), 0, false)]);
    let report = world.apply(&wanted().new_data()).unwrap();
    let [unserved] = &report.unserved[..] else {
        panic!("{report:?}");
    };
    assert_eq!(unserved.at, ServedAt::Fc(port()));
    assert_eq!(unserved.transport, Transport::Fc);
    assert!(!unserved.absent, "{unserved:?}");
    let told = format!("this box has no port {} that can be a target", port());
    assert!(unserved.message.contains(&told), "{unserved:?}");
    assert_eq!(seen(&world, qlogic(), alpha()), [(0, serial(1))]);
    let report = world.apply(&wanted()).unwrap();
    assert!(report.steps.is_empty(), "{report:?}");

    world.kernel.add_fc_host(port(), FcFabric::LibFc);
    assert_eq!(world.apply(&wanted()).unwrap().unserved, []);
    assert_eq!(seen(&world, port(), alpha()), [(0, serial(1))]);
}

#[test]
fn a_host_without_any_port_is_told() {
    let world = world();
    world.kernel.remove_fc_host(port());
    let wanted = || volume(1).fc(&[port()], 0, &[(alpha(), 0, false)]);
    let failure = world.apply(&wanted().new_data()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Address);
    let told = format!("this box has no port {} that can be a target", port());
    assert!(failure.message.contains(&told), "{failure}");
    world.kernel.add_fc_host(port(), FcFabric::LibFc);
    assert_eq!(world.apply(&wanted()).unwrap().unserved, []);
    assert_eq!(seen(&world, port(), alpha()), [(0, serial(1))]);
}

#[test]
fn no_number_of_another_volume_is_taken() {
    let world = world();
    let first = volume(1).fc(&[port()], 0, &[(alpha(), 0, false)]);
    world.apply(&first.new_data()).unwrap();
    world.apply(&volume(2).new_data()).unwrap();
    for (unit, lun) in [(0, 1), (1, 0)] {
        let failure = world
            .apply(&volume(2).fc(&[port()], unit, &[(alpha(), lun, false)]))
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Foreign, "{failure}");
        assert_eq!(seen(&world, port(), alpha()), [(0, serial(1))]);
        // What was refused leaves nothing that could be taken for its own later.
        world.apply(&volume(2)).unwrap();
        assert_eq!(seen(&world, port(), alpha()), [(0, serial(1))]);
    }
}

#[test]
fn a_kernel_without_the_module_is_told() {
    let world = World::without(&[Module::TcmFc]);
    world
        .apply_pool(&pool(
            1,
            &crate::world::DISKS,
            ashlar_targetd_protocol::PoolFormat::BlankOnly,
        ))
        .unwrap();
    world.kernel.add_fc_host(port(), FcFabric::LibFc);
    let wanted = volume(1).fc(&[port()], 0, &[(alpha(), 0, false)]);
    let failure = world.apply(&wanted.new_data()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unsupported);
    assert!(failure.message.contains("tcm_fc"), "{failure}");
}
