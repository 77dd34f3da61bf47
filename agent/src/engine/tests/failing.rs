use std::time::Duration;

use ashlar_protocol::{ConnectionState, HealthStatus, JobState, ProblemCode, Transport};
use ashlar_targetd_protocol::{Accesses, DataState, FailureKind, Request};

use super::rig::*;
use crate::domain::samples;
use crate::engine::{Answer, Command, Outcome};
use crate::store::Options;
use crate::targetd::fake::Behaviour;

const MIB: u64 = 1 << 20;

fn applies_volume(request: &Request) -> bool {
    matches!(request, Request::ApplyVolume(_))
}

#[tokio::test]
async fn a_volume_that_cannot_be_made_is_forgotten_and_its_thin_id_is_not_given_again() {
    let rig = Rig::furnished().await;
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::NoSpace), applies_volume);
    let problem = rig
        .ask_as(id(9), volume(id(1), MIB), LONG)
        .await
        .unwrap_err();
    assert_eq!(
        (problem.code, problem.retryable),
        (ProblemCode::NoSpace, false)
    );
    assert_eq!(problem.detail, "asked to fail");
    assert_eq!(
        rig.engine.volume(id(1)).await.unwrap_err().code,
        ProblemCode::NotFound
    );
    assert!(rig.fake.kernel().thin.is_empty());
    let job = rig.engine.job(id(9)).await.unwrap();
    assert_eq!(
        (job.state, job.problem),
        (JobState::Failed, Some(problem.clone()))
    );
    // The same request again has the same answer.
    assert_eq!(
        rig.ask_as(id(9), volume(id(1), MIB), LONG)
            .await
            .unwrap_err(),
        problem
    );

    let first = rig.fake.last_applied(id(1)).unwrap().thin_id;
    rig.outcome(volume(id(1), MIB)).await;
    assert_ne!(rig.fake.last_applied(id(1)).unwrap().thin_id, first);
}

#[tokio::test]
async fn a_volume_whose_thin_device_is_somebodys_is_forgotten_and_the_thin_device_stays() {
    let rig = Rig::furnished().await;
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::Occupied), applies_volume);
    let problem = rig
        .ask_as(id(9), volume(id(1), MIB), LONG)
        .await
        .unwrap_err();
    assert_eq!(problem.code, ProblemCode::KernelFailed);
    assert_eq!(
        rig.engine.volume(id(1)).await.unwrap_err().code,
        ProblemCode::NotFound
    );
    let job = rig.engine.job(id(9)).await.unwrap();
    assert_eq!((job.state, job.problem), (JobState::Failed, Some(problem)));
    // Nobody was told to destroy it, and its id is not given again.
    let kept = rig.fake.last_applied(id(1)).unwrap();
    assert_eq!(kept.data, DataState::Provision);
    rig.outcome(volume(id(1), MIB)).await;
    assert_ne!(rig.fake.last_applied(id(1)).unwrap().thin_id, kept.thin_id);
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_is_removed_and_the_others_stay() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await;
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::Foreign), applies_volume);
    let problem = rig
        .ask(attach(id(3), id(1), OTHER_HOST, Transport::Iscsi))
        .await
        .unwrap_err();
    assert_eq!(problem.code, ProblemCode::KernelFailed);
    assert_eq!(
        rig.engine.connection(id(3)).await.unwrap_err().code,
        ProblemCode::NotFound
    );
    assert_eq!(
        rig.engine.connection(id(2)).await.unwrap().state,
        ConnectionState::Ready
    );
    let kernel = rig.fake.kernel();
    assert_eq!(
        kernel.exported[&id(1)]
            .exports
            .iscsi
            .as_ref()
            .unwrap()
            .initiators
            .len(),
        1
    );
}

#[tokio::test]
async fn a_pool_that_cannot_be_made_is_forgotten_and_leaves_the_kernel() {
    let rig = Rig::empty().await;
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::NotBlank), |request| {
            matches!(request, Request::ApplyPool(_))
        });
    let problem = rig.ask(pool(POOL, &["serial-DISK0"])).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::NotBlank);
    assert_eq!(
        rig.engine.pool(POOL).await.unwrap_err().code,
        ProblemCode::NotFound
    );
    let last = rig
        .fake
        .kernel()
        .calls
        .iter()
        .rev()
        .find_map(|call| match call {
            Request::ApplyPool(desired) => Some(desired.absent),
            _ => None,
        });
    assert_eq!(last, Some(true));
    // The disk is free for another.
    rig.outcome(pool(id(0xa1), &["serial-DISK0"])).await;
}

