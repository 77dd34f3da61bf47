//! The content of a volume as a stream of extents, so that what is sparse stays sparse:
//! `application/vnd.ashlar.extents`.
//!
//! ```text
//! ┌────────┬──────────┬───────────┬───────────┐
//! │ kind 1 │ 0…0    7 │ offset  8 │ length  8 │  data, to be followed by `length` bytes: 0
//! └────────┴──────────┴───────────┴───────────┘  zero: 1   hole: 2   end: 3
//! ```
//!
//! Numbers are big-endian. Offsets and lengths are multiples of [`ALIGNMENT`], no length is 0,
//! and each extent begins where the one before it ended or later; what is between them is not
//! spoken of. Data come in pieces of at most [`MAX_DATA`]. *Zero* is what reads as zeros and
//! was written so, *hole* what was never written; both read as zeros. The last frame, *end*, has
//! the size of the whole as its offset and 32 as its length, and is followed by the SHA-256 of
//! every byte before it. Nothing follows it.
//!
//! [`Encoder`] makes frames, [`Decoder`] takes a stream apart as it comes, in constant memory,
//! and believes nothing that it says.

mod decode;
mod encode;
mod frame;

pub use decode::{Decoder, ExtentsError, Piece};
pub use encode::{Encoder, End};
pub use frame::{Frame, HEADER, Kind};

/// What bodies of this kind are called.
pub const MEDIA_TYPE: &str = "application/vnd.ashlar.extents";

/// Offsets and lengths are multiples of so many bytes.
pub const ALIGNMENT: u64 = 4096;

/// Most bytes of one data frame.
pub const MAX_DATA: u64 = 1 << 20;

/// Bytes of the digest at the end.
pub const DIGEST: usize = 32;
