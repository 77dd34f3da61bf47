//! What initiators see of volumes as they come, grow and go.

use std::fs;

use ashlar_kernel_iface::lio::{AclState, BackstoreId, Lio};
use ashlar_kernel_iface::model::Denied;
use ashlar_kernel_iface::nvmet::Nvmet;
use ashlar_kernel_iface::tree::{Errno, Tree};
use ashlar_targetd_protocol::{
    ChapCredentials, DhchapExchange, DhchapKey, FailureKind, PoolFormat, Sectors, ServedAt,
    Transport,
};

use crate::wanted::*;
use crate::world::{DISKS, World};

#[test]
fn a_new_volume_costs_one_message_and_no_device() {
    let world = World::pooled();
    let report = world.apply(&volume(1).new_data()).unwrap();
    assert_eq!(report.steps.len(), 1, "{:?}", report.steps);
    assert_eq!(world.volume(&volume(1)).active, None);
    let again = world.apply(&volume(1).new_data()).unwrap();
    assert_eq!(again.steps, Vec::<String>::new());
}

#[test]
fn an_initiator_logs_in_with_its_own_secret_and_sees_the_disk() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]))
        .unwrap();
    let login = |host: &str, chap: Option<ChapCredentials>| {
        let at = portal(0).socket();
        world
            .kernel
            .iscsi_login(at, &target(1), &initiator(host), chap.as_ref())
    };
    let disks = login("alpha", Some(chap("alpha", 1))).unwrap();
    assert_eq!(disks[&0].serial, volume_id(1).simple().to_string());
    assert!(!disks[&0].write_protected);
    assert_eq!(
        login("alpha", Some(chap("alpha", 2))),
        Err(Denied::Authentication)
    );
    assert_eq!(login("alpha", None), Err(Denied::Authentication));
    assert_eq!(login("beta", None), Err(Denied::NotAllowed));
}

#[test]
fn a_host_connects_with_its_own_key_and_sees_the_namespace() {
    let world = World::pooled();
    world.apply(&volume(1).new_data().nvme(&["alpha"])).unwrap();
    let connect = |host: &str, key: Option<DhchapKey>| {
        let at = port(0).socket();
        world
            .kernel
            .nvme_connect(at, &subsystem(1), &nvme_host(host), key.as_ref())
    };
    let seen = connect("alpha", Some(key(1))).unwrap();
    assert_eq!(seen[&1].uuid, volume_id(1).to_string());
    assert_eq!(
        seen[&1].nguid.replace('-', ""),
        volume_id(1).simple().to_string()
    );
    assert_eq!(connect("alpha", Some(key(2))), Err(Denied::Authentication));
    assert_eq!(connect("beta", Some(key(1))), Err(Denied::NotAllowed));
}

#[test]
fn a_host_without_authentication_does_not_open_the_door_for_others() {
    let world = World::pooled();
    let hosts = [("open", None), ("alpha", Some(1))];
    let wanted = volume(1)
        .new_data()
        .iscsi_at(&[0], hosts)
        .nvme_at(&[0], hosts);
    world.apply(&wanted).unwrap();
    let login = |host: &str| {
        let at = portal(0).socket();
        world
            .kernel
            .iscsi_login(at, &target(1), &initiator(host), None)
    };
    assert!(login("open").is_ok());
    assert_eq!(login("alpha"), Err(Denied::Authentication));
    let connect = |host: &str| {
        let at = port(0).socket();
        world
            .kernel
            .nvme_connect(at, &subsystem(1), &nvme_host(host), None)
    };
    assert!(connect("open").is_ok());
    assert_eq!(connect("alpha"), Err(Denied::Authentication));
}

