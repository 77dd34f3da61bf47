//! Each rule by name. A row is a command and what it comes to in a furnished world.

use ashlar_protocol::volume::MAX_SIZE;
use ashlar_protocol::{
    Access, AdoptSpec, Authentication, ChapCredentials, ChapName, ChapSecret, FreezeSpec,
    HostRotation, HostSecrets, HostSpec, PoolSpec, ProblemCode, Transport,
};

use super::*;
use crate::domain::record::{BoxRecord, ConnectionPhase, Key, PoolPhase, VolumePhase};
use crate::domain::samples::*;

use ProblemCode::*;

mod adopt;
mod clearing;
mod data;
mod groups;
mod moving;
mod pools;
mod portals;
mod redundancy;
mod scratch;
mod snapshots;
mod transfer;
mod update;
mod watermarks;

fn refused(world: &mut World, command: Command) -> Problem {
    let before = world.intent.clone();
    let problem = match world.decide(&command) {
        Err(problem) => problem,
        other => panic!("{command:?}: {other:?}"),
    };
    assert_eq!(world.intent, before);
    problem
}

#[track_caller]
fn refuses(world: &mut World, command: Command, code: ProblemCode, words: &str) {
    let problem = refused(world, command.clone());
    assert_eq!(problem.code, code, "{command:?}: {problem}");
    assert!(problem.detail.contains(words), "{command:?}: {problem}");
}

/// All is as asked: the request is remembered, and nothing else changes.
#[track_caller]
fn unchanged(world: &mut World, command: Command) {
    only_remembers(world, command, None);
}

/// What is asked is under way: a request to wait by, and nothing else.
#[track_caller]
fn joins(world: &mut World, command: Command, unit: Unit) {
    only_remembers(world, command, Some(unit));
}

#[track_caller]
fn only_remembers(world: &mut World, command: Command, unit: Option<Unit>) {
    match world.decide(&command) {
        Ok(Decision::Change(change, reply)) => {
            assert_eq!((change.unit, reply.made), (unit, false));
            let keys: Vec<_> = change.edits.iter().map(key).collect();
            assert!(
                matches!(keys[..], [Key::Clock, Key::Request(_)]),
                "{keys:?}"
            );
        }
        other => panic!("{command:?}: {other:?}"),
    }
}

fn key(edit: &Edit) -> Key {
    match edit {
        Edit::Put(record) => record.key(),
        Edit::Remove(key) => *key,
    }
}

fn pool_with(edit: impl FnOnce(&mut PoolSpec)) -> Command {
    let mut spec = pool_spec(&["serial-DISK1"]);
    edit(&mut spec);
    Command::PoolCreate { id: id(1), spec }
}

fn host_with(edit: impl FnOnce(&mut HostSpec)) -> Command {
    let mut spec = host_spec(7);
    edit(&mut spec);
    Command::HostCreate { id: id(1), spec }
}

fn chap(secret: &str) -> Option<ChapCredentials> {
    Some(ChapCredentials {
        name: ChapName::try_from("user".to_owned()).unwrap(),
        secret: ChapSecret::try_from(secret.to_owned()).unwrap(),
    })
}

