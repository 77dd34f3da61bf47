use ashlar_protocol::{Job, JobResult, ObjectRef, Operation, Problem, Progress};
use ashlar_targetd_protocol::OpenObject;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{UNDER_WAY, broken_off};
use crate::data::{Device, Format, Shape, Step, Turn, Writer, write_problem};
use crate::domain::Undertaking;
use crate::domain::decide::data::{check_bandwidth, import};
use crate::domain::record::Unit;
use crate::engine::{Begun, Engine, Meter, Opened, RequestContext, Rule, Work, internal};

/// What is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import {
    /// Where to.
    pub volume: Uuid,
    /// What the body is.
    pub shape: Shape,
    /// Where raw bytes begin.
    pub offset: u64,
    /// How long the body is, if that is known.
    pub length: Option<u64>,
    /// Bytes a second at the disks at most; as fast as may be when absent.
    pub bandwidth: Option<u64>,
}

/// What a request to write came to.
#[derive(Debug)]
pub enum Upload {
    /// The body is taken.
    Begun(Uploading),
    /// The same request came before; this is how it is.
    Before(Box<Job>),
}

/// A body on its way to a volume. Dropped, it has broken off.
#[derive(Debug)]
pub struct Uploading {
    object: ObjectRef,
    /// `None` says that all of it was given.
    pieces: mpsc::Sender<Option<Bytes>>,
    meter: Meter,
    ending: JoinHandle<Result<JobResult, Problem>>,
}

impl Uploading {
    /// Gives the next piece, once there is room for it; whether it is wanted. Cancel-safe only
    /// in that the whole may be dropped.
    pub async fn give(&self, piece: Bytes) -> bool {
        self.pieces.send(Some(piece)).await.is_ok()
    }

    /// Resolves when no more is wanted. Cancel-safe.
    pub async fn unwanted(&self) {
        tokio::select! {
            () = self.meter.cancelled() => {}
            () = self.pieces.closed() => {}
        }
    }

    /// There is no more: because that was all, or it broke off. Waits for what it came to.
    ///
    /// # Errors
    /// When it broke off, or not all of it could be written.
    pub async fn finish(self, whole: bool) -> Result<JobResult, Problem> {
        if whole {
            // Whoever does not take it says why below.
            drop(self.pieces.send(None).await);
        }
        drop(self.pieces);
        let lost = |_| internal("the work has no end").about(self.object);
        self.ending.await.map_err(lost)?
    }
}

impl Engine {
    /// Begins to write to a volume what is then given. `leaving` says that the connection is
    /// being closed from here.
    ///
    /// # Errors
    /// When the volume is connected or at work, or it cannot be opened.
    pub async fn import(
        &self,
        what: Import,
        context: RequestContext,
        leaving: CancellationToken,
    ) -> Result<Upload, Problem> {
        let (engine, object) = (self.clone(), Unit::Volume(what.volume).object());
        check_bandwidth(object, what.bandwidth)?;
        let begun = async move {
            let how = (context, leaving);
            match what.shape {
                Shape::Stream(format) => engine.import_stream(what, format, how).await,
                Shape::Image(format) => engine.import_image(what, format, how).await,
            }
        };
        // A request that is dropped while this is under way drops what has come of it.
        let lost = |_| internal("the work has no beginning").about(object);
        tokio::spawn(begun).await.map_err(lost)?
    }

