//! The model's network: it has every address but those it lost.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::ModelKernel;
use crate::net::Network;
use crate::news::{News, NewsError};
use crate::tree::Errno;

/// A handle on the model's network.
#[derive(Clone)]
pub struct ModelNetwork(ModelKernel);

impl ModelKernel {
    /// Its network.
    pub fn network(&self) -> ModelNetwork {
        ModelNetwork(self.clone())
    }

    /// An address this machine does not have: listening there fails as it does on Linux.
    pub fn lose_address(&self, address: IpAddr) {
        let mut state = self.lock();
        state.sockets.lose_address(address);
        state.listeners.network.tell();
    }

    /// An address that was lost is here again.
    pub fn find_address(&self, address: IpAddr) {
        let mut state = self.lock();
        state.sockets.find_address(address);
        state.listeners.network.tell();
    }

    /// Another process listens at an address over TCP.
    pub fn occupy(&self, at: SocketAddr) -> Result<(), Errno> {
        self.lock().sockets.occupy(at)
    }

    /// Nobody else does any more.
    pub fn vacate(&self, at: SocketAddr) {
        self.lock().sockets.vacate(at);
    }
}

impl Network for ModelNetwork {
    fn absent(&self, addresses: &BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>, Errno> {
        self.0.look(|state| Ok(state.sockets.lost() & addresses))
    }

    fn try_listen(&self, at: SocketAddr) -> Result<(), Errno> {
        self.0.look(|state| state.sockets.try_listen(at))
    }

    fn news(&self) -> Result<Box<dyn News>, NewsError> {
        let listening = self.0.lock().listeners.network.listen();
        let refused = |errno| NewsError::Socket {
            operation: "make",
            errno,
        };
        Ok(Box::new(listening.map_err(refused)?))
    }
}
