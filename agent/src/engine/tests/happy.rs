use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{
    ConnectionState, DhGroup, DhHash, DhchapExchange, HealthStatus, HostRotation, HostSecrets,
    JobState, PoolState, Problem, ProblemCode, Transport, VolumeState,
};
use ashlar_targetd_protocol::{ChapCredentials, DataState, FailureKind, NvmeHost, Request};
use tokio::sync::Notify;
use uuid::Uuid;

use super::rig::*;
use crate::engine::{Answer, Command, Outcome, PageQuery};
use crate::targetd::fake::Behaviour;

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn a_pool_comes_online_with_its_capacity() {
    let rig = Rig::empty().await;
    let Outcome::Pool { pool, created } = rig.outcome(pool(POOL, &["serial-DISK0"])).await else {
        panic!("not a pool")
    };
    assert!(created);
    assert_eq!(pool.state, PoolState::Online);
    assert_eq!(pool.metadata_size, 64 * MIB);
    assert_eq!(pool.capacity, Some((1 << 30) - 64 * MIB));
}

#[tokio::test]
async fn a_pool_grows_and_its_capacity_with_it() {
    let rig = Rig::furnished().await;
    let before = rig.engine.pool(POOL).await.unwrap();
    let Outcome::Pool { pool, created } = rig.outcome(grow(&["serial-DISK1"])).await else {
        panic!("not a pool")
    };
    assert!(!created);
    assert_eq!(pool.disks.len(), before.disks.len() + 1);
    assert_eq!(pool.capacity, before.capacity.map(|was| was + (1 << 30)));
    // What was not promised before is now.
    let large = volume(id(1), before.capacity.unwrap() + MIB);
    rig.outcome(large).await;
}

#[tokio::test]
async fn a_volume_lives_from_creation_to_deletion() {
    let rig = Rig::furnished().await;
    let v = id(1);
    let Outcome::Volume {
        volume: made,
        created,
    } = rig.outcome(volume(v, 10 * MIB + 1)).await
    else {
        panic!("not a volume")
    };
    assert!(created);
    assert_eq!((made.state, made.size), (VolumeState::Available, 11 * MIB));
    assert_eq!(rig.fake.kernel().thin.len(), 1);
    assert!(rig.fake.kernel().exported.is_empty());

    let Outcome::Connection {
        connection,
        created,
    } = rig.outcome(attach(id(2), v, HOST, Transport::Iscsi)).await
    else {
        panic!("not a connection")
    };
    assert!(created);
    assert_eq!(connection.state, ConnectionState::Ready);
    let access = connection.iscsi.unwrap();
    assert_eq!(access.portals, ["0.0.0.0:3260".parse().unwrap()]);
    let nvme = rig
        .outcome(attach(id(3), v, OTHER_HOST, Transport::NvmeTcp))
        .await;
    let Outcome::Connection { connection, .. } = nvme else {
        panic!("not a connection")
    };
    assert_eq!(
        connection.nvme.unwrap().portals,
        ["192.0.2.1:4420".parse().unwrap()]
    );
    {
        let kernel = rig.fake.kernel();
        let exports = &kernel.exported[&v].exports;
        assert_eq!(exports.iscsi.as_ref().unwrap().target, access.target);
        assert_eq!(exports.nvme.as_ref().unwrap().hosts.len(), 1);
        assert_eq!(kernel.exported[&v].data, DataState::Present);
    }

    let Outcome::Volume { volume: grown, .. } = rig.outcome(extend(v, 20 * MIB)).await else {
        panic!("not a volume")
    };
    assert_eq!((grown.size, grown.connections), (20 * MIB, 2));
    assert_eq!(rig.fake.kernel().exported[&v].size.bytes().0, 20 * MIB);

    let in_use = rig.ask(Command::VolumeDelete { id: v }).await.unwrap_err();
    assert_eq!(in_use.code, ProblemCode::InUse);
    assert!(in_use.detail.contains("2 connections"), "{in_use}");

    assert_eq!(rig.outcome(detach(id(2))).await, Outcome::Removed);
    assert!(rig.fake.last_applied(v).unwrap().cut.is_empty());
    assert_eq!(
        rig.outcome(Command::VolumeDetachAll { id: v }).await,
        Outcome::Detached
    );
    assert!(!rig.fake.last_applied(v).unwrap().cut.is_empty());
    assert!(rig.fake.kernel().exported.is_empty());
    assert_eq!(
        rig.outcome(Command::VolumeDelete { id: v }).await,
        Outcome::Removed
    );
    assert!(rig.fake.kernel().thin.is_empty());
    assert_eq!(
        rig.engine.volume(v).await.unwrap_err().code,
        ProblemCode::NotFound
    );
    assert_eq!(rig.engine.health(None).await.status, HealthStatus::Ok);
}