#[test]
fn a_changed_secret_replaces_the_old_one() {
    let world = World::pooled();
    let with = |version| {
        let hosts = [("alpha", Some(version))];
        volume(1)
            .new_data()
            .iscsi_at(&[0], hosts)
            .nvme_at(&[0], hosts)
    };
    world.apply(&with(1)).unwrap();
    world.apply(&with(2)).unwrap();
    let kernel = &world.kernel;
    let login = |version| {
        let chap = chap("alpha", version);
        kernel.iscsi_login(
            portal(0).socket(),
            &target(1),
            &initiator("alpha"),
            Some(&chap),
        )
    };
    assert_eq!(login(1), Err(Denied::Authentication));
    assert!(login(2).is_ok());
    let connect = |version| {
        let key = key(version);
        kernel.nvme_connect(
            port(0).socket(),
            &subsystem(1),
            &nvme_host("alpha"),
            Some(&key),
        )
    };
    assert_eq!(connect(1), Err(Denied::Authentication));
    assert!(connect(2).is_ok());
}

#[test]
fn a_changed_secret_ends_no_session() {
    let world = World::pooled();
    let with = |version| {
        volume(1)
            .new_data()
            .iscsi_at(&[0], [("alpha", Some(version))])
    };
    world.apply(&with(1)).unwrap();
    let proof = chap("alpha", 1);
    let login = world.kernel.iscsi_login(
        portal(0).socket(),
        &target(1),
        &initiator("alpha"),
        Some(&proof),
    );
    assert!(login.is_ok());
    let report = world.apply(&with(2)).unwrap();
    assert_eq!(report.steps.len(), 1, "{:?}", report.steps);
    assert!(acl(&world).logged_in);
}

#[test]
fn what_hosts_reserved_outlasts_a_power_cut_and_not_the_last_connection() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]))
        .unwrap();
    let written = world.reservations(volume_id(1));
    let registration = "initiator_fabric=iSCSI\ninitiator_node=iqn.2026-11.org.example:alpha\n\
        sa_res_key=171\nres_holder=1\ntarget_node=iqn.2026-11.org.example:box\n";
    let text = format!("PR_REG_START: 0\n{registration}PR_REG_END: 0\n");
    fs::write(&written, text).unwrap();
    world.reboot();
    world
        .apply_pool(&pool(1, &DISKS, PoolFormat::Never))
        .unwrap();
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    let id = BackstoreId::for_volume(volume_id(1));
    let told = id.path().at("pr/res_aptpl_metadata");
    let told = world.kernel.read(&told).unwrap();
    assert_eq!(told, registration.trim_end().replace('\n', ","));
    assert!(written.exists());
    world.apply(&volume(1)).unwrap();
    assert!(!written.exists());
}

fn acl(world: &World) -> AclState {
    let lio = Lio::new(&world.kernel);
    let tpg = lio.target(&target(1)).tpg(1.try_into().unwrap());
    tpg.acl(&initiator("alpha")).observe().unwrap().unwrap()
}

#[test]
fn one_initiator_only_reads_what_another_writes() {
    let world = World::pooled();
    let both = || volume(1).iscsi(&["alpha", "beta"]);
    let protected = |host: &str| {
        let at = portal(0).socket();
        let proof = chap(host, 1);
        let login = world
            .kernel
            .iscsi_login(at, &target(1), &initiator(host), Some(&proof));
        login.unwrap()[&0].write_protected
    };
    world
        .apply(&both().read_only_for("beta").new_data())
        .unwrap();
    assert_eq!((protected("alpha"), protected("beta")), (false, true));
    let again = world.apply(&both().read_only_for("beta")).unwrap();
    assert_eq!(again.steps, Vec::<String>::new());
    let report = world.apply(&both().read_only_for("alpha")).unwrap();
    assert_eq!(report.steps.len(), 2, "{:?}", report.steps);
    assert!(report.steps[0].ends_with("with CHAP, read-only"));
    assert_eq!((protected("alpha"), protected("beta")), (true, false));
}

