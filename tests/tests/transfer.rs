//! Files into volumes and out of them again, with the client library, on the model kernel.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ashlar_ctl::client::{ContentQuery, MediaType, Outgoing};
use ashlar_ctl::transfer::{
    Export, Form, Source, Target, TransferError, export, import, unwatched,
};
use ashlar_ctl::{Change, Client};
use ashlar_protocol::{
    Job, JobState, ObjectKind, ObjectRef, Operation, PoolSpec, ProblemCode, SnapshotSpec,
    VolumeSpec,
};
use ashlar_tests::model::Model;
use ashlar_tests::runner::Appliance;
use ashlar_tests::scenario::Accident;
use bytes::Bytes;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 32 * MIB;

struct World {
    model: Model,
    client: Client,
    pool: Uuid,
    folder: TempDir,
}

impl World {
    async fn new() -> World {
        let model = Model::boot().unwrap();
        let client = model.client("admin").unwrap();
        let pool = Uuid::new_v4();
        let spec = PoolSpec::on(
            "pool".parse().unwrap(),
            vec!["serial-DISK0".parse().unwrap()],
        );
        client.pool_create(pool, &spec).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        World {
            model,
            client,
            pool,
            folder,
        }
    }

    async fn volume(&self) -> Uuid {
        let id = Uuid::new_v4();
        let spec = VolumeSpec::blank("volume".parse().unwrap(), self.pool, SIZE);
        let change = self.client.volume_create(id, &spec).await.unwrap();
        assert!(matches!(change, Change::Done { .. }));
        id
    }

