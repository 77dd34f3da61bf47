//! Handing devices to the agent.

use std::fs::File;
use std::os::unix::fs::FileExt;

use ashlar_kernel_iface::dm::DeviceMapper;
use ashlar_targetd::ours;
use ashlar_targetd::server::Caller;
use ashlar_targetd_protocol::{Bytes, FailureKind, OpenObject, Request, Response};

use crate::wanted::*;
use crate::world::{CALLER, World};

fn open(world: &World, object: OpenObject, write: bool) -> Result<(Bytes, File), FailureKind> {
    let answer = world.ask(CALLER, Request::OpenDevice { object, write });
    let answer = answer.map_err(|failure| failure.kind)?;
    match answer.response {
        Response::Opened { size } => Ok((size, answer.descriptor.unwrap().into())),
        other => panic!("{other:?}"),
    }
}

fn of_volume(n: u32) -> OpenObject {
    OpenObject::Volume(volume_id(n))
}

#[test]
fn only_an_active_device_is_opened() {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    assert_eq!(
        open(&world, of_volume(1), false).unwrap_err(),
        FailureKind::Missing
    );
    world.apply(&volume(1).held()).unwrap();
    let (size, file) = open(&world, of_volume(1), true).unwrap();
    assert_eq!(size, Bytes(8 << 20));
    file.write_all_at(b"data", 4096).unwrap();
    let mut read = [0; 4];
    let (_, again) = open(&world, of_volume(1), false).unwrap();
    again.read_exact_at(&mut read, 4096).unwrap();
    assert_eq!(&read, b"data");
}

#[test]
fn an_exported_volume_is_opened_for_reading_only() {
    let world = World::pooled();
    world.apply(&volume(1).new_data().nvme(&["alpha"])).unwrap();
    world
        .apply(&volume(2).new_data().iscsi(&["alpha"]))
        .unwrap();
    for n in [1, 2] {
        assert!(open(&world, of_volume(n), false).is_ok());
        assert_eq!(
            open(&world, of_volume(n), true).unwrap_err(),
            FailureKind::InUse
        );
    }
}

#[test]
fn a_snapshot_is_never_opened_for_writing() {
    let world = World::pooled();
    let object = OpenObject::Snapshot(volume_id(1));
    assert_eq!(
        open(&world, object, true).unwrap_err(),
        FailureKind::Refused
    );
    assert_eq!(
        open(&world, object, false).unwrap_err(),
        FailureKind::Missing
    );
}

#[test]
fn a_device_of_somebody_else_is_not_opened() {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    let dm = world.kernel.dm();
    let name = ours::volume_device(volume_id(1));
    dm.create(&name, &"theirs".to_owned().try_into().unwrap())
        .unwrap();
    assert_eq!(
        open(&world, of_volume(1), false).unwrap_err(),
        FailureKind::Foreign
    );
}

#[test]
fn a_device_stays_while_its_file_is_open() {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    world.apply(&volume(1).held()).unwrap();
    let (_, file) = open(&world, of_volume(1), false).unwrap();
    let refused = world.apply(&volume(1)).unwrap_err();
    assert_eq!(refused.kind, FailureKind::InUse);
    drop(file);
    world.apply(&volume(1)).unwrap();
    assert_eq!(world.volume(&volume(1)).active, None);
}

#[test]
fn metadata_of_a_pool_that_is_away_are_not_held() {
    let world = World::bare();
    let pool = pool_id(1);
    let refused = world.answer(Request::OpenMetadata { pool }).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Missing);
}

#[test]
fn metadata_are_let_go_when_who_asked_for_them_goes() {
    let world = World::pooled();
    let pool = pool_id(1);
    let answer = world
        .ask(Caller(7), Request::OpenMetadata { pool })
        .unwrap();
    assert!(answer.descriptor.is_some());
    world.gone(Caller(7));
    let taken: Vec<String> = world
        .kernel
        .take_log()
        .iter()
        .map(|step| step.operation.clone())
        .filter(|line| line.contains("metadata_snap"))
        .collect();
    assert_eq!(taken.len(), 2, "{taken:?}");
    // There is nothing left to release.
    assert_eq!(
        world.answer(Request::ReleaseMetadata { pool }).unwrap(),
        Response::Released
    );
}
