//! What becomes of pools by themselves is noticed, and told once.

use std::time::Duration;

use ashlar_protocol::{Event, HealthStatus, PoolLevel, PoolUpdate, ProblemCode, Watermarks};
use ashlar_targetd_protocol::{FailureKind, Request};

use super::rig::*;
use crate::domain::record::Unit;
use crate::engine::{After, Command};
use crate::targetd::fake::Behaviour;

const MIB: u64 = 1 << 20;

/// The next event of pools after so many events.
async fn next(rig: &Rig, after: &mut u64) -> String {
    let event = loop {
        let page = rig.engine.events(After::Id(*after), 1, LONG).await;
        let event: Event = page.unwrap().items.remove(0);
        *after = event.id;
        if event.kind.as_str().starts_with("pool.") {
            break event;
        }
    };
    event.kind.as_str().to_owned()
}

async fn last(rig: &Rig) -> u64 {
    let page = rig.engine.events(After::Beginning, 1000, Duration::ZERO);
    page.await.unwrap().items.last().unwrap().id
}

/// So many percent of the pool are in use, and the kernel tells.
async fn fills(rig: &Rig, percent: u64) {
    let capacity = rig.engine.pool(POOL).await.unwrap().capacity.unwrap();
    let blocks = capacity / (64 << 10);
    let used = (blocks * percent).div_ceil(100);
    rig.fake.kernel().used.insert(POOL, used);
    rig.fake.change();
}

fn mark(rig: &Rig) -> u64 {
    rig.fake.kernel().pools[&POOL].low_water_blocks
}

/// The mark, once it is another than it was.
async fn other_mark(rig: &Rig, before: u64) -> u64 {
    becomes(async || mark(rig) != before).await;
    mark(rig)
}

fn looks(rig: &Rig) -> usize {
    let kernel = rig.fake.kernel();
    let look = |call: &&Request| matches!(call, Request::ObservePool { .. });
    kernel.calls.iter().filter(look).count()
}

fn applies(rig: &Rig) -> usize {
    let kernel = rig.fake.kernel();
    let apply = |call: &&Request| matches!(call, Request::ApplyPool(_));
    kernel.calls.iter().filter(apply).count()
}

#[tokio::test]
async fn a_pool_that_fills_up_is_told_and_takes_nothing_new_in_the_end() {
    let rig = Rig::furnished().await;
    let blank = mark(&rig);
    let mut after = last(&rig).await;
    fills(&rig, 80).await;
    assert_eq!(next(&rig, &mut after).await, "pool.level-warn");
    let warned = other_mark(&rig, blank).await;
    assert!(warned < blank, "{warned} {blank}");
    rig.outcome(volume(id(1), MIB)).await;
    fills(&rig, 98).await;
    assert_eq!(next(&rig, &mut after).await, "pool.level-stop");
    let refused = rig.ask(volume(id(2), MIB)).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::NoSpace);
    assert!(
        refused.detail.contains("from 97 % on: data 98 %"),
        "{refused}"
    );
    // Nobody tells that hosts gave room back: who is refused has it looked for.
    rig.fake.kernel().used.insert(POOL, 10);
    rig.outcome(volume(id(2), MIB)).await;
    assert_eq!(next(&rig, &mut after).await, "pool.level-ok");
    // As at first, but for what was estimated then.
    becomes(async || mark(&rig).abs_diff(blank) <= blank / 50).await;
}

#[tokio::test]
async fn health_says_how_full_a_pool_is() {
    let rig = Rig::furnished().await;
    for (percent, level, words) in [
        (
            76,
            PoolLevel::Warn,
            "is filling up, past its watermark of 75 %: data 76 %",
        ),
        (
            91,
            PoolLevel::Critical,
            "is nearly full, past its watermark of 90 %: data 91 %",
        ),
        (
            97,
            PoolLevel::Stop,
            "takes nothing new, past its watermark of 97 %: data 97 %",
        ),
    ] {
        fills(&rig, percent).await;
        let health = rig.engine.health(None).await;
        let check = health
            .checks
            .iter()
            .find(|check| check.name.starts_with("pool/"));
        let check = check.unwrap();
        assert_eq!(check.status, HealthStatus::Degraded);
        assert!(check.detail.as_ref().unwrap().contains(words), "{check:?}");
        assert_eq!(rig.engine.pool(POOL).await.unwrap().level, level);
    }
}

