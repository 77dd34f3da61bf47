use std::fmt;

use ashlar_targetd_protocol::ThinId;

/// What a thin pool can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMessage {
    /// Make an empty thin device. `EEXIST` when the id is taken.
    CreateThin(ThinId),
    /// Make a thin device that shares all blocks of another, which must be suspended
    /// while it is active.
    CreateSnapshot {
        /// The new device.
        id: ThinId,
        /// What it is a snapshot of.
        origin: ThinId,
    },
    /// Destroy a thin device and free its blocks.
    Delete(ThinId),
    /// Compare and swap the transaction id.
    SetTransactionId {
        /// What it must be.
        from: u64,
        /// What it becomes.
        to: u64,
    },
    /// Commit, and keep the metadata as they are for a reader in user space. `EBUSY` while one
    /// state is held already.
    ReserveMetadataSnap,
    /// Let go of the state that is held. `EINVAL` when none is.
    ReleaseMetadataSnap,
}

impl fmt::Display for PoolMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolMessage::CreateThin(id) => write!(f, "create_thin {id}"),
            PoolMessage::CreateSnapshot { id, origin } => write!(f, "create_snap {id} {origin}"),
            PoolMessage::Delete(id) => write!(f, "delete {id}"),
            PoolMessage::SetTransactionId { from, to } => {
                write!(f, "set_transaction_id {from} {to}")
            }
            PoolMessage::ReserveMetadataSnap => f.write_str("reserve_metadata_snap"),
            PoolMessage::ReleaseMetadataSnap => f.write_str("release_metadata_snap"),
        }
    }
}
