//! What the kernel tells by itself, so that nobody has to ask it again and again.
//!
//! A source is a descriptor to wait on and a way to take in what has come. Whoever looks at the
//! kernel for what the news may be about takes first, then looks, then waits:
//!
//! ```text
//!   take ──► look ──► poll ──► take ──► look ──► …
//! ```
//!
//! What happens after the take makes the descriptor readable, so between the look and the wait
//! nothing is missed. The news say *that* something happened; what, is for the look to find.

use std::os::fd::AsFd;

use nix::errno::Errno;

use crate::dm::DmError;

/// A source of news. Its descriptor is readable while there is something to take in.
pub trait News: AsFd + Send {
    /// Takes in what has come, so that the descriptor becomes readable again for what comes from
    /// here on. Whether there was anything that matters.
    ///
    /// # Errors
    /// When the source is of no use any more.
    fn take(&self) -> Result<bool, NewsError>;
}

/// Why there are no news.
#[derive(Debug, thiserror::Error)]
pub enum NewsError {
    /// Device-mapper does not tell.
    #[error(transparent)]
    Mapper(#[from] DmError),
    /// The kernel does not tell of devices that come and go.
    #[error("failed to {operation} the socket for the kernel's messages about devices: {errno}")]
    Socket {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
}
