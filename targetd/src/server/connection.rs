//! One connection: a thread that reads calls, and a lock under which replies are written.
//!
//! ```text
//!   accepted ── Hello, version agrees ──► open ── calls ⇄ replies, in any order ──► closed
//!       └────── anything else ──► refused, closed           malformed frame, end ──────┘
//! ```

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ashlar_targetd_protocol::frame::{self, FrameError};
use ashlar_targetd_protocol::{
    Call, Failure, FailureKind, PROTOCOL_VERSION, Reply, Request, Response,
};

use super::workers::{Turn, Workers};
use super::{Ends, Service};

/// A peer that does not take its replies for this long is gone.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// Why a connection ended, other than by its peer's wish.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("a message is malformed")]
    Frame(#[from] FrameError),
    #[error("the first call is not Hello")]
    NoHello,
    #[error("the peer speaks version {0}, not {PROTOCOL_VERSION}")]
    Version(u32),
}

/// The sending half, shared by everyone who has a reply for this peer.
pub(super) struct Replies {
    stream: Mutex<UnixStream>,
}

impl Replies {
    pub(super) fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        Ok(Replies {
            stream: Mutex::new(stream),
        })
    }

    /// Sends a reply. A peer that cannot be written to is disconnected: after half a frame the
    /// stream means nothing any more.
    fn send(&self, id: u64, result: Result<Response, Failure>) {
        let bytes = frame::encode(&Reply { id, result }).or_else(|error| {
            tracing::error!(call = id, %error, "failed to encode a reply");
            let failure = failure(FailureKind::Kernel, "failed to encode the reply: too large");
            frame::encode(&Reply {
                id,
                result: Err(failure),
            })
        });
        let mut stream = self
            .stream
            .lock()
            .expect("writing to a socket does not panic");
        let sent = bytes
            .map_err(|error| error.to_string())
            .and_then(|bytes| stream.write_all(&bytes).map_err(|error| error.to_string()));
        if let Err(error) = sent {
            tracing::warn!(call = id, error, "failed to send a reply");
            // It may be shut already; either way nothing more can be said.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Ends the connection for both sides.
    pub(super) fn close(&self) {
        let stream = self
            .stream
            .lock()
            .expect("writing to a socket does not panic");
        // It may be shut already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Serves a connection until it ends.
pub(super) fn serve(
    stream: UnixStream,
    replies: &Arc<Replies>,
    service: &Arc<dyn Service>,
    workers: &Arc<Workers>,
    ends: &Ends,
) {
    match read_calls(stream, replies, service, workers) {
        Ok(()) => tracing::debug!("connection ended"),
        // The server itself shut the stream.
        Err(_) if ends.stopping() => {}
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, "connection closed");
        }
    }
    replies.close();
}

fn read_calls(
    mut stream: UnixStream,
    replies: &Arc<Replies>,
    service: &Arc<dyn Service>,
    workers: &Arc<Workers>,
) -> Result<(), ConnectionError> {
    let Some(first) = frame::read::<Call>(&mut stream)? else {
        return Ok(());
    };
    check_hello(&first, replies)?;
    submit(first, replies, service, workers);
    while let Some(call) = frame::read::<Call>(&mut stream)? {
        submit(call, replies, service, workers);
    }
    Ok(())
}

fn check_hello(first: &Call, replies: &Replies) -> Result<(), ConnectionError> {
    let error = match first.request {
        Request::Hello { version } if version == PROTOCOL_VERSION => return Ok(()),
        Request::Hello { version } => ConnectionError::Version(version),
        _ => ConnectionError::NoHello,
    };
    replies.send(
        first.id,
        Err(failure(FailureKind::Refused, &error.to_string())),
    );
    Err(error)
}

fn submit(call: Call, replies: &Arc<Replies>, service: &Arc<dyn Service>, workers: &Arc<Workers>) {
    let (replies, service) = (Arc::clone(replies), Arc::clone(service));
    workers.submit(Box::new(move |turn| {
        let result = match turn {
            Turn::Go => service.answer(call.request),
            Turn::Stopping => Err(failure(FailureKind::Stopping, "targetd is stopping")),
        };
        replies.send(call.id, result);
    }));
}

fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure {
        kind,
        message: message.to_owned(),
    }
}
