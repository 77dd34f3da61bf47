//! Moving what volumes and snapshots hold, from and to files, whole or not at all.
//!
//! ```text
//! import   file ─ Source ─► Gather ─► Frames ─► request       thread, task
//! export   answer ─► Decoder ─► Gather ─► Target ─ file       task, thread
//! ```
//!
//! Whatever the file is, what goes over the wire is a stream of extents: holes and zeros cost
//! nothing, and a checksum stands at the end. A transfer that breaks is taken up where it was,
//! a few times. Images in other formats go as they are. Files block, so a thread is at each of
//! them.

mod error;
mod export;
mod firmware;
mod frames;
mod gather;
mod image;
mod import;
mod retry;
mod source;
mod target;

pub(crate) use retry::Patience;

pub use error::TransferError;
pub use export::{Export, Exported, export};
pub use firmware::install;
pub use image::{export_image, import_image};
pub use import::import;
pub use source::Source;
pub use target::Target;

use std::sync::Arc;

use ashlar_protocol::Progress;

/// What a file is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The bytes of a disk, holes being holes.
    Raw,
    /// A stream of extents: see `ashlar_extents`.
    Extents,
}

/// Told how far a transfer is, in bytes of the volume, by whichever thread moves them.
pub type Watch = Arc<dyn Fn(Progress) + Send + Sync>;

/// The same where only the place is known.
type Step = Box<dyn Fn(u64) + Send>;

fn step(watch: &Watch, total: u64) -> Step {
    let watch = Arc::clone(watch);
    Box::new(move |done| {
        let total = Some(total);
        watch(Progress { done, total });
    })
}

/// For those who do not watch.
pub fn unwatched() -> Watch {
    Arc::new(|_| ())
}

/// Bytes read or written at once, and most in one frame.
const CHUNK: usize = ashlar_extents::MAX_DATA as usize;

/// What frames begin and end at.
const BLOCK: usize = ashlar_extents::ALIGNMENT as usize;

/// Shortest stretch of zeros that is told apart: the smallest block of a pool.
const GRAIN: usize = 64 << 10;

fn all_zero(bytes: &[u8]) -> bool {
    // Compared in one go with itself shifted by one, which is as fast as memory.
    match bytes.split_first() {
        Some((first, rest)) => *first == 0 && bytes[..rest.len()] == *rest,
        None => true,
    }
}