#[tokio::test]
async fn a_volume_without_connections_costs_one_call_and_no_device() {
    let rig = Rig::furnished().await;
    rig.fake.kernel().calls.clear();
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(extend(id(1), 2 * MIB)).await;
    assert_eq!(rig.fake.kernel().calls.len(), 1);
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_answer_and_changes_nothing() {
    let rig = Rig::furnished().await;
    let first = rig.ask_as(id(9), volume(id(1), MIB), LONG).await.unwrap();
    let calls = rig.fake.kernel().calls.len();
    let again = rig.ask_as(id(9), volume(id(1), MIB), LONG).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(rig.fake.kernel().calls.len(), calls);

    let reused = rig
        .ask_as(id(9), volume(id(2), MIB), LONG)
        .await
        .unwrap_err();
    assert_eq!(reused.code, ProblemCode::RequestIdReused);
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_answer_after_its_object_is_gone() {
    let rig = Rig::furnished().await;
    let create = |v| rig.ask_as(id(v + 100), volume(id(v), MIB), LONG);
    let (first, second) = (create(1).await.unwrap(), create(2).await.unwrap());
    let attached = attach(id(3), id(1), HOST, Transport::Iscsi);
    let connection = rig.ask_as(id(103), attached.clone(), LONG).await.unwrap();
    let known = rig.ask_as(id(104), host(HOST, 0), LONG).await.unwrap();
    rig.outcome(extend(id(1), 2 * MIB)).await;
    rig.outcome(Command::VolumeDetachAll { id: id(1) }).await;
    rig.ask_as(id(105), Command::VolumeDelete { id: id(1) }, LONG)
        .await
        .unwrap();
    rig.outcome(Command::HostDelete { id: HOST }).await;

    let rig = rig.kill().await;
    let again = |n, command| rig.ask_as(id(n), command, LONG);
    assert_eq!(again(101, volume(id(1), MIB)).await.unwrap(), first);
    assert_eq!(again(102, volume(id(2), MIB)).await.unwrap(), second);
    assert_eq!(again(103, attached).await.unwrap(), connection);
    assert_eq!(again(104, host(HOST, 0)).await.unwrap(), known);
    let deleted = again(105, Command::VolumeDelete { id: id(1) }).await;
    assert_eq!(deleted, Ok(Answer::Done(Outcome::Removed)));
}

#[tokio::test]
async fn a_hosts_secrets_are_told_to_the_request_that_made_it_alone() {
    let rig = Rig::empty().await;
    let secrets = |answer| match answer {
        Answer::Done(Outcome::Host { created, new }) => (created.secrets, new),
        other => panic!("{other:?}"),
    };
    let (told, new) = secrets(rig.ask_as(id(9), host(HOST, 0), LONG).await.unwrap());
    assert!(new && told.chap.is_some() && told.dhchap.is_some());
    let (again, _) = secrets(rig.ask_as(id(9), host(HOST, 0), LONG).await.unwrap());
    assert_eq!(again, told);
    let (nothing, new) = secrets(rig.ask(host(HOST, 0)).await.unwrap());
    assert_eq!((nothing, new), (HostSecrets::default(), false));
}

fn rotate() -> Command {
    Command::HostRotate {
        id: HOST,
        spec: Box::default(),
    }
}

/// What the fake kernel has for the host of a volume.
fn chap_of(rig: &Rig, volume: Uuid) -> Option<ChapCredentials> {
    let iscsi = rig
        .fake
        .last_applied(volume)
        .unwrap()
        .exports
        .iscsi
        .unwrap();
    let acl = iscsi.initiators.into_values().next().unwrap();
    acl.chap
}

#[tokio::test]
async fn rotated_secrets_are_told_once_every_volume_of_the_host_has_them() {
    let rig = Rig::furnished().await;
    for n in 1..=3 {
        rig.outcome(volume(id(n), MIB)).await;
        rig.outcome(attach(id(n + 10), id(n), HOST, Transport::Iscsi))
            .await;
    }
    let release = Arc::new(Notify::new());
    let hold = Behaviour::Hold(Arc::clone(&release));
    rig.fake.rule(
        1,
        hold,
        |request| matches!(request, Request::ApplyVolume(volume) if volume.id == id(2)),
    );
    let answer = rig.ask_as(id(9), rotate(), Duration::from_millis(50)).await;
    assert!(matches!(answer, Ok(Answer::Accepted(_))), "{answer:?}");
    release.notify_one();
    let told = match rig.ask_as(id(9), rotate(), LONG).await {
        Ok(Answer::Done(Outcome::Host {
            created,
            new: false,
        })) => created.secrets,
        other => panic!("{other:?}"),
    };
    assert!(told.chap.is_some());
    for n in 1..=3 {
        assert_eq!(chap_of(&rig, id(n)), told.chap, "volume {n}");
    }
    // Nobody else is told, not even who rotates them once more.
    let other = rig.outcome(rotate()).await;
    assert!(matches!(other, Outcome::Host { created, .. } if created.secrets.chap != told.chap));
}

fn told(answer: Result<Answer, Problem>) -> HostSecrets {
    match answer {
        Ok(Answer::Done(Outcome::Host { created, .. })) => created.secrets,
        other => panic!("{other:?}"),
    }
}

/// A box with a host that has volume 1 over iSCSI and volume 2 over NVMe.
async fn both_ways() -> Rig {
    let rig = Rig::furnished().await;
    for (n, transport) in [(1, Transport::Iscsi), (2, Transport::NvmeTcp)] {
        rig.outcome(volume(id(n), MIB)).await;
        rig.outcome(attach(id(n + 10), id(n), HOST, transport))
            .await;
    }
    rig
}

/// The next change of volume 1 is answered only when this is notified.
fn held(rig: &Rig) -> Arc<Notify> {
    let release = Arc::new(Notify::new());
    let hold = Behaviour::Hold(Arc::clone(&release));
    let slow = |request: &Request| matches!(request, Request::ApplyVolume(v) if v.id == id(1));
    rig.fake.rule(1, hold, slow);
    release
}

/// What the fake kernel has for the host of volume 2.
fn nvme_of(rig: &Rig) -> NvmeHost {
    let exports = rig.fake.last_applied(id(2)).unwrap().exports;
    exports.nvme.unwrap().hosts.into_values().next().unwrap()
}

#[tokio::test]
async fn a_rotation_takes_no_volume_back_to_before_what_was_changed_meanwhile() {
    let rig = both_ways().await;
    let release = held(&rig);
    let answer = rig.ask_as(id(9), rotate(), Duration::ZERO).await;
    assert!(matches!(answer, Ok(Answer::Accepted(_))), "{answer:?}");
    rig.outcome(extend(id(2), 2 * MIB)).await;
    release.notify_one();
    let told = told(rig.ask_as(id(9), rotate(), LONG).await);
    assert_eq!(chap_of(&rig, id(1)), told.chap);
    assert_eq!(nvme_of(&rig).key, told.dhchap);
    assert_eq!(rig.engine.health(None).await.status, HealthStatus::Ok);
}

#[tokio::test]
async fn each_of_two_rotations_is_told_its_own_secrets_or_none() {
    let rig = both_ways().await;
    let release = held(&rig);
    for n in [8, 9] {
        let answer = rig.ask_as(id(n), rotate(), Duration::ZERO).await;
        assert!(matches!(answer, Ok(Answer::Accepted(_))), "{answer:?}");
    }
    release.notify_one();
    let last = told(rig.ask_as(id(9), rotate(), LONG).await);
    let first = told(rig.ask_as(id(8), rotate(), LONG).await);
    assert_eq!(first, HostSecrets::default());
    assert_eq!(chap_of(&rig, id(1)), last.chap);
    assert_eq!(nvme_of(&rig).key, last.dhchap);
    assert_eq!(rig.engine.health(None).await.status, HealthStatus::Ok);
}

#[tokio::test]
async fn two_rotations_made_durable_together_are_told_different_secrets() {
    let rig = Rig::furnished().await;
    // The store thread waits for this with the first one, and finds the other when it goes on.
    let reading = rig.engine.shared.intent.read().await;
    let (first, last, ()) = tokio::join!(
        rig.ask_as(id(8), rotate(), LONG),
        rig.ask_as(id(9), rotate(), LONG),
        async { drop(reading) }
    );
    let (first, last) = (told(first), told(last));
    assert!(first.chap.is_some() && last.chap.is_some());
    assert_ne!(first, last);
    let again = rig.ask_as(id(8), rotate(), LONG).await;
    assert_eq!(told(again), first);
}

#[tokio::test]
async fn a_rotation_that_not_every_volume_takes_is_put_right_by_another() {
    let rig = both_ways().await;
    let unsupported = |request: &Request| match request {
        Request::ApplyVolume(volume) => {
            let nvme = volume.exports.nvme.as_ref();
            let mut hosts = nvme.into_iter().flat_map(|nvme| nvme.hosts.values());
            hosts.any(|host| host.exchange.group != DhGroup::None)
        }
        _ => false,
    };
    let fail = Behaviour::Fail(FailureKind::Unsupported);
    rig.fake.rule(usize::MAX, fail, unsupported);
    let by = |group| {
        let hash = DhHash::default();
        let dhchap = Some(DhchapExchange { hash, group });
        Command::HostRotate {
            id: HOST,
            spec: Box::new(HostRotation {
                dhchap,
                ..HostRotation::default()
            }),
        }
    };
    let wrong = by(DhGroup::Ffdhe8192);
    let problem = rig.ask_as(id(8), wrong.clone(), LONG).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::Unsupported);
    let job = rig.engine.job(id(8)).await.unwrap();
    assert_eq!(job.state, JobState::Running);

    let told_last = told(rig.ask_as(id(9), by(DhGroup::None), LONG).await);
    assert_eq!(chap_of(&rig, id(1)), told_last.chap);
    assert_eq!(nvme_of(&rig).key, told_last.dhchap);
    let first = told(rig.ask_as(id(8), wrong, LONG).await);
    assert_eq!(first, HostSecrets::default());
    assert_eq!(rig.engine.health(None).await.status, HealthStatus::Ok);
}

#[tokio::test]
async fn a_lap_does_not_wait_for_a_rotation_that_cannot_be_finished() {
    let rig = both_ways().await;
    let fail = Behaviour::Fail(FailureKind::Kernel);
    let second = |request: &Request| matches!(request, Request::ApplyVolume(v) if v.id == id(2));
    rig.fake.rule(usize::MAX, fail, second);
    let answer = rig.ask_as(id(9), rotate(), Duration::ZERO).await;
    assert!(matches!(answer, Ok(Answer::Accepted(_))), "{answer:?}");
    let rig = rig.restart().await;
    let lap = rig.engine.shared.reconciler.first_lap();
    tokio::time::timeout(LONG, lap).await.unwrap();
}

#[tokio::test]
async fn secrets_rotated_before_a_kill_are_everywhere_after_it() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await;
    let before = chap_of(&rig, id(1));
    rig.fake.rule(1, Behaviour::DieBefore, |request| {
        matches!(request, Request::ApplyVolume(_))
    });
    let answer = rig.ask_as(id(9), rotate(), Duration::ZERO).await;
    assert!(matches!(answer, Ok(Answer::Accepted(_))), "{answer:?}");
    let rig = rig.kill().await;
    let secrets = told(rig.ask_as(id(9), rotate(), LONG).await);
    assert_ne!(secrets.chap, before);
    assert_eq!(chap_of(&rig, id(1)), secrets.chap);
    assert_eq!(
        rig.engine.job(id(9)).await.unwrap().state,
        JobState::Succeeded
    );
    // Those of another are not told to it, for want of an answer kept.
    rig.outcome(rotate()).await;
    let again = told(rig.ask_as(id(9), rotate(), LONG).await);
    assert_eq!(again, HostSecrets::default());
}

