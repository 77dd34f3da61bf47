//! Importing images of strangers'.
//!
//! The body goes onto a volume that the job has for itself, since what it holds is not in order.
//! From there a process that is shut in reads it, and what that says of the disk is taken like an
//! upload of extents.
//!
//! When the image turns out to be damaged, or nobody wants it any more, there is nothing to go on
//! from: whoever tries again sends all of it. So what was written of its disk does not stay.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use ashlar_convert::{Confinement, Conversion, ConvertError, Order};
use ashlar_protocol::{JobResult, ObjectRef, Operation, Problem, ProblemCode, Progress};
use ashlar_targetd_protocol::OpenObject;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::import::{Import, Pieces, Upload, Uploading, failed, reach, write};
use crate::data::{Device, Format, ImageFormat, Turn, WriteError, Writer, wipe, write_problem};
use crate::domain::Undertaking;
use crate::domain::decide::data::{ImageRoom, import_image};
use crate::domain::record::Unit;
use crate::domain::view::Look;
use crate::engine::{Begun, Engine, Meter, Opened, RequestContext, Rule};

/// Bytes of the process's that are read at once.
const CHUNK: usize = 256 << 10;

impl Engine {
    pub(super) async fn import_image(
        &self,
        what: Import,
        format: Option<ImageFormat>,
        (context, leaving): (RequestContext, CancellationToken),
    ) -> Result<Upload, Problem> {
        let Import { volume, length, .. } = what;
        let object = Unit::Volume(volume).object();
        let scratch = Uuid::new_v4();
        let room = ImageRoom { scratch, length };
        let rule: Rule = Box::new(move |intent, generation, facts| {
            import_image(intent, volume, room, generation, facts)
        });
        let undertaking = Undertaking {
            operation: Operation::VolumeImport,
            object,
            progress: Progress::default(),
        };
        let work = match self.begin(undertaking, context, rule).await? {
            Begun::Work(work) => work,
            Begun::Before(job) => return Ok(Upload::Before(Box::new(job))),
        };
        let (target, kept) = match self.open_both(volume, room).await {
            Ok(both) => both,
            Err(problem) => return Err(failed(work, problem).await),
        };
        let meter = work.meter();
        if let Some(length) = length {
            meter.expect(length + target.device.size);
        }
        let turn = self.turn(object, what.bandwidth, &meter).await;
        let (pool, block) = self.pool_and_block(volume).await;
        // What a client is to be paced at, or gives up, is not this.
        let lanes = &self.shared.lanes;
        let clearing = lanes.turn_for_room(pool, None, CancellationToken::new());
        let conversion = Taking {
            engine: self.clone(),
            object,
            turn,
            clearing,
            block,
            scratch,
            format,
            meter,
            runtime: Handle::current(),
        };
        Ok(Upload::Begun(Uploading::begin(
            object,
            work,
            leaving,
            move |given| conversion.run(&target, kept, given),
        )))
    }

    /// Opens the volume, and what the image is kept on until it is read.
    async fn open_both(&self, volume: Uuid, room: ImageRoom) -> Result<(Opened, Opened), Problem> {
        let object = Unit::Volume(volume).object();
        if let Some(length) = room.length {
            self.check_space(object, length).await?;
        }
        let target = self.open(OpenObject::Volume(volume), true).await?;
        let kept = self.open(OpenObject::Volume(room.scratch), true).await;
        let kept = kept.map_err(|problem| no_room(object, &problem))?;
        Ok((target, kept))
    }

    /// A volume's pool, and the size of its blocks.
    async fn pool_and_block(&self, volume: Uuid) -> (Uuid, u64) {
        let intent = self.shared.intent.read().await;
        let id = intent.volume(volume).map(|entry| entry.record.pool);
        let pool = id.and_then(|pool| intent.pool(pool));
        // Whatever it is of what is gone: nothing is written there.
        let block = pool.map_or(1, |pool| pool.record.block_size);
        (id.unwrap_or_default(), block)
    }

