//! What goes into volumes as files and comes out again, seen by the kernel's own initiators.

use std::fs::{self, File};
use std::future::Future;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ashlar_ctl::Client;
use ashlar_ctl::backup::{self, Backup, Plan, Restored};
use ashlar_ctl::client::ImageFormat;
use ashlar_ctl::transfer::{
    Export, Form, Source, Target, TransferError, export, export_image, import, import_image,
    unwatched,
};
use ashlar_guest_tests::Guest;
use ashlar_guest_tests::lab::{Lab, MIB, done, initiator};
use ashlar_protocol::{
    Extent, ExtentKind, Job, JobState, ObjectKind, ObjectRef, ProblemCode, Provisioning,
    SnapshotSpec, Transport,
};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// What volumes have, in MiB.
const SIZE: u64 = 64;

/// Most that a stream may add to what the agent takes, in KiB.
const MOST: u64 = 32 << 10;

/// One lab for all: a boot costs more than any of these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_in_comes_out_and_nothing_else() -> anyhow::Result<()> {
    let mut lab = Lab::new("streams").await?;
    let files = lab.guest.site.folder().join("files");
    fs::create_dir_all(&files)?;
    let volume = there_and_back(&mut lab, &files).await?;
    changes_are_told_exactly(&mut lab, volume).await?;
    backups(&mut lab, &files, volume).await?;
    images(&mut lab, &files).await?;
    cancelled(&mut lab, &files).await?;
    cancelled_behind(&mut lab, &files).await?;
    agent_killed(&mut lab, &files).await
}

/// A sparse file in, by hash as a host sees it, and out of a snapshot again.
async fn there_and_back(lab: &mut Lab, files: &Path) -> anyhow::Result<Uuid> {
    println!("a sparse file goes in and comes out");
    let image = image(&files.join("image"), &[1, 2, 3, 4, 20, 21, 40, 63])?;
    let volume = lab.volume(SIZE).await?;
    let before = lab.used().await?;
    let client = lab.client.clone();
    let source = Source::open(&image, Form::Raw)?;
    let result = modest(&mut lab.guest, "import", async {
        Ok(import(&client, volume, source, unwatched()).await?)
    })
    .await?;
    ensure!(result.written == Some(8 * MIB), "it wrote {result:?}");
    let took = lab.used().await? - before;
    ensure!(
        took <= 9 * MIB,
        "8 MiB of data take {took} bytes of the pool"
    );
    reads(lab, volume, Transport::Iscsi, &hash(&image)?).await?;

    let snapshot = taken(lab, volume).await?;
    let back = files.join("back");
    let what = of(snapshot, None);
    let target = Target::create(&back, Form::Raw)?;
    let exported = modest(&mut lab.guest, "export", async {
        Ok(export(&client, what, target, unwatched()).await?)
    })
    .await?;
    let moved = exported.moved;
    ensure!(moved <= 8 * MIB * 21 / 20, "8 MiB were moved as {moved}");
    ensure!(hash(&back)? == hash(&image)?, "another file came out");
    done(lab.client.snapshot_delete(snapshot).await?)?;
    Ok(volume)
}

