//! How much strangers may hold before they have proved who they are.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Listen;

/// Counts connections, and handshakes by address.
pub(super) struct Gate {
    connections: Arc<Semaphore>,
    handshakes: Arc<Handshakes>,
}

struct Handshakes {
    limit: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// Leave to handshake; given back when dropped.
pub(super) struct HandshakePass {
    address: IpAddr,
    handshakes: Arc<Handshakes>,
}

/// Leave to be connected; given back when dropped.
pub(super) type ConnectionPass = OwnedSemaphorePermit;

/// Why a connection is closed before it costs anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("there are too many connections")]
    Connections,
    #[error("there are too many handshakes from this address")]
    Handshakes,
}

impl Gate {
    pub(super) fn new(config: &Listen) -> Gate {
        Gate {
            connections: Arc::new(Semaphore::new(config.max_connections)),
            handshakes: Arc::new(Handshakes {
                limit: config.max_handshakes_per_address,
                counts: Mutex::default(),
            }),
        }
    }

    pub(super) fn admit(
        &self,
        address: IpAddr,
    ) -> Result<(ConnectionPass, HandshakePass), Refusal> {
        let handshake = self.handshakes.clone().enter(address)?;
        let connection = self
            .connections
            .clone()
            .try_acquire_owned()
            .map_err(|_| Refusal::Connections)?;
        Ok((connection, handshake))
    }
}

impl Handshakes {
    fn enter(self: Arc<Self>, address: IpAddr) -> Result<HandshakePass, Refusal> {
        let address = site(address);
        {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(address).or_insert(0);
            if *count >= self.limit {
                return Err(Refusal::Handshakes);
            }
            *count += 1;
        }
        Ok(HandshakePass {
            address,
            handshakes: self,
        })
    }
}

impl Drop for HandshakePass {
    fn drop(&mut self) {
        let counts = &self.handshakes.counts;
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// One stranger has a whole IPv6 /64, so that is what counts as one address.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(network).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(connections: usize, handshakes: usize) -> Gate {
        Gate::new(&Listen {
            max_connections: connections,
            max_handshakes_per_address: handshakes,
            ..Listen::default()
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_holds_so_many_handshakes_and_leaves_room_for_others() {
        let gate = gate(10, 2);
        let first = gate.admit(address("192.0.2.1")).ok().unwrap();
        let _second = gate.admit(address("::ffff:192.0.2.1")).ok().unwrap();
        assert_eq!(
            gate.admit(address("192.0.2.1")).err(),
            Some(Refusal::Handshakes)
        );
        assert!(gate.admit(address("192.0.2.2")).is_ok());
        drop(first);
        assert!(gate.admit(address("192.0.2.1")).is_ok());
    }

    #[test]
    fn addresses_of_one_network_are_one_stranger() {
        let gate = gate(10, 1);
        let _first = gate.admit(address("2001:db8::1")).ok().unwrap();
        assert_eq!(
            gate.admit(address("2001:db8::2")).err(),
            Some(Refusal::Handshakes)
        );
        assert!(gate.admit(address("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn a_connection_counts_until_it_ends() {
        let gate = gate(1, 10);
        let (connection, handshake) = gate.admit(address("192.0.2.1")).ok().unwrap();
        drop(handshake);
        assert_eq!(
            gate.admit(address("192.0.2.2")).err(),
            Some(Refusal::Connections)
        );
        drop(connection);
        assert!(gate.admit(address("192.0.2.2")).is_ok());
        assert!(gate.handshakes.counts.lock().unwrap().is_empty());
    }
}
