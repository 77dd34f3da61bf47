//! Adopting thin devices and letting go of volumes, above a targetd that fails, dies and comes
//! back. Whatever happens, no data is destroyed.

use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{JobState, ObjectKind, Problem, ProblemCode, ThinDevice, Transport};
use ashlar_protocol::{Unadoptable, VolumeState};
use ashlar_targetd_protocol::{DataState, FailureKind, Request, ThinId};
use tokio::sync::Notify;
use uuid::Uuid;

use super::rig::*;
use crate::domain::record::Unit;
use crate::engine::{After, Answer, Command, Outcome, ThinDevicesQuery};
use crate::targetd::fake::Behaviour;

const MIB: u64 = 1 << 20;
const VOLUME: Uuid = Uuid::from_u128(1);
const ADOPTED: Uuid = Uuid::from_u128(2);
const SHORT: Duration = Duration::from_millis(20);

fn thin(id: u64) -> ThinId {
    ThinId::try_from(id).unwrap()
}

/// A pool in which somebody made thin device 7, and a volume on thin device 0.
async fn with_stranger() -> Rig {
    let rig = Rig::furnished().await;
    rig.outcome(volume(VOLUME, MIB)).await;
    {
        let mut kernel = rig.fake.kernel();
        kernel.thin.insert((POOL, thin(7)));
        kernel.content.insert((POOL, thin(7)), "found");
    }
    rig
}

fn has(rig: &Rig, id: u64) -> bool {
    rig.fake.kernel().thin.contains(&(POOL, thin(id)))
}

fn destroys(request: &Request) -> bool {
    match request {
        Request::ApplyVolume(desired) => desired.data == DataState::Tombstone,
        Request::ApplySnapshots(desired) => desired.data == DataState::Tombstone,
        _ => false,
    }
}

fn nothing_was_destroyed(rig: &Rig) {
    assert!(!rig.fake.kernel().calls.iter().any(destroys));
    assert_eq!(
        rig.fake.kernel().content.get(&(POOL, thin(7))),
        Some(&"found")
    );
}

fn applies_adopted(request: &Request) -> bool {
    match request {
        Request::ApplyVolume(desired) => desired.id == ADOPTED,
        Request::ApplySnapshots(desired) => desired.id == ADOPTED,
        _ => false,
    }
}

async fn devices(rig: &Rig) -> Vec<ThinDevice> {
    let query = ThinDevicesQuery {
        after: None,
        limit: 100,
    };
    let page = rig.engine.thin_devices(POOL, &query).await.unwrap();
    page.items
}

async fn adoptable(rig: &Rig) -> Vec<(u32, Option<Unadoptable>)> {
    let devices = devices(rig).await;
    let told = devices.iter().map(|device| {
        assert_eq!(device.adoptable, device.reason.is_none());
        (device.thin_id, device.reason)
    });
    told.collect()
}

/// Waits until these events of an object are told, and no others.
async fn tells(rig: &Rig, id: Uuid, expected: &[&str]) {
    let wait = async {
        while events(rig, id).await != expected {
            tokio::time::sleep(SHORT).await;
        }
    };
    let told = tokio::time::timeout(LONG, wait).await;
    assert!(
        told.is_ok(),
        "{expected:?}, not {:?}",
        events(rig, id).await
    );
}

async fn events(rig: &Rig, id: Uuid) -> Vec<String> {
    let page = rig.engine.events(After::Beginning, 1000, Duration::ZERO);
    let page = page.await.unwrap();
    let of = page.items.iter().filter(|event| event.object.id == id);
    of.map(|event| event.kind.to_string()).collect()
}