/// What a host has written and discarded since a snapshot, to the block of the pool, while it is
/// attached; and between two snapshots, whatever comes later.
async fn changes_are_told_exactly(lab: &mut Lab, volume: Uuid) -> anyhow::Result<()> {
    println!("changes are told exactly");
    let block = lab.client.pool_show(lab.pool).await?.block_size;
    let connection = lab.connect(volume, Transport::Iscsi).await?;
    let device = lab.attach(&connection)?;
    let node = device.node().to_owned();
    let before = taken(lab, volume).await?;
    ensure!(
        lab.client
            .volume_extents(volume, Some(before))
            .await?
            .is_empty(),
        "nothing has changed"
    );
    // There is data in the first 4 MiB, in 20 and in 40. Written: a little where there was
    // something, a little where there was nothing, and all around the border of two MiB. Discarded:
    // where there was data, and where there was none.
    initiator(&mut lab.guest).check(&format!(
        "set -e; write() {{ head -c $2 /dev/urandom | dd of={node} bs=4k seek=$(($1 / 4096)) \
         iflag=fullblock oflag=direct conv=notrunc,fsync status=none; }}; \
         write {} 4096; write {} 4096; write {} {}; \
         blkdiscard -o {} -l {MIB} {node}; blkdiscard -o {} -l {MIB} {node}; sync",
        MIB + 8192,
        10 * MIB + block - 4096,
        3 * MIB - block,
        2 * block,
        20 * MIB,
        30 * MIB,
    ))?;
    let extent = |offset, length, kind| Extent {
        offset,
        length,
        kind,
    };
    let expected = [
        extent(MIB, block, ExtentKind::Data),
        extent(3 * MIB - block, 2 * block, ExtentKind::Data),
        extent(10 * MIB, block, ExtentKind::Data),
        extent(20 * MIB, MIB, ExtentKind::Hole),
    ];
    let changed = lab.client.volume_extents(volume, Some(before)).await?;
    ensure!(changed == expected, "{changed:?}, not {expected:?}");
    let after = taken(lab, volume).await?;
    initiator(&mut lab.guest).check(&format!(
        "dd if=/dev/urandom of={node} bs=1M seek=50 count=1 oflag=direct conv=fsync status=none"
    ))?;
    let changed = lab.client.snapshot_extents(after, Some(before)).await?;
    ensure!(changed == expected, "{changed:?}, not {expected:?}");
    let changed = lab.client.volume_extents(volume, Some(after)).await?;
    let latest = [extent(50 * MIB, MIB, ExtentKind::Data)];
    ensure!(changed == latest, "{changed:?}, not {latest:?}");
    lab.detach(&connection)?;
    done(lab.client.volume_detach_all(volume).await?)?;
    for snapshot in [before, after] {
        done(lab.client.snapshot_delete(snapshot).await?)?;
    }
    Ok(())
}

/// A full backup and increments of an attached volume, and a volume made of them.
async fn backups(lab: &mut Lab, files: &Path, volume: Uuid) -> anyhow::Result<()> {
    println!("backups tell what has changed");
    let folder = files.join("backups");
    fs::create_dir_all(&folder)?;
    let connection = lab.connect(volume, Transport::Iscsi).await?;
    let device = lab.attach(&connection)?;
    let node = device.node().to_owned();
    let first = backed_up(lab, &folder.join("1"), volume, None).await?;
    ensure!(first.manifest.length <= 8 * MIB * 21 / 20, "{first:?}");

    // Blocks of a MiB written, one of them anew; then a MiB discarded, too.
    let write = |at: u64, mib: u64| {
        format!(
            "head -c {mib}M /dev/urandom | dd of={node} bs=1M seek={at} iflag=fullblock \
             oflag=direct conv=fsync status=none"
        )
    };
    let rounds = [
        (format!("{}; {}", write(10, 2), write(63, 1)), 3),
        (
            format!(
                "{}; blkdiscard -o {} -l {MIB} {node}",
                write(50, 1),
                20 * MIB
            ),
            1,
        ),
    ];
    let mut last = first;
    for (n, (changes, mib)) in rounds.into_iter().enumerate() {
        initiator(&mut lab.guest).check(&changes)?;
        let file = folder.join((n + 2).to_string());
        let next = backed_up(lab, &file, volume, Some(&last)).await?;
        let changed = lab
            .client
            .snapshot_extents(next.manifest.snapshot, Some(last.manifest.snapshot));
        let changed: Vec<_> = changed.await?;
        println!("{changed:?}");
        let moved = moved(lab, &files.join("increment"), &next, &last).await?;
        ensure!(
            moved <= mib * MIB * 21 / 20,
            "{mib} MiB were moved as {moved}"
        );
        ensure!(moved >= mib * MIB, "{mib} MiB cannot be {moved} bytes");
        backup::forget(&lab.client, &last).await?;
        last = next;
    }
    let expected = seen(lab, &node)?;
    lab.detach(&connection)?;
    done(lab.client.volume_detach_all(volume).await?)?;

    let chain = backup::chain(std::slice::from_ref(&folder), None)?;
    ensure!(chain.len() == 3, "{chain:?}");
    let restored = Restored {
        id: Uuid::new_v4(),
        name: "restored".parse()?,
        pool: lab.pool,
        provisioning: Provisioning::Thin,
    };
    let client = lab.client.clone();
    modest(&mut lab.guest, "restore", async {
        Ok(backup::restore(&client, &restored, &chain, unwatched()).await?)
    })
    .await?;
    reads(lab, restored.id, Transport::NvmeTcp, &expected).await?;
    let gap = backup::chain(&[chain[0].file.clone(), chain[2].file.clone()], None);
    ensure!(gap.is_err(), "a chain with a gap");
    backup::forget(&lab.client, &last).await?;
    for volume in [volume, restored.id] {
        done(lab.client.volume_delete(volume).await?)?;
    }
    Ok(())
}

