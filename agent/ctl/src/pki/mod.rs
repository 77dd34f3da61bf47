//! A small certificate authority for labs and tests.
//!
//! ```text
//! DIR/ca.pem   DIR/ca.key      the authority               pki init DIR
//! DIR/NAME.pem DIR/NAME.key    one identity under it       pki issue DIR NAME …
//! ```
//!
//! P-256 throughout. A client's role is a URI subject alternative name,
//! `urn:ashlar:role:ROLE`; a server's names are DNS names and IP addresses. Keys are
//! readable by their owner only, and nothing is overwritten unless asked.
//!
//! An appliance in the field has a key it made itself and a certificate from its owner's
//! authority; this is for where there is none.

mod authority;
mod directory;
mod validity;

pub use authority::{Authority, IssueError, Pair, Profile};
pub use directory::{Directory, DirectoryError, Paths};
pub use validity::Validity;
