//! Volumes on their way to another pool, and what becomes of them at every step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{Job, JobState, MoveSpec, Problem, ProblemCode, Transport, Volume};
use ashlar_targetd_protocol::{DesiredVolume, FailureKind, OpenObject, Request};
use tokio::sync::Notify;
use uuid::Uuid;

use super::rig::*;
use crate::domain::record::Unit;
use crate::engine::{Answer, Command, Outcome};
use crate::targetd::fake::Behaviour;

const MIB: u64 = 1 << 20;
const OTHER: Uuid = Uuid::from_u128(0xa1);
const VOLUME: Uuid = Uuid::from_u128(1);
const UNIT: Unit = Unit::Volume(VOLUME);
const CONNECTION: Uuid = Uuid::from_u128(2);
const JOB: Uuid = Uuid::from_u128(0x70b);

/// A volume that a host uses, and two pools.
async fn rig() -> Rig {
    let rig = Rig::furnished().await;
    rig.outcome(pool(OTHER, &["serial-DISK1"])).await;
    rig.outcome(volume(VOLUME, MIB)).await;
    rig.outcome(attach(CONNECTION, VOLUME, HOST, Transport::Iscsi))
        .await;
    rig
}

async fn moved(rig: &Rig, wait: Duration) -> Result<Answer, Problem> {
    let spec = MoveSpec {
        pool: OTHER,
        bandwidth: None,
    };
    // Stands for the digest of the body.
    let context = context(JOB, &Command::VolumeDelete { id: VOLUME });
    rig.engine.move_volume(VOLUME, spec, context, wait).await
}

async fn job(rig: &Rig) -> Job {
    rig.engine.job(JOB).await.unwrap()
}

async fn shown(rig: &Rig) -> Volume {
    rig.engine.volume(VOLUME).await.unwrap()
}

/// Pools and ids of all thin devices.
fn thins(rig: &Rig) -> BTreeSet<(Uuid, u32)> {
    let kernel = rig.fake.kernel();
    let thins = kernel.thin.iter();
    thins.map(|(pool, thin)| (*pool, thin.value())).collect()
}

/// How a volume is asked for, one after the other.
fn wanted(rig: &Rig) -> Vec<DesiredVolume> {
    let kernel = rig.fake.kernel();
    let calls = kernel.calls.iter().filter_map(|call| match call {
        Request::ApplyVolume(desired) if desired.id == VOLUME => Some((**desired).clone()),
        _ => None,
    });
    calls.collect()
}

/// The volume is where it was, and nothing of the move is left.
async fn stayed(rig: &Rig) {
    settled(&rig.engine, UNIT).await;
    assert_eq!(shown(rig).await.pool, POOL);
    assert_eq!(thins(rig), [(POOL, 0)].into());
    let last = rig.fake.last_applied(VOLUME).unwrap();
    assert_eq!((last.pool, last.moving), (POOL, None));
    assert!(last.exports.iscsi.is_some());
}

async fn arrived(rig: &Rig) {
    settled(&rig.engine, UNIT).await;
    assert_eq!(shown(rig).await.pool, OTHER);
    assert_eq!(thins(rig), [(OTHER, 0)].into());
    let last = rig.fake.last_applied(VOLUME).unwrap();
    assert_eq!((last.pool, last.moving), (OTHER, None));
    assert!(last.exports.iscsi.is_some());
}

