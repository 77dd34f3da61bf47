//! Updates of the firmware over the wire, with an updater that writes nothing.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ashlar_ctl::client::Outgoing;
use ashlar_ctl::transfer::{Form, Source, TransferError, install, unwatched};
use ashlar_ctl::{CallError, Change, Client};
use ashlar_inprocess::Appliance;
use ashlar_inprocess::updater::{COMPATIBLE, Updater, bundle, bundle_for};
use ashlar_protocol::{
    ActivateSpec, JobResult, JobState, ObjectKind, ObjectRef, Operation, Problem, ProblemCode,
    Progress, SlotName,
};
use bytes::Bytes;
use tokio::net::UnixListener;
use tokio::sync::watch;
use uuid::Uuid;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

const MIB: usize = 1 << 20;

struct World {
    appliance: Appliance,
    updater: Updater,
    admin: Client,
}

impl World {
    async fn new() -> World {
        let appliance = Appliance::start().await;
        let updater = Updater::start(appliance.dir.path()).await;
        let admin = appliance.client("admin");
        World {
            appliance,
            updater,
            admin,
        }
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.appliance.dir.path().join("update.raucb");
        fs::write(&path, bytes).unwrap();
        path
    }

    async fn install(&self, bytes: &[u8]) -> Result<JobResult, TransferError> {
        let source = Source::open(&self.file(bytes), Form::Raw).unwrap();
        install(&self.admin, source, unwatched()).await
    }

    /// What a bundle that is not installed is refused with. Nothing of it is left.
    async fn refused(&self, bytes: &[u8]) -> Problem {
        let problem = problem(self.install(bytes).await.unwrap_err());
        self.nothing_is_kept();
        problem
    }

    /// Waits until an update is being written.
    async fn writes(&self) {
        let begun = tokio::time::timeout(PATIENCE, self.updater.begun()).await;
        begun.expect("it begins to be written");
        assert!(self.admin.firmware_show().await.unwrap().installing);
    }

    fn nothing_is_kept(&self) {
        let folder = self.appliance.dir.path().join("update");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    }

    async fn next(&self) -> SlotName {
        self.admin.firmware_show().await.unwrap().next
    }
}

fn problem(error: TransferError) -> Problem {
    match error {
        TransferError::Call(error) => told(error),
        other => panic!("{other}"),
    }
}

fn told(error: CallError) -> Problem {
    error
        .problem()
        .cloned()
        .unwrap_or_else(|| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_installed_and_started_next() {
    let world = World::new().await;
    let shown = world.appliance.client("reader").firmware_show().await;
    let shown = shown.unwrap();
    assert_eq!((shown.running, shown.next), (SlotName::A, SlotName::A));
    assert_eq!(shown.version, env!("CARGO_PKG_VERSION"));
    assert!(
        shown
            .slots
            .iter()
            .all(|slot| slot.good && slot.version.is_none())
    );

    let bytes = bundle("0.2.0", 3 * MIB);
    let (tell, told) = watch::channel(Progress::default());
    let job = Uuid::new_v4();
    let source = Source::open(&world.file(&bytes), Form::Raw).unwrap();
    let watch = Arc::new(move |progress| {
        tell.send_replace(progress);
    });
    let result = install(&world.admin.under(job), source, watch)
        .await
        .unwrap();
    assert_eq!(result.written, Some(bytes.len() as u64));
    assert_eq!(told.borrow().done, bytes.len() as u64);
    world.nothing_is_kept();

    let shown = world.admin.firmware_show().await.unwrap();
    assert_eq!((shown.running, shown.next), (SlotName::A, SlotName::B));
    let [_, slot] = &shown.slots[..] else {
        panic!("{shown:?}");
    };
    assert_eq!(slot.version.as_deref(), Some("0.2.0"));
    assert_eq!(slot.installed, Some(1_796_040_000));

    let job = world.admin.job_show(job).await.unwrap();
    assert_eq!(
        (job.operation, job.state),
        (Operation::FirmwareInstall, JobState::Succeeded)
    );
    assert_eq!(job.object.kind, ObjectKind::System);
    // Half of it is what was received, the other what was written.
    let progress = job.progress.unwrap();
    assert_eq!(progress.total, Some(progress.done));
    assert_eq!(progress.done, 2 * bytes.len() as u64);
    let events = world.admin.event_list().await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "system.firmware-install-begun",
            "system.firmware-install-done"
        ]
    );

    let back = world
        .admin
        .firmware_activate(&ActivateSpec { slot: SlotName::A })
        .await;
    let back = back.unwrap().done().unwrap();
    assert_eq!(back.next, SlotName::A);
    world.updater.spoil();
    let spec = ActivateSpec { slot: SlotName::B };
    let problem = told_by(world.admin.firmware_activate(&spec).await);
    assert_eq!(problem.code, ProblemCode::WrongState);
    assert_eq!(world.next().await, SlotName::A);
}