#[tokio::test]
async fn what_was_told_is_not_told_again_by_the_next_start_and_nothing_is_loaded_anew() {
    let rig = Rig::furnished().await;
    let (blank, mut after) = (mark(&rig), last(&rig).await);
    fills(&rig, 80).await;
    assert_eq!(next(&rig, &mut after).await, "pool.level-warn");
    let warned = other_mark(&rig, blank).await;
    let rig = rig.kill().await;
    settled(&rig.engine, Unit::Pool(POOL)).await;
    assert_eq!(mark(&rig), warned);
    let (known, applied) = (last(&rig).await, applies(&rig));
    // Until this look is over, too.
    let seen = looks(&rig);
    rig.fake.change();
    becomes(async || looks(&rig) > seen).await;
    rig.outcome(host(id(7), 7)).await;
    assert_eq!(last(&rig).await, known + 1);
    assert_eq!((applies(&rig), mark(&rig)), (applied, warned));
}

#[tokio::test]
async fn changes_while_a_pool_is_looked_at_make_one_more_look() {
    let rig = Rig::furnished().await;
    let release = std::sync::Arc::new(tokio::sync::Notify::new());
    let is_look = |request: &Request| matches!(request, Request::ObservePool { .. });
    rig.fake.rule(1, Behaviour::Hold(release.clone()), is_look);
    let before = looks(&rig);
    rig.fake.change();
    becomes(async || looks(&rig) == before + 1).await;
    for _ in 0..20 {
        rig.fake.change();
        tokio::task::yield_now().await;
    }
    assert_eq!(looks(&rig), before + 1);
    release.notify_one();
    becomes(async || looks(&rig) > before + 1).await;
    // What all of them came to is seen by a look of its own, and nothing follows it.
    let mut after = last(&rig).await;
    fills(&rig, 80).await;
    assert_eq!(next(&rig, &mut after).await, "pool.level-warn");
}

#[tokio::test]
async fn a_pool_that_cannot_be_had_is_told_to_be_offline_and_back() {
    let rig = Rig::furnished().await;
    let mut after = last(&rig).await;
    let (dir, mut fake) = rig.stop().await;
    let is_apply = |request: &Request| matches!(request, Request::ApplyPool(_));
    fake.rule(4, Behaviour::Fail(FailureKind::Kernel), is_apply);
    fake.reboot();
    let (engine, task) = start(&dir.path().join("state"), &fake).await;
    let rig = Rig {
        dir,
        fake,
        engine,
        task,
    };
    assert_eq!(next(&rig, &mut after).await, "pool.offline");
    assert_eq!(next(&rig, &mut after).await, "pool.online");
}

#[tokio::test]
async fn other_watermarks_hold_at_once() {
    let rig = Rig::furnished().await;
    let mut after = last(&rig).await;
    fills(&rig, 60).await;
    let watermarks = Watermarks {
        warn: 10,
        critical: 50,
        stop: 70,
    };
    // Whatever the watcher has seen by now, the pool is looked at for this.
    assert_eq!(rig.engine.pool(POOL).await.unwrap().level, PoolLevel::Ok);
    rig.outcome(Command::PoolUpdate {
        id: POOL,
        spec: PoolUpdate {
            watermarks: Some(watermarks),
            ..PoolUpdate::default()
        },
    })
    .await;
    assert_eq!(next(&rig, &mut after).await, "pool.updated");
    assert_eq!(next(&rig, &mut after).await, "pool.level-critical");
    let pool = rig.engine.pool(POOL).await.unwrap();
    assert_eq!(
        (pool.level, pool.watermarks),
        (PoolLevel::Critical, watermarks)
    );
}