/// The kernel takes a WRITE SAME that says it reads for a read, and carries it out.
#[test]
fn nobody_sees_a_disk_to_only_read_before_write_same_is_refused() {
    let both = || volume(1).iscsi(&["alpha", "beta"]).read_only_for("beta");
    let seen = |world: &World, host: &str| {
        let at = portal(0).socket();
        let proof = chap(host, 1);
        let kernel = &world.kernel;
        let login = kernel.iscsi_login(at, &target(1), &initiator(host), Some(&proof));
        login.ok().and_then(|mut disks| disks.remove(&0))
    };
    let (mut kills, mut seen_before_the_end) = (0, 0);
    for (step, begun) in (0..).flat_map(|step| [(step, false), (step, true)]) {
        let world = World::pooled();
        world.apply(&volume(1).new_data()).unwrap();
        if begun {
            world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
            assert_ne!(seen(&world, "alpha").unwrap().write_same, "0");
        }
        world.kernel.stop_after(step);
        let done = world.apply(&both()).is_ok();
        for restarted in [false, true] {
            if let Some(disk) = seen(&world, "beta") {
                assert!(disk.write_protected, "{step}");
                assert_eq!(disk.write_same, "0", "{step}");
                seen_before_the_end += u32::from(!done && !restarted);
            }
            world.restart();
            world.apply(&both()).unwrap();
        }
        if done && !begun {
            break;
        }
        kills += u32::from(!done);
    }
    assert!(kills > 25, "{kills}");
    assert!(seen_before_the_end > 0);
    // It is not said again, and holds until the backstore goes.
    let world = World::pooled();
    world.apply(&both().new_data()).unwrap();
    assert_eq!(world.apply(&both()).unwrap().steps, Vec::<String>::new());
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    assert_eq!(seen(&world, "alpha").unwrap().write_same, "0");
    world.apply(&volume(1).cutting(&["alpha"])).unwrap();
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    assert_ne!(seen(&world, "alpha").unwrap().write_same, "0");
}

#[test]
fn the_box_proves_itself_too_when_that_is_wanted() {
    let world = World::pooled();
    let one_way = || volume(1).iscsi(&["alpha"]).nvme(&["alpha"]);
    let host = || {
        let nvmet = Nvmet::new(&world.kernel);
        nvmet.host(&nvme_host("alpha")).observe().unwrap().unwrap()
    };
    world.apply(&one_way().new_data()).unwrap();
    assert_eq!(acl(&world).mutual_chap, None);
    assert_eq!(host().controller_key, None);
    let report = world.apply(&one_way().both_ways()).unwrap();
    assert_eq!(
        report.steps,
        [
            format!(
                "admit initiator {} to target {} with mutual CHAP",
                initiator("alpha"),
                target(1)
            ),
            format!(
                "admit host {} to subsystem {} with DH-HMAC-CHAP both ways, by sha512 and ffdhe3072",
                nvme_host("alpha"),
                subsystem(1)
            ),
        ]
    );
    assert!(acl(&world).mutual_chap.unwrap().is(&chap("box", 9)));
    assert!(host().controller_key.unwrap().is(&key(9)));
    let again = world.apply(&one_way().both_ways()).unwrap();
    assert_eq!(again.steps, Vec::<String>::new());
    world.apply(&one_way()).unwrap();
    assert_eq!(acl(&world).mutual_chap, None);
    assert_eq!(host().controller_key, None);
    assert_eq!(host().exchange, Some(DhchapExchange::default()));
}

#[test]
fn a_group_that_the_kernel_lacks_leaves_the_keys_as_they_are() {
    let world = World::pooled();
    let wanted = || volume(1).nvme_at(&[0], [("alpha", Some(1))]);
    world.apply(&wanted().new_data()).unwrap();
    let other = || volume(1).nvme_at(&[0], [("alpha", Some(2))]).both_ways();
    // The first looks whether the host is there.
    world.kernel.fail_step(2, Errno::EINVAL);
    let failure = world.apply(&other()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unsupported);
    assert!(failure.message.contains("dhchap_dhgroup"), "{failure}");
    let at = port(0).socket();
    let connect = |version| {
        let (host, key) = (nvme_host("alpha"), key(version));
        world
            .kernel
            .nvme_connect(at, &subsystem(1), &host, Some(&key))
    };
    assert!(connect(1).is_ok());
    world.apply(&other()).unwrap();
    assert_eq!(connect(1), Err(Denied::Authentication));
    assert!(connect(2).is_ok());
}

