//! Bodies that are what volumes hold: taken and given piece by piece, however long they are.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ashlar_protocol::firmware::BUNDLE_MEDIA_TYPE;
use ashlar_protocol::{JobState, ObjectKind, ObjectRef, Operation, Problem, ProblemCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::headers::cut;
use super::query::Query;
use super::reply::Reply;
use crate::data::{Format, Shape};
use crate::engine::{Broken, Download, Engine, Export, Import, RequestContext, Upload, Uploading};

/// A client that sends nothing for so long is gone.
const STALLED: Duration = Duration::from_secs(60);

/// What is read and thrown away of a body that is not wanted any more, so that an HTTP/1.1
/// client has written it and looks for our answer.
const MAX_WASTE: usize = 16 << 20;
const WASTE_TIME: Duration = Duration::from_secs(10);

/// What a request is about.
pub(super) struct Transfer {
    pub(super) operation: Operation,
    pub(super) id: Uuid,
    pub(super) query: Query,
    pub(super) context: RequestContext,
    /// The connection is being closed from here.
    pub(super) closing: CancellationToken,
    /// Its turn.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Whether an operation's body or answer is what a volume holds, or a firmware.
pub(super) fn moves(operation: Operation) -> bool {
    use Operation as Op;
    matches!(
        operation,
        Op::VolumeImport | Op::VolumeExport | Op::SnapshotExport | Op::FirmwareInstall
    )
}

/// What a body says it is, and what the query adds to that.
pub(super) fn shape(headers: &HeaderMap, query: &Query) -> Result<Shape, Problem> {
    let [raw, extents, image] = Shape::MEDIA_TYPES;
    let media = media_type(headers)?;
    if media.eq_ignore_ascii_case(image) {
        return match query.shape() {
            None => Ok(Shape::Image(None)),
            Some(shape @ Shape::Image(_)) => Ok(shape),
            Some(Shape::Stream(format)) => {
                let detail = format!(
                    "query parameter format: no format of images; its content-type is {}",
                    format.media_type()
                );
                Err(Problem::new(ProblemCode::InvalidField, detail))
            }
        };
    }
    if query.shape().is_some() {
        let detail = format!("query parameter format: only {image} has formats");
        return Err(Problem::new(ProblemCode::InvalidField, detail));
    }
    let found = [Format::Raw, Format::Extents]
        .into_iter()
        .find(|format| media.eq_ignore_ascii_case(format.media_type()));
    found.map(Shape::Stream).ok_or_else(|| {
        let taken = format!("{raw}, {extents} and {image} are taken");
        mistaken(media, &taken)
    })
}

/// Refuses a body that says it is something else than a bundle.
pub(super) fn check_bundle(headers: &HeaderMap) -> Result<(), Problem> {
    match media_type(headers)? {
        media if media.eq_ignore_ascii_case(BUNDLE_MEDIA_TYPE) => Ok(()),
        media => Err(mistaken(media, &format!("{BUNDLE_MEDIA_TYPE} is taken"))),
    }
}

/// What a body says it is; nothing when it does not.
fn media_type(headers: &HeaderMap) -> Result<&str, Problem> {
    if headers.contains_key(CONTENT_ENCODING) {
        let detail = "header content-encoding: bodies are taken as they are";
        return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
    }
    let text = headers.get(CONTENT_TYPE).map(|value| value.to_str());
    let text = text.and_then(Result::ok).unwrap_or_default();
    Ok(text.split(';').next().unwrap_or_default().trim())
}

fn mistaken(media: &str, taken: &str) -> Problem {
    let detail = format!("header content-type is {:?}, {taken}", cut(media));
    Problem::new(ProblemCode::UnsupportedMediaType, detail)
}

pub(super) async fn import(
    engine: &Engine,
    transfer: Transfer,
    shape: Shape,
    mut body: Incoming,
) -> Result<Reply, Problem> {
    let offset = transfer.query.offset();
    if shape != Shape::Stream(Format::Raw) && offset != 0 {
        let detail = "query parameter offset: only raw bytes do not say where they go themselves";
        waste(&mut body).await;
        return Err(Problem::new(ProblemCode::InvalidField, detail));
    }
    let what = Import {
        volume: transfer.id,
        shape,
        offset,
        length: body.size_hint().exact(),
        bandwidth: transfer.query.bandwidth(),
    };
    let upload = engine.import(what, transfer.context, transfer.closing);
    taken(upload.await, body).await
}

/// Takes an update of the firmware.
pub(super) async fn install(
    engine: &Engine,
    transfer: Transfer,
    mut body: Incoming,
) -> Result<Reply, Problem> {
    let Some(length) = body.size_hint().exact() else {
        waste(&mut body).await;
        let detail = "header content-length is missing: there has to be room for a bundle";
        return Err(Problem::new(ProblemCode::MalformedRequest, detail));
    };
    let upload = engine.install(length, transfer.context, transfer.closing);
    taken(upload.await, body).await
}

/// Has a body taken, and tells what came of it.
async fn taken(upload: Result<Upload, Problem>, mut body: Incoming) -> Result<Reply, Problem> {
    let outcome = match upload {
        Ok(Upload::Begun(upload)) => {
            let whole = feed(&upload, &mut body).await;
            upload.finish(whole).await
        }
        Ok(Upload::Before(job)) => match (job.state, job.result.clone(), job.problem.clone()) {
            (JobState::Succeeded, Some(result), _) => Ok(result),
            (JobState::Failed | JobState::Cancelled, _, Some(problem)) => Err(problem),
            _ => return Reply::accepted(&job),
        },
        Err(problem) => Err(problem),
    };
    if outcome.is_err() {
        waste(&mut body).await;
    }
    Reply::ok(&outcome?)
}

/// Gives all of the body; whether that was all of it.
async fn feed(upload: &Uploading, body: &mut Incoming) -> bool {
    loop {
        // Whatever is lost of a frame, nothing more is given after the other arm.
        let frame = tokio::select! {
            frame = tokio::time::timeout(STALLED, body.frame()) => frame,
            () = upload.unwanted() => return false,
        };
        match frame {
            Ok(None) => return true,
            Ok(Some(Ok(frame))) => {
                let Ok(piece) = frame.into_data() else {
                    continue;
                };
                if !upload.give(piece).await {
                    return false;
                }
            }
            Ok(Some(Err(_))) | Err(_) => return false,
        }
    }
}

pub(super) async fn waste(body: &mut Incoming) {
    let read = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > MAX_WASTE {
                break;
            }
        }
    };
    // Late or not, it is answered.
    drop(tokio::time::timeout(WASTE_TIME, read).await);
}