/// The reader of images is a process of its own, which is not in what the agent takes.
async fn images(lab: &mut Lab, files: &Path) -> anyhow::Result<()> {
    println!("images are imported and exported");
    let raw = image(&files.join("image"), &[0, 5, 6, 7, 30, 62])?;
    let (packed, back) = (files.join("packed"), files.join("back.vhdx"));
    qemu_img(
        &["convert", "-f", "raw", "-O", "qcow2", "-c"],
        [&raw, &packed],
    )?;
    let volume = lab.volume(SIZE).await?;
    let client = lab.client.clone();
    let source = (Source::open(&packed, Form::Raw)?, ImageFormat::Qcow2);
    modest(&mut lab.guest, "import of an image", async {
        Ok(import_image(&client, volume, source, unwatched()).await?)
    })
    .await?;
    reads(lab, volume, Transport::NvmeTcp, &hash(&raw)?).await?;
    let what = Export {
        object: ObjectRef {
            kind: ObjectKind::Volume,
            id: volume,
        },
        since: None,
    };
    let target = (Target::create(&back, Form::Raw)?, ImageFormat::Vhdx);
    modest(&mut lab.guest, "export of an image", async {
        Ok(export_image(&client, what, target, unwatched()).await?)
    })
    .await?;
    qemu_img(&["compare", "-f", "vhdx", "-F", "raw"], [&back, &raw])?;
    done(lab.client.volume_delete(volume).await?)
}

fn qemu_img(arguments: &[&str], files: [&Path; 2]) -> anyhow::Result<()> {
    let output = Command::new("qemu-img")
        .args(arguments)
        .args(files)
        .output();
    let output = output.context("failed to start qemu-img")?;
    ensure!(
        output.status.success(),
        "qemu-img {arguments:?}: {output:?}"
    );
    Ok(())
}

