use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{GroupSource, GroupSpec, MemberCopy, Parent, ProblemCode};
use ashlar_targetd_protocol::{DataState, FailureKind, OpenObject, Request};
use tokio::sync::Notify;
use uuid::Uuid;

use super::rig::*;
use crate::engine::{Answer, Command};
use crate::targetd::fake::Behaviour;

fn of(n: u128) -> OpenObject {
    OpenObject::Volume(id(n))
}

/// Whether the kernel was last asked to keep the device of a volume.
fn held(rig: &Rig, n: u128) -> bool {
    rig.fake.last_applied(id(n)).is_some_and(|last| last.held)
}

async fn let_go(rig: &Rig, n: u128) {
    becomes(async || !held(rig, n)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_kept_for_as_long_as_anyone_has_it_open() {
    let rig = Rig::furnished().await;
    rig.ask(volume(id(1), 64 << 20)).await.unwrap();
    assert!(!held(&rig, 1));
    let first = rig.engine.open(of(1), true).await.unwrap();
    let second = rig.engine.open(of(1), false).await.unwrap();
    assert!(held(&rig, 1));
    first.device.file.write_all_at(b"data", 0).unwrap();
    drop(first);
    let mut read = [0; 4];
    second.device.file.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(&read, b"data");
    // What is changed meanwhile does not take it away.
    rig.ask(extend(id(1), 128 << 20)).await.unwrap();
    assert!(held(&rig, 1));
    drop(second);
    let_go(&rig, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_not_opened() {
    let rig = Rig::furnished().await;
    for object in [of(9), OpenObject::Snapshot(Uuid::from_u128(9))] {
        let problem = rig.engine.open(object, false).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_cannot_be_opened_is_let_go() {
    let rig = Rig::furnished().await;
    rig.ask(volume(id(1), 64 << 20)).await.unwrap();
    let behaviour = Behaviour::Fail(FailureKind::InUse);
    rig.fake.rule(1, behaviour, |request| {
        matches!(request, Request::OpenDevice { .. })
    });
    let problem = rig.engine.open(of(1), true).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::InUse);
    let_go(&rig, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_held_after_a_restart() {
    let rig = Rig::furnished().await;
    rig.ask(volume(id(1), 64 << 20)).await.unwrap();
    let opened = rig.engine.open(of(1), false).await.unwrap();
    assert!(held(&rig, 1));
    let rig = rig.kill().await;
    let_go(&rig, 1).await;
    drop(opened);
}

/// A device of which something is made rests meanwhile, and whoever made it may have failed to
/// let it go on.
#[tokio::test(flavor = "multi_thread")]
async fn what_rested_for_something_that_is_not_made_after_all_is_looked_at() {
    let rig = Rig::furnished().await;
    rig.ask(volume(id(1), 64 << 20)).await.unwrap();
    rig.ask(snapshot(id(2), id(1))).await.unwrap();
    let opened = rig.engine.open(OpenObject::Snapshot(id(2)), false).await;
    let opened = opened.unwrap();
    rig.fake.kernel().calls.clear();

    let behaviour = || Behaviour::FailAfter(FailureKind::NoSpace);
    let makes = |request: &Request| match request {
        Request::ApplyVolume(desired) => desired.data == DataState::Provision,
        Request::ApplySnapshots(desired) => desired.data == DataState::Provision,
        _ => false,
    };
    rig.fake.rule(2, behaviour(), makes);
    let copy = clone(id(3), Parent::Snapshot(id(2)), None);
    rig.ask(copy).await.unwrap_err();
    let held = |request: &Request| match request {
        Request::ApplySnapshots(desired) => desired.id == id(2) && desired.members[0].held,
        _ => false,
    };
    asked(&rig, held).await;
    rig.ask(snapshot(id(4), id(1))).await.unwrap_err();
    let volume = |request: &Request| match request {
        Request::ApplyVolume(desired) => desired.id == id(1),
        _ => false,
    };
    asked(&rig, volume).await;
    drop(opened);
}

async fn asked(rig: &Rig, request: impl Fn(&Request) -> bool) {
    becomes(async || rig.fake.kernel().calls.iter().any(&request)).await;
}

/// It would be made by itself, at another instant than the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_made_with_its_group_is_not_opened_before() {
    let rig = Rig::furnished().await;
    rig.ask(volume(id(1), 64 << 20)).await.unwrap();
    let spec = |volumes: Vec<Uuid>, source| GroupSpec {
        name: "group".parse().unwrap(),
        volumes,
        source,
    };
    let (group, copies) = (id(0x90), id(0x91));
    let command = Command::GroupCreate {
        id: group,
        spec: spec(vec![id(1)], None),
    };
    rig.ask(command).await.unwrap();
    let release = Arc::new(Notify::new());
    let hold = Behaviour::Hold(Arc::clone(&release));
    let makes = |request: &Request| matches!(request, Request::ApplySnapshots(_));
    rig.fake.rule(1, hold, makes);
    let pairs = vec![MemberCopy {
        source: id(1),
        volume: id(2),
    }];
    let source = GroupSource {
        group: Some(group),
        group_snapshot: None,
        volumes: pairs,
    };
    let command = Command::GroupCreate {
        id: copies,
        spec: spec(Vec::new(), Some(source)),
    };
    let asked = rig.ask_as(id(9), command.clone(), Duration::from_millis(20));
    assert!(matches!(asked.await, Ok(Answer::Accepted(_))));
    let busy = rig.engine.open(of(2), false).await.unwrap_err();
    assert_eq!(busy.code, ProblemCode::Busy);
    assert_eq!(rig.fake.last_applied(id(2)), None);
    release.notify_one();
    rig.ask_as(id(9), command, LONG).await.unwrap();
    rig.engine.open(of(2), false).await.unwrap();
}