#[tokio::test]
async fn what_is_released_can_be_adopted_and_holds_what_it_held() {
    let rig = with_stranger().await;
    let owned = Some(Unadoptable::Owned);
    assert_eq!(adoptable(&rig).await, [(0, owned), (7, None)]);
    let Outcome::Volume { volume, created } = rig.outcome(adopt(ADOPTED, 7, None)).await else {
        panic!("it is a volume")
    };
    assert!(created);
    assert_eq!((volume.state, volume.size), (VolumeState::Available, MIB));
    assert_eq!(adoptable(&rig).await, [(0, owned), (7, owned)]);
    settled(&rig.engine, Unit::Volume(ADOPTED)).await;
    let resting = rig.fake.last_applied(ADOPTED).unwrap();
    assert_eq!((resting.data, resting.held), (DataState::Present, false));
    assert!(rig.fake.kernel().exported.is_empty());
    rig.outcome(attach(id(3), ADOPTED, HOST, Transport::Iscsi))
        .await;
    let exported = rig.fake.last_applied(ADOPTED).unwrap();
    assert_eq!(exported.thin_id, thin(7));
    let refused = rig.ask(release(ADOPTED)).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::InUse);
    rig.outcome(detach(id(3))).await;
    assert_eq!(rig.outcome(release(ADOPTED)).await, Outcome::Removed);
    assert_eq!(
        rig.engine.volume(ADOPTED).await.unwrap_err().code,
        ProblemCode::NotFound
    );
    assert_eq!(adoptable(&rig).await, [(0, owned), (7, None)]);
    tells(&rig, ADOPTED, &["volume.adopted", "volume.released"]).await;
    nothing_was_destroyed(&rig);
    // Under its old id as well.
    rig.outcome(adopt(ADOPTED, 7, Some(2 * MIB))).await;
    // What is adopted is one's own, and can be destroyed.
    rig.outcome(Command::VolumeDelete { id: ADOPTED }).await;
    assert!(!has(&rig, 7));
}

#[tokio::test]
async fn a_thin_device_that_is_not_there_cannot_be_adopted() {
    let rig = with_stranger().await;
    let problem = rig.ask(adopt(ADOPTED, 8, None)).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::NotFound, "{problem}");
    assert!(problem.detail.contains("no thin device 8"), "{problem}");
    let problem = rig.ask(adopt(ADOPTED, 0, None)).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::Duplicate, "{problem}");
    assert!(problem.detail.contains(&VOLUME.to_string()), "{problem}");
    assert!(rig.fake.last_applied(ADOPTED).is_none());
}

/// It was there when it was looked for, and is gone, or cannot be had, when it is tried.
#[tokio::test]
async fn an_adoption_that_fails_is_forgotten_and_nothing_destroyed() {
    for kind in [FailureKind::Missing, FailureKind::Refused] {
        let rig = with_stranger().await;
        rig.fake.rule(1, Behaviour::Fail(kind), applies_adopted);
        let asked = rig.ask_as(id(9), adopt(ADOPTED, 7, None), LONG).await;
        let problem: Problem = asked.unwrap_err();
        assert_eq!(problem.code, ProblemCode::WrongState, "{problem}");
        assert_eq!(problem.object.map(|o| o.kind), Some(ObjectKind::Volume));
        settled(&rig.engine, Unit::Volume(ADOPTED)).await;
        assert!(rig.engine.volume(ADOPTED).await.is_err());
        let job = rig.engine.job(id(9)).await.unwrap();
        assert_eq!(job.state, JobState::Failed);
        tells(&rig, ADOPTED, &["volume.adopt-failed", "volume.released"]).await;
        nothing_was_destroyed(&rig);
        rig.outcome(adopt(ADOPTED, 7, None)).await;
    }
}

#[tokio::test]
async fn an_adoption_that_is_cancelled_is_forgotten_and_nothing_destroyed() {
    let rig = with_stranger().await;
    let until = Arc::new(Notify::new());
    let hold = Behaviour::Hold(Arc::clone(&until));
    rig.fake.rule(1, hold, applies_adopted);
    let asked = rig.ask_as(id(9), adopt(ADOPTED, 7, None), SHORT).await;
    assert!(matches!(asked, Ok(Answer::Accepted(_))), "{asked:?}");
    assert_eq!(rig.engine.cancel(id(9), LONG).await, Ok(None));
    until.notify_one();
    settled(&rig.engine, Unit::Volume(ADOPTED)).await;
    assert!(rig.engine.volume(ADOPTED).await.is_err());
    assert!(rig.fake.kernel().exported.is_empty());
    nothing_was_destroyed(&rig);
}

#[tokio::test]
async fn of_two_who_want_one_thin_device_one_has_it() {
    let rig = with_stranger().await;
    let (one, other) = tokio::join!(
        rig.ask(adopt(ADOPTED, 7, None)),
        rig.ask(adopt(id(3), 7, None))
    );
    let (won, lost) = match (one, other) {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
        both => panic!("{both:?}"),
    };
    assert!(matches!(won, Answer::Done(Outcome::Volume { .. })));
    assert_eq!(lost.code, ProblemCode::Duplicate, "{lost}");
    assert!(lost.detail.contains("belongs to volume"), "{lost}");
}

