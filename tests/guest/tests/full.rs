//! A pool that is full, on the real kernel: what hosts write waits or fails, nothing that was
//! written is lost, and what needs no room goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::slice;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ashlar_ctl::Change;
use ashlar_ctl::backup::{self, Backup, Plan, Restored};
use ashlar_ctl::client::ImageFormat;
use ashlar_ctl::transfer::{
    Export, Form, Source, Target, TransferError, export, import, import_image, unwatched,
};
use ashlar_guest_tests::lab::{Lab, MIB, done, initiator};
use ashlar_protocol::{
    ExtendSpec, GroupSnapshotSpec, GroupSpec, GroupState, HealthStatus, JobState, Labels,
    MemberSnapshot, MoveSpec, ObjectKind, ObjectRef, Parent, PoolGrowth, PoolLevel, PoolSpec,
    PoolState, ProblemCode, Provisioning, RevertSpec, SnapshotSpec, SnapshotState, Transport,
    VolumeSpec,
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
/// The pool lets writes wait for so long before it fails them, unless it is told.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a host may take to fill it.
const FILLING: Duration = Duration::from_secs(300);

/// What is left of a pool for work that wants more.
const ROOM: u64 = 16;

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

    // Nothing new is taken, and what is there is changed; the host's writes wait meanwhile.
    let larger = ExtendSpec {
        size: capacity * MIB,
    };
    let refused = lab.client.volume_extend(volume, &larger).await.err();
    let refused = refused.context("a volume was extended in a full pool")?;
    let code = refused.problem().map(|problem| problem.code);
    ensure!(code == Some(ProblemCode::NoSpace), "{refused}");
    let shown = lab.client.pool_show(lab.pool).await?;
    ensure!(shown.level == PoolLevel::Stop, "{shown:?}");
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

    // With room again it takes what it has refused.
    let snapshot = taken(&lab, volume).await?;
    let clone = Uuid::new_v4();
    let spec = VolumeSpec {
        source: Some(Parent::Snapshot(snapshot)),
        ..VolumeSpec::blank("clone".parse()?, lab.pool, capacity * MIB)
    };
    done(lab.client.volume_create(clone, &spec).await?)?;
    done(lab.client.volume_extend(volume, &larger).await?)?;

    // No room to come, since the snapshot keeps what is written anew: the host is told in the
    // end, and what is there stays.
    patience(&mut lab, Duration::from_secs(10))?;
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

    patience(&mut lab, PATIENCE)?;
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

/// Each kind of long work runs out of room in its middle: that is told as such, whatever it was at stays
/// as it was or as the contract says, and the room that it took is there again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_in_a_full_pool_fails_and_leaves_it_in_order() -> anyhow::Result<()> {
    let mut lab = Lab::on("full-work", DISK).await?;
    // Each of these waits in vain.
    patience(&mut lab, Duration::from_secs(5))?;
    let files = lab.guest.site.folder().join("files");
    fs::create_dir_all(&files)?;
    let elsewhere = Uuid::new_v4();
    let other = PoolSpec::on("other".parse()?, vec!["serial-DISK1".parse()?]);
    done(lab.client.pool_create(elsewhere, &other).await?)?;
    let large = file(&files.join("large"), 3 * ROOM)?;
    // What comes from elsewhere is there before there is no room any more.
    let moving = Uuid::new_v4();
    let spec = VolumeSpec::blank("moving".parse()?, elsewhere, 4 * ROOM * MIB);
    done(lab.client.volume_create(moving, &spec).await?)?;
    import(&lab.client, moving, raw(&large)?, unwatched()).await?;
    let backup = backed_up(&lab, &files.join("backup"), moving).await?;

    let filler = lab.volume(capacity(&lab).await? / MIB).await?;
    let amount = capacity(&lab).await? / MIB - ROOM;
    let filling = file(&files.join("filling"), amount)?;
    import(&lab.client, filler, raw(&filling)?, unwatched()).await?;
    let used = lab.used().await?;
    ensure!(used == amount * MIB, "{used} bytes are used");

    importing(&lab, &large).await?;
    importing_an_image(&lab, &files, &large).await?;
    println!("a backup is restored");
    let volumes = lab.client.volume_list().await?.len();
    let restored = Restored {
        id: Uuid::new_v4(),
        name: "restored".parse()?,
        pool: lab.pool,
        provisioning: Provisioning::Thin,
    };
    let refused = backup::restore(
        &lab.client,
        &restored,
        slice::from_ref(&backup),
        unwatched(),
    )
    .await;
    let refused = refused.err().context("it was restored")?.to_string();
    ensure!(refused.contains("no-space"), "{refused}");
    let left = lab.client.volume_list().await?.len();
    ensure!(left == volumes, "{left} volumes, not {volumes}");
    emptied(&lab, used).await?;
    moved(&lab, moving, elsewhere, &large).await?;
    emptied(&lab, used).await?;
    group_snapshot(&mut lab, filler, &filling).await?;

    // All of the filler is what it was.
    compare_content(&lab, ObjectKind::Volume, filler, &filling).await?;
    let health = lab.client.health_show().await?;
    ensure!(health.status != HealthStatus::Failed, "{health:?}");
    Ok(())
}

