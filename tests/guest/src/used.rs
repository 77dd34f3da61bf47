//! A volume that a host writes to all the time, and what became of each write.

use std::time::Duration;

use anyhow::{Context, ensure};
use ashlar_protocol::{Connection, ConnectionState, Transport};
use ashlar_site::Device;
use uuid::Uuid;

use crate::lab::{Lab, MIB, initiator};

/// What each volume has in MiB: so much that stays as it is, and then what the writer changes.
pub const SIZE: u32 = 48;
const STILL: u32 = 24;
/// Blocks that the writer goes round in, each in a block of the pool of its own.
pub const ROUND: u64 = 32;
/// The sessions and controllers of the host: another number, or another state, means that one was lost
/// and made anew.
pub const SESSIONS: &str = "cd /sys/class; ls iscsi_session iscsi_connection nvme; \
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
pub struct Used {
    /// The volume.
    pub volume: Uuid,
    /// As the host has it.
    pub device: Device,
    connection: Connection,
    name: String,
    hash: String,
}

/// Attaches a new volume, fills what is to stay, and has the host begin to write.
///
/// # Errors
/// When anything of it fails; likewise below.
pub async fn used(lab: &mut Lab, transport: Transport) -> anyhow::Result<Used> {
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
        connection,
        name,
        hash,
    };
    while last(lab, &used)?.0 < ROUND {}
    Ok(used)
}

/// Has the host log out, which otherwise gives a volume up that is away for long.
pub fn leave(lab: &mut Lab, used: &Used) -> anyhow::Result<()> {
    lab.detach(&used.connection)
}

/// Has the host log in again, once the volume is there.
pub async fn come_back(lab: &mut Lab, used: &mut Used) -> anyhow::Result<()> {
    let id = used.connection.id;
    while lab.client.connection_show(id).await?.state != ConnectionState::Ready {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    used.device = lab.attach(&used.connection)?;
    Ok(())
}

/// The last number that is on the device, and the longest that one took.
pub fn last(lab: &mut Lab, used: &Used) -> anyhow::Result<(u64, u64)> {
    let command = format!("cat {}.last 2>/dev/null || echo 0 0; sleep 0.2", used.name);
    let text = initiator(&mut lab.guest).check(&command)?;
    let (last, longest) = text.trim().split_once(' ').context("no numbers")?;
    Ok((last.parse()?, longest.parse()?))
}

/// Has the host write no more; every write succeeded, and none took so long that a host gives up.
pub fn stop(lab: &mut Lab, used: &Used) -> anyhow::Result<()> {
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
pub fn whole(lab: &mut Lab, used: &Used) -> anyhow::Result<()> {
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
