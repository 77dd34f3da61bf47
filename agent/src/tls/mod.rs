//! The management port's TLS: 1.3 only, client certificates required.
//!
//! ```text
//! files ── material ── ServerConfig ── watch ── listener takes the newest for each handshake
//!             ▲ SIGHUP; a failure keeps the old one
//! handshake ── peer: subject, role, end of validity, from the verified certificate
//! ```
//!
//! Resumption is off: a resumed session is let in without its certificate being looked at
//! again, and so would outlive a change of authorities.

mod material;
mod peer;

pub use material::{Material, TlsError};
pub use peer::{Peer, RoleError};
