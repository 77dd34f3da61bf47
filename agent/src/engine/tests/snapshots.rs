//! Snapshots, clones and reverts, above a targetd that fails, dies and comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{JobState, Parent, ProblemCode, SnapshotState, Transport, VolumeState};
use ashlar_targetd_protocol::{DataState, FailureKind, Request, ThinId};
use tokio::sync::Notify;
use uuid::Uuid;

use super::rig::*;
use crate::domain::record::Unit;
use crate::engine::{Answer, Command};
use crate::targetd::fake::Behaviour;

const MIB: u64 = 1 << 20;
const VOLUME: Uuid = Uuid::from_u128(1);
const SNAPSHOT: Uuid = Uuid::from_u128(2);

/// A volume that holds "new", with a snapshot that holds "old".
async fn with_snapshot() -> Rig {
    let rig = Rig::furnished().await;
    rig.outcome(volume(VOLUME, MIB)).await;
    write(&rig, VOLUME, "old").await;
    rig.outcome(snapshot(SNAPSHOT, VOLUME)).await;
    write(&rig, VOLUME, "new").await;
    rig
}

async fn thin_of(rig: &Rig, volume: Uuid) -> (Uuid, ThinId) {
    let intent = rig.engine.shared.intent.read().await;
    let record = &intent.volume(volume).unwrap().record;
    (record.pool, record.thin_id)
}

async fn write(rig: &Rig, volume: Uuid, content: &'static str) {
    let thin = thin_of(rig, volume).await;
    rig.fake.kernel().content.insert(thin, content);
}

async fn content(rig: &Rig, volume: Uuid) -> Option<&'static str> {
    let thin = thin_of(rig, volume).await;
    rig.fake.kernel().content.get(&thin).copied()
}

/// The thin devices are those of the volume and its snapshot, and nothing else.
fn only_two_are_left(rig: &Rig) {
    assert_eq!(rig.fake.kernel().thin.len(), 2);
}

fn makes(request: &Request) -> bool {
    match request {
        Request::ApplyVolume(desired) => desired.data == DataState::Provision,
        Request::ApplySnapshots(desired) => desired.data == DataState::Provision,
        _ => false,
    }
}

#[tokio::test]
async fn each_holds_what_it_was_made_of() {
    let rig = with_snapshot().await;
    rig.outcome(clone(id(3), Parent::Snapshot(SNAPSHOT), None))
        .await;
    rig.outcome(clone(id(4), Parent::Volume(VOLUME), Some(2 * MIB)))
        .await;
    assert_eq!(content(&rig, id(3)).await, Some("old"));
    assert_eq!(content(&rig, id(4)).await, Some("new"));
    rig.outcome(revert(VOLUME, SNAPSHOT, false)).await;
    assert_eq!(content(&rig, VOLUME).await, Some("old"));
    // The one before goes once the new one is known to be there.
    settled(&rig.engine, Unit::Volume(VOLUME)).await;
    assert_eq!(rig.fake.kernel().thin.len(), 4);
    assert_eq!(content(&rig, id(4)).await, Some("new"));
}

