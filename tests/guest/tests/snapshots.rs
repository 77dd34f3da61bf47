//! What hosts read of snapshots, clones and reverted volumes, with the kernel's own initiators.

use std::time::Duration;

use anyhow::{Context, ensure};
use ashlar_guest_tests::lab::{Lab, MIB, done, initiator};
use ashlar_protocol::{
    AdoptSpec, Connection, ExtendSpec, Labels, Parent, PoolSpec, ProblemCode, Provisioning,
    RevertSpec, SnapshotSpec, ThinDevice, Transport, VolumeSpec,
};
use ashlar_site::Device;
use uuid::Uuid;

const TRANSPORTS: [Transport; 2] = [Transport::Iscsi, Transport::NvmeTcp];
/// What volumes have, and what is written to them.
const SIZE: u32 = 8;

/// One lab for all: a boot costs more than any of these.
#[tokio::test]
async fn every_block_is_whose_it_should_be() -> anyhow::Result<()> {
    let mut lab = Lab::new("snapshots").await?;
    for transport in TRANSPORTS {
        there_and_back(&mut lab, transport).await?;
    }
    usage_is_what_was_written(&mut lab).await?;
    nobody_reads_what_another_wrote(&mut lab).await
}

/// Pattern A, snapshot, pattern B; then every way to each of them.
async fn there_and_back(lab: &mut Lab, transport: Transport) -> anyhow::Result<()> {
    println!("snapshots and clones by {transport}");
    let volume = lab.volume(SIZE.into()).await?;
    let (connection, device) = attached(lab, volume, transport).await?;
    let first = initiator(&mut lab.guest).write_random(&device, SIZE)?;
    let snapshot = taken(lab, volume).await?;
    let second = initiator(&mut lab.guest).write_random(&device, SIZE)?;
    ensure!(first != second, "random data is not");

    let clone = cloned(lab, Parent::Snapshot(snapshot), None).await?;
    reads(lab, clone, transport, &first, SIZE).await?;
    // Of the clone as of any other: what it had then, whatever becomes of it.
    let of_clone = taken(lab, clone).await?;
    let grandchild = cloned(lab, Parent::Snapshot(of_clone), None).await?;
    done(lab.client.snapshot_delete(of_clone).await?)?;
    reads(lab, grandchild, transport, &first, SIZE).await?;
    done(lab.client.volume_delete(grandchild).await?)?;
    let copy = cloned(lab, Parent::Volume(volume), Some(2 * SIZE)).await?;
    reads(lab, copy, transport, &second, 2 * SIZE).await?;
    let hash = initiator(&mut lab.guest).hash(&device, SIZE)?;
    ensure!(hash == second, "the volume lost what was written last");

    // Attached, beneath the host; its session goes on.
    revert(lab, volume, snapshot, true).await?;
    let hash = initiator(&mut lab.guest).hash(&device, SIZE)?;
    ensure!(hash == first, "reverted while attached");
    let third = initiator(&mut lab.guest).write_random(&device, SIZE)?;
    detached(lab, &connection).await?;

    // Detached, and of a size that it did not have then.
    let spec = ExtendSpec {
        size: u64::from(2 * SIZE) * MIB,
    };
    done(lab.client.volume_extend(volume, &spec).await?)?;
    let (connection, device) = attached(lab, volume, transport).await?;
    initiator(&mut lab.guest).write_random(&device, 2 * SIZE)?;
    detached(lab, &connection).await?;
    revert(lab, volume, snapshot, false).await?;
    reads(lab, volume, transport, &first, 2 * SIZE).await?;

    // The snapshot and what was made of both never noticed.
    ensure!(third != first, "random data is not");
    let again = cloned(lab, Parent::Snapshot(snapshot), None).await?;
    reads(lab, again, transport, &first, SIZE).await?;
    done(lab.client.volume_delete(volume).await?)?;
    reads(lab, copy, transport, &second, 2 * SIZE).await?;
    done(lab.client.snapshot_delete(snapshot).await?)?;
    reads(lab, clone, transport, &first, SIZE).await?;
    let adopted = released_and_adopted(lab, clone).await?;
    reads(lab, adopted, transport, &first, SIZE).await?;
    for volume in [adopted, copy, again] {
        done(lab.client.volume_delete(volume).await?)?;
    }
    Ok(())
}

