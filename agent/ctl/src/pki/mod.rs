//! A small certificate authority for labs and tests.
//!
//! ```text
//! DIR/ca.pem   DIR/ca.key      the authority               pki init DIR
//! DIR/NAME.pem DIR/NAME.key    one identity under it       pki issue DIR NAME …
//! FILE                         a certificate for a key     pki sign DIR NAME --request FILE …
//!                              that somebody else keeps    pki sign-device DIR --request FILE …
//! ```
//!
//! P-256 throughout. A client's role is a URI subject alternative name,
//! `urn:ashlar:role:ROLE`; a server's names are DNS names and IP addresses. Keys are
//! readable by their owner only, and nothing is overwritten unless asked.
//!
//! An appliance in the field has a key it made itself and a certificate from its owner's
//! authority, which signs a [`Request`]; this is for where there is none. Where boxes are made, a
//! [`Device`] gets its identity for life.

mod authority;
mod device;
mod directory;
mod request;
#[cfg(test)]
mod tests;
mod validity;

pub use authority::{Authority, IssueError, Pair, Profile};
pub use device::{Device, DeviceError, Token, claim_secret};
pub use directory::{Directory, DirectoryError, Paths, write_certificate};
pub use request::{Request, RequestError};
pub use validity::Validity;