/// Cancelled when all of an image is written and what was in the volume behind it is being cleared,
/// it leaves neither.
async fn cancelled_behind(lab: &mut Lab, files: &Path) -> anyhow::Result<()> {
    println!("cancelled behind the end of an image");
    let before = image(&files.join("image"), &(0..SIZE).collect::<Vec<_>>())?;
    let volume = lab.volume(SIZE).await?;
    let source = Source::open(&before, Form::Raw)?;
    import(&lab.client, volume, source, unwatched()).await?;
    let small = files.join("small");
    fs::write(&small, vec![7; 2 << 20])?;
    // Both it and its disk are of 2 MiB; behind them there are 62, at 2 MiB a second.
    let job = Uuid::new_v4();
    let client = lab.client.limited(Some(2 * MIB)).under(job);
    let source = Source::open(&small, Form::Raw)?;
    let importing = tokio::spawn(async move {
        let image = (source, ImageFormat::Auto);
        import_image(&client, volume, image, unwatched()).await
    });
    far(lab, job, 5 * MIB, &importing).await?;
    lab.client.job_cancel(job).await?;
    match importing.await? {
        Err(TransferError::Call(error)) => {
            let code = error.problem().map(|problem| problem.code);
            ensure!(code == Some(ProblemCode::Cancelled), "it ended as {error}");
        }
        other => bail!("it ended as {other:?}"),
    }
    let zeros = files.join("zeros");
    File::create(&zeros)?.set_len(SIZE * MIB)?;
    reads(lab, volume, Transport::Iscsi, &hash(&zeros)?).await?;
    let usage = lab.client.volume_usage(volume).await?;
    ensure!(usage.used == 0, "it takes room: {usage:?}");
    done(lab.client.volume_delete(volume).await?)
}

/// Cancelled in the middle, nothing is at work on the volume any more.
async fn cancelled(lab: &mut Lab, files: &Path) -> anyhow::Result<()> {
    println!("cancelled in the middle");
    let image = image(&files.join("image"), &(0..48).collect::<Vec<_>>())?;
    let volume = lab.volume(SIZE).await?;
    let job = Uuid::new_v4();
    let importing = tokio::spawn(imported(lab.client.under(job), volume, image));
    far(lab, job, 4 * MIB, &importing).await?;
    lab.client.job_cancel(job).await?;
    match importing.await? {
        Err(TransferError::Call(error)) => {
            let code = error.problem().map(|problem| problem.code);
            ensure!(code == Some(ProblemCode::Cancelled), "it ended as {error}");
        }
        other => bail!("it ended as {other:?}"),
    }
    let job = lab.client.job_show(job).await?;
    ensure!(job.state == JobState::Cancelled, "{job:?}");
    let view = lab.guest.view()?;
    let left = view.iter().find(|line| line.contains(&volume.to_string()));
    ensure!(left.is_none(), "of the volume there is {left:?}");
    done(lab.client.volume_delete(volume).await?)
}

/// The job ends with its agent; the transfer goes on with the next one.
async fn agent_killed(lab: &mut Lab, files: &Path) -> anyhow::Result<()> {
    println!("the agent is killed in the middle");
    let image = image(&files.join("image"), &(0..32).collect::<Vec<_>>())?;
    let volume = lab.volume(SIZE).await?;
    let job = Uuid::new_v4();
    let importing = tokio::spawn(imported(lab.client.under(job), volume, image.clone()));
    far(lab, job, 4 * MIB, &importing).await?;
    tokio::task::block_in_place(|| lab.guest.kill("ashlar-agent.service"))?;
    importing.await?.context("it was not taken up")?;
    let Job { state, problem, .. } = lab.client.job_show(job).await?;
    let code = problem.map(|problem| problem.code);
    ensure!(
        (state, code) == (JobState::Failed, Some(ProblemCode::Interrupted)),
        "it ended as {state:?}, {code:?}"
    );
    reads(lab, volume, Transport::NvmeTcp, &hash(&image)?).await?;
    done(lab.client.volume_delete(volume).await?)
}

/// Gives an image to a volume so slowly that what is done to its job is done in the middle.
fn imported(
    client: Client,
    volume: Uuid,
    image: PathBuf,
) -> impl Future<Output = Result<(), TransferError>> + Send + use<> {
    let client = client.limited(Some(8 * MIB));
    async move {
        let source = Source::open(&image, Form::Raw)?;
        import(&client, volume, source, unwatched()).await?;
        Ok(())
    }
}

/// Waits until the appliance has moved so many bytes. What a client has given away may still be
/// in buffers on the way, before there is a job at all.
async fn far<T>(lab: &Lab, job: Uuid, bytes: u64, moving: &JoinHandle<T>) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        ensure!(!moving.is_finished(), "it ended by itself");
        let shown = lab.client.job_show(job).await;
        let progress = shown.ok().and_then(|job| job.progress);
        if progress.is_some_and(|progress| progress.done >= bytes) {
            return Ok(());
        }
    }
}