/// A stream: what came stays, and says where to go on.
async fn importing(lab: &Lab, large: &Path) -> anyhow::Result<()> {
    println!("a stream is imported");
    let (used, job) = (lab.used().await?, Uuid::new_v4());
    let volume = lab.volume(4 * ROOM).await?;
    let client = lab.client.under(job);
    let refused = import(&client, volume, raw(large)?, unwatched()).await;
    ran_out(refused.map(drop))?;
    let shown = lab.client.job_show(job).await?;
    ensure!(shown.state == JobState::Failed, "{shown:?}");
    let reached = shown.progress.context("no progress")?.done;
    ensure!((MIB..=ROOM * MIB).contains(&reached), "{shown:?}");
    let content = content(lab, ObjectKind::Volume, volume).await?;
    let expected = fs::read(large)?;
    let reached = usize::try_from(reached)?;
    ensure!(
        content[..reached] == expected[..reached],
        "what it says it has written is something else"
    );
    done(lab.client.volume_delete(volume).await?)?;
    emptied(lab, used).await
}

/// An image: too large, it is refused; small, its disk is not, until there is no room. Nothing of it
/// stays.
async fn importing_an_image(lab: &Lab, files: &Path, large: &Path) -> anyhow::Result<()> {
    println!("an image is imported");
    let used = lab.used().await?;
    let volume = lab.volume(4 * ROOM).await?;
    let image = files.join("image");
    let command = ["convert", "-f", "raw", "-O", "qcow2", "-c"];
    let output = Command::new("qemu-img")
        .args(command)
        .args([large, &image])
        .output()?;
    ensure!(output.status.success(), "qemu-img: {output:?}");
    ensure!(
        fs::metadata(&image)?.len() < ROOM * MIB / 4,
        "it is not small"
    );
    for (path, format) in [(large, ImageFormat::Auto), (&image, ImageFormat::Qcow2)] {
        let image = (raw(path)?, format);
        let refused = import_image(&lab.client, volume, image, unwatched()).await;
        ran_out(refused.map(drop))?;
        let zeros = content(lab, ObjectKind::Volume, volume)
            .await?
            .iter()
            .all(|byte| *byte == 0);
        ensure!(zeros, "something of {} is left", path.display());
        emptied(lab, used).await?;
    }
    done(lab.client.volume_delete(volume).await?)
}

/// A volume that does not fit stays where it is, with all that it holds.
async fn moved(lab: &Lab, moving: Uuid, elsewhere: Uuid, large: &Path) -> anyhow::Result<()> {
    println!("a volume is moved");
    let spec = MoveSpec {
        pool: lab.pool,
        bandwidth: None,
    };
    let client = lab.client.waiting(Duration::ZERO).under(Uuid::new_v4());
    let job = match client.volume_move(moving, &spec).await {
        Ok(Change::Accepted(job)) => lab.client.job_wait(job, |_| ()).await.err(),
        Ok(Change::Done { .. }) => None,
        Err(error) => Some(error),
    };
    let refused = job.context("it is where there is no room")?;
    let code = refused.problem().map(|problem| problem.code);
    ensure!(code == Some(ProblemCode::NoSpace), "{refused}");
    let volume = lab.client.volume_show(moving).await?;
    ensure!(volume.pool == elsewhere, "{volume:?}");
    compare_content(lab, ObjectKind::Volume, moving, large).await
}

