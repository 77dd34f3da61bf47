use std::fmt;

use ashlar_image_formats::Plan;
use ashlar_protocol::{
    Extent, ExtentKind, JobResult, ObjectKind, ObjectRef, Operation, Page, Problem, ProblemCode,
    Progress,
};
use ashlar_targetd_protocol::OpenObject;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::import::failed;
use super::{STALLED, UNDER_WAY, broken_off, read_problem};
use crate::data::{
    Device, Format, ImageWriter, Make, ReadError, Reader, Segment, Shape, Turn, Whole,
};
use crate::domain::Undertaking;
use crate::domain::decide::data::{ALIGNMENT, check_bandwidth, export};
use crate::engine::{Begun, Engine, ExtentsQuery, Meter, Opened, RequestContext, Work, internal};

/// Extents looked up at once.
const PAGE: usize = 1000;

/// Most bytes read between two looks at how far it is.
const STRIDE: u64 = 64 << 20;

/// What is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// Of which volume or snapshot.
    pub object: ObjectRef,
    /// What the body is to be; of an image, in which format.
    pub shape: Shape,
    /// From which byte on.
    pub offset: u64,
    /// How many; up to the end when absent.
    pub length: Option<u64>,
    /// Only what differs from this snapshot.
    pub since: Option<Uuid>,
    /// Bytes a second at the disks at most; as fast as may be when absent.
    pub bandwidth: Option<u64>,
}

/// A body that is being read.
#[derive(Debug)]
pub struct Download {
    /// It, piece by piece. An error is its end before it is whole.
    pub pieces: mpsc::Receiver<Result<Bytes, Broken>>,
    /// How long it is, if that is known.
    pub length: Option<u64>,
}

/// A body ends before it is whole.
#[derive(Debug)]
pub struct Broken(Problem);

