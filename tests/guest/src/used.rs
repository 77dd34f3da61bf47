//! A volume that a host writes to all the time, and what became of each write.

use std::time::Duration;

use anyhow::ensure;
use ashlar_protocol::{Connection, ConnectionState, Transport};
use ashlar_site::{Device, Writer, writer};
use uuid::Uuid;

use crate::lab::{Lab, initiator};

/// What each volume has in MiB: so much that stays as it is, and then what the writer changes.
pub const SIZE: u32 = 48;
const STILL: u32 = 24;
/// Once round all blocks of the writer.
pub const ROUND: u64 = writer::ROUND;
/// The sessions and controllers of the host: another number, or another state, means that one was lost
/// and made anew.
pub const SESSIONS: &str = "cd /sys/class; ls iscsi_session iscsi_connection nvme; \
    cat iscsi_session/session*/state nvme/nvme*/state; \
    for nvme in nvme/nvme*; do echo $(cat $nvme/cntlid) $(cat $nvme/hostnqn); done";

/// A volume that a host writes to.
pub struct Used {
    /// The volume.
    pub volume: Uuid,
    /// As the host has it.
    pub device: Device,
    connection: Connection,
    writer: Writer,
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
    let writer = Writer::start(&mut host, &transport.to_string(), &device, STILL)?;
    Ok(Used {
        volume,
        device,
        connection,
        writer,
        hash,
    })
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

/// Waits until the host has written so many times more.
pub fn goes_on(lab: &mut Lab, used: &Used, writes: u64) -> anyhow::Result<()> {
    used.writer.goes_on(&mut initiator(&mut lab.guest), writes)
}

/// Has the host write no more; every write succeeded, and none took so long that a host gives up.
pub fn stop(lab: &mut Lab, used: &Used) -> anyhow::Result<()> {
    let (last, longest) = used.writer.stop(&mut initiator(&mut lab.guest))?;
    let transport = used.connection.transport;
    println!("{transport}: {last} writes, the longest of {longest:?}");
    Ok(())
}

/// All that was ever written is there: what stayed, and the last number of each block.
pub fn whole(lab: &mut Lab, used: &Used) -> anyhow::Result<()> {
    let mut host = initiator(&mut lab.guest);
    let hash = host.hash(&used.device, STILL)?;
    let volume = used.volume;
    ensure!(hash == used.hash, "{volume}: what stayed has changed");
    used.writer.whole(&mut host, &used.device)
}
