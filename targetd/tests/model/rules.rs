//! The safety rules, each by its name.

use ashlar_kernel_iface::dm::DeviceMapper;
use ashlar_kernel_iface::lio::Lio;
use ashlar_kernel_iface::model::{Denied, Module};
use ashlar_kernel_iface::nvmet::Nvmet;
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{FailureKind, PoolFormat, Sectors};

use crate::wanted::*;
use crate::world::World;

/// What a refused state changes: nothing.
fn refused(world: &World, wanted: &Wanted, kind: FailureKind) -> String {
    let before = world.picture();
    world.kernel.take_log();
    let failure = world.apply(wanted).unwrap_err();
    assert_eq!(failure.kind, kind, "{failure}");
    assert_eq!(world.kernel.take_log(), Vec::new(), "{failure}");
    assert_eq!(world.picture(), before);
    failure.message
}

#[test]
fn absence_removes_exports_never_data() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]).nvme(&["alpha"]))
        .unwrap();
    let report = world.apply(&volume(1)).unwrap();
    assert!(
        report.steps.iter().all(|step| !step.contains("delete")),
        "{report:?}"
    );
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
}

#[test]
fn destroying_data_takes_a_tombstone() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]))
        .unwrap();
    let report = world.apply(&volume(1).tombstone()).unwrap();
    assert!(
        report
            .steps
            .last()
            .unwrap()
            .starts_with("delete thin device 1")
    );
    refused_afterwards(&world);
    let again = world.apply(&volume(1).tombstone()).unwrap();
    assert_eq!(again.steps, Vec::<String>::new());
}

fn refused_afterwards(world: &World) {
    let before = world.picture();
    let failure = world.apply(&volume(1).iscsi(&["alpha"])).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Missing, "{failure}");
    assert_eq!(world.picture(), before);
}

#[test]
fn a_missing_thin_device_is_never_made_again() {
    let world = World::pooled();
    refused_afterwards(&world);
    assert_eq!(world.pool().usage.unwrap().data_used, 0);
}

#[test]
fn a_tombstone_with_exports_is_refused() {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    refused(
        &world,
        &volume(1).tombstone().iscsi(&["alpha"]),
        FailureKind::Refused,
    );
}

#[test]
fn foreign_objects_are_reported_and_never_touched() {
    let world = World::pooled();
    let tree: &dyn ashlar_kernel_iface::tree::Tree = &world.kernel;
    let target = "iqn.2003-01.org.linux-iscsi:x".parse().unwrap();
    let _ = Lio::new(tree).target(&target).create().unwrap();
    let subsystem = "nqn.2014-08.org.example:x".parse().unwrap();
    let _ = Nvmet::new(tree).subsystem(&subsystem).create().unwrap();
    let (name, uuid) = ("lvm-root".parse().unwrap(), "LVM-x".parse().unwrap());
    world.kernel.dm().create(&name, &uuid).unwrap();

    let (_, volumes, foreign) = world.objects();
    assert!(volumes.is_empty());
    assert_eq!(
        foreign,
        [
            format!("iSCSI target {target}"),
            format!("NVMe subsystem {subsystem}"),
            "device lvm-root".to_owned(),
        ]
    );
    let before = world.picture();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]).nvme(&["alpha"]))
        .unwrap();
    world.apply(&volume(1).tombstone()).unwrap();
    assert_eq!(world.picture(), before);
}

#[test]
fn a_device_with_our_name_and_not_our_mark_is_foreign() {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    let name = format!("ashlar-vol-{}", volume_id(1)).parse().unwrap();
    world
        .kernel
        .dm()
        .create(&name, &"other".parse().unwrap())
        .unwrap();
    refused(&world, &volume(1).iscsi(&["alpha"]), FailureKind::Foreign);
    refused(&world, &volume(1).tombstone(), FailureKind::Foreign);
}

#[test]
fn a_target_of_ours_with_something_foreign_in_it_stays() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]))
        .unwrap();
    let tree: &dyn ashlar_kernel_iface::tree::Tree = &world.kernel;
    let tag = 2_u64.try_into().unwrap();
    let _ = Lio::new(tree).target(&target(1)).tpg(tag).create().unwrap();
    refused(&world, &volume(1), FailureKind::Foreign);
}

#[test]
fn an_initiator_logged_in_is_in_use_unless_forced() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]))
        .unwrap();
    let at = portal(0).socket();
    let alpha = initiator("alpha");
    let chap = chap("alpha", 1);
    world
        .kernel
        .iscsi_login(at, &target(1), &alpha, Some(&chap))
        .unwrap();
    let message = refused(&world, &volume(1), FailureKind::InUse);
    assert!(message.contains(alpha.as_str()), "{message}");
    refused(&world, &volume(1).iscsi(&[]), FailureKind::InUse);
    refused(&world, &volume(1).cutting(&["beta"]), FailureKind::InUse);
    world.apply(&volume(1).cutting(&["alpha"])).unwrap();
    assert_eq!(world.volume(&volume(1)).active, None);
}

