//! CBOR with limits, and the only place that names `serde_cbor`.
//!
//! Everything that crosses the management port or the disk is CBOR (RFC 8949).
//! `serde_cbor` is no longer maintained, lets the last of two equal map keys win
//! and accepts several encodings of one value, so bytes are walked by [`check`]
//! before it sees them:
//!
//! ```text
//! bytes ── check: size, depth, shape, keys ── serde_cbor ── T, or a DecodeError
//!                                                            with offset and field
//! T ────── serde_cbor ── sorted Value ─────── bytes           the same T, the same bytes
//! ```
//!
//! What [`to_vec`] emits is deterministic: shortest heads, definite lengths, map
//! keys in order. What [`from_slice`] accepts is the same, except that keys may
//! come in any order and floats in any width, since clients in other languages
//! write them so.

mod decode;
mod encode;
mod error;
mod walk;

pub use decode::from_slice;
pub use encode::to_vec;
pub use error::{DecodeError, EncodeError, Unused};
pub use walk::check;

/// Any CBOR value, for callers that have no type to decode into.
pub use serde_cbor::Value;

/// What [`check`] and [`from_slice`] accept at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole encoded value.
    pub bytes: usize,
    /// Arrays and maps open at once; a bare number has depth 0.
    pub depth: usize,
}

impl Default for Limits {
    /// 256 KiB and 16 levels: a page of a list fits, a bomb does not.
    fn default() -> Self {
        Self {
            bytes: 256 * 1024,
            depth: 16,
        }
    }
}