#[test]
fn both_transports_share_one_device_and_grow_with_it() {
    let world = World::pooled();
    let wanted = |mib| volume(1).sized(mib).iscsi(&["alpha"]).nvme(&["beta"]);
    world.apply(&wanted(8).new_data()).unwrap();
    let report = world.apply(&wanted(16)).unwrap();
    assert_eq!(
        report.steps,
        [
            format!("grow the device to {} sectors", 16 * MIB),
            format!(
                "announce the size of namespace 1 of subsystem {}",
                subsystem(1)
            ),
        ]
    );
    let seen = world.volume(&volume(1));
    assert_eq!(seen.active, Some(Sectors(16 * MIB)));
    assert_eq!(seen.exported.len(), 2);
}

#[test]
fn the_last_detach_deactivates_the_device() {
    let world = World::pooled();
    let empty = world.picture();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]).nvme(&["beta"]))
        .unwrap();
    world.apply(&volume(1).nvme(&["beta"])).unwrap();
    assert!(world.volume(&volume(1)).active.is_some());
    world.apply(&volume(1)).unwrap();
    assert_eq!(world.volume(&volume(1)).active, None);
    assert_eq!(world.picture(), empty);
}

#[test]
fn ports_and_hosts_stay_while_another_volume_uses_them() {
    let world = World::pooled();
    world.apply(&volume(1).new_data().nvme(&["alpha"])).unwrap();
    world.apply(&volume(2).new_data().nvme(&["alpha"])).unwrap();
    world.apply(&volume(1)).unwrap();
    let connect = |n| {
        let at = port(0).socket();
        let key = key(1);
        world
            .kernel
            .nvme_connect(at, &subsystem(n), &nvme_host("alpha"), Some(&key))
    };
    assert_eq!(connect(1), Err(Denied::NoTarget));
    assert!(connect(2).is_ok());
}

#[test]
fn a_restart_changes_nothing() {
    let world = World::pooled();
    let wanted = || volume(1).iscsi(&["alpha"]).nvme(&["alpha"]);
    world.apply(&wanted().new_data()).unwrap();
    world.kernel.take_log();
    world.restart();
    assert_eq!(world.apply(&wanted()).unwrap().steps, Vec::<String>::new());
    let log = world.kernel.take_log();
    // The kernel announces a size again only if it differs.
    let idle = |line: &str| line.contains("revalidate_size");
    let changes = log
        .iter()
        .filter(|call| call.outcome.is_ok() && !idle(&call.operation));
    assert_eq!(changes.count(), 0, "{log:?}");
}

#[test]
fn a_power_cut_loses_nothing_that_the_next_lap_does_not_bring_back() {
    let world = World::pooled();
    let wanted = || volume(1).iscsi(&["alpha"]).nvme(&["beta"]);
    world.apply(&wanted().new_data()).unwrap();
    let before = world.picture();
    world.reboot();
    let pool = pool(
        1,
        &crate::world::DISKS,
        ashlar_targetd_protocol::PoolFormat::Never,
    );
    world.apply_pool(&pool).unwrap();
    world.apply(&wanted()).unwrap();
    assert_eq!(world.picture(), before);
}

#[test]
fn an_older_name_of_the_target_goes_when_the_new_one_comes() {
    let world = World::pooled();
    let mut renamed = volume(1).iscsi(&["alpha"]).nvme(&["alpha"]);
    let name = format!("iqn.2026-11.io.ashlar:new:{}", volume_id(1));
    renamed.0.exports.iscsi.as_mut().unwrap().target = name.parse().unwrap();
    let name = format!("nqn.2026-11.io.ashlar:new:{}", volume_id(1));
    renamed.0.exports.nvme.as_mut().unwrap().subsystem = name.parse().unwrap();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]).nvme(&["alpha"]))
        .unwrap();
    world.restart();
    world.apply(&renamed).unwrap();
    let old = world
        .picture()
        .into_iter()
        .filter(|name| name.contains(":box:"));
    assert_eq!(old.count(), 0);
}