#[test]
fn removing_an_initiator_cuts_its_session_and_no_other() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha", "beta"]))
        .unwrap();
    for host in ["alpha", "beta"] {
        let chap = chap(host, 1);
        let at = portal(0).socket();
        world
            .kernel
            .iscsi_login(at, &target(1), &initiator(host), Some(&chap))
            .unwrap();
    }
    world
        .apply(&volume(1).iscsi(&["alpha"]).cutting(&["beta"]))
        .unwrap();
    let message = refused(&world, &volume(1), FailureKind::InUse);
    assert!(message.ends_with(initiator("alpha").as_str()), "{message}");
}

#[test]
fn an_empty_allow_list_means_nobody() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&[]).nvme(&[]))
        .unwrap();
    let kernel = &world.kernel;
    let login = kernel.iscsi_login(portal(0).socket(), &target(1), &initiator("alpha"), None);
    assert_eq!(login, Err(Denied::NotAllowed));
    let connect = kernel.nvme_connect(port(0).socket(), &subsystem(1), &nvme_host("alpha"), None);
    assert_eq!(connect, Err(Denied::NotAllowed));
}

#[test]
fn removing_the_last_host_denies_everyone() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]).nvme(&["alpha"]))
        .unwrap();
    world.apply(&volume(1).iscsi(&[]).nvme(&[])).unwrap();
    let kernel = &world.kernel;
    let chap = chap("alpha", 1);
    let login = kernel.iscsi_login(
        portal(0).socket(),
        &target(1),
        &initiator("alpha"),
        Some(&chap),
    );
    assert_eq!(login, Err(Denied::NotAllowed));
    let key = key(1);
    let connect = kernel.nvme_connect(
        port(0).socket(),
        &subsystem(1),
        &nvme_host("alpha"),
        Some(&key),
    );
    assert_eq!(connect, Err(Denied::NotAllowed));
}

#[test]
fn cutting_an_nvme_host_off_works_by_taking_the_subsystem_from_its_port() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().nvme(&["alpha", "beta"]))
        .unwrap();
    let gentle = world.apply(&volume(1).nvme(&["alpha"])).unwrap();
    assert_eq!(gentle.steps.len(), 1, "{gentle:?}");
    world.apply(&volume(1).nvme(&["alpha", "beta"])).unwrap();
    let forced = world
        .apply(&volume(1).nvme(&["alpha"]).cutting(&["beta"]))
        .unwrap();
    let verbs: Vec<&str> = forced
        .steps
        .iter()
        .filter_map(|step| step.split(' ').next())
        .collect();
    assert_eq!(verbs, ["withdraw", "remove", "publish"]);
}

#[test]
fn shrinking_is_refused() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]))
        .unwrap();
    refused(
        &world,
        &volume(1).sized(4).iscsi(&["alpha"]),
        FailureKind::Refused,
    );
    assert_eq!(world.volume(&volume(1)).active, Some(Sectors(8 * MIB)));
}

#[test]
fn a_size_no_device_can_have_is_refused() {
    let world = World::pooled();
    for size in [0, i64::MAX as u64 / 512 + 1, u64::MAX] {
        let mut wanted = volume(1).new_data().iscsi(&["alpha"]);
        wanted.0.size = Sectors(size);
        refused(&world, &wanted, FailureKind::Refused);
    }
    assert_eq!(world.volume(&volume(1)).active, None);
}

#[test]
fn a_stale_generation_is_refused() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]).at_generation(9))
        .unwrap();
    refused(&world, &volume(1).at_generation(8), FailureKind::Refused);
    world
        .apply(&volume(1).iscsi(&["alpha"]).at_generation(9))
        .unwrap();
}

#[test]
fn access_is_not_lost_while_the_intent_did_not_change() {
    let world = World::pooled();
    let two = volume(1).new_data().iscsi(&["alpha", "beta"]);
    world.apply(&two.at_generation(9)).unwrap();
    refused(&world, &volume(1).at_generation(9), FailureKind::Refused);
    refused(
        &world,
        &volume(1).iscsi(&["alpha"]).at_generation(9),
        FailureKind::Refused,
    );
    world.apply(&volume(1).at_generation(10)).unwrap();
}

#[test]
fn a_target_is_named_after_its_volume() {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    let mut iscsi = volume(1).iscsi(&["alpha"]);
    iscsi.0.exports.iscsi.as_mut().unwrap().target = target(2);
    refused(&world, &iscsi, FailureKind::Refused);
    let mut nvme = volume(1).nvme(&["alpha"]);
    nvme.0.exports.nvme.as_mut().unwrap().subsystem = subsystem(2);
    refused(&world, &nvme, FailureKind::Refused);
}

#[test]
fn an_export_without_an_address_is_refused() {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    refused(&world, &volume(1).iscsi_at(&[], []), FailureKind::Refused);
    refused(&world, &volume(1).nvme_at(&[], []), FailureKind::Refused);
}

