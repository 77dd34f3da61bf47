use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream as Pair;
use std::sync::Arc;
use std::time::Duration;

use ashlar_targetd_protocol::{FailureKind, OpenObject};
use tokio::sync::Notify;

use super::fake::{Behaviour, FakeTargetd};
use super::*;

async fn away(targetd: &Targetd) -> String {
    let mut link = targetd.link();
    let link = link.wait_for(|link| matches!(link, Link::Away(_))).await;
    match &*link.unwrap() {
        Link::Away(why) => why.clone(),
        Link::Up(_) => unreachable!("waited for the other"),
    }
}

#[tokio::test]
async fn replies_find_their_calls_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeTargetd::start(dir.path());
    let targetd = Targetd::start(fake.socket.clone());
    assert!(targetd.up().await);
    let release = Arc::new(Notify::new());
    let held = Behaviour::Hold(Arc::clone(&release));
    fake.rule(1, held, |request| *request == Request::ListObjects);

    let slow = tokio::spawn({
        let targetd = targetd.clone();
        async move { targetd.call(Request::ListObjects).await }
    });
    let quick = targetd.call(Request::ListDisks).await.unwrap();
    assert!(matches!(quick, Response::Disks(disks) if disks.len() == 6));
    assert!(!slow.is_finished());
    release.notify_one();
    assert!(matches!(
        slow.await.unwrap().unwrap(),
        Response::Objects { .. }
    ));
}

#[tokio::test]
async fn a_call_fails_at_once_while_targetd_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let targetd = Targetd::start(dir.path().join("nobody"));
    let error = targetd.call(Request::ListDisks).await.unwrap_err();
    assert!(matches!(error, CallError::Away(_)), "{error}");
}

#[tokio::test]
async fn a_call_under_way_is_lost_with_its_stream_and_the_next_finds_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeTargetd::start(dir.path());
    let targetd = Targetd::start(fake.socket.clone());
    assert!(targetd.up().await);
    fake.rule(1, Behaviour::DieBefore, |request| {
        *request == Request::ListDisks
    });
    let error = targetd.call(Request::ListDisks).await.unwrap_err();
    assert!(matches!(error, CallError::Lost), "{error}");

    let mut link = targetd.link();
    let again = |link: &Link| matches!(link, Link::Up(up) if up.epoch == 2);
    link.wait_for(again).await.unwrap();
    assert!(targetd.call(Request::ListDisks).await.is_ok());
}

#[tokio::test]
async fn a_refusal_is_told_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeTargetd::start(dir.path());
    let targetd = Targetd::start(fake.socket.clone());
    assert!(targetd.up().await);
    fake.rule(1, Behaviour::Fail(FailureKind::NoSpace), |_| true);
    match targetd.call(Request::ListDisks).await {
        Err(CallError::Failed(failure)) => assert_eq!(failure.kind, FailureKind::NoSpace),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn another_version_is_not_talked_to() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeTargetd::start(dir.path());
    fake.kernel().version = Some(7);
    let targetd = Targetd::start(fake.socket.clone());
    let mut link = targetd.link();
    let told = |link: &Link| matches!(link, Link::Away(why) if why.contains("version 7"));
    let wait = link.wait_for(told);
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_restarted_targetd_is_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = FakeTargetd::start(dir.path());
    let targetd = Targetd::start(fake.socket.clone());
    assert!(targetd.up().await);
    assert_eq!(targetd.greeting().unwrap().epoch, 1);
    fake.pause();
    away(&targetd).await;
    fake.resume();
    assert!(targetd.up().await);
    assert_eq!(targetd.greeting().unwrap().epoch, 2);
}

#[tokio::test]
async fn a_device_that_is_opened_is_the_one_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeTargetd::start(dir.path());
    let targetd = Targetd::start(fake.socket.clone());
    assert!(targetd.up().await);
    let objects = [1, 2].map(|n| OpenObject::Volume(uuid::Uuid::from_u128(n)));
    for (object, content) in objects.iter().zip([b"first ", b"second"]) {
        let device = targetd.open_device(*object, true).await.unwrap();
        assert_eq!(device.size, 1 << 20);
        device.file.write_all_at(content, 0).unwrap();
        let flags = nix::fcntl::fcntl(&device.file, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & nix::libc::FD_CLOEXEC, nix::libc::FD_CLOEXEC);
    }
    let (mut first, second) = ([0; 6], targetd.open_device(objects[1], false));
    second
        .await
        .unwrap()
        .file
        .read_exact_at(&mut first, 0)
        .unwrap();
    assert_eq!(&first, b"second");
}

/// The read end tells when nobody has the other end open.
fn ends(count: usize) -> (Vec<Pair>, Vec<OwnedFd>) {
    let pairs = (0..count).map(|_| Pair::pair().unwrap());
    pairs.map(|(ours, theirs)| (ours, theirs.into())).unzip()
}

#[tokio::test]
async fn a_descriptor_that_was_not_asked_for_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeTargetd::start(dir.path());
    let targetd = Targetd::start(fake.socket.clone());
    assert!(targetd.up().await);
    let (mut ours, theirs) = ends(1);
    fake.kernel().stray = theirs;
    assert!(targetd.call(Request::ListDisks).await.is_ok());
    let end = tokio::task::spawn_blocking(move || ours[0].read(&mut [0]).unwrap());
    assert_eq!(end.await.unwrap(), 0);
}

#[tokio::test]
async fn several_descriptors_with_one_reply_end_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeTargetd::start(dir.path());
    let targetd = Targetd::start(fake.socket.clone());
    assert!(targetd.up().await);
    let (ours, theirs) = ends(9);
    fake.kernel().stray = theirs;
    let error = targetd.call(Request::ListDisks).await.unwrap_err();
    assert!(matches!(error, CallError::Lost), "{error}");
    for mut end in ours {
        let read = tokio::task::spawn_blocking(move || end.read(&mut [0]).unwrap());
        assert_eq!(read.await.unwrap(), 0);
    }
}
