//! What hosts notice of disks that go, with the kernel's own initiators: nothing.

use std::time::{Duration, Instant};

use anyhow::ensure;
use ashlar_guest_tests::lab::{Lab, done, initiator};
use ashlar_guest_tests::used::{SESSIONS, Used, come_back, goes_on, leave, stop, used, whole};
use ashlar_protocol::{
    DiskId, HealthStatus, MemberState, Pool, PoolGrowth, PoolState, PoolUpdate, Redundancy,
    ScrubMode, ScrubSpec, Transport,
};
use ashlar_site::disks::{all_in_sync, rests};

/// Of each disk. An emulated machine takes long to make them the same.
const DISK_MIB: u64 = 256;
/// So many more say that a host goes on.
const WRITES: u64 = 4;
/// How long a rebuild may take there.
const LIMIT: Duration = Duration::from_secs(180);

#[tokio::test]
async fn hosts_do_not_notice_that_disks_go() -> anyhow::Result<()> {
    let mut lab = Lab::in_slots("redundancy", (6, DISK_MIB), (Redundancy::Raid5, 3)).await?;
    let mut volumes = [
        used(&mut lab, Transport::Iscsi).await?,
        used(&mut lab, Transport::NvmeTcp).await?,
    ];
    until(&lab, all_in_sync).await?;
    let sessions = initiator(&mut lab.guest).check(SESSIONS)?;

    // It takes over by itself, unless the disk is back before.
    let spares = PoolUpdate {
        spares: Some(vec![disk(3)?]),
        ..PoolUpdate::default()
    };
    done(lab.client.pool_update(lab.pool, &spares).await?)?;

    println!("a disk is pulled while hosts write");
    lab.guest.site.appliance.pull("DISK1")?;
    let pulled = Instant::now();
    until(&lab, |pool| state(pool, 1) == MemberState::Missing).await?;
    told(&lab, "member-missing", "DISK1").await?;
    println!("told {:?} after it was gone", pulled.elapsed());
    explained(&mut lab)?;
    go_on(&mut lab, &volumes)?;
    let health = lab.client.health_show().await?;
    ensure!(health.status == HealthStatus::Degraded, "{health:?}");

    println!("a spare takes its place");
    let spare = disk(3)?;
    let pool = until(&lab, |pool| pool.disks[1] == spare).await?;
    println!(
        "the spare has it {:?} after the disk was gone",
        pulled.elapsed()
    );
    ensure!(pool.spares.is_empty(), "{:?}", pool.spares);
    go_on(&mut lab, &volumes)?;
    until(&lab, all_in_sync).await?;
    told(&lab, "member-in-sync", "DISK3").await?;

    println!("a disk is pulled, and is there again");
    lab.guest.site.appliance.pull("DISK0")?;
    until(&lab, |pool| state(pool, 0) == MemberState::Missing).await?;
    go_on(&mut lab, &volumes)?;
    lab.guest.site.appliance.plug("DISK0")?;
    until(&lab, all_in_sync).await?;
    go_on(&mut lab, &volumes)?;

    println!("a set more comes");
    let growth = PoolGrowth {
        disks: vec![disk(1)?, disk(4)?, disk(5)?],
        metadata_size: None,
        wipe: true,
    };
    lab.guest.site.appliance.plug("DISK1")?;
    while !listed(&lab, 1).await? {}
    let before = lab.client.pool_show(lab.pool).await?.capacity;
    let after = done(lab.client.pool_grow(lab.pool, &growth).await?)?.capacity;
    ensure!(after > before, "{before:?} became {after:?}");
    go_on(&mut lab, &volumes)?;
    until(&lab, all_in_sync).await?;

    println!("the disks are compared");
    compared(&lab).await?;

    let now = initiator(&mut lab.guest).check(SESSIONS)?;
    ensure!(now == sessions, "sessions were\n{sessions}and are\n{now}");
    for used in &volumes {
        stop(&mut lab, used)?;
        whole(&mut lab, used)?;
    }
    a_power_cut_without_a_disk(&mut lab, &volumes).await?;
    too_many_are_gone(&mut lab, &mut volumes).await
}

