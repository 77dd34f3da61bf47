use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{ConnectionState, JobState, PoolState, ProblemCode, Transport, VolumeState};
use ashlar_targetd_protocol::{
    Accesses, DataState, DesiredVolume, Exports, FailureKind, Qos, Request, Sectors, ThinId,
};
use tokio::sync::Notify;

use super::rig::*;
use crate::domain::record::Unit;
use crate::engine::{Answer, Command};
use crate::targetd::fake::Behaviour;

const MIB: u64 = 1 << 20;

fn applies_volume(request: &Request) -> bool {
    matches!(request, Request::ApplyVolume(_))
}

#[tokio::test]
async fn all_that_was_acknowledged_is_there_after_a_kill_and_a_reboot() {
    let mut rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(volume(id(4), MIB)).await;
    rig.outcome(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await;
    let before = rig.engine.shared.intent.read().await.clone();
    rig.fake.reboot();
    let rig = rig.kill().await;
    settled(&rig.engine, Unit::Volume(id(1))).await;
    assert_eq!(
        rig.engine.connection(id(2)).await.unwrap().state,
        ConnectionState::Ready
    );
    assert_eq!(
        rig.engine.pool(POOL).await.unwrap().state,
        PoolState::Online
    );
    assert_eq!(rig.fake.kernel().exported.len(), 1);
    // A volume nobody is connected to needed nothing.
    let after_reboot = rig.fake.last_applied(id(4)).unwrap();
    assert_eq!(after_reboot.data, DataState::Provision);
    assert_eq!(*rig.engine.shared.intent.read().await, before);
}

#[tokio::test]
async fn the_first_lap_formats_no_pool_and_creates_no_thin_device() {
    let mut rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await;
    rig.fake.kernel().calls.clear();
    rig.fake.reboot();
    let rig = rig.restart().await;
    settled(&rig.engine, Unit::Volume(id(1))).await;
    for call in &rig.fake.kernel().calls {
        match call {
            Request::ApplyPool(desired) => {
                assert_eq!(desired.format, ashlar_targetd_protocol::PoolFormat::Never);
            }
            Request::ApplyVolume(desired) => assert_eq!(desired.data, DataState::Present),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_pool_that_cannot_be_made_after_a_kill_gives_its_disks_back() {
    let rig = Rig::empty().await;
    let applies = |request: &Request| matches!(request, Request::ApplyPool(p) if !p.absent);
    rig.fake
        .rule(usize::MAX, Behaviour::Fail(FailureKind::Kernel), applies);
    let asked = rig
        .ask_as(
            id(9),
            pool(POOL, &["serial-DISK0"]),
            Duration::from_millis(20),
        )
        .await;
    assert!(matches!(asked, Ok(Answer::Accepted(_))));
    rig.fake.obey();
    rig.fake
        .rule(usize::MAX, Behaviour::Fail(FailureKind::Missing), applies);
    let rig = rig.kill().await;
    settled(&rig.engine, Unit::Pool(POOL)).await;
    assert_eq!(
        rig.engine.pool(POOL).await.unwrap_err().code,
        ProblemCode::NotFound
    );
    let job = rig.engine.job(id(9)).await.unwrap();
    assert_eq!(job.state, JobState::Failed);
    rig.fake.obey();
    rig.outcome(pool(id(0xa1), &["serial-DISK0"])).await;
}

#[tokio::test]
async fn a_pool_that_was_made_is_never_forgotten_after_a_kill() {
    let mut rig = Rig::empty().await;
    rig.outcome(pool(POOL, &["serial-DISK0"])).await;
    rig.fake.reboot();
    let applies = |request: &Request| matches!(request, Request::ApplyPool(_));
    rig.fake
        .rule(usize::MAX, Behaviour::Fail(FailureKind::Missing), applies);
    let rig = rig.kill().await;
    assert_eq!(
        rig.engine.pool(POOL).await.unwrap().state,
        PoolState::Offline
    );
}

#[tokio::test]
async fn a_creation_under_way_is_finished_after_a_kill() {
    let rig = Rig::furnished().await;
    let hold = Behaviour::Hold(Arc::new(Notify::new()));
    rig.fake.rule(1, hold, applies_volume);
    let asked = rig
        .ask_as(id(9), volume(id(1), MIB), Duration::from_millis(20))
        .await;
    assert!(matches!(asked, Ok(Answer::Accepted(_))));
    let rig = rig.kill().await;
    settled(&rig.engine, Unit::Volume(id(1))).await;
    assert_eq!(
        rig.engine.volume(id(1)).await.unwrap().state,
        VolumeState::Available
    );
    assert_eq!(
        rig.engine.job(id(9)).await.unwrap().state,
        JobState::Succeeded
    );
}

#[tokio::test]
async fn a_deletion_under_way_is_finished_after_a_kill() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.fake.rule(
        usize::MAX,
        Behaviour::Fail(FailureKind::Kernel),
        applies_volume,
    );
    let delete = Command::VolumeDelete { id: id(1) };
    let asked = rig.ask_as(id(9), delete, Duration::from_millis(20)).await;
    assert!(matches!(asked, Ok(Answer::Accepted(_))));
    assert_eq!(rig.fake.kernel().thin.len(), 1);
    rig.fake.obey();
    let rig = rig.kill().await;
    settled(&rig.engine, Unit::Volume(id(1))).await;
    assert_eq!(
        rig.engine.volume(id(1)).await.unwrap_err().code,
        ProblemCode::NotFound
    );
    assert!(rig.fake.kernel().thin.is_empty());
    assert_eq!(
        rig.engine.job(id(9)).await.unwrap().state,
        JobState::Succeeded
    );
}

#[tokio::test]
async fn what_an_earlier_process_promised_is_never_withdrawn() {
    let mut rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await;
    rig.fake.reboot();
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::Foreign), applies_volume);
    let rig = rig.kill().await;
    settled(&rig.engine, Unit::Volume(id(1))).await;
    assert_eq!(
        rig.engine.connection(id(2)).await.unwrap().state,
        ConnectionState::Ready
    );
}

#[tokio::test]
async fn a_pool_that_is_late_does_not_cost_its_volumes() {
    let mut rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await;
    rig.fake.reboot();
    rig.fake
        .rule(2, Behaviour::Fail(FailureKind::Missing), |request| {
            matches!(request, Request::ApplyPool(_))
        });
    let rig = rig.restart().await;
    settled(&rig.engine, Unit::Volume(id(1))).await;
    assert_eq!(rig.fake.kernel().exported.len(), 1);
}

#[tokio::test]
async fn exports_that_nobody_knows_are_removed_and_their_data_stays() {
    let rig = Rig::furnished().await;
    let orphan = id(0xdead);
    let thin_id = ThinId::try_from(77).unwrap();
    {
        let mut kernel = rig.fake.kernel();
        kernel.thin.insert((POOL, thin_id));
        let exported = DesiredVolume {
            id: orphan,
            generation: 1,
            pool: POOL,
            thin_id,
            size: Sectors(2048),
            data: DataState::Present,
            source: None,
            retired: BTreeSet::new(),
            moving: None,
            exports: Exports::default(),
            qos: Qos::default(),
            held: false,
            cut: Accesses::default(),
        };
        kernel.exported.insert(orphan, exported);
    }
    let rig = rig.restart().await;
    while rig.fake.kernel().exported.contains_key(&orphan) {
        tokio::task::yield_now().await;
    }
    assert!(rig.fake.kernel().thin.contains(&(POOL, thin_id)));
}

#[tokio::test]
async fn snapshots_that_were_read_are_let_go_by_the_next_start() {
    let rig = Rig::furnished().await;
    let (known, orphan) = (id(2), id(0xdead));
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(crate::domain::samples::snapshot(known, id(1)))
        .await;
    rig.fake.kernel().active.extend([known, orphan]);
    let rig = rig.restart().await;
    while !rig.fake.kernel().active.is_empty() {
        tokio::task::yield_now().await;
    }
    let unexported: Vec<_> = rig.fake.kernel().calls.clone();
    let unexported = unexported.iter().filter_map(|call| match call {
        Request::Unexport { id } => Some(*id),
        _ => None,
    });
    assert_eq!(unexported.collect::<Vec<_>>(), [orphan]);
}

#[tokio::test]
async fn a_new_store_removes_nothing_from_the_kernel() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await;
    let lost = rig.dir.path().join("another");
    let (engine, task) = start(&lost, &rig.fake).await;
    while engine.shared.ledger.strangers().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.fake.kernel().exported.len(), 1);
    let health = engine.health(None).await;
    let check = health
        .checks
        .iter()
        .find(|check| check.name == "reconcile")
        .unwrap();
    assert!(
        check.detail.as_ref().unwrap().contains(&POOL.to_string()),
        "{check:?}"
    );
    task.stop().await;
}

#[tokio::test]
async fn a_restarted_targetd_is_brought_up_to_the_intent() {
    let mut rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await;
    rig.fake.reboot();
    while rig.fake.kernel().exported.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        rig.engine.connection(id(2)).await.unwrap().state,
        ConnectionState::Ready
    );
}

#[tokio::test]
async fn a_stopped_engine_says_that_it_is_stopping() {
    let rig = Rig::furnished().await;
    let hold = Behaviour::Hold(Arc::new(Notify::new()));
    rig.fake.rule(1, hold, applies_volume);
    let engine = rig.engine.clone();
    let command = volume(id(1), MIB);
    let context = context(id(9), &command);
    let waiting = tokio::spawn(async move { engine.execute(command, context, LONG).await });
    while rig.fake.kernel().thin.is_empty() {
        tokio::task::yield_now().await;
    }
    rig.task.stop().await;
    let late = rig.engine.execute(
        volume(id(2), MIB),
        super::rig::context(id(10), &volume(id(2), MIB)),
        LONG,
    );
    assert_eq!(late.await.unwrap_err().code, ProblemCode::Stopping);
    assert_eq!(
        waiting.await.unwrap().unwrap_err().code,
        ProblemCode::Stopping
    );
}
