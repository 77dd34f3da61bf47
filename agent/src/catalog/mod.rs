//! The catalog: a copy of what the agent knows of a pool, in a region of the pool's disks.
//!
//! ```text
//!   side 0  │ head │ block … │ record │ record │ …        │ head │
//!   side 1  │ head │ block … │ record │ …                 │ head │
//! ```
//!
//! A side is a checkpoint, which its two heads vouch for, and the records since. The other one is
//! what counts until the heads of a new checkpoint are written. Like the store this knows nothing
//! of what it keeps: entries are keys and values, in batches encoded as the store's are.
//!
//! | file     | what |
//! |----------|------|
//! | `frame`  | the unit that is written at once |
//! | `medium` | the region, as a file or a device |
//! | `read`   | what a region holds |
//! | `write`  | checkpoints and records |

mod frame;
mod medium;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use medium::{DeviceMedium, Medium};
pub use read::{Catalog, Owner, ReadError, highest, read};
pub use write::{Appended, Checkpoint, MAX_ENTRIES, WriteError, Writer};

/// What a region is written in: whole blocks of it.
pub const BLOCK: usize = 4096;

/// The largest region. Whoever reads one does not believe more of a disk.
pub const MAX_REGION: u64 = 32 << 20;

/// Bytes of one of a region's two sides.
fn side_size(region: u64) -> u64 {
    region / 2 / BLOCK as u64 * BLOCK as u64
}

/// Where the two heads of a side are, from its beginning.
fn heads(side_size: u64) -> [u64; 2] {
    [0, side_size.saturating_sub(BLOCK as u64)]
}
