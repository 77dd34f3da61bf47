use std::os::unix::fs::FileExt;

use ashlar_protocol::ProblemCode;
use ashlar_targetd_protocol::{FailureKind, OpenObject, Request};
use uuid::Uuid;

use super::rig::*;
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