#[tokio::test]
async fn past_its_deadline_a_change_is_a_job_that_later_succeeded() {
    let rig = Rig::furnished().await;
    let release = Arc::new(Notify::new());
    let hold = Behaviour::Hold(Arc::clone(&release));
    rig.fake.rule(1, hold, |request| {
        matches!(request, Request::ApplyVolume(_))
    });
    let answer = rig
        .ask_as(id(9), volume(id(1), MIB), Duration::from_millis(50))
        .await;
    let Ok(Answer::Accepted(job)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!((job.id, job.state), (id(9), JobState::Running));
    assert_eq!(
        rig.engine.volume(id(1)).await.unwrap().state,
        VolumeState::Creating
    );
    let busy = rig
        .ask(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await
        .unwrap_err();
    assert_eq!(busy.code, ProblemCode::Busy);

    release.notify_one();
    // The same request again waits for the rest of it.
    let again = rig.ask_as(id(9), volume(id(1), MIB), LONG).await.unwrap();
    assert!(matches!(
        again,
        Answer::Done(Outcome::Volume { created: true, .. })
    ));
    assert_eq!(
        rig.engine.job(id(9)).await.unwrap().state,
        JobState::Succeeded
    );
}

#[tokio::test]
async fn many_volumes_are_made_at_once() {
    let rig = Arc::new(Rig::furnished().await);
    let release = Arc::new(Notify::new());
    let hold = Behaviour::Hold(Arc::clone(&release));
    rig.fake.rule(32, hold, |request| {
        matches!(request, Request::ApplyVolume(_))
    });
    let mut asked = tokio::task::JoinSet::new();
    for n in 1..=32 {
        let rig = Arc::clone(&rig);
        asked.spawn(async move { rig.ask(volume(id(n), MIB)).await.is_ok() });
    }
    // All of them are with targetd before the first is answered.
    while rig.fake.kernel().thin.len() < 32 {
        tokio::task::yield_now().await;
    }
    for _ in 0..32 {
        release.notify_one();
        assert!(asked.join_next().await.unwrap().unwrap());
    }
    let thin: std::collections::BTreeSet<_> = rig.fake.kernel().thin.clone();
    assert_eq!(thin.len(), 32);
    let page = rig
        .engine
        .volumes(&PageQuery {
            after: None,
            limit: 20,
        })
        .await
        .unwrap();
    assert_eq!(page.items.len(), 20);
    let rest = PageQuery {
        after: page.next,
        limit: 20,
    };
    assert_eq!(rig.engine.volumes(&rest).await.unwrap().items.len(), 12);
}

#[tokio::test]
async fn the_same_asked_twice_at_once_is_made_once() {
    let rig = Rig::furnished().await;
    let (one, other) = tokio::join!(rig.ask(volume(id(1), MIB)), rig.ask(volume(id(1), MIB)));
    let created = |answer| match answer {
        Ok(Answer::Done(Outcome::Volume { created, volume })) => {
            assert_eq!(volume.state, VolumeState::Available);
            u8::from(created)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(created(one) + created(other), 1);
    assert_eq!(rig.fake.kernel().thin.len(), 1);
}

#[tokio::test]
async fn the_system_tells_what_it_can_do() {
    let rig = Rig::empty().await;
    let system = rig.engine.system().await;
    assert_eq!(
        system.capabilities.transports,
        [Transport::Iscsi, Transport::NvmeTcp]
    );
    assert_eq!(system.kernel.as_deref(), Some("6.12.0-fake"));
    assert_eq!(rig.engine.disks().await.unwrap().len(), 6);
}
