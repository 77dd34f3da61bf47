//! Clearing what is destroyed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use ashlar_kernel_iface::model::{ThinImage, ThinMappings, ThinMetadata};
use ashlar_protocol::{Clear, Job, JobState, ObjectKind, ProblemCode};
use ashlar_targetd_protocol::{DataState, FailureKind, OpenObject, Request, Sectors, ThinId};
use uuid::Uuid;

use super::rig::*;
use crate::domain::record::{Clearing, Unit};
use crate::engine::{Answer, Command, Outcome};
use crate::targetd::fake::{Behaviour, Follow};

const VOLUME: Uuid = Uuid::from_u128(1);
const JOB: Uuid = Uuid::from_u128(0x70b);
const BLOCK: u64 = 64 << 10;
/// Of the volume, in blocks.
const SIZE: u64 = 64;
/// Slow enough to do something meanwhile: a second for all of it.
const SLOW: Option<u64> = Some(SIZE * BLOCK);

fn clear(how: Clear, bandwidth: Option<u64>) -> Command {
    let clearing = Clearing {
        how,
        size: None,
        bandwidth,
        since: 0,
    };
    Command::VolumeClear {
        id: VOLUME,
        clearing,
    }
}

/// Thin metadata of a volume of so many blocks, of which these are mapped, the first half before
/// the last snapshot of it.
fn metadata(size: u64, mapped: impl Fn(u64) -> bool) -> ThinImage {
    let mapped = (0..size).filter(|block| mapped(*block));
    let mappings = mapped.map(|block| (block, (block, u32::from(block >= size / 2))));
    let thin = ThinMappings {
        snapshotted: 1,
        mappings: mappings.collect(),
        ..ThinMappings::default()
    };
    let metadata = ThinMetadata {
        block: Sectors(BLOCK / 512),
        time: 1,
        thins: [(ThinId::try_from(0).unwrap(), thin)].into(),
        ..ThinMetadata::default()
    };
    metadata.image()
}

/// Whether a file has anything in a block.
fn has(file: &File, block: u64) -> bool {
    let mut bytes = vec![0; BLOCK as usize];
    file.read_exact_at(&mut bytes, block * BLOCK).unwrap();
    bytes.iter().any(|byte| *byte != 0)
}

/// A volume of 4 MiB that is all mapped, its first half before the last snapshot of it.
async fn rig() -> (Rig, File) {
    let rig = Rig::furnished().await;
    rig.outcome(volume(VOLUME, SIZE * BLOCK)).await;
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&vec![7; (SIZE * BLOCK) as usize], 0)
        .unwrap();
    {
        let mut kernel = rig.fake.kernel();
        let (_, thin) = *kernel.thin.first().unwrap();
        assert_eq!(thin.value(), 0);
        kernel.metadata.insert(POOL, metadata(SIZE, |_| true));
        let object = OpenObject::Volume(VOLUME);
        kernel.files.insert(object, file.try_clone().unwrap());
    }
    (rig, file)
}