    async fn import_stream(
        &self,
        what: Import,
        format: Format,
        (context, leaving): (RequestContext, CancellationToken),
    ) -> Result<Upload, Problem> {
        let Import { volume, offset, .. } = what;
        let object = Unit::Volume(volume).object();
        let length = what.length.filter(|_| format == Format::Raw);
        let undertaking = Undertaking {
            operation: Operation::VolumeImport,
            object,
            progress: Progress {
                done: offset,
                total: length.map(|length| offset.saturating_add(length)),
            },
        };
        let rule: Rule =
            Box::new(move |intent, _, _| import(intent, volume, offset).map(|()| Vec::new()));
        let work = match self.begin(undertaking, context, rule).await? {
            Begun::Work(work) => work,
            Begun::Before(job) => return Ok(Upload::Before(Box::new(job))),
        };
        let opened = match self.open(OpenObject::Volume(volume), true).await {
            Ok(opened) => opened,
            Err(problem) => return Err(failed(work, problem).await),
        };
        let meter = work.meter();
        if length.is_none() {
            meter.expect(opened.device.size);
        }
        let turn = self.turn(object, what.bandwidth, &meter).await;
        let uploading = Uploading::begin(object, work, leaving, move |given| {
            let step = |reached| reach(&meter, reached);
            write(object, (&opened, &turn), (format, offset), &step, given)
        });
        Ok(Upload::Begun(uploading))
    }
}

/// So much is done now; whether to go on.
pub(in crate::engine) fn reach(meter: &Meter, done: u64) -> bool {
    let before = meter.progress().done;
    meter.advance(done.saturating_sub(before));
    !meter.is_cancelled()
}

impl Uploading {
    /// Has a thread take the body, and then ends the work with what that comes to.
    pub(in crate::engine) fn begin(
        object: ObjectRef,
        work: Work,
        leaving: CancellationToken,
        take: impl FnOnce(Pieces) -> Result<JobResult, Problem> + Send + 'static,
    ) -> Uploading {
        let (pieces, given) = mpsc::channel(UNDER_WAY);
        let given = Pieces { given, leaving };
        let meter = work.meter();
        let ending = tokio::spawn(async move {
            let outcome = spawn_blocking(move || take(given)).await;
            let lost = |_| internal("the writing thread failed").about(object);
            let outcome = outcome.map_err(lost).and_then(|outcome| outcome);
            work.finish(outcome).await
        });
        Uploading {
            object,
            pieces,
            meter,
            ending,
        }
    }
}

/// Tells the end of work that could not begin in earnest.
pub(in crate::engine) async fn failed(work: Work, problem: Problem) -> Problem {
    match work.finish(Err(problem.clone())).await {
        Err(problem) => problem,
        Ok(_) => problem,
    }
}

/// A body as its thread is given it.
pub(in crate::engine) struct Pieces {
    /// `None` says that it is whole.
    given: mpsc::Receiver<Option<Bytes>>,
    /// The connection is being closed from here.
    leaving: CancellationToken,
}

impl Pieces {
    /// The next piece; `None` when it is whole.
    ///
    /// # Errors
    /// When there will be no more. `left` says what becomes of what there was.
    pub(in crate::engine) fn next(
        &mut self,
        object: ObjectRef,
        left: &str,
    ) -> Result<Option<Bytes>, Problem> {
        let given = self.given.blocking_recv();
        given.ok_or_else(|| broken_off(object, left, &self.leaving))
    }
}

/// Writes all of a body.
pub(super) fn write(
    object: ObjectRef,
    (opened, turn): (&Opened, &Turn),
    how: (Format, u64),
    step: Step<'_>,
    mut body: Pieces,
) -> Result<JobResult, Problem> {
    let device = &opened.device;
    let behind = Device::behind(&device.file, turn);
    let mut writer = Writer::new(behind, device.size, how, step);
    let problem = |error| write_problem(object, error);
    loop {
        match body.next(object, "what was written until then stays") {
            Ok(Some(piece)) => {
                if let Err(error) = writer.take(&piece) {
                    keep(object, writer);
                    return Err(problem(error));
                }
            }
            Ok(None) => return writer.finish().map_err(problem),
            Err(problem) => {
                keep(object, writer);
                return Err(problem);
            }
        }
    }
}

/// Makes durable what has come, so that the progress told is where to go on.
pub(super) fn keep(object: ObjectRef, writer: Writer<'_>) {
    if let Err(error) = writer.abandon() {
        tracing::warn!(%object, %error, "failed to keep what was written");
    }
}
