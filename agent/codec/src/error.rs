//! Why bytes are not a value, or a value does not become bytes.

use std::fmt;

/// A value that cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[error("failed to encode {what}: {reason}")]
pub struct EncodeError {
    /// The Rust type.
    pub what: &'static str,
    /// What its `Serialize` said.
    pub reason: String,
}

/// Bytes that were refused; offsets count bytes from the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Over [`crate::Limits::bytes`].
    #[error("CBOR of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes given.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Over [`crate::Limits::depth`].
    #[error("CBOR nested deeper than {limit} levels at byte {offset}")]
    TooDeep {
        /// Where the array or map one too deep begins.
        offset: usize,
        /// Levels allowed.
        limit: usize,
    },
    /// The input ends inside an item.
    #[error("CBOR ends at byte {offset} in the middle of an item")]
    Truncated {
        /// The input's length.
        offset: usize,
    },
    /// Something follows the value.
    #[error("CBOR value ends at byte {offset} but more bytes follow")]
    Trailing {
        /// The first byte too many.
        offset: usize,
    },
    /// A string, array or map claims more than the input could hold.
    #[error("CBOR item at byte {offset} claims a length of {claimed}, with {left} bytes left")]
    LengthBeyondInput {
        /// Where the item begins.
        offset: usize,
        /// Bytes of a string, items of an array, pairs of a map.
        claimed: u64,
        /// Bytes after its head.
        left: usize,
    },
    /// An item of indefinite length: its size cannot be judged before it is read, and it
    /// gives one value many encodings. Nothing we speak with needs it.
    #[error("CBOR item of indefinite length at byte {offset}")]
    Indefinite {
        /// Where it begins.
        offset: usize,
    },
    /// A number or length written longer than needed; two spellings of one key would
    /// otherwise pass for two keys.
    #[error("CBOR number at byte {offset} is not in its shortest form")]
    NotShortest {
        /// Where it begins.
        offset: usize,
    },
    /// Valid CBOR the protocol has no use for.
    #[error("CBOR {what} at byte {offset} is not used here")]
    Unused {
        /// Where it begins.
        offset: usize,
        /// Which kind.
        what: Unused,
    },
    /// A head that RFC 8949 reserves.
    #[error("CBOR at byte {offset} is not well-formed")]
    Malformed {
        /// Where it begins.
        offset: usize,
    },
    /// Text that is not UTF-8.
    #[error("CBOR text is not UTF-8 at byte {offset}")]
    Utf8 {
        /// The first wrong byte.
        offset: usize,
    },
    /// A map key that is no number, text or byte string.
    #[error("CBOR map key at byte {offset} is neither number, text nor bytes")]
    KeyType {
        /// Where the key begins.
        offset: usize,
    },
    /// A key that its map already has.
    #[error("CBOR map repeats a key at byte {offset}")]
    DuplicateKey {
        /// Where the repeated key begins.
        offset: usize,
    },
    /// Sound CBOR of the wrong type or content.
    #[error("{field}: {reason}")]
    Content {
        /// Path of the field, such as `exports[2].host`; `.` is the value itself.
        field: String,
        /// Where decoding stopped; 0 when unknown.
        offset: u64,
        /// What was expected; strings and numbers of the input are left out.
        reason: String,
    },
}

/// Kinds of CBOR that the protocol does without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unused {
    /// Major type 6.
    Tag(u64),
    /// Major type 7 other than false, true, null and floats.
    Simple(u8),
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(number) => write!(f, "tag {number}"),
            Self::Simple(number) => write!(f, "simple value {number}"),
        }
    }
}