/// What is used and what of it is shared, to the block, as hosts write.
async fn usage_is_what_was_written(lab: &mut Lab) -> anyhow::Result<()> {
    println!("usage is what was written");
    let volume = lab.volume((2 * SIZE).into()).await?;
    let (connection, device) = attached(lab, volume, Transport::Iscsi).await?;
    initiator(&mut lab.guest).write_random(&device, SIZE)?;
    let written = u64::from(SIZE) * MIB;
    is_used(lab, volume, None, (written, 0)).await?;
    let snapshot = taken(lab, volume).await?;
    is_used(lab, volume, None, (written, written)).await?;
    is_used(lab, volume, Some(snapshot), (written, written)).await?;

    // 3 MiB anew, and one where nothing was.
    let node = device.node().to_owned();
    for (at, mib) in [(2, 3), (12, 1)] {
        initiator(&mut lab.guest).check(&format!(
            "head -c {mib}M /dev/urandom | dd of={node} bs=1M seek={at} iflag=fullblock \
             oflag=direct conv=fsync status=none"
        ))?;
    }
    is_used(lab, volume, None, (written + MIB, written - 3 * MIB)).await?;
    is_used(lab, volume, Some(snapshot), (written, written - 3 * MIB)).await?;
    // A clone has the snapshot's blocks, too, and what the volume wrote anew is its own still.
    let clone = cloned(lab, Parent::Snapshot(snapshot), None).await?;
    is_used(lab, clone, None, (written, written)).await?;
    is_used(lab, volume, Some(snapshot), (written, written)).await?;
    done(lab.client.volume_delete(clone).await?)?;
    // Of what it discards it has nothing any more, and the snapshot all.
    initiator(&mut lab.guest).discard(&device)?;
    is_used(lab, volume, None, (0, 0)).await?;
    is_used(lab, volume, Some(snapshot), (written, 0)).await?;
    detached(lab, &connection).await?;
    done(lab.client.snapshot_delete(snapshot).await?)?;
    done(lab.client.volume_delete(volume).await?)
}

/// Of a volume, or of a snapshot of it, so many bytes are used and so many of them shared.
async fn is_used(
    lab: &Lab,
    volume: Uuid,
    snapshot: Option<Uuid>,
    (used, shared): (u64, u64),
) -> anyhow::Result<()> {
    let usage = match snapshot {
        None => lab.client.volume_usage(volume).await?,
        Some(snapshot) => lab.client.snapshot_usage(snapshot).await?,
    };
    ensure!(
        (usage.used, usage.shared) == (used, Some(shared)),
        "{usage:?}, not {used} used and {shared} shared"
    );
    Ok(())
}

/// A volume that is full is let go of, and adopted by what its thin device tells of it.
async fn released_and_adopted(lab: &Lab, volume: Uuid) -> anyhow::Result<Uuid> {
    let devices = lab.client.thin_devices(lab.pool).await?;
    let own = |device: &&ThinDevice| device.volume == Some(volume);
    let device = devices.iter().find(own).context("it has a thin device")?;
    ensure!(!device.adoptable, "it is a volume's");
    done(lab.client.volume_release(volume).await?)?;
    let id = Uuid::new_v4();
    let spec = AdoptSpec {
        name: "adopted".parse()?,
        pool: lab.pool,
        thin_id: u64::from(device.thin_id).try_into()?,
        size: None,
        labels: Labels::default(),
        qos: None,
        provisioning: Provisioning::Thin,
    };
    let adopted = done(lab.client.volume_adopt(id, &spec).await?)?;
    ensure!(adopted.size == u64::from(SIZE) * MIB, "{adopted:?}");
    Ok(id)
}

/// Every block of fresh, extended, larger and reverted volumes, in a pool whose every block
/// holds what somebody wrote before.
async fn nobody_reads_what_another_wrote(lab: &mut Lab) -> anyhow::Result<()> {
    println!("nobody reads what another wrote");
    let transport = Transport::NvmeTcp;
    lab.pool = written_pool(lab).await?;
    let volume = lab.volume(SIZE.into()).await?;
    let empty = taken(lab, volume).await?;
    let (connection, device) = attached(lab, volume, transport).await?;
    touched_reads_zeros(lab, &device, SIZE)?;
    let spec = ExtendSpec {
        size: u64::from(2 * SIZE) * MIB,
    };
    done(lab.client.volume_extend(volume, &spec).await?)?;
    let size = u64::from(2 * SIZE) * MIB;
    initiator(&mut lab.guest).await_size(&device, size)?;
    touched_reads_zeros(lab, &device, 2 * SIZE)?;
    initiator(&mut lab.guest).write_random(&device, 2 * SIZE)?;
    revert(lab, volume, empty, true).await?;
    touched_reads_zeros(lab, &device, 2 * SIZE)?;
    detached(lab, &connection).await?;

    let clone = cloned(lab, Parent::Snapshot(empty), Some(2 * SIZE)).await?;
    let (connection, device) = attached(lab, clone, transport).await?;
    touched_reads_zeros(lab, &device, 2 * SIZE)?;
    detached(lab, &connection).await?;
    for volume in [clone, volume] {
        done(lab.client.volume_delete(volume).await?)?;
    }
    done(lab.client.snapshot_delete(empty).await?)
}

