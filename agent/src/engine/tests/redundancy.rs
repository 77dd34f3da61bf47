//! Pools whose disks stand in for each other.

use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{
    HealthStatus, JobState, Pool, PoolState, Problem, ProblemCode, Redundancy, ScrubMode, ScrubSpec,
};
use ashlar_targetd_protocol::{FailureKind, MemberState, PoolFormat, Request, Scrub, SetAction};
use tokio::sync::Notify;

use super::rig::*;
use crate::domain::record::{PoolRecord, Unit};
use crate::engine::{After, Answer, Command, PageQuery};
use crate::targetd::fake::Behaviour;

use MemberState::{Failed, InSync, Missing, Rebuilding};

const MIB: u64 = 1 << 20;

/// A raid1 pool of two disks, of which the second has failed.
async fn lame() -> Rig {
    let rig = Rig::empty().await;
    rig.outcome(mirrored(Redundancy::Raid1, 2)).await;
    fails(&rig, "serial-DISK1", Failed);
    rig
}

fn fails(rig: &Rig, disk: &str, state: MemberState) {
    let disk = disk.parse().unwrap();
    rig.fake.kernel().lame.insert(disk, state);
}

fn is_rebuilt(rig: &Rig) {
    rig.fake.kernel().lame.clear();
}

async fn shown(rig: &Rig) -> Pool {
    rig.engine.pool(POOL).await.unwrap()
}

async fn states(rig: &Rig) -> Vec<MemberState> {
    let members = shown(rig).await.members;
    members.iter().map(|member| member.state).collect()
}

async fn disks(rig: &Rig) -> Vec<String> {
    let disks = shown(rig).await.disks;
    disks.iter().map(ToString::to_string).collect()
}

async fn record(rig: &Rig) -> PoolRecord {
    let intent = rig.engine.shared.intent.read().await;
    intent.pool(POOL).unwrap().record.clone()
}

/// Attempts in which a disk is to take the place of another.
fn replaces(request: &Request) -> bool {
    let Request::ApplyPool(pool) = request else {
        return false;
    };
    pool.disks.iter().any(|disk| disk.takes_place.is_some())
}

/// What was told since, of the pool's disks.
async fn told(rig: &Rig) -> Vec<String> {
    let page = rig.engine.events(After::Beginning, 1000, Duration::ZERO);
    let events = page.await.unwrap().items.into_iter();
    let kinds = events.map(|event| event.kind.to_string());
    kinds
        .filter(|kind| kind.contains("member") || kind.contains("replace"))
        .collect()
}

#[tokio::test]
async fn a_pool_shows_how_its_disks_stand_in_for_each_other() {
    let rig = Rig::empty().await;
    rig.outcome(mirrored(Redundancy::Raid1, 2)).await;
    rig.outcome(grow(&["serial-DISK2", "serial-DISK3", "serial-DISK4"]))
        .await;
    fails(&rig, "serial-DISK3", Missing);
    let pool = shown(&rig).await;
    assert_eq!(pool.redundancy, Redundancy::Raid1);
    let sets: Vec<u32> = pool.members.iter().map(|member| member.set).collect();
    assert_eq!(sets, [0, 0, 1, 1, 1]);
    let seen = states(&rig).await;
    assert_eq!(seen, [InSync, InSync, InSync, Missing, InSync]);
    assert_eq!(pool.sets.len(), 2);
    assert_eq!(pool.sets[0].action, SetAction::Idle);
    assert_eq!(pool.sets[0].total, 1 << 30);
    assert_eq!(rig.fake.kernel().pools[&POOL].disks.len(), 5);
    let pool = rig.restart().await.engine.pool(POOL).await.unwrap();
    assert_eq!(pool.members.len(), 5);
    let plain = Rig::furnished().await.engine.pool(POOL).await.unwrap();
    assert!(plain.members.is_empty() && plain.sets.is_empty());
}

#[tokio::test]
async fn a_disk_takes_the_place_of_another_and_is_rebuilt() {
    let rig = lame().await;
    rig.outcome(replace(1, "serial-DISK4")).await;
    assert_eq!(disks(&rig).await, ["serial-DISK0", "serial-DISK4"]);
    assert_eq!(states(&rig).await, [InSync, Rebuilding]);
    assert_eq!(record(&rig).await.stale, [(1, Rebuilding)].into());
    let kinds = [
        "pool.member-failed",
        "pool.disk-replaced",
        "pool.member-rebuilding",
    ];
    assert_eq!(told(&rig).await, kinds);
    is_rebuilt(&rig);
    // Whatever has it applied once more is told how it is.
    rig.outcome(grow(&["serial-DISK2", "serial-DISK3"])).await;
    assert_eq!(record(&rig).await.stale, [].into());
    assert_eq!(told(&rig).await.last().unwrap(), "pool.member-in-sync");
    let rig = rig.restart().await;
    let kernel = rig.fake.kernel();
    let place = &kernel.pools[&POOL].disks[1];
    assert_eq!(
        (place.turn, place.takes_place, place.stale),
        (1, None, false)
    );
}