#[tokio::test]
async fn a_snapshot_costs_one_call_and_so_does_a_clone() {
    let rig = with_snapshot().await;
    rig.fake.kernel().calls.clear();
    rig.outcome(snapshot(id(3), VOLUME)).await;
    assert_eq!(rig.fake.kernel().calls.len(), 1);
    rig.outcome(clone(id(4), Parent::Snapshot(id(3)), None))
        .await;
    assert_eq!(rig.fake.kernel().calls.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_made_leaves_nothing_and_the_volume_as_it_was() {
    let rig = with_snapshot().await;
    for (n, command, object) in [
        (10, snapshot(id(3), VOLUME), Unit::Snapshot(id(3))),
        (
            11,
            clone(id(4), Parent::Snapshot(SNAPSHOT), None),
            Unit::Volume(id(4)),
        ),
        (12, revert(VOLUME, SNAPSHOT, false), Unit::Volume(VOLUME)),
    ] {
        rig.fake
            .rule(1, Behaviour::Fail(FailureKind::NoSpace), makes);
        let problem = rig.ask_as(id(n), command.clone(), LONG).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::NoSpace, "{command:?}");
        assert_eq!(problem.object, Some(object.object()));
        settled(&rig.engine, object).await;
        only_two_are_left(&rig);
        let job = rig.engine.job(id(n)).await.unwrap();
        assert_eq!(job.state, JobState::Failed, "{command:?}");
        let again = rig.ask_as(id(n), command, LONG).await;
        assert_eq!(again.unwrap_err(), problem);
    }
    assert_eq!(content(&rig, VOLUME).await, Some("new"));
    let shown = rig.engine.volume(VOLUME).await.unwrap();
    assert_eq!((shown.state, shown.snapshots), (VolumeState::Available, 1));
    // It did not harm what comes next.
    rig.outcome(revert(VOLUME, SNAPSHOT, false)).await;
    assert_eq!(content(&rig, VOLUME).await, Some("old"));
}

/// The kernel has the new thin device before the answer is lost for good.
#[tokio::test]
async fn a_revert_that_is_given_up_after_it_was_done_is_taken_back() {
    let rig = with_snapshot().await;
    let release = Arc::new(Notify::new());
    rig.fake
        .rule(1, Behaviour::Hold(Arc::clone(&release)), makes);
    let asked = rig
        .ask_as(
            id(9),
            revert(VOLUME, SNAPSHOT, false),
            Duration::from_millis(20),
        )
        .await;
    assert!(matches!(asked, Ok(Answer::Accepted(_))), "{asked:?}");
    while rig.fake.kernel().thin.len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.engine.cancel(id(9), LONG).await, Ok(None));
    release.notify_one();
    settled(&rig.engine, Unit::Volume(VOLUME)).await;
    assert_eq!(content(&rig, VOLUME).await, Some("new"));
    only_two_are_left(&rig);
    assert_eq!(
        rig.engine.job(id(9)).await.unwrap().state,
        JobState::Cancelled
    );
}

fn replaces(request: &Request) -> bool {
    matches!(request, Request::ApplyVolume(desired) if desired.data == DataState::Replace)
}

/// The volume, in use by a host, is on its new thin device, and what is to follow that goes
/// wrong for good. Then the host writes.
async fn half_reverted(kind: FailureKind) -> Rig {
    let rig = with_snapshot().await;
    rig.outcome(attach(id(5), VOLUME, HOST, Transport::Iscsi))
        .await;
    rig.fake
        .rule(usize::MAX, Behaviour::FailAfter(kind), replaces);
    let command = revert(VOLUME, SNAPSHOT, true);
    // It says why, when that is known not to pass, and goes on.
    let asked = rig.ask_as(id(9), command, Duration::from_millis(300)).await;
    match kind.retryable() {
        true => assert!(matches!(asked, Ok(Answer::Accepted(_))), "{asked:?}"),
        false => assert!(asked.is_err(), "{asked:?}"),
    }
    rig.fake.kernel().host_writes(VOLUME, "written since");
    rig
}

#[tokio::test]
async fn a_revert_that_a_host_has_seen_only_goes_forward() {
    for kind in [
        FailureKind::Kernel,
        FailureKind::NoSpace,
        FailureKind::InUse,
        FailureKind::Foreign,
        FailureKind::Refused,
        FailureKind::Missing,
    ] {
        let rig = half_reverted(kind).await;
        let job = rig.engine.job(id(9)).await.unwrap();
        assert_eq!(job.state, JobState::Running, "{kind:?}");
        let refused = rig.engine.cancel(id(9), LONG).await.unwrap_err();
        assert!(refused.detail.contains("cannot be cancelled"), "{refused}");
        let shown = rig.engine.volume(VOLUME).await.unwrap();
        assert_eq!(shown.state, VolumeState::Reverting);
        rig.fake.obey();
        // Whoever asks again waits for the same.
        rig.outcome(revert(VOLUME, SNAPSHOT, true)).await;
        settled(&rig.engine, Unit::Volume(VOLUME)).await;
        assert_eq!(content(&rig, VOLUME).await, Some("written since"));
        only_two_are_left(&rig);
        let job = rig.engine.job(id(9)).await.unwrap();
        assert_eq!(job.state, JobState::Succeeded, "{kind:?}");
    }
}

#[tokio::test]
async fn whoever_dies_a_revert_that_a_host_has_seen_only_goes_forward() {
    for power_cut in [false, true] {
        let rig = half_reverted(FailureKind::Kernel).await;
        let mut rig = rig.kill().await;
        if power_cut {
            rig.fake.reboot();
        }
        let refused = rig.engine.cancel(id(9), LONG).await.unwrap_err();
        assert!(refused.detail.contains("cannot be cancelled"), "{refused}");
        rig.fake.obey();
        settled(&rig.engine, Unit::Volume(VOLUME)).await;
        assert_eq!(content(&rig, VOLUME).await, Some("written since"));
        only_two_are_left(&rig);
    }
}

