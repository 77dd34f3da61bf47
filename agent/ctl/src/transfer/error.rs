use std::io;

use ashlar_extents::ExtentsError;
use ashlar_protocol::Sha256;

use crate::client::CallError;

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The appliance said no, or was lost.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The file here refused.
    #[error("failed to {action} {name}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file.
        name: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// What was read is not what it should be.
    #[error("{name} is not a sound stream of extents: {source}")]
    Stream {
        /// Which stream.
        name: String,
        /// What is wrong with it. Said above.
        source: ExtentsError,
    },
    /// It is sound, but not what it should be.
    #[error("{name} is another stream: its checksum is {found}, not {expected}")]
    OtherStream {
        /// Which stream.
        name: String,
        /// What its end says.
        found: Sha256,
        /// What it should say.
        expected: Sha256,
    },
    /// There is more than there is room for.
    #[error("{name} has {size} bytes, more than the {room} of the volume")]
    TooLarge {
        /// Which file.
        name: String,
        /// How much there is.
        size: u64,
        /// How much there is room for.
        room: u64,
    },
    /// Likewise, of something whose size is not known.
    #[error("{name} goes on past the {room} bytes of the volume")]
    TooLong {
        /// Which file.
        name: String,
        /// How much there is room for.
        room: u64,
    },
    /// The appliance has got something else than was sent.
    #[error(
        "the appliance has read {theirs} where {ours} was sent: something was changed on the way"
    )]
    Mismatch {
        /// SHA-256 of what was sent.
        ours: Sha256,
        /// And of what came.
        theirs: Sha256,
    },
    /// The appliance does not say what it has sent.
    #[error("it is not known whether all of {name} has come: the appliance has no checksum of it")]
    Unproven {
        /// Which file.
        name: String,
    },
    /// It broke, and cannot be taken up.
    #[error("{why}")]
    NotAgain {
        /// Why not.
        why: String,
        /// How it broke.
        #[source]
        source: CallError,
    },
    /// A stream says only what differs, and the file takes everything.
    #[error("what differs from a snapshot is told in extents: it makes no {what}")]
    OnlyExtents {
        /// What is not to be had.
        what: &'static str,
    },
    /// The appliance takes no more; why, it says itself.
    #[error("the appliance takes no more")]
    Unwanted,
    /// The thread at the file is gone.
    #[error("the thread at {name} failed")]
    Thread {
        /// Which file.
        name: String,
    },
}

impl TransferError {
    pub(super) fn file(
        action: &'static str,
        name: &str,
    ) -> impl FnOnce(io::Error) -> TransferError {
        let name = name.to_owned();
        move |source| TransferError::File {
            action,
            name,
            source,
        }
    }

    pub(super) fn stream(name: &str) -> impl FnOnce(ExtentsError) -> TransferError {
        let name = name.to_owned();
        move |source| TransferError::Stream { name, source }
    }
}
