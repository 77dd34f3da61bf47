//! Connections to the appliance: made when needed, kept while they work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::body::Body;
use super::error::Failure;
use super::first_word::FirstWord;
use super::{Endpoint, Identity};

/// From dialling to the end of the TLS handshake.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// A silent peer is asked for a sign of life this often, and given this long.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_DEADLINE: Duration = Duration::from_secs(10);

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
}

impl HttpVersion {
    fn alpn(self) -> &'static [u8] {
        match self {
            HttpVersion::H1 => b"http/1.1",
            HttpVersion::H2 => b"h2",
        }
    }
}

/// All connections of a client.
pub(super) struct Links {
    endpoint: Endpoint,
    config: Arc<ClientConfig>,
    kept: Mutex<Kept>,
    made: AtomicU64,
}

/// What is there to be used again.
#[derive(Default)]
struct Kept {
    /// What the appliance chose last time.
    version: Option<HttpVersion>,
    shared: Option<Link>,
    idle: Vec<Link>,
}

/// One connection.
pub(super) struct Link {
    pub(super) sender: Sender,
    /// Whether it served a request before, and so may have gone stale.
    pub(super) kept: bool,
    end: watch::Receiver<Option<Arc<hyper::Error>>>,
}

pub(super) enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

impl Links {
    pub(super) fn new(endpoint: Endpoint, identity: &Identity, versions: &[HttpVersion]) -> Self {
        let protocols = versions.iter().map(|v| v.alpn().to_vec()).collect();
        Links {
            endpoint,
            config: identity.config(protocols),
            kept: Mutex::default(),
            made: AtomicU64::new(0),
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// A connection to send one request over. Callers that come while the first connection is
    /// being made wait for it, since with HTTP/2 they will all use it.
    pub(super) async fn acquire(&self) -> Result<Link, Failure> {
        let mut kept = self.kept.lock().await;
        if let Some(link) = kept.take() {
            return Ok(link);
        }
        if kept.version == Some(HttpVersion::H1) {
            drop(kept);
            return self.connect().await;
        }
        let link = self.connect().await?;
        kept.version = Some(link.version());
        kept.shared = link.share();
        Ok(link)
    }

    /// A connection of our own, whatever is kept.
    pub(super) async fn fresh(&self) -> Result<Link, Failure> {
        let mut kept = self.kept.lock().await;
        // Somebody else may have replaced the broken one already.
        if let Some(link) = kept.shared.as_ref().filter(|link| !link.is_closed()) {
            return Ok(link.share().expect("only HTTP/2 is kept there"));
        }
        kept.idle.clear();
        let link = self.connect().await?;
        kept.shared = link.share();
        Ok(link)
    }

    /// Keeps a connection whose answer has been read to its end.
    pub(super) async fn release(&self, link: Link) {
        if matches!(link.sender, Sender::H1(_)) && !link.is_closed() {
            self.kept
                .lock()
                .await
                .idle
                .push(Link { kept: true, ..link });
        }
    }

    async fn connect(&self) -> Result<Link, Failure> {
        tokio::time::timeout(CONNECT_DEADLINE, self.dial())
            .await
            .map_err(|_| Failure::Timeout {
                endpoint: self.endpoint.to_string(),
                after: CONNECT_DEADLINE,
            })?
    }

    async fn dial(&self) -> Result<Link, Failure> {
        let address = (self.endpoint.host(), self.endpoint.port());
        let tcp = TcpStream::connect(address)
            .await
            .map_err(|error| self.failed("connect to", error))?;
        // Requests are small and each waits for its answer.
        tcp.set_nodelay(true)
            .map_err(|error| self.failed("connect to", error))?;
        let tls = TlsConnector::from(self.config.clone())
            .connect(self.endpoint.name(), tcp)
            .await
            .map_err(|error| self.failed("agree on TLS with", error))?;
        let link = match tls.get_ref().1.alpn_protocol() {
            Some(b"h2") => {
                let tls = FirstWord::hear(tls)
                    .await
                    .map_err(|error| self.failed("be let in by", error))?;
                open_h2(tls).await
            }
            _ => open_h1(FirstWord::silent(tls)).await,
        };
        let link = link.map_err(|error| self.failed("speak HTTP with", error))?;
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok(link)
    }

    pub(super) fn failed(
        &self,
        action: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Failure {
        Failure::Transport {
            action,
            endpoint: self.endpoint.to_string(),
            source: Arc::new(source),
        }
    }
}

impl Kept {
    fn take(&mut self) -> Option<Link> {
        self.shared = self.shared.take().filter(|link| !link.is_closed());
        self.idle.retain(|link| !link.is_closed());
        match &self.shared {
            Some(link) => link.share(),
            None => self.idle.pop(),
        }
    }
}

impl Link {
    fn new(
        sender: Sender,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    ) -> Link {
        let (tell, end) = watch::channel(None);
        tokio::spawn(drive(connection, tell));
        Link {
            sender,
            kept: false,
            end,
        }
    }

    fn version(&self) -> HttpVersion {
        match self.sender {
            Sender::H1(_) => HttpVersion::H1,
            Sender::H2(_) => HttpVersion::H2,
        }
    }

    fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::H1(sender) => sender.is_closed(),
            Sender::H2(sender) => sender.is_closed(),
        }
    }

    fn share(&self) -> Option<Link> {
        match &self.sender {
            Sender::H1(_) => None,
            Sender::H2(sender) => Some(Link {
                sender: Sender::H2(sender.clone()),
                kept: true,
                end: self.end.clone(),
            }),
        }
    }

    /// Why the connection ended, when it did: the request only knows that it was cancelled.
    pub(super) async fn cause(&mut self) -> Option<Arc<hyper::Error>> {
        let ended = self.end.wait_for(Option::is_some);
        let ended = tokio::time::timeout(Duration::from_secs(1), ended).await;
        ended.ok()?.ok()?.clone()
    }
}

type Stream = TokioIo<FirstWord<TlsStream<TcpStream>>>;

async fn open_h2(tls: FirstWord<TlsStream<TcpStream>>) -> hyper::Result<Link> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_DEADLINE)
        .handshake(Stream::new(tls))
        .await?;
    Ok(Link::new(Sender::H2(sender), connection))
}

async fn open_h1(tls: FirstWord<TlsStream<TcpStream>>) -> hyper::Result<Link> {
    let (sender, connection) = http1::handshake(Stream::new(tls)).await?;
    Ok(Link::new(Sender::H1(sender), connection))
}

/// Moves the bytes until the connection ends or nobody holds it any more.
async fn drive(
    connection: impl Future<Output = hyper::Result<()>>,
    tell: watch::Sender<Option<Arc<hyper::Error>>>,
) {
    if let Err(error) = connection.await {
        tell.send_replace(Some(Arc::new(error)));
    }
}
