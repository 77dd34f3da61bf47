//! A pool that is full, on the real kernel: what hosts write waits or fails, nothing that was
//! written is lost, and what needs no room goes on.

use std::time::Duration;

use anyhow::{Context, ensure};
use ashlar_guest_tests::lab::{Lab, MIB, done, initiator};
use ashlar_protocol::{
    ExtendSpec, Labels, Parent, PoolGrowth, PoolState, ProblemCode, RevertSpec, SnapshotSpec,
    SnapshotState, Transport, VolumeSpec,
};
use ashlar_site::Device;
use uuid::Uuid;

const DISK: u64 = 192;
/// What stands in the way until it is deleted.
const FILLER: u64 = 32;
/// How much more is written than there is room for at first; it fits once the filler is gone.
const MORE: u64 = 16;
/// What the volume grows by, up to all that a pool of that size can promise one volume.
const GROWTH: u64 = 8;
/// The pool lets writes wait for so long before it fails them.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_full_pool_loses_nothing() -> anyhow::Result<()> {
    let mut lab = Lab::on("full", DISK).await?;
    let filler = lab.volume(FILLER).await?;
    let connection = lab.connect(filler, Transport::Iscsi).await?;
    let device = lab.attach(&connection)?;
    write(&mut lab, &device, FILLER)?;
    lab.detach(&connection)?;
    done(lab.client.connection_delete(connection.id).await?)?;
    let before = taken(&lab, filler).await?;

    let capacity = capacity(&lab).await? / MIB;
    let amount = capacity - FILLER + MORE;
    let volume = lab.volume(capacity - GROWTH).await?;
    let connection = lab.connect(volume, Transport::NvmeTcp).await?;
    let device = lab.attach(&connection)?;
    begin(&mut lab, &device, amount)?;
    full(&lab).await?;

    // What takes no data is done; the host's writes wait meanwhile.
    let snapshot = taken(&lab, volume).await?;
    let clone = Uuid::new_v4();
    let spec = VolumeSpec {
        source: Some(Parent::Snapshot(snapshot)),
        ..VolumeSpec::blank("clone".parse()?, lab.pool, capacity * MIB)
    };
    done(lab.client.volume_create(clone, &spec).await?)?;
    let spec = ExtendSpec {
        size: capacity * MIB,
    };
    done(lab.client.volume_extend(volume, &spec).await?)?;
    let spec = RevertSpec {
        snapshot: before,
        interrupt: false,
    };
    done(lab.client.volume_revert(filler, &spec).await?)?;
    ensure!(ended(&mut lab)?.is_none(), "the writer did not wait");

    // Room again: what waited goes on, and all of it is there.
    done(lab.client.snapshot_delete(before).await?)?;
    done(lab.client.volume_delete(filler).await?)?;
    ensure!(
        finished(&mut lab)? == "0",
        "writes that had room in the end failed"
    );
    compare(&mut lab, &device, amount)?;

    // No room to come, since the snapshot keeps what is written anew: the host is told in the
    // end, and what is there stays.
    done(lab.client.volume_delete(clone).await?)?;
    begin(&mut lab, &device, amount)?;
    full(&lab).await?;
    ensure!(
        finished(&mut lab)? != "0",
        "more was written than there is room for"
    );
    compare(&mut lab, &device, amount)?;
    let shown = lab.client.snapshot_show(snapshot).await?;
    ensure!(shown.state == SnapshotState::Available, "{shown:?}");

    // Deleting gives the room back, and the pool is as good as new.
    lab.detach(&connection)?;
    done(lab.client.volume_detach_all(volume).await?)?;
    done(lab.client.volume_delete(volume).await?)?;
    done(lab.client.snapshot_delete(snapshot).await?)?;
    let fresh = lab.volume(FILLER).await?;
    let fresh_connection = lab.connect(fresh, Transport::NvmeTcp).await?;
    let device = lab.attach(&fresh_connection)?;
    write(&mut lab, &device, FILLER)?;
    compare(&mut lab, &device, FILLER)?;

    // Full once more, and given another disk: what waits is written, with nothing switched off.
    let volume = lab.volume(capacity).await?;
    let connection = lab.connect(volume, Transport::NvmeTcp).await?;
    let larger = lab.attach(&connection)?;
    let amount = capacity - FILLER + MORE;
    begin(&mut lab, &larger, amount)?;
    full(&lab).await?;
    ensure!(ended(&mut lab)?.is_none(), "the writer did not wait");
    let pool = done(lab.client.pool_grow(lab.pool, &growth()?).await?)?;
    ensure!(
        pool.state == PoolState::Online && pool.capacity > Some(capacity * MIB),
        "{pool:?}"
    );
    ensure!(
        finished(&mut lab)? == "0",
        "writes that waited for the new disk failed"
    );
    compare(&mut lab, &larger, amount)?;
    compare(&mut lab, &device, FILLER)?;

    // It is one pool on both disks after a power cut, and holds the same.
    lab.guest.power_cycle()?;
    let pool = lab.client.pool_show(lab.pool).await?;
    ensure!(pool.disks.len() == 2, "{pool:?}");
    compare(&mut lab, &larger, amount)?;

    // What was let go of goes with the pool only by force.
    for (volume, connection) in [(volume, &connection), (fresh, &fresh_connection)] {
        lab.detach(connection)?;
        done(lab.client.volume_detach_all(volume).await?)?;
    }
    done(lab.client.volume_delete(fresh).await?)?;
    done(lab.client.volume_release(volume).await?)?;
    let refused = lab.client.pool_delete(lab.pool).await.err();
    let refused = refused.context("a pool was destroyed with what it holds")?;
    let code = refused.problem().map(|problem| problem.code);
    ensure!(code == Some(ProblemCode::NotBlank), "{refused}");
    done(lab.client.pool_delete_by_force(lab.pool).await?)?;
    ensure!(lab.client.pool_show(lab.pool).await.is_err(), "it is there");
    Ok(())
}

