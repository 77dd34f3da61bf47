//! The metadata of a dm-thin pool, read as the kernel leaves them on their device.
//!
//! The kernel keeps all a pool knows in one device of 4 KiB blocks: a superblock, and B-trees that
//! are never changed in place. A *metadata snapshot* (the pool's message `reserve_metadata_snap`)
//! holds one state of those trees still and names the block of a copy of the superblock, the held
//! root; from there everything can be read while the pool goes on.
//!
//! ```text
//! superblock ─┬─▶ device details:  thin device ─▶ mapped blocks, times
//!             └─▶ mapping tree:    thin device ─▶ its own tree:  virtual block ─▶ data block, time
//! ```
//!
//! Thin devices that share data share whole nodes of their trees. That makes both questions cheap
//! that matter here: what differs between two devices, and what a device has for itself alone.
//! Each is answered by walking the trees side by side and stepping over every node that both have.
//!
//! What is read is trusted in nothing: a node must carry its checksum and its own address, its keys
//! must ascend within what its parent says, and every leaf is as deep as the first. So a walk ends,
//! sees no block twice, and holds no more than one node for each level.

mod cursor;
mod device;
mod differences;
mod error;
mod exclusive;
mod extents;
mod metadata;
mod node;
mod source;
mod superblock;

pub use device::ThinDevice;
pub use differences::{Change, Difference, Differences};
pub use error::{Damage, MetadataError};
pub use extents::{Extent, Extents};
pub use metadata::Metadata;
pub use source::{BLOCK, Block, BlockSource};
