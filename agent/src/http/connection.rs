//! One connection, from its handshake to its end.
//!
//! ```text
//! handshake ── serving ──┬── peer closed, or broke the protocol ── over
//!                        ├── not let in any more ── over, whatever runs
//!                        ├── idle, certificate expired, stopping ── closing ──┬── done ── over
//!                        │     nothing new is taken, what runs finishes       └── late ── over
//! ```

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::exchange;
use super::gate::{ConnectionPass, HandshakePass};
use super::listener::{Shared, told};
use super::reply::Body;
use crate::audit::Caller;
use crate::config::Listen;
use crate::telemetry::Chain;
use crate::tls::pem::key_digest;
use crate::tls::{self, Door, Entry, Peer};

/// Headers of one request, in bytes and in number: ours take a few hundred bytes.
const MAX_HEADER_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;

/// A peer that does not answer pings is gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_DEADLINE: Duration = Duration::from_secs(15);

/// Serves one connection to its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    tcp: TcpStream,
    address: SocketAddr,
    (connected, handshaking): (ConnectionPass, HandshakePass),
    mut stop: watch::Receiver<bool>,
) {
    let limit = shared.listen.handshake_timeout;
    // A handshake that is dropped half-way takes its socket with it.
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(limit, handshake(&shared, tcp)) => outcome,
        () = told(&mut stop) => return,
    };
    drop(handshaking);
    match outcome {
        Ok(Ok((tls, arrival))) => converse(shared, tls, arrival, address, stop).await,
        // Strangers cause these, so they must not be able to fill the log.
        Ok(Err(error)) => debug!(%address, error = %Chain(&error), "refused a peer"),
        Err(_) => debug!(%address, "refused a peer: its handshake took too long"),
    }
    drop(connected);
}

/// Why a peer is not spoken with.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the handshake failed")]
    Tls(#[source] std::io::Error),
    #[error("it agreed on neither h2 nor http/1.1")]
    NoProtocol,
    #[error("its certificate cannot be read")]
    NoPeer,
}

/// Who has come, by which entry, and whom for.
struct Arrival {
    peer: Peer,
    entry: Arc<Entry>,
    named: Option<String>,
}

async fn handshake(
    shared: &Shared,
    tcp: TcpStream,
) -> Result<(TlsStream<TcpStream>, Arrival), Refused> {
    tcp.set_nodelay(true).map_err(Refused::Tls)?;
    let entry = shared.identity.door().entry();
    let tls = TlsAcceptor::from(entry.config())
        .accept(tcp)
        .await
        .map_err(Refused::Tls)?;
    let session = tls.get_ref().1;
    if session.alpn_protocol().is_none() {
        return Err(Refused::NoProtocol);
    }
    let peer = Peer::from_chain(session.peer_certificates().unwrap_or_default());
    let peer = peer.ok_or(Refused::NoPeer)?;
    let named = session.server_name().map(str::to_owned);
    Ok((tls, Arrival { peer, entry, named }))
}

async fn converse(
    shared: Arc<Shared>,
    tls: TlsStream<TcpStream>,
    Arrival { peer, entry, named }: Arrival,
    address: SocketAddr,
    mut stop: watch::Receiver<bool>,
) {
    debug!(%address, subject = peer.subject, "connected");
    let builder = builder(
        &shared.listen,
        tls.get_ref().1.alpn_protocol() == Some(b"h2"),
    );
    let activity = Arc::new(Activity::new());
    let clock = Clock::new(
        &shared.listen,
        &peer,
        shared.identity.clock(),
        activity.clone(),
    );
    let Some(mut guest) = shared.identity.door().enter(&peer, &entry) else {
        return;
    };
    shared.identity.came(&peer, &entry, named.as_deref());
    let peer = Arc::new(peer);
    let standing = Arc::new(Standing {
        door: shared.identity.door().clone(),
        chain: Arc::clone(&peer.chain),
        entry: Mutex::new(Some(entry)),
        over: clock.certificate,
        caller: Arc::new(Caller {
            subject: peer.subject.clone(),
            key_sha256: peer
                .chain
                .first()
                .and_then(|own| key_digest(own))
                .map(Into::into),
            role: peer.role.as_ref().ok().copied(),
            from: address,
        }),
    });
    // Ends what would otherwise go on without an end.
    let closing = CancellationToken::new();
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, peer) = (shared.clone(), peer.clone());
        let (closing, activity, standing) = (closing.clone(), activity.clone(), standing.clone());
        // A peer may go on sending as long as it does not take note of the end.
        let busy = standing.is_in().then(|| Busy::new(activity.clone()));
        async move {
            let peer = (&*peer, &*standing);
            let mut response: Response<Body> = match busy {
                Some(_) => exchange::answer(&shared, peer, &closing, request).await,
                None => exchange::shut_out(&shared, peer, &request).await,
            };
            response.body_mut().hold(|| Streaming::new(activity));
            drop(busy);
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(tls), service));
    let cut_off = || {
        info!(%address, subject = peer.subject, "cut off a client that is not let in now");
        closing.cancel();
    };
    let mut has_grace = false;
    // None of them loses anything by being asked again or not at all. Whoever is not let in any more
    // has nothing else that it sent looked at.
    tokio::select! {
        biased;
        entry = guest.unwanted() => {
            has_grace = entry.has_grace();
            if !has_grace {
                return cut_off();
            }
        }
        () = told(&mut stop) => {}
        () = clock.expired() => {}
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                debug!(%address, error = %Chain(&*error), "the connection broke");
            }
            return;
        }
    }
    if activity.untouched() {
        return;
    }
    closing.cancel();
    connection.as_mut().graceful_shutdown();
    // A request may run as long as it waits for the kernel, unless its peer stays by grace only; after
    // the last one, the peer has as long to read its answer as it has to write a request.
    let finish = async {
        if !has_grace {
            activity.quiet().await;
        }
        tokio::time::sleep(shared.listen.request_timeout).await;
    };
    let unwanted = async { while guest.unwanted().await.has_grace() {} };
    tokio::select! {
        biased;
        () = unwanted => cut_off(),
        _ = connection => {}
        () = finish => debug!(%address, "cut a connection that would not close"),
    }
}

