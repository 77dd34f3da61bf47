//! Disk images of virtual machines: read as extents, written from extents.
//!
//! ```text
//! image ── Source ── open: what it is, what is refused ── Image ── next ── data, zero, hole
//!                                                                          in order, each byte once
//! extents ── Plan ── Writer ── headers, tables, data, front to back, nothing twice
//! ```
//!
//! | format  | read | written |
//! |---------|------|---------|
//! | `raw`   | as it is | as it is |
//! | `qcow2` | versions 2 and 3, zlib and zstd clusters, subclusters | version 3 |
//! | `vmdk`  | monolithicSparse, streamOptimized | streamOptimized |
//! | `vhd`   | fixed, dynamic | dynamic |
//! | `vhdx`  | fixed, dynamic, closed cleanly | dynamic |
//!
//! An image comes from anybody. Whatever it says, reading it takes a few MiB of memory: tables
//! are read through a window of 16 KiB, a compressed cluster is at most 2 MiB and must fill what
//! it stands for, and no more is unpacked. An image that needs another file (a backing file, a
//! parent, an extent elsewhere), that is encrypted, damaged, cut short or larger than the caller
//! allows is refused, and the refusal says why. Nothing here opens a file or knows a path.

mod bytes;
mod detect;
mod error;
mod format;
mod image;
mod packed;
mod read;
mod source;
mod write;

pub use error::ImageError;
pub use format::{Format, UnknownFormat};
pub use image::{Image, Kind, Piece};
pub use source::{FileSource, Source};
pub use write::{Plan, Unwritable, Writer};
