//! Comparisons of disks that begin by themselves.

use std::time::Duration;

use ashlar_protocol::{Pool, PoolUpdate, Redundancy, ScrubMode, ScrubSpec};
use ashlar_targetd_protocol::{FailureKind, MemberState, Request, Scrub, SetAction};
use uuid::Uuid;

use super::rig::*;
use crate::engine::{After, Command};
use crate::targetd::fake::Behaviour;

/// So long that whatever is to begin at once has begun.
const DAY: Duration = Duration::from_secs(1);

/// With a raid1 pool of two disks that is compared each day.
async fn daily() -> Rig {
    let rig = Rig::with_days(DAY).await;
    rig.outcome(mirrored(Redundancy::Raid1, 2)).await;
    rig.outcome(every(1)).await;
    rig
}

fn every(days: u32) -> Command {
    let spec = PoolUpdate {
        scrub_days: Some(days),
        ..PoolUpdate::default()
    };
    Command::PoolUpdate { id: POOL, spec }
}

async fn shown(rig: &Rig) -> Pool {
    rig.engine.pool(POOL).await.unwrap()
}

async fn compares(rig: &Rig) -> bool {
    shown(rig).await.sets[0].action == SetAction::Check
}

/// The kernel has come to the end, and tells.
fn ends(rig: &Rig) {
    rig.fake.kernel().actions.remove(&POOL);
    rig.fake.change();
}

fn asked(rig: &Rig) -> usize {
    let calls = &rig.fake.kernel().calls;
    let asked = calls.iter().filter(|call| {
        matches!(
            call,
            Request::ScrubPool {
                scrub: Scrub::Check,
                ..
            }
        )
    });
    asked.count()
}

async fn told(rig: &Rig) -> Vec<String> {
    let events = rig.engine.events(After::Beginning, 1000, Duration::ZERO);
    let events = events.await.unwrap().items.into_iter();
    let told = events.filter(|event| event.kind.as_str() == "pool.scrubbed");
    told.map(|event| event.detail.unwrap()).collect()
}

#[tokio::test]
async fn disks_are_compared_by_themselves_and_again_when_it_is_time() {
    let rig = daily().await;
    assert_eq!(shown(&rig).await.scrubbed, None);
    becomes(async || compares(&rig).await).await;
    assert_eq!(told(&rig).await, [""; 0]);
    ends(&rig);
    becomes(async || shown(&rig).await.scrubbed.is_some()).await;
    assert_eq!(told(&rig).await, ["pool: 0 bytes differ"]);
    becomes(async || compares(&rig).await).await;
    assert_eq!(asked(&rig), 2);
    let first = shown(&rig).await.scrubbed.unwrap();
    let rig = rig.restart().await;
    assert_eq!(shown(&rig).await.scrubbed, Some(first), "it is on record");
}

#[tokio::test]
async fn what_is_stopped_does_not_count_and_what_is_asked_for_does() {
    let rig = Rig::empty().await;
    rig.outcome(mirrored(Redundancy::Raid1, 2)).await;
    let scrub = async |mode| {
        let context = context(Uuid::new_v4(), &every(1));
        rig.engine
            .scrub(POOL, ScrubSpec { mode }, &context)
            .await
            .unwrap()
    };
    scrub(ScrubMode::Check).await;
    scrub(ScrubMode::Stop).await;
    rig.fake.change();
    scrub(ScrubMode::Repair).await;
    assert_eq!(shown(&rig).await.scrubbed, None);
    ends(&rig);
    becomes(async || shown(&rig).await.scrubbed.is_some()).await;
    assert_eq!(told(&rig).await.len(), 1);
}

#[tokio::test]
async fn nothing_is_compared_while_a_disk_misses_data_or_nobody_wants_it() {
    let rig = Rig::with_days(DAY).await;
    rig.outcome(mirrored(Redundancy::Raid1, 2)).await;
    let disk = "serial-DISK1".parse().unwrap();
    rig.fake.kernel().lame.insert(disk, MemberState::Rebuilding);
    rig.outcome(every(1)).await;
    tokio::time::sleep(3 * DAY).await;
    assert_eq!(asked(&rig), 0);
    rig.outcome(every(0)).await;
    rig.fake.kernel().lame.clear();
    rig.fake.change();
    tokio::time::sleep(2 * DAY).await;
    assert_eq!(asked(&rig), 0);
    rig.outcome(every(1)).await;
    becomes(async || compares(&rig).await).await;
}

#[tokio::test]
async fn what_could_not_begin_is_tried_again() {
    let rig = Rig::with_days(DAY).await;
    rig.outcome(mirrored(Redundancy::Raid1, 2)).await;
    let scrubs = |request: &Request| matches!(request, Request::ScrubPool { .. });
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::Kernel), scrubs);
    rig.outcome(every(1)).await;
    becomes(async || compares(&rig).await).await;
    assert_eq!(asked(&rig), 2);
}
