//! Accepts connections, and ends them all when told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{RwLock, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::connection;
use super::gate::Gate;
use super::turns::Turns;
use crate::config::Listen;
use crate::engine::Engine;
use crate::identity::Identity;

/// What requests under way get to finish when the agent stops: more than a client's `wait` is
/// not needed, since what is accepted is durable.
const DRAIN: Duration = Duration::from_secs(10);

/// A pause after `accept` fails for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The management port, bound and ready to serve.
pub struct Server {
    listener: TcpListener,
    gate: Gate,
    shared: Arc<Shared>,
}

/// What every connection needs.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) listen: Listen,
    pub(super) identity: Identity,
    pub(super) turns: Turns,
    /// Held by each change, and alone by what seals the box.
    pub(super) sealing: Arc<RwLock<()>>,
}

/// Why the port is not ours.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}")]
pub struct BindError {
    /// The configured address.
    pub address: SocketAddr,
    /// What went wrong.
    #[source]
    pub source: io::Error,
}

impl Server {
    /// Binds the configured address.
    ///
    /// # Errors
    /// When it is taken, not ours or not allowed.
    pub async fn bind(
        listen: Listen,
        identity: Identity,
        engine: Engine,
    ) -> Result<Server, BindError> {
        let address = listen.address;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| BindError { address, source })?;
        Ok(Server {
            listener,
            gate: Gate::new(&listen),
            shared: Arc::new(Shared {
                engine,
                listen,
                identity,
                turns: Turns::new(),
                sealing: Arc::default(),
            }),
        })
    }

    /// The address it is bound to, with the port the kernel chose when 0 was asked for.
    ///
    /// # Errors
    /// Only when the kernel has lost the socket.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` turns true, then lets requests under way finish for a while.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let mut stopping = stop.clone();
        let mut connections = JoinSet::new();
        loop {
            // All three are cancel-safe: accept loses no connection, join_next no result, and
            // wait_for looks at the value again.
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((tcp, address)) => self.admit(&mut connections, tcp, address, &stop),
                    Err(error) => {
                        warn!(%error, "failed to accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = told(&mut stopping) => break,
            }
        }
        drop(self.listener);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            warn!(
                connections = connections.len(),
                "closing connections that did not finish"
            );
        }
    }

    fn admit(
        &self,
        connections: &mut JoinSet<()>,
        tcp: TcpStream,
        address: SocketAddr,
        stop: &watch::Receiver<bool>,
    ) {
        match self.gate.admit(address.ip()) {
            Ok(passes) => {
                let serve =
                    connection::serve(self.shared.clone(), tcp, address, passes, stop.clone());
                connections.spawn(serve);
            }
            // Strangers cause this, so it must not be able to fill the log.
            Err(refusal) => debug!(%address, %refusal, "closed a connection"),
        }
    }
}

/// Returns once `stop` is true, or nobody is left to make it so.
pub(super) async fn told(stop: &mut watch::Receiver<bool>) {
    // Whatever comes out, the lock it holds must not be kept over an await.
    drop(stop.wait_for(|stop| *stop).await);
}
