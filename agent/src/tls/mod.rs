//! The management port's TLS: 1.3 only, client certificates required of everybody but of those who
//! claim a box that has no owner.
//!
//! ```text
//! configured files, SIGHUP ──┐
//!                            ├─▶ Entry ── watch ──┬── listener takes the newest for each handshake
//! identity: claim, trust, … ─┘                    └── each connection asks whether its peer may stay
//! handshake ── peer: subject, role, end of validity, from the verified certificate
//! ```
//!
//! Resumption is off: a resumed session is let in without its certificate being looked at
//! again, and so would outlive a change of authorities.

mod clock;
mod door;
mod entry;
mod error;
mod files;
mod peer;
pub mod pem;

pub use clock::Clock;
pub use door::{Door, Guest};
pub use entry::{Admission, Entry, Pair, Pairs};
pub use error::TlsError;
pub use files::Files;
pub use peer::{Peer, RoleError};
