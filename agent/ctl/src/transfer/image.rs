//! Images of disks, which are sent and taken byte for byte and all at once: where one breaks off
//! cannot be told in bytes of the volume.

use std::io::{self, Read, Seek};

use ashlar_protocol::{JobResult, ObjectKind, Progress};
use bytes::Bytes;
use sha2::{Digest, Sha256 as Hash};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::export::{Export, Exported, UNDER_WAY};
use super::gather::Sink;
use super::import::{same, thread};
use super::retry::{Cancelled, concluded, ended};
use super::source::Source;
use super::target::{Landing, Target};
use super::{CHUNK, TransferError, Watch, step};
use crate::client::{
    CallError, Change, Client, ContentQuery, Download, Giver, ImageFormat, MediaType, Outgoing,
};

/// Writes the disk that a file is an image of to a volume; the appliance reads the image.
/// Resolves once all of it is durable, and what the appliance has read is known to be what was
/// read here. Once all of it is given, nothing that breaks hinders the appliance, which may read
/// for hours: its job says what came of it.
///
/// # Errors
/// When the volume is in use, the image is none or refused, or the transfer breaks.
pub async fn import_image(
    client: &Client,
    volume: Uuid,
    (source, format): (Source, ImageFormat),
    watch: Watch,
) -> Result<JobResult, TransferError> {
    let send = async |client: &Client, body| {
        let media_type = MediaType::Image(format);
        client.volume_import(volume, media_type, 0, body).await
    };
    sent_whole(client, source, watch, send).await
}

/// Sends all of a file at once, and waits for what its job comes to.
pub(super) async fn sent_whole(
    client: &Client,
    source: Source,
    watch: Watch,
    send: impl AsyncFnOnce(&Client, Outgoing) -> Result<Change<JobResult>, CallError>,
) -> Result<JobResult, TransferError> {
    let client = client.under(client.request_id().unwrap_or_else(Uuid::new_v4));
    let name = source.name().to_owned();
    let (giver, mut body) = Outgoing::new();
    if let Some(length) = source.length() {
        body = body.of_length(length);
    }
    let lasts = source.lasts();
    let given = spawn_blocking(move || give(source, giver, &watch));
    let answer = send(&client, body).await;
    if answer.is_err() && !lasts && !given.is_finished() {
        // It waits for what may never come.
        return Err(answer.map(drop).map_or_else(Into::into, |()| thread(&name)));
    }
    let digest = given.await.map_err(|_| thread(&name))?;
    let job = client.request_id().unwrap_or_default();
    match (digest, answer) {
        (Err(error), _) if !matches!(error, TransferError::Unwanted) => {
            // Whoever is told that it failed finds the volume free.
            drop(ended(&client, job, &mut Cancelled::default()).await);
            Err(error)
        }
        (Ok(digest), Err(error)) if error.problem().is_none() => {
            match concluded(&client, job).await? {
                Some(job) => same(digest, job.result.unwrap_or_default()),
                None => Err(error.into()),
            }
        }
        (_, Err(error)) => Err(error.into()),
        (Ok(digest), Ok(Change::Done { value, .. })) => same(digest, value),
        // The same request came before, and its answer needs no body.
        (Err(_), Ok(Change::Done { value, .. })) => Ok(value),
        (_, Ok(Change::Accepted(job))) => {
            let job = client.under_new_ids().job_wait(job, |_| ()).await?;
            Ok(job.result.unwrap_or_default())
        }
    }
}

/// What the thread at the file does; the digest of what it has read.
fn give(mut source: Source, giver: Giver, watch: &Watch) -> Result<[u8; 32], TransferError> {
    let (total, name) = (source.length(), source.name().to_owned());
    if source.lasts() {
        let rewound = source.file.rewind();
        rewound.map_err(TransferError::file("go back in", &name))?;
    }
    let (mut hash, mut done) = (Hash::new(), 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = match source.file.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(TransferError::file("read", &name)(error)),
        };
        hash.update(&chunk[..length]);
        if !giver.give_blocking(Bytes::copy_from_slice(&chunk[..length])) {
            return Err(TransferError::Unwanted);
        }
        done += length as u64;
        watch(Progress { done, total });
    }
    giver.finish_blocking();
    Ok(hash.finalize().into())
}

/// Makes an image of what a volume or snapshot holds. It is there when all of it is, and known
/// to be what the appliance has sent.
///
/// # Errors
/// When a volume is in use, the file cannot be written, or the transfer breaks.
pub async fn export_image(
    client: &Client,
    what: Export,
    (target, format): (Target, ImageFormat),
    watch: Watch,
) -> Result<Exported, TransferError> {
    if what.since.is_some() {
        return Err(TransferError::OnlyExtents { what: "image" });
    }
    let name = target.name().to_owned();
    let id = what.object.id;
    let looking = client.under_new_ids();
    let size = match what.object.kind {
        ObjectKind::Snapshot => looking.snapshot_show(id).await?.size,
        _ => looking.volume_show(id).await?.size,
    };
    let job = client.request_id().unwrap_or_else(Uuid::new_v4);
    let client = client.under(job);
    let query = ContentQuery::all(MediaType::Image(format));
    let download = match what.object.kind {
        ObjectKind::Snapshot => client.snapshot_export(id, &query).await?,
        _ => client.volume_export(id, &query).await?,
    };
    let landing = target.land(step(&watch, download.length().unwrap_or(size)));
    let taken = match taken(download, landing, &name).await {
        Ok(taken) => taken,
        Err(error) => {
            // Whoever is told that it failed finds nobody at work on it.
            drop(ended(&client, job, &mut Cancelled::default()).await);
            return Err(error);
        }
    };
    let Taken {
        mut landing,
        moved,
        digest,
    } = taken;
    let result = concluded(&client, job).await?.and_then(|job| job.result);
    let result = result.filter(|result| result.sha256.is_some());
    let sha256 = same(digest, result.ok_or(TransferError::Unproven { name })?)?.sha256;
    landing.end(moved)?;
    Ok(Exported {
        size,
        moved,
        written: moved,
        sha256,
    })
}

/// An image that has come.
struct Taken {
    landing: Landing,
    moved: u64,
    digest: [u8; 32],
}

/// Takes all of an image. Nobody is at the file any more when it fails.
async fn taken(
    mut download: Download,
    landing: Landing,
    name: &str,
) -> Result<Taken, TransferError> {
    let (sender, pieces) = mpsc::channel(UNDER_WAY);
    let taken = spawn_blocking(move || take(landing, pieces));
    let mut moved = 0;
    let broke: Option<CallError> = loop {
        match download.next().await {
            Ok(Some(piece)) => {
                moved += piece.len() as u64;
                if sender.send(piece).await.is_err() {
                    break None;
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    drop(sender);
    let (landing, digest) = taken.await.map_err(|_| thread(name))??;
    match broke {
        Some(error) => Err(error.into()),
        None => Ok(Taken {
            landing,
            moved,
            digest,
        }),
    }
}

/// What the thread at the file does; the digest of what it has written.
fn take(
    mut landing: Landing,
    mut pieces: mpsc::Receiver<Bytes>,
) -> Result<(Landing, [u8; 32]), TransferError> {
    let (mut hash, mut at) = (Hash::new(), 0);
    while let Some(piece) = pieces.blocking_recv() {
        hash.update(&piece);
        landing.data(at, &piece)?;
        at += piece.len() as u64;
    }
    Ok((landing, hash.finalize().into()))
}