#[tokio::test]
async fn a_pool_that_cannot_grow_is_what_it_was_and_takes_new_things() {
    let rig = Rig::furnished().await;
    let before = rig.engine.pool(POOL).await.unwrap();
    let grows = |request: &Request| matches!(request, Request::ApplyPool(pool) if pool.grows_from.is_some());
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::NotBlank), grows);
    let problem = rig.ask(grow(&["serial-DISK1"])).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::NotBlank);
    rig.outcome(volume(id(1), MIB)).await;
    let after = rig.engine.pool(POOL).await.unwrap();
    assert_eq!(after.disks, before.disks);
    assert_eq!(after.capacity, before.capacity);
    // What may pass is tried until it does.
    rig.fake
        .rule(2, Behaviour::Fail(FailureKind::Kernel), grows);
    rig.outcome(grow(&["serial-DISK1"])).await;
    let grown = rig.engine.pool(POOL).await.unwrap();
    assert_eq!(grown.disks.len(), 2);
    let rig = rig.restart().await;
    assert_eq!(rig.engine.pool(POOL).await.unwrap().disks.len(), 2);
    assert!(rig.fake.kernel().pools[&POOL].grows_from.is_none());
}

#[tokio::test]
async fn a_pool_that_fails_to_grow_serves_as_it_was() {
    let rig = Rig::furnished().await;
    let grows = |request: &Request| matches!(request, Request::ApplyPool(pool) if pool.grows_from.is_some());
    rig.fake
        .rule(usize::MAX, Behaviour::Fail(FailureKind::Kernel), grows);
    let short = Duration::from_millis(10);
    let answer = rig.ask_as(id(9), grow(&["serial-DISK1"]), short).await;
    assert!(matches!(answer, Ok(Answer::Accepted(_))), "{answer:?}");
    rig.outcome(volume(id(1), MIB)).await;
    // Nor does a new process wait for it.
    let rig = rig.restart().await;
    rig.outcome(volume(id(2), MIB)).await;
    rig.outcome(attach(id(3), id(1), HOST, Transport::Iscsi))
        .await;
    assert_ne!(
        rig.engine.job(id(9)).await.unwrap().state,
        JobState::Succeeded
    );
    rig.fake.obey();
    rig.ask_as(id(9), grow(&["serial-DISK1"]), LONG)
        .await
        .unwrap();
    assert_eq!(rig.engine.pool(POOL).await.unwrap().disks.len(), 2);
    assert_eq!(
        rig.engine.job(id(9)).await.unwrap().state,
        JobState::Succeeded
    );
}

#[tokio::test]
async fn a_pool_that_is_not_to_be_destroyed_stays_and_one_that_is_is_gone() {
    let rig = Rig::empty().await;
    rig.outcome(pool(POOL, &["serial-DISK0"])).await;
    let destroy = |force| Command::PoolDelete { id: POOL, force };
    let destroys =
        |request: &Request| matches!(request, Request::ApplyPool(pool) if pool.destroy.is_some());
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::NotBlank), destroys);
    let problem = rig.ask(destroy(false)).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::NotBlank);
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(Command::VolumeDelete { id: id(1) }).await;
    // It may be gone in part, so it is tried until it is gone.
    rig.fake
        .rule(2, Behaviour::FailAfter(FailureKind::Kernel), destroys);
    assert_eq!(rig.outcome(destroy(true)).await, Outcome::Removed);
    assert!(rig.fake.kernel().pools.is_empty());
    let rig = rig.restart().await;
    let problem = rig.engine.pool(POOL).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::NotFound);
    rig.outcome(pool(id(0xa1), &["serial-DISK0"])).await;
}

