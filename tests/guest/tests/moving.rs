//! What hosts notice of volumes that go to another pool, with the kernel's own initiators.

use std::time::Duration;

use anyhow::{Context, ensure};
use ashlar_ctl::Change;
use ashlar_guest_tests::lab::{Lab, MIB, done, initiator};
use ashlar_guest_tests::used::{ROUND, SESSIONS, Used, goes_on, stop, used, whole};
use ashlar_protocol::{FreezeSpec, Job, JobState, MoveSpec, PoolSpec, ProblemCode, Transport};
use uuid::Uuid;

const TRANSPORTS: [Transport; 2] = [Transport::Iscsi, Transport::NvmeTcp];
/// A little a second, so that the move is seen under way.
const SLOW: u64 = 2 << 20;

#[tokio::test]
async fn hosts_go_on_while_their_volumes_move() -> anyhow::Result<()> {
    let mut lab = Lab::new("moving").await?;
    let other = second_pool(&lab).await?;
    let mut volumes = Vec::new();
    for transport in TRANSPORTS {
        volumes.push(used(&mut lab, transport).await?);
    }
    let sessions = initiator(&mut lab.guest).check(SESSIONS)?;
    a_killed_agent_leaves_them_where_they_are(&mut lab, other, &volumes).await?;
    one_that_is_cancelled_stays_where_it_was(&mut lab, other, &volumes[0]).await?;
    a_frozen_box_serves_on(&mut lab, other, &volumes).await?;

    println!("volumes move");
    let mut jobs = Vec::new();
    for used in &volumes {
        jobs.push(moved(&lab, used.volume, other, None).await?);
    }
    for job in jobs {
        lab.client.job_wait(job, |_| ()).await?;
    }
    for used in &volumes {
        goes_on(&mut lab, used, ROUND)?;
        stop(&mut lab, used)?;
        ensure!(
            lab.client.volume_show(used.volume).await?.pool == other,
            "its pool"
        );
        whole(&mut lab, used)?;
    }
    let now = initiator(&mut lab.guest).check(SESSIONS)?;
    ensure!(now == sessions, "sessions were\n{sessions}and are\n{now}");
    let left = lab.client.thin_devices(lab.pool).await?;
    ensure!(left.is_empty(), "left in the first pool: {left:?}");
    let there = lab.client.thin_devices(other).await?;
    ensure!(
        there.len() == volumes.len(),
        "in the second pool: {there:?}"
    );

    println!("they are there after a power cut");
    lab.guest.power_cycle()?;
    for used in &volumes {
        ensure!(
            lab.client.volume_show(used.volume).await?.pool == other,
            "its pool"
        );
        whole(&mut lab, used)?;
    }
    Ok(())
}

/// A pool on the other disk, in blocks of another size.
async fn second_pool(lab: &Lab) -> anyhow::Result<Uuid> {
    let id = Uuid::new_v4();
    let spec = PoolSpec {
        block_size: Some(256 << 10),
        ..PoolSpec::on("second".parse()?, vec!["serial-DISK1".parse()?])
    };
    done(lab.client.pool_create(id, &spec).await?)?;
    Ok(id)
}

async fn moved(lab: &Lab, volume: Uuid, pool: Uuid, bandwidth: Option<u64>) -> anyhow::Result<Job> {
    let spec = MoveSpec { pool, bandwidth };
    let client = lab.client.waiting(Duration::ZERO).under(Uuid::new_v4());
    match client.volume_move(volume, &spec).await? {
        Change::Accepted(job) => Ok(job),
        Change::Done { .. } => anyhow::bail!("it was there at once"),
    }
}

async fn a_killed_agent_leaves_them_where_they_are(
    lab: &mut Lab,
    other: Uuid,
    volumes: &[Used],
) -> anyhow::Result<()> {
    println!("a killed agent leaves them where they are");
    let mut jobs = Vec::new();
    for used in volumes {
        jobs.push(moved(lab, used.volume, other, Some(SLOW)).await?);
    }
    for job in &jobs {
        is_under_way(lab, job).await?;
    }
    lab.guest.kill("ashlar-agent.service")?;
    lab.guest.site.await_management()?;
    for (job, used) in jobs.iter().zip(volumes) {
        let problem = lab
            .client
            .job_show(job.id)
            .await?
            .problem
            .context("no problem")?;
        ensure!(problem.code == ProblemCode::Interrupted, "{problem}");
        ensure!(
            lab.client.volume_show(used.volume).await?.pool == lab.pool,
            "its pool"
        );
        goes_on(lab, used, ROUND)?;
    }
    let there = lab.client.thin_devices(lab.pool).await?;
    ensure!(there.len() == volumes.len(), "in the first pool: {there:?}");
    let left = lab.client.thin_devices(other).await?;
    ensure!(left.is_empty(), "left in the second pool: {left:?}");
    Ok(())
}

async fn is_under_way(lab: &Lab, job: &Job) -> anyhow::Result<()> {
    let done = |job: &Job| job.progress.map_or(0, |progress| progress.done);
    while done(&lab.client.job_show(job.id).await?) < MIB {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn one_that_is_cancelled_stays_where_it_was(
    lab: &mut Lab,
    other: Uuid,
    used: &Used,
) -> anyhow::Result<()> {
    println!("one that is cancelled stays where it was");
    let job = moved(lab, used.volume, other, Some(SLOW)).await?;
    is_under_way(lab, &job).await?;
    let id = job.id;
    lab.client.job_cancel(id).await?;
    let ended = lab.client.job_wait(job, |_| ()).await;
    ensure!(ended.is_err(), "it has moved: {ended:?}");
    let ended = lab.client.job_show(id).await?;
    ensure!(ended.state == JobState::Cancelled, "{ended:?}");
    let volume = lab.client.volume_show(used.volume).await?;
    ensure!(volume.pool == lab.pool, "its pool");
    let left = lab.client.thin_devices(other).await?;
    ensure!(left.is_empty(), "left in the second pool: {left:?}");
    goes_on(lab, used, ROUND)
}

async fn a_frozen_box_serves_on(
    lab: &mut Lab,
    other: Uuid,
    volumes: &[Used],
) -> anyhow::Result<()> {
    println!("a frozen box serves on");
    done(lab.client.system_freeze(&FreezeSpec::default()).await?)?;
    for used in volumes {
        goes_on(lab, used, ROUND)?;
        let refused = moved(lab, used.volume, other, None).await;
        let said = refused.err().context("it moves")?.to_string();
        ensure!(said.contains("frozen"), "{said}");
    }
    done(lab.client.system_thaw().await?).map(drop)
}
