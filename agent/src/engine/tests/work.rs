use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{
    JobResult, JobState, ObjectKind, ObjectRef, Operation, Problem, ProblemCode, Progress,
};
use ashlar_targetd_protocol::Request;
use tokio::sync::Notify;
use uuid::Uuid;

use super::rig::*;
use crate::domain::{Key, Undertaking};
use crate::engine::{Begun, Command, PageQuery, Rule, Work};
use crate::store::{Batch, Options, Store};
use crate::targetd::fake::Behaviour;

const MIB: u64 = 1 << 20;
const JOB: Uuid = Uuid::from_u128(0x70b);
const VOLUME: ObjectRef = ObjectRef {
    kind: ObjectKind::Volume,
    id: Uuid::from_u128(1),
};

fn undertaking() -> Undertaking {
    Undertaking {
        operation: Operation::VolumeExtend,
        object: VOLUME,
        progress: Progress {
            done: 0,
            total: Some(8 * MIB),
        },
    }
}

fn free() -> Rule {
    Box::new(|_, _, _| Ok(Vec::new()))
}

async fn ask(rig: &Rig, rule: Rule) -> Result<Begun, Problem> {
    let context = context(JOB, &Command::VolumeDelete { id: VOLUME.id });
    rig.engine.begin(undertaking(), context, rule).await
}

async fn begun(rig: &Rig) -> Work {
    match ask(rig, free()).await {
        Ok(Begun::Work(work)) => work,
        other => panic!("{other:?}"),
    }
}

/// Waits until the job has ended, which a dropped handle does not wait for.
async fn ended(rig: &Rig) -> ashlar_protocol::Job {
    let job = async || rig.engine.job(JOB).await.unwrap();
    becomes(async || job().await.state != JobState::Running).await;
    job().await
}

#[tokio::test]
async fn long_work_shows_how_far_it_is_and_keeps_what_it_came_to() {
    let rig = Rig::furnished().await;
    let work = begun(&rig).await;
    work.meter().advance(3 * MIB);
    let job = rig.engine.job(JOB).await.unwrap();
    assert_eq!(job.state, JobState::Running);
    assert_eq!(job.progress.map(|p| p.done), Some(3 * MIB));

    // The same request meanwhile is told how it is, and begins nothing.
    assert!(matches!(ask(&rig, free()).await, Ok(Begun::Before(_))));

    work.meter().advance(5 * MIB);
    let result = JobResult {
        written: Some(8 * MIB),
        ..JobResult::default()
    };
    assert_eq!(work.finish(Ok(result.clone())).await, Ok(result.clone()));
    let rig = rig.kill().await;
    let job = rig.engine.job(JOB).await.unwrap();
    assert_eq!((job.state, job.result), (JobState::Succeeded, Some(result)));
    assert_eq!(job.progress.map(|p| p.done), Some(8 * MIB));
    let ended = rig.engine.cancel(JOB, LONG).await.unwrap_err();
    assert_eq!(ended.code, ProblemCode::WrongState);
}

#[tokio::test]
async fn long_work_that_a_rule_forbids_is_no_job() {
    let rig = Rig::furnished().await;
    let no = Problem::new(ProblemCode::InUse, "not now");
    let rule = no.clone();
    let refused = ask(&rig, Box::new(move |_, _, _| Err(rule))).await;
    assert_eq!(refused.unwrap_err(), no);
    assert_eq!(
        rig.engine.job(JOB).await.unwrap_err().code,
        ProblemCode::NotFound
    );
    // Nothing of it is left in the way.
    drop(begun(&rig).await);
}

#[tokio::test]
async fn cancelled_work_stops_and_whatever_it_then_says_is_cancelled() {
    let rig = Rig::furnished().await;
    let work = begun(&rig).await;
    let meter = work.meter();
    let ending = rig.engine.cancel(JOB, Duration::ZERO).await.unwrap();
    assert_eq!(ending.map(|job| job.state), Some(JobState::Running));
    meter.cancelled().await;
    assert!(meter.is_cancelled());

    let waiting = tokio::spawn({
        let engine = rig.engine.clone();
        async move { engine.cancel(JOB, LONG).await }
    });
    let broken = Problem::new(ProblemCode::KernelFailed, "the pipe broke");
    let told = work.finish(Err(broken)).await.unwrap_err();
    assert_eq!(told.code, ProblemCode::Cancelled);
    assert_eq!(waiting.await.unwrap(), Ok(None));
    assert_eq!(ended(&rig).await.state, JobState::Cancelled);
    // Once more changes nothing.
    assert_eq!(rig.engine.cancel(JOB, LONG).await, Ok(None));
}

