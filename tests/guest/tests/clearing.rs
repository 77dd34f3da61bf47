//! What is left on the disks of volumes that were cleared.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ashlar_ctl::Change;
use ashlar_guest_tests::lab::{Lab, MIB, done, initiator};
use ashlar_protocol::{
    Clear, Connection, ExtendSpec, Job, JobState, Parent, SnapshotSpec, Transport, VolumeSpec,
};
use ashlar_site::Device;
use uuid::Uuid;

/// What volumes have, in MiB.
const SIZE: u64 = 16;
/// A little a second, so that the work is seen under way.
const SLOW: u64 = 2 * MIB;
/// Bytes of the disk that a mark stands for: it is at the beginning of each.
const BLOCK: usize = 4096;

/// One lab for all: a boot costs more than any of these.
#[tokio::test]
async fn what_is_cleared_is_gone_from_the_disk() -> anyhow::Result<()> {
    let mut lab = Lab::new("clearing").await?;
    zeros_take_its_place(&mut lab).await?;
    what_snapshots_have_stays(&mut lab).await?;
    the_disk_forgets_what_is_discarded(&mut lab).await?;
    it_goes_on_after_every_accident(&mut lab).await?;
    it_ends_behind_a_host_that_never_rests(&mut lab).await
}

async fn zeros_take_its_place(lab: &mut Lab) -> anyhow::Result<()> {
    println!("zeros take the place of what is cleared");
    let volume = marked(lab, "FIRST", SIZE).await?;
    ensure!(on_disk(lab, "FIRST")? == blocks(SIZE), "it was written");
    let job = cleared(lab, volume, Clear::Zero, None).await?;
    let result = job.result.context("no result")?;
    ensure!(result.written == Some(SIZE * MIB), "{result:?}");
    ensure!(on_disk(lab, "FIRST")? == 0, "it is still there");

    // Without clearing it stays, which shows that looking finds it.
    let volume = marked(lab, "SECOND", SIZE).await?;
    done(lab.client.volume_delete(volume).await?)?;
    ensure!(on_disk(lab, "SECOND")? == blocks(SIZE), "it was cleared");
    let volume = marked(lab, "THIRD", SIZE).await?;
    let part = lab
        .client
        .volume_clear(volume, Clear::Zero, Some(4 * MIB), None);
    done(part.await?)?;
    ensure!(
        on_disk(lab, "THIRD")? == blocks(SIZE - 4),
        "not just a part"
    );
    let used = lab.used().await?;
    ensure!(used == 0, "{used} bytes are not given back");
    Ok(())
}

async fn what_snapshots_have_stays(lab: &mut Lab) -> anyhow::Result<()> {
    println!("what snapshots have stays");
    let volume = marked(lab, "SHARED", SIZE).await?;
    let snapshot = Uuid::new_v4();
    let spec = SnapshotSpec {
        name: "snapshot".parse()?,
        volume,
        labels: Default::default(),
    };
    done(lab.client.snapshot_create(snapshot, &spec).await?)?;
    let (connection, device) = attached(lab, volume).await?;
    mark(lab, &device, "ALONE", SIZE / 2)?;
    detached(lab, &connection).await?;
    ensure!(on_disk(lab, "ALONE")? == blocks(SIZE / 2), "it was written");
    let used = lab.used().await?;
    let job = cleared(lab, volume, Clear::Zero, None).await?;
    let result = job.result.context("no result")?;
    let half = Some(SIZE / 2 * MIB);
    ensure!((result.written, result.left) == (half, half), "{result:?}");
    ensure!(on_disk(lab, "ALONE")? == 0, "it is still there");
    ensure!(
        on_disk(lab, "SHARED")? == blocks(SIZE),
        "the snapshot lost it"
    );
    let left = lab.used().await?;
    ensure!(
        left == used - SIZE / 2 * MIB,
        "clearing took room: {used}, {left}"
    );
    done(lab.client.snapshot_delete(snapshot).await?)
}

async fn the_disk_forgets_what_is_discarded(lab: &mut Lab) -> anyhow::Result<()> {
    println!("the disk forgets what is discarded");
    let volume = marked(lab, "DISCARDED", SIZE).await?;
    let job = cleared(lab, volume, Clear::Discard, None).await?;
    let result = job.result.context("no result")?;
    ensure!(result.zeroed == Some(SIZE * MIB), "{result:?}");
    ensure!(on_disk(lab, "DISCARDED")? == 0, "it is still there");
    Ok(())
}