#[tokio::test]
async fn a_volume_goes_to_another_pool_and_its_hosts_stay() {
    let rig = rig().await;
    let answer = moved(&rig, LONG).await.unwrap();
    let Answer::Done(Outcome::Volume { volume, .. }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!((volume.pool, volume.connections), (OTHER, 1));
    assert_eq!(job(&rig).await.state, JobState::Succeeded);
    arrived(&rig).await;
    // It rests only with a copy, and goes on only elsewhere.
    let wanted = wanted(&rig);
    let still = |desired: &DesiredVolume| desired.moving.is_some_and(|moving| moving.still);
    let first = wanted.iter().position(still).unwrap();
    let mut after = wanted[first..].iter().skip_while(|desired| still(desired));
    assert_eq!(after.next().unwrap().pool, OTHER);
    assert!(
        wanted.iter().all(|desired| desired.exports.iscsi.is_some()
            || desired.generation < wanted[first].generation)
    );
    // Asked again, it is told the same; and back it goes as well.
    assert!(matches!(moved(&rig, LONG).await, Ok(Answer::Done(_))));
    let rig = rig.kill().await;
    assert_eq!(job(&rig).await.state, JobState::Succeeded);
    arrived(&rig).await;
}

#[tokio::test]
async fn an_idle_volume_moves_without_a_device_of_its_own() {
    let rig = rig().await;
    rig.outcome(detach(CONNECTION)).await;
    moved(&rig, LONG).await.unwrap();
    settled(&rig.engine, UNIT).await;
    assert_eq!(thins(&rig), [(OTHER, 0)].into());
    assert!(rig.fake.kernel().exported.is_empty());
    rig.outcome(Command::VolumeDelete { id: VOLUME }).await;
    assert!(thins(&rig).is_empty());
}

type Matches = fn(&Request) -> bool;

fn stage(request: &Request) -> Option<(bool, bool)> {
    match request {
        Request::ApplyVolume(desired) => {
            let moving = desired.moving?;
            Some((moving.copy.is_some(), moving.still))
        }
        _ => None,
    }
}

/// The calls of a move before the switch, in their order.
const BEFORE: [(&str, Matches); 5] = [
    ("copy", |request| stage(request) == Some((true, false))),
    ("target", |request| {
        matches!(
            request,
            Request::OpenDevice {
                object: OpenObject::Target(_),
                ..
            }
        )
    }),
    ("read", |request| {
        matches!(
            request,
            Request::OpenDevice {
                object: OpenObject::Copy(_),
                ..
            }
        )
    }),
    ("metadata", |request| {
        matches!(request, Request::OpenMetadata { .. })
    }),
    ("stop", |request| stage(request) == Some((true, true))),
];

fn switches(request: &Request) -> bool {
    matches!(request, Request::ApplyVolume(desired) if desired.pool == OTHER)
}

/// Waits until the fake was asked something.
async fn asked(rig: &Rig, matches: Matches) {
    becomes(async || rig.fake.kernel().calls.iter().any(matches)).await;
}

#[tokio::test]
async fn a_move_that_the_kernel_refuses_at_any_step_leaves_the_volume_where_it_was() {
    for (name, matches) in BEFORE {
        let rig = rig().await;
        let no = Behaviour::Fail(FailureKind::NoSpace);
        rig.fake.rule(1, no, matches);
        let problem = moved(&rig, LONG).await.unwrap_err();
        assert!(
            problem.detail.contains("asked to fail"),
            "{name}: {problem}"
        );
        assert_eq!(job(&rig).await.state, JobState::Failed, "{name}");
        stayed(&rig).await;
    }
}

#[tokio::test]
async fn a_move_that_is_cancelled_at_any_step_leaves_the_volume_where_it_was() {
    for (name, matches) in BEFORE {
        let rig = rig().await;
        let held = Arc::new(Notify::new());
        rig.fake
            .rule(1, Behaviour::Hold(Arc::clone(&held)), matches);
        let answer = moved(&rig, Duration::ZERO).await.unwrap();
        assert!(matches!(answer, Answer::Accepted(_)), "{name}");
        asked(&rig, matches).await;
        rig.engine.cancel(JOB, Duration::ZERO).await.unwrap();
        held.notify_one();
        assert_eq!(rig.engine.cancel(JOB, LONG).await, Ok(None), "{name}");
        assert_eq!(job(&rig).await.state, JobState::Cancelled, "{name}");
        stayed(&rig).await;
    }
}

#[tokio::test]
async fn a_move_whose_agent_is_killed_at_any_step_has_ended_and_left_nothing() {
    for (name, matches) in BEFORE {
        let rig = rig().await;
        let held = Arc::new(Notify::new());
        rig.fake
            .rule(1, Behaviour::Hold(Arc::clone(&held)), matches);
        moved(&rig, Duration::ZERO).await.unwrap();
        asked(&rig, matches).await;
        let rig = rig.kill().await;
        held.notify_one();
        let job = job(&rig).await;
        let problem = job.problem.unwrap();
        assert_eq!(problem.code, ProblemCode::Interrupted, "{name}");
        stayed(&rig).await;
        assert!(matches!(
            rig.engine.cancel(JOB, LONG).await,
            Err(problem) if problem.code == ProblemCode::WrongState
        ));
    }
}

#[tokio::test]
async fn a_volume_that_was_switched_arrives_whatever_dies() {
    for behaviour in [
        Behaviour::DieBefore,
        Behaviour::DieAfter,
        Behaviour::Fail(FailureKind::Kernel),
        Behaviour::Fail(FailureKind::Missing),
    ] {
        let rig = rig().await;
        rig.fake.rule(1, behaviour.clone(), switches);
        let answer = moved(&rig, LONG).await;
        assert!(matches!(answer, Ok(Answer::Done(_))), "{behaviour:?}");
        arrived(&rig).await;
    }
    for behaviour in [Behaviour::DieBefore, Behaviour::Fail(FailureKind::Kernel)] {
        let rig = rig().await;
        rig.fake.rule(usize::MAX, behaviour.clone(), switches);
        let answer = moved(&rig, Duration::from_millis(50)).await.unwrap();
        assert!(matches!(answer, Answer::Accepted(_)));
        asked(&rig, switches).await;
        // It is not cancelled any more.
        let cancelled = rig.engine.cancel(JOB, Duration::ZERO).await.unwrap();
        assert_eq!(cancelled.map(|job| job.state), Some(JobState::Running));
        let rig = rig.kill().await;
        rig.fake.obey();
        assert_eq!(job(&rig).await.state, JobState::Succeeded, "{behaviour:?}");
        arrived(&rig).await;
    }
}

#[tokio::test]
async fn a_targetd_that_dies_under_a_move_only_delays_it() {
    for (name, matches) in BEFORE {
        if stage_free(name) {
            continue;
        }
        let rig = rig().await;
        rig.fake.rule(1, Behaviour::DieAfter, matches);
        let answer = moved(&rig, LONG).await;
        assert!(matches!(answer, Ok(Answer::Done(_))), "{name}: {answer:?}");
        arrived(&rig).await;
    }
}

/// What is opened is not opened again by itself.
fn stage_free(name: &str) -> bool {
    ["target", "read", "metadata"].contains(&name)
}

#[tokio::test]
async fn hosts_come_and_go_while_a_volume_moves() {
    let rig = rig().await;
    let held = Arc::new(Notify::new());
    let (_, reads) = BEFORE[2];
    rig.fake.rule(1, Behaviour::Hold(Arc::clone(&held)), reads);
    moved(&rig, Duration::ZERO).await.unwrap();
    asked(&rig, reads).await;
    rig.outcome(attach(id(3), VOLUME, OTHER_HOST, Transport::NvmeTcp))
        .await;
    rig.outcome(detach(CONNECTION)).await;
    for command in [
        extend(VOLUME, 2 * MIB),
        snapshot(id(4), VOLUME),
        Command::VolumeDelete { id: VOLUME },
    ] {
        assert!(rig.ask(command).await.is_err());
    }
    held.notify_one();
    assert!(matches!(moved(&rig, LONG).await, Ok(Answer::Done(_))));
    settled(&rig.engine, UNIT).await;
    assert_eq!(thins(&rig), [(OTHER, 0)].into());
    let last = rig.fake.last_applied(VOLUME).unwrap();
    assert!(last.exports.nvme.is_some() && last.exports.iscsi.is_none());
}