#[tokio::test]
async fn work_that_was_dropped_has_failed_and_may_be_asked_for_again() {
    let rig = Rig::furnished().await;
    let work = begun(&rig).await;
    work.meter().advance(MIB);
    drop(work);
    let job = ended(&rig).await;
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(job.progress.map(|p| p.done), Some(MIB));
    let problem = job.problem.unwrap();
    assert_eq!(problem.code, ProblemCode::Interrupted);
    assert!(problem.retryable);
}

#[tokio::test]
async fn work_that_was_under_way_when_the_process_ended_has_failed() {
    let rig = Rig::furnished().await;
    let work = begun(&rig).await;
    let intent = rig.engine.shared.intent.read().await;
    assert_eq!(intent.work_on(VOLUME), Some(JOB));
    drop(intent);
    let rig = rig.kill().await;
    drop(work);
    let job = rig.engine.job(JOB).await.unwrap();
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(job.problem.unwrap().code, ProblemCode::Interrupted);
    let intent = rig.engine.shared.intent.read().await;
    assert_eq!(intent.work_on(VOLUME), None);
}

#[tokio::test]
async fn a_creation_is_cancelled_by_taking_it_back() {
    let rig = Rig::furnished().await;
    let held = Arc::new(Notify::new());
    let applies = |request: &Request| matches!(request, Request::ApplyVolume(_));
    rig.fake
        .rule(1, Behaviour::Hold(Arc::clone(&held)), applies);
    let asked = rig
        .ask_as(JOB, volume(VOLUME.id, MIB), Duration::ZERO)
        .await;
    assert!(matches!(asked, Ok(crate::engine::Answer::Accepted(_))));
    assert_eq!(rig.engine.cancel(JOB, LONG).await, Ok(None));
    assert_eq!(ended(&rig).await.state, JobState::Cancelled);
    held.notify_one();
    becomes(async || rig.engine.volume(VOLUME.id).await.is_err()).await;
    assert!(rig.fake.kernel().thin.is_empty());
}

#[tokio::test]
async fn what_takes_something_away_is_not_cancelled() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(VOLUME.id, MIB)).await;
    let held = Arc::new(Notify::new());
    let applies = |request: &Request| matches!(request, Request::ApplyVolume(_));
    rig.fake
        .rule(1, Behaviour::Hold(Arc::clone(&held)), applies);
    let delete = Command::VolumeDelete { id: VOLUME.id };
    rig.ask_as(JOB, delete, Duration::ZERO).await.unwrap();
    let refused = rig.engine.cancel(JOB, LONG).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::WrongState);
    held.notify_one();
    assert_eq!(ended(&rig).await.state, JobState::Succeeded);
}

/// What a newer firmware was asked for, before the box went back to this one.
#[tokio::test]
async fn a_request_that_this_version_does_not_know_is_passed_over() {
    let rig = Rig::furnished().await;
    let (dir, fake) = rig.stop().await;
    let state = dir.path().join("state");
    {
        let (mut store, _) = Store::open(&state, Options::default()).unwrap();
        let (key, value) = store
            .load()
            .map(Result::unwrap)
            .find(|(key, _)| matches!(Key::parse(key), Ok(Key::Request(_))))
            .unwrap();
        let text = String::from_utf8_lossy(&value).into_owned();
        assert!(
            text.contains("host-create") || text.contains("pool-create"),
            "{text}"
        );
        // Of the same length: so it is CBOR still.
        let newer = replaced(&value, b"host-create", b"moon-create");
        let newer = replaced(&newer, b"pool-create", b"moon-create");
        let mut batch = Batch::default();
        batch.put(key, newer);
        store.stage(batch).unwrap();
        store.commit().unwrap();
    }
    let (engine, task) = start(&state, &fake).await;
    assert_eq!(
        engine
            .hosts(&PageQuery {
                after: None,
                limit: 10
            })
            .await
            .unwrap()
            .items
            .len(),
        2
    );
    task.stop().await;
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}