    /// Whether the pool has so many bytes left, as far as it tells.
    async fn check_space(&self, object: ObjectRef, length: u64) -> Result<(), Problem> {
        let pool = {
            let intent = self.shared.intent.read().await;
            intent.volume(object.id).map(|entry| entry.record.pool)
        };
        let Some(pool) = pool else { return Ok(()) };
        let Look::Report(report) = self.look_at_pool(pool).await else {
            return Ok(());
        };
        let Some(usage) = report.usage else {
            return Ok(());
        };
        let left = usage.data_total.saturating_sub(usage.data_used);
        let left = left.saturating_mul(usage.block.bytes().0);
        if length <= left {
            return Ok(());
        }
        let detail = format!(
            "{object}: the image has {length} bytes, pool {pool} has {left} left to keep it on \
             until it is read"
        );
        Err(Problem::new(ProblemCode::NoSpace, detail).about(object))
    }
}

/// What is wrong with the volume that nobody knows of, told of the one it is for.
fn no_room(object: ObjectRef, problem: &Problem) -> Problem {
    let code = match problem.code {
        ProblemCode::NotFound => ProblemCode::KernelFailed,
        code => code,
    };
    let detail = format!(
        "{object}: what the image is to be kept on until it is read is not there: {}",
        problem.detail
    );
    Problem::new(code, detail).about(object)
}

/// What the writing thread does.
struct Taking {
    engine: Engine,
    object: ObjectRef,
    turn: Turn,
    /// For what is written to be cleared again.
    clearing: Turn,
    /// Of the pool, in bytes.
    block: u64,
    scratch: Uuid,
    format: Option<ImageFormat>,
    meter: Meter,
    runtime: Handle,
}

impl Taking {
    fn run(self, target: &Opened, kept: Opened, given: Pieces) -> Result<JobResult, Problem> {
        let sha256 = self.receive(&kept, given)?.sha256;
        // Nobody writes to it any more.
        drop(kept);
        let kept = self.engine.open(OpenObject::Volume(self.scratch), false);
        let kept = self.runtime.block_on(kept);
        let kept = kept.map_err(|problem| no_room(self.object, &problem))?;
        let result = self.convert(target, &kept, self.meter.progress().done)?;
        Ok(JobResult { sha256, ..result })
    }

    /// Keeps the body as it is.
    fn receive(&self, kept: &Opened, given: Pieces) -> Result<JobResult, Problem> {
        let step = |reached| reach(&self.meter, reached);
        write(
            self.object,
            (kept, &self.turn),
            (Format::Raw, 0),
            &step,
            given,
        )
    }

    /// Has an image of so many bytes read, and writes what it is of.
    fn convert(&self, target: &Opened, image: &Opened, length: u64) -> Result<JobResult, Problem> {
        let device = &target.device;
        let order = Order {
            program: self.engine.shared.convert.clone(),
            length,
            limit: device.size,
            format: self.format,
        };
        let conversion = self.start(&order, &image.device.file)?;
        let stop = conversion.stopper();
        let meter = self.meter.clone();
        let stopping = self.runtime.spawn(async move {
            meter.cancelled().await;
            stop.stop();
        });
        let outcome = self.take(conversion, target, length);
        stopping.abort();
        outcome
    }