#[test]
fn growth_that_nobody_announced_is_announced_at_the_next_start() {
    let world = World::pooled();
    world.apply(&volume(1).new_data().nvme(&["alpha"])).unwrap();
    // Load and resume, and no further.
    world.kernel.stop_after(2);
    world
        .apply(&volume(1).sized(16).nvme(&["alpha"]))
        .unwrap_err();
    world.kernel.revive();
    assert_eq!(world.volume(&volume(1)).active, Some(Sectors(16 * MIB)));
    world.kernel.take_log();
    world.restart();
    let log = world.kernel.take_log();
    let announced = |call: &&ashlar_kernel_iface::model::Step| {
        call.outcome.is_ok() && call.operation.contains("revalidate_size")
    };
    assert_eq!(log.iter().filter(announced).count(), 1, "{log:?}");
}

#[test]
fn an_address_is_bound_once_and_kept_while_volumes_come_and_go() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]))
        .unwrap();
    world.apply(&volume(1)).unwrap();
    assert_eq!(world.objects().2, Vec::<String>::new());
    let keeper = ashlar_targetd::ours::PORTAL_KEEPER.parse().unwrap();
    let login = world
        .kernel
        .iscsi_login(portal(0).socket(), &keeper, &initiator("alpha"), None);
    assert_eq!(login, Err(Denied::NoTarget));
    world.restart();
    world.kernel.take_log();
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    let log = world.kernel.take_log();
    let made = |call: &&ashlar_kernel_iface::model::Step| {
        call.outcome.is_ok() && call.operation.contains("/np/")
    };
    assert_eq!(log.iter().filter(made).count(), 1, "{log:?}");
}

#[test]
fn rdma_joins_and_leaves_beside_tcp() {
    let world = World::pooled();
    let tcp = || volume(1).nvme(&["alpha"]);
    world.apply(&tcp().new_data()).unwrap();
    let report = world.apply(&tcp().and_rdma()).unwrap();
    let published = format!(
        "publish subsystem {} at port 9, {} over RDMA",
        subsystem(1),
        port(0)
    );
    assert_eq!(report.steps, [published]);
    let both = [Transport::NvmeTcp, Transport::NvmeRdma];
    assert_eq!(world.volume(&volume(1)).exported, both);
    let connect = || {
        let (at, key) = (port(0).socket(), key(1));
        let host = nvme_host("alpha");
        world
            .kernel
            .nvme_connect(at, &subsystem(1), &host, Some(&key))
    };
    assert!(connect().is_ok());
    let report = world.apply(&tcp()).unwrap();
    let withdrawn = format!("withdraw subsystem {} from port 9", subsystem(1));
    assert_eq!(report.steps, [withdrawn]);
    assert_eq!(world.volume(&volume(1)).exported, [Transport::NvmeTcp]);
    assert!(connect().is_ok());
}

#[test]
fn fibre_channel_joins_and_leaves_beside_tcp() {
    let world = World::pooled();
    let tcp = || volume(1).nvme(&["alpha"]);
    let connect = |key: Option<DhchapKey>| {
        let (at, host) = (fc_port(), nvme_host("alpha"));
        let seen = world
            .kernel
            .nvme_connect_fc(at, &subsystem(1), &host, key.as_ref());
        seen.map(drop)
    };
    world.apply(&tcp().new_data()).unwrap();
    assert_eq!(connect(Some(key(1))), Err(Denied::Refused));
    let report = world.apply(&tcp().and_fc()).unwrap();
    let publish = format!(
        "publish subsystem {} at port 10, {}",
        subsystem(1),
        fc_port()
    );
    assert_eq!(report.steps, [publish]);
    let both = [Transport::NvmeTcp, Transport::NvmeFc];
    assert_eq!(world.volume(&volume(1)).exported, both);
    assert_eq!(connect(Some(key(1))), Ok(()));
    assert_eq!(connect(None), Err(Denied::Authentication));
    assert!(world.apply(&tcp().and_fc()).unwrap().steps.is_empty());
    let report = world.apply(&tcp()).unwrap();
    let withdrawn = format!("withdraw subsystem {} from port 10", subsystem(1));
    assert_eq!(report.steps, [withdrawn]);
    assert_eq!(connect(Some(key(1))), Err(Denied::Refused));
}