    async fn snapshot(&self, volume: Uuid) -> Uuid {
        let id = Uuid::new_v4();
        let spec = SnapshotSpec {
            name: "snapshot".parse().unwrap(),
            volume,
            labels: Default::default(),
        };
        self.client.snapshot_create(id, &spec).await.unwrap();
        id
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of that many bytes, with something in some MiB of it.
    fn image(&self, name: &str, size: u64, written: &[(u64, u8)]) -> PathBuf {
        let path = self.path(name);
        let file = File::create(&path).unwrap();
        file.set_len(size).unwrap();
        for (mib, byte) in written {
            let length = (size - mib * MIB).min(MIB) as usize;
            let bytes = noise(*byte, length);
            file.write_all_at(&bytes, mib * MIB).unwrap();
        }
        path
    }

    async fn import(&self, volume: Uuid, path: &Path, form: Form) -> Result<u64, TransferError> {
        let source = Source::open(path, form)?;
        let done = import(&self.client, volume, source, unwatched()).await?;
        Ok(done.written.unwrap())
    }

    /// Bytes that were moved.
    async fn export(
        &self,
        object: ObjectRef,
        since: Option<Uuid>,
        path: &Path,
        form: Form,
    ) -> Result<u64, TransferError> {
        let target = Target::create(path, form)?;
        let what = Export { object, since };
        let done = export(&self.client, what, target, unwatched()).await?;
        Ok(done.moved)
    }

    async fn content(&self, object: ObjectRef) -> Vec<u8> {
        let path = self.path("content");
        self.export(object, None, &path, Form::Raw).await.unwrap();
        fs::read(path).unwrap()
    }

    /// The one job of that kind, ended.
    async fn job(&self, operation: Operation) -> Job {
        loop {
            let jobs = self.client.job_list().await.unwrap();
            let job = jobs.into_iter().find(|job| job.operation == operation);
            let job = job.expect("a transfer");
            if job.state != JobState::Running {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed) | 1 << 32;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn volume(id: Uuid) -> ObjectRef {
    let kind = ObjectKind::Volume;
    ObjectRef { kind, id }
}

fn snapshot(id: Uuid) -> ObjectRef {
    let kind = ObjectKind::Snapshot;
    ObjectRef { kind, id }
}

fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[tokio::test]
async fn sparse_files_stay_sparse_both_ways() {
    let world = World::new().await;
    let one = world.volume().await;
    // Its last block is no whole one.
    let size = 20 * MIB + 1000;
    let image = world.image("image", size, &[(0, 1), (7, 2), (20, 3)]);
    let written = world.import(one, &image, Form::Raw).await.unwrap();
    assert!(written <= 2 * MIB + 4096, "{written}");

    let back = world.path("back");
    let moved = world.export(volume(one), None, &back, Form::Raw).await;
    let moved = moved.unwrap();
    assert!(moved < 2 * MIB + MIB / 2, "{moved}");
    assert!(allocated(&back) < 3 * MIB, "{}", allocated(&back));
    let mut expected = fs::read(&image).unwrap();
    expected.resize(SIZE as usize, 0);
    assert!(fs::read(&back).unwrap() == expected);

    // As a stream, into another, by way of a file.
    let stream = world.path("stream");
    let streamed = world.export(volume(one), None, &stream, Form::Extents);
    assert_eq!(
        streamed.await.unwrap(),
        fs::metadata(&stream).unwrap().len()
    );
    let two = world.volume().await;
    world.import(two, &stream, Form::Extents).await.unwrap();
    assert!(world.content(volume(two)).await == expected);
    let left = fs::read_dir(world.folder.path()).unwrap();
    assert!(left.flatten().all(|file| file.path().extension().is_none()));
}

#[tokio::test]
async fn what_differs_is_all_that_moves() {
    let world = World::new().await;
    let (one, two) = (world.volume().await, world.volume().await);
    let image = world.image("image", 16 * MIB, &[(0, 1), (9, 2)]);
    world.import(one, &image, Form::Raw).await.unwrap();
    let before = world.snapshot(one).await;
    let stream = world.path("full");
    let full = world.export(snapshot(before), None, &stream, Form::Extents);
    full.await.unwrap();
    world.import(two, &stream, Form::Extents).await.unwrap();

    let image = world.image("image", 16 * MIB, &[(0, 1), (3, 5), (9, 2)]);
    world.import(one, &image, Form::Raw).await.unwrap();
    let after = world.snapshot(one).await;
    let stream = world.path("increment");
    let moved = world.export(snapshot(after), Some(before), &stream, Form::Extents);
    let moved = moved.await.unwrap();
    // All of it was written anew, holes but not data being told apart.
    assert!(moved <= 3 * MIB * 21 / 20, "{moved}");
    world.import(two, &stream, Form::Extents).await.unwrap();
    assert!(world.content(volume(two)).await == world.content(snapshot(after)).await);

    let raw = world.export(snapshot(after), Some(before), &stream, Form::Raw);
    assert!(matches!(raw.await, Err(TransferError::OnlyExtents { .. })));
}

#[tokio::test]
async fn what_does_not_fit_or_is_not_sound_is_refused_by_name() {
    let world = World::new().await;
    let one = world.volume().await;
    let image = world.image("image", 4 * MIB, &[(1, 1)]);
    world.import(one, &image, Form::Raw).await.unwrap();
    let stream = world.path("stream");
    world
        .export(volume(one), None, &stream, Form::Extents)
        .await
        .unwrap();
    let sound = fs::read(&stream).unwrap();
    let mut changed = sound.clone();
    changed[1000] ^= 1;
    let large = world.image("large", SIZE + 1, &[]);
    let damaged = |name: &str, bytes: &[u8]| {
        fs::write(world.path(name), bytes).unwrap();
        world.path(name)
    };
    let cut = &sound[..sound.len() - 40];
    for (path, form, words) in [
        (large, Form::Raw, "33554433 bytes, more than the 33554432"),
        (damaged("cut", cut), Form::Extents, "stopped before its end"),
        (damaged("changed", &changed), Form::Extents, "checksum"),
        (image.clone(), Form::Extents, "not one of whole blocks"),
        (world.path("nothing"), Form::Raw, "failed to open"),
    ] {
        let told = world.import(one, &path, form).await.unwrap_err();
        assert!(told.to_string().contains(words), "{told}");
    }
    let told = world.import(Uuid::new_v4(), &image, Form::Raw).await;
    assert!(told.unwrap_err().to_string().contains("not-found"));
    let nowhere = world.path("no/where");
    let told = world.export(volume(one), None, &nowhere, Form::Raw).await;
    assert!(told.unwrap_err().to_string().contains("failed to write to"));
    // The volume is free, and takes what is sound.
    world.import(one, &stream, Form::Extents).await.unwrap();
}

/// Passes connections on, and cuts them after so many bytes, as often as it is told.
async fn cutter(to: SocketAddr, each: i64, times: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for round in 0.. {
            let (mut from, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut to = TcpStream::connect(to).await.unwrap();
                if round >= times {
                    return drop(copy_bidirectional(&mut from, &mut to).await);
                }
                let left = Arc::new(AtomicI64::new(each));
                let (mut in_from, mut in_to) = from.split();
                let (mut out_from, mut out_to) = to.split();
                tokio::select! {
                    () = pass(&mut in_from, &mut out_to, left.clone()) => {}
                    () = pass(&mut out_from, &mut in_to, left) => {}
                }
            });
        }
    });
    address
}

async fn pass(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    left: Arc<AtomicI64>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; 64 << 10];
    while left.load(Ordering::Relaxed) > 0 {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        left.fetch_sub(length as i64, Ordering::Relaxed);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_broken_transfer_is_taken_up_where_it_was() {
    let mut world = World::new().await;
    let one = world.volume().await;
    let written: Vec<_> = (0..16).map(|mib| (2 * mib, mib as u8)).collect();
    let image = world.image("image", SIZE, &written);
    let cut = cutter(world.model.address(), 6 * MIB as i64, 2).await;
    world.client = world.model.client_at(cut, "admin").unwrap();
    world.import(one, &image, Form::Raw).await.unwrap();
    assert!(world.content(volume(one)).await == fs::read(&image).unwrap());

    for form in [Form::Raw, Form::Extents] {
        world.client = world.model.client("admin").unwrap();
        let taken = world.snapshot(one).await;
        let cut = cutter(world.model.address(), 6 * MIB as i64, 2).await;
        world.client = world.model.client_at(cut, "admin").unwrap();
        let path = world.path("back");
        let moved = world.export(snapshot(taken), None, &path, form).await;
        let moved = moved.unwrap();
        assert!(moved < 25 * MIB, "{moved}: all of it came more than once");
        if form == Form::Extents {
            let two = world.volume().await;
            world.import(two, &path, form).await.unwrap();
            assert!(world.content(volume(two)).await == fs::read(&image).unwrap());
        } else {
            assert!(fs::read(&path).unwrap() == fs::read(&image).unwrap());
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_has_cancelled() {
    let world = World::new().await;
    let one = world.volume().await;
    let (giver, body) = Outgoing::new();
    let given = tokio::task::spawn_blocking(move || {
        let mut encoder = ashlar_extents::Encoder::new();
        let data = vec![1; MIB as usize];
        let header = encoder.data(0, &data);
        giver.give_blocking(Bytes::copy_from_slice(&header));
        giver.give_blocking(Bytes::from(data));
    });
    let sent = world.client.volume_import(one, MediaType::Extents, 0, body);
    sent.await.unwrap_err();
    given.await.unwrap();
    let job = world.job(Operation::VolumeImport).await;
    assert_eq!(job.state, JobState::Cancelled, "{job:?}");
    let problem = job.problem.unwrap();
    assert_eq!(problem.code, ProblemCode::Cancelled);
    assert!(problem.detail.contains("client disconnected"), "{problem}");

    let query = ContentQuery::all(MediaType::Raw);
    let mut download = world.client.volume_export(one, &query).await.unwrap();
    assert_eq!(download.length(), Some(SIZE));
    download.next().await.unwrap();
    drop(download);
    let job = world.job(Operation::VolumeExport).await;
    assert_eq!(job.state, JobState::Cancelled, "{job:?}");
    let problem = job.problem.unwrap();
    assert!(problem.detail.contains("client disconnected"), "{problem}");
}

#[tokio::test]
async fn an_import_goes_on_with_an_agent_that_was_killed() {
    let mut world = World::new().await;
    let one = world.volume().await;
    let written: Vec<_> = (0..32).map(|mib| (mib, mib as u8)).collect();
    let image = world.image("image", SIZE, &written);
    let source = Source::open(&image, Form::Raw).unwrap();
    let (begun, mut seen) = tokio::sync::watch::channel(false);
    let client = world.client.clone();
    let importing = tokio::spawn(async move {
        let watch = move |progress: ashlar_protocol::Progress| {
            if progress.done > 4 * MIB && !begun.send_replace(true) {
                // Time for the blow to fall in the middle.
                std::thread::sleep(Duration::from_millis(300));
            }
        };
        import(&client, one, source, Arc::new(watch)).await
    });
    seen.wait_for(|begun| *begun).await.unwrap();
    let before = world.client.job_list().await.unwrap();
    let of = |job: &&Job| job.operation == Operation::VolumeImport;
    let job = before.iter().find(of).unwrap().id;
    world.model.accident(Accident::KillAgent).await.unwrap();
    importing.await.unwrap().unwrap();
    let job = world.client.job_show(job).await.unwrap();
    let problem = job.problem.expect("it was cut short");
    assert_eq!(problem.code, ProblemCode::Interrupted, "{problem}");
    assert!(world.content(volume(one)).await == fs::read(&image).unwrap());
}

/// By somebody else, it was not broken, and nothing is begun in its place.
#[tokio::test]
async fn what_is_cancelled_is_not_taken_up_again() {
    let world = World::new().await;
    let one = world.volume().await;
    let written: Vec<_> = (0..32).map(|mib| (mib, mib as u8)).collect();
    let image = world.image("image", SIZE, &written);
    world.import(one, &image, Form::Raw).await.unwrap();
    let taken = world.snapshot(one).await;

    let (far, mut seen) = tokio::sync::watch::channel(0);
    let watch = move |progress: ashlar_protocol::Progress| {
        far.send_replace(progress.done);
    };
    let job = Uuid::new_v4();
    let client = world.client.limited(Some(4 * MIB)).under(job);
    let target = Target::create(&world.path("back"), Form::Raw).unwrap();
    let what = Export {
        object: snapshot(taken),
        since: None,
    };
    let exporting =
        tokio::spawn(async move { export(&client, what, target, Arc::new(watch)).await });
    seen.wait_for(|done| *done >= 4 * MIB).await.unwrap();
    world.client.job_cancel(job).await.unwrap();
    match exporting.await.unwrap() {
        Err(TransferError::Call(error)) => {
            let code = error.problem().map(|problem| problem.code);
            assert_eq!(code, Some(ProblemCode::Cancelled), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let jobs = world.client.job_list().await.unwrap();
    let exports = jobs
        .iter()
        .filter(|job| job.operation == Operation::SnapshotExport);
    assert_eq!(exports.count(), 1);
}