#[tokio::test]
async fn a_disk_that_cannot_be_had_is_not_taken() {
    let rig = lame().await;
    let before = record(&rig).await;
    for kind in [
        FailureKind::NotBlank,
        FailureKind::Missing,
        FailureKind::NoSpace,
        FailureKind::Unsupported,
        FailureKind::Refused,
    ] {
        rig.fake.rule(1, Behaviour::Fail(kind), replaces);
        let problem = rig.ask(replace(1, "serial-DISK4")).await.unwrap_err();
        assert!(problem.detail.contains("asked to fail"), "{problem}");
        let after = record(&rig).await;
        assert_eq!((&after.spec, after.turns(1).now), (&before.spec, 0));
        assert_eq!(after.replacing, None);
        settled(&rig.engine, Unit::Pool(POOL)).await;
    }
    // It is told once that the other one has failed.
    let mut told = told(&rig).await;
    told.sort();
    let [failed, rest @ ..] = &told[..] else {
        panic!("nothing was told")
    };
    assert_eq!(failed, "pool.member-failed");
    assert_eq!(rest, ["pool.replace-failed"; 5]);
    // What may pass is tried until it does.
    rig.fake
        .rule(2, Behaviour::Fail(FailureKind::Kernel), replaces);
    rig.outcome(replace(1, "serial-DISK4")).await;
    assert_eq!(disks(&rig).await, ["serial-DISK0", "serial-DISK4"]);
}

#[tokio::test]
async fn what_a_disk_holds_is_overwritten_only_when_that_was_said() {
    let rig = lame().await;
    let holds = |rig: &Rig, holds: Option<&str>| {
        rig.fake.kernel().disks[4].content = holds.map(str::to_owned);
    };
    holds(&rig, Some("an ext4 file system"));
    let problem = rig.ask(replace(1, "serial-DISK4")).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::NotBlank);
    let Command::PoolReplace { id, mut spec } = replace(1, "serial-DISK4") else {
        panic!("it replaces")
    };
    spec.wipe = true;
    rig.outcome(Command::PoolReplace { id, spec }).await;
    let calls = rig.fake.kernel().calls.clone();
    let formats = calls.iter().filter_map(|call| match call {
        Request::ApplyPool(pool) => pool.disks[1].takes_place,
        _ => None,
    });
    assert!(formats.eq([PoolFormat::Wipe]));
}

#[tokio::test]
async fn a_pool_that_waits_for_another_disk_serves_as_it_was() {
    let rig = lame().await;
    rig.fake
        .rule(usize::MAX, Behaviour::Fail(FailureKind::Kernel), replaces);
    let short = Duration::from_millis(10);
    let answer = rig.ask_as(id(9), replace(1, "serial-DISK4"), short).await;
    assert!(matches!(answer, Ok(Answer::Accepted(_))), "{answer:?}");
    let replacing = shown(&rig).await.replacing.unwrap();
    assert_eq!(replacing.disk.as_str(), "serial-DISK1");
    assert_eq!(replacing.by.as_str(), "serial-DISK4");
    rig.outcome(volume(id(1), MIB)).await;
    // Nor does a new process wait for it.
    let rig = rig.restart().await;
    rig.outcome(volume(id(2), MIB)).await;
    rig.fake.obey();
    rig.ask_as(id(9), replace(1, "serial-DISK4"), LONG)
        .await
        .unwrap();
    let job = rig.engine.job(id(9)).await.unwrap();
    assert_eq!(job.state, JobState::Succeeded);
    assert_eq!(shown(&rig).await.replacing, None);
}

#[tokio::test]
async fn a_replacement_under_way_is_finished_after_a_kill() {
    // Before targetd has done it, and when its answer is lost.
    for held in [false, true] {
        let rig = lame().await;
        let behaviour = match held {
            true => Behaviour::Hold(Arc::new(Notify::new())),
            false => Behaviour::Fail(FailureKind::Kernel),
        };
        rig.fake.rule(usize::MAX, behaviour, replaces);
        let short = Duration::from_millis(20);
        let asked = rig.ask_as(id(9), replace(1, "serial-DISK4"), short).await;
        assert!(matches!(asked, Ok(Answer::Accepted(_))), "{asked:?}");
        rig.fake.obey();
        let mut rig = rig.kill().await;
        settled(&rig.engine, Unit::Pool(POOL)).await;
        assert_eq!(disks(&rig).await, ["serial-DISK0", "serial-DISK4"]);
        assert_eq!(record(&rig).await.stale, [(1, Rebuilding)].into());
        let job = rig.engine.job(id(9)).await.unwrap();
        assert_eq!(job.state, JobState::Succeeded);
        // And after a power cut it is known which of its disks miss data, and which is whose.
        rig.fake.kernel().calls.clear();
        rig.fake.reboot();
        let rig = rig.kill().await;
        settled(&rig.engine, Unit::Pool(POOL)).await;
        let calls = rig.fake.kernel().calls.clone();
        let first = calls.iter().find_map(|call| match call {
            Request::ApplyPool(pool) => Some(&pool.disks[1]),
            _ => None,
        });
        let first = first.unwrap();
        assert_eq!(first.id.as_str(), "serial-DISK4");
        assert_eq!(
            (first.turn, first.takes_place, first.stale),
            (1, None, true)
        );
    }
}