#[tokio::test]
async fn a_pool_on_disks_in_use_is_forgotten_and_they_are_not_formatted_once_free() {
    let rig = Rig::empty().await;
    let formats = |request: &Request| matches!(request, Request::ApplyPool(pool) if !pool.absent);
    rig.fake
        .rule(usize::MAX, Behaviour::Fail(FailureKind::InUse), formats);
    let problem = rig.ask(pool(POOL, &["serial-DISK0"])).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::InUse);
    assert_eq!(
        rig.engine.pool(POOL).await.unwrap_err().code,
        ProblemCode::NotFound
    );
    rig.fake.obey();
    let rig = rig.restart().await;
    assert!(rig.fake.kernel().pools.is_empty());
    rig.outcome(pool(id(0xa1), &["serial-DISK0"])).await;
}

#[tokio::test]
async fn a_connection_refused_because_of_something_in_use_does_not_come_later() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    let exports =
        |request: &Request| matches!(request, Request::ApplyVolume(v) if !v.exports.is_empty());
    rig.fake
        .rule(usize::MAX, Behaviour::Fail(FailureKind::InUse), exports);
    let problem = rig
        .ask(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await
        .unwrap_err();
    assert_eq!(problem.code, ProblemCode::InUse);
    assert_eq!(
        rig.engine.connection(id(2)).await.unwrap_err().code,
        ProblemCode::NotFound
    );
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_until_it_passes() {
    let rig = Rig::furnished().await;
    rig.fake
        .rule(2, Behaviour::Fail(FailureKind::Kernel), applies_volume);
    let Outcome::Volume { created: true, .. } = rig.outcome(volume(id(1), MIB)).await else {
        panic!("not made")
    };
}

#[tokio::test]
async fn a_failing_job_tells_why_while_it_goes_on() {
    let rig = Rig::furnished().await;
    rig.fake.rule(
        usize::MAX,
        Behaviour::Fail(FailureKind::Kernel),
        applies_volume,
    );
    let answer = rig
        .ask_as(id(9), volume(id(1), MIB), Duration::from_millis(400))
        .await;
    let Ok(Answer::Accepted(job)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(job.state, JobState::Running);
    assert_eq!(job.problem.unwrap().code, ProblemCode::KernelFailed);
    let health = rig.engine.health(None).await;
    let reconcile = health
        .checks
        .iter()
        .find(|check| check.name == "reconcile")
        .unwrap();
    assert_eq!(reconcile.status, HealthStatus::Degraded);
    // One in the making can be got rid of all the same, once the kernel obeys.
    let deleted = rig
        .ask_as(id(10), Command::VolumeDelete { id: id(1) }, Duration::ZERO)
        .await;
    assert!(matches!(deleted, Ok(Answer::Accepted(_))), "{deleted:?}");
}

#[tokio::test]
async fn a_host_that_does_not_let_go_keeps_its_connection() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await;
    let unforced = |request: &Request| matches!(request, Request::ApplyVolume(v) if v.cut.is_empty() && v.exports.is_empty());
    rig.fake
        .rule(usize::MAX, Behaviour::Fail(FailureKind::InUse), unforced);
    let problem = rig.ask(detach(id(2))).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::InUse);
    assert_eq!(
        rig.engine.connection(id(2)).await.unwrap().state,
        ConnectionState::Ready
    );
    // With force it is cut off.
    let forced = Command::ConnectionDelete {
        id: id(2),
        force: true,
    };
    assert_eq!(rig.outcome(forced).await, Outcome::Removed);
}

#[tokio::test]
async fn of_two_hosts_being_detached_only_the_one_that_does_not_let_go_keeps_its_connection() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    for (connection, host) in [(id(2), HOST), (id(3), OTHER_HOST)] {
        rig.outcome(attach(connection, id(1), host, Transport::Iscsi))
            .await;
    }
    let iqn = |n| samples::host_spec(n).iqn.unwrap();
    let holds = Accesses {
        iscsi: [iqn(0)].into(),
        ..Accesses::default()
    };
    let takes_it = move |request: &Request| match request {
        Request::ApplyVolume(v) => {
            let initiators = v.exports.iscsi.as_ref().map(|export| &export.initiators);
            !initiators.is_some_and(|listed| listed.contains_key(&iqn(0)))
        }
        _ => false,
    };
    rig.fake.rule(usize::MAX, Behaviour::Used(holds), takes_it);
    let (first, second) = tokio::join!(rig.ask(detach(id(2))), rig.ask(detach(id(3))));
    assert_eq!(first.unwrap_err().code, ProblemCode::InUse);
    assert!(matches!(second, Ok(Answer::Done(Outcome::Removed))));
    assert_eq!(
        rig.engine.connection(id(2)).await.unwrap().state,
        ConnectionState::Ready
    );
}

