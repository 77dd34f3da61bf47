//! Spares that take the places of disks by themselves.

use std::time::Duration;

use ashlar_protocol::{FreezeSpec, HealthStatus, ProblemCode, Redundancy};
use ashlar_targetd_protocol::{FailureKind, MemberState, Request};
use uuid::Uuid;

use super::rig::*;
use crate::domain::samples::spare;
use crate::engine::{After, Command};
use crate::targetd::fake::Behaviour;

/// A raid1 pool of two disks with these spares.
async fn spared(spares: &[&str]) -> Rig {
    let rig = Rig::empty().await;
    rig.outcome(mirrored(Redundancy::Raid1, 2)).await;
    rig.outcome(spare(spares)).await;
    rig
}

/// The kernel tells that a disk is no member any more.
fn goes(rig: &Rig, disk: &str, state: MemberState) {
    let disk = disk.parse().unwrap();
    rig.fake.kernel().lame.insert(disk, state);
    rig.fake.change();
}

async fn disks(rig: &Rig) -> Vec<String> {
    let pool = rig.engine.pool(POOL).await.unwrap();
    pool.disks.iter().map(ToString::to_string).collect()
}

async fn spares(rig: &Rig) -> Vec<String> {
    let pool = rig.engine.pool(POOL).await.unwrap();
    pool.spares.iter().map(ToString::to_string).collect()
}

fn takes(disk: &'static str) -> impl Fn(&Request) -> bool {
    move |request| match request {
        Request::ApplyPool(pool) => pool
            .disks
            .iter()
            .any(|place| place.takes_place.is_some() && place.id.as_str() == disk),
        _ => false,
    }
}

#[tokio::test]
async fn a_spare_takes_the_place_of_a_disk_that_has_gone() {
    let rig = spared(&["serial-DISK4", "serial-DISK5"]).await;
    goes(&rig, "serial-DISK1", MemberState::Failed);
    becomes(async || disks(&rig).await == ["serial-DISK0", "serial-DISK4"]).await;
    assert_eq!(spares(&rig).await, ["serial-DISK5"]);
    let events = rig.engine.events(After::Beginning, 1000, Duration::ZERO);
    let kinds: Vec<String> = events
        .await
        .unwrap()
        .items
        .iter()
        .map(|e| e.kind.to_string())
        .collect();
    let told: Vec<&str> = kinds
        .iter()
        .map(String::as_str)
        .filter(|kind| {
            kind.contains("member") || kind.contains("replace") || kind.contains("updated")
        })
        .collect();
    assert_eq!(
        told,
        [
            "pool.updated",
            "pool.member-failed",
            "pool.disk-replaced",
            "pool.member-rebuilding"
        ]
    );
}

#[tokio::test]
async fn a_spare_that_cannot_be_had_gives_way_to_the_next() {
    let rig = spared(&["serial-DISK4", "serial-DISK5"]).await;
    let refused = Behaviour::Fail(FailureKind::Unsupported);
    rig.fake.rule(usize::MAX, refused, takes("serial-DISK4"));
    goes(&rig, "serial-DISK0", MemberState::Missing);
    becomes(async || disks(&rig).await == ["serial-DISK5", "serial-DISK1"]).await;
    assert_eq!(spares(&rig).await, ["serial-DISK4"]);
}

#[tokio::test]
async fn what_went_while_nobody_was_there_is_replaced_after_a_start() {
    let rig = spared(&["serial-DISK4"]).await;
    rig.fake
        .kernel()
        .lame
        .insert("serial-DISK1".parse().unwrap(), MemberState::Missing);
    let rig = rig.restart().await;
    becomes(async || disks(&rig).await == ["serial-DISK0", "serial-DISK4"]).await;
}

async fn is_missing(rig: &Rig, place: usize) {
    let member = async || rig.engine.pool(POOL).await.unwrap().members[place].clone();
    becomes(async || member().await.state == MemberState::Missing).await;
}

/// Until a pool has been looked at so often that a spare was looked for, and none taken.
async fn is_looked_for() {
    tokio::time::sleep(2 * SPARE_AFTER).await;
}

#[tokio::test]
async fn what_was_told_as_gone_before_a_start_is_replaced_after_it() {
    let rig = spared(&["serial-DISK4"]).await;
    goes(&rig, "serial-DISK1", MemberState::Missing);
    is_missing(&rig, 1).await;
    let rig = rig.restart().await;
    becomes(async || disks(&rig).await == ["serial-DISK0", "serial-DISK4"]).await;
}

#[tokio::test]
async fn what_could_not_be_looked_at_in_time_is_looked_at_again() {
    let rig = spared(&["serial-DISK4"]).await;
    let listed = |request: &Request| matches!(request, Request::ListDisks);
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::Kernel), listed);
    goes(&rig, "serial-DISK1", MemberState::Missing);
    becomes(async || disks(&rig).await == ["serial-DISK0", "serial-DISK4"]).await;
}

#[tokio::test]
async fn targetd_that_is_away_when_it_is_time_is_asked_when_it_is_back() {
    let mut rig = spared(&["serial-DISK4"]).await;
    goes(&rig, "serial-DISK1", MemberState::Missing);
    is_missing(&rig, 1).await;
    rig.fake.pause();
    is_looked_for().await;
    rig.fake.resume();
    becomes(async || disks(&rig).await == ["serial-DISK0", "serial-DISK4"]).await;
}

