//! One connection: a thread that reads calls, and a lock under which replies are written.
//!
//! ```text
//!   accepted ── Hello, version agrees ──► open ── calls ⇄ replies, in any order ──► closed
//!       └────── anything else ──► refused, closed           malformed frame, end ──────┘
//! ```

use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ashlar_targetd_protocol::frame::{self, FrameError};
use ashlar_targetd_protocol::{
    Call, Failure, FailureKind, PROTOCOL_VERSION, Reply, Request, Response,
};

use super::workers::{Turn, Workers};
use super::{Answer, Caller, Ends, Service, passing};

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

/// Who is at the other end, kept by everyone who has a reply for it. When the last of them is
/// done, the service hears that it is gone.
pub(super) struct Peer {
    pub(super) caller: Caller,
    pub(super) replies: Replies,
    pub(super) service: Arc<dyn Service>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.service.gone(self.caller);
    }
}

/// The sending half.
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
    fn send(&self, id: u64, result: Result<Answer, Failure>) {
        let (result, descriptor) = match result {
            Ok(answer) => (Ok(answer.response), answer.descriptor),
            Err(failure) => (Err(failure), None),
        };
        let mut stream = self
            .stream
            .lock()
            .expect("writing to a socket does not panic");
        let sent = encode(id, result)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                let sent = match &descriptor {
                    Some(descriptor) => {
                        passing::write_with(&mut stream, &bytes, descriptor.as_fd())
                    }
                    None => stream.write_all(&bytes),
                };
                sent.map_err(|error| error.to_string())
            });
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

fn encode(id: u64, result: Result<Response, Failure>) -> Result<Vec<u8>, FrameError> {
    frame::encode(&Reply { id, result }).or_else(|error| {
        tracing::error!(call = id, %error, "failed to encode a reply");
        let failure = Failure::new(FailureKind::Kernel, "failed to encode the reply: too large");
        frame::encode(&Reply {
            id,
            result: Err(failure),
        })
    })
}

/// Serves a connection until it ends.
pub(super) fn serve(stream: UnixStream, peer: &Arc<Peer>, workers: &Arc<Workers>, ends: &Ends) {
    match read_calls(stream, peer, workers) {
        Ok(()) => tracing::debug!("connection ended"),
        // The server itself shut the stream.
        Err(_) if ends.stopping() => {}
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, "connection closed");
        }
    }
    peer.replies.close();
    peer.service.changes().forget(peer.caller);
}

fn read_calls(
    mut stream: UnixStream,
    peer: &Arc<Peer>,
    workers: &Arc<Workers>,
) -> Result<(), ConnectionError> {
    let Some(first) = frame::read::<Call>(&mut stream)? else {
        return Ok(());
    };
    check_hello(&first, &peer.replies)?;
    submit(first, peer, workers);
    while let Some(call) = frame::read::<Call>(&mut stream)? {
        submit(call, peer, workers);
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
        Err(Failure::new(FailureKind::Refused, error.to_string())),
    );
    Err(error)
}

fn submit(call: Call, peer: &Arc<Peer>, workers: &Arc<Workers>) {
    let peer = Arc::clone(peer);
    if let Request::AwaitChange { seen } = call.request {
        return park(call.id, seen, peer);
    }
    workers.submit(Box::new(move |turn| {
        let result = match turn {
            Turn::Go => peer.service.answer(peer.caller, call.request),
            Turn::Stopping => Err(Failure::new(FailureKind::Stopping, "targetd is stopping")),
        };
        peer.replies.send(call.id, result);
    }));
}

fn park(id: u64, seen: u64, peer: Arc<Peer>) {
    let (service, caller) = (Arc::clone(&peer.service), peer.caller);
    let tell = move |count: Result<u64, Failure>| {
        let changed = count.map(|count| Answer::from(Response::Changed { count }));
        peer.replies.send(id, changed);
    };
    service.changes().wait(caller, seen, Box::new(tell));
}
