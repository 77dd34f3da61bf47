//! What is in the thin metadata of pools: which blocks a volume or snapshot maps, which of them
//! it shares, what changed between two, and which thin devices there are.
//!
//! ```text
//! stretches(), usage(), devices() ── one view per pool ── a walk on a blocking thread
//!                                        │ new, shared, idle
//!                                        ▼
//!                                     targetd: reserve_metadata_snap, a descriptor, release
//! ```
//!
//! The kernel holds one state of a pool's metadata still at a time. It is shared by all who read
//! at once, renewed for whoever needs to see what was written up to now, and let go when nobody
//! has asked for a while: what is held keeps deleted data from being freed. Walks are short, a
//! page at most, so nobody waits long for a newer state; a walk that spans several states may
//! only be over what does not change, such as a snapshot.

mod devices;
mod error;
mod owned;
mod source;
mod stretches;
mod usage;
mod views;

#[cfg(test)]
mod tests;

pub use devices::{DevicesQuestion, SeenDevice};
pub use error::ThinError;
pub use owned::Owned;
pub use stretches::{Stretch, StretchKind, Stretches, StretchesQuestion};
pub use usage::Usage;
pub use views::{Freshness, Unheld, Views};