/// A pool on a disk that is full of something, for as far as a few volumes reach.
async fn written_pool(lab: &mut Lab) -> anyhow::Result<Uuid> {
    what_holds_something_is_not_taken(lab).await?;
    lab.guest.site.appliance.check_within(
        "yes secret | head -c 448M | dd of=/dev/disk/by-id/virtio-DISK1 bs=1M iflag=fullblock \
         oflag=direct status=none",
        Duration::from_secs(300),
    )?;
    let id = Uuid::new_v4();
    let spec = PoolSpec {
        wipe: true,
        ..PoolSpec::on("written".parse()?, vec!["serial-DISK1".parse()?])
    };
    done(lab.client.pool_create(id, &spec).await?)?;
    Ok(id)
}

/// A disk with a file system is refused, by what it holds, and stays as it is.
async fn what_holds_something_is_not_taken(lab: &mut Lab) -> anyhow::Result<()> {
    let disk = "/dev/disk/by-id/virtio-DISK1";
    let head = format!("dd if={disk} bs=1M count=4 iflag=direct status=none | sha256sum");
    let appliance = &mut lab.guest.site.appliance;
    appliance.check(&format!("mkfs.vfat -I {disk} && sync {disk}"))?;
    let before = appliance.check(&head)?;
    let spec = PoolSpec::on("written".parse()?, vec!["serial-DISK1".parse()?]);
    let refused = lab.client.pool_create(Uuid::new_v4(), &spec).await.err();
    let refused = refused.context("a pool was made on a file system")?;
    let problem = refused.problem().context("no problem")?;
    ensure!(problem.code == ProblemCode::NotBlank, "{problem}");
    ensure!(problem.detail.contains("FAT file system"), "{problem}");
    let after = lab.guest.site.appliance.check(&head)?;
    ensure!(after == before, "the file system was written to");
    Ok(())
}

/// Writes a little zero into every block, so that each is provisioned and read from the disk.
fn touched_reads_zeros(lab: &mut Lab, device: &Device, mib: u32) -> anyhow::Result<()> {
    let node = device.node();
    let (last, bytes) = (mib * 16 - 1, u64::from(mib) * MIB);
    let command = format!(
        "for i in $(seq 0 {last}); do dd if=/dev/zero of={node} bs=4k count=1 seek=$((i * 16)) \
         oflag=direct conv=notrunc status=none; done; echo 3 > /proc/sys/vm/drop_caches; \
         cmp -n {bytes} {node} /dev/zero"
    );
    initiator(&mut lab.guest).check(&command).map(drop)
}

/// The volume has that data at its beginning, and zeros from there to its end.
async fn reads(
    lab: &mut Lab,
    volume: Uuid,
    transport: Transport,
    data: &str,
    mib: u32,
) -> anyhow::Result<()> {
    let (connection, device) = attached(lab, volume, transport).await?;
    let mut initiator = initiator(&mut lab.guest);
    ensure!(initiator.size(&device)? == u64::from(mib) * MIB, "its size");
    let hash = initiator.hash(&device, SIZE)?;
    ensure!(hash == data, "volume {volume} has other data");
    let (node, rest) = (device.node(), mib - SIZE);
    initiator.check(&format!(
        "dd if={node} bs=1M skip={SIZE} count={rest} iflag=direct status=none | \
         cmp -n $(({rest} << 20)) - /dev/zero"
    ))?;
    detached(lab, &connection).await
}

async fn attached(
    lab: &mut Lab,
    volume: Uuid,
    transport: Transport,
) -> anyhow::Result<(Connection, Device)> {
    let connection = lab.connect(volume, transport).await?;
    let device = lab.attach(&connection)?;
    Ok((connection, device))
}

async fn detached(lab: &mut Lab, connection: &Connection) -> anyhow::Result<()> {
    lab.detach(connection)?;
    let volume = connection.volume.context("of no volume")?;
    done(lab.client.volume_detach_all(volume).await?)
}

async fn taken(lab: &Lab, volume: Uuid) -> anyhow::Result<Uuid> {
    let id = Uuid::new_v4();
    let spec = SnapshotSpec {
        name: "snapshot".parse()?,
        volume,
        labels: Default::default(),
    };
    done(lab.client.snapshot_create(id, &spec).await?)?;
    Ok(id)
}

async fn cloned(lab: &Lab, parent: Parent, mib: Option<u32>) -> anyhow::Result<Uuid> {
    let id = Uuid::new_v4();
    let spec = VolumeSpec {
        size: mib.map(|mib| u64::from(mib) * MIB),
        source: Some(parent),
        ..VolumeSpec::blank("clone".parse()?, lab.pool, 0)
    };
    done(lab.client.volume_create(id, &spec).await?)?;
    Ok(id)
}

async fn revert(lab: &Lab, volume: Uuid, snapshot: Uuid, interrupt: bool) -> anyhow::Result<()> {
    let spec = RevertSpec {
        snapshot,
        interrupt,
    };
    done(lab.client.volume_revert(volume, &spec).await?).map(drop)
}