#[test]
fn a_port_of_fibre_channel_that_is_not_there_keeps_nobody_from_the_others() {
    // Whether its turn comes before that of the others or after.
    for number in [1, 20] {
        let world = World::pooled();
        let host = nvme_host("alpha");
        let connect = |at| {
            let of = subsystem(1);
            let seen = world.kernel.nvme_connect_fc(at, &of, &host, Some(&key(1)));
            seen.map(drop)
        };
        world.kernel.lose_fc_port(fc_port());
        let wanted = || {
            let tcp = volume(1).nvme_at(&[1], [("alpha", Some(1))]);
            tcp.and_fc_by(number).and_other_fc()
        };
        let report = world.apply(&wanted().new_data()).unwrap();
        let [unserved] = &report.unserved[..] else {
            panic!("{report:?}");
        };
        assert_eq!(unserved.at, ServedAt::NvmeFc(fc_port()));
        assert_eq!(unserved.transport, Transport::NvmeFc);
        assert!(!unserved.absent, "{unserved:?}");
        let told = &unserved.message;
        assert!(told.contains(&fc_port().to_string()), "{told}");
        assert_eq!(connect(other_fc_port()), Ok(()));
        assert_eq!(connect(fc_port()), Err(Denied::Refused));
        // It is asked for each time, and nothing else changes.
        let report = world.apply(&wanted()).unwrap();
        assert!(report.steps.is_empty(), "{report:?}");
        assert_eq!(report.unserved.len(), 1);

        world.kernel.find_fc_port(fc_port());
        assert_eq!(world.apply(&wanted()).unwrap().unserved, []);
        assert_eq!(connect(fc_port()), Ok(()));
    }
}

#[test]
fn without_any_port_of_fibre_channel_that_is_told_and_others_are_served() {
    let world = World::pooled();
    world.kernel.lose_fc_port(fc_port());
    let wanted = volume(1).nvme_at(&[1], [("alpha", Some(1))]).and_fc();
    let failure = world.apply(&wanted.new_data()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Address);
    let told = failure.to_string();
    assert!(told.contains(&fc_port().to_string()), "{told}");
    assert_eq!(world.volume(&volume(1)).exported, [Transport::NvmeTcp]);
}

#[test]
fn iser_joins_and_leaves_beside_iscsi() {
    let world = World::pooled();
    let tcp = || volume(1).iscsi(&["alpha"]);
    let login = || {
        let (at, chap) = (portal(0).socket(), chap("alpha", 1));
        let host = initiator("alpha");
        world
            .kernel
            .iser_login(at, &target(1), &host, Some(&chap))
            .map(drop)
    };
    world.apply(&tcp().new_data()).unwrap();
    assert_eq!(login(), Err(Denied::Refused));
    let report = world.apply(&tcp().and_iser(0)).unwrap();
    let portal = format!("portal {} of target {}", portal(0), target(1));
    assert_eq!(report.steps, [format!("open {portal} to RDMA")]);
    let both = [Transport::Iscsi, Transport::Iser];
    assert_eq!(world.volume(&volume(1)).exported, both);
    assert_eq!(login(), Ok(()));
    assert!(world.apply(&tcp().and_iser(0)).unwrap().steps.is_empty());
    let report = world.apply(&tcp()).unwrap();
    assert_eq!(report.steps, [format!("close {portal} to RDMA")]);
    assert_eq!(world.volume(&volume(1)).exported, [Transport::Iscsi]);
    assert_eq!(login(), Err(Denied::Refused));
}

#[test]
fn iser_has_portals_of_its_own() {
    let world = World::pooled();
    let alone = || volume(1).iscsi_at(&[], [("alpha", Some(1))]).and_iser(1);
    world.apply(&alone().new_data()).unwrap();
    let login = || {
        let (at, chap) = (portal(1).socket(), chap("alpha", 1));
        let host = initiator("alpha");
        world.kernel.iser_login(at, &target(1), &host, Some(&chap))
    };
    assert!(login().is_ok());
    let report = world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    let of = format!("of target {}", target(1));
    let (opened, closed) = (
        format!("open portal {} {of}", portal(0)),
        format!("close portal {} {of}", portal(1)),
    );
    assert_eq!(report.steps, [closed, opened]);
    assert_eq!(login(), Err(Denied::Refused));
}