    /// Writes what the process says.
    fn take(
        &self,
        mut conversion: Conversion,
        target: &Opened,
        length: u64,
    ) -> Result<JobResult, Problem> {
        let device = &target.device;
        let refused = |error| self.refused(error);
        let opened = conversion.opened().map_err(refused)?;
        tracing::info!(object = %self.object, format = %opened.format, size = opened.size,
            "reads an image");
        if opened.confinement != Confinement::Full {
            tracing::warn!(object = %self.object, "the kernel has no landlock to shut the reader of \
                an image in with; seccomp does alone");
        }
        self.meter.expect(length + device.size.min(opened.size));
        let step = |reached| reach(&self.meter, length + reached);
        let behind = Device::behind(&device.file, &self.turn);
        let mut writer = Writer::new(behind, device.size, (Format::Extents, 0), &step);
        let taken = match copy(conversion.frames(), &mut writer) {
            Ok(()) => conversion.finish().map_err(refused),
            Err(error) => Err(self.not_copied(error)),
        };
        let taken = taken.and_then(|()| {
            let behind = writer.clear_behind();
            behind.map_err(|error| write_problem(self.object, error))
        });
        // What is gathered and not written yet is written at the end.
        let begun = taken.is_ok() || writer.has_begun();
        let written = taken.and_then(|()| {
            let finished = writer.finish();
            finished.map_err(|error| write_problem(self.object, error))
        });
        written.map_err(|problem| match begun {
            true => self.wiped(target, problem),
            false => problem,
        })
    }

    /// Has the volume hold nothing. `problem` is why; it says so if that failed, too.
    fn wiped(&self, target: &Opened, mut problem: Problem) -> Problem {
        let device = &target.device;
        let behind = Device::behind(&device.file, &self.clearing);
        if let Err(error) = wipe(behind, device.size, self.block) {
            let left = write_problem(self.object, error).detail;
            tracing::error!(object = %self.object, error = left, "failed to clear what was written");
            problem.detail += &format!("; what was written until then is left: {left}");
        }
        problem
    }

    fn start(&self, order: &Order, image: &File) -> Result<Conversion, Problem> {
        let image = any_place(image).map_err(ConvertError::Run);
        let conversion = image.and_then(|image| Conversion::spawn(order, image));
        conversion.map_err(|error| self.refused(error))
    }

    fn refused(&self, error: ConvertError) -> Problem {
        let object = self.object;
        let code = match &error {
            ConvertError::TooLarge(_) => ProblemCode::OutOfRange,
            ConvertError::Refused(_) => ProblemCode::MalformedRequest,
            ConvertError::Stopped => ProblemCode::Interrupted,
            ConvertError::Failed(_) => ProblemCode::KernelFailed,
            ConvertError::Run(_) | ConvertError::Died(_) => ProblemCode::Internal,
        };
        let cause = std::error::Error::source(&error);
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        let detail = format!("{object}: {error}{cause}");
        if code == ProblemCode::Internal {
            tracing::error!(%object, %error, "an image was not read");
        }
        Problem::new(code, detail).about(object)
    }

    fn not_copied(&self, error: CopyError) -> Problem {
        match error {
            CopyError::Read(error) => self.refused(ConvertError::Run(error)),
            // Not the client's: it sent no extents.
            CopyError::Write(WriteError::Extents(error)) => {
                let object = self.object;
                tracing::error!(%object, %error, "the reader of an image spoke out of turn");
                let detail = format!("{object}: the reader of the image failed: {error}");
                Problem::new(ProblemCode::Internal, detail).about(object)
            }
            CopyError::Write(error) => write_problem(self.object, error),
        }
    }
}

enum CopyError {
    Read(io::Error),
    Write(WriteError),
}

/// Takes what the process says of the disk.
fn copy(from: &mut impl Read, writer: &mut Writer<'_>) -> Result<(), CopyError> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => writer.take(&chunk[..count]).map_err(CopyError::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CopyError::Read(error)),
        }
    }
}

/// The same device to be read at any place, not by whole blocks only: tables of images are small.
fn any_place(device: &File) -> io::Result<OwnedFd> {
    let device = device.try_clone()?;
    let flags = OFlag::from_bits_retain(fcntl(&device, FcntlArg::F_GETFL)?);
    fcntl(&device, FcntlArg::F_SETFL(flags - OFlag::O_DIRECT))?;
    Ok(device.into())
}
