use std::fmt;

use ashlar_protocol::{
    Extent, ExtentKind, JobResult, ObjectKind, ObjectRef, Operation, Page, Problem, ProblemCode,
    Progress,
};
use ashlar_targetd_protocol::OpenObject;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::import::failed;
use super::{STALLED, UNDER_WAY, read_problem};
use crate::data::{Format, Reader, Segment, Whole};
use crate::domain::Undertaking;
use crate::domain::decide::data::{ALIGNMENT, export};
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
    /// What the body is to be.
    pub format: Format,
    /// From which byte on.
    pub offset: u64,
    /// How many; up to the end when absent.
    pub length: Option<u64>,
    /// Only what differs from this snapshot.
    pub since: Option<Uuid>,
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

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Broken {}

impl Engine {
    /// Begins to read what a volume or snapshot holds.
    ///
    /// # Errors
    /// When a volume is connected or at work, or it cannot be opened.
    pub async fn export(&self, what: Export, context: RequestContext) -> Result<Download, Problem> {
        let request = context.id;
        let work = match self.begin(what.undertaking(), context, what.rule()).await? {
            Begun::Work(work) => work,
            Begun::Before(_) => return Err(once(what.object, request)),
        };
        let (opened, reading) = match self.prepare(&what, work.meter()).await {
            Ok(prepared) => prepared,
            Err(problem) => return Err(failed(work, problem).await),
        };
        let (sender, pieces) = mpsc::channel(UNDER_WAY);
        let length = reading.to - what.offset;
        tokio::spawn(reading.conclude(opened, work, sender));
        Ok(Download {
            pieces,
            length: (what.format == Format::Raw).then_some(length),
        })
    }

    async fn prepare(&self, what: &Export, meter: Meter) -> Result<(Opened, Reading), Problem> {
        let device = match what.object.kind {
            ObjectKind::Snapshot => OpenObject::Snapshot(what.object.id),
            _ => OpenObject::Volume(what.object.id),
        };
        let opened = self.open(device, false).await?;
        let size = opened.device.size;
        let to = what.end(size)?;
        meter.expect(to);
        let mut reading = Reading {
            engine: self.clone(),
            what: *what,
            size,
            to,
            meter,
            page: Page {
                items: Vec::new(),
                next: None,
            },
        };
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
    size: u64,
    to: u64,
    meter: Meter,
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
        let mut reader = Reader::new(&opened.device.file, self.what.format, &mut send);
        let object = self.what.object;
        let mut at = self.what.offset;
        loop {
            for extent in std::mem::take(&mut self.page.items) {
                at = self.extent(&mut reader, at, &extent)?;
            }
            match self.page.next.take().and_then(|next| next.parse().ok()) {
                Some(next) if at < self.to => self.page = runtime.block_on(self.look(next))?,
                _ => break,
            }
        }
        self.gap(&mut reader, at, self.to)?;
        let whole = reader.finish(self.size);
        whole.map_err(|error| read_problem(object, &error))
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
    fn extent(&self, reader: &mut Reader<'_>, at: u64, extent: &Extent) -> Result<u64, Problem> {
        let begin = extent.offset.clamp(at, self.to);
        let end = extent
            .offset
            .saturating_add(extent.length)
            .clamp(begin, self.to);
        self.gap(reader, at, begin)?;
        self.stretch(reader, begin, end, extent.kind == ExtentKind::Data)?;
        Ok(end)
    }

    /// What is not mapped reads as zeros, unless only differences are asked for.
    fn gap(&self, reader: &mut Reader<'_>, begin: u64, end: u64) -> Result<(), Problem> {
        match self.what.since {
            None => self.stretch(reader, begin, end, false),
            Some(_) => Ok(()),
        }
    }

    fn stretch(
        &self,
        reader: &mut Reader<'_>,
        begin: u64,
        end: u64,
        mapped: bool,
    ) -> Result<(), Problem> {
        // Holes are told as they are; what is read is watched meanwhile.
        let stride = if mapped { STRIDE } else { (end - begin).max(1) };
        let mut offset = begin;
        while offset < end {
            let length = (end - offset).min(stride);
            let read = reader.segment(Segment {
                offset,
                length,
                mapped,
            });
            read.map_err(|error| read_problem(self.what.object, &error))?;
            offset += length;
            let done = self.meter.progress().done;
            self.meter.advance(offset.saturating_sub(done));
        }
        Ok(())
    }
}
