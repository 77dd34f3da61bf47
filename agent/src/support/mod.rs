//! What somebody needs who is to help with the box, for nobody else to read.
//!
//! ```text
//! gather ── parts of a MiB ──► thread: tar ── gzip ── sealed ── pieces ──► the answer's body
//!   what the protocol shows,             to the recipient's certificate
//!   the kernel's view, the journal
//! ```
//!
//! No more of it is in memory than a part and a few pieces. `docs/support.md` says what is in it, and
//! `docs/decisions/support.md` why it is so.

mod archive;
mod der;
mod gather;
mod journal;
mod recipient;
mod sealed;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::engine::{Broken, Engine};
use crate::identity::Identity;

pub use recipient::Recipient;

/// Pieces under way to the client.
const UNDER_WAY: usize = 4;

/// How long it takes at most, with a client that is slow.
const LONGEST: Duration = Duration::from_secs(900);

/// What a bundle has that the engine does not know by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SupportOptions {
    /// The program that reads the system's journal.
    pub journalctl: PathBuf,
    /// The agent's configuration. No key of it has a secret; files with keys are named only.
    pub configuration: serde_json::Value,
}

/// Begins to make a bundle for `recipient`. It ends when the receiver is dropped.
pub fn bundle(
    engine: Engine,
    identity: Identity,
    recipient: Recipient,
) -> mpsc::Receiver<Result<Bytes, Broken>> {
    let (sender, pieces) = mpsc::channel(UNDER_WAY);
    let (parts, taken) = mpsc::channel(1);
    let packing = archive::pack(taken, recipient, sender);
    tokio::spawn(async move {
        let gathering = gather::everything(&engine, &identity, parts);
        if tokio::time::timeout(LONGEST, gathering).await.is_err() {
            tracing::warn!("a support bundle was given up: its client takes too long");
        }
    });
    tokio::spawn(packing);
    pieces
}
