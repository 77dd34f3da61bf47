//! Owning the stream: connecting, greeting, and passing calls and replies.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use ashlar_targetd_protocol::frame::{self, FrameError, PREFIX};
use ashlar_targetd_protocol::{Call, Failure, PROTOCOL_VERSION, Reply, Request, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Answer, Greeting, Link, Outgoing, passing};

/// First and longest pause between attempts to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Longest wait for the greeting, which probes kernel modules.
const GREETING: Duration = Duration::from_secs(20);

/// Why a stream ended or did not come to be.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("failed to connect to {}: {source}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("the stream to targetd failed: {0}")]
    Frame(#[from] FrameError),
    #[error("targetd closed the stream")]
    Closed,
    #[error("targetd did not greet within {} s", GREETING.as_secs())]
    Silent,
    #[error("targetd refused the greeting: {0}")]
    Refused(#[from] Failure),
    #[error("targetd speaks version {0}, this agent speaks {PROTOCOL_VERSION}")]
    Version(u32),
    #[error("targetd answered the greeting with something else")]
    NotAGreeting,
    #[error("targetd passed {0} descriptors with one message")]
    Descriptors(usize),
}

impl From<io::Error> for StreamError {
    fn from(error: io::Error) -> Self {
        StreamError::Frame(error.into())
    }
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Answer, Failure>>>;
type Pending = Mutex<Waiting>;

/// Keeps a stream to `path` until nobody is left to make calls.
pub(super) async fn keep(
    path: PathBuf,
    mut queue: mpsc::Receiver<Outgoing>,
    told: watch::Sender<Link>,
) {
    let mut epoch = 0;
    let mut pause = PAUSE.0;
    while !queue.is_closed() {
        let error = match greeted(&path).await {
            Ok((stream, kernel, features)) => {
                epoch += 1;
                pause = PAUSE.0;
                tracing::info!(kernel, epoch, "targetd is there");
                let greeting = Greeting {
                    epoch,
                    kernel,
                    features,
                };
                told.send_replace(Link::Up(greeting));
                match serve(stream, &mut queue).await {
                    Some(error) => error,
                    None => return,
                }
            }
            Err(error) => error,
        };
        tell_away(&told, &error);
        // Queued for the stream that broke; their callers hear that they are lost.
        while queue.try_recv().is_ok() {}
        // Cancel-safe: neither arm holds anything when the other wins.
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = told.closed() => return,
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

fn tell_away(told: &watch::Sender<Link>, error: &StreamError) {
    let why = error.to_string();
    let news = Link::Away(why.clone());
    if *told.borrow() != news {
        tracing::warn!(why, "targetd is away");
        told.send_replace(news);
    }
}

async fn greeted(
    path: &Path,
) -> Result<
    (
        UnixStream,
        String,
        Vec<ashlar_targetd_protocol::FeatureReport>,
    ),
    StreamError,
> {
    let mut stream = UnixStream::connect(path).await.map_err(|source| {
        let path = path.to_owned();
        StreamError::Connect { path, source }
    })?;
    let hello = Request::Hello {
        version: PROTOCOL_VERSION,
    };
    stream
        .write_all(&frame::encode(&Call {
            id: 0,
            request: hello,
        })?)
        .await?;
    let (reply, _) = match tokio::time::timeout(GREETING, read(&stream)).await {
        Ok(message) => message?.ok_or(StreamError::Closed)?,
        Err(_) => return Err(StreamError::Silent),
    };
    match reply.result? {
        Response::Hello {
            version,
            kernel,
            features,
        } if version == PROTOCOL_VERSION => Ok((stream, kernel, features)),
        Response::Hello { version, .. } => Err(StreamError::Version(version)),
        _ => Err(StreamError::NotAGreeting),
    }
}

/// Passes calls and replies until the stream breaks, or `None` when no caller is left.
async fn serve(stream: UnixStream, queue: &mut mpsc::Receiver<Outgoing>) -> Option<StreamError> {
    let pending = Pending::default();
    let (reader, mut writer) = stream.into_split();
    let replies = async {
        loop {
            match read(reader.as_ref()).await {
                Ok(Some((reply, descriptor))) => deliver(&pending, reply, descriptor),
                Ok(None) => return StreamError::Closed,
                Err(error) => return error,
            }
        }
    };
    let calls = async {
        let mut last = 0;
        while let Some(outgoing) = queue.recv().await {
            last += 1;
            if let Err(error) = send(&mut writer, &pending, last, outgoing).await {
                return Some(error);
            }
        }
        None
    };
    // Neither side is resumed once the other ended: the stream goes with both, and callers
    // left in `pending` hear that they are lost as it is dropped.
    tokio::select! {
        error = replies => Some(error),
        error = calls => error,
    }
}

async fn send(
    writer: &mut (impl AsyncWriteExt + Unpin),
    pending: &Pending,
    id: u64,
    outgoing: Outgoing,
) -> Result<(), StreamError> {
    let Outgoing { request, answer } = outgoing;
    let frame = match frame::encode(&Call { id, request }) {
        Ok(frame) => frame,
        Err(error) => {
            // Only this call cannot be said; the stream is fine.
            tracing::error!(%error, "a call to targetd does not encode");
            return Ok(());
        }
    };
    lock(pending).insert(id, answer);
    Ok(writer.write_all(&frame).await?)
}

fn deliver(pending: &Pending, reply: Reply, descriptor: Option<OwnedFd>) {
    let result = reply.result.map(|response| Answer {
        response,
        descriptor,
    });
    match lock(pending).remove(&reply.id) {
        // The caller may have given up waiting; the descriptor is closed with the answer.
        Some(answer) => drop(answer.send(result)),
        None => tracing::warn!(id = reply.id, "targetd answered a call that was not made"),
    }
}

fn lock(pending: &Pending) -> std::sync::MutexGuard<'_, Waiting> {
    pending.lock().expect("no holder of this lock panics")
}

/// Reads one reply and what comes with it; `None` when the stream ended between messages.
async fn read(stream: &UnixStream) -> Result<Option<(Reply, Option<OwnedFd>)>, StreamError> {
    let mut descriptors = Vec::new();
    let mut prefix = [0; PREFIX];
    let first = passing::read(stream, &mut prefix, &mut descriptors).await?;
    if first == 0 {
        return Ok(None);
    }
    fill(stream, &mut prefix[first..], &mut descriptors).await?;
    let mut body = vec![0; frame::body_length(prefix)?];
    fill(stream, &mut body, &mut descriptors).await?;
    if descriptors.len() > 1 {
        return Err(StreamError::Descriptors(descriptors.len()));
    }
    Ok(Some((frame::decode(&body)?, descriptors.pop())))
}

async fn fill(
    stream: &UnixStream,
    mut buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<(), FrameError> {
    while !buffer.is_empty() {
        match passing::read(stream, buffer, descriptors).await? {
            0 => return Err(FrameError::Truncated),
            length => buffer = &mut buffer[length..],
        }
    }
    Ok(())
}