/// The host writes on while the new thin device is made, and that is all lost in the end: not
/// before it is on record that there is no way back.
#[tokio::test]
async fn a_host_sees_nothing_of_a_revert_that_may_be_taken_back() {
    let rig = with_snapshot().await;
    rig.outcome(attach(id(5), VOLUME, HOST, Transport::Iscsi))
        .await;
    rig.fake
        .rule(usize::MAX, Behaviour::FailAfter(FailureKind::Kernel), makes);
    let command = revert(VOLUME, SNAPSHOT, true);
    let short = Duration::from_millis(300);
    let asked = rig.ask_as(id(9), command, short).await;
    assert!(matches!(asked, Ok(Answer::Accepted(_))), "{asked:?}");
    rig.fake.kernel().host_writes(VOLUME, "written since");
    assert_eq!(rig.engine.cancel(id(9), LONG).await, Ok(None));
    rig.fake.obey();
    settled(&rig.engine, Unit::Volume(VOLUME)).await;
    assert_eq!(content(&rig, VOLUME).await, Some("written since"));
    only_two_are_left(&rig);
}

#[tokio::test]
async fn whatever_was_under_way_is_finished_after_a_kill() {
    let makings = [
        (snapshot(id(3), VOLUME), Unit::Snapshot(id(3))),
        (
            clone(id(3), Parent::Volume(VOLUME), None),
            Unit::Volume(id(3)),
        ),
        (revert(VOLUME, SNAPSHOT, false), Unit::Volume(VOLUME)),
        (
            Command::SnapshotDelete { id: SNAPSHOT },
            Unit::Snapshot(SNAPSHOT),
        ),
    ];
    for (command, unit) in makings {
        for behaviour in [
            Behaviour::Hold(Arc::new(Notify::new())),
            Behaviour::Fail(FailureKind::Kernel),
        ] {
            let rig = with_snapshot().await;
            let applies = |request: &Request| {
                matches!(
                    request,
                    Request::ApplyVolume(_) | Request::ApplySnapshots(_)
                )
            };
            rig.fake.rule(usize::MAX, behaviour, applies);
            let asked = rig
                .ask_as(id(9), command.clone(), Duration::from_millis(20))
                .await;
            assert!(matches!(asked, Ok(Answer::Accepted(_))), "{asked:?}");
            let mut rig = rig.kill().await;
            rig.fake.obey();
            rig.fake.reboot();
            settled(&rig.engine, unit).await;
            let job = rig.engine.job(id(9)).await.unwrap();
            assert_eq!(job.state, JobState::Succeeded, "{command:?}");
            let thin = rig.fake.kernel().thin.len();
            let expected = match unit {
                _ if unit == Unit::Snapshot(SNAPSHOT) => 1,
                _ if unit == Unit::Volume(VOLUME) => 2,
                _ => 3,
            };
            assert_eq!(thin, expected, "{command:?}");
        }
    }
}

#[tokio::test]
async fn a_targetd_that_dies_in_the_middle_is_asked_again() {
    let rig = with_snapshot().await;
    for command in [
        snapshot(id(3), VOLUME),
        clone(id(4), Parent::Volume(VOLUME), None),
        revert(VOLUME, SNAPSHOT, false),
    ] {
        rig.fake.rule(1, Behaviour::DieAfter, makes);
        rig.fake.rule(1, Behaviour::DieBefore, makes);
        rig.outcome(command).await;
    }
    assert_eq!(
        rig.engine.snapshot(id(3)).await.unwrap().state,
        SnapshotState::Available
    );
    assert_eq!(content(&rig, VOLUME).await, Some("old"));
    settled(&rig.engine, Unit::Volume(VOLUME)).await;
    assert_eq!(rig.fake.kernel().thin.len(), 4);
}

#[tokio::test]
async fn two_callers_on_one_object_have_one_winner() {
    let rig = with_snapshot().await;
    let (one, other) = tokio::join!(
        rig.ask(snapshot(id(3), VOLUME)),
        rig.ask(snapshot(id(3), VOLUME))
    );
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    assert_eq!(rig.fake.kernel().thin.len(), 3);

    let release = Arc::new(Notify::new());
    let hold = Behaviour::Hold(Arc::clone(&release));
    rig.fake.rule(1, hold, makes);
    let making = clone(id(4), Parent::Snapshot(SNAPSHOT), None);
    let short = Duration::from_millis(20);
    let asked = rig.ask_as(id(9), making.clone(), short).await;
    assert!(matches!(asked, Ok(Answer::Accepted(_))));
    let delete = Command::SnapshotDelete { id: SNAPSHOT };
    let busy = rig.ask(delete.clone()).await.unwrap_err();
    assert_eq!((busy.code, busy.retryable), (ProblemCode::Busy, true));
    release.notify_one();
    rig.ask_as(id(9), making, LONG).await.unwrap();
    rig.outcome(delete).await;
    assert_eq!(content(&rig, id(4)).await, Some("old"));
}