/// By the second disk.
fn growth() -> anyhow::Result<PoolGrowth> {
    Ok(PoolGrowth {
        disks: vec!["serial-DISK1".parse()?],
        metadata_size: None,
        wipe: false,
    })
}

async fn taken(lab: &Lab, volume: Uuid) -> anyhow::Result<Uuid> {
    let id = Uuid::new_v4();
    let spec = SnapshotSpec {
        name: "full".parse()?,
        volume,
        labels: Labels::default(),
    };
    done(lab.client.snapshot_create(id, &spec).await?)?;
    Ok(id)
}

async fn capacity(lab: &Lab) -> anyhow::Result<u64> {
    let pool = lab.client.pool_show(lab.pool).await?;
    pool.capacity.context("the pool is not online")
}

/// Waits until every block is taken. Nothing tells a bystander.
async fn full(lab: &Lab) -> anyhow::Result<()> {
    let capacity = capacity(lab).await?;
    while lab.used().await? < capacity {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

fn pattern(mib: u64) -> String {
    format!("yes 'what a host wrote' | head -c {mib}M")
}

fn copy(device: &Device, mib: u64) -> String {
    let node = device.node();
    let written = pattern(mib);
    format!("{written} | dd of={node} bs=1M iflag=fullblock oflag=direct conv=notrunc")
}

fn write(lab: &mut Lab, device: &Device, mib: u64) -> anyhow::Result<()> {
    let command = format!("{} status=none", copy(device, mib));
    initiator(&mut lab.guest).check(&command).map(drop)
}

/// Writes in the background.
fn begin(lab: &mut Lab, device: &Device, mib: u64) -> anyhow::Result<()> {
    let write = copy(device, mib);
    let command = format!("rm -f /run/end; ({write}; echo $? > /run/end) > /run/writer.log 2>&1 &");
    initiator(&mut lab.guest).check(&command).map(drop)
}

/// What the writer ended with.
fn ended(lab: &mut Lab) -> anyhow::Result<Option<String>> {
    let text = initiator(&mut lab.guest).check("cat /run/end 2>/dev/null || true")?;
    let text = text.trim().to_owned();
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn finished(lab: &mut Lab) -> anyhow::Result<String> {
    let wait = "while [ ! -s /run/end ]; do sleep 0.2; done; cat /run/end";
    let text = initiator(&mut lab.guest).check_within(wait, 3 * PATIENCE)?;
    Ok(text.trim().to_owned())
}

fn compare(lab: &mut Lab, device: &Device, mib: u64) -> anyhow::Result<()> {
    let (node, written, bytes) = (device.node(), pattern(mib), mib * MIB);
    let command = format!("echo 3 > /proc/sys/vm/drop_caches; {written} | cmp -n {bytes} - {node}");
    initiator(&mut lab.guest).check(&command).map(drop)
}
