//! Limits, as a host measures them, and counters, as it knows them.

use anyhow::{Context, ensure};
use ashlar_protocol::{IoCounters, Qos, Transport, VolumeUpdate};
use ashlar_site::Device;
use uuid::Uuid;

use super::{Lab, MIB, done, initiator};

/// How far a rate may be from what was set, in percent.
const TOLERANCE: u64 = 10;
/// Who read or write at once.
const JOBS: u64 = 4;

/// Limits hold within a tenth over both transports, and change beneath the session.
pub async fn limits_hold_and_change_live(lab: &mut Lab) -> anyhow::Result<()> {
    println!("limits hold and change live");
    for transport in [Transport::Iscsi, Transport::NvmeTcp] {
        let volume = lab.volume(64).await?;
        let connection = lab.connect(volume, transport).await?;
        let device = lab.attach(&connection)?;
        initiator(&mut lab.guest).write_random(&device, 32)?;
        let sessions = "ls /sys/class/iscsi_session /sys/class/nvme";
        let before = initiator(&mut lab.guest).check(sessions)?;
        each_direction(lab, volume, &device).await?;
        total(lab, volume, &device).await?;
        let after = initiator(&mut lab.guest).check(sessions)?;
        ensure!(before == after, "a session changed over {transport}");
        lab.detach(&connection)?;
        done(lab.client.volume_detach_all(volume).await?)?;
        done(lab.client.volume_delete(volume).await?)?;
    }
    Ok(())
}

/// What a host writes and reads is what a volume's statistics tell, to the byte.
pub async fn bytes_are_counted(lab: &mut Lab) -> anyhow::Result<()> {
    println!("bytes are counted");
    for transport in [Transport::Iscsi, Transport::NvmeTcp] {
        let volume = lab.volume(16).await?;
        let connection = lab.connect(volume, transport).await?;
        let device = lab.attach(&connection)?;
        // Whatever a host looks at when a disk comes, it has looked at.
        initiator(&mut lab.guest).check("udevadm settle; udevadm control --stop-exec-queue")?;
        let before = counters(lab, volume).await?;
        write(lab, &device, "64k", 128)?;
        read(lab, &device, "64k", 64)?;
        let after = counters(lab, volume).await?;
        let took = |of: fn(&IoCounters) -> u64| of(&after) - of(&before);
        let writes = took(|io| io.writes.operations);
        ensure!(writes == 128, "{transport}: {writes} writes counted of 128");
        for (what, time) in [
            ("writes", took(|io| io.writes.milliseconds)),
            ("reads", took(|io| io.reads.milliseconds)),
            ("anything", took(|io| io.busy_milliseconds)),
        ] {
            ensure!(time > 0, "{transport}: {what} took no time");
        }
        let written = after.writes.bytes.0 - before.writes.bytes.0;
        ensure!(
            written == 8 * MIB,
            "{transport}: {written} bytes counted as written of {}",
            8 * MIB
        );
        initiator(&mut lab.guest).check("udevadm control --start-exec-queue; udevadm settle")?;
        // It may have read ahead.
        let read = after.reads.bytes.0 - before.reads.bytes.0;
        ensure!(
            (4 * MIB..8 * MIB).contains(&read),
            "{transport}: {read} bytes counted as read of {}",
            4 * MIB
        );
        lab.detach(&connection)?;
        done(lab.client.volume_detach_all(volume).await?)?;
        done(lab.client.volume_delete(volume).await?)?;
    }
    Ok(())
}

async fn each_direction(lab: &mut Lab, volume: Uuid, device: &Device) -> anyhow::Result<()> {
    let mib = |mib| Qos {
        write_bytes: Some(mib * MIB),
        read_bytes: Some(mib * MIB),
        ..Qos::default()
    };
    for rate in [2, 1] {
        limit(lab, volume, mib(rate)).await?;
        let time = write(lab, device, "64k", 384)?;
        close("bytes written", 24 * MIB * 1000 / time, rate * MIB)?;
        let time = read(lab, device, "64k", 384)?;
        close("bytes read", 24 * MIB * 1000 / time, rate * MIB)?;
    }
    let iops = Qos {
        write_iops: Some(20),
        read_iops: Some(20),
        ..Qos::default()
    };
    limit(lab, volume, iops).await?;
    let time = write(lab, device, "4k", 240)?;
    close("writes", 240 * 1000 / time, 20)?;
    let time = read(lab, device, "4k", 240)?;
    close("reads", 240 * 1000 / time, 20)
}