/// It takes no room, so it is taken, and stays what it is whatever becomes of what a host writes to a
/// member. Then there is room for nothing, nor for another.
async fn group_snapshot(lab: &mut Lab, filler: Uuid, filling: &Path) -> anyhow::Result<()> {
    println!("a group snapshot is taken");
    let written = lab.volume(4 * ROOM).await?;
    let connection = lab.connect(written, Transport::NvmeTcp).await?;
    let device = lab.attach(&connection)?;
    let group = Uuid::new_v4();
    let spec = GroupSpec {
        name: "both".parse()?,
        volumes: vec![filler, written],
        source: None,
    };
    done(lab.client.group_create(group, &spec).await?)?;
    let whole = Uuid::new_v4();
    let snapshots: Vec<_> = [filler, written]
        .map(|volume| MemberSnapshot {
            volume,
            snapshot: Uuid::new_v4(),
        })
        .into();
    let spec = GroupSnapshotSpec {
        name: "full".parse()?,
        group,
        snapshots: snapshots.clone(),
    };
    let taken = done(lab.client.group_snapshot_create(whole, &spec).await?)?;
    ensure!(taken.state == GroupState::Available, "{taken:?}");
    begin(lab, &device, 3 * ROOM)?;
    full(lab).await?;
    let spec = again(&spec);
    let refused = lab.client.group_snapshot_create(Uuid::new_v4(), &spec);
    let refused = refused.await.err().context("another was taken")?;
    let code = refused.problem().map(|problem| problem.code);
    ensure!(code == Some(ProblemCode::NoSpace), "{refused}");
    ensure!(
        finished(lab)? != "0",
        "more was written than there is room for"
    );
    lab.detach(&connection)?;
    done(lab.client.volume_detach_all(written).await?)?;
    // Nothing can be written to a member any more without room of its own.
    let other = filling.with_extension("other");
    let bytes = fs::read(filling)?.into_iter().map(|byte| !byte);
    fs::write(&other, bytes.collect::<Vec<u8>>())?;
    let refused = import(&lab.client, filler, raw(&other)?, unwatched()).await;
    ran_out(refused.map(drop))?;
    compare_content(lab, ObjectKind::Snapshot, snapshots[0].snapshot, filling).await?;
    done(lab.client.group_snapshot_delete(whole).await?)?;
    done(lab.client.group_delete(group).await?)?;
    done(lab.client.volume_delete(written).await?)
}

/// The same with other ids.
fn again(spec: &GroupSnapshotSpec) -> GroupSnapshotSpec {
    let mut spec = spec.clone();
    for one in &mut spec.snapshots {
        one.snapshot = Uuid::new_v4();
    }
    spec
}

fn ran_out(outcome: Result<(), TransferError>) -> anyhow::Result<()> {
    match outcome {
        Err(TransferError::Call(error)) => {
            let code = error.problem().map(|problem| problem.code);
            ensure!(code == Some(ProblemCode::NoSpace), "{error}");
            Ok(())
        }
        other => bail!("it ended as {other:?}"),
    }
}

/// Waits until no more of the pool is used than that: what was given up is gone a moment later, and
/// nothing tells when.
async fn emptied(lab: &Lab, used: u64) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let now = lab.used().await?;
        if now <= used {
            return Ok(());
        }
        ensure!(
            begin.elapsed() < PATIENCE,
            "{now} bytes are used, not {used}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn raw(path: &Path) -> Result<Source, TransferError> {
    Source::open(path, Form::Raw)
}

async fn content(lab: &Lab, kind: ObjectKind, id: Uuid) -> anyhow::Result<Vec<u8>> {
    let path = lab.guest.site.folder().join("content");
    let what = Export {
        object: ObjectRef { kind, id },
        since: None,
    };
    let target = Target::create(&path, Form::Raw)?;
    export(&lab.client, what, target, unwatched()).await?;
    let content = fs::read(&path)?;
    fs::remove_file(path)?;
    Ok(content)
}

/// A volume or snapshot begins with what is in a file, and has nothing behind it.
async fn compare_content(lab: &Lab, kind: ObjectKind, id: Uuid, file: &Path) -> anyhow::Result<()> {
    let (found, expected) = (content(lab, kind, id).await?, fs::read(file)?);
    let (data, rest) = found.split_at(expected.len());
    ensure!(data == expected, "{kind:?} {id} holds something else");
    ensure!(
        rest.iter().all(|byte| *byte == 0),
        "{kind:?} {id} has a rest"
    );
    Ok(())
}

async fn backed_up(lab: &Lab, file: &Path, volume: Uuid) -> anyhow::Result<Backup> {
    let plan = Plan {
        volume,
        file,
        since: None,
        snapshot: None,
    };
    let made = backup::backup(&lab.client, &plan, unwatched()).await?;
    // A volume with snapshots is not moved.
    backup::forget(&lab.client, &made).await?;
    Ok(made)
}

/// Data that compress well, in blocks each unlike the one before.
fn file(path: &Path, mib: u64) -> anyhow::Result<PathBuf> {
    let block = |n: u64| [(n % 251) as u8 + 1; 4096];
    let bytes: Vec<u8> = (0..mib * MIB / 4096).flat_map(block).collect();
    fs::write(path, bytes)?;
    Ok(path.to_owned())
}

/// By the second disk.
fn growth() -> anyhow::Result<PoolGrowth> {
    Ok(PoolGrowth {
        disks: vec!["serial-DISK1".parse()?],
        metadata_size: None,
        wipe: false,
    })
}

/// How long pools let writes wait from now on.
fn patience(lab: &mut Lab, time: Duration) -> anyhow::Result<()> {
    let set = format!(
        "echo {} > /sys/module/dm_thin_pool/parameters/no_space_timeout",
        time.as_secs()
    );
    lab.guest.site.appliance.check(&set).map(drop)
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
    let begin = Instant::now();
    while lab.used().await? < capacity {
        ensure!(begin.elapsed() < FILLING, "the pool does not get full");
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