async fn it_goes_on_after_every_accident(lab: &mut Lab) -> anyhow::Result<()> {
    for accident in ["ashlar-agent.service", "ashlar-targetd.service", "power"] {
        println!("clearing goes on after an accident: {accident}");
        let volume = marked(lab, "SLOWLY", SIZE).await?;
        let used = lab.used().await?;
        let client = lab.client.waiting(Duration::ZERO).under(Uuid::new_v4());
        let clearing = client.volume_clear(volume, Clear::Zero, None, Some(SLOW));
        let Change::Accepted(job) = clearing.await? else {
            anyhow::bail!("it was cleared at once");
        };
        let far = |job: &Job| job.progress.map_or(0, |progress| progress.done);
        while far(&lab.client.job_show(job.id).await?) < MIB {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        ensure!(lab.used().await? == used, "given back before it is cleared");
        nothing_is_made_of_it(lab, volume).await?;
        match accident {
            "power" => lab.guest.power_cycle()?,
            unit => lab.guest.kill(unit)?,
        }
        lab.guest.site.await_management()?;
        let job = lab.client.job_wait(job, |_| ()).await?;
        ensure!(job.state == JobState::Succeeded, "{job:?}");
        ensure!(on_disk(lab, "SLOWLY")? == 0, "it is still there");
        let used = lab.used().await?;
        ensure!(used == 0, "{used} bytes are not given back");
    }
    Ok(())
}

/// What is on its way out is nobody's source any more, nor to be served or extended.
async fn nothing_is_made_of_it(lab: &mut Lab, volume: Uuid) -> anyhow::Result<()> {
    let (client, id) = (&lab.client, Uuid::new_v4());
    let snapshot = SnapshotSpec {
        name: "late".parse()?,
        volume,
        labels: Default::default(),
    };
    let clone = VolumeSpec {
        size: None,
        source: Some(Parent::Volume(volume)),
        ..VolumeSpec::blank("late".parse()?, lab.pool, MIB)
    };
    let extended = ExtendSpec {
        size: 2 * SIZE * MIB,
    };
    let refusals = [
        client.snapshot_create(id, &snapshot).await.err(),
        client.volume_create(id, &clone).await.err(),
        client.volume_extend(volume, &extended).await.err(),
    ];
    for refusal in refusals {
        let said = refusal.context("it was done")?.to_string();
        ensure!(said.contains("deleted"), "{said}");
    }
    let served = lab.connect(volume, Transport::NvmeTcp).await;
    ensure!(served.is_err(), "it is served");
    Ok(())
}

/// Hosts go first, and yet it comes to its end.
async fn it_ends_behind_a_host_that_never_rests(lab: &mut Lab) -> anyhow::Result<()> {
    println!("it ends behind a host that never rests");
    let busy = marked(lab, "READ", SIZE).await?;
    let (connection, device) = attached(lab, busy).await?;
    let volume = marked(lab, "BEHIND", SIZE).await?;
    let node = device.node();
    initiator(&mut lab.guest).check(&format!(
        "for n in 1 2 3 4; do (while [ ! -e /tmp/stop ]; do dd if={node} of=/dev/null bs=1M \
         iflag=direct 2>/dev/null || touch /tmp/failed; done; touch /tmp/stopped-$n) \
         </dev/null >/dev/null 2>&1 & done"
    ))?;
    let begin = Instant::now();
    cleared(lab, volume, Clear::Zero, None).await?;
    println!("it took {:?}", begin.elapsed());
    ensure!(on_disk(lab, "BEHIND")? == 0, "it is still there");
    initiator(&mut lab.guest).check(
        "ls /tmp/stopped-* 2>/dev/null && exit 1; touch /tmp/stop; \
         while [ $(ls /tmp/stopped-* 2>/dev/null | wc -l) -lt 4 ]; do sleep 0.1; done; \
         [ ! -e /tmp/failed ]",
    )?;
    detached(lab, &connection).await?;
    done(lab.client.volume_delete(busy).await?)
}

/// A volume, detached, that is full of a mark.
async fn marked(lab: &mut Lab, text: &str, mib: u64) -> anyhow::Result<Uuid> {
    let volume = lab.volume(mib).await?;
    let (connection, device) = attached(lab, volume).await?;
    mark(lab, &device, text, mib)?;
    detached(lab, &connection).await?;
    Ok(volume)
}

/// Writes a mark into each block of so many MiB.
fn mark(lab: &mut Lab, device: &Device, text: &str, mib: u64) -> anyhow::Result<()> {
    let (node, line) = (device.node(), whole(text));
    initiator(&mut lab.guest).check(&format!(
        "printf '%-{BLOCK}s' {line} > /tmp/mark; for n in $(seq 256); do cat /tmp/mark; done \
         > /tmp/marks; for n in $(seq 0 {}); do dd if=/tmp/marks of={node} bs=1M count=1 seek=$n \
         oflag=direct conv=notrunc 2>/dev/null || exit 1; done; sync {node}",
        mib - 1
    ))?;
    Ok(())
}

fn whole(text: &str) -> String {
    format!("ASHLAR-MARK-{text}-MARK")
}

fn blocks(mib: u64) -> usize {
    (mib * MIB) as usize / BLOCK
}

/// Blocks of the pool's disk that hold a mark, as the disk itself has them.
fn on_disk(lab: &Lab, text: &str) -> anyhow::Result<usize> {
    let path = lab.guest.site.folder().join("disk0.img");
    let mut disk = File::open(&path).with_context(|| path.display().to_string())?;
    let (line, mut count) = (whole(text), 0);
    let mut chunk = vec![0; 1 << 20];
    loop {
        let length = disk.read(&mut chunk)?;
        if length == 0 {
            return Ok(count);
        }
        let found = chunk[..length].chunks(BLOCK);
        count += found
            .filter(|block| block.starts_with(line.as_bytes()))
            .count();
    }
}

/// Has a volume cleared and destroyed, and waits for it.
async fn cleared(
    lab: &Lab,
    volume: Uuid,
    clear: Clear,
    bandwidth: Option<u64>,
) -> anyhow::Result<Job> {
    let request = Uuid::new_v4();
    let client = lab.client.under(request);
    match client.volume_clear(volume, clear, None, bandwidth).await? {
        Change::Accepted(job) => Ok(lab.client.job_wait(job, |_| ()).await?),
        Change::Done { .. } => Ok(lab.client.job_show(request).await?),
    }
}

async fn attached(lab: &mut Lab, volume: Uuid) -> anyhow::Result<(Connection, Device)> {
    let connection = lab.connect(volume, Transport::NvmeTcp).await?;
    let device = lab.attach(&connection)?;
    Ok((connection, device))
}

async fn detached(lab: &mut Lab, connection: &Connection) -> anyhow::Result<()> {
    lab.detach(connection)?;
    done(lab.client.connection_delete(connection.id).await?)
}
