//! The kernel out of its self-extracting image.
//!
//! An emulated machine takes five seconds to unpack a kernel; where QEMU is handed one, it may as
//! well be handed what comes of that. The image's layout is that of the kernel's
//! `Documentation/arch/x86/boot.rst`.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use ruzstd::decoding::StreamingDecoder;

use crate::BuildError;

/// Of how it is unpacked; another one unpacks it anew.
pub(crate) const VERSION: &str = "1";

const SETUP_SECTORS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;

/// Writes what is packed in the kernel image `from`, an ELF file, to `to`.
pub(crate) fn unpack(from: &Path, to: &Path) -> Result<(), BuildError> {
    let image = fs::read(from).map_err(BuildError::io("read", from))?;
    let packed = payload(&image).ok_or_else(|| BuildError::Missing {
        what: "kernel".to_owned(),
        tree: from.to_owned(),
    })?;
    let mut kernel = Vec::new();
    // What stands behind the frame, its length once more, is left unread.
    StreamingDecoder::new(packed)
        .map_err(io::Error::other)
        .and_then(|mut decoder| decoder.read_to_end(&mut kernel))
        .map_err(BuildError::io("unpack", from))?;
    fs::write(to, kernel).map_err(BuildError::io("write", to))
}

/// The compressed kernel.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| {
        let bytes = image.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let sectors = usize::from(*image.get(SETUP_SECTORS)?);
    let begin = (sectors + 1) * SECTOR + number(PAYLOAD_OFFSET)?;
    image.get(begin..begin.checked_add(number(PAYLOAD_LENGTH)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_where_the_header_says() {
        let mut image = vec![0; 4 * SECTOR];
        image[SETUP_SECTORS] = 1;
        image[PAYLOAD_OFFSET] = 8;
        image[PAYLOAD_LENGTH] = 3;
        image[2 * SECTOR + 8..][..3].copy_from_slice(b"abc");
        assert_eq!(payload(&image), Some(&b"abc"[..]));
        image[PAYLOAD_LENGTH + 3] = 1;
        assert_eq!(payload(&image), None, "it would end behind the image");
        assert_eq!(payload(&image[..SECTOR]), None, "no header");
    }
}