/// Bytes of a file that are not zero, in its first half and in its second.
fn left(file: &File) -> (usize, usize) {
    let mut bytes = vec![0; (SIZE * BLOCK) as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let count = |half: &[u8]| half.iter().filter(|byte| **byte != 0).count();
    (count(first), count(second))
}

const HALF: usize = (SIZE * BLOCK / 2) as usize;

async fn begun(rig: &Rig, command: Command) -> Job {
    match rig.ask_as(JOB, command, Duration::ZERO).await {
        Ok(Answer::Accepted(job)) => job,
        other => panic!("{other:?}"),
    }
}

/// What was done with the pool's metadata up to the volume's destruction: opened, released,
/// destroyed.
fn of_metadata(rig: &Rig) -> String {
    let calls = rig.fake.kernel().calls.clone();
    let told = calls.iter().filter_map(|call| match call {
        Request::OpenMetadata { .. } => Some('o'),
        Request::ReleaseMetadata { .. } => Some('r'),
        Request::ApplyVolume(volume) if volume.data == DataState::Tombstone => Some('d'),
        _ => None,
    });
    told.collect()
}

fn destroyed(rig: &Rig) -> bool {
    let last = rig.fake.last_applied(VOLUME);
    last.is_some_and(|desired| desired.data == DataState::Tombstone)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_has_alone_is_overwritten_and_then_it_is_destroyed() {
    let (rig, file) = rig().await;
    let job = begun(&rig, clear(Clear::Zero, SLOW)).await;
    assert_eq!((job.id, job.state), (JOB, JobState::Running));
    let engine = &rig.engine;
    becomes(async || engine.job(JOB).await.unwrap().progress.is_some()).await;
    assert!(!destroyed(&rig));
    let held = rig.fake.last_applied(VOLUME).unwrap();
    assert_eq!((held.data, held.held), (DataState::Present, true));
    let refused = engine.cancel(JOB, Duration::ZERO).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::WrongState);
    settled(engine, Unit::Volume(VOLUME)).await;
    assert!(destroyed(&rig));
    assert_eq!(left(&file), (HALF, 0));
    let job = engine.job(JOB).await.unwrap();
    assert_eq!(job.state, JobState::Succeeded);
    let result = job.result.unwrap();
    let half = Some(HALF as u64);
    assert_eq!((result.written, result.left), (half, half));
    // So that the pool has it back at once.
    let told = of_metadata(&rig);
    assert!(told.contains("ord"), "{told}");
    let missing = engine.volume(VOLUME).await.unwrap_err();
    assert_eq!(missing.code, ProblemCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn discarding_leaves_it_to_the_kernel_what_others_have() {
    let (rig, file) = rig().await;
    let seen = file.try_clone().unwrap();
    let follow = Follow(Box::new(move || metadata(SIZE, |block| has(&seen, block))));
    rig.fake.kernel().follows.insert(POOL, follow);
    let outcome = rig.ask_as(JOB, clear(Clear::Discard, None), LONG).await;
    assert_eq!(outcome, Ok(Answer::Done(Outcome::Removed)));
    assert_eq!(left(&file), (0, 0));
    let result = rig.engine.job(JOB).await.unwrap().result.unwrap();
    assert_eq!((result.zeroed, result.left), (Some(SIZE * BLOCK), None));
    // What was held to look was let go before, as the kernel counts it, and it was looked again.
    let told = of_metadata(&rig);
    assert!(told.contains("oro") && told.contains("ord"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_discarded_in_vain_is_not_destroyed() {
    // All stays mapped, as in a pool that has become read-only.
    let (rig, file) = rig().await;
    begun(&rig, clear(Clear::Discard, None)).await;
    let engine = &rig.engine;
    becomes(async || engine.job(JOB).await.unwrap().problem.is_some()).await;
    let problem = engine.job(JOB).await.unwrap().problem.unwrap();
    assert!(problem.detail.contains("still mapped"), "{problem}");
    assert!(!destroyed(&rig));
    let follow = Follow(Box::new(move || metadata(SIZE, |block| has(&file, block))));
    rig.fake.kernel().follows.insert(POOL, follow);
    settled(engine, Unit::Volume(VOLUME)).await;
    assert!(destroyed(&rig));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_kept_is_cleared_again() {
    const MIB: u64 = 1 << 20;
    let rig = Rig::furnished().await;
    rig.outcome(volume(VOLUME, MIB)).await;
    // It takes everything and keeps nothing, and says so.
    let lost = File::options().read(true).write(true).open("/dev/zero");
    let object = OpenObject::Volume(VOLUME);
    {
        let mut kernel = rig.fake.kernel();
        kernel
            .metadata
            .insert(POOL, metadata(MIB / BLOCK, |_| true));
        kernel.files.insert(object, lost.unwrap());
    }
    begun(&rig, clear(Clear::Zero, None)).await;
    let engine = &rig.engine;
    becomes(async || engine.job(JOB).await.unwrap().problem.is_some()).await;
    let problem = engine.job(JOB).await.unwrap().problem.unwrap();
    assert!(problem.detail.contains("durable"), "{problem}");
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&vec![7; MIB as usize], 0).unwrap();
    let kept = file.try_clone().unwrap();
    rig.fake.kernel().files.insert(object, kept);
    settled(engine, Unit::Volume(VOLUME)).await;
    let blocks = MIB / BLOCK;
    assert!((blocks / 2..blocks).all(|block| !has(&file, block)));
    assert!(destroyed(&rig));
    let result = engine.job(JOB).await.unwrap().result.unwrap();
    assert_eq!(result.written, Some(MIB / 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_beginning_is_cleared_if_that_is_asked() {
    let (rig, file) = rig().await;
    let clearing = Clearing {
        how: Clear::Zero,
        // Whole blocks of the pool.
        size: Some((SIZE / 2 + 1) * BLOCK - 5),
        bandwidth: None,
        since: 0,
    };
    let id = VOLUME;
    rig.outcome(Command::VolumeClear { id, clearing }).await;
    assert_eq!(left(&file), (HALF, HALF - BLOCK as usize));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_after_a_restart_and_a_power_cut() {
    let (mut rig, file) = rig().await;
    begun(&rig, clear(Clear::Zero, SLOW)).await;
    let engine = rig.engine.clone();
    becomes(async || engine.job(JOB).await.unwrap().progress.is_some()).await;
    drop(engine);
    rig = rig.kill().await;
    let engine = rig.engine.clone();
    // Being cleared holds up nobody who starts.
    assert_eq!(engine.job(JOB).await.unwrap().state, JobState::Running);
    becomes(async || engine.job(JOB).await.unwrap().progress.is_some()).await;
    rig.fake.reboot();
    settled(&engine, Unit::Volume(VOLUME)).await;
    assert_eq!(left(&file), (HALF, 0));
    assert!(destroyed(&rig));
    let job = engine.job(JOB).await.unwrap();
    assert_eq!(job.state, JobState::Succeeded);
    assert_eq!(job.result.unwrap().left, Some(HALF as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_targetd_that_is_new_is_told_and_the_work_goes_on() {
    let (mut rig, file) = rig().await;
    begun(&rig, clear(Clear::Zero, SLOW)).await;
    let engine = rig.engine.clone();
    becomes(async || engine.job(JOB).await.unwrap().progress.is_some()).await;
    rig.fake.pause();
    rig.fake.resume();
    settled(&engine, Unit::Volume(VOLUME)).await;
    assert_eq!(left(&file), (HALF, 0));
    let result = engine.job(JOB).await.unwrap().result.unwrap();
    // Nothing was done twice.
    assert_eq!(result.written, Some(HALF as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_cleared_stays_until_that_is_not_asked_any_more() {
    let (rig, file) = rig().await;
    let opening = |request: &Request| matches!(request, Request::OpenDevice { .. });
    rig.fake
        .rule(usize::MAX, Behaviour::Fail(FailureKind::Kernel), opening);
    begun(&rig, clear(Clear::Zero, None)).await;
    let engine = &rig.engine;
    becomes(async || engine.job(JOB).await.unwrap().problem.is_some()).await;
    let job = engine.job(JOB).await.unwrap();
    assert_eq!(job.state, JobState::Running);
    assert!(!destroyed(&rig));
    let shown = engine.volume(VOLUME).await.unwrap();
    assert_eq!(shown.state, ashlar_protocol::VolumeState::Deleting);
    let outcome = rig.outcome(clear(Clear::None, None)).await;
    assert_eq!(outcome, Outcome::Removed);
    assert!(destroyed(&rig));
    assert_eq!(left(&file), (HALF, HALF));
    let events = engine.events(crate::engine::After::Beginning, 1000, Duration::ZERO);
    let events = events.await.unwrap().items;
    let of_volume = events
        .iter()
        .filter(|e| e.object.kind == ObjectKind::Volume);
    let kinds: Vec<_> = of_volume.map(|event| event.kind.to_string()).collect();
    assert!(
        !kinds.iter().any(|kind| kind.ends_with("cleared")),
        "{kinds:?}"
    );
}