impl Broken {
    /// For a reason of our own.
    pub(crate) fn internal(detail: &str) -> Broken {
        Broken(internal(detail))
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Broken {}

impl Engine {
    /// Begins to read what a volume or snapshot holds. `leaving` says that the connection is
    /// being closed from here.
    ///
    /// # Errors
    /// When a volume is connected or at work, or it cannot be opened.
    pub async fn export(
        &self,
        what: Export,
        context: RequestContext,
        leaving: CancellationToken,
    ) -> Result<Download, Problem> {
        check_bandwidth(what.object, what.bandwidth)?;
        let engine = self.clone();
        // A request that is dropped while this is under way drops what has come of it.
        let begun = tokio::spawn(engine.begin_export(what, context, leaving));
        let lost = |_| internal("the work has no beginning").about(what.object);
        begun.await.map_err(lost)?
    }

    async fn begin_export(
        self,
        what: Export,
        context: RequestContext,
        leaving: CancellationToken,
    ) -> Result<Download, Problem> {
        let request = context.id;
        let work = match self.begin(what.undertaking(), context, what.rule()).await? {
            Begun::Work(work) => work,
            Begun::Before(_) => return Err(once(what.object, request)),
        };
        let how = (work.meter(), leaving);
        let (opened, reading) = match self.prepare(&what, how).await {
            Ok(prepared) => prepared,
            Err(problem) => return Err(failed(work, problem).await),
        };
        let (sender, pieces) = mpsc::channel(UNDER_WAY);
        let length = match (&reading.plan, what.shape) {
            (Some(plan), _) => plan.length(),
            (None, Shape::Stream(Format::Raw)) => Some(reading.to - what.offset),
            (None, _) => None,
        };
        tokio::spawn(reading.conclude(opened, work, sender));
        Ok(Download { pieces, length })
    }

    async fn prepare(
        &self,
        what: &Export,
        (meter, leaving): (Meter, CancellationToken),
    ) -> Result<(Opened, Reading), Problem> {
        let device = match what.object.kind {
            ObjectKind::Snapshot => OpenObject::Snapshot(what.object.id),
            _ => OpenObject::Volume(what.object.id),
        };
        let opened = self.open(device, false).await?;
        let size = opened.device.size;
        let to = what.end(size)?;
        meter.expect(to);
        let plan = what.plan(size)?;
        let turn = self.turn(what.object, what.bandwidth, &meter).await;
        let mut reading = Reading {
            engine: self.clone(),
            what: *what,
            turn: Some(turn),
            size,
            to,
            meter,
            leaving,
            plan: None,
            page: Page {
                items: Vec::new(),
                next: None,
            },
        };
        if let Some(plan) = plan {
            reading.plan = Some(reading.planned(plan).await?);
        }
        reading.page = reading.look(what.offset).await?;
        Ok((opened, reading))
    }
}

impl Export {
    fn undertaking(&self) -> Undertaking {
        Undertaking {
            operation: match self.object.kind {
                ObjectKind::Snapshot => Operation::SnapshotExport,
                _ => Operation::VolumeExport,
            },
            object: self.object,
            progress: Progress {
                done: self.offset,
                total: None,
            },
        }
    }

    fn rule(&self) -> crate::engine::Rule {
        let (object, offset) = (self.object, self.offset);
        Box::new(move |intent, _, _| export(intent, object, offset).map(|()| Vec::new()))
    }

    /// An image without anything in it, if that is what it is to be.
    fn plan(&self, size: u64) -> Result<Option<Plan>, Problem> {
        let Shape::Image(Some(format)) = self.shape else {
            return Ok(None);
        };
        let plan = Plan::new(format, size).map(Some);
        plan.map_err(|error| {
            let detail = format!("{}: {error}", self.object);
            Problem::new(ProblemCode::OutOfRange, detail).about(self.object)
        })
    }

    /// Where it ends, in something of `size` bytes.
    fn end(&self, size: u64) -> Result<u64, Problem> {
        let Some(length) = self.length else {
            return Ok(size);
        };
        let end = self.offset.saturating_add(length);
        if end <= size && (end == size || length.is_multiple_of(ALIGNMENT)) {
            return Ok(end);
        }
        let detail = format!(
            "length {length} from {} on is past the {size} bytes that there are, or no multiple \
             of {ALIGNMENT}",
            self.offset
        );
        Err(Problem::new(ProblemCode::OutOfRange, detail).about(self.object))
    }
}

fn once(object: ObjectRef, request: Uuid) -> Problem {
    let detail = format!("what request {request} has read is not kept; ask under another id");
    Problem::new(ProblemCode::RequestIdReused, detail).about(object)
}

/// What the reading thread does.
struct Reading {
    engine: Engine,
    what: Export,
    /// Taken by the thread.
    turn: Option<Turn>,
    size: u64,
    to: u64,
    meter: Meter,
    leaving: CancellationToken,
    /// The image, if it is to be one.
    plan: Option<Plan>,
    /// What is mapped next.
    page: Page<Extent>,
}

impl Reading {
    /// Reads, ends the job, and only then sends the last piece: whoever has all of it may
    /// change what it was read from.
    async fn conclude(
        self,
        opened: Opened,
        work: Work,
        sender: mpsc::Sender<Result<Bytes, Broken>>,
    ) {
        let object = self.what.object;
        let runtime = Handle::current();
        let pieces = sender.clone();
        let reading = spawn_blocking(move || self.run(&runtime, opened, &pieces)).await;
        let lost = |_| internal("the reading thread failed").about(object);
        let last = match reading.map_err(lost).and_then(|outcome| outcome) {
            Ok(Whole { last, digest }) => {
                let result = JobResult {
                    sha256: Some(digest.into()),
                    ..JobResult::default()
                };
                work.finish(Ok(result)).await.map(|_| last)
            }
            Err(problem) => Err(failed(work, problem).await),
        };
        // Whoever has gone does not need to know.
        drop(sender.send(last.map_err(Broken)).await);
    }

    fn run(
        mut self,
        runtime: &Handle,
        opened: Opened,
        pieces: &mpsc::Sender<Result<Bytes, Broken>>,
    ) -> Result<Whole, Problem> {
        let meter = self.meter.clone();
        let mut send = |bytes: Bytes| {
            runtime.block_on(async {
                tokio::select! {
                    sent = tokio::time::timeout(STALLED, pieces.send(Ok(bytes))) => {
                        matches!(sent, Ok(Ok(())))
                    }
                    () = meter.cancelled() => false,
                }
            })
        };
        let object = self.what.object;
        let turn = self.turn.take();
        let file = match &turn {
            Some(turn) => Device::behind(&opened.device.file, turn),
            None => Device::from(&opened.device.file),
        };
        let mut maker: Box<dyn Make> = match (self.plan.take(), self.what.shape) {
            (Some(plan), _) => {
                let identity = Uuid::new_v4().into_bytes();
                let writer = ImageWriter::begin(file, plan, identity, &mut send);
                Box::new(writer.map_err(|error| self.problem(&error))?)
            }
            (None, Shape::Stream(format)) => Box::new(Reader::new(file, format, &mut send)),
            (None, Shape::Image(_)) => return Err(internal("an image has no plan").about(object)),
        };
        let mut at = self.what.offset;
        loop {
            for extent in std::mem::take(&mut self.page.items) {
                at = self.extent(&mut *maker, at, &extent)?;
            }
            match self.page.next.take().and_then(|next| next.parse().ok()) {
                Some(next) if at < self.to => self.page = runtime.block_on(self.look(next))?,
                _ => break,
            }
        }
        self.gap(&mut *maker, at, self.to)?;
        let whole = maker.finish(self.size);
        whole.map_err(|error| self.problem(&error))
    }

    /// Work that was cancelled says so itself at its end.
    fn problem(&self, error: &ReadError) -> Problem {
        let object = self.what.object;
        match error {
            ReadError::Stopped => broken_off(object, "not all of it was read", &self.leaving),
            error => read_problem(object, error),
        }
    }

    /// An image with all that is mapped in it.
    async fn planned(&self, mut plan: Plan) -> Result<Plan, Problem> {
        let mut from = Some(0);
        let mut reached = 0;
        while let Some(offset) = from.filter(|_| !self.meter.is_cancelled()) {
            let page = self.look(offset).await?;
            let mapped = page.items.iter().filter(|e| e.kind == ExtentKind::Data);
            for extent in mapped {
                let begin = extent.offset.clamp(reached, self.size);
                let end = extent.offset.saturating_add(extent.length);
                let end = end.clamp(begin, self.size);
                plan.add(begin, end - begin);
                reached = end;
            }
            from = page.next.and_then(|next| next.parse().ok());
        }
        Ok(plan)
    }

    /// What is mapped from a byte on. When the pool's metadata cannot be looked at, everything
    /// may be; what differs cannot be told then.
    async fn look(&self, from: u64) -> Result<Page<Extent>, Problem> {
        let query = ExtentsQuery {
            since: self.what.since,
            offset: from,
            limit: PAGE,
        };
        let ObjectRef { kind, id } = self.what.object;
        match self.engine.extents(kind, id, &query).await {
            Err(problem) if self.what.since.is_none() => {
                tracing::warn!(object = %self.what.object, %problem, "reads what is not mapped, too");
                let all = Extent {
                    offset: from,
                    length: self.size - from,
                    kind: ExtentKind::Data,
                };
                Ok(Page {
                    items: vec![all],
                    next: None,
                })
            }
            page => page,
        }
    }

    /// An extent as far as it is asked for, and what is before it.
    fn extent(&self, maker: &mut dyn Make, at: u64, extent: &Extent) -> Result<u64, Problem> {
        let begin = extent.offset.clamp(at, self.to);
        let end = extent
            .offset
            .saturating_add(extent.length)
            .clamp(begin, self.to);
        self.gap(maker, at, begin)?;
        self.stretch(maker, begin, end, extent.kind == ExtentKind::Data)?;
        Ok(end)
    }

    /// What is not mapped reads as zeros, unless only differences are asked for.
    fn gap(&self, maker: &mut dyn Make, begin: u64, end: u64) -> Result<(), Problem> {
        match self.what.since {
            None => self.stretch(maker, begin, end, false),
            Some(_) => Ok(()),
        }
    }

    fn stretch(
        &self,
        maker: &mut dyn Make,
        begin: u64,
        end: u64,
        mapped: bool,
    ) -> Result<(), Problem> {
        // Holes are told as they are; what is read is watched meanwhile.
        let stride = if mapped { STRIDE } else { (end - begin).max(1) };
        let mut offset = begin;
        while offset < end {
            let length = (end - offset).min(stride);
            let read = maker.segment(Segment {
                offset,
                length,
                mapped,
            });
            read.map_err(|error| self.problem(&error))?;
            offset += length;
            let done = self.meter.progress().done;
            self.meter.advance(offset.saturating_sub(done));
        }
        Ok(())
    }
}