#[test]
fn without_its_pool_a_volume_is_missing() {
    let world = World::bare();
    for wanted in [
        volume(1).new_data(),
        volume(1).iscsi(&["alpha"]),
        volume(1).tombstone(),
    ] {
        refused(&world, &wanted, FailureKind::Missing);
    }
}

#[test]
fn an_orphan_loses_its_exports_and_keeps_its_data() {
    let world = World::pooled();
    let empty = world.picture();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]).nvme(&["alpha"]))
        .unwrap();
    world.restart();
    assert_eq!(world.objects().1, [volume_id(1)]);
    world.unexport(volume_id(1)).unwrap();
    assert_eq!(world.picture(), empty);
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
}

#[test]
fn an_address_that_cannot_be_had_says_so() {
    let world = World::pooled();
    world.kernel.lose_address(port(0).socket().ip());
    world.apply(&volume(1).new_data()).unwrap();
    let failure = world.apply(&volume(1).nvme(&["alpha"])).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Address, "{failure}");
    assert!(!world.picture().contains("nvmet/ports/1"));
}

#[test]
fn an_address_that_cannot_be_had_keeps_nobody_from_the_others() {
    let world = World::pooled();
    world.kernel.lose_address(port(0).socket().ip());
    world.apply(&volume(1).new_data()).unwrap();
    let both = volume(1).nvme_at(&[0, 1], [("alpha", Some(1))]);
    world.apply(&both).unwrap();
    assert!(!world.picture().contains("nvmet/ports/1"));
    let (at, key, host) = (port(1).socket(), key(1), nvme_host("alpha"));
    let connected = world
        .kernel
        .nvme_connect(at, &subsystem(1), &host, Some(&key));
    assert!(connected.is_ok());
}

#[test]
fn an_address_without_an_rdma_device_keeps_nobody_from_iscsi() {
    let world = World::pooled();
    world.kernel.lose_rdma(portal(1).socket().ip());
    world.apply(&volume(1).new_data()).unwrap();
    let wanted = || volume(1).iscsi(&["alpha"]).and_iser(1);
    for _ in 0..2 {
        let failure = world.apply(&wanted()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Address, "{failure}");
        let picture = world.picture();
        let there = |index| {
            let portal = format!("/{}/tpgt_1/np/{}", target(1), portal(index));
            picture.iter().any(|path| path.ends_with(&portal))
        };
        // The other one takes TCP, and closes with what it was opened for.
        assert_eq!([there(0), there(1)], [true, true]);
    }
    let (at, chap, host) = (portal(0).socket(), chap("alpha", 1), initiator("alpha"));
    let login = world.kernel.iscsi_login(at, &target(1), &host, Some(&chap));
    assert!(login.is_ok());
    let report = world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    let closed = format!("close portal {} of target {}", portal(1), target(1));
    assert_eq!(report.steps, [closed]);
}

#[test]
fn a_missing_module_is_named() {
    let (iscsi, nvme) = (volume(1).iscsi(&["alpha"]), volume(1).nvme(&["alpha"]));
    let iser = volume(1).iscsi(&["alpha"]).and_iser(0);
    for (module, wanted, said) in [
        (Module::IscsiTarget, &iscsi, "iscsi_target_mod"),
        (Module::TargetCore, &iscsi, "target_core_mod"),
        (Module::TargetIblock, &iscsi, "target_core_iblock"),
        (Module::IbIsert, &iser, "ib_isert"),
        (Module::Nvmet, &nvme, "nvmet"),
        (Module::NvmetTcp, &nvme, "nvmet_tcp"),
    ] {
        let said = format!(": kernel module {said} is not loaded");
        let world = World::without(&[module]);
        let pool = pool(1, &crate::world::DISKS, PoolFormat::BlankOnly);
        world.apply_pool(&pool).unwrap();
        world.apply(&volume(1).new_data()).unwrap();
        let failure = world.apply(wanted).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unsupported, "{failure}");
        assert!(failure.message.ends_with(&said), "{failure}");
    }
}

#[test]
fn no_disk_is_written_for_a_pool_that_the_kernel_cannot_serve() {
    let world = World::without(&[Module::DmThinPool]);
    world.kernel.take_log();
    let pool = pool(1, &crate::world::DISKS, PoolFormat::BlankOnly);
    let failure = world.apply_pool(&pool).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unsupported, "{failure}");
    assert!(failure.message.contains("dm_thin_pool"), "{failure}");
    assert!(world.kernel.take_log().is_empty(), "something was done");
}

#[test]
fn a_secret_is_in_no_message() {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    let wanted = volume(1).iscsi(&["alpha"]).nvme(&["alpha"]);
    let mut said = Vec::new();
    for file in ["auth/userid", "auth/password", "dhchap_key"] {
        world.kernel.fail_matching(file, Errno::EIO);
        said.push(world.apply(&wanted).unwrap_err().message);
    }
    said.extend(world.apply(&wanted).unwrap().steps);
    said.extend(world.kernel.take_log().iter().map(ToString::to_string));
    for line in said {
        assert!(!line.contains("Secret0"), "{line}");
        assert!(!line.contains("DHHC-1"), "{line}");
    }
}