#[tokio::test]
async fn a_replacement_that_fails_after_a_kill_is_taken_back() {
    let rig = lame().await;
    rig.fake
        .rule(usize::MAX, Behaviour::Fail(FailureKind::Kernel), replaces);
    let short = Duration::from_millis(20);
    let asked = rig.ask_as(id(9), replace(1, "serial-DISK4"), short).await;
    assert!(matches!(asked, Ok(Answer::Accepted(_))), "{asked:?}");
    rig.fake.obey();
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::NotBlank), replaces);
    let rig = rig.kill().await;
    settled(&rig.engine, Unit::Pool(POOL)).await;
    assert_eq!(disks(&rig).await, ["serial-DISK0", "serial-DISK1"]);
    let job = rig.engine.job(id(9)).await.unwrap();
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(shown(&rig).await.state, PoolState::Online);
}

#[tokio::test]
async fn no_disk_goes_by_what_was_known_before() {
    let rig = lame().await;
    // The other one is what has failed just now, which nobody has told yet.
    is_rebuilt(&rig);
    fails(&rig, "serial-DISK0", Failed);
    let problem = rig.ask(replace(1, "serial-DISK4")).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::WrongState, "{problem}");
    let looks = |request: &Request| matches!(request, Request::ObservePool { .. });
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::Kernel), looks);
    let problem = rig.ask(replace(0, "serial-DISK4")).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::TargetdUnavailable, "{problem}");
    rig.outcome(replace(0, "serial-DISK4")).await;
}

#[tokio::test]
async fn health_names_the_disks_that_miss_data() {
    let rig = lame().await;
    let health = rig.engine.health(None).await;
    let name = format!("pool/{POOL}");
    let check = health.checks.iter().find(|check| check.name == name);
    let check = check.unwrap();
    assert_eq!(check.status, HealthStatus::Degraded);
    let detail = check.detail.as_ref().unwrap();
    for words in ["serial-DISK1 is failed", "does not survive the loss of any"] {
        assert!(detail.contains(words), "{detail}");
    }
    is_rebuilt(&rig);
    let health = rig.engine.health(None).await;
    assert_eq!(health.status, HealthStatus::Ok);
}

async fn scrub(rig: &Rig, mode: ScrubMode) -> Result<Pool, Problem> {
    let context = context(id(7), &replace(0, "serial-DISK4"));
    rig.engine.scrub(POOL, ScrubSpec { mode }, &context).await
}

#[tokio::test]
async fn disks_are_compared_until_that_is_stopped() {
    let rig = lame().await;
    is_rebuilt(&rig);
    let generation = shown(&rig).await.generation;
    let pool = scrub(&rig, ScrubMode::Check).await.unwrap();
    assert_eq!(pool.sets[0].action, SetAction::Check);
    // Asked again, it is found so; anything else has to wait.
    assert!(scrub(&rig, ScrubMode::Check).await.is_ok());
    let problem = scrub(&rig, ScrubMode::Repair).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::InUse);
    let pool = scrub(&rig, ScrubMode::Stop).await.unwrap();
    assert_eq!(pool.sets[0].action, SetAction::Idle);
    let pool = scrub(&rig, ScrubMode::Repair).await.unwrap();
    assert_eq!(pool.sets[0].action, SetAction::Repair);
    assert_eq!(pool.generation, generation);
    let calls = rig.fake.kernel().calls.clone();
    let asked = calls.iter().filter_map(|call| match call {
        Request::ScrubPool { scrub, .. } => Some(*scrub),
        _ => None,
    });
    use Scrub::{Check, Repair, Stop};
    assert!(asked.eq([Check, Check, Repair, Stop, Repair]));
    let jobs = rig.engine.jobs(&PageQuery::default()).await.unwrap();
    assert_eq!(jobs.items.len(), 1);
}

#[tokio::test]
async fn why_disks_are_not_compared_is_told() {
    let rig = Rig::empty().await;
    let problem = scrub(&rig, ScrubMode::Check).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::NotFound);
    rig.outcome(pool(POOL, &["serial-DISK0"])).await;
    let problem = scrub(&rig, ScrubMode::Check).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::WrongState);
    let mut rig = lame().await;
    let scrubs = |request: &Request| matches!(request, Request::ScrubPool { .. });
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::Kernel), scrubs);
    let problem = scrub(&rig, ScrubMode::Check).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::KernelFailed);
    rig.fake.pause();
    let problem = scrub(&rig, ScrubMode::Check).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::TargetdUnavailable);
}
