//! Who may speak to this daemon.

use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Uid;

/// The users whose processes are listened to: root and the agent's.
#[derive(Clone, Copy, Debug)]
pub struct AllowedPeers {
    /// The user the agent runs as.
    pub agent: Uid,
}

/// Why a peer was turned away.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The kernel does not tell who it is.
    #[error("failed to learn who connected: {0}")]
    Unknown(Errno),
    /// It is somebody else.
    #[error("user {uid} (process {pid}) is neither root nor the agent")]
    Denied {
        /// The peer's user.
        uid: u32,
        /// The peer's process.
        pid: i32,
    },
}

impl AllowedPeers {
    /// Checks the process that connected, as it was when it did.
    pub fn check(self, stream: &UnixStream) -> Result<(), PeerError> {
        let peer = getsockopt(stream, PeerCredentials).map_err(PeerError::Unknown)?;
        if self.admits(Uid::from_raw(peer.uid())) {
            Ok(())
        } else {
            Err(PeerError::Denied {
                uid: peer.uid(),
                pid: peer.pid(),
            })
        }
    }

    fn admits(self, uid: Uid) -> bool {
        uid.is_root() || uid == self.agent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_agent_are_admitted() {
        let peers = AllowedPeers {
            agent: Uid::from_raw(990),
        };
        assert!(peers.admits(Uid::from_raw(0)));
        assert!(peers.admits(Uid::from_raw(990)));
        assert!(!peers.admits(Uid::from_raw(991)));
    }
}