pub(super) async fn export(engine: &Engine, transfer: Transfer) -> Result<Reply, Problem> {
    let (query, id) = (&transfer.query, transfer.id);
    let kind = match transfer.operation {
        Operation::SnapshotExport => ObjectKind::Snapshot,
        _ => ObjectKind::Volume,
    };
    let shape = query.shape().unwrap_or(Shape::Stream(Format::Extents));
    let what = Export {
        object: ObjectRef { kind, id },
        shape,
        offset: query.offset(),
        length: query.length(),
        since: query.since(),
        bandwidth: query.bandwidth(),
    };
    check_whole(&what)?;
    let download = engine
        .export(what, transfer.context, transfer.closing)
        .await?;
    let content = Content::of(download, transfer.permit);
    Ok(Reply::content(content, shape.media_type()))
}

/// What has no way to say that it is a part is asked for whole.
fn check_whole(what: &Export) -> Result<(), Problem> {
    let part = what.offset != 0 || what.length.is_some();
    let detail = match what.shape {
        Shape::Stream(Format::Raw) if what.since.is_some() => {
            "query parameter since: raw bytes cannot say what differs"
        }
        Shape::Image(None) => "query parameter format: there is no image yet to tell it from",
        Shape::Image(_) if part || what.since.is_some() => {
            "query parameter format: an image is of all there is, without offset, length and since"
        }
        _ => return Ok(()),
    };
    Err(Problem::new(ProblemCode::InvalidField, detail))
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Content {
    download: Download,
    /// Given back at the end.
    _permit: OwnedSemaphorePermit,
}

impl Content {
    /// A turn is over when all of it was given, or nobody wants it any more.
    pub(super) fn of(download: Download, permit: OwnedSemaphorePermit) -> Content {
        Content {
            download,
            _permit: permit,
        }
    }

    pub(super) fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let pieces = &mut self.get_mut().download.pieces;
        let piece = pieces.poll_recv(context);
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    /// How long all of it is, if that is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.download.length
    }
}
