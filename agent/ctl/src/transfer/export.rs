use ashlar_extents::{Decoder, Piece};
use ashlar_protocol::{ObjectKind, ObjectRef, Sha256};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::gather::Gather;
use super::retry::{Cancelled, Patience, busy, ended};
use super::target::{Landing, Target};
use super::{Form, TransferError, Watch, step};
use crate::client::{CallError, Client, ContentQuery, Download, MediaType};

/// Pieces under way between the connection and the thread at the file.
pub(super) const UNDER_WAY: usize = 4;

/// What is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// Of which volume or snapshot.
    pub object: ObjectRef,
    /// Only what differs from this snapshot.
    pub since: Option<Uuid>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The size of the volume or snapshot.
    pub size: u64,
    /// Bytes that came over the wire.
    pub moved: u64,
    /// Bytes written to a file of extents.
    pub written: u64,
    /// SHA-256 of a stream of extents up to its end frame, as that has it.
    pub sha256: Option<Sha256>,
}

/// Reads what a volume or snapshot holds into a file, as a driver does that makes an image or
/// a backup of it. A regular file is there when all of it is, and holes in it are holes. What
/// was read is what was sent: a wrong checksum is an error.
///
/// # Errors
/// When a volume is in use, the file cannot be written, or it breaks too often.
pub async fn export(
    client: &Client,
    what: Export,
    target: Target,
    watch: Watch,
) -> Result<Exported, TransferError> {
    let ObjectRef { kind, id } = what.object;
    if what.since.is_some() && target.form() == Form::Raw {
        return Err(TransferError::OnlyExtents { what: "raw image" });
    }
    let looking = client.under_new_ids();
    let size = match kind {
        ObjectKind::Snapshot => looking.snapshot_show(id).await?.size,
        _ => looking.volume_show(id).await?.size,
    };
    let name = target.name().to_owned();
    let mut taking = Taking {
        client: client.under(client.request_id().unwrap_or_else(Uuid::new_v4)),
        what,
        size,
        moved: 0,
    };
    let mut landing = Gather::new(target.land(step(&watch, size)));
    let mut patience = Patience::new();
    let mut first = true;
    loop {
        let (from, job) = (landing.reached(), taking.client.request_id());
        let outcome;
        (landing, outcome) = taking.attempt(landing, from, &name).await?;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                // Whoever is told that it failed finds nobody at work on it.
                let mut ours = Cancelled::default();
                drop(ended(&taking.client, job.unwrap_or_default(), &mut ours).await);
                return Err(error);
            }
        };
        let mut error = match outcome {
            Ok((size, digest)) => {
                return Ok(Exported {
                    size,
                    moved: taking.moved,
                    written: landing.sink.written(),
                    sha256: digest.map(Sha256::from),
                });
            }
            Err(error) if first && busy(&error) => return Err(error.into()),
            Err(error) => error,
        };
        first = false;
        let reached = landing.reached();
        if reached > from {
            patience.renew();
        }
        if kind != ObjectKind::Snapshot && error.retryable() && reached > 0 {
            // Somebody may have written to it meanwhile.
            if !landing.sink.restart() {
                let why = format!(
                    "the transfer broke, and {} may change: export a snapshot",
                    what.object
                );
                return Err(TransferError::NotAgain { why, source: error });
            }
            landing.resume(0);
        } else {
            landing.resume(reached);
        }
        let mut ours = Cancelled::default();
        loop {
            patience.bear(error).await?;
            match ended(&taking.client, job.unwrap_or_default(), &mut ours).await {
                Ok(_) => break,
                Err(later) => error = later,
            }
        }
        taking.client = client.under(Uuid::new_v4());
    }
}

/// The size and the digest, or how the connection broke.
type Outcome = Result<(u64, Option<[u8; 32]>), CallError>;

struct Taking {
    client: Client,
    what: Export,
    size: u64,
    moved: u64,
}

impl Taking {
    /// Takes what is left, and gives back where it went.
    async fn attempt(
        &mut self,
        landing: Gather<Landing>,
        from: u64,
        name: &str,
    ) -> Result<(Gather<Landing>, Result<Outcome, TransferError>), TransferError> {
        let mut download = match self.begin(from).await {
            Ok(download) => download,
            Err(error) => return Ok((landing, Ok(Err(error)))),
        };
        let (sender, pieces) = mpsc::channel(UNDER_WAY);
        let (size, object) = (self.size, self.what.object);
        let taken = spawn_blocking(move || take(landing, pieces, size, object));
        let broke = loop {
            match download.next().await {
                Ok(Some(piece)) => {
                    self.moved += piece.len() as u64;
                    if sender.send(piece).await.is_err() {
                        break None;
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        drop(sender);
        let (landing, outcome) = taken.await.map_err(|_| TransferError::Thread {
            name: name.to_owned(),
        })?;
        let outcome = match (outcome, broke) {
            (Ok(Some(whole)), _) => Ok(Ok(whole)),
            (Ok(None), Some(error)) => Ok(Err(error)),
            (Ok(None), None) => Err(TransferError::stream(&object.to_string())(
                ashlar_extents::ExtentsError::Truncated,
            )),
            (Err(error), _) => Err(error),
        };
        Ok((landing, outcome))
    }

    async fn begin(&self, from: u64) -> Result<Download, CallError> {
        let query = ContentQuery {
            offset: from,
            since: self.what.since,
            ..ContentQuery::all(MediaType::Extents)
        };
        let id = self.what.object.id;
        match self.what.object.kind {
            ObjectKind::Snapshot => self.client.snapshot_export(id, &query).await,
            _ => self.client.volume_export(id, &query).await,
        }
    }
}

type Taken = Result<Option<(u64, Option<[u8; 32]>)>, TransferError>;

/// What the thread does: takes the stream apart and puts it where it goes. `None` when it
/// broke off.
fn take(
    mut landing: Gather<Landing>,
    mut pieces: mpsc::Receiver<Bytes>,
    limit: u64,
    object: ObjectRef,
) -> (Gather<Landing>, Taken) {
    let mut decoder = Decoder::new(limit);
    let mut whole = None;
    while let Some(bytes) = pieces.blocking_recv() {
        let mut input = &bytes[..];
        loop {
            let piece = decoder.next(&mut input);
            let piece = piece.map_err(TransferError::stream(&object.to_string()));
            let put = match piece {
                Ok(None) => break,
                Ok(Some(Piece::Data { offset, bytes })) => landing.data(offset, bytes),
                Ok(Some(Piece::Zero { offset, length })) => landing.zeros(offset, length, false),
                Ok(Some(Piece::Hole { offset, length })) => landing.zeros(offset, length, true),
                Ok(Some(Piece::End { size, .. })) => {
                    whole = Some(size);
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = put {
                return (landing, Err(error));
            }
        }
    }
    let Some(size) = whole else {
        return (landing, Ok(None));
    };
    let ended = landing.flush().and_then(|()| landing.sink.end(size));
    (landing, ended.map(|digest| Some((size, digest))))
}
