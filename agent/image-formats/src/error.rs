//! Why an image is not read.

use std::io;

use crate::Format;

/// Why an image, or a place in it, is not read. No text of the image's own is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Part of the disk is in another file, which nobody here opens.
    #[error("the {format} image needs another file: {what}")]
    OtherFile {
        /// What was opened.
        format: Format,
        /// Which kind of file, such as a backing file.
        what: &'static str,
    },
    /// The disk is encrypted by the format.
    #[error("the {format} image is encrypted: {method}")]
    Encrypted {
        /// What was opened.
        format: Format,
        /// How.
        method: &'static str,
    },
    /// A version or feature that is not read.
    #[error("the {format} image has {what}, which is not supported")]
    Unsupported {
        /// What was opened.
        format: Format,
        /// The feature.
        what: String,
    },
    /// The disk is larger than the caller allows.
    #[error("the {format} image holds a disk of {size} bytes; at most {limit} fit")]
    TooLarge {
        /// What was opened.
        format: Format,
        /// The disk's size in bytes, by the image.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// It contradicts itself or its format.
    #[error("the {format} image is damaged: {what}")]
    Damaged {
        /// What was opened.
        format: Format,
        /// What is wrong, and where.
        what: String,
    },
    /// It points behind its end.
    #[error("the {format} image is cut short: {what} lies at byte {at}, the image ends at {end}")]
    Truncated {
        /// What was opened.
        format: Format,
        /// What is missing.
        what: &'static str,
        /// Where it should be.
        at: u64,
        /// The image's length in bytes.
        end: u64,
    },
    /// The image's medium failed.
    #[error("failed to read {length} bytes of the image at byte {at}")]
    Read {
        /// First byte.
        at: u64,
        /// Bytes asked for.
        length: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ImageError {
    /// Whether the image is to blame, so that no repetition can help.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, ImageError::Read { .. })
    }

    pub(crate) fn damaged(format: Format, what: impl Into<String>) -> ImageError {
        let what = what.into();
        ImageError::Damaged { format, what }
    }

    pub(crate) fn unsupported(format: Format, what: impl Into<String>) -> ImageError {
        let what = what.into();
        ImageError::Unsupported { format, what }
    }
}
