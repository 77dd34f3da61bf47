//! Thin devices that are in a pool and in no record: the store is older than the pool, or somebody
//! made them by hand.

use ashlar_protocol::{HealthStatus, Parent, ProblemCode, Transport};
use ashlar_targetd_protocol::{FailureKind, Request, ThinId};

use super::rig::*;
use crate::engine::Command;
use crate::targetd::fake::Behaviour;

const MIB: u64 = 1 << 20;

fn thin(n: u64) -> (uuid::Uuid, ThinId) {
    (POOL, ThinId::try_from(n).unwrap())
}

/// A volume on thin device 0; 1, which would be next, and 4 are somebody's.
async fn with_strangers() -> Rig {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    {
        let mut kernel = rig.fake.kernel();
        for n in [1, 4] {
            kernel.thin.insert(thin(n));
            kernel.content.insert(thin(n), "theirs");
        }
    }
    rig.restart().await
}

#[tokio::test]
async fn what_is_new_gets_another_thin_device_and_theirs_stay() {
    let rig = with_strangers().await;
    rig.outcome(snapshot(id(2), id(1))).await;
    rig.outcome(volume(id(3), MIB)).await;
    rig.outcome(clone(id(4), Parent::Snapshot(id(2)), None))
        .await;
    rig.outcome(revert(id(1), id(2), false)).await;
    // What cannot be made is destroyed, and nothing else is.
    let makes = |request: &Request| matches!(request, Request::ApplySnapshots(_));
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::NoSpace), makes);
    rig.ask(snapshot(id(5), id(1))).await.unwrap_err();
    let rig = rig.kill().await;
    rig.outcome(volume(id(6), MIB)).await;
    let ours: Vec<_> = {
        let intent = rig.engine.shared.intent.read().await;
        let volumes = intent.volumes().values().map(|v| v.record.thin_id.value());
        volumes.collect()
    };
    assert!(ours.iter().all(|id| *id > 4), "{ours:?}");
    for n in [2, 3, 4, 6] {
        let command = match n {
            2 => Command::SnapshotDelete { id: id(n) },
            _ => Command::VolumeDelete { id: id(n) },
        };
        rig.outcome(command).await;
    }
    let kernel = rig.fake.kernel();
    for n in [1, 4] {
        assert_eq!(kernel.content.get(&thin(n)), Some(&"theirs"));
    }
    assert_eq!(kernel.content.len(), 2);
}

#[tokio::test]
async fn a_pool_that_does_not_tell_what_it_has_is_used_and_takes_nothing_new() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await;
    rig.fake.rule(
        usize::MAX,
        Behaviour::Fail(FailureKind::Unsupported),
        |request| matches!(request, Request::OpenMetadata { .. }),
    );
    let mut rig = rig.restart().await;
    rig.fake.reboot();
    becomes(async || rig.fake.kernel().exported.contains_key(&id(1))).await;
    // Until the pool is looked at again after the power cut, that may be refused.
    let other = || attach(id(3), id(1), OTHER_HOST, Transport::Iscsi);
    becomes(async || rig.ask(other()).await.is_ok()).await;
    let problem = rig.ask(volume(id(4), MIB)).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::Unsupported);
    assert!(problem.detail.contains("asked to fail"), "{problem}");
    let checks = rig.engine.health(None).await.checks;
    let pool = checks.iter().find(|check| check.name.starts_with("pool/"));
    assert_eq!(pool.unwrap().status, HealthStatus::Degraded);
    // It is asked again, without anybody's doing.
    rig.fake.obey();
    becomes(async || rig.ask(volume(id(4), MIB)).await.is_ok()).await;
}
