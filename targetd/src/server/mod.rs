//! The socket: who may connect, calls in, replies out.
//!
//! ```text
//!   acceptor thread ── peer allowed? ──► reader thread per connection
//!                                             │ calls
//!                                             ▼
//!                                    queue ──► workers (0 to 64) ──► Service::answer
//!                                                  │ replies, under the connection's lock,
//!                                                  ▼ at most one descriptor with each
//! ```
//!
//! Who waits for a change is parked with the service's [`Changes`] and holds no thread.
//!
//! Stopping finishes what has begun, answers [`Stopping`](FailureKind::Stopping) to what has
//! not, and touches nothing in the kernel.
//!
//! [`FailureKind::Stopping`]: ashlar_targetd_protocol::FailureKind::Stopping

mod answer;
mod connection;
mod listen;
mod passing;
mod peer;
mod workers;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use ashlar_targetd_protocol::{Failure, Request};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use answer::{Answer, Caller};
pub use listen::{ListenError, SocketOptions, activated, bind};
pub use peer::{AllowedPeers, PeerError};
pub use workers::MOST_THREADS;

use crate::changes::Changes;
use connection::{Peer, Replies};
use workers::Workers;

/// The agent holds one connection, an operator's tool perhaps another.
const MOST_CONNECTIONS: usize = 16;
/// Requests are decoded on it, a call deeper for each part within another, which without optimisation
/// has taken more than a quarter of this. Nothing is taken of what is not used.
const READER_STACK: usize = 512 << 10;

/// What answers the requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. Called from many threads at once.
    fn answer(&self, caller: Caller, request: Request) -> Result<Answer, Failure>;

    /// What was told by itself so far, and who waits for more: the server answers
    /// [`Request::AwaitChange`] from it.
    fn changes(&self) -> &Changes;

    /// A connection has ended, and everything it asked has been answered.
    fn gone(&self, _caller: Caller) {}
}

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
    /// Dropped to wake the acceptor.
    wake: UnixStream,
}

struct Shared {
    service: Arc<dyn Service>,
    workers: Arc<Workers>,
    allowed: AllowedPeers,
    ends: Ends,
}

/// The connections there are, by a number of our own.
#[derive(Default)]
struct Ends {
    stopping: AtomicBool,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    next: u64,
    live: BTreeMap<u64, (Arc<Peer>, JoinHandle<()>)>,
}

impl Ends {
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

impl Server {
    /// Starts to accept connections.
    pub fn spawn(
        service: Arc<dyn Service>,
        listener: UnixListener,
        allowed: AllowedPeers,
    ) -> io::Result<Server> {
        let (wake, woken) = UnixStream::pair()?;
        let shared = Arc::new(Shared {
            service,
            workers: Arc::new(Workers::default()),
            allowed,
            ends: Ends::default(),
        });
        let acceptor = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("acceptor".to_owned())
                .stack_size(READER_STACK)
                .spawn(move || accept_all(&shared, &listener, &woken))?
        };
        Ok(Server {
            shared,
            acceptor,
            wake,
        })
    }

    /// Serves a stream that is already connected, such as one end of a pair.
    pub fn adopt(&self, stream: UnixStream) -> io::Result<()> {
        start_connection(&self.shared, stream)
    }

    /// Stops: finishes what has begun, declines the rest, closes every connection.
    pub fn stop(self) {
        self.shared.ends.stopping.store(true, Ordering::Release);
        drop(self.wake);
        join(self.acceptor);
        self.shared.workers.stop();
        self.shared.service.changes().stop();
        let live = {
            let mut connections = lock(&self.shared.ends);
            std::mem::take(&mut connections.live)
        };
        for (peer, reader) in live.into_values() {
            peer.replies.close();
            join(reader);
        }
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the server panicked");
    }
}

fn lock(ends: &Ends) -> std::sync::MutexGuard<'_, Connections> {
    ends.connections
        .lock()
        .expect("nothing panics while holding this lock")
}

/// Accepts until `woken` is closed. The listener is polled and never shut down: when systemd
/// made it, systemd keeps it open for the next start.
fn accept_all(shared: &Arc<Shared>, listener: &UnixListener, woken: &UnixStream) {
    loop {
        let mut waiting = [
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(woken.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                tracing::error!(%error, "failed to wait for connections");
                return;
            }
        }
        if waiting[1].any().unwrap_or(true) {
            return;
        }
        if waiting[0].any().unwrap_or(false) {
            accept_one(shared, listener);
        }
    }
}

fn accept_one(shared: &Arc<Shared>, listener: &UnixListener) {
    let accepted = listener
        .accept()
        .and_then(|(stream, _)| stream.set_nonblocking(false).map(|()| stream));
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "failed to accept a connection"),
    };
    if let Err(error) = shared.allowed.check(&stream) {
        return tracing::warn!(%error, "connection refused");
    }
    if let Err(error) = start_connection(shared, stream) {
        tracing::warn!(%error, "connection refused");
    }
}

fn start_connection(shared: &Arc<Shared>, stream: UnixStream) -> io::Result<()> {
    let replies = Replies::new(stream.try_clone()?)?;
    let mut connections = lock(&shared.ends);
    if connections.live.len() >= MOST_CONNECTIONS {
        return Err(io::Error::other(format!(
            "there are {MOST_CONNECTIONS} connections already"
        )));
    }
    let id = connections.next;
    connections.next += 1;
    let peer = Arc::new(Peer {
        caller: Caller(id),
        replies,
        service: Arc::clone(&shared.service),
    });
    let reader = {
        let (shared, peer) = (Arc::clone(shared), Arc::clone(&peer));
        thread::Builder::new()
            .name("reader".to_owned())
            .stack_size(READER_STACK)
            .spawn(move || {
                let Shared { workers, ends, .. } = &*shared;
                connection::serve(stream, &peer, workers, ends);
                // Outside the lock: the service may have something to let go.
                let ended = lock(ends).live.remove(&id);
                drop(ended);
            })?
    };
    connections.live.insert(id, (peer, reader));
    Ok(())
}
