//! The firmware: which there is, updates of it, starting the box again.
//!
//! ```text
//! install   request ── Bytes, End ──► thread: file on the state disk ── path ──► updater ──► slot
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ashlar_protocol::firmware::MAX_BUNDLE;
use ashlar_protocol::{
    ActivateSpec, Firmware, JobResult, JobState, ObjectKind, ObjectRef, Operation, Problem,
    ProblemCode, Progress, Sha256 as Digested,
};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::data::{Pieces, Upload, Uploading, failed, reach};
use super::{Begun, Engine, Meter, RequestContext, Rule, internal};
use crate::domain::Undertaking;
use crate::domain::decide::data::check_idle;
use crate::domain::decide::work::cancelled;
use crate::firmware::Updater;

/// A bundle until it is installed.
const BUNDLE: &str = "bundle.raucb";

/// Bytes of the state disk that a bundle leaves to everything else.
const LEFT_FREE: u64 = 32 << 20;

impl Engine {
    /// Which firmware the box runs, and which it starts from next.
    ///
    /// # Errors
    /// When the box has no updater, or that does not answer.
    pub async fn firmware(&self) -> Result<Firmware, Problem> {
        self.shared.updater.show().await
    }

    /// Begins to take a bundle of so many bytes, which is installed once it is whole.
    ///
    /// # Errors
    /// When another is being installed, there is no room for it, or nobody to install it.
    pub async fn install(
        &self,
        length: u64,
        context: RequestContext,
        leaving: CancellationToken,
    ) -> Result<Upload, Problem> {
        let (engine, object) = (self.clone(), self.object());
        let begun = async move { engine.begin_install(length, (context, leaving)).await };
        // A request that is dropped while this is under way drops what has come of it.
        let lost = |_| internal("the work has no beginning").about(object);
        tokio::spawn(begun).await.map_err(lost)?
    }

    async fn begin_install(
        &self,
        length: u64,
        (context, leaving): (RequestContext, CancellationToken),
    ) -> Result<Upload, Problem> {
        let object = self.object();
        let undertaking = Undertaking {
            operation: Operation::FirmwareInstall,
            object,
            progress: Progress {
                done: 0,
                // What is received, and then what is written.
                total: Some(length.saturating_mul(2)),
            },
        };
        let work = match self.begin(undertaking, context, self.alone()).await? {
            Begun::Work(work) => work,
            Begun::Before(job) => return Ok(Upload::Before(Box::new(job))),
        };
        let updater = self.shared.updater.clone();
        let prepared = prepare(&updater, length).await;
        let bundle = match prepared {
            Ok(bundle) => bundle,
            Err(problem) => {
                return Err(failed(work, problem.about(object)).await);
            }
        };
        let (meter, runtime) = (work.meter(), Handle::current());
        let id = work.job();
        let uploading = Uploading::begin(object, work, leaving, move |given| {
            let taking = Taking {
                id,
                object,
                updater,
                meter,
                length,
            };
            taking.run(bundle, given, &runtime)
        });
        Ok(Upload::Begun(uploading))
    }

    /// Has a slot started next.
    ///
    /// # Errors
    /// When an update is being installed, the slot is not good, or there is no updater.
    pub async fn activate(
        &self,
        spec: ActivateSpec,
        context: RequestContext,
    ) -> Result<Firmware, Problem> {
        let updater = self.shared.updater.clone();
        let activate = move || async move { updater.activate(spec.slot).await };
        self.once(Operation::FirmwareActivate, context, self.alone(), activate)
            .await?;
        self.firmware().await
    }

    /// Has the box started again; not while an update is being installed.
    ///
    /// # Errors
    /// When nobody is there to do that.
    pub async fn restart(&self, context: RequestContext) -> Result<(), Problem> {
        let updater = self.shared.updater.clone();
        let restart = move || async move { updater.restart().await };
        self.once(Operation::SystemRestart, context, self.alone(), restart)
            .await
    }