#[tokio::test]
async fn a_spare_that_comes_when_it_is_late_takes_over() {
    let rig = spared(&["serial-DISK4"]).await;
    rig.fake.kernel().disks[4].in_use = true;
    goes(&rig, "serial-DISK1", MemberState::Missing);
    is_missing(&rig, 1).await;
    is_looked_for().await;
    assert_eq!(disks(&rig).await, ["serial-DISK0", "serial-DISK1"]);
    rig.fake.kernel().disks[4].in_use = false;
    rig.fake.change();
    becomes(async || disks(&rig).await == ["serial-DISK0", "serial-DISK4"]).await;
}

#[tokio::test]
async fn a_frozen_box_takes_its_spare_when_it_is_thawed() {
    let rig = spared(&["serial-DISK4"]).await;
    let id = rig.engine.id();
    let spec = FreezeSpec { reason: None };
    rig.outcome(Command::SystemFreeze { id, spec }).await;
    goes(&rig, "serial-DISK1", MemberState::Missing);
    is_missing(&rig, 1).await;
    is_looked_for().await;
    assert_eq!(disks(&rig).await, ["serial-DISK0", "serial-DISK1"]);
    rig.outcome(Command::SystemThaw { id }).await;
    becomes(async || disks(&rig).await == ["serial-DISK0", "serial-DISK4"]).await;
}

#[tokio::test]
async fn a_disk_that_goes_while_the_pool_grows_is_replaced_when_that_has_failed() {
    let rig = spared(&["serial-DISK4"]).await;
    let grows = |request: &Request| match request {
        Request::ApplyPool(pool) => pool.disks.len() > 2,
        _ => false,
    };
    let later = Behaviour::Fail(FailureKind::Kernel);
    rig.fake.rule(usize::MAX, later, grows);
    let command = grow(&["serial-DISK2", "serial-DISK3"]);
    let grown = rig.ask_as(Uuid::new_v4(), command, Duration::ZERO).await;
    grown.unwrap();
    goes(&rig, "serial-DISK1", MemberState::Missing);
    is_missing(&rig, 1).await;
    is_looked_for().await;
    rig.fake.obey();
    let refused = Behaviour::Fail(FailureKind::Unsupported);
    rig.fake.rule(usize::MAX, refused, grows);
    becomes(async || disks(&rig).await == ["serial-DISK0", "serial-DISK4"]).await;
}

#[tokio::test]
async fn spares_are_blank_disks_of_nobody_for_pools_with_redundancy() {
    let rig = spared(&["serial-DISK4"]).await;
    let refusal = async |spares: &[&str]| {
        let problem = rig.ask(spare(spares)).await.unwrap_err();
        (problem.code, problem.detail)
    };
    let (code, why) = refusal(&["serial-DISK4", "serial-DISK1"]).await;
    assert_eq!(code, ProblemCode::InUse, "{why}");
    let (code, why) = refusal(&["serial-DISK5", "serial-DISK5"]).await;
    assert_eq!(code, ProblemCode::InvalidField, "{why}");
    rig.fake.kernel().disks[5].content = Some("an ext4 file system".to_owned());
    let (code, why) = refusal(&["serial-DISK5"]).await;
    assert_eq!(code, ProblemCode::NotBlank, "{why}");
    // Nobody else gets one.
    let problem = rig
        .ask(grow(&["serial-DISK3", "serial-DISK4"]))
        .await
        .unwrap_err();
    assert_eq!(problem.code, ProblemCode::InUse);
    // By hand it may take a place of its own pool.
    rig.outcome(replace(1, "serial-DISK4")).await;
    assert_eq!(spares(&rig).await, [""; 0]);
    rig.outcome(spare(&[])).await;
    let plain = Rig::furnished().await;
    let problem = plain.ask(spare(&["serial-DISK4"])).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::WrongState);
}

#[tokio::test]
async fn health_names_a_spare_that_could_not_help() {
    let rig = spared(&["serial-DISK4"]).await;
    let told = async || {
        let health = rig.engine.health([]).await;
        let check = health
            .checks
            .into_iter()
            .find(|check| check.name.starts_with("pool/"));
        let check = check.unwrap();
        (check.status, check.detail.unwrap_or_default())
    };
    assert_eq!(told().await.0, HealthStatus::Ok);
    rig.fake.kernel().disks.remove(4);
    let (status, detail) = told().await;
    assert_eq!(status, HealthStatus::Degraded);
    assert!(
        detail.contains("spare serial-DISK4 is not there"),
        "{detail}"
    );
}

#[tokio::test]
async fn a_disk_that_is_back_in_time_keeps_its_place() {
    let rig = spared(&["serial-DISK4"]).await;
    // As if the spare had been waited for long before: that is not when the disk went.
    tokio::time::sleep(2 * SPARE_AFTER).await;
    goes(&rig, "serial-DISK1", MemberState::Missing);
    becomes(async || rig.engine.pool(POOL).await.unwrap().members[1].state == MemberState::Missing)
        .await;
    goes(&rig, "serial-DISK1", MemberState::Rebuilding);
    tokio::time::sleep(3 * SPARE_AFTER).await;
    assert_eq!(disks(&rig).await, ["serial-DISK0", "serial-DISK1"]);
    assert_eq!(spares(&rig).await, ["serial-DISK4"]);
}