#[tokio::test]
async fn snapshots_are_listed_by_volume() {
    let rig = with_snapshot().await;
    rig.outcome(volume(id(5), MIB)).await;
    rig.outcome(snapshot(id(6), id(5))).await;
    let all = crate::engine::PageQuery::default();
    let ids = async |volume| {
        let page = rig.engine.snapshots(&all, volume).await.unwrap();
        page.items.iter().map(|s| s.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None).await, [SNAPSHOT, id(6)]);
    assert_eq!(ids(Some(id(5))).await, [id(6)]);
    let counts: BTreeMap<_, _> = [(VOLUME, 1), (id(5), 1)].into();
    for (volume, count) in counts {
        assert_eq!(rig.engine.volume(volume).await.unwrap().snapshots, count);
    }
}

#[tokio::test]
async fn a_connected_snapshot_is_there_again_after_kills_and_reboots_of_all() {
    let mut rig = with_snapshot().await;
    rig.outcome(read(id(3), SNAPSHOT, HOST)).await;
    let readers = |rig: &Rig| {
        let kernel = rig.fake.kernel();
        let exports = kernel.readable.get(&SNAPSHOT)?;
        exports.iscsi.as_ref().map(|iscsi| iscsi.initiators.len())
    };
    assert_eq!(readers(&rig), Some(1));
    rig.fake.reboot();
    settled(&rig.engine, Unit::Snapshot(SNAPSHOT)).await;
    becomes(async || readers(&rig) == Some(1)).await;
    rig.fake.kernel().calls.clear();
    // What the kernel has of it is nobody's orphan.
    let rig = rig.restart().await;
    settled(&rig.engine, Unit::Snapshot(SNAPSHOT)).await;
    assert_eq!(readers(&rig), Some(1));
    assert!(unexported(&rig).is_empty());
    rig.fake.kernel().calls.clear();
    let mut rig = rig.kill().await;
    rig.fake.reboot();
    becomes(async || readers(&rig) == Some(1)).await;
    assert!(unexported(&rig).is_empty());
    let connection = rig.engine.connection(id(3)).await.unwrap();
    assert_eq!(connection.snapshot, Some(SNAPSHOT));
    rig.outcome(detach(id(3))).await;
    assert_eq!(readers(&rig), None);
    assert!(rig.fake.kernel().active.is_empty());
    rig.outcome(Command::SnapshotDelete { id: SNAPSHOT }).await;
}

fn unexported(rig: &Rig) -> Vec<Uuid> {
    let kernel = rig.fake.kernel();
    let calls = kernel.calls.iter().filter_map(|call| match call {
        Request::Unexport { id } => Some(*id),
        _ => None,
    });
    calls.collect()
}

#[tokio::test]
async fn new_secrets_of_a_host_reach_the_snapshots_it_reads() {
    let rig = with_snapshot().await;
    rig.outcome(read(id(3), SNAPSHOT, HOST)).await;
    let secret = |rig: &Rig| {
        let kernel = rig.fake.kernel();
        let iscsi = kernel.readable[&SNAPSHOT].iscsi.clone().unwrap();
        iscsi.initiators.values().next().unwrap().chap.clone()
    };
    let before = secret(&rig);
    let spec = Box::default();
    rig.outcome(Command::HostRotate { id: HOST, spec }).await;
    assert_ne!(secret(&rig), before);
}

#[tokio::test]
async fn an_export_of_a_snapshot_that_the_kernel_refuses_is_taken_back() {
    let rig = with_snapshot().await;
    let exports = |request: &Request| match request {
        Request::ApplySnapshots(desired) => {
            desired.members.iter().any(|one| !one.exports.is_empty())
        }
        _ => false,
    };
    let refuses = Behaviour::Fail(FailureKind::Unsupported);
    rig.fake.rule(1, refuses, exports);
    let problem = rig.ask(read(id(3), SNAPSHOT, HOST)).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::Unsupported);
    settled(&rig.engine, Unit::Snapshot(SNAPSHOT)).await;
    assert!(rig.engine.connection(id(3)).await.is_err());
    rig.outcome(read(id(3), SNAPSHOT, HOST)).await;
}