    /// That nothing was left on it by those who made it: whoever owns the box next does not know.
    ///
    /// # Errors
    /// When there are pools or hosts, or it is frozen.
    pub async fn check_unused(&self) -> Result<(), Problem> {
        let intent = self.shared.intent.read().await;
        let empty = intent.pools().is_empty() && intent.hosts().is_empty();
        match empty && intent.frozen().is_none() {
            true => Ok(()),
            false => {
                let detail =
                    "it has pools or hosts, or is frozen, which its next owner would be left";
                Err(Problem::new(ProblemCode::InUse, detail).about(self.object()))
            }
        }
    }

    /// That no pool would be forgotten.
    ///
    /// # Errors
    /// When there are pools.
    pub async fn check_poolless(&self) -> Result<(), Problem> {
        let count = self.shared.intent.read().await.pools().len();
        if count == 0 {
            return Ok(());
        }
        let detail = format!(
            "it has pools ({count}): destroy them, or say that they are given up with what they hold"
        );
        Err(Problem::new(ProblemCode::InUse, detail).about(self.object()))
    }

    /// Has the box forget its owner by `act`, and started again; not while an update is being installed.
    ///
    /// # Errors
    /// As `act` has them, or when nobody starts it again.
    pub async fn reset<F>(
        &self,
        context: RequestContext,
        act: impl FnOnce() -> F + Send + 'static,
    ) -> Result<(), Problem>
    where
        F: Future<Output = Result<(), Problem>> + Send,
    {
        let updater = self.shared.updater.clone();
        let reset = move || async move {
            // Afterwards it is too late to refuse.
            updater.check_restartable().await?;
            act().await?;
            updater.start_again().await
        };
        self.once(Operation::IdentityReset, context, self.alone(), reset)
            .await
    }

    /// Does something to the box that is soon done, whatever else is being done to it: once for a
    /// request and to the end, whatever becomes of that.
    ///
    /// # Errors
    /// As `act` has them.
    pub async fn at_once<F>(
        &self,
        operation: Operation,
        context: RequestContext,
        act: impl FnOnce() -> F + Send + 'static,
    ) -> Result<(), Problem>
    where
        F: Future<Output = Result<(), Problem>> + Send,
    {
        let any: Rule = Box::new(|_, _, _| Ok(Vec::new()));
        self.once(operation, context, any, act).await
    }

    async fn once<F>(
        &self,
        operation: Operation,
        context: RequestContext,
        rule: Rule,
        act: impl FnOnce() -> F + Send + 'static,
    ) -> Result<(), Problem>
    where
        F: Future<Output = Result<(), Problem>> + Send,
    {
        let (engine, object) = (self.clone(), self.object());
        let undertaking = Undertaking {
            operation,
            object,
            progress: Progress::default(),
        };
        let done = tokio::spawn(async move {
            let work = match engine.begin(undertaking, context, rule).await? {
                Begun::Work(work) => work,
                Begun::Before(job) => return ended(job.state, job.problem),
            };
            let result = act().await.map(|()| JobResult::default());
            work.finish(result).await.map(drop)
        });
        let done = done.await.map_err(|_| internal("the work has no end"));
        done.flatten().map_err(|problem| about(object, problem))
    }

    /// One thing at a time is done to the box itself.
    fn alone(&self) -> Rule {
        let object = self.object();
        Box::new(move |intent, _, _| check_idle(intent, object).map(|()| Vec::new()))
    }

    fn object(&self) -> ObjectRef {
        ObjectRef {
            kind: ObjectKind::System,
            id: self.id(),
        }
    }
}

/// About what a problem is, where it does not say.
fn about(object: ObjectRef, problem: Problem) -> Problem {
    match problem.object {
        None => problem.about(object),
        Some(_) => problem,
    }
}

/// What the same request came to before.
fn ended(state: JobState, problem: Option<Problem>) -> Result<(), Problem> {
    match (state, problem) {
        (JobState::Succeeded, _) => Ok(()),
        (_, Some(problem)) => Err(problem),
        (_, None) => Err(Problem::new(
            ProblemCode::Busy,
            "the same request is under way",
        )),
    }
}