/// Does something that moves data, and looks at what the agent took for it.
async fn modest<T>(
    guest: &mut Guest,
    what: &str,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let field = |guest: &mut Guest, name: &str, before: &str| {
        let text = guest.site.appliance.check(&format!(
            "status=/proc/$(systemctl show -P MainPID ashlar-agent.service); {before} \
             awk '/^{name}:/ {{ print $2 }}' $status/status"
        ))?;
        let kib: u64 = text
            .trim()
            .parse()
            .with_context(|| format!("{name}: {text:?}"))?;
        anyhow::Ok(kib)
    };
    let idle = field(guest, "VmRSS", "echo 5 > $status/clear_refs;")?;
    let outcome = work.await?;
    let most = field(guest, "VmHWM", "")?;
    println!("{what}: the agent takes {idle} KiB idle, {most} KiB at most");
    ensure!(most <= idle + MOST, "{what}: {idle} KiB became {most}");
    Ok(outcome)
}

async fn backed_up(
    lab: &mut Lab,
    file: &Path,
    volume: Uuid,
    since: Option<&Backup>,
) -> anyhow::Result<Backup> {
    let plan = Plan {
        volume,
        file,
        since,
        snapshot: None,
    };
    let client = lab.client.clone();
    modest(&mut lab.guest, "backup", async {
        Ok(backup::backup(&client, &plan, unwatched()).await?)
    })
    .await
}

/// Bytes that come over the wire for the differences.
async fn moved(lab: &Lab, file: &Path, new: &Backup, old: &Backup) -> anyhow::Result<u64> {
    let target = Target::create(file, Form::Extents)?;
    let what = of(new.manifest.snapshot, Some(old.manifest.snapshot));
    let exported = export(&lab.client, what, target, unwatched()).await?;
    Ok(exported.moved)
}

fn of(snapshot: Uuid, since: Option<Uuid>) -> Export {
    Export {
        object: ObjectRef {
            kind: ObjectKind::Snapshot,
            id: snapshot,
        },
        since,
    }
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

/// A host reads of the volume what has that hash.
async fn reads(
    lab: &mut Lab,
    volume: Uuid,
    transport: Transport,
    expected: &str,
) -> anyhow::Result<()> {
    let connection = lab.connect(volume, transport).await?;
    let device = lab.attach(&connection)?;
    let found = seen(lab, device.node())?;
    ensure!(found == expected, "volume {volume} has other data");
    lab.detach(&connection)?;
    done(lab.client.volume_detach_all(volume).await?)
}

/// The hash of all that a host sees.
fn seen(lab: &mut Lab, node: &str) -> anyhow::Result<String> {
    let command = format!("dd if={node} bs=1M iflag=direct status=none | sha256sum");
    let line = initiator(&mut lab.guest).check(&command)?;
    first_word(&line)
}

fn hash(file: &Path) -> anyhow::Result<String> {
    let output = Command::new("sha256sum").arg(file).output()?;
    first_word(&String::from_utf8(output.stdout)?)
}

fn first_word(line: &str) -> anyhow::Result<String> {
    let word = line.split_ascii_whitespace().next();
    word.map(str::to_owned).context("no hash")
}

/// A file of the size of a volume with random data in these of its MiB, and holes elsewhere.
fn image(path: &Path, mib: &[u64]) -> anyhow::Result<PathBuf> {
    let file = File::create(path)?;
    file.set_len(SIZE * MIB)?;
    let mut random = File::open("/dev/urandom")?;
    let mut bytes = vec![0; MIB as usize];
    for at in mib {
        random.read_exact(&mut bytes)?;
        file.write_all_at(&bytes, at * MIB)?;
    }
    Ok(path.to_owned())
}
