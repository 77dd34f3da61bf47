//! What comes of asking for a change.

use ashlar_protocol::Job;

/// The appliance did it, or is still at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// Done and in the kernel.
    Done {
        /// The object as it is now.
        value: T,
        /// Whether this request created it, rather than finding it so.
        created: bool,
    },
    /// Accepted and durable, but the kernel does not have all of it yet.
    Accepted(Job),
}

impl<T> Change<T> {
    /// The object when the change is done.
    pub fn done(self) -> Option<T> {
        match self {
            Change::Done { value, .. } => Some(value),
            Change::Accepted(_) => None,
        }
    }
}