#[tokio::test]
async fn an_extension_the_kernel_refuses_for_good_leaves_the_volume_as_it_was() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await;
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::NoSpace), applies_volume);
    let problem = rig.ask(extend(id(1), 2 * MIB)).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::NoSpace);
    assert_eq!(rig.engine.volume(id(1)).await.unwrap().size, MIB);
    let exported = rig.fake.kernel().exported[&id(1)].clone();
    assert_eq!(exported.size.bytes().0, MIB);
    assert!(!exported.exports.is_empty());
    // Later it may fit.
    rig.outcome(extend(id(1), 2 * MIB)).await;
    assert_eq!(rig.engine.volume(id(1)).await.unwrap().size, 2 * MIB);
}

#[tokio::test]
async fn a_host_that_lets_go_in_time_is_detached() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await;
    rig.fake
        .rule(2, Behaviour::Fail(FailureKind::InUse), applies_volume);
    assert_eq!(rig.outcome(detach(id(2))).await, Outcome::Removed);
}

#[tokio::test]
async fn without_targetd_changes_are_refused_and_nothing_is_kept() {
    let mut rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.fake.pause();
    let mut link = rig.engine.shared.targetd.link();
    link.wait_for(|link| matches!(link, crate::targetd::Link::Away(_)))
        .await
        .unwrap();
    for command in [
        volume(id(5), MIB),
        pool(id(0xa1), &["serial-DISK1"]),
        attach(id(2), id(1), HOST, Transport::Iscsi),
        Command::VolumeDelete { id: id(1) },
    ] {
        let problem = rig.ask(command).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::TargetdUnavailable);
        assert!(problem.retryable);
    }
    // What the kernel need not know goes on.
    rig.outcome(host(id(0xb2), 2)).await;
    rig.outcome(extend(id(1), 2 * MIB)).await;
    let missing = rig
        .ask(Command::VolumeDelete { id: id(5) })
        .await
        .unwrap_err();
    assert_eq!(missing.code, ProblemCode::NotFound);
    assert_eq!(rig.engine.health(None).await.status, HealthStatus::Degraded);
}

#[tokio::test]
async fn a_targetd_that_dies_in_the_middle_is_asked_again() {
    let rig = Rig::furnished().await;
    rig.fake.rule(1, Behaviour::DieBefore, applies_volume);
    rig.fake.rule(1, Behaviour::DieAfter, applies_volume);
    let Outcome::Volume { created: true, .. } = rig.outcome(volume(id(1), MIB)).await else {
        panic!("not made")
    };
    rig.fake.rule(1, Behaviour::DieAfter, applies_volume);
    assert_eq!(
        rig.outcome(Command::VolumeDelete { id: id(1) }).await,
        Outcome::Removed
    );
    assert!(rig.fake.kernel().thin.is_empty());
}

#[tokio::test]
async fn a_full_state_disk_refuses_the_change_and_keeps_nothing_of_it() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    let (dir, fake) = rig.stop().await;
    // No disk has this much room.
    let full = Options {
        reserve_bytes: u64::MAX,
        ..Options::default()
    };
    let (engine, task) = start_on(&dir.path().join("state"), &fake, full).await;
    let rig = Rig {
        dir,
        fake,
        engine,
        task,
    };
    let before = rig.engine.shared.intent.read().await.clone();
    rig.fake.kernel().calls.clear();
    for command in [
        volume(id(2), MIB),
        host(id(0xb2), 2),
        attach(id(3), id(1), HOST, Transport::Iscsi),
        Command::VolumeDelete { id: id(1) },
    ] {
        let problem = rig.ask(command).await.unwrap_err();
        assert_eq!(
            (problem.code, problem.retryable),
            (ProblemCode::StateDiskFull, true)
        );
    }
    assert_eq!(*rig.engine.shared.intent.read().await, before);
    let applies = rig
        .fake
        .kernel()
        .calls
        .iter()
        .filter(|call| applies_volume(call))
        .count();
    assert_eq!(applies, 0);
    assert!(rig.engine.volume(id(1)).await.is_ok());
}
