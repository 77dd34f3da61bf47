//! A table in an image, of which a small part is in memory.

use crate::detect::read;
use crate::{Format, ImageError, Source};

/// Bytes of a table in memory; places are rounded to it, so entries never straddle two windows.
const WINDOW: u64 = 16 * 1024;

/// The part of a table that was looked at last.
#[derive(Debug)]
pub(super) struct Window {
    format: Format,
    /// What the table is called when it is missing.
    what: &'static str,
    at: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(super) fn new(format: Format, what: &'static str) -> Window {
        Window {
            format,
            what,
            at: 0,
            bytes: Vec::new(),
        }
    }

    /// The entry of `N` bytes at a place in the image that is a multiple of `N`.
    pub(super) fn entry<const N: usize>(
        &mut self,
        source: &dyn Source,
        at: u64,
    ) -> Result<[u8; N], ImageError> {
        super::inside(source, self.format, self.what, at, N as u64)?;
        let start = at / WINDOW * WINDOW;
        if self.bytes.is_empty() || self.at != start {
            let length = (source.length() - start).min(WINDOW);
            self.bytes.clear();
            let mut bytes = vec![0; length as usize];
            read(source, start, &mut bytes)?;
            (self.at, self.bytes) = (start, bytes);
        }
        let inside = (at - start) as usize;
        match self.bytes.get(inside..inside + N) {
            Some(entry) => Ok(std::array::from_fn(|byte| entry[byte])),
            None => Err(ImageError::damaged(
                self.format,
                format!("{} at byte {at} is not aligned", self.what),
            )),
        }
    }
}
