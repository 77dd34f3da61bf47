//! Many clients at once above a targetd that fails, dies and comes back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ashlar_protocol::{Parent, ProblemCode, Transport};
use ashlar_targetd_protocol::{FailureKind, Request};
use uuid::Uuid;

use super::rig::*;
use crate::domain::record::{SnapshotPhase, SnapshotRecord, Unit, VolumePhase};
use crate::engine::{After, Command, Engine};
use crate::targetd::fake::Behaviour;

const MIB: u64 = 1 << 20;
const CLIENTS: u32 = 6;
const STEPS: u32 = 40;

/// Numbers that look random and are the same in every run.
struct Dice(u32);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) % sides
    }

    fn command(&mut self) -> Command {
        let volume_id = id(1 + u128::from(self.roll(3)));
        let (host, n) = [(HOST, 0), (OTHER_HOST, 1)][self.roll(2) as usize];
        let transport = [Transport::Iscsi, Transport::NvmeTcp][self.roll(2) as usize];
        let connection = id(0x100 + volume_id.as_u128() * 4 + n * 2 + transport as u128);
        let snapshot_id = id(0x201 + u128::from(self.roll(3)));
        let parent = match self.roll(2) {
            0 => Parent::Snapshot(snapshot_id),
            _ => Parent::Volume(id(1 + u128::from(self.roll(3)))),
        };
        match self.roll(18) {
            8 | 9 => snapshot(snapshot_id, volume_id),
            10 => Command::SnapshotDelete { id: snapshot_id },
            11 => clone(volume_id, parent, None),
            12 => revert(volume_id, snapshot_id, true),
            13 => Command::VolumeDelete { id: volume_id },
            14 => adopt(volume_id, self.roll(30).into(), None),
            15 => release(volume_id),
            16 => adopt_snapshot(snapshot_id, volume_id, self.roll(30).into(), None),
            17 => Command::SnapshotRelease { id: snapshot_id },
            0 | 1 => volume(volume_id, MIB),
            2..=4 => attach(connection, volume_id, host, transport),
            5 => detach(connection),
            6 => Command::VolumeDetachAll { id: volume_id },
            _ => Command::VolumeDelete { id: volume_id },
        }
    }
}

async fn client(rig: Arc<Rig>, seed: u32) {
    let mut dice = Dice(seed);
    for _ in 0..STEPS {
        let wait = Duration::from_millis(u64::from(dice.roll(200)));
        let asked = rig.ask_as(Uuid::new_v4(), dice.command(), wait).await;
        if let Err(problem) = asked {
            assert_ne!(problem.code, ProblemCode::Internal, "{problem}");
            assert_ne!(problem.code, ProblemCode::WrongState, "{problem}");
        }
    }
}

/// Waits until nothing is under way.
async fn quiet(engine: &Engine) {
    let wait = async {
        loop {
            let intent = engine.shared.intent.read().await.clone();
            let volumes = intent.volumes().keys().copied().map(Unit::Volume);
            let snapshots = intent.snapshots().keys().copied().map(Unit::Snapshot);
            let unsettled = |unit: &Unit| !engine.shared.ledger.settled(*unit);
            let Some(unit) = volumes.chain(snapshots).find(unsettled) else {
                return;
            };
            drop(engine.shared.ledger.wait(unit, intent.generation()).await);
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap();
}

/// Waits until each of these, and it may be soon, is said to have been let go of.
async fn let_go_of(engine: &Engine, mut left: BTreeSet<String>) {
    let mut after = After::Beginning;
    while !left.is_empty() {
        let page = engine.events(after, 1000, LONG).await.unwrap();
        let Some(last) = page.items.last() else {
            panic!("{left:?} are left, and nobody let go of them");
        };
        after = After::Id(last.id);
        let released = page.items.iter();
        let released = released.filter(|event| event.kind.as_str().ends_with(".released"));
        for detail in released.filter_map(|event| event.detail.as_ref()) {
            left.retain(|left| !detail.ends_with(left));
        }
    }
}

async fn kernel_is_as_intended(rig: &Rig) {
    let left = left_over(rig).await;
    let_go_of(&rig.engine, left).await;
}

/// Looks whether the kernel has what it should, and answers what thin devices it has beyond that.
async fn left_over(rig: &Rig) -> BTreeSet<String> {
    let intent = rig.engine.shared.intent.read().await;
    let kernel = rig.fake.kernel();
    let volumes = intent.volumes();
    let thin: BTreeSet<_> = volumes
        .values()
        .map(|v| (v.record.pool, v.record.thin_id))
        .chain(intent.snapshots().values().map(|s| (s.pool, s.thin_id)))
        .collect();
    assert!(thin.is_subset(&kernel.thin));
    assert!(
        volumes
            .values()
            .all(|v| { v.record.phase == VolumePhase::Present && v.record.retired.is_empty() })
    );
    let taken = |s: &SnapshotRecord| s.phase == SnapshotPhase::Present;
    assert!(intent.snapshots().values().all(taken));
    let connected = volumes.iter().filter(|(_, v)| v.connections > 0);
    let connected: BTreeSet<_> = connected.map(|(id, _)| *id).collect();
    assert_eq!(
        kernel.exported.keys().copied().collect::<BTreeSet<_>>(),
        connected
    );
    for (id, exported) in &kernel.exported {
        let exports = &exported.exports;
        let iscsi = exports
            .iscsi
            .as_ref()
            .map_or(0, |export| export.initiators.len());
        let nvme = exports.nvme.as_ref().map_or(0, |export| export.hosts.len());
        assert_eq!((iscsi + nvme) as u64, volumes[id].connections);
    }
    let left = kernel.thin.difference(&thin);
    left.map(|(pool, thin_id)| format!("thin device {thin_id} of pool {pool}"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_the_kernel_ends_as_intended() {
    let rig = Arc::new(Rig::furnished().await);
    let calls = Arc::new(AtomicU32::new(0));
    for (every, behaviour) in [
        (5, Behaviour::Fail(FailureKind::Kernel)),
        (17, Behaviour::DieAfter),
        (23, Behaviour::DieBefore),
        (13, Behaviour::Fail(FailureKind::InUse)),
        (29, Behaviour::Fail(FailureKind::NoSpace)),
    ] {
        let calls = Arc::clone(&calls);
        rig.fake.rule(usize::MAX, behaviour, move |request| {
            matches!(
                request,
                Request::ApplyVolume(_) | Request::ApplySnapshots(_)
            ) && calls.fetch_add(1, Ordering::Relaxed) % every == 1
        });
    }
    let mut clients = tokio::task::JoinSet::new();
    for seed in 0..CLIENTS {
        clients.spawn(client(Arc::clone(&rig), seed * 7919));
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    rig.fake.obey();
    quiet(&rig.engine).await;
    kernel_is_as_intended(&rig).await;

    let rig = Arc::into_inner(rig).unwrap().kill().await;
    quiet(&rig.engine).await;
    kernel_is_as_intended(&rig).await;
}