/// However far it was, it is finished, and that without destroying anything.
#[tokio::test]
async fn what_was_under_way_is_finished_after_a_kill() {
    for behaviour in [
        Behaviour::Hold(Arc::new(Notify::new())),
        Behaviour::Fail(FailureKind::Kernel),
    ] {
        for adopts in [true, false] {
            let rig = with_stranger().await;
            let command = match adopts {
                true => adopt(ADOPTED, 7, None),
                false => {
                    rig.outcome(adopt(ADOPTED, 7, None)).await;
                    settled(&rig.engine, Unit::Volume(ADOPTED)).await;
                    release(ADOPTED)
                }
            };
            rig.fake
                .rule(usize::MAX, behaviour.clone(), applies_adopted);
            let asked = rig.ask_as(id(9), command, SHORT).await;
            assert!(matches!(asked, Ok(Answer::Accepted(_))), "{asked:?}");
            let mut rig = rig.kill().await;
            rig.fake.obey();
            rig.fake.reboot();
            settled(&rig.engine, Unit::Volume(ADOPTED)).await;
            let job = rig.engine.job(id(9)).await.unwrap();
            assert_eq!(job.state, JobState::Succeeded);
            let state = rig.engine.volume(ADOPTED).await.map(|v| v.state).ok();
            assert_eq!(state, adopts.then_some(VolumeState::Available));
            assert!(rig.fake.kernel().exported.is_empty());
            nothing_was_destroyed(&rig);
        }
    }
}

#[tokio::test]
async fn a_snapshot_is_adopted_and_released_likewise() {
    let rig = with_stranger().await;
    let adopt = adopt_snapshot(ADOPTED, VOLUME, 7, None);
    let release_snapshot = Command::SnapshotRelease { id: ADOPTED };
    let missing = Behaviour::Fail(FailureKind::Missing);
    rig.fake.rule(1, missing, applies_adopted);
    let problem = rig.ask(adopt.clone()).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::WrongState, "{problem}");
    settled(&rig.engine, Unit::Snapshot(ADOPTED)).await;
    assert!(rig.engine.snapshot(ADOPTED).await.is_err());

    let Outcome::Snapshot { snapshot, created } = rig.outcome(adopt.clone()).await else {
        panic!("it is a snapshot")
    };
    assert!(created);
    assert_eq!((snapshot.size, snapshot.volume), (MIB, VOLUME));
    settled(&rig.engine, Unit::Snapshot(ADOPTED)).await;
    assert!(rig.fake.kernel().active.is_empty());
    let refused = rig.ask(release(VOLUME)).await;
    assert_eq!(refused.unwrap_err().code, ProblemCode::InUse);

    let never = Behaviour::Hold(Arc::new(Notify::new()));
    rig.fake.rule(usize::MAX, never, applies_adopted);
    let asked = rig.ask_as(id(9), release_snapshot, SHORT).await;
    assert!(matches!(asked, Ok(Answer::Accepted(_))), "{asked:?}");
    let mut rig = rig.kill().await;
    rig.fake.obey();
    rig.fake.reboot();
    settled(&rig.engine, Unit::Snapshot(ADOPTED)).await;
    assert!(rig.engine.snapshot(ADOPTED).await.is_err());
    // The pool comes back by itself.
    while rig.fake.kernel().pools.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tells(
        &rig,
        ADOPTED,
        &[
            "snapshot.adopt-failed",
            "snapshot.released",
            "snapshot.adopted",
            "snapshot.released",
        ],
    )
    .await;
    nothing_was_destroyed(&rig);
    rig.outcome(adopt).await;
}

/// An earlier process promised it, so it is tried for ever, until it is let go of.
#[tokio::test]
async fn a_promised_adoption_that_cannot_be_had_can_be_let_go_of() {
    let rig = with_stranger().await;
    let never = Behaviour::Hold(Arc::new(Notify::new()));
    rig.fake.rule(1, never, applies_adopted);
    let asked = rig.ask_as(id(9), adopt(ADOPTED, 7, None), SHORT).await;
    assert!(matches!(asked, Ok(Answer::Accepted(_))), "{asked:?}");
    rig.fake.kernel().thin.remove(&(POOL, thin(7)));
    let rig = rig.kill().await;
    let shown = rig.engine.volume(ADOPTED).await.unwrap();
    assert_eq!(shown.state, VolumeState::Adopting);
    assert_eq!(rig.outcome(release(ADOPTED)).await, Outcome::Removed);
    assert!(rig.engine.volume(ADOPTED).await.is_err());
    assert!(!rig.fake.kernel().calls.iter().any(destroys));
}