/// A total, whoever uses it.
async fn total(lab: &mut Lab, volume: Uuid, device: &Device) -> anyhow::Result<()> {
    let total = Qos {
        total_bytes: Some(2 * MIB),
        ..Qos::default()
    };
    limit(lab, volume, total).await?;
    let node = device.node();
    for (reads, writes) in [(false, true), (true, true), (true, false)] {
        let mut jobs = Vec::new();
        let write = format!("dd if=/dev/zero of={node} bs=64k count=512 conv=notrunc oflag=direct");
        let read = format!("dd if={node} of=/dev/null bs=64k count=512 iflag=direct");
        jobs.extend(writes.then_some(write));
        jobs.extend(reads.then_some(read));
        let started: String = jobs
            .iter()
            .map(|job| format!("{job} status=none & echo $! >> /run/dd-pids; "))
            .collect();
        initiator(&mut lab.guest).check(&format!("rm -f /run/dd-pids; {started}sleep 2"))?;
        let before = counters(lab, volume).await?;
        let begin = clock(lab)?;
        initiator(&mut lab.guest).check("sleep 6")?;
        let after = counters(lab, volume).await?;
        let time = clock(lab)? - begin;
        initiator(&mut lab.guest).check("kill $(cat /run/dd-pids) || true; wait")?;
        let moved = |counters: &IoCounters| counters.reads.bytes.0 + counters.writes.bytes.0;
        let rate = (moved(&after) - moved(&before)) * 1000 / time;
        let what = format!("total with reads {reads} and writes {writes}");
        close(&what, rate, 2 * MIB)?;
    }
    limit(lab, volume, Qos::default()).await
}

async fn limit(lab: &Lab, volume: Uuid, qos: Qos) -> anyhow::Result<()> {
    let update = VolumeUpdate {
        qos: Some(qos),
        ..VolumeUpdate::default()
    };
    done(lab.client.volume_update(volume, &update).await?).map(drop)
}

async fn counters(lab: &Lab, volume: Uuid) -> anyhow::Result<IoCounters> {
    let statistics = lab.client.volume_statistics(volume).await?;
    statistics.io.context("the volume is not active")
}

fn close(what: &str, measured: u64, set: u64) -> anyhow::Result<()> {
    println!("  {what}: {measured} a second, {set} set");
    let off = measured.abs_diff(set) * 100 / set;
    ensure!(off <= TOLERANCE, "{what}: {measured} a second, {set} set");
    Ok(())
}

/// Milliseconds it takes to write so many blocks from the beginning on.
fn write(lab: &mut Lab, device: &Device, block: &str, count: u64) -> anyhow::Result<u64> {
    let node = device.node();
    timed(lab, count, |first, count| {
        format!(
            "dd if=/dev/zero of={node} bs={block} seek={first} count={count} conv=notrunc \
             oflag=direct status=none"
        )
    })
}

fn read(lab: &mut Lab, device: &Device, block: &str, count: u64) -> anyhow::Result<u64> {
    let node = device.node();
    timed(lab, count, |first, count| {
        format!(
            "dd if={node} of=/dev/null bs={block} skip={first} count={count} iflag=direct \
             status=none"
        )
    })
}

/// By several at once, so that one is always waiting for the limit and not for the network; in
/// one command, since to have one run takes a while of its own.
fn timed(lab: &mut Lab, count: u64, job: impl Fn(u64, u64) -> String) -> anyhow::Result<u64> {
    let each = count / JOBS;
    let jobs: String = (0..JOBS)
        .map(|number| format!("{} & ", job(number * each, each)))
        .collect();
    let clock = "cut -d ' ' -f 1 /proc/uptime";
    let times = initiator(&mut lab.guest).check(&format!("{clock}; {jobs} wait; {clock}"))?;
    let (begin, end) = times.split_once('\n').context("no times")?;
    Ok(milliseconds(end)? - milliseconds(begin)?)
}

/// Milliseconds since the initiator was switched on.
fn clock(lab: &mut Lab) -> anyhow::Result<u64> {
    milliseconds(&initiator(&mut lab.guest).check("cut -d ' ' -f 1 /proc/uptime")?)
}

fn milliseconds(seconds: &str) -> anyhow::Result<u64> {
    let seconds: f64 = seconds.trim().parse()?;
    Ok((seconds * 1000.0) as u64)
}
