//! What hosts notice of volumes that go to another pool, with the kernel's own initiators.

use std::time::Duration;

use anyhow::{Context, ensure};
use ashlar_ctl::Change;
use ashlar_guest_tests::lab::{Lab, MIB, done, initiator};
use ashlar_protocol::{Job, MoveSpec, PoolSpec, ProblemCode, Transport, Watermarks};
use ashlar_site::Device;
use uuid::Uuid;

const TRANSPORTS: [Transport; 2] = [Transport::Iscsi, Transport::NvmeTcp];
/// What each volume has in MiB: so much that stays as it is, and then what the writer changes.
const SIZE: u32 = 48;
const STILL: u32 = 24;
/// Blocks that the writer goes round in, each in a block of the pool of its own.
const ROUND: u64 = 32;
/// A little a second, so that the move is seen under way.
const SLOW: u64 = 2 << 20;

/// The sessions and controllers of the host: another number, or another state, means that one was lost
/// and made anew.
const SESSIONS: &str = "cd /sys/class; ls iscsi_session iscsi_connection nvme; \
    cat iscsi_session/session*/state nvme/nvme*/state; \
    for nvme in nvme/nvme*; do echo $(cat $nvme/cntlid) $(cat $nvme/hostnqn); done";

/// Writes 1, 2, 3, … to one block after the other, and notes the last that is on the device and
/// the longest that one took, in hundredths of a second. An emulated machine takes long to start a
/// program: there are few for each write, and a pause, so that others get on.
const WRITER: &str = r#"#!/bin/sh
device=$1 name=$2 first=$3 round=$4 n=0 longest=0
now() {
    read -r up _ < /proc/uptime
    now=${up%.*}${up#*.}
}
rm -f "$name.stop" "$name.failed"
while [ ! -e "$name.stop" ]; do
    n=$((n + 1))
    now; begin=$now
    printf '%-4096s' $n | dd of="$device" bs=4096 count=1 seek=$((first + n % round * 16)) \
        iflag=fullblock oflag=direct conv=notrunc 2>/dev/null || echo $n >> "$name.failed"
    now; took=$((now - begin))
    [ $took -gt $longest ] && longest=$took
    echo "$n $longest" > "$name.new" && mv "$name.new" "$name.last"
    sleep 0.1
done
touch "$name.done"
"#;

/// A volume that a host writes to.
struct Used {
    volume: Uuid,
    device: Device,
    name: String,
    hash: String,
}

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

    println!("volumes move");
    let mut jobs = Vec::new();
    for used in &volumes {
        jobs.push(moved(&lab, used.volume, other, None).await?);
    }
    for job in jobs {
        lab.client.job_wait(job, |_| ()).await?;
    }
    for used in &volumes {
        let (last, _) = last(&mut lab, used)?;
        while self::last(&mut lab, used)?.0 < last + ROUND {}
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
        name: "second".parse()?,
        disks: vec!["serial-DISK1".parse()?],
        block_size: Some(256 << 10),
        metadata_size: None,
        wipe: false,
        over_subscription: 0,
        reserved: 0,
        watermarks: Watermarks::default(),
    };
    done(lab.client.pool_create(id, &spec).await?)?;
    Ok(id)
}

async fn used(lab: &mut Lab, transport: Transport) -> anyhow::Result<Used> {
    let volume = lab.volume(SIZE.into()).await?;
    let connection = lab.connect(volume, transport).await?;
    let device = lab.attach(&connection)?;
    let mut host = initiator(&mut lab.guest);
    let hash = host.write_random(&device, STILL)?;
    let name = format!("/run/writer-{transport}");
    let (node, first) = (device.node(), u64::from(STILL) * MIB / 4096);
    host.check(&format!("cat > /run/writer <<'END'\n{WRITER}END"))?;
    host.check(&format!(
        "setsid sh /run/writer {node} {name} {first} {ROUND} < /dev/null > /dev/null 2>&1 &"
    ))?;
    let used = Used {
        volume,
        device,
        name,
        hash,
    };
    while last(lab, &used)?.0 < ROUND {}
    Ok(used)
}

/// The last number that is on the device, and the longest that one took.
fn last(lab: &mut Lab, used: &Used) -> anyhow::Result<(u64, u64)> {
    let command = format!("cat {}.last 2>/dev/null || echo 0 0; sleep 0.2", used.name);
    let text = initiator(&mut lab.guest).check(&command)?;
    let (last, longest) = text.trim().split_once(' ').context("no numbers")?;
    Ok((last.parse()?, longest.parse()?))
}

fn stop(lab: &mut Lab, used: &Used) -> anyhow::Result<()> {
    let name = &used.name;
    let (last, longest) = last(lab, used)?;
    let longest = Duration::from_millis(longest * 10);
    println!("{name}: {last} writes, the longest of {longest:?}");
    let mut host = initiator(&mut lab.guest);
    host.check(&format!(
        "touch {name}.stop; while [ ! -e {name}.done ]; do sleep 0.1; done"
    ))?;
    host.check(&format!("[ ! -e {name}.failed ]"))
        .context("a write failed")?;
    // Hosts give up after 30 s.
    ensure!(
        longest < Duration::from_secs(25),
        "a write took {longest:?}"
    );
    Ok(())
}

/// All that was ever written is there: what stayed, and the last number of each block.
fn whole(lab: &mut Lab, used: &Used) -> anyhow::Result<()> {
    let (last, _) = last(lab, used)?;
    let mut host = initiator(&mut lab.guest);
    let hash = host.hash(&used.device, STILL)?;
    ensure!(hash == used.hash, "{}: what stayed has changed", used.name);
    let (node, first) = (used.device.node(), u64::from(STILL) * MIB / 4096);
    let text = host.check(&format!(
        "for i in $(seq 0 {}); do dd if={node} bs=4096 count=1 skip=$(({first} + i * 16)) \
         iflag=direct 2>/dev/null | tr -d ' \\000'; echo; done",
        ROUND - 1
    ))?;
    let found = text.lines().map(|line| line.trim().parse::<u64>());
    let found: Vec<u64> = found.collect::<Result<_, _>>().context("no numbers")?;
    let newest = |block: u64| last - (last + ROUND - block) % ROUND;
    let expected: Vec<u64> = (0..ROUND).map(newest).collect();
    ensure!(
        found == expected,
        "{}: {found:?}, not {expected:?}",
        used.name
    );
    Ok(())
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
        let done = |job: &Job| job.progress.map_or(0, |progress| progress.done);
        while done(&lab.client.job_show(job.id).await?) < MIB {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
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
        let (last, _) = last(lab, used)?;
        while self::last(lab, used)?.0 < last + ROUND {}
    }
    let there = lab.client.thin_devices(lab.pool).await?;
    ensure!(there.len() == volumes.len(), "in the first pool: {there:?}");
    let left = lab.client.thin_devices(other).await?;
    ensure!(left.is_empty(), "left in the second pool: {left:?}");
    Ok(())
}