fn told_by<T: std::fmt::Debug>(outcome: Result<T, CallError>) -> Problem {
    told(outcome.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_update_for_this_box_is_refused_and_changes_nothing() {
    let world = World::new().await;
    for (bytes, code, why) in [
        (
            vec![7; MIB],
            ProblemCode::MalformedRequest,
            "signature verification failed",
        ),
        (
            bundle_for("0.2.0", "other-box", MIB),
            ProblemCode::MalformedRequest,
            "the bundle is for \"other-box\", this box is \"ashlar-test\"",
        ),
        (
            bundle_for("0.2.0", &format!("{COMPATIBLE} spoilt"), MIB),
            ProblemCode::KernelFailed,
            "failed to write: Input/output error",
        ),
        (Vec::new(), ProblemCode::OutOfRange, "a bundle has 1 to"),
    ] {
        let problem = world.refused(&bytes).await;
        assert_eq!(problem.code, code, "{problem}");
        assert!(problem.detail.contains(why), "{problem}");
        assert!(!problem.retryable, "{problem}");
    }
    assert_eq!(world.next().await, SlotName::A);
    assert_eq!(world.updater.version(), None);

    // Nor is what is too large, before any of it is kept.
    let (giver, body) = Outgoing::new();
    let piece = Bytes::from(vec![0; MIB]);
    tokio::task::spawn_blocking(move || while giver.give_blocking(piece.clone()) {});
    let sent = world.admin.firmware_install(body.of_length(1 << 40)).await;
    assert_eq!(told_by(sent).code, ProblemCode::OutOfRange);
    let (giver, body) = Outgoing::new();
    let given = tokio::task::spawn_blocking(move || giver.finish_blocking());
    let problem = told_by(world.admin.firmware_install(body).await);
    assert!(
        problem.detail.contains("content-length is missing"),
        "{problem}"
    );
    given.await.unwrap();
    world.nothing_is_kept();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_update_at_a_time_and_none_is_cut_short_by_us() {
    let mut world = World::new().await;
    world.updater.hold();
    let bytes = bundle("0.2.0", MIB);
    let job = Uuid::new_v4();
    let source = Source::open(&world.file(&bytes), Form::Raw).unwrap();
    let client = world.admin.under(job);
    let installing = tokio::spawn(async move { install(&client, source, unwatched()).await });
    world.writes().await;

    let refused = problem(world.install(&bytes).await.unwrap_err());
    assert_eq!(refused.code, ProblemCode::Busy, "{refused}");
    let spec = ActivateSpec { slot: SlotName::B };
    for problem in [
        told_by(world.admin.firmware_activate(&spec).await),
        told_by(world.admin.system_restart().await),
    ] {
        assert_eq!(problem.code, ProblemCode::Busy, "{problem}");
        assert!(problem.detail.contains(&job.to_string()), "{problem}");
    }
    let problem = told_by(world.admin.job_cancel(job).await);
    let why = "cannot be cancelled any more";
    assert!(problem.detail.contains(why), "{problem}");
    let half = world.admin.job_show(job).await.unwrap().progress.unwrap();
    assert_eq!(half.done, bytes.len() as u64, "nothing is written yet");
    // The slots are as they were, for whoever asks meanwhile.
    let shown = world.admin.firmware_show().await.unwrap();
    assert_eq!((shown.installing, shown.next), (true, SlotName::A));
    world.updater.release();
    installing.await.unwrap().unwrap();
    let shown = world.admin.job_show(job).await.unwrap();
    assert_eq!(shown.state, JobState::Succeeded);
    assert_eq!(world.next().await, SlotName::B);

    world.updater.hold();
    let source = Source::open(&world.file(&bytes), Form::Raw).unwrap();
    let client = world.admin.clone();
    let installing = tokio::spawn(async move { install(&client, source, unwatched()).await });
    world.writes().await;
    world.updater.die().await;
    let ended = tokio::time::timeout(PATIENCE, installing).await.unwrap();
    let problem = self::problem(ended.unwrap().unwrap_err());
    assert_eq!(problem.code, ProblemCode::Interrupted, "{problem}");
    assert!(problem.detail.contains("half written"), "{problem}");
    // Another updater might be about to read it; an agent that starts knows of none.
    world.appliance = world.appliance.restart().await;
    world.nothing_is_kept();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_without_an_updater_says_so() {
    let appliance = Appliance::start().await;
    let admin = appliance.client("admin");
    let spec = ActivateSpec { slot: SlotName::B };
    for problem in [
        told_by(admin.firmware_show().await),
        told_by(admin.firmware_activate(&spec).await),
        told_by(admin.system_restart().await),
    ] {
        assert_eq!(problem.code, ProblemCode::Unsupported, "{problem}");
    }
    let operator = appliance.client("operator");
    assert_eq!(
        told_by(operator.system_restart().await).code,
        ProblemCode::Forbidden
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_is_started_again_once_for_a_request() {
    let appliance = Appliance::start().await;
    let admin = appliance.client("admin");
    let socket = UnixListener::bind(appliance.dir.path().join("restart.sock")).unwrap();
    let once = admin.under(Uuid::new_v4());
    for _ in 0..2 {
        assert!(matches!(
            once.system_restart().await,
            Ok(Change::Done { .. })
        ));
    }
    tokio::time::timeout(PATIENCE, socket.accept())
        .await
        .unwrap()
        .unwrap();
    let another = tokio::time::timeout(Duration::from_millis(100), socket.accept()).await;
    assert!(another.is_err(), "it is asked for twice");
    let events = admin.event_list().await.unwrap();
    let last = events.last().unwrap();
    assert_eq!(last.kind.as_str(), "system.restart-done");
    let ObjectRef { kind, .. } = last.object;
    assert_eq!(kind, ObjectKind::System);
}
