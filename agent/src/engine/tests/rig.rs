//! An engine, a fake targetd, and short ways to ask.

use std::path::Path;
use std::time::Duration;

use ashlar_protocol::Problem;
use tempfile::TempDir;
use uuid::Uuid;

use crate::domain::record::Unit;
use crate::domain::samples::digest;
pub(super) use crate::domain::samples::{
    HOST, OTHER_HOST, POOL, adopt, adopt_snapshot, attach, clone, detach, extend, grow, host, id,
    mirrored, pool, read, release, replace, revert, snapshot, volume,
};
use crate::domain::{Listen, Listens};
use crate::engine::{Answer, Command, Engine, EngineOptions, EngineTask, Outcome, RequestContext};
use crate::firmware::FirmwareOptions;
use crate::store::Options;
use crate::support::SupportOptions;
use crate::targetd::fake::FakeTargetd;

/// Long enough for a busy machine, never reached by a test that passes.
pub(super) const LONG: Duration = Duration::from_secs(30);

/// Long enough for a disk to be back before.
pub(super) const SPARE_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Rig {
    pub(super) dir: TempDir,
    pub(super) fake: FakeTargetd,
    pub(super) engine: Engine,
    pub(super) task: EngineTask,
}

pub(super) async fn start(state: &Path, fake: &FakeTargetd) -> (Engine, EngineTask) {
    start_on(state, fake, Options::default()).await
}

pub(super) async fn start_on(
    state: &Path,
    fake: &FakeTargetd,
    sizes: Options,
) -> (Engine, EngineTask) {
    start_as(options(state, fake), sizes).await
}

async fn start_as(options: EngineOptions, sizes: Options) -> (Engine, EngineTask) {
    let (engine, task) = Engine::start_on(options, sizes).await.unwrap();
    engine.ready().await;
    (engine, task)
}

fn options(state: &Path, fake: &FakeTargetd) -> EngineOptions {
    let portals = |text: &str| [text.parse().unwrap()].into();
    EngineOptions {
        state_dir: state.to_owned(),
        targetd_socket: fake.socket.clone(),
        convert: state.with_file_name("convert"),
        firmware: FirmwareOptions::within(state),
        support: SupportOptions::default(),
        name: "box".parse().unwrap(),
        listens: Listens {
            iscsi: Listen {
                portals: portals("0.0.0.0:3260"),
                advertised: Vec::new(),
                usual: true,
            },
            iser: Listen::default(),
            nvme: Listen {
                portals: portals("0.0.0.0:4420"),
                advertised: vec!["192.0.2.1:4420".parse().unwrap()],
                usual: false,
            },
            nvme_rdma: Listen::default(),
            fc: Default::default(),
            nvme_fc: Default::default(),
        },
        ready_within: Duration::from_secs(5),
        spare_after: SPARE_AFTER,
        scrub_day: Duration::from_secs(86_400),
    }
}

impl Rig {
    /// An engine with nothing in it.
    pub(super) async fn empty() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeTargetd::start(dir.path());
        let (engine, task) = start(&dir.path().join("state"), &fake).await;
        Rig {
            dir,
            fake,
            engine,
            task,
        }
    }

    /// An engine with nothing in it, on a world where days are that long.
    pub(super) async fn with_days(day: Duration) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeTargetd::start(dir.path());
        let options = EngineOptions {
            scrub_day: day,
            ..options(&dir.path().join("state"), &fake)
        };
        let (engine, task) = start_as(options, Options::default()).await;
        Rig {
            dir,
            fake,
            engine,
            task,
        }
    }

    /// An engine with a pool and two hosts.
    pub(super) async fn furnished() -> Rig {
        let rig = Rig::empty().await;
        rig.ask(pool(POOL, &["serial-DISK0"])).await.unwrap();
        rig.ask(host(HOST, 0)).await.unwrap();
        rig.ask(host(OTHER_HOST, 1)).await.unwrap();
        rig
    }

    /// Asks under a request id of its own.
    pub(super) async fn ask(&self, command: Command) -> Result<Answer, Problem> {
        self.ask_as(Uuid::new_v4(), command, LONG).await
    }

    pub(super) async fn ask_as(
        &self,
        request: Uuid,
        command: Command,
        wait: Duration,
    ) -> Result<Answer, Problem> {
        let context = context(request, &command);
        self.engine.execute(command, context, wait).await
    }

    pub(super) async fn outcome(&self, command: Command) -> Outcome {
        match self.ask(command).await {
            Ok(Answer::Done(outcome)) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// What is left after a clean stop.
    pub(super) async fn stop(self) -> (TempDir, FakeTargetd) {
        let Rig {
            dir,
            fake,
            engine,
            task,
        } = self;
        drop(engine);
        task.stop().await;
        (dir, fake)
    }

    /// The engine of the same state after a clean stop.
    pub(super) async fn restart(self) -> Rig {
        let (dir, fake) = self.stop().await;
        let (engine, task) = start(&dir.path().join("state"), &fake).await;
        Rig {
            dir,
            fake,
            engine,
            task,
        }
    }

    /// An engine on a copy of the state as it is on disk now, as after a kill. The first one
    /// is out of the way, but its store never learns of it.
    pub(super) async fn kill(self) -> Rig {
        let Rig {
            dir,
            fake,
            engine,
            task,
        } = self;
        let copy = dir.path().join(format!("state-{}", Uuid::new_v4()));
        let state = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().path());
        let state = state.filter(|p| {
            p.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("state")
        });
        let newest = state.max_by_key(|p| std::fs::metadata(p).unwrap().created().unwrap());
        copy_tree(&newest.unwrap(), &copy);
        drop(engine);
        task.stop().await;
        let (engine, task) = start(&copy, &fake).await;
        Rig {
            dir,
            fake,
            engine,
            task,
        }
    }
}

/// Waits until something is so that nothing tells of, and fails when it takes too long.
pub(super) async fn becomes(so: impl AsyncFn() -> bool) {
    let wait = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap();
}

/// Waits until the kernel has all of a unit, however often an attempt fails before.
pub(super) async fn settled(engine: &Engine, unit: Unit) {
    let ledger = &engine.shared.ledger;
    let wait = async {
        while !ledger.settled(unit) {
            let generation = engine.shared.intent.read().await.generation();
            drop(ledger.wait(unit, generation).await);
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap();
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

pub(super) fn context(request: Uuid, command: &Command) -> RequestContext {
    RequestContext {
        id: request,
        digest: digest(command),
        subject: "tester".to_owned(),
    }
}