/// The journal has the event by its own kind of message, and says what that means.
fn explained(lab: &mut Lab) -> anyhow::Result<()> {
    let found = "journalctl --no-pager -x EVENT=pool.member-missing";
    let journal = lab.guest.site.appliance.check(found)?;
    ensure!(journal.contains("disk serial-DISK1"), "{journal}");
    ensure!(journal.contains("Its set goes on without it."), "{journal}");
    Ok(())
}

async fn a_power_cut_without_a_disk(lab: &mut Lab, volumes: &[Used]) -> anyhow::Result<()> {
    println!("the power is cut, and a disk is gone afterwards");
    lab.guest.site.appliance.pull("DISK2")?;
    lab.guest.power_cycle()?;
    let pool = until(lab, |pool| pool.state == PoolState::Online).await?;
    ensure!(state(&pool, 2) == MemberState::Missing, "{pool:?}");
    for used in volumes {
        whole(lab, used)?;
    }
    lab.guest.site.appliance.plug("DISK2")?;
    until(lab, all_in_sync).await?;
    for used in volumes {
        whole(lab, used)?;
    }
    compared(lab).await
}

/// All disks agree where they should.
async fn compared(lab: &Lab) -> anyhow::Result<()> {
    let mode = ScrubMode::Check;
    done(lab.client.pool_scrub(lab.pool, &ScrubSpec { mode }).await?)?;
    let pool = until(lab, rests).await?;
    let differing: u64 = pool.sets.iter().map(|set| set.mismatches).sum();
    ensure!(differing == 0, "{:?}", pool.sets);
    until(lab, |pool| pool.scrubbed.is_some()).await?;
    told(lab, "scrubbed", "0 bytes differ").await
}

/// One more than the set can do without. It comes back with them at the next start.
async fn too_many_are_gone(lab: &mut Lab, volumes: &mut [Used]) -> anyhow::Result<()> {
    println!("too many disks are gone");
    for used in &*volumes {
        leave(lab, used)?;
    }
    for serial in ["DISK0", "DISK2"] {
        lab.guest.site.appliance.pull(serial)?;
    }
    lab.guest.power_cycle()?;
    until(lab, |pool| pool.state == PoolState::Offline).await?;
    let health = lab.client.health_show().await?;
    let says = |text: &str| {
        let details = health
            .checks
            .iter()
            .filter_map(|check| check.detail.as_ref());
        details.into_iter().any(|detail| detail.contains(text))
    };
    ensure!(says("DISK0") && says("DISK2"), "{health:?}");
    for serial in ["DISK0", "DISK2"] {
        lab.guest.site.appliance.plug(serial)?;
    }
    until(lab, |pool| pool.state == PoolState::Online).await?;
    until(lab, all_in_sync).await?;
    for used in volumes {
        come_back(lab, used).await?;
        whole(lab, used)?;
    }
    Ok(())
}

fn disk(number: u32) -> anyhow::Result<DiskId> {
    Ok(format!("serial-DISK{number}").parse()?)
}

fn state(pool: &Pool, place: usize) -> MemberState {
    pool.members[place].state
}

/// Waits until the pool is so.
async fn until(lab: &Lab, is_so: impl Fn(&Pool) -> bool) -> anyhow::Result<Pool> {
    let since = Instant::now();
    loop {
        let pool = lab.client.pool_show(lab.pool).await?;
        if is_so(&pool) {
            return Ok(pool);
        }
        ensure!(since.elapsed() < LIMIT, "it stays {pool:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Whoever listens to events hears it.
async fn told(lab: &Lab, what: &str, disk: &str) -> anyhow::Result<()> {
    let since = Instant::now();
    loop {
        let events = lab.client.event_list().await?;
        let about = |event: &ashlar_protocol::Event| {
            let detail = event.detail.as_deref().unwrap_or_default();
            event.kind.as_str().ends_with(what) && detail.contains(disk)
        };
        if events.iter().any(about) {
            return Ok(());
        }
        ensure!(
            since.elapsed() < LIMIT,
            "nobody is told of {what} {disk}: {events:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn listed(lab: &Lab, number: u32) -> anyhow::Result<bool> {
    let disk = disk(number)?;
    let disks = lab.client.disk_list().await?;
    Ok(disks.iter().any(|found| found.id == disk))
}

/// Hosts write.
fn go_on(lab: &mut Lab, volumes: &[Used]) -> anyhow::Result<()> {
    volumes
        .iter()
        .try_for_each(|used| goes_on(lab, used, WRITES))
}