#[test]
fn a_pool_takes_one_to_64_disks_each_once_and_no_others_pool() {
    let world = &mut World::furnished();
    refuses(world, pool(id(1), &[]), InvalidField, "not 0");
    let many: Vec<String> = (0..65).map(|n| format!("serial-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    refuses(world, pool(id(1), &many), InvalidField, "not 65");
    let twice = pool(id(1), &["serial-DISK1", "serial-DISK1"]);
    refuses(world, twice, InvalidField, "serial-DISK1 is named twice");
    refuses(
        world,
        pool(id(1), &["serial-DISK0"]),
        InUse,
        &POOL.to_string(),
    );
    refuses(
        world,
        pool(id(1), &["serial-NONE"]),
        NotFound,
        "no disk serial-NONE",
    );
}

#[test]
fn a_pool_takes_no_disk_in_use_and_none_that_holds_something_unless_wiped() {
    let mut world = World::empty();
    world.disks[1].content = Some("an ext4 file system".to_owned());
    refuses(&mut world, pool_with(|_| ()), NotBlank, "ext4");
    let wiped = pool_with(|spec| spec.wipe = true);
    assert!(world.decide(&wiped).is_ok());
    world.disks[1].in_use = true;
    refuses(&mut world, wiped, InUse, "serial-DISK1 is in use");
}

#[test]
fn a_pool_does_not_take_over_what_an_unknown_pool_of_its_id_left() {
    let mut world = World::empty();
    world.disks[1].content = Some("disk 1 of 1 of a pool".to_owned());
    world.disks[1].pool = Some(id(1));
    refuses(&mut world, pool_with(|_| ()), NotBlank, "of a pool");
    let wiped = pool_with(|spec| spec.wipe = true);
    refuses(&mut world, wiped, NotBlank, "another id");
}

#[test]
fn block_and_metadata_sizes_have_their_ranges() {
    let world = &mut World::furnished();
    for bad in [0, 1, 65_535, 65_537, (1 << 30) + 65_536] {
        refuses(
            world,
            pool_with(|s| s.block_size = Some(bad)),
            OutOfRange,
            "block size",
        );
    }
    for bad in [
        0,
        MIN_METADATA - 4096,
        MIN_METADATA + 1,
        MAX_METADATA + 4096,
    ] {
        refuses(
            world,
            pool_with(|s| s.metadata_size = Some(bad)),
            OutOfRange,
            "metadata size",
        );
    }
    for good in [65_536, 196_608, 1 << 30 >> 1] {
        assert!(
            world
                .decide(&pool_with(|s| s.block_size = Some(good)))
                .is_ok()
        );
    }
}

#[test]
fn a_pool_needs_room_for_metadata_and_a_block() {
    let world = &mut World::furnished();
    refuses(
        world,
        pool_with(|s| s.metadata_size = Some(2 << 30)),
        NoSpace,
        "too few",
    );
    refuses(
        world,
        pool_with(|s| s.block_size = Some(1 << 30)),
        NoSpace,
        "too few",
    );
}

#[test]
fn metadata_is_sized_for_the_disks_when_nobody_says() {
    let mut world = World::empty();
    world.does(pool(POOL, &["serial-DISK0", "serial-DISK1"]));
    let record = &world.intent.pool(POOL).unwrap().record;
    assert_eq!(record.metadata_size, 64 * MIB);
    assert_eq!(record.block_size, DEFAULT_BLOCK_SIZE);
    assert_eq!(record.phase, PoolPhase::Creating);
    // A part in 256, in whole MiB, behind the metadata.
    let catalog = record.catalog.unwrap();
    assert_eq!((catalog.place, catalog.size), (0, 7 * MIB));
    assert_eq!(record.metadata_room(0), 71 * MIB);
    // A quarter of the blocks.
    assert_eq!(
        record.low_water_blocks,
        ((2 << 30) - 8 * MIB - 71 * MIB) / DEFAULT_BLOCK_SIZE / 4
    );
}

#[test]
fn a_pool_asked_for_again_is_found_or_taken() {
    let world = &mut World::furnished();
    unchanged(world, pool(POOL, &["serial-DISK0"]));
    refuses(
        world,
        pool(POOL, &["serial-DISK1"]),
        AlreadyExists,
        "not as asked",
    );
    world.does(pool(id(1), &["serial-DISK1"]));
    joins(world, pool(id(1), &["serial-DISK1"]), Unit::Pool(id(1)));
}

#[test]
fn a_volume_has_1_byte_to_the_maximum_rounded_up_to_1_mib() {
    let world = &mut World::furnished();
    for bad in [0, MAX_SIZE + 1, u64::MAX] {
        refuses(world, volume(id(1), bad), OutOfRange, "size");
        refuses(world, extend(VOLUME, bad), OutOfRange, "size");
    }
    for (asked, size) in [(1, MIB), (MIB, MIB), (MIB + 1, 2 * MIB)] {
        let mut world = world.clone();
        world.does(volume(id(1), asked));
        assert_eq!(world.intent.volume(id(1)).unwrap().record.size, size);
    }
}

#[test]
fn a_volume_is_no_larger_than_its_pool() {
    let world = &mut World::furnished();
    refuses(
        world,
        volume(id(1), CAPACITY + 1),
        NoSpace,
        &CAPACITY.to_string(),
    );
    refuses(
        world,
        extend(VOLUME, CAPACITY + 1),
        NoSpace,
        &CAPACITY.to_string(),
    );
    // Thin: together they may be.
    world.does(volume(id(1), CAPACITY));
    world.does(volume(id(2), CAPACITY));
    assert_eq!(
        world.intent.pool(POOL).unwrap().provisioned,
        2 * CAPACITY + 10 * MIB
    );
}

#[test]
fn a_volume_needs_a_pool_that_was_made() {
    let mut world = World::empty();
    refuses(&mut world, volume(VOLUME, MIB), NotFound, "pool");
    world.does(pool(POOL, &["serial-DISK0"]));
    refuses(&mut world, volume(VOLUME, MIB), Busy, "being created");
    world.settle(Unit::Pool(POOL));
    world.does(volume(VOLUME, MIB));
}

#[test]
fn thin_ids_rise_and_none_is_given_twice() {
    let world = &mut World::furnished();
    let thin = |world: &World, v| world.intent.volume(v).unwrap().record.thin_id.value();
    assert_eq!(thin(world, VOLUME), 0);
    world.does(volume(id(1), MIB));
    assert_eq!(thin(world, id(1)), 1);
    world.settle(Unit::Volume(id(1)));
    world.does(Command::VolumeDelete { id: id(1) });
    world.settle(Unit::Volume(id(1)));
    world.does(volume(id(1), MIB));
    assert_eq!(thin(world, id(1)), 2);
}

#[test]
fn a_pool_without_thin_ids_left_has_no_room() {
    let world = &mut World::furnished();
    let counter = crate::domain::record::ThinCounter { next: 0xff_ffff };
    let last = Edit::put(Record::ThinCounter(POOL, counter));
    world.intent.apply(&last).unwrap();
    world.does(volume(id(1), MIB));
    refuses(world, volume(id(2), MIB), NoSpace, "thin device ids");
}

#[test]
fn a_volume_asked_for_again_is_found_or_taken() {
    let world = &mut World::furnished();
    unchanged(world, volume(VOLUME, 10 * MIB));
    unchanged(world, volume(VOLUME, 10 * MIB - 1));
    refuses(
        world,
        volume(VOLUME, 11 * MIB),
        AlreadyExists,
        "not as asked",
    );
    world.does(volume(id(1), MIB));
    joins(world, volume(id(1), MIB), Unit::Volume(id(1)));
}

#[test]
fn a_volume_grows_and_never_shrinks() {
    let world = &mut World::furnished();
    refuses(
        world,
        extend(VOLUME, 9 * MIB),
        OutOfRange,
        "does not shrink",
    );
    refuses(world, extend(id(1), MIB), NotFound, "volume");
    unchanged(world, extend(VOLUME, 10 * MIB));
    assert_eq!(
        world.does(extend(VOLUME, 11 * MIB)),
        Some(Unit::Volume(VOLUME))
    );
    assert_eq!(world.intent.volume(VOLUME).unwrap().record.size, 11 * MIB);
}

#[test]
fn growing_without_connections_is_nothing_to_the_kernel() {
    let world = &mut World::furnished();
    world.does(volume(id(1), MIB));
    world.settle(Unit::Volume(id(1)));
    world.kernel = false;
    assert_eq!(world.does(extend(id(1), 2 * MIB)), None);
}

#[test]
fn read_only_is_a_part_of_what_was_asked_for_and_takes_iscsi() {
    let world = &mut World::furnished();
    let reading = |id, host, transport| match attach(id, VOLUME, host, transport) {
        Command::ConnectionCreate { id, mut spec } => {
            spec.access = Access::ReadOnly;
            Command::ConnectionCreate { id, spec }
        }
        other => other,
    };
    world.does(reading(id(1), OTHER_HOST, Transport::Iscsi));
    world.settle(Unit::Volume(VOLUME));
    unchanged(world, reading(id(1), OTHER_HOST, Transport::Iscsi));
    let writing = attach(id(1), VOLUME, OTHER_HOST, Transport::Iscsi);
    refuses(world, writing, AlreadyExists, "is not as asked for");
    world.transports.insert(Transport::NvmeRdma);
    for transport in [Transport::NvmeTcp, Transport::NvmeRdma] {
        let nvme = reading(id(2), HOST, transport);
        refuses(world, nvme, Unsupported, "no read-only access");
    }
}

#[test]
fn what_is_attached_is_not_deleted() {
    let world = &mut World::furnished();
    let delete = Command::VolumeDelete { id: VOLUME };
    refuses(world, delete.clone(), InUse, "has 1 connection");
    world.does(attach(id(1), VOLUME, OTHER_HOST, Transport::NvmeTcp));
    refuses(world, delete, InUse, "has 2 connections");
    let host = Command::HostDelete { id: HOST };
    refuses(world, host, InUse, "has 1 connection");
}

#[test]
fn a_volume_being_made_or_destroyed_is_busy() {
    let world = &mut World::furnished();
    let attached = attach(id(2), id(1), HOST, Transport::Iscsi);
    world.does(volume(id(1), MIB));
    refuses(world, attached.clone(), Busy, "being created");
    refuses(world, extend(id(1), 2 * MIB), Busy, "being created");
    // It may be deleted: that is how one that cannot be made is got rid of.
    world.does(Command::VolumeDelete { id: id(1) });
    assert_eq!(
        world.intent.volume(id(1)).unwrap().record.phase,
        VolumePhase::Deleting
    );
    refuses(world, attached, Busy, "being deleted");
    refuses(world, extend(id(1), 2 * MIB), Busy, "being deleted");
    refuses(world, volume(id(1), MIB), Busy, "being deleted");
}

#[test]
fn removing_what_is_being_removed_waits_for_the_same_end() {
    let world = &mut World::furnished();
    world.does(detach(CONNECTION));
    joins(world, detach(CONNECTION), Unit::Volume(VOLUME));
    world.settle(Unit::Volume(VOLUME));
    world.does(Command::VolumeDelete { id: VOLUME });
    joins(
        world,
        Command::VolumeDelete { id: VOLUME },
        Unit::Volume(VOLUME),
    );
}

#[test]
fn force_cuts_off_one_host_even_while_it_is_asked_to_let_go() {
    let world = &mut World::furnished();
    let phase = |world: &World| world.intent.connection(CONNECTION).unwrap().phase;
    world.does(detach(CONNECTION));
    assert_eq!(phase(world), ConnectionPhase::Detaching);
    let forced = Command::ConnectionDelete {
        id: CONNECTION,
        force: true,
    };
    world.does(forced.clone());
    assert_eq!(phase(world), ConnectionPhase::Cutting);
    joins(world, forced, Unit::Volume(VOLUME));
    joins(world, detach(CONNECTION), Unit::Volume(VOLUME));
}

#[test]
fn what_does_not_exist_is_not_found() {
    let world = &mut World::furnished();
    for command in [
        Command::VolumeDelete { id: id(1) },
        Command::VolumeDetachAll { id: id(1) },
        Command::HostDelete { id: id(1) },
        detach(id(1)),
        attach(id(2), id(1), HOST, Transport::Iscsi),
        attach(id(2), VOLUME, id(1), Transport::Iscsi),
    ] {
        refuses(world, command, NotFound, &id(1).to_string());
    }
}

fn rotate(edit: impl FnOnce(&mut HostRotation)) -> Command {
    let mut spec = Box::<HostRotation>::default();
    edit(&mut spec);
    Command::HostRotate { id: HOST, spec }
}

fn secrets(world: &World) -> HostSecrets {
    world.intent.host(HOST).unwrap().record.secrets.clone()
}

#[test]
fn all_secrets_of_a_host_are_new_after_they_were_rotated() {
    let world = &mut World::furnished();
    let before = secrets(world);
    let given = chap("given-given-1");
    world.does(rotate(|spec| spec.secrets.chap = given.clone()));
    let after = secrets(world);
    assert_eq!(after.chap, given);
    assert_ne!(after.dhchap, before.dhchap);
    assert!(after.dhchap.is_some());
    assert_eq!(
        (&after.chap_mutual, &after.dhchap_controller),
        (&None, &None)
    );
}

#[test]
fn a_rotation_concerns_the_volumes_of_the_host_and_the_kernel_only_if_there_are_any() {
    let world = &mut World::furnished();
    let unit = |world: &mut World, command: &Command| match world.decide(command) {
        Ok(Decision::Change(change, _)) => change.unit,
        other => panic!("{other:?}"),
    };
    assert_eq!(unit(world, &rotate(|_| ())), Some(Unit::Host(HOST)));
    world.does(detach(CONNECTION));
    world.settle(Unit::Volume(VOLUME));
    assert_eq!(unit(world, &rotate(|_| ())), None);
}

#[test]
fn the_box_goes_on_proving_itself_unless_told_to_stop() {
    let world = &mut World::furnished();
    world.does(rotate(|spec| {
        spec.authentication = Some(Authentication::Mutual);
    }));
    let first = secrets(world);
    assert!(first.chap_mutual.is_some() && first.dhchap_controller.is_some());
    assert_ne!(first.chap, first.chap_mutual);
    world.does(rotate(|_| ()));
    let second = secrets(world);
    assert!(second.chap_mutual.is_some() && second.chap_mutual != first.chap_mutual);
    let stop = |spec: &mut HostRotation| spec.authentication = Some(Authentication::Required);
    world.does(rotate(stop));
    let third = secrets(world);
    assert_eq!((third.chap_mutual, third.dhchap_controller), (None, None));
    // Given without the word for it, that goes on, too.
    world.does(rotate(|spec| {
        spec.secrets.chap_mutual = chap("given-given-1")
    }));
    world.does(rotate(|_| ()));
    let fourth = secrets(world);
    assert!(fourth.chap_mutual.is_some() && fourth.chap_mutual != chap("given-given-1"));
    assert_eq!(fourth.dhchap_controller, None);
}

#[test]
fn a_host_without_authentication_has_nothing_to_rotate_but_may_begin_to_need_it() {
    let world = &mut World::furnished();
    let open = |spec: &mut HostRotation| spec.authentication = Some(Authentication::None);
    world.does(rotate(open));
    assert_eq!(secrets(world), HostSecrets::default());
    refuses(world, rotate(|_| ()), WrongState, "has no secrets");
    let given = |spec: &mut HostRotation| spec.secrets.chap = chap("given-given-1");
    refuses(world, rotate(given), InvalidField, "has no secrets");
    let close = |spec: &mut HostRotation| spec.authentication = Some(Authentication::Required);
    world.does(rotate(close));
    assert!(secrets(world).chap.is_some());
}

#[test]
fn host_and_box_never_prove_the_same_secret() {
    let world = &mut World::furnished();
    let same = |spec: &mut HostRotation| {
        spec.secrets.chap = chap("given-given-1");
        spec.secrets.chap_mutual = chap("given-given-1");
    };
    refuses(world, rotate(same), InvalidField, "different secrets");
    let key = secrets(world).dhchap.unwrap();
    let transformed = key.expose().replace("DHHC-1:00:", "DHHC-1:01:");
    for other in [key.clone(), transformed.try_into().unwrap()] {
        let same = |spec: &mut HostRotation| {
            spec.secrets.dhchap = Some(key.clone());
            spec.secrets.dhchap_controller = Some(other);
        };
        let why = "different DH-HMAC-CHAP keys";
        refuses(world, rotate(same), InvalidField, why);
    }
}

#[test]
fn secrets_are_not_rotated_while_a_volume_of_the_host_cannot_get_them() {
    let world = &mut World::furnished();
    for unit in [Unit::Pool(POOL), Unit::Volume(VOLUME)] {
        world.troubled = [(unit, Problem::new(KernelFailed, "it says no"))].into();
        refuses(world, rotate(|_| ()), WrongState, "it says no");
    }
}

#[test]
fn secrets_are_rotated_past_trouble_by_who_knows_them_and_where_they_are_mixed_already() {
    let world = &mut World::furnished();
    let key = secrets(world).dhchap;
    let all = |spec: &mut HostRotation| {
        spec.secrets.chap = chap("given-given-1");
        spec.secrets.dhchap = key;
    };
    let no = Problem::new(KernelFailed, "it says no");
    world.troubled.insert(Unit::Volume(VOLUME), no);
    world.does(rotate(all));
    refuses(world, rotate(|_| ()), WrongState, "it says no");
    world.behind.insert(Unit::Host(HOST));
    world.does(rotate(|_| ()));
}

#[test]
fn no_two_hosts_have_the_same_name_on_the_wire() {
    let world = &mut World::furnished();
    let iqn = host_spec(0).iqn;
    refuses(
        world,
        host_with(|h| h.iqn = iqn),
        Duplicate,
        &HOST.to_string(),
    );
    let nqn = host_spec(1).nqn;
    refuses(
        world,
        host_with(|h| h.nqn = nqn.clone()),
        Duplicate,
        &OTHER_HOST.to_string(),
    );
    // A deleted host's names are free.
    world.does(Command::HostDelete { id: OTHER_HOST });
    world.does(host_with(|h| h.nqn = nqn));
}

#[test]
fn a_host_has_a_name_on_some_wire() {
    let world = &mut World::furnished();
    let nameless = host_with(|h| (h.iqn, h.nqn) = (None, None));
    refuses(world, nameless, InvalidField, "iSCSI name");
}

#[test]
fn secrets_are_generated_where_they_are_needed_and_absent() {
    let secrets = |edit: fn(&mut HostSpec)| {
        let mut world = World::empty();
        world.does(host_with(edit));
        world.intent.host(id(1)).unwrap().record.secrets.clone()
    };
    let both = secrets(|_| {});
    assert!(both.chap.is_some() && both.dhchap.is_some());
    assert!(both.chap_mutual.is_none() && both.dhchap_controller.is_none());
    let iscsi = secrets(|h| h.nqn = None);
    assert!(iscsi.chap.is_some() && iscsi.dhchap.is_none());
    let nvme = secrets(|h| h.iqn = None);
    assert!(nvme.chap.is_none() && nvme.dhchap.is_some());
    let open = secrets(|h| h.authentication = Authentication::None);
    assert_eq!(open, HostSecrets::default());
    let given = secrets(|h| h.secrets.chap = chap("secretsecret"));
    assert_eq!(given.chap, chap("secretsecret"));
}

#[test]
fn secrets_that_could_not_work_are_refused() {
    let world = &mut World::furnished();
    let open_with_secret = host_with(|h| {
        h.authentication = Authentication::None;
        h.secrets.chap = chap("secretsecret");
    });
    refuses(
        world,
        open_with_secret,
        InvalidField,
        "without authentication",
    );
    let same_both_ways = host_with(|h| {
        h.secrets.chap = chap("secretsecret");
        h.secrets.chap_mutual = chap("secretsecret");
    });
    refuses(world, same_both_ways, InvalidField, "different secrets");
    let key = format!("DHHC-1:00:{}:", "A".repeat(48));
    let without_crc = host_with(|h| h.secrets.dhchap = Some(key.try_into().unwrap()));
    refuses(world, without_crc, InvalidField, "CRC-32");
}

#[test]
fn a_host_asked_for_again_is_found_or_taken() {
    let world = &mut World::furnished();
    unchanged(world, host(HOST, 0));
    refuses(world, host(HOST, 5), AlreadyExists, "not as asked");
    let mut spec = host_spec(0);
    spec.secrets.chap = chap("othersecret12");
    refuses(
        world,
        Command::HostCreate { id: HOST, spec },
        AlreadyExists,
        "not as asked",
    );
}

#[test]
fn a_host_is_attached_by_a_name_it_has() {
    let world = &mut World::furnished();
    world.does(host_with(|h| h.nqn = None));
    let nvme = attach(id(2), VOLUME, id(1), Transport::NvmeTcp);
    refuses(world, nvme, WrongState, "no NVMe name");
    world.does(attach(id(2), VOLUME, id(1), Transport::Iscsi));
}

#[test]
fn one_of_two_ways_to_a_target_is_not_cut_off_by_force() {
    for (tcp, rdma) in [
        (Transport::NvmeTcp, Transport::NvmeRdma),
        (Transport::Iscsi, Transport::Iser),
    ] {
        let world = &mut World::furnished();
        world.transports.insert(rdma);
        let (one, other) = (id(1), id(2));
        world.does(attach(one, VOLUME, OTHER_HOST, tcp));
        world.does(attach(other, VOLUME, OTHER_HOST, rdma));
        let forced = |id| Command::ConnectionDelete { id, force: true };
        refuses(world, forced(one), WrongState, &other.to_string());
        world.does(detach(one));
        world.does(forced(other));
        // That of another host does not matter.
        world.does(forced(CONNECTION));
    }
}

#[test]
fn a_host_has_the_same_access_by_both_ways_to_a_target() {
    let world = &mut World::furnished();
    world.transports.insert(Transport::Iser);
    let reading = |transport| match attach(id(1), VOLUME, HOST, transport) {
        Command::ConnectionCreate { id, mut spec } => {
            spec.access = Access::ReadOnly;
            Command::ConnectionCreate { id, spec }
        }
        other => other,
    };
    let told = &CONNECTION.to_string();
    refuses(world, reading(Transport::Iser), WrongState, told);
    world.does(attach(id(1), VOLUME, HOST, Transport::Iser));
}

#[test]
fn a_transport_without_an_address_is_not_supported() {
    let world = &mut World::furnished();
    world.transports = [Transport::Iscsi].into();
    let nvme = attach(id(1), VOLUME, OTHER_HOST, Transport::NvmeTcp);
    refuses(world, nvme, Unsupported, "nvme-tcp");
}

#[test]
fn one_connection_per_volume_host_and_transport() {
    let world = &mut World::furnished();
    let same = attach(id(1), VOLUME, HOST, Transport::Iscsi);
    refuses(world, same.clone(), Duplicate, &CONNECTION.to_string());
    world.does(attach(id(2), VOLUME, HOST, Transport::NvmeTcp));
    world.does(attach(id(3), VOLUME, OTHER_HOST, Transport::Iscsi));
    world.does(detach(CONNECTION));
    refuses(world, same, Busy, "being detached");
}

#[test]
fn a_connection_asked_for_again_is_found_or_taken() {
    let world = &mut World::furnished();
    unchanged(world, attach(CONNECTION, VOLUME, HOST, Transport::Iscsi));
    let other = attach(CONNECTION, VOLUME, HOST, Transport::NvmeTcp);
    refuses(world, other, AlreadyExists, "not as asked");
    world.behind.insert(Unit::Volume(VOLUME));
    let same = attach(CONNECTION, VOLUME, HOST, Transport::Iscsi);
    joins(world, same.clone(), Unit::Volume(VOLUME));
    world.does(detach(CONNECTION));
    refuses(world, same, Busy, "being detached");
}

#[test]
fn a_volume_has_a_bounded_number_of_connections() {
    let world = &mut World::furnished();
    for n in 1..=connection::MAX_CONNECTIONS {
        world.does(host(id(0x1000 + u128::from(n)), 100 + n as u32));
    }
    for n in 1..connection::MAX_CONNECTIONS {
        let host = id(0x1000 + u128::from(n));
        world.does(attach(
            id(0x2000 + u128::from(n)),
            VOLUME,
            host,
            Transport::Iscsi,
        ));
    }
    let host = id(0x1000 + u128::from(connection::MAX_CONNECTIONS));
    let one_more = attach(id(0x3000), VOLUME, host, Transport::Iscsi);
    refuses(world, one_more, WrongState, "256 connections");
}

#[test]
fn detaching_all_cuts_every_host_off() {
    let world = &mut World::furnished();
    world.does(attach(id(1), VOLUME, OTHER_HOST, Transport::NvmeTcp));
    world.does(detach(id(1)));
    let all = Command::VolumeDetachAll { id: VOLUME };
    world.does(all.clone());
    for connection in [CONNECTION, id(1)] {
        let phase = world.intent.connection(connection).unwrap().phase;
        assert_eq!(phase, ConnectionPhase::Cutting);
    }
    joins(world, all.clone(), Unit::Volume(VOLUME));
    world.settle(Unit::Volume(VOLUME));
    unchanged(world, all);
}

#[test]
fn without_targetd_only_what_needs_no_kernel_goes_on() {
    let world = &mut World::furnished();
    world.kernel = false;
    for command in [
        pool(id(1), &["serial-DISK1"]),
        volume(id(1), MIB),
        extend(VOLUME, 11 * MIB),
        attach(id(1), VOLUME, OTHER_HOST, Transport::Iscsi),
        detach(CONNECTION),
        Command::VolumeDetachAll { id: VOLUME },
    ] {
        refuses(world, command, TargetdUnavailable, "targetd");
    }
    world.does(host(id(1), 9));
    unchanged(world, volume(VOLUME, 10 * MIB));
    refuses(world, volume(VOLUME, MIB), AlreadyExists, "");
}

#[test]
fn nothing_new_is_begun_in_a_pool_that_is_offline() {
    let world = &mut World::furnished();
    let trouble = Problem::new(KernelFailed, "disk 3 is gone");
    world.troubled.insert(Unit::Pool(POOL), trouble);
    refuses(world, volume(id(1), MIB), WrongState, "disk 3 is gone");
    let attached = attach(id(1), VOLUME, OTHER_HOST, Transport::Iscsi);
    refuses(world, attached, WrongState, "not online");
    // What is there can still be taken away.
    world.does(detach(CONNECTION));
}

#[test]
fn a_request_id_stands_for_one_request() {
    let world = &mut World::furnished();
    let command = volume(id(1), MIB);
    let request = id(0xeeee);
    let Ok(Decision::Change(change, _)) = world.decide_as(request, &command) else {
        panic!("not a change")
    };
    for edit in &change.edits {
        world.intent.apply(edit).unwrap();
    }
    assert_eq!(
        world.decide_as(request, &command),
        Ok(Decision::Repeat(request))
    );
    let problem = world.decide_as(request, &volume(id(2), MIB)).unwrap_err();
    assert_eq!(problem.code, RequestIdReused);
}

#[test]
fn the_oldest_requests_are_forgotten_in_the_change_that_needs_their_room() {
    let world = &mut World::furnished();
    let before = world.intent.requests().len();
    for n in 0..KEPT_REQUESTS - before {
        let command = match n % 2 {
            0 => host(id(1), 9),
            _ => Command::HostDelete { id: id(1) },
        };
        world.does(command);
    }
    assert_eq!(world.intent.requests().len(), KEPT_REQUESTS);
    let oldest = world.intent.requests_by_age().next().unwrap().0;
    let Ok(Decision::Change(change, _)) = world.decide(&host(id(2), 10)) else {
        panic!("not a change")
    };
    assert!(change.edits.contains(&Edit::Remove(Key::Request(oldest))));
    for edit in &change.edits {
        world.intent.apply(edit).unwrap();
    }
    assert_eq!(world.intent.requests().len(), KEPT_REQUESTS);
}

#[test]
fn a_request_under_way_is_not_forgotten_before_younger_ones_that_ended() {
    let world = &mut World::furnished();
    world.does(extend(VOLUME, 20 * MIB));
    let under_way = id(world.requests);
    world.behind.insert(Unit::Volume(VOLUME));
    for n in 0..KEPT_REQUESTS {
        let command = match n % 2 {
            0 => host(id(1), 9),
            _ => Command::HostDelete { id: id(1) },
        };
        world.does(command);
    }
    assert_eq!(world.intent.requests().len(), KEPT_REQUESTS);
    assert!(world.intent.request(under_way).is_some());
    // It has ended, and so have the older ones that made and attached the volume.
    world.behind.clear();
    for n in 10..13 {
        world.does(host(id(n.into()), n));
    }
    assert_eq!(world.intent.request(under_way), None);
}

fn frozen() -> World {
    let mut world = World::furnished();
    let site = BoxRecord {
        id: id(0xb0c5),
        nvme_ports: Default::default(),
        rdma_ports: Default::default(),
        fc_ports: Default::default(),
        frozen: None,
        firmware: None,
        managed: Default::default(),
        shut: Default::default(),
    };
    world.intent.apply(&Edit::put(Record::Box(site))).unwrap();
    let spec = FreezeSpec {
        reason: Some("moving house".parse().unwrap()),
    };
    let id = id(0xb0c5);
    world.does(Command::SystemFreeze { id, spec });
    world
}

#[test]
fn a_frozen_box_takes_no_change_until_it_is_thawed() {
    let world = &mut frozen();
    for command in [
        volume(id(1), MIB),
        host(id(2), 7),
        extend(VOLUME, 20 * MIB),
        Command::ConnectionDelete {
            id: CONNECTION,
            force: false,
        },
        Command::VolumeDetachAll { id: VOLUME },
        pool(id(3), &["serial-DISK2"]),
    ] {
        refuses(world, command, Frozen, "frozen (moving house)");
    }
    let id = id(0xb0c5);
    world.does(Command::SystemThaw { id });
    assert_eq!(world.intent.frozen(), None);
    world.does(extend(VOLUME, 20 * MIB));
}

#[test]
fn freezing_again_keeps_the_first_reason() {
    let world = &mut frozen();
    let before = world.intent.frozen().cloned();
    let (id, spec) = (id(0xb0c5), FreezeSpec::default());
    world.does(Command::SystemFreeze { id, spec });
    assert_eq!(world.intent.frozen().cloned(), before);
    world.does(Command::SystemThaw { id });
    world.does(Command::SystemThaw { id });
}

#[test]
fn a_request_of_before_the_freeze_is_answered_as_it_was() {
    let mut world = World::furnished();
    let request = world.requests + 1;
    world.does(volume(id(1), MIB));
    let mut frozen = frozen();
    let known = world.intent.request(id(request)).unwrap().clone();
    let edit = Edit::put(Record::Request(id(request), known));
    frozen.intent.apply(&edit).unwrap();
    let repeated = frozen.decide_as(id(request), &volume(id(1), MIB));
    assert_eq!(repeated, Ok(Decision::Repeat(id(request))));
}
