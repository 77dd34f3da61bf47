//! Snapshots of groups, with hosts that write all the while.

use anyhow::{Context, ensure};
use ashlar_guest_tests::lab::{Lab, MIB, done, initiator};
use ashlar_protocol::{
    GroupSnapshotSpec, GroupSource, GroupSpec, MemberCopy, MemberSnapshot, Transport,
};
use ashlar_site::Device;
use uuid::Uuid;

/// Members over both transports.
const MEMBERS: [Transport; 4] = [
    Transport::Iscsi,
    Transport::NvmeTcp,
    Transport::Iscsi,
    Transport::NvmeTcp,
];
const SNAPSHOTS: usize = 4;

/// Writes 1, 2, 3, … to the first block of one device after the other. A number is written only
/// when the one before is on its device, so at any instant the devices have consecutive numbers.
const WRITER: &str = r#"#!/bin/sh
n=0
while :; do
    for device in "$@"; do
        n=$((n + 1))
        printf '%-4096s' $n | dd of="$device" bs=4096 count=1 iflag=fullblock oflag=direct conv=notrunc 2>/dev/null
    done
done
"#;

#[tokio::test]
async fn a_group_snapshot_is_of_one_instant() -> anyhow::Result<()> {
    let mut lab = Lab::parallel("groups").await?;
    let mut members = Vec::new();
    let mut devices = Vec::new();
    for transport in MEMBERS {
        let volume = lab.volume(16).await?;
        let connection = lab.connect(volume, transport).await?;
        devices.push(lab.attach(&connection)?);
        members.push(volume);
    }
    let group = Uuid::new_v4();
    let spec = GroupSpec {
        name: "app".parse()?,
        volumes: members.clone(),
        source: None,
    };
    done(lab.client.group_create(group, &spec).await?)?;

    start_writer(&mut lab, &devices)?;
    let mut taken = Vec::new();
    for _ in 0..SNAPSHOTS {
        let last = number(&mut lab, &devices[3])?;
        taken.push(snapshot(&lab, group, &members).await?);
        // The writer goes on.
        while number(&mut lab, &devices[3])? == last {}
    }
    let live = copy_of_group(&lab, group, &members).await?;
    initiator(&mut lab.guest).check("kill $(cat /run/writer.pid)")?;

    for (id, snapshots) in taken {
        let source = GroupSource {
            group: None,
            group_snapshot: Some(id),
            volumes: copies(&snapshots),
        };
        let volumes = copied(&lab, source).await?;
        consecutive(&mut lab, &volumes).await?;
        done(lab.client.group_snapshot_delete(id).await?)?;
    }
    consecutive(&mut lab, &live).await
}

fn start_writer(lab: &mut Lab, devices: &[Device]) -> anyhow::Result<()> {
    let mut initiator = initiator(&mut lab.guest);
    let nodes: Vec<_> = devices.iter().map(Device::node).collect();
    initiator.check(&format!("cat > /run/writer <<'END'\n{WRITER}END"))?;
    initiator.check(&format!(
        "sh /run/writer {} > /run/writer.log 2>&1 & echo $! > /run/writer.pid",
        nodes.join(" ")
    ))?;
    for device in devices {
        while number(lab, device)? == 0 {}
    }
    Ok(())
}

/// The number a device has; 0 before the first.
fn number(lab: &mut Lab, device: &Device) -> anyhow::Result<u64> {
    let command = format!(
        "dd if={} bs=4096 count=1 iflag=direct 2>/dev/null | tr -d ' \\000'",
        device.node()
    );
    let text = initiator(&mut lab.guest).check(&command)?;
    match text.trim() {
        "" => Ok(0),
        text => text.parse().with_context(|| format!("{text:?}")),
    }
}

async fn snapshot(lab: &Lab, group: Uuid, members: &[Uuid]) -> anyhow::Result<(Uuid, Vec<Uuid>)> {
    let id = Uuid::new_v4();
    let new = |volume: &Uuid| MemberSnapshot {
        volume: *volume,
        snapshot: Uuid::new_v4(),
    };
    let spec = GroupSnapshotSpec {
        name: "instant".parse()?,
        group,
        snapshots: members.iter().map(new).collect(),
    };
    done(lab.client.group_snapshot_create(id, &spec).await?)?;
    Ok((id, spec.snapshots.iter().map(|one| one.snapshot).collect()))
}

fn copies(sources: &[Uuid]) -> Vec<MemberCopy> {
    let copy = |source: &Uuid| MemberCopy {
        source: *source,
        volume: Uuid::new_v4(),
    };
    sources.iter().map(copy).collect()
}

async fn copy_of_group(lab: &Lab, group: Uuid, members: &[Uuid]) -> anyhow::Result<Vec<Uuid>> {
    let source = GroupSource {
        group: Some(group),
        group_snapshot: None,
        volumes: copies(members),
    };
    copied(lab, source).await
}

async fn copied(lab: &Lab, source: GroupSource) -> anyhow::Result<Vec<Uuid>> {
    let volumes = source.volumes.iter().map(|copy| copy.volume).collect();
    let spec = GroupSpec {
        name: "copy".parse()?,
        volumes: Vec::new(),
        source: Some(source),
    };
    done(lab.client.group_create(Uuid::new_v4(), &spec).await?)?;
    Ok(volumes)
}

/// Attaches the volumes and compares what they have.
async fn consecutive(lab: &mut Lab, volumes: &[Uuid]) -> anyhow::Result<()> {
    let mut numbers = Vec::new();
    for volume in volumes {
        ensure!(lab.client.volume_show(*volume).await?.size == 16 * MIB);
        let connection = lab.connect(*volume, Transport::Iscsi).await?;
        let device = lab.attach(&connection)?;
        numbers.push(number(lab, &device)?);
        lab.detach(&connection)?;
        done(lab.client.connection_delete(connection.id).await?)?;
    }
    println!("one instant: {numbers:?}");
    numbers.sort_unstable();
    let consecutive = numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    ensure!(consecutive, "not of one instant: {numbers:?}");
    Ok(())
}