/// An empty file for a bundle of so many bytes, if it has room and somebody installs it.
async fn prepare(updater: &Updater, length: u64) -> Result<(PathBuf, File), Problem> {
    if length == 0 || length > MAX_BUNDLE {
        let detail = format!("a bundle has 1 to {MAX_BUNDLE} bytes, this one {length}");
        return Err(Problem::new(ProblemCode::OutOfRange, detail));
    }
    updater.check_idle().await?;
    let folder = updater.folder().to_owned();
    let created = tokio::task::spawn_blocking(move || create(&folder, length)).await;
    created.map_err(|_| internal("the state disk was not looked at"))?
}

fn create(folder: &Path, length: u64) -> Result<(PathBuf, File), Problem> {
    let path = folder.join(BUNDLE);
    let failed = |error: io::Error| disk_problem(&path, &error);
    // One that was left: the updater is idle.
    remove(&path);
    let space = nix::sys::statvfs::statvfs(folder).map_err(|errno| failed(errno.into()))?;
    let free = space.blocks_available() * space.fragment_size();
    if free < length.saturating_add(LEFT_FREE) {
        let detail = format!(
            "the bundle has {length} bytes, the state disk has {free} left, of which {LEFT_FREE} \
             are for other things"
        );
        let mut problem = Problem::new(ProblemCode::StateDiskFull, detail);
        problem.retryable = false;
        return Err(problem);
    }
    let mut open = OpenOptions::new();
    let file = open.write(true).create_new(true).mode(0o600).open(&path);
    let file = file.map_err(failed)?;
    Ok((path, file))
}

/// Removes a bundle that is there.
fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "failed to remove a bundle");
        }
        _ => {}
    }
}

/// Removes what an agent before this one was not through with. An updater that is at it has it
/// open.
pub(super) fn tidy(updater: &Updater) {
    remove(&updater.folder().join(BUNDLE));
}

fn disk_problem(path: &Path, error: &io::Error) -> Problem {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ProblemCode::StateDiskFull,
        _ => ProblemCode::Internal,
    };
    let detail = format!("failed to keep the bundle at {}: {error}", path.display());
    Problem::new(code, detail)
}

/// What the thread does that takes a bundle.
struct Taking {
    id: Uuid,
    object: ObjectRef,
    updater: Updater,
    meter: Meter,
    length: u64,
}

impl Taking {
    fn run(
        self,
        (path, file): (PathBuf, File),
        given: Pieces,
        runtime: &Handle,
    ) -> Result<JobResult, Problem> {
        let received = self.receive(&path, file, given);
        let outcome = received.and_then(|result| {
            let tell = |percent: u64| {
                let written = self.length * percent / 100;
                reach(&self.meter, self.length + written);
            };
            let begin = || match self.meter.settle() {
                true => Ok(()),
                false => Err(cancelled(self.id)),
            };
            let installed = self.updater.install((self.id, &path), begin, tell);
            runtime.block_on(installed)?;
            reach(&self.meter, 2 * self.length);
            Ok(result)
        });
        // An updater that we lost sight of may be about to read it.
        let lost = |problem: &Problem| problem.code == ProblemCode::Interrupted;
        if !outcome.as_ref().is_err_and(lost) {
            remove(&path);
        }
        outcome.map_err(|problem| about(self.object, problem))
    }

    /// Keeps the body as it is.
    fn receive(
        &self,
        path: &Path,
        mut file: File,
        mut given: Pieces,
    ) -> Result<JobResult, Problem> {
        let (mut hash, mut length) = (Sha256::new(), 0);
        while let Some(piece) = given.next(self.object, "nothing is installed")? {
            let written = file.write_all(&piece);
            written.map_err(|error| disk_problem(path, &error))?;
            hash.update(&piece);
            length += piece.len() as u64;
            reach(&self.meter, length);
        }
        if length != self.length {
            let detail = format!("of {} bytes there came {length}", self.length);
            return Err(Problem::new(ProblemCode::MalformedRequest, detail));
        }
        Ok(JobResult {
            written: Some(length),
            sha256: Some(Digested::from(<[u8; 32]>::from(hash.finalize()))),
            ..JobResult::default()
        })
    }
}