/// Whether a peer is let in, at any moment of its connection.
pub(super) struct Standing {
    door: Door,
    chain: Arc<[CertificateDer<'static>]>,
    /// The last entry that would have let it in.
    entry: Mutex<Option<Arc<Entry>>>,
    /// When its certificate has expired.
    over: Instant,
    /// Who it is, for the record.
    pub(super) caller: Arc<Caller>,
}

impl Standing {
    /// Whether it would be let in now.
    pub(super) fn is_in(&self) -> bool {
        let now = self.door.entry();
        let mut last = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        let is_last = last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &now));
        if !is_last {
            *last = now.admits(&self.chain).then_some(now);
        }
        last.is_some() && Instant::now() < self.over
    }
}

fn builder(listen: &Listen, is_h2: bool) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(listen.request_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_DEADLINE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES as u32);
    // What was agreed on is what is spoken; guessing from the first bytes has no time limit.
    if is_h2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    }
}

/// Whether requests are under way, and when the last one was.
#[derive(Debug)]
struct Activity {
    start: Instant,
    busy: AtomicUsize,
    /// Answers that are being streamed. They keep the connection from being idle, but not from
    /// being closed.
    streaming: AtomicUsize,
    /// Milliseconds after `start`; 0 before the first request.
    last: AtomicU64,
    quiet: tokio::sync::Notify,
}

impl Activity {
    fn new() -> Activity {
        Activity {
            start: Instant::now(),
            busy: AtomicUsize::new(0),
            streaming: AtomicUsize::new(0),
            last: AtomicU64::new(0),
            quiet: tokio::sync::Notify::new(),
        }
    }

    /// Whether there was never a request: there is nothing to finish, and HTTP/2 may still be
    /// waiting for the peer's first word.
    fn untouched(&self) -> bool {
        self.busy.load(Ordering::SeqCst) == 0 && self.last.load(Ordering::SeqCst) == 0
    }

    /// Returns when no request is under way.
    async fn quiet(&self) {
        loop {
            let quiet = self.quiet.notified();
            if self.busy.load(Ordering::SeqCst) == 0 {
                return;
            }
            quiet.await;
        }
    }
}

/// One request under way.
struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: Arc<Activity>) -> Busy {
        activity.busy.fetch_add(1, Ordering::SeqCst);
        Busy(activity)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let activity = &self.0;
        activity.touch();
        if activity.busy.fetch_sub(1, Ordering::SeqCst) == 1 {
            activity.quiet.notify_waiters();
        }
    }
}

impl Activity {
    fn touch(&self) {
        let elapsed = self.start.elapsed().as_millis() as u64;
        self.last.store(elapsed.max(1), Ordering::SeqCst);
    }

    fn at_work(&self) -> bool {
        self.busy.load(Ordering::SeqCst) > 0 || self.streaming.load(Ordering::SeqCst) > 0
    }
}

/// One answer being streamed.
#[derive(Debug)]
pub(super) struct Streaming(Arc<Activity>);

impl Streaming {
    fn new(activity: Arc<Activity>) -> Streaming {
        activity.streaming.fetch_add(1, Ordering::SeqCst);
        Streaming(activity)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.touch();
        self.0.streaming.fetch_sub(1, Ordering::SeqCst);
    }
}

/// When a connection has to go.
struct Clock {
    activity: Arc<Activity>,
    first_request: Duration,
    idle: Duration,
    certificate: Instant,
}

impl Clock {
    fn new(listen: &Listen, peer: &Peer, clock: &tls::Clock, activity: Arc<Activity>) -> Clock {
        let now = clock.seconds();
        let left = u64::try_from(peer.not_after.saturating_sub(now)).unwrap_or(0);
        // Far enough away never to matter, near enough for every clock.
        let left = Duration::from_secs(left).min(Duration::from_secs(10 * 365 * 86_400));
        Clock {
            activity,
            // Not later than the idle deadline that a first request would bring about, since
            // the clock looks again only when it rings.
            first_request: listen.request_timeout.min(listen.idle_timeout),
            idle: listen.idle_timeout,
            certificate: Instant::now() + left,
        }
    }

    /// Returns when the connection was idle for too long or its certificate has expired.
    async fn expired(&self) {
        loop {
            let deadline = self.idle_deadline().min(self.certificate);
            tokio::time::sleep_until(deadline).await;
            if Instant::now() >= self.idle_deadline().min(self.certificate) {
                return;
            }
        }
    }

    /// As things are; a request under way counts as one that ends now.
    fn idle_deadline(&self) -> Instant {
        if self.activity.at_work() {
            return Instant::now() + self.idle;
        }
        match self.activity.last.load(Ordering::SeqCst) {
            0 => self.activity.start + self.first_request,
            last => self.activity.start + Duration::from_millis(last) + self.idle,
        }
    }
}
