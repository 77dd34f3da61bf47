//! Which format an image has, by its signature.

use crate::{Format, ImageError, Source};

/// At the beginning, except where an offset says otherwise.
const SIGNATURES: &[(&[u8], Format)] = &[
    (b"QFI\xfb", Format::Qcow2),
    (b"KDMV", Format::Vmdk),
    (b"COWD", Format::Vmdk),
    (b"\xbe\xba\xfe\xca\0\0\0\0", Format::Vmdk),
    (b"# Disk Descriptor", Format::Vmdk),
    (b"vhdxfile", Format::Vhdx),
    (b"conectix", Format::Vhd),
];

const FIXED_VHD: &[u8] = b"conectix";

/// The format whose signature the image bears; raw when it bears none.
pub(crate) fn detect(source: &dyn Source) -> Result<Format, ImageError> {
    let mut start = [0; 32];
    let length = source.length().min(start.len() as u64) as usize;
    read(source, 0, &mut start[..length])?;
    let known = SIGNATURES
        .iter()
        .find(|(bytes, _)| start.starts_with(bytes));
    if let Some((_, format)) = known {
        return Ok(*format);
    }
    // A fixed vhd is the disk with a footer behind it.
    let mut end = [0; FIXED_VHD.len()];
    if source.length() >= 512 {
        read(source, source.length() - 512, &mut end)?;
    }
    Ok(match end == FIXED_VHD {
        true => Format::Vhd,
        false => Format::Raw,
    })
}

/// Reads bytes that the caller knows to be inside.
pub(crate) fn read(source: &dyn Source, at: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
    let length = buffer.len();
    let outcome = source.read_at(at, buffer);
    outcome.map_err(|source| ImageError::Read { at, length, source })
}
